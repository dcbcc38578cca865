// A proposed change of the roster, checked before anything of it is shown: what stands today and
// what would stand are both read from their bytes, hashed here, and must belong together. Never
// trusts the gateway's own words about a change.

/** @import {B64, KeptKey, Proposal, Roster, RosterHead, RosterStatement, SignedIn} from "./types.ts" */
import { changes } from "./changes.js";
import { Malformed, digest, toBytes, toText } from "./codec.js";
import { readRoster } from "./roster.js";

/** @typedef {import("./changes.js").Change} Change */
/**
 * @typedef {object} Read
 * @property {Roster} base what stands
 * @property {Roster} next what would stand
 * @property {B64} digest of `next`
 * @property {Change[]} changes every difference
 * @property {RosterStatement | null} statement what this person would sign
 */

/**
 * Bytes that are what they are said to be.
 * @param {{version: number, digest: B64, bytes: B64}} given
 * @returns {Promise<Roster>}
 */
async function read({ version, digest: said, bytes }) {
  const given = toBytes(bytes);
  const roster = readRoster(given);
  if (roster.version !== version || toText(await digest("roster", given)) !== said) throw new Malformed("roster");
  return roster;
}

/** @param {RosterHead} head @returns {Promise<Roster>} the roster that stands */
export const readHead = (head) => read(head);

/**
 * @param {Proposal} proposal
 * @param {RosterHead} head
 * @param {SignedIn} me
 * @param {KeptKey | undefined} kept
 * @returns {Promise<Read>}
 */
export async function readProposal(proposal, head, me, kept) {
  const [base, next] = [await read(proposal.base), await read(proposal.next)];
  const { statement } = proposal;
  const follows =
    proposal.base.digest === head.digest && next.previous === proposal.base.digest && next.version === base.version + 1;
  if (!follows) throw new Malformed("proposal");
  if (statement !== null) {
    const device = base.persons
      .find((person) => person.id === me.person.id)
      ?.devices.find((one) => one.id === me.device.id && one.credential_id === me.credential_id);
    const belongs =
      statement.roster_version === next.version &&
      statement.roster_digest === proposal.next.digest &&
      statement.person === me.person.id &&
      statement.credential_id === me.credential_id &&
      statement.device_id === me.device.id &&
      device !== undefined &&
      device.device_key === (kept?.public_key ?? null);
    if (!belongs) throw new Malformed("statement");
  }
  return { base, next, digest: proposal.next.digest, changes: await changes(base, next), statement };
}

/**
 * Whether a proposal does nothing but suspend this person.
 * @param {Read} read
 * @param {string} person
 * @param {string} by who signs
 */
export function suspendsOnly({ base, next }, person, by) {
  const expected = {
    ...base,
    version: next.version,
    previous: next.previous,
    issued_at: next.issued_at,
    persons: base.persons.map((one) => (one.id === person ? { ...one, standing: { suspended: { by } } } : one)),
  };
  return JSON.stringify(expected) === JSON.stringify(next);
}
