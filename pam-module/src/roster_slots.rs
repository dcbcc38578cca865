//! What the host remembers of the roster and of revocation lists: two preallocated slots each,
//! overwritten in place and fsynced (the form is `protocol::slots`), so that a full disk neither
//! blocks nor rolls back. A failed write refuses; nothing is ever assumed to be stored.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::fs::{FallocateFlags, FlockOperation};
use twinlock_protocol::ids::CaId;
use twinlock_protocol::request::RosterRef;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::slots::{
    CRL_SLOT_BYTES, HEADER_BYTES, ROSTER_SLOT_BYTES, ROSTER_SLOTS, Slot, SlotHeader, next_write,
};
use twinlock_protocol::{DenyReason, Digest};

use crate::journal;
use crate::refusal::Refusal;
use crate::trusted::{Owner, TrustError, Writable, failed};

/// How often a busy lock is tried, 10 ms apart.
const LOCK_TRIES: u32 = 100;

/// Reads the roster that this host pins: of the two slots, the newest that is the roster of its pin.
/// Its signatures were verified before it came here; whoever can write here could write any pin.
/// When a slot fails and the other one counts, which may be older, the system log is told.
///
/// # Errors
/// [`DenyReason::RosterUnsound`], with words for the system log.
pub fn load(directory: &Path, owner: Owner) -> Result<VerifiedRoster, Refusal> {
    let (roster, failed) = newest(directory, owner)?;
    if let Some(why) = failed {
        journal::refused("one slot of the roster, the other counts", &unsound(why));
    }
    Ok(roster)
}

fn unsound(detail: impl ToString) -> Refusal {
    Refusal::logging(DenyReason::RosterUnsound, detail)
}

/// The newest roster, and what is wrong with a slot that would have come first.
pub(crate) fn newest(directory: &Path, owner: Owner) -> Result<(VerifiedRoster, Option<String>), Refusal> {
    let mut failed = None;
    let mut slots = Vec::new();
    for path in ROSTER_SLOTS.map(|name| directory.join(name)) {
        match read_slot(&path, owner) {
            // There are two: the newer one comes first.
            Ok(Some(slot)) => {
                let is_older = slots.first().is_some_and(|one: &Slot| one.sequence >= slot.sequence);
                slots.insert(usize::from(is_older), slot);
            }
            Ok(None) if is_blank(&path, owner) => {}
            Ok(None) => failed = Some(format!("{} is torn", path.display())),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(unsound(error)),
        }
    }
    for slot in slots {
        let verified = RosterEnvelope::from_bytes(&slot.payload)
            .map_err(|error| error.to_string())
            .and_then(|envelope| VerifiedRoster::pinned(&envelope, &slot.pin).map_err(|error| error.to_string()));
        match verified {
            Ok(roster) => return Ok((roster, failed)),
            Err(error) => failed = Some(error),
        }
    }
    Err(unsound(failed.unwrap_or_else(|| format!("no slot in {} holds a roster", directory.display()))))
}

/// Whether a slot was made and never written.
fn is_blank(path: &Path, owner: Owner) -> bool {
    let header = owner.open(path, Writable::No).and_then(|file| read_bytes(&file, path, HEADER_BYTES));
    header.is_ok_and(|header| header.iter().all(|byte| *byte == 0))
}

/// Stores a roster with the digest to pin, for `twinlock host join`; the module itself never calls
/// this. Slots that are missing are made, at their full size and readable by the directory's group.
///
/// # Errors
/// [`TrustError`]: nothing counts but what was there before.
pub fn store(directory: &Path, owner: Owner, version: u64, pin: Digest, envelope: &[u8]) -> Result<(), TrustError> {
    roster_form(directory).write(owner, |_| Ok(Some((version, pin, envelope.to_vec()))))
}

/// Pins a newer roster, verified as following from the one that was pinned: on disk when this
/// returns. What is there already stays.
///
/// # Errors
/// [`DenyReason::RosterMismatch`] when the host pins one meanwhile from which this does not follow; [`DenyReason::RosterNotStored`] when it can't be stored.
pub fn adopt(
    directory: &Path,
    owner: Owner,
    roster: &VerifiedRoster,
    envelope: &RosterEnvelope,
) -> Result<(), Refusal> {
    let own = roster.reference();
    let mut overtaken = false;
    let written = roster_form(directory).write(owner, |newest| {
        let newest = newest.map(|slot| RosterRef { version: slot.version, digest: slot.pin });
        // By descent, not by number: `host join` may have pinned another chain since, at a lower one.
        overtaken = newest.as_ref().is_some_and(|newest| !roster.descends_from(newest));
        let stands = overtaken || newest == Some(own);
        Ok((!stands).then(|| (own.version, own.digest, envelope.to_bytes())))
    });
    match written {
        Ok(()) if overtaken => Err(DenyReason::RosterMismatch.into()),
        Ok(()) => Ok(()),
        Err(error) => Err(Refusal::logging(DenyReason::RosterNotStored, error)),
    }
}

/// Whether this is still the roster that the host pins: nothing is granted under one that another
/// elevation, or `host join`, has replaced meanwhile.
///
/// # Errors
/// [`DenyReason::RosterMismatch`] when another one is there; [`DenyReason::RosterUnsound`] when the
/// slots can't be read.
pub fn check_newest(directory: &Path, owner: Owner, own: &RosterRef) -> Result<(), Refusal> {
    let mut newest: Option<SlotHeader> = None;
    for path in roster_form(directory).paths {
        let file = match owner.open(&path, Writable::No) {
            Ok(file) => file,
            Err(error) if error.is_missing() => continue,
            Err(error) => return Err(unsound(error)),
        };
        let header = SlotHeader::decode(&read_bytes(&file, &path, HEADER_BYTES).map_err(unsound)?);
        newest = newest.into_iter().chain(header).max_by_key(SlotHeader::sequence);
    }
    // A header says what a slot may hold; what counts is what both together give.
    let same = newest.is_some_and(|header| (header.version(), header.pin()) == (own.version, own.digest));
    if same || load(directory, owner)?.reference() == *own { Ok(()) } else { Err(DenyReason::RosterMismatch.into()) }
}

/// The highest revocation list number that this host has accepted from a CA; 0 when there is none.
///
/// # Errors
/// [`DenyReason::CrlInvalid`] when it can't be read.
pub fn crl_floor(directory: &Path, owner: Owner, ca: &CaId, certificate: &[u8]) -> Result<u64, Refusal> {
    let mut floor = 0;
    for path in crl_form(directory, ca).paths {
        match read_slot(&path, owner) {
            Ok(Some(slot)) if slot.pin == Digest::plain(certificate) => floor = slot.version.max(floor),
            Ok(_) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(Refusal::logging(DenyReason::CrlInvalid, error)),
        }
    }
    Ok(floor)
}

/// Remembers that this number was seen: on disk when this returns.
///
/// # Errors
/// [`DenyReason::CrlInvalid`] when a higher one was stored meanwhile, [`DenyReason::RecordFailed`]
/// when it can't be stored.
pub fn raise_crl_floor(
    directory: &Path,
    owner: Owner,
    ca: &CaId,
    certificate: &[u8],
    number: u64,
) -> Result<(), Refusal> {
    if crl_floor(directory, owner, ca, certificate)? == number {
        return Ok(());
    }
    let pin = Digest::plain(certificate);
    let mut rolled_back = false;
    let written = crl_form(directory, ca).write(owner, |newest| {
        let floor = newest.filter(|slot| slot.pin == pin).map_or(0, |slot| slot.version);
        rolled_back = number < floor;
        Ok((number > floor).then(|| (number, pin, Vec::new())))
    });
    match written {
        Ok(()) if rolled_back => Err(DenyReason::CrlInvalid.into()),
        Ok(()) => Ok(()),
        Err(error) => Err(Refusal::logging(DenyReason::RecordFailed, error)),
    }
}

fn roster_form(directory: &Path) -> Form {
    Form { paths: ROSTER_SLOTS.map(|name| directory.join(name)), size: ROSTER_SLOT_BYTES, mode: 0o640 }
}

fn crl_form(directory: &Path, ca: &CaId) -> Form {
    Form { paths: [0, 1].map(|slot| directory.join(format!("crl-{ca}-{slot}"))), size: CRL_SLOT_BYTES, mode: 0o600 }
}

/// A pair of slot files.
struct Form {
    paths: [PathBuf; 2],
    size: u64,
    mode: u32,
}

impl Form {
    /// Under a lock, reads both slots and overwrites the older with what `next` makes of the newer,
    /// if anything.
    fn write(
        &self,
        owner: Owner,
        next: impl FnOnce(Option<&Slot>) -> Result<Option<(u64, Digest, Vec<u8>)>, TrustError>,
    ) -> Result<(), TrustError> {
        let _limit = NoFileSizeLimit::lift();
        let [first, second] = &self.paths;
        let files = [self.open_or_make(owner, first)?, self.open_or_make(owner, second)?];
        lock(&files[0]).map_err(|source| failed(first, source))?;
        let slots = [read_open(&files[0], first)?, read_open(&files[1], second)?];
        let current = [slots[0].as_ref(), slots[1].as_ref()];
        let newest = current.into_iter().flatten().max_by_key(|slot| slot.sequence);
        let Some((version, pin, payload)) = next(newest)? else { return Ok(()) };
        let (index, sequence) = next_write(current);
        let (file, path) = if index == 0 { (&files[0], first) } else { (&files[1], second) };
        let invalid = |_| failed(path, io::Error::from(io::ErrorKind::InvalidInput));
        let bytes = Slot { sequence, version, pin, payload }.encode().map_err(invalid)?;
        file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).map_err(|source| failed(path, source))
    }

    /// Opens a slot; makes it when it is missing, with all its blocks, so that no later write needs
    /// space.
    fn open_or_make(&self, owner: Owner, path: &Path) -> Result<File, TrustError> {
        match owner.open(path, Writable::Yes) {
            Ok(file) => return Ok(file),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        let io = |source| failed(path, source);
        // O_EXCL: whoever makes it first, both go on with the same file.
        let made = File::options().read(true).write(true).create_new(true).mode(self.mode).open(path);
        match made {
            Ok(file) => {
                let all = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.size)
                    .map_err(io::Error::from)
                    .and_then(|()| rustix::fs::fchmod(&file, self.mode.into()).map_err(io::Error::from))
                    .and_then(|()| file.sync_all())
                    .and_then(|()| path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all()));
                if let Err(source) = all {
                    let _stays_invalid_if_it_stays = std::fs::remove_file(path);
                    return Err(io(source));
                }
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => owner.open(path, Writable::Yes),
            Err(source) => Err(io(source)),
        }
    }
}

/// Reads one slot: `None` when it holds nothing valid.
fn read_slot(path: &Path, owner: Owner) -> Result<Option<Slot>, TrustError> {
    read_open(&owner.open(path, Writable::No)?, path)
}

fn read_open(file: &File, path: &Path) -> Result<Option<Slot>, TrustError> {
    let Ok(header) = SlotHeader::decode(&read_bytes(file, path, HEADER_BYTES)?) else { return Ok(None) };
    let payload = read_bytes(file, path, header.payload_bytes())?;
    Ok(header.with_payload(payload).ok())
}

/// The next `length` bytes, or what there is of them.
fn read_bytes(file: &File, path: &Path, length: usize) -> Result<Vec<u8>, TrustError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(length).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut bytes).map_err(|source| failed(path, source))?;
    Ok(bytes)
}

/// Takes the lock without waiting for ever: whoever holds it is another elevation, or hostile.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(std::time::Duration::from_millis(10)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The caller's RLIMIT_FSIZE, lifted for the length of a write: beyond it a write would end this
/// process by SIGXFSZ with the terminal in disorder. Where it can't be lifted, the write fails.
struct NoFileSizeLimit(Option<(u64, u64)>);

impl NoFileSizeLimit {
    fn lift() -> Self {
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_FSIZE) else { return Self(None) };
        let most = nix::libc::RLIM_INFINITY;
        Self((soft != most && setrlimit(Resource::RLIMIT_FSIZE, most, most).is_ok()).then_some((soft, hard)))
    }
}

impl Drop for NoFileSizeLimit {
    fn drop(&mut self) {
        if let Some((soft, hard)) = self.0 {
            let _as_it_was = setrlimit(Resource::RLIMIT_FSIZE, soft, hard);
        }
    }
}
