//! The checks: pure functions from facts to findings. Those here decide whether `twinlock enable` may
//! begin, so each failure says what to do.

use twinlock_protocol::limits::ROSTER_WARN_S;
use twinlock_protocol::request::{Login, Requester, Target};
use twinlock_protocol::roster::{Host, Person, Roster};

use super::facts::{Facts, FileFact, Visudo};
use super::{Finding, Severity};
use crate::cli::break_glass::drill::GOOD_FOR_S;
use crate::cli::time;

/// Everything that must hold before anything is enabled; `sudo` adds what is about sudo.
#[must_use]
pub fn before_enable(facts: &Facts, sudo: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(module(facts));
    findings.extend(host_key(facts));
    findings.extend(roster(facts));
    findings.extend(daemons(facts));
    findings.extend(requesters(facts));
    findings.extend(drill(facts));
    if sudo {
        findings.extend(sudo_settings(facts));
    }
    findings
}

/// Whether one of them stands in the way.
#[must_use]
pub fn has_failure(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Failure)
}

/// The module is there once, and only root can replace it.
#[must_use]
pub fn module(facts: &Facts) -> Vec<Finding> {
    let [only] = facts.modules.as_slice() else {
        return match facts.modules.first() {
            None => vec![Finding::failure(
                "module",
                "pam_twinlock.so is not installed",
                "install libpam-twinlock (deb) or pam_twinlock (rpm)",
            )],
            Some(_) => facts
                .modules
                .iter()
                .map(|one| {
                    Finding::failure("module", "one of several pam_twinlock.so", "remove all but the package's own")
                        .at(&one.path, None)
                })
                .collect(),
        };
    };
    let mut findings = owned(only, "module", 0o022);
    if only.mode & 0o170_000 != 0o100_000 || only.mode & 0o444 != 0o444 {
        findings.push(
            Finding::failure("module", "the module is no ordinary file that all can read", "install it again")
                .at(&only.path, None),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("module", "the module is installed").at(&only.path, None));
    }
    findings
}

/// The key that signs requests is there, and root's alone.
#[must_use]
pub fn host_key(facts: &Facts) -> Vec<Finding> {
    match &facts.host_key {
        None => vec![Finding::failure("host-key", "this host has no key to sign requests", "twinlock host join TOKEN")],
        Some(file) => owned(file, "host-key", 0o077),
    }
}

fn owned(file: &FileFact, id: &'static str, forbidden: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.uid != 0 || file.mode & forbidden != 0 {
        let what = format!("uid {} and mode {:04o}", file.uid, file.mode & 0o7777);
        let remedy = format!(
            "chown root: {0} and chmod {1}",
            file.path.display(),
            if forbidden == 0o077 { "600" } else { "644" }
        );
        findings.push(Finding::failure(id, format!("it belongs to {what}"), remedy).at(&file.path, None));
    }
    findings.extend(file.open_above.iter().map(|dir| {
        Finding::failure(id, "others than root can write this directory", "chown root: and chmod go-w").at(dir, None)
    }));
    findings
}

/// A roster is pinned, names this host, and has not run out.
#[must_use]
pub fn roster(facts: &Facts) -> Vec<Finding> {
    let join = "twinlock host join TOKEN";
    let host = match &facts.host {
        Ok(host) => host,
        Err(why) => {
            return vec![
                Finding::failure("config", format!("cannot be used: {why}"), join)
                    .at("/etc/twinlock/module.toml", None),
            ];
        }
    };
    let Some(verified) = &facts.roster else {
        return vec![Finding::failure("roster", "this host pins no roster", join)];
    };
    let roster = verified.roster();
    if roster.host(host).is_none() {
        return vec![Finding::failure("roster", format!("the roster does not name this host, {host}"), join)];
    }
    if verified.check_time(facts.now).is_err() {
        let what = format!("the roster ran out {}", time::moment(roster.expires_at));
        return vec![Finding::failure("roster", what, "twinlock roster renew, on the gateway; two people sign it")];
    }
    if roster.expires_at < facts.now.plus(ROSTER_WARN_S) {
        let what = format!("the roster runs out {}", time::moment(roster.expires_at));
        return vec![Finding::warning("roster", what, "twinlock roster renew, on the gateway; two people sign it")];
    }
    vec![Finding::ok("roster", format!("version {} until {}", roster.version, time::moment(roster.expires_at)))]
}

/// Agent, gateway and reaper answer.
#[must_use]
pub fn daemons(facts: &Facts) -> Vec<Finding> {
    let ask = |id: &'static str, what: &str, answer: &Result<(), String>, remedy: &str| match answer {
        Ok(()) => Finding::ok(id, format!("{what} answers")),
        Err(why) => Finding::failure(id, format!("{what} does not answer: {why}"), remedy),
    };
    vec![
        ask("agent", "the agent", &facts.agent, "systemctl status twinlock-agent"),
        ask(
            "gateway",
            "the gateway",
            &facts.gateway,
            "check the network and, there, systemctl status twinlock-gatewayd",
        ),
        ask("reaper", "the reaper", &facts.reaper, "systemctl status twinlock-reaper"),
    ]
}

/// Whoever is gated can ask, and has two others to ask.
#[must_use]
pub fn requesters(facts: &Facts) -> Vec<Finding> {
    let (Some(verified), Ok(host)) = (&facts.roster, &facts.host) else { return Vec::new() };
    let roster = verified.roster();
    let Some(host) = roster.host(host) else { return Vec::new() };
    let asking = requesters_here(facts, roster);
    if asking.is_empty() {
        return vec![Finding::failure(
            "quorum",
            "no person of the roster has a login on this host, so nobody could ask",
            "twinlock person invite, or twinlock roster set, with the login names of this host",
        )];
    }
    asking.into_iter().map(|(login, person)| quorum(roster, host, login, person)).collect()
}

/// The logins of this host that are persons who may ask.
#[must_use]
pub fn requesters_here<'r>(facts: &'r Facts, roster: &'r Roster) -> Vec<(&'r str, &'r Person)> {
    let person = |login: &'r String| {
        let person = roster.persons.iter().find(|person| person.may_ask() && person.logins.contains(login))?;
        Some((login.as_str(), person))
    };
    facts.logins.iter().filter_map(person).collect()
}

fn quorum(roster: &Roster, host: &Host, login: &str, person: &Person) -> Finding {
    // The uid matters only where names can't settle who somebody is.
    let real = Login { uid: u32::MAX, name: login.to_owned() };
    let requester = Requester { login: None, real, pam_ruser: None };
    let persons = roster.requester_persons(&host.id, &requester).unwrap_or_else(|_| vec![person]);
    let target = Target { user: "root".to_owned(), uid: 0, group: None };
    let enough = usize::try_from(roster.rules.quorum).unwrap_or(usize::MAX);
    match roster.gate(host, &target) {
        None => Finding::failure(
            "quorum",
            "no rule of the roster covers root on this host",
            "ask for a roster change that adds a gate for it",
        ),
        Some(gate) => {
            let found = roster.eligible(gate, &roster.excluded(&persons)).len();
            if found >= enough {
                return Finding::ok("quorum", format!("{login} can ask {found} people"));
            }
            Finding::failure(
                "quorum",
                format!("{login} could ask {found} of the {enough} people that it takes"),
                "enrol more approvers: twinlock person invite, on the gateway",
            )
        }
    }
}

/// The way in without a gateway was tried, not long ago, with keys that still count.
#[must_use]
pub fn drill(facts: &Facts) -> Vec<Finding> {
    let remedy = "twinlock break-glass drill, with two people and their offline keys";
    let fail = |what: String| vec![Finding::failure("break-glass", what, remedy)];
    let drill = match &facts.drill {
        Ok(drill) => drill,
        Err(why) => return fail(format!("break-glass was never tried on this host: {why}")),
    };
    let age = facts.now.0.saturating_sub(drill.when.0);
    if drill.when > facts.now || age > GOOD_FOR_S {
        return fail(format!("break-glass was last tried {}", time::moment(drill.when)));
    }
    let Some(roster) = &facts.roster else { return Vec::new() };
    let known = |index: usize| {
        let (person, key) = (drill.persons.get(index)?, drill.keys.get(index)?);
        let is_it = |one: &&twinlock_protocol::roster::BreakGlassKey| one.person == *person && one.key == *key;
        roster.roster().break_glass_keys.iter().find(is_it)
    };
    let distinct = drill.persons.first() != drill.persons.get(1);
    if drill.persons.len() != 2 || drill.keys.len() != 2 || !distinct || known(0).is_none() || known(1).is_none() {
        return fail("break-glass was last tried with keys that the roster no longer names".to_owned());
    }
    vec![Finding::ok("break-glass", format!("tried {}", time::moment(drill.when)))]
}

/// sudoers is sound, and leaves PAM's phases on and where they are.
#[must_use]
pub fn sudo_settings(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts
        .phase_settings
        .iter()
        .map(|setting| {
            let what = format!("`{}` lets sudo pass the module by", setting.text);
            Finding::failure("sudo-settings", what, "take it out (visudo)").at(&setting.file, Some(setting.line))
        })
        .collect();
    match &facts.visudo {
        Visudo::Fine => {}
        Visudo::Broken(said) => {
            findings.push(Finding::failure("sudoers", format!("sudoers is broken: {said}"), "mend it with visudo"));
        }
        Visudo::Missing => findings.push(Finding::warning(
            "sudoers",
            "there is no visudo to check sudoers with",
            "install it with sudo",
        )),
    }
    if findings.is_empty() {
        findings.push(Finding::ok("sudoers", "sudoers is sound and keeps PAM's phases"));
    }
    findings
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::time::Duration;

    use twinlock_protocol::UnixTime;
    use twinlock_protocol::ids::HostId;
    use twinlock_protocol::roster::BreakGlassKey;
    use twinlock_protocol::signature::SigningKey;
    use twinlock_protocol::softphone::Fixture;

    use super::super::sudoers::Setting;
    use super::*;
    use crate::cli::break_glass::drill::DrillRecord;

    pub(in super::super) const NOW: UnixTime = UnixTime(1_800_000_000);

    /// A host on which nothing is wrong; `change` the roster before it is sealed.
    pub(in super::super) fn host(change: impl FnOnce(&mut Fixture)) -> Facts {
        let mut fixture = Fixture::new(b"ca", NOW);
        for name in ["bob", "carol"] {
            let person = fixture.roster.persons.iter().find(|person| person.id.as_str() == name).unwrap().id.clone();
            let key = SigningKey::generate().unwrap().0.public();
            fixture.roster.break_glass_keys.push(BreakGlassKey { person, key });
        }
        let keys = fixture.roster.break_glass_keys.clone();
        change(&mut fixture);
        let (envelope, roster) = fixture.seal();
        let owned = |path: &str, mode: u32| FileFact {
            path: path.into(),
            uid: 0,
            gid: 0,
            mode: 0o100_000 | mode,
            open_above: Vec::new(),
        };
        Facts {
            now: NOW,
            modules: vec![owned("/usr/lib/x/security/pam_twinlock.so", 0o644)],
            host_key: Some(owned("/etc/twinlock/host.key", 0o600)),
            host: Ok(HostId::new("web01").unwrap()),
            roster: Some(roster),
            logins: vec!["alice".into(), "mallory".into()],
            agent: Ok(()),
            gateway: Ok(()),
            gateway_took: Some(Duration::from_millis(9)),
            reaper: Ok(()),
            drill: Ok(DrillRecord {
                version: 1,
                when: UnixTime(NOW.0 - 100),
                persons: keys.iter().map(|one| one.person.clone()).collect(),
                keys: keys.iter().map(|one| one.key).collect(),
                roster_digest: envelope.digest,
            }),
            phase_settings: Vec::new(),
            visudo: Visudo::Fine,
        }
    }

    fn failures(facts: &Facts) -> Vec<&'static str> {
        let found = before_enable(facts, true);
        found.iter().filter(|one| one.severity == Severity::Failure).map(|one| one.id).collect()
    }

    #[test]
    fn a_host_in_order_has_no_failure() {
        assert_eq!(failures(&host(|_| {})), Vec::<&str>::new());
    }

    // control: a_host_in_order_has_no_failure
    #[test]
    fn each_thing_that_is_wrong_is_named_and_says_what_to_do() {
        type Break = fn(&mut Facts);
        let cases: &[(&str, Break)] = &[
            ("module", |facts| facts.modules.clear()),
            ("module", |facts| facts.modules.push(facts.modules[0].clone())),
            ("module", |facts| facts.modules[0].uid = 1001),
            ("module", |facts| facts.modules[0].mode |= 0o020),
            ("module", |facts| facts.modules[0].mode = 0o040_755),
            ("module", |facts| facts.modules[0].open_above.push("/usr/lib".into())),
            ("host-key", |facts| facts.host_key = None),
            ("host-key", |facts| facts.host_key.as_mut().unwrap().mode |= 0o040),
            ("config", |facts| facts.host = Err("no such file".into())),
            ("roster", |facts| facts.roster = None),
            ("roster", |facts| facts.host = Ok(HostId::new("web02").unwrap())),
            ("roster", |facts| facts.now = NOW.plus(366 * 24 * 3600)),
            ("agent", |facts| facts.agent = Err("connection refused".into())),
            ("gateway", |facts| facts.gateway = Err("no link".into())),
            ("reaper", |facts| facts.reaper = Err("no such file".into())),
            ("quorum", |facts| facts.logins = vec!["mallory".into()]),
            ("sudoers", |facts| facts.visudo = Visudo::Broken("syntax error".into())),
            ("sudo-settings", |facts| {
                let text = "!pam_session".to_owned();
                facts.phase_settings.push(Setting { file: "/etc/sudoers".into(), line: 3, text });
            }),
        ];
        for (id, change) in cases {
            let mut facts = host(|_| {});
            change(&mut facts);
            assert!(failures(&facts).contains(id), "{id}: {:?}", failures(&facts));
            let found = before_enable(&facts, true);
            assert!(found.iter().all(|one| (one.severity >= Severity::Warning) == one.remedy.is_some()), "{found:?}");
        }
    }

    /// Catalogue: K1 (control: a_host_in_order_has_no_failure)
    #[test]
    fn a_drill_that_is_missing_old_from_the_future_or_of_other_keys_does_not_count() {
        type Break = fn(&mut DrillRecord);
        let cases: &[Break] = &[
            |drill| drill.when = UnixTime(NOW.0 - GOOD_FOR_S - 1),
            |drill| drill.when = NOW.plus(1),
            |drill| drill.keys.swap(0, 1),
            |drill| drill.keys[1] = SigningKey::generate().unwrap().0.public(),
            |drill| drill.persons[1] = drill.persons[0].clone(),
            |drill| drill.keys.truncate(1),
        ];
        for change in cases {
            let mut facts = host(|_| {});
            change(facts.drill.as_mut().unwrap());
            assert_eq!(failures(&facts), ["break-glass"]);
        }
        let mut facts = host(|_| {});
        facts.drill = Err("no such file".into());
        assert_eq!(failures(&facts), ["break-glass"]);
        let mut facts = host(|_| {});
        facts.drill.as_mut().unwrap().when = UnixTime(NOW.0 - GOOD_FOR_S);
        assert_eq!(failures(&facts), Vec::<&str>::new(), "on its last day it does");
    }

    #[test]
    fn every_requester_on_this_host_needs_two_others() {
        // bob asks as well, and then only carol and dave are left; without dave they are too few.
        let mut facts = host(|_| {});
        facts.logins.push("bob".into());
        assert_eq!(failures(&facts), Vec::<&str>::new());
        let mut facts = host(|fixture| {
            fixture.roster.persons.retain(|person| person.id.as_str() != "dave");
            fixture.phones.retain(|phone| phone.person.as_str() != "dave");
        });
        assert_eq!(failures(&facts), Vec::<&str>::new(), "alice has bob and carol");
        facts.logins.push("bob".into());
        assert_eq!(failures(&facts), ["quorum"]);
    }

    #[test]
    fn su_alone_does_not_ask_about_sudo() {
        let mut facts = host(|_| {});
        facts.visudo = Visudo::Broken("x".into());
        assert!(has_failure(&before_enable(&facts, true)));
        assert!(!has_failure(&before_enable(&facts, false)));
    }
}
