//! The verifier against a gateway that lies in one way at a time. Every case starts from what is
//! granted by `two_persons_are_granted` and changes one thing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use twinlock_protocol::digest::Digest;
use twinlock_protocol::evidence::{Evidence, SignedRequest};
use twinlock_protocol::ids::{DeviceId, GroupName, PersonId, TerminalCode, Ticket};
use twinlock_protocol::request::{ElevationRequest, Login, RequestKind, Scope};
use twinlock_protocol::roster::{
    Assurance, BreakGlassKey, Gate, PersonKind, RosterEnvelope, RosterError, ServiceOwner, Standing, Suspension,
    UidEntry, VerifiedRoster, Which,
};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::softphone::{AssertionForm, Fixture, Phone, evidence, person, start};
use twinlock_protocol::statement::{
    APPROVAL_DOMAINS, ApprovalStatement, Decision, ROSTER_DOMAINS, RosterStatement, SignedStatement,
};
use twinlock_protocol::verify::{
    TwoPersonApproval, VerifiedAnswer, VerifiedApproval, VerifiedEvidence, VerifiedRequest, verify_evidence,
    verify_request, verify_start, verify_statement,
};
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime};

const NOW: UnixTime = UnixTime(1_800_000_000);

struct Scene {
    fixture: Fixture,
    roster: VerifiedRoster,
    request: VerifiedRequest,
}

fn scene() -> Scene {
    scene_with(|_| {})
}

fn scene_with(edit: impl FnOnce(&mut Fixture)) -> Scene {
    let mut fixture = Fixture::new(b"a CA", NOW);
    edit(&mut fixture);
    let (_, roster) = fixture.seal();
    let (request, _) = fixture.verified_request(&roster);
    Scene { fixture, roster, request }
}

impl Scene {
    fn yes(&self, person: &str) -> SignedStatement {
        self.fixture.phone(person).answer(&self.roster, self.request.id(), Decision::Approve)
    }

    fn no(&self, person: &str) -> SignedStatement {
        self.fixture.phone(person).answer(&self.roster, self.request.id(), Decision::Deny)
    }

    fn judge(&self, statements: Vec<SignedStatement>) -> Result<TwoPersonApproval, DenyReason> {
        verify_evidence(&self.roster, &self.request, &evidence(self.request.id(), statements).to_bytes(), NOW)
            .map(VerifiedEvidence::into_approval)
    }

    /// bob's statement after `edit`, signed by bob's keys, beside carol's honest one.
    fn judge_edited(&self, edit: impl FnOnce(&mut ApprovalStatement)) -> Result<TwoPersonApproval, DenyReason> {
        let bob = self.fixture.phone("bob");
        let mut statement = bob.statement(self.request.id(), Decision::Approve);
        edit(&mut statement);
        self.judge(vec![bob.sign(&self.roster, APPROVAL_DOMAINS, &statement.to_bytes()), self.yes("carol")])
    }

    /// bob's assertion after `edit`, signed by bob's keys, beside carol's honest one.
    fn judge_assertion(&self, edit: impl FnOnce(&mut AssertionForm)) -> Result<TwoPersonApproval, DenyReason> {
        let bob = self.fixture.phone("bob");
        let mut signed = self.yes("bob");
        let mut form = bob.honest(&self.roster, &APPROVAL_DOMAINS.challenge(&signed.statement.0));
        edit(&mut form);
        signed.assertion = bob.assert(&form);
        self.judge(vec![signed, self.yes("carol")])
    }
}

#[test]
fn two_persons_are_granted() {
    let scene = scene();
    let granted = scene.judge(vec![scene.yes("bob"), scene.yes("carol")]).unwrap();
    assert_eq!(granted.request(), scene.request.id());
    assert_eq!(granted.signers().each_ref().map(|signer| signer.person().as_str()), ["bob", "carol"]);
    assert_eq!((granted.ttl_s(), granted.scope()), (900, Scope::Command));
}

/// Catalogue: A1 (control: two_persons_are_granted)
#[test]
fn an_approval_counts_once_and_only_for_its_request() {
    let scene = scene();
    let bob = scene.yes("bob");
    assert_eq!(scene.judge(vec![bob.clone(), bob.clone()]), Err(DenyReason::SamePerson));
    // Identical argv, but the module's nonce differs.
    let (again, _) = scene.fixture.verified_request(&scene.roster);
    let replayed = evidence(again.id(), vec![bob, scene.yes("carol")]).to_bytes();
    assert_eq!(verify_evidence(&scene.roster, &again, &replayed, NOW), Err(DenyReason::EvidenceOtherRequest));
}

/// Catalogue: A2 (control: two_persons_are_granted)
#[test]
fn every_flipped_byte_of_a_statement_or_assertion_is_refused() {
    let scene = scene();
    let carol = scene.yes("carol");
    let bob = scene.yes("bob");
    let flip = |bytes: &Bytes, at: usize| {
        let mut bytes = bytes.0.clone();
        bytes[at] ^= 1;
        Bytes(bytes)
    };
    let refused = |signed: SignedStatement, what: &str, at: usize| {
        assert!(scene.judge(vec![signed, carol.clone()]).is_err(), "{what} byte {at}");
    };
    for at in 0..bob.statement.0.len() {
        refused(SignedStatement { statement: flip(&bob.statement, at), ..bob.clone() }, "statement", at);
    }
    for at in 0..bob.assertion.authenticator_data.0.len() {
        let mut signed = bob.clone();
        signed.assertion.authenticator_data = flip(&bob.assertion.authenticator_data, at);
        refused(signed, "authenticator data", at);
    }
    for at in 0..bob.assertion.client_data_json.0.len() {
        let mut signed = bob.clone();
        signed.assertion.client_data_json = flip(&bob.assertion.client_data_json, at);
        refused(signed, "client data", at);
    }
    for at in 0..bob.assertion.signature.0.len() {
        let mut signed = bob.clone();
        signed.assertion.signature = flip(&bob.assertion.signature, at);
        refused(signed, "signature", at);
    }
    for at in 0..64 {
        let mut signed = bob.clone();
        let mut bytes = signed.device_signature.unwrap().0;
        bytes[at] ^= 1;
        signed.device_signature = Some(Fixed(bytes));
        refused(signed, "device signature", at);
    }
}

/// Catalogue: A2 (control: two_persons_are_granted)
#[test]
fn every_field_of_a_request_is_under_both_signatures() {
    let scene = scene();
    let (request, key) = scene.fixture.request();
    let honest = scene.fixture.sign_request(&request, &key);
    assert!(verify_request(&scene.roster, &honest, NOW).is_ok());
    type Edit = (&'static str, fn(&mut ElevationRequest));
    let edits: &[Edit] = &[
        ("roster", |r| r.roster.digest.0.0[0] ^= 1),
        ("host", |r| r.host = twinlock_protocol::ids::HostId::new("web02").unwrap()),
        ("kind", |r| r.kind = RequestKind::Ahead),
        ("scope", |r| r.scope = Scope::Session),
        ("shell", |r| r.view.shell = Some("/bin/sh".into())),
        ("editor", |r| r.view.editor = Some("vi".into())),
        ("chdir", |r| r.view.chdir = Some("/".into())),
        ("chroot", |r| r.view.chroot = Some("/".into())),
        ("assignments", |r| r.view.assignments.push("A=b".into())),
        ("preserve env", |r| r.view.preserve_env = true),
        ("background", |r| r.view.background = true),
        ("parent", |r| r.process.parent += 1),
        ("code's hash", |r| r.terminal_code.hash.0.0[0] ^= 1),
        ("boot id", |r| r.boot_id = r.boot_id.replace('6', "7")),
        ("service", |r| r.service = "su".into()),
        ("login", |r| r.requester.login = None),
        ("real", |r| r.requester.real.uid = 1),
        ("ruser", |r| r.requester.pam_ruser = None),
        ("target", |r| r.target.user = "www-data".into()),
        ("target uid", |r| r.target.uid = 33),
        ("group", |r| r.target.group = Some("disk".into())),
        ("mode", |r| r.view.mode = twinlock_protocol::request::Mode::Shell),
        ("command at", |r| r.view.command_at = Some(2)),
        ("open ended", |r| r.view.open_ended = true),
        ("not understood", |r| r.view.not_understood = Some("x".into())),
        ("argv", |r| r.argv.push("x".into())),
        ("cwd", |r| r.cwd = None),
        ("tty", |r| r.tty = None),
        ("pid", |r| r.process.pid += 1),
        ("start time", |r| r.process.start_time += 1),
        ("session", |r| r.process.session += 1),
        ("stdin", |r| r.stdin = twinlock_protocol::request::StdinKind::Piped),
        ("reason", |r| r.reason = None),
        ("ttl", |r| r.ttl_s += 1),
        ("created at", |r| r.created_at = r.created_at.plus(1)),
        ("approve by", |r| r.approve_by_s += 1),
        ("nonce", |r| r.nonce.0[0] ^= 1),
        ("code", |r| r.terminal_code.salt.0[0] ^= 1),
    ];
    for (what, edit) in edits {
        let mut edited = request.clone();
        edit(&mut edited);
        let forged = SignedRequest { request: Bytes(edited.to_bytes()), ..honest.clone() };
        let refused = verify_request(&scene.roster, &forged, NOW).unwrap_err();
        // What is looked up before the signatures has its own name.
        let expected = match *what {
            "roster" => DenyReason::RosterMismatch,
            "host" => DenyReason::HostUnknown,
            "kind" | "scope" => DenyReason::KindUnsupported,
            _ => DenyReason::RequestSignature,
        };
        assert_eq!(refused, expected, "{what}");
    }
    // Each signature counts by itself, for its own purpose.
    for (what, forged) in [
        (
            "another session key's",
            SignedRequest {
                session_signature: scene.fixture.sign_request(&request, &scene.fixture.request().1).session_signature,
                ..honest.clone()
            },
        ),
        ("the host's twice", SignedRequest { session_signature: honest.host_signature, ..honest.clone() }),
        ("the session's twice", SignedRequest { host_signature: honest.session_signature, ..honest.clone() }),
        (
            "another request's",
            SignedRequest { host_signature: scene.request.signed().host_signature, ..honest.clone() },
        ),
    ] {
        assert_eq!(verify_request(&scene.roster, &forged, NOW), Err(DenyReason::RequestSignature), "{what}");
    }
    // Another session key signs for itself, but the host never signed it.
    let (_, other) = scene.fixture.request();
    let mut edited = request.clone();
    edited.session_key = other.public();
    let forged = SignedRequest { host_signature: honest.host_signature, ..scene.fixture.sign_request(&edited, &other) };
    assert_eq!(verify_request(&scene.roster, &forged, NOW), Err(DenyReason::RequestSignature));
}

/// Catalogue: A3 (control: two_persons_are_granted)
#[test]
fn one_person_with_two_devices_is_refused() {
    let scene = scene_with(|fixture| {
        let second = Phone::new("bob", "bob-tablet");
        fixture.roster.persons[1].devices.push(second.device.clone());
        fixture.phones.push(second);
    });
    let tablet = scene.fixture.phones[3].answer(&scene.roster, scene.request.id(), Decision::Approve);
    assert!(scene.judge(vec![tablet.clone(), scene.yes("carol")]).is_ok(), "control: the tablet counts as bob");
    assert_eq!(scene.judge(vec![scene.yes("bob"), tablet]), Err(DenyReason::SamePerson));
}

/// Catalogue: A3, A4 (control: inline)
#[test]
fn logins_names_and_hosts_that_differ_only_by_case_never_enter_a_roster() {
    type Edit = (&'static str, fn(&mut Fixture));
    let refused: &[Edit] = &[
        ("two persons, one login by case", |f| f.roster.persons[1].logins.push("ALICE".into())),
        ("one login twice", |f| f.roster.persons[1].logins.push("bob".into())),
        ("two persons, one name by case", |f| f.roster.persons[2].name = "Bob".into()),
        ("a login with an invisible character", |f| f.roster.persons[1].logins.push("alice\u{200b}".into())),
        ("a login with a space behind it", |f| f.roster.persons[1].logins.push("alice ".into())),
        ("a name with a space before it", |f| f.roster.persons[1].name = " carol".into()),
        ("a name with a mark too many", |f| f.roster.persons[1].name = format!("ก{}", "\u{e49}".repeat(4))),
        ("a target with an invisible character", |f| {
            f.roster.rules.gates[0].targets = Which::Of(vec!["root\u{2060}".into()]);
        }),
        ("two hosts, one name by case", |f| {
            let mut host = f.roster.hosts[0].clone();
            host.id = twinlock_protocol::ids::HostId::new("web02").unwrap();
            host.name = "WEB01".into();
            host.host_key = Phone::new("x", "x").device.credential_key;
            host.agent_key = Phone::new("x", "x").device.credential_key;
            f.roster.hosts.push(host);
        }),
        ("a compressed point", |f| f.roster.persons[1].devices[0].credential_key.0[0] = 2),
        ("a hybrid point", |f| f.roster.hosts[0].host_key.0[0] = 6),
    ];
    for (what, edit) in refused {
        let mut fixture = Fixture::new(b"a CA", NOW);
        edit(&mut fixture);
        assert!(matches!(fixture.roster.check(), Err(RosterError::Unsound(_))), "{what}");
    }
    let mut fixture = Fixture::new(b"a CA", NOW);
    fixture.roster.persons[1].logins.extend(["Bob".into(), "CORP\\bob".into()]);
    fixture.roster.persons[2].name = "สมชาย ใจดี".into();
    assert_eq!(fixture.roster.check(), Ok(()), "one person's login in two spellings, a Thai name");
}

/// Catalogue: A4 (control: two_persons_are_granted)
#[test]
fn two_persons_with_one_key_never_enter_a_roster() {
    for shared in ["credential", "passkey", "device key", "crosswise"] {
        let mut fixture = Fixture::new(b"a CA", NOW);
        let bob = fixture.phones[0].device.clone();
        let carol = &mut fixture.roster.persons[2].devices[0];
        match shared {
            "credential" => carol.credential_id = bob.credential_id,
            "passkey" => carol.credential_key = bob.credential_key,
            "device key" => carol.device_key = bob.device_key,
            _ => carol.device_key = Some(bob.credential_key),
        }
        assert!(matches!(fixture.roster.check(), Err(RosterError::Unsound(_))), "{shared}");
    }
    assert!(Fixture::new(b"a CA", NOW).roster.check().is_ok(), "control");
}

/// Catalogue: A5 (control: two_persons_are_granted)
#[test]
fn the_requester_under_any_name_cannot_approve() {
    let requesters = |login: &str, real: &str, ruser: &str| {
        let mut scene = scene_with(|fixture| fixture.roster.persons[1].logins.push("bob-admin".into()));
        let (mut request, key) = scene.fixture.request();
        request.requester.login = Some(Login { uid: 1, name: login.into() });
        request.requester.real.name = real.into();
        request.requester.pam_ruser = Some(ruser.into());
        let signed = scene.fixture.sign_request(&request, &key);
        scene.request = verify_request(&scene.roster, &signed, NOW).unwrap();
        scene.judge(vec![scene.yes("bob"), scene.yes("carol")])
    };
    assert!(requesters("alice", "alice", "alice").is_ok(), "control");
    for (login, real, ruser) in [
        ("bob", "alice", "alice"),
        ("bob-admin", "alice", "alice"),
        ("alice", "bob", "alice"),
        ("alice", "alice", "bob-admin"),
    ] {
        assert_eq!(requesters(login, real, ruser), Err(DenyReason::ApproverIsRequester), "{login} {real} {ruser}");
    }
}

/// Catalogue: A6 (control: two_persons_are_granted)
#[test]
fn after_su_the_login_person_is_still_the_requester() {
    let mut scene = scene();
    let (mut request, key) = scene.fixture.request();
    request.requester.login = Some(Login { uid: 1002, name: "bob".into() }); // bob logged in, then su alice
    scene.request = verify_request(&scene.roster, &scene.fixture.sign_request(&request, &key), NOW).unwrap();
    assert_eq!(scene.judge(vec![scene.yes("bob"), scene.yes("carol")]), Err(DenyReason::ApproverIsRequester));
    assert!(scene.judge(vec![scene.yes("dave"), scene.yes("carol")]).is_ok(), "control: two others");
}

#[test]
fn a_uid_entry_excludes_its_person_on_that_host_only() {
    let entry = |host: &str| {
        scene_with(|fixture| {
            let mut other = fixture.roster.hosts[0].clone();
            other.id = twinlock_protocol::ids::HostId::new("db01").unwrap();
            other.name = "db01".into();
            other.host_key = Phone::new("x", "x").device.credential_key;
            other.agent_key = Phone::new("x", "x").device.credential_key;
            fixture.roster.hosts.push(other);
            fixture.roster.uids.push(UidEntry {
                host: twinlock_protocol::ids::HostId::new(host).unwrap(),
                uid: 1001,
                person: PersonId::new("bob").unwrap(),
            });
        })
    };
    let here = entry("web01");
    assert_eq!(here.judge(vec![here.yes("bob"), here.yes("carol")]), Err(DenyReason::ApproverIsRequester));
    let elsewhere = entry("db01");
    assert!(elsewhere.judge(vec![elsewhere.yes("bob"), elsewhere.yes("carol")]).is_ok());
}

#[test]
fn unknown_and_forbidden_requesters_are_refused() {
    let ask = |edit: fn(&mut ElevationRequest), roster: fn(&mut Fixture)| {
        let mut fixture = Fixture::new(b"a CA", NOW);
        roster(&mut fixture);
        let (_, sealed) = fixture.seal();
        let (mut request, key) = fixture.request();
        edit(&mut request);
        verify_request(&sealed, &fixture.sign_request(&request, &key), NOW).map(|_| ())
    };
    assert_eq!(ask(|_| {}, |_| {}), Ok(()), "control");
    assert_eq!(ask(|r| r.requester.real.name = "mallory".into(), |_| {}), Err(DenyReason::RequesterUnknown));
    assert_eq!(ask(|r| r.requester.pam_ruser = Some("x".into()), |_| {}), Err(DenyReason::RequesterUnknown));
    assert_eq!(ask(|_| {}, |f| f.roster.persons[0].may_request = false), Err(DenyReason::RequesterMayNotAsk));
    assert_eq!(
        ask(|_| {}, |f| f.roster.persons[0].standing = Standing::Suspended(Suspension { by: None })),
        Err(DenyReason::RequesterMayNotAsk)
    );
    assert_eq!(ask(|r| r.kind = RequestKind::Ssh, |_| {}), Err(DenyReason::KindUnsupported));
    assert_eq!(ask(|r| r.kind = RequestKind::Ahead, |_| {}), Err(DenyReason::KindUnsupported));
    assert_eq!(ask(|r| r.scope = Scope::Session, |_| {}), Err(DenyReason::KindUnsupported));
    assert_eq!(ask(|r| r.roster.version = 2, |_| {}), Err(DenyReason::RosterMismatch));
    assert_eq!(ask(|r| r.approve_by_s = 300, |f| f.roster.rules.max_approve_by_s = 300), Ok(()), "control");
    assert_eq!(
        ask(|r| r.approve_by_s = 301, |f| f.roster.rules.max_approve_by_s = 300),
        Err(DenyReason::RequestMalformed)
    );
    assert_eq!(
        ask(|r| r.host = twinlock_protocol::ids::HostId::new("db01").unwrap(), |_| {}),
        Err(DenyReason::HostUnknown)
    );
    assert_eq!(
        ask(|_| {}, |f| f.roster.rules.gates[0].targets = Which::Of(vec!["www-data".into()])),
        Err(DenyReason::NoGate)
    );
}

/// Catalogue: I8 (control: two_persons_are_granted)
#[test]
fn the_owner_of_a_service_is_no_approver_for_it() {
    let mut scene = scene_with(|fixture| {
        let mut service = person("backup", &[], Vec::new());
        service.kind = PersonKind::Service(ServiceOwner { owner: PersonId::new("bob").unwrap() });
        fixture.roster.persons.push(service);
    });
    let (mut request, key) = scene.fixture.request();
    request.requester.login = None;
    request.requester.real.name = "backup".into();
    request.requester.pam_ruser = None;
    scene.request = verify_request(&scene.roster, &scene.fixture.sign_request(&request, &key), NOW).unwrap();
    assert_eq!(scene.judge(vec![scene.yes("bob"), scene.yes("carol")]), Err(DenyReason::ApproverIsRequester));
    assert!(scene.judge(vec![scene.yes("dave"), scene.yes("carol")]).is_ok(), "control");
    let ids = ["backup", "bob"].map(|id| PersonId::new(id).unwrap());
    assert_eq!(scene.request.excluded(), ids);
    assert_eq!(scene.request.requesters(), &ids[..1]);
}

/// Catalogue: A7 (control: two_persons_are_granted)
#[test]
fn one_denial_among_the_statements_refuses() {
    let scene = scene();
    for statements in [
        vec![scene.yes("bob"), scene.yes("carol"), scene.no("dave")],
        vec![scene.no("dave"), scene.yes("bob"), scene.yes("carol")],
        vec![scene.yes("bob"), scene.no("bob"), scene.yes("carol")],
    ] {
        assert_eq!(scene.judge(statements), Err(DenyReason::DenialPresent));
    }
}

/// Catalogue: A9 (control: two_persons_are_granted)
#[test]
fn every_webauthn_field_is_checked() {
    let scene = scene();
    assert!(scene.judge_assertion(|_| {}).is_ok(), "control");
    type Edit = (fn(&mut AssertionForm), DenyReason);
    let edits: &[Edit] = &[
        (|f| f.flags &= !0x04, DenyReason::AssertionUserVerification),
        (|f| f.flags &= !0x01, DenyReason::AssertionUserPresence),
        (|f| f.kind = "webauthn.create".into(), DenyReason::AssertionType),
        (|f| f.cross_origin = true, DenyReason::AssertionOrigin),
        (|f| f.top_origin = Some("https://evil.example".into()), DenyReason::AssertionOrigin),
        (|f| f.origin = "https://evil.example".into(), DenyReason::AssertionOrigin),
        (|f| f.origin.push(':'), DenyReason::AssertionOrigin),
        (|f| f.rp_id = "evil.example".into(), DenyReason::AssertionRpId),
        (|f| f.flags &= !0x18, DenyReason::AssertionBackup),
        (|f| f.flags &= !0x08, DenyReason::AssertionBackup),
        (|f| f.flags |= 0x40, DenyReason::AssertionMalformed),
        (|f| f.flags |= 0x80, DenyReason::AssertionMalformed),
        (|f| f.extra = vec![0xa0], DenyReason::AssertionMalformed),
        (|f| f.challenge.push('='), DenyReason::AssertionChallenge),
        (|f| f.challenge = Digest::plain(b"other").0.to_text(), DenyReason::AssertionChallenge),
        (|f| f.kind.push_str("\",\"type\":\"webauthn.get"), DenyReason::AssertionMalformed),
        (|f| f.flags |= 0x02, DenyReason::AssertionMalformed),
        (|f| f.flags |= 0x20, DenyReason::AssertionMalformed),
        (|f| f.origin.push_str("\",\"origin\":\"https://tl.example.org"), DenyReason::AssertionMalformed),
    ];
    for (number, (edit, reason)) in edits.iter().enumerate() {
        assert_eq!(scene.judge_assertion(edit), Err(*reason), "case {number}");
    }
}

/// Catalogue: A9 (control: two_persons_are_granted)
#[test]
fn another_algorithm_or_encoding_of_a_signature_is_refused() {
    let scene = scene();
    let bob = scene.yes("bob");
    let with = |signature: Vec<u8>| {
        let mut signed = bob.clone();
        signed.assertion.signature = Bytes(signature);
        scene.judge(vec![signed, scene.yes("carol")]).map(|_| ())
    };
    let der = &bob.assertion.signature.0;
    assert_eq!(with(der.clone()), Ok(()), "control");
    // r and s as WebCrypto writes them: the same numbers, not ES256's DER.
    let (r_length, mut fixed) = (usize::from(der[3]), Vec::new());
    for number in [&der[4..4 + r_length], &der[6 + r_length..]] {
        let significant = &number[number.len().saturating_sub(32)..];
        fixed.extend(std::iter::repeat_n(0, 32 - significant.len()));
        fixed.extend_from_slice(significant);
    }
    assert_eq!(fixed.len(), 64);
    for signature in [fixed, vec![], vec![0; 64], vec![0x30, 6, 2, 1, 0, 2, 1, 0], [der.as_slice(), &[0]].concat()] {
        assert_eq!(with(signature), Err(DenyReason::AssertionSignature));
    }
}

#[test]
fn client_data_that_is_no_object_is_refused() {
    let scene = scene();
    let honest = scene.yes("bob");
    let challenge = APPROVAL_DOMAINS.challenge(&honest.statement.0);
    let array = format!(r#"["webauthn.get","{}","https://tl.example.org",false,null]"#, challenge.0.to_text());
    for json in [array, " {}".into(), "null".into(), String::new()] {
        let mut signed = honest.clone();
        signed.assertion.client_data_json = Bytes(json.into_bytes());
        // Before the signature is looked at, which here is over other client data.
        assert_eq!(scene.judge(vec![signed, scene.yes("carol")]), Err(DenyReason::AssertionMalformed));
    }
}

/// Catalogue: A9 (control: two_persons_are_granted)
#[test]
fn a_device_bound_passkey_that_claims_to_be_synced_is_refused() {
    let scene = scene_with(|fixture| {
        fixture.phones[0].device.backup_eligible = false;
        fixture.roster.persons[1].devices[0].backup_eligible = false;
    });
    assert!(scene.judge_assertion(|_| {}).is_ok(), "control");
    assert_eq!(scene.judge_assertion(|f| f.flags |= 0x08), Err(DenyReason::AssertionBackup));
    assert_eq!(scene.judge_assertion(|f| f.flags |= 0x10), Err(DenyReason::AssertionBackup));
}

/// Catalogue: A10 (control: two_persons_are_granted)
#[test]
fn a_signed_denial_never_becomes_an_approval() {
    let scene = scene();
    let mut signed = scene.no("bob");
    let mut statement = ApprovalStatement::from_bytes(&signed.statement.0).unwrap();
    statement.decision = Decision::Approve;
    signed.statement = Bytes(statement.to_bytes());
    assert_eq!(scene.judge(vec![signed, scene.yes("carol")]), Err(DenyReason::AssertionChallenge));
    assert_eq!(scene.judge(vec![scene.no("bob"), scene.yes("carol")]), Err(DenyReason::DenialPresent));
}

/// Catalogue: A14 (control: two_persons_are_granted)
#[test]
fn the_life_of_a_grant_is_the_least_that_anybody_said() {
    let scene = scene();
    assert_eq!(scene.judge_edited(|s| s.ttl_s = 60).unwrap().ttl_s(), 60);
    assert_eq!(scene.judge_edited(|s| s.ttl_s = 3600).unwrap().ttl_s(), 900, "the request asked for 900");
    let capped = scene_with(|fixture| fixture.roster.rules.max_ttl_s = 30);
    assert_eq!(capped.judge(vec![capped.yes("bob"), capped.yes("carol")]).unwrap().ttl_s(), 30);
    assert_eq!(scene.judge_edited(|s| s.ttl_s = 3601).unwrap_err(), DenyReason::EvidenceMalformed);
}

#[test]
fn a_verified_answer_says_what_was_signed() {
    let scene = scene();
    let bob = scene.fixture.phone("bob");
    let answer = |decision, edit: fn(&mut ApprovalStatement)| {
        let mut statement = bob.statement(scene.request.id(), decision);
        edit(&mut statement);
        let signed = bob.sign(&scene.roster, APPROVAL_DOMAINS, &statement.to_bytes());
        verify_statement(&scene.roster, &scene.request, &signed).unwrap()
    };
    let VerifiedAnswer::Approval(approval) = answer(Decision::Approve, |s| s.ttl_s = 77) else { panic!("no approval") };
    assert_eq!(approval.ttl_s(), 77);
    assert_eq!(approval.signer().person().as_str(), "bob");
    let denied = answer(Decision::Deny, |s| s.deny_reason = Some("not on a Friday".into()));
    let VerifiedAnswer::Denial(denial) = denied else { panic!("no denial") };
    assert_eq!(denial.reason(), Some("not on a Friday"));
    let VerifiedAnswer::Denial(silent) = answer(Decision::Deny, |_| {}) else { panic!("no denial") };
    assert_eq!(silent.reason(), None);
}

#[test]
fn a_private_key_never_shows_itself() {
    let (key, _) = SigningKey::generate().unwrap();
    // Which key it is, and nothing else.
    assert_eq!(format!("{key:?}"), format!("the private half of {:?}", key.public()));
}

/// Catalogue: A18 (control: two_persons_are_granted)
#[test]
fn one_spelling_of_each_signed_value_is_accepted() {
    let scene = scene();
    let bob = scene.fixture.phone("bob");
    let honest = String::from_utf8(bob.statement(scene.request.id(), Decision::Approve).to_bytes()).unwrap();
    let judge = |text: String| {
        scene.judge(vec![bob.sign(&scene.roster, APPROVAL_DOMAINS, text.as_bytes()), scene.yes("carol")]).map(|_| ())
    };
    assert_eq!(judge(honest.clone()), Ok(()), "control");
    for text in [
        honest.replacen('{', "{ ", 1),
        honest.replacen("\"version\":1", "\"version\":1,\"version\":1", 1),
        honest.replacen("\"version\":1", "\"version\":1,\"extra\":1", 1),
        honest.replacen("\"version\":1", "\"version\":2", 1),
        honest.replacen("\"version\":1", "\"version\":1.0", 1),
        honest.replacen(",\"deny_reason\":null", "", 1),
        honest.replacen("\"bob\"", "\"b\\u006fb\"", 1),
        format!("{honest} "),
        format!("{honest}{honest}"),
        format!("\u{feff}{honest}"),
        honest.repeat(64),
        String::new(),
        "[".repeat(4000),
    ] {
        assert_eq!(judge(text.clone()), Err(DenyReason::EvidenceMalformed), "{text}");
    }
}

/// Catalogue: A19 (control: two_persons_are_granted)
#[test]
fn a_missing_or_superfluous_device_signature_is_refused() {
    let scene = scene();
    let mut signed = scene.yes("bob");
    signed.device_signature = None;
    assert_eq!(scene.judge(vec![signed, scene.yes("carol")]), Err(DenyReason::DeviceSignature));
    // By another person's device key.
    let mut signed = scene.yes("bob");
    signed.device_signature = scene.yes("carol").device_signature;
    assert_eq!(scene.judge(vec![signed, scene.yes("carol")]), Err(DenyReason::DeviceSignature));
    // Level D devices have none, and must not bring one.
    let level_d = scene_with(|fixture| {
        fixture.roster.rules.floor = Assurance::D;
        fixture.phones[0].device.device_key = None;
        fixture.roster.persons[1].devices[0].device_key = None;
    });
    assert!(level_d.judge(vec![level_d.yes("bob"), level_d.yes("carol")]).is_ok(), "control");
    let mut signed = level_d.yes("bob");
    signed.device_signature = level_d.yes("carol").device_signature;
    assert_eq!(level_d.judge(vec![signed, level_d.yes("carol")]), Err(DenyReason::DeviceSignature));
}

/// Catalogue: E4 (control: two_persons_are_granted)
#[test]
fn a_device_below_the_floor_is_refused() {
    let scene = scene_with(|fixture| {
        fixture.roster.rules.floor = Assurance::B;
        for person in &mut fixture.roster.persons[2..] {
            person.devices[0].backup_eligible = false;
        }
        for phone in &mut fixture.phones[1..] {
            phone.device.backup_eligible = false;
        }
    });
    assert!(scene.judge(vec![scene.yes("carol"), scene.yes("dave")]).is_ok(), "control");
    assert_eq!(scene.judge(vec![scene.yes("bob"), scene.yes("carol")]), Err(DenyReason::AssuranceTooLow));
}

#[test]
fn people_outside_the_gate_and_suspended_people_do_not_count() {
    let other_group = scene_with(|fixture| {
        fixture.roster.persons[3].groups = vec![GroupName::new("night").unwrap()];
        fixture.roster.rules.gates.push(Gate {
            hosts: Which::any(),
            targets: Which::any(),
            approvers: vec![GroupName::new("night").unwrap()],
        });
    });
    assert_eq!(
        other_group.judge(vec![other_group.yes("dave"), other_group.yes("carol")]),
        Err(DenyReason::ApproverNotEligible)
    );
    let suspended =
        scene_with(|fixture| fixture.roster.persons[3].standing = Standing::Suspended(Suspension { by: None }));
    assert_eq!(
        suspended.judge(vec![suspended.yes("dave"), suspended.yes("carol")]),
        Err(DenyReason::ApproverNotEligible)
    );
    assert!(suspended.judge(vec![suspended.yes("bob"), suspended.yes("carol")]).is_ok(), "control");
}

/// root by another name, or by a group, meets root's own gate: here only dave's group stands there.
#[test]
fn root_by_another_name_or_by_a_group_finds_no_laxer_gate() {
    let scene = scene_with(|fixture| {
        let group = |name: &str| vec![GroupName::new(name).unwrap()];
        let gate = |targets, name: &str| Gate { hosts: Which::any(), targets, approvers: group(name) };
        for person in &mut fixture.roster.persons[2..] {
            person.groups.extend(group("seniors"));
        }
        fixture.roster.rules.gates =
            vec![gate(Which::Of(vec!["root".into()]), "seniors"), gate(Which::any(), "approvers")];
    });
    let judge = |user: &str, uid: u32, group: Option<&str>, approvers: [&str; 2]| {
        let (mut request, key) = scene.fixture.request();
        request.target = twinlock_protocol::request::Target { user: user.into(), uid, group: group.map(Into::into) };
        let request = verify_request(&scene.roster, &scene.fixture.sign_request(&request, &key), NOW).unwrap();
        let answer = |person: &&str| scene.fixture.phone(person).answer(&scene.roster, request.id(), Decision::Approve);
        let bytes = evidence(request.id(), approvers.iter().map(answer).collect()).to_bytes();
        verify_evidence(&scene.roster, &request, &bytes, NOW).map(|_| ())
    };
    assert_eq!(judge("www-data", 33, None, ["bob", "carol"]), Ok(()), "control: the lax gate");
    for (user, uid, group) in [("root", 0, None), ("toor", 0, None), ("alice", 1001, Some("disk"))] {
        let refused = judge(user, uid, group, ["bob", "carol"]);
        assert_eq!(refused, Err(DenyReason::ApproverNotEligible), "{user} {group:?}");
        assert_eq!(judge(user, uid, group, ["dave", "carol"]), Ok(()), "control: {user} {group:?}");
    }
}

/// Who may approve was looked up in one roster; nothing is decided under another.
#[test]
fn a_request_is_judged_only_under_the_roster_that_verified_it() {
    let scene = scene();
    // The same people, devices and host.
    let mut other = scene.fixture.roster.clone();
    other.rules.max_ttl_s = 60;
    let signatures = scene.fixture.phones.iter().map(|phone| phone.sign_roster(&other)).collect();
    let envelope = RosterEnvelope::new(&other, signatures);
    let other = VerifiedRoster::genesis(&envelope, &envelope.digest).unwrap();
    let statements = || vec![scene.yes("bob"), scene.yes("carol")];
    let bytes = evidence(scene.request.id(), statements()).to_bytes();
    assert!(verify_evidence(&scene.roster, &scene.request, &bytes, NOW).is_ok(), "control");
    assert_eq!(verify_evidence(&other, &scene.request, &bytes, NOW), Err(DenyReason::RosterMismatch));
    let approval = |signed: &SignedStatement| match verify_statement(&scene.roster, &scene.request, signed) {
        Ok(VerifiedAnswer::Approval(approval)) => approval,
        other => panic!("{other:?}"),
    };
    let [one, two] = [approval(&scene.yes("bob")), approval(&scene.yes("carol"))];
    let joined = TwoPersonApproval::new(&other, &scene.request, one, two);
    assert_eq!(joined, Err(DenyReason::RosterMismatch));
    assert_eq!(verify_statement(&other, &scene.request, &scene.yes("bob")), Err(DenyReason::RosterMismatch));
}

#[test]
fn distinct_client_classes_are_enforced_when_the_roster_says_so() {
    let scene = scene_with(|fixture| {
        fixture.roster.rules.distinct_client_class = true;
        fixture.phones[2].device.client_class = twinlock_protocol::roster::ClientClass::Terminal;
        fixture.roster.persons[3].devices[0].client_class = twinlock_protocol::roster::ClientClass::Terminal;
    });
    assert_eq!(scene.judge(vec![scene.yes("bob"), scene.yes("carol")]), Err(DenyReason::SameClientClass));
    assert!(scene.judge(vec![scene.yes("bob"), scene.yes("dave")]).is_ok(), "control");
}

/// Catalogue: V1 (control: two_persons_are_granted)
#[test]
fn fabricated_approvals_are_refused() {
    let scene = scene();
    // Keys of the gateway's own making, under a person's name.
    let own = Phone::new("bob", "bob-phone");
    let fabricated = own.answer(&scene.roster, scene.request.id(), Decision::Approve);
    assert_eq!(scene.judge(vec![fabricated, scene.yes("carol")]), Err(DenyReason::ApproverUnknown));
    // The same, with the true credential id.
    let bob = scene.fixture.phone("bob");
    let statement = bob.statement(scene.request.id(), Decision::Approve);
    let fabricated = own.sign(&scene.roster, APPROVAL_DOMAINS, &statement.to_bytes());
    assert_eq!(scene.judge(vec![fabricated, scene.yes("carol")]), Err(DenyReason::AssertionSignature));
    // One person's true credential under another's name, or another device's.
    assert_eq!(
        scene.judge_edited(|s| s.person = PersonId::new("dave").unwrap()).unwrap_err(),
        DenyReason::ApproverUnknown
    );
    assert_eq!(
        scene.judge_edited(|s| s.device_id = DeviceId::new("dave-phone").unwrap()).unwrap_err(),
        DenyReason::ApproverUnknown
    );
    assert_eq!(scene.judge(vec![]), Err(DenyReason::TooFewApprovals));
    assert_eq!(scene.judge(vec![scene.yes("bob")]), Err(DenyReason::TooFewApprovals));
    // A signature for one purpose never counts for another.
    let crossed = bob.sign(&scene.roster, ROSTER_DOMAINS, &statement.to_bytes());
    assert_eq!(scene.judge(vec![crossed, scene.yes("carol")]), Err(DenyReason::AssertionChallenge));
}

/// Catalogue: V1 (control: a_sealed_roster_verifies_against_its_pin_only)
#[test]
fn a_self_made_roster_is_refused() {
    let fixture = Fixture::new(b"a CA", NOW);
    let (honest, _) = fixture.seal();
    let (own, _) = Fixture::new(b"a CA", NOW).seal();
    assert_eq!(VerifiedRoster::genesis(&own, &honest.digest), Err(RosterError::NotPinned));
    let relabelled = RosterEnvelope { digest: honest.digest, ..own };
    assert_eq!(VerifiedRoster::genesis(&relabelled, &honest.digest), Err(RosterError::Digest));
}

#[test]
fn a_sealed_roster_verifies_against_its_pin_only() {
    let fixture = Fixture::new(b"a CA", NOW);
    let (honest, _) = fixture.seal();
    assert!(VerifiedRoster::genesis(&honest, &honest.digest).is_ok());
    let read = RosterEnvelope::from_bytes(&honest.to_bytes()).unwrap();
    assert_eq!(read, honest);

    let mut unsigned = honest.clone();
    unsigned.signatures.pop();
    assert!(matches!(
        VerifiedRoster::genesis(&unsigned, &honest.digest),
        Err(RosterError::TooFewSigners { signed: 2, needed: 3 })
    ));
    let mut twice = honest.clone();
    twice.signatures[2] = twice.signatures[1].clone();
    assert!(matches!(VerifiedRoster::genesis(&twice, &honest.digest), Err(RosterError::TooFewSigners { .. })));
    let mut foreign = honest.clone();
    foreign.signatures[0] = Phone::new("bob", "bob-phone").sign_roster(&fixture.roster);
    assert!(matches!(VerifiedRoster::genesis(&foreign, &honest.digest), Err(RosterError::Signature(_))));
    let relabelled = RosterEnvelope { version: 2, ..honest.clone() };
    assert_eq!(
        VerifiedRoster::genesis(&relabelled, &honest.digest),
        Err(RosterError::Version { expected: 2, found: 1 })
    );
    // bob's true keys, over something else than this roster or in another's name.
    let bob = fixture.phone("bob");
    type Edit = (&'static str, fn(&mut RosterStatement));
    let edits: &[Edit] = &[
        ("another roster", |s| s.roster_digest = Digest::plain(b"another")),
        ("another version", |s| s.roster_version = 2),
        ("another person", |s| s.person = PersonId::new("carol").unwrap()),
        ("another device", |s| s.device_id = DeviceId::new("carol-phone").unwrap()),
        ("nothing", |_| {}),
    ];
    for (what, edit) in edits {
        let mut statement = RosterStatement::from_bytes(&honest.signatures[0].statement.0).unwrap();
        edit(&mut statement);
        let mut envelope = honest.clone();
        envelope.signatures[0] = bob.sign(&fixture.roster, ROSTER_DOMAINS, &statement.to_bytes());
        let verified = VerifiedRoster::genesis(&envelope, &honest.digest);
        match *what {
            "nothing" => assert!(verified.is_ok(), "control"),
            _ => assert!(matches!(verified, Err(RosterError::Signature(_))), "{what}: {verified:?}"),
        }
    }
    let mut flooded = honest.clone();
    flooded.signatures = vec![honest.signatures[0].clone(); 5];
    assert!(matches!(VerifiedRoster::genesis(&flooded, &honest.digest), Err(RosterError::Unsound(_))));
}

/// Catalogue: A1, V1 (control: two_persons_are_granted)
#[test]
fn evidence_of_another_shape_is_refused() {
    let scene = scene();
    let judge = |edit: fn(&mut Evidence, &Scene)| {
        let mut given = evidence(scene.request.id(), vec![scene.yes("bob"), scene.yes("carol")]);
        edit(&mut given, &scene);
        verify_evidence(&scene.roster, &scene.request, &given.to_bytes(), NOW).map(|_| ())
    };
    assert_eq!(judge(|_, _| {}), Ok(()), "control");
    // Good approvals of this request, handed over as those of another.
    assert_eq!(judge(|e, _| e.request_digest.0 = Digest::plain(b"another")), Err(DenyReason::EvidenceOtherRequest));
    assert_eq!(judge(|e, _| e.version = 2), Err(DenyReason::EvidenceMalformed));
    assert_eq!(judge(|e, s| e.statements.push(s.yes("dave"))), Err(DenyReason::EvidenceMalformed), "three");
    let count = |n: usize| Evidence::from_bytes(&evidence(scene.request.id(), vec![scene.yes("bob"); n]).to_bytes());
    assert!(count(16).is_ok() && count(17).is_err(), "the limit is told before any is verified");
    let roster = judge(|e, s| e.rosters.push(s.fixture.seal().0));
    assert_eq!(roster, Err(DenyReason::RosterChain), "a roster that does not follow");
}

/// Catalogue: A18 (control: two_persons_are_granted)
#[test]
fn statements_out_of_bounds_are_refused() {
    let scene = scene();
    let refused = |edit: fn(&mut ApprovalStatement)| scene.judge_edited(edit).map(|_| ()).unwrap_err();
    assert_eq!(refused(|s| s.scope = Scope::Session), DenyReason::KindUnsupported);
    assert_eq!(refused(|s| s.ttl_s = 0), DenyReason::EvidenceMalformed);
    assert_eq!(refused(|s| s.version = 2), DenyReason::EvidenceMalformed);
    assert_eq!(refused(|s| s.deny_reason = Some("why not".into())), DenyReason::EvidenceMalformed);
    let denied = |reason: usize| {
        scene.judge_edited(|s| {
            s.decision = Decision::Deny;
            s.deny_reason = Some("x".repeat(reason));
        })
    };
    assert_eq!(denied(400), Err(DenyReason::DenialPresent), "control");
    assert_eq!(denied(401), Err(DenyReason::EvidenceMalformed));
}

/// Catalogue: I4 (control: two_persons_are_granted)
#[test]
fn an_expired_roster_grants_nothing() {
    let scene = scene();
    let end = scene.roster.expires_at;
    let signed = scene.request.signed();
    assert_eq!(verify_request(&scene.roster, signed, end), Err(DenyReason::RosterExpired));
    assert!(verify_request(&scene.roster, signed, UnixTime(end.0 - 1)).is_ok(), "control");
    let bytes = evidence(scene.request.id(), vec![scene.yes("bob"), scene.yes("carol")]).to_bytes();
    assert_eq!(verify_evidence(&scene.roster, &scene.request, &bytes, end), Err(DenyReason::RosterExpired));
}

#[test]
fn an_unsound_roster_does_not_decode() {
    type Edit = (&'static str, fn(&mut Fixture));
    let edits: &[Edit] = &[
        ("quorum one", |f| f.roster.rules.quorum = 1),
        ("quorum three is not granted by version 1", |f| f.roster.rules.quorum = 3),
        ("too few approvers", |f| f.roster.persons[1..3].iter_mut().for_each(|p| p.groups.clear())),
        ("two persons, one id", |f| f.roster.persons[1].id = f.roster.persons[2].id.clone()),
        ("two persons, one login", |f| f.roster.persons[0].logins.push("bob".into())),
        ("address as rp id", |f| f.roster.rp_id = "127.0.0.1".into()),
        ("http origin", |f| f.roster.origins = vec!["http://tl.example.org".into()]),
        ("origin elsewhere", |f| f.roster.origins = vec!["https://evil.example".into()]),
        ("origin that only ends alike", |f| f.roster.origins = vec!["https://eviltl.example.org".into()]),
        ("origin with a path", |f| f.roster.origins.push("https://tl.example.org/".into())),
        ("too long a life", |f| f.roster.expires_at = NOW.plus(367 * 86_400)),
        ("already over", |f| f.roster.expires_at = NOW),
        ("ttl above an hour", |f| f.roster.rules.max_ttl_s = 3601),
        ("approve-by above ten minutes", |f| f.roster.rules.max_approve_by_s = 601),
        ("host name in two scripts", |f| f.roster.hosts[0].name = "wеb01".into()),
        ("name with a line break", |f| f.roster.persons[1].name = "bob\nroot".into()),
        ("no gate", |f| f.roster.rules.gates.clear()),
        ("no CA", |f| f.roster.cas.clear()),
        ("version 2", |f| f.roster.version = 2),
        ("two devices, one id", |f| {
            f.roster.persons[2].devices[0].id = f.roster.persons[1].devices[0].id.clone();
        }),
        ("a device key for break-glass", |f| {
            let person = f.roster.persons[1].id.clone();
            let key = f.roster.persons[1].devices[0].device_key.unwrap();
            f.roster.break_glass_keys.push(BreakGlassKey { person, key });
        }),
        ("a break-glass key of nobody", |f| {
            let (key, _) = SigningKey::generate().unwrap();
            let person = PersonId::new("erin").unwrap();
            f.roster.break_glass_keys.push(BreakGlassKey { person, key: key.public() });
        }),
        ("one break-glass key of two persons", |f| {
            let (key, _) = SigningKey::generate().unwrap();
            for at in [1, 2] {
                let person = f.roster.persons[at].id.clone();
                f.roster.break_glass_keys.push(BreakGlassKey { person, key: key.public() });
            }
        }),
        ("a break-glass key of a service", |f| {
            let (key, _) = SigningKey::generate().unwrap();
            let owner = f.roster.persons[1].id.clone();
            let mut robot = f.roster.persons[0].clone();
            (robot.id, robot.name) = (PersonId::new("robot").unwrap(), "robot".into());
            robot.logins = vec!["robot".into()];
            robot.kind = PersonKind::Service(ServiceOwner { owner });
            f.roster.break_glass_keys.push(BreakGlassKey { person: robot.id.clone(), key: key.public() });
            f.roster.persons.push(robot);
        }),
        ("no break-glass delay", |f| f.roster.rules.break_glass.delay_s = 9),
        ("a break-glass delay above an hour", |f| f.roster.rules.break_glass.delay_s = 3601),
        ("a break-glass life above a quarter of an hour", |f| f.roster.rules.break_glass.max_ttl_s = 901),
        ("a break-glass life below a minute", |f| f.roster.rules.break_glass.max_ttl_s = 59),
        ("a host key for audit", |f| f.roster.audit_keys.push(f.roster.hosts[0].host_key)),
        ("two CAs, one id", |f| f.roster.cas.push(f.roster.cas[0].clone())),
        ("one uid, two persons", |f| {
            for id in ["alice", "bob"] {
                let host = f.roster.hosts[0].id.clone();
                f.roster.uids.push(UidEntry { host, uid: 7, person: PersonId::new(id).unwrap() });
            }
        }),
        ("a moment that not every reader reads", |f| {
            f.roster.expires_at = UnixTime(1 << 53);
            f.roster.issued_at = UnixTime((1 << 53) - 1);
        }),
        ("too many groups", |f| f.roster.persons[0].groups = vec![GroupName::new("a").unwrap(); 257]),
        ("too many targets", |f| f.roster.rules.gates[0].targets = Which::Of(vec!["root".into(); 257])),
        ("too many approver groups", |f| {
            let group = f.roster.rules.gates[0].approvers[0].clone();
            f.roster.rules.gates[0].approvers = vec![group; 257];
        }),
        ("too many gates", |f| f.roster.rules.gates = vec![f.roster.rules.gates[0].clone(); 257]),
        ("a service owned by a service", |f| {
            let service = |id: &str, owner: &str| twinlock_protocol::roster::Person {
                kind: PersonKind::Service(ServiceOwner { owner: PersonId::new(owner).unwrap() }),
                ..person(id, &[], Vec::new())
            };
            f.roster.persons.extend([service("one", "two"), service("two", "alice")]);
        }),
        ("a service with a device", |f| {
            f.roster.persons[1].kind = PersonKind::Service(ServiceOwner { owner: PersonId::new("alice").unwrap() });
        }),
        ("a uid of nobody", |f| {
            f.roster.uids.push(UidEntry {
                host: twinlock_protocol::ids::HostId::new("web01").unwrap(),
                uid: 1,
                person: PersonId::new("mallory").unwrap(),
            });
        }),
        ("host key is agent key", |f| f.roster.hosts[0].agent_key = f.roster.hosts[0].host_key),
    ];
    for (what, edit) in edits {
        let mut fixture = Fixture::new(b"a CA", NOW);
        assert!(fixture.roster.check().is_ok(), "control");
        edit(&mut fixture);
        assert!(fixture.roster.check().is_err(), "{what}");
        assert!(twinlock_protocol::roster::Roster::from_bytes(&fixture.roster.to_bytes()).is_err(), "{what}");
    }
}

/// Catalogue: A18 (control: inline)
#[test]
fn requests_out_of_bounds_are_refused() {
    let fixture = Fixture::new(b"a CA", NOW);
    let (request, _) = fixture.request();
    assert!(ElevationRequest::from_bytes(&request.to_bytes()).is_ok(), "control");
    type Edit = (&'static str, fn(&mut ElevationRequest));
    let edits: &[Edit] = &[
        ("version", |r| r.version = 2),
        ("no argv", |r| r.argv.clear()),
        ("too many words", |r| r.argv = vec!["x".into(); 1025]),
        ("too many bytes", |r| r.argv.push("x".repeat(65 * 1024).as_str().into())),
        ("command outside argv", |r| r.view.command_at = Some(4)),
        ("empty target", |r| r.target.user.clear()),
        ("long reason", |r| r.reason = Some("x".repeat(401))),
        ("no life", |r| r.ttl_s = 0),
        ("too long a life", |r| r.ttl_s = 3601),
        ("too long a wait", |r| r.approve_by_s = 601),
        ("boot id", |r| r.boot_id = "x".repeat(36)),
        ("boot id of another form", |r| r.boot_id = "-".repeat(36)),
        ("an integer that not every reader reads", |r| r.process.start_time = 1 << 53),
        ("a moment that not every reader reads", |r| r.created_at = UnixTime(u64::MAX)),
        ("a roster version that not every reader reads", |r| r.roster.version = 1 << 53),
    ];
    for (what, edit) in edits {
        let mut edited = request.clone();
        edit(&mut edited);
        assert!(ElevationRequest::from_bytes(&edited.to_bytes()).is_err(), "{what}");
    }
    // An argument that is not UTF-8 travels byte for byte; text never as base64.
    let mut raw = request.clone();
    raw.argv.push(b"\xff\xfe"[..].into());
    let bytes = raw.to_bytes();
    assert_eq!(ElevationRequest::from_bytes(&bytes).unwrap(), raw);
    let spelt = String::from_utf8(request.to_bytes()).unwrap().replace("\"nginx\"", "{\"b64\":\"bmdpbng\"}");
    assert!(ElevationRequest::from_bytes(spelt.as_bytes()).is_err());
}

#[test]
fn a_start_is_the_session_keys_word_for_this_grant_in_this_boot() {
    let fixture = Fixture::new(b"a CA", NOW);
    let (_, roster) = fixture.seal();
    let (request, key) = fixture.verified_request(&roster);
    let signed = start(request.request(), request.id(), &key, 1000);
    assert!(verify_start(request.request(), request.id(), &signed).is_ok());
    let (other, other_key) = fixture.verified_request(&roster);
    assert_eq!(verify_start(other.request(), other.id(), &signed), Err(DenyReason::EvidenceOtherRequest));
    let forged = start(request.request(), request.id(), &other_key, 1000);
    assert_eq!(verify_start(request.request(), request.id(), &forged), Err(DenyReason::RequestSignature));
    let mut elsewhere = request.request().clone();
    elsewhere.target.user = "www-data".into();
    let forged = start(&elsewhere, request.id(), &key, 1000);
    assert_eq!(verify_start(request.request(), request.id(), &forged), Err(DenyReason::EvidenceOtherRequest));
}

#[test]
fn an_approval_for_one_request_does_not_join_with_one_for_another() {
    let scene = scene();
    let (other, _) = scene.fixture.verified_request(&scene.roster);
    let approval = |request: &VerifiedRequest, person: &str| -> VerifiedApproval {
        let signed = scene.fixture.phone(person).answer(&scene.roster, request.id(), Decision::Approve);
        match verify_statement(&scene.roster, request, &signed).unwrap() {
            VerifiedAnswer::Approval(approval) => approval,
            VerifiedAnswer::Denial(_) => panic!("an approval"),
        }
    };
    let join = |a, b| TwoPersonApproval::new(&scene.roster, &scene.request, a, b).map(|_| ());
    assert_eq!(join(approval(&scene.request, "bob"), approval(&scene.request, "carol")), Ok(()), "control");
    assert_eq!(join(approval(&scene.request, "bob"), approval(&other, "carol")), Err(DenyReason::EvidenceOtherRequest));
}

#[test]
fn tickets_and_codes_have_one_spelling() {
    let ticket = Ticket::from_random(&[7; 16]);
    assert_eq!(Ticket::new(ticket.as_str()).unwrap(), ticket);
    for text in
        ["", "A", &ticket.as_str().to_lowercase(), &format!("{}=", ticket.as_str()), &"1".repeat(26), &"B".repeat(26)]
    {
        assert!(Ticket::new(text).is_none(), "{text}");
    }
    assert_eq!(TerminalCode::new("418 302").unwrap().to_string(), "418 302");
    for text in ["41830", "4183022", "41830a", "４１８３０２"] {
        assert!(TerminalCode::new(text).is_none(), "{text}");
    }
}

/// The table of refusals is complete and speaks to people.
#[test]
fn every_refusal_has_a_name_a_line_and_a_hint() {
    let mut names: Vec<&str> = DenyReason::ALL.iter().map(|reason| reason.row().name).collect();
    for reason in DenyReason::ALL {
        let row = reason.row();
        assert!(!row.line.is_empty() && !row.hint.is_empty() && !row.line.ends_with('.'), "{reason:?}");
        assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{}\"", row.name));
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), DenyReason::ALL.len());
}
