//! The bed itself: real sudo and su obey its PAM lines, and nothing of it shows outside.

use std::path::Path;
use std::time::Duration;

use twinlock_tests::bed::PASSWORD;
use twinlock_tests::ns::{in_namespace, in_namespace_within};
use twinlock_tests::proc::{Daemon, Launch, Snapshot, eventually};
use twinlock_tests::{Bed, Tail, here, world};

const LIMIT: Duration = Duration::from_secs(10);

/// Types alice's password where sudo asks for it; gives the screen and the exit code.
fn on_a_terminal(bed: &Bed, argv: &[&str], prompt: &str) -> (String, i32) {
    let mut terminal = bed.terminal("alice", argv);
    terminal.wait_for(prompt, LIMIT);
    terminal.send_line(PASSWORD);
    let code = terminal.exit_code(LIMIT);
    (terminal.screen(), code)
}

#[test]
fn sudo_runs_a_command_when_the_last_lines_permit() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Permit);
        let (screen, code) = on_a_terminal(bed, &["sudo", "id", "-un"], "password for alice");
        assert_eq!(code, 0, "{screen}");
        assert!(screen.ends_with("root"), "{screen}");

        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let done = bed.run("alice", &["sudo", "-n", "id", "-un"]);
        assert_eq!(done.stdout, "root\n", "{done:?}");
        bed.terminal("alice", &["sudo", "-i", "id", "-un"]).wait_for("root", LIMIT);
    });
}

/// The same steps with denying lines: refused whether or not a password is asked.
// control: sudo_runs_a_command_when_the_last_lines_permit
#[test]
fn sudo_refuses_when_the_last_lines_deny() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Deny);
        let (screen, code) = on_a_terminal(bed, &["sudo", "id", "-un"], "password for alice");
        assert_eq!(code, 1, "{screen}");
        assert!(!screen.contains("root"), "{screen}");

        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let done = bed.run("alice", &["sudo", "-n", "id", "-un"]);
        assert!(!done.ok() && done.stdout.is_empty(), "{done:?}");
        assert!(done.stderr.contains("account"), "{done:?}");
    });
}

/// A wrong password and a person who is not in sudoers are refused by the stock stack:
/// the bed's sudo is not simply open.
// control: sudo_runs_a_command_when_the_last_lines_permit
#[test]
fn sudo_still_wants_the_password_and_a_sudoers_entry() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Permit);
        assert!(!bed.run("alice", &["sudo", "-n", "true"]).ok());
        let wrong = bed.person("alice").run_with_input(&["sudo", "-S", "true"], "no\nno\nno\n");
        assert!(!wrong.ok(), "{wrong:?}");
        let password = format!("{PASSWORD}\n");
        let bob = bed.person("bob").run_with_input(&["sudo", "-S", "true"], &password);
        assert!(!bob.ok() && bob.stderr.contains("not in the sudoers file"), "{bob:?}");
    });
}

/// control: inline
#[test]
fn su_obeys_the_last_lines() {
    in_namespace(here!(), |bed| {
        for (tail, expected) in [(Tail::Permit, 0), (Tail::Deny, 1)] {
            bed.wire(&tail);
            for argv in [vec!["su", "-c", "id -un"], vec!["su", "-l", "-c", "id -un"]] {
                let (screen, code) = on_a_terminal(bed, &argv, "Password:");
                assert_eq!(code, expected, "{tail:?} {argv:?} {screen}");
                assert_eq!(screen.contains("root"), expected == 0, "{tail:?} {argv:?} {screen}");
            }
        }
    });
}

/// control: inline
#[test]
fn sudo_rs_obeys_the_last_lines() {
    in_namespace(here!(), |bed| {
        bed.replace_sudo_by_sudo_rs();
        for (tail, expected) in [(Tail::Permit, 0), (Tail::Deny, 1)] {
            bed.wire(&tail);
            bed.sudoers("");
            let (screen, code) = on_a_terminal(bed, &["sudo", "id", "-un"], "assword");
            assert_eq!(code, expected, "{tail:?} {screen}");
            assert_eq!(screen.trim_end().ends_with("root"), expected == 0, "{tail:?} {screen}");
            bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
            let done = bed.run("alice", &["sudo", "-n", "id", "-un"]);
            assert_eq!(done.ok(), expected == 0, "{tail:?} {done:?}");
        }
    });
}

/// With Twinlock's lines and no module file, nobody gets in: a missing module locks, it
/// does not open.
// control: sudo_runs_a_command_when_the_last_lines_permit
#[test]
fn a_missing_module_refuses() {
    in_namespace(here!(), |bed| {
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let _ = std::fs::remove_file(world::module_path());
        let done = bed.run("alice", &["sudo", "-n", "true"]);
        assert!(!done.ok() && done.stderr.contains("Module is unknown"), "{done:?}");
    });
}

/// What the system log got is there to read; sudo's own lines are the proof.
#[test]
fn log_lines_are_recorded() {
    in_namespace(here!(), |bed| {
        bed.wire(&Tail::Permit);
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        assert!(bed.run("alice", &["sudo", "-n", "true"]).ok());
        let line = |l: &String| l.contains("sudo") && l.contains("COMMAND=/usr/bin/true");
        eventually("sudo's log line", LIMIT, || bed.syslog().iter().any(line));
    });
}

#[test]
fn a_daemon_runs_as_its_user_with_its_capability_in_its_cgroup() {
    in_namespace(here!(), |bed| {
        let world = twinlock_tests::World::bare(bed);
        let script = "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Groups)' /proc/self/status; \
            cat /proc/self/cgroup; mkdir /sys/fs/cgroup/$0/leaf-$$ && echo made; exec sleep 60";
        let argv = ["sh", "-c", script, world::REAPER_CGROUP];
        let mut reaper = Daemon::start("reaper", &world.reaper(), &argv);
        reaper.wait_for_log("made", LIMIT);
        let log = reaper.log();
        for part in [
            "Uid:\t772",
            "CapEff:\t0000000000000020",
            "CapBnd:\t0000000000000020",
            "NoNewPrivs:\t1",
            "770",
            "0::/system.slice/twinlock-reaper.service/main",
        ] {
            assert!(log.contains(part), "{part} is not in\n{log}");
        }
        let before = Snapshot::take();
        assert_eq!(before.in_cgroup("/system.slice/twinlock-reaper.service").len(), 1);
        reaper.kill();
        assert!(Snapshot::take().in_cgroup("/system.slice").is_empty());
        // The agent has no capability, and no right in the reaper's tree.
        let mut agent = Daemon::start("agent", &world.agent(), &argv);
        agent.wait_for_log("Permission denied", LIMIT);
        agent.wait_for_log("0::/system.slice/twinlock-agent.service", LIMIT);
        let log = agent.log();
        assert!(log.contains("CapEff:\t0000000000000000") && !log.contains("made"), "{log}");
    });
}

/// `cgroup.kill` on a leaf of the bed takes children that left the session.
#[test]
fn the_cgroup_tree_is_writable_and_kills() {
    in_namespace(here!(), |bed| {
        let leaf = bed.cgroup("system.slice/leaf");
        let root = Launch::person("root").cgroup(&leaf);
        let script = "setsid sleep 61 & (setsid sleep 61 &); exec sleep 61";
        let mut daemon = Daemon::start("tree", &root, &["sh", "-c", script]);
        let count = || Snapshot::take().in_cgroup("/system.slice/leaf").len();
        eventually("three sleepers", LIMIT, || count() == 3);
        std::fs::write(leaf.join("cgroup.kill"), "1").unwrap();
        eventually("nobody left", LIMIT, || count() == 0);
        daemon.wait(LIMIT);
    });
}

/// The other common layout: the same tree at another place, found in mountinfo.
#[test]
fn the_hybrid_cgroup_layout_works_as_well() {
    in_namespace(here!(), |bed| {
        bed.hybrid_cgroups();
        let leaf = bed.cgroup("system.slice/leaf");
        assert!(leaf.starts_with("/sys/fs/cgroup/unified"));
        let root = Launch::person("root").cgroup(&leaf);
        let mut daemon = Daemon::start("sleeper", &root, &["sleep", "60"]);
        eventually("it is inside", LIMIT, || Snapshot::take().in_cgroup("/system.slice/leaf").len() == 1);
        std::fs::write(leaf.join("cgroup.kill"), "1").unwrap();
        daemon.wait(LIMIT);
    });
}

/// The stand-in phones' browser starts in here, in its own sandbox.
#[test]
fn chromium_runs_as_an_ordinary_user() {
    in_namespace(here!(), |bed| {
        let page = "data:text/html,<p id=x></p><script>x.textContent=6*7</script>";
        let done = bed.run("alice", &["chromium", "--headless", "--dump-dom", page]);
        assert!(done.stdout.contains(">42</p>"), "{done:?}");
    });
}

/// A small disk keeps what was there, takes what fits, and is full then.
#[test]
fn a_small_disk_fills_up() {
    in_namespace(here!(), |bed| {
        let world = twinlock_tests::World::bare(bed);
        let dir = Path::new(world::GRANTS_DIR);
        world.bed().write(dir.join("old"), "kept");
        bed.shrink_disk(dir, 64 * 1024);
        assert_eq!(std::fs::read(dir.join("old")).unwrap(), b"kept");
        let put = |name: &str, size: usize| {
            let script = format!("head -c {size} /dev/zero > {}/{name}", dir.display());
            Launch::service("twinlock-reaper", &[]).run(&["sh", "-c", &script])
        };
        assert!(put("fits", 16 * 1024).ok());
        let full = put("does-not", 128 * 1024);
        assert!(!full.ok() && full.stderr.contains("No space left"), "{full:?}");
    });
}

/// Nothing that a bed writes or starts is to be seen outside, and a second bed starts anew.
#[test]
fn nothing_of_a_bed_shows_outside() {
    let files = ["/etc/passwd", "/etc/sudoers", "/etc/pam.d/sudo", "/etc/hostname"];
    let read = || files.map(|f| std::fs::read(f).ok());
    let marks = ["/etc/mark", "/usr/bin/mark", "/var/mark", "/tmp/mark-of-a-bed", "/dev/mark"];
    let before = read();
    let word = "86399.25";
    in_namespace(here!(), |bed| {
        for mark in marks {
            assert!(!Path::new(mark).exists(), "{mark} is already there");
            bed.write(mark, "x");
        }
        bed.wire(&Tail::Deny);
        let left_behind = ["sh", "-c", "setsid sleep 86399.25 & sleep 0.1"];
        assert!(bed.run("alice", &left_behind).ok());
        assert_eq!(Snapshot::take().with_word("86399.25").len(), 1);
    });
    if std::env::var_os("TWINLOCK_BED_STAGE").is_none() {
        assert_eq!(read(), before);
        assert!(marks.iter().all(|m| !Path::new(m).exists()));
        assert!(Snapshot::take().with_word(word).is_empty());
    }
}

/// A body that panics, one that hangs, and a name under which there is no test: each fails.
// control: sudo_runs_a_command_when_the_last_lines_permit
#[test]
fn a_failing_body_fails_its_test() {
    let inside = std::env::var_os("TWINLOCK_BED_STAGE").is_some();
    if !inside && !nix::unistd::geteuid().is_root() {
        return;
    }
    let name = here!();
    let run = |name: &str, limit: u64, body: fn(&mut Bed)| {
        let run = || in_namespace_within(name, Duration::from_secs(limit), body);
        std::panic::catch_unwind(run).map_err(|e| *e.downcast::<String>().unwrap_or_default())
    };
    let panicked = run(name, 20, |_| panic!("on purpose"));
    assert!(panicked.unwrap_err().contains("failed inside"));
    let unknown = run("bed::there_is_no_such_test", 20, |_| ());
    assert!(unknown.unwrap_err().contains("did not run to its end"));
}

// control: sudo_runs_a_command_when_the_last_lines_permit
#[test]
fn a_hanging_body_is_killed_with_all_it_started() {
    let name = here!();
    let started = std::time::Instant::now();
    let run = || {
        in_namespace_within(name, Duration::from_secs(3), |bed| {
            bed.run("alice", &["sh", "-c", "setsid sleep 86398.25 & sleep 60"]);
        });
    };
    let outcome = std::panic::catch_unwind(run);
    if std::env::var_os("TWINLOCK_BED_STAGE").is_none() && nix::unistd::geteuid().is_root() {
        assert!(outcome.is_err() && started.elapsed() < LIMIT);
        assert!(Snapshot::take().with_word("86398.25").is_empty());
    }
}
