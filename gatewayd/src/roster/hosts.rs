//! Tokens by which a host asks to join a running gateway: one host, one pair of keys, one day. The
//! token says under which id, name and groups; the host brings only its keys (E7). What comes out is
//! a proposal: two people compare the host's words with those on its terminal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twinlock_protocol::digest::{Digest, Domain};
use twinlock_protocol::ids::{GroupName, HostId};
use twinlock_protocol::request::RosterRef;
use twinlock_protocol::roster::{Host, Roster};
use twinlock_protocol::signature::{self, PublicKey, Signature};
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime};

use super::keeper::{ChangeError, Changes, check_room};
use super::op::{Op, apply};
use super::papers::Moves;
use super::proposal::{self, PROPOSAL_VALID_S, ProposalId, Proposer};
use crate::audit::Event;
use crate::random::random;

/// A token is good for this long, in seconds.
pub const TOKEN_VALID_S: u64 = 24 * 3600;

/// Who used a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Used {
    host_key: PublicKey,
    agent_key: PublicKey,
    proposal: ProposalId,
}

/// A host token at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostToken {
    pub(super) id: Fixed<16>,
    secret: Digest,
    host: HostId,
    name: String,
    groups: Vec<GroupName>,
    /// The version that the token tells the host to pin.
    roster: RosterRef,
    until: UnixTime,
    used: Option<Used>,
}

impl HostToken {
    /// Until when its host may ask: as long as what it led to is open.
    pub(super) fn told_until(&self) -> UnixTime {
        if self.used.is_some() { self.until.plus(PROPOSAL_VALID_S) } else { self.until }
    }
}

/// A token, told once.
#[derive(Clone, Debug)]
pub struct NewHostToken {
    /// The secret; kept only as a hash.
    pub secret: Fixed<32>,
    /// The roster to pin.
    pub roster: RosterRef,
    /// Until when.
    pub until: UnixTime,
}

/// What a host that joins says: its keys, each proved by a signature over everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinHello {
    /// 1.
    pub version: u32,
    /// The token's secret.
    pub secret: Fixed<32>,
    /// The token's host.
    pub host: HostId,
    /// The key that will sign requests.
    pub host_key: PublicKey,
    /// The key of the agent's TLS client certificate.
    pub agent_key: PublicKey,
    /// By the host key.
    pub host_signature: Signature,
    /// By the agent key.
    pub agent_signature: Signature,
}

/// What the gateway answers, again and again until it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JoinAnswer {
    /// Others are to sign.
    Waiting {
        /// Signatures so far.
        signed: usize,
        /// Signatures that it takes.
        needs: usize,
    },
    /// Roster versions from the one that the token pins, lowest first; the last one of a `Sealed`
    /// names this host.
    Rosters {
        /// Envelopes.
        envelopes: Vec<Bytes>,
    },
    /// It is in the roster; every version was sent.
    Sealed {},
    /// Refused, declined or out of time.
    Refused {
        /// Why.
        reason: DenyReason,
    },
}

impl JoinHello {
    /// What both keys sign.
    #[must_use]
    pub fn message(secret: &Fixed<32>, host: &HostId, host_key: &PublicKey, agent_key: &PublicKey) -> Vec<u8> {
        let parts: [&[u8]; 5] = [&secret.0, &host_key.0, &agent_key.0, host.as_ref(), b"\0"];
        Domain::HostJoin.message(Digest::plain(&parts.concat()).as_bytes())
    }

    fn is_proved(&self) -> bool {
        let message = Self::message(&self.secret, &self.host, &self.host_key, &self.agent_key);
        self.version == 1
            && self.host_key != self.agent_key
            && signature::verify(&self.host_key, &message, &self.host_signature)
            && signature::verify(&self.agent_key, &message, &self.agent_signature)
    }
}

/// A join that waits.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The proposal.
    pub proposal: ProposalId,
    /// The version that the token pins.
    pub roster: RosterRef,
}

impl Changes {
    /// Makes a token for a host that the roster does not have.
    ///
    /// # Errors
    /// [`ChangeError`]: a host of this id or name is there, or the name does not fit.
    pub async fn host_token(
        self: &Arc<Self>,
        host: HostId,
        name: String,
        groups: Vec<GroupName>,
        uid: u32,
    ) -> Result<NewHostToken, ChangeError> {
        self.with(move |changes, mut held| async move {
            let (head, now) = (changes.engine.roster(), changes.engine.clock.now());
            let by = Proposer::Admin { uid };
            let open = held.tokens.iter().filter(|one| now < one.until && one.used.is_none());
            check_room(&by, open.map(|_| &by))?;
            // Would it be sound? Two stand-in keys, said now rather than after somebody has walked there.
            let planned = Host {
                id: host.clone(),
                name: name.clone(),
                groups: groups.clone(),
                host_key: stand_in(1),
                agent_key: stand_in(2),
            };
            apply(&head, &[Op::AddHost { host: planned }], now)?;
            let secret = Fixed(random().map_err(DenyReason::from)?);
            let roster = RosterRef { version: head.version, digest: head.digest() };
            let until = now.plus(TOKEN_VALID_S);
            let token = HostToken {
                id: Fixed(random().map_err(DenyReason::from)?),
                secret: Digest::of(Domain::HostJoin, &secret.0),
                host: host.clone(),
                name,
                groups,
                roster,
                until,
                used: None,
            };
            let mut moves = Moves::telling(Event::HostTokenMade { token: token.id, host, by_uid: uid });
            moves.tokens.push(token);
            changes.commit(&mut held, moves).await?;
            Ok(NewHostToken { secret, roster, until })
        })
        .await
    }

    /// A host asks to join. The same keys may come again; other keys, another id, or a second use are
    /// refused and audited (E7). Token and proposal are one transaction.
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`] for everything that does not fit; [`ChangeError`].
    pub async fn join(self: &Arc<Self>, hello: &JoinHello, address: &str) -> Result<Joining, ChangeError> {
        let (hello, address) = (hello.clone(), address.to_owned());
        self.with(move |changes, mut held| async move {
            let now = changes.engine.clock.now();
            let secret = Digest::of(Domain::HostJoin, &hello.secret.0);
            let found = held.tokens.iter().find(|one| one.secret == secret && one.host == hello.host);
            let mut token = HostToken::clone(found.ok_or(DenyReason::InviteInvalid)?);
            if !hello.is_proved() {
                return Err(DenyReason::InviteInvalid.into());
            }
            if let Some(used) = &token.used {
                let same = used.host_key == hello.host_key && used.agent_key == hello.agent_key;
                let joining = Joining { proposal: used.proposal, roster: token.roster };
                return if same { Ok(joining) } else { Err(DenyReason::InviteInvalid.into()) };
            }
            if now >= token.until {
                return Err(DenyReason::InviteInvalid.into());
            }
            let (host_key, agent_key) = (hello.host_key, hello.agent_key);
            let host = Host {
                id: token.host.clone(),
                name: token.name.clone(),
                groups: token.groups.clone(),
                host_key,
                agent_key,
            };
            let by = Proposer::Host { host: host.id.clone() };
            let mut moves = Moves::telling(Event::HostJoining { token: token.id, host: host.id.clone(), address });
            let ops = vec![Op::AddHost { host }];
            let proposal = changes.draw_up(&held, ops, by, None, PROPOSAL_VALID_S, &mut moves)?;
            let roster = token.roster;
            token.used = Some(Used { host_key, agent_key, proposal });
            moves.tokens.push(token);
            changes.commit(&mut held, moves).await?;
            Ok(Joining { proposal, roster })
        })
        .await
    }

    /// How far a join is; `Sealed` says nothing yet about the rosters that were sent.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`].
    pub async fn join_state(self: &Arc<Self>, joining: &Joining) -> Result<JoinAnswer, DenyReason> {
        let id = joining.proposal;
        self.with(move |changes, held| async move {
            let found = held.proposals.find(&id);
            if found.is_none() && is_in(&changes.engine.roster(), held.tokens.iter(), &id) {
                return Ok(JoinAnswer::Sealed {});
            }
            Ok(match found.map(|one| (&one.phase, &one.draft)) {
                Some((proposal::Phase::Open {}, draft)) => {
                    let draft = draft.as_ref();
                    let (signed, needs) = draft.map_or((0, 2), |draft| (draft.signatures.len(), draft.needs()));
                    JoinAnswer::Waiting { signed, needs }
                }
                Some((proposal::Phase::Sealed { .. }, _)) => JoinAnswer::Sealed {},
                Some((
                    proposal::Phase::Withdrawn {} | proposal::Phase::Expired {} | proposal::Phase::Void { .. },
                    _,
                ))
                | None => JoinAnswer::Refused { reason: DenyReason::ProposalOver },
            })
        })
        .await
    }
}

/// Whether the host that this proposal was about is in the roster: nobody is told of the proposal itself
/// any more.
fn is_in<'a>(head: &Roster, mut tokens: impl Iterator<Item = &'a Arc<HostToken>>, id: &ProposalId) -> bool {
    let Some(token) = tokens.find(|one| one.used.as_ref().is_some_and(|used| used.proposal == *id)) else {
        return false;
    };
    let keys = token.used.as_ref().map(|used| (used.host_key, used.agent_key));
    head.host(&token.host).map(|host| (host.host_key, host.agent_key)) == keys
}

/// Bytes that look like a public key, and are nobody's.
fn stand_in(byte: u8) -> PublicKey {
    let mut key = [4; 65];
    for (to, from) in key.iter_mut().skip(1).zip(Digest::plain(&[byte]).as_bytes()) {
        *to = *from;
    }
    Fixed(key)
}
