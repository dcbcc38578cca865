//! `make screens`: every picture of terminal and page, taken anew.
//! `twinlock-screens DIR`, as root.
#![allow(clippy::print_stderr, reason = "a program for people")]

use std::path::PathBuf;
use std::process::ExitCode;

use twinlock_tests::demo::screens;
use twinlock_tests::ns::{Entry, enter};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [dir] = args.as_slice() else {
        eprintln!("usage: twinlock-screens DIR");
        return 2.into();
    };
    // Inside, the working directory is another one.
    let dir = match std::path::absolute(PathBuf::from(dir)) {
        Ok(dir) => dir,
        Err(error) => {
            eprintln!("twinlock-screens: error: {error}");
            return 2.into();
        }
    };
    let args = vec![dir.clone().into_os_string()];
    let entry =
        Entry { name: "twinlock-screens".to_owned(), args, limit: None, relay_output: true, host_network: false };
    match enter(&entry, |bed| screens::run(bed, &dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("twinlock-screens: error: {reason}");
            ExitCode::FAILURE
        }
    }
}
