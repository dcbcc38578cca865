//! The reason, asked by one question where the configuration wants it. An answer that ends in
//! `/45m` also asks for a time.
#![forbid(unsafe_code)]

use twinlock_protocol::{DenyReason, limits};

use crate::command_line::Questions;
use crate::config::{Config, ReasonRule};
use crate::conversation::{Conversation, Unanswered};
use crate::refusal::Refusal;

/// What the requester wants people to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Why, in the requester's own words.
    pub reason: Option<String>,
    /// The wanted life of the grant, in seconds.
    pub ttl_s: u32,
}

/// Asks for the reason, once, where it can and should be asked for.
///
/// # Errors
/// [`DenyReason::ReasonMissing`] when one is required and none was given,
/// [`DenyReason::Cancelled`] when the question was not answered, [`DenyReason::TooLong`].
pub fn ask(conversation: &mut dyn Conversation, config: &Config, questions: Questions) -> Result<Wish, Refusal> {
    let question = match (config.reason, questions) {
        (ReasonRule::Off, _) | (ReasonRule::Optional, Questions::Elsewhere | Questions::Never) => {
            return Ok(Wish { reason: None, ttl_s: config.ttl_s });
        }
        (ReasonRule::Required, Questions::Elsewhere | Questions::Never) => {
            return Err(DenyReason::ReasonMissing.into());
        }
        (ReasonRule::Optional, Questions::Terminal) => "twinlock: reason (may be empty; ends in /45m for 45 minutes): ",
        (ReasonRule::Required, Questions::Terminal) => "twinlock: reason (ends in /45m for 45 minutes): ",
    };
    let answer = conversation.ask(question).map_err(|Unanswered| DenyReason::Cancelled)?;
    let wish = read(&answer, config)?;
    if wish.reason.is_none() && config.reason == ReasonRule::Required {
        return Err(DenyReason::ReasonMissing.into());
    }
    Ok(wish)
}

fn read(answer: &str, config: &Config) -> Result<Wish, Refusal> {
    let answer = answer.trim();
    let (text, ttl_s) = match answer.rsplit_once('/').and_then(|(text, time)| Some((text, minutes(time)?))) {
        Some((text, minutes)) => (text.trim_end(), minutes.saturating_mul(60).min(config.max_ttl_s)),
        None => (answer, config.ttl_s),
    };
    if text.len() > limits::REASON_BYTES {
        return Err(DenyReason::TooLong.into());
    }
    Ok(Wish { reason: (!text.is_empty()).then(|| text.to_owned()), ttl_s })
}

/// `45m` → 45; one to three digits, not zero.
fn minutes(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('m')?;
    let plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|minutes| plain && *minutes > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reason_may_end_in_a_time() {
        let config = Config::parse("host = 'web01'\nmax_ttl_s = 3000").unwrap();
        let read = |text| read(text, &config).map(|wish| (wish.reason, wish.ttl_s)).unwrap();
        assert_eq!(read("  nginx hangs /45m "), (Some("nginx hangs".to_owned()), 2700));
        assert_eq!(read("/45m"), (None, 2700));
        assert_eq!(read("too long /90m"), (Some("too long".to_owned()), 3000));
        for plain in ["see /var/log", "either/or", "/0m", "a /1000m", "/m", "/+5m"] {
            assert_eq!(read(plain), (Some(plain.to_owned()), 900), "{plain}");
        }
        assert_eq!(read(" "), (None, 900));
    }

    #[test]
    fn a_reason_beyond_its_limit_is_refused_and_not_cut() {
        let config = Config::parse("host = 'web01'").unwrap();
        assert_eq!(read(&"x".repeat(401), &config).unwrap_err().reason, DenyReason::TooLong);
        assert!(read(&"x".repeat(400), &config).is_ok());
    }
}
