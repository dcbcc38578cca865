//! What is on disk while a change of the PAM files is not settled: everything that is needed to put
//! them back, by whoever comes next. Written before the first file changes, removed after the last.
//! Read strictly; what cannot be read is never taken for nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twinlock_protocol::codec::{self, DecodeError};
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::{Digest, UnixTime};

use super::files::{self, FileError, Snapshot};
use super::lines::Gate;
use super::seat::Seat;

/// The only version of these files.
pub const VERSION: u32 = 1;
/// The longest state file: a few PAM files in base64.
const LONGEST: usize = 16 * 1024 * 1024;

/// The lock of whoever changes files; holds its pid.
const LOCK: &str = "lock";
/// How long to wait for it: changing takes a few fsyncs.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Where things are. Fixed for the programs; tests have their own.
#[derive(Clone, Debug)]
pub struct Places {
    /// PAM's service files.
    pub pam_d: PathBuf,
    /// Where distributions put service files that /etc overrides.
    pub vendor: Vec<PathBuf>,
    /// This state.
    pub state: PathBuf,
    /// GrantRecords.
    pub grants: PathBuf,
    /// The key that signs requests.
    pub host_key: PathBuf,
    /// Where the module connects.
    pub agent_socket: PathBuf,
}

impl Places {
    /// Those of an installed system. Where a configuration names others, those.
    #[must_use]
    pub fn installed() -> Self {
        let named = |file: &str, key: &str, otherwise: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let table: toml::Table = text.parse().unwrap_or_default();
            PathBuf::from(table.get(key).and_then(toml::Value::as_str).unwrap_or(otherwise))
        };
        Self {
            pam_d: "/etc/pam.d".into(),
            vendor: ["/usr/lib/pam.d", "/usr/etc/pam.d", "/usr/share/pam.d"].map(Into::into).to_vec(),
            state: "/var/lib/twinlock/enable".into(),
            grants: named("/etc/twinlock/reaper.toml", "grants", "/var/lib/twinlock/grants"),
            host_key: named("/etc/twinlock/module.toml", "host_key", "/etc/twinlock/host.key"),
            agent_socket: named("/etc/twinlock/module.toml", "agent_socket", "/run/twinlock/agent.sock"),
        }
    }

    fn pending(&self) -> PathBuf {
        self.state.join("pending.json")
    }

    fn enabled(&self) -> PathBuf {
        self.state.join("enabled.json")
    }

    fn last(&self) -> PathBuf {
        self.state.join("last.json")
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Lines go in, and stay only if confirmed.
    Enable,
    /// Lines go out.
    Disable,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Files are being replaced; if whoever does it dies, they are put back at once.
    Applying,
    /// The new files stand and wait for their confirmation, until the deadline.
    Waiting,
    /// It is decided that they stay; only this state is left to clear away.
    Settled,
}

/// A file that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Touched {
    /// Its name in the PAM directory.
    pub name: String,
    /// As it was.
    pub before: Snapshot,
    /// The digest of what it becomes.
    pub after: Digest,
}

/// A process, known again by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Clock ticks since boot.
    pub start_time: u64,
}

/// A change that is not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// [`VERSION`].
    pub version: u32,
    /// What.
    pub doing: Doing,
    /// How far.
    pub step: Step,
    /// What is gated once this is settled.
    pub gates: Vec<Gate>,
    /// What this change adds; a confirmation must come through one of its services.
    pub added: Vec<Gate>,
    /// The files.
    pub files: Vec<Touched>,
    /// The boot it began in.
    pub boot_id: String,
    /// When it began, in milliseconds of `CLOCK_BOOTTIME`.
    pub begun_boot_ms: u64,
    /// When it began, on the wall clock; for people.
    pub begun_at: UnixTime,
    /// Until when it must be confirmed, in milliseconds of `CLOCK_BOOTTIME`.
    pub deadline_boot_ms: u64,
    /// Who replaces the files.
    pub caller: Process,
    /// The login session that this began in.
    pub by: Seat,
    /// Why the last elevation that was seen does not confirm it.
    pub noted: Option<String>,
}

/// What is gated, as far as this tool settled it. The files themselves decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enabled {
    /// [`VERSION`].
    pub version: u32,
    /// What.
    pub gates: Vec<Gate>,
    /// Since when.
    pub since: UnixTime,
    /// The grant that confirmed it.
    pub grant: Option<GrantId>,
}

/// How the last change ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// [`VERSION`].
    pub version: u32,
    /// What it was.
    pub doing: Doing,
    /// Whether it stays.
    pub stays: bool,
    /// In words.
    pub why: String,
    /// When.
    pub at: UnixTime,
}

/// The state can't be read, written or locked.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file of ours can't be read or replaced.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory or its lock.
    #[error("{}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else is at it, and does not go on.
    #[error("{0} holds the lock and does not go on: end it (kill -KILL), then run this again")]
    Busy(String),
    /// It holds something else.
    #[error("{} is of another version, or damaged", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
}

/// The state directory, locked: whoever holds this may change PAM files. Ends with its process.
#[derive(Debug)]
pub struct Locked<'p> {
    places: &'p Places,
    _lock: File,
}

impl Places {
    /// Locks, and waits for whoever has it; not for ever: that one may be stopped.
    ///
    /// # Errors
    /// [`StateError::Directory`], [`StateError::Busy`].
    pub fn lock(&self) -> Result<Locked<'_>, StateError> {
        self.lock_within(LOCK_WAIT)
    }

    fn lock_within(&self, limit: Duration) -> Result<Locked<'_>, StateError> {
        let lock = self.open_lock(LOCK)?;
        let until = Instant::now() + limit;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    // For whoever waits in vain: a full disk only costs them the name.
                    let _named_or_not =
                        lock.set_len(0).and_then(|()| lock.write_all_at(std::process::id().to_string().as_bytes(), 0));
                    return Ok(Locked { places: self, _lock: lock });
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(StateError::Busy(self.holder())),
                Err(error) => return Err(self.directory(error.into())),
            }
        }
    }

    /// Who holds the lock, as far as it said so.
    fn holder(&self) -> String {
        let text = std::fs::read_to_string(self.state.join(LOCK)).unwrap_or_default();
        text.parse::<u32>().map_or_else(|_| "another process".to_owned(), |pid| format!("process {pid}"))
    }

    /// A place of a watcher, held until its process ends; none when another holds it.
    ///
    /// # Errors
    /// [`StateError::Directory`].
    pub fn watch_place(&self, index: usize) -> Result<Option<File>, StateError> {
        let file = self.open_lock(&format!("watcher.{index}"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(self.directory(error.into())),
        }
    }

    /// Whether the watcher at this place lives.
    ///
    /// # Errors
    /// [`StateError::Directory`].
    pub fn is_watched(&self, index: usize) -> Result<bool, StateError> {
        Ok(self.watch_place(index)?.is_none())
    }

    fn open_lock(&self, name: &str) -> Result<File, StateError> {
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.state)?;
            std::fs::set_permissions(&self.state, std::fs::Permissions::from_mode(0o700))?;
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.state.join(name))
        };
        open().map_err(|source| self.directory(source))
    }

    fn directory(&self, source: io::Error) -> StateError {
        StateError::Directory { path: self.state.clone(), source }
    }

    /// The change that is not settled.
    ///
    /// # Errors
    /// [`StateError`]; never none in place of something that can't be read.
    pub fn pending_change(&self) -> Result<Option<Pending>, StateError> {
        read(&self.pending())
    }

    /// What was settled.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn enabled_gates(&self) -> Result<Option<Enabled>, StateError> {
        read(&self.enabled())
    }

    /// How the last change ended.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn last_outcome(&self) -> Result<Option<Last>, StateError> {
        read(&self.last())
    }
}

impl Locked<'_> {
    /// Where things are.
    #[must_use]
    pub fn places(&self) -> &Places {
        self.places
    }

    /// Writes the change that is not settled.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save(&self, pending: &Pending) -> Result<(), StateError> {
        write(&self.places.pending(), pending)
    }

    /// Nothing is unsettled any more; what became of it stays readable.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn clear(&self, last: &Last) -> Result<(), StateError> {
        write(&self.places.last(), last)?;
        Ok(files::remove(&self.places.pending())?)
    }

    /// Writes what is gated; nothing when that is nothing.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_enabled(&self, enabled: &Enabled) -> Result<(), StateError> {
        match enabled.gates.is_empty() {
            true => Ok(files::remove(&self.places.enabled())?),
            false => write(&self.places.enabled(), enabled),
        }
    }
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    Ok(files::write_state(path, &codec::encode(value))?)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let Some(snapshot) = Snapshot::take(path)? else { return Ok(None) };
    let decoded = codec::decode("state", LONGEST, &snapshot.bytes.0);
    decoded.map(Some).map_err(|source| StateError::Malformed { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_holder_that_does_not_go_on_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { state: dir.path().join("enable"), ..Places::installed() };
        let held = places.lock().unwrap();
        let refused = places.lock_within(Duration::from_millis(20)).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(held);
        assert!(places.lock_within(Duration::from_millis(20)).is_ok(), "control");
    }
}
