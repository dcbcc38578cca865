//! Tokens by which a host asks to join a running gateway: one host, one pair of keys, one day. The
//! token says under which id, name and groups; the host brings only its keys (E7). What comes out is
//! a proposal: two people compare the host's words with those on its terminal.

use serde::{Deserialize, Serialize};
use twinlock_protocol::digest::{Digest, Domain};
use twinlock_protocol::ids::{GroupName, HostId};
use twinlock_protocol::request::RosterRef;
use twinlock_protocol::roster::Host;
use twinlock_protocol::signature::{self, PublicKey, Signature};
use twinlock_protocol::{Bytes, DenyReason, Fixed, UnixTime, codec};

use super::keeper::{ChangeError, Changes, Kept, LINGER_S};
use super::op::{Op, apply};
use super::proposal::{self, PROPOSAL_VALID_S, ProposalId, Proposer};
use crate::audit::Event;
use crate::random::random;
use crate::store::{LifeChange, PaperKind, PaperRow};

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
    id: Fixed<16>,
    secret: Digest,
    host: HostId,
    name: String,
    groups: Vec<GroupName>,
    /// The version that the token tells the host to pin.
    roster: RosterRef,
    pub(super) until: UnixTime,
    used: Option<Used>,
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
        &self,
        host: HostId,
        name: String,
        groups: Vec<GroupName>,
        uid: u32,
    ) -> Result<NewHostToken, ChangeError> {
        let mut held = self.held().await?;
        let (head, now) = (self.engine.roster(), self.engine.clock.now());
        Self::check_room(held.tokens.iter().filter(|one| now < one.value.until && one.value.used.is_none()).count())?;
        // Would it be sound? Two stand-in keys, said now rather than after somebody has walked there.
        let stand_in = |byte: u8| {
            let mut key = [4; 65];
            for (to, from) in key.iter_mut().skip(1).zip(Digest::plain(&[byte]).as_bytes()) {
                *to = *from;
            }
            Fixed(key)
        };
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
        let mut kept = Kept::new(HostToken {
            id: Fixed(random().map_err(DenyReason::from)?),
            secret: Digest::of(Domain::HostJoin, &secret.0),
            host: host.clone(),
            name,
            groups,
            roster,
            until,
            used: None,
        });
        let made = Event::HostTokenMade { token: kept.value.id, host, by_uid: uid };
        self.commit(vec![paper(&kept)], vec![made]).await?;
        kept.revision = Some(0);
        held.tokens.push(kept);
        Ok(NewHostToken { secret, roster, until })
    }

    /// A host asks to join. The same keys may come again; other keys, another id, or a second use are
    /// refused and audited (E7).
    ///
    /// # Errors
    /// [`DenyReason::InviteInvalid`] for everything that does not fit; [`ChangeError`].
    pub async fn join(&self, hello: &JoinHello, address: &str) -> Result<Joining, ChangeError> {
        let mut held = self.held().await?;
        let now = self.engine.clock.now();
        let secret = Digest::of(Domain::HostJoin, &hello.secret.0);
        let found = held.tokens.iter().position(|one| one.value.secret == secret && one.value.host == hello.host);
        let index = found.ok_or(DenyReason::InviteInvalid)?;
        let mut next = held.tokens.get(index).cloned().ok_or(DenyReason::Internal)?;
        if !hello.is_proved() {
            return Err(DenyReason::InviteInvalid.into());
        }
        if let Some(used) = &next.value.used {
            let same = used.host_key == hello.host_key && used.agent_key == hello.agent_key;
            let joining = Joining { proposal: used.proposal, roster: next.value.roster };
            return if same { Ok(joining) } else { Err(DenyReason::InviteInvalid.into()) };
        }
        if now >= next.value.until {
            return Err(DenyReason::InviteInvalid.into());
        }
        let host = Host {
            id: next.value.host.clone(),
            name: next.value.name.clone(),
            groups: next.value.groups.clone(),
            host_key: hello.host_key,
            agent_key: hello.agent_key,
        };
        let by = Proposer::Host { host: host.id.clone() };
        let asked = Event::HostJoining { token: next.value.id, host: host.id.clone(), address: address.to_owned() };
        let ops = vec![Op::AddHost { host }];
        let proposal = self.propose_in(&mut held, ops, by, PROPOSAL_VALID_S, Vec::new(), vec![asked]).await?;
        next.value.used = Some(Used { host_key: hello.host_key, agent_key: hello.agent_key, proposal });
        self.commit(vec![paper(&next)], Vec::new()).await?;
        next.revision = Some(next.revision.map_or(0, |revision| revision.saturating_add(1)));
        let roster = next.value.roster;
        if let Some(kept) = held.tokens.get_mut(index) {
            *kept = next;
        }
        Ok(Joining { proposal, roster })
    }

    /// How far a join is; `Sealed` says nothing yet about the rosters that were sent.
    ///
    /// # Errors
    /// [`DenyReason::StoreFailed`].
    pub async fn join_state(&self, joining: &Joining) -> Result<JoinAnswer, DenyReason> {
        let held = self.held().await?;
        let found = held.proposals.iter().find(|one| one.value.id == joining.proposal);
        Ok(match found.map(|one| (&one.value.phase, &one.value.draft)) {
            Some((proposal::Phase::Open {}, draft)) => {
                let (signed, needs) = draft.as_ref().map_or((0, 2), |draft| (draft.signatures.len(), draft.needs()));
                JoinAnswer::Waiting { signed, needs }
            }
            Some((proposal::Phase::Sealed { .. }, _)) => JoinAnswer::Sealed {},
            Some((proposal::Phase::Withdrawn {} | proposal::Phase::Expired {} | proposal::Phase::Void { .. }, _))
            | None => JoinAnswer::Refused { reason: DenyReason::ProposalOver },
        })
    }
}

fn paper(kept: &Kept<HostToken>) -> LifeChange {
    let Kept { value, revision } = kept;
    LifeChange::Paper(PaperRow {
        kind: PaperKind::HostToken,
        id: value.id,
        replaces: *revision,
        // One that is used still answers its own host.
        is_over: false,
        until: value.until.plus(LINGER_S),
        body: Bytes(codec::encode(value)),
    })
}
