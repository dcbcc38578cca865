//! The gentle kill: freeze, SIGKILL everything but the front end (and sudo's monitor), thaw, give
//! the front end a moment to restore the terminal and to run its close hook, then kill the rest.
//! Blocking, for a thread of its own. It is told a leaf and never a pid from outside: what it
//! signals, the kernel has just listed as a member of that leaf, twice.

use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use twinlock_protocol::evidence::ProcessNote;

use super::cgroup::Leaf;
use super::process::{self, Sightings};

/// How long a leaf may take to freeze; something in uninterruptible sleep can delay it for ever.
const FREEZE_LIMIT: Duration = Duration::from_millis(250);
/// How long the front end has to clean up.
const GRACE: Duration = Duration::from_millis(100);
/// How long to wait between two writes to `cgroup.kill`.
const ROUND: Duration = Duration::from_millis(500);
/// Rounds before the end is reported with what cannot be killed.
const ROUNDS: u32 = 20;
/// The most processes that a record lists by name.
pub const NOTES: usize = twinlock_protocol::limits::PROCESS_NOTES;

/// What a kill did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was killed, at most [`NOTES`].
    pub killed: Vec<ProcessNote>,
    /// What lives on: outside the leaf, or inside and not to be killed (uninterruptible sleep).
    pub survivors: Vec<ProcessNote>,
    /// Nothing is left in the leaf.
    pub empty: bool,
}

/// Ends everything in the leaf. `front_end` is the process of `open_session`.
pub fn end(leaf: &Leaf, front_end: u32, sightings: &mut Sightings) -> Outcome {
    if let Err(error) = leaf.freeze(FREEZE_LIMIT) {
        tracing::warn!(leaf = %leaf.dir().display(), %error, "the session could not be frozen first");
    }
    let members = leaf.processes();
    sightings.search(&members, front_end);
    let spared = spared(&members, front_end);
    let mut killed: Vec<ProcessNote> =
        members.iter().filter(|pid| !spared.contains(pid)).take(NOTES).map(|pid| process::note(*pid)).collect();
    signal_members(leaf, &members, &spared);
    if let Err(error) = leaf.thaw() {
        tracing::warn!(leaf = %leaf.dir().display(), %error, "the session could not be thawed");
    }
    let gone_by_itself = leaf.wait_empty(GRACE);
    if !gone_by_itself {
        for pid in leaf.processes() {
            if killed.len() < NOTES && killed.iter().all(|note| note.pid != pid) {
                killed.push(process::note(pid));
            }
        }
    }
    let empty = gone_by_itself || kill_rest(leaf);
    let stuck = leaf.processes();
    let mut survivors = sightings.escaped(&stuck, NOTES);
    survivors.extend(stuck.into_iter().take(NOTES).map(process::note));
    Outcome { killed, survivors, empty }
}

/// Writes `cgroup.kill` until the leaf is empty, or until the rounds are over.
pub fn kill_rest(leaf: &Leaf) -> bool {
    for _ in 0..ROUNDS {
        if let Err(error) = leaf.kill() {
            tracing::error!(leaf = %leaf.dir().display(), %error, "cgroup.kill refused");
        }
        if leaf.wait_empty(ROUND) {
            return true;
        }
    }
    false
}

/// The front end, and sudo's monitor: its child of the same name. Something else that calls itself
/// so lives a tenth of a second longer, no more.
fn spared(members: &[u32], front_end: u32) -> Vec<u32> {
    let Some(front) = process::stat(front_end) else { return vec![front_end] };
    let monitor = members
        .iter()
        .copied()
        .filter(|pid| process::stat(*pid).is_some_and(|stat| stat.parent == front_end && stat.name == front.name));
    std::iter::once(front_end).chain(monitor).collect()
}

/// SIGKILLs the members that are not spared. A pid could be reused between the listing and the
/// signal, so each is opened first, then must be listed again.
fn signal_members(leaf: &Leaf, members: &[u32], spared: &[u32]) {
    let open = |pid: u32| Some((pid, pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::empty()).ok()?));
    // In batches: a fork storm has more members than a process may have open files.
    for batch in members.chunks(NOTES) {
        let opened: Vec<_> = batch.iter().filter(|pid| !spared.contains(pid)).filter_map(|pid| open(*pid)).collect();
        let still = leaf.processes();
        for (pid, pidfd) in opened {
            if still.contains(&pid)
                && let Err(error) = pidfd_send_signal(&pidfd, Signal::KILL)
            {
                tracing::debug!(pid, %error, "a process could not be killed by its pidfd");
            }
        }
    }
}
