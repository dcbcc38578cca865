//! `open_session`: enforcement. Without a grant from this handle, for this very target, unexpired,
//! recorded and contained by the reaper, nothing starts. Every way out that is not
//! [`Outcome::Allowed`] is PAM_PERM_DENIED: sudo runs the command after PAM_SESSION_ERR.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::evidence::{GrantRecord, GrantRecordFormat, SignedStart, VERSION as RECORD_VERSION};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::statement::{StartKind, StartStatement, VERSION as STATEMENT_VERSION};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::reaper::{Joined, ReaperReply, ReaperRequest, Register, Registered};
use twinlock_protocol::{Bytes, DenyReason, limits};

use crate::account::{Outcome, World};
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
        // Nobody was asked in this handle: the rule of `account`, decided afresh.
        None => match who::decide(session, world.accounts, caller)? {
            Decision::Passes => Ok(Outcome::Allowed),
            Decision::AsksForSudo | Decision::AsksForSu => Err(DenyReason::NoGrant.into()),
        },
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
        evidence: Bytes(grant.evidence.clone()),
        certificate: Bytes(grant.certificate.clone()),
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
    let terminal = (world.terminal)();
    let mut descriptors = vec![pidfd.as_fd()];
    descriptors.extend(terminal.as_ref().and_then(|terminal| terminal.device()).map(|device| device.as_fd()));
    link.send_with(&ReaperRequest::Register(Box::new(register.clone())), &descriptors, signals)?;
    match reply(&mut link, give_up_at, signals)? {
        ReaperReply::Registered(registered) => join(&registered, config, &grant.id.grant().to_string())?,
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

/// Moves this process into the leaf cgroup, as root, and checks with the kernel that it is there.
fn join(registered: &Registered, config: &Config, leaf: &str) -> Result<(), Refusal> {
    let failed = |detail: String| Refusal::logging(DenyReason::ContainmentFailed, detail);
    let path = Path::new(&registered.cgroup);
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| failed(error.to_string()))?;
    let expected = kernel_names(&mountinfo, path, leaf);
    if expected.is_empty() {
        return Err(failed("the cgroup is no leaf of ours".into()));
    }
    let io = |error: rustix::io::Errno| failed(format!("{}: {error}", path.display()));
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(io)?;
    let meta = std::fs::File::from(directory.try_clone().map_err(|error| failed(error.to_string()))?)
        .metadata()
        .map_err(|error| failed(error.to_string()))?;
    if meta.uid() != 0 && Some(meta.uid()) != config.reaper_uid {
        return Err(failed("the cgroup belongs to somebody else".into()));
    }
    if rustix::fs::fstatfs(&directory).map_err(io)?.f_type != CGROUP2_MAGIC {
        return Err(failed("the directory is no cgroup".into()));
    }
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let procs = rustix::fs::openat(&directory, "cgroup.procs", flags, Mode::empty()).map_err(io)?;
    // "0" is whoever writes (cgroups(7)): no pid to get wrong in another pid namespace.
    std::fs::File::from(procs).write_all(b"0\n").map_err(|error| failed(format!("cgroup.procs: {error}")))?;
    let own = std::fs::read("/proc/self/cgroup").map_err(|error| failed(error.to_string()))?;
    let mut lines = own.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"0::"));
    let inside = lines.any(|line| expected.iter().any(|name| name == line));
    if inside { Ok(()) } else { Err(failed("the process is not in its cgroup".into())) }
}

/// CGROUP2_SUPER_MAGIC, linux/magic.h.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// What `/proc/self/cgroup` may say of a process in the directory `path`: one name for each cgroup2
/// mount above it (one may hide another); none when it is not the grant's own leaf below such a
/// mount.
fn kernel_names(mountinfo: &str, path: &Path, leaf: &str) -> Vec<Vec<u8>> {
    let plain = |path: &Path| {
        use std::path::Component::{Normal, RootDir};
        path.is_absolute() && path.components().all(|part| matches!(part, RootDir | Normal(_)))
    };
    if path.file_name().and_then(|name| name.to_str()) != Some(leaf) || !plain(path) {
        return Vec::new();
    }
    let name = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        if tail.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = head.split(' ').skip(3);
        let (root, point) = (Path::new(fields.next()?), Path::new(fields.next()?));
        let below = path.strip_prefix(point).ok()?;
        Some(root.join(below).into_os_string().into_vec())
    };
    mountinfo.lines().filter_map(name).collect()
}

fn refusal(error: LinkError) -> Refusal {
    match error {
        LinkError::Ended(refusal) => refusal,
        LinkError::Lost(_) | LinkError::NotTrusted(_) => Refusal::logging(DenyReason::ReaperUnavailable, error),
        LinkError::Broken(_) => Refusal::logging(DenyReason::WireMismatch, error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UNIFIED: &str = "25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const SUBTREE: &str = "30 1 0:1 / / rw - ext4 a rw\n41 31 0:38 /pod/one /cg rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn only_the_grants_own_leaf_below_a_cgroup_mount_is_joined() {
        let name = |mounts, path: &str| kernel_names(mounts, Path::new(path), "leaf");
        assert_eq!(name(UNIFIED, "/sys/fs/cgroup/twinlock/leaf"), [b"/twinlock/leaf"]);
        assert_eq!(name(SUBTREE, "/cg/twinlock/leaf"), [b"/pod/one/twinlock/leaf"]);
        let hidden = format!("24 23 0:22 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n{UNIFIED}");
        assert!(name(&hidden, "/sys/fs/cgroup/twinlock/leaf").contains(&b"/twinlock/leaf".to_vec()));
        for elsewhere in ["/sys/fs/cgroup/twinlock/other", "/tmp/leaf", "/sys/fs/cgroup/a/../leaf", "leaf", "/"] {
            assert!(name(UNIFIED, elsewhere).is_empty(), "{elsewhere}");
        }
    }
}
