//! The agent listener: frames of `protocol::wire::agent` over TLS 1.3. A host speaks for itself
//! alone: the key of the client certificate says which one it is, and every message must be about
//! its own requests and grants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use twinlock_protocol::digest::Domain;
use twinlock_protocol::ids::HostId;
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::wire::agent::{
    ALPN, AgentMessage, ForGateway, GatewayMessage, Hello, Noted, PING_S, Ping, Rosters, SILENCE_S, Welcome,
};
use twinlock_protocol::wire::module::{Alarm, Cancel, ModuleEvent, ModuleMessage, Refused, Resume};
use twinlock_protocol::wire::{LENGTH_BYTES, WIRE_VERSION};
use twinlock_protocol::{DenyReason, Digest, codec, limits, wire};

use super::http::{Connections, accept};
use super::join::{self, Joins};
use super::tls::RosterAgents;
use crate::audit;
use crate::break_glass;
use crate::request::Event;
use crate::serve::{Engine, Outgoing, Refusal, ToModule};
use crate::session::{Report, report};

/// From the TCP connection to the hello.
const HELLO: Duration = Duration::from_secs(10);
/// A frame that an agent does not take for this long ends its connection.
const WRITE: Duration = Duration::from_secs(20);

type Frames = Framed<TlsStream<TcpStream>, LengthDelimitedCodec>;

/// Serves agents until `stop`.
pub async fn serve(
    engine: Arc<Engine>,
    agents: Arc<RosterAgents>,
    listener: TcpListener,
    tls: AgentTls,
    joins: Arc<Joins>,
    connections: Arc<Connections>,
    stop: CancellationToken,
) {
    let tasks = tokio_util::task::TaskTracker::new();
    while let Some((tcp, address)) = accept(&listener, &stop).await {
        let Some(place) = connections.admit(address.ip()) else { continue };
        let (engine, agents, tls, joins, stop) =
            (Arc::clone(&engine), Arc::clone(&agents), tls.clone(), Arc::clone(&joins), stop.clone());
        tasks.spawn(async move {
            let opened = tokio::time::timeout(HELLO, open(&engine, &agents, &tls, tcp, address)).await;
            // Places are for strangers: from here on it is a host of the roster, which has one
            // connection at a time.
            drop(place);
            match opened {
                Ok(Some(Opened::Agent(who, frames))) => attend(&engine, &who, *frames, address, stop).await,
                Ok(Some(Opened::Joining(stream))) => joins.attend(*stream, address, stop).await,
                Ok(None) | Err(_) => {}
            }
        });
    }
    tasks.close();
    let _in_time = tokio::time::timeout(Duration::from_secs(3), tasks.wait()).await;
}

/// The listener's TLS: for hosts of the roster, and for those that join.
#[derive(Clone)]
pub struct AgentTls {
    /// With client certificates over the roster's agent keys.
    pub agents: Arc<ServerConfig>,
    /// Without: who joins is known by a token.
    pub joins: Arc<ServerConfig>,
}

/// Who came in.
enum Opened {
    Agent(Introduced, Box<Frames>),
    Joining(Box<TlsStream<TcpStream>>),
}

/// A host that said hello.
struct Introduced {
    host: HostId,
    /// The key of its certificate.
    key: PublicKey,
    /// The version that it pins; 0 where its agent cannot tell.
    roster: u64,
}

/// Handshake and hello: which host this is.
async fn open(
    engine: &Engine,
    agents: &RosterAgents,
    tls: &AgentTls,
    tcp: TcpStream,
    address: SocketAddr,
) -> Option<Opened> {
    let accepted = match LazyConfigAcceptor::new(Acceptor::default(), tcp).await {
        Ok(hello) => {
            let joins = hello.client_hello().alpn().is_some_and(|mut names| names.any(|name| name == join::ALPN));
            let config = if joins { &tls.joins } else { &tls.agents };
            hello.into_stream(Arc::clone(config)).await.map(|stream| (joins, stream))
        }
        Err(error) => Err(error),
    };
    let stream = match accepted {
        Ok((true, stream)) => return Some(Opened::Joining(Box::new(stream))),
        Ok((false, stream)) => stream,
        Err(error) => {
            tracing::debug!(%address, %error, "an agent's TLS handshake failed");
            return None;
        }
    };
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(ALPN) {
        return None;
    }
    let certificate = session.peer_certificates().and_then(<[_]>::first)?;
    let host = agents.host_of(certificate)?;
    if let Err(limited) = engine.limits.connect_of_host(&host) {
        engine.note_limit(limited.limit, host.to_string()).await;
        return None;
    }
    let mut frames = LengthDelimitedCodec::builder()
        .length_field_length(LENGTH_BYTES)
        .max_frame_length(limits::SMALL_FRAME_BYTES)
        .new_framed(stream);
    let hello = frames.next().await?.ok()?;
    let refused =
        |reason| audit::Event::AgentRefused { host: Some(host.clone()), address: address.ip().to_string(), reason };
    let reason = match wire::message(&hello, limits::SMALL_FRAME_BYTES) {
        Ok(AgentMessage::Hello(Hello { wire: WIRE_VERSION, host: named, software, roster })) if named == host => {
            let connected = audit::Event::AgentConnected {
                host: host.clone(),
                software: software.chars().take(100).collect(),
                address: address.ip().to_string(),
            };
            engine.note(vec![connected]).await;
            frames.codec_mut().set_max_frame_length(limits::FRAME_BYTES);
            let key = engine.roster().host(&host).map(|host| host.agent_key)?;
            return Some(Opened::Agent(Introduced { host, key, roster }, Box::new(frames)));
        }
        Ok(AgentMessage::Hello(Hello { wire: WIRE_VERSION, .. })) => DenyReason::HostUnknown,
        Ok(_) | Err(_) => DenyReason::WireMismatch,
    };
    engine.note(vec![refused(reason)]).await;
    None
}

async fn attend(engine: &Arc<Engine>, who: &Introduced, frames: Frames, address: SocketAddr, stop: CancellationToken) {
    let host = &who.host;
    let (generation, outgoing) = engine.hub.connect(host);
    // It may have left the roster since its handshake; from here on, leaving hangs up on it.
    if engine.roster().host(host).is_none_or(|now| now.agent_key != who.key) {
        engine.hub.hang_up(host);
    }
    // Whatever an earlier connection carried is up again only when its module says so.
    lose_links(engine, host).await;
    let (mut sink, mut stream) = frames.split();
    let head = engine.roster().version;
    if engine.is_ahead(host, who.roster) {
        tracing::error!(%host, roster = who.roster, head, "a host pins a newer roster than this gateway has");
        engine.note(vec![audit::Event::HostAhead { host: host.clone(), roster: who.roster, head }]).await;
    }
    let welcome = Welcome { wire: WIRE_VERSION, roster: head, software: env!("CARGO_PKG_VERSION").to_owned() };
    let greeting = codec::encode(&GatewayMessage::Welcome(welcome));
    if sink.send(greeting.into()).await.is_ok() {
        push_rosters(engine, who);
        engine.repeat_orders(host).await;
        break_glass::repeat_reviews(engine, host);
        let mut writer = tokio::spawn(write(sink, outgoing));
        let why = read(engine, host, &mut stream, &mut writer, &stop).await;
        tracing::info!(%host, %address, why, "an agent's connection ended");
        writer.abort();
    }
    if engine.hub.disconnect(host, generation) {
        lose_links(engine, host).await;
        engine.note(vec![audit::Event::AgentLost { host: host.clone() }]).await;
    }
}

/// What was sealed since the version that the host pins, in as many messages as it takes. One that
/// is sealed meanwhile comes twice; agents leave out what they have.
fn push_rosters(engine: &Engine, who: &Introduced) {
    // Version 1 came with the host's token.
    let mut above = who.roster.max(1);
    while above < engine.roster().version {
        let envelopes = match engine.rosters_above(above) {
            Ok(envelopes) if !envelopes.is_empty() => envelopes,
            Ok(_) => return,
            Err(error) => {
                tracing::error!(host = %who.host, %error, "rosters could not be read");
                return;
            }
        };
        above = above.saturating_add(envelopes.len() as u64);
        engine.hub.send(&who.host, GatewayMessage::Rosters(Rosters { envelopes }).into());
    }
}

async fn lose_links(engine: &Arc<Engine>, host: &HostId) {
    for id in engine.of_host(host) {
        if engine.look(id, |state| state.is_final()).await == Some(false) {
            // Refused only by a failing database; then approve-by ends the request.
            let _outcome = engine.apply(id, Event::LinkLost).await;
        }
    }
}

async fn write(mut sink: futures_util::stream::SplitSink<Frames, axum::body::Bytes>, mut outgoing: Receiver<Outgoing>) {
    let mut ping = tokio::time::interval(Duration::from_secs(PING_S));
    loop {
        let message = tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => message.into_message(),
                // A newer connection has taken over, or this one did not read.
                None => return,
            },
            _ = ping.tick() => GatewayMessage::Ping(Ping {}),
        };
        let frame = codec::encode(&message);
        match tokio::time::timeout(WRITE, sink.send(frame.into())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn read(
    engine: &Arc<Engine>,
    host: &HostId,
    stream: &mut futures_util::stream::SplitStream<Frames>,
    writer: &mut tokio::task::JoinHandle<()>,
    stop: &CancellationToken,
) -> &'static str {
    let silence = Duration::from_secs(SILENCE_S);
    loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(silence, stream.next()) => frame,
            _ = &mut *writer => return "replaced, or it does not read",
            () = stop.cancelled() => return "the gateway stops",
        };
        let frame = match frame {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_)) | None) => return "closed",
            Err(_silent) => return "silent",
        };
        match wire::message(&frame, limits::FRAME_BYTES) {
            Ok(message) => {
                while let Some(pause) = engine.limits.pause_of_host(host) {
                    tokio::time::sleep(pause).await;
                }
                take(engine, host, message).await;
            }
            Err(error) => {
                tracing::warn!(%host, %error, "an agent breaks the wire");
                let (address, reason) = (String::new(), DenyReason::WireMismatch);
                let refused = audit::Event::AgentRefused { host: Some(host.clone()), address, reason };
                engine.note(vec![refused]).await;
                return "a malformed frame";
            }
        }
    }
}

async fn take(engine: &Arc<Engine>, host: &HostId, message: AgentMessage) {
    match message {
        AgentMessage::Module(ForGateway { request, message }) => match message {
            ModuleMessage::Submit(submit) => {
                if let Err(Refusal { reason, retry_after_s }) = engine.submit(host, request, submit).await {
                    refuse(engine, host, request, reason, retry_after_s);
                }
            }
            ModuleMessage::Resume(resume) => resume_request(engine, host, request, &resume).await,
            // Agents answer this themselves.
            ModuleMessage::Rosters(_) => refuse(engine, host, request, DenyReason::WireMismatch, None),
            ModuleMessage::Cancel(Cancel {}) => end_waiting(engine, host, request, Event::Cancel).await,
            ModuleMessage::Alarm(alarm) => alarmed(engine, host, alarm).await,
        },
        AgentMessage::Gone(gone) => end_waiting(engine, host, gone.request, Event::Gone).await,
        AgentMessage::Started(started) => {
            let outcome = report(engine, host, started.grant, Report::Started(started.record)).await;
            note(engine, host, Noted { grant: started.grant, ended: false }, outcome);
        }
        AgentMessage::Ended(ended) => {
            let outcome = report(engine, host, ended.grant, Report::Ended(ended.end)).await;
            note(engine, host, Noted { grant: ended.grant, ended: true }, outcome);
        }
        AgentMessage::Lingering(lingering) => {
            // Refusals are audited; the end report will follow in any case.
            let _outcome = report(engine, host, lingering.grant, Report::Lingering(lingering.processes)).await;
        }
        AgentMessage::Rosters(rosters) => engine.take_over(host, &rosters).await,
        AgentMessage::Ping(Ping {}) => {}
        // A second hello says nothing that the first did not.
        AgentMessage::Hello(_) => {}
    }
}

fn note(engine: &Engine, host: &HostId, noted: Noted, outcome: Result<(), DenyReason>) {
    match outcome {
        Ok(()) => engine.hub.send(host, GatewayMessage::Noted(noted).into()),
        // Not noted: the host keeps its report and sends it again after its next connection.
        Err(reason) => tracing::warn!(%host, grant = %noted.grant, %reason, "a report was not taken"),
    }
}

/// A module was handed what does not verify: by us, or by somebody in our place.
async fn alarmed(engine: &Arc<Engine>, host: &HostId, alarm: Alarm) {
    let Alarm { request, reason, .. } = alarm;
    tracing::warn!(%host, grant = %request.grant(), %reason, "a host refused an answer that does not verify");
    let refused = audit::Event::EvidenceRefused { host: host.clone(), grant: request.grant(), reason };
    engine.note(vec![refused]).await;
}

async fn resume_request(
    engine: &Arc<Engine>,
    host: &HostId,
    request: twinlock_protocol::ids::RequestId,
    resume: &Resume,
) {
    if let Err(limited) = engine.limits.resume_of_request(request) {
        engine.note_limit(limited.limit, host.to_string()).await;
        return refuse(engine, host, request, DenyReason::RateLimited, Some(limited.retry_after_s));
    }
    let token = Digest::of(Domain::ResumeToken, &resume.resume_token.0);
    let known = resume.wire == WIRE_VERSION
        && resume.request == request
        && engine.request_of_grant(request.grant()) == Ok(request)
        && engine.is_of_host(request, host);
    let outcome =
        if known { engine.apply(request, Event::Resume { token }).await } else { Err(DenyReason::NotPending) };
    if let Err(reason) = outcome {
        refuse(engine, host, request, reason, None);
    }
}

async fn end_waiting(engine: &Arc<Engine>, host: &HostId, request: twinlock_protocol::ids::RequestId, event: Event) {
    if engine.is_of_host(request, host) {
        // Refused only by a failing database; then approve-by ends the request.
        let _outcome = engine.apply(request, event).await;
    }
}

fn refuse(
    engine: &Engine,
    host: &HostId,
    request: twinlock_protocol::ids::RequestId,
    reason: DenyReason,
    retry_after_s: Option<u32>,
) {
    let refused = ModuleEvent::Refused(Refused { reason, retry_after_s });
    engine.tell(host, request, ToModule::Event(refused));
}
