//! A whole running Twinlock in a bed: gateway, agent, reaper and module, each under its own user,
//! over a roster whose people hold software phones. What `twinlock init` and `host join` do by
//! people's hands is written here directly; those commands have tests of their own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _};
use twinlock_certs::issue::Ca;
use twinlock_protocol::ids::RequestId;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::slots::{ROSTER_SLOT_BYTES, ROSTER_SLOTS, Slot};
use twinlock_protocol::softphone::Fixture;
use twinlock_protocol::statement::Decision;
use twinlock_protocol::{Digest, UnixTime};

use crate::approver::{Approver, Claim, Site, ticket_of};
use crate::bed::Bed;
use crate::proc::{Daemon, Launch, eventually};
use crate::term::Terminal;
use crate::world::{self, World};

const START: Duration = Duration::from_secs(20);
/// Where the gateway's approver listener listens.
pub const APPROVER_PORT: u16 = 443;
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), APPROVER_PORT);
/// Where agents come in.
pub const AGENT_PORT: u16 = 8444;
/// Metrics and health.
pub const MONITOR_PORT: u16 = 9464;

/// What an installation is to be like; edit before [`Plan::start`].
pub struct Plan {
    /// Roster, people and keys. Its clock is the real one.
    pub fixture: Fixture,
    /// The page's host name.
    pub host: String,
    /// More lines of `module.toml`.
    pub module: String,
    /// More lines of `gateway.toml` (whole tables).
    pub gateway: String,
    /// More lines of `agent.toml`.
    pub agent: String,
    /// More lines of `reaper.toml`.
    pub reaper: String,
    ca_key: Vec<u8>,
}

/// A running Twinlock.
pub struct Installation<'b> {
    /// Paths and users.
    pub world: World<'b>,
    /// People, phones and keys.
    pub fixture: Fixture,
    /// The sealed roster.
    pub roster: VerifiedRoster,
    /// The envelope that hosts pin.
    pub envelope: RosterEnvelope,
    /// Where phones come in.
    pub site: Site,
    /// `serve`.
    pub gateway: Daemon,
    /// `agent`.
    pub agent: Daemon,
    /// `reaper`.
    pub reaper: Daemon,
}

/// The host's wall clock.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs())
}

impl Plan {
    /// alice asks; bob, carol and dave approve; host web01; the page at `tl.example.org`.
    #[must_use]
    pub fn new() -> Self {
        let now = now();
        let (ca, ca_key) = Ca::generate("Twinlock test CA", now, 10).expect("a CA");
        let mut fixture = Fixture::new(ca.certificate(), now);
        fixture.roster.issued_at = UnixTime(now.0 - 60);
        Self {
            fixture,
            host: "tl.example.org".into(),
            module: String::new(),
            // A test asks more often than a person; limits have tests of their own.
            gateway: "[limits]\nrequests_per_person = 600\ncalls_per_approver = 600\n".into(),
            agent: "[limits]\nrequests_per_minute = 600\n".into(),
            reaper: String::new(),
            ca_key: ca_key.to_vec(),
        }
    }

    /// Writes everything and starts the three daemons.
    #[must_use]
    pub fn start(self, bed: &Bed) -> Installation<'_> {
        let Self { mut fixture, host, module, gateway, agent, reaper, ca_key } = self;
        let world = World::install(bed);
        bed.resolve_here(&host);
        let origin = format!("https://{host}");
        fixture.roster.rp_id.clone_from(&host);
        fixture.roster.origins = vec![origin.clone()];
        let (envelope, roster) = fixture.seal();

        let gateway_dir = Path::new(world::GATEWAY_DIR);
        let put = |path: &Path, owner: &str, mode: u32, bytes: &[u8]| own(bed, path, owner, mode, bytes);
        let (_, gateway_key) = SigningKey::generate().expect("a key");
        put(&gateway_dir.join("roster.json"), "twinlock-gateway", 0o600, &envelope.to_bytes());
        put(&gateway_dir.join("roster.pin"), "twinlock-gateway", 0o600, envelope.digest.0.to_text().as_bytes());
        put(&gateway_dir.join("ca.der"), "twinlock-gateway", 0o600, &fixture.roster.cas[0].certificate.0);
        put(&gateway_dir.join("ca.key"), "twinlock-gateway", 0o600, &ca_key);
        put(&gateway_dir.join("gateway.key"), "twinlock-gateway", 0o600, &gateway_key);
        let web = WebCertificate::new(&host);
        put(Path::new("/etc/twinlock/web.crt"), "twinlock-gateway", 0o600, web.chain.as_bytes());
        put(Path::new("/etc/twinlock/web.key"), "twinlock-gateway", 0o600, web.key.as_bytes());
        bed.write("/etc/twinlock/web-ca.pem", &web.ca_pem);
        bed.write(
            world::GATEWAY_TOML,
            format!(
                "origin = \"{origin}\"\n\
                 [approver]\nlisten = \"127.0.0.1:{APPROVER_PORT}\"\n\
                 tls_cert = \"/etc/twinlock/web.crt\"\ntls_key = \"/etc/twinlock/web.key\"\n\
                 [agents]\nlisten = \"127.0.0.1:{AGENT_PORT}\"\n\
                 [monitor]\nlisten = \"127.0.0.1:{MONITOR_PORT}\"\n{gateway}"
            ),
        );
        put(Path::new(world::HOST_KEY), "root", 0o600, &fixture.host_key_pkcs8);
        put(Path::new(world::AGENT_KEY), "twinlock-agent", 0o600, &fixture.agent_key_pkcs8);
        let pin = Digest::plain(&KeyPair::try_from(gateway_key.as_slice()).expect("a key").subject_public_key_info());
        bed.write(
            world::AGENT_TOML,
            format!(
                "host = \"web01\"\ngateway = \"127.0.0.1:{AGENT_PORT}\"\ngateway_key = \"{}\"\n{agent}",
                pin.0.to_text()
            ),
        );
        let agent_uid = Launch::service("twinlock-agent", &[]).uid();
        let reaper_uid = Launch::service("twinlock-reaper", &[]).uid();
        bed.write(world::REAPER_TOML, format!("agent_uid = {agent_uid}\n{reaper}"));
        bed.write(
            world::MODULE_TOML,
            format!("host = \"web01\"\nagent_uid = {agent_uid}\nreaper_uid = {reaper_uid}\n{module}"),
        );
        pin_roster(&envelope);

        let reaper = start_reaper(&world);
        let gateway = start_gateway(&world, LISTEN);
        let agent = start_agent(&world);
        let site = Site { origin, ca: web.ca_der, address: LISTEN };
        Installation { world, fixture, roster, envelope, site, gateway, agent, reaper }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl Installation<'_> {
    /// A person with their software phone, not signed in yet.
    #[must_use]
    pub fn approver(&self, person: &str) -> Approver<'_> {
        Approver::new(&self.site, &self.roster, self.fixture.phone(person))
    }

    /// Starts the reaper again after it was ended.
    pub fn restart_reaper(&mut self) {
        self.reaper = start_reaper(&self.world);
    }

    /// Starts the agent again after it was ended.
    pub fn restart_agent(&mut self) {
        self.agent = start_agent(&self.world);
    }

    /// Starts the gateway again after it was ended.
    pub fn restart_gateway(&mut self) {
        self.gateway = start_gateway(&self.world, LISTEN);
    }

    /// The GrantRecord of a request, as the host keeps it.
    #[must_use]
    pub fn grant_record(&self, request: RequestId) -> Option<Vec<u8>> {
        fs::read(Path::new(world::GRANTS_DIR).join(format!("{}.json", request.grant()))).ok()
    }
}

/// Starts the reaper as its unit does.
pub(crate) fn start_reaper(world: &World<'_>) -> Daemon {
    let argv = [world::DAEMON, "reaper", "--config", world::REAPER_TOML];
    let sockets = [(world::REAPER_SOCK, 0o660), (world::USER_SOCK, 0o666)];
    let mut daemon = Daemon::start_activated("reaper", &world.reaper(), &argv, &sockets);
    // root:twinlock-agent, as the socket's unit has it.
    let group = Launch::service("twinlock-agent", &[]).uid();
    std::os::unix::fs::chown(world::REAPER_SOCK, None, Some(group)).expect("its group");
    daemon.wait_for_socket(world::REAPER_SOCK, START);
    daemon
}

/// Starts the gateway as its unit does, with the page on `listen`.
pub(crate) fn start_gateway(world: &World<'_>, listen: SocketAddr) -> Daemon {
    // Port 443 is the unit's by socket activation; here it is the one capability the test adds.
    let cgroup = world.bed().cgroup("system.slice/twinlock-gateway.service");
    let launch = Launch::service("twinlock-gateway", &["net_bind_service"]).cgroup(cgroup);
    let mut daemon = Daemon::start("gateway", &launch, &[world::DAEMON, "serve", "--config", world::GATEWAY_TOML]);
    daemon.wait_for_port(listen, START);
    daemon
}

/// Starts the agent as its unit does.
pub(crate) fn start_agent(world: &World<'_>) -> Daemon {
    let argv = [world::DAEMON, "agent", "--config", world::AGENT_TOML];
    let mut daemon = Daemon::start_activated("agent", &world.agent(), &argv, &[(world::AGENT_SOCK, 0o600)]);
    daemon.wait_for_socket(world::AGENT_SOCK, START);
    daemon
}

/// Writes a file with this owner (user and group of one name) and mode.
pub(crate) fn own(bed: &Bed, path: &Path, owner: &str, mode: u32, bytes: &[u8]) {
    use std::os::unix::fs::{PermissionsExt, chown};
    bed.write(path, bytes);
    let uid = if owner == "root" { 0 } else { Launch::service(owner, &[]).uid() };
    chown(path, Some(uid), Some(uid)).expect("its owner");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

/// Writes the roster into its slots, preallocated, as `host join` does.
pub(crate) fn pin_roster(envelope: &RosterEnvelope) {
    let slot = Slot { sequence: 1, version: envelope.version, pin: envelope.digest, payload: envelope.to_bytes() };
    let mut bytes = slot.encode().expect("a roster that fits");
    bytes.resize(usize::try_from(ROSTER_SLOT_BYTES).expect("a size"), 0);
    let dir = Path::new(world::ROSTER_DIR);
    fs::write(dir.join(ROSTER_SLOTS[0]), &bytes).expect("slot 0");
    bytes.fill(0);
    fs::write(dir.join(ROSTER_SLOTS[1]), &bytes).expect("slot 1");
}

/// A TLS certificate for the page under a CA that only the test's phones trust.
pub struct WebCertificate {
    /// Leaf and CA, PEM.
    pub chain: String,
    /// The leaf's private key, PEM.
    pub key: String,
    /// The CA, PEM.
    pub ca_pem: String,
    /// The CA, DER.
    pub ca_der: Vec<u8>,
}

impl WebCertificate {
    /// For one host name.
    #[must_use]
    pub fn new(host: &str) -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "Twinlock test web CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&ca_key).expect("a CA");
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec![host.to_owned()]).expect("a host name");
        let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
        Self {
            chain: format!("{}{}", leaf.pem(), ca.pem()),
            key: key.serialize_pem(),
            ca_pem: ca.pem(),
            ca_der: ca.der().to_vec(),
        }
    }
}

/// Scans the terminal's picture until it shows a ticket other than `previous`, as a camera would.
#[track_caller]
#[must_use]
pub fn scan_ticket(terminal: &Terminal, previous: Option<&str>) -> String {
    let mut found = None;
    eventually("a fresh ticket on the terminal", Duration::from_secs(20), || {
        let scanned = terminal.picture().scan();
        found = scanned.iter().find(|url| url.contains("/S/")).map(|url| ticket_of(url));
        found.as_deref().is_some_and(|ticket| Some(ticket) != previous)
    });
    found.expect("found above")
}

impl Installation<'_> {
    /// Two people scan the terminal's picture and approve, one after the other.
    #[track_caller]
    pub fn approve_by_two(&self, terminal: &Terminal, first: &str, second: &str) {
        let ticket = self.approve_scanned(terminal, None, first, "approved_first");
        self.approve_scanned(terminal, Some(&ticket), second, "granted");
    }

    /// A person scans the terminal's picture and approves. Like people, scans again when a rotation,
    /// a restarted gateway or a newer roster has just retired the code. Returns the ticket that served.
    #[track_caller]
    pub fn approve_scanned(&self, terminal: &Terminal, previous: Option<&str>, person: &str, state: &str) -> String {
        self.approve_scanned_by(terminal, previous, &mut self.approver(person), state)
    }

    /// The same for somebody with a phone of their own.
    #[track_caller]
    pub fn approve_scanned_by(
        &self,
        terminal: &Terminal,
        previous: Option<&str>,
        approver: &mut Approver<'_>,
        state: &str,
    ) -> String {
        let mut previous = previous.map(str::to_owned);
        for _ in 0..5 {
            let ticket = scan_ticket(terminal, previous.as_deref());
            let answer = approver.try_claim(&ticket);
            if answer.status != 200 && ["ticket-over", "ticket-unknown"].contains(&answer.problem()) {
                previous = Some(ticket);
                continue;
            }
            let claim = Claim::read(answer.ok());
            let body = approver.send(&claim, &approver.statement(&claim, Decision::Approve)).ok();
            assert_eq!(body["state"], state, "{}", terminal.screen());
            return ticket;
        }
        panic!("no scanned code could be claimed:\n{}", terminal.screen());
    }
}
