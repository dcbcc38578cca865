//! The session key: made for one request, held as PKCS #8 in memory that is overwritten when the
//! handle gives it up, used three times (request, certificate, start). (While it signs, ring has a
//! copy of its own; and a process that just exits overwrites nothing: then the kernel does.) And
//! the other secrets that a request needs from the kernel's random source.
#![forbid(unsafe_code)]

use ring::rand::{SecureRandom as _, SystemRandom};
use twinlock_protocol::DenyReason;
use twinlock_protocol::ids::TerminalCode;
use twinlock_protocol::signature::{KeyError, SigningKey};
use zeroize::Zeroizing;

use crate::refusal::Refusal;

/// Makes a session key with its PKCS #8 form.
///
/// # Errors
/// [`DenyReason::Internal`].
pub fn generate() -> Result<(SigningKey, Zeroizing<Vec<u8>>), Refusal> {
    let (key, pkcs8) = SigningKey::generate().map_err(failed)?;
    Ok((key, Zeroizing::new(pkcs8)))
}

/// Random bytes.
///
/// # Errors
/// [`DenyReason::Internal`].
pub fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| failed(KeyError))?;
    Ok(bytes)
}

/// Numbers at or above this would make the low codes likelier.
const UNBIASED: u32 = u32::MAX - u32::MAX % 1_000_000;

/// Six random digits, each code as likely as the next.
///
/// # Errors
/// [`DenyReason::Internal`].
pub fn terminal_code() -> Result<TerminalCode, Refusal> {
    loop {
        let number = u32::from_be_bytes(random()?);
        if let Some(code) = fold(number) {
            return Ok(code);
        }
    }
}

fn fold(number: u32) -> Option<TerminalCode> {
    (number < UNBIASED).then(|| TerminalCode::from_number(number % 1_000_000))?
}

pub(crate) fn failed(error: KeyError) -> Refusal {
    Refusal::logging(DenyReason::Internal, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_code_comes_from_equally_many_numbers() {
        assert_eq!(UNBIASED % 1_000_000, 0);
        assert!(fold(UNBIASED - 1).is_some() && fold(UNBIASED).is_none() && fold(u32::MAX).is_none());
        assert_eq!(fold(1_000_007).unwrap().to_string(), "000 007");
    }
}
