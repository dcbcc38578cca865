//! ECDSA on P-256 with SHA-256 by ring: the one place that names the algorithm. Public keys are
//! SEC1 uncompressed points (65 bytes); our own signatures are `r ‖ s` (64 bytes, as WebCrypto
//! makes them), WebAuthn's are DER.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};

use crate::bytes::Fixed;

/// A public key: P-256, SEC1 uncompressed.
pub type PublicKey = Fixed<65>;
/// A signature of ours: `r ‖ s`, 32 bytes each, big-endian.
pub type Signature = Fixed<64>;

/// A key could not be made, read or used. Says nothing about its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the P-256 key could not be made, read or used")]
pub struct KeyError;

/// The key's x coordinate. The one other point of the curve that has it is this one's mirror image,
/// and whoever holds the private half of one holds that of the other: keys are told apart by this,
/// never by all their bytes.
#[must_use]
pub fn x(key: &PublicKey) -> &[u8] {
    key.0.get(1..33).unwrap_or_default()
}

/// Whether a key stands in both lists, in whatever spelling.
#[must_use]
pub fn any_in_common(one: &[Option<PublicKey>], other: &[Option<PublicKey>]) -> bool {
    one.iter().flatten().any(|key| other.iter().flatten().any(|theirs| x(key) == x(theirs)))
}

/// Whether `signature` is this key's over `message`.
#[must_use]
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.0).verify(message, &signature.0).is_ok()
}

/// Whether the DER `signature` is this key's over `message` (WebAuthn §6.5.5, ES256).
#[must_use]
pub fn verify_der(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.0).verify(message, signature).is_ok()
}

/// A P-256 private key that signs: a host key, a session key.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    random: SystemRandom,
}

impl SigningKey {
    /// Makes a new key; returns it with its PKCS #8 form (RFC 5958, DER), which the caller stores
    /// 0600 or zeroizes.
    ///
    /// # Errors
    /// [`KeyError`] when the system's random source fails.
    pub fn generate() -> Result<(Self, Vec<u8>), KeyError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(|_| KeyError)?;
        let key = Self::from_pkcs8(pkcs8.as_ref())?;
        Ok((key, pkcs8.as_ref().to_vec()))
    }

    /// Reads a PKCS #8 key (DER).
    ///
    /// # Errors
    /// [`KeyError`] when it is not a P-256 private key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).map_err(|_| KeyError)?;
        let public = pair.public_key().as_ref().try_into().map(Fixed).map_err(|_| KeyError)?;
        Ok(Self { pair, public, random })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`KeyError`] when the system's random source fails.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, KeyError> {
        let signature = self.pair.sign(&self.random, message).map_err(|_| KeyError)?;
        signature.as_ref().try_into().map(Fixed).map_err(|_| KeyError)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the private half of {:?}", self.public)
    }
}
