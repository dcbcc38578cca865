//! What `/proc` says about processes: names for the record, start times against pid reuse, and the
//! search for processes that left their leaf. Reads only; a process that is gone, or that a
//! `hidepid` mount hides, is simply not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use twinlock_protocol::escape;
use twinlock_protocol::evidence::ProcessNote;
use twinlock_protocol::ids::GrantId;

use super::clock::BootMs;

/// The fields of `/proc/pid/stat` that we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its name, as the process chose it.
    pub name: Vec<u8>,
    /// `Z` is a process that is dead but not yet waited for.
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Whether it has a controlling terminal.
    pub has_terminal: bool,
    /// Clock ticks since boot: with the pid, the identity of a process.
    pub start_time: u64,
}

/// Reads a process.
#[must_use]
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may itself hold parentheses, spaces and newlines: the fields
/// begin after the last one.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|b| *b == b'(')?;
    let close = bytes.iter().rposition(|b| *b == b')')?;
    let name = bytes.get(open + 1..close)?.to_vec();
    let fields: Vec<&str> = std::str::from_utf8(bytes.get(close + 1..)?).ok()?.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let id = |field: usize| u32::try_from(number(field)?).ok();
    Some(Stat {
        name,
        state: fields.first()?.chars().next()?,
        parent: id(4)?,
        // 0 (or -1 in odd cases) where there is none.
        group: id(5).unwrap_or(0),
        session: id(6).unwrap_or(0),
        has_terminal: id(7).is_some_and(|device| device != 0),
        start_time: number(22)?,
    })
}

/// A process for the record.
#[must_use]
pub fn note(pid: u32) -> ProcessNote {
    let name = stat(pid).map(|stat| escape::visible(&stat.name)).unwrap_or_else(|| "?".to_owned());
    ProcessNote { pid, name }
}

/// The children of a process. Empty where the kernel does not tell (CONFIG_PROC_CHILDREN).
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Beyond this many processes a look does not walk children, and one in passing asks for none of
/// them: in a fork storm it would never end, and the kill is what matters.
pub const WALK_LIMIT: usize = 256;

/// The audit session id of a process (pam_loginuid sets one per login; children keep it wherever
/// they go). None where it is not set.
fn audit_session(pid: u32) -> Option<u32> {
    let session = fs::read_to_string(format!("/proc/{pid}/sessionid")).ok()?.trim().parse().ok()?;
    (session != u32::MAX).then_some(session)
}

/// Whether a process is in the leaf of some grant.
fn is_contained(pid: u32) -> bool {
    is_leaf(&fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default())
}

/// Whether `/proc/pid/cgroup` names a grant's leaf. The names beside and below it may be any bytes.
fn is_leaf(cgroups: &[u8]) -> bool {
    let cgroups = String::from_utf8_lossy(cgroups);
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    own.split('/').any(|part| GrantId::from_text(part).is_some())
}

/// What is known of a session to find its processes by, beside the leaf itself.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    audit_session: Option<u32>,
    /// The uid that the session runs as.
    target_uid: u32,
    /// Clock ticks since boot: nothing of the session is older.
    since: u64,
    /// The same by the wall clock, for the times of files.
    began: SystemTime,
}

impl Origin {
    /// A session whose `open_session` ran in `front_end` at `since`.
    #[must_use]
    pub fn new(front_end: u32, target_uid: u32, since: BootMs) -> Self {
        // The unit of /proc/pid/stat is USER_HZ, which is 100 on all that Rust's std supports.
        Self { audit_session: audit_session(front_end), target_uid, since: since.0 / 10, began: SystemTime::now() }
    }
}

/// Where systemd keeps the units that were made at run time (`systemd-run`); readable by everybody.
const TRANSIENT_UNITS: &str = "/run/systemd/transient";
/// Daemons that start commands for others, later and elsewhere.
const JOB_RUNNERS: [&[u8]; 4] = [b"atd", b"cron", b"crond", b"anacron"];
/// Directories that change when a job is added. Their contents are not ours to read.
const JOB_QUEUES: [&str; 6] = [
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
    "/var/spool/cron/atjobs",
    "/var/spool/at",
    "/etc/cron.d",
    "/etc/crontab",
];

fn changed_since(path: &Path, moment: SystemTime) -> bool {
    fs::metadata(path).and_then(|meta| meta.modified()).is_ok_and(|changed| changed >= moment)
}

/// The units in `/proc/pid/cgroup`. logind makes a scope for each login: those say nothing.
fn units(cgroups: &[u8]) -> Vec<String> {
    let cgroups = String::from_utf8_lossy(cgroups);
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    own.split('/').filter(is_unit).filter(|part| !part.starts_with("session-")).map(str::to_owned).collect()
}

/// Whether somebody made the unit that a process runs in since that moment.
fn is_in_a_new_unit(pid: u32, moment: SystemTime) -> bool {
    let units = units(&fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default());
    units.iter().any(|unit| changed_since(&Path::new(TRANSIENT_UNITS).join(unit), moment))
}

/// Whether a process descends from a daemon that runs jobs.
fn is_a_job(stat: &Stat, all: &BTreeMap<u32, Stat>) -> bool {
    let mut at = stat.parent;
    // A chain longer than this is a loop made of reused pids.
    for _ in 0..64 {
        match all.get(&at) {
            Some(parent) if JOB_RUNNERS.contains(&parent.name.as_slice()) => return true,
            Some(parent) if parent.parent > 1 => at = parent.parent,
            Some(_) | None => return false,
        }
    }
    false
}

/// What was ever seen of a session's processes, to know those that left the leaf. Kept from look to
/// look; every entry is a pid with its start time.
#[derive(Debug, Default)]
pub struct Sightings {
    origin: Option<Origin>,
    /// Members of the leaf at the last look.
    inside: BTreeMap<u32, u64>,
    /// Alive elsewhere.
    outside: BTreeMap<u32, u64>,
    /// Members at any look, the first [`EVER_LIMIT`] of them: leaders of sessions and groups.
    ever: BTreeMap<u32, u64>,
}

const EVER_LIMIT: usize = 4096;

impl Sightings {
    /// Nothing seen yet of a session.
    #[must_use]
    pub fn of(origin: Origin) -> Self {
        Self { origin: Some(origin), ..Self::default() }
    }

    /// Looks once: who is in the leaf, who was and lives elsewhere, and their children.
    pub fn look(&mut self, in_leaf: &[u32]) {
        let members: BTreeSet<u32> = in_leaf.iter().copied().collect();
        for pid in &members {
            if let std::collections::btree_map::Entry::Vacant(entry) = self.inside.entry(*pid)
                && let Some(stat) = stat(*pid)
            {
                entry.insert(stat.start_time);
                if self.ever.len() < EVER_LIMIT {
                    self.ever.insert(*pid, stat.start_time);
                }
            }
        }
        let left: Vec<(u32, u64)> =
            self.inside.iter().filter(|(pid, _)| !members.contains(pid)).map(|(pid, start)| (*pid, *start)).collect();
        for (pid, start) in left {
            self.inside.remove(&pid);
            if is_alive(pid, start) {
                self.outside.insert(pid, start);
            }
        }
        self.outside.retain(|pid, start| !members.contains(pid) && is_alive(*pid, *start));
        if members.len() <= WALK_LIMIT {
            self.walk(&members);
        }
    }

    /// Adds children that are outside, and theirs.
    fn walk(&mut self, members: &BTreeSet<u32>) {
        let mut queue: Vec<u32> = members.iter().chain(self.outside.keys()).copied().collect();
        while let Some(pid) = queue.pop() {
            for child in children(pid) {
                if members.contains(&child) || self.outside.contains_key(&child) || self.outside.len() > WALK_LIMIT {
                    continue;
                }
                if let Some(stat) = stat(child).filter(|stat| stat.state != 'Z' && self.is_young(stat)) {
                    self.outside.insert(child, stat.start_time);
                    queue.push(child);
                }
            }
        }
    }

    /// One look at all processes of the host, for the end: whoever is outside but has an ancestor,
    /// a session or a process group that was seen inside; and orphans of the same login and the
    /// target's uid that are younger than the session; and what looks as if the session had it started
    /// by systemd, at or cron. The front end's own session and group are the
    /// terminal's, and prove nothing.
    pub fn search(&mut self, in_leaf: &[u32], front_end: u32) {
        self.look(in_leaf);
        let all: BTreeMap<u32, Stat> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(|pid| Some((pid, stat(pid)?)))
            .collect();
        let seen = |pid: u32| pid > 1 && (self.inside.contains_key(&pid) || self.outside.contains_key(&pid));
        let descends = |pid: u32| {
            let mut at = pid;
            // A chain longer than this is a loop made of reused pids.
            for _ in 0..64 {
                match all.get(&at) {
                    Some(stat) if seen(stat.parent) => return true,
                    Some(stat) if stat.parent > 1 => at = stat.parent,
                    Some(_) | None => return false,
                }
            }
            false
        };
        // A leader may be dead while its session lives; its pid is not given out again until then.
        let belongs = |id: u32| {
            id != front_end
                && self.ever.get(&id).is_some_and(|start| all.get(&id).is_none_or(|stat| stat.start_time == *start))
        };
        let queued = self.origin.is_some_and(|o| JOB_QUEUES.iter().any(|path| changed_since(Path::new(path), o.began)));
        let found: Vec<(u32, u64)> = all
            .iter()
            .filter(|(pid, stat)| {
                !self.inside.contains_key(*pid)
                    && stat.state != 'Z'
                    && self.is_young(stat)
                    && (belongs(stat.session)
                        || belongs(stat.group)
                        || descends(**pid)
                        || self.is_orphan(**pid, stat)
                        || self.is_planted(**pid, || queued && is_a_job(stat, &all)))
            })
            .map(|(pid, stat)| (*pid, stat.start_time))
            .collect();
        self.outside.extend(found);
    }

    /// Whether a process began under the session: what the front end had started before it (a helper,
    /// sshd's own children) is none of its.
    fn is_young(&self, stat: &Stat) -> bool {
        self.origin.is_none_or(|origin| stat.start_time >= origin.since)
    }

    /// Whether this looks like a daemon that the session left: of its login, as its target, younger,
    /// in no leaf, and with a parent from elsewhere. A command that somebody types in another
    /// terminal of the same login has its shell for parent.
    fn is_orphan(&self, pid: u32, stat: &Stat) -> bool {
        let Some(Origin { audit_session: Some(session), target_uid, .. }) = self.origin else { return false };
        audit_session(pid) == Some(session)
            && audit_session(stat.parent) != Some(session)
            && runs_as(pid, target_uid)
            && !is_contained(pid)
    }

    /// Whether this looks like something that the session had others start: as its target, in no leaf,
    /// in a unit that somebody made meanwhile (`systemd-run`), or a job of at or cron when their queues
    /// changed meanwhile. Another administrator may have done that: it is told, not killed.
    fn is_planted(&self, pid: u32, is_new_job: impl FnOnce() -> bool) -> bool {
        let Some(origin) = self.origin else { return false };
        runs_as(pid, origin.target_uid) && (is_new_job() || is_in_a_new_unit(pid, origin.began)) && !is_contained(pid)
    }

    /// Who is outside and alive, but for those of the leaf; at most `limit`.
    #[must_use]
    pub fn escaped(&self, in_leaf: &[u32], limit: usize) -> Vec<ProcessNote> {
        let alive = self.outside.iter().filter(|(pid, start)| !in_leaf.contains(pid) && is_alive(**pid, **start));
        alive.take(limit).map(|(pid, _)| note(*pid)).collect()
    }
}

/// Whether a process runs as that uid, or as root.
fn runs_as(pid: u32, target_uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let uid = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
    uid.is_ok_and(|uid| uid == target_uid || uid == 0)
}

/// Whether this very process still runs.
#[must_use]
pub fn is_alive(pid: u32, start_time: u64) -> bool {
    stat(pid).is_some_and(|stat| stat.start_time == start_time && !matches!(stat.state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_made_of_parentheses_and_digits_does_not_shift_the_fields() {
        let line = b"42 (a) S 1 (b\n) R 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 10";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.name, b"a) S 1 (b\n");
        assert_eq!((stat.state, stat.parent, stat.group, stat.session, stat.start_time), ('R', 7, 8, 9, 123_456));
    }

    #[test]
    fn a_leaf_is_known_among_names_that_are_no_text() {
        let leaf = "a".repeat(26);
        assert!(is_leaf(&[b"0::/x/", leaf.as_bytes(), b"/\xff\n"].concat()));
        assert!(is_leaf(&[b"1:name=\xff:/\n0::/", leaf.as_bytes()].concat()));
        assert!(!is_leaf(b"0::/x/\xff\n"), "control");
    }

    #[test]
    fn a_unit_is_told_from_a_login_and_from_slices() {
        assert_eq!(units(b"1:name=x:/a.service\n0::/system.slice/run-u7.service/inner\n"), ["run-u7.service"]);
        assert_eq!(units(b"0::/system.slice/run-r1.scope\n"), ["run-r1.scope"]);
        assert!(units(b"0::/user.slice/user-1000.slice/session-3.scope\n").is_empty());
    }

    #[test]
    fn a_job_descends_from_a_daemon_that_runs_jobs_and_others_do_not() {
        let process = |name: &str, parent| {
            let line = format!("9 ({name}) S {parent} 9 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 5 1000 10");
            parse_stat(line.as_bytes()).unwrap()
        };
        let all = BTreeMap::from([
            (10, process("atd", 1)),
            (11, process("sh", 10)),
            (20, process("sshd", 1)),
            (21, process("bash", 20)),
        ]);
        assert!(is_a_job(&process("sleep", 11), &all));
        assert!(!is_a_job(&process("sleep", 21), &all), "control");
    }

    #[test]
    fn this_process_is_alive_and_one_with_another_start_time_is_not() {
        let own = std::process::id();
        let start = stat(own).unwrap().start_time;
        assert!(is_alive(own, start));
        assert!(!is_alive(own, start + 1));
    }
}
