// Calls to the gateway: JSON in and out, refusals as problems (RFC 9457). Never decides anything.

/** @import {Claim, ClaimState, EnrolStart, EnrolStatus, Enrolled, Invite, Me, NewPerson, Proposal, Restore,
 *   RestoreStatus, RosterHead, SignedProposal, SignedStatement} from "./types.ts" */

/** A refusal, by its name in the one table of refusals, or `offline`. */
export class Problem extends Error {
  /**
   * @param {string} name
   * @param {string} title
   * @param {string} hint
   * @param {number | null} retryAfter seconds
   */
  constructor(name, title, hint, retryAfter = null) {
    super(title);
    this.name = name;
    this.title = title;
    this.hint = hint;
    this.retryAfter = retryAfter;
  }
}

const PREFIX = "urn:twinlock:problem:";

/**
 * @param {string} path
 * @param {object} [body] makes it a POST
 * @param {boolean} [keepalive] outlives the page
 * @returns {Promise<any>}
 */
async function call(path, body, keepalive = false) {
  /** @type {Response} */
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method: body ? "POST" : "GET",
      headers: body ? { "content-type": "application/json", "x-twinlock": "1" } : {},
      body: body ? JSON.stringify(body) : null,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      keepalive,
      signal: AbortSignal.timeout(15_000),
    });
    if (response.ok) return await response.json();
  } catch {
    throw new Problem("offline", "No connection to the gateway", "Check your network, then try again.");
  }
  const problem = await response.json().catch(() => null);
  const { type, title, detail, retry_after_s } = problem ?? {};
  if (typeof type === "string" && type.startsWith(PREFIX)) {
    throw new Problem(type.slice(PREFIX.length), String(title), String(detail), retry_after_s ?? null);
  }
  throw new Problem("internal", `The gateway answered ${response.status}`, "Try again in a moment.");
}

export const api = {
  /** @returns {Promise<Me>} */
  me: () => call("me"),
  /** @returns {Promise<{sign_in: string, nonce: string, rp_id: string}>} */
  signInStart: () => call("sign-in/start", {}),
  /** @param {object} body */
  signInFinish: (body) => call("sign-in/finish", body),
  signOut: () => call("sign-out", {}),
  /** @param {object} body @returns {Promise<Claim>} */
  claim: (body) => call("claim", body),
  /** @returns {Promise<{requests: import("./types.ts").Waiting[]}>} */
  inbox: () => call("inbox"),
  /** @param {object} body @returns {Promise<Claim>} */
  inboxClaim: (body) => call("inbox/claim", body),
  /** @param {string} claim @returns {Promise<ClaimState>} */
  claimState: (claim) => call(`claims/${encodeURIComponent(claim)}`),
  /**
   * @param {string} claim
   * @param {SignedStatement} signed
   * @returns {Promise<{state: "approved_first" | "granted" | "approved" | "denied"}>}
   */
  answer: (claim, signed) => call("answer", { claim, signed }),
  /** Lets the slot reopen; also while the page goes away. @param {string} claim */
  release: (claim) => call("release", { claim }, true).catch(() => null),
  /** @param {string} invite @returns {Promise<EnrolStart>} */
  enrolStart: (invite) => call("enrol/start", { invite }),
  /** @param {object} body @returns {Promise<Enrolled>} */
  enrolFinish: (body) => call("enrol/finish", body),
  /** @param {string} invite @returns {Promise<EnrolStatus>} */
  enrolStatus: (invite) => call("enrol/status", { invite }),
  /** @param {string} invite @param {SignedStatement} signed */
  enrolSign: (invite, signed) => call("enrol/sign", { invite, signed }),
  /** @param {string} enrol @param {SignedStatement} signed @returns {Promise<{state: string}>} */
  enrolPossession: (enrol, signed) => call("enrol/possession", { enrol, signed }),
  /** @param {object} body @returns {Promise<Restore>} */
  restoreStart: (body) => call("restore/start", body),
  /** @param {string} restore @param {SignedStatement} signed @returns {Promise<{state: string}>} */
  restoreFinish: (restore, signed) => call("restore/finish", { restore, signed }),
  /** @param {string} restore @returns {Promise<RestoreStatus>} */
  restoreStatus: (restore) => call("restore/status", { restore }),
  /** @returns {Promise<RosterHead>} */
  roster: () => call("roster"),
  /** @returns {Promise<{proposals: import("./types.ts").ProposalSummary[]}>} */
  proposals: () => call("roster/proposals"),
  /** @param {string} id @returns {Promise<Proposal>} */
  proposal: (id) => call(`roster/proposals/${encodeURIComponent(id)}`),
  /** @param {string} id @param {SignedStatement} signed @returns {Promise<SignedProposal>} */
  signProposal: (id, signed) => call(`roster/proposals/${encodeURIComponent(id)}/sign`, { signed }),
  /** @param {string} id */
  withdraw: (id) => call(`roster/proposals/${encodeURIComponent(id)}/withdraw`, {}),
  /** @param {string} person @returns {Promise<Proposal>} */
  suspend: (person) => call("roster/suspend", { person }),
  /** @param {string} person @returns {Promise<Proposal>} */
  lift: (person) => call("roster/lift", { person }),
  /** @param {string} person @param {string | null} device null: the person @returns {Promise<Proposal>} */
  remove: (person, device) => call("roster/remove", { person, device }),
  /** @returns {Promise<Proposal>} */
  renew: () => call("roster/renew", {}),
  /** @param {string} person @param {NewPerson | null} fresh null: the roster has this person @returns {Promise<Invite>} */
  invite: (person, fresh) => call("invites", { person, new: fresh }),
  /** @returns {Promise<{invites: import("./types.ts").InviteLine[]}>} */
  invites: () => call("invites"),
  /** @param {string} invite */
  cancelInvite: (invite) => call(`invites/${encodeURIComponent(invite)}/cancel`, {}),
};
