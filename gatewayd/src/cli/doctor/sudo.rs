//! sudo itself: which one it is, which plugins decide in it, and who may change its files. Its settings
//! are in `sudoers`, its PAM stacks in `stacks`.

use std::path::{Path, PathBuf};

use super::Finding;
use super::below::Below;
use super::facts::FileFact;
use super::sudoers::{self, Setting};

/// What `sudo` is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// sudo of sudo.ws.
    Sudo,
    /// sudo-rs, which has fewer settings and no plugins.
    SudoRs,
    /// There is none.
    None,
}

/// What is known of sudo.
#[derive(Clone, Debug)]
pub struct Sudo {
    /// Which one.
    pub provider: Provider,
    /// Rules that ask for no password.
    pub passwordless: Vec<Setting>,
    /// Its files, their owners and modes.
    pub files: Vec<FileFact>,
    /// Lines of sudo.conf that name plugins.
    pub plugins: Vec<Setting>,
    /// Where rules also come from, in nsswitch.conf, when that is not only the files.
    pub elsewhere: Option<Setting>,
}

impl Sudo {
    /// Reads it.
    #[must_use]
    pub fn gather(below: &Below) -> Self {
        let found = sudoers::read(below);
        let lines = |path: &str, word: &str| -> Vec<Setting> {
            let text = below.text(path).unwrap_or_default();
            let named = |(index, line): (usize, &str)| {
                let line = line.split('#').next().unwrap_or_default().trim();
                line.starts_with(word).then(|| Setting { file: path.into(), line: index + 1, text: line.to_owned() })
            };
            text.lines().enumerate().filter_map(named).collect()
        };
        let beyond = |one: &Setting| one.text.split_whitespace().skip(1).any(|word| word != "files");
        Self {
            provider: provider(below),
            passwordless: found.passwordless,
            files: found
                .read
                .iter()
                .chain([&PathBuf::from("/etc/sudo.conf")])
                .filter_map(|path| below.file(path))
                .collect(),
            plugins: lines("/etc/sudo.conf", "Plugin"),
            elsewhere: lines("/etc/nsswitch.conf", "sudoers:").into_iter().find(beyond),
        }
    }
}

fn provider(below: &Below) -> Provider {
    let named = ["/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo"].iter().find(|path| below.meta(path).is_some());
    let Some(path) = named else { return Provider::None };
    let target = below.resolved(Path::new(path));
    let text = target.to_string_lossy();
    if text.contains("sudo-rs") || text.contains("/cargo/") { Provider::SudoRs } else { Provider::Sudo }
}

/// Everything about sudo. `gated`: whether two people are asked for it.
#[must_use]
pub fn judge(sudo: &Sudo, gated: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    match sudo.provider {
        Provider::Sudo => {}
        Provider::SudoRs => findings.push(Finding::ok("sudo-provider", "sudo is sudo-rs")),
        Provider::None => findings.push(Finding::ok("sudo-provider", "there is no sudo")),
    }
    for rule in &sudo.passwordless {
        let finding = if gated {
            Finding::note(
                "sudo-nopasswd",
                format!("`{}`: two people are asked, but no password: an open terminal is enough to ask", rule.text),
                "take NOPASSWD out where people use it (visudo)",
            )
        } else {
            Finding::warning(
                "sudo-nopasswd",
                format!("`{}`: no password and nobody else", rule.text),
                "twinlock enable sudo, or take the rule out (visudo)",
            )
        };
        findings.push(finding.at(&rule.file, Some(rule.line)));
    }
    for file in &sudo.files {
        let open = file.uid != 0 || file.mode & 0o022 != 0;
        if let Some(place) = open.then_some(&file.path).or(file.open_above.first()) {
            let remedy = format!("chown root: and chmod go-w {}", place.display());
            findings.push(
                Finding::failure("sudo-owner", "others than root can change sudo's rules", remedy).at(place, None),
            );
        }
    }
    for plugin in &sudo.plugins {
        let words: Vec<&str> = plugin.text.split_whitespace().collect();
        let usual = matches!(words.as_slice(), [_, _, file] if file.rsplit('/').next() == Some("sudoers.so"));
        if !usual {
            let what = format!("`{}`: another plugin, or other files of rules than those read here", plugin.text);
            let remedy = "be sure that it does not let anybody past PAM, or take it out";
            findings.push(Finding::warning("sudo-plugin", what, remedy).at(&plugin.file, Some(plugin.line)));
        }
    }
    if let Some(elsewhere) = &sudo.elsewhere {
        let what = format!("`{}`: rules and settings that are not on this host were not read", elsewhere.text);
        let remedy = "be sure that none there sets !pam_session, !pam_acct_mgmt or pam_service";
        findings.push(Finding::note("sudo-elsewhere", what, remedy).at(&elsewhere.file, Some(elsewhere.line)));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::Severity;
    use super::*;

    fn found(files: &[(&str, &str)], gated: bool) -> Vec<(Severity, &'static str, Option<usize>)> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, text).unwrap(),
            }
        }
        if let Some(path) =
            files.iter().find(|(_, text)| text.contains("writable")).map(|(name, _)| root.path().join(name))
        {
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }
        let all = judge(&Sudo::gather(&Below::new(root.path())), gated);
        assert!(all.iter().all(|one| one.severity == Severity::Ok || one.remedy.is_some()));
        all.into_iter().map(|one| (one.severity, one.id, one.line)).collect()
    }

    const STOCK: [(&str, &str); 4] = [
        ("usr/bin/sudo", "x"),
        ("etc/sudoers", "Defaults env_reset\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n"),
        ("etc/sudo.conf", "# Plugin x y.so\nPlugin sudoers_policy sudoers.so\nPlugin sudoers_io sudoers.so\n"),
        ("etc/nsswitch.conf", "passwd: files sss\nsudoers: files\n"),
    ];

    #[test]
    fn a_stock_sudo_has_nothing_to_say() {
        assert_eq!(found(&STOCK, true), []);
    }

    // control: a_stock_sudo_has_nothing_to_say
    #[test]
    fn what_is_not_stock_is_named_with_its_line() {
        let with = |name: &'static str, text: &'static str, gated: bool| {
            let mut files = STOCK.to_vec();
            files.retain(|(one, _)| *one != name);
            files.push((name, text));
            found(&files, gated)
        };
        let rule = "\nalice ALL=(ALL) NOPASSWD: ALL\n";
        assert_eq!(with("etc/sudoers.d/a", rule, true), [(Severity::Note, "sudo-nopasswd", Some(2))]);
        assert_eq!(with("etc/sudoers.d/a", rule, false), [(Severity::Warning, "sudo-nopasswd", Some(2))]);
        assert_eq!(with("etc/sudoers.d/a", "# writable\n", true), [(Severity::Failure, "sudo-owner", None)]);
        let plugin = "Plugin sudoers_policy sudoers.so sudoers_file=/x\n";
        assert_eq!(with("etc/sudo.conf", plugin, true), [(Severity::Warning, "sudo-plugin", Some(1))]);
        assert_eq!(with("etc/sudo.conf", "Plugin other my.so\n", true), [(Severity::Warning, "sudo-plugin", Some(1))]);
        assert_eq!(
            with("etc/nsswitch.conf", "sudoers: files sss\n", true),
            [(Severity::Note, "sudo-elsewhere", Some(1))]
        );
        assert_eq!(with("usr/bin/sudo", "-> /usr/lib/cargo/bin/sudo", true), [(Severity::Ok, "sudo-provider", None)]);
    }
}
