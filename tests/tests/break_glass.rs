//! Break-glass under a real sudo: the gateway is away, two people answer offline with the command
//! line, the host waits, records and flags; the gateway hears of it and wants it reviewed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twinlock_protocol::break_glass::{Purpose, Statement, challenge, read_challenge};
use twinlock_protocol::evidence::GrantRecord;
use twinlock_protocol::ids::RequestId;
use twinlock_protocol::limits;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::roster::Roster;
use twinlock_protocol::softphone::Holder;
use twinlock_protocol::statement::{Decision, ROSTER_DOMAINS, RosterKind, RosterStatement};
use twinlock_protocol::{Bytes, Fixed};
use twinlock_tests::installation::{Installation, Plan};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::proc::{Launch, eventually};
use twinlock_tests::term::{SANE, Terminal};
use twinlock_tests::{Bed, Tail, here, world};

const LIMIT: Duration = Duration::from_secs(40);
const ASKED: &str = "answer 1 of 2:";

/// alice asks; bob, carol and dave approve and hold keys, and so does alice.
fn start(bed: &Bed) -> (Installation<'_>, Vec<Holder>) {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    let mut plan = Plan::new();
    let holders = plan.fixture.break_glass(&["bob", "carol", "dave", "alice"]);
    plan.fixture.roster.rules.break_glass.delay_s = limits::MIN_BREAK_GLASS_DELAY_S;
    plan.fixture.roster.persons[0].groups = plan.fixture.roster.persons[1].groups.clone();
    for holder in &holders {
        let key = data_encoding_pem(&holder.pkcs8);
        bed.write(format!("/root/{}.key", holder.entry.person), format!("person: {}\n{key}", holder.entry.person));
    }
    (plan.start(bed), holders)
}

fn data_encoding_pem(der: &[u8]) -> String {
    // The letters of base64 from those of base64url, padded.
    let mut letters = Bytes(der.to_vec()).to_text().replace('-', "+").replace('_', "/");
    while !letters.len().is_multiple_of(4) {
        letters.push('=');
    }
    format!("-----BEGIN PRIVATE KEY-----\n{letters}\n-----END PRIVATE KEY-----\n")
}

/// Runs `sudo id -un` until it asks for the first answer; the terminal, and what is to be signed.
fn asks(bed: &Bed) -> (Terminal, String) {
    let terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
    terminal.wait_for(ASKED, LIMIT);
    let text = String::from_utf8_lossy(&terminal.transcript()).into_owned();
    let (purpose, bytes) = read_challenge(&text).unwrap_or_else(|| panic!("no challenge in {text}"));
    assert_eq!(purpose, Purpose::Grant);
    (terminal, challenge(purpose, &bytes))
}

/// A holder reads and signs, on a machine of their own.
fn answers(person: &str, challenge: &str) -> String {
    let key = format!("/root/{person}.key");
    let argv = [world::TOOL, "approve", "--offline", "--key", &key];
    let done = Launch::person("root").run_with_input(&argv, &format!("{challenge}\nyes\n"));
    assert!(done.ok() && done.stderr.contains("id -un"), "{done:?}");
    done.stdout.trim().to_owned()
}

fn tool(arguments: &[&str]) -> twinlock_tests::proc::Finished {
    let argv: Vec<&str> = [world::TOOL].iter().chain(arguments).copied().collect();
    Launch::person("root").run(&argv)
}

fn told(arguments: &[&str]) -> String {
    let done = tool(arguments);
    assert!(done.ok(), "{arguments:?}: {done:?}");
    done.stdout
}

fn ran(screen: &str) -> bool {
    screen.lines().any(|line| line.trim() == "root")
}

fn refused(terminal: &mut Terminal, words: &str) {
    assert_ne!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    let screen = terminal.screen();
    assert!(screen.contains(words) && !ran(&screen), "{words}: {screen}");
    assert_eq!(terminal.modes(), SANE);
}

/// Opens with the answers of bob and carol; the request.
fn opened(bed: &Bed) -> RequestId {
    let (mut terminal, text) = asks(bed);
    let (_, bytes) = read_challenge(&text).unwrap();
    terminal.send_line(&answers("bob", &text));
    terminal.wait_for("answer 2 of 2:", LIMIT);
    terminal.send_line(&answers("carol", &text));
    let answered = Instant::now();
    terminal.wait_for("it starts in", LIMIT);
    assert!(!ran(&terminal.screen()), "{}", terminal.screen());
    assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    let least = Duration::from_secs(u64::from(limits::MIN_BREAK_GLASS_DELAY_S));
    assert!(answered.elapsed() >= least, "it waited {:?}", answered.elapsed());
    let screen = terminal.screen();
    assert!(ran(&screen) && screen.contains("bob and carol approved offline"), "{screen}");
    assert_eq!(terminal.modes(), SANE);
    ElevationRequest::id_of(&bytes)
}

/// Catalogue: B1 (control: inline)
#[test]
fn with_a_gateway_there_is_no_break_glass_and_without_one_there_is() {
    in_namespace(here!(), |bed| {
        let (mut installation, _) = start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        terminal.wait_for("waiting for approver 1 of 2", LIMIT);
        assert!(!terminal.screen().contains("BEGIN TWINLOCK"), "{}", terminal.screen());
        // It took the request and goes away: this request is not opened any other way.
        installation.gateway.kill();
        refused(&mut terminal, "a gateway took this request");
        let (mut terminal, _) = asks(bed);
        terminal.send("\x03");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        assert!(!ran(&terminal.screen()));
        assert_eq!(terminal.modes(), SANE);
        // Without an agent as well.
        installation.agent.kill();
        let (mut terminal, _) = asks(bed);
        terminal.send("\x03");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        // Nobody at the terminal: one line, and no question.
        let done = bed.run("alice", &["sudo", "id", "-un"]);
        assert!(!done.ok() && !done.stderr.contains("answer 1"), "{done:?}");
        let mut piped = bed.terminal("alice", &["sh", "-c", "echo x | sudo -S id -un"]);
        refused(&mut piped, "typed at a terminal");
    });
}

/// Catalogue: B2, B5 (control: inline)
#[test]
fn two_people_open_what_is_cut_off_and_it_is_flagged_until_a_third_has_reviewed_it() {
    in_namespace(here!(), |bed| {
        let (mut installation, _) = start(bed);
        installation.gateway.kill();
        // B2: whoever cut the network off still needs two people: the requester's own key is none.
        let (mut terminal, text) = asks(bed);
        terminal.send_line(&answers("bob", &text));
        terminal.wait_for("answer 2 of 2:", LIMIT);
        terminal.send_line(&answers("bob", &text));
        terminal.wait_for("4 tries left", LIMIT);
        terminal.send_line(&answers("alice", &text));
        terminal.wait_for("3 tries left", LIMIT);
        terminal.send("\x03");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        assert!(!ran(&terminal.screen()));

        let id = opened(bed);
        let record = GrantRecord::from_bytes(&installation.grant_record(id).expect("a record")).unwrap();
        assert!(record.authority.certificate().is_none());
        // B5: the host is flagged, for logins and at each elevation.
        let grant = id.grant().to_string();
        let banner = Path::new(world::BREAK_GLASS_DIR).join("banner");
        assert!(std::fs::read_to_string(&banner).unwrap().contains(&grant));
        assert!(told(&["break-glass", "status"]).contains(&grant));
        let (mut terminal, _) = asks(bed);
        let shown = String::from_utf8_lossy(&terminal.transcript()).into_owned();
        assert!(shown.contains("nobody has reviewed it"), "{shown}");
        terminal.send("\x03");
        let _refused = terminal.exit_code(LIMIT);

        // The gateway is back and hears of it: an alarm, and a review that waits.
        installation.restart_gateway();
        eventually("the report", LIMIT, || tool(&["break-glass", "list"]).stdout.contains(&grant));
        let listed = told(&["break-glass", "list"]);
        assert!(listed.contains("alice") && listed.contains("id -un"), "{listed}");
        let log = told(&["audit", "list", "--json"]);
        assert!(log.contains("break_glass_used"), "{log}");
        let pin = installation.envelope.digest.to_hex();
        let page = told(&["audit", "show", &grant, "--pin", &pin, "--evidence", "/root/case.json"]);
        assert!(page.contains("BREAK-GLASS") && page.contains("bob and carol"), "{page}");
        let proved = told(&["audit", "verify", "/root/case.json", "--pin", &pin]);
        assert!(proved.contains("break-glass key"), "{proved}");

        // dave could review it, but not while the used keys are still good.
        let review = |person: &str| {
            let key = format!("/root/{person}.key");
            let argv = [world::TOOL, "break-glass", "review", &grant, "--key", &key];
            Launch::person("root").run_with_input(&argv, "yes\n")
        };
        let early = review("dave");
        assert!(!early.ok() && early.stderr.contains("still in the roster"), "{early:?}");
        told(&["break-glass", "key", "remove", "bob", "carol"]);
        seal_last(&installation);
        for person in ["bob", "carol", "alice"] {
            assert!(!review(person).ok(), "{person}");
        }
        assert!(banner.exists());
        let done = review("dave");
        assert!(done.ok() && done.stdout.contains("dave closed the review"), "{done:?}");
        eventually("the banner's end", LIMIT, || !banner.exists());
        assert!(told(&["break-glass", "list"]).contains("nothing waits"));
    });
}

/// Catalogue: B3 (control: inline)
#[test]
fn answers_are_not_guessed_replayed_or_taken_from_a_drill() {
    in_namespace(here!(), |bed| {
        let (mut installation, holders) = start(bed);
        installation.gateway.kill();
        let (mut first, text) = asks(bed);
        let old = [answers("bob", &text), answers("carol", &text)];
        first.send("\x03");
        assert_ne!(first.exit_code(LIMIT), 0);

        // The same command again is another request.
        let (mut terminal, text) = asks(bed);
        let (_, bytes) = read_challenge(&text).unwrap();
        let about = ElevationRequest::id_of(&bytes).0;
        let mut drill = Statement::new(Purpose::Drill, about, &holders[0].entry, 600, Decision::Approve);
        let drilled = holders[0].sign(&drill).to_text();
        drill.purpose = Purpose::Grant;
        let mut guessed = holders[1].sign(&drill);
        guessed.signature = Fixed([7; 64]);
        for (wrong, words) in [
            (old[0].as_str(), "4 tries left"),
            (old[1].as_str(), "3 tries left"),
            (drilled.as_str(), "2 tries left"),
            (&guessed.to_text(), "1 tries left"),
        ] {
            terminal.send_line(wrong);
            terminal.wait_for(words, LIMIT);
        }
        terminal.send_line("AAAA-BBBB");
        refused(&mut terminal, "no two break-glass answers");
        let _request = opened(bed);
    });
}

/// A drill is what `enable` asks for, and leaves no door.
#[test]
fn a_drill_on_the_host_is_recorded() {
    in_namespace(here!(), |bed| {
        let (_installation, _) = start(bed);
        let mut terminal = bed.terminal("root", &[world::TOOL, "break-glass", "drill"]);
        terminal.wait_for(ASKED, LIMIT);
        let text = String::from_utf8_lossy(&terminal.transcript()).into_owned();
        let (purpose, bytes) = read_challenge(&text).unwrap();
        assert_eq!(purpose, Purpose::Drill);
        let text = challenge(purpose, &bytes);
        for person in ["bob", "carol"] {
            let key = format!("/root/{person}.key");
            let argv = [world::TOOL, "approve", "--offline", "--key", &key];
            let done = Launch::person("root").run_with_input(&argv, &format!("{text}\nyes\n"));
            assert!(done.ok(), "{done:?}");
            terminal.send_line(done.stdout.trim());
            terminal.wait_for(&format!("{person} answered"), LIMIT);
        }
        assert_eq!(terminal.exit_code(LIMIT), 0);
        let record = std::fs::read(Path::new(world::BREAK_GLASS_DIR).join("drill.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["persons"], json!(["bob", "carol"]));
    });
}

fn field<T: serde::de::DeserializeOwned>(body: &Value, name: &str) -> T {
    serde_json::from_value(body[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}: {body}"))
}

/// Two people sign what the command line proposed last.
fn seal_last(installation: &Installation<'_>) {
    let open = told(&["roster", "proposals", "--json"]);
    let id = serde_json::from_str::<Value>(&open).unwrap()[0]["id"].as_str().unwrap().to_owned();
    for (person, state) in [("carol", "open"), ("dave", "sealed")] {
        let mut approver = installation.approver(person);
        approver.sign_in();
        let proposal = approver.get(&format!("/api/v1/roster/proposals/{id}")).ok();
        let bytes: Bytes = field(&proposal["next"], "bytes");
        let template = &proposal["statement"];
        let statement = RosterStatement {
            kind: RosterKind::Roster,
            version: 1,
            roster_version: field(&proposal["next"], "version"),
            roster_digest: Roster::digest_of(&bytes.0),
            person: field(template, "person"),
            credential_id: field(template, "credential_id"),
            device_id: field(template, "device_id"),
            gateway_salt: field(template, "gateway_salt"),
        };
        let phone = installation.fixture.phone(person);
        let signed = phone.sign(&installation.roster, ROSTER_DOMAINS, &statement.to_bytes());
        let answer = approver.post(&format!("/api/v1/roster/proposals/{id}/sign"), &json!({ "signed": signed })).ok();
        assert_eq!(answer["state"].as_str(), Some(state));
    }
}
