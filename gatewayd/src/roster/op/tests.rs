//! Each operation on a roster that it fits, and on one that it does not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use twinlock_protocol::Fixed;
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::softphone::{self, Fixture, Phone};

use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn id(name: &str) -> PersonId {
    PersonId::new(name).unwrap()
}

/// alice asks; bob, carol, dave and erin approve; web01, and a uid of alice on it.
fn head() -> (Fixture, VerifiedRoster) {
    let mut fixture = Fixture::new(b"ca", NOW);
    let erin = Phone::new("erin", "erin-phone");
    fixture.roster.persons.push(softphone::person("erin", &["approvers"], vec![erin.device.clone()]));
    fixture.phones.push(erin);
    let host = fixture.roster.hosts[0].id.clone();
    fixture.roster.uids.push(UidEntry { host, uid: 1007, person: id("alice") });
    let (_, head) = fixture.seal();
    (fixture, head)
}

fn key() -> PublicKey {
    SigningKey::generate().unwrap().0.public()
}

fn host(name: &str) -> Host {
    let id = HostId::new(name).unwrap();
    Host { id, name: name.to_owned(), groups: Vec::new(), host_key: key(), agent_key: key() }
}

fn applied(head: &VerifiedRoster, op: Op) -> Roster {
    apply(head, &[op], NOW).unwrap().roster
}

fn refused(head: &VerifiedRoster, ops: &[Op]) -> OpError {
    apply(head, ops, NOW).unwrap_err()
}

#[test]
fn people_come_change_and_leave_with_what_is_theirs() {
    let (_, head) = head();
    let heidi = softphone::person("heidi", &[], Vec::new());
    let add = Op::AddPerson { person: Box::new(heidi.clone()) };
    assert_eq!(applied(&head, add.clone()).person(&id("heidi")), Some(&heidi));
    assert_eq!(refused(&head, &[add.clone(), add]), OpError::PersonExists(id("heidi")));
    let rename = |person| Op::EditPerson {
        person,
        name: Some("Alice A".into()),
        logins: None,
        groups: None,
        may_request: Some(false),
    };
    let edited = applied(&head, rename(id("alice")));
    let (was, is) = (head.person(&id("alice")).unwrap(), edited.person(&id("alice")).unwrap());
    assert_eq!((is.name.as_str(), is.may_request, &is.logins), ("Alice A", false, &was.logins));
    assert_eq!(refused(&head, &[rename(id("nobody"))]), OpError::NoPerson(id("nobody")));
    let gone = applied(&head, Op::RemovePerson { person: id("alice") });
    assert!(gone.person(&id("alice")).is_none() && gone.uids.is_empty());
    assert_eq!(refused(&head, &[Op::RemovePerson { person: id("nobody") }]), OpError::NoPerson(id("nobody")));
}

#[test]
fn a_new_device_needs_its_own_owners_word() {
    let (fixture, head) = head();
    let (phone, other) = (Phone::new("bob", "bob-tablet"), Phone::new("bob", "bob-laptop"));
    let add = |signed| Op::AddDevice {
        person: id("bob"),
        device: Box::new(phone.device.clone()),
        possession: Box::new(signed),
    };
    let outcome = apply(&head, &[add(phone.sign_possession(&fixture.roster))], NOW).unwrap();
    assert_eq!((outcome.roster.person(&id("bob")).unwrap().devices.len(), outcome.possessions.len()), (2, 1));
    let wrong = refused(&head, &[add(other.sign_possession(&fixture.roster))]);
    assert_eq!(wrong, OpError::NoPossession(phone.device.id.clone()));
    // Nor does an edited roster bring one in.
    let mut edited = head.roster().clone();
    edited.persons[1].devices.push(phone.device.clone());
    let replace = Op::Replace { base: head.digest(), roster: Box::new(edited) };
    assert_eq!(refused(&head, &[replace]), OpError::NoPossession(phone.device.id.clone()));

    let lost = fixture.phone("erin").device.id.clone();
    let remove = |person: &str| Op::RemoveDevice { person: id(person), device: lost.clone() };
    assert!(applied(&head, remove("erin")).person(&id("erin")).unwrap().devices.is_empty());
    assert_eq!(refused(&head, &[remove("bob")]), OpError::NoDevice(id("bob"), lost.clone()));
}

#[test]
fn suspending_and_lifting_fit_who_is_active_and_who_is_not() {
    let (_, head) = head();
    let suspend = |by| Op::Suspend { person: id("bob"), by };
    let lift = || Op::Lift { person: id("bob") };
    let two = applied(&head, suspend(None));
    assert_eq!(two.person(&id("bob")).unwrap().standing, Standing::Suspended(Suspension { by: None }));
    assert_eq!(refused(&head, &[suspend(None), suspend(None)]), OpError::Suspended(id("bob")));
    assert_eq!(refused(&head, &[lift()]), OpError::NotSuspended(id("bob")));
    assert_eq!(refused(&head, &[suspend(None), lift()]), OpError::Nothing);
    // Who did it alone and leaves is nobody to refer to.
    let left = apply(&head, &[suspend(Some(id("erin"))), Op::RemovePerson { person: id("erin") }], NOW).unwrap();
    let standing = &left.roster.person(&id("bob")).unwrap().standing;
    assert_eq!(*standing, Standing::Suspended(Suspension { by: None }));
}

#[test]
fn hosts_gateways_and_cas_come_and_go_by_their_names_and_keys() {
    let (_, head) = head();
    let add = Op::AddHost { host: host("web02") };
    assert_eq!(applied(&head, add.clone()).hosts.len(), 2);
    assert_eq!(refused(&head, &[add.clone(), add]), OpError::HostExists(HostId::new("web02").unwrap()));
    let web01 = head.hosts[0].id.clone();
    let gone = applied(&head, Op::RemoveHost { host: web01 });
    assert!(gone.hosts.is_empty() && gone.uids.is_empty(), "its uids leave with it");
    let unknown = HostId::new("db01").unwrap();
    assert_eq!(refused(&head, &[Op::RemoveHost { host: unknown.clone() }]), OpError::NoHost(unknown));

    let gateway = GatewayEntry { address: "tl.example.org:8444".into(), key: Digest::plain(b"key") };
    let (come, go) = (Op::AddGateway { gateway: gateway.clone() }, Op::RemoveGateway { key: gateway.key });
    assert_eq!(applied(&head, come.clone()).gateways, [gateway]);
    assert_eq!(refused(&head, std::slice::from_ref(&go)), OpError::NoGateway);
    assert_eq!(refused(&head, &[come, go]), OpError::Nothing);

    let ca = CaId::new("unknown").unwrap();
    assert_eq!(refused(&head, &[Op::RemoveCa { ca: ca.clone() }]), OpError::NoCa(ca));
    let only = head.cas[0].id.clone();
    assert!(matches!(refused(&head, &[Op::RemoveCa { ca: only }]), OpError::Unsound(_)), "one stays");
}

#[test]
fn an_edited_roster_is_taken_for_the_version_that_it_was_made_from_alone() {
    let (_, head) = head();
    let mut edited = head.roster().clone();
    edited.rules.max_ttl_s = 600;
    (edited.version, edited.previous) = (77, None);
    let replace = |base| Op::Replace { base, roster: Box::new(edited.clone()) };
    let next = applied(&head, replace(head.digest()));
    assert_eq!((next.rules.max_ttl_s, next.version, next.previous), (600, 2, Some(head.digest())));
    assert_eq!(refused(&head, &[replace(Digest(Fixed([1; 32])))]), OpError::OtherBase);
}

#[test]
fn what_changes_nothing_or_breaks_a_rule_is_refused_and_time_does_not_run_back() {
    let (_, head) = head();
    let renew = |expires_at| Op::Renew { expires_at };
    assert_eq!(refused(&head, &[]), OpError::Nothing);
    assert_eq!(refused(&head, &[renew(head.expires_at)]), OpError::Nothing);
    assert!(matches!(refused(&head, &[renew(NOW.plus(400 * 24 * 3600))]), OpError::Unsound(_)));
    let mut rules = head.rules.clone();
    rules.quorum = 1;
    assert!(matches!(refused(&head, &[Op::SetRules { rules: Box::new(rules) }]), OpError::Unsound(_)));
    // Control, by a clock that stands behind the head's.
    let next = apply(&head, &[renew(NOW.plus(30 * 24 * 3600))], UnixTime(1)).unwrap().roster;
    assert_eq!((next.issued_at, next.version), (head.issued_at, 2));
}
