//! The one verifier of WebAuthn assertions (WebAuthn Level 3 §7.2): ES256 on ring, against a
//! device of the roster. Registration is the gateway's affair; nothing here parses CBOR.

use serde::Deserialize;

use crate::codec;
use crate::digest::Digest;
use crate::limits;
use crate::refusal::DenyReason;
use crate::roster::{Device, Roster};
use crate::signature;
use crate::statement::{Assertion, SignedStatement, StatementDomains};

/// Authenticator data flag: user present (WebAuthn §6.1).
const FLAG_UP: u8 = 0x01;
/// Authenticator data flag: user verified.
const FLAG_UV: u8 = 0x04;
/// Authenticator data flag: backup eligible.
const FLAG_BE: u8 = 0x08;
/// Authenticator data flag: backed up.
const FLAG_BS: u8 = 0x10;
/// Reserved bits, attested credential data and extensions: none of them belongs in our assertions,
/// which ask for no extension.
const FLAGS_REFUSED: u8 = 0xe2;
/// rpIdHash (32), flags (1), signCount (4): all there is without extensions.
const AUTHENTICATOR_DATA_LENGTH: usize = 37;

/// What an assertion is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// RP id and origins.
    pub roster: &'a Roster,
    /// The device that must have signed.
    pub device: &'a Device,
    /// The purpose of the signature.
    pub domains: StatementDomains,
}

/// `clientDataJSON` (WebAuthn §5.8.1). Browsers add members; the ones that matter are read, and a
/// member that appears twice is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    #[serde(default)]
    top_origin: Option<String>,
}

/// Verifies both signatures of a statement: the passkey's assertion in full, and the device key's.
///
/// # Errors
/// The [`DenyReason`] of the first check that fails.
pub fn verify_signed_statement(expected: &Expected<'_>, signed: &SignedStatement) -> Result<(), DenyReason> {
    let challenge = expected.domains.challenge(&signed.statement.0);
    verify_assertion(expected.roster, expected.device, &challenge, &signed.assertion)?;
    let message = expected.domains.device_message(&signed.statement.0);
    match (&expected.device.device_key, &signed.device_signature) {
        (Some(key), Some(given)) if signature::verify(key, &message, given) => Ok(()),
        // Level D has no device key; a signature by a key that nobody enrolled proves nothing.
        (None, None) => Ok(()),
        (Some(_), Some(_) | None) | (None, Some(_)) => Err(DenyReason::DeviceSignature),
    }
}

/// Verifies one assertion over `challenge` by the device's passkey, as the comments number the
/// steps of WebAuthn Level 3 §7.2.
///
/// # Errors
/// The [`DenyReason`] of the first check that fails.
pub fn verify_assertion(
    roster: &Roster,
    device: &Device,
    challenge: &Digest,
    assertion: &Assertion,
) -> Result<(), DenyReason> {
    // Steps 9–10: client data is UTF-8 JSON, and an object.
    let json = &assertion.client_data_json.0;
    let client_data: ClientData =
        codec::decode("clientDataJSON", limits::CLIENT_DATA_BYTES, json).map_err(|_| DenyReason::AssertionMalformed)?;
    // Step 11.
    if client_data.kind != "webauthn.get" {
        return Err(DenyReason::AssertionType);
    }
    // Step 12: the challenge is made from the statement; text comparison is exact because
    // base64url without padding has one spelling.
    if client_data.challenge != challenge.0.to_text() {
        return Err(DenyReason::AssertionChallenge);
    }
    // Steps 13–15.
    let origin_known = roster.origins.contains(&client_data.origin);
    if !origin_known || client_data.cross_origin || client_data.top_origin.is_some() {
        return Err(DenyReason::AssertionOrigin);
    }
    // Steps 16–20.
    let data = &assertion.authenticator_data.0;
    let (Some(rp_id_hash), Some(&flags), AUTHENTICATOR_DATA_LENGTH) = (data.get(..32), data.get(32), data.len()) else {
        return Err(DenyReason::AssertionMalformed);
    };
    if rp_id_hash != Digest::plain(roster.rp_id.as_bytes()).as_bytes() {
        return Err(DenyReason::AssertionRpId);
    }
    if flags & FLAGS_REFUSED != 0 {
        return Err(DenyReason::AssertionMalformed);
    }
    if flags & FLAG_UP == 0 {
        return Err(DenyReason::AssertionUserPresence);
    }
    if flags & FLAG_UV == 0 {
        return Err(DenyReason::AssertionUserVerification);
    }
    // Backup eligibility never changes over a credential's life, and BS needs BE.
    let backup_eligible = flags & FLAG_BE != 0;
    if backup_eligible != device.backup_eligible || (flags & FLAG_BS != 0 && !backup_eligible) {
        return Err(DenyReason::AssertionBackup);
    }
    // Steps 21–22: authenticatorData ‖ SHA-256(clientDataJSON). Step 23, the counter, is a signal
    // for the gateway's audit; passkeys keep it at zero.
    let mut message = data.clone();
    message.extend_from_slice(Digest::plain(json).as_bytes());
    if signature::verify_der(&device.credential_key, &message, &assertion.signature.0) {
        Ok(())
    } else {
        Err(DenyReason::AssertionSignature)
    }
}
