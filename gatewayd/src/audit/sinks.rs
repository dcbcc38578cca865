//! Committed audit rows on their way out: syslog (RFC 5424, through the `syslog` crate's formatter)
//! and a file of JSON lines. One thread, so that a slow log never holds a request up; the database
//! stays the record of truth. A failed sink is reported once and tried again; it never decides.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use syslog::{Facility, Formatter5424, LogFormat, Severity};
use twinlock_protocol::escape;

use super::chain::AuditRow;
use crate::config::{AuditConfig, SyslogFacility};

/// Rows that wait for the sinks; beyond it rows stay in the database alone, and are counted.
const QUEUE: usize = 16 * 1024;
/// A datagram to the system's log, in bytes; `/dev/log` takes more, but readers cut.
const LINE_BYTES: usize = 8 * 1024;

/// The way to the sinks' thread.
pub struct Sinks {
    rows: Option<SyncSender<AuditRow>>,
    reopen: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    failing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sinks {
    /// Starts the thread; with nothing configured it only drains.
    ///
    /// # Errors
    /// The JSON lines file cannot be opened, or the thread not be started.
    pub fn start(config: &AuditConfig) -> std::io::Result<Self> {
        let mut writer = Writer {
            syslog: config.syslog.map(|facility| SyslogSink::new(facility, config.syslog_socket.clone())),
            lines: config.json_lines.clone().map(LinesSink::open).transpose()?,
        };
        let (sender, receiver): (_, Receiver<AuditRow>) = sync_channel(QUEUE);
        let reopen = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&reopen);
        let (dropped, failing): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let (missed, now) = (Arc::clone(&dropped), Arc::clone(&failing));
        let thread = std::thread::Builder::new().name("audit-sinks".into()).spawn(move || {
            for row in receiver {
                if flag.swap(false, Ordering::SeqCst) {
                    writer.reopen();
                }
                let lost = writer.write(&row);
                missed.fetch_add(lost, Ordering::Relaxed);
                now.store(lost > 0, Ordering::Relaxed);
            }
        })?;
        Ok(Self { rows: Some(sender), reopen, dropped, failing, thread: Some(thread) })
    }

    /// Hands a committed row over; never waits.
    pub fn push(&self, row: AuditRow) {
        let Some(rows) = &self.rows else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = rows.try_send(row) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.failing.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the newest row missed a sink.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Rows that a sink missed: the queue was full, or the sink did not take them. One that two
    /// sinks missed counts twice.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Opens the JSON lines file again before the next row (log rotation).
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::SeqCst);
    }
}

impl Drop for Sinks {
    /// Writes what waits, then ends the thread.
    fn drop(&mut self) {
        drop(self.rows.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct Writer {
    syslog: Option<SyslogSink>,
    lines: Option<LinesSink>,
}

impl Writer {
    /// How many sinks missed the row.
    fn write(&mut self, row: &AuditRow) -> u64 {
        let syslog = self.syslog.as_mut().is_none_or(|syslog| syslog.write(row));
        let lines = self.lines.as_mut().is_none_or(|lines| lines.write(row));
        u64::from(!syslog) + u64::from(!lines)
    }

    fn reopen(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.reopen();
        }
    }
}

struct SyslogSink {
    formatter: Formatter5424,
    path: PathBuf,
    socket: Option<UnixDatagram>,
    failing: bool,
}

impl SyslogSink {
    fn new(facility: SyslogFacility, path: PathBuf) -> Self {
        let formatter = Formatter5424 {
            facility: facility_of(facility),
            hostname: None,
            process: "twinlock-gatewayd".into(),
            pid: std::process::id(),
        };
        Self { formatter, path, socket: None, failing: false }
    }

    /// Whether the log took it.
    fn write(&mut self, row: &AuditRow) -> bool {
        let line = syslog_line(&self.formatter, row);
        // The system's log may have been restarted: one new socket, then give this row up.
        for _ in 0..2 {
            if self.socket.is_none() {
                self.socket = connect(&self.path).ok();
            }
            let Some(socket) = &self.socket else { break };
            if socket.send(&line).is_ok() {
                self.failing = false;
                return true;
            }
            self.socket = None;
        }
        if !self.failing {
            tracing::warn!(path = %self.path.display(), "the system's log does not take audit rows");
            self.failing = true;
        }
        false
    }
}

fn connect(path: &Path) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    // A log that hangs must not hang this thread for good.
    socket.set_write_timeout(Some(std::time::Duration::from_secs(2)))?;
    Ok(socket)
}

/// One RFC 5424 line. The event's JSON has no raw control characters (JSON escapes them below
/// U+0020); [`escape::visible`] makes the rest (C1 controls, bidi, separators) visible too, so one
/// event is one record (L4).
fn syslog_line(formatter: &Formatter5424, row: &AuditRow) -> Vec<u8> {
    let mut message = String::new();
    for c in row.event.chars() {
        if escape::is_plain(c) {
            message.push(c);
        } else {
            message.push_str(&escape::visible(c.to_string().as_bytes()));
        }
    }
    if message.len() > LINE_BYTES {
        let mut end = LINE_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    let mut line = Vec::new();
    let number = u32::try_from(row.number % u64::from(u32::MAX)).unwrap_or_default();
    let event = serde_json::from_str::<super::Event>(&row.event);
    let alarm = event.is_ok_and(|event| event.is_alarm());
    let severity = if alarm { Severity::LOG_ALERT } else { Severity::LOG_NOTICE };
    let written = formatter.format(&mut line, severity, (number, std::collections::BTreeMap::new(), message));
    if written.is_err() {
        line.clear();
    }
    line
}

fn facility_of(facility: SyslogFacility) -> Facility {
    match facility {
        SyslogFacility::Authpriv => Facility::LOG_AUTHPRIV,
        SyslogFacility::Auth => Facility::LOG_AUTH,
        SyslogFacility::Daemon => Facility::LOG_DAEMON,
        SyslogFacility::Local0 => Facility::LOG_LOCAL0,
        SyslogFacility::Local1 => Facility::LOG_LOCAL1,
        SyslogFacility::Local2 => Facility::LOG_LOCAL2,
        SyslogFacility::Local3 => Facility::LOG_LOCAL3,
        SyslogFacility::Local4 => Facility::LOG_LOCAL4,
        SyslogFacility::Local5 => Facility::LOG_LOCAL5,
        SyslogFacility::Local6 => Facility::LOG_LOCAL6,
        SyslogFacility::Local7 => Facility::LOG_LOCAL7,
    }
}

struct LinesSink {
    path: PathBuf,
    file: Option<File>,
    failing: bool,
}

impl LinesSink {
    fn open(path: PathBuf) -> std::io::Result<Self> {
        let file = Some(append(&path)?);
        Ok(Self { path, file, failing: false })
    }

    fn reopen(&mut self) {
        self.file = append(&self.path).ok();
    }

    /// Whether the file took it.
    fn write(&mut self, row: &AuditRow) -> bool {
        let line = json_line(row);
        if self.file.is_none() {
            self.reopen();
        }
        let written = self.file.as_mut().is_some_and(|file| file.write_all(&line).is_ok());
        if !written && !self.failing {
            tracing::warn!(path = %self.path.display(), "the audit file does not take rows");
        }
        self.failing = !written;
        written
    }
}

/// A row as one line of JSON; characters that a terminal would act on are `\u` escapes, which read
/// back as the same row.
fn json_line(row: &AuditRow) -> Vec<u8> {
    let json = String::from_utf8(twinlock_protocol::codec::encode(row)).unwrap_or_default();
    let mut line = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if escape::is_plain(c) {
            line.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    line.push('\n');
    line.into_bytes()
}

fn append(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::audit::{Event, GENESIS, link};
    use twinlock_protocol::ids::HostId;

    fn hostile() -> AuditRow {
        let software = "1.0\r\n<0>1 forged\u{1b}[2J\u{9b}31m %n ]\"\\ \u{202e}x\u{2028}y".to_owned();
        let host = HostId::new("web01").unwrap();
        link(GENESIS, 1, 1, &Event::AgentConnected { host, software, address: "a".into() })
    }

    fn received(row: AuditRow) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        log.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let lines = dir.path().join("audit.jsonl");
        let config = AuditConfig {
            syslog: Some(SyslogFacility::Authpriv),
            syslog_socket: path,
            json_lines: Some(lines.clone()),
        };
        let sinks = Sinks::start(&config).unwrap();
        sinks.push(row);
        drop(sinks);
        let mut buffer = vec![0; 16 * 1024];
        let mut datagrams = vec![std::fs::read(lines).unwrap()];
        while let Ok(length) = log.recv(&mut buffer) {
            datagrams.push(buffer[..length].to_vec());
        }
        datagrams
    }

    #[test]
    fn a_row_that_a_sink_does_not_take_is_counted_and_seen_until_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let config =
            AuditConfig { syslog: Some(SyslogFacility::Authpriv), syslog_socket: path.clone(), json_lines: None };
        let sinks = Sinks::start(&config).unwrap();
        let until = |what: &dyn Fn() -> bool| {
            let begun = std::time::Instant::now();
            while !what() {
                assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{} lost", sinks.dropped());
                std::thread::yield_now();
            }
        };
        assert!(!sinks.is_failing());
        sinks.push(hostile());
        until(&|| sinks.is_failing() && sinks.dropped() == 1);
        let _log = UnixDatagram::bind(&path).unwrap();
        sinks.push(hostile());
        until(&|| !sinks.is_failing());
        assert_eq!(sinks.dropped(), 1);
    }

    #[test]
    fn an_ordinary_event_is_one_rfc_5424_record_and_one_json_line() {
        let host = HostId::new("web01").unwrap();
        let event = Event::AgentConnected { host, software: "0.1.0".into(), address: "192.0.2.1".into() };
        let got = received(link(GENESIS, 1, 1, &event));
        assert_eq!(got.len(), 2);
        let line = String::from_utf8(got[1].clone()).unwrap();
        // authpriv (10) * 8 + notice (5) = 85, version 1.
        assert!(line.starts_with("<85>1 "), "{line}");
        assert!(line.contains("\"event\":\"agent_connected\"") && line.contains("192.0.2.1"), "{line}");
    }

    /// Catalogue: V5 (control: an_ordinary_event_is_one_rfc_5424_record_and_one_json_line)
    #[test]
    fn a_hosts_record_that_is_not_ours_is_an_alert() {
        let grant = twinlock_protocol::ids::GrantId::from_text(&"a".repeat(26)).unwrap();
        let reason = twinlock_protocol::DenyReason::NotFound;
        let event = Event::ReportRefused { host: HostId::new("web01").unwrap(), grant, reason };
        let got = received(link(GENESIS, 1, 1, &event));
        // authpriv (10) * 8 + alert (1) = 81.
        assert!(got[1].starts_with(b"<81>1 "), "{:?}", String::from_utf8_lossy(&got[1]));
    }

    /// Catalogue: L4 (control: an_ordinary_event_is_one_rfc_5424_record_and_one_json_line)
    #[test]
    fn control_and_bidi_characters_cannot_make_a_second_record() {
        let got = received(hostile());
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].iter().filter(|byte| **byte == b'\n').count(), 1);
        let row: AuditRow = serde_json::from_slice(&got[0]).unwrap();
        assert!(row.event.contains("forged") && row.event.contains('\u{202e}'));
        assert!(std::str::from_utf8(&got[0]).unwrap().trim_end().chars().all(escape::is_plain));
        let line = String::from_utf8(got[1].clone()).unwrap();
        assert!(line.chars().all(escape::is_plain), "{line:?}");
        assert!(line.contains("forged"));
    }
}
