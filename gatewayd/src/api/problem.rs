//! A refusal as an RFC 9457 problem document: name, line and hint come from the one table in
//! `protocol::refusal`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use twinlock_protocol::DenyReason;
use twinlock_protocol::refusal::RefusalClass;

use crate::serve::Refusal;

/// RFC 9457.
const PROBLEM: &str = "application/problem+json";

/// A refusal on its way to a page or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem(pub Refusal);

#[derive(Serialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    detail: &'static str,
    status: u16,
    retry_after_s: Option<u32>,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<DenyReason> for Problem {
    fn from(reason: DenyReason) -> Self {
        Self(reason.into())
    }
}

/// The HTTP status of a class of refusals.
#[must_use]
pub fn status_of(class: RefusalClass) -> StatusCode {
    match class {
        RefusalClass::Malformed => StatusCode::BAD_REQUEST,
        RefusalClass::Forbidden => StatusCode::FORBIDDEN,
        RefusalClass::NotFound => StatusCode::NOT_FOUND,
        RefusalClass::Gone => StatusCode::GONE,
        RefusalClass::Conflict => StatusCode::CONFLICT,
        RefusalClass::Limited => StatusCode::TOO_MANY_REQUESTS,
        RefusalClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An answer that no handler of ours made, to a wrong method or an over-long body, is a problem document
/// too; its status, and what else the framework says in its header, stay.
pub async fn complete(response: Response) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let reason = match status {
        StatusCode::NOT_FOUND => DenyReason::NotFound,
        _ if status.is_client_error() => DenyReason::BadInput,
        _ => DenyReason::Internal,
    };
    let mut document = Problem::from(reason).with_status(status);
    if let Some(allow) = response.headers().get(header::ALLOW) {
        document.headers_mut().insert(header::ALLOW, allow.clone());
    }
    document
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = status_of(self.0.reason.row().class);
        self.with_status(status)
    }
}

impl Problem {
    fn with_status(self, status: StatusCode) -> Response {
        let Refusal { reason, retry_after_s } = self.0;
        let row = reason.row();
        let document = Document {
            kind: format!("urn:twinlock:problem:{}", row.name),
            title: row.line,
            detail: row.hint,
            status: status.as_u16(),
            retry_after_s,
        };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_reason_makes_a_problem_with_an_error_status() {
        for reason in DenyReason::ALL {
            let response = Problem::from(*reason).into_response();
            assert!(response.status().is_client_error() || response.status().is_server_error(), "{reason:?}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
        let limited = Refusal { reason: DenyReason::RateLimited, retry_after_s: Some(7) };
        assert_eq!(Problem(limited).into_response().headers()[header::RETRY_AFTER], "7");
    }
}
