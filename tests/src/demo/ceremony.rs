//! A Twinlock made the way people make one: `twinlock host prepare`, `twinlock init` on a
//! terminal whose codes are scanned by phones that enrol and sign, `twinlock host join`,
//! and the three daemons under their own users.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use twinlock_protocol::Digest;
use twinlock_protocol::roster::RosterEnvelope;

use crate::approver::Site;
use crate::bed::{Bed, Tail};
use crate::demo::story::Story;
use crate::installation::{AGENT_PORT, APPROVER_PORT, WebCertificate, own, start_agent, start_gateway, start_reaper};
use crate::phone::{Phone, PhonePlan};
use crate::proc::{Daemon, Finished};
use crate::term::{Size, Terminal};
use crate::world::{self, World};

const LIMIT: Duration = Duration::from_secs(60);
/// The page's name in the demo.
const HOST: &str = "tl.example.org";
const ANNOUNCEMENT: &str = "/root/web01.json";
const CHAIN: &str = "/etc/twinlock/web.crt";
const KEY: &str = "/etc/twinlock/web.key";
/// High enough for the codes of three people at once.
const TALL: Size = (110, 100);

/// Somebody who approves, with the phone that stands in for theirs.
pub struct Holder {
    /// Id and login name.
    pub id: String,
    /// The phone.
    pub phone: Phone,
}

/// Where people reach the page, and who answers for it.
pub struct Front {
    /// `https://HOST[:PORT]`.
    pub origin: String,
    /// What `serve` and `init` listen on.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub chain: Vec<u8>,
    /// Its key, PEM.
    pub key: Vec<u8>,
}

/// A Twinlock in use.
pub struct Setting<'b> {
    /// Paths and users.
    pub world: World<'b>,
    /// `https://HOST[:PORT]`.
    pub origin: String,
    /// The digest that web01 pins.
    pub pin: Digest,
    /// The sealed roster's bytes.
    pub roster: Vec<u8>,
    /// `serve`.
    pub gateway: Daemon,
    /// `agent`.
    pub agent: Daemon,
    /// `reaper`.
    pub reaper: Daemon,
}

/// The page's front inside a bed, and where the stand-in phones find it.
#[must_use]
pub fn private_front(bed: &Bed) -> (Front, Site) {
    bed.resolve_here(HOST);
    let web = WebCertificate::new(HOST);
    let origin = format!("https://{HOST}");
    let listen = SocketAddr::from(([127, 0, 0, 1], APPROVER_PORT));
    let site = Site { origin: origin.clone(), ca: web.ca_der, address: listen };
    (Front { origin, listen, chain: web.chain.into_bytes(), key: web.key.into_bytes() }, site)
}

/// One phone per person, started at the same time.
#[must_use]
pub fn phones(site: &Site, ids: &[&str]) -> Vec<Holder> {
    std::thread::scope(|scope| {
        let start = |id: &&str| {
            let id = (*id).to_owned();
            scope.spawn(move || Holder { phone: PhonePlan::new(&id).start(site), id })
        };
        let started: Vec<_> = ids.iter().map(start).collect();
        started.into_iter().map(|thread| thread.join().expect("a phone")).collect()
    })
}

/// Prepares the host: files in place, its keys made, its announcement written.
#[must_use]
pub fn prepare<'b>(bed: &'b Bed, story: &Story, front: &Front) -> World<'b> {
    let world = World::install(bed);
    bed.wire(&Tail::Twinlock);
    own(bed, Path::new(CHAIN), "twinlock-gateway", 0o600, &front.chain);
    own(bed, Path::new(KEY), "twinlock-gateway", 0o600, &front.key);
    announce(bed, &[]);
    story.tell("web01 made its own keys: twinlock host prepare --name web01");
    world
}

/// `twinlock host prepare` for web01, with more arguments.
pub fn announce(bed: &Bed, more: &[&str]) {
    let words = ["host", "prepare", "--name", "web01", "--out", ANNOUNCEMENT];
    let made = tool(bed, &words.iter().chain(more).copied().collect::<Vec<_>>());
    assert!(made.ok(), "twinlock host prepare: {}", made.stderr);
}

/// `twinlock init` on a terminal, for alice who asks and `approvers` who approve.
#[must_use]
pub fn init(bed: &Bed, front: &Front, approvers: &[&str]) -> Terminal {
    init_sized(bed, front, approvers, TALL, &[])
}

/// The same on a terminal of another size, with more arguments.
#[must_use]
pub fn init_sized(bed: &Bed, front: &Front, approvers: &[&str], size: Size, more: &[&str]) -> Terminal {
    let mut words: Vec<String> =
        [world::TOOL, "init", "--origin", &front.origin, "--tls-cert", CHAIN, "--tls-key", KEY]
            .map(str::to_owned)
            .to_vec();
    words.extend(["--listen".to_owned(), front.listen.to_string()]);
    words.extend(["--gateway".to_owned(), format!("127.0.0.1:{AGENT_PORT}")]);
    words.extend(["--host".to_owned(), ANNOUNCEMENT.to_owned()]);
    words.extend(["--person".to_owned(), "alice=Alice:alice:requester".to_owned()]);
    for id in approvers {
        words.extend(["--person".to_owned(), format!("{id}={}:{id}:approver", name(id))]);
    }
    words.extend(more.iter().map(|word| (*word).to_owned()));
    Terminal::open_sized(&bed.person("root"), &words, size)
}

/// A name for people to an id.
fn name(id: &str) -> String {
    let mut letters = id.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The stand-in phones go through the ceremony that `init` runs: scan, enrol, read, sign.
pub fn attend(terminal: &mut Terminal, story: &Story, holders: &[Holder]) {
    let links = |screen: &str| screen.lines().filter(|line| line.trim().contains("/E/")).count();
    terminal.wait_until("a link for everybody", LIMIT, |screen| links(screen) == holders.len());
    let scanned = terminal.picture().scan();
    story.tell(format!("twinlock init shows {} codes; zbarimg reads them from the terminal's picture", scanned.len()));
    std::thread::scope(|scope| {
        for holder in holders {
            let link = link_of(&terminal.screen(), &name(&holder.id));
            let link = scanned.iter().find(|code| code.eq_ignore_ascii_case(&link));
            let link = link.unwrap_or_else(|| panic!("{}'s code was not in the picture", holder.id)).clone();
            scope.spawn(move || {
                holder.phone.enrol(&link);
                story.tell(format!("{} enrolled: a passkey and a device key, made on the phone", holder.id));
            });
        }
    });
    terminal.wait_for("[y/N]", LIMIT);
    terminal.send_line("y");
    std::thread::scope(|scope| {
        for holder in holders {
            scope.spawn(move || {
                let _ = holder.phone.sign_roster();
                story.tell(format!("{} read the roster on the phone and signed it", holder.id));
            });
        }
    });
    let status = terminal.wait(LIMIT);
    assert!(status.success(), "twinlock init: {}", terminal.screen());
}

/// The link that the terminal shows for this name.
#[must_use]
pub fn link_of(screen: &str, name: &str) -> String {
    let (_, after) = screen.split_once(&format!("{name}: scan this")).unwrap_or_else(|| panic!("no {name}:\n{screen}"));
    let link = after.lines().map(str::trim).find(|line| line.contains("/E/"));
    link.unwrap_or_else(|| panic!("no link for {name}:\n{screen}")).to_owned()
}

/// What `init` left to do, done as it says: the gateway's configuration, the join, the daemons.
#[must_use]
pub fn open<'b>(
    bed: &Bed,
    world: World<'b>,
    story: &Story,
    front: &Front,
    init: &Terminal,
    more_for_module: &str,
) -> Setting<'b> {
    let said = String::from_utf8_lossy(&init.transcript()).replace('\r', "");
    let token = said.split_whitespace().find(|word| word.starts_with("twinlock-join-")).expect("a join token");
    let (_, toml) = said.split_once("\norigin = ").expect("a configuration to start from");
    bed.write(world::GATEWAY_TOML, format!("origin = {toml}"));
    let roster_file = format!("{}/roster.json", world::GATEWAY_DIR);
    let joined = tool(bed, &["host", "join", token, "--roster", &roster_file]);
    assert!(joined.ok(), "twinlock host join: {}", joined.stderr);
    story.tell("web01 pins the roster that everybody signed: twinlock host join TOKEN");
    let module = std::fs::read_to_string(world::MODULE_TOML).expect("host join wrote it");
    bed.write(world::MODULE_TOML, format!("{module}{more_for_module}"));
    let roster = std::fs::read(&roster_file).expect("the sealed roster");
    let pin = RosterEnvelope::from_bytes(&roster).expect("an envelope").digest;
    let reaper = start_reaper(&world);
    let gateway = start_gateway(&world, front.listen);
    let agent = start_agent(&world);
    story.tell("serve, agent and reaper run, each under its own user, the reaper with CAP_KILL alone");
    Setting { world, origin: front.origin.clone(), pin, roster, gateway, agent, reaper }
}

/// The command line, as root.
#[must_use]
pub fn tool(bed: &Bed, arguments: &[&str]) -> Finished {
    let words: Vec<&str> = [world::TOOL].into_iter().chain(arguments.iter().copied()).collect();
    bed.run("root", &words)
}

/// How a program on a terminal ended, for people.
#[must_use]
pub fn ended(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}
