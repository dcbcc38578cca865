//! An invite: one person, one device, one browser, thirty minutes. Pure. It is kept as a hash and
//! proves nothing later: what comes out is a proposal, and two people compare the words of the new
//! device before they sign it. A second browser that opens the link is refused and remembered (E1).

use serde::{Deserialize, Serialize};
use twinlock_protocol::digest::Digest;
use twinlock_protocol::ids::{GroupName, PersonId, Ticket};
use twinlock_protocol::roster::{Device, HumanMark, Person, PersonKind, Roster, Standing};
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::statement::{PossessionKind, PossessionStatement, SignedStatement, VERSION};
use twinlock_protocol::{DenyReason, Fixed, UnixTime};

use super::op::Op;
use super::proposal::{PROPOSAL_VALID_S, ProposalId, Proposer};

/// An invite enrols a device within this long, in seconds.
pub const INVITE_VALID_S: u64 = 30 * 60;

/// What becomes of somebody whom the roster does not have yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newcomer {
    /// The name that people know.
    pub name: String,
    /// Login names.
    pub logins: Vec<String>,
    /// Groups.
    pub groups: Vec<GroupName>,
    /// May ask for elevation.
    pub may_request: bool,
}

impl Newcomer {
    /// The person, without devices.
    #[must_use]
    pub fn person(&self, id: &PersonId) -> Person {
        Person {
            id: id.clone(),
            name: self.name.clone(),
            kind: PersonKind::Human(HumanMark {}),
            logins: self.logins.clone(),
            groups: self.groups.clone(),
            may_request: self.may_request,
            standing: Standing::Active,
            devices: Vec::new(),
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Phase {
    /// Nobody has opened it.
    Open {},
    /// One browser has, and enrols.
    Opened {
        /// The hash of its cookie.
        browser: Digest,
    },
    /// It made its keys, and is to prove that it holds them.
    Enrolled {
        /// The hash of its cookie.
        browser: Digest,
        /// The device, as it will stand in the roster.
        device: Box<Device>,
        /// What the possession statement must carry.
        salt: Fixed<32>,
    },
    /// A proposal stands. Final for the invite.
    Proposed {
        /// The hash of its cookie.
        browser: Digest,
        /// The device.
        device: Box<Device>,
        /// The proposal.
        proposal: ProposalId,
    },
    /// Somebody took it back. Final.
    Cancelled {},
}

/// An invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// Its id, for lists; no secret.
    pub id: Fixed<16>,
    /// The hash of the secret in the link.
    pub secret: Digest,
    /// For whom.
    pub person: PersonId,
    /// Their name, as it was when the link was made.
    pub name: String,
    /// What becomes of them, when the roster does not have them.
    pub newcomer: Option<Newcomer>,
    /// Who made it.
    pub by: Proposer,
    /// Until when it enrols.
    pub until: UnixTime,
    /// The WebAuthn user handle: random, nothing personal.
    pub handle: Fixed<16>,
    /// A second browser opened it.
    pub contested: bool,
    /// How far it is.
    pub phase: Phase,
}

/// Who opens a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// This browser, for the first time or again.
    Here,
    /// Another browser than the one before: refused, and remembered.
    Elsewhere,
}

impl Invite {
    /// Whether this secret opens it.
    #[must_use]
    pub fn fits(&self, secret: &Ticket) -> bool {
        self.secret == secret.hash()
    }

    /// Whether it may still enrol a device.
    #[must_use]
    pub fn is_usable(&self, now: UnixTime) -> bool {
        match self.phase {
            Phase::Open {} | Phase::Opened { .. } | Phase::Enrolled { .. } => now < self.until,
            Phase::Proposed { .. } | Phase::Cancelled {} => false,
        }
    }

    /// A browser opens the link; `cookie` is the hash of what it holds or will hold.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`]: over, or cancelled.
    pub fn open(&mut self, cookie: Digest, now: UnixTime) -> Result<Opening, DenyReason> {
        match &self.phase {
            Phase::Cancelled {} => Err(DenyReason::InviteInvalid),
            Phase::Open {} if now >= self.until => Err(DenyReason::InviteInvalid),
            Phase::Open {} => {
                self.phase = Phase::Opened { browser: cookie };
                Ok(Opening::Here)
            }
            Phase::Opened { browser } | Phase::Enrolled { browser, .. } | Phase::Proposed { browser, .. } => {
                if *browser == cookie {
                    return Ok(Opening::Here);
                }
                self.contested = true;
                Ok(Opening::Elsewhere)
            }
        }
    }

    /// The browser that opened it made its keys.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`]: over, used, or another browser.
    pub fn enrol(&mut self, device: Device, salt: Fixed<32>, now: UnixTime) -> Result<PossessionStatement, DenyReason> {
        let usable = self.is_usable(now);
        let Phase::Opened { browser } = self.phase else { return Err(DenyReason::InviteInvalid) };
        if !usable {
            return Err(DenyReason::InviteInvalid);
        }
        let statement = possession(&self.person, &device, None, salt);
        self.phase = Phase::Enrolled { browser, device: Box::new(device), salt };
        Ok(statement)
    }

    /// What the device is to sign, once it has enrolled.
    #[must_use]
    pub fn possession(&self) -> Option<(&Device, PossessionStatement)> {
        match &self.phase {
            Phase::Enrolled { device, salt, .. } => Some((device, possession(&self.person, device, None, *salt))),
            Phase::Open {} | Phase::Opened { .. } | Phase::Proposed { .. } | Phase::Cancelled {} => None,
        }
    }

    /// The device proved possession (the caller has verified it): what is to be proposed.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`].
    pub fn to_propose(&self, roster: &Roster, signed: SignedStatement, now: UnixTime) -> Result<Vec<Op>, DenyReason> {
        let Phase::Enrolled { device, .. } = &self.phase else { return Err(DenyReason::InviteInvalid) };
        if !self.is_usable(now) {
            return Err(DenyReason::InviteInvalid);
        }
        let mut ops = Vec::new();
        match (&self.newcomer, roster.person(&self.person)) {
            (Some(newcomer), None) => {
                ops.push(Op::AddPerson { person: Box::new(newcomer.person(&self.person)) });
            }
            (None, Some(_)) | (Some(_), Some(_)) => {}
            // Removed since the invite was made (E3).
            (None, None) => return Err(DenyReason::InviteInvalid),
        }
        ops.push(Op::AddDevice { person: self.person.clone(), device: device.clone(), possession: Box::new(signed) });
        Ok(ops)
    }

    /// It is proposed.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`] unless a device enrolled, and for the second time.
    pub fn proposed(&mut self, proposal: ProposalId) -> Result<(), DenyReason> {
        let Phase::Enrolled { browser, device, .. } = self.phase.clone() else {
            return Err(DenyReason::InviteInvalid);
        };
        self.phase = Phase::Proposed { browser, device, proposal };
        Ok(())
    }

    /// Takes it back.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`]: used already; then the proposal is what can be declined.
    pub fn cancel(&mut self) -> Result<(), DenyReason> {
        match self.phase {
            Phase::Open {} | Phase::Opened { .. } | Phase::Enrolled { .. } => {
                self.phase = Phase::Cancelled {};
                Ok(())
            }
            Phase::Proposed { .. } | Phase::Cancelled {} => Err(DenyReason::InviteInvalid),
        }
    }

    /// Until when somebody may ask for it: as long as what it led to is open.
    #[must_use]
    pub fn told_until(&self) -> UnixTime {
        match self.phase {
            Phase::Proposed { .. } => self.until.plus(PROPOSAL_VALID_S),
            Phase::Open {} | Phase::Opened { .. } | Phase::Enrolled { .. } | Phase::Cancelled {} => self.until,
        }
    }

    /// Whether nothing moves it any more.
    #[must_use]
    pub fn is_over(&self, now: UnixTime) -> bool {
        !self.is_usable(now)
    }
}

/// What a new device's owner signs to prove possession of its keys, the device key of which takes the
/// place of `replaces`. An invite's device is one that the roster does not have.
#[must_use]
pub fn possession(
    person: &PersonId,
    device: &Device,
    replaces: Option<PublicKey>,
    salt: Fixed<32>,
) -> PossessionStatement {
    PossessionStatement {
        kind: PossessionKind::Possession,
        version: VERSION,
        person: person.clone(),
        device: device.record_digest(),
        replaces,
        credential_id: device.credential_id.clone(),
        device_id: device.id.clone(),
        gateway_salt: salt,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use twinlock_protocol::softphone::{Fixture, Phone};
    use twinlock_protocol::statement::POSSESSION_DOMAINS;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn invite(secret: &Ticket) -> Invite {
        Invite {
            id: Fixed([1; 16]),
            secret: secret.hash(),
            person: PersonId::new("dave").unwrap(),
            name: "dave".into(),
            newcomer: None,
            by: Proposer::Admin { uid: 0 },
            until: NOW.plus(INVITE_VALID_S),
            handle: Fixed([2; 16]),
            contested: false,
            phase: Phase::Open {},
        }
    }

    fn ticket() -> Ticket {
        Ticket::from_random(&[7; 16])
    }

    /// Catalogue: E1 (control: inline)
    #[test]
    fn a_second_browser_is_refused_and_remembered_and_the_first_goes_on() {
        let (mine, thief) = (Digest::plain(b"mine"), Digest::plain(b"thief"));
        let mut one = invite(&ticket());
        assert_eq!(one.open(thief, NOW), Ok(Opening::Here));
        assert_eq!(one.open(mine, NOW), Ok(Opening::Elsewhere));
        assert!(one.contested, "the owner's own opening shows that somebody was first");
        // Control: alone, nothing is contested, and a browser may come back.
        let mut alone = invite(&ticket());
        assert_eq!(alone.open(mine, NOW), Ok(Opening::Here));
        assert_eq!(alone.open(mine, NOW.plus(60)), Ok(Opening::Here));
        assert!(!alone.contested);
    }

    /// Catalogue: E2 (control: inline)
    #[test]
    fn an_invite_is_good_once_in_time_and_for_its_secret() {
        let (browser, phone) = (Digest::plain(b"mine"), Phone::new("dave", "dave-tablet"));
        let fixture = Fixture::new(b"ca", NOW);
        let mut late = invite(&ticket());
        assert_eq!(late.open(browser, NOW.plus(INVITE_VALID_S)), Err(DenyReason::InviteInvalid));
        let mut cancelled = invite(&ticket());
        cancelled.cancel().unwrap();
        assert_eq!(cancelled.open(browser, NOW), Err(DenyReason::InviteInvalid));
        assert!(!invite(&ticket()).fits(&Ticket::from_random(&[8; 16])));
        // Control, and then everything again.
        let mut good = invite(&ticket());
        assert!(good.fits(&ticket()));
        assert_eq!(good.enrol(phone.device.clone(), Fixed([3; 32]), NOW), Err(DenyReason::InviteInvalid), "not opened");
        assert_eq!(good.open(browser, NOW), Ok(Opening::Here));
        let statement = good.enrol(phone.device.clone(), Fixed([3; 32]), NOW).unwrap();
        assert_eq!(good.enrol(phone.device.clone(), Fixed([3; 32]), NOW), Err(DenyReason::InviteInvalid), "twice");
        let signed = phone.sign(&fixture.roster, POSSESSION_DOMAINS, &statement.to_bytes());
        let slow = good.clone();
        let late = NOW.plus(INVITE_VALID_S);
        let refused = slow.to_propose(&fixture.roster, signed.clone(), late);
        assert_eq!(refused, Err(DenyReason::InviteInvalid), "late");
        let ops = good.to_propose(&fixture.roster, signed.clone(), NOW).unwrap();
        assert_eq!(ops.len(), 1);
        good.proposed(Fixed([4; 16])).unwrap();
        assert_eq!(good.to_propose(&fixture.roster, signed, NOW), Err(DenyReason::InviteInvalid));
        assert_eq!(good.proposed(Fixed([5; 16])), Err(DenyReason::InviteInvalid));
    }

    /// Catalogue: E3 (control: inline)
    #[test]
    fn somebody_who_was_removed_is_not_brought_back_by_an_old_invite() {
        let phone = Phone::new("dave", "dave-tablet");
        let fixture = Fixture::new(b"ca", NOW);
        let mut roster = fixture.roster.clone();
        roster.persons.retain(|person| person.id.as_str() != "dave");
        let mut ready = invite(&ticket());
        ready.open(Digest::plain(b"mine"), NOW).unwrap();
        let statement = ready.enrol(phone.device.clone(), Fixed([3; 32]), NOW).unwrap();
        let signed = phone.sign(&fixture.roster, POSSESSION_DOMAINS, &statement.to_bytes());
        let refused = ready.to_propose(&roster, signed.clone(), NOW);
        assert_eq!(refused, Err(DenyReason::InviteInvalid));
        assert_eq!(ready.to_propose(&fixture.roster, signed, NOW).unwrap().len(), 1);
    }
}
