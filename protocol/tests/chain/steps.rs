//! Roster chains against whoever would change them alone. Every refused step stands beside a lawful
//! one that differs in one thing. Pure: time is a number.

use crate::support::{NOW, Scene, approver, ca, device_id, group, id, mirrored, person_mut};
use twinlock_protocol::refusal::DenyReason;
use twinlock_protocol::roster::{
    Assurance, BreakGlassKey, Ca, ClientClass, Device, Roster, RosterEnvelope, RosterError, Standing, Step, Suspension,
    VerifiedRoster,
};
use twinlock_protocol::softphone::{Fixture, Phone};
use twinlock_protocol::statement::{POSSESSION_DOMAINS, ROSTER_DOMAINS, RosterStatement, SignedStatement};
use twinlock_protocol::{Bytes, Digest, Fixed, UnixTime};

fn shorter(roster: &mut Roster) {
    roster.rules.max_ttl_s = 600;
}

fn too_few(signed: usize) -> RosterError {
    RosterError::TooFewSigners { signed, needed: 2 }
}

#[test]
fn two_persons_seal_the_next_version() {
    let scene = Scene::new();
    for signers in [&["bob", "carol"][..], &["dave", "bob"], &["bob", "carol", "dave", "erin"]] {
        let next = scene.judge(signers, shorter).unwrap();
        assert_eq!((next.version, next.rules.max_ttl_s), (2, 600));
        assert!(next.descends_from(&scene.head.reference()) && !scene.head.descends_from(&next.reference()));
    }
}

/// Catalogue: I1 (control: two_persons_seal_the_next_version)
#[test]
fn one_signer_one_signer_twice_or_two_devices_of_one_person_seal_nothing() {
    let mut scene = Scene::new();
    assert_eq!(scene.judge(&[], shorter), Err(too_few(0)));
    assert_eq!(scene.judge(&["bob"], shorter), Err(too_few(1)));
    assert_eq!(scene.judge(&["bob", "bob"], shorter), Err(too_few(1)));
    let next = Fixture::next(&scene.head, shorter);
    let signed = scene.fixture.phone("bob").sign_roster(&next);
    let copied = RosterEnvelope::new(&next, vec![signed.clone(), signed]);
    assert_eq!(scene.head.successor(&copied), Err(too_few(1)), "one signature, copied");
    let second = Phone::new("bob", "bob-tablet");
    let device = second.device.clone();
    scene.fixture.phones.push(second);
    scene.step(&["bob", "carol"], |roster| person_mut(roster, "bob").devices.push(device));
    let next = Fixture::next(&scene.head, shorter);
    let of_bob = scene.fixture.phones.iter().filter(|phone| phone.person.as_str() == "bob");
    let two_devices = RosterEnvelope::new(&next, of_bob.map(|phone| phone.sign_roster(&next)).collect());
    assert_eq!(two_devices.signatures.len(), 2);
    assert_eq!(scene.head.successor(&two_devices), Err(too_few(1)));
}

/// Catalogue: I1 (control: two_persons_seal_the_next_version)
#[test]
fn only_active_approvers_of_the_older_version_sign_and_with_devices_at_its_floor() {
    let mut scene = Scene::new();
    let refused = |scene: &Scene, signers: &[&str]| match scene.judge(signers, shorter) {
        Err(RosterError::Signature(reason)) => reason,
        other => panic!("{other:?}"),
    };
    // Somebody whom only the next version makes an approver.
    let mallory = Phone::new("mallory", "mallory-phone");
    let device = mallory.device.clone();
    scene.fixture.phones.push(mallory);
    let joined = scene.judge(&["bob", "mallory"], |roster| roster.persons.push(approver("mallory", device.clone())));
    assert_eq!(joined, Err(RosterError::Signature(DenyReason::ApproverUnknown)));
    // A person with a device but without a deciding group.
    scene.step(&["bob", "carol"], |roster| {
        roster.persons.push(approver("mallory", device));
        person_mut(roster, "mallory").groups.clear();
    });
    assert_eq!(refused(&scene, &["bob", "mallory"]), DenyReason::ApproverNotEligible);
    scene.step(&["bob", "carol"], |roster| {
        person_mut(roster, "dave").standing = Standing::Suspended(Suspension { by: None });
    });
    assert_eq!(refused(&scene, &["bob", "dave"]), DenyReason::ApproverNotEligible);
    // Not even to lift the own suspension, and not by a version that already lifts it.
    let lifts_himself = scene.judge(&["dave", "bob"], |roster| person_mut(roster, "dave").standing = Standing::Active);
    assert_eq!(lifts_himself, Err(RosterError::Signature(DenyReason::ApproverNotEligible)));
    // A floor that the next version would lower does not count yet.
    let mut scene = Scene::new();
    let erin = scene.fixture.phones.iter_mut().find(|phone| phone.person.as_str() == "erin").unwrap();
    erin.device.device_key = None;
    let device = erin.device.clone();
    scene.step(&["bob", "carol"], |roster| person_mut(roster, "erin").devices = vec![device]);
    assert_eq!(
        scene.head.device_by_credential(&scene.fixture.phone("erin").device.credential_id).unwrap().1.assurance(),
        Assurance::D
    );
    let lowered = scene.judge(&["bob", "erin"], |roster| roster.rules.floor = Assurance::D);
    assert_eq!(lowered, Err(RosterError::Signature(DenyReason::AssuranceTooLow)));
    scene.step(&["bob", "dave"], |roster| roster.rules.floor = Assurance::D);
    scene.judge(&["bob", "erin"], shorter).unwrap();
}

/// Catalogue: I2 (control: two_persons_seal_the_next_version)
#[test]
fn rolled_back_skipped_forked_and_absurd_versions_are_refused() {
    let mut scene = Scene::new();
    let first = scene.head.clone();
    let (two, _) = scene.step(&["bob", "carol"], shorter);
    let second = scene.head.clone();
    let (three, third) = scene.step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 300);
    let version = |expected, found| Err(RosterError::Version { expected, found });
    assert_eq!(first.successor(&three), version(2, 3), "skipped");
    assert_eq!(third.successor(&two), version(4, 2), "rolled back");
    assert_eq!(third.successor(&three), version(4, 3), "the same again");
    assert_eq!(second.successor(&three).as_ref(), Ok(&third), "control");
    // The same version with another content, lawfully signed, does not follow from the first one.
    let mut fork = Scene { fixture: scene.fixture, head: first.clone() };
    let (other_two, other_second) = fork.step(&["bob", "dave"], |roster| roster.rules.max_ttl_s = 700);
    assert_eq!(first.successor(&other_two).as_ref(), Ok(&other_second), "control");
    assert_eq!(other_second.successor(&three), Err(RosterError::Forked));
    // Envelope and content must say the same.
    for (claimed, real) in [(2, 3), (3, 2), (2, 1 << 63), (2, u64::MAX)] {
        let next = Fixture::next(&first, |roster| roster.version = real);
        let envelope = RosterEnvelope { version: claimed, ..fork.fixture.envelope(&first, &next, &["bob", "carol"]) };
        assert!(first.successor(&envelope).is_err(), "{claimed} over {real}");
    }
    // A digest that is not the bytes', and bytes that nobody signed.
    let relabelled = RosterEnvelope { digest: other_two.digest, ..two.clone() };
    assert_eq!(first.successor(&relabelled), Err(RosterError::Digest));
    let swapped = RosterEnvelope { bytes: other_two.bytes.clone(), digest: other_two.digest, ..two };
    assert_eq!(first.successor(&swapped), Err(RosterError::Signature(DenyReason::EvidenceOtherRequest)));
}

/// Catalogue: I2 (control: inline)
#[test]
fn a_walk_takes_every_step_or_none_and_at_most_sixty_four() {
    let mut scene = Scene::new();
    let genesis = scene.head.clone();
    let envelopes: Vec<RosterEnvelope> =
        (0..65).map(|n| scene.step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 100 + n).0).collect();
    assert_eq!(genesis.clone().follow(&[]).as_ref(), Ok(&genesis));
    let followed = genesis.clone().follow(&envelopes[..64]).unwrap();
    assert_eq!(followed.version, 65);
    assert_eq!(followed.follow(&envelopes[64..]).unwrap(), scene.head, "from there it goes on");
    let error = genesis.clone().follow(&envelopes).unwrap_err();
    assert_eq!((error.at_version, &error.error), (66, &RosterError::Unsound("a chain has at most 64 steps")));
    let gap = [&envelopes[..2], &envelopes[3..5]].concat();
    let error = genesis.follow(&gap).unwrap_err();
    assert_eq!((error.at_version, error.error), (5, RosterError::Version { expected: 4, found: 5 }));
}

/// Catalogue: I4 (control: inline)
#[test]
fn an_expired_roster_grants_nothing_and_verifies_its_renewal() {
    let mut scene = Scene::new();
    let end = scene.head.expires_at;
    assert_eq!(scene.head.check_time(UnixTime(end.0 - 1)), Ok(()));
    assert_eq!(scene.head.check_time(end), Err(DenyReason::RosterExpired));
    // Dated ahead it would live for longer than any roster may: nothing is granted until then.
    let ahead = |by: u64| {
        let dated = move |roster: &mut Roster| {
            roster.issued_at = NOW.plus(by);
            roster.expires_at = NOW.plus(by + 366 * 24 * 3600);
        };
        scene.judge(&["bob", "carol"], dated).unwrap().check_time(NOW)
    };
    assert_eq!(ahead(120), Ok(()), "control: clocks differ by so much");
    assert_eq!(ahead(121), Err(DenyReason::ClockSkew));
    assert_eq!(ahead(100 * 366 * 24 * 3600), Err(DenyReason::ClockSkew));
    // A date alone, which whoever restores or suspends alone could set, stops nothing.
    let dated = scene.judge(&["bob", "carol"], |roster| roster.issued_at = UnixTime(end.0 - 1)).unwrap();
    assert_eq!(dated.check_time(NOW), Ok(()));
    // Long after: the renewal is dated then, and people of the expired version sign it.
    let (_, renewed) = scene.step(&["bob", "carol"], |roster| {
        roster.issued_at = end.plus(1_000_000);
        roster.expires_at = end.plus(2_000_000);
    });
    assert_eq!(renewed.check_time(end.plus(1_500_000)), Ok(()));
    let older = scene.judge(&["bob", "carol"], |roster| roster.issued_at = NOW);
    assert_eq!(older, Err(RosterError::Step("issued_at is not earlier than that of the version before")));
}

/// Catalogue: I5 (control: inline)
#[test]
fn nobody_shrinks_the_roster_below_its_quorum() {
    let scene = Scene::new();
    let judge = |edit: fn(&mut Roster)| scene.judge(&["bob", "carol"], edit).map(|_| ());
    let keep = |names: &'static [&'static str]| {
        move |roster: &mut Roster| roster.persons.retain(|person| names.contains(&person.id.as_str()))
    };
    assert!(scene.judge(&["bob", "carol"], keep(&["alice", "bob", "carol"])).is_ok(), "control: two are left");
    let short = Err(RosterError::Unsound("fewer people can approve than the quorum asks for"));
    assert_eq!(scene.judge(&["bob", "carol"], keep(&["alice", "bob"])).map(|_| ()), short);
    let suspend = |roster: &mut Roster| {
        for name in ["carol", "dave", "erin"] {
            person_mut(roster, name).standing = Standing::Suspended(Suspension { by: None });
        }
    };
    assert_eq!(judge(suspend), short);
    assert_eq!(judge(|roster| roster.rules.gates[0].approvers.clear()), short);
    assert_eq!(judge(|roster| roster.rules.floor = Assurance::A), short);
    assert_eq!(judge(|roster| roster.rules.aaguids = vec![Fixed([7; 16])]), short);
    assert_eq!(judge(|roster| roster.rules.quorum = 1), Err(RosterError::Unsound("the quorum is 2")));
    assert_eq!(judge(|roster| roster.rp_id = "example.org".into()), Err(RosterError::Step("rp_id is permanent")));
}

fn suspended_by(by: &str) -> Standing {
    Standing::Suspended(Suspension { by: Some(id(by)) })
}

/// Catalogue: I5 (control: inline)
#[test]
fn one_person_suspends_one_other_and_only_two_lift_it() {
    let mut scene = Scene::new();
    let dave_out = |roster: &mut Roster| person_mut(roster, "dave").standing = suspended_by("bob");
    let next = Fixture::next(&scene.head, dave_out);
    assert!(matches!(scene.head.step(&next), Ok(Step::Suspension { .. })));
    assert_eq!(scene.judge(&[], dave_out), Err(RosterError::TooFewSigners { signed: 0, needed: 1 }));
    let by_another = scene.judge(&["carol"], dave_out);
    assert_eq!(by_another, Err(RosterError::Signature(DenyReason::ApproverNotEligible)), "whom it names must sign");
    let himself = scene.judge(&["dave"], |roster| person_mut(roster, "dave").standing = suspended_by("dave"));
    assert!(matches!(himself, Err(RosterError::Unsound(_))));
    let unnamed = scene.judge(&["bob"], |roster| {
        person_mut(roster, "dave").standing = Standing::Suspended(Suspension { by: None });
    });
    assert_eq!(unnamed, Err(too_few(1)), "without a name it takes two");
    // Nothing rides along.
    let with_more = scene.judge(&["bob"], |roster| {
        dave_out(roster);
        shorter(roster);
    });
    assert_eq!(with_more, Err(RosterError::Step("a suspension by one person stands alone in its version")));
    let longer = scene.judge(&["bob"], |roster| {
        dave_out(roster);
        roster.expires_at = roster.expires_at.plus(1);
    });
    assert_eq!(longer, Err(RosterError::Step("a suspension by one person stands alone in its version")));
    // But its own date.
    scene.step(&["bob"], |roster| {
        dave_out(roster);
        roster.issued_at = roster.issued_at.plus(1);
    });
    // Three can approve now: one more than the quorum. Nobody goes below that alone.
    let another = scene.judge(&["carol"], |roster| person_mut(roster, "erin").standing = suspended_by("carol"));
    let left = "a suspension by one person leaves one more who can approve than the quorum";
    assert_eq!(another, Err(RosterError::Step(left)));
    let lift = |roster: &mut Roster| person_mut(roster, "dave").standing = Standing::Active;
    assert_eq!(scene.judge(&["bob"], lift), Err(too_few(1)), "not even who suspended lifts it alone");
    scene.judge(&["carol", "erin"], lift).unwrap();
    // Two may suspend further, and two bring everybody back.
    scene.step(&["bob", "carol"], |roster| {
        person_mut(roster, "erin").standing = Standing::Suspended(Suspension { by: None });
    });
    scene.step(&["bob", "carol"], |roster| {
        for name in ["dave", "erin"] {
            person_mut(roster, name).standing = Standing::Active;
        }
    });
}

/// Catalogue: I5 (control: one_person_suspends_one_other_and_only_two_lift_it)
#[test]
fn one_person_suspends_nobody_twice_no_gate_dry_and_not_on_behalf_of_others() {
    let mut scene = Scene::with(&["erin", "frank"]);
    scene.step(&["bob"], |roster| person_mut(roster, "dave").standing = suspended_by("bob"));
    let second = scene.judge(&["bob"], |roster| person_mut(roster, "erin").standing = suspended_by("bob"));
    assert_eq!(second, Err(RosterError::Step("one person suspends one other at a time")));
    let moved = scene.judge(&["carol"], |roster| person_mut(roster, "dave").standing = suspended_by("carol"));
    assert!(matches!(moved, Err(RosterError::Step(_))), "a suspension has one author: {moved:?}");
    // Another one may, while there are enough; and two take a lone suspension as their own.
    let by_carol = |roster: &mut Roster| person_mut(roster, "erin").standing = suspended_by("carol");
    scene.judge(&["carol"], by_carol).unwrap();
    scene.step(&["carol", "erin"], |roster| {
        person_mut(roster, "dave").standing = Standing::Suspended(Suspension { by: None });
    });
    scene.judge(&["bob"], |roster| person_mut(roster, "erin").standing = suspended_by("bob")).unwrap();
    // A gate of two must keep both.
    let mut scene = Scene::with(&["erin", "frank"]);
    scene.step(&["bob", "carol"], |roster| {
        let mut gate = roster.rules.gates[0].clone();
        gate.approvers = vec![group("database")];
        roster.rules.gates.insert(0, gate);
        for name in ["dave", "erin"] {
            person_mut(roster, name).groups.push(group("database"));
        }
    });
    let dry = scene.judge(&["bob"], |roster| person_mut(roster, "dave").standing = suspended_by("bob"));
    assert_eq!(dry, Err(RosterError::Step("a suspension by one person leaves every gate its quorum")));
    scene.judge(&["bob"], |roster| person_mut(roster, "frank").standing = suspended_by("bob")).unwrap();
    // Nobody is remembered as the author who is not there, or in a ceremony.
    let gone = scene.judge(&["bob", "carol"], |roster| {
        person_mut(roster, "dave").standing = suspended_by("nobody");
    });
    assert!(matches!(gone, Err(RosterError::Unsound(_))));
}

/// A phone that replaces dave's.
fn new_phone(scene: &mut Scene) -> twinlock_protocol::roster::Device {
    scene.fixture.phones.retain(|phone| phone.person.as_str() != "dave");
    let phone = Phone::new("dave", "dave-second");
    let device = phone.device.clone();
    scene.fixture.phones.push(phone);
    device
}

/// Catalogue: E6 (control: inline)
#[test]
fn a_lost_phone_takes_two_others_and_the_new_phones_own_word() {
    let mut scene = Scene::new();
    let device = new_phone(&mut scene);
    let replace = |roster: &mut Roster| person_mut(roster, "dave").devices = vec![device.clone()];
    assert_eq!(scene.judge(&["bob"], replace), Err(too_few(1)), "one helper is not enough");
    // The new phone counts in the next version at the earliest.
    assert_eq!(scene.judge(&["bob", "dave"], replace), Err(RosterError::Signature(DenyReason::ApproverUnknown)));
    let next = Fixture::next(&scene.head, replace);
    let honest = scene.fixture.envelope(&scene.head, &next, &["bob", "carol"]);
    let silent = RosterEnvelope { possessions: Vec::new(), ..honest.clone() };
    let missing = Err(RosterError::PossessionMissing(device.id.clone()));
    assert_eq!(scene.head.successor(&silent), missing, "nobody proved that the phone holds these keys");
    assert!(scene.head.successor(&honest).is_ok(), "control");
    // The old phone signs nothing any more once this is sealed, and returns only like a new one.
    let old = scene.head.device_by_credential(&Scene::new().fixture.phone("dave").device.credential_id).is_none();
    assert!(old);
}

/// Catalogue: E6 (control: inline)
#[test]
fn possession_is_proved_by_the_new_records_own_keys_and_for_nothing_else() {
    let mut scene = Scene::new();
    let device = new_phone(&mut scene);
    let next = Fixture::next(&scene.head, |roster| person_mut(roster, "dave").devices = vec![device.clone()]);
    let honest = scene.fixture.envelope(&scene.head, &next, &["bob", "carol"]);
    let judge = |possessions: Vec<SignedStatement>| {
        scene.head.successor(&RosterEnvelope { possessions, ..honest.clone() }).map(|_| ())
    };
    assert_eq!(judge(honest.possessions.clone()), Ok(()), "control");
    let phone = scene.fixture.phone("dave");
    let (bob, other) = (scene.fixture.phone("bob"), |reason| Err(RosterError::Possession(reason)));
    // Signed by other keys than the record's.
    let mut foreign = phone.possession(&scene.head);
    let by_bob = bob.sign(&next, POSSESSION_DOMAINS, &foreign.to_bytes());
    assert_eq!(judge(vec![by_bob]), other(DenyReason::AssertionSignature));
    // For another record, person, credential or device.
    foreign.device = bob.device.record_digest();
    assert_eq!(
        judge(vec![phone.sign(&next, POSSESSION_DOMAINS, &foreign.to_bytes())]),
        other(DenyReason::EvidenceOtherRequest)
    );
    let mut foreign = phone.possession(&scene.head);
    foreign.person = bob.person.clone();
    assert_eq!(
        judge(vec![phone.sign(&next, POSSESSION_DOMAINS, &foreign.to_bytes())]),
        other(DenyReason::EvidenceOtherRequest)
    );
    // Signed for another purpose.
    let as_approval = phone.sign(&next, ROSTER_DOMAINS, &phone.possession(&scene.head).to_bytes());
    assert_eq!(judge(vec![as_approval]), other(DenyReason::AssertionChallenge));
    // Without the device key's word, or with one too many.
    let mut half = phone.sign_possession(&scene.head);
    half.device_signature = None;
    assert_eq!(judge(vec![half]), other(DenyReason::DeviceSignature));
    let superfluous = vec![phone.sign_possession(&scene.head), bob.sign_possession(&scene.head)];
    assert_eq!(judge(superfluous), Err(RosterError::Unsound("a possession statement is for no new device")));
    // At an origin that only the next version would have.
    let mut elsewhere = next.clone();
    elsewhere.origins.push("https://new.tl.example.org".into());
    let mut moved = scene.fixture.envelope(&scene.head, &elsewhere, &["bob", "carol"]);
    assert!(scene.head.successor(&moved).is_ok(), "control");
    elsewhere.origins.reverse();
    moved.possessions = vec![phone.sign(&elsewhere, POSSESSION_DOMAINS, &phone.possession(&scene.head).to_bytes())];
    assert_eq!(scene.head.successor(&moved).map(|_| ()), Err(RosterError::Possession(DenyReason::AssertionOrigin)));
}

#[test]
fn a_device_stays_with_its_person_and_changes_only_with_its_own_word() {
    let mut scene = Scene::new();
    let moved = |edit: fn(&mut Roster)| scene.judge(&["bob", "carol"], edit).map(|_| ());
    let stays = Err(RosterError::Step("a device stays with its person"));
    assert_eq!(
        moved(|roster| {
            let device = person_mut(roster, "dave").devices.remove(0);
            person_mut(roster, "alice").devices.push(device);
        }),
        stays
    );
    assert_eq!(
        moved(|roster| {
            // Only the key, in a record that is new in everything else.
            let key = person_mut(roster, "dave").devices.remove(0).device_key;
            person_mut(roster, "erin").devices[0].device_key = key;
        }),
        stays
    );
    for (what, edit) in [
        (
            "client class",
            (|roster| person_mut(roster, "dave").devices[0].client_class = ClientClass::Terminal) as fn(&mut Roster),
        ),
        ("attested", |roster| person_mut(roster, "dave").devices[0].attested = true),
        ("model", |roster| person_mut(roster, "dave").devices[0].aaguid = Fixed([9; 16])),
        ("id", |roster| person_mut(roster, "dave").devices[0].id = device_id("renamed")),
    ] {
        assert!(matches!(moved(edit), Err(RosterError::PossessionMissing(_))), "{what}");
    }
    assert_eq!(moved(|roster| person_mut(roster, "dave").devices[0].label = "old phone".into()), Ok(()));
    // Nor under the key's other spelling.
    let spelled_otherwise = |roster: &mut Roster| {
        let key = person_mut(roster, "dave").devices.remove(0).device_key.unwrap();
        person_mut(roster, "erin").devices[0].device_key = Some(mirrored(&key));
    };
    assert_eq!(moved(spelled_otherwise), stays);
    // A credential that was removed comes back as a new one does.
    let device = scene.fixture.phone("dave").device.clone();
    scene.step(&["bob", "carol"], |roster| person_mut(roster, "dave").devices.clear());
    let back = |roster: &mut Roster| person_mut(roster, "dave").devices.push(device.clone());
    assert_eq!(scene.judge(&["bob"], back), Err(too_few(1)));
    let next = Fixture::next(&scene.head, back);
    let envelope = scene.fixture.envelope(&scene.head, &next, &["bob", "carol"]);
    let silent = RosterEnvelope { possessions: Vec::new(), ..envelope.clone() };
    assert!(matches!(scene.head.successor(&silent), Err(RosterError::PossessionMissing(_))));
    scene.head.successor(&envelope).unwrap();
}

/// Catalogue: E6 (control: inline)
#[test]
fn a_dropped_device_key_is_restored_by_its_passkey_and_one_other() {
    let mut scene = Scene::new();
    let dave = scene.fixture.phones.iter_mut().find(|phone| phone.person.as_str() == "dave").unwrap();
    dave.renew_device_key();
    let key = dave.device.device_key;
    let restore = |roster: &mut Roster| person_mut(roster, "dave").devices[0].device_key = key;
    let next = Fixture::next(&scene.head, restore);
    assert!(matches!(scene.head.step(&next), Ok(Step::Restoration { .. })));
    scene.judge(&["bob"], restore).unwrap();
    assert_eq!(scene.judge(&[], restore), Err(RosterError::TooFewSigners { signed: 0, needed: 1 }));
    // With the old record's key gone, dave can't sign at all; with it, it would not be another's word.
    let next = Fixture::next(&scene.head, restore);
    let honest = scene.fixture.envelope(&scene.head, &next, &["bob"]);
    let silent = RosterEnvelope { possessions: Vec::new(), ..honest };
    assert!(matches!(scene.head.successor(&silent), Err(RosterError::PossessionMissing(_))));
    // Anything beside it makes it an ordinary change.
    let with_more = scene.judge(&["bob"], |roster| {
        restore(roster);
        shorter(roster);
    });
    assert_eq!(with_more, Err(too_few(1)));
    // Another credential is another phone.
    let device = new_phone(&mut scene);
    let replaced = scene.judge(&["bob"], |roster| person_mut(roster, "dave").devices = vec![device.clone()]);
    assert_eq!(replaced, Err(too_few(1)));
}

/// Catalogue: E6 (control: inline)
#[test]
fn an_earlier_device_key_does_not_come_back_by_the_word_that_once_brought_it() {
    let mut scene = Scene::new();
    let key_of_dave = |roster: &Roster| roster.person(&id("dave")).unwrap().devices[0].device_key;
    // dave's phone restores its key twice; the gateway keeps every word that was said.
    let mut restored = Vec::new();
    for _ in 0..2 {
        let dave = scene.fixture.phones.iter_mut().find(|phone| phone.person.as_str() == "dave").unwrap();
        dave.renew_device_key();
        let key = dave.device.device_key;
        let (envelope, _) = scene.step(&["bob"], |roster| person_mut(roster, "dave").devices[0].device_key = key);
        restored.push((key, envelope.possessions[0].clone()));
    }
    let (first, word_of_first) = restored[0].clone();
    let bring_back = |head: &VerifiedRoster, signers: &[&str], key, word: SignedStatement| {
        let next = Fixture::next(head, |roster| person_mut(roster, "dave").devices[0].device_key = key);
        let signatures = signers.iter().map(|name| scene.fixture.phone(name).sign_roster(&next)).collect();
        head.successor(&RosterEnvelope::with_possessions(&next, signatures, vec![word]))
    };
    let refused = Err(RosterError::Possession(DenyReason::EvidenceOtherRequest));
    for signers in [&["bob"][..], &["bob", "carol"]] {
        assert_eq!(bring_back(&scene.head, signers, first, word_of_first.clone()), refused, "{signers:?}");
    }
    // The very first key's word, given before the roster had the passkey at all, neither.
    let grace = Phone::new("grace", "grace-phone");
    let device = grace.device.clone();
    scene.fixture.phones.push(grace);
    let (joined, _) = scene.step(&["bob", "carol"], |roster| roster.persons.push(approver("grace", device.clone())));
    let grace = scene.fixture.phones.last_mut().unwrap();
    grace.renew_device_key();
    let second = grace.device.device_key;
    scene.step(&["bob"], |roster| person_mut(roster, "grace").devices[0].device_key = second);
    let next = Fixture::next(&scene.head, |roster| person_mut(roster, "grace").devices = vec![device]);
    assert!(matches!(scene.head.step(&next), Ok(Step::Restoration { .. })), "in form it is a lawful step");
    let signatures = vec![scene.fixture.phone("bob").sign_roster(&next)];
    let replay = RosterEnvelope::with_possessions(&next, signatures, joined.possessions);
    assert_eq!(scene.head.successor(&replay), refused);
    // Control: the same step with a word that was given for it.
    let dave = scene.fixture.phone("dave").with_new_device_key();
    let word = dave.sign_possession(&scene.head);
    let fresh = {
        let next = Fixture::next(&scene.head, |roster| {
            person_mut(roster, "dave").devices[0].device_key = dave.device.device_key;
        });
        let signatures = vec![scene.fixture.phone("bob").sign_roster(&next)];
        scene.head.successor(&RosterEnvelope::with_possessions(&next, signatures, vec![word])).unwrap()
    };
    assert_eq!(key_of_dave(&fresh), dave.device.device_key);
}

#[test]
fn nobody_restores_alone_for_the_suspended_or_to_a_stronger_level() {
    let mut scene = Scene::new();
    let renew = |scene: &mut Scene, name: &str| {
        let phone = scene.fixture.phones.iter_mut().find(|phone| phone.person.as_str() == name).unwrap();
        phone.renew_device_key();
        phone.device.device_key
    };
    // bob signs with a second device that is still whole: it is bob's word again, not another's.
    let second = Phone::new("bob", "bob-tablet");
    let device = second.device.clone();
    scene.fixture.phones.insert(0, second);
    scene.step(&["carol", "dave"], |roster| person_mut(roster, "bob").devices.push(device));
    let tablet = scene.fixture.phones.remove(0);
    let key = renew(&mut scene, "bob");
    let restore = |roster: &mut Roster| person_mut(roster, "bob").devices[0].device_key = key;
    let next = Fixture::next(&scene.head, restore);
    let mut envelope = scene.fixture.envelope(&scene.head, &next, &[]);
    envelope.signatures = vec![tablet.sign_roster(&next)];
    assert_eq!(scene.head.successor(&envelope), Err(RosterError::Signature(DenyReason::SamePerson)));
    scene.judge(&["carol"], restore).unwrap();
    // A suspended person's key waits for two.
    scene.step(&["carol", "dave"], |roster| {
        person_mut(roster, "erin").standing = Standing::Suspended(Suspension { by: None });
    });
    let key = renew(&mut scene, "erin");
    let restore = |roster: &mut Roster| person_mut(roster, "erin").devices[0].device_key = key;
    assert_eq!(scene.judge(&["carol"], restore), Err(too_few(1)));
    scene.judge(&["carol", "dave"], restore).unwrap();
    // A first device key lifts a device from D to C.
    let mut scene = Scene::new();
    let phone = scene.fixture.phones.iter_mut().find(|phone| phone.person.as_str() == "erin").unwrap();
    let key = phone.device.device_key.take();
    let device = phone.device.clone();
    scene.step(&["bob", "carol"], |roster| person_mut(roster, "erin").devices = vec![device]);
    let phone = scene.fixture.phones.iter_mut().find(|phone| phone.person.as_str() == "erin").unwrap();
    phone.device.device_key = key;
    let stronger = |roster: &mut Roster| person_mut(roster, "erin").devices[0].device_key = key;
    assert_eq!(scene.judge(&["bob"], stronger), Err(too_few(1)));
    scene.judge(&["bob", "dave"], stronger).unwrap();
}

/// This person's device, as a terminal instead of a phone; the next step is to list it.
fn terminal_of(scene: &mut Scene, name: &str) -> Device {
    let phone = scene.fixture.phones.iter_mut().find(|phone| phone.person.as_str() == name).unwrap();
    phone.device.client_class = ClientClass::Terminal;
    phone.device.clone()
}

/// Catalogue: I5 (control: inline)
#[test]
fn two_client_classes_are_not_asked_for_where_nobody_has_the_second() {
    let mut scene = Scene::new();
    let two_classes = |roster: &mut Roster| roster.rules.distinct_client_class = true;
    let nobody = Err(RosterError::Unsound("no two people can approve from two client classes"));
    assert_eq!(scene.judge(&["bob", "carol"], two_classes), nobody);
    // One person with both is still no two.
    let mut alone = Scene::new().fixture.roster;
    two_classes(&mut alone);
    alone.persons.retain(|person| ["alice", "bob"].contains(&person.id.as_str()));
    let mut both = alone.persons[1].devices[0].clone();
    (both.id, both.client_class) = (device_id("bob-terminal"), ClientClass::Terminal);
    alone.persons[1].devices.push(both);
    let people: Vec<&_> = alone.persons.iter().collect();
    assert!(!alone.rules.holds_two_for_a_yes(&people));
    let device = terminal_of(&mut scene, "erin");
    let with_terminal = |roster: &mut Roster| {
        person_mut(roster, "erin").devices = vec![device.clone()];
        two_classes(roster);
    };
    scene.judge(&["bob", "carol"], with_terminal).unwrap();
    // A gate of page people alone would grant nothing any more.
    let with_gate = |members: &'static [&'static str]| {
        let device = device.clone();
        move |roster: &mut Roster| {
            person_mut(roster, "erin").devices = vec![device];
            two_classes(roster);
            let mut gate = roster.rules.gates[0].clone();
            gate.approvers = vec![group("database")];
            roster.rules.gates.insert(0, gate);
            members.iter().for_each(|name| person_mut(roster, name).groups.push(group("database")));
        }
    };
    let every = Err(RosterError::Step("where two client classes are asked for, every gate has people of both"));
    assert_eq!(scene.judge(&["bob", "carol"], with_gate(&["bob", "carol"])), every);
    scene.judge(&["bob", "carol"], with_gate(&["bob", "erin"])).unwrap();
    scene.step(&["bob", "carol"], with_terminal);
    // Nor does whoever has it leave, by however many signatures, while it is asked for.
    assert_eq!(
        scene.judge(&["bob", "erin"], |roster| roster.persons.retain(|person| person.id.as_str() != "erin")),
        nobody
    );
    let two_suspend = |roster: &mut Roster| {
        person_mut(roster, "erin").standing = Standing::Suspended(Suspension { by: None });
    };
    assert_eq!(scene.judge(&["bob", "erin"], two_suspend), nobody);
    scene
        .judge(&["bob", "erin"], |roster| {
            two_suspend(roster);
            roster.rules.distinct_client_class = false;
        })
        .unwrap();
}

/// Catalogue: I5 (control: inline)
#[test]
fn nobody_suspends_alone_whoever_the_others_need_to_lift_it() {
    let mut scene = Scene::with(&["erin", "frank"]);
    let (erin, frank) = (terminal_of(&mut scene, "erin"), terminal_of(&mut scene, "frank"));
    scene.step(&["bob", "carol"], |roster| {
        person_mut(roster, "erin").devices = vec![erin];
        person_mut(roster, "frank").devices = vec![frank];
        roster.rules.distinct_client_class = true;
    });
    let suspends = |by: &'static str, whom: &'static str| {
        move |roster: &mut Roster| person_mut(roster, whom).standing = suspended_by(by)
    };
    // Control: frank is left, with bob or carol.
    scene.judge(&["bob"], suspends("bob", "erin")).unwrap();
    scene.judge(&["erin"], suspends("erin", "bob")).unwrap();
    // erin would be the only terminal but for frank, and so every next version's.
    let kept = Err(RosterError::Step("a suspension by one person leaves two others who can lift it"));
    assert_eq!(scene.judge(&["erin"], suspends("erin", "frank")), kept);
    scene.step(&["bob"], suspends("bob", "erin"));
    let last = scene.judge(&["carol"], suspends("carol", "frank"));
    assert!(matches!(last, Err(RosterError::Unsound(_))), "{last:?}");
}

/// Catalogue: I1 (control: inline)
#[test]
fn where_two_client_classes_are_asked_for_roster_changes_need_them_too() {
    let mut scene = Scene::new();
    let device = terminal_of(&mut scene, "erin");
    scene.step(&["bob", "carol"], |roster| {
        person_mut(roster, "erin").devices = vec![device];
        roster.rules.distinct_client_class = true;
    });
    assert_eq!(scene.judge(&["bob", "carol"], shorter), Err(RosterError::Signature(DenyReason::SameClientClass)));
    scene.judge(&["bob", "erin"], shorter).unwrap();
    scene.judge(&["bob", "carol", "erin"], shorter).unwrap();
}

/// Catalogue: A19 (control: two_persons_seal_the_next_version)
#[test]
fn signatures_without_a_device_key_or_of_another_version_seal_nothing() {
    let scene = Scene::new();
    let next = Fixture::next(&scene.head, shorter);
    let (bob, carol) = (scene.fixture.phone("bob"), scene.fixture.phone("carol"));
    let judge = |signed: SignedStatement| match scene
        .head
        .successor(&RosterEnvelope::new(&next, vec![signed, carol.sign_roster(&next)]))
    {
        Ok(_) => None,
        Err(RosterError::Signature(reason)) => Some(reason),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(judge(bob.sign_roster(&next)), None, "control");
    let mut passkey_alone = bob.sign_roster(&next);
    passkey_alone.device_signature = None;
    assert_eq!(judge(passkey_alone), Some(DenyReason::DeviceSignature));
    let edited = |edit: fn(&mut RosterStatement)| {
        let mut statement = RosterStatement::from_bytes(&bob.sign_roster(&next).statement.0).unwrap();
        edit(&mut statement);
        judge(bob.sign(&next, ROSTER_DOMAINS, &statement.to_bytes()))
    };
    assert_eq!(edited(|_| ()), None, "control");
    assert_eq!(edited(|s| s.version = 0), Some(DenyReason::EvidenceMalformed));
    assert_eq!(edited(|s| s.version = 2), Some(DenyReason::EvidenceMalformed));
    assert_eq!(edited(|s| s.roster_version = 3), Some(DenyReason::EvidenceOtherRequest));
    assert_eq!(edited(|s| s.roster_digest = Digest::plain(b"another")), Some(DenyReason::EvidenceOtherRequest));
    assert_eq!(edited(|s| s.person = id("carol")), Some(DenyReason::ApproverUnknown));
    assert_eq!(edited(|s| s.device_id = device_id("carol-phone")), Some(DenyReason::ApproverUnknown));
    let as_possession = bob.sign(&next, POSSESSION_DOMAINS, &bob.sign_roster(&next).statement.0);
    assert_eq!(judge(as_possession), Some(DenyReason::AssertionChallenge));
    let old = Fixture::next(&scene.head, |roster| roster.format_version = 0);
    let envelope = scene.fixture.envelope(&scene.head, &old, &["bob", "carol"]);
    assert!(matches!(scene.head.successor(&envelope), Err(RosterError::Unsound(_))));
}

/// Catalogue: A18 (control: two_persons_seal_the_next_version)
#[test]
fn a_roster_has_one_spelling_and_limits() {
    let scene = Scene::new();
    let next = Fixture::next(&scene.head, shorter);
    let text = String::from_utf8(next.to_bytes()).unwrap();
    // Lawfully signed, byte for byte: only the spelling is wrong.
    let judge = |bytes: &str| {
        let digest = Roster::digest_of(bytes.as_bytes());
        let sign = |name: &str| {
            let phone = scene.fixture.phone(name);
            let mut statement = RosterStatement::from_bytes(&phone.sign_roster(&next).statement.0).unwrap();
            statement.roster_digest = digest;
            phone.sign(&next, ROSTER_DOMAINS, &statement.to_bytes())
        };
        let envelope = RosterEnvelope {
            digest,
            bytes: Bytes(bytes.as_bytes().to_vec()),
            ..RosterEnvelope::new(&next, vec![sign("bob"), sign("carol")])
        };
        scene.head.successor(&envelope).map(|_| ())
    };
    assert_eq!(judge(&text), Ok(()), "control");
    for (what, bytes) in [
        ("a field twice", text.replacen("\"version\":2", "\"version\":2,\"version\":2", 1)),
        ("an unknown field", text.replacen("\"version\":2", "\"version\":2,\"quorum\":1", 1)),
        ("white space", text.replacen(":", ": ", 1)),
        ("bytes after the value", format!("{text} ")),
        ("a field left out", text.replacen("\"audit_keys\":[],", "", 1)),
        ("an escape that is not needed", text.replacen("alice", "\\u0061lice", 1)),
        (
            "a standing in another spelling",
            text.replacen("\"standing\":\"active\"", "\"standing\":{\"active\":null}", 1),
        ),
    ] {
        assert_ne!(bytes, text, "{what}");
        assert!(matches!(judge(&bytes), Err(RosterError::Decode(_))), "{what}");
    }
    let many = |count: usize| {
        let next = Fixture::next(&scene.head, |roster| {
            let ca = |n: usize| Ca { id: ca(&format!("ca{n}")), certificate: Bytes(vec![1]) };
            roster.cas = (0..count).map(ca).collect();
        });
        scene.head.successor(&scene.fixture.envelope(&scene.head, &next, &["bob", "carol"])).is_ok()
    };
    assert!(many(256) && !many(257));
    let flooded = |count: usize| {
        let signed = scene.fixture.phone("bob").sign_roster(&next);
        let mut signatures = vec![signed; count - 1];
        signatures.push(scene.fixture.phone("carol").sign_roster(&next));
        scene.head.successor(&RosterEnvelope::new(&next, signatures)).is_ok()
    };
    assert!(flooded(16) && !flooded(17), "the limit is told before any is verified");
}

/// Catalogue: A4 (control: two_persons_seal_the_next_version)
#[test]
fn no_key_stands_twice_under_any_spelling() {
    let scene = Scene::new();
    let judge = |edit: &dyn Fn(&mut Roster)| {
        let next = Fixture::next(&scene.head, |roster| edit(roster));
        next.check()
    };
    assert_eq!(judge(&shorter), Ok(()), "control");
    let bobs = scene.fixture.phone("bob").device.device_key.unwrap();
    let twice = Err(RosterError::Unsound("a key appears twice"));
    assert_eq!(judge(&|roster| roster.audit_keys.push(bobs)), twice);
    // The other point of the curve with this x belongs to whoever holds the private half of the first.
    let mirrored = mirrored(&bobs);
    assert_ne!(mirrored, bobs);
    assert_eq!(
        judge(&|roster| roster
            .break_glass_keys
            .push(BreakGlassKey { person: roster.persons[1].id.clone(), key: mirrored })),
        twice
    );
    let mut compressed = bobs;
    compressed.0[0] = 2;
    assert_eq!(
        judge(&|roster| roster.audit_keys.push(compressed)),
        Err(RosterError::Unsound("a key is an uncompressed point"))
    );
}

#[test]
fn who_signs_is_asked_before_what_new_devices_say() {
    let mut scene = Scene::new();
    let device = new_phone(&mut scene);
    let next = Fixture::next(&scene.head, |roster| person_mut(roster, "dave").devices = vec![device.clone()]);
    let judge = |signers: &[&str]| {
        let envelope = scene.fixture.envelope(&scene.head, &next, signers);
        scene.head.successor(&RosterEnvelope { possessions: Vec::new(), ..envelope }).unwrap_err()
    };
    assert_eq!(judge(&["bob"]), too_few(1), "a stranger makes nobody verify possessions");
    assert_eq!(judge(&["bob", "carol"]), RosterError::PossessionMissing(device.id.clone()));
}

#[test]
fn what_is_pinned_is_taken_by_its_digest_and_no_other() {
    let mut scene = Scene::new();
    let (two, _) = scene.step(&["bob", "carol"], shorter);
    let unsigned = RosterEnvelope { signatures: Vec::new(), ..two.clone() };
    assert_eq!(VerifiedRoster::pinned(&unsigned, &two.digest).unwrap().version, 2);
    assert_eq!(VerifiedRoster::pinned(&two, &Digest::plain(b"another")), Err(RosterError::NotPinned));
    assert!(matches!(VerifiedRoster::genesis(&two, &two.digest), Err(RosterError::Version { .. })));
    let mut foreign = two.clone();
    foreign.bytes.0.push(b' ');
    assert_eq!(VerifiedRoster::pinned(&foreign, &two.digest), Err(RosterError::Digest));
    let other = RosterEnvelope { version: 3, ..two.clone() };
    assert!(matches!(VerifiedRoster::pinned(&other, &two.digest), Err(RosterError::Version { .. })));
}
