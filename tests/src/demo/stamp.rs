//! `stamp`, a tiny static program that writes down when its `main` ran: the end of every
//! interval that ends with "the command runs". Its source is beside this file.

use std::path::Path;
use std::process::Command;

use crate::bed::Bed;

const SOURCE: &str = include_str!("stamp.c");

/// One line of a stamp file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_REALTIME`, nanoseconds.
    pub real_ns: u64,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boot_ns: u64,
}

/// Compiles it with gcc and installs it under this path inside the bed.
pub fn install(bed: &Bed, place: &str) {
    build(bed, place, &[]);
}

/// The same as a program that takes no arguments: it stamps `file` and becomes `command`.
pub fn install_before(bed: &Bed, place: &str, file: &str, command: &str) {
    build(bed, place, &[&format!("-DFILE_AND_COMMAND=\"{file}\", \"{command}\"")]);
}

fn build(bed: &Bed, place: &str, flags: &[&str]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (source, built) = (dir.path().join("stamp.c"), dir.path().join("stamp"));
    std::fs::write(&source, SOURCE).expect("the source");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-static", "-Wall", "-Werror"]).args(flags).arg("-o").arg(&built).arg(&source);
    let output = gcc.output().expect("gcc");
    assert!(output.status.success(), "{gcc:?}: {}", String::from_utf8_lossy(&output.stderr));
    bed.install(&built, place, 0o755);
}

/// The moments in a stamp file; none when it is not there.
#[must_use]
pub fn read(path: impl AsRef<Path>) -> Vec<Moment> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let moment = |line: &str| {
        let (real, boot) = line.split_once(' ')?;
        Some(Moment { real_ns: real.parse().ok()?, boot_ns: boot.parse().ok()? })
    };
    text.lines().filter_map(moment).collect()
}
