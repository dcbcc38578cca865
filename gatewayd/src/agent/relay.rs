//! Which module waits for which request, as a pure state machine: inputs and the time go in,
//! effects come out. It delivers; it decides nothing but who is over a limit. One connection is one
//! request: a module that closes its connection cancels, whatever the reason.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use twinlock_protocol::DenyReason;
use twinlock_protocol::bytes::Fixed;
use twinlock_protocol::ids::{HostId, RequestId};
use twinlock_protocol::limits::LINK_GRACE_S;
use twinlock_protocol::request::{ElevationRequest, Requester};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::agent::{AgentMessage, ForGateway, ForModule, Gone};
use twinlock_protocol::wire::module::{Link, ModuleEvent, ModuleMessage, Refused, Resume, Submit};

use super::config::Limits;
use super::limits::{RequestsPerUid, admit_pending};

/// A new request waits this long for a gateway that is not there.
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// A request that the gateway has waits this long for the link to come back.
const GRACE: Duration = Duration::from_secs(LINK_GRACE_S as u64);

/// A module's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// What happens.
#[derive(Debug)]
pub enum Input {
    /// A module said something.
    FromModule(ConnId, ModuleMessage),
    /// A module's connection is closed.
    ModuleGone(ConnId),
    /// The gateway said something about a request.
    FromGateway(ForModule),
    /// The link stands, after its hellos.
    LinkUp,
    /// The link is lost.
    LinkDown,
    /// Time has passed.
    Tick,
}

/// What the caller must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Send to the gateway.
    ToGateway(AgentMessage),
    /// Send to a module.
    ToModule(ConnId, ModuleEvent),
    /// Close a module's connection once everything before was written.
    Close(ConnId),
}

/// What the gateway knows of a request.
#[derive(Debug)]
enum Known {
    /// Nothing: it is sent when the link stands.
    NotSent(Submit),
    /// It was sent and not answered yet: after a lost link it is sent again.
    Sent(Submit),
    /// Sent again; the gateway may have had it before.
    SentAgain,
    /// The gateway has it.
    Accepted,
}

#[derive(Debug)]
struct Open {
    conn: ConnId,
    uid: Option<u32>,
    token: Fixed<32>,
    known: Known,
    /// Since when it waits for a link; none while there is one.
    alone_since: Option<Instant>,
}

/// All waiting requests of this host.
#[derive(Debug)]
pub struct Relay<C: Clock + Clone = DefaultClock> {
    host: HostId,
    pending: NonZeroU32,
    rate: RequestsPerUid<C>,
    up: bool,
    open: BTreeMap<RequestId, Open>,
    conns: BTreeMap<ConnId, RequestId>,
}

impl<C: Clock + Clone> Relay<C> {
    /// A relay without requests and without a link.
    #[must_use]
    pub fn new(host: HostId, limits: &Limits, rate: RequestsPerUid<C>) -> Self {
        Self { host, pending: limits.pending, rate, up: false, open: BTreeMap::new(), conns: BTreeMap::new() }
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        match input {
            Input::FromModule(conn, message) => self.module_said(conn, message, now),
            Input::ModuleGone(conn) => self.module_gone(conn),
            Input::FromGateway(message) => self.gateway_said(message),
            Input::LinkUp => self.link_up(),
            Input::LinkDown => self.link_down(now),
            Input::Tick => self.tick(now),
        }
    }

    fn module_said(&mut self, conn: ConnId, message: ModuleMessage, now: Instant) -> Vec<Effect> {
        match (self.conns.get(&conn), message) {
            (None, ModuleMessage::Submit(submit)) => match self.admit(conn, submit, now) {
                Ok(effects) => effects,
                Err((reason, retry_after_s)) => refuse(conn, reason, retry_after_s),
            },
            (None, ModuleMessage::Resume(resume)) => self.resume(conn, resume, now),
            (Some(_), ModuleMessage::Cancel(_)) => {
                let mut effects = self.module_gone(conn);
                effects.push(Effect::Close(conn));
                effects
            }
            (None, ModuleMessage::Cancel(_)) => vec![Effect::Close(conn)],
            // Rosters are the chain's to answer, and nothing to ask for while a request waits.
            (None, ModuleMessage::Rosters(_)) => refuse(conn, DenyReason::WireMismatch, None),
            // The host's own log has it: without a link the gateway does not hear it.
            (None, ModuleMessage::Alarm(alarm)) if alarm.wire == WIRE_VERSION => {
                let word = Effect::ToGateway(for_gateway(alarm.request, ModuleMessage::Alarm(alarm)));
                self.up.then_some(word).into_iter().chain([Effect::Close(conn)]).collect()
            }
            (None, ModuleMessage::Alarm(_)) => refuse(conn, DenyReason::WireMismatch, None),
            (
                Some(_),
                ModuleMessage::Submit(_)
                | ModuleMessage::Resume(_)
                | ModuleMessage::Rosters(_)
                | ModuleMessage::Alarm(_),
            ) => {
                let mut effects = self.module_gone(conn);
                effects.extend(refuse(conn, DenyReason::WireMismatch, None));
                effects
            }
        }
    }

    fn admit(&mut self, conn: ConnId, submit: Submit, now: Instant) -> Result<Vec<Effect>, (DenyReason, Option<u32>)> {
        if submit.wire != WIRE_VERSION {
            return Err((DenyReason::WireMismatch, None));
        }
        let bytes = &submit.signed.request.0;
        let request = ElevationRequest::from_bytes(bytes).map_err(|_| (DenyReason::RequestMalformed, None))?;
        if request.host != self.host {
            return Err((DenyReason::HostUnknown, None));
        }
        let id = ElevationRequest::id_of(bytes);
        if self.open.contains_key(&id) {
            return Err((DenyReason::RequestRepeated, None));
        }
        let uid = asking_uid(&request.requester);
        let limited = |retry| (DenyReason::RateLimited, Some(retry));
        // Whose the resumed ones are that an earlier agent took, nobody says: they count for all.
        let waiting = self.open.values().filter(|open| open.uid.is_none_or(|asks| asks == uid)).count();
        admit_pending(waiting, self.pending).map_err(limited)?;
        self.rate.admit(uid).map_err(limited)?;
        let token = submit.resume_token;
        let (known, effects) = if self.up {
            let send = Effect::ToGateway(for_gateway(id, ModuleMessage::Submit(submit.clone())));
            (Known::Sent(submit), vec![send])
        } else {
            (Known::NotSent(submit), vec![tell_link(conn, false)])
        };
        self.conns.insert(conn, id);
        let alone_since = (!self.up).then_some(now);
        self.open.insert(id, Open { conn, uid: Some(uid), token, known, alone_since });
        Ok(effects)
    }

    /// A module that lost its agent comes back to this one, or to this agent's successor.
    fn resume(&mut self, conn: ConnId, resume: Resume, now: Instant) -> Vec<Effect> {
        if resume.wire != WIRE_VERSION {
            return refuse(conn, DenyReason::WireMismatch, None);
        }
        let Resume { request: id, resume_token: token, .. } = resume;
        let mut effects = Vec::new();
        let mut uid = None;
        if let Some(open) = self.open.get(&id) {
            if open.token != token {
                return refuse(conn, DenyReason::NotPending, None);
            }
            uid = open.uid;
            // Its older connection is dead, or will be: one connection is one request.
            effects.push(Effect::Close(open.conn));
            self.conns.remove(&open.conn);
        }
        if self.up {
            effects.push(resume_at_gateway(id, token));
        } else {
            effects.push(tell_link(conn, false));
        }
        self.conns.insert(conn, id);
        let alone_since = (!self.up).then_some(now);
        self.open.insert(id, Open { conn, uid, token, known: Known::Accepted, alone_since });
        effects
    }

    fn module_gone(&mut self, conn: ConnId) -> Vec<Effect> {
        let Some(id) = self.conns.remove(&conn) else { return Vec::new() };
        self.open.remove(&id);
        // Without a link, the gateway cancels by itself when nobody resumes.
        if self.up { vec![Effect::ToGateway(AgentMessage::Gone(Gone { request: id }))] } else { Vec::new() }
    }

    fn gateway_said(&mut self, message: ForModule) -> Vec<Effect> {
        let ForModule { request: id, event } = message;
        let Some(open) = self.open.get_mut(&id) else {
            // Its module has just gone, and the gateway hears of it.
            return Vec::new();
        };
        let conn = open.conn;
        match &event {
            ModuleEvent::Accepted(_) => open.known = Known::Accepted,
            // It did have the request from before the link was lost: pick that up.
            ModuleEvent::Refused(Refused { reason: DenyReason::RequestRepeated, .. })
                if matches!(open.known, Known::SentAgain) =>
            {
                open.known = Known::Accepted;
                return vec![resume_at_gateway(id, open.token)];
            }
            ModuleEvent::Denied(_) | ModuleEvent::Refused(_) | ModuleEvent::Granted(_) => {
                self.open.remove(&id);
                self.conns.remove(&conn);
                return vec![Effect::ToModule(conn, event), Effect::Close(conn)];
            }
            ModuleEvent::Ticket(_) | ModuleEvent::Claimed(_) | ModuleEvent::Approved(_) => {}
            // The link and the rosters are ours to tell.
            ModuleEvent::Link(_) | ModuleEvent::Rosters(_) => return Vec::new(),
        }
        vec![Effect::ToModule(conn, event)]
    }

    fn link_up(&mut self) -> Vec<Effect> {
        self.up = true;
        let mut effects = Vec::new();
        for (id, open) in &mut self.open {
            open.alone_since = None;
            let known = std::mem::replace(&mut open.known, Known::Accepted);
            effects.push(match known {
                Known::NotSent(submit) => {
                    open.known = Known::Sent(submit.clone());
                    Effect::ToGateway(for_gateway(*id, ModuleMessage::Submit(submit)))
                }
                Known::Sent(submit) => {
                    open.known = Known::SentAgain;
                    Effect::ToGateway(for_gateway(*id, ModuleMessage::Submit(submit)))
                }
                Known::SentAgain | Known::Accepted => resume_at_gateway(*id, open.token),
            });
            effects.push(tell_link(open.conn, true));
        }
        effects
    }

    fn link_down(&mut self, now: Instant) -> Vec<Effect> {
        self.up = false;
        for open in self.open.values_mut() {
            open.alone_since.get_or_insert(now);
        }
        self.open.values().map(|open| tell_link(open.conn, false)).collect()
    }

    /// Refuses what has waited for a link too long.
    fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let over: Vec<(RequestId, ConnId)> = self
            .open
            .iter()
            .filter(|(_, open)| {
                let limit = if matches!(open.known, Known::NotSent(_)) { FIRST_WAIT } else { GRACE };
                open.alone_since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
            })
            .map(|(id, open)| (*id, open.conn))
            .collect();
        let mut effects = Vec::new();
        for (id, conn) in over {
            self.open.remove(&id);
            self.conns.remove(&conn);
            effects.extend(refuse(conn, DenyReason::GatewayUnavailable, None));
        }
        effects
    }
}

/// Whose limits count: the real uid, which the kernel vouches for; where the service runs as root
/// (sshd, cron), the login uid.
fn asking_uid(requester: &Requester) -> u32 {
    match (&requester.login, requester.real.uid) {
        (Some(login), 0) => login.uid,
        (_, real) => real,
    }
}

fn refuse(conn: ConnId, reason: DenyReason, retry_after_s: Option<u32>) -> Vec<Effect> {
    let event = ModuleEvent::Refused(Refused { reason, retry_after_s });
    vec![Effect::ToModule(conn, event), Effect::Close(conn)]
}

fn tell_link(conn: ConnId, up: bool) -> Effect {
    Effect::ToModule(conn, ModuleEvent::Link(Link { up }))
}

fn for_gateway(request: RequestId, message: ModuleMessage) -> AgentMessage {
    AgentMessage::Module(ForGateway { request, message })
}

fn resume_at_gateway(request: RequestId, resume_token: Fixed<32>) -> Effect {
    let resume = Resume { wire: WIRE_VERSION, request, resume_token };
    Effect::ToGateway(for_gateway(request, ModuleMessage::Resume(resume)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use governor::clock::FakeRelativeClock;
    use twinlock_protocol::UnixTime;
    use twinlock_protocol::request::Login;
    use twinlock_protocol::softphone::{Fixture, random};
    use twinlock_protocol::wire::module::{Accepted, Alarm, Cancel, Slot};

    use super::*;

    struct Bench {
        relay: Relay<FakeRelativeClock>,
        fixture: Fixture,
        now: Instant,
        next: u64,
    }

    impl Bench {
        /// A relay with its link up.
        fn new() -> Self {
            let mut bench = Self::down();
            let _ = bench.step(Input::LinkUp);
            bench
        }

        fn down() -> Self {
            let limits = Limits::default();
            let rate = RequestsPerUid::with_clock(limits.requests_per_minute, FakeRelativeClock::default());
            let relay = Relay::new(HostId::new("web01").unwrap(), &limits, rate);
            Self { relay, fixture: Fixture::new(b"ca", UnixTime(1_800_000_000)), now: Instant::now(), next: 0 }
        }

        fn step(&mut self, input: Input) -> Vec<Effect> {
            self.relay.step(input, self.now)
        }

        fn pass(&mut self, seconds: u64) -> Vec<Effect> {
            self.now += Duration::from_secs(seconds);
            self.step(Input::Tick)
        }

        fn conn(&mut self) -> ConnId {
            self.next += 1;
            ConnId(self.next)
        }

        fn submission(&self, change: impl FnOnce(&mut ElevationRequest)) -> (RequestId, Submit) {
            let (mut request, key) = self.fixture.request();
            change(&mut request);
            let signed = self.fixture.sign_request(&request, &key);
            let id = ElevationRequest::id_of(&signed.request.0);
            (id, Submit { wire: WIRE_VERSION, signed, resume_token: Fixed(random()) })
        }

        /// A request of this uid on a connection of its own.
        fn submit(&mut self, uid: u32) -> (ConnId, RequestId, Submit, Vec<Effect>) {
            let (id, submit) = self.submission(|request| request.requester.real.uid = uid);
            let conn = self.conn();
            let effects = self.step(Input::FromModule(conn, ModuleMessage::Submit(submit.clone())));
            (conn, id, submit, effects)
        }

        fn hear(&mut self, request: RequestId, event: ModuleEvent) -> Vec<Effect> {
            self.step(Input::FromGateway(ForModule { request, event }))
        }
    }

    fn accepted(request: RequestId) -> ModuleEvent {
        ModuleEvent::Accepted(Accepted { request, eligible: Vec::new(), approved: Vec::new() })
    }

    fn refused(reason: DenyReason) -> ModuleEvent {
        ModuleEvent::Refused(Refused { reason, retry_after_s: None })
    }

    fn sent(request: RequestId, message: ModuleMessage) -> Effect {
        Effect::ToGateway(for_gateway(request, message))
    }

    fn resume_of(request: RequestId, submit: &Submit) -> Resume {
        Resume { wire: WIRE_VERSION, request, resume_token: submit.resume_token }
    }

    fn reason_of(effects: &[Effect]) -> (DenyReason, Option<u32>) {
        match effects {
            [Effect::ToModule(_, ModuleEvent::Refused(refused)), Effect::Close(_)] => {
                (refused.reason, refused.retry_after_s)
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_request_goes_to_the_gateway_unchanged_and_its_answers_come_back() {
        let mut bench = Bench::new();
        let (conn, id, submit, effects) = bench.submit(1001);
        assert_eq!(effects, [sent(id, ModuleMessage::Submit(submit))]);
        assert_eq!(bench.hear(id, accepted(id)), [Effect::ToModule(conn, accepted(id))]);
        let claimed = ModuleEvent::Claimed(Slot { slot: 1 });
        assert_eq!(bench.hear(id, claimed.clone()), [Effect::ToModule(conn, claimed)]);
        let end = refused(DenyReason::Expired);
        assert_eq!(bench.hear(id, end.clone()), [Effect::ToModule(conn, end), Effect::Close(conn)]);
        assert_eq!(bench.step(Input::ModuleGone(conn)), [], "nothing is cancelled after the end");
    }

    #[test]
    fn a_module_that_leaves_or_cancels_is_gone_at_once() {
        let mut bench = Bench::new();
        let (conn, id, ..) = bench.submit(1001);
        let gone = Effect::ToGateway(AgentMessage::Gone(Gone { request: id }));
        assert_eq!(bench.step(Input::ModuleGone(conn)), [gone]);
        assert_eq!(bench.hear(id, accepted(id)), [], "nobody waits any more");
        let (conn, id, ..) = bench.submit(1001);
        let gone = Effect::ToGateway(AgentMessage::Gone(Gone { request: id }));
        let effects = bench.step(Input::FromModule(conn, ModuleMessage::Cancel(Cancel {})));
        assert_eq!(effects, [gone, Effect::Close(conn)]);
    }

    #[test]
    fn a_lost_link_is_told_and_every_request_is_resumed_when_it_is_back() {
        let mut bench = Bench::new();
        let (conn, id, submit, _) = bench.submit(1001);
        let _ = bench.hear(id, accepted(id));
        assert_eq!(bench.step(Input::LinkDown), [tell_link(conn, false)]);
        assert_eq!(bench.pass(14), []);
        let resume = ModuleMessage::Resume(resume_of(id, &submit));
        assert_eq!(bench.step(Input::LinkUp), [sent(id, resume), tell_link(conn, true)]);
        assert_eq!(bench.pass(60), []);
    }

    #[test]
    fn a_request_without_a_link_for_fifteen_seconds_is_refused() {
        let mut bench = Bench::new();
        let (_, id, ..) = bench.submit(1001);
        let _ = bench.hear(id, accepted(id));
        let _ = bench.step(Input::LinkDown);
        assert_eq!(reason_of(&bench.pass(15)), (DenyReason::GatewayUnavailable, None));
        assert_eq!(bench.step(Input::LinkUp), [], "and not resumed");
    }

    #[test]
    fn a_new_request_waits_three_seconds_for_a_link_and_is_sent_when_it_comes() {
        let mut bench = Bench::down();
        let (conn, id, submit, effects) = bench.submit(1001);
        assert_eq!(effects, [tell_link(conn, false)]);
        assert_eq!(bench.pass(2), []);
        assert_eq!(bench.step(Input::LinkUp), [sent(id, ModuleMessage::Submit(submit)), tell_link(conn, true)]);
        let mut bench = Bench::down();
        let _ = bench.submit(1001);
        assert_eq!(reason_of(&bench.pass(3)), (DenyReason::GatewayUnavailable, None));
    }

    #[test]
    fn a_submission_that_a_lost_link_left_unanswered_is_sent_again_and_then_resumed() {
        let mut bench = Bench::new();
        let (conn, id, submit, _) = bench.submit(1001);
        let _ = bench.step(Input::LinkDown);
        let again = bench.step(Input::LinkUp);
        assert_eq!(again, [sent(id, ModuleMessage::Submit(submit.clone())), tell_link(conn, true)]);
        // The gateway had it before the link was lost.
        let effects = bench.hear(id, refused(DenyReason::RequestRepeated));
        assert_eq!(effects, [sent(id, ModuleMessage::Resume(resume_of(id, &submit)))]);
        // Only once: a second refusal is the module's.
        assert_eq!(reason_of(&bench.hear(id, refused(DenyReason::RequestRepeated))).0, DenyReason::RequestRepeated);
    }

    #[test]
    fn a_module_can_resume_with_a_restarted_agent() {
        let mut first = Bench::new();
        let (_, id, submit, _) = first.submit(1001);
        let mut second = Bench::new();
        let conn = second.conn();
        let resume = ModuleMessage::Resume(resume_of(id, &submit));
        assert_eq!(second.step(Input::FromModule(conn, resume.clone())), [sent(id, resume)]);
        assert_eq!(second.hear(id, accepted(id)), [Effect::ToModule(conn, accepted(id))]);
    }

    #[test]
    fn a_request_is_taken_over_with_its_token_only() {
        let mut bench = Bench::new();
        let (old, id, submit, _) = bench.submit(1001);
        let _ = bench.hear(id, accepted(id));
        let thief = bench.conn();
        let guess = Resume { resume_token: Fixed(random()), ..resume_of(id, &submit) };
        let effects = bench.step(Input::FromModule(thief, ModuleMessage::Resume(guess)));
        assert_eq!(reason_of(&effects).0, DenyReason::NotPending);
        assert_eq!(bench.hear(id, accepted(id)), [Effect::ToModule(old, accepted(id))]);
        let new = bench.conn();
        let resume = ModuleMessage::Resume(resume_of(id, &submit));
        let effects = bench.step(Input::FromModule(new, resume.clone()));
        assert_eq!(effects, [Effect::Close(old), sent(id, resume)]);
        assert_eq!(bench.step(Input::ModuleGone(old)), [], "the old connection cancels nothing");
        assert_eq!(bench.hear(id, accepted(id)), [Effect::ToModule(new, accepted(id))]);
    }

    /// Catalogue: V1 (control: inline)
    #[test]
    fn an_alarm_goes_to_the_gateway_and_needs_no_request() {
        let alarm = |wire, request| Alarm { wire, request, reason: DenyReason::SamePerson };
        for (mut bench, up) in [(Bench::new(), true), (Bench::down(), false)] {
            let (id, _) = bench.submission(|_| {});
            let conn = bench.conn();
            let message = ModuleMessage::Alarm(alarm(WIRE_VERSION, id));
            let mut expected = vec![Effect::Close(conn)];
            if up {
                expected.insert(0, sent(id, message.clone()));
            }
            assert_eq!(bench.step(Input::FromModule(conn, message)), expected);
            let conn = bench.conn();
            let effects = bench.step(Input::FromModule(conn, ModuleMessage::Alarm(alarm(2, id))));
            assert_eq!(reason_of(&effects).0, DenyReason::WireMismatch);
        }
    }

    /// Catalogue: S3 (control: a_request_goes_to_the_gateway_unchanged_and_its_answers_come_back)
    #[test]
    fn one_user_who_floods_is_limited_and_others_are_served() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            assert_eq!(bench.submit(1001).3.len(), 1);
        }
        assert_eq!(reason_of(&bench.submit(1001).3), (DenyReason::RateLimited, Some(30)));
        assert!(matches!(bench.submit(1002).3.as_slice(), [Effect::ToGateway(_)]), "another user is served");
    }

    #[test]
    fn requests_that_an_earlier_agent_took_count_as_waiting() {
        for (resumed, admitted) in [(3, true), (4, false)] {
            let mut bench = Bench::new();
            for _ in 0..resumed {
                let (id, submit) = bench.submission(|_| {});
                let conn = bench.conn();
                let _ = bench.step(Input::FromModule(conn, ModuleMessage::Resume(resume_of(id, &submit))));
            }
            let (_, _, _, effects) = bench.submit(1001);
            assert_eq!(matches!(effects.as_slice(), [Effect::ToGateway(_)]), admitted, "after {resumed}: {effects:?}");
        }
    }

    #[test]
    fn requests_per_minute_are_limited_even_when_none_waits() {
        let mut bench = Bench::new();
        for _ in 0..10 {
            let (conn, _, _, effects) = bench.submit(1001);
            assert!(matches!(effects.as_slice(), [Effect::ToGateway(_)]));
            let _ = bench.step(Input::ModuleGone(conn));
        }
        assert_eq!(reason_of(&bench.submit(1001).3), (DenyReason::RateLimited, Some(6)));
    }

    #[test]
    fn where_the_service_runs_as_root_the_login_uid_is_limited() {
        let login = |uid| Some(Login { uid, name: "alice".into() });
        let asks = |real, login| {
            asking_uid(&Requester { login, real: Login { uid: real, name: "x".into() }, pam_ruser: None })
        };
        assert_eq!(asks(0, login(1001)), 1001);
        // Whoever has no loginuid may set it once, so it never stands in for a real uid.
        assert_eq!(asks(1002, login(1001)), 1002);
        assert_eq!(asks(0, None), 0);
    }

    /// Catalogue: S5 (control: a_request_goes_to_the_gateway_unchanged_and_its_answers_come_back)
    #[test]
    fn a_repeated_altered_or_foreign_request_is_refused() {
        let mut bench = Bench::new();
        let (_, _, submit, _) = bench.submit(1001);
        let mut send = |submit: Submit| {
            let conn = bench.conn();
            reason_of(&bench.step(Input::FromModule(conn, ModuleMessage::Submit(submit)))).0
        };
        assert_eq!(send(submit.clone()), DenyReason::RequestRepeated);
        let mut altered = submit.clone();
        altered.signed.request.0.push(b' ');
        assert_eq!(send(altered), DenyReason::RequestMalformed);
        assert_eq!(send(Submit { wire: 2, ..submit }), DenyReason::WireMismatch);
        let (_, foreign) = bench.submission(|request| request.host = HostId::new("web02").unwrap());
        let conn = bench.conn();
        let effects = bench.step(Input::FromModule(conn, ModuleMessage::Submit(foreign)));
        assert_eq!(reason_of(&effects).0, DenyReason::HostUnknown);
    }

    #[test]
    fn a_second_request_on_one_connection_ends_it() {
        let mut bench = Bench::new();
        let (conn, id, ..) = bench.submit(1001);
        let (_, other) = bench.submission(|_| {});
        let effects = bench.step(Input::FromModule(conn, ModuleMessage::Submit(other)));
        let gone = Effect::ToGateway(AgentMessage::Gone(Gone { request: id }));
        assert_eq!(effects.first(), Some(&gone));
        assert_eq!(reason_of(effects.get(1..).unwrap()).0, DenyReason::WireMismatch);
    }
}
