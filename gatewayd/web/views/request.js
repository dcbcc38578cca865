// One request: what is asked, in plain words and to the letter, and the answer. Everything shown
// comes from the request's bytes, whose digest is computed here; the answer signs that digest.

/** @import {Claim, KeptKey, Request, SignedIn} from "../types.ts" */
import { api } from "../api.js";
import { Malformed, approvalStatement, digest, readRequest, toBytes, toText, utf8 } from "../codec.js";
import { find, sign } from "../device-key.js";
import { button, corner, every, h, marked, rich, say, screen, shown } from "../dom.js";
import { argumentSegments } from "../escape.js";
import { APPROVAL, signed } from "../webauthn.js";
import { clock, commandOf, duration, headline, lifetimes, logins, names, plain, target, warnings } from "../words.js";
import { answered, describe, end, failed, isFinal, over } from "./end.js";
import { watch } from "./seen.js";
import { withSession } from "./sign-in.js";

/** The reason of a denial, in bytes of UTF-8. */
const REASON_BYTES = 400;

/** What ends a claim's approval and leaves its denial. */
const TURNS = new Set(["claim-over", "already-approved"]);

/**
 * A scanned ticket: claim its slot and show the request.
 * @param {string} ticket
 */
export const scanned = (ticket) =>
  withSession(async (me) => {
    const kept = await find(me.credential_id);
    const nonce = toBytes(me.claim_nonce);
    const device_signature = kept ? await sign(kept, "claim", nonce, utf8(ticket)) : null;
    const claimed = await api.claim({ ticket, claim_nonce: me.claim_nonce, device_signature });
    await request(claimed, me, kept, ticket);
  }, "Then you see the request that you scanned.");

/**
 * Shows a claimed request; refuses to show one whose parts do not belong together.
 * @param {Claim} claim
 * @param {SignedIn} me
 * @param {KeptKey | undefined} kept
 * @param {string | null} ticket null: by the inbox
 */
export async function request(claim, me, kept, ticket) {
  try {
    const bytes = toBytes(claim.request);
    const asked = readRequest(bytes);
    const { statement } = claim;
    const channel = ticket === null ? { inbox: {} } : { ticket: toText(await digest("ticket", utf8(ticket))) };
    const belongs =
      statement.request_digest === toText(await digest("request", bytes)) &&
      statement.person === me.person.id &&
      statement.credential_id === me.credential_id &&
      statement.device_id === me.device.id &&
      JSON.stringify(statement.channel) === JSON.stringify(channel) &&
      asked.host === claim.host.id;
    if (!belongs) throw new Malformed("claim");
    show(claim, asked, kept);
  } catch (error) {
    void api.release(claim.claim);
    failed(error);
  }
}

/**
 * @param {Claim} claim
 * @param {Request} asked
 * @param {KeptKey | undefined} kept
 */
function show(claim, asked, kept) {
  const who = plain(names(claim.requesters));
  const command = exact(asked);
  const life = lifetime(asked, claim);
  const why = h("input", { id: "deny-reason", maxlength: "200", autocomplete: "off", placeholder: "Optional" });
  const status = h("p", { class: "status" });
  const note = h("p", { class: "note", role: "alert" });
  /** The gateway has taken an answer: there is nothing left to give back. */
  let taken = false;
  /** A denial is on its way: it counts even when the time to answer is over. */
  let denying = false;

  /**
   * One gesture, one answer.
   * @param {"approve" | "deny"} decision
   * @param {AbortSignal} shown the screen that asks for it
   */
  const give = async (decision, shown) => {
    const statement = approvalStatement({
      ...claim.statement,
      decision,
      ttl_s: life.value(),
      scope: asked.scope,
      deny_reason: decision === "deny" ? reasonOf(why.value) : null,
    });
    const { credential_id } = claim.statement;
    const given = await signed(statement, APPROVAL, kept?.rp_id ?? location.hostname, credential_id, kept, shown);
    return (await api.answer(claim.claim, given)).state;
  };

  /** @param {"approve" | "deny"} decision */
  const answer = async (decision) => {
    note.replaceChildren();
    denying = decision === "deny";
    try {
      const state = await give(decision, signal);
      taken = true;
      answered(state, who, (show) => denial("Deny after all", "quiet", show));
    } catch (error) {
      const { name, title, hint } = describe(error);
      if (name === "no-gesture" && signal.aborted) return;
      if (TURNS.has(name)) return turn(name);
      if (isFinal(name)) return failed(error);
      note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
    } finally {
      denying = false;
    }
  };

  /**
   * An end at which this claim can still be used to deny.
   * @param {string} label
   * @param {string} look
   * @param {(actions: HTMLElement[]) => AbortSignal} show
   */
  const denial = (label, look, show) => {
    const trouble = h("p", { class: "note", role: "alert" });
    const deny = button(label, async () => {
      trouble.replaceChildren();
      try {
        answered(await give("deny", last), who, (plainly) => plainly([]));
      } catch (error) {
        const { name, title, hint } = describe(error);
        if (name === "no-gesture" && last.aborted) return;
        if (name === "not-pending") return end("calm", "Too late to deny", "It runs already, or is over. An administrator can revoke what runs.");
        if (isFinal(name)) return failed(error);
        trouble.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
      }
    }, { class: look });
    const last = show([trouble, deny]);
    return last;
  };

  /** @param {string} problem with this claim, whose holder may still deny */
  const turn = (problem) => {
    const [label, look] = problem === "claim-over" ? ["Deny it", "deny"] : ["Deny after all", "quiet"];
    return denial(label, look, (actions) => over(problem, actions));
  };

  const approve = button("Approve", () => (seen.all() ? answer("approve") : seen.next()), {
    class: "approve", "aria-disabled": "true", "aria-describedby": "unseen",
  });
  const unseen = h("span", { id: "unseen" }, "Read the whole command first.");

  const signal = screen({
    name: "request",
    title: rich(headline(asked, claim)),
    body: [
      h("ul", { class: "warnings", "aria-label": "Know before you answer" },
        ...warnings(asked, claim).map(({ grave, title, text }) =>
          h("li", { class: grave ? "grave" : "mild" }, h("strong", {}, ...rich(title), grave ? "" : ". "), ...rich(text)))),
      reason(asked, who),
      facts(asked, claim),
      h("h2", { id: "exact" }, "The exact command"),
      command.element,
      life.element,
      h("div", { class: "field" }, h("label", { for: "deny-reason" }, "If you deny: why?"), why),
    ],
    actions: [note, h("div", { class: "line" }, status, unseen), h("div", { class: "pair" }, button("Deny", () => answer("deny"), { class: "deny" }), approve)],
  });
  corner(h("span", {}, claim.approved.length ? "Second approval" : "First of two approvals"));
  signal.addEventListener("abort", () => corner());

  const seen = watch(command.ends, signal, () => {
    approve.removeAttribute("aria-disabled");
    unseen.replaceChildren(claim.approved.length ? "Runs as soon as you approve." : "A second person must agree too.");
    say("You have seen the whole command. You can approve now.");
  });

  countdown(claim, asked, signal, status, (problem) => {
    if (denying && (problem === "claim-over" || problem === "not-pending")) return;
    if (typeof problem !== "string") failed(problem);
    else if (TURNS.has(problem)) turn(problem);
    else over(problem);
  });
  // Whoever leaves without an answer lets somebody else answer.
  const leave = () => void (taken || api.release(claim.claim));
  addEventListener("pagehide", leave, { signal });
  signal.addEventListener("abort", leave);
}

/** @param {Request} asked @param {string} who */
const reason = (asked, who) =>
  asked.reason === null
    ? h("p", { class: "no-reason" }, "No reason was given.")
    : h("figure", { class: "reason" }, h("figcaption", {}, `The reason, in ${who}’s own words. Nobody has checked it.`), h("blockquote", {}, shown(asked.reason)));

/** @param {Request} asked @param {Claim} claim */
function facts(asked, claim) {
  /** @param {string} term @param {(Node | string)[]} value */
  const row = (term, ...value) => h("div", {}, h("dt", {}, term), h("dd", {}, ...value));
  const uid = asked.target.uid === 0 ? ", may do everything" : ` (user number ${asked.target.uid})`;
  return h("dl", {},
    row("Who", ...rich(names(claim.requesters)), ", ", ...rich(logins(asked))),
    row("As", ...rich(target(asked)), uid),
    row("Where", h("strong", {}, shown(claim.host.name)), asked.cwd === null ? "" : " in ", asked.cwd === null ? "" : shown(asked.cwd)),
    row("By", shown(asked.service), asked.tty === null ? ", no terminal" : ", terminal ", asked.tty === null ? "" : shown(asked.tty)),
    claim.approved.length ? row("Approved", ...claim.approved.flatMap(({ name, age_s }) => [h("strong", {}, shown(name)), ` ${duration(age_s)} ago`])) : "",
  );
}

/**
 * The argument vector, one argument per line, with marks whose being in view means that the text
 * before them was.
 * @param {Request} asked
 */
function exact(asked) {
  /** @type {Element[]} */
  const ends = [];
  const own = asked.argv.length - commandOf(asked).length;
  const lines = asked.argv.map((arg, i) => {
    const line = h("li", { class: asked.view.command_at !== null && i < own ? "option" : "word" });
    let length = 0;
    const mark = () => {
      const end = h("i", { class: "end" });
      ends.push(end);
      line.append(end);
    };
    for (const { text, kind } of argumentSegments(arg)) {
      for (const [part] of text.matchAll(/.{1,200}/gsu)) {
        if (length + part.length > 200) {
          mark();
          length = 0;
        }
        line.append(...marked([{ text: part, kind }]));
        length += part.length;
      }
    }
    mark();
    return line;
  });
  return { element: h("ol", { class: "argv", "aria-labelledby": "exact", translate: "no" }, ...lines), ends };
}

/** @param {Request} asked @param {Claim} claim */
function lifetime(asked, claim) {
  const choices = lifetimes(asked.ttl_s, claim.max_ttl_s);
  const longest = choices.at(-1) ?? asked.ttl_s;
  const inputs = choices.map((seconds) => h("input", { type: "radio", name: "life", id: `life-${seconds}`, value: seconds, checked: seconds === longest }));
  const element = h("fieldset", { class: "life" }, h("legend", {}, "It may run for at most"),
    h("div", { class: "choices" }, ...inputs.flatMap((input) => [input, h("label", { for: input.id }, duration(Number(input.value)))])));
  return { element, value: () => Number(inputs.find((input) => input.checked)?.value ?? longest) };
}

/** Cut to what a statement holds, at a character. @param {string} text */
function reasonOf(text) {
  let reason = text.replaceAll(/\p{Cs}/gu, "").trim();
  while (utf8(reason).length > REASON_BYTES) reason = [...reason].slice(0, -1).join("");
  return reason || null;
}

/**
 * Counts the claim's lease and the request's end down, and asks the gateway how the claim stands.
 * @param {Claim} claim
 * @param {Request} asked
 * @param {AbortSignal} signal
 * @param {HTMLElement} status
 * @param {(problem: unknown) => void} finish by a problem's name, or an error
 */
function countdown(claim, asked, signal, status, finish) {
  let until = performance.now() + 1000 * Math.min(claim.lease_s, claim.left_s, asked.approve_by_s);
  let trouble = "";
  const tick = () => {
    const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    status.textContent = trouble ? `${trouble}. Trying again.` : `${clock(left)} left`;
    status.classList.toggle("urgent", left <= 20);
    if (left === 30 || left === 10) say(`${left} seconds left to answer`);
    if (left === 0) finish("claim-over");
  };
  const poll = async () => {
    try {
      const now = await api.claimState(claim.claim);
      trouble = "";
      if (signal.aborted) return;
      if (now.state === "over") return finish(now.problem);
      until = performance.now() + 1000 * Math.min(now.lease_s, now.left_s);
    } catch (error) {
      if (signal.aborted) return;
      const { name, title } = describe(error);
      if (name === "not-found") finish("not-pending");
      else if (isFinal(name)) finish(error);
      else trouble = title;
    }
  };
  tick();
  every(signal, 1, tick);
  every(signal, 3, poll);
}
