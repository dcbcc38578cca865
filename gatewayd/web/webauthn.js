// The passkey's gesture: sign in, sign a statement, enrol. User verification is always required and
// no extension is asked for.

/** @import {Assertion, B64, Creation, KeptKey, SignedStatement} from "./types.ts" */
import { digest, toBytes, toText } from "./codec.js";
import { signStatement } from "./device-key.js";

/** The person closed the browser's prompt, or it ran out of time. */
export class NoGesture extends Error {}

/**
 * @template T
 * @param {Promise<T>} prompt
 */
async function gesture(prompt) {
  try {
    return await prompt;
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    // An old prompt still open, a closed one, one that ran out of time: all mean "not done".
    if (["NotAllowedError", "AbortError", "OperationError"].includes(name)) throw new NoGesture();
    throw error;
  }
}

/**
 * @param {Uint8Array<ArrayBuffer>} challenge
 * @param {string} rpId
 * @param {B64 | null} credential null: any passkey of this site that the person picks
 * @param {AbortSignal} signal closes the prompt
 * @returns {Promise<{credential_id: B64, assertion: Assertion}>}
 */
export async function assertion(challenge, rpId, credential, signal) {
  const answer = await gesture(
    navigator.credentials.get({
      signal,
      publicKey: {
        challenge,
        rpId,
        userVerification: "required",
        timeout: 90_000,
        allowCredentials: credential === null ? [] : [{ type: "public-key", id: toBytes(credential) }],
      },
    }),
  );
  if (!(answer instanceof PublicKeyCredential) || !(answer.response instanceof AuthenticatorAssertionResponse)) {
    throw new NoGesture();
  }
  const { authenticatorData, clientDataJSON, signature } = answer.response;
  return {
    credential_id: toText(answer.rawId),
    assertion: {
      authenticator_data: toText(authenticatorData),
      client_data_json: toText(clientDataJSON),
      signature: toText(signature),
    },
  };
}

/** The bit of the flags that says that a passkey may be synced (WebAuthn L3, 6.1). */
const BACKUP_ELIGIBLE = 0x08;

/**
 * @param {ArrayBuffer | null} spki ends with the point, 65 bytes (RFC 5480, 2.2)
 * @param {ArrayBuffer | null} data authenticator data: hash 32, flags 1, counter 4, model 16 (6.1)
 * @returns {Made}
 */
function readMade(spki, data) {
  const bytes = data === null ? null : new Uint8Array(data);
  return {
    credential_key: spki === null ? null : toText(spki.slice(-65)),
    backup_eligible: bytes === null ? null : Boolean((bytes[32] ?? 0) & BACKUP_ELIGIBLE),
    aaguid: bytes === null ? null : toText(bytes.subarray(37, 53)),
  };
}

/** The domain tags of what people sign: for the passkey's challenge and for the device key. */
export const APPROVAL = /** @type {const} */ ({ challenge: "approval", device: "device" });
export const ROSTER = /** @type {const} */ ({ challenge: "roster-approval", device: "roster-device" });
export const POSSESSION = /** @type {const} */ ({ challenge: "possession", device: "possession-device" });

/**
 * One gesture: the passkey signs the statement's digest as its challenge, the device key the
 * statement.
 * @param {Uint8Array<ArrayBuffer>} statement
 * @param {typeof APPROVAL | typeof ROSTER | typeof POSSESSION} purpose
 * @param {string} rpId
 * @param {B64} credential
 * @param {KeptKey | undefined} kept absent at assurance level D
 * @param {AbortSignal} signal the screen's: what is no longer shown is not signed
 * @returns {Promise<SignedStatement>}
 */
export async function signed(statement, purpose, rpId, credential, kept, signal) {
  const given = await assertion(await digest(purpose.challenge, statement), rpId, credential, signal);
  if (signal.aborted) throw new NoGesture();
  return {
    statement: toText(statement),
    assertion: given.assertion,
    device_signature: kept ? await signStatement(kept, purpose.device, statement) : null,
  };
}

/**
 * What the browser itself says of a new passkey, where it says it.
 * @typedef {{credential_key: B64 | null, backup_eligible: boolean | null, aaguid: B64 | null}} Made
 */

/**
 * Makes a passkey.
 * @param {Creation} creation
 */
export async function create(creation) {
  const { challenge, user, ...rest } = creation;
  const made = await gesture(
    navigator.credentials.create({
      publicKey: { ...rest, challenge: toBytes(challenge), user: { ...user, id: toBytes(user.id) } },
    }),
  );
  if (!(made instanceof PublicKeyCredential) || !(made.response instanceof AuthenticatorAttestationResponse)) {
    throw new NoGesture();
  }
  const { response } = made;
  return {
    registration: {
      credential_id: toText(made.rawId),
      attestation_object: toText(response.attestationObject),
      client_data_json: toText(response.clientDataJSON),
    },
    made: readMade(response.getPublicKey?.() ?? null, response.getAuthenticatorData?.() ?? null),
  };
}
