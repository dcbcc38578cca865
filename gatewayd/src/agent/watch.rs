//! The agent's connection to the reaper: starts and ends go to the gateway, orders and
//! acknowledgements come back. The reaper tells everything again that the gateway has not
//! committed, so the connection is made anew whenever the link to the gateway is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, watch};
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::limits::FRAME_BYTES;
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::agent::{AgentMessage, EndGrant, Noted};
use twinlock_protocol::wire::reaper::{ReaperReply, ReaperRequest, Watch};

use super::frames::{self, FrameError};

/// Pause before the reaper is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// The gateway's word for the reaper.
#[derive(Debug)]
pub enum ForReaper {
    /// End a grant.
    End(EndGrant),
    /// A report is committed.
    Noted(Noted),
}

/// Where reports go: the link of the moment, none while there is none.
pub type LinkNow = Option<mpsc::Sender<AgentMessage>>;

/// Watches the reaper, for ever.
pub async fn keep(socket: PathBuf, mut link: watch::Receiver<LinkNow>, mut words: mpsc::Receiver<ForReaper>) {
    // Orders that the reaper has not answered with an end: it hears them again after a restart.
    let mut orders = BTreeMap::new();
    let mut complained = false;
    loop {
        match once(&socket, &mut link, &mut words, &mut orders).await {
            Ok(Over::LinkChanged) => {
                complained = false;
                continue;
            }
            Ok(Over::AgentStops) => return,
            Ok(Over::ReaperLeft) => tracing::warn!("the reaper closed the connection"),
            Err(error) if !complained => {
                tracing::warn!(socket = %socket.display(), error = &error as &dyn std::error::Error, "no reaper");
                complained = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why a connection ended.
enum Over {
    LinkChanged,
    ReaperLeft,
    AgentStops,
}

async fn once(
    socket: &PathBuf,
    link: &mut watch::Receiver<LinkNow>,
    words: &mut mpsc::Receiver<ForReaper>,
    orders: &mut BTreeMap<GrantId, EndGrant>,
) -> Result<Over, FrameError> {
    let gateway = link.borrow_and_update().clone();
    let (reader, mut writer) = UnixStream::connect(socket).await?.into_split();
    frames::write(&mut writer, &ReaperRequest::Watch(Watch { wire: WIRE_VERSION })).await?;
    for order in orders.values() {
        frames::write(&mut writer, &ReaperRequest::EndGrant(order.clone())).await?;
    }
    let (replies, mut heard) = mpsc::channel(64);
    // Frames are read by a task of their own: a read that is cancelled loses its place.
    let reading = tokio::spawn(read_all(reader, replies));
    let over = loop {
        tokio::select! {
            changed = link.changed() => break if changed.is_ok() { Over::LinkChanged } else { Over::AgentStops },
            word = words.recv() => match word {
                Some(ForReaper::End(order)) => {
                    orders.insert(order.grant, order.clone());
                    frames::write(&mut writer, &ReaperRequest::EndGrant(order)).await?;
                }
                Some(ForReaper::Noted(noted)) => {
                    frames::write(&mut writer, &ReaperRequest::Noted(noted)).await?;
                }
                None => break Over::AgentStops,
            },
            reply = heard.recv() => match reply {
                Some(reply) => report(reply, gateway.as_ref(), orders).await,
                None => break Over::ReaperLeft,
            },
        }
    };
    reading.abort();
    Ok(over)
}

async fn read_all(mut reader: OwnedReadHalf, replies: mpsc::Sender<ReaperReply>) {
    while let Ok(Some(reply)) = frames::read(&mut reader, FRAME_BYTES).await {
        if replies.send(reply).await.is_err() {
            return;
        }
    }
}

/// Passes a report on. Without a link it is dropped: the reaper tells it again when there is one.
async fn report(
    reply: ReaperReply,
    gateway: Option<&mpsc::Sender<AgentMessage>>,
    orders: &mut BTreeMap<GrantId, EndGrant>,
) {
    let message = match reply {
        ReaperReply::Started(started) => AgentMessage::Started(started),
        ReaperReply::Ended(ended) => {
            orders.remove(&ended.grant);
            AgentMessage::Ended(ended)
        }
        ReaperReply::Lingering(lingering) => AgentMessage::Lingering(lingering),
        ReaperReply::Refused(refused) => {
            tracing::error!(reason = %refused.reason, "the reaper does not let this agent watch");
            return;
        }
        ReaperReply::Registered(_) | ReaperReply::Confirmed(_) | ReaperReply::Grants(_) | ReaperReply::Dropped(_) => {
            tracing::warn!("the reaper said something that is not for a watcher");
            return;
        }
    };
    if let Some(gateway) = gateway {
        // A closed link loses nothing: see above.
        let _ = gateway.send(message).await;
    }
}
