//! The approval page's files, carried in the binary, and the headers that every answer of the
//! approver listener has. Nothing here depends on who asks: the document is the same for every
//! ticket and every invite, and a `GET` changes nothing (attack Q9).

use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// One file of the page.
struct Asset {
    name: &'static str,
    bytes: Vec<u8>,
    gzip: Vec<u8>,
}

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../web/", $name)).as_slice())),*]
    };
}

const SOURCES: &[(&str, &[u8])] = &assets![
    "index.html",
    "style.css",
    "icon.svg",
    "main.js",
    "api.js",
    "changes.js",
    "codec.js",
    "device-key.js",
    "dom.js",
    "escape.js",
    "fingerprint.js",
    "proposal.js",
    "roster.js",
    "webauthn.js",
    "words.js",
    "views/ceremony.js",
    "views/changes.js",
    "views/end.js",
    "views/enrol.js",
    "views/inbox.js",
    "views/invite.js",
    "views/people.js",
    "views/person.js",
    "views/possess.js",
    "views/proposal.js",
    "views/request.js",
    "views/restore.js",
    "views/seen.js",
    "views/sign-in.js",
    "views/way.js",
];

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    SOURCES
        .iter()
        .map(|&(name, source)| {
            let bytes = if name.ends_with(".js") { without_comments(source) } else { source.to_vec() };
            Asset { name, gzip: compress(&bytes), bytes }
        })
        .collect()
});

/// Headers of every answer, page and API alike. Scripts come from our origin as files, nothing is
/// ever made from a string, nobody may frame the page or learn where it was opened from.
const HEADERS: [(HeaderName, HeaderValue); 8] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(
            "publickey-credentials-get=(self), publickey-credentials-create=(self), accelerometer=(), autoplay=(), \
             browsing-topics=(), camera=(), clipboard-read=(), display-capture=(), encrypted-media=(), fullscreen=(), \
             geolocation=(), gyroscope=(), hid=(), identity-credentials-get=(), idle-detection=(), magnetometer=(), \
             microphone=(), midi=(), otp-credentials=(), payment=(), picture-in-picture=(), screen-wake-lock=(), \
             serial=(), storage-access=(), sync-xhr=(), unload=(), usb=(), window-management=(), xr-spatial-tracking=()",
        ),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
             manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
        ),
    ),
];

/// The page: one document for the inbox, every ticket and every invite, and its files. Without the
/// headers; wrap the whole approver listener in [`with_headers`].
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(document))
        .route("/S/", get(document))
        .route("/S/{*ticket}", get(document))
        .route("/E/", get(document))
        .route("/E/{*invite}", get(document))
        .route("/assets/{*name}", get(asset))
}

/// Puts the page's headers on every answer of `router`, its refusals included. Add routes before.
pub fn with_headers<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(axum::middleware::map_response(add_headers))
}

/// The headers on one answer that no router made.
pub async fn add_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

async fn document(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve(&name, &headers)
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let content_type = (header::CONTENT_TYPE, media_type(asset.name));
    let vary = (header::VARY, "accept-encoding");
    // The files are public and the same for everybody, so compressing them gives nothing away.
    if accepts_gzip(headers) {
        ([content_type, vary, (header::CONTENT_ENCODING, "gzip")], asset.gzip.as_slice()).into_response()
    } else {
        ([content_type, vary], asset.bytes.as_slice()).into_response()
    }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| coding.trim() == "gzip")
}

/// A script as phones get it: without its comments and its indentation, a third of the bytes. Works
/// on lines, so it relies on what a test checks of every source: comments begin a line, and no
/// string goes over a line's end.
fn without_comments(source: &[u8]) -> Vec<u8> {
    let mut lean = Vec::with_capacity(source.len());
    let mut in_comment = false;
    for line in source.split(|&byte| byte == b'\n') {
        let mut line = line.trim_ascii();
        if in_comment || line.starts_with(b"/**") {
            let end = line.windows(2).position(|pair| pair == b"*/");
            in_comment = end.is_none();
            // A cast stands before an expression, on its line.
            line = end.and_then(|end| line.get(end + 2..)).unwrap_or_default().trim_ascii();
        }
        if !line.is_empty() && !line.starts_with(b"//") {
            lean.extend_from_slice(line);
            lean.push(b'\n');
        }
    }
    lean
}

#[allow(clippy::expect_used)] // writing to a Vec does not fail
fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("a Vec takes every byte");
    encoder.finish().expect("a Vec takes every byte")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]
    use axum::body::Body;
    use axum::http::{Method, Request};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(method: Method, path: &str, accept: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
        let request = Request::builder().method(method).uri(path).header("accept-encoding", accept);
        let router: Router = with_headers(router());
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }

    /// A link-preview bot learns nothing from a ticket's address and changes nothing with it.
    ///
    /// Catalogue: Q9 (control: inline)
    #[tokio::test]
    async fn every_ticket_and_invite_gets_the_same_document() {
        let (status, inbox, bytes) = ask(Method::GET, "/", "").await;
        assert_eq!(status, StatusCode::OK);
        assert!(bytes.starts_with(b"<!doctype html>"));
        for path in ["/S/7F3K9Q2M4XWTA6BC3D5E7G2H4J", "/S/", "/S/a/../b?c", "/E/x", "/E/x/y%2fz"] {
            let (status, headers, same) = ask(Method::GET, path, "").await;
            assert_eq!((status, &headers, &same), (StatusCode::OK, &inbox, &bytes), "{path}");
            let (status, headers, none) = ask(Method::HEAD, path, "").await;
            assert_eq!((status, headers, none.len()), (StatusCode::OK, inbox.clone(), 0), "{path}");
        }
        assert_eq!(ask(Method::POST, "/S/7F3K9Q2M4XWTA6BC3D5E7G2H4J", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(Method::GET, "/s/x", "").await.0, StatusCode::NOT_FOUND);
    }

    /// Catalogue: W2 (control: inline)
    #[tokio::test]
    async fn refusals_carry_the_headers_too() {
        for (path, expected) in [("/", 200), ("/nowhere", 404), ("/assets/nothing.js", 404)] {
            let (status, headers, _) = ask(Method::GET, path, "").await;
            assert_eq!(status.as_u16(), expected);
            for (name, value) in HEADERS {
                assert_eq!(headers.get(&name), Some(&value), "{path} {name}");
            }
        }
        let (_, headers, _) = ask(Method::GET, "/", "").await;
        let csp = headers.get(header::CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap();
        for part in ["frame-ancestors 'none'", "trusted-types 'none'", "default-src 'none'"] {
            assert!(csp.contains(part));
        }
        assert!(!csp.contains("unsafe"));
    }

    /// What the document names is carried, and nothing on the page is inline.
    #[tokio::test]
    async fn the_document_finds_its_files_and_holds_no_inline_code() {
        let document = std::str::from_utf8(include_bytes!("../../web/index.html")).unwrap();
        let named: Vec<&str> = document.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.len() > 10);
        for name in named {
            assert!(ASSETS.iter().any(|asset| asset.name == name), "{name}");
        }
        for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
            let source = std::str::from_utf8(&asset.bytes).unwrap();
            for (at, _) in source.match_indices("from \"./").chain(source.match_indices("from \"../")) {
                let target = source.get(at + 6..).unwrap().split('"').next().unwrap();
                let file = target.rsplit('/').next().unwrap();
                // Types are for the checker alone.
                assert!(file == "types.ts" || ASSETS.iter().any(|asset| asset.name.ends_with(file)), "{target}");
            }
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", ".style."]
            {
                assert!(!source.contains(forbidden), "{} has {forbidden}", asset.name);
            }
        }
        for forbidden in ["<style", "style=", " onclick", " onload", "javascript:", "http:", "https:"] {
            assert!(!document.contains(forbidden), "{forbidden}");
        }
        assert!(!document.replace("<script type=\"module\" src=\"/assets/main.js\"></script>", "").contains("<script"));
    }

    /// What a script imports when it starts, or (`lazy`) when a screen is opened, as asset names.
    fn imports(asset: &Asset, lazy: bool) -> Vec<String> {
        let source = std::str::from_utf8(&asset.bytes).unwrap();
        let marks = if lazy { ["import(\"./", "import(\"../"] } else { ["from \"./", "from \"../"] };
        let folder = asset.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let found = marks.iter().flat_map(|mark| source.split(mark).skip(1).map(move |rest| (mark, rest)));
        let name = |(mark, rest): (&&str, &str)| {
            let file = rest.split('"').next().unwrap();
            let below = if mark.ends_with("../") || folder.is_empty() { "" } else { "views/" };
            format!("{below}{file}")
        };
        found.map(name).collect()
    }

    /// A first visit fetches exactly what the document names, at once: nothing is found out late, and
    /// no screen that is opened later slips in. What is imported later exists.
    #[test]
    fn the_document_names_what_a_first_visit_needs_and_nothing_more() {
        let document = include_str!("../../web/index.html");
        let asset = |name: &str| ASSETS.iter().find(|asset| asset.name == name);
        let mut needed = vec!["main.js".to_owned()];
        let mut at = 0;
        while let Some(name) = needed.get(at).cloned() {
            let more = imports(asset(&name).unwrap_or_else(|| panic!("{name}")), false);
            needed.extend(more.into_iter().filter(|name| !needed.contains(name)).collect::<Vec<_>>());
            needed.sort();
            needed.dedup();
            at = if needed.get(at) == Some(&name) { at + 1 } else { 0 };
        }
        let scripts = document.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next());
        let mut named: Vec<&str> = scripts.filter(|name| name.ends_with(".js")).collect();
        named.sort_unstable();
        assert_eq!(needed, named);
        let lazy: Vec<String> = ASSETS.iter().flat_map(|asset| imports(asset, true)).collect();
        assert!(lazy.len() > 4, "{lazy:?}");
        for name in lazy {
            assert!(asset(&name).is_some() && !named.contains(&name.as_str()) || name == "views/inbox.js", "{name}");
        }
    }

    #[tokio::test]
    async fn scripts_lose_their_comments_and_nothing_else() {
        let source = b"// file\n\n/**\n * @param {string} a\n */\nexport const f = (a) =>\n  /** @type {const} */ ([a, \"// no\"]); // why\n";
        let lean = without_comments(source);
        assert_eq!(lean, b"export const f = (a) =>\n([a, \"// no\"]); // why\n");
        let (_, _, served) = ask(Method::GET, "/assets/escape.js", "").await;
        assert_eq!(served, without_comments(include_bytes!("../../web/escape.js")));
        assert!(served.len() * 4 < include_bytes!("../../web/escape.js").len() * 3);
        let (_, _, page) = ask(Method::GET, "/", "").await;
        assert_eq!(page, include_bytes!("../../web/index.html"));
        for (name, source) in SOURCES.iter().filter(|(name, _)| name.ends_with(".js")) {
            for line in std::str::from_utf8(source).unwrap().lines() {
                // No template goes over a line's end, no block comment but JSDoc's at a line's start.
                assert_eq!(line.matches('`').count() % 2, 0, "{name}: {line}");
                let line = line.trim();
                assert!(!line.ends_with('\\'), "{name}: {line}");
                assert!(!line.contains("/*") || line.contains("*/") || line.starts_with("/**"), "{name}: {line}");
                assert!(!line.starts_with("/*") || line.starts_with("/**"), "{name}: {line}");
            }
        }
    }

    /// performance.md #10: at most 40 KB on the wire for a first visit, which loads the document and
    /// what it names; and everything that may be loaded later is no more than as much again.
    #[tokio::test]
    async fn a_first_visit_weighs_at_most_forty_kilobytes() {
        let document = include_str!("../../web/index.html");
        let is_named = |asset: &&Asset| document.contains(&format!("\"/assets/{}\"", asset.name));
        let weight = |asset: &Asset| asset.gzip.len();
        let first: usize = ASSETS.iter().filter(|a| a.name == "index.html" || is_named(a)).map(weight).sum();
        let total: usize = ASSETS.iter().map(weight).sum();
        assert!(first <= 40 * 1024 && first > total / 3, "{first} bytes");
        assert!(total <= 80 * 1024, "{total} bytes");
        let (_, headers, body) = ask(Method::GET, "/assets/main.js", "gzip, br").await;
        assert_eq!(headers.get(header::CONTENT_ENCODING).unwrap(), "gzip");
        assert!(body.starts_with(&[0x1f, 0x8b]));
        let (_, headers, plain) = ask(Method::GET, "/assets/main.js", "br").await;
        assert!(headers.get(header::CONTENT_ENCODING).is_none() && plain.len() > body.len());
    }
}
