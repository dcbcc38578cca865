//! Lines on the requester's terminal, and a terminal that takes none.

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use twinlock_protocol::evidence::EndReason;

use crate::bench::{Bench, FrontEnd, root};

const SOON: Duration = Duration::from_secs(15);

struct Pty {
    master: std::fs::File,
    name: String,
}

fn pty() -> Pty {
    let pair = nix::pty::openpty(None, None).unwrap();
    let name = std::fs::read_link(format!("/proc/self/fd/{}", pair.slave.as_raw_fd())).unwrap();
    // The slave stays open: a pty without one reads as an error.
    std::mem::forget(pair.slave);
    Pty { master: pair.master.into(), name: name.display().to_string() }
}

fn session_on(bench: &Bench, pty: &Pty, ttl_ms: u64) -> FrontEnd {
    let mut command = bench.player(ttl_ms, "sleep 600", &[]);
    command.env("PLAY_TTY", &pty.name).stdin(Stdio::null()).stdout(Stdio::piped());
    FrontEnd::new(command.spawn().unwrap())
}

#[test]
fn the_terminal_is_told_when_its_session_ends() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut pty = pty();
    let mut front = session_on(&bench, &pty, 1_200);
    let grant = front.grant();
    bench.end_of(&grant, SOON);
    let (sender, receiver) = mpsc::channel();
    let mut reader = pty.master.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut text = [0; 1024];
        let length = reader.read(&mut text).unwrap();
        let _ = sender.send(String::from_utf8_lossy(&text[..length]).into_owned());
    });
    let text = receiver.recv_timeout(SOON).expect("a line");
    assert!(text.contains("twinlock: this session ended: expired"), "{text:?}");
    pty.master = std::fs::File::open("/dev/null").unwrap();
}

/// Ctrl-S stops the terminal: the end comes in time, without its line.
#[test]
fn a_stopped_terminal_does_not_hold_up_the_end() {
    if !root() {
        return;
    }
    let mut bench = Bench::new();
    let mut pty = pty();
    // Ctrl-S, as the terminal's user would type it.
    std::io::Write::write_all(&mut pty.master, b"\x13").unwrap();
    let mut front = session_on(&bench, &pty, 1_200);
    let grant = front.grant();
    let end = bench.end_of(&grant, SOON);
    assert_eq!(end.reason, EndReason::Expired);
    assert!(end.took_ms < 1_000, "{end:?}");
    assert!(bench.reaper_runs());
    let mut other = bench.front_end(60_000, "true");
    assert_eq!(bench.end_of(&other.grant(), SOON).reason, EndReason::Finished);
}
