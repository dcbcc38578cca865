// A proposed change of the roster: every difference in clear text, from the bytes themselves; the
// words of new devices and hosts, to be compared by voice; then Sign or Decline.

/** @import {KeptKey, Piece, Proposal} from "../types.ts" */
/** @import {Read} from "../proposal.js" */
import { api } from "../api.js";
import { rosterStatement } from "../codec.js";
import { find } from "../device-key.js";
import { button, corner, every, h, rich, say, screen } from "../dom.js";
import { readProposal } from "../proposal.js";
import { ROSTER, signed } from "../webauthn.js";
import { roughly } from "../words.js";
import { changeCard, crowds, date, isGrave, sentence, spoken, wordList } from "./changes.js";
import { describe, end, failed } from "./end.js";
import { watch } from "./seen.js";
import { withSession } from "./sign-in.js";

/** @param {string} id @param {string} [news] why it is shown again */
export const proposal = (id, news) =>
  withSession(async (me) => {
    const [given, head, kept] = await Promise.all([api.proposal(id), api.roster(), find(me.credential_id)]);
    show(given, await readProposal(given, head, me, kept), kept, news ?? null);
  }, "Then you see the change that waits for your signature.");

/**
 * Signs what was read; the browser's prompt is the question.
 * @param {string} id
 * @param {Read} read
 * @param {KeptKey | undefined} kept
 * @param {AbortSignal} signal
 */
export async function sign(id, { base, statement }, kept, signal) {
  if (statement === null) throw new Error("not for this person");
  const given = await signed(rosterStatement(statement), ROSTER, base.rp_id, statement.credential_id, kept, signal);
  return api.signProposal(id, given);
}

/** @param {Read} read @returns {Piece[]} */
function heading({ changes, base, next }) {
  const [first] = changes;
  if (changes.length === 1 && first) return sentence(first, base, next);
  return [`${changes.length} changes to the roster`];
}

/** Why this person can't sign, by the refusal's name. */
const WHY_NOT = new Map([
  ["already-approved", "You have signed. Another person must sign too."],
  ["approver-not-eligible", "You can read this, but not sign it."],
]);

/**
 * @param {Proposal} given
 * @param {Read} read
 * @param {KeptKey | undefined} kept
 * @param {string | null} news
 */
function show(given, read, kept, news) {
  const { changes, base, next } = read;
  const note = h("p", { class: "note", role: "alert" });
  const status = h("p", { class: "status" });
  const unseen = h("span", { id: "unseen" }, "Read all of it first.");
  const names = given.signatures.map(({ name }) => name);
  /** @type {Element[]} */
  const ends = [];
  const mark = () => {
    const end = h("i", { class: "end" });
    ends.push(end);
    return end;
  };
  /** @type {HTMLInputElement[]} */
  const heard = [];
  const crowd = crowds(changes, (line) => line.append(mark()));
  const cards = crowd.rest.map((change, i) => {
    const said = spoken(change, next);
    const box = h("input", { type: "checkbox", id: `heard-${i}` });
    if (said && given.statement) heard.push(box);
    const compare = said && h("div", { class: "compare" }, h("p", {}, ...rich(said.ask)), wordList(said.words), mark(),
      given.statement ? h("label", { class: "check", for: box.id }, box, h("span", {}, ...rich(said.confirm))) : null);
    // Alone, its sentence is the heading.
    const title = changes.length > 1 ? rich(sentence(change, base, next)) : null;
    const card = changeCard(change, title, isGrave(change), compare);
    card.append(mark());
    return card;
  });
  const signable = given.statement !== null;
  const go = button("Sign", async () => {
    if (!seen.all()) return seen.next();
    const unheard = heard.find((box) => !box.checked);
    if (unheard) {
      unheard.scrollIntoView({ block: "center" });
      note.replaceChildren("Compare the words first, by voice: a phone call, not a message.");
      return;
    }
    note.replaceChildren();
    try {
      const { state, needs, signatures } = await sign(given.id, read, kept, signal);
      settled(state === "sealed", needs - signatures, next.version);
    } catch (error) {
      const { name, title, hint } = describe(error);
      if (name === "no-gesture" && signal.aborted) return;
      if (name === "already-approved") return proposal(given.id);
      if (name === "proposal-changed") return proposal(given.id, "The roster has changed meanwhile. Read this again.");
      if (name !== "no-gesture" && name !== "offline") return failed(error);
      note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
    }
  }, { class: "approve", "aria-disabled": "true", "aria-describedby": "unseen" });
  const decline = button("Decline", async () => {
    try {
      await api.withdraw(given.id);
      end("bad", "You declined it", "The change is off. Whoever wants it must propose it anew.");
    } catch (error) {
      failed(error);
    }
  }, { class: "deny" });

  const by = given.proposed_by === null ? "on the gateway’s command line" : `by ${given.proposed_by}`;
  const signal = screen({
    name: "proposal",
    title: rich(heading(read)),
    body: [
      news === null ? null : h("p", { class: "news", role: "alert" }, news),
      given.contested ? contested() : null,
      h("p", { class: "meta" }, `Proposed ${by} ${given.age_s < 60 ? "just now" : `${roughly(given.age_s)} ago`}. `, invited(given), names.length ? `Signed by ${names.join(" and ")}.` : "Nobody has signed yet."),
      kindWords(given),
      h("ul", { class: "cards differences", "aria-label": "Every difference" }, ...crowd.cards, ...cards),
      h("p", { class: "meta" }, `Roster version ${base.version} becomes ${next.version}, valid until ${date(next.expires_at)}. Nothing else changes.`),
    ],
    actions: signable
      ? [note, h("div", { class: "line" }, status, unseen), h("div", { class: "pair" }, given.may_withdraw ? decline : back(), go)]
      : [note, h("p", { class: "status" }, WHY_NOT.get(given.why_not ?? "") ?? "You cannot sign this."), status,
        given.may_withdraw ? h("div", { class: "pair" }, decline, back()) : back()],
  });
  corner(h("span", {}, `${given.signatures.length} of ${given.needs} signed`));
  signal.addEventListener("abort", () => corner());
  const seen = watch(ends, signal, () => {
    go.removeAttribute("aria-disabled");
    unseen.replaceChildren(given.needs - names.length > 1 ? "A second person must sign too." : "Your signature is the last one needed.");
    say("You have seen all of it. You can sign now.");
  });
  follow(given, signal, status);
}

const back = () => button("Back", () => history.back());

/** @param {Proposal} given */
const invited = ({ invited_by }) =>
  invited_by === null ? "" : `Invited ${invited_by.name === null ? "on the gateway’s command line" : `by ${invited_by.name}`}. `;

const contested = () =>
  h("ul", { class: "warnings" }, h("li", { class: "grave" }, h("strong", {}, "A second browser opened the invite"),
    "Somebody may have enrolled in the invited person’s place. Sign only if the words match, heard by voice from the person you know."));

/** @param {Proposal} given */
const kindWords = ({ kind }) =>
  kind === "suspension"
    ? h("p", {}, "One signature is enough to suspend. Two others can lift it.")
    : kind === "restoration"
      ? h("p", {}, "Their passkey is the same as before; the key that their browser dropped is made anew. One signature of somebody else is enough.")
      : null;

/** @param {boolean} sealed @param {number} missing @param {number} version */
const settled = (sealed, missing, version) =>
  sealed
    ? end("good", "The roster is changed", `Version ${version} holds from now on, at every host.`)
    : end("good", "You have signed", `${missing === 1 ? "One more person" : `${missing} more people`} must sign before it holds.`);

/**
 * Notices what others do to it.
 * @param {Proposal} given
 * @param {AbortSignal} signal
 * @param {HTMLElement} status
 */
function follow(given, signal, status) {
  const until = performance.now() + 1000 * given.left_s;
  const tick = () => {
    const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    status.textContent = left > 3600 ? "" : `${roughly(left)} left`;
  };
  const poll = async () => {
    try {
      const { proposals } = await api.proposals();
      const now = proposals.find((one) => one.id === given.id);
      if (signal.aborted) return;
      if (now && now.base_version !== given.base.version) {
        return proposal(given.id, "The roster has changed meanwhile. Read this again.");
      }
      if (now) return corner(h("span", {}, `${now.signatures.length} of ${now.needs} signed`));
      const head = await api.roster();
      if (signal.aborted) return;
      if (head.digest === given.next.digest) return settled(true, 0, head.version);
      end("calm", "No longer open", "Somebody declined this change, or its time was over.");
    } catch (error) {
      if (!signal.aborted && describe(error).name === "sign-in-needed") failed(error, () => proposal(given.id));
    }
  };
  tick();
  every(signal, 1, tick);
  every(signal, 4, poll);
}
