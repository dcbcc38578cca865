//! The file system of a bed: the host's system underneath, and everything that a test
//! or a program under test may write laid over it in memory.
//!
//! Called only by pid 1 of a private mount namespace. Overlays keep their upper layer
//! on a tmpfs, so they also work where the root file system is an overlay itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

/// Covered by an empty tmpfs each, with its mode.
const COVERED: &[(&str, u32)] = &[("/home", 0o755), ("/root", 0o700), ("/tmp", 0o1777)];
/// Laid over with a writable layer that is gone afterwards.
const LAID_OVER: &[&str] = &["/etc", "/var", "/usr"];
/// The nodes of /dev that programs under test need.
const NODES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

type Result<T> = std::result::Result<T, String>;

/// Builds the file system; `kept` are directories that stay visible where they are.
pub fn make(kept: &[PathBuf]) -> Result<()> {
    tmpfs("/run", 0o755)?;
    let stash = Path::new("/run/.stash");
    make_dir(stash, 0o700)?;
    let kept = stash_kept(kept, stash)?;
    for dir in LAID_OVER {
        overlay(dir, stash)?;
    }
    for (dir, mode) in COVERED {
        tmpfs(dir, *mode)?;
    }
    for (aside, place) in kept {
        fs::create_dir_all(&place).map_err(on(&place))?;
        bind(&aside, &place)?;
    }
    devices(stash)?;
    say("mount /sys", mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE))?;
    // A second tmpfs over /run hides the stash: nothing in the bed can reach it.
    tmpfs("/run", 0o755)?;
    make_dir(Path::new("/run/lock"), 0o1777)?;
    make_dir(Path::new("/run/user"), 0o755)?;
    File::create("/run/utmp").map_err(on(Path::new("/run/utmp")))?;
    clean_state()
}

const NONE: Option<&str> = None;

fn stash_kept(kept: &[PathBuf], stash: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut moved = Vec::new();
    for (i, dir) in kept.iter().enumerate() {
        if dir.starts_with("/run") || dir.starts_with("/dev") || dir.starts_with("/var") {
            return Err(format!("a checkout below {} cannot be used", dir.display()));
        }
        let covered = COVERED.iter().any(|(c, _)| dir.starts_with(c));
        let inside_other = moved.iter().any(|(_, p)| dir.starts_with(p));
        if covered && !inside_other {
            let aside = stash.join(format!("kept{i}"));
            make_dir(&aside, 0o755)?;
            bind(dir, &aside)?;
            moved.push((aside, dir.clone()));
        }
    }
    Ok(moved)
}

fn overlay(dir: &str, stash: &Path) -> Result<()> {
    let name = dir.trim_start_matches('/');
    let (upper, work) = (stash.join(format!("{name}.up")), stash.join(format!("{name}.work")));
    make_dir(&upper, 0o755)?;
    make_dir(&work, 0o755)?;
    let data = format!("lowerdir={dir},upperdir={},workdir={}", upper.display(), work.display());
    let done = mount(Some("overlay"), dir, Some("overlay"), MsFlags::empty(), Some(data.as_str()));
    say(&format!("overlay on {dir}"), done)
}

/// A /dev of our own: a private pty instance, and room for a log socket that is not the host's.
fn devices(stash: &Path) -> Result<()> {
    let dev = stash.join("dev");
    make_dir(&dev, 0o755)?;
    let done = mount(Some("dev"), &dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"));
    say("tmpfs for /dev", done)?;
    for node in NODES {
        let place = dev.join(node);
        File::create(&place).map_err(on(&place))?;
        bind(&Path::new("/dev").join(node), &place)?;
    }
    make_dir(&dev.join("shm"), 0o1777)?;
    let shm = dev.join("shm");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    say("/dev/shm", mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777")))?;
    make_dir(&dev.join("pts"), 0o755)?;
    let options = Some("newinstance,gid=5,mode=620,ptmxmode=666");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    say("/dev/pts", mount(Some("devpts"), &dev.join("pts"), Some("devpts"), flags, options))?;
    for (link, to) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(to, dev.join(link)).map_err(on(&dev.join(link)))?;
    }
    say("moving /dev", mount(Some(&dev), "/dev", NONE, MsFlags::MS_MOVE, NONE))
}

/// Nothing of a Twinlock installed on the host, or of its sudo's memory, shows through.
fn clean_state() -> Result<()> {
    for gone in ["/etc/twinlock", "/var/lib/twinlock", "/var/lib/twinlock-gateway"] {
        let _ = fs::remove_dir_all(gone);
    }
    let _ = fs::remove_dir_all("/var/lib/sudo");
    for file in ["/etc/sudo.conf", "/etc/ld.so.preload", "/etc/pam.conf"] {
        let _ = fs::remove_file(file);
    }
    Ok(())
}

fn tmpfs(dir: &str, mode: u32) -> Result<()> {
    let options = format!("mode={mode:o}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    say(dir, mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.as_str())))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    say(&format!("bind {}", from.display()), mount(Some(from), to, NONE, flags, NONE))
}

/// Makes one directory and sets its mode whatever the umask is.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(dir).map_err(on(dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(on(dir))
}

fn on(path: &Path) -> impl Fn(io::Error) -> String + use<> {
    let path = path.to_owned();
    move |e| format!("{}: {e}", path.display())
}

fn say(what: &str, done: nix::Result<()>) -> Result<()> {
    done.map_err(|e| format!("{what}: {e}"))
}
