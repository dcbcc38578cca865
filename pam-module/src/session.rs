//! Containment and enforcement. At the end of `account` a grant is registered at the reaper: its record
//! is on disk and this process in the grant's leaf before sudo may go on, so that it holds where
//! `Defaults !pam_session` leaves the session phase out, too. `open_session` then enforces: without a
//! grant from this handle, for this very target, unexpired, under the roster that is still pinned,
//! contained, and noted by the reaper as opened, nothing starts. Every way out of it that is not [`Outcome::Allowed`] is
//! PAM_PERM_DENIED: sudo runs the command after PAM_SESSION_ERR.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::process::{PidfdFlags, getpid, pidfd_open};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::evidence::{GrantRecord, GrantRecordFormat, SignedStart, VERSION as RECORD_VERSION};
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::statement::{StartKind, StartStatement, VERSION as STATEMENT_VERSION};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::reaper::{Joined, Opened, ReaperRequest, Register, RegisterReply};
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
use crate::roster_slots;
use crate::session_key::failed;
use crate::signals::Signals;
use crate::terminal::Terminal;
use crate::trusted::Owner;
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
    let load = || Config::load(world.config, world.owner);
    match session.take() {
        Some(Remembered::Granted(grant, leaf)) => {
            let config = load()?;
            check(session, world, &config, &grant)?;
            // pam_systemd may have carried it elsewhere since.
            cgroup::return_to(&leaf, load)?;
            // A grant whose session never opens (sudo refuses after `account`) proves nothing to anybody.
            (world.opened)(&config, world.owner, grant.id.grant())?;
            Ok(Outcome::Allowed)
        }
        Some(Remembered::Asked) => Err(DenyReason::NoGrant.into()),
        Some(Remembered::Contained(leaf)) => {
            let passed = passes(session, world, caller)?;
            cgroup::return_to(&leaf, load)?;
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

/// Whether the grant still stands, for what is about to start.
fn check(conversation: &dyn Conversation, world: &World<'_>, config: &Config, grant: &Grant) -> Result<(), Refusal> {
    if conversation.user().as_deref() != Some(grant.request.target.user.as_str()) {
        return Err(DenyReason::TargetDiffers.into());
    }
    if boot_ms() >= grant.deadline_boot_ms || facts::boot_id()? != grant.request.boot_id {
        return Err(DenyReason::GrantOver.into());
    }
    // Who was removed or suspended since is in a newer roster: another elevation may have pinned it.
    roster_slots::check_newest(&config.roster_dir, world.owner, &grant.roster)
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

/// Records and contains a grant: when this returns, its record is on disk, this process is in the leaf
/// whose name is returned, and the reaper ends it in time.
///
/// # Errors
/// The reaper's refusal, or [`DenyReason::ReaperUnavailable`], [`DenyReason::ContainmentFailed`],
/// [`DenyReason::WireMismatch`].
pub fn contain(
    config: &Config,
    owner: Owner,
    grant: &Grant,
    terminal: &Terminal,
    signals: &Signals,
) -> Result<Vec<u8>, Refusal> {
    let peer = Peer { owner, uid: config.reaper_uid };
    register_and_join(config, peer, grant, terminal, signals).map_err(refusal)?;
    cgroup::own_leaf()?.ok_or_else(|| Refusal::logging(DenyReason::ContainmentFailed, "the leaf was left at once"))
}

fn register_and_join(
    config: &Config,
    peer: Peer,
    grant: &Grant,
    terminal: &Terminal,
    signals: &Signals,
) -> Result<(), LinkError> {
    let register = register(grant)?;
    let give_up_at = boot_ms().saturating_add(REAPER_MS);
    let mut link = Link::connect(&config.reaper_socket, peer, signals)?;
    let internal =
        |error: rustix::io::Errno| Refusal::logging(DenyReason::ContainmentFailed, format!("pidfd: {error}"));
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).map_err(internal)?;
    let device = terminal.for_warnings();
    let mut descriptors = vec![pidfd.as_fd()];
    descriptors.extend(device.as_ref().map(|device| device.as_fd()));
    link.send_with(&ReaperRequest::Register(Box::new(register)), &descriptors, signals)?;
    match reply(&mut link, give_up_at, signals)? {
        RegisterReply::Registered(registered) => {
            cgroup::join(Path::new(&registered.cgroup), config, &grant.id.grant().to_string())?;
        }
        other => return Err(unexpected(&other)),
    }
    link.send(&JoinedFrame(Joined {}), signals)?;
    match reply(&mut link, give_up_at, signals)? {
        RegisterReply::Confirmed(_) => {}
        other => return Err(unexpected(&other)),
    }
    link.hold_until_exit();
    Ok(())
}

/// Has it noted, durably, that this grant's session opens. A connection of its own: the reaper may have
/// been restarted since the registration.
///
/// # Errors
/// As [`contain`].
pub fn opened(config: &Config, owner: Owner, grant: GrantId) -> Result<(), Refusal> {
    let signals = Signals::block()?;
    let say = || {
        let give_up_at = boot_ms().saturating_add(REAPER_MS);
        let mut link = Link::connect(&config.reaper_socket, Peer { owner, uid: config.reaper_uid }, &signals)?;
        link.send(&ReaperRequest::Opened(Opened { wire: WIRE_VERSION, grant }), &signals)?;
        match reply(&mut link, give_up_at, &signals)? {
            RegisterReply::Confirmed(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    };
    say().map_err(refusal)
}

/// The second frame is a bare [`Joined`], as the wire says.
#[derive(serde::Serialize)]
#[serde(transparent)]
struct JoinedFrame(Joined);

fn reply(link: &mut Link, give_up_at: u64, signals: &Signals) -> Result<RegisterReply, LinkError> {
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

fn unexpected(reply: &RegisterReply) -> LinkError {
    match reply {
        RegisterReply::Refused(refused) => LinkError::Ended(refused.reason.into()),
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
