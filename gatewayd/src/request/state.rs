//! The states of a request, one struct each. Proof tokens live in the fields: a state that needs
//! two approvals cannot be made without them.

use serde::{Deserialize, Serialize};
use twinlock_protocol::evidence::EndReason;
use twinlock_protocol::ids::{CertSerial, GrantId, PersonId, RequestId};
use twinlock_protocol::statement::SignedStatement;
use twinlock_protocol::verify::{TwoPersonApproval, VerifiedApproval, VerifiedRequest};
use twinlock_protocol::wire::agent::EndOrder;
use twinlock_protocol::{Bytes, Digest, UnixTime};

use super::desk::{Desk, Lease};
use crate::audit::Withdrawal;

/// Whether the module can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Through its agent.
    Up,
    /// Not since this moment.
    LostAt(UnixTime),
}

/// What stays the same through a request's life, and the counters that survive everything.
#[derive(Clone, Debug)]
pub struct Case {
    /// The verified request.
    pub request: VerifiedRequest,
    /// When the gateway stored it.
    pub admitted_at: UnixTime,
    /// Until when both approvals must be given.
    pub approve_by: UnixTime,
    /// The hash of the resume token.
    pub resume: Digest,
    /// Whether the module can be reached.
    pub link: LinkState,
    /// Tries at the terminal's code that are left.
    pub code_tries: u32,
    /// The host has reported the end of its session.
    pub end_reported: bool,
    /// The last lease of each device that ended without an answer: its holder may still deny.
    pub let_go: Vec<Lease>,
}

/// How a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Hold {
    /// It holds the open slot, or was approved under: any answer counts or is refused by itself.
    Held,
    /// It ended without an answer: a denial under it still counts, an approval does not.
    LetGo,
}

impl Case {
    /// A lease ended without an answer. One per device, so nobody can push another's out.
    pub(super) fn let_go(&mut self, lease: Option<Lease>) {
        let Some(lease) = lease else { return };
        self.let_go.retain(|before| before.device != lease.device);
        self.let_go.push(lease);
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.request.id()
    }

    /// The grant that it can become.
    #[must_use]
    pub fn grant(&self) -> GrantId {
        self.request.id().grant()
    }
}

/// One person's approval, as given.
#[derive(Clone, Debug)]
pub struct Given {
    /// The proof.
    pub approval: VerifiedApproval,
    /// Its bytes and signatures.
    pub signed: SignedStatement,
    /// The claim under which it was given; its holder may still deny (A7).
    pub lease: Lease,
    /// When.
    pub at: UnixTime,
}

impl Given {
    /// Who gave it.
    #[must_use]
    pub fn person(&self) -> &PersonId {
        self.approval.signer().person()
    }
}

/// The issued certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certified {
    /// Its serial.
    pub serial: CertSerial,
    /// Its end.
    pub not_after: UnixTime,
    /// DER.
    pub certificate: Bytes,
    /// The evidence that it was issued on.
    pub evidence: Bytes,
}

/// Waits for the first approval. Moved by claims and answers of approvers, by the requester
/// (cancel, hang-up), by time. Not final.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The request.
    pub case: Case,
    /// Slot 1.
    pub desk: Desk,
}

/// One person approved; waits for a second one. Moved as [`Pending`], and by the first approver's
/// change of mind. Not final.
#[derive(Clone, Debug)]
pub struct AwaitingSecond {
    /// The request.
    pub case: Case,
    /// Slot 2.
    pub desk: Desk,
    /// The first approval.
    pub first: Given,
}

/// Two people approved; the certificate is being made. Left at once; found after a crash, it is
/// issued only if the module comes back in time. Not final.
#[derive(Debug)]
pub struct Approved {
    /// The request.
    pub case: Case,
    /// Both approvals.
    pub given: [Given; 2],
    /// The proof, which issuing consumes.
    pub approval: TwoPersonApproval,
}

/// The certificate is out; no session has started. Moved by the host's start report, by a denial
/// of either approver, cancel, revocation, and the certificate's end. Not final.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The request.
    pub case: Case,
    /// Both approvals.
    pub given: [Given; 2],
    /// The certificate.
    pub certified: Certified,
}

/// A session runs under the grant. Moved by the host's end report; revocation and the
/// certificate's end only order it to end. Not final.
#[derive(Clone, Debug)]
pub struct Active {
    /// The request.
    pub case: Case,
    /// The certificate.
    pub certified: Certified,
    /// When it started, by the host's clock.
    pub started_at: UnixTime,
    /// Processes that outlive the command, when the host said so.
    pub lingering: Option<u32>,
    /// The order to end that was given, and is repeated until the host reports the end.
    pub order: Option<EndOrder>,
}

/// The grant is over. Final; a late end report of the host is still recorded.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The request.
    pub case: Case,
    /// The certificate.
    pub certified: Certified,
    /// How the session ended; none when no session used the grant.
    pub reason: Option<EndReason>,
    /// The order that a host which reports a session after all is given.
    pub order: EndOrder,
}

/// A signed denial. Final.
#[derive(Clone, Debug)]
pub struct Denied {
    /// The request.
    pub case: Case,
    /// The denial.
    pub denial: SignedStatement,
    /// The certificate, when it was out already; revoked.
    pub certified: Option<Certified>,
}

/// Approve-by passed. Final.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The request.
    pub case: Case,
}

/// Given up, by the requester or because its module is gone. Final.
#[derive(Clone, Debug)]
pub struct Withdrawn {
    /// The request.
    pub case: Case,
    /// Why.
    pub why: Withdrawal,
    /// The certificate, when it was out already; revoked.
    pub certified: Option<Certified>,
}

/// The life of a request. Every decision matches all of it.
#[derive(Debug)]
#[must_use]
#[allow(clippy::large_enum_variant)] // one per request, moved a dozen times in its life
pub enum State {
    /// Waits for the first approval.
    Pending(Pending),
    /// Waits for the second.
    AwaitingSecond(AwaitingSecond),
    /// Two approved.
    Approved(Approved),
    /// The certificate is out.
    Issued(Issued),
    /// A session runs.
    Active(Active),
    /// Over.
    Ended(Ended),
    /// Denied.
    Denied(Denied),
    /// Out of time.
    Expired(Expired),
    /// Given up.
    Withdrawn(Withdrawn),
}

impl State {
    /// What stays the same.
    #[must_use]
    pub fn case(&self) -> &Case {
        match self {
            Self::Pending(state) => &state.case,
            Self::AwaitingSecond(state) => &state.case,
            Self::Approved(state) => &state.case,
            Self::Issued(state) => &state.case,
            Self::Active(state) => &state.case,
            Self::Ended(state) => &state.case,
            Self::Denied(state) => &state.case,
            Self::Expired(state) => &state.case,
            Self::Withdrawn(state) => &state.case,
        }
    }

    /// After a start of the gateway every link is lost, from now on: modules have the whole grace to
    /// come back, however long the gateway was away.
    pub fn with_link_lost_at(mut self, now: UnixTime) -> Self {
        match &mut self {
            Self::Pending(Pending { case, .. })
            | Self::AwaitingSecond(AwaitingSecond { case, .. })
            | Self::Approved(Approved { case, .. }) => case.link = LinkState::LostAt(now),
            Self::Issued(_)
            | Self::Active(_)
            | Self::Ended(_)
            | Self::Denied(_)
            | Self::Expired(_)
            | Self::Withdrawn(_) => {}
        }
        self
    }

    /// The state's name, in database, log and API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending(_) => "pending",
            Self::AwaitingSecond(_) => "awaiting_second",
            Self::Approved(_) => "approved",
            Self::Issued(_) => "issued",
            Self::Active(_) => "active",
            Self::Ended(_) => "ended",
            Self::Denied(_) => "denied",
            Self::Expired(_) => "expired",
            Self::Withdrawn(_) => "withdrawn",
        }
    }

    /// The open slot, while approvers are waited for.
    #[must_use]
    pub fn desk(&self) -> Option<&Desk> {
        match self {
            Self::Pending(state) => Some(&state.desk),
            Self::AwaitingSecond(state) => Some(&state.desk),
            Self::Approved(_)
            | Self::Issued(_)
            | Self::Active(_)
            | Self::Ended(_)
            | Self::Denied(_)
            | Self::Expired(_)
            | Self::Withdrawn(_) => None,
        }
    }

    /// The approvals so far.
    #[must_use]
    pub fn given(&self) -> &[Given] {
        match self {
            Self::AwaitingSecond(state) => std::slice::from_ref(&state.first),
            Self::Approved(state) => &state.given,
            Self::Issued(state) => &state.given,
            Self::Pending(_)
            | Self::Active(_)
            | Self::Ended(_)
            | Self::Denied(_)
            | Self::Expired(_)
            | Self::Withdrawn(_) => &[],
        }
    }

    /// The lease of a claim under which something can still be answered, and how it stands.
    #[must_use]
    pub fn lease(&self, claim: &Digest) -> Option<(&Lease, Hold)> {
        let open = self.desk().and_then(Desk::lease);
        let held =
            open.into_iter().chain(self.given().iter().map(|given| &given.lease)).map(|lease| (lease, Hold::Held));
        let let_go: &[Lease] = match self {
            Self::Pending(_) | Self::AwaitingSecond(_) | Self::Approved(_) | Self::Issued(_) => &self.case().let_go,
            Self::Active(_) | Self::Ended(_) | Self::Denied(_) | Self::Expired(_) | Self::Withdrawn(_) => &[],
        };
        held.chain(let_go.iter().map(|lease| (lease, Hold::LetGo))).find(|(lease, _)| lease.claim == *claim)
    }

    /// The certificate, once there is one.
    #[must_use]
    pub fn certified(&self) -> Option<&Certified> {
        match self {
            Self::Issued(state) => Some(&state.certified),
            Self::Active(state) => Some(&state.certified),
            Self::Ended(state) => Some(&state.certified),
            Self::Denied(state) => state.certified.as_ref(),
            Self::Withdrawn(state) => state.certified.as_ref(),
            Self::Pending(_) | Self::AwaitingSecond(_) | Self::Approved(_) | Self::Expired(_) => None,
        }
    }

    /// Whether nothing moves it any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Ended(_) | Self::Denied(_) | Self::Expired(_) | Self::Withdrawn(_) => true,
            Self::Pending(_) | Self::AwaitingSecond(_) | Self::Approved(_) | Self::Issued(_) | Self::Active(_) => false,
        }
    }

    /// The order that the request's host must hear when it connects: what should not run (any
    /// more), as far as the certificate could still let it.
    #[must_use]
    pub fn open_order(&self, now: UnixTime) -> Option<EndOrder> {
        let still = |certified: &Option<Certified>| certified.as_ref().is_some_and(|c| now < c.not_after.plus(120));
        match self {
            Self::Active(state) => state.order,
            Self::Denied(state) if still(&state.certified) => Some(EndOrder::Revoked),
            Self::Withdrawn(state) if still(&state.certified) => Some(EndOrder::Dropped),
            Self::Ended(state) if state.reason.is_none() && now < state.certified.not_after.plus(120) => {
                Some(state.order)
            }
            Self::Pending(_)
            | Self::AwaitingSecond(_)
            | Self::Approved(_)
            | Self::Issued(_)
            | Self::Ended(_)
            | Self::Denied(_)
            | Self::Expired(_)
            | Self::Withdrawn(_) => None,
        }
    }
}
