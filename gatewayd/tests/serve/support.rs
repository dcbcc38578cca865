//! A real gateway on loopback, in this process with a clock that tests move, or as the real binary;
//! software phones that speak the approver API over real HTTPS; an agent that speaks the real wire.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes as Body;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use twinlock_certs::issue::Ca;
use twinlock_gatewayd::clock::TestClock;
use twinlock_gatewayd::config::GatewayConfig;
use twinlock_gatewayd::serve::{self, Running};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::evidence::{
    Authority, Certified, EndNote, EndReason, GrantRecord, GrantRecordFormat, SignedRequest,
};
use twinlock_protocol::ids::{GrantId, HostId, RequestId};
use twinlock_protocol::request::{ElevationRequest, Scope};
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::softphone::{Fixture, Phone, random};
use twinlock_protocol::statement::{
    APPROVAL_DOMAINS, ApprovalKind, ApprovalStatement, Decision, SignedStatement, StartStatement,
};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::agent::{ALPN, AgentMessage, Ended, ForGateway, GatewayMessage, Gone, Hello, Started};
use twinlock_protocol::wire::module::{Granted, ModuleEvent, ModuleMessage, Resume, Submit};
use twinlock_protocol::{Bytes, Digest, Fixed, UnixTime, codec};

/// The wall clock.
pub fn wall() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// Files of a gateway, and every private key.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub fixture: Fixture,
    pub envelope: RosterEnvelope,
    pub roster: VerifiedRoster,
    pub origin: String,
    pub web_ca: Vec<u8>,
    pub config: PathBuf,
}

impl Site {
    /// alice asks; bob, carol and dave approve; host web01.
    pub fn new() -> Self {
        Self::with(|_fixture| {}, "")
    }

    /// With changes to the roster, and more configuration.
    pub fn with(change: impl FnOnce(&mut Fixture), more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = wall();
        let (ca, ca_key) = Ca::generate("Twinlock test CA", now, 10).unwrap();
        let mut fixture = Fixture::new(ca.certificate(), now);
        fixture.roster.issued_at = UnixTime(now.0 - 60);
        change(&mut fixture);
        let origin = fixture.roster.origins[0].clone();
        let (envelope, roster) = fixture.seal();
        let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        put("roster.json", &envelope.to_bytes());
        put("roster.pin", envelope.digest.0.to_text().as_bytes());
        put("ca.der", ca.certificate());
        put("ca.key", &ca_key);
        put("gateway.key", &SigningKey::generate().unwrap().1);
        let web = web_certificate(origin.strip_prefix("https://").unwrap());
        put("web.crt", web.0.as_bytes());
        put("web.key", web.1.as_bytes());
        let at = dir.path().display();
        let config = dir.path().join("gateway.toml");
        let text = format!(
            "origin = \"{origin}\"\nstate_dir = \"{at}\"\n[approver]\nlisten = \"127.0.0.1:0\"\n\
             tls_cert = \"{at}/web.crt\"\ntls_key = \"{at}/web.key\"\n[agents]\nlisten = \"127.0.0.1:0\"\n\
             [monitor]\nlisten = \"127.0.0.1:0\"\n[admin]\nsocket = \"{at}/admin.sock\"\n\
             [audit]\njson_lines = \"{at}/audit.jsonl\"\n{more}"
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, fixture, envelope, roster, origin, web_ca: web.2, config }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A phone that is not signed in.
    pub fn approver<'a>(&'a self, address: SocketAddr, person: &str) -> Approver<'a> {
        Approver { web: Web { site: self, address }, phone: self.fixture.phone(person), cookie: None }
    }
}

fn web_certificate(host: &str) -> (String, String, Vec<u8>) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let host = host.split(':').next().unwrap().to_owned();
    let leaf = CertificateParams::new(vec![host]).unwrap().signed_by(&key, &issuer).unwrap();
    (leaf.pem(), key.serialize_pem(), ca.der().to_vec())
}

/// A gateway in this process.
pub struct Gateway {
    pub running: Running,
    pub clock: TestClock,
}

impl Gateway {
    pub async fn start(site: &Site) -> Self {
        let clock = TestClock::at(wall());
        let config = GatewayConfig::load(&site.config).unwrap();
        let running = serve::start(config, Arc::new(clock.clone())).await.unwrap();
        Self { running, clock }
    }

    /// A request that two people approved and that was granted; no session has started.
    pub async fn approved_by_two(&self, site: &Site, agent: &mut Agent, first: &str, second: &str) -> Waiting {
        let waiting = site.request();
        agent.submit(&waiting).await;
        for (person, state) in [(first, "approved_first"), (second, "granted")] {
            let (_, ticket) = agent.ticket(waiting.id).await;
            assert_eq!(self.approver(site, person).answer(&ticket, Decision::Approve).await, state);
        }
        agent.granted(waiting.id).await;
        waiting
    }

    /// Moves time and lets the gateway see it.
    pub async fn pass(&self, seconds: u64) {
        self.clock.advance(seconds);
        self.running.engine.tick().await;
    }

    pub fn approver<'a>(&self, site: &'a Site, person: &str) -> Approver<'a> {
        site.approver(self.running.approver, person)
    }

    pub async fn agent(&self, site: &Site) -> Agent {
        Agent::connect(self.running.agents, &site.fixture.agent_key_pkcs8, "web01").await.unwrap()
    }

    /// The name of a request's state.
    pub async fn state(&self, request: RequestId) -> &'static str {
        self.running.engine.look(request, |state| state.name()).await.unwrap_or("gone")
    }
}

/// A gateway as the real binary.
pub struct Binary {
    pub child: std::process::Child,
    pub approver: SocketAddr,
    pub agents: SocketAddr,
}

impl Binary {
    pub fn start(site: &Site) -> Self {
        use std::io::{BufRead, BufReader};
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_twinlock-gatewayd"))
            .args(["serve", "--config"])
            .arg(&site.config)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serving = lines.by_ref().map(|line| line.unwrap()).find(|line| line.contains("the gateway serves"));
        let serving = serving.expect("it serves");
        let address = |name: &str| {
            let (_, rest) = serving.split_once(&format!("{name}=")).unwrap();
            rest.split_whitespace().next().unwrap().trim_matches('"').parse().unwrap()
        };
        let (approver, agents) = (address("approver"), address("agents"));
        let log = site.path().join("stderr.log");
        std::thread::spawn(move || {
            use std::io::Write;
            let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
            for line in lines.map_while(Result::ok) {
                let _test_over = writeln!(log, "{line}");
            }
        });
        Self { child, approver, agents }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

// ---- phones -------------------------------------------------------------------------------------

/// An HTTP client for the approver listener.
#[derive(Clone, Copy)]
pub struct Web<'a> {
    pub site: &'a Site,
    pub address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub text: String,
    pub headers: hyper::HeaderMap,
}

impl Answer {
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }

    #[track_caller]
    pub fn problem(&self) -> String {
        let kind = self.body["type"].as_str().unwrap_or_default();
        let name = kind.strip_prefix("urn:twinlock:problem:");
        name.unwrap_or_else(|| panic!("no problem: {} {}", self.status, self.text)).to_owned()
    }
}

impl Web<'_> {
    pub fn authority(&self) -> &str {
        self.site.origin.strip_prefix("https://").unwrap()
    }

    /// One exchange over a fresh connection.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.try_send(method, path, headers, body).await.expect("an answer")
    }

    /// The same against a gateway that may be killed meanwhile.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<Answer> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.site.web_ca.clone())).unwrap();
        let config = client_builder().with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(self.address).await.ok()?;
        let host = self.authority().split(':').next().unwrap().to_owned();
        let name = ServerName::try_from(host).unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.ok()?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", self.authority());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender.send_request(request.body(Full::new(Body::from(body))).unwrap()).await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.into_body().collect().await.ok()?.to_bytes();
        driver.abort();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Some(Answer { status, body, text: String::from_utf8_lossy(&bytes).into_owned(), headers })
    }

    /// A POST as the page makes it.
    pub async fn post(&self, path: &str, cookie: Option<&str>, body: &Value) -> Answer {
        self.try_post(path, cookie, body).await.expect("an answer")
    }

    pub async fn try_post(&self, path: &str, cookie: Option<&str>, body: &Value) -> Option<Answer> {
        let mut headers = vec![
            ("origin", self.site.origin.as_str()),
            ("content-type", "application/json"),
            ("x-twinlock", "1"),
            ("sec-fetch-site", "same-origin"),
        ];
        headers.extend(cookie.map(|cookie| ("cookie", cookie)));
        self.try_send(Method::POST, path, &headers, serde_json::to_vec(body).unwrap()).await
    }

    pub async fn get(&self, path: &str, cookie: Option<&str>) -> Answer {
        let headers: Vec<_> = cookie.map(|cookie| ("cookie", cookie)).into_iter().collect();
        self.send(Method::GET, path, &headers, Vec::new()).await
    }
}

pub fn client_builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
}

/// A person with a software phone and a browser session.
pub struct Approver<'a> {
    pub web: Web<'a>,
    pub phone: &'a Phone,
    pub cookie: Option<String>,
}

/// The challenge of a sign-in: made of the gateway's random bytes, under the sign-in's own tag.
pub fn sign_in_challenge(start: &Value) -> Digest {
    let nonce: Fixed<32> = serde_json::from_value(start["nonce"].clone()).unwrap();
    Digest::of(Domain::SignIn, &nonce.0)
}

impl Approver<'_> {
    pub fn signature(&self, parts: &[&[u8]]) -> Fixed<64> {
        self.phone.device_sign(Domain::Claim, &parts.concat())
    }

    pub async fn sign_in(&mut self) {
        let start = self.web.post("/api/v1/sign-in/start", None, &json!({})).await.ok();
        let challenge = sign_in_challenge(&start);
        let form = self.phone.honest(&self.web.site.roster, &challenge);
        let finish = json!({
            "sign_in": start["sign_in"], "credential_id": self.phone.device.credential_id,
            "assertion": self.phone.assert(&form), "device_signature": self.signature(&[challenge.as_bytes()]),
        });
        let answer = self.web.post("/api/v1/sign-in/finish", None, &finish).await;
        let cookie = answer.headers.get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
        answer.ok();
        self.cookie = Some(cookie.unwrap().split(';').next().unwrap().to_owned());
    }

    pub async fn nonce(&mut self) -> Fixed<32> {
        if self.cookie.is_none() {
            self.sign_in().await;
        }
        let me = self.web.get("/api/v1/me", self.cookie.as_deref()).await.ok();
        serde_json::from_value(me["claim_nonce"].clone()).unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.web.post(path, self.cookie.as_deref(), body).await
    }

    pub async fn try_claim(&mut self, ticket: &str) -> Answer {
        let nonce = self.nonce().await;
        let device_signature = self.signature(&[&nonce.0, ticket.as_bytes()]);
        let body = json!({ "ticket": ticket, "claim_nonce": nonce, "device_signature": device_signature });
        self.post("/api/v1/claim", &body).await
    }

    pub async fn claim(&mut self, ticket: &str) -> Claim {
        Claim::read(self.try_claim(ticket).await.ok())
    }

    pub async fn try_code(&mut self, request: RequestId, code: &str) -> Answer {
        let nonce = self.nonce().await;
        let device_signature = self.signature(&[&nonce.0, request.0.as_bytes()]);
        let body =
            json!({ "request": request, "code": code, "claim_nonce": nonce, "device_signature": device_signature });
        self.post("/api/v1/inbox/claim", &body).await
    }

    pub fn statement(&self, claim: &Claim, decision: Decision) -> ApprovalStatement {
        let read = |name: &str| claim.body["statement"][name].clone();
        ApprovalStatement {
            kind: ApprovalKind::Approval,
            version: 1,
            request_digest: claim.request_id,
            decision,
            person: serde_json::from_value(read("person")).unwrap(),
            credential_id: serde_json::from_value(read("credential_id")).unwrap(),
            device_id: serde_json::from_value(read("device_id")).unwrap(),
            ttl_s: u32::try_from(claim.body["max_ttl_s"].as_u64().unwrap()).unwrap(),
            scope: Scope::Command,
            channel: serde_json::from_value(read("channel")).unwrap(),
            gateway_salt: serde_json::from_value(read("gateway_salt")).unwrap(),
            deny_reason: None,
        }
    }

    pub fn sign(&self, statement: &ApprovalStatement) -> SignedStatement {
        self.phone.sign(&self.web.site.roster, APPROVAL_DOMAINS, &statement.to_bytes())
    }

    pub async fn send(&self, claim: &Claim, signed: &SignedStatement) -> Answer {
        self.post("/api/v1/answer", &json!({ "claim": claim.id, "signed": signed })).await
    }

    pub async fn try_send(&self, claim: &Claim, signed: &SignedStatement) -> Option<Answer> {
        let body = json!({ "claim": claim.id, "signed": signed });
        self.web.try_post("/api/v1/answer", self.cookie.as_deref(), &body).await
    }

    pub async fn give(&self, claim: &Claim, decision: Decision) -> Answer {
        self.send(claim, &self.sign(&self.statement(claim, decision))).await
    }

    /// Scans and answers; the new state.
    pub async fn answer(&mut self, ticket: &str, decision: Decision) -> String {
        let claim = self.claim(ticket).await;
        self.give(&claim, decision).await.ok()["state"].as_str().unwrap().to_owned()
    }
}

/// A claimed request.
#[derive(Debug)]
pub struct Claim {
    pub id: String,
    pub request_id: RequestId,
    pub body: Value,
}

impl Claim {
    #[track_caller]
    pub fn read(body: Value) -> Self {
        let bytes: Bytes = serde_json::from_value(body["request"].clone()).unwrap();
        let request_id = ElevationRequest::id_of(&bytes.0);
        assert_eq!(serde_json::to_value(request_id).unwrap(), body["statement"]["request_digest"]);
        Self { id: body["claim"].as_str().unwrap().to_owned(), request_id, body }
    }
}

// ---- agents -------------------------------------------------------------------------------------

/// Takes any gateway key: these tests trust their own loopback.
#[derive(Debug)]
pub struct AnyGateway;

impl ServerCertVerifier for AnyGateway {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// An agent's connection.
pub struct Agent {
    frames: Framed<TlsStream<TcpStream>, LengthDelimitedCodec>,
}

/// A request that a module waits for.
pub struct Waiting {
    pub id: RequestId,
    pub request: ElevationRequest,
    pub signed: SignedRequest,
    pub session_key: SigningKey,
    pub resume_token: Fixed<32>,
}

impl Agent {
    /// Connects with this key and says hello as `host`; none when the gateway hangs up.
    pub async fn connect(address: SocketAddr, key: &[u8], host: &str) -> Option<Self> {
        Self::connect_at(address, key, host, 1).await
    }

    /// The same, of a host that pins this roster version.
    pub async fn connect_at(address: SocketAddr, key: &[u8], host: &str, roster: u64) -> Option<Self> {
        let key = rcgen::KeyPair::try_from(key).unwrap();
        let certificate = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut config = client_builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyGateway))
            .with_client_auth_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let tcp = TcpStream::connect(address).await.ok()?;
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("twinlock-gateway").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
        let frames = LengthDelimitedCodec::builder().max_frame_length(9 << 20).new_framed(tls);
        let mut agent = Self { frames };
        let hello = Hello { wire: WIRE_VERSION, host: HostId::new(host).unwrap(), roster, software: "test".into() };
        agent.say(&AgentMessage::Hello(hello)).await;
        matches!(agent.hear().await?, GatewayMessage::Welcome(_)).then_some(agent)
    }

    pub async fn say(&mut self, message: &AgentMessage) {
        let _hung_up = self.frames.send(Body::from(codec::encode(message))).await;
    }

    pub async fn say_raw(&mut self, bytes: Vec<u8>) {
        let _hung_up = self.frames.send(Body::from(bytes)).await;
    }

    /// The next message but pings; none when the gateway hung up.
    pub async fn hear(&mut self) -> Option<GatewayMessage> {
        loop {
            let frame =
                tokio::time::timeout(Duration::from_secs(10), self.frames.next()).await.expect("a frame in time");
            let message = serde_json::from_slice(&frame?.ok()?).unwrap();
            if !matches!(message, GatewayMessage::Ping(_)) {
                return Some(message);
            }
        }
    }

    /// The next event of a request.
    pub async fn event(&mut self, id: RequestId) -> ModuleEvent {
        loop {
            match self.hear().await.expect("a connected gateway") {
                GatewayMessage::Module(message) if message.request == id => return message.event,
                _ => {}
            }
        }
    }

    /// Whether the request is refused: looks at its first event, which must be there.
    pub async fn refused(&mut self, id: RequestId) -> Option<twinlock_protocol::DenyReason> {
        match self.event(id).await {
            ModuleEvent::Refused(refused) => Some(refused.reason),
            _ => None,
        }
    }

    /// Waits for a ticket.
    pub async fn ticket(&mut self, id: RequestId) -> (u8, String) {
        loop {
            match self.event(id).await {
                ModuleEvent::Ticket(show) => return (show.slot, show.ticket.as_str().to_owned()),
                ModuleEvent::Refused(refused) => panic!("refused: {refused:?}"),
                _ => {}
            }
        }
    }

    /// Waits for the grant.
    pub async fn granted(&mut self, id: RequestId) -> Granted {
        loop {
            match self.event(id).await {
                ModuleEvent::Granted(granted) => return granted,
                ModuleEvent::Refused(refused) => panic!("refused: {refused:?}"),
                _ => {}
            }
        }
    }

    /// Submits a request.
    pub async fn submit(&mut self, waiting: &Waiting) {
        let submit = Submit { wire: WIRE_VERSION, signed: waiting.signed.clone(), resume_token: waiting.resume_token };
        self.module(waiting.id, ModuleMessage::Submit(submit)).await;
    }

    pub async fn resume(&mut self, waiting: &Waiting) {
        let resume = Resume { wire: WIRE_VERSION, request: waiting.id, resume_token: waiting.resume_token };
        self.module(waiting.id, ModuleMessage::Resume(resume)).await;
    }

    pub async fn module(&mut self, request: RequestId, message: ModuleMessage) {
        self.say(&AgentMessage::Module(ForGateway { request, message })).await;
    }

    pub async fn gone(&mut self, request: RequestId) {
        self.say(&AgentMessage::Gone(Gone { request })).await;
    }

    pub async fn started(&mut self, waiting: &Waiting, granted: &Granted) {
        let record = Bytes(record(waiting, granted).to_bytes());
        self.say(&AgentMessage::Started(Started { grant: waiting.id.grant(), record })).await;
    }

    pub async fn ended(&mut self, grant: GrantId, reason: EndReason) {
        let end =
            EndNote { reason, ended_at: wall(), took_ms: 3, killed: Vec::new(), escaped: Vec::new(), lingered: false };
        self.say(&AgentMessage::Ended(Ended { grant, end })).await;
    }

    /// Waits until a report is noted.
    pub async fn noted(&mut self, grant: GrantId) -> bool {
        loop {
            if let GatewayMessage::Noted(noted) = self.hear().await.expect("a connected gateway")
                && noted.grant == grant
            {
                return noted.ended;
            }
        }
    }
}

/// The serial of a certificate, DER.
pub fn serial_of(certificate: &[u8]) -> [u8; 16] {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    parsed.raw_serial().try_into().unwrap()
}

/// What a module would record.
pub fn record(waiting: &Waiting, granted: &Granted) -> GrantRecord {
    let statement = StartStatement {
        kind: twinlock_protocol::statement::StartKind::Start,
        version: 1,
        grant: waiting.id.grant(),
        serial: Some(twinlock_protocol::ids::CertSerial(Fixed(serial_of(&granted.certificate.0)))),
        boot_id: waiting.request.boot_id.clone(),
        pid: waiting.request.process.pid,
        start_time: waiting.request.process.start_time,
        target_user: "root".into(),
        started_at: waiting.request.created_at,
        deadline_boot_ms: 1,
    }
    .to_bytes();
    let signature = waiting.session_key.sign(&Domain::Start.message(&statement)).unwrap();
    GrantRecord {
        format: GrantRecordFormat::GrantRecord,
        version: 1,
        grant: waiting.id.grant(),
        request: waiting.signed.clone(),
        authority: Authority::Certificate(Certified {
            evidence: granted.evidence.clone(),
            certificate: granted.certificate.clone(),
        }),
        start: twinlock_protocol::evidence::SignedStart { statement: Bytes(statement), signature },
        end: None,
    }
}

impl Site {
    /// A fresh request of alice, not submitted.
    pub fn request(&self) -> Waiting {
        self.request_with(|_request| {})
    }

    pub fn request_with(&self, change: impl FnOnce(&mut ElevationRequest)) -> Waiting {
        let (mut request, session_key) = self.fixture.request();
        request.created_at = wall();
        change(&mut request);
        let signed = self.fixture.sign_request(&request, &session_key);
        let id = ElevationRequest::id_of(&signed.request.0);
        Waiting { id, request, signed, session_key, resume_token: Fixed(random()) }
    }
}
