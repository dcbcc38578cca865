//! The accept loop for HTTP: TLS where there is TLS, a bound on connections and on every wait, and
//! an orderly stop. Routers come from the other files.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::limits::network_of;

/// For open requests, when a connection ends in order or the gateway stops.
const STOP: Duration = Duration::from_secs(3);
/// A request's header fields, in bytes, all together.
const HEADER_BYTES: u32 = 32 * 1024;

/// How long a peer may take. Every wait has its end, in HTTP/1.1 and HTTP/2 alike: a peer that says
/// nothing, or half of something, must not keep its place (N4).
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the TCP connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From there to the first request, and from the first to the last byte of a header.
    pub header: Duration,
    /// From a request's header to its answer.
    pub answer: Duration,
    /// Without an open request, since the last answer.
    pub idle: Duration,
    /// A connection's whole life.
    pub age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(20),
            answer: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            age: Duration::from_secs(300),
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// The user at the other end of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerUid(pub u32);

/// A TLS configuration that can be replaced while connections stand.
#[derive(Clone)]
pub struct TlsSource(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsSource {
    /// Begins with `config`.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// New connections get `config`.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Bounds on open connections.
pub struct Connections {
    per_address: usize,
    all: usize,
    open: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

impl Connections {
    /// At most `all`, and at most `per_address` from one address (or IPv6 /64).
    #[must_use]
    pub fn new(per_address: u32, all: u32) -> Arc<Self> {
        Arc::new(Self { per_address: per_address as usize, all: all as usize, open: Mutex::default() })
    }

    /// A place for one more, given back when dropped.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = network_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *open;
        let mine = by_address.get(&address).copied().unwrap_or(0);
        if *all >= self.all || mine >= self.per_address {
            return None;
        }
        *all += 1;
        by_address.insert(address, mine + 1);
        Some(Place { connections: Arc::clone(self), address })
    }
}

/// An admitted connection.
pub struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *open;
        *all = all.saturating_sub(1);
        if let Some(mine) = by_address.get_mut(&self.address) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Serves `router` over TLS until `stop`.
pub async fn serve_tls(
    listener: TcpListener,
    tls: TlsSource,
    router: Router,
    connections: Arc<Connections>,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    while let Some((tcp, address)) = accept(&listener, &stop).await {
        let Some(place) = connections.admit(address.ip()) else { continue };
        let (acceptor, router, stop) = (tls.acceptor(), router.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            // A failed handshake tells nothing that is worth a line in a log.
            let Ok(Ok(stream)) = tokio::time::timeout(bounds.handshake, acceptor.accept(tcp)).await else { return };
            let version = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Version::Http2,
                Some(_) | None => Version::Http1,
            };
            attend(stream, version, router, PeerAddress(address.ip()), bounds, stop).await;
        });
    }
    drop(listener);
    finish(tasks).await;
}

/// Serves `router` in clear until `stop`: for loopback.
pub async fn serve_clear(listener: TcpListener, router: Router, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    while let Some((tcp, address)) = accept(&listener, &stop).await {
        let peer = PeerAddress(address.ip());
        tasks.spawn(attend(tcp, Version::Http1, router.clone(), peer, Bounds::default(), stop.clone()));
    }
    finish(tasks).await;
}

/// Serves `router` on a unix socket to peers of uid 0 until `stop`; others are hung up on.
pub async fn serve_root(listener: UnixListener, router: Router, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else { continue };
        let Ok(peer) = stream.peer_cred() else { continue };
        if peer.uid() != 0 {
            tracing::warn!(uid = peer.uid(), "a peer other than root on the admin socket");
            continue;
        }
        let peer = PeerUid(peer.uid());
        tasks.spawn(attend(stream, Version::Http1, router.clone(), peer, Bounds::default(), stop.clone()));
    }
    finish(tasks).await;
}

async fn finish(tasks: TaskTracker) {
    tasks.close();
    let _in_time = tokio::time::timeout(STOP, tasks.wait()).await;
}

/// The next connection; none when it is time to stop.
pub(super) async fn accept(listener: &TcpListener, stop: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok((tcp, address)) if tcp.set_nodelay(true).is_ok() => return Some((tcp, address)),
            Ok(_) => {}
            Err(error) => {
                // Out of file descriptors, usually: let some close.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// What a connection speaks; settled before its first byte, so that no wait is without a clock.
#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    Http2,
}

/// How a connection is used.
struct Usage(Mutex<Used>);

struct Used {
    open: usize,
    answered: bool,
    since: Instant,
}

/// An open request; dropping it ends it, however it ended.
struct Open(Arc<Usage>);

impl Usage {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Used { open: 0, answered: false, since: Instant::now() })))
    }

    fn begin(self: &Arc<Self>) -> Open {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open += 1;
        Open(Arc::clone(self))
    }

    /// Done when nothing has been asked for too long.
    async fn unused(&self, bounds: Bounds) {
        loop {
            let (open, end) = {
                let used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                (used.open > 0, used.since + if used.answered { bounds.idle } else { bounds.header })
            };
            let now = Instant::now();
            match (open, end > now) {
                // Looked at again; the answer has a bound of its own.
                (true, _) => tokio::time::sleep(bounds.idle.min(bounds.header)).await,
                (false, true) => tokio::time::sleep_until(end).await,
                (false, false) => return,
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut used = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        (used.open, used.answered, used.since) = (used.open.saturating_sub(1), true, Instant::now());
    }
}

/// Serves one connection to its end: by itself, or in order when it is unused, old, or the gateway
/// stops; what then does not end in time is dropped.
async fn attend<S, P>(stream: S, version: Version, router: Router, peer: P, bounds: Bounds, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Clone + Send + Sync + 'static,
{
    let usage = Usage::new();
    let mut connection = std::pin::pin!(connection(stream, version, router, peer, bounds, Arc::clone(&usage)));
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = usage.unused(bounds) => {}
        () = tokio::time::sleep(bounds.age) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _in_time = tokio::time::timeout(STOP, connection).await;
}

fn connection<S, P>(
    stream: S,
    version: Version,
    router: Router,
    peer: P,
    bounds: Bounds,
    usage: Arc<Usage>,
) -> impl GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Clone + Send + Sync + 'static,
{
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_buf_size(64 * 1024)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_header_list_size(HEADER_BYTES)
        .max_pending_accept_reset_streams(32)
        .keep_alive_interval(bounds.header)
        .keep_alive_timeout(bounds.header);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (router, peer, open) = (router.clone(), peer.clone(), usage.begin());
        async move {
            let response = answer(router, peer, bounds.answer, request.map(Body::new)).await;
            drop(open);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    builder.serve_connection(TokioIo::new(stream), service).into_owned()
}

async fn answer<P: Clone + Send + Sync + 'static>(
    router: Router,
    peer: P,
    within: Duration,
    mut request: Request<Body>,
) -> Response {
    request.extensions_mut().insert(peer);
    match tokio::time::timeout(within, router.oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        // Outside the routers, so their headers are put on here.
        Err(_late) => {
            crate::web::add_headers(super::problem::complete(StatusCode::REQUEST_TIMEOUT.into_response()).await).await
        }
    }
}
