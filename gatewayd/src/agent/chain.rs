//! The rosters that this host may not have yet: what the gateway handed over, step by step above the
//! version in the slots, for the modules to ask for. The agent verifies each step, which saves the
//! modules the trouble and tells it which gateways the people's signatures vouch for; nobody
//! believes it, and it never writes a slot.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use twinlock_protocol::bytes::{Bytes, Fixed};
use twinlock_protocol::limits;
use twinlock_protocol::roster::{RosterEnvelope, VerifiedRoster};
use twinlock_protocol::slots::{HEADER_BYTES, ROSTER_SLOTS, Slot, SlotHeader};
use twinlock_protocol::wire::module::Rosters;

/// What is kept above the pinned version, in bytes: beyond it the oldest wait until a module has
/// pinned them.
const KEPT_BYTES: usize = 64 * 1024 * 1024;

/// The pinned roster and what follows it.
#[derive(Debug)]
pub struct Chain {
    slots: PathBuf,
    pinned: Option<VerifiedRoster>,
    /// The last of `steps`, where there are any.
    head: Option<VerifiedRoster>,
    steps: Vec<(u64, Bytes)>,
}

impl Chain {
    /// Reads the slots. Where they can't be read, there is nothing to follow from, and modules have
    /// to learn of newer rosters from evidence alone.
    #[must_use]
    pub fn load(slots: PathBuf) -> Self {
        let mut chain = Self { slots, pinned: None, head: None, steps: Vec::new() };
        chain.look_again();
        if chain.pinned.is_none() {
            tracing::warn!(slots = %chain.slots.display(), "the pinned roster cannot be read");
        }
        chain
    }

    /// Reads the slots again: a module may have pinned a newer version, or an administrator another
    /// chain.
    pub fn look_again(&mut self) {
        let Some(pinned) = read(&self.slots) else { return };
        let version = pinned.version;
        if self.head.as_ref().is_none_or(|head| !head.descends_from(&pinned.reference())) {
            self.head = None;
            self.steps.clear();
        }
        self.steps.retain(|(step, _)| *step > version);
        if self.steps.is_empty() {
            self.head = None;
        }
        self.pinned = Some(pinned);
    }

    /// The version in the slots; 0 where they can't be read.
    #[must_use]
    pub fn pinned(&self) -> u64 {
        self.pinned.as_ref().map_or(0, |pinned| pinned.version)
    }

    /// Takes what follows; what does not changes nothing.
    pub fn take(&mut self, rosters: &Rosters) {
        for bytes in &rosters.envelopes {
            let Some(head) = self.head.as_ref().or(self.pinned.as_ref()) else { return };
            let kept: usize = self.steps.iter().map(|(_, bytes)| bytes.0.len()).sum();
            let next = match RosterEnvelope::from_bytes(&bytes.0) {
                Ok(envelope) if envelope.version <= head.version => continue,
                Ok(_) if kept > KEPT_BYTES => return,
                Ok(envelope) => head.successor(&envelope).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match next {
                Ok(next) => {
                    tracing::info!(version = next.version, digest = %next.digest().to_hex(), "a newer roster");
                    self.steps.push((next.version, bytes.clone()));
                    self.head = Some(next);
                }
                Err(error) => {
                    tracing::error!(error, "the gateway sent a roster that does not follow from this host's");
                    return;
                }
            }
        }
    }

    /// What a module that pins version `above` does not have, as much as one answer holds.
    pub fn above(&mut self, above: u64) -> Rosters {
        if above > self.pinned() {
            self.look_again();
        }
        let mut room = limits::ROSTERS_BYTES;
        let newer = self.steps.iter().filter(|(version, _)| *version > above).take(limits::ROSTER_STEPS);
        let fits = newer.take_while(|(_, bytes)| {
            let fits = bytes.0.len() <= room;
            room = room.saturating_sub(bytes.0.len());
            fits
        });
        Rosters { envelopes: fits.map(|(_, bytes)| bytes.clone()).collect() }
    }

    /// What a gateway that has no more than version `above` lost: from the slots, which hold the pinned
    /// version and the one before, and from what other gateways handed over.
    #[must_use]
    pub fn for_gateway(&self, above: u64) -> Vec<Bytes> {
        let mut found: BTreeMap<u64, Bytes> = ROSTER_SLOTS
            .iter()
            .filter_map(|name| read_slot(&self.slots.join(name)))
            .map(|slot| (slot.version, Bytes(slot.payload)))
            .collect();
        found.extend(self.steps.iter().cloned());
        found.into_iter().filter(|(version, _)| *version > above).map(|(_, bytes)| bytes).collect()
    }

    /// Whether the newest roster lists a gateway with this key.
    #[must_use]
    pub fn lists_gateway(&self, key: &Fixed<32>) -> bool {
        self.newest().is_some_and(|roster| roster.gateways.iter().any(|gateway| gateway.key.0 == *key))
    }

    /// The gateways of the newest roster.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let addresses = |roster: &VerifiedRoster| roster.gateways.iter().map(|one| one.address.clone()).collect();
        self.newest().map(addresses).unwrap_or_default()
    }

    fn newest(&self) -> Option<&VerifiedRoster> {
        self.head.as_ref().or(self.pinned.as_ref())
    }
}

/// The newest slot's roster.
pub fn read(directory: &Path) -> Option<VerifiedRoster> {
    let mut slots: Vec<Slot> = ROSTER_SLOTS.iter().filter_map(|name| read_slot(&directory.join(name))).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.sequence));
    slots.iter().find_map(|slot| {
        let envelope = RosterEnvelope::from_bytes(&slot.payload).ok()?;
        VerifiedRoster::pinned(&envelope, &slot.pin).ok()
    })
}

fn read_slot(path: &Path) -> Option<Slot> {
    let mut file = File::open(path).ok()?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).ok()?;
    let header = SlotHeader::decode(&header).ok()?;
    let mut payload = Vec::new();
    file.take(header.payload_bytes() as u64).read_to_end(&mut payload).ok()?;
    header.with_payload(payload).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use twinlock_protocol::roster::GatewayEntry;
    use twinlock_protocol::softphone::Fixture;
    use twinlock_protocol::{Digest, UnixTime};

    use super::*;

    struct Host {
        dir: tempfile::TempDir,
        fixture: Fixture,
        heads: Vec<(RosterEnvelope, VerifiedRoster)>,
    }

    impl Host {
        /// A host that pins version 1 of a chain with `steps` more versions, each with one more
        /// gateway.
        fn new(steps: u8) -> Self {
            let mut fixture = Fixture::new(b"ca", UnixTime(1_800_000_000));
            let mut heads = vec![fixture.seal()];
            for step in 0..steps {
                let head = heads.last().unwrap().1.clone();
                heads.push(fixture.step(&head, &["bob", "carol"], |roster| {
                    let address = format!("gw{step}.example.org:7443");
                    roster.gateways.push(GatewayEntry { address, key: Digest(Fixed([step; 32])) });
                }));
            }
            let host = Self { dir: tempfile::tempdir().unwrap(), fixture, heads };
            host.pin(0, 1);
            host
        }

        fn pin(&self, which: usize, sequence: u64) {
            let (envelope, roster) = &self.heads[which];
            let slot = Slot { sequence, version: roster.version, pin: roster.digest(), payload: envelope.to_bytes() };
            let name = ROSTER_SLOTS[usize::from(sequence.is_multiple_of(2))];
            std::fs::write(self.dir.path().join(name), slot.encode().unwrap()).unwrap();
        }

        fn chain(&self) -> Chain {
            Chain::load(self.dir.path().to_owned())
        }

        fn rosters(&self, which: impl IntoIterator<Item = usize>) -> Rosters {
            let bytes = |at: usize| Bytes(self.heads[at].0.to_bytes());
            Rosters { envelopes: which.into_iter().map(bytes).collect() }
        }
    }

    #[test]
    fn modules_are_given_what_is_above_their_own() {
        let host = Host::new(3);
        let mut chain = host.chain();
        assert_eq!(chain.pinned(), 1);
        assert_eq!(chain.above(1), host.rosters([]));
        chain.take(&host.rosters(1..4));
        assert_eq!(chain.above(1), host.rosters(1..4));
        assert_eq!(chain.above(3), host.rosters([3]));
        // Told again, nothing changes.
        chain.take(&host.rosters(0..4));
        assert_eq!(chain.above(1), host.rosters(1..4));
        // A module pins one of them meanwhile.
        host.pin(2, 2);
        assert_eq!(chain.above(3), host.rosters([3]));
        assert_eq!((chain.pinned(), chain.above(1)), (3, host.rosters([3])));
        chain.look_again();
        assert!(chain.lists_gateway(&Fixed([2; 32])));
    }

    #[test]
    fn a_gateway_counts_when_the_newest_roster_lists_it() {
        let host = Host::new(1);
        let mut chain = host.chain();
        assert!(!chain.lists_gateway(&Fixed([0; 32])));
        chain.take(&host.rosters([1]));
        assert!(chain.lists_gateway(&Fixed([0; 32])));
        assert_eq!(chain.addresses(), ["gw0.example.org:7443"]);
        assert!(!chain.lists_gateway(&Fixed([1; 32])));
    }

    /// Catalogue: I2 (control: modules_are_given_what_is_above_their_own)
    #[test]
    fn what_does_not_follow_changes_nothing() {
        let host = Host::new(3);
        let foreign = Host::new(2);
        let self_made = {
            let next = Fixture::next(&host.heads[0].1, |roster| roster.rules.max_ttl_s = 60);
            Bytes(host.fixture.envelope(&host.heads[0].1, &next, &["bob"]).to_bytes())
        };
        for (what, rosters) in [
            ("skipped", host.rosters([2])),
            ("of another chain", foreign.rosters([1])),
            ("by one person", Rosters { envelopes: vec![self_made] }),
            ("not one", Rosters { envelopes: vec![Bytes(b"{}".to_vec())] }),
        ] {
            let mut chain = host.chain();
            chain.take(&rosters);
            assert_eq!(chain.above(0), host.rosters([]), "{what}");
            chain.take(&host.rosters(1..4));
            assert_eq!(chain.above(1), host.rosters(1..4), "{what}");
        }
    }

    #[test]
    fn without_slots_nothing_is_kept() {
        let host = Host::new(1);
        let empty = tempfile::tempdir().unwrap();
        let mut chain = Chain::load(empty.path().to_owned());
        chain.take(&host.rosters([0, 1]));
        assert_eq!((chain.pinned(), chain.above(0)), (0, host.rosters([])));
    }

    #[test]
    fn another_chain_in_the_slots_replaces_what_was_kept() {
        let (host, other) = (Host::new(2), Host::new(1));
        let mut chain = host.chain();
        chain.take(&host.rosters(1..3));
        std::fs::remove_file(host.dir.path().join(ROSTER_SLOTS[0])).unwrap();
        let (envelope, roster) = &other.heads[0];
        let slot = Slot { sequence: 9, version: 1, pin: roster.digest(), payload: envelope.to_bytes() };
        std::fs::write(host.dir.path().join(ROSTER_SLOTS[0]), slot.encode().unwrap()).unwrap();
        chain.look_again();
        assert_eq!(chain.above(0), host.rosters([]));
        chain.take(&other.rosters([1]));
        assert_eq!(chain.above(1), other.rosters([1]));
    }
}
