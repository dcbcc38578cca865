//! The benchmark's body: calibrate, measure the module against `pam_permit` (instructions
//! and wall time), measure second approval → command's `main` over the whole real path,
//! calibrate again, print, and judge the floors.
//!
//! State lies on the checkout's own disk, not in the bed's memory: a sync must cost here
//! what it costs in production.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use nix::mount::{MsFlags, mount};
use serde_json::json;
use twinlock_protocol::statement::Decision;

use crate::approver::{Approver, ticket_of};
use crate::bed::{Bed, Tail};
use crate::demo::measure::{Calibration, InstantHost, Sample, module_added, ms};
use crate::demo::stamp;
use crate::installation::{Installation, Plan};
use crate::term::Terminal;
use crate::world;

/// How often everything is done.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Interleaved pairs of `sudo true`.
    pub pairs: usize,
    /// Whole elevations with two approvals.
    pub elevations: usize,
}

/// A delayed acknowledgement is 40 ms, and so is the first random number of a provider
/// that gathers entropy from jitter: nothing on the path may take that long.
const STALL: Duration = Duration::from_millis(40);
/// The aim for the stripped module, bytes; `tests/artifact.rs` holds where it stands.
const MODULE_LIMIT: u64 = 1_200_000;
const LIMIT: Duration = Duration::from_secs(20);
const STAMP: &str = "/usr/local/bin/stamp";
const STAMPS: &str = "/run/bench.stamps";

/// Measures everything and prints it; panics when a floor is broken.
pub fn run(bed: &mut Bed, rounds: Rounds) {
    let disk = on_real_disk();
    let first = Calibration::take(bed, &disk);
    println!("calibration, first: {first}");

    let module = fs::metadata(world::built_module()).expect("the module").len();
    println!("pam_twinlock.so: {module} bytes stripped, limit {MODULE_LIMIT}");

    let host = InstantHost::start(bed);
    let instructions = instructions(bed);
    if let Some(Instructions { permit, twinlock }) = instructions {
        println!(
            "module, instructions (callgrind, pamtester acct_mgmt): {:.2} M, over pam_permit's {:.2} M: +{:.2} M",
            millions(twinlock),
            millions(permit),
            millions(twinlock) - millions(permit)
        );
    }
    let added = module_added(bed, &host, rounds.pairs);
    drop(host);
    let (permit, twinlock) = (&added.permit, &added.twinlock);
    println!(
        "sudo true, {} interleaved pairs: pam_permit {:.2} ms (p10 {:.2}), twinlock {:.2} ms (p10 {:.2}), ratio {:.2}",
        permit.count(),
        permit.median_ms(),
        ms(permit.percentile(10)),
        twinlock.median_ms(),
        ms(twinlock.percentile(10)),
        twinlock.median_ms() / permit.median_ms()
    );
    println!(
        "  of which {:.2} ms are the stand-in agent's (two people's signatures, an issue): the module and the reaper add {:.2} ms; \
         one move between cgroups, which the kernel makes slow, is {:.2} ms here",
        added.agent.median_ms(),
        added.module_ms(),
        first.cgroup_move_ms
    );

    let path = approval_to_main(bed, rounds.elevations);
    let last = Calibration::take(bed, &disk);
    println!(
        "second approval sent → command's main, {} elevations: p50 {:.2} ms, p99 {:.2} ms (p10 {:.2})",
        path.count(),
        path.median_ms(),
        ms(path.percentile(99)),
        ms(path.percentile(10))
    );
    println!(
        "  as multiples: {:.0} P-256 verifies, {:.1} fdatasyncs, {:.1} execs of true, {:.1} moves between cgroups",
        path.median_ms() * 1e3 / first.p256_verify_us,
        path.median_ms() / first.fdatasync_ms,
        path.median_ms() / first.exec_true_ms,
        path.median_ms() / first.cgroup_move_ms
    );
    println!("calibration, last:  {last}");
    let moved = first.moved(&last);
    if moved > 1.15 {
        println!("note: a calibrator moved by a factor of {moved:.2} during the run: trust ratios and instructions");
    }

    let report = json!({
        "calibration_first": first,
        "calibration_last": last,
        "module_bytes": module,
        "instructions": instructions.map(|i| json!({"permit": i.permit, "twinlock": i.twinlock})),
        "permit_ns": permit.nanos(),
        "twinlock_ns": twinlock.nanos(),
        "stand_in_agent_ns": added.agent.nanos(),
        "module_added_ms": added.module_ms(),
        "approval_to_main_ns": path.nanos(),
    });
    let out = bed.out_dir().join("bench.json");
    fs::write(&out, serde_json::to_vec_pretty(&report).expect("plain data")).expect("the report");
    println!("all figures: {}", out.display());

    let module_wall = Duration::from_secs_f64(added.module_ms().max(0.0) / 1e3);
    let floors = [
        (module <= MODULE_LIMIT, format!("the module has {module} bytes, more than {MODULE_LIMIT}")),
        (path.percentile(50) < STALL, format!("40 ms or more between approval and command: {:.2}", path.median_ms())),
        (module_wall < STALL, format!("40 ms or more in the module: {:.2}", added.module_ms())),
    ];
    let broken: Vec<_> = floors.iter().filter(|(holds, _)| !holds).map(|(_, what)| what.as_str()).collect();
    assert!(broken.is_empty(), "floors are broken: {}", broken.join("; "));
    println!("floors: all hold");
}

fn millions(n: u64) -> f64 {
    n as f64 / 1e6
}

/// Binds directories of the checkout's disk where gateway and host keep their state.
fn on_real_disk() -> PathBuf {
    let disk = world::target_dir().join("bench-disk");
    let _ = fs::remove_dir_all(&disk);
    for place in [world::GATEWAY_DIR, "/var/lib/twinlock"] {
        let from = disk.join(Path::new(place).file_name().expect("a name"));
        fs::create_dir_all(&from).and_then(|()| fs::create_dir_all(place)).expect("a directory for state");
        mount(Some(&from), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount");
    }
    disk
}

#[derive(Clone, Copy)]
struct Instructions {
    permit: u64,
    twinlock: u64,
}

/// Instructions of a pamtester run, by callgrind, in both services; none without valgrind.
fn instructions(bed: &Bed) -> Option<Instructions> {
    if !Path::new("/usr/bin/valgrind.bin").exists() {
        println!("note: no valgrind, no instruction counts (run `make deps`)");
        return None;
    }
    let permit = "account required pam_permit.so\nsession required pam_permit.so\n";
    let line = "account required pam_twinlock.so\nsession required pam_twinlock.so\n";
    let count = |lines: &str| {
        bed.wire(&Tail::Lines(String::new()));
        bed.write("/etc/pam.d/sudo", lines);
        let log = "/tmp/callgrind.log";
        let _ = fs::remove_file(log);
        // alice's real uid and root's effective one, as sudo has them.
        let words = [
            "setpriv",
            "--ruid=1001",
            "--rgid=1001",
            "--clear-groups",
            // Debian's `valgrind` is a shell script, and shells give up an effective uid that is not theirs.
            "/usr/bin/valgrind.bin",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            &format!("--log-file={log}"),
            "pamtester",
            "sudo",
            "root",
            // Valgrind 3.19 knows no pidfd_open: the session's part is in the wall times only.
            "acct_mgmt",
        ];
        let mut terminal = Terminal::open(&bed.person("root"), &words);
        let code = terminal.exit_code(Duration::from_secs(60));
        let log = fs::read_to_string(log).unwrap_or_default();
        assert_eq!(code, 0, "{}\n{log}\n{:?}", terminal.screen(), bed.syslog());
        let collected = log.lines().find_map(|l| l.split_once("Collected : "));
        collected.and_then(|(_, n)| n.trim().parse::<u64>().ok()).unwrap_or_else(|| panic!("no count in {log}"))
    };
    Some(Instructions { permit: count(permit), twinlock: count(line) })
}

/// Whole elevations over the real path; from the second approval's first byte to `main`.
fn approval_to_main(bed: &mut Bed, rounds: usize) -> Sample {
    let _ = fs::remove_file(world::AGENT_SOCK);
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    stamp::install(bed, STAMP);
    let mut plan = Plan::new();
    plan.gateway = "[limits]\nrequests_per_person = 100000\nrequests_per_host = 100000\ncalls_per_address = 100000\n\
                    calls_per_approver = 100000\n"
        .into();
    plan.agent = "[limits]\nrequests_per_minute = 100000\n".into();
    let installation = plan.start(bed);
    let (mut bob, mut carol) = (installation.approver("bob"), installation.approver("carol"));
    bob.sign_in();
    carol.sign_in();
    let times = (0..rounds + 2).map(|_| elevation(bed, &installation, &mut bob, &mut carol)).collect::<Vec<_>>();
    Sample::new(times[2..].to_vec())
}

fn elevation(bed: &Bed, _: &Installation<'_>, bob: &mut Approver<'_>, carol: &mut Approver<'_>) -> Duration {
    let _ = fs::remove_file(STAMPS);
    let mut terminal = bed.terminal("alice", &["sudo", STAMP, STAMPS]);
    let first = shown_ticket(&terminal, None);
    assert_eq!(bob.approve(&first), "approved_first");
    let second = shown_ticket(&terminal, Some(&first));
    let claim = carol.claim(&second);
    let statement = carol.statement(&claim, Decision::Approve);
    let (sent, answer) = carol.send_timed(&claim, &statement);
    assert_eq!(answer.ok()["state"], "granted");
    assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    let moment = stamp::read(STAMPS).pop().expect("the command ran");
    let sent = sent.duration_since(UNIX_EPOCH).expect("after 1970");
    Duration::from_nanos(moment.real_ns).checked_sub(sent).expect("a command runs after its approval")
}

/// The ticket on the screen, read as text: scanning pictures is the demo's and the tests' part.
fn shown_ticket(terminal: &Terminal, previous: Option<&str>) -> String {
    let ticket = |screen: &str| {
        let line = screen.lines().map(str::trim).find(|line| line.contains("/S/"))?;
        let ticket = ticket_of(line.split(' ').next()?);
        (ticket.len() == 26 && Some(ticket.as_str()) != previous).then_some(ticket)
    };
    terminal.wait_until("a fresh ticket", LIMIT, |screen| ticket(screen).is_some());
    ticket(&terminal.screen()).expect("it was there a moment ago")
}
