//! Every reason to refuse, and the one table that says for each what the terminal prints, what to
//! do next, which PAM code the module returns, how an HTTP problem is named and classed, and what
//! the audit log calls it. A refusal is data; there is no other list.

use serde::{Deserialize, Serialize};

/// What the module returns to PAM's `account` (design §4, return codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PamOutcome {
    /// `PAM_PERM_DENIED`: people or rules refused.
    PermDenied,
    /// `PAM_ABORT`: cancelled, internal, unreachable.
    Abort,
}

/// What kind of refusal it is; the API maps it to an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalClass {
    /// The input breaks the protocol.
    Malformed,
    /// The rules or a person said no.
    Forbidden,
    /// The thing is not there, or not for this person to know.
    NotFound,
    /// It was, but is over.
    Gone,
    /// Another state than the one it needs.
    Conflict,
    /// Too much at once; try later.
    Limited,
    /// A part of Twinlock is missing or failed.
    Unavailable,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalRow {
    /// Stable name: the `type` of an HTTP problem after `urn:twinlock:problem:`, and the audit
    /// log's reason.
    pub name: &'static str,
    /// The terminal's line after `twinlock: error: `; lower case, no full stop.
    pub line: &'static str,
    /// The terminal's line after `twinlock: hint: `; what to do next.
    pub hint: &'static str,
    /// The module's return code.
    pub pam: PamOutcome,
    /// The kind of refusal.
    pub class: RefusalClass,
    /// Evidence that should have verified did not: audited as an attack.
    pub attack: bool,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $pam:ident, $class:ident, $attack:literal, $line:literal, $hint:literal;)*) => {
        /// Why something was refused. Closed: every part of Twinlock speaks in these words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[must_use]
        pub enum DenyReason {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl DenyReason {
            /// Every reason, for tests and tables.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// This reason's row.
            #[must_use]
            pub const fn row(self) -> RefusalRow {
                match self {
                    $(Self::$variant => RefusalRow {
                        name: $name, line: $line, hint: $hint,
                        pam: PamOutcome::$pam, class: RefusalClass::$class, attack: $attack,
                    },)*
                }
            }
        }
    };
}

reasons! {
    // People and time.
    /// An approver signed a denial.
    Denied = "denied", PermDenied, Gone, false, "denied", "ask the approver on another channel before you try again";
    /// Approve-by passed.
    Expired = "expired", PermDenied, Gone, false, "nobody answered in time", "tell two approvers first, then run the command again";
    /// The requester gave up, hung up, or vanished.
    Cancelled = "cancelled", Abort, Gone, false, "given up", "run the command again when you are ready";
    /// An administrator or the requester revoked it.
    Revoked = "revoked", PermDenied, Gone, false, "revoked", "run the command again to ask anew";

    // Who may ask.
    /// A login name maps to nobody in the roster.
    RequesterUnknown = "requester-unknown", PermDenied, Forbidden, false, "this login is not a person of the roster", "ask an administrator to add it to the roster";
    /// The person may not ask, or is suspended.
    RequesterMayNotAsk = "requester-may-not-ask", PermDenied, Forbidden, false, "this person may not ask for elevation", "ask an administrator about the roster entry";
    /// No gate of the roster covers this host and target.
    NoGate = "no-gate", PermDenied, Forbidden, false, "no rule of the roster covers this host and target", "ask an administrator to add a gate for it";
    /// Fewer people can approve than the quorum asks for.
    TooFewApprovers = "too-few-approvers", PermDenied, Forbidden, false, "fewer than two people can approve this request", "ask an administrator to enrol more approvers";
    /// The PAM service is not one that Twinlock knows.
    ServiceUnknown = "service-unknown", PermDenied, Forbidden, false, "twinlock does not know this PAM service", "use sudo or su, or remove the twinlock lines from this service";
    /// The command line could not be read well enough to know the target.
    NotUnderstood = "not-understood", PermDenied, Forbidden, false, "the command line was not understood", "write options apart (-u root -- command) and try again";
    /// argv or reason are longer than people can read.
    TooLong = "too-long", PermDenied, Malformed, false, "the command line is too long to be approved", "put it into a script and elevate the script";
    /// There is nobody to show the request to.
    NoTerminal = "no-terminal", Abort, Forbidden, false, "no terminal to show the request on", "run it from a terminal";
    /// A reason is mandatory and none could be asked for.
    ReasonMissing = "reason-missing", PermDenied, Forbidden, false, "a reason is required and could not be asked for", "run it from a terminal, without -n and -S";
    /// Too many requests.
    RateLimited = "rate-limited", PermDenied, Limited, false, "too many requests", "wait and try again";

    // Requests that break the protocol.
    /// The request does not decode.
    RequestMalformed = "request-malformed", Abort, Malformed, true, "the request was malformed", "check that module, agent and gateway have the same version";
    /// The request is not signed by its host's key or its session key.
    RequestSignature = "request-signature", Abort, Forbidden, true, "the request is not signed by this host", "check /etc/twinlock/host.key against the roster";
    /// The host is not in the roster, or is another one than the agent's.
    HostUnknown = "host-unknown", Abort, Forbidden, true, "this host is not in the roster", "enrol it with twinlock host join";
    /// The request names another roster than the verifier's.
    RosterMismatch = "roster-mismatch", Abort, Conflict, false, "host and gateway have different rosters", "run twinlock host join again, or wait for the roster to arrive";
    /// The roster is past its end.
    RosterExpired = "roster-expired", PermDenied, Forbidden, false, "the roster has expired", "renew it with two signatures";
    /// The roster does not verify.
    RosterUnsound = "roster-unsound", Abort, Forbidden, true, "the roster on this host does not verify", "restore it with twinlock host join";
    /// A roster that came with the approvals does not follow from the pinned one.
    RosterChain = "roster-chain", PermDenied, Forbidden, true, "the approvals came with a roster that does not follow from this host's", "tell your security team: the gateway sent what it should not";
    /// A newer roster could not be stored.
    RosterNotStored = "roster-not-stored", Abort, Unavailable, false, "a newer roster could not be stored on this host", "check the disk under /var/lib/twinlock";
    /// A request kind or scope that this version does not grant.
    KindUnsupported = "kind-unsupported", PermDenied, Forbidden, false, "this kind of request is not supported", "update twinlock on all machines";
    /// The clocks of host and gateway differ too much.
    ClockSkew = "clock-skew", Abort, Conflict, false, "the clocks of this host and the gateway differ by more than two minutes", "set the clock, then try again";
    /// The same request was sent twice.
    RequestRepeated = "request-repeated", Abort, Conflict, true, "this request was already made", "run the command again";

    // Evidence.
    /// Evidence or a statement does not decode.
    EvidenceMalformed = "evidence-malformed", PermDenied, Malformed, true, "the approvals were malformed", "tell your security team: the gateway sent what it should not";
    /// A statement answers another request.
    EvidenceOtherRequest = "evidence-other-request", PermDenied, Forbidden, true, "an approval is for another request", "tell your security team: the gateway sent what it should not";
    /// A statement names a credential, person or device that the roster does not have.
    ApproverUnknown = "approver-unknown", PermDenied, Forbidden, true, "an approval is by nobody in the roster", "tell your security team: the gateway sent what it should not";
    /// The approver is the requester, or owns the requesting service.
    ApproverIsRequester = "approver-is-requester", PermDenied, Forbidden, true, "the requester cannot approve", "two other people must approve";
    /// The approver is not in a group that may approve this, or is suspended.
    ApproverNotEligible = "approver-not-eligible", PermDenied, Forbidden, true, "an approver is not eligible for this host and target", "ask somebody who is";
    /// The device is weaker than the roster's floor.
    AssuranceTooLow = "assurance-too-low", PermDenied, Forbidden, true, "an approver's device is below the roster's assurance floor", "approve with a stronger device";
    /// The device's authenticator model is not on the roster's list.
    ModelNotListed = "model-not-listed", PermDenied, Forbidden, true, "an approver's authenticator model is not on the roster's list", "approve with a listed model, or list this one with two signatures";
    /// Both approvals are by one person.
    SamePerson = "same-person", PermDenied, Forbidden, true, "both approvals are by one person", "a second person must approve";
    /// Both approvals are by one device or key.
    SameDevice = "same-device", PermDenied, Forbidden, true, "both approvals are by one device", "approve from two devices";
    /// Both approvals come from one client class, where two are asked for.
    SameClientClass = "same-client-class", PermDenied, Forbidden, true, "both approvals come from one kind of client", "approve once from the page and once from a terminal";
    /// There are not two approvals.
    TooFewApprovals = "too-few-approvals", PermDenied, Forbidden, true, "there are not two approvals", "tell your security team: the gateway sent what it should not";
    /// A denial is among the statements of what is said to be a grant.
    DenialPresent = "denial-present", PermDenied, Gone, true, "an approver denied this request", "ask the approver on another channel before you try again";
    /// The device signature is missing, superfluous or wrong.
    DeviceSignature = "device-signature", PermDenied, Forbidden, true, "an approval's device signature does not verify", "enrol the device again";
    /// The assertion does not decode.
    AssertionMalformed = "assertion-malformed", PermDenied, Malformed, true, "an approval's passkey assertion is malformed", "try another browser";
    /// `type` is not `webauthn.get`.
    AssertionType = "assertion-type", PermDenied, Forbidden, true, "an approval's passkey assertion has the wrong type", "tell your security team";
    /// The challenge is not made from the statement.
    AssertionChallenge = "assertion-challenge", PermDenied, Forbidden, true, "an approval's passkey assertion is for something else", "tell your security team";
    /// The origin is not one of the roster's, or the page was framed.
    AssertionOrigin = "assertion-origin", PermDenied, Forbidden, true, "an approval was made on another site", "tell your security team: somebody imitates the gateway";
    /// rpIdHash is another site's.
    AssertionRpId = "assertion-rp-id", PermDenied, Forbidden, true, "an approval's passkey belongs to another site", "tell your security team";
    /// UP=0.
    AssertionUserPresence = "assertion-user-presence", PermDenied, Forbidden, true, "an approval was made without a person present", "tell your security team";
    /// UV=0.
    AssertionUserVerification = "assertion-user-verification", PermDenied, Forbidden, true, "an approval was made without verifying the person", "use a passkey with fingerprint, face or PIN";
    /// BE differs from enrolment, or BS=1 with BE=0.
    AssertionBackup = "assertion-backup", PermDenied, Forbidden, true, "an approval's passkey changed its backup state", "enrol the passkey again";
    /// The signature is wrong.
    AssertionSignature = "assertion-signature", PermDenied, Forbidden, true, "an approval's passkey signature does not verify", "tell your security team";

    // Certificate.
    /// The certificate or its chain does not verify.
    CertificateInvalid = "certificate-invalid", PermDenied, Forbidden, true, "the certificate does not verify", "tell your security team: the gateway sent what it should not";
    /// The certificate is for another key, request, host or evidence.
    CertificateOther = "certificate-other", PermDenied, Forbidden, true, "the certificate is for another request", "tell your security team: the gateway sent what it should not";
    /// The certificate is not valid now, or for too long.
    CertificateTime = "certificate-time", PermDenied, Forbidden, false, "the certificate is not valid at this time", "check the clocks of this host and the gateway";
    /// The certificate is on its CA's revocation list.
    CertificateRevoked = "certificate-revoked", PermDenied, Gone, false, "the certificate is revoked", "run the command again to ask anew";
    /// The revocation list is missing, stale, foreign or older than one already seen.
    CrlInvalid = "crl-invalid", PermDenied, Forbidden, true, "the revocation list does not verify or is out of date", "check the gateway and the clocks";

    // Break-glass.
    /// An offline answer does not verify.
    BreakGlassAnswer = "break-glass-answer", PermDenied, Forbidden, false, "no two break-glass answers that verify", "each holder signs this very challenge with twinlock approve --offline";
    /// A key that was used is still in the roster.
    BreakGlassKeysStand = "break-glass-keys-stand", PermDenied, Conflict, false, "the break-glass keys that were used are still in the roster", "twinlock break-glass key remove, sealed by two people, first";

    // Sessions.
    /// `open_session` has no grant in this handle.
    NoGrant = "no-grant", PermDenied, Forbidden, false, "no approval for this session", "run the command through sudo or su";
    /// `open_session` is for another target than the one approved.
    TargetDiffers = "target-differs", PermDenied, Forbidden, true, "this session is for another user than the one approved", "write options apart (-u root -- command) and try again";
    /// The grant's deadline has passed.
    GrantOver = "grant-over", PermDenied, Gone, false, "the grant is over", "run the command again to ask anew";
    /// The host could not write the record of the grant.
    RecordFailed = "record-failed", PermDenied, Unavailable, false, "the record of this grant could not be written", "free space under /var/lib/twinlock, then try again";
    /// The session could not be contained.
    ContainmentFailed = "containment-failed", PermDenied, Unavailable, false, "the session could not be contained", "check that twinlock-reaper runs and that cgroup v2 is mounted";

    // Parts that are missing.
    /// The agent cannot be reached, or is not who it should be.
    AgentUnavailable = "agent-unavailable", Abort, Unavailable, false, "the twinlock agent on this host does not answer", "systemctl status twinlock-agent";
    /// The reaper cannot be reached, or is not who it should be.
    ReaperUnavailable = "reaper-unavailable", PermDenied, Unavailable, false, "the twinlock reaper on this host does not answer", "systemctl status twinlock-reaper";
    /// No gateway can be reached.
    GatewayUnavailable = "gateway-unavailable", Abort, Unavailable, false, "no twinlock gateway can be reached", "check the network, then try again";
    /// A peer speaks another wire version, or breaks it.
    WireMismatch = "wire-mismatch", Abort, Unavailable, false, "module, agent and gateway do not understand each other", "update twinlock on all machines";
    /// The configuration cannot be used.
    ConfigInvalid = "config-invalid", Abort, Unavailable, false, "the twinlock configuration on this host cannot be used", "see /etc/twinlock/module.toml and the system log";
    /// A fault of ours.
    Internal = "internal", Abort, Unavailable, false, "internal error", "see the system log";

    // The page.
    /// No such ticket, or not for this person.
    TicketUnknown = "ticket-unknown", PermDenied, NotFound, false, "this code is not valid", "scan the code that the terminal shows now";
    /// The ticket is past its time or already used.
    TicketOver = "ticket-over", PermDenied, Gone, false, "this code is no longer valid", "scan the code that the terminal shows now";
    /// Somebody else holds the slot.
    SlotTaken = "slot-taken", PermDenied, Conflict, false, "somebody else is answering this one", "scan the next code that the terminal shows";
    /// The claim's 90 seconds are over.
    ClaimOver = "claim-over", PermDenied, Gone, false, "the time to answer is over", "scan the code that the terminal shows now";
    /// The terminal's code is wrong.
    CodeWrong = "code-wrong", PermDenied, Forbidden, false, "the code is wrong", "ask the requester for the six digits on the terminal";
    /// Five wrong codes.
    CodeExhausted = "code-exhausted", PermDenied, Gone, true, "too many wrong codes", "the requester must ask anew";
    /// No sign-in, or an old one.
    SignInNeeded = "sign-in-needed", PermDenied, Forbidden, false, "sign in first", "sign in with your passkey";
    /// This person has already approved this request.
    AlreadyApproved = "already-approved", PermDenied, Conflict, false, "you have already approved this request", "a second person must approve";
    /// The request is no longer waiting.
    NotPending = "not-pending", PermDenied, Gone, false, "this request is no longer waiting", "nothing to do";
    /// A request from another site, or without what our page sends.
    CrossSite = "cross-site", PermDenied, Forbidden, true, "this request did not come from our page", "open the page itself";
    /// The enrolment link is wrong, used or over.
    InviteInvalid = "invite-invalid", PermDenied, NotFound, false, "this link is not valid", "ask for a new link";
    /// The enrolment's passkey answer does not verify.
    EnrolmentRefused = "enrolment-refused", PermDenied, Forbidden, false, "this passkey cannot be enrolled", "use a passkey with fingerprint, face or PIN on this device";
    /// Another browser opened the enrolment link first.
    InviteOpened = "invite-opened", PermDenied, Gone, true, "this link was opened on another phone", "if that was not you, tell the person who invited you: somebody else has the link";
    /// The proposal is sealed, declined or out of time.
    ProposalOver = "proposal-over", PermDenied, Gone, false, "this change is no longer open", "nothing to do";
    /// The roster moved, and the proposal with it: what was signed is not what it says now.
    ProposalChanged = "proposal-changed", PermDenied, Conflict, false, "the roster has changed meanwhile", "read the change again, then sign";
    /// The roster that would come out breaks a rule.
    ProposalUnsound = "proposal-unsound", PermDenied, Forbidden, false, "the roster does not allow this change", "two people must be able to approve afterwards, and nothing may appear twice";
    /// The thing does not exist, or is not for this person.
    NotFound = "not-found", PermDenied, NotFound, false, "not found", "check the address";
    /// The input breaks the API.
    BadInput = "bad-input", PermDenied, Malformed, false, "the input is not as the page sends it", "reload the page";
    /// The store refused; nothing was changed.
    StoreFailed = "store-failed", Abort, Unavailable, false, "the gateway could not write its record", "check the gateway's disk";
}

impl std::fmt::Display for DenyReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row().line)
    }
}

impl std::error::Error for DenyReason {}
