// The ceremony's second half: the waiting room, then everybody signs the roster after reading it in
// plain words.

/** @import {EnrolStatus, Roster} from "../types.ts" */
import { api } from "../api.js";
import { Malformed, digest, rosterStatement, toBytes } from "../codec.js";
import { find } from "../device-key.js";
import { button, every, h, rich, say, screen, shown } from "../dom.js";
import { groups, personLines, readRoster, rules } from "../roster.js";
import { ROSTER, signed } from "../webauthn.js";
import { date } from "./changes.js";
import { describe, end, failed } from "./end.js";
import { enrol } from "./enrol.js";
import { watch } from "./seen.js";

/**
 * The waiting room of the ceremony.
 * @param {string} invite
 * @param {boolean} [signedHere] the signature is given: all that can still come is the seal
 */
export async function room(invite, signedHere = false) {
  let lost = 0;
  const list = h("ul", { class: "people", "aria-label": "People" });
  const note = h("p", { class: "note", role: "status" });
  const signal = screen({
    name: "room",
    title: [signedHere ? "You have signed" : "You are enrolled"],
    body: [
      h("p", { class: "lead" }, signedHere
        ? "When everybody has signed, the roster is sealed."
        : "When everybody has enrolled, you read the roster and sign it. Keep this page open; if it closes, open your link again."),
      list,
      note,
    ],
  });
  const refresh = async () => {
    try {
      const status = await api.enrolStatus(invite);
      if (signal.aborted) return;
      lost = 0;
      if (status.state === "sealed") return end("good", "The roster is sealed", "Everybody signed. From now on, scan the code that a terminal shows.");
      if (status.state === "sign" && status.roster && status.statement) return await roster(invite, status);
      note.replaceChildren();
      list.replaceChildren(...status.people.map(({ name, enrolled, signed }) =>
        h("li", {}, shown(name), h("span", { class: "meta" }, signed ? "signed ✓" : enrolled ? "enrolled ✓" : "not yet"))));
    } catch (error) {
      if (signal.aborted) return;
      const { name, title } = describe(error);
      lost += 1;
      // The ceremony's listener closes once the roster is sealed.
      if (signedHere && (name !== "offline" || lost > 2)) {
        return end("good", "You have signed", "The ceremony is over; its terminal says how it ended. From now on, scan the code that a terminal shows.");
      }
      if (name !== "offline") return failed(error, () => enrol(invite));
      note.replaceChildren(`${title}. Trying again.`);
    }
  };
  every(signal, 3, refresh);
  return refresh();
}

/**
 * Shows the roster from its bytes and signs it; refuses one that is not what it is said to be.
 * @param {string} invite
 * @param {EnrolStatus} status
 */
async function roster(invite, status) {
  const { statement } = status;
  const bytes = toBytes(status.roster?.bytes);
  if (!statement) throw new Malformed("statement");
  const said = readRoster(bytes);
  const hash = await digest("roster", bytes);
  const wanted = toBytes(statement.roster_digest);
  const me = said.persons.find((person) => person.id === statement.person);
  const device = me?.devices.find((one) => one.id === statement.device_id && one.credential_id === statement.credential_id);
  const kept = await find(statement.credential_id);
  const belongs =
    hash.every((byte, i) => byte === wanted[i]) && wanted.length === hash.length && said.version === statement.roster_version && device;
  if (!belongs) throw new Malformed("roster");
  // The roster must name the key that this very browser holds, not one put in its place.
  if (!kept || device.device_key !== kept.public_key) {
    return end("bad", "Not this browser’s key", "The roster names another key for you than this browser holds. Do not sign it. Open the link in the browser in which you enrolled.");
  }
  const note = h("p", { class: "note", role: "alert" });
  /** @type {Element[]} */
  const ends = [];
  const mark = () => {
    const end = h("i", { class: "end" });
    ends.push(end);
    return end;
  };
  const unseen = h("span", { id: "unseen" }, "Read all of it first.");
  const go = button("Sign the roster", async () => {
    if (!seen.all()) return seen.next();
    note.replaceChildren();
    try {
      await api.enrolSign(invite, await signed(rosterStatement(statement), ROSTER, said.rp_id, statement.credential_id, kept, signal));
      say("Signed");
      await room(invite, true);
    } catch (error) {
      const { title, hint } = describe(error);
      note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
    }
  }, { class: "main", "aria-disabled": "true", "aria-describedby": "unseen" });
  const hex = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const signal = screen({
    name: "roster",
    title: ["Read and sign the roster"],
    body: [
      h("p", { class: "lead" }, "It says who may approve, from which devices, on which hosts. Hosts will trust exactly this."),
      ...rosterBody(said, statement.person, mark),
      h("h2", {}, "Its fingerprint"),
      h("p", {}, "The terminal that runs the ceremony shows the same:"),
      h("p", { class: "digest" }, ...groups(hex).map((group) => h("code", {}, group))),
      mark(),
    ],
    actions: [note, h("div", { class: "line" }, unseen), go],
  });
  const seen = watch(ends, signal, () => {
    go.removeAttribute("aria-disabled");
    unseen.replaceChildren("You have seen all of it.");
  });
}

/** @param {Roster} said @param {string} self @param {() => Node} mark what must have been in view */
function rosterBody(said, self, mark) {
  /** @param {string[]} names @returns {(Node | string)[]} */
  const inGroups = (names) => (names.length ? [" in ", ...names.flatMap((name, i) => [i ? ", " : "", shown(name)])] : []);
  const others = [
    said.uids.length ? `${said.uids.length} user numbers are mapped to people.` : "",
    `${said.cas.length} certificate ${said.cas.length === 1 ? "authority" : "authorities"}, ${said.audit_keys.length} audit ${said.audit_keys.length === 1 ? "key" : "keys"}, ${said.break_glass_keys.length} break-glass ${said.break_glass_keys.length === 1 ? "key" : "keys"}.`,
  ].filter(Boolean);
  return [
    h("p", {}, `Version ${said.version}, made ${date(said.issued_at)}, valid until `, h("strong", {}, date(said.expires_at)), "."),
    h("h2", {}, "People"),
    h("ul", { class: "cards" }, ...said.persons.map((person) =>
      h("li", { class: "card" }, h("strong", {}, shown(person.name), person.id === self ? " (you)" : ""),
        h("ul", { class: "lines" }, ...personLines(person, said).map((line) => h("li", {}, ...rich(line)))), mark()))),
    h("h2", {}, "Rules"),
    h("ul", { class: "lines" }, ...rules(said).map((line) => h("li", {}, ...rich(line), mark()))),
    h("h2", {}, "Hosts"),
    said.hosts.length
      ? h("ul", { class: "lines" }, ...said.hosts.map((host) => h("li", {}, h("strong", {}, shown(host.name)), ...inGroups(host.groups), mark())))
      : h("p", {}, "None yet."),
    h("p", {}, others.join(" ")),
  ];
}
