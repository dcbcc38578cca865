// Bytes, digests, and the one spelling of what is signed: base64url as the protocol reads it,
// SHA-256 under a domain tag, canonical JSON in and out. Vectors in docs/vectors check this file
// and the protocol crate alike.

/** @import {B64, Channel, Request} from "./types.ts" */

/** What arrived is not what the protocol says; nothing of it is shown or signed. */
export class Malformed extends Error {}

/** @param {string} text */
export const utf8 = (text) => new TextEncoder().encode(text);

/**
 * base64url without padding.
 * @param {Uint8Array | ArrayBuffer} bytes
 * @returns {B64}
 */
export function toText(bytes) {
  let binary = "";
  for (const byte of new Uint8Array(bytes)) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/**
 * Reads base64url; refuses padding, white space and loose trailing bits, so that every value has
 * one spelling.
 * @param {unknown} text
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function toBytes(text) {
  if (typeof text !== "string" || !/^[\w-]*$/.test(text) || text.length % 4 === 1) throw new Malformed("base64url");
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
  if (toText(bytes) !== text) throw new Malformed("base64url");
  return bytes;
}

/**
 * @param {Uint8Array[]} parts
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function join(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/**
 * `tag ‖ parts`: the message that a key signs for one purpose.
 * @param {string} purpose the tag without `twinlock/`, `/v1` and NUL
 * @param {Uint8Array[]} parts
 */
export const message = (purpose, ...parts) => join(utf8(`twinlock/${purpose}/v1\0`), ...parts);

/**
 * SHA-256 without a tag.
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

/**
 * `SHA-256(tag ‖ parts)`.
 * @param {string} purpose
 * @param {Uint8Array[]} parts
 */
export const digest = (purpose, ...parts) => sha256(message(purpose, ...parts));

// Shapes: each says whether a parsed value is exactly what the protocol allows there.
/** @typedef {(value: any) => boolean} Shape */

/** @type {Shape} A string without half surrogates, which UTF-8 cannot hold. */
export const text = (value) => typeof value === "string" && !/\p{Cs}/u.test(value);
/** @type {Shape} */
export const count = (value) => Number.isSafeInteger(value) && value >= 0;
/** @type {Shape} */
export const flag = (value) => typeof value === "boolean";
/** @param {unknown[]} values @returns {Shape} */
export const oneOf = (...values) => (value) => values.includes(value);
/** @param {Shape} shape @returns {Shape} */
export const maybe = (shape) => (value) => value === null || shape(value);
/** @param {Shape} shape @returns {Shape} */
export const list = (shape) => (value) => Array.isArray(value) && value.every(shape);
/** @param {Shape[]} shapes @returns {Shape} */
export const either = (...shapes) => (value) => shapes.some((shape) => shape(value));
/** @param {number} [length] @returns {Shape} */
export const bytes = (length) => (value) => {
  try {
    return length === undefined || toBytes(value).length === length;
  } catch {
    return false;
  }
};
/** @param {Record<string, Shape>} fields @returns {Shape} These fields, in this order, no other. */
export const record = (fields) => {
  const names = Object.keys(fields).join();
  return (value) =>
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    Object.keys(value).join() === names &&
    Object.entries(fields).every(([name, shape]) => shape(value[name]));
};

/**
 * Reads canonical JSON: UTF-8, this shape, and exactly the spelling that we would write, so that
 * no duplicate field, space or other escape hides a second meaning.
 * @param {string} what
 * @param {Uint8Array} given
 * @param {Shape} shape
 * @returns {any}
 */
export function readCanonical(what, given, shape) {
  try {
    const json = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(given);
    const value = JSON.parse(json);
    if (shape(value) && JSON.stringify(value) === json) return value;
  } catch {
    // falls through to the refusal
  }
  throw new Malformed(what);
}

const arg = either(text, record({ b64: bytes() }));
const login = record({ uid: count, name: text });
const requestShape = record({
  format: oneOf("twinlock-request"),
  version: oneOf(1),
  kind: oneOf("module", "ssh", "ahead"),
  roster: record({ version: count, digest: bytes(32) }),
  host: text,
  boot_id: text,
  service: text,
  requester: record({ login: maybe(login), real: login, pam_ruser: maybe(text) }),
  target: record({ user: text, uid: count, group: maybe(text) }),
  view: record({
    mode: oneOf("command", "shell", "login_shell", "edit", "switch_user", "query"),
    command_at: maybe(count),
    shell: maybe(arg),
    editor: maybe(arg),
    chdir: maybe(arg),
    chroot: maybe(arg),
    assignments: list(arg),
    preserve_env: flag,
    background: flag,
    open_ended: flag,
    not_understood: maybe(text),
  }),
  argv: list(arg),
  cwd: maybe(arg),
  tty: maybe(text),
  process: record({ pid: count, start_time: count, parent: count, session: count }),
  stdin: oneOf("terminal", "piped", "file", "null", "closed", "other"),
  reason: maybe(text),
  ttl_s: count,
  scope: oneOf("command", "session"),
  created_at: count,
  approve_by_s: count,
  nonce: bytes(32),
  session_key: bytes(65),
  terminal_code: record({ salt: bytes(16), hash: bytes(32) }),
});

/**
 * @param {Uint8Array} given
 * @returns {Request}
 */
export function readRequest(given) {
  /** @type {Request} */
  const request = readCanonical("request", given, requestShape);
  const { command_at } = request.view;
  // Version 1 grants one command to a waiting process; nothing else may look approvable.
  if (request.kind !== "module" || request.scope !== "command") throw new Malformed("request kind");
  if (!request.argv.length || (command_at ?? 0) >= request.argv.length) throw new Malformed("request argv");
  return request;
}

/**
 * The bytes of an approval or denial, fields in the protocol's order.
 * @param {{request_digest: B64, decision: "approve" | "deny", person: string, credential_id: B64, device_id: string,
 *   ttl_s: number, scope: string, channel: Channel, gateway_salt: B64, deny_reason: string | null}} s
 */
export const approvalStatement = (s) =>
  utf8(
    JSON.stringify({
      kind: "approval",
      version: 1,
      request_digest: s.request_digest,
      decision: s.decision,
      person: s.person,
      credential_id: s.credential_id,
      device_id: s.device_id,
      ttl_s: s.ttl_s,
      scope: s.scope,
      channel: "ticket" in s.channel ? { ticket: s.channel.ticket } : { inbox: {} },
      gateway_salt: s.gateway_salt,
      deny_reason: s.deny_reason,
    }),
  );

/**
 * The bytes of a new device's word that it holds its keys, fields in the protocol's order.
 * @param {import("./types.ts").Possession} s
 */
export const possessionStatement = (s) =>
  utf8(
    JSON.stringify({
      kind: "possession",
      version: 1,
      person: s.person,
      device: s.device,
      replaces: s.replaces,
      credential_id: s.credential_id,
      device_id: s.device_id,
      gateway_salt: s.gateway_salt,
    }),
  );

/**
 * The bytes of a roster signature, fields in the protocol's order.
 * @param {import("./types.ts").RosterStatement} s
 */
export const rosterStatement = (s) =>
  utf8(
    JSON.stringify({
      kind: "roster",
      version: 1,
      roster_version: s.roster_version,
      roster_digest: s.roster_digest,
      person: s.person,
      credential_id: s.credential_id,
      device_id: s.device_id,
      gateway_salt: s.gateway_salt,
    }),
  );
