//! The watcher: a process of its own that waits until what was enabled is confirmed, or puts it back.
//! It needs the state on disk and nothing else: no daemon, no network, not whoever started it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::{escape, limits};
use zeroize::Zeroizing;

use super::confirm::{self, DoesNotCount, StartedGrant};
use super::seat::Seat;
use super::state::{Pending, Places, Step};
use super::wiring::{self, WiringError};
use crate::cli::chain;
use crate::reaper::clock::BootMs;
use crate::reaper::records::OPENED;

/// The helper of an installed system: it is what watches, reverts and unhooks.
pub const HELPER: &str = "/usr/libexec/twinlock/twinlock-pam";
/// How many watchers there are where no service manager restarts one that was killed.
pub const WITHOUT_SYSTEMD: usize = 2;
/// The longest that a watcher sleeps: the deadline counts while the machine is suspended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a started watcher may take until it holds its place.
const START: Duration = Duration::from_secs(10);

/// Whether systemd runs this machine (sd_booted(3)).
#[must_use]
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// A watcher does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its program can't be run.
    #[error("{program} can't be started")]
    Spawn {
        /// Which.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It ended at once, or never took its place.
    #[error("the process that would put everything back did not start")]
    NotThere,
    /// The state can't be read.
    #[error(transparent)]
    Wiring(#[from] WiringError),
}

/// Starts what watches, independent of its caller, and waits until it does. What runs already stays.
///
/// # Errors
/// [`StartError`]: then nothing may be changed.
pub fn start(places: &Places) -> Result<(), StartError> {
    let count = if has_systemd() { 1 } else { WITHOUT_SYSTEMD };
    for index in 0..count {
        if is_watched(places, index)? {
            continue;
        }
        let (program, mut command) = if has_systemd() { by_systemd(index) } else { by_itself(index) };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().map_err(|source| StartError::Spawn { program, source })?;
        let until = BootMs::now().plus(u64::try_from(START.as_millis()).unwrap_or(u64::MAX));
        let pending = || places.pending_change().map(|pending| pending.is_some());
        while status.success()
            && !is_watched(places, index)?
            && pending().map_err(WiringError::from)?
            && BootMs::now() < until
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !is_watched(places, index)? {
            return not_there(places);
        }
    }
    Ok(())
}

/// A watcher that is not there has nothing to watch any more, or does not start.
fn not_there(places: &Places) -> Result<(), StartError> {
    match places.pending_change().map_err(WiringError::from)? {
        None => Ok(()),
        Some(_) => Err(StartError::NotThere),
    }
}

fn is_watched(places: &Places, index: usize) -> Result<bool, WiringError> {
    Ok(places.is_watched(index)?)
}

/// A transient service: outside every session's cgroup, started again when it is killed.
fn by_systemd(index: usize) -> (&'static str, Command) {
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--collect", "--description=Twinlock: puts PAM's files back unless confirmed"]);
    command.args(["--property=Type=exec", "--property=Restart=on-failure", "--property=RestartSec=3"]);
    // systemd takes an end by one of these for a clean one. A shutdown is a stop, and restarts nothing.
    command.arg("--property=RestartForceExitStatus=SIGTERM SIGHUP SIGINT SIGPIPE");
    command.args([HELPER, "watch", &index.to_string()]);
    ("systemd-run", command)
}

/// A process of its own session, whose parent has gone.
fn by_itself(index: usize) -> (&'static str, Command) {
    let mut command = Command::new(HELPER);
    command.args(["detach", &index.to_string()]);
    (HELPER, command)
}

/// The part of [`by_itself`] that runs in between: a session of its own, out of a grant's cgroup (its
/// end would take the watcher along), and away.
///
/// # Errors
/// [`StartError::Spawn`].
pub fn detach(index: usize) -> Result<(), StartError> {
    let failed = |source| StartError::Spawn { program: HELPER, source };
    rustix::process::setsid().map_err(|error| failed(error.into()))?;
    leave_cgroup();
    let mut command = Command::new("/proc/self/exe");
    command.args([OsString::from("watch"), index.to_string().into()]).current_dir("/").env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // The watcher outlives us on purpose.
    command.spawn().map(|_| ()).map_err(failed)
}

/// To the root of the tree, which takes processes whatever is below it. Where this fails, so would
/// nothing but a watcher that a grant's end kills; the other one and the boot remain.
fn leave_cgroup() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    });
    if let Some(root) = root {
        let _stays_where_it_is = std::fs::write(root.join("cgroup.procs"), "0");
    }
}

/// Watches until nothing is pending. Errors are said to the system log and tried again.
///
/// # Errors
/// [`WiringError`] when the state directory can't even be locked.
pub fn watch(places: &Places, index: usize) -> Result<(), WiringError> {
    let Some(_place) = take_place(places, index)? else { return Ok(()) };
    let mut records = Records::new(places.grants.clone());
    loop {
        match look(places, &mut records) {
            Ok(None) => return Ok(()),
            Ok(Some(pause)) => records.wait(pause),
            Err(error) => {
                journal(&format!("cannot put PAM's files back yet: {}", chain(&error)));
                records.wait(LOOK_EVERY);
            }
        }
    }
}

/// Whoever looks whether a place is taken holds it for a moment: only one that stays taken is.
fn take_place(places: &Places, index: usize) -> Result<Option<std::fs::File>, WiringError> {
    for _ in 0..40 {
        if let Some(place) = places.watch_place(index)? {
            return Ok(Some(place));
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(None)
}

/// One look: confirms, reverts, or says how long to wait. None when there is nothing to watch.
fn look(places: &Places, records: &mut Records) -> Result<Option<Duration>, WiringError> {
    let Some(pending) = places.pending_change()? else { return Ok(None) };
    if revert_if_overdue(places)? {
        return Ok(None);
    }
    match pending.step {
        Step::Applying => Ok(Some(Duration::from_millis(50))),
        Step::Settled => {
            let locked = places.lock()?;
            if let Some(pending) = places.pending_change()?.filter(|pending| pending.step == Step::Settled) {
                wiring::settle(&locked, pending, None, "settled")?;
            }
            Ok(None)
        }
        Step::Waiting => {
            if records.confirms(places, &pending)? {
                return Ok(None);
            }
            let left = BootMs(pending.deadline_boot_ms).after(BootMs::now());
            Ok(Some(left.min(LOOK_EVERY)))
        }
    }
}

/// Puts everything back if its time has come. True when nothing is pending afterwards.
///
/// # Errors
/// [`WiringError`].
pub fn revert_if_overdue(places: &Places) -> Result<bool, WiringError> {
    let due = |pending: &Option<Pending>| pending.as_ref().map_or(Ok(None), wiring::is_overdue);
    if due(&places.pending_change()?)?.is_none() {
        return Ok(false);
    }
    let locked = places.lock()?;
    let pending = places.pending_change()?;
    let (Some(why), Some(pending)) = (due(&pending)?, pending) else { return Ok(false) };
    let words = wiring::revert(&locked, &pending, why)?;
    journal(&format!("put PAM's files back: {why}"));
    words.iter().for_each(|word| journal(word));
    Ok(true)
}

/// The directory of GrantRecords.
struct Records {
    dir: PathBuf,
    /// Records that are done with.
    seen: BTreeSet<OsString>,
    /// Grants that confirm it once their session is opened. Judged when their record came: whoever
    /// asked may be gone soon after.
    likely: BTreeMap<OsString, StartedGrant>,
    /// Wakes us when something comes.
    news: Option<OwnedFd>,
}

/// What became of a record.
enum Verdict {
    /// It confirms.
    Confirms(StartedGrant),
    /// It never will.
    Never(DoesNotCount),
    /// Its session is not opened yet.
    NotYet,
}

impl Records {
    fn new(dir: PathBuf) -> Self {
        let news = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok().filter(|news| {
            let events = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(news, &dir, events).is_ok()
        });
        Self { dir, seen: BTreeSet::new(), likely: BTreeMap::new(), news }
    }

    /// Sleeps until something comes, or for `pause`.
    fn wait(&mut self, pause: Duration) {
        let Some(news) = &self.news else { return std::thread::sleep(pause.min(Duration::from_millis(20))) };
        let timeout = Timespec {
            tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        let _woken_or_not = poll(&mut [PollFd::from_borrowed_fd(news.as_fd(), PollFlags::IN)], Some(&timeout));
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(news, &mut space);
        while reader.next().is_ok() {}
    }

    /// Whether one of the records confirms; then it is settled. What can't be written is tried again.
    fn confirms(&mut self, places: &Places, pending: &Pending) -> Result<bool, WiringError> {
        for name in self.new_names() {
            let verdict = self.judge(&name, places, pending);
            if matches!(verdict, Verdict::NotYet) {
                continue;
            }
            let locked = places.lock()?;
            let Some(mut now) = places.pending_change()?.filter(|now| now.step == Step::Waiting) else {
                return Ok(true);
            };
            match verdict {
                Verdict::Confirms(grant) => {
                    let why = format!("confirmed by {}'s elevation {}", grant.requester, grant.grant);
                    wiring::settle(&locked, now, Some(grant.grant), &why)?;
                    journal(&format!("stays enabled: {why}"));
                    return Ok(true);
                }
                // What was begun before is no news to anybody.
                Verdict::Never(DoesNotCount::Earlier) | Verdict::NotYet => {}
                Verdict::Never(why) => {
                    now.noted = Some(why.to_string());
                    locked.save(&now)?;
                }
            }
            self.likely.remove(&name);
            self.seen.insert(name);
        }
        Ok(false)
    }

    fn judge(&mut self, name: &OsString, places: &Places, pending: &Pending) -> Verdict {
        let record = match self.read(name, places) {
            Ok(record) => record,
            Err(why) => return Verdict::Never(why),
        };
        if !self.likely.contains_key(name) {
            // At once, while it still runs.
            let seat = Seat::of_recorded(record.process, record.session);
            if let Err(why) = confirm::judge(pending, &record, seat.as_ref()) {
                return Verdict::Never(why);
            }
            self.likely.insert(name.clone(), record.clone());
        }
        // Asked after the record was read: no mark comes to a record that has its end.
        match (self.is_opened(name), record.is_over) {
            (true, _) => Verdict::Confirms(record),
            (false, true) => Verdict::Never(DoesNotCount::NotOpened),
            (false, false) => Verdict::NotYet,
        }
    }

    fn is_opened(&self, name: &OsString) -> bool {
        let mark = Path::new(name).with_extension(OPENED.trim_start_matches('.'));
        self.dir.join(mark).symlink_metadata().is_ok_and(|meta| meta.is_file())
    }

    fn read(&self, name: &OsString, places: &Places) -> Result<StartedGrant, DoesNotCount> {
        let record = read_plain(&self.dir.join(name)).ok_or(DoesNotCount::Malformed)?;
        let key = std::fs::read(&places.host_key).map(Zeroizing::new).map_err(|_| DoesNotCount::NotSigned)?;
        let key = SigningKey::from_pkcs8(&key).map_err(|_| DoesNotCount::NotSigned)?;
        confirm::started(&record, &key.public())
    }

    fn new_names(&self) -> Vec<OsString> {
        let names = std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let is_record = |name: &OsString| Path::new(name).extension().is_some_and(|extension| extension == "json");
        names.filter(|name| is_record(name) && !self.seen.contains(name)).collect()
    }
}

/// A file of the reaper's, which is not root: never through a link, never a pipe, never more than a
/// record holds.
fn read_plain(path: &Path) -> Option<Vec<u8>> {
    let longest = u64::try_from(limits::GRANT_RECORD_BYTES).ok()?;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > longest {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(longest).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// One line to the system log (RFC 3164, authpriv.warning) and to standard error, which under systemd
/// is the journal.
pub fn journal(line: &str) {
    let line = escape::visible(line.as_bytes());
    if let Ok(socket) = UnixDatagram::unbound() {
        let text = format!("<84>twinlock-pam[{}]: {line}", std::process::id());
        let _heard_or_not = socket.send_to(text.as_bytes(), "/dev/log");
    }
    super::helper::say(&line);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn systemd_starts_it_again_however_it_was_killed() {
        let (_, command) = by_systemd(0);
        let words: Vec<&str> = command.get_args().filter_map(|word| word.to_str()).collect();
        assert!(words.contains(&"--property=Restart=on-failure"));
        assert!(words.contains(&"--property=RestartForceExitStatus=SIGTERM SIGHUP SIGINT SIGPIPE"));
    }

    #[test]
    fn a_watcher_that_is_gone_because_it_was_settled_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { state: dir.path().join("enable"), ..Places::installed() };
        assert!(not_there(&places).is_ok());
        fs::create_dir(&places.state).unwrap();
        fs::write(places.state.join("pending.json"), "{}").unwrap();
        assert!(not_there(&places).is_err(), "control: something is pending, whatever it is");
    }

    #[test]
    fn what_lies_in_the_reapers_directory_is_read_only_where_it_is_a_file_of_a_records_size() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), b"record").unwrap();
        assert_eq!(read_plain(&at("file")).unwrap(), b"record", "control");
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        fs::File::create(at("long")).unwrap().set_len(limits::GRANT_RECORD_BYTES as u64 + 1).unwrap();
        for name in ["link", "pipe", "long", "gone"] {
            assert!(read_plain(&at(name)).is_none(), "{name}");
        }
    }

    /// Whatever the wall clock said when a record was written, and until its verdict is on disk.
    #[test]
    fn a_record_is_looked_at_until_it_is_done_with_whatever_its_date() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.json"), b"{}").unwrap();
        fs::write(dir.path().join("a.opened"), b"").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(dir.path().join("a.json")).unwrap().set_modified(old).unwrap();
        let mut records = Records::new(dir.path().to_owned());
        assert_eq!(records.new_names(), ["a.json"], "dated back by a clock that was set");
        assert!(records.is_opened(&"a.json".into()) && !records.is_opened(&"b.json".into()));
        records.seen.insert("a.json".into());
        assert!(records.new_names().is_empty(), "control");
    }
}
