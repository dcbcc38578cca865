//! Break-glass on the admin socket: what was used and not reviewed, and the answer that closes a
//! review. Being root there is not enough: the answer is a third person's signature.
//!
//! `GET /v1/break-glass` · `POST /v1/break-glass/{grant}/review`

use axum::body::Bytes as Body;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use twinlock_protocol::DenyReason;
use twinlock_protocol::break_glass::Answer;
use twinlock_protocol::evidence::GrantRecord;
use twinlock_protocol::ids::{GrantId, PersonId};

use super::admin::{Admin, GrantFile};
use super::problem::Problem;
use crate::break_glass::{self, Kept};
use crate::serve::Engine;

/// The answer that closes a review.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewBody {
    /// [`Answer::to_text`].
    pub answer: String,
}

/// Whose it was.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReviewAnswer {
    /// The person.
    pub person: PersonId,
}

pub fn router() -> Router<Admin> {
    Router::new().route("/v1/break-glass", get(list)).route("/v1/break-glass/{grant}/review", post(review))
}

async fn list(State(Admin { engine, .. }): State<Admin>) -> Result<Json<Vec<Kept>>, Problem> {
    Ok(Json(break_glass::open(&engine)?))
}

async fn review(
    State(Admin { engine, .. }): State<Admin>,
    Path(grant): Path<String>,
    body: Body,
) -> Result<Json<ReviewAnswer>, Problem> {
    let grant = GrantId::from_text(&grant).ok_or(DenyReason::BadInput)?;
    let body: ReviewBody = serde_json::from_slice(&body).map_err(|_| DenyReason::BadInput)?;
    let answer = Answer::from_text(&body.answer).ok_or(DenyReason::BreakGlassAnswer)?;
    Ok(Json(ReviewAnswer { person: break_glass::review(&engine, grant, &answer).await? }))
}

/// A break-glass grant as `audit show` wants it.
pub fn record(engine: &Engine, grant: GrantId) -> Result<Option<GrantFile>, DenyReason> {
    let Some(kept) = break_glass::find(engine, grant)? else { return Ok(None) };
    let record = GrantRecord::from_bytes(&kept.record.0).map_err(|_| DenyReason::EvidenceMalformed)?;
    Ok(Some(GrantFile {
        grant,
        request: record.request,
        statements: Vec::new(),
        record: Some(kept.record),
        ended: kept.ended,
    }))
}
