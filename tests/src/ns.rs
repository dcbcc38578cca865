//! Runs the body of a test as root inside private namespaces, where sudo, su, PAM,
//! cgroups and daemons may be used for real.
//!
//! The test binary starts itself again twice: `unshare` makes the namespaces and runs
//! it as pid 1 (stage `init`: mounts, users, cgroup, reaping), which runs it once more
//! as an ordinary process (stage `test`: the body). When pid 1 ends, the kernel ends
//! everything in there with it.
//!
//! It must never mount, write below /etc or signal anything before it has seen that it
//! is pid 1 of a mount namespace other than its starter's.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, geteuid, getpid};

use crate::bed::Bed;
use crate::{accounts, cgroup, mounts};

const STAGE: &str = "TWINLOCK_BED_STAGE";
const CGROUP: &str = "TWINLOCK_BED_CGROUP";
const HOST_MNT: &str = "TWINLOCK_BED_HOST_MNT";
const TOKEN: &str = "TWINLOCK_BED_TOKEN";

/// Longest life of a bed, seconds; what hangs longer is killed and reported.
pub const BED_LIMIT: Duration = Duration::from_secs(150);

/// Variables of the caller that a body may see; all others are dropped.
const PASSED_ON: &[&str] = &[
    "CARGO_MANIFEST_DIR",
    "CI",
    "NEXTEST",
    "NEXTEST_RUN_ID",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TWINLOCK_MODULE",
    "TWINLOCK_BIN_DIR",
    "SHELL_ME",
    "PHONES",
    "ORIGIN",
    "TLS_CERT",
    "TLS_KEY",
    "SUMMARY",
];

/// The name by which the test harness knows the calling test function.
///
/// Passed to [`in_namespace`], so that a renamed test cannot run as something else.
#[macro_export]
macro_rules! here {
    () => {{
        fn here() {}
        fn name_of<T>(_: T) -> &'static str {
            std::any::type_name::<T>()
        }
        let path = name_of(here);
        let path = path.strip_suffix("::here").unwrap_or(path);
        path.split_once("::").map_or(path, |(_crate, test)| test)
    }};
}

/// How the program starts itself again, and how long it may take.
pub struct Entry {
    /// A name for people and for file names.
    pub name: String,
    /// Arguments that lead the restarted program back to the same call.
    pub args: Vec<OsString>,
    /// None: no limit (an interactive demo).
    pub limit: Option<Duration>,
    /// Output through this process (so that test harnesses capture it), or as it is.
    pub relay_output: bool,
    /// Stay on the host's network (a demo that real phones must reach); all else is private.
    pub host_network: bool,
}

/// Runs `body` in fresh private namespaces, as root. `test` comes from [`here!`].
///
/// It is the whole test: code before the call runs in every stage (also outside), and a
/// second call in the same test is refused.
///
/// Without root the test is skipped with a line that says so; under `CI=true` it fails.
pub fn in_namespace(test: &str, body: impl FnOnce(&mut Bed)) {
    in_namespace_within(test, BED_LIMIT, body);
}

/// As [`in_namespace`], with another limit on its life.
pub fn in_namespace_within(test: &str, limit: Duration, body: impl FnOnce(&mut Bed)) {
    let args = ["--exact", test, "--nocapture", "--test-threads=1"];
    let entry = Entry {
        name: test.to_owned(),
        args: args.iter().map(OsString::from).collect(),
        limit: Some(limit),
        relay_output: true,
        host_network: false,
    };
    if let Err(reason) = enter(&entry, body) {
        panic!("{test}: {reason}");
    }
}

/// The same for a program of its own (the demo): runs `body` inside, returns outside.
///
/// # Errors
/// What went wrong inside, in words.
pub fn enter(entry: &Entry, body: impl FnOnce(&mut Bed)) -> Result<(), String> {
    match std::env::var(STAGE).as_deref() {
        Err(_) => outer(entry),
        Ok("init") => init(entry),
        Ok("test") => {
            static USED: AtomicBool = AtomicBool::new(false);
            if USED.swap(true, Ordering::Relaxed) {
                return Err("a test has one bed: split it, or rewire the one it has".to_owned());
            }
            let mut bed = Bed::inside(&entry.name);
            body(&mut bed);
            if entry.relay_output {
                // libtest leaves its own line unfinished.
                println!("\n{}", done_line());
            }
            Ok(())
        }
        Ok(other) => Err(format!("unknown stage {other:?} in {STAGE}")),
    }
}

/// Printed by the inner run after the body returned. Without it the run counts as
/// failed: a filter that matches no test ends with status 0 as well.
fn done_line() -> String {
    format!("twinlock-bed: finished {}", std::env::var(TOKEN).unwrap_or_default())
}

/// True if there is no root to work with, after saying so.
///
/// # Errors
/// Under `CI=true` nothing may be skipped.
pub fn skipped_without_root(name: &str) -> Result<bool, String> {
    if geteuid().is_root() {
        return Ok(false);
    }
    let line = format!("{name} needs root for its namespaces");
    if std::env::var("CI").is_ok_and(|v| v == "true") {
        return Err(line);
    }
    println!("SKIPPED: {line}");
    Ok(true)
}

fn outer(entry: &Entry) -> Result<(), String> {
    if skipped_without_root(&entry.name)? {
        return Ok(());
    }
    cgroup::sweep();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let bed = cgroup::bed_name(std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let token = format!("{bed} {}", entry.name);
    let host_mnt = std::fs::read_link("/proc/self/ns/mnt").map_err(|e| e.to_string())?;
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new("unshare");
    command
        .args(["--fork", "--pid", "--mount", "--ipc", "--uts", "--kill-child"])
        .args((!entry.host_network).then_some("--net"))
        .args(["--mount-proc", "--propagation", "private", "--"])
        .arg(exe)
        .args(&entry.args)
        .env_clear()
        .envs(std::env::vars_os().filter(|(k, _)| PASSED_ON.iter().any(|p| k == *p)))
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("SHELL", "/bin/bash")
        .env("TERM", "xterm-256color")
        .env("LANG", "C.UTF-8")
        .env(STAGE, "init")
        .env(CGROUP, &bed)
        .env(TOKEN, &token)
        .env(HOST_MNT, host_mnt);
    let expected = format!("twinlock-bed: finished {token}");
    let result = if entry.relay_output {
        relay(command, entry.limit, &expected)
    } else {
        // An interactive program speaks for itself: its status is its word.
        command.status().map_err(|e| format!("unshare: {e}")).map(|status| (status, true))
    };
    cgroup::remove(&bed);
    match result? {
        (status, true) if status.success() => Ok(()),
        (status, false) if status.success() => {
            Err("did not run to its end inside (is there a test of that name?)".to_owned())
        }
        (status, _) => Err(format!("failed inside its namespaces ({status})")),
    }
}

/// Passes the output on line by line, kills at the limit, tells whether `expected` came.
fn relay(mut command: Command, limit: Option<Duration>, expected: &str) -> Result<(ExitStatus, bool), String> {
    let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let err = writer.try_clone().map_err(|e| e.to_string())?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(err)
        .spawn()
        .map_err(|e| format!("unshare: {e} (package util-linux)"))?;
    drop(command); // our copies of the pipe's writing end, or the reader never ends
    let (tx, lines) = std::sync::mpsc::channel::<String>();
    let pump = std::thread::spawn(move || pump(reader, &tx));
    let deadline = limit.map(|l| Instant::now() + l);
    let mut finished = false;
    let mut late = false;
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                finished |= line == expected;
                println!("{line}");
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
        if deadline.is_some_and(|d| Instant::now() > d) && !late {
            late = true;
            child.kill().map_err(|e| e.to_string())?; // --kill-child takes pid 1 along
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    pump.join().map_err(|_| "the output reader panicked".to_owned())?;
    if late {
        return Err(format!("still running after {:?}; killed", limit.unwrap_or_default()));
    }
    Ok((status, finished))
}

fn pump(reader: impl Read, tx: &std::sync::mpsc::Sender<String>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line);
        if tx.send(text.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

/// Stage `init`: pid 1 of the new namespaces. Ends the process.
fn init(entry: &Entry) -> Result<(), String> {
    refuse_outside_namespace()?;
    let tree = std::env::var(CGROUP).map_err(|_| "no name for a cgroup")?;
    mounts::make(&kept_dirs()).map_err(|e| format!("mounts: {e}"))?;
    accounts::write().map_err(|e| format!("accounts: {e}"))?;
    let tree = cgroup::enter(&tree).map_err(|e| format!("cgroup: {e}"))?;
    let child = Command::new("/proc/self/exe")
        .args(&entry.args)
        .env(STAGE, "test")
        .spawn()
        .map_err(|e| format!("starting the body: {e}"))?;
    let code = reap_until(&child);
    tree.leave();
    reap_leftovers();
    std::process::exit(code)
}

fn refuse_outside_namespace() -> Result<(), String> {
    let outside = std::env::var_os(HOST_MNT).ok_or("no mount namespace to compare with")?;
    let here = std::fs::read_link("/proc/self/ns/mnt").map_err(|e| e.to_string())?;
    if getpid().as_raw() != 1 || here.as_os_str() == outside {
        return Err("not pid 1 of a private namespace: nothing was changed".to_owned());
    }
    Ok(())
}

/// Directories of this build that must stay visible when /home, /root, /tmp are covered.
fn kept_dirs() -> Vec<PathBuf> {
    let mut dirs = vec![crate::world::workspace()];
    if let Ok(exe) = std::env::current_exe()
        && let Some(target) = exe.ancestors().nth(3)
    {
        dirs.push(target.to_owned());
    }
    dirs
}

/// What pid 1 is for: waits for every orphan until the body's own process ends.
fn reap_until(child: &Child) -> i32 {
    let body = Pid::from_raw(child.id().cast_signed());
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == body => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == body => {
                println!("the body was ended by {signal}");
                return 128;
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                println!("pid 1 cannot wait: {error}");
                return 129;
            }
        }
    }
}

/// Gives what was killed with the cgroup two seconds to go; the kernel does the rest.
fn reap_leftovers() {
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(10)),
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Sends a signal to one process; false if it was not there any more.
pub fn signal(pid: u32, signal: Signal) -> bool {
    assert!(pid > 1, "pid 0 and 1 are never meant");
    kill(Pid::from_raw(pid.cast_signed()), signal).is_ok()
}
