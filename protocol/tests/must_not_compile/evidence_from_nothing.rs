use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::verify::{TwoPersonApproval, VerifiedEvidence, VerifiedRequest};

/// A host pins what evidence calls its head: only the verifier may say which that is.
fn pin_this(
    approval: TwoPersonApproval,
    request: Option<VerifiedRequest>,
    head: Option<VerifiedRoster>,
    head_envelope: Option<RosterEnvelope>,
) -> VerifiedEvidence {
    VerifiedEvidence { approval, request, head, head_envelope }
}

fn main() {}
