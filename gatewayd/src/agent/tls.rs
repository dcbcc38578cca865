//! TLS 1.3 to the gateway, without any CA: the gateway proves a key, and the link decides what may
//! be said to whoever holds it ([`peer_key`]); the agent shows a self-signed certificate over its
//! own key, which the roster names. No resumption: every connection proves both keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};
use twinlock_protocol::Digest;
use twinlock_protocol::bytes::Fixed;
use twinlock_protocol::ids::HostId;
use twinlock_protocol::wire::agent::ALPN;
use zeroize::Zeroizing;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key file cannot be read.
    #[error("cannot read the agent's key {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key is no P-256 key in PKCS #8, or no certificate could be made over it.
    #[error("the agent's key cannot be used")]
    Certificate(#[from] rcgen::Error),
    /// rustls refuses the combination.
    #[error("TLS cannot be set up")]
    Rustls(#[from] Error),
}

/// The client side of the link. systemd opens a credential to its service by an access list, whose mask
/// shows as readable by the group.
///
/// # Errors
/// [`TlsError`].
pub fn client(host: &HostId, key: &Path, credential: bool) -> Result<Arc<ClientConfig>, TlsError> {
    let der = read_key(key, if credential { 0o037 } else { 0o077 })
        .map_err(|source| TlsError::Key { path: key.into(), source })?;
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(der.as_slice()),
        &rcgen::PKCS_ECDSA_P256_SHA256,
    )?;
    let certificate = certificate(host, &pair)?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey { provider }))
        .with_client_auth_cert(vec![certificate], PrivatePkcs8KeyDer::from(der.to_vec()).into())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The client side of a machine that no roster knows, for another protocol on the same listener: the
/// caller compares [`peer_key`] with the one that it was given.
///
/// # Errors
/// [`TlsError`].
pub fn stranger(alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey { provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Reads a key whose mode has none of the `forbidden` bits.
fn read_key(path: &Path, forbidden: u32) -> std::io::Result<Zeroizing<Vec<u8>>> {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    let mut file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    if meta.mode() & forbidden != 0 {
        return Err(std::io::Error::other("it is readable by others than its owner: chmod 600"));
    }
    // At once in its full size: growing would leave copies behind.
    let mut der = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).saturating_add(1)));
    file.read_to_end(&mut der)?;
    Ok(der)
}

/// A certificate over the agent's own key. Only its key says anything; the dates are wide because
/// the key's life is the roster entry's.
fn certificate(host: &HostId, pair: &rcgen::KeyPair) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("twinlock agent {host}"));
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.self_signed(pair)?.der().clone())
}

/// The key that the peer has proved: SHA-256 of its SubjectPublicKeyInfo, DER.
#[must_use]
pub fn peer_key(connection: &rustls::ClientConnection) -> Option<Fixed<32>> {
    key_of(connection.peer_certificates()?.first()?)
}

fn key_of(certificate: &CertificateDer<'_>) -> Option<Fixed<32>> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    rest.is_empty().then(|| Digest::plain(certificate.public_key().raw).0)
}

/// Accepts any key, whatever the certificate around it says; the handshake's signature, which proves
/// that the peer holds it, is checked in full. Whose key it is, is asked afterwards: a gateway that
/// nobody knows yet may hand over the roster that lists it.
#[derive(Debug)]
struct AnyKey {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        key_of(end_entity).ok_or(CertificateError::BadEncoding)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.key");
        std::fs::write(&path, b"key").unwrap();
        let at = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        for (mode, used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            at(mode);
            assert_eq!(read_key(&path, 0o077).is_ok(), used, "{mode:o}");
        }
        for (mode, used) in [(0o440, true), (0o460, false), (0o404, false)] {
            at(mode);
            assert_eq!(read_key(&path, 0o037).is_ok(), used, "{mode:o}, from systemd");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_key(&path, 0o077).unwrap().as_slice(), b"key");
    }
}
