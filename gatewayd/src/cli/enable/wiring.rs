//! Changes PAM's service files and puts them back: the plan as a value, then file after file by
//! rename, with the way back on disk before the first. Whoever dies in between leaves whole files and
//! a state from which the next one goes on.

use std::collections::BTreeSet;
use std::path::PathBuf;

use twinlock_protocol::UnixTime;
use twinlock_protocol::ids::GrantId;

use super::files::{FileError, Snapshot, remove, temporary};
use super::lines::{self, Gate, Phase, Unfit};
use super::seat::Seat;
use super::state::{Doing, Enabled, Last, Locked, Pending, Places, Process, StateError, Step, Touched, VERSION};
use crate::reaper::clock::{BootMs, boot_id, wall};
use crate::reaper::process;

/// libpam's way out where a service's file can't be opened.
pub const OTHER: &str = "other";

/// A file and what is to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name in the PAM directory.
    pub name: String,
    /// As it is.
    pub before: Snapshot,
    /// What it is to hold.
    pub after: Vec<u8>,
}

/// A plan can't be made, or files can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// A gate's service has no file.
    #[error("there is no {}", .0.display())]
    NoService(PathBuf),
    /// A file lies where the distribution puts it; copied to /etc it could be changed.
    #[error("{} lies with the distribution, not in /etc/pam.d: copy it there first", .0.display())]
    Vendor(PathBuf),
    /// The lines don't fit into a file.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        why: Unfit,
    },
    /// A file can't be read or replaced.
    #[error(transparent)]
    File(#[from] FileError),
    /// The state can't be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel does not say which boot this is.
    #[error("/proc/sys/kernel/random/boot_id")]
    BootId(#[source] std::io::Error),
    /// A file changed between plan and change.
    #[error("{} changed meanwhile", .0.display())]
    Changed(PathBuf),
}

/// Which gates have lines in their files now: those whose plain service does.
///
/// # Errors
/// [`WiringError::File`].
pub fn wired_gates(places: &Places) -> Result<BTreeSet<Gate>, WiringError> {
    let mut gates = BTreeSet::new();
    for gate in Gate::ALL {
        let [service, _] = gate.services();
        let file = Snapshot::take(&places.pam_d.join(service))?;
        if file.is_some_and(|file| lines::is_wired(&file.bytes.0)) {
            gates.insert(gate);
        }
    }
    Ok(gates)
}

/// What must change so that exactly `gates` are gated.
///
/// # Errors
/// [`WiringError`]; nothing is changed here.
pub fn plan(places: &Places, gates: &BTreeSet<Gate>) -> Result<Vec<Change>, WiringError> {
    let mut changes = Vec::new();
    for gate in Gate::ALL {
        let [plain, login] = gate.services();
        let wanted = gates.contains(&gate);
        match file(places, plain, wanted)? {
            Some(before) => {
                let phases: &[Phase] = if wanted { &[Phase::Account, Phase::Session] } else { &[] };
                changes.push(change(places, plain, before, |text| lines::wire(text, phases))?);
            }
            None if wanted => return Err(WiringError::NoService(places.pam_d.join(plain))),
            None => {}
        }
        if let Some(before) = file(places, login, wanted)? {
            let phases = if wanted { lines::phases_missing(&before.bytes.0, plain) } else { Vec::new() };
            changes.push(change(places, login, before, |text| lines::wire(text, &phases))?);
        }
    }
    if let Some(before) = file(places, OTHER, !gates.is_empty())? {
        let services: Vec<&str> = gates.iter().flat_map(|gate| gate.services()).collect();
        changes.push(change(places, OTHER, before, |text| lines::wire_other(text, &services))?);
    }
    changes.retain(|change| change.before.bytes.0 != change.after);
    Ok(changes)
}

/// A service's file. A missing one that the distribution has elsewhere must be copied first, where
/// lines are to go in.
fn file(places: &Places, name: &str, wanted: bool) -> Result<Option<Snapshot>, WiringError> {
    let found = Snapshot::take(&places.pam_d.join(name))?;
    if found.is_none() && wanted {
        let vendor = places.vendor.iter().map(|dir| dir.join(name)).find(|path| path.exists());
        if let Some(path) = vendor {
            return Err(WiringError::Vendor(path));
        }
    }
    Ok(found)
}

fn change(
    places: &Places,
    name: &str,
    before: Snapshot,
    edit: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unfit>,
) -> Result<Change, WiringError> {
    // Where nothing of ours is wanted and nothing is, other people's lines are none of our business.
    let text = &before.bytes.0;
    let after = edit(text).or_else(|why| match why {
        Unfit::Foreign(_) if !lines::is_wired(text) => Ok(text.clone()),
        why => Err(WiringError::Unfit { path: places.pam_d.join(name), why }),
    });
    Ok(Change { name: name.to_owned(), after: after?, before })
}

/// Writes down what is about to change. From here on a watcher has something to watch.
///
/// # Errors
/// [`WiringError`].
pub fn begin(
    locked: &Locked<'_>,
    doing: Doing,
    gates: &BTreeSet<Gate>,
    added: &[Gate],
    changes: &[Change],
    within_s: u32,
) -> Result<Pending, WiringError> {
    let begun = BootMs::now();
    let pid = std::process::id();
    let pending = Pending {
        version: VERSION,
        doing,
        step: Step::Applying,
        gates: gates.iter().copied().collect(),
        added: added.to_vec(),
        files: changes.iter().map(touched).collect(),
        boot_id: boot_id().map_err(WiringError::BootId)?,
        begun_boot_ms: begun.0,
        begun_at: wall(),
        deadline_boot_ms: begun.plus(u64::from(within_s) * 1000).0,
        caller: Process { pid, start_time: process::stat(pid).map_or(0, |stat| stat.start_time) },
        by: Seat::of(pid),
        noted: None,
    };
    locked.save(&pending)?;
    Ok(pending)
}

fn touched(change: &Change) -> Touched {
    let after = change.before.with(change.after.clone()).digest();
    Touched { name: change.name.clone(), before: change.before.clone(), after }
}

/// Replaces the files. When it fails, the caller reverts.
///
/// # Errors
/// [`WiringError`].
pub fn apply(locked: &Locked<'_>, changes: &[Change]) -> Result<(), WiringError> {
    for change in changes {
        let path = locked.places().pam_d.join(&change.name);
        if Snapshot::take(&path)?.as_ref() != Some(&change.before) {
            return Err(WiringError::Changed(path));
        }
        change.before.with(change.after.clone()).put(&path)?;
    }
    Ok(())
}

/// All files stand: from now on `within_s` seconds to confirm them.
///
/// # Errors
/// [`WiringError`].
pub fn wait(locked: &Locked<'_>, mut pending: Pending, within_s: u32) -> Result<Pending, WiringError> {
    pending.step = Step::Waiting;
    pending.deadline_boot_ms = BootMs::now().plus(u64::from(within_s) * 1000).0;
    locked.save(&pending)?;
    Ok(pending)
}

/// The files stay. Decided with the first write; the rest only clears away.
///
/// # Errors
/// [`WiringError`].
pub fn settle(locked: &Locked<'_>, mut pending: Pending, grant: Option<GrantId>, why: &str) -> Result<(), WiringError> {
    pending.step = Step::Settled;
    locked.save(&pending)?;
    let enabled = Enabled { version: VERSION, gates: pending.gates.clone(), since: wall(), grant };
    locked.save_enabled(&enabled)?;
    locked.clear(&last(&pending, true, why.to_owned()))?;
    Ok(())
}

fn last(pending: &Pending, stays: bool, why: String) -> Last {
    Last { version: VERSION, doing: pending.doing, stays, why, at: wall() }
}

/// Puts everything back, byte for byte. Of a file that somebody else changed since, only our lines
/// come out; where they can't be told apart any more, it is left and named. Can be repeated.
/// Returns what was not put back as it was, in words.
///
/// # Errors
/// [`WiringError`]; the state stays, and with it the way back.
pub fn revert(locked: &Locked<'_>, pending: &Pending, why: &str) -> Result<Vec<String>, WiringError> {
    if pending.step == Step::Settled {
        // It was decided, and whoever decided died while clearing away.
        settle(locked, pending.clone(), None, "settled")?;
        return Ok(Vec::new());
    }
    let mut words = Vec::new();
    for touched in &pending.files {
        words.extend(revert_file(locked.places(), pending.doing, touched)?);
    }
    let why = if words.is_empty() { why.to_owned() } else { format!("{why}; {}", words.join("; ")) };
    locked.clear(&last(pending, false, why))?;
    Ok(words)
}

fn revert_file(places: &Places, doing: Doing, touched: &Touched) -> Result<Option<String>, WiringError> {
    let path = places.pam_d.join(&touched.name);
    // What a replacement left that never came to its end.
    remove(&temporary(&path))?;
    let Some(now) = Snapshot::take(&path)? else {
        return Ok(Some(format!("{} is gone and stays so", path.display())));
    };
    let (current, before) = (now.digest(), touched.before.digest());
    if current == touched.after && current != before {
        touched.before.put(&path)?;
        return Ok(None);
    }
    if current == before || doing == Doing::Disable {
        return Ok((current != before).then(|| format!("{} was changed meanwhile and stays so", path.display())));
    }
    let bytes = lines::without_own_lines(&now.bytes.0);
    if bytes != now.bytes.0 {
        now.with(bytes).put(&path)?;
    }
    Ok(Some(format!("{} was changed meanwhile: only the twinlock lines were taken out", path.display())))
}

/// Takes our lines out of every file of the PAM directory, at once and for good: for the removal of
/// the package. Returns the files that changed.
///
/// # Errors
/// [`WiringError`]; and [`WiringError::Unfit`] when the module is still named somewhere, because with
/// its file gone nobody could use that service.
pub fn unhook(locked: &Locked<'_>) -> Result<Vec<PathBuf>, WiringError> {
    let places = locked.places();
    if let Some(pending) = places.pending_change()? {
        // A disable that was under way wants the same as we do; an enable is put back as it was.
        match (pending.doing, pending.step) {
            (Doing::Enable, Step::Applying | Step::Waiting) => {
                revert(locked, &pending, "the package is being removed")?;
            }
            (Doing::Disable, _) | (Doing::Enable, Step::Settled) => settle(locked, pending, None, "settled")?,
        }
    }
    let mut changed = Vec::new();
    let mut left = None;
    for path in pam_files(places)? {
        let file = match Snapshot::take(&path) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            // Links to files that somebody else makes never had lines of ours; one may name the module.
            Err(FileError::NotPlain(_)) => {
                let text = std::fs::read(&path).unwrap_or_default();
                left = left.or(lines::lines_with_module(&text).first().map(|line| (path.clone(), *line)));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let bytes =
            if lines::is_wired(&file.bytes.0) { lines::without_own_lines(&file.bytes.0) } else { file.bytes.0.clone() };
        if bytes != file.bytes.0 {
            file.with(bytes.clone()).put(&path)?;
            changed.push(path.clone());
        }
        left = left.or(lines::lines_with_module(&bytes).first().map(|line| (path, *line)));
    }
    locked.save_enabled(&Enabled { version: VERSION, gates: Vec::new(), since: UnixTime(0), grant: None })?;
    match left {
        Some((path, line)) => Err(WiringError::Unfit { path, why: Unfit::Foreign(line) }),
        None => Ok(changed),
    }
}

fn pam_files(places: &Places) -> Result<Vec<PathBuf>, WiringError> {
    let io = |source| FileError::Io { path: places.pam_d.clone(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&places.pam_d).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether a change must be undone now: its boot is over, its deadline has passed, or whoever
/// replaced the files died over it.
///
/// # Errors
/// [`WiringError::BootId`].
pub fn is_overdue(pending: &Pending) -> Result<Option<&'static str>, WiringError> {
    if boot_id().map_err(WiringError::BootId)? != pending.boot_id {
        return Ok(Some("the machine was restarted before it was confirmed"));
    }
    Ok(match pending.step {
        Step::Waiting if BootMs::now().0 >= pending.deadline_boot_ms => Some("nobody confirmed it in time"),
        // Who is stopped in the middle holds the lock; whoever ends it is heard at once.
        Step::Applying if BootMs::now().0 >= pending.deadline_boot_ms => {
            Some("the command that began it took too long")
        }
        Step::Applying if !process::is_alive(pending.caller.pid, pending.caller.start_time) => {
            Some("the command that began it was interrupted")
        }
        Step::Applying | Step::Waiting | Step::Settled => None,
    })
}
