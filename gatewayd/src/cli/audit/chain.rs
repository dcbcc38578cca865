//! The roster versions that a grant was decided under, from the one digest that the caller trusts.
//! A version counts only if its digest is the pinned one or signatures lead to it from there.

use twinlock_protocol::Digest;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::request::RosterRef;
use twinlock_protocol::roster::{RosterEnvelope, RosterError, VerifiedRoster};
use twinlock_protocol::statement::RosterStatement;

/// Why a chain is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainDoubt {
    /// There is no roster at all, or they do not follow each other.
    #[error("the rosters are not versions 1, 2, 3 ... without a gap")]
    Gap,
    /// The first one is not the pinned one, or does not verify.
    #[error("roster version {version}")]
    Step {
        /// Which.
        version: u64,
        /// Why.
        source: RosterError,
    },
}

/// Verified roster versions, lowest first; at least one.
#[derive(Debug)]
pub struct Chain {
    first: Link,
    above: Vec<Link>,
}

/// One version, and who signed it.
#[derive(Debug)]
pub struct Link {
    /// The roster.
    pub roster: VerifiedRoster,
    /// Everybody whose signature it carries; verified.
    pub signers: Vec<PersonId>,
}

impl Chain {
    /// Follows `envelopes`, version 1 first, from the pinned digest of version 1.
    ///
    /// # Errors
    /// [`ChainDoubt`], naming the first version that does not fit.
    pub fn follow(envelopes: &[RosterEnvelope], pin: &Digest) -> Result<Self, ChainDoubt> {
        let (first, above) = envelopes.split_first().ok_or(ChainDoubt::Gap)?;
        let version = |envelope: &RosterEnvelope| envelope.version;
        let step = |envelope: &RosterEnvelope, source| ChainDoubt::Step { version: version(envelope), source };
        let roster = VerifiedRoster::genesis(first, pin).map_err(|source| step(first, source))?;
        if let Some(next) = above.first() {
            return Err(step(next, RosterError::Version(next.version)));
        }
        Ok(Self { first: Link { roster, signers: signers(first) }, above: Vec::new() })
    }

    /// Every version, lowest first.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        std::iter::once(&self.first).chain(&self.above)
    }

    /// The newest version.
    #[must_use]
    pub fn head(&self) -> &VerifiedRoster {
        &self.above.last().unwrap_or(&self.first).roster
    }

    /// The version that a request names.
    #[must_use]
    pub fn named(&self, name: &RosterRef) -> Option<&VerifiedRoster> {
        let is_it = |roster: &&VerifiedRoster| roster.version == name.version && roster.digest() == name.digest;
        self.links().map(|link| &link.roster).find(is_it)
    }
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
