// People and devices: who may approve, from what; what waits to be signed; open invites. From the
// roster's own bytes. Suspending somebody is one tap and one gesture.

/** @import {InviteLine, KeptKey, Person, Roster, RosterHead, SignedIn} from "../types.ts" */
import { api } from "../api.js";
import { find } from "../device-key.js";
import { button, every, h, say, screen, shown } from "../dom.js";
import { readHead, readProposal, suspendsOnly } from "../proposal.js";
import { assurance } from "../roster.js";
import { roughly } from "../words.js";
import { date } from "./changes.js";
import { describe, end, failed } from "./end.js";
import { waitingChanges } from "./inbox.js";
import { sign } from "./proposal.js";
import { withSession } from "./sign-in.js";
import { visit } from "./way.js";

/** How many of those who only ask are listed before a name is typed. */
const MOST = 30;
const DAY_S = 86_400;

export const people = () =>
  withSession(async (me) => {
    const [head, kept] = await Promise.all([api.roster(), find(me.credential_id)]);
    show(me, head, await readHead(head), kept);
  }, "Then you see who may approve, and from what.");

/** @param {Person} person */
export const isSuspended = (person) => person.standing !== "active";

/**
 * @param {SignedIn} me
 * @param {RosterHead} head
 * @param {Roster} roster
 * @param {KeptKey | undefined} kept
 */
function show(me, head, roster, kept) {
  const note = h("p", { class: "note", role: "alert" });
  const changes = h("section", {});
  const invites = h("section", {});
  const approvers = roster.persons.filter((person) => person.devices.length);
  const others = roster.persons.filter((person) => !person.devices.length);
  const signal = screen({
    name: "people",
    title: ["People and devices"],
    body: [
      note,
      h("h2", {}, "They approve"),
      h("ul", { class: "cards" }, ...approvers.map((person) => approver(person, me, head, kept, note, () => signal))),
      // What comes and goes by itself stands below: no button may move away under a finger.
      changes,
      invites,
      others.length ? h("h2", {}, "They only ask") : null,
      others.length ? requesters(others) : null,
      validity(head, roster),
    ],
    actions: head.may_sign ? [button("Invite somebody", () => visit("invite"), { class: "main" })] : [],
  });
  const refresh = async () => {
    const [{ proposals }, open] = await Promise.all([api.proposals(), head.may_sign ? api.invites() : { invites: [] }]);
    if (signal.aborted) return;
    changes.replaceChildren(...waitingChanges(proposals, "Changes under way"));
    invites.replaceChildren(...openInvites(open.invites, refresh));
    if ((await api.me()).signed_in === false) return people();
  };
  const quietly = () => refresh().catch((error) => void (describe(error).name === "sign-in-needed" && !signal.aborted && people()));
  every(signal, 8, quietly);
  return quietly();
}

/**
 * @param {Person} person
 * @param {SignedIn} me
 * @param {RosterHead} head
 * @param {KeptKey | undefined} kept
 * @param {HTMLElement} note
 * @param {() => AbortSignal} signal
 */
function approver(person, me, head, kept, note, signal) {
  const open = button("", () => visit("person", person.id), { class: "card" });
  open.append(
    h("span", { class: "who" }, shown(person.name), person.id === me.person.id ? " (you)" : "", isSuspended(person) ? h("span", { class: "chip" }, "suspended") : ""),
    h("span", { class: "meta" }, ...person.devices.flatMap((device, i) => [i ? ", " : "", shown(device.label), ` (${assurance(device)})`])),
  );
  const may = head.may_sign && person.id !== me.person.id && !isSuspended(person);
  return h("li", { class: "beside" }, open, may
    ? button("Suspend", () => suspend(person, me, head, kept, note, signal()), { class: "suspend", "aria-label": `Suspend ${person.name}` })
    : null);
}

/**
 * Suspends somebody at once: one tap, one gesture. Whatever would do more, or needs a second
 * signature, is shown to be read first.
 * @param {Person} person
 * @param {SignedIn} me
 * @param {RosterHead} head
 * @param {KeptKey | undefined} kept
 * @param {HTMLElement} note
 * @param {AbortSignal} signal
 */
export async function suspend(person, me, head, kept, note, signal) {
  note.replaceChildren();
  try {
    const given = await api.suspend(person.id);
    const now = given.base.digest === head.digest ? head : await api.roster();
    const read = await readProposal(given, now, me, kept);
    if (given.kind !== "suspension" || read.statement === null || !suspendsOnly(read, person.id, me.person.id)) {
      return visit("proposal", given.id);
    }
    await sign(given.id, read, kept, signal);
    say("Suspended");
    end("good", `${person.name} is suspended`, "They can neither ask nor approve. Two other people can lift it.");
  } catch (error) {
    const { name, title, hint } = describe(error);
    if (signal.aborted) return;
    if (name !== "no-gesture" && name !== "offline") return failed(error, people);
    note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
    note.scrollIntoView({ block: "center" });
  }
}

/** @param {Person[]} others */
function requesters(others) {
  const list = h("ul", { class: "people" });
  const fill = (wanted = "") => {
    const found = others.filter((one) => `${one.name} ${one.logins.join(" ")}`.toLowerCase().includes(wanted.toLowerCase()));
    list.replaceChildren(...found.slice(0, MOST).map((one) => {
      const open = button("", () => visit("person", one.id), { class: "link someone" });
      open.append(shown(one.name));
      const kind = "service" in one.kind ? "non-human" : isSuspended(one) ? "suspended" : one.may_request ? "" : "may not ask";
      return h("li", {}, open, h("span", { class: "meta" }, kind));
    }), found.length > MOST ? h("li", { class: "meta" }, `and ${found.length - MOST} more`) : "");
  };
  fill();
  const search = h("input", { type: "search", id: "find", autocomplete: "off", placeholder: "Name or login", "aria-label": "Find somebody" });
  search.addEventListener("input", () => fill(search.value));
  return h("div", {}, others.length > MOST ? search : null, list);
}

/**
 * @param {InviteLine[]} lines
 * @param {() => unknown} again
 * @returns {Node[]}
 */
function openInvites(lines, again) {
  if (!lines.length) return [];
  const state = { open: "not opened yet", opened: "opened", enrolled: "enrolled, to be confirmed there", proposed: "enrolled, waits for signatures" };
  return [
    h("h2", {}, "Invited"),
    h("ul", { class: "people" }, ...lines.map((one) => {
      const cancel = async () => {
        await api.cancelInvite(one.invite).catch(() => null);
        await again();
      };
      return h("li", {},
        h("span", {}, shown(one.person.name), h("br"), h("span", { class: one.contested ? "meta urgent" : "meta" },
          one.contested ? "opened by two browsers!" : state[one.state], one.proposal ? "" : ` · ${roughly(one.left_s)} left`)),
        one.proposal ? button("Read it", () => visit("proposal", one.proposal), { class: "link", "aria-label": `Read what the invite of ${one.person.name} became` }) : button("Cancel", cancel, { class: "link", "aria-label": `Cancel the invite of ${one.person.name}` }));
    })),
  ];
}

/** @param {RosterHead} head @param {Roster} roster */
function validity(head, roster) {
  const days = Math.floor(head.expires_in_s / DAY_S);
  const soon = days < 30;
  const renew = async () => {
    try {
      const { id } = await api.renew();
      await visit("proposal", id);
    } catch (error) {
      failed(error, people);
    }
  };
  return h("section", { class: "validity" },
    h("p", { class: soon ? "meta urgent" : "meta" }, `Roster version ${roster.version}, valid until ${date(roster.expires_at)}${soon ? `: ${days} days left` : ""}.`),
    head.may_sign && soon ? button("Renew it", renew) : null);
}
