//! The other ways to root: those that ask nobody, whatever stands in sudo's and su's stacks. Each is
//! named with its file and line; which of them a site wants is the site's to say, so none is a failure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Finding;
use super::below::Below;
use super::facts::FileFact;
use super::setuid::{self, Privileged};

/// Groups whose members are root by another name, and how.
const GROUPS: [(&str, &str); 11] = [
    ("docker", "starts containers with the host's files in them"),
    ("podman", "starts containers with the host's files in them"),
    ("lxd", "starts privileged containers"),
    ("lxc", "starts privileged containers"),
    ("incus", "starts containers"),
    ("incus-admin", "starts privileged containers"),
    ("libvirt", "starts virtual machines with the host's disks"),
    ("libvirt-qemu", "reads and writes virtual machines' disks"),
    ("disk", "reads and writes every disk"),
    ("shadow", "reads the password hashes"),
    ("kmem", "reads and writes the kernel's memory"),
];
/// What runs as root by the clock; anybody who can write there is root.
const CLOCKWORK: [&str; 14] = [
    "/etc/crontab",
    "/etc/anacrontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/root",
    "/var/spool/cron/crontabs/root",
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/etc/profile.d",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
];
/// Programs that ask polkit, and nothing else, whether somebody may be root.
const BY_POLKIT: [&str; 3] = ["/usr/bin/pkexec", "/usr/bin/run0", "/usr/bin/systemd-run"];
const POLKIT_DAEMONS: [&str; 3] = ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd", "/usr/lib/policykit-1/polkitd"];
const RULES: [&str; 4] = [
    "/etc/polkit-1/rules.d",
    "/run/polkit-1/rules.d",
    "/usr/local/share/polkit-1/rules.d",
    "/usr/share/polkit-1/rules.d",
];
const PKLA: [&str; 2] = ["/etc/polkit-1/localauthority", "/var/lib/polkit-1/localauthority"];

/// A place and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// Members of groups that are root by another name: group, member.
    pub groups: Vec<(Place, &'static str, String)>,
    /// Accounts with uid 0 that are not root.
    pub accounts: Vec<Place>,
    /// Keys that log in as root.
    pub keys: Vec<Place>,
    /// Rules of polkit that say yes.
    pub polkit_yes: Vec<Place>,
    /// Rules of polkit that say who is an administrator.
    pub polkit_admins: Vec<Place>,
    /// Programs that ask polkit, where it runs.
    pub by_polkit: Vec<PathBuf>,
    /// Files and directories of root's clockwork.
    pub clockwork: Vec<FileFact>,
    /// Programs that root's crontabs name.
    pub cron_programs: Vec<(Place, FileFact)>,
    /// Unusual programs with the setuid bit or capabilities.
    pub privileged: Vec<Privileged>,
    /// Whether the search for them came to its end.
    pub searched_all: bool,
    /// Lines of sshd's configuration that matter.
    pub sshd: Vec<Place>,
    /// doas' rules.
    pub doas: Vec<Place>,
}

impl Ways {
    /// Looks for them.
    #[must_use]
    pub fn gather(below: &Below) -> Self {
        let accounts = lines(below, "/etc/passwd");
        let has_polkit = POLKIT_DAEMONS.iter().any(|path| below.meta(path).is_some());
        let (privileged, searched_all) = setuid::search(below);
        let sshd = sshd(below);
        let keys = key_files(&sshd).into_iter().flat_map(|path| lines(below, path));
        Self {
            groups: groups(below, &accounts),
            keys: keys.filter(|place| !place.text.starts_with('#')).collect(),
            polkit_yes: polkit(below, |line| line.contains("polkit.Result.YES"))
                .into_iter()
                .chain(pkla(below))
                .collect(),
            polkit_admins: polkit(below, |line| line.contains("return [") && line.contains("unix-")),
            by_polkit: BY_POLKIT
                .iter()
                .map(PathBuf::from)
                .filter(|path| has_polkit && below.meta(path).is_some())
                .collect(),
            clockwork: clockwork(below),
            cron_programs: cron_programs(below),
            privileged,
            searched_all,
            sshd,
            doas: ["/etc/doas.conf", "/usr/local/etc/doas.conf"]
                .iter()
                .flat_map(|path| lines(below, path))
                .filter(|place| place.text.starts_with("permit"))
                .collect(),
            accounts: accounts
                .into_iter()
                .filter(|place| field(&place.text, 2) == "0" && field(&place.text, 0) != "root")
                .collect(),
        }
    }
}

/// Lines that are not empty.
fn lines(below: &Below, path: impl AsRef<Path>) -> Vec<Place> {
    let path = path.as_ref();
    let text = below.text(path).unwrap_or_default();
    let place =
        |(index, line): (usize, &str)| Place { file: path.to_owned(), line: index + 1, text: line.trim().to_owned() };
    text.lines().enumerate().map(place).filter(|place| !place.text.is_empty()).collect()
}

fn field(line: &str, index: usize) -> &str {
    line.split(':').nth(index).unwrap_or_default()
}

fn groups(below: &Below, accounts: &[Place]) -> Vec<(Place, &'static str, String)> {
    let mut found = Vec::new();
    for place in lines(below, "/etc/group") {
        let Some((name, _)) = GROUPS.iter().find(|(name, _)| *name == field(&place.text, 0)) else { continue };
        let gid = field(&place.text, 2);
        for member in field(&place.text, 3).split(',').filter(|member| !member.is_empty() && *member != "root") {
            found.push((place.clone(), *name, member.to_owned()));
        }
        // Those whose first group it is; accounts of services are in their own.
        let first = accounts.iter().filter(|account| field(&account.text, 3) == gid && field(&account.text, 2) != "0");
        let person = first.filter(|account| field(&account.text, 0) != *name);
        found.extend(person.map(|account| (account.clone(), *name, field(&account.text, 0).to_owned())));
    }
    found
}

fn polkit(below: &Below, matters: impl Fn(&str) -> bool) -> Vec<Place> {
    let files =
        RULES.iter().flat_map(|dir| below.list(dir)).filter(|path| path.extension().is_some_and(|end| end == "rules"));
    let all = files.flat_map(|path| lines(below, path));
    all.filter(|place| !place.text.starts_with("//") && matters(&place.text)).collect()
}

/// The older format: `[Admins]`, `Identity=…`, `ResultAny=yes`.
fn pkla(below: &Below) -> Vec<Place> {
    let dirs = PKLA.iter().flat_map(|dir| below.list(dir));
    let files = dirs.flat_map(|dir| below.list(dir)).filter(|path| path.extension().is_some_and(|end| end == "pkla"));
    let yes = |place: &Place| {
        place.text.split_once('=').is_some_and(|(key, value)| key.trim().starts_with("Result") && value.trim() == "yes")
    };
    files.flat_map(|path| lines(below, path)).filter(yes).collect()
}

/// The directories, what is in them, and root's crontabs.
fn clockwork(below: &Below) -> Vec<FileFact> {
    let inside = |path: &str| [PathBuf::from(path)].into_iter().chain(below.list(path));
    CLOCKWORK.iter().flat_map(|path| inside(path)).filter_map(|path| below.file(path)).collect()
}

/// What root's crontabs name with its whole path.
fn cron_programs(below: &Below) -> Vec<(Place, FileFact)> {
    let system = ["/etc/crontab".into()].into_iter().chain(below.list("/etc/cron.d"));
    let own = ["/var/spool/cron/root", "/var/spool/cron/crontabs/root"].map(PathBuf::from);
    let mut found = Vec::new();
    for place in system.flat_map(|path: PathBuf| lines(below, path)) {
        // `* * * * * root /path …`, `@daily root /path …`
        let skip = if place.text.starts_with('@') { 1 } else { 5 };
        if place.text.split_whitespace().nth(skip) == Some("root") {
            found.extend(programs(below, &place));
        }
    }
    for place in own.iter().flat_map(|path| lines(below, path)) {
        found.extend(programs(below, &place));
    }
    found
}

fn programs(below: &Below, place: &Place) -> Vec<(Place, FileFact)> {
    if place.text.starts_with('#') {
        return Vec::new();
    }
    let split = |c: char| c.is_whitespace() || ";|&()'\"`<>=".contains(c);
    let named = place.text.split(split).filter(|word| word.starts_with('/') && word.len() > 1);
    let is_file = |fact: &FileFact| fact.mode & 0o170_000 == 0o100_000;
    named.filter_map(|path| below.file(path)).filter(is_file).map(|fact| (place.clone(), fact)).collect()
}

/// `UsePAM`, `PermitRootLogin`, `AuthorizedKeysFile`, wherever they stand.
fn sshd(below: &Below) -> Vec<Place> {
    let mut ahead = vec![PathBuf::from("/etc/ssh/sshd_config")];
    let mut seen = Vec::new();
    let mut found = Vec::new();
    while let Some(path) = ahead.pop() {
        if seen.contains(&path) {
            continue;
        }
        for place in lines(below, &path) {
            let (key, value) = keyword(&place.text);
            match key.as_str() {
                "include" => {
                    for word in value.split_whitespace() {
                        ahead.extend(matching(below, &Path::new("/etc/ssh").join(word)));
                    }
                }
                "usepam" | "permitrootlogin" | "authorizedkeysfile" => found.push(place),
                _ => {}
            }
        }
        seen.push(path);
    }
    found
}

fn keyword(line: &str) -> (String, &str) {
    let (key, value) = line.split_once(|c: char| c.is_whitespace() || c == '=').unwrap_or((line, ""));
    (key.to_ascii_lowercase(), value.trim_matches(|c: char| c.is_whitespace() || c == '=' || c == '"'))
}

/// A pattern with one star in its last part, as distributions write it.
fn matching(below: &Below, pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((start, end)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let fits = |path: &PathBuf| {
        path.file_name().is_some_and(|one| {
            let one = one.to_string_lossy();
            one.starts_with(start) && one.ends_with(end)
        })
    };
    below.list(pattern.parent().unwrap_or(Path::new("/"))).into_iter().filter(fits).collect()
}

/// Where sshd looks for root's keys.
fn key_files(sshd: &[Place]) -> Vec<PathBuf> {
    let mut named: Vec<String> = vec![".ssh/authorized_keys".into(), ".ssh/authorized_keys2".into()];
    for place in sshd {
        let (key, value) = keyword(&place.text);
        if key == "authorizedkeysfile" {
            named.extend(value.split_whitespace().map(|path| path.replace("%h", "/root").replace("%u", "root")));
        }
    }
    let mut paths: Vec<PathBuf> = named.iter().map(|path| Path::new("/root").join(path)).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// All of them, as findings.
#[must_use]
pub fn judge(ways: &Ways) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, group, member) in &ways.groups {
        let how = GROUPS.iter().find(|(name, _)| name == group).map_or("", |(_, how)| how);
        let what = format!("{member} is in the group {group}, which {how}: root without being asked");
        let remedy = format!("gpasswd -d {member} {group}; they can use sudo for it, which asks");
        findings.push(Finding::warning("way-group", what, remedy).at(&place.file, Some(place.line)));
    }
    for place in &ways.accounts {
        let what = format!("{} has uid 0: it is root by another name", field(&place.text, 0));
        findings.push(
            Finding::warning("way-account", what, "remove it, or lock it: usermod -L")
                .at(&place.file, Some(place.line)),
        );
    }
    findings.extend(sshd_findings(ways));
    findings.extend(polkit_findings(ways));
    findings.extend(clockwork_findings(ways));
    findings.extend(ways.doas.iter().map(|place| {
        let what = format!("`{}`: doas asks nobody else", place.text);
        Finding::warning("way-doas", what, "remove doas, or the rule").at(&place.file, Some(place.line))
    }));
    findings.extend(privileged_findings(&ways.privileged));
    if !ways.searched_all {
        let what = "there are too many files here to search all of them for setuid bits";
        findings.push(Finding::note("way-setuid", what, "find / -xdev -perm -4000 -user root"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("ways", "no other way to root was found"));
    }
    findings
}

/// One for each program, but one only for the programs of another system's tree.
fn privileged_findings(privileged: &[Privileged]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut trees: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for one in privileged {
        if let Some(tree) = setuid::other_system(&one.path) {
            *trees.entry(tree).or_default() += 1;
            continue;
        }
        let what = format!("an unusual program with {}", one.how);
        let remedy = format!("if nobody needs it: {}; else know what it lets people do", one.remedy());
        findings.push(Finding::warning("way-setuid", what, remedy).at(&one.path, None));
    }
    findings.extend(trees.into_iter().map(|(tree, count)| {
        let what = format!("another system's files, {count} programs with setuid bits among them: they run here, too, and are not updated with this system");
        let remedy = format!("chmod 700 {}, or mount it nosuid", tree.display());
        Finding::warning("way-setuid", what, remedy).at(tree, None)
    }));
    findings
}

fn sshd_findings(ways: &Ways) -> Vec<Finding> {
    let of = |wanted: &str| -> Vec<(&Place, String)> {
        let value =
            |place: &Place| (keyword(&place.text).0 == wanted).then(|| keyword(&place.text).1.to_ascii_lowercase());
        ways.sshd.iter().filter_map(|place| Some((place, value(place)?))).collect()
    };
    let mut findings = Vec::new();
    for (place, _) in of("usepam").into_iter().filter(|(_, value)| value == "no") {
        let what = "UsePAM no: logins over ssh make no session of systemd's and see no banner of break-glass";
        findings.push(Finding::note("sshd-pam", what, "UsePAM yes").at(&place.file, Some(place.line)));
    }
    let roots = of("permitrootlogin");
    for (place, value) in roots.iter().filter(|(_, value)| value != "no") {
        let what = format!(
            "PermitRootLogin {value}: root logs in over ssh and nobody is asked; Twinlock does not gate ssh yet"
        );
        findings.push(Finding::note("sshd-root", what, "PermitRootLogin no").at(&place.file, Some(place.line)));
    }
    let shut = !roots.is_empty() && roots.iter().all(|(_, value)| value == "no");
    for place in &ways.keys {
        let (whose, remedy) = (comment(&place.text), "take the key out, and set PermitRootLogin no");
        let finding = if shut {
            Finding::note(
                "way-key",
                format!("{whose} would be let in as root if PermitRootLogin were not `no`"),
                remedy,
            )
        } else {
            Finding::warning("way-key", format!("{whose} is let in as root, and nobody is asked"), remedy)
        };
        findings.push(finding.at(&place.file, Some(place.line)));
    }
    findings
}

/// A key is not printed; its comment says whose it is.
fn comment(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let key = words.iter().position(|word| word.starts_with("AAAA"));
    let rest = key.and_then(|at| words.get(at + 1..)).unwrap_or_default().join(" ");
    if rest.is_empty() { "a key".to_owned() } else { format!("the key \"{rest}\"") }
}

fn polkit_findings(ways: &Ways) -> Vec<Finding> {
    let mut findings = Vec::new();
    for place in &ways.polkit_yes {
        let what = format!("`{}`: polkit says yes without asking anybody", place.text);
        // What the distribution ships is narrow, and the same everywhere.
        let finding = if place.file.starts_with("/usr/share")
            || place.file.starts_with("/var/lib/polkit-1/localauthority/10-vendor.d")
        {
            Finding::note(
                "way-polkit",
                what,
                "read the rule; one of the same name in /etc/polkit-1/rules.d overrides it",
            )
        } else {
            Finding::warning("way-polkit", what, "read the rule; take it out unless it is narrow")
        };
        findings.push(finding.at(&place.file, Some(place.line)));
    }
    if ways.by_polkit.is_empty() {
        return findings;
    }
    let programs: Vec<String> = ways.by_polkit.iter().map(|path| path.display().to_string()).collect();
    let remedy = "/etc/polkit-1/rules.d/00-twinlock.rules: polkit.addAdminRule(function(action, subject) { return [\"unix-user:root\"]; });";
    let what = |who: &str| {
        format!(
            "polkit takes {who} for administrators: root by {} with their own password, and nobody is asked",
            programs.join(", ")
        )
    };
    let Some(first) = ways.polkit_admins.first() else {
        let who = "whoever it is told (root alone, unless something says otherwise)";
        findings.push(Finding::note("way-polkit-admin", what(who), remedy));
        return findings;
    };
    // The first rule that answers decides; its administrators may be root alone.
    let listed = first.text.split_once('[').map_or("", |(_, rest)| rest.trim_end_matches(['}', ')', ';', ' ', ']']));
    let listed = listed.replace(['"', '\''], "");
    if listed != "unix-user:root" && listed != "unix-user:0" {
        findings.push(Finding::warning("way-polkit-admin", what(&listed), remedy).at(&first.file, Some(first.line)));
    }
    findings
}

fn clockwork_findings(ways: &Ways) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut say = |place: &Path, line: Option<(&Path, usize)>, what: String| {
        let remedy = format!("chown root: and chmod go-w {}", place.display());
        let finding = Finding::warning("way-cron", what, remedy);
        let finding = match line {
            Some((file, line)) => finding.at(file, Some(line)),
            None => finding.at(place, None),
        };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    };
    for file in &ways.clockwork {
        if let Some(place) = writable(file) {
            say(place, None, "root runs or reads what is here, and others than root can write it".to_owned());
        }
    }
    for (cron, file) in &ways.cron_programs {
        if let Some(place) = writable(file) {
            let what = format!(
                "root's cron runs {}, and others than root can change {}",
                file.path.display(),
                place.display()
            );
            say(place, Some((&cron.file, cron.line)), what);
        }
    }
    findings
}

/// The place by which others than root could change it.
fn writable(file: &FileFact) -> Option<&Path> {
    let itself = file.uid != 0 || file.mode & 0o022 != 0 && file.mode & 0o170_000 != 0o120_000;
    if itself { Some(&file.path) } else { file.open_above.first().map(PathBuf::as_path) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Severity;
    use super::*;

    fn found(files: &[(&str, &str, u32)]) -> Vec<(Severity, &'static str, String)> {
        let root = tempfile::tempdir().unwrap();
        for (name, text, mode) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        let all = judge(&Ways::gather(&Below::new(root.path())));
        assert!(all.iter().all(|one| one.severity == Severity::Ok || one.remedy.is_some()), "{all:?}");
        assert!(all.iter().all(|one| one.severity < Severity::Failure), "{all:?}");
        let place = |one: &Finding| {
            let file = one.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            format!("{file}:{}", one.line.unwrap_or_default())
        };
        all.into_iter().map(|one| (one.severity, one.id, place(&one))).collect()
    }

    const STOCK: [(&str, &str, u32); 9] = [
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/bash\ndocker:x:990:989::/:/\n",
            0o644,
        ),
        ("etc/group", "root:x:0:\nshadow:x:42:\ndocker:x:989:\nlibvirt:x:70:root\nusers:x:100:alice\n", 0o644),
        ("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nPermitRootLogin no\n", 0o644),
        ("usr/lib/polkit-1/polkitd", "", 0o755),
        ("usr/bin/pkexec", "", 0o4755),
        ("etc/polkit-1/rules.d/00-x.rules", "// polkit.Result.YES\nreturn [\"unix-user:root\"];\n", 0o644),
        ("etc/crontab", "SHELL=/bin/sh\n17 * * * * root /usr/bin/run-parts /etc\n", 0o644),
        ("usr/bin/run-parts", "", 0o755),
        ("usr/bin/sudo", "", 0o4755),
    ];

    #[test]
    fn a_stock_system_without_other_ways_has_none() {
        assert_eq!(found(&STOCK), [(Severity::Ok, "ways", ":0".to_owned())]);
    }

    /// The list of other ways, each with its place.
    ///
    /// Catalogue: P11 (control: a_stock_system_without_other_ways_has_none)
    #[test]
    fn each_other_way_to_root_is_named_with_file_and_line() {
        let with = |name: &'static str, text: &'static str, mode: u32| {
            let mut files = STOCK.to_vec();
            files.retain(|(one, _, _)| *one != name);
            files.push((name, text, mode));
            found(&files)
        };
        let warning = |id: &'static str, place: &str| vec![(Severity::Warning, id, place.to_owned())];
        assert_eq!(
            with("etc/group", "x:x:1:\ndocker:x:989:alice,bob\n", 0o644),
            [warning("way-group", "/etc/group:2"), warning("way-group", "/etc/group:2")].concat()
        );
        assert_eq!(with("etc/group", "lxd:x:1000:\n", 0o644), warning("way-group", "/etc/passwd:2"), "her first group");
        assert_eq!(
            with("etc/passwd", "root:x:0:0::/:/\ntoor:x:0:0::/:/\n", 0o644),
            warning("way-account", "/etc/passwd:2")
        );
        let rules = "polkit.addRule(function(a, s) {\n  return polkit.Result.YES;\n});\n";
        assert_eq!(
            with("etc/polkit-1/rules.d/50-y.rules", rules, 0o644),
            warning("way-polkit", "/etc/polkit-1/rules.d/50-y.rules:2")
        );
        assert_eq!(
            with("usr/share/polkit-1/rules.d/z.rules", rules, 0o644),
            [(Severity::Note, "way-polkit", "/usr/share/polkit-1/rules.d/z.rules:2".to_owned())]
        );
        assert_eq!(
            with(
                "etc/polkit-1/localauthority/50-local.d/a.pkla",
                "[x]\nIdentity=unix-user:alice\nResultAny=yes\n",
                0o644
            ),
            warning("way-polkit", "/etc/polkit-1/localauthority/50-local.d/a.pkla:3")
        );
        assert_eq!(
            with("etc/polkit-1/rules.d/00-x.rules", "return [\"unix-group:sudo\"];", 0o644),
            warning("way-polkit-admin", "/etc/polkit-1/rules.d/00-x.rules:1")
        );
        assert_eq!(
            with("etc/cron.d/job", "@daily root /opt/job.sh\n", 0o666),
            warning("way-cron", "/etc/cron.d/job:0")
        );
        assert_eq!(with("etc/doas.conf", "permit nopass :wheel\n", 0o600), warning("way-doas", "/etc/doas.conf:1"));
        assert_eq!(with("usr/local/bin/rootsh", "", 0o4755), warning("way-setuid", "/usr/local/bin/rootsh:0"));
        let mut job = STOCK.to_vec();
        job.push(("etc/cron.d/job", "# root /opt/no\n*/5 * * * * root cd / && /opt/job.sh\n", 0o644));
        job.push(("opt/job.sh", "", 0o777));
        job.push(("opt/no", "", 0o777));
        assert_eq!(found(&job), warning("way-cron", "/etc/cron.d/job:2"));
    }

    // control: a_stock_system_without_other_ways_has_none
    #[test]
    fn keys_of_root_are_warnings_unless_sshd_lets_no_root_in() {
        let keys = ("root/.ssh/authorized_keys", "# note\nssh-ed25519 AAAAC3 alice@laptop\n", 0o600);
        let place = "/root/.ssh/authorized_keys:2".to_owned();
        let mut files = STOCK.to_vec();
        files.push(keys);
        assert_eq!(found(&files), [(Severity::Note, "way-key", place.clone())]);
        files.retain(|(name, _, _)| *name != "etc/ssh/sshd_config");
        assert_eq!(found(&files), [(Severity::Warning, "way-key", place.clone())], "the default lets keys in");
        files.push(("etc/ssh/sshd_config", "Include sshd_config.d/*.conf\n", 0o644));
        files.push((
            "etc/ssh/sshd_config.d/a.conf",
            "\nUsePAM no\nPermitRootLogin yes\nAuthorizedKeysFile /etc/keys/%u\n",
            0o644,
        ));
        files.push(("etc/keys/root", "ssh-rsa AAAAB3 bob\n", 0o644));
        let sshd = "/etc/ssh/sshd_config.d/a.conf";
        assert_eq!(
            found(&files),
            [
                (Severity::Note, "sshd-pam", format!("{sshd}:2")),
                (Severity::Note, "sshd-root", format!("{sshd}:3")),
                (Severity::Warning, "way-key", "/etc/keys/root:1".to_owned()),
                (Severity::Warning, "way-key", place),
            ]
        );
        let of = |line: &str| comment(line);
        assert_eq!(of("no-pty ssh-rsa AAAAB3xyz bob at home"), "the key \"bob at home\"");
        assert_eq!(of("ssh-rsa AAAAB3xyz"), "a key", "and never the key itself");
    }
}
