//! Break-glass answers against whoever would open with less than two people's. Every refusal stands
//! beside what is accepted and differs from it in one thing. Pure: time is a number.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use twinlock_protocol::break_glass::{
    self, Answer, BreakGlassEvidence, Drill, DrillFormat, Purpose, Statement, VerifiedBreakGlass, challenge, holders,
    read_challenge, verify_answer, verify_drill, verify_evidence, verify_review,
};
use twinlock_protocol::evidence::SignedRequest;
use twinlock_protocol::ids::{GroupName, HostId, PersonId};
use twinlock_protocol::request::{ElevationRequest, Login};
use twinlock_protocol::roster::{BreakGlassKey, HumanMark, PersonKind, Roster, ServiceOwner, Standing, Suspension};
use twinlock_protocol::roster::{UidEntry, VerifiedRoster};
use twinlock_protocol::softphone::{Fixture, Holder, person, random};
use twinlock_protocol::statement::Decision;
use twinlock_protocol::verify::{self, VerifiedRequest};
use twinlock_protocol::{Bytes, DenyReason, Digest, Fixed, UnixTime, limits};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// alice asks, bob, carol and dave hold keys, and so does alice.
struct Scene {
    fixture: Fixture,
    roster: VerifiedRoster,
    request: VerifiedRequest,
    holders: Vec<Holder>,
}

impl Scene {
    fn new() -> Self {
        Self::of(|_| {}, |_| {})
    }

    fn of(edit: impl FnOnce(&mut Roster), ask: impl FnOnce(&mut ElevationRequest)) -> Self {
        let mut fixture = Fixture::new(b"a CA", NOW);
        let holders = fixture.break_glass(&["bob", "carol", "dave", "alice"]);
        // So that only being the requester stands against alice.
        fixture.roster.persons[0].groups = vec![GroupName::new("approvers").unwrap()];
        edit(&mut fixture.roster);
        let (_, roster) = fixture.seal();
        let (mut request, key) = fixture.request();
        ask(&mut request);
        let signed = fixture.sign_request(&request, &key);
        let request = break_glass::verify_request(&roster, &signed, NOW).unwrap();
        Self { fixture, roster, request, holders }
    }

    fn holder(&self, name: &str) -> &Holder {
        self.holders.iter().find(|holder| holder.entry.person.as_str() == name).unwrap()
    }

    fn yes(&self, name: &str) -> Answer {
        self.holder(name).approve(self.request.id())
    }

    fn says(&self, name: &str, change: impl FnOnce(&mut Statement)) -> Answer {
        let holder = self.holder(name);
        let mut statement = Statement::new(Purpose::Grant, self.request.id().0, &holder.entry, 600, Decision::Approve);
        change(&mut statement);
        holder.sign(&statement)
    }

    fn judge(&self, answers: [&Answer; 2]) -> Result<VerifiedBreakGlass, DenyReason> {
        verify_evidence(&self.roster, &self.request, &BreakGlassEvidence::new(self.request.id(), answers).to_bytes())
    }
}

fn id(name: &str) -> PersonId {
    PersonId::new(name).unwrap()
}

fn suspended(by: Option<PersonId>) -> Standing {
    Standing::Suspended(Suspension { by })
}

/// Catalogue: B4 (control: inline)
#[test]
fn two_holders_open_and_one_does_not_however_often_they_sign() {
    let scene = Scene::new();
    let (bob, carol) = (scene.yes("bob"), scene.yes("carol"));
    let opened = scene.judge([&bob, &carol]).unwrap();
    let names: Vec<&str> = opened.holders().iter().map(|holder| holder.person.as_str()).collect();
    assert_eq!((names, opened.request()), (vec!["bob", "carol"], scene.request.id()));
    assert_eq!((opened.ttl_s(), opened.delay_s()), (600, 60));

    assert_eq!(scene.judge([&bob, &bob]), Err(DenyReason::SamePerson));
    // ECDSA signatures are random: another one of the same person is still the same person's.
    assert_eq!(scene.judge([&bob, &scene.yes("bob")]), Err(DenyReason::SamePerson));
    assert_eq!(scene.judge([&bob, &scene.says("bob", |s| s.ttl_s = 300)]), Err(DenyReason::SamePerson));
}

/// Catalogue: B4 (control: two_holders_open_and_one_does_not_however_often_they_sign)
#[test]
fn one_person_with_two_keys_is_one_person() {
    let second = Holder::new("bob");
    let scene = Scene::of(|roster| roster.break_glass_keys.push(second.entry.clone()), |_| {});
    let other = second.approve(scene.request.id());
    assert!(verify_answer(&scene.roster, &scene.request, &other).is_ok(), "control: the key counts");
    assert_eq!(scene.judge([&scene.yes("bob"), &other]), Err(DenyReason::SamePerson));
}

/// Catalogue: B4 (control: two_holders_open_and_one_does_not_however_often_they_sign)
#[test]
fn the_requester_signs_for_nobody_under_any_name() {
    let scene = Scene::new();
    let refused = Err(DenyReason::ApproverIsRequester);
    assert_eq!(scene.judge([&scene.yes("bob"), &scene.yes("alice")]), refused);
    assert_eq!(scene.judge([&scene.yes("alice"), &scene.yes("bob")]), refused);

    // bob became alice by su: his login uid, and PAM_RUSER, still say who he is.
    let as_login = |name: &str| Login { uid: 1002, name: name.into() };
    let scene = Scene::of(|_| {}, |request| request.requester.login = Some(as_login("bob")));
    assert_eq!(scene.judge([&scene.yes("bob"), &scene.yes("carol")]), refused);
    assert!(scene.judge([&scene.yes("dave"), &scene.yes("carol")]).is_ok(), "control");
    let scene = Scene::of(|_| {}, |request| request.requester.pam_ruser = Some("bob".into()));
    assert_eq!(scene.judge([&scene.yes("bob"), &scene.yes("carol")]), refused);
    // A uid that is carol's on this host.
    let uid = |roster: &mut Roster| {
        roster.uids.push(UidEntry { host: HostId::new("web01").unwrap(), uid: 1001, person: id("carol") });
    };
    let scene = Scene::of(uid, |_| {});
    assert_eq!(scene.judge([&scene.yes("bob"), &scene.yes("carol")]), refused);
    // A service asks: its owner does not answer for it.
    let service = |roster: &mut Roster| {
        roster.break_glass_keys.retain(|one| one.person != id("alice"));
        roster.persons[0].kind = PersonKind::Service(ServiceOwner { owner: id("dave") });
    };
    let scene = Scene::of(service, |_| {});
    assert_eq!(scene.judge([&scene.yes("bob"), &scene.yes("dave")]), refused);
    assert!(scene.judge([&scene.yes("bob"), &scene.yes("carol")]).is_ok(), "control");
    assert_eq!(scene.roster.persons[1].kind, PersonKind::Human(HumanMark {}));
}

#[test]
fn the_holders_who_could_answer_are_those_whose_answers_count() {
    let names = |scene: &Scene| -> Vec<String> {
        holders(&scene.roster, &scene.request).unwrap().iter().map(|person| person.id.to_string()).collect()
    };
    assert_eq!(names(&Scene::new()), ["bob", "carol", "dave"]);
    let erin = Holder::new("erin");
    let wider = |roster: &mut Roster| {
        roster.persons.push(person("erin", &[], Vec::new()));
        roster.break_glass_keys.extend([erin.entry.clone(), Holder::new("bob").entry]);
        roster.persons[3].standing = suspended(None);
        roster.persons.push(person("frank", &["approvers"], Vec::new()));
        roster.break_glass_keys.push(Holder::new("frank").entry);
    };
    let scene = Scene::of(wider, |_| {});
    // erin approves nothing, dave is suspended; frank has no phone, and needs none here.
    assert_eq!(names(&scene), ["bob", "carol", "frank"]);
    let refused = Err(DenyReason::ApproverNotEligible);
    assert_eq!(scene.judge([&scene.yes("bob"), &erin.approve(scene.request.id())]), refused);
    assert_eq!(scene.judge([&scene.yes("bob"), &scene.yes("dave")]), refused);
}

/// Catalogue: B3 (control: two_holders_open_and_one_does_not_however_often_they_sign)
#[test]
fn an_answer_counts_for_one_request_of_one_host_and_boot_and_for_one_purpose() {
    let scene = Scene::new();
    let bob = scene.yes("bob");
    let (request, key) = scene.fixture.request();
    let mut others: Vec<(&str, ElevationRequest)> = Vec::new();
    let mut other = |what, change: fn(&mut ElevationRequest)| {
        let mut request = request.clone();
        change(&mut request);
        others.push((what, request));
    };
    other("the same words again, another nonce", |_| {});
    other("another host", |request| request.host = HostId::new("web02").unwrap());
    other("another boot", |request| request.boot_id = "00000000-6c1b-4c7e-9f0a-0d6a2b9b7c11".into());
    other("another command", |request| request.argv[1] = "reboot".into());
    for (what, request) in others {
        let signed = scene.fixture.sign_request(&request, &key);
        let about = ElevationRequest::id_of(&signed.request.0);
        let foreign = scene.holder("carol").approve(about);
        assert_eq!(scene.judge([&bob, &foreign]).unwrap_err(), DenyReason::BreakGlassAnswer, "{what}");
    }
    // What bob signed for this one opens no other either.
    let signed = scene.fixture.sign_request(&request, &key);
    let fresh = break_glass::verify_request(&scene.roster, &signed, NOW).unwrap();
    assert_eq!(verify_answer(&scene.roster, &fresh, &bob), Err(DenyReason::BreakGlassAnswer));

    for purpose in [Purpose::Drill, Purpose::Review] {
        let other = scene.says("carol", |statement| statement.purpose = purpose);
        assert_eq!(scene.judge([&bob, &other]), Err(DenyReason::BreakGlassAnswer), "{purpose:?}");
    }
    let yes = scene.says("carol", |_| {});
    assert!(scene.judge([&bob, &yes]).is_ok(), "control");
}

#[test]
fn what_is_signed_names_its_person_key_life_and_decision() {
    let scene = Scene::new();
    let bob = scene.yes("bob");
    let carols = scene.holder("carol").entry.clone();
    let refused = Err(DenyReason::BreakGlassAnswer);
    assert_eq!(scene.judge([&bob, &scene.says("carol", |s| s.person = id("dave"))]), refused);
    assert_eq!(scene.judge([&bob, &scene.says("carol", |s| s.key = scene.holder("dave").entry.key)]), refused);
    assert_eq!(scene.judge([&bob, &scene.says("carol", |s| s.version = 2)]), refused);
    let mut longer = scene.says("carol", |s| s.ttl_s = 300);
    longer.ttl_s = 600;
    assert_eq!(scene.judge([&bob, &longer]), refused);
    let mut turned = scene.says("carol", |s| s.decision = Decision::Deny);
    turned.decision = Decision::Approve;
    assert_eq!(scene.judge([&bob, &turned]), refused);
    // carol's answer under dave's key id, and under nobody's.
    let mut other = scene.yes("carol");
    other.key_id = scene.yes("dave").key_id;
    assert_eq!(scene.judge([&bob, &other]), refused);
    other.key_id = [7; 8];
    assert_eq!(scene.judge([&bob, &other]), Err(DenyReason::ApproverUnknown));
    // Somebody's own key under carol's name.
    let forged = Holder::new("carol");
    assert_ne!(forged.entry, carols);
    assert_eq!(scene.judge([&bob, &forged.approve(scene.request.id())]), Err(DenyReason::ApproverUnknown));
    assert!(scene.judge([&bob, &scene.yes("carol")]).is_ok(), "control");
}

#[test]
fn a_no_refuses_whoever_says_it_and_only_where_it_verifies() {
    let scene = Scene::new();
    let no = |name| scene.says(name, |statement| statement.decision = Decision::Deny);
    for name in ["carol", "alice"] {
        assert_eq!(scene.judge([&scene.yes("bob"), &no(name)]), Err(DenyReason::Denied), "{name}");
        assert_eq!(scene.judge([&no(name), &scene.yes("bob")]), Err(DenyReason::Denied), "{name}");
    }
    let stranger = Holder::new("carol");
    let statement = Statement::new(Purpose::Grant, scene.request.id().0, &stranger.entry, 600, Decision::Deny);
    assert_eq!(scene.judge([&scene.yes("bob"), &stranger.sign(&statement)]), Err(DenyReason::ApproverUnknown));
}

#[test]
fn the_life_is_the_least_of_all_and_never_above_a_quarter_of_an_hour() {
    let ttl = |scene: &Scene, first: u32, second: u32| {
        let answers = [scene.says("bob", |s| s.ttl_s = first), scene.says("carol", |s| s.ttl_s = second)];
        scene.judge([&answers[0], &answers[1]]).map(|opened| opened.ttl_s())
    };
    let scene = Scene::new();
    assert_eq!(ttl(&scene, 300, 200), Ok(200));
    assert_eq!(ttl(&scene, 900, 900), Ok(600), "the roster's break-glass rule");
    assert_eq!(ttl(&scene, 901, 300), Err(DenyReason::BreakGlassAnswer));
    assert_eq!(ttl(&scene, 300, 65_535), Err(DenyReason::BreakGlassAnswer));
    assert_eq!(ttl(&scene, 0, 300), Err(DenyReason::BreakGlassAnswer));
    assert_eq!(ttl(&Scene::of(|roster| roster.rules.max_ttl_s = 90, |_| {}), 300, 300), Ok(90));
    assert_eq!(ttl(&Scene::of(|_| {}, |request| request.ttl_s = 45), 300, 300), Ok(45));
    let rules = |roster: &mut Roster| roster.rules.break_glass.max_ttl_s = 900;
    assert_eq!(ttl(&Scene::of(rules, |_| {}), 900, 900), Ok(900));
}

/// Catalogue: B3 (control: two_holders_open_and_one_does_not_however_often_they_sign)
#[test]
fn keys_of_an_older_or_a_newer_roster_do_not_count() {
    let mut scene = Scene::new();
    let (_, head) = scene.fixture.seal();
    let carols = scene.holder("carol").entry.clone();
    let fresh = Holder::new("carol");
    let entry = fresh.entry.clone();
    let (_, next) = scene.fixture.step(&head, &["bob", "dave"], move |roster| {
        roster.break_glass_keys.retain(|one| *one != carols);
        roster.break_glass_keys.push(entry);
    });
    // Under the older one, the newer key is nobody's.
    let bob = scene.yes("bob");
    assert_eq!(scene.judge([&bob, &fresh.approve(scene.request.id())]), Err(DenyReason::ApproverUnknown));
    // Under the newer one, the older key is.
    let (request, key) = scene.fixture.request();
    let signed = scene.fixture.sign_request(&request, &key);
    let request = break_glass::verify_request(&next, &signed, NOW).unwrap();
    let judge = |holder: &Holder| {
        let answers = [scene.holder("bob").approve(request.id()), holder.approve(request.id())];
        let evidence = BreakGlassEvidence::new(request.id(), [&answers[0], &answers[1]]);
        verify_evidence(&next, &request, &evidence.to_bytes()).map(|opened| opened.holders()[1].clone())
    };
    assert_eq!(judge(scene.holder("carol")), Err(DenyReason::ApproverUnknown));
    assert_eq!(judge(&fresh), Ok(fresh.entry.clone()), "control");
    // And nothing of a request is decided under another roster than its own.
    assert_eq!(verify_answer(&next, &scene.request, &bob), Err(DenyReason::RosterMismatch));
}

/// T7: when the gateway is gone for good, nobody can renew the roster. T3: what it does not know
/// about keys withdrawn since is bounded.
#[test]
fn an_expired_roster_opens_for_a_month_more_and_only_by_break_glass() {
    let verify = |keys: &[&str], now: UnixTime| {
        let mut fixture = Fixture::new(b"a CA", NOW);
        let _holders = fixture.break_glass(keys);
        let (_, roster) = fixture.seal();
        let (request, key) = fixture.request();
        let signed: SignedRequest = fixture.sign_request(&request, &key);
        let offline = break_glass::verify_request(&roster, &signed, now).map(|_| ());
        (offline, verify::verify_request(&roster, &signed, now).map(|_| ()))
    };
    let expired = Err(DenyReason::RosterExpired);
    let end = NOW.plus(limits::DEFAULT_ROSTER_LIFE_S);
    let last = UnixTime(end.0 + limits::BREAK_GLASS_GRACE_S - 1);
    assert_eq!(verify(&["bob", "carol"], UnixTime(end.0 - 1)), (Ok(()), Ok(())), "control");
    assert_eq!(verify(&["bob", "carol"], end), (Ok(()), expired));
    assert_eq!(verify(&["bob", "carol"], last), (Ok(()), expired));
    assert_eq!(verify(&["bob", "carol"], last.plus(1)), (expired, expired));
    assert_eq!(verify(&[], end), (expired, expired), "without keys there is nothing to wait for");
}

#[test]
fn an_answer_survives_being_typed_and_not_being_mistyped() {
    let scene = Scene::new();
    let answer = scene.yes("bob");
    let text = answer.to_text();
    assert_eq!(text.len(), 142);
    for typed in [text.clone(), text.replace('-', ""), text.to_lowercase(), format!("  {}\r\n", text.replace('-', " "))]
    {
        assert_eq!(Answer::from_text(&typed), Some(answer.clone()), "{typed}");
    }
    for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
        let mut wrong = text.clone().into_bytes();
        wrong[at] = if wrong[at] == b'Q' { b'R' } else { b'Q' };
        assert_eq!(Answer::from_text(std::str::from_utf8(&wrong).unwrap()), None, "{at}");
        let mut short = text.clone();
        short.remove(at);
        assert_eq!(Answer::from_text(&short), None, "{at}");
    }
    for wrong in ["", "-", "yes", &text[..100], &format!("{text}{text}"), &text.replace('-', "_")] {
        assert_eq!(Answer::from_text(wrong), None, "{wrong}");
    }
    // Bytes in evidence have one spelling as well.
    let mut bytes = answer.to_bytes();
    assert_eq!(Answer::from_bytes(&bytes), Some(answer));
    bytes[0] = 3;
    assert_eq!(Answer::from_bytes(&bytes), None);
    bytes[0] = 1;
    assert_eq!(Answer::from_bytes(&bytes[..74]), None);
    bytes.push(0);
    assert_eq!(Answer::from_bytes(&bytes), None);
}

/// The other signature that verifies wherever one does, `(r, n - s)`, is the same person's.
#[test]
fn another_spelling_of_a_signature_makes_no_second_person() {
    let scene = Scene::new();
    let bob = scene.yes("bob");
    let order = [
        0xff_u8, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut mirrored = bob.clone();
    let mut borrow = 0_i32;
    for at in (0..32).rev() {
        let difference = i32::from(order[at]) - i32::from(bob.signature.0[32 + at]) - borrow;
        borrow = i32::from(difference < 0);
        mirrored.signature.0[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    assert_ne!(mirrored, bob);
    assert!(scene.judge([&mirrored, &scene.yes("carol")]).is_ok(), "control: it verifies");
    assert_eq!(scene.judge([&bob, &mirrored]), Err(DenyReason::SamePerson));
    for (r, s) in [([0; 32], [0; 32]), (order, [1; 32]), ([0xff; 32], [0xff; 32])] {
        let mut wrong = bob.clone();
        wrong.signature = Fixed([r, s].concat().try_into().unwrap());
        assert_eq!(scene.judge([&wrong, &scene.yes("carol")]), Err(DenyReason::BreakGlassAnswer));
    }
}

#[test]
fn evidence_is_about_its_request_and_has_one_spelling() {
    let scene = Scene::new();
    let evidence = BreakGlassEvidence::new(scene.request.id(), [&scene.yes("bob"), &scene.yes("carol")]);
    let judge = |bytes: &[u8]| verify_evidence(&scene.roster, &scene.request, bytes).map(|_| ());
    assert_eq!(judge(&evidence.to_bytes()), Ok(()), "control");
    let mut other = evidence.clone();
    other.request_digest.0 = Digest::plain(b"another");
    assert_eq!(judge(&other.to_bytes()), Err(DenyReason::EvidenceOtherRequest));
    let malformed = Err(DenyReason::EvidenceMalformed);
    let mut other = evidence.clone();
    other.version = 2;
    assert_eq!(judge(&other.to_bytes()), malformed);
    other = evidence.clone();
    other.answers[1] = Bytes(Vec::new());
    assert_eq!(judge(&other.to_bytes()), malformed);
    let text = String::from_utf8(evidence.to_bytes()).unwrap();
    for spelled in [format!("{text} "), text.replace(":1", ": 1"), text.replace("\"version\":1,", "")] {
        assert_ne!(spelled, text);
        assert_eq!(judge(spelled.as_bytes()), malformed);
    }
}

#[test]
fn a_drill_takes_the_keys_of_the_pinned_roster_and_grants_nothing() {
    let scene = Scene::new();
    let drill = Drill {
        format: DrillFormat::Drill,
        version: 1,
        host: HostId::new("web01").unwrap(),
        roster: scene.roster.reference(),
        created_at: NOW,
        nonce: Fixed(random()),
    };
    let bytes = drill.to_bytes();
    assert_eq!(Drill::from_bytes(&bytes).unwrap(), drill);
    let sign = |name: &str, purpose| {
        let holder = scene.holder(name);
        holder.sign(&Statement::new(purpose, Drill::digest_of(&bytes), &holder.entry, 600, Decision::Approve))
    };
    assert_eq!(
        verify_drill(&scene.roster, &bytes, &sign("bob", Purpose::Drill)),
        Ok(scene.holder("bob").entry.clone())
    );
    let refused = Err(DenyReason::BreakGlassAnswer);
    assert_eq!(verify_drill(&scene.roster, &bytes, &sign("bob", Purpose::Grant)), refused);
    assert_eq!(verify_drill(&scene.roster, &bytes, &scene.yes("bob")), refused);
    assert_eq!(
        verify_answer(&scene.roster, &scene.request, &sign("bob", Purpose::Drill)).map(|_| ()),
        refused.map(|_: BreakGlassKey| ())
    );
    let older = Drill { roster: twinlock_protocol::request::RosterRef { version: 9, ..drill.roster }, ..drill };
    assert_eq!(
        verify_drill(&scene.roster, &older.to_bytes(), &sign("bob", Purpose::Drill)),
        Err(DenyReason::RosterMismatch)
    );
}

/// Catalogue: B5 (control: inline)
#[test]
fn a_review_is_closed_by_a_third_person_once_the_keys_are_changed() {
    let mut scene = Scene::new();
    let opened = scene.judge([&scene.yes("bob"), &scene.yes("carol")]).unwrap();
    let reviews = |holder: &Holder| {
        holder.sign(&Statement::new(Purpose::Review, scene.request.id().0, &holder.entry, 600, Decision::Approve))
    };
    let daves = reviews(scene.holder("dave"));
    let alices = reviews(scene.holder("alice"));
    let review = |head: &VerifiedRoster, answer: &Answer| {
        verify_review(head, &scene.request, &opened, answer).map(|holder| holder.person)
    };
    assert_eq!(review(&scene.roster, &daves), Err(DenyReason::BreakGlassKeysStand));
    let [bob, carol] = [Holder::new("bob"), Holder::new("carol")];
    let news = [bob.entry.clone(), carol.entry.clone()];
    let bobs = reviews(&bob);
    let (_, head) = scene.fixture.seal();
    let one_gone = |roster: &mut Roster| {
        roster.break_glass_keys.remove(0);
    };
    let half = scene.fixture.step(&head, &["bob", "dave"], one_gone).1;
    let rotated = scene
        .fixture
        .step(&half, &["bob", "dave"], |roster| {
            roster.break_glass_keys.remove(0);
            roster.break_glass_keys.extend(news);
        })
        .1;
    let review = |head: &VerifiedRoster, answer: &Answer| {
        verify_review(head, &scene.request, &opened, answer).map(|holder| holder.person)
    };
    assert_eq!(review(&half, &daves), Err(DenyReason::BreakGlassKeysStand), "one of the two keys is left");
    assert_eq!(review(&rotated, &daves), Ok(id("dave")), "control");
    assert_eq!(review(&rotated, &bobs), Err(DenyReason::SamePerson));
    assert_eq!(review(&rotated, &alices), Err(DenyReason::ApproverIsRequester));
    let yes = scene.yes("dave");
    assert_eq!(review(&rotated, &yes), Err(DenyReason::BreakGlassAnswer), "another purpose");
}

#[test]
fn a_challenge_is_read_out_of_whatever_stands_around_it() {
    let scene = Scene::new();
    let bytes = scene.request.signed().request.0.clone();
    let text = challenge(Purpose::Grant, &bytes);
    assert!(text.lines().all(|line| line.len() <= 64), "{text}");
    let read = |text: &str| read_challenge(text);
    assert_eq!(read(&text), Some((Purpose::Grant, bytes.clone())));
    let indented = format!("$ sudo id\nhere:\r\n{}\r\nanswer 1 of 2: ", text.replace('\n', " \r\n  "));
    assert_eq!(read(&indented), Some((Purpose::Grant, bytes.clone())));
    let (first, _) = text.rsplit_once('\n').unwrap();
    assert_eq!(read(first), None, "without its end");
    assert_eq!(read(&text.replace("END TWINLOCK REQUEST", "END TWINLOCK DRILL")), None);
    assert_eq!(read(&text.replace("\ney", "\n!!")), None);
    assert_eq!(read(""), None);
}

proptest! {
    #[test]
    fn any_answer_is_read_as_it_was_written(bytes in prop::collection::vec(any::<u8>(), 75)) {
        let mut bytes = bytes;
        bytes[0] = 1 + bytes[0] % 2;
        let answer = Answer::from_bytes(&bytes).unwrap();
        prop_assert_eq!(answer.to_bytes(), bytes);
        prop_assert_eq!(Answer::from_text(&answer.to_text()), Some(answer));
    }

    #[test]
    fn no_text_is_read_in_two_ways(text in "\\PC{0,200}|[A-Z2-7-]{120,150}") {
        if let Some(answer) = Answer::from_text(&text) {
            prop_assert_eq!(Answer::from_text(&answer.to_text()), Some(answer));
        }
        let _any = read_challenge(&text);
    }

    #[test]
    fn any_bytes_come_back_out_of_a_challenge(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(read_challenge(&challenge(Purpose::Drill, &bytes)), Some((Purpose::Drill, bytes)));
    }

    /// One bit anywhere in an answer, and it opens nothing.
    #[test]
    fn no_flipped_bit_opens(bit in 0..600_usize) {
        let scene = Scene::new();
        let mut bytes = scene.yes("bob").to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let outcome = Answer::from_bytes(&bytes).map(|answer| scene.judge([&answer, &scene.yes("carol")]));
        prop_assert!(!matches!(outcome, Some(Ok(_))));
    }
}
