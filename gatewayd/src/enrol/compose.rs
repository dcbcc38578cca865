//! Roster version 1 from what the administrator said and what people enrolled: every rule at its
//! default unless said otherwise, so that the roster that people read says exactly what holds.

use twinlock_protocol::UnixTime;
use twinlock_protocol::bytes::{Bytes, Fixed};
use twinlock_protocol::digest::Digest;
use twinlock_protocol::ids::{CaId, CredentialId, DeviceId, GroupName, PersonId};
use twinlock_protocol::limits;
use twinlock_protocol::roster::{
    Assurance, BreakGlassRules, Ca, ClientClass, Device, FORMAT_VERSION, Gate, Host, HumanMark, Person, PersonKind,
    Roster, RosterError, RosterFormat, Rules, ServiceOwner, Standing, Which,
};

/// The group whose members approve, in a roster that `init` makes.
pub const APPROVERS: &str = "approvers";

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Approves; does not ask.
    Approver,
    /// Asks; has no device.
    Requester,
    /// Approves for others, and asks.
    Both,
}

/// Somebody whom the administrator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// The id.
    pub id: PersonId,
    /// The name that people know.
    pub name: String,
    /// Login names on any host.
    pub logins: Vec<String>,
    /// What they may do.
    pub role: Role,
    /// Groups besides [`APPROVERS`].
    pub groups: Vec<GroupName>,
    /// The owner, for a service identity.
    pub owner: Option<PersonId>,
}

impl Participant {
    /// Whether this person enrols a device.
    #[must_use]
    pub fn approves(&self) -> bool {
        match self.role {
            Role::Approver | Role::Both => true,
            Role::Requester => false,
        }
    }

    fn person(&self, devices: Vec<Device>) -> Person {
        let mut groups = self.groups.clone();
        if self.approves() {
            groups.extend(GroupName::new(APPROVERS));
        }
        groups.sort();
        groups.dedup();
        Person {
            id: self.id.clone(),
            name: self.name.clone(),
            kind: match &self.owner {
                None => PersonKind::Human(HumanMark {}),
                Some(owner) => PersonKind::Service(ServiceOwner { owner: owner.clone() }),
            },
            logins: self.logins.clone(),
            groups,
            may_request: match self.role {
                Role::Requester | Role::Both => true,
                Role::Approver => false,
            },
            standing: Standing::Active,
            devices,
        }
    }
}

/// Everything of roster version 1 but the devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The RP id; permanent.
    pub rp_id: String,
    /// The one origin.
    pub origin: String,
    /// Everybody.
    pub participants: Vec<Participant>,
    /// Every host, as announced.
    pub hosts: Vec<Host>,
    /// The elevation CA's certificate, DER.
    pub ca: Vec<u8>,
    /// The weakest device that counts.
    pub floor: Assurance,
    /// The longest life of a grant, in seconds.
    pub max_ttl_s: u32,
    /// How long the roster lives, in seconds.
    pub life_s: u64,
}

impl Plan {
    /// The roster, with each person's devices.
    pub fn roster(&self, now: UnixTime, devices: impl Fn(&PersonId) -> Vec<Device>) -> Roster {
        Roster {
            format: RosterFormat::Roster,
            format_version: FORMAT_VERSION,
            version: 1,
            previous: None,
            issued_at: now,
            expires_at: now.plus(self.life_s),
            rp_id: self.rp_id.clone(),
            origins: vec![self.origin.clone()],
            persons: self.participants.iter().map(|one| one.person(devices(&one.id))).collect(),
            hosts: self.hosts.clone(),
            gateways: Vec::new(),
            uids: Vec::new(),
            cas: CaId::new("elevation-1")
                .map(|id| Ca { id, certificate: Bytes(self.ca.clone()) })
                .into_iter()
                .collect(),
            audit_keys: Vec::new(),
            break_glass_keys: Vec::new(),
            rules: Rules {
                quorum: limits::MIN_QUORUM,
                floor: self.floor,
                aaguids: Vec::new(),
                max_ttl_s: self.max_ttl_s,
                max_approve_by_s: limits::MAX_APPROVE_BY_S,
                distinct_client_class: false,
                break_glass: BreakGlassRules::default(),
                gates: vec![Gate {
                    hosts: Which::any(),
                    targets: Which::any(),
                    approvers: GroupName::new(APPROVERS).into_iter().collect(),
                }],
            },
        }
    }

    /// Checks, before anybody enrols, that the roster would be sound: the same rules, with a
    /// stand-in device for each approver.
    ///
    /// # Errors
    /// [`RosterError`], naming the rule.
    pub fn preflight(&self, now: UnixTime) -> Result<(), RosterError> {
        let stand_in = |id: &PersonId| {
            let approves = self.participants.iter().any(|one| one.id == *id && one.approves());
            approves.then(|| stand_in_device(id)).flatten().into_iter().collect()
        };
        let roster = self.roster(now, stand_in);
        if roster.to_bytes().len() > limits::ROSTER_BYTES / 2 {
            return Err(RosterError::Unsound("people and hosts need more than half of the roster's megabyte"));
        }
        Roster { rules: Rules { floor: Assurance::D, ..roster.rules.clone() }, ..roster }.check()
    }

    /// What an administrator should hear before it is too late to change it, each a sentence.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let approvers: Vec<&Participant> = self.participants.iter().filter(|one| one.approves()).collect();
        let mut advice = vec![format!(
            "the passkeys belong to \"{}\" for ever: under another name every device must be enrolled again",
            self.rp_id
        )];
        if approvers.len() < 3 && approvers.iter().any(|one| one.role == Role::Both) {
            advice.push(
                "an approver who also asks needs two others to approve: with fewer than three approvers, nobody \
                 of them can be elevated"
                    .to_owned(),
            );
        }
        if approvers.len() == 2 {
            advice.push("with two approvers, one lost phone stops every elevation: three are safer".to_owned());
        }
        advice
    }
}

/// A device that takes the place of one that is not enrolled yet; its keys are the person's digest.
fn stand_in_device(id: &PersonId) -> Option<Device> {
    let digest = Digest::plain(id.as_str().as_bytes());
    let mut key = [4; 65];
    for (to, from) in key.iter_mut().skip(1).zip(digest.as_bytes()) {
        *to = *from;
    }
    Some(Device {
        id: DeviceId::new(&Bytes(digest.as_bytes().to_vec()).to_text().to_lowercase().replace(['-', '_'], "0"))?,
        label: "a device".to_owned(),
        client_class: ClientClass::Page,
        credential_id: CredentialId(Bytes(digest.as_bytes().to_vec())),
        credential_key: Fixed(key),
        backup_eligible: true,
        aaguid: Fixed([0; 16]),
        attested: false,
        device_key: None,
    })
}
