//! Roster chains: every step that is refused and its lawful neighbour, evidence that brings newer
//! rosters, and random histories.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod evidence;
mod histories;
mod steps;
mod support;
