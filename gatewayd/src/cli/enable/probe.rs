//! What listens in the agent's place during a trial: it takes requests, remembers them, and refuses
//! every one. It can grant nothing: it has no key and no approval.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::wire::module::{ModuleEvent, ModuleMessage, Refused, Rosters};
use twinlock_protocol::wire::{self, LENGTH_BYTES};
use twinlock_protocol::{DenyReason, limits};

use super::lines::Gate;

/// How long a module may take over a frame.
const FRAME: Duration = Duration::from_secs(5);

/// A listener that only listens.
pub struct Probe {
    asked: Arc<Mutex<Vec<ElevationRequest>>>,
}

impl Probe {
    /// Listens at `path`, for as long as this process lives.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let to = Arc::clone(&to);
                // A module that breaks off, or speaks another protocol, has asked for nothing.
                std::thread::spawn(move || {
                    let _ = converse(stream, &to);
                });
            }
        });
        Ok(Self { asked })
    }

    /// Nobody has asked yet.
    pub fn forget(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether the module asked, from a service of this gate, for this user.
    #[must_use]
    pub fn was_asked(&self, gate: Gate, uid: u32) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |request: &ElevationRequest| {
            gate.services().contains(&request.service.as_str()) && request.requester.real.uid == uid
        };
        asked.iter().any(is_it)
    }
}

fn converse(mut stream: UnixStream, asked: &Mutex<Vec<ElevationRequest>>) -> Option<()> {
    stream.set_read_timeout(Some(FRAME)).ok()?;
    stream.set_write_timeout(Some(FRAME)).ok()?;
    loop {
        let answer = match receive(&mut stream)? {
            ModuleMessage::Rosters(_) => ModuleEvent::Rosters(Rosters { envelopes: Vec::new() }),
            ModuleMessage::Submit(submit) => {
                let request = ElevationRequest::from_bytes(&submit.signed.request.0).ok()?;
                asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                ModuleEvent::Refused(Refused { reason: DenyReason::Cancelled, retry_after_s: None })
            }
            ModuleMessage::Resume(_) | ModuleMessage::Cancel(_) | ModuleMessage::Alarm(_) => return None,
        };
        stream.write_all(&wire::frame(&answer)).ok()?;
    }
}

fn receive(stream: &mut UnixStream) -> Option<ModuleMessage> {
    let mut prefix = [0; LENGTH_BYTES];
    stream.read_exact(&mut prefix).ok()?;
    let mut body = vec![0; wire::body_length(prefix, limits::SMALL_FRAME_BYTES).ok()?];
    stream.read_exact(&mut body).ok()?;
    wire::message(&body, limits::SMALL_FRAME_BYTES).ok()
}
