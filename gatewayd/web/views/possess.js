// A new device shows that it holds its keys, by a second gesture, and then waits until two people
// have compared its words and signed. Its words stand here in large letters: they are read aloud.

/** @import {Device, EnrolStart, EnrolStatus, KeptKey, PersonInfo, Possess} from "../types.ts" */
/** @import {Made} from "../webauthn.js" */
import { api } from "../api.js";
import { Malformed, possessionStatement, toBytes, toText } from "../codec.js";
import { find } from "../device-key.js";
import { deviceDigest, deviceWords } from "../fingerprint.js";
import { button, every, h, say, screen, shown } from "../dom.js";
import { readDevice } from "../roster.js";
import { POSSESSION, signed } from "../webauthn.js";
import { wordList } from "./changes.js";
import { describe, end, failed } from "./end.js";

/**
 * Whether a record is of the keys that this browser holds, and of the passkey that it saw made.
 * @param {Device} device
 * @param {KeptKey} kept
 * @param {Made | null} made null: the passkey is an old one, whose record two people know already
 */
function isOwn(device, kept, made) {
  /** @param {unknown} told @param {unknown} seen null: the browser does not say */
  const same = (told, seen) => seen === null || told === seen;
  return (
    device.credential_id === kept.credential_id &&
    device.device_key === kept.public_key &&
    device.client_class === "page" &&
    (made === null ||
      (same(device.credential_key, made.credential_key) &&
        same(device.backup_eligible, made.backup_eligible) &&
        same(device.aaguid, made.aaguid)))
  );
}

/**
 * The words of the record that a roster would hold, if that is this browser's: its own keys, its own
 * person, what the authenticator said of itself.
 * @param {Possess} given
 * @param {PersonInfo} person
 * @param {KeptKey} kept
 * @param {Made | null} made null: the passkey is an old one, whose record two people know already
 * @returns {Promise<string[]>}
 */
export async function wordsOf({ record, possession }, person, kept, made) {
  const device = readDevice(toBytes(record));
  const belongs =
    toText(await deviceDigest(device)) === possession.device &&
    possession.person === person.id &&
    possession.credential_id === device.credential_id &&
    possession.device_id === device.id &&
    // A new device takes no key's place; a restored key takes the place of another than itself.
    (made === null) === (possession.replaces !== null) &&
    possession.replaces !== device.device_key;
  if (!belongs || !isOwn(device, kept, made)) throw new Malformed("record");
  return deviceWords(device);
}

/**
 * The second gesture.
 * @param {object} what
 * @param {PersonInfo} what.person
 * @param {string[]} what.words
 * @param {KeptKey} what.kept
 * @param {Possess["possession"]} what.possession
 * @param {(signed: import("../types.ts").SignedStatement) => Promise<unknown>} what.send
 * @param {() => unknown} what.then
 */
export function gesture({ person, words, kept, possession, send, then }) {
  const note = h("p", { class: "note", role: "alert" });
  const signal = screen({
    name: "possess",
    title: ["Once more, ", shown(person.name)],
    body: [
      h("p", { class: "lead" }, "Your passkey is made. A second gesture shows that this device holds both keys."),
      h("p", {}, "These words stand for it; somebody will ask you to read them aloud:"),
      wordList(words),
      note,
    ],
    actions: [
      button("Confirm this device", async () => {
        note.replaceChildren();
        try {
          await send(await signed(possessionStatement(possession), POSSESSION, kept.rp_id, kept.credential_id, kept, signal));
          say("Confirmed");
          await then();
        } catch (error) {
          const { name, title, hint } = describe(error);
          if (name !== "no-gesture" && name !== "offline") return failed(error);
          note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
        }
      }, { class: "main" }),
    ],
  });
}

/**
 * @param {string} invite
 * @param {string} enrol
 * @param {PersonInfo} person
 * @param {string[]} words
 * @param {KeptKey} kept
 * @param {Possess["possession"]} possession
 */
const gestureByInvite = (invite, enrol, person, words, kept, possession) =>
  gesture({
    person, words, kept, possession,
    send: (statement) => api.enrolPossession(enrol, statement),
    then: () => enrolled(invite, words),
  });

/**
 * After a passkey was made by invite.
 * @param {string} invite
 * @param {EnrolStart} start
 * @param {KeptKey} kept
 * @param {Possess} given
 * @param {Made} made
 */
export async function confirm(invite, { enrol, person }, kept, given, made) {
  const words = await wordsOf(given, person, kept, made);
  gestureByInvite(invite, enrol, person, words, kept, given.possession);
}

/**
 * The link was opened again. Words are of the keys that this browser holds, or there are none: what the
 * gateway says alone proves nothing to whoever hears them.
 * @param {string} invite
 * @param {EnrolStart} start
 * @param {EnrolStatus} status
 */
export async function resumed(invite, { enrol, person }, { state, record, possession }) {
  if (state === "declined") return end("bad", "Declined", "Somebody did not agree, or the time was over. Ask for a new link.");
  if (!record) throw new Malformed("record");
  const device = readDevice(toBytes(record));
  const kept = await find(device.credential_id);
  if (!kept?.passkey) {
    return end("bad", "The key is not in this browser", "It was dropped, or the device that enrolled is another one. Read no words aloud. Ask for a new link, and that the old one is declined.");
  }
  if (state === "possess" && possession) {
    const words = await wordsOf({ record, possession }, person, kept, kept.passkey);
    return gestureByInvite(invite, enrol, person, words, kept, possession);
  }
  if (!isOwn(device, kept, kept.passkey)) throw new Malformed("record");
  return enrolled(invite, await deviceWords(device));
}

/** @param {string} invite @param {string[]} words */
const enrolled = (invite, words) =>
  wait("open your link again", words, () => api.enrolStatus(invite), () =>
    end("good", "This device is enrolled", "Two people signed. From now on, scan the code that a terminal shows."));

/**
 * Until others have signed.
 * @param {string} later how to come back
 * @param {string[]} spoken
 * @param {() => Promise<{state: string, signed?: number, needs?: number}>} ask
 * @param {() => unknown} sealed what comes then
 */
export function wait(later, spoken, ask, sealed) {
  const status = h("p", { class: "lead", role: "status" });
  const note = h("p", { class: "note", role: "status" });
  const signal = screen({
    name: "waiting",
    title: ["Read these words aloud"],
    body: [
      wordList(spoken),
      status,
      h("p", {}, "Somebody who knows your voice calls you and compares them with what their page shows. If nobody calls, call them."),
      h("p", { class: "hint" }, `Keep this page open, or ${later} later.`),
      note,
    ],
  });
  const refresh = async () => {
    try {
      const { state, signed = 0, needs = 2 } = await ask();
      if (signal.aborted) return;
      note.replaceChildren();
      status.textContent = `${signed} of ${needs} ${needs === 1 ? "person has" : "people have"} signed`;
      if (state === "sealed") return await sealed();
      if (state === "declined") end("bad", "Declined", "Somebody did not agree, or the time was over. Ask for a new link.");
    } catch (error) {
      if (signal.aborted) return;
      const { name, title } = describe(error);
      if (name !== "offline") return failed(error);
      note.replaceChildren(`${title}. Trying again.`);
    }
  };
  every(signal, 3, refresh);
  return refresh();
}
