//! The link to the gateway: one TLS connection, opened again and again with growing, random pauses.
//! It carries frames; what they mean is the relay's and the watcher's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use twinlock_protocol::bytes::Fixed;
use twinlock_protocol::limits;
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::agent::{AgentMessage, GatewayMessage, Hello, PING_S, Ping, Rosters, SILENCE_S, Welcome};

use super::chain::Chain;
use super::config::{Config, name_of};
use super::frames::{self, FrameError};
use super::tls::peer_key;

/// Connecting, TLS and hellos together.
const CONNECT: Duration = Duration::from_secs(10);
/// The first pause after a lost link, and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Messages that may wait for the link; a gateway that does not read is a lost link.
const QUEUE: usize = 1024;

/// What the link tells the agent.
#[derive(Debug)]
pub enum LinkEvent {
    /// It stands; send here.
    Up(mpsc::Sender<AgentMessage>),
    /// The gateway said something.
    Message(GatewayMessage),
    /// It is lost.
    Down,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The network.
    #[error("the gateway cannot be reached")]
    Connect(#[from] std::io::Error),
    /// No answer in time.
    #[error("the gateway does not answer")]
    Timeout,
    /// The name in the configuration can't be one.
    #[error("the gateway's name is not valid")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    /// A frame.
    #[error("the link failed")]
    Frame(#[from] FrameError),
    /// The gateway speaks another protocol or version.
    #[error("the gateway speaks another protocol")]
    Wire,
    /// Neither the configuration nor the newest roster lists its key.
    #[error("the gateway's key is neither the configured one nor the roster's")]
    Stranger,
    /// The gateway closed.
    #[error("the gateway closed the link")]
    Closed,
    /// Nothing was heard for [`SILENCE_S`].
    #[error("the gateway is silent")]
    Silent,
    /// It does not read what we send.
    #[error("the gateway does not read")]
    Stuck,
}

/// A gateway that may be talked to, or one that may only hand over rosters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Known,
    Stranger,
}

/// Who is known: the configuration's key, and those of the newest roster.
#[derive(Clone)]
struct Known {
    config: Arc<Config>,
    chain: Arc<Mutex<Chain>>,
}

impl Known {
    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self, key: &Fixed<32>) -> Standing {
        if self.config.gateway_key == *key || self.chain().lists_gateway(key) {
            Standing::Known
        } else {
            Standing::Stranger
        }
    }

    /// The configuration's gateway, then the roster's.
    fn addresses(&self) -> Vec<String> {
        let mut addresses = vec![self.config.gateway.clone()];
        addresses.extend(self.chain().addresses());
        let mut seen = BTreeSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        addresses
    }
}

/// Keeps the link, for ever: to the first gateway of all that are known, in turn.
pub async fn keep(config: Arc<Config>, tls: TlsConnector, chain: Arc<Mutex<Chain>>, events: mpsc::Sender<LinkEvent>) {
    let known = Known { config, chain };
    let mut pause = PAUSE;
    loop {
        for gateway in known.addresses() {
            let opened = tokio::time::timeout(CONNECT, open(&gateway, &known, &tls));
            match opened.await.unwrap_or(Err(LinkError::Timeout)) {
                Ok((stream, key)) => {
                    tracing::info!(gateway, "the link to the gateway stands");
                    pause = PAUSE;
                    let error = carry(stream, key, &known, &events).await;
                    tracing::warn!(gateway, error = &error as &dyn std::error::Error, "the link is lost");
                    if events.send(LinkEvent::Down).await.is_err() {
                        return;
                    }
                    // From the first again, after a pause.
                    break;
                }
                Err(error) => tracing::warn!(gateway, error = &error as &dyn std::error::Error, "no link"),
            }
        }
        tokio::time::sleep(jitter(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// A link to a gateway that is known; to a stranger only after it handed over the roster that lists
/// it, on a connection of its own.
async fn open(gateway: &str, known: &Known, tls: &TlsConnector) -> Result<(Stream, Fixed<32>), LinkError> {
    let (mut stream, key) = connect(gateway, known, tls).await?;
    if known.standing(&key) == Standing::Known {
        return Ok((stream, key));
    }
    tracing::warn!(gateway, "this gateway's key is new; it is asked for the roster that lists it");
    while known.standing(&key) == Standing::Stranger {
        match frames::read(&mut stream, limits::FRAME_BYTES).await? {
            Some(GatewayMessage::Rosters(rosters)) => known.chain().take(&rosters),
            Some(GatewayMessage::Ping(_)) => {}
            Some(_) | None => return Err(LinkError::Stranger),
        }
    }
    drop(stream);
    let (stream, now) = connect(gateway, known, tls).await?;
    if known.standing(&now) == Standing::Known { Ok((stream, now)) } else { Err(LinkError::Stranger) }
}

/// Between half the pause and all of it, so that a thousand hosts do not come back in step.
fn jitter(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness the pause is just the full one.
    let part = SystemRandom::new().fill(&mut random).map_or(u8::MAX, |()| random.into_iter().fold(0, |_, b| b));
    pause / 2 + pause.mul_f64(f64::from(part) / 510.0)
}

/// TLS and the hellos; and the key that the gateway proved.
async fn connect(gateway: &str, known: &Known, tls: &TlsConnector) -> Result<(Stream, Fixed<32>), LinkError> {
    let stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name_of(gateway).to_owned())?;
    let mut stream = tls.connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(twinlock_protocol::wire::agent::ALPN) {
        return Err(LinkError::Wire);
    }
    let key = peer_key(stream.get_ref().1).ok_or(LinkError::Wire)?;
    let roster = {
        let mut chain = known.chain();
        chain.look_again();
        chain.pinned()
    };
    let software = concat!("twinlock-gatewayd ", env!("CARGO_PKG_VERSION")).to_owned();
    let hello = AgentMessage::Hello(Hello { wire: WIRE_VERSION, host: known.config.host.clone(), roster, software });
    frames::write(&mut stream, &hello).await?;
    match frames::read(&mut stream, limits::SMALL_FRAME_BYTES).await? {
        Some(GatewayMessage::Welcome(Welcome { wire: WIRE_VERSION, roster: head, .. })) => {
            let lost = if head < roster { known.chain().for_gateway(head) } else { Vec::new() };
            // One in a frame: two may not fit.
            for bytes in lost {
                let rosters = AgentMessage::Rosters(Rosters { envelopes: vec![bytes] });
                frames::write(&mut stream, &rosters).await?;
            }
            Ok((stream, key))
        }
        Some(_) => Err(LinkError::Wire),
        None => Err(LinkError::Closed),
    }
}

/// Carries frames both ways until something fails.
async fn carry(stream: Stream, key: Fixed<32>, known: &Known, events: &mpsc::Sender<LinkEvent>) -> LinkError {
    let (reader, writer) = tokio::io::split(stream);
    let (sender, queue) = mpsc::channel(QUEUE);
    if events.send(LinkEvent::Up(sender)).await.is_err() {
        return LinkError::Closed;
    }
    tokio::select! {
        error = read_all(reader, key, known, events) => error,
        error = write_all(writer, queue) => error,
    }
}

async fn read_all(
    mut reader: impl AsyncRead + Unpin,
    key: Fixed<32>,
    known: &Known,
    events: &mpsc::Sender<LinkEvent>,
) -> LinkError {
    loop {
        let next = frames::read(&mut reader, limits::FRAME_BYTES);
        let message = match tokio::time::timeout(Duration::from_secs(SILENCE_S), next).await {
            Err(_) => return LinkError::Silent,
            Ok(Err(error)) => return error.into(),
            Ok(Ok(None)) => return LinkError::Closed,
            Ok(Ok(Some(message))) => message,
        };
        match message {
            GatewayMessage::Ping(_) => {}
            GatewayMessage::Rosters(rosters) => {
                known.chain().take(&rosters);
                // The newest roster may list it no more.
                if known.standing(&key) == Standing::Stranger {
                    return LinkError::Stranger;
                }
            }
            GatewayMessage::Welcome(_) => return LinkError::Wire,
            GatewayMessage::Module(_)
            | GatewayMessage::EndGrant(_)
            | GatewayMessage::Noted(_)
            | GatewayMessage::Reviewed(_) => {
                if events.send(LinkEvent::Message(message)).await.is_err() {
                    return LinkError::Closed;
                }
            }
        }
    }
}

async fn write_all(mut writer: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<AgentMessage>) -> LinkError {
    loop {
        let message = match tokio::time::timeout(Duration::from_secs(PING_S), queue.recv()).await {
            Err(_) => AgentMessage::Ping(Ping {}),
            Ok(Some(message)) => message,
            // The agent gave the link up: its queue was full.
            Ok(None) => return LinkError::Stuck,
        };
        match tokio::time::timeout(Duration::from_secs(SILENCE_S), frames::write(&mut writer, &message)).await {
            Err(_) => return LinkError::Stuck,
            Ok(Err(error)) => return error.into(),
            Ok(Ok(())) => {}
        }
    }
}
