//! The demo's voice: one line per thing that happened, with the time since the start.

use std::time::Instant;

/// Tells what happens.
pub struct Story {
    started: Instant,
}

impl Story {
    /// Starts the clock.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a clock that starts by default starts unnoticed")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// A chapter's heading.
    pub fn chapter(&self, title: &str) {
        println!("\n\u{2500}\u{2500} {title}");
    }

    /// One thing that happened.
    pub fn tell(&self, line: impl AsRef<str>) {
        println!("{:7.2} s  {}", self.started.elapsed().as_secs_f64(), line.as_ref());
    }

    /// Words of somebody else, set off from our own.
    pub fn quote(&self, text: &str) {
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            println!("           \u{2502} {line}");
        }
    }
}
