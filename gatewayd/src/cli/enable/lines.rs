//! The marked lines in a PAM file: put in, found again, taken out so that what is left is what was
//! there before, byte for byte. Pure: bytes in, bytes out.
//!
//! In a service's own file the account line comes first and the session line last. First, because an
//! earlier `sufficient` or `done` (RHEL's system-auth has one, Debian's common-account another) would
//! end the account stack before us; last, because session modules before us move the process
//! (pam_systemd) and set its limits. In `other`, libpam's way out when a service's file can't be
//! opened, both stand first and skip every service that is not enabled.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The first line of a block. What follows the word is for people.
pub const OPENS: &str = "# >>> twinlock: made by `twinlock enable`, taken out by `twinlock disable`; do not edit";
/// The last line of a block.
pub const CLOSES: &str = "# <<< twinlock";
/// What the first line of any block of ours begins with, whichever version wrote it.
const OPENING: &[u8] = b"# >>> twinlock";
/// What its last line begins with.
const CLOSING: &[u8] = b"# <<< twinlock";
/// The module's file name.
pub const MODULE: &str = "pam_twinlock.so";
const ACCOUNT: &str = "account    required   pam_twinlock.so";
const SESSION: &str = "session    required   pam_twinlock.so";

/// What can be enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// `sudo` and `sudo -i`.
    Sudo,
    /// `su` and `su -`.
    Su,
}

impl Gate {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sudo, Self::Su];

    /// Its PAM services: the plain one, and the one for login shells, which may include it.
    #[must_use]
    pub fn services(self) -> [&'static str; 2] {
        match self {
            Self::Sudo => ["sudo", "sudo-i"],
            Self::Su => ["su", "su-l"],
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sudo => "sudo",
            Self::Su => "su",
        })
    }
}

/// The two phases that are wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// `account`.
    Account,
    /// `session`.
    Session,
}

impl Phase {
    /// PAM's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Session => "session",
        }
    }
}

/// Why lines can't be put into, or taken out of, a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A block begins and does not end, ends without having begun, or holds another.
    #[error("line {0}: a twinlock block was edited")]
    Damaged(usize),
    /// The line before ours ends in a backslash and would swallow it.
    #[error("line {0} ends in a backslash, which would join it with the line after it")]
    Continued(usize),
    /// The module stands outside our blocks.
    #[error("line {0} names {MODULE} outside the marked lines")]
    Foreign(usize),
}

/// A service's text with our lines for `phases`, and no others of ours.
///
/// # Errors
/// [`Unfit`].
pub fn wire(text: &[u8], phases: &[Phase]) -> Result<Vec<u8>, Unfit> {
    let plain = unwire(text)?;
    refuse_foreign(&plain)?;
    let mut wired = plain;
    if phases.contains(&Phase::Session) {
        wired = at_end(&wired, SESSION)?;
    }
    if phases.contains(&Phase::Account) {
        wired = at_top(&wired, &[ACCOUNT])?;
    }
    Ok(wired)
}

/// The text of `other` with our lines for these services; without a service there are none.
///
/// # Errors
/// [`Unfit`].
pub fn wire_other(text: &[u8], services: &[&str]) -> Result<Vec<u8>, Unfit> {
    let plain = unwire(text)?;
    refuse_foreign(&plain)?;
    if services.is_empty() {
        return Ok(plain);
    }
    let list = services.join(":");
    // Whatever goes wrong in pam_succeed_if, the module is asked.
    let skip = |phase: Phase| {
        format!("{:<10} [success=1 default=ignore] pam_succeed_if.so quiet service notin {list}", phase.word())
    };
    let (account, session) = (skip(Phase::Account), skip(Phase::Session));
    at_top(&plain, &[&account, ACCOUNT, &session, SESSION])
}

/// The text without our blocks.
///
/// # Errors
/// [`Unfit::Damaged`].
pub fn unwire(text: &[u8]) -> Result<Vec<u8>, Unfit> {
    let mut kept: Vec<u8> = Vec::with_capacity(text.len());
    let mut inside = false;
    for (number, line) in numbered(text) {
        match (inside, line.starts_with(OPENING), line.starts_with(CLOSING)) {
            (false, true, _) => inside = true,
            (true, _, true) => {
                inside = false;
                // A block without a newline at its end stood in a file that had none.
                if !line.ends_with(b"\n") && kept.ends_with(b"\n") {
                    kept.pop();
                }
            }
            (true, true, _) | (false, _, true) => return Err(Unfit::Damaged(number)),
            (true, false, false) => {}
            (false, false, false) => kept.extend_from_slice(line),
        }
    }
    if inside { Err(Unfit::Damaged(numbered(text).count())) } else { Ok(kept) }
}

/// The text without anything that we ever write, for blocks that were edited: markers, and lines that
/// are ours letter by letter.
#[must_use]
pub fn without_own_lines(text: &[u8]) -> Vec<u8> {
    if let Ok(plain) = unwire(text) {
        return plain;
    }
    let ours = |line: &[u8]| {
        let line = line.trim_ascii_end();
        line.starts_with(OPENING)
            || line.starts_with(CLOSING)
            || line == ACCOUNT.as_bytes()
            || line == SESSION.as_bytes()
            || is_skip(line)
    };
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| !ours(line)).flatten().copied().collect()
}

fn is_skip(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = words(line).collect();
    matches!(
        words.as_slice(),
        [b"account" | b"session", b"[success=1", b"default=ignore]", b"pam_succeed_if.so", b"quiet", b"service", b"notin", list]
            if list.starts_with(b"su")
    )
}

/// Whether the text has a block of ours, whole or not.
#[must_use]
pub fn is_wired(text: &[u8]) -> bool {
    numbered(text).any(|(_, line)| line.starts_with(OPENING) || line.starts_with(CLOSING))
}

/// The lines of our blocks with their numbers, markers included.
#[must_use]
pub fn own_lines(text: &[u8]) -> Vec<(usize, String)> {
    let mut inside = false;
    let mut own = Vec::new();
    for (number, line) in numbered(text) {
        inside |= line.starts_with(OPENING);
        if inside {
            own.push((number, String::from_utf8_lossy(line.trim_ascii_end()).into_owned()));
        }
        inside &= !line.starts_with(CLOSING);
    }
    own
}

/// The numbers of lines that name the module, comments apart.
#[must_use]
pub fn lines_with_module(text: &[u8]) -> Vec<usize> {
    let names = |line: &[u8]| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        line.windows(MODULE.len()).any(|part| part == MODULE.as_bytes())
    };
    numbered(text).filter(|(_, line)| names(line)).map(|(number, _)| number).collect()
}

/// The text with our account line replaced by one that lets everybody past: for the trial of the
/// session phase, on a copy.
#[must_use]
pub fn with_account_standing_back(text: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| match line.trim_ascii_end() == ACCOUNT.as_bytes() {
        true => b"account    required   pam_permit.so\n".to_vec(),
        false => line.to_vec(),
    };
    text.split_inclusive(|byte| *byte == b'\n').flat_map(line).collect()
}

/// The phases that `service`'s text does not take from the file of `from` by including it.
#[must_use]
pub fn phases_missing(text: &[u8], from: &str) -> Vec<Phase> {
    let includes = |phase: Phase| {
        numbered(text).any(|(_, line)| {
            let words: Vec<&[u8]> = words(line).collect();
            match words.as_slice() {
                [b"@include", file, ..] => *file == from.as_bytes(),
                [kind, b"include" | b"substack", file, ..] => {
                    kind.strip_prefix(b"-").unwrap_or(kind) == phase.word().as_bytes() && *file == from.as_bytes()
                }
                _ => false,
            }
        })
    };
    [Phase::Account, Phase::Session].into_iter().filter(|phase| !includes(*phase)).collect()
}

fn refuse_foreign(plain: &[u8]) -> Result<(), Unfit> {
    match lines_with_module(plain).first() {
        Some(line) => Err(Unfit::Foreign(*line)),
        None => Ok(()),
    }
}

fn block(lines: &[&str]) -> String {
    let mut text = format!("{OPENS}\n");
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(CLOSES);
    text
}

/// After the `#%PAM-1.0` that some files begin with.
fn at_top(text: &[u8], lines: &[&str]) -> Result<Vec<u8>, Unfit> {
    let head: usize = match numbered(text).next() {
        Some((_, first)) if first.starts_with(b"#%") && first.ends_with(b"\n") => first.len(),
        _ => 0,
    };
    let (head, rest) = text.split_at_checked(head).unwrap_or((&[], text));
    if head.trim_ascii_end().ends_with(b"\\") {
        return Err(Unfit::Continued(1));
    }
    Ok([head, block(lines).as_bytes(), b"\n", rest].concat())
}

/// After everything; a file without a newline at its end gets a block without one.
fn at_end(text: &[u8], line: &str) -> Result<Vec<u8>, Unfit> {
    if text.trim_ascii_end().ends_with(b"\\") {
        return Err(Unfit::Continued(numbered(text.trim_ascii_end()).count()));
    }
    let block = block(&[line]);
    Ok(match text.last() {
        Some(b'\n') | None => [text, block.as_bytes(), b"\n"].concat(),
        Some(_) => [text, b"\n", block.as_bytes()].concat(),
    })
}

fn numbered(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text.split_inclusive(|byte| *byte == b'\n').enumerate().map(|(index, line)| (index + 1, line))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const BOTH: &[Phase] = &[Phase::Account, Phase::Session];
    const DEBIAN: &str =
        "#%PAM-1.0\n\nsession    required   pam_limits.so\n\n@include common-auth\n@include common-account\n";

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_account_line_comes_first_and_the_session_line_last() {
        let wired = wire(DEBIAN.as_bytes(), BOTH).unwrap();
        let lines: Vec<&str> = text(&wired).lines().collect();
        assert_eq!(lines.first(), Some(&"#%PAM-1.0"), "the magic line stays first");
        assert_eq!(lines.get(1..4), Some(&[OPENS, ACCOUNT, CLOSES][..]));
        assert_eq!(lines.get(lines.len() - 3..), Some(&[OPENS, SESSION, CLOSES][..]));
        assert_eq!(lines_with_module(&wired), [3, lines.len() - 1]);
        assert_eq!(own_lines(&wired).len(), 6);
    }

    #[test]
    fn in_other_both_lines_come_first_and_skip_what_is_not_enabled() {
        let wired = wire_other(b"@include common-auth\n", &["sudo", "sudo-i"]).unwrap();
        let lines: Vec<&str> = text(&wired).lines().collect();
        let skip = "[success=1 default=ignore] pam_succeed_if.so quiet service notin sudo:sudo-i";
        assert_eq!(lines.get(1), Some(&format!("account    {skip}").as_str()));
        assert_eq!(lines.get(2), Some(&ACCOUNT));
        assert_eq!(lines.get(3), Some(&format!("session    {skip}").as_str()));
        assert_eq!(lines.get(4), Some(&SESSION));
        assert_eq!(lines.last(), Some(&"@include common-auth"));
        assert_eq!(wire_other(&wired, &[]).unwrap(), b"@include common-auth\n");
    }

    #[test]
    fn wiring_twice_is_wiring_once_and_another_set_replaces_the_first() {
        let once = wire(DEBIAN.as_bytes(), BOTH).unwrap();
        assert_eq!(wire(&once, BOTH).unwrap(), once);
        let session = wire(&once, &[Phase::Session]).unwrap();
        assert_eq!(lines_with_module(&session).len(), 1);
        let sudo = wire_other(b"x\n", &["sudo"]).unwrap();
        assert_eq!(wire_other(&sudo, &["su"]).unwrap(), wire_other(b"x\n", &["su"]).unwrap());
    }

    #[test]
    fn a_line_of_somebody_else_and_a_continued_one_are_refused() {
        let foreign = format!("{DEBIAN}account required {MODULE}\n");
        assert_eq!(wire(foreign.as_bytes(), BOTH), Err(Unfit::Foreign(7)));
        assert!(wire(format!("{DEBIAN}# account required {MODULE}\n").as_bytes(), BOTH).is_ok(), "control: a comment");
        assert_eq!(wire(b"a\nb \\\n", BOTH), Err(Unfit::Continued(2)));
        assert_eq!(wire(b"#%PAM-1.0 \\\na\n", BOTH), Err(Unfit::Continued(1)));
    }

    #[test]
    fn an_edited_block_is_noticed_and_still_comes_out_line_by_line() {
        let wired = text(&wire_other(b"x\n", &["sudo", "sudo-i"]).unwrap()).to_owned();
        for gone in [OPENS, CLOSES] {
            let edited = wired.replacen(&format!("{gone}\n"), "", 1);
            assert!(matches!(unwire(edited.as_bytes()), Err(Unfit::Damaged(_))), "{edited}");
            assert!(is_wired(edited.as_bytes()));
            assert_eq!(text(&without_own_lines(edited.as_bytes())), "x\n");
        }
        assert_eq!(text(&without_own_lines(wired.as_bytes())), "x\n", "control: a whole one");
    }

    #[test]
    fn a_file_that_includes_the_plain_service_needs_no_lines_of_its_own() {
        let debian = b"auth include su\naccount include su\nsession optional pam_keyinit.so\n-session\tinclude\tsu\n";
        assert_eq!(phases_missing(debian, "su"), []);
        assert_eq!(phases_missing(b"@include su\n", "su"), []);
        assert_eq!(phases_missing(b"account substack su\n", "su"), [Phase::Session]);
        assert_eq!(phases_missing(b"# account include su\naccount include su2\nauth include su\n", "su"), BOTH);
    }

    proptest! {
        /// Whatever a file holds, with or without a newline at its end: in and out again is what was.
        #[test]
        fn what_is_put_in_comes_out_byte_for_byte(
            lines in prop::collection::vec(prop::sample::select(vec![
                "", "#%PAM-1.0", "# comment", "auth include x", "\ttabs\t", "\u{e9}", "account required y.so", "\r",
            ]), 0..8),
            newline in any::<bool>(),
            account in any::<bool>(),
            session in any::<bool>(),
        ) {
            let mut plain = lines.join("\n");
            if newline { plain.push('\n'); }
            let phases: Vec<Phase> =
                [(account, Phase::Account), (session, Phase::Session)].into_iter().filter(|(on, _)| *on).map(|(_, p)| p).collect();
            for wired in [wire(plain.as_bytes(), &phases).unwrap(), wire_other(plain.as_bytes(), &["sudo"]).unwrap()] {
                prop_assert_eq!(unwire(&wired).unwrap(), plain.as_bytes());
                prop_assert_eq!(without_own_lines(&wired), plain.as_bytes());
            }
        }
    }
}
