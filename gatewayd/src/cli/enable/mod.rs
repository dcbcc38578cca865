//! `twinlock enable` and `twinlock disable`: put the marked lines into PAM's service files, or take
//! them out. Enabling is a dead man's switch: unless a granted elevation from another login session
//! confirms it in time, everything is put back byte for byte, by a process of its own and, after a
//! crash, by the boot. It never enables what was not proved in a copy before.

mod confirm;
mod files;
pub mod helper;
mod lines;
mod probe;
mod seat;
mod state;
mod status;
mod trial;
mod watch;
mod wiring;

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::unistd::{Uid, User};

pub use self::lines::{CLOSES, Gate, MODULE, OPENS, Phase, Unfit, is_wired, lines_with_module, own_lines, unwire};
pub use self::state::Places;
use self::state::{Doing, Enabled, Pending, Step};
use self::watch::HELPER;
use self::wiring::Change;
use super::doctor::facts::Facts;
use super::doctor::{self, Severity, checks};
use super::output::{Failure, line};

/// The longest time to confirm, in seconds.
const LONGEST_S: u32 = 300;

/// What can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// sudo and sudo -i
    Sudo,
    /// su and su -
    Su,
    /// not built yet
    Sshd,
}

impl What {
    fn gate(self) -> Result<Gate, Failure> {
        match self {
            Self::Sudo => Ok(Gate::Sudo),
            Self::Su => Ok(Gate::Su),
            Self::Sshd => Err(Failure::new(
                "sshd can't be enabled: Twinlock does not gate ssh logins yet",
                "enable sudo and su; with them, whoever logs in asks two people before becoming root",
            )),
        }
    }
}

/// `twinlock enable`.
#[derive(Args)]
pub struct EnableArgs {
    /// What two people are to be asked for
    #[arg(required_unless_present = "status")]
    what: Option<What>,
    /// Show what is enabled and what waits to be confirmed
    #[arg(long)]
    status: bool,
    /// Don't ask back
    #[arg(long, short)]
    yes: bool,
    /// Seconds to confirm it from another login session; then it is put back
    #[arg(long, default_value_t = LONGEST_S, value_parser = clap::value_parser!(u32).range(1..=i64::from(LONGEST_S)), value_name = "SECONDS")]
    within: u32,
    /// A person of the roster to try it as, by login name; without it, whoever is logged in here
    #[arg(long = "as", value_name = "LOGIN")]
    login: Option<String>,
    /// Return at once; the wait goes on without this command
    #[arg(long)]
    no_wait: bool,
}

/// `twinlock disable`.
#[derive(Args)]
pub struct DisableArgs {
    /// What two people are no longer to be asked for
    what: What,
    /// Don't ask back
    #[arg(long, short)]
    yes: bool,
}

/// Runs `twinlock enable`.
///
/// # Errors
/// A [`Failure`]: refused, not proved, or not confirmed in time; then everything is as before.
pub fn enable(arguments: &EnableArgs) -> Result<(), Failure> {
    let places = Places::installed();
    let what = match (arguments.status, arguments.what) {
        (false, Some(what)) => what.gate()?,
        (true, _) | (false, None) => {
            require_root()?;
            let status = status::of(&places)?;
            status.lines.iter().for_each(|text| line(text));
            return status.into_result();
        }
    };
    require_root()?;
    watch::revert_if_overdue(&places)?;
    if places.pending_change()?.is_some() {
        return Err(Failure::new("another change is not settled yet", "twinlock enable --status"));
    }
    let wired = wiring::wired_gates(&places)?;
    let gates: BTreeSet<Gate> = wired.iter().copied().chain([what]).collect();
    let facts = Facts::gather(Path::new("/"));
    preflight(&facts, what)?;
    check_helper()?;
    let changes = wiring::plan(&places, &gates)?;
    if changes.is_empty() {
        return Err(Failure::plain(format!("{what} is enabled already")));
    }
    show(&places, &changes);
    let login = requester(&facts, arguments.login.as_deref())?;
    try_out(&login, &gates)?;
    if !arguments.yes {
        ask(&format!("enable {what}, and put it back unless confirmed within {} s?", arguments.within))?;
    }
    let pending = begin(&places, Doing::Enable, &gates, &[what], &changes, arguments.within)?;
    instruct(&pending, what);
    if arguments.no_wait { Ok(()) } else { await_outcome(&places) }
}

/// Runs `twinlock disable`.
///
/// # Errors
/// A [`Failure`]; then everything is as before.
pub fn disable(arguments: &DisableArgs) -> Result<(), Failure> {
    let what = arguments.what.gate()?;
    require_root()?;
    let places = Places::installed();
    if take_back(&places, what)? {
        return Ok(());
    }
    let mut gates = wiring::wired_gates(&places)?;
    gates.remove(&what);
    let changes = wiring::plan(&places, &gates)?;
    if changes.is_empty() {
        return forget(&places, &gates, what);
    }
    check_helper()?;
    show(&places, &changes);
    if !arguments.yes {
        ask(&format!("disable {what}? nobody is asked any more then"))?;
    }
    begin(&places, Doing::Disable, &gates, &[], &changes, LONGEST_S)?;
    line(&format!("{what} is disabled: its files are as they were without twinlock"));
    Ok(())
}

/// There is no line of ours to take out; what was settled once is not meant to be gated any more.
fn forget(places: &Places, gates: &BTreeSet<Gate>, what: Gate) -> Result<(), Failure> {
    let locked = places.lock()?;
    match places.enabled_gates()?.filter(|settled| settled.gates.contains(&what)) {
        Some(settled) => {
            locked.save_enabled(&Enabled { gates: gates.iter().copied().collect(), ..settled })?;
            line(&format!("{what}'s lines were gone already; it is not meant to be enabled any more"));
            Ok(())
        }
        None => Err(Failure::plain(format!("{what} is not enabled"))),
    }
}

/// What waits to be confirmed is put back at once. True when that was all.
fn take_back(places: &Places, what: Gate) -> Result<bool, Failure> {
    if watch::revert_if_overdue(places)? {
        line("what was not confirmed is put back");
        return Ok(!wiring::wired_gates(places)?.contains(&what));
    }
    let locked = places.lock()?;
    let Some(pending) = places.pending_change()? else { return Ok(false) };
    if pending.step == Step::Waiting && pending.added == [what] {
        let words = wiring::revert(&locked, &pending, "disabled before it was confirmed")?;
        words.iter().for_each(|word| line(word));
        line(&format!("{what} is put back; it was not confirmed yet"));
        return Ok(true);
    }
    Err(Failure::new("another change is not settled yet", "twinlock enable --status"))
}

fn require_root() -> Result<(), Failure> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    Err(Failure::new("only root can do this", "run it with sudo"))
}

/// Prints what is wrong with this host; a failure stands in the way.
fn preflight(facts: &Facts, what: Gate) -> Result<(), Failure> {
    let mut findings = checks::before_enable(facts, what == Gate::Sudo);
    findings.extend(doctor::pam_owners(Path::new("/")));
    for finding in findings.iter().filter(|finding| finding.severity >= Severity::Warning) {
        let word = if finding.severity == Severity::Failure { "in the way" } else { "warning" };
        line(&super::output::visible(&format!("{word}: {}", finding.to_line())));
        if let Some(remedy) = &finding.remedy {
            line(&super::output::visible(&format!("  do: {remedy}")));
        }
    }
    if checks::has_failure(&findings) {
        return Err(Failure::new(format!("{what} is not enabled: nothing was changed"), "mend the above first"));
    }
    Ok(())
}

/// What would put everything back must be there, root's, and of this version.
fn check_helper() -> Result<(), Failure> {
    let hint = "install libpam-twinlock (deb) or pam_twinlock (rpm) of the same version as this command";
    let said = Command::new(HELPER).arg("--version").stdin(Stdio::null()).output();
    let said = said.map_err(|error| Failure::new(format!("{HELPER}: {error}"), hint))?;
    let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let ours = concat!("twinlock-pam ", env!("CARGO_PKG_VERSION"));
    if version == ours { Ok(()) } else { Err(Failure::new(format!("{HELPER} is {version}, not {ours}"), hint)) }
}

/// The exact lines, file by file.
fn show(places: &Places, changes: &[Change]) {
    for change in changes {
        let path = places.pam_d.join(&change.name);
        let (before, after) = (status::numbered(&change.before.bytes.0), status::numbered(&change.after));
        if !before.is_empty() {
            line(&format!("{} loses these lines:", path.display()));
            before.iter().for_each(|text| line(text));
        }
        if !after.is_empty() {
            line(&format!("{} gets these lines:", path.display()));
            after.iter().for_each(|text| line(text));
        }
    }
}

/// Whom to try it as: a person of the roster with a login here.
fn requester(facts: &Facts, named: Option<&str>) -> Result<String, Failure> {
    let Some(roster) = &facts.roster else { return Err(Failure::plain("this host pins no roster")) };
    let here = checks::requesters_here(facts, roster.roster());
    let known = |name: &str| here.iter().any(|(login, _)| *login == name);
    if let Some(name) = named {
        let refused = || Failure::new(format!("{name} is no person of the roster with a login here"), "name another");
        return known(name).then(|| name.to_owned()).ok_or_else(refused);
    }
    let logged_in = seat::Seat::of(std::process::id()).login_uid;
    let own = logged_in.and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten()).map(|user| user.name);
    let own = own.filter(|name| known(name));
    own.or_else(|| here.first().map(|(login, _)| (*login).to_owned()))
        .ok_or_else(|| Failure::plain("no person of the roster has a login on this host"))
}

/// The helper tries it in a namespace of its own.
fn try_out(login: &str, gates: &BTreeSet<Gate>) -> Result<(), Failure> {
    line(&format!("trying it in a copy, as {login}"));
    let mut command = Command::new(HELPER);
    command.args(["trial", login]).args(gates.iter().map(Gate::to_string)).stdin(Stdio::null());
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new("nothing was changed: this was not proved", "twinlock-pam's words above say what was seen"))
}

fn ask(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("there is no terminal to ask at", "give --yes"));
    }
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{question} type yes: ");
    let _ = out.flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::plain("nothing was changed")) }
}

/// Replaces the files, with the way back on disk and somebody to walk it. Whatever fails, they are put
/// back at once.
fn begin(
    places: &Places,
    doing: Doing,
    gates: &BTreeSet<Gate>,
    added: &[Gate],
    changes: &[Change],
    within_s: u32,
) -> Result<Pending, Failure> {
    let locked = places.lock()?;
    if places.pending_change()?.is_some() {
        return Err(Failure::new("another change has begun meanwhile", "twinlock enable --status"));
    }
    let pending = wiring::begin(&locked, doing, gates, added, changes, within_s)?;
    let done = watch::start(places).map_err(Failure::from).and_then(|()| {
        wiring::apply(&locked, changes)?;
        match doing {
            Doing::Enable => {
                let waiting = wiring::wait(&locked, pending.clone(), within_s)?;
                // Who watched may have been killed meanwhile; from here on nobody else looks.
                watch::start(places)?;
                Ok(waiting)
            }
            Doing::Disable => {
                wiring::settle(&locked, pending.clone(), None, "by twinlock disable")?;
                Ok(pending.clone())
            }
        }
    });
    done.map_err(|failure: Failure| match wiring::revert(&locked, &pending, &failure.line) {
        Ok(_) => failure.hint("nothing stays changed"),
        Err(error) => Failure::new(
            format!("{}; and putting it back failed: {}", failure.line, super::chain(&error)),
            "twinlock-pam revert, and keep this root shell open until it says so",
        ),
    })
}

fn instruct(pending: &Pending, what: Gate) {
    line(&format!(
        "{what} asks two people from now on, but it is put back in {} unless you confirm it:",
        status::left(pending)
    ));
    line("  keep this session open");
    line("  log in once more, by ssh or at the console (another window of this login proves nothing,");
    line("  even where it can't be told from a second login)");
    match what {
        Gate::Sudo => line("  there, run: sudo true      and have two people approve it"),
        Gate::Su => line("  there, run: su -c true     and have two people approve it"),
    }
    line("from anywhere: twinlock enable --status");
}

/// Waits with the watcher, and sees to it that there is one.
fn await_outcome(places: &Places) -> Result<(), Failure> {
    let shows = std::io::stdout().is_terminal();
    let say = |text: &str| {
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    };
    let mut noted = None;
    while let Some(pending) = places.pending_change()? {
        if shows {
            say(&format!("{} left ", status::left(&pending)));
        }
        if pending.noted != noted {
            noted.clone_from(&pending.noted);
            let why = noted.as_deref().unwrap_or_default();
            line(&format!("{}an elevation came that does not confirm it: {why}", if shows { "\r\x1b[K" } else { "" }));
        }
        if watch::revert_if_overdue(places)? {
            break;
        }
        watch::start(places)?;
        std::thread::sleep(Duration::from_millis(250));
    }
    if shows {
        say("");
    }
    match places.last_outcome()? {
        Some(last) if last.stays => {
            line(&format!("enabled: {}", last.why));
            Ok(())
        }
        Some(last) => {
            Err(Failure::new(format!("everything is put back: {}", last.why), "then run twinlock enable again"))
        }
        None => Err(Failure::plain("nobody knows how it ended: look at the files")),
    }
}
