//! The record of the last break-glass drill, as `twinlock break-glass drill` writes it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use twinlock_protocol::codec::{self, DecodeError};
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::signature::PublicKey;
use twinlock_protocol::{Digest, UnixTime};

/// Where it lies below the root.
pub const PATH: &str = "var/lib/twinlock/break-glass/drill.json";
/// More than two persons and two keys need.
const LONGEST: usize = 16 * 1024;
/// How long a drill counts, in seconds.
pub const GOOD_FOR_S: u64 = 90 * 24 * 3600;

/// A drill: two persons signed offline with these keys, and this host verified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// 1.
    pub version: u32,
    /// When it was verified.
    pub when: UnixTime,
    /// Who signed.
    pub persons: Vec<PersonId>,
    /// With which keys.
    pub keys: Vec<PublicKey>,
    /// The roster that named them.
    pub roster_digest: Digest,
}

/// There is no drill that can be read.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The file can't be read; often there is none.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something else.
    #[error("{}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
}

/// Reads the record below `root`.
///
/// # Errors
/// [`DrillError`].
pub fn read(root: &Path) -> Result<Drill, DrillError> {
    let path = root.join(PATH);
    let bytes = std::fs::read(&path).map_err(|source| DrillError::Io { path: path.clone(), source })?;
    let drill: Drill = codec::decode("drill", LONGEST, &bytes)
        .map_err(|source| DrillError::Malformed { path: path.clone(), source })?;
    if drill.version != 1 {
        let source = DecodeError::Invalid { what: "drill", rule: "version is 1" };
        return Err(DrillError::Malformed { path, source });
    }
    Ok(drill)
}
