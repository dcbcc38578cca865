//! PAM's files as libpam reads them: services, phases, controls, includes and substacks. What libpam
//! would stumble over is said with its place; nothing is judged here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::below::Below;
use crate::cli::enable::Phase;

/// The directories, in the order in which libpam looks for a service.
pub const DIRS: [&str; 4] = ["/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d", "/usr/share/pam.d"];
/// libpam stops at 16 levels of includes.
const DEEPEST: u32 = 16;

/// A file of PAM's.
#[derive(Clone, Debug)]
pub struct PamFile {
    /// Where.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Every file, by the name under which services and includes name it.
#[derive(Clone, Debug, Default)]
pub struct PamFiles(BTreeMap<String, PamFile>);

impl PamFiles {
    /// Reads them.
    #[must_use]
    pub fn gather(below: &Below) -> Self {
        let mut files = Self::default();
        for dir in DIRS {
            for path in below.list(dir) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if let Some(text) = below.text(&path) {
                    files.0.entry(name).or_insert(PamFile { path, text });
                }
            }
        }
        // Includes may name files elsewhere, and those others.
        let mut ahead: Vec<String> = files.0.values().flat_map(|file| includes_elsewhere(&file.text)).collect();
        while let Some(name) = ahead.pop() {
            if files.get(&name).is_none()
                && let Some(text) = below.text(&name)
            {
                ahead.extend(includes_elsewhere(&text));
                files.0.insert(name.clone(), PamFile { path: name.into(), text });
            }
        }
        files
    }

    /// The file of a service or an include.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&PamFile> {
        // An absolute name in the first directory is the plain name there.
        let plain = name.strip_prefix(DIRS[0]).and_then(|rest| rest.strip_prefix('/'));
        self.0.get(plain.unwrap_or(name))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PamFile)> {
        self.0.iter().map(|(name, file)| (name.as_str(), file))
    }
}

fn includes_elsewhere(text: &str) -> Vec<String> {
    let named = |(_, line): (usize, String)| match parse(&line) {
        Ok(Some(Line::Everything(name) | Line::Part { name, .. })) if name.starts_with('/') => Some(name),
        _ => None,
    };
    logical_lines(text).into_iter().filter_map(named).collect()
}

/// What a module's answer does to its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Success, so far.
    Ok,
    /// Failure, in the end.
    Bad,
    /// Failure, now.
    Die,
    /// Success, now, if nothing failed before.
    Done,
    /// As if it had not been asked.
    Ignore,
    /// What was before is forgotten.
    Reset,
    /// Over so many modules.
    Jump(usize),
}

/// The actions of a module's answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Upon success.
    pub success: Action,
    /// Upon anything else.
    pub otherwise: Vec<Action>,
    /// Upon anything by which a module refuses, or is missing: all of these but `ignore` and
    /// `new_authtok_reqd`.
    pub refusal: Vec<Action>,
}

/// A line of a phase, as it takes effect.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The file that it stands in.
    pub file: PathBuf,
    /// The line there, from 1.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// How deep in substacks.
    pub level: u32,
    /// The module; none for the head of a substack.
    pub module: Option<Module>,
}

/// A module and what its answers do.
#[derive(Clone, Debug)]
pub struct Module {
    /// As named.
    pub name: String,
    /// What it is told.
    pub arguments: Vec<String>,
    /// What its answers do.
    pub control: Control,
}

impl Module {
    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// libpam gives up here, and refuses everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// The line there, from 1.
    pub line: usize,
    /// Why; lower case, no full stop.
    pub what: String,
}

/// The effective stack of a file's phase.
///
/// # Errors
/// [`Broken`].
pub fn stack(files: &PamFiles, name: &str, phase: Phase) -> Result<Vec<Entry>, Broken> {
    let mut entries = Vec::new();
    if let Some(file) = files.get(name) {
        collect(files, file, phase, 0, 0, &mut entries)?;
    }
    Ok(entries)
}

fn collect(
    files: &PamFiles,
    file: &PamFile,
    phase: Phase,
    level: u32,
    depth: u32,
    entries: &mut Vec<Entry>,
) -> Result<(), Broken> {
    for (line, text) in logical_lines(&file.text) {
        let broken = |what: String| Broken { file: file.path.clone(), line, what };
        let (name, level) = match parse(&text).map_err(&broken)? {
            None => continue,
            Some(Line::Everything(name)) => (name, level),
            Some(Line::Part { phase: of, .. } | Line::Module { phase: of, .. }) if of != phase.word() => continue,
            Some(Line::Module { module, .. }) => {
                entries.push(Entry { file: file.path.clone(), line, text, level, module: Some(module) });
                continue;
            }
            Some(Line::Part { name, substack: false, .. }) => (name, level),
            Some(Line::Part { name, substack: true, .. }) => {
                entries.push(Entry { file: file.path.clone(), line, text, level, module: None });
                (name, level + 1)
            }
        };
        if depth >= DEEPEST {
            return Err(broken("includes go too deep".to_owned()));
        }
        let Some(next) = files.get(&name) else { return Err(broken(format!("there is no {name} to include"))) };
        collect(files, next, phase, level, depth + 1, entries)?;
    }
    Ok(())
}

enum Line {
    Everything(String),
    Part { phase: String, name: String, substack: bool },
    Module { phase: String, module: Module },
}

fn parse(line: &str) -> Result<Option<Line>, String> {
    let (first, rest) = word(line);
    if first.is_empty() {
        return Ok(None);
    }
    if first == "@include" {
        return Ok(Some(Line::Everything(word(rest).0.to_owned())));
    }
    let phase = first.strip_prefix('-').unwrap_or(first).to_ascii_lowercase();
    if !["auth", "account", "password", "session"].contains(&phase.as_str()) {
        return Err(format!("`{first}` is no phase of PAM"));
    }
    let (control, rest) = match rest.trim_start().strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or("a bracket does not close")?,
        None => word(rest),
    };
    let bracketed = line.trim_start().trim_start_matches(first).trim_start().starts_with('[');
    let (name, rest) = word(rest);
    if name.is_empty() {
        return Err("it names no module".to_owned());
    }
    let substack = match control.to_ascii_lowercase().as_str() {
        "include" if !bracketed => Some(false),
        "substack" if !bracketed => Some(true),
        _ => None,
    };
    if let Some(substack) = substack {
        return Ok(Some(Line::Part { phase, name: name.to_owned(), substack }));
    }
    let control = if bracketed { in_brackets(control)? } else { by_name(control)? };
    let arguments = rest.split_whitespace().map(str::to_owned).collect();
    Ok(Some(Line::Module { phase, module: Module { name: name.to_owned(), arguments, control } }))
}

fn by_name(control: &str) -> Result<Control, String> {
    let (success, failure) = match control.to_ascii_lowercase().as_str() {
        "required" => (Action::Ok, Action::Bad),
        "requisite" => (Action::Ok, Action::Die),
        "sufficient" => (Action::Done, Action::Ignore),
        "optional" => (Action::Ok, Action::Ignore),
        _ => return Err(format!("`{control}` is no control of PAM")),
    };
    let mut otherwise = vec![success, Action::Ignore, failure];
    otherwise.sort_unstable();
    otherwise.dedup();
    Ok(Control { success, otherwise, refusal: vec![failure] })
}

/// What is not mentioned, and has no default, is `bad` (pam.conf(5)).
fn in_brackets(control: &str) -> Result<Control, String> {
    let mut named = Vec::new();
    for pair in control.split_whitespace() {
        let (code, action) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is no control of PAM"))?;
        named.push((code, action_of(action).ok_or_else(|| format!("`{action}` is no action of PAM"))?));
    }
    let of = |wanted: &str| named.iter().find(|(code, _)| *code == wanted).map(|(_, action)| *action);
    let default = of("default").unwrap_or(Action::Bad);
    let except = |codes: &[&str]| {
        let mut actions: Vec<Action> = named
            .iter()
            .filter(|(code, _)| !codes.contains(code))
            .map(|(_, action)| *action)
            .chain([default])
            .collect();
        actions.sort_unstable();
        actions.dedup();
        actions
    };
    Ok(Control {
        success: of("success").unwrap_or(default),
        otherwise: except(&["success"]),
        refusal: except(&["success", "ignore", "new_authtok_reqd"]),
    })
}

fn action_of(word: &str) -> Option<Action> {
    Some(match word {
        "ok" => Action::Ok,
        "bad" => Action::Bad,
        "die" => Action::Die,
        "done" => Action::Done,
        "ignore" => Action::Ignore,
        "reset" => Action::Reset,
        number => Action::Jump(number.parse().ok().filter(|count| *count > 0)?),
    })
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

/// Lines with their continuations, each under the number of its first; comments and empty ones are gone.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, raw) in text.lines().enumerate() {
        let (number, mut line) = open.take().unwrap_or((index + 1, String::new()));
        let plain = raw.split('#').next().unwrap_or_default();
        match plain.trim_end().strip_suffix('\\') {
            Some(part) if plain.len() == raw.len() => {
                line.push_str(part);
                line.push(' ');
                open = Some((number, line));
            }
            _ => {
                line.push_str(plain);
                lines.push((number, line.trim().to_owned()));
            }
        }
    }
    lines.extend(open);
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

/// The files of a test.
#[cfg(test)]
pub(super) fn files_of(files: &[(&str, &str)]) -> PamFiles {
    let file = |(name, text): &(&str, &str)| {
        ((*name).to_owned(), PamFile { path: PathBuf::from(DIRS[0]).join(name), text: (*text).to_owned() })
    };
    PamFiles(files.iter().map(file).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lines(files: &PamFiles, phase: Phase) -> Vec<(String, usize, u32)> {
        let entry = |entry: Entry| (entry.module.map_or("-".to_owned(), |module| module.name), entry.line, entry.level);
        stack(files, "sudo", phase).unwrap().into_iter().map(entry).collect()
    }

    #[test]
    fn includes_take_their_place_and_substacks_a_level() {
        let files = files_of(&[
            (
                "sudo",
                "#%PAM-1.0\n@include common\naccount substack sub\n-account required last.so\nauth required no.so\n",
            ),
            ("common", "account \\\n  [success=1 default=ignore] a.so x y\nsession required s.so\n"),
            ("sub", "account include /etc/pam.d/deep\n"),
            ("deep", "account sufficient d.so\n"),
        ]);
        let name = str::to_owned;
        assert_eq!(
            lines(&files, Phase::Account),
            [(name("a.so"), 1, 0), (name("-"), 3, 0), (name("d.so"), 1, 1), (name("last.so"), 4, 0)]
        );
        assert_eq!(lines(&files, Phase::Session), [(name("s.so"), 3, 0)]);
    }

    #[test]
    fn controls_mean_what_pam_conf_says() {
        let control = in_brackets("success=2 new_authtok_reqd=done ignore=ignore default=die").unwrap();
        assert_eq!(control.success, Action::Jump(2));
        assert_eq!(control.refusal, [Action::Die]);
        assert_eq!(in_brackets("success=ok").unwrap().refusal, [Action::Bad]);
        let open = in_brackets("success=ok module_unknown=ignore default=bad").unwrap();
        assert_eq!(open.refusal, [Action::Bad, Action::Ignore]);
        assert_eq!(by_name("SUFFICIENT").unwrap().success, Action::Done);
    }

    #[test]
    fn what_libpam_stumbles_over_has_a_place() {
        for (text, line) in [
            ("auth required x.so\n@include gone\n", 2),
            ("account mandatory x.so\n", 1),
            ("account [success=0 default=bad] x.so\n", 1),
            ("acount required x.so\n", 1),
            ("account required\n", 1),
            ("account include sudo\n", 1),
        ] {
            let broken = stack(&files_of(&[("sudo", text)]), "sudo", Phase::Account).unwrap_err();
            assert_eq!(broken.line, line, "{text}");
        }
        assert!(stack(&files_of(&[("sudo", "account required x.so\n")]), "sudo", Phase::Account).is_ok(), "control");
    }
}
