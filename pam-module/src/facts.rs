//! What the kernel says about this process and its caller: `/proc/self`, uids, standard input.
//! The environment is read for two things that decide nothing: how to draw, and which shell or
//! editor the approvers are told of.
#![forbid(unsafe_code)]

use std::io::Read as _;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::FileType;
use twinlock_protocol::request::{Arg, ProcessFacts, StdinKind};
use twinlock_protocol::{DenyReason, limits};

use crate::refusal::Refusal;
use crate::who::Caller;

/// The loginuid of a process that nobody logged in: (uid_t) -1.
const UNSET: u32 = u32::MAX;

/// What the module knows about its process.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who calls.
    pub caller: Caller,
    /// The argument vector, byte for byte.
    pub argv: Vec<Vec<u8>>,
    /// The working directory, if it still exists.
    pub cwd: Option<Arg>,
    /// The controlling terminal's device.
    pub tty: Option<String>,
    /// The process.
    pub process: ProcessFacts,
    /// This boot.
    pub boot_id: String,
    /// Standard input.
    pub stdin: StdinKind,
    /// Whether standard error is a terminal (su talks there).
    pub stderr_is_terminal: bool,
    /// The environment, as far as it is looked at.
    pub environment: Environment,
}

/// The variables that are looked at: for drawing and display only.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `TERM`.
    pub term: Option<Vec<u8>>,
    /// The first of `LC_ALL`, `LC_CTYPE`, `LANG` that is not empty.
    pub locale: Option<Vec<u8>>,
    /// `SHELL`.
    pub shell: Option<Vec<u8>>,
    /// The first of `SUDO_EDITOR`, `VISUAL`, `EDITOR` that is not empty, as sudoedit looks.
    pub editor: Option<Vec<u8>>,
}

impl Environment {
    fn read() -> Self {
        let first = |names: &[&str]| {
            let value = |name: &&str| std::env::var_os(name).map(OsStringExt::into_vec).filter(|v| !v.is_empty());
            names.iter().find_map(value)
        };
        Self {
            term: first(&["TERM"]),
            locale: first(&["LC_ALL", "LC_CTYPE", "LANG"]),
            shell: first(&["SHELL"]),
            editor: first(&["SUDO_EDITOR", "VISUAL", "EDITOR"]),
        }
    }
}

/// Reads who calls; enough to decide whether anybody is asked.
///
/// # Errors
/// [`DenyReason::Internal`] when `/proc` does not tell.
pub fn caller() -> Result<Caller, Refusal> {
    let program = std::fs::read_link("/proc/self/exe").map_err(|error| unreadable("exe", &error))?;
    Ok(Caller {
        real_uid: rustix::process::getuid().as_raw(),
        login_uid: login_uid()?,
        program: program.file_name().map(|name| name.to_owned().into_vec()).unwrap_or_default(),
    })
}

fn login_uid() -> Result<Option<u32>, Refusal> {
    match std::fs::read_to_string("/proc/self/loginuid") {
        Ok(text) => {
            let uid: u32 = text.trim().parse().map_err(|_| Refusal::logging(DenyReason::Internal, "loginuid"))?;
            Ok((uid != UNSET).then_some(uid))
        }
        // A kernel without audit has no such file.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable("loginuid", &error)),
    }
}

/// The process that runs the module now: in `sudo -b` another one in `open_session`.
///
/// # Errors
/// [`DenyReason::Internal`].
pub fn process() -> Result<(ProcessFacts, Option<String>), Refusal> {
    let stat = std::fs::read("/proc/self/stat").map_err(|error| unreadable("stat", &error))?;
    let fields = stat_fields(&stat).ok_or_else(|| Refusal::logging(DenyReason::Internal, "/proc/self/stat"))?;
    let facts = ProcessFacts {
        pid: std::process::id(),
        start_time: fields.start_time,
        parent: fields.parent,
        session: fields.session,
    };
    Ok((facts, terminal_name(fields.terminal)))
}

struct StatFields {
    parent: u32,
    session: u32,
    terminal: i32,
    start_time: u64,
}

/// Fields 4, 6, 7 and 22 of `/proc/pid/stat`, counted after the last `)`: the name in field 2 may
/// hold anything.
fn stat_fields(stat: &[u8]) -> Option<StatFields> {
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(after.checked_add(2)?..)?).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
    Some(StatFields {
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        terminal: field(7)?.parse().ok()?,
        start_time: field(22)?.parse().ok()?,
    })
}

/// The device name of a terminal number, for the kinds that people meet.
fn terminal_name(number: i32) -> Option<String> {
    let device = u32::try_from(number).ok().filter(|number| *number != 0)?;
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    Some(match (major, minor) {
        (136..=143, minor) => format!("/dev/pts/{}", (major - 136) * 256 + minor),
        (4, minor @ 0..=63) => format!("/dev/tty{minor}"),
        (4, minor) => format!("/dev/ttyS{}", minor - 64),
        (major, minor) => format!("terminal {major}:{minor}"),
    })
}

/// This boot's id.
///
/// # Errors
/// [`DenyReason::Internal`].
pub fn boot_id() -> Result<String, Refusal> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map(|text| text.trim().to_owned()).map_err(|error| unreadable("boot_id", &error))
}

impl Facts {
    /// Reads everything.
    ///
    /// # Errors
    /// [`DenyReason::Internal`] when `/proc` does not tell, [`DenyReason::TooLong`].
    pub fn read(caller: Caller) -> Result<Self, Refusal> {
        let (process, tty) = process()?;
        Ok(Self {
            caller,
            argv: argv()?,
            cwd: std::env::current_dir().ok().map(|cwd| Arg(cwd.into_os_string().into_vec())),
            tty,
            process,
            boot_id: boot_id()?,
            stdin: stdin_kind(),
            stderr_is_terminal: rustix::termios::isatty(rustix::stdio::stderr()),
            environment: Environment::read(),
        })
    }
}

fn argv() -> Result<Vec<Vec<u8>>, Refusal> {
    let file = std::fs::File::open("/proc/self/cmdline").map_err(|error| unreadable("cmdline", &error))?;
    let mut bytes = Vec::new();
    let most = limits::REQUEST_BYTES as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| unreadable("cmdline", &error))?;
    if bytes.len() > limits::REQUEST_BYTES {
        return Err(DenyReason::TooLong.into());
    }
    split_argv(&bytes).ok_or_else(|| DenyReason::NotUnderstood.into())
}

/// Every argument ends in NUL, the last one too.
fn split_argv(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let body = bytes.strip_suffix(&[0])?;
    Some(body.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

fn stdin_kind() -> StdinKind {
    let stdin = rustix::stdio::stdin();
    let Ok(stat) = rustix::fs::fstat(stdin) else { return StdinKind::Closed };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice if stat.st_rdev == rustix::fs::makedev(1, 3) => StdinKind::Null,
        FileType::CharacterDevice if rustix::termios::isatty(stdin) => StdinKind::Terminal,
        FileType::Fifo | FileType::Socket => StdinKind::Piped,
        FileType::RegularFile => StdinKind::File,
        _ => StdinKind::Other,
    }
}

fn unreadable(what: &str, error: &std::io::Error) -> Refusal {
    Refusal::logging(DenyReason::Internal, format!("/proc/self/{what}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_name_full_of_parentheses_does_not_shift_the_fields() {
        let stat = b"42 (a) R 1 (b)) S 41 42 40 34816 42 4194304 1 0 0 0 1 2 0 0 20 0 1 0 987654 1 2\n";
        let fields = stat_fields(stat).unwrap();
        assert_eq!((fields.parent, fields.session, fields.start_time), (41, 40, 987_654));
        assert_eq!(terminal_name(fields.terminal).as_deref(), Some("/dev/pts/0"));
        assert!(stat_fields(b"42 (a) S 41").is_none());
    }

    #[test]
    fn empty_arguments_are_arguments() {
        assert_eq!(split_argv(b"sudo\0\0x\0").unwrap(), [&b"sudo"[..], b"", b"x"]);
        assert!(split_argv(b"").is_none());
        assert!(split_argv(b"sudo").is_none());
    }

    #[test]
    fn this_very_process_is_read() {
        let facts = Facts::read(caller().unwrap()).unwrap();
        assert_eq!(facts.process.pid, std::process::id());
        assert!(facts.process.start_time > 0 && facts.boot_id.len() == 36 && !facts.argv.is_empty());
    }
}
