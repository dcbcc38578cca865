//! What a break-glass grant leaves on its host until somebody reviewed it: a mark of its own and a
//! banner, which logins and the module show. Both are on disk before the session may start; the
//! gateway's word, passed on by the agent, takes them away.
//!
//! `open/GRANT` is the mark; `banner` stands while there is one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use twinlock_protocol::evidence::{Authority, GrantRecord};
use twinlock_protocol::ids::GrantId;

use super::register::command_line;
use twinlock_protocol::request::ElevationRequest;

/// The directory of marks and banner.
#[derive(Clone, Debug)]
pub struct Glass {
    dir: PathBuf,
}

impl Glass {
    /// In this directory, which is made when it is needed.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Marks a grant, durably, if it is one by break-glass.
    ///
    /// # Errors
    /// The disk refuses: then the session must not start.
    pub fn mark(&self, record: &GrantRecord) -> io::Result<()> {
        match record.authority {
            Authority::Certificate(_) => return Ok(()),
            Authority::BreakGlass(_) => {}
        }
        fs::DirBuilder::new().recursive(true).mode(0o755).create(self.dir.join("open"))?;
        let text = ElevationRequest::from_bytes(&record.request.request.0)
            .map_or_else(|_| String::new(), |request| format!("{}\n", command_line(&request)));
        write(&self.dir.join("open").join(record.grant.to_string()), &text)?;
        self.show()
    }

    /// Somebody reviewed it: the mark goes, and the banner with the last one.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn reviewed(&self, grant: GrantId) -> io::Result<()> {
        match fs::remove_file(self.dir.join("open").join(grant.to_string())) {
            Ok(()) => self.show(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Grants that wait for their review.
    ///
    /// # Errors
    /// The directory can't be listed.
    pub fn open(&self) -> io::Result<Vec<GrantId>> {
        let entries = match fs::read_dir(self.dir.join("open")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut grants = Vec::new();
        for entry in entries {
            grants.extend(entry?.file_name().to_str().and_then(GrantId::from_text));
        }
        grants.sort();
        Ok(grants)
    }

    fn show(&self) -> io::Result<()> {
        let open = self.open()?;
        let banner = self.dir.join("banner");
        if open.is_empty() {
            return match fs::remove_file(&banner) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => sync(&self.dir),
            };
        }
        let grants: Vec<String> = open.iter().map(ToString::to_string).collect();
        write(
            &banner,
            &format!(
                "twinlock: BREAK-GLASS was used on this host and nobody has reviewed it yet: {}\n",
                grants.join(" ")
            ),
        )
    }
}

/// A whole file in place of another, durably.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use twinlock_protocol::Bytes;
    use twinlock_protocol::UnixTime;
    use twinlock_protocol::evidence::{BreakGlassGiven, Certified, GrantRecordFormat};
    use twinlock_protocol::softphone::{self, Fixture};

    use super::*;

    fn record(authority: Authority) -> GrantRecord {
        let fixture = Fixture::new(b"ca", UnixTime(1_800_000_000));
        let (request, key) = fixture.request();
        let signed = fixture.sign_request(&request, &key);
        let id = ElevationRequest::id_of(&signed.request.0);
        let start = softphone::start(&request, id, &key, 1);
        let format = GrantRecordFormat::GrantRecord;
        GrantRecord { format, version: 1, grant: id.grant(), request: signed, authority, start, end: None }
    }

    /// Catalogue: B5 (control: inline)
    #[test]
    fn the_banner_stands_until_the_last_grant_is_reviewed() {
        let place = tempfile::tempdir().unwrap();
        let glass = Glass::new(place.path().join("break-glass"));
        let banner = place.path().join("break-glass/banner");
        let (evidence, certificate) = (Bytes(Vec::new()), Bytes(Vec::new()));
        glass.mark(&record(Authority::Certificate(Certified { evidence: evidence.clone(), certificate }))).unwrap();
        assert!(!banner.exists() && glass.open().unwrap().is_empty(), "control: an ordinary grant leaves nothing");
        let used = || record(Authority::BreakGlass(BreakGlassGiven { evidence: evidence.clone() }));
        let (one, two) = (used(), used());
        glass.mark(&one).unwrap();
        glass.mark(&two).unwrap();
        let text = fs::read_to_string(&banner).unwrap();
        assert!(text.contains(&one.grant.to_string()) && text.contains(&two.grant.to_string()), "{text}");
        assert_eq!(glass.open().unwrap().len(), 2);
        glass.reviewed(one.grant).unwrap();
        assert!(!fs::read_to_string(&banner).unwrap().contains(&one.grant.to_string()));
        glass.reviewed(one.grant).unwrap();
        glass.reviewed(two.grant).unwrap();
        assert!(!banner.exists());
    }

    #[test]
    fn a_disk_that_refuses_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("break-glass"), "a file").unwrap();
        let glass = Glass::new(place.path().join("break-glass"));
        let given = Authority::BreakGlass(BreakGlassGiven { evidence: Bytes(Vec::new()) });
        assert!(glass.mark(&record(given)).is_err());
    }
}
