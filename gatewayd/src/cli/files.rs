//! Users, groups and files of an installed system, for the commands that set one up.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

use super::Failure;
use crate::enrol::seal::Owner;

/// The owner for files of a system user; none when we are not root and files stay ours.
///
/// # Errors
/// A [`Failure`] when we are root and the user does not exist.
pub fn owner(user: &str) -> Result<Option<Owner>, Failure> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(Some(Owner { uid: user.uid.as_raw(), gid: user.gid.as_raw() })),
        Ok(None) | Err(_) => Err(Failure::new(
            format!("there is no user {user}"),
            format!("install the package, or: useradd --system --no-create-home --shell /usr/sbin/nologin {user}"),
        )),
    }
}

/// The gid of a group; ours when we are not root.
///
/// # Errors
/// A [`Failure`] when we are root and the group does not exist.
pub fn group(name: &str) -> Result<u32, Failure> {
    if !Uid::effective().is_root() {
        return Ok(Gid::effective().as_raw());
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(Failure::new(
            format!("there is no group {name}"),
            format!("install the package, or: groupadd --system {name}"),
        )),
    }
}

/// A directory with this mode, made if it is missing, and its owner.
///
/// # Errors
/// A [`Failure`] that names it.
pub fn directory(path: &Path, mode: u32, owner: Option<Owner>) -> Result<(), Failure> {
    let made = (|| {
        fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        if let Some(owner) = owner {
            chown(path, Some(owner.uid), Some(owner.gid))?;
        }
        Ok::<(), std::io::Error>(())
    })();
    made.map_err(|error| Failure::plain(format!("cannot make {}: {error}", path.display())))
}

/// A file's bytes, refused over `limit`.
///
/// # Errors
/// A [`Failure`] that names it.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let failure = |error| Failure::plain(format!("cannot read {}: {error}", path.display()));
    let file = fs::File::open(path).map_err(failure)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failure)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes)
    } else {
        Err(Failure::plain(format!("{} is longer than {limit} bytes", path.display())))
    }
}
