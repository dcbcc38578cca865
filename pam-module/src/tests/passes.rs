//! Who is not asked, and that nobody else passes; and that `open_session` believes nobody.
use twinlock_protocol::DenyReason;

use super::*;
use crate::who::{Decision, decide};

fn decision(service: &str, user: &str, ruser: Option<&str>, real_uid: u32) -> Result<Decision, DenyReason> {
    let mut script = Script::new(service, user, "");
    script.ruser = ruser.map(|name| Ok(name.to_owned()));
    let caller = Caller { program: service.as_bytes().get(..2).unwrap().to_vec(), ..caller(real_uid) };
    decide(&script, &People, &caller).map_err(|refusal| refusal.reason)
}

/// Catalogue: P6 (control: inline)
#[test]
fn root_passes_in_sudo_and_su_and_nobody_else_does() {
    for service in ["sudo", "sudo-i", "su", "su-l"] {
        assert_eq!(decision(service, "root", Some("root"), 0), Ok(Decision::Passes));
        assert_eq!(decision(service, "bob", Some("toor"), 0), Ok(Decision::Passes));
        assert_ne!(decision(service, "root", Some("root"), 1001), Ok(Decision::Passes), "{service}");
    }
    // sudoedit opens its session with real uid 0, whoever called it.
    for service in ["sudo", "sudo-i"] {
        assert_eq!(decision(service, "root", Some("alice"), 0), Ok(Decision::AsksForSudo));
        assert_eq!(decision(service, "root", Some("nobody-knows"), 0), Ok(Decision::AsksForSudo));
        // `Defaults !pam_ruser`: nobody says who called it.
        assert_eq!(decision(service, "bob", None, 0), Ok(Decision::AsksForSudo));
    }
    for service in ["su", "su-l"] {
        assert_eq!(decision(service, "bob", None, 0), Ok(Decision::Passes));
    }
}

#[test]
fn the_same_user_passes_in_su_and_never_in_sudo() {
    for service in ["su", "su-l"] {
        assert_eq!(decision(service, "alice", Some("alice"), 1001), Ok(Decision::Passes));
        assert_eq!(decision(service, "bob", Some("alice"), 1001), Ok(Decision::AsksForSu));
        // Another name of the same uid is another account: its shell, its groups.
        assert_eq!(decision(service, "alice-too", Some("alice"), 1001), Ok(Decision::AsksForSu));
    }
    for service in ["sudo", "sudo-i"] {
        assert_eq!(decision(service, "alice", Some("alice"), 1001), Ok(Decision::AsksForSudo));
    }
    // `Defaults pam_service=su` must not carry sudo through su's rule.
    let script = Script::new("su", "alice", "alice");
    let refusal = decide(&script, &People, &caller(1001)).unwrap_err();
    assert_eq!(refusal.reason, DenyReason::ServiceUnknown);
}

#[test]
fn a_service_that_is_not_named_is_refused_for_root_too() {
    for service in ["sshd", "login", "cron", "sudo-x", "SUDO", "su -l", "  "] {
        for uid in [0, 1001] {
            assert_eq!(decision(service, "root", Some("root"), uid), Err(DenyReason::ServiceUnknown), "{service}");
        }
    }
    let mut script = Bench::script();
    script.service = None;
    assert_eq!(decide(&script, &People, &caller(0)).unwrap_err().reason, DenyReason::ServiceUnknown);
}

#[test]
fn queries_pass_without_configuration_roster_or_agent() {
    let mut bench = Bench::new();
    std::fs::remove_file(bench.path("module.toml")).unwrap();
    bench.terminal = None;
    bench.command("sudo -n -l");
    assert_eq!(bench.account(&mut Bench::script()), Ok(Outcome::Allowed));
    // With a command word it is asked and refused
    bench.command("sudo -n -l id");
    assert!(bench.account(&mut Bench::script()).is_err());
    // The service of `sudo -i` has no queries.
    bench.command("sudo -l");
    let mut script = Script::new("sudo-i", "alice", "alice");
    assert_eq!(bench.account(&mut script).unwrap_err().reason, DenyReason::NotUnderstood);
}

#[test]
fn a_session_without_a_grant_is_refused_and_roots_own_passes() {
    let bench = Bench::new();
    let session = |mut script: Script, uid| bench.open_session(&mut script, &caller(uid)).map_err(|r| r.reason);
    assert_eq!(session(Script::new("sudo", "root", "alice"), 1001), Err(DenyReason::NoGrant));
    assert_eq!(session(Script::new("sudo", "root", "alice"), 0), Err(DenyReason::NoGrant), "as sudoedit opens it");
    assert_eq!(session(Script::new("sshd", "root", "root"), 0), Err(DenyReason::ServiceUnknown));
    assert_eq!(session(Script::new("sudo", "bob", "root"), 0), Ok(Outcome::Allowed));
    // Asked, and refused: even root's rule does not help in the same handle.
    let mut asked = Script::new("sudo", "root", "root");
    asked.remembered = Some(Remembered::Asked);
    assert_eq!(session(asked, 0), Err(DenyReason::NoGrant));
}

/// Catalogue: P10 (control: inline)
#[test]
fn a_grant_opens_one_session_for_its_target_alone() {
    let bench = Bench::new();
    let mut script = Bench::script();
    assert_eq!(bench.grant(&mut script, &Terms::honest()), Ok(Outcome::Allowed));
    script.user = Some("bob".into());
    let refusal = bench.open_session(&mut script, &caller(1001)).unwrap_err();
    assert_eq!(refusal.reason, DenyReason::TargetDiffers);
    // The grant is spent, for the right target too.
    script.user = Some("root".into());
    let refusal = bench.open_session(&mut script, &caller(1001)).unwrap_err();
    assert_eq!(refusal.reason, DenyReason::NoGrant);
    // With the right target it opens; and without a reaper `account` itself refuses.
    let mut script = Bench::script();
    assert_eq!(bench.grant(&mut script, &Terms::honest()), Ok(Outcome::Allowed));
    script.user = Some("root".into());
    assert_eq!(bench.open_session(&mut script, &caller(1001)), Ok(Outcome::Allowed));
    let bench = Bench { reaper: true, ..bench };
    let mut script = Bench::script();
    let refusal = bench.grant(&mut script, &Terms::honest()).unwrap_err();
    assert_eq!(refusal.reason, DenyReason::ReaperUnavailable);
    script.user = Some("root".into());
    assert_eq!(bench.open_session(&mut script, &caller(1001)).unwrap_err().reason, DenyReason::NoGrant);
}
