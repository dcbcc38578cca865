//! A caller may start us with standard files closed. Then the next file or socket that we open
//! would be standard output or error, and the conversation would write into it. For the length of a
//! hook, closed ones are `/dev/null`.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Keeps 0, 1 and 2 in use.
pub struct StandardFiles {
    _held: Vec<File>,
}

impl StandardFiles {
    /// Opens `/dev/null` (closed on exec) until a descriptor above 2 comes back. Where it can't be
    /// opened, nothing else can be either, and the hook refuses by itself.
    #[must_use]
    pub fn hold() -> Self {
        let mut held = Vec::new();
        while let Ok(file) = File::options().read(true).write(true).open("/dev/null") {
            if file.as_raw_fd() > 2 {
                break;
            }
            held.push(file);
        }
        Self { _held: held }
    }
}
