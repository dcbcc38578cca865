//! A proposal to change the roster, from the first word to the seal, as a pure state machine: time,
//! salts and the head arrive as arguments. It keeps operations, not a roster: when the head moves, it
//! is computed anew and its signatures are gone, for they were given to another roster.
//!
//! ```text
//! Open ──enough signatures──► Sealed
//!   └──── Withdrawn (declined) · Expired · Void (its operations do not fit any more)
//! ```

use serde::{Deserialize, Serialize};
use twinlock_protocol::digest::Digest;
use twinlock_protocol::ids::{HostId, PersonId};
use twinlock_protocol::request::RosterRef;
use twinlock_protocol::roster::{Device, Person, Roster, RosterEnvelope, Step, VerifiedRoster};
use twinlock_protocol::statement::{RosterStatement, SignedStatement};
use twinlock_protocol::{DenyReason, Fixed, UnixTime};

use super::op::{Op, OpError, Outcome, apply};

/// A proposal is open for this long, in seconds.
pub const PROPOSAL_VALID_S: u64 = 7 * 24 * 3600;
/// One that was made to be signed at once, and was not.
pub const TAP_VALID_S: u64 = 300;
/// A device key that a browser dropped is restored within this long, in seconds, or asked for again.
pub const RESTORE_VALID_S: u64 = 24 * 3600;

/// A proposal's id.
pub type ProposalId = Fixed<16>;

/// Who wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proposer {
    /// Somebody who is signed in.
    Person {
        /// Who.
        person: PersonId,
    },
    /// Somebody on the gateway's command line.
    Admin {
        /// The kernel's word for who it is.
        uid: u32,
    },
    /// A device that enrolled by an invite, or restored its key: for this person.
    Device {
        /// Whose.
        person: PersonId,
    },
    /// A host that joins by a token.
    Host {
        /// Which.
        host: HostId,
    },
}

impl std::fmt::Display for Proposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person { person } => write!(f, "{person}"),
            Self::Admin { uid } => write!(f, "uid {uid}"),
            Self::Device { person } => write!(f, "a device of {person}"),
            Self::Host { host } => write!(f, "host {host}"),
        }
    }
}

impl Proposer {
    /// The person behind it, where there is one.
    #[must_use]
    pub fn person(&self) -> Option<&PersonId> {
        match self {
            Self::Person { person } | Self::Device { person } => Some(person),
            Self::Admin { .. } | Self::Host { .. } => None,
        }
    }
}

/// One person's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Who.
    pub person: PersonId,
    /// When.
    pub at: UnixTime,
    /// The statement with its signatures.
    pub signed: SignedStatement,
}

/// What the operations make of one head, and who signed that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The head that it was made from.
    pub base: RosterRef,
    /// The next version.
    pub next: Roster,
    /// Its digest.
    pub digest: Digest,
    /// The possession statements of its new devices.
    pub possessions: Vec<SignedStatement>,
    /// What kind of step it is: derived from the difference.
    pub step: Step,
    /// What signers' salts are made from.
    pub salt: Fixed<32>,
    /// Who signed.
    pub signatures: Vec<Signature>,
}

impl Draft {
    /// How many persons must sign.
    #[must_use]
    pub fn needs(&self) -> usize {
        self.step.signatures()
    }

    /// The envelope as it stands.
    #[must_use]
    pub fn envelope(&self) -> RosterEnvelope {
        let signatures = self.signatures.iter().map(|one| one.signed.clone()).collect();
        RosterEnvelope::with_possessions(&self.next, signatures, self.possessions.clone())
    }

    /// The salt of one signer's statement: random through the draft's own, and nobody else's.
    #[must_use]
    pub fn salt_of(&self, person: &PersonId, device: &Device) -> Fixed<32> {
        let parts: [&[u8]; 5] = [&self.salt.0, person.as_ref(), b"\0", device.id.as_ref(), self.digest.as_bytes()];
        Digest::plain(&parts.concat()).0
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Phase {
    /// Waits for signatures.
    Open {},
    /// It is the roster of this version. Final.
    Sealed {
        /// The version.
        version: u64,
    },
    /// Somebody declined it, or took it back. Final.
    Withdrawn {},
    /// Nobody signed in time. Final.
    Expired {},
    /// Its operations do not fit the roster any more. Final.
    Void {
        /// Why, in words.
        why: String,
    },
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its id.
    pub id: ProposalId,
    /// What is to change.
    pub ops: Vec<Op>,
    /// Who wants it.
    pub by: Proposer,
    /// Since when.
    pub created_at: UnixTime,
    /// Until when; once it is over, since when.
    pub expires_at: UnixTime,
    /// The invite behind it was opened by a second browser.
    pub contested: bool,
    /// Who made the invite behind it; none when there is none.
    pub invited_by: Option<Proposer>,
    /// What it makes of the head; none when it is over.
    pub draft: Option<Draft>,
    /// How far it is.
    pub phase: Phase,
}

/// A proposal at rest: the draft is made again from the operations, and a signature counts only if
/// it still verifies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalAtRest {
    id: ProposalId,
    ops: Vec<Op>,
    by: Proposer,
    created_at: UnixTime,
    expires_at: UnixTime,
    contested: bool,
    #[serde(default)]
    invited_by: Option<Proposer>,
    issued_at: UnixTime,
    base: Option<RosterRef>,
    salt: Option<Fixed<32>>,
    signatures: Vec<Signature>,
    phase: Phase,
}

/// What a signature led to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Signed {
    /// More are needed.
    Counted,
    /// This seals it: the caller commits, and only then is it so.
    Complete {
        /// The envelope.
        envelope: Box<RosterEnvelope>,
        /// The next version, verified as the head's successor.
        next: Box<VerifiedRoster>,
    },
}

impl Proposal {
    /// A new one, computed on the head.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn new(
        id: ProposalId,
        ops: Vec<Op>,
        by: Proposer,
        head: &VerifiedRoster,
        salt: Fixed<32>,
        now: UnixTime,
        valid_s: u64,
    ) -> Result<Self, OpError> {
        let draft = Some(draft(head, &ops, now, salt)?);
        let expires_at = now.plus(valid_s);
        Ok(Self {
            id,
            ops,
            by,
            created_at: now,
            expires_at,
            contested: false,
            invited_by: None,
            draft,
            phase: Phase::Open {},
        })
    }

    /// Whose place it takes: whoever invited the person for whose device it is, or who proposed it.
    #[must_use]
    pub fn on_behalf_of(&self) -> &Proposer {
        self.invited_by.as_ref().unwrap_or(&self.by)
    }

    /// One line for lists: what is signed is shown from the bytes.
    #[must_use]
    pub fn title(&self) -> String {
        let mut titles = self.ops.iter().map(Op::title);
        let shown: Vec<String> = titles.by_ref().take(3).collect();
        match titles.count() {
            0 => shown.join("; "),
            more => format!("{}; and {more} more", shown.join("; ")),
        }
    }

    /// Whether it still waits.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open {}
    }

    /// Whether time or the head changes something about it.
    #[must_use]
    pub fn is_stale(&self, head: &VerifiedRoster, now: UnixTime) -> bool {
        let base = RosterRef { version: head.version, digest: head.digest() };
        self.is_open() && (now >= self.expires_at || self.draft.as_ref().is_none_or(|draft| draft.base != base))
    }

    /// The head moved: computed anew, without signatures. What does not fit any more is over, and so is
    /// what came by the invite of somebody who may not invite any more. Gives whether anything changed.
    pub fn rebase(&mut self, head: &VerifiedRoster, now: UnixTime, salt: Fixed<32>) -> bool {
        let base = RosterRef { version: head.version, digest: head.digest() };
        if !self.is_open() || self.draft.as_ref().is_some_and(|draft| draft.base == base) {
            return false;
        }
        let inviter = self.invited_by.as_ref().and_then(Proposer::person);
        if inviter.is_some_and(|by| !head.approvers().iter().any(|one| one.id == *by)) {
            self.end(Phase::Void { why: "whoever invited this person approves no more".to_owned() }, now);
            return true;
        }
        match draft(head, &self.ops, now, salt) {
            Ok(draft) => self.draft = Some(draft),
            Err(error) => self.end(Phase::Void { why: error.to_string() }, now),
        }
        true
    }

    /// Time passes. Gives whether it is over now.
    pub fn pass_time(&mut self, now: UnixTime) -> bool {
        let over = self.is_open() && now >= self.expires_at;
        if over {
            self.end(Phase::Expired {}, now);
        }
        over
    }

    /// Whether somebody may decline it, or take it back. The gateway's administrator may; so may the
    /// proposer, also of a change about themselves. Nobody else whom it concerns has a say in it, and
    /// a suspension by one person is that person's alone.
    ///
    /// # Errors
    /// [`DenyReason::ProposalOver`], [`DenyReason::ApproverNotEligible`].
    pub fn check_withdraw(&self, head: &Roster, by: &Proposer) -> Result<(), DenyReason> {
        let draft = self.draft.as_ref().ok_or(DenyReason::ProposalOver)?;
        let person = match by {
            Proposer::Admin { .. } => return Ok(()),
            Proposer::Person { person } => person,
            Proposer::Device { .. } | Proposer::Host { .. } => return Err(DenyReason::ApproverNotEligible),
        };
        let may = match &draft.step {
            Step::Suspension { by, .. } => by == person,
            Step::Ordinary | Step::Restoration { .. } => {
                self.by.person() == Some(person) || !concerns(head, &draft.next, person)
            }
        };
        if may { Ok(()) } else { Err(DenyReason::ApproverNotEligible) }
    }

    /// Declines it, or takes it back.
    ///
    /// # Errors
    /// As [`Self::check_withdraw`].
    pub fn withdraw(&mut self, head: &Roster, by: &Proposer, now: UnixTime) -> Result<(), DenyReason> {
        self.check_withdraw(head, by)?;
        self.end(Phase::Withdrawn {}, now);
        Ok(())
    }

    /// Another one takes its place.
    pub fn replaced(&mut self, now: UnixTime) {
        if self.is_open() {
            self.end(Phase::Withdrawn {}, now);
        }
    }

    /// It is committed as this version.
    pub fn sealed(&mut self, version: u64, now: UnixTime) {
        self.end(Phase::Sealed { version }, now);
    }

    fn end(&mut self, phase: Phase, now: UnixTime) {
        self.phase = phase;
        self.draft = None;
        self.expires_at = self.expires_at.min(now);
    }

    /// Whether this person may sign it now, with this device.
    ///
    /// # Errors
    /// [`DenyReason::ProposalOver`], [`DenyReason::AlreadyApproved`],
    /// [`DenyReason::ApproverNotEligible`], [`DenyReason::AssuranceTooLow`],
    /// [`DenyReason::ModelNotListed`].
    pub fn check_signer(&self, head: &Roster, person: &Person, device: &Device) -> Result<(), DenyReason> {
        let draft = self.draft.as_ref().ok_or(DenyReason::ProposalOver)?;
        if !head.approvers().iter().any(|one| one.id == person.id) {
            return Err(DenyReason::ApproverNotEligible);
        }
        head.rules.check_device(device)?;
        if draft.signatures.iter().any(|one| one.person == person.id) {
            return Err(DenyReason::AlreadyApproved);
        }
        match &draft.step {
            Step::Ordinary => Ok(()),
            Step::Suspension { by, .. } if *by == person.id => Ok(()),
            Step::Restoration { person: whose, .. } if *whose != person.id => Ok(()),
            Step::Suspension { .. } | Step::Restoration { .. } => Err(DenyReason::ApproverNotEligible),
        }
    }

    /// Takes a signature. Verified here in full, and once more, all together, by
    /// [`VerifiedRoster::successor`] before anything counts as sealed.
    ///
    /// # Errors
    /// As [`Self::check_signer`]; [`DenyReason::ProposalChanged`] when it is to an older draft; the
    /// verifier's reason.
    pub fn sign(
        &mut self,
        head: &VerifiedRoster,
        person: &Person,
        device: &Device,
        signed: SignedStatement,
        now: UnixTime,
    ) -> Result<Signed, DenyReason> {
        if self.pass_time(now) || !self.is_open() {
            return Err(DenyReason::ProposalOver);
        }
        let statement = RosterStatement::from_bytes(&signed.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
        self.check_signer(head, person, device)?;
        let draft = self.draft.as_mut().ok_or(DenyReason::ProposalOver)?;
        if draft.base != (RosterRef { version: head.version, digest: head.digest() })
            || statement.roster_digest != draft.digest
        {
            return Err(DenyReason::ProposalChanged);
        }
        if statement.person != person.id
            || statement.device_id != device.id
            || statement.gateway_salt != draft.salt_of(&person.id, device)
        {
            return Err(DenyReason::EvidenceOtherRequest);
        }
        let (signer, _device) = head.verify_signature(draft.next.version, &draft.digest, &signed)?;
        if signer.id != person.id {
            return Err(DenyReason::ApproverUnknown);
        }
        draft.signatures.push(Signature { person: signer.id.clone(), at: now, signed });
        if draft.signatures.len() < draft.needs() {
            return Ok(Signed::Counted);
        }
        let envelope = draft.envelope();
        match head.successor(&envelope) {
            Ok(next) => Ok(Signed::Complete { envelope: Box::new(envelope), next: Box::new(next) }),
            Err(error) => {
                // Two of one client class, where two are asked for; or a fault of ours.
                tracing::warn!(%error, "signatures do not make the next roster");
                draft.signatures.pop();
                Err(DenyReason::ProposalUnsound)
            }
        }
    }

    /// For the database.
    #[must_use]
    pub fn at_rest(&self) -> ProposalAtRest {
        let draft = self.draft.as_ref();
        ProposalAtRest {
            id: self.id,
            ops: self.ops.clone(),
            by: self.by.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            contested: self.contested,
            invited_by: self.invited_by.clone(),
            issued_at: draft.map_or(self.created_at, |draft| draft.next.issued_at),
            base: draft.map(|draft| draft.base),
            salt: draft.map(|draft| draft.salt),
            signatures: draft.map(|draft| draft.signatures.clone()).unwrap_or_default(),
            phase: self.phase.clone(),
        }
    }
}

impl ProposalAtRest {
    /// Back from the database, on the head as it is now. Signatures that do not verify under it are
    /// left out (I6).
    #[must_use]
    pub fn revive(self, head: &VerifiedRoster) -> Proposal {
        let mut proposal = Proposal {
            id: self.id,
            ops: self.ops,
            by: self.by,
            created_at: self.created_at,
            expires_at: self.expires_at,
            contested: self.contested,
            invited_by: self.invited_by,
            draft: None,
            phase: self.phase,
        };
        if !proposal.is_open() {
            return proposal;
        }
        let base = RosterRef { version: head.version, digest: head.digest() };
        let (Some(salt), true) = (self.salt, self.base == Some(base)) else { return proposal };
        match draft(head, &proposal.ops, self.issued_at, salt) {
            Ok(mut draft) => {
                let verifies = |one: &Signature| {
                    let signer = head.verify_signature(draft.next.version, &draft.digest, &one.signed);
                    signer.is_ok_and(|(person, _)| person.id == one.person)
                };
                draft.signatures = self.signatures.into_iter().filter(verifies).collect();
                proposal.draft = Some(draft);
            }
            Err(_) => {
                // Not under this head any more: time and the head, looked at next, end it.
            }
        }
        proposal
    }
}

/// Whether a step changes what the roster says of this person: their record, or a uid of theirs.
fn concerns(head: &Roster, next: &Roster, person: &PersonId) -> bool {
    let uids = |roster: &Roster| {
        let mut of: Vec<_> = roster.uids.iter().filter(|one| one.person == *person).cloned().collect();
        of.sort_by(|a, b| (&a.host, a.uid).cmp(&(&b.host, b.uid)));
        of
    };
    head.person(person) != next.person(person) || uids(head) != uids(next)
}

fn draft(head: &VerifiedRoster, ops: &[Op], now: UnixTime, salt: Fixed<32>) -> Result<Draft, OpError> {
    let Outcome { roster, possessions } = apply(head, ops, now)?;
    let base = RosterRef { version: head.version, digest: head.digest() };
    let digest = Roster::digest_of(&roster.to_bytes());
    let step = head.step(&roster)?;
    Ok(Draft { base, next: roster, digest, possessions, step, salt, signatures: Vec::new() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use twinlock_protocol::codec;
    use twinlock_protocol::softphone::{Fixture, random};

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn own(person: &str) -> Proposer {
        Proposer::Person { person: PersonId::new(person).unwrap() }
    }

    fn renewal() -> (Fixture, VerifiedRoster, Proposal) {
        let fixture = Fixture::new(b"ca", NOW);
        let (_, head) = fixture.seal();
        let ops = vec![Op::Renew { expires_at: NOW.plus(200 * 24 * 3600) }];
        let by = Proposer::Person { person: PersonId::new("bob").unwrap() };
        let proposal = Proposal::new(Fixed(random()), ops, by, &head, Fixed(random()), NOW, PROPOSAL_VALID_S).unwrap();
        (fixture, head, proposal)
    }

    /// The statement of a signer, as the page makes it.
    fn statement(fixture: &Fixture, proposal: &Proposal, person: &str) -> RosterStatement {
        let (draft, phone) = (proposal.draft.as_ref().unwrap(), fixture.phone(person));
        RosterStatement {
            kind: twinlock_protocol::statement::RosterKind::Roster,
            version: 1,
            roster_version: draft.next.version,
            roster_digest: draft.digest,
            person: phone.person.clone(),
            credential_id: phone.device.credential_id.clone(),
            device_id: phone.device.id.clone(),
            gateway_salt: draft.salt_of(&phone.person, &phone.device),
        }
    }

    fn sign(
        fixture: &Fixture,
        head: &VerifiedRoster,
        proposal: &mut Proposal,
        person: &str,
    ) -> Result<Signed, DenyReason> {
        let phone = fixture.phone(person);
        let bytes = statement(fixture, proposal, person).to_bytes();
        let signed = phone.sign(head, twinlock_protocol::statement::ROSTER_DOMAINS, &bytes);
        let signer = head.person(&phone.person).unwrap();
        proposal.sign(head, signer, &phone.device, signed, NOW)
    }

    #[test]
    fn a_proposal_comes_back_from_the_database_with_the_signatures_that_still_verify() {
        let (fixture, head, mut proposal) = renewal();
        assert_eq!(sign(&fixture, &head, &mut proposal, "carol"), Ok(Signed::Counted));
        let bytes = codec::encode(&proposal.at_rest());
        let at_rest: ProposalAtRest = serde_json::from_slice(&bytes).unwrap();
        let mut back = at_rest.clone().revive(&head);
        assert_eq!(back, proposal);
        assert!(matches!(sign(&fixture, &head, &mut back, "dave"), Ok(Signed::Complete { .. })));
    }

    /// Catalogue: I6 (control: a_proposal_comes_back_from_the_database_with_the_signatures_that_still_verify)
    #[test]
    fn operations_that_were_changed_in_the_database_lose_their_signatures() {
        let (fixture, head, mut proposal) = renewal();
        assert_eq!(sign(&fixture, &head, &mut proposal, "carol"), Ok(Signed::Counted));
        let mut at_rest = proposal.at_rest();
        at_rest.ops.push(Op::EditPerson {
            person: PersonId::new("alice").unwrap(),
            name: None,
            logins: None,
            groups: Some(vec![twinlock_protocol::ids::GroupName::new("approvers").unwrap()]),
            may_request: None,
        });
        let back = at_rest.revive(&head);
        assert!(back.draft.unwrap().signatures.is_empty());
    }

    #[test]
    fn one_person_signs_once_and_nobody_signs_what_is_over() {
        let (fixture, head, mut proposal) = renewal();
        assert_eq!(sign(&fixture, &head, &mut proposal, "carol"), Ok(Signed::Counted));
        assert_eq!(sign(&fixture, &head, &mut proposal, "carol"), Err(DenyReason::AlreadyApproved));
        let mut declined = proposal.clone();
        declined.withdraw(&head, &own("carol"), NOW).unwrap();
        assert_eq!(declined.withdraw(&head, &own("carol"), NOW), Err(DenyReason::ProposalOver));
        let mut late = proposal.clone();
        assert!(late.pass_time(NOW.plus(PROPOSAL_VALID_S)) && late.phase == Phase::Expired {});
        assert!(matches!(sign(&fixture, &head, &mut proposal, "dave"), Ok(Signed::Complete { .. })));
    }

    /// Catalogue: A12 (control: inline)
    #[test]
    fn whom_a_change_concerns_does_not_decline_it_unless_it_is_their_own() {
        let fixture = Fixture::new(b"ca", NOW);
        let (_, head) = fixture.seal();
        let dave = PersonId::new("dave").unwrap();
        let remove = |by| {
            let ops = vec![Op::Suspend { person: dave.clone(), by: None }];
            Proposal::new(Fixed(random()), ops, by, &head, Fixed(random()), NOW, PROPOSAL_VALID_S).unwrap()
        };
        let refused = Err(DenyReason::ApproverNotEligible);
        assert_eq!(remove(own("carol")).check_withdraw(&head, &own("dave")), refused);
        assert_eq!(remove(Proposer::Admin { uid: 0 }).check_withdraw(&head, &own("dave")), refused);
        // Control: others decline it, dave declines what he asked for himself, root everything.
        assert_eq!(remove(own("carol")).check_withdraw(&head, &own("bob")), Ok(()));
        assert_eq!(remove(own("dave")).check_withdraw(&head, &own("dave")), Ok(()));
        assert_eq!(remove(own("carol")).check_withdraw(&head, &Proposer::Admin { uid: 0 }), Ok(()));
        let (_, base, about_nobody) = renewal();
        assert_eq!(about_nobody.check_withdraw(&base, &own("dave")), Ok(()));
        let device = Proposer::Device { person: dave.clone() };
        assert_eq!(remove(own("carol")).check_withdraw(&head, &device), refused);
    }

    #[test]
    fn what_is_over_is_told_of_from_its_end() {
        let (_, head, mut proposal) = renewal();
        proposal.withdraw(&head, &own("bob"), NOW.plus(60)).unwrap();
        assert_eq!(proposal.expires_at, NOW.plus(60));
        let (_, _, mut late) = renewal();
        assert!(late.pass_time(NOW.plus(PROPOSAL_VALID_S + 99)));
        assert_eq!(late.expires_at, NOW.plus(PROPOSAL_VALID_S));
    }
}
