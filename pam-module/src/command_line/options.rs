//! `getopt_long` as glibc does it, for one word at a time: clustered short options, attached and
//! separate values, exact and abbreviated long names.

use twinlock_protocol::DenyReason;

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Never.
    Nothing,
    /// Always, attached or as the next word.
    Value,
    /// Only in the long form, after `=`.
    OptionalLong,
}

/// One option of a program.
#[derive(Debug)]
pub(super) struct Spec {
    /// Its short letter; `'\0'` for none.
    pub short: u8,
    /// Its long name.
    pub long: &'static str,
    /// Whether it takes a value.
    pub takes: Takes,
}

/// One option as found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// The long name, which names the option without doubt.
    pub name: &'static str,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// What a word is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// Options, and how many words they took.
    Options(Vec<Found<'a>>, usize),
    /// `--`.
    End,
    /// Not an option.
    Plain,
}

/// Reads the word at `at`.
///
/// # Errors
/// [`DenyReason::NotUnderstood`] for an unknown or ambiguous option, a missing or superfluous
/// value, or a value that is `--` (after which the programs disagree about where options end).
pub(super) fn word<'a>(specs: &[Spec], words: &'a [Vec<u8>], at: usize) -> Result<Word<'a>, DenyReason> {
    let refuse = Err(DenyReason::NotUnderstood);
    let Some(word) = words.get(at) else { return refuse };
    if word == b"--" {
        return Ok(Word::End);
    }
    let following = words.get(at.saturating_add(1)).map(Vec::as_slice);
    let (found, taken) = if let Some(long) = word.strip_prefix(b"--") {
        long_option(specs, long, following)?
    } else if word.len() > 1 && word.starts_with(b"-") {
        short_options(specs, word.get(1..).unwrap_or_default(), following)?
    } else {
        return Ok(Word::Plain);
    };
    if found.iter().any(|found| found.value == Some(b"--")) {
        return refuse;
    }
    Ok(Word::Options(found, taken))
}

type FoundWords<'a> = (Vec<Found<'a>>, usize);

fn long_option<'a>(specs: &[Spec], text: &'a [u8], following: Option<&'a [u8]>) -> Result<FoundWords<'a>, DenyReason> {
    let mut parts = text.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default();
    let attached = parts.next();
    let exact = specs.iter().find(|spec| spec.long.as_bytes() == name);
    let mut prefixed = specs.iter().filter(|spec| spec.long.as_bytes().starts_with(name));
    let first = prefixed.next();
    let another = prefixed.find(|spec| first.is_some_and(|first| first.long != spec.long));
    let spec = match (exact, first, another) {
        (Some(spec), ..) => spec,
        (None, Some(only), None) => only,
        (None, ..) => return Err(DenyReason::NotUnderstood),
    };
    match (spec.takes, attached, following) {
        (Takes::Nothing | Takes::OptionalLong, None, _) => Ok((vec![Found { name: spec.long, value: None }], 1)),
        (Takes::Value | Takes::OptionalLong, Some(value), _) => {
            Ok((vec![Found { name: spec.long, value: Some(value) }], 1))
        }
        (Takes::Value, None, Some(value)) => Ok((vec![Found { name: spec.long, value: Some(value) }], 2)),
        (Takes::Nothing, Some(_), _) | (Takes::Value, None, None) => Err(DenyReason::NotUnderstood),
    }
}

fn short_options<'a>(
    specs: &[Spec],
    letters: &'a [u8],
    following: Option<&'a [u8]>,
) -> Result<FoundWords<'a>, DenyReason> {
    let mut found = Vec::new();
    let mut rest = letters;
    while let Some((letter, after)) = rest.split_first() {
        let spec = specs.iter().find(|spec| spec.short == *letter && *letter != 0).ok_or(DenyReason::NotUnderstood)?;
        match (spec.takes, after.is_empty(), following) {
            (Takes::Nothing | Takes::OptionalLong, ..) => found.push(Found { name: spec.long, value: None }),
            (Takes::Value, false, _) => {
                found.push(Found { name: spec.long, value: Some(after) });
                return Ok((found, 1));
            }
            (Takes::Value, true, Some(value)) => {
                found.push(Found { name: spec.long, value: Some(value) });
                return Ok((found, 2));
            }
            (Takes::Value, true, None) => return Err(DenyReason::NotUnderstood),
        }
        rest = after;
    }
    Ok((found, 1))
}
