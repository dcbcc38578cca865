//! What the ceremony made is what a gateway starts from; and the commands that talk to one, or to
//! nobody.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::ceremony::sealed;
use crate::site::{HOST, Place, text, twinlock};

/// A running `serve` over a sealed state.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(place: &Place, origin: &str) -> Gateway {
    let config = format!(
        "origin = \"{origin}\"\nstate_dir = \"{0}/state\"\n[approver]\nlisten = \"127.0.0.1:0\"\n\
         tls_cert = \"{0}/web.crt\"\ntls_key = \"{0}/web.key\"\n[agents]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nsocket = \"{0}/admin.sock\"\n",
        place.dir.path().display()
    );
    std::fs::write(place.path("gateway.toml"), config).unwrap();
    let log = std::fs::File::create(place.path("log")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_twinlock-gatewayd"))
        .args(["serve", "--config"])
        .arg(place.path("gateway.toml"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !place.path("admin.sock").exists() {
        let log = || String::from_utf8_lossy(&place.read("log")).into_owned();
        assert!(child.try_wait().unwrap().is_none(), "the gateway did not start: {}", log());
        assert!(begun.elapsed() < Duration::from_secs(20), "no admin socket: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    Gateway(child)
}

#[test]
fn a_gateway_starts_from_what_the_ceremony_sealed_and_answers_its_administrator() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the admin socket is root's");
        return;
    }
    let place = Place::new();
    let host = place.prepare("web01");
    let (mut ceremony, digest, _) = sealed(&place, &[&host]);
    let origin = ceremony.origin.clone();
    assert!(ceremony.wait().0);
    let gateway = start(&place, &origin);
    let ask = |arguments: &[&str]| {
        let output = twinlock().args(arguments).arg("--socket").arg(place.path("admin.sock")).output().unwrap();
        (output.status.success(), text(&output))
    };
    assert_eq!(ask(&["requests"]), (true, "nothing waits\n".to_owned()));
    assert_eq!(ask(&["requests", "--json"]), (true, "[]\n".to_owned()));
    assert_eq!(ask(&["grants"]), (true, "no requests yet\n".to_owned()));
    let (listed, log) = ask(&["audit", "list"]);
    assert!(listed && log.contains("gateway started"), "{log}");
    let (_, rows) = ask(&["audit", "list", "--json"]);
    let first: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert!(
        first["event"].as_str().is_some_and(|event| rows.contains(&digest.0.to_text()) && !event.is_empty()),
        "{rows}"
    );
    let nobody = "a".repeat(26);
    let (revoked, why) = ask(&["revoke", &nobody]);
    assert!(!revoked && why.starts_with("twinlock: error: not found\ntwinlock: hint: "), "{why}");
    let (shown, why) = ask(&["audit", "show", &nobody, "--state-dir", place.path("state").to_str().unwrap()]);
    assert!(!shown && why.starts_with("twinlock: error: not found"), "{why}");
    // A pin from elsewhere decides, not the gateway's own file.
    let wrong = "0".repeat(64);
    let (shown, why) =
        ask(&["audit", "show", &nobody, "--pin", &wrong, "--state-dir", place.path("state").to_str().unwrap()]);
    assert!(!shown && why.contains("none of the rosters has the digest"), "{why}");
    drop(gateway);
    assert!(!origin.is_empty() && origin.contains(HOST));
}

#[test]
fn commands_without_anybody_to_talk_to_say_so_and_what_to_do() {
    let place = Place::new();
    for arguments in [
        &["requests"][..],
        &["grants"],
        &["revoke", &"a".repeat(26)],
        &["audit", "list"],
        &["approver", "invite", "erin"],
    ] {
        let output = twinlock().args(arguments).arg("--socket").arg(place.path("none.sock")).output().unwrap();
        let said = text(&output);
        assert!(!output.status.success() && said.contains("twinlock: error: cannot reach the gateway"), "{said}");
        assert!(said.contains("twinlock: hint: "), "{said}");
    }
    let output = twinlock().args(["drop", "--socket"]).arg(place.path("none.sock")).output().unwrap();
    assert!(text(&output).contains("cannot reach the reaper"), "{}", text(&output));
    let output = twinlock().args(["revoke", "../../x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}
