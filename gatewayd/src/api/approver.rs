//! The approver listener's routes, as `docs/approver-api.md` says: sign-in, claims, the inbox,
//! answers, the revocation list, and the page's documents. Every rule for every call is in one
//! layer, [`guard`]; handlers parse, call one function, render.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use twinlock_protocol::ids::{CredentialId, DeviceId, PersonId, RequestId};
use twinlock_protocol::roster::Assurance;
use twinlock_protocol::signature::Signature;
use twinlock_protocol::statement::{Assertion, Channel, SignedStatement};
use twinlock_protocol::{DenyReason, Fixed, codec, escape};

use super::http::PeerAddress;
use super::problem::Problem;
use crate::approval::{
    Approvers, ClaimProof, ClaimState, ClaimView, Cookie, GaveState, SignInFinish, SignedIn, Source,
};
use crate::audit;
use crate::roster::Changes;
use crate::store::CrlRow;

/// A request's body, in bytes.
pub const BODY_BYTES: usize = 64 * 1024;
/// A part of a path that is logged, in bytes: tickets have 26 characters, claims 22.
const WORD_BYTES: usize = 12;
/// The session cookie's name; the prefix makes browsers insist on Secure, Path=/ and no Domain.
pub const COOKIE: &str = "__Host-twinlock";

/// What the routes share.
#[derive(Clone)]
pub struct Site {
    /// The approvers' side.
    pub approvers: Arc<Approvers>,
    /// The roster's changes.
    pub changes: Arc<Changes>,
    /// The one origin.
    pub origin: Arc<str>,
}

/// Every route of the approver listener.
pub fn router(site: Site) -> Router {
    let routes = Router::new()
        .route("/api/v1/sign-in/start", post(sign_in_start))
        .route("/api/v1/sign-in/finish", post(sign_in_finish))
        .route("/api/v1/sign-out", post(sign_out))
        .route("/api/v1/me", get(me))
        .route("/api/v1/claim", post(claim))
        .route("/api/v1/inbox", get(inbox))
        .route("/api/v1/inbox/claim", post(inbox_claim))
        .route("/api/v1/claims/{claim}", get(claim_state))
        .route("/api/v1/answer", post(answer))
        .route("/api/v1/release", post(release))
        .route("/crl.der", get(crl))
        .merge(super::roster::router())
        // The rest of the ceremony: it has a listener of its own, before this gateway can start.
        .route("/api/v1/enrol/{step}", post(enrolment_is_over))
        .merge(crate::web::router())
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(axum::middleware::map_response(super::problem::complete))
        .layer(axum::middleware::from_fn_with_state(site.clone(), guard));
    crate::web::with_headers(routes).with_state(site)
}

// ---- rules for every call -----------------------------------------------------------------------

/// Rate by address; `Host` is ours; a change comes from our own page, and nothing else changes.
async fn guard(State(site): State<Site>, request: Request, next: Next) -> Response {
    let address = request.extensions().get::<PeerAddress>().copied();
    let Some(PeerAddress(address)) = address else { return Problem::from(DenyReason::Internal).into_response() };
    if let Err(limited) = site.approvers.engine().limits.call_of_address(address) {
        // Counted, not audited: whoever floods must not fill the log.
        site.approvers.engine().metrics.limited(limited.limit);
        return Problem(limited.into()).into_response();
    }
    if !super::guard::allows(&site.origin, &request) {
        let engine = site.approvers.engine();
        engine.metrics.refused(DenyReason::CrossSite);
        if engine.limits.is_worth_a_row(address) {
            let path = without_tokens(request.uri().path());
            engine.note(vec![audit::Event::CrossSiteRefused { path, from: address.to_string() }]).await;
        }
        return Problem::from(DenyReason::CrossSite).into_response();
    }
    next.run(request).await
}

/// A path for the log. What is longer than any word of ours may be a ticket, an invite or a claim,
/// and is left out (L3).
fn without_tokens(path: &str) -> String {
    let shown = |part: &str| if part.len() > WORD_BYTES { "…".to_owned() } else { escape::visible(part.as_bytes()) };
    path.split('/').take(8).map(shown).collect::<Vec<_>>().join("/")
}

/// A strict body: one JSON object.
pub(super) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    codec::decode("body", BODY_BYTES, body).map_err(|_| DenyReason::BadInput.into())
}

fn cookie_of(headers: &HeaderMap) -> Option<Cookie> {
    cookie_named(headers, COOKIE).and_then(|text| Fixed::from_text(&text)).map(Cookie)
}

/// A cookie that is there exactly once.
pub(super) fn cookie_named(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == wanted);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(value.to_owned()),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

pub(super) fn source_of(address: IpAddr, headers: &HeaderMap) -> Source {
    let browser = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Source::new(address, browser)
}

pub(super) fn signed_in(site: &Site, headers: &HeaderMap) -> Result<SignedIn, Problem> {
    let cookie = cookie_of(headers).ok_or(DenyReason::SignInNeeded)?;
    Ok(site.approvers.signed_in(&cookie)?)
}

async fn enrolment_is_over() -> Problem {
    DenyReason::InviteInvalid.into()
}

async fn not_found() -> Problem {
    DenyReason::NotFound.into()
}

// ---- sign-in ------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FinishBody {
    sign_in: Fixed<16>,
    credential_id: CredentialId,
    assertion: Assertion,
    device_signature: Option<Signature>,
}

#[derive(Serialize)]
struct PersonJson {
    id: PersonId,
    name: String,
}

#[derive(Serialize)]
struct DeviceJson {
    id: DeviceId,
    label: String,
    assurance: Assurance,
}

async fn sign_in_start(State(site): State<Site>, body: Bytes) -> Result<Json<Value>, Problem> {
    let Nothing {} = parse(&body)?;
    let start = site.approvers.start_sign_in()?;
    let rp_id = &site.approvers.engine().roster().rp_id;
    Ok(Json(json!({ "sign_in": start.sign_in, "nonce": start.nonce, "rp_id": rp_id })))
}

async fn sign_in_finish(
    State(site): State<Site>,
    Extension(PeerAddress(address)): Extension<PeerAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let FinishBody { sign_in, credential_id, assertion, device_signature } = parse(&body)?;
    let finish = SignInFinish { sign_in, credential_id, assertion, device_signature };
    let (cookie, session) = site.approvers.finish_sign_in(finish, &source_of(address, &headers)).await?;
    let (person, device) = who(&site, &session)?;
    let valid_s = session.expires_at.since(site.approvers.engine().clock.now());
    let mut response = Json(json!({ "person": person, "device": device, "valid_s": valid_s })).into_response();
    set_cookie(&mut response, &cookie.0.to_text(), valid_s)?;
    Ok(response)
}

fn set_cookie(response: &mut Response, value: &str, max_age_s: u64) -> Result<(), Problem> {
    let line = format!("{COOKIE}={value}; HttpOnly; Secure; SameSite=Strict; Path=/; Max-Age={max_age_s}");
    let mut line = HeaderValue::from_str(&line).map_err(|_| DenyReason::Internal)?;
    line.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, line);
    Ok(())
}

fn who(site: &Site, session: &SignedIn) -> Result<(PersonJson, DeviceJson), Problem> {
    let (person, device) = site.approvers.who(session)?;
    Ok((
        PersonJson { id: person.id, name: person.name },
        DeviceJson { assurance: device.assurance(), id: device.id, label: device.label },
    ))
}

async fn sign_out(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let Nothing {} = parse(&body)?;
    let outcome = match signed_in(&site, &headers) {
        Ok(session) => site.approvers.sign_out(&session).await,
        Err(_) => Ok(()),
    };
    // The cookie goes in any case; that the gateway still knows it is said.
    let mut response = match outcome {
        Ok(()) => Json(json!({})).into_response(),
        Err(reason) => Problem::from(reason).into_response(),
    };
    set_cookie(&mut response, "", 0)?;
    Ok(response)
}

async fn me(State(site): State<Site>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let Ok(session) = signed_in(&site, &headers) else { return Ok(Json(json!({ "signed_in": false }))) };
    let (person, device) = who(&site, &session)?;
    let credential_id = site.approvers.who(&session)?.1.credential_id;
    let valid_s = session.expires_at.since(site.approvers.engine().clock.now());
    let claim_nonce = site.approvers.claim_nonce(&session)?;
    Ok(Json(json!({
        "signed_in": true, "person": person, "device": device, "credential_id": credential_id,
        "valid_s": valid_s, "claim_nonce": claim_nonce,
    })))
}

// ---- claims -------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimBody {
    ticket: String,
    claim_nonce: Fixed<32>,
    device_signature: Option<Signature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InboxClaimBody {
    request: RequestId,
    code: String,
    claim_nonce: Fixed<32>,
    device_signature: Option<Signature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerBody {
    claim: Fixed<16>,
    signed: SignedStatement,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseBody {
    claim: Fixed<16>,
}

/// What a statement must carry; the page adds the decision.
#[derive(Serialize)]
struct StatementJson {
    request_digest: RequestId,
    person: PersonId,
    credential_id: CredentialId,
    device_id: DeviceId,
    channel: Channel,
    gateway_salt: Fixed<32>,
}

fn claim_json(view: ClaimView) -> Json<Value> {
    let statement = StatementJson {
        request_digest: view.request_id,
        person: view.lease.person,
        credential_id: view.lease.credential,
        device_id: view.lease.device,
        channel: view.lease.channel,
        gateway_salt: view.lease.salt,
    };
    let requesters: Vec<Value> = view
        .requesters
        .iter()
        .map(|person| {
            let kind = if person.is_service { "service" } else { "human" };
            json!({ "id": person.id, "name": person.name, "kind": kind })
        })
        .collect();
    let approved: Vec<Value> =
        view.approved.iter().map(|(name, age_s)| json!({ "name": name, "age_s": age_s })).collect();
    Json(json!({
        "claim": view.claim, "slot": view.lease.slot, "lease_s": view.lease_s, "left_s": view.left_s,
        "request": view.request, "host": { "id": view.host.0, "name": view.host.1 },
        "requesters": requesters, "approved": approved, "max_ttl_s": view.max_ttl_s, "statement": statement,
    }))
}

async fn claim(
    State(site): State<Site>,
    Extension(PeerAddress(address)): Extension<PeerAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let ClaimBody { ticket, claim_nonce, device_signature } = parse(&body)?;
    let session = signed_in(&site, &headers)?;
    let proof = ClaimProof { nonce: claim_nonce, device_signature };
    Ok(claim_json(site.approvers.claim_ticket(&session, &ticket, &proof, &source_of(address, &headers)).await?))
}

async fn inbox_claim(
    State(site): State<Site>,
    Extension(PeerAddress(address)): Extension<PeerAddress>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let InboxClaimBody { request, code, claim_nonce, device_signature } = parse(&body)?;
    let session = signed_in(&site, &headers)?;
    let proof = ClaimProof { nonce: claim_nonce, device_signature };
    Ok(claim_json(site.approvers.claim_code(&session, request, &code, &proof, &source_of(address, &headers)).await?))
}

async fn inbox(State(site): State<Site>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let session = signed_in(&site, &headers)?;
    let lines = site.approvers.inbox(&session).await?;
    let requests: Vec<Value> = lines
        .into_iter()
        .map(|line| {
            json!({
                "request": line.request, "requester": line.requester, "host": line.host, "target": line.target,
                "summary": line.summary, "reason": line.reason, "age_s": line.age_s, "left_s": line.left_s,
                "approved": line.approved,
            })
        })
        .collect();
    Ok(Json(json!({ "requests": requests })))
}

async fn claim_state(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(claim): Path<String>,
) -> Result<Json<Value>, Problem> {
    let session = signed_in(&site, &headers)?;
    let claim = Fixed::from_text(&claim).ok_or(DenyReason::BadInput)?;
    Ok(Json(match site.approvers.claim_state(&session, &claim).await? {
        ClaimState::Open { lease_s, left_s, approved } => {
            json!({ "state": "open", "lease_s": lease_s, "left_s": left_s, "approved": approved })
        }
        ClaimState::Over(reason) => json!({ "state": "over", "problem": reason.row().name }),
    }))
}

async fn answer(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let AnswerBody { claim, signed } = parse(&body)?;
    let session = signed_in(&site, &headers)?;
    let state = match site.approvers.answer(&session, &claim, signed).await? {
        GaveState::ApprovedFirst => "approved_first",
        GaveState::Granted => "granted",
        GaveState::Approved => "approved",
        GaveState::Denied => "denied",
    };
    Ok(Json(json!({ "state": state })))
}

async fn release(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> Result<Json<Value>, Problem> {
    let ReleaseBody { claim } = parse(&body)?;
    let session = signed_in(&site, &headers)?;
    site.approvers.release(&session, &claim).await?;
    Ok(Json(json!({})))
}

// ---- revocation ---------------------------------------------------------------------------------

/// The list as the engine holds it: whoever fetches it shares it.
struct Der(Arc<CrlRow>);

impl AsRef<[u8]> for Der {
    fn as_ref(&self) -> &[u8] {
        &self.0.der.0
    }
}

async fn crl(State(site): State<Site>) -> Response {
    let der = Bytes::from_owner(Der(site.approvers.engine().crl()));
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/pkix-crl"))], Body::from(der)).into_response()
}
