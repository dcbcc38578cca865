// What waits for this person: requests, for those who can't see the terminal (they type the six
// digits that the requester reads to them), and changes to the roster.

/** @import {ProposalSummary, SignedIn, Waiting} from "../types.ts" */
import { api } from "../api.js";
import { toBytes } from "../codec.js";
import { find, sign } from "../device-key.js";
import { button, corner, every, h, say, screen, shown } from "../dom.js";
import { clock, roughly } from "../words.js";
import { describe, failed } from "./end.js";
import { request } from "./request.js";
import { withSession } from "./sign-in.js";
import { visit } from "./way.js";

/** @returns {Promise<unknown>} */
export const inbox = () => withSession(show);

/** @param {SignedIn} me */
function show(me) {
  const list = h("ul", { class: "cards", "aria-label": "Requests" });
  const quiet = h("p", { class: "note", role: "status" });
  const changes = h("section", {});
  const signal = screen({
    name: "inbox",
    title: ["Waiting for you"],
    body: [list, quiet, changes, h("p", { class: "hint" }, "In front of the terminal? Scan its code with the camera instead.")],
    actions: [button("People and devices", () => visit("people"))],
  });
  corner(h("span", {}, me.person.name), button("Sign out", signOut, { class: "link" }));
  signal.addEventListener("abort", () => corner());

  let before = "";
  const refresh = async () => {
    try {
      const { requests } = await api.inbox();
      if (signal.aborted) return;
      quiet.textContent = requests.length ? "" : "No requests right now. This page looks again by itself.";
      const now = requests.map((one) => `${one.request} ${one.approved}`).join();
      if (now !== before) {
        before = now;
        list.replaceChildren(...requests.map((one) => h("li", {}, card(one))));
        say(requests.length === 1 ? "One request waits" : `${requests.length} requests wait`);
      }
      for (const [i, one] of requests.entries()) {
        const left = list.children[i]?.querySelector(".left");
        if (left) left.textContent = `${clock(one.left_s)} left`;
      }
    } catch (error) {
      if (signal.aborted) return;
      const { name, title } = describe(error);
      if (name === "sign-in-needed") return inbox();
      quiet.textContent = `${title}. Trying again.`;
    }
  };
  const proposed = async () => {
    const { proposals } = await api.proposals().catch(() => ({ proposals: [] }));
    const mine = proposals.filter((one) => one.may_sign && one.why_not === null);
    if (!signal.aborted) changes.replaceChildren(...waitingChanges(mine));
  };
  every(signal, 4, refresh);
  every(signal, 12, proposed);
  return Promise.all([refresh(), proposed()]);
}

/**
 * Changes of the roster that wait for signatures, as cards that open them.
 * @param {ProposalSummary[]} proposals
 * @param {string} [title]
 * @returns {Node[]} none for none
 */
export const waitingChanges = (proposals, title = "Changes to sign") =>
  proposals.length
    ? [
        h("h2", {}, title),
        h("ul", { class: "cards" }, ...proposals.map((one) => {
          const open = button("", () => visit("proposal", one.id), { class: "card change" });
          const by = one.proposed_by === null ? "by the command line" : `by ${one.proposed_by}`;
          open.append(
            h("span", { class: "who" }, shown(one.title)),
            h("span", { class: "meta" }, `${one.signatures.length} of ${one.needs} signed · ${by} · ${roughly(one.left_s)} left`),
          );
          return h("li", {}, open);
        })),
      ]
    : [];

/** @param {Waiting} one */
function card(one) {
  const open = button("", () => code(one), { class: "card" });
  open.append(
    h("span", { class: "who" }, shown(one.requester), " on ", shown(one.host), " as ", shown(one.target)),
    h("code", {}, shown(one.summary)),
    one.reason === null ? "" : h("span", { class: "reason" }, "“", shown(one.reason), "”"),
    h("span", { class: "meta" }, h("span", { class: "left" }), one.approved ? ` · ${one.approved} of 2 approved` : ""),
  );
  return open;
}

/** @param {Waiting} one */
function code(one) {
  history.pushState(null, "", "/");
  const note = h("p", { class: "note", id: "code-note", role: "alert" });
  const input = h("input", {
    id: "code", name: "code", inputmode: "numeric", autocomplete: "off", maxlength: "7", pattern: "[0-9]{3} ?[0-9]{3}",
    placeholder: "000 000", "aria-describedby": "code-note", enterkeyhint: "go",
  });
  const go = () => {
    const digits = input.value.replaceAll(/\s/g, "");
    note.replaceChildren();
    if (!/^\d{6}$/.test(digits)) {
      note.replaceChildren("The code has six digits.");
      input.focus();
      return;
    }
    return withSession(async (me) => {
      try {
        await claim(me, one, digits);
      } catch (error) {
        const { name, title, hint } = describe(error);
        if (name !== "code-wrong") return failed(error, () => code(one));
        note.replaceChildren(h("strong", {}, `${title}.`), " ", hint);
        input.select();
      }
    });
  };
  const show = button("Show the request", go, { class: "main" });
  const signal = screen({
    name: "code",
    title: ["Type the terminal’s code"],
    body: [
      h("p", { class: "lead" }, "Call ", h("strong", {}, shown(one.requester)), " and ask for the six digits under the QR code. That shows that you speak about the same request."),
      h("label", { for: "code" }, "Six digits"),
      input,
      note,
    ],
    actions: [button("Back", () => history.back(), { class: "quiet" }), show],
  });
  input.addEventListener("keydown", (event) => void (event.key === "Enter" && !event.repeat && show.click()), { signal });
  input.focus();
}

/** @param {SignedIn} me @param {Waiting} one @param {string} digits */
async function claim(me, one, digits) {
  const kept = await find(me.credential_id);
  const nonce = toBytes(me.claim_nonce);
  const device_signature = kept ? await sign(kept, "claim", nonce, toBytes(one.request)) : null;
  const claimed = await api.inboxClaim({ request: one.request, code: digits, claim_nonce: me.claim_nonce, device_signature });
  await request(claimed, me, kept, null);
}

async function signOut() {
  try {
    await api.signOut();
  } catch (error) {
    return failed(error, inbox);
  }
  await inbox();
}
