//! Writes what the ceremony made, each file whole or not at all: temporary file, fsync, rename,
//! fsync of the directory. `roster.json` comes last; without it nothing is sealed, and a next
//! ceremony may begin over what an interrupted one left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use twinlock_protocol::roster::RosterEnvelope;
use zeroize::Zeroizing;

/// The roster's envelope, in a gateway's state directory.
pub const ROSTER_FILE: &str = "roster.json";
/// The digest that the gateway pins, base64url.
pub const PIN_FILE: &str = "roster.pin";
/// The elevation CA's key, PKCS #8, DER.
pub const CA_KEY_FILE: &str = "ca.key";
/// The elevation CA's certificate, DER.
pub const CA_FILE: &str = "ca.der";
/// The agent listener's TLS key, PKCS #8, DER.
pub const GATEWAY_KEY_FILE: &str = "gateway.key";

/// The sealing failed; nothing is sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is a roster already.
    #[error("{0} exists: this gateway's roster is sealed already")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a gateway needs besides the roster.
pub struct GatewayKeys {
    /// The elevation CA's key, PKCS #8, DER.
    pub ca_key: Zeroizing<Vec<u8>>,
    /// The elevation CA's certificate, DER.
    pub ca: Vec<u8>,
    /// The agent listener's TLS key, PKCS #8, DER.
    pub gateway_key: Zeroizing<Vec<u8>>,
}

/// A user and group that files are given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its uid.
    pub uid: u32,
    /// Its gid.
    pub gid: u32,
}

/// Refuses a state directory that holds a roster.
///
/// # Errors
/// [`SealError::Exists`]; [`SealError::Write`] when the directory cannot be read.
pub fn check_unsealed(dir: &Path) -> Result<(), SealError> {
    let path = dir.join(ROSTER_FILE);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SealError::Write { path, source }),
        Ok(_) => Err(SealError::Exists(path)),
    }
}

/// Seals: keys first, then the pin, then the roster.
///
/// # Errors
/// [`SealError`].
pub fn seal(dir: &Path, keys: &GatewayKeys, envelope: &RosterEnvelope, owner: Option<Owner>) -> Result<(), SealError> {
    check_unsealed(dir)?;
    let pin = envelope.digest.0.to_text();
    let roster = envelope.to_bytes();
    let files: [(&str, &[u8], u32); 5] = [
        (CA_KEY_FILE, &keys.ca_key, 0o600),
        (CA_FILE, &keys.ca, 0o600),
        (GATEWAY_KEY_FILE, &keys.gateway_key, 0o600),
        (PIN_FILE, pin.as_bytes(), 0o600),
        (ROSTER_FILE, &roster, 0o600),
    ];
    files.into_iter().try_for_each(|(name, bytes, mode)| replace(&dir.join(name), bytes, mode, owner))
}

/// Puts a whole file in place of another, or of none, durably.
///
/// # Errors
/// [`SealError::Write`].
pub fn replace(path: &Path, bytes: &[u8], mode: u32, owner: Option<Owner>) -> Result<(), SealError> {
    write_durably(path, bytes, mode, owner).map_err(|source| SealError::Write { path: path.to_owned(), source })
}

fn write_durably(path: &Path, bytes: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    // A bare file name has an empty parent, which means here.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let temporary = dir.join(format!(".{}.new", name.to_string_lossy()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        if let Some(owner) = owner {
            fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        // After the owner, and whatever the umask was.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_a_bare_name_means_here() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"one", 0o644, None).unwrap();
        replace(&path, b"two", 0o600, None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("missing/file"), b"x", 0o600, None).is_err());

        let name = PathBuf::from(format!("twinlock-test-{}", std::process::id()));
        let written = replace(&name, b"here", 0o600, None);
        let read = fs::read(&name);
        let _ = fs::remove_file(&name);
        written.unwrap();
        assert_eq!(read.unwrap(), b"here");
    }

    /// Catalogue: G2 (control: a_file_is_replaced_whole_with_its_mode_and_a_bare_name_means_here)
    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        // What cannot be replaced by a file: a directory in its place.
        let path = dir.path().join("file");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"old").unwrap();
        assert!(replace(&path, b"new", 0o600, None).is_err());
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
