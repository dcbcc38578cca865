//! Passkey registration (WebAuthn Level 3 §7.1): one challenge, one new credential. webauthn-rs-core
//! checks the registration and its attestation; what our own verifier will later rely on (type,
//! exact origin, ES256, user verification, backup eligibility) is checked here again. Never makes a
//! credential that the verifier would refuse.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use twinlock_protocol::digest::Domain;
use twinlock_protocol::ids::CredentialId;
use twinlock_protocol::signature::{self, PublicKey, Signature};
use twinlock_protocol::{Bytes, DenyReason, Fixed, codec, limits};
use webauthn_rs_core::WebauthnCore;
use webauthn_rs_core::internals::AuthenticatorData;
use webauthn_rs_core::proto::{
    AttestationCaList, AttestationConveyancePreference, AuthenticatorAttestationResponseRaw, COSEAlgorithm, COSEEC2Key,
    COSEKeyType, Credential, ECDSACurve, RegisterPublicKeyCredential, Registration as RegistrationCeremony,
    RegistrationState, UserVerificationPolicy,
};

/// How long a phone may take over one registration.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// A registrar could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RegistrarError {
    /// The origin is no URL.
    #[error("the origin is not https://HOST[:PORT]")]
    Origin,
    /// An attestation root is no certificate.
    #[error("an attestation root is not a certificate in PEM")]
    Root,
}

/// Registers passkeys for one site.
pub struct Registrar {
    core: WebauthnCore,
    rp_id: String,
    origin: String,
    roots: Option<AttestationCaList>,
}

/// What `navigator.credentials.create` is asked for (docs/approver-api.md).
#[derive(Clone, Debug, Serialize)]
pub struct Creation {
    challenge: Bytes,
    rp: RelyingParty,
    user: User,
    #[serde(rename = "pubKeyCredParams")]
    parameters: [Parameter; 1],
    timeout: u64,
    #[serde(rename = "authenticatorSelection")]
    selection: Selection,
    attestation: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct RelyingParty {
    id: String,
    name: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct User {
    id: Bytes,
    name: String,
    #[serde(rename = "displayName")]
    display_name: String,
}

#[derive(Clone, Debug, Serialize)]
struct Parameter {
    #[serde(rename = "type")]
    kind: &'static str,
    alg: i64,
}

#[derive(Clone, Debug, Serialize)]
struct Selection {
    #[serde(rename = "residentKey")]
    resident_key: &'static str,
    #[serde(rename = "requireResidentKey")]
    require_resident_key: bool,
    #[serde(rename = "userVerification")]
    user_verification: &'static str,
}

/// A registration under way. Its challenge is good once: [`Registrar::finish`] takes it by value.
pub struct Pending {
    state: RegistrationState,
    challenge: Vec<u8>,
}

/// What the browser answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The new credential's id.
    pub credential_id: Bytes,
    /// WebAuthn §6.5.4, CBOR.
    pub attestation_object: Bytes,
    /// WebAuthn §5.8.1, UTF-8 JSON.
    pub client_data_json: Bytes,
}

/// The device key and the proof that the browser holds it.
#[derive(Clone, Debug)]
pub struct DeviceKey {
    /// P-256, SEC1 uncompressed.
    pub key: PublicKey,
    /// Over `"twinlock/claim/v1\0" ‖ challenge`.
    pub proof: Signature,
}

/// A passkey that is good for the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPasskey {
    /// Its id.
    pub credential_id: CredentialId,
    /// Its public key.
    pub credential_key: PublicKey,
    /// BE: it may be synced.
    pub backup_eligible: bool,
    /// The authenticator's model, as it claims (or, when attested, as its maker says).
    pub aaguid: Fixed<16>,
    /// The attestation chain ends at a configured root.
    pub attested: bool,
    /// The browser's own key, if it has one.
    pub device_key: Option<PublicKey>,
}

/// `clientDataJSON` of a registration. Browsers add members; the ones that matter are read.
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

/// The one member of an attestation object that is read here.
#[derive(Deserialize)]
struct AttestationObject<'a> {
    #[serde(rename = "authData", borrow)]
    auth_data: &'a [u8],
}

impl Registrar {
    /// For one RP id and its exact origin. `roots` are attestation roots in PEM; with none, no
    /// attestation is asked for and nothing counts as attested.
    ///
    /// # Errors
    /// [`RegistrarError`].
    pub fn new(rp_id: &str, origin: &str, roots: &[Vec<u8>]) -> Result<Self, RegistrarError> {
        let url = url::Url::parse(origin).map_err(|_| RegistrarError::Origin)?;
        let core = WebauthnCore::new_unsafe_experts_only("Twinlock", rp_id, vec![url], TIMEOUT, None, None);
        let roots = if roots.is_empty() { None } else { Some(super::attestation::roots(roots)?) };
        Ok(Self { core, rp_id: rp_id.to_owned(), origin: origin.to_owned(), roots })
    }

    /// Begins a registration. `handle` is the WebAuthn user handle: random, nothing personal.
    ///
    /// # Errors
    /// [`DenyReason::Internal`].
    pub fn start(&self, handle: &[u8; 16], id: &str, name: &str) -> Result<(Creation, Pending), DenyReason> {
        let attestation = match self.roots {
            Some(_) => AttestationConveyancePreference::Direct,
            None => AttestationConveyancePreference::None,
        };
        let builder = self
            .core
            .new_challenge_register_builder(handle, id, name)
            .map_err(|_| DenyReason::Internal)?
            .attestation(attestation)
            .user_verification_policy(UserVerificationPolicy::Required)
            .credential_algorithms(vec![COSEAlgorithm::ES256])
            .require_resident_key(true);
        let (asked, state) = self.core.generate_challenge_register(builder).map_err(|_| DenyReason::Internal)?;
        let challenge: Vec<u8> = asked.public_key.challenge.clone();
        let creation = Creation {
            challenge: Bytes(challenge.clone()),
            rp: RelyingParty { id: self.rp_id.clone(), name: "Twinlock" },
            user: User { id: Bytes(handle.to_vec()), name: id.to_owned(), display_name: name.to_owned() },
            parameters: [Parameter { kind: "public-key", alg: -7 }],
            timeout: u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX),
            selection: Selection {
                resident_key: "required",
                require_resident_key: true,
                user_verification: "required",
            },
            attestation: if self.roots.is_some() { "direct" } else { "none" },
        };
        Ok((creation, Pending { state, challenge }))
    }

    /// Checks the answer to a registration.
    ///
    /// # Errors
    /// [`DenyReason::EnrolmentRefused`]; the log says why.
    pub fn finish(
        &self,
        pending: Pending,
        given: &Registration,
        device_key: Option<&DeviceKey>,
    ) -> Result<NewPasskey, DenyReason> {
        self.check(&pending, given, device_key).map_err(|why| {
            tracing::info!(why, "a registration was refused");
            DenyReason::EnrolmentRefused
        })
    }

    fn check(
        &self,
        pending: &Pending,
        given: &Registration,
        device_key: Option<&DeviceKey>,
    ) -> Result<NewPasskey, &'static str> {
        self.check_client_data(pending, given)?;
        let answer = RegisterPublicKeyCredential {
            id: given.credential_id.to_text(),
            raw_id: given.credential_id.0.clone(),
            response: AuthenticatorAttestationResponseRaw {
                attestation_object: given.attestation_object.0.clone(),
                client_data_json: given.client_data_json.0.clone(),
                transports: None,
            },
            type_: "public-key".to_owned(),
            extensions: Default::default(),
        };
        let credential = self.core.register_credential(&answer, &pending.state, None).map_err(|error| {
            tracing::debug!(%error, "webauthn-rs-core refuses a registration");
            "the registration does not verify"
        })?;
        let credential_key = es256_key(&credential).ok_or("the passkey is not ES256")?;
        let id_fits = (1..=limits::CREDENTIAL_ID_BYTES).contains(&credential.cred_id.len());
        if credential.cred_id != given.credential_id.0 || !id_fits {
            return Err("the credential id is another one, or over-long");
        }
        if !credential.user_verified {
            return Err("the person was not verified");
        }
        if let Some(device) = device_key
            && !signature::verify(&device.key, &Domain::Claim.message(&pending.challenge), &device.proof)
        {
            return Err("the device key does not prove possession");
        }
        if device_key.is_some_and(|device| device.key == credential_key) {
            return Err("the device key is the passkey");
        }
        let attested = self.roots.as_ref().is_some_and(|roots| {
            // An attestation that leads nowhere is no refusal: the assurance level shows it.
            credential.verify_attestation(roots).is_ok_and(|root| root.is_some())
        });
        Ok(NewPasskey {
            credential_id: CredentialId(given.credential_id.clone()),
            credential_key,
            backup_eligible: credential.backup_eligible,
            aaguid: aaguid(&given.attestation_object.0).ok_or("no attested credential data")?,
            attested,
            device_key: device_key.map(|device| device.key),
        })
    }

    fn check_client_data(&self, pending: &Pending, given: &Registration) -> Result<(), &'static str> {
        let client_data: ClientData =
            codec::decode("clientDataJSON", limits::CLIENT_DATA_BYTES, &given.client_data_json.0)
                .map_err(|_| "the client data is malformed")?;
        if client_data.kind != "webauthn.create" {
            return Err("the client data is of another type");
        }
        if client_data.challenge != Bytes(pending.challenge.clone()).to_text() {
            return Err("the challenge is another one");
        }
        // The exact origin: a sibling host may use the same RP id.
        if client_data.origin != self.origin || client_data.cross_origin || client_data.top_origin.is_some() {
            return Err("the origin is another one, or the page was framed");
        }
        Ok(())
    }
}

fn es256_key(credential: &Credential) -> Option<PublicKey> {
    let COSEKeyType::EC_EC2(COSEEC2Key { curve: ECDSACurve::SECP256R1, x, y }) = &credential.cred.key else {
        return None;
    };
    if credential.cred.type_ != COSEAlgorithm::ES256 || x.len() != 32 || y.len() != 32 {
        return None;
    }
    [&[4], x.as_slice(), y.as_slice()].concat().try_into().ok().map(Fixed)
}

fn aaguid(attestation_object: &[u8]) -> Option<Fixed<16>> {
    let object: AttestationObject<'_> = serde_cbor_2::from_slice(attestation_object).ok()?;
    let data = AuthenticatorData::<RegistrationCeremony>::try_from(object.auth_data).ok()?;
    data.acd.map(|attested| Fixed(attested.aaguid))
}
