//! GrantRecords on disk: written and fsynced before a session may start (T5), closed with the end
//! note, and never overwritten by another registration (T4). What the gateway has committed is
//! marked beside the record by an empty file, so that reports survive restarts.
//!
//! `GRANT.json` is the record; `GRANT.opened` means that `open_session` let the session start;
//! `GRANT.started` and `GRANT.ended` that the gateway noted the start, the end. Anything with another ending is a left-over of a write that a crash cut short.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use twinlock_protocol::UnixTime;
use twinlock_protocol::codec::DecodeError;
use twinlock_protocol::evidence::{EndNote, GrantRecord};
use twinlock_protocol::ids::GrantId;

/// The ending of the mark that a session was opened.
pub const OPENED: &str = ".opened";

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A record of this grant is there: a grant starts at most once.
    #[error("grant {0} has a record already")]
    Exists(GrantId),
    /// It has not ended.
    #[error("grant {0} has no end that could be committed")]
    NoEnd(GrantId),
    /// The disk refuses.
    #[error("record {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a record.
    #[error("record {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
}

/// What the gateway has committed of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noted {
    /// Nothing.
    Nothing,
    /// That it started.
    Start,
    /// That it ended.
    End,
}

/// The directory of records. The reaper is its only writer.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens the directory and removes what a crash left half-written.
    ///
    /// # Errors
    /// [`RecordError::Io`] when it is not a writable directory.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        let records = Self { dir: dir.to_owned() };
        let names: std::collections::BTreeSet<String> = records.names()?.into_iter().collect();
        for name in &names {
            // A removal that was cut short leaves marks without their record.
            let grant = name.strip_suffix(".ended").or_else(|| name.strip_suffix(OPENED));
            let mark = grant.is_some_and(|grant| !names.contains(&format!("{grant}.json")));
            if name.ends_with(".new") || mark {
                let path = records.dir.join(name);
                std::fs::remove_file(&path).map_err(|source| RecordError::Io { path, source })?;
            }
        }
        Ok(records)
    }

    /// Writes the record of a new grant. When this returns `Ok`, it survives a power cut; when it
    /// does not, nothing is left behind.
    ///
    /// # Errors
    /// [`RecordError::Exists`], [`RecordError::Io`].
    pub fn create(&self, record: &GrantRecord) -> Result<(), RecordError> {
        let path = self.path(record.grant);
        if path.symlink_metadata().is_ok() {
            return Err(RecordError::Exists(record.grant));
        }
        let new = self.write_new(record)?;
        // A hard link never replaces: two registrations of one grant can't both win.
        let linked = std::fs::hard_link(&new, &path);
        let removed = std::fs::remove_file(&new);
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(RecordError::Exists(record.grant));
            }
            Err(source) => return Err(RecordError::Io { path, source }),
        }
        if let Err(source) = removed.and_then(|()| self.sync_dir()) {
            let _ = std::fs::remove_file(&path);
            return Err(RecordError::Io { path, source });
        }
        Ok(())
    }

    /// Writes the end into a record, durably. An end that is there already stays.
    ///
    /// # Errors
    /// [`RecordError::Io`], [`RecordError::Malformed`].
    pub fn close(&self, grant: GrantId, end: &EndNote) -> Result<(), RecordError> {
        let mut record = self.read(grant)?;
        if record.end.is_some() {
            return Ok(());
        }
        record.end = Some(end.clone());
        let new = self.write_new(&record)?;
        let path = self.path(grant);
        std::fs::rename(&new, &path).and_then(|()| self.sync_dir()).map_err(|source| RecordError::Io { path, source })
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError::Io`], [`RecordError::Malformed`].
    pub fn read(&self, grant: GrantId) -> Result<GrantRecord, RecordError> {
        let path = self.path(grant);
        let bytes = std::fs::read(&path).map_err(|source| RecordError::Io { path: path.clone(), source })?;
        GrantRecord::from_bytes(&bytes).map_err(|source| RecordError::Malformed { path, source })
    }

    /// Whether a record of this grant is there.
    #[must_use]
    pub fn exists(&self, grant: GrantId) -> bool {
        self.path(grant).symlink_metadata().is_ok()
    }

    /// Marks what the gateway has committed. A mark that is lost only sends a report twice; an end
    /// that the record does not hold is not marked, whoever says that it is committed.
    ///
    /// # Errors
    /// [`RecordError::NoEnd`], [`RecordError::Io`], [`RecordError::Malformed`].
    pub fn note(&self, grant: GrantId, noted: Noted) -> Result<(), RecordError> {
        if !self.exists(grant) {
            return Ok(());
        }
        let (mark, other) = match noted {
            Noted::Nothing => return Ok(()),
            Noted::Start => ("started", None),
            Noted::End if self.read(grant)?.end.is_none() => return Err(RecordError::NoEnd(grant)),
            Noted::End => ("ended", Some("started")),
        };
        let path = self.dir.join(format!("{grant}.{mark}"));
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        made.map_err(|source| RecordError::Io { path, source })?;
        if let Some(other) = other {
            let _ = std::fs::remove_file(self.dir.join(format!("{grant}.{other}")));
        }
        Ok(())
    }

    /// Marks that the session of a recorded grant was opened, durably. Repeating changes nothing.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn mark_opened(&self, grant: GrantId) -> Result<(), RecordError> {
        let path = self.dir.join(format!("{grant}{OPENED}"));
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        made.and_then(|file| file.sync_all())
            .and_then(|()| self.sync_dir())
            .map_err(|source| RecordError::Io { path, source })
    }

    /// Every grant whose end the gateway has not committed, with what it has.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn open_ends(&self) -> Result<Vec<(GrantId, Noted)>, RecordError> {
        let names: std::collections::BTreeSet<String> = self.names()?.into_iter().collect();
        let grants = names.iter().filter_map(|name| name.strip_suffix(".json").and_then(GrantId::from_text));
        Ok(grants
            .filter(|grant| !names.contains(&format!("{grant}.ended")))
            .map(|grant| {
                let started = names.contains(&format!("{grant}.started"));
                (grant, if started { Noted::Start } else { Noted::Nothing })
            })
            .collect())
    }

    /// Removes the records of grants that ended before `before` and whose end the gateway has
    /// committed; how many there were. What nobody else has stays, however old it is.
    ///
    /// # Errors
    /// [`RecordError::Io`], when the directory can't be listed or a file not be removed. A record that
    /// can't be read stays.
    pub fn prune(&self, before: UnixTime) -> Result<usize, RecordError> {
        let mut pruned = 0;
        for name in self.names()? {
            let Some(grant) = name.strip_suffix(".ended").and_then(GrantId::from_text) else { continue };
            let over = |end: &EndNote| end.ended_at < before;
            if !self.read(grant).is_ok_and(|record| record.end.as_ref().is_some_and(over)) {
                continue;
            }
            // The record first: a mark without one only lets a cut-short removal be seen.
            for path in [self.path(grant), self.dir.join(format!("{grant}{OPENED}")), self.dir.join(name)] {
                match std::fs::remove_file(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(RecordError::Io { path, source });
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            pruned += 1;
        }
        Ok(pruned)
    }

    fn path(&self, grant: GrantId) -> PathBuf {
        self.dir.join(format!("{grant}.json"))
    }

    fn names(&self) -> Result<Vec<String>, RecordError> {
        let io = |source| RecordError::Io { path: self.dir.clone(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io)? {
            if let Ok(name) = entry.map_err(io)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Writes and fsyncs `GRANT.new`; removes it when that fails.
    fn write_new(&self, record: &GrantRecord) -> Result<PathBuf, RecordError> {
        let path = self.dir.join(format!("{}.new", record.grant));
        let write = || -> std::io::Result<()> {
            let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&record.to_bytes())?;
            file.sync_all()
        };
        match write() {
            Ok(()) => Ok(path),
            Err(source) => {
                let _ = std::fs::remove_file(&path);
                Err(RecordError::Io { path, source })
            }
        }
    }

    fn sync_dir(&self) -> std::io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use twinlock_protocol::Bytes;
    use twinlock_protocol::evidence::{Authority, Certified, EndReason, GrantRecordFormat};
    use twinlock_protocol::request::ElevationRequest;
    use twinlock_protocol::softphone::{self, Fixture};

    use super::*;

    /// The record of a grant that ended at this time, if it has.
    fn record(ended_at: Option<u64>) -> GrantRecord {
        let fixture = Fixture::new(b"ca", UnixTime(1_800_000_000));
        let (request, key) = fixture.request();
        let signed = fixture.sign_request(&request, &key);
        let id = ElevationRequest::id_of(&signed.request.0);
        GrantRecord {
            format: GrantRecordFormat::GrantRecord,
            version: 1,
            grant: id.grant(),
            start: softphone::start(&request, id, &key, 1),
            request: signed,
            authority: Authority::Certificate(Certified {
                evidence: Bytes(Vec::new()),
                certificate: Bytes(Vec::new()),
            }),
            end: ended_at.map(|at| EndNote {
                reason: EndReason::Finished,
                ended_at: UnixTime(at),
                took_ms: 0,
                killed: Vec::new(),
                escaped: Vec::new(),
                lingered: false,
            }),
        }
    }

    #[test]
    fn only_what_ended_long_ago_and_the_gateway_has_is_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let keep = |ended_at, noted: &[Noted]| {
            let record = record(ended_at);
            records.create(&record).unwrap();
            for noted in noted {
                let _ = records.note(record.grant, *noted);
            }
            record.grant
        };
        let (start, end) = (Noted::Start, Noted::End);
        let old = keep(Some(99), &[start, end]);
        records.mark_opened(old).unwrap();
        let stays = [
            keep(Some(100), &[start, end]),
            keep(Some(99), &[start]),
            keep(Some(99), &[]),
            keep(None, &[start, end]),
            keep(None, &[]),
        ];
        // One that can't be read, and one whose name is none.
        let torn = keep(Some(1), &[start, end]);
        std::fs::write(records.path(torn), "{").unwrap();
        std::fs::write(dir.path().join("x.ended"), "").unwrap();
        assert_eq!(records.prune(UnixTime(100)).unwrap(), 1);
        let left = |grant| {
            let names = ["json", "ended", "opened"].map(|ending| dir.path().join(format!("{grant}.{ending}")));
            names.iter().filter(|path| path.exists()).count()
        };
        assert_eq!(left(old), 0);
        assert!(stays.iter().chain([&torn]).all(|grant| records.exists(*grant)));
        assert_eq!(records.prune(UnixTime(100)).unwrap(), 0, "and nothing is left to do");
        // A removal that a crash cut short is finished at the next start.
        let cut = keep(Some(1), &[start, end]);
        records.mark_opened(cut).unwrap();
        records.mark_opened(stays[4]).unwrap();
        std::fs::remove_file(records.path(cut)).unwrap();
        Records::open(dir.path()).unwrap();
        assert_eq!((left(cut), left(stays[4])), (0, 2), "marks of a record stay with it");
        assert!(stays.iter().all(|grant| records.exists(*grant)));
        assert_eq!(records.open_ends().unwrap().len(), 4, "what was not committed is still to be told");
    }
}
