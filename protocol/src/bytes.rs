//! Byte strings in JSON: base64url without padding (RFC 4648 §5), decoded strictly: no padding,
//! no white space, no non-zero trailing bits, so every value has one spelling.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base;

/// A byte string of any length, base64url in JSON.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

/// A byte string of exactly `N` bytes, base64url in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fixed<const N: usize>(pub [u8; N]);

impl Bytes {
    /// The base64url text of these bytes.
    #[must_use]
    pub fn to_text(&self) -> String {
        base::to_base64url(&self.0)
    }
}

impl<const N: usize> Fixed<N> {
    /// The base64url text of these bytes.
    #[must_use]
    pub fn to_text(&self) -> String {
        base::to_base64url(&self.0)
    }

    /// Reads base64url text of exactly `N` bytes.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = base::from_base64url(text)?;
        bytes.try_into().ok().map(Self)
    }
}

impl<const N: usize> AsRef<[u8]> for Fixed<N> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const N: usize> fmt::Debug for Fixed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

struct TextVisitor;

impl de::Visitor<'_> for TextVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64url text without padding")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        base::from_base64url(text).ok_or_else(|| E::custom("not base64url without padding"))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Self)
    }
}

impl<const N: usize> Serialize for Fixed<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_str(TextVisitor)?;
        bytes.try_into().map(Self).map_err(|bytes: Vec<u8>| de::Error::invalid_length(bytes.len(), &"another length"))
    }
}
