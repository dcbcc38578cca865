//! What a roster says: types, their encoding, and nothing that decides.

use serde::{Deserialize, Serialize};

use super::RosterError;
use crate::UnixTime;
use crate::bytes::{Bytes, Fixed};
use crate::codec::{decode_canonical, encode};
use crate::digest::{Digest, Domain};
use crate::ids::{CaId, CredentialId, DeviceId, GroupName, HostId, PersonId};
use crate::limits;
use crate::refusal::DenyReason;
use crate::signature::PublicKey;

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
    /// The digest of this record, byte for byte as it stands in a roster: what its owner signs to
    /// prove possession.
    #[must_use]
    pub fn record_digest(&self) -> Digest {
        Digest::of(Domain::DeviceRecord, &encode(self))
    }

    /// The digest of its keys: what the words on the phone are made from. Only the phone chose them: a
    /// gateway that could choose anything else in here, an id say, would try ids until the words of
    /// this device and of its own were alike, with the square root of the work.
    #[must_use]
    pub fn keys_digest(&self) -> Digest {
        let device_key = self.device_key.as_ref().map_or(&[][..], |key| &key.0);
        Digest::of_parts(Domain::DeviceKeys, &[&self.credential_key.0, device_key])
    }

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// May do what groups and flags say.
    Active,
    /// Neither asks nor approves until two others lift it.
    Suspended(Suspension),
}

/// Who suspended somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    /// The one person who did it alone, who can't suspend anybody else alone meanwhile; none when
    /// two did.
    pub by: Option<PersonId>,
}

impl Standing {
    /// Who suspended this person alone.
    #[must_use]
    pub fn suspended_alone_by(&self) -> Option<&PersonId> {
        match self {
            Self::Active => None,
            Self::Suspended(suspension) => suspension.by.as_ref(),
        }
    }
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

impl Person {
    /// Whether the person may ask for elevation now.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.may_request && self.standing == Standing::Active
    }
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

impl Host {
    /// The digest of both keys: what the words on the host's terminal are made from while it joins.
    #[must_use]
    pub fn keys_digest(&self) -> Digest {
        Digest::of_parts(Domain::HostKeys, &[&self.host_key.0, &self.agent_key.0])
    }
}

/// A gateway that agents may reach, whatever their configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayEntry {
    /// Its agent listener, `HOST:PORT`.
    pub address: String,
    /// The key of its agent listener: SHA-256 of the SubjectPublicKeyInfo, DER.
    pub key: Digest,
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

    pub(super) fn named(&self) -> Option<&[T]> {
        match self {
            Self::Any(AnyMark {}) => None,
            Self::Of(list) => Some(list),
        }
    }

    pub(super) fn holds(&self, value: &T) -> bool {
        match self {
            Self::Any(AnyMark {}) => true,
            Self::Of(list) => list.contains(value),
        }
    }

    pub(super) fn holds_one_of(&self, values: &[T]) -> bool {
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

/// A key with which a person signs when no gateway can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassKey {
    /// Whose it is.
    pub person: PersonId,
    /// P-256, SEC1.
    pub key: PublicKey,
}

impl BreakGlassKey {
    /// The key's digest: its words are made from it, and its first eight bytes name the key in an
    /// offline answer.
    #[must_use]
    pub fn key_digest(&self) -> Digest {
        Digest::of(Domain::BreakGlassKey, &self.key.0)
    }
}

/// What the offline path allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassRules {
    /// How long a command waits after both people said yes, in seconds of `CLOCK_BOOTTIME`.
    pub delay_s: u32,
    /// The longest life of such a grant, in seconds.
    pub max_ttl_s: u32,
}

impl Default for BreakGlassRules {
    fn default() -> Self {
        Self { delay_s: limits::DEFAULT_BREAK_GLASS_DELAY_S, max_ttl_s: limits::DEFAULT_BREAK_GLASS_TTL_S }
    }
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
    /// The authenticator models that count; any where it is empty.
    pub aaguids: Vec<Fixed<16>>,
    /// The longest life of a grant, in seconds.
    pub max_ttl_s: u32,
    /// The longest time from request to the last approval, in seconds.
    pub max_approve_by_s: u32,
    /// The two approvals must come from two client classes (T2).
    pub distinct_client_class: bool,
    /// What the offline path allows; without keys in [`Roster::break_glass_keys`] there is none.
    pub break_glass: BreakGlassRules,
    /// Who may approve what, where.
    pub gates: Vec<Gate>,
}

impl Rules {
    /// Whether a device counts at all: strong enough, and of a model that is listed where models
    /// are listed.
    ///
    /// # Errors
    /// [`DenyReason::AssuranceTooLow`], [`DenyReason::ModelNotListed`].
    pub fn check_device(&self, device: &Device) -> Result<(), DenyReason> {
        if device.assurance() < self.floor {
            return Err(DenyReason::AssuranceTooLow);
        }
        if !self.aaguids.is_empty() && !self.aaguids.contains(&device.aaguid) {
            return Err(DenyReason::ModelNotListed);
        }
        Ok(())
    }

    /// Whether there are two among these people, all of them distinct, whose yes counts together:
    /// with devices that count, and of two client classes where that is asked for.
    #[must_use]
    pub fn holds_two_for_a_yes(&self, people: &[&Person]) -> bool {
        let with = |class: Option<ClientClass>| {
            let counts = |device: &Device| {
                self.check_device(device).is_ok() && class.is_none_or(|class| class == device.client_class)
            };
            people.iter().filter(|person| person.devices.iter().any(counts)).count()
        };
        // One person with both classes is in both counts, and still no two.
        with(None) >= limits::MIN_QUORUM as usize
            && (!self.distinct_client_class
                || (with(Some(ClientClass::Page)) > 0 && with(Some(ClientClass::Terminal)) > 0))
    }
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
    /// Gateways; where there are none, agents know theirs from their configuration alone.
    pub gateways: Vec<GatewayEntry>,
    /// uids that names can't settle.
    pub uids: Vec<UidEntry>,
    /// Elevation CAs.
    pub cas: Vec<Ca>,
    /// Keys that sign audit checkpoints.
    pub audit_keys: Vec<PublicKey>,
    /// Keys for the offline break-glass path.
    pub break_glass_keys: Vec<BreakGlassKey>,
    /// The rules of T1.
    pub rules: Rules,
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
}
