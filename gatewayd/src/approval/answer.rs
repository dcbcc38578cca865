//! Claims and answers. A claim ties a signed-in person, a device and a slot to one channel and one
//! salt; the answer must carry exactly these, verify in full, and is then an event of the request.

use twinlock_protocol::ids::{PersonId, RequestId, TerminalCode, Ticket};
use twinlock_protocol::request::{ElevationRequest, Mode};
use twinlock_protocol::roster::PersonKind;
use twinlock_protocol::signature::Signature;
use twinlock_protocol::statement::{ApprovalStatement, Channel, SignedStatement};
use twinlock_protocol::{Bytes, DenyReason, Digest, Fixed, escape, verify};

use super::sign_in::verify_claim_signature;
use super::{Approvers, SignedIn, Source};
use crate::audit;
use crate::random::random;
use crate::request::{Answer, ClaimBy, Claimant, Event, Lease, Reply, State};
use crate::serve::Refusal;

/// A person who asks, as the roster names them.
#[derive(Clone, Debug)]
pub struct RequesterView {
    /// The id.
    pub id: PersonId,
    /// The name.
    pub name: String,
    /// A machine identity.
    pub is_service: bool,
}

/// Everything that the page needs to show a request and to make the statement.
#[derive(Clone, Debug)]
pub struct ClaimView {
    /// The claim's id: known to this page alone.
    pub claim: Fixed<16>,
    /// The lease.
    pub lease: Lease,
    /// Seconds of the lease that are left.
    pub lease_s: u64,
    /// Seconds until approve-by.
    pub left_s: u64,
    /// The request.
    pub request_id: RequestId,
    /// Its bytes.
    pub request: Bytes,
    /// The host's id and name.
    pub host: (String, String),
    /// Who asks.
    pub requesters: Vec<RequesterView>,
    /// Names of those who approved, and how many seconds ago.
    pub approved: Vec<(String, u64)>,
    /// The longest life that can be granted, in seconds.
    pub max_ttl_s: u32,
}

/// A line of the inbox.
#[derive(Clone, Debug)]
pub struct InboxLine {
    /// The request.
    pub request: RequestId,
    /// Who asks: names, joined by commas.
    pub requester: String,
    /// The host's name.
    pub host: String,
    /// As whom.
    pub target: String,
    /// What, on one line.
    pub summary: String,
    /// Why, in the requester's words, escaped.
    pub reason: Option<String>,
    /// Seconds since it was admitted.
    pub age_s: u64,
    /// Seconds until approve-by.
    pub left_s: u64,
    /// How many have approved.
    pub approved: usize,
}

/// Whether a claim still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// It does.
    Open {
        /// Seconds of the lease that are left.
        lease_s: u64,
        /// Seconds until approve-by.
        left_s: u64,
        /// How many have approved.
        approved: usize,
    },
    /// It does not.
    Over(DenyReason),
}

/// What an answer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveState {
    /// The first approval.
    ApprovedFirst,
    /// The second; granted.
    Granted,
    /// The second; granted when the host is back in time.
    Approved,
    /// Denied.
    Denied,
}

/// What a page sends with a claim.
#[derive(Clone, Debug)]
pub struct ClaimProof {
    /// From `me`.
    pub nonce: Fixed<32>,
    /// The device key's signature over the nonce and what is claimed.
    pub device_signature: Option<Signature>,
}

impl Approvers {
    /// Claims by a scanned ticket.
    ///
    /// # Errors
    /// [`Refusal`]; tells nothing about the request.
    pub async fn claim_ticket(
        &self,
        signed_in: &SignedIn,
        ticket: &str,
        proof: &ClaimProof,
        from: &Source,
    ) -> Result<ClaimView, Refusal> {
        self.check_claim(signed_in, proof, ticket.as_bytes()).await?;
        let found = Ticket::new(ticket)
            .map(|ticket| ticket.hash())
            .and_then(|hash| self.engine.request_of_ticket(&hash).map(|id| (hash, id)));
        let Some((hash, id)) = found else {
            let reason = DenyReason::TicketUnknown;
            let person = signed_in.person.clone();
            let refused = audit::Event::ClaimRefused { grant: None, person, reason, from: from.to_string() };
            self.engine.note(vec![refused]).await;
            return Err(reason.into());
        };
        Ok(self.claim(signed_in, id, ClaimBy::Ticket(hash), from).await?)
    }

    /// Claims from the inbox by the terminal's code.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn claim_code(
        &self,
        signed_in: &SignedIn,
        request: RequestId,
        code: &str,
        proof: &ClaimProof,
        from: &Source,
    ) -> Result<ClaimView, Refusal> {
        self.check_claim(signed_in, proof, request.0.as_bytes()).await?;
        let code = TerminalCode::new(code).ok_or(DenyReason::BadInput)?;
        Ok(self.claim(signed_in, request, ClaimBy::Code(code), from).await?)
    }

    async fn check_claim(&self, signed_in: &SignedIn, proof: &ClaimProof, what: &[u8]) -> Result<(), Refusal> {
        self.check_rate(signed_in).await?;
        let roster = self.engine.roster();
        let (_person, device) = Self::approver(&roster, signed_in)?;
        self.nonces.redeem(&proof.nonce, &signed_in.cookie, self.engine.clock.now())?;
        let mut payload = proof.nonce.0.to_vec();
        payload.extend_from_slice(what);
        Ok(verify_claim_signature(device, proof.device_signature.as_ref(), &payload)?)
    }

    /// Counts a call that changes something.
    ///
    /// # Errors
    /// Too many of this sign-in.
    pub async fn check_rate(&self, signed_in: &SignedIn) -> Result<(), Refusal> {
        let Err(limited) = self.engine.limits.call_of_approver(&signed_in.cookie) else { return Ok(()) };
        self.engine.note_limit(limited.limit, signed_in.person.to_string()).await;
        Err(limited.into())
    }

    async fn claim(
        &self,
        signed_in: &SignedIn,
        id: RequestId,
        by: ClaimBy,
        from: &Source,
    ) -> Result<ClaimView, DenyReason> {
        let roster = self.engine.roster();
        let (_person, device) = Self::approver(&roster, signed_in)?;
        let claim = Fixed(random()?);
        let claimant = Claimant {
            person: signed_in.person.clone(),
            device: signed_in.device.clone(),
            credential: device.credential_id.clone(),
            from: from.to_string(),
        };
        let event = Event::Claim { claimant, by, claim: Digest::plain(&claim.0), salt: Fixed(random()?) };
        match self.engine.apply(id, event).await? {
            Reply::Claimed(lease) => self.claim_view(id, claim, lease).await,
            Reply::Done | Reply::ApprovedFirst | Reply::ApprovedBoth | Reply::ApprovedAway | Reply::Denied => {
                Err(DenyReason::Internal)
            }
        }
    }

    async fn claim_view(&self, id: RequestId, claim: Fixed<16>, lease: Lease) -> Result<ClaimView, DenyReason> {
        let (roster, now) = (self.engine.roster(), self.engine.clock.now());
        let max_ttl_s = self.engine.max_ttl_s.min(roster.rules.max_ttl_s);
        let name = |id: &PersonId| roster.person(id).map(|person| person.name.clone()).unwrap_or_default();
        let view = |state: &State| {
            let case = state.case();
            let host = case.request.host(&roster)?;
            let requesters = case.request.requesters().iter().map(|id| RequesterView {
                id: id.clone(),
                name: name(id),
                is_service: roster.person(id).is_some_and(|p| matches!(p.kind, PersonKind::Service(_))),
            });
            Ok(ClaimView {
                claim,
                lease_s: lease.until.since(now),
                left_s: case.approve_by.since(now),
                request_id: id,
                request: case.request.signed().request.clone(),
                host: (host.id.to_string(), host.name.clone()),
                requesters: requesters.collect(),
                approved: state.given().iter().map(|given| (name(given.person()), now.since(given.at))).collect(),
                max_ttl_s: max_ttl_s.min(case.request.request().ttl_s),
                lease: lease.clone(),
            })
        };
        self.engine.look(id, view).await.ok_or(DenyReason::NotFound)?
    }

    /// The requests that this person may answer, oldest first.
    ///
    /// # Errors
    /// [`DenyReason::SignInNeeded`].
    pub async fn inbox(&self, signed_in: &SignedIn) -> Result<Vec<InboxLine>, DenyReason> {
        let (roster, now) = (self.engine.roster(), self.engine.clock.now());
        let (person, device) = Self::approver(&roster, signed_in)?;
        let mut lines = Vec::new();
        for id in self.engine.waiting() {
            let line = self.engine.look(id, |state| {
                let case = state.case();
                let is_first = state.given().iter().any(|given| *given.person() == person.id);
                let may = verify::check_eligible(&roster, &case.request, person, device).is_ok();
                (may && !is_first && state.desk().is_some() && now < case.approve_by).then(|| {
                    let asked = case.request.request();
                    let names = case.request.requesters().iter().filter_map(|id| roster.person(id));
                    let host = case.request.host(&roster).map(|host| host.name.clone()).unwrap_or_default();
                    InboxLine {
                        request: id,
                        requester: names.map(|person| person.name.as_str()).collect::<Vec<_>>().join(", "),
                        host,
                        target: escape::visible(asked.target.user.as_bytes()),
                        summary: summary(asked),
                        reason: asked.reason.as_ref().map(|reason| escape::visible(reason.as_bytes())),
                        age_s: now.since(case.admitted_at),
                        left_s: case.approve_by.since(now),
                        approved: state.given().len(),
                    }
                })
            });
            lines.extend(line.await.flatten());
        }
        lines.sort_by_key(|line| std::cmp::Reverse(line.age_s));
        Ok(lines)
    }

    /// Whether a claim still stands; only its holder hears.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`].
    pub async fn claim_state(&self, signed_in: &SignedIn, claim: &Fixed<16>) -> Result<ClaimState, DenyReason> {
        let (hash, now) = (Digest::plain(&claim.0), self.engine.clock.now());
        let id = self.engine.request_of_claim(&hash).ok_or(DenyReason::NotFound)?;
        let state = self.engine.look(id, |state| {
            let open = state.desk().and_then(|desk| desk.lease()).filter(|lease| lease.claim == hash);
            let given = state.given().iter().map(|given| &given.lease).find(|lease| lease.claim == hash);
            match (open, given) {
                (Some(lease), _) if lease.person != signed_in.person => Err(DenyReason::NotFound),
                (Some(lease), _) if now < lease.until => Ok(ClaimState::Open {
                    lease_s: lease.until.since(now),
                    left_s: state.case().approve_by.since(now),
                    approved: state.given().len(),
                }),
                (_, Some(lease)) if lease.person == signed_in.person => {
                    Ok(ClaimState::Over(DenyReason::AlreadyApproved))
                }
                (Some(_), _) | (None, _) => Ok(ClaimState::Over(why_over(state))),
            }
        });
        state.await.ok_or(DenyReason::NotFound)?
    }

    /// Gives a claim back.
    ///
    /// # Errors
    /// [`DenyReason::NotFound`], [`DenyReason::ClaimOver`], [`DenyReason::StoreFailed`].
    pub async fn release(&self, signed_in: &SignedIn, claim: &Fixed<16>) -> Result<(), DenyReason> {
        let claim = Digest::plain(&claim.0);
        let id = self.engine.request_of_claim(&claim).ok_or(DenyReason::NotFound)?;
        let event = Event::Release { claim, person: signed_in.person.clone() };
        self.engine.apply(id, event).await.map(|_done| ())
    }

    /// Takes an answer under a claim: verifies it in full, then moves the request.
    ///
    /// # Errors
    /// [`Refusal`]; a statement that does not verify is audited.
    pub async fn answer(
        &self,
        signed_in: &SignedIn,
        claim: &Fixed<16>,
        signed: SignedStatement,
    ) -> Result<GaveState, Refusal> {
        self.check_rate(signed_in).await?;
        let claim = Digest::plain(&claim.0);
        let id = self.engine.request_of_claim(&claim).ok_or(DenyReason::ClaimOver)?;
        let checked = self.engine.look(id, |state| self.check_answer(state, claim, signed_in, &signed)).await;
        let answer = match checked.ok_or(DenyReason::StoreFailed)? {
            Ok(answer) => answer,
            Err(reason) => {
                let (grant, person) = (Some(id.grant()), signed_in.person.clone());
                self.engine.note(vec![audit::Event::AnswerRefused { grant, person, reason }]).await;
                self.engine.metrics.refused(reason);
                return Err(reason.into());
            }
        };
        match self.engine.apply(id, Event::Answer(Box::new(answer))).await? {
            Reply::ApprovedFirst => Ok(GaveState::ApprovedFirst),
            Reply::ApprovedBoth => Ok(GaveState::Granted),
            Reply::ApprovedAway => Ok(GaveState::Approved),
            Reply::Denied => Ok(GaveState::Denied),
            Reply::Done | Reply::Claimed(_) => Err(DenyReason::Internal.into()),
        }
    }

    /// The statement must be the claim's: same person, device, passkey, channel and salt; and every
    /// signature must verify.
    fn check_answer(
        &self,
        state: &State,
        claim: Digest,
        signed_in: &SignedIn,
        signed: &SignedStatement,
    ) -> Result<Answer, DenyReason> {
        // A lease that ended counts here too: a denial under it does.
        let (lease, _) = state.lease(&claim).ok_or_else(|| why_over(state))?;
        if lease.person != signed_in.person || lease.device != signed_in.device {
            return Err(DenyReason::NotFound);
        }
        let statement =
            ApprovalStatement::from_bytes(&signed.statement.0).map_err(|_| DenyReason::EvidenceMalformed)?;
        let channel: Channel = lease.channel;
        if statement.person != lease.person
            || statement.device_id != lease.device
            || statement.credential_id != lease.credential
            || statement.channel != channel
            || statement.gateway_salt != lease.salt
        {
            return Err(DenyReason::EvidenceOtherRequest);
        }
        let answer = verify::verify_statement(&self.engine.roster(), &state.case().request, signed)?;
        Ok(Answer {
            claim,
            person: signed_in.person.clone(),
            device: signed_in.device.clone(),
            answer,
            signed: signed.clone(),
        })
    }
}

/// Why a claim on this request does not stand any more.
fn why_over(state: &State) -> DenyReason {
    match state {
        State::Pending(_) | State::AwaitingSecond(_) => DenyReason::ClaimOver,
        State::Denied(_) => DenyReason::Denied,
        State::Expired(_) => DenyReason::Expired,
        State::Withdrawn(_) => DenyReason::Cancelled,
        State::Approved(_) | State::Issued(_) | State::Active(_) | State::Ended(_) => DenyReason::NotPending,
    }
}

/// What the request would run, on one line.
#[must_use]
pub fn summary(request: &ElevationRequest) -> String {
    let words = || escape::command(request.command().iter().map(|argument| argument.0.as_slice()));
    match (request.view.mode, request.command().is_empty()) {
        (Mode::Edit, false) => format!("edit {}", words()),
        (_, false) => words(),
        (Mode::Shell | Mode::LoginShell | Mode::SwitchUser, true) => "a shell".to_owned(),
        (Mode::Command | Mode::Edit | Mode::Query, true) => {
            escape::command(request.argv.iter().map(|argument| argument.0.as_slice()))
        }
    }
}
