//! The vectors under `docs/vectors`: one file per case with its expected outcome. Rust checks them
//! here, the page's script checks the same files with its own code. `make bless` (which sets
//! `TWINLOCK_BLESS=1`) makes new ones; keys and nonces are random, so every blessing changes them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use twinlock_protocol::escape;
use twinlock_protocol::evidence::SignedRequest;
use twinlock_protocol::ids::{CaId, GroupName, HostId, PersonId, RequestId, TerminalCode, Ticket};
use twinlock_protocol::request::{Arg, ElevationRequest, Mode, StdinKind};
use twinlock_protocol::roster::change::{Change, changes};
use twinlock_protocol::roster::{
    Assurance, BreakGlassKey, BreakGlassRules, Device, GatewayEntry, Host, Roster, RosterEnvelope, Standing,
    Suspension, VerifiedRoster, Which,
};
use twinlock_protocol::softphone::{Fixture, Phone, evidence, person};
use twinlock_protocol::statement::{
    APPROVAL_DOMAINS, ApprovalStatement, Channel, Decision, POSSESSION_DOMAINS, SignedStatement,
};
use twinlock_protocol::verify::{evidence_digest, verify_evidence, verify_request};
use twinlock_protocol::words::words;
use twinlock_protocol::{Bytes, Digest, Fixed, UnixTime};

/// A case of evidence: who pins what, what was asked, what was said, and what must come of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EvidenceCase {
    what: String,
    now: UnixTime,
    pin: Digest,
    roster: RosterEnvelope,
    signed_request: SignedRequest,
    request_id: RequestId,
    evidence: Bytes,
    evidence_digest: Digest,
    /// `granted`, or the name of the refusal.
    outcome: String,
    ttl_s: Option<u32>,
}

/// A case of one statement: its fields, and every byte string made from them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementCase {
    what: String,
    fields: ApprovalStatement,
    bytes: Bytes,
    challenge: Digest,
    device_message: Bytes,
    signed: SignedStatement,
    credential_key: Fixed<65>,
    device_key: Fixed<65>,
    origin: String,
    rp_id: String,
}

/// A case of one request: bytes, digest, and the parts that people read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestCase {
    what: String,
    bytes: Bytes,
    /// The digest, or none when the bytes must be refused.
    request_id: Option<RequestId>,
    command: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EscapeCase {
    bytes: Bytes,
    visible: String,
    argument: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SmallDigests {
    ticket: Ticket,
    ticket_hash: Digest,
    code: String,
    code_salt: Fixed<16>,
    code_hash: Digest,
}

/// One step of a roster chain.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepCase {
    what: String,
    envelope: RosterEnvelope,
    /// Every difference to the version before.
    changes: Vec<Change>,
    /// The same, a line each.
    lines: Vec<String>,
}

/// A chain of rosters from its ceremony.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainCase {
    what: String,
    pin: Digest,
    genesis: RosterEnvelope,
    steps: Vec<StepCase>,
}

/// A difference that no chain need allow: what people would read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesCase {
    what: String,
    old: Bytes,
    new: Bytes,
    changes: Vec<Change>,
    lines: Vec<String>,
}

/// A roster in its one spelling, and whether its names may stand.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamesCase {
    what: String,
    bytes: Bytes,
    accepted: bool,
}

/// A device record and everything that is made from it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PossessionCase {
    what: String,
    person: PersonId,
    device: Device,
    device_digest: Digest,
    words: String,
    statement: Bytes,
    challenge: Digest,
    device_message: Bytes,
    signed: SignedStatement,
    origin: String,
    rp_id: String,
    host: Host,
    host_digest: Digest,
    host_words: String,
}

const NOW: UnixTime = UnixTime(1_800_000_000);

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors").join(name)
}

/// Reads a vector file, or makes it anew when blessing.
fn vector<T: Serialize + for<'de> Deserialize<'de>>(name: &str, make: impl FnOnce() -> T) -> T {
    if std::env::var_os("TWINLOCK_BLESS").is_some() {
        let mut text = serde_json::to_string_pretty(&make()).unwrap();
        text.push('\n');
        std::fs::write(path(name), text).unwrap();
    }
    let text = std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}; run make bless"));
    serde_json::from_slice(&text).unwrap()
}

fn evidence_case(
    what: &str,
    outcome: &str,
    statements: &[(&str, Decision)],
    flaw: fn(&mut SignedStatement),
) -> EvidenceCase {
    let fixture = Fixture::new(b"a CA", NOW);
    let (roster, verified) = fixture.seal();
    let (request, _) = fixture.verified_request(&verified);
    let mut statements: Vec<SignedStatement> = statements
        .iter()
        .map(|(person, decision)| fixture.phone(person).answer(&verified, request.id(), *decision))
        .collect();
    statements.first_mut().into_iter().for_each(flaw);
    let bytes = evidence(request.id(), statements).to_bytes();
    EvidenceCase {
        what: what.into(),
        now: NOW,
        pin: roster.digest,
        roster,
        signed_request: request.signed().clone(),
        request_id: request.id(),
        evidence_digest: evidence_digest(&bytes),
        evidence: Bytes(bytes),
        outcome: outcome.into(),
        ttl_s: (outcome == "granted").then_some(900),
    }
}

fn check_evidence(name: &str, make: impl FnOnce() -> EvidenceCase) {
    let case: EvidenceCase = vector(name, make);
    let roster = VerifiedRoster::genesis(&case.roster, &case.pin).expect("the vector's roster verifies");
    let request = verify_request(&roster, &case.signed_request, case.now).expect("the vector's request verifies");
    assert_eq!(request.id(), case.request_id, "{}", case.what);
    assert_eq!(evidence_digest(&case.evidence.0), case.evidence_digest, "{}", case.what);
    match verify_evidence(&roster, &request, &case.evidence.0, case.now) {
        Ok(granted) => {
            assert_eq!((case.outcome.as_str(), case.ttl_s), ("granted", Some(granted.ttl_s())), "{}", case.what)
        }
        Err(reason) => assert_eq!(case.outcome, reason.row().name, "{}", case.what),
    }
}

#[test]
fn evidence_vectors_come_to_their_outcomes() {
    use Decision::{Approve, Deny};
    let two = [("bob", Approve), ("carol", Approve)];
    check_evidence("evidence-granted.json", || evidence_case("two persons approve", "granted", &two, |_| {}));
    check_evidence("evidence-one-person.json", || {
        evidence_case("one person approves twice", "same-person", &[("bob", Approve), ("bob", Approve)], |_| {})
    });
    check_evidence("evidence-denied.json", || {
        evidence_case("one approves, one denies", "denial-present", &[("bob", Approve), ("carol", Deny)], |_| {})
    });
    check_evidence("evidence-device-signature.json", || {
        evidence_case("the first device signature is missing", "device-signature", &two, |s| s.device_signature = None)
    });
    check_evidence("evidence-flipped.json", || {
        evidence_case("the first assertion's signature is changed", "assertion-signature", &two, |s| {
            let last = s.assertion.signature.0.len() - 1;
            s.assertion.signature.0[last] ^= 1;
        })
    });
}

#[test]
fn statement_vectors_give_their_bytes_challenge_and_device_message() {
    for (name, what, decision) in [
        ("statement-approve.json", "an approval by ticket", Decision::Approve),
        ("statement-deny.json", "a denial with a reason in the approver's words", Decision::Deny),
    ] {
        let case: StatementCase = vector(name, || {
            let fixture = Fixture::new(b"a CA", NOW);
            let (_, verified) = fixture.seal();
            let (request, _) = fixture.verified_request(&verified);
            let bob = fixture.phone("bob");
            let mut fields = bob.statement(request.id(), decision);
            match decision {
                Decision::Approve => fields.channel = Channel::Ticket(Ticket::from_random(&[7; 16]).hash()),
                Decision::Deny => {
                    fields.deny_reason = Some("not now, \"nginx\" is \\ fine\n\u{1}\u{7f}Grüße 日本 \u{2028}".into())
                }
            }
            let bytes = fields.to_bytes();
            StatementCase {
                what: what.into(),
                challenge: APPROVAL_DOMAINS.challenge(&bytes),
                device_message: Bytes(APPROVAL_DOMAINS.device_message(&bytes)),
                signed: bob.sign(&verified, APPROVAL_DOMAINS, &bytes),
                bytes: Bytes(bytes),
                fields,
                credential_key: bob.device.credential_key,
                device_key: bob.device.device_key.unwrap(),
                origin: verified.origins[0].clone(),
                rp_id: verified.rp_id.clone(),
            }
        });
        assert_eq!(case.fields.to_bytes(), case.bytes.0);
        assert_eq!(ApprovalStatement::from_bytes(&case.bytes.0).unwrap(), case.fields);
        assert_eq!(APPROVAL_DOMAINS.challenge(&case.bytes.0), case.challenge);
        assert_eq!(APPROVAL_DOMAINS.device_message(&case.bytes.0), case.device_message.0);
        let device_signature = case.signed.device_signature.unwrap();
        assert!(twinlock_protocol::signature::verify(&case.device_key, &case.device_message.0, &device_signature));
    }
}

#[test]
fn request_vectors_give_their_digests_or_are_refused() {
    let base = || Fixture::new(b"a CA", NOW).request().0;
    let cases: Vec<RequestCase> = vector("requests.json", || {
        let plain = base();
        let mut shell = base();
        shell.view.mode = Mode::Shell;
        shell.view.command_at = None;
        shell.view.open_ended = true;
        shell.view.shell = Some("/bin/bash".into());
        shell.argv = vec!["sudo".into(), "-s".into()];
        shell.stdin = StdinKind::Piped;
        let mut raw = base();
        raw.argv = vec!["sudo".into(), "rm".into(), Arg(b"\xff\xfe".to_vec()), "a b\n\u{202e}".into()];
        let mut odd = base();
        odd.argv = vec![
            "sudo".into(),
            "\u{0}\u{1b}\u{7f}\u{80}\u{2028}\u{2029}\u{ffff}\u{10ffff}\u{8}\u{c}/<>\u{d7ff}".into(),
        ];
        odd.process.start_time = twinlock_protocol::limits::MAX_INTEGER;
        let mut cases: Vec<RequestCase> = [
            ("a command", plain.clone()),
            ("a shell, input piped", shell),
            ("argument that is not UTF-8", raw),
            ("every kind of escape, and the largest integer", odd),
        ]
        .into_iter()
        .map(|(what, request)| {
            let bytes = request.to_bytes();
            RequestCase {
                what: what.into(),
                request_id: Some(ElevationRequest::id_of(&bytes)),
                command: request.command().iter().map(|arg| escape::argument(&arg.0)).collect(),
                bytes: Bytes(bytes),
            }
        })
        .collect();
        let text = String::from_utf8(plain.to_bytes()).unwrap();
        for (what, bytes) in [
            ("a field twice", text.replacen("\"version\":1", "\"version\":1,\"version\":1", 1)),
            ("an unknown field", text.replacen("\"version\":1", "\"version\":1,\"colour\":\"red\"", 1)),
            ("white space", text.replacen(':', ": ", 1)),
            ("bytes after the value", format!("{text}\n")),
            ("another version", text.replacen("\"version\":1", "\"version\":2", 1)),
            (
                "an integer that JavaScript cannot hold",
                text.replacen("\"start_time\":123456", "\"start_time\":9007199254740993", 1),
            ),
            (
                "an integer one above 2^53 - 1",
                text.replacen("\"start_time\":123456", "\"start_time\":9007199254740992", 1),
            ),
            ("a fraction", text.replacen("\"ttl_s\":900", "\"ttl_s\":900.0", 1)),
            ("half a surrogate pair", text.replacen("nginx", "\\ud800", 1)),
            ("an escape that is not needed", text.replacen("nginx", "\\u006eginx", 1)),
            ("an escape in capitals", text.replacen("nginx", "\\u001B", 1)),
            ("a field left out", text.replacen("\"tty\":\"/dev/pts/0\",", "", 1)),
        ] {
            cases.push(RequestCase {
                what: what.into(),
                bytes: Bytes(bytes.into_bytes()),
                request_id: None,
                command: vec![],
            });
        }
        cases
    });
    assert!(cases.len() >= 16);
    for case in cases {
        match (ElevationRequest::from_bytes(&case.bytes.0), case.request_id) {
            (Ok(request), Some(id)) => {
                assert_eq!(ElevationRequest::id_of(&case.bytes.0), id, "{}", case.what);
                let command: Vec<String> = request.command().iter().map(|arg| escape::argument(&arg.0)).collect();
                assert_eq!(command, case.command, "{}", case.what);
            }
            (Err(_), None) => {}
            (read, _) => panic!("{}: {read:?}", case.what),
        }
    }
}

#[test]
fn escape_vectors_are_made_visible_alike() {
    let cases: Vec<EscapeCase> = vector("escape.json", || {
        let texts: [&[u8]; 20] = [
            b"nginx",
            b"",
            b"a b",
            b"a\tb\r\nc",
            b"\x1b]0;title\x07",
            b"say \"hi\"",
            b"back\\slash",
            "\u{202e}txt.exe".as_bytes(),
            "zero\u{200b}width".as_bytes(),
            "e\u{301}".as_bytes(),
            "Grüße 日本 👍".as_bytes(),
            b"\xff\xfe ok \xc3",
            "กู้ที่ सर्वर أُعِيدُ".as_bytes(),
            "ก\u{e49}\u{e49}\u{e49}\u{e49}\u{e49}x".as_bytes(),
            "a\u{e49} \u{e49}\\\u{e49}\n\u{e49}".as_bytes(),
            b"\xe0\xb8\x81\xff\xe0\xb9\x89",
            "\u{a0}\u{378}\u{fff9}\u{fffc}\u{ffff}".as_bytes(),
            "tag\u{e0041}\u{e0100}\u{1d159}\u{16fe4}".as_bytes(),
            "\u{115f}\u{3164}\u{2800}\u{3000}\u{2061}".as_bytes(),
            "back\\u{202e} \"quoted\\\"".as_bytes(),
        ];
        texts
            .into_iter()
            .map(|bytes| EscapeCase {
                bytes: bytes.into(),
                visible: escape::visible(bytes),
                argument: escape::argument(bytes),
            })
            .collect()
    });
    assert_eq!(cases.len(), 20);
    for case in cases {
        assert_eq!(escape::visible(&case.bytes.0), case.visible);
        assert_eq!(escape::argument(&case.bytes.0), case.argument);
    }
}

#[test]
fn ticket_and_code_vectors_hash_alike() {
    let case: SmallDigests = vector("digests.json", || {
        let ticket = Ticket::from_random(&[42; 16]);
        let salt = Fixed([9; 16]);
        SmallDigests {
            ticket_hash: ticket.hash(),
            ticket,
            code: "418302".into(),
            code_salt: salt,
            code_hash: TerminalCode::new("418302").unwrap().commitment(&salt),
        }
    });
    assert_eq!(case.ticket.hash(), case.ticket_hash);
    assert_eq!(TerminalCode::new(&case.code).unwrap().commitment(&case.code_salt), case.code_hash);
}

fn step_case(
    fixture: &mut Fixture,
    head: &mut VerifiedRoster,
    what: &str,
    signers: &[&str],
    edit: impl FnOnce(&mut Roster),
) -> StepCase {
    let (envelope, next) = fixture.step(head, signers, edit);
    let changes = changes(head, &next);
    *head = next;
    StepCase { what: what.into(), envelope, lines: changes.iter().map(Change::to_line).collect(), changes }
}

fn id(text: &str) -> PersonId {
    PersonId::new(text).unwrap()
}

fn of<'a>(roster: &'a mut Roster, id: &str) -> &'a mut twinlock_protocol::roster::Person {
    roster.persons.iter_mut().find(|person| person.id.as_str() == id).unwrap()
}

fn chain_case() -> ChainCase {
    let mut fixture = Fixture::new(b"a CA", NOW);
    let (genesis, mut head) = fixture.seal();
    let pin = genesis.digest;
    let erin = Phone::new("erin", "erin-phone");
    let device = erin.device.clone();
    fixture.phones.push(erin);
    let mut steps = Vec::new();
    steps.push(step_case(&mut fixture, &mut head, "two add a person with a device", &["bob", "carol"], |roster| {
        roster.persons.push(person("erin", &["approvers"], vec![device]));
    }));
    steps.push(step_case(&mut fixture, &mut head, "one suspends another", &["erin"], |roster| {
        of(roster, "dave").standing = Standing::Suspended(Suspension { by: Some(id("erin")) });
    }));
    steps.push(step_case(&mut fixture, &mut head, "two lift it", &["bob", "carol"], |roster| {
        of(roster, "dave").standing = Standing::Active;
    }));
    let dave = fixture.phones.iter_mut().find(|phone| phone.person.as_str() == "dave").unwrap();
    dave.renew_device_key();
    let key = dave.device.device_key;
    steps.push(step_case(
        &mut fixture,
        &mut head,
        "a dropped device key is restored, one other signs",
        &["bob"],
        |roster| {
            of(roster, "dave").devices[0].device_key = key;
        },
    ));
    steps.push(step_case(
        &mut fixture,
        &mut head,
        "rules, gateways, CAs, hosts and expiry",
        &["carol", "dave"],
        |roster| {
            roster.rules.max_ttl_s = 1800;
            roster.gateways.push(GatewayEntry { address: "gw2.example.org:7443".into(), key: Digest::plain(b"a key") });
            let ca = roster.cas[0].clone();
            roster.cas.push(twinlock_protocol::roster::Ca {
                id: CaId::new("ca2").unwrap(),
                certificate: Bytes([ca.certificate.0, vec![1]].concat()),
            });
            roster.expires_at = roster.expires_at.plus(86_400);
            roster.hosts[0].groups.push(GroupName::new("web").unwrap());
            roster.persons.retain(|person| person.id.as_str() != "erin");
        },
    ));
    ChainCase { what: "a roster's life".into(), pin, genesis, steps }
}

#[test]
fn chain_vectors_verify_step_by_step() {
    let case: ChainCase = vector("roster-chain.json", chain_case);
    let mut head = VerifiedRoster::genesis(&case.genesis, &case.pin).unwrap();
    assert_eq!(case.steps.len(), 5);
    for step in &case.steps {
        let next = head.successor(&step.envelope).unwrap_or_else(|error| panic!("{}: {error}", step.what));
        assert_eq!(changes(&head, &next), step.changes, "{}", step.what);
        assert_eq!(step.changes.iter().map(Change::to_line).collect::<Vec<_>>(), step.lines, "{}", step.what);
        head = next;
    }
    let envelopes: Vec<RosterEnvelope> = case.steps.into_iter().map(|step| step.envelope).collect();
    let genesis = VerifiedRoster::genesis(&case.genesis, &case.pin).unwrap();
    assert_eq!(genesis.follow(&envelopes).unwrap(), head);
}

fn changes_cases() -> Vec<ChangesCase> {
    type Edit = fn(&mut Roster);
    let edits: [(&str, Edit); 9] = [
        ("nothing but the version", |roster| roster.version = 2),
        ("a person's every field", |roster| {
            let carol = of(roster, "carol");
            carol.name = "Carol \u{c4}, of \"sales\"; bob: x".into();
            carol.logins = vec!["carol".into(), "c.arol".into()];
            carol.groups.clear();
            carol.may_request = false;
            carol.standing = Standing::Suspended(Suspension { by: None });
        }),
        ("a label alone, without the words", |roster| of(roster, "bob").devices[0].label = "bob's old phone".into()),
        ("a device's every field", |roster| {
            let device = &mut of(roster, "bob").devices[0];
            device.client_class = twinlock_protocol::roster::ClientClass::Terminal;
            device.backup_eligible = false;
            device.attested = true;
            device.aaguid = Fixed([0xa5; 16]);
            device.device_key = None;
        }),
        ("a device moves to another person", |roster| {
            let device = of(roster, "bob").devices.remove(0);
            of(roster, "alice").devices.push(device);
        }),
        ("another order", |roster| {
            roster.persons.reverse();
            roster.origins.insert(0, "https://a.tl.example.org".into());
        }),
        ("gates", |roster| {
            let mut gate = roster.rules.gates[0].clone();
            gate.hosts = Which::Of(vec![GroupName::new("web").unwrap(), GroupName::new("db").unwrap()]);
            gate.targets = Which::Of(vec!["root".into()]);
            roster.rules.gates.insert(0, gate);
        }),
        ("rules", |roster| {
            roster.rules.floor = Assurance::B;
            roster.rules.aaguids = vec![Fixed([7; 16])];
            roster.rules.distinct_client_class = true;
            roster.rules.break_glass = BreakGlassRules { delay_s: 120, max_ttl_s: 300 };
        }),
        ("hosts, uids and keys", |roster| {
            let mut host = roster.hosts[0].clone();
            host.id = HostId::new("db01").unwrap();
            roster.hosts[0].name = "web01.example.org".into();
            roster.uids.push(twinlock_protocol::roster::UidEntry {
                host: host.id.clone(),
                uid: 1000,
                person: id("alice"),
            });
            roster.audit_keys.push(host.host_key);
            roster.break_glass_keys.push(BreakGlassKey { person: id("bob"), key: host.agent_key });
            roster.hosts.push(host);
        }),
    ];
    let mut cases: Vec<ChangesCase> = Vec::new();
    for (what, edit) in edits {
        let old = Fixture::new(b"a CA", NOW).roster;
        let mut new = old.clone();
        edit(&mut new);
        for (what, old, new) in [(what.to_owned(), &old, &new), (format!("{what}, undone"), &new, &old)] {
            let changes = changes(old, new);
            cases.push(ChangesCase {
                what,
                old: Bytes(old.to_bytes()),
                new: Bytes(new.to_bytes()),
                lines: changes.iter().map(Change::to_line).collect(),
                changes,
            });
        }
    }
    cases
}

/// The rosters of these cases need not be sound: they are read as what they say.
#[test]
fn changes_vectors_list_every_difference() {
    let cases: Vec<ChangesCase> = vector("roster-changes.json", changes_cases);
    assert_eq!(cases.len(), 18);
    for case in cases {
        let read = |bytes: &Bytes| -> Roster { serde_json::from_slice(&bytes.0).unwrap() };
        let found = changes(&read(&case.old), &read(&case.new));
        assert_eq!(found, case.changes, "{}", case.what);
        assert_eq!(found.iter().map(Change::to_line).collect::<Vec<_>>(), case.lines, "{}", case.what);
        assert_eq!(found.is_empty(), case.what.starts_with("nothing"), "{}", case.what);
    }
}

/// A name that reads like the absence of one, wherever a list of changes shows names.
fn names_cases() -> Vec<NamesCase> {
    let fixture = Fixture::new(b"a CA", NOW);
    let sound = String::from_utf8(fixture.roster.to_bytes()).unwrap();
    type With = fn(&str) -> String;
    let places: [(&str, &str, With); 5] = [
        ("a person's id", r#""id":"alice""#, |name| format!(r#""id":"{name}""#)),
        ("a login", r#""logins":["alice"]"#, |name| format!(r#""logins":["{name}"]"#)),
        ("a group of a person", r#""groups":[],"may"#, |name| format!(r#""groups":["{name}"],"may"#)),
        ("the hosts of a gate", r#""hosts":{"any":{}}"#, |name| format!(r#""hosts":{{"of":["{name}"]}}"#)),
        ("the targets of a gate", r#""targets":{"any":{}}"#, |name| format!(r#""targets":{{"of":["{name}"]}}"#)),
    ];
    let mut cases = vec![NamesCase { what: "as it is".into(), bytes: Bytes(sound.clone().into()), accepted: true }];
    for (what, place, with) in places {
        for (name, accepted) in [("any", false), ("none", false), ("anyone", true), ("nonesuch", true)] {
            let bytes = sound.replacen(place, &with(name), 1);
            assert_ne!(bytes, sound, "{what}");
            cases.push(NamesCase { what: format!("{what}: {name}"), bytes: Bytes(bytes.into()), accepted });
        }
    }
    for place in [r#""logins":["alice"]"#, r#""targets":{"any":{}}"#] {
        let with = if place.contains("any") { r#""targets":{"of":["None"]}"# } else { r#""logins":["ANY"]"# };
        let bytes = sound.replacen(place, with, 1);
        cases.push(NamesCase { what: with.into(), bytes: Bytes(bytes.into()), accepted: false });
    }
    cases
}

#[test]
fn names_vectors_refuse_what_reads_like_no_name() {
    let cases: Vec<NamesCase> = vector("roster-names.json", names_cases);
    assert_eq!(cases.iter().filter(|case| !case.accepted).count(), 12);
    for case in cases {
        assert_eq!(Roster::from_bytes(&case.bytes.0).is_ok(), case.accepted, "{}", case.what);
    }
}

#[test]
fn possession_vectors_give_their_bytes_challenge_and_words() {
    let case: PossessionCase = vector("possession.json", || {
        let fixture = Fixture::new(b"a CA", NOW);
        let (_, head) = fixture.seal();
        let erin = Phone::new("erin", "erin-phone");
        let statement = erin.possession(&head).to_bytes();
        let host = head.hosts[0].clone();
        PossessionCase {
            what: "a new phone proves possession of its keys; a host's words".into(),
            person: erin.person.clone(),
            device_digest: erin.device.record_digest(),
            words: words(&erin.device.keys_digest()).join(" "),
            challenge: POSSESSION_DOMAINS.challenge(&statement),
            device_message: Bytes(POSSESSION_DOMAINS.device_message(&statement)),
            signed: erin.sign(&head, POSSESSION_DOMAINS, &statement),
            statement: Bytes(statement),
            origin: head.origins[0].clone(),
            rp_id: head.rp_id.clone(),
            device: erin.device.clone(),
            host_digest: host.keys_digest(),
            host_words: words(&host.keys_digest()).join(" "),
            host,
        }
    });
    assert_eq!(case.device.record_digest(), case.device_digest);
    assert_eq!(words(&case.device.keys_digest()).join(" "), case.words);
    assert_eq!(words(&case.host.keys_digest()).join(" "), case.host_words);
    assert_eq!(case.host.keys_digest(), case.host_digest);
    assert_eq!(POSSESSION_DOMAINS.challenge(&case.statement.0), case.challenge);
    assert_eq!(POSSESSION_DOMAINS.device_message(&case.statement.0), case.device_message.0);
    let (_, head) = Fixture::new(b"a CA", NOW).seal();
    assert_eq!((&head.origins[0], &head.rp_id), (&case.origin, &case.rp_id));
    head.verify_possession(&case.person, &case.device, &case.signed).unwrap();
}
