//! The report over a real database whose clock is moved by hand.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use twinlock_protocol::evidence::{EndReason, ProcessNote};
use twinlock_protocol::ids::{CertSerial, DeviceId, GrantId, HostId, PersonId};
use twinlock_protocol::roster::Assurance;
use twinlock_protocol::{DenyReason, Digest, Fixed};

use super::count::{Approver, count};
use super::lines::{Mismatch, Report};
use super::*;
use crate::audit::{Event, Way, Withdrawal};
use crate::cli::audit::granted::{Granted, NOW};
use crate::store::{AuditQuery, Sqlite, Store, Transaction, Work};

const DAY: u64 = 24 * 3600;

fn person(id: &str) -> PersonId {
    PersonId::new(id).unwrap()
}

/// A gateway's database, and a clock that only moves when it is told to.
struct Log {
    _dir: tempfile::TempDir,
    store: Sqlite,
    now: UnixTime,
    grants: u8,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("gateway.db"), None).unwrap();
        Self { _dir: dir, store, now: NOW, grants: 0 }
    }

    fn note(&mut self, event: Event) {
        let transaction = Transaction { at_ms: self.now.0 * 1000, work: Work::Note, events: vec![event] };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.store.commit(transaction)).unwrap();
        self.now = self.now.plus(1);
    }

    fn ask(&mut self, who: &str, host: &str, target: &str) -> GrantId {
        self.grants += 1;
        let request = Digest::plain(&[self.grants]);
        let grant = twinlock_protocol::ids::RequestId(request).grant();
        self.note(Event::RequestAdmitted {
            request,
            grant,
            host: HostId::new(host).unwrap(),
            requesters: vec![person(who)],
            target_user: target.into(),
            service: "sudo".into(),
            command: "systemctl restart nginx".into(),
            reason: None,
            ttl_s: 900,
            approve_by: self.now.plus(180),
        });
        grant
    }

    fn approve(&mut self, grant: GrantId, pair: [&str; 2]) {
        for (slot, name) in [1, 2].into_iter().zip(pair) {
            self.note(Event::ApprovalGiven {
                grant,
                slot,
                person: person(name),
                device: DeviceId::new(&format!("{name}-phone")).unwrap(),
                assurance: Assurance::C,
                way: Way::Ticket,
                ttl_s: 900,
                statement: Digest::plain(b"statement"),
            });
        }
        self.note(Event::CertificateIssued {
            grant,
            serial: CertSerial::from_random([7; 16]),
            not_after: self.now.plus(900),
            ttl_s: 900,
            approvers: pair.map(person).to_vec(),
            evidence: Digest::plain(b"evidence"),
        });
    }

    fn start(&mut self, grant: GrantId, record: Digest) {
        let (serial, started_at) = (CertSerial::from_random([7; 16]), self.now);
        self.note(Event::SessionStarted { grant, serial, pid: 7, started_at, record });
    }

    fn end(&mut self, grant: GrantId, reason: EndReason, escaped: &[&str]) {
        let escaped: Vec<ProcessNote> =
            escaped.iter().map(|name| ProcessNote { pid: 9, name: (*name).into() }).collect();
        let ended_at = self.now;
        self.note(Event::SessionEnded {
            grant,
            reason,
            ended_at,
            took_ms: 1,
            killed: 0,
            escaped,
            escaped_more: 0,
            lingered: false,
        });
    }

    /// Asked, approved, run and ended within a minute.
    fn whole(&mut self, who: &str, host: &str, pair: [&str; 2]) -> GrantId {
        let grant = self.ask(who, host, "root");
        self.approve(grant, pair);
        self.start(grant, Digest::plain(b"record"));
        self.now = self.now.plus(59);
        self.end(grant, EndReason::Finished, &[]);
        grant
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(seconds);
    }

    fn rows(&self) -> Vec<AuditRow> {
        self.store.audit(&AuditQuery { after: 0, limit: 10_000, grant: None }).unwrap()
    }

    fn window(&self) -> Window {
        let since = UnixTime(self.now.0 - 90 * DAY);
        Window { since, until: self.now, unused_since: since }
    }

    fn report(&self) -> Report {
        count(&self.rows(), self.window(), &people(NOW))
    }
}

fn people(since: UnixTime) -> Vec<Approver> {
    let one = |name: &str| Approver { person: person(name), name: name.to_uppercase(), since };
    ["bob", "carol", "dave"].map(one).to_vec()
}

#[test]
fn grants_are_counted_by_requester_pair_and_target_and_only_in_the_window() {
    let mut log = Log::new();
    let _old = log.whole("alice", "web01", ["bob", "dave"]);
    log.pass(100 * DAY);
    let _one = log.whole("alice", "web01", ["bob", "carol"]);
    // The order of the two does not make another pair.
    let _two = log.whole("erin", "web01", ["carol", "bob"]);
    let _three = log.whole("alice", "db01", ["bob", "dave"]);
    let unanswered = log.ask("erin", "db01", "postgres");
    log.note(Event::RequestExpired { grant: unanswered });
    let given_up = log.ask("erin", "db01", "postgres");
    log.note(Event::RequestWithdrawn { grant: given_up, why: Withdrawal::Cancelled });
    let report = log.report();

    let totals = report.totals;
    assert_eq!((totals.asked, totals.granted, totals.expired, totals.withdrawn), (5, 3, 1, 1));
    assert_eq!(totals.elevated_s, 3 * 60);
    let by: Vec<_> = report.requesters.iter().map(|line| (line.requester.as_str(), line.totals.granted)).collect();
    assert_eq!(by, [("alice", 2), ("erin", 1)]);
    let pairs: Vec<_> = report.pairs.iter().map(|l| (l.approvers.clone(), l.granted, l.requesters)).collect();
    assert_eq!(pairs, [(vec![person("bob"), person("carol")], 2, 2), (vec![person("bob"), person("dave")], 1, 1)]);
    let targets: Vec<_> =
        report.targets.iter().map(|l| (l.target.as_str(), l.host.as_str(), l.totals.asked, l.totals.granted)).collect();
    assert_eq!(targets, [("root", "web01", 2, 2), ("root", "db01", 1, 1), ("postgres", "db01", 2, 0)]);
    assert!(report.attacks.is_empty() && report.mismatches.is_empty(), "{report:?}");
    let page = page::lines(&report).join("\n");
    for part in ["5 asked, 3 granted", "bob + carol  2", "alice  2      2", "postgres  db01", "By target"] {
        assert!(page.contains(part), "{part}:\n{page}");
    }
    assert!(!page.contains("ATTACKS") && !page.contains("Denied"), "{page}");
}

#[test]
fn denials_revocations_and_what_lingers_are_listed() {
    let mut log = Log::new();
    let denied = log.ask("alice", "web01", "root");
    log.note(Event::DenialGiven {
        grant: denied,
        person: person("dave"),
        device: DeviceId::new("dave-phone").unwrap(),
        reason: Some("not now \\u{1b}".into()),
        statement: Digest::plain(b"s"),
    });
    let revoked = log.ask("alice", "web01", "root");
    log.approve(revoked, ["bob", "carol"]);
    log.start(revoked, Digest::plain(b"r"));
    log.note(Event::AdminRevoked { grant: revoked, by_uid: 0 });
    log.end(revoked, EndReason::Revoked, &[]);
    let lingering = log.ask("erin", "db01", "root");
    log.approve(lingering, ["bob", "carol"]);
    log.start(lingering, Digest::plain(b"r"));
    log.note(Event::SessionLingering { grant: lingering, processes: 2 });
    let report = log.report();
    assert_eq!((report.totals.denied, report.totals.revoked), (1, 1));
    assert_eq!((report.denied[0].grant, &report.denied[0].person), (denied, &person("dave")));
    assert_eq!((report.revoked[0].grant, report.revoked[0].by_uid), (revoked, Some(0)));
    assert_eq!((report.lingering[0].grant, report.lingering[0].still), (lingering, true));
    log.end(lingering, EndReason::Expired, &["nc"]);
    let report = log.report();
    assert_eq!((report.lingering.len(), report.lingering[0].still), (1, false));
    let page = page::lines(&report).join("\n");
    for part in ["not now \\u{1b}", "uid 0", "nc (9)", "Lingering or escaped"] {
        assert!(page.contains(part), "{part}:\n{page}");
    }
    // The same as JSON, for programs.
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["requesters"][0]["requester"], "alice");
    assert_eq!(json["lingering"][0]["escaped"][0]["name"], "nc");
}

// control: inline
#[test]
fn refused_evidence_is_an_attack_and_a_slow_approver_is_none() {
    let mut log = Log::new();
    let grant = log.ask("alice", "web01", "root");
    let refused = |reason| Event::AnswerRefused { grant: Some(grant), person: person("mallory"), reason };
    log.note(refused(DenyReason::NotPending));
    assert!(log.report().attacks.is_empty(), "out of turn is no attack");
    for _ in 0..3 {
        log.note(refused(DenyReason::AssertionSignature));
    }
    log.note(Event::CodeWrong { grant, person: person("mallory"), tries_left: 4 });
    log.note(Event::RequestRefused {
        host: HostId::new("web01").unwrap(),
        request: None,
        reason: DenyReason::RequestSignature,
    });
    let report = log.report();
    let told: Vec<_> =
        report.attacks.iter().map(|line| (line.event.as_str(), line.from.as_str(), line.count)).collect();
    assert_eq!(told, [("answer_refused", "person mallory", 3), ("request_refused", "host web01", 1)]);
    assert!(page::lines(&report).join("\n").contains("an approval's passkey signature does not verify"));
}

/// Catalogue: V5 (control: inline)
#[test]
fn hosts_and_log_that_tell_different_stories_are_named() {
    let mut log = Log::new();
    let fine = log.whole("alice", "web01", ["bob", "carol"]);
    let silent = log.ask("alice", "web01", "root");
    log.approve(silent, ["bob", "carol"]);
    let endless = log.ask("alice", "web01", "root");
    log.approve(endless, ["bob", "carol"]);
    log.start(endless, Digest::plain(b"r"));
    let stopped = log.ask("alice", "web01", "root");
    log.approve(stopped, ["bob", "carol"]);
    log.note(Event::RequestWithdrawn { grant: stopped, why: Withdrawal::Cancelled });
    log.pass(900);
    assert!(log.report().mismatches.is_empty(), "the hosts still have time to report");
    log.pass(1000);
    // A host repeats a report that was refused: told once.
    let foreign = GrantId::from_text(&"z".repeat(26).replace('z', "a")).unwrap();
    for _ in 0..3 {
        let host = HostId::new("db01").unwrap();
        log.note(Event::ReportRefused { host, grant: foreign, reason: DenyReason::NotFound });
    }
    let other = DenyReason::CertificateOther;
    log.note(Event::ReportRefused { host: HostId::new("web01").unwrap(), grant: fine, reason: other });
    let mut told: Vec<_> = log.report().mismatches.iter().map(|line| (line.what, line.grant)).collect();
    told.sort();
    let mut expected = [
        (Mismatch::NeverIssued, foreign),
        (Mismatch::OtherThanIssued, fine),
        (Mismatch::NeverStarted, silent),
        (Mismatch::NoEnd, endless),
    ];
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn approvers_without_an_answer_are_listed_unless_they_are_new() {
    let mut log = Log::new();
    let unused = |log: &Log, people: &[Approver]| {
        let report = count(&log.rows(), log.window(), people);
        report.unused.into_iter().map(|line| (line.person.to_string(), line.last)).collect::<Vec<_>>()
    };
    let _first = log.whole("alice", "web01", ["bob", "dave"]);
    let last = log.rows().iter().filter(|row| row.event.contains("\"approval_given\"")).map(case::at).max().unwrap();
    log.pass(50 * DAY);
    let _second = log.whole("alice", "web01", ["bob", "carol"]);
    assert_eq!(unused(&log, &people(NOW)), [], "everybody answered within 90 days");
    log.pass(50 * DAY);
    assert_eq!(unused(&log, &people(NOW)), [("dave".to_owned(), Some(last))]);
    let mut more = people(NOW);
    more.push(Approver { person: person("frank"), name: "Frank".into(), since: log.now });
    assert_eq!(unused(&log, &more).len(), 1, "frank came today");
    log.pass(91 * DAY);
    let names: Vec<_> = unused(&log, &more).into_iter().map(|(name, last)| (name, last.is_some())).collect();
    let expected = [("bob", true), ("carol", true), ("dave", true), ("frank", false)];
    assert_eq!(names, expected.map(|(name, last)| (name.to_owned(), last)));
}

#[test]
fn approvers_are_those_whom_the_newest_roster_lets_approve() {
    let granted = Granted::new();
    let names: Vec<_> = approvers(&granted.chain).iter().map(|one| one.person.to_string()).collect();
    assert_eq!(names, ["bob", "carol", "dave"], "alice only asks");
}

/// Catalogue: V5 (control: inline)
#[test]
fn a_grant_that_the_log_is_silent_about_shows_in_the_hosts_records() {
    let granted = Granted::new();
    let dir = tempfile::tempdir().unwrap();
    let grant = granted.record.grant;
    let put = |record: &twinlock_protocol::evidence::GrantRecord| {
        std::fs::write(dir.path().join(format!("{}.json", record.grant)), record.to_bytes()).unwrap();
    };
    put(&granted.record);
    std::fs::write(dir.path().join(format!("{grant}.started")), b"").unwrap();
    let mut log = Log::new();
    let told = |log: &Log| {
        let lines = records::compare(dir.path(), &log.rows(), &granted.chain, log.window()).unwrap();
        lines.iter().map(|line| (line.what, line.grant)).collect::<Vec<_>>()
    };
    log.pass(10);
    assert_eq!(told(&log), [(Mismatch::NotInLog, grant)]);

    // The log knows of it, and the host has closed its record since.
    let admitted = |log: &mut Log| {
        let request = Digest::plain(b"any");
        log.note(Event::RequestAdmitted {
            request,
            grant,
            host: HostId::new("web01").unwrap(),
            requesters: vec![person("alice")],
            target_user: "root".into(),
            service: "sudo".into(),
            command: "systemctl restart nginx".into(),
            reason: None,
            ttl_s: 900,
            approve_by: NOW,
        });
    };
    admitted(&mut log);
    log.start(grant, Digest::plain(&granted.record.to_bytes()));
    let mut closed = granted.record.clone();
    closed.end = Some(twinlock_protocol::evidence::EndNote {
        reason: EndReason::Finished,
        ended_at: NOW.plus(9),
        took_ms: 1,
        killed: vec![],
        escaped: vec![],
        lingered: false,
    });
    put(&closed);
    assert_eq!(told(&log), []);

    // Another record than the one reported; one that does not verify; one that is gone.
    let mut other = Log::new();
    admitted(&mut other);
    other.start(grant, Digest(Fixed([1; 32])));
    other.pass(10);
    assert_eq!(told(&other), [(Mismatch::RecordDiffers, grant)]);
    closed.start.signature.0[5] ^= 1;
    put(&closed);
    assert_eq!(told(&log), [(Mismatch::FalseRecord, grant)]);
    put(&granted.record);
    let lost = log.ask("alice", "web01", "root");
    log.start(lost, Digest::plain(b"r"));
    let elsewhere = log.ask("alice", "db01", "root");
    log.start(elsewhere, Digest::plain(b"r"));
    assert_eq!(told(&log), [(Mismatch::NoRecord, lost)], "nothing of db01's was given");
}

#[test]
fn the_first_row_of_a_window_is_found_without_reading_the_log() {
    for count in [0_u64, 1, 2, 3, 7, 1000] {
        for since in [0, 1, 2, 5, 999, 1000, 5000] {
            let mut calls = 0_u32;
            let at = |after: u64| {
                calls += 1;
                Ok::<_, std::convert::Infallible>((after < count).then(|| (after + 1) * 1000))
            };
            let Ok(found) = first_since(UnixTime(since), at);
            // Row n was written in second n.
            assert_eq!(found, since.saturating_sub(1).min(count), "{count} rows, since {since}");
            assert!(calls < 25, "{calls}");
        }
    }
}

/// Catalogue: L1 (control: inline)
#[test]
fn a_log_in_a_file_is_read_whole_and_only_unchanged() {
    let mut log = Log::new();
    let _old = log.whole("alice", "web01", ["bob", "carol"]);
    log.pass(10 * DAY);
    let _new = log.whole("alice", "web01", ["bob", "carol"]);
    let rows = log.rows();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let put = |rows: &[AuditRow]| {
        let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
    };
    put(&rows);
    assert_eq!(rows_of(&path, UnixTime(0)).unwrap(), rows);
    let half = rows.len() / 2;
    assert_eq!(rows_of(&path, UnixTime(NOW.0 + DAY)).unwrap(), rows[half..]);
    put(&rows[2..]);
    assert_eq!(rows_of(&path, UnixTime(0)).unwrap(), rows[2..], "rotated files begin later");
    let mut changed = rows.clone();
    changed[3].event = changed[3].event.replace("carol", "carla");
    put(&changed);
    assert!(rows_of(&path, UnixTime(0)).unwrap_err().line.contains("row 4 was changed"));
    put(&[&rows[..2], &rows[3..]].concat());
    assert!(rows_of(&path, UnixTime(0)).is_err());
    std::fs::write(&path, "no row\n").unwrap();
    assert!(rows_of(&path, UnixTime(0)).is_err());
}

#[test]
fn spans_read_as_people_write_them() {
    assert_eq!((span("90d"), span("12h"), span("4w")), (Ok(90 * DAY), Ok(12 * 3600), Ok(28 * DAY)));
    for wrong in ["", "d", "90", "0d", "-1d", "9 d", "1y", "99999999999999999999d", "9\u{e9}"] {
        assert!(span(wrong).is_err(), "{wrong}");
    }
}
