//! Where the roster chain comes from: version 1 from the gateway's state, later versions from the
//! gateway. All of it claims, until [`super::chain`] has followed them.

use std::path::Path;

use twinlock_protocol::limits;
use twinlock_protocol::roster::RosterEnvelope;

use super::file::{EvidenceFile, FILE_BYTES};
use crate::api::admin::RostersPart;
use crate::cli::{Failure, admin, files};
use crate::enrol::seal::ROSTER_FILE;

/// Version 1, from a gateway's state directory or a copy of it.
///
/// # Errors
/// A [`Failure`].
pub fn first(state_dir: &Path) -> Result<RosterEnvelope, Failure> {
    let envelope = files::read(&state_dir.join(ROSTER_FILE), limits::ROSTER_ENVELOPE_BYTES as u64)?;
    Ok(RosterEnvelope::from_bytes(&envelope)?)
}

/// Every version that the gateway has, lowest first.
///
/// # Errors
/// A [`Failure`]: no file, no gateway.
pub fn all(state_dir: &Path, socket: &Path) -> Result<Vec<RosterEnvelope>, Failure> {
    let mut rosters = vec![first(state_dir)?];
    loop {
        let above = rosters.last().map_or(0, |envelope| envelope.version);
        let part: RostersPart = admin::get(socket, &format!("/v1/rosters?above={above}"))?;
        if part.envelopes.is_empty() {
            return Ok(rosters);
        }
        for bytes in part.envelopes {
            let envelope = RosterEnvelope::from_bytes(&bytes.0)?;
            // A gateway that hands over old ones again would keep us here for ever.
            if envelope.version <= above {
                return Err(Failure::plain("the gateway hands over the same rosters again"));
            }
            rosters.push(envelope);
        }
    }
}

/// The versions in an evidence file.
///
/// # Errors
/// A [`Failure`].
pub fn of_file(path: &Path) -> Result<Vec<RosterEnvelope>, Failure> {
    Ok(EvidenceFile::from_bytes(&files::read(path, FILE_BYTES as u64)?)?.rosters)
}
