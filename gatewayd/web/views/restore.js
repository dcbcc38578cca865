// A device key that this browser dropped: a new one takes its place under the same passkey. It takes
// two gestures of its owner and the signature of one other person, who compares the words.

/** @import {KeptKey} from "../types.ts" */
import { api } from "../api.js";
import { digest, toBytes } from "../codec.js";
import { generate, keep, sign } from "../device-key.js";
import { button, h, screen } from "../dom.js";
import { assertion } from "../webauthn.js";
import { describe, end, failed } from "./end.js";
import { gesture, wait, wordsOf } from "./possess.js";

/** What is asked of the person first. */
export function restore() {
  const note = h("p", { class: "note", role: "alert" });
  const signal = screen({
    name: "restore",
    title: ["Restore this browser’s key"],
    body: [
      h("ul", { class: "steps" },
        h("li", {}, "You confirm twice with your passkey. It stays the same."),
        h("li", {}, "One other approver calls you, compares eight words, and signs."),
        h("li", {}, "Then you approve here as before. Nobody needs a new invite."),
      ),
      note,
    ],
    actions: [
      button("Begin with my passkey", async () => {
        note.replaceChildren();
        try {
          await begin(signal);
        } catch (error) {
          const { name, title, hint } = describe(error);
          if (name === "sign-in-needed") {
            note.replaceChildren(h("strong", {}, "This passkey is not accepted."), " Its device is not in the roster, or is suspended. Ask for an invite.");
            return;
          }
          if (name !== "no-gesture" && name !== "offline") return failed(error);
          note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
        }
      }, { class: "main" }),
    ],
  });
}

/** @param {AbortSignal} signal */
async function begin(signal) {
  const { sign_in, nonce, rp_id } = await api.signInStart();
  const challenge = await digest("sign-in", toBytes(nonce));
  const given = await assertion(challenge, rp_id, null, signal);
  const made = await generate();
  const device_proof = await sign(made, "claim", challenge);
  const { restore, person, ...rest } = await api.restoreStart({ sign_in, ...given, device_key: made.public_key, device_proof });
  const key = { credential_id: given.credential_id, rp_id, ...made };
  const words = await wordsOf(rest, person, key, null);
  /** @type {KeptKey} */
  const kept = { ...key, restore: { id: restore, person, words } };
  gesture({
    person, words, kept, possession: rest.possession,
    send: async (statement) => {
      // Kept before it is announced, and marked: the roster does not have it yet.
      await keep(kept);
      await api.restoreFinish(restore, statement);
    },
    then: () => waiting(kept),
  });
}

/** @param {KeptKey} kept the key is in its place: nothing is under way any more */
function settle({ restore: _, ...kept }) {
  return keep(kept);
}

/** @param {KeptKey} kept */
function waiting(kept) {
  const { id, words } = /** @type {NonNullable<KeptKey["restore"]>} */ (kept.restore);
  return wait("sign in here again", words, () => api.restoreStatus(id), async () => {
    await settle(kept);
    end("good", "The key is restored", "You approve here as before.");
  });
}

/**
 * Somebody signs in with a key that others have not signed yet, or have by now.
 * @param {KeptKey} kept
 * @returns {Promise<unknown>}
 */
export async function resume(kept) {
  try {
    const { state } = await api.restoreStatus(kept.restore?.id ?? "");
    if (state === "wait" || state === "sealed") return await waiting(kept);
  } catch (error) {
    if (describe(error).name === "offline") return failed(error, () => resume(kept));
    // The gateway knows nothing of it any more: begin anew.
  }
  return restore();
}
