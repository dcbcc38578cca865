//! The one verifier. [`verify_request`], [`verify_statement`] and [`verify_evidence`] are the only
//! makers of the proof tokens [`VerifiedRequest`], [`VerifiedApproval`], [`VerifiedDenial`] and
//! [`TwoPersonApproval`]; gateway, module, command line and SSH helper all call them. No I/O, no
//! clock.

use crate::UnixTime;
use crate::digest::{Digest, Domain};
use crate::evidence::{Evidence, SignedRequest, SignedStart};
use crate::ids::{DeviceId, PersonId, RequestId};
use crate::refusal::DenyReason;
use crate::request::{ElevationRequest, RequestKind, RosterRef, Scope};
use crate::roster::{
    Assurance, ClientClass, Device, Gate, Host, Person, RosterEnvelope, Standing, VerifiedRoster, insert_once,
};
use crate::signature::{self, PublicKey};
use crate::statement::{APPROVAL_DOMAINS, ApprovalStatement, Channel, Decision, SignedStatement, StartStatement};
use crate::webauthn::{self, Expected};

/// A request that its host and its session key signed, made by a host of the roster under this
/// very roster, for somebody who may ask. [`Self::under`] brings it under a later version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRequest {
    signed: SignedRequest,
    request: ElevationRequest,
    id: RequestId,
    /// By which roster everything below was looked up.
    decided_by: RosterRef,
    host_key: PublicKey,
    max_ttl_s: u32,
    approve_by_s: u32,
    requesters: Vec<PersonId>,
    excluded: Vec<PersonId>,
}

impl VerifiedRequest {
    /// The request.
    #[must_use]
    pub fn request(&self) -> &ElevationRequest {
        &self.request
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Its bytes and signatures.
    #[must_use]
    pub fn signed(&self) -> &SignedRequest {
        &self.signed
    }

    /// The persons who ask: one human being, usually, under one or more names.
    #[must_use]
    pub fn requesters(&self) -> &[PersonId] {
        &self.requesters
    }

    /// The persons who may not approve: the requesters, and the owners of services.
    #[must_use]
    pub fn excluded(&self) -> &[PersonId] {
        &self.excluded
    }

    /// How long after it was made the last approval counts, in seconds: as it asked, and as every
    /// roster allows under which it was brought.
    #[must_use]
    pub fn approve_by_s(&self) -> u32 {
        self.approve_by_s
    }

    /// Who asks, where and as whom was looked up in one roster; nothing about this request may be
    /// decided under another, unless it is brought there first.
    fn check_roster(&self, roster: &VerifiedRoster) -> Result<(), DenyReason> {
        if self.is_under(roster) { Ok(()) } else { Err(DenyReason::RosterMismatch) }
    }

    /// The roster by which it is decided: the one that it names, or a later one of its chain.
    #[must_use]
    pub fn decided_by(&self) -> RosterRef {
        self.decided_by
    }

    /// Whether this roster is the one by which it is decided.
    #[must_use]
    pub fn is_under(&self, roster: &VerifiedRoster) -> bool {
        self.decided_by == roster.reference()
    }

    /// The same request, decided by a later version: its host must stand there with the same key, and
    /// everybody who asks must still be allowed to. Whoever was excluded stays so, whatever logins say
    /// now, and no rule gets wider than it was.
    ///
    /// # Errors
    /// [`DenyReason::RosterMismatch`] when `head` was not reached from the roster by which it is
    /// decided, or is that of another chain; else the [`DenyReason`] of the first check that fails.
    pub fn under(&self, head: &VerifiedRoster) -> Result<Self, DenyReason> {
        if !head.descends_from(&self.decided_by) {
            return Err(DenyReason::RosterMismatch);
        }
        let host = head.roster().host(&self.request.host).ok_or(DenyReason::HostUnknown)?;
        if host.host_key != self.host_key {
            return Err(DenyReason::HostUnknown);
        }
        let mut persons = Vec::new();
        for id in &self.requesters {
            insert_once(&mut persons, head.roster().person(id).ok_or(DenyReason::RequesterUnknown)?);
        }
        for person in head.roster().requester_persons(&self.request.host, &self.request.requester)? {
            insert_once(&mut persons, person);
        }
        if !persons.iter().all(|person| person.may_ask()) {
            return Err(DenyReason::RequesterMayNotAsk);
        }
        let mut excluded = Vec::new();
        for id in self.excluded.iter().cloned().chain(head.roster().excluded(&persons)) {
            if let Err(at) = excluded.binary_search(&id) {
                excluded.insert(at, id);
            }
        }
        let moved = Self {
            decided_by: head.reference(),
            max_ttl_s: self.max_ttl_s.min(head.roster().rules.max_ttl_s),
            approve_by_s: self.approve_by_s.min(head.roster().rules.max_approve_by_s),
            requesters: persons.into_iter().map(|person| person.id.clone()).collect(),
            excluded,
            ..self.clone()
        };
        moved.check_approvable(head)?;
        Ok(moved)
    }

    fn check_approvable(&self, roster: &VerifiedRoster) -> Result<(), DenyReason> {
        if roster.roster().rules.holds_two_for_a_yes(&self.eligible(roster)?) {
            Ok(())
        } else {
            Err(DenyReason::TooFewApprovers)
        }
    }

    /// The request's host, in the roster that verified it.
    ///
    /// # Errors
    /// [`DenyReason::RosterMismatch`] when `roster` is another one.
    pub fn host<'a>(&self, roster: &'a VerifiedRoster) -> Result<&'a Host, DenyReason> {
        self.check_roster(roster)?;
        roster.roster().host(&self.request.host).ok_or(DenyReason::HostUnknown)
    }

    /// The gate that decides about it.
    ///
    /// # Errors
    /// [`DenyReason::NoGate`], [`DenyReason::RosterMismatch`].
    pub fn gate<'a>(&self, roster: &'a VerifiedRoster) -> Result<&'a Gate, DenyReason> {
        let host = self.host(roster)?;
        roster.roster().gate(host, &self.request.target).ok_or(DenyReason::NoGate)
    }

    /// Everybody who may approve it now.
    ///
    /// # Errors
    /// As [`Self::gate`].
    pub fn eligible<'a>(&self, roster: &'a VerifiedRoster) -> Result<Vec<&'a Person>, DenyReason> {
        Ok(roster.roster().eligible(self.gate(roster)?, &self.excluded))
    }
}

/// Verifies a request: strict decoding, supported kind and scope, the roster's own reference, the
/// host's and the session key's signatures, who asks, and that two others can approve.
///
/// # Errors
/// The [`DenyReason`] of the first check that fails.
pub fn verify_request(
    roster: &VerifiedRoster,
    signed: &SignedRequest,
    now: UnixTime,
) -> Result<VerifiedRequest, DenyReason> {
    roster.check_time(now)?;
    verify_request_but_for_time(roster, signed)
}

/// As [`verify_request`], for whoever has looked at the roster's time.
pub(crate) fn verify_request_but_for_time(
    roster: &VerifiedRoster,
    signed: &SignedRequest,
) -> Result<VerifiedRequest, DenyReason> {
    let request = ElevationRequest::from_bytes(&signed.request.0).map_err(|_| DenyReason::RequestMalformed)?;
    match (request.kind, request.scope) {
        (RequestKind::Module, Scope::Command) => {}
        (RequestKind::Ssh | RequestKind::Ahead, _) | (_, Scope::Session) => return Err(DenyReason::KindUnsupported),
    }
    if request.roster != roster.reference() {
        return Err(DenyReason::RosterMismatch);
    }
    if request.approve_by_s > roster.roster().rules.max_approve_by_s {
        return Err(DenyReason::RequestMalformed);
    }
    let id = ElevationRequest::id_of(&signed.request.0);
    let host = roster.roster().host(&request.host).ok_or(DenyReason::HostUnknown)?;
    let by = |key: &PublicKey, domain: Domain, given| signature::verify(key, &domain.message(id.0.as_bytes()), given);
    if !by(&host.host_key, Domain::RequestHost, &signed.host_signature)
        || !by(&request.session_key, Domain::RequestSession, &signed.session_signature)
    {
        return Err(DenyReason::RequestSignature);
    }
    let requesters = roster.roster().requester_persons(&request.host, &request.requester)?;
    let excluded = roster.roster().excluded(&requesters);
    let requesters = requesters.into_iter().map(|person| person.id.clone()).collect();
    let (decided_by, host_key, approve_by_s) = (request.roster, host.host_key, request.approve_by_s);
    let max_ttl_s = roster.roster().rules.max_ttl_s;
    let signed = signed.clone();
    let verified =
        VerifiedRequest { signed, request, id, decided_by, host_key, max_ttl_s, approve_by_s, requesters, excluded };
    verified.check_approvable(roster)?;
    Ok(verified)
}

/// One person's verified yes to one request. Only [`verify_statement`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct VerifiedApproval {
    signer: Signer,
    ttl_s: u32,
    scope: Scope,
}

/// One person's verified no to one request. Only [`verify_statement`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct VerifiedDenial {
    signer: Signer,
    reason: Option<String>,
}

/// Who signed a statement, and with what. Keys are kept so that two persons with one key are seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    request: RequestId,
    person: PersonId,
    device: DeviceId,
    credential_key: PublicKey,
    device_key: Option<PublicKey>,
    assurance: Assurance,
    client_class: ClientClass,
    channel: Channel,
}

impl Signer {
    /// The request that was answered.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The person.
    #[must_use]
    pub fn person(&self) -> &PersonId {
        &self.person
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The device's assurance level.
    #[must_use]
    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// How the person came to the request.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel
    }

    fn shares_a_key_with(&self, other: &Self) -> bool {
        let keys = |signer: &Self| [Some(signer.credential_key), signer.device_key];
        signature::any_in_common(&keys(self), &keys(other))
    }
}

impl VerifiedApproval {
    /// Who approved.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The longest life that this person grants, in seconds.
    #[must_use]
    pub fn ttl_s(&self) -> u32 {
        self.ttl_s
    }
}

impl VerifiedDenial {
    /// Who denied.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Why, in the person's words; escape before showing.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// A verified answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum VerifiedAnswer {
    /// Yes.
    Approval(VerifiedApproval),
    /// No.
    Denial(VerifiedDenial),
}

/// Verifies one person's statement about this request: the request's own roster, strict decoding,
/// the request's own digest, a credential of the roster that belongs to the named person and device, standing, exclusion,
/// eligibility, the assurance floor, the assertion in full and the device signature.
///
/// # Errors
/// The [`DenyReason`] of the first check that fails.
pub fn verify_statement(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    signed: &SignedStatement,
) -> Result<VerifiedAnswer, DenyReason> {
    request.check_roster(roster)?;
    let statement = ApprovalStatement::from_bytes(&signed.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
    if statement.request_digest != request.id {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let (person, device) =
        roster.roster().device_by_credential(&statement.credential_id).ok_or(DenyReason::ApproverUnknown)?;
    if person.id != statement.person || device.id != statement.device_id {
        return Err(DenyReason::ApproverUnknown);
    }
    check_eligible(roster, request, person, device)?;
    if statement.scope != Scope::Command {
        return Err(DenyReason::KindUnsupported);
    }
    webauthn::verify_signed_statement(
        &Expected { roster: roster.roster(), device, domains: APPROVAL_DOMAINS },
        signed,
    )?;
    let signer = Signer {
        request: request.id,
        person: person.id.clone(),
        device: device.id.clone(),
        credential_key: device.credential_key,
        device_key: device.device_key,
        assurance: device.assurance(),
        client_class: device.client_class,
        channel: statement.channel,
    };
    Ok(match statement.decision {
        Decision::Approve => {
            VerifiedAnswer::Approval(VerifiedApproval { signer, ttl_s: statement.ttl_s, scope: statement.scope })
        }
        Decision::Deny => VerifiedAnswer::Denial(VerifiedDenial { signer, reason: statement.deny_reason }),
    })
}

/// Whether this person may answer this request with this device. The gateway asks before it shows
/// anything; [`verify_statement`] asks again.
///
/// # Errors
/// [`DenyReason::ApproverIsRequester`], [`DenyReason::ApproverNotEligible`],
/// [`DenyReason::AssuranceTooLow`], [`DenyReason::ModelNotListed`].
pub fn check_eligible(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    person: &Person,
    device: &Device,
) -> Result<(), DenyReason> {
    if request.excluded.contains(&person.id) {
        return Err(DenyReason::ApproverIsRequester);
    }
    let gate = request.gate(roster)?;
    if person.standing != Standing::Active || !gate.approvers.iter().any(|group| person.groups.contains(group)) {
        return Err(DenyReason::ApproverNotEligible);
    }
    roster.roster().rules.check_device(device)
}

/// Two distinct persons with distinct keys said yes to one request that neither of them made.
/// There is no other way to make one than [`TwoPersonApproval::new`]; issuing takes it by value.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct TwoPersonApproval {
    request: RequestId,
    signers: [Signer; 2],
    ttl_s: u32,
    scope: Scope,
}

impl TwoPersonApproval {
    /// Joins two approvals. Order does not matter but for display.
    ///
    /// # Errors
    /// [`DenyReason::SamePerson`], [`DenyReason::SameDevice`], [`DenyReason::SameClientClass`],
    /// [`DenyReason::ApproverIsRequester`], [`DenyReason::EvidenceOtherRequest`],
    /// [`DenyReason::RosterMismatch`].
    pub fn new(
        roster: &VerifiedRoster,
        request: &VerifiedRequest,
        first: VerifiedApproval,
        second: VerifiedApproval,
    ) -> Result<Self, DenyReason> {
        request.check_roster(roster)?;
        let (one, two) = (&first.signer, &second.signer);
        if one.request != request.id || two.request != request.id {
            return Err(DenyReason::EvidenceOtherRequest);
        }
        if request.excluded.contains(&one.person) || request.excluded.contains(&two.person) {
            return Err(DenyReason::ApproverIsRequester);
        }
        if one.person == two.person {
            return Err(DenyReason::SamePerson);
        }
        if one.device == two.device || one.shares_a_key_with(two) {
            return Err(DenyReason::SameDevice);
        }
        let rules = &roster.roster().rules;
        if rules.distinct_client_class && one.client_class == two.client_class {
            return Err(DenyReason::SameClientClass);
        }
        let ttl_s = first.ttl_s.min(second.ttl_s).min(request.request.ttl_s).min(request.max_ttl_s);
        let scope = first.scope.min(second.scope).min(request.request.scope);
        Ok(Self { request: request.id, signers: [first.signer, second.signer], ttl_s, scope })
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The two who approved, in the order given.
    #[must_use]
    pub fn signers(&self) -> &[Signer; 2] {
        &self.signers
    }

    /// The life that both grant: the least of the request's, both statements' and the roster's, in
    /// seconds.
    #[must_use]
    pub fn ttl_s(&self) -> u32 {
        self.ttl_s
    }

    /// The scope that both grant.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }
}

/// What evidence proves: two persons said yes (it derefs to their approval), and under which roster
/// that counts.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct VerifiedEvidence {
    approval: TwoPersonApproval,
    request: Option<VerifiedRequest>,
    head: Option<VerifiedRoster>,
    head_envelope: Option<RosterEnvelope>,
}

impl VerifiedEvidence {
    /// The two who approved, for issuing.
    pub fn into_approval(self) -> TwoPersonApproval {
        self.approval
    }

    /// The newest roster of the evidence, where it brought one above the verifier's: it is verified,
    /// and a host must pin it before it grants.
    #[must_use]
    pub fn head(&self) -> Option<&VerifiedRoster> {
        self.head.as_ref()
    }

    /// That roster's envelope, for pinning.
    #[must_use]
    pub fn head_envelope(&self) -> Option<&RosterEnvelope> {
        self.head_envelope.as_ref()
    }

    /// The request under that roster, where there is one: the certificate names its requesters.
    #[must_use]
    pub fn request_under_head(&self) -> Option<&VerifiedRequest> {
        self.request.as_ref()
    }
}

impl std::ops::Deref for VerifiedEvidence {
    type Target = TwoPersonApproval;
    fn deref(&self) -> &TwoPersonApproval {
        &self.approval
    }
}

/// Verifies evidence for a request that was verified under `pin`: the rosters in it follow from
/// `pin`; under the last of them, the request still stands and every statement verifies, and they
/// are exactly two approvals by two distinct persons. One denial refuses.
///
/// # Errors
/// The [`DenyReason`] of the first check that fails.
pub fn verify_evidence(
    pin: &VerifiedRoster,
    request: &VerifiedRequest,
    evidence: &[u8],
    now: UnixTime,
) -> Result<VerifiedEvidence, DenyReason> {
    request.check_roster(pin)?;
    let mut evidence = Evidence::from_bytes(evidence).map_err(|_| DenyReason::EvidenceMalformed)?;
    if evidence.request_digest != request.id {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let newer = pin.walk(&evidence.rosters).map_err(|_| DenyReason::RosterChain)?;
    let head = newer.as_ref().unwrap_or(pin);
    head.check_time(now)?;
    let under_head = newer.as_ref().map(|head| request.under(head)).transpose()?;
    let approval = two_approvals(head, under_head.as_ref().unwrap_or(request), &evidence.statements)?;
    Ok(VerifiedEvidence { approval, request: under_head, head: newer, head_envelope: evidence.rosters.pop() })
}

fn two_approvals(
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    statements: &[SignedStatement],
) -> Result<TwoPersonApproval, DenyReason> {
    let mut approvals = Vec::new();
    for signed in statements {
        match verify_statement(roster, request, signed)? {
            VerifiedAnswer::Approval(approval) => approvals.push(approval),
            VerifiedAnswer::Denial(_) => return Err(DenyReason::DenialPresent),
        }
    }
    let mut approvals = approvals.into_iter();
    match (approvals.next(), approvals.next(), approvals.next()) {
        (Some(first), Some(second), None) => TwoPersonApproval::new(roster, request, first, second),
        (_, None, _) => Err(DenyReason::TooFewApprovals),
        // Exactly two are collected; more is not what an honest gateway sends.
        (_, Some(_), _) => Err(DenyReason::EvidenceMalformed),
    }
}

/// Verifies that the session key of this request signed this start, for its grant, boot and target.
///
/// # Errors
/// [`DenyReason::EvidenceMalformed`], [`DenyReason::EvidenceOtherRequest`],
/// [`DenyReason::RequestSignature`].
pub fn verify_start(
    request: &ElevationRequest,
    id: RequestId,
    start: &SignedStart,
) -> Result<StartStatement, DenyReason> {
    let statement = StartStatement::from_bytes(&start.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
    if statement.grant != id.grant()
        || statement.boot_id != request.boot_id
        || statement.target_user != request.target.user
    {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    if !signature::verify(&request.session_key, &Domain::Start.message(&start.statement.0), &start.signature) {
        return Err(DenyReason::RequestSignature);
    }
    Ok(statement)
}

/// The digest that binds a certificate to evidence.
#[must_use]
pub fn evidence_digest(evidence: &[u8]) -> Digest {
    Evidence::digest_of(evidence)
}
