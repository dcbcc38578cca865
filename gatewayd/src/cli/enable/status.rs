//! What is gated, what waits, and how the last change ended, in lines for people.

use std::collections::BTreeSet;

use super::lines::{self, Gate};
use super::state::{Doing, Pending, Places, Step};
use super::watch::{WITHOUT_SYSTEMD, has_systemd};
use super::wiring::{self, WiringError};
use crate::cli::{Failure, chain, time};
use crate::reaper::clock::BootMs;

/// What there is to say, and whether it is as it was settled.
pub struct Status {
    /// In words.
    pub lines: Vec<String>,
    /// Gates whose lines are not those that were put in.
    broken: Vec<Gate>,
}

impl Status {
    /// A failure where something is gated that does not have exactly our lines.
    ///
    /// # Errors
    /// A [`Failure`].
    pub fn into_result(self) -> Result<(), Failure> {
        match self.broken.first() {
            None => Ok(()),
            Some(gate) => Err(Failure::new(
                format!("{gate} is not as `twinlock enable` left it"),
                format!("twinlock doctor says what follows from it; twinlock enable {gate} puts the lines in again"),
            )),
        }
    }
}

/// Reads it all.
///
/// # Errors
/// [`WiringError`].
pub fn of(places: &Places) -> Result<Status, WiringError> {
    let wired = wiring::wired_gates(places)?;
    let pending = places.pending_change()?;
    let settled = places.enabled_gates()?;
    let is_settled = |gate: &Gate| settled.as_ref().is_some_and(|settled| settled.gates.contains(gate));
    let meant: BTreeSet<Gate> = match &pending {
        Some(pending) => pending.gates.iter().copied().collect(),
        None => Gate::ALL.into_iter().filter(|gate| wired.contains(gate) || is_settled(gate)).collect(),
    };
    // While files are being replaced, they are neither the old nor the new ones.
    let at_rest = pending.as_ref().is_none_or(|pending| pending.step == Step::Waiting);
    let mut out = Vec::new();
    let mut broken = Vec::new();
    for gate in Gate::ALL {
        let since = settled.as_ref().filter(|settled| settled.gates.contains(&gate));
        let since = since.map(|settled| format!(", since {}", time::moment(settled.since))).unwrap_or_default();
        let waits = pending.as_ref().is_some_and(|pending| pending.added.contains(&gate));
        let fault = if at_rest && meant.contains(&gate) { fault(places, gate, &meant) } else { None };
        broken.extend(fault.as_ref().map(|_| gate));
        out.push(match (wired.contains(&gate), waits, fault) {
            (false, _, Some(_)) => format!("{gate}: NOBODY IS ASKED: its lines are gone{since}"),
            (true, _, Some(fault)) => format!("{gate}: NOT AS IT WAS ENABLED: {fault}"),
            (true, false, None) => format!("{gate}: two people are asked{since}"),
            (true, true, None) => format!("{gate}: two people are asked, until it is put back or confirmed"),
            (false, _, None) => format!("{gate}: not enabled"),
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
    Ok(Status { lines: out, broken })
}

/// What of a gate's files, and of `other`, is not exactly as these gates want it: compared with the
/// text without our lines, wired anew. A marker alone proves nothing.
fn fault(places: &Places, gate: Gate, meant: &BTreeSet<Gate>) -> Option<String> {
    match wiring::plan(places, meant) {
        Ok(changes) => changes
            .iter()
            .map(|change| change.name.as_str())
            .find(|name| *name == wiring::OTHER || gate.services().contains(name))
            .map(|name| format!("{} has other lines", places.pam_d.join(name).display())),
        Err(error) => Some(chain(&error)),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use twinlock_protocol::UnixTime;

    use super::super::state::{Enabled, VERSION};
    use super::*;

    #[test]
    fn lines_that_are_gone_or_edited_after_they_were_settled_are_said_and_fail() {
        let dir = tempfile::tempdir().unwrap();
        let pam_d = dir.path().join("pam.d");
        fs::create_dir(&pam_d).unwrap();
        for name in ["sudo", "sudo-i", "su", "su-l", "other"] {
            fs::write(pam_d.join(name), "auth required pam_permit.so\n").unwrap();
        }
        let places =
            Places { pam_d: pam_d.clone(), vendor: Vec::new(), state: dir.path().join("s"), ..Places::installed() };
        let said = || {
            let status = of(&places).unwrap();
            (status.lines.first().unwrap().clone(), status.into_result().is_ok())
        };
        assert_eq!(said(), ("sudo: not enabled".to_owned(), true), "control: nothing was settled");
        let gates = BTreeSet::from([Gate::Sudo]);
        let stock = fs::read(pam_d.join("sudo")).unwrap();
        for change in wiring::plan(&places, &gates).unwrap() {
            fs::write(pam_d.join(&change.name), &change.after).unwrap();
        }
        let enabled = Enabled { version: VERSION, gates: vec![Gate::Sudo], since: UnixTime(1), grant: None };
        places.lock().unwrap().save_enabled(&enabled).unwrap();
        let (line, sound) = said();
        assert!(line.starts_with("sudo: two people are asked, since") && sound, "control: {line}");

        let wired = fs::read_to_string(pam_d.join("sudo")).unwrap();
        fs::write(pam_d.join("sudo"), &stock).unwrap();
        let (line, sound) = said();
        assert!(line.contains("NOBODY IS ASKED") && !sound, "{line}");
        // The markers stand, the line between them is gone.
        fs::write(pam_d.join("sudo"), wired.replacen("account    required   pam_twinlock.so\n", "", 1)).unwrap();
        let (line, sound) = said();
        assert!(line.contains("NOT AS IT WAS ENABLED") && !sound, "{line}");
        fs::write(pam_d.join("sudo"), &wired).unwrap();
        assert!(said().1, "control");
        fs::write(pam_d.join("other"), "auth required pam_permit.so\n").unwrap();
        let (line, sound) = said();
        assert!(line.contains("other has other lines") && !sound, "{line}");
    }
}
