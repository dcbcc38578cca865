//! The agent as a real process, without root but for the modules that speak to it: against a
//! gateway of the test's own that speaks the wire protocol over real TLS.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rcgen::PublicKeyData as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use twinlock_protocol::bytes::{Bytes, Fixed};
use twinlock_protocol::ids::RequestId;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::roster::{GatewayEntry, RosterEnvelope};
use twinlock_protocol::slots::Slot;
use twinlock_protocol::softphone::{Fixture, random};
use twinlock_protocol::wire::agent::{
    ALPN, AgentMessage, EndGrant, EndOrder, ForGateway, ForModule, GatewayMessage, Hello, Noted, Ping, Rosters, Welcome,
};
use twinlock_protocol::wire::module::{Accepted, AskRosters, ModuleEvent, ModuleMessage, Refused, Resume, Submit};
use twinlock_protocol::{DenyReason, Digest, UnixTime};

use crate::bench::{AGENT, Bench, as_uid, root, set_mode, within};
use crate::wire;

const SOON: Duration = Duration::from_secs(15);

/// One TLS connection of the test's gateway.
type Tls = rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>;

/// A gateway that does what a test says.
struct Gateway {
    listener: std::net::TcpListener,
    config: Arc<rustls::ServerConfig>,
    pin: Digest,
    agent_key: Vec<u8>,
}

/// Accepts any client certificate whose handshake signature verifies; the test looks at the key.
#[derive(Debug)]
struct AnyClient(Arc<rustls::crypto::CryptoProvider>);

impl rustls::server::danger::ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::HandshakeNotComplete)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl Gateway {
    fn new(agent_key: &[u8]) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), agent_key)
    }

    fn at(address: SocketAddr, agent_key: &[u8]) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient(provider)))
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(pair.serialize_der()).into())
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Self {
            listener: std::net::TcpListener::bind(address).unwrap(),
            config: Arc::new(config),
            pin: Digest::plain(&pair.subject_public_key_info()),
            agent_key: agent_key.to_vec(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next link, greeted.
    fn accept(&self) -> GatewayLink {
        self.accept_hello().0
    }

    /// The next link, greeted, and what it said first.
    fn accept_hello(&self) -> (GatewayLink, Hello) {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let connection = rustls::ServerConnection::new(self.config.clone()).unwrap();
        let mut link = GatewayLink { tls: rustls::StreamOwned::new(connection, stream) };
        let hello = match link.hear() {
            Some(AgentMessage::Hello(hello)) => hello,
            other => panic!("no hello: {other:?}"),
        };
        assert_eq!((hello.wire, hello.host.as_str()), (1, "web01"));
        let certificates = link.tls.conn.peer_certificates().unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&certificates[0]).unwrap();
        let key = &certificate.public_key().subject_public_key.data;
        assert_eq!(key.as_ref(), Fixture::public_of(&self.agent_key).as_ref(), "the agent's own key");
        assert_eq!(link.tls.conn.handshake_kind(), Some(rustls::HandshakeKind::Full), "never resumed");
        link.say(&GatewayMessage::Welcome(Welcome { wire: 1, roster: 1, software: "test".into() }));
        (link, hello)
    }
}

struct GatewayLink {
    tls: Tls,
}

impl GatewayLink {
    fn say(&mut self, message: &GatewayMessage) {
        self.tls.write_all(&twinlock_protocol::wire::frame(message)).unwrap();
        self.tls.flush().unwrap();
    }

    /// The next word, pings left out; none at the end.
    fn hear(&mut self) -> Option<AgentMessage> {
        use std::io::Read as _;
        loop {
            let mut prefix = [0; 4];
            self.tls.read_exact(&mut prefix).ok()?;
            let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
            self.tls.read_exact(&mut body).ok()?;
            let message = twinlock_protocol::wire::message(&body, 9 * 1024 * 1024).unwrap();
            if message != AgentMessage::Ping(Ping {}) {
                return Some(message);
            }
        }
    }

    fn hear_module(&mut self) -> (RequestId, ModuleMessage) {
        match self.hear() {
            Some(AgentMessage::Module(ForGateway { request, message })) => (request, message),
            other => panic!("not a module's: {other:?}"),
        }
    }

    fn tell(&mut self, request: RequestId, event: ModuleEvent) {
        self.say(&GatewayMessage::Module(ForModule { request, event }));
    }
}

/// An agent of the test's own.
struct Agent {
    dir: TempDir,
    child: Option<Child>,
    fixture: Fixture,
}

impl Agent {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("twinlock-agent-").tempdir().unwrap();
        set_mode(dir.path(), 0o755);
        Self { dir, child: None, fixture: Fixture::new(b"ca", UnixTime(1_800_000_000)) }
    }

    /// Starts it as the agent's uid, without any capability.
    fn start(&mut self, gateway: SocketAddr, pin: &Digest, reaper: Option<PathBuf>, more: &str) {
        let path = self.dir.path();
        let key = path.join("agent.key");
        std::fs::write(&key, &self.fixture.agent_key_pkcs8).unwrap();
        let reaper = reaper.unwrap_or_else(|| path.join("no-reaper.sock"));
        let config = format!(
            "host = \"web01\"\ngateway = \"{gateway}\"\ngateway_key = \"{}\"\nkey = \"{}\"\nsocket = \"{}\"\n\
             reaper_socket = \"{}\"\n{more}",
            pin.0.to_text(),
            key.display(),
            self.socket().display(),
            reaper.display()
        );
        std::fs::write(path.join("agent.toml"), config).unwrap();
        for file in [path, &key] {
            std::os::unix::fs::chown(file, Some(AGENT), Some(AGENT)).unwrap();
        }
        set_mode(&key, 0o600);
        self.spawn();
    }

    fn spawn(&mut self) {
        let id = AGENT.to_string();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]);
        command.args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]);
        command.arg(env!("CARGO_BIN_EXE_twinlock-gatewayd")).args(["agent", "--config"]);
        command.arg(self.dir.path().join("agent.toml")).stdin(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let up = within(SOON, || UnixStream::connect(self.socket()).is_ok());
        assert!(up, "the agent does not listen:\n{}", self.log());
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn submission(&self, uid: u32) -> (RequestId, Submit) {
        let (mut request, key) = self.fixture.request();
        request.requester.real.uid = uid;
        let signed = self.fixture.sign_request(&request, &key);
        let id = ElevationRequest::id_of(&signed.request.0);
        (id, Submit { wire: 1, signed, resume_token: Fixed(random()) })
    }

    /// A module that asks.
    fn ask(&self, uid: u32) -> (UnixStream, RequestId, Submit) {
        let (id, submit) = self.submission(uid);
        let stream = wire::connect(&self.socket());
        wire::send(&stream, &ModuleMessage::Submit(submit.clone()));
        (stream, id, submit)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- the agent's log ---\n{}", self.log());
        }
    }
}

fn linked() -> (Agent, Gateway, GatewayLink) {
    let mut agent = Agent::new();
    let gateway = Gateway::new(&agent.fixture.agent_key_pkcs8);
    agent.start(gateway.address(), &gateway.pin, None, "");
    let mut link = gateway.accept();
    // The gateway has greeted; a first request shows that the agent has heard it.
    let (probe, id, _) = agent.ask(999);
    assert_eq!(link.hear_module().0, id);
    drop(probe);
    assert!(matches!(link.hear(), Some(AgentMessage::Gone(_))));
    (agent, gateway, link)
}

fn accepted(request: RequestId) -> ModuleEvent {
    ModuleEvent::Accepted(Accepted { request, eligible: Vec::new(), approved: Vec::new() })
}

/// What a module hears next about its request; words about the link are left out.
fn hear(module: &UnixStream) -> Option<ModuleEvent> {
    loop {
        match wire::receive(module) {
            Some(ModuleEvent::Link(_)) => {}
            other => return other,
        }
    }
}

fn link_event(module: &UnixStream) -> bool {
    match wire::receive(module) {
        Some(ModuleEvent::Link(link)) => link.up,
        other => panic!("not a link event: {other:?}"),
    }
}

#[test]
fn a_modules_request_reaches_the_gateway_and_the_answer_comes_back() {
    if !root() {
        return;
    }
    let (agent, _gateway, mut link) = linked();
    let (module, id, submit) = agent.ask(1001);
    assert_eq!(link.hear_module(), (id, ModuleMessage::Submit(submit)));
    // The best of several: a busy machine may delay one, Nagle's algorithm delays all.
    let way = (0..5).map(|_| {
        let begun = Instant::now();
        link.tell(id, accepted(id));
        assert_eq!(hear(&module), Some(accepted(id)));
        begun.elapsed()
    });
    let best = way.min().unwrap();
    eprintln!("MEASURED gateway to module through the agent: {} us", best.as_micros());
    assert!(best < Duration::from_millis(30), "a stalled write (TCP_NODELAY)");
    let end = ModuleEvent::Refused(Refused { reason: DenyReason::Expired, retry_after_s: None });
    link.tell(id, end.clone());
    assert_eq!((hear(&module), hear(&module)), (Some(end), None), "closed after the end");
}

/// Catalogue: S1 (control: a_modules_request_reaches_the_gateway_and_the_answer_comes_back)
#[test]
fn only_root_may_speak_to_the_agent() {
    if !root() {
        return;
    }
    let (agent, _gateway, mut link) = linked();
    // Whoever gets past the socket's mode is stopped by the kernel's word about who they are.
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&agent.socket().metadata().unwrap().permissions()) & 0o777,
        0o600
    );
    set_mode(&agent.socket(), 0o666);
    for uid in [1001, AGENT] {
        let (path, (_, submit)) = (agent.socket(), agent.submission(uid));
        let answer: Option<ModuleEvent> = as_uid(uid, move || {
            let stream = wire::connect(&path);
            let _ = (&stream).write_all(&twinlock_protocol::wire::frame(&ModuleMessage::Submit(submit)));
            wire::receive(&stream)
        });
        assert_eq!(answer, None, "uid {uid}");
    }
    // Nothing of it reached the gateway: the next thing it hears is root's.
    let (_module, id, _) = agent.ask(1001);
    assert_eq!(link.hear_module().0, id);
}

#[test]
fn a_module_that_leaves_is_gone_at_the_gateway_at_once() {
    if !root() {
        return;
    }
    let (agent, _gateway, mut link) = linked();
    let (module, id, _) = agent.ask(1001);
    let _ = link.hear_module();
    let begun = Instant::now();
    drop(module);
    assert!(matches!(link.hear(), Some(AgentMessage::Gone(gone)) if gone.request == id));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn a_lost_link_is_resumed_with_the_requests_own_token() {
    if !root() {
        return;
    }
    let (agent, gateway, mut link) = linked();
    let (module, id, submit) = agent.ask(1001);
    let _ = link.hear_module();
    link.tell(id, accepted(id));
    assert_eq!(hear(&module), Some(accepted(id)));
    drop(link);
    assert!(!link_event(&module));
    let mut link = gateway.accept();
    let resume = Resume { wire: 1, request: id, resume_token: submit.resume_token };
    assert_eq!(link.hear_module(), (id, ModuleMessage::Resume(resume)));
    assert!(link_event(&module));
    link.tell(id, accepted(id));
    assert_eq!(hear(&module), Some(accepted(id)));
}

/// Catalogue: S4 (control: a_modules_request_reaches_the_gateway_and_the_answer_comes_back)
#[test]
fn a_module_finds_its_request_again_after_the_agent_was_killed() {
    if !root() {
        return;
    }
    let (mut agent, gateway, mut link) = linked();
    let (module, id, submit) = agent.ask(1001);
    let _ = link.hear_module();
    agent.stop();
    assert_eq!(hear(&module), None, "the module sees it at once");
    assert_eq!(link.hear(), None, "and so does the gateway, without a word that cancels");
    agent.spawn();
    let mut link = gateway.accept();
    let module = wire::connect(&agent.socket());
    let resume = ModuleMessage::Resume(Resume { wire: 1, request: id, resume_token: submit.resume_token });
    wire::send(&module, &resume);
    assert_eq!(link.hear_module(), (id, resume));
    link.tell(id, accepted(id));
    assert_eq!(hear(&module), Some(accepted(id)));
}

#[test]
fn a_gateway_with_another_key_hears_of_no_request() {
    if !root() {
        return;
    }
    let mut agent = Agent::new();
    let gateway = Gateway::new(&agent.fixture.agent_key_pkcs8);
    agent.start(gateway.address(), &Digest::plain(b"another key"), None, "");
    let mut link = gateway.accept();
    let (module, id, _) = agent.ask(1001);
    assert!(!link_event(&module));
    // It may say what it likes; only rosters are listened to, and this one does not follow.
    let envelope = agent.fixture.seal().0;
    link.say(&GatewayMessage::Rosters(Rosters { envelopes: vec![Bytes(envelope.to_bytes())] }));
    link.tell(id, accepted(id));
    assert_eq!(link.hear(), None, "the agent turns away");
    let refused = ModuleEvent::Refused(Refused { reason: DenyReason::GatewayUnavailable, retry_after_s: None });
    assert_eq!(hear(&module), Some(refused), "a clear word instead of a wait for ever");
}

/// Pins a roster where this agent reads it.
fn pin(agent: &Agent, envelope: &RosterEnvelope) -> String {
    let slot = Slot { sequence: 1, version: envelope.version, pin: envelope.digest, payload: envelope.to_bytes() };
    let slots = agent.dir.path().join("roster");
    std::fs::create_dir_all(&slots).unwrap();
    std::fs::write(slots.join("slot0"), slot.encode().unwrap()).unwrap();
    format!("roster_dir = \"{}\"\n", slots.display())
}

/// What a module hears when it asks for rosters.
fn rosters(agent: &Agent, above: u64) -> Vec<Bytes> {
    let module = wire::connect(&agent.socket());
    wire::send(&module, &ModuleMessage::Rosters(AskRosters { wire: 1, above }));
    match wire::receive(&module) {
        Some(ModuleEvent::Rosters(rosters)) => rosters.envelopes,
        other => panic!("no rosters: {other:?}"),
    }
}

/// control: a_gateway_with_another_key_hears_of_no_request
#[test]
fn a_new_gateway_is_served_once_it_has_handed_over_the_roster_that_lists_it() {
    if !root() {
        return;
    }
    let mut agent = Agent::new();
    let gateway = Gateway::new(&agent.fixture.agent_key_pkcs8);
    let (genesis, head) = agent.fixture.seal();
    let (two, _) = agent.fixture.step(&head, &["bob", "carol"], |roster| {
        roster.gateways.push(GatewayEntry { address: "127.0.0.1:9".into(), key: gateway.pin });
    });
    let more = pin(&agent, &genesis);
    agent.start(gateway.address(), &Digest::plain(b"the gateway that is gone"), None, &more);
    assert_eq!(rosters(&agent, 1), []);
    let mut link = gateway.accept();
    link.say(&GatewayMessage::Rosters(Rosters { envelopes: vec![Bytes(two.to_bytes())] }));
    assert_eq!(link.hear(), None, "it comes again");
    let mut link = gateway.accept();
    let (_module, id, submit) = agent.ask(1001);
    assert_eq!(link.hear_module(), (id, ModuleMessage::Submit(submit)));
    assert_eq!(rosters(&agent, 1), [Bytes(two.to_bytes())]);
}

#[test]
fn rosters_are_pushed_kept_and_given_to_modules_and_the_host_says_what_it_pins() {
    if !root() {
        return;
    }
    let mut agent = Agent::new();
    let gateway = Gateway::new(&agent.fixture.agent_key_pkcs8);
    let (_, head) = agent.fixture.seal();
    let (two, head) = agent.fixture.step(&head, &["bob", "carol"], |roster| roster.rules.max_ttl_s = 600);
    let (three, _) = agent.fixture.step(&head, &["bob", "dave"], |roster| roster.rules.max_ttl_s = 300);
    let more = pin(&agent, &two);
    agent.start(gateway.address(), &gateway.pin, None, &more);
    let (mut link, hello) = gateway.accept_hello();
    assert_eq!(hello.roster, 2);
    // This gateway's head is version 1: the host has what it lost (G3).
    let lost = Rosters { envelopes: vec![Bytes(two.to_bytes())] };
    assert_eq!(link.hear(), Some(AgentMessage::Rosters(lost)));
    link.say(&GatewayMessage::Rosters(Rosters { envelopes: vec![Bytes(three.to_bytes())] }));
    assert!(within(SOON, || rosters(&agent, 2) == [Bytes(three.to_bytes())]));
    assert_eq!(rosters(&agent, 3), []);
    // The same connection goes on to carry the request.
    let module = wire::connect(&agent.socket());
    wire::send(&module, &ModuleMessage::Rosters(AskRosters { wire: 1, above: 3 }));
    let (id, submit) = agent.submission(1001);
    wire::send(&module, &ModuleMessage::Submit(submit.clone()));
    assert_eq!(link.hear_module(), (id, ModuleMessage::Submit(submit)));
}

/// Catalogue: S3 (control: inline)
#[test]
fn a_flood_of_connections_of_one_user_leaves_room_for_others() {
    if !root() {
        return;
    }
    let (agent, _gateway, mut link) = linked();
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        while let Some(AgentMessage::Module(message)) = link.hear() {
            let _ = sender.send(message.request);
        }
    });
    // A user who is not root does not get in at all, however often.
    set_mode(&agent.socket(), 0o666);
    let path = agent.socket();
    as_uid(1001, move || {
        for _ in 0..10_000 {
            drop(UnixStream::connect(&path));
        }
    });
    // One user's many sudos: four wait, the others are told to come back later.
    let modules: Vec<_> = (0..20).map(|_| agent.ask(1001)).collect();
    let refused = modules.iter().skip(4).all(|(module, ..)| {
        matches!(hear(module), Some(ModuleEvent::Refused(refused))
            if refused.reason == DenyReason::RateLimited && refused.retry_after_s.is_some())
    });
    assert!(refused);
    let (_module, id, _) = agent.ask(1002);
    let begun = Instant::now();
    while asked.recv_timeout(SOON).expect("the other user's request") != id {}
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_module_that_says_nothing_malformed_or_too_much_is_dropped() {
    if !root() {
        return;
    }
    let (agent, _gateway, mut link) = linked();
    for frame in [&b""[..], b"\xff\xff\xff\xff", b"\0\x04\0\x01", b"\0\0\0\x02{}", b"\0\0\0\x0a{\"cancel\":"] {
        let stream = wire::connect(&agent.socket());
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        (&stream).write_all(frame).unwrap();
        let mut byte = [0];
        let read = std::io::Read::read(&mut &stream, &mut byte).expect("closed in time");
        assert_eq!(read, 0, "{frame:?}");
    }
    let (_module, id, _) = agent.ask(1001);
    assert_eq!(link.hear_module().0, id);
}

/// Reports of a real reaper go to the gateway, orders come back, and what was not noted comes again
/// on the next link.
#[test]
fn reports_and_orders_pass_between_reaper_and_gateway() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut agent = Agent::new();
    let gateway = Gateway::new(&agent.fixture.agent_key_pkcs8);
    agent.start(gateway.address(), &gateway.pin, Some(bench.socket()), "");
    let mut link = gateway.accept();
    let mut front = bench.front_end(60_000, "sleep 600");
    let grant = front.grant();
    let Some(AgentMessage::Started(started)) = link.hear() else { panic!("not started") };
    assert_eq!(started.grant.to_string(), grant);
    drop(link);
    let mut link = gateway.accept();
    let again = link.hear();
    assert!(matches!(&again, Some(AgentMessage::Started(again)) if again.grant == started.grant), "{again:?}");
    link.say(&GatewayMessage::Noted(Noted { grant: started.grant, ended: false }));
    assert!(within(SOON, || bench.path("grants").join(format!("{grant}.started")).exists()));
    let begun = Instant::now();
    link.say(&GatewayMessage::EndGrant(EndGrant { grant: started.grant, order: EndOrder::Revoked }));
    let Some(AgentMessage::Ended(ended)) = link.hear() else { panic!("not ended") };
    eprintln!("MEASURED order to evidence at the gateway: {} ms", begun.elapsed().as_millis());
    assert_eq!(ended.end, bench.end_of(&grant, SOON));
    link.say(&GatewayMessage::Noted(Noted { grant: started.grant, ended: true }));
    assert!(within(SOON, || bench.path("grants").join(format!("{grant}.ended")).exists()));
}

/// Sockets passed by systemd: the agent finds its own among them by its path.
#[test]
fn a_socket_that_root_made_is_taken_over() {
    if !root() {
        return;
    }
    let mut agent = Agent::new();
    let gateway = Gateway::new(&agent.fixture.agent_key_pkcs8);
    agent.start(gateway.address(), &gateway.pin, None, "");
    let _ = gateway.accept();
    agent.stop();
    std::fs::remove_file(agent.socket()).unwrap();
    // What systemd does: bind as root, pass descriptor 3, name the pid.
    let listener = std::os::unix::net::UnixListener::bind(agent.socket()).unwrap();
    set_mode(&agent.socket(), 0o600);
    let daemon = env!("CARGO_BIN_EXE_twinlock-gatewayd");
    let config = agent.dir.path().join("agent.toml");
    let start = format!(
        "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec setpriv --reuid={AGENT} --regid={AGENT} \
         --clear-groups {daemon} agent --config {}",
        config.display()
    );
    let log = std::fs::OpenOptions::new().append(true).open(agent.dir.path().join("log")).unwrap();
    let fd: std::os::fd::OwnedFd = listener.try_clone().unwrap().into();
    agent.child = Some(Command::new("sh").args(["-c", &start]).stdin(fd).stderr(log).spawn().unwrap());
    let mut link = gateway.accept();
    let (module, id, _) = agent.ask(1001);
    assert_eq!(link.hear_module().0, id);
    let cred = rustix::net::sockopt::socket_peercred(&module).unwrap();
    assert_eq!(cred.uid.as_raw(), 0, "the module's peer is the listener's maker");
}
