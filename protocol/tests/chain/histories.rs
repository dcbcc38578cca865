//! Random histories of rosters: whatever is tried by whomever, what is accepted was signed by two
//! persons of the version before, or was a lawful lone step. The lawful kinds are told here from the
//! listed changes alone, apart from the verifier's own reading.

use std::collections::BTreeSet;

use proptest::prelude::*;
use twinlock_protocol::roster::change::{Change, ChangeKind, FieldChange, Section, Value, changes};
use twinlock_protocol::roster::{
    Assurance, ClientClass, Device, GatewayEntry, Person, Roster, RosterEnvelope, Standing, Suspension, VerifiedRoster,
};
use twinlock_protocol::softphone::{Fixture, Phone};
use twinlock_protocol::statement::{POSSESSION_DOMAINS, SignedStatement};
use twinlock_protocol::{Digest, Fixed};

use crate::support::{Scene, approver, group, id, person_mut};

const PEOPLE: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "grace"];

/// One thing that a step tries; several may come in one step.
#[derive(Clone, Debug)]
enum Edit {
    Suspend(usize, Option<usize>),
    Lift(usize),
    Remove(usize),
    Add(usize),
    NewPhone(usize),
    RenewKey(usize),
    Ungroup(usize),
    Regroup(usize),
    Ttl(u32),
    Floor(Assurance),
    Gateway(u8),
    Expiry(u64),
    Label(usize),
    Terminal(usize),
    TwoClasses(bool),
    Reverse,
    Nothing,
}

fn edit() -> impl Strategy<Value = Edit> {
    let who = 0..PEOPLE.len();
    prop_oneof![
        4 => (who.clone(), proptest::option::weighted(0.7, who.clone())).prop_map(|(whom, by)| Edit::Suspend(whom, by)),
        3 => who.clone().prop_map(Edit::Lift),
        1 => who.clone().prop_map(Edit::Remove),
        2 => who.clone().prop_map(Edit::Add),
        2 => who.clone().prop_map(Edit::NewPhone),
        3 => who.clone().prop_map(Edit::RenewKey),
        1 => who.clone().prop_map(Edit::Ungroup),
        2 => who.clone().prop_map(Edit::Regroup),
        2 => (1..=3600_u32).prop_map(Edit::Ttl),
        1 => prop_oneof![Just(Assurance::C), Just(Assurance::D), Just(Assurance::B)].prop_map(Edit::Floor),
        1 => (0..4_u8).prop_map(Edit::Gateway),
        1 => (1..1000_u64).prop_map(Edit::Expiry),
        1 => who.clone().prop_map(Edit::Label),
        3 => who.prop_map(Edit::Terminal),
        3 => any::<bool>().prop_map(Edit::TwoClasses),
        1 => Just(Edit::Reverse),
        1 => Just(Edit::Nothing),
    ]
}

#[derive(Clone, Debug)]
struct Try {
    edits: Vec<Edit>,
    signers: Vec<usize>,
    /// Whether new devices prove possession.
    honest: bool,
}

fn attempt() -> impl Strategy<Value = Try> {
    let edits = prop_oneof![4 => proptest::collection::vec(edit(), 1), 1 => proptest::collection::vec(edit(), 2..4)];
    let signers = proptest::collection::vec(0..PEOPLE.len(), 0..4);
    (edits, signers, proptest::bool::weighted(0.9)).prop_map(|(edits, signers, honest)| Try { edits, signers, honest })
}

/// Performs an edit; phones that it makes join the fixture's when the step is accepted.
fn perform(edit: &Edit, roster: &mut Roster, fixture: &Fixture, made: &mut Vec<Phone>) {
    let name = |who: usize| PEOPLE[who];
    let phone = |name: &str, count: usize| Phone::new(name, &format!("{name}-{count}-{}", fixture.phones.len()));
    match *edit {
        Edit::Suspend(whom, by) => each(roster, name(whom), |person| {
            person.standing = Standing::Suspended(Suspension { by: by.map(|by| id(name(by))) });
        }),
        Edit::Lift(who) => each(roster, name(who), |person| person.standing = Standing::Active),
        Edit::Remove(who) => roster.persons.retain(|person| person.id.as_str() != name(who)),
        Edit::Add(who) => {
            if roster.person(&id(name(who))).is_none() {
                let new = phone(name(who), roster.version as usize);
                roster.persons.push(approver(name(who), new.device.clone()));
                made.push(new);
            }
        }
        Edit::NewPhone(who) => {
            let new = phone(name(who), roster.version as usize);
            each(roster, name(who), |person| person.devices = vec![new.device.clone()]);
            made.push(new);
        }
        Edit::RenewKey(who) => each(roster, name(who), |person| {
            let Some(device) = person.devices.first_mut() else { return };
            let Some(old) = holder(fixture.phones.iter(), device) else { return };
            let fresh = old.with_new_device_key();
            device.device_key = fresh.device.device_key;
            made.push(fresh);
        }),
        Edit::Ungroup(who) => each(roster, name(who), |person| person.groups.clear()),
        Edit::Regroup(who) => each(roster, name(who), |person| person.groups = vec![group("approvers")]),
        Edit::Ttl(ttl) => roster.rules.max_ttl_s = ttl,
        Edit::Floor(floor) => roster.rules.floor = floor,
        Edit::Gateway(n) => {
            roster.gateways =
                (0..n).map(|n| GatewayEntry { address: format!("gw{n}:7443"), key: Digest(Fixed([n; 32])) }).collect();
        }
        Edit::Expiry(seconds) => roster.expires_at = roster.expires_at.plus(seconds),
        Edit::Label(who) => each(roster, name(who), |person| {
            if let Some(device) = person.devices.first_mut() {
                device.label = format!("{} again", device.label);
            }
        }),
        Edit::Terminal(who) => each(roster, name(who), |person| {
            if let Some(device) = person.devices.first_mut() {
                device.client_class = ClientClass::Terminal;
            }
        }),
        Edit::TwoClasses(two) => roster.rules.distinct_client_class = two,
        Edit::Reverse => roster.persons.reverse(),
        Edit::Nothing => {}
    }
}

fn each(roster: &mut Roster, name: &str, edit: impl FnOnce(&mut Person)) {
    if roster.person(&id(name)).is_some() {
        edit(person_mut(roster, name));
    }
}

/// The phone that holds this record's keys.
fn holder<'a>(phones: impl IntoIterator<Item = &'a Phone>, device: &Device) -> Option<&'a Phone> {
    let keys = |one: &Device| (one.credential_key, one.device_key);
    phones.into_iter().find(|phone| keys(&phone.device) == keys(device))
}

/// What one person may do alone, told from the list of changes.
enum Lone<'a> {
    Suspends(&'a str),
    Restores(&'a str),
}

fn lone(listed: &[Change], old: &Roster) -> Option<(String, bool)> {
    let [change] = listed else { return None };
    let fields: Vec<&FieldChange> = change.fields.iter().filter(|field| field.field != "words").collect();
    let [field] = fields.as_slice() else { return None };
    let kind = match (change.section, change.kind, field.field.as_str(), &field.from, &field.to) {
        (Section::Person, ChangeKind::Changed, "standing", Some(Value::Text(from)), Some(Value::Text(to)))
            if from == "active" =>
        {
            Lone::Suspends(to.strip_prefix("suspended by ")?)
        }
        (Section::Device, ChangeKind::Changed, "device_key", Some(_), Some(_)) => Lone::Restores(&change.subject),
        _ => return None,
    };
    Some(match kind {
        Lone::Suspends(by) => (by.to_owned(), true),
        Lone::Restores(device) => {
            let owner = old.persons.iter().find(|person| person.devices.iter().any(|one| one.id.as_str() == device))?;
            (owner.id.to_string(), false)
        }
    })
}

fn can_sign(roster: &Roster, name: &str) -> bool {
    roster.approvers().iter().any(|person| person.id.as_str() == name)
}

/// What must hold of every accepted step.
fn check(old: &VerifiedRoster, new: &VerifiedRoster, signers: &BTreeSet<&str>, honest: bool) {
    assert_eq!((new.version, new.previous), (old.version + 1, Some(old.digest())));
    assert_eq!(new.rp_id, old.rp_id);
    assert!(new.approvers().len() >= 2, "enough can approve");
    assert!(signers.iter().all(|name| can_sign(old, name)), "who signed could, in the version before");
    assert!(honest || old.new_devices(new).unwrap().is_empty(), "every new device proved its keys");
    let listed = changes(old, new);
    if signers.len() < 2 {
        let (person, suspends) = lone(&listed, old).unwrap_or_else(|| panic!("one person alone: {listed:#?}"));
        let signer = signers.first().copied().unwrap_or_else(|| panic!("nobody signed"));
        assert_eq!(person == signer, suspends, "who suspends signs; who is restored does not");
        if suspends {
            assert!(new.approvers().len() >= 3, "one more than the quorum is left");
            let outstanding = |roster: &Roster| {
                let by =
                    |person: &&Person| person.standing.suspended_alone_by().is_some_and(|by| by.as_str() == signer);
                roster.persons.iter().filter(by).count()
            };
            assert_eq!((outstanding(old), outstanding(new)), (0, 1), "one at a time");
        }
    }
    // What is listed is all there is.
    let same =
        Roster { version: old.version, previous: old.previous, issued_at: old.issued_at, ..new.roster().clone() };
    assert_eq!(listed.is_empty(), same == *old.roster());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Catalogue: I1, I2, I5 (control: histories_do_get_somewhere)
    #[test]
    fn whatever_is_accepted_was_sealed_by_the_right_people(tries in proptest::collection::vec(attempt(), 1..24)) {
        let (genesis, envelopes, head) = play(&tries);
        // From any version to the head, and never with one left out.
        prop_assert_eq!(genesis.clone().follow(&envelopes).unwrap(), head);
        for gap in 0..envelopes.len().saturating_sub(1) {
            let mut holed = envelopes.clone();
            holed.remove(gap);
            prop_assert!(genesis.clone().follow(&holed).is_err());
        }
    }

    #[test]
    fn no_difference_goes_unlisted(edits in proptest::collection::vec(edit(), 0..5), others in proptest::collection::vec(edit(), 0..5)) {
        let scene = Scene::with(&["erin"]);
        let apply = |edits: &[Edit]| {
            let mut made = Vec::new();
            let mut roster = scene.head.roster().clone();
            edits.iter().for_each(|edit| perform(edit, &mut roster, &scene.fixture, &mut made));
            roster
        };
        let (one, two) = (apply(&edits), apply(&others));
        prop_assert_eq!(changes(&one, &two).is_empty(), one == two);
        prop_assert_eq!(changes(&one, &two).len(), changes(&two, &one).len());
        prop_assert!(changes(&one, &one).is_empty());
    }
}

/// A roster that is accepted is never the last: two of its people sign another one; and what one
/// person did alone is undone without that person.
fn followed_by_its_people(old: &VerifiedRoster, head: &VerifiedRoster, phones: &[Phone]) {
    let next = Fixture::next(head, |roster| {
        roster.rules.max_ttl_s = if roster.rules.max_ttl_s == 60 { 61 } else { 60 };
    });
    let signed: Vec<(&Person, SignedStatement)> = head
        .approvers()
        .into_iter()
        .flat_map(|person| person.devices.iter().map(move |device| (person, device)))
        .filter(|(_, device)| head.rules.check_device(device).is_ok())
        .map(|(person, device)| (person, holder(phones, device).expect("its keys are known").sign_roster(&next)))
        .collect();
    let authors = |roster: &Roster| -> BTreeSet<String> {
        roster
            .persons
            .iter()
            .filter_map(|person| person.standing.suspended_alone_by())
            .map(ToString::to_string)
            .collect()
    };
    let alone: Vec<String> = authors(head).difference(&authors(old)).cloned().collect();
    let is_author = |person: &Person| alone.iter().any(|author| person.id.as_str() == author);
    let pairs =
        signed.iter().flat_map(|(one, first)| signed.iter().map(move |(two, second)| (one, first, two, second)));
    let mut others = pairs.filter(|(one, _, two, _)| !is_author(one) && !is_author(two));
    let seals = |(_, first, _, second): (&&Person, &SignedStatement, &&Person, &SignedStatement)| {
        head.successor(&RosterEnvelope::new(&next, vec![first.clone(), second.clone()])).is_ok()
    };
    assert!(others.any(seals), "nobody can sign another version after {head:#?}");
}

/// Plays a history; every accepted step is checked.
fn play(tries: &[Try]) -> (VerifiedRoster, Vec<RosterEnvelope>, VerifiedRoster) {
    let mut scene = Scene::with(&["erin", "frank"]);
    let genesis = scene.head.clone();
    let mut envelopes = Vec::new();
    for Try { edits, signers, honest } in tries {
        let mut made = Vec::new();
        let next = Fixture::next(&scene.head, |roster| {
            edits.iter().for_each(|edit| perform(edit, roster, &scene.fixture, &mut made));
        });
        // Everybody signs with a device that the head lists; the phones that have them prove possession.
        let known = |name: &str| {
            let person = scene.head.person(&id(name))?;
            person.devices.iter().find_map(|device| holder(&scene.fixture.phones, device))
        };
        let signers: BTreeSet<&str> =
            signers.iter().map(|who| PEOPLE[*who]).filter(|name| known(name).is_some()).collect();
        let signatures = signers.iter().filter_map(|name| Some(known(name)?.sign_roster(&next))).collect();
        let prove = |(person, device): (&Person, &Device)| {
            let phone = holder(scene.fixture.phones.iter().chain(&made), device)?;
            let mut statement = phone.possession(&scene.head);
            (statement.person, statement.device) = (person.id.clone(), device.record_digest());
            (statement.credential_id, statement.device_id) = (device.credential_id.clone(), device.id.clone());
            Some(phone.sign(&scene.head, POSSESSION_DOMAINS, &statement.to_bytes()))
        };
        let new = scene.head.new_devices(&next).unwrap_or_default();
        let possessions = new.into_iter().filter(|_| *honest).filter_map(prove).collect();
        let envelope = RosterEnvelope::with_possessions(&next, signatures, possessions);
        if let Ok(accepted) = scene.head.successor(&envelope) {
            check(&scene.head, &accepted, &signers, *honest);
            scene.fixture.phones.extend(made);
            followed_by_its_people(&scene.head, &accepted, &scene.fixture.phones);
            scene.head = accepted;
            envelopes.push(envelope);
        }
    }
    (genesis, envelopes, scene.head)
}

/// The strategy above reaches every kind of step: without this, the property could hold of nothing.
#[test]
fn histories_do_get_somewhere() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut accepted, mut alone) = (0, 0);
    for _ in 0..24 {
        let tries = proptest::collection::vec(attempt(), 24).new_tree(&mut runner).unwrap().current();
        let (_, envelopes, _) = play(&tries);
        accepted += envelopes.len();
        alone += envelopes.iter().filter(|envelope| envelope.signatures.len() == 1).count();
    }
    assert!(accepted > 40, "{accepted} steps were accepted");
    assert!(alone > 2, "{alone} of them by one person");
}
