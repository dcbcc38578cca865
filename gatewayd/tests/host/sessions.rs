//! How sessions begin and end.

use std::time::{Duration, Instant};

use twinlock_protocol::evidence::EndReason;

use crate::bench::{Bench, alive, root, within};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_session_that_finishes_is_recorded_and_its_leaf_is_gone() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let mut front = bench.front_end(60_000, "true");
    let grant = front.grant();
    let end = bench.end_of(&grant, SOON);
    assert_eq!(end.reason, EndReason::Finished);
    assert!(end.killed.is_empty() && end.escaped.is_empty() && !end.lingered, "{end:?}");
    assert!(within(SOON, || !bench.leaf(&grant).exists()));
}

/// Catalogue: X1 (control: a_session_that_finishes_is_recorded_and_its_leaf_is_gone)
#[test]
fn setsid_nohup_and_double_forked_children_are_gone_at_the_deadline() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    let script = "sleep 600 & setsid sleep 600 & nohup sleep 600 >/dev/null 2>&1 & \
                  setsid sh -c '(setsid sleep 600 &)'; sleep 600";
    let begun = Instant::now();
    let mut front = bench.front_end(1_500, script);
    let grant = front.grant();
    assert!(within(SOON, || bench.members(&grant).len() >= 7), "{:?}", bench.members(&grant));
    let members = bench.members(&grant);
    let end = bench.end_of(&grant, SOON);
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "ended too early");
    assert_eq!(end.reason, EndReason::Expired);
    assert!(end.took_ms < 1_000, "took {} ms", end.took_ms);
    assert!(members.iter().all(|pid| *pid == front.pid() || !alive(*pid)), "{end:?}");
    assert!(end.escaped.is_empty(), "{end:?}");
    assert!(end.killed.len() >= 5, "{end:?}");
    eprintln!("MEASURED expiry to last process dead: {} ms, {} killed", end.took_ms, end.killed.len());
    assert!(within(SOON, || !bench.leaf(&grant).exists()));
}
