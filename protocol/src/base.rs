//! Bytes as text, one spelling of each: base64url and base32 without padding (RFC 4648 §5 and §6),
//! and hexadecimal for people. Read strictly: no padding, no white space, no other case, no bits
//! left over that are not zero.

use base32ct::Base32UpperUnpadded;
use base64ct::{Base64UrlUnpadded, Encoding};

/// As base64url.
#[must_use]
pub fn to_base64url(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// From base64url.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(text).ok()
}

/// As base32, upper case.
#[must_use]
pub fn to_base32(bytes: &[u8]) -> String {
    <Base32UpperUnpadded as base32ct::Encoding>::encode_string(bytes)
}

/// From base32, upper case.
#[must_use]
pub fn from_base32(text: &str) -> Option<Vec<u8>> {
    let bytes = <Base32UpperUnpadded as base32ct::Encoding>::decode_vec(text).ok()?;
    // It passes over what is left of the last digit, unlike the reader of base64url.
    (to_base32(&bytes) == text).then_some(bytes)
}

/// As hexadecimal, lower case.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
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
