//! `make hostile`: the hostile gateway's attempts, one line each; ends with failure when one of
//! them is not refused as it must be, or its control does not run. `twinlock-hostile [WORD…]` runs
//! the cases whose names hold one of the words. As root.
#![allow(clippy::print_stderr, reason = "a program for people")]

use std::process::ExitCode;

use twinlock_tests::hostile::{self, cases, scenes};
use twinlock_tests::ns::{Entry, enter};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let entry =
        Entry { name: "twinlock-hostile".to_owned(), args, limit: None, relay_output: true, host_network: false };
    let groups: Vec<_> = cases::GROUPS.iter().map(|(_, group)| *group).collect();
    match enter(&entry, |bed| hostile::run(bed, scenes::SCENES, &groups, &words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("twinlock-hostile: error: {reason}");
            ExitCode::FAILURE
        }
    }
}
