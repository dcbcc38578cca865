//! The life of people, devices and hosts under a real sudo: a suspension counts at the host within
//! seconds, somebody who enrolled by a link approves, a host that was away takes several versions at
//! once, a host that left gets nothing, a new CA and a new gateway need nobody to touch a host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::roster::Roster;
use twinlock_protocol::slots::{ROSTER_SLOTS, Slot};
use twinlock_protocol::softphone::{self, Phone};
use twinlock_protocol::statement::{
    POSSESSION_DOMAINS, PossessionKind, PossessionStatement, ROSTER_DOMAINS, RosterKind, RosterStatement,
};
use twinlock_protocol::{Bytes, Digest};
use twinlock_tests::approver::{Answer, Approver};
use twinlock_tests::installation::{Installation, Plan, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::proc::Launch;
use twinlock_tests::{Bed, Tail, here, world};

const LIMIT: Duration = Duration::from_secs(20);

fn field<T: serde::de::DeserializeOwned>(body: &Value, name: &str) -> T {
    serde_json::from_value(body[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}: {body}"))
}

/// alice asks; bob, carol, dave, erin and frank approve: enough for one to be suspended by one.
fn start(bed: &Bed) -> Installation<'_> {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    let mut plan = Plan::new();
    for name in ["erin", "frank"] {
        let phone = Phone::new(name, &format!("{name}-phone"));
        let person = softphone::person(name, &["approvers"], vec![phone.device.clone()]);
        plan.fixture.roster.persons.push(person);
        plan.fixture.phones.push(phone);
    }
    plan.start(bed)
}

/// Reads a proposal as the page does and signs it; the new state.
fn sign(installation: &Installation<'_>, person: &str, id: &Value) -> String {
    let mut approver = installation.approver(person);
    approver.sign_in();
    let path = format!("/api/v1/roster/proposals/{}", id.as_str().unwrap());
    let proposal = approver.get(&path).ok();
    sign_read(installation, &approver, person, &proposal).ok()["state"].as_str().unwrap().to_owned()
}

fn sign_read(installation: &Installation<'_>, approver: &Approver<'_>, person: &str, proposal: &Value) -> Answer {
    let bytes: Bytes = field(&proposal["next"], "bytes");
    let next = Roster::from_bytes(&bytes.0).unwrap();
    let template = &proposal["statement"];
    let statement = RosterStatement {
        kind: RosterKind::Roster,
        version: 1,
        roster_version: next.version,
        roster_digest: Roster::digest_of(&bytes.0),
        person: field(template, "person"),
        credential_id: field(template, "credential_id"),
        device_id: field(template, "device_id"),
        gateway_salt: field(template, "gateway_salt"),
    };
    let phone = installation.fixture.phone(person);
    let signed = phone.sign(&installation.roster, ROSTER_DOMAINS, &statement.to_bytes());
    let path = format!("/api/v1/roster/proposals/{}/sign", proposal["id"].as_str().unwrap());
    approver.post(&path, &json!({ "signed": signed }))
}

/// Two people sign what the command line proposed last.
fn seal_last(installation: &Installation<'_>) {
    let open = tool(&["roster", "proposals", "--json"]);
    let id = serde_json::from_str::<Value>(&open).unwrap()[0]["id"].clone();
    assert_eq!(sign(installation, "carol", &id), "open");
    assert_eq!(sign(installation, "dave", &id), "sealed");
}

/// The command line, as root on the gateway.
fn tool(arguments: &[&str]) -> String {
    let argv: Vec<&str> = [world::TOOL].iter().chain(arguments).copied().collect();
    let done = Launch::person("root").run(&argv);
    assert!(done.ok(), "{arguments:?}: {done:?}");
    done.stdout
}

/// One person suspends another, on their own phone.
fn suspend(installation: &Installation<'_>, by: &str, whom: &str) {
    let mut approver = installation.approver(by);
    approver.sign_in();
    let proposal = approver.post("/api/v1/roster/suspend", &json!({ "person": whom })).ok();
    assert_eq!(proposal["needs"], 1);
    assert_eq!(sign_read(installation, &approver, by, &proposal).ok()["state"], "sealed");
}

/// The version that the host pins.
fn pinned() -> u64 {
    let slots = ROSTER_SLOTS.map(|name| std::fs::read(std::path::Path::new(world::ROSTER_DIR).join(name)).unwrap());
    let slots = slots.iter().filter_map(|bytes| Slot::decode(bytes).ok());
    slots.max_by_key(|slot| slot.sequence).expect("a pinned roster").version
}

/// Somebody new opens a link on a phone and enrols it.
fn enrol(installation: &Installation<'_>, person: &str, secret: &str) -> Phone {
    let (site, roster) = (&installation.site, &installation.roster);
    let mut phone = Phone::new(person, &format!("{person}-new"));
    let opened = site.post("/api/v1/enrol/start", None, &json!({ "invite": secret }));
    let cookie = opened.headers.get("set-cookie").unwrap().to_str().unwrap().split(';').next().unwrap().to_owned();
    let start = opened.ok();
    let challenge: Bytes = field(&start["creation"], "challenge");
    let form = phone.honest_registration(&roster.rp_id, &roster.origins[0], &challenge.0);
    let (data, client_data_json) = phone.registration(&form);
    let body = json!({
        "enrol": start["enrol"],
        "registration": {
            "credential_id": phone.device.credential_id,
            "attestation_object": Bytes(Phone::unattested(&data)),
            "client_data_json": Bytes(client_data_json),
        },
        "device_key": phone.device.device_key,
        "device_proof": phone.device_sign(Domain::Claim, &challenge.0),
        "label": "a phone",
    });
    let finished = site.post("/api/v1/enrol/finish", Some(&cookie), &body).ok();
    let record: Bytes = field(&finished, "record");
    phone.device = serde_json::from_slice(&record.0).unwrap();
    let template = &finished["possession"];
    let statement = PossessionStatement {
        kind: PossessionKind::Possession,
        version: 1,
        person: field(template, "person"),
        device: phone.device.record_digest(),
        replaces: field(template, "replaces"),
        credential_id: field(template, "credential_id"),
        device_id: field(template, "device_id"),
        gateway_salt: field(template, "gateway_salt"),
    };
    let signed = phone.sign(roster, POSSESSION_DOMAINS, &statement.to_bytes());
    let body = json!({ "enrol": start["enrol"], "signed": signed });
    assert_eq!(site.post("/api/v1/enrol/possession", Some(&cookie), &body).ok()["state"], "wait");
    phone
}

/// Catalogue: A12 (control: inline)
#[test]
fn a_suspended_persons_approval_does_not_count_at_the_host_within_seconds() {
    in_namespace(here!(), |bed| {
        let installation = start(bed);
        // Control: with bob it works, under the roster that the host pins.
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert_eq!(pinned(), 1);

        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        let first = installation.approve_scanned(&terminal, None, "bob", "approved_first");
        let started = Instant::now();
        suspend(&installation, "dave", "bob");
        // The slot is open again: two others are needed.
        let second = installation.approve_scanned(&terminal, Some(&first), "carol", "approved_first");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        installation.approve_scanned(&terminal, Some(&second), "erin", "granted");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert_eq!(pinned(), 2, "the module took the version that came with the evidence");
    });
}

#[test]
fn somebody_who_enrolled_by_a_link_approves_a_real_sudo() {
    in_namespace(here!(), |bed| {
        let installation = start(bed);
        let invited =
            tool(&["person", "invite", "grace", "--name", "Grace", "--logins", "grace", "--approver", "--json"]);
        let link: Value = serde_json::from_str(&invited).unwrap();
        let secret = link["link"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let phone = enrol(&installation, "grace", &secret);
        seal_last(&installation);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        let ticket = scan_ticket(&terminal, None);
        let mut grace = Approver::new(&installation.site, &installation.roster, &phone);
        assert_eq!(grace.approve(&ticket), "approved_first");
        installation.approve_scanned(&terminal, Some(&ticket), "bob", "granted");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert!(terminal.screen().contains("Grace"), "{}", terminal.screen());
        assert_eq!(pinned(), 2);
    });
}

/// The request waits while somebody joins: they approve it, by a roster that the host first sees with
/// the evidence. (Somebody made up instead: the hostile cases "an approver who is not in the roster".)
#[test]
fn who_joins_while_a_request_waits_approves_that_very_request() {
    in_namespace(here!(), |bed| {
        let installation = start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        let _of_the_older_roster = scan_ticket(&terminal, None);
        let invited =
            tool(&["person", "invite", "grace", "--name", "Grace", "--logins", "grace", "--approver", "--json"]);
        let link: Value = serde_json::from_str(&invited).unwrap();
        let secret = link["link"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let phone = enrol(&installation, "grace", &secret);
        seal_last(&installation);
        assert_eq!(pinned(), 1);
        let mut grace = Approver::new(&installation.site, &installation.roster, &phone);
        let first = installation.approve_scanned_by(&terminal, None, &mut grace, "approved_first");
        terminal.wait_for("somebody new (\"grace\", not verified yet) approved", LIMIT);
        installation.approve_scanned(&terminal, Some(&first), "bob", "granted");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert!(terminal.screen().contains("Grace and bob approved"), "{}", terminal.screen());
        assert_eq!(pinned(), 2, "the module took the version that came with the evidence");
        assert!(!bed.syslog().iter().any(|line| line.contains("approver-unknown")), "no alarm");
    });
}

/// Catalogue: I3 (control: a_suspended_persons_approval_does_not_count_at_the_host_within_seconds)
#[test]
fn a_host_that_was_away_takes_several_versions_at_once() {
    in_namespace(here!(), |bed| {
        let mut installation = start(bed);
        installation.agent.kill();
        suspend(&installation, "dave", "bob");
        suspend(&installation, "carol", "erin");
        tool(&["roster", "renew", "--days", "200"]);
        seal_last(&installation);
        assert_eq!(pinned(), 1);
        installation.restart_agent();
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "carol", "frank");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert_eq!(pinned(), 4);
    });
}

/// A new CA, and then another key and address of the gateway, by roster changes alone: the host
/// follows, and nobody touches its files.
#[test]
fn a_new_ca_and_a_new_gateway_key_need_nobody_to_touch_the_host() {
    in_namespace(here!(), |bed| {
        let mut installation = start(bed);
        let host_files = || [world::AGENT_TOML, world::MODULE_TOML].map(|path| std::fs::read(path).unwrap());
        let before = host_files();
        tool(&["roster", "add-ca", "elevation-2"]);
        seal_last(&installation);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert_eq!(pinned(), 2);

        // A new gateway: the same state, another key. Two people sign it in while the old one serves.
        let (_, key) = twinlock_protocol::signature::SigningKey::generate().unwrap();
        let pair = rcgen::KeyPair::try_from(key.as_slice()).unwrap();
        let pin = Digest::plain(&rcgen::PublicKeyData::subject_public_key_info(&pair));
        let address = format!("127.0.0.1:{}", twinlock_tests::installation::AGENT_PORT);
        tool(&["roster", "add-gateway", &address, "--key", &pin.0.to_text()]);
        seal_last(&installation);
        installation.gateway.kill();
        let file = std::path::Path::new(world::GATEWAY_DIR).join("gateway.key");
        std::fs::write(file, key).unwrap();
        installation.restart_gateway();
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert_eq!((pinned(), host_files()), (3, before));
    });
}

#[test]
fn a_host_that_left_the_roster_gets_nothing() {
    in_namespace(here!(), |bed| {
        let installation = start(bed);
        // Another host must stay for nothing: a roster may have none.
        tool(&["host", "remove", "web01"]);
        seal_last(&installation);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        assert_ne!(terminal.exit_code(Duration::from_secs(60)), 0);
        assert!(!terminal.screen().contains("scan"), "{}", terminal.screen());
    });
}

/// This machine becomes another host: with keys of its own and what `host join` writes, nothing else.
#[test]
fn a_host_that_joins_by_its_token_elevates_with_what_it_pinned() {
    in_namespace(here!(), |bed| {
        let mut installation = start(bed);
        installation.agent.kill();
        installation.reaper.kill();
        for file in [world::HOST_KEY, world::AGENT_KEY, world::AGENT_TOML, world::MODULE_TOML, world::REAPER_TOML] {
            std::fs::remove_file(file).unwrap();
        }
        std::fs::remove_dir_all(world::ROSTER_DIR).unwrap();
        // Control: this machine is no host now.
        let done = bed.run("alice", &["sudo", "-n", "true"]);
        assert!(!done.ok(), "{done:?}");
        let address = format!("127.0.0.1:{}", twinlock_tests::installation::AGENT_PORT);
        let made: Value =
            serde_json::from_str(&tool(&["host", "token", "web02", "--gateway", &address, "--json"])).unwrap();
        let argv = [world::TOOL, "host", "join", made["token"].as_str().unwrap()];
        let mut join = twinlock_tests::proc::Daemon::start("join", &Launch::person("root"), &argv);
        join.wait_for_log("which they compare", LIMIT);
        // The words come from its own keys, before the gateway has heard of it.
        let proposed = || tool(&["roster", "proposals", "--json"]).contains("web02");
        twinlock_tests::proc::eventually("the gateway has the proposal", LIMIT, proposed);
        seal_last(&installation);
        assert!(join.wait(LIMIT).success(), "{}", join.log());
        assert_eq!(pinned(), 2);
        installation.restart_reaper();
        installation.restart_agent();
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert!(terminal.screen().contains("alice -> root on web02"), "{}", terminal.screen());
        let shown = tool(&["grants", "--json"]);
        assert!(shown.contains("web02") && !shown.contains("web01"), "{shown}");
    });
}

/// The members of a group of this machine, as getent has them, become requesters by one change.
#[test]
fn who_is_imported_from_nss_may_ask() {
    in_namespace(here!(), |bed| {
        let installation = start(bed);
        let add =
            |file: &str, line: &str| bed.write(file, format!("{}{line}\n", std::fs::read_to_string(file).unwrap()));
        for (name, uid) in [("ivan", 1011), ("judy", 1012)] {
            add("/etc/passwd", &format!("{name}:x:{uid}:{uid}:{name} of Ops,,,:/home/{name}:/bin/sh"));
            add("/etc/shadow", &format!("{name}:!*:19700::::::"));
            add("/etc/group", &format!("{name}:x:{uid}:"));
            std::fs::create_dir_all(format!("/home/{name}")).unwrap();
            bed.write(format!("/var/lib/sudo/lectured/{name}"), "");
        }
        add("/etc/group", "ops:x:1020:ivan,judy,alice");
        bed.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n");
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL\n%ops ALL=(ALL:ALL) NOPASSWD: ALL");
        let listed = bed.run("root", &["getent", "group", "ops"]);
        assert_eq!(listed.stdout.trim(), "ops:x:1020:ivan,judy,alice", "control: what getent says");
        // Control: nobody of the roster yet.
        let mut terminal = bed.terminal("ivan", &["sudo", "id", "-un"]);
        assert_ne!(terminal.exit_code(LIMIT), 0);
        assert!(terminal.screen().contains("not a person of the roster"), "{}", terminal.screen());

        let said = tool(&["person", "import", "--nss", "ops"]);
        assert!(said.contains("in the roster already, unchanged: alice"), "{said}");
        seal_last(&installation);
        let roster = tool(&["roster", "show"]);
        assert!(roster.contains("ivan of Ops (ivan)") && roster.contains("judy of Ops (judy)"), "{roster}");
        let mut terminal = bed.terminal("ivan", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());

        let nobody = Launch::person("root").run(&[world::TOOL, "person", "import", "--nss", "no-such-group"]);
        assert!(!nobody.ok() && nobody.stderr.contains("no group no-such-group"), "{nobody:?}");
        let again = Launch::person("root").run(&[world::TOOL, "person", "import", "--nss", "ops"]);
        assert!(!again.ok() && again.stderr.contains("nobody new"), "{again:?}");
    });
}

/// The gateway is gone, with its address, its key and its CA. Another one stands elsewhere; two people
/// had signed it in. The host's files name the old one, and nobody touches them.
#[test]
fn a_gateway_at_another_address_with_another_ca_is_found_through_the_roster() {
    in_namespace(here!(), |bed| {
        let mut installation = start(bed);
        let host_files = || [world::AGENT_TOML, world::MODULE_TOML].map(|path| std::fs::read(path).unwrap());
        let before = host_files();
        let (_, key) = twinlock_protocol::signature::SigningKey::generate().unwrap();
        let pair = rcgen::KeyPair::try_from(key.as_slice()).unwrap();
        let pin = Digest::plain(&rcgen::PublicKeyData::subject_public_key_info(&pair));
        tool(&["roster", "add-ca", "elevation-2"]);
        seal_last(&installation);
        let cas = installation.roster.roster().cas.clone();
        tool(&["roster", "remove-ca", cas[0].id.as_str()]);
        seal_last(&installation);
        let (old, new) = (format!("127.0.0.1:{}", twinlock_tests::installation::AGENT_PORT), "127.0.0.1:8555");
        tool(&["roster", "add-gateway", new, "--key", &pin.0.to_text()]);
        seal_last(&installation);
        // The host hears of it while the old one is there.
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert_eq!(pinned(), 4);

        installation.gateway.kill();
        let config = std::fs::read_to_string(world::GATEWAY_TOML).unwrap();
        assert!(config.contains(&old));
        bed.write(world::GATEWAY_TOML, config.replace(&old, new));
        std::fs::write(std::path::Path::new(world::GATEWAY_DIR).join("gateway.key"), key).unwrap();
        // The agent that comes up knows the new address from the roster on its disk alone.
        installation.restart_agent();
        installation.restart_gateway();
        assert!(std::net::TcpStream::connect(&old).is_err(), "control: nobody is where the host's file says");
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        installation.approve_by_two(&terminal, "bob", "carol");
        assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
        assert_eq!((pinned(), host_files()), (4, before));
        assert!(installation.agent.log().contains(new), "{}", installation.agent.log());
    });
}
