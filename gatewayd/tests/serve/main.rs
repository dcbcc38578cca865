//! The gateway as phones, agents and administrators see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attacks;
mod changes;
mod commands;
mod faults;
mod grants;
mod life;
mod people;
mod restart;
mod restore;
mod sessions;
mod support;
mod transport;
mod upgrade;
mod waits;
mod web;
mod witness;
