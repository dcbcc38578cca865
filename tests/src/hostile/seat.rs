//! Where the hostile program sits: in the gateway's place, as the TLS server that the real agent
//! connects to; or in the agent's place, at the module's socket, for frames that a real agent
//! would not pass on.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use twinlock_protocol::bytes::Bytes;
use twinlock_protocol::ids::RequestId;
use twinlock_protocol::limits;
use twinlock_protocol::roster::RosterEnvelope;
use twinlock_protocol::wire::agent::{
    ALPN, AgentMessage, ForGateway, ForModule, GatewayMessage, PING_S, Ping, Welcome,
};
use twinlock_protocol::wire::module::{ModuleEvent, ModuleMessage, Rosters, Submit};
use twinlock_protocol::wire::{self, WIRE_VERSION};

const LIMIT: Duration = Duration::from_secs(20);

/// The gateway's place.
pub struct GatewaySeat {
    heard: Receiver<AgentMessage>,
    say: Arc<Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>>,
    welcome: Arc<Mutex<Welcome>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl GatewaySeat {
    /// Listens with the gateway's own key (PKCS #8), where the gateway listened.
    pub fn take(key: &[u8], address: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (to, heard) = channel();
        let say = Arc::new(Mutex::new(None));
        let software = "twinlock-gatewayd 0".to_owned();
        let welcome = Arc::new(Mutex::new(Welcome { wire: WIRE_VERSION, roster: u64::MAX, software }));
        let acceptor = TlsAcceptor::from(tls(key));
        let (say_here, welcome_here) = (Arc::clone(&say), Arc::clone(&welcome));
        let listener = runtime.block_on(TcpListener::bind(address)).expect("the gateway's place is free");
        runtime.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let _ = stream.set_nodelay(true);
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let (sender, queue) = mpsc::unbounded_channel();
                let welcome = GatewayMessage::Welcome(welcome_here.lock().unwrap().clone());
                let _ = sender.send(wire::frame(&welcome));
                *say_here.lock().unwrap() = Some(sender);
                tokio::spawn(carry(stream, queue, to.clone()));
            }
        });
        Self { heard, say, welcome, runtime: Some(runtime) }
    }

    /// Leaves the place: nothing listens there when this returns.
    pub fn leave(&mut self) {
        self.hang_up();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Waits for the agent's next hello.
    #[track_caller]
    pub fn wait_for_agent(&self) {
        self.hear("the agent's hello", LIMIT, |message| matches!(message, AgentMessage::Hello(_)).then_some(()));
    }

    /// The next request.
    #[track_caller]
    pub fn next_submit(&self) -> (RequestId, Submit) {
        self.hear("a request", LIMIT, |message| match message {
            AgentMessage::Module(ForGateway { request, message: ModuleMessage::Submit(submit) }) => {
                Some((request, submit))
            }
            _ => None,
        })
    }

    /// Waits for a message; others are passed over.
    #[track_caller]
    pub fn hear<T>(&self, what: &str, limit: Duration, mut wanted: impl FnMut(AgentMessage) -> Option<T>) -> T {
        let until = Instant::now() + limit;
        loop {
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => {
                    if let Some(found) = wanted(message) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("the agent did not send {what} within {limit:?}")
                }
            }
        }
    }

    /// The next message of a module that is about an alarm, if one comes.
    pub fn alarm(&self, limit: Duration) -> Option<ModuleMessage> {
        let until = Instant::now() + limit;
        while let Ok(message) = self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let AgentMessage::Module(ForGateway { message: message @ ModuleMessage::Alarm(_), .. }) = message {
                return Some(message);
            }
        }
        None
    }

    /// Says an event to the module of a request.
    pub fn event(&self, request: RequestId, event: ModuleEvent) {
        self.frame(wire::frame(&GatewayMessage::Module(ForModule { request, event })));
    }

    /// Hands rosters to the agent, and waits until it has looked at them: what it sends to a module
    /// that asks is known to it then.
    pub fn hand_over(&self, rosters: &[RosterEnvelope]) {
        let envelopes = rosters.iter().map(|envelope| Bytes(envelope.to_bytes())).collect();
        self.frame(wire::frame(&GatewayMessage::Rosters(Rosters { envelopes })));
        // Nothing that the agent says tells of it.
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Sends a whole frame, whatever is in it.
    pub fn frame(&self, frame: Vec<u8>) {
        let say = self.say.lock().unwrap();
        // A link that the agent has dropped takes nothing; its next one does.
        let _ = say.as_ref().expect("the agent has connected").send(frame);
    }

    /// What the next connections are welcomed with; hellos of earlier ones are forgotten.
    pub fn welcome_with(&self, welcome: Welcome) {
        while self.heard.try_recv().is_ok() {}
        *self.welcome.lock().unwrap() = welcome;
    }

    /// Closes the agent's connection; it comes back by itself.
    pub fn hang_up(&self) {
        *self.say.lock().unwrap() = None;
    }
}

fn tls(key: &[u8]) -> Arc<ServerConfig> {
    let pair = KeyPair::try_from(key).expect("the gateway's key");
    let params = rcgen::CertificateParams::new(vec!["gateway".to_owned()]).expect("parameters");
    let certificate = params.self_signed(&pair).expect("a certificate").der().clone();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key.to_vec()).into())
        .expect("the gateway's key and certificate");
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

/// Carries frames both ways until either side ends.
async fn carry(
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    to: Sender<AgentMessage>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        let mut prefix = [0; wire::LENGTH_BYTES];
        while reader.read_exact(&mut prefix).await.is_ok() {
            let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
            if reader.read_exact(&mut body).await.is_err() {
                return;
            }
            let message = wire::message(&body, limits::FRAME_BYTES).expect("the agent keeps to the protocol");
            if to.send(message).is_err() {
                return;
            }
        }
    };
    let write = async {
        let ping = wire::frame(&GatewayMessage::Ping(Ping {}));
        loop {
            let frame = match tokio::time::timeout(Duration::from_secs(PING_S), queue.recv()).await {
                Err(_) => ping.clone(),
                Ok(Some(frame)) => frame,
                Ok(None) => return,
            };
            if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

/// The agent's place: a socket of root's that the module is told to use.
pub struct AgentSeat {
    listener: UnixListener,
}

impl AgentSeat {
    /// Listens at this path.
    pub fn take(path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("a socket");
        listener.set_nonblocking(true).expect("a listener that does not wait for ever");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("its mode");
        Self { listener }
    }

    /// The next module's first message about a request, and its connection; asked for newer rosters
    /// before, it is given `rosters` once.
    pub fn next(&self, rosters: &[RosterEnvelope]) -> (ModuleMessage, UnixStream) {
        let until = Instant::now() + LIMIT;
        let mut offered: Vec<Bytes> = rosters.iter().map(|envelope| Bytes(envelope.to_bytes())).collect();
        let mut stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert!(Instant::now() < until, "no module came: {error}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        loop {
            let message = message_from(&mut stream);
            let ModuleMessage::Rosters(_) = message else { return (message, stream) };
            let rosters = Rosters { envelopes: std::mem::take(&mut offered) };
            send(&mut stream, &wire::frame(&ModuleEvent::Rosters(rosters)));
        }
    }

    /// The first message of a module that has come already.
    pub fn waiting(&self) -> Option<ModuleMessage> {
        let (mut stream, _) = self.listener.accept().ok()?;
        Some(message_from(&mut stream))
    }
}

fn message_from(stream: &mut UnixStream) -> ModuleMessage {
    stream.set_nonblocking(false).expect("a connection that waits");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut prefix = [0; wire::LENGTH_BYTES];
    stream.read_exact(&mut prefix).expect("a frame");
    let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut body).expect("a whole frame");
    wire::message(&body, limits::SMALL_FRAME_BYTES).expect("the module keeps to the protocol")
}

/// Writes to a module that may have left already.
pub fn send(stream: &mut UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}
