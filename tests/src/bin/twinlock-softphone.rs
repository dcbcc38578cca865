//! People with software phones, for the booted systems (`tests/system`). See `twinlock_tests::softphone`.
#![allow(clippy::print_stderr, reason = "a program for test scripts")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match twinlock_tests::softphone::main(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(reason) => {
            eprintln!("twinlock-softphone: {reason}");
            ExitCode::from(125)
        }
    }
}
