//! The slots on a disk that tears, fills up or belongs to somebody else.
use twinlock_protocol::DenyReason;
use twinlock_protocol::ids::CaId;
use twinlock_protocol::roster::RosterEnvelope;

use super::*;
use crate::roster_slots::{crl_floor, load, newest, raise_crl_floor, store};

struct Shelf {
    directory: tempfile::TempDir,
    envelopes: Vec<RosterEnvelope>,
}

impl Shelf {
    fn new() -> Self {
        let seal = || Fixture::new(b"ca", wall()).seal().0;
        Self { directory: private_directory(), envelopes: vec![seal(), seal()] }
    }

    fn store(&self, which: usize) {
        let envelope = &self.envelopes[which];
        store(self.directory.path(), owner(), 1, envelope.digest, &envelope.to_bytes()).unwrap();
    }

    fn loaded(&self) -> Option<usize> {
        let roster = load(self.directory.path(), owner()).ok()?;
        self.envelopes.iter().position(|envelope| envelope.digest == roster.digest())
    }

    fn slot(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn tear(&self, name: &str) {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::options().write(true).open(self.slot(name)).unwrap();
        file.write_all_at(b"torn", 200).unwrap();
    }
}

#[test]
fn the_newest_slot_counts_and_a_torn_one_leaves_the_other() {
    let shelf = Shelf::new();
    assert_eq!(shelf.loaded(), None);
    shelf.store(0);
    assert_eq!(shelf.loaded(), Some(0));
    assert_eq!(newest(shelf.directory.path(), owner()).unwrap().1, None, "a slot that waits is no fault");
    shelf.store(1);
    assert_eq!(shelf.loaded(), Some(1));
    let failed = || newest(shelf.directory.path(), owner()).unwrap().1;
    assert_eq!(failed(), None, "control");
    shelf.tear("slot1");
    assert_eq!(shelf.loaded(), Some(0), "the write that tore leaves what was there");
    assert!(failed().unwrap().contains("slot1 is torn"), "and is told");
    shelf.store(1);
    assert_eq!(failed(), None);
    assert_eq!(shelf.loaded(), Some(1));
    shelf.tear("slot0");
    shelf.tear("slot1");
    let refusal = load(shelf.directory.path(), owner()).unwrap_err();
    assert_eq!(refusal.reason, DenyReason::RosterUnsound);
}

#[test]
fn slots_keep_their_size_and_are_overwritten_in_place() {
    use std::os::unix::fs::MetadataExt as _;
    let shelf = Shelf::new();
    shelf.store(0);
    shelf.store(1);
    let before = ["slot0", "slot1"].map(|name| std::fs::metadata(shelf.slot(name)).unwrap());
    shelf.store(0);
    shelf.store(1);
    for (name, before) in ["slot0", "slot1"].iter().zip(before) {
        let after = std::fs::metadata(shelf.slot(name)).unwrap();
        assert_eq!((after.ino(), after.len(), after.blocks()), (before.ino(), before.len(), before.blocks()));
        assert_eq!(after.len(), twinlock_protocol::slots::ROSTER_SLOT_BYTES);
        assert!(after.blocks() * 512 >= after.len(), "every block is there before it is needed");
    }
}

/// Catalogue: V3 (control: the_newest_slot_counts_and_a_torn_one_leaves_the_other)
#[test]
fn a_roster_that_is_not_the_pinned_one_is_refused() {
    let shelf = Shelf::new();
    let [one, other] = [&shelf.envelopes[0], &shelf.envelopes[1]];
    store(shelf.directory.path(), owner(), 1, other.digest, &one.to_bytes()).unwrap();
    assert_eq!(load(shelf.directory.path(), owner()).unwrap_err().reason, DenyReason::RosterUnsound);
    // Nor does it pass in silence where the other slot still counts.
    shelf.store(0);
    store(shelf.directory.path(), owner(), 1, one.digest, &other.to_bytes()).unwrap();
    assert_eq!(shelf.loaded(), Some(0));
    assert!(newest(shelf.directory.path(), owner()).unwrap().1.is_some());
}

/// Catalogue: V4 (control: inline)
#[test]
fn a_slot_that_others_can_write_is_not_believed() {
    use std::os::unix::fs::PermissionsExt as _;
    let shelf = Shelf::new();
    shelf.store(0);
    assert_eq!(shelf.loaded(), Some(0));
    for path in [shelf.slot("slot1"), shelf.directory.path().to_owned()] {
        let before = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(before.mode() | 0o020)).unwrap();
        assert_eq!(load(shelf.directory.path(), owner()).unwrap_err().reason, DenyReason::RosterUnsound);
        std::fs::set_permissions(&path, before).unwrap();
    }
    assert_eq!(shelf.loaded(), Some(0));
}

#[test]
fn a_file_size_limit_neither_kills_nor_loses_a_write() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let shelf = Shelf::new();
    shelf.store(0);
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    // Other tests of this process write meanwhile: a limit that only this write would break.
    setrlimit(Resource::RLIMIT_FSIZE, 1 << 20, hard).unwrap();
    shelf.store(1);
    let after = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
    assert_eq!(after, (1 << 20, hard), "the caller's limit is as it was");
    assert_eq!(shelf.loaded(), Some(1));
}

#[test]
fn revocation_numbers_only_rise_and_belong_to_one_ca() {
    let shelf = Shelf::new();
    let ca = CaId::new("ca1").unwrap();
    let at = shelf.directory.path();
    let floor = |certificate: &[u8]| crl_floor(at, owner(), &ca, certificate).unwrap();
    let raise = |number| raise_crl_floor(at, owner(), &ca, b"one", number).map_err(|refusal| refusal.reason);
    assert_eq!(floor(b"one"), 0);
    for number in [3, 3, 5, 9] {
        assert_eq!(raise(number), Ok(()));
        assert_eq!(floor(b"one"), number);
    }
    assert_eq!(raise(8), Err(DenyReason::CrlInvalid));
    assert_eq!(floor(b"one"), 9);
    // A new certificate under the old name starts anew.
    assert_eq!(floor(b"another"), 0);
}

#[test]
fn a_number_that_cannot_be_stored_is_a_refusal() {
    let shelf = Shelf::new();
    let ca = CaId::new("ca1").unwrap();
    let missing = shelf.slot("missing");
    let refusal = raise_crl_floor(&missing, owner(), &ca, b"one", 3).unwrap_err();
    assert_eq!(refusal.reason, DenyReason::RecordFailed);
    assert_eq!(raise_crl_floor(shelf.directory.path(), owner(), &ca, b"one", 3), Ok(()));
}
