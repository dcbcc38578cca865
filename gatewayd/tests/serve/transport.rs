//! TLS and HTTP as clients other than our own see them.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
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

type Joining = tokio_util::codec::Framed<TlsStream<TcpStream>, tokio_util::codec::LengthDelimitedCodec>;

/// A host at the join port, from an address of its own.
async fn knock(gateway: &Gateway, from: [u8; 4]) -> Option<Joining> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let tcp = socket.connect(gateway.running.agents).await.unwrap();
    let mut config =
        client_builder().dangerous().with_custom_certificate_verifier(Arc::new(AnyGateway)).with_no_client_auth();
    config.alpn_protocols = vec![twinlock_gatewayd::api::join::ALPN.to_vec()];
    let name = ServerName::try_from("twinlock-gateway").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
    Some(tokio_util::codec::LengthDelimitedCodec::builder().length_field_length(4).new_framed(stream))
}

/// Says hello with the token's secret; the gateway's first answer, none when it hangs up.
async fn say_hello(frames: &mut Joining, hello: &twinlock_gatewayd::roster::JoinHello) -> Option<serde_json::Value> {
    // A gateway that hung up already takes nothing.
    let _hung_up = frames.send(Body::from(twinlock_protocol::codec::encode(hello))).await;
    let answer = frames.next().await?.ok()?;
    Some(serde_json::from_slice(&answer).unwrap())
}

/// Catalogue: N4 (control: inline)
#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_hold_the_places_of_hosts_that_join() {
    use twinlock_gatewayd::roster::JoinHello;
    let site = Site::new();
    let gateway = Gateway::start(&site).await;
    let host = twinlock_protocol::ids::HostId::new("web02").unwrap();
    let made = gateway.running.changes.host_token(host.clone(), "web02".into(), Vec::new(), 0).await.unwrap();
    let keys = [0, 1].map(|_| twinlock_protocol::signature::SigningKey::generate().unwrap().0);
    let message = JoinHello::message(&made.secret, &host, &keys[0].public(), &keys[1].public());
    let hello = JoinHello {
        version: 1,
        secret: made.secret,
        host,
        host_key: keys[0].public(),
        agent_key: keys[1].public(),
        host_signature: keys[0].sign(&message).unwrap(),
        agent_signature: keys[1].sign(&message).unwrap(),
    };
    let (crowded, own) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let mut first = knock(&gateway, crowded).await.unwrap();
    assert!(say_hello(&mut first, &hello).await.unwrap()["waiting"].is_object());
    // Strangers who say nothing, until the gateway takes no more from that address.
    let mut silent = Vec::new();
    loop {
        let mut frames = knock(&gateway, crowded).await.unwrap();
        let heard = tokio::time::timeout(std::time::Duration::from_millis(300), frames.next()).await;
        if heard.is_ok() {
            break;
        }
        silent.push(frames);
    }
    assert_eq!(silent.len(), 8, "whoever has shown a token has a place of its own");
    // Control: from another address there is room, and the same host takes its own place over.
    let mut again = knock(&gateway, own).await.unwrap();
    assert!(say_hello(&mut again, &hello).await.unwrap()["waiting"].is_object());
    assert!(!matches!(first.next().await, Some(Ok(_))), "the connection of before is hung up on");
    let proposals = gateway.running.changes.open_proposals().await.unwrap().0;
    assert_eq!(proposals.len(), 1);
}
