//! The text of `module.toml` as lines of `key = value`. Lexer, grammar and scalars are those of
//! `toml_parser`, below the `toml` crate; of what it finds, this file needs plain keys, strings on one
//! line without escapes, and whole decimal numbers. All else is refused here, with its line and without
//! being quoted: tables, lists, dates, and keys that stand twice (the grammar alone allows those).
#![forbid(unsafe_code)]

use toml_parser::decoder::{Encoding, IntegerRadix, ScalarKind};
use toml_parser::parser::{EventReceiver, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, ParseError, Raw, Source, Span};

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
    let source = Source::new(text);
    let mut document = Document { source, key: "", settings: Vec::new() };
    // The first fault alone: what follows one is the parser's guess.
    let mut fault: Option<ParseError> = None;
    let tokens = source.lex().into_vec();
    parse_document(&tokens, &mut ValidateWhitespace::new(&mut document, source), &mut fault);
    let Some(fault) = fault else { return Ok(document.settings) };
    let begin = fault.context().or(fault.unexpected()).map_or(0, |span| span.start());
    Err(format!("line {}: {}", line(text, begin), fault.description()))
}

/// The line of a place in bytes, counted from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// What is gathered while the parser goes through the text.
struct Document<'a> {
    source: Source<'a>,
    /// Whose value comes next.
    key: &'a str,
    settings: Vec<Setting<'a>>,
}

impl<'a> Document<'a> {
    /// A piece of the text, as it was spelt.
    fn raw(&self, span: Span, encoding: Option<Encoding>) -> Raw<'a> {
        let text = self.source.input().get(span.start()..span.end()).unwrap_or_default();
        Raw::new_unchecked(text, encoding, span)
    }
}

#[cold]
fn refuse(span: Span, why: &'static str, error: &mut dyn ErrorSink) {
    error.report_error(ParseError::new(why).with_context(span));
}

impl EventReceiver for Document<'_> {
    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        let raw = self.raw(span, encoding);
        raw.decode_key(&mut (), error);
        self.key = raw.as_str();
        if encoding.is_some() {
            refuse(span, "not a plain key", error);
        } else if self.settings.iter().any(|earlier| earlier.key == self.key) {
            refuse(span, "this key stands twice", error);
        }
    }

    fn key_sep(&mut self, span: Span, error: &mut dyn ErrorSink) {
        refuse(span, "not a plain key", error);
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        let raw = self.raw(span, encoding);
        match encoding {
            Some(Encoding::MlBasicString | Encoding::MlLiteralString) => {
                return refuse(span, "a string over several lines", error);
            }
            Some(Encoding::BasicString) if raw.as_str().contains('\\') => {
                return refuse(span, "a string with an escape: put it in single quotes", error);
            }
            _ => {}
        }
        let mut text = "";
        let kind = raw.decode_scalar(&mut text, error);
        let number = text.parse().ok().filter(|_| !text.starts_with('+'));
        let value = match (kind, number) {
            (ScalarKind::String, _) => Value::Text(text),
            (ScalarKind::Integer(IntegerRadix::Dec), Some(number)) => Value::Number(number),
            _ => return refuse(span, "neither a string nor a whole number", error),
        };
        let line = line(self.source.input(), span.start());
        self.settings.push(Setting { line, key: self.key, value });
    }

    fn std_table_open(&mut self, span: Span, error: &mut dyn ErrorSink) {
        refuse(span, "a table", error);
    }

    fn array_table_open(&mut self, span: Span, error: &mut dyn ErrorSink) {
        refuse(span, "a list of tables", error);
    }

    // Neither of these two is entered, so nothing here is nested.
    fn inline_table_open(&mut self, span: Span, error: &mut dyn ErrorSink) -> bool {
        refuse(span, "a table", error);
        false
    }

    fn array_open(&mut self, span: Span, error: &mut dyn ErrorSink) -> bool {
        refuse(span, "a list", error);
        false
    }
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
        // The positive control: the same frame with a line that is understood.
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
