// One person: what the roster says, their devices with the words of each, and what can be proposed.

/** @import {Device, KeptKey, Person, Proposal, Roster, RosterHead, SignedIn} from "../types.ts" */
import { api } from "../api.js";
import { find } from "../device-key.js";
import { deviceWords } from "../fingerprint.js";
import { button, h, rich, screen, shown } from "../dom.js";
import { readHead } from "../proposal.js";
import { assurance, levelWords, personLines } from "../roster.js";
import { wordList } from "./changes.js";
import { end, failed } from "./end.js";
import { isSuspended, suspend } from "./people.js";
import { withSession } from "./sign-in.js";
import { visit } from "./way.js";

/** @param {string} id */
export const person = (id) =>
  withSession(async (me) => {
    const [head, kept] = await Promise.all([api.roster(), find(me.credential_id)]);
    const roster = await readHead(head);
    const found = roster.persons.find((one) => one.id === id);
    if (!found) return end("calm", "Not in the roster", "This person is not in the roster any more.");
    const words = await Promise.all(found.devices.map(deviceWords));
    show(found, words, me, head, roster, kept);
  });

/**
 * @param {Person} person
 * @param {string[][]} words of each device
 * @param {SignedIn} me
 * @param {RosterHead} head
 * @param {Roster} roster
 * @param {KeptKey | undefined} kept
 */
function show(person, words, me, head, roster, kept) {
  const note = h("p", { class: "note", role: "alert" });
  const self = person.id === me.person.id;
  /** @param {Promise<Proposal>} proposed */
  const open = async (proposed) => {
    try {
      await visit("proposal", (await proposed).id);
    } catch (error) {
      failed(error, () => visit("person", person.id));
    }
  };
  /** @param {Device} device @param {number} i */
  const deviceCard = (device, i) =>
    h("li", { class: "card" },
      h("strong", {}, shown(device.label), device.id === me.device.id ? " (this one)" : ""),
      h("span", { class: "meta" }, `${device.client_class === "page" ? "Browser" : "Terminal"}, level ${levelWords(assurance(device))}`),
      h("details", {}, h("summary", {}, "Its words"), wordList(words[i] ?? [])),
      head.may_sign
        ? h("div", {}, button("Remove this device", () => open(api.remove(person.id, device.id)), { class: "link danger", "aria-label": `Remove this device: ${device.label}` }))
        : null);
  const lines = personLines({ ...person, devices: [] }, roster).slice(0, person.devices.length ? -1 : undefined);
  const human = "human" in person.kind;
  const signal = screen({
    name: "person",
    title: [shown(person.name), self ? " (you)" : ""],
    body: [
      note,
      h("ul", { class: "lines" }, ...lines.map((line) => h("li", {}, ...rich(line)))),
      person.devices.length ? h("h2", {}, "Devices") : null,
      h("ul", { class: "cards" }, ...person.devices.map(deviceCard)),
      head.may_sign && human ? button(person.devices.length ? "Add another device" : "Invite to approve", () => visit("invite", person.id)) : null,
      head.may_sign ? button("Remove from the roster", () => open(api.remove(person.id, null)), { class: "danger" }) : null,
    ],
    actions: [
      h("div", { class: "pair" },
        button("Back", () => history.back()),
        head.may_sign && isSuspended(person)
          ? button("Lift suspension", () => open(api.lift(person.id)), { class: "main" })
          : head.may_sign && !self
            ? button("Suspend", () => suspend(person, me, head, kept, note, signal), { class: "deny" })
            : null),
    ],
  });
}
