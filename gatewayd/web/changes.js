// Every difference between two rosters, in clear text: the twin of the protocol's
// `roster::change`, held to the same vectors. No difference may go unlisted, but for the version's
// number, its predecessor and its date.
//
// Both rosters are laid out as items, one list per section; an item has a subject, which names it
// within its section, and named fields. Where what stays stands in another order, that is a change.

/** @import {B64, Gate, Roster, Which} from "./types.ts" */
import { sha256, toBytes } from "./codec.js";
import { argument, visible } from "./escape.js";
import { breakGlassWords, deviceWords, hostWords } from "./fingerprint.js";
import { assurance } from "./roster.js";

/** @typedef {string | string[] | null} Value null: there is none */
/** @typedef {{field: string, from: Value, to: Value}} FieldChange */
/** @typedef {"added" | "removed" | "changed"} Kind */
/** @typedef {{section: keyof typeof SECTIONS, kind: Kind, subject: string, fields: FieldChange[]}} Change */
/** @typedef {[subject: string, fields: Record<string, Value>]} Item */

/** The subject under which another order of a section's items is listed. */
export const ORDER = "(order)";

/** Sections in the order in which people read, with their names. */
const SECTIONS = {
  person: "person",
  device: "device",
  host: "host",
  gateway: "gateway",
  uid: "uid",
  ca: "certification authority",
  audit_key: "audit key",
  break_glass_key: "break-glass key",
  gate: "gate",
  rules: "the",
  roster: "the",
};

/** @param {boolean} value */
const flag = (value) => (value ? "yes" : "no");
/** @param {Uint8Array} bytes */
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
/** An authenticator's model as vendors write it. @param {B64} aaguid */
export const uuid = (aaguid) => hex(toBytes(aaguid)).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
/** @param {Which} which */
const which = (which) => ("any" in which ? "any" : which.of);
/** @param {Gate} gate @param {number} at @returns {Item} */
const gate = ({ hosts, targets, approvers }, at) => [`${at + 1}`, { hosts: which(hosts), targets: which(targets), approvers }];

/** @param {Roster["persons"][number]["standing"]} standing */
function standingWords(standing) {
  if (standing === "active") return standing;
  const { by } = standing.suspended;
  return by === null ? "suspended" : `suspended by ${by}`;
}

/** @type {Record<keyof typeof SECTIONS, (roster: Roster) => Item[] | Promise<Item[]>>} */
const LAYOUT = {
  person: ({ persons }) =>
    persons.map((person) => [
      person.id,
      {
        name: person.name,
        owner: "service" in person.kind ? person.kind.service.owner : null,
        logins: person.logins,
        groups: person.groups,
        may_request: flag(person.may_request),
        standing: standingWords(person.standing),
      },
    ]),
  device: ({ persons }) =>
    Promise.all(
      persons.flatMap((person) =>
        person.devices.map(async (device) => /** @type {Item} */ ([
          device.id,
          {
            person: person.id,
            label: device.label,
            client_class: device.client_class,
            assurance: assurance(device),
            words: (await deviceWords(device)).join(" "),
            credential_id: device.credential_id,
            credential_key: device.credential_key,
            backup_eligible: flag(device.backup_eligible),
            aaguid: uuid(device.aaguid),
            attested: flag(device.attested),
            device_key: device.device_key,
          },
        ])),
      ),
    ),
  host: ({ hosts }) =>
    Promise.all(
      hosts.map(async (host) => /** @type {Item} */ ([
        host.id,
        { name: host.name, groups: host.groups, words: (await hostWords(host)).join(" "), host_key: host.host_key, agent_key: host.agent_key },
      ])),
    ),
  gateway: ({ gateways }) => gateways.map(({ address, key }) => [address, { key }]),
  uid: ({ uids }) => uids.map(({ host, uid, person }) => [`${host} ${uid}`, { person }]),
  ca: ({ cas }) =>
    Promise.all(cas.map(async ({ id, certificate }) => /** @type {Item} */ ([id, { sha256: hex(await sha256(toBytes(certificate))) }]))),
  audit_key: ({ audit_keys }) => audit_keys.map((key) => [key, {}]),
  break_glass_key: ({ break_glass_keys }) => 
    Promise.all(
      break_glass_keys.map(async (one) => /** @type {Item} */ ([
        one.key,
        { person: one.person, words: (await breakGlassWords(one)).join(" ") },
      ])),
    ),
  gate: ({ rules }) => rules.gates.map(gate),
  rules: ({ rules }) => [
    [
      "rules",
      {
        quorum: `${rules.quorum}`,
        floor: rules.floor,
        // An empty list means the opposite of what an empty list of people does.
        aaguids: rules.aaguids.length ? rules.aaguids.map(uuid) : "any model",
        max_ttl_s: `${rules.max_ttl_s}`,
        max_approve_by_s: `${rules.max_approve_by_s}`,
        distinct_client_class: flag(rules.distinct_client_class),
        break_glass_delay_s: `${rules.break_glass.delay_s}`,
        break_glass_max_ttl_s: `${rules.break_glass.max_ttl_s}`,
      },
    ],
  ],
  roster: ({ rp_id, origins, expires_at }) => [["roster", { rp_id, origins, expires_at: `${expires_at}` }]],
};

/** @param {Value | undefined} a @param {Value | undefined} b */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/**
 * @param {Change["section"]} section
 * @param {Item[]} old
 * @param {Item[]} now
 * @returns {Change[]}
 */
function compare(section, old, now) {
  const [before, after] = [new Map(old), new Map(now)];
  /** @type {Change[]} */
  const changes = [];
  for (const [subject, fields] of old) {
    if (after.has(subject)) continue;
    const gone = Object.entries(fields).map(([field, from]) => ({ field, from, to: null }));
    changes.push({ section, kind: "removed", subject, fields: gone });
  }
  for (const [subject, fields] of now) {
    const was = before.get(subject);
    const differ = Object.entries(fields)
      .map(([field, to]) => ({ field, from: was?.[field] ?? null, to }))
      .filter(({ from, to }) => !was || !same(from, to));
    if (!was || differ.length) changes.push({ section, kind: was ? "changed" : "added", subject, fields: differ });
  }
  /** @param {Item[]} items @param {Map<string, unknown>} others */
  const stay = (items, others) => items.map(([subject]) => subject).filter((subject) => others.has(subject));
  const [from, to] = [stay(old, after), stay(now, before)];
  if (!same(from, to)) changes.push({ section, kind: "changed", subject: ORDER, fields: [{ field: "order", from, to }] });
  return changes;
}

/**
 * Every difference, section by section: within each what went, in the old order; then what came or
 * changed, in the new order; then another order of what stayed.
 * @param {Roster} old
 * @param {Roster} now
 * @returns {Promise<Change[]>}
 */
export async function changes(old, now) {
  const all = [];
  for (const section of /** @type {Change["section"][]} */ (Object.keys(SECTIONS))) {
    all.push(...compare(section, await LAYOUT[section](old), await LAYOUT[section](now)));
  }
  return all;
}

/**
 * A change as one visible line, values with spaces in quotes, so that no name reads like a change of
 * its own.
 * @param {Change} change
 */
export function line({ section, kind, subject, fields }) {
  /** @param {Value} value */
  const show = (value) =>
    value === null || (Array.isArray(value) && !value.length) ? "none" : [value].flat().map(argument).join(", ");
  const said = fields.map(({ field, from, to }) =>
    kind === "changed" ? `${field}: ${show(from)} -> ${show(to)}` : `${field}: ${show(kind === "added" ? to : from)}`);
  return [`${kind} ${SECTIONS[section]} ${visible(subject)}`, ...(said.length ? [said.join("; ")] : [])].join(": ");
}
