//! Every size, count and time limit of the protocol, in one place. Decoders check sizes before
//! they parse; a value past its limit is a typed refusal, never a truncation.

/// An elevation request, serialised, in bytes. Linux lets argv reach 2 MiB; what two people can
/// read on a phone does not.
pub const REQUEST_BYTES: usize = 64 * 1024;
/// Arguments of one command, argv\[0\] included.
pub const ARGS: usize = 1024;
/// A statement (approval, denial, roster signature), serialised, in bytes.
pub const STATEMENT_BYTES: usize = 4 * 1024;
/// A WebAuthn `clientDataJSON`, in bytes.
pub const CLIENT_DATA_BYTES: usize = 4 * 1024;
/// A WebAuthn credential id, in bytes (WebAuthn Level 3 §4: at most 1023).
pub const CREDENTIAL_ID_BYTES: usize = 1023;
/// A roster, serialised, in bytes.
pub const ROSTER_BYTES: usize = 1024 * 1024;
/// A roster with its signatures, serialised, in bytes: base64url inside, and room for the signatures
/// of some 500 persons.
pub const ROSTER_ENVELOPE_BYTES: usize = 2 * ROSTER_BYTES;
/// Entries of each short list of a roster: origins, gates, CAs, keys of one kind; logins, groups and
/// devices of one person; groups of one host; hosts, targets and approvers of one gate.
pub const ROSTER_LIST: usize = 256;
/// Roster versions in one chain that a verifier walks.
pub const ROSTER_STEPS: usize = 64;
/// Signatures of one roster version above 1.
pub const ROSTER_SIGNATURES: usize = 16;
/// Possession statements of one roster version: devices that are new in it.
pub const ROSTER_POSSESSIONS: usize = 256;
/// Roster envelopes in one frame, in bytes together: in base64url they fit [`FRAME_BYTES`].
pub const ROSTERS_BYTES: usize = 6 * 1024 * 1024;
/// Evidence, serialised, in bytes.
pub const EVIDENCE_BYTES: usize = 2 * 1024 * 1024;
/// Statements in one evidence, approvals and denials together.
pub const EVIDENCE_STATEMENTS: usize = 16;
/// A GrantRecord, serialised, in bytes: evidence in base64url, and how it ended.
pub const GRANT_RECORD_BYTES: usize = 4 * 1024 * 1024;
/// An elevation certificate, DER, in bytes.
pub const CERTIFICATE_BYTES: usize = 8 * 1024;
/// A certificate revocation list, DER, in bytes.
pub const CRL_BYTES: usize = 4 * 1024 * 1024;
/// One frame of the local and agent wires, in bytes, without its 4-byte length. Holds the largest
/// grant: evidence, certificate and CRL in base64url.
pub const FRAME_BYTES: usize = 9 * 1024 * 1024;
/// One frame before the peer is known to be root or an enrolled host.
pub const SMALL_FRAME_BYTES: usize = 256 * 1024;
/// The requester's reason, in bytes of UTF-8.
pub const REASON_BYTES: usize = 400;
/// Processes that the end of a session names, in each of its lists.
pub const PROCESS_NOTES: usize = 64;
/// A process's name there, escaped, in bytes.
pub const PROCESS_NAME_BYTES: usize = 512;
/// A typed id (person, device, host, group), in bytes.
pub const ID_BYTES: usize = 64;
/// A person's display name, in bytes of UTF-8.
pub const NAME_BYTES: usize = 100;
/// A login, user or group name of the host, in bytes (`LOGIN_NAME_MAX` is 256 on Linux).
pub const LOGIN_BYTES: usize = 255;

/// The largest integer in a signed value: the last one that every JSON reader reads exactly
/// (RFC 8259 §6), the page's included.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The smallest number of persons whose approval grants. A roster with less does not decode.
pub const MIN_QUORUM: u32 = 2;
/// The longest life of a grant, in seconds, whatever the roster says.
pub const MAX_TTL_S: u32 = 60 * 60;
/// The shortest life of a grant, in seconds.
pub const MIN_TTL_S: u32 = 1;
/// The default life of a grant, in seconds.
pub const DEFAULT_TTL_S: u32 = 15 * 60;
/// The longest time from request to the second approval, in seconds.
pub const MAX_APPROVE_BY_S: u32 = 10 * 60;
/// The default time from request to the second approval, in seconds.
pub const DEFAULT_APPROVE_BY_S: u32 = 3 * 60;
/// The shortest wait of a break-glass grant between two answers and the command, in seconds.
pub const MIN_BREAK_GLASS_DELAY_S: u32 = 10;
/// The longest such wait, in seconds.
pub const MAX_BREAK_GLASS_DELAY_S: u32 = 60 * 60;
/// The default of it, in seconds.
pub const DEFAULT_BREAK_GLASS_DELAY_S: u32 = 60;
/// The least that a roster may set as the longest life of a break-glass grant, in seconds.
pub const MIN_BREAK_GLASS_TTL_S: u32 = 60;
/// The longest life of a break-glass grant, in seconds, whatever the roster says.
pub const MAX_BREAK_GLASS_TTL_S: u32 = 15 * 60;
/// The default longest life of a break-glass grant, in seconds.
pub const DEFAULT_BREAK_GLASS_TTL_S: u32 = 10 * 60;
/// Break-glass still counts for this long after the roster's end, in seconds.
pub const BREAK_GLASS_GRACE_S: u64 = 30 * 24 * 3600;
/// The longest time from a break-glass challenge to the second answer, in seconds.
pub const BREAK_GLASS_ANSWERS_S: u32 = 60 * 60;
/// Wrong answers to one break-glass challenge.
pub const BREAK_GLASS_TRIES: u32 = 5;
/// A request that is longer than this, in bytes, is no break-glass challenge: nobody pastes it.
pub const CHALLENGE_BYTES: usize = 16 * 1024;
/// How far two clocks may differ, in seconds, before a request or certificate is refused.
pub const CLOCK_SKEW_S: u64 = 120;
/// A fresh ticket is shown this often, in seconds.
pub const TICKET_ROTATE_S: u32 = 30;
/// A ticket can be claimed for this long, in seconds.
pub const TICKET_VALID_S: u32 = 90;
/// A claim holds its slot for this long, in seconds.
pub const CLAIM_LEASE_S: u32 = 90;
/// Tries at the terminal's code for one request; the count survives everything.
pub const CODE_TRIES: u32 = 5;
/// How long a request outlives a lost agent link, in seconds.
pub const LINK_GRACE_S: u32 = 15;
/// The longest life of a roster, in seconds.
pub const MAX_ROSTER_LIFE_S: u64 = 366 * 24 * 3600;
/// The default life of a roster, in seconds.
pub const DEFAULT_ROSTER_LIFE_S: u64 = 180 * 24 * 3600;
/// Warnings begin this long before a roster's end, in seconds.
pub const ROSTER_WARN_S: u64 = 30 * 24 * 3600;
