//! governor limiters, named for what they protect: approvers from a flood of requests, the gateway
//! from a flood of calls. A limited person is told when to try again.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use twinlock_protocol::Digest;
use twinlock_protocol::ids::{HostId, PersonId, RequestId};

use crate::audit::LimitName;
use crate::config::LimitsConfig;

/// Audit rows per minute about strangers of one address.
const AUDITED_NOISE: u32 = 20;
/// Audit rows per minute about one limit that one party reaches.
const AUDITED_LIMITS: u32 = 2;
/// Messages per minute of one host's agent; beyond it the gateway reads more slowly.
const MESSAGES_OF_HOST: u32 = 6_000;
/// Resumes of one request per minute; a module resumes once per lost connection.
const RESUMES_OF_REQUEST: u32 = 30;
/// Audit rows per minute about what one host says, or one person signs, and is not believed.
const AUDITED_REFUSALS: u32 = 20;
/// Connections per minute of one host's agent.
const CONNECTS_OF_HOST: u32 = 60;

/// Too much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Of what.
    pub limit: LimitName,
    /// When it is worth trying again, in seconds.
    pub retry_after_s: u32,
}

struct PerMinute<K: Hash + Eq + Clone>(DefaultKeyedRateLimiter<K>, LimitName);

impl<K: Hash + Eq + Clone> PerMinute<K> {
    fn new(count: u32, name: LimitName) -> Self {
        let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        Self(RateLimiter::keyed(Quota::per_minute(count)), name)
    }

    fn check(&self, key: &K) -> Result<(), Limited> {
        self.0.check_key(key).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            Limited { limit: self.1, retry_after_s: seconds.saturating_add(1) }
        })
    }
}

/// Every limiter of the gateway.
pub struct Limits {
    /// By host and person: root on one host can use up what a person has there, and nowhere else.
    requests_per_person: PerMinute<(HostId, PersonId)>,
    requests_per_host: PerMinute<HostId>,
    calls_per_address: PerMinute<IpAddr>,
    /// By sign-in: whoever holds a stolen cookie does not use up its owner's calls on another one.
    calls_per_approver: PerMinute<Digest>,
    audited_noise: PerMinute<IpAddr>,
    audited_limits: PerMinute<(LimitName, String)>,
    audited_refusals: PerMinute<HostId>,
    audited_signatures: PerMinute<PersonId>,
    messages_of_host: PerMinute<HostId>,
    resumes_of_request: PerMinute<RequestId>,
    connects_of_host: PerMinute<HostId>,
    pending_per_person: u32,
    pending_per_host: u32,
    pending: u32,
}

/// How many requests wait already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Of the same person on the same host.
    pub of_person: usize,
    /// On the same host.
    pub on_host: usize,
    /// All together.
    pub all: usize,
}

impl Limits {
    /// As configured.
    #[must_use]
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            requests_per_person: PerMinute::new(config.requests_per_person, LimitName::RequestsPerPerson),
            requests_per_host: PerMinute::new(config.requests_per_host, LimitName::RequestsPerHost),
            calls_per_address: PerMinute::new(config.calls_per_address, LimitName::CallsPerAddress),
            calls_per_approver: PerMinute::new(config.calls_per_approver, LimitName::CallsPerApprover),
            audited_noise: PerMinute::new(AUDITED_NOISE, LimitName::CallsPerAddress),
            audited_limits: PerMinute::new(AUDITED_LIMITS, LimitName::CallsPerAddress),
            audited_refusals: PerMinute::new(AUDITED_REFUSALS, LimitName::RequestsPerHost),
            audited_signatures: PerMinute::new(AUDITED_REFUSALS, LimitName::CallsPerApprover),
            resumes_of_request: PerMinute::new(RESUMES_OF_REQUEST, LimitName::ResumesPerRequest),
            messages_of_host: PerMinute::new(MESSAGES_OF_HOST, LimitName::RequestsPerHost),
            connects_of_host: PerMinute::new(CONNECTS_OF_HOST, LimitName::ConnectsPerHost),
            pending_per_person: config.pending_per_person,
            pending_per_host: config.pending_per_host,
            pending: config.pending,
        }
    }

    /// A host submits a request; asked before any signature is checked.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn request_of_host(&self, host: &HostId) -> Result<(), Limited> {
        self.requests_per_host.check(host)
    }

    /// Persons submit a request on a host.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn request_of_persons(&self, host: &HostId, persons: &[PersonId], waiting: Waiting) -> Result<(), Limited> {
        // Approve-by ends what waits: a minute is when it is worth looking again.
        let full = |limit| Err(Limited { limit, retry_after_s: 60 });
        if waiting.all >= self.pending as usize {
            return full(LimitName::Pending);
        }
        if waiting.on_host >= self.pending_per_host as usize {
            return full(LimitName::PendingPerHost);
        }
        if waiting.of_person >= self.pending_per_person as usize {
            return full(LimitName::PendingPerPerson);
        }
        persons.iter().try_for_each(|person| self.requests_per_person.check(&(host.clone(), person.clone())))
    }

    /// A module picks its request up again.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn resume_of_request(&self, request: RequestId) -> Result<(), Limited> {
        self.resumes_of_request.check(&request)
    }

    /// Whether it is worth an audit row that this host said something that is not believed.
    #[must_use]
    pub fn is_refusal_worth_a_row(&self, host: &HostId) -> bool {
        self.audited_refusals.check(host).is_ok()
    }

    /// Whether it is worth an audit row that this person's signature to a change was refused.
    #[must_use]
    pub fn is_signature_worth_a_row(&self, person: &PersonId) -> bool {
        self.audited_signatures.check(person).is_ok()
    }

    /// An address calls the API. IPv6 addresses count by their /64.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn call_of_address(&self, address: IpAddr) -> Result<(), Limited> {
        self.calls_per_address.check(&network_of(address))
    }

    /// Whether a refusal that anybody can provoke is still worth an audit row: strangers must not
    /// fill the log (N6). What is not written is counted in the figures.
    #[must_use]
    pub fn is_worth_a_row(&self, address: IpAddr) -> bool {
        self.audited_noise.check(&network_of(address)).is_ok()
    }

    /// Whether it is worth an audit row that this party reached this limit once more.
    #[must_use]
    pub fn is_limit_worth_a_row(&self, limit: LimitName, who: &str) -> bool {
        self.audited_limits.check(&(limit, who.to_owned())).is_ok()
    }

    /// A host's agent connects.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn connect_of_host(&self, host: &HostId) -> Result<(), Limited> {
        self.connects_of_host.check(host)
    }

    /// How long the gateway waits before it reads a host's next message; none below the limit.
    #[must_use]
    pub fn pause_of_host(&self, host: &HostId) -> Option<Duration> {
        self.messages_of_host.0.check_key(host).err().map(|until| until.wait_time_from(DefaultClock::default().now()))
    }

    /// An approver claims, answers, or changes the roster.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn call_of_approver(&self, sign_in: &Digest) -> Result<(), Limited> {
        self.calls_per_approver.check(sign_in)
    }

    /// Forgets keys that are at rest.
    pub fn tidy(&self) {
        self.requests_per_person.0.retain_recent();
        self.requests_per_host.0.retain_recent();
        self.calls_per_address.0.retain_recent();
        self.calls_per_approver.0.retain_recent();
        self.audited_noise.0.retain_recent();
        self.audited_limits.0.retain_recent();
        self.audited_refusals.0.retain_recent();
        self.audited_signatures.0.retain_recent();
        self.resumes_of_request.0.retain_recent();
        self.messages_of_host.0.retain_recent();
        self.connects_of_host.0.retain_recent();
    }
}

/// The address by which a source is counted: one customer usually has a whole IPv6 /64.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_limited_host_is_told_when_to_try_again_and_another_is_not_limited() {
        let limits = Limits::new(&LimitsConfig { requests_per_host: 2, ..LimitsConfig::default() });
        let (one, two) = (HostId::new("web01").unwrap(), HostId::new("web02").unwrap());
        assert!(limits.request_of_host(&one).is_ok() && limits.request_of_host(&one).is_ok());
        let limited = limits.request_of_host(&one).unwrap_err();
        assert_eq!(limited.limit, LimitName::RequestsPerHost);
        assert!((1..=31).contains(&limited.retry_after_s), "{limited:?}");
        assert!(limits.request_of_host(&two).is_ok());
    }

    #[test]
    fn a_person_with_too_many_waiting_requests_is_limited() {
        let limits = Limits::new(&LimitsConfig::default());
        let (web01, alice) = (HostId::new("web01").unwrap(), [PersonId::new("alice").unwrap()]);
        let asks =
            |of_person, on_host, all| limits.request_of_persons(&web01, &alice, Waiting { of_person, on_host, all });
        assert!(asks(4, 99, 9_999).is_ok());
        assert_eq!(asks(5, 5, 5).unwrap_err().limit, LimitName::PendingPerPerson);
        assert_eq!(asks(0, 100, 100).unwrap_err().limit, LimitName::PendingPerHost);
        assert_eq!(asks(0, 0, 10_000).unwrap_err().limit, LimitName::Pending);
    }

    #[test]
    fn a_host_uses_up_a_persons_requests_on_itself_alone() {
        let limits = Limits::new(&LimitsConfig { requests_per_person: 2, ..LimitsConfig::default() });
        let (one, two) = (HostId::new("web01").unwrap(), HostId::new("web02").unwrap());
        let alice = [PersonId::new("alice").unwrap()];
        let asks = |host| limits.request_of_persons(host, &alice, Waiting::default());
        assert!(asks(&one).is_ok() && asks(&one).is_ok());
        assert_eq!(asks(&one).unwrap_err().limit, LimitName::RequestsPerPerson);
        assert!(asks(&two).is_ok());
    }

    #[test]
    fn a_stolen_cookie_uses_up_its_own_calls_alone() {
        let limits = Limits::new(&LimitsConfig { calls_per_approver: 2, ..LimitsConfig::default() });
        let (stolen, own) = (Digest::plain(b"stolen"), Digest::plain(b"own"));
        while limits.call_of_approver(&stolen).is_ok() {}
        assert!(limits.call_of_approver(&own).is_ok());
    }

    #[test]
    fn a_host_that_floods_is_read_more_slowly_and_its_limit_is_told_twice_a_minute() {
        let (limits, host) = (Limits::new(&LimitsConfig::default()), HostId::new("web01").unwrap());
        let free = (0..MESSAGES_OF_HOST).filter(|_| limits.pause_of_host(&host).is_none()).count();
        assert_eq!(free, MESSAGES_OF_HOST as usize);
        assert!(limits.pause_of_host(&host).is_some());
        let told = (0..10).filter(|_| limits.is_limit_worth_a_row(LimitName::RequestsPerHost, "web01")).count();
        assert_eq!(told, AUDITED_LIMITS as usize);
        assert!(limits.is_limit_worth_a_row(LimitName::RequestsPerHost, "web02"));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
