//! The agent: per host, relays between the PAM modules, the reaper and the gateway. It is trusted
//! for nothing but delivery: it holds no key that signs a request, verifies nothing, and what it
//! loses or invents can only refuse. It never needs root. Newer rosters pass through it too, and
//! verify themselves (`chain`).

mod chain;
pub mod config;
mod frames;
mod limits;
mod link;
mod modules;
mod relay;
pub mod tls;
mod watch;

pub(crate) use chain::read as pinned_roster;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::agent::{AgentMessage, GatewayMessage};
use twinlock_protocol::wire::module::{AskRosters, ModuleEvent, ModuleMessage};

use self::chain::Chain;
use self::config::{Config, ConfigError};
use self::limits::RequestsPerUid;
use self::link::LinkEvent;
use self::modules::ConnEvent;
use self::relay::{ConnId, Effect, Input, Relay};
use self::watch::{ForReaper, LinkNow};
use crate::reaper::sockets::{self, Passed, Pulse};

/// How often requests that wait for a link are looked at.
const TICK: Duration = Duration::from_millis(250);
/// What `systemctl status` says meanwhile.
const NO_LINK: &str = "no link to a gateway: elevations are refused";
/// Words that may wait for one of the tasks.
const QUEUE: usize = 1024;

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration.
    #[error("the agent's configuration cannot be used")]
    Config(#[from] ConfigError),
    /// Key or TLS.
    #[error("the link to the gateway cannot be set up")]
    Tls(#[from] tls::TlsError),
    /// The socket.
    #[error("socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime, or signals.
    #[error("the system refuses")]
    System(#[from] std::io::Error),
}

/// Runs the agent until SIGTERM or SIGINT. Waiting modules then find their connection closed, and
/// resume with the next agent.
///
/// # Errors
/// [`AgentError`].
pub fn run(config: &Path) -> Result<(), AgentError> {
    let config = Config::load(config)?;
    sockets::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), AgentError> {
    let tls = TlsConnector::from(tls::client(&config.host, &config.key, config.key_is_credential)?);
    let socket = |source| AgentError::Socket { path: config.socket.clone(), source };
    // 0600: root connects whoever owns it; nobody else may speak anyhow.
    let mut passed = Passed::from_environment()?;
    let listener = passed.listener(&config.socket, 0o600).map_err(socket)?;
    passed.close_the_rest();
    let pulse = Pulse::default();
    let config = Arc::new(config);
    let chain = Arc::new(Mutex::new(Chain::load(config.roster_dir.clone())));
    let (link_events, from_link) = mpsc::channel(QUEUE);
    let (conn_events, from_modules) = mpsc::channel(QUEUE);
    let (words, for_reaper) = mpsc::channel(QUEUE);
    let (link_now, link_seen) = tokio::sync::watch::channel(None);
    let rate = RequestsPerUid::new(config.limits.requests_per_minute);
    let agent = Agent {
        relay: Relay::new(config.host.clone(), &config.limits, rate),
        modules: BTreeMap::new(),
        link: None,
        link_now,
        words,
        chain: chain.clone(),
    };
    let connections = config.limits.connections.get() as usize;
    sockets::tell_status(NO_LINK);
    tracing::info!(host = %config.host, socket = %config.socket.display(), "the agent is ready");
    tokio::select! {
        () = link::keep(config.clone(), tls, chain, link_events) => {}
        () = modules::accept(listener, connections, conn_events) => {}
        () = watch::keep(config.reaper_socket.clone(), link_seen, for_reaper) => {}
        () = agent.run(from_link, from_modules, &pulse) => {}
        () = sockets::tell_systemd(pulse.clone()) => {}
        stopped = sockets::stop_signal() => stopped?,
    }
    Ok(())
}

/// Performs the relay's effects.
struct Agent {
    relay: Relay,
    modules: BTreeMap<ConnId, mpsc::Sender<ModuleEvent>>,
    link: Option<mpsc::Sender<AgentMessage>>,
    link_now: tokio::sync::watch::Sender<LinkNow>,
    words: mpsc::Sender<ForReaper>,
    chain: Arc<Mutex<Chain>>,
}

impl Agent {
    async fn run(mut self, mut link: mpsc::Receiver<LinkEvent>, mut modules: mpsc::Receiver<ConnEvent>, pulse: &Pulse) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            pulse.beat();
            let input = tokio::select! {
                Some(event) = link.recv() => self.on_link(event),
                Some(event) = modules.recv() => self.on_module(event),
                _ = ticks.tick() => Some(Input::Tick),
                else => return,
            };
            let Some(input) = input else { continue };
            for effect in self.relay.step(input, Instant::now()) {
                self.perform(effect);
            }
        }
    }

    fn on_link(&mut self, event: LinkEvent) -> Option<Input> {
        match event {
            LinkEvent::Up(sender) => {
                sockets::tell_status("the link to the gateway stands");
                self.link = Some(sender.clone());
                self.link_now.send_replace(Some(sender));
                Some(Input::LinkUp)
            }
            LinkEvent::Down => {
                sockets::tell_status(NO_LINK);
                self.link = None;
                self.link_now.send_replace(None);
                Some(Input::LinkDown)
            }
            LinkEvent::Message(GatewayMessage::Module(message)) => Some(Input::FromGateway(message)),
            LinkEvent::Message(GatewayMessage::EndGrant(order)) => self.tell_reaper(ForReaper::End(order)),
            LinkEvent::Message(GatewayMessage::Noted(noted)) => self.tell_reaper(ForReaper::Noted(noted)),
            LinkEvent::Message(GatewayMessage::Reviewed(reviewed)) => self.tell_reaper(ForReaper::Reviewed(reviewed)),
            // The link keeps these to itself.
            LinkEvent::Message(GatewayMessage::Welcome(_) | GatewayMessage::Ping(_) | GatewayMessage::Rosters(_)) => {
                None
            }
        }
    }

    fn tell_reaper(&mut self, word: ForReaper) -> Option<Input> {
        if self.words.try_send(word).is_err() {
            // The gateway says it again on a new link.
            tracing::error!("too many words wait for the reaper; the link is given up");
            self.drop_link();
        }
        None
    }

    fn on_module(&mut self, event: ConnEvent) -> Option<Input> {
        match event {
            ConnEvent::Opened(conn, sender) => {
                self.modules.insert(conn, sender);
                None
            }
            ConnEvent::Said(conn, ModuleMessage::Rosters(AskRosters { wire: WIRE_VERSION, above })) => {
                let rosters = self.chain.lock().unwrap_or_else(PoisonError::into_inner).above(above);
                self.perform(Effect::ToModule(conn, ModuleEvent::Rosters(rosters)));
                None
            }
            ConnEvent::Said(conn, message) => {
                self.modules.contains_key(&conn).then_some(Input::FromModule(conn, message))
            }
            ConnEvent::Closed(conn) => {
                self.modules.remove(&conn);
                Some(Input::ModuleGone(conn))
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::ToGateway(message) => {
                if self.link.as_ref().is_some_and(|link| link.try_send(message).is_err()) {
                    self.drop_link();
                }
            }
            Effect::ToModule(conn, event) => {
                // A module that is gone or does not read is noticed by its own task.
                if self.modules.get(&conn).is_some_and(|module| module.try_send(event).is_err()) {
                    self.modules.remove(&conn);
                }
            }
            Effect::Close(conn) => drop(self.modules.remove(&conn)),
        }
    }

    /// Lets go of every sender: the link's writer then ends the link.
    fn drop_link(&mut self) {
        self.link = None;
        self.link_now.send_replace(None);
    }
}
