//! Starts the gateway: roster, store, engine, listeners, timers; waits for a signal; stops in order.
//! Without a roster that verifies against the pin it does not start.

mod engine;
mod hub;
mod metrics;
mod run_mark;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use twinlock_protocol::codec::DecodeError;
use twinlock_protocol::roster::{RosterEnvelope, RosterError, VerifiedRoster};
use twinlock_protocol::{DenyReason, Digest, Fixed};

use crate::api::http::{Bounds, Connections, TlsSource, serve_clear, serve_root, serve_tls};
use crate::api::join::Joins;
use crate::api::tls::{RosterAgents, TlsError, agent_config, agent_key_pin, approver_config, join_config};
use crate::api::{admin, agents, approver, monitor};
use crate::approval::Approvers;
use crate::audit::{self, Sinks};
use crate::clock::{Clock, SystemClock};
use crate::config::{ConfigError, GatewayConfig};
use crate::enrol::passkey::{Registrar, RegistrarError};
use crate::issue::{Issuer, LoadError};
use crate::limits::Limits;
use crate::reaper::sockets::{Passed, Pulse, tell_status, tell_stopping, tell_systemd};
use crate::roster::{Changes, Link, Rosters};
use crate::store::{Sqlite, Store, StoreError, Transaction, Work};
use run_mark::RunMark;

pub use engine::{Engine, EngineError, Parts, Refusal, ToModule};
pub use hub::{Hub, Outgoing};
pub use metrics::Metrics;
pub use run_mark::FILE as RUN_MARK_FILE;

/// How often time passes for requests.
const TICK: Duration = Duration::from_millis(500);
/// Handshakes of agents at the same time from one address.
const AGENT_HANDSHAKES: u32 = 256;
/// How often memory is tidied.
const TIDY: Duration = Duration::from_secs(60);

/// Why the gateway stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// A file of the state directory cannot be used.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another gateway runs on this state directory.
    #[error("{0} is in use by another gateway")]
    InUse(PathBuf),
    /// `roster.json` does not decode.
    #[error("roster.json")]
    RosterDecode(#[from] DecodeError),
    /// The roster does not verify against the pin.
    #[error("the roster is refused")]
    Roster(#[from] RosterError),
    /// A later version in the database does not follow from the one before.
    #[error("roster version {version} in the database is refused: {error}")]
    Chain {
        /// The version.
        version: u64,
        /// Why.
        error: RosterError,
    },
    /// `roster.pin` is not a digest, or another one than the database's.
    #[error("roster.pin: {0}")]
    Pin(&'static str),
    /// The configured origin is not the roster's.
    #[error("origin {0} is not the first origin of the roster")]
    Origin(String),
    /// The database.
    #[error("database")]
    Store(#[from] StoreError),
    /// The system's random source.
    #[error("the system's random source failed")]
    Random,
    /// The engine.
    #[error("start")]
    Engine(#[from] EngineError),
    /// CA key or certificate.
    #[error("CA")]
    Ca(#[from] LoadError),
    /// TLS.
    #[error("TLS")]
    Tls(#[from] TlsError),
    /// Passkeys cannot be registered.
    #[error("enrolment")]
    Registrar(#[from] RegistrarError),
    /// The approvers' side.
    #[error("sign-ins: {0}")]
    Approvers(DenyReason),
    /// A listener could not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The operating system.
    #[error("runtime")]
    Runtime(#[from] std::io::Error),
}

/// Runs the gateway until SIGTERM or SIGINT; SIGHUP reads the TLS files again.
///
/// # Errors
/// [`ServeError`].
pub fn run(config: &Path) -> Result<(), ServeError> {
    let config = GatewayConfig::load(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let running = start_on(config, Arc::new(SystemClock), Passed::from_environment()?).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tell_status(&format!("serves {}", running.config.origin));
        let alive = tell_systemd(running.pulse.clone());
        tokio::pin!(alive);
        loop {
            tokio::select! {
                () = &mut alive => break,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => running.reload(),
            }
        }
        tell_stopping();
        running.stop().await;
        Ok(())
    })
}

/// A gateway that runs.
pub struct Running {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The roster's changes.
    pub changes: Arc<Changes>,
    /// Where phones come in.
    pub approver: SocketAddr,
    /// Where agents come in.
    pub agents: SocketAddr,
    /// Metrics and health.
    pub monitor: Option<SocketAddr>,
    config: GatewayConfig,
    tls: TlsSource,
    sinks: Arc<Sinks>,
    pulse: Pulse,
    mark: RunMark,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _lock: std::fs::File,
}

impl Running {
    /// Reads the approver listener's TLS files again, and opens the audit file again. A file that
    /// cannot be used leaves the old certificate in place.
    pub fn reload(&self) {
        self.sinks.reopen();
        match approver_config(&self.config.approver.tls_cert, &self.config.approver.tls_key) {
            Ok(config) => {
                self.tls.replace(config);
                tracing::info!("TLS certificate read again");
            }
            Err(error) => tracing::error!(%error, "the TLS certificate was not replaced"),
        }
    }

    /// Stops accepting, finishes what runs, writes the end into the audit log.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.engine.note(vec![audit::Event::GatewayStopped {}]).await;
        if let Err(error) = self.mark.renew(&*self.engine.store, &*self.engine.clock).await {
            tracing::error!(%error, "the run's mark was not renewed");
        }
    }
}

/// Starts a gateway on listeners of its own; everything listens when this returns.
///
/// # Errors
/// [`ServeError`]; nothing listens then.
pub async fn start(config: GatewayConfig, clock: Arc<dyn Clock>) -> Result<Running, ServeError> {
    start_on(config, clock, Passed::default()).await
}

async fn start_on(config: GatewayConfig, clock: Arc<dyn Clock>, mut passed: Passed) -> Result<Running, ServeError> {
    let warnings = config.warnings();
    let dir = config.state_dir.clone();
    let lock = lock(&dir)?;
    let sinks = Arc::new(Sinks::start(&config.audit)?);
    let store = Sqlite::open(&dir.join("gateway.db"), Some(Arc::clone(&sinks)))?;
    let rosters = Arc::new(load_rosters(&dir, &store, &*clock).await?);
    let roster = rosters.head();
    let mark = RunMark::new(&dir);
    let restored = mark.is_restored(&store)?;
    let left_s = roster.expires_at.since(clock.now());
    if left_s < twinlock_protocol::limits::ROSTER_WARN_S {
        // The admin socket says it too, as of the moment of asking.
        tracing::warn!("the roster expires in {} days; renew it with two signatures", left_s / 86_400);
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if roster.qr_origin() != Some(config.origin.as_str()) {
        return Err(ServeError::Origin(config.origin));
    }
    let issuer = Issuer::load(&dir, &roster, &config.origin, config.grants.crl_life_s)?;
    let tls = TlsSource::new(approver_config(&config.approver.tls_cert, &config.approver.tls_key)?);
    let roster_agents = RosterAgents::new(Arc::clone(&rosters));
    let agent_tls = agents::AgentTls {
        agents: agent_config(&dir.join("gateway.key"), Arc::clone(&roster_agents))?,
        joins: join_config(&dir.join("gateway.key"))?,
    };
    let engine = Engine::start(Parts {
        rosters,
        store: Arc::new(store),
        clock,
        limits: Limits::new(&config.limits),
        issuer,
        max_ttl_s: config.grants.max_ttl_s,
        restored,
    })
    .await?;
    mark.renew(&*engine.store, &*engine.clock).await?;
    engine.metrics.watch(Arc::clone(&sinks));
    let approvers = Arc::new(Approvers::start(Arc::clone(&engine)).map_err(ServeError::Approvers)?);

    let approver_listener = listen(&mut passed, config.approver.listen).await?;
    let agent_listener = listen(&mut passed, config.agents.listen).await?;
    let monitor_listener = match &config.monitor {
        Some(monitor) => Some(listen(&mut passed, monitor.listen).await?),
        None => None,
    };
    let admin_listener = listen_unix(&mut passed, &config.admin.socket)?;
    passed.close_the_rest();
    let (approver_at, agents_at) = (approver_listener.local_addr()?, agent_listener.local_addr()?);
    let monitor_at = monitor_listener.as_ref().map(TcpListener::local_addr).transpose()?;

    let (stop, pulse) = (CancellationToken::new(), Pulse::default());
    let mut tasks = JoinSet::new();
    let connections = Connections::new(config.limits.connections_per_address, config.limits.connections);
    let registrar = registrar(&config, &engine.roster().rp_id)?;
    let changes = Changes::start(Arc::clone(&engine), Arc::clone(&approvers), registrar)?;
    let site = approver::Site {
        approvers: Arc::clone(&approvers),
        changes: Arc::clone(&changes),
        origin: config.origin.as_str().into(),
    };
    let pages = approver::router(site);
    tasks.spawn(serve_tls(approver_listener, tls.clone(), pages, connections, Bounds::default(), stop.clone()));
    // For handshakes only; several hosts may sit behind one address.
    let agent_connections = Connections::new(AGENT_HANDSHAKES, config.limits.connections);
    tasks.spawn(agents::serve(
        Arc::clone(&engine),
        roster_agents,
        agent_listener,
        agent_tls,
        Joins::new(Arc::clone(&changes)),
        agent_connections,
        stop.clone(),
    ));
    if let Some(listener) = monitor_listener {
        tasks.spawn(serve_clear(listener, monitor::router(Arc::clone(&engine)), stop.clone()));
    }
    let gateway_key = agent_key_pin(&dir.join("gateway.key"))?;
    let admin = admin::Admin {
        engine: Arc::clone(&engine),
        changes: Arc::clone(&changes),
        gateway_key,
        warnings: Arc::new(warnings),
    };
    tasks.spawn(serve_root(admin_listener, admin::router(admin), stop.clone()));
    let round = Round {
        engine: Arc::clone(&engine),
        approvers,
        changes: Arc::clone(&changes),
        mark: mark.clone(),
        pulse: pulse.clone(),
    };
    tasks.spawn(pass_time(round, stop.clone()));
    tasks.spawn(keep_crl(Arc::clone(&engine), stop.clone()));
    tracing::info!(approver = %approver_at, agents = %agents_at, monitor = %monitor_at.map_or_else(|| "none".to_owned(), |at| at.to_string()), origin = %config.origin, "the gateway serves");
    Ok(Running {
        engine,
        changes,
        approver: approver_at,
        agents: agents_at,
        monitor: monitor_at,
        config,
        tls,
        sinks,
        pulse,
        mark,
        stop,
        tasks,
        _lock: lock,
    })
}

/// One gateway per state directory.
fn lock(dir: &Path) -> Result<std::fs::File, ServeError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("gateway.lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| ServeError::File { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(ServeError::InUse(dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(ServeError::File { path, source }),
    }
}

/// Version 1 against its pin: `roster.pin` (base64url of the digest), which the database takes over
/// at the first start and from then on must agree with. Then every later version from the database,
/// each of which must follow from the one before: a row that somebody changed stops the start (I6).
async fn load_rosters(dir: &Path, store: &Sqlite, clock: &dyn Clock) -> Result<Rosters, ServeError> {
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(|source| ServeError::File { path, source })
    };
    let envelope = RosterEnvelope::from_bytes(&read("roster.json")?)?;
    let pin = String::from_utf8(read("roster.pin")?).map_err(|_| ServeError::Pin("not text"))?;
    let pin = Digest(Fixed::from_text(pin.trim_end()).ok_or(ServeError::Pin("not a digest"))?);
    let roster = VerifiedRoster::genesis(&envelope, &pin)?;
    match store.roster_pin()? {
        Some(known) if known == pin => {}
        Some(_) => return Err(ServeError::Pin("another one than the database's")),
        None => {
            let pinned = audit::Event::RosterPinned { version: roster.version, digest: pin };
            let work = Work::PinRoster(pin);
            store.commit(Transaction { at_ms: clock.unix_ms(), work, events: vec![pinned] }).await?;
        }
    }
    let rosters = Rosters::new(Link::new(roster, envelope));
    while let Some(next) = next_kept(store, &rosters.head())? {
        rosters.push(next);
    }
    Ok(rosters)
}

/// The version that the database holds above this one, verified as its successor.
fn next_kept(store: &dyn Store, head: &VerifiedRoster) -> Result<Option<Link>, ServeError> {
    let above = store.rosters_above(head.version, 1, twinlock_protocol::limits::ROSTER_ENVELOPE_BYTES)?;
    let Some(bytes) = above.first() else { return Ok(None) };
    let envelope = RosterEnvelope::from_bytes(&bytes.0)?;
    let failed = |error| ServeError::Chain { version: head.version.saturating_add(1), error };
    let next = head.successor(&envelope).map_err(failed)?;
    Ok(Some(Link::new(next, envelope)))
}

async fn listen(passed: &mut Passed, address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listen = |source| ServeError::Listen { address: address.to_string(), source };
    passed.tcp(address).await.map_err(listen)
}

fn listen_unix(passed: &mut Passed, path: &Path) -> Result<UnixListener, ServeError> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let failed = |source| ServeError::Listen { address: path.display().to_string(), source };
    if let Some(listener) = passed.unix(path).map_err(failed)? {
        return Ok(listener);
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    // A socket that a run before left behind; the lock on the state directory says it is nobody's.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Peers are checked by uid too; root passes any mode.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Registers passkeys for this site, as `[enrolment]` says.
fn registrar(config: &GatewayConfig, rp_id: &str) -> Result<Registrar, ServeError> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|source| ServeError::File { path: path.clone(), source });
    let roots = config.enrolment.attestation_roots.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(Registrar::new(rp_id, &config.origin, &roots)?)
}

/// What a round of passing time goes through: every request that waits, and the database.
struct Round {
    engine: Arc<Engine>,
    approvers: Arc<Approvers>,
    changes: Arc<Changes>,
    mark: RunMark,
    pulse: Pulse,
}

async fn pass_time(round: Round, stop: CancellationToken) {
    let (mut tick, mut tidy) = (tokio::time::interval(TICK), tokio::time::interval(TIDY));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                round.engine.tick().await;
                round.pulse.beat();
            }
            _ = tidy.tick() => {
                round.approvers.tidy();
                round.changes.tidy().await;
                let (store, clock) = (&*round.engine.store, &*round.engine.clock);
                if let Err(error) = round.mark.renew(store, clock).await {
                    tracing::error!(%error, "the run's mark was not renewed");
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn keep_crl(engine: Arc<Engine>, stop: CancellationToken) {
    let mut look = tokio::time::interval(TIDY);
    let mut retry = false;
    loop {
        let due = tokio::select! {
            () = engine.crl_due() => true,
            _ = look.tick() => engine.clock.now() >= engine.crl_renewal(),
            () = tokio::time::sleep(Duration::from_secs(1)), if retry => true,
            () = stop.cancelled() => return,
        };
        if due {
            let outcome = engine.publish_crl().await;
            retry = outcome.is_err();
            if let Err(error) = outcome {
                tracing::error!(%error, "the revocation list was not renewed");
            }
        }
    }
}
