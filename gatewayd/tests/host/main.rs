//! Agent and reaper as real processes: real cgroups, real peer credentials, real sessions. They
//! need root and skip loudly without it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod access;
mod agent;
mod bench;
mod player;
mod restart;
mod sessions;
mod terminal;
mod unprivileged;
mod watch;
mod wire;
