//! `twinlock`: the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    twinlock_gatewayd::cli::main()
}
