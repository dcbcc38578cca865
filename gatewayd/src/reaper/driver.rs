//! One task per session: feeds the state machine with what the kernel and others say, and performs
//! its effects. Killing runs on a thread of its own, so one session that resists delays no other.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use twinlock_protocol::evidence::EndNote;
use twinlock_protocol::ids::GrantId;

use super::cgroup::Leaf;
use super::clock::{self, BootMs};
use super::keeper::{self, Command, Keeper};
use super::kill::{self, Outcome};
use super::process::{self, Origin, Sightings};
use super::session::{Closing, Effect, Event, Phase, Session};
use super::tty::{self, Terminal};

/// How long to wait before writing an end again that the disk refused.
const RETRY: Duration = Duration::from_secs(2);

/// The things of one session.
#[derive(Debug)]
pub struct Seat {
    grant: GrantId,
    leaf: Leaf,
    front_end: u32,
    pidfd: Option<AsyncFd<OwnedFd>>,
    terminal: Option<Terminal>,
    sightings: Sightings,
    outcome: Option<Outcome>,
    joining: Option<oneshot::Sender<bool>>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Seat {
    /// A session in `leaf`, whose `open_session` ran in `front_end`; without a pidfd that process is
    /// gone.
    #[must_use]
    pub fn new(
        grant: GrantId,
        leaf: Leaf,
        front_end: u32,
        pidfd: Option<OwnedFd>,
        terminal: Option<Terminal>,
        origin: Origin,
    ) -> Self {
        // Deprecated for types whose descriptor can change under it; an OwnedFd's can't, and the
        // replacement is unsafe.
        #[allow(deprecated)]
        let pidfd = pidfd.and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE).ok());
        let sightings = Sightings::of(origin);
        Self { grant, leaf, front_end, pidfd, terminal, sightings, outcome: None, joining: None, waiting: Vec::new() }
    }
}

/// A pidfd of this very process; none when it is gone.
#[must_use]
pub fn reopen(pid: u32, start_time: u64) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    // Asked after opening: the pidfd can't come to mean another process any more.
    process::is_alive(pid, start_time).then_some(pidfd)
}

/// Drives a session until it is over.
pub async fn drive(keeper: Arc<Keeper>, mut seat: Seat, mut session: Session, mut inbox: mpsc::Receiver<Command>) {
    while session.phase() != Phase::Over {
        let event = next_event(&mut seat, &session, &mut inbox).await;
        session = advance(&keeper, &mut seat, session, event).await;
    }
}

async fn next_event(seat: &mut Seat, session: &Session, inbox: &mut mpsc::Receiver<Command>) -> Event {
    let now = BootMs::now();
    tokio::select! {
        Some(command) = inbox.recv() => match command {
            Command::Joined(reply) => {
                if seat.leaf.processes().contains(&seat.front_end) {
                    seat.joining = Some(reply);
                    Event::Joined
                } else {
                    let _ = reply.send(false);
                    Event::FrontEndGone
                }
            }
            Command::LeaseClosed => Event::FrontEndGone,
            Command::Order(reason, done) => {
                seat.waiting.extend(done);
                Event::Ordered(reason)
            }
        },
        () = gone(seat.pidfd.as_ref()) => {
            seat.pidfd = None;
            Event::FrontEndGone
        }
        () = tokio::time::sleep(session.wake_at(now).after(now)) => look(seat, session.phase()).await,
    }
}

/// Waits until the process of the pidfd is gone; for ever, when that was noticed before.
async fn gone(pidfd: Option<&AsyncFd<OwnedFd>>) {
    match pidfd {
        Some(pidfd) => drop(pidfd.readable().await),
        None => std::future::pending().await,
    }
}

/// On a thread of its own: how much there is to look at is the session's choice, and all sessions
/// share the one thread of the runtime.
async fn look(seat: &mut Seat, phase: Phase) -> Event {
    let (leaf, mut sightings) = (seat.leaf.clone(), std::mem::take(&mut seat.sightings));
    let looked = tokio::task::spawn_blocking(move || {
        if !leaf.populated() {
            return (0, sightings);
        }
        let members = leaf.processes();
        if !matches!(phase, Phase::Settling { .. }) && members.len() <= process::WALK_LIMIT {
            sightings.look(&members);
        }
        // Populated, but nothing that has a pid here: still not empty.
        (u32::try_from(members.len()).unwrap_or(u32::MAX).max(1), sightings)
    });
    match looked.await {
        Ok((processes, sightings)) => {
            seat.sightings = sightings;
            Event::Looked { processes }
        }
        Err(error) => {
            tracing::error!(grant = %seat.grant, %error, "a session could not be looked at");
            Event::Looked { processes: 1 }
        }
    }
}

async fn advance(keeper: &Arc<Keeper>, seat: &mut Seat, session: Session, event: Event) -> Session {
    let (mut session, mut effects) = session.step(event, BootMs::now());
    // Only a kill leads to another event, and only once.
    while !effects.is_empty() {
        let mut next = Vec::new();
        for effect in effects {
            match effect {
                Effect::Confirm => {
                    keeper.confirmed(seat.grant);
                    if let Some(reply) = seat.joining.take() {
                        let _ = reply.send(true);
                    }
                }
                Effect::Warn(left_ms) => {
                    if let Some(terminal) = &seat.terminal {
                        terminal.say(&tty::warning(left_ms));
                    }
                }
                Effect::TellLingering { processes } => {
                    tracing::info!(grant = %seat.grant, processes, "a session lingers");
                    keeper.lingers(seat.grant, processes);
                }
                Effect::Kill => {
                    kill_all(seat).await;
                    let stepped;
                    (stepped, next) = session.step(Event::Killed, BootMs::now());
                    session = stepped;
                }
                Effect::Close(closing) => close(keeper, seat, closing).await,
            }
        }
        effects = next;
    }
    session
}

async fn kill_all(seat: &mut Seat) {
    let (leaf, front_end) = (seat.leaf.clone(), seat.front_end);
    let mut sightings = std::mem::take(&mut seat.sightings);
    let killed = tokio::task::spawn_blocking(move || {
        let outcome = kill::end(&leaf, front_end, &mut sightings);
        (outcome, sightings)
    });
    match killed.await {
        Ok((outcome, sightings)) => {
            seat.outcome = Some(outcome);
            seat.sightings = sightings;
        }
        // The thread died; the leaf is emptied without manners.
        Err(error) => {
            tracing::error!(grant = %seat.grant, %error, "the kill failed and is done again");
            let leaf = seat.leaf.clone();
            let empty = tokio::task::spawn_blocking(move || kill::kill_rest(&leaf)).await.unwrap_or(false);
            seat.outcome = Some(Outcome { killed: Vec::new(), survivors: Vec::new(), empty });
        }
    }
}

async fn close(keeper: &Arc<Keeper>, seat: &mut Seat, closing: Closing) {
    let took_ms = BootMs::now().since(closing.since);
    let outcome = match seat.outcome.take() {
        Some(outcome) => outcome,
        None => search_escaped(seat).await,
    };
    if !outcome.empty {
        tracing::error!(grant = %seat.grant, "processes of a session cannot be killed; its end is reported with them");
    }
    let end = EndNote {
        reason: closing.reason,
        ended_at: clock::wall(),
        took_ms,
        killed: outcome.killed,
        escaped: outcome.survivors,
        lingered: closing.lingered,
    };
    log_end(seat.grant, &end);
    if let (Some(terminal), Some(line)) = (&seat.terminal, tty::farewell(end.reason)) {
        terminal.say(line);
    }
    tokio::spawn(keeper::clear(seat.leaf.clone()));
    write_end(keeper, seat.grant, &end).await;
    keeper.over(seat.grant, end);
    for waiting in seat.waiting.drain(..) {
        let _ = waiting.send(());
    }
}

/// A session that emptied by itself: who of it lives elsewhere?
async fn search_escaped(seat: &mut Seat) -> Outcome {
    let (mut sightings, front_end) = (std::mem::take(&mut seat.sightings), seat.front_end);
    let searched = tokio::task::spawn_blocking(move || {
        sightings.search(&[], front_end);
        sightings.escaped(&[], kill::NOTES)
    });
    Outcome { killed: Vec::new(), survivors: searched.await.unwrap_or_default(), empty: true }
}

/// Writes the end until the disk takes it: it is reported only once it is on disk. A reaper that is
/// stopped meanwhile finds the record open, and the session over, when it starts again.
async fn write_end(keeper: &Arc<Keeper>, grant: GrantId, end: &EndNote) {
    loop {
        let (records, note) = (keeper.records().clone(), end.clone());
        match tokio::task::spawn_blocking(move || records.close(grant, &note)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(%grant, error = &error as &dyn std::error::Error, "an end could not be written");
            }
            Err(error) => tracing::error!(%grant, %error, "an end could not be written"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn log_end(grant: GrantId, end: &EndNote) {
    tracing::info!(%grant, reason = ?end.reason, took_ms = end.took_ms, killed = end.killed.len(),
        lingered = end.lingered, "a session ended");
    for process in &end.escaped {
        tracing::warn!(%grant, pid = process.pid, name = %process.name, "containment_escaped");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::records::Records;
    use super::*;

    /// A cgroup whose files never answer: to look at it takes for ever.
    #[test]
    fn a_session_that_takes_long_to_look_at_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("grants")).unwrap();
        let keeper = Keeper::new(
            Records::open(&dir.path().join("grants")).unwrap(),
            crate::reaper::glass::Glass::new(dir.path().join("break-glass")),
            dir.path().to_owned(),
            String::new(),
        );
        let leaf = Leaf::create(dir.path(), GrantId::from_text(&"a".repeat(26)).unwrap()).unwrap();
        let events = leaf.dir().join("cgroup.events");
        rustix::fs::mknodat(rustix::fs::CWD, &events, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        let blocked = events.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let origin = Origin::new(1, 0, BootMs(0));
                let seat = Seat::new(GrantId::from_text(&"a".repeat(26)).unwrap(), leaf, 1, None, None, origin);
                let now = BootMs::now();
                let session = Session::adopted(now, now.plus(3_600_000));
                let (_commands, inbox) = mpsc::channel(1);
                tokio::spawn(drive(keeper, seat, session, inbox));
                // The first look comes after 20 ms, and every session's driver shares this thread.
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                told.send(()).unwrap();
            });
            runtime.shutdown_background();
        });
        let free = heard.recv_timeout(Duration::from_secs(10));
        // Whoever waits for the FIFO hears its end.
        let end = std::fs::OpenOptions::new().read(true).write(true).open(&blocked).unwrap();
        std::fs::remove_file(&blocked).unwrap();
        drop(end);
        thread.join().unwrap();
        assert!(free.is_ok(), "a look held up everything");
    }
}
