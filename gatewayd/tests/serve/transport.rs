//! TLS and HTTP as clients other than our own see them.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes as Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use twinlock_protocol::wire::agent::ALPN;

use crate::support::{AnyGateway, Gateway, Site, client_builder};

async fn connect(config: &Arc<ClientConfig>, address: SocketAddr, name: &str) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, tcp).await.unwrap()
}

/// Connects twice with one client's memory; how the second handshake went.
async fn second_handshake(config: ClientConfig, address: SocketAddr, name: &str) -> HandshakeKind {
    let config = Arc::new(config);
    let mut first = connect(&config, address, name).await;
    // Tickets come after the handshake: read until there is nothing more.
    let wait = std::time::Duration::from_millis(200);
    let _nothing_said = tokio::time::timeout(wait, first.read(&mut [0; 1])).await;
    let second = connect(&config, address, name).await;
    second.get_ref().1.handshake_kind().unwrap()
}

fn phone(site: &Site, alpn: &[u8]) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(site.web_ca.clone())).unwrap();
    let mut config = client_builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_session_is_never_resumed() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let key = rcgen::KeyPair::try_from(site.fixture.agent_key_pkcs8.as_slice()).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["web01".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = client_builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyGateway))
        .with_client_auth_cert(vec![certificate.der().clone()], private)
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let kind = second_handshake(config, gateway.running.agents, "twinlock-gateway").await;
    assert_eq!(kind, HandshakeKind::Full);
    // Control: this client does resume where it is given a ticket.
    let kind = second_handshake(phone(&site, b"http/1.1"), gateway.running.approver, "tl.example.org").await;
    assert_eq!(kind, HandshakeKind::Resumed);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_is_refused_on_both_listeners() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    for address in [gateway.running.approver, gateway.running.agents] {
        let works = |version: &str| {
            let client = Command::new("openssl")
                .args(["s_client", version, "-connect", &address.to_string()])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            String::from_utf8_lossy(&client.stdout).contains("Server certificate\n-----BEGIN CERTIFICATE-----")
        };
        assert!(!works("-tls1_2"), "{address}");
        assert!(works("-tls1_3"), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_over_http_2_with_the_same_rules() {
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let config = Arc::new(phone(&site, b"h2"));
    let tls = connect(&config, gateway.running.approver, "tl.example.org").await;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    let driver = tokio::spawn(connection);
    for (authority, status) in [("tl.example.org", 200), ("evil.example", 403)] {
        let request = Request::get(format!("https://{authority}/api/v1/me")).body(Empty::<Body>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{authority}");
        response.into_body().collect().await.unwrap();
    }
    driver.abort();
}
