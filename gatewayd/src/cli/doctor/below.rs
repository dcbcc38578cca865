//! Files below a root that need not be this system's own. Links are followed inside: an absolute one
//! starts at that root again, so another system's tree never leads into this one.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::facts::FileFact;

/// More than any configuration has.
const LONGEST: u64 = 4 * 1024 * 1024;
/// Links in one path; the kernel stops there as well.
const MOST_LINKS: usize = 40;

/// A tree. Paths that go in and come out are as seen from its root.
#[derive(Clone, Debug)]
pub struct Below {
    root: PathBuf,
}

impl Below {
    /// The tree below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: fs::canonicalize(root).unwrap_or_else(|_| root.to_owned()) }
    }

    /// Whether this is the running system, whose sockets and programs can be asked.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The path without links and dots, as seen from the root. What does not exist stays as it is.
    #[must_use]
    pub fn resolved(&self, path: &Path) -> PathBuf {
        let mut ahead: VecDeque<OsString> = parts(path).collect();
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            if part == OsStr::new("..") {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            match fs::read_link(self.outside(&next)) {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    parts(&target).rev().for_each(|part| ahead.push_front(part));
                }
                Ok(_) | Err(_) => done = next,
            }
        }
        done
    }

    /// Where a path of the tree is on this machine.
    #[must_use]
    pub fn on_disk(&self, path: &Path) -> PathBuf {
        self.outside(&self.resolved(path))
    }

    /// What a file says; none where there is no ordinary file, or a far too long one.
    #[must_use]
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let path = self.on_disk(path.as_ref());
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.len() > LONGEST {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What a path leads to.
    #[must_use]
    pub fn meta(&self, path: impl AsRef<Path>) -> Option<Metadata> {
        fs::symlink_metadata(self.on_disk(path.as_ref())).ok()
    }

    /// Owner and mode of what a path leads to, and who else could replace it.
    #[must_use]
    pub fn file(&self, path: impl AsRef<Path>) -> Option<FileFact> {
        let path = path.as_ref();
        let meta = self.meta(path)?;
        let resolved = self.resolved(path);
        // With the sticky bit nobody renames what is not theirs.
        let is_open = |dir: &&Path| {
            self.meta(dir).is_some_and(|meta| meta.uid() != 0 || meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0)
        };
        let open_above = resolved.ancestors().skip(1).filter(is_open).map(Path::to_owned).collect();
        Some(FileFact { path: path.to_owned(), uid: meta.uid(), gid: meta.gid(), mode: meta.mode(), open_above })
    }

    /// What a directory holds, by name.
    #[must_use]
    pub fn list(&self, dir: impl AsRef<Path>) -> Vec<PathBuf> {
        let dir = dir.as_ref();
        let entries = fs::read_dir(self.on_disk(dir)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| dir.join(entry.file_name())).collect();
        paths.sort();
        paths
    }

    fn outside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let parts: Vec<OsString> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    parts.into_iter()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn an_absolute_link_of_another_tree_leads_into_that_tree() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/deep")).unwrap();
        fs::write(root.path().join("etc/passwd"), "theirs").unwrap();
        symlink("/etc/passwd", root.path().join("etc/link")).unwrap();
        symlink("../../../../etc/passwd", root.path().join("etc/deep/up")).unwrap();
        symlink("/etc/loop", root.path().join("etc/loop")).unwrap();
        let below = Below::new(root.path());
        for path in ["/etc/passwd", "/etc/link", "/etc/deep/up"] {
            assert_eq!(below.text(path).as_deref(), Some("theirs"), "{path}");
        }
        assert_eq!(below.text("/etc/loop"), None);
        assert_eq!(below.text("/etc/deep"), None, "a directory is no file");
        assert!(!below.is_running() && Below::new(Path::new("/")).is_running());
    }

    #[test]
    fn a_directory_that_others_can_write_is_seen_above_a_file() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        fs::write(root.path().join("usr/lib/x.so"), "").unwrap();
        let below = Below::new(root.path());
        let open = |mode| {
            fs::set_permissions(root.path().join("usr"), fs::Permissions::from_mode(mode)).unwrap();
            below.file("/usr/lib/x.so").unwrap().open_above.contains(&PathBuf::from("/usr"))
        };
        assert!(open(0o775) && !open(0o1777));
        // Whoever runs the tests owns the tree.
        assert_eq!(open(0o755), below.meta("/usr").unwrap().uid() != 0);
    }
}
