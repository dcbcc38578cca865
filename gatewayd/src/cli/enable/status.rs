//! What is gated, what waits, and how the last change ended, in lines for people.

use super::lines::{self, Gate};
use super::state::{Doing, Pending, Places, Step};
use super::watch::{WITHOUT_SYSTEMD, has_systemd};
use super::wiring::{self, WiringError};
use crate::cli::time;
use crate::reaper::clock::BootMs;

/// The lines.
///
/// # Errors
/// [`WiringError`].
pub fn lines(places: &Places) -> Result<Vec<String>, WiringError> {
    let wired = wiring::wired_gates(places)?;
    let pending = places.pending_change()?;
    let settled = places.enabled_gates()?;
    let mut out = Vec::new();
    for gate in Gate::ALL {
        let since = settled.as_ref().filter(|settled| settled.gates.contains(&gate));
        let since = since.map(|settled| format!(", since {}", time::moment(settled.since))).unwrap_or_default();
        let waits = pending.as_ref().is_some_and(|pending| pending.added.contains(&gate));
        out.push(match (wired.contains(&gate), waits) {
            (true, false) => format!("{gate}: two people are asked{since}"),
            (true, true) => format!("{gate}: two people are asked, until it is put back or confirmed"),
            (false, _) => format!("{gate}: not enabled"),
        });
    }
    if let Some(pending) = &pending {
        out.extend(pending_lines(places, pending)?);
    } else if let Some(last) = places.last_outcome()? {
        let what = match (last.doing, last.stays) {
            (Doing::Enable, true) => "enabled",
            (Doing::Enable, false) => "put back",
            (Doing::Disable, true) => "disabled",
            (Doing::Disable, false) => "disabling was undone",
        };
        out.push(format!("last: {what} {}: {}", time::moment(last.at), last.why));
    }
    Ok(out)
}

fn pending_lines(places: &Places, pending: &Pending) -> Result<Vec<String>, WiringError> {
    let mut out = Vec::new();
    match (pending.step, wiring::is_overdue(pending)?) {
        (_, Some(why)) => out.push(format!("to be put back: {why}")),
        (Step::Applying, None) => out.push("its files are being replaced".to_owned()),
        (Step::Settled, None) => out.push("it is decided; only its state is left to clear away".to_owned()),
        (Step::Waiting, None) => out.push(format!("{} left to confirm it", left(pending))),
    }
    out.extend(pending.noted.as_ref().map(|why| format!("an elevation came that does not confirm it: {why}")));
    let count = if has_systemd() { 1 } else { WITHOUT_SYSTEMD };
    let mut watched = false;
    for index in 0..count {
        watched |= places.is_watched(index)?;
    }
    if !watched {
        out.push("nobody watches it: twinlock-pam revert puts the files back, the next boot does as well".to_owned());
    }
    Ok(out)
}

/// Minutes and seconds until the deadline.
#[must_use]
pub fn left(pending: &Pending) -> String {
    time::span(BootMs(pending.deadline_boot_ms).since(BootMs::now()).div_ceil(1000))
}

/// A file's lines of ours, with their numbers.
#[must_use]
pub fn numbered(text: &[u8]) -> Vec<String> {
    lines::own_lines(text).into_iter().map(|(number, line)| format!("  {number:>4}  {line}")).collect()
}
