//! Typed ids. An id that names a thing in the roster is lower-case ASCII from a closed alphabet,
//! so that it can stand in a path, a URN, a log line or a cgroup name without escaping.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::base;
use crate::bytes::{Bytes, Fixed};
use crate::digest::{Digest, Domain};
use crate::limits;

/// Whether a list of a roster's changes says this word where there is no name: `any` where a rule
/// names nothing, `none` where a list is empty or a value is not there. So nothing has it for a name.
#[must_use]
pub(crate) fn is_reserved(text: &str) -> bool {
    ["any", "none"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    !is_reserved(text)
        && text.len() <= limits::ID_BYTES
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! name_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks the alphabet: `[a-z0-9][a-z0-9._-]{0,63}`, but for reserved words.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                is_name(text).then(|| Self(text.to_owned()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).ok_or_else(|| de::Error::custom("not an id: [a-z0-9][a-z0-9._-]{0,63}"))
            }
        }
    )*};
}

name_ids! {
    /// A person of the roster. Distinctness of approvers is by this.
    PersonId;
    /// One enrolled device (one browser profile, one terminal client) of a person.
    DeviceId;
    /// A host, as enrolled. Never a host name that somebody claims.
    HostId;
    /// A group of persons or of hosts.
    GroupName;
    /// A certification authority's entry in the roster.
    CaId;
}

/// The id of an elevation request: its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Digest);

impl RequestId {
    /// The grant that this request can become: there is at most one (T4).
    #[must_use]
    pub fn grant(&self) -> GrantId {
        let mut head = [0; 16];
        for (to, from) in head.iter_mut().zip(self.0.as_bytes()) {
            *to = *from;
        }
        GrantId(head)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.grant().fmt(f)
    }
}

/// A grant: the first 128 bits of its request's digest, as 26 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId([u8; 16]);

impl GrantId {
    /// Reads the 26 characters that [`fmt::Display`] writes.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let bytes = base::from_base32(&text.to_ascii_uppercase())?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base::to_base32(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for GrantId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GrantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| de::Error::custom("not a grant id"))
    }
}

/// A ticket: 128 random bits as 26 upper-case characters `[A-Z2-7]`, the only secret in a QR.
/// Stored and signed only as its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// From 16 random bytes.
    #[must_use]
    pub fn from_random(random: &[u8; 16]) -> Self {
        Self(base::to_base32(random))
    }

    /// Checks `[A-Z2-7]{26}` with zero trailing bits.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let bytes = base::from_base32(text)?;
        (bytes.len() == 16).then(|| Self(text.to_owned()))
    }

    /// The 26 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash under which a ticket is stored, and which statements name.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(Domain::Ticket, self.0.as_bytes())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a ticket")
    }
}

impl Serialize for Ticket {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Ticket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| de::Error::custom("not a ticket"))
    }
}

/// An X.509 certificate serial number: 16 bytes, positive, not zero (RFC 5280 §4.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertSerial(pub Fixed<16>);

impl CertSerial {
    /// From 16 random bytes: the top bit is cleared so that DER needs no padding, the next one set
    /// so that the number always has 16 bytes.
    #[must_use]
    pub fn from_random(mut random: [u8; 16]) -> Self {
        if let Some(first) = random.first_mut() {
            *first = (*first & 0x7f) | 0x40;
        }
        Self(Fixed(random))
    }
}

impl fmt::Display for CertSerial {
    /// Colon-separated lower-case hexadecimal, as openssl prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.0.iter().enumerate() {
            if i > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A WebAuthn credential id: 1 to 1023 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialId(pub Bytes);

/// The six digits that the terminal shows and an approver types in the inbox.
#[derive(Clone, PartialEq, Eq)]
pub struct TerminalCode(String);

impl TerminalCode {
    /// From a random number; the caller draws it without bias below one million.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        (number < 1_000_000).then(|| Self(format!("{number:06}")))
    }

    /// Reads six digits, with or without one space in the middle.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ' ').collect();
        (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(Self(digits))
    }

    /// The commitment that a request carries: the gateway can check a guess, but not read the code.
    #[must_use]
    pub fn commitment(&self, salt: &Fixed<16>) -> Digest {
        Digest::of_parts(Domain::TerminalCode, &[&salt.0, self.0.as_bytes()])
    }
}

impl fmt::Display for TerminalCode {
    /// `418 302`, as the terminal shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, tail) = self.0.split_at(3);
        write!(f, "{head} {tail}")
    }
}

impl fmt::Debug for TerminalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a terminal code")
    }
}
