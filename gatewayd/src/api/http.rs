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
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::limits::network_of;

/// From the TCP connection to the end of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// From the first to the last byte of a request's header, and between requests.
const HEADER: Duration = Duration::from_secs(20);
/// From a request's header to its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// For open requests, when the gateway stops.
const STOP: Duration = Duration::from_secs(3);
/// A request's header fields, in bytes, all together.
const HEADER_BYTES: u32 = 32 * 1024;

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
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    while let Some((tcp, address)) = accept(&listener, &stop).await {
        let Some(place) = connections.admit(address.ip()) else { continue };
        let (acceptor, router, watcher) = (tls.acceptor(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            // A failed handshake tells nothing that is worth a line in a log.
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await else { return };
            let connection = connection(stream, router, PeerAddress(address.ip()));
            let _ended = watcher.watch(connection).await;
        });
    }
    drop(listener);
    let _in_time = tokio::time::timeout(STOP, graceful.shutdown()).await;
}

/// Serves `router` in clear until `stop`: for loopback.
pub async fn serve_clear(listener: TcpListener, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    while let Some((tcp, address)) = accept(&listener, &stop).await {
        let connection = graceful.watch(connection(tcp, router.clone(), PeerAddress(address.ip())));
        tokio::spawn(connection);
    }
    let _in_time = tokio::time::timeout(STOP, graceful.shutdown()).await;
}

/// Serves `router` on a unix socket to peers of uid 0 until `stop`; others are hung up on.
pub async fn serve_root(listener: UnixListener, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
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
        let connection = graceful.watch(connection(stream, router.clone(), PeerUid(peer.uid())));
        tokio::spawn(connection);
    }
    let _in_time = tokio::time::timeout(STOP, graceful.shutdown()).await;
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

fn connection<S, P>(
    stream: S,
    router: Router,
    peer: P,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Clone + Send + Sync + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(64 * 1024)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_header_list_size(HEADER_BYTES)
        .max_pending_accept_reset_streams(32)
        .keep_alive_interval(HEADER)
        .keep_alive_timeout(HEADER);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (router, peer) = (router.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(router, peer, request.map(Body::new)).await) }
    });
    builder.serve_connection(TokioIo::new(stream), service).into_owned()
}

async fn answer<P: Clone + Send + Sync + 'static>(router: Router, peer: P, mut request: Request<Body>) -> Response {
    request.extensions_mut().insert(peer);
    match tokio::time::timeout(ANSWER, router.oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_late) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}
