// Enrolment by a link: a passkey and a device key for one person. In the ceremony everybody then
// reads and signs the roster; while a gateway runs, the device proves its keys and two others sign.

/** @import {EnrolStart, Enrolled, KeptKey} from "../types.ts" */
import { api } from "../api.js";
import { Malformed, toBytes } from "../codec.js";
import { generate, keep, sign } from "../device-key.js";
import { button, h, screen, shown } from "../dom.js";
import { create } from "../webauthn.js";
import { room } from "./ceremony.js";
import { describe, failed } from "./end.js";
import { confirm, resumed } from "./possess.js";

/** @param {string} invite @returns {Promise<unknown>} */
export async function enrol(invite) {
  try {
    const start = await api.enrolStart(invite);
    if (start.state === "enrol") return form(invite, start);
    const status = await api.enrolStatus(invite);
    // Only a running gateway counts signatures here.
    return status.needs === undefined ? room(invite) : await resumed(invite, start, status);
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
          await enrolled(invite, start, label.value.trim() || "My device");
        } catch (error) {
          if (error instanceof DOMException && error.name === "InvalidStateError") {
            note.replaceChildren(h("strong", {}, "This device is enrolled already."), " Open the link again to go on.");
            return;
          }
          const { name, title, hint } = describe(error);
          if (name === "malformed") return failed(error);
          note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
        }
      }, { class: "main" }),
    ],
  });
}

/** @param {string} invite @param {EnrolStart} start @param {string} label */
async function enrolled(invite, start, label) {
  const { kept, answer, made } = await enrolDevice(start, label);
  if (answer.state === "wait") return room(invite);
  return confirm(invite, start, kept, answer, made);
}

/**
 * @param {EnrolStart} start
 * @param {string} label
 * @returns {Promise<{kept: KeptKey, answer: Enrolled, made: import("../webauthn.js").Made}>}
 */
async function enrolDevice(start, label) {
  const { creation } = start;
  if (!creation) throw new Malformed("creation");
  const made = await generate();
  const passkey = await create(creation);
  const { credential_id } = passkey.registration;
  // Kept before it is announced: a key that the gateway knows and this browser lost helps nobody.
  const kept = { credential_id, rp_id: creation.rp.id, ...made, passkey: passkey.made };
  await keep(kept);
  const device_proof = await sign(made, "claim", toBytes(creation.challenge));
  const { registration } = passkey;
  const answer = await api.enrolFinish({ enrol: start.enrol, registration, device_key: made.public_key, device_proof, label });
  return { kept, answer, made: passkey.made };
}
