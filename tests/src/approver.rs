//! An approver without a browser: a software phone that speaks the approver API over real HTTPS, as
//! `docs/approver-api.md` says. Most end-to-end tests approve by it; the page itself is tested in a
//! real Chromium.

use std::sync::Arc;
use std::time::SystemTime;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes as Body;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use twinlock_protocol::digest::Domain;
use twinlock_protocol::ids::{CredentialId, DeviceId, PersonId, RequestId};
use twinlock_protocol::request::{ElevationRequest, Scope};
use twinlock_protocol::roster::Roster;
use twinlock_protocol::softphone::Phone;
use twinlock_protocol::statement::{APPROVAL_DOMAINS, ApprovalKind, ApprovalStatement, Channel, Decision};
use twinlock_protocol::{Bytes, Digest, Fixed};

/// Where the gateway's approver listener is, and whose certificate it must have.
#[derive(Clone)]
pub struct Site {
    /// The origin, `https://HOST[:PORT]`.
    pub origin: String,
    /// The CA that signed its TLS certificate, DER.
    pub ca: Vec<u8>,
    /// Where to connect; the name is only shown to TLS.
    pub address: std::net::SocketAddr,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, JSON; null when there is none.
    pub body: Value,
    /// The body as it came.
    pub bytes: Vec<u8>,
    /// Every header, for tests of headers.
    pub headers: hyper::HeaderMap,
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// The name of a refusal: what follows `urn:twinlock:problem:`.
    #[track_caller]
    #[must_use]
    pub fn problem(&self) -> &str {
        let kind = self.body["type"].as_str().unwrap_or_default();
        kind.strip_prefix("urn:twinlock:problem:")
            .unwrap_or_else(|| panic!("no problem: {} {}", self.status, self.body))
    }
}

impl Site {
    /// One HTTP exchange over a fresh TLS connection.
    #[must_use]
    pub fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        self.send_timed(method, path, headers, body).1
    }

    /// As [`Site::send`]; gives also the moment just before the request's first byte was written,
    /// when the connection stood already.
    #[must_use]
    pub fn send_timed(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (SystemTime, Answer) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut sender, driver) = self.connect().await;
            let request = self.request(method, path, headers, body);
            let moment = SystemTime::now();
            let response = sender.send_request(request).await.expect("a response");
            let (status, headers) = (response.status(), response.headers().clone());
            let body = Limited::new(response.into_body(), 16 << 20).collect().await.expect("a body").to_bytes();
            driver.abort();
            let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
            (moment, Answer { status: status.as_u16(), body: json, bytes: body.to_vec(), headers })
        })
    }

    fn authority(&self) -> &str {
        self.origin.strip_prefix("https://").expect("an https origin")
    }

    async fn connect(&self) -> (SendRequest<Full<Body>>, JoinHandle<hyper::Result<()>>) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca.clone())).expect("a CA certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = self.authority().split(':').next().expect("a host").to_owned();
        let tcp = TcpStream::connect(self.address).await.unwrap_or_else(|e| panic!("{}: {e}", self.address));
        tcp.set_nodelay(true).expect("no delay");
        let name = ServerName::try_from(host).expect("a DNS name");
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("TLS");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.expect("HTTP");
        (sender, tokio::spawn(connection))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Request<Full<Body>> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.authority());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = body.map(|body| serde_json::to_vec(body).expect("JSON")).unwrap_or_default();
        request.body(Full::new(Body::from(bytes))).expect("a request")
    }

    /// A POST as the page makes it, without a session.
    #[must_use]
    pub fn post(&self, path: &str, cookie: Option<&str>, body: &Value) -> Answer {
        self.post_timed(path, cookie, body).1
    }

    /// The same, with the moment of [`Site::send_timed`].
    #[must_use]
    pub fn post_timed(&self, path: &str, cookie: Option<&str>, body: &Value) -> (SystemTime, Answer) {
        let mut headers = vec![
            (ORIGIN.as_str(), self.origin.as_str()),
            (CONTENT_TYPE.as_str(), "application/json"),
            ("x-twinlock", "1"),
            ("sec-fetch-site", "same-origin"),
        ];
        headers.extend(cookie.map(|cookie| (COOKIE.as_str(), cookie)));
        self.send_timed(Method::POST, path, &headers, Some(body))
    }

    /// A GET as the page makes it.
    #[must_use]
    pub fn get(&self, path: &str, cookie: Option<&str>) -> Answer {
        let headers: Vec<_> = cookie.map(|cookie| (COOKIE.as_str(), cookie)).into_iter().collect();
        self.send(Method::GET, path, &headers, None)
    }
}

/// A person with a software phone and a browser session.
pub struct Approver<'a> {
    site: &'a Site,
    roster: &'a Roster,
    phone: &'a Phone,
    cookie: Option<String>,
}

/// A claimed request, as the API gave it.
#[derive(Debug)]
pub struct Claim {
    /// The claim's id.
    pub id: String,
    /// 1 or 2.
    pub slot: u64,
    /// The request, decoded from its own bytes.
    pub request: ElevationRequest,
    /// Its id, computed here.
    pub request_id: RequestId,
    /// The whole answer.
    pub body: Value,
}

impl<'a> Approver<'a> {
    /// Nobody is signed in yet.
    #[must_use]
    pub fn new(site: &'a Site, roster: &'a Roster, phone: &'a Phone) -> Self {
        Self { site, roster, phone, cookie: None }
    }

    /// Signs in with the passkey, as the page does, and keeps the cookie.
    pub fn sign_in(&mut self) {
        let start = self.site.post("/api/v1/sign-in/start", None, &json!({})).ok();
        let nonce: Fixed<32> = serde_json::from_value(start["nonce"].clone()).expect("a nonce");
        let challenge = Digest::of(Domain::SignIn, &nonce.0);
        let answer = self.site.post(
            "/api/v1/sign-in/finish",
            None,
            &json!({
                "sign_in": start["sign_in"],
                "credential_id": self.phone.device.credential_id,
                "assertion": self.phone.assert(&self.phone.honest(self.roster, &challenge)),
                "device_signature": self.device_signature(&[challenge.as_bytes()]),
            }),
        );
        let cookie = answer.headers.get(SET_COOKIE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = answer.ok();
        assert_eq!(body["person"]["id"], self.phone.person.as_str());
        let cookie = cookie.expect("a session cookie");
        self.cookie = Some(cookie.split(';').next().expect("name=value").to_owned());
    }

    fn device_signature(&self, parts: &[&[u8]]) -> Option<Fixed<64>> {
        self.phone.device.device_key.map(|_| self.phone.device_sign(Domain::Claim, &parts.concat()))
    }

    fn claim_nonce(&mut self) -> Fixed<32> {
        if self.cookie.is_none() {
            self.sign_in();
        }
        let me = self.get("/api/v1/me").ok();
        serde_json::from_value(me["claim_nonce"].clone()).unwrap_or_else(|_| panic!("no claim nonce: {me}"))
    }

    /// GET with the session.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.site.get(path, self.cookie.as_deref())
    }

    /// POST with the session.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.site.post(path, self.cookie.as_deref(), body)
    }

    /// Tries to claim a scanned ticket.
    pub fn try_claim(&mut self, ticket: &str) -> Answer {
        let nonce = self.claim_nonce();
        let device_signature = self.device_signature(&[&nonce.0, ticket.as_bytes()]);
        self.post(
            "/api/v1/claim",
            &json!({"ticket": ticket, "claim_nonce": nonce, "device_signature": device_signature}),
        )
    }

    /// Claims a scanned ticket.
    #[track_caller]
    pub fn claim(&mut self, ticket: &str) -> Claim {
        let answer = self.try_claim(ticket);
        Claim::read(answer.ok())
    }

    /// Tries to claim from the inbox with the terminal's code.
    pub fn try_inbox_claim(&mut self, request: RequestId, code: &str) -> Answer {
        let nonce = self.claim_nonce();
        let device_signature = self.device_signature(&[&nonce.0, request.0.as_bytes()]);
        self.post(
            "/api/v1/inbox/claim",
            &json!({"request": request, "code": code, "claim_nonce": nonce, "device_signature": device_signature}),
        )
    }

    /// The statement that the page would make for this claim.
    #[must_use]
    pub fn statement(&self, claim: &Claim, decision: Decision) -> ApprovalStatement {
        let template = &claim.body["statement"];
        let read = |name: &str| template[name].clone();
        let max_ttl_s = claim.body["max_ttl_s"].as_u64().expect("max_ttl_s");
        ApprovalStatement {
            kind: ApprovalKind::Approval,
            version: 1,
            request_digest: claim.request_id,
            decision,
            person: serde_json::from_value::<PersonId>(read("person")).expect("person"),
            credential_id: serde_json::from_value::<CredentialId>(read("credential_id")).expect("credential"),
            device_id: serde_json::from_value::<DeviceId>(read("device_id")).expect("device"),
            ttl_s: u32::try_from(max_ttl_s).expect("a life").min(claim.request.ttl_s),
            scope: Scope::Command,
            channel: serde_json::from_value::<Channel>(read("channel")).expect("channel"),
            gateway_salt: serde_json::from_value(read("gateway_salt")).expect("salt"),
            deny_reason: None,
        }
    }

    /// Signs and sends a statement.
    #[must_use]
    pub fn send(&self, claim: &Claim, statement: &ApprovalStatement) -> Answer {
        self.send_timed(claim, statement).1
    }

    /// The same, with the moment of [`Site::send_timed`].
    #[must_use]
    pub fn send_timed(&self, claim: &Claim, statement: &ApprovalStatement) -> (SystemTime, Answer) {
        let signed = self.phone.sign(self.roster, APPROVAL_DOMAINS, &statement.to_bytes());
        let body = json!({"claim": claim.id, "signed": signed});
        self.site.post_timed("/api/v1/answer", self.cookie.as_deref(), &body)
    }

    /// Scans and approves; the new state: `approved_first` or `granted`.
    #[track_caller]
    pub fn approve(&mut self, ticket: &str) -> String {
        self.answer(ticket, |approver, claim| approver.statement(claim, Decision::Approve))
    }

    /// Scans and denies, with a reason in the approver's words.
    #[track_caller]
    pub fn deny(&mut self, ticket: &str, reason: &str) -> String {
        self.answer(ticket, |approver, claim| ApprovalStatement {
            deny_reason: Some(reason.to_owned()),
            ..approver.statement(claim, Decision::Deny)
        })
    }

    #[track_caller]
    fn answer(&mut self, ticket: &str, make: impl FnOnce(&Self, &Claim) -> ApprovalStatement) -> String {
        let claim = self.claim(ticket);
        let statement = make(self, &claim);
        let body = self.send(&claim, &statement).ok();
        body["state"].as_str().expect("a state").to_owned()
    }
}

impl Claim {
    /// Reads a claim, and checks like the page that the request's bytes are the ones to sign.
    #[track_caller]
    #[must_use]
    pub fn read(body: Value) -> Self {
        let bytes: Bytes = serde_json::from_value(body["request"].clone()).expect("request bytes");
        let request_id = ElevationRequest::id_of(&bytes.0);
        let claimed: RequestId = serde_json::from_value(body["statement"]["request_digest"].clone()).expect("a digest");
        assert_eq!(request_id, claimed, "the gateway asks to sign something else than it shows");
        Self {
            id: body["claim"].as_str().expect("a claim id").to_owned(),
            slot: body["slot"].as_u64().expect("a slot"),
            request: ElevationRequest::from_bytes(&bytes.0).expect("a request"),
            request_id,
            body,
        }
    }
}

/// The ticket in a scanned URL.
#[track_caller]
#[must_use]
pub fn ticket_of(url: &str) -> String {
    let (_, ticket) = url.rsplit_once("/S/").unwrap_or_else(|| panic!("not a ticket's URL: {url}"));
    ticket.to_owned()
}

/// Whether an HTTP status is a success.
#[must_use]
pub fn is_success(status: u16) -> bool {
    StatusCode::from_u16(status).is_ok_and(|status| status.is_success())
}
