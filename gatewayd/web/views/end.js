// How things end, and what to do next: answers that went through, requests that are over, refusals,
// lost connections.

import { Problem } from "../api.js";
import { Malformed } from "../codec.js";
import { button, h, screen } from "../dom.js";
import { NoGesture } from "../webauthn.js";
import { inbox } from "./inbox.js";

/** What people read when a request is over, by the problem's name. */
const OVER = new Map([
  ["denied", ["Denied", "Somebody denied this request. Nothing runs."]],
  ["denial-present", ["Denied", "Somebody denied this request. Nothing runs."]],
  ["expired", ["Too late", "Nobody answered in time. Nothing runs."]],
  ["cancelled", ["Taken back", "The requester gave up. Nothing runs."]],
  ["revoked", ["Revoked", "An administrator ended this request. Nothing runs."]],
  ["claim-over", ["Your time to answer is over", "To approve, scan the code that the terminal shows now. To deny, no new code is needed."]],
  ["slot-taken", ["Somebody else is answering", "If a second approver is needed, scan the next code that the terminal shows."]],
  ["already-approved", ["You have already approved", "It runs as soon as two people have approved."]],
  ["not-pending", ["No longer waiting", "This request has been answered or is over."]],
  ["ticket-unknown", ["This code is not valid", "Scan the code that the terminal shows now."]],
  ["ticket-over", ["This code is no longer valid", "It changes every 30 seconds. Scan the one that the terminal shows now."]],
  ["proposal-over", ["No longer open", "This change holds by now, or was declined, or its time was over."]],
  ["code-exhausted", ["Too many wrong codes", "The requester must ask anew."]],
]);

/** Refusals that a second try does not change, besides those in `OVER`. */
const FINAL = new Set([
  "sign-in-needed", "not-found", "device-signature", "malformed", "cross-site", "roster-expired", "approver-unknown",
  "approver-is-requester", "approver-not-eligible", "assurance-too-low", "same-person", "same-device",
  "same-client-class", "evidence-malformed", "evidence-other-request",
]);

/**
 * Whether this refusal ends the matter; everything else may pass.
 * @param {string} name
 */
export const isFinal = (name) => OVER.has(name) || FINAL.has(name);

const toInbox = () => button("Open the inbox", inbox, { class: "quiet" });

/**
 * An end: nothing more to do here.
 * @param {"good" | "bad" | "calm"} mood
 * @param {string} title
 * @param {string} text
 * @param {HTMLElement[]} [actions]
 */
export function end(mood, title, text, actions = []) {
  const sign = mood === "good" ? "✓" : mood === "bad" ? "✕" : "–";
  return screen({
    name: `end-${mood}`,
    title: [title],
    body: [h("p", { class: `seal ${mood}`, "aria-hidden": "true" }, sign), h("p", { class: "lead" }, text)],
    actions: [...actions, toInbox()],
  });
}

/**
 * @param {string} state
 * @param {string} who
 * @param {(show: (actions: HTMLElement[]) => AbortSignal) => AbortSignal} turnable shows an end with the way to deny after all
 */
export function answered(state, who, turnable) {
  /** @param {string} title @param {string} text */
  const good = (title, text) => turnable((actions) => end("good", title, text, actions));
  if (state === "granted") return good("Approved by two", `${who}’s command runs now.`);
  if (state === "approved") {
    return good("Approved. Now the host", "Two people have approved, but the host is not connected. It runs if the host comes back in time.");
  }
  if (state === "approved_first") {
    return good("Approved. Now a second person", "The terminal shows a fresh code for somebody else to scan. Nothing runs until then.");
  }
  return end("bad", "You denied it", "Nothing runs. The requester sees your answer.");
}

/** @param {string} problem its name @param {HTMLElement[]} [actions] */
export function over(problem, actions) {
  const [title, text] = OVER.get(problem) ?? ["No longer waiting", "This request is over."];
  return end(problem.startsWith("deni") ? "bad" : "calm", title ?? "", text ?? "", actions);
}

/** @param {string} text */
const sentence = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

/**
 * A refusal or fault in words.
 * @param {unknown} error
 * @returns {{name: string, title: string, hint: string}}
 */
export function describe(error) {
  if (error instanceof Problem) {
    const wait = error.retryAfter === null ? "" : ` Try again in ${error.retryAfter} s.`;
    return { name: error.name, title: sentence(error.title), hint: `${sentence(error.hint)}${/[.!?]$/.test(error.hint) ? "" : "."}${wait}` };
  }
  if (error instanceof NoGesture) {
    return { name: "no-gesture", title: "Not confirmed", hint: "The passkey prompt was closed or took too long. Nothing was sent. Try again when you are ready." };
  }
  if (error instanceof Malformed) {
    return { name: "malformed", title: "This cannot be shown safely", hint: "The gateway sent something that is not as it should be. Nothing was signed. Tell your security team." };
  }
  return { name: "fault", title: "Something went wrong on this page", hint: "Nothing was sent. Reload the page and try again." };
}

/**
 * A refusal, with a way on.
 * @param {unknown} error
 * @param {() => unknown} [again]
 */
export function failed(error, again) {
  const { name, title, hint } = describe(error);
  if (OVER.has(name)) return over(name);
  if (name === "device-signature") return keyLost();
  const signal = screen({
    name: "problem",
    title: [title],
    body: [h("p", { class: "lead" }, hint)],
    actions: [again ? button("Try again", again, { class: "main" }) : null, toInbox()],
  });
  if (name === "offline" && again) addEventListener("online", () => again(), { signal, once: true });
  return signal;
}

/** This browser profile does not hold the device key that was enrolled with the passkey. */
export function keyLost() {
  return screen({
    name: "key-lost",
    title: ["This browser has no device key"],
    body: [
      h("p", { class: "lead" }, "Approving takes your passkey and a second key, stored in one browser when you enrolled. This browser does not hold it."),
      h("ul", { class: "steps" },
        h("li", {}, "Use the phone and browser in which you enrolled, not a private window."),
        h("li", {}, "If its data was deleted, restore the key here. That takes your passkey, and one other approver who compares a few words with you."),
      ),
    ],
    actions: [
      button("Restore the key here", async () => (await import("./restore.js")).restore(), { class: "main" }),
      toInbox(),
    ],
  });
}
