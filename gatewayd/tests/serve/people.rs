//! What people do with the roster on their phones: read a proposal, sign it as the page does, enrol by
//! a link, restore a device key.

use serde_json::{Value, json};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::roster::Roster;
use twinlock_protocol::softphone::Phone;
use twinlock_protocol::statement::{
    POSSESSION_DOMAINS, PossessionKind, PossessionStatement, ROSTER_DOMAINS, RosterKind, RosterStatement,
    SignedStatement,
};
use twinlock_protocol::{Bytes, Digest};

use crate::support::{Answer, Approver, Web, sign_in_challenge};

/// A field of a JSON body, as its type.
pub fn field<T: serde::de::DeserializeOwned>(body: &Value, name: &str) -> T {
    serde_json::from_value(body[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}: {body}"))
}

/// The roster in `base` or `next`, its digest computed here.
pub fn roster_of(body: &Value) -> (Roster, Digest) {
    let bytes: Bytes = field(body, "bytes");
    let digest = Roster::digest_of(&bytes.0);
    assert_eq!(body["digest"], json!(digest));
    (Roster::from_bytes(&bytes.0).unwrap(), digest)
}

impl Approver<'_> {
    pub async fn get(&mut self, path: &str) -> Answer {
        if self.cookie.is_none() {
            self.sign_in().await;
        }
        self.web.get(path, self.cookie.as_deref()).await
    }

    pub async fn call(&mut self, path: &str, body: Value) -> Answer {
        if self.cookie.is_none() {
            self.sign_in().await;
        }
        self.post(path, &body).await
    }

    /// The open proposals.
    pub async fn proposals(&mut self) -> Vec<Value> {
        self.get("/api/v1/roster/proposals").await.ok()["proposals"].as_array().unwrap().clone()
    }

    /// Reads a proposal as the page does.
    pub async fn read(&mut self, id: &Value) -> Value {
        let body = self.get(&format!("/api/v1/roster/proposals/{}", id.as_str().unwrap())).await.ok();
        let (base, base_digest) = roster_of(&body["base"]);
        let (next, _) = roster_of(&body["next"]);
        assert_eq!((next.previous, next.version), (Some(base_digest), base.version + 1));
        body
    }

    /// The signature to a proposal as it was read.
    pub fn signature_to(&self, proposal: &Value) -> SignedStatement {
        let (base, _) = roster_of(&proposal["base"]);
        let (next, digest) = roster_of(&proposal["next"]);
        let template = &proposal["statement"];
        assert_eq!(template["roster_digest"], json!(digest), "{proposal}");
        let statement = RosterStatement {
            kind: RosterKind::Roster,
            version: 1,
            roster_version: next.version,
            roster_digest: digest,
            person: field(template, "person"),
            credential_id: field(template, "credential_id"),
            device_id: field(template, "device_id"),
            gateway_salt: field(template, "gateway_salt"),
        };
        self.phone.sign(&base, ROSTER_DOMAINS, &statement.to_bytes())
    }

    pub async fn try_sign(&mut self, proposal: &Value) -> Answer {
        let body = json!({ "signed": self.signature_to(proposal) });
        self.call(&format!("/api/v1/roster/proposals/{}/sign", proposal["id"].as_str().unwrap()), body).await
    }

    /// Reads and signs; the new state.
    pub async fn sign_change(&mut self, id: &Value) -> String {
        let proposal = self.read(id).await;
        self.try_sign(&proposal).await.ok()["state"].as_str().unwrap().to_owned()
    }

    /// Makes an invite; the secret of its link.
    pub async fn invite(&mut self, body: Value) -> String {
        let made = self.call("/api/v1/invites", body).await.ok();
        made["link"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }
}

/// Somebody with a link and a phone.
pub struct Guest<'a> {
    pub web: Web<'a>,
    pub phone: Phone,
    pub secret: String,
    pub cookie: Option<String>,
}

impl<'a> Guest<'a> {
    pub fn new(web: Web<'a>, person: &str, secret: &str) -> Self {
        let phone = Phone::new(person, &format!("{person}-new"));
        Self { web, phone, secret: secret.to_owned(), cookie: None }
    }

    pub async fn open(&mut self) -> Answer {
        let body = json!({ "invite": self.secret });
        let answer = self.web.post("/api/v1/enrol/start", self.cookie.as_deref(), &body).await;
        if let Some(cookie) = answer.headers.get("set-cookie") {
            self.cookie = Some(cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        answer
    }

    /// Registers; the answer of `enrol/finish`.
    pub async fn register(&mut self, start: &Value) -> Answer {
        let roster = &self.web.site.roster;
        let challenge: Bytes = field(&start["creation"], "challenge");
        let form = self.phone.honest_registration(&roster.rp_id, &roster.origins[0], &challenge.0);
        let (data, client_data_json) = self.phone.registration(&form);
        let key = self.phone.device.device_key;
        let body = json!({
            "enrol": start["enrol"],
            "registration": {
                "credential_id": self.phone.device.credential_id,
                "attestation_object": Bytes(Phone::unattested(&data)),
                "client_data_json": Bytes(client_data_json),
            },
            "device_key": key,
            "device_proof": key.map(|_| self.phone.device_sign(Domain::Claim, &challenge.0)),
            "label": self.phone.device.label,
        });
        self.web.post("/api/v1/enrol/finish", self.cookie.as_deref(), &body).await
    }

    /// Proves possession; takes the device's record for its own.
    pub async fn prove(&mut self, start: &Value, finished: &Value) -> Answer {
        let record: Bytes = field(finished, "record");
        self.phone.device = serde_json::from_slice(&record.0).unwrap();
        let body =
            json!({ "enrol": start["enrol"], "signed": possession(&self.phone, self.web, &finished["possession"]) });
        self.web.post("/api/v1/enrol/possession", self.cookie.as_deref(), &body).await
    }

    /// All of it.
    pub async fn enrol(&mut self) {
        let start = self.open().await.ok();
        let finished = self.register(&start).await.ok();
        assert_eq!(self.prove(&start, &finished).await.ok()["state"], "wait");
    }

    pub async fn status(&self) -> Answer {
        self.web.post("/api/v1/enrol/status", self.cookie.as_deref(), &json!({ "invite": self.secret })).await
    }
}

/// The possession statement that the page would sign, with the digest computed here.
pub fn possession(phone: &Phone, web: Web<'_>, template: &Value) -> SignedStatement {
    let statement = PossessionStatement {
        kind: PossessionKind::Possession,
        version: 1,
        person: field::<PersonId>(template, "person"),
        device: phone.device.record_digest(),
        replaces: field(template, "replaces"),
        credential_id: field(template, "credential_id"),
        device_id: field(template, "device_id"),
        gateway_salt: field(template, "gateway_salt"),
    };
    assert_eq!(template["device"], json!(statement.device));
    phone.sign(&web.site.roster, POSSESSION_DOMAINS, &statement.to_bytes())
}

/// Asks for a dropped device key to be restored: the answer of `restore/start`.
pub async fn start_restore(web: Web<'_>, phone: &Phone) -> Answer {
    let start = web.post("/api/v1/sign-in/start", None, &json!({})).await.ok();
    let challenge = sign_in_challenge(&start);
    let body = json!({
        "sign_in": start["sign_in"], "credential_id": phone.device.credential_id,
        "assertion": phone.assert(&phone.honest(&web.site.roster, &challenge)),
        "device_key": phone.device.device_key,
        "device_proof": phone.device_sign(Domain::Claim, challenge.as_bytes()),
    });
    web.post("/api/v1/restore/start", None, &body).await
}
