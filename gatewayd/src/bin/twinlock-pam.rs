//! `twinlock-pam`: what puts PAM's files back, takes the lines out, and tries them in a copy.

use std::process::ExitCode;

fn main() -> ExitCode {
    twinlock_gatewayd::cli::enable::helper::main()
}
