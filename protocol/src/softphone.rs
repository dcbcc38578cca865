//! A software authenticator and fixtures, for tests only (feature `softphone`). A [`Phone`] signs
//! as a browser would, and can be told to sign wrongly in one way at a time; [`Fixture`] is a small
//! roster (alice asks; bob, carol and dave approve; host web01) with every private key at hand.

#![allow(clippy::expect_used)] // test support: a failure here is a failed test

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use crate::UnixTime;
use crate::break_glass::{self, Answer, Purpose};
use crate::bytes::{Bytes, Fixed};
use crate::digest::{Digest, Domain};
use crate::evidence::{Authority, Certified, Evidence, EvidenceFormat, SignedRequest, SignedStart};
use crate::ids::{CaId, CertSerial, CredentialId, DeviceId, GroupName, HostId, PersonId, RequestId, TerminalCode};
use crate::request::{
    Arg, CodeCommitment, ElevationRequest, Login, Mode, ProcessFacts, RequestFormat, RequestKind, Requester, RosterRef,
    Scope, StdinKind, Target, VERSION, View,
};
use crate::roster::{
    Assurance, BreakGlassKey, BreakGlassRules, Ca, ClientClass, Device, FORMAT_VERSION, Gate, Host, HumanMark, Person,
    PersonKind, Roster, RosterEnvelope, RosterFormat, Rules, Standing, VerifiedRoster, Which,
};
use crate::signature::{PublicKey, SigningKey};
use crate::statement::{
    APPROVAL_DOMAINS, ApprovalKind, ApprovalStatement, Assertion, Channel, Decision, InboxMark, POSSESSION_DOMAINS,
    PossessionKind, PossessionStatement, ROSTER_DOMAINS, RosterKind, RosterStatement, SignedStatement, StartKind,
    StartStatement, StatementDomains,
};
use crate::verify::{VerifiedRequest, verify_request};

/// Random bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// What a [`Phone`] puts into an assertion; [`AssertionForm::honest`] is what a browser does.
#[derive(Clone, Debug)]
pub struct AssertionForm {
    /// `type`.
    pub kind: String,
    /// `origin`.
    pub origin: String,
    /// `challenge`, as text.
    pub challenge: String,
    /// `crossOrigin`.
    pub cross_origin: bool,
    /// `topOrigin`.
    pub top_origin: Option<String>,
    /// Hashed into authenticator data.
    pub rp_id: String,
    /// The flags byte (WebAuthn §6.1): UP 0x01, UV 0x04, BE 0x08, BS 0x10, AT 0x40, ED 0x80.
    pub flags: u8,
    /// After the 37 bytes.
    pub extra: Vec<u8>,
}

/// One enrolled device: a passkey and a device key, in memory.
pub struct Phone {
    /// Its entry in the roster.
    pub device: Device,
    /// Its owner.
    pub person: PersonId,
    passkey: EcdsaKeyPair,
    passkey_pkcs8: Vec<u8>,
    device_key: SigningKey,
    device_key_pkcs8: Vec<u8>,
}

impl Phone {
    /// A new phone of `person`, with a synced passkey (BE=1) and a device key: assurance C.
    #[must_use]
    pub fn new(person: &str, device: &str) -> Self {
        let random_source = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random_source).expect("key");
        let passkey = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random_source)
            .expect("a key that was just made");
        let (device_key, device_key_pkcs8) = SigningKey::generate().expect("key");
        let credential_key = Fixed(passkey.public_key().as_ref().try_into().expect("65 bytes"));
        Self {
            device: Device {
                id: DeviceId::new(device).expect("device id"),
                label: format!("{person}'s phone"),
                client_class: ClientClass::Page,
                credential_id: CredentialId(Bytes(random::<16>().to_vec())),
                credential_key,
                backup_eligible: true,
                aaguid: Fixed([0; 16]),
                attested: false,
                device_key: Some(device_key.public()),
            },
            person: PersonId::new(person).expect("person id"),
            passkey,
            passkey_pkcs8: pkcs8.as_ref().to_vec(),
            device_key,
            device_key_pkcs8,
        }
    }

    /// Its private keys, passkey first, PKCS #8: for a phone that outlives a process.
    #[must_use]
    pub fn private_keys(&self) -> [&[u8]; 2] {
        [&self.passkey_pkcs8, &self.device_key_pkcs8]
    }

    /// A phone from what [`Phone::private_keys`] gave.
    #[must_use]
    pub fn restored(person: PersonId, device: Device, [passkey, device_key]: [&[u8]; 2]) -> Self {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, passkey, &SystemRandom::new());
        Self {
            device,
            person,
            passkey: pair.expect("a passkey"),
            passkey_pkcs8: passkey.to_vec(),
            device_key: SigningKey::from_pkcs8(device_key).expect("a device key"),
            device_key_pkcs8: device_key.to_vec(),
        }
    }

    /// The same phone after its browser dropped the device key and made another: the passkey stays.
    #[must_use]
    pub fn forgetful(&self) -> Self {
        let (key, device_key_pkcs8) = SigningKey::generate().expect("key");
        let device = Device { device_key: Some(key.public()), ..self.device.clone() };
        Self::restored(self.person.clone(), device, [&self.passkey_pkcs8, &device_key_pkcs8])
    }

    /// The form of an honest assertion on this device.
    #[must_use]
    pub fn honest(&self, roster: &Roster, challenge: &Digest) -> AssertionForm {
        AssertionForm {
            kind: "webauthn.get".into(),
            origin: roster.origins.first().expect("an origin").clone(),
            challenge: challenge.0.to_text(),
            cross_origin: false,
            top_origin: None,
            rp_id: roster.rp_id.clone(),
            flags: if self.device.backup_eligible { 0x1d } else { 0x05 },
            extra: Vec::new(),
        }
    }

    /// Signs an assertion of this form.
    #[must_use]
    pub fn assert(&self, form: &AssertionForm) -> Assertion {
        let top_origin = form.top_origin.as_ref().map(|top| format!(r#","topOrigin":"{top}""#)).unwrap_or_default();
        let client_data = format!(
            r#"{{"type":"{}","challenge":"{}","origin":"{}","crossOrigin":{}{top_origin},"other_keys_can_be_added_here":"do not compare clientDataJSON against a template"}}"#,
            form.kind, form.challenge, form.origin, form.cross_origin
        );
        let mut data = Digest::plain(form.rp_id.as_bytes()).as_bytes().to_vec();
        data.push(form.flags);
        data.extend_from_slice(&[0; 4]);
        data.extend_from_slice(&form.extra);
        let signature = self.assertion_signature(&data, client_data.as_bytes());
        Assertion { authenticator_data: Bytes(data), client_data_json: Bytes(client_data.into_bytes()), signature }
    }

    /// The passkey's signature over any authenticator data and client data (WebAuthn §6.3.3).
    #[must_use]
    pub fn assertion_signature(&self, authenticator_data: &[u8], client_data: &[u8]) -> Bytes {
        let mut message = authenticator_data.to_vec();
        message.extend_from_slice(Digest::plain(client_data).as_bytes());
        let signature = self.passkey.sign(&SystemRandom::new(), &message).expect("signature");
        Bytes(signature.as_ref().to_vec())
    }

    /// The form of an honest registration: what a browser puts into `navigator.credentials.create`.
    #[must_use]
    pub fn honest_registration(&self, rp_id: &str, origin: &str, challenge: &[u8]) -> AssertionForm {
        AssertionForm {
            kind: "webauthn.create".into(),
            origin: origin.into(),
            challenge: Bytes(challenge.to_vec()).to_text(),
            cross_origin: false,
            top_origin: None,
            rp_id: rp_id.into(),
            flags: if self.device.backup_eligible { 0x5d } else { 0x45 },
            extra: Vec::new(),
        }
    }

    /// A registration of this form: authenticator data with the attested credential data, and the
    /// client data JSON.
    #[must_use]
    pub fn registration(&self, form: &AssertionForm) -> (Vec<u8>, Vec<u8>) {
        let Assertion { authenticator_data, client_data_json, .. } = self.assert(form);
        let mut data = authenticator_data.0;
        data.extend_from_slice(&self.device.aaguid.0);
        let id = &self.device.credential_id.0.0;
        data.extend_from_slice(&u16::try_from(id.len()).expect("a short id").to_be_bytes());
        data.extend_from_slice(id);
        // COSE_Key { kty EC2, alg ES256, crv P-256, x, y } (RFC 9052 §7).
        let (x, y) = self.device.credential_key.0.get(1..).expect("65 bytes").split_at(32);
        data.extend_from_slice(&[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend_from_slice(x);
        data.extend_from_slice(&[0x22, 0x58, 0x20]);
        data.extend_from_slice(y);
        (data, client_data_json.0)
    }

    /// The attestation object (WebAuthn §8.7, format "none") around authenticator data.
    #[must_use]
    pub fn unattested(authenticator_data: &[u8]) -> Vec<u8> {
        let mut object = vec![0xa3, 0x63];
        object.extend_from_slice(b"fmt");
        object.push(0x64);
        object.extend_from_slice(b"none");
        object.push(0x67);
        object.extend_from_slice(b"attStmt");
        object.extend_from_slice(&[0xa0, 0x68]);
        object.extend_from_slice(b"authData");
        object.push(0x59);
        object.extend_from_slice(&u16::try_from(authenticator_data.len()).expect("short data").to_be_bytes());
        object.extend_from_slice(authenticator_data);
        object
    }

    /// Signs `tag ‖ payload` with the device key.
    #[must_use]
    pub fn device_sign(&self, domain: Domain, payload: &[u8]) -> Fixed<64> {
        self.device_key.sign(&domain.message(payload)).expect("signature")
    }

    /// Signs a statement's bytes with both keys, as the page does.
    #[must_use]
    pub fn sign(&self, roster: &Roster, domains: StatementDomains, statement: &[u8]) -> SignedStatement {
        let form = self.honest(roster, &domains.challenge(statement));
        SignedStatement {
            statement: Bytes(statement.to_vec()),
            assertion: self.assert(&form),
            device_signature: self
                .device
                .device_key
                .map(|_| self.device_key.sign(&domains.device_message(statement)).expect("signature")),
        }
    }

    /// The statement of an honest answer, by inbox.
    #[must_use]
    pub fn statement(&self, request: RequestId, decision: Decision) -> ApprovalStatement {
        ApprovalStatement {
            kind: ApprovalKind::Approval,
            version: 1,
            request_digest: request,
            decision,
            person: self.person.clone(),
            credential_id: self.device.credential_id.clone(),
            device_id: self.device.id.clone(),
            ttl_s: 900,
            scope: Scope::Command,
            channel: Channel::Inbox(InboxMark {}),
            gateway_salt: Fixed(random()),
            deny_reason: None,
        }
    }

    /// A signed honest answer.
    #[must_use]
    pub fn answer(&self, roster: &Roster, request: RequestId, decision: Decision) -> SignedStatement {
        self.sign(roster, APPROVAL_DOMAINS, &self.statement(request, decision).to_bytes())
    }

    /// A signature to a roster.
    #[must_use]
    pub fn sign_roster(&self, roster: &Roster) -> SignedStatement {
        let statement = RosterStatement {
            kind: RosterKind::Roster,
            version: 1,
            roster_version: roster.version,
            roster_digest: Roster::digest_of(&roster.to_bytes()),
            person: self.person.clone(),
            credential_id: self.device.credential_id.clone(),
            device_id: self.device.id.clone(),
            gateway_salt: Fixed(random()),
        };
        self.sign(roster, ROSTER_DOMAINS, &statement.to_bytes())
    }

    /// A statement that this phone holds the keys of its record, to follow on `base`.
    #[must_use]
    pub fn possession(&self, base: &Roster) -> PossessionStatement {
        PossessionStatement {
            kind: PossessionKind::Possession,
            version: 1,
            person: self.person.clone(),
            device: self.device.record_digest(),
            replaces: base.device_key_beside(&self.device.credential_id),
            credential_id: self.device.credential_id.clone(),
            device_id: self.device.id.clone(),
            gateway_salt: Fixed(random()),
        }
    }

    /// A signed possession statement, to follow on `base` and at its origin.
    #[must_use]
    pub fn sign_possession(&self, base: &Roster) -> SignedStatement {
        self.sign(base, POSSESSION_DOMAINS, &self.possession(base).to_bytes())
    }

    /// The same passkey beside a new device key, as a browser has it that dropped the old one.
    #[must_use]
    pub fn with_new_device_key(&self) -> Self {
        self.forgetful()
    }

    /// Forgets the device key and makes a new one, as a browser does that dropped it.
    pub fn renew_device_key(&mut self) {
        (self.device_key, self.device_key_pkcs8) = SigningKey::generate().expect("key");
        self.device.device_key = Some(self.device_key.public());
    }
}

/// A roster with all its private keys.
pub struct Fixture {
    /// The phones of bob, carol and dave, in this order, then any that a test adds.
    pub phones: Vec<Phone>,
    /// The unsealed roster; edit before [`Fixture::seal`].
    pub roster: Roster,
    /// Host web01's signing key.
    pub host_key: SigningKey,
    /// Host web01's key, PKCS #8.
    pub host_key_pkcs8: Vec<u8>,
    /// Host web01's agent key, PKCS #8.
    pub agent_key_pkcs8: Vec<u8>,
    /// The moment that fixtures call now.
    pub now: UnixTime,
}

/// A human being of the fixture.
#[must_use]
pub fn person(id: &str, groups: &[&str], devices: Vec<Device>) -> Person {
    Person {
        id: PersonId::new(id).expect("person id"),
        name: id.to_owned(),
        kind: PersonKind::Human(HumanMark {}),
        logins: vec![id.to_owned()],
        groups: groups.iter().filter_map(|group| GroupName::new(group)).collect(),
        may_request: true,
        standing: Standing::Active,
        devices,
    }
}

impl Fixture {
    /// alice asks; bob, carol and dave approve anything anywhere; host web01. `ca` is a CA
    /// certificate, DER; any bytes where no certificate is checked.
    #[must_use]
    pub fn new(ca: &[u8], now: UnixTime) -> Self {
        let names = ["bob", "carol", "dave"];
        let phones: Vec<Phone> = names.iter().map(|name| Phone::new(name, &format!("{name}-phone"))).collect();
        let (host_key, host_key_pkcs8) = SigningKey::generate().expect("key");
        let (agent_key, agent_key_pkcs8) = SigningKey::generate().expect("key");
        let mut persons = vec![person("alice", &[], Vec::new())];
        persons.extend(
            names.iter().zip(&phones).map(|(name, phone)| person(name, &["approvers"], vec![phone.device.clone()])),
        );
        let roster = Roster {
            format: RosterFormat::Roster,
            format_version: FORMAT_VERSION,
            version: 1,
            previous: None,
            issued_at: now,
            expires_at: now.plus(crate::limits::DEFAULT_ROSTER_LIFE_S),
            rp_id: "tl.example.org".into(),
            origins: vec!["https://tl.example.org".into()],
            persons,
            hosts: vec![Host {
                id: HostId::new("web01").expect("host id"),
                name: "web01".into(),
                groups: Vec::new(),
                host_key: host_key.public(),
                agent_key: agent_key.public(),
            }],
            gateways: Vec::new(),
            uids: Vec::new(),
            cas: vec![Ca { id: CaId::new("ca1").expect("ca id"), certificate: Bytes(ca.to_vec()) }],
            audit_keys: Vec::new(),
            break_glass_keys: Vec::new(),
            rules: Rules {
                quorum: 2,
                floor: Assurance::C,
                aaguids: Vec::new(),
                max_ttl_s: 3600,
                max_approve_by_s: 600,
                distinct_client_class: false,
                break_glass: BreakGlassRules::default(),
                gates: vec![Gate {
                    hosts: Which::any(),
                    targets: Which::any(),
                    approvers: vec![GroupName::new("approvers").expect("group")],
                }],
            },
        };
        Self { phones, roster, host_key, host_key_pkcs8, agent_key_pkcs8, now }
    }

    /// Gives each of these persons a break-glass key.
    #[must_use]
    pub fn break_glass(&mut self, persons: &[&str]) -> Vec<Holder> {
        let holders: Vec<Holder> = persons.iter().map(|person| Holder::new(person)).collect();
        self.roster.break_glass_keys.extend(holders.iter().map(|holder| holder.entry.clone()));
        holders
    }

    /// The phone of a person; its first, when there are several.
    #[must_use]
    pub fn phone(&self, person: &str) -> &Phone {
        self.phones.iter().find(|phone| phone.person.as_str() == person).expect("a phone of this person")
    }

    /// Every enrolled person signs; the envelope and its verified form.
    #[must_use]
    pub fn seal(&self) -> (RosterEnvelope, VerifiedRoster) {
        let envelope =
            RosterEnvelope::new(&self.roster, self.phones.iter().map(|p| p.sign_roster(&self.roster)).collect());
        let verified = VerifiedRoster::genesis(&envelope, &envelope.digest).expect("the fixture's roster is sound");
        (envelope, verified)
    }

    /// The roster after `head`, changed by `edit`; not yet signed.
    #[must_use]
    pub fn next(head: &VerifiedRoster, edit: impl FnOnce(&mut Roster)) -> Roster {
        let mut roster = head.roster().clone();
        roster.version += 1;
        roster.previous = Some(head.digest());
        edit(&mut roster);
        roster
    }

    /// The envelope of `next`, signed by the phones of these persons, with a possession statement of
    /// every new device whose phone is in [`Self::phones`].
    #[must_use]
    pub fn envelope(&self, head: &VerifiedRoster, next: &Roster, signers: &[&str]) -> RosterEnvelope {
        let signatures = signers.iter().map(|person| self.phone(person).sign_roster(next)).collect();
        let holds = |(_, device): (&Person, &Device)| {
            let phone = self.phones.iter().find(|phone| phone.device == *device)?;
            Some(phone.sign_possession(head))
        };
        let new = head.new_devices(next).unwrap_or_default();
        RosterEnvelope::with_possessions(next, signatures, new.into_iter().filter_map(holds).collect())
    }

    /// One lawful step: `edit`, signed by these persons. Becomes [`Self::roster`], so that requests
    /// are made under it.
    #[must_use]
    pub fn step(
        &mut self,
        head: &VerifiedRoster,
        signers: &[&str],
        edit: impl FnOnce(&mut Roster),
    ) -> (RosterEnvelope, VerifiedRoster) {
        let next = Self::next(head, edit);
        let envelope = self.envelope(head, &next, signers);
        let verified = head.successor(&envelope).expect("the step is lawful");
        self.roster = next;
        (envelope, verified)
    }

    /// `sudo systemctl restart nginx` by alice on web01, and the session key that goes with it.
    #[must_use]
    pub fn request(&self) -> (ElevationRequest, SigningKey) {
        let (session_key, _) = SigningKey::generate().expect("key");
        let salt = Fixed(random());
        let code = TerminalCode::from_number(418_302).expect("six digits");
        let request = ElevationRequest {
            format: RequestFormat::Request,
            version: VERSION,
            kind: RequestKind::Module,
            roster: RosterRef { version: self.roster.version, digest: Roster::digest_of(&self.roster.to_bytes()) },
            host: HostId::new("web01").expect("host id"),
            boot_id: "6d1c1d4e-6c1b-4c7e-9f0a-0d6a2b9b7c11".into(),
            service: "sudo".into(),
            requester: Requester {
                login: Some(Login { uid: 1001, name: "alice".into() }),
                real: Login { uid: 1001, name: "alice".into() },
                pam_ruser: Some("alice".into()),
            },
            target: Target { user: "root".into(), uid: 0, group: None },
            view: View {
                mode: Mode::Command,
                command_at: Some(1),
                shell: None,
                editor: None,
                chdir: None,
                chroot: None,
                assignments: Vec::new(),
                preserve_env: false,
                background: false,
                open_ended: false,
                not_understood: None,
            },
            argv: ["sudo", "systemctl", "restart", "nginx"].map(Arg::from).to_vec(),
            cwd: Some(Arg::from("/home/alice")),
            tty: Some("/dev/pts/0".into()),
            process: ProcessFacts { pid: 4711, start_time: 123_456, parent: 4000, session: 4000 },
            stdin: StdinKind::Terminal,
            reason: Some("nginx hangs, ticket 4711".into()),
            ttl_s: 900,
            scope: Scope::Command,
            created_at: self.now,
            approve_by_s: 180,
            nonce: Fixed(random()),
            session_key: session_key.public(),
            terminal_code: CodeCommitment { salt, hash: code.commitment(&salt) },
        };
        (request, session_key)
    }

    /// Signs a request as the module does.
    #[must_use]
    pub fn sign_request(&self, request: &ElevationRequest, session_key: &SigningKey) -> SignedRequest {
        let bytes = request.to_bytes();
        let id = ElevationRequest::id_of(&bytes);
        let sign = |key: &SigningKey, domain: Domain| key.sign(&domain.message(id.0.as_bytes())).expect("signature");
        SignedRequest {
            request: Bytes(bytes),
            host_signature: sign(&self.host_key, Domain::RequestHost),
            session_signature: sign(session_key, Domain::RequestSession),
        }
    }

    /// A verified request with its session key.
    #[must_use]
    pub fn verified_request(&self, roster: &VerifiedRoster) -> (VerifiedRequest, SigningKey) {
        let (request, key) = self.request();
        let signed = self.sign_request(&request, &key);
        (verify_request(roster, &signed, self.now).expect("the fixture's request verifies"), key)
    }

    /// The public half of an agent or host key given as PKCS #8.
    #[must_use]
    pub fn public_of(pkcs8: &[u8]) -> PublicKey {
        SigningKey::from_pkcs8(pkcs8).expect("key").public()
    }
}

/// A person's break-glass key.
pub struct Holder {
    /// Its entry in the roster.
    pub entry: BreakGlassKey,
    /// Its PKCS #8 form.
    pub pkcs8: Vec<u8>,
    key: SigningKey,
}

impl Holder {
    /// A new key of `person`.
    #[must_use]
    pub fn new(person: &str) -> Self {
        let (key, pkcs8) = SigningKey::generate().expect("key");
        let entry = BreakGlassKey { person: PersonId::new(person).expect("person id"), key: key.public() };
        Self { entry, pkcs8, key }
    }

    /// Signs a statement, whatever it says.
    #[must_use]
    pub fn sign(&self, statement: &break_glass::Statement) -> Answer {
        let mut key_id = [0; 8];
        key_id.copy_from_slice(self.entry.key_digest().as_bytes().get(..8).expect("32 bytes"));
        Answer {
            decision: statement.decision,
            ttl_s: statement.ttl_s.try_into().expect("a short life"),
            key_id,
            signature: self.key.sign(&statement.message()).expect("signature"),
        }
    }

    /// A yes to this request, for ten minutes.
    #[must_use]
    pub fn approve(&self, request: RequestId) -> Answer {
        self.sign(&break_glass::Statement::new(Purpose::Grant, request.0, &self.entry, 600, Decision::Approve))
    }
}

impl Authority {
    /// What a certificate's grant rests on, to be changed.
    #[must_use]
    pub fn certified(&mut self) -> &mut Certified {
        match self {
            Self::Certificate(certified) => Some(certified),
            Self::BreakGlass(_) => None,
        }
        .expect("a certificate")
    }
}

/// Evidence of these statements.
#[must_use]
pub fn evidence(request: RequestId, statements: Vec<SignedStatement>) -> Evidence {
    Evidence { format: EvidenceFormat::Evidence, version: 1, request_digest: request, statements, rosters: Vec::new() }
}

/// A start, signed by the session key as the module does.
#[must_use]
pub fn start(request: &ElevationRequest, id: RequestId, key: &SigningKey, deadline_boot_ms: u64) -> SignedStart {
    let statement = StartStatement {
        kind: StartKind::Start,
        version: 1,
        grant: id.grant(),
        serial: Some(CertSerial::from_random(random())),
        boot_id: request.boot_id.clone(),
        pid: request.process.pid,
        start_time: request.process.start_time,
        target_user: request.target.user.clone(),
        started_at: request.created_at,
        deadline_boot_ms,
    }
    .to_bytes();
    let signature = key.sign(&Domain::Start.message(&statement)).expect("signature");
    SignedStart { statement: Bytes(statement), signature }
}
