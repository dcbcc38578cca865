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
/// The first looks come faster, so that a short-lived child that leaves its cgroup is seen: every
/// 20 ms for a second, every 200 ms for ten.
const EARLY_LOOKS_MS: [(u64, u64); 2] = [(1_000, 20), (10_000, 200)];
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
    begun: BootMs,
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
            begun: now,
            warnings: WARNINGS_MS.into_iter().filter(|before| *before < left).collect(),
        }
    }

    /// A session that an earlier reaper confirmed, and whose front end is there.
    #[must_use]
    pub fn adopted(now: BootMs, deadline: BootMs) -> Self {
        Self { phase: Phase::Running, ..Self::registered(now, deadline) }
    }

    /// One whose front end went while no reaper ran: nobody else will say so.
    #[must_use]
    pub fn adopted_without_front_end(now: BootMs, deadline: BootMs) -> Self {
        Self { phase: Phase::Settling { since: now, abandoned: false }, ..Self::registered(now, deadline) }
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
            Phase::Joining { .. } | Phase::Running => {
                let early = EARLY_LOOKS_MS.into_iter().find(|(until, _)| now.since(self.begun) < *until);
                early.map_or(LOOK_MS, |(_, look)| look)
            }
            Phase::Ending { .. } | Phase::Over => LOOK_MS,
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
        let newest = self.warnings.drain(..due).next_back();
        newest.map(|_| vec![Effect::Warn(left)]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    const START: BootMs = BootMs(1_000_000);
    const HOUR: u64 = 3_600_000;

    /// Steps through events at times after [`START`]; the last effects.
    fn play(ttl: u64, events: &[(u64, Event)]) -> (Session, Vec<Effect>) {
        let begin = (Session::registered(START, START.plus(ttl)), Vec::new());
        events.iter().fold(begin, |(session, _), (at, event)| session.step(*event, START.plus(*at)))
    }

    fn looked(processes: u32) -> Event {
        Event::Looked { processes }
    }

    fn closing(effects: &[Effect]) -> Closing {
        match effects {
            [Effect::Close(closing)] => *closing,
            other => panic!("not closed: {other:?}"),
        }
    }

    #[test]
    fn a_command_that_ends_and_leaves_nothing_is_finished_at_once() {
        let (session, effects) =
            play(HOUR, &[(10, Event::Joined), (20, Event::FrontEndGone), (21, looked(1)), (26, looked(0))]);
        assert_eq!(session.phase(), Phase::Over);
        let closing = closing(&effects);
        assert_eq!((closing.reason, closing.since, closing.lingered), (EndReason::Finished, START.plus(20), false));
    }

    #[test]
    fn joining_confirms_and_a_second_joining_says_nothing() {
        let (session, effects) = play(HOUR, &[(10, Event::Joined)]);
        assert_eq!(effects, [Effect::Confirm]);
        let (session, effects) = session.step(Event::Joined, START.plus(11));
        assert_eq!((session.phase(), effects), (Phase::Running, vec![]));
    }

    /// Catalogue: P14 (control: joining_confirms_and_a_second_joining_says_nothing)
    #[test]
    fn a_module_that_leaves_before_it_joined_never_gets_a_session() {
        let (session, _) = play(HOUR, &[(10, Event::FrontEndGone)]);
        let (session, effects) = session.step(Event::Joined, START.plus(11));
        assert_eq!(effects, [], "not confirmed");
        // What is in the leaf all the same is killed, not left to linger.
        let (session, effects) = session.step(looked(1), START.plus(10 + SETTLE_MS));
        assert_eq!(effects, [Effect::Kill]);
        let (_, effects) = session.step(Event::Killed, START.plus(400));
        assert_eq!(closing(&effects).reason, EndReason::Finished);
    }

    #[test]
    fn a_module_that_does_not_join_in_time_is_given_up() {
        let (session, effects) = play(HOUR, &[(JOIN_MS - 1, looked(0))]);
        assert_eq!((matches!(session.phase(), Phase::Joining { .. }), effects), (true, vec![]));
        let (session, _) = session.step(looked(0), START.plus(JOIN_MS));
        let (session, effects) = session.step(looked(0), START.plus(JOIN_MS + 5));
        assert_eq!(session.phase(), Phase::Over);
        assert_eq!(closing(&effects).reason, EndReason::Finished);
    }

    #[test]
    fn what_a_command_leaves_behind_lingers_and_then_expires() {
        let events = [(1, Event::Joined), (20, Event::FrontEndGone), (20 + SETTLE_MS, looked(3))];
        let (session, effects) = play(60_000, &events);
        assert_eq!(effects, [Effect::TellLingering { processes: 3 }]);
        let (session, effects) = session.step(looked(3), START.plus(60_000));
        assert_eq!(effects, [Effect::Kill]);
        let (_, effects) = session.step(Event::Killed, START.plus(60_007));
        let closing = closing(&effects);
        assert_eq!((closing.reason, closing.since, closing.lingered), (EndReason::Expired, START.plus(60_000), true));
    }

    #[test]
    fn a_lingering_session_that_empties_is_finished() {
        let events = [(1, Event::Joined), (20, Event::FrontEndGone), (20 + SETTLE_MS, looked(3)), (30_000, looked(0))];
        let closing = closing(&play(HOUR, &events).1);
        assert_eq!((closing.reason, closing.since, closing.lingered), (EndReason::Finished, START.plus(30_000), true));
    }

    #[test]
    fn an_order_ends_a_session_once_and_its_reason_stays() {
        let events = [(1, Event::Joined), (5, Event::Ordered(EndReason::Revoked))];
        let (session, effects) = play(HOUR, &events);
        assert_eq!(effects, [Effect::Kill]);
        let (session, effects) = session.step(Event::Ordered(EndReason::Dropped), START.plus(6));
        assert_eq!(effects, []);
        let (_, effects) = session.step(Event::Killed, START.plus(9));
        assert_eq!((closing(&effects).reason, closing(&effects).since), (EndReason::Revoked, START.plus(5)));
    }

    #[test]
    fn a_machine_that_slept_past_the_deadline_ends_the_session_at_its_first_look() {
        let (session, _) = play(60_000, &[(1, Event::Joined), (1_000, looked(2))]);
        assert!(session.wake_at(START.plus(1_000)).since(START) <= 2_000, "it looks again within a second");
        let (_, effects) = session.step(looked(2), START.plus(10 * HOUR));
        assert_eq!(effects, [Effect::Kill]);
    }

    #[test]
    fn the_next_look_is_exactly_at_the_deadline_when_that_comes_first() {
        let (session, _) = play(60_000, &[(1, Event::Joined), (20_000, looked(1))]);
        assert_eq!(session.wake_at(START.plus(59_900)), START.plus(60_000));
    }

    #[test]
    fn warnings_come_five_minutes_and_one_minute_before_the_end() {
        let (session, effects) = play(900_000, &[(1, Event::Joined), (599_999, looked(1))]);
        assert_eq!(effects, []);
        let (session, effects) = session.step(looked(1), START.plus(600_000));
        assert_eq!(effects, [Effect::Warn(300_000)]);
        let (session, effects) = session.step(looked(1), START.plus(600_200));
        assert_eq!(effects, []);
        let (_, effects) = session.step(looked(1), START.plus(840_100));
        assert_eq!(effects, [Effect::Warn(59_900)]);
    }

    #[test]
    fn a_warning_that_is_longer_than_the_grant_is_skipped() {
        let (session, effects) = play(60_000, &[(1, Event::Joined), (2, looked(1))]);
        assert_eq!(effects, []);
        let (_, effects) = session.step(looked(1), START.plus(59_000));
        assert_eq!(effects, []);
    }

    #[test]
    fn warnings_that_were_slept_through_are_not_made_up_for() {
        let (_, effects) = play(HOUR, &[(1, Event::Joined), (HOUR - 30_000, looked(1))]);
        assert_eq!(effects, [Effect::Warn(30_000)]);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0u32..4).prop_map(looked),
            2 => Just(Event::Joined),
            2 => Just(Event::FrontEndGone),
            1 => Just(Event::Ordered(EndReason::Revoked)),
            1 => Just(Event::Ordered(EndReason::Dropped)),
            2 => Just(Event::Killed),
        ]
    }

    proptest! {
        /// Whatever happens: one close at most, nothing after it, a kill before any close that is
        /// not an empty leaf's, no confirmation but of a session that is joining, and past the
        /// deadline any event at all begins the kill.
        #[test]
        fn no_history_outlives_its_deadline_or_closes_twice(
            ttl in 1u64..400_000,
            history in proptest::collection::vec((any_event(), 0u64..20_000), 1..60),
        ) {
            let mut session = Session::registered(START, START.plus(ttl));
            let (mut now, mut kills, mut closes, mut confirms) = (START, 0, 0, 0);
            for (event, pause) in history {
                now = now.plus(pause);
                let before = session.phase();
                let (next, effects) = session.step(event, now);
                for effect in &effects {
                    prop_assert!(closes == 0, "nothing after the close");
                    match effect {
                        Effect::Kill => kills += 1,
                        Effect::Confirm => {
                            let joining = matches!(before, Phase::Joining { .. });
                            prop_assert!(joining && now < START.plus(ttl));
                            confirms += 1;
                        }
                        Effect::Close(_) => {
                            prop_assert!(kills == 1 || event == looked(0));
                            closes += 1;
                        }
                        Effect::Warn(left) => prop_assert!(*left > 0),
                        Effect::TellLingering { processes } => prop_assert!(*processes > 0),
                    }
                }
                if now >= START.plus(ttl) {
                    let ends = matches!(next.phase(), Phase::Ending { .. } | Phase::Over);
                    prop_assert!(ends);
                }
                prop_assert!(kills <= 1 && closes <= 1 && confirms <= 1);
                prop_assert_eq!(next.phase() == Phase::Over, closes == 1);
                prop_assert!(next.wake_at(now) >= now && next.wake_at(now) <= now.plus(LOOK_MS));
                session = next;
            }
        }
    }
}
