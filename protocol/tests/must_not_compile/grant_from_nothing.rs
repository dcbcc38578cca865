use twinlock_protocol::ids::RequestId;
use twinlock_protocol::request::Scope;
use twinlock_protocol::verify::TwoPersonApproval;

fn grant(request: RequestId, signers: [twinlock_protocol::verify::Signer; 2]) -> TwoPersonApproval {
    TwoPersonApproval { request, signers, ttl_s: 900, scope: Scope::Command }
}

fn main() {
    let _ = grant;
}
