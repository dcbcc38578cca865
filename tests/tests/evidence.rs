//! Evidence that leaves the gateway: `twinlock audit verify` and the recipe of stock tools in
//! docs/evidence.md, held against each other on grants with one thing changed; and on a real one. And
//! that docs/past-attacks.md names tests that exist.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use twinlock_certs::issue::{Ca, ElevationTemplate};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::evidence::{Authority, Certified, Evidence, GrantRecord, GrantRecordFormat};
use twinlock_protocol::ids::{CertSerial, PersonId};
use twinlock_protocol::roster::{RosterEnvelope, Standing, Suspension, VerifiedRoster};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::softphone::{self, Fixture, Phone};
use twinlock_protocol::statement::{Decision, SignedStatement, StartStatement};
use twinlock_protocol::verify::VerifiedRequest;
use twinlock_protocol::{Bytes, UnixTime};
use twinlock_tests::installation::{Installation, Plan};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::proc::{Finished, eventually};
use twinlock_tests::world::{self, built_binary, workspace};
use twinlock_tests::{Bed, Tail, here};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// The recipe, as it stands in the document.
fn recipe() -> String {
    let text = fs::read_to_string(workspace().join("docs/evidence.md")).unwrap();
    let (_, rest) = text.split_once("```bash\n#!/bin/bash\n").expect("the recipe");
    let (script, _) = rest.split_once("\n```").expect("its end");
    format!("#!/bin/bash\n{script}\n")
}

/// A grant in the time of four roster versions: erin enrolled, dave suspended by bob alone, erin's
/// dropped device key restored. Alice asked under one of them; carol and erin approved under the last.
struct Grant {
    fixture: Fixture,
    ca: Ca,
    rosters: Vec<RosterEnvelope>,
    head: VerifiedRoster,
    request: VerifiedRequest,
    session_key: SigningKey,
}

impl Grant {
    fn new(asked_under: u64) -> Self {
        let (ca, _) = Ca::generate("test CA", NOW, 1).unwrap();
        let mut fixture = Fixture::new(ca.certificate(), NOW);
        let mut asked = None;
        let mut ask = |fixture: &Fixture, head: &VerifiedRoster| {
            if head.version == asked_under {
                asked = Some(fixture.verified_request(head));
            }
        };
        let (first, genesis) = fixture.seal();
        ask(&fixture, &genesis);
        fixture.phones.push(Phone::new("erin", "erin-phone"));
        let erin = softphone::person("erin", &["approvers"], vec![fixture.phone("erin").device.clone()]);
        let (second, enrolled) = fixture.step(&genesis, &["bob", "carol"], |roster| roster.persons.push(erin));
        ask(&fixture, &enrolled);
        let by = Some(PersonId::new("bob").unwrap());
        let (third, suspended) = fixture.step(&enrolled, &["bob"], |roster| {
            let dave = roster.persons.iter_mut().find(|person| person.id.as_str() == "dave").unwrap();
            dave.standing = Standing::Suspended(Suspension { by });
        });
        ask(&fixture, &suspended);
        fixture.phones.iter_mut().find(|phone| phone.person.as_str() == "erin").unwrap().renew_device_key();
        let device = fixture.phone("erin").device.clone();
        let (fourth, head) = fixture.step(&suspended, &["carol"], |roster| {
            let erin = roster.persons.iter_mut().find(|person| person.id.as_str() == "erin").unwrap();
            erin.devices = vec![device];
        });
        ask(&fixture, &head);
        let (request, session_key) = asked.unwrap();
        Self { fixture, ca, rosters: vec![first, second, third, fourth], head, request, session_key }
    }

    fn pin(&self) -> String {
        self.rosters[0].digest.to_hex()
    }

    fn answer(&self, person: &str, decision: Decision) -> SignedStatement {
        self.fixture.phone(person).answer(&self.head, self.request.id(), decision)
    }

    /// The evidence file over these statements, with a certificate that fits them.
    fn file(&self, statements: &[SignedStatement]) -> Value {
        let mut evidence = softphone::evidence(self.request.id(), statements.to_vec());
        let asked_under = usize::try_from(self.request.decided_by().version).unwrap();
        evidence.rosters = self.rosters[asked_under..].to_vec();
        let evidence = evidence.to_bytes();
        let asked = self.request.request();
        let template = ElevationTemplate {
            session_key: asked.session_key,
            serial: CertSerial::from_random([0xa9; 16]),
            host: asked.host.clone(),
            target_user: asked.target.user.clone(),
            requesters: self.request.requesters().to_vec(),
            not_before: NOW,
            not_after: NOW.plus(60),
            request: self.request.id(),
            evidence: Evidence::digest_of(&evidence),
            crl_url: "https://tl.example.org/crl.der".into(),
        };
        let mut start = softphone::start(asked, self.request.id(), &self.session_key, 1);
        let mut said = StartStatement::from_bytes(&start.statement.0).unwrap();
        (said.serial, said.started_at) = (Some(template.serial), NOW.plus(5));
        start.statement = Bytes(said.to_bytes());
        start.signature = self.session_key.sign(&Domain::Start.message(&start.statement.0)).unwrap();
        let record = GrantRecord {
            format: GrantRecordFormat::GrantRecord,
            version: 1,
            grant: self.request.id().grant(),
            request: self.request.signed().clone(),
            authority: Authority::Certificate(Certified {
                evidence: Bytes(evidence),
                certificate: Bytes(self.ca.elevation(&template).unwrap()),
            }),
            start,
            end: None,
        };
        json!({
            "format": "twinlock-evidence-file",
            "version": 1,
            "grant": record.grant,
            "rosters": self.rosters,
            "request": record.request,
            "statements": statements,
            "record": record,
            "ended": null,
        })
    }

    fn honest(&self) -> Value {
        self.file(&[self.answer("carol", Decision::Approve), self.answer("erin", Decision::Approve)])
    }
}

/// Runs both checks on files, each in a directory of its own.
struct Bench {
    dir: tempfile::TempDir,
    recipe: PathBuf,
    tool: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("check.sh");
        fs::write(&path, recipe()).unwrap();
        Self { recipe: path, tool: built_binary("twinlock"), dir }
    }

    fn put(&self, file: &Value) -> PathBuf {
        let path = self.dir.path().join("grant.json");
        fs::write(&path, serde_json::to_vec(file).unwrap()).unwrap();
        path
    }

    fn recipe(&self, file: &Path, pin: &str) -> Output {
        Command::new("bash").arg(&self.recipe).arg(file).arg(pin).env_clear().env("PATH", PATH).output().unwrap()
    }

    fn tool(&self, file: &Path, pin: &str) -> Output {
        let mut command = Command::new(&self.tool);
        command.args(["audit", "verify"]).arg(file).args(["--pin", pin, "--json"]).env_clear().output().unwrap()
    }
}

const PATH: &str = "/usr/bin:/bin";

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Changes one bit of base64url text.
fn flip(value: &mut Value, byte: usize) {
    let mut bytes = BASE64URL_NOPAD.decode(value.as_str().unwrap().as_bytes()).unwrap();
    bytes[byte] ^= 1;
    *value = BASE64URL_NOPAD.encode(&bytes).into();
}

/// Edits the JSON that is inside a base64url text.
fn inside(value: &mut Value, edit: impl FnOnce(&mut Value)) {
    let bytes = BASE64URL_NOPAD.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let mut content = serde_json::from_slice(&bytes).unwrap();
    edit(&mut content);
    *value = BASE64URL_NOPAD.encode(&serde_json::to_vec(&content).unwrap()).into();
}

/// The certificate of a file's record, or its start.
fn part<'f>(file: &'f mut Value, field: &str) -> &'f mut Value {
    let record = &mut file["record"];
    if field == "certificate" { &mut record["authority"]["certificate"][field] } else { &mut record[field] }
}

/// How many forgeries there are, and the checks that find them: each of these has a test below.
const FORGERIES: usize = 24;
const CHECKS: [&str; 6] = ["roster", "request", "approvals", "answers", "certificate", "start"];

/// Both checks prove the honest grant, and refuse the forgeries that one of these checks finds.
fn both_tell_forgeries_from_the_grant(checks: &[&str]) {
    let (bench, grant) = (Bench::new(), Grant::new(4));
    let good = grant.honest();
    let path = bench.put(&good);
    let recipe = bench.recipe(&path, &grant.pin());
    let told = said(&recipe.stdout);
    assert!(recipe.status.success(), "{told}{}", said(&recipe.stderr));
    for part in ["roster version 4", "bob carol dave", "approved by carol", "approved by erin", "started at 2027"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let tool = bench.tool(&path, &grant.pin());
    assert!(tool.status.success(), "{}", said(&tool.stderr));
    let findings: Value = serde_json::from_slice(&tool.stdout).unwrap();
    assert_eq!((&findings["verified"], &findings["roster_version"]), (&true.into(), &4.into()));

    let other = Grant::new(4);
    let foreign = other.honest();
    let one = grant.answer("carol", Decision::Approve);
    let suspended = grant.file(&[grant.answer("carol", Decision::Approve), grant.answer("dave", Decision::Approve)]);
    let denied = grant.file(&[grant.answer("carol", Decision::Approve), grant.answer("erin", Decision::Deny)]);
    let alone = grant.file(std::slice::from_ref(&one));
    let twice = grant.file(&[one.clone(), grant.answer("carol", Decision::Approve)]);
    let changed = |edit: &dyn Fn(&mut Value)| {
        let mut file = good.clone();
        edit(&mut file);
        file
    };
    let evidence = |edit: &dyn Fn(&mut Value)| {
        changed(&|file| inside(&mut file["record"]["authority"]["certificate"]["evidence"], edit))
    };
    let swap = |field: &str| changed(&|file| *part(file, field) = part(&mut foreign.clone(), field).clone());
    let cases: Vec<(&str, Value, &str)> = vec![
        ("a roster's byte", changed(&|f| flip(&mut f["rosters"][0]["bytes"], 400)), "roster"),
        ("another roster's first version", changed(&|f| f["rosters"][0] = foreign["rosters"][0].clone()), "roster"),
        ("a version left out", changed(&|f| drop(f["rosters"].as_array_mut().unwrap().remove(1))), "roster"),
        (
            "a roster's signature",
            changed(&|f| flip(&mut f["rosters"][1]["signatures"][0]["device_signature"], 9)),
            "roster",
        ),
        (
            "one signature where two are needed",
            changed(&|f| drop(f["rosters"][1]["signatures"].as_array_mut().unwrap().pop())),
            "roster",
        ),
        ("nobody's suspension", changed(&|f| f["rosters"][2]["signatures"] = json!([])), "roster"),
        ("the newest version left out", changed(&|f| drop(f["rosters"].as_array_mut().unwrap().pop())), "roster"),
        ("the request's byte", changed(&|f| flip(&mut f["request"]["request"], 300)), "request"),
        ("the host's signature", changed(&|f| flip(&mut f["request"]["host_signature"], 3)), "request"),
        ("the session's signature", changed(&|f| flip(&mut f["request"]["session_signature"], 3)), "request"),
        ("another grant", changed(&|f| f["grant"] = foreign["grant"].clone()), "request"),
        (
            "the command",
            changed(&|f| inside(&mut f["request"]["request"], |r| r["argv"][3] = "sshd".into())),
            "request",
        ),
        (
            "an approval's statement",
            evidence(&|e| inside(&mut e["statements"][0]["statement"], |s| s["ttl_s"] = 3600.into())),
            "approvals",
        ),
        (
            "a passkey's signature",
            evidence(&|e| flip(&mut e["statements"][0]["assertion"]["signature"], 20)),
            "approvals",
        ),
        (
            "the user's gesture",
            evidence(&|e| flip(&mut e["statements"][1]["assertion"]["authenticator_data"], 32)),
            "approvals",
        ),
        ("a device key's signature", evidence(&|e| flip(&mut e["statements"][1]["device_signature"], 5)), "approvals"),
        ("one approval", alone, "approvals"),
        ("one person twice", twice, "approvals"),
        ("a denial", denied, "approvals"),
        ("a suspended person's approval", suspended, "answers"),
        ("the certificate's byte", changed(&|f| flip(part(f, "certificate"), 120)), "certificate"),
        ("another certificate", swap("certificate"), "certificate"),
        ("the start's byte", changed(&|f| flip(&mut f["record"]["start"]["signature"], 40)), "start"),
        ("another start", swap("start"), "start"),
    ];
    assert_eq!(cases.len(), FORGERIES);
    assert!(cases.iter().all(|(_, _, check)| CHECKS.contains(check)), "a check that no test asks for");
    for (name, file, check) in cases.into_iter().filter(|(_, _, check)| checks.contains(check)) {
        let path = bench.put(&file);
        let recipe = bench.recipe(&path, &grant.pin());
        assert!(!recipe.status.success(), "{name}: the recipe took it: {}", said(&recipe.stdout));
        let tool = bench.tool(&path, &grant.pin());
        let told = said(&tool.stderr);
        assert_eq!(tool.status.code(), Some(1), "{name}: {told}");
        let told_as_json: Value = serde_json::from_slice(&tool.stdout).unwrap();
        assert_eq!(
            (&told_as_json["verified"], &told_as_json["check"]),
            (&false.into(), &check.into()),
            "{name}: {told}"
        );
        assert!(told.contains(&format!("the check \"{check}\" failed")), "{name}: {told}");
    }
    let path = bench.put(&good);
    assert!(!bench.recipe(&path, &other.pin()).status.success());
    assert!(!bench.tool(&path, &other.pin()).status.success());
}

// Four tests, so that they run beside each other: the recipe starts hundreds of stock tools.

/// Catalogue: L7 (control: inline)
#[test]
fn stock_tools_and_our_own_refuse_the_same_forged_rosters() {
    both_tell_forgeries_from_the_grant(&CHECKS[..1]);
}

/// Catalogue: L7 (control: inline)
#[test]
fn stock_tools_and_our_own_refuse_the_same_forged_requests() {
    both_tell_forgeries_from_the_grant(&CHECKS[1..2]);
}

/// Catalogue: L7 (control: inline)
#[test]
fn stock_tools_and_our_own_refuse_the_same_forged_approvals() {
    both_tell_forgeries_from_the_grant(&CHECKS[2..4]);
}

/// Catalogue: L7 (control: inline)
#[test]
fn stock_tools_and_our_own_refuse_the_same_forged_certificates_and_starts() {
    both_tell_forgeries_from_the_grant(&CHECKS[4..]);
}

/// Catalogue: A12 (control: inline)
#[test]
fn a_grant_under_a_newer_roster_than_its_requests_is_proved_with_that_roster() {
    let (bench, grant) = (Bench::new(), Grant::new(2));
    let good = grant.honest();
    let path = bench.put(&good);
    let recipe = bench.recipe(&path, &grant.pin());
    assert!(recipe.status.success(), "{}{}", said(&recipe.stdout), said(&recipe.stderr));
    let tool = bench.tool(&path, &grant.pin());
    assert!(tool.status.success(), "{}", said(&tool.stderr));
    let findings: Value = serde_json::from_slice(&tool.stdout).unwrap();
    assert_eq!((&findings["roster_version"], &findings["session"]["roster_version"]), (&2.into(), &4.into()));

    let carol = grant.answer("carol", Decision::Approve);
    // Dave was an approver when alice asked, and is suspended where it was decided.
    let dave = grant.file(&[carol.clone(), grant.answer("dave", Decision::Approve)]);
    let mut shortened = good.clone();
    inside(&mut shortened["record"]["authority"]["certificate"]["evidence"], |evidence| {
        drop(evidence["rosters"].as_array_mut().unwrap().pop());
    });
    let mut hidden = good.clone();
    drop(hidden["rosters"].as_array_mut().unwrap().pop());
    for (name, file) in [("suspended meanwhile", dave), ("a roster left out", shortened), ("one hidden", hidden)] {
        let path = bench.put(&file);
        assert!(!bench.recipe(&path, &grant.pin()).status.success(), "{name}: the recipe took it");
        assert!(!bench.tool(&path, &grant.pin()).status.success(), "{name}: audit verify took it");
    }
}

// ---- on a real grant ----------------------------------------------------------------------------

const LIMIT: Duration = Duration::from_secs(20);

#[track_caller]
fn twinlock(bed: &Bed, arguments: &[&str]) -> String {
    let words: Vec<&str> = std::iter::once("twinlock").chain(arguments.iter().copied()).collect();
    let done = bed.run("root", &words);
    assert!(done.ok(), "{arguments:?}: {done:?}");
    done.stdout
}

fn as_json(bed: &Bed, arguments: &[&str]) -> Value {
    let words: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&twinlock(bed, &words)).unwrap()
}

/// Somebody without a name, a network, an environment or a way to get more.
fn stranger(bed: &Bed, words: &[&str]) -> Finished {
    let nobody = ["unshare", "-n", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
    let bare = ["env", "-i", "PATH=/usr/bin:/bin"];
    let all: Vec<&str> = nobody.into_iter().chain(bare).chain(words.iter().copied()).collect();
    bed.run("root", &all)
}

/// `sudo true` by alice, approved by bob and carol, over and told of; its grant.
fn granted(bed: &Bed, installation: &Installation<'_>) -> String {
    let mut terminal = bed.terminal("alice", &["sudo", "true"]);
    installation.approve_by_two(&terminal, "bob", "carol");
    assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    let grant = as_json(bed, &["grants"])[0]["grant"].as_str().unwrap().to_owned();
    eventually("the end is told", LIMIT, || {
        let shown = as_json(bed, &["audit", "show", &grant]);
        !shown["session"].is_null() && !shown["ended"].is_null()
    });
    grant
}

/// Catalogue: L7 (control: inline)
#[test]
fn a_real_grants_evidence_is_checked_by_a_stranger_without_a_network() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let installation = Plan::new().start(bed);
        let grant = granted(bed, &installation);
        let pin = installation.envelope.digest.to_hex();
        let (file, script) = ("/tmp/grant.json", "/tmp/check.sh");
        let said = twinlock(bed, &["audit", "show", &grant, "--evidence", file]);
        assert!(said.contains(&format!("twinlock audit verify {file} --pin {pin}")), "{said}");
        let again = bed.run("root", &["twinlock", "audit", "show", &grant, "--evidence", file]);
        assert!(!again.ok() && again.stderr.contains("cannot write"), "evidence is not overwritten: {again:?}");
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        bed.write(file, &bytes);
        bed.write(script, recipe());
        let verify = |pin: &str| stranger(bed, &["twinlock", "audit", "verify", file, "--pin", pin]);
        let follow = |pin: &str| stranger(bed, &["bash", script, file, pin]);

        let told = verify(&pin);
        assert!(told.ok(), "{told:?}");
        for part in [
            "VERIFIED",
            "who        alice (alice)",
            "what       true",
            "as         root on web01, by sudo",
            "bob approved exactly this request",
            "carol approved exactly this request",
            "assurance C",
            "the command ended",
            "bob and carol are two people of the roster",
            "- host: claimed, not proven",
            "- times: claims",
            "- end: claimed, not proven: the host's word",
        ] {
            assert!(told.stdout.contains(part), "{part}: {}", told.stdout);
        }
        let followed = follow(&pin);
        assert!(followed.ok() && followed.stdout.contains("approved by carol"), "{followed:?}");

        // Another organisation's digest, and one bit of one signature.
        let foreign = "0".repeat(64);
        assert!(!verify(&foreign).ok() && !follow(&foreign).ok());
        let mut changed: Value = serde_json::from_slice(&bytes).unwrap();
        inside(&mut changed["record"]["authority"]["certificate"]["evidence"], |evidence| {
            flip(&mut evidence["statements"][1]["assertion"]["signature"], 30);
        });
        bed.write(file, serde_json::to_vec(&changed).unwrap());
        let refused = verify(&pin);
        assert!(!refused.ok() && refused.stderr.contains("the check \"approvals\" failed"), "{refused:?}");
        let refused = follow(&pin);
        assert!(!refused.ok() && refused.stderr.contains("FAILED: approval 1: passkey"), "{refused:?}");
        bed.write(file, &bytes);
        assert!(verify(&pin).ok() && follow(&pin).ok());
    });
}

/// Catalogue: V5 (control: inline)
#[test]
fn a_session_that_the_gateways_log_is_silent_about_is_told_by_its_host() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let mut installation = Plan::new().start(bed);
        let grant = granted(bed, &installation);
        let report = |bed: &Bed| as_json(bed, &["audit", "report", "--since", "1d", "--records", world::GRANTS_DIR]);
        let good = report(bed);
        assert_eq!((&good["totals"]["granted"], &good["requesters"][0]["requester"]), (&1.into(), &"alice".into()));
        assert_eq!(good["pairs"][0]["approvers"], json!(["bob", "carol"]));
        assert_eq!(good["mismatches"], json!([]), "log and record tell the same");
        let page = twinlock(bed, &["audit", "report"]);
        assert!(page.contains("1 asked, 1 granted") && page.contains("bob + carol"), "{page}");

        // The gateway granted, and keeps no word of it; the host reports what was never noted.
        installation.agent.kill();
        installation.gateway.kill();
        installation.reaper.kill();
        for entry in fs::read_dir(world::GATEWAY_DIR).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("gateway.db") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        for mark in ["started", "ended"] {
            let _absent = fs::remove_file(Path::new(world::GRANTS_DIR).join(format!("{grant}.{mark}")));
        }
        installation.restart_reaper();
        installation.restart_gateway();
        installation.restart_agent();
        eventually("the host's word is refused and told", LIMIT, || {
            twinlock(bed, &["audit", "list"]).contains("report refused")
        });
        let told = report(bed);
        assert_eq!(told["totals"]["granted"], 0);
        let kinds: Vec<(&Value, &Value)> =
            told["mismatches"].as_array().unwrap().iter().map(|line| (&line["what"], &line["grant"])).collect();
        let grant = Value::from(grant);
        assert_eq!(kinds, [(&"never_issued".into(), &grant), (&"not_in_log".into(), &grant)]);
    });
}

// ---- past attacks -------------------------------------------------------------------------------

/// control: inline
#[test]
fn every_test_that_past_attacks_names_exists() {
    let script = workspace().join("tests/scripts/past-attacks");
    let check = |document: &[&Path]| Command::new(&script).args(document).output().unwrap();
    let done = check(&[]);
    assert!(done.status.success(), "{}", said(&done.stderr));
    let dir = tempfile::tempdir().unwrap();
    let document = dir.path().join("past-attacks.md");
    let row = |tests: &str| {
        fs::write(&document, format!("| a | b | c | tests |\n| --- | --- | --- | --- |\n| a | b | c | {tests} |\n"))
            .unwrap();
        check(&[document.as_path()])
    };
    assert!(row("`every_test_that_past_attacks_names_exists`").status.success());
    let unknown = row("`there_is_no_such_test`");
    assert!(!unknown.status.success() && said(&unknown.stderr).contains("there is no test `there_is_no_such_test`"));
    assert!(!row("a test").status.success(), "a row without a test");
}
