// Enrolment: a passkey and a device key for one person, then the ceremony in which everybody signs
// the roster after reading it in plain words.

/** @import {EnrolStart, EnrolStatus, Roster} from "../types.ts" */
import { api } from "../api.js";
import { Malformed, digest, rosterStatement, toBytes } from "../codec.js";
import { find, generate, keep, sign } from "../device-key.js";
import { button, every, h, rich, say, screen, shown } from "../dom.js";
import { groups, personLines, readRoster, rules } from "../roster.js";
import { ROSTER, create, signed } from "../webauthn.js";
import { describe, end, failed } from "./end.js";
import { watch } from "./seen.js";

/** @param {string} invite @returns {Promise<unknown>} */
export async function enrol(invite) {
  try {
    const start = await api.enrolStart(invite);
    return start.state === "enrol" ? form(invite, start) : room(invite);
  } catch (error) {
    return failed(error, () => enrol(invite));
  }
}

/** A name for this device: what the browser says of itself. */
async function deviceName() {
  const agent = navigator.userAgent;
  /** @type {any} */
  const data = "userAgentData" in navigator ? navigator.userAgentData : null;
  const model = (await data?.getHighEntropyValues?.(["model"]).catch(() => null))?.model;
  const kinds = /** @type {const} */ ([[/iPhone/, "iPhone"], [/iPad/, "iPad"], [/Android/, "Android phone"], [/Mac OS/, "Mac"], [/Windows/, "Windows"], [/CrOS/, "Chromebook"], [/Linux/, "Linux"]]);
  const browsers = /** @type {const} */ ([[/Edg/, "Edge"], [/Firefox|FxiOS/, "Firefox"], [/SamsungBrowser/, "Samsung Internet"], [/Chrom|CriOS/, "Chrome"], [/Safari/, "Safari"]]);
  const kind = model || kinds.find(([pattern]) => pattern.test(agent))?.[1] || "Device";
  const browser = browsers.find(([pattern]) => pattern.test(agent))?.[1];
  return browser ? `${kind}, ${browser}` : kind;
}

/** A registration is good for five minutes; an older one is asked for anew. */
const FRESH_MS = 4 * 60_000;

/** @param {string} invite @param {EnrolStart} start */
async function form(invite, start) {
  let asked = Date.now();
  const label = h("input", { id: "label", maxlength: "60", autocomplete: "off", value: await deviceName() });
  const note = h("p", { class: "note", role: "alert" });
  screen({
    name: "enrol",
    title: ["Welcome, ", shown(start.person.name)],
    body: [
      h("p", { class: "lead" }, "Make this device one of the two keys. From then on you approve here, with a fingerprint, your face or the screen lock."),
      h("label", { for: "label" }, "What do you call this device?"),
      label,
      h("ul", { class: "steps" },
        h("li", {}, "Use the browser that opens when you scan a code. A private window forgets its key."),
        h("li", {}, "Are you really ", h("strong", {}, shown(start.person.name)), "? If not, close this page and tell who sent the link."),
      ),
      note,
    ],
    actions: [
      button("Create my passkey", async () => {
        note.replaceChildren();
        try {
          // Each registration is good for one try.
          if (Date.now() - asked > FRESH_MS) start = await api.enrolStart(invite);
          asked = 0;
          await enrolDevice(start, label.value.trim() || "My device");
          await room(invite);
        } catch (error) {
          if (error instanceof DOMException && error.name === "InvalidStateError") {
            note.replaceChildren(h("strong", {}, "This device is enrolled already."), " Open the link again to go on.");
            return;
          }
          const { title, hint } = describe(error);
          note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
        }
      }, { class: "main" }),
    ],
  });
}

/** @param {EnrolStart} start @param {string} label */
async function enrolDevice(start, label) {
  const { creation } = start;
  if (!creation) throw new Malformed("creation");
  const made = await generate();
  const registration = await create(creation);
  const { credential_id } = registration;
  // Kept before it is announced: a key that the gateway knows and this browser lost helps nobody.
  await keep({ credential_id, rp_id: creation.rp.id, ...made });
  const device_proof = await sign(made, "claim", toBytes(creation.challenge));
  await api.enrolFinish({ enrol: start.enrol, registration, device_key: made.public_key, device_proof, label });
}

/**
 * The waiting room of the ceremony.
 * @param {string} invite
 * @param {boolean} [signedHere] the signature is given: all that can still come is the seal
 */
async function room(invite, signedHere = false) {
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
  /** @param {number} seconds since 1970 */
  const date = (seconds) => new Date(seconds * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
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

