//! Approvals that people did give, of something else: another request, host, target or time.

use twinlock_protocol::DenyReason as R;
use twinlock_protocol::bytes::Bytes;
use twinlock_protocol::digest::Domain;
use twinlock_protocol::evidence::Evidence;
use twinlock_protocol::ids::{HostId, RequestId};
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::statement::{Decision, SignedStatement};

use crate::hostile::Case;
use crate::hostile::mint::About;
use crate::hostile::stage::{Attempt, Stage, noise};

/// The cases.
pub fn cases(_: &Stage<'_>) -> Vec<Case> {
    let other = R::EvidenceOtherRequest;
    vec![
        Case::grant("the whole grant of an earlier request", other, |a| {
            a.pick(a.past("for root").granted.clone(), a.grant(a.two()))
        }),
        Case::grant("the whole grant of a request for another target", other, |a| {
            a.pick(a.past("for bob").granted.clone(), a.grant(a.two()))
        }),
        Case::grant("both approvals of an earlier request", other, |a| {
            a.grant(a.pick(a.past("for root").statements.clone(), a.two()))
        }),
        Case::grant("one approval of an earlier request", other, |a| {
            let old = a.past("for root").statements[1].clone();
            a.grant(vec![a.yes("bob-phone"), a.pick(old, a.yes("carol-phone"))])
        }),
        Case::grant("both approvals of a request for another target", other, |a| {
            a.grant(a.pick(a.past("for bob").statements.clone(), a.two()))
        }),
        Case::grant("fresh approvals in the evidence of an earlier request", other, |a| {
            let mut evidence = a.evidence(a.two());
            evidence.request_digest = a.pick(a.past("for root").id, a.id);
            a.grant_bytes(evidence.to_bytes())
        }),
        Case::grant("an earlier approval that names this request, after it was signed", R::AssertionChallenge, |a| {
            let old = &a.past("for root").statements[1];
            a.grant(vec![a.yes("bob-phone"), a.pick(readdressed(a, old), a.yes("carol-phone"))])
        }),
        Case::grant("approvals of the same command on another host", other, |a| {
            a.grant(approvals_of(a, |request| request.host = HostId::new("web02").expect("an id")))
        }),
        Case::grant("approvals of the same command as another user", other, |a| {
            a.grant(approvals_of(a, |request| {
                request.target.user = "bob".into();
                request.target.uid = 1002;
            }))
        }),
        Case::grant("approvals of another command", other, |a| {
            a.grant(approvals_of(a, |request| request.argv = vec!["sudo".into(), "true".into()]))
        }),
        Case::grant("approvals of the very same request, made again", other, |a| {
            a.grant(approvals_of(a, |request| request.nonce = noise()))
        }),
        Case::grant("approvals of the same request, asked by somebody else", other, |a| {
            a.grant(approvals_of(a, |request| request.requester.real.name = "dave".into()))
        }),
        Case::grant("approvals of another host's request, with its whole certificate", other, |a| {
            let Some((id, request)) = a.attacks().then(|| foreign(a)) else { return a.grant(a.two()) };
            let statements = ["bob-phone", "carol-phone"]
                .map(|device| a.phone(device).answer(a.roster(), id, Decision::Approve))
                .to_vec();
            let evidence = twinlock_protocol::softphone::evidence(id, statements).to_bytes();
            let about = About {
                session_key: request.session_key,
                host: request.host,
                request: id,
                evidence: Evidence::digest_of(&evidence),
                ..a.about(&evidence)
            };
            let mut granted = a.grant_bytes(evidence);
            granted.certificate = Bytes(a.stage.mint.sign(&a.stage.mint.leaf(&about, a.now, 900)));
            granted
        }),
    ]
}

/// Approvals of the request as it is; in the attack, of one that differs by `change`.
fn approvals_of(a: &Attempt<'_, '_>, change: impl FnOnce(&mut ElevationRequest)) -> Vec<SignedStatement> {
    let mut request = a.request.clone();
    if a.attacks() {
        change(&mut request);
    }
    let id = ElevationRequest::id_of(&request.to_bytes());
    ["bob-phone", "carol-phone"].map(|device| a.phone(device).answer(a.roster(), id, Decision::Approve)).to_vec()
}

/// A request that the second host, whose root has joined in, signs itself.
fn foreign(a: &Attempt<'_, '_>) -> (RequestId, ElevationRequest) {
    let mut request = a.request.clone();
    request.host = HostId::new("web02").expect("an id");
    let id = ElevationRequest::id_of(&request.to_bytes());
    let vouched = a.stage.other_host.sign(&Domain::RequestHost.message(id.0.as_bytes()));
    assert!(vouched.is_ok(), "the other host's key works");
    (id, request)
}

fn readdressed(a: &Attempt<'_, '_>, old: &SignedStatement) -> SignedStatement {
    let text = String::from_utf8(old.statement.0.clone()).expect("JSON");
    let (was, is) = (a.past("for root").id.0.0.to_text(), a.id.0.0.to_text());
    super::altered(old.clone(), text.replace(&was, &is).into_bytes())
}
