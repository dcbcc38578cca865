//! The command line of break-glass, as people run it: a drill on a host, answers from other machines.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use data_encoding::BASE64;
use twinlock_protocol::DenyReason;
use twinlock_protocol::UnixTime;
use twinlock_protocol::break_glass::{Answer, BreakGlassEvidence, Purpose, challenge, verify_answer, verify_evidence};
use twinlock_protocol::slots::{ROSTER_SLOTS, Slot};
use twinlock_protocol::softphone::{Fixture, Holder};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// A host that pins a roster, and the machines of people with keys.
struct Scene {
    dir: tempfile::TempDir,
    fixture: Fixture,
    holders: Vec<Holder>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::new(b"a CA", NOW);
        let holders = fixture.break_glass(&["bob", "carol"]);
        let (envelope, _) = fixture.seal();
        let slot = Slot { sequence: 1, version: 1, pin: envelope.digest, payload: envelope.to_bytes() };
        std::fs::write(dir.path().join(ROSTER_SLOTS[0]), slot.encode().unwrap()).unwrap();
        std::fs::write(dir.path().join("module.toml"), "host = \"web01\"\n").unwrap();
        for holder in &holders {
            let pem =
                format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(&holder.pkcs8));
            std::fs::write(dir.path().join(format!("{}.key", holder.entry.person)), pem).unwrap();
        }
        Self { dir, fixture, holders }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn host(&self, words: &[&str]) -> Command {
        let mut command = twinlock();
        command.arg("break-glass").args(words).arg("--roster-dir").arg(self.dir.path());
        command.arg("--config").arg(self.path("module.toml")).arg("--dir").arg(self.path("break-glass"));
        command
    }

    /// What `person` answers to this text.
    fn approve(&self, person: &str, more: &[&str], typed: &str) -> Output {
        let mut command = twinlock();
        command.args(["approve", "--offline", "--person", person]).args(more);
        command.arg("--key").arg(self.path(&format!("{person}.key")));
        fed(command, typed)
    }

    fn answer(&self, person: &str, challenge: &str) -> String {
        let output = self.approve(person, &[], &format!("{challenge}\nyes\n"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn twinlock() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinlock"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("SSH_AUTH_SOCK");
    command
}

fn fed(mut command: Command, typed: &str) -> Output {
    let mut child = command.spawn().unwrap();
    // It may have said no before it read all.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    child.wait_with_output().unwrap()
}

/// A drill that waits for its answers, and its challenge.
fn drill(scene: &Scene) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut child = scene.host(&["drill"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("-----END TWINLOCK DRILL-----") {
        assert_ne!(out.read_line(&mut text).unwrap(), 0, "{text}");
    }
    (child, out, text)
}

fn finish(mut child: Child, mut out: impl std::io::Read, typed: &str) -> (bool, String) {
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let mut said = String::new();
    out.read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().success(), said)
}

#[test]
fn a_drill_of_two_people_is_recorded_and_one_persons_is_not() {
    let scene = Scene::new();
    let file = scene.path("break-glass").join("drill.json");
    let (child, out, asked) = drill(&scene);
    let bob = scene.answer("bob", &asked);
    let again = scene.answer("bob", &asked);
    let typed = format!("{bob}\n{again}\nnonsense\n{}\n{again}\n{again}\n{again}\n", &bob[..40]);
    let (done, said) = finish(child, out, &typed);
    assert!(!done && said.contains("same person again") && said.contains("too many wrong answers"), "{said}");
    assert!(!file.exists());

    let (child, out, fresh) = drill(&scene);
    assert_ne!(fresh, asked);
    // The answers of the drill before are nobody's now.
    let typed = format!("{bob}\n{}\n{}\n", scene.answer("bob", &fresh), scene.answer("carol", &fresh));
    let (done, said) = finish(child, out, &typed);
    assert!(done && said.contains("not taken") && said.contains("both keys work"), "{said}");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (_, roster) = scene.fixture.seal();
    let keys: Vec<String> = scene.holders.iter().map(|holder| holder.entry.key.to_text()).collect();
    assert_eq!(record["persons"], serde_json::json!(["bob", "carol"]));
    assert_eq!((&record["version"], &record["keys"]), (&1.into(), &serde_json::json!(keys)));
    assert_eq!(record["roster_digest"], serde_json::to_value(roster.digest()).unwrap());

    let status = scene.host(&["status"]).output().unwrap();
    let said = String::from_utf8(status.stdout).unwrap();
    assert!(said.contains("by bob and carol") && !said.contains("DUE"), "{said}");
}

/// What somebody signs is the request that they read, and it opens where they say.
#[test]
fn two_offline_approvals_verify_and_say_what_they_are() {
    let scene = Scene::new();
    let (_, roster) = scene.fixture.seal();
    let (request, _) = scene.fixture.verified_request(&roster);
    let text = challenge(Purpose::Grant, &request.signed().request.0);
    let shown = scene.approve("bob", &[], &format!("{text}\nyes\n"));
    let words = String::from_utf8(shown.stderr).unwrap();
    for part in ["BREAK-GLASS", "systemctl restart nginx", "alice", "as       root", "web01", "at most 10:00"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(words.contains(&request.id().grant().to_string()), "{words}");
    let read = |text: &str| Answer::from_text(text).unwrap();
    let (bob, carol) = (read(std::str::from_utf8(&shown.stdout).unwrap()), read(&scene.answer("carol", &text)));
    let evidence = BreakGlassEvidence::new(request.id(), [&bob, &carol]).to_bytes();
    assert_eq!(verify_evidence(&roster, &request, &evidence).unwrap().ttl_s(), 600);

    let short = scene.approve("bob", &["--minutes", "2"], &format!("{text}\nyes\n"));
    assert_eq!(read(std::str::from_utf8(&short.stdout).unwrap()).ttl_s, 120);
    let no = scene.approve("bob", &["--deny"], &format!("{text}\nyes\n"));
    let no = read(std::str::from_utf8(&no.stdout).unwrap());
    assert_eq!(verify_answer(&roster, &request, &no), Err(DenyReason::Denied));
}

#[test]
fn nothing_is_signed_without_a_whole_challenge_a_yes_and_a_key() {
    let scene = Scene::new();
    let (_, roster) = scene.fixture.seal();
    let (request, _) = scene.fixture.verified_request(&roster);
    let text = challenge(Purpose::Grant, &request.signed().request.0);
    let refused = |output: &Output, part: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty() && said.contains(part), "{part}: {said}");
    };
    for typed in ["no\n", "y\n", "\n", ""] {
        refused(&scene.approve("bob", &[], &format!("{text}\n{typed}")), "nothing was signed");
    }
    let (cut, _) = text.split_at(text.len() / 2);
    refused(&scene.approve("bob", &[], cut), "no whole challenge");
    refused(&scene.approve("bob", &[], "yes\n"), "no whole challenge");
    let drill = challenge(Purpose::Drill, &request.signed().request.0);
    refused(&scene.approve("bob", &[], &format!("{drill}\nyes\n")), "no whole challenge");
    refused(&scene.approve("bob", &["--minutes", "16"], &format!("{text}\nyes\n")), "16");
    let mut other = twinlock();
    other.args(["approve", "--offline", "--person", "bob", "--key"]).arg(scene.path("module.toml"));
    refused(&fed(other, &format!("{text}\nyes\n")), "no P-256 private key");
    let mut other = twinlock();
    other.args(["approve", "--offline", "--agent", "--person", "bob"]);
    refused(&fed(other, &format!("{text}\nyes\n")), "no ssh-agent");
    let mut other = twinlock();
    other.args(["approve", "--offline", "--key"]).arg(scene.path("bob.key"));
    refused(&fed(other, &format!("{text}\nyes\n")), "whose key");
    assert!(!scene.answer("bob", &text).is_empty(), "control");
}

#[test]
fn keygen_makes_a_key_that_signs_and_overwrites_none() {
    let scene = Scene::new();
    let keygen = |path: &Path| {
        let mut command = twinlock();
        command.args(["break-glass", "keygen", "--person", "erin", "--out"]).arg(path);
        command.output().unwrap()
    };
    let path = scene.path("erin.key");
    let made = keygen(&path);
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && said.contains("words:") && said.contains("key add erin"), "{said}");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!keygen(&path).status.success());
    let (_, roster) = scene.fixture.seal();
    let (request, _) = scene.fixture.verified_request(&roster);
    let text = challenge(Purpose::Grant, &request.signed().request.0);
    // Its file says whose it is.
    let mut command = twinlock();
    command.args(["approve", "--offline", "--key"]).arg(&path);
    let output = fed(command, &format!("{text}\nyes\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer = Answer::from_text(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    assert_eq!(verify_answer(&roster, &request, &answer), Err(DenyReason::ApproverUnknown), "not in the roster yet");
}
