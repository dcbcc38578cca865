//! A reaper of a test's own: its directory, its cgroup subtree, its process, and the front ends
//! that register with it. The front end is this very test binary, started again (see `player`).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use twinlock_protocol::evidence::{EndNote, GrantRecord};
use twinlock_protocol::statement::StartStatement;

/// The uid that plays the agent.
pub const AGENT: u32 = 60_771;

/// Whether these tests can run. Without root they are skipped, loudly; in CI that is a failure.
pub fn root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "these tests need root, and CI must not skip them");
    eprintln!("SKIPPED: this test needs root (cgroups, peer credentials)");
    false
}

/// The cgroup2 mount of this machine.
pub fn cgroup_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a cgroup2 mount");
    line.split(' ').nth(4).unwrap().into()
}

/// One reaper with everything around it.
pub struct Bench {
    pub dir: TempDir,
    pub cgroup: PathBuf,
    relative: String,
    reaper: Option<Child>,
    prefix: Vec<String>,
}

impl Bench {
    /// A running reaper, as root.
    pub fn new() -> Self {
        Self::prefixed(&[])
    }

    /// A running reaper whose command line begins with `prefix` (`setpriv …`).
    pub fn prefixed(prefix: &[&str]) -> Self {
        let mut bench = Self::stopped(prefix);
        bench.start();
        bench
    }

    /// Everything but the process.
    pub fn stopped(prefix: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let relative = format!("twinlock-test-{}-{number}", std::process::id());
        let cgroup = cgroup_mount().join(&relative);
        fs::create_dir(&cgroup).unwrap();
        let dir = tempfile::Builder::new().prefix("twinlock-host-").tempdir().unwrap();
        fs::create_dir(dir.path().join("grants")).unwrap();
        set_mode(dir.path(), 0o755);
        set_mode(&dir.path().join("grants"), 0o700);
        let config = format!(
            "socket = \"{0}/reaper.sock\"\nuser_socket = \"{0}/user.sock\"\ngrants = \"{0}/grants\"\n\
             agent_uid = {AGENT}\ncgroup = \"{relative}\"\n",
            dir.path().display()
        );
        fs::write(dir.path().join("reaper.toml"), config).unwrap();
        set_mode(&dir.path().join("reaper.toml"), 0o644);
        let prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        Self { dir, cgroup, relative, reaper: None, prefix }
    }

    /// Starts the reaper and waits until it listens.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the reaper with a wrapper of this start alone before the usual prefix.
    pub fn start_with(&mut self, wrapper: &[&str]) {
        let daemon = env!("CARGO_BIN_EXE_twinlock-gatewayd");
        let config = self.path("reaper.toml");
        let mut words: Vec<String> = wrapper.iter().map(|word| (*word).to_owned()).collect();
        words.extend(self.prefix.clone());
        words.extend([daemon.to_owned(), "reaper".into(), "--config".into(), config.display().to_string()]);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        let socket = self.socket();
        let up = within(Duration::from_secs(10), || {
            assert!(child.try_wait().unwrap().is_none(), "the reaper did not start:\n{}", self.log());
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        assert!(up, "the reaper does not listen:\n{}", self.log());
        self.reaper = Some(child);
    }

    /// A path as the reaper sees it, in its own mount namespace.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let pid = self.reaper.as_ref().expect("a running reaper").id();
        Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap())
    }

    /// SIGKILLs the reaper.
    pub fn kill_reaper(&mut self) {
        if let Some(mut child) = self.reaper.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Whether the reaper still runs.
    pub fn reaper_runs(&mut self) -> bool {
        self.reaper.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("reaper.sock")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A front end that registers and then runs `script` in a shell.
    pub fn front_end(&self, ttl_ms: u64, script: &str) -> FrontEnd {
        self.front_end_of(ttl_ms, script, &[])
    }

    /// The same, started by a wrapper.
    pub fn front_end_of(&self, ttl_ms: u64, script: &str, wrapper: &[&str]) -> FrontEnd {
        let mut command = self.player(ttl_ms, script, wrapper);
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        FrontEnd::new(command.spawn().unwrap())
    }

    /// The same, ready to be started.
    pub fn player(&self, ttl_ms: u64, script: &str, wrapper: &[&str]) -> Command {
        let this = std::env::current_exe().unwrap();
        let words = wrapper.iter().map(std::ffi::OsStr::new).chain([this.as_os_str()]).collect::<Vec<_>>();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.args(["--exact", "player::play_front_end", "--ignored", "--nocapture", "--quiet"]);
        command.env("PLAY_SOCKET", self.socket()).env("PLAY_TTL_MS", ttl_ms.to_string()).env("PLAY_SCRIPT", script);
        command.stderr(Stdio::null());
        command
    }

    /// The record of a grant.
    pub fn record(&self, grant: &str) -> GrantRecord {
        let bytes = fs::read(self.path("grants").join(format!("{grant}.json"))).expect("a record");
        GrantRecord::from_bytes(&bytes).expect("a sound record")
    }

    /// The deadline of a grant, in milliseconds of boottime.
    pub fn deadline_of(&self, grant: &str) -> u64 {
        StartStatement::from_bytes(&self.record(grant).start.statement.0).unwrap().deadline_boot_ms
    }

    /// Waits until a grant has its end on disk.
    pub fn end_of(&self, grant: &str, limit: Duration) -> EndNote {
        let ended = within(limit, || self.record(grant).end.is_some());
        assert!(ended, "grant {grant} has no end; the reaper says:\n{}", self.log());
        self.record(grant).end.unwrap()
    }

    /// The leaf's directory.
    pub fn leaf(&self, grant: &str) -> PathBuf {
        self.cgroup.join(grant)
    }

    /// Pids in a leaf.
    pub fn members(&self, grant: &str) -> Vec<u32> {
        let list = fs::read_to_string(self.leaf(grant).join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kill_reaper();
        for entry in fs::read_dir(&self.cgroup).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let _ = fs::write(entry.path().join("cgroup.kill"), "1");
                within(Duration::from_secs(5), || fs::remove_dir(entry.path()).is_ok() || !entry.path().exists());
            }
        }
        // What was just killed may not be reaped yet.
        if !within(Duration::from_secs(5), || fs::remove_dir(&self.cgroup).is_ok()) {
            eprintln!("the cgroup {} stays", self.relative);
        }
        if std::thread::panicking() {
            eprintln!("--- the reaper's log ---\n{}", self.log());
        }
    }
}

/// A process that plays sudo's front end.
pub struct FrontEnd {
    pub child: Child,
    lines: Option<BufReader<ChildStdout>>,
    pub heard: Vec<String>,
}

impl FrontEnd {
    pub fn new(mut child: Child) -> Self {
        let lines = child.stdout.take().map(BufReader::new);
        Self { child, lines, heard: Vec::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The rest of the first line that begins with `word`.
    pub fn hear(&mut self, word: &str) -> String {
        let lines = self.lines.as_mut().expect("a pipe");
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                panic!("the front end never said {word:?}, only {:?}", self.heard);
            }
            // libtest writes its own words before, on the same line.
            let line = line.trim().trim_start_matches("test player::play_front_end ... ").to_owned();
            self.heard.push(line.clone());
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    /// The grant, once the session stands.
    pub fn grant(&mut self) -> String {
        self.hear("confirmed")
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until `done`, at most `limit`.
pub fn within(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Whether a process runs and is no zombie.
pub fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("Z").starts_with('Z'))
}

/// Runs `work` in a thread that has this uid, so that sockets it connects carry it.
pub fn as_uid<T: Send + 'static>(uid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        if uid != 0 {
            let to = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(to, to, to).unwrap();
        }
        work()
    };
    std::thread::spawn(run).join().unwrap()
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
