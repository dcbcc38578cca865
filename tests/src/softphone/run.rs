//! A command on a terminal with people around it. Options, before `--`:
//! `--approve A,B` they scan and approve, one after the other; `--deny A` scans and denies;
//! `--ttl SECONDS` the life they sign; `--type PROMPT=TEXT` types a line when the prompt stands on the
//! screen; `--answer PROMPT=SHELL` types what a shell command prints, which reads the terminal's text on
//! its standard input; each is used once, in the given order; `--limit SECONDS` (90); `--console` for
//! `login`, which hangs its terminal up and opens it again; `--after FILE`: nobody scans before it exists.
//! Ends with the command's exit code; 125 when the people could not do their part.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use twinlock_protocol::statement::Decision;

use super::{Drawer, Outcome};
use crate::approver::{Approver, Claim};
use crate::proc::Launch;
use crate::term::Terminal;

/// Wide enough that no line of the module's is wrapped, and high enough for its QR codes.
const SIZE: (u16, u16) = (70, 200);
const POLL: Duration = Duration::from_millis(20);

struct Plan {
    people: Vec<(String, Decision)>,
    typing: Vec<(String, Typed)>,
    ttl_s: Option<u32>,
    limit: Duration,
    console: bool,
    after: Option<PathBuf>,
}

enum Typed {
    Text(String),
    Shell(String),
}

/// Runs the command among its people; prints the terminal's text.
///
/// # Errors
/// A wrong option, or the people could not do their part.
pub fn run(drawer: &Drawer, words: &[&str]) -> Outcome<u8> {
    let (plan, command) = Plan::read(words)?;
    let mut terminal = Terminal::open_sized(&Launch::person("root"), command, SIZE);
    // While somebody has it open, a hung-up terminal is not a closed one.
    let noctty = nix::fcntl::OFlag::O_NOCTTY.bits();
    let open = || OpenOptions::new().read(true).custom_flags(noctty).open(terminal.name());
    let _open = plan.console.then(open).transpose().map_err(|e| e.to_string())?;
    let done = plan.follow(drawer, &mut terminal);
    let text = String::from_utf8_lossy(&terminal.transcript()).replace('\r', "");
    println!("{text}");
    match done {
        Ok(code) => Ok(code),
        Err(reason) => Err(format!("{reason}\n--- screen\n{}", terminal.screen())),
    }
}

impl Plan {
    fn read<'w>(words: &'w [&'w str]) -> Outcome<(Self, &'w [&'w str])> {
        let mut plan = Self {
            people: Vec::new(),
            typing: Vec::new(),
            ttl_s: None,
            limit: Duration::from_secs(90),
            console: false,
            after: None,
        };
        let mut rest = words;
        loop {
            rest = match rest {
                ["--", command @ ..] if !command.is_empty() => return Ok((plan, command)),
                ["--approve", names, more @ ..] => {
                    plan.people.extend(names.split(',').map(|name| (name.to_owned(), Decision::Approve)));
                    more
                }
                ["--deny", name, more @ ..] => {
                    plan.people.push(((*name).to_owned(), Decision::Deny));
                    more
                }
                ["--ttl", seconds, more @ ..] => {
                    plan.ttl_s = Some(number(seconds)?);
                    more
                }
                ["--console", more @ ..] => {
                    plan.console = true;
                    more
                }
                ["--after", file, more @ ..] => {
                    plan.after = Some(file.into());
                    more
                }
                ["--limit", seconds, more @ ..] => {
                    plan.limit = Duration::from_secs(number(seconds)?.into());
                    more
                }
                [kind @ ("--type" | "--answer"), pair, more @ ..] => {
                    let (prompt, what) = pair.split_once('=').ok_or_else(|| format!("{pair}: no ="))?;
                    let what = what.to_owned();
                    let typed = if *kind == "--type" { Typed::Text(what) } else { Typed::Shell(what) };
                    plan.typing.push((prompt.to_owned(), typed));
                    more
                }
                other => return Err(format!("not understood: {}", other.join(" "))),
            }
        }
    }

    fn follow(&self, drawer: &Drawer, terminal: &mut Terminal) -> Outcome<u8> {
        let until = Instant::now() + self.limit;
        let (mut people, mut typing) = (self.people.iter().peekable(), self.typing.iter().peekable());
        let mut seen = 0;
        let mut last_ticket = None;
        while terminal.is_running() {
            if Instant::now() > until {
                return Err(format!("still running after {:?}", self.limit));
            }
            let transcript = String::from_utf8_lossy(&terminal.transcript()).into_owned();
            let fresh = transcript.get(seen..).unwrap_or_default();
            if let Some((prompt, typed)) = typing.peek()
                && let Some(at) = fresh.find(prompt.as_str())
            {
                seen += at + prompt.len();
                let line = match typed {
                    Typed::Text(text) => text.clone(),
                    Typed::Shell(script) => shell(script, &transcript.replace('\r', ""))?,
                };
                terminal.send_line(&line);
                typing.next();
            }
            if self.after.as_ref().is_none_or(|file| file.exists())
                && let Some((person, decision)) = people.peek()
                && let Some(ticket) = newest_ticket(&transcript)
                && last_ticket.as_ref() != Some(&ticket)
            {
                if self.answer(drawer, person, *decision, &ticket)? {
                    people.next();
                }
                last_ticket = Some(ticket);
            }
            std::thread::sleep(POLL);
        }
        let code = terminal.exit_code(Duration::from_secs(5));
        if let Some((person, _)) = people.peek() {
            return Err(format!("ended with {code} before {person} was asked"));
        }
        if let Some((prompt, _)) = typing.peek() {
            return Err(format!("ended with {code} and never showed {prompt:?}"));
        }
        Ok(u8::try_from(code).unwrap_or(124))
    }

    /// False when a rotation has just retired the code: people scan the next.
    fn answer(&self, drawer: &Drawer, person: &str, decision: Decision, ticket: &str) -> Outcome<bool> {
        let (site, roster, phone) = (drawer.site()?, drawer.roster()?, drawer.phone(person)?);
        let mut approver = Approver::new(&site, &roster, &phone);
        let answer = approver.try_claim(ticket);
        if answer.status != 200 {
            return match answer.problem() {
                "ticket-over" | "ticket-unknown" => Ok(false),
                other => Err(format!("{person} cannot claim: {other}")),
            };
        }
        let claim = Claim::read(answer.ok());
        let mut statement = approver.statement(&claim, decision);
        if let Some(ttl_s) = self.ttl_s {
            statement.ttl_s = statement.ttl_s.min(ttl_s);
        }
        let sent = approver.send(&claim, &statement);
        if sent.status == 200 { Ok(true) } else { Err(format!("{person}: {} {}", sent.status, sent.body)) }
    }
}

fn number(text: &str) -> Outcome<u32> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// The last whole ticket that was shown: 26 characters of base 32 and then something else.
fn newest_ticket(transcript: &str) -> Option<String> {
    let mut found = None;
    for (at, mark) in transcript.match_indices("/S/") {
        let rest = transcript.get(at + mark.len()..)?;
        let ticket: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || ('2'..='7').contains(c)).collect();
        if ticket.len() == 26 && rest.len() > 26 {
            found = Some(ticket);
        }
    }
    found
}

fn shell(script: &str, screen: &str) -> Outcome<String> {
    let wrong = |e: std::io::Error| format!("{script}: {e}");
    let mut child = Command::new("/bin/bash")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(wrong)?;
    if let Some(mut input) = child.stdin.take() {
        // A command that does not look at the screen is fine.
        let _ = input.write_all(screen.as_bytes());
    }
    let output = child.wait_with_output().map_err(wrong)?;
    if !output.status.success() {
        return Err(format!("{script}: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
