// Signing in with a passkey, once in twelve hours. A session shows requests; it approves nothing.

/** @import {SignedIn} from "../types.ts" */
import { api } from "../api.js";
import { digest, toBytes } from "../codec.js";
import { find, sign } from "../device-key.js";
import { button, h, say, screen } from "../dom.js";
import { assertion } from "../webauthn.js";
import { describe, failed, keyLost } from "./end.js";

/** A challenge is good for five minutes; an older one is asked for anew. */
const FRESH_MS = 4 * 60_000;

/**
 * Runs `then` with a session: the present one, or after signing in.
 * @param {(me: SignedIn) => unknown} then
 * @param {string} [why]
 * @returns {Promise<unknown>}
 */
export async function withSession(then, why) {
  try {
    const me = await api.me();
    if (!me.signed_in) return signIn(() => withSession(then), why);
    // Without its device key a profile can't prove a claim; said before a ticket is spent on it.
    if (me.device.assurance !== "D" && !(await find(me.credential_id))) return keyLost();
    await then(me);
  } catch (error) {
    if (describe(error).name === "sign-in-needed") return signIn(() => withSession(then), why);
    failed(error, () => withSession(then, why));
  }
}

/** @param {() => unknown} then @param {string} [why] */
function signIn(then, why = "Then you see the requests that wait for you.") {
  // The challenge is fetched ahead, so that the tap leads straight to the passkey prompt.
  let asked = Date.now();
  let start = api.signInStart();
  start.catch(() => null);
  const note = h("p", { class: "note", role: "alert" });
  const signal = screen({
    name: "sign-in",
    title: ["Sign in"],
    body: [h("p", { class: "lead" }, "Use your passkey: fingerprint, face or screen lock."), h("p", {}, why), note],
    actions: [
      button("Sign in with passkey", async () => {
        note.replaceChildren();
        try {
          if (Date.now() - asked > FRESH_MS) {
            asked = Date.now();
            start = api.signInStart();
          }
          const outcome = await finish(await start, signal);
          if (outcome === "no-key") return keyLost();
          if (typeof outcome === "object") return (await import("./restore.js")).resume(outcome);
          if (outcome === "refused") {
            asked = 0;
            note.replaceChildren(h("strong", {}, "This passkey is not accepted."), " Ask an administrator whether you are still enrolled.");
            return;
          }
          say("Signed in");
          await then();
        } catch (error) {
          asked = 0;
          const { title, hint } = describe(error);
          note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
        }
      }, { class: "main" }),
    ],
  });
}

/**
 * The gateway does not say why it refuses a sign-in; a browser that holds no key for the passkey
 * knows why.
 * @param {Awaited<ReturnType<typeof api.signInStart>>} start
 * @param {AbortSignal} signal
 */
async function finish({ sign_in, nonce, rp_id }, signal) {
  // Hashed here, under its own tag: whatever the gateway sent, this gesture approves nothing.
  const challenge = await digest("sign-in", toBytes(nonce));
  const given = await assertion(challenge, rp_id, null, signal);
  const kept = await find(given.credential_id);
  const device_signature = kept ? await sign(kept, "claim", challenge) : null;
  try {
    await api.signInFinish({ sign_in, ...given, device_signature });
    return "signed-in";
  } catch (error) {
    if (describe(error).name !== "sign-in-needed") throw error;
    if (kept?.restore) return kept;
    return kept ? "refused" : "no-key";
  }
}
