//! The people's part of `twinlock init`: everybody follows their invite, enrols, compares and signs.
//! Prints `token HOST TOKEN` for each host.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use twinlock_protocol::Bytes;
use twinlock_protocol::digest::Domain;
use twinlock_protocol::roster::Roster;
use twinlock_protocol::softphone::Phone;
use twinlock_protocol::statement::{ROSTER_DOMAINS, RosterKind, RosterStatement};

use super::{Drawer, Outcome};
use crate::approver::Site;

struct Guest {
    phone: Phone,
    invite: String,
}

/// Runs `twinlock init` with everybody in the room, and keeps their phones and the page's address.
///
/// # Errors
/// What the command or the page refused.
pub fn init(drawer: &Drawer, ca: &str, address: &str, command: &[&str]) -> Outcome<u8> {
    let address = address.parse().map_err(|_| format!("{address} is no address"))?;
    let ca_der = std::fs::read(ca).map_err(|e| format!("{ca}: {e}"))?;
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .args(["--json", "--yes"])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let mut site = Site { origin: String::new(), ca: ca_der, address };
    let mut guests: Vec<Guest> = Vec::new();
    let mut enrolled = 0;
    for line in lines {
        let line = line.map_err(|e| e.to_string())?;
        let event: Value = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
        match event["event"].as_str().unwrap_or_default() {
            "listening" => site.origin = text(&event["origin"])?,
            "invite" => {
                let person = text(&event["person"]["id"])?;
                let invite = text(&event["url"])?.replace(&format!("{}/E/", site.origin), "");
                let guest = Guest { phone: Phone::new(&person, &format!("{person}-1")), invite };
                guest.enrol(&site)?;
                guests.push(guest);
            }
            "enrolled" => enrolled += 1,
            "composed" => guests.iter().try_for_each(|guest| guest.sign(&site))?,
            "join_token" => println!("token {} {}", text(&event["host"])?, text(&event["token"])?),
            _ => {}
        }
    }
    let done = child.wait().map_err(|e| e.to_string())?;
    if !done.success() {
        return Err(format!("{program} ended with {done} after {enrolled} enrolments"));
    }
    for guest in &guests {
        drawer.keep_phone(&guest.phone)?;
    }
    drawer.keep_site(&site, ca)?;
    Ok(0)
}

fn text(value: &Value) -> Outcome<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("not a text: {value}"))
}

impl Guest {
    fn call(&self, site: &Site, path: &str, body: &Value) -> Outcome<Value> {
        let answer = site.post(path, None, body);
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{path}: {} {}", answer.status, answer.body)) }
    }

    fn enrol(&self, site: &Site) -> Outcome<()> {
        let start = self.call(site, "/api/v1/enrol/start", &json!({ "invite": self.invite }))?;
        let read = |value: &Value| serde_json::from_value::<Bytes>(value.clone()).map_err(|e| e.to_string());
        let challenge = read(&start["creation"]["challenge"])?;
        let rp_id = text(&start["creation"]["rp"]["id"])?;
        let form = self.phone.honest_registration(&rp_id, &site.origin, &challenge.0);
        let (data, client_data_json) = self.phone.registration(&form);
        let body = json!({
            "enrol": start["enrol"],
            "registration": {
                "credential_id": self.phone.device.credential_id,
                "attestation_object": Bytes(Phone::unattested(&data)),
                "client_data_json": Bytes(client_data_json),
            },
            "device_key": self.phone.device.device_key,
            "device_proof": self.phone.device_sign(Domain::Claim, &challenge.0),
            "label": self.phone.device.label,
        });
        self.call(site, "/api/v1/enrol/finish", &body).map(drop)
    }

    /// Signs what the page shows, after the page's own check of the digest.
    fn sign(&self, site: &Site) -> Outcome<()> {
        let status = self.call(site, "/api/v1/enrol/status", &json!({ "invite": self.invite }))?;
        let wrong = |e: serde_json::Error| e.to_string();
        let bytes: Bytes = serde_json::from_value(status["roster"]["bytes"].clone()).map_err(wrong)?;
        let roster = Roster::from_bytes(&bytes.0).map_err(|e| e.to_string())?;
        let digest = Roster::digest_of(&bytes.0);
        if status["statement"]["roster_digest"] != json!(digest) {
            return Err("the page asks to sign another roster than it shows".to_owned());
        }
        let field = |name: &str| status["statement"][name].clone();
        let statement = RosterStatement {
            kind: RosterKind::Roster,
            version: 1,
            roster_version: roster.version,
            roster_digest: digest,
            person: serde_json::from_value(field("person")).map_err(wrong)?,
            credential_id: serde_json::from_value(field("credential_id")).map_err(wrong)?,
            device_id: serde_json::from_value(field("device_id")).map_err(wrong)?,
            gateway_salt: serde_json::from_value(field("gateway_salt")).map_err(wrong)?,
        };
        let signed = self.phone.sign(&roster, ROSTER_DOMAINS, &statement.to_bytes());
        self.call(site, "/api/v1/enrol/sign", &json!({ "invite": self.invite, "signed": signed })).map(drop)
    }
}
