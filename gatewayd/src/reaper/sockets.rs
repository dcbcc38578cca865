//! Listening sockets, and the two words to systemd, for the roles that run on a host. A socket comes
//! from systemd (`LISTEN_FDS`), matched by its path, or is made here.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net as unix;
use std::path::Path;

use tokio::net::UnixListener;

/// Sockets that systemd passed.
#[derive(Debug, Default)]
pub struct Passed(Vec<unix::UnixListener>);

impl Passed {
    /// Takes them from the environment; call once, early.
    ///
    /// # Errors
    /// When a descriptor is passed that is no Unix stream listener.
    pub fn from_environment() -> Result<Self, Error> {
        let mut fds = listenfd::ListenFd::from_env();
        let mut passed = Vec::new();
        for index in 0..fds.len() {
            passed.extend(fds.take_unix_listener(index)?);
        }
        Ok(Self(passed))
    }

    /// The listener of `path`: a passed one, or a new one with `mode`.
    ///
    /// # Errors
    /// When it cannot be made, or another process answers there.
    pub fn listener(&mut self, path: &Path, mode: u32) -> Result<UnixListener, Error> {
        let here = |listener: &unix::UnixListener| {
            listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path))
        };
        let listener = match self.0.iter().position(here) {
            Some(index) => self.0.swap_remove(index),
            None => bind(path, mode)?,
        };
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }
}

fn bind(path: &Path, mode: u32) -> Result<unix::UnixListener, Error> {
    if let Ok(meta) = path.symlink_metadata() {
        if !meta.file_type().is_socket() {
            return Err(Error::new(ErrorKind::AlreadyExists, "something that is no socket is in the way"));
        }
        if unix::UnixStream::connect(path).is_ok() {
            return Err(Error::new(ErrorKind::AddrInUse, "another process listens here"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = unix::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Lets this process open as many files as it ever may: each waiting request and each live session
/// holds some.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Tells systemd that this service is ready, and then, if it asked, that it is alive, for ever.
/// Without systemd it does nothing.
pub async fn tell_systemd() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd could not be told");
    }
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        ticks.tick().await;
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
            tracing::warn!(%error, "systemd could not be told");
        }
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be awaited.
pub async fn stop_signal() -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(path: &Path) -> Result<UnixListener, Error> {
        Passed::default().listener(path, 0o600)
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        drop(unix::UnixListener::bind(&path).unwrap());
        let listener = open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let _client = unix::UnixStream::connect(&path).unwrap();
        listener.accept().await.unwrap();
    }

    /// Catalogue: S2 (control: a_socket_that_nobody_listens_on_is_replaced)
    #[tokio::test]
    async fn a_path_that_somebody_else_holds_is_an_error_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let _squatter = unix::UnixListener::bind(&path).unwrap();
        assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let file = dir.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert_eq!(open(&file).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(open(&link).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}
