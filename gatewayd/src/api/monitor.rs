//! `/metrics` (Prometheus) and `/healthz`, for the monitor listener; `/healthz` says in words what
//! is wrong and names nobody.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::serve::Engine;

/// The roster's age is a failure from here on, in seconds before its end: somebody may be keeping
/// its renewal back (I3).
const ROSTER_ALARM_S: u64 = 7 * 24 * 3600;

/// The gateway's health.
#[derive(Debug, Serialize)]
pub struct Health {
    /// `ok` or `failing`.
    pub status: &'static str,
    /// What is wrong.
    pub problems: Vec<&'static str>,
    /// The gateway's version.
    pub version: &'static str,
    /// Seconds until the roster's end.
    pub roster_left_s: u64,
    /// Hosts whose agent is connected.
    pub agents: usize,
    /// Requests that wait.
    pub waiting: usize,
}

/// Asks every part.
#[must_use]
pub fn health(engine: &Engine) -> Health {
    let (now, roster) = (engine.clock.now(), engine.roster());
    let mut problems = Vec::new();
    if engine.store.ping().is_err() {
        problems.push("the database does not answer or cannot be written");
    }
    if engine.metrics.copies_fail() {
        problems.push("copies of audit rows are lost");
    }
    if now >= engine.crl().next_update {
        problems.push("the revocation list is out of date");
    }
    if roster.check_time(now).is_err() {
        problems.push("the roster has expired");
    } else if roster.expires_at.since(now) < ROSTER_ALARM_S {
        problems.push("the roster ends within seven days: two people must renew it");
    }
    Health {
        status: if problems.is_empty() { "ok" } else { "failing" },
        problems,
        version: env!("CARGO_PKG_VERSION"),
        roster_left_s: roster.expires_at.since(now),
        agents: engine.hub.len(),
        waiting: engine.waiting().len(),
    }
}

/// The monitor listener's routes.
pub fn router(engine: Arc<Engine>) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).with_state(engine)
}

async fn metrics(State(engine): State<Arc<Engine>>) -> Response {
    engine.metrics.agents(engine.hub.len());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], engine.metrics.text()).into_response()
}

async fn healthz(State(engine): State<Arc<Engine>>) -> Response {
    let health = health(&engine);
    let status = if health.problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}
