//! `twinlock-pam`: everything about PAM's files that must work when nothing else of Twinlock does. It
//! comes with the module, reads no configuration that could stop it, and talks to nobody.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use super::lines::Gate;
use super::state::Places;
use super::{trial, watch, wiring};
use crate::cli::{Failure, chain};
use twinlock_protocol::escape;

const USAGE: &str = "usage: twinlock-pam COMMAND, as root
  status          what is pending
  revert          put PAM's files back as they were before the last `twinlock enable`, now
  revert-at-boot  the same where its time is over; for twinlock-pam-revert.service
  unhook          take every twinlock line out of /etc/pam.d; before the package goes
  prove LOGIN     prove in a copy that sudo and su, as they are wired, call the module
The others (trial, seat, detach, watch) are for twinlock enable.";

/// Runs the helper: 0 done, 1 refused or failed, 2 wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let places = Places::installed();
    let done = match words.as_slice() {
        ["status"] => status(&places),
        ["revert"] => revert(&places),
        ["revert-at-boot"] => revert_at_boot(&places),
        ["unhook"] => unhook(&places),
        ["watch", index] => index.parse().map_err(|_| usage()).and_then(|index| Ok(watch::watch(&places, index)?)),
        ["detach", index] => index.parse().map_err(|_| usage()).and_then(|index| Ok(watch::detach(index)?)),
        ["prove", login] => prove(&places, login),
        ["trial", login, gates @ ..] => run_trial(&places, login, gates),
        ["seat", login, "--", program, ..] => trial::seat(login, program, arguments.get(4..).unwrap_or_default()),
        ["--version"] => {
            print(concat!("twinlock-pam ", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

fn usage() -> Failure {
    Failure::plain("not a number")
}

fn status(places: &Places) -> Result<(), Failure> {
    let status = super::status::of(places)?;
    status.lines.iter().for_each(|line| print(line));
    status.into_result()
}

fn revert(places: &Places) -> Result<(), Failure> {
    let locked = places.lock()?;
    let Some(pending) = places.pending_change()? else {
        print("nothing is pending");
        return Ok(());
    };
    let words = wiring::revert(&locked, &pending, "reverted by hand")?;
    words.iter().for_each(|word| print(word));
    print("PAM's files are back as they were");
    Ok(())
}

fn revert_at_boot(places: &Places) -> Result<(), Failure> {
    if watch::revert_if_overdue(places)? || places.pending_change()?.is_none() {
        return Ok(());
    }
    // Not a boot: the package was configured anew, say, in the middle of the wait.
    Ok(watch::start(places)?)
}

fn unhook(places: &Places) -> Result<(), Failure> {
    let locked = places.lock()?;
    let left = |error: wiring::WiringError| {
        Failure::plain(chain(&error)).hint("take that line out by hand: without the module's file, nobody gets in")
    };
    for path in wiring::unhook(&locked).map_err(left)? {
        print(&format!("{}: twinlock's lines are out", path.display()));
    }
    Ok(())
}

fn prove(places: &Places, login: &str) -> Result<(), Failure> {
    let gates: Vec<Gate> = wiring::wired_gates(places)?.into_iter().collect();
    if gates.is_empty() {
        return Err(Failure::new("nothing is wired", "twinlock enable sudo"));
    }
    trial_of(places, login, &gates, false)
}

fn run_trial(places: &Places, login: &str, gates: &[&str]) -> Result<(), Failure> {
    let gate = |name: &&str| Gate::ALL.into_iter().find(|gate| gate.to_string() == **name);
    let gates: Option<Vec<Gate>> = gates.iter().map(gate).collect();
    trial_of(places, login, &gates.ok_or_else(|| Failure::plain("there is no such service"))?, true)
}

fn trial_of(places: &Places, login: &str, gates: &[Gate], wire: bool) -> Result<(), Failure> {
    let gates = gates.iter().copied().collect();
    let changes = if wire { wiring::plan(places, &gates)? } else { Vec::new() };
    trial::run(places, login, &gates, &changes)?.iter().for_each(|line| print(line));
    Ok(())
}

/// One line to standard output. A reader that went away is no error.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// One line to standard error.
pub fn say(line: &str) {
    let shown = line.lines().map(|line| escape::visible(line.as_bytes())).collect::<Vec<_>>().join("\n");
    let _ = writeln!(std::io::stderr().lock(), "{shown}");
}
