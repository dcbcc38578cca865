//! The people and the PAM and sudo configuration of a bed: Debian 12's stock files,
//! whatever the host's own look like, and users with a known password.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::mounts::make_dir;

/// Every person's password in a bed, root's too (su asks for it).
pub const PASSWORD: &str = "correct horse";
const HASH: &str = "$6$twinlock$A7C8p4HjbLajc9mqzKtkgShJFuG2tXB6OYk9BpGuIOSvQQ8bUDCoe6Oy7kOiZIVtBrzDp5Xdst4e125fEvGI/1";

/// The bed's host name.
pub const HOST: &str = "web01";

/// Login name and uid (the gid is the same) of the people.
pub const PEOPLE: &[(&str, u32)] =
    &[("alice", 1001), ("bob", 1002), ("carol", 1003), ("dave", 1004), ("mallory", 1005)];
/// The group that may read the roster.
pub const GROUP: (&str, u32) = ("twinlock", 770);
/// Name and uid of the system users.
pub const SERVICES: &[(&str, u32)] = &[("twinlock-agent", 771), ("twinlock-reaper", 772), ("twinlock-gateway", 773)];

/// PAM services that a bed wires.
pub const WIRED: &[&str] = &["sudo", "sudo-i", "su", "su-l"];

const SUDO: &str = "session required pam_limits.so\n@include common-auth\n@include common-account\n@include common-session-noninteractive\n";
const SUDO_I: &str =
    "session required pam_limits.so\n@include common-auth\n@include common-account\n@include common-session\n";
const SU: &str = "auth sufficient pam_rootok.so\nsession required pam_env.so readenv=1\nsession required pam_env.so readenv=1 envfile=/etc/default/locale\nsession optional pam_mail.so nopen\nsession required pam_limits.so\n@include common-auth\n@include common-account\n@include common-session\n";
const SU_L: &str = "auth include su\naccount include su\npassword include su\nsession optional pam_keyinit.so force revoke\nsession include su\n";
const AUTH: &str =
    "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n";
const ACCOUNT: &str = "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\naccount requisite pam_deny.so\naccount required pam_permit.so\n";
const SESSION: &str = "session [default=1] pam_permit.so\nsession requisite pam_deny.so\nsession required pam_permit.so\nsession required pam_unix.so\n";
const CHANGE: &str = "password [success=1 default=ignore] pam_unix.so obscure yescrypt\npassword requisite pam_deny.so\npassword required pam_permit.so\n";

/// Debian's sudoers; alice alone may use sudo.
const SUDOERS: &str = "Defaults env_reset\nDefaults mail_badpass\nDefaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\nDefaults use_pty\nroot ALL=(ALL:ALL) ALL\nalice ALL=(ALL:ALL) ALL\n";

type Result<T> = std::result::Result<T, String>;

/// Writes everything, as pid 1 of a bed whose /etc is an overlay.
pub(crate) fn write() -> Result<()> {
    put("/proc/sys/kernel/hostname", HOST)?;
    put("/etc/hostname", &format!("{HOST}\n"))?;
    put("/etc/hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {HOST}\n::1 localhost\n"))?;
    put(
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\ngshadow: files\nhosts: files\nservices: files\nprotocols: files\n",
    )?;
    users()?;
    for (service, _) in [("sudo", ()), ("sudo-i", ()), ("su", ()), ("su-l", ())] {
        put(&format!("/etc/pam.d/{service}"), stock(service))?;
    }
    put("/etc/pam.d/common-auth", AUTH)?;
    put("/etc/pam.d/common-account", ACCOUNT)?;
    put("/etc/pam.d/common-session", SESSION)?;
    put("/etc/pam.d/common-session-noninteractive", SESSION)?;
    put("/etc/pam.d/common-password", CHANGE)?;
    sudoers("")?;
    loopback_up()
}

/// The stock stack of a service, without any line of ours.
pub(crate) fn stock(service: &str) -> &'static str {
    match service {
        "sudo" => SUDO,
        "sudo-i" => SUDO_I,
        "su" => SU,
        "su-l" => SU_L,
        other => panic!("{other} is not among the wired services"),
    }
}

/// Debian's sudoers with `extra` at its end, and no drop-ins.
pub(crate) fn sudoers(extra: &str) -> Result<()> {
    let _ = fs::remove_dir_all("/etc/sudoers.d");
    make_dir(Path::new("/etc/sudoers.d"), 0o750)?;
    put("/etc/sudoers", &format!("{SUDOERS}{extra}\n"))?;
    mode("/etc/sudoers", 0o440)
}

fn users() -> Result<()> {
    let mut passwd = without_ours("/etc/passwd")?;
    let mut group = without_ours("/etc/group")?;
    let mut shadow = without_ours("/etc/shadow")?;
    let mut gshadow = without_ours("/etc/gshadow").unwrap_or_default();
    shadow = shadow.lines().filter(|l| !l.starts_with("root:")).fold(String::new(), add_line);
    shadow.push_str(&format!("root:{HASH}:19700:0:99999:7:::\n"));
    let members: Vec<_> = SERVICES.iter().take(2).map(|(name, _)| *name).collect();
    group.push_str(&format!("{}:x:{}:{}\n", GROUP.0, GROUP.1, members.join(",")));
    gshadow.push_str(&format!("{}:!::{}\n", GROUP.0, members.join(",")));
    for (name, id) in PEOPLE {
        passwd.push_str(&format!("{name}:x:{id}:{id}::/home/{name}:/bin/bash\n"));
        shadow.push_str(&format!("{name}:{HASH}:19700:0:99999:7:::\n"));
    }
    for (name, id) in SERVICES {
        passwd.push_str(&format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n"));
        shadow.push_str(&format!("{name}:!*:19700::::::\n"));
    }
    for (name, id) in PEOPLE.iter().chain(SERVICES) {
        group.push_str(&format!("{name}:x:{id}:\n"));
        gshadow.push_str(&format!("{name}:!::\n"));
    }
    put("/etc/passwd", &passwd)?;
    put("/etc/group", &group)?;
    put("/etc/shadow", &shadow)?;
    put("/etc/gshadow", &gshadow)?;
    mode("/etc/shadow", 0o640)?;
    mode("/etc/gshadow", 0o640)?;
    make_dir(Path::new("/var/lib/sudo/lectured"), 0o700)?;
    for (name, id) in PEOPLE {
        let home = format!("/home/{name}");
        make_dir(Path::new(&home), 0o700)?;
        chown(&home, Some(*id), Some(*id)).map_err(|e| format!("{home}: {e}"))?;
        // sudo lectures each person once; the terminal's rows are ours.
        put(&format!("/var/lib/sudo/lectured/{name}"), "")?;
    }
    Ok(())
}

/// The host's file without lines that carry one of our names or ids.
fn without_ours(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let ours = |line: &&str| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next().unwrap_or(""), fields.nth(1).unwrap_or(""));
        let all = || PEOPLE.iter().chain(SERVICES).chain([&GROUP]);
        !all().any(|(n, i)| *n == name || i.to_string() == id)
    };
    Ok(text.lines().filter(ours).fold(String::new(), add_line))
}

fn add_line(mut text: String, line: &str) -> String {
    text.push_str(line);
    text.push('\n');
    text
}

fn loopback_up() -> Result<()> {
    let done = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("ip link set lo up: {other:?} (package iproute2)")),
    }
}

/// Replaces a file below /etc or /var by a new one with mode 0644.
pub(crate) fn put(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| format!("{path}: {e}"))
}

pub(crate) fn mode(path: &str, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| format!("{path}: {e}"))
}
