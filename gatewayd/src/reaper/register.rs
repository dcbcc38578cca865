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
    if record.version != VERSION || record.end.is_some() || !record.authority.fits() {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use twinlock_protocol::evidence::{Authority, BreakGlassGiven, Certified, EndNote, EndReason, GrantRecordFormat};
    use twinlock_protocol::softphone::{self, Fixture};
    use twinlock_protocol::{Bytes, UnixTime};

    use super::*;

    const NOW: BootMs = BootMs(5_000_000);
    const DEADLINE: u64 = NOW.0 + 900_000;

    fn sound() -> (GrantRecord, Facts) {
        let fixture = Fixture::new(b"ca", UnixTime(1_800_000_000));
        let (request, key) = fixture.request();
        let signed = fixture.sign_request(&request, &key);
        let id = ElevationRequest::id_of(&signed.request.0);
        let record = GrantRecord {
            format: GrantRecordFormat::GrantRecord,
            version: 1,
            grant: id.grant(),
            start: softphone::start(&request, id, &key, DEADLINE),
            request: signed,
            authority: Authority::Certificate(Certified {
                evidence: Bytes(b"evidence".to_vec()),
                certificate: Bytes(b"certificate".to_vec()),
            }),
            end: None,
        };
        let facts = Facts {
            peer_pid: request.process.pid,
            pidfd_pid: request.process.pid,
            start_time: Some(request.process.start_time),
            boot_id: request.boot_id.clone(),
            now: NOW,
        };
        (record, facts)
    }

    #[test]
    fn a_sound_registration_passes() {
        let (record, facts) = sound();
        let checked = check(&record, DEADLINE, &facts).expect("sound");
        assert_eq!(checked.start.pid, facts.peer_pid);
        assert_eq!(command_line(&checked.request), "systemctl restart nginx");
        // Where /proc hides the process, the pidfd and the peer must do.
        assert!(check(&record, DEADLINE, &Facts { start_time: None, ..facts }).is_ok());
    }

    /// Catalogue: A23 (control: a_sound_registration_passes)
    #[test]
    fn another_process_or_a_reused_pid_does_not_get_the_grant() {
        let (record, facts) = sound();
        let other = facts.peer_pid + 1;
        for facts in [
            Facts { peer_pid: other, ..facts.clone() },
            Facts { pidfd_pid: other, ..facts.clone() },
            Facts { peer_pid: other, pidfd_pid: other, ..facts.clone() },
            Facts { start_time: Some(1), ..facts.clone() },
            Facts { peer_pid: 0, pidfd_pid: 0, ..facts.clone() },
        ] {
            assert_eq!(check(&record, DEADLINE, &facts), Err(DenyReason::EvidenceOtherRequest), "{facts:?}");
        }
    }

    /// Catalogue: S5 (control: a_sound_registration_passes)
    #[test]
    fn a_grant_of_another_boot_or_with_another_deadline_is_refused() {
        let (record, facts) = sound();
        let other_boot = Facts { boot_id: "00000000-0000-0000-0000-000000000000".into(), ..facts.clone() };
        assert_eq!(check(&record, DEADLINE, &other_boot), Err(DenyReason::EvidenceOtherRequest));
        assert_eq!(check(&record, DEADLINE + 1, &facts), Err(DenyReason::EvidenceOtherRequest));
        let late = Facts { now: BootMs(DEADLINE), ..facts.clone() };
        assert_eq!(check(&record, DEADLINE, &late), Err(DenyReason::GrantOver));
        let long = Facts { now: BootMs(DEADLINE - 3_600_001), ..facts };
        assert_eq!(check(&record, DEADLINE, &long), Err(DenyReason::GrantOver));
    }

    /// Catalogue: S5 (control: a_sound_registration_passes)
    #[test]
    fn a_record_whose_parts_do_not_belong_together_is_refused() {
        let (record, facts) = sound();
        let (other, _) = sound();
        let wrong = |change: &dyn Fn(&mut GrantRecord)| {
            let mut record = record.clone();
            change(&mut record);
            check(&record, DEADLINE, &facts).expect_err("refused")
        };
        assert_eq!(wrong(&|r| r.grant = other.grant), DenyReason::EvidenceOtherRequest);
        assert_eq!(wrong(&|r| r.start = other.start.clone()), DenyReason::EvidenceOtherRequest);
        assert_eq!(wrong(&|r| r.start.signature = other.start.signature), DenyReason::RequestSignature);
        assert_eq!(wrong(&|r| r.request.request.0.push(b' ')), DenyReason::RequestMalformed);
        assert_eq!(wrong(&|r| r.start.statement.0.push(b' ')), DenyReason::EvidenceMalformed);
        let long = |length: usize| Bytes(vec![0; length + 1]);
        for (evidence, certificate) in
            [(long(limits::EVIDENCE_BYTES), Bytes(Vec::new())), (Bytes(Vec::new()), long(limits::CERTIFICATE_BYTES))]
        {
            let given = Authority::Certificate(Certified { evidence, certificate });
            assert_eq!(wrong(&|r| r.authority = given.clone()), DenyReason::EvidenceMalformed);
        }
        let given = Authority::BreakGlass(BreakGlassGiven { evidence: long(limits::STATEMENT_BYTES) });
        assert_eq!(wrong(&|r| r.authority = given.clone()), DenyReason::EvidenceMalformed);
        let end = EndNote {
            reason: EndReason::Finished,
            ended_at: UnixTime(1),
            took_ms: 0,
            killed: vec![],
            escaped: vec![],
            lingered: false,
        };
        assert_eq!(wrong(&|r| r.end = Some(end.clone())), DenyReason::EvidenceMalformed);
    }
}
