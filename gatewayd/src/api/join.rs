//! Hosts that join: a protocol of its own on the agent listener, chosen by ALPN, for machines that the
//! roster does not know. Whoever comes in has a token or is hung up on; what they leave is a proposal.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use twinlock_protocol::wire::LENGTH_BYTES;
use twinlock_protocol::{Bytes, DenyReason, codec, limits};

use super::http::{Connections, Place};
use crate::audit::Event;
use crate::roster::proposal::ProposalId;
use crate::roster::{Changes, JoinAnswer, JoinHello, Joining};

/// The protocol name (RFC 7301).
pub const ALPN: &[u8] = b"twinlock-join/1";
/// Strangers at the same time who have shown no token yet: from one address, and all. They have
/// [`HELLO`]; who has shown one has a place of its own, one for each token.
const STRANGERS: (u32, u32) = (8, 64);
/// For the hello.
const HELLO: Duration = Duration::from_secs(10);
/// How often a host that waits hears how far it is.
const LOOK: Duration = Duration::from_secs(1);

type Frames = Framed<TlsStream<TcpStream>, LengthDelimitedCodec>;

/// What joins share.
pub struct Joins {
    changes: Arc<Changes>,
    strangers: Arc<Connections>,
    /// Who waits for which proposal: the newest connection of each.
    seats: Mutex<HashMap<ProposalId, CancellationToken>>,
}

/// A host's place while people sign. Whoever comes with the same token and the same keys takes it over: a
/// connection that nobody noticed to be dead does not keep it.
struct Seat<'a> {
    joins: &'a Joins,
    proposal: ProposalId,
    taken_over: CancellationToken,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // Under the lock: whoever takes over inserts its own seat first.
        let mut seats = self.joins.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.taken_over.is_cancelled() {
            seats.remove(&self.proposal);
        }
    }
}

impl Joins {
    /// Over the roster's changes.
    #[must_use]
    pub fn new(changes: Arc<Changes>) -> Arc<Self> {
        let (of_one, all) = STRANGERS;
        Arc::new(Self { changes, strangers: Connections::new(of_one, all), seats: Mutex::default() })
    }

    /// Attends to one host until it is in the roster, refused, or gone.
    pub async fn attend(&self, stream: TlsStream<TcpStream>, address: SocketAddr, stop: CancellationToken) {
        let Some(place) = self.strangers.admit(address.ip()) else { return };
        let mut frames = LengthDelimitedCodec::builder()
            .length_field_length(LENGTH_BYTES)
            .max_frame_length(limits::SMALL_FRAME_BYTES)
            .new_framed(stream);
        tokio::select! {
            outcome = self.converse(&mut frames, address, place) => {
                if let Err(reason) = outcome {
                    self.note(address, reason).await;
                    // The host may be gone; it was told by the closed connection as well.
                    let _told = say(&mut frames, &JoinAnswer::Refused { reason }).await;
                }
            }
            () = stop.cancelled() => {}
        }
    }

    async fn note(&self, address: SocketAddr, reason: DenyReason) {
        let engine = self.changes.engine();
        engine.metrics.refused(reason);
        if engine.limits.is_worth_a_row(address.ip()) {
            engine.note(vec![Event::HostJoinRefused { address: address.ip().to_string(), reason }]).await;
        }
    }

    async fn converse(&self, frames: &mut Frames, address: SocketAddr, place: Place) -> Result<(), DenyReason> {
        let hello = tokio::time::timeout(HELLO, frames.next()).await;
        let Ok(Some(Ok(hello))) = hello else { return Err(DenyReason::WireMismatch) };
        let hello: JoinHello =
            codec::decode("join hello", limits::SMALL_FRAME_BYTES, &hello).map_err(|_| DenyReason::WireMismatch)?;
        let joining = self.changes.join(&hello, &address.ip().to_string()).await.map_err(|error| error.reason())?;
        let seat = self.sit_down(joining.proposal);
        drop(place);
        let mut last = None;
        loop {
            let state = self.changes.join_state(&joining).await?;
            match &state {
                JoinAnswer::Sealed {} => {
                    self.hand_over(frames, &joining).await?;
                    return gone(say(frames, &state).await);
                }
                JoinAnswer::Refused { .. } => return gone(say(frames, &state).await),
                JoinAnswer::Waiting { .. } | JoinAnswer::Rosters { .. } => {}
            }
            if last.as_ref() != Some(&state) {
                gone(say(frames, &state).await)?;
            }
            last = Some(state);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = seat.taken_over.cancelled() => return Ok(()),
                more = frames.next() => return match more {
                    // It gave up; its proposal stays, and it may come again with the same keys.
                    None | Some(Err(_)) => Ok(()),
                    Some(Ok(_)) => Err(DenyReason::WireMismatch),
                },
            }
        }
    }

    fn sit_down(&self, proposal: ProposalId) -> Seat<'_> {
        let taken_over = CancellationToken::new();
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = seats.insert(proposal, taken_over.clone()) {
            before.cancel();
        }
        Seat { joins: self, proposal, taken_over }
    }

    /// From the version that the token pins to the head.
    async fn hand_over(&self, frames: &mut Frames, joining: &Joining) -> Result<(), DenyReason> {
        let engine = self.changes.engine();
        let chain = engine.rosters.chain();
        let first = chain.find(&joining.roster).ok_or(DenyReason::RosterMismatch)?;
        let mut above = joining.roster.version;
        let mut envelopes = vec![Bytes(first.envelope.to_bytes())];
        loop {
            gone(say(frames, &JoinAnswer::Rosters { envelopes }).await)?;
            envelopes = engine.rosters_above(above).map_err(|_| DenyReason::StoreFailed)?;
            if envelopes.is_empty() {
                return Ok(());
            }
            above = above.saturating_add(envelopes.len() as u64);
        }
    }
}

/// A host that hung up is no refusal.
fn gone(outcome: std::io::Result<()>) -> Result<(), DenyReason> {
    outcome.map_err(|_| DenyReason::Cancelled)
}

async fn say(frames: &mut Frames, answer: &JoinAnswer) -> std::io::Result<()> {
    frames.codec_mut().set_max_frame_length(limits::FRAME_BYTES);
    frames.send(axum::body::Bytes::from(codec::encode(answer))).await
}
