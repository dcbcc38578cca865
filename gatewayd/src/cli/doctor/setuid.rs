//! Programs that run as root whoever starts them: setuid bits anywhere, file capabilities where
//! programs usually are. Those that Debian and RHEL install themselves are left out; each of them asks
//! PAM, polkit, or lets nobody become root.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::below::Below;

/// Entries of directories that are looked at; a server with more has its own tools.
const MOST: usize = 3_000_000;
/// Not files of this system.
const SKIPPED: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];
/// Where programs with capabilities are looked for.
const PROGRAMS: [&str; 10] = [
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/lib",
    "/opt",
];
/// Capabilities with which a program is root, or as good as (capability.h).
const CAPABILITIES: [(u32, &str); 11] = [
    (0, "cap_chown"),
    (1, "cap_dac_override"),
    (2, "cap_dac_read_search"),
    (3, "cap_fowner"),
    (6, "cap_setgid"),
    (7, "cap_setuid"),
    (16, "cap_sys_module"),
    (17, "cap_sys_rawio"),
    (19, "cap_sys_ptrace"),
    (21, "cap_sys_admin"),
    (31, "cap_setfcap"),
];
/// The usual ones: the ends of their paths.
const USUAL: [&str; 57] = [
    "bin/sudo",
    "bin/sudoedit",
    "bin/sudo-rs",
    "bin/su-rs",
    "bin/su",
    "bin/visudo-rs",
    "bin/passwd",
    "bin/chfn",
    "bin/chsh",
    "bin/gpasswd",
    "bin/newgrp",
    "bin/chage",
    "bin/expiry",
    "bin/mount",
    "bin/umount",
    "bin/pkexec",
    "bin/crontab",
    "bin/at",
    "bin/fusermount",
    "bin/fusermount3",
    "bin/ping",
    "bin/ping6",
    "bin/ntfs-3g",
    "bin/newuidmap",
    "bin/newgidmap",
    "bin/bwrap",
    "bin/staprun",
    "bin/ksu",
    "bin/mtr-packet",
    "bin/procmail",
    "bin/vmware-user-suid-wrapper",
    "bin/fping",
    "bin/traceroute6.iputils",
    "sbin/unix_chkpwd",
    "sbin/pam_timestamp_check",
    "sbin/grub2-set-bootflag",
    "sbin/mount.nfs",
    "sbin/mount.nfs4",
    "sbin/mount.cifs",
    "sbin/mount.ecryptfs_private",
    "sbin/usernetctl",
    "sbin/userhelper",
    "sbin/exim4",
    "sbin/pppd",
    "sbin/clockdiff",
    "sbin/arping",
    "sbin/suexec",
    "sbin/lockdev",
    "lib/openssh/ssh-keysign",
    "libexec/openssh/ssh-keysign",
    "lib/dbus-1.0/dbus-daemon-launch-helper",
    "libexec/dbus-1/dbus-daemon-launch-helper",
    "polkit-1/polkit-agent-helper-1",
    "lib/xorg/Xorg.wrap",
    "libexec/Xorg.wrap",
    "lib/snapd/snap-confine",
    "libexec/sssd/krb5_child",
];
/// More usual ones, that a version or a module stands in the path of.
const USUAL_PARTS: [&str; 5] =
    ["/libexec/sssd/", "/lib/eject/", "/chrome-sandbox", "/spice-gtk", "/libexec/cockpit-session"];

/// A program that runs with more than its caller has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileged {
    /// Where.
    pub path: PathBuf,
    /// `the setuid bit`, or its capabilities.
    pub how: String,
}

/// The root of another system's tree that a path lies in: an image, a container, a backup.
#[must_use]
pub fn other_system(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?;
    let at = ["/usr/", "/bin/", "/sbin/"].iter().filter_map(|dir| text.find(dir)).min()?;
    let (root, inside) = text.split_at_checked(at)?;
    (!root.is_empty() && is_usual(Path::new(inside))).then(|| root.into())
}

impl Privileged {
    /// What takes that away.
    #[must_use]
    pub fn remedy(&self) -> String {
        let path = self.path.display();
        if self.how.starts_with("cap_") { format!("setcap -r {path}") } else { format!("chmod u-s {path}") }
    }
}

/// The unusual ones, and whether the search came to its end.
#[must_use]
pub fn search(below: &Below) -> (Vec<Privileged>, bool) {
    let mut search = Search { below, left: MOST, found: Vec::new() };
    let devices = devices(below);
    let root = Path::new("/");
    search.walk(root, &devices, &mut |path, meta, found| {
        if meta.uid() == 0 && meta.mode() & 0o4000 != 0 && meta.mode() & 0o111 != 0 && !is_usual(path) {
            found.push(Privileged { path: path.to_owned(), how: "the setuid bit".to_owned() });
        }
    });
    let done = search.left > 0;
    let mut found = search.found;
    let dirs: BTreeSet<PathBuf> = PROGRAMS.iter().map(|dir| below.resolved(Path::new(dir))).collect();
    let mut search = Search { below, left: MOST, found: Vec::new() };
    for dir in &dirs {
        search.walk(dir, &devices, &mut |path, meta, found| {
            if meta.mode() & 0o111 != 0
                && let Some(how) = capabilities(&below.on_disk(path))
                && !is_usual(path)
            {
                found.push(Privileged { path: path.to_owned(), how });
            }
        });
    }
    found.append(&mut search.found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    (found, done)
}

/// The file systems of the root and of the directories that are often mounted apart.
fn devices(below: &Below) -> BTreeSet<u64> {
    let apart = ["/", "/usr", "/var", "/home", "/opt", "/srv", "/tmp", "/var/tmp", "/usr/local", "/root", "/boot"];
    apart.iter().filter_map(|path| below.meta(path)).map(|meta| meta.dev()).collect()
}

fn is_usual(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let system = ["/usr/bin/", "/usr/sbin/", "/usr/lib", "/bin/", "/sbin/", "/lib", "/opt/google/"];
    system.iter().any(|start| text.starts_with(start))
        && (USUAL.iter().any(|end| text.strip_suffix(end).is_some_and(|rest| rest.ends_with('/')))
            || USUAL_PARTS.iter().any(|part| text.contains(part)))
}

struct Search<'b> {
    below: &'b Below,
    left: usize,
    found: Vec<Privileged>,
}

impl Search<'_> {
    /// Ordinary files below a directory, on these file systems, links not followed. What only root can
    /// enter is left out: nobody else starts anything there.
    fn walk(
        &mut self,
        dir: &Path,
        devices: &BTreeSet<u64>,
        look: &mut impl FnMut(&Path, &fs::Metadata, &mut Vec<Privileged>),
    ) {
        let mut ahead = vec![dir.to_owned()];
        while let Some(dir) = ahead.pop() {
            for entry in fs::read_dir(self.below.on_disk(&dir)).into_iter().flatten().flatten() {
                if self.left == 0 {
                    return;
                }
                self.left -= 1;
                let path = dir.join(entry.file_name());
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    let enters = |meta: &fs::Metadata| {
                        devices.contains(&meta.dev()) && (meta.uid() != 0 || meta.mode() & 0o011 != 0)
                    };
                    let skipped = SKIPPED.iter().any(|skipped| path == Path::new(skipped));
                    if !skipped && entry.metadata().is_ok_and(|meta| enters(&meta)) {
                        ahead.push(path);
                    }
                } else if kind.is_file()
                    && let Ok(meta) = entry.metadata()
                {
                    look(&path, &meta, &mut self.found);
                }
            }
        }
    }
}

/// The strong capabilities in `security.capability` (vfs_cap_data: the permitted set's low half).
fn capabilities(path: &Path) -> Option<String> {
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(path, "security.capability", &mut value).ok()?;
    let bytes: [u8; 4] = value.get(..length)?.get(4..8)?.try_into().ok()?;
    named(u32::from_le_bytes(bytes))
}

fn named(permitted: u32) -> Option<String> {
    let strong = CAPABILITIES.iter().filter(|(bit, _)| permitted & (1 << bit) != 0).map(|(_, name)| *name);
    let names: Vec<&str> = strong.collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_usual_ones_are_left_out_and_others_are_found_wherever_they_are() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for usual in ["usr/bin/sudo", "usr/lib/openssh/ssh-keysign", "usr/lib/cargo/bin/su", "usr/sbin/unix_chkpwd"] {
            put(usual, 0o4755);
        }
        put("usr/bin/plain", 0o755);
        put("usr/bin/nosuid", 0o4644);
        put("root/only/rootsh", 0o4755);
        fs::set_permissions(root.path().join("root"), fs::Permissions::from_mode(0o700)).unwrap();
        put("proc/x", 0o4755);
        symlink("/home/bob/su", root.path().join("usr/bin/link")).unwrap();
        let paths = || search(&Below::new(root.path())).0.into_iter().map(|one| one.path.display().to_string());
        assert_eq!(paths().count(), 0, "control");
        put("home/bob/su", 0o4755);
        put("usr/bin/mysu", 0o4755);
        put("usr/bin/xsudo", 0o4711);
        assert_eq!(paths().collect::<Vec<_>>(), ["/home/bob/su", "/usr/bin/mysu", "/usr/bin/xsudo"]);
        assert!(search(&Below::new(root.path())).1);
    }

    #[test]
    fn a_program_of_an_image_is_the_images() {
        let of = |path: &str| other_system(Path::new(path)).map(|root| root.display().to_string());
        assert_eq!(of("/srv/images/a/usr/bin/sudo").as_deref(), Some("/srv/images/a"));
        assert_eq!(of("/usr/local/bin/rootsh"), None);
        assert_eq!(of("/home/bob/su"), None);
        assert_eq!(of("/srv/images/a/usr/bin/rootsh"), None);
    }

    #[test]
    fn strong_capabilities_have_names_and_weak_ones_are_nothing() {
        assert_eq!(named(1 << 7 | 1 << 13).as_deref(), Some("cap_setuid"));
        assert_eq!(named(1 << 13 | 1 << 10), None, "raw sockets and low ports");
    }
}
