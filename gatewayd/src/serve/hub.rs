//! The agents that are connected now. A host has one connection at a time; a newer one replaces the
//! older. Sending never waits: an agent that does not read loses its connection and resumes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use twinlock_protocol::ids::HostId;
use twinlock_protocol::wire::agent::GatewayMessage;

/// Messages that wait for one agent.
const QUEUE: usize = 4096;

/// One connection among those that a host has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

struct Connected {
    generation: Generation,
    messages: Sender<GatewayMessage>,
}

/// The connected agents.
#[derive(Default)]
pub struct Hub {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    hosts: HashMap<HostId, Connected>,
}

impl Hub {
    /// A host connected. Its messages come out of the receiver; the receiver ends when a newer
    /// connection replaces this one, or when it did not read.
    pub fn connect(&self, host: &HostId) -> (Generation, Receiver<GatewayMessage>) {
        let (messages, receiver) = channel(QUEUE);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last = inner.last.saturating_add(1);
        let generation = Generation(inner.last);
        inner.hosts.insert(host.clone(), Connected { generation, messages });
        (generation, receiver)
    }

    /// A connection ended; whether the host has none now.
    pub fn disconnect(&self, host: &HostId, generation: Generation) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.hosts.get(host) {
            Some(connected) if connected.generation == generation => {
                inner.hosts.remove(host);
                true
            }
            // Dropped for not reading, or replaced.
            Some(_) => false,
            None => true,
        }
    }

    /// Sends to a host, if it is connected.
    pub fn send(&self, host: &HostId, message: GatewayMessage) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let undelivered = inner.hosts.get(host).is_some_and(|connected| connected.messages.try_send(message).is_err());
        if undelivered {
            inner.hosts.remove(host);
        }
    }

    /// How many hosts are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).hosts.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
