//! sudo 1.9.13 and sudo-rs 0.2.15. The first letters of a bypass are `-l`: only a command line
//! whose every word is in the closed grammar of [`is_query`] passes unasked.

use twinlock_protocol::DenyReason;
use twinlock_protocol::request::Mode;

use super::options::{Found, Spec, Takes, Word, word};
use super::{Asked, Questions, Reading, ShellSource, TargetWord, arg, empty_view, open_ended};

const OPTIONS: &[Spec] = &[
    Spec { short: b'A', long: "askpass", takes: Takes::Nothing },
    Spec { short: b'a', long: "auth-type", takes: Takes::Value },
    Spec { short: b'B', long: "bell", takes: Takes::Nothing },
    Spec { short: b'b', long: "background", takes: Takes::Nothing },
    Spec { short: b'C', long: "close-from", takes: Takes::Value },
    Spec { short: b'c', long: "login-class", takes: Takes::Value },
    Spec { short: b'D', long: "chdir", takes: Takes::Value },
    Spec { short: b'E', long: "preserve-env", takes: Takes::OptionalLong },
    Spec { short: b'e', long: "edit", takes: Takes::Nothing },
    Spec { short: b'g', long: "group", takes: Takes::Value },
    Spec { short: b'H', long: "set-home", takes: Takes::Nothing },
    // `-h` is help or, before some words, a host: the programs disagree, so it is not here, and
    // `--help`, `--host` and `--version` stand for abbreviations that they make ambiguous.
    Spec { short: 0, long: "help", takes: Takes::Nothing },
    Spec { short: 0, long: "host", takes: Takes::Value },
    Spec { short: b'i', long: "login", takes: Takes::Nothing },
    Spec { short: b'K', long: "remove-timestamp", takes: Takes::Nothing },
    Spec { short: b'k', long: "reset-timestamp", takes: Takes::Nothing },
    Spec { short: b'l', long: "list", takes: Takes::Nothing },
    Spec { short: b'N', long: "no-update", takes: Takes::Nothing },
    Spec { short: b'n', long: "non-interactive", takes: Takes::Nothing },
    Spec { short: b'P', long: "preserve-groups", takes: Takes::Nothing },
    Spec { short: b'p', long: "prompt", takes: Takes::Value },
    Spec { short: b'R', long: "chroot", takes: Takes::Value },
    Spec { short: b'r', long: "role", takes: Takes::Value },
    Spec { short: b'S', long: "stdin", takes: Takes::Nothing },
    Spec { short: b's', long: "shell", takes: Takes::Nothing },
    Spec { short: b'T', long: "command-timeout", takes: Takes::Value },
    Spec { short: b't', long: "type", takes: Takes::Value },
    Spec { short: b'U', long: "other-user", takes: Takes::Value },
    Spec { short: b'u', long: "user", takes: Takes::Value },
    Spec { short: 0, long: "version", takes: Takes::Nothing },
    Spec { short: b'v', long: "validate", takes: Takes::Nothing },
];

/// Words of the closed grammar that take no value. Clusters (`-nv`) are of the short letters.
const QUERY_WORDS: &[&[u8]] =
    &[b"--list", b"--validate", b"--remove-timestamp", b"--reset-timestamp", b"--non-interactive", b"--stdin"];
const QUERY_LETTERS: &[u8] = b"lvKknS";
/// Words that say what the query is; without one of them it is none.
const QUERY_LONG: &[&[u8]] = &[b"--list", b"--validate", b"--remove-timestamp"];

/// Whether every word belongs to a query: options without value from a short list, `-U name` and
/// `-u name` with a plain name, and no other word. sudo takes `-p -l id` for a command, so nothing
/// with a free value is in the grammar.
fn is_query(words: &[Vec<u8>]) -> bool {
    let plain_name = |name: &[u8]| {
        name.first().is_some_and(|b| b.is_ascii_lowercase() || *b == b'_')
            && name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
    };
    let mut asks = false;
    let mut rest = words.iter().map(Vec::as_slice);
    while let Some(word) = rest.next() {
        let cluster = word.strip_prefix(b"-").filter(|letters| !letters.is_empty());
        if QUERY_WORDS.contains(&word) {
            asks |= QUERY_LONG.contains(&word);
        } else if word == b"-U" || word == b"-u" {
            if !rest.next().is_some_and(plain_name) {
                return false;
            }
        } else if let Some(letters) = cluster.filter(|letters| letters.iter().all(|b| QUERY_LETTERS.contains(b))) {
            asks |= letters.iter().any(|b| b"lvK".contains(b));
        } else {
            return false;
        }
    }
    asks
}

#[derive(Default)]
struct Options<'a> {
    edit: bool,
    query: bool,
    login: bool,
    shell: bool,
    background: bool,
    preserve_env: bool,
    never: bool,
    elsewhere: bool,
    user: Option<&'a [u8]>,
    group: Option<&'a [u8]>,
    chdir: Option<&'a [u8]>,
    chroot: Option<&'a [u8]>,
    /// The first option that is not shown anywhere else.
    odd: Option<&'static str>,
}

impl<'a> Options<'a> {
    fn take(&mut self, found: &Found<'a>) -> Result<(), DenyReason> {
        match found.name {
            "edit" => self.edit = true,
            "list" | "validate" | "remove-timestamp" => self.query = true,
            "login" => self.login = true,
            "shell" => self.shell = true,
            "background" => self.background = true,
            "preserve-env" => self.preserve_env = true,
            "non-interactive" => self.never = true,
            "stdin" | "askpass" => self.elsewhere = true,
            // The last one counts, in sudo and in sudo-rs.
            "user" => self.user = found.value,
            "group" => self.group = found.value,
            "chdir" => self.chdir = found.value,
            "chroot" => self.chroot = found.value,
            "bell" | "set-home" | "reset-timestamp" | "no-update" | "prompt" | "close-from" | "command-timeout" => {}
            // They change the run in ways that the view has no field for; people are told.
            "auth-type" | "login-class" | "preserve-groups" | "role" | "type" | "other-user" => {
                self.odd = self.odd.or(Some(found.name));
            }
            // help, host, version, and whatever else sudo never brings as far as PAM.
            _ => return Err(DenyReason::NotUnderstood),
        }
        Ok(())
    }

    fn target(&self) -> Result<TargetWord, DenyReason> {
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok("") | Err(_) => Err(DenyReason::NotUnderstood),
            Ok(text) => Ok(text.to_owned()),
        };
        match (self.user, self.group) {
            (Some(user), _) => match user.strip_prefix(b"#") {
                Some(digits) => {
                    // sudo takes signs and more; plain digits are all that both programs agree on.
                    let digits = text(digits)?;
                    let plain =
                        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
                    digits.parse().ok().filter(|_| plain).map(TargetWord::Uid).ok_or(DenyReason::NotUnderstood)
                }
                None => text(user).map(TargetWord::Named),
            },
            (None, Some(_)) => Ok(TargetWord::Invoker),
            (None, None) => Ok(TargetWord::Root),
        }
    }
}

/// Whether sudo takes the word for `VAR=value`. sudo and sudo-rs disagree about words like
/// `./a=b`: those are refused.
fn is_assignment(word: &[u8]) -> Result<bool, DenyReason> {
    let Some(at) = word.iter().position(|byte| *byte == b'=') else { return Ok(false) };
    if word.starts_with(b"/") {
        return Ok(false);
    }
    let name = word.get(..at).unwrap_or_default();
    let agreed = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if agreed { Ok(true) } else { Err(DenyReason::NotUnderstood) }
}

pub(super) fn read(program: &[u8], words: &[Vec<u8>]) -> Result<Reading, DenyReason> {
    let edit = program == b"sudoedit" || program == b"lt-sudoedit";
    // sudo, old sudo and sudo-rs each have another rule about names like `xedit`.
    if !edit && program.windows(4).any(|part| part == b"edit") {
        return Err(DenyReason::NotUnderstood);
    }
    if !edit && is_query(words) {
        return Ok(Reading::Query);
    }
    let mut options = Options { edit, ..Options::default() };
    let mut assignments = Vec::new();
    let mut at = 0;
    while let Some(this) = words.get(at) {
        match word(OPTIONS, words, at)? {
            Word::Options(found, taken) => {
                found.iter().try_for_each(|found| options.take(found))?;
                at += taken;
            }
            Word::End => {
                at += 1;
                break;
            }
            // sudo takes a lone `-` for the command; sudo-rs passes over it and reads on for options.
            Word::Plain if this == b"-" => return Err(DenyReason::NotUnderstood),
            Word::Plain if is_assignment(this)? => {
                assignments.push(arg(this));
                at += 1;
            }
            Word::Plain => break,
        }
    }
    let command = words.get(at..).unwrap_or_default();
    view(&options, assignments, command, at).map(|asked| Reading::Asks(Box::new(asked)))
}

fn view(
    options: &Options<'_>,
    assignments: Vec<twinlock_protocol::request::Arg>,
    command: &[Vec<u8>],
    at: usize,
) -> Result<Asked, DenyReason> {
    let refuse = Err(DenyReason::NotUnderstood);
    let mode = match (options.query, options.edit, options.login, options.shell) {
        (true, false, false, false) => Mode::Query,
        (false, true, false, false) if !command.is_empty() => Mode::Edit,
        (false, false, true, false) => Mode::LoginShell,
        (false, false, false, true) => Mode::Shell,
        // Bare `sudo` is a shell under `Defaults shell_noargs`, and otherwise never gets here.
        (false, false, false, false) if command.is_empty() => Mode::Shell,
        (false, false, false, false) => Mode::Command,
        _ => return refuse,
    };
    let mut view = empty_view(mode);
    // argv[0] is not among `words`.
    if !command.is_empty() {
        view.command_at = Some(u32::try_from(at + 1).map_err(|_| DenyReason::NotUnderstood)?);
    }
    view.chdir = options.chdir.map(arg);
    view.chroot = options.chroot.map(arg);
    view.assignments = assignments;
    view.preserve_env = options.preserve_env;
    view.background = options.background;
    view.open_ended = match mode {
        Mode::Command | Mode::Shell | Mode::LoginShell | Mode::SwitchUser => open_ended(command),
        Mode::Edit | Mode::Query => false,
    };
    view.not_understood = options.odd.map(|name| format!("--{name}"));
    let group = match options.group {
        None => None,
        Some(group) => match std::str::from_utf8(group) {
            Ok("") | Err(_) => return refuse,
            Ok(group) => Some(group.to_owned()),
        },
    };
    let shell = match mode {
        Mode::Shell => ShellSource::Environment,
        Mode::LoginShell => ShellSource::Target,
        Mode::Command | Mode::Edit | Mode::SwitchUser | Mode::Query => ShellSource::None,
    };
    let questions = match (options.never, options.elsewhere) {
        (true, _) => Questions::Never,
        (false, true) => Questions::Elsewhere,
        (false, false) => Questions::Terminal,
    };
    Ok(Asked { view, target: options.target()?, group, shell, questions })
}
