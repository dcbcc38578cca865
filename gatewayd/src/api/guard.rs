//! What every call to a page's listener must be before a body is read, at a running gateway and in the
//! ceremony alike: addressed to our own name, and, where it could change something, sent by our own
//! page (W1, W2).

use axum::http::{HeaderMap, Method, Request, header};

/// Whether a call may go on: `origin` is `https://HOST[:PORT]`, the only one.
#[must_use]
pub fn allows<B>(origin: &str, request: &Request<B>) -> bool {
    let own = origin.strip_prefix("https://").unwrap_or(origin);
    let host_is_ours = authority_of(request).is_some_and(|authority| authority.eq_ignore_ascii_case(own));
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    host_is_ours && (is_read || is_from_our_page(request.method(), request.headers(), origin))
}

/// `:authority` (HTTP/2) or `Host`: exactly one. Another name for this address is not us.
fn authority_of<B>(request: &Request<B>) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    one(request.headers(), header::HOST)
}

/// What another site's form or script cannot send.
fn is_from_our_page(method: &Method, headers: &HeaderMap, origin: &str) -> bool {
    let fetch_site = headers.get("sec-fetch-site");
    *method == Method::POST
        && one(headers, header::ORIGIN) == Some(origin)
        && one(headers, header::HeaderName::from_static("x-twinlock")) == Some("1")
        && one(headers, header::CONTENT_TYPE) == Some("application/json")
        && fetch_site.is_none_or(|site| site == "same-origin")
}

/// A header that is there exactly once.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ORIGIN: &str = "https://tl.example.org";
    const OURS: [(&str, &str); 4] =
        [("host", "tl.example.org"), ("origin", ORIGIN), ("x-twinlock", "1"), ("content-type", "application/json")];

    fn call(method: Method, fields: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/api/v1/enrol/start");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        allows(ORIGIN, &request.body(()).unwrap())
    }

    /// Catalogue: W1 (control: inline)
    #[test]
    fn a_change_comes_from_our_own_page_or_not_at_all() {
        // Control, with and without what only some browsers send.
        assert!(call(Method::POST, &OURS));
        assert!(call(Method::POST, &[&OURS[..], &[("sec-fetch-site", "same-origin")]].concat()));
        assert!(call(Method::GET, &OURS[..1]));
        // Each of them missing, twice, or another one.
        for at in 0..OURS.len() {
            let mut fields = OURS.to_vec();
            let (name, value) = fields.remove(at);
            assert!(!call(Method::POST, &fields), "without {name}");
            assert!(!call(Method::POST, &[&OURS[..], &[(name, value)]].concat()), "{name} twice");
            fields.push((name, "https://evil.example"));
            assert!(!call(Method::POST, &fields), "another {name}");
        }
        assert!(!call(Method::POST, &[&OURS[..], &[("sec-fetch-site", "cross-site")]].concat()));
        for method in [Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert!(!call(method, &OURS));
        }
        assert!(!call(Method::GET, &[("host", "tl.example.org.evil.example")]));
    }
}
