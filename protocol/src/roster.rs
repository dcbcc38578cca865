//! The roster: persons, devices, hosts, keys and the rules of T1, under one digest that hosts pin.
//! Version 1 is a ceremony: every person with devices signs its digest. Later versions extend the
//! same envelope; until roster changes exist, a chain has exactly one step.
//!
//! [`Roster`] is only a claim. [`VerifiedRoster`] is the proof token: it has one maker per way of
//! coming to trust, and everything that decides takes it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::bytes::{Bytes, Fixed};
use crate::codec::{DecodeError, decode_canonical, encode};
use crate::digest::{Digest, Domain};
use crate::ids::{CaId, CredentialId, DeviceId, GroupName, HostId, PersonId};
use crate::limits;
use crate::refusal::DenyReason;
use crate::request::{Login, Requester, Target};
use crate::signature::PublicKey;
use crate::statement::{ROSTER_DOMAINS, RosterStatement, SignedStatement};
use crate::webauthn::{self, Expected};

/// The only roster format version that exists.
pub const FORMAT_VERSION: u32 = 1;

/// The constant `"twinlock-roster"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RosterFormat {
    /// The only value.
    #[serde(rename = "twinlock-roster")]
    Roster,
}

/// How sure we are that an approval came from one physical device. The order is the strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Assurance {
    /// A synced passkey alone.
    D,
    /// A synced passkey and a device key.
    C,
    /// A device-bound passkey (BE=0).
    B,
    /// A device-bound passkey whose attestation was checked at enrolment.
    A,
}

/// The client program that holds a key. A property of the enrolled key (T2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientClass {
    /// The page, in a browser.
    Page,
    /// `twinlock approve`, in a terminal.
    Terminal,
}

/// One enrolled device of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// What its owner calls it.
    pub label: String,
    /// Which client program holds it.
    pub client_class: ClientClass,
    /// The passkey's credential id.
    pub credential_id: CredentialId,
    /// The passkey's public key (ES256).
    pub credential_key: PublicKey,
    /// The passkey is backup eligible (BE=1): it may be synced.
    pub backup_eligible: bool,
    /// The authenticator's model, as attested or claimed at enrolment.
    pub aaguid: Fixed<16>,
    /// Enrolment checked the attestation chain.
    pub attested: bool,
    /// The device key; absent only at assurance D.
    pub device_key: Option<PublicKey>,
}

impl Device {
    /// The assurance level (design §4.6).
    #[must_use]
    pub fn assurance(&self) -> Assurance {
        match (self.device_key.is_some(), self.backup_eligible, self.attested) {
            (false, _, _) => Assurance::D,
            (true, true, _) => Assurance::C,
            (true, false, false) => Assurance::B,
            (true, false, true) => Assurance::A,
        }
    }
}

/// Human, or a machine identity with an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonKind {
    /// A human being.
    Human(HumanMark),
    /// A service identity; its owner is no approver for it.
    Service(ServiceOwner),
}

/// The empty value of [`PersonKind::Human`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HumanMark {}

/// Who answers for a service identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceOwner {
    /// The owner.
    pub owner: PersonId,
}

/// Whether a person counts at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// May do what groups and flags say.
    Active,
    /// Neither asks nor approves until two others lift it.
    Suspended,
}

/// A person: requester, approver or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The id.
    pub id: PersonId,
    /// The name that people know, shown on page and terminal.
    pub name: String,
    /// Human or service.
    pub kind: PersonKind,
    /// Login names on any host that are this person.
    pub logins: Vec<String>,
    /// Groups, for eligibility as approver.
    pub groups: Vec<GroupName>,
    /// May ask for elevation.
    pub may_request: bool,
    /// Whether the person counts.
    pub standing: Standing,
    /// Enrolled devices; none for people who only ask.
    pub devices: Vec<Device>,
}

/// A host of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The id.
    pub id: HostId,
    /// The name that people know, shown on page and terminal.
    pub name: String,
    /// Groups, for the rules.
    pub groups: Vec<GroupName>,
    /// The key that signs its requests.
    pub host_key: PublicKey,
    /// The key of its agent's TLS client certificate: SEC1, P-256.
    pub agent_key: PublicKey,
}

/// A numeric uid on one host that is a person, where the name is not enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UidEntry {
    /// The host.
    pub host: HostId,
    /// The uid on it.
    pub uid: u32,
    /// The person.
    pub person: PersonId,
}

/// A certification authority for elevation certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ca {
    /// The id.
    pub id: CaId,
    /// Its self-signed certificate, DER.
    pub certificate: Bytes,
}

/// Where a rule applies: any, or one of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which<T> {
    /// All of them.
    Any(AnyMark),
    /// Those named.
    Of(Vec<T>),
}

/// The empty value of [`Which::Any`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnyMark {}

impl<T: PartialEq> Which<T> {
    /// Every value.
    #[must_use]
    pub const fn any() -> Self {
        Self::Any(AnyMark {})
    }

    fn named(&self) -> Option<&[T]> {
        match self {
            Self::Any(AnyMark {}) => None,
            Self::Of(list) => Some(list),
        }
    }

    fn holds(&self, value: &T) -> bool {
        match self {
            Self::Any(AnyMark {}) => true,
            Self::Of(list) => list.contains(value),
        }
    }

    fn holds_one_of(&self, values: &[T]) -> bool {
        match self {
            Self::Any(AnyMark {}) => true,
            Self::Of(list) => list.iter().any(|value| values.contains(value)),
        }
    }
}

/// Who may approve what, where. The first gate that covers host and target decides. Whoever has uid
/// 0, or asks for a group with `-g`, is the target user `root`, by whatever name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Host groups.
    pub hosts: Which<GroupName>,
    /// Target users.
    pub targets: Which<String>,
    /// Groups of persons, one of which an approver must be in.
    pub approvers: Vec<GroupName>,
}

/// The rules of T1, enforced by the module itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// How many distinct persons must approve; below two does not decode, and version 1 verifiers
    /// grant on exactly two.
    pub quorum: u32,
    /// The weakest device that counts.
    pub floor: Assurance,
    /// The longest life of a grant, in seconds.
    pub max_ttl_s: u32,
    /// The longest time from request to the last approval, in seconds.
    pub max_approve_by_s: u32,
    /// The two approvals must come from two client classes (T2).
    pub distinct_client_class: bool,
    /// Who may approve what, where.
    pub gates: Vec<Gate>,
}

/// The content of one roster version. Field order is the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// `"twinlock-roster"`.
    pub format: RosterFormat,
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// 1 for the ceremony's, then exactly +1.
    pub version: u64,
    /// The digest of the version before; none for version 1.
    pub previous: Option<Digest>,
    /// When it was made.
    pub issued_at: UnixTime,
    /// From when on it grants nothing.
    pub expires_at: UnixTime,
    /// The WebAuthn relying party id; permanent.
    pub rp_id: String,
    /// Exact origins of the page; the first is the one in QRs.
    pub origins: Vec<String>,
    /// Everybody.
    pub persons: Vec<Person>,
    /// Every host.
    pub hosts: Vec<Host>,
    /// uids that names can't settle.
    pub uids: Vec<UidEntry>,
    /// Elevation CAs.
    pub cas: Vec<Ca>,
    /// Keys that sign audit checkpoints.
    pub audit_keys: Vec<PublicKey>,
    /// Keys for the offline break-glass path.
    pub break_glass_keys: Vec<PublicKey>,
    /// The rules of T1.
    pub rules: Rules,
}

/// A roster as it travels and rests: its bytes, their digest, and who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterEnvelope {
    /// `"twinlock-roster"`.
    pub format: RosterFormat,
    /// The roster's version, again, so that a reader can refuse before parsing.
    pub version: u64,
    /// `SHA-256("twinlock/roster/v1\0" ‖ bytes)`.
    pub digest: Digest,
    /// The roster's bytes.
    pub bytes: Bytes,
    /// Roster statements over `digest`.
    pub signatures: Vec<SignedStatement>,
}

/// Why a roster was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// It does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It breaks a rule of its content.
    #[error("the roster is not sound: {0}")]
    Unsound(&'static str),
    /// The envelope's digest is not its bytes'.
    #[error("the roster's digest is not that of its bytes")]
    Digest,
    /// The roster is not the one that is pinned.
    #[error("the roster is not the pinned one")]
    NotPinned,
    /// A signature does not verify, or is by nobody who may sign.
    #[error("a signature of the roster does not verify: {0}")]
    Signature(DenyReason),
    /// Too few distinct persons signed.
    #[error("the roster is signed by {signed} of {needed} persons")]
    TooFewSigners {
        /// Distinct persons whose signature verifies.
        signed: usize,
        /// Persons that must sign.
        needed: usize,
    },
    /// A version above 1: roster changes do not exist yet.
    #[error("roster version {0}: this version of Twinlock knows version 1 only")]
    Version(u64),
}

/// A roster that somebody with the right to say so vouches for: every person with devices signed
/// it, and its digest is the pinned one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRoster {
    roster: Roster,
    digest: Digest,
}

impl Roster {
    /// The bytes that are digested and signed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a roster and checks that it is sound.
    ///
    /// # Errors
    /// [`RosterError::Decode`] or [`RosterError::Unsound`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RosterError> {
        let roster: Self = decode_canonical("roster", limits::ROSTER_BYTES, bytes)?;
        roster.check()?;
        Ok(roster)
    }

    /// The digest of a roster's bytes.
    #[must_use]
    pub fn digest_of(bytes: &[u8]) -> Digest {
        Digest::of(Domain::Roster, bytes)
    }

    /// Whether the content is sound: ids, logins, keys and credentials appear once, references
    /// resolve, the rules are within limits and enough people can approve.
    ///
    /// # Errors
    /// [`RosterError::Unsound`], naming the rule.
    pub fn check(&self) -> Result<(), RosterError> {
        let unsound = |rule| Err(RosterError::Unsound(rule));
        if self.format_version != FORMAT_VERSION {
            return unsound("format_version is 1");
        }
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return unsound("only version 1 has no previous version");
        }
        if self.version > limits::MAX_INTEGER || self.expires_at.0 > limits::MAX_INTEGER {
            return unsound("integers are below 2^53");
        }
        self.check_sizes()?;
        let life = self.expires_at.since(self.issued_at);
        if life == 0 || life > limits::MAX_ROSTER_LIFE_S {
            return unsound("it lives at most 366 days");
        }
        if !rp_id_fits(&self.rp_id) {
            return unsound("rp_id is a lower-case DNS name, not an address");
        }
        if self.origins.is_empty() || !self.origins.iter().all(|origin| origin_fits(origin, &self.rp_id)) {
            return unsound("every origin is https://HOST[:PORT] with HOST at or below rp_id");
        }
        if !(limits::MIN_TTL_S..=limits::MAX_TTL_S).contains(&self.rules.max_ttl_s) {
            return unsound("max_ttl_s is 1 to 3600");
        }
        if !(1..=limits::MAX_APPROVE_BY_S).contains(&self.rules.max_approve_by_s) {
            return unsound("max_approve_by_s is 1 to 600");
        }
        if self.rules.quorum != limits::MIN_QUORUM {
            return unsound("the quorum is 2");
        }
        if self.rules.gates.is_empty() || self.cas.is_empty() {
            return unsound("there is at least one gate and one CA");
        }
        self.check_unique()?;
        self.check_references()?;
        let groups: BTreeSet<&GroupName> = self.rules.gates.iter().flat_map(|gate| &gate.approvers).collect();
        let approvers = self.persons.iter().filter(|person| self.can_approve_somewhere(person, &groups)).count();
        if approvers < self.rules.quorum as usize {
            return unsound("fewer people can approve than the quorum asks for");
        }
        Ok(())
    }

    /// Lists that decisions walk are short, so that no roster makes a decision slow.
    fn check_sizes(&self) -> Result<(), RosterError> {
        let short = |length: usize| length <= limits::ROSTER_LIST;
        let gate_fits = |gate: &Gate| {
            short(gate.approvers.len())
                && short(gate.hosts.named().map_or(0, <[_]>::len))
                && short(gate.targets.named().map_or(0, <[_]>::len))
        };
        let person_fits =
            |person: &Person| short(person.logins.len()) && short(person.groups.len()) && short(person.devices.len());
        let gates = &self.rules.gates;
        let keys = [self.audit_keys.len(), self.break_glass_keys.len()];
        if [self.origins.len(), self.cas.len(), gates.len()].into_iter().chain(keys).all(short)
            && gates.iter().all(gate_fits)
            && self.persons.iter().all(person_fits)
            && self.hosts.iter().all(|host| short(host.groups.len()))
        {
            Ok(())
        } else {
            Err(RosterError::Unsound("a short list has at most 256 entries"))
        }
    }

    /// Keys and credentials are compared as bytes, which is sound because a point has one spelling
    /// of 65 bytes. Names that people tell apart by eye, and logins, which some hosts look up without
    /// regard to case, differ by more than case.
    fn check_unique(&self) -> Result<(), RosterError> {
        let devices = || self.persons.iter().flat_map(|person| &person.devices);
        let keys = devices()
            .map(|device| &device.credential_key)
            .chain(devices().filter_map(|device| device.device_key.as_ref()))
            .chain(self.hosts.iter().map(|host| &host.host_key))
            .chain(self.hosts.iter().map(|host| &host.agent_key))
            .chain(&self.audit_keys)
            .chain(&self.break_glass_keys);
        if !keys.clone().all(|key| key.0.starts_with(&[4])) {
            return Err(RosterError::Unsound("a key is an uncompressed point"));
        }
        // One person may have a login in several spellings.
        let logins: BTreeSet<(String, &PersonId)> = self
            .persons
            .iter()
            .flat_map(|person| person.logins.iter().map(|login| (login.to_lowercase(), &person.id)))
            .collect();
        let checks = [
            (all_distinct(self.persons.iter().map(|person| &person.id)), "a person id appears twice"),
            (
                all_distinct(self.persons.iter().map(|person| person.name.to_lowercase())),
                "a person's name appears twice",
            ),
            (all_distinct(logins.iter().map(|(login, _)| login)), "a login maps to two persons"),
            (all_distinct(self.persons.iter().flat_map(|person| &person.logins)), "a login appears twice"),
            (all_distinct(devices().map(|device| &device.id)), "a device id appears twice"),
            (all_distinct(devices().map(|device| &device.credential_id.0)), "a credential appears twice"),
            (all_distinct(keys), "a key appears twice"),
            (all_distinct(self.hosts.iter().map(|host| &host.id)), "a host id appears twice"),
            (all_distinct(self.hosts.iter().map(|host| host.name.to_ascii_lowercase())), "a host name appears twice"),
            (all_distinct(self.cas.iter().map(|ca| &ca.id)), "a CA id appears twice"),
            (
                all_distinct(self.uids.iter().map(|entry| format!("{} {}", entry.host, entry.uid))),
                "a uid maps to two persons",
            ),
        ];
        checks.into_iter().try_for_each(|(holds, rule)| if holds { Ok(()) } else { Err(RosterError::Unsound(rule)) })
    }

    fn check_references(&self) -> Result<(), RosterError> {
        let unsound = |rule| Err(RosterError::Unsound(rule));
        let is_human = |person: &&Person| matches!(person.kind, PersonKind::Human(_));
        let humans: BTreeSet<&PersonId> = self.persons.iter().filter(is_human).map(|person| &person.id).collect();
        for person in &self.persons {
            if !plain_text(&person.name) || person.name.len() > limits::NAME_BYTES {
                return unsound("a person's name is 1 to 100 bytes of plain text");
            }
            if !person.logins.iter().all(|login| login_fits(login)) {
                return unsound("a login is 1 to 255 bytes of plain text");
            }
            if let PersonKind::Service(ServiceOwner { owner }) = &person.kind
                && (!humans.contains(owner) || !person.devices.is_empty())
            {
                return unsound("a service has a human owner and no devices");
            }
            if person.devices.iter().any(|device| !plain_text(&device.label) || device.label.len() > limits::NAME_BYTES)
            {
                return unsound("a device's label is 1 to 100 bytes of plain text");
            }
            let credential_fits =
                |device: &Device| (1..=limits::CREDENTIAL_ID_BYTES).contains(&device.credential_id.0.0.len());
            if !person.devices.iter().all(credential_fits) {
                return unsound("a credential id has 1 to 1023 bytes");
            }
        }
        // D3: a host is known by its enrolled name, in one script that cannot be mistaken.
        let host_name_fits = |host: &Host| {
            !host.name.is_empty()
                && host.name.len() <= limits::NAME_BYTES
                && host.name.bytes().all(|b| b.is_ascii_graphic())
        };
        if !self.hosts.iter().all(host_name_fits) {
            return unsound("a host name is 1 to 100 printable ASCII characters");
        }
        let targets = self.rules.gates.iter().filter_map(|gate| gate.targets.named()).flatten();
        if !targets.into_iter().all(|target| login_fits(target)) {
            return unsound("a target is 1 to 255 bytes of plain text");
        }
        let persons: BTreeSet<&PersonId> = self.persons.iter().map(|person| &person.id).collect();
        let hosts: BTreeSet<&HostId> = self.hosts.iter().map(|host| &host.id).collect();
        let known = |entry: &UidEntry| hosts.contains(&entry.host) && persons.contains(&entry.person);
        if !self.uids.iter().all(known) {
            return unsound("a uid entry names a host and a person of the roster");
        }
        Ok(())
    }

    fn can_approve_somewhere(&self, person: &Person, groups: &BTreeSet<&GroupName>) -> bool {
        person.standing == Standing::Active
            && person.devices.iter().any(|device| device.assurance() >= self.rules.floor)
            && person.groups.iter().any(|group| groups.contains(group))
    }

    /// The person with this id.
    #[must_use]
    pub fn person(&self, id: &PersonId) -> Option<&Person> {
        self.persons.iter().find(|person| person.id == *id)
    }

    /// The host with this id.
    #[must_use]
    pub fn host(&self, id: &HostId) -> Option<&Host> {
        self.hosts.iter().find(|host| host.id == *id)
    }

    /// The device with this credential, and whose it is.
    #[must_use]
    pub fn device_by_credential(&self, credential: &CredentialId) -> Option<(&Person, &Device)> {
        self.persons.iter().find_map(|person| {
            let device = person.devices.iter().find(|device| device.credential_id == *credential)?;
            Some((person, device))
        })
    }

    /// The origin that QRs lead to.
    #[must_use]
    pub fn qr_origin(&self) -> Option<&str> {
        self.origins.first().map(String::as_str)
    }

    fn person_of_login(&self, login: &str) -> Option<&Person> {
        self.persons.iter().find(|person| person.logins.iter().any(|known| known == login))
    }

    /// Everybody that the requester's names and uids stand for; they are excluded as approvers.
    ///
    /// # Errors
    /// [`DenyReason::RequesterUnknown`] when a name maps to nobody, [`DenyReason::RequesterMayNotAsk`]
    /// when a person may not ask or is suspended.
    pub fn requester_persons(&self, host: &HostId, requester: &Requester) -> Result<Vec<&Person>, DenyReason> {
        let names = requester
            .login
            .iter()
            .map(|login| login.name.as_str())
            .chain([requester.real.name.as_str()])
            .chain(requester.pam_ruser.as_deref());
        let mut persons = Vec::new();
        for name in names {
            persons.push(self.person_of_login(name).ok_or(DenyReason::RequesterUnknown)?);
        }
        let uids = |login: &Login| {
            let entry = self.uids.iter().find(|entry| entry.host == *host && entry.uid == login.uid)?;
            self.person(&entry.person)
        };
        persons.extend(requester.login.iter().chain([&requester.real]).filter_map(uids));
        persons.sort_by(|a, b| a.id.cmp(&b.id));
        persons.dedup_by(|a, b| a.id == b.id);
        if persons.iter().all(|person| person.may_request && person.standing == Standing::Active) {
            Ok(persons)
        } else {
            Err(DenyReason::RequesterMayNotAsk)
        }
    }

    /// Everybody who may not approve for these requesters: themselves, and the owners of services.
    #[must_use]
    pub fn excluded(&self, requesters: &[&Person]) -> Vec<PersonId> {
        let owner = |person: &&Person| match &person.kind {
            PersonKind::Human(_) => None,
            PersonKind::Service(service) => Some(service.owner.clone()),
        };
        let mut excluded: Vec<PersonId> = requesters.iter().map(|person| person.id.clone()).collect();
        excluded.extend(requesters.iter().filter_map(owner));
        excluded
    }

    /// The gate that decides about this host and target: the first that covers both.
    #[must_use]
    pub fn gate(&self, host: &Host, target: &Target) -> Option<&Gate> {
        // uid 0 under another name is root, and so, as good as, is somebody with the group disk or
        // shadow: neither finds a laxer gate than root does.
        let is_root = target.uid == 0 || target.group.is_some();
        let user = if is_root { "root".to_owned() } else { target.user.clone() };
        self.rules.gates.iter().find(|gate| gate.hosts.holds_one_of(&host.groups) && gate.targets.holds(&user))
    }

    /// Everybody who may approve behind this gate, but for `excluded`.
    #[must_use]
    pub fn eligible<'a>(&'a self, gate: &Gate, excluded: &[PersonId]) -> Vec<&'a Person> {
        self.persons
            .iter()
            .filter(|person| {
                !excluded.contains(&person.id)
                    && person.standing == Standing::Active
                    && gate.approvers.iter().any(|group| person.groups.contains(group))
                    && person.devices.iter().any(|device| device.assurance() >= self.rules.floor)
            })
            .collect()
    }
}

impl RosterEnvelope {
    /// Wraps a roster with its signatures.
    #[must_use]
    pub fn new(roster: &Roster, signatures: Vec<SignedStatement>) -> Self {
        let bytes = roster.to_bytes();
        Self {
            format: RosterFormat::Roster,
            version: roster.version,
            digest: Roster::digest_of(&bytes),
            bytes: Bytes(bytes),
            signatures,
        }
    }

    /// The bytes that travel and rest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an envelope; verifies nothing.
    ///
    /// # Errors
    /// Over-long or malformed input.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        crate::codec::decode("roster envelope", limits::ROSTER_ENVELOPE_BYTES, bytes)
    }
}

impl VerifiedRoster {
    /// Verifies a version 1 roster against its pinned digest: sound, the very bytes that are
    /// pinned, and signed by every person who has devices (the ceremony's rule).
    ///
    /// # Errors
    /// [`RosterError`], naming what does not hold.
    pub fn genesis(envelope: &RosterEnvelope, pin: &Digest) -> Result<Self, RosterError> {
        if envelope.digest != *pin {
            return Err(RosterError::NotPinned);
        }
        let digest = Roster::digest_of(&envelope.bytes.0);
        if digest != envelope.digest {
            return Err(RosterError::Digest);
        }
        let roster = Roster::from_bytes(&envelope.bytes.0)?;
        if roster.version != 1 || envelope.version != roster.version {
            return Err(RosterError::Version(roster.version.max(envelope.version)));
        }
        // One signature each: nobody makes a verifier check more than it must.
        if envelope.signatures.len() > roster.persons.len() {
            return Err(RosterError::Unsound("there are more signatures than persons"));
        }
        let mut signers = Vec::new();
        for signed in &envelope.signatures {
            let person = verify_roster_signature(&roster, &digest, signed).map_err(RosterError::Signature)?;
            if !signers.contains(&person) {
                signers.push(person);
            }
        }
        let needed = roster.persons.iter().filter(|person| !person.devices.is_empty()).count();
        if signers.len() < needed.max(limits::MIN_QUORUM as usize) {
            return Err(RosterError::TooFewSigners { signed: signers.len(), needed });
        }
        Ok(Self { roster, digest })
    }

    /// The roster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether it still grants at `now`.
    ///
    /// # Errors
    /// [`DenyReason::RosterExpired`].
    pub fn check_time(&self, now: UnixTime) -> Result<(), DenyReason> {
        if now < self.roster.expires_at { Ok(()) } else { Err(DenyReason::RosterExpired) }
    }
}

impl std::ops::Deref for VerifiedRoster {
    type Target = Roster;
    fn deref(&self) -> &Roster {
        &self.roster
    }
}

/// Verifies one person's signature to a roster by the devices that this very roster names (the
/// ceremony's rule: new keys prove possession).
///
/// # Errors
/// A [`DenyReason`] that names the check that failed.
pub fn verify_roster_signature(
    roster: &Roster,
    digest: &Digest,
    signed: &SignedStatement,
) -> Result<PersonId, DenyReason> {
    let statement = RosterStatement::from_bytes(&signed.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
    if statement.roster_digest != *digest || statement.roster_version != roster.version {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let (person, device) = roster.device_by_credential(&statement.credential_id).ok_or(DenyReason::ApproverUnknown)?;
    if person.id != statement.person || device.id != statement.device_id {
        return Err(DenyReason::ApproverUnknown);
    }
    webauthn::verify_signed_statement(&Expected { roster, device, domains: ROSTER_DOMAINS }, signed)?;
    Ok(person.id.clone())
}

fn all_distinct(values: impl Iterator<Item = impl AsRef<[u8]>>) -> bool {
    none_repeats(values.map(|value| value.as_ref().to_vec()).collect())
}

/// Apart from the above, so that the PAM module holds one sort and not one per kind of value.
fn none_repeats(mut values: Vec<Vec<u8>>) -> bool {
    let count = values.len();
    values.sort_unstable();
    values.dedup();
    values.len() == count
}

/// One line that shows as it is, without spaces at its ends.
fn plain_text(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && crate::escape::shows_as_it_is(text)
}

fn login_fits(login: &str) -> bool {
    plain_text(login) && login.len() <= limits::LOGIN_BYTES
}

fn rp_id_fits(rp_id: &str) -> bool {
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let is_address = rp_id.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    rp_id.len() <= 253 && rp_id.split('.').all(label_fits) && !is_address
}

fn origin_fits(origin: &str, rp_id: &str) -> bool {
    let Some(authority) = origin.strip_prefix("https://") else { return false };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let port_fits = port.is_none_or(|port| {
        !port.starts_with('0')
            && port.parse::<u16>().is_ok_and(|number| number != 443)
            && port.bytes().all(|b| b.is_ascii_digit())
    });
    let below = host.strip_suffix(rp_id).is_some_and(|head| head.is_empty() || head.ends_with('.'));
    rp_id_fits(host) && below && port_fits
}
