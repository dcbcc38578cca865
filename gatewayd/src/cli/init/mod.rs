//! `twinlock init`: the ceremony. It makes the gateway's keys, lets people enrol their devices on
//! the page that this very process serves, has everybody sign roster version 1, and seals it.
//! Nothing is written before the last signature: Ctrl-C leaves nothing behind but passkeys on
//! phones that no roster names.

mod report;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::sync::CancellationToken;
use twinlock_protocol::ids::HostId;
use twinlock_protocol::roster::{Assurance, Host};
use twinlock_protocol::signature::SigningKey;
use twinlock_protocol::{Digest, codec, limits};

use super::token::{JoinToken, key_pin};
use super::{Failure, files, people};
use crate::api::http::{Bounds, Connections, TlsSource, serve_tls};
use crate::api::tls::approver_config;
use crate::clock::{Clock, SystemClock};
use crate::enrol::ceremony::{Ceremony, INVITE_VALID_S};
use crate::enrol::compose::Plan;
use crate::enrol::passkey::Registrar;
use crate::enrol::seal::{self, GatewayKeys};
use crate::enrol::{Progress, Room};
use crate::web;
use report::Report;

/// The page's poll interval and a little more: every open page hears that the roster is sealed.
const LINGER: Duration = Duration::from_secs(4);
/// Connections of one address, and altogether: a room of people, perhaps behind one address.
const CONNECTIONS_PER_ADDRESS: u32 = 128;
const CONNECTIONS: u32 = 512;
/// A CA's life, in years.
const CA_YEARS: u32 = 10;

/// What `twinlock init` takes.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// The page's address, https://HOST[:PORT]. HOST becomes the passkeys' RP id and can never change
    #[arg(long)]
    origin: String,
    /// Certificate chain of the page, PEM; phones must trust it
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,
    /// Where the page listens during the ceremony
    #[arg(long, default_value = "[::]:443", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The gateway's port for agents, as hosts reach it
    #[arg(long, value_name = "HOST:PORT")]
    gateway: String,
    /// Somebody: ID=NAME:LOGIN,LOGIN:approver|requester|both
    #[arg(long = "person", value_name = "PERSON")]
    persons: Vec<String>,
    /// Everybody, as [[person]] tables in TOML
    #[arg(long, value_name = "FILE")]
    people: Option<PathBuf>,
    /// A host's announcement, from twinlock host prepare
    #[arg(long = "host", value_name = "FILE")]
    hosts: Vec<PathBuf>,
    /// The gateway's state
    #[arg(long, default_value = "/var/lib/twinlock-gateway", value_name = "DIR")]
    state_dir: PathBuf,
    /// The system user that the state is given to, when root runs this
    #[arg(long, default_value = "twinlock-gateway", value_name = "USER")]
    owner: String,
    /// The weakest device that counts: A attested, B device-bound, C synced with a device key, D synced
    #[arg(long, default_value = "C", value_parser = assurance)]
    floor: Assurance,
    /// The longest life of a grant, in seconds
    #[arg(long, default_value_t = limits::MAX_TTL_S, value_name = "SECONDS")]
    max_ttl: u32,
    /// How long the roster lives, in days
    #[arg(long, default_value_t = limits::DEFAULT_ROSTER_LIFE_S / 86_400, value_name = "DAYS")]
    days: u64,
    /// A maker's attestation root, PEM; without any, no device counts as attested
    #[arg(long = "attestation-root", value_name = "FILE")]
    attestation_roots: Vec<PathBuf>,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
    /// One JSON object per line, for programs; needs --yes
    #[arg(long, requires = "yes")]
    json: bool,
}

fn assurance(text: &str) -> Result<Assurance, &'static str> {
    match text {
        "A" => Ok(Assurance::A),
        "B" => Ok(Assurance::B),
        "C" => Ok(Assurance::C),
        "D" => Ok(Assurance::D),
        _ => Err("is A, B, C or D"),
    }
}

/// Runs the ceremony.
///
/// # Errors
/// A [`Failure`]; nothing is sealed.
pub fn run(arguments: &InitArgs) -> Result<(), Failure> {
    let prepared = Prepared::new(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(prepared.ceremony(arguments));
    // A question that nobody answers must not hold the process. A seal that is being written is
    // whole or absent at every moment.
    runtime.shutdown_background();
    outcome
}

/// Everything that can be checked and made before anybody is asked for anything.
struct Prepared {
    plan: Plan,
    keys: Arc<GatewayKeys>,
    gateway_key: twinlock_protocol::Fixed<32>,
    registrar: Registrar,
    owner: Option<seal::Owner>,
    tls: TlsSource,
    report: Report,
}

impl Prepared {
    fn new(arguments: &InitArgs) -> Result<Self, Failure> {
        seal::check_unsealed(&arguments.state_dir).map_err(|error| {
            Failure::from(error)
                .hint("a roster changes by signatures only; keep this one, or choose another --state-dir")
        })?;
        let now = SystemClock.now();
        let (rp_id, origin) = rp_id(&arguments.origin)?;
        let mut participants = Vec::new();
        if let Some(path) = &arguments.people {
            participants.extend(people::file(path)?);
        }
        for text in &arguments.persons {
            participants.push(people::flag(text)?);
        }
        let hosts = arguments.hosts.iter().map(|path| announcement(path)).collect::<Result<Vec<_>, _>>()?;
        if hosts.is_empty() {
            return Err(Failure::new(
                "no host: the roster would protect nothing",
                "run twinlock host prepare on each host, and give its announcement with --host FILE",
            ));
        }
        check_gateway(&arguments.gateway)?;
        let (ca, ca_key) =
            twinlock_certs::issue::Ca::generate(&format!("Twinlock elevation CA of {rp_id}"), now, CA_YEARS)?;
        let (gateway_pair, gateway_key) = SigningKey::generate()?;
        let plan = Plan {
            rp_id,
            origin,
            participants,
            hosts,
            ca: ca.certificate().to_vec(),
            floor: arguments.floor,
            max_ttl_s: arguments.max_ttl,
            life_s: arguments.days.saturating_mul(86_400),
        };
        plan.preflight(now).map_err(|error| {
            Failure::from(error).hint("two people must approve: give --person for each, and check names and logins")
        })?;
        let roots = arguments.attestation_roots.iter().map(|path| files::read(path, 1 << 20));
        let registrar = Registrar::new(&plan.rp_id, &plan.origin, &roots.collect::<Result<Vec<_>, _>>()?)?;
        let owner = files::owner(&arguments.owner)?;
        files::directory(&arguments.state_dir, 0o700, owner)?;
        let tls = TlsSource::new(approver_config(&arguments.tls_cert, &arguments.tls_key)?);
        let keys = GatewayKeys { ca_key, ca: plan.ca.clone(), gateway_key: gateway_key.into() };
        Ok(Self {
            plan,
            keys: Arc::new(keys),
            gateway_key: key_pin(&gateway_pair.public()),
            registrar,
            owner,
            tls,
            report: Report::new(arguments.json),
        })
    }

    async fn ceremony(self, arguments: &InitArgs) -> Result<(), Failure> {
        let Self { plan, keys, gateway_key, registrar, owner, tls, report } = self;
        let clock = Arc::new(SystemClock);
        let listener = TcpListener::bind(arguments.listen)
            .await
            .map_err(|error| Failure::plain(format!("cannot listen on {}: {error}", arguments.listen)))?;
        let address = listener.local_addr()?;
        report.advice(&plan.advice());
        let origin = plan.origin.clone();
        let hosts: Vec<HostId> = plan.hosts.iter().map(|host| host.id.clone()).collect();
        let (ceremony, invites) = Ceremony::begin(plan, registrar, clock.now())?;
        let (progress, mut events) = mpsc::unbounded_channel();
        let state_dir = arguments.state_dir.clone();
        let room = Arc::new(Room {
            ceremony: Mutex::new(ceremony),
            clock,
            progress,
            sealer: Box::new(move |envelope| seal::seal(&state_dir, &keys, envelope, owner)),
            origin: origin.clone(),
        });
        let pages = web::with_headers(web::router().merge(crate::enrol::router(Arc::clone(&room))));
        let stop = CancellationToken::new();
        let connections = Connections::new(CONNECTIONS_PER_ADDRESS, CONNECTIONS);
        let server = tokio::spawn(serve_tls(listener, tls, pages, connections, Bounds::default(), stop.clone()));
        report.listening(&origin, address);
        for invite in &invites {
            report.invite(&origin, invite);
        }
        let digest = tokio::select! {
            outcome = follow(&room, &mut events, &report, arguments.yes) => outcome?,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new("given up", "nothing is sealed; passkeys made on phones can be deleted there"));
            }
        };
        report.sealed(&digest, &arguments.state_dir);
        for host in hosts {
            let token =
                JoinToken { host, gateway: arguments.gateway.clone(), gateway_key, roster: digest, secret: None };
            report.token(&token);
        }
        report.next(arguments, &origin);
        // Open pages poll; let them hear the end.
        tokio::time::sleep(LINGER).await;
        stop.cancel();
        server.await?;
        Ok(())
    }
}

/// Follows the room until everything is sealed; returns the roster's digest.
async fn follow(
    room: &Room,
    events: &mut UnboundedReceiver<Progress>,
    report: &Report,
    yes: bool,
) -> Result<Digest, Failure> {
    let over = tokio::time::sleep(Duration::from_secs(INVITE_VALID_S));
    tokio::pin!(over);
    let mut digest = None;
    loop {
        let event = tokio::select! {
            event = events.recv() => event.ok_or_else(|| Failure::plain("the page stopped"))?,
            () = &mut over, if digest.is_none() => {
                return Err(Failure::new("the links are over, and not everybody has enrolled", "start again when everybody is there"));
            }
        };
        report.progress(&event, &presence(room)?);
        match event {
            Progress::Enrolled(..) if digest.is_none() && everybody_enrolled(room)? => {
                if !yes {
                    confirm(report).await?;
                }
                let made = close(room)?;
                report.composed(&made);
                digest = Some(made);
            }
            Progress::Sealed => return digest.ok_or_else(|| Failure::plain("sealed before it was composed")),
            Progress::SealFailed(why) => {
                return Err(Failure::new(
                    format!("the roster could not be written: {why}"),
                    "nothing is sealed; make room and start again",
                ));
            }
            Progress::Opened(_) | Progress::Enrolled(..) | Progress::Signed(_) => {}
        }
    }
}

fn with<T>(room: &Room, act: impl FnOnce(&mut Ceremony) -> T) -> Result<T, Failure> {
    let mut ceremony = room.ceremony.lock().map_err(|_| Failure::plain("the ceremony broke off inside a handler"))?;
    Ok(act(&mut ceremony))
}

fn presence(room: &Room) -> Result<Vec<crate::enrol::ceremony::Presence>, Failure> {
    with(room, |ceremony| ceremony.presence())
}

fn everybody_enrolled(room: &Room) -> Result<bool, Failure> {
    with(room, |ceremony| ceremony.everybody_enrolled())
}

fn close(room: &Room) -> Result<Digest, Failure> {
    let now = room.clock.now();
    with(room, |ceremony| ceremony.close(now))?.map_err(Failure::from)
}

/// Asks whether the people in the room see what the terminal shows: somebody who used a stolen link
/// enrolled another device than the one in their hands.
async fn confirm(report: &Report) -> Result<(), Failure> {
    report.question("Does everybody's own device say \"You are enrolled\"? Then they go on to sign. [y/N] ");
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    })
    .await??;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new("not confirmed", "nothing is sealed; start again"))
    }
}

/// The RP id of an origin is its host: never a parent, which other sites would share (W6).
fn rp_id(origin: &str) -> Result<(String, String), Failure> {
    let wrong = || {
        Failure::new(
            format!("{origin} is no origin"),
            "write https://HOST[:PORT] with a DNS name: passkeys do not work on addresses",
        )
    };
    let origin = origin.trim_end_matches('/');
    let authority = origin.strip_prefix("https://").ok_or_else(wrong)?;
    let host = authority.split_once(':').map_or(authority, |(host, _)| host);
    if host.is_empty() || authority.contains('/') {
        return Err(wrong());
    }
    Ok((host.to_owned(), origin.to_owned()))
}

fn announcement(path: &Path) -> Result<Host, Failure> {
    let bytes = files::read(path, 64 * 1024)?;
    codec::decode("announcement", 64 * 1024, &bytes).map_err(|error| {
        Failure::plain(format!("{}: {error}", path.display())).hint("make it with twinlock host prepare")
    })
}

fn check_gateway(gateway: &str) -> Result<(), Failure> {
    let port = gateway.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match port {
        Some((host, port)) if !host.is_empty() && port != 0 => Ok(()),
        Some(_) | None => {
            Err(Failure::new(format!("{gateway} is no HOST:PORT"), "for example --gateway gw.example.org:8444"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Catalogue: W6 (control: inline)
    #[test]
    fn the_rp_id_is_the_origins_host() {
        assert_eq!(
            rp_id("https://tl.example.org:8443/").unwrap(),
            ("tl.example.org".into(), "https://tl.example.org:8443".into())
        );
        for wrong in ["http://tl.example.org", "tl.example.org", "https://", "https://tl.example.org/x", "https://:443"]
        {
            assert!(rp_id(wrong).is_err(), "{wrong}");
        }
    }

    /// Two people enrol before the command looks: both events tell of a full list.
    #[test]
    fn a_list_that_is_full_when_the_first_event_arrives_closes_once() {
        use crate::enrol::ceremony::{DeviceInfo, PersonInfo};
        use twinlock_protocol::ids::{DeviceId, PersonId};

        let (progress, mut events) = mpsc::unbounded_channel();
        for name in ["bob", "carol"] {
            let person = PersonInfo { id: PersonId::new(name).unwrap(), name: name.to_owned() };
            let device =
                DeviceInfo { id: DeviceId::new(name).unwrap(), label: "phone".to_owned(), assurance: Assurance::C };
            progress.send(Progress::Enrolled(person, device)).unwrap();
        }
        progress.send(Progress::Sealed).unwrap();
        let room = Room {
            ceremony: Mutex::new(crate::enrol::tests::enrolled_by_all()),
            clock: Arc::new(SystemClock),
            progress,
            sealer: Box::new(|_| Ok(())),
            origin: crate::enrol::tests::ORIGIN.to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(follow(&room, &mut events, &Report::new(true), true));
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    #[test]
    fn the_gateways_port_is_checked_early() {
        assert!(check_gateway("gw.example.org:8444").is_ok() && check_gateway("[::1]:8444").is_ok());
        for wrong in ["gw.example.org", ":8444", "gw.example.org:0", "gw.example.org:x"] {
            assert!(check_gateway(wrong).is_err(), "{wrong}");
        }
    }
}
