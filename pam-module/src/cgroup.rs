//! This process and its cgroup: moving into a grant's leaf, and back into it where another line of
//! the stack (pam_systemd) carried the process away. The kernel's own word counts, before and
//! after. Anybody with FUSE adds lines to the mount table, with any bytes in them: they must stop
//! nobody.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use twinlock_protocol::DenyReason;
use twinlock_protocol::ids::GrantId;

use crate::config::Config;
use crate::refusal::Refusal;

/// CGROUP2_SUPER_MAGIC, linux/magic.h.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

fn failed(detail: impl ToString) -> Refusal {
    Refusal::logging(DenyReason::ContainmentFailed, detail)
}

/// Moves this process into the leaf of the grant that the reaper names, as root, and checks with
/// the kernel that it is there.
///
/// # Errors
/// [`DenyReason::ContainmentFailed`].
pub fn join(directory: &Path, config: &Config, grant: &str) -> Result<(), Refusal> {
    let plain = |path: &Path| {
        use std::path::Component::{Normal, RootDir};
        path.is_absolute() && path.components().all(|part| matches!(part, RootDir | Normal(_)))
    };
    let expected = kernel_names(&mounts()?, directory);
    if expected.is_empty() || !plain(directory) || directory.file_name() != Some(OsStr::new(grant)) {
        return Err(failed("the cgroup is no leaf of ours"));
    }
    enter(directory, &expected, config)
}

/// The cgroup of this process, when it is a grant's leaf or below one.
///
/// # Errors
/// [`DenyReason::ContainmentFailed`] when the kernel does not tell.
pub fn own_leaf() -> Result<Option<Vec<u8>>, Refusal> {
    Ok(own()?.filter(|name| is_leaf(name)))
}

/// Moves this process back to where it was, if it is elsewhere now.
///
/// # Errors
/// [`DenyReason::ContainmentFailed`], and what `config` says.
pub fn return_to(name: &[u8], config: impl FnOnce() -> Result<Config, Refusal>) -> Result<(), Refusal> {
    if own()?.as_deref() == Some(name) {
        return Ok(());
    }
    let config = config()?;
    let mut result = Err(failed("the grant's cgroup is not mounted here"));
    for directory in directories(&mounts()?, name) {
        result = enter(&directory, &[name.to_vec()], &config);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn enter(path: &Path, expected: &[Vec<u8>], config: &Config) -> Result<(), Refusal> {
    let io = |error: rustix::io::Errno| failed(format!("{}: {error}", path.display()));
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(io)?;
    let meta = std::fs::File::from(directory.try_clone().map_err(failed)?).metadata().map_err(failed)?;
    if meta.uid() != 0 && Some(meta.uid()) != config.reaper_uid {
        return Err(failed("the cgroup belongs to somebody else"));
    }
    if rustix::fs::fstatfs(&directory).map_err(io)?.f_type != CGROUP2_MAGIC {
        return Err(failed("the directory is no cgroup"));
    }
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let procs = rustix::fs::openat(&directory, "cgroup.procs", flags, Mode::empty()).map_err(io)?;
    // "0" is whoever writes (cgroups(7)): no pid to get wrong in another pid namespace.
    std::fs::File::from(procs).write_all(b"0\n").map_err(|error| failed(format!("cgroup.procs: {error}")))?;
    let inside = own()?.is_some_and(|own| expected.contains(&own));
    if inside { Ok(()) } else { Err(failed("the process is not in its cgroup")) }
}

/// The cgroup of this process as the kernel names it; none where there is no cgroup2.
fn own() -> Result<Option<Vec<u8>>, Refusal> {
    let text = match std::fs::read("/proc/self/cgroup") {
        // A kernel without cgroups: nobody is granted anything there, and root passes as elsewhere.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(failed)?,
    };
    let name = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"));
    Ok(name.map(<[u8]>::to_vec))
}

fn is_leaf(name: &[u8]) -> bool {
    let grant = |part: &[u8]| std::str::from_utf8(part).is_ok_and(|part| GrantId::from_text(part).is_some());
    name.split(|byte| *byte == b'/').any(grant)
}

/// The mount table, in which only the lines of cgroup2 are of interest: those are root's, and text.
fn mounts() -> Result<String, Refusal> {
    let bytes = std::fs::read("/proc/self/mountinfo").map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Root and mount point of each cgroup2 mount.
fn cgroup_mounts(mountinfo: &str) -> impl Iterator<Item = (&Path, &Path)> {
    mountinfo.lines().filter_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        if tail.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = head.split(' ').skip(3);
        Some((Path::new(fields.next()?), Path::new(fields.next()?)))
    })
}

/// What `/proc/self/cgroup` may say of a process in the directory `path`: one name for each cgroup2
/// mount above it (one may hide another).
fn kernel_names(mountinfo: &str, path: &Path) -> Vec<Vec<u8>> {
    let name = |(root, point): (&Path, &Path)| {
        let below = path.strip_prefix(point).ok()?;
        Some(root.join(below).into_os_string().into_vec())
    };
    cgroup_mounts(mountinfo).filter_map(name).collect()
}

/// Where the cgroup of this name may be found: the other way round.
fn directories(mountinfo: &str, name: &[u8]) -> Vec<PathBuf> {
    let name = Path::new(OsStr::from_bytes(name));
    let directory = |(root, point): (&Path, &Path)| Some(point.join(name.strip_prefix(root).ok()?));
    cgroup_mounts(mountinfo).filter_map(directory).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UNIFIED: &str = "25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const SUBTREE: &str = "30 1 0:1 / / rw - ext4 a rw\n41 31 0:38 /pod/one /cg rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_directory_has_a_kernel_name_only_below_a_cgroup_mount() {
        let name = |mounts, path: &str| kernel_names(mounts, Path::new(path));
        assert_eq!(name(UNIFIED, "/sys/fs/cgroup/twinlock/leaf"), [b"/twinlock/leaf"]);
        assert_eq!(name(SUBTREE, "/cg/twinlock/leaf"), [b"/pod/one/twinlock/leaf"]);
        let hidden = format!("24 23 0:22 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n{UNIFIED}");
        assert!(name(&hidden, "/sys/fs/cgroup/twinlock/leaf").contains(&b"/twinlock/leaf".to_vec()));
        for elsewhere in ["/tmp/leaf", "leaf", "/"] {
            assert!(name(UNIFIED, elsewhere).is_empty(), "{elsewhere}");
        }
        assert_eq!(directories(SUBTREE, b"/pod/one/twinlock/leaf"), [Path::new("/cg/twinlock/leaf")]);
        assert!(directories(SUBTREE, b"/pod/two/leaf").is_empty());
    }

    #[test]
    fn only_a_grants_leaf_and_what_is_below_it_is_known_as_one() {
        let leaf = "a".repeat(26);
        assert!(is_leaf(format!("/system.slice/x/{leaf}").as_bytes()));
        assert!(is_leaf(&[b"/\xff/", leaf.as_bytes(), b"/below/\xff"].concat()));
        for elsewhere in ["/", "/user.slice/user-1000.slice/session-1.scope", &leaf.to_uppercase()] {
            assert!(!is_leaf(elsewhere.as_bytes()), "{elsewhere}");
        }
    }

    #[test]
    fn a_process_that_is_no_longer_where_it_was_is_refused_where_it_cannot_return() {
        let here = own().unwrap();
        let none = || Err(DenyReason::ConfigInvalid.into());
        // Control: who is there already needs no configuration.
        if let Some(here) = here {
            assert_eq!(return_to(&here, none), Ok(()));
        }
        assert_eq!(return_to(b"/elsewhere", none).unwrap_err().reason, DenyReason::ConfigInvalid);
        let config = || Config::parse("host = \"web-1\"");
        assert_eq!(return_to(b"/no/such/cgroup", config).unwrap_err().reason, DenyReason::ContainmentFailed);
    }
}
