//! One shape of each thing is read, and where `serde_json` reads too, it reads the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::*;
use crate::bytes::Fixed;
use crate::request::Arg;
use crate::roster::{Gate, PersonKind, Standing};
use crate::wire::module::{Accepted, ModuleEvent, ShowTicket};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    text: String,
    small: u8,
    large: u64,
    flag: bool,
    perhaps: Option<u32>,
    kind: PersonKind,
    standing: Standing,
    arguments: Vec<Arg>,
    salt: Fixed<4>,
}

fn sample() -> Sample {
    read(SAMPLE).unwrap()
}

const SAMPLE: &str = r#"{"text":"a","small":7,"large":18446744073709551615,"flag":true,"perhaps":null,"kind":{"human":{}},"standing":"active","arguments":["b",{"b64":"_w"}],"salt":"AAECAw"}"#;

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    match decode("sample", 10_000, text.as_bytes()) {
        Ok(value) => Ok(value),
        Err(DecodeError::Malformed { reason, .. }) => Err(reason),
        Err(other) => panic!("{other}"),
    }
}

/// The sample with one part written otherwise, and what is said of it.
fn refused(part: &str, otherwise: &str) -> String {
    assert!(SAMPLE.contains(part), "{part}");
    let text = SAMPLE.replacen(part, otherwise, 1);
    read::<Sample>(&text).expect_err(&text)
}

#[test]
fn order_space_escapes_and_what_may_be_null_are_free() {
    let text = SAMPLE.replacen("\"text\":\"a\",", "", 1).replacen("\"perhaps\":null,", "", 1);
    let text = text.replacen("\"small\":7", " \t\r\n\"sma\\u006cl\" : 7 , \"text\" :\"\\u0061\"\n", 1) + " \n";
    assert_eq!(read::<Sample>(&text), Ok(sample()));
    assert_eq!(String::from_utf8(encode(&sample())).unwrap(), SAMPLE);
}

#[test]
fn a_struct_is_an_object_and_not_the_list_of_its_values() {
    let event =
        r#"{"accepted":{"request":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","eligible":["a"],"approved":[]}}"#;
    assert!(matches!(read(event), Ok(ModuleEvent::Accepted(Accepted { .. }))), "control");
    let list = r#"{"accepted":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",["a"],[]]}"#;
    assert!(serde_json::from_str::<ModuleEvent>(list).is_ok(), "what derived decoders take from a general reader");
    assert_eq!(read::<ModuleEvent>(list), Err("not an object at byte 12".into()));
    let list = r#"{"ticket":[1,"AAAAAAAAAAAAAAAAAAAAAAAAAA",90]}"#;
    assert!(serde_json::from_str::<ModuleEvent>(list).is_ok());
    assert!(read::<ModuleEvent>(list).is_err());
    assert!(read::<ShowTicket>(r#"{"slot":1,"ticket":"AAAAAAAAAAAAAAAAAAAAAAAAAA","valid_s":90}"#).is_ok(), "control");
}

#[test]
fn fields_are_named_once_and_none_is_unknown_or_missing() {
    assert_eq!(refused("\"flag\":true", "\"flag\":true,\"flag\":true"), "duplicate field `flag` at byte 69");
    assert_eq!(refused("\"flag\"", "\"flog\\n\""), "unknown field `flog\\n` at byte 59");
    assert_eq!(refused("\"flag\":true,", ""), "missing field `flag` at byte 153");
    assert!(refused("\"flag\"", "3").starts_with("not a string"), "the place of a field is not its name");
    assert!(refused("\"flag\"", &format!("\"{}\"", "x".repeat(5000))).len() < 100);
}

#[test]
fn numbers_are_whole_and_in_range() {
    for other in
        ["256", "-7", "-0", "+7", "07", "7.0", "7e0", "7E0", "\"7\"", "null", "true", "[7]", "99999999999999999999"]
    {
        refused("\"small\":7", &format!("\"small\":{other}"));
    }
    refused("18446744073709551615", "18446744073709551616");
}

#[test]
fn a_variant_is_its_name_or_an_object_of_one_entry() {
    for other in [r#"{"active":null}"#, r#"{"active":{}}"#, "0", "null", "\"absent\"", "[\"active\"]"] {
        refused("\"active\"", other);
    }
    for other in
        [r#""human""#, r#"{"human":[]}"#, r#"{"human":null}"#, "{}", r#"{"human":{},"human":{}}"#, r#"{"human":{},}"#]
    {
        refused(r#"{"human":{}}"#, other);
    }
}

#[test]
fn what_is_left_over_cut_off_or_nested_too_deeply_is_refused() {
    for end in ["x", "}", "{}", "null", "\u{0}"] {
        assert!(read::<Sample>(&format!("{SAMPLE}{end}")).unwrap_err().starts_with("trailing characters"), "{end:?}");
    }
    for length in 0..SAMPLE.len() {
        assert!(read::<Sample>(SAMPLE.get(..length).unwrap()).is_err(), "{length}");
    }
    let nested = |depth: usize| read::<IgnoredAny>(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    assert!(nested(128).is_ok() && nested(129).unwrap_err().starts_with("nested too deeply"));
    assert!(read::<IgnoredAny>(&"[".repeat(9000)).is_err() && read::<IgnoredAny>(&"{\"a\":".repeat(1900)).is_err());
}

#[test]
fn what_is_said_of_a_fault_quotes_no_value() {
    for (part, otherwise) in
        [("\"AAECAw\"", "\"hunter2\""), ("\"a\"", "4711"), ("\"b\"", "{\"b64\":\"hunter2=\"}"), ("true", "4711")]
    {
        let said = refused(part, otherwise);
        assert!(!said.contains("hunter2") && !said.contains("4711"), "{said}");
    }
    assert!(read::<Gate>(r#"{"hosts":"any"}"#).is_err_and(|said| said.starts_with("a variant with content")));
}

/// Pieces of JSON and of what is nearly JSON.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"a\"",
    "\"a\":",
    "\\",
    "\\u",
    "\\u00e9",
    "\\ud83d",
    "\\ude00",
    "\\uDE00",
    "\\uD83D\\uDE00",
    "\\n",
    "\\/",
    "\\x",
    "u0041",
    "0",
    "1",
    "12",
    "-",
    "+",
    ".",
    "e",
    "E",
    "1.5",
    "-1e-3",
    "true",
    "false",
    "null",
    "nul",
    " ",
    "\n",
    "\u{1}",
    "\u{7f}",
    "é",
    "😀",
    "a",
];

fn texts(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..most).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn strings_are_those_that_serde_json_reads(content in texts(8)) {
        let text = format!("\"{content}\"");
        prop_assert_eq!(read::<String>(&text).ok(), serde_json::from_str::<String>(&text).ok(), "{}", text);
    }

    /// serde_json passes over half a surrogate pair, and makes no number of 1e999; whatever it makes a
    /// value of is passed over here, and nothing that it would not pass over.
    #[test]
    fn what_is_passed_over_is_json(text in texts(10)) {
        let ours = read::<IgnoredAny>(&text).is_ok();
        prop_assert!(ours || serde_json::from_str::<serde_json::Value>(&text).is_err(), "{}", text);
        prop_assert!(!ours || serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn whole_numbers_are_those_that_serde_json_reads(text in "-?[0-9]{1,21}(\\.0|e1)?") {
        prop_assert_eq!(read::<u64>(&text).ok(), serde_json::from_str::<u64>(&text).ok(), "{}", text);
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused_alike(content in prop::collection::vec(any::<u8>(), 0..6)) {
        let text = [b"\"", content.as_slice(), b"\""].concat();
        prop_assert_eq!(decode::<String>("", 100, &text).ok(), serde_json::from_slice::<String>(&text).ok());
    }

    /// Whatever a text becomes by a few changes: nothing is read that serde_json does not read, and
    /// nothing otherwise.
    #[test]
    fn nothing_is_read_otherwise(changes in prop::collection::vec((0..SAMPLE.len(), 0..6_usize, prop::sample::select(PIECES)), 1..3)) {
        let mut text = SAMPLE.to_owned();
        for (at, length, piece) in changes {
            let (at, end) = (at.min(text.len()), (at + length).min(text.len()));
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, piece);
            }
        }
        if let Ok(ours) = read::<Sample>(&text) {
            prop_assert_eq!(Some(ours), serde_json::from_str(&text).ok(), "{}", text);
        }
    }

    #[test]
    fn what_is_encoded_is_read_back(text in any::<String>(), small: u8, large: u64, flag: bool, perhaps: Option<u32>,
        arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5).prop_map(Arg), 0..4), salt: [u8; 4]) {
        let value = Sample { text, small, large, flag, perhaps, arguments, salt: Fixed(salt), ..sample() };
        prop_assert_eq!(decode_canonical::<Sample>("sample", 10_000, &encode(&value)), Ok(value));
    }
}
