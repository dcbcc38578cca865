// The differences between two rosters as people read them before they sign. Every change and every
// field of it is on the page; keys and identifiers fold away behind the words made from them.

/** @import {Piece, Roster} from "../types.ts" */
/** @import {Change, FieldChange, Value} from "../changes.js" */
import { ORDER } from "../changes.js";
import { h, shown } from "../dom.js";
import { levelWords } from "../roster.js";
import { duration } from "../words.js";

/** @param {string} raw @returns {Piece} */
const strong = (raw) => ({ raw, strong: true });

/** Fields whose content people can't read; the words stand for them. */
const FOLDED = ["credential_id", "credential_key", "device_key", "host_key", "agent_key", "aaguid", "attested", "backup_eligible", "key", "sha256"];

/** @type {Record<string, string>} */
const FIELD = {
  id: "Id", name: "Name", owner: "Answered for by", logins: "Logins", groups: "Groups", may_request: "May ask", standing: "Standing",
  person: "Person", label: "Called", client_class: "Program", assurance: "Level", words: "Words", credential_id: "Passkey",
  credential_key: "Passkey’s key", device_key: "Device key", backup_eligible: "May be synced", aaguid: "Model",
  attested: "Attested", host_key: "Host key", agent_key: "Agent key", key: "Key", sha256: "SHA-256", hosts: "Hosts of",
  targets: "As user", approvers: "Approved by", quorum: "How many must approve", floor: "Weakest device", aaguids: "Models that count",
  max_ttl_s: "Longest approval", max_approve_by_s: "Longest wait", distinct_client_class: "Two kinds of program",
  break_glass_delay_s: "Wait before break-glass", break_glass_max_ttl_s: "Longest break-glass",
  rp_id: "Passkeys for", origins: "Page at", expires_at: "Valid until", order: "Order",
};

/** @param {number} seconds since 1970 */
export const date = (seconds) => new Date(seconds * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });

/** @param {string} field @param {Value} value @returns {(Node | string)[]} */
function valueOf(field, value) {
  if (value === null) return ["none"];
  if (Array.isArray(value)) return value.length ? value.flatMap((one, i) => [i ? ", " : "", shown(one)]) : ["none"];
  if (field === "expires_at") return [date(Number(value))];
  if (field.startsWith("max_") || field.startsWith("break_glass_")) return [duration(Number(value))];
  if (field === "client_class") return [value === "page" ? "browser" : "terminal"];
  const level = /** @type {"A" | "B" | "C" | "D"} */ (value);
  if ((field === "assurance" || field === "floor") && "ABCD".includes(value)) return [levelWords(level)];
  return [shown(value)];
}

/** @param {Change["kind"]} kind @param {FieldChange[]} fields */
const rows = (kind, fields) =>
  h("dl", {}, ...fields.map(({ field, from, to }) =>
    h("div", {}, h("dt", {}, FIELD[field] ?? field),
      kind === "changed"
        ? h("dd", {}, h("del", {}, ...valueOf(field, from)), " → ", h("ins", {}, ...valueOf(field, to)))
        : h("dd", {}, ...valueOf(field, kind === "added" ? to : from)))));

/** @param {Roster} roster @param {string} id @returns {string} */
const nameOf = (roster, id) => roster.persons.find((person) => person.id === id)?.name ?? id;

/** @param {Roster} roster @param {string} id */
const deviceOf = (roster, id) => {
  for (const person of roster.persons) {
    const device = person.devices.find((one) => one.id === id);
    if (device) return { person, device };
  }
  return null;
};

/** @param {Change} change @param {string} field */
const field = (change, field) => change.fields.find((one) => one.field === field);

/**
 * A change in one sentence, by the names that people know.
 * @param {Change} change
 * @param {Roster} base
 * @param {Roster} next
 * @returns {Piece[]}
 */
export function sentence(change, base, next) {
  const { section, kind, subject } = change;
  const side = kind === "removed" ? base : next;
  /** @param {string} added @param {string} removed @param {string} changed */
  const by = (added, removed, changed) => ({ added, removed, changed })[kind];
  if (subject === ORDER) return [`Another order: ${section.replaceAll("_", " ")}s`];
  switch (section) {
    case "person":
      return personSentence(change, strong(nameOf(side, subject)), next);
    case "device": {
      const found = deviceOf(side, subject);
      const [who, label] = [strong(found?.person.name ?? subject), strong(found?.device.label ?? subject)];
      if (kind === "added") return [who, " gets a new device: ", label];
      if (kind === "removed") return [who, " loses the device ", label];
      return [who, "’s device ", label, field(change, "device_key") ? " gets a new browser key" : " changes"];
    }
    case "host": {
      const name = strong(side.hosts.find((one) => one.id === subject)?.name ?? subject);
      return [by("New host ", "The host ", "The host "), name, by("", " leaves", " changes")];
    }
    case "gateway":
      return [by("New gateway ", "No longer a gateway: ", "Another key for the gateway "), strong(subject)];
    case "uid":
      return [by("User number mapped: ", "User number no longer mapped: ", "User number mapped anew: "), strong(subject)];
    case "ca":
      return [by("New certificate authority ", "No longer a certificate authority: ", "Another certificate for the authority "), strong(subject)];
    case "audit_key":
      return [by("New audit key ", "No longer an audit key: ", ""), { raw: subject }];
    case "break_glass_key":
      return breakGlassSentence(kind, subject, base, next);
    case "gate":
      return [`Rule ${subject} of who approves what ${by("is new", "is gone", "changes")}`];
    case "rules":
      return ["The rules of approval change"];
    case "roster":
      return [isGrave(change) ? "The roster itself changes" : "The roster stays valid for another time"];
  }
}

/** @param {Change["kind"]} kind @param {string} key @param {Roster} base @param {Roster} next @returns {Piece[]} */
function breakGlassSentence(kind, key, base, next) {
  /** @param {Roster} roster */
  const holder = (roster) => strong(nameOf(roster, roster.break_glass_keys.find((one) => one.key === key)?.person ?? key));
  if (kind === "added") return [holder(next), " gets a break-glass key, to approve with while no gateway can be reached"];
  if (kind === "removed") return ["A break-glass key of ", holder(base), " is withdrawn"];
  return ["A break-glass key of ", holder(base), " becomes one of ", holder(next)];
}

/** @param {Change} change @param {Piece} who @param {Roster} next @returns {Piece[]} */
function personSentence(change, who, next) {
  if (change.kind === "added") return [who, " joins"];
  if (change.kind === "removed") return [who, " leaves, for good"];
  const now = field(change, "standing")?.to;
  if (typeof now !== "string") return [who, " changes"];
  if (now === "active") return ["The suspension of ", who, " is lifted"];
  const [, alone] = /^suspended by (.*)$/s.exec(now) ?? [];
  return alone === undefined ? [who, " is suspended"] : [who, " is suspended by ", strong(nameOf(next, alone))];
}

/** Whether a change decides who may approve or what is trusted; another label or a longer life does not. @param {Change} change */
export const isGrave = ({ section, fields }) =>
  !(section === "device" && fields.every((one) => one.field === "label")) &&
  !(section === "roster" && fields.every((one) => one.field === "expires_at"));

/** From how many people on who come or go alike are one card. */
const MANY = 6;

/**
 * People who only ask, coming or going by the dozen: one card with a line for each, so that what
 * else a change does is not lost between them. Their lines hold every field that differs from the
 * card's own sentence.
 * @param {Change[]} changes
 * @param {(line: HTMLElement) => void} each gets each line
 * @returns {{cards: HTMLElement[], rest: Change[]}}
 */
export function crowds(changes, each) {
  const cards = [];
  let rest = changes;
  for (const kind of /** @type {const} */ (["removed", "added"])) {
    const side = kind === "added" ? "to" : "from";
    /** @param {Change} one */
    const asksOnly = (one) =>
      one.section === "person" && one.kind === kind &&
      one.fields.every((part) => ["name", "logins"].includes(part.field) ||
        JSON.stringify(part[side]) === { owner: "null", groups: "[]", may_request: '"yes"', standing: '"active"' }[part.field]);
    const crowd = rest.filter(asksOnly);
    if (crowd.length < MANY) continue;
    rest = rest.filter((one) => !asksOnly(one));
    const lines = crowd.map((one) => {
      const value = (/** @type {string} */ name) => field(one, name)?.[side] ?? null;
      const id = (value("logins") ?? []).includes(one.subject) ? [] : [shown(one.subject), ": "];
      const line = h("li", {}, h("span", {}, ...valueOf("name", value("name"))), h("span", { class: "meta" }, ...id, ...valueOf("logins", value("logins"))));
      each(line);
      return line;
    });
    const title = kind === "added" ? `${crowd.length} people join, who only ask` : `${crowd.length} people leave, who only asked`;
    cards.push(h("li", { class: "card grave" }, h("strong", {}, title), h("ul", { class: "people" }, ...lines)));
  }
  return { cards, rest };
}

/**
 * Eight words to compare by voice.
 * @param {string[]} words
 */
export const wordList = (words) => h("ol", { class: "spoken", translate: "no" }, ...words.map((word) => h("li", {}, word)));

/**
 * The words of a new device or host, and who reads them; none for other changes.
 * @param {Change} change
 * @param {Roster} next
 */
export function spoken(change, next) {
  const words = field(change, "words")?.to;
  if (change.kind === "removed" || typeof words !== "string") return null;
  const host = change.section === "host";
  const glass = next.break_glass_keys.find((one) => change.section === "break_glass_key" && one.key === change.subject);
  const person = glass ? next.persons.find((one) => one.id === glass.person) : deviceOf(next, change.subject)?.person;
  const who = strong(host ? next.hosts.find((one) => one.id === change.subject)?.name ?? change.subject : person?.name ?? change.subject);
  return {
    who,
    ask: host ? ["Ask whoever set up ", who, " to read these words from its terminal:"] : ["Ask ", who, ` to read these words from that ${glass ? "key" : "device"}:`],
    confirm: host ? ["I heard the same words"] : [who, " read the same words to me"],
    words: words.split(" "),
  };
}

/**
 * One change, whole.
 * @param {Change} change
 * @param {Node[] | null} title
 * @param {boolean} grave
 * @param {Node | null} compare the words
 */
export function changeCard({ section, kind, subject, fields }, title, grave, compare) {
  const there = fields.filter(({ from, to }) => from !== null || to !== null);
  const readable = there.filter((one) => !FOLDED.includes(one.field) && one.field !== "words");
  const named = ["person", "device", "host", "break_glass_key"].includes(section) && subject !== ORDER;
  /** @type {FieldChange[]} */
  const id = named && kind !== "changed" ? [{ field: "id", from: subject, to: subject }] : [];
  const folded = [...id, ...there.filter((one) => FOLDED.includes(one.field))];
  return h("li", { class: grave ? "card grave" : "card" },
    title && h("strong", {}, ...title),
    compare,
    readable.length ? rows(kind, readable) : null,
    folded.length ? h("details", {}, h("summary", {}, "Keys and identifiers"), rows(kind, folded)) : null);
}
