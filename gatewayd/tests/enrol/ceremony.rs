//! The ceremony end to end, and what may not happen in it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use twinlock_protocol::Digest;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};

use crate::site::{Ceremony, Guest, Place, text, twinlock};

/// Two people enrol and sign; the envelope is on disk.
pub fn sealed(place: &Place, hosts: &[&Path]) -> (Ceremony, Digest, Vec<Guest>) {
    let mut ceremony = place.start(&mut place.init(hosts));
    let guests = vec![ceremony.guest(), ceremony.guest()];
    for guest in &guests {
        let (status, body) = guest.enrol(&ceremony);
        assert_eq!(
            (status, &body["state"], &body["device"]["assurance"]),
            (200, &json!("wait"), &json!("C")),
            "{body}"
        );
    }
    let composed = ceremony.until("composed");
    assert_eq!(guests[0].sign(&ceremony).1, json!({ "state": "wait" }));
    assert_eq!(guests[1].sign(&ceremony).1, json!({ "state": "sealed" }));
    let sealed = ceremony.until("sealed");
    assert_eq!(sealed["digest"], composed["digest"]);
    let digest = serde_json::from_value(sealed["digest"].clone()).unwrap();
    (ceremony, digest, guests)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn two_people_enrol_and_sign_and_the_gateway_has_what_it_needs() {
    let place = Place::new();
    let host = place.prepare("web01");
    let (mut ceremony, digest, guests) = sealed(&place, &[&host]);
    assert_eq!(guests[0].status(&ceremony)["state"], "sealed", "open pages hear the end");
    assert!(ceremony.until("join_token")["token"].as_str().unwrap().starts_with("twinlock-join-1."));
    assert_eq!(ceremony.wait(), (true, String::new()));

    let envelope = RosterEnvelope::from_bytes(&place.read("state/roster.json")).unwrap();
    let roster = VerifiedRoster::genesis(&envelope, &digest).unwrap();
    assert_eq!(place.read("state/roster.pin"), digest.0.to_text().as_bytes());
    let ca = place.read("state/ca.der");
    assert_eq!(roster.roster().cas[0].certificate.0, ca);
    let ca = twinlock_certs::issue::Ca::load(&ca, &place.read("state/ca.key"));
    assert!(ca.is_ok());
    assert!(twinlock_protocol::signature::SigningKey::from_pkcs8(&place.read("state/gateway.key")).is_ok());
    for name in ["ca.key", "ca.der", "gateway.key", "roster.json", "roster.pin"] {
        assert_eq!(mode(&place.path("state").join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&place.path("state")), 0o700);
    let left = std::fs::read_dir(place.path("state")).unwrap().count();
    assert_eq!(left, 5, "no temporary file stays");

    // A second ceremony over it is refused before it asks anybody.
    let again = place.init(&[&host]).output().unwrap();
    assert!(!again.status.success() && text(&again).contains("sealed already"), "{}", text(&again));
}

/// Catalogue: E2 (control: two_people_enrol_and_sign_and_the_gateway_has_what_it_needs)
#[test]
fn a_link_is_worth_nothing_to_others_or_twice() {
    let place = Place::new();
    let host = place.prepare("web01");
    let mut ceremony = place.start(&mut place.init(&[&host]));
    let (bob, carol) = (ceremony.guest(), ceremony.guest());
    let problem = |(status, body): (u16, Value)| (status, body["type"].as_str().unwrap_or_default().to_owned());
    let invalid = (404, "urn:twinlock:problem:invite-invalid".to_owned());
    let start = |invite: &str| problem(ceremony.call("/api/v1/enrol/start", &json!({ "invite": invite })));
    assert_eq!(start(&"A".repeat(26)), invalid);
    assert_eq!(start("../../etc/passwd"), invalid);
    assert_eq!(bob.start(&ceremony)["person"], json!({ "id": "bob", "name": "Bob Jones" }));
    assert_eq!(bob.enrol(&ceremony).0, 200);
    // The link again: the person waits, nobody enrols a second device.
    let again = bob.start(&ceremony);
    assert_eq!((&again["state"], &again["creation"]), (&json!("wait"), &Value::Null));
    // Two at the same time: one wins.
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| carol.enrol(&ceremony).0);
        let two = scope.spawn(|| carol.enrol(&ceremony).0);
        (one.join().unwrap_or(0), two.join().unwrap_or(0))
    });
    assert_eq!([one, two].iter().filter(|status| **status == 200).count(), 1, "{one} {two}");
}

/// Catalogue: W1 (control: inline)
#[test]
fn calls_that_our_page_would_not_make_are_refused() {
    let place = Place::new();
    let host = place.prepare("web01");
    let mut ceremony = place.start(&mut place.init(&[&host]));
    let bob = ceremony.guest();
    let origin = ceremony.origin.clone();
    let ours = [("content-type", "application/json"), ("x-twinlock", "1"), ("origin", origin.as_str())];
    let body = json!({ "invite": bob.invite }).to_string();
    let send = |headers: &[(&str, &str)]| ceremony.send("POST", "/api/v1/enrol/start", headers, body.as_bytes()).0;
    assert_eq!(send(&ours), 200);
    for left_out in 0..3 {
        let headers: Vec<_> = ours.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, one)| *one).collect();
        assert_eq!(send(&headers), 403, "without {}", ours[left_out].0);
    }
    let with = |name: &'static str, value: &'static str| {
        let mut headers = ours.to_vec();
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
        send(&headers)
    };
    assert_eq!(with("origin", "https://evil.example"), 403);
    assert_eq!(with("origin", "null"), 403);
    assert_eq!(with("content-type", "text/plain"), 403);
    assert_eq!(with("sec-fetch-site", "cross-site"), 403);
    assert_eq!(with("host", "rebound.evil.example"), 403);
    assert_eq!(with("sec-fetch-site", "same-origin"), 200);
    // Strict bodies, and none that is too long.
    let raw = |body: &str| ceremony.send("POST", "/api/v1/enrol/start", &ours, body.as_bytes()).0;
    assert_eq!(raw(&format!(r#"{{"invite":"{}","x":1}}"#, bob.invite)), 400);
    assert_eq!(raw(&format!(r#"{{"invite":"{0}","invite":"{0}"}}"#, bob.invite)), 400);
    assert_eq!(raw(&format!(r#"{{"invite":"{}"}}"#, "A".repeat(70_000))), 400);
    // The document is the same whatever the link, and opening it changes nothing.
    let page = |path: &str| ceremony.send("GET", path, &[], b"");
    assert_eq!(page("/E/AAAA"), page(&format!("/E/{}", bob.invite)));
    assert_eq!(bob.start(&ceremony)["state"], "enrol");
}

/// Catalogue: G2 (control: two_people_enrol_and_sign_and_the_gateway_has_what_it_needs)
#[test]
fn a_ceremony_that_is_given_up_leaves_nothing_half_sealed() {
    let place = Place::new();
    let host = place.prepare("web01");
    let mut ceremony = place.start(&mut place.init(&[&host]));
    let guests = [ceremony.guest(), ceremony.guest()];
    for guest in &guests {
        assert_eq!(guest.enrol(&ceremony).0, 200);
    }
    ceremony.until("composed");
    assert_eq!(guests[0].sign(&ceremony).0, 200);
    let pid = rustix::process::Pid::from_raw(i32::try_from(ceremony.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let (succeeded, error) = ceremony.wait();
    assert!(!succeeded && error.contains("given up"), "{error}");
    assert_eq!(std::fs::read_dir(place.path("state")).unwrap().count(), 0);
    drop(ceremony);
    // And the next one begins.
    sealed(&place, &[&host]);
}

#[test]
fn a_plan_that_could_not_be_sealed_is_refused_before_anybody_is_asked() {
    let place = Place::new();
    let host = place.prepare("web01");
    let refused = |change: &dyn Fn(&mut std::process::Command), why: &str| {
        let mut command = place.init(&[&host]);
        change(&mut command);
        let output = command.output().unwrap();
        assert!(!output.status.success() && text(&output).contains(why), "{why}: {}", text(&output));
        assert!(output.stdout.is_empty(), "{why}");
    };
    refused(&|command| _ = command.args(["--person", "erin=Erin:bob:requester"]), "a login maps to two persons");
    refused(&|command| _ = command.args(["--person", "bob=Robert:robert:requester"]), "a person id appears twice");
    refused(&|command| _ = command.arg("--host").arg(&host), "appears twice");
    refused(&|command| _ = command.args(["--days", "400"]), "366 days");
    refused(&|command| _ = command.args(["--max-ttl", "7200"]), "max_ttl_s is 1 to 3600");
    refused(&|command| _ = command.args(["--person", "\u{202e}x=X:x:both"]), "no id");
    let alone = twinlock()
        .args(["init", "--origin", "https://10.0.0.1", "--gateway", "gw:1", "--person", "bob=Bob:bob:approver"])
        .args(["--person", "carol=Carol:carol:approver", "--owner", "root", "--host"])
        .arg(&host)
        .arg("--tls-cert")
        .arg(place.path("web.crt"))
        .arg("--tls-key")
        .arg(place.path("web.key"))
        .arg("--state-dir")
        .arg(place.path("elsewhere"))
        .output()
        .unwrap();
    assert!(text(&alone).contains("rp_id is a lower-case DNS name"), "{}", text(&alone));
}
