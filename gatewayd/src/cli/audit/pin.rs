//! A roster's digest as people hand it over: 64 hexadecimal digits, spaces allowed, or the 43
//! characters of base64url that `roster.pin` holds.

use std::path::Path;

use twinlock_protocol::{Digest, Fixed};

use crate::cli::{Failure, files};

/// Reads a digest.
///
/// # Errors
/// What a digest looks like.
pub fn parse(text: &str) -> Result<Digest, &'static str> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let hex = || data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok().map(Fixed);
    hex().or_else(|| Fixed::from_text(&text)).map(Digest).ok_or("a digest is 64 hexadecimal digits")
}

/// Reads a gateway's pin.
///
/// # Errors
/// A [`Failure`].
pub fn read(path: &Path) -> Result<Digest, Failure> {
    let text = files::read(path, 100)?;
    parse(&String::from_utf8_lossy(&text)).map_err(|_| Failure::plain("the roster's pin is malformed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_digest_reads_in_both_spellings_and_in_no_other() {
        let digest = Digest::plain(b"roster");
        let hex = digest.to_hex();
        assert_eq!(parse(&hex), Ok(digest));
        assert_eq!(parse(&format!(" {} {}\n", &hex[..8], &hex[8..].to_uppercase())), Ok(digest));
        assert_eq!(parse(&digest.0.to_text()), Ok(digest));
        for wrong in ["", &hex[1..], &format!("{hex}0"), &digest.0.to_text()[1..], "sha256:00"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
