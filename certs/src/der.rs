//! The few DER values that both sides build and compare (X.690 §10). There is no decoder here: a
//! value is checked by building the one that must stand there.

/// BOOLEAN, INTEGER and so on: universal tags used by the profile.
pub mod tag {
    /// INTEGER.
    pub const INTEGER: u8 = 0x02;
    /// BIT STRING.
    pub const BIT_STRING: u8 = 0x03;
    /// OCTET STRING.
    pub const OCTET_STRING: u8 = 0x04;
    /// OBJECT IDENTIFIER.
    pub const OID: u8 = 0x06;
    /// SEQUENCE, constructed.
    pub const SEQUENCE: u8 = 0x30;
    /// `[0] EXPLICIT`, constructed.
    pub const EXPLICIT_0: u8 = 0xa0;
    /// `keyIdentifier [0] IMPLICIT` of an authority key identifier (RFC 5280 §4.2.1.1).
    pub const KEY_IDENTIFIER: u8 = 0x80;
    /// `uniformResourceIdentifier [6] IMPLICIT` of a general name (RFC 5280 §4.2.1.6).
    pub const URI: u8 = 0x86;
}

/// One value: tag, shortest definite length, the parts one after the other.
#[must_use]
pub fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if let Ok(short) = u8::try_from(length)
        && short < 0x80
    {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        // A usize has at most eight bytes, so the count fits the seven bits it has.
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(0x7f));
        out.extend_from_slice(&significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_the_shortest_there_are() {
        assert_eq!(value(0x04, &[b"ab", b"c"]), [4, 3, b'a', b'b', b'c']);
        assert_eq!(value(0x04, &[&[0; 127]]).get(..2), Some(&[4, 127][..]));
        assert_eq!(value(0x04, &[&[0; 128]]).get(..3), Some(&[4, 0x81, 128][..]));
        assert_eq!(value(0x04, &[&[0; 256]]).get(..4), Some(&[4, 0x82, 1, 0][..]));
        assert_eq!(value(0x04, &[&[0; 65536]]).get(..5), Some(&[4, 0x83, 1, 0, 0][..]));
    }
}
