//! The demo's story: one elevation from `sudo` to the audit trail, with two stand-in
//! phones, told in a few lines. Every number told or written was measured on the way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use twinlock_protocol::evidence::{EndNote, GrantRecord};

use crate::approver::Site;
use crate::bed::Bed;
use crate::demo::ceremony::{self, Holder, Setting};
use crate::demo::deathwatch::Watch;
use crate::demo::measure::{Calibration, InstantHost, module_added};
use crate::demo::proof::{Proof, qr_reader, verify_record};
use crate::demo::stamp::{self, Moment};
use crate::demo::story::Story;
use crate::picture::scan;
use crate::proc::{Snapshot, eventually};
use crate::term::{SANE, Terminal};
use crate::world;

const LIMIT: Duration = Duration::from_secs(30);
/// How long the elevation lives, seconds.
pub const TTL_S: u32 = 6;
/// Pairs of sudo with and without the module, at the end.
const PAIRS: usize = 40;
/// What alice runs: it does not want to end.
const COMMAND: &str = "/usr/local/sbin/maintenance";
const SCRIPT: &str = "/usr/local/lib/maintenance.sh";
const STAMPS: &str = "/run/maintenance.stamps";
/// Lines of the module's configuration for the demo: a life short enough to see its end.
#[must_use]
pub fn short_life() -> String {
    format!("ttl_s = {TTL_S}\n")
}

/// Puts in place what alice will run: children in the background, in sessions of their own, orphaned.
pub fn install_command(bed: &Bed) {
    bed.write(
        SCRIPT,
        "#!/bin/sh\n\
         sleep 100001 &\n\
         setsid sleep 100002 &\n\
         nohup sleep 100003 >/dev/null 2>&1 &\n\
         setsid sh -c 'sleep 100004 & sleep 0.1' &\n\
         echo \"maintenance: running as $(id -un), with children that do not want to end\"\n\
         while :; do sleep 1; done\n",
    );
    bed.install(SCRIPT, format!("{SCRIPT}.run"), 0o755);
    stamp::install_before(bed, COMMAND, STAMPS, &format!("{SCRIPT}.run"));
}

/// One elevation by `holders[0]` and `holders[1]`, to its end.
pub fn elevate(bed: &Bed, setting: &Setting<'_>, site: &Site, story: &Story, holders: &[Holder], proof: &mut Proof) {
    let [first, second] = [&holders[0], &holders[1]];
    install_command(bed);
    story.chapter("alice@web01:~$ sudo maintenance");
    let mut terminal = bed.terminal("alice", &["sudo", "maintenance"]);
    let (code_one, address) = scan_and_keep(&terminal, proof, 1, None);
    story.quote(&text_of(&terminal.screen()));
    story.tell(format!("{} points a phone at the terminal; zbarimg reads {address}", first.id));
    first.phone.scan(&address);
    story.tell(format!("{}'s phone: {}", first.id, one_line(&first.phone.heading())));
    let said = first.phone.approve();
    story.tell(format!("{} reads the command to its end and approves: {}", first.id, one_line(&said)));
    let (code_two, address) = scan_and_keep(&terminal, proof, 2, Some(&code_one));
    story.tell(format!("the terminal shows a fresh code; {} scans {address}", second.id));
    second.phone.scan(&address);
    let said = second.phone.approve();
    story.tell(format!("{} approves: {}", second.id, one_line(&said)));
    if let (Some(reader), true) = (qr_reader(), code_one != code_two) {
        proof.figures.qr_decoded_by = Some(reader);
    }

    let mut stamps = Vec::new();
    eventually("the command runs", LIMIT, || {
        stamps = stamp::read(STAMPS);
        !stamps.is_empty()
    });
    let main = stamps[0];
    let sent = approval_sent(second, proof);
    let path_ms = (main.real_ns as f64 - sent * 1e6) / 1e6;
    proof.note("command_main", json!({"real_ns": main.real_ns, "boot_ns": main.boot_ns}));
    proof.figures.second_approval_to_exec_ms = Some(path_ms);
    story.tell(format!("the command's main() runs, {path_ms:.1} ms after {}'s approval left the phone", second.id));
    terminal.wait_for("maintenance: running as root", LIMIT);
    terminal.screenshot(proof.path("terminal-3-granted.png"));
    story.quote(&text_of(&terminal.screen()));
    live(setting, site, story, proof, &mut terminal, main);
}

/// The session lives, ends at its deadline, and leaves its marks.
fn live(setting: &Setting<'_>, site: &Site, story: &Story, proof: &mut Proof, terminal: &mut Terminal, main: Moment) {
    story.chapter(&format!("The elevation lives for {TTL_S} seconds"));
    std::thread::sleep(Duration::from_millis(300));
    let before = Snapshot::take();
    before.save(proof.path("proc-before.json"));
    let front_end = before.processes.iter().find(|p| p.pid == terminal.pid()).expect("sudo waits for its command");
    let cgroup = front_end.cgroup.clone();
    let members = before.in_cgroup(&cgroup).len();
    let root = before.in_cgroup(&cgroup).iter().filter(|p| p.euid == 0).count();
    proof.figures.granted = Some(root > 0 && before.with_word("100001").iter().all(|p| p.euid == 0));
    story.tell(format!("{members} processes in a cgroup of their own, {cgroup}"));
    let watch = Watch::start(setting.world.bed().cgroup_root().join(cgroup.trim_start_matches('/')));

    let grant_file = only_record();
    let record = std::fs::read(&grant_file).expect("the host's record");
    proof.save("grant-record.json", &record);
    proof.save("roster.json", &setting.roster);
    proof.save("pin.txt", format!("{}\n", setting.pin.0.to_text()));
    let verified = verify_record(&record, &setting.roster, &setting.pin);
    proof.figures.evidence_verified = Some(verified.is_ok());
    let verified = verified.expect("the host's record verifies from the pin");
    proof.figures.persons = Some(verified.persons.len());
    proof.figures.devices = Some(verified.devices.len());
    proof.note("persons", verified.persons.clone());
    proof.note("devices", verified.devices.clone());
    story.tell(format!(
        "the host's own record verifies from its pin alone: {} with {}",
        verified.persons.join(" and "),
        verified.devices.join(" and ")
    ));
    let record = GrantRecord::from_bytes(&record).expect("it was just verified");
    proof.save_der(
        "certificate",
        "CERTIFICATE",
        &record.authority.certificate().expect("a gateway granted it").certificate.0,
    );
    let envelope = twinlock_protocol::roster::RosterEnvelope::from_bytes(&setting.roster).expect("verified");
    let roster = twinlock_protocol::roster::Roster::from_bytes(&envelope.bytes.0).expect("verified");
    proof.save_der("ca", "CERTIFICATE", &roster.cas[0].certificate.0);
    let list = site.get("/crl.der", None).bytes;
    proof.save_der("crl-before", "X509 CRL", &list);
    proof.figures.openssl_error_before = proof.openssl("crl-before.pem");
    story.tell(format!("openssl verify -crl_check, now: {}", verdict(proof.figures.openssl_error_before)));

    let deadline_ms = verified.start.deadline_boot_ms;
    proof.note("deadline_boot_ms", deadline_ms);
    let left = Duration::from_millis(deadline_ms.saturating_sub(main.boot_ns / 1_000_000));
    let deaths = watch.finish(left + Duration::from_secs(10));
    proof.note("deaths", serde_json::to_value(&deaths).expect("plain data"));
    let dead_ms = deaths.last_ns().map(|ns| ns as f64 / 1e6 - deadline_ms as f64);
    if let Some(dead_ms) = dead_ms.filter(|ms| *ms >= 0.0) {
        proof.figures.expiry_to_last_process_dead_ms = Some(dead_ms);
        story.tell(format!(
            "expired: every process of it ({} were ever seen) is dead, the last {dead_ms:.1} ms after the deadline",
            deaths.processes.len()
        ));
    } else {
        story.tell(format!("NOT as it should be: {deaths:?} against the deadline {deadline_ms}"));
    }
    let status = terminal.wait(LIMIT);
    let modes = terminal.modes();
    terminal.screenshot(proof.path("terminal-4-ended.png"));
    story.quote(&text_of(&terminal.screen()));
    let sane = if modes == SANE { "its modes are sane" } else { "its modes are NOT sane" };
    story.tell(format!("sudo ended ({}); the terminal is alice's again, {sane}", ceremony::ended(status)));
    Snapshot::take().save(proof.path("proc-after.json"));
    revoked(setting, site, story, proof, &list, &grant_file);
}

/// The certificate on the list, the record with its end, the audit trail.
fn revoked(setting: &Setting<'_>, site: &Site, story: &Story, proof: &mut Proof, before: &[u8], grant_file: &Path) {
    story.chapter("What remains");
    let mut list = Vec::new();
    let waited = eventually("a new revocation list", LIMIT, || {
        list = site.get("/crl.der", None).bytes;
        list != before
    });
    proof.save_der("crl-after", "X509 CRL", &list);
    proof.note("crl_after_waited_ms", u64::try_from(waited.as_millis()).expect("short"));
    proof.figures.openssl_error_after = proof.openssl("crl-after.pem");
    story.tell(format!("openssl verify -crl_check, now: {}", verdict(proof.figures.openssl_error_after)));
    let end = ended(grant_file);
    proof.save("grant-record-ended.json", std::fs::read(grant_file).expect("the host's record"));
    if let Some(end) = end {
        story.tell(format!(
            "the host's record says: {:?}, {} processes killed in {} ms, {} escaped",
            end.reason,
            end.killed.len(),
            end.took_ms,
            end.escaped.len()
        ));
    }
    let bed = setting.world.bed();
    let grant = grant_file.file_stem().and_then(|name| name.to_str()).expect("a record is named for its grant");
    for (name, arguments) in [
        ("grants.txt", &["grants", "--all"][..]),
        ("audit.txt", &["audit", "show", grant]),
        ("audit.json", &["audit", "show", grant, "--json"]),
    ] {
        let said = ceremony::tool(bed, arguments);
        proof.save(name, format!("{}{}", said.stdout, said.stderr));
        if name == "audit.txt" {
            story.tell(format!("twinlock audit show {grant}"));
            story.quote(&format!("{}{}", said.stdout, said.stderr));
        }
    }
}

/// What the module costs when nobody is waited for. Takes the bed over: the setting is gone.
pub fn cost(bed: &Bed, story: &Story, proof: &mut Proof) {
    story.chapter("What the module costs");
    let _ = std::fs::remove_file(world::AGENT_SOCK);
    let host = InstantHost::start(bed);
    let added = module_added(bed, &host, PAIRS);
    proof.figures.module_added_ms = Some(added.module_ms());
    proof.note("permit_ns", added.permit.nanos());
    proof.note("twinlock_ns", added.twinlock.nanos());
    proof.note("stand_in_agent_ns", added.agent.nanos());
    story.tell(format!(
        "sudo true with pam_permit {:.2} ms, with the module {:.2} ms (medians of {PAIRS} interleaved pairs)",
        added.permit.median_ms(),
        added.twinlock.median_ms()
    ));
    let machine = Calibration::take(bed, Path::new("/run"));
    proof.note("calibration", serde_json::to_value(machine).expect("plain data"));
    story.tell(format!(
        "of that the stand-in agent, which signs for two people and issues, takes {:.2} ms: the module adds {:.2} ms",
        added.agent.median_ms(),
        added.module_ms()
    ));
    story.tell(format!("on this machine, at this moment: {machine}"));
}

/// Photographs the terminal, lets zbar read the picture, keeps both; an address other than the last.
fn scan_and_keep(terminal: &Terminal, proof: &Proof, number: usize, previous: Option<&str>) -> (String, String) {
    let name = if number == 1 { "waiting" } else { "first-approved" };
    let picture: PathBuf = proof.path(&format!("terminal-{number}-{name}.png"));
    let mut found = None;
    eventually("a fresh code on the terminal", LIMIT, || {
        terminal.screenshot(&picture);
        found = scan(&picture).into_iter().find(|text| text.contains("/S/") && Some(text.as_str()) != previous);
        found.is_some()
    });
    let text = found.expect("found above");
    proof.save(&format!("qr-{number}.txt"), format!("{text}\n"));
    (text.clone(), text)
}

/// When the browser began to send its last answer, milliseconds since 1970, by its own clock.
fn approval_sent(holder: &Holder, proof: &mut Proof) -> f64 {
    let timing = holder.phone.run(
        "const all = performance.getEntriesByType('resource').filter(e => e.name.endsWith('/api/v1/answer'));
         const last = all.at(-1);
         return {origin: performance.timeOrigin, start: last.startTime, request: last.requestStart,
                 response: last.responseEnd, now: performance.now(), date: Date.now()}",
        &[],
    );
    proof.note("second_answer_in_the_browser", timing.clone());
    let number = |name: &str| timing[name].as_f64().unwrap_or_else(|| panic!("no {name} in {timing}"));
    number("origin") + number("request")
}

/// The record of the only grant of this host.
fn only_record() -> PathBuf {
    let records = std::fs::read_dir(world::GRANTS_DIR).expect("the records' directory").flatten();
    let mut records: Vec<_> =
        records.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    assert_eq!(records.len(), 1, "one elevation, one record: {records:?}");
    records.remove(0)
}

fn ended(grant_file: &Path) -> Option<EndNote> {
    let mut end = None;
    eventually("the end in the host's record", LIMIT, || {
        let record = std::fs::read(grant_file).ok().and_then(|bytes| GrantRecord::from_bytes(&bytes).ok());
        end = record.and_then(|record| record.end);
        end.is_some()
    });
    end
}

fn verdict(error: Option<u32>) -> String {
    match error {
        None => "no verdict".to_owned(),
        Some(0) => "OK".to_owned(),
        Some(23) => "error 23, certificate revoked".to_owned(),
        Some(other) => format!("error {other}"),
    }
}

/// The screen's lines without its code.
fn text_of(screen: &str) -> String {
    let blocks = |line: &&str| !line.contains(['\u{2580}', '\u{2584}', '\u{2588}']);
    screen.lines().filter(blocks).collect::<Vec<_>>().join("\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
