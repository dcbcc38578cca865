//! Whether an elevation confirms what was enabled: granted by two people, through one of its services,
//! begun after it, from another login session. A GrantRecord counts by the host key's and the session
//! key's signatures alone: only the module has both, and only after it verified everything. It
//! confirms once the reaper's mark says that its session was opened: sudo asks the module before it
//! looks whether the person may run the command at all.

use twinlock_protocol::digest::Domain;
use twinlock_protocol::evidence::GrantRecord;
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::signature::{self, PublicKey};
use twinlock_protocol::verify::verify_start;

use super::seat::{SameSeat, Seat};
use super::state::{Pending, Process};

/// Milliseconds of one clock tick of `/proc/pid/stat` (USER_HZ is 100 on all that Rust's std supports).
const TICK_MS: u64 = 10;

/// A grant that this host's module started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedGrant {
    /// Which.
    pub grant: GrantId,
    /// The PAM service.
    pub service: String,
    /// The boot.
    pub boot_id: String,
    /// The process that asked.
    pub process: Process,
    /// Its POSIX session.
    pub session: u32,
    /// Who asked, by login name.
    pub requester: String,
    /// Its record has its end.
    pub is_over: bool,
}

/// Why an elevation does not confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoesNotCount {
    /// The record can't be read.
    #[error("its record can't be read")]
    Malformed,
    /// The host's key or the session's did not sign it.
    #[error("its record is not signed by this host")]
    NotSigned,
    /// It went through a service that was not just enabled.
    #[error("it went through another service")]
    OtherService,
    /// It was begun before.
    #[error("it was begun before")]
    Earlier,
    /// It never ran: sudo, or another line of the stack, refused after two people had approved.
    #[error("it was approved but its command was never let run")]
    NotOpened,
    /// Its processes are gone, so nobody knows which login it came from.
    #[error("its login session was gone before it could be told from the enabling one: keep it open")]
    Gone,
    /// It came from the same session.
    #[error(transparent)]
    SameSeat(#[from] SameSeat),
}

/// Reads a GrantRecord and checks that this host's module made it.
///
/// # Errors
/// [`DoesNotCount::Malformed`], [`DoesNotCount::NotSigned`].
pub fn started(record: &[u8], host_key: &PublicKey) -> Result<StartedGrant, DoesNotCount> {
    let record = GrantRecord::from_bytes(record).map_err(|_| DoesNotCount::Malformed)?;
    let bytes = &record.request.request.0;
    let request = ElevationRequest::from_bytes(bytes).map_err(|_| DoesNotCount::Malformed)?;
    let id = ElevationRequest::id_of(bytes);
    let message = Domain::RequestHost.message(id.0.as_bytes());
    if !signature::verify(host_key, &message, &record.request.host_signature) || record.grant != id.grant() {
        return Err(DoesNotCount::NotSigned);
    }
    let _start = verify_start(&request, id, &record.start).map_err(|_| DoesNotCount::NotSigned)?;
    Ok(StartedGrant {
        grant: record.grant,
        service: request.service,
        boot_id: request.boot_id,
        process: Process { pid: request.process.pid, start_time: request.process.start_time },
        session: request.process.session,
        requester: request.requester.login.unwrap_or(request.requester.real).name,
        is_over: record.end.is_some(),
    })
}

/// Judges a grant that started; `seat` is where it came from, as far as that is still known.
///
/// # Errors
/// [`DoesNotCount`].
pub fn judge(pending: &Pending, grant: &StartedGrant, seat: Option<&Seat>) -> Result<(), DoesNotCount> {
    if !pending.added.iter().any(|gate| gate.services().contains(&grant.service.as_str())) {
        return Err(DoesNotCount::OtherService);
    }
    let begun_after = grant.process.start_time.saturating_mul(TICK_MS) >= pending.begun_boot_ms;
    if grant.boot_id != pending.boot_id || !begun_after {
        return Err(DoesNotCount::Earlier);
    }
    Ok(pending.by.differs_from(seat.ok_or(DoesNotCount::Gone)?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use twinlock_protocol::UnixTime;
    use twinlock_protocol::signature::SigningKey;

    use super::super::lines::Gate;
    use super::super::state::{Doing, Step, VERSION};
    use super::*;
    use crate::cli::audit::granted::Granted;

    fn host_key(granted: &Granted) -> PublicKey {
        SigningKey::from_pkcs8(&granted.fixture.host_key_pkcs8).unwrap().public()
    }

    fn pending(grant: &StartedGrant) -> Pending {
        Pending {
            version: VERSION,
            doing: Doing::Enable,
            step: Step::Waiting,
            gates: vec![Gate::Sudo],
            added: vec![Gate::Sudo],
            files: Vec::new(),
            boot_id: grant.boot_id.clone(),
            begun_boot_ms: grant.process.start_time * TICK_MS,
            begun_at: UnixTime(1),
            deadline_boot_ms: 1,
            caller: Process { pid: 1, start_time: 1 },
            by: Seat { audit_session: Some(5), login_uid: Some(1001), sessions: vec![50] },
            noted: None,
        }
    }

    fn elsewhere() -> Seat {
        Seat { audit_session: Some(6), login_uid: Some(1001), sessions: vec![60] }
    }

    #[test]
    fn only_a_grant_after_it_through_its_service_from_elsewhere_confirms() {
        let granted = Granted::new();
        let grant = started(&granted.record.to_bytes(), &host_key(&granted)).unwrap();
        assert_eq!((grant.service.as_str(), grant.requester.as_str()), ("sudo", "alice"));
        let waits = pending(&grant);
        assert_eq!(judge(&waits, &grant, Some(&elsewhere())), Ok(()));
        assert_eq!(judge(&waits, &grant, None), Err(DoesNotCount::Gone));
        let same = Seat { audit_session: Some(5), ..elsewhere() };
        assert_eq!(judge(&waits, &grant, Some(&same)), Err(DoesNotCount::SameSeat(SameSeat::AuditSession)));
        let su = Pending { added: vec![Gate::Su], ..waits.clone() };
        assert_eq!(judge(&su, &grant, Some(&elsewhere())), Err(DoesNotCount::OtherService));
        let later = Pending { begun_boot_ms: waits.begun_boot_ms + 1, ..waits.clone() };
        assert_eq!(judge(&later, &grant, Some(&elsewhere())), Err(DoesNotCount::Earlier));
        let other_boot = Pending { boot_id: "another".to_owned(), ..waits };
        assert_eq!(judge(&other_boot, &grant, Some(&elsewhere())), Err(DoesNotCount::Earlier));
    }

    #[test]
    fn a_record_that_the_module_of_this_host_did_not_make_does_not_count() {
        let granted = Granted::new();
        let key = host_key(&granted);
        assert!(started(&granted.record.to_bytes(), &key).is_ok(), "control");
        assert_eq!(started(b"{}", &key), Err(DoesNotCount::Malformed));
        let (other, _) = SigningKey::generate().unwrap();
        assert_eq!(started(&granted.record.to_bytes(), &other.public()), Err(DoesNotCount::NotSigned));
        let mut record = granted.record.clone();
        record.start.signature = record.request.session_signature;
        assert_eq!(started(&record.to_bytes(), &key), Err(DoesNotCount::NotSigned));
        let mut record = granted.record;
        record.grant = GrantId::from_text(&"a".repeat(26)).unwrap();
        assert_eq!(started(&record.to_bytes(), &key), Err(DoesNotCount::NotSigned));
    }
}
