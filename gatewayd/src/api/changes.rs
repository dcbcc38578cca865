//! The admin socket's routes for the roster: looking, proposing, inviting, tokens for hosts. Nothing
//! here can seal: that takes people's signatures on the page. A refusal says which rule, in words.

use std::collections::BTreeMap;

use axum::body::Bytes as Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twinlock_protocol::ids::{GroupName, HostId, PersonId};
use twinlock_protocol::request::RosterRef;
use twinlock_protocol::{Bytes, DenyReason, Digest, Fixed, UnixTime, limits};

use super::admin::Admin;
use super::http::PeerUid;
use super::problem::{Problem, status_of};
use super::roster::newcomer;
use crate::roster::op::Op;
use crate::roster::proposal::{Proposal, Proposer};
use crate::roster::{ChangeError, Seen};

/// The roster as it is.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeadFile {
    /// Its version.
    pub version: u64,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
    /// The whole envelope, as hosts pin it.
    pub envelope: Bytes,
}

/// An open proposal.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProposalLine {
    /// Its id.
    pub id: Fixed<16>,
    /// What it is about.
    pub title: String,
    /// Who wants it.
    pub by: String,
    /// Until when.
    pub expires_at: UnixTime,
    /// Who signed.
    pub signed: Vec<PersonId>,
    /// Signatures that it takes.
    pub needs: usize,
    /// The invite behind it was opened by a second browser.
    pub contested: bool,
}

/// An open proposal with both versions.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProposalFile {
    /// The line.
    pub line: ProposalLine,
    /// The head's bytes.
    pub base: Bytes,
    /// The next version's bytes.
    pub next: Bytes,
}

/// What to propose.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposeBody {
    /// The operations, in order.
    pub ops: Vec<Op>,
}

/// Whom to invite.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteBody {
    /// The id.
    pub person: PersonId,
    /// What becomes of somebody new.
    pub new: Option<NewBody>,
}

/// Somebody new.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBody {
    /// The name that people know.
    pub name: String,
    /// Login names.
    pub logins: Vec<String>,
    /// Groups.
    pub groups: Vec<GroupName>,
    /// In the group whose members approve.
    pub approver: bool,
    /// May ask for elevation.
    pub requester: bool,
}

/// A link, told once.
#[derive(Debug, Serialize, Deserialize)]
pub struct InviteAnswer {
    /// The link.
    pub link: String,
    /// Seconds that it is good for.
    pub valid_s: u64,
    /// For whom.
    pub name: String,
}

/// Which host is to join.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostTokenBody {
    /// The id.
    pub host: HostId,
    /// The name that people know.
    pub name: String,
    /// Groups.
    pub groups: Vec<GroupName>,
}

/// What goes into its token.
#[derive(Debug, Serialize, Deserialize)]
pub struct HostTokenAnswer {
    /// The secret, told once.
    pub secret: Fixed<32>,
    /// The roster to pin.
    pub roster: RosterRef,
    /// The key of the agent listener: SHA-256 of its SubjectPublicKeyInfo.
    pub gateway_key: Digest,
    /// Agent listeners that the roster names, by their key.
    pub gateways: BTreeMap<String, Digest>,
    /// Until when.
    pub until: UnixTime,
}

/// The routes.
pub fn router() -> Router<Admin> {
    Router::new()
        .route("/v1/roster", get(roster))
        .route("/v1/roster/proposals", get(proposals))
        .route("/v1/roster/proposals/{id}", get(proposal))
        .route("/v1/roster/proposals/{id}/withdraw", post(withdraw))
        .route("/v1/roster/propose", post(propose))
        .route("/v1/invites", post(invite))
        .route("/v1/host-tokens", post(host_token))
        .layer(DefaultBodyLimit::max(2 * limits::ROSTER_ENVELOPE_BYTES))
}

/// A refusal with the rule in words.
enum Refused {
    Problem(Problem),
    Words(String),
}

impl From<DenyReason> for Refused {
    fn from(reason: DenyReason) -> Self {
        Self::Problem(reason.into())
    }
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(reason) => reason.into(),
            ChangeError::Op(why) => Self::Words(why.to_string()),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Words(title) => {
                let row = DenyReason::ProposalUnsound.row();
                let body = serde_json::json!({
                    "type": format!("urn:twinlock:problem:{}", row.name), "title": title,
                    "detail": "twinlock roster show, then try again",
                });
                (status_of(row.class), Json(body)).into_response()
            }
        }
    }
}

/// Root's own words, in our own types: unknown fields are refused.
fn parse<T: DeserializeOwned>(body: &Body) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::Words(format!("the input is not understood: {error}")))
}

async fn roster(State(admin): State<Admin>) -> Json<HeadFile> {
    let chain = admin.engine.rosters.chain();
    let head = chain.head();
    Json(HeadFile {
        version: head.roster.version,
        digest: head.roster.digest(),
        bytes: head.envelope.bytes.clone(),
        envelope: Bytes(head.envelope.to_bytes()),
    })
}

fn line(proposal: &Proposal) -> ProposalLine {
    let draft = proposal.draft.as_ref();
    ProposalLine {
        id: proposal.id,
        title: proposal.title(),
        by: proposal.by.to_string(),
        expires_at: proposal.expires_at,
        signed: draft.map(|one| one.signatures.iter().map(|s| s.person.clone()).collect()).unwrap_or_default(),
        needs: draft.map_or(0, crate::roster::proposal::Draft::needs),
        contested: proposal.contested,
    }
}

async fn proposals(State(admin): State<Admin>) -> Result<Json<Vec<ProposalLine>>, Refused> {
    let (open, _head) = admin.changes.open_proposals().await?;
    Ok(Json(open.iter().map(|one| line(one)).collect()))
}

fn id_of(text: &str) -> Result<Fixed<16>, Refused> {
    Ok(Fixed::from_text(text).ok_or(DenyReason::NotFound)?)
}

async fn proposal(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<ProposalFile>, Refused> {
    file(&admin, &id_of(&id)?).await
}

async fn file(admin: &Admin, id: &Fixed<16>) -> Result<Json<ProposalFile>, Refused> {
    let Seen { proposal, head } = admin.changes.proposal(id).await?;
    let draft = proposal.draft.as_ref().ok_or(DenyReason::ProposalOver)?;
    Ok(Json(ProposalFile { line: line(&proposal), base: Bytes(head.to_bytes()), next: Bytes(draft.next.to_bytes()) }))
}

async fn withdraw(
    State(admin): State<Admin>,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refused> {
    admin.changes.withdraw(&id_of(&id)?, &Proposer::Admin { uid }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn propose(
    State(admin): State<Admin>,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    body: Body,
) -> Result<Json<ProposalFile>, Refused> {
    let ProposeBody { ops } = parse(&body)?;
    let id = admin.changes.propose(ops, Proposer::Admin { uid }).await?;
    file(&admin, &id).await
}

async fn invite(
    State(admin): State<Admin>,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    body: Body,
) -> Result<Json<InviteAnswer>, Refused> {
    let InviteBody { person, new } = parse(&body)?;
    let head = admin.engine.roster();
    let new = new.map(|new| newcomer(&head, new.name, new.logins, new.groups, new.approver, new.requester));
    let made = admin.changes.invite(person, new, Proposer::Admin { uid }).await?;
    let origin = head.qr_origin().unwrap_or_default();
    Ok(Json(InviteAnswer {
        link: format!("{origin}/E/{}", made.secret.as_str()),
        valid_s: made.until.since(admin.engine.clock.now()),
        name: made.name,
    }))
}

async fn host_token(
    State(admin): State<Admin>,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    body: Body,
) -> Result<Json<HostTokenAnswer>, Refused> {
    let HostTokenBody { host, name, groups } = parse(&body)?;
    let made = admin.changes.host_token(host, name, groups, uid).await?;
    let gateways = admin.engine.roster().gateways.iter().map(|one| (one.address.clone(), one.key)).collect();
    Ok(Json(HostTokenAnswer {
        secret: made.secret,
        roster: made.roster,
        gateway_key: admin.gateway_key,
        gateways,
        until: made.until,
    }))
}
