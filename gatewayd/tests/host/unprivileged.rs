//! The reaper as it is installed: a uid of its own, one capability, a delegated cgroup subtree.

use std::os::unix::fs::chown;
use std::time::Duration;

use twinlock_protocol::evidence::EndReason;

use crate::bench::{Bench, alive, root, within};

const SOON: Duration = Duration::from_secs(15);
const REAPER: u32 = 60_772;

#[test]
fn cap_kill_and_a_delegated_subtree_are_enough() {
    if !root() {
        return;
    }
    let own = REAPER.to_string();
    let prefix = [
        "setpriv",
        &format!("--reuid={own}"),
        &format!("--regid={own}"),
        "--clear-groups",
        "--inh-caps=-all,+kill",
        "--ambient-caps=-all,+kill",
        "--bounding-set=-all,+kill",
        "--no-new-privs",
    ];
    let mut bench = Bench::stopped(&prefix);
    chown(bench.dir.path(), Some(REAPER), Some(REAPER)).unwrap();
    chown(bench.path("grants"), Some(REAPER), Some(REAPER)).unwrap();
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        chown(bench.cgroup.join(file), Some(REAPER), Some(REAPER)).unwrap();
    }
    bench.start();
    let script = "setsid sleep 600 & setsid sh -c '(setsid sleep 600 &)'; kill -STOP $$";
    let mut front = bench.front_end(3_000, script);
    let grant = front.grant();
    assert!(within(SOON, || bench.members(&grant).len() >= 4));
    let members = bench.members(&grant);
    let end = bench.end_of(&grant, SOON);
    assert_eq!(end.reason, EndReason::Expired);
    assert!(end.took_ms < 1_000 && end.escaped.is_empty(), "{end:?}");
    assert!(end.killed.iter().any(|note| note.name == "sleep"), "names are known: {end:?}");
    assert!(members.iter().all(|pid| *pid == front.pid() || !alive(*pid)));
    assert!(front.hear("done").contains("signal: 9"), "the front end outlived its command");
    assert!(within(SOON, || !bench.leaf(&grant).exists()));
    // And it takes up what it left.
    let mut front = bench.front_end(2_000, "sleep 600");
    let grant = front.grant();
    bench.kill_reaper();
    bench.start();
    assert_eq!(bench.end_of(&grant, SOON).reason, EndReason::Expired);
}
