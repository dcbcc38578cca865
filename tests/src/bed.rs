//! The bed as a test's body sees it: who is there, how sudo and PAM are wired, what
//! reached the system log, and where results may be left.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::accounts::{self, WIRED};
use crate::mounts::make_dir;
use crate::proc::{Finished, Launch};
use crate::term::{Size, Terminal};

/// The lines that follow the stock includes in every wired PAM service.
#[derive(Clone, Debug)]
pub enum Tail {
    /// Twinlock's two, as packaged.
    Twinlock,
    /// `pam_permit.so` in their place: the positive control of the bed itself.
    Permit,
    /// `pam_deny.so` in their place: its negative control.
    Deny,
    /// Nothing: the stock stack.
    Stock,
    /// Other lines.
    Lines(String),
}

/// Private namespaces with real users, sudo and su. Made by [`crate::ns::in_namespace`].
pub struct Bed {
    name: String,
    log: Arc<Mutex<Vec<String>>>,
    cgroups: PathBuf,
}

/// Everybody's password.
pub use crate::accounts::PASSWORD;

impl Bed {
    /// Called in the stage that runs the body; listens on /dev/log from here on.
    pub(crate) fn inside(name: &str) -> Bed {
        let log = Arc::new(Mutex::new(Vec::new()));
        listen_to_log(Arc::clone(&log));
        let bed = Bed { name: name.to_owned(), log, cgroups: PathBuf::from("/sys/fs/cgroup") };
        bed.wire(&Tail::Twinlock);
        bed
    }

    /// The test's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes all wired services: the stock stack, then the tail.
    pub fn wire(&self, tail: &Tail) {
        for service in WIRED {
            self.wire_service(service, tail);
        }
    }

    /// Writes one service (sudo, sudo-i, su, su-l).
    pub fn wire_service(&self, service: &str, tail: &Tail) {
        let two = |module: &str| format!("account required {module}\nsession required {module}\n");
        let tail = match tail {
            Tail::Twinlock => fs::read_to_string(sample_lines()).expect("the sample PAM lines"),
            Tail::Permit => two("pam_permit.so"),
            Tail::Deny => two("pam_deny.so"),
            Tail::Stock => String::new(),
            Tail::Lines(lines) => lines.clone(),
        };
        // su-l includes su, lines of ours and all: a second pair would ask twice.
        let tail = if service == "su-l" { "" } else { &tail };
        self.write(format!("/etc/pam.d/{service}"), format!("{}{tail}", accounts::stock(service)));
    }

    /// Replaces sudoers: Debian's Defaults, root and alice, then `extra`.
    pub fn sudoers(&self, extra: &str) {
        accounts::sudoers(extra).expect("writing sudoers");
    }

    /// Writes a file as root, mode 0644, making its directories.
    pub fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = path.as_ref();
        let dir = path.parent().expect("a file has a directory");
        fs::create_dir_all(dir).and_then(|()| fs::write(path, text)).unwrap_or_else(|e| {
            panic!("{}: {e}", path.display());
        });
    }

    /// Copies a program or module to its place in the bed, owned by root.
    pub fn install(&self, from: impl AsRef<Path>, to: impl AsRef<Path>, mode: u32) {
        let (from, to) = (from.as_ref(), to.as_ref());
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir).expect("the place's directory");
        }
        // A fresh file: a setuid bit or a running copy of the old one must not survive.
        let _ = fs::remove_file(to);
        fs::copy(from, to).unwrap_or_else(|e| panic!("{} to {}: {e}", from.display(), to.display()));
        std::os::unix::fs::chown(to, Some(0), Some(0)).expect("root owns what is installed");
        fs::set_permissions(to, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    /// A person of the bed, with an ordinary environment.
    pub fn person(&self, user: &str) -> Launch {
        Launch::person(user)
    }

    /// Runs a command as a person, without a terminal.
    pub fn run<S: AsRef<OsStr>>(&self, user: &str, argv: &[S]) -> Finished {
        self.person(user).run(argv)
    }

    /// Opens an 80×24 terminal for a person.
    pub fn terminal<S: AsRef<OsStr>>(&self, user: &str, argv: &[S]) -> Terminal {
        Terminal::open(&self.person(user), argv)
    }

    /// Opens a terminal of some other size.
    pub fn terminal_sized<S: AsRef<OsStr>>(&self, user: &str, argv: &[S], size: Size) -> Terminal {
        Terminal::open_sized(&self.person(user), argv, size)
    }

    /// Puts sudo-rs in sudo's place, setuid; gives its path. Its PAM service is `sudo` as well.
    pub fn replace_sudo_by_sudo_rs(&self) -> PathBuf {
        let place = PathBuf::from("/usr/bin/sudo");
        self.install(crate::world::sudo_rs(), &place, 0o4755);
        place
    }

    /// Makes a name resolve to 127.0.0.1.
    pub fn resolve_here(&self, name: &str) {
        let hosts = fs::read_to_string("/etc/hosts").expect("the bed's hosts file");
        self.write("/etc/hosts", format!("{hosts}127.0.0.1 {name}\n"));
    }

    /// Turns a directory into a file system of this many bytes, with its owner, mode and
    /// files: full when it is full. Open files of the old directory stay where they were.
    pub fn shrink_disk(&self, dir: impl AsRef<Path>, bytes: u64) {
        let dir = dir.as_ref();
        let meta = fs::metadata(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let aside = tempfile::tempdir().expect("a temporary directory");
        let copy = |from: &Path, to: &Path| {
            let done = Command::new("cp").arg("-aT").arg(from).arg(to).status();
            assert!(done.is_ok_and(|s| s.success()), "cp -aT {from:?} {to:?}");
        };
        copy(dir, aside.path());
        let options = format!("size={bytes}");
        mount(Some("small"), dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).expect("a small disk");
        copy(aside.path(), dir);
        std::os::unix::fs::chown(dir, Some(meta.uid()), Some(meta.gid())).expect("its owner");
        fs::set_permissions(dir, meta.permissions()).expect("its mode");
    }

    /// Mounts the cgroup2 tree as systemd's hybrid layout does: below a tmpfs, in `unified`.
    /// Call it before anything is started.
    pub fn hybrid_cgroups(&mut self) {
        umount2(&self.cgroups, MntFlags::empty()).expect("nobody uses the tree yet");
        let none = MsFlags::empty();
        mount(Some("tmpfs"), &self.cgroups, Some("tmpfs"), none, Some("mode=755")).expect("a tmpfs");
        self.cgroups.push("unified");
        fs::create_dir(&self.cgroups).expect("a mount point");
        mount(Some("cgroup2"), &self.cgroups, Some("cgroup2"), none, None::<&str>).expect("cgroup2");
    }

    /// Makes a cgroup below the bed's own root, e.g. `system.slice/x.service`.
    pub fn cgroup(&self, path: &str) -> PathBuf {
        let dir = self.cgroup_root().join(path);
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        dir
    }

    /// Where the bed's private cgroup2 tree is mounted.
    pub fn cgroup_root(&self) -> PathBuf {
        self.cgroups.clone()
    }

    /// What was sent to /dev/log so far, one entry per datagram.
    pub fn syslog(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// A directory for pictures and the like, outside the bed: it stays afterwards.
    pub fn out_dir(&self) -> PathBuf {
        let dir = crate::world::target_dir().join("test-out").join(self.name.replace("::", "."));
        make_dir(&dir, 0o755).expect("the directory for results");
        dir
    }
}

fn sample_lines() -> PathBuf {
    crate::world::workspace().join("packaging/pam/twinlock.lines")
}

fn listen_to_log(log: Arc<Mutex<Vec<String>>>) {
    let socket = UnixDatagram::bind("/dev/log").expect("/dev is the bed's own");
    fs::set_permissions("/dev/log", fs::Permissions::from_mode(0o666)).expect("its mode");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(n) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..n]);
            log.lock().unwrap().push(text.trim_end_matches(['\n', '\0']).to_owned());
        }
    });
}
