//! The transitions. Every step first lets time pass, then applies the event, then shows a fresh
//! ticket if one is due. States move by value; a refusal leaves the state as it was, but for
//! counters that must survive it.

use twinlock_protocol::evidence::{EndNote, EndReason};
use twinlock_protocol::ids::{CertSerial, DeviceId, PersonId, Ticket};
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::statement::{Channel, Decision, InboxMark, SignedStatement, StartStatement};
use twinlock_protocol::verify::{
    self, TwoPersonApproval, VerifiedAnswer, VerifiedApproval, VerifiedDenial, VerifiedRequest,
};
use twinlock_protocol::wire::agent::EndOrder;
use twinlock_protocol::wire::module::{self as wire, ModuleEvent};
use twinlock_protocol::{Bytes, DenyReason, Digest, Fixed, UnixTime, escape, limits};

use super::desk::{ClaimBy, Claimant, Desk, Lease};
use super::meet::meet;
use super::state::{
    Active, Approved, AwaitingSecond, Case, Certified, Denied, Ended, Expired, Given, Hold, Issued, LinkState, Pending,
    State, Withdrawn,
};
use crate::audit::{self, RevokedBecause, Withdrawal};

/// A host ends its own sessions; the gateway orders it only this long after the certificate's end,
/// in seconds, so that the host's own word (with what it killed) usually comes first.
const END_SLACK_S: u64 = 2;

/// A command line or reason in an audit row, in bytes.
const AUDITED_BYTES: usize = 2048;
/// Processes that an audit row names.
const AUDITED_NOTES: usize = 32;
/// A session whose host never reports its end is given up this long after the certificate's end, in
/// seconds.
const GIVE_UP_S: u64 = 24 * 3600;

/// What a step may look at besides the state.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The roster as it is now.
    pub roster: &'a VerifiedRoster,
    /// The time.
    pub now: UnixTime,
    /// A ticket that nobody has seen; used by at most one step.
    pub fresh: &'a Ticket,
    /// This gateway's own ceiling for a grant's life, in seconds.
    pub max_ttl_s: u32,
}

/// An approver's verified answer under a claim.
#[derive(Debug)]
pub struct Answer {
    /// The hash of the claim's id.
    pub claim: Digest,
    /// Who is signed in.
    pub person: PersonId,
    /// On which device.
    pub device: DeviceId,
    /// The proof.
    pub answer: VerifiedAnswer,
    /// Its bytes and signatures.
    pub signed: SignedStatement,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Event {
    /// Time passes.
    Tick,
    /// An approver claims the open slot; `claim` is the hash of the new claim's id.
    Claim { claimant: Claimant, by: ClaimBy, claim: Digest, salt: Fixed<32> },
    /// An approver gives a claim back.
    Release { claim: Digest, person: PersonId },
    /// An approver answers.
    Answer(Box<Answer>),
    /// The requester gave up.
    Cancel,
    /// The module closed its connection.
    Gone,
    /// The agent's link is lost.
    LinkLost,
    /// Somebody with this token's hash picks the request up again.
    Resume { token: Digest },
    /// The host reports the session's start; signature and record are verified.
    Started { start: StartStatement, record: Bytes },
    /// The host reports that something outlives the command.
    Lingering { processes: u32 },
    /// The host reports the end.
    Ended(EndNote),
    /// An administrator revokes.
    Revoke { by_uid: u32 },
}

/// What the caller must do, in order. State and `Keep*`, `Revoke` and `Audit` effects are
/// committed together before anything is told.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write into the audit log.
    Audit(audit::Event),
    /// Keep a verified statement.
    KeepStatement { person: PersonId, decision: Decision, signed: SignedStatement },
    /// This person's approval does not count any more.
    VoidStatement(PersonId),
    /// Keep the issued certificate; a second one for the same request is refused by the store.
    KeepCertificate(Certified),
    /// Keep the host's record of the session.
    KeepRecord(Bytes),
    /// Keep the revocation evidence.
    KeepEnd(EndNote),
    /// Put the certificate onto the revocation list.
    Revoke { serial: CertSerial, not_after: UnixTime, because: RevokedBecause },
    /// Tell the module.
    Tell(ModuleEvent),
    /// Tell the module that it is granted, with the current revocation list.
    TellGranted(Certified),
    /// Tell the host to end the grant.
    Order(EndOrder),
    /// Issue the certificate: see [`Approved::issue`].
    Issue,
}

/// What the caller of an event hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// The claim's lease.
    Claimed(Lease),
    /// The first approval is in.
    ApprovedFirst,
    /// The second approval is in, and the certificate is out.
    ApprovedBoth,
    /// The second approval is in; nothing is issued until the host comes back.
    ApprovedAway,
    /// The denial is in.
    Denied,
}

/// The outcome of a step.
#[derive(Debug)]
#[must_use]
pub struct Step {
    /// The state after it.
    pub state: State,
    /// What to do, in order.
    pub effects: Vec<Effect>,
    /// The answer to whoever caused it.
    pub reply: Result<Reply, DenyReason>,
}

/// A verified request with the hash of its resume token.
#[derive(Debug)]
pub struct Submitted {
    /// The request.
    pub request: VerifiedRequest,
    /// The hash of the token that lets somebody resume it.
    pub resume: Digest,
}

/// Admits a request: clocks agree, and two others can approve.
///
/// # Errors
/// [`DenyReason::ClockSkew`], or what makes nobody eligible.
pub fn admit(submitted: Submitted, cx: Context<'_>) -> Result<Step, DenyReason> {
    let Submitted { request, resume } = submitted;
    let asked = request.request();
    if asked.created_at.distance(cx.now) > limits::CLOCK_SKEW_S {
        return Err(DenyReason::ClockSkew);
    }
    let approve_by = cx.now.plus(asked.approve_by_s.min(cx.roster.rules.max_approve_by_s).into());
    let audit = audit::Event::RequestAdmitted {
        request: request.id().0,
        grant: request.id().grant(),
        host: asked.host.clone(),
        requesters: request.requesters().to_vec(),
        target_user: escape::visible(asked.target.user.as_bytes()),
        service: escape::visible(asked.service.as_bytes()),
        command: cut(escape::command(asked.argv.iter().map(|argument| argument.0.as_slice()))),
        reason: asked.reason.as_ref().map(|reason| cut(escape::visible(reason.as_bytes()))),
        ttl_s: asked.ttl_s,
        approve_by,
    };
    let case = Case {
        request,
        admitted_at: cx.now,
        approve_by,
        resume,
        link: LinkState::Up,
        code_tries: limits::CODE_TRIES,
        end_reported: false,
        let_go: Vec::new(),
    };
    let accepted = Effect::Tell(accepted(&case, &[], cx)?);
    let state = State::Pending(Pending { case, desk: Desk::new(1) });
    Ok(show_ticket(state, vec![Effect::Audit(audit), accepted], Ok(Reply::Done), cx))
}

/// What the audit log holds of a requester's text; the request's digest stands beside it.
fn cut(mut text: String) -> String {
    if text.len() > AUDITED_BYTES {
        let end = (0..=AUDITED_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Moves a request: first it meets the roster as it is now, then time passes, then the event.
pub fn step(state: State, event: Event, cx: Context<'_>) -> Step {
    let (state, mut effects) = meet(state, cx);
    let (state, mut passed) = pass_time(state, cx);
    effects.append(&mut passed);
    let mut step = apply(state, event, cx);
    effects.append(&mut step.effects);
    show_ticket(step.state, effects, step.reply, cx)
}

/// What a module hears when it picks its request up again.
#[must_use]
pub fn resume_events(state: &State, cx: Context<'_>) -> Vec<Effect> {
    let refused = |reason| vec![Effect::Tell(ModuleEvent::Refused(wire::Refused { reason, retry_after_s: None }))];
    match state {
        State::Pending(_) | State::AwaitingSecond(_) => match accepted(state.case(), state.given(), cx) {
            Ok(accepted) => vec![Effect::Tell(accepted)],
            Err(reason) => refused(reason),
        },
        State::Approved(_) => vec![Effect::Issue],
        State::Issued(Issued { certified, .. }) => vec![Effect::TellGranted(certified.clone())],
        State::Denied(Denied { denial, .. }) => {
            vec![Effect::Tell(ModuleEvent::Denied(wire::Denied { statement: denial.clone() }))]
        }
        State::Expired(_) => refused(DenyReason::Expired),
        State::Withdrawn(_) => refused(DenyReason::Cancelled),
        State::Active(_) | State::Ended(_) => refused(DenyReason::NotPending),
    }
}

pub(super) fn accepted(case: &Case, given: &[Given], cx: Context<'_>) -> Result<ModuleEvent, DenyReason> {
    let eligible = case.request.eligible(cx.roster)?;
    Ok(ModuleEvent::Accepted(wire::Accepted {
        request: case.id(),
        eligible: eligible.into_iter().map(|person| person.id.clone()).collect(),
        approved: given.iter().map(|given| given.person().clone()).collect(),
    }))
}

// ---- time ---------------------------------------------------------------------------------------

fn pass_time(state: State, cx: Context<'_>) -> (State, Vec<Effect>) {
    match state {
        State::Pending(mut pending) => match over(&pending.case, cx.now) {
            Some(end) => end_waiting(pending.case, end),
            None => {
                let effects = lapse(&mut pending.case, &mut pending.desk, cx.now);
                (State::Pending(pending), effects)
            }
        },
        State::AwaitingSecond(mut waiting) => match over(&waiting.case, cx.now) {
            Some(end) => end_waiting(waiting.case, end),
            None => {
                let effects = lapse(&mut waiting.case, &mut waiting.desk, cx.now);
                (State::AwaitingSecond(waiting), effects)
            }
        },
        State::Approved(approved) => match over(&approved.case, cx.now) {
            Some(end) => end_waiting(approved.case, end),
            None => (State::Approved(approved), Vec::new()),
        },
        State::Issued(Issued { case, certified, .. }) if cx.now >= certified.not_after => {
            let mut effects = vec![Effect::Audit(audit::Event::GrantUnused { grant: case.grant() })];
            effects.extend(revoke(&case, &certified, RevokedBecause::Expired));
            (State::Ended(Ended { case, certified, reason: None, order: EndOrder::Expired }), effects)
        }
        State::Active(active) if active.order.is_none() && cx.now >= active.certified.not_after.plus(END_SLACK_S) => {
            order_end(active, EndOrder::Expired, RevokedBecause::Expired)
        }
        State::Active(Active { case, certified, order: Some(order), .. })
            if cx.now >= certified.not_after.plus(GIVE_UP_S) =>
        {
            let effects = vec![Effect::Audit(audit::Event::SessionUnreported { grant: case.grant() })];
            (State::Ended(Ended { case, certified, reason: None, order }), effects)
        }
        State::Issued(_)
        | State::Active(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => (state, Vec::new()),
    }
}

impl State {
    /// The moment at which time alone changes something next; none when it never does.
    #[must_use]
    pub fn due(&self) -> Option<UnixTime> {
        let waits_until = |case: &Case| match case.link {
            LinkState::Up => case.approve_by,
            LinkState::LostAt(at) => case.approve_by.min(at.plus(limits::LINK_GRACE_S.into())),
        };
        match self {
            Self::Pending(Pending { case, desk }) | Self::AwaitingSecond(AwaitingSecond { case, desk, .. }) => {
                // Nothing is shown to a module that is away, but its approver's lease still ends.
                let desk_matters = case.link == LinkState::Up || desk.lease().is_some();
                let until = waits_until(case);
                Some(if desk_matters { until.min(desk.due()) } else { until })
            }
            Self::Approved(Approved { case, .. }) => Some(waits_until(case)),
            Self::Issued(Issued { certified, .. }) => Some(certified.not_after),
            Self::Active(Active { certified, order: None, .. }) => Some(certified.not_after.plus(END_SLACK_S)),
            Self::Active(Active { certified, order: Some(_), .. }) => Some(certified.not_after.plus(GIVE_UP_S)),
            Self::Ended(_) | Self::Denied(_) | Self::Expired(_) | Self::Withdrawn(_) => None,
        }
    }
}

enum Over {
    ApproveBy,
    Link,
}

fn over(case: &Case, now: UnixTime) -> Option<Over> {
    match case.link {
        _ if now >= case.approve_by => Some(Over::ApproveBy),
        LinkState::LostAt(at) if now >= at.plus(limits::LINK_GRACE_S.into()) => Some(Over::Link),
        LinkState::LostAt(_) | LinkState::Up => None,
    }
}

fn end_waiting(case: Case, end: Over) -> (State, Vec<Effect>) {
    let grant = case.grant();
    match end {
        Over::ApproveBy => {
            let refused = wire::Refused { reason: DenyReason::Expired, retry_after_s: None };
            let effects = vec![
                Effect::Audit(audit::Event::RequestExpired { grant }),
                Effect::Tell(ModuleEvent::Refused(refused)),
            ];
            (State::Expired(Expired { case }), effects)
        }
        Over::Link => {
            let why = Withdrawal::LinkLost;
            let effects = vec![Effect::Audit(audit::Event::RequestWithdrawn { grant, why })];
            (State::Withdrawn(Withdrawn { case, why, certified: None }), effects)
        }
    }
}

fn lapse(case: &mut Case, desk: &mut Desk, now: UnixTime) -> Vec<Effect> {
    let Some(lease) = desk.pass_time(now) else { return Vec::new() };
    let lapsed = audit::Event::ClaimLapsed { grant: case.grant(), slot: lease.slot, person: lease.person.clone() };
    case.let_go(Some(lease));
    vec![Effect::Audit(lapsed)]
}

/// A fresh ticket where one is due: the last thing of every step.
fn show_ticket(mut state: State, mut effects: Vec<Effect>, reply: Result<Reply, DenyReason>, cx: Context<'_>) -> Step {
    let shown = match &mut state {
        State::Pending(Pending { case, desk }) | State::AwaitingSecond(AwaitingSecond { case, desk, .. }) => {
            (case.link == LinkState::Up && desk.rotate(cx.fresh, cx.now)).then(|| desk.slot())
        }
        State::Approved(_)
        | State::Issued(_)
        | State::Active(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => None,
    };
    if let Some(slot) = shown {
        let ticket = wire::ShowTicket { slot, ticket: cx.fresh.clone(), valid_s: limits::TICKET_VALID_S };
        effects.push(Effect::Tell(ModuleEvent::Ticket(ticket)));
    }
    Step { state, effects, reply }
}

// ---- events -------------------------------------------------------------------------------------

fn refuse(state: State, reason: DenyReason) -> Step {
    Step { state, effects: Vec::new(), reply: Err(reason) }
}

fn done(state: State, effects: Vec<Effect>) -> Step {
    Step { state, effects, reply: Ok(Reply::Done) }
}

fn apply(state: State, event: Event, cx: Context<'_>) -> Step {
    match event {
        Event::Tick => done(state, Vec::new()),
        Event::Claim { claimant, by, claim, salt } => claim_slot(state, claimant, by, claim, salt, cx),
        Event::Release { claim, person } => release(state, &claim, &person),
        Event::Answer(answer) => take_answer(state, *answer, cx),
        Event::Cancel => give_up(state, Withdrawal::Cancelled),
        Event::Gone => give_up(state, Withdrawal::HungUp),
        Event::LinkLost => lose_link(state, cx.now),
        Event::Resume { token } => resume(state, &token, cx),
        Event::Started { start, record } => started(state, &start, record),
        Event::Lingering { processes } => lingering(state, processes),
        Event::Ended(note) => ended(state, note),
        Event::Revoke { by_uid } => revoke_grant(state, by_uid),
    }
}

fn claim_slot(
    mut state: State,
    claimant: Claimant,
    by: ClaimBy,
    claim: Digest,
    salt: Fixed<32>,
    cx: Context<'_>,
) -> Step {
    let (case, desk, first) = match &mut state {
        State::Pending(Pending { case, desk }) => (case, desk, None),
        State::AwaitingSecond(AwaitingSecond { case, desk, first }) => (case, desk, Some(&*first)),
        State::Approved(_)
        | State::Issued(_)
        | State::Active(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => return refuse(state, DenyReason::NotPending),
    };
    let grant = case.grant();
    let mut effects = Vec::new();
    let outcome = may_claim(case, first, &claimant, cx).and_then(|()| match &by {
        ClaimBy::Ticket(hash) => desk.check_ticket(hash, cx.now).map(|()| Channel::Ticket(*hash)),
        ClaimBy::Code(code) => {
            if case.code_tries == 0 {
                return Err(DenyReason::CodeExhausted);
            }
            let commitment = case.request.request().terminal_code;
            if code.commitment(&commitment.salt) != commitment.hash {
                case.code_tries -= 1;
                let tries_left = case.code_tries;
                let wrong = audit::Event::CodeWrong { grant, person: claimant.person.clone(), tries_left };
                effects.push(Effect::Audit(wrong));
                return Err(if tries_left == 0 { DenyReason::CodeExhausted } else { DenyReason::CodeWrong });
            }
            // The holder may come again: a page that was reloaded forgot its claim.
            let taken = desk.lease().is_some_and(|lease| lease.device != claimant.device);
            if taken { Err(DenyReason::SlotTaken) } else { Ok(Channel::Inbox(InboxMark {})) }
        }
    });
    let channel = match outcome {
        Ok(channel) => channel,
        Err(reason) => {
            let refused =
                audit::Event::ClaimRefused { grant: Some(grant), person: claimant.person, reason, from: claimant.from };
            effects.push(Effect::Audit(refused));
            return Step { state, effects, reply: Err(reason) };
        }
    };
    let slot = desk.slot();
    let until = cx.now.plus(limits::CLAIM_LEASE_S.into());
    let Claimant { person, device, credential, from } = claimant;
    let lease = Lease { claim, slot, person, device, credential, channel, salt, until };
    effects.push(Effect::Audit(audit::Event::Claimed {
        grant,
        slot,
        person: lease.person.clone(),
        device: lease.device.clone(),
        way: lease.way(),
        from,
    }));
    effects.push(Effect::Tell(ModuleEvent::Claimed(wire::Slot { slot })));
    case.let_go(desk.take(lease.clone()));
    Step { state, effects, reply: Ok(Reply::Claimed(lease)) }
}

/// Whoever may not answer never consumes a ticket.
fn may_claim(case: &Case, first: Option<&Given>, claimant: &Claimant, cx: Context<'_>) -> Result<(), DenyReason> {
    cx.roster.check_time(cx.now)?;
    let person = cx.roster.person(&claimant.person).ok_or(DenyReason::ApproverUnknown)?;
    let device = person.devices.iter().find(|d| d.id == claimant.device).ok_or(DenyReason::ApproverUnknown)?;
    verify::check_eligible(cx.roster, &case.request, person, device)?;
    let Some(first) = first else { return Ok(()) };
    if *first.person() == claimant.person {
        return Err(DenyReason::AlreadyApproved);
    }
    let class = |id: &DeviceId| {
        cx.roster.persons.iter().flat_map(|person| &person.devices).find(|d| d.id == *id).map(|d| d.client_class)
    };
    if cx.roster.rules.distinct_client_class && class(first.approval.signer().device()) == Some(device.client_class) {
        return Err(DenyReason::SameClientClass);
    }
    Ok(())
}

fn release(mut state: State, claim: &Digest, person: &PersonId) -> Step {
    let (case, desk) = match &mut state {
        State::Pending(Pending { case, desk }) | State::AwaitingSecond(AwaitingSecond { case, desk, .. }) => {
            (case, desk)
        }
        State::Approved(_)
        | State::Issued(_)
        | State::Active(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => return done(state, Vec::new()),
    };
    if !desk.lease().is_some_and(|lease| lease.claim == *claim && lease.person == *person) {
        return refuse(state, DenyReason::ClaimOver);
    }
    let released = audit::Event::ClaimReleased { grant: case.grant(), slot: desk.slot(), person: person.clone() };
    case.let_go(desk.release());
    done(state, vec![Effect::Audit(released)])
}

/// The lease under which this answer comes: an approval needs one that is held, a denial only one
/// that was.
fn lease_of<'a>(state: &'a State, answer: &Answer) -> Result<&'a Lease, DenyReason> {
    match state.lease(&answer.claim) {
        Some((lease, _)) if lease.person != answer.person || lease.device != answer.device => Err(DenyReason::NotFound),
        Some((lease, Hold::Held)) => Ok(lease),
        Some((lease, Hold::LetGo)) => match answer.answer {
            VerifiedAnswer::Denial(_) => Ok(lease),
            VerifiedAnswer::Approval(_) => Err(DenyReason::ClaimOver),
        },
        None if state.is_final() || matches!(state, State::Active(_)) => Err(DenyReason::NotPending),
        None => Err(DenyReason::ClaimOver),
    }
}

fn take_answer(state: State, answer: Answer, cx: Context<'_>) -> Step {
    let lease = match lease_of(&state, &answer) {
        Ok(lease) => lease.clone(),
        Err(reason) => return refuse_answer(state, answer.person, reason),
    };
    let Answer { person, answer, signed, .. } = answer;
    let signer = match &answer {
        VerifiedAnswer::Approval(approval) => approval.signer(),
        VerifiedAnswer::Denial(denial) => denial.signer(),
    };
    // The statement must be the claim's own: same request, person, device and channel.
    if signer.request() != state.case().id()
        || *signer.person() != lease.person
        || *signer.device() != lease.device
        || signer.channel() != lease.channel
    {
        return refuse_answer(state, person, DenyReason::EvidenceOtherRequest);
    }
    match answer {
        VerifiedAnswer::Denial(denial) => deny(state, denial, &signed),
        VerifiedAnswer::Approval(approval) => approve(state, Given { approval, signed, lease, at: cx.now }, cx),
    }
}

fn refuse_answer(state: State, person: PersonId, reason: DenyReason) -> Step {
    let refused = audit::Event::AnswerRefused { grant: Some(state.case().grant()), person, reason };
    Step { state, effects: vec![Effect::Audit(refused)], reply: Err(reason) }
}

fn deny(state: State, denial: VerifiedDenial, signed: &SignedStatement) -> Step {
    let (case, certified) = match state {
        State::Pending(Pending { case, .. })
        | State::AwaitingSecond(AwaitingSecond { case, .. })
        | State::Approved(Approved { case, .. }) => (case, None),
        State::Issued(Issued { case, certified, .. }) => (case, Some(certified)),
        State::Active(_) | State::Ended(_) | State::Denied(_) | State::Expired(_) | State::Withdrawn(_) => {
            return refuse_answer(state, denial.signer().person().clone(), DenyReason::NotPending);
        }
    };
    let signer = denial.signer();
    let mut effects = vec![
        Effect::KeepStatement { person: signer.person().clone(), decision: Decision::Deny, signed: signed.clone() },
        Effect::Audit(audit::Event::DenialGiven {
            grant: case.grant(),
            person: signer.person().clone(),
            device: signer.device().clone(),
            reason: denial.reason().map(|reason| escape::visible(reason.as_bytes())),
            statement: Digest::plain(&signed.statement.0),
        }),
    ];
    if let Some(certified) = &certified {
        effects.extend(revoke(&case, certified, RevokedBecause::Denied));
        effects.push(Effect::Order(EndOrder::Revoked));
    }
    effects.push(Effect::Tell(ModuleEvent::Denied(wire::Denied { statement: signed.clone() })));
    let state = State::Denied(Denied { case, denial: signed.clone(), certified });
    Step { state, effects, reply: Ok(Reply::Denied) }
}

fn approve(state: State, given: Given, cx: Context<'_>) -> Step {
    let person = given.person().clone();
    if let Err(reason) = cx.roster.check_time(cx.now) {
        return refuse_answer(state, person, reason);
    }
    if state.given().iter().any(|before| before.lease.claim == given.lease.claim) {
        return refuse_answer(state, person, DenyReason::AlreadyApproved);
    }
    match state {
        State::Pending(Pending { case, .. }) => {
            let effects = approval_effects(&case, &given);
            let state = State::AwaitingSecond(AwaitingSecond { case, desk: Desk::new(2), first: given });
            Step { state, effects, reply: Ok(Reply::ApprovedFirst) }
        }
        State::AwaitingSecond(mut waiting) => {
            let pair = (waiting.first.approval.clone(), given.approval.clone());
            match TwoPersonApproval::new(cx.roster, &waiting.case.request, pair.0, pair.1) {
                Ok(approval) => {
                    let AwaitingSecond { case, first, .. } = waiting;
                    let mut effects = approval_effects(&case, &given);
                    // A module that is away is granted when it comes back, or not at all.
                    let reply = match case.link {
                        LinkState::Up => {
                            effects.push(Effect::Issue);
                            Reply::ApprovedBoth
                        }
                        LinkState::LostAt(_) => Reply::ApprovedAway,
                    };
                    let state = State::Approved(Approved { case, given: [first, given], approval });
                    Step { state, effects, reply: Ok(reply) }
                }
                Err(reason) => {
                    waiting.case.let_go(waiting.desk.release());
                    refuse_answer(State::AwaitingSecond(waiting), person, reason)
                }
            }
        }
        State::Approved(_)
        | State::Issued(_)
        | State::Active(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => refuse_answer(state, person, DenyReason::NotPending),
    }
}

fn approval_effects(case: &Case, given: &Given) -> Vec<Effect> {
    let approval: &VerifiedApproval = &given.approval;
    let signer = approval.signer();
    let (slot, person) = (given.lease.slot, signer.person().clone());
    vec![
        Effect::KeepStatement { person: person.clone(), decision: Decision::Approve, signed: given.signed.clone() },
        Effect::Audit(audit::Event::ApprovalGiven {
            grant: case.grant(),
            slot,
            person: person.clone(),
            device: signer.device().clone(),
            assurance: signer.assurance(),
            way: given.lease.way(),
            ttl_s: approval.ttl_s(),
            statement: Digest::plain(&given.signed.statement.0),
        }),
        Effect::Tell(ModuleEvent::Approved(wire::Approved { slot, person })),
    ]
}

impl Approved {
    /// Issues the certificate: `make` consumes the proof. Refused past approve-by or when the
    /// roster is over; a failure withdraws the request.
    pub fn issue(
        self,
        cx: Context<'_>,
        make: impl FnOnce(&VerifiedRequest, TwoPersonApproval, &[Given; 2]) -> Result<Certified, DenyReason>,
    ) -> Step {
        if let Some(end) = over(&self.case, cx.now) {
            let (state, effects) = end_waiting(self.case, end);
            return Step { state, effects, reply: Err(DenyReason::Expired) };
        }
        let Self { case, given, approval } = self;
        let (grant, ttl_s) = (case.grant(), approval.ttl_s().min(cx.max_ttl_s));
        let made = cx.roster.check_time(cx.now).and_then(|()| make(&case.request, approval, &given));
        match made {
            Ok(certified) => {
                let issued = audit::Event::CertificateIssued {
                    grant,
                    serial: certified.serial,
                    not_after: certified.not_after,
                    ttl_s,
                    approvers: given.iter().map(|given| given.person().clone()).collect(),
                    evidence: verify::evidence_digest(&certified.evidence.0),
                };
                let effects = vec![
                    Effect::KeepCertificate(certified.clone()),
                    Effect::Audit(issued),
                    Effect::TellGranted(certified.clone()),
                ];
                Step { state: State::Issued(Issued { case, given, certified }), effects, reply: Ok(Reply::Done) }
            }
            Err(reason) => {
                let why = Withdrawal::IssueFailed;
                let refused = wire::Refused { reason, retry_after_s: None };
                let effects = vec![
                    Effect::Audit(audit::Event::IssueFailed { grant, reason }),
                    Effect::Audit(audit::Event::RequestWithdrawn { grant, why }),
                    Effect::Tell(ModuleEvent::Refused(refused)),
                ];
                Step { state: State::Withdrawn(Withdrawn { case, why, certified: None }), effects, reply: Err(reason) }
            }
        }
    }
}

fn give_up(state: State, why: Withdrawal) -> Step {
    let withdrawn = |case: Case, certified: Option<Certified>, mut effects: Vec<Effect>| {
        effects.insert(0, Effect::Audit(audit::Event::RequestWithdrawn { grant: case.grant(), why }));
        done(State::Withdrawn(Withdrawn { case, why, certified }), effects)
    };
    match state {
        State::Pending(Pending { case, .. })
        | State::AwaitingSecond(AwaitingSecond { case, .. })
        | State::Approved(Approved { case, .. }) => withdrawn(case, None, Vec::new()),
        // A module that was granted closes its connection: that alone says nothing.
        State::Issued(Issued { case, certified, .. }) if why == Withdrawal::Cancelled => {
            let mut effects = revoke(&case, &certified, RevokedBecause::Withdrawn).to_vec();
            effects.push(Effect::Order(EndOrder::Dropped));
            withdrawn(case, Some(certified), effects)
        }
        State::Issued(_)
        | State::Active(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => done(state, Vec::new()),
    }
}

fn lose_link(mut state: State, now: UnixTime) -> Step {
    let case = match &mut state {
        State::Pending(Pending { case, .. })
        | State::AwaitingSecond(AwaitingSecond { case, .. })
        | State::Approved(Approved { case, .. }) => case,
        State::Issued(_)
        | State::Active(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => return done(state, Vec::new()),
    };
    if case.link != LinkState::Up {
        return done(state, Vec::new());
    }
    case.link = LinkState::LostAt(now);
    let lost = audit::Event::RequestLinkLost { grant: case.grant() };
    done(state, vec![Effect::Audit(lost)])
}

fn resume(mut state: State, token: &Digest, cx: Context<'_>) -> Step {
    let grant = state.case().grant();
    if state.case().resume != *token {
        let refused = Effect::Audit(audit::Event::ResumeRefused { grant });
        return Step { state, effects: vec![refused], reply: Err(DenyReason::NotFound) };
    }
    match &mut state {
        State::Pending(Pending { case, desk }) | State::AwaitingSecond(AwaitingSecond { case, desk, .. }) => {
            let before = std::mem::replace(&mut case.link, LinkState::Up);
            if desk.lease().is_none() {
                desk.show_again(before);
            }
        }
        State::Approved(Approved { case, .. }) => case.link = LinkState::Up,
        State::Issued(_)
        | State::Active(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => {}
    }
    let mut effects = vec![Effect::Audit(audit::Event::RequestResumed { grant })];
    effects.extend(resume_events(&state, cx));
    if let Some(lease) = state.desk().and_then(Desk::lease) {
        effects.push(Effect::Tell(ModuleEvent::Claimed(wire::Slot { slot: lease.slot })));
    }
    done(state, effects)
}

// ---- sessions -----------------------------------------------------------------------------------

pub(super) fn revoke(case: &Case, certified: &Certified, because: RevokedBecause) -> [Effect; 2] {
    let (serial, not_after) = (certified.serial, certified.not_after);
    let revoked = audit::Event::CertificateRevoked { grant: case.grant(), serial, why: because };
    [Effect::Audit(revoked), Effect::Revoke { serial, not_after, because }]
}

pub(super) fn order_end(mut active: Active, order: EndOrder, because: RevokedBecause) -> (State, Vec<Effect>) {
    let mut effects = vec![Effect::Audit(audit::Event::EndOrdered { grant: active.case.grant(), order })];
    effects.extend(revoke(&active.case, &active.certified, because));
    effects.push(Effect::Order(order));
    active.order = Some(order);
    (State::Active(active), effects)
}

fn started(state: State, start: &StartStatement, record: Bytes) -> Step {
    let grant = state.case().grant();
    let Some(serial) = state.certified().map(|certified| certified.serial).filter(|own| start.serial == Some(*own))
    else {
        return refuse(state, DenyReason::CertificateOther);
    };
    let audit = Effect::Audit(audit::Event::SessionStarted {
        grant,
        serial,
        pid: start.pid,
        started_at: start.started_at,
        record: Digest::plain(&record.0),
    });
    let effects = vec![Effect::KeepRecord(record), audit];
    match state {
        State::Issued(Issued { case, certified, .. }) => {
            let started_at = start.started_at;
            let active = Active { case, certified, started_at, lingering: None, order: None };
            done(State::Active(active), effects)
        }
        // The same report again, because ours was lost on the way.
        State::Active(_) | State::Ended(Ended { reason: Some(_), .. }) => done(state, Vec::new()),
        // It started although it is over here: keep the record, have it ended.
        State::Ended(Ended { order, .. }) => end_at_once(state, effects, order),
        State::Denied(_) => end_at_once(state, effects, EndOrder::Revoked),
        State::Withdrawn(_) => end_at_once(state, effects, EndOrder::Dropped),
        State::Pending(_) | State::AwaitingSecond(_) | State::Approved(_) | State::Expired(_) => {
            refuse(state, DenyReason::NotPending)
        }
    }
}

fn end_at_once(state: State, mut effects: Vec<Effect>, order: EndOrder) -> Step {
    effects.push(Effect::Audit(audit::Event::EndOrdered { grant: state.case().grant(), order }));
    effects.push(Effect::Order(order));
    done(state, effects)
}

fn lingering(mut state: State, processes: u32) -> Step {
    let grant = state.case().grant();
    match &mut state {
        State::Active(active) => {
            let repeated = active.lingering == Some(processes);
            active.lingering = Some(processes);
            let audit = Effect::Audit(audit::Event::SessionLingering { grant, processes });
            done(state, if repeated { Vec::new() } else { vec![audit] })
        }
        State::Pending(_)
        | State::AwaitingSecond(_)
        | State::Approved(_)
        | State::Issued(_)
        | State::Ended(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => refuse(state, DenyReason::NotPending),
    }
}

fn ended(mut state: State, note: EndNote) -> Step {
    let case = match &mut state {
        State::Issued(Issued { case, .. })
        | State::Active(Active { case, .. })
        | State::Ended(Ended { case, .. })
        | State::Denied(Denied { case, certified: Some(_), .. })
        | State::Withdrawn(Withdrawn { case, certified: Some(_), .. }) => case,
        State::Pending(_)
        | State::AwaitingSecond(_)
        | State::Approved(_)
        | State::Denied(_)
        | State::Expired(_)
        | State::Withdrawn(_) => return refuse(state, DenyReason::NotPending),
    };
    if case.end_reported {
        return done(state, Vec::new());
    }
    case.end_reported = true;
    let audit = audit::Event::SessionEnded {
        grant: case.grant(),
        reason: note.reason,
        ended_at: note.ended_at,
        took_ms: note.took_ms,
        killed: note.killed.len() as u64,
        escaped: note.escaped.iter().take(AUDITED_NOTES).cloned().collect(),
        escaped_more: note.escaped.len().saturating_sub(AUDITED_NOTES) as u64,
        lingered: note.lingered,
    };
    let reason = note.reason;
    let mut effects = vec![Effect::KeepEnd(note), Effect::Audit(audit)];
    let (case, certified, revoked_already) = match state {
        State::Issued(Issued { case, certified, .. }) => (case, certified, false),
        State::Active(Active { case, certified, order, .. }) => (case, certified, order.is_some()),
        State::Ended(Ended { case, certified, order, .. }) => {
            return done(State::Ended(Ended { case, certified, reason: Some(reason), order }), effects);
        }
        state @ (State::Denied(_)
        | State::Withdrawn(_)
        | State::Pending(_)
        | State::AwaitingSecond(_)
        | State::Approved(_)
        | State::Expired(_)) => return done(state, effects),
    };
    if !revoked_already {
        effects.extend(revoke(&case, &certified, because_of(reason)));
    }
    done(State::Ended(Ended { case, certified, reason: Some(reason), order: EndOrder::Expired }), effects)
}

fn because_of(reason: EndReason) -> RevokedBecause {
    match reason {
        EndReason::Finished | EndReason::FoundOver => RevokedBecause::SessionEnded,
        EndReason::Expired => RevokedBecause::Expired,
        EndReason::Revoked => RevokedBecause::Revoked,
        EndReason::Dropped => RevokedBecause::Withdrawn,
    }
}

fn revoke_grant(state: State, by_uid: u32) -> Step {
    let audit = Effect::Audit(audit::Event::AdminRevoked { grant: state.case().grant(), by_uid });
    match state {
        State::Issued(Issued { case, certified, .. }) => {
            let order = EndOrder::Revoked;
            let mut effects = vec![audit];
            effects.extend(revoke(&case, &certified, RevokedBecause::Revoked));
            effects.push(Effect::Order(order));
            effects.push(Effect::Tell(ModuleEvent::Refused(wire::Refused {
                reason: DenyReason::Revoked,
                retry_after_s: None,
            })));
            done(State::Ended(Ended { case, certified, reason: None, order }), effects)
        }
        State::Active(active) if active.order.is_none() => {
            let (state, mut effects) = order_end(active, EndOrder::Revoked, RevokedBecause::Revoked);
            effects.insert(0, audit);
            done(state, effects)
        }
        // A waiting request is revoked too: it can no longer become a grant.
        State::Pending(Pending { case, .. })
        | State::AwaitingSecond(AwaitingSecond { case, .. })
        | State::Approved(Approved { case, .. }) => {
            let why = Withdrawal::Revoked;
            let withdrawn = Effect::Audit(audit::Event::RequestWithdrawn { grant: case.grant(), why });
            let refused = wire::Refused { reason: DenyReason::Revoked, retry_after_s: None };
            let effects = vec![audit, withdrawn, Effect::Tell(ModuleEvent::Refused(refused))];
            done(State::Withdrawn(Withdrawn { case, why, certified: None }), effects)
        }
        State::Active(_) => done(state, Vec::new()),
        State::Ended(_) | State::Denied(_) | State::Expired(_) | State::Withdrawn(_) => {
            refuse(state, DenyReason::GrantOver)
        }
    }
}
