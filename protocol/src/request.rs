//! The elevation request: what the module says about the command that waits, serialised once and
//! signed by the host key and the session key. Page, command line and audit display from the
//! parsed [`View`]; nobody else parses sudo's options.

use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::bytes::{Bytes, Fixed};
use crate::codec::{DecodeError, decode_canonical, encode};
use crate::digest::{Digest, Domain};
use crate::ids::{HostId, RequestId};
use crate::limits;

/// The only request version that exists.
pub const VERSION: u32 = 1;

/// What made the request. `Ssh` and `Ahead` are reserved: version 1 verifiers refuse them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// The PAM module, for a command that waits in this very process.
    Module,
    /// A login by SSH certificate (reserved).
    Ssh,
    /// Approved ahead of time for a machine that cannot wait (reserved).
    Ahead,
}

/// What a grant covers. `Session` is reserved: version 1 verifiers refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This one command.
    Command,
    /// Any command in this terminal until the end (reserved).
    Session,
}

/// One argument, byte for byte: text when it is UTF-8, `{"b64": …}` when it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArg {
    b64: Bytes,
}

impl Arg {
    /// The argument as text, if it is UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<&[u8]> for Arg {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for Arg {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => RawArg { b64: Bytes(self.0.clone()) }.serialize(serializer),
        }
    }
}

/// Not an untagged enum: that would buffer every argument in a generic tree first.
struct ArgVisitor;

impl<'de> serde::de::Visitor<'de> for ArgVisitor {
    type Value = Arg;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string, or {\"b64\": bytes}")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Arg, E> {
        Ok(Arg::from(text))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Arg, A::Error> {
        RawArg::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(|raw| Arg(raw.b64.0))
    }
}

impl<'de> Deserialize<'de> for Arg {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArgVisitor)
    }
}

/// A login as the host resolves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The numeric user id on this host.
    pub uid: u32,
    /// The login name that the host's passwd database gives for it.
    pub name: String,
}

/// Every name under which the requester is known to the host. All of them are excluded as
/// approvers, and each must map to a person of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requester {
    /// The audit login uid, when the kernel has one (`/proc/self/loginuid` set).
    pub login: Option<Login>,
    /// The real uid of the process that runs the module.
    pub real: Login,
    /// `PAM_RUSER`, when the service set it.
    pub pam_ruser: Option<String>,
}

/// Whom the command would run as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The login name; `open_session` must see this very name as `PAM_USER`.
    pub user: String,
    /// Its uid on this host.
    pub uid: u32,
    /// The group asked for with `-g`, as written.
    pub group: Option<String>,
}

/// What kind of run was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One command (`sudo cmd`).
    Command,
    /// A shell (`sudo -s`), perhaps with a command for it.
    Shell,
    /// A login shell (`sudo -i`, `su -`), perhaps with a command for it.
    LoginShell,
    /// Files opened in the caller's editor (`sudoedit`, `sudo -e`).
    Edit,
    /// `su`: another user's shell in the caller's environment.
    SwitchUser,
    /// `-l`, `-v` or `-K` that did not fit the closed grammar of what passes unasked.
    Query,
}

/// What standard input is, for the warning "input is piped, you cannot see it".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinKind {
    /// A terminal.
    Terminal,
    /// A pipe or a socket: the approver can't see what comes through it.
    Piped,
    /// A regular file.
    File,
    /// `/dev/null`.
    Null,
    /// Not open.
    Closed,
    /// Anything else.
    Other,
}

/// The module's own reading of argv: what people see. It only describes; enforcement is by target
/// in `open_session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// The kind of run.
    pub mode: Mode,
    /// Index into `argv` of the first word of the command (or of the first file, for `Edit`).
    pub command_at: Option<u32>,
    /// The shell that -s, -i or su would start: `$SHELL` for -s, the passwd entry otherwise.
    pub shell: Option<Arg>,
    /// The editor that `Edit` would start, from the caller's environment.
    pub editor: Option<Arg>,
    /// `-D`: the directory to change to.
    pub chdir: Option<Arg>,
    /// `-R`: the root directory to change to.
    pub chroot: Option<Arg>,
    /// `VAR=value` words before the command.
    pub assignments: Vec<Arg>,
    /// `-E` or `--preserve-env`, with or without a list.
    pub preserve_env: bool,
    /// `-b`: runs in the background.
    pub background: bool,
    /// The run reads commands from its input or gives a shell: approvers can't know what it does.
    pub open_ended: bool,
    /// The first word that the parser did not understand, or why it gave up.
    pub not_understood: Option<String>,
}

/// Where in the process world the request was made; binds it to one process of one boot (T4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessFacts {
    /// The process that runs the module.
    pub pid: u32,
    /// Its start time in clock ticks since boot (field 22 of `/proc/pid/stat`).
    pub start_time: u64,
    /// Its parent.
    pub parent: u32,
    /// Its session id (`getsid(0)`).
    pub session: u32,
}

/// The roster that the module had pinned when it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterRef {
    /// Its version.
    pub version: u64,
    /// Its digest.
    pub digest: Digest,
}

/// The commitment to the six digits that the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeCommitment {
    /// 128 random bits.
    pub salt: Fixed<16>,
    /// `SHA-256("twinlock/terminal-code/v1\0" ‖ salt ‖ six digits)`.
    pub hash: Digest,
}

/// An elevation request. Field order is the encoding order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElevationRequest {
    /// `"twinlock-request"`.
    pub format: RequestFormat,
    /// [`VERSION`].
    pub version: u32,
    /// What made it.
    pub kind: RequestKind,
    /// The pinned roster.
    pub roster: RosterRef,
    /// The host, as enrolled.
    pub host: HostId,
    /// `/proc/sys/kernel/random/boot_id`, lower case.
    pub boot_id: String,
    /// The PAM service name.
    pub service: String,
    /// Who asks.
    pub requester: Requester,
    /// As whom it would run.
    pub target: Target,
    /// The module's reading of argv.
    pub view: View,
    /// The caller's argument vector, argv\[0\] included, byte for byte.
    pub argv: Vec<Arg>,
    /// The caller's working directory.
    pub cwd: Option<Arg>,
    /// The terminal's device, if there is one.
    pub tty: Option<String>,
    /// The process that waits.
    pub process: ProcessFacts,
    /// What its standard input is.
    pub stdin: StdinKind,
    /// Why, in the requester's own words.
    pub reason: Option<String>,
    /// Wanted life of the grant, in seconds.
    pub ttl_s: u32,
    /// Wanted scope.
    pub scope: Scope,
    /// The host's wall clock when the request was made.
    pub created_at: UnixTime,
    /// Until when both approvals must be given, in seconds after `created_at`.
    pub approve_by_s: u32,
    /// 256 random bits.
    pub nonce: Fixed<32>,
    /// The public half of the session key: P-256, SEC1 uncompressed (65 bytes).
    pub session_key: Fixed<65>,
    /// The commitment to the terminal's code.
    pub terminal_code: CodeCommitment,
}

/// The constant `"twinlock-request"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestFormat {
    /// The only value.
    #[serde(rename = "twinlock-request")]
    Request,
}

impl ElevationRequest {
    /// The bytes that are signed and travel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads and checks a request.
    ///
    /// # Errors
    /// Over-long, malformed or not canonical input, another version, or a broken rule.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let request: Self = decode_canonical("request", limits::REQUEST_BYTES, bytes)?;
        request.check()?;
        Ok(request)
    }

    /// The digest, which is the request's id, of its bytes.
    #[must_use]
    pub fn id_of(bytes: &[u8]) -> RequestId {
        RequestId(Digest::of(Domain::Request, bytes))
    }

    /// The command's words: argv from [`View::command_at`], empty when there are none.
    #[must_use]
    pub fn command(&self) -> &[Arg] {
        self.view.command_at.and_then(|at| self.argv.get(usize::try_from(at).ok()?..)).unwrap_or_default()
    }

    fn check(&self) -> Result<(), DecodeError> {
        let invalid = |rule| Err(DecodeError::Invalid { what: "request", rule });
        let login_fits = |name: &str| !name.is_empty() && name.len() <= limits::LOGIN_BYTES;
        if self.version != VERSION {
            return invalid("version is 1");
        }
        if self.argv.is_empty() || self.argv.len() > limits::ARGS {
            return invalid("argv has 1 to 1024 words");
        }
        if self.view.command_at.is_some_and(|at| at as usize >= self.argv.len()) {
            return invalid("command_at points into argv");
        }
        if !login_fits(&self.target.user)
            || !login_fits(&self.requester.real.name)
            || self.requester.login.as_ref().is_some_and(|login| !login_fits(&login.name))
            || self.requester.pam_ruser.as_deref().is_some_and(|name| !login_fits(name))
            || self.target.group.as_deref().is_some_and(|name| name.len() > limits::LOGIN_BYTES)
        {
            return invalid("login names have 1 to 255 bytes");
        }
        if !login_fits(&self.service) || self.tty.as_deref().is_some_and(|tty| tty.len() > limits::LOGIN_BYTES) {
            return invalid("service and tty have at most 255 bytes");
        }
        if self.reason.as_deref().is_some_and(|reason| reason.len() > limits::REASON_BYTES) {
            return invalid("the reason has at most 400 bytes");
        }
        let integers = [self.roster.version, self.process.start_time, self.created_at.0];
        if integers.iter().any(|integer| *integer > limits::MAX_INTEGER) {
            return invalid("integers are below 2^53");
        }
        if !(limits::MIN_TTL_S..=limits::MAX_TTL_S).contains(&self.ttl_s) {
            return invalid("ttl_s is 1 to 3600");
        }
        if !(1..=limits::MAX_APPROVE_BY_S).contains(&self.approve_by_s) {
            return invalid("approve_by_s is 1 to 600");
        }
        let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let boot_id = || self.boot_id.split('-');
        if !boot_id().map(str::len).eq([8, 4, 4, 4, 12]) || !boot_id().all(is_hex) {
            return invalid("boot_id is a lower-case UUID");
        }
        Ok(())
    }
}
