//! A bed to look around in: lends you alice's terminal, with sudo wired to permit.
//! `cargo run -p twinlock-tests --example bed-shell [deny|stock|twinlock]`, as root.
#![allow(clippy::print_stderr, reason = "a program for people")]

use twinlock_tests::ns::{Entry, enter};
use twinlock_tests::{Bed, Tail, World};

fn main() -> std::process::ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let tail = match args.first().and_then(|a| a.to_str()) {
        None => Tail::Permit,
        Some("deny") => Tail::Deny,
        Some("stock") => Tail::Stock,
        Some("twinlock") => Tail::Twinlock,
        Some(other) => {
            eprintln!("bed-shell: error: {other} is none of deny, stock, twinlock");
            return 2.into();
        }
    };
    let entry = Entry { name: "bed-shell".to_owned(), args, limit: None, relay_output: false, host_network: false };
    let body = |bed: &mut Bed| {
        if matches!(tail, Tail::Twinlock) {
            World::install(bed);
        }
        bed.wire(&tail);
        if let Err(error) = bed.terminal("alice", &["bash", "-i"]).attach() {
            eprintln!("bed-shell: error: {error}");
        }
    };
    match enter(&entry, body) {
        Ok(()) => 0.into(),
        Err(reason) => {
            eprintln!("bed-shell: error: {reason}");
            1.into()
        }
    }
}
