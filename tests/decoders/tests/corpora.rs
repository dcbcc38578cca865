//! The kept corpora, through every decoder: what a fuzzer once found stays found.
//! `TWINLOCK_BLESS=1` adds the seeds to them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use twinlock_decoders::{ALL, seeds};
use twinlock_protocol::Digest;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

/// Catalogue: A18 (control: inline)
#[test]
fn no_kept_input_breaks_what_its_decoder_promises() {
    for (name, decoder) in ALL {
        let inputs: Vec<_> = std::fs::read_dir(corpus(name)).unwrap().collect();
        assert!(!inputs.is_empty(), "control: {name} has a corpus");
        for input in inputs {
            let path = input.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            assert!(std::panic::catch_unwind(|| decoder(&bytes)).is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_seed_goes_through_its_decoder_and_every_cut_of_it() {
    for (name, seed) in seeds() {
        let (_, decoder) = ALL.iter().find(|(known, _)| *known == name).unwrap();
        decoder(&seed);
        for end in (0..seed.len()).step_by(1 + seed.len() / 200) {
            decoder(&seed[..end]);
        }
        if std::env::var_os("TWINLOCK_BLESS").is_some() {
            std::fs::create_dir_all(corpus(name)).unwrap();
            let digest = Digest::plain(&seed);
            std::fs::write(corpus(name).join(&digest.0.to_text()[..16]), &seed).unwrap();
        }
    }
}

/// A decoder without a fuzz target would never be fuzzed.
#[test]
fn every_decoder_has_a_fuzz_target() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.toml")).unwrap();
    for (name, _) in ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/fuzz_targets/{name}.rs"));
        assert!(std::fs::read_to_string(target).unwrap().contains(&format!("twinlock_decoders::{name}(")), "{name}");
    }
}
