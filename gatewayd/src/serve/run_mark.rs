//! Tells the database that ran here last from one that was put back. A running gateway writes, again and
//! again, a new random mark into the database and, beside it, into `gateway.run`; a backup carries neither the file nor a
//! mark that the file could name. A database that is not the file's came from a backup: what it holds
//! as open may be long over, so none of it is believed. Must never take a restored database for the
//! one that ran last; the other way round only costs what was open.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use twinlock_protocol::{Digest, Fixed};

use super::ServeError;
use crate::clock::Clock;
use crate::random::random;
use crate::store::{Store, Transaction, Work};

/// The file beside the database: the marks that it may carry, base64url, one on a line.
pub const FILE: &str = "gateway.run";

/// The file.
#[derive(Clone, Debug)]
pub(super) struct RunMark {
    path: PathBuf,
}

impl RunMark {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE) }
    }

    /// Whether the database is another than the one that ran here last.
    pub(super) fn is_restored(&self, store: &dyn Store) -> Result<bool, ServeError> {
        let known = store.run_mark()?;
        let listed = match std::fs::read_to_string(&self.path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(self.failed(source)),
        };
        Ok(match (&known, &listed) {
            // A new gateway, or one from before there were marks.
            (None, None) => false,
            (Some(mark), Some(text)) => !text.lines().any(|line| Fixed::from_text(line) == Some(mark.0)),
            (Some(_), None) | (None, Some(_)) => true,
        })
    }

    /// A new mark for both: at the start (only after what a restored database held as open is void),
    /// every minute, and at the end, so that a copy that somebody made of a running gateway's file is
    /// soon another one's. The file names the old mark too until the database has the new one: a crash
    /// leaves a pair that fits (at the very first start: one that says "restored", once).
    pub(super) async fn renew(&self, store: &dyn Store, clock: &dyn Clock) -> Result<(), ServeError> {
        let new = Digest(Fixed(random().map_err(|_| ServeError::Random)?));
        let old = if self.is_restored(store)? { None } else { store.run_mark()? };
        let lines: String = old.iter().chain([&new]).map(|mark| format!("{}\n", mark.0.to_text())).collect();
        replace(&self.path, lines.as_bytes()).map_err(|source| self.failed(source))?;
        let work = Work::RunMark(new);
        store.commit(Transaction { at_ms: clock.unix_ms(), work, events: Vec::new() }).await?;
        let line = format!("{}\n", new.0.to_text());
        replace(&self.path, line.as_bytes()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> ServeError {
        ServeError::File { path: self.path.clone(), source }
    }
}

/// The whole file or the old one, on disk when this returns.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("run.new");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
