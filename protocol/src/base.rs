//! Bytes as text, one spelling of each: base64url and base32 without padding (RFC 4648 §5 and §6),
//! and hexadecimal for people. Read strictly: no padding, no white space, no other case, no bits
//! left over that are not zero.

/// The digits of base64url.
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The digits of base32, upper case.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// The digits of hexadecimal, lower case.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// As base64url.
#[must_use]
pub fn to_base64url(bytes: &[u8]) -> String {
    encode(bytes, BASE64URL, 6)
}

/// From base64url.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    decode(text, 6, |digit| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    })
}

/// As base32, upper case.
#[must_use]
pub fn to_base32(bytes: &[u8]) -> String {
    encode(bytes, BASE32, 5)
}

/// From base32, upper case.
#[must_use]
pub fn from_base32(text: &str) -> Option<Vec<u8>> {
    decode(text, 5, |digit| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'2'..=b'7' => Some(digit - b'2' + 26),
        _ => None,
    })
}

/// As hexadecimal, lower case.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    encode(bytes, HEX, 4)
}

/// `digits` has 2^`bits` entries; the last digit is filled up with zero bits.
fn encode(bytes: &[u8], digits: &[u8], bits: u32) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / bits as usize + 1);
    let mut digit = |value: u32| text.push(char::from(digits.get(value as usize).copied().unwrap_or_default()));
    let (mut held, mut count) = (0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        count += 8;
        while count >= bits {
            count -= bits;
            digit(held >> count);
            held &= (1 << count) - 1;
        }
    }
    if count > 0 {
        digit(held << (bits - count));
    }
    text
}

/// `value_of` gives `bits` bits. What is left over is less than a digit, and zero.
fn decode(text: &str, bits: u32, value_of: impl Fn(u8) -> Option<u8>) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * bits as usize / 8);
    let (mut held, mut count) = (0_u32, 0);
    for digit in text.bytes() {
        held = held << bits | u32::from(value_of(digit)?);
        count += bits;
        if count >= 8 {
            count -= 8;
            // The upper eight of the `count` bits that were held.
            bytes.push(u8::try_from(held >> count).ok()?);
            held &= (1 << count) - 1;
        }
    }
    (count < bits && held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_are_met() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|text| to_base64url(text.as_bytes())),
            ["", "Zg", "Zm8", "Zm9v", "Zm9vYg"]
        );
        assert_eq!(
            ["f", "fo", "foob", "fooba"].map(|text| to_base32(text.as_bytes())),
            ["MY", "MZXQ", "MZXW6YQ", "MZXW6YTB"]
        );
        assert_eq!(to_base64url(&[0xfb, 0xff]), "-_8");
        assert_eq!(to_hex(&[0, 0x9a, 0xff]), "009aff");
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for other in ["Zg==", "Zh", "Z", "Zm8=", "Zm9", "Zm9vY", "Zm+v", "Zm/v", " Zg", "Z\ng", "Zg\u{e9}", "Zm9v\0"] {
            assert_eq!(from_base64url(other), None, "{other:?}");
        }
        for other in ["MY======", "MZ", "M", "MZX", "MZXW6Y", "my", "M1", "M0XQ", "M8XQ"] {
            assert_eq!(from_base32(other), None, "{other:?}");
        }
        assert_eq!((from_base64url("Zg"), from_base32("MY")), (Some(b"f".to_vec()), Some(b"f".to_vec())), "control");
    }

    proptest! {
        #[test]
        fn bytes_are_written_as_data_encoding_writes_them(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(to_base64url(&bytes), BASE64URL_NOPAD.encode(&bytes));
            prop_assert_eq!(to_base32(&bytes), BASE32_NOPAD.encode(&bytes));
            prop_assert_eq!(to_hex(&bytes), HEXLOWER.encode(&bytes));
            prop_assert_eq!(from_base64url(&to_base64url(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(from_base32(&to_base32(&bytes)), Some(bytes));
        }

        #[test]
        fn text_is_read_as_data_encoding_reads_it(text in "[A-Za-z0-9_=+/-]{0,10}|[A-Z2-8]{0,10}|[AQgw4EI]{0,10}") {
            prop_assert_eq!(from_base64url(&text), BASE64URL_NOPAD.decode(text.as_bytes()).ok(), "{}", text);
            prop_assert_eq!(from_base32(&text), BASE32_NOPAD.decode(text.as_bytes()).ok(), "{}", text);
        }
    }
}
