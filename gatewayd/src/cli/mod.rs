//! The `twinlock` command line.
