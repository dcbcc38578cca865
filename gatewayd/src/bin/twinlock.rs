//! `twinlock`: the command line.

fn main() {}
