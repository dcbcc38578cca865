//! The reader of JSON text (RFC 8259) below [`super::decode`]: one value after the other, straight
//! from the bytes. It reads no floating point number, recurses to a fixed depth, copies a string only
//! where it has escapes, and never quotes a value in an error.
//!
//! It is our own because a general reader brings numbers of every kind and one copy of itself per
//! type: most of what the PAM module used to weigh. `serde_json` is its oracle in tests.

use std::borrow::Cow;
use std::fmt;

use crate::escape;

/// Objects and lists inside each other; the deepest protocol type has eight.
const DEEPEST: usize = 128;
/// What an error says of a name that is not ours, in characters.
const NAME_SHOWN: usize = 40;

/// Why reading stopped; the reader stands where it did. Boxed, because it stands in every result of
/// every decoder.
#[derive(Debug)]
pub struct Fault(Box<Words>);

#[derive(Debug)]
struct Words(String);

impl Fault {
    /// A fault, in words.
    #[cold]
    #[inline(never)]
    pub fn new(words: &str) -> Self {
        Self(Box::new(Words(words.to_owned())))
    }

    /// A fault about a name that somebody else chose.
    #[cold]
    #[inline(never)]
    pub fn named(what: &str, name: &str) -> Self {
        let shown: String = name.chars().take(NAME_SHOWN).collect();
        Self(Box::new(Words(format!("{what} `{}`", escape::visible(shown.as_bytes())))))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.0)
    }
}

impl std::error::Error for Fault {}

/// JSON text and how far it has been read.
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the beginning.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// How far it has read, in bytes.
    pub fn at(&self) -> usize {
        self.at.min(self.text.len())
    }

    /// The first byte of what comes next, white space passed over.
    pub fn peek(&mut self) -> Option<u8> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Takes this byte, if it comes next.
    pub fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Takes this byte, which must come next.
    pub fn expect(&mut self, byte: u8, otherwise: &str) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(Fault::new(otherwise)) }
    }

    /// Nothing but white space is left.
    pub fn end(&mut self) -> Result<(), Fault> {
        if self.peek().is_none() { Ok(()) } else { Err(Fault::new("trailing characters")) }
    }

    /// Takes the byte that opens an object or list.
    pub fn open(&mut self, byte: u8, otherwise: &str) -> Result<(), Fault> {
        self.expect(byte, otherwise)?;
        self.depth += 1;
        if self.depth > DEEPEST { Err(Fault::new("nested too deeply")) } else { Ok(()) }
    }

    /// Whether another entry follows in the object or list that was opened; takes the comma before
    /// it, or the byte that closes.
    pub fn next(&mut self, first: &mut bool, close: u8) -> Result<bool, Fault> {
        let first = std::mem::replace(first, false);
        if self.take(close) {
            self.depth -= 1;
            return Ok(false);
        }
        if !first {
            self.expect(b',', "a comma or an end is missing")?;
        }
        Ok(true)
    }

    /// `true`, `false` or `null`.
    pub fn word(&mut self, word: &str) -> Result<(), Fault> {
        self.peek();
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            self.at += word.len();
            Ok(())
        } else {
            Err(Fault::new("a value of another type"))
        }
    }

    /// A whole number without a sign, a fraction or an exponent.
    pub fn integer(&mut self) -> Result<u64, Fault> {
        let begin = match self.peek() {
            Some(b'0'..=b'9') => self.at,
            _ => return Err(Fault::new("not a whole number")),
        };
        let digits = self.digits();
        if matches!(self.text.get(self.at), Some(b'.' | b'e' | b'E')) || (digits.len() > 1 && digits.starts_with(b"0"))
        {
            return Err(Fault::new("not a whole number"));
        }
        let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
        digits.iter().try_fold(0, add).ok_or_else(|| {
            self.at = begin;
            Fault::new("a number out of range")
        })
    }

    fn digits(&mut self) -> &'a [u8] {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    /// A string, without its quotes and escapes.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.expect(b'"', "not a string")?;
        let mut read = Cow::Borrowed("");
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
            let plain = std::str::from_utf8(rest.get(..length).unwrap_or_default());
            let plain = plain.map_err(|_| Fault::new("text that is not UTF-8"))?;
            if read.is_empty() {
                read = Cow::Borrowed(plain);
            } else if !plain.is_empty() {
                read.to_mut().push_str(plain);
            }
            let stop = rest.get(length);
            self.at += length + 1;
            match stop {
                Some(b'"') => return Ok(read),
                Some(b'\\') => {
                    let character = self.escaped()?;
                    read.to_mut().push(character);
                }
                Some(_) => return Err(Fault::new("a control character in a string")),
                None => return Err(Fault::new("the end in a string")),
            }
        }
    }

    /// What follows a backslash.
    fn escaped(&mut self) -> Result<char, Fault> {
        let byte = self.text.get(self.at).copied();
        self.at += 1;
        Ok(match byte {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.four_hex()?;
                let code = match first {
                    // Half of a pair; the other half must follow.
                    0xd800..=0xdbff => match self.second_half() {
                        Some(low @ 0xdc00..=0xdfff) => 0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00),
                        _ => return Err(Fault::new("half of a surrogate pair")),
                    },
                    whole => whole,
                };
                char::from_u32(code).ok_or_else(|| Fault::new("half of a surrogate pair"))?
            }
            _ => return Err(Fault::new("an unknown escape")),
        })
    }

    fn second_half(&mut self) -> Option<u32> {
        self.text.get(self.at..)?.strip_prefix(b"\\u")?;
        self.at += 2;
        self.four_hex().ok()
    }

    fn four_hex(&mut self) -> Result<u32, Fault> {
        let digits = self.text.get(self.at..).and_then(|rest| rest.get(..4)).unwrap_or_default();
        let value = digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?));
        match value {
            Some(value) if digits.len() == 4 => {
                self.at += 4;
                Ok(value)
            }
            _ => Err(Fault::new("an unknown escape")),
        }
    }

    /// Passes over any one value, floating point numbers included.
    pub fn skip(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'{') => {
                self.open(b'{', "")?;
                let mut first = true;
                while self.next(&mut first, b'}')? {
                    self.string()?;
                    self.expect(b':', "a colon is missing")?;
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.open(b'[', "")?;
                let mut first = true;
                while self.next(&mut first, b']')? {
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.skip_number(),
        }
    }

    fn skip_number(&mut self) -> Result<(), Fault> {
        let ahead = |reader: &Self, bytes: &[u8]| reader.text.get(reader.at).is_some_and(|byte| bytes.contains(byte));
        self.at += usize::from(ahead(self, b"-"));
        let whole = self.digits();
        let mut good = !whole.is_empty() && (whole.len() == 1 || !whole.starts_with(b"0"));
        if ahead(self, b".") {
            self.at += 1;
            good &= !self.digits().is_empty();
        }
        if ahead(self, b"eE") {
            self.at += 1;
            self.at += usize::from(ahead(self, b"+-"));
            good &= !self.digits().is_empty();
        }
        if good { Ok(()) } else { Err(Fault::new("not a value")) }
    }
}
