//! The roster chain as this gateway knows it: the head, by which everything is decided, and the
//! versions before it that requests under way were made under. Swapped in one piece when a version
//! is sealed; whoever holds a head finishes with it, and is asked again under the next.

use std::sync::{Arc, PoisonError, RwLock};

use twinlock_protocol::limits;
use twinlock_protocol::request::RosterRef;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};

/// One verified version with the envelope that it came in.
#[derive(Clone, Debug)]
pub struct Link {
    /// The roster.
    pub roster: Arc<VerifiedRoster>,
    /// Its envelope.
    pub envelope: Arc<RosterEnvelope>,
}

impl Link {
    /// Joins both.
    #[must_use]
    pub fn new(roster: VerifiedRoster, envelope: RosterEnvelope) -> Self {
        Self { roster: Arc::new(roster), envelope: Arc::new(envelope) }
    }

    /// How requests name it.
    #[must_use]
    pub fn reference(&self) -> RosterRef {
        RosterRef { version: self.roster.version, digest: self.roster.digest() }
    }
}

/// Consecutive versions, lowest first; never empty.
#[derive(Clone, Debug)]
pub struct Chain {
    before: Vec<Link>,
    head: Link,
}

impl Chain {
    /// The newest version.
    #[must_use]
    pub fn head(&self) -> &Link {
        &self.head
    }

    /// A version by the name that requests give it.
    #[must_use]
    pub fn find(&self, reference: &RosterRef) -> Option<&Link> {
        self.links().find(|link| link.reference() == *reference)
    }

    /// Versions above this one, lowest first; none when memory does not reach back that far.
    #[must_use]
    pub fn above(&self, version: u64) -> Option<Vec<Arc<RosterEnvelope>>> {
        let reaches = self.links().next().is_some_and(|oldest| oldest.roster.version <= version.saturating_add(1));
        reaches.then(|| {
            let newer = self.links().filter(|link| link.roster.version > version);
            newer.map(|link| Arc::clone(&link.envelope)).collect()
        })
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        self.before.iter().chain([&self.head])
    }
}

/// The chain, swappable.
#[derive(Debug)]
pub struct Rosters(RwLock<Arc<Chain>>);

impl Rosters {
    /// Begins with the oldest version that is kept.
    #[must_use]
    pub fn new(oldest: Link) -> Self {
        Self(RwLock::new(Arc::new(Chain { before: Vec::new(), head: oldest })))
    }

    /// The chain as it is now.
    #[must_use]
    pub fn chain(&self) -> Arc<Chain> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The head as it is now.
    #[must_use]
    pub fn head(&self) -> Arc<VerifiedRoster> {
        Arc::clone(&self.chain().head.roster)
    }

    /// Adds the next version. The caller has verified that it follows the head; anything else is
    /// left out, so that the chain in memory has no gap.
    pub fn push(&self, next: Link) {
        let mut chain = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if next.roster.previous != Some(chain.head.roster.digest()) {
            tracing::error!(version = next.roster.version, "a roster that does not follow the head was left out");
            return;
        }
        let mut before = chain.before.clone();
        before.push(chain.head.clone());
        let surplus = before.len().saturating_sub(limits::ROSTER_STEPS);
        before.drain(..surplus);
        *chain = Arc::new(Chain { before, head: next });
    }
}
