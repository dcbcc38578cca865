//! Untrusted text made visible: what a requester, an approver or a gateway wrote must not move a
//! cursor, reverse a line or hide a word, in a terminal, a log, a page or a table (attacks D1, D2,
//! D4, L4).

/// Combining marks in a row that a letter may carry: Arabic, Hebrew, Thai and the scripts of India
/// need no more, and forty would hide the lines above.
const MOST_MARKS: usize = 3;

/// Whether a character is shown as it is: no control, format, private or unassigned character, no
/// space but U+0020, nothing invisible, and no combining mark that ordinary Latin, Greek or Cyrillic
/// text does without. Other scripts' marks are plain here; [`visible`] also looks at how many there
/// are.
#[must_use]
pub fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    is_printable(c)
        && !matches!(c,
            // Letters and symbols that show nothing, and stand-ins for something else.
            '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' | '\u{1d159}' | '\u{fffc}'
            // Marks that show nothing: joiners, variation selectors, fillers.
            | '\u{34f}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{16fe4}' | '\u{e0000}'..='\u{e0fff}'
            // Combining diacritics.
            | '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// The standard library keeps the table: its escapes for debugging leave alone what is in no category
/// of controls, format characters, surrogates, private use, unassigned and separators. Behind another
/// letter it leaves marks alone too.
fn is_printable(c: char) -> bool {
    let mut buffer = [b'a'; 5];
    let length = c.encode_utf8(buffer.get_mut(1..).unwrap_or_default()).len();
    let text = buffer.get(..=length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| text.escape_debug().eq(text.chars()))
}

/// Whether a plain character draws on the one before it (Unicode's Grapheme_Extend).
fn is_mark(c: char) -> bool {
    !c.is_ascii() && c.escape_debug().next() == Some('\\')
}

/// Follows marks through a text: whether each character stands as it is where it stands.
#[derive(Default)]
struct Marks {
    /// Marks that the next letter's place still has room for.
    room: usize,
}

impl Marks {
    fn stands(&mut self, c: char) -> bool {
        let plain = is_plain(c);
        if !is_mark(c) {
            // Marks of other scripts do not belong on ASCII.
            self.room = if plain && !c.is_ascii() { MOST_MARKS } else { 0 };
            return plain;
        }
        let stands = plain && self.room > 0;
        self.room = if stands { self.room.saturating_sub(1) } else { 0 };
        stands
    }
}

/// Whether a text needs no escape but for backslashes: what it holds is what people see.
#[must_use]
pub fn shows_as_it_is(text: &str) -> bool {
    let mut marks = Marks::default();
    text.chars().all(|c| marks.stands(c))
}

/// Bytes as one line of visible text: what is not plain, and a combining mark too many or without a
/// letter, becomes `\n`, `\t`, `\u{202e}`, and bytes that are not UTF-8 become `\xff`; a backslash is
/// doubled, so the text can be read back.
#[must_use]
pub fn visible(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut marks = Marks::default();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let stands = marks.stands(c);
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if stands => out.push(c),
                c => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
            marks = Marks::default();
        }
    }
    out
}

/// An argument as people read it: visible, and in double quotes when it is empty or holds a space
/// or a quote, so that one argument never looks like two.
#[must_use]
pub fn argument(bytes: &[u8]) -> String {
    let text = visible(bytes);
    if text.is_empty() || text.contains([' ', '"', '\'']) { format!("\"{}\"", text.replace('"', "\\\"")) } else { text }
}

/// A command as one line of arguments.
#[must_use]
pub fn command<'a>(arguments: impl IntoIterator<Item = &'a [u8]>) -> String {
    arguments.into_iter().map(argument).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Catalogue: D1 (control: ordinary_text_stays_as_it_is)
    #[test]
    fn escape_sequences_and_controls_become_visible() {
        assert_eq!(visible(b"\x1b]0;title\x07"), "\\u{1b}]0;title\\u{7}");
        assert_eq!(visible("\u{9b}31m".as_bytes()), "\\u{9b}31m");
    }

    /// Catalogue: D2 (control: ordinary_text_stays_as_it_is)
    #[test]
    fn bidi_zero_width_and_combining_characters_become_visible() {
        assert_eq!(visible("a\u{202e}b\u{200b}c\u{301}".as_bytes()), "a\\u{202e}b\\u{200b}c\\u{301}");
    }

    /// Catalogue: D4 (control: ordinary_text_stays_as_it_is)
    #[test]
    fn line_breaks_cannot_forge_lines_and_arguments_stay_apart() {
        assert_eq!(visible(b"a\r\nb\x08"), "a\\r\\nb\\u{8}");
        assert_eq!(command([&b"rm"[..], b"a b", b"", b"\"x"]), "rm \"a b\" \"\" \"\\\"x\"");
    }

    /// Catalogue: D2 (control: text_of_other_scripts_stays_as_it_is)
    #[test]
    fn nothing_invisible_and_no_flood_of_marks_stands_as_it_is() {
        let hidden = [
            0xa0, 0xad, 0x34f, 0x378, 0x600, 0x61c, 0x115f, 0x1160, 0x1680, 0x17b4, 0x180b, 0x180e, 0x180f, 0x2000,
            0x2007, 0x200b, 0x200d, 0x200e, 0x2028, 0x2029, 0x202a, 0x202e, 0x202f, 0x205f, 0x2060, 0x2061, 0x2066,
            0x2069, 0x206f, 0x2800, 0x3000, 0x3164, 0xe000, 0xfdd0, 0xfe00, 0xfe0f, 0xfeff, 0xffa0, 0xfff0, 0xfff9,
            0xfffb, 0xfffc, 0xffff, 0x110bd, 0x13430, 0x16fe4, 0x1bca0, 0x1d159, 0x1d173, 0x1fffe, 0xe0001, 0xe0041,
            0xe007f, 0xe0100, 0xe01ef, 0xf0000, 0x10ffff,
        ];
        for code in hidden {
            let c = char::from_u32(code).unwrap();
            assert!(!is_plain(c), "{code:x}");
            assert_eq!(visible(format!("日{c}").as_bytes()), format!("日\\u{{{code:x}}}"));
        }
        // Every character is either printable by the standard library's table or hidden.
        let shown = |c: &char| is_plain(*c) && !c.is_ascii();
        assert!(('\0'..=char::MAX).filter(shown).all(|c| !c.is_control() && !c.is_whitespace()));
        // Forty tone marks on one Thai letter; a mark on nothing, on ASCII, behind an escape.
        let flood = format!("ก{}", "\u{e49}".repeat(40));
        assert_eq!(visible(flood.as_bytes()), format!("ก{}{}", "\u{e49}".repeat(3), "\\u{e49}".repeat(37)));
        for text in ["\u{e49}", "a\u{e49}", "\u{200b}\u{e49}", " \u{e49}"] {
            assert!(visible(text.as_bytes()).ends_with("\\u{e49}"), "{text:?}");
            assert!(!shows_as_it_is(text));
        }
        assert_eq!(visible(b"\xff\xe0\xb9\x89"), "\\xff\\u{e49}");
    }

    #[test]
    fn text_of_other_scripts_stays_as_it_is() {
        for text in ["กู้เซิร์ฟเวอร์ที่ค้าง", "सर्वर को पुनः आरंभ करें", "أُعِيدُ تَشْغِيلَ الخَادِم", "שָׁלוֹם", "한국어", "👍🏽"]
        {
            assert_eq!(visible(text.as_bytes()), text);
            assert!(shows_as_it_is(text));
        }
    }

    /// Two byte strings never show alike: the text reads back.
    #[test]
    fn what_is_shown_reads_back_to_the_same_arguments() {
        let parts: [&[u8]; 12] =
            [b"", b" ", b"\"", b"\\", b"'", b"a", b"\n", b"n", b"\xff", b"x", b"u{a}", "\u{202e}".as_bytes()];
        let mut seen = std::collections::BTreeMap::new();
        for one in parts {
            for two in parts {
                for three in parts {
                    for arguments in [vec![[one, two, three].concat()], vec![[one, two].concat(), three.to_vec()]] {
                        let shown = command(arguments.iter().map(Vec::as_slice));
                        let before = seen.insert(shown.clone(), arguments.clone());
                        assert!(before.is_none_or(|before| before == arguments), "{shown}");
                    }
                }
            }
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        assert_eq!(visible("systemctl restart nginx — Grüße 日本".as_bytes()), "systemctl restart nginx — Grüße 日本");
        assert_eq!(visible(b"\xff\\"), "\\xff\\\\");
    }
}
