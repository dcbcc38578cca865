//! Every decoder that meets bytes from outside, as one function of bytes each. A function holds what
//! must be true whatever comes in: no panic, one spelling of what is signed, nothing accepted that
//! another reader reads otherwise. The fuzzers look for bytes that break it; `tests/corpora.rs` goes
//! through those that were kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a broken promise is to be found

use std::sync::OnceLock;

use pam_twinlock::command_line::{self, FrontEnd, Reading};
use serde::Serialize;
use serde::de::DeserializeOwned;
use twinlock_certs::check;
use twinlock_certs::issue::{Ca, ElevationTemplate, Reason, RevokedEntry};
use twinlock_protocol::break_glass::{Answer, BreakGlassEvidence, Drill, Purpose, challenge, read_challenge};
use twinlock_protocol::digest::Digest;
use twinlock_protocol::evidence::{Authority, Certified, Evidence, GrantRecord, GrantRecordFormat};
use twinlock_protocol::ids::{CertSerial, HostId, PersonId, RequestId};
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::roster::change::changes;
use twinlock_protocol::roster::{Device, Roster, RosterEnvelope};
use twinlock_protocol::slots::Slot;
use twinlock_protocol::softphone::{Fixture, Holder};
use twinlock_protocol::statement::{
    APPROVAL_DOMAINS, ApprovalStatement, Assertion, PossessionStatement, RosterStatement, StartStatement,
};
use twinlock_protocol::wire::{self, agent, module, reaper};
use twinlock_protocol::{Bytes, Fixed, UnixTime, codec, escape, limits, webauthn};

/// A decoder with what must hold of it.
pub type Decoder = fn(&[u8]);

/// All of them, by the names of their corpora and fuzz targets.
pub const ALL: &[(&str, Decoder)] = &[
    ("request", request),
    ("statements", statements),
    ("evidence", evidence),
    ("grant_record", grant_record),
    ("roster", roster),
    ("wire_module", wire_module),
    ("wire_agent", wire_agent),
    ("wire_reaper", wire_reaper),
    ("slot", slot),
    ("certificate", certificate),
    ("revocation_list", revocation_list),
    ("client_data", client_data),
    ("command_line", command_line),
    ("module_toml", module_toml),
    ("escapes", escapes),
];

/// When everything here happens.
const NOW: UnixTime = UnixTime(1_800_000_000);

/// What is signed has one spelling: accepted bytes are those that the value encodes to.
fn one_spelling<T, E>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, E>, write: impl Fn(&T) -> Vec<u8>) {
    if let Ok(value) = read(bytes) {
        assert!(write(&value) == bytes, "another spelling was accepted");
    }
}

/// What is carried reads the same with another reader of JSON, and survives its own encoding.
fn same_as_others<T: DeserializeOwned + Serialize + PartialEq>(bytes: &[u8], limit: usize) {
    let Ok(value) = wire::message::<T>(bytes, limit) else { return };
    let other: T = serde_json::from_slice(bytes).expect("our reader accepted what serde_json refuses");
    assert!(value == other, "two readers read two values");
    let again: T = codec::decode("again", usize::MAX, &codec::encode(&value)).expect("what we write, we read");
    assert!(value == again, "a value changed by being written");
}

/// Elevation requests.
pub fn request(bytes: &[u8]) {
    one_spelling(bytes, ElevationRequest::from_bytes, ElevationRequest::to_bytes);
}

/// Approvals, roster signatures, possession and start statements; break-glass answers, drills and
/// challenges.
pub fn statements(bytes: &[u8]) {
    one_spelling(bytes, ApprovalStatement::from_bytes, ApprovalStatement::to_bytes);
    one_spelling(bytes, RosterStatement::from_bytes, RosterStatement::to_bytes);
    one_spelling(bytes, PossessionStatement::from_bytes, PossessionStatement::to_bytes);
    one_spelling(bytes, StartStatement::from_bytes, StartStatement::to_bytes);
    one_spelling(bytes, Drill::from_bytes, Drill::to_bytes);
    one_spelling(bytes, |bytes| Answer::from_bytes(bytes).ok_or(()), Answer::to_bytes);
    if let Some(answer) = std::str::from_utf8(bytes).ok().and_then(Answer::from_text) {
        assert!(Answer::from_text(&answer.to_text()) == Some(answer));
    }
    if let Some((purpose, read)) = std::str::from_utf8(bytes).ok().and_then(read_challenge) {
        assert!(read_challenge(&challenge(purpose, &read)) == Some((purpose, read)));
    }
}

/// Evidence.
pub fn evidence(bytes: &[u8]) {
    one_spelling(bytes, Evidence::from_bytes, Evidence::to_bytes);
    one_spelling(bytes, BreakGlassEvidence::from_bytes, BreakGlassEvidence::to_bytes);
}

/// GrantRecords.
pub fn grant_record(bytes: &[u8]) {
    if let Ok(record) = GrantRecord::from_bytes(bytes) {
        assert!(GrantRecord::from_bytes(&record.to_bytes()).is_ok_and(|again| again == record));
    }
}

/// Rosters and their envelopes; the list of changes between any two sound ones does not panic, and is
/// empty between equal ones.
pub fn roster(bytes: &[u8]) {
    one_spelling(bytes, Roster::from_bytes, Roster::to_bytes);
    if let Ok(read) = Roster::from_bytes(bytes) {
        assert!(changes(&read, &read).is_empty());
        let _any = changes(&fixture().roster, &read);
    }
    if let Ok(envelope) = RosterEnvelope::from_bytes(bytes) {
        assert!(RosterEnvelope::from_bytes(&envelope.to_bytes()).is_ok_and(|again| again == envelope));
    }
}

/// Frames between module and agent.
pub fn wire_module(bytes: &[u8]) {
    same_as_others::<module::ModuleMessage>(bytes, limits::FRAME_BYTES);
    same_as_others::<module::ModuleEvent>(bytes, limits::FRAME_BYTES);
}

/// Frames between agent and gateway.
pub fn wire_agent(bytes: &[u8]) {
    same_as_others::<agent::AgentMessage>(bytes, limits::FRAME_BYTES);
    same_as_others::<agent::GatewayMessage>(bytes, limits::FRAME_BYTES);
}

/// Frames of the reaper's sockets.
pub fn wire_reaper(bytes: &[u8]) {
    same_as_others::<reaper::ReaperRequest>(bytes, limits::FRAME_BYTES);
    same_as_others::<reaper::ReaperReply>(bytes, limits::FRAME_BYTES);
}

/// Roster slots.
pub fn slot(bytes: &[u8]) {
    let Ok(slot) = Slot::decode(bytes) else { return };
    let written = slot.encode().expect("what was read can be written");
    assert!(bytes.starts_with(&written), "a slot was read that does not stand there");
}

/// Elevation certificates, as the module checks them.
pub fn certificate(bytes: &[u8]) {
    let fixture = fixture();
    let expected = check::Expected {
        session_key: &fixture.device.credential_key,
        host: &HostId::new("web01").unwrap(),
        target_user: "root",
        requesters: &[PersonId::new("alice").unwrap()],
        request: RequestId(Digest::plain(b"request")),
        evidence: Digest::plain(b"evidence"),
        ttl_s: 60,
        now: NOW,
    };
    let _any = check::elevation(bytes, &fixture.ca, &expected);
    let _any = check::elevation(&fixture.ca, bytes, &expected);
}

/// Revocation lists, as the module checks them.
pub fn revocation_list(bytes: &[u8]) {
    let _any = check::crl(bytes, &fixture().ca, NOW, 0);
}

/// WebAuthn client data and authenticator data: a zero byte parts the two.
pub fn client_data(bytes: &[u8]) {
    let fixture = fixture();
    let (data, json) = bytes.split_at_checked(37).unwrap_or_default();
    let assertion = Assertion {
        authenticator_data: Bytes(data.to_vec()),
        client_data_json: Bytes(json.to_vec()),
        signature: Bytes(vec![0x30, 0x00]),
    };
    let challenge = APPROVAL_DOMAINS.challenge(b"statement");
    let checked = webauthn::verify_assertion(&fixture.roster, &fixture.device, &challenge, &assertion);
    assert!(checked.is_err(), "an assertion without a signature was accepted");
}

/// Command lines of sudo and su: words end at zero bytes. What passes unasked has no word that could
/// be a command.
pub fn command_line(bytes: &[u8]) {
    let mut words = vec![b"sudo".to_vec()];
    words.extend(bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec));
    if let Ok(Reading::Query) = command_line::read(FrontEnd::Sudo, &words) {
        let query = |word: &[u8]| word.starts_with(b"-") && word != b"-" && word != b"--";
        assert!(words.iter().skip(1).any(|word| query(word)), "a query without an option");
    }
    assert!(!matches!(command_line::read(FrontEnd::Su, &words), Ok(Reading::Query)), "su asks no questions");
}

/// `module.toml`: what we accept, TOML's own reader accepts.
pub fn module_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if pam_twinlock::settings::read(text).is_ok() {
        assert!(text.parse::<toml::Table>().is_ok(), "our reader accepted what is no TOML");
    }
}

/// Escapes: what is shown is one line of what shows as it is.
pub fn escapes(bytes: &[u8]) {
    for shown in [escape::visible(bytes), escape::argument(bytes)] {
        assert!(!shown.chars().any(char::is_control), "a control character is shown");
        assert!(shown.is_empty() || escape::shows_as_it_is(&shown), "what is shown would be escaped again");
    }
}

/// What the decoders are asked about.
struct Asked {
    ca: Vec<u8>,
    roster: Roster,
    device: Device,
}

fn fixture() -> &'static Asked {
    static ASKED: OnceLock<Asked> = OnceLock::new();
    ASKED.get_or_init(|| {
        let (ca, _key) = Ca::generate("fuzz", NOW, 1).expect("a CA can be made");
        let ca = ca.certificate().to_vec();
        let fixture = Fixture::new(&ca, NOW);
        let device = fixture.phone("bob").device.clone();
        Asked { roster: fixture.roster, device, ca }
    })
}

/// Valid input for every decoder: the first of each corpus.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let (ca, _key) = Ca::generate("fuzz", NOW, 1).expect("a CA can be made");
    let fixture = Fixture::new(ca.certificate(), NOW);
    let (envelope, verified) = fixture.seal();
    let (request, _key) = fixture.request();
    let (signed, session) = {
        let (request, key) = fixture.request();
        (fixture.sign_request(&request, &key), key)
    };
    let id = ElevationRequest::id_of(&signed.request.0);
    let bob = fixture.phone("bob");
    let approval = bob.answer(verified.roster(), id, twinlock_protocol::statement::Decision::Approve);
    let answer = Holder::new("bob").approve(id);
    let all = twinlock_protocol::softphone::evidence(id, vec![approval.clone()]);
    let submitted = signed.clone();
    let submit = module::ModuleMessage::Submit(module::Submit {
        wire: wire::WIRE_VERSION,
        signed: submitted,
        resume_token: Fixed([7; 32]),
    });
    let start = twinlock_protocol::softphone::start(&request, id, &session, 1_000_000);
    let elevation = ca
        .elevation(&ElevationTemplate {
            session_key: request.session_key,
            serial: CertSerial::from_random([5; 16]),
            host: request.host.clone(),
            target_user: "root".to_owned(),
            requesters: vec![PersonId::new("alice").unwrap()],
            not_before: NOW,
            not_after: NOW.plus(900),
            request: id,
            evidence: Digest::plain(b"evidence"),
            crl_url: "https://tl.example.org/crl.der".to_owned(),
        })
        .expect("a certificate can be made");
    let entry = RevokedEntry { serial: CertSerial::from_random([6; 16]), revoked_at: NOW, reason: Reason::Ended };
    let list = ca.crl(7, NOW, NOW.plus(3600), [entry]).expect("a list can be made");
    let record = GrantRecord {
        format: GrantRecordFormat::GrantRecord,
        version: 1,
        grant: id.grant(),
        request: signed.clone(),
        authority: Authority::Certificate(Certified {
            evidence: Bytes(all.to_bytes()),
            certificate: Bytes(elevation.clone()),
        }),
        start: start.clone(),
        end: None,
    };
    let pin = envelope.digest;
    let slot = Slot { sequence: 1, version: 1, pin, payload: envelope.to_bytes() };
    let client_data = [approval.assertion.authenticator_data.0.clone(), approval.assertion.client_data_json.0.clone()];
    vec![
        ("request", request.to_bytes()),
        ("statements", approval.statement.0.clone()),
        ("statements", start.statement.0.clone()),
        ("grant_record", record.to_bytes()),
        ("revocation_list", list),
        ("certificate", elevation),
        ("statements", bob.possession(&verified).to_bytes()),
        ("statements", answer.to_text().into_bytes()),
        ("statements", answer.to_bytes()),
        ("statements", challenge(Purpose::Grant, &request.to_bytes()).into_bytes()),
        ("evidence", BreakGlassEvidence::new(id, [&answer, &answer]).to_bytes()),
        ("evidence", all.to_bytes()),
        ("roster", verified.roster().to_bytes()),
        ("roster", envelope.to_bytes()),
        ("wire_module", codec::encode(&submit)),
        ("wire_agent", codec::encode(&agent::AgentMessage::Ping(agent::Ping {}))),
        ("wire_reaper", codec::encode(&reaper::ReaperRequest::Watch(reaper::Watch { wire: wire::WIRE_VERSION }))),
        ("slot", slot.encode().expect("a slot encodes")),
        ("certificate", ca.certificate().to_vec()),
        ("client_data", client_data.concat()),
        ("command_line", b"-u\0alice\0-g\0disk\0systemctl\0restart\0nginx".to_vec()),
        ("command_line", b"-l".to_vec()),
        ("module_toml", b"host = 'web01'\nmax_ttl_s = 900 # seconds\n".to_vec()),
        ("escapes", "a b\u{202e}c\u{1b}[31m\n'".as_bytes().to_vec()),
    ]
}
