//! `twinlock init`, `host prepare` and `host join` as processes, with software phones over real TLS.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

mod ceremony;
mod gateway;
mod host;
mod site;
