// The roster in plain words, from its own bytes: what a person signs in the ceremony.

/** @import {Assurance, Device, Person, Piece, Roster, Which} from "./types.ts" */
import { bytes, count, either, flag, list, maybe, oneOf, readCanonical, record, text } from "./codec.js";
import { duration } from "./words.js";

const mark = record({});
const levels = oneOf("A", "B", "C", "D");
/** A name; never a word that a list of changes says where there is none. @param {unknown} value */
const name = (value) => text(value) && !/^(any|none)$/i.test(String(value));
const which = either(record({ any: mark }), record({ of: list(name) }));
const device = record({
  id: name,
  label: text,
  client_class: oneOf("page", "terminal"),
  credential_id: bytes(),
  credential_key: bytes(65),
  backup_eligible: flag,
  aaguid: bytes(16),
  attested: flag,
  device_key: maybe(bytes(65)),
});
const shape = record({
  format: oneOf("twinlock-roster"),
  format_version: oneOf(1),
  version: count,
  previous: maybe(bytes(32)),
  issued_at: count,
  expires_at: count,
  rp_id: text,
  origins: list(text),
  persons: list(
    record({
      id: name,
      name: text,
      kind: either(record({ human: mark }), record({ service: record({ owner: name }) })),
      logins: list(name),
      groups: list(name),
      may_request: flag,
      standing: either(oneOf("active"), record({ suspended: record({ by: maybe(name) }) })),
      devices: list(device),
    }),
  ),
  hosts: list(record({ id: name, name: text, groups: list(name), host_key: bytes(65), agent_key: bytes(65) })),
  gateways: list(record({ address: text, key: bytes(32) })),
  uids: list(record({ host: name, uid: count, person: name })),
  cas: list(record({ id: name, certificate: bytes() })),
  audit_keys: list(bytes(65)),
  break_glass_keys: list(record({ person: name, key: bytes(65) })),
  rules: record({
    quorum: count,
    floor: levels,
    aaguids: list(bytes(16)),
    max_ttl_s: count,
    max_approve_by_s: count,
    distinct_client_class: flag,
    break_glass: record({ delay_s: count, max_ttl_s: count }),
    gates: list(record({ hosts: which, targets: which, approvers: list(name) })),
  }),
});

/** @param {Uint8Array} given @returns {Roster} */
export const readRoster = (given) => readCanonical("roster", given, shape);

/** One device's record, as it stands in a roster. @param {Uint8Array} given @returns {Device} */
export const readDevice = (given) => readCanonical("device", given, device);

/** The assurance of a device, as the roster counts it. @param {Device} device @returns {Assurance} */
export const assurance = ({ device_key, backup_eligible, attested }) =>
  device_key === null ? "D" : backup_eligible ? "C" : attested ? "A" : "B";

/** @type {Record<Assurance, string>} */
const LEVEL = {
  A: "attested security hardware",
  B: "a passkey that stays on one device",
  C: "a passkey that may be synced, plus a key kept in the browser",
  D: "a passkey that may be synced, alone",
};
/** @param {Assurance} level */
export const levelWords = (level) => `${level}: ${LEVEL[level]}`;

/** @param {string[]} values @returns {Piece[]} */
const names = (values) => values.flatMap((raw, i) => (i ? [", ", { raw, strong: true }] : [{ raw, strong: true }]));

/** @param {Which} which @param {string} any @param {string} some @returns {Piece[]} */
const where = (which, any, some) => ("any" in which ? [any] : [some, ...names(which.of)]);

/** @param {Roster} roster @returns {Piece[][]} the rules of two-person approval, one sentence each */
export function rules({ rules, rp_id, origins, break_glass_keys }) {
  /** @type {Piece[][]} */
  const lines = [
    [`${rules.quorum === 2 ? "Two" : rules.quorum} different people must approve; never the one who asks.`],
    ["The weakest device that counts is ", levelWords(rules.floor), "."],
    [`An approval holds at most ${duration(rules.max_ttl_s)}, and must be given within ${duration(rules.max_approve_by_s)}.`],
    ...rules.gates.map(({ hosts, targets, approvers }) =>
      /** @type {Piece[]} */ ([
        ...where(hosts, "On every host", "On hosts of "),
        ...where(targets, ", for every target user", ", for "),
        ": the group ",
        ...names(approvers),
        " approves.",
      ])),
    ["Approvals are made only at ", ...names(origins), " (passkeys for ", { raw: rp_id }, ", for good)."],
  ];
  if (break_glass_keys.length) {
    const { delay_s, max_ttl_s } = rules.break_glass;
    lines.push([`While no gateway can be reached, two holders of break-glass keys can approve: after ${duration(delay_s)} more, for at most ${duration(max_ttl_s)}.`]);
  }
  if (rules.distinct_client_class) lines.push(["The two approvals must come from two different kinds of program."]);
  return lines;
}

/** @param {Person} person @param {Roster} roster @returns {Piece[][]} what the roster says of a person */
export function personLines(person, { persons }) {
  /** @type {Piece[][]} */
  const lines = [];
  if ("service" in person.kind) {
    const { owner } = person.kind.service;
    lines.push(["Non-human; ", { raw: persons.find((one) => one.id === owner)?.name ?? owner }, " answers for it"]);
  }
  if (person.standing !== "active") lines.push(["Suspended: neither asks nor approves"]);
  lines.push(person.logins.length ? ["Logins: ", ...names(person.logins)] : ["No login"]);
  lines.push([person.may_request ? "May ask for elevation" : "May not ask for elevation"]);
  if (person.groups.length) lines.push(["Groups: ", ...names(person.groups)]);
  for (const device of person.devices) {
    lines.push(["Device: ", { raw: device.label, strong: true }, ` (${device.client_class === "page" ? "browser" : "terminal"}, level ${assurance(device)})`]);
  }
  if (!person.devices.length) lines.push(["No device: cannot approve"]);
  return lines;
}

/** @param {string} hex lower-case @returns {string[]} groups of four */
export const groups = (hex) => hex.match(/.{4}/g) ?? [];
