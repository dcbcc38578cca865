//! Who approves: too few, the same one again, the requester under another name, people who may not.

use twinlock_protocol::DenyReason as R;
use twinlock_protocol::roster::ClientClass;
use twinlock_protocol::softphone::Phone;
use twinlock_protocol::statement::{APPROVAL_DOMAINS, Decision, ROSTER_DOMAINS};
use twinlock_protocol::wire::module::{Approved, Denied, ModuleEvent};

use super::{altered, stated};
use crate::hostile::Case;
use crate::hostile::stage::{Ask, Attempt, Say, Stage};

/// The cases.
pub fn cases(_: &Stage<'_>) -> Vec<Case> {
    [count(), requester(), standing(), denials()].into_iter().flatten().collect()
}

/// bob's approval and, in the attack, one that must not count; carol's in the control.
fn second(name: &str, reason: R, device: &'static str) -> Case {
    Case::grant(name, reason, move |a| a.grant(vec![a.yes("bob-phone"), a.yes(a.pick(device, "carol-phone"))]))
}

fn count() -> Vec<Case> {
    vec![
        Case::grant("no approvals at all", R::TooFewApprovals, |a| a.grant(a.pick(vec![], a.two()))),
        Case::says("\"approved\" is said twice, without evidence", &[R::TooFewApprovals], |a| {
            let mut said = a.opening();
            for (slot, name) in [(1, "bob"), (2, "carol")] {
                let person = a.phone(&format!("{name}-phone")).person.clone();
                said.push(Say::Event(ModuleEvent::Approved(Approved { slot, person })));
            }
            said.push(Say::Event(ModuleEvent::Granted(a.grant(a.pick(vec![], a.two())))));
            said
        }),
        Case::grant("one approval alone", R::TooFewApprovals, |a| a.grant(a.pick(vec![a.yes("bob-phone")], a.two()))),
        Case::grant("one approval twice", R::SamePerson, |a| {
            let one = a.yes("bob-phone");
            a.grant(vec![one.clone(), a.pick(one, a.yes("carol-phone"))])
        }),
        second("one person approves twice on one device", R::SamePerson, "bob-phone"),
        second("one person's two devices", R::SamePerson, "bob-tablet"),
        Case::grant("three approvals, where two are asked for", R::EvidenceMalformed, |a| {
            let mut three = a.two();
            three.extend(a.attacks().then(|| a.yes("dave-phone")));
            a.grant(three)
        }),
        Case::grant("two persons with one key: bob's passkey under carol's statement", R::AssertionSignature, |a| {
            let bytes = a.phone("carol-phone").statement(a.id, Decision::Approve).to_bytes();
            let carol = a.phone("carol-phone").sign(a.roster(), APPROVAL_DOMAINS, &bytes);
            let bob = a.phone("bob-phone").sign(a.roster(), APPROVAL_DOMAINS, &bytes);
            a.grant(vec![a.yes("bob-phone"), a.pick(bob, carol)])
        }),
        Case::grant("two persons with one device key: bob's under carol's statement", R::DeviceSignature, |a| {
            let bytes = a.phone("carol-phone").statement(a.id, Decision::Approve).to_bytes();
            let mut carol = a.phone("carol-phone").sign(a.roster(), APPROVAL_DOMAINS, &bytes);
            let bob = a.phone("bob-phone").sign(a.roster(), APPROVAL_DOMAINS, &bytes);
            carol.device_signature = a.pick(bob.device_signature, carol.device_signature);
            a.grant(vec![a.yes("bob-phone"), carol])
        }),
        Case::grant("bob's approval under carol's name", R::ApproverUnknown, |a| {
            let carol = a.phone("carol-phone").person.clone();
            let named = stated(a, "bob-tablet", |statement| statement.person = carol);
            a.grant(vec![a.yes("bob-phone"), a.pick(named, a.yes("carol-phone"))])
        }),
        Case::grant("bob's approval under carol's device", R::ApproverUnknown, |a| {
            let carol = a.phone("carol-phone").device.id.clone();
            let named = stated(a, "bob-tablet", |statement| statement.device_id = carol);
            a.grant(vec![a.yes("bob-phone"), a.pick(named, a.yes("carol-phone"))])
        }),
        Case::grant("two approvals from one kind of client, where two kinds are asked for", R::SameClientClass, |a| {
            a.grant(vec![a.yes("bob-phone"), a.yes(a.pick("carol-phone", "dave-phone"))])
        })
        .under(|roster| {
            roster.rules.distinct_client_class = true;
            let dave = roster.persons.iter_mut().find(|person| person.id.as_str() == "dave").expect("dave");
            dave.devices[0].client_class = ClientClass::Terminal;
        }),
    ]
}

fn requester() -> Vec<Case> {
    let asks = |user| Ask { user, ..Ask::default() };
    let own = |name: &str, device, ask| second(name, R::ApproverIsRequester, device).asked(ask);
    let owner = Case::grant("the owner of the service that asks", R::ApproverIsRequester, |a| {
        a.grant(vec![a.yes("dave-phone"), a.yes(a.pick("bob-phone", "carol-phone"))])
    });
    // The audit login uid says alice, the real uid says bob: neither may approve.
    let su = |name: &str, device: &'static str| {
        let case = Case::grant(name, R::ApproverIsRequester, move |a| {
            a.grant(vec![a.yes("carol-phone"), a.yes(a.pick(device, "dave-phone"))])
        });
        case.asked(Ask { user: "bob", login_uid: Some(1001), ..Ask::default() })
    };
    vec![
        own("the requester's own approval", "alice-phone", asks("alice")),
        own("the requester's own, asked under an alias", "alice-phone", asks("mallory")),
        own("the requester's own, asked from a twin account", "alice-phone", asks("twin")),
        su("the requester's own, after su to somebody else", "alice-phone"),
        su("the one whose account the requester went into by su", "bob-phone"),
        owner.asked(asks("robot")),
    ]
}

fn standing() -> Vec<Case> {
    vec![
        second("a suspended person's approval", R::ApproverNotEligible, "erin-phone"),
        second("an approval of somebody outside the gate", R::ApproverNotEligible, "frank-phone"),
        second("an approval below the assurance floor", R::AssuranceTooLow, "grace-phone"),
        Case::grant("an approval by a model that is not listed", R::ModelNotListed, |a| {
            a.grant(vec![a.yes("bob-phone"), a.yes(a.pick("carol-phone", "dave-phone"))])
        })
        .under(|roster| {
            let listed = twinlock_protocol::Fixed([7; 16]);
            roster.rules.aaguids = vec![listed];
            for person in roster.persons.iter_mut().filter(|person| ["bob", "dave"].contains(&person.id.as_str())) {
                person.devices[0].aaguid = listed;
            }
        }),
        Case::grant("an approval of somebody made up", R::ApproverUnknown, |a| {
            let nobody = Phone::new("nobody", "nobody-phone");
            let made_up = nobody.answer(a.roster(), a.id, Decision::Approve);
            a.grant(vec![a.yes("bob-phone"), a.pick(made_up, a.yes("carol-phone"))])
        }),
        Case::grant("carol's approval with a made-up phone", R::ApproverUnknown, |a| {
            let stolen_name = Phone::new("carol", "carol-phone");
            let made_up = stolen_name.answer(a.roster(), a.id, Decision::Approve);
            a.grant(vec![a.yes("bob-phone"), a.pick(made_up, a.yes("carol-phone"))])
        }),
        Case::grant("carol's credential with made-up keys", R::AssertionSignature, |a| {
            let mut copy = Phone::new("carol", "carol-phone");
            copy.device.credential_id = a.phone("carol-phone").device.credential_id.clone();
            let made_up = copy.answer(a.roster(), a.id, Decision::Approve);
            a.grant(vec![a.yes("bob-phone"), a.pick(made_up, a.yes("carol-phone"))])
        }),
    ]
}

fn denials() -> Vec<Case> {
    let flipped = |a: &Attempt<'_, '_>| {
        let no = a.no("carol-phone");
        let text = String::from_utf8(no.statement.0.clone()).expect("JSON");
        altered(no, text.replace("\"deny\"", "\"approve\"").into_bytes())
    };
    let seen = |a: &Attempt<'_, '_>| {
        let mut said = a.opening();
        said.extend(a.attacks().then(|| Say::Event(ModuleEvent::Denied(Denied { statement: a.no("dave-phone") }))));
        said.push(Say::Event(ModuleEvent::Granted(a.grant(a.two()))));
        said
    };
    vec![
        Case::grant("a denial in place of an approval", R::DenialPresent, |a| {
            a.grant(vec![a.yes("bob-phone"), a.pick(a.no("carol-phone"), a.yes("carol-phone"))])
        }),
        Case::grant("two denials in place of two approvals", R::DenialPresent, |a| {
            a.grant(a.pick(vec![a.no("bob-phone"), a.no("carol-phone")], a.two()))
        }),
        Case::grant("a denial among two approvals", R::DenialPresent, |a| {
            let mut all = a.two();
            all.extend(a.attacks().then(|| a.no("dave-phone")));
            a.grant(all)
        }),
        Case::grant("a denial that says \"approve\" after it was signed", R::AssertionChallenge, move |a| {
            a.grant(vec![a.yes("bob-phone"), a.pick(flipped(a), a.yes("carol-phone"))])
        }),
        Case::grant("the assertion of a denial under an approval", R::AssertionChallenge, |a| {
            let mut yes = a.yes("carol-phone");
            let no = a.no("carol-phone");
            yes.assertion = a.pick(no.assertion, yes.assertion);
            a.grant(vec![a.yes("bob-phone"), yes])
        }),
        Case::grant("the device signature of a denial under an approval", R::DeviceSignature, |a| {
            let mut yes = a.yes("carol-phone");
            let no = a.no("carol-phone");
            yes.device_signature = a.pick(no.device_signature, yes.device_signature);
            a.grant(vec![a.yes("bob-phone"), yes])
        }),
        Case::grant("a signature to a roster as an approval", R::EvidenceMalformed, |a| {
            let roster = a.phone("carol-phone").sign_roster(a.roster());
            a.grant(vec![a.yes("bob-phone"), a.pick(roster, a.yes("carol-phone"))])
        }),
        Case::grant("an approval signed as if it were a roster", R::AssertionChallenge, |a| {
            let carol = a.phone("carol-phone");
            let bytes = carol.statement(a.id, Decision::Approve).to_bytes();
            let domains = a.pick(ROSTER_DOMAINS, APPROVAL_DOMAINS);
            a.grant(vec![a.yes("bob-phone"), carol.sign(a.roster(), domains, &bytes)])
        }),
        Case::says("a denial that the host has seen, then two approvals", &[R::Denied], seen),
        Case::says("a denial that the module has seen, then two approvals at once", &[R::Denied], seen).at_the_module(),
        Case::says("a denial that does not verify, then two approvals", &[R::AssertionChallenge], |a| {
            let mut said = a.opening();
            let mut no = a.no("dave-phone");
            no.assertion = a.no("dave-phone").assertion;
            said.extend(a.attacks().then_some(Say::Event(ModuleEvent::Denied(Denied { statement: no }))));
            said.push(Say::Event(ModuleEvent::Granted(a.grant(a.two()))));
            said
        })
        .at_the_module(),
        Case::says("an approval sent as a denial, then two approvals", &[R::EvidenceMalformed], |a| {
            let mut said = a.opening();
            let statement = a.yes("dave-phone");
            said.extend(a.attacks().then_some(Say::Event(ModuleEvent::Denied(Denied { statement }))));
            said.push(Say::Event(ModuleEvent::Granted(a.grant(a.two()))));
            said
        })
        .at_the_module(),
    ]
}
