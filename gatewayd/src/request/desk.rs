//! The one open slot of a waiting request: its tickets, and the lease of whoever claimed it.
//! Tickets are kept as hashes; each can be claimed once, by somebody who may answer.

use serde::{Deserialize, Serialize};
use twinlock_protocol::ids::{CredentialId, DeviceId, PersonId, TerminalCode, Ticket};
use twinlock_protocol::statement::{Channel, InboxMark};
use twinlock_protocol::{DenyReason, Digest, Fixed, UnixTime, limits};

use super::state::LinkState;
use crate::audit::Way;

/// A shown ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    hash: Digest,
    shown_at: UnixTime,
    spent: bool,
}

impl Shown {
    fn is_over(&self, now: UnixTime) -> bool {
        now >= self.shown_at.plus(limits::TICKET_VALID_S.into()) || now < self.shown_at
    }
}

/// Who claims, with what. The caller has verified the sign-in and the device's silent signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The person.
    pub person: PersonId,
    /// The device.
    pub device: DeviceId,
    /// The passkey.
    pub credential: CredentialId,
    /// The source address, for the audit.
    pub from: String,
}

/// By which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimBy {
    /// The hash of a scanned ticket.
    Ticket(Digest),
    /// A typed terminal code.
    Code(TerminalCode),
}

/// A claim: one person's lease on a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The hash of the claim's id; the page alone knows the id.
    pub claim: Digest,
    /// 1 or 2.
    pub slot: u8,
    /// Who holds it.
    pub person: PersonId,
    /// On which device.
    pub device: DeviceId,
    /// With which passkey.
    pub credential: CredentialId,
    /// What the statement must name as its channel.
    pub channel: Channel,
    /// What the statement must carry.
    pub salt: Fixed<32>,
    /// Until when.
    pub until: UnixTime,
}

impl Lease {
    /// By which way the holder came.
    #[must_use]
    pub fn way(&self) -> Way {
        match self.channel {
            Channel::Ticket(_) => Way::Ticket,
            Channel::Inbox(InboxMark {}) => Way::Inbox,
        }
    }
}

/// An open slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desk {
    slot: u8,
    tickets: Vec<Shown>,
    lease: Option<Lease>,
    /// The terminal may have lost its picture: a fresh ticket is due so many seconds after the last.
    #[serde(default)]
    again_s: Option<u64>,
}

/// A terminal that may have lost its picture gets another one this long after the last, in seconds.
const AGAIN_S: u64 = 2;
/// Tickets that are remembered; beyond it the oldest go first.
const TICKETS: usize = 8;

impl Desk {
    /// A slot without tickets.
    #[must_use]
    pub fn new(slot: u8) -> Self {
        Self { slot, tickets: Vec::new(), lease: None, again_s: None }
    }

    /// 1 or 2.
    #[must_use]
    pub fn slot(&self) -> u8 {
        self.slot
    }

    /// The lease, if somebody holds the slot.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// The hashes of tickets that can be looked up, spent ones included.
    pub fn tickets(&self) -> impl Iterator<Item = Digest> + '_ {
        self.tickets.iter().map(|shown| shown.hash)
    }

    /// When something about this slot changes next: the lease ends, or a fresh ticket is due.
    pub(super) fn due(&self) -> UnixTime {
        if let Some(lease) = &self.lease {
            return lease.until;
        }
        let newest = self.tickets.iter().filter(|shown| !shown.spent).map(|shown| shown.shown_at).max();
        newest.map_or(UnixTime(0), |shown_at| shown_at.plus(self.young_s()))
    }

    /// How long a ticket is shown before a fresh one is due, in seconds.
    fn young_s(&self) -> u64 {
        self.again_s.unwrap_or(limits::TICKET_ROTATE_S.into())
    }

    /// Forgets tickets past their time; gives back a lease past its time.
    pub(super) fn pass_time(&mut self, now: UnixTime) -> Option<Lease> {
        self.tickets.retain(|shown| !shown.is_over(now));
        self.lease.take_if(|lease| now >= lease.until)
    }

    /// Shows `fresh` when the slot is free and no ticket younger than the rotation is up.
    pub(super) fn rotate(&mut self, fresh: &Ticket, now: UnixTime) -> bool {
        let young_s = self.young_s();
        let young = |shown: &Shown| !shown.spent && now < shown.shown_at.plus(young_s);
        if self.lease.is_some() || self.tickets.iter().any(young) {
            return false;
        }
        if self.tickets.len() >= TICKETS {
            let spent = self.tickets.iter().position(|shown| shown.spent);
            self.tickets.remove(spent.unwrap_or(0));
        }
        self.tickets.push(Shown { hash: fresh.hash(), shown_at: now, spent: false });
        self.again_s = None;
        true
    }

    /// The terminal may have lost its picture: a fresh ticket is due, at once when its link was lost,
    /// otherwise not right after another. Tickets that it shows still count.
    pub(super) fn show_again(&mut self, link: LinkState) {
        self.again_s = match (link, self.again_s) {
            (LinkState::LostAt(_), _) | (LinkState::Up, Some(0)) => Some(0),
            (LinkState::Up, Some(_) | None) => Some(AGAIN_S),
        };
    }

    /// Whether this ticket can be claimed now. Says nothing that a holder of the ticket could not
    /// see on the terminal.
    pub(super) fn check_ticket(&self, hash: &Digest, now: UnixTime) -> Result<(), DenyReason> {
        let shown = self.tickets.iter().find(|shown| shown.hash == *hash).ok_or(DenyReason::TicketUnknown)?;
        match &self.lease {
            _ if shown.is_over(now) => Err(DenyReason::TicketOver),
            Some(Lease { channel: Channel::Ticket(taken), .. }) if taken == hash => Err(DenyReason::TicketOver),
            Some(_) => Err(DenyReason::SlotTaken),
            None if shown.spent => Err(DenyReason::TicketOver),
            None => Ok(()),
        }
    }

    /// Takes the slot; the lease that it replaces. Every ticket of it is spent: the next person
    /// scans a fresh one.
    pub(super) fn take(&mut self, lease: Lease) -> Option<Lease> {
        for shown in &mut self.tickets {
            shown.spent = true;
        }
        self.lease.replace(lease)
    }

    /// Gives the slot back.
    pub(super) fn release(&mut self) -> Option<Lease> {
        self.lease.take()
    }
}
