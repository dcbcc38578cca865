//! A cgroup2 tree of the bed's own: a subtree of the host's hierarchy, made the root of
//! a cgroup namespace and mounted at /sys/fs/cgroup, writable.
//!
//! The subtree carries its owner's pid in its name. It is removed by pid 1 of the bed, by
//! the outer process after it, and failing both by the next bed that starts ([`sweep`]).

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const PREFIX: &str = "twinlock-bed-";

type Result<T> = std::result::Result<T, String>;

/// The name of the subtree for the `count`th bed that process `owner` started.
pub(crate) fn bed_name(owner: u32, count: u32) -> String {
    format!("{PREFIX}{owner}-{count}")
}

/// The way back out of the bed's subtree, held by pid 1 alone.
pub(crate) struct Tree {
    /// `cgroup.procs` of where pid 1 came from, opened before the namespace closed.
    home: File,
    /// The subtree, seen through a mount that nothing else can reach.
    subtree: File,
}

/// Makes the subtree, moves this process in, makes it the namespace's root, mounts it.
pub(crate) fn enter(name: &str) -> Result<Tree> {
    let aside = Path::new("/run/.cgroup");
    fs::create_dir_all(aside).map_err(|e| e.to_string())?;
    let all = MsFlags::empty();
    mount(Some("cgroup2"), aside, Some("cgroup2"), all, None::<&str>).map_err(|e| format!("mounting cgroup2: {e}"))?;
    let home = open_procs(&aside.join(own_cgroup()?.trim_start_matches('/')))?;
    let dir = aside.join(name);
    fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let subtree = File::open(&dir).map_err(|e| e.to_string())?;
    move_self(&open_procs(&dir)?)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(|e| format!("cgroup namespace: {e}"))?;
    umount2(aside, MntFlags::MNT_DETACH).map_err(|e| e.to_string())?;
    fs::remove_dir(aside).map_err(|e| e.to_string())?;
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), all, None::<&str>)
        .map_err(|e| format!("mounting the bed's cgroup2: {e}"))?;
    // As on a real host, processes live in leaves: the tests in one, daemons in others.
    let tests = Path::new("/sys/fs/cgroup/tests.scope");
    fs::create_dir(tests).map_err(|e| e.to_string())?;
    move_self(&open_procs(tests)?)?;
    Ok(Tree { home, subtree })
}

impl Tree {
    /// Moves pid 1 out, kills what is left inside, removes the subtree.
    pub(crate) fn leave(self) {
        let _ = move_self(&self.home);
        let dir = PathBuf::from(format!("/proc/self/fd/{}", self.subtree.as_raw_fd()));
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
        let _ = fs::write(dir.join("cgroup.kill"), "1");
    }
}

fn open_procs(dir: &Path) -> Result<File> {
    let path = dir.join("cgroup.procs");
    File::options().write(true).open(&path).map_err(|e| format!("{}: {e}", path.display()))
}

fn move_self(procs: &File) -> Result<()> {
    let mut procs = procs;
    procs.write_all(b"0").map_err(|e| format!("moving into a cgroup: {e}"))
}

fn own_cgroup() -> Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
    let line = text.lines().find_map(|l| l.strip_prefix("0::"));
    line.map(str::to_owned).ok_or_else(|| "this kernel has no cgroup2".to_owned())
}

/// Where this process sees a cgroup2 hierarchy: mount points of type cgroup2.
fn visible() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let point = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        right.starts_with("cgroup2 ").then(|| PathBuf::from(point))
    };
    text.lines().filter_map(point).collect()
}

/// Removes the subtree of that name wherever it can be seen; waits for its last process.
pub(crate) fn remove(name: &str) {
    let until = Instant::now() + Duration::from_secs(2);
    for root in visible() {
        let dir = root.join(name);
        while dir.exists() && Instant::now() < until {
            remove_depth_first(&dir);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn remove_depth_first(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_depth_first(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// Removes subtrees whose owner is gone (it was killed before it could do so).
pub(crate) fn sweep() {
    for root in visible() {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.split('-').next());
            let Some(owner) = owner.and_then(|o| o.parse::<u32>().ok()) else {
                continue;
            };
            if !Path::new("/proc").join(owner.to_string()).exists() {
                remove_depth_first(&entry.path());
            }
        }
    }
}
