//! The join token: what a host needs to know to trust a roster and find its gateway. It names a
//! digest, and the roster names the host's keys: it grants nothing. What matters is that it reaches
//! the host unchanged, so it is printed by a machine that knows the roster and carried by a person.
//! One for a running gateway has a secret besides, good for one host; what it leads to is a proposal.

use serde::{Deserialize, Serialize};
use twinlock_protocol::ids::HostId;
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::{Bytes, Digest, Fixed, codec};

use super::Failure;

const PREFIX: &str = "twinlock-join-1.";
const LONGEST: usize = 4096;

/// A join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// Which host.
    pub host: HostId,
    /// The gateway's agent port, `name:port`.
    pub gateway: String,
    /// SHA-256 of the gateway's SubjectPublicKeyInfo (DER).
    pub gateway_key: Fixed<32>,
    /// The digest of the roster to pin.
    pub roster: Digest,
    /// With it, this host asks a running gateway to be taken into the roster.
    pub secret: Option<Fixed<32>>,
}

impl JoinToken {
    /// The token's text: one word of ASCII.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", Bytes(codec::encode(self)).to_text())
    }

    /// Reads a token.
    ///
    /// # Errors
    /// A [`Failure`]: mistyped, cut, or of another kind.
    pub fn from_text(text: &str) -> Result<Self, Failure> {
        let wrong =
            || Failure::new("this is no join token", "copy the whole word that twinlock init printed for this host");
        let encoded = text.trim().strip_prefix(PREFIX).ok_or_else(wrong)?;
        let bytes: Bytes = serde_json::from_value(encoded.into()).map_err(|_| wrong())?;
        codec::decode_canonical("token", LONGEST, &bytes.0).map_err(|_| wrong())
    }
}

/// The pin of a TLS key: SHA-256 of its SubjectPublicKeyInfo.
#[must_use]
pub fn key_pin(key: &PublicKey) -> Fixed<32> {
    Digest::plain(&twinlock_certs::profile::subject_public_key_info(key)).0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_reads_back_and_a_damaged_one_does_not() {
        let token = JoinToken {
            host: HostId::new("web01").unwrap(),
            gateway: "gw.example.org:8444".into(),
            gateway_key: Fixed([7; 32]),
            roster: Digest::plain(b"roster"),
            secret: Some(Fixed([8; 32])),
        };
        let text = token.to_text();
        assert_eq!(JoinToken::from_text(&text).unwrap(), token);
        assert_eq!(JoinToken::from_text(&format!(" {text}\n")).unwrap(), token);
        for wrong in [&text[1..], &text[..text.len() - 2], "", &format!("{text}A")] {
            assert!(JoinToken::from_text(wrong).is_err(), "{wrong}");
        }
    }
}
