//! TLS: 1.3 only, ring only, no resumption and no tickets on the agent port. A host's agent is known
//! by the key of its client certificate, which the roster names; there is no agent CA.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::roster::Rosters;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use twinlock_protocol::ids::HostId;
use twinlock_protocol::wire::agent::ALPN;
use twinlock_protocol::{Digest, Fixed};
use x509_parser::prelude::{FromDer, X509Certificate};

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Key and certificate do not belong together, or cannot be used.
    #[error("key and certificate cannot be used")]
    Rustls(#[from] rustls::Error),
    /// The listener's own certificate could not be made.
    #[error("the agent listener's certificate could not be made")]
    Certificate(#[from] rcgen::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The approver listener's TLS, from PEM files.
///
/// # Errors
/// [`TlsError`].
pub fn approver_config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let pem = |path: &Path, reason: String| TlsError::Pem { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem(cert, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| pem(key, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What agents pin of the agent listener: SHA-256 of its key's SubjectPublicKeyInfo.
///
/// # Errors
/// [`TlsError`].
pub fn agent_key_pin(gateway_key: &Path) -> Result<Digest, TlsError> {
    use rcgen::PublicKeyData as _;
    let der = std::fs::read(gateway_key).map_err(|source| TlsError::Read { path: gateway_key.to_owned(), source })?;
    Ok(Digest::plain(&rcgen::KeyPair::try_from(der.as_slice())?.subject_public_key_info()))
}

/// The agent listener's TLS: a self-signed certificate over `gateway.key` (PKCS #8, DER; agents pin
/// the key), and client certificates over the roster's agent keys.
///
/// # Errors
/// [`TlsError`].
pub fn agent_config(gateway_key: &Path, agents: Arc<RosterAgents>) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificate, key) = own_certificate(gateway_key)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(agents)
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the look at the roster.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The same for hosts that join: the same key, no client certificate, another protocol name.
///
/// # Errors
/// [`TlsError`].
pub fn join_config(gateway_key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificate, key) = own_certificate(gateway_key)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![super::join::ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn own_certificate(gateway_key: &Path) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
    let der = std::fs::read(gateway_key).map_err(|source| TlsError::Read { path: gateway_key.to_owned(), source })?;
    let key = rcgen::KeyPair::try_from(der.as_slice())?;
    // Nobody reads names or times in it: the key is all that counts.
    let mut parameters = rcgen::CertificateParams::new(vec!["twinlock-gateway".to_owned()])?;
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2099, 12, 31);
    let certificate = parameters.self_signed(&key)?.der().clone();
    Ok((certificate, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
}

/// Which host a client certificate's key belongs to, by the roster as it is now.
#[derive(Debug)]
pub struct RosterAgents {
    rosters: Arc<Rosters>,
    provider: Arc<CryptoProvider>,
}

impl RosterAgents {
    /// The agent keys of the head.
    #[must_use]
    pub fn new(rosters: Arc<Rosters>) -> Arc<Self> {
        Arc::new(Self { rosters, provider: provider() })
    }

    /// The host of a client certificate.
    #[must_use]
    pub fn host_of(&self, certificate: &CertificateDer<'_>) -> Option<HostId> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let key: [u8; 65] = parsed.public_key().subject_public_key.data.as_ref().try_into().ok()?;
        let head = self.rosters.head();
        head.hosts.iter().find(|host| host.agent_key == Fixed(key)).map(|host| host.id.clone())
    }
}

impl ClientCertVerifier for RosterAgents {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.host_of(end_entity) {
            Some(_host) => Ok(ClientCertVerified::assertion()),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
