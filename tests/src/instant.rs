//! An agent that answers at once: two software phones and a CA in one thread behind
//! `agent.sock`. The module meets the real wire and verifies a real grant in full, and
//! nobody is waited for: what a run takes longer than one with `pam_permit` is the module's
//! cost, and this thread's own time, which is measured apart.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use twinlock_certs::issue::{Ca, ElevationTemplate};
use twinlock_protocol::evidence::Evidence;
use twinlock_protocol::ids::{CertSerial, PersonId, Ticket};
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::softphone::{Fixture, evidence, random};
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::module::{
    Accepted, Approved, Granted, ModuleEvent, ModuleMessage, Refused, Rosters, ShowTicket, Submit,
};
use twinlock_protocol::wire::{LENGTH_BYTES, body_length, frame, message};
use twinlock_protocol::{Bytes, DenyReason, UnixTime, limits};

use crate::installation::now;

/// Who approves, always.
const APPROVERS: [&str; 2] = ["bob", "carol"];

/// The agent; ends with the process.
pub struct InstantAgent {
    answers: Arc<Mutex<Vec<Duration>>>,
}

struct Desk {
    fixture: Fixture,
    roster: VerifiedRoster,
    ca: Ca,
    answers: Arc<Mutex<Vec<Duration>>>,
}

impl InstantAgent {
    /// Listens on `socket`, replacing what is there.
    #[must_use]
    pub fn start(socket: impl AsRef<Path>, fixture: Fixture, roster: VerifiedRoster, ca: Ca) -> Self {
        let socket = socket.as_ref();
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).expect("its mode");
        let answers = Arc::new(Mutex::new(Vec::new()));
        let desk = Desk { fixture, roster, ca, answers: Arc::clone(&answers) };
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // A module that gives up closes: the next one is served all the same.
                let _ = desk.serve(connection);
            }
        });
        Self { answers }
    }

    /// How long each answer took here, from the request's last byte to the grant's.
    #[must_use]
    pub fn answers(&self) -> Vec<Duration> {
        self.answers.lock().unwrap().clone()
    }
}

impl Desk {
    fn serve(&self, mut connection: UnixStream) -> std::io::Result<()> {
        // One after the other: who sends half a frame must not stop the rest.
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut body = read_frame(&mut connection)?;
        let no_rosters = Rosters { envelopes: Vec::new() };
        while let Ok(ModuleMessage::Rosters(_)) = message(&body, limits::FRAME_BYTES) {
            connection.write_all(&frame(&ModuleEvent::Rosters(no_rosters.clone())))?;
            body = read_frame(&mut connection)?;
        }
        let started = Instant::now();
        let submit = match message(&body, limits::FRAME_BYTES) {
            Ok(ModuleMessage::Submit(submit)) => submit,
            // A module whose calls are made to fail comes again for a request, or sends half a frame: like
            // an agent that was started anew, this one knows of none.
            Ok(_) => {
                let unknown = ModuleEvent::Refused(Refused { reason: DenyReason::NotFound, retry_after_s: None });
                return connection.write_all(&frame(&unknown));
            }
            Err(_) => return Err(std::io::ErrorKind::InvalidData.into()),
        };
        let events = self.answer(&submit);
        connection.write_all(&events.iter().flat_map(frame).collect::<Vec<_>>())?;
        self.answers.lock().unwrap().push(started.elapsed());
        // The module closes when it has what it needs.
        let _ = connection.read(&mut [0; 16]);
        Ok(())
    }

    fn answer(&self, submit: &Submit) -> [ModuleEvent; 4] {
        let bytes = &submit.signed.request.0;
        let id = ElevationRequest::id_of(bytes);
        let request = ElevationRequest::from_bytes(bytes).expect("a request");
        let statements =
            APPROVERS.map(|person| self.fixture.phone(person).answer(&self.roster, id, Decision::Approve)).to_vec();
        let evidence = evidence(id, statements).to_bytes();
        let now = now();
        let certificate = self.ca.elevation(&ElevationTemplate {
            session_key: request.session_key,
            serial: CertSerial::from_random(random()),
            host: request.host.clone(),
            target_user: request.target.user.clone(),
            requesters: vec![PersonId::new("alice").expect("an id")],
            not_before: UnixTime(now.0 - 5),
            not_after: now.plus(u64::from(request.ttl_s.min(900))),
            request: id,
            evidence: Evidence::digest_of(&evidence),
            crl_url: "https://tl.example.org/crl".into(),
        });
        let crl = self.ca.crl(1, UnixTime(now.0 - 5), now.plus(3600), []);
        let ids = |names: &[&str]| names.iter().filter_map(|n| PersonId::new(n)).collect::<Vec<_>>();
        [
            ModuleEvent::Accepted(Accepted {
                request: id,
                eligible: ids(&["bob", "carol", "dave"]),
                approved: Vec::new(),
            }),
            ModuleEvent::Ticket(ShowTicket { slot: 1, ticket: Ticket::from_random(&random()), valid_s: 90 }),
            ModuleEvent::Approved(Approved { slot: 1, person: ids(&["bob"]).remove(0) }),
            ModuleEvent::Granted(Granted {
                certificate: Bytes(certificate.expect("a certificate")),
                evidence: Bytes(evidence),
                crl: Bytes(crl.expect("a CRL")),
            }),
        ]
    }
}

fn read_frame(connection: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut prefix = [0; LENGTH_BYTES];
    connection.read_exact(&mut prefix)?;
    let mut body = vec![0; body_length(prefix, limits::FRAME_BYTES).map_err(|_| std::io::ErrorKind::InvalidData)?];
    connection.read_exact(&mut body)?;
    Ok(body)
}
