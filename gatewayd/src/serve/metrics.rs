//! Figures for `/metrics` (Prometheus text format). No name, host or person is in a label: labels
//! are closed words.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use twinlock_protocol::{DenyReason, UnixTime};

use crate::audit::{LimitName, Sinks};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabel {
    limit: String,
}

/// The gateway's figures.
pub struct Metrics {
    registry: Registry,
    admitted: Counter,
    moved: Family<StateLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    limited: Family<LimitLabel, Counter>,
    waiting: Gauge,
    agents: Gauge,
    commit_seconds: Histogram,
    commit_failures: Counter,
    issue_seconds: Histogram,
    crl_number: Gauge,
    crl_next_update: Gauge,
    copies_lost: Gauge,
    sinks: OnceLock<Arc<Sinks>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("twinlock"),
            admitted: Counter::default(),
            moved: Family::default(),
            refused: Family::default(),
            limited: Family::default(),
            waiting: Gauge::default(),
            agents: Gauge::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            commit_failures: Counter::default(),
            issue_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 12)),
            crl_number: Gauge::default(),
            crl_next_update: Gauge::default(),
            copies_lost: Gauge::default(),
            sinks: OnceLock::new(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests_admitted", "Requests stored", metrics.admitted.clone());
        registry.register("requests_moved", "Committed steps, by the state they led to", metrics.moved.clone());
        registry.register("refusals", "Refusals, by reason", metrics.refused.clone());
        registry.register("limits_reached", "Limits reached, by limit", metrics.limited.clone());
        registry.register("requests_waiting", "Requests that wait for approvers", metrics.waiting.clone());
        registry.register("agents_connected", "Hosts whose agent is connected", metrics.agents.clone());
        registry.register("commit_seconds", "Time to a durable commit", metrics.commit_seconds.clone());
        registry.register("commit_failures", "Transactions that did not commit", metrics.commit_failures.clone());
        registry.register("issue_seconds", "Time to make a certificate", metrics.issue_seconds.clone());
        registry.register("crl_number", "Number of the current revocation list", metrics.crl_number.clone());
        registry.register("crl_next_update", "Its end, in seconds since 1970", metrics.crl_next_update.clone());
        registry.register("audit_copies_lost", "Audit rows that a sink missed", metrics.copies_lost.clone());
        metrics
    }
}

impl Metrics {
    /// Where copies of audit rows go; told once.
    pub fn watch(&self, sinks: Arc<Sinks>) {
        let _told_before = self.sinks.set(sinks);
    }

    /// Whether the newest audit row missed a sink.
    #[must_use]
    pub fn copies_fail(&self) -> bool {
        self.sinks.get().is_some_and(|sinks| sinks.is_failing())
    }

    /// A request was stored.
    pub fn admitted(&self) {
        self.admitted.inc();
    }

    /// A step was committed.
    pub fn moved(&self, state: &'static str) {
        self.moved.get_or_create(&StateLabel { state }).inc();
    }

    /// Something was refused.
    pub fn refused(&self, reason: DenyReason) {
        self.refused.get_or_create(&ReasonLabel { reason: reason.row().name }).inc();
    }

    /// A limit was reached.
    pub fn limited(&self, limit: LimitName) {
        let limit = serde_json::to_value(limit).ok().and_then(|value| value.as_str().map(str::to_owned));
        self.limited.get_or_create(&LimitLabel { limit: limit.unwrap_or_default() }).inc();
    }

    /// So many requests wait.
    pub fn waiting(&self, count: usize) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many agents are connected.
    pub fn agents(&self, count: usize) {
        self.agents.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A transaction took so long.
    pub fn committed(&self, took: Duration, done: bool) {
        self.commit_seconds.observe(took.as_secs_f64());
        if !done {
            self.commit_failures.inc();
        }
    }

    /// A certificate took so long.
    pub fn issued(&self, took: Duration) {
        self.issue_seconds.observe(took.as_secs_f64());
    }

    /// A revocation list was published.
    pub fn crl(&self, number: u64, next_update: UnixTime) {
        self.crl_number.set(i64::try_from(number).unwrap_or(i64::MAX));
        self.crl_next_update.set(i64::try_from(next_update.0).unwrap_or(i64::MAX));
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn text(&self) -> String {
        let lost = self.sinks.get().map_or(0, |sinks| sinks.dropped());
        self.copies_lost.set(i64::try_from(lost).unwrap_or(i64::MAX));
        let mut out = String::new();
        // Writing into a string does not fail.
        let _written = text::encode(&mut out, &self.registry);
        out
    }
}
