//! Agent ↔ gateway: frames over one TLS 1.3 connection with client certificates, ALPN
//! [`ALPN`]. All requests of a host share it. The gateway knows the host by the key of the client
//! certificate, which the roster names.

use serde::{Deserialize, Serialize};

pub use super::module::Rosters;
use super::module::{ModuleEvent, ModuleMessage};
use crate::bytes::Bytes;
use crate::evidence::EndNote;
use crate::ids::{GrantId, HostId, RequestId};

/// The protocol name that both sides offer (RFC 7301).
pub const ALPN: &[u8] = b"twinlock-agent/1";

/// A side that has nothing to say says [`AgentMessage::Ping`] this often, in seconds.
pub const PING_S: u64 = 10;
/// A side that has heard nothing for this long, in seconds, drops the connection.
pub const SILENCE_S: u64 = 30;

/// What the agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentMessage {
    /// The first frame.
    Hello(Hello),
    /// A module's message.
    Module(ForGateway),
    /// A module closed its connection: cancel.
    Gone(Gone),
    /// The reaper's word that a session started: the GrantRecord's bytes.
    Started(Started),
    /// The reaper's word that a session ended.
    Ended(Ended),
    /// The command ended but something of it still runs.
    Lingering(Lingering),
    /// Roster versions that the gateway does not have, lowest first: after a welcome whose version is
    /// below the one that the host pins. A gateway that was put back from a backup gets so far again.
    Rosters(Rosters),
    /// Still here.
    Ping(Ping),
}

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayMessage {
    /// The answer to a hello.
    Welcome(Welcome),
    /// For the module of a request.
    Module(ForModule),
    /// End a grant now.
    EndGrant(EndGrant),
    /// A report ([`AgentMessage::Started`], [`AgentMessage::Ended`]) is committed and need not be
    /// sent again.
    Noted(Noted),
    /// Somebody reviewed a break-glass grant of this host.
    Reviewed(Reviewed),
    /// Roster versions above the one of the hello, lowest first: after the welcome, and whenever a
    /// version is sealed. The only word that an agent takes from a gateway whose key it does not know.
    Rosters(Rosters),
    /// Still here.
    Ping(Ping),
}

/// Opens the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The host that the agent serves; must be the one of its certificate's key.
    pub host: HostId,
    /// The roster version that the host pins; 0 where the agent can't read it.
    pub roster: u64,
    /// The agent's version, for people.
    pub software: String,
}

/// Accepts the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// [`super::WIRE_VERSION`].
    pub wire: u32,
    /// The newest roster version that the gateway has.
    pub roster: u64,
    /// The gateway's version, for people.
    pub software: String,
}

/// A module's message, under its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForGateway {
    /// The request (of a submit: the digest of its bytes, which the gateway checks).
    pub request: RequestId,
    /// The message, unchanged.
    pub message: ModuleMessage,
}

/// A message for a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForModule {
    /// The request.
    pub request: RequestId,
    /// The message, unchanged.
    pub event: ModuleEvent,
}

/// A module is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// Its request.
    pub request: RequestId,
}

/// A session started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The grant.
    pub grant: GrantId,
    /// The GrantRecord's bytes.
    pub record: Bytes,
}

/// A session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// The grant.
    pub grant: GrantId,
    /// How.
    pub end: EndNote,
}

/// A session's command ended, its cgroup is not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lingering {
    /// The grant.
    pub grant: GrantId,
    /// Processes left.
    pub processes: u32,
}

/// Why the gateway ends a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndOrder {
    /// Its certificate is past its end.
    Expired,
    /// An administrator revoked it.
    Revoked,
    /// The requester dropped it.
    Dropped,
}

/// The order to end a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndGrant {
    /// The grant.
    pub grant: GrantId,
    /// Why.
    pub order: EndOrder,
}

/// A report is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    /// The grant.
    pub grant: GrantId,
    /// Whether its end is committed too, or only its start.
    pub ended: bool,
}

/// A break-glass grant is reviewed: its mark and the host's banner may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewed {
    /// The grant.
    pub grant: GrantId,
}

/// Nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {}
