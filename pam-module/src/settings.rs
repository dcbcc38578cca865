//! The text of `module.toml` as lines of `key = value`: that part of TOML 1.0 which this file needs.
//! A key is bare, a value is a string on one line or a whole decimal number, and tables, lists, dates
//! and floating point numbers are refused rather than read. Whatever is accepted here, any TOML reader
//! reads the same way (the tests ask one); a whole TOML reader would be a twelfth of the module.
#![forbid(unsafe_code)]

/// One `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// The line, counted from 1.
    pub line: usize,
    /// The key: `[A-Za-z0-9_-]+`.
    pub key: &'a str,
    /// The value.
    pub value: Value<'a>,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string, without quotes and without escapes.
    Text(&'a str),
    /// A whole number.
    Number(u32),
}

/// Reads every line.
///
/// # Errors
/// The first line that is not understood, in words that do not quote it.
pub fn read(text: &str) -> Result<Vec<Setting<'_>>, String> {
    let mut settings: Vec<Setting<'_>> = Vec::new();
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let line_number = at + 1;
        let fault = |why: &str| format!("line {line_number}: {why}");
        let Some((key, value)) = setting(without_end(line)).map_err(fault)? else { continue };
        if settings.iter().any(|earlier| earlier.key == key) {
            return Err(fault("this key stands twice"));
        }
        settings.push(Setting { line: line_number, key, value });
    }
    Ok(settings)
}

/// A line without its end, `\n` or `\r\n`.
fn without_end(line: &str) -> &str {
    line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')).unwrap_or(line)
}

/// One line; none when nothing but a comment stands there.
fn setting(line: &str) -> Result<Option<(&str, Value<'_>)>, &'static str> {
    let line = line.trim_start_matches(BLANK);
    if line.is_empty() {
        return Ok(None);
    }
    if line.starts_with('#') {
        return comment(line).map(|()| None);
    }
    let (key, rest) = line.split_once('=').ok_or("not `key = value`")?;
    let key = key.trim_end_matches(BLANK);
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Err("not a plain key");
    }
    let rest = rest.trim_start_matches(BLANK);
    let (value, rest) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => string(rest, quote)?,
        _ => number(rest)?,
    };
    comment(rest.trim_start_matches(BLANK))?;
    Ok(Some((key, value)))
}

const BLANK: [char; 2] = [' ', '\t'];

/// A string without escapes, between two of the same quote.
fn string(text: &str, quote: char) -> Result<(Value<'_>, &str), &'static str> {
    let (content, rest) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)).ok_or("an open string")?;
    if rest.starts_with(quote) {
        return Err("a string over several lines");
    }
    if quote == '"' && content.contains('\\') {
        return Err("a string with an escape: put it in single quotes");
    }
    plain(content)?;
    Ok((Value::Text(content), rest))
}

fn number(text: &str) -> Result<(Value<'_>, &str), &'static str> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(length).unwrap_or_default();
    if digits.len() > 1 && digits.starts_with('0') {
        return Err("a number that begins with 0");
    }
    let number = digits.parse().map_err(|_| "neither a string nor a whole number")?;
    Ok((Value::Number(number), rest))
}

/// What may follow a value: nothing, or a comment.
fn comment(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.starts_with('#') { plain(text) } else { Err("more than one value") }
}

/// TOML allows no control characters but tab (neither in strings nor in comments).
fn plain(text: &str) -> Result<(), &'static str> {
    let control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    if text.bytes().any(control) { Err("a control character") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_strings_numbers_and_comments_are_read() {
        let text = "# Twinlock\r\nhost = 'web01' # here\n\n\tagent_uid=990\nreason\t=\t\"a # b\"\nlast-1 = 0";
        let read = read(text).unwrap();
        let seen: Vec<_> = read.iter().map(|setting| (setting.line, setting.key, setting.value)).collect();
        let (text, number) = (Value::Text, Value::Number);
        assert_eq!(
            seen,
            [
                (2, "host", text("web01")),
                (4, "agent_uid", number(990)),
                (5, "reason", text("a # b")),
                (6, "last-1", number(0))
            ]
        );
    }

    #[test]
    fn everything_else_is_refused_with_its_line() {
        for line in [
            "host",
            "= 1",
            "[table]",
            "[[list]]",
            "a.b = 1",
            "'a' = 1",
            "a b = 1",
            "a =",
            "a = # 1",
            "a = 'x",
            "a = 'x\"",
            "a = \"x\\n\"",
            "a = \"\"\"x\"\"\"",
            "a = '''x'''",
            "a = 01",
            "a = +1",
            "a = -1",
            "a = 1.0",
            "a = 1e3",
            "a = 1_000",
            "a = 0x10",
            "a = 4294967296",
            "a = true",
            "a = [1]",
            "a = {}",
            "a = 1979-05-27",
            "a = 1 b = 2",
            "a = 'x' y",
            "a = 'x\u{1}'",
            "# \u{7f}",
            "a = 1\r\r",
            "\u{feff}a = 1",
            "a\u{a0}= 1",
        ] {
            let refused = read(&format!("good = 1\n{line}\n")).unwrap_err();
            assert!(refused.starts_with("line 2: "), "{line:?}: {refused}");
        }
        assert_eq!(read("a = 1\nb = 2\na = 3").unwrap_err(), "line 3: this key stands twice");
        // control: the same frame with a line that is understood.
        assert_eq!(read("good = 1\na = 1\n").unwrap().len(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        /// Lines are put together from what is near the border of the grammar.
        #[test]
        fn what_is_accepted_any_toml_reader_reads_the_same(
            lines in prop::collection::vec(prop::collection::vec(prop::sample::select(PIECES), 0..9), 0..4),
        ) {
            let text: String = lines.iter().map(|pieces| pieces.concat()).collect::<Vec<_>>().join("\n");
            if let Ok(settings) = read(&text) {
                let table: toml::Table = text.parse().map_err(|error| TestCaseError::fail(format!("{text:?}: {error}")))?;
                prop_assert_eq!(table.len(), settings.len(), "{:?}", text);
                for Setting { key, value, .. } in settings {
                    match (value, table.get(key)) {
                        (Value::Text(ours), Some(toml::Value::String(theirs))) => prop_assert_eq!(ours, theirs),
                        (Value::Number(ours), Some(toml::Value::Integer(theirs))) => prop_assert_eq!(i64::from(ours), *theirs),
                        other => prop_assert!(false, "{:?}: {:?}", text, other),
                    }
                }
            }
        }
    }

    const PIECES: &[&str] = &[
        "a", "b = ", "c=", "=", " ", "\t", "\r", "'", "\"", "''", "'x'", "\"y\"", "\\", "#", "0", "1", "23", "_", "-",
        ".", "+", "[", "]", "true", "\u{e9}", "\u{1}", "\u{7f}", "\u{feff}",
    ];

    #[test]
    fn the_border_pieces_make_texts_that_are_accepted_too() {
        for text in ["a=1", "b = 'x'#\u{e9}", "c=\"y\"\t#", "-=0 ", "a_1 =\t''"] {
            assert!(read(text).is_ok() && text.parse::<toml::Table>().is_ok(), "{text}");
        }
    }
}
