//! People sign every change of the roster that waits, one after the other, as the page does.

use serde_json::{Value, json};
use twinlock_protocol::Bytes;
use twinlock_protocol::roster::Roster;
use twinlock_protocol::statement::{ROSTER_DOMAINS, RosterKind, RosterStatement};

use super::{Drawer, Outcome};
use crate::approver::Approver;

/// Signs; prints the state after each signature.
///
/// # Errors
/// What the page refused.
pub fn sign(drawer: &Drawer, people: &str) -> Outcome<u8> {
    let (site, roster) = (drawer.site()?, drawer.roster()?);
    for person in people.split(',') {
        let phone = drawer.phone(person)?;
        let mut approver = Approver::new(&site, &roster, &phone);
        approver.sign_in();
        let open = approver.get("/api/v1/roster/proposals").ok();
        for summary in open["proposals"].as_array().ok_or("no list of proposals")? {
            let path = format!("/api/v1/roster/proposals/{}", summary["id"].as_str().ok_or("no id")?);
            let proposal = approver.get(&path).ok();
            let statement = statement(&proposal)?;
            let signed = phone.sign(&roster, ROSTER_DOMAINS, &statement.to_bytes());
            let answer = approver.post(&format!("{path}/sign"), &json!({ "signed": signed })).ok();
            println!("{person}: {}: {}", summary["title"], answer["state"]);
        }
    }
    Ok(0)
}

/// The statement that the page asks for, over the bytes that it shows.
fn statement(proposal: &Value) -> Outcome<RosterStatement> {
    fn field<T: serde::de::DeserializeOwned>(value: &Value) -> Outcome<T> {
        serde_json::from_value(value.clone()).map_err(|e| e.to_string())
    }
    let bytes: Bytes = field(&proposal["next"]["bytes"])?;
    let next = Roster::from_bytes(&bytes.0).map_err(|e| e.to_string())?;
    let template = &proposal["statement"];
    Ok(RosterStatement {
        kind: RosterKind::Roster,
        version: 1,
        roster_version: next.version,
        roster_digest: Roster::digest_of(&bytes.0),
        person: field(&template["person"])?,
        credential_id: field(&template["credential_id"])?,
        device_id: field(&template["device_id"])?,
        gateway_salt: field(&template["gateway_salt"])?,
    })
}
