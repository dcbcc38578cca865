//! The reaper: per host, no network. It keeps the GrantRecords, contains each session in a cgroup
//! of its own, ends it at its deadline, by order or when it is dropped, and reports how. It works
//! when agent and gateways are gone. It must never end a session because it is stopped itself, nor
//! signal a process that the kernel does not list in a grant's leaf.

mod cgroup;
mod clients;
pub(crate) mod clock;
pub mod config;
mod conn;
mod driver;
pub(crate) mod glass;
mod keeper;
mod kill;
pub(crate) mod process;
pub(crate) mod records;
mod register;
mod session;
pub mod sockets;
mod tty;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use self::config::{Config, ConfigError};
use self::keeper::Keeper;
use self::records::Records;
use self::sockets::{Passed, Pulse};

/// How often the reaper looks whether it could still do its work.
const BEAT: Duration = Duration::from_secs(1);
/// How often old records are looked for.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// SIGXFSZ on every Linux platform that Rust supports but MIPS and PA-RISC.
const SIGXFSZ: i32 = 25;

/// Why the reaper could not start.
#[derive(Debug, thiserror::Error)]
pub enum ReaperError {
    /// The configuration.
    #[error("the reaper's configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The records.
    #[error("the grant records cannot be used")]
    Records(#[from] records::RecordError),
    /// The cgroup tree.
    #[error("sessions cannot be contained")]
    Cgroup(#[from] cgroup::CgroupError),
    /// An earlier reaper's sessions.
    #[error("sessions of an earlier reaper cannot be taken up")]
    Adopt(#[from] keeper::AdoptError),
    /// A socket.
    #[error("socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime, signals, or `/proc`.
    #[error("the system refuses")]
    System(#[from] std::io::Error),
}

/// Runs the reaper until SIGTERM or SIGINT. Sessions live on without it.
///
/// # Errors
/// [`ReaperError`].
pub fn run(config: &Path) -> Result<(), ReaperError> {
    let config = Config::load(config)?;
    sockets::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(serve(config));
    // A kill or a write that is under way must not hold up the stop.
    runtime.shutdown_background();
    done
}

async fn serve(config: Config) -> Result<(), ReaperError> {
    // With this signal handled, a write beyond RLIMIT_FSIZE fails with EFBIG instead of killing us.
    let _file_size = signal(SignalKind::from_raw(SIGXFSZ))?;
    let mut passed = Passed::from_environment()?;
    let records = Records::open(&config.grants)?;
    let leaves = cgroup::parent(config.cgroup.as_deref())?;
    if process::stat(1).is_none() {
        // ProtectProc= or a hidepid mount: ends are kept all the same, but with less in the record.
        tracing::warn!("/proc hides other users' processes: what leaves a session's cgroup cannot be seen");
    }
    let glass = glass::Glass::new(config.break_glass.clone());
    let keeper = Keeper::new(records.clone(), glass, leaves.clone(), clock::boot_id()?);
    // Before the sockets open: a session that is overdue must not be overtaken by a new one.
    keeper.adopt()?;
    let mut listener = |path: &PathBuf, group| {
        passed.listener_for(path, 0o666, group).map_err(|source| ReaperError::Socket { path: path.clone(), source })
    };
    // Credentials decide what a peer may say. Modules (root) and the agent connect to the first, anybody
    // to the second.
    let modules = listener(&config.socket, group_of(config.agent_uid))?;
    let users = listener(&config.user_socket, None)?;
    passed.close_the_rest();
    let pulse = Pulse::default();
    tracing::info!(socket = %config.socket.display(), leaves = %leaves.display(), "the reaper is ready");
    tokio::select! {
        () = clients::serve(keeper.clone(), modules, config.agent_uid) => {}
        () = clients::serve_users(keeper.clone(), users) => {}
        () = beat(&keeper, &pulse) => {}
        () = sockets::tell_systemd(pulse.clone()) => {}
        () = prune(records, config.keep_days) => {}
        stopped = sockets::stop_signal() => stopped?,
    }
    tracing::info!("the reaper stops; sessions go on");
    Ok(())
}

/// A round of what every registration and every end needs: this thread, the list of sessions, and a
/// thread for blocking work, where records are written and sessions are killed.
async fn beat(keeper: &Arc<Keeper>, pulse: &Pulse) {
    let mut told = None;
    // A short watchdog is answered every quarter of its period: there is a beat in each of them.
    let pause = sd_notify::watchdog_enabled().map_or(BEAT, |period| BEAT.min(period / 8));
    loop {
        let keeper = keeper.clone();
        if let Ok(sessions) = tokio::task::spawn_blocking(move || keeper.sessions()).await {
            pulse.beat();
            if told.replace(sessions) != Some(sessions) {
                sockets::tell_status(&format!("{sessions} elevated sessions"));
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// The agent's own group, where it has a name on this host.
fn group_of(uid: u32) -> Option<u32> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok()??;
    Some(user.gid.as_raw())
}

/// Removes records that are older than they need to be: now, and every day.
async fn prune(records: Records, keep_days: u32) {
    let mut days = tokio::time::interval(DAY);
    days.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        days.tick().await;
        let kept = u64::from(keep_days) * DAY.as_secs();
        let before = twinlock_protocol::UnixTime(clock::wall().0.saturating_sub(kept));
        let records = records.clone();
        match tokio::task::spawn_blocking(move || records.prune(before)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(pruned)) => tracing::info!(pruned, keep_days, "old records were removed"),
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "old records could not be removed");
            }
            Err(error) => tracing::error!(%error, "old records could not be removed"),
        }
    }
}
