//! The life of one session as a pure state machine: phase, event, time → new phase and effects.
//! The caller performs the effects; there is no clock, no process and no file here.

use twinlock_protocol::evidence::EndReason;

use super::clock::BootMs;

/// A registered module has this long to say that it joined its leaf, in milliseconds.
pub const JOIN_MS: u64 = 5_000;
/// When the front end is gone, its leaf has this long to empty before it lingers, in milliseconds.
pub const SETTLE_MS: u64 = 150;
/// While a leaf settles or lingers it is looked at this often, in milliseconds.
const SETTLE_LOOK_MS: u64 = 5;
const LINGER_LOOK_MS: u64 = 200;
/// A session is never left alone for longer, in milliseconds: a suspended machine must end what is
/// overdue at most this long after it wakes.
const LOOK_MS: u64 = 1_000;
/// The first looks come faster, so that a short-lived child that leaves its cgroup is seen.
const EARLY_LOOK_MS: u64 = 200;
const EARLY_MS: u64 = 10_000;
/// How long before the deadline the terminal is warned, in milliseconds, in order of time.
pub const WARNINGS_MS: [u64; 2] = [300_000, 60_000];

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its record is on disk and its leaf exists; the module has not joined yet. Moves on by
    /// [`Event::Joined`]; a lost front end or [`JOIN_MS`] abandon it. Not final.
    Joining {
        /// When it is abandoned.
        until: BootMs,
    },
    /// The command runs. Ended by its front end, an order or its deadline. Not final.
    Running,
    /// The front end is gone; whether something of it is left is not settled yet. Not final.
    Settling {
        /// When the front end went.
        since: BootMs,
        /// The module never joined: what is left then is killed, not left to linger.
        abandoned: bool,
    },
    /// The front end is gone, something of it still runs. Ended by itself, an order or the
    /// deadline. Not final.
    Lingering {
        /// When the front end went.
        since: BootMs,
    },
    /// Being killed. Moves on only by [`Event::Killed`]. Not final.
    Ending {
        /// Why.
        reason: EndReason,
        /// When the order or the deadline came.
        since: BootMs,
        /// It lingered before.
        lingered: bool,
    },
    /// Over. Final.
    Over,
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed; so many processes are in the leaf.
    Looked {
        /// Processes in the leaf and below.
        processes: u32,
    },
    /// The module says that it joined, and the leaf holds it.
    Joined,
    /// The process of `open_session` is gone, or its lease is closed.
    FrontEndGone,
    /// Somebody who may end it ends it.
    Ordered(EndReason),
    /// The kill is done.
    Killed,
}

/// What the caller must do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Tell the module that the session stands, and the watchers that it started.
    Confirm,
    /// Warn the terminal: it ends in so many milliseconds.
    Warn(u64),
    /// Tell the watchers that it lingers.
    TellLingering {
        /// Processes left.
        processes: u32,
    },
    /// Kill what is in the leaf, then [`Event::Killed`].
    Kill,
    /// Write the end into the record, tell the watchers, remove the leaf.
    Close(Closing),
}

/// How a session closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Why.
    pub reason: EndReason,
    /// When the order, the deadline or the end of the front end came.
    pub since: BootMs,
    /// It lingered before.
    pub lingered: bool,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    phase: Phase,
    deadline: BootMs,
    early_until: BootMs,
    warnings: Vec<u64>,
}

impl Session {
    /// A session whose record is on disk, at its registration.
    #[must_use]
    pub fn registered(now: BootMs, deadline: BootMs) -> Self {
        let left = deadline.since(now);
        Self {
            phase: Phase::Joining { until: now.plus(JOIN_MS) },
            deadline,
            early_until: now.plus(EARLY_MS),
            warnings: WARNINGS_MS.into_iter().filter(|before| *before < left).collect(),
        }
    }

    /// A session that an earlier reaper confirmed. Its front end is there, or is found gone at the
    /// first look.
    #[must_use]
    pub fn adopted(now: BootMs, deadline: BootMs) -> Self {
        Self { phase: Phase::Running, ..Self::registered(now, deadline) }
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When to look at it again, at the latest.
    #[must_use]
    pub fn wake_at(&self, now: BootMs) -> BootMs {
        let look = match self.phase {
            Phase::Settling { .. } => SETTLE_LOOK_MS,
            Phase::Lingering { .. } => LINGER_LOOK_MS,
            Phase::Joining { .. } => EARLY_LOOK_MS,
            Phase::Running if now < self.early_until => EARLY_LOOK_MS,
            Phase::Running | Phase::Ending { .. } | Phase::Over => LOOK_MS,
        };
        let warning = self.warnings.first().map(|before| self.deadline.minus(*before));
        let joining = match self.phase {
            Phase::Joining { until } => Some(until),
            Phase::Running | Phase::Settling { .. } | Phase::Lingering { .. } => None,
            Phase::Ending { .. } | Phase::Over => return now.plus(LOOK_MS),
        };
        [warning, joining, Some(self.deadline)].into_iter().flatten().fold(now.plus(look), BootMs::min).max(now)
    }

    /// Takes one event.
    #[must_use]
    pub fn step(mut self, event: Event, now: BootMs) -> (Self, Vec<Effect>) {
        let effects = self.advance(event, now);
        (self, effects)
    }

    fn advance(&mut self, event: Event, now: BootMs) -> Vec<Effect> {
        let lingered = matches!(self.phase, Phase::Lingering { .. });
        match self.phase {
            Phase::Over => return Vec::new(),
            Phase::Ending { reason, since, lingered } => {
                if event != Event::Killed {
                    return Vec::new();
                }
                self.phase = Phase::Over;
                return vec![Effect::Close(Closing { reason, since, lingered })];
            }
            Phase::Joining { .. } | Phase::Running | Phase::Settling { .. } | Phase::Lingering { .. } => {}
        }
        // The deadline goes before everything else: nothing that happens after it counts.
        if now >= self.deadline {
            return self.kill(EndReason::Expired, self.deadline, lingered);
        }
        if let Event::Ordered(reason) = event {
            return self.kill(reason, now, lingered);
        }
        match (self.phase, event) {
            (Phase::Joining { .. }, Event::Joined) => {
                self.phase = Phase::Running;
                vec![Effect::Confirm]
            }
            (Phase::Joining { .. }, Event::FrontEndGone) => {
                self.phase = Phase::Settling { since: now, abandoned: true };
                Vec::new()
            }
            (Phase::Joining { until }, Event::Looked { .. }) if now >= until => {
                self.phase = Phase::Settling { since: now, abandoned: true };
                Vec::new()
            }
            (Phase::Running, Event::FrontEndGone) => {
                self.phase = Phase::Settling { since: now, abandoned: false };
                Vec::new()
            }
            (Phase::Running, Event::Looked { .. }) => self.warn(now),
            (Phase::Settling { since, .. }, Event::Looked { processes: 0 }) => self.finished(since, false),
            (Phase::Settling { since, abandoned }, Event::Looked { processes }) if now.since(since) >= SETTLE_MS => {
                if abandoned {
                    return self.kill(EndReason::Finished, since, false);
                }
                self.phase = Phase::Lingering { since };
                vec![Effect::TellLingering { processes }]
            }
            // An empty leaf ends a lingering session now: `took` counts from here, not from the
            // command's end, which may be an hour ago.
            (Phase::Lingering { .. }, Event::Looked { processes: 0 }) => self.finished(now, true),
            (Phase::Lingering { .. }, Event::Looked { .. }) => self.warn(now),
            (Phase::Joining { .. } | Phase::Settling { .. }, Event::Looked { .. })
            | (Phase::Running | Phase::Settling { .. } | Phase::Lingering { .. }, Event::Joined)
            | (Phase::Settling { .. } | Phase::Lingering { .. }, Event::FrontEndGone)
            | (Phase::Ending { .. } | Phase::Over, _)
            | (_, Event::Ordered(_) | Event::Killed) => Vec::new(),
        }
    }

    fn kill(&mut self, reason: EndReason, since: BootMs, lingered: bool) -> Vec<Effect> {
        self.phase = Phase::Ending { reason, since, lingered };
        vec![Effect::Kill]
    }

    fn finished(&mut self, since: BootMs, lingered: bool) -> Vec<Effect> {
        self.phase = Phase::Over;
        vec![Effect::Close(Closing { reason: EndReason::Finished, since, lingered })]
    }

    /// The newest warning that is due; older ones that were slept through are not made up for.
    fn warn(&mut self, now: BootMs) -> Vec<Effect> {
        let left = self.deadline.since(now);
        let due = self.warnings.iter().filter(|before| left <= **before).count();
        let newest = self.warnings.drain(..due).last();
        newest.map(|_| vec![Effect::Warn(left)]).unwrap_or_default()
    }
}
