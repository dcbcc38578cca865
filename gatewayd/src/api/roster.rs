//! The approver listener's routes for the roster: looking, proposing, signing, inviting; enrolment by
//! invite; device keys that browsers dropped. As `docs/approver-api.md` says; handlers parse, call one
//! function, render.

use axum::body::Bytes as Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use twinlock_protocol::ids::{CredentialId, DeviceId, GroupName, PersonId};
use twinlock_protocol::limits;
use twinlock_protocol::roster::{Device, Person, Roster, Step, VerifiedRoster};
use twinlock_protocol::signature::{PublicKey, Signature};
use twinlock_protocol::statement::{Assertion, PossessionStatement, SignedStatement};
use twinlock_protocol::{Bytes, DenyReason, Digest, Fixed};

use super::approver::{Nothing, Site, cookie_named, parse, signed_in, source_of};
use super::http::PeerAddress;
use super::problem::Problem;
use crate::approval::{SignInFinish, SignedIn};
use crate::enrol::passkey::{DeviceKey, Registration};
use crate::roster::invite::{Newcomer, Phase};
use crate::roster::op::Op;
use crate::roster::proposal::{Proposal, Proposer};
use crate::roster::{ChangeError, ListedInvite, RestoreStart, Seen};

/// The cookie that ties an invite to the browser that opened it.
const ENROL_COOKIE: &str = "__Host-twinlock-enrol";

/// The routes; rules for every call are the listener's.
pub fn router() -> Router<Site> {
    Router::new()
        .route("/api/v1/roster", get(roster))
        .route("/api/v1/roster/proposals", get(proposals))
        .route("/api/v1/roster/proposals/{id}", get(proposal))
        .route("/api/v1/roster/proposals/{id}/sign", post(sign))
        .route("/api/v1/roster/proposals/{id}/withdraw", post(withdraw))
        .route("/api/v1/roster/suspend", post(suspend))
        .route("/api/v1/roster/lift", post(lift))
        .route("/api/v1/roster/remove", post(remove))
        .route("/api/v1/roster/renew", post(renew))
        .route("/api/v1/invites", get(invites).post(invite))
        .route("/api/v1/invites/{id}/cancel", post(cancel_invite))
        .route("/api/v1/enrol/start", post(enrol_start))
        .route("/api/v1/enrol/finish", post(enrol_finish))
        .route("/api/v1/enrol/possession", post(enrol_possession))
        .route("/api/v1/enrol/status", post(enrol_status))
        .route("/api/v1/restore/start", post(restore_start))
        .route("/api/v1/restore/finish", post(restore_finish))
        .route("/api/v1/restore/status", post(restore_status))
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        if let ChangeError::Op(why) = &error {
            tracing::info!(%why, "a change of the roster does not fit");
        }
        error.reason().into()
    }
}

// ---- looking ------------------------------------------------------------------------------------

#[derive(Serialize)]
struct RosterJson {
    version: u64,
    digest: Digest,
    bytes: Bytes,
}

fn roster_json(roster: &Roster) -> RosterJson {
    let bytes = roster.to_bytes();
    RosterJson { version: roster.version, digest: Roster::digest_of(&bytes), bytes: Bytes(bytes) }
}

/// Who looks.
struct Reader {
    session: SignedIn,
    person: Person,
    device: Device,
}

fn reader(site: &Site, headers: &HeaderMap) -> Result<Reader, Problem> {
    let session = signed_in(site, headers)?;
    let (person, device) = site.approvers.who(&session)?;
    Ok(Reader { session, person, device })
}

/// Somebody who may propose, invite and decline, and does so.
async fn changer(site: &Site, headers: &HeaderMap) -> Result<Reader, Problem> {
    let reader = reader(site, headers)?;
    site.changes.check_may_change(&reader.session)?;
    site.approvers.check_rate(&reader.session).await?;
    Ok(reader)
}

impl Reader {
    fn proposer(&self) -> Proposer {
        Proposer::Person { person: self.person.id.clone() }
    }
}

async fn roster(State(site): State<Site>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let reader = reader(&site, &headers)?;
    let engine = site.approvers.engine();
    let head = engine.roster();
    let RosterJson { version, digest, bytes } = roster_json(&head);
    let expires_in_s = head.expires_at.since(engine.clock.now());
    let may_sign = site.changes.check_may_change(&reader.session).is_ok();
    Ok(Json(json!({
        "version": version, "digest": digest, "bytes": bytes, "expires_in_s": expires_in_s, "may_sign": may_sign,
    })))
}

fn step_name(step: &Step) -> &'static str {
    match step {
        Step::Ordinary => "ordinary",
        Step::Suspension { .. } => "suspension",
        Step::Restoration { .. } => "restoration",
    }
}

fn summary(site: &Site, proposal: &Proposal, head: &VerifiedRoster, reader: &Reader) -> Result<Value, DenyReason> {
    let draft = proposal.draft.as_ref().ok_or(DenyReason::ProposalOver)?;
    let now = site.approvers.engine().clock.now();
    let name = |id: &PersonId| head.person(id).map_or_else(|| id.to_string(), |person| person.name.clone());
    let signatures: Vec<Value> = draft
        .signatures
        .iter()
        .map(|one| json!({ "person": one.person, "name": name(&one.person), "age_s": now.since(one.at) }))
        .collect();
    let why_not = proposal.check_signer(head, &reader.person, &reader.device).err();
    let may_withdraw = site.changes.check_may_change(&reader.session).is_ok()
        && proposal.check_withdraw(head, &reader.proposer()).is_ok();
    Ok(json!({
        "id": proposal.id,
        "kind": step_name(&draft.step),
        "title": proposal.title(),
        "proposed_by": proposal.by.person().map(name),
        "age_s": now.since(proposal.created_at),
        "left_s": proposal.expires_at.since(now),
        "base_version": draft.base.version,
        "needs": draft.needs(),
        "signatures": signatures,
        "contested": proposal.contested,
        "invited_by": proposal.invited_by.as_ref().map(|by| json!({ "name": by.person().map(name) })),
        "may_withdraw": may_withdraw,
        "may_sign": why_not.is_none(),
        "why_not": why_not.map(|reason| reason.row().name),
    }))
}

async fn proposals(State(site): State<Site>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let reader = reader(&site, &headers)?;
    let (open, head) = site.changes.open_proposals().await?;
    let lines: Vec<Value> = open.iter().filter_map(|proposal| summary(&site, proposal, &head, &reader).ok()).collect();
    Ok(Json(json!({ "proposals": lines })))
}

fn id_of(text: &str) -> Result<Fixed<16>, Problem> {
    Ok(Fixed::from_text(text).ok_or(DenyReason::NotFound)?)
}

async fn proposal(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let reader = reader(&site, &headers)?;
    whole(&site, &id_of(&id)?, &reader).await
}

/// A proposal with everything that is needed to read and to sign it.
async fn whole(site: &Site, id: &Fixed<16>, reader: &Reader) -> Result<Json<Value>, Problem> {
    let Seen { proposal, head } = site.changes.proposal(id).await?;
    let mut body = summary(site, &proposal, &head, reader)?;
    let draft = proposal.draft.as_ref().ok_or(DenyReason::ProposalOver)?;
    let statement = proposal.check_signer(&head, &reader.person, &reader.device).is_ok().then(|| {
        json!({
            "roster_version": draft.next.version,
            "roster_digest": draft.digest,
            "person": reader.person.id,
            "credential_id": reader.device.credential_id,
            "device_id": reader.device.id,
            "gateway_salt": draft.salt_of(&reader.person.id, &reader.device),
        })
    });
    if let Some(body) = body.as_object_mut() {
        body.insert("base".into(), json!(roster_json(&head)));
        body.insert("next".into(), json!(roster_json(&draft.next)));
        body.insert("statement".into(), json!(statement));
    }
    Ok(Json(body))
}

// ---- signing and proposing ----------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignBody {
    signed: SignedStatement,
}

async fn sign(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let SignBody { signed } = parse(&body)?;
    let session = signed_in(&site, &headers)?;
    site.approvers.check_rate(&session).await?;
    let outcome = site.changes.sign(&session, &id_of(&id)?, signed).await?;
    let state = if outcome.sealed { "sealed" } else { "open" };
    Ok(Json(json!({
        "state": state, "version": outcome.version, "signatures": outcome.signatures, "needs": outcome.needs,
    })))
}

async fn withdraw(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let Nothing {} = parse(&body)?;
    let reader = changer(&site, &headers).await?;
    site.changes.withdraw(&id_of(&id)?, &reader.proposer()).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonBody {
    person: PersonId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveBody {
    person: PersonId,
    device: Option<DeviceId>,
}

async fn suspend(State(site): State<Site>, headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let PersonBody { person } = parse(&body)?;
    let reader = changer(&site, &headers).await?;
    let id = site.changes.suspend(person, reader.proposer()).await?;
    whole(&site, &id, &reader).await
}

async fn lift(State(site): State<Site>, headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let PersonBody { person } = parse(&body)?;
    propose(&site, &headers, vec![Op::Lift { person }]).await
}

async fn remove(State(site): State<Site>, headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let RemoveBody { person, device } = parse(&body)?;
    let op = match device {
        Some(device) => Op::RemoveDevice { person, device },
        None => Op::RemovePerson { person },
    };
    propose(&site, &headers, vec![op]).await
}

async fn renew(State(site): State<Site>, headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let Nothing {} = parse(&body)?;
    let expires_at = site.approvers.engine().clock.now().plus(limits::DEFAULT_ROSTER_LIFE_S);
    propose(&site, &headers, vec![Op::Renew { expires_at }]).await
}

async fn propose(site: &Site, headers: &HeaderMap, ops: Vec<Op>) -> Result<Json<Value>, Problem> {
    let reader = changer(site, headers).await?;
    let id = site.changes.propose(ops, reader.proposer()).await?;
    whole(site, &id, &reader).await
}

// ---- invites ------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InviteBody {
    person: PersonId,
    new: Option<NewBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBody {
    name: String,
    logins: Vec<String>,
    groups: Vec<GroupName>,
    approver: bool,
    requester: bool,
}

/// Somebody new, with the group whose members approve when that is asked for.
#[must_use]
pub fn newcomer(
    head: &Roster,
    name: String,
    logins: Vec<String>,
    mut groups: Vec<GroupName>,
    approver: bool,
    requester: bool,
) -> Newcomer {
    if approver {
        groups.extend(head.rules.gates.first().and_then(|gate| gate.approvers.first()).cloned());
    }
    groups.sort();
    groups.dedup();
    Newcomer { name, logins, groups, may_request: requester }
}

async fn invite(State(site): State<Site>, headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let InviteBody { person, new } = parse(&body)?;
    let reader = changer(&site, &headers).await?;
    let engine = site.approvers.engine();
    let head = engine.roster();
    let new = new.map(|new| newcomer(&head, new.name, new.logins, new.groups, new.approver, new.requester));
    let made = site.changes.invite(person, new, reader.proposer()).await?;
    let link = format!("{}/E/{}", site.origin, made.secret.as_str());
    // Schemes, hosts and invites read the same in capitals, which make a smaller code.
    let rows = crate::qr::modules(&link.to_uppercase());
    let as_text = |row: Vec<bool>| row.into_iter().map(|dark| if dark { '1' } else { '0' }).collect::<String>();
    Ok(Json(json!({
        "invite": made.id,
        "link": link,
        "code": rows.map(|rows| rows.into_iter().map(as_text).collect::<Vec<_>>()),
        "valid_s": made.until.since(engine.clock.now()),
        "person": { "id": made.person, "name": made.name },
    })))
}

async fn invites(State(site): State<Site>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let reader = reader(&site, &headers)?;
    site.changes.check_may_change(&reader.session)?;
    let engine = site.approvers.engine();
    let (head, now) = (engine.roster(), engine.clock.now());
    let lines: Vec<Value> = site
        .changes
        .open_invites()
        .await?
        .iter()
        .map(|ListedInvite { invite: one, proposal }| {
            let by = one.by.person().and_then(|by| head.person(by)).map(|person| person.name.clone());
            let state = match one.phase {
                Phase::Open {} => "open",
                Phase::Opened { .. } => "opened",
                Phase::Enrolled { .. } | Phase::Cancelled {} => "enrolled",
                Phase::Proposed { .. } => "proposed",
            };
            json!({
                "invite": one.id, "person": { "id": one.person, "name": one.name }, "by": by, "state": state,
                "contested": one.contested, "left_s": one.until.since(now), "proposal": proposal,
            })
        })
        .collect();
    Ok(Json(json!({ "invites": lines })))
}

async fn cancel_invite(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let Nothing {} = parse(&body)?;
    let reader = changer(&site, &headers).await?;
    site.changes.cancel_invite(&id_of(&id)?, &reader.proposer()).await?;
    Ok(Json(json!({})))
}

// ---- enrolment ----------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {
    invite: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FinishBody {
    enrol: Fixed<16>,
    registration: Registration,
    device_key: Option<PublicKey>,
    device_proof: Option<Signature>,
    label: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PossessionBody {
    enrol: Fixed<16>,
    signed: SignedStatement,
}

fn enrol_cookie(headers: &HeaderMap) -> Option<Fixed<32>> {
    cookie_named(headers, ENROL_COOKIE).and_then(|text| Fixed::from_text(&text))
}

fn prove_json(statement: &PossessionStatement) -> Value {
    json!({
        "person": statement.person, "device": statement.device, "replaces": statement.replaces,
        "credential_id": statement.credential_id, "device_id": statement.device_id,
        "gateway_salt": statement.gateway_salt,
    })
}

async fn enrol_start(
    State(site): State<Site>,
    Extension(PeerAddress(address)): Extension<PeerAddress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let StartBody { invite } = parse(&body)?;
    let from = source_of(address, &headers);
    let (opened, cookie) = site.changes.open_invite(&invite, enrol_cookie(&headers), &from).await?;
    let mut response = Json(json!({
        "enrol": opened.enrol, "person": { "id": opened.person, "name": opened.name }, "state": opened.state,
        "creation": opened.creation,
    }))
    .into_response();
    let line = format!(
        "{ENROL_COOKIE}={}; HttpOnly; Secure; SameSite=Strict; Path=/; Max-Age={}",
        cookie.to_text(),
        crate::roster::proposal::PROPOSAL_VALID_S
    );
    let mut line = HeaderValue::from_str(&line).map_err(|_| DenyReason::Internal)?;
    line.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, line);
    Ok(response)
}

fn device_key(key: Option<PublicKey>, proof: Option<Signature>) -> Result<Option<DeviceKey>, Problem> {
    match (key, proof) {
        (Some(key), Some(proof)) => Ok(Some(DeviceKey { key, proof })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(DenyReason::BadInput.into()),
    }
}

async fn enrol_finish(State(site): State<Site>, body: Body) -> Result<Json<Value>, Problem> {
    let FinishBody { enrol, registration, device_key: key, device_proof, label } = parse(&body)?;
    let device_key = device_key(key, device_proof)?;
    let prove = site.changes.enrol(&enrol, registration, device_key, &label).await?;
    let device = &prove.device;
    Ok(Json(json!({
        "state": "possess",
        "device": { "id": device.id, "label": device.label, "assurance": device.assurance() },
        "record": prove.record,
        "possession": prove_json(&prove.statement),
    })))
}

async fn enrol_possession(State(site): State<Site>, body: Body) -> Result<Json<Value>, Problem> {
    let PossessionBody { enrol, signed } = parse(&body)?;
    site.changes.prove(&enrol, signed).await?;
    Ok(Json(json!({ "state": "wait" })))
}

async fn enrol_status(State(site): State<Site>, headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let StartBody { invite } = parse(&body)?;
    let cookie = enrol_cookie(&headers).ok_or(DenyReason::InviteInvalid)?;
    let status = site.changes.enrol_status(&invite, &cookie).await?;
    Ok(Json(json!({
        "state": status.state, "people": [], "roster": null, "statement": null, "signed": status.signed,
        "needs": status.needs, "record": status.record, "possession": status.possession.as_ref().map(prove_json),
    })))
}

// ---- device keys that browsers dropped ----------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreBody {
    sign_in: Fixed<16>,
    credential_id: CredentialId,
    assertion: Assertion,
    device_key: PublicKey,
    device_proof: Signature,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreFinishBody {
    restore: Fixed<16>,
    signed: SignedStatement,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreIdBody {
    restore: Fixed<16>,
}

async fn restore_start(
    State(site): State<Site>,
    Extension(PeerAddress(address)): Extension<PeerAddress>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let RestoreBody { sign_in, credential_id, assertion, device_key, device_proof } = parse(&body)?;
    let start = RestoreStart {
        sign_in: SignInFinish { sign_in, credential_id, assertion, device_signature: None },
        device_key: DeviceKey { key: device_key, proof: device_proof },
    };
    let (restore, name, prove) = site.changes.start_restore(start, &source_of(address, &headers)).await?;
    Ok(Json(json!({
        "restore": restore, "person": { "id": prove.statement.person, "name": name }, "record": prove.record,
        "possession": prove_json(&prove.statement),
    })))
}

async fn restore_finish(State(site): State<Site>, body: Body) -> Result<Json<Value>, Problem> {
    let RestoreFinishBody { restore, signed } = parse(&body)?;
    site.changes.finish_restore(&restore, signed).await?;
    Ok(Json(json!({ "state": "wait" })))
}

async fn restore_status(State(site): State<Site>, body: Body) -> Result<Json<Value>, Problem> {
    let RestoreIdBody { restore } = parse(&body)?;
    let status = site.changes.restore_status(&restore).await?;
    Ok(Json(json!({ "state": status.state, "signed": status.signed, "needs": status.needs })))
}
