//! Newer rosters: before a request is made, the agent is asked for versions above the pinned one;
//! each must follow from the one before by its people's signatures, and the newest is on disk before
//! anything is decided under it. What does not follow changes nothing, but for a line in the system
//! log. An agent that does not answer, or has nothing, delays nobody: the pinned roster stands.
#![forbid(unsafe_code)]

use std::path::Path;

use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::module::{AskRosters, ModuleEvent, ModuleMessage};
use twinlock_protocol::{Bytes, DenyReason, limits};

use crate::ask;
use crate::clock::boot_ms;
use crate::config::Config;
use crate::journal;
use crate::link::{Link, LinkError, Peer};
use crate::refusal::Refusal;
use crate::roster_slots;
use crate::signals::Signals;
use crate::trusted::Owner;

/// How long the agent may take for all its answers, in milliseconds.
const ANSWER_MS: u64 = 2_000;

/// Brings `roster` up to the newest version that the agent has, and hands back the connection for
/// the request. Where the agent is not there or leaves, the pinned roster stands: whether there is
/// an agent is for the request to find out.
///
/// # Errors
/// The requester gave up, the agent is not to be trusted or breaks the protocol, or a newer roster
/// can't be stored.
pub fn newest(
    config: &Config,
    owner: Owner,
    roster: &mut VerifiedRoster,
    signals: &Signals,
) -> Result<Option<Link>, Refusal> {
    let peer = Peer { owner, uid: config.agent_uid };
    let asked = Link::connect(&config.agent_socket, peer, signals).and_then(|mut link| {
        ask(&mut link, &config.roster_dir, owner, roster, signals)?;
        Ok(link)
    });
    match asked {
        Ok(link) => Ok(Some(link)),
        Err(LinkError::Lost(_) | LinkError::NotTrusted(_)) => Ok(None),
        Err(error) => Err(ask::refusal(error)),
    }
}

fn ask(
    link: &mut Link,
    directory: &Path,
    owner: Owner,
    roster: &mut VerifiedRoster,
    signals: &Signals,
) -> Result<(), LinkError> {
    let give_up_at = boot_ms().saturating_add(ANSWER_MS);
    loop {
        let ask = AskRosters { wire: WIRE_VERSION, above: roster.roster().version };
        link.send(&ModuleMessage::Rosters(ask), signals)?;
        let envelopes = loop {
            let left = give_up_at.saturating_sub(boot_ms());
            match link.receive(limits::FRAME_BYTES, left, signals)? {
                Some(ModuleEvent::Rosters(rosters)) => break rosters.envelopes,
                Some(_) => return Err(LinkError::Broken("it was asked for rosters".to_owned())),
                None if left == 0 => return Ok(()),
                None => {}
            }
        };
        let Some((newest, envelope)) = follow(roster, &envelopes) else { return Ok(()) };
        *roster = match roster_slots::adopt(directory, owner, &newest, &envelope) {
            // Another elevation was faster, or `host join` put another chain there: what is pinned
            // now counts, and the agent may have more above that.
            Err(refusal) if refusal.reason == DenyReason::RosterMismatch && boot_ms() < give_up_at => {
                roster_slots::load(directory, owner)?
            }
            stored => stored.map(|()| newest)?,
        };
    }
}

/// The last of these that follows, step by step.
fn follow(pinned: &VerifiedRoster, envelopes: &[Bytes]) -> Option<(VerifiedRoster, RosterEnvelope)> {
    let mut newest: Option<(VerifiedRoster, RosterEnvelope)> = None;
    for bytes in envelopes.iter().take(limits::ROSTER_STEPS) {
        let head = newest.as_ref().map_or(pinned, |(head, _)| head);
        let next = RosterEnvelope::from_bytes(&bytes.0).map_err(|error| error.to_string()).and_then(|envelope| {
            match head.successor(&envelope) {
                Ok(next) => Ok((next, envelope)),
                Err(error) => Err(error.to_string()),
            }
        });
        match next {
            Ok(next) => newest = Some(next),
            // What comes after it follows even less.
            Err(error) => {
                journal::refused("a newer roster", &Refusal::logging(DenyReason::RosterChain, error));
                break;
            }
        }
    }
    newest
}
