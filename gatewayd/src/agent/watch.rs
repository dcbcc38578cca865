//! The agent's connection to the reaper: starts and ends go to the gateway, orders and
//! acknowledgements come back. The reaper tells everything again that the gateway has not
//! committed, so the connection is made anew whenever the link to the gateway is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, watch};
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::limits::{FRAME_BYTES, MAX_APPROVE_BY_S, MAX_TTL_S};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::agent::{AgentMessage, EndGrant, Noted, Reviewed};
use twinlock_protocol::wire::reaper::{ReaperReply, ReaperRequest, Watch};

use super::frames::{self, FrameError};

/// Pause before the reaper is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// An order older than this is for no grant that could live.
const ORDER_LIFE: Duration = Duration::from_secs(MAX_APPROVE_BY_S as u64 + MAX_TTL_S as u64);
/// Orders that are repeated to a reaper that comes back.
const ORDERS: usize = 4096;

/// The gateway's word for the reaper.
#[derive(Debug)]
pub enum ForReaper {
    /// End a grant.
    End(EndGrant),
    /// A report is committed.
    Noted(Noted),
    /// A break-glass grant is reviewed.
    Reviewed(Reviewed),
}

/// Where reports go: the link of the moment, none while there is none.
pub type LinkNow = Option<mpsc::Sender<AgentMessage>>;

/// Watches the reaper, for ever.
pub async fn keep(socket: PathBuf, mut link: watch::Receiver<LinkNow>, mut words: mpsc::Receiver<ForReaper>) {
    let mut orders = Orders::default();
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

/// Orders that the reaper has not answered with an end: it hears them again after a restart.
#[derive(Debug, Default)]
struct Orders {
    waiting: BTreeMap<GrantId, (EndGrant, Instant)>,
    full: bool,
}

impl Orders {
    /// Keeps an order for as long as its grant could live. When there are too many, the gateway
    /// invents them, and this one is passed on just once.
    fn keep(&mut self, order: EndGrant, now: Instant) {
        self.waiting.retain(|_, (_, since)| now.saturating_duration_since(*since) < ORDER_LIFE);
        if self.waiting.len() < ORDERS {
            self.full = false;
        } else if !self.waiting.contains_key(&order.grant) {
            if !std::mem::replace(&mut self.full, true) {
                tracing::error!(grant = %order.grant, "too many orders to end grants: they are passed on once");
            }
            return;
        }
        self.waiting.insert(order.grant, (order, now));
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
    orders: &mut Orders,
) -> Result<Over, FrameError> {
    let gateway = link.borrow_and_update().clone();
    let (reader, mut writer) = UnixStream::connect(socket).await?.into_split();
    frames::write(&mut writer, &ReaperRequest::Watch(Watch { wire: WIRE_VERSION })).await?;
    for (order, _) in orders.waiting.values() {
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
                    orders.keep(order.clone(), Instant::now());
                    frames::write(&mut writer, &ReaperRequest::EndGrant(order)).await?;
                }
                Some(ForReaper::Noted(noted)) => {
                    frames::write(&mut writer, &ReaperRequest::Noted(noted)).await?;
                }
                Some(ForReaper::Reviewed(reviewed)) => {
                    frames::write(&mut writer, &ReaperRequest::Reviewed(reviewed)).await?;
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
async fn report(reply: ReaperReply, gateway: Option<&mpsc::Sender<AgentMessage>>, orders: &mut Orders) {
    let message = match reply {
        ReaperReply::Started(started) => AgentMessage::Started(started),
        ReaperReply::Ended(ended) => {
            orders.waiting.remove(&ended.grant);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use twinlock_protocol::wire::agent::EndOrder;

    use super::*;

    #[test]
    fn orders_are_kept_as_long_as_a_grant_could_live_and_so_many() {
        let order = |number: usize| {
            let letters = |number: usize| char::from(b'a' + u8::try_from(number % 16).unwrap());
            let text: String = [number, number / 16, number / 256, number / 4096].map(letters).iter().collect();
            EndGrant { grant: GrantId::from_text(&(text + &"a".repeat(22))).unwrap(), order: EndOrder::Revoked }
        };
        let mut orders = Orders::default();
        let begun = Instant::now();
        for number in 0..ORDERS {
            orders.keep(order(number), begun);
        }
        assert_eq!(orders.waiting.len(), ORDERS, "control: so many are kept");
        orders.keep(order(ORDERS), begun + ORDER_LIFE / 2);
        assert_eq!((orders.waiting.len(), orders.full), (ORDERS, true));
        orders.keep(order(ORDERS), begun + ORDER_LIFE);
        assert_eq!((orders.waiting.len(), orders.full), (1, false), "the others' grants are over");
    }
}
