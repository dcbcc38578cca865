//! Watches a session's processes and writes down when the last one was dead, by the
//! kernel's word and on the clock that the deadline is on. It is not told by the reaper.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Between two looks.
const STEP: Duration = Duration::from_micros(500);

/// What was seen of the session's processes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Deaths {
    /// Every process that was ever in the session's cgroup: pid and when it was last seen
    /// alive and first seen dead, `CLOCK_BOOTTIME`, nanoseconds; no second moment while it lives.
    pub processes: BTreeMap<u32, (u64, Option<u64>)>,
}

impl Deaths {
    /// When the last one was seen dead; none while one lives, or when there never was one.
    #[must_use]
    pub fn last_ns(&self) -> Option<u64> {
        let all: Option<Vec<_>> = self.processes.values().map(|(_, dead)| *dead).collect();
        all?.into_iter().max()
    }
}

/// A running watch.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Deaths>,
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[must_use]
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).expect("after boot") * 1_000_000_000 + u64::try_from(now.tv_nsec).expect("positive")
}

impl Watch {
    /// Begins to watch a cgroup (a directory below /sys/fs/cgroup).
    #[must_use]
    pub fn start(cgroup: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || watch(&cgroup, &stopped));
        Self { stop, thread }
    }

    /// Ends the watch once every process is dead or `limit` is over.
    #[must_use]
    pub fn finish(self, limit: Duration) -> Deaths {
        let step = Duration::from_millis(20);
        for _ in 0..limit.as_millis() / step.as_millis() {
            if self.thread.is_finished() {
                break;
            }
            std::thread::sleep(step);
        }
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch")
    }
}

fn watch(cgroup: &Path, stopped: &AtomicBool) -> Deaths {
    let mut deaths = Deaths::default();
    while !stopped.load(Ordering::Relaxed) {
        let members = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            deaths.processes.entry(pid).or_insert((boottime_ns(), None));
        }
        for (pid, (seen, dead)) in &mut deaths.processes {
            if dead.is_none() {
                let alive = is_alive(*pid);
                let now = boottime_ns();
                if alive {
                    *seen = now;
                } else {
                    *dead = Some(now);
                }
            }
        }
        // The front end outlives the command by a moment: over is when nobody is left.
        if !deaths.processes.is_empty() && deaths.last_ns().is_some() && members.is_empty() {
            break;
        }
        std::thread::sleep(STEP);
    }
    deaths
}

/// Runs or could run again: neither gone nor a zombie. Pids are not reused this fast.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
