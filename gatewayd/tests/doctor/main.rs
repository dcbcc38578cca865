//! `twinlock doctor --root DIR` as a real process, on the files of a host that is in order, and on the
//! same files with holes in them. As root: the files must be root's.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::{Value, json};
use tempfile::TempDir;
use twinlock_protocol::UnixTime;
use twinlock_protocol::roster::BreakGlassKey;
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::slots::Slot;
use twinlock_protocol::softphone::Fixture;

const BLOCKS: [&str; 2] = [
    "# >>> twinlock: made by `twinlock enable`, taken out by `twinlock disable`; do not edit\naccount    required   pam_twinlock.so\n# <<< twinlock\n",
    "# >>> twinlock: made by `twinlock enable`, taken out by `twinlock disable`; do not edit\nsession    required   pam_twinlock.so\n# <<< twinlock\n",
];
const DENY: &str = "account required pam_deny.so\nsession required pam_deny.so\n";
const COMMON: &str = "account required pam_unix.so\nsession required pam_unix.so\n";

/// Writes a file below the root.
fn put(root: &Path, name: &str, bytes: impl AsRef<[u8]>, mode: u32) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The files of a host on which sudo and su are gated and nothing is wrong.
fn sound() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    let now = UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    let mut fixture = Fixture::new(b"ca", UnixTime(now.0 - 3600));
    for name in ["bob", "carol"] {
        let person = fixture.roster.persons.iter().find(|one| one.id.as_str() == name).unwrap().id.clone();
        let key = SigningKey::generate().unwrap().0.public();
        fixture.roster.break_glass_keys.push(BreakGlassKey { person, key });
    }
    let keys = fixture.roster.break_glass_keys.clone();
    let (envelope, _) = fixture.seal();
    let slot = Slot { sequence: 1, version: envelope.version, pin: envelope.digest, payload: envelope.to_bytes() };
    put(root, "var/lib/twinlock/roster/slot0", slot.encode().unwrap(), 0o640);
    let drill = json!({
        "version": 1, "when": now.0 - 60, "roster_digest": envelope.digest,
        "persons": keys.iter().map(|one| one.person.clone()).collect::<Vec<_>>(),
        "keys": keys.iter().map(|one| one.key).collect::<Vec<_>>(),
    });
    put(root, "var/lib/twinlock/break-glass/drill.json", twinlock_protocol::codec::encode(&drill), 0o600);
    put(root, "usr/lib/x86_64-linux-gnu/security/pam_twinlock.so", "", 0o644);
    put(root, "etc/twinlock/module.toml", "host = \"web01\"\n", 0o644);
    put(root, "etc/twinlock/host.key", "", 0o600);
    put(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n", 0o644);
    put(root, "etc/group", "root:x:0:\ndocker:x:990:\n", 0o644);
    put(root, "usr/bin/sudo", "", 0o4755);
    put(root, "etc/sudoers", "Defaults env_reset\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n", 0o440);
    for service in ["sudo", "sudo-i", "su", "su-l"] {
        put(root, &format!("etc/pam.d/{service}"), format!("{}@include common\n{}", BLOCKS[0], BLOCKS[1]), 0o644);
    }
    put(root, "etc/pam.d/common", COMMON, 0o644);
    put(root, "etc/pam.d/other", DENY, 0o644);
    dir
}

/// The exit status and the findings.
fn doctor(root: &Path) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinlock"));
    let output = command.args(["doctor", "--json", "--root"]).arg(root).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

/// `SEVERITY ID FILE:LINE` of warnings and failures.
fn wrong(said: &Value) -> Vec<String> {
    let all = said["findings"].as_array().unwrap();
    let bad = all.iter().filter(|one| ["warning", "failure"].contains(&one["severity"].as_str().unwrap()));
    let text = |one: &Value| {
        assert!(one["do"].is_string() && one["what"].is_string(), "{one}");
        let word = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}:{}", word("severity"), word("id"), word("file"), one["line"])
    };
    bad.map(text).collect()
}

/// Catalogue: P11 (control: inline)
#[test]
fn the_status_and_the_json_say_what_is_wrong_with_a_tree_and_where() {
    let dir = sound();
    let root = dir.path();
    let (status, said) = doctor(root);
    assert_eq!((status, wrong(&said)), (0, vec![]), "control");
    assert_eq!((&said["version"], &said["worst"]), (&json!(1), &json!("note")));

    put(root, "etc/group", "root:x:0:\ndocker:x:990:alice\n", 0o644);
    let (status, said) = doctor(root);
    assert_eq!((status, wrong(&said)), (1, vec!["warning way-group /etc/group:2".to_owned()]));

    let hole = format!("account sufficient pam_localuser.so\n{}@include common\n{}", BLOCKS[0], BLOCKS[1]);
    put(root, "etc/pam.d/sudo-i", hole, 0o644);
    put(root, "etc/sudoers.d/local", "\nDefaults:alice !pam_session\n", 0o440);
    put(root, "etc/twinlock/module.toml", "host = \"web01\"\nttl = 3\n", 0o644);
    let (status, said) = doctor(root);
    let mut found = wrong(&said);
    found.sort();
    assert_eq!(status, 2);
    assert_eq!(said["worst"], "failure");
    assert_eq!(
        found,
        [
            "failure config /etc/twinlock/module.toml:2",
            "failure pam-way-around /etc/pam.d/sudo-i:1",
            "failure sudo-settings /etc/sudoers.d/local:2",
            "warning way-group /etc/group:2",
        ]
    );

    let gone =
        Command::new(env!("CARGO_BIN_EXE_twinlock")).args(["doctor", "--root", "/nonexistent/root"]).output().unwrap();
    assert_eq!((gone.status.code(), gone.stdout.is_empty()), (Some(2), true));
}
