//! `host prepare` and `host join`: keys, pins and configurations.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use twinlock_protocol::Digest;
use twinlock_protocol::roster::{Host, RosterEnvelope, VerifiedRoster};
use twinlock_protocol::slots::{ROSTER_SLOT_BYTES, Slot};

use crate::ceremony::sealed;
use crate::site::{Place, text, twinlock};

fn join(place: &Place, host: &str, token: &str, more: &[&str]) -> Output {
    twinlock()
        .args(["host", "join", token, "--agent-user", "root", "--reaper-user", "root", "--group", "root", "--etc-dir"])
        .arg(place.path(host))
        .arg("--state-dir")
        .arg(place.path(&format!("{host}-state")))
        .arg("--roster")
        .arg(place.path("state/roster.json"))
        .args(more)
        .output()
        .unwrap()
}

/// A sealed roster with two hosts, and their tokens.
fn two_hosts() -> (Place, Digest, [String; 2]) {
    let place = Place::new();
    let announcements = [place.prepare("web01"), place.prepare("web02")];
    let (mut ceremony, digest, _) = sealed(&place, &[&announcements[0], &announcements[1]]);
    let mut token = || ceremony.until("join_token")["token"].as_str().unwrap().to_owned();
    let tokens = [token(), token()];
    (place, digest, tokens)
}

fn slot(place: &Place, name: &str) -> Option<Slot> {
    Slot::decode(&place.read(name)).ok()
}

#[test]
fn a_prepared_host_joins_and_pins_the_roster() {
    let (place, digest, [token, _]) = two_hosts();
    let joined = join(&place, "web01", &token, &[]);
    assert!(joined.status.success(), "{}", text(&joined));
    let pinned = slot(&place, "web01-state/roster/slot0").unwrap();
    assert_eq!((pinned.pin, pinned.version), (digest, 1));
    let envelope = RosterEnvelope::from_bytes(&pinned.payload).unwrap();
    assert!(VerifiedRoster::genesis(&envelope, &pinned.pin).is_ok());
    for name in ["slot0", "slot1"] {
        let metadata = std::fs::metadata(place.path("web01-state/roster").join(name)).unwrap();
        assert_eq!(metadata.len(), ROSTER_SLOT_BYTES, "{name} is preallocated");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    }
    let agent = twinlock_gatewayd::agent::config::Config::load(&place.path("web01/agent.toml")).unwrap();
    assert_eq!((agent.host.as_str(), agent.gateway.as_str()), ("web01", "gw.example.test:8444"));
    let gateway = twinlock_protocol::signature::SigningKey::from_pkcs8(&place.read("state/gateway.key")).unwrap();
    let spki = twinlock_certs::profile::subject_public_key_info(&gateway.public());
    assert_eq!(agent.gateway_key, Digest::plain(&spki).0);
    let module = String::from_utf8(place.read("web01/module.toml")).unwrap();
    assert!(module.starts_with("host = \"web01\"\n"), "{module}");

    // Again is the same; the newest pin stays valid throughout.
    let again = join(&place, "web01", &token, &[]);
    assert!(again.status.success(), "{}", text(&again));
    assert_eq!(slot(&place, "web01-state/roster/slot0").unwrap().sequence, 1);
    assert_eq!(slot(&place, "web01-state/roster/slot1").unwrap().sequence, 2);
}

/// Catalogue: E7 (control: a_prepared_host_joins_and_pins_the_roster)
#[test]
fn a_token_of_another_host_or_a_host_with_other_keys_does_not_join() {
    let (place, _, [token, other]) = two_hosts();
    let refused = join(&place, "web01", &other, &[]);
    assert!(
        !refused.status.success() && text(&refused).contains("not the key that the roster names"),
        "{}",
        text(&refused)
    );
    // A third machine that calls itself web01.
    place.prepare("web03");
    let refused = join(&place, "web03", &token, &[]);
    assert!(
        !refused.status.success() && text(&refused).contains("not the key that the roster names"),
        "{}",
        text(&refused)
    );
    assert!(!place.path("web03-state").exists() && !place.path("web03/module.toml").exists());
}

/// Catalogue: I2 (control: a_prepared_host_joins_and_pins_the_roster)
#[test]
fn another_roster_than_the_tokens_is_not_pinned() {
    let (place, _, [token, _]) = two_hosts();
    let (elsewhere, other, [other_token, _]) = two_hosts();
    std::fs::copy(elsewhere.path("state/roster.json"), place.path("state/other.json")).unwrap();
    let with = |path: &Path| {
        twinlock()
            .args(["host", "join", &token, "--agent-user", "root", "--reaper-user", "root", "--group", "root"])
            .arg("--etc-dir")
            .arg(place.path("web01"))
            .arg("--state-dir")
            .arg(place.path("web01-state"))
            .arg("--roster")
            .arg(path)
            .output()
            .unwrap()
    };
    let refused = with(&place.path("state/other.json"));
    assert!(!refused.status.success() && text(&refused).contains("not the pinned one"), "{}", text(&refused));
    // With a digest that lies about its bytes.
    let mut lying = RosterEnvelope::from_bytes(&place.read("state/other.json")).unwrap();
    lying.digest = RosterEnvelope::from_bytes(&place.read("state/roster.json")).unwrap().digest;
    std::fs::write(place.path("state/lying.json"), lying.to_bytes()).unwrap();
    assert!(text(&with(&place.path("state/lying.json"))).contains("not that of its bytes"));
    assert!(!place.path("web01-state/roster").exists());

    // A host that pins one roster takes another only when told to.
    assert!(with(&place.path("state/roster.json")).status.success());
    for name in ["host.key", "agent.key"] {
        std::fs::copy(elsewhere.path("web01").join(name), place.path("web01").join(name)).unwrap();
    }
    std::fs::copy(elsewhere.path("state/roster.json"), place.path("state/roster.json")).unwrap();
    let refused = join(&place, "web01", &other_token, &[]);
    assert!(!refused.status.success() && text(&refused).contains("--replace"), "{}", text(&refused));
    let replaced = join(&place, "web01", &other_token, &["--replace"]);
    assert!(replaced.status.success(), "{}", text(&replaced));
    // In both slots: if one tears, the host must not fall back to what was replaced.
    for name in ["slot0", "slot1"] {
        assert_eq!(slot(&place, &format!("web01-state/roster/{name}")).unwrap().pin, other, "{name}");
    }
}

#[test]
fn preparing_again_says_the_same_and_keeps_the_keys() {
    let place = Place::new();
    let first = std::fs::read(place.prepare("web01")).unwrap();
    let key = place.read("web01/host.key");
    let second = std::fs::read(place.prepare("web01")).unwrap();
    assert_eq!(first, second);
    assert_eq!(place.read("web01/host.key"), key);
    let host: Host = serde_json::from_slice(&first).unwrap();
    assert_eq!((host.id.as_str(), host.name.as_str()), ("web01", "web01"));
    assert_ne!(host.host_key, host.agent_key);
    for name in ["host.key", "agent.key"] {
        let mode = std::fs::metadata(place.path("web01").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    // What is no key is not overwritten.
    std::fs::write(place.path("web01/host.key"), b"precious").unwrap();
    let output = twinlock()
        .args(["host", "prepare", "--agent-user", "root", "--name", "web01", "--etc-dir"])
        .arg(place.path("web01"))
        .output()
        .unwrap();
    assert!(!output.status.success() && text(&output).contains("is no P-256 key"), "{}", text(&output));
    assert_eq!(place.read("web01/host.key"), b"precious");
}
