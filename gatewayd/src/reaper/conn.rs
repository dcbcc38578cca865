//! One client of a reaper socket: who it is by the kernel's word, frames, and the descriptors that
//! came with them. Reading is cancel-safe: what has arrived stays in the buffer.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use twinlock_protocol::codec::DecodeError;
use twinlock_protocol::wire::{self, LENGTH_BYTES};

/// Descriptors that one frame may carry: a pidfd and a terminal.
const FDS: usize = 2;
/// A client that does not read is dropped after this long.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Why a client was dropped.
#[derive(Debug, thiserror::Error)]
pub enum ConnError {
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// What came is no frame of the protocol.
    #[error("the client breaks the protocol")]
    Decode(#[from] DecodeError),
    /// More descriptors than any frame carries, or descriptors where none belong.
    #[error("the client sent descriptors that do not belong")]
    Descriptors,
    /// The stream ended inside a frame.
    #[error("the client left in the middle of a frame")]
    Cut,
    /// It did not say or read anything in time.
    #[error("the client was too slow")]
    Slow,
}

/// Who is at the other end, by `SO_PEERCRED`: the credentials of whoever connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective uid.
    pub uid: u32,
    /// Process; 0 where the kernel gives none.
    pub pid: u32,
}

/// A frame's body and what came with it.
#[derive(Debug)]
pub struct Frame {
    /// The JSON.
    pub body: Vec<u8>,
    /// Descriptors, in the order in which they were sent.
    pub fds: Vec<OwnedFd>,
}

/// A client.
#[derive(Debug)]
pub struct Conn {
    stream: UnixStream,
    peer: Peer,
    buffer: Vec<u8>,
    fds: Vec<OwnedFd>,
    limit: usize,
}

impl Conn {
    /// Takes an accepted connection; frames over `limit` bytes are refused unread.
    ///
    /// # Errors
    /// When the kernel does not say who the peer is.
    pub fn new(stream: UnixStream, limit: usize) -> Result<Self, ConnError> {
        let cred = stream.peer_cred()?;
        let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let peer = Peer { uid: cred.uid(), pid };
        Ok(Self { stream, peer, buffer: Vec::new(), fds: Vec::new(), limit })
    }

    /// Who it is.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The next frame; none at the end of the stream.
    ///
    /// # Errors
    /// [`ConnError`].
    pub async fn read(&mut self) -> Result<Option<Frame>, ConnError> {
        loop {
            if let Some(body) = self.take_frame()? {
                return Ok(Some(Frame { body, fds: std::mem::take(&mut self.fds) }));
            }
            let got = self.stream.async_io(Interest::READABLE, || receive(&self.stream)).await?;
            if got.truncated || self.fds.len() + got.fds.len() > FDS {
                return Err(ConnError::Descriptors);
            }
            if got.bytes.is_empty() {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ConnError::Cut) };
            }
            self.buffer.extend_from_slice(&got.bytes);
            self.fds.extend(got.fds);
        }
    }

    /// The next frame, within `limit`.
    ///
    /// # Errors
    /// [`ConnError`]; [`ConnError::Slow`].
    pub async fn read_within(&mut self, limit: Duration) -> Result<Option<Frame>, ConnError> {
        tokio::time::timeout(limit, self.read()).await.map_err(|_| ConnError::Slow)?
    }

    /// Says something.
    ///
    /// # Errors
    /// [`ConnError::Io`], [`ConnError::Slow`].
    pub async fn write<T: Serialize>(&mut self, message: &T) -> Result<(), ConnError> {
        let frame = wire::frame(message);
        let written = tokio::time::timeout(WRITE_LIMIT, self.stream.write_all(&frame)).await;
        Ok(written.map_err(|_| ConnError::Slow)??)
    }

    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, ConnError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = wire::body_length(*prefix, self.limit)?;
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(LENGTH_BYTES + length);
        let frame = std::mem::replace(&mut self.buffer, rest);
        Ok(Some(frame.get(LENGTH_BYTES..).unwrap_or_default().to_vec()))
    }
}

struct Received {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    truncated: bool,
}

fn receive(stream: &UnixStream) -> std::io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 64 * 1024];
    let message = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    bytes.truncate(message.bytes);
    let mut fds = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            fds.extend(rights);
        }
    }
    Ok(Received { bytes, fds, truncated: message.flags.contains(ReturnFlags::CTRUNC) })
}
