//! PAM's stacks, judged by what they come to: whether sudo and su can pass without the module, under
//! their own names and by libpam's way out, `other`; and lines of ours that are not as this version
//! writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Finding;
use super::below::Below;
use super::facts::FileFact;
use super::flow::{Answer, is_ours, way_through};
use super::pam::{self, DIRS, Entry, PamFiles};
use crate::cli::enable::{self, CLOSES, Gate, MODULE, OPENS, Phase, Places, Unfit};

const PHASES: [Phase; 2] = [Phase::Account, Phase::Session];
/// The fallback of libpam.
const OTHER: &str = "other";

/// What stands in PAM's files, and what was settled.
#[derive(Clone, Debug)]
pub struct Stacks {
    /// The files.
    pub files: PamFiles,
    /// Their owners and modes, the directory's first.
    pub owners: Vec<FileFact>,
    /// What `enable` settled, as far as it can be read.
    pub settled: Result<BTreeSet<Gate>, String>,
    /// Whether a change waits to be confirmed, as far as that can be read.
    pub pending: Result<bool, String>,
    /// Profiles and service files that Twinlock never ships.
    pub strangers: Vec<PathBuf>,
}

impl Stacks {
    /// Reads them.
    #[must_use]
    pub fn gather(below: &Below) -> Self {
        let state = below.on_disk(Path::new("/var/lib/twinlock/enable"));
        let places = Places { state, ..Places::installed() };
        let text = |error: &dyn std::error::Error| crate::cli::chain(error);
        let settled = places.enabled_gates().map_err(|error| text(&error));
        let files = PamFiles::gather(below);
        let paths = files.iter().map(|(_, file)| file.path.clone());
        let owners = [PathBuf::from(DIRS[0])].into_iter().chain(paths).filter_map(|path| below.file(path)).collect();
        let profiles = [DIRS[0], "/usr/share/pam-configs", "/usr/share/authselect/vendor", "/etc/authselect/custom"];
        let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("twinlock"));
        Self {
            files,
            owners,
            settled: settled.map(|settled| settled.map(|one| one.gates.into_iter().collect()).unwrap_or_default()),
            pending: places.pending_change().map(|pending| pending.is_some()).map_err(|error| text(&error)),
            strangers: profiles.iter().flat_map(|dir| below.list(dir)).filter(named).collect(),
        }
    }

    /// The gates that are meant to be shut: they were settled, or a service of theirs has a line of ours.
    #[must_use]
    pub fn gated(&self) -> BTreeSet<Gate> {
        let mut gates = self.settled.clone().unwrap_or_default();
        for gate in Gate::ALL {
            let named = |name: &&str| {
                self.files.get(name).is_some_and(|file| enable::is_wired(file.text.as_bytes()))
                    || PHASES.iter().any(|phase| self.stack(name, *phase).iter().any(is_ours))
            };
            if gate.services().iter().any(named) {
                gates.insert(gate);
            }
        }
        gates
    }

    fn stack(&self, name: &str, phase: Phase) -> Vec<Entry> {
        pam::stack(&self.files, name, phase).unwrap_or_default()
    }
}

/// Everything about PAM. `has_module`: whether the module's file is there.
#[must_use]
pub fn judge(stacks: &Stacks, has_module: bool) -> Vec<Finding> {
    let gated = stacks.gated();
    let mut findings = Vec::new();
    for gate in Gate::ALL {
        if gated.contains(&gate) {
            findings.extend(gate_findings(stacks, gate));
        } else if gated.is_empty() {
            let what = format!("{gate} is not gated: nobody is asked");
            findings.push(Finding::warning("not-enabled", what, format!("twinlock enable {gate}")));
        } else {
            let what = format!("{gate} is not gated: whoever knows the password that it asks for needs nobody else");
            findings.push(Finding::note("not-enabled", what, format!("twinlock enable {gate}")));
        }
    }
    if !gated.is_empty() && !has_module {
        findings.push(Finding::failure(
            "pam-no-module",
            format!("PAM's files name {MODULE}, which is not installed: sudo or su refuse everybody, root included"),
            "as root at a console: twinlock-pam unhook, or take the lines out; or install the module again",
        ));
    }
    findings.extend(leftovers(stacks));
    findings.extend(owners(stacks));
    findings.extend(state(stacks));
    findings
}

fn gate_findings(stacks: &Stacks, gate: Gate) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in gate.services() {
        for phase in PHASES {
            findings.extend(service_findings(stacks, gate, service, phase));
        }
        findings.extend(order(stacks, service));
    }
    if findings.is_empty() {
        let what = format!("{gate} asks two people, in account and session, and so does {OTHER} for it");
        findings.push(Finding::ok("pam-stack", what));
    }
    findings
}

fn service_findings(stacks: &Stacks, gate: Gate, service: &str, phase: Phase) -> Vec<Finding> {
    let mut findings = Vec::new();
    match stacks.files.get(service) {
        Some(_) => findings.extend(stack_findings(stacks, gate, service, service, phase)),
        // Said once, not for each phase.
        None if phase == Phase::Account => {
            let what = format!("there is no {}/{service}: libpam takes {OTHER} instead", DIRS[0]);
            let remedy = format!("install the package of {gate} again, then twinlock enable {gate}");
            let plain = gate.services().first() == Some(&service);
            findings.push(if plain {
                Finding::warning("pam-service", what, remedy)
            } else {
                Finding::note("pam-service", what, remedy)
            });
        }
        None => {}
    }
    // Without `other`, libpam refuses.
    if stacks.files.get(OTHER).is_some() {
        let shared = stack_findings(stacks, gate, OTHER, service, phase);
        findings.extend(shared.into_iter().filter(|finding| finding.id == "pam-way-around").map(|finding| Finding {
            id: "pam-other",
            what: format!(
                "where {service}'s own file can't be opened, libpam takes {OTHER}, and there {}",
                finding.what
            ),
            ..finding
        }));
    }
    findings
}

/// What the phase of one file comes to, called for `service`.
fn stack_findings(stacks: &Stacks, gate: Gate, file: &str, service: &str, phase: Phase) -> Vec<Finding> {
    let word = phase.word();
    let stack = match pam::stack(&stacks.files, file, phase) {
        Ok(stack) => stack,
        Err(broken) => {
            let what = format!("PAM can't use this for {service}, which refuses everybody: {}", broken.what);
            return vec![Finding::failure("pam-broken", what, "mend the line").at(broken.file, Some(broken.line))];
        }
    };
    let path = || stacks.files.get(file).map(|file| file.path.clone()).unwrap_or_default();
    let again = format!("twinlock enable {gate}");
    if let Some(passed) = way_through(&stack, service, Answer::No) {
        let entries: Vec<(usize, &Entry)> = passed.iter().filter_map(|&at| Some((at, stack.get(at)?))).collect();
        let ours = stack.iter().position(is_ours);
        let finding = if let Some((_, entry)) = entries.iter().find(|(_, entry)| is_ours(entry)) {
            let what = format!("`{}`: {service}'s {word} phase can pass although the module refuses", entry.text);
            Finding::failure("pam-way-around", what, format!("take that line out, then {again}"))
                .at(&entry.file, Some(entry.line))
        } else if let (Some(ours), Some((_, entry))) = (ours, entries.iter().rfind(|(at, _)| Some(*at) < ours)) {
            let line = stack.get(ours).map(|ours| format!("{}:{}", ours.file.display(), ours.line)).unwrap_or_default();
            let what =
                format!("`{}` lets {service}'s {word} phase pass before the module ({line}) is asked", entry.text);
            Finding::failure("pam-way-around", what, format!("put the module's line before it: {again}"))
                .at(&entry.file, Some(entry.line))
        } else {
            let what = format!("{service}'s {word} phase passes without the module: no line of it is there");
            Finding::failure("pam-way-around", what, again).at(path(), None)
        };
        return vec![finding];
    }
    if file != OTHER && way_through(&stack, service, Answer::Yes).is_none() {
        let what = format!("{service}'s {word} phase refuses everybody, whatever two people say");
        return vec![Finding::failure("pam-locked", what, "mend the stack").at(path(), None)];
    }
    Vec::new()
}

/// Behind our session line nothing may move the process or ask who it is.
fn order(stacks: &Stacks, service: &str) -> Vec<Finding> {
    let stack = stacks.stack(service, Phase::Session);
    let Some(ours) = stack.iter().rposition(is_ours) else { return Vec::new() };
    let moves = |entry: &&Entry| entry.module.as_ref().is_some_and(|module| module.file_name() == "pam_systemd.so");
    let after = stack.iter().skip(ours + 1).find(moves);
    after
        .map(|entry| {
            let what =
                format!("`{}` comes after the module and takes {service}'s session out of its cgroup", entry.text);
            Finding::failure("pam-order", what, "put the module's session line last: twinlock disable, then enable")
                .at(&entry.file, Some(entry.line))
        })
        .into_iter()
        .collect()
}

/// Lines of ours that are damaged, of another version, or by another hand.
fn leftovers(stacks: &Stacks) -> Vec<Finding> {
    let mut findings = Vec::new();
    let services: Vec<&str> = Gate::ALL.iter().flat_map(|gate| gate.services()).chain([OTHER]).collect();
    let again = "twinlock disable and enable, of this version";
    for (name, file) in stacks.files.iter() {
        let text = file.text.as_bytes();
        let at = |finding: Finding, line: usize| finding.at(&file.path, Some(line));
        let own = enable::own_lines(text);
        let odd = own.iter().find(|(_, line)| line.starts_with("# ") && line != OPENS && line != CLOSES);
        findings.extend(
            odd.map(|(line, _)| at(Finding::warning("pam-version", "marked by another version", again), *line)),
        );
        let plain = enable::unwire(text);
        if let Err(Unfit::Damaged(line)) = plain {
            let what = "the marked lines were edited, so they come out one by one only";
            findings.push(at(Finding::warning("pam-edited", what, again), line));
        }
        let marked: BTreeSet<usize> = own.iter().map(|(line, _)| *line).collect();
        let by_hand = enable::lines_with_module(text).into_iter().filter(|line| !marked.contains(line));
        for line in by_hand {
            let what = if services.contains(&name) {
                "a line of the module by another hand: `twinlock disable` and removal don't take it out"
            } else {
                "the module in a file that is neither sudo's nor su's: whatever includes it asks two people, or refuses"
            };
            findings
                .push(at(Finding::warning("pam-by-hand", what, "take it out; twinlock enable writes its own"), line));
        }
        if !own.is_empty() && !services.contains(&name) {
            let line = own.first().map_or(1, |(line, _)| *line);
            let what = "marked lines in a file where this version puts none (a copy, or what an upgrade set aside)";
            findings.push(at(Finding::warning("pam-version", what, "take them out, or the file"), line));
        }
    }
    findings.extend(stacks.strangers.iter().map(|path| {
        Finding::warning("pam-version", "no file of this version's: Twinlock wires service files only", "remove it")
            .at(path, None)
    }));
    findings
}

/// Whether others than root can change PAM's files.
#[must_use]
pub fn owners(stacks: &Stacks) -> Vec<Finding> {
    let wrong = |file: &&FileFact| file.uid != 0 || file.mode & 0o022 != 0 || !file.open_above.is_empty();
    let finding = |file: &FileFact| {
        let place = file.open_above.first().unwrap_or(&file.path);
        let what = "others than root can change what PAM asks for";
        Finding::failure("pam-owner", what, format!("chown root: and chmod go-w {}", place.display())).at(place, None)
    };
    let found: BTreeSet<PathBuf> = stacks.owners.iter().filter(wrong).filter_map(|file| finding(file).file).collect();
    // One finding for a directory, however many files are in it.
    let one =
        |path: PathBuf| stacks.owners.iter().filter(wrong).map(finding).find(|one| one.file.as_ref() == Some(&path));
    found.into_iter().filter_map(one).collect()
}

fn state(stacks: &Stacks) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unreadable = |why: &str| {
        let remedy = "if no change is under way: twinlock-pam revert, then remove /var/lib/twinlock/enable";
        Finding::warning("enable-state", format!("what `enable` noted can't be used: {why}"), remedy)
    };
    match &stacks.pending {
        Ok(false) => {}
        Ok(true) => {
            let what = "a change waits to be confirmed, or to be put back";
            findings.push(Finding::note("enable-state", what, "twinlock enable --status"));
        }
        Err(why) => findings.push(unreadable(why)),
    }
    findings.extend(stacks.settled.as_ref().err().map(|why| unreadable(why)));
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::Severity;
    use super::super::pam::files_of;
    use super::*;

    const DEBIAN_ACCOUNT: &str = "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n\
        account requisite pam_deny.so\naccount required pam_permit.so\n";
    const DEBIAN_SESSION: &str = "session [default=1] pam_permit.so\nsession requisite pam_deny.so\n\
        session required pam_permit.so\nsession optional pam_systemd.so\n";
    const SYSTEM_AUTH: &str = "account required pam_unix.so\naccount sufficient pam_localuser.so\n\
        account required pam_permit.so\nsession optional pam_systemd.so\nsession required pam_unix.so\n";
    const ACCOUNT: &str = "account    required   pam_twinlock.so";
    const SESSION: &str = "session    required   pam_twinlock.so";

    fn marked(lines: &str) -> String {
        format!("{OPENS}\n{lines}\n{CLOSES}\n")
    }

    /// Debian's sudo, as `enable sudo` leaves it.
    fn debian() -> Vec<(&'static str, String)> {
        let service = |includes: &str| format!("#%PAM-1.0\n{}{includes}{}", marked(ACCOUNT), marked(SESSION));
        let includes = "@include common-account\n@include common-session\n";
        let skip = "[success=1 default=ignore] pam_succeed_if.so quiet service notin sudo:sudo-i";
        let other = marked(&format!("account {skip}\n{ACCOUNT}\nsession {skip}\n{SESSION}"));
        vec![
            ("sudo", service(includes)),
            ("sudo-i", service(includes)),
            ("other", format!("{other}{includes}")),
            ("su", includes.to_owned()),
            ("common-account", DEBIAN_ACCOUNT.to_owned()),
            ("common-session", DEBIAN_SESSION.to_owned()),
        ]
    }

    /// RHEL's, where sudo-i includes sudo and `other` denies everything.
    fn rhel() -> Vec<(&'static str, String)> {
        let includes = "account include system-auth\nsession include system-auth\n";
        vec![
            ("sudo", format!("{}{includes}{}", marked(ACCOUNT), marked(SESSION))),
            (
                "sudo-i",
                "account include sudo\nsession optional pam_keyinit.so force revoke\nsession include sudo\n".to_owned(),
            ),
            ("other", "account required pam_deny.so\nsession required pam_deny.so\n".to_owned()),
            ("system-auth", SYSTEM_AUTH.to_owned()),
        ]
    }

    fn stacks(files: &[(&str, String)]) -> Stacks {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let owner = FileFact { path: "/etc/pam.d".into(), uid: 0, gid: 0, mode: 0o040_755, open_above: Vec::new() };
        Stacks {
            files: files_of(&files),
            owners: vec![owner],
            settled: Ok(BTreeSet::from([Gate::Sudo])),
            pending: Ok(false),
            strangers: Vec::new(),
        }
    }

    /// Warnings and worse: id and place.
    fn wrong(files: &[(&str, String)]) -> Vec<String> {
        let found = judge(&stacks(files), true);
        assert!(found.iter().all(|one| one.severity == Severity::Ok || one.remedy.is_some()), "{found:?}");
        let bad = found.into_iter().filter(|one| one.severity >= Severity::Warning);
        let place = |one: Finding| {
            let name =
                one.file.map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).unwrap_or_default();
            format!("{} {name}:{}", one.id, one.line.unwrap_or_default())
        };
        bad.map(place).collect()
    }

    /// Changes the text of a file.
    fn edited(
        mut files: Vec<(&'static str, String)>,
        name: &str,
        edit: impl Fn(&str) -> String,
    ) -> Vec<(&'static str, String)> {
        let file = files.iter_mut().find(|(one, _)| *one == name).unwrap();
        file.1 = edit(&file.1);
        files
    }

    #[test]
    fn what_enable_leaves_is_in_order_on_debian_and_rhel() {
        for files in [debian(), rhel()] {
            assert_eq!(wrong(&files), Vec::<String>::new());
            assert!(
                judge(&stacks(&files), true).iter().any(|one| one.id == "pam-stack" && one.severity == Severity::Ok)
            );
        }
    }

    /// The shapes that let sudo pass, each with its file and line.
    ///
    /// Catalogue: P11 (control: what_enable_leaves_is_in_order_on_debian_and_rhel)
    #[test]
    fn a_sufficient_line_above_an_optional_one_and_a_service_left_out_are_named() {
        let before = |line: &'static str| move |text: &str| text.replacen("#%PAM-1.0\n", &format!("{line}\n"), 1);
        let sudo = |edit: &dyn Fn(&str) -> String| wrong(&edited(debian(), "sudo", edit));
        assert_eq!(sudo(&before("account sufficient pam_localuser.so")), ["pam-way-around sudo:1"]);
        assert_eq!(sudo(&before("account [success=1 default=ignore] pam_unix.so")), ["pam-way-around sudo:1"]);
        assert_eq!(sudo(&before("session [success=done default=ignore] x.so")), ["pam-way-around sudo:1"]);
        assert_eq!(sudo(&before("account include common-account")), ["pam-way-around common-account:1"]);
        assert_eq!(sudo(&|text| text.replace(ACCOUNT, "account optional pam_twinlock.so")), ["pam-way-around sudo:3"]);
        assert_eq!(
            sudo(&|text| text.replace(ACCOUNT, "account sufficient pam_twinlock.so")),
            ["pam-way-around sudo:3"]
        );
        assert_eq!(sudo(&|text| text.replace(SESSION, "# gone")), ["pam-way-around sudo:0", "pam-version sudo:8"]);
        let login = wrong(&edited(debian(), "sudo-i", |_| "@include common-account\n@include common-session\n".into()));
        assert_eq!(login, ["pam-way-around sudo-i:0", "pam-way-around sudo-i:0"]);
        let rhel = wrong(&edited(rhel(), "sudo", |text| {
            format!(
                "account include system-auth\nsession include system-auth\n{}",
                text.replace("account include", "# ")
            )
        }));
        assert_eq!(rhel, ["pam-way-around system-auth:2", "pam-way-around system-auth:2"], "sudo-i includes it");
    }

    // control: what_enable_leaves_is_in_order_on_debian_and_rhel
    #[test]
    fn libpams_way_out_is_judged_as_well() {
        let stock = |_: &str| "@include common-account\n@include common-session\n".to_owned();
        let found = wrong(&edited(debian(), "other", stock));
        assert_eq!(found, ["pam-other other:0"; 4]);
        let half = |text: &str| text.replace("notin sudo:sudo-i", "notin sudo");
        assert_eq!(wrong(&edited(debian(), "other", half)), ["pam-other other:2", "pam-other other:4"], "sudo-i alone");
        let mut gone = debian();
        gone.retain(|(name, _)| *name != "sudo");
        assert_eq!(wrong(&gone), ["pam-service :0"], "other asks");
        gone.retain(|(name, _)| *name != "other");
        assert_eq!(wrong(&gone), ["pam-service :0"], "without other libpam refuses");
    }

    /// pam-auth-update and authselect write common-* and system-auth: our lines keep their place, and
    /// whatever those files become, they come after ours. A session line of ours that is not last any
    /// more is named.
    ///
    /// Catalogue: K4 (control: inline)
    #[test]
    fn profiles_that_change_afterwards_leave_the_stacks_in_order() {
        for account in [
            "account sufficient pam_sss.so\n",
            "account [default=done] pam_krb5.so\n",
            "account required pam_permit.so\n",
        ] {
            let all = |text: &str| format!("{account}{text}");
            assert_eq!(wrong(&edited(debian(), "common-account", all)), Vec::<String>::new(), "{account}");
            assert_eq!(wrong(&edited(rhel(), "system-auth", all)), Vec::<String>::new(), "{account}");
        }
        let late = |text: &str| format!("{text}@include common-session\n");
        assert_eq!(wrong(&edited(debian(), "sudo", late)), ["pam-order common-session:4"]);
        let early = |text: &str| format!("@include common-account\n{text}");
        assert_eq!(wrong(&edited(debian(), "sudo", early)), ["pam-way-around common-account:1"], "control");
    }

    // control: what_enable_leaves_is_in_order_on_debian_and_rhel
    #[test]
    fn what_libpam_stumbles_over_and_what_locks_everybody_out_is_a_failure() {
        let include = |text: &str| format!("{text}account include gone\n");
        assert_eq!(wrong(&edited(debian(), "sudo", include)), ["pam-broken sudo:10"]);
        let deny = |text: &str| format!("{text}account requisite pam_deny.so\n");
        assert_eq!(wrong(&edited(debian(), "sudo", deny)), ["pam-locked sudo:0"]);
        let found = judge(&stacks(&debian()), false);
        assert!(found.iter().any(|one| one.id == "pam-no-module" && one.severity == Severity::Failure));
    }

    // control: what_enable_leaves_is_in_order_on_debian_and_rhel
    #[test]
    fn lines_of_another_version_or_another_hand_are_named() {
        let other_version = |text: &str| text.replacen(OPENS, "# >>> twinlock: version 9", 1);
        assert_eq!(wrong(&edited(debian(), "sudo", other_version)), ["pam-version sudo:2"]);
        let edited_block = |text: &str| text.replacen(&format!("{CLOSES}\n"), "", 1);
        let found = wrong(&edited(debian(), "sudo", edited_block));
        assert!(found.iter().any(|one| one.starts_with("pam-edited sudo:")), "{found:?}");
        let by_hand = |text: &str| format!("{text}account required pam_twinlock.so\n");
        assert_eq!(wrong(&edited(debian(), "sudo", by_hand)), ["pam-by-hand sudo:10"]);
        assert_eq!(
            wrong(&edited(debian(), "common-session", |text| format!("{text}auth required pam_twinlock.so\n"))),
            ["pam-by-hand common-session:5"]
        );
        let mut set_aside = debian();
        set_aside.push(("sudo.dpkg-old", marked(ACCOUNT)));
        assert_eq!(wrong(&set_aside), ["pam-version sudo.dpkg-old:1"]);
        let mut facts = stacks(&debian());
        facts.strangers.push("/usr/share/pam-configs/twinlock".into());
        assert!(judge(&facts, true).iter().any(|one| one.id == "pam-version"));
    }

    // control: what_enable_leaves_is_in_order_on_debian_and_rhel
    #[test]
    fn a_settled_gate_whose_lines_are_gone_and_files_that_others_can_write_are_failures() {
        let stock = |text: &str| String::from_utf8(enable::unwire(text.as_bytes()).unwrap()).unwrap();
        let mut files = debian();
        for name in ["sudo", "sudo-i", "other"] {
            files = edited(files, name, stock);
        }
        assert_eq!(wrong(&files).iter().filter(|one| one.starts_with("pam-way-around")).count(), 4);
        let mut never = stacks(&files);
        never.settled = Ok(BTreeSet::new());
        assert!(judge(&never, true).iter().all(|one| one.id == "not-enabled"), "control: it was never enabled");
        for change in [|file: &mut FileFact| file.mode |= 0o020, |file: &mut FileFact| file.uid = 1000] {
            let mut facts = stacks(&debian());
            change(&mut facts.owners[0]);
            assert!(judge(&facts, true).iter().any(|one| one.id == "pam-owner" && one.severity == Severity::Failure));
        }
        let mut facts = stacks(&debian());
        facts.pending = Err("damaged".into());
        assert!(judge(&facts, true).iter().any(|one| one.id == "enable-state"));
    }
}
