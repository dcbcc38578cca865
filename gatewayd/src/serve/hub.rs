//! The agents that are connected now. A host has one connection at a time; a newer one replaces the
//! older. Sending never waits: an agent that does not read loses its connection and resumes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use twinlock_protocol::Bytes;
use twinlock_protocol::ids::{HostId, RequestId};
use twinlock_protocol::wire::agent::{ForModule, GatewayMessage};
use twinlock_protocol::wire::module::{Granted, ModuleEvent};

use crate::store::CrlRow;

/// Messages that wait for one agent.
const QUEUE: usize = 4096;

/// A message that waits for its agent. A grant's revocation list is shared until it is written:
/// thousands may wait.
#[derive(Debug)]
pub enum Outgoing {
    /// As it is.
    Message(GatewayMessage),
    /// A grant, put together when it is written.
    Granted {
        /// The request.
        request: RequestId,
        /// DER.
        certificate: Bytes,
        /// The evidence's bytes.
        evidence: Bytes,
        /// The list of the moment of the grant.
        crl: Arc<CrlRow>,
    },
}

impl From<GatewayMessage> for Outgoing {
    fn from(message: GatewayMessage) -> Self {
        Self::Message(message)
    }
}

impl Outgoing {
    /// As the wire has it.
    #[must_use]
    pub fn into_message(self) -> GatewayMessage {
        match self {
            Self::Message(message) => message,
            Self::Granted { request, certificate, evidence, crl } => {
                let granted = Granted { certificate, evidence, crl: crl.der.clone() };
                GatewayMessage::Module(ForModule { request, event: ModuleEvent::Granted(granted) })
            }
        }
    }
}

/// One connection among those that a host has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

struct Connected {
    generation: Generation,
    messages: Sender<Outgoing>,
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
    pub fn connect(&self, host: &HostId) -> (Generation, Receiver<Outgoing>) {
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
    pub fn send(&self, host: &HostId, message: Outgoing) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let undelivered = inner.hosts.get(host).is_some_and(|connected| connected.messages.try_send(message).is_err());
        if undelivered {
            inner.hosts.remove(host);
        }
    }

    /// Sends to every connected host.
    pub fn send_all(&self, message: &GatewayMessage) {
        let hosts: Vec<HostId> = {
            let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.hosts.keys().cloned().collect()
        };
        for host in hosts {
            self.send(&host, message.clone().into());
        }
    }

    /// Ends a host's connection, if it has one.
    pub fn hang_up(&self, host: &HostId) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).hosts.remove(host);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use twinlock_protocol::{Digest, UnixTime};

    use super::*;

    #[test]
    fn grants_that_wait_share_one_revocation_list() {
        let (hub, host) = (Hub::default(), HostId::new("web01").unwrap());
        let (_, mut messages) = hub.connect(&host);
        let der = Bytes(vec![7; 1 << 20]);
        let crl = Arc::new(CrlRow { number: 1, this_update: UnixTime(1), next_update: UnixTime(2), der });
        for _ in 0..100 {
            let request = RequestId(Digest::plain(b"a request"));
            let granted = |part: &[u8]| Bytes(part.to_vec());
            let (certificate, evidence) = (granted(b"certificate"), granted(b"evidence"));
            hub.send(&host, Outgoing::Granted { request, certificate, evidence, crl: Arc::clone(&crl) });
        }
        assert_eq!(Arc::strong_count(&crl), 101);
        let first = messages.try_recv().unwrap().into_message();
        let GatewayMessage::Module(ForModule { event: ModuleEvent::Granted(granted), .. }) = first else {
            panic!("{first:?}")
        };
        assert_eq!(granted.crl, crl.der);
        assert_eq!(Arc::strong_count(&crl), 100);
    }
}
