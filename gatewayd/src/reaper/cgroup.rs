//! Leaf cgroups: one per grant, named by it, below a directory that belongs to the reaper. The
//! kernel's membership list is the only source of pids that are ever signalled.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use twinlock_protocol::ids::GrantId;

/// Why the cgroup tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup2 hierarchy is mounted.
    #[error("no cgroup2 hierarchy is mounted")]
    NoMount,
    /// The reaper's own cgroup lies outside the mount.
    #[error("the reaper's own cgroup is not below the cgroup2 mount")]
    Outside,
    /// The kernel has no `cgroup.kill` (it came with Linux 5.14).
    #[error("{} is missing: Linux 5.14 or newer is needed", .0.display())]
    NoKill(PathBuf),
    /// A file of the tree refuses.
    #[error("cgroup {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A look goes into this many cgroups of a leaf; freezing and killing reach all of them.
const LOOK_LIMIT: usize = 1024;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CgroupError + '_ {
    move |source| CgroupError::Io { path: path.to_owned(), source }
}

/// The cgroup2 mount: where it is, and which cgroup is at its root.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    root: PathBuf,
}

/// The cgroup2 mounts in `/proc/self/mountinfo` (unified: at `/sys/fs/cgroup`; hybrid: below), the
/// newest first: a later mount hides an earlier one at the same place. Anybody with FUSE adds lines
/// with any bytes in them.
fn find_mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let mount = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        if tail.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = head.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        Some(Mount { point: unescape(point).into(), root: unescape(root).into() })
    };
    String::from_utf8_lossy(mountinfo).lines().rev().filter_map(mount).collect()
}

/// mountinfo writes space, tab, newline and backslash as three octal digits (proc(5)).
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(field.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The directory of this process's own cgroup, from `/proc/self/cgroup`.
fn own_dir(mount: &Mount, cgroup: &[u8]) -> Option<PathBuf> {
    let path = cgroup.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    let below = Path::new(OsStr::from_bytes(path)).strip_prefix(&mount.root).ok()?;
    Some(mount.point.join(below))
}

/// The directory under which leaves are made, created if it is missing: `configured` below the
/// mount, or else `twinlock` below the highest cgroup that this user was delegated.
///
/// # Errors
/// [`CgroupError`].
pub fn parent(configured: Option<&Path>) -> Result<PathBuf, CgroupError> {
    let read = |path: &'static str| std::fs::read(path).map_err(io(Path::new(path)));
    let mounts = find_mounts(&read("/proc/self/mountinfo")?);
    if mounts.is_empty() {
        return Err(CgroupError::NoMount);
    }
    let cgroup = read("/proc/self/cgroup")?;
    // In a container more than one may be listed; ours is one that shows our own cgroup.
    let (mount, own) =
        mounts.iter().find_map(|mount| Some((mount, own_dir(mount, &cgroup)?))).ok_or(CgroupError::Outside)?;
    let dir = match configured {
        Some(relative) => mount.point.join(relative),
        None => delegated(&mount.point, &own).join("twinlock"),
    };
    match std::fs::create_dir(&dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io(&dir)(error)),
    }
    let kill = dir.join("cgroup.kill");
    if kill.exists() { Ok(dir) } else { Err(CgroupError::NoKill(kill)) }
}

/// Pays ahead for the move that a module is about to make. The first move into a cgroup after a while
/// waits for an RCU grace period (6-12 ms, cgroup_threadgroup_rwsem); another one during or shortly
/// after it does not. This process is moved to where it is already; failure costs only the time.
pub fn warm_up() {
    let own = || {
        let mounts = find_mounts(&std::fs::read("/proc/self/mountinfo").ok()?);
        let cgroup = std::fs::read("/proc/self/cgroup").ok()?;
        mounts.iter().find_map(|mount| own_dir(mount, &cgroup))
    };
    if let Some(own) = own()
        && let Err(error) = std::fs::write(own.join("cgroup.procs"), "0")
    {
        tracing::debug!(%error, "no move ahead of the module's");
    }
}

/// Climbs from `own` while the directory above belongs to us too: systemd's `DelegateSubgroup=`
/// puts the daemon into a child of what it was delegated. Root owns everything, so it stays.
fn delegated(top: &Path, own: &Path) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let uid = rustix::process::geteuid().as_raw();
    let mut dir = own.to_owned();
    while uid != 0 && dir != top {
        match dir.parent() {
            Some(above) if std::fs::metadata(above).is_ok_and(|meta| meta.uid() == uid) => dir = above.to_owned(),
            Some(_) | None => break,
        }
    }
    dir
}

/// Every leaf below `parent`, by the grant that its name is.
///
/// # Errors
/// [`CgroupError::Io`].
pub fn leaves(parent: &Path) -> Result<Vec<GrantId>, CgroupError> {
    let entries = std::fs::read_dir(parent).map_err(io(parent))?;
    Ok(entries.flatten().filter_map(|entry| GrantId::from_text(entry.file_name().to_str()?)).collect())
}

/// The cgroup of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    dir: PathBuf,
}

impl Leaf {
    /// Makes the leaf. An empty one that an abandoned registration left is used.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn create(parent: &Path, grant: GrantId) -> Result<Self, CgroupError> {
        let leaf = Self::at(parent, grant);
        match std::fs::create_dir(&leaf.dir) {
            Ok(()) => Ok(leaf),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && !leaf.populated() => Ok(leaf),
            Err(error) => Err(io(&leaf.dir)(error)),
        }
    }

    /// The leaf of a grant, which may or may not exist.
    #[must_use]
    pub fn at(parent: &Path, grant: GrantId) -> Self {
        Self { dir: parent.join(grant.to_string()) }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its processes and those of cgroups below it (of the first [`LOOK_LIMIT`]), as the kernel lists
    /// them at this moment. Processes of another pid namespace, which have no number here, are left out.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for dir in self.tree(LOOK_LIMIT) {
            let list = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
        }
        pids
    }

    /// Whether a live process is in it or below. A leaf that is not there is empty; one that cannot
    /// be read is not.
    #[must_use]
    pub fn populated(&self) -> bool {
        match std::fs::read_to_string(self.dir.join("cgroup.events")) {
            Ok(events) => !events.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound && self.dir.exists(),
        }
    }

    /// Freezes it, waiting at most `limit` until the kernel says that everything stands still.
    /// Says whether it did: a process in uninterruptible sleep can hold it up.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn freeze(&self, limit: Duration) -> Result<bool, CgroupError> {
        self.write("cgroup.freeze", "1")?;
        Ok(wait_until(limit, || {
            let events = std::fs::read_to_string(self.dir.join("cgroup.events")).unwrap_or_default();
            events.lines().any(|line| line == "frozen 1" || line == "populated 0")
        }))
    }

    /// Lets it run again.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", "0")
    }

    /// SIGKILLs everything in it and below at once, children being forked included.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    /// Waits until nothing is in it, at most `limit`. Says whether it is empty.
    #[must_use]
    pub fn wait_empty(&self, limit: Duration) -> bool {
        wait_until(limit, || !self.populated())
    }

    /// Removes it and the cgroups below it, which must be empty.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        for dir in self.tree(usize::MAX).iter().rev() {
            match std::fs::remove_dir(dir) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(io(dir)(error)),
            }
        }
        Ok(())
    }

    /// This directory and all below it, parents first, until there are `limit`. Root inside the leaf
    /// may have made some.
    fn tree(&self, limit: usize) -> Vec<PathBuf> {
        let mut dirs = vec![self.dir.clone()];
        let mut at = 0;
        while let Some(dir) = dirs.get(at).cloned() {
            let room = limit.saturating_sub(dirs.len());
            let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            dirs.extend(below.take(room).map(|entry| entry.path()));
            at += 1;
        }
        dirs
    }

    fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.dir.join(file);
        std::fs::write(&path, value).map_err(io(&path))
    }
}

fn wait_until(limit: Duration, done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str = "25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_mount_is_found_on_hybrid_and_unified_hosts() {
        assert_eq!(find_mounts(HYBRID.as_bytes())[0].point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(find_mounts(UNIFIED.as_bytes())[0].point, Path::new("/sys/fs/cgroup"));
        assert_eq!(find_mounts(b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), []);
    }

    #[test]
    fn a_mount_point_of_somebody_elses_that_is_no_text_hides_nothing() {
        let strange = [b"60 25 0:50 / /home/mallory/\xff rw - fuse.x\xfe x\xff rw\n".as_slice(), UNIFIED.as_bytes()];
        assert!(std::str::from_utf8(&strange.concat()).is_err(), "control");
        assert_eq!(find_mounts(&strange.concat()), find_mounts(UNIFIED.as_bytes()));
        let own = own_dir(&find_mounts(UNIFIED.as_bytes())[0], b"1:name=\xff:/\xff\n0::/x\n").unwrap();
        assert_eq!(own, Path::new("/sys/fs/cgroup/x"));
    }

    #[test]
    fn the_newest_mount_comes_first() {
        let hidden = "41 31 0:38 /../.. /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let mounts = find_mounts(format!("{hidden}{UNIFIED}").as_bytes());
        assert_eq!(own_dir(&mounts[0], b"0::/system.slice/x").unwrap(), Path::new("/sys/fs/cgroup/system.slice/x"));
        assert_eq!(own_dir(&mounts[1], b"0::/system.slice/x"), None, "control: the hidden mount shows it not");
    }

    #[test]
    fn a_look_goes_into_so_many_cgroups_and_no_more() {
        let parent = tempfile::tempdir().unwrap();
        let leaf = Leaf::create(parent.path(), GrantId::from_text(&"a".repeat(26)).unwrap()).unwrap();
        for number in 0..20 {
            std::fs::create_dir_all(leaf.dir().join(format!("{number}/below"))).unwrap();
        }
        assert_eq!(leaf.tree(usize::MAX).len(), 41, "control");
        assert_eq!(leaf.tree(10).len(), 10);
        assert_eq!(leaf.tree(10)[0], leaf.dir());
        leaf.remove().unwrap();
        assert!(!leaf.dir().exists(), "all of it is removed");
    }

    #[test]
    fn the_own_cgroup_is_seen_through_a_mount_of_a_subtree() {
        let mount = &find_mounts(b"41 31 0:38 /pod/one /cg\\040two rw - cgroup2 cgroup2 rw\n")[0];
        assert_eq!(own_dir(mount, b"9:name=systemd:/\n0::/pod/one/main\n").unwrap(), Path::new("/cg two/main"));
        assert_eq!(own_dir(mount, b"0::/elsewhere\n"), None);
    }
}
