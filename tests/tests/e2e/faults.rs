//! Faults that the caller can cause in the module's own process, and what the caller can see of it.

use std::path::Path;
use std::time::Duration;

use twinlock_tests::bed::Bed;
use twinlock_tests::demo::measure::InstantHost;
use twinlock_tests::installation::{Plan, scan_ticket};
use twinlock_tests::ns::in_namespace_within;
use twinlock_tests::proc::Snapshot;
use twinlock_tests::{Tail, here};

/// pamtester with alice's real uid and root's effective one, as sudo has them; both phases.
const PAMTESTER: &str = "setpriv --ruid=1001 --rgid=1001 --clear-groups pamtester sudo root acct_mgmt open_session";
/// What Linux-PAM says for PAM_IGNORE, PAM_NEW_AUTHTOK_REQD and PAM_SESSION_ERR, and pamtester for a yes.
const NEVER: &str = "should be ignored|no longer valid|for the specified session|successfully";
/// Each call of the traced run as `NAME N`: its N-th call of that name, which is how strace counts.
const CALLS: &str = "sed -n 's/^\\([a-z0-9_]*\\)(.*/\\1/p' /tmp/trace | awk '{ print $1, ++seen[$1] }' >/tmp/cases";

/// Both phases in pamtester, honestly answered at first; then approvals by keys that nobody enrolled,
/// while each of the cases fails in turn. No failure may make the module skip what refuses, or answer
/// with a code that PAM takes for less than a refusal.
///
/// `counted` is the shell command that runs pamtester with nothing failing, and leaves the cases, at
/// `least` so many, in `/tmp/cases`; `once` runs it with the case of `$1` and `$2` failing.
fn nothing_that_fails_lets_bad_approvals_pass(bed: &Bed, least: usize, counted: &str, once: &str) {
    bed.wire(&Tail::Lines("account required pam_twinlock.so\nsession required pam_twinlock.so\n".to_owned()));
    // Where the file of a service can't be opened, libpam takes this one: it must deny.
    bed.write("/etc/pam.d/other", OTHER_DENIES);
    let shell = |script: &str| {
        let mut terminal = bed.terminal("root", &["sh", "-c", script]);
        let code = terminal.exit_code(Duration::from_secs(900));
        (code, terminal.screen())
    };
    let honest = InstantHost::start(bed);
    let (code, screen) = shell(counted);
    assert_eq!(code, 0, "control: {screen}");
    let cases = std::fs::read_to_string("/tmp/cases").unwrap().lines().count();
    assert!(cases >= least, "control: {cases} are far too few");
    drop(honest);

    let _forger = InstantHost::start_forging(bed);
    // Waits for an agent that went away are most of the time: many at once.
    bed.write(
        "/tmp/once",
        format!(
            "said=/tmp/said.$1.$2; timeout 60 {once} >$said 2>&1; code=$?\n\
             [ $code != 0 ] || echo \"$@\" >>/tmp/passed\n\
             [ $code != 124 ] || echo \"$@\" >>/tmp/hung\n\
             ! grep -qE '{NEVER}' $said || cat $said >>/tmp/passed\n\
             rm -f $said; echo \"$@\" >>/tmp/tried\n"
        ),
    );
    let (code, screen) = shell("cp /tmp/cases /tmp/all; sh /tmp/once none 0; xargs -P 8 -L 1 sh /tmp/once </tmp/all");
    assert_eq!(code, 0, "{screen}");
    let tried = std::fs::read_to_string("/tmp/tried").unwrap().lines().count();
    assert_eq!(tried, cases + 1, "every one was tried, and none at all");
    for bad in ["/tmp/passed", "/tmp/hung"] {
        assert!(!Path::new(bad).exists(), "{bad}: {:?}", std::fs::read_to_string(bad));
    }
    std::fs::remove_file("/tmp/tried").unwrap();
}

const OTHER_DENIES: &str = "auth required pam_deny.so\naccount required pam_deny.so\n\
                            password required pam_deny.so\nsession required pam_deny.so\n";

/// Catalogue: P1 (control: inline)
#[test]
fn no_failing_system_call_lets_bad_approvals_pass() {
    in_namespace_within(here!(), Duration::from_secs(900), |bed| {
        for error in ["EIO", "ENOMEM"] {
            nothing_that_fails_lets_bad_approvals_pass(
                bed,
                300,
                &format!("strace -qq -o /tmp/trace {PAMTESTER}; code=$?; {CALLS}; exit $code"),
                &format!("strace -qq -o /dev/null -e inject=$1:error={error}:when=$2 {PAMTESTER}"),
            );
        }
    });
}

/// Catalogue: P1 (control: inline)
///
/// A write that says it took one byte: half a frame, half a slot.
#[test]
fn no_short_write_lets_bad_approvals_pass() {
    in_namespace_within(here!(), Duration::from_secs(300), |bed| {
        nothing_that_fails_lets_bad_approvals_pass(
            bed,
            8,
            &format!(
                "strace -qq -e trace=write,pwrite64,writev,sendto,sendmsg -o /tmp/trace {PAMTESTER}; \
                 code=$?; {CALLS}; exit $code"
            ),
            &format!("strace -qq -o /dev/null -e inject=$1:retval=1:when=$2 {PAMTESTER}"),
        );
    });
}

/// Every fourth of the many thousand allocations; in CI every one.
///
/// Catalogue: P1 (control: inline)
#[test]
fn no_failing_allocation_lets_bad_approvals_pass() {
    in_namespace_within(here!(), Duration::from_secs(900), |bed| {
        let library = "/tmp/failing-malloc.so";
        let step = if std::env::var_os("CI").is_some() { 1 } else { 4 };
        bed.write("/tmp/failing-malloc.c", include_str!("failing_malloc.c"));
        let built = bed.run("root", &["gcc", "-shared", "-fPIC", "-O1", "-o", library, "/tmp/failing-malloc.c"]);
        assert!(built.ok(), "{}", built.stderr);
        // Real and effective uid differ, so the loader would ignore LD_PRELOAD.
        bed.write("/etc/ld.so.preload", format!("{library}\n"));
        nothing_that_fails_lets_bad_approvals_pass(
            bed,
            1000,
            &format!(
                "env MALLOC_COUNT=/tmp/count {PAMTESTER}; code=$?; \
                 seq 1 {step} $(cat /tmp/count) | sed 's/^/malloc /' >/tmp/cases; exit $code"
            ),
            &format!("env MALLOC_FAIL=$2 {PAMTESTER}"),
        );
    });
}

/// Linux-PAM's own way out: where the file of a service can't be opened, for whatever reason, it takes
/// `/etc/pam.d/other`, and the module is not in it. So `other` must deny (ARCHITECTURE.md).
///
/// Catalogue: P1 (control: inline)
#[test]
fn a_service_file_that_cannot_be_opened_is_refused_where_other_denies() {
    in_namespace_within(here!(), Duration::from_secs(60), |bed| {
        bed.wire(&Tail::Lines("account required pam_twinlock.so\nsession required pam_twinlock.so\n".to_owned()));
        let script = format!("strace -qq -o /dev/null -e inject=openat:error=ENOMEM -P /etc/pam.d/sudo {PAMTESTER}");
        let run = || bed.terminal("root", &["sh", "-c", &script]).exit_code(Duration::from_secs(30));
        bed.write("/etc/pam.d/other", OTHER_DENIES.replace("pam_deny", "pam_permit"));
        assert_eq!(run(), 0, "control: libpam takes `other`");
        bed.write("/etc/pam.d/other", OTHER_DENIES);
        assert_ne!(run(), 0);
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
