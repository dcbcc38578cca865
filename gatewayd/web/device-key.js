// The device key: one ECDSA P-256 key per passkey in this browser profile, not extractable, kept in
// IndexedDB. It signs silently, so it only ever accompanies a passkey's gesture or a claim.

/** @import {B64, KeptKey} from "./types.ts" */
import { message, sha256, toText } from "./codec.js";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" };

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(keys: IDBObjectStore) => IDBRequest<T>} use
 * @returns {Promise<T>}
 */
async function store(mode, use) {
  const open = indexedDB.open("twinlock", 1);
  open.onupgradeneeded = () => open.result.createObjectStore("keys", { keyPath: "credential_id" });
  const db = await done(open);
  try {
    const transaction = db.transaction("keys", mode, { durability: "strict" });
    const complete = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const result = await done(use(transaction.objectStore("keys")));
    await complete;
    return result;
  } finally {
    db.close();
  }
}

/**
 * The key kept for a passkey, if this browser profile has one.
 * @param {B64} credential_id
 * @returns {Promise<KeptKey | undefined>}
 */
export const find = (credential_id) => store("readonly", (keys) => keys.get(credential_id));

/** Makes a key; `keep` stores it once the passkey is known. */
export async function generate() {
  const pair = await crypto.subtle.generateKey(ALGORITHM, false, ["sign", "verify"]);
  const public_key = toText(await crypto.subtle.exportKey("raw", pair.publicKey));
  return { key: pair.privateKey, public_key };
}

/**
 * Keeps a key and asks the browser not to evict it.
 * @param {KeptKey} kept
 */
export async function keep(kept) {
  await store("readwrite", (keys) => keys.put(kept));
  await navigator.storage?.persist?.().catch(() => false);
}

/**
 * Signs `tag ‖ parts`.
 * @param {KeptKey | {key: CryptoKey}} kept
 * @param {string} purpose
 * @param {Uint8Array[]} parts
 * @returns {Promise<B64>} r ‖ s
 */
export async function sign(kept, purpose, ...parts) {
  const bytes = message(purpose, ...parts);
  return toText(await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, kept.key, bytes));
}

/**
 * Signs a statement: `tag ‖ SHA-256(statement)`.
 * @param {KeptKey} kept
 * @param {"device" | "roster-device" | "possession-device"} purpose
 * @param {Uint8Array<ArrayBuffer>} statement
 */
export const signStatement = async (kept, purpose, statement) => sign(kept, purpose, await sha256(statement));
