//! The gateway as phones, agents and administrators see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attacks;
mod grants;
mod restart;
mod support;
mod web;
