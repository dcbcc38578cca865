//! `twinlock backup`: a copy of a gateway's database in one file, while the gateway runs or not. The
//! copy carries a mark of its own, so that a gateway started on it knows where it comes from and
//! believes nothing that it holds as open. Must never change the database that it copies, nor leave a
//! copy that others may read.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use rusqlite::{Connection, OpenFlags, params};

use super::Failure;
use super::output::line;
use crate::random::random;

/// What a gateway needs beside its database, and no copy of the database holds.
const BESIDE: &[&str] = &["roster.json", "roster.pin", "ca.der", "ca.key", "gateway.key"];

/// `twinlock backup`.
#[derive(Args)]
pub struct BackupArgs {
    /// The new file; it must not exist yet
    file: PathBuf,
    /// The gateway's state directory
    #[arg(long, default_value = "/var/lib/twinlock-gateway", value_name = "DIR")]
    state_dir: PathBuf,
}

/// Writes the copy.
pub fn run(arguments: &BackupArgs) -> Result<(), Failure> {
    let BackupArgs { file, state_dir } = arguments;
    let database = state_dir.join("gateway.db");
    // Made here, so that it is private from its first byte on; SQLite takes an empty file.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let made = made.map_err(|error| Failure::plain(format!("{}: {error}", file.display())))?;
    if let Err(error) = copy(&database, file) {
        // Ours, and worth nothing.
        let _gone = std::fs::remove_file(file);
        return Err(Failure::plain(format!("{}: {error}", database.display())));
    }
    made.sync_all()?;
    line(&format!("the database is in {}", file.display()));
    line("it does not hold these; copy them once, and after every change, to another safe place:");
    for name in BESIDE.iter().map(|name| (*name).to_owned()).chain(later_cas(state_dir)) {
        line(&format!("  {}", state_dir.join(name).display()));
    }
    line("  /etc/twinlock/gateway.toml, and the files of the web certificate that it names");
    Ok(())
}

fn copy(database: &Path, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let source = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    source.busy_timeout(std::time::Duration::from_secs(30))?;
    let name = file.to_str().ok_or("the file's name is not UTF-8")?;
    source.execute("VACUUM INTO ?1", [name])?;
    let copied = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mark: [u8; 32] = random()?;
    copied.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('run.mark', ?1)", params![mark])?;
    let sound: String = copied.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if sound == "ok" { Ok(()) } else { Err(sound.into()) }
}

/// CAs that came by a roster change.
fn later_cas(state_dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
    let mut found: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("ca-") && (name.ends_with(".key") || name.ends_with(".der")))
        .collect();
    found.sort();
    found
}
