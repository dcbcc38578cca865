//! The `Clock` trait, real and test: the only readers of the time in this crate.
