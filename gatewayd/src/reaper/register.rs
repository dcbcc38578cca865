//! What must be true of a registration before anything is written: the record belongs together,
//! was signed by the request's own session key, for this boot, this process and this deadline.
//! Pure: facts about the process come as arguments.

use twinlock_protocol::DenyReason;
use twinlock_protocol::escape;
use twinlock_protocol::evidence::{GrantRecord, VERSION};
use twinlock_protocol::limits;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::statement::StartStatement;
use twinlock_protocol::verify::verify_start;

use super::clock::BootMs;

/// The kernel's word about the process that registers, and about this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The peer of the connection.
    pub peer_pid: u32,
    /// The process that the pidfd means.
    pub pidfd_pid: u32,
    /// Its start time; none where `/proc` hides it.
    pub start_time: Option<u64>,
    /// This boot.
    pub boot_id: String,
    /// Now.
    pub now: BootMs,
}

/// What a record says, read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The request.
    pub request: ElevationRequest,
    /// The start.
    pub start: StartStatement,
}

/// Reads a record and checks that its parts belong together; nothing about this boot or process.
///
/// # Errors
/// [`DenyReason`].
pub fn read(record: &GrantRecord) -> Result<Checked, DenyReason> {
    let bytes = &record.request.request.0;
    let request = ElevationRequest::from_bytes(bytes).map_err(|_| DenyReason::RequestMalformed)?;
    let id = ElevationRequest::id_of(bytes);
    let start = verify_start(&request, id, &record.start)?;
    if record.grant != id.grant() || start.target_user != request.target.user {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    Ok(Checked { request, start })
}

/// Checks a registration.
///
/// # Errors
/// [`DenyReason::WireMismatch`], [`DenyReason::EvidenceMalformed`], what [`read`] says,
/// [`DenyReason::EvidenceOtherRequest`] for another boot, process or deadline, and
/// [`DenyReason::GrantOver`] for a deadline that has passed or lies beyond the ceiling.
pub fn check(record: &GrantRecord, deadline_boot_ms: u64, facts: &Facts) -> Result<Checked, DenyReason> {
    if record.version != VERSION
        || record.end.is_some()
        || record.evidence.0.len() > limits::EVIDENCE_BYTES
        || record.certificate.0.len() > limits::CERTIFICATE_BYTES
    {
        return Err(DenyReason::EvidenceMalformed);
    }
    let checked = read(record)?;
    let start = &checked.start;
    let same_process = facts.peer_pid != 0
        && start.pid == facts.peer_pid
        && facts.pidfd_pid == facts.peer_pid
        && facts.start_time.is_none_or(|time| time == start.start_time);
    if start.boot_id != facts.boot_id || !same_process || start.deadline_boot_ms != deadline_boot_ms {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let deadline = BootMs(deadline_boot_ms);
    if deadline <= facts.now || deadline.since(facts.now) > u64::from(limits::MAX_TTL_S) * 1000 {
        return Err(DenyReason::GrantOver);
    }
    Ok(checked)
}

/// The command as one line for people: escaped, at most 200 characters.
#[must_use]
pub fn command_line(request: &ElevationRequest) -> String {
    let words = if request.command().is_empty() { &request.argv } else { request.command() };
    let line = escape::command(words.iter().map(|word| word.0.as_slice()));
    if line.chars().count() <= 200 { line } else { line.chars().take(199).chain(['…']).collect() }
}

/// The pid that a pidfd means (`/proc/self/fdinfo`); none when it is no pidfd, or its process is
/// gone (-1).
#[must_use]
pub fn pid_of(pidfd: &impl std::os::fd::AsRawFd) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok()
}
