use twinlock_protocol::DenyReason;
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::verify::{TwoPersonApproval, VerifiedApproval, VerifiedRequest};

fn join(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    one: VerifiedApproval,
) -> Result<TwoPersonApproval, DenyReason> {
    TwoPersonApproval::new(roster, request, one, one)
}

fn main() {
    let _ = join;
}
