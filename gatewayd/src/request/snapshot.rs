//! A request at rest. What comes back from the database is only a claim: [`Stored::revive`] verifies
//! the request's and every statement's signatures again before it makes proof tokens.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twinlock_protocol::evidence::{EndReason, SignedRequest};
use twinlock_protocol::request::{ElevationRequest, RosterRef};
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::statement::SignedStatement;
use twinlock_protocol::verify::{self, TwoPersonApproval, VerifiedAnswer, VerifiedApproval, VerifiedRequest};
use twinlock_protocol::wire::agent::EndOrder;
use twinlock_protocol::{DenyReason, Digest, UnixTime};

use super::desk::{Desk, Lease};
use super::state::{
    Active, Approved, AwaitingSecond, Case, Certified, Denied, Ended, Expired, Given, Issued, LinkState, Pending,
    State, Withdrawn,
};
use crate::audit::Withdrawal;
use crate::roster::Chain;

/// Everything about a state but the request and the statements, which rest in columns and rows of
/// their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The roster by which it was decided last; its own, where none is named.
    #[serde(default)]
    roster: Option<RosterRef>,
    admitted_at: UnixTime,
    approve_by: UnixTime,
    resume: Digest,
    link: LinkState,
    code_tries: u32,
    end_reported: bool,
    #[serde(default)]
    let_go: Vec<Lease>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenAt {
    lease: Lease,
    at: UnixTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Phase {
    Pending { desk: Desk },
    AwaitingSecond { desk: Desk, first: GivenAt },
    Approved { given: [GivenAt; 2] },
    Issued { given: [GivenAt; 2], certified: Certified },
    Active { certified: Certified, started_at: UnixTime, lingering: Option<u32>, order: Option<EndOrder> },
    Ended { certified: Certified, reason: Option<EndReason>, order: EndOrder },
    Denied { certified: Option<Certified> },
    Expired {},
    Withdrawn { why: Withdrawal, certified: Option<Certified> },
}

/// A request as the store gives it back.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The request with its signatures.
    pub signed: SignedRequest,
    /// The state.
    pub snapshot: Snapshot,
    /// Statements, oldest first.
    pub statements: Vec<SignedStatement>,
}

/// Why a stored request is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviveError {
    /// A signature does not verify under the roster.
    #[error("a stored signature does not verify: {0}")]
    Unverified(DenyReason),
    /// It was made or decided under a roster that is too old, or not of this chain.
    #[error("its roster is not of the chain")]
    Roster,
    /// The statements do not make the state.
    #[error("the stored statements do not make the stored state")]
    Mismatch,
}

impl From<DenyReason> for ReviveError {
    fn from(reason: DenyReason) -> Self {
        Self::Unverified(reason)
    }
}

impl Snapshot {
    /// Of a state.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let at_rest = |given: &Given| GivenAt { lease: given.lease.clone(), at: given.at };
        let phase = match state {
            State::Pending(Pending { desk, .. }) => Phase::Pending { desk: desk.clone() },
            State::AwaitingSecond(AwaitingSecond { desk, first, .. }) => {
                Phase::AwaitingSecond { desk: desk.clone(), first: at_rest(first) }
            }
            State::Approved(Approved { given, .. }) => Phase::Approved { given: given.each_ref().map(at_rest) },
            State::Issued(Issued { given, certified, .. }) => {
                Phase::Issued { given: given.each_ref().map(at_rest), certified: certified.clone() }
            }
            State::Active(Active { certified, started_at, lingering, order, .. }) => Phase::Active {
                certified: certified.clone(),
                started_at: *started_at,
                lingering: *lingering,
                order: *order,
            },
            State::Ended(Ended { certified, reason, order, .. }) => {
                Phase::Ended { certified: certified.clone(), reason: *reason, order: *order }
            }
            State::Denied(Denied { certified, .. }) => Phase::Denied { certified: certified.clone() },
            State::Expired(Expired { .. }) => Phase::Expired {},
            State::Withdrawn(Withdrawn { why, certified, .. }) => {
                Phase::Withdrawn { why: *why, certified: certified.clone() }
            }
        };
        let case = state.case();
        Self {
            roster: Some(case.request.decided_by()),
            admitted_at: case.admitted_at,
            approve_by: case.approve_by,
            resume: case.resume,
            link: case.link,
            code_tries: case.code_tries,
            end_reported: case.end_reported,
            let_go: case.let_go.clone(),
            phase,
        }
    }
}

impl Stored {
    /// Verifies everything again and makes the state.
    ///
    /// # Errors
    /// [`ReviveError`]; the caller voids the request.
    pub fn revive(self, chain: &Chain) -> Result<State, ReviveError> {
        let Self { signed, snapshot, statements } = self;
        let asked = ElevationRequest::from_bytes(&signed.request.0).map_err(|_| ReviveError::Mismatch)?;
        let find = |of: &RosterRef| chain.find(of).map(|link| Arc::clone(&link.roster)).ok_or(ReviveError::Roster);
        let (own, decided) = (find(&asked.roster)?, find(&snapshot.roster.unwrap_or(asked.roster))?);
        let roster = &*decided;
        // As of its admission: a live session must be found again even when the roster ends under
        // it. Whether the roster still grants is asked again at each approval and at issue.
        let request = verify::verify_request(&own, &signed, snapshot.admitted_at)?;
        let request = if request.is_under(roster) { request } else { request.under(roster)? };
        let Snapshot { roster: _, admitted_at, approve_by, resume, link, code_tries, end_reported, let_go, phase } =
            snapshot;
        let case = Case { request, admitted_at, approve_by, resume, link, code_tries, end_reported, let_go };
        let approvals = || approvals(roster, &case.request, &statements);
        Ok(match phase {
            Phase::Pending { desk } => State::Pending(Pending { case, desk }),
            Phase::AwaitingSecond { desk, first } => {
                let [first_given] = given(approvals()?, [first])?;
                State::AwaitingSecond(AwaitingSecond { case, desk, first: first_given })
            }
            Phase::Approved { given: at } => {
                let given = given(approvals()?, at)?;
                let [first, second] = given.each_ref().map(|given| given.approval.clone());
                let approval = TwoPersonApproval::new(roster, &case.request, first, second)?;
                State::Approved(Approved { case, given, approval })
            }
            Phase::Issued { given: at, certified } => {
                let given = given(approvals()?, at)?;
                let [first, second] = given.each_ref().map(|given| given.approval.clone());
                let _still_two: TwoPersonApproval = TwoPersonApproval::new(roster, &case.request, first, second)?;
                State::Issued(Issued { case, given, certified })
            }
            Phase::Active { certified, started_at, lingering, order } => {
                State::Active(Active { case, certified, started_at, lingering, order })
            }
            Phase::Ended { certified, reason, order } => State::Ended(Ended { case, certified, reason, order }),
            Phase::Denied { certified } => {
                let denial = denial(roster, &case.request, statements)?;
                State::Denied(Denied { case, denial, certified })
            }
            Phase::Expired {} => State::Expired(Expired { case }),
            Phase::Withdrawn { why, certified } => State::Withdrawn(Withdrawn { case, why, certified }),
        })
    }
}

type Approvals = Vec<(VerifiedApproval, SignedStatement)>;

/// Every statement must verify; a denial among them contradicts every state that asks here.
fn approvals(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    statements: &[SignedStatement],
) -> Result<Approvals, ReviveError> {
    let verified = |signed: &SignedStatement| match verify::verify_statement(roster, request, signed)? {
        VerifiedAnswer::Approval(approval) => Ok((approval, signed.clone())),
        VerifiedAnswer::Denial(_) => Err(ReviveError::Mismatch),
    };
    statements.iter().map(verified).collect()
}

fn given<const N: usize>(approvals: Approvals, at: [GivenAt; N]) -> Result<[Given; N], ReviveError> {
    let approvals: [(VerifiedApproval, SignedStatement); N] =
        approvals.try_into().map_err(|_| ReviveError::Mismatch)?;
    let mut at = at.into_iter();
    let joined: Vec<Given> = approvals
        .into_iter()
        .filter_map(|(approval, signed)| {
            let GivenAt { lease, at } = at.next()?;
            let own = *approval.signer().person() == lease.person && *approval.signer().device() == lease.device;
            own.then_some(Given { approval, signed, lease, at })
        })
        .collect();
    joined.try_into().map_err(|_| ReviveError::Mismatch)
}

fn denial(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    statements: Vec<SignedStatement>,
) -> Result<SignedStatement, ReviveError> {
    let last = statements.into_iter().next_back().ok_or(ReviveError::Mismatch)?;
    match verify::verify_statement(roster, request, &last)? {
        VerifiedAnswer::Denial(_) => Ok(last),
        VerifiedAnswer::Approval(_) => Err(ReviveError::Mismatch),
    }
}
