//! `twinlock approve --offline`: shows what a challenge asks for, and signs an answer with a
//! break-glass key. Works on any machine, without a network, without root; what is signed counts only
//! on the host that made the challenge, for that one request.

use std::io::{BufRead, Write as _};
use std::path::PathBuf;

use clap::Args;
use twinlock_protocol::break_glass::{Answer, Drill, Purpose, Statement, read_challenge};
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::roster::BreakGlassKey;
use twinlock_protocol::statement::Decision;
use twinlock_protocol::words::words as words_of;
use twinlock_protocol::{Digest, limits};

use super::break_glass::signer::{self, Signer};
use super::break_glass::words;
use super::{Failure, files, output, time};

/// `twinlock approve`.
#[derive(Args)]
pub struct ApproveArgs {
    /// Sign a break-glass challenge; there is no other way to approve from here
    #[arg(long, required = true)]
    offline: bool,
    #[command(flatten)]
    with: KeyArgs,
    /// The challenge; without it, paste it
    #[arg(long, value_name = "FILE")]
    challenge: Option<PathBuf>,
    /// The longest life that you grant, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=15))]
    minutes: u16,
    /// Sign a no instead: it refuses the request wherever it is entered
    #[arg(long)]
    deny: bool,
}

/// Which key.
#[derive(Args)]
pub struct KeyArgs {
    /// The key: PKCS #8, as `twinlock break-glass keygen` makes it
    #[arg(long, value_name = "FILE", required_unless_present = "agent", conflicts_with = "agent")]
    pub key: Option<PathBuf>,
    /// A P-256 key in the ssh-agent at SSH_AUTH_SOCK
    #[arg(long)]
    pub agent: bool,
    /// Which of the agent's keys: as keygen or ssh-add -L print it
    #[arg(long, value_name = "KEY", requires = "agent", allow_hyphen_values = true)]
    pub public: Option<String>,
    /// Your id in the roster; a key of keygen's knows it
    #[arg(long, value_name = "PERSON")]
    pub person: Option<String>,
}

impl KeyArgs {
    /// The key, and its entry in the roster.
    ///
    /// # Errors
    /// A [`Failure`].
    pub fn open(&self) -> Result<(Signer, BreakGlassKey), Failure> {
        let (signer, noted) = match &self.key {
            Some(path) => signer::read(path)?,
            None => {
                let wanted = self.public.as_deref().map(|text| {
                    signer::public(text).ok_or_else(|| Failure::plain("--public is no P-256 key that I can read"))
                });
                (signer::from_agent(wanted.transpose()?)?, None)
            }
        };
        let person = self
            .person
            .clone()
            .or(noted)
            .ok_or_else(|| Failure::new("whose key is it?", "say so: --person ID, as the roster calls you"))?;
        let person = PersonId::new(&person).ok_or_else(|| Failure::plain(format!("{person} is no person's id")))?;
        let entry = BreakGlassKey { person, key: signer.public() };
        Ok((signer, entry))
    }
}

/// Shows and signs.
///
/// # Errors
/// A [`Failure`]: no challenge, no key, or a no.
pub fn run(arguments: &ApproveArgs) -> Result<(), Failure> {
    let (signer, entry) = arguments.with.open()?;
    let mut input = std::io::stdin().lock();
    let text = match &arguments.challenge {
        Some(path) => String::from_utf8(files::read(path, 2 * limits::REQUEST_BYTES as u64)?)?,
        None => pasted(&mut input)?,
    };
    let (purpose, bytes) = read_challenge(&text).ok_or_else(no_challenge)?;
    let (about, ttl_s) = tell(purpose, &bytes, arguments.minutes * 60)?;
    tell_line(&format!("your key: {}", words_of(&entry.key_digest()).join(" ")));
    let decision = if arguments.deny { Decision::Deny } else { Decision::Approve };
    let question = match (decision, purpose) {
        (Decision::Deny, _) => "type yes to REFUSE it: ",
        (Decision::Approve, Purpose::Grant) => "type yes to approve exactly this: ",
        (Decision::Approve, Purpose::Drill) => "type yes to answer the drill: ",
        (Decision::Approve, Purpose::Review) => "type yes to close the review: ",
    };
    let mut said = ask(&mut input, question)?;
    // Whoever pastes presses Enter once more.
    for _ in 0..3 {
        if said.as_deref().is_some_and(|line| line.trim().is_empty()) {
            said = ask(&mut input, "")?;
        }
    }
    if said.as_deref().map(str::trim) != Some("yes") {
        return Err(Failure::plain("nothing was signed"));
    }
    let answer = sign(&signer, &entry, purpose, about, ttl_s, decision)?;
    tell_line("the answer, for whoever gave you the challenge and nobody else:");
    output::line(&answer.to_text());
    Ok(())
}

/// Signs an answer.
///
/// # Errors
/// A [`Failure`]: the key can't be used.
pub fn sign(
    signer: &Signer,
    entry: &BreakGlassKey,
    purpose: Purpose,
    about: Digest,
    ttl_s: u16,
    decision: Decision,
) -> Result<Answer, Failure> {
    let statement = Statement::new(purpose, about, entry, ttl_s, decision);
    let signature = signer.sign(&statement.message())?;
    let digest = entry.key_digest();
    let (key_id, _) = digest.as_bytes().split_first_chunk().ok_or_else(|| Failure::plain("internal error"))?;
    Ok(Answer { decision, ttl_s, key_id: *key_id, signature })
}

fn no_challenge() -> Failure {
    Failure::new(
        "there is no whole challenge in this",
        "copy it from -----BEGIN TWINLOCK to its -----END TWINLOCK line, both included",
    )
}

/// Says in words what would be signed; its digest and the life to sign.
fn tell(purpose: Purpose, bytes: &[u8], ttl_s: u16) -> Result<(Digest, u16), Failure> {
    if purpose == Purpose::Drill {
        let drill = Drill::from_bytes(bytes).map_err(|_| no_challenge())?;
        tell_line(&format!("a drill of {}, started {}: it grants nothing", drill.host, time::moment(drill.created_at)));
        return Ok((Drill::digest_of(bytes), ttl_s));
    }
    let request = ElevationRequest::from_bytes(bytes).map_err(|_| no_challenge())?;
    let id = ElevationRequest::id_of(bytes);
    let ttl_s = ttl_s.min(u16::try_from(request.ttl_s).unwrap_or(ttl_s));
    tell_line(match purpose {
        Purpose::Review => "REVIEW of what ran without a gateway; closing it says that you looked into it:",
        Purpose::Grant | Purpose::Drill => "BREAK-GLASS: no gateway is asked. You are asked to approve:",
    });
    words::lines(&request).iter().for_each(|line| tell_line(line));
    if purpose == Purpose::Grant {
        tell_line(&format!("  granted  for at most {}", time::span(ttl_s.into())));
    }
    tell_line(&format!("  grant    {}; the terminal there shows the same", id.grant()));
    tell_line("Talk to whoever asks. Nothing here proves that it comes from that host.");
    Ok((id.0, ttl_s))
}

/// What is for people goes to standard error: the answer alone is the output.
fn tell_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Reads a challenge from standard input, to its last line.
fn pasted(input: &mut impl BufRead) -> Result<String, Failure> {
    tell_line("paste the challenge:");
    let mut text = String::new();
    while text.len() < 2 * limits::REQUEST_BYTES {
        let before = text.len();
        let read = input.read_line(&mut text)?;
        let line = text.get(before..).unwrap_or_default().trim();
        if read == 0 || (line.starts_with("-----END TWINLOCK ") && line.ends_with("-----")) {
            break;
        }
    }
    Ok(text)
}

/// Asks one question; none at the end of the input.
///
/// # Errors
/// The input can't be read.
pub fn ask(input: &mut impl BufRead, question: &str) -> Result<Option<String>, Failure> {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "{question}");
    let _ = err.flush();
    let mut line = String::new();
    Ok(if input.read_line(&mut line)? == 0 { None } else { Some(line) })
}
