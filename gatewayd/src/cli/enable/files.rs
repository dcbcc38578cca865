//! A file of /etc/pam.d as it was, and its replacement by another as one step: whole or not at all,
//! with its owner, mode and extended attributes (SELinux labels, ACLs), and on disk when it returns.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use serde::{Deserialize, Serialize};
use twinlock_protocol::{Bytes, Digest};

/// More than any PAM file has.
const LONGEST: u64 = 1024 * 1024;
/// The longest value of an extended attribute (`XATTR_SIZE_MAX`).
const XATTR_BYTES: usize = 64 * 1024;
/// Attributes that vouch for a content: on another content they would be a lie.
const OF_CONTENT: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// Everything about a file that is to come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// What it holds.
    pub bytes: Bytes,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its extended attributes, but for those that vouch for the content.
    pub xattrs: Vec<(Bytes, Bytes)>,
}

/// A file can't be read or replaced.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a symbolic link, a directory or the like, or far too long.
    #[error("{} is not an ordinary file", .0.display())]
    NotPlain(PathBuf),
}

impl FileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl Snapshot {
    /// Takes a file in; none when there is none.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn take(path: &Path) -> Result<Option<Self>, FileError> {
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => Self::of(&file, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(_) if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) => {
                Err(FileError::NotPlain(path.to_owned()))
            }
            Err(error) => Err(FileError::io(path)(error)),
        }
    }

    fn of(file: &File, path: &Path) -> Result<Self, FileError> {
        let meta = file.metadata().map_err(FileError::io(path))?;
        if !meta.is_file() || meta.len() > LONGEST {
            return Err(FileError::NotPlain(path.to_owned()));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).map_err(FileError::io(path))?;
        let xattrs = xattrs(file).map_err(FileError::io(path))?;
        Ok(Self { bytes: Bytes(bytes), mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid(), xattrs })
    }

    /// The same file with another content.
    #[must_use]
    pub fn with(&self, bytes: Vec<u8>) -> Self {
        Self { bytes: Bytes(bytes), ..self.clone() }
    }

    /// The content's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::plain(&self.bytes.0)
    }

    /// Puts it in a file's place. When it fails, what was there is still there.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn put(&self, path: &Path) -> Result<(), FileError> {
        let new = temporary(path);
        let put = (|| {
            remove_if_there(&new)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&self.bytes.0)?;
            fchown(&file, Some(self.uid), Some(self.gid))?;
            for (name, value) in &self.xattrs {
                rustix::fs::fsetxattr(&file, name.0.as_slice(), &value.0, XattrFlags::empty())?;
            }
            // After the owner, whose change clears bits, and the ACL, which is partly the same thing.
            file.set_permissions(fs::Permissions::from_mode(self.mode))?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            sync_directory(path)
        })();
        if put.is_err() {
            let _ = fs::remove_file(&new);
        }
        put.map_err(FileError::io(path))
    }
}

/// Where a file's replacement is written: beside it, under a name that is no service's.
#[must_use]
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    path.with_file_name(OsStr::from_bytes(&[b".", name.as_bytes(), b".twinlock-new"].concat()))
}

/// Writes a state file: whole or not at all, root alone, on disk when it returns.
///
/// # Errors
/// [`FileError`].
pub fn write_state(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Snapshot { bytes: Bytes(bytes.to_vec()), mode: 0o600, uid, gid, xattrs: Vec::new() }.put(path)
}

/// Removes a file, durably; none is fine.
///
/// # Errors
/// [`FileError`].
pub fn remove(path: &Path) -> Result<(), FileError> {
    remove_if_there(path).and_then(|()| sync_directory(path)).map_err(FileError::io(path))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn xattrs(file: &File) -> io::Result<Vec<(Bytes, Bytes)>> {
    let mut list = vec![0; XATTR_BYTES];
    let length = match rustix::fs::flistxattr(file, &mut list) {
        Ok(length) => length,
        // A file system without any.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    list.truncate(length);
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !OF_CONTENT.contains(name));
    names
        .map(|name| {
            let mut value: Vec<u8> = Vec::new();
            let mut space = [MaybeUninit::uninit(); XATTR_BYTES];
            let (read, _) = rustix::fs::fgetxattr(file, name, space.as_mut_slice())?;
            value.extend_from_slice(read);
            Ok((Bytes(name.to_vec()), Bytes(value)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn content_owner_mode_and_attributes_go_and_come_back() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let path = dir.path().join("sudo");
        fs::write(&path, b"old\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let marked = rustix::fs::setxattr(&path, "user.mark", b"label", XattrFlags::empty()).is_ok();
        let before = Snapshot::take(&path).unwrap().unwrap();
        assert_eq!((before.mode, before.bytes.0.as_slice()), (0o640, b"old\n".as_slice()));
        assert_eq!(before.xattrs.iter().any(|(name, _)| name.0 == b"user.mark"), marked);

        before.with(b"new\n".to_vec()).put(&path).unwrap();
        let after = Snapshot::take(&path).unwrap().unwrap();
        assert_eq!(after.bytes.0, b"new\n");
        assert_eq!(Snapshot { bytes: before.bytes.clone(), ..after }, before);
        before.put(&path).unwrap();
        assert_eq!(Snapshot::take(&path).unwrap().unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_and_a_directory_are_no_plain_files_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (link, sub) = (dir.path().join("link"), dir.path().join("sub"));
        fs::write(dir.path().join("file"), b"x").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        fs::create_dir(&sub).unwrap();
        for path in [link, sub] {
            assert!(matches!(Snapshot::take(&path), Err(FileError::NotPlain(_))), "{path:?}");
        }
        assert!(Snapshot::take(&dir.path().join("gone")).unwrap().is_none());
        assert!(Snapshot::take(&dir.path().join("file")).unwrap().is_some(), "control");
    }

    #[test]
    fn a_replacement_that_fails_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sudo");
        fs::write(&path, b"old").unwrap();
        let old = Snapshot::take(&path).unwrap().unwrap();
        // An attribute that no file system takes.
        let bad = Snapshot { xattrs: vec![(Bytes(b"nonsense".to_vec()), Bytes(vec![1]))], ..old.with(b"new".to_vec()) };
        assert!(bad.put(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
