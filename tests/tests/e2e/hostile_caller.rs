//! A caller who controls argv, environment, limits, descriptors and the terminal changes nothing
//! that matters, and giving up is immediate.

use std::time::{Duration, Instant};

use twinlock_tests::approver::{Claim, is_success};
use twinlock_tests::installation::{Installation, Plan, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::proc::eventually;
use twinlock_tests::term::SANE;
use twinlock_tests::{Bed, Tail, Terminal, here};

const LIMIT: Duration = Duration::from_secs(20);

fn ready(bed: &Bed) -> Installation<'_> {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    Plan::new().start(bed)
}

fn pending(installation: &Installation<'_>) -> usize {
    let mut bob = installation.approver("bob");
    bob.sign_in();
    bob.get("/api/v1/inbox").ok()["requests"].as_array().expect("a list").len()
}

/// Catalogue: P4 (control: inline)
#[test]
fn giving_up_is_immediate_cancels_the_request_and_leaves_a_sane_terminal() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        for keys in ["\u{3}", "\u{1c}"] {
            let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
            let ticket = scan_ticket(&terminal, None);
            assert_eq!(pending(&installation), 1, "control: it waits");
            let pressed = Instant::now();
            terminal.send(keys);
            assert_ne!(terminal.exit_code(LIMIT), 0);
            assert!(pressed.elapsed() < Duration::from_secs(1), "{:?}", pressed.elapsed());
            assert_eq!(terminal.modes(), SANE);
            eventually("it is cancelled", Duration::from_secs(5), || pending(&installation) == 0);
            let late = installation.approver("bob").try_claim(&ticket);
            assert!(!is_success(late.status), "{late:?}");
        }
        // A closed terminal, and a kill that no handler sees.
        for end in ["hang-up", "kill"] {
            let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
            let _ = scan_ticket(&terminal, None);
            match end {
                "kill" => assert!(twinlock_tests::ns::signal(terminal.pid(), nix::sys::signal::Signal::SIGKILL)),
                _ => terminal.hang_up(),
            }
            terminal.wait(Duration::from_secs(2));
            eventually("it is cancelled", Duration::from_secs(5), || pending(&installation) == 0);
        }
    });
}

/// Catalogue: P7 (control: inline)
#[test]
fn a_hostile_environment_changes_nothing_but_drawing() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let mut launch = bed.person("alice");
        for (name, value) in [
            ("LD_PRELOAD", "/tmp/evil.so"),
            ("SSL_CERT_FILE", "/tmp/evil.pem"),
            ("RES_OPTIONS", "debug"),
            ("RUST_BACKTRACE", "full"),
            ("RUST_LOG", "trace"),
            ("TWINLOCK_CONFIG", "/tmp/evil.toml"),
            ("TWINLOCK_APPROVED", "1"),
            ("SUDO_USER", "root"),
            ("SUDO_COMMAND", "/bin/true"),
            ("TMPDIR", "/nonexistent"),
            ("HOME", "/nonexistent"),
            ("TERM", "dumb"),
        ] {
            launch = launch.env(name, value);
        }
        let mut terminal = Terminal::open(&launch, &["sudo", "id", "-un"]);
        terminal.wait_for("waiting for approver 1 of 2", LIMIT);
        let screen = terminal.screen();
        assert!(!screen.contains('█') && !screen.contains('▀'), "a dumb terminal gets no picture: {screen}");
        let url = screen.split_whitespace().find(|word| word.starts_with("HTTPS://")).expect("a URL").to_owned();
        let mut bob = installation.approver("bob");
        let claim: Claim = bob.claim(&twinlock_tests::approver::ticket_of(&url));
        assert_eq!(claim.request.requester.real.name, "alice");
        assert_eq!(claim.request.target.user, "root");
        terminal.send("\u{3}");
        assert_ne!(terminal.exit_code(LIMIT), 0);
    });
}

/// GrantRecords on this host; not the marks beside them.
fn records() -> usize {
    let entries = std::fs::read_dir(twinlock_tests::world::GRANTS_DIR).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "json")).count()
}

/// Catalogue: P8 (control: inline)
#[test]
fn limits_umask_descriptors_and_directories_of_the_caller_do_not_matter() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let wraps = [
            "umask 777; exec sudo id -un",
            "umask 000; exec sudo id -un",
            "exec 3</dev/null 4</dev/null 5</dev/null 9</dev/null; exec sudo id -un",
            "trap '' INT TERM HUP QUIT CHLD; exec sudo id -un",
            "mkdir /tmp/gone && cd /tmp/gone && rmdir /tmp/gone && exec sudo id -un",
            "exec -a 'apt update #' sudo id -un",
        ];
        for wrap in wraps {
            let mut terminal = bed.terminal("alice", &["bash", "-c", wrap]);
            installation.approve_by_two(&terminal, "bob", "carol");
            assert_eq!(terminal.exit_code(LIMIT), 0, "{wrap}\n{}", terminal.screen());
            assert!(terminal.screen().contains("root"), "{wrap}");
        }
        // Too little to work with is a refusal, never less checking.
        for wrap in [
            "ulimit -n 5; exec sudo id -un",
            "exec 0<&- 1>&- 2>&-; exec sudo id -un",
            "ulimit -v 20000; exec sudo id -un",
        ] {
            let mut terminal = bed.terminal("alice", &["bash", "-c", wrap]);
            let started = Instant::now();
            while terminal.is_running()
                && started.elapsed() < Duration::from_secs(5)
                && !terminal.screen().contains("waiting")
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            terminal.send("\u{3}");
            assert_ne!(terminal.exit_code(LIMIT), 0, "{wrap}\n{}", terminal.screen());
            assert!(!terminal.screen().lines().any(|line| line.trim() == "root"), "{wrap}");
        }
        // RLIMIT_FSIZE=0: the reaper writes the record, not the caller.
        let before = records();
        assert!(before >= wraps.len(), "control: each run above has its record");
        let mut terminal = bed.terminal("alice", &["bash", "-c", "ulimit -f 0; exec sudo id -un"]);
        let ticket = scan_ticket(&terminal, None);
        assert_eq!(installation.approver("bob").approve(&ticket), "approved_first");
        let second = scan_ticket(&terminal, Some(&ticket));
        let _ = installation.approver("carol").approve(&second);
        let code = terminal.exit_code(LIMIT);
        let recorded = records() - before;
        assert!(if code == 0 { recorded == 1 } else { recorded <= 1 }, "code {code}, {recorded} records");
    });
}

/// Catalogue: D5 (control: inline)
#[test]
fn approvers_see_what_is_enforced_not_what_argv0_says() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let terminal = bed.terminal("alice", &["bash", "-c", "exec -a 'sudo apt update #' sudo -u bob -E X=1 id -un"]);
        let mut bob = installation.approver("carol");
        let claim = bob.claim(&scan_ticket(&terminal, None));
        let command: Vec<_> = claim.request.command().iter().map(|arg| arg.as_text().unwrap()).collect();
        assert_eq!(command, ["id", "-un"]);
        assert_eq!(claim.request.target.user, "bob");
        assert!(claim.request.view.preserve_env);
        assert_eq!(claim.request.view.assignments[0].as_text(), Some("X=1"));
    });
}

/// Typed ahead while waiting, it must not run as root in the shell that follows.
#[test]
fn what_is_typed_while_waiting_is_thrown_away() {
    in_namespace(here!(), |bed| {
        let installation = ready(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "sh"]);
        let first = scan_ticket(&terminal, None);
        terminal.send("id >/tmp/typed-ahead\n");
        assert_eq!(installation.approver("bob").approve(&first), "approved_first");
        let second = scan_ticket(&terminal, Some(&first));
        assert_eq!(installation.approver("carol").approve(&second), "granted");
        terminal.wait_for("#", LIMIT);
        terminal.send_line("echo alive");
        terminal.wait_for("alive", LIMIT);
        assert!(!std::path::Path::new("/tmp/typed-ahead").exists(), "{}", terminal.screen());
    });
}
