//! Time: approvals that come late, life that grows by statement, certificate or clock, rosters past
//! their end. All times that count are the host's own.

use std::time::Duration;

use twinlock_protocol::DenyReason as R;
use twinlock_protocol::UnixTime;
use twinlock_protocol::bytes::Bytes;
use twinlock_protocol::wire::module::{Granted, ModuleEvent};

use super::stated;
use crate::hostile::Case;
use crate::hostile::mint::Leaf;
use crate::hostile::stage::{Ask, Attempt, Say, Stage};

/// The cases.
pub fn cases(_: &Stage<'_>) -> Vec<Case> {
    [late(), certificates(), held()].into_iter().flatten().collect()
}

/// Two honest approvals, kept back.
fn late() -> Vec<Case> {
    let short = || Ask { module: "approve_by_s = 3", ..Ask::default() };
    let kept_back = |a: &Attempt<'_, '_>| {
        let mut said = a.opening();
        let granted = a.grant(a.two());
        said.push(Say::Pause(a.pick(Duration::from_millis(3300), Duration::ZERO)));
        said.push(Say::Event(ModuleEvent::Granted(granted)));
        said
    };
    vec![
        Case::says("two approvals kept back until approve-by has passed", &[R::Expired], kept_back).asked(short()),
        Case::says("the same, from the agent's place", &[R::Expired], kept_back).asked(short()).at_the_module(),
    ]
}

fn certificates() -> Vec<Case> {
    let time = |name: &str, change: fn(&Attempt<'_, '_>, &mut Leaf)| {
        Case::grant(name, R::CertificateTime, move |a| {
            let mut granted = a.grant(a.two());
            let mut leaf = a.leaf(&granted.evidence.0);
            if a.attacks() {
                change(a, &mut leaf);
            }
            granted.certificate = Bytes(a.stage.mint.sign(&leaf));
            granted
        })
    };
    vec![
        time("a certificate that is over", |a, leaf| {
            leaf.not_before = UnixTime(a.now.0 - 1000);
            leaf.not_after = UnixTime(a.now.0 - 100);
        }),
        time("a certificate that ends now", |a, leaf| leaf.not_after = a.now),
        time("a certificate that begins in three minutes", |a, leaf| {
            leaf.not_before = a.now.plus(180);
            leaf.not_after = a.now.plus(900);
        }),
        time("a certificate that ends before it begins", |a, leaf| {
            leaf.not_before = a.now;
            leaf.not_after = UnixTime(a.now.0 - 1);
        }),
        time("a certificate for longer than two people said", |a, leaf| leaf.not_after = a.now.plus(1200)),
        time("a certificate for a day", |a, leaf| leaf.not_after = a.now.plus(86_400)),
        time("a certificate for ten years", |a, leaf| leaf.not_after = a.now.plus(10 * 365 * 86_400)),
        time("a certificate that began a year ago", |a, leaf| leaf.not_before = UnixTime(a.now.0 - 365 * 86_400)),
    ]
}

/// One of two says a minute; the certificate fits the other, or uses all the skew there is.
fn minute(a: &Attempt<'_, '_>, window_s: u64) -> Granted {
    let one = stated(a, "bob-phone", |statement| statement.ttl_s = 60);
    let evidence = a.evidence(vec![one, a.yes("carol-phone")]).to_bytes();
    let mut leaf = a.leaf(&evidence);
    leaf.not_before = UnixTime(a.now.0 - 1);
    leaf.not_after = a.now.plus(window_s - 1);
    let mut granted = a.grant_bytes(evidence);
    granted.certificate = Bytes(a.stage.mint.sign(&leaf));
    granted
}

fn held() -> Vec<Case> {
    vec![
        Case::grant("a minute by one, fifteen by the other, a certificate for fifteen", R::CertificateTime, |a| {
            minute(a, a.pick(900, 60))
        }),
        Case::grant("a minute by one, a certificate for a second more than the skew", R::CertificateTime, |a| {
            minute(a, a.pick(181, 180))
        }),
        Case::grant("a minute by one, a certificate for that and all of the skew", R::CertificateTime, |a| {
            minute(a, a.pick(180, 60))
        })
        .held_to(60),
        Case::grant("an hour by both, where the request asked for fifteen minutes", R::CertificateTime, |a| {
            let hour = |device| stated(a, device, |statement| statement.ttl_s = 3600);
            a.grant(vec![hour("bob-phone"), hour("carol-phone")])
        })
        .held_to(900),
        Case::grant("an hour by both, and a certificate for an hour", R::CertificateTime, |a| {
            let hour = |device| stated(a, device, |statement| statement.ttl_s = 3600);
            let mut granted = a.grant(vec![hour("bob-phone"), hour("carol-phone")]);
            let mut leaf = a.leaf(&granted.evidence.0);
            leaf.not_after = a.pick(leaf.not_before.plus(3600), leaf.not_after);
            granted.certificate = Bytes(a.stage.mint.sign(&leaf));
            granted
        }),
        Case::grant("fifteen minutes by both, where the roster allows one", R::CertificateTime, |a| {
            let mut granted = a.grant(a.two());
            let mut leaf = a.leaf(&granted.evidence.0);
            leaf.not_after = a.pick(leaf.not_after, leaf.not_before.plus(60));
            granted.certificate = Bytes(a.stage.mint.sign(&leaf));
            granted
        })
        .under(|roster| roster.rules.max_ttl_s = 60),
        Case::grant("fifteen minutes by both, where the host allows one", R::CertificateTime, |a| {
            let mut granted = a.grant(a.two());
            let mut leaf = a.leaf(&granted.evidence.0);
            leaf.not_after = a.pick(leaf.not_after, leaf.not_before.plus(60));
            granted.certificate = Bytes(a.stage.mint.sign(&leaf));
            granted
        })
        .asked(Ask { module: "ttl_s = 60\nmax_ttl_s = 60", ..Ask::default() }),
    ]
}
