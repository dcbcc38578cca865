//! `twinlock-softphone`: people with software phones as a program, for the booted systems: it enrols
//! them at `twinlock init`, keeps their keys in a directory, and sits in front of a terminal on which a
//! command runs, scanning, approving and typing. What it prints is what stood on that terminal.
//! It speaks the approver API as the page does, and knows no other way in.

mod ceremony;
mod run;
mod sign;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use twinlock_protocol::Bytes;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::roster::{Device, Roster, RosterEnvelope};
use twinlock_protocol::softphone::Phone;

use crate::approver::Site;

/// What can go wrong, in words for the test's log.
pub type Outcome<T> = Result<T, String>;

/// Runs the program; gives its exit code.
///
/// # Errors
/// What is wrong with the call, or went wrong.
pub fn main(arguments: &[String]) -> Outcome<u8> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["init", dir, ca, address, "--", command @ ..] => ceremony::init(&Drawer::new(dir), ca, address, command),
        ["run", dir, rest @ ..] => run::run(&Drawer::new(dir), rest),
        ["sign", dir, people] => sign::sign(&Drawer::new(dir), people),
        ["tls", dir, host] => tls(Path::new(dir), host),
        _ => Err("usage: twinlock-softphone init DIR CA_DER ADDRESS -- COMMAND | run DIR [OPTIONS] -- COMMAND | sign DIR PEOPLE | \
                  tls DIR HOST"
            .to_owned()),
    }
}

/// A web certificate under a CA of its own: web.crt, web.key, ca.pem, ca.der.
fn tls(dir: &Path, host: &str) -> Outcome<u8> {
    let made = crate::installation::WebCertificate::new(host);
    let files =
        [("web.crt", made.chain.as_bytes()), ("web.key", made.key.as_bytes()), ("ca.pem", made.ca_pem.as_bytes())];
    for (name, bytes) in files.into_iter().chain([("ca.der", made.ca_der.as_slice())]) {
        put(&dir.join(name), bytes)?;
    }
    Ok(0)
}

/// Where the phones lie between two calls.
pub struct Drawer {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    person: PersonId,
    device: Device,
    passkey: Bytes,
    device_key: Bytes,
}

#[derive(Serialize, Deserialize)]
struct KeptSite {
    origin: String,
    ca: PathBuf,
    address: std::net::SocketAddr,
}

impl Drawer {
    fn new(dir: &str) -> Self {
        Self { dir: dir.into() }
    }

    fn keep_phone(&self, phone: &Phone) -> Outcome<()> {
        let [passkey, device_key] = phone.private_keys().map(|key| Bytes(key.to_vec()));
        let kept = Kept { person: phone.person.clone(), device: phone.device.clone(), passkey, device_key };
        self.write(&format!("phone-{}.json", phone.person), &kept)
    }

    fn phone(&self, person: &str) -> Outcome<Phone> {
        let kept: Kept = self.read(&format!("phone-{person}.json"))?;
        Ok(Phone::restored(kept.person, kept.device, [&kept.passkey.0, &kept.device_key.0]))
    }

    fn keep_site(&self, site: &Site, ca: &str) -> Outcome<()> {
        self.write("site.json", &KeptSite { origin: site.origin.clone(), ca: ca.into(), address: site.address })
    }

    fn site(&self) -> Outcome<Site> {
        let KeptSite { origin, ca, address } = self.read("site.json")?;
        let ca = fs::read(&ca).map_err(|e| format!("{}: {e}", ca.display()))?;
        Ok(Site { origin, ca, address })
    }

    /// What the phones need of a roster: its RP id and origins, which never change.
    fn roster(&self) -> Outcome<Roster> {
        let path = self.dir.join("roster.json");
        let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let envelope = RosterEnvelope::from_bytes(&bytes).map_err(|e| e.to_string())?;
        Roster::from_bytes(&envelope.bytes.0).map_err(|e| e.to_string())
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Outcome<()> {
        let bytes = serde_json::to_vec(value).map_err(|e| e.to_string())?;
        fs::create_dir_all(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
        put(&self.dir.join(name), &bytes)
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Outcome<T> {
        let path = self.dir.join(name);
        let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
    }
}

fn put(path: &Path, bytes: &[u8]) -> Outcome<()> {
    fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}
