//! What clients of the two sockets may say. The kernel's peer credentials decide, before the first
//! frame is read: uid 0 registers and opens, the agent's uid watches and passes on orders, everybody else is
//! shut out of `reaper.sock`; on `user.sock` a uid sees and drops its own grants only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use twinlock_protocol::evidence::EndReason;
use twinlock_protocol::limits;
use twinlock_protocol::wire::agent::{EndGrant, EndOrder, Ended, Lingering, Noted, Reviewed, Started};
use twinlock_protocol::wire::reaper::{
    Confirmed, DroppedGrant, Grants, Joined, ReaperRefused, ReaperReply, ReaperRequest, Register, Registered,
};
use twinlock_protocol::wire::{self, WIRE_VERSION};
use twinlock_protocol::{Bytes, DenyReason};

use super::conn::{Conn, ConnError, Frame, Peer};
use super::keeper::{Command, Keeper, Report};
use super::records;

/// A client of `reaper.sock` has this long for its first frame, and a module for its second.
const FIRST: Duration = Duration::from_secs(5);
/// A client of `user.sock` has this long altogether, but for the time that ending takes.
const USER: Duration = Duration::from_secs(5);
/// How long a drop may take before the client is told that it is under way, as a failure.
const DROP: Duration = Duration::from_secs(20);
/// Connections of the agent's uid to `reaper.sock` at once.
const PER_AGENT: u32 = 16;
/// Connections of one uid to `user.sock` at once.
const PER_UID: u32 = 4;
/// Connections to `user.sock` at once.
const ALL_USERS: u32 = 128;
/// Longest frame on `user.sock`, in bytes.
const USER_FRAME: usize = 4096;

/// Accepts modules and agents.
pub async fn serve(keeper: Arc<Keeper>, listener: UnixListener, agent_uid: u32) {
    let agents = Arc::new(Counts::default());
    let mut complaints = Complaints::default();
    loop {
        let Some(stream) = accept(&listener).await else { continue };
        let Ok(conn) = Conn::new(stream, limits::FRAME_BYTES) else {
            tracing::warn!("a client without credentials was refused");
            continue;
        };
        let peer = conn.peer();
        // Root is not counted: whoever is root here needs no reaper to do harm.
        let place = match peer.uid {
            0 => None,
            uid if uid == agent_uid => match Counts::take(&agents, uid, PER_AGENT, PER_AGENT) {
                Some(place) => Some(place),
                None => {
                    complaints.refused(peer);
                    continue;
                }
            },
            _ => {
                complaints.refused(peer);
                continue;
            }
        };
        let keeper = keeper.clone();
        tokio::spawn(async move {
            one(&keeper, conn, agent_uid).await;
            drop(place);
        });
    }
}

/// Lets one complaint of a kind through in a second: a flood of them must not fill the log.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    said: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Whether to complain now; then, of how many before nothing was said.
    pub(super) fn due(&mut self) -> Option<u64> {
        if self.said.is_some_and(|said| said.elapsed() < Duration::from_secs(1)) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }

    fn refused(&mut self, peer: Peer) {
        if let Some(more) = self.due() {
            tracing::warn!(uid = peer.uid, pid = peer.pid, more, "a client that may say nothing was refused");
        }
    }
}

/// Accepts anybody.
pub async fn serve_users(keeper: Arc<Keeper>, listener: UnixListener) {
    let counts = Arc::new(Counts::default());
    loop {
        let Some(stream) = accept(&listener).await else { continue };
        let Ok(conn) = Conn::new(stream, USER_FRAME) else { continue };
        let Some(place) = Counts::take(&counts, conn.peer().uid, PER_UID, ALL_USERS) else { continue };
        let keeper = keeper.clone();
        tokio::spawn(async move {
            if let Err(error) = user(&keeper, conn).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a client of user.sock was dropped");
            }
            drop(place);
        });
    }
}

async fn accept(listener: &UnixListener) -> Option<UnixStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            // Out of descriptors, usually: give them time to come back.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn one(keeper: &Arc<Keeper>, conn: Conn, agent_uid: u32) {
    let peer = conn.peer();
    if peer.uid == 0 {
        // Meanwhile the registration is read and its record written.
        tokio::task::spawn_blocking(super::cgroup::warm_up);
    }
    if let Err(error) = first(keeper, conn, agent_uid).await {
        tracing::warn!(
            uid = peer.uid,
            pid = peer.pid,
            error = &error as &dyn std::error::Error,
            "a client was dropped"
        );
    }
}

async fn first(keeper: &Arc<Keeper>, mut conn: Conn, agent_uid: u32) -> Result<(), ConnError> {
    let Some(frame) = conn.read_within(FIRST).await? else { return Ok(()) };
    let uid = conn.peer().uid;
    match wire::message(&frame.body, limits::FRAME_BYTES)? {
        ReaperRequest::Register(register) if uid == 0 => session(keeper, conn, *register, frame).await,
        ReaperRequest::Opened(opened) if uid == 0 && frame.fds.is_empty() => {
            let done = match opened.wire {
                WIRE_VERSION => keeper.opened(opened.grant, conn.peer()).await,
                _ => Err(DenyReason::WireMismatch),
            };
            match done {
                Ok(()) => conn.write(&ReaperReply::Confirmed(Confirmed {})).await,
                Err(reason) => {
                    tracing::warn!(grant = %opened.grant, pid = conn.peer().pid, %reason, "an opening was refused");
                    refuse(&mut conn, reason).await
                }
            }
        }
        ReaperRequest::Watch(watch) if uid == agent_uid && frame.fds.is_empty() => {
            if watch.wire != WIRE_VERSION {
                return refuse(&mut conn, DenyReason::WireMismatch).await;
            }
            watcher(keeper, conn).await
        }
        ReaperRequest::Register(_)
        | ReaperRequest::Opened(_)
        | ReaperRequest::Watch(_)
        | ReaperRequest::EndGrant(_)
        | ReaperRequest::Noted(_)
        | ReaperRequest::Reviewed(_)
        | ReaperRequest::List(_)
        | ReaperRequest::Drop(_) => {
            tracing::warn!(uid, "a client said what it may not");
            refuse(&mut conn, DenyReason::NotFound).await
        }
    }
}

async fn refuse(conn: &mut Conn, reason: DenyReason) -> Result<(), ConnError> {
    conn.write(&ReaperReply::Refused(ReaperRefused { reason })).await
}

/// A module: registration, then its connection is the lease.
async fn session(keeper: &Arc<Keeper>, mut conn: Conn, register: Register, frame: Frame) -> Result<(), ConnError> {
    let grant = register.record.grant;
    let registered = match keeper.register(register, frame.fds, conn.peer()).await {
        Ok(registered) => registered,
        Err(reason) => {
            tracing::warn!(%grant, pid = conn.peer().pid, %reason, "a registration was refused");
            return refuse(&mut conn, reason).await;
        }
    };
    let done = lease(&mut conn, &registered).await;
    // Whatever ended the connection: the front end has let go.
    let _ = registered.commands.send(Command::LeaseClosed).await;
    done
}

async fn lease(conn: &mut Conn, registered: &super::keeper::Registered) -> Result<(), ConnError> {
    let cgroup = registered.leaf.dir().display().to_string();
    conn.write(&ReaperReply::Registered(Registered { cgroup })).await?;
    let Some(frame) = conn.read_within(FIRST).await? else { return Ok(()) };
    let Joined {} = wire::message(&frame.body, limits::SMALL_FRAME_BYTES)?;
    let (reply, answer) = oneshot::channel();
    let stands = registered.commands.send(Command::Joined(reply)).await.is_ok() && answer.await.unwrap_or(false);
    if !stands {
        return refuse(conn, DenyReason::ContainmentFailed).await;
    }
    conn.write(&ReaperReply::Confirmed(Confirmed {})).await?;
    match conn.read().await? {
        None => Ok(()),
        Some(_) => refuse(conn, DenyReason::WireMismatch).await,
    }
}

/// An agent: what was not noted yet, then what happens; and its orders.
async fn watcher(keeper: &Arc<Keeper>, mut conn: Conn) -> Result<(), ConnError> {
    let mut complaints = Complaints::default();
    let Some(mut reports) = keeper.watch() else { return refuse(&mut conn, DenyReason::RateLimited).await };
    let reader = keeper.clone();
    let backlog = tokio::task::spawn_blocking(move || reader.backlog()).await;
    match backlog {
        Ok(Ok(backlog)) => {
            for report in backlog {
                tell(keeper, &mut conn, report).await?;
            }
        }
        Ok(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the records cannot be listed");
            return refuse(&mut conn, DenyReason::RecordFailed).await;
        }
        Err(_) => return refuse(&mut conn, DenyReason::Internal).await,
    }
    loop {
        tokio::select! {
            frame = conn.read() => {
                let Some(frame) = frame? else { return Ok(()) };
                if !frame.fds.is_empty() {
                    return Err(ConnError::Descriptors);
                }
                match wire::message(&frame.body, limits::FRAME_BYTES)? {
                    ReaperRequest::EndGrant(order) => end_grant(keeper, &mut conn, order, &mut complaints).await?,
                    ReaperRequest::Noted(noted) => note(keeper, noted, &mut complaints).await,
                    ReaperRequest::Reviewed(reviewed) => take_away(keeper, reviewed).await,
                    ReaperRequest::Register(_)
                    | ReaperRequest::Opened(_)
                    | ReaperRequest::Watch(_)
                    | ReaperRequest::List(_)
                    | ReaperRequest::Drop(_) =>
                        return refuse(&mut conn, DenyReason::NotFound).await,
                }
            }
            report = reports.recv() => {
                // None: this watcher fell behind and was dropped; it comes again for the backlog.
                let Some(report) = report else { return Ok(()) };
                tell(keeper, &mut conn, report).await?;
            }
        }
    }
}

async fn tell(keeper: &Arc<Keeper>, conn: &mut Conn, report: Report) -> Result<(), ConnError> {
    let reply = match report {
        Report::Started(grant) => {
            let records = keeper.records().clone();
            match tokio::task::spawn_blocking(move || records.read(grant)).await {
                Ok(Ok(record)) => ReaperReply::Started(Started { grant, record: Bytes(record.to_bytes()) }),
                Ok(Err(error)) => {
                    tracing::error!(%grant, error = &error as &dyn std::error::Error, "a record cannot be read");
                    return Ok(());
                }
                Err(_) => return Ok(()),
            }
        }
        Report::Ended(grant, end) => ReaperReply::Ended(Ended { grant, end }),
        Report::Lingering(grant, processes) => ReaperReply::Lingering(Lingering { grant, processes }),
    };
    conn.write(&reply).await
}

pub(super) async fn end_grant(
    keeper: &Arc<Keeper>,
    conn: &mut Conn,
    order: EndGrant,
    complaints: &mut Complaints,
) -> Result<(), ConnError> {
    let reason = match order.order {
        EndOrder::Expired => EndReason::Expired,
        EndOrder::Revoked => EndReason::Revoked,
        EndOrder::Dropped => EndReason::Dropped,
    };
    if keeper.end(order.grant, reason) {
        tracing::info!(grant = %order.grant, ?reason, "the gateway ends a grant");
        return Ok(());
    }
    // Over already: the gateway may have missed it, so it is told once more.
    let (records, grant) = (keeper.records().clone(), order.grant);
    let record = tokio::task::spawn_blocking(move || records.read(grant)).await;
    match record {
        Ok(Ok(record)) => match record.end {
            Some(end) => conn.write(&ReaperReply::Ended(Ended { grant, end })).await,
            // Being registered, or its end is being written: the bar holds, the report will come.
            None => Ok(()),
        },
        Ok(Err(_)) | Err(_) => {
            if let Some(more) = complaints.due() {
                tracing::warn!(%grant, more, "the gateway ends a grant that has not begun here; it will not");
            }
            Ok(())
        }
    }
}

async fn note(keeper: &Arc<Keeper>, noted: Noted, complaints: &mut Complaints) {
    let (records, grant) = (keeper.records().clone(), noted.grant);
    let what = if noted.ended { records::Noted::End } else { records::Noted::Start };
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || records.note(grant, what)).await
        && let Some(more) = complaints.due()
    {
        tracing::warn!(%grant, more, error = &error as &dyn std::error::Error, "a mark could not be written");
    }
}

/// The gateway's word that somebody reviewed a break-glass grant.
async fn take_away(keeper: &Arc<Keeper>, reviewed: Reviewed) {
    let (glass, grant) = (keeper.glass().clone(), reviewed.grant);
    match tokio::task::spawn_blocking(move || glass.reviewed(grant)).await {
        Ok(Ok(())) => tracing::info!(%grant, "a break-glass grant is reviewed"),
        Ok(Err(error)) => tracing::error!(%grant, %error, "a break-glass grant's mark could not be removed"),
        Err(_) => {}
    }
}

/// Anybody: own grants.
async fn user(keeper: &Arc<Keeper>, mut conn: Conn) -> Result<(), ConnError> {
    let Some(frame) = conn.read_within(USER).await? else { return Ok(()) };
    if !frame.fds.is_empty() {
        return Err(ConnError::Descriptors);
    }
    let uid = conn.peer().uid;
    match wire::message(&frame.body, USER_FRAME)? {
        ReaperRequest::List(list) if list.wire == WIRE_VERSION => {
            conn.write(&ReaperReply::Grants(Grants { grants: keeper.grants_of(uid) })).await
        }
        ReaperRequest::Drop(drop) if drop.wire == WIRE_VERSION => {
            // Somebody else's grant and none at all look the same.
            if !keeper.belongs_to(drop.grant, uid) {
                return refuse(&mut conn, DenyReason::NotFound).await;
            }
            tracing::info!(grant = %drop.grant, uid, "the requester drops a grant");
            let (done, over) = oneshot::channel();
            let ended = keeper.order(drop.grant, EndReason::Dropped, done)
                && matches!(tokio::time::timeout(DROP, over).await, Ok(Ok(())));
            if ended {
                conn.write(&ReaperReply::Dropped(DroppedGrant { grant: drop.grant })).await
            } else {
                refuse(&mut conn, DenyReason::Internal).await
            }
        }
        ReaperRequest::List(_) | ReaperRequest::Drop(_) => refuse(&mut conn, DenyReason::WireMismatch).await,
        ReaperRequest::Register(_)
        | ReaperRequest::Opened(_)
        | ReaperRequest::Watch(_)
        | ReaperRequest::EndGrant(_)
        | ReaperRequest::Noted(_)
        | ReaperRequest::Reviewed(_) => refuse(&mut conn, DenyReason::NotFound).await,
    }
}

/// Connections counted by uid, so that one does not shut out the others.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<u32, u32>>);

struct Place {
    counts: Arc<Counts>,
    uid: u32,
}

impl Counts {
    fn take(counts: &Arc<Self>, uid: u32, per_uid: u32, in_all: u32) -> Option<Place> {
        let mut map = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u32 = map.values().sum();
        let mine = map.get(&uid).copied().unwrap_or(0);
        if all >= in_all || mine >= per_uid {
            return None;
        }
        map.insert(uid, mine + 1);
        Some(Place { counts: counts.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut map = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = map.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                map.remove(&self.uid);
            }
        }
    }
}
