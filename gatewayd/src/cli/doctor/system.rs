//! What Twinlock needs of the system around it: configurations that its programs would refuse, owners
//! and modes, units, cgroups, the clock, certificates; and what is open since break-glass.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use twinlock_protocol::UnixTime;
use twinlock_protocol::ids::HostId;
use twinlock_protocol::limits::{MAX_APPROVE_BY_S, MAX_TTL_S, ROSTER_WARN_S};

use super::Finding;
use super::below::Below;
use super::facts::{Facts, FileFact};
use crate::config::GatewayConfig;
use crate::{agent, cli::time, reaper};

/// From here on a person notices the gateway's distance.
const SLOW: Duration = Duration::from_millis(500);
const HOST_UNITS: [&str; 6] = [
    "twinlock-agent.socket",
    "twinlock-agent.service",
    "twinlock-reaper.socket",
    "twinlock-reaper-user.socket",
    "twinlock-reaper.service",
    "twinlock-pam-revert.service",
];
const GATEWAY_UNITS: [&str; 2] = ["twinlock-gatewayd.socket", "twinlock-gatewayd.service"];
const HELPER: &str = "/usr/libexec/twinlock/twinlock-pam";

/// A configuration that its program refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where one is known.
    pub line: Option<usize>,
    /// Why.
    pub why: String,
}

/// A unit, as systemd has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// `loaded`, `not-found`, …
    pub load: String,
    /// `active`, `inactive`, `failed`, …
    pub active: String,
    /// `enabled`, `disabled`, …
    pub file: String,
    /// Whether it has a cgroup tree of its own.
    pub delegated: bool,
}

/// What is known of the system.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// Configurations that are refused.
    pub refused: Vec<Refused>,
    /// Files and directories that only root may change.
    pub roots: Vec<FileFact>,
    /// Files that nobody but their owner may read.
    pub secrets: Vec<FileFact>,
    /// The sockets, and the mode bits that they must not have.
    pub sockets: Vec<(FileFact, u32)>,
    /// The units; none where systemd can't be asked.
    pub units: Option<Vec<Unit>>,
    /// Whether a cgroup2 hierarchy is mounted; none where that is not known.
    pub cgroup2: Option<bool>,
    /// Whether the clock is kept in step; none where that is not known.
    pub clock_in_step: Option<bool>,
    /// The page's certificate and the end of its validity.
    pub page_certificate: Option<(PathBuf, UnixTime)>,
    /// Elevations by break-glass that nobody reviewed yet.
    pub unreviewed: Vec<PathBuf>,
    /// What the helper that unhooks says its version is, where it can be asked.
    pub helper: Option<String>,
}

impl System {
    /// Looks at it. `host` and `gateway`: what this machine is.
    #[must_use]
    pub fn gather(below: &Below, host: bool, gateway: bool) -> Self {
        let files = |paths: &[&str]| paths.iter().filter_map(|path| below.file(path)).collect::<Vec<_>>();
        let socket = |(path, forbidden): (&str, u32)| Some((below.file(path)?, forbidden));
        let sockets = [
            ("/run/twinlock/agent.sock", 0o066),
            ("/run/twinlock/reaper.sock", 0o006),
            ("/run/twinlock/user.sock", 0),
            ("/run/twinlock-gateway/admin.sock", 0o077),
        ];
        let running = below.is_running();
        let units: Vec<&str> =
            HOST_UNITS.into_iter().filter(|_| host).chain(GATEWAY_UNITS.into_iter().filter(|_| gateway)).collect();
        let has_systemd = running && below.meta("/run/systemd/system").is_some();
        Self {
            refused: refused(below),
            roots: files(&[
                "/etc/twinlock/module.toml",
                "/etc/twinlock/agent.toml",
                "/etc/twinlock/reaper.toml",
                "/etc/twinlock/gateway.toml",
                "/var/lib/twinlock",
                "/var/lib/twinlock/roster",
                "/var/lib/twinlock/roster/slot0",
                "/var/lib/twinlock/roster/slot1",
                "/var/lib/twinlock/enable",
                "/run/twinlock",
            ]),
            secrets: files(&[
                "/etc/twinlock/agent.key",
                "/var/lib/twinlock-gateway/ca.key",
                "/var/lib/twinlock-gateway/gateway.key",
            ]),
            sockets: sockets.into_iter().filter_map(socket).collect(),
            units: has_systemd.then(|| ask_systemd(&units)),
            cgroup2: running.then(|| {
                let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
                String::from_utf8_lossy(&mounts).lines().any(|line| line.contains(" - cgroup2 "))
            }),
            clock_in_step: if has_systemd { clock_in_step() } else { None },
            page_certificate: page_certificate(below),
            unreviewed: below.list("/var/lib/twinlock/break-glass/open"),
            helper: (running && below.meta(HELPER).is_some()).then(|| output(HELPER, &["--version"])),
        }
    }
}

/// `module.toml`, as the module takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "decoded for its errors")]
struct ModuleToml {
    host: HostId,
    agent_socket: Option<PathBuf>,
    reaper_socket: Option<PathBuf>,
    agent_uid: Option<u32>,
    reaper_uid: Option<u32>,
    roster_dir: Option<PathBuf>,
    host_key: Option<PathBuf>,
    ttl_s: Option<u32>,
    max_ttl_s: Option<u32>,
    approve_by_s: Option<u32>,
    reason: Option<ReasonRule>,
    qr: Option<QrRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReasonRule {
    Off,
    Optional,
    Required,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum QrRule {
    Auto,
    Never,
}

fn refused(below: &Below) -> Vec<Refused> {
    type Check = fn(&Below, &Path, &str) -> Result<(), (Option<usize>, String)>;
    let checks: [(&str, Check); 4] = [
        ("/etc/twinlock/module.toml", |_, _, text| module_toml(text)),
        ("/etc/twinlock/agent.toml", |_, _, text| decoded::<agent::config::Config>(text).map(drop)),
        ("/etc/twinlock/reaper.toml", reaper_toml),
        ("/etc/twinlock/gateway.toml", |_, path, text| {
            decoded::<GatewayConfig>(text)?;
            GatewayConfig::parse(path, text).map(drop).map_err(|error| (None, crate::cli::chain(&error)))
        }),
    ];
    let mut found = Vec::new();
    for (path, check) in checks {
        let path = PathBuf::from(path);
        if below.meta(&path).is_none() {
            continue;
        }
        let Some(text) = below.text(&path) else {
            found.push(Refused { path, line: None, why: "it can't be read".to_owned() });
            continue;
        };
        if let Err((line, why)) = check(below, &path, &text) {
            found.push(Refused { path, line, why });
        }
    }
    found
}

fn decoded<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, (Option<usize>, String)> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        (before.map(|before| before.matches('\n').count() + 1), error.message().to_owned())
    })
}

fn module_toml(text: &str) -> Result<(), (Option<usize>, String)> {
    let module: ModuleToml = decoded(text)?;
    let max = module.max_ttl_s.unwrap_or(MAX_TTL_S);
    let rules = [
        ((1..=MAX_TTL_S).contains(&max), "max_ttl_s is 1 to 3600"),
        (module.ttl_s.is_none_or(|ttl| (1..=max).contains(&ttl)), "ttl_s is 1 to max_ttl_s"),
        (module.approve_by_s.is_none_or(|time| (1..=MAX_APPROVE_BY_S).contains(&time)), "approve_by_s is 1 to 600"),
    ];
    if let Some((_, rule)) = rules.iter().find(|(holds, _)| !holds) {
        return Err((None, (*rule).to_owned()));
    }
    // Its own reader is narrower than TOML.
    let line = |(index, line): (usize, &str)| {
        let line = line.split('#').next().unwrap_or_default();
        (line.contains('\\') || line.contains("\"\"\"") || line.contains("'''")).then_some(index + 1)
    };
    match text.lines().enumerate().find_map(line) {
        Some(line) => Err((Some(line), "the module takes plain strings on one line, without escapes".to_owned())),
        None => Ok(()),
    }
}

fn reaper_toml(below: &Below, path: &Path, text: &str) -> Result<(), (Option<usize>, String)> {
    match reaper::config::Config::load(&below.on_disk(path)) {
        Ok(_) => Ok(()),
        Err(reaper::config::ConfigError::Parse { source, .. }) => {
            let before = source.span().and_then(|span| text.get(..span.start));
            Err((before.map(|before| before.matches('\n').count() + 1), source.message().to_owned()))
        }
        // It may name a user whom only that system knows.
        Err(_) if !below.is_running() => Ok(()),
        Err(error) => Err((None, crate::cli::chain(&error))),
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    run.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn ask_systemd(units: &[&str]) -> Vec<Unit> {
    let arguments = ["show", "--property=Id,LoadState,ActiveState,UnitFileState,Delegate"];
    let said = output("systemctl", &[&arguments[..], units].concat());
    said.split("\n\n").filter(|block| !block.is_empty()).map(unit).collect()
}

fn unit(block: &str) -> Unit {
    let of = |key: &str| {
        let value = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    };
    Unit {
        name: of("Id"),
        load: of("LoadState"),
        active: of("ActiveState"),
        file: of("UnitFileState"),
        delegated: of("Delegate") == "yes",
    }
}

fn clock_in_step() -> Option<bool> {
    match output("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn page_certificate(below: &Below) -> Option<(PathBuf, UnixTime)> {
    let path = Path::new("/etc/twinlock/gateway.toml");
    let config = GatewayConfig::parse(path, &below.text(path)?).ok()?;
    let cert = config.approver.tls_cert;
    let first = CertificateDer::pem_file_iter(below.on_disk(&cert)).ok()?.next()?.ok()?;
    Some((cert, not_after(&first)?))
}

fn not_after(der: &[u8]) -> Option<UnixTime> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok().map(UnixTime)
}

/// All of it, as findings.
#[must_use]
pub fn judge(system: &System, facts: &Facts, host: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for refused in &system.refused {
        let what = format!("its program refuses this file, and everything with it: {}", refused.why);
        findings.push(
            Finding::failure("config", what, "mend it; the manual is twinlock-*.toml(5)")
                .at(&refused.path, refused.line),
        );
    }
    findings.extend(owners(system));
    findings.extend(units(system));
    if host && system.cgroup2 == Some(false) {
        let what = "no cgroup2 hierarchy is mounted: sessions could not be ended, so none begins";
        findings.push(Finding::failure("cgroup", what, "boot with systemd.unified_cgroup_hierarchy=1"));
    }
    findings.extend(clock(system, facts));
    findings.extend(certificates(system, facts));
    if let Some(took) = facts.gateway_took {
        let what = format!("the gateway answers in {} ms", took.as_millis());
        findings.push(if took > SLOW {
            Finding::warning("gateway-slow", what, "look at the network between, and at the gateway's load")
        } else {
            Finding::ok("gateway-latency", what)
        });
    }
    if host {
        let what = "who of the approvers answered lately is not known on a host";
        findings.push(Finding::note("approvers-seen", what, "on the gateway: twinlock audit report --unused 30d"));
    }
    for open in &system.unreviewed {
        let name = open.file_name().unwrap_or_default().to_string_lossy();
        let remedy = format!("on the gateway: twinlock break-glass review {name}");
        findings.push(Finding::warning("break-glass-open", "used, and nobody reviewed it yet", remedy).at(open, None));
    }
    let ours = concat!("twinlock-pam ", env!("CARGO_PKG_VERSION"));
    if let Some(version) = system.helper.as_ref().filter(|version| *version != ours) {
        let what = format!("it says `{version}`, and this command is of {}", env!("CARGO_PKG_VERSION"));
        let remedy = "install libpam-twinlock (pam_twinlock) and twinlock of one version";
        findings.push(Finding::warning("version", what, remedy).at(HELPER, None));
    }
    findings
}

fn owners(system: &System) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &system.roots {
        let open = file.uid != 0 || file.mode & 0o022 != 0;
        if let Some(place) = open.then_some(&file.path).or(file.open_above.first()) {
            let remedy = format!("chown root {0} and chmod go-w {0}", place.display());
            findings.push(
                Finding::failure("owner", "others than root can change it, so the module refuses", remedy)
                    .at(place, None),
            );
        }
    }
    for file in system.secrets.iter().filter(|file| file.mode & 0o077 != 0) {
        let remedy = format!("chmod 600 {}; and give it a new key, if others can log in", file.path.display());
        findings
            .push(Finding::failure("secret", "others than its owner can read this key", remedy).at(&file.path, None));
    }
    for (socket, forbidden) in &system.sockets {
        if let Some(dir) = socket.open_above.first() {
            let what = "others than root can put a socket of their own there";
            let remedy = format!("chown root {0} and chmod go-w {0}", dir.display());
            findings.push(Finding::failure("socket", what, remedy).at(dir, None));
        } else if socket.mode & forbidden != 0 {
            let what = format!("its mode is {:04o}: others than it is for can connect", socket.mode & 0o7777);
            findings.push(
                Finding::warning("socket", what, "systemctl restart the .socket unit of the package")
                    .at(&socket.path, None),
            );
        }
    }
    findings.dedup();
    findings
}

fn units(system: &System) -> Vec<Finding> {
    let Some(units) = &system.units else {
        let what = "systemd can't be asked here: nothing says that the daemons come up with the machine";
        return vec![Finding::note("units", what, "see to it that they do")];
    };
    let mut findings = Vec::new();
    for unit in units {
        let name = &unit.name;
        let at_boot = matches!(unit.file.as_str(), "enabled" | "static" | "generated" | "alias" | "indirect");
        let once = name == "twinlock-pam-revert.service";
        if unit.load != "loaded" {
            findings.push(Finding::warning(
                "unit",
                format!("{name} is {}", unit.load),
                "install the packages, then systemctl daemon-reload",
            ));
            continue;
        }
        if unit.active != "active" && !once {
            findings.push(Finding::warning(
                "unit",
                format!("{name} is {}", unit.active),
                format!("systemctl start {name}; systemctl status {name}"),
            ));
        }
        if !at_boot {
            let what = format!("{name} is {}: it does not come up with the machine", unit.file);
            findings.push(Finding::warning("unit", what, format!("systemctl enable {name}")));
        }
        if name == "twinlock-reaper.service" && !unit.delegated {
            let what = "twinlock-reaper.service has no cgroup tree of its own (Delegate=), so no session begins";
            findings.push(Finding::failure(
                "unit",
                what,
                "take out what overrides the package's unit: systemctl revert twinlock-reaper",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("unit", format!("{} units are as they should be", units.len())));
    }
    findings
}

fn clock(system: &System, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match system.clock_in_step {
        Some(true) => findings.push(Finding::ok("clock", "the clock is in step")),
        Some(false) => {
            let what = "the clock is not kept in step: certificates and rosters are refused when it is off";
            findings.push(Finding::warning("clock", what, "timedatectl set-ntp true, or chrony"));
        }
        None => findings.push(Finding::note(
            "clock",
            "whether the clock is in step is not known",
            "chronyc tracking, or the like",
        )),
    }
    if let Some(roster) = &facts.roster
        && roster.roster().issued_at > facts.now
    {
        let what = format!("the clock is behind: the roster was made {}", time::moment(roster.roster().issued_at));
        findings.push(Finding::failure("clock", what, "set the clock"));
    }
    findings
}

fn certificates(system: &System, facts: &Facts) -> Vec<Finding> {
    let judged = |what: String, end: UnixTime, remedy: &str| {
        let when = time::moment(end);
        if end <= facts.now {
            Some(Finding::failure("certificate", format!("{what} ran out {when}"), remedy))
        } else if end < facts.now.plus(ROSTER_WARN_S) {
            Some(Finding::warning("certificate", format!("{what} runs out {when}"), remedy))
        } else {
            None
        }
    };
    let mut findings = Vec::new();
    for ca in facts.roster.iter().flat_map(|roster| &roster.roster().cas) {
        if let Some(end) = not_after(&ca.certificate.0) {
            let what = format!("the certification authority {}", ca.id);
            findings.extend(judged(
                what,
                end,
                "a roster change that adds a new one, on the gateway; two people sign it",
            ));
        }
    }
    if let Some((path, end)) = &system.page_certificate {
        let found =
            judged("the page's certificate".to_owned(), *end, "renew it, then systemctl reload twinlock-gatewayd");
        findings.extend(found.map(|finding| finding.at(path, None)));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::fs;

    use super::super::Severity;
    use super::super::checks::tests::{NOW, host};
    use super::*;

    fn fact(path: &str, mode: u32) -> FileFact {
        FileFact { path: path.into(), uid: 0, gid: 0, mode, open_above: Vec::new() }
    }

    fn unit_of(name: &str) -> Unit {
        let text = format!("Id={name}\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nDelegate=yes\n");
        unit(&text)
    }

    fn sound() -> System {
        System {
            roots: vec![fact("/etc/twinlock/module.toml", 0o100_644)],
            secrets: vec![fact("/etc/twinlock/agent.key", 0o100_600)],
            sockets: vec![(fact("/run/twinlock/agent.sock", 0o140_600), 0o066)],
            units: Some(HOST_UNITS.iter().map(|name| unit_of(name)).collect()),
            cgroup2: Some(true),
            clock_in_step: Some(true),
            page_certificate: Some(("/etc/x.pem".into(), NOW.plus(40 * 24 * 3600))),
            helper: Some(concat!("twinlock-pam ", env!("CARGO_PKG_VERSION")).to_owned()),
            ..System::default()
        }
    }

    fn worst(system: &System, facts: &Facts) -> Vec<(Severity, &'static str)> {
        let all = judge(system, facts, true);
        assert!(all.iter().all(|one| one.severity == Severity::Ok || one.remedy.is_some()), "{all:?}");
        all.into_iter().filter(|one| one.severity >= Severity::Warning).map(|one| (one.severity, one.id)).collect()
    }

    #[test]
    fn a_sound_system_has_no_warning() {
        assert_eq!(worst(&sound(), &host(|_| {})), []);
    }

    // control: a_sound_system_has_no_warning
    #[test]
    fn each_thing_that_is_wrong_around_it_is_named() {
        type Break = fn(&mut System, &mut Facts);
        let (warning, failure) = (Severity::Warning, Severity::Failure);
        let cases: &[(Severity, &str, Break)] = &[
            (failure, "owner", |system, _| system.roots[0].uid = 1000),
            (failure, "owner", |system, _| system.roots[0].mode |= 0o020),
            (failure, "owner", |system, _| system.roots[0].open_above.push("/etc".into())),
            (failure, "secret", |system, _| system.secrets[0].mode |= 0o040),
            (failure, "socket", |system, _| system.sockets[0].0.open_above.push("/run/twinlock".into())),
            (warning, "socket", |system, _| system.sockets[0].0.mode |= 0o066),
            (warning, "unit", |system, _| system.units.as_mut().unwrap()[0].active = "failed".into()),
            (warning, "unit", |system, _| system.units.as_mut().unwrap()[1].file = "disabled".into()),
            (warning, "unit", |system, _| system.units.as_mut().unwrap()[2].load = "not-found".into()),
            (failure, "unit", |system, _| system.units.as_mut().unwrap()[4].delegated = false),
            (failure, "cgroup", |system, _| system.cgroup2 = Some(false)),
            (warning, "clock", |system, _| system.clock_in_step = Some(false)),
            (failure, "clock", |_, facts| facts.now = UnixTime(1)),
            (warning, "certificate", |system, _| {
                system.page_certificate.as_mut().unwrap().1 = NOW.plus(29 * 24 * 3600)
            }),
            (failure, "certificate", |system, _| system.page_certificate.as_mut().unwrap().1 = NOW),
            (warning, "gateway-slow", |_, facts| facts.gateway_took = Some(Duration::from_secs(1))),
            (warning, "break-glass-open", |system, _| system.unreviewed.push("/x/open/g".into())),
            (warning, "version", |system, _| system.helper = Some("twinlock-pam 0.0.0".into())),
        ];
        for (severity, id, change) in cases {
            let (mut system, mut facts) = (sound(), host(|_| {}));
            change(&mut system, &mut facts);
            assert!(worst(&system, &facts).contains(&(*severity, *id)), "{id}: {:?}", worst(&system, &facts));
        }
    }

    /// What the programs refuse, said before they are started, with the line.
    ///
    /// Catalogue: K5 (control: inline)
    #[test]
    fn an_unknown_a_duplicate_and_a_misspelt_key_and_an_unreadable_file_are_named_with_their_line() {
        let found = |name: &str, text: &str| -> Vec<(Option<usize>, String)> {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("etc/twinlock")).unwrap();
            fs::write(root.path().join("etc/twinlock").join(name), text).unwrap();
            refused(&Below::new(root.path())).into_iter().map(|one| (one.line, one.why)).collect()
        };
        let key = "A".repeat(43);
        let agent = format!("host = \"web01\"\ngateway = \"g:1\"\ngateway_key = \"{key}\"\n");
        let gateway = "origin = \"https://x\"\n[approver]\nlisten = \"[::]:443\"\ntls_cert = \"c\"\ntls_key = \"k\"\n[agents]\nlisten = \"[::]:1\"\n";
        let good = [
            ("module.toml", "host = \"web01\"\nttl_s = 900\nqr = \"never\"\n"),
            ("agent.toml", agent.as_str()),
            ("reaper.toml", "agent_uid = 7\n"),
            ("gateway.toml", gateway),
        ];
        for (name, text) in good {
            assert_eq!(found(name, text), [], "control: {name}");
            let unknown = found(name, &format!("no_such_key = 1\n{text}"));
            assert_eq!(unknown.first().map(|(line, _)| *line), Some(Some(1)), "{name}: {unknown:?}");
            let first = text.lines().next().unwrap();
            let twice = found(name, &format!("{first}\n{text}"));
            assert_eq!(twice.first().map(|(line, _)| *line), Some(Some(2)), "{name}: {twice:?}");
        }
        for text in
            ["hosst = \"web01\"\n", "host = \"web01\"\nttl_s = 4000\n", "host = \"web01\"\nreason = \"maybe\"\n", ""]
        {
            assert_eq!(found("module.toml", text).len(), 1, "{text}");
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/twinlock/module.toml")).unwrap();
        assert_eq!(refused(&Below::new(root.path()))[0].why, "it can't be read");
    }
}
