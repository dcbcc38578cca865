//! `account`: the story of one elevation, from "who is asked" to a verified, recorded and contained
//! grant in the handle.
//! sudo runs this phase on every invocation, cached and NOPASSWD ones too. Every way out that is
//! not [`Outcome::Allowed`] is a refusal.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::path::Path;
use std::rc::Rc;

use twinlock_protocol::break_glass::verify_request;
use twinlock_protocol::digest::Domain;
use twinlock_protocol::evidence::SignedRequest;
use twinlock_protocol::ids::{GrantId, TerminalCode};
use twinlock_protocol::request::{
    Arg, CodeCommitment, ElevationRequest, Mode, RequestFormat, RequestKind, RosterRef, Scope, Target, VERSION,
};
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::signature::{PublicKey, SigningKey};
use twinlock_protocol::verify::VerifiedRequest;
use twinlock_protocol::{Bytes, DenyReason, Fixed, escape, limits};
use zeroize::Zeroizing;

use crate::ask::Asking;
use crate::break_glass::Offline;
use crate::cgroup;
use crate::clock::{boot_ms, time_of_day, wall};
use crate::command_line::{self, Asked, Questions, Reading, ShellSource, TargetWord};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::facts::Facts;
use crate::grant_store::{Grant, GrantStore, Remembered};
use crate::link::{Link, Peer};
use crate::reason::{self, Wish};
use crate::refusal::Refusal;
use crate::roster_slots;
use crate::rosters;
use crate::screen::{Look, Screen};
use crate::session_key::{self, failed};
use crate::signals::Signals;
use crate::terminal::Terminal;
use crate::trusted::Owner;
use crate::verify::{Now, Own, Verified, verify};
use crate::who::{self, Accounts, Caller, Decision};

/// More than any PKCS #8 key of ours has.
const KEY_BYTES: usize = 4096;

/// What a hook decided. The two lie far apart, so that no flipped bit makes one the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Nobody needs to be asked, or two people said yes.
    Allowed = 0x3c5a_96a5,
}

/// The world around the module: real in `lib.rs`, made up in tests.
pub struct World<'a> {
    /// The passwd database.
    pub accounts: &'a dyn Accounts,
    /// Where the configuration is.
    pub config: &'a Path,
    /// Whose files count.
    pub owner: Owner,
    /// Reads the facts about this process, once they are needed.
    pub facts: &'a dyn Fn(Caller) -> Result<Facts, Refusal>,
    /// Opens the controlling terminal.
    pub terminal: &'a dyn Fn() -> Option<Terminal>,
    /// Records and contains a grant: [`crate::session::contain`].
    pub contain: Contain<'a>,
    /// Notes that a grant's session is opened: [`crate::session::opened`].
    pub opened: Opened<'a>,
}

/// The form of [`crate::session::contain`].
pub type Contain<'a> = &'a dyn Fn(&Config, Owner, &Grant, &Terminal, &Signals) -> Result<Vec<u8>, Refusal>;

/// The form of [`crate::session::opened`].
pub type Opened<'a> = &'a dyn Fn(&Config, Owner, GrantId) -> Result<(), Refusal>;

/// Decides one `account` call.
///
/// # Errors
/// The refusal.
pub fn account<S: Conversation + GrantStore>(
    session: &mut S,
    world: &World<'_>,
    caller: Caller,
    arguments: &[&CStr],
) -> Result<Outcome, Refusal> {
    let decision = who::decide(session, world.accounts, &caller)?;
    let Some(front_end) = decision.front_end() else {
        // `sudo su -`: pam_systemd may carry it out of the grant's leaf before `open_session`.
        if let Some(leaf) = cgroup::own_leaf()? {
            session.remember(Remembered::Contained(leaf))?;
        }
        return Ok(Outcome::Allowed);
    };
    let facts = (world.facts)(caller)?;
    let asked = match command_line::read(front_end, &facts.argv)? {
        // The service of `sudo -i` never runs a query.
        Reading::Query if session.service().as_deref() == Some("sudo") => return Ok(Outcome::Allowed),
        Reading::Query => return Err(DenyReason::NotUnderstood.into()),
        Reading::Asks(asked) => *asked,
    };
    if session.take().is_some() {
        return Err(Refusal::logging(DenyReason::ConfigInvalid, "the account line is in the stack twice"));
    }
    session.remember(Remembered::Asked)?;
    let terminal = terminal(world, decision, &asked, &facts)?;
    let config = Config::load(world.config, world.owner)?.with_arguments(arguments)?;
    let mut roster = roster_slots::load(&config.roster_dir, world.owner)?;
    let requester = who::requester(session, world.accounts, &facts.caller)?;
    let asked = Resolved::new(session, world.accounts, &facts, decision, asked)?;
    let wish = reason::ask(session, &config, asked.questions)?;

    let signals = Signals::block()?;
    let link = rosters::newest(&config, world.owner, &mut roster, &signals)?;
    let (key, pkcs8) = session_key::generate()?;
    let code = session_key::terminal_code()?;
    let request = request(&config, &roster, &facts, requester, &asked, wish, &code, session, key.public())?;
    let request = sign(&config, world.owner, &roster, &request, &key)?;
    wait(session, world, &config, &roster, &request, &facts, &terminal, &code, pkcs8, asked.questions, &signals, link)
}

/// The terminal to show the request on. Without one, or where nobody wants to wait, there is no
/// request at all.
fn terminal(world: &World<'_>, decision: Decision, asked: &Asked, facts: &Facts) -> Result<Terminal, Refusal> {
    // su shows error messages on standard error, wherever that leads.
    let shown = decision != Decision::AsksForSu || facts.stderr_is_terminal;
    match (world.terminal)() {
        Some(terminal) if shown && asked.questions != Questions::Never => Ok(terminal),
        Some(_) | None => Err(DenyReason::NoTerminal.into()),
    }
}

/// The command line with the target looked up.
struct Resolved {
    view: twinlock_protocol::request::View,
    target: Target,
    questions: Questions,
}

impl Resolved {
    fn new(
        conversation: &dyn Conversation,
        accounts: &dyn Accounts,
        facts: &Facts,
        decision: Decision,
        asked: Asked,
    ) -> Result<Self, Refusal> {
        let Asked { mut view, target, group, shell, questions } = asked;
        let named = match target {
            TargetWord::Root => accounts.by_name("root"),
            TargetWord::Named(name) => accounts.by_name(&name),
            TargetWord::Uid(uid) => accounts.by_uid(uid),
            TargetWord::Invoker => accounts.by_uid(facts.caller.real_uid),
        };
        let account = if decision == Decision::AsksForSu {
            // su says itself whom it will become.
            let user = conversation.user().ok_or(DenyReason::NotUnderstood)?;
            let account = accounts.by_name(&user);
            if account != named {
                view.not_understood.get_or_insert_with(|| "the user among the words of su".to_owned());
            }
            account
        } else {
            named
        };
        let account = account.ok_or(DenyReason::NotUnderstood)?;
        view.shell = match shell {
            ShellSource::None => None,
            // Without SHELL, sudo takes the invoking user's own.
            ShellSource::Environment => match &facts.environment.shell {
                Some(shell) => Some(Arg(shown_whole(shell)?)),
                None => accounts.by_uid(facts.caller.real_uid).map(|account| path(&account.shell)),
            },
            ShellSource::Target => Some(path(&account.shell)),
            ShellSource::Word(path) => Some(Arg(path)),
        };
        if view.mode == Mode::Edit {
            view.editor = facts.environment.editor.as_deref().map(shown_whole).transpose()?.map(Arg);
        }
        Ok(Self { view, target: Target { user: account.name, uid: account.uid, group }, questions })
    }
}

fn path(path: &Path) -> Arg {
    Arg::from(path.as_os_str().as_encoded_bytes())
}

/// What people can't be shown whole is refused, never cut: the rest could be what runs.
fn shown_whole(value: &[u8]) -> Result<Vec<u8>, Refusal> {
    // Far more than a path may have, and little beside argv.
    if value.len() > limits::REQUEST_BYTES / 16 { Err(DenyReason::TooLong.into()) } else { Ok(value.to_vec()) }
}

#[allow(clippy::too_many_arguments)] // one argument per source of facts; a struct would only rename them
fn request(
    config: &Config,
    roster: &VerifiedRoster,
    facts: &Facts,
    requester: twinlock_protocol::request::Requester,
    asked: &Resolved,
    wish: Wish,
    code: &TerminalCode,
    conversation: &dyn Conversation,
    session_key: PublicKey,
) -> Result<ElevationRequest, Refusal> {
    let salt = Fixed(session_key::random()?);
    let rules = &roster.roster().rules;
    Ok(ElevationRequest {
        format: RequestFormat::Request,
        version: VERSION,
        kind: RequestKind::Module,
        roster: RosterRef { version: roster.roster().version, digest: roster.digest() },
        host: config.host.clone(),
        boot_id: facts.boot_id.clone(),
        service: conversation.service().ok_or(DenyReason::ServiceUnknown)?,
        requester,
        target: asked.target.clone(),
        view: asked.view.clone(),
        argv: facts.argv.iter().cloned().map(Arg).collect(),
        cwd: facts.cwd.clone(),
        tty: facts.tty.clone(),
        process: facts.process.clone(),
        stdin: facts.stdin,
        reason: wish.reason,
        ttl_s: wish.ttl_s.min(config.max_ttl_s).min(rules.max_ttl_s),
        scope: Scope::Command,
        created_at: wall(),
        approve_by_s: config.approve_by_s.min(rules.max_approve_by_s),
        nonce: Fixed(session_key::random()?),
        session_key,
        terminal_code: CodeCommitment { salt, hash: code.commitment(&salt) },
    })
}

/// Signs the request with both keys and verifies it as everybody else will: whoever may not ask,
/// or has nobody to ask, learns it here, before anything leaves the host.
fn sign(
    config: &Config,
    owner: Owner,
    roster: &VerifiedRoster,
    request: &ElevationRequest,
    session_key: &SigningKey,
) -> Result<VerifiedRequest, Refusal> {
    let config_invalid = |detail: String| Refusal::logging(DenyReason::ConfigInvalid, detail);
    let pkcs8 = owner.read_secret(&config.host_key, KEY_BYTES).map_err(|error| config_invalid(error.to_string()))?;
    let pkcs8 = Zeroizing::new(pkcs8);
    let host_key = SigningKey::from_pkcs8(&pkcs8).map_err(|error| config_invalid(format!("host_key: {error}")))?;
    let bytes = request.to_bytes();
    if bytes.len() > limits::REQUEST_BYTES {
        return Err(DenyReason::TooLong.into());
    }
    let id = ElevationRequest::id_of(&bytes);
    let by = |key: &SigningKey, domain: Domain| key.sign(&domain.message(id.0.as_bytes())).map_err(failed);
    let signed = SignedRequest {
        request: Bytes(bytes),
        host_signature: by(&host_key, Domain::RequestHost)?,
        session_signature: by(session_key, Domain::RequestSession)?,
    };
    Ok(verify_request(roster, &signed, wall())?)
}

#[allow(clippy::too_many_arguments)] // as above
fn wait<S: Conversation + GrantStore>(
    session: &mut S,
    world: &World<'_>,
    config: &Config,
    roster: &VerifiedRoster,
    request: &VerifiedRequest,
    facts: &Facts,
    terminal: &Terminal,
    code: &TerminalCode,
    pkcs8: Zeroizing<Vec<u8>>,
    questions: Questions,
    signals: &Signals,
    link: Option<Link>,
) -> Result<Outcome, Refusal> {
    let owner = world.owner;
    let deadline_ms = boot_ms().saturating_add(u64::from(request.request().approve_by_s) * 1000);
    let mut asking = Asking {
        config,
        peer: Peer { owner, uid: config.agent_uid },
        roster,
        request,
        resume_token: Fixed(session_key::random()?),
        code,
        deadline_ms,
        link,
        newcomers: Vec::new(),
        taken: false,
    };
    let look = Look::of(&facts.environment, config.qr);
    let offline = Offline { config, owner, roster, request, questions, look };
    let mut screen = Screen::new(look, head(roster, request));
    if config.roster_dir.with_file_name("break-glass").join("banner").exists() {
        session.tell(
            "twinlock: break-glass was used on this host, and nobody has reviewed it: twinlock break-glass status",
        );
    }
    terminal.flush_input();
    let answered = asking.ask(session, terminal, &mut screen, signals);
    let own = Own {
        roster,
        request,
        newcomers: &asking.newcomers,
        approve_by_boot_ms: deadline_ms,
        max_ttl_s: config.max_ttl_s,
        roster_dir: &config.roster_dir,
        owner,
    };
    let granted = match answered {
        Ok(granted) => verify(&own, &granted, pkcs8, Now { wall: wall(), boot_ms: boot_ms() }).map(|verified| {
            let last = last_lines(&verified);
            (verified.grant, last)
        }),
        Err(refusal) => offline.after(refusal, asking.taken).and_then(|()| {
            screen.close(session, terminal.size(), &[]);
            offline.ask(session, terminal, signals, pkcs8)
        }),
    };
    let granted = granted.map_err(|refusal| asking.audit(refusal, signals));
    let last = granted.as_ref().map(|(_, last)| last.as_slice()).unwrap_or_default();
    screen.close(session, terminal.size(), last);
    terminal.flush_input();
    let (grant, _) = granted?;
    signals.check()?;
    // Here and not in `open_session`, which `Defaults !pam_session` leaves out.
    let leaf = (world.contain)(config, owner, &grant, terminal, signals)?;
    session.remember(Remembered::Granted(Rc::new(grant), leaf))?;
    Ok(Outcome::Allowed)
}

/// Who wants what, as whom, and whom to ask. All of it from the pinned roster and from this host.
fn head(roster: &VerifiedRoster, verified: &VerifiedRequest) -> Vec<String> {
    let request = verified.request();
    let visible = |text: &str| escape::visible(text.as_bytes());
    let people = verified.eligible(roster).unwrap_or_default();
    let names: Vec<String> = people.iter().map(|person| visible(&person.name)).collect();
    let host = verified.host(roster).map(|host| visible(&host.name)).unwrap_or_default();
    let group = request.target.group.as_deref().map(|group| format!(" (group {})", visible(group))).unwrap_or_default();
    vec![
        format!("twinlock: two approvers needed ({})", names.join(", ")),
        format!("  {} -> {}{group} on {host}", visible(&request.requester.real.name), visible(&request.target.user)),
        format!("  {}", what(request)),
    ]
}

/// The command as one line, or what is started without one.
fn what(request: &ElevationRequest) -> String {
    let words = || request.command().iter().map(|word| word.0.as_slice());
    let shell = request.view.shell.as_ref().map(|shell| escape::argument(&shell.0)).unwrap_or_default();
    match (request.view.mode, request.command().is_empty()) {
        (Mode::Edit, _) => format!("edit {}", escape::command(words())),
        (Mode::Query, true) => "a query of sudo".to_owned(),
        (Mode::Query, false) => format!("a query of sudo about {}", escape::command(words())),
        (Mode::LoginShell, true) => format!("a login shell {shell}"),
        (Mode::Command | Mode::Shell | Mode::SwitchUser, true) => format!("a shell {shell}"),
        (Mode::Command | Mode::Shell | Mode::SwitchUser | Mode::LoginShell, false) => escape::command(words()),
    }
}

/// What stays on the terminal after a grant.
fn last_lines(verified: &Verified) -> Vec<String> {
    let [first, second] = verified.approvers.each_ref().map(|name| escape::visible(name.as_bytes()));
    let serial = verified.grant.serial.map(|serial| serial.to_string()).unwrap_or_default();
    vec![format!(
        "{} and {} approved {}; certificate {}:.. ends {}",
        first,
        second,
        time_of_day(wall()),
        serial.get(..5).unwrap_or_default(),
        time_of_day(verified.not_after)
    )]
}
