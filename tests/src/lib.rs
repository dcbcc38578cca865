//! The test bed: private namespaces with real users, sudo and su; real terminals
//! whose picture can be scanned; daemons under their own uids; pictures of `/proc`.
//!
//! Nothing here may touch the host it runs on: whatever a test changes, it changes
//! inside namespaces that vanish with it (`ns`), or under `target/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "this crate is nothing but test code: a panic is how it reports"
)]

pub mod accounts;
pub mod approver;
pub mod bed;
pub mod cgroup;
pub mod demo;
pub mod hostile;
pub mod installation;
pub mod instant;
pub mod mounts;
pub mod ns;
pub mod phone;
pub mod phone_people;
pub mod picture;
pub mod proc;
pub mod softphone;
pub mod term;
pub mod world;

pub use bed::{Bed, Tail};
pub use term::Terminal;
pub use world::World;
