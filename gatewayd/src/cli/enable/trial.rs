//! The trial: this machine's own sudo and su, run for a real requester in a private mount namespace
//! over copies of /etc/pam.d and sudoers, where a probe listens in the agent's place. What counts is
//! that the module itself spoke: in `account` by a signed request at the probe, in `session` by its
//! refusal of a session without a grant. A sudo that takes its stack from elsewhere, an earlier line
//! that ends the stack, a module that can't be loaded: none of them gets that far. Nothing outside the
//! namespace changes, and what it says to the system log stays inside; the kernel's audit log, where
//! there is one, hears of it.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{User, initgroups, setgid, setuid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use twinlock_protocol::{DenyReason, escape};

use super::files::Snapshot;
use super::lines::{self, Gate};
use super::probe::Probe;
use super::state::Places;
use super::wiring::{Change, OTHER};
use crate::cli::Failure;

/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the run's command would print; its own words don't hold it.
const RAN: &str = "twinlock-trial-ran-42";
const COMMAND: &str = "echo twinlock-trial-ran-$((40+2))";
/// In a terminal that shows it all.
const TERMINAL: rustix::termios::Winsize =
    rustix::termios::Winsize { ws_row: 60, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
/// Where sudo and su may be, besides the first one on the path.
const PROGRAM_DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/lib/cargo/bin", "/usr/local/bin"];

/// Runs the trial for a login of this host; returns what was proved, in words. The calling process
/// stays in the namespace: it is the helper, run for this alone.
///
/// # Errors
/// A [`Failure`]: what was not proved, with what was seen instead.
pub fn run(places: &Places, login: &str, gates: &BTreeSet<Gate>, changes: &[Change]) -> Result<Vec<String>, Failure> {
    let user = User::from_name(login)?.filter(|user| !user.uid.is_root());
    let user = user.ok_or_else(|| Failure::plain(format!("{login} is no login of this host that can ask")))?;
    let stage = Stage::set(places, &user, changes)
        .map_err(|error| Failure::plain(format!("the copy for the trial can't be made: {error}")))?;
    let mut proved = Vec::new();
    for gate in gates {
        let programs = programs(*gate);
        if programs.is_empty() {
            return Err(Failure::plain(format!("there is no {gate} on this machine")));
        }
        for program in &programs {
            proved.push(prove(&stage, *gate, program, &user)?);
        }
    }
    Ok(proved)
}

/// Both phases, by the plain form and by the one for login shells, by the service's own file and by
/// `other` in its place.
fn prove(stage: &Stage, gate: Gate, program: &Path, user: &User) -> Result<String, Failure> {
    for arguments in forms(gate) {
        for file in [File::Own, File::Gone] {
            if file == File::Gone && !stage.has(OTHER) {
                continue;
            }
            for phase in [lines::Phase::Account, lines::Phase::Session] {
                let write = |error| Failure::plain(format!("the copy for the trial can't be written: {error}"));
                stage.write(gate, file, phase).map_err(write)?;
                stage.probe.forget();
                let seen = watch(program, &arguments, user)?;
                let called = match phase {
                    lines::Phase::Account => stage.probe.was_asked(gate, user.uid.as_raw()),
                    lines::Phase::Session => seen.text.contains(DenyReason::NoGrant.row().line),
                };
                if !called || seen.ran() {
                    return Err(not_called(gate, program, &arguments, file, phase, &seen));
                }
            }
        }
    }
    Ok(format!("{} ({}) calls the module in account and session", program.display(), version(program)))
}

fn not_called(gate: Gate, program: &Path, arguments: &[&str], file: File, phase: lines::Phase, seen: &Seen) -> Failure {
    let how = match file {
        File::Own => String::new(),
        File::Gone => format!(" where the file of {gate} is gone and PAM takes /etc/pam.d/other"),
    };
    let line = format!(
        "{} {} does not call the module in {}{how}{}",
        program.display(),
        arguments.first().unwrap_or(&""),
        phase.word(),
        if seen.ran() { ": the command ran" } else { "" }
    );
    let said: Vec<&str> = seen.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Failure::new(line, format!("nothing was changed; it said: {}", escape::visible(said.join(" | ").as_bytes())))
}

fn forms(gate: Gate) -> Vec<Vec<&'static str>> {
    match gate {
        Gate::Sudo => vec![vec!["--", "/bin/sh", "-c", COMMAND], vec!["-i", "--", "/bin/sh", "-c", COMMAND]],
        Gate::Su => vec![vec!["-c", COMMAND, "root"], vec!["-l", "-c", COMMAND, "root"]],
    }
}

/// Every set-uid program that stands for a gate, each once.
#[must_use]
pub fn programs(gate: Gate) -> Vec<PathBuf> {
    let names = match gate {
        Gate::Sudo => ["sudo", "sudo-rs", "sudo.ws"],
        Gate::Su => ["su", "su-rs", "su.ws"],
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).map(|dir| dir.join(names[0])).find(|path| path.exists());
    let others = PROGRAM_DIRS.iter().flat_map(|dir| names.map(|name| Path::new(dir).join(name)));
    let mut seen = BTreeSet::new();
    first
        .into_iter()
        .chain(others)
        .filter(|path| {
            let is_it = |meta: &fs::Metadata| meta.is_file() && is_set_uid_root(meta.uid(), meta.mode());
            fs::metadata(path).is_ok_and(|meta| is_it(&meta) && seen.insert((meta.dev(), meta.ino())))
        })
        .collect()
}

/// Whoever may run it (a group of people, on hardened systems), it makes them root.
fn is_set_uid_root(uid: u32, mode: u32) -> bool {
    uid == 0 && mode & 0o4000 != 0
}

/// The first line of `--version`.
#[must_use]
pub fn version(program: &Path) -> String {
    let said = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let said = said.map(|output| output.stdout).unwrap_or_default();
    escape::visible(said.split(|byte| *byte == b'\n').next().unwrap_or_default())
}

/// Which file the service has in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    /// Its own.
    Own,
    /// None: libpam takes `other`.
    Gone,
}

/// The private namespace with its copies.
struct Stage {
    /// The copies that change from run to run, and what they hold in one of the account phase.
    copies: Vec<(String, Snapshot)>,
    pam_d: PathBuf,
    probe: Probe,
    /// Where the system log would be.
    _log: Option<UnixDatagram>,
}

impl Stage {
    fn set(places: &Places, user: &User, changes: &[Change]) -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let stage = places.state.join("trial");
        make_dir(&stage, 0o700)?;
        mount(Some("twinlock-trial"), &stage, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;

        let pam_d = stage.join("pam.d");
        make_dir(&pam_d, 0o755)?;
        let copies = copy_pam(&places.pam_d, &pam_d, changes)?;
        bind(&pam_d, &places.pam_d)?;
        copy_sudoers(&stage, user)?;

        for (name, place) in [("sudo", "/run/sudo"), ("sudo-rs", "/var/run/sudo-rs")] {
            // Its memory of who typed a password.
            if Path::new(place).is_dir() {
                make_dir(&stage.join(name), 0o711)?;
                bind(&stage.join(name), Path::new(place))?;
            }
        }
        let log = private_log(&stage)?;
        let socket = places.agent_socket.clone();
        let run = stage.join("run");
        make_dir(&run, 0o755)?;
        let dir = socket.parent().unwrap_or(Path::new("/run/twinlock"));
        bind(&run, dir)?;
        let probe = Probe::listen(&socket)?;
        Ok(Self { copies, pam_d: places.pam_d.clone(), probe, _log: log })
    }

    fn has(&self, name: &str) -> bool {
        self.copies.iter().any(|(copied, _)| copied == name)
    }

    /// Writes the copies for one run. For the session phase our account lines stand back, because
    /// without an approval nothing would get past them; su's password is not asked for.
    fn write(&self, gate: Gate, file: File, phase: lines::Phase) -> io::Result<()> {
        let passes = match gate {
            Gate::Su => b"auth sufficient pam_permit.so\n".as_slice(),
            Gate::Sudo => b"".as_slice(),
        };
        for (name, snapshot) in &self.copies {
            let path = self.pam_d.join(name);
            let is_service = gate.services().contains(&name.as_str());
            if is_service && file == File::Gone {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Err(_) | Ok(()) => continue,
                }
            }
            let mut bytes = snapshot.bytes.0.clone();
            if phase == lines::Phase::Session {
                bytes = lines::with_account_standing_back(&bytes);
            }
            if is_service || (name == OTHER && file == File::Gone) {
                bytes = [passes, &bytes].concat();
            }
            snapshot.with(bytes).put(&path).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Copies PAM's directory; returns the services' files and whatever carries our lines, as they are to be.
fn copy_pam(from: &Path, to: &Path, changes: &[Change]) -> io::Result<Vec<(String, Snapshot)>> {
    let mut copies = Vec::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_symlink() {
            symlink(fs::read_link(&path)?, &copy)?;
        } else if let Some(snapshot) = Snapshot::take(&path).map_err(io::Error::other)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let changed = changes.iter().find(|change| change.name == name);
            let snapshot = changed.map_or(snapshot.clone(), |change| snapshot.with(change.after.clone()));
            snapshot.put(&copy).map_err(io::Error::other)?;
            let is_service = Gate::ALL.iter().any(|gate| gate.services().contains(&name.as_str()));
            if is_service || lines::is_wired(&snapshot.bytes.0) {
                copies.push((name, snapshot));
            }
        }
    }
    Ok(copies)
}

/// Copies of sudoers in which the requester may do anything without a password, so that a run is not
/// about that.
fn copy_sudoers(stage: &Path, user: &User) -> io::Result<()> {
    let rule = format!("\n{} ALL=(ALL:ALL) NOPASSWD: ALL\n", user.name);
    for name in ["sudoers", "sudoers-rs"] {
        let (real, copy) = (Path::new("/etc").join(name), stage.join(name));
        if let Some(snapshot) = Snapshot::take(&real).map_err(io::Error::other)? {
            let text = [snapshot.bytes.0.as_slice(), rule.as_bytes()].concat();
            snapshot.with(text).put(&copy).map_err(io::Error::other)?;
            bind(&copy, &real)?;
        }
    }
    Ok(())
}

/// A log socket of our own, so that the trial leaves no line about an elevation that never was.
fn private_log(stage: &Path) -> io::Result<Option<UnixDatagram>> {
    let Ok(real) = fs::canonicalize("/dev/log") else { return Ok(None) };
    let path = stage.join("log");
    let socket = UnixDatagram::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    bind(&path, &real)?;
    let drain = socket.try_clone()?;
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while drain.recv(&mut buffer).is_ok() {}
    });
    Ok(Some(socket))
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", to.display())))
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// What a run showed.
struct Seen {
    text: String,
}

impl Seen {
    /// Whether the command ran, whatever anybody said.
    fn ran(&self) -> bool {
        self.text.contains(RAN)
    }
}

/// Runs a program as the user on a terminal of its own, to its end.
fn watch(program: &Path, arguments: &[&str], user: &User) -> Result<Seen, Failure> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    rustix::termios::tcsetwinsize(&master, TERMINAL)?;
    let name = ptsname(&master, Vec::new())?;
    // It is to be the program's terminal, not ours: we may be a session's leader without one.
    let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
    let mut open = fs::OpenOptions::new();
    let slave = open.read(true).write(true).custom_flags(flags).open(OsStr::from_bytes(name.as_bytes()))?;
    std::os::unix::fs::fchown(&slave, Some(user.uid.as_raw()), None)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["seat", &user.name, "--"]).arg(program).args(arguments);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let mut child = command.spawn()?;
    drop(command); // or the terminal never closes
    let (sender, text) = mpsc::channel();
    let mut reader = fs::File::from(master);
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut buffer) {
            all.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
        let _ = sender.send(all);
    });
    let until = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Err(Failure::plain(format!("{} did not end within {PATIENCE:?}", program.display())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let text = text.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    Ok(Seen { text: String::from_utf8_lossy(&text).into_owned() })
}

/// The part of [`watch`] that becomes the program: takes the terminal, becomes the user, and is gone.
///
/// # Errors
/// A [`Failure`] when the program can't be run.
pub fn seat(login: &str, program: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let user = User::from_name(login)?.ok_or_else(|| Failure::plain("there is no such login"))?;
    rustix::process::setsid()?;
    rustix::process::ioctl_tiocsctty(io::stdin())?;
    // The request must name a person of the roster wherever this was started from. Where the kernel
    // keeps a login uid that was set, that of the administrator has to do.
    let _kept_or_changed = fs::write("/proc/self/loginuid", user.uid.to_string());
    initgroups(&CString::new(user.name.as_str())?, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").env_clear();
    command.envs([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C")]);
    command.envs([("TERM", "dumb"), ("SHELL", "/bin/sh"), ("HOME", "/")]);
    command.envs([("USER", &user.name), ("LOGNAME", &user.name)]);
    Err(command.exec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_that_makes_root_of_somebody_is_tried() {
        for mode in [0o104_755, 0o104_111, 0o104_750, 0o104_700, 0o106_755] {
            assert!(is_set_uid_root(0, mode), "{mode:o}");
        }
        assert!(!is_set_uid_root(0, 0o100_755) && !is_set_uid_root(0, 0o102_755), "control");
        assert!(!is_set_uid_root(1000, 0o104_755));
    }
}
