//! The front end's part: a process that registers at the reaper as the module does in
//! `open_session`, moves into its leaf, and runs a command as its child.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};
use twinlock_protocol::evidence::{Authority, Certified, GrantRecord, GrantRecordFormat};
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::request::{ElevationRequest, Login, ProcessFacts, Requester};
use twinlock_protocol::softphone::{self, Fixture};
use twinlock_protocol::wire::reaper::{Joined, Opened, ReaperReply, ReaperRequest, Register};
use twinlock_protocol::{Bytes, UnixTime};

use crate::wire;

pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    (now.tv_sec * 1000 + now.tv_nsec / 1_000_000).try_into().unwrap()
}

pub fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap()
}

/// A registration of this process, sound in every part; `change` spoils what a test wants spoilt
/// before it is signed.
pub fn registration(ttl_ms: u64, uid: u32, change: impl FnOnce(&mut ElevationRequest)) -> Register {
    let now = UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
    let fixture = Fixture::new(b"ca", now);
    let (mut request, key) = fixture.request();
    let pid = std::process::id();
    request.boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    request.process = ProcessFacts { pid, start_time: start_time(pid), parent: 1, session: 1 };
    request.requester = Requester { login: None, real: Login { uid, name: "alice".into() }, pam_ruser: None };
    change(&mut request);
    let signed = fixture.sign_request(&request, &key);
    let id = ElevationRequest::id_of(&signed.request.0);
    let deadline_boot_ms = boot_ms() + ttl_ms;
    let record = GrantRecord {
        format: GrantRecordFormat::GrantRecord,
        version: 1,
        grant: id.grant(),
        start: softphone::start(&request, id, &key, deadline_boot_ms),
        request: signed,
        authority: Authority::Certificate(Certified {
            evidence: Bytes(softphone::evidence(id, Vec::new()).to_bytes()),
            certificate: Bytes(b"certificate".to_vec()),
        }),
        end: None,
    };
    Register { wire: 1, record, deadline_boot_ms }
}

/// Registers this process and reads the answer.
pub fn register(stream: &UnixStream, register: &Register, tty: Option<BorrowedFd<'_>>) -> ReaperReply {
    let pidfd = pidfd_open(Pid::from_raw(std::process::id().cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
    let mut fds = vec![pidfd.as_fd()];
    fds.extend(tty);
    wire::send_with(stream, &ReaperRequest::Register(Box::new(register.clone())), &fds);
    wire::receive(stream).expect("an answer")
}

/// Started by other tests as a process of its own; never by itself.
#[test]
#[ignore = "played by other tests"]
fn play_front_end() -> ExitCode {
    let var = |name: &str| std::env::var(name).ok();
    let (Some(socket), Some(script)) = (var("PLAY_SOCKET"), var("PLAY_SCRIPT")) else { return ExitCode::SUCCESS };
    let ttl_ms = var("PLAY_TTL_MS").unwrap().parse().unwrap();
    let uid = var("PLAY_UID").map_or(1001, |uid| uid.parse().unwrap());
    let tty = var("PLAY_TTY").map(|path| fs::OpenOptions::new().write(true).open(path).unwrap());
    let login = fs::read_to_string("/proc/self/sessionid").is_ok_and(|id| id.trim() != u32::MAX.to_string());
    println!("login {login}");
    let request = registration(ttl_ms, uid, |_| {});
    let begun = std::time::Instant::now();
    let stream = wire::connect(Path::new(&socket));
    let reply = register(&stream, &request, tty.as_ref().map(std::os::fd::AsFd::as_fd));
    let ReaperReply::Registered(registered) = reply else {
        println!("refused {reply:?}");
        return ExitCode::from(3);
    };
    let leaf = Path::new(&registered.cgroup);
    fs::write(leaf.join("cgroup.procs"), "0").unwrap();
    wire::send(&stream, &Joined {});
    match wire::receive::<ReaperReply>(&stream) {
        Some(ReaperReply::Confirmed(_)) => {
            println!("took {} us", begun.elapsed().as_micros());
            println!("confirmed {}", request.record.grant);
        }
        other => {
            println!("unconfirmed {other:?}");
            return ExitCode::from(4);
        }
    }
    // What comes after runs as the command of the session.
    let status = Command::new("/bin/sh")
        .arg("-c")
        .arg(&script)
        .env("LEAF", leaf)
        .env("PLAYER", std::env::current_exe().unwrap())
        .status()
        .unwrap();
    println!("done {status}");
    ExitCode::SUCCESS
}

/// What a script of a front end's runs to say that the session opens.
pub const SAY_OPENED: &str = "$PLAYER --exact player::play_opening --ignored --nocapture --quiet | grep -o 'said .*'";

/// As [`play_front_end`]: says from the leaf that its session opens.
#[test]
#[ignore = "the process that access.rs starts in a leaf, or outside of it"]
fn play_opening() {
    let (Ok(socket), Ok(leaf)) = (std::env::var("PLAY_SOCKET"), std::env::var("LEAF")) else { return };
    let grant = Path::new(&leaf).file_name().and_then(|name| GrantId::from_text(name.to_str()?)).unwrap();
    let stream = wire::connect(Path::new(&socket));
    wire::send(&stream, &ReaperRequest::Opened(Opened { wire: 1, grant }));
    println!("said {:?}", wire::receive::<ReaperReply>(&stream).expect("an answer"));
}
