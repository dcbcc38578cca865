//! A digest in words that one person reads aloud and another compares: the fingerprint of a new
//! device or host before two people sign it into the roster. Eight words hold 64 bits. A hostile
//! gateway knows them from the moment of enrolment until two people sign, a week at most: other keys with
//! the same words take 2^64 tries in that time, thirty million million a second.

use crate::digest::Digest;

/// How many words a fingerprint has, one for each of the digest's first bytes.
pub const COUNT: usize = 8;

/// The word of each byte: common, concrete, no two alike in their first four letters. In order, so
/// that a list elsewhere is compared by eye.
#[rustfmt::skip]
pub const LIST: [&str; 256] = [
    "acorn", "album", "amber", "apple", "apron", "arrow", "atlas", "autumn",
    "badge", "bagel", "baker", "balcony", "banjo", "barrel", "basil", "basket",
    "beaver", "bench", "berry", "bicycle", "bishop", "blanket", "bottle", "bracelet",
    "bridge", "broom", "bucket", "buffalo", "butter", "cabin", "cactus", "camel",
    "candle", "canoe", "canyon", "carpet", "castle", "cattle", "ceiling", "cello",
    "cherry", "chimney", "cider", "cinema", "circus", "cliff", "clover", "cobalt",
    "coffee", "comet", "compass", "copper", "coral", "corner", "cotton", "cradle",
    "crayon", "cricket", "crown", "crystal", "curtain", "daisy", "denim", "desert",
    "diamond", "dinner", "doctor", "dolphin", "donkey", "dragon", "drawer", "drum",
    "eagle", "eclipse", "elbow", "elephant", "emerald", "engine", "fabric", "falcon",
    "farmer", "feather", "fiddle", "finger", "flag", "flute", "forest", "fossil",
    "fountain", "fox", "frost", "furnace", "galaxy", "garden", "garlic", "gazelle",
    "geyser", "giant", "ginger", "giraffe", "glacier", "glove", "goblet", "gorilla",
    "grape", "gravel", "guitar", "hammer", "harbour", "harvest", "hazel", "helmet",
    "heron", "hockey", "honey", "hotel", "husky", "icicle", "igloo", "island",
    "ivory", "jacket", "jaguar", "jasmine", "jelly", "jigsaw", "jockey", "judge",
    "jungle", "kayak", "kettle", "kitten", "koala", "ladder", "lagoon", "lantern",
    "laurel", "lemon", "leopard", "lettuce", "library", "lilac", "linen", "lizard",
    "lobster", "locket", "lotus", "magnet", "mango", "maple", "marble", "meadow",
    "melon", "mermaid", "mirror", "monkey", "mosaic", "muffin", "museum", "napkin",
    "nectar", "needle", "nickel", "noodle", "nutmeg", "oasis", "ocean", "octopus",
    "olive", "onion", "opera", "orange", "orchid", "otter", "oyster", "paddle",
    "palace", "panda", "parrot", "pebble", "pelican", "pencil", "pepper", "piano",
    "picnic", "pigeon", "pillow", "pirate", "planet", "pocket", "pony", "potato",
    "pumpkin", "puzzle", "quartz", "rabbit", "radish", "raven", "ribbon", "river",
    "rocket", "rooster", "ruby", "saddle", "salmon", "sandal", "scarf", "seagull",
    "shadow", "shelter", "silver", "skate", "sofa", "spider", "sponge", "statue",
    "stork", "sugar", "sunset", "swan", "table", "tailor", "teapot", "temple",
    "thunder", "ticket", "tiger", "timber", "toast", "tomato", "topaz", "tractor",
    "trumpet", "tulip", "tunnel", "turtle", "umbrella", "valley", "vanilla", "velvet",
    "village", "violin", "volcano", "waffle", "walnut", "warrior", "weasel", "whale",
    "willow", "window", "winter", "wizard", "wolf", "yacht", "yellow", "zebra",
];

/// The words of a digest, in order.
#[must_use]
pub fn words(digest: &Digest) -> Vec<&'static str> {
    let word = |byte: &u8| LIST.get(usize::from(*byte)).copied().unwrap_or_default();
    digest.as_bytes().iter().take(COUNT).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_words_of_the_list_begin_alike() {
        let heads: std::collections::BTreeSet<&str> = LIST.iter().map(|word| word.get(..4).unwrap_or(word)).collect();
        assert_eq!(heads.len(), 256);
        assert!(LIST.is_sorted());
    }

    #[test]
    fn a_digest_has_eight_words_of_its_first_bytes() {
        let words = words(&Digest::plain(b""));
        // SHA-256 of nothing begins e3 b0 c4 42 98 fc 1c 14.
        let expected = [0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14].map(|byte: usize| LIST.get(byte).copied());
        assert_eq!(words.into_iter().map(Some).collect::<Vec<_>>(), expected);
    }
}
