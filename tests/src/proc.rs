//! Starts programs as somebody (people, daemons with just their capabilities), waits for
//! them with a limit, ends them by pid, and takes pictures of `/proc`.
//!
//! Every program starts in a session of its own, so that no sudo under test ever finds
//! the terminal of whoever runs the tests.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::ns;

const POLL: Duration = Duration::from_millis(5);

/// Who runs a program, where, with what.
#[derive(Clone, Debug)]
pub struct Launch {
    user: String,
    caps: Option<Vec<String>>,
    cgroup: Option<PathBuf>,
    dir: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    terminal: bool,
}

impl Launch {
    /// A person with an ordinary login environment, in the home directory.
    pub fn person(user: &str) -> Launch {
        let home = if user == "root" { "/root".to_owned() } else { format!("/home/{user}") };
        let launch = Launch::bare(user);
        launch
            .env("HOME", &home)
            .env("SHELL", "/bin/bash")
            .env("TERM", "xterm-256color")
            .env("USER", user)
            .env("LOGNAME", user)
            .dir(&home)
    }

    /// A daemon: its user and groups, exactly these capabilities, no new privileges.
    pub fn service(user: &str, caps: &[&str]) -> Launch {
        let caps = caps.iter().map(|c| (*c).to_owned()).collect();
        Launch { caps: Some(caps), ..Launch::bare(user) }.dir("/")
    }

    fn bare(user: &str) -> Launch {
        let none =
            Launch { user: user.to_owned(), caps: None, cgroup: None, dir: None, env: Vec::new(), terminal: false };
        none.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8")
    }

    /// Sets a variable (the caller's environment is never inherited).
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Launch {
        self.env.retain(|(n, _)| n != name.as_ref());
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Removes a variable.
    pub fn without_env(mut self, name: &str) -> Launch {
        self.env.retain(|(n, _)| n != name);
        self
    }

    /// The working directory.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Launch {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Joins this cgroup (a directory that exists) before anything else.
    pub fn cgroup(mut self, dir: impl AsRef<Path>) -> Launch {
        self.cgroup = Some(dir.as_ref().to_owned());
        self
    }

    /// Standard input becomes the controlling terminal.
    pub(crate) fn with_terminal(mut self) -> Launch {
        self.terminal = true;
        self
    }

    /// The uid of whoever this is, 0 for root.
    pub fn uid(&self) -> u32 {
        if self.user == "root" {
            return 0;
        }
        let user = nix::unistd::User::from_name(&self.user).expect("reading the passwd file");
        user.unwrap_or_else(|| panic!("there is no user {}", self.user)).uid.as_raw()
    }

    /// The command; every step execs the next, so the child's pid is the program's own.
    pub fn command<S: AsRef<OsStr>>(&self, argv: &[S]) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |text: &str| words.push(text.into());
        if let Some(dir) = &self.cgroup {
            add("sh");
            add("-c");
            add("echo 0 > \"$1/cgroup.procs\" && shift && exec \"$@\"");
            add("sh");
            add(dir.to_str().expect("a cgroup path is UTF-8"));
        }
        add("setsid");
        if self.terminal {
            add("--ctty");
        }
        let me = nix::unistd::geteuid().as_raw();
        if self.uid() != me || self.caps.is_some() {
            add("setpriv");
            add(&format!("--reuid={}", self.user));
            add(&format!("--regid={}", self.user));
            add("--init-groups");
            if let Some(caps) = &self.caps {
                let set = caps.iter().fold("-all".to_owned(), |s, c| format!("{s},+{c}"));
                add(&format!("--inh-caps={set}"));
                add(&format!("--ambient-caps={set}"));
                add(&format!("--bounding-set={set}"));
                add("--no-new-privs");
            }
            add("--");
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(argv).env_clear();
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// Runs it to its end, without a terminal and with empty input.
    pub fn run<S: AsRef<OsStr>>(&self, argv: &[S]) -> Finished {
        run(self.command(argv).stdin(Stdio::null()), Duration::from_secs(30))
    }

    /// As [`Launch::run`], with `input` on standard input.
    pub fn run_with_input<S: AsRef<OsStr>>(&self, argv: &[S], input: &str) -> Finished {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut writer, input.as_bytes()).expect("a short input");
        drop(writer);
        run(self.command(argv).stdin(reader), Duration::from_secs(30))
    }
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// Its status; a program killed at the limit has a signal here.
    pub status: ExitStatus,
    /// Standard output, replaced where not UTF-8.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// True if it ended by itself with status 0.
    pub fn ok(&self) -> bool {
        self.status.success()
    }
}

/// Runs a command with a limit; panics when the limit is reached (after killing it).
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    let started = Instant::now();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let out = Collector::start(child.stdout.take().expect("piped"));
    let err = Collector::start(child.stderr.take().expect("piped"));
    let Some(status) = wait_child(&mut child, limit) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} ran longer than {limit:?}\n{}\n{}", out.so_far(), err.so_far());
    };
    let took = started.elapsed();
    Finished { status, stdout: out.finish(), stderr: err.finish(), took }
}

fn wait_child(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("waiting for a child") {
            return Some(status);
        }
        if Instant::now() > until {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Reads a pipe to its end in the background.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(mut from: impl Read + Send + 'static) -> Collector {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Collector { bytes, thread }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// What came, after the pipe closed; half a second for children that still hold it.
    fn finish(self) -> String {
        let until = Instant::now() + Duration::from_millis(500);
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(POLL);
        }
        self.so_far()
    }
}

fn bind(path: &str, mode: u32) -> std::os::unix::net::UnixListener {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    listener
}

/// A daemon under test: killed when dropped, its output kept.
pub struct Daemon {
    name: String,
    child: Child,
    out: Collector,
    err: Collector,
}

impl Daemon {
    /// Starts it; a daemon that ends at once is noticed by the first `wait_for_…`.
    pub fn start<S: AsRef<OsStr>>(name: &str, launch: &Launch, argv: &[S]) -> Daemon {
        let mut command = launch.command(argv);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {command:?}: {e}"));
        let out = Collector::start(child.stdout.take().expect("piped"));
        let err = Collector::start(child.stderr.take().expect("piped"));
        Daemon { name: name.to_owned(), child, out, err }
    }

    /// Starts it with one or two listening sockets that root made, passed as systemd passes those of a
    /// socket unit (`LISTEN_FDS`, sd_listen_fds(3)): their paths, and their modes.
    pub fn start_activated<S: AsRef<OsStr>>(
        name: &str,
        launch: &Launch,
        argv: &[S],
        sockets: &[(&str, u32)],
    ) -> Daemon {
        let mut bound = sockets.iter().map(|(path, mode)| Stdio::from(std::os::fd::OwnedFd::from(bind(path, *mode))));
        let (first, second) = (bound.next().expect("a socket"), bound.next());
        assert!(bound.next().is_none(), "two descriptors can be passed without unsafe code");
        let script = format!(
            "export LISTEN_PID=$$ LISTEN_FDS={}; exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2",
            1 + usize::from(second.is_some())
        );
        let mut words: Vec<OsString> = ["sh", "-c", script.as_str(), "sh"].map(Into::into).to_vec();
        words.extend(argv.iter().map(|word| word.as_ref().to_owned()));
        let mut command = launch.command(&words);
        command.stdin(first).stdout(second.unwrap_or_else(Stdio::null)).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {command:?}: {e}"));
        let err = Collector::start(child.stderr.take().expect("piped"));
        let (nothing, _) = std::io::pipe().expect("a pipe");
        Daemon { name: name.to_owned(), child, out: Collector::start(nothing), err }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote so far: standard error, then standard output.
    pub fn log(&self) -> String {
        format!("{}{}", self.err.so_far(), self.out.so_far())
    }

    /// False once it has ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("waiting for a daemon").is_none()
    }

    /// Sends a signal to the daemon itself.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            ns::signal(self.pid(), signal);
        }
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end; panics with the log after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let status = wait_child(&mut self.child, limit);
        status.unwrap_or_else(|| panic!("{} still runs after {limit:?}\n{}", self.name, self.log()))
    }

    /// Waits until something accepts connections on the Unix socket.
    pub fn wait_for_socket(&mut self, path: impl AsRef<Path>, limit: Duration) {
        let path = path.as_ref();
        self.wait_until(&path.display().to_string(), limit, || UnixStream::connect(path).is_ok());
    }

    /// Waits until a file of that name is there (a socket that counts its connections).
    pub fn wait_for_path(&mut self, path: impl AsRef<Path>, limit: Duration) {
        let path = path.as_ref();
        self.wait_until(&path.display().to_string(), limit, || path.exists());
    }

    /// Waits until something accepts connections on the port.
    pub fn wait_for_port(&mut self, address: SocketAddr, limit: Duration) {
        let one = Duration::from_millis(200);
        self.wait_until(&address.to_string(), limit, || TcpStream::connect_timeout(&address, one).is_ok());
    }

    /// Waits until its output contains the text.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) {
        let (out, err) = (Arc::clone(&self.out.bytes), Arc::clone(&self.err.bytes));
        let has = |b: &Mutex<Vec<u8>>| String::from_utf8_lossy(&b.lock().unwrap()).contains(text);
        self.wait_until(&format!("{text:?} in the log"), limit, || has(&out) || has(&err));
    }

    fn wait_until(&mut self, what: &str, limit: Duration, mut there: impl FnMut() -> bool) {
        let until = Instant::now() + limit;
        while !there() {
            let ended = !self.is_running();
            if ended || Instant::now() > until {
                let how = if ended { "ended" } else { "is late" };
                panic!("{} {how}, waiting for {what}\n{}", self.name, self.log());
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("--- {} ---\n{}", self.name, self.log());
        }
    }
}

/// Polls until `there` holds; panics naming `what` after `limit`. Returns how long it took.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut there: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(POLL);
    }
    started.elapsed()
}

/// One process as `/proc` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub ppid: u32,
    /// Session id.
    pub sid: u32,
    /// Device number of the controlling terminal, 0 for none.
    pub tty: i32,
    /// State letter, `Z` for a zombie.
    pub state: char,
    /// Start time, clock ticks since boot.
    pub start_ticks: u64,
    /// Real uid.
    pub uid: u32,
    /// Effective uid.
    pub euid: u32,
    /// Path in the cgroup2 hierarchy, as seen from the reader's cgroup namespace.
    pub cgroup: String,
    /// Arguments, replaced where not UTF-8.
    pub cmdline: Vec<String>,
    /// Target of `exe`, if it may be read.
    pub exe: Option<PathBuf>,
}

/// All processes of the reader's pid namespace at about one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// In order of pid.
    pub processes: Vec<Process>,
}

impl Snapshot {
    /// Reads `/proc`. Processes that end meanwhile are left out.
    pub fn take() -> Snapshot {
        let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
        let mut processes: Vec<_> = pids.filter_map(read_process).collect();
        processes.sort_by_key(|p| p.pid);
        Snapshot { processes }
    }

    /// Live processes (no zombies) one of whose arguments is `word`.
    pub fn with_word(&self, word: &str) -> Vec<&Process> {
        self.live().filter(|p| p.cmdline.iter().any(|w| w == word)).collect()
    }

    /// Live processes in this cgroup or below it.
    pub fn in_cgroup(&self, path: &str) -> Vec<&Process> {
        let below = format!("{}/", path.trim_end_matches('/'));
        self.live().filter(|p| p.cgroup == path || p.cgroup.starts_with(&below)).collect()
    }

    /// Live processes whose parent is `pid`.
    pub fn children_of(&self, pid: u32) -> Vec<&Process> {
        self.live().filter(|p| p.ppid == pid).collect()
    }

    /// Writes it as JSON.
    pub fn save(&self, path: impl AsRef<Path>) {
        let json = serde_json::to_vec_pretty(self).expect("plain data");
        fs::write(path.as_ref(), json).expect("writing a snapshot");
    }

    fn live(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|p| p.state != 'Z' && p.state != 'X')
    }
}

fn read_process(pid: u32) -> Option<Process> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    // The name in brackets may hold anything, brackets too: fields count from the last.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let status = fs::read_to_string(dir.join("status")).ok()?;
    let uids = status.lines().find_map(|l| l.strip_prefix("Uid:\t"))?;
    let mut uids = uids.split('\t').map(str::parse);
    let cgroup = fs::read_to_string(dir.join("cgroup")).ok()?;
    let raw = fs::read(dir.join("cmdline")).ok()?;
    let words = raw.strip_suffix(b"\0").unwrap_or(&raw).split(|b| *b == 0);
    Some(Process {
        pid,
        ppid: fields.get(1)?.parse().ok()?,
        sid: fields.get(3)?.parse().ok()?,
        tty: fields.get(4)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        uid: uids.next()?.ok()?,
        euid: uids.next()?.ok()?,
        cgroup: cgroup.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("").to_owned(),
        cmdline: words.map(|w| String::from_utf8_lossy(w).into_owned()).collect(),
        exe: fs::read_link(dir.join("exe")).ok(),
    })
}
