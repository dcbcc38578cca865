//! Attestation roots: the makers' certificates at which an authenticator's attestation must end for
//! its device to count as attested (assurance A). Read from PEM files that an administrator chose;
//! none are built in.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use twinlock_protocol::{Bytes, Digest};
use webauthn_rs_core::proto::AttestationCaList;

use super::passkey::RegistrarError;

/// The roots of these PEM files, each allowed for every model of its maker.
///
/// # Errors
/// [`RegistrarError::Root`] when a file holds no certificate.
pub fn roots(files: &[Vec<u8>]) -> Result<AttestationCaList, RegistrarError> {
    let mut entries = serde_json::Map::new();
    for pem in files {
        let before = entries.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let der = certificate.map_err(|_| RegistrarError::Root)?;
            let entry = json!({ "ca": Bytes::from(der.as_ref()).to_text(), "aaguids": {}, "blanket_allow": true });
            entries.insert(Digest::plain(&der).0.to_text(), entry);
        }
        if entries.len() == before {
            return Err(RegistrarError::Root);
        }
    }
    // The library has no maker for a list that allows every model; its serialised form does.
    serde_json::from_value(json!({ "cas": entries })).map_err(|_| RegistrarError::Root)
}
