use twinlock_protocol::request::Scope;
use twinlock_protocol::verify::VerifiedApproval;

fn main() {
    let _ = |signer| VerifiedApproval { signer, ttl_s: 900, scope: Scope::Command };
}
