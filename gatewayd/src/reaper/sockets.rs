//! Listening sockets, and the words to systemd, for all three roles. A socket comes from systemd
//! (`LISTEN_FDS`), matched by its path or address, or is made here. systemd hears that a role is alive
//! only as long as its work goes on ([`Pulse`]).

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net as unix;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};

/// Sockets that systemd passed.
#[derive(Debug, Default)]
pub struct Passed {
    unix: Vec<unix::UnixListener>,
    tcp: Vec<std::net::TcpListener>,
}

impl Passed {
    /// Takes them from the environment; call once, early.
    ///
    /// # Errors
    /// When a descriptor is passed that is no stream listener.
    pub fn from_environment() -> Result<Self, Error> {
        let mut fds = listenfd::ListenFd::from_env();
        let mut passed = Self::default();
        for index in 0..fds.len() {
            // One that is of the other kind stays where it is.
            match fds.take_unix_listener(index) {
                Ok(listener) => passed.unix.extend(listener),
                Err(_) => passed.tcp.extend(fds.take_tcp_listener(index)?),
            }
        }
        Ok(passed)
    }

    /// The listener of `path`: a passed one, or a new one with `mode`.
    ///
    /// # Errors
    /// When it cannot be made, or another process answers there.
    pub fn listener(&mut self, path: &Path, mode: u32) -> Result<UnixListener, Error> {
        self.listener_for(path, mode, None)
    }

    /// The same, a new one for its owner, root and this group alone. Where we may not give it to that
    /// group, `mode` stands: it is the peer's credentials that decide.
    ///
    /// # Errors
    /// As [`Self::listener`].
    pub fn listener_for(&mut self, path: &Path, mode: u32, group: Option<u32>) -> Result<UnixListener, Error> {
        if let Some(listener) = self.unix(path)? {
            return Ok(listener);
        }
        let listener = bind(path, mode, group)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }

    /// The listener of `path` if one was passed.
    ///
    /// # Errors
    /// When the runtime does not take it.
    pub fn unix(&mut self, path: &Path) -> Result<Option<UnixListener>, Error> {
        let here = |listener: &unix::UnixListener| {
            listener.local_addr().is_ok_and(|address| address.as_pathname() == Some(path))
        };
        let Some(index) = self.unix.iter().position(here) else { return Ok(None) };
        let listener = self.unix.swap_remove(index);
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Some)
    }

    /// The listener of `address`: a passed one that listens there and nowhere else, or a new one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn tcp(&mut self, address: SocketAddr) -> Result<TcpListener, Error> {
        let here = |listener: &std::net::TcpListener| listener.local_addr().is_ok_and(|found| found == address);
        let Some(index) = self.tcp.iter().position(here) else { return TcpListener::bind(address).await };
        let listener = self.tcp.swap_remove(index);
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// Says which passed sockets nobody asked for: whoever connects there would wait for ever, so they
    /// are closed. The unit and the configuration name different places.
    pub fn close_the_rest(self) {
        let unix = self.unix.iter().filter_map(|listener| listener.local_addr().ok()).map(|at| format!("{at:?}"));
        let tcp = self.tcp.iter().filter_map(|listener| listener.local_addr().ok()).map(|at| at.to_string());
        for place in unix.chain(tcp) {
            tracing::warn!(place, "systemd passed a socket that the configuration does not name: it is closed");
        }
    }
}

/// Counts rounds of a role's work, so that its watchdog tells life from a loop that stands still.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// A round is done.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there was a beat since `seen` was written here the last time.
    fn went_on(&self, seen: &mut Option<u64>) -> bool {
        let now = self.0.load(Ordering::Relaxed);
        seen.replace(now) != Some(now)
    }
}

fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<unix::UnixListener, Error> {
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
    let mode = match group.map(|group| std::os::unix::fs::chown(path, None, Some(group))) {
        Some(Ok(())) => 0o660,
        Some(Err(error)) => {
            tracing::warn!(%error, socket = %path.display(), "the socket can't be given to the agent's group");
            mode
        }
        None => mode,
    };
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

/// Tells systemd that this service is ready, and then, if it asked, that it is alive, for ever and as
/// long as `pulse` goes on: a role whose work stands still is restarted. Without systemd it does nothing.
pub async fn tell_systemd(pulse: Pulse) {
    tell(sd_notify::NotifyState::Ready);
    match sd_notify::watchdog_enabled() {
        Some(period) => watchdog(&pulse, period, || tell(sd_notify::NotifyState::Watchdog)).await,
        None => std::future::pending().await,
    }
}

/// Tells systemd in words how this service is doing (`systemctl status`).
pub fn tell_status(words: &str) {
    tell(sd_notify::NotifyState::Status(words));
}

/// Tells systemd that this service stops.
pub fn tell_stopping() {
    tell(sd_notify::NotifyState::Stopping);
}

fn tell(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// Says "alive" four times in `period`, but only when the pulse went on since the last time.
async fn watchdog(pulse: &Pulse, period: Duration, mut alive: impl FnMut()) {
    let mut ticks = tokio::time::interval(period / 4);
    let mut seen = None;
    loop {
        ticks.tick().await;
        if pulse.went_on(&mut seen) {
            alive();
        } else {
            tracing::warn!("the work stands still; systemd is not told that this service is alive");
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

    #[tokio::test]
    async fn a_passed_listener_serves_exactly_the_address_it_listens_on() {
        let any = "127.0.0.1:0".parse().unwrap();
        let socket = std::net::TcpListener::bind::<SocketAddr>(any).unwrap();
        let at = socket.local_addr().unwrap();
        let mut passed = Passed { unix: Vec::new(), tcp: vec![socket] };
        let wider = SocketAddr::new("0.0.0.0".parse().unwrap(), at.port());
        assert!(passed.tcp(wider).await.is_err(), "a new one, and the port is taken");
        let listener = passed.tcp(at).await.unwrap();
        assert_eq!((listener.local_addr().unwrap(), passed.tcp.len()), (at, 0), "the passed one");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        passed.unix.push(unix::UnixListener::bind(&path).unwrap());
        assert!(passed.unix(&dir.path().join("other.sock")).unwrap().is_none());
        assert!(passed.unix(&path).unwrap().is_some());
    }

    #[test]
    fn a_pulse_goes_on_only_while_the_work_does() {
        let (pulse, mut seen) = (Pulse::default(), None);
        assert!(pulse.went_on(&mut seen), "it has just started");
        assert!(!pulse.went_on(&mut seen), "nothing was done since");
        pulse.clone().beat();
        assert!(pulse.went_on(&mut seen));
        assert!(!pulse.went_on(&mut seen));
    }

    #[tokio::test]
    async fn a_socket_for_a_group_is_open_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reaper.sock");
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        let own = rustix::process::getegid().as_raw();
        let listener = Passed::default().listener_for(&path, 0o666, Some(own)).unwrap();
        assert_eq!(mode(), 0o660);
        drop(listener);
        // Control: without a group.
        let _listener = Passed::default().listener_for(&path, 0o666, None).unwrap();
        assert_eq!(mode(), 0o666);
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
