//! The whole module against a scripted conversation, a roster with real keys, software phones and a
//! fake agent on a real socket. Nothing here mocks a check: certificates, evidence and revocation
//! lists are made by the issuer that ships and verified by the module's own code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod break_glass;
mod granted;
mod link;
mod newcomers;
mod passes;
mod refused;
mod rosters;
mod session;
mod slots;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use twinlock_certs::issue::{Ca, ElevationTemplate, RevokedEntry};
use twinlock_protocol::evidence::{Evidence, SignedRequest};
use twinlock_protocol::ids::{CertSerial, GrantId, RequestId, Ticket};
use twinlock_protocol::request::{Arg, ProcessFacts, StdinKind};
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::softphone::{Fixture, evidence, random};
use twinlock_protocol::statement::{APPROVAL_DOMAINS, Decision, SignedStatement};
use twinlock_protocol::verify::{VerifiedRequest, verify_request};
use twinlock_protocol::wire::module::{Accepted, Granted, ModuleEvent, ModuleMessage, Rosters, ShowTicket};
use twinlock_protocol::wire::{LENGTH_BYTES, frame};
use twinlock_protocol::{Bytes, UnixTime, limits};

use crate::account::{Contain, Opened, Outcome, World, account};
use crate::clock::wall;
use crate::config::Config;
use crate::conversation::{Conversation, NotText, Unanswered};
use crate::facts::{Environment, Facts};
use crate::grant_store::{Grant, GrantStore, Remembered};
use crate::refusal::Refusal;
use crate::roster_slots;
use crate::signals::Signals;
use crate::terminal::{Size, Terminal};
use crate::trusted::Owner;
use crate::who::{Account, Accounts, Caller};

/// What is typed, by what was told and the question.
pub type Answerer = Box<dyn FnMut(&str, &str) -> Result<String, Unanswered>>;

/// A scripted conversation: an unexpected question fails the test, and so does one left over.
pub struct Script {
    pub service: Option<String>,
    pub user: Option<String>,
    pub ruser: Option<Result<String, NotText>>,
    pub answers: VecDeque<Result<String, Unanswered>>,
    pub told: Vec<String>,
    pub remembered: Option<Remembered>,
    /// Answers in place of `answers`, from what was told and the question.
    pub answerer: Option<Answerer>,
    /// Panics when it is told something that holds this.
    pub panic_on: Option<&'static str>,
}

impl Script {
    pub fn new(service: &str, user: &str, ruser: &str) -> Self {
        Self {
            service: Some(service.to_owned()),
            user: Some(user.to_owned()),
            ruser: Some(Ok(ruser.to_owned())),
            answers: VecDeque::new(),
            told: Vec::new(),
            remembered: None,
            answerer: None,
            panic_on: None,
        }
    }

    /// Everything that was shown.
    pub fn text(&self) -> String {
        self.told.join("\n")
    }
}

impl Conversation for Script {
    fn tell(&mut self, text: &str) {
        assert!(!text.contains('\0'), "the binding refuses NUL");
        self.told.push(text.to_owned());
        assert!(!self.panic_on.is_some_and(|words| text.contains(words)), "as the test wants");
    }
    fn ask(&mut self, question: &str) -> Result<String, Unanswered> {
        if let Some(mut answerer) = self.answerer.take() {
            let answer = answerer(&self.text(), question);
            self.answerer = Some(answerer);
            return answer;
        }
        self.answers.pop_front().unwrap_or_else(|| panic!("unexpected question: {question}"))
    }
    fn service(&self) -> Option<String> {
        self.service.clone()
    }
    fn user(&self) -> Option<String> {
        self.user.clone()
    }
    fn ruser(&self) -> Option<Result<String, NotText>> {
        self.ruser.clone()
    }
}

impl GrantStore for Script {
    fn remember(&mut self, what: Remembered) -> Result<(), Refusal> {
        self.remembered = Some(what);
        Ok(())
    }
    fn take(&mut self) -> Option<Remembered> {
        let before = self.remembered.take();
        self.remembered = before.as_ref().map(|_| Remembered::Asked);
        before
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.answers.is_empty(), "a question was not asked");
        }
    }
}

/// root, alice (1001), bob (1002), mallory (1005) and a second name for uid 0.
pub struct People;

impl Accounts for People {
    fn by_uid(&self, uid: u32) -> Option<Account> {
        let name = match uid {
            0 => "root",
            1001 => "alice",
            1002 => "bob",
            1005 => "mallory",
            _ => return None,
        };
        self.by_name(name)
    }
    fn by_name(&self, name: &str) -> Option<Account> {
        let uid = match name {
            "root" | "toor" => 0,
            "alice" | "alice-too" => 1001,
            "bob" => 1002,
            "mallory" => 1005,
            _ => return None,
        };
        Some(Account { uid, name: name.to_owned(), shell: "/bin/sh".into() })
    }
}

pub fn caller(real_uid: u32) -> Caller {
    Caller { real_uid, login_uid: Some(real_uid).filter(|uid| *uid != 0), program: b"sudo".to_vec() }
}

/// A host with roster, keys, configuration and an agent's socket, in a directory of its own.
pub struct Bench {
    directory: tempfile::TempDir,
    pub fixture: Fixture,
    pub roster: VerifiedRoster,
    pub ca: Ca,
    pub argv: Vec<Vec<u8>>,
    pub caller: Caller,
    pub terminal: Option<Size>,
    pub stderr_is_terminal: bool,
    pub environment: Environment,
    /// Registers at whoever listens at the reaper's socket. Without, the leaf is where the tests run.
    pub reaper: bool,
    /// Has an opened session noted by whoever listens there. Without, it counts as noted.
    pub notes: bool,
}

/// Files of root, or of whoever runs the tests.
pub fn owner() -> Owner {
    Owner::dangerous_also(rustix::process::geteuid().as_raw())
}

/// A directory that nobody else can write to, all the way up: below the checkout where that is so,
/// and where the checkout lies in a place like `/tmp`, in the first private place there is.
pub fn private_directory() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target");
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let places = [Some(target), home, Some("/root".into()), Some("/run".into())];
    let private = |place: &std::path::PathBuf| owner().check_directories(&place.join("x")).is_ok();
    let make = |place: std::path::PathBuf| tempfile::Builder::new().prefix("pam-").tempdir_in(place).ok();
    places.into_iter().flatten().filter(private).find_map(make).expect("a directory that only its owner can write to")
}

/// The cgroup of the tests, as the kernel names it.
pub fn own_cgroup() -> Vec<u8> {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().into()
}

pub fn put(path: &Path, mode: u32, bytes: &[u8]) {
    use std::io::Write as _;
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::File::options().write(true).create_new(true).mode(mode).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A bench whose roster was edited before the ceremony.
    pub fn with(edit: impl FnOnce(&mut Fixture)) -> Self {
        let now = wall();
        let (ca, _) = Ca::generate("Twinlock test CA", now, 10).unwrap();
        let mut fixture = Fixture::new(ca.certificate(), now);
        fixture.roster.issued_at = UnixTime(now.0 - 60);
        edit(&mut fixture);
        let (envelope, roster) = fixture.seal();
        let directory = private_directory();
        let bench = Self {
            directory,
            fixture,
            roster,
            ca,
            argv: ["sudo", "systemctl", "restart", "nginx"].map(|word| word.as_bytes().to_vec()).to_vec(),
            caller: caller(1001),
            terminal: Some(Size::USUAL),
            stderr_is_terminal: true,
            environment: Environment {
                term: Some(b"xterm-256color".to_vec()),
                locale: Some(b"C.UTF-8".to_vec()),
                shell: Some(b"/bin/bash".to_vec()),
                editor: Some(b"vi".to_vec()),
            },
            reaper: false,
            notes: false,
        };
        std::fs::create_dir(bench.path("roster")).unwrap();
        roster_slots::store(&bench.path("roster"), owner(), 1, envelope.digest, &envelope.to_bytes()).unwrap();
        put(&bench.path("host.key"), 0o600, &bench.fixture.host_key_pkcs8);
        bench.configure("");
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration with more lines.
    pub fn configure(&self, more: &str) {
        let at = |name: &str| self.path(name).display().to_string();
        let uid = rustix::process::geteuid().as_raw();
        let text = format!(
            "host = 'web01'\nagent_uid = {uid}\nreaper_uid = {uid}\nagent_socket = '{}'\nreaper_socket = '{}'\n\
             roster_dir = '{}'\nhost_key = '{}'\n{more}\n",
            at("agent.sock"),
            at("reaper.sock"),
            at("roster"),
            at("host.key"),
        );
        put(&self.path("module.toml"), 0o644, text.as_bytes());
    }

    pub fn command(&mut self, line: &str) {
        self.argv = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    }

    pub fn script() -> Script {
        Script::new("sudo", "alice", "alice")
    }

    /// One `account` call.
    pub fn account(&self, script: &mut Script) -> Result<Outcome, Refusal> {
        self.account_with(script, &[])
    }

    pub fn account_with(&self, script: &mut Script, arguments: &[&CStr]) -> Result<Outcome, Refusal> {
        self.in_world(|world| account(script, world, self.caller.clone(), arguments))
    }

    /// One `open_session` call.
    pub fn open_session(&self, script: &mut Script, caller: &Caller) -> Result<Outcome, Refusal> {
        self.in_world(|world| crate::session::open_session(script, world, caller))
    }

    fn in_world<T>(&self, body: impl FnOnce(&World<'_>) -> T) -> T {
        let facts = |caller: Caller| {
            Ok(Facts {
                caller,
                argv: self.argv.clone(),
                cwd: Some(Arg::from("/home/alice")),
                tty: Some("/dev/pts/0".into()),
                process: ProcessFacts { pid: 42, start_time: 4711, parent: 41, session: 40 },
                boot_id: crate::facts::boot_id()?,
                stdin: StdinKind::Terminal,
                stderr_is_terminal: self.stderr_is_terminal,
                environment: self.environment.clone(),
            })
        };
        let terminal = || self.terminal.map(Terminal::pretend);
        let config = self.path("module.toml");
        let here = |_: &Config, _: Owner, _: &Grant, _: &Terminal, _: &Signals| Ok(own_cgroup());
        let contain: Contain<'_> = if self.reaper { &crate::session::contain } else { &here };
        let noted = |_: &Config, _: Owner, _: GrantId| Ok(());
        let opened: Opened<'_> = if self.notes { &crate::session::opened } else { &noted };
        let (facts, terminal) = (&facts, &terminal);
        let world = World { accounts: &People, config: &config, owner: owner(), facts, terminal, contain, opened };
        body(&world)
    }

    /// One `account` call, with an agent that plays `part` on the first connection.
    pub fn play<T: Send>(
        &self,
        script: &mut Script,
        part: impl FnOnce(&mut Agent<'_>) -> T + Send,
    ) -> (Result<Outcome, Refusal>, T) {
        self.play_all(script, |listener| part(&mut Agent::accept(self, listener)))
    }

    /// One `account` call, with an agent that has the listener.
    pub fn play_all<T: Send>(
        &self,
        script: &mut Script,
        part: impl FnOnce(&UnixListener) -> T + Send,
    ) -> (Result<Outcome, Refusal>, T) {
        let path = self.path("agent.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        std::thread::scope(|scope| {
            let agent = scope.spawn(|| part(&listener));
            let outcome = self.account(script);
            (outcome, agent.join().expect("the agent's part"))
        })
    }

    /// One `account` call that is answered by what `answer` makes of the request.
    pub fn answer(
        &self,
        script: &mut Script,
        answer: impl FnOnce(&VerifiedRequest) -> ModuleEvent + Send,
    ) -> Result<Outcome, Refusal> {
        let (outcome, ()) = self.play(script, |agent| {
            let request = agent.submitted();
            agent.accept_request(request.id());
            agent.show_ticket(1);
            agent.say(&answer(&request));
            // Stays until the module goes.
            while agent.hear().is_some() {}
        });
        outcome
    }

    /// One `account` call that an honest gateway grants on these terms.
    pub fn grant(&self, script: &mut Script, terms: &Terms) -> Result<Outcome, Refusal> {
        self.answer(script, |request| ModuleEvent::Granted(self.granted(request, terms)))
    }

    /// What an honest gateway would send for this request.
    pub fn granted(&self, request: &VerifiedRequest, terms: &Terms) -> Granted {
        let statements = terms
            .approvers
            .iter()
            .map(|name| {
                let phone = self.fixture.phone(name);
                let mut statement = phone.statement(request.id(), Decision::Approve);
                statement.ttl_s = terms.statement_ttl_s;
                phone.sign(self.roster.roster(), APPROVAL_DOMAINS, &statement.to_bytes())
            })
            .collect();
        self.granted_on(request, terms, statements)
    }

    pub fn granted_on(&self, request: &VerifiedRequest, terms: &Terms, statements: Vec<SignedStatement>) -> Granted {
        self.granted_by(request, terms, &evidence(request.id(), statements))
    }

    pub fn granted_by(&self, request: &VerifiedRequest, terms: &Terms, evidence: &Evidence) -> Granted {
        let evidence = evidence.to_bytes();
        let now = wall();
        let serial = CertSerial::from_random(random());
        let template = ElevationTemplate {
            session_key: request.request().session_key,
            serial,
            host: request.request().host.clone(),
            target_user: request.request().target.user.clone(),
            requesters: request.requesters().to_vec(),
            not_before: UnixTime(now.0 - terms.backdate_s),
            not_after: now.plus(terms.certificate_s),
            request: request.id(),
            evidence: Evidence::digest_of(&evidence),
            crl_url: "http://tl.example.org/crl".into(),
        };
        let entries = terms.revoked.then_some(RevokedEntry {
            serial,
            revoked_at: now,
            reason: twinlock_certs::issue::Reason::Withdrawn,
        });
        let crl = self.ca.crl(terms.crl_number, UnixTime(now.0 - 60), now.plus(terms.crl_s), entries).unwrap();
        Granted {
            certificate: Bytes(self.ca.elevation(&template).unwrap()),
            evidence: Bytes(evidence),
            crl: Bytes(crl),
        }
    }
}

/// What a gateway grants on.
#[derive(Clone)]
pub struct Terms {
    pub approvers: Vec<&'static str>,
    pub statement_ttl_s: u32,
    pub certificate_s: u64,
    pub backdate_s: u64,
    pub crl_number: u64,
    pub crl_s: u64,
    pub revoked: bool,
}

impl Terms {
    pub fn honest() -> Self {
        Self {
            approvers: vec!["bob", "carol"],
            statement_ttl_s: 900,
            certificate_s: 900,
            backdate_s: 60,
            crl_number: 7,
            crl_s: 3600,
            revoked: false,
        }
    }
}

/// One connection, as the agent sees it.
pub struct Agent<'a> {
    pub stream: UnixStream,
    bench: &'a Bench,
    /// What it answers when it is asked for rosters, once.
    pub rosters: Vec<Bytes>,
}

impl<'a> Agent<'a> {
    pub fn accept(bench: &'a Bench, listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        Self { stream, bench, rosters: Vec::new() }
    }

    /// The next message but questions for rosters, which are answered; `None` when the module is gone.
    pub fn hear(&mut self) -> Option<ModuleMessage> {
        loop {
            let body = read_frame(&mut self.stream)?;
            match twinlock_protocol::wire::message(&body, limits::FRAME_BYTES).unwrap() {
                ModuleMessage::Rosters(_) => {
                    let envelopes = std::mem::take(&mut self.rosters);
                    self.say(&ModuleEvent::Rosters(Rosters { envelopes }));
                }
                message => return Some(message),
            }
        }
    }

    /// The submitted request, verified as the gateway does.
    pub fn submitted(&mut self) -> VerifiedRequest {
        match self.hear() {
            Some(ModuleMessage::Submit(submit)) => self.verified(&submit.signed),
            other => panic!("{other:?}"),
        }
    }

    pub fn verified(&self, signed: &SignedRequest) -> VerifiedRequest {
        verify_request(&self.bench.roster, signed, wall()).expect("an honest request")
    }

    pub fn say(&mut self, event: &ModuleEvent) {
        self.raw(&frame(event));
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        use std::io::Write as _;
        let _ = self.stream.write_all(bytes);
    }

    pub fn accept_request(&mut self, request: RequestId) {
        self.say(&ModuleEvent::Accepted(Accepted { request, eligible: Vec::new(), approved: Vec::new() }));
    }

    pub fn show_ticket(&mut self, slot: u8) -> Ticket {
        let ticket = Ticket::from_random(&random());
        self.say(&ModuleEvent::Ticket(ShowTicket { slot, ticket: ticket.clone(), valid_s: 90 }));
        ticket
    }
}

pub fn read_frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut prefix = [0; LENGTH_BYTES];
    stream.read_exact(&mut prefix).ok()?;
    let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}
