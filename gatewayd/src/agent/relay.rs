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
            Input::FromModule(conn, message) => self.from_module(conn, message, now),
            Input::ModuleGone(conn) => self.module_gone(conn),
            Input::FromGateway(message) => self.from_gateway(message),
            Input::LinkUp => self.link_up(),
            Input::LinkDown => self.link_down(now),
            Input::Tick => self.tick(now),
        }
    }

    fn from_module(&mut self, conn: ConnId, message: ModuleMessage, now: Instant) -> Vec<Effect> {
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
            (Some(_), ModuleMessage::Submit(_) | ModuleMessage::Resume(_)) => {
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
        let waiting = self.open.values().filter(|open| open.uid == Some(uid)).count();
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

    fn from_gateway(&mut self, message: ForModule) -> Vec<Effect> {
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
            // The link is ours to tell.
            ModuleEvent::Link(_) => return Vec::new(),
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
