//! The reaper's sockets. `reaper.sock`: peer uid 0 registers sessions, the agent's uid watches and
//! passes on orders to end. `user.sock`: anybody lists and drops their own grants (peer uid = real
//! uid of the request). What a connection may say is decided by the kernel's peer credentials,
//! never by a frame.

use serde::{Deserialize, Serialize};

use super::agent::{EndGrant, Ended, Lingering, Noted, Reviewed, Started};
use crate::UnixTime;
use crate::evidence::GrantRecord;
use crate::ids::GrantId;
use crate::refusal::DenyReason;

/// What a client of the reaper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaperRequest {
    /// Module, uid 0: contain and record this session. The frame's first byte carries, as
    /// `SCM_RIGHTS`, a pidfd of the session's process and, if there is one, its terminal.
    Register(Box<Register>),
    /// Module, uid 0, from the leaf: `open_session` lets this session start. Answered by
    /// [`ReaperReply::Confirmed`] once that is on disk.
    Opened(Opened),
    /// Agent's uid: tell me of starts and ends, beginning with what was not noted yet. The
    /// connection stays.
    Watch(Watch),
    /// Agent's uid, on a watching connection: end a grant.
    EndGrant(EndGrant),
    /// Agent's uid, on a watching connection: the gateway has committed this report.
    Noted(Noted),
    /// Agent's uid, on a watching connection: somebody reviewed a break-glass grant.
    Reviewed(Reviewed),
    /// Anybody: my grants.
    List(List),
    /// Anybody: end one of my grants.
    Drop(DropGrant),
}

/// Registers a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The record, without an end.
    pub record: GrantRecord,
    /// When the session ends, in milliseconds of `CLOCK_BOOTTIME`; the start statement says the
    /// same.
    pub deadline_boot_ms: u64,
}

/// `open_session` lets a session start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The grant.
    pub grant: GrantId,
}

/// Watches grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
}

/// Lists grants of the peer's uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
}

/// Drops a grant of the peer's uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropGrant {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The grant.
    pub grant: GrantId,
}

/// What the reaper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaperReply {
    /// The record is on disk and the leaf cgroup exists: the module moves itself in, checks
    /// `/proc/self/cgroup`, and says so with [`Joined`]. The connection stays open as a lease: its
    /// end tells that the front end is gone.
    Registered(Registered),
    /// The session stands; it is noted that it was opened.
    Confirmed(Confirmed),
    /// It does not.
    Refused(ReaperRefused),
    /// A session started (to a watcher).
    Started(Started),
    /// A session ended (to a watcher).
    Ended(Ended),
    /// A session lingers (to a watcher).
    Lingering(Lingering),
    /// The peer's grants.
    Grants(Grants),
    /// The grant is ended.
    Dropped(DroppedGrant),
}

/// What whoever registers hears: of [`ReaperReply`], what is for it. The module reads no more than
/// that; everything else is out of turn.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterReply {
    /// See [`ReaperReply::Registered`].
    Registered(Registered),
    /// See [`ReaperReply::Confirmed`].
    Confirmed(Confirmed),
    /// See [`ReaperReply::Refused`].
    Refused(ReaperRefused),
}

/// The leaf cgroup is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// The directory of the leaf cgroup, absolute; the module checks that it lies where its
    /// configuration says and that root or the reaper owns it.
    pub cgroup: String,
}

/// The module's second frame: it has moved into the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {}

/// The session stands; the reaper saw the process in its leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {}

/// The reaper refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaperRefused {
    /// Why.
    pub reason: DenyReason,
}

/// Grants of one uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Live ones, oldest first.
    pub grants: Vec<LiveGrant>,
}

/// A live grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveGrant {
    /// The grant.
    pub grant: GrantId,
    /// As whom.
    pub target_user: String,
    /// The command, one line, escaped.
    pub command: String,
    /// When it started, on the host's wall clock.
    pub started_at: UnixTime,
    /// Seconds until it ends.
    pub left_s: u64,
    /// The command itself has ended.
    pub lingering: bool,
}

/// A grant is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DroppedGrant {
    /// The grant.
    pub grant: GrantId,
}
