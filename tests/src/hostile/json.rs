//! Where the values of a JSON text stand, so that each can be changed in turn without a type that
//! knows them: a field that is added tomorrow is attacked tomorrow. Only for texts that an encoder
//! of ours wrote: compact, valid.

use std::ops::Range;

/// One value that holds no others: a string, a number, `true`, `null`, an empty list or object.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Where it is, as `requester.real.uid` or `argv.0`.
    pub path: String,
    /// Its bytes in the text.
    pub span: Range<usize>,
}

/// Every leaf, in the order of the text.
pub fn leaves(text: &[u8]) -> Vec<Leaf> {
    let mut reader = Reader { text, at: 0, found: Vec::new() };
    reader.value("");
    assert_eq!(reader.at, text.len(), "one JSON value");
    reader.found
}

/// The text with one leaf replaced.
pub fn replaced(text: &[u8], leaf: &Leaf, by: &str) -> Vec<u8> {
    [&text[..leaf.span.start], by.as_bytes(), &text[leaf.span.end..]].concat()
}

/// Other values of the same kind, each as JSON text: a neighbour, and the other words of the enum
/// where the value is one of a known one.
pub fn others(text: &[u8], leaf: &Leaf) -> Vec<String> {
    const ENUMS: &[&[&str]] = &[
        &["\"approve\"", "\"deny\""],
        &["\"command\"", "\"session\"", "\"shell\"", "\"login_shell\""],
        &["\"module\"", "\"ssh\"", "\"ahead\""],
        &["\"terminal\"", "\"piped\"", "\"null\""],
        &["\"sudo\"", "\"su\""],
        &["\"root\"", "\"bob\""],
    ];
    let now = std::str::from_utf8(&text[leaf.span.clone()]).expect("JSON is UTF-8");
    let word = ENUMS.iter().find(|words| words.contains(&now));
    match word {
        Some(words) => words.iter().filter(|word| **word != now).map(|word| (*word).to_owned()).collect(),
        None => vec![neighbour(now)],
    }
}

/// A value of the same type that differs as little as possible. The first character of a string
/// changes within its class, so that base64url, ids and UUIDs stay well formed.
fn neighbour(now: &str) -> String {
    match now {
        "null" | "[]" | "{}" => "\"x\"".into(),
        "true" => "false".into(),
        "false" => "true".into(),
        "\"\"" => "\"a\"".into(),
        string if string.starts_with('"') => {
            let mut chars: Vec<char> = string.chars().collect();
            chars[1] = match chars[1] {
                'a' => 'b',
                'A' => 'B',
                '0' => '1',
                c if c.is_ascii_lowercase() => 'a',
                c if c.is_ascii_uppercase() => 'A',
                c if c.is_ascii_digit() => '0',
                _ => 'a',
            };
            chars.into_iter().collect()
        }
        number => {
            let number: u64 = number.parse().expect("our integers are not negative");
            (number + 1).to_string()
        }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    found: Vec<Leaf>,
}

impl Reader<'_> {
    fn value(&mut self, path: &str) {
        let start = self.at;
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match self.text[self.at] {
            b'{' if self.text[self.at + 1] != b'}' => {
                while self.text[self.at] != b'}' {
                    self.at += 1;
                    let key = self.string();
                    assert_eq!(self.text[self.at], b':');
                    self.at += 1;
                    self.value(&below(&key));
                }
                self.at += 1;
                return;
            }
            b'[' if self.text[self.at + 1] != b']' => {
                let mut index = 0;
                while self.text[self.at] != b']' {
                    self.at += 1;
                    self.value(&below(&index.to_string()));
                    index += 1;
                }
                self.at += 1;
                return;
            }
            b'{' | b'[' => self.at += 2,
            b'"' => {
                self.string();
            }
            _ => {
                while self.text.get(self.at).is_some_and(|b| !b",]}".contains(b)) {
                    self.at += 1;
                }
            }
        }
        self.found.push(Leaf { path: path.to_owned(), span: start..self.at });
    }

    fn string(&mut self) -> String {
        let start = self.at + 1;
        self.at = start;
        while self.text[self.at] != b'"' {
            self.at += if self.text[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        String::from_utf8_lossy(&self.text[start..self.at - 1]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_found_and_can_be_changed() {
        let text = br#"{"a":"x\"y","b":[1,{"c":null}],"d":{},"e":[]}"#;
        let found = leaves(text);
        let paths: Vec<&str> = found.iter().map(|leaf| leaf.path.as_str()).collect();
        assert_eq!(paths, ["a", "b.0", "b.1.c", "d", "e"]);
        assert_eq!(replaced(text, &found[1], "2"), br#"{"a":"x\"y","b":[2,{"c":null}],"d":{},"e":[]}"#);
        assert_eq!(others(text, &found[0]), ["\"a\\\"y\""]);
        assert_eq!(others(br#"["approve"]"#, &leaves(br#"["approve"]"#)[0]), ["\"deny\""]);
    }
}
