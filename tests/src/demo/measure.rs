//! Measuring: quantiles, calibrators, and what the module adds to a sudo, by interleaved
//! runs against `pam_permit` in the same minute on the same machine.
//!
//! Wall time on a shared machine is only worth something beside a calibrator and beside
//! its twin of the same run; every figure printed from here is one of these two.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::Serialize;
use twinlock_certs::issue::Ca;
use twinlock_protocol::softphone::{Fixture, Phone};

use crate::bed::{Bed, Tail};
use crate::installation::{now, own, pin_roster, start_reaper};
use crate::instant::InstantAgent;
use crate::proc::Launch;
use crate::term::Terminal;
use crate::world::{self, World};

/// The argument that makes a program of ours the runner of [`run_pairs`].
const RUNNER: &str = "__pairs";
/// Where the runner is inside the bed (a checkout may lie where alice cannot look).
const RUNNER_PLACE: &str = "/usr/local/bin/twinlock-pairs";
/// The two commands, one per PAM service.
const PERMITTED: &str = "/usr/local/bin/true-permit";
const ASKED: &str = "/usr/local/bin/true-twinlock";

/// Some durations, sorted.
#[derive(Clone, Debug)]
pub struct Sample(Vec<Duration>);

impl Sample {
    /// Sorts them; at least one.
    #[must_use]
    pub fn new(mut durations: Vec<Duration>) -> Self {
        assert!(!durations.is_empty(), "nothing was measured");
        durations.sort();
        Self(durations)
    }

    /// The smallest one that is not below `percent` of them.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    /// The median, in milliseconds.
    #[must_use]
    pub fn median_ms(&self) -> f64 {
        ms(self.percentile(50))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All, smallest first, in nanoseconds.
    #[must_use]
    pub fn nanos(&self) -> Vec<u64> {
        self.0.iter().map(|d| u64::try_from(d.as_nanos()).expect("below 584 years")).collect()
    }
}

/// A duration in milliseconds.
#[must_use]
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What this machine does at this moment with work that never changes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Calibration {
    /// One P-256 verification by ring, microseconds, the best of 20 batches.
    pub p256_verify_us: f64,
    /// One append of 512 bytes with fdatasync, milliseconds, median of 100.
    pub fdatasync_ms: f64,
    /// Start and end of `/bin/true`, milliseconds, median of 100.
    pub exec_true_ms: f64,
    /// A process's move to another cgroup, milliseconds, median of 20 with a pause between: the
    /// kernel waits for a grace period of RCU (unless cgroup2 is mounted with `favordynmods`), and
    /// every contained session pays it once.
    pub cgroup_move_ms: f64,
}

impl Calibration {
    /// Measures, with the sync in `dir`: the file system that the state under test lies on.
    #[must_use]
    pub fn take(bed: &Bed, dir: &Path) -> Self {
        Self {
            p256_verify_us: verify_us(),
            fdatasync_ms: sync_ms(dir),
            exec_true_ms: exec_ms(),
            cgroup_move_ms: move_ms(bed),
        }
    }

    /// The largest change of a calibrator between two takes, as a factor of at least 1.
    #[must_use]
    pub fn moved(&self, later: &Self) -> f64 {
        let pairs = [
            (self.p256_verify_us, later.p256_verify_us),
            (self.fdatasync_ms, later.fdatasync_ms),
            (self.exec_true_ms, later.exec_true_ms),
            (self.cgroup_move_ms, later.cgroup_move_ms),
        ];
        pairs.iter().map(|(a, b)| (a / b).max(b / a)).fold(1.0, f64::max)
    }
}

impl std::fmt::Display for Calibration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p256_verify_us, fdatasync_ms, exec_true_ms, cgroup_move_ms } = self;
        write!(f, "P-256 verify {p256_verify_us:.1} us, fdatasync {fdatasync_ms:.3} ms, ")?;
        write!(f, "exec true {exec_true_ms:.3} ms, cgroup move {cgroup_move_ms:.3} ms")
    }
}

fn verify_us() -> f64 {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("that key");
    let signature = key.sign(&random, b"calibration").expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    let batch = || {
        let started = Instant::now();
        for _ in 0..50 {
            public.verify(b"calibration", signature.as_ref()).expect("our own signature");
        }
        started.elapsed().as_secs_f64() * 1e6 / 50.0
    };
    (0..20).map(|_| batch()).fold(f64::INFINITY, f64::min)
}

fn sync_ms(dir: &Path) -> f64 {
    let path = dir.join("calibration");
    let mut file = File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let times = (0..100).map(|_| {
        let started = Instant::now();
        file.write_all(&[0x5a; 512]).and_then(|()| file.sync_data()).expect("an append");
        started.elapsed()
    });
    let median = Sample::new(times.collect()).median_ms();
    fs::remove_file(&path).expect("removing the calibration file");
    median
}

fn exec_ms() -> f64 {
    let times = (0..100).map(|_| {
        let started = Instant::now();
        assert!(Command::new("/bin/true").status().is_ok_and(|s| s.success()), "/bin/true");
        started.elapsed()
    });
    Sample::new(times.collect()).median_ms()
}

fn move_ms(bed: &Bed) -> f64 {
    let own = fs::read_to_string("/proc/self/cgroup").expect("our own cgroup");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup2 hierarchy").to_owned();
    let places = [bed.cgroup("calibration.scope"), bed.cgroup_root().join(own)];
    let times = (0..20).map(|i| {
        std::thread::sleep(Duration::from_millis(30));
        let started = Instant::now();
        fs::write(places[i % 2].join("cgroup.procs"), "0").expect("moving ourselves");
        started.elapsed()
    });
    let median = Sample::new(times.collect()).median_ms();
    fs::remove_dir(&places[0]).expect("an empty cgroup");
    median
}

/// `sudo true` with `pam_permit` and with Twinlock, in turns.
pub struct Added {
    /// Start to end with `pam_permit`.
    pub permit: Sample,
    /// Start to end with the module, the real reaper, and an agent that answers at once.
    pub twinlock: Sample,
    /// What that agent did of it: two people's signatures and an issue.
    pub agent: Sample,
}

impl Added {
    /// What an elevation costs beyond a plain sudo when nobody is waited for, milliseconds:
    /// medians' difference less the stand-in agent's own median.
    #[must_use]
    pub fn module_ms(&self) -> f64 {
        self.twinlock.median_ms() - self.permit.median_ms() - self.agent.median_ms()
    }
}

/// A host whose module is answered at once: module, reaper, roster, and an instant agent.
pub struct InstantHost {
    /// The agent.
    pub agent: InstantAgent,
    _reaper: crate::proc::Daemon,
}

impl InstantHost {
    /// Installs and starts it. Nothing else of Twinlock may run in the bed.
    #[must_use]
    pub fn start(bed: &Bed) -> Self {
        Self::start_with(bed, |_| {})
    }

    /// The same host, but the two approvals are signed by keys that nobody enrolled: the module must
    /// refuse every one of them.
    #[must_use]
    pub fn start_forging(bed: &Bed) -> Self {
        Self::start_with(bed, |fixture| {
            for phone in &mut fixture.phones {
                let mut forged = Phone::new(phone.person.as_str(), phone.device.id.as_str());
                forged.device.credential_id = phone.device.credential_id.clone();
                *phone = forged;
            }
        })
    }

    fn start_with(bed: &Bed, after_sealing: impl FnOnce(&mut Fixture)) -> Self {
        let world = World::install(bed);
        let moment = now();
        let (ca, _) = Ca::generate("Twinlock bench CA", moment, 10).expect("a CA");
        let mut fixture = Fixture::new(ca.certificate(), moment);
        fixture.roster.issued_at.0 -= 60;
        let (envelope, roster) = fixture.seal();
        after_sealing(&mut fixture);
        let put = |path: &str, bytes: &[u8]| own(bed, Path::new(path), "root", 0o600, bytes);
        put(world::HOST_KEY, &fixture.host_key_pkcs8);
        let uid = |user: &str| Launch::service(user, &[]).uid();
        let (agent, reaper) = (uid("twinlock-agent"), uid("twinlock-reaper"));
        bed.write(world::REAPER_TOML, format!("agent_uid = {agent}\n"));
        bed.write(world::MODULE_TOML, format!("host = \"web01\"\nagent_uid = {agent}\nreaper_uid = {reaper}\n"));
        pin_roster(&envelope);
        let reaper = start_reaper(&world);
        Self { agent: InstantAgent::start(world::AGENT_SOCK, fixture, roster, ca), _reaper: reaper }
    }
}

/// Runs `sudo true` in both ways in turns, `rounds` times each, after three rounds unmeasured.
///
/// The program that calls this calls [`runner`] first of all in its `main`.
#[must_use]
pub fn module_added(bed: &Bed, host: &InstantHost, rounds: usize) -> Added {
    let permit_lines = "account required pam_permit.so\nsession required pam_permit.so\n";
    bed.wire(&Tail::Twinlock);
    bed.write("/etc/pam.d/permit", format!("{}{permit_lines}", crate::accounts::stock("sudo")));
    for place in [PERMITTED, ASKED] {
        bed.install("/bin/true", place, 0o755);
    }
    bed.sudoers(&format!("alice ALL=(ALL:ALL) NOPASSWD: ALL\nDefaults!{PERMITTED} pam_service=permit\n"));
    bed.install(std::env::current_exe().expect("our own path"), RUNNER_PLACE, 0o755);
    let unmeasured = 3;
    let count = (rounds + unmeasured).to_string();
    let out = "/home/alice/pairs.json";
    let mut terminal = Terminal::open(&bed.person("alice"), &[RUNNER_PLACE, RUNNER, out, &count, PERMITTED, ASKED]);
    let code = terminal.exit_code(Duration::from_secs(2 * rounds as u64 + 30));
    assert_eq!(code, 0, "{}", terminal.screen());
    let pairs: Vec<(u64, u64)> =
        serde_json::from_slice(&fs::read(out).expect("the runner's times")).expect("pairs of nanoseconds");
    let measured = || pairs.iter().skip(unmeasured);
    let answers = host.agent.answers();
    assert!(answers.len() >= pairs.len(), "every run was a request of its own");
    Added {
        permit: Sample::new(measured().map(|(permit, _)| Duration::from_nanos(*permit)).collect()),
        twinlock: Sample::new(measured().map(|(_, asked)| Duration::from_nanos(*asked)).collect()),
        agent: Sample::new(answers[answers.len() - rounds..].to_vec()),
    }
}

/// If this process was started as the runner: runs the pairs and says how to exit.
#[must_use]
pub fn runner() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [RUNNER, out, count, first, second] => Some(run_pairs(out, count, [first, second])),
        _ => None,
    }
}

fn run_pairs(out: &str, count: &str, commands: [&str; 2]) -> ExitCode {
    let mut pairs: Vec<(u64, u64)> = Vec::new();
    for round in 0..count.parse().expect("a number of rounds") {
        let mut times = [0; 2];
        // Who goes first alternates: what one leaves in caches, the other finds as often.
        for which in [round % 2, 1 - round % 2] {
            let started = Instant::now();
            let status = Command::new("sudo").arg(commands[which]).status();
            times[which] = u64::try_from(started.elapsed().as_nanos()).expect("below 584 years");
            if !status.is_ok_and(|s| s.success()) {
                return ExitCode::FAILURE;
            }
        }
        pairs.push(times.into());
    }
    fs::write(out, serde_json::to_vec(&pairs).expect("plain data")).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}
