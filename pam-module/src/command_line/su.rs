//! util-linux su and sudo-rs's su. The target is `PAM_USER`, which su sets itself; the words are
//! read for what people see.

use twinlock_protocol::DenyReason;
use twinlock_protocol::request::Mode;

use super::options::{Spec, Takes, Word, word};
use super::{Asked, Questions, ShellSource, TargetWord, empty_view};

const OPTIONS: &[Spec] = &[
    Spec { short: b'c', long: "command", takes: Takes::Value },
    Spec { short: 0, long: "session-command", takes: Takes::Value },
    Spec { short: b'f', long: "fast", takes: Takes::Nothing },
    Spec { short: b'g', long: "group", takes: Takes::Value },
    Spec { short: b'G', long: "supp-group", takes: Takes::Value },
    Spec { short: b'l', long: "login", takes: Takes::Nothing },
    Spec { short: b'm', long: "preserve-environment", takes: Takes::Nothing },
    Spec { short: b'p', long: "preserve-environment", takes: Takes::Nothing },
    Spec { short: b'P', long: "pty", takes: Takes::Nothing },
    Spec { short: b'T', long: "no-pty", takes: Takes::Nothing },
    Spec { short: b's', long: "shell", takes: Takes::Value },
    Spec { short: b'w', long: "whitelist-environment", takes: Takes::Value },
];

/// su permutes its words unless `POSIXLY_CORRECT` is set, so an option after the user's name is
/// su's or the shell's; people are told.
const AFTER_NAME: &str = "options after the user's name";

pub(super) fn read(words: &[Vec<u8>]) -> Result<Asked, DenyReason> {
    let refuse = DenyReason::NotUnderstood;
    let mut view = empty_view(Mode::SwitchUser);
    let mut shell = ShellSource::Target;
    let mut group = None;
    let mut command_words = 0_usize;
    let mut plain: Vec<(usize, &[u8])> = Vec::new();
    let mut at = 0;
    while let Some(this) = words.get(at) {
        match word(OPTIONS, words, at)? {
            Word::Options(found, taken) => {
                if plain.iter().any(|(_, word)| *word != b"-") {
                    view.not_understood = Some(AFTER_NAME.to_owned());
                }
                for found in found {
                    match (found.name, found.value) {
                        ("command" | "session-command", Some(_)) => {
                            command_words += 1;
                            let value_at = at + taken - 1;
                            view.command_at = Some(u32::try_from(value_at + 1).map_err(|_| refuse)?);
                        }
                        ("login", _) => view.mode = Mode::LoginShell,
                        ("preserve-environment" | "whitelist-environment", _) => view.preserve_env = true,
                        ("shell", Some(path)) => shell = ShellSource::Word(path.to_vec()),
                        ("group" | "supp-group", Some(name)) => {
                            group = Some(std::str::from_utf8(name).map_err(|_| refuse)?.to_owned());
                        }
                        _ => {}
                    }
                }
                at += taken;
            }
            Word::End => {
                plain.extend(words.iter().enumerate().skip(at + 1).map(|(at, word)| (at, word.as_slice())));
                break;
            }
            Word::Plain => {
                plain.push((at, this));
                at += 1;
            }
        }
    }
    let mut plain = plain.into_iter().peekable();
    if plain.next_if(|(_, word)| *word == b"-").is_some() {
        view.mode = Mode::LoginShell;
    }
    let target = match plain.next() {
        None => TargetWord::Root,
        Some((_, name)) => TargetWord::Named(std::str::from_utf8(name).map_err(|_| refuse)?.to_owned()),
    };
    let arguments = plain.peek().map(|(at, _)| *at);
    view.open_ended = command_words == 0 && arguments.is_none();
    let last = u32::try_from(words.len()).map_err(|_| refuse)?;
    match (view.command_at, arguments) {
        // The words from `command_at` to the end are shown as the command: only true of the last.
        (Some(at), None) if at == last && command_words == 1 => {}
        (Some(_), _) => {
            view.command_at = None;
            view.not_understood.get_or_insert_with(|| "-c, see the words below".to_owned());
        }
        (None, Some(at)) => view.command_at = Some(u32::try_from(at + 1).map_err(|_| refuse)?),
        (None, None) => {}
    }
    Ok(Asked { view, target, group, shell, questions: Questions::Terminal })
}
