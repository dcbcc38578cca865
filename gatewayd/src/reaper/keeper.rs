//! All sessions of this host: registers them, drives each one's state machine, writes their ends,
//! and tells the watchers. A grant is addressed by its id alone; nothing here takes a pid from a
//! client.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use twinlock_protocol::evidence::{EndNote, EndReason};
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::reaper::{LiveGrant, Register};
use twinlock_protocol::{DenyReason, limits};

use super::cgroup::{self, CgroupError, Leaf};
use super::clients::Complaints;
use super::clock::{self, BootMs};
use super::conn::Peer;
use super::driver::{self, Seat};
use super::glass::Glass;
use super::kill;
use super::process::{self, Origin};
use super::records::{Noted, RecordError, Records};
use super::register::{self, Checked, Facts};
use super::session::Session;
use super::tty::Terminal;

/// What a session's driver is told.
#[derive(Debug)]
pub enum Command {
    /// The module says that it joined; answered with whether the session stands.
    Joined(oneshot::Sender<bool>),
    /// The module's connection is closed.
    LeaseClosed,
    /// End it; answered when it is over.
    Order(EndReason, Option<oneshot::Sender<()>>),
}

/// What watchers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A session started.
    Started(GrantId),
    /// A session ended.
    Ended(GrantId, EndNote),
    /// A session lingers.
    Lingering(GrantId, u32),
}

/// Reports that may wait for a watcher; one that is further behind is dropped and starts anew.
const WATCHER_BACKLOG: usize = 1024;
/// Watchers at once: the agent, and its successor while it restarts.
const WATCHERS: usize = 4;
/// Grants that are remembered as ended before they began.
const BARRED: usize = 4096;
/// For how long, in milliseconds: after that no request is approved any more that was made before,
/// and no grant of one has life left.
const BARRED_MS: u64 = (limits::MAX_APPROVE_BY_S as u64 + limits::MAX_TTL_S as u64) * 1000;
/// How long to wait before a leaf is cleared again.
const CLEAR_AGAIN: Duration = Duration::from_secs(15);
/// Orders that may wait for a session.
const COMMANDS: usize = 16;

/// A live session, as others see it.
#[derive(Debug)]
struct Live {
    uid: u32,
    target_user: String,
    command: String,
    started_at: twinlock_protocol::UnixTime,
    deadline: BootMs,
    confirmed: bool,
    lingering: Option<u32>,
    commands: mpsc::Sender<Command>,
}

impl Live {
    fn new(checked: &Checked, commands: mpsc::Sender<Command>) -> Self {
        Self {
            uid: checked.request.requester.real.uid,
            target_user: checked.request.target.user.clone(),
            command: register::command_line(&checked.request),
            started_at: checked.start.started_at,
            deadline: BootMs(checked.start.deadline_boot_ms),
            confirmed: false,
            lingering: None,
            commands,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<GrantId, Live>,
    registering: BTreeSet<GrantId>,
    /// Grants that were ended before they began here: they must not begin (T3).
    barred: BTreeMap<GrantId, (EndReason, BootMs)>,
    complaints: Complaints,
    watchers: Vec<mpsc::Sender<Report>>,
}

impl State {
    /// Takes a grant for registration, once.
    fn begin(&mut self, grant: GrantId) -> Result<(), DenyReason> {
        match self.barred.get(&grant) {
            Some((EndReason::Revoked | EndReason::Dropped, _)) => return Err(DenyReason::Revoked),
            Some((EndReason::Expired | EndReason::Finished | EndReason::FoundOver, _)) => {
                return Err(DenyReason::GrantOver);
            }
            None => {}
        }
        if self.live.contains_key(&grant) || !self.registering.insert(grant) {
            return Err(DenyReason::RequestRepeated);
        }
        Ok(())
    }

    /// A registered grant is live. Says why it must end at once, if an order came meanwhile.
    fn stand(&mut self, grant: GrantId, live: Live) -> Option<EndReason> {
        self.live.insert(grant, live);
        self.registering.remove(&grant);
        self.barred.get(&grant).map(|(reason, _)| *reason)
    }

    /// Keeps a grant from beginning, for as long as it could. Only the agent gives such orders: one
    /// that fills the list with inventions loses what it would have ended.
    fn bar(&mut self, grant: GrantId, reason: EndReason, now: BootMs) {
        self.barred.retain(|_, (_, since)| now.since(*since) < BARRED_MS);
        if self.barred.len() >= BARRED && !self.barred.contains_key(&grant) {
            if let Some(more) = self.complaints.due() {
                tracing::error!(%grant, more, "too many orders for grants that have not begun: one was not kept");
            }
            return;
        }
        self.barred.insert(grant, (reason, now));
    }

    /// Passes an order on, never waiting for a session that is stuck: where as many orders wait as
    /// there may, the session is ending already. Says whether the grant is live.
    fn order(&self, grant: GrantId, reason: EndReason, done: Option<oneshot::Sender<()>>) -> bool {
        let Some(live) = self.live.get(&grant) else { return false };
        match live.commands.try_send(Command::Order(reason, done)) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// The sessions of this host.
#[derive(Debug)]
pub struct Keeper {
    records: Records,
    glass: Glass,
    leaves: PathBuf,
    boot_id: String,
    state: Mutex<State>,
}

/// A registration that stands on disk and in the cgroup tree.
#[derive(Debug)]
pub struct Registered {
    /// Its leaf.
    pub leaf: Leaf,
    /// Its driver.
    pub commands: mpsc::Sender<Command>,
}

impl Keeper {
    /// A keeper of the records in `records` and the leaves below `leaves`.
    #[must_use]
    pub fn new(records: Records, glass: Glass, leaves: PathBuf, boot_id: String) -> Arc<Self> {
        Arc::new(Self { records, glass, leaves, boot_id, state: Mutex::default() })
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// What break-glass grants leave behind.
    #[must_use]
    pub fn glass(&self) -> &Glass {
        &self.glass
    }

    /// Registers a session: checks it, writes its record durably, then makes its leaf.
    ///
    /// # Errors
    /// The [`DenyReason`] that the module is told. Nothing was started.
    pub async fn register(
        self: &Arc<Self>,
        register: Register,
        fds: Vec<OwnedFd>,
        peer: Peer,
    ) -> Result<Registered, DenyReason> {
        if register.wire != WIRE_VERSION {
            return Err(DenyReason::WireMismatch);
        }
        let mut fds = fds.into_iter();
        let pidfd = fds.next().ok_or(DenyReason::EvidenceMalformed)?;
        let terminal = fds.next().and_then(Terminal::new);
        let facts = Facts {
            peer_pid: peer.pid,
            pidfd_pid: register::pid_of(&pidfd).ok_or(DenyReason::EvidenceOtherRequest)?,
            start_time: process::stat(peer.pid).map(|stat| stat.start_time),
            boot_id: self.boot_id.clone(),
            now: BootMs::now(),
        };
        let checked = register::check(&register.record, register.deadline_boot_ms, &facts)?;
        let grant = register.record.grant;
        self.state().begin(grant)?;
        let made = self.clone().write_and_make(register).await;
        let leaf = match made {
            Ok(leaf) => leaf,
            Err(reason) => {
                self.state().registering.remove(&grant);
                return Err(reason);
            }
        };
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let deadline = BootMs(checked.start.deadline_boot_ms);
        let barred = self.state().stand(grant, Live::new(&checked, commands.clone()));
        let origin = Origin::new(peer.pid, checked.request.target.uid, facts.now);
        let seat = Seat::new(grant, leaf.clone(), peer.pid, Some(pidfd), terminal, origin);
        tokio::spawn(driver::drive(self.clone(), seat, Session::registered(BootMs::now(), deadline), inbox));
        tracing::info!(%grant, uid = checked.request.requester.real.uid, target_user = %checked.request.target.user,
            pid = peer.pid, "a session is registered");
        // The order came while the record was being written.
        if let Some(reason) = barred {
            let _ = commands.send(Command::Order(reason, None)).await;
        }
        Ok(Registered { leaf, commands })
    }

    /// Notes durably that `open_session` lets this grant's session start: it is live, confirmed, and
    /// whoever says so is in its leaf.
    ///
    /// # Errors
    /// The [`DenyReason`] that the module is told; then nothing may start.
    pub async fn opened(self: &Arc<Self>, grant: GrantId, peer: Peer) -> Result<(), DenyReason> {
        if !self.state().live.get(&grant).is_some_and(|live| live.confirmed) {
            return Err(DenyReason::GrantOver);
        }
        let keeper = self.clone();
        let work = move || {
            if !Leaf::at(&keeper.leaves, grant).processes().contains(&peer.pid) {
                return Err(DenyReason::ContainmentFailed);
            }
            keeper.records.mark_opened(grant).map_err(|error| {
                tracing::error!(%grant, error = &error as &dyn std::error::Error,
                    "an opening could not be noted; the session is refused");
                DenyReason::RecordFailed
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| DenyReason::Internal)?
    }

    /// The record first, durably; the leaf only then: no session without its record (T5).
    async fn write_and_make(self: Arc<Self>, register: Register) -> Result<Leaf, DenyReason> {
        let work = move || {
            self.records.create(&register.record).map_err(|error| match error {
                RecordError::Exists(_) => DenyReason::RequestRepeated,
                RecordError::NoEnd(_) | RecordError::Io { .. } | RecordError::Malformed { .. } => {
                    tracing::error!(grant = %register.record.grant, error = &error as &dyn std::error::Error,
                        "a record could not be written; the session is refused");
                    DenyReason::RecordFailed
                }
            })?;
            self.glass.mark(&register.record).map_err(|error| {
                tracing::error!(grant = %register.record.grant, %error,
                    "a break-glass grant could not be marked; the session is refused");
                self.close_unstarted(register.record.grant);
                DenyReason::RecordFailed
            })?;
            Leaf::create(&self.leaves, register.record.grant).map_err(|error| {
                tracing::error!(grant = %register.record.grant, error = &error as &dyn std::error::Error,
                    "a leaf could not be made; the session is refused");
                self.close_unstarted(register.record.grant);
                DenyReason::ContainmentFailed
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| DenyReason::Internal)?
    }

    /// Closes the record of a session that never ran. When the disk refuses, the next start of the
    /// reaper does it.
    fn close_unstarted(&self, grant: GrantId) {
        let end = EndNote {
            reason: EndReason::Finished,
            ended_at: clock::wall(),
            took_ms: 0,
            killed: Vec::new(),
            escaped: Vec::new(),
            lingered: false,
        };
        match self.records.close(grant, &end) {
            Ok(()) => self.tell(Report::Ended(grant, end)),
            Err(error) => {
                tracing::error!(%grant, error = &error as &dyn std::error::Error, "a record could not be closed");
            }
        }
    }

    /// Takes up what an earlier reaper left: live sessions go on, overdue ones are ended, records
    /// of another boot are closed, leaves without a running session are emptied and removed.
    ///
    /// # Errors
    /// When records or leaves can't be listed.
    pub fn adopt(self: &Arc<Self>) -> Result<(), AdoptError> {
        // What runs has a leaf, whatever was noted of its record.
        let leaves: BTreeSet<GrantId> = cgroup::leaves(&self.leaves)?.into_iter().collect();
        let open = self.records.open_ends()?.into_iter().map(|(grant, _)| grant);
        let known = leaves.iter().copied().filter(|grant| self.records.exists(*grant));
        for grant in open.chain(known).collect::<BTreeSet<_>>() {
            match self.records.read(grant) {
                Ok(record) if record.end.is_some() => {}
                Ok(record) => self.adopt_one(&record),
                Err(error) => {
                    tracing::error!(%grant, error = &error as &dyn std::error::Error, "a record cannot be read");
                }
            }
        }
        for grant in leaves {
            if !self.state().live.contains_key(&grant) {
                tokio::spawn(clear(Leaf::at(&self.leaves, grant)));
            }
        }
        Ok(())
    }

    fn adopt_one(self: &Arc<Self>, record: &twinlock_protocol::evidence::GrantRecord) {
        let grant = record.grant;
        let leaf = Leaf::at(&self.leaves, grant);
        let checked = match register::read(record) {
            Ok(checked) if checked.start.boot_id == self.boot_id && leaf.populated() => checked,
            Ok(checked) => {
                let overdue = if checked.start.boot_id == self.boot_id {
                    BootMs::now().since(BootMs(checked.start.deadline_boot_ms))
                } else {
                    0
                };
                return self.found_over(grant, overdue);
            }
            // Somebody changed the record: it can't say until when it may run, so it is over.
            Err(reason) => {
                tracing::error!(%grant, %reason, "a record does not verify; its session is ended");
                return self.found_over(grant, 0);
            }
        };
        // An earlier reaper that died in the middle of a kill left it frozen.
        if let Err(error) = leaf.thaw() {
            tracing::warn!(%grant, error = &error as &dyn std::error::Error, "a session could not be thawed");
        }
        let start = &checked.start;
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let deadline = BootMs(start.deadline_boot_ms);
        self.state().live.insert(grant, Live { confirmed: true, ..Live::new(&checked, commands) });
        let pidfd = driver::reopen(start.pid, start.start_time);
        let session = match &pidfd {
            Some(_) => Session::adopted(BootMs::now(), deadline),
            None => Session::adopted_without_front_end(BootMs::now(), deadline),
        };
        // When the session began is known by the wall clock only, which is no measure; its front end
        // is at least as old.
        let since = BootMs(start.start_time.saturating_mul(10));
        let origin = Origin::new(start.pid, checked.request.target.uid, since);
        let seat = Seat::new(grant, leaf, start.pid, pidfd, None, origin);
        tokio::spawn(driver::drive(self.clone(), seat, session, inbox));
        tracing::info!(%grant, pid = start.pid, "a session of an earlier reaper goes on");
    }

    fn found_over(&self, grant: GrantId, overdue_ms: u64) {
        let end = EndNote {
            reason: EndReason::FoundOver,
            ended_at: clock::wall(),
            took_ms: overdue_ms,
            killed: Vec::new(),
            escaped: Vec::new(),
            lingered: false,
        };
        match self.records.close(grant, &end) {
            Ok(()) => tracing::info!(%grant, "a session was found over"),
            Err(error) => {
                tracing::error!(%grant, error = &error as &dyn std::error::Error, "a record could not be closed");
            }
        }
    }

    /// Ends a grant, live, registering, or not begun yet: then it never begins. Says whether it is
    /// live.
    pub fn end(&self, grant: GrantId, reason: EndReason) -> bool {
        // Under one lock: a registration either becomes live before, or sees the bar after.
        let mut state = self.state();
        state.bar(grant, reason, BootMs::now());
        state.order(grant, reason, None)
    }

    /// Passes the requester's own order on. Says whether the grant is live.
    pub fn order(&self, grant: GrantId, reason: EndReason, done: oneshot::Sender<()>) -> bool {
        self.state().order(grant, reason, Some(done))
    }

    /// Whether this uid asked for this live grant.
    #[must_use]
    pub fn belongs_to(&self, grant: GrantId, uid: u32) -> bool {
        self.state().live.get(&grant).is_some_and(|live| live.uid == uid)
    }

    /// How many sessions are live.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.state().live.len()
    }

    /// The live grants that this uid asked for, oldest first.
    #[must_use]
    pub fn grants_of(&self, uid: u32) -> Vec<LiveGrant> {
        let now = BootMs::now();
        let state = self.state();
        let mine = state.live.iter().filter(|(_, live)| live.uid == uid && live.confirmed);
        let mut grants: Vec<LiveGrant> = mine
            .map(|(grant, live)| LiveGrant {
                grant: *grant,
                target_user: live.target_user.clone(),
                command: live.command.clone(),
                started_at: live.started_at,
                left_s: live.deadline.since(now).div_ceil(1000),
                lingering: live.lingering.is_some(),
            })
            .collect();
        grants.sort_by_key(|grant| grant.started_at);
        grants
    }

    /// Begins to tell a watcher; none when there are too many.
    #[must_use]
    pub fn watch(&self) -> Option<mpsc::Receiver<Report>> {
        let mut state = self.state();
        state.watchers.retain(|watcher| !watcher.is_closed());
        if state.watchers.len() >= WATCHERS {
            return None;
        }
        let (sender, receiver) = mpsc::channel(WATCHER_BACKLOG);
        state.watchers.push(sender);
        Some(receiver)
    }

    /// What a new watcher must hear first: every report that the gateway has not committed.
    ///
    /// # Errors
    /// When the records can't be listed.
    pub fn backlog(&self) -> Result<Vec<Report>, RecordError> {
        let mut reports = Vec::new();
        for (grant, noted) in self.records.open_ends()? {
            let (live, confirmed, lingering) = match self.state().live.get(&grant) {
                Some(live) => (true, live.confirmed, live.lingering),
                None => (false, true, None),
            };
            if self.state().registering.contains(&grant) || (live && !confirmed) {
                continue;
            }
            if noted < Noted::Start {
                reports.push(Report::Started(grant));
            }
            match self.records.read(grant) {
                Ok(record) => reports.extend(record.end.map(|end| Report::Ended(grant, end))),
                Err(error) => {
                    tracing::error!(%grant, error = &error as &dyn std::error::Error, "a record cannot be read");
                }
            }
            reports.extend(lingering.map(|processes| Report::Lingering(grant, processes)));
        }
        Ok(reports)
    }

    /// Tells every watcher. One that is too far behind is dropped; it will ask for the backlog.
    pub(super) fn tell(&self, report: Report) {
        self.state().watchers.retain(|watcher| watcher.try_send(report.clone()).is_ok());
    }

    pub(super) fn confirmed(&self, grant: GrantId) {
        if let Some(live) = self.state().live.get_mut(&grant) {
            live.confirmed = true;
        }
        self.tell(Report::Started(grant));
    }

    pub(super) fn lingers(&self, grant: GrantId, processes: u32) {
        if let Some(live) = self.state().live.get_mut(&grant) {
            live.lingering = Some(processes);
        }
        self.tell(Report::Lingering(grant, processes));
    }

    pub(super) fn over(&self, grant: GrantId, end: EndNote) {
        let never_told = self.state().live.remove(&grant).is_some_and(|live| !live.confirmed);
        if never_told {
            self.tell(Report::Started(grant));
        }
        self.tell(Report::Ended(grant, end));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete at each statement: a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills what is in a leaf that belongs to no live session, and removes it; again and again while
/// something in it cannot be killed.
pub(super) async fn clear(leaf: Leaf) {
    loop {
        let at = leaf.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            if at.populated() && !kill::kill_rest(&at) {
                tracing::error!(leaf = %at.dir().display(), "processes cannot be killed");
                return false;
            }
            match at.remove() {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(leaf = %at.dir().display(), error = &error as &dyn std::error::Error, "a leaf stays");
                    false
                }
            }
        });
        if cleared.await.unwrap_or(false) {
            return;
        }
        tokio::time::sleep(CLEAR_AGAIN).await;
    }
}

/// Why the reaper could not take up where an earlier one left.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Records.
    #[error("the records cannot be listed")]
    Records(#[from] RecordError),
    /// Leaves.
    #[error("the leaves cannot be listed")]
    Leaves(#[from] CgroupError),
}

#[cfg(test)]
mod tests;
