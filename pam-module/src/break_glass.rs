//! Break-glass: when agent or gateway are away, the request is printed as a challenge, two holders of
//! break-glass keys sign it somewhere else, and their answers are typed here. Still two people, never
//! one secret: `protocol::break_glass` decides, under the pinned roster. Never begun for a request
//! that a gateway has taken, and never where nobody sits at the terminal.
#![forbid(unsafe_code)]

use twinlock_protocol::break_glass::{
    Answer, BreakGlassEvidence, Purpose, VerifiedBreakGlass, VerifiedOffline, challenge, holders, verify_answer,
};
use twinlock_protocol::evidence::{Authority, BreakGlassGiven};
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::request::StdinKind;
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::verify::VerifiedRequest;
use twinlock_protocol::{Bytes, DenyReason, escape, limits};
use zeroize::Zeroizing;

use crate::clock::{boot_ms, minutes, time_of_day, wall};
use crate::command_line::Questions;
use crate::config::Config;
use crate::conversation::{Conversation, Unanswered};
use crate::grant_store::Grant;
use crate::journal;
use crate::refusal::Refusal;
use crate::roster_slots;
use crate::screen::{Look, Scene, Screen};
use crate::signals::Signals;
use crate::terminal::Terminal;
use crate::trusted::Owner;

/// Empty answers, each of which only asks again: sudo takes a question back after five minutes.
const PATIENCE: u32 = 60;

/// What the module itself knows.
pub struct Offline<'a> {
    /// The host's configuration.
    pub config: &'a Config,
    /// Whose files count.
    pub owner: Owner,
    /// The pinned roster.
    pub roster: &'a VerifiedRoster,
    /// The request, as this very invocation made and verified it.
    pub request: &'a VerifiedRequest,
    /// Whether the application's questions reach the terminal.
    pub questions: Questions,
    /// What the terminal can do.
    pub look: Look,
}

impl Offline<'_> {
    /// Whether what refused the request leaves this way open: nobody took it, and two people who may
    /// could answer. What is missing otherwise is added to the refusal's words.
    ///
    /// # Errors
    /// The refusal.
    pub fn after(&self, refusal: Refusal, taken: bool) -> Result<(), Refusal> {
        if !matches!(refusal.reason, DenyReason::GatewayUnavailable | DenyReason::AgentUnavailable) {
            return Err(refusal);
        }
        let asked = self.request.request();
        let why_not = if taken {
            "a gateway took this request; another one may be approved offline"
        } else if holders(self.roster, self.request).map_or(0, |people| people.len()) < limits::MIN_QUORUM as usize {
            "and there are no break-glass keys of two people who may approve this"
        } else if self.questions != Questions::Terminal
            || (asked.service.starts_with("su")
                && !asked.service.starts_with("sudo")
                && asked.stdin != StdinKind::Terminal)
        {
            "break-glass needs answers typed at a terminal"
        } else if self.request.signed().request.0.len() > limits::CHALLENGE_BYTES {
            "the command line is too long for break-glass"
        } else {
            return Ok(());
        };
        Err(Refusal { said: Some(why_not.to_owned()), ..refusal })
    }

    /// Asks for two answers, waits, and makes the grant; and what stays on the terminal.
    ///
    /// # Errors
    /// The refusal: given up, a no, too many wrong answers, or a newer roster meanwhile.
    pub fn ask(
        &self,
        conversation: &mut dyn Conversation,
        terminal: &Terminal,
        signals: &Signals,
        session_key: Zeroizing<Vec<u8>>,
    ) -> Result<(Grant, Vec<String>), Refusal> {
        let grant = self.request.id().grant();
        journal::alert(&format!("break-glass asked for, grant {grant}"));
        conversation.tell(&self.head());
        let mut answers = Answers { give_up_at: give_up_at(), wrong: 0, empty: 0 };
        let (one, first) = answers.next(self, conversation, signals, None)?;
        let (two, second) = answers.next(self, conversation, signals, Some(&first))?;
        let opened = VerifiedBreakGlass::new(self.roster, self.request, first, second)?;
        let [one_name, two_name] = opened.holders().each_ref().map(|holder| self.name(&holder.person));
        let who = format!("{one_name} and {two_name} approved offline");
        self.delay(&who, opened.delay_s(), conversation, terminal, signals)?;
        roster_slots::check_newest(&self.config.roster_dir, self.owner, &self.roster.reference())?;
        let ttl_s = opened.ttl_s().min(self.config.max_ttl_s);
        journal::alert(&format!("break-glass used, grant {grant}: {who}"));
        let last = vec![
            format!("{who}; ends {}", time_of_day(wall().plus(ttl_s.into()))),
            "twinlock: somebody who took no part will review this, and both keys must be replaced".to_owned(),
        ];
        let evidence = BreakGlassEvidence::new(self.request.id(), [&one, &two]);
        let grant = Grant {
            request: self.request.request().clone(),
            id: self.request.id(),
            signed: self.request.signed().clone(),
            authority: Authority::BreakGlass(BreakGlassGiven { evidence: Bytes(evidence.to_bytes()) }),
            serial: None,
            session_key,
            roster: self.roster.reference(),
            deadline_boot_ms: boot_ms().saturating_add(u64::from(ttl_s) * 1000),
        };
        Ok((grant, last))
    }

    fn head(&self) -> String {
        let people = holders(self.roster, self.request).unwrap_or_default();
        let names: Vec<String> = people.iter().map(|person| escape::visible(person.name.as_bytes())).collect();
        format!(
            "twinlock: break-glass: no gateway answers, so two of {} must sign this offline\n{}\n\
             grant {}\n\
             give it to them whole; each runs twinlock approve --offline and gives you a line (Enter waits on, Ctrl-C gives up)",
            names.join(", "),
            challenge(Purpose::Grant, &self.request.signed().request.0),
            self.request.id().grant()
        )
    }

    fn name(&self, person: &PersonId) -> String {
        self.roster.person(person).map_or_else(String::new, |person| escape::visible(person.name.as_bytes()))
    }

    /// The wait that gives others the time to notice.
    fn delay(
        &self,
        who: &str,
        delay_s: u32,
        conversation: &mut dyn Conversation,
        terminal: &Terminal,
        signals: &Signals,
    ) -> Result<(), Refusal> {
        let ready_at = boot_ms().saturating_add(u64::from(delay_s) * 1000);
        let mut screen = Screen::new(self.look, vec![format!("{who}; the command waits {}", minutes(delay_s.into()))]);
        let scene = |left: u64| Scene { status: status(left), ..Scene::default() };
        screen.draw(conversation, terminal.size(), &scene(delay_s.into()));
        let waited = loop {
            let left = ready_at.saturating_sub(boot_ms());
            if left == 0 {
                break Ok(());
            }
            screen.status(conversation, terminal.size(), &status(left.div_ceil(1000)));
            if let Err(refusal) = signals.wait(None, (left % 1000).max(20)) {
                break Err(refusal);
            }
        };
        screen.close(conversation, terminal.size(), &[]);
        waited
    }
}

fn status(left_s: u64) -> String {
    format!("it starts in {}, Ctrl-C to give up", minutes(left_s))
}

fn give_up_at() -> u64 {
    boot_ms().saturating_add(u64::from(limits::BREAK_GLASS_ANSWERS_S) * 1000)
}

/// What is left of the patience for answers.
struct Answers {
    give_up_at: u64,
    wrong: u32,
    empty: u32,
}

impl Answers {
    /// Asks until an answer verifies and is not by the same person as the one before.
    fn next(
        &mut self,
        offline: &Offline<'_>,
        conversation: &mut dyn Conversation,
        signals: &Signals,
        before: Option<&VerifiedOffline>,
    ) -> Result<(Answer, VerifiedOffline), Refusal> {
        let question = format!("twinlock: answer {} of 2: ", 1 + usize::from(before.is_some()));
        loop {
            let typed = signals.aside(|| conversation.ask(&question))?.map_err(|Unanswered| DenyReason::Cancelled)?;
            if boot_ms() >= self.give_up_at {
                return Err(DenyReason::Expired.into());
            }
            if typed.trim().is_empty() {
                self.empty += 1;
                if self.empty > PATIENCE {
                    return Err(DenyReason::Cancelled.into());
                }
                continue;
            }
            let judged =
                Answer::from_text(&typed).ok_or("a character is missing or wrong").and_then(
                    |answer| match verify_answer(offline.roster, offline.request, &answer) {
                        Err(DenyReason::Denied) => Ok(Err(DenyReason::Denied)),
                        Err(reason) => Err(reason.row().line),
                        Ok(said) if before.is_some_and(|before| before.person() == said.person()) => {
                            Err(DenyReason::SamePerson.row().line)
                        }
                        Ok(said) => Ok(Ok((answer, said))),
                    },
                );
            match judged {
                Ok(Ok(taken)) => return Ok(taken),
                Ok(Err(denied)) => return Err(Refusal::saying(denied, "offline")),
                Err(why) => {
                    self.wrong += 1;
                    let left = limits::BREAK_GLASS_TRIES - self.wrong.min(limits::BREAK_GLASS_TRIES);
                    if left == 0 {
                        let id = offline.request.id();
                        return Err(Refusal::logging(DenyReason::BreakGlassAnswer, format!("{why}; request {id}")));
                    }
                    conversation.tell(&format!("twinlock: not taken: {why}; {left} tries left"));
                }
            }
        }
    }
}
