//! The ceremony with phones in software: everybody enrols and signs, and one lie at a time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use twinlock_protocol::digest::Domain;
use twinlock_protocol::ids::{GroupName, HostId, PersonId};
use twinlock_protocol::roster::{Assurance, Host, Roster, RosterEnvelope, VerifiedRoster};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::softphone::{AssertionForm, Phone};
use twinlock_protocol::statement::{ROSTER_DOMAINS, RosterKind, RosterStatement, SignedStatement};
use twinlock_protocol::{Bytes, DenyReason, UnixTime, limits};

use super::ceremony::{Ceremony, CeremonyError, DeviceInfo, INVITE_VALID_S, Step};
use super::compose::{Participant, Plan, Role};
use super::passkey::{DeviceKey, Registrar, Registration};

pub const NOW: UnixTime = UnixTime(1_800_000_000);
const RP_ID: &str = "tl.example.org";
pub const ORIGIN: &str = "https://tl.example.org:8443";

fn participant(id: &str, role: Role) -> Participant {
    Participant {
        id: PersonId::new(id).unwrap(),
        name: format!("{id} Example"),
        logins: vec![id.to_owned()],
        role,
        groups: Vec::new(),
        owner: None,
    }
}

pub fn plan() -> Plan {
    let (ca, _) = twinlock_certs::issue::Ca::generate("test CA", NOW, 1).unwrap();
    Plan {
        rp_id: RP_ID.into(),
        origin: ORIGIN.into(),
        participants: vec![
            participant("alice", Role::Requester),
            participant("bob", Role::Approver),
            participant("carol", Role::Both),
        ],
        hosts: vec![Host {
            id: HostId::new("web01").unwrap(),
            name: "web01".into(),
            groups: vec![GroupName::new("web").unwrap()],
            host_key: SigningKey::generate().unwrap().0.public(),
            agent_key: SigningKey::generate().unwrap().0.public(),
        }],
        ca: ca.certificate().to_vec(),
        floor: Assurance::C,
        max_ttl_s: limits::MAX_TTL_S,
        life_s: limits::DEFAULT_ROSTER_LIFE_S,
    }
}

/// A ceremony, with the phone and the invite of each person.
struct Room {
    ceremony: Ceremony,
    seats: Vec<(Phone, String)>,
}

impl Room {
    fn new() -> Self {
        Self::of(plan(), &[])
    }

    fn of(plan: Plan, roots: &[Vec<u8>]) -> Self {
        let registrar = Registrar::new(RP_ID, ORIGIN, roots).unwrap();
        let (ceremony, invites) = Ceremony::begin(plan, registrar, NOW).unwrap();
        let seat = |invite: &super::ceremony::Invite| {
            let id = invite.person.id.as_str();
            (Phone::new(id, &format!("{id}-1")), invite.secret.as_str().to_owned())
        };
        Self { seats: invites.iter().map(seat).collect(), ceremony }
    }

    /// Opens the link: the attempt and the challenge.
    fn open(&mut self, seat: usize) -> (String, Vec<u8>) {
        let opened = self.ceremony.open(&self.seats[seat].1, NOW).unwrap();
        assert_eq!(opened.state, Step::Enrol);
        let creation = serde_json::to_value(opened.creation.unwrap()).unwrap();
        let challenge = serde_json::from_value::<Bytes>(creation["challenge"].clone()).unwrap();
        (opened.enrol, challenge.0)
    }

    /// Enrols with one thing changed.
    fn enrol_with(&mut self, seat: usize, lie: impl FnOnce(&mut AssertionForm)) -> Result<DeviceInfo, DenyReason> {
        let (attempt, challenge) = self.open(seat);
        let phone = &self.seats[seat].0;
        let mut form = phone.honest_registration(RP_ID, ORIGIN, &challenge);
        lie(&mut form);
        let (registration, device_key) = (registration(phone, &form), device_key(phone, &challenge));
        let label = phone.device.label.clone();
        self.ceremony.enrol(&attempt, &registration, Some(&device_key), &label, NOW).map(|(_, device)| device)
    }

    fn enrol(&mut self, seat: usize) -> DeviceInfo {
        self.enrol_with(seat, |_| ()).unwrap()
    }

    fn everybody(mut self) -> Self {
        for seat in 0..self.seats.len() {
            self.enrol(seat);
        }
        self.ceremony.close(NOW).unwrap();
        self
    }

    /// The statement that the page of this seat signs, and the roster that it shows.
    fn statement(&self, seat: usize) -> (RosterStatement, Roster) {
        let status = self.ceremony.status(&self.seats[seat].1, NOW).unwrap();
        assert_eq!(status.state, Step::Sign);
        let roster = status.roster.unwrap();
        assert_eq!(Roster::digest_of(&roster.bytes.0), roster.digest);
        let view = status.statement.unwrap();
        let statement = RosterStatement {
            kind: RosterKind::Roster,
            version: 1,
            roster_version: view.roster_version,
            roster_digest: view.roster_digest,
            person: view.person,
            credential_id: view.credential_id,
            device_id: view.device_id,
            gateway_salt: view.gateway_salt,
        };
        (statement, Roster::from_bytes(&roster.bytes.0).unwrap())
    }

    fn sign(&mut self, seat: usize) -> Result<Option<RosterEnvelope>, DenyReason> {
        let (statement, roster) = self.statement(seat);
        let signed = self.seats[seat].0.sign(&roster, ROSTER_DOMAINS, &statement.to_bytes());
        self.give(seat, signed)
    }

    fn give(&mut self, seat: usize, signed: SignedStatement) -> Result<Option<RosterEnvelope>, DenyReason> {
        let invite = self.seats[seat].1.clone();
        self.ceremony.sign(&invite, signed, NOW).map(|(_, envelope)| envelope)
    }
}

/// A ceremony in which everybody has enrolled and nobody has closed the list.
pub fn enrolled_by_all() -> Ceremony {
    let mut room = Room::new();
    for seat in 0..room.seats.len() {
        room.enrol(seat);
    }
    room.ceremony
}

fn registration(phone: &Phone, form: &AssertionForm) -> Registration {
    let (data, client_data_json) = phone.registration(form);
    Registration {
        credential_id: phone.device.credential_id.0.clone(),
        attestation_object: Bytes(Phone::unattested(&data)),
        client_data_json: Bytes(client_data_json),
    }
}

fn device_key(phone: &Phone, challenge: &[u8]) -> DeviceKey {
    DeviceKey { key: phone.device.device_key.unwrap(), proof: phone.device_sign(Domain::Claim, challenge) }
}

#[test]
fn everybody_enrols_and_signs_and_the_roster_verifies() {
    let mut room = Room::new();
    assert_eq!(room.seats.len(), 2, "who only asks has no device");
    assert_eq!(room.enrol(0).assurance, Assurance::C);
    assert!(!room.ceremony.everybody_enrolled());
    assert!(matches!(room.ceremony.close(NOW), Err(CeremonyError::NotEverybody)));
    room.enrol(1);
    let digest = room.ceremony.close(NOW).unwrap();
    assert!(matches!(room.ceremony.close(NOW), Err(CeremonyError::Closed)));
    assert_eq!(room.sign(0).unwrap(), None);
    let envelope = room.sign(1).unwrap().unwrap();
    let verified = VerifiedRoster::genesis(&envelope, &digest).unwrap();
    room.ceremony.sealed();
    let status = room.ceremony.status(&room.seats[0].1, NOW).unwrap();
    assert_eq!(status.state, Step::Sealed);

    // The roster says what was planned and enrolled, no more.
    let roster = verified.roster();
    assert_eq!((roster.version, roster.rules.quorum, roster.rules.floor), (1, 2, Assurance::C));
    let devices: Vec<_> = roster.persons.iter().map(|person| person.devices.clone()).collect();
    assert_eq!(devices[0], []);
    for (seat, person) in [(0, 1), (1, 2)] {
        let (given, made) = (&devices[person][0], &room.seats[seat].0.device);
        assert_eq!(given.credential_id, made.credential_id);
        assert_eq!((given.credential_key, given.device_key), (made.credential_key, made.device_key));
        assert!(given.backup_eligible && !given.attested);
    }
    assert_eq!(roster.persons.iter().map(|one| one.may_request).collect::<Vec<_>>(), [true, false, true]);
}

/// Catalogue: E2 (control: everybody_enrols_and_signs_and_the_roster_verifies)
#[test]
fn a_link_that_is_wrong_or_over_opens_nothing() {
    let mut room = Room::new();
    let good = room.seats[0].1.clone();
    let refused = |room: &mut Room, invite: &str, now| room.ceremony.open(invite, now).err();
    assert_eq!(refused(&mut room, "", NOW), Some(DenyReason::InviteInvalid));
    assert_eq!(refused(&mut room, &"A".repeat(26), NOW), Some(DenyReason::InviteInvalid));
    assert_eq!(refused(&mut room, &good.to_lowercase(), NOW), Some(DenyReason::InviteInvalid));
    assert_eq!(refused(&mut room, &good, NOW.plus(INVITE_VALID_S)), Some(DenyReason::InviteInvalid));
    assert_eq!(refused(&mut room, &good, NOW.plus(INVITE_VALID_S - 1)), None);
}

/// Catalogue: E2 (control: inline)
#[test]
fn a_link_enrols_one_device_however_often_it_is_opened() {
    let mut room = Room::new();
    let (first, first_challenge) = room.open(0);
    let (second, second_challenge) = room.open(0);
    let enrol = |room: &mut Room, phone: &Phone, attempt: &str, challenge: &[u8]| {
        let form = phone.honest_registration(RP_ID, ORIGIN, challenge);
        room.ceremony
            .enrol(attempt, &registration(phone, &form), Some(&device_key(phone, challenge)), "phone", NOW)
            .map(|_| ())
    };
    let (mine, theirs) = (Phone::new("bob", "bob-1"), Phone::new("mallory", "mallory-1"));
    assert_eq!(enrol(&mut room, &mine, &first, &first_challenge), Ok(()));
    // The same attempt again, the one opened in parallel, and the link itself.
    assert_eq!(enrol(&mut room, &mine, &first, &first_challenge), Err(DenyReason::InviteInvalid));
    assert_eq!(enrol(&mut room, &theirs, &second, &second_challenge), Err(DenyReason::InviteInvalid));
    let again = room.ceremony.open(&room.seats[0].1.clone(), NOW).unwrap();
    assert_eq!((again.state, again.creation.is_none()), (Step::Wait, true));
}

/// Catalogue: E2 (control: inline)
#[test]
fn an_attempt_ends_with_its_time_and_with_its_link() {
    let mut room = Room::new();
    let (attempt, challenge) = room.open(0);
    let phone = Phone::new("bob", "bob-1");
    let form = phone.honest_registration(RP_ID, ORIGIN, &challenge);
    let late = NOW.plus(300);
    let given = registration(&phone, &form);
    let key = device_key(&phone, &challenge);
    let enrolled = room.ceremony.enrol(&attempt, &given, Some(&key), "phone", late).map(|_| ());
    assert_eq!(enrolled, Err(DenyReason::InviteInvalid));
    room.enrol(0);
}

#[test]
fn links_that_are_opened_again_and_again_are_limited() {
    let mut room = Room::new();
    for _ in 0..8 {
        room.open(0);
    }
    let invite = room.seats[0].1.clone();
    assert_eq!(room.ceremony.open(&invite, NOW).err(), Some(DenyReason::RateLimited));
    assert!(room.ceremony.open(&invite, NOW.plus(301)).is_ok());
}

/// Catalogue: W6 (control: everybody_enrols_and_signs_and_the_roster_verifies)
#[test]
fn a_registration_for_something_else_is_refused() {
    type Lie = fn(&mut AssertionForm);
    let lies: [(&str, Lie); 9] = [
        ("type", |form| form.kind = "webauthn.get".into()),
        ("challenge", |form| form.challenge = "AAAA".into()),
        ("sibling host", |form| form.origin = "https://evil.tl.example.org:8443".into()),
        ("another port", |form| form.origin = "https://tl.example.org".into()),
        ("framed", |form| form.cross_origin = true),
        ("framed by another", |form| form.top_origin = Some("https://evil.example".into())),
        ("another RP", |form| form.rp_id = "example.org".into()),
        ("UP=0", |form| form.flags = 0x5c),
        ("UV=0", |form| form.flags = 0x59),
    ];
    for (what, lie) in lies {
        assert_eq!(Room::new().enrol_with(0, lie), Err(DenyReason::EnrolmentRefused), "{what}");
    }
    // BS without BE, and no credential data at all.
    assert!(Room::new().enrol_with(0, |form| form.flags = 0x55).is_err());
    assert!(Room::new().enrol_with(0, |form| form.flags = 0x1d).is_err());
}

/// Catalogue: E4 (control: inline)
#[test]
fn a_device_below_the_floor_is_refused_at_enrolment() {
    let at = |floor, backup_eligible, with_key: bool| {
        let mut room = Room::of(Plan { floor, ..plan() }, &[]);
        let (attempt, challenge) = room.open(0);
        let mut phone = Phone::new("bob", "bob-1");
        phone.device.backup_eligible = backup_eligible;
        let form = phone.honest_registration(RP_ID, ORIGIN, &challenge);
        let key = device_key(&phone, &challenge);
        let key = with_key.then_some(&key);
        room.ceremony
            .enrol(&attempt, &registration(&phone, &form), key, "phone", NOW)
            .map(|(_, device)| device.assurance)
    };
    assert_eq!(at(Assurance::D, true, false), Ok(Assurance::D));
    assert_eq!(at(Assurance::C, true, false), Err(DenyReason::EnrolmentRefused), "no device key");
    assert_eq!(at(Assurance::C, true, true), Ok(Assurance::C));
    assert_eq!(at(Assurance::B, true, true), Err(DenyReason::EnrolmentRefused), "synced");
    assert_eq!(at(Assurance::B, false, true), Ok(Assurance::B));
    assert_eq!(at(Assurance::A, false, true), Err(DenyReason::EnrolmentRefused), "not attested");
}

#[test]
fn one_phone_cannot_be_two_people() {
    let mut room = Room::new();
    room.enrol(0);
    // Carol's browser gives Bob's passkey, Bob's device key, or both.
    let bobs = Phone::new("bob", "bob-1");
    let clone = |room: &mut Room, change: &dyn Fn(&mut Phone, &Phone)| {
        let (attempt, challenge) = room.open(1);
        let mut carols = Phone::new("carol", "carol-1");
        change(&mut carols, &room.seats[0].0);
        let form = carols.honest_registration(RP_ID, ORIGIN, &challenge);
        let signer = if carols.device.device_key == bobs.device.device_key { &bobs } else { &carols };
        let key = device_key(signer, &challenge);
        room.ceremony.enrol(&attempt, &registration(&carols, &form), Some(&key), "phone", NOW).map(|_| ())
    };
    let same_id = clone(&mut room, &|mine, his| mine.device.credential_id = his.device.credential_id.clone());
    assert_eq!(same_id, Err(DenyReason::EnrolmentRefused));
    let same_key = clone(&mut room, &|mine, his| mine.device.credential_key = his.device.credential_key);
    assert_eq!(same_key, Err(DenyReason::EnrolmentRefused));
    let (attempt, challenge) = room.open(1);
    let carols = Phone::new("carol", "carol-1");
    let form = carols.honest_registration(RP_ID, ORIGIN, &challenge);
    let key = device_key(&room.seats[0].0, &challenge);
    let same_device = room.ceremony.enrol(&attempt, &registration(&carols, &form), Some(&key), "phone", NOW);
    assert_eq!(same_device.map(|_| ()), Err(DenyReason::EnrolmentRefused));
    assert_eq!(clone(&mut room, &|_, _| ()), Ok(()));
}

#[test]
fn a_device_key_must_prove_possession() {
    let mut room = Room::new();
    let (attempt, challenge) = room.open(0);
    let phone = Phone::new("bob", "bob-1");
    let form = phone.honest_registration(RP_ID, ORIGIN, &challenge);
    let key = DeviceKey { proof: phone.device_sign(Domain::Device, &challenge), ..device_key(&phone, &challenge) };
    let refused = room.ceremony.enrol(&attempt, &registration(&phone, &form), Some(&key), "phone", NOW);
    assert_eq!(refused.map(|_| ()), Err(DenyReason::EnrolmentRefused));
}

#[test]
fn a_label_that_is_not_one_plain_line_is_refused() {
    for label in ["", "  ", "a\nb", "\u{202e}phone", "\u{1b}[2J", &"x".repeat(101)] {
        let mut room = Room::new();
        let (attempt, challenge) = room.open(0);
        let phone = Phone::new("bob", "bob-1");
        let given = registration(&phone, &phone.honest_registration(RP_ID, ORIGIN, &challenge));
        let key = device_key(&phone, &challenge);
        let refused = room.ceremony.enrol(&attempt, &given, Some(&key), label, NOW).map(|_| ());
        assert_eq!(refused, Err(DenyReason::BadInput), "{label:?}");
    }
}

/// Catalogue: E1 (control: everybody_enrols_and_signs_and_the_roster_verifies)
#[test]
fn a_stolen_link_used_first_seals_nothing_without_its_owner() {
    let mut room = Room::new();
    // Mallory opens Bob's link first and enrols; Bob's own browser then can't.
    room.enrol(0);
    let bobs = room.ceremony.open(&room.seats[0].1.clone(), NOW).unwrap();
    assert_eq!((bobs.state, bobs.creation.is_none()), (Step::Wait, true));
    room.enrol(1);
    room.ceremony.close(NOW).unwrap();
    // Bob's page gets a roster that names another key than his browser holds: it signs nothing, and
    // his browser's signature would not count.
    let (statement, roster) = room.statement(0);
    let own = Phone::new("bob", "bob-1");
    let signed = own.sign(&roster, ROSTER_DOMAINS, &statement.to_bytes());
    assert_eq!(room.give(0, signed), Err(DenyReason::AssertionSignature));
    assert_eq!(room.sign(1).unwrap(), None, "one signature seals nothing");
}

/// Catalogue: I1 (control: everybody_enrols_and_signs_and_the_roster_verifies)
#[test]
fn a_signature_by_another_person_or_over_another_roster_does_not_count() {
    let mut room = Room::new().everybody();
    let (mine, roster) = room.statement(0);
    let (theirs, _) = room.statement(1);
    // Carol's signature on Bob's link, twice the same person, another digest, version or salt.
    let carols = room.seats[1].0.sign(&roster, ROSTER_DOMAINS, &theirs.to_bytes());
    assert_eq!(room.give(0, carols.clone()), Err(DenyReason::ApproverUnknown));
    let forged = |room: &mut Room, change: &dyn Fn(&mut RosterStatement)| {
        let mut statement = mine.clone();
        change(&mut statement);
        let signed = room.seats[0].0.sign(&roster, ROSTER_DOMAINS, &statement.to_bytes());
        room.give(0, signed)
    };
    let other_digest = twinlock_protocol::Digest::plain(b"another roster");
    assert_eq!(forged(&mut room, &|s| s.roster_digest = other_digest), Err(DenyReason::EvidenceOtherRequest));
    assert_eq!(forged(&mut room, &|s| s.roster_version = 2), Err(DenyReason::EvidenceOtherRequest));
    let other_salt = twinlock_protocol::Fixed([0; 32]);
    assert_eq!(forged(&mut room, &|s| s.gateway_salt = other_salt), Err(DenyReason::ApproverUnknown));
    // As an approval's signature it means nothing here.
    let approval = twinlock_protocol::statement::APPROVAL_DOMAINS;
    let signed = room.seats[0].0.sign(&roster, approval, &mine.to_bytes());
    assert_eq!(room.give(0, signed), Err(DenyReason::AssertionChallenge));
    assert_eq!(room.give(1, carols), Ok(None));
    assert!(room.sign(0).unwrap().is_some());
}

#[test]
fn a_failed_write_takes_the_last_signature_back() {
    let mut room = Room::new().everybody();
    room.sign(0).unwrap();
    assert!(room.sign(1).unwrap().is_some());
    let carol = PersonId::new("carol").unwrap();
    room.ceremony.take_back(&carol);
    assert!(room.sign(1).unwrap().is_some(), "and can be given again");
}

#[test]
fn nobody_signs_before_the_list_is_closed_and_nobody_enrols_after() {
    let mut room = Room::new();
    let (late, challenge) = room.open(0);
    room.enrol(0);
    let (statement, roster) = {
        let other = Room::new().everybody();
        other.statement(0)
    };
    let signed = room.seats[0].0.sign(&roster, ROSTER_DOMAINS, &statement.to_bytes());
    assert_eq!(room.give(0, signed), Err(DenyReason::NotPending));
    room.enrol(1);
    room.ceremony.close(NOW).unwrap();
    let phone = Phone::new("mallory", "mallory-1");
    let given = registration(&phone, &phone.honest_registration(RP_ID, ORIGIN, &challenge));
    let key = device_key(&phone, &challenge);
    assert_eq!(
        room.ceremony.enrol(&late, &given, Some(&key), "phone", NOW).map(|_| ()),
        Err(DenyReason::InviteInvalid)
    );
}

#[test]
fn a_ceremony_needs_two_people_with_devices() {
    let mut short = plan();
    short.participants.retain(|one| one.id.as_str() != "carol");
    let registrar = Registrar::new(RP_ID, ORIGIN, &[]).unwrap();
    assert!(matches!(Ceremony::begin(short, registrar, NOW), Err(CeremonyError::TooFewApprovers)));
}

#[test]
fn the_plan_warns_of_approvers_who_could_never_be_elevated() {
    let advice = plan().advice().join("\n");
    assert!(advice.contains("fewer than three approvers") && advice.contains(RP_ID), "{advice}");
    let mut three = plan();
    three.participants.push(participant("dave", Role::Approver));
    assert!(!three.advice().join("\n").contains("fewer than three approvers"));
}

/// An authenticator's maker: a root, and an attestation certificate under it (WebAuthn §8.2.1).
struct Maker {
    root: Vec<u8>,
    leaf: Vec<u8>,
    key: rcgen::KeyPair,
}

impl Maker {
    fn new(name: &str, aaguid: [u8; 16]) -> Self {
        use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair};
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, name);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let root_certificate = root.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CountryName, "SE");
        leaf.distinguished_name.push(DnType::OrganizationName, "A maker");
        leaf.distinguished_name.push(DnType::OrganizationalUnitName, "Authenticator Attestation");
        leaf.distinguished_name.push(DnType::CommonName, "A maker's key");
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.use_authority_key_identifier_extension = true;
        // id-fido-gen-ce-aaguid: an OCTET STRING of the AAGUID.
        let content = [&[4, 16], aaguid.as_slice()].concat();
        let id = [1, 3, 6, 1, 4, 1, 45724, 1, 1, 4];
        leaf.custom_extensions.push(CustomExtension::from_oid_content(&id, content));
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        Self { root: root_certificate.pem().into_bytes(), leaf: leaf.der().to_vec(), key }
    }

    /// A packed attestation (WebAuthn §8.2) for this authenticator data, signed over `signed`.
    fn attest(&self, data: &[u8], signed: &[u8], client_data_json: &[u8]) -> Vec<u8> {
        use serde_cbor_2::Value;
        let mut message = signed.to_vec();
        message.extend_from_slice(twinlock_protocol::Digest::plain(client_data_json).as_bytes());
        let signature = rcgen::SigningKey::sign(&self.key, &message).unwrap();
        let text = |text: &str| Value::Text(text.to_owned());
        let statement = Value::Map(
            [
                (text("alg"), Value::Integer(-7)),
                (text("sig"), Value::Bytes(signature)),
                (text("x5c"), Value::Array(vec![Value::Bytes(self.leaf.clone())])),
            ]
            .into(),
        );
        let object = [
            (text("fmt"), text("packed")),
            (text("attStmt"), statement),
            (text("authData"), Value::Bytes(data.to_vec())),
        ];
        serde_cbor_2::to_vec(&Value::Map(object.into())).unwrap()
    }
}

/// Enrols a device-bound phone that this maker attests, where these roots are configured.
fn enrol_attested(maker: &Maker, roots: &[Vec<u8>], floor: Assurance, spoil: bool) -> Result<Assurance, DenyReason> {
    let mut room = Room::of(Plan { floor, ..plan() }, roots);
    let (attempt, challenge) = room.open(0);
    let mut phone = Phone::new("bob", "bob-1");
    phone.device.backup_eligible = false;
    phone.device.aaguid = twinlock_protocol::Fixed([0x5a; 16]);
    let (data, client_data_json) = phone.registration(&phone.honest_registration(RP_ID, ORIGIN, &challenge));
    let signed = if spoil { [data.as_slice(), &[0]].concat() } else { data.clone() };
    let attestation_object = maker.attest(&data, &signed, &client_data_json);
    let given = Registration {
        credential_id: phone.device.credential_id.0.clone(),
        attestation_object: Bytes(attestation_object),
        client_data_json: Bytes(client_data_json),
    };
    let key = device_key(&phone, &challenge);
    room.ceremony.enrol(&attempt, &given, Some(&key), "key", NOW).map(|(_, device)| device.assurance)
}

/// Catalogue: E4 (control: inline)
#[test]
fn only_a_chain_to_a_configured_root_counts_as_attested() {
    let (maker, other) = (Maker::new("one", [0x5a; 16]), Maker::new("another", [0x5a; 16]));
    let with = |roots: &[&Maker], floor| {
        let roots: Vec<Vec<u8>> = roots.iter().map(|maker| maker.root.clone()).collect();
        enrol_attested(&maker, &roots, floor, false)
    };
    assert_eq!(with(&[&maker], Assurance::A), Ok(Assurance::A));
    assert_eq!(with(&[&other, &maker], Assurance::A), Ok(Assurance::A));
    assert_eq!(with(&[&other], Assurance::B), Ok(Assurance::B), "a chain to nowhere is no attestation");
    assert_eq!(with(&[&other], Assurance::A), Err(DenyReason::EnrolmentRefused));
    assert_eq!(with(&[], Assurance::B), Ok(Assurance::B), "nothing is configured");
    assert_eq!(with(&[], Assurance::A), Err(DenyReason::EnrolmentRefused));
    // An attestation that lies is worse than none.
    let spoilt = enrol_attested(&maker, std::slice::from_ref(&maker.root), Assurance::C, true);
    assert_eq!(spoilt, Err(DenyReason::EnrolmentRefused));
    let another_model = Maker::new("one", [0x11; 16]);
    let roots = [another_model.root.clone()];
    assert_eq!(enrol_attested(&another_model, &roots, Assurance::C, false), Err(DenyReason::EnrolmentRefused));
}

#[test]
fn attestation_roots_that_are_no_certificates_are_refused_at_once() {
    for pem in [&b""[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"no pem"] {
        assert!(Registrar::new(RP_ID, ORIGIN, &[pem.to_vec()]).is_err());
    }
    assert!(Registrar::new(RP_ID, ORIGIN, &[Maker::new("one", [0; 16]).root]).is_ok());
}
