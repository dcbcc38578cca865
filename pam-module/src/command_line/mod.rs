//! Reading the caller's argument vector: what people will see, the target to be approved, and the
//! closed grammar of sudo's `-l`, `-v`, `-K` that passes unasked. It reads as sudo 1.9.13, sudo-rs
//! 0.2.15 and util-linux su all do; where they differ, or an option is unknown, it refuses.
//!
//! Nothing is decided by what is read here but the pass of the closed grammar: the target is
//! enforced again in `open_session`, so a wrong reading can only refuse.

mod options;
mod su;
mod sudo;

use twinlock_protocol::DenyReason;
use twinlock_protocol::limits;
use twinlock_protocol::request::{Arg, Mode, View};

/// Which program's command line it is; follows from the PAM service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontEnd {
    /// sudo, sudoedit, sudo-rs.
    Sudo,
    /// su of util-linux or sudo-rs.
    Su,
}

/// The target as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetWord {
    /// Nobody is named: root.
    Root,
    /// A login name.
    Named(String),
    /// `-u '#1000'`.
    Uid(u32),
    /// sudo `-g` without `-u`: the invoking user, in another group.
    Invoker,
}

/// Whose shell would start, where the command line implies one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellSource {
    /// No shell is implied.
    None,
    /// `$SHELL` of the caller.
    Environment,
    /// The target's passwd entry.
    Target,
    /// Named on the command line.
    Word(Vec<u8>),
}

/// Whether sudo may be made to ask questions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Questions {
    /// The terminal answers.
    Terminal,
    /// `-S` or `-A`: answers come from standard input or a helper, so no question is asked.
    Elsewhere,
    /// `-n`: the caller does not want to wait for anybody.
    Never,
}

/// An elevation that needs approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What people see. Shell and editor are filled in by the caller, see [`Asked::shell`].
    pub view: View,
    /// As whom.
    pub target: TargetWord,
    /// `-g`, as written.
    pub group: Option<String>,
    /// Whose shell would start.
    pub shell: ShellSource,
    /// Whether questions can be asked.
    pub questions: Questions,
}

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// sudo `-l`, `-v` or `-K` in the closed grammar: runs nothing, passes unasked.
    Query,
    /// Everything else.
    Asks(Box<Asked>),
}

/// Reads `argv`, argv\[0\] included.
///
/// # Errors
/// [`DenyReason::NotUnderstood`] when the target can't be known, [`DenyReason::TooLong`] beyond
/// what people can read.
pub fn read(front_end: FrontEnd, argv: &[Vec<u8>]) -> Result<Reading, DenyReason> {
    let bytes: usize = argv.iter().map(Vec::len).sum();
    // Each byte takes up to six in JSON (`\u001b`), and the request holds more than argv.
    if argv.len() > limits::ARGS || bytes > limits::REQUEST_BYTES / 8 {
        return Err(DenyReason::TooLong);
    }
    let (name, words) = argv.split_first().ok_or(DenyReason::NotUnderstood)?;
    match front_end {
        FrontEnd::Sudo => sudo::read(file_name(name), words),
        FrontEnd::Su => su::read(words).map(|asked| Reading::Asks(Box::new(asked))),
    }
}

/// The part after the last slash.
fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// A view that says nothing yet.
fn empty_view(mode: Mode) -> View {
    View {
        mode,
        command_at: None,
        shell: None,
        editor: None,
        chdir: None,
        chroot: None,
        assignments: Vec::new(),
        preserve_env: false,
        background: false,
        open_ended: false,
        not_understood: None,
    }
}

fn arg(bytes: &[u8]) -> Arg {
    Arg(bytes.to_vec())
}

/// Programs that read commands from their input, or give a shell, when they are given nothing else.
const INTERPRETERS: &[&str] = &[
    "sh",
    "ash",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "mksh",
    "fish",
    "csh",
    "tcsh",
    "busybox",
    "su",
    "sudo",
    "sudoedit",
    "doas",
    "pkexec",
    "runuser",
    "screen",
    "tmux",
    "script",
    "nsenter",
    "unshare",
    "chroot",
    "machinectl",
    "python",
    "perl",
    "ruby",
    "node",
    "lua",
    "php",
    "irb",
    "gdb",
    "psql",
    "mysql",
    "sqlite",
    "at",
    "batch",
    "parallel",
    "xargs",
];
/// Programs that run the command in their last words.
const WRAPPERS: &[&str] =
    &["env", "nice", "ionice", "nohup", "setsid", "stdbuf", "timeout", "time", "chroot", "script"];

/// Whether a program's file name is in the list, with or without a version (`python3.11`).
fn is_one_of(program: &[u8], list: &[&str]) -> bool {
    let version = |rest: &[u8]| rest.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    list.iter().any(|name| program.strip_prefix(name.as_bytes()).is_some_and(version))
}

/// Whether the command reads commands from its input or gives a shell: an interpreter without a
/// script and without `-c`/`-e`, or a wrapper around one. A help for people, never a rule.
fn open_ended(command: &[Vec<u8>]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return true };
    let wrapped = || arguments.last().is_some_and(|last| is_one_of(file_name(last), INTERPRETERS));
    if is_one_of(file_name(program), WRAPPERS) && wrapped() {
        return true;
    }
    let says_what = |word: &Vec<u8>| {
        let option = word.starts_with(b"-");
        !option || word == b"-e" || (word.ends_with(b"c") && !word.starts_with(b"--"))
    };
    is_one_of(file_name(program), INTERPRETERS) && !arguments.iter().any(says_what)
}

#[cfg(test)]
mod tests;
