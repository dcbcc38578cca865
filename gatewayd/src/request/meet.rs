//! A request meets a newer roster: what was decided under the old one is asked again before anything
//! else happens to it (A11, A12). An approval of somebody who does not count any more is void and its
//! slot is open again; a request that two others can no longer approve is refused; a grant of
//! somebody who may no longer ask is ended.

use twinlock_protocol::DenyReason;
use twinlock_protocol::verify::{self, TwoPersonApproval, VerifiedAnswer, VerifiedRequest};
use twinlock_protocol::wire::agent::EndOrder;
use twinlock_protocol::wire::module::{self as wire, ModuleEvent};

use super::desk::Desk;
use super::state::{
    Active, Approved, AwaitingSecond, Case, Ended, Given, Issued, LinkState, Pending, State, Withdrawn,
};
use super::step::{Context, Effect, accepted, order_end, revoke};
use crate::audit::{self, RevokedBecause, Withdrawal};

/// Brings a request under the context's roster, if it is not already.
pub(super) fn meet(state: State, cx: Context<'_>) -> (State, Vec<Effect>) {
    let request = &state.case().request;
    if state.is_final() || request.is_under(cx.roster) {
        return (state, Vec::new());
    }
    match request.under(cx.roster) {
        Ok(request) => keep(state, request, cx),
        Err(reason) => refuse(state, reason),
    }
}

/// The request stands; what was given to it may not.
fn keep(state: State, request: VerifiedRequest, cx: Context<'_>) -> (State, Vec<Effect>) {
    match state {
        State::Pending(Pending { case, mut desk }) => {
            let case = moved(case, request);
            let effects = free_slot(&case, &mut desk, cx);
            (State::Pending(Pending { case, desk }), effects)
        }
        State::AwaitingSecond(AwaitingSecond { case, mut desk, first }) => {
            let case = moved(case, request);
            match again(&case, first, cx) {
                Ok(first) => {
                    let effects = free_slot(&case, &mut desk, cx);
                    (State::AwaitingSecond(AwaitingSecond { case, desk, first }), effects)
                }
                Err((first, reason)) => {
                    let effects = reopened(&case, &[], void(&case, &first, reason), cx);
                    (State::Pending(Pending { case, desk: Desk::new(1) }), effects)
                }
            }
        }
        State::Approved(Approved { case, given: [first, second], approval: _ }) => {
            let case = moved(case, request);
            match (again(&case, first, cx), again(&case, second, cx)) {
                (Ok(first), Ok(second)) => {
                    let pair = (first.approval.clone(), second.approval.clone());
                    match TwoPersonApproval::new(cx.roster, &case.request, pair.0, pair.1) {
                        Ok(approval) => {
                            (State::Approved(Approved { case, given: [first, second], approval }), Vec::new())
                        }
                        Err(reason) => one_left(case, first, &second, reason, cx),
                    }
                }
                (Ok(left), Err((gone, reason))) | (Err((gone, reason)), Ok(left)) => {
                    one_left(case, left, &gone, reason, cx)
                }
                (Err((first, why)), Err((second, also))) => {
                    let mut effects = void(&case, &first, why);
                    effects.extend(void(&case, &second, also));
                    let effects = reopened(&case, &[], effects, cx);
                    (State::Pending(Pending { case, desk: Desk::new(1) }), effects)
                }
            }
        }
        State::Issued(Issued { case, given: [first, second], certified }) => {
            let case = moved(case, request);
            let both = [again(&case, first, cx), again(&case, second, cx)];
            let reason = both.iter().find_map(|one| one.as_ref().err().map(|(_, reason)| *reason));
            let given = both.map(|one| one.unwrap_or_else(|(given, _)| given));
            // Each may count and the two no longer make a pair: of one client class, where two are asked for.
            let [one, two] = given.each_ref().map(|given| given.approval.clone());
            let reason = reason.or_else(|| TwoPersonApproval::new(cx.roster, &case.request, one, two).err());
            let state = State::Issued(Issued { case, given, certified });
            match reason {
                None => (state, Vec::new()),
                // No session has started: none shall.
                Some(reason) => refuse(state, reason),
            }
        }
        State::Active(active) => (State::Active(Active { case: moved(active.case, request), ..active }), Vec::new()),
        State::Ended(_) | State::Denied(_) | State::Expired(_) | State::Withdrawn(_) => (state, Vec::new()),
    }
}

/// The case under the newer roster, which may leave it less time.
fn moved(case: Case, request: VerifiedRequest) -> Case {
    let approve_by = case.approve_by.min(case.admitted_at.plus(request.approve_by_s().into()));
    Case { request, approve_by, ..case }
}

/// The same approval under the newer roster, or why it does not count.
#[allow(clippy::result_large_err)] // the approval comes back to be voided; one per request and roster
fn again(case: &Case, given: Given, cx: Context<'_>) -> Result<Given, (Given, DenyReason)> {
    match verify::verify_statement(cx.roster, &case.request, &given.signed) {
        Ok(VerifiedAnswer::Approval(approval)) => Ok(Given { approval, ..given }),
        Ok(VerifiedAnswer::Denial(_)) => Err((given, DenyReason::DenialPresent)),
        Err(reason) => Err((given, reason)),
    }
}

fn void(case: &Case, given: &Given, reason: DenyReason) -> Vec<Effect> {
    let person = given.person().clone();
    let voided = audit::Event::ApprovalVoided { grant: case.grant(), person: person.clone(), reason };
    vec![Effect::VoidStatement(person), Effect::Audit(voided)]
}

fn one_left(case: Case, left: Given, gone: &Given, reason: DenyReason, cx: Context<'_>) -> (State, Vec<Effect>) {
    let effects = void(&case, gone, reason);
    let effects = reopened(&case, std::slice::from_ref(&left), effects, cx);
    (State::AwaitingSecond(AwaitingSecond { case, desk: Desk::new(2), first: left }), effects)
}

/// The module hears who may approve now, and who has.
fn reopened(case: &Case, given: &[Given], mut effects: Vec<Effect>, cx: Context<'_>) -> Vec<Effect> {
    if case.link == LinkState::Up
        && let Ok(event) = accepted(case, given, cx)
    {
        effects.push(Effect::Tell(event));
    }
    effects
}

/// Whoever holds the slot must still be somebody who may answer.
fn free_slot(case: &Case, desk: &mut Desk, cx: Context<'_>) -> Vec<Effect> {
    let Some(lease) = desk.lease().cloned() else { return Vec::new() };
    let may = cx.roster.person(&lease.person).is_some_and(|person| {
        let device = person.devices.iter().find(|one| one.id == lease.device && one.credential_id == lease.credential);
        device.is_some_and(|device| verify::check_eligible(cx.roster, &case.request, person, device).is_ok())
    });
    if may {
        return Vec::new();
    }
    desk.release();
    let (grant, slot, person) = (case.grant(), lease.slot, lease.person);
    vec![Effect::Audit(audit::Event::ClaimReleased { grant, slot, person })]
}

/// Nothing of it stands under the newer roster.
fn refuse(state: State, reason: DenyReason) -> (State, Vec<Effect>) {
    let refused = || Effect::Tell(ModuleEvent::Refused(wire::Refused { reason, retry_after_s: None }));
    match state {
        State::Pending(Pending { case, .. })
        | State::AwaitingSecond(AwaitingSecond { case, .. })
        | State::Approved(Approved { case, .. }) => {
            let why = Withdrawal::RosterChanged;
            let withdrawn = audit::Event::RequestWithdrawn { grant: case.grant(), why };
            let state = State::Withdrawn(Withdrawn { case, why, certified: None });
            (state, vec![Effect::Audit(withdrawn), refused()])
        }
        State::Issued(Issued { case, certified, .. }) => {
            let order = EndOrder::Revoked;
            let mut effects = vec![Effect::Audit(audit::Event::EndOrdered { grant: case.grant(), order })];
            effects.extend(revoke(&case, &certified, RevokedBecause::RosterChanged));
            effects.extend([Effect::Order(order), refused()]);
            (State::Ended(Ended { case, certified, reason: None, order }), effects)
        }
        State::Active(active) if active.order.is_none() => {
            order_end(active, EndOrder::Revoked, RevokedBecause::RosterChanged)
        }
        State::Active(_) | State::Ended(_) | State::Denied(_) | State::Expired(_) | State::Withdrawn(_) => {
            (state, Vec::new())
        }
    }
}
