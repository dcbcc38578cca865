//! Twinlock's daemon as a library: `serve` (request lifecycle, certificates, revocation, audit,
//! the page), `agent` (relay on each host) and `reaper` (deadlines and ends of sessions). The two
//! binaries only parse arguments and call in here.

pub mod agent;
pub mod api;
pub mod approval;
pub mod audit;
pub mod break_glass;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod enrol;
pub mod issue;
pub mod limits;
mod qr;
pub mod random;
pub mod reaper;
pub mod request;
pub mod roster;
pub mod serve;
pub mod session;
pub mod store;
pub mod web;
