//! The roster versions that a grant was decided under, from the one digest that the caller trusts.
//! A version counts only if it has that digest, if signatures lead to it from there, or if a version
//! that counts names it as the one before.

use twinlock_protocol::Digest;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::request::RosterRef;
use twinlock_protocol::roster::{RosterEnvelope, RosterError, VerifiedRoster};
use twinlock_protocol::statement::RosterStatement;

/// Why a chain is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainDoubt {
    /// There is no roster at all.
    #[error("there is no roster")]
    Empty,
    /// None of them has the digest that the caller trusts.
    #[error("none of the rosters has the digest that you gave")]
    NotPinned,
    /// One does not fit to its neighbour.
    #[error("roster version {version}")]
    Step {
        /// Which.
        version: u64,
        /// Why.
        source: RosterError,
    },
}

/// Why a version counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// It has the digest that the caller gave. Version 1: and everybody with a device signed it.
    Pinned,
    /// People of the version before signed it, as the rules for rosters ask.
    Signed,
    /// The version after it names its digest.
    Named,
}

/// Verified roster versions, lowest first; at least one.
#[derive(Debug)]
pub struct Chain {
    links: Vec<Link>,
    head: VerifiedRoster,
}

/// One version.
#[derive(Debug)]
pub struct Link {
    /// The roster.
    pub roster: VerifiedRoster,
    /// Why it counts.
    pub vouched: Vouched,
    /// Everybody whose signature was verified.
    pub signers: Vec<PersonId>,
}

impl Chain {
    /// Follows `envelopes`, lowest version first, from the pinned digest of one of them: that of
    /// version 1, usually.
    ///
    /// # Errors
    /// [`ChainDoubt`], naming the version that does not fit.
    pub fn follow(envelopes: &[RosterEnvelope], pin: &Digest) -> Result<Self, ChainDoubt> {
        if envelopes.is_empty() {
            return Err(ChainDoubt::Empty);
        }
        let start = envelopes.iter().position(|envelope| envelope.digest == *pin).ok_or(ChainDoubt::NotPinned)?;
        let (before, rest) = envelopes.split_at(start);
        let (pinned, above) = rest.split_first().ok_or(ChainDoubt::NotPinned)?;
        let first = take(
            pinned,
            match pinned.version {
                1 => VerifiedRoster::genesis(pinned, pin),
                _ => VerifiedRoster::pinned(pinned, pin),
            },
        )?;
        let mut head = first.clone();
        let signed = if head.version == 1 { signers(pinned) } else { Vec::new() };
        let mut links = vec![Link { roster: first.clone(), vouched: Vouched::Pinned, signers: signed }];
        for envelope in above {
            head = take(envelope, head.successor(envelope))?;
            links.push(Link { roster: head.clone(), vouched: Vouched::Signed, signers: signers(envelope) });
        }
        let mut later = first;
        for envelope in before.iter().rev() {
            let digest = later.previous.ok_or(ChainDoubt::NotPinned)?;
            later = take(envelope, VerifiedRoster::pinned(envelope, &digest))?;
            links.insert(0, Link { roster: later.clone(), vouched: Vouched::Named, signers: Vec::new() });
        }
        Ok(Self { links, head })
    }

    /// Every version, lowest first.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The newest version.
    #[must_use]
    pub fn head(&self) -> &VerifiedRoster {
        &self.head
    }

    /// Versions from this one on, lowest first.
    pub fn from(&self, version: u64) -> impl Iterator<Item = &VerifiedRoster> {
        self.links.iter().map(|link| &link.roster).filter(move |roster| roster.version >= version)
    }

    /// The version that a request names.
    #[must_use]
    pub fn named(&self, name: &RosterRef) -> Option<&VerifiedRoster> {
        let is_it = |roster: &&VerifiedRoster| roster.version == name.version && roster.digest() == name.digest;
        self.links.iter().map(|link| &link.roster).find(is_it)
    }
}

fn take(envelope: &RosterEnvelope, outcome: Result<VerifiedRoster, RosterError>) -> Result<VerifiedRoster, ChainDoubt> {
    outcome.map_err(|source| ChainDoubt::Step { version: envelope.version, source })
}

/// Who signed an envelope whose signatures were verified, each person once, in their order.
fn signers(envelope: &RosterEnvelope) -> Vec<PersonId> {
    let mut persons = Vec::new();
    for signed in &envelope.signatures {
        if let Ok(statement) = RosterStatement::from_bytes(&signed.statement.0)
            && !persons.contains(&statement.person)
        {
            persons.push(statement.person);
        }
    }
    persons
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use twinlock_protocol::UnixTime;
    use twinlock_protocol::softphone::Fixture;

    /// Versions 1 to 4, each sealed by two.
    fn four() -> Vec<RosterEnvelope> {
        let mut fixture = Fixture::new(b"ca", UnixTime(1_800_000_000));
        let (first, mut head) = fixture.seal();
        let mut envelopes = vec![first];
        for (signers, ttl_s) in [(["bob", "carol"], 1800), (["carol", "dave"], 900), (["dave", "bob"], 600)] {
            let (envelope, next) = fixture.step(&head, &signers, |roster| roster.rules.max_ttl_s = ttl_s);
            envelopes.push(envelope);
            head = next;
        }
        envelopes
    }

    fn versions(chain: &Chain) -> Vec<(u64, Vouched, usize)> {
        chain.links().iter().map(|link| (link.roster.version, link.vouched.clone(), link.signers.len())).collect()
    }

    /// control: inline
    #[test]
    fn rosters_are_followed_from_whichever_of_them_is_pinned() {
        use Vouched::{Named, Pinned, Signed};
        let all = four();
        let chain = Chain::follow(&all, &all[0].digest).unwrap();
        assert_eq!(versions(&chain), [(1, Pinned, 3), (2, Signed, 2), (3, Signed, 2), (4, Signed, 2)]);
        assert_eq!(chain.head().rules.max_ttl_s, 600);
        let chain = Chain::follow(&all, &all[2].digest).unwrap();
        assert_eq!(versions(&chain), [(1, Named, 0), (2, Named, 0), (3, Pinned, 0), (4, Signed, 2)]);
        assert_eq!(chain.head().version, 4);
        let third = RosterRef { version: 3, digest: all[2].digest };
        assert_eq!(chain.named(&third).unwrap().rules.max_ttl_s, 900);
        assert!(chain.named(&RosterRef { version: 2, ..third }).is_none());

        let follow = |envelopes: &[RosterEnvelope], pin: &RosterEnvelope| {
            Chain::follow(envelopes, &pin.digest).map(|chain| chain.head().version)
        };
        assert_eq!(follow(&all[..2], &all[0]), Ok(2));
        assert_eq!(follow(&[], &all[0]), Err(ChainDoubt::Empty));
        assert_eq!(follow(&all[1..], &all[0]), Err(ChainDoubt::NotPinned));
        let gap = [all[0].clone(), all[2].clone()];
        let version = |expected, found| RosterError::Version { expected, found };
        assert_eq!(follow(&gap, &all[0]), Err(ChainDoubt::Step { version: 3, source: version(2, 3) }));
        let not_pinned = RosterError::NotPinned;
        assert_eq!(follow(&gap, &all[2]), Err(ChainDoubt::Step { version: 1, source: not_pinned.clone() }));
        // Another organisation's version 2 behind ours.
        let other = four();
        let forked = [all[0].clone(), other[1].clone()];
        let step = ChainDoubt::Step { version: 2, source: RosterError::Forked };
        assert_eq!(follow(&forked, &all[0]), Err(step));
        assert_eq!(follow(&forked, &other[1]), Err(ChainDoubt::Step { version: 1, source: not_pinned }));
        // One signature too few.
        let mut alone = all.clone();
        let _dropped = alone[1].signatures.pop();
        assert!(matches!(follow(&alone, &all[0]), Err(ChainDoubt::Step { version: 2, .. })));
    }
}
