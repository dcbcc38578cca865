//! The stage of every attempt: a whole Twinlock, whose gateway is ended and replaced by the hostile
//! program with everything that the gateway owned: its directory with roster, database, CA key and
//! TLS key. Host key, session keys and the approvers' keys are not there; the approvers' software
//! phones sign only what a hostile gateway could have got from them, and the controls.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use twinlock_protocol::bytes::{Bytes, Fixed};
use twinlock_protocol::evidence::{Evidence, GrantRecord, SignedRequest};
use twinlock_protocol::ids::{HostId, PersonId, RequestId, Ticket};
use twinlock_protocol::request::{ElevationRequest, Login};
use twinlock_protocol::roster::{
    Host, PersonKind, Roster, RosterEnvelope, ServiceOwner, Standing, Suspension, UidEntry, VerifiedRoster,
};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::slots::{HEADER_BYTES, ROSTER_SLOTS, SlotHeader};
use twinlock_protocol::softphone::{Fixture, Phone, evidence, person, random};
use twinlock_protocol::statement::{Decision, SignedStatement};
use twinlock_protocol::verify::verify_request;
use twinlock_protocol::wire;
use twinlock_protocol::wire::agent::{ForModule, GatewayMessage};
use twinlock_protocol::wire::module::{Accepted, Granted, ModuleEvent, ModuleMessage, ShowTicket};
use twinlock_protocol::{DenyReason, UnixTime};

use crate::bed::{Bed, Tail};
use crate::hostile::mint::{About, Leaf, Mint};
use crate::hostile::seat::{AgentSeat, GatewaySeat, send};
use crate::installation::{AGENT_PORT, Installation, Plan, now, pin_roster};
use crate::term::Terminal;
use crate::world;

/// Only root can write here: a file in it is the proof that a command ran as root.
const PROOF: &str = "/var/lib/hostile-proof";
/// The module's socket when the hostile program sits in the agent's place.
const FALSE_AGENT: &str = "/run/twinlock/false-agent.sock";
/// No attempt and no control takes longer.
const LIMIT: Duration = Duration::from_secs(20);
/// Log lines and alarms that have left the module need no longer, on a busy machine too.
const ALARM: Duration = Duration::from_secs(2);
/// How long a certificate lives when nobody lies: what requests ask for.
const LIFE_S: u64 = 900;

/// Which of the two runs of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// With the lie.
    Attack,
    /// The same steps with the honest value.
    Control,
}

/// Where the lie is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// In the gateway's place, through the real agent.
    Gateway,
    /// In the agent's place, at the module's socket.
    Agent,
}

/// How the requester asks.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The login that runs sudo.
    pub user: &'static str,
    /// Words between `sudo` and the command.
    pub options: &'static [&'static str],
    /// `TERM`.
    pub term: &'static str,
    /// The audit login uid, when one is to be set.
    pub login_uid: Option<u32>,
    /// Lines of `module.toml` for this case.
    pub module: &'static str,
}

impl Default for Ask {
    fn default() -> Self {
        Self { user: "alice", options: &[], term: "xterm-256color", login_uid: None, module: "" }
    }
}

/// One thing that the hostile program does.
pub enum Say {
    /// An event for the module.
    Event(ModuleEvent),
    /// A body of a frame for the module, whatever it is; only from the agent's place.
    Raw(Vec<u8>),
    /// Nothing for a while.
    Pause(Duration),
}

/// A request that was made before, with what people signed about it.
#[derive(Clone)]
pub struct Past {
    /// The request.
    pub signed: SignedRequest,
    /// Its id.
    pub id: RequestId,
    /// Who asked.
    pub requesters: Vec<PersonId>,
    /// The answer of that time.
    pub granted: Granted,
    /// The statements in it.
    pub statements: Vec<SignedStatement>,
}

/// Everything that the hostile program has.
pub struct Stage<'b> {
    bed: &'b Bed,
    /// The real agent and reaper; the gateway in it is dead.
    pub installation: Installation<'b>,
    /// The roster that the host pins.
    pub roster: VerifiedRoster,
    /// Its envelope.
    pub envelope: RosterEnvelope,
    /// The stolen CA.
    pub mint: Mint,
    /// A second host of the fleet, whose root has joined the attack: its signing key.
    pub other_host: SigningKey,
    /// The attacker's own phones, eve's and mal's: in no roster, unless somebody puts them there.
    pub strangers: [Phone; 2],
    /// Elevations that were granted before, by kind.
    pub past: Vec<(&'static str, Past)>,
    gateway: GatewaySeat,
    agent: AgentSeat,
    module_toml: String,
    count: u32,
    crl_number: std::cell::Cell<u64>,
}

/// How one run ended.
pub struct Outcome {
    /// sudo's exit code.
    pub exit: i32,
    /// The reason that the terminal names, in the words of the one table.
    pub reason: Option<DenyReason>,
    /// Every byte that reached the terminal.
    pub transcript: Vec<u8>,
    /// Lines of the system log.
    pub log: Vec<String>,
    /// The reason in the module's alarm to the gateway.
    pub alarm: Option<DenyReason>,
    /// The command ran as root.
    pub ran: bool,
    /// The host's record of the grant.
    pub record: Option<GrantRecord>,
    /// `CLOCK_BOOTTIME` when it was over, in milliseconds.
    pub ended_boot_ms: u64,
}

impl<'b> Stage<'b> {
    /// Starts a Twinlock, takes its gateway's directory, ends the gateway and sits down in its
    /// place.
    pub fn set(bed: &'b Bed) -> Self {
        bed.wire(&Tail::Twinlock);
        let logins = ["alice", "bob", "mallory", "twin", "robot"];
        let sudoers: Vec<String> = logins.iter().map(|login| format!("{login} ALL=(ALL:ALL) NOPASSWD: ALL")).collect();
        bed.sudoers(&sudoers.join("\n"));
        add_account(bed, "twin", 1006);
        add_account(bed, "robot", 1007);
        fs::create_dir(PROOF).expect("a directory");
        fs::set_permissions(PROOF, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("its mode");

        let mut plan = Plan::new();
        plan.agent = "[limits]\nrequests_per_minute = 60000\n".into();
        let (other_host, _) = SigningKey::generate().expect("a key");
        people(&mut plan, &other_host);
        let mut installation = plan.start(bed);
        installation.gateway.kill();

        let mint = Mint::new(&stolen("ca.der"), &stolen("ca.key"));
        let gateway = take_the_gateways_place();
        let module_toml = fs::read_to_string(world::MODULE_TOML).expect("the module's configuration");
        Self {
            bed,
            roster: installation.roster.clone(),
            envelope: installation.envelope.clone(),
            installation,
            mint,
            other_host,
            strangers: ["eve", "mal"].map(|name| Phone::new(name, &format!("{name}-phone"))),
            past: Vec::new(),
            gateway,
            agent: AgentSeat::take(Path::new(FALSE_AGENT)),
            module_toml,
            count: 0,
            // Above any number that the honest gateway has used.
            crl_number: std::cell::Cell::new(1 << 40),
        }
    }

    /// The gateway's place, for what is not about one request.
    pub fn gateway(&self) -> &GatewaySeat {
        &self.gateway
    }

    /// The bed.
    pub fn bed(&self) -> &Bed {
        self.bed
    }

    /// Pins another roster, changed from the installation's and signed by everybody.
    pub fn pin(&mut self, change: impl FnOnce(&mut Roster)) {
        let honest = self.installation.fixture.roster.clone();
        change(&mut self.installation.fixture.roster);
        let (envelope, roster) = self.installation.fixture.seal();
        self.installation.fixture.roster = honest;
        pin_roster(&envelope);
        (self.envelope, self.roster) = (envelope, roster);
    }

    /// Pins the version after the installation's, lawfully changed.
    pub fn pin_next(&mut self, change: impl FnOnce(&mut Roster)) {
        let craft = Craft { stage: self };
        let envelope = craft.lawful(&craft.next(change));
        self.roster = self.installation.roster.successor(&envelope).expect("a lawful step");
        self.envelope = envelope;
        pin_roster(&self.envelope);
    }

    /// Pins the installation's roster again.
    pub fn unpin(&mut self) {
        (self.envelope, self.roster) = (self.installation.envelope.clone(), self.installation.roster.clone());
        pin_roster(&self.envelope);
    }

    /// Whether the host still pins what was pinned for this case.
    pub fn pins_the_same(&self) -> bool {
        let dir = Path::new(world::ROSTER_DIR);
        let slots = ROSTER_SLOTS.iter().filter_map(|name| {
            let bytes = fs::read(dir.join(name)).ok()?;
            let header = SlotHeader::decode(bytes.get(..HEADER_BYTES)?).ok()?;
            let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + header.payload_bytes())?.to_vec();
            header.with_payload(payload).ok()
        });
        let newest = slots.max_by_key(|slot| slot.sequence).expect("a slot");
        newest.pin == self.roster.digest() && newest.version == self.roster.version
    }

    /// One sudo that nobody answers: why it was refused.
    pub fn unanswered(&mut self) -> Option<DenyReason> {
        self.count += 1;
        let proof = PathBuf::from(format!("{PROOF}/{}", self.count));
        self.bed.write(world::MODULE_TOML, &self.module_toml);
        let mut terminal = self.start(&Ask::default(), &proof);
        let exit = terminal.exit_code(LIMIT);
        assert!(exit != 0 && !proof.exists(), "nobody answered:\n{}", terminal.screen());
        named_reason(&String::from_utf8_lossy(&terminal.transcript()))
    }

    /// Lets the honest gateway have its place again for a while.
    pub fn with_the_honest_gateway<T>(&mut self, look: impl FnOnce(&Installation<'_>, &Bed) -> T) -> T {
        self.bed.write(world::MODULE_TOML, &self.module_toml);
        self.gateway.leave();
        self.installation.restart_gateway();
        let found = look(&self.installation, self.bed);
        self.installation.gateway.kill();
        self.gateway = take_the_gateways_place();
        found
    }

    /// After rosters were handed to the agent: what it keeps must not reach the next case.
    pub fn forget_rosters(&mut self) {
        self.installation.agent.kill();
        self.installation.restart_agent();
        self.gateway.wait_for_agent();
    }

    /// Has an honest elevation granted, to be used against later requests.
    pub fn remember(&mut self, kind: &'static str, ask: &Ask) {
        let past = std::cell::RefCell::new(None);
        let outcome = self.run(ask, Seat::Gateway, Side::Control, &[], &|attempt| {
            let statements = vec![attempt.yes("bob-phone"), attempt.yes("carol-phone")];
            let granted = attempt.grant(statements.clone());
            *past.borrow_mut() = Some(Past {
                signed: attempt.signed.clone(),
                id: attempt.id,
                requesters: attempt.requesters.clone(),
                granted: granted.clone(),
                statements,
            });
            vec![Say::Event(ModuleEvent::Granted(granted))]
        });
        // As somebody else than root the command cannot leave its proof; the host's record says enough.
        assert!(outcome.record.is_some(), "{kind}: {}", String::from_utf8_lossy(&outcome.transcript));
        self.past.push((kind, past.into_inner().expect("an answer")));
    }

    /// One sudo, one answer, and how it ended.
    pub fn run(
        &mut self,
        ask: &Ask,
        seat: Seat,
        side: Side,
        offered: &[RosterEnvelope],
        play: &dyn Fn(&Attempt<'_, '_>) -> Vec<Say>,
    ) -> Outcome {
        self.count += 1;
        let proof = PathBuf::from(format!("{PROOF}/{}", self.count));
        let socket = match seat {
            Seat::Gateway => String::new(),
            Seat::Agent => format!("agent_socket = \"{FALSE_AGENT}\"\n"),
        };
        let module = format!("{}{socket}{}\n", self.module_toml, ask.module);
        if fs::read_to_string(world::MODULE_TOML).ok().as_deref() != Some(&module) {
            self.bed.write(world::MODULE_TOML, module);
        }
        if seat == Seat::Gateway && !offered.is_empty() {
            self.gateway.hand_over(offered);
        }
        let logged = self.bed.syslog().len();
        let mut terminal = self.start(ask, &proof);
        let mut connection = None;
        let (id, submit) = match seat {
            Seat::Gateway => self.gateway.next_submit(),
            Seat::Agent => {
                let (message, stream) = self.agent.next(offered);
                connection = Some(stream);
                let ModuleMessage::Submit(submit) = message else { panic!("the module begins with a request") };
                (ElevationRequest::id_of(&submit.signed.request.0), submit)
            }
        };
        let attempt = Attempt::new(self, side, id, submit.signed, offered);
        for say in play(&attempt) {
            match (say, &mut connection) {
                (Say::Event(event), None) => self.gateway.event(id, event),
                (Say::Event(event), Some(stream)) => send(stream, &wire::frame(&event)),
                (Say::Raw(body), Some(stream)) => {
                    let length = u32::try_from(body.len()).expect("a length");
                    send(stream, &[&length.to_be_bytes()[..], &body].concat());
                }
                (Say::Raw(body), None) => self.gateway.frame(body),
                (Say::Pause(time), _) => std::thread::sleep(time),
            }
        }
        let exit = terminal.exit_code(LIMIT);
        drop(connection);
        self.outcome(seat, id, exit, &terminal, &proof, logged)
    }

    /// The module's word that what it was given did not verify. It sends that before it ends.
    fn alarm(&self, seat: Seat, request: RequestId, limit: Duration) -> Option<DenyReason> {
        let message = match seat {
            Seat::Gateway => self.gateway.alarm(limit),
            Seat::Agent => self.agent.waiting(),
        };
        match message? {
            ModuleMessage::Alarm(alarm) if alarm.request == request => Some(alarm.reason),
            other => panic!("not an alarm about this request: {other:?}"),
        }
    }

    fn start(&self, ask: &Ask, proof: &Path) -> Terminal {
        let proof = proof.to_str().expect("text");
        let mut argv: Vec<String> = ["sudo"].iter().chain(ask.options).map(|word| (*word).to_owned()).collect();
        argv.extend(["touch".to_owned(), proof.to_owned()]);
        let mut launch = self.bed.person(ask.user).env("TERM", ask.term);
        if ask.login_uid.is_some() {
            launch = self.bed.person("root").env("TERM", ask.term);
            let uid = ask.login_uid.unwrap_or_default();
            let script = format!(
                "echo {uid} >/proc/self/loginuid && exec setpriv --reuid={0} --regid={0} --init-groups -- {1}",
                ask.user,
                argv.join(" ")
            );
            argv = vec!["sh".into(), "-c".into(), script];
        }
        Terminal::open(&launch, &argv)
    }

    fn outcome(
        &self,
        seat: Seat,
        id: RequestId,
        exit: i32,
        terminal: &Terminal,
        proof: &Path,
        logged: usize,
    ) -> Outcome {
        let transcript = terminal.transcript();
        let text = String::from_utf8_lossy(&transcript).into_owned();
        let ran = fs::metadata(proof).is_ok_and(|meta| meta.uid() == 0);
        let record = self.installation.grant_record(id).map(|bytes| GrantRecord::from_bytes(&bytes).expect("a record"));
        let reason = named_reason(&text);
        // Log and alarm have left the module; their readers may be a moment behind.
        let limit = match reason.is_some_and(|reason| reason.row().attack) {
            true => ALARM,
            false => Duration::ZERO,
        };
        let until = Instant::now() + limit;
        let mut log = self.bed.syslog().split_off(logged);
        while Instant::now() < until && !log.iter().any(|line| line.contains("account: attack: refused")) {
            std::thread::sleep(Duration::from_millis(1));
            log = self.bed.syslog().split_off(logged);
        }
        let alarm = self.alarm(seat, id, limit);
        Outcome { exit, reason, transcript, log, alarm, ran, record, ended_boot_ms: boot_ms() }
    }

    /// A software phone, the attacker's own too.
    pub fn phone(&self, device: &str) -> &Phone {
        let mut phones = self.installation.fixture.phones.iter().chain(&self.strangers);
        phones.find(|phone| phone.device.id.as_str() == device).expect("a phone")
    }

    /// A number that no list has had.
    pub fn next_crl_number(&self) -> u64 {
        self.crl_number.set(self.crl_number.get() + 1);
        self.crl_number.get()
    }

    /// The highest number that a list had.
    pub fn crl_number(&self) -> u64 {
        self.crl_number.get()
    }
}

/// What the gateway's user can read is what its thief has.
fn stolen(name: &str) -> Vec<u8> {
    fs::read(Path::new(world::GATEWAY_DIR).join(name)).expect("a file of the gateway")
}

fn take_the_gateways_place() -> GatewaySeat {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), AGENT_PORT);
    let gateway = GatewaySeat::take(&stolen("gateway.key"), address);
    gateway.wait_for_agent();
    gateway
}

/// The reason whose line the terminal shows, by the one table.
fn named_reason(text: &str) -> Option<DenyReason> {
    let (_, after) = text.split_once("twinlock: error: ")?;
    let line = after.lines().next()?.trim_end();
    let says = |reason: &&DenyReason| {
        line.strip_prefix(reason.row().line).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "))
    };
    DenyReason::ALL.iter().find(says).copied()
}

/// Milliseconds of `CLOCK_BOOTTIME`.
pub fn boot_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).expect("after boot") * 1000 + u64::try_from(time.tv_nsec).expect("positive") / 1_000_000
}

/// Everybody whom a case needs: alice, who may ask and approve, and has other logins; bob with two
/// devices; dave with a phone and a security key; a suspended person; one outside the gate; one whose device is below the floor; a
/// service that bob owns; a second host.
fn people(plan: &mut Plan, other_host: &SigningKey) {
    let fixture = &mut plan.fixture;
    let mut add = |name: &str, device: &str, change: &dyn Fn(&mut Phone)| {
        let mut phone = Phone::new(name, device);
        change(&mut phone);
        let record = phone.device.clone();
        fixture.phones.push(phone);
        record
    };
    let as_is = |_: &mut Phone| {};
    let alice = add("alice", "alice-phone", &as_is);
    let tablet = add("bob", "bob-tablet", &as_is);
    let erin = add("erin", "erin-phone", &as_is);
    let frank = add("frank", "frank-phone", &as_is);
    let key = add("dave", "dave-key", &|phone| phone.device.backup_eligible = false);
    let grace = add("grace", "grace-phone", &|phone| phone.device.device_key = None);
    let persons = &mut fixture.roster.persons;
    for known in persons.iter_mut() {
        match known.id.as_str() {
            "alice" => {
                known.logins.push("mallory".into());
                known.groups = person("x", &["approvers"], Vec::new()).groups;
                known.devices.push(alice.clone());
            }
            "bob" => known.devices.push(tablet.clone()),
            "dave" => known.devices.push(key.clone()),
            _ => {}
        }
    }
    let mut erin = person("erin", &["approvers"], vec![erin]);
    erin.standing = Standing::Suspended(Suspension { by: None });
    persons.push(erin);
    persons.push(person("frank", &["office"], vec![frank]));
    persons.push(person("grace", &["approvers"], vec![grace]));
    // By its name somebody else, by its uid on this host alice again.
    persons.push(person("twin", &[], Vec::new()));
    let mut robot = person("robot", &[], Vec::new());
    robot.kind = PersonKind::Service(ServiceOwner { owner: PersonId::new("bob").expect("an id") });
    persons.push(robot);
    let web01 = fixture.roster.hosts[0].id.clone();
    let (agent_key, _) = SigningKey::generate().expect("a key");
    fixture.roster.hosts.push(Host {
        id: HostId::new("web02").expect("an id"),
        name: "web02".into(),
        groups: Vec::new(),
        host_key: other_host.public(),
        agent_key: agent_key.public(),
    });
    let alice = PersonId::new("alice").expect("an id");
    fixture.roster.uids.push(UidEntry { host: web01, uid: 1006, person: alice });
}

fn add_account(bed: &Bed, name: &str, uid: u32) {
    let add = |file: &str, line: String| {
        let text = fs::read_to_string(file).expect("a file of accounts");
        bed.write(file, format!("{text}{line}\n"));
    };
    add("/etc/passwd", format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/sh"));
    add("/etc/group", format!("{name}:x:{uid}:"));
    add("/etc/shadow", format!("{name}:!*:19700::::::"));
    fs::create_dir_all(format!("/home/{name}")).expect("a home");
    bed.write(format!("/var/lib/sudo/lectured/{name}"), "");
}

/// One run of a case: the request that the real module made, and everything to answer it with.
pub struct Attempt<'s, 'b> {
    /// The stage.
    pub stage: &'s Stage<'b>,
    /// Which run.
    pub side: Side,
    /// The request's id.
    pub id: RequestId,
    /// The request's bytes and signatures.
    pub signed: SignedRequest,
    /// The request.
    pub request: ElevationRequest,
    /// Who asks.
    pub requesters: Vec<PersonId>,
    /// When the answer is made.
    pub now: UnixTime,
}

impl<'s, 'b> Attempt<'s, 'b> {
    fn new(stage: &'s Stage<'b>, side: Side, id: RequestId, signed: SignedRequest, offered: &[RosterEnvelope]) -> Self {
        let under = |roster: &VerifiedRoster| verify_request(roster, &signed, now());
        // Made under a newer roster, if the module took one that was offered.
        let newer = || under(&stage.roster.clone().follow(offered).ok()?).ok();
        let verified = under(&stage.roster).ok().or_else(newer).expect("the module's request verifies");
        let request = verified.request().clone();
        Self { stage, side, id, signed, request, requesters: verified.requesters().to_vec(), now: now() }
    }

    /// The wrong value in the attack, the right one in the control.
    pub fn pick<T>(&self, wrong: T, right: T) -> T {
        match self.side {
            Side::Attack => wrong,
            Side::Control => right,
        }
    }

    /// Whether this is the attack.
    pub fn attacks(&self) -> bool {
        self.side == Side::Attack
    }

    /// A software phone.
    pub fn phone(&self, device: &str) -> &'s Phone {
        self.stage.phone(device)
    }

    /// The roster's content.
    pub fn roster(&self) -> &'s Roster {
        self.stage.roster.roster()
    }

    /// An approval of this request.
    pub fn yes(&self, device: &str) -> SignedStatement {
        self.phone(device).answer(self.roster(), self.id, Decision::Approve)
    }

    /// A denial of this request.
    pub fn no(&self, device: &str) -> SignedStatement {
        self.phone(device).answer(self.roster(), self.id, Decision::Deny)
    }

    /// The approvals of bob and carol.
    pub fn two(&self) -> Vec<SignedStatement> {
        vec![self.yes("bob-phone"), self.yes("carol-phone")]
    }

    /// Evidence for this request.
    pub fn evidence(&self, statements: Vec<SignedStatement>) -> Evidence {
        evidence(self.id, statements)
    }

    /// What an honest certificate for this request and this evidence is about.
    pub fn about(&self, evidence: &[u8]) -> About {
        About {
            session_key: self.request.session_key,
            host: self.request.host.clone(),
            target_user: self.request.target.user.clone(),
            requesters: self.requesters.clone(),
            request: self.id,
            evidence: Evidence::digest_of(evidence),
        }
    }

    /// An honest certificate for this evidence, to be changed and signed.
    pub fn leaf(&self, evidence: &[u8]) -> Leaf {
        self.stage.mint.leaf(&self.about(evidence), UnixTime(self.now.0 - 30), LIFE_S)
    }

    /// A fresh, empty, honest revocation list.
    pub fn crl(&self) -> Vec<u8> {
        let mint = &self.stage.mint;
        mint.sign_crl(&mint.empty_crl(self.stage.next_crl_number(), self.now))
    }

    /// The whole answer, honest but for its statements.
    pub fn grant(&self, statements: Vec<SignedStatement>) -> Granted {
        self.grant_bytes(self.evidence(statements).to_bytes())
    }

    /// The whole answer, honest but for its evidence.
    pub fn grant_bytes(&self, evidence: Vec<u8>) -> Granted {
        let certificate = self.stage.mint.sign(&self.leaf(&evidence));
        Granted { certificate: Bytes(certificate), evidence: Bytes(evidence), crl: Bytes(self.crl()) }
    }

    /// An elevation that was granted before.
    pub fn past(&self, kind: &str) -> &'s Past {
        let found = self.stage.past.iter().find(|(name, _)| *name == kind);
        &found.unwrap_or_else(|| panic!("nothing of the kind {kind} is remembered")).1
    }

    /// What every honest answer begins with.
    pub fn opening(&self) -> Vec<Say> {
        let eligible = ["bob", "carol", "dave"].iter().filter_map(|name| PersonId::new(name)).collect();
        let accepted = Accepted { request: self.id, eligible, approved: Vec::new() };
        let ticket = ShowTicket { slot: 1, ticket: Ticket::from_random(&random()), valid_s: 90 };
        vec![Say::Event(ModuleEvent::Accepted(accepted)), Say::Event(ModuleEvent::Ticket(ticket))]
    }
}

/// Makes rosters above the pinned one.
pub struct Craft<'s, 'b> {
    /// The stage.
    pub stage: &'s Stage<'b>,
}

impl Craft<'_, '_> {
    /// The pinned roster.
    pub fn head(&self) -> &VerifiedRoster {
        &self.stage.roster
    }

    /// The next roster, changed, not signed.
    pub fn next(&self, change: impl FnOnce(&mut Roster)) -> Roster {
        Fixture::next(self.head(), change)
    }

    /// Signed by these devices, with the possessions of every new one.
    pub fn signed(&self, next: &Roster, devices: &[&str]) -> RosterEnvelope {
        let signatures = devices.iter().map(|device| self.stage.phone(device).sign_roster(next)).collect();
        RosterEnvelope::with_possessions(next, signatures, self.possessions(next))
    }

    /// Signed by bob and carol: what two people did agree to.
    pub fn lawful(&self, next: &Roster) -> RosterEnvelope {
        let envelope = self.signed(next, &["bob-phone", "carol-phone"]);
        self.head().successor(&envelope).expect("a lawful step");
        envelope
    }

    /// The possession statements of the new devices.
    pub fn possessions(&self, next: &Roster) -> Vec<SignedStatement> {
        let new = self.head().new_devices(next).unwrap_or_default();
        new.iter().map(|(_, device)| self.stage.phone(device.id.as_str()).sign_possession(self.head())).collect()
    }
}

/// The frame that carries an event through the agent, for those who change its bytes.
pub fn relayed(request: RequestId, event: ModuleEvent) -> Vec<u8> {
    wire::frame(&GatewayMessage::Module(ForModule { request, event }))
}

/// A login, for requests that are made up.
pub fn login(uid: u32, name: &str) -> Login {
    Login { uid, name: name.into() }
}

/// Random bytes in their fixed form.
pub fn noise<const N: usize>() -> Fixed<N> {
    Fixed(random())
}
