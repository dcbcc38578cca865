//! Sockets and paths that are not to be trusted.
use std::os::unix::fs::PermissionsExt as _;

use crate::link::{Link, LinkError, Peer};
use crate::signals::Signals;

use super::*;

fn connect(path: &Path, uid: Option<u32>, owner: Owner) -> Result<(), LinkError> {
    let signals = Signals::block().unwrap();
    Link::connect(path, Peer { owner, uid }, &signals).map(|_| ())
}

/// Catalogue: S2 (control: inline)
#[test]
fn a_socket_in_a_directory_that_others_can_write_is_not_believed() {
    let directory = private_directory();
    let path = directory.path().join("agent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let me = Some(rustix::process::geteuid().as_raw());
    assert!(connect(&path, me, owner()).is_ok());
    for mode in [0o720, 0o702, 0o1777] {
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = connect(&path, me, owner()).unwrap_err();
        assert!(matches!(error, LinkError::NotTrusted(_)), "{mode:o} {error:?}");
    }
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(connect(&path, me, owner()).is_ok());
    // A link to a trusted place is no trusted place.
    let detour = private_directory();
    std::os::unix::fs::symlink(directory.path(), detour.path().join("run")).unwrap();
    let error = connect(&detour.path().join("run/agent.sock"), me, owner()).unwrap_err();
    assert!(matches!(error, LinkError::NotTrusted(_)), "{error:?}");
    for path in ["agent.sock", "/run/../run/agent.sock"] {
        assert!(connect(Path::new(path), me, owner()).is_err());
    }
}

#[test]
fn the_listener_must_belong_to_root_or_the_named_uid() {
    let directory = private_directory();
    let path = directory.path().join("agent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let me = rustix::process::geteuid().as_raw();
    assert!(connect(&path, Some(me), owner()).is_ok());
    // root's listener is believed without being named: that is how socket activation looks.
    assert_eq!(connect(&path, None, owner()).is_ok(), me == 0);
    assert_eq!(connect(&path, Some(me + 1), owner()).is_ok(), me == 0);
}
