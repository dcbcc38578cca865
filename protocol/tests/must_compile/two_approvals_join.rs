//! Control for the cases that must not compile.
use twinlock_protocol::DenyReason;
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::verify::{TwoPersonApproval, VerifiedApproval, VerifiedRequest};

fn join(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    one: VerifiedApproval,
    two: VerifiedApproval,
) -> Result<TwoPersonApproval, DenyReason> {
    TwoPersonApproval::new(roster, request, one, two)
}

fn main() {
    let _ = join;
}
