//! Faults that the caller can cause in the module's own process, and what the caller can see of it.

use std::time::Duration;

use twinlock_tests::demo::measure::InstantHost;
use twinlock_tests::installation::{Plan, scan_ticket};
use twinlock_tests::ns::in_namespace_within;
use twinlock_tests::proc::Snapshot;
use twinlock_tests::{Tail, here};

const LIMIT: Duration = Duration::from_secs(20);

/// Catalogue: P1 (control: inline)
///
/// An agent that answers at once with approvals by keys that nobody enrolled; and every eleventh
/// system call of sudo failing in turn, in two ways. No failure may make the module skip what refuses.
/// (Every one of them, allocations too, is the fault injection of issue 3.)
#[test]
fn a_failing_system_call_never_lets_bad_approvals_pass() {
    in_namespace_within(here!(), Duration::from_secs(400), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let trace = "strace -u alice -qq -o /dev/null";
        let honest = InstantHost::start(bed);
        let mut terminal = bed.terminal("root", &["sh", "-c", &format!("{trace} sudo sh -c 'id -un >/tmp/ran'")]);
        assert_eq!(terminal.exit_code(LIMIT), 0, "control: {}", terminal.screen());
        assert_eq!(std::fs::read_to_string("/tmp/ran").unwrap(), "root\n");
        drop(honest);
        std::fs::remove_file("/tmp/ran").unwrap();

        let _forger = InstantHost::start_forging(bed);
        let script = format!(
            "n=1; while [ $n -lt 2400 ]; do for e in EIO ENOMEM; do \
             timeout --foreground 30 {trace} -e inject=all:error=$e:when=$n sudo sh -c 'id -un >>/tmp/ran' >/dev/null 2>&1; \
             [ $? != 124 ] || echo $n >>/tmp/hung; done; n=$((n+11)); done; echo all-done"
        );
        let terminal = bed.terminal("root", &["sh", "-c", &script]);
        terminal.wait_for("all-done", Duration::from_secs(360));
        assert!(!std::path::Path::new("/tmp/ran").exists(), "{:?}", std::fs::read_to_string("/tmp/ran"));
        assert!(!std::path::Path::new("/tmp/hung").exists(), "{:?}", std::fs::read_to_string("/tmp/hung"));
    });
}

/// Catalogue: P9 (control: inline)
#[test]
fn the_caller_cannot_read_the_waiting_process() {
    in_namespace_within(here!(), Duration::from_secs(100), |bed| {
        bed.wire(&Tail::Twinlock);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let installation = Plan::new().start(bed);
        let mut own = twinlock_tests::proc::Daemon::start("own", &bed.person("alice"), &["sleep", "7100"]);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let _ = scan_ticket(&terminal, None);
        let spy = |pid: u32| {
            let trace = bed.run("alice", &["timeout", "2", "strace", "-p", &pid.to_string()]);
            let memory =
                bed.run("alice", &["sh", "-c", &format!("head -c 1 /proc/{pid}/environ && head -c 0 /proc/{pid}/mem")]);
            (!trace.stderr.contains("not permitted"), memory.ok())
        };
        assert_eq!(spy(own.pid()), (true, true), "control: one's own process can be read");
        let sudo = Snapshot::take().with_word("sudo").iter().map(|process| process.pid).collect::<Vec<_>>();
        assert!(!sudo.is_empty());
        for pid in sudo {
            assert_eq!(spy(pid), (false, false), "sudo {pid}");
        }
        own.kill();
        drop(installation);
    });
}
