//! `make bench`: what an elevation costs, measured inside a bed and printed with
//! calibrators and ratios; ends with failure when a floor is broken.
//! `twinlock-bench [PAIRS [ELEVATIONS]]`, as root.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(clippy::expect_used, clippy::panic, reason = "a measurement that cannot be made ends the run")]

use std::process::ExitCode;

use twinlock_tests::demo::{bench, measure};
use twinlock_tests::ns::{Entry, enter};

fn main() -> ExitCode {
    if let Some(code) = measure::runner() {
        return code;
    }
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let number = |at: usize, default: usize| match args.get(at).map(|a| a.to_str().and_then(|a| a.parse().ok())) {
        None => default,
        Some(Some(number)) if number > 0 => number,
        Some(_) => panic!("usage: twinlock-bench [PAIRS [ELEVATIONS]]"),
    };
    let plan = bench::Rounds { pairs: number(0, 200), elevations: number(1, 60) };
    let entry = Entry {
        name: "twinlock-bench".to_owned(),
        args: args.clone(),
        limit: None,
        relay_output: true,
        host_network: false,
    };
    match enter(&entry, |bed| bench::run(bed, plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("twinlock-bench: error: {reason}");
            ExitCode::FAILURE
        }
    }
}
