//! The other ends: a web certificate, an HTTPS client, a phone that takes part in a ceremony, and
//! `twinlock init` as a child process whose JSON lines are read.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes as Body;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use twinlock_protocol::Bytes;
use twinlock_protocol::digest::Domain;
use twinlock_protocol::roster::Roster;
use twinlock_protocol::softphone::Phone;
use twinlock_protocol::statement::{ROSTER_DOMAINS, RosterKind, RosterStatement};

pub const HOST: &str = "tl.example.test";

pub fn twinlock() -> Command {
    Command::new(env!("CARGO_BIN_EXE_twinlock"))
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A directory with a web certificate, and everything that the commands make.
pub struct Place {
    pub dir: tempfile::TempDir,
    web: Vec<u8>,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(dir.path().join("web.crt"), certificate.pem()).unwrap();
        std::fs::write(dir.path().join("web.key"), key.serialize_pem()).unwrap();
        Self { dir, web: certificate.der().to_vec() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// A host of its own directory, prepared.
    pub fn prepare(&self, name: &str) -> PathBuf {
        let out = self.path(&format!("{name}.json"));
        let output = twinlock()
            .args(["host", "prepare", "--agent-user", "root", "--group", "web", "--name", name, "--etc-dir"])
            .arg(self.path(name))
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        out
    }

    /// `twinlock init` on a free port, with these hosts; add arguments before it is started.
    pub fn init(&self, hosts: &[&Path]) -> Command {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = twinlock();
        command
            .args(["init", "--json", "--yes", "--owner", "root", "--gateway", "gw.example.test:8444"])
            .arg("--origin")
            .arg(format!("https://{HOST}:{port}"))
            .arg("--listen")
            .arg(format!("127.0.0.1:{port}"))
            .arg("--tls-cert")
            .arg(self.path("web.crt"))
            .arg("--tls-key")
            .arg(self.path("web.key"))
            .arg("--state-dir")
            .arg(self.path("state"));
        for host in hosts {
            command.arg("--host").arg(host);
        }
        for person in ["alice=Alice:alice:requester", "bob=Bob Jones:bob,bjones:approver", "carol=Carol:carol:both"] {
            command.args(["--person", person]);
        }
        command
    }

    pub fn start(&self, command: &mut Command) -> Ceremony {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut ceremony = Ceremony {
            child,
            lines,
            web: self.web.clone(),
            origin: String::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let listening = ceremony.until("listening");
        ceremony.origin = listening["origin"].as_str().unwrap().to_owned();
        ceremony.address = listening["address"].as_str().unwrap().parse().unwrap();
        ceremony
    }
}

/// A running `twinlock init`.
pub struct Ceremony {
    child: Child,
    lines: BufReader<ChildStdout>,
    web: Vec<u8>,
    pub origin: String,
    address: SocketAddr,
}

impl Drop for Ceremony {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ceremony {
    /// The next line with this event; others are passed over.
    #[track_caller]
    pub fn until(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                let mut error = String::new();
                let mut stderr = self.child.stderr.take().unwrap();
                std::io::Read::read_to_string(&mut stderr, &mut error).unwrap();
                panic!("the ceremony ended before {event}: {error}");
            }
            let value: Value = serde_json::from_str(&line).unwrap();
            if value["event"] == event {
                return value;
            }
        }
    }

    /// A person's invite, by the link that the terminal shows, and a phone for them.
    pub fn guest(&mut self) -> Guest {
        let invite = self.until("invite");
        let id = invite["person"]["id"].as_str().unwrap().to_owned();
        let url = invite["url"].as_str().unwrap();
        let secret = url.strip_prefix(&format!("{}/E/", self.origin)).unwrap().to_owned();
        Guest { phone: Phone::new(&id, &format!("{id}-1")), invite: secret }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end: whether it succeeded, and what it said on standard error.
    pub fn wait(&mut self) -> (bool, String) {
        let status = self.child.wait().unwrap();
        let mut error = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut error).unwrap();
        }
        (status.success(), error)
    }

    /// A call as our page makes it.
    pub fn call(&self, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("content-type", "application/json"), ("x-twinlock", "1"), ("origin", &self.origin)];
        let (status, bytes) = self.send("POST", path, &headers, body.to_string().as_bytes());
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// One exchange over TLS.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from(self.web.clone())).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let mut request = Request::builder().method(method).uri(path);
            if !headers.iter().any(|(name, _)| *name == "host") {
                request = request.header("host", &self.origin[8..]);
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(Body::copy_from_slice(body))).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
        })
    }
}

/// Somebody with a link and a phone.
pub struct Guest {
    pub phone: Phone,
    pub invite: String,
}

impl Guest {
    pub fn start(&self, ceremony: &Ceremony) -> Value {
        let (status, body) = ceremony.call("/api/v1/enrol/start", &json!({ "invite": self.invite }));
        assert_eq!(status, 200, "{body}");
        body
    }

    pub fn enrol(&self, ceremony: &Ceremony) -> (u16, Value) {
        let start = self.start(ceremony);
        assert_eq!(start["state"], "enrol");
        let creation = &start["creation"];
        assert_eq!(creation["rp"]["id"], HOST);
        assert_eq!(creation["pubKeyCredParams"], json!([{ "type": "public-key", "alg": -7 }]));
        assert_eq!(creation["authenticatorSelection"]["userVerification"], "required");
        assert_eq!(creation["authenticatorSelection"]["residentKey"], "required");
        let challenge: Bytes = serde_json::from_value(creation["challenge"].clone()).unwrap();
        let form = self.phone.honest_registration(HOST, &ceremony.origin, &challenge.0);
        let (data, client_data_json) = self.phone.registration(&form);
        ceremony.call(
            "/api/v1/enrol/finish",
            &json!({
                "enrol": start["enrol"],
                "registration": {
                    "credential_id": self.phone.device.credential_id,
                    "attestation_object": Bytes(Phone::unattested(&data)),
                    "client_data_json": Bytes(client_data_json),
                },
                "device_key": self.phone.device.device_key,
                "device_proof": self.phone.device_sign(Domain::Claim, &challenge.0),
                "label": self.phone.device.label,
            }),
        )
    }

    pub fn status(&self, ceremony: &Ceremony) -> Value {
        let (status, body) = ceremony.call("/api/v1/enrol/status", &json!({ "invite": self.invite }));
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Signs what the page shows, after the page's own checks.
    pub fn sign(&self, ceremony: &Ceremony) -> (u16, Value) {
        let status = self.status(ceremony);
        assert_eq!(status["state"], "sign");
        let bytes: Bytes = serde_json::from_value(status["roster"]["bytes"].clone()).unwrap();
        let roster = Roster::from_bytes(&bytes.0).unwrap();
        let digest = Roster::digest_of(&bytes.0);
        assert_eq!(status["statement"]["roster_digest"], json!(digest));
        let field = |name: &str| status["statement"][name].clone();
        let statement = RosterStatement {
            kind: RosterKind::Roster,
            version: 1,
            roster_version: roster.version,
            roster_digest: digest,
            person: serde_json::from_value(field("person")).unwrap(),
            credential_id: serde_json::from_value(field("credential_id")).unwrap(),
            device_id: serde_json::from_value(field("device_id")).unwrap(),
            gateway_salt: serde_json::from_value(field("gateway_salt")).unwrap(),
        };
        let signed = self.phone.sign(&roster, ROSTER_DOMAINS, &statement.to_bytes());
        ceremony.call("/api/v1/enrol/sign", &json!({ "invite": self.invite, "signed": signed }))
    }
}
