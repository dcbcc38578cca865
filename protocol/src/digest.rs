//! SHA-256 with a domain tag before every use, so that bytes signed for one purpose never count
//! for another. A tag is ASCII text ending in one NUL byte.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::bytes::Fixed;

/// The purpose of a digest or signature. One entry per thing that is hashed or signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// An elevation request's bytes → its digest, which is also its id.
    Request,
    /// The host key's signature over a request digest.
    RequestHost,
    /// The session key's signature over a request digest.
    RequestSession,
    /// The WebAuthn challenge of an approval or a denial.
    Approval,
    /// The device key's signature over SHA-256 of an approval or denial statement.
    Device,
    /// A roster's bytes → its digest, which hosts pin.
    Roster,
    /// The WebAuthn challenge of a roster signature.
    RosterApproval,
    /// The device key's signature over SHA-256 of a roster statement.
    RosterDevice,
    /// A device record's bytes → the digest that a possession statement names.
    DeviceRecord,
    /// A device's two keys → the digest that its words are made from.
    DeviceKeys,
    /// A host's two keys → the digest that its words are made from.
    HostKeys,
    /// A break-glass key → the digest that its words are made from.
    BreakGlassKey,
    /// A holder's signature over a break-glass statement.
    BreakGlass,
    /// A drill's bytes → the digest that its statements name.
    BreakGlassDrill,
    /// An offline answer → the checksum against typing errors.
    BreakGlassAnswer,
    /// What a host that joins signs with both its keys, and under which a token's secret is kept.
    HostJoin,
    /// The WebAuthn challenge of a possession statement.
    Possession,
    /// The device key's signature over SHA-256 of a possession statement.
    PossessionDevice,
    /// The session key's signature that the session started.
    Start,
    /// Evidence's bytes → the digest that binds a certificate to them.
    Evidence,
    /// A ticket → the hash under which it is stored and which a statement names as its channel.
    Ticket,
    /// A terminal code with its salt → the commitment that the request carries.
    TerminalCode,
    /// A resume token → the hash under which it is stored.
    ResumeToken,
    /// An approver's sign-in (WebAuthn challenge).
    SignIn,
    /// The device key's silent proof that accompanies a claim.
    Claim,
}

impl Domain {
    /// The tag, ending in NUL.
    #[must_use]
    pub const fn tag(self) -> &'static [u8] {
        match self {
            Self::Request => b"twinlock/request/v1\0",
            Self::RequestHost => b"twinlock/request-host/v1\0",
            Self::RequestSession => b"twinlock/request-session/v1\0",
            Self::Approval => b"twinlock/approval/v1\0",
            Self::Device => b"twinlock/device/v1\0",
            Self::Roster => b"twinlock/roster/v1\0",
            Self::RosterApproval => b"twinlock/roster-approval/v1\0",
            Self::RosterDevice => b"twinlock/roster-device/v1\0",
            Self::DeviceRecord => b"twinlock/device-record/v1\0",
            Self::DeviceKeys => b"twinlock/device-keys/v1\0",
            Self::HostKeys => b"twinlock/host-keys/v1\0",
            Self::BreakGlassKey => b"twinlock/break-glass-key/v1\0",
            Self::BreakGlass => b"twinlock/break-glass/v1\0",
            Self::BreakGlassDrill => b"twinlock/break-glass-drill/v1\0",
            Self::BreakGlassAnswer => b"twinlock/break-glass-answer/v1\0",
            Self::HostJoin => b"twinlock/host-join/v1\0",
            Self::Possession => b"twinlock/possession/v1\0",
            Self::PossessionDevice => b"twinlock/possession-device/v1\0",
            Self::Start => b"twinlock/start/v1\0",
            Self::Evidence => b"twinlock/evidence/v1\0",
            Self::Ticket => b"twinlock/ticket/v1\0",
            Self::TerminalCode => b"twinlock/terminal-code/v1\0",
            Self::ResumeToken => b"twinlock/resume-token/v1\0",
            Self::SignIn => b"twinlock/sign-in/v1\0",
            Self::Claim => b"twinlock/claim/v1\0",
        }
    }

    /// `tag ‖ payload`: the message that a key signs for this purpose.
    #[must_use]
    pub fn message(self, payload: &[u8]) -> Vec<u8> {
        let mut message = self.tag().to_vec();
        message.extend_from_slice(payload);
        message
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub Fixed<32>);

impl Digest {
    /// `SHA-256(tag ‖ payload)`.
    #[must_use]
    pub fn of(domain: Domain, payload: &[u8]) -> Self {
        Self::of_parts(domain, &[payload])
    }

    /// `SHA-256(tag ‖ part ‖ part …)`. Parts are fixed-length but for the last.
    #[must_use]
    pub fn of_parts(domain: Domain, parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(domain.tag());
        for part in parts {
            context.update(part);
        }
        Self::finish(context)
    }

    /// SHA-256 without a tag: only where another specification says so (WebAuthn), or inside a
    /// message that has a tag of its own.
    #[must_use]
    pub fn plain(bytes: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        Self::finish(context)
    }

    fn finish(context: Context) -> Self {
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(Fixed(out))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.0
    }

    /// Lower-case hexadecimal, for people and logs.
    #[must_use]
    pub fn to_hex(&self) -> String {
        crate::base::to_hex(self.as_bytes())
    }
}
