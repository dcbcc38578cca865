//! sudoers, read for one thing: settings that switch PAM's phases off or move them to another service.
//! Any such setting counts, for whomever it is meant: sudo's own grammar decides whom it reaches, and a
//! reader that thinks it knows better would be the hole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::below::Below;

/// Files below one another; sudo itself stops at 128.
const DEEPEST: usize = 128;

/// A setting that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The setting, as written.
    pub text: String,
}

/// What is of interest in all of sudoers, in the order of reading.
#[derive(Clone, Debug, Default)]
pub struct Sudoers {
    /// Settings that switch a phase off or move it.
    pub phases: Vec<Setting>,
    /// Rules and settings that ask for no password, root's own apart.
    pub passwordless: Vec<Setting>,
    /// The files and directories that were read.
    pub read: BTreeSet<PathBuf>,
}

/// Reads sudoers. What can't be read is skipped: `visudo -c` says so.
#[must_use]
pub fn read(below: &Below) -> Sudoers {
    let mut reader = Reader { below, found: Sudoers::default() };
    for name in ["/etc/sudoers", "/etc/sudoers-rs"] {
        reader.file(Path::new(name), 0);
    }
    reader.found
}

/// [`Sudoers::phases`].
#[must_use]
pub fn phase_settings(below: &Below) -> Vec<Setting> {
    read(below).phases
}

struct Reader<'b> {
    below: &'b Below,
    found: Sudoers,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, depth: usize) {
        if depth > DEEPEST || self.found.read.contains(path) {
            return;
        }
        let Some(text) = self.below.text(path) else { return };
        self.found.read.insert(path.to_owned());
        for (line, text) in logical_lines(&text) {
            match include(&text) {
                Some((Include::File, named)) => self.file(&resolved(path, &named), depth + 1),
                Some((Include::Directory, named)) => self.directory(&resolved(path, &named), depth + 1),
                None => self.line(path, line, &text),
            }
        }
    }

    fn line(&mut self, path: &Path, line: usize, text: &str) {
        let setting = |text: String| Setting { file: path.to_owned(), line, text };
        let settings = defaults(text);
        if asks_no_password(text, &settings) {
            self.found.passwordless.push(setting(text.to_owned()));
        }
        self.found.phases.extend(settings.into_iter().filter(|one| matters(one)).map(setting));
    }

    /// Names with a dot or a tilde at the end are passed over, as sudo does.
    fn directory(&mut self, path: &Path, depth: usize) {
        self.found.read.insert(path.to_owned());
        for file in self.below.list(path) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.contains('.') && !name.ends_with('~') {
                self.file(&file, depth);
            }
        }
    }
}

fn resolved(from: &Path, named: &str) -> PathBuf {
    let named = named.replace("%h", &hostname());
    from.parent().unwrap_or(Path::new("/")).join(named)
}

/// Whether a line lets somebody run something without a password: sudo calls PAM's account phase all
/// the same.
fn asks_no_password(line: &str, settings: &[String]) -> bool {
    if line.starts_with('#') || line.contains("_Alias") {
        return false;
    }
    if line.starts_with("Defaults") {
        return settings.iter().any(|setting| setting.starts_with('!') && setting.contains("authenticate"));
    }
    let rule = line.split('#').next().unwrap_or_default();
    let who = rule.split_whitespace().next().unwrap_or_default();
    rule.contains("NOPASSWD:") && who != "root"
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or_default().to_owned()
}

enum Include {
    File,
    Directory,
}

fn include(line: &str) -> Option<(Include, String)> {
    let rest = line.trim_start().strip_prefix(['@', '#'])?;
    let (word, path) = rest.split_once(char::is_whitespace)?;
    let kind = match word {
        "include" => Include::File,
        "includedir" => Include::Directory,
        _ => return None,
    };
    let path = path.trim_start();
    let mut named = String::new();
    let (path, quoted) = path.strip_prefix('"').map_or((path, false), |path| (path, true));
    let mut escaped = false;
    for c in path.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if quoted && !escaped => break,
            c if c.is_whitespace() && !quoted && !escaped => break,
            c => {
                escaped = false;
                named.push(c);
            }
        }
    }
    Some((kind, named))
}

/// Lines with their continuations, each under the number of its first; comments are gone, and continue
/// nowhere.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String, Lexer)> = None;
    for (index, raw) in text.lines().enumerate() {
        let begins = open.is_none();
        if begins && include(raw).is_some() {
            lines.push((index + 1, raw.to_owned()));
            continue;
        }
        // Whether sudo takes it for a continuation, too, is not worth being wrong about.
        if !begins && raw.trim_start().starts_with("Defaults") {
            let (kept, _) = Lexer::default().line(raw);
            lines.push((index + 1, kept.trim().to_owned()));
        }
        let (number, mut line, mut lexer) = open.take().unwrap_or((index + 1, String::new(), Lexer::default()));
        let (kept, goes_on) = lexer.line(raw);
        line.push_str(&kept);
        if goes_on {
            line.push(' ');
            open = Some((number, line, lexer));
        } else {
            lines.push((number, line.trim().to_owned()));
        }
    }
    lines.extend(open.map(|(number, line, _)| (number, line.trim().to_owned())));
    lines
}

/// What is known at the end of a line that goes on.
#[derive(Default)]
struct Lexer {
    quoted: bool,
}

impl Lexer {
    /// A line without its comment, or without the backslash that ends it; and whether it goes on. `#`
    /// begins no comment before a number: `#1001` is a uid, `%#27` a gid.
    fn line(&mut self, raw: &str) -> (String, bool) {
        let mut kept = String::new();
        let mut escaped = false;
        let mut rest = raw.chars().peekable();
        while let Some(c) = rest.next() {
            if escaped {
                escaped = false;
                kept.push('\\');
                kept.push(c);
                continue;
            }
            match c {
                '\\' => escaped = true,
                '#' if !self.quoted && !rest.peek().is_some_and(|next| next.is_ascii_digit() || *next == '-') => {
                    return (kept, false);
                }
                c => {
                    self.quoted ^= c == '"';
                    kept.push(c);
                }
            }
        }
        (kept, escaped)
    }
}

/// The settings of a Defaults entry, of any scope.
fn defaults(line: &str) -> Vec<String> {
    let Some(rest) = line.strip_prefix("Defaults") else { return Vec::new() };
    // `Defaults:user`, `Defaults@host`, `Defaults>runas`, `Defaults!command`: the scope ends at white
    // space, but for lists with white space after a comma, which then look like settings and are none.
    let settings = match rest.strip_prefix([':', '@', '>', '!']) {
        Some(scoped) => scoped.trim_start(),
        None => rest,
    };
    let mut all = Vec::new();
    let mut one = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in settings.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                all.push(std::mem::take(&mut one));
                continue;
            }
            _ => {}
        }
        one.push(c);
    }
    all.push(one);
    // With a scope, the last word before the first comma is the setting.
    all.iter().flat_map(|setting| tail(setting)).collect()
}

/// A setting, and what is left of it when the words before it were a scope.
fn tail(setting: &str) -> Vec<String> {
    let setting = setting.trim();
    let mut tails = vec![setting.to_owned()];
    tails.extend(
        setting
            .char_indices()
            .filter(|(_, c)| c.is_whitespace())
            .map(|(at, _)| setting.get(at..).unwrap_or_default().trim().to_owned()),
    );
    tails
}

/// Whether a setting switches a phase off or moves it.
fn matters(setting: &str) -> bool {
    let (negated, name) = match setting.strip_prefix('!') {
        Some(name) => (true, name.trim_start_matches(['!', ' '])),
        None => (false, setting),
    };
    let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
    let value = value.map(|value| value.trim().trim_matches('"'));
    match name.trim_end_matches(['+', '-']).trim() {
        "pam_session" | "pam_acct_mgmt" => negated,
        "pam_service" | "pam_askpass_service" => negated || value != Some("sudo"),
        "pam_login_service" => negated || !matches!(value, Some("sudo" | "sudo-i")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    fn read_all(files: &[(&str, &str)]) -> Sudoers {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        read(&Below::new(root.path()))
    }

    fn found(files: &[(&str, &str)]) -> Vec<(String, usize, String)> {
        let short = |path: &Path| path.strip_prefix("/").unwrap().display().to_string();
        read_all(files).phases.into_iter().map(|one| (short(&one.file), one.line, one.text)).collect()
    }

    #[test]
    fn rules_without_a_password_are_found_and_others_are_not() {
        for line in
            ["alice ALL=(ALL) NOPASSWD: ALL", "%ops ALL = NOPASSWD:/bin/ls, PASSWD: ALL", "Defaults:bob !authenticate"]
        {
            assert_eq!(read_all(&[("etc/sudoers", line)]).passwordless.len(), 1, "{line}");
        }
        for line in
            ["alice ALL=(ALL) ALL", "root ALL=(ALL) NOPASSWD: ALL", "# x ALL=NOPASSWD: ALL", "Defaults authenticate"]
        {
            assert_eq!(read_all(&[("etc/sudoers", line)]).passwordless, [], "{line}");
        }
    }

    #[test]
    fn settings_that_switch_a_phase_off_are_found_in_every_scope_and_spelling() {
        for line in [
            "Defaults !pam_session",
            "Defaults\t! pam_session",
            "Defaults:alice !pam_acct_mgmt",
            "Defaults:alice, bob !pam_session",
            "Defaults>root env_reset, !pam_session",
            "Defaults!/bin/ls pam_service=other",
            "Defaults:%wheel pam_service = \"x\"",
            "Defaults@web01 pam_login_service=login",
            "Defaults env_reset, \\\n  !pam_session",
            "Defaults !pam_service",
            "Defaults pam_askpass_service=x # why",
            "Defaults:#1001 !pam_session",
            "Defaults>#0 !pam_session",
            "Defaults:%#27 !pam_acct_mgmt",
            "Defaults:#1001,alice env_reset, !pam_session # why",
            "Defaults:al\\\"ice !pam_session, env_reset",
            "# a comment goes on nowhere \\\nDefaults !pam_session",
            "alice ALL=ALL # nor does one at the end \\\nDefaults !pam_session",
            "root ALL=/bin/echo \\\nDefaults !pam_session",
        ] {
            assert_eq!(found(&[("etc/sudoers", line)]).len(), 1, "{line}");
        }
    }

    #[test]
    fn what_keeps_the_phases_is_no_finding() {
        for line in [
            "Defaults pam_session",
            "Defaults pam_service=sudo, pam_login_service=sudo-i, pam_login_service=sudo",
            "# Defaults !pam_session",
            "Defaults env_reset # , !pam_session",
            "Defaults secure_path=\"/bin,!pam_session\"",
            "alice ALL=(ALL) !pam_session",
            "Defaults !pam_setcred",
            "#1001 ALL=(ALL) !pam_session",
            "Defaults:#1001 env_reset",
            "Defaults env_reset \\\n# , !pam_session",
        ] {
            assert_eq!(found(&[("etc/sudoers", line)]), [], "{line}");
        }
    }

    #[test]
    fn included_files_and_directories_are_read_and_cycles_end() {
        let off = "Defaults !pam_session\n";
        let found = found(&[
            ("etc/sudoers", "root ALL=(ALL) ALL\n@include sudoers.local\n#includedir /etc/sudoers.d\n"),
            ("etc/sudoers.local", "@include /etc/sudoers # again\nDefaults pam_service=x\n"),
            ("etc/sudoers.d/10-off", &format!("\n{off}")),
            ("etc/sudoers.d/11.bak", off),
            ("etc/sudoers.d/12~", off),
        ]);
        let places: Vec<_> = found.iter().map(|(file, line, _)| (file.as_str(), *line)).collect();
        assert_eq!(places, [("etc/sudoers.local", 2), ("etc/sudoers.d/10-off", 2)]);
    }
}
