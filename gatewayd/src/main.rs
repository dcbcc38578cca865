//! `twinlock-gatewayd serve | agent | reaper`.

fn main() {}
