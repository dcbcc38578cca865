//! Untrusted text made visible: what a requester, an approver or a gateway wrote must not move a
//! cursor, reverse a line or hide a word, in a terminal, a log, a page or a table (attacks D1, D2,
//! D4, L4).

/// Whether a character is shown as it is: neither control, nor bidirectional, nor invisible, nor a
/// combining mark (a base letter under forty marks hides its line), nor private or unassigned use.
#[must_use]
pub fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
            | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}'
            | '\u{e000}'..='\u{f8ff}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{10ffff}')
        || (c.is_whitespace() && c != ' '))
}

/// Bytes as one line of visible text: what is not plain becomes `\n`, `\t`, `\u{202e}`, and bytes
/// that are not UTF-8 become `\xff`; a backslash is doubled, so the text can be read back.
#[must_use]
pub fn visible(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if is_plain(c) => out.push(c),
                c => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
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

    #[test]
    fn ordinary_text_stays_as_it_is() {
        assert_eq!(visible("systemctl restart nginx — Grüße 日本".as_bytes()), "systemctl restart nginx — Grüße 日本");
        assert_eq!(visible(b"\xff\\"), "\\xff\\\\");
    }
}
