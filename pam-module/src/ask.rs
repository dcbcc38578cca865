//! The wait: one request goes to the agent, its tickets are shown, and the answer comes back, or
//! the requester gives up, or the time is over. All that is heard here are claims: names come from
//! the pinned roster, and only `verify` believes a grant.
#![forbid(unsafe_code)]

use twinlock_protocol::evidence::SignedRequest;
use twinlock_protocol::ids::{PersonId, TerminalCode, Ticket};
use twinlock_protocol::roster::VerifiedRoster;
use twinlock_protocol::verify::{VerifiedAnswer, VerifiedRequest, verify_statement};
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::module::{Alarm, Cancel, Granted, ModuleEvent, ModuleMessage, Refused, Resume, Submit};
use twinlock_protocol::{DenyReason, Fixed, escape, limits};

use crate::clock::{boot_ms, minutes, time_of_day, wall};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::link::{Link, LinkError, Peer};
use crate::refusal::Refusal;
use crate::screen::{Scene, Screen};
use crate::signals::Signals;
use crate::terminal::Terminal;

/// After a lost link: the gateway keeps the request for its grace, and nothing beyond it.
const LOST_MS: u64 = (limits::LINK_GRACE_S as u64 + 5) * 1000;
/// Between two tries to get the link back, in milliseconds.
const RETRY_MS: u64 = 500;
/// So many approvers may have joined since the request was made; two would do.
const NEWCOMERS: usize = 16;
/// So much is shown of the id of one of them: a name of the gateway's choice, not a sentence.
const SHOWN_ID: usize = 20;

/// One request on its way.
pub struct Asking<'a> {
    /// The host's configuration.
    pub config: &'a Config,
    /// Whom to believe at the agent's socket.
    pub peer: Peer,
    /// The pinned roster.
    pub roster: &'a VerifiedRoster,
    /// The request.
    pub request: &'a VerifiedRequest,
    /// 256 random bits that alone resume it.
    pub resume_token: Fixed<32>,
    /// The six digits on the terminal.
    pub code: &'a TerminalCode,
    /// Until when both approvals count, in milliseconds of `CLOCK_BOOTTIME`.
    pub deadline_ms: u64,
    /// The connection on which rosters were asked for; none where it broke.
    pub link: Option<Link>,
    /// Who approved by the gateway's word and is not in the pinned roster: a newer one, which comes
    /// with the evidence, must have them.
    pub newcomers: Vec<PersonId>,
    /// A gateway took the request.
    pub taken: bool,
}

/// What is known of the request so far.
struct Progress {
    accepted: bool,
    slot: u8,
    ticket: Option<Ticket>,
    claimed: bool,
    approved: Vec<PersonId>,
    /// The last approval.
    note: Option<String>,
    link: LinkState,
}

enum LinkState {
    Up,
    /// The agent lost its gateway.
    GatewayAway,
    /// We lost the agent, at this time, and try again at the second.
    AgentAway {
        since_ms: u64,
        retry_ms: u64,
    },
}

impl LinkState {
    /// The link is lost; whoever takes our connections only to drop them gains no time by it.
    fn lose(&mut self, now: u64) {
        if !matches!(self, Self::AgentAway { .. }) {
            *self = Self::AgentAway { since_ms: now, retry_ms: now };
        }
    }
}

/// What one event leads to.
enum Step {
    /// Nothing to redraw but, perhaps, the status.
    Wait,
    /// Redraw.
    Draw,
    /// The answer.
    Answer(Granted),
}

impl Asking<'_> {
    /// Submits the request and waits for its end. What comes back is only what the gateway sent.
    ///
    /// # Errors
    /// The refusal that ends it: denied, expired, cancelled, refused by agent or gateway, or a
    /// daemon that is not there or breaks the protocol.
    pub fn ask(
        &mut self,
        conversation: &mut dyn Conversation,
        terminal: &Terminal,
        screen: &mut Screen,
        signals: &Signals,
    ) -> Result<Granted, Refusal> {
        let mut link = self.link.take();
        let result = self.run(conversation, terminal, screen, signals, &mut link);
        // Closing says the same; the message spares the gateway the guess.
        if let (Err(refusal), Some(link)) = (&result, &mut link)
            && matches!(refusal.reason, DenyReason::Cancelled | DenyReason::Expired)
        {
            link.send_if_it_fits(&ModuleMessage::Cancel(Cancel {}));
        }
        result
    }

    /// Audits an answer that did not verify: the grant for the system log, and a word to the gateway
    /// if one can be reached. Nothing is waited for.
    pub fn audit(&self, refusal: Refusal, signals: &Signals) -> Refusal {
        if !refusal.is_attack() {
            return refusal;
        }
        let alarm = Alarm { wire: WIRE_VERSION, request: self.request.id(), reason: refusal.reason };
        if let Ok(mut link) = Link::connect(&self.config.agent_socket, self.peer, signals) {
            link.send_if_it_fits(&ModuleMessage::Alarm(alarm));
        }
        let detail = refusal.logged.as_deref().unwrap_or(refusal.reason.row().line);
        Refusal { logged: Some(format!("{detail}; grant {}", self.request.id())), ..refusal }
    }

    fn run(
        &mut self,
        conversation: &mut dyn Conversation,
        terminal: &Terminal,
        screen: &mut Screen,
        signals: &Signals,
        link: &mut Option<Link>,
    ) -> Result<Granted, Refusal> {
        self.submit(signals, link).map_err(first_refusal)?;
        let mut progress = Progress {
            accepted: false,
            slot: 1,
            ticket: None,
            claimed: false,
            approved: Vec::new(),
            note: None,
            link: LinkState::Up,
        };
        loop {
            let now = boot_ms();
            if now >= self.deadline_ms {
                return Err(DenyReason::Expired.into());
            }
            let size = terminal.size();
            screen.status(conversation, size, &self.status(&progress, now));
            let step = match link.as_mut() {
                None => self.reconnect(&mut progress, link, now, signals)?,
                Some(open) => {
                    // The status shows whole seconds: wake when the next one begins.
                    let pause = ((self.deadline_ms - now) % 1000).max(20);
                    match open.receive::<ModuleEvent>(limits::FRAME_BYTES, pause, signals) {
                        Ok(None) => Step::Wait,
                        Ok(Some(event)) => self.event(event, &mut progress)?,
                        Err(LinkError::Lost(_)) => {
                            *link = None;
                            progress.link.lose(now);
                            Step::Wait
                        }
                        Err(error) => return Err(refusal(error)),
                    }
                }
            };
            match step {
                Step::Wait => {}
                Step::Draw => screen.draw(conversation, size, &self.scene(&progress, boot_ms())),
                Step::Answer(granted) => return Ok(granted),
            }
        }
    }

    fn submit(&self, signals: &Signals, link: &mut Option<Link>) -> Result<(), LinkError> {
        let link = match link {
            Some(link) => link,
            None => link.insert(Link::connect(&self.config.agent_socket, self.peer, signals)?),
        };
        let signed: SignedRequest = self.request.signed().clone();
        let submit = Submit { wire: WIRE_VERSION, signed, resume_token: self.resume_token };
        link.send(&ModuleMessage::Submit(submit), signals)
    }

    fn reconnect(
        &self,
        progress: &mut Progress,
        link: &mut Option<Link>,
        now: u64,
        signals: &Signals,
    ) -> Result<Step, Refusal> {
        let LinkState::AgentAway { since_ms, retry_ms } = progress.link else {
            return Err(DenyReason::Internal.into());
        };
        if now.saturating_sub(since_ms) > LOST_MS {
            return Err(DenyReason::AgentUnavailable.into());
        }
        if now < retry_ms {
            signals.wait(None, retry_ms - now)?;
            return Ok(Step::Wait);
        }
        let resumed = Link::connect(&self.config.agent_socket, self.peer, signals).and_then(|mut link| {
            let resume = Resume { wire: WIRE_VERSION, request: self.request.id(), resume_token: self.resume_token };
            link.send(&ModuleMessage::Resume(resume), signals)?;
            Ok(link)
        });
        match resumed {
            // Not "up" until the gateway says so by `accepted`: a daemon that takes the connection
            // and drops it again must not prolong the grace.
            Ok(open) => *link = Some(open),
            Err(LinkError::Lost(_)) => {}
            Err(error) => return Err(refusal(error)),
        }
        progress.link = LinkState::AgentAway { since_ms, retry_ms: now.saturating_add(RETRY_MS) };
        Ok(Step::Wait)
    }

    fn event(&mut self, event: ModuleEvent, progress: &mut Progress) -> Result<Step, Refusal> {
        let broken = |rule: &'static str| Err(Refusal::logging(DenyReason::WireMismatch, rule));
        match event {
            ModuleEvent::Accepted(accepted) => {
                if accepted.request != self.request.id() {
                    return broken("accepted names another request");
                }
                progress.link = LinkState::Up;
                progress.accepted = true;
                self.taken = true;
                // After a resume: approvals that were given while the link was lost.
                for person in accepted.approved {
                    self.approved(person, progress)?;
                }
                Ok(Step::Draw)
            }
            ModuleEvent::Ticket(show) => {
                if !(1..=2).contains(&show.slot) {
                    return broken("a ticket's slot is 1 or 2");
                }
                progress.slot = show.slot;
                progress.ticket = Some(show.ticket);
                progress.claimed = false;
                Ok(Step::Draw)
            }
            ModuleEvent::Claimed(slot) => {
                progress.claimed = slot.slot == progress.slot;
                Ok(Step::Wait)
            }
            ModuleEvent::Approved(approved) => {
                self.approved(approved.person, progress)?;
                Ok(Step::Draw)
            }
            ModuleEvent::Denied(denied) => Err(self.denied(&denied.statement)),
            ModuleEvent::Refused(refused) => Err(told(&refused)),
            ModuleEvent::Granted(granted) => Ok(Step::Answer(granted)),
            ModuleEvent::Link(link) => {
                progress.link = if link.up { LinkState::Up } else { LinkState::GatewayAway };
                Ok(Step::Wait)
            }
            // The answer came too late: the request is made under the pinned roster.
            ModuleEvent::Rosters(_) => Ok(Step::Wait),
        }
    }

    fn approved(&mut self, person: PersonId, progress: &mut Progress) -> Result<(), Refusal> {
        if progress.approved.contains(&person) {
            return Ok(());
        }
        let who = match self.name(&person) {
            Some(name) => name,
            None => self.newcomer(&person)?,
        };
        progress.note = Some(format!("{who} approved {}", time_of_day(wall())));
        progress.approved.push(person);
        progress.slot = 2;
        progress.claimed = false;
        // This ticket is spent; the next one comes with its own event.
        progress.ticket = None;
        Ok(())
    }

    /// Whoever joined since this request was made is as unknown here as somebody made up. The roster
    /// that comes with the evidence tells them apart, see `verify`.
    fn newcomer(&mut self, person: &PersonId) -> Result<String, Refusal> {
        if self.newcomers.len() >= NEWCOMERS {
            return Err(Refusal::logging(DenyReason::WireMismatch, "approvals by more newcomers than can be"));
        }
        self.newcomers.push(person.clone());
        let id = person.as_str();
        // An id is ASCII of a closed alphabet: it can be cut anywhere, and stands as it is.
        let shown = id.get(..SHOWN_ID).map_or_else(|| id.to_owned(), |start| format!("{start}.."));
        Ok(format!("somebody new (\"{shown}\", not verified yet)"))
    }

    /// A denial refuses whether or not it verifies; the words are shown only when it does.
    fn denied(&self, statement: &twinlock_protocol::statement::SignedStatement) -> Refusal {
        match verify_statement(self.roster, self.request, statement) {
            Ok(VerifiedAnswer::Denial(denial)) => {
                let name = self.name(denial.signer().person()).unwrap_or_default();
                let said = match denial.reason().map(str::trim).filter(|reason| !reason.is_empty()) {
                    None => format!("by {name}"),
                    Some(reason) => format!("by {name}, who says: {}", escape::visible(reason.as_bytes())),
                };
                Refusal::saying(DenyReason::Denied, said)
            }
            Ok(VerifiedAnswer::Approval(_)) => DenyReason::EvidenceMalformed.into(),
            // Perhaps by a newer roster, which does not come with a denial: no proof, and no alarm.
            Err(DenyReason::ApproverUnknown | DenyReason::ApproverNotEligible) => {
                let said = "so says the gateway, by somebody whom this host does not know as an approver";
                Refusal::told(DenyReason::Denied, Some(said.to_owned()))
            }
            Err(reason) => reason.into(),
        }
    }

    /// A person's name, from the pinned roster alone.
    fn name(&self, person: &PersonId) -> Option<String> {
        self.roster.roster().person(person).map(|person| escape::visible(person.name.as_bytes()))
    }

    fn scene(&self, progress: &Progress, now: u64) -> Scene {
        let origin = self.roster.roster().qr_origin();
        let address = origin.zip(progress.ticket.as_ref()).map(|(origin, ticket)| address(origin, ticket));
        let note = progress.note.as_ref().map(|note| match (progress.slot, &progress.ticket) {
            (2, Some(_)) => format!("{note}; approver 2: scan this one"),
            _ => note.clone(),
        });
        Scene { address, code: format!("code {}", self.code), note, status: self.status(progress, now) }
    }

    fn status(&self, progress: &Progress, now: u64) -> String {
        let left = minutes(self.deadline_ms.saturating_sub(now).div_ceil(1000));
        let what = match (&progress.link, progress.accepted, progress.claimed) {
            (LinkState::AgentAway { .. }, ..) => "the twinlock agent is away, trying again".to_owned(),
            (LinkState::GatewayAway, ..) => "the gateway is away, trying again".to_owned(),
            (LinkState::Up, false, _) => "asking the gateway".to_owned(),
            (LinkState::Up, true, true) => format!("approver {} of 2 is reading it", progress.slot),
            (LinkState::Up, true, false) => format!("waiting for approver {} of 2", progress.slot),
        };
        format!("{what}, {left} left, Ctrl-C to give up")
    }
}

/// The address that the QR holds, upper case so that the code stays small: scheme and host don't
/// mind, path and ticket are upper case by nature.
fn address(origin: &str, ticket: &Ticket) -> String {
    format!("{}/S/{}", origin.to_ascii_uppercase(), ticket.as_str())
}

fn told(refused: &Refused) -> Refusal {
    let said = match refused.retry_after_s {
        // Nobody's word: a person's comes with a statement, see `denied`.
        None if refused.reason == DenyReason::Denied => Some("so says the gateway alone".to_owned()),
        None => None,
        Some(seconds) => Some(format!("try again in {}", minutes(seconds.into()))),
    };
    Refusal::told(refused.reason, said)
}

/// Before the request is submitted, a lost link means that there is no agent.
fn first_refusal(error: LinkError) -> Refusal {
    match error {
        LinkError::Lost(error) => Refusal::logging(DenyReason::AgentUnavailable, error),
        other => refusal(other),
    }
}

/// What a link that is of no use means to the requester.
pub fn refusal(error: LinkError) -> Refusal {
    match error {
        LinkError::Ended(refusal) => refusal,
        LinkError::Lost(_) | LinkError::NotTrusted(_) => Refusal::logging(DenyReason::AgentUnavailable, error),
        LinkError::Broken(_) => Refusal::logging(DenyReason::WireMismatch, error),
    }
}
