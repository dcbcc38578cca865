//! Peers that say nothing, or half of something, over real TLS: the approver listener's accept loop
//! with short bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use twinlock_gatewayd::api::http::{Bounds, Connections, TlsSource, serve_tls};
use twinlock_gatewayd::api::tls::approver_config;

use crate::support::{Site, client_builder};

const BOUNDS: Bounds = Bounds {
    handshake: Duration::from_secs(5),
    header: Duration::from_millis(400),
    answer: Duration::from_millis(400),
    idle: Duration::from_millis(600),
    age: Duration::from_secs(2),
};
/// Far above the bounds of everything but age, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

struct Listener {
    site: Site,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Listener {
    async fn start(bounds: Bounds) -> Self {
        let site = Site::new();
        let tls = approver_config(&site.path().join("web.crt"), &site.path().join("web.key")).unwrap();
        let router =
            Router::new().route("/", post(|body: axum::body::Bytes| async move { body }).get(|| async { "here" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let connections = Connections::new(64, 64);
        tokio::spawn(serve_tls(listener, TlsSource::new(tls), router, connections, bounds, stop.clone()));
        Self { site, address, stop }
    }

    async fn connect(&self, alpn: &[&str]) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.site.web_ca.clone())).unwrap();
        let mut config = client_builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let host = self.site.origin.strip_prefix("https://").unwrap().split(':').next().unwrap().to_owned();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host).unwrap(), tcp).await.unwrap()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Reads to the end of the connection; what came before it.
async fn until_hung_up(mut stream: TlsStream<TcpStream>, case: &str) -> Vec<u8> {
    let mut said = Vec::new();
    // An end without a close_notify is an end too.
    let end = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    assert!(end.is_ok(), "{case}: not hung up on");
    said
}

/// Catalogue: N4 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_silent_or_says_half_of_something_is_hung_up_on() {
    let listener = Listener::start(Bounds { age: Duration::from_secs(3600), ..BOUNDS }).await;
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let cases: [(&str, &[&str], &[u8]); 8] = [
        ("silent", &[], b""),
        ("silent, HTTP/1.1", &["http/1.1"], b""),
        ("silent, HTTP/2", &["h2"], b""),
        ("half a header", &["http/1.1"], b"GET / HTTP/1.1\r\nHost: x\r\n"),
        ("half a body", &["http/1.1"], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"),
        ("half a preface", &["h2"], b"PRI * HTTP/2.0\r\n"),
        ("an HTTP/2 preface alone", &["h2"], PREFACE),
        ("an HTTP/2 preface without ALPN", &[], PREFACE),
    ];
    let mut waiting = tokio::task::JoinSet::new();
    for (case, alpn, says) in cases {
        let mut stream = listener.connect(alpn).await;
        stream.write_all(says).await.unwrap();
        waiting.spawn(async move { (case, until_hung_up(stream, case).await) });
    }
    while let Some(done) = waiting.join_next().await {
        let (case, said) = done.unwrap();
        let said = String::from_utf8_lossy(&said).to_lowercase();
        // An answer that comes too late has the headers of every answer.
        let late = said.starts_with("http/1.1 408") && said.contains("strict-transport-security");
        assert_eq!(late, case == "half a body", "{case}: {said}");
    }
    // Control: who asks is answered, and may ask again within the idle time.
    let mut stream = listener.connect(&["http/1.1"]).await;
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut rest = [0; 1024];
        assert!(stream.read(&mut rest).await.unwrap() > 0);
    }
    until_hung_up(stream, "idle, HTTP/1.1").await;
}

/// A browser answers every ping; that alone does not keep a place, nor does asking without end.
///
/// Catalogue: N4 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_and_an_old_http2_connection_end_in_order() {
    for (bounds, pause) in [
        (Bounds { age: Duration::from_secs(3600), ..BOUNDS }, Duration::from_secs(3600)),
        (Bounds { age: Duration::from_secs(2), ..BOUNDS }, Duration::from_millis(150)),
    ] {
        let listener = Listener::start(bounds).await;
        let stream = TokioIo::new(listener.connect(&["h2", "http/1.1"]).await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
        let mut ended = tokio::spawn(connection);
        let (begun, mut answers) = (Instant::now(), 0);
        let end = loop {
            let request = Request::get("https://x/").body(Empty::new()).unwrap();
            // Control: it serves until then.
            if let Ok(answer) = sender.send_request(request).await {
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "here");
                answers += 1;
            }
            assert!(begun.elapsed() < PATIENCE, "not hung up on");
            tokio::select! {
                end = &mut ended => break end,
                () = tokio::time::sleep(pause.min(PATIENCE)) => {}
            }
        };
        assert!(end.unwrap().is_ok(), "in order");
        assert!(answers >= 1 && begun.elapsed() < PATIENCE, "{answers} {:?}", begun.elapsed());
        assert!(pause > PATIENCE || (answers > 3 && begun.elapsed() > Duration::from_millis(1900)), "{answers}");
    }
}

#[test]
fn the_bounds_that_ship_are_short() {
    let Bounds { handshake, header, answer, idle, age } = Bounds::default();
    assert!([handshake, header, answer].iter().all(|bound| *bound <= Duration::from_secs(30)));
    assert!(idle <= Duration::from_secs(60) && age <= Duration::from_secs(300));
}
