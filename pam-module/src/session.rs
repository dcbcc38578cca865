//! `open_session`: enforcement. Without a grant from this handle, for this very target, unexpired,
//! recorded and contained by the reaper, nothing starts. Every way out that is not
//! [`Outcome::Allowed`] is PAM_PERM_DENIED: sudo runs the command after PAM_SESSION_ERR.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::evidence::{GrantRecord, GrantRecordFormat, SignedStart, VERSION as RECORD_VERSION};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::statement::{StartKind, StartStatement, VERSION as STATEMENT_VERSION};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::reaper::{Joined, ReaperReply, ReaperRequest, Register};
use twinlock_protocol::{Bytes, DenyReason, limits};

use crate::account::{Outcome, World};
use crate::cgroup;
use crate::clock::{boot_ms, wall};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::facts;
use crate::grant_store::{Grant, GrantStore, Remembered};
use crate::link::{Link, LinkError, Peer};
use crate::refusal::Refusal;
use crate::session_key::failed;
use crate::signals::{Parent, Signals};
use crate::who::{self, Caller, Decision};

/// How long the reaper may take, all together, in milliseconds: it writes and fsyncs a record.
const REAPER_MS: u64 = 10_000;

/// Enforces one `open_session` call.
///
/// # Errors
/// The refusal.
pub fn open_session<S: Conversation + GrantStore>(
    session: &mut S,
    world: &World<'_>,
    caller: &Caller,
) -> Result<Outcome, Refusal> {
    match session.take() {
        Some(Remembered::Granted(grant)) => start(session, world, &grant),
        Some(Remembered::Asked) => Err(DenyReason::NoGrant.into()),
        Some(Remembered::Contained(leaf)) => {
            let passed = passes(session, world, caller)?;
            cgroup::return_to(&leaf, || Config::load(world.config, world.owner))?;
            // Another line of the stack may ask again.
            session.remember(Remembered::Contained(leaf))?;
            Ok(passed)
        }
        None => passes(session, world, caller),
    }
}

/// Nobody was asked in this handle: the rule of `account`, decided afresh.
fn passes(conversation: &dyn Conversation, world: &World<'_>, caller: &Caller) -> Result<Outcome, Refusal> {
    match who::decide(conversation, world.accounts, caller)? {
        Decision::Passes => Ok(Outcome::Allowed),
        Decision::AsksForSudo | Decision::AsksForSu => Err(DenyReason::NoGrant.into()),
    }
}

fn start<S: Conversation + GrantStore>(session: &mut S, world: &World<'_>, grant: &Grant) -> Result<Outcome, Refusal> {
    if session.user().as_deref() != Some(grant.request.target.user.as_str()) {
        return Err(DenyReason::TargetDiffers.into());
    }
    if boot_ms() >= grant.deadline_boot_ms || facts::boot_id()? != grant.request.boot_id {
        return Err(DenyReason::GrantOver.into());
    }
    let config = Config::load(world.config, world.owner)?;
    let signals = Signals::block(Parent::MayLeave)?;
    let register = register(grant)?;
    let peer = Peer { owner: world.owner, uid: config.reaper_uid };
    contain(&config, peer, &register, grant, world, &signals).map_err(refusal)?;
    Ok(Outcome::Allowed)
}

/// The registration: the record with the session key's word that the session starts, here and now.
fn register(grant: &Grant) -> Result<Register, Refusal> {
    let (process, _) = facts::process()?;
    let key = SigningKey::from_pkcs8(&grant.session_key).map_err(failed)?;
    let statement = StartStatement {
        kind: StartKind::Start,
        version: STATEMENT_VERSION,
        grant: grant.id.grant(),
        serial: grant.serial,
        boot_id: grant.request.boot_id.clone(),
        pid: process.pid,
        start_time: process.start_time,
        target_user: grant.request.target.user.clone(),
        started_at: wall(),
        deadline_boot_ms: grant.deadline_boot_ms,
    }
    .to_bytes();
    let signature = key.sign(&Domain::Start.message(&statement)).map_err(failed)?;
    let record = GrantRecord {
        format: GrantRecordFormat::GrantRecord,
        version: RECORD_VERSION,
        grant: grant.id.grant(),
        request: grant.signed.clone(),
        authority: grant.authority.clone(),
        start: SignedStart { statement: Bytes(statement), signature },
        end: None,
    };
    Ok(Register { wire: WIRE_VERSION, record, deadline_boot_ms: grant.deadline_boot_ms })
}

fn contain(
    config: &Config,
    peer: Peer,
    register: &Register,
    grant: &Grant,
    world: &World<'_>,
    signals: &Signals,
) -> Result<(), LinkError> {
    let give_up_at = boot_ms().saturating_add(REAPER_MS);
    let mut link = Link::connect(&config.reaper_socket, peer, signals)?;
    let internal =
        |error: rustix::io::Errno| Refusal::logging(DenyReason::ContainmentFailed, format!("pidfd: {error}"));
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).map_err(internal)?;
    let terminal = (world.terminal)().and_then(|terminal| terminal.for_warnings());
    let mut descriptors = vec![pidfd.as_fd()];
    descriptors.extend(terminal.as_ref().map(|device| device.as_fd()));
    link.send_with(&ReaperRequest::Register(Box::new(register.clone())), &descriptors, signals)?;
    match reply(&mut link, give_up_at, signals)? {
        ReaperReply::Registered(registered) => {
            cgroup::join(Path::new(&registered.cgroup), config, &grant.id.grant().to_string())?;
        }
        other => return Err(unexpected(&other)),
    }
    link.send(&JoinedFrame(Joined {}), signals)?;
    match reply(&mut link, give_up_at, signals)? {
        ReaperReply::Confirmed(_) => {}
        other => return Err(unexpected(&other)),
    }
    link.hold_until_exit();
    Ok(())
}

/// The second frame is a bare [`Joined`], as the wire says.
#[derive(serde::Serialize)]
#[serde(transparent)]
struct JoinedFrame(Joined);

fn reply(link: &mut Link, give_up_at: u64, signals: &Signals) -> Result<ReaperReply, LinkError> {
    loop {
        let now = boot_ms();
        if now >= give_up_at {
            return Err(Refusal::logging(DenyReason::ReaperUnavailable, "no answer in time").into());
        }
        if let Some(reply) = link.receive(limits::SMALL_FRAME_BYTES, give_up_at - now, signals)? {
            return Ok(reply);
        }
    }
}

fn unexpected(reply: &ReaperReply) -> LinkError {
    match reply {
        ReaperReply::Refused(refused) => LinkError::Ended(refused.reason.into()),
        _ => LinkError::Broken("an answer out of turn".to_owned()),
    }
}

fn refusal(error: LinkError) -> Refusal {
    match error {
        LinkError::Ended(refusal) => refusal,
        LinkError::Lost(_) | LinkError::NotTrusted(_) => Refusal::logging(DenyReason::ReaperUnavailable, error),
        LinkError::Broken(_) => Refusal::logging(DenyReason::WireMismatch, error),
    }
}
