//! A connection to one of the two local daemons: found by a trusted path, a peer uid that counts,
//! non-blocking, and with a limit on everything: connecting, each frame's size, and the time from a
//! frame's first byte to its last, so that a daemon that drips cannot hold the requester.
#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use twinlock_protocol::wire;

use crate::clock::boot_ms;
use crate::refusal::Refusal;
use crate::signals::{For, Signals};
use crate::trusted::Owner;

/// How long connecting may take while the listener's queue is full, in milliseconds.
const CONNECT_MS: u64 = 2_000;
/// How long a frame may take from its first byte to its last, either way, in milliseconds.
const FRAME_MS: u64 = 5_000;
/// The most that is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// Whom the module believes at a socket.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Whose directories count.
    pub owner: Owner,
    /// The daemon's uid, besides root.
    pub uid: Option<u32>,
}

/// Why a link is of no use.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody is there, or it ended.
    #[error("the connection: {0}")]
    Lost(io::Error),
    /// The path or the peer is not to be trusted.
    #[error("the socket is not trusted: {0}")]
    NotTrusted(String),
    /// The peer breaks the protocol: an over-long, malformed or dripping frame.
    #[error("the peer broke the protocol: {0}")]
    Broken(String),
    /// The wait ended for a reason of the requester's.
    #[error("the wait ended")]
    Ended(Refusal),
}

impl From<Refusal> for LinkError {
    fn from(refusal: Refusal) -> Self {
        Self::Ended(refusal)
    }
}

/// A connection.
pub struct Link {
    stream: UnixStream,
    inbox: Vec<u8>,
    /// When the first byte of an unfinished frame came.
    begun_ms: Option<u64>,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn connect(path: &Path, peer: Peer, signals: &Signals) -> Result<Self, LinkError> {
        peer.owner.check_directories(path).map_err(|error| {
            if error.is_missing() {
                LinkError::Lost(io::ErrorKind::NotFound.into())
            } else {
                LinkError::NotTrusted(error.to_string())
            }
        })?;
        let lost = |error: rustix::io::Errno| LinkError::Lost(error.into());
        let address = SocketAddrUnix::new(path).map_err(lost)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(lost)?;
        let give_up_at = boot_ms().saturating_add(CONNECT_MS);
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => break,
                // The listener's queue is full.
                Err(rustix::io::Errno::AGAIN) if boot_ms() < give_up_at => {
                    signals.wait(None, 20)?;
                }
                Err(error) => return Err(lost(error)),
            }
        }
        check_peer(&socket, peer)?;
        Ok(Self { stream: UnixStream::from(socket), inbox: Vec::new(), begun_ms: None })
    }

    /// Sends one message whole.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn send<T: Serialize>(&mut self, message: &T, signals: &Signals) -> Result<(), LinkError> {
        self.send_bytes(&wire::frame(message), signals)
    }

    /// Sends one message whole, with descriptors on its first byte.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn send_with<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
        signals: &Signals,
    ) -> Result<(), LinkError> {
        let frame = wire::frame(message);
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(LinkError::Broken("too many descriptors".to_owned()));
        }
        let sent = rustix::net::sendmsg(&self.stream, &[io::IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL)
            .map_err(|error| LinkError::Lost(error.into()))?;
        self.send_bytes(frame.get(sent..).unwrap_or_default(), signals)
    }

    fn send_bytes(&mut self, mut rest: &[u8], signals: &Signals) -> Result<(), LinkError> {
        let give_up_at = boot_ms().saturating_add(FRAME_MS);
        while !rest.is_empty() {
            // std sends with MSG_NOSIGNAL: a daemon that left must not end sudo by SIGPIPE.
            match self.stream.write(rest) {
                Ok(0) => return Err(LinkError::Lost(io::ErrorKind::WriteZero.into())),
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if boot_ms() >= give_up_at {
                        return Err(LinkError::Broken("it does not read".to_owned()));
                    }
                    signals.wait(Some((self.stream.as_fd(), For::Writing)), 100)?;
                }
                Err(error) => return Err(LinkError::Lost(error)),
            }
        }
        Ok(())
    }

    /// Says without waiting: for a farewell that nobody answers.
    pub fn send_if_it_fits<T: Serialize>(&mut self, message: &T) {
        let _heard_or_not = self.stream.write(&wire::frame(message));
    }

    /// Waits at most `milliseconds` for one message; `None` when none is complete yet.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn receive<T: DeserializeOwned>(
        &mut self,
        limit: usize,
        milliseconds: u64,
        signals: &Signals,
    ) -> Result<Option<T>, LinkError> {
        if let Some(message) = self.take_message(limit)? {
            signals.check()?;
            return Ok(Some(message));
        }
        if signals.wait(Some((self.stream.as_fd(), For::Reading)), milliseconds)? {
            self.read_some()?;
        }
        let message = self.take_message(limit)?;
        let now = boot_ms();
        if message.is_none() && self.begun_ms.is_some_and(|begun| now.saturating_sub(begun) > FRAME_MS) {
            return Err(LinkError::Broken("a frame takes too long".to_owned()));
        }
        Ok(message)
    }

    fn read_some(&mut self) -> Result<(), LinkError> {
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(LinkError::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => {
                self.begun_ms.get_or_insert_with(boot_ms);
                self.inbox.extend_from_slice(chunk.get(..read).unwrap_or_default());
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(LinkError::Lost(error)),
        }
    }

    fn take_message<T: DeserializeOwned>(&mut self, limit: usize) -> Result<Option<T>, LinkError> {
        let broken = |error: &dyn std::fmt::Display| LinkError::Broken(error.to_string());
        let Some(prefix) = self.inbox.first_chunk::<{ wire::LENGTH_BYTES }>() else { return Ok(None) };
        let length = wire::body_length(*prefix, limit).map_err(|error| broken(&error))?;
        let end = wire::LENGTH_BYTES + length;
        let Some(body) = self.inbox.get(wire::LENGTH_BYTES..end) else { return Ok(None) };
        let message = wire::message(body, limit).map_err(|error| broken(&error))?;
        self.inbox.drain(..end);
        self.begun_ms = (!self.inbox.is_empty()).then(boot_ms);
        Ok(Some(message))
    }

    /// Keeps the connection open until this process is gone: the reaper sees the end of the
    /// session by it. The descriptor is closed on exec.
    pub fn hold_until_exit(self) {
        std::mem::forget(self.stream);
    }
}

/// The kernel's word about whoever made the listener: with socket activation that is root.
fn check_peer(socket: &OwnedFd, peer: Peer) -> Result<(), LinkError> {
    let credentials = nix::sys::socket::getsockopt(socket, PeerCredentials)
        .map_err(|error| LinkError::Lost(io::Error::from_raw_os_error(error as i32)))?;
    let uid = credentials.uid();
    if uid == 0 || peer.uid == Some(uid) {
        Ok(())
    } else {
        Err(LinkError::NotTrusted(format!("its listener belongs to uid {uid}")))
    }
}
