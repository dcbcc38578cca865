//! One line to the system log (RFC 3164 over /dev/log, facility authpriv) when the module refuses
//! for a fault of the installation, so that an administrator finds the detail that the terminal
//! does not show; and, as an alert, when what should have verified did not. Never argv, never environment, never a secret; a log that does not listen is not
//! waited for. The audit of requests and grants is the gateway's and the reaper's.
#![forbid(unsafe_code)]

use std::os::unix::net::UnixDatagram;

use crate::refusal::Refusal;

/// authpriv (10) · 8 + warning (4).
const WARNING: u32 = 84;
/// authpriv (10) · 8 + alert (1).
const ALERT: u32 = 81;

/// Logs a refusal of a hook, or of something that came and changed nothing.
pub fn refused(what: &str, refusal: &Refusal) {
    let row = refusal.reason.row();
    let (priority, how, otherwise) = match refusal.is_attack() {
        true => (ALERT, "attack: refused", Some(row.line)),
        false => (WARNING, "refused", None),
    };
    let Some(detail) = refusal.logged.as_deref().or(otherwise) else { return };
    send(priority, &format!("{what}: {how}: {}: {detail}", row.name));
}

/// Logs what others must notice.
pub fn alert(what: &str) {
    send(ALERT, what);
}

fn send(priority: u32, what: &str) {
    let what = twinlock_protocol::escape::visible(what.as_bytes());
    let line = format!("<{priority}>pam_twinlock[{}]: {what}", std::process::id());
    if let Ok(socket) = UnixDatagram::unbound()
        && socket.set_nonblocking(true).is_ok()
    {
        let _heard_or_not = socket.send_to(line.as_bytes(), "/dev/log");
    }
}
