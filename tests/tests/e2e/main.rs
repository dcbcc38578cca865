//! End to end: real programs in private namespaces. One binary, so that it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bed;
mod command_line;
mod containment;
mod elevation;
mod failures;
mod faults;
mod hostile_caller;
mod lifetime;
mod misplaced;
mod screen;
mod sudo_matrix;
mod terminal;
