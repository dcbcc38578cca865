//! `twinlock enable` and `disable` on a running Twinlock with real sudo, sudo-rs and su: what is
//! changed, what is proved before, what confirms it, and that whatever dies in between leaves the old
//! files or a way back to them, byte for byte.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use twinlock_protocol::roster::BreakGlassKey;
use twinlock_protocol::signature::SigningKey;
use twinlock_tests::installation::{Installation, Plan, now};
use twinlock_tests::ns::in_namespace_within;
use twinlock_tests::proc::{Finished, Snapshot, eventually};
use twinlock_tests::term::Terminal;
use twinlock_tests::{Bed, Tail, here, world};

const LIMIT: Duration = Duration::from_secs(60);
/// These wait for deadlines, on machines with other things to do.
const BED: Duration = Duration::from_secs(400);
const OTHER: &str =
    "@include common-auth\n@include common-account\n@include common-password\n@include common-session\n";
const DRILL: &str = "/var/lib/twinlock/break-glass/drill.json";
const STATE: &str = "/var/lib/twinlock/enable";

/// A file of PAM's: content, mode, owner, group.
type Kept = (Vec<u8>, u32, u32, u32);

/// Everything in /etc/pam.d, temporary files of ours included.
fn pam_files() -> BTreeMap<String, Kept> {
    let file = |entry: fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        let kept = (fs::read(entry.path()).unwrap_or_default(), meta.mode() & 0o7777, meta.uid(), meta.gid());
        (entry.file_name().into_string().unwrap(), kept)
    };
    fs::read_dir("/etc/pam.d").unwrap().map(|entry| file(entry.unwrap())).collect()
}

/// A running Twinlock that gates nothing yet; break-glass was tried yesterday by bob and carol.
fn ready(bed: &Bed) -> Installation<'_> {
    let mut plan = Plan::new();
    for name in ["bob", "carol"] {
        let person = plan.fixture.roster.persons.iter().find(|one| one.id.as_str() == name).unwrap().id.clone();
        let key = SigningKey::generate().unwrap().0.public();
        plan.fixture.roster.break_glass_keys.push(BreakGlassKey { person, key });
    }
    let keys = plan.fixture.roster.break_glass_keys.clone();
    bed.wire(&Tail::Stock);
    bed.write("/etc/pam.d/other", OTHER);
    // A mode that is not the usual one must survive as well.
    fs::set_permissions("/etc/pam.d/sudo-i", fs::Permissions::from_mode(0o640)).unwrap();
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    let installation = plan.start(bed);
    let drill = json!({
        "version": 1,
        "when": now().0 - 24 * 3600,
        "persons": ["bob", "carol"],
        "keys": keys.iter().map(|one| one.key.to_text()).collect::<Vec<_>>(),
        "roster_digest": installation.envelope.digest,
    });
    // Without the drill it refuses, and says what else is in the way.
    eventually("the agent's link to the gateway", LIMIT, || {
        !tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).stdout.contains("gateway")
    });
    bed.write(DRILL, drill.to_string());
    installation
}

fn tool(bed: &Bed, arguments: &[&str]) -> Finished {
    bed.run("root", &[&["twinlock"], arguments].concat())
}

fn helper(bed: &Bed, arguments: &[&str]) -> Finished {
    bed.run("root", &[&[world::HELPER], arguments].concat())
}

/// As [`tool`], on a terminal of its own, with what it says until its end.
fn enable(bed: &Bed, arguments: &[&str]) -> Terminal {
    bed.terminal_sized("root", &[&["twinlock", "enable", "--yes"], arguments].concat(), (60, 160))
}

/// alice's sudo on a terminal, in a login of her own (pam_loginuid's part).
fn login_and_sudo(bed: &Bed) -> Terminal {
    bed.terminal("alice", &["sh", "-c", "echo 1001 >/proc/self/loginuid; sudo id -un; exec sleep 5"])
}

/// Two people approve; the command runs.
fn granted(installation: &Installation<'_>, terminal: &mut Terminal) {
    installation.approve_by_two(terminal, "bob", "carol");
    terminal.wait_until("root", LIMIT, |screen| screen.lines().any(|line| line.trim() == "root"));
}

fn plain_sudo_works(bed: &Bed) -> bool {
    bed.run("alice", &["sudo", "-n", "id", "-un"]).stdout == "root\n"
}

fn wait_until_settled() {
    let pending = Path::new(STATE).join("pending.json");
    eventually("nothing is pending", LIMIT, || !pending.exists());
}

/// Catalogue: K1 (control: inline)
#[test]
fn installing_changes_nothing_and_enable_refuses_until_break_glass_was_tried() {
    in_namespace_within(here!(), BED, |bed| {
        let before = pam_files();
        let installation = ready(bed);
        assert!(plain_sudo_works(bed), "installed, set up, and sudo is as it was");
        let stock = pam_files();
        assert_eq!(before.get("sudo").map(|_| ()), stock.get("sudo").map(|_| ()));
        let drill = fs::read(DRILL).unwrap();
        fs::remove_file(DRILL).unwrap();
        let refused = tool(bed, &["enable", "sudo", "--yes", "--no-wait"]);
        assert!(!refused.ok(), "{refused:?}");
        assert!(refused.stdout.contains("break-glass") && refused.stdout.contains("break-glass drill"), "{refused:?}");
        assert_eq!(pam_files(), stock);
        assert!(!Path::new(STATE).join("pending.json").exists());
        // The same with the drill is taken.
        bed.write(DRILL, drill);
        let taken = tool(bed, &["enable", "sudo", "--yes", "--no-wait", "--within", "300"]);
        assert!(taken.ok(), "{taken:?}");
        assert_ne!(pam_files(), stock);
        assert!(!plain_sudo_works(bed));
        drop(installation);
    });
}

#[test]
fn a_grant_from_another_login_settles_it_and_disable_brings_the_old_bytes_back() {
    in_namespace_within(here!(), BED, |bed| {
        let installation = ready(bed);
        let stock = pam_files();
        let mut enabling = enable(bed, &["sudo", "--within", "200"]);
        enabling.wait_for("unless you confirm it", LIMIT);
        let screen = enabling.screen();
        for part in [
            "/etc/pam.d/sudo gets these lines",
            "/etc/pam.d/sudo-i gets these lines",
            "/etc/pam.d/other gets these lines",
            "account    required   pam_twinlock.so",
            "quiet service notin sudo:sudo-i",
            "calls the module in account and session",
        ] {
            assert!(screen.contains(part), "{part} is not in\n{screen}");
        }
        let waiting = tool(bed, &["enable", "--status"]);
        assert!(waiting.stdout.contains("left to confirm it"), "{waiting:?}");
        assert!(!waiting.stdout.contains("nobody watches"), "{waiting:?}");
        let mut alice = login_and_sudo(bed);
        granted(&installation, &mut alice);
        assert_eq!(enabling.exit_code(LIMIT), 0, "{}", enabling.screen());
        assert!(enabling.screen().contains("enabled: confirmed by alice"), "{}", enabling.screen());
        wait_until_settled();
        assert!(tool(bed, &["enable", "--status"]).stdout.contains("sudo: two people are asked, since"));
        let again = tool(bed, &["enable", "sudo", "--yes"]);
        assert!(again.stderr.contains("enabled already"), "{again:?}");

        // Modes and owners stayed, and only three files changed.
        let wired = pam_files();
        let changed: Vec<&String> =
            wired.iter().filter(|(name, file)| stock.get(*name) != Some(*file)).map(|(n, _)| n).collect();
        assert_eq!(changed, ["other", "sudo", "sudo-i"]);
        assert_eq!(wired["sudo-i"].1, 0o640);
        assert!(!plain_sudo_works(bed));

        // Lines that went without `disable` are said, by the exit status as well.
        assert!(tool(bed, &["enable", "--status"]).ok(), "control");
        bed.write("/etc/pam.d/sudo", &stock["sudo"].0);
        let gone = tool(bed, &["enable", "--status"]);
        assert!(!gone.ok() && gone.stdout.contains("sudo: NOBODY IS ASKED"), "{gone:?}");
        bed.write("/etc/pam.d/sudo", &wired["sudo"].0);

        let disabled = tool(bed, &["disable", "sudo", "--yes"]);
        assert!(disabled.ok() && disabled.stdout.contains("/etc/pam.d/sudo loses these lines"), "{disabled:?}");
        assert_eq!(pam_files(), stock);
        assert!(plain_sudo_works(bed));
        assert!(!tool(bed, &["disable", "sudo", "--yes"]).ok(), "there is nothing to disable any more");
    });
}

/// sudo asks the module before it looks whether the person may run the command.
///
/// Catalogue: K3 (control: inline)
#[test]
fn what_sudo_refuses_after_two_people_approved_confirms_nothing() {
    in_namespace_within(here!(), BED, |bed| {
        let installation = ready(bed);
        let taken = tool(bed, &["enable", "sudo", "--yes", "--no-wait", "--within", "300"]);
        assert!(taken.ok(), "{taken:?}");
        bed.sudoers("alice ALL=(ALL:ALL) !ALL");
        let script = "echo 1001 >/proc/self/loginuid; sudo id -un; exec sleep 60";
        let mut refused = bed.terminal("alice", &["sh", "-c", script]);
        refused.wait_for("assword", LIMIT);
        refused.send_line(twinlock_tests::bed::PASSWORD);
        installation.approve_by_two(&refused, "bob", "carol");
        refused.wait_for("is not allowed to", LIMIT);
        let status = || tool(bed, &["enable", "--status"]).stdout;
        eventually("it is seen", LIMIT, || status().contains("its command was never let run"));
        assert!(status().contains("left to confirm it"), "{}", status());

        // The same by somebody who may.
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
        let mut alice = login_and_sudo(bed);
        granted(&installation, &mut alice);
        wait_until_settled();
        assert!(status().contains("sudo: two people are asked, since"), "{}", status());
    });
}

// control: a_grant_from_another_login_settles_it_and_disable_brings_the_old_bytes_back
#[test]
fn without_a_confirmation_from_another_login_everything_is_put_back() {
    in_namespace_within(here!(), BED, |bed| {
        let installation = ready(bed);
        let stock = pam_files();
        // The same login enables and elevates: two people approve, and it still does not count.
        let script = "echo 1001 >/proc/self/loginuid; twinlock enable sudo --yes --no-wait --within 25 || exit; \
            setpriv --reuid=alice --regid=alice --init-groups sudo id -un; exec sleep 100";
        let mut same = bed.terminal("root", &["sh", "-c", script]);
        same.wait_for("two approvers needed", LIMIT);
        granted(&installation, &mut same);
        eventually("it is seen", LIMIT, || {
            tool(bed, &["enable", "--status"]).stdout.contains("it came from the login session that enabled")
        });
        wait_until_settled();
        assert_eq!(pam_files(), stock);
        assert!(plain_sudo_works(bed));
        let last = tool(bed, &["enable", "--status"]);
        assert!(last.stdout.contains("put back") && last.stdout.contains("nobody confirmed it in time"), "{last:?}");
    });
}

/// The command, then both watchers, are killed while it waits: the boot puts everything back.
///
/// Catalogue: K3 (control: inline)
#[test]
fn whoever_is_killed_the_next_one_puts_it_back() {
    in_namespace_within(here!(), BED, |bed| {
        let _installation = ready(bed);
        let stock = pam_files();
        let killed = |word: &str| {
            let now = Snapshot::take();
            let pids: Vec<u32> = now.with_word(word).iter().map(|process| process.pid).collect();
            let hit = |pid: &&u32| twinlock_tests::ns::signal(**pid, nix::sys::signal::Signal::SIGKILL);
            let count = pids.iter().filter(hit).count();
            eventually("they are gone", LIMIT, || Snapshot::take().with_word(word).is_empty());
            count
        };
        // The command alone: the watchers end the wait.
        let enabling = enable(bed, &["sudo", "--within", "6"]);
        enabling.wait_for("unless you confirm it", LIMIT);
        assert_ne!(pam_files(), stock, "control");
        drop(enabling);
        wait_until_settled();
        assert_eq!(pam_files(), stock);

        // Command and watchers: what is left is the state, and the boot.
        assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait", "--within", "300"]).ok());
        assert_eq!(killed("watch"), 2);
        eventually("status says that nobody watches", LIMIT, || {
            tool(bed, &["enable", "--status"]).stdout.contains("nobody watches it")
        });
        // In the same boot, within the time, the unit only sees to it that somebody watches.
        assert!(helper(bed, &["revert-at-boot"]).ok());
        assert_ne!(pam_files(), stock);
        assert!(!tool(bed, &["enable", "--status"]).stdout.contains("nobody watches it"));
        assert_eq!(killed("watch"), 2);
        let pending = Path::new(STATE).join("pending.json");
        let text = fs::read_to_string(&pending).unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        fs::write(&pending, text.replace(boot.trim(), "00000000-0000-4000-8000-000000000000")).unwrap();
        assert!(helper(bed, &["revert-at-boot"]).ok());
        assert_eq!(pam_files(), stock);
        assert!(!pending.exists());
    });
}

/// kill -9 of everything at many points of an enable and of a disable: every file is the old one or
/// the new one whole, and one revert brings all the old ones back.
///
/// Catalogue: K3 (control: inline)
#[test]
fn killed_at_any_moment_it_leaves_whole_files_and_a_way_back() {
    in_namespace_within(here!(), Duration::from_secs(900), |bed| {
        let _installation = ready(bed);
        let stock = pam_files();
        let started = Instant::now();
        assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).ok());
        let takes = started.elapsed();
        let wired = pam_files();
        assert!(helper(bed, &["revert"]).ok());
        assert_eq!(pam_files(), stock, "control");
        let kill_all = || {
            for word in ["enable", "disable", "trial", "seat", "detach", "watch"] {
                for process in Snapshot::take().with_word(word) {
                    twinlock_tests::ns::signal(process.pid, nix::sys::signal::Signal::SIGKILL);
                }
            }
        };
        let (mut old, mut new, mut mixed) = (0, 0, 0);
        for round in 0..24u32 {
            // Densest where files change: in the last tenth.
            let part = if round % 3 == 0 { 0.5 + f64::from(round) / 50.0 } else { 0.9 + f64::from(round) / 120.0 };
            let enabling = bed.terminal("root", &["twinlock", "enable", "sudo", "--yes", "--no-wait"]);
            std::thread::sleep(takes.mul_f64(part));
            twinlock_tests::ns::signal(enabling.pid(), nix::sys::signal::Signal::SIGKILL);
            kill_all();
            drop(enabling);
            let found = pam_files();
            for (name, file) in found.iter().filter(|(name, _)| !name.ends_with(".twinlock-new")) {
                assert!(stock.get(name) == Some(file) || wired.get(name) == Some(file), "{name} is neither");
            }
            match (found == stock, found == wired) {
                (true, _) => old += 1,
                (_, true) => new += 1,
                _ => mixed += 1,
            }
            let pending = Path::new(STATE).join("pending.json").exists();
            assert!(pending || found == stock, "changed files have a pending revert");
            let reverted = helper(bed, &["revert"]);
            assert!(reverted.ok(), "{reverted:?}");
            assert_eq!(pam_files(), stock, "round {round}");
        }
        println!("enable killed: {old} times before, {mixed} times between, {new} times after");
        assert!(old > 0 && new + mixed > 0, "the points lie on both sides");

        let started = Instant::now();
        let confirmed = || {
            assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).ok());
            // As if it had been confirmed.
            fs::remove_file(Path::new(STATE).join("pending.json")).unwrap();
        };
        confirmed();
        println!("to enable: {:?}", started.elapsed());
        let started = Instant::now();
        assert!(tool(bed, &["disable", "sudo", "--yes"]).ok());
        let takes = started.elapsed();
        assert_eq!(pam_files(), stock, "control");
        let (mut gated, mut open) = (0, 0);
        for round in 0..16u32 {
            if pam_files() != wired {
                confirmed();
            }
            let disabling = bed.terminal("root", &["twinlock", "disable", "sudo", "--yes"]);
            // In a terminal it may begin later than without one: up to four times as long.
            std::thread::sleep(takes.mul_f64(f64::from(round) / 4.0));
            twinlock_tests::ns::signal(disabling.pid(), nix::sys::signal::Signal::SIGKILL);
            kill_all();
            drop(disabling);
            let found = pam_files();
            for (name, file) in found.iter().filter(|(name, _)| !name.ends_with(".twinlock-new")) {
                assert!(stock.get(name) == Some(file) || wired.get(name) == Some(file), "{name} is neither");
            }
            assert!(helper(bed, &["revert"]).ok());
            match pam_files() {
                now if now == wired => gated += 1,
                now if now == stock => open += 1,
                _ => panic!("round {round}: half gated after the revert"),
            }
        }
        println!("disable killed: {gated} times undone, {open} times done");
        assert!(gated > 0 && open > 0, "the points lie on both sides");
    });
}

/// Killed right after its N-th write to the disk, for every N: whoever watches puts everything back
/// unasked; a disable and a revert that are killed so are finished, or undone, by the next one.
///
/// Catalogue: K3 (control: inline)
#[test]
fn killed_after_each_of_its_writes_somebody_else_finishes() {
    in_namespace_within(here!(), Duration::from_secs(900), |bed| {
        let _installation = ready(bed);
        let stock = pam_files();
        let pending = Path::new(STATE).join("pending.json");
        let killed_at = |call: &str, nth: u32, argv: &[&str]| {
            let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
            let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &inject];
            !bed.run("root", &[&strace, argv].concat()).ok()
        };
        let enabling = ["twinlock", "enable", "sudo", "--yes", "--no-wait"];
        let confirmed = || {
            assert!(bed.run("root", &enabling).ok());
            fs::remove_file(&pending).unwrap();
        };
        confirmed();
        let wired = pam_files();
        assert!(tool(bed, &["disable", "sudo", "--yes"]).ok());
        assert_eq!(pam_files(), stock, "control");

        let (mut mixed, mut kills) = (0, 0);
        for call in ["/rename", "/fsync"] {
            for nth in 1.. {
                if !killed_at(call, nth, &enabling) {
                    break;
                }
                kills += 1;
                let now = pam_files();
                mixed += usize::from(now != stock && now != wired);
                // Killed after the last write, it waits like any other.
                if fs::read_to_string(&pending).is_ok_and(|text| text.contains("\"step\":\"waiting\"")) {
                    assert_eq!(pam_files(), wired);
                    break;
                }
                eventually("the watchers put it back", LIMIT, || pam_files() == stock);
                // Killed before there was a watcher, it left a state and nothing else: the next one clears it.
                assert!(helper(bed, &["revert-at-boot"]).ok());
                assert!(!pending.exists());
            }
            assert!(helper(bed, &["revert"]).ok());
            assert_eq!(pam_files(), stock);
        }
        println!("enable: killed {kills} times, seen half done {mixed} times");
        assert!(kills >= 8, "each file, and the state before and after");

        for (argv, target) in
            [(["twinlock", "disable", "sudo", "--yes"].as_slice(), &wired), (&[world::HELPER, "revert"], &stock)]
        {
            let mut kills = 0;
            for nth in 1.. {
                match argv.len() {
                    4 => confirmed(),
                    _ => assert!(bed.run("root", &enabling).ok()),
                }
                let killed = killed_at("/rename", nth, argv);
                kills += u32::from(killed);
                // Whoever watches may have been first.
                eventually("it is finished or undone", LIMIT, || {
                    let done = helper(bed, &["revert"]).ok() && !pending.exists();
                    done && (pam_files() == stock || pam_files() == *target)
                });
                if pam_files() == wired {
                    assert!(tool(bed, &["disable", "sudo", "--yes"]).ok());
                }
                assert_eq!(pam_files(), stock);
                if !killed {
                    break;
                }
            }
            assert!(kills >= 4, "{argv:?}: {kills}");
        }
    });
}

/// Catalogue: K8 (control: inline)
#[test]
fn a_broken_sudoers_and_settings_that_pass_the_module_by_stop_enable() {
    in_namespace_within(here!(), BED, |bed| {
        let _installation = ready(bed);
        let stock = pam_files();
        let dropin = Path::new("/etc/sudoers.d/50-local");
        bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d");
        for (text, word) in [
            ("alice ALL=(ALL NOPASSWD ALL\n", "sudoers is broken"),
            ("Defaults:alice !pam_session\n", "/etc/sudoers.d/50-local:1:"),
            ("Defaults:#1001 !pam_session\n", "/etc/sudoers.d/50-local:1:"),
            ("# why \\\nDefaults:%#27 !pam_session\n", "/etc/sudoers.d/50-local:2:"),
            ("Defaults pam_service=other\n", "pam_service=other"),
            ("Defaults !pam_acct_mgmt\n", "!pam_acct_mgmt"),
        ] {
            bed.write(dropin, text);
            fs::set_permissions(dropin, fs::Permissions::from_mode(0o440)).unwrap();
            let refused = tool(bed, &["enable", "sudo", "--yes", "--no-wait"]);
            assert!(!refused.ok() && refused.stdout.contains(word), "{text}: {refused:?}");
            assert_eq!(pam_files(), stock, "{text}");
        }
        fs::remove_file(dropin).unwrap();
        // Whoever may write PAM's files decides whom it asks.
        for (path, mode) in [("/etc/pam.d/sudo", 0o664), ("/etc/pam.d", 0o775), ("/etc/pam.d/common-auth", 0o646)] {
            let usual = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = tool(bed, &["enable", "sudo", "--yes", "--no-wait"]);
            assert!(!refused.ok() && refused.stdout.contains("others than root can change"), "{path}: {refused:?}");
            fs::set_permissions(path, usual).unwrap();
        }
        assert_eq!(pam_files(), stock);
        let taken = tool(bed, &["enable", "sudo", "--yes", "--no-wait"]);
        assert!(taken.ok(), "{taken:?}");
    });
}

/// A stack in which an earlier line ends the phase, and a sudo that takes another file: seen in the
/// copy, refused, nothing changed.
// control: a_grant_from_another_login_settles_it_and_disable_brings_the_old_bytes_back
#[test]
fn a_stack_that_passes_the_module_by_is_not_enabled() {
    in_namespace_within(here!(), BED, |bed| {
        let _installation = ready(bed);
        bed.wire_service("sudo", &Tail::Lines("session sufficient pam_permit.so\n".to_owned()));
        let before = pam_files();
        let refused = tool(bed, &["enable", "sudo", "--yes", "--no-wait"]);
        assert!(!refused.ok() && refused.stderr.contains("does not call the module in session"), "{refused:?}");
        assert!(refused.stderr.contains("the command ran"), "{refused:?}");
        assert_eq!(pam_files(), before);

        // `sufficient` before it in account does no harm: our line stands first.
        let first = format!("account sufficient pam_permit.so\n{}", String::from_utf8_lossy(&before["sudo"].0));
        bed.write("/etc/pam.d/sudo", first.replace("session sufficient pam_permit.so\n", ""));
        assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).ok());
        assert!(!plain_sudo_works(bed));
        assert!(helper(bed, &["revert"]).ok());

        // A module that can't be loaded.
        fs::write(world::module_path(), b"not a module").unwrap();
        let refused = tool(bed, &["enable", "sudo", "--yes", "--no-wait"]);
        assert!(!refused.ok() && refused.stderr.contains("does not call the module in account"), "{refused:?}");
        assert!(plain_sudo_works(bed));
    });
}

#[test]
fn sudo_rs_is_proved_as_well_and_asks() {
    in_namespace_within(here!(), BED, |bed| {
        let installation = ready(bed);
        let stock = pam_files();
        bed.replace_sudo_by_sudo_rs();
        assert!(plain_sudo_works(bed), "control");
        let mut enabling = enable(bed, &["sudo", "--within", "200"]);
        enabling.wait_for("unless you confirm it", LIMIT);
        assert!(enabling.screen().contains("sudo-rs"), "{}", enabling.screen());
        let mut alice = login_and_sudo(bed);
        granted(&installation, &mut alice);
        assert_eq!(enabling.exit_code(LIMIT), 0, "{}", enabling.screen());
        assert!(tool(bed, &["disable", "sudo", "--yes"]).ok());
        assert_eq!(pam_files(), stock);
    });
}

#[test]
fn su_is_enabled_once_for_both_its_services() {
    in_namespace_within(here!(), BED, |bed| {
        let installation = ready(bed);
        let stock = pam_files();
        let mut enabling = enable(bed, &["su", "--within", "200"]);
        enabling.wait_for("unless you confirm it", LIMIT);
        let wired = pam_files();
        assert_eq!(wired["su-l"], stock["su-l"], "it includes su, lines of ours and all");
        let script = "echo 1001 >/proc/self/loginuid; su -c 'id -un'; exec sleep 5";
        let mut alice = bed.terminal("alice", &["sh", "-c", script]);
        alice.wait_for("assword", LIMIT);
        alice.send_line(twinlock_tests::bed::PASSWORD);
        granted(&installation, &mut alice);
        assert_eq!(enabling.exit_code(LIMIT), 0, "{}", enabling.screen());
        assert!(tool(bed, &["disable", "su", "--yes"]).ok());
        assert_eq!(pam_files(), stock);
    });
}

/// libpam's way out: where the service's file is gone or can't be opened it takes `other`, and asks two
/// people there as well; who else uses `other` notices nothing.
///
/// Catalogue: P1 (control: inline)
#[test]
fn a_service_file_that_is_gone_or_unreadable_still_asks() {
    in_namespace_within(here!(), BED, |bed| {
        let installation = ready(bed);
        let pamtester = |service: &str| {
            let argv = ["pamtester", service, "root", "acct_mgmt", "open_session"];
            bed.run("root", &[["setpriv", "--ruid=1001", "--rgid=1001", "--clear-groups"].as_slice(), &argv].concat())
        };
        let strangers = || {
            let passes = pamtester("no-such-service").ok();
            bed.write("/etc/pam.d/other", "auth required pam_deny.so\n");
            let nothing_in_account = pamtester("no-such-service").ok();
            (passes, nothing_in_account)
        };
        assert_eq!(strangers(), (true, false), "control: how another service fares without us");
        bed.write("/etc/pam.d/other", "auth required pam_deny.so\n");
        assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).ok());
        assert!(!pamtester("no-such-service").ok(), "where other denied, it still denies");
        assert!(helper(bed, &["revert"]).ok());
        bed.write("/etc/pam.d/other", OTHER);
        assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).ok());
        assert!(pamtester("no-such-service").ok(), "where other permitted, it still permits");

        let asks = |what: &str| {
            let mut alice = bed.terminal("alice", &["sudo", "id", "-un"]);
            granted(&installation, &mut alice);
            assert_eq!(alice.exit_code(LIMIT), 0, "{what}");
            let refused = bed.run("alice", &["sudo", "-n", "id", "-un"]);
            assert!(!refused.stdout.contains("root"), "{what}: {refused:?}");
        };
        fs::rename("/etc/pam.d/sudo", "/etc/pam.d/sudo.gone").unwrap();
        asks("gone");
        fs::rename("/etc/pam.d/sudo.gone", "/etc/pam.d/sudo").unwrap();
        let script = "strace -f -qq -o /dev/null -e inject=openat:error=EIO -P /etc/pam.d/sudo \
            setpriv --ruid=1001 --rgid=1001 --clear-groups pamtester sudo root acct_mgmt";
        let mut unreadable = bed.terminal("root", &["sh", "-c", script]);
        unreadable.wait_for("two approvers needed", LIMIT);
        unreadable.send("\x03");
        assert_ne!(unreadable.exit_code(LIMIT), 0);
    });
}

/// Catalogue: K3 (control: inline)
#[test]
fn unhook_takes_every_line_out_and_fails_where_the_module_is_still_named() {
    in_namespace_within(here!(), BED, |bed| {
        let _installation = ready(bed);
        let stock = pam_files();
        for pending in [true, false] {
            assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).ok());
            if !pending {
                // As if it had been confirmed: the state says nothing any more.
                fs::remove_file(Path::new(STATE).join("pending.json")).unwrap();
            }
            assert_ne!(pam_files(), stock, "control");
            let done = helper(bed, &["unhook"]);
            assert!(done.ok(), "{done:?}");
            assert_eq!(pam_files(), stock);
        }
        let by_hand = "account required pam_twinlock.so\n";
        bed.write("/etc/pam.d/local", by_hand);
        let failed = helper(bed, &["unhook"]);
        assert!(!failed.ok() && failed.stderr.contains("/etc/pam.d/local: line 1"), "{failed:?}");
        fs::remove_file("/etc/pam.d/local").unwrap();
        assert!(helper(bed, &["unhook"]).ok());
    });
}

/// Debian's pam-auth-update writes common-*, never a service's own file: our lines keep their place, and
/// the proof holds afterwards.
///
/// Catalogue: K4 (control: inline)
#[test]
fn pam_auth_update_afterwards_leaves_the_lines_and_their_order() {
    in_namespace_within(here!(), BED, |bed| {
        let _installation = ready(bed);
        assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).ok());
        let wired = pam_files();
        let updated = bed.person("root").env("DEBIAN_FRONTEND", "noninteractive").run(&[
            "pam-auth-update",
            "--package",
            "--force",
        ]);
        assert!(updated.ok(), "{updated:?}");
        let after = pam_files();
        assert_ne!(after["common-account"], wired["common-account"], "control: it did write");
        for name in ["sudo", "sudo-i", "other"] {
            assert_eq!(after[name], wired[name]);
        }
        let proved = helper(bed, &["prove", "alice"]);
        assert!(proved.ok() && proved.stdout.contains("calls the module in account and session"), "{proved:?}");
        let reverted = helper(bed, &["revert"]);
        assert!(reverted.ok(), "{reverted:?}");
        assert!(plain_sudo_works(bed));
    });
}

#[test]
fn a_file_that_changed_while_it_waited_loses_our_lines_alone() {
    in_namespace_within(here!(), BED, |bed| {
        let _installation = ready(bed);
        let stock = pam_files();
        assert!(tool(bed, &["enable", "sudo", "--yes", "--no-wait"]).ok());
        let mut edited = fs::read("/etc/pam.d/sudo").unwrap();
        edited.extend_from_slice(b"session optional pam_permit.so\n");
        bed.write("/etc/pam.d/sudo", &edited);
        let reverted = helper(bed, &["revert"]);
        assert!(reverted.ok() && reverted.stdout.contains("only the twinlock lines were taken out"), "{reverted:?}");
        let now = pam_files();
        assert_eq!(now["sudo"].0, [stock["sudo"].0.as_slice(), b"session optional pam_permit.so\n"].concat());
        assert_eq!((&now["sudo-i"], &now["other"]), (&stock["sudo-i"], &stock["other"]));
    });
}

#[test]
fn sshd_is_refused_in_words_and_so_is_everybody_but_root() {
    in_namespace_within(here!(), BED, |bed| {
        let _world = twinlock_tests::World::install(bed);
        let sshd = tool(bed, &["enable", "sshd"]);
        assert!(!sshd.ok() && sshd.stderr.contains("does not gate ssh logins yet"), "{sshd:?}");
        for argv in [["twinlock", "enable", "sudo"], ["twinlock", "disable", "sudo"]] {
            let refused = bed.run("alice", &argv);
            assert!(!refused.ok() && refused.stderr.contains("only root"), "{refused:?}");
        }
    });
}
