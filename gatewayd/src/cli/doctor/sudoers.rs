//! sudoers, read for one thing: settings that switch PAM's phases off or move them to another service.
//! Any such setting counts, for whomever it is meant: sudo's own grammar decides whom it reaches, and a
//! reader that thinks it knows better would be the hole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

/// Every setting below `root` that matters, in the order of reading. What can't be read is skipped:
/// `visudo -c` says so.
#[must_use]
pub fn phase_settings(root: &Path) -> Vec<Setting> {
    let mut reader = Reader { root, seen: BTreeSet::new(), found: Vec::new() };
    for name in ["etc/sudoers", "etc/sudoers-rs"] {
        reader.file(&root.join(name), 0);
    }
    reader.found
}

struct Reader<'r> {
    root: &'r Path,
    seen: BTreeSet<PathBuf>,
    found: Vec<Setting>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, depth: usize) {
        if depth > DEEPEST || !self.seen.insert(path.to_owned()) {
            return;
        }
        let Ok(bytes) = fs::read(path) else { return };
        for (line, text) in logical_lines(&String::from_utf8_lossy(&bytes)) {
            match include(&text) {
                Some((Include::File, named)) => self.file(&self.resolved(path, &named), depth + 1),
                Some((Include::Directory, named)) => self.directory(&self.resolved(path, &named), depth + 1),
                None => {
                    let settings = defaults(&text).into_iter().filter(|setting| matters(setting));
                    self.found.extend(settings.map(|text| Setting { file: path.to_owned(), line, text }));
                }
            }
        }
    }

    /// Names with a dot or a tilde at the end are passed over, as sudo does.
    fn directory(&mut self, path: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(path) else { return };
        let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        names.sort();
        for file in names {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.contains('.') && !name.ends_with('~') {
                self.file(&file, depth);
            }
        }
    }

    fn resolved(&self, from: &Path, named: &str) -> PathBuf {
        let named = named.replace("%h", &hostname());
        match Path::new(&named).strip_prefix("/") {
            Ok(absolute) => self.root.join(absolute),
            Err(_) => from.parent().unwrap_or(self.root).join(named),
        }
    }
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
    let rest = line.strip_prefix(['@', '#'])?;
    let (word, path) = rest.split_once(char::is_whitespace)?;
    let kind = match word {
        "include" => Include::File,
        "includedir" => Include::Directory,
        _ => return None,
    };
    Some((kind, path.trim().trim_matches('"').replace("\\ ", " ")))
}

/// Lines with their continuations, each under the number of its first; comments are gone.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, raw) in text.lines().enumerate() {
        let (number, mut line) = open.take().unwrap_or((index + 1, String::new()));
        match raw.strip_suffix('\\') {
            Some(part) => {
                line.push_str(part);
                line.push(' ');
                open = Some((number, line));
            }
            None => {
                line.push_str(raw);
                lines.push((number, line.trim().to_owned()));
            }
        }
    }
    lines.extend(open);
    lines
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
    let mut quoted = false;
    for c in settings.chars() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => break,
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
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<(String, usize, String)> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let short = |path: &Path| path.strip_prefix(root.path()).unwrap().display().to_string();
        phase_settings(root.path()).into_iter().map(|one| (short(&one.file), one.line, one.text)).collect()
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
        ] {
            assert_eq!(found(&[("etc/sudoers", line)]), [], "{line}");
        }
    }

    #[test]
    fn included_files_and_directories_are_read_and_cycles_end() {
        let off = "Defaults !pam_session\n";
        let found = found(&[
            ("etc/sudoers", "root ALL=(ALL) ALL\n@include sudoers.local\n#includedir /etc/sudoers.d\n"),
            ("etc/sudoers.local", "@include /etc/sudoers\nDefaults pam_service=x\n"),
            ("etc/sudoers.d/10-off", &format!("\n{off}")),
            ("etc/sudoers.d/11.bak", off),
            ("etc/sudoers.d/12~", off),
        ]);
        let places: Vec<_> = found.iter().map(|(file, line, _)| (file.as_str(), *line)).collect();
        assert_eq!(places, [("etc/sudoers.local", 2), ("etc/sudoers.d/10-off", 2)]);
    }
}
