//! The modules' connections to `agent.sock`. Only uid 0 may speak, by the kernel's word; failure to
//! learn the uid refuses. A connection that says nothing, or too much, is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use twinlock_protocol::DenyReason;
use twinlock_protocol::limits::SMALL_FRAME_BYTES;
use twinlock_protocol::wire::module::{ModuleEvent, ModuleMessage, Refused};

use super::frames;
use super::relay::ConnId;

/// A module has this long for its first frame.
const FIRST: Duration = Duration::from_secs(5);
/// A module that does not read is dropped after this long.
const WRITE: Duration = Duration::from_secs(10);
/// Events that may wait for a module.
pub const QUEUE: usize = 64;

/// What a connection tells the agent.
#[derive(Debug)]
pub enum ConnEvent {
    /// A module came; say things to it here. Dropping the sender closes it.
    Opened(ConnId, mpsc::Sender<ModuleEvent>),
    /// It said something.
    Said(ConnId, ModuleMessage),
    /// It is gone.
    Closed(ConnId),
}

/// Accepts modules, for ever.
pub async fn accept(listener: UnixListener, connections: usize, events: mpsc::Sender<ConnEvent>) {
    let places = Arc::new(Semaphore::new(connections));
    let mut next = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(cred) if cred.uid() == 0 => {}
            Ok(cred) => {
                tracing::warn!(uid = cred.uid(), pid = cred.pid(), "a client that is not root was refused");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a client without credentials was refused");
                continue;
            }
        }
        let conn = ConnId(next);
        next += 1;
        let (places, events) = (places.clone(), events.clone());
        tokio::spawn(async move {
            match places.try_acquire() {
                Ok(_place) => serve(conn, stream, &events).await,
                Err(_) => too_many(stream).await,
            }
        });
    }
}

async fn too_many(mut stream: UnixStream) {
    let refused = Refused { reason: DenyReason::RateLimited, retry_after_s: Some(5) };
    let _ = tokio::time::timeout(WRITE, frames::write(&mut stream, &ModuleEvent::Refused(refused))).await;
}

async fn serve(conn: ConnId, stream: UnixStream, events: &mpsc::Sender<ConnEvent>) {
    let (reader, writer) = stream.into_split();
    let (sender, queue) = mpsc::channel(QUEUE);
    if events.send(ConnEvent::Opened(conn, sender)).await.is_err() {
        return;
    }
    let mut writing = tokio::spawn(write_all(writer, queue));
    let read = async {
        if let Err(reason) = read_all(conn, reader, events).await {
            tracing::warn!(conn = conn.0, reason, "a module was dropped");
        }
    };
    let written = tokio::select! {
        () = read => false,
        _ = &mut writing => true,
    };
    // The agent drops the sender at this word, so what it said before is still written.
    let _ = events.send(ConnEvent::Closed(conn)).await;
    if !written {
        let _ = writing.await;
    }
}

/// Reads until the module leaves or breaks the protocol; the latter is an error.
async fn read_all(
    conn: ConnId,
    mut reader: OwnedReadHalf,
    events: &mpsc::Sender<ConnEvent>,
) -> Result<(), &'static str> {
    let mut first = true;
    loop {
        let next = frames::read(&mut reader, SMALL_FRAME_BYTES);
        let message = match first {
            true => tokio::time::timeout(FIRST, next).await.map_err(|_| "it said nothing")?,
            false => next.await,
        };
        first = false;
        match message {
            Ok(Some(message)) => {
                if events.send(ConnEvent::Said(conn, message)).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => return Err("it broke the protocol"),
        }
    }
}

/// Writes until the agent closes the connection or the module stops reading.
async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<ModuleEvent>) {
    while let Some(event) = queue.recv().await {
        match tokio::time::timeout(WRITE, frames::write(&mut writer, &event)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
    let _ = writer.shutdown().await;
}
