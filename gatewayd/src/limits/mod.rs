//! governor limiters, named for what they protect.
