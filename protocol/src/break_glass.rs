//! Break-glass: two people approve while no gateway can be reached. The module prints the request as
//! text, each of two holders of break-glass keys signs a [`Statement`] about it somewhere else, and
//! what comes back is a short [`Answer`] to type or paste. A statement never travels: whoever verifies
//! makes its bytes anew from what it knows itself, so an answer counts for one request of one module
//! invocation on one host and for nothing else.
//!
//! [`VerifiedBreakGlass`] is the proof token: only [`VerifiedBreakGlass::new`] makes it, of two
//! [`VerifiedOffline`], which only [`verify_answer`] makes. No I/O, no clock. It must never make one
//! person, one key, the requester or a single answer suffice.

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::base;
use crate::bytes::{Bytes, Fixed};
use crate::codec::{DecodeError, decode_canonical, encode};
use crate::digest::{Digest, Domain};
use crate::evidence::SignedRequest;
use crate::ids::{HostId, PersonId, RequestId};
use crate::limits;
use crate::refusal::DenyReason;
use crate::request::RosterRef;
use crate::roster::{BreakGlassKey, Gate, Person, Roster, Standing, VerifiedRoster};
use crate::signature::{self, PublicKey, Signature};
use crate::statement::Decision;
use crate::verify::{VerifiedRequest, verify_request_but_for_time};

/// The only version of statements, answers, drills and evidence that exists.
pub const VERSION: u32 = 1;
/// An answer's bytes without its checksum: version and decision, life, key, signature.
const ANSWER_BYTES: usize = 1 + 2 + 8 + 64;
/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 4;
/// Characters of base64url in one line of a challenge.
const LINE: usize = 64;

/// What an answer is for. It stands in the signed bytes: a drill's answer grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To let the command run.
    Grant,
    /// To show that the keys are at hand.
    Drill,
    /// To close the review of a grant.
    Review,
}

/// `"break_glass"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum StatementKind {
    /// The only value.
    #[serde(rename = "break_glass")]
    BreakGlass,
}

/// What a holder signs: `"twinlock/break-glass/v1\0" ‖ bytes`. Field order is the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// `"break_glass"`.
    pub kind: StatementKind,
    /// [`VERSION`].
    pub version: u32,
    /// What for.
    pub purpose: Purpose,
    /// The request's digest; a drill's own.
    pub request_digest: Digest,
    /// Who signs.
    pub person: PersonId,
    /// With which key.
    pub key: PublicKey,
    /// The longest life that this person grants, in seconds.
    pub ttl_s: u32,
    /// Yes or no.
    pub decision: Decision,
}

impl Statement {
    /// A holder's statement.
    #[must_use]
    pub fn new(purpose: Purpose, about: Digest, holder: &BreakGlassKey, ttl_s: u16, decision: Decision) -> Self {
        Self {
            kind: StatementKind::BreakGlass,
            version: VERSION,
            purpose,
            request_digest: about,
            person: holder.person.clone(),
            key: holder.key,
            ttl_s: ttl_s.into(),
            decision,
        }
    }

    /// The message that is signed.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        Domain::BreakGlass.message(&encode(self))
    }
}

/// A holder's answer, short enough to be typed: the decision, the life, which key, the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Yes or no.
    pub decision: Decision,
    /// The longest life that the holder grants, in seconds.
    pub ttl_s: u16,
    /// The first eight bytes of [`BreakGlassKey::key_digest`].
    pub key_id: [u8; 8],
    /// Over [`Statement::message`].
    pub signature: Signature,
}

impl Answer {
    /// The bytes: `1` (yes) or `2` (no), the life (big-endian), the key's eight bytes, the signature.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let first = match self.decision {
            Decision::Approve => 1,
            Decision::Deny => 2,
        };
        let mut bytes = vec![first];
        bytes.extend_from_slice(&self.ttl_s.to_be_bytes());
        bytes.extend_from_slice(&self.key_id);
        bytes.extend_from_slice(&self.signature.0);
        bytes
    }

    /// Reads those bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ANSWER_BYTES] = bytes.try_into().ok()?;
        let (head, signature) = bytes.split_first_chunk::<11>()?;
        let [first, high, low, key_id @ ..] = *head;
        let decision = match first {
            1 => Decision::Approve,
            2 => Decision::Deny,
            _ => return None,
        };
        let signature = Fixed(signature.try_into().ok()?);
        Some(Self { decision, ttl_s: u16::from_be_bytes([high, low]), key_id, signature })
    }

    /// As people pass it on: base32 of bytes and checksum, in groups of eight.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = self.to_bytes();
        bytes.extend(checksum(&bytes));
        let mut text = String::new();
        for (at, letter) in base::to_base32(&bytes).chars().enumerate() {
            if at > 0 && at % 8 == 0 {
                text.push('-');
            }
            text.push(letter);
        }
        text
    }

    /// Reads what somebody typed: case, spaces and hyphens don't matter. None where a character is
    /// missing or mistyped.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let letters = text.chars().filter(|letter| !matches!(letter, ' ' | '-' | '\t' | '\r' | '\n'));
        let letters: String = letters.map(|letter| letter.to_ascii_uppercase()).collect();
        let bytes = base::from_base32(&letters)?;
        let (bytes, given) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if checksum(bytes) == given { Self::from_bytes(bytes) } else { None }
    }
}

fn checksum(bytes: &[u8]) -> Vec<u8> {
    Digest::of(Domain::BreakGlassAnswer, bytes).as_bytes().iter().copied().take(CHECKSUM_BYTES).collect()
}

/// `"twinlock-break-glass-drill"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrillFormat {
    /// The only value.
    #[serde(rename = "twinlock-break-glass-drill")]
    Drill,
}

/// What holders sign in a drill, in place of a request. Field order is the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// `"twinlock-break-glass-drill"`.
    pub format: DrillFormat,
    /// [`VERSION`].
    pub version: u32,
    /// The host that drills.
    pub host: HostId,
    /// The roster that it pins.
    pub roster: RosterRef,
    /// When, by its clock.
    pub created_at: UnixTime,
    /// 256 random bits.
    pub nonce: Fixed<32>,
}

impl Drill {
    /// The bytes that stand in the challenge.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a drill.
    ///
    /// # Errors
    /// Over-long, malformed or not canonical input, or another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let drill: Self = decode_canonical("drill", limits::STATEMENT_BYTES, bytes)?;
        if drill.version != VERSION {
            return Err(DecodeError::Invalid { what: "drill", rule: "version is 1" });
        }
        Ok(drill)
    }

    /// The digest that a drill's statements name.
    #[must_use]
    pub fn digest_of(bytes: &[u8]) -> Digest {
        Digest::of(Domain::BreakGlassDrill, bytes)
    }
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::Grant => "REQUEST",
            Self::Drill => "DRILL",
            Self::Review => "REVIEW",
        }
    }
}

/// A challenge as text: what is to be signed (a request's bytes, a drill's) between two lines that
/// say what for. Nothing relies on these lines: the purpose stands in what is signed.
#[must_use]
pub fn challenge(purpose: Purpose, bytes: &[u8]) -> String {
    let label = purpose.label();
    let mut text = format!("-----BEGIN TWINLOCK {label}-----\n");
    let letters = base::to_base64url(bytes);
    let mut rest = letters.as_str();
    while !rest.is_empty() {
        // One byte a letter.
        let (line, next) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text.push_str("-----END TWINLOCK ");
    text.push_str(label);
    text.push_str("-----");
    text
}

/// Reads a challenge out of text: what stands before and after it, and white space at the ends of its
/// lines, doesn't matter. None where there is none, or not a whole one.
#[must_use]
pub fn read_challenge(text: &str) -> Option<(Purpose, Vec<u8>)> {
    let mut lines = text.lines().map(str::trim);
    let purposes = [Purpose::Grant, Purpose::Drill, Purpose::Review];
    let begins =
        |line: &str| purposes.into_iter().find(|one| line == format!("-----BEGIN TWINLOCK {}-----", one.label()));
    let purpose = lines.find_map(begins)?;
    let end = format!("-----END TWINLOCK {}-----", purpose.label());
    let mut letters = String::new();
    for line in lines {
        if line == end {
            return base::from_base64url(&letters).map(|bytes| (purpose, bytes));
        }
        letters.push_str(line);
        if letters.len() > 2 * limits::REQUEST_BYTES {
            return None;
        }
    }
    None
}

/// Verifies a request as [`verify_request`](crate::verify::verify_request) does, and, where the
/// roster has break-glass keys, for another [`limits::BREAK_GLASS_GRACE_S`] after the roster's end:
/// when a gateway is gone for good nobody can renew the roster, and hosts must not lock everybody out
/// meanwhile. Evidence from a gateway counts no longer for that: it is held to the roster's time.
///
/// # Errors
/// The [`DenyReason`] of the first check that fails.
pub fn verify_request(
    roster: &VerifiedRoster,
    signed: &SignedRequest,
    now: UnixTime,
) -> Result<VerifiedRequest, DenyReason> {
    let grace = if roster.break_glass_keys.is_empty() { 0 } else { limits::BREAK_GLASS_GRACE_S };
    match roster.check_time(now) {
        Err(DenyReason::RosterExpired) if now < roster.expires_at.plus(grace) => {}
        judged => judged?,
    }
    verify_request_but_for_time(roster, signed)
}

/// One holder's verified yes to one request. Only [`verify_answer`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct VerifiedOffline {
    about: Digest,
    holder: BreakGlassKey,
    ttl_s: u32,
}

impl VerifiedOffline {
    /// Who.
    #[must_use]
    pub fn person(&self) -> &PersonId {
        &self.holder.person
    }
}

/// The persons who could answer this request offline: holders of a break-glass key who are active, in
/// a group that approves it, and neither ask for it nor answer for who asks.
///
/// # Errors
/// [`DenyReason::NoGate`], [`DenyReason::RosterMismatch`].
pub fn holders<'a>(roster: &'a VerifiedRoster, request: &VerifiedRequest) -> Result<Vec<&'a Person>, DenyReason> {
    let gate = request.gate(roster)?;
    let mut persons: Vec<&Person> = Vec::new();
    for key in &roster.break_glass_keys {
        let person = roster
            .person(&key.person)
            .filter(|person| check_holder(person, &[gate]).is_ok() && !request.excluded().contains(&person.id));
        persons.extend(person.filter(|person| persons.iter().all(|other| other.id != person.id)));
    }
    Ok(persons)
}

fn check_holder(person: &Person, gates: &[&Gate]) -> Result<(), DenyReason> {
    let approves = |gate: &&Gate| gate.approvers.iter().any(|group| person.groups.contains(group));
    match person.standing == Standing::Active && gates.iter().any(approves) {
        true => Ok(()),
        false => Err(DenyReason::ApproverNotEligible),
    }
}

/// The holder who signed this answer for this purpose: a key of the roster, an active person, and the
/// signature over the bytes that are made anew here.
fn signer(
    roster: &Roster,
    purpose: Purpose,
    about: Digest,
    gates: &[&Gate],
    answer: &Answer,
) -> Result<BreakGlassKey, DenyReason> {
    if !(limits::MIN_TTL_S..=limits::MAX_BREAK_GLASS_TTL_S).contains(&answer.ttl_s.into()) {
        return Err(DenyReason::BreakGlassAnswer);
    }
    let named = |one: &&BreakGlassKey| one.key_digest().as_bytes().starts_with(&answer.key_id);
    let holder = roster.break_glass_keys.iter().find(named).ok_or(DenyReason::ApproverUnknown)?;
    let message = Statement::new(purpose, about, holder, answer.ttl_s, answer.decision).message();
    if !signature::verify(&holder.key, &message, &answer.signature) {
        return Err(DenyReason::BreakGlassAnswer);
    }
    check_holder(roster.person(&holder.person).ok_or(DenyReason::ApproverUnknown)?, gates)?;
    Ok(holder.clone())
}

/// Verifies one holder's answer to this request.
///
/// # Errors
/// [`DenyReason::Denied`] when it is a verified no; else the [`DenyReason`] of the first check that
/// fails.
pub fn verify_answer(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    answer: &Answer,
) -> Result<VerifiedOffline, DenyReason> {
    let gate = request.gate(roster)?;
    let about = request.id().0;
    let holder = signer(roster, Purpose::Grant, about, &[gate], answer)?;
    // Whoever asks may still say no.
    if answer.decision == Decision::Deny {
        return Err(DenyReason::Denied);
    }
    if request.excluded().contains(&holder.person) {
        return Err(DenyReason::ApproverIsRequester);
    }
    Ok(VerifiedOffline { about, holder, ttl_s: answer.ttl_s.into() })
}

/// Two distinct holders with distinct keys said yes, offline, to one request that neither of them
/// made. There is no other way to make one than [`VerifiedBreakGlass::new`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct VerifiedBreakGlass {
    request: RequestId,
    holders: [BreakGlassKey; 2],
    ttl_s: u32,
    delay_s: u32,
}

impl VerifiedBreakGlass {
    /// Joins two answers.
    ///
    /// # Errors
    /// [`DenyReason::SamePerson`], [`DenyReason::SameDevice`], [`DenyReason::EvidenceOtherRequest`],
    /// [`DenyReason::RosterMismatch`].
    pub fn new(
        roster: &VerifiedRoster,
        request: &VerifiedRequest,
        first: VerifiedOffline,
        second: VerifiedOffline,
    ) -> Result<Self, DenyReason> {
        if !request.is_under(roster) {
            return Err(DenyReason::RosterMismatch);
        }
        if first.about != request.id().0 || second.about != request.id().0 {
            return Err(DenyReason::EvidenceOtherRequest);
        }
        if first.holder.person == second.holder.person {
            return Err(DenyReason::SamePerson);
        }
        if first.holder.key == second.holder.key {
            return Err(DenyReason::SameDevice);
        }
        let rules = &roster.rules;
        let limits = [first.ttl_s, second.ttl_s, rules.max_ttl_s, rules.break_glass.max_ttl_s];
        Ok(Self {
            request: request.id(),
            ttl_s: limits.into_iter().fold(request.request().ttl_s, u32::min),
            delay_s: rules.break_glass.delay_s,
            holders: [first.holder, second.holder],
        })
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// Who said yes, and with which keys, in the order given.
    #[must_use]
    pub fn holders(&self) -> &[BreakGlassKey; 2] {
        &self.holders
    }

    /// The life: the least of the request's, both answers' and both of the roster's, in seconds.
    #[must_use]
    pub fn ttl_s(&self) -> u32 {
        self.ttl_s
    }

    /// How long the command waits first, in seconds of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn delay_s(&self) -> u32 {
        self.delay_s
    }
}

/// `"twinlock-break-glass"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EvidenceFormat {
    /// The only value.
    #[serde(rename = "twinlock-break-glass")]
    BreakGlass,
}

/// What two holders answered about one request. Field order is the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassEvidence {
    /// `"twinlock-break-glass"`.
    pub format: EvidenceFormat,
    /// [`VERSION`].
    pub version: u32,
    /// The request.
    pub request_digest: RequestId,
    /// [`Answer::to_bytes`] of exactly two, in the order in which they were given.
    pub answers: Vec<Bytes>,
}

impl BreakGlassEvidence {
    /// Evidence of two answers.
    #[must_use]
    pub fn new(request: RequestId, answers: [&Answer; 2]) -> Self {
        Self {
            format: EvidenceFormat::BreakGlass,
            version: VERSION,
            request_digest: request,
            answers: answers.iter().map(|answer| Bytes(answer.to_bytes())).collect(),
        }
    }

    /// The bytes that the GrantRecord keeps.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads evidence; verifies nothing.
    ///
    /// # Errors
    /// Over-long, malformed or not canonical input, or another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let evidence: Self = decode_canonical("break-glass evidence", limits::STATEMENT_BYTES, bytes)?;
        if evidence.version != VERSION {
            return Err(DecodeError::Invalid { what: "break-glass evidence", rule: "version is 1" });
        }
        Ok(evidence)
    }
}

/// Verifies recorded evidence for a request that was verified under `roster`, as the module did.
///
/// # Errors
/// The [`DenyReason`] of the first check that fails.
pub fn verify_evidence(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    evidence: &[u8],
) -> Result<VerifiedBreakGlass, DenyReason> {
    let evidence = BreakGlassEvidence::from_bytes(evidence).map_err(|_| DenyReason::EvidenceMalformed)?;
    if evidence.request_digest != request.id() {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let read = |bytes: &Bytes| Answer::from_bytes(&bytes.0).ok_or(DenyReason::EvidenceMalformed);
    let [first, second] = &evidence.answers[..] else { return Err(DenyReason::EvidenceMalformed) };
    let first = verify_answer(roster, request, &read(first)?)?;
    let second = verify_answer(roster, request, &read(second)?)?;
    VerifiedBreakGlass::new(roster, request, first, second)
}

/// Verifies one answer to a drill; whose it is, and with which key.
///
/// # Errors
/// The [`DenyReason`] of the first check that fails.
pub fn verify_drill(roster: &VerifiedRoster, drill: &[u8], answer: &Answer) -> Result<BreakGlassKey, DenyReason> {
    let read = Drill::from_bytes(drill).map_err(|_| DenyReason::RequestMalformed)?;
    if read.roster != roster.reference() {
        return Err(DenyReason::RosterMismatch);
    }
    let gates: Vec<&Gate> = roster.rules.gates.iter().collect();
    let holder = signer(roster, Purpose::Drill, Drill::digest_of(drill), &gates, answer)?;
    if answer.decision == Decision::Deny { Err(DenyReason::Denied) } else { Ok(holder) }
}

/// Verifies the answer that closes the review of a break-glass grant: under the newest roster, by a
/// holder who neither asked nor answered, and only once the keys that were used are gone from it.
///
/// # Errors
/// [`DenyReason::BreakGlassKeysStand`] while a used key is still in `head`; else the [`DenyReason`] of
/// the first check that fails.
pub fn verify_review(
    head: &VerifiedRoster,
    request: &VerifiedRequest,
    used: &VerifiedBreakGlass,
    answer: &Answer,
) -> Result<BreakGlassKey, DenyReason> {
    if used.request != request.id() {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    if head.break_glass_keys.iter().any(|one| used.holders.iter().any(|gone| gone.key == one.key)) {
        return Err(DenyReason::BreakGlassKeysStand);
    }
    let gates: Vec<&Gate> = head.rules.gates.iter().collect();
    let holder = signer(head, Purpose::Review, request.id().0, &gates, answer)?;
    if answer.decision == Decision::Deny {
        return Err(DenyReason::Denied);
    }
    if request.excluded().contains(&holder.person) || request.requesters().contains(&holder.person) {
        return Err(DenyReason::ApproverIsRequester);
    }
    // Under the newer roster the requester may go by another id, or be somebody's service.
    let asked = request.request();
    if let Ok(persons) = head.requester_persons(&asked.host, &asked.requester)
        && head.excluded(&persons).contains(&holder.person)
    {
        return Err(DenyReason::ApproverIsRequester);
    }
    if used.holders.iter().any(|one| one.person == holder.person) {
        return Err(DenyReason::SamePerson);
    }
    Ok(holder)
}
