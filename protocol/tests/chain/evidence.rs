//! Evidence that brings newer rosters: what is decided under the last of them, and what no roster
//! can bring about.

use crate::support::{NOW, Scene, approver, id, person_mut};
use twinlock_protocol::evidence::Evidence;
use twinlock_protocol::refusal::DenyReason;
use twinlock_protocol::roster::{
    Assurance, PersonKind, Roster, RosterEnvelope, ServiceOwner, Standing, Suspension, VerifiedRoster,
};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::softphone::{Fixture, evidence, person};
use twinlock_protocol::statement::{Decision, SignedStatement};
use twinlock_protocol::verify::{VerifiedEvidence, VerifiedRequest, verify_evidence, verify_request, verify_statement};
use twinlock_protocol::{Fixed, UnixTime};

/// A host that pins version 1, its request, and a gateway that is further.
struct Case {
    scene: Scene,
    pinned: VerifiedRoster,
    request: VerifiedRequest,
    rosters: Vec<RosterEnvelope>,
}

impl Case {
    fn new() -> Self {
        Self::from(Scene::new())
    }

    fn from(scene: Scene) -> Self {
        let pinned = scene.head.clone();
        let (request, _) = scene.fixture.verified_request(&pinned);
        Self { scene, pinned, request, rosters: Vec::new() }
    }

    fn step(mut self, signers: &[&str], edit: impl FnOnce(&mut Roster)) -> Self {
        self.rosters.push(self.scene.step(signers, edit).0);
        self
    }

    fn yes(&self, person: &str) -> SignedStatement {
        self.scene.fixture.phone(person).answer(&self.pinned, self.request.id(), Decision::Approve)
    }

    fn judge(&self, people: &[&str]) -> Result<VerifiedEvidence, DenyReason> {
        self.judge_at(people, NOW)
    }

    fn judge_at(&self, people: &[&str], now: UnixTime) -> Result<VerifiedEvidence, DenyReason> {
        let statements = people.iter().map(|person| self.yes(person)).collect();
        let evidence = Evidence { rosters: self.rosters.clone(), ..evidence(self.request.id(), statements) };
        verify_evidence(&self.pinned, &self.request, &evidence.to_bytes(), now)
    }

    fn reason(&self, people: &[&str]) -> DenyReason {
        self.judge(people).map(|_| ()).unwrap_err()
    }
}

/// Catalogue: I3 (control: inline)
#[test]
fn a_newer_roster_leaves_a_request_no_more_time_than_its_own_rule() {
    let left = |longest: u32| {
        let case = Case::new().step(&["bob", "carol"], |roster| roster.rules.max_approve_by_s = longest);
        case.judge(&["bob", "carol"]).unwrap().request_under_head().unwrap().approve_by_s()
    };
    let asked = Case::new().request.approve_by_s();
    assert_eq!((asked, left(600), left(asked), left(60)), (180, 180, 180, 60));
    // And no later one gives back what one took.
    let case = Case::new()
        .step(&["bob", "carol"], |roster| roster.rules.max_approve_by_s = 60)
        .step(&["bob", "carol"], |roster| roster.rules.max_approve_by_s = 600);
    let by_steps = case.request.under(&case.pinned.successor(&case.rosters[0]).unwrap()).unwrap();
    assert_eq!(by_steps.under(&case.scene.head).unwrap().approve_by_s(), 60);
}

fn suspended() -> Standing {
    Standing::Suspended(Suspension { by: None })
}

#[test]
fn evidence_brings_the_host_to_the_newest_roster() {
    let case = Case::new();
    let proof = case.judge(&["bob", "carol"]).unwrap();
    assert!(proof.head().is_none() && proof.request_under_head().is_none() && proof.head_envelope().is_none());
    let case = case.step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 600).step(&["dave"], |roster| {
        person_mut(roster, "erin").standing = Standing::Suspended(Suspension { by: Some(id("dave")) })
    });
    let proof = case.judge(&["bob", "carol"]).unwrap();
    assert_eq!(proof.head(), Some(&case.scene.head));
    assert_eq!(proof.head_envelope(), case.rosters.last());
    assert_eq!(proof.request_under_head().unwrap().decided_by(), case.scene.head.reference());
    assert_eq!(proof.ttl_s(), 600, "the newest rules shorten");
    // A rule that got wider since does not lengthen what was asked under the narrow one.
    let mut scene = Scene::new();
    scene.step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 300);
    let case = Case::from(scene).step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 3600);
    assert_eq!(case.judge(&["bob", "carol"]).unwrap().ttl_s(), 300);
}

/// Catalogue: A12 (control: evidence_brings_the_host_to_the_newest_roster)
#[test]
fn who_was_suspended_or_removed_after_the_approval_no_longer_counts() {
    let out = |name: &'static str| move |roster: &mut Roster| person_mut(roster, name).standing = suspended();
    let case = Case::new().step(&["carol", "dave"], out("bob"));
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverNotEligible);
    assert!(case.judge(&["carol", "dave"]).is_ok(), "two others do");
    let gone = |roster: &mut Roster| roster.persons.retain(|person| person.id.as_str() != "bob");
    let case = Case::new().step(&["carol", "dave"], gone);
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverUnknown);
    let case = Case::new().step(&["carol", "dave"], |roster| person_mut(roster, "bob").devices.clear());
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverUnknown);
    let case = Case::new().step(&["carol", "dave"], |roster| person_mut(roster, "bob").groups.clear());
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverNotEligible);
    // One alone is enough to suspend.
    let alone = Standing::Suspended(Suspension { by: Some(id("dave")) });
    let case = Case::new().step(&["dave"], |roster| person_mut(roster, "bob").standing = alone);
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverNotEligible);
    // And the same for who asks.
    let case = Case::new().step(&["carol", "dave"], out("alice"));
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::RequesterMayNotAsk);
    let case = Case::new().step(&["carol", "dave"], |roster| person_mut(roster, "alice").may_request = false);
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::RequesterMayNotAsk);
    let gone = |roster: &mut Roster| roster.persons.retain(|person| person.id.as_str() != "alice");
    let case = Case::new().step(&["carol", "dave"], gone);
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::RequesterUnknown);
}

/// Catalogue: A5 (control: evidence_brings_the_host_to_the_newest_roster)
#[test]
fn no_roster_makes_a_requester_an_approver_of_the_own_request() {
    // bob asks: excluded under the version of the request.
    let scene = Scene::new();
    let (mut request, key) = scene.fixture.request();
    request.requester.real.name = "bob".into();
    request.requester.login = None;
    request.requester.pam_ruser = None;
    let signed = scene.fixture.sign_request(&request, &key);
    let mut case = Case::from(scene);
    case.request = verify_request(&case.pinned, &signed, NOW).unwrap();
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverIsRequester);
    // The login moves to alice; bob stays excluded, and alice is too.
    let case = case.step(&["carol", "dave"], |roster| {
        person_mut(roster, "bob").logins.clear();
        person_mut(roster, "alice").logins.push("bob".into());
    });
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverIsRequester);
    let proof = case.judge(&["carol", "dave"]).unwrap();
    let requesters = proof.request_under_head().unwrap().requesters().iter().map(|id| id.as_str().to_owned());
    assert_eq!(requesters.collect::<Vec<_>>(), ["alice", "bob"]);
}

/// Catalogue: A5 (control: inline)
#[test]
fn whom_a_newer_roster_excludes_is_excluded_beside_those_of_the_older_one() {
    // alice's login becomes that of a service whose owner is bob: no approver from then on.
    let case = Case::new();
    assert!(case.judge(&["bob", "carol"]).is_ok(), "control");
    let case = case.step(&["carol", "dave"], |roster| {
        person_mut(roster, "alice").logins.clear();
        let mut service = person("deploy", &[], Vec::new());
        service.kind = PersonKind::Service(ServiceOwner { owner: id("bob") });
        service.logins = vec!["alice".into()];
        roster.persons.push(service);
    });
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverIsRequester);
    let under = case.judge(&["carol", "dave"]).unwrap();
    assert_eq!(under.request_under_head().unwrap().excluded(), [id("alice"), id("bob"), id("deploy")]);
}

/// Catalogue: E4 (control: inline)
#[test]
fn a_floor_or_a_list_of_models_that_came_since_holds_for_approvals() {
    let judge = |edit: fn(&mut Roster)| {
        let mut scene = Scene::with(&["erin", "frank"]);
        // erin's and frank's keys stay on their devices, of one model.
        for name in ["erin", "frank"] {
            let phone = scene.fixture.phones.iter_mut().find(|phone| phone.person.as_str() == name).unwrap();
            phone.device.backup_eligible = false;
            phone.device.aaguid = Fixed([5; 16]);
            let device = phone.device.clone();
            scene.step(&["bob", "carol"], |roster| person_mut(roster, name).devices = vec![device]);
        }
        Case::from(scene).step(&["bob", "carol"], edit)
    };
    let unchanged = judge(|roster| roster.rules.max_ttl_s = 900);
    assert!(unchanged.judge(&["bob", "erin"]).is_ok(), "control");
    let floor = judge(|roster| roster.rules.floor = Assurance::B);
    assert_eq!(floor.reason(&["bob", "erin"]), DenyReason::AssuranceTooLow);
    assert!(floor.judge(&["erin", "frank"]).is_ok());
    let models = judge(|roster| roster.rules.aaguids = vec![Fixed([5; 16])]);
    assert_eq!(models.reason(&["bob", "erin"]), DenyReason::ModelNotListed);
    assert!(models.judge(&["erin", "frank"]).is_ok());
    // Under a roster that says so from the start, one statement alone is refused too.
    let under = models.request.under(&models.scene.head).unwrap();
    let refused = verify_statement(&models.scene.head, &under, &models.yes("bob")).map(|_| ());
    assert_eq!(refused, Err(DenyReason::ModelNotListed));
}

/// Catalogue: I2, I1 (control: evidence_brings_the_host_to_the_newest_roster)
#[test]
fn rosters_that_do_not_follow_grant_nothing() {
    let honest = || Case::new().step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 600);
    let reason = |case: &Case| case.reason(&["bob", "carol"]);
    let mut case = honest().step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 300);
    assert!(case.judge(&["bob", "carol"]).is_ok(), "control");
    case.rosters.remove(0);
    assert_eq!(reason(&case), DenyReason::RosterChain, "skipped");
    let mut case = honest();
    let again = case.rosters[0].clone();
    case.rosters.push(again);
    assert_eq!(reason(&case), DenyReason::RosterChain, "the same twice");
    // The gateway's own roster, with approvers of its own, signed by them and by one of ours.
    let mut case = Case::new();
    let mallory = twinlock_protocol::softphone::Phone::new("mallory", "mallory-phone");
    let device = mallory.device.clone();
    case.scene.fixture.phones.push(mallory);
    let next = Fixture::next(&case.pinned, |roster| roster.persons.push(approver("mallory", device)));
    for signers in [&[][..], &["mallory"], &["bob"], &["bob", "mallory"]] {
        case.rosters = vec![case.scene.fixture.envelope(&case.pinned, &next, signers)];
        assert_eq!(case.reason(&["bob", "mallory"]), DenyReason::RosterChain, "{signers:?}");
    }
    case.rosters = vec![case.scene.fixture.envelope(&case.pinned, &next, &["bob", "carol"])];
    assert!(case.judge(&["bob", "mallory"]).is_ok(), "control: two of ours made mallory an approver");
}

/// Catalogue: I3, I4 (control: inline)
#[test]
fn a_withheld_roster_helps_until_the_pinned_one_expires_and_not_longer() {
    // The gateway keeps back the version that removes bob.
    let mut case = Case::new().step(&["carol", "dave"], |roster| {
        roster.persons.retain(|person| person.id.as_str() != "bob");
        roster.expires_at = roster.expires_at.plus(1000);
    });
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::ApproverUnknown);
    let end = case.pinned.expires_at;
    let sent = std::mem::take(&mut case.rosters);
    assert!(case.judge_at(&["bob", "carol"], UnixTime(end.0 - 1)).is_ok());
    assert_eq!(case.judge_at(&["bob", "carol"], end).map(|_| ()), Err(DenyReason::RosterExpired));
    // With it, the newest one's end counts.
    case.rosters = sent;
    assert!(case.judge_at(&["carol", "dave"], end).is_ok());
    let end = case.scene.head.expires_at;
    assert_eq!(case.judge_at(&["carol", "dave"], end).map(|_| ()), Err(DenyReason::RosterExpired));
}

/// Catalogue: I2 (control: evidence_brings_the_host_to_the_newest_roster)
#[test]
fn a_request_is_decided_only_by_rosters_of_its_own_chain() {
    let case = Case::new().step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 600);
    let under = case.request.under(&case.scene.head).unwrap();
    assert_eq!(under.under(&case.scene.head).unwrap(), under);
    assert_eq!(under.under(&case.pinned).map(|_| ()), Err(DenyReason::RosterMismatch), "never back");
    let foreign = Case::new().step(&["bob", "carol"], |roster| roster.rules.max_ttl_s = 600);
    assert_eq!(case.request.under(&foreign.scene.head).map(|_| ()), Err(DenyReason::RosterMismatch));
    // Taken by its digest, a roster does not say where it comes from.
    let pinned = VerifiedRoster::pinned(&case.rosters[0], &case.scene.head.digest()).unwrap();
    assert_eq!(case.request.under(&pinned).map(|_| ()), Err(DenyReason::RosterMismatch));
    let request = verify_request(&pinned, case.request.signed(), NOW).map(|_| ());
    assert_eq!(request, Err(DenyReason::RosterMismatch), "the request names the older version");
}

#[test]
fn a_host_that_was_removed_or_has_another_key_is_granted_nothing() {
    let (other, _) = SigningKey::generate().unwrap();
    let case = Case::new().step(&["bob", "carol"], |roster| roster.hosts[0].name = "web01.example.org".into());
    assert!(case.judge(&["bob", "carol"]).is_ok(), "control: another name is the same host");
    let case = Case::new().step(&["bob", "carol"], |roster| roster.hosts.clear());
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::HostUnknown);
    let case = Case::new().step(&["bob", "carol"], |roster| roster.hosts[0].host_key = other.public());
    assert_eq!(case.reason(&["bob", "carol"]), DenyReason::HostUnknown);
}
