//! Blocking frames, and the descriptors that go with a registration.

use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use twinlock_protocol::limits::FRAME_BYTES;
use twinlock_protocol::wire;
use twinlock_protocol::wire::reaper::{List, LiveGrant, ReaperReply, ReaperRequest};

use crate::bench::{Bench, as_uid};

pub fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

pub fn send<T: Serialize>(mut stream: &UnixStream, message: &T) {
    stream.write_all(&wire::frame(message)).unwrap();
}

/// Sends a frame whose first byte carries descriptors.
pub fn send_with<T: Serialize>(mut stream: &UnixStream, message: &T, fds: &[BorrowedFd<'_>]) {
    let frame = wire::frame(message);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(&frame)], &mut control, SendFlags::empty()).unwrap();
    stream.write_all(&frame[sent..]).unwrap();
}

/// The next message; none at the end of the stream.
pub fn receive<T: DeserializeOwned>(mut stream: &UnixStream) -> Option<T> {
    let mut prefix = [0; 4];
    if stream.read_exact(&mut prefix).is_err() {
        return None;
    }
    let mut body = vec![0; wire::body_length(prefix, FRAME_BYTES).unwrap()];
    stream.read_exact(&mut body).unwrap();
    Some(wire::message(&body, FRAME_BYTES).unwrap())
}

/// The live grants of a uid, asked by that uid.
pub fn list(bench: &Bench, uid: u32) -> Vec<LiveGrant> {
    match user(bench, uid, ReaperRequest::List(List { wire: 1 })) {
        Some(ReaperReply::Grants(grants)) => grants.grants,
        other => panic!("no list: {other:?}"),
    }
}

/// One question to `user.sock`, asked by this uid.
pub fn user(bench: &Bench, uid: u32, question: ReaperRequest) -> Option<ReaperReply> {
    let path = bench.path("user.sock");
    as_uid(uid, move || {
        let stream = connect(&path);
        send(&stream, &question);
        receive(&stream)
    })
}
