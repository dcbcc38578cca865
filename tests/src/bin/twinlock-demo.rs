//! `make demo`: a whole elevation, seen. The environment says how:
//! `SHELL_ME=1` lends alice's shell, `SUMMARY=FILE` leaves a proof, `PHONES=real` with
//! `ORIGIN`, `TLS_CERT` and `TLS_KEY` waits for people and their own phones.
//! `twinlock-demo phone NAME ACT` commands a stand-in phone of a running `SHELL_ME` demo.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use twinlock_tests::demo::{forms, measure, proof, shell};
use twinlock_tests::ns::{Entry, enter};
use twinlock_tests::world::target_dir;

const NAME: &str = "twinlock-demo";

fn main() -> ExitCode {
    if let Some(code) = measure::runner() {
        return code;
    }
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{NAME}: error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Outside and inside, what is left behind goes through one directory of the checkout.
    let out = target_dir().join("test-out").join(NAME);
    if let [first, rest @ ..] = arguments.as_slice()
        && first == "phone"
    {
        let said = shell::phone_command(&shell::socket(&out), rest)
            .map_err(|e| format!("no demo with SHELL_ME=1 is running here: {e}"))?;
        print!("{said}");
        return Ok(());
    }
    if !arguments.is_empty() {
        return Err("usage: twinlock-demo [phone NAME scan|read|approve|deny|inbox|look]".to_owned());
    }
    let outside = std::env::var_os("TWINLOCK_BED_STAGE").is_none();
    let how = forms::How::from_environment(&out, outside)?;
    let entry = Entry {
        name: NAME.to_owned(),
        args: Vec::new(),
        limit: None,
        relay_output: false,
        host_network: how.needs_host_network(),
    };
    let done = enter(&entry, |bed| forms::run(bed, &how));
    match std::env::var_os("SUMMARY").map(PathBuf::from) {
        // A failed demo leaves what it has, too: the keys of what did not happen are absent.
        Some(summary) if outside => {
            let copied = hand_over(&forms::summary(&out), &summary);
            done.and(copied)
        }
        _ => done,
    }
}

/// Moves the summary and its directory to where the caller wants them.
fn hand_over(from: &Path, to: &Path) -> Result<(), String> {
    let copy = |from: &Path, to: &Path| {
        let _ = std::fs::remove_dir_all(to);
        let done = std::process::Command::new("cp").arg("-aT").arg(from).arg(to).status();
        match done {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("cannot write {}: {other:?}", to.display())),
        }
    };
    copy(from, to)?;
    copy(&proof::directory(from), &proof::directory(to))?;
    println!("\nsummary: {}, and all that it was computed from: {}", to.display(), proof::directory(to).display());
    Ok(())
}
