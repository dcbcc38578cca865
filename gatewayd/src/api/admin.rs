//! The administrator's API over a unix socket that only root may use: lists, revocation, the audit
//! log, records. It can look, end things, propose and invite; it can't grant, approve or seal a
//! roster.
//!
//! `GET /v1/health` · `GET /v1/requests` · `GET /v1/grants?limit=N` · `POST /v1/grants/{id}/revoke` ·
//! `GET /v1/grants/{id}/record` · `GET /v1/audit?after=N&limit=N&grant=ID` · `GET /v1/rosters?above=N` ·
//! `GET /v1/warnings`

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use twinlock_protocol::evidence::{EndNote, SignedRequest};
use twinlock_protocol::ids::{CertSerial, GrantId, HostId, PersonId, RequestId};
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::statement::SignedStatement;
use twinlock_protocol::{Bytes, DenyReason, Digest, UnixTime, escape};

use super::http::PeerUid;
use super::monitor::{Health, health};
use super::problem::Problem;
use crate::approval::summary;
use crate::audit::AuditRow;
use crate::roster::Changes;
use crate::serve::Engine;
use crate::session;
use crate::store::{AuditQuery, GrantRow, StoreError};

/// Rows of one answer, at most.
const ROWS: u32 = 10_000;

/// What the admin socket serves.
#[derive(Clone)]
pub struct Admin {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The roster's changes.
    pub changes: Arc<Changes>,
    /// The agent listener's key: SHA-256 of its SubjectPublicKeyInfo.
    pub gateway_key: Digest,
    /// Doubtful settings, in words.
    pub warnings: Arc<Vec<String>>,
}

/// A request that waits.
#[derive(Debug, Serialize, Deserialize)]
pub struct WaitingRequest {
    /// The request.
    pub request: RequestId,
    /// The grant that it can become.
    pub grant: GrantId,
    /// Its state.
    pub state: String,
    /// Who asks.
    pub requesters: Vec<PersonId>,
    /// Where.
    pub host: HostId,
    /// As whom.
    pub target: String,
    /// What, on one line, escaped.
    pub summary: String,
    /// Why, escaped.
    pub reason: Option<String>,
    /// Who approved.
    pub approved: Vec<PersonId>,
    /// Who holds the open slot.
    pub claimed_by: Option<PersonId>,
    /// Seconds since it was admitted.
    pub age_s: u64,
    /// Seconds until approve-by.
    pub left_s: u64,
}

/// A request and what became of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrantLine {
    /// The grant.
    pub grant: GrantId,
    /// The request.
    pub request: RequestId,
    /// Its state.
    pub state: String,
    /// Where.
    pub host: HostId,
    /// The login that asks.
    pub requester: String,
    /// As whom.
    pub target: String,
    /// What, on one line, escaped.
    pub summary: String,
    /// When it was admitted.
    pub admitted_at: UnixTime,
    /// Its certificate's serial.
    pub serial: Option<CertSerial>,
    /// Its certificate's end.
    pub not_after: Option<UnixTime>,
}

/// Everything that is known of a grant, with its signatures: enough to verify it elsewhere.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrantFile {
    /// The grant.
    pub grant: GrantId,
    /// The request and its signatures.
    pub request: SignedRequest,
    /// Every statement about it.
    pub statements: Vec<SignedStatement>,
    /// The GrantRecord's bytes, as the host sent them at the start.
    pub record: Option<Bytes>,
    /// How the session ended.
    pub ended: Option<EndNote>,
}

/// A part of the audit log.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuditPart {
    /// Rows, oldest first.
    pub rows: Vec<AuditRow>,
}

/// A part of the roster chain.
#[derive(Debug, Serialize, Deserialize)]
pub struct RostersPart {
    /// Envelopes' bytes, lowest version first; none when there are no more.
    pub envelopes: Vec<Bytes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RostersQuery {
    above: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantsQuery {
    limit: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowsQuery {
    after: Option<u64>,
    limit: Option<u32>,
    grant: Option<String>,
}

/// The admin socket's routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/v1/health", get(health_of))
        .route("/v1/warnings", get(warnings))
        .route("/v1/requests", get(requests))
        .route("/v1/grants", get(grants))
        .route("/v1/grants/{grant}/revoke", post(revoke))
        .route("/v1/grants/{grant}/record", get(record))
        .route("/v1/audit", get(audit))
        .route("/v1/rosters", get(rosters))
        .merge(super::break_glass::router())
        .merge(super::changes::router())
        .with_state(admin)
}

async fn health_of(State(admin): State<Admin>) -> Json<Health> {
    Json(health(&admin.engine))
}

async fn warnings(State(admin): State<Admin>) -> Json<Vec<String>> {
    let left_s = admin.engine.roster().expires_at.since(admin.engine.clock.now());
    let mut warnings = admin.warnings.to_vec();
    if left_s < twinlock_protocol::limits::ROSTER_WARN_S {
        warnings.push(format!("the roster expires in {} days; renew it with two signatures", left_s / 86_400));
    }
    for kept in crate::break_glass::open(&admin.engine).unwrap_or_default() {
        let grant = kept.grant;
        warnings.push(format!(
            "break-glass was used on {} and not reviewed: twinlock break-glass review {grant}",
            kept.host
        ));
    }
    warnings.extend(admin.engine.recovery_warnings());
    Json(warnings)
}

async fn requests(State(Admin { engine, .. }): State<Admin>) -> Json<Vec<WaitingRequest>> {
    let now = engine.clock.now();
    let mut lines = Vec::new();
    for id in engine.waiting() {
        let line = engine.look(id, |state| {
            let (case, asked) = (state.case(), state.case().request.request());
            WaitingRequest {
                request: id,
                grant: id.grant(),
                state: state.name().to_owned(),
                requesters: case.request.requesters().to_vec(),
                host: asked.host.clone(),
                target: escape::visible(asked.target.user.as_bytes()),
                summary: summary(asked),
                reason: asked.reason.as_ref().map(|reason| escape::visible(reason.as_bytes())),
                approved: state.given().iter().map(|given| given.person().clone()).collect(),
                claimed_by: state.desk().and_then(|desk| desk.lease()).map(|lease| lease.person.clone()),
                age_s: now.since(case.admitted_at),
                left_s: case.approve_by.since(now),
            }
        });
        lines.extend(line.await);
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.age_s));
    Json(lines)
}

async fn grants(
    State(Admin { engine, .. }): State<Admin>,
    Query(query): Query<GrantsQuery>,
) -> Result<Json<Vec<GrantLine>>, Problem> {
    let rows = engine.store.grants(query.limit.unwrap_or(100).min(ROWS)).map_err(store_problem)?;
    Ok(Json(rows.into_iter().filter_map(line_of).collect()))
}

fn line_of(row: GrantRow) -> Option<GrantLine> {
    let asked = ElevationRequest::from_bytes(&row.signed.request.0).ok()?;
    let login = asked.requester.login.as_ref().unwrap_or(&asked.requester.real);
    Some(GrantLine {
        grant: row.request.grant(),
        request: row.request,
        state: row.state,
        host: row.host,
        requester: escape::visible(login.name.as_bytes()),
        target: escape::visible(asked.target.user.as_bytes()),
        summary: summary(&asked),
        admitted_at: row.admitted_at,
        serial: row.certificate.map(|(serial, _)| serial),
        not_after: row.certificate.map(|(_, not_after)| not_after),
    })
}

async fn revoke(
    State(Admin { engine, .. }): State<Admin>,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Path(grant): Path<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    let grant = GrantId::from_text(&grant).ok_or(DenyReason::BadInput)?;
    session::revoke(&engine, grant, uid).await?;
    Ok(Json(serde_json::json!({ "grant": grant })))
}

async fn record(
    State(Admin { engine, .. }): State<Admin>,
    Path(grant): Path<String>,
) -> Result<Json<GrantFile>, Problem> {
    let grant = GrantId::from_text(&grant).ok_or(DenyReason::BadInput)?;
    if let Some(file) = super::break_glass::record(&engine, grant)? {
        return Ok(Json(file));
    }
    let id = engine.store.request_of_grant(grant).map_err(store_problem)?.ok_or(DenyReason::NotFound)?;
    let row = engine.store.request(id).map_err(store_problem)?.ok_or(DenyReason::NotFound)?;
    let session = engine.store.session(id).map_err(store_problem)?;
    let (record, ended) = session.map_or((None, None), |session| (session.record, session.ended));
    Ok(Json(GrantFile { grant, request: row.stored.signed, statements: row.stored.statements, record, ended }))
}

async fn audit(
    State(Admin { engine, .. }): State<Admin>,
    Query(query): Query<RowsQuery>,
) -> Result<Json<AuditPart>, Problem> {
    let grant = match query.grant {
        Some(text) => Some(GrantId::from_text(&text).ok_or(DenyReason::BadInput)?),
        None => None,
    };
    let question = AuditQuery { after: query.after.unwrap_or(0), limit: query.limit.unwrap_or(1000).min(ROWS), grant };
    Ok(Json(AuditPart { rows: engine.store.audit(&question).map_err(store_problem)? }))
}

async fn rosters(
    State(Admin { engine, .. }): State<Admin>,
    Query(query): Query<RostersQuery>,
) -> Result<Json<RostersPart>, Problem> {
    // Version 1 rests beside the database, not in it.
    let envelopes = engine.rosters_above(query.above.unwrap_or(1)).map_err(store_problem)?;
    Ok(Json(RostersPart { envelopes }))
}

fn store_problem(error: StoreError) -> Problem {
    tracing::error!(%error, "the database");
    DenyReason::StoreFailed.into()
}
