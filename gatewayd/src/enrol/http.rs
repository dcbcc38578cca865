//! `/api/v1/enrol/*` as docs/approver-api.md has it: thin handlers over the ceremony. Every call is
//! a POST from our own page; everything else is refused before a body is read.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes as Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use twinlock_protocol::roster::RosterEnvelope;
use twinlock_protocol::signature::{PublicKey, Signature};
use twinlock_protocol::statement::SignedStatement;
use twinlock_protocol::{DenyReason, codec};

use super::ceremony::{Ceremony, DeviceInfo, Opened, PersonInfo, Status, Step};
use super::passkey::{DeviceKey, Registration};
use super::seal::SealError;
use crate::api::problem::{self, Problem};
use crate::clock::Clock;

/// The longest body, in bytes.
const BODY_BYTES: usize = 64 * 1024;

/// What happens in the room, for the administrator's terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Somebody opened a link and can enrol.
    Opened(PersonInfo),
    /// Somebody enrolled a device.
    Enrolled(PersonInfo, DeviceInfo),
    /// Somebody signed the roster.
    Signed(PersonInfo),
    /// The last signature is given and everything is on disk.
    Sealed,
    /// The last signature is given, but the disk refused.
    SealFailed(String),
}

/// Writes the sealed envelope.
pub type Sealer = Box<dyn Fn(&RosterEnvelope) -> Result<(), SealError> + Send + Sync>;

/// The ceremony with what its handlers need.
pub struct Room {
    /// The state machine.
    pub ceremony: Mutex<Ceremony>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The administrator's terminal.
    pub progress: UnboundedSender<Progress>,
    /// Writes the sealed envelope.
    pub sealer: Sealer,
    /// `https://HOST[:PORT]`, the only one.
    pub origin: String,
}

/// The routes.
pub fn router(room: Arc<Room>) -> Router {
    Router::new()
        .route("/api/v1/enrol/start", post(start))
        .route("/api/v1/enrol/finish", post(finish))
        .route("/api/v1/enrol/status", post(status))
        .route("/api/v1/enrol/sign", post(sign))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::map_response(problem::complete))
        .layer(middleware::from_fn_with_state(Arc::clone(&room), only_our_page))
        .with_state(room)
}

/// A body that decodes strictly.
struct Json<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let body = Body::from_request(request, state).await.map_err(|_| Problem::from(DenyReason::BadInput))?;
        codec::decode("body", BODY_BYTES, &body).map(Self).map_err(|_| Problem::from(DenyReason::BadInput))
    }
}

fn answer<T: Serialize>(value: &T) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], codec::encode(value)).into_response()
}

/// Same page, same origin: what another site's form or script cannot send (W1, W2).
async fn only_our_page(State(room): State<Arc<Room>>, request: Request, next: Next) -> Response {
    if crate::api::guard::allows(&room.origin, &request) {
        next.run(request).await
    } else {
        Problem::from(DenyReason::CrossSite).into_response()
    }
}

impl Room {
    fn with<T>(&self, act: impl FnOnce(&mut Ceremony) -> Result<T, DenyReason>) -> Result<T, Problem> {
        // A poisoned lock means that a handler panicked half way: nothing more is believed.
        let mut ceremony = self.ceremony.lock().map_err(|_| Problem::from(DenyReason::Internal))?;
        act(&mut ceremony).map_err(Problem::from)
    }

    fn tell(&self, progress: Progress) {
        // Nobody listens when the command is being given up.
        let _ = self.progress.send(progress);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithInvite {
    invite: String,
}

async fn start(State(room): State<Arc<Room>>, Json(body): Json<WithInvite>) -> Result<Response, Problem> {
    let now = room.clock.now();
    let opened: Opened = room.with(|ceremony| ceremony.open(&body.invite, now))?;
    if opened.state == Step::Enrol {
        room.tell(Progress::Opened(opened.person.clone()));
    }
    Ok(answer(&opened))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finish {
    enrol: String,
    registration: Registration,
    device_key: Option<PublicKey>,
    device_proof: Option<Signature>,
    label: String,
}

#[derive(Serialize)]
struct Finished {
    state: Step,
    device: DeviceInfo,
}

async fn finish(State(room): State<Arc<Room>>, Json(body): Json<Finish>) -> Result<Response, Problem> {
    let device_key = match (body.device_key, body.device_proof) {
        (Some(key), Some(proof)) => Some(DeviceKey { key, proof }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(Problem::from(DenyReason::BadInput)),
    };
    let now = room.clock.now();
    let (person, device) =
        room.with(|ceremony| ceremony.enrol(&body.enrol, &body.registration, device_key.as_ref(), &body.label, now))?;
    room.tell(Progress::Enrolled(person, device.clone()));
    Ok(answer(&Finished { state: Step::Wait, device }))
}

async fn status(State(room): State<Arc<Room>>, Json(body): Json<WithInvite>) -> Result<Response, Problem> {
    let now = room.clock.now();
    let status: Status = room.with(|ceremony| ceremony.status(&body.invite, now))?;
    Ok(answer(&status))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sign {
    invite: String,
    signed: SignedStatement,
}

#[derive(Serialize)]
struct SignAnswer {
    state: Step,
}

async fn sign(State(room): State<Arc<Room>>, Json(body): Json<Sign>) -> Result<Response, Problem> {
    let now = room.clock.now();
    let worker = Arc::clone(&room);
    // The last signature writes and syncs files.
    let state = tokio::task::spawn_blocking(move || worker.sign_and_seal(&body.invite, body.signed, now))
        .await
        .map_err(|_| Problem::from(DenyReason::Internal))??;
    Ok(answer(&SignAnswer { state }))
}

impl Room {
    /// Under one lock, so that the last two signatures cannot seal twice.
    fn sign_and_seal(
        &self,
        invite: &str,
        signed: SignedStatement,
        now: twinlock_protocol::UnixTime,
    ) -> Result<Step, Problem> {
        self.with(|ceremony| {
            let (person, envelope) = ceremony.sign(invite, signed, now)?;
            let Some(envelope) = envelope else {
                self.tell(Progress::Signed(person));
                return Ok(Step::Wait);
            };
            if let Err(error) = (self.sealer)(&envelope) {
                ceremony.take_back(&person.id);
                self.tell(Progress::SealFailed(crate::cli::chain(&error)));
                return Err(DenyReason::StoreFailed);
            }
            ceremony.sealed();
            self.tell(Progress::Signed(person));
            self.tell(Progress::Sealed);
            Ok(Step::Sealed)
        })
    }
}
