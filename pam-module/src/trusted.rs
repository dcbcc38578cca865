//! What the module trusts in the file system: a path whose every directory belongs to root and is
//! writable by nobody else, and a file of the same kind at its end. A symbolic link anywhere is
//! refused, so what was checked is what is opened.
#![forbid(unsafe_code)]

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

use rustix::fs::OFlags;

/// Whose files count. In production root's alone; tests add their own uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u32);

/// Why a path is not trusted. The text names it, and is for the system log.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It, or a directory above it, is not root's alone.
    #[error("{path}: {rule}")]
    NotTrusted {
        /// The path.
        path: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

impl TrustError {
    /// Whether there is nothing at the path.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Owner {
    /// Root alone.
    pub const ROOT: Self = Self(0);

    /// Root and one more uid: for tests that do not run as root.
    #[must_use]
    pub const fn dangerous_also(uid: u32) -> Self {
        Self(uid)
    }

    fn holds(self, meta: &Metadata) -> bool {
        meta.uid() == 0 || meta.uid() == self.0
    }

    /// Checks every directory above `path`.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn check_directories(self, path: &Path) -> Result<(), TrustError> {
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain {
            return Err(not_trusted(path, "is not an absolute path without . and .."));
        }
        path.ancestors().skip(1).try_for_each(|directory| self.check_directory(directory))
    }

    fn check_directory(self, path: &Path) -> Result<(), TrustError> {
        let meta = std::fs::symlink_metadata(path).map_err(|source| failed(path, source))?;
        if !meta.is_dir() {
            return Err(not_trusted(path, "is not a directory"));
        }
        self.check_meta(path, &meta)
    }

    fn check_meta(self, path: &Path, meta: &Metadata) -> Result<(), TrustError> {
        if !self.holds(meta) {
            return Err(not_trusted(path, "does not belong to root"));
        }
        if meta.mode() & 0o022 != 0 {
            return Err(not_trusted(path, "is writable by others than root"));
        }
        Ok(())
    }

    /// Opens a trusted regular file.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn open(self, path: &Path, writable: Writable) -> Result<File, TrustError> {
        self.check_directories(path)?;
        // NONBLOCK: a FIFO in its place must not make us wait before we see what it is.
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .write(writable == Writable::Yes)
            .custom_flags(flags)
            .open(path)
            .map_err(|source| failed(path, source))?;
        let meta = file.metadata().map_err(|source| failed(path, source))?;
        if !meta.is_file() {
            return Err(not_trusted(path, "is not a regular file"));
        }
        self.check_meta(path, &meta)?;
        Ok(file)
    }

    /// Reads a trusted regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(self, path: &Path, limit: usize) -> Result<Vec<u8>, TrustError> {
        read(&self.open(path, Writable::No)?, path, limit)
    }

    /// The same for a key, which nobody but its owner may be able to read.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read_secret(self, path: &Path, limit: usize) -> Result<Vec<u8>, TrustError> {
        let file = self.open(path, Writable::No)?;
        if file.metadata().map_err(|source| failed(path, source))?.mode() & 0o077 != 0 {
            return Err(not_trusted(path, "is readable by others than root: chmod 600"));
        }
        read(&file, path, limit)
    }
}

fn read(file: &File, path: &Path, limit: usize) -> Result<Vec<u8>, TrustError> {
    // At once in its full size: growing would leave copies of a key behind.
    let mut bytes = Vec::with_capacity(limit.saturating_add(1));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(|source| failed(path, source))?;
    if bytes.len() > limit {
        return Err(not_trusted(path, "is too long"));
    }
    Ok(bytes)
}

/// Whether a file is opened for writing too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// Reading and writing.
    Yes,
    /// Reading only.
    No,
}

/// An I/O error with its path.
pub(crate) fn failed(path: &Path, source: io::Error) -> TrustError {
    TrustError::Io { path: path.display().to_string(), source }
}

fn not_trusted(path: &Path, rule: &'static str) -> TrustError {
    TrustError::NotTrusted { path: path.display().to_string(), rule }
}
