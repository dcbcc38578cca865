// A proposal is shown and signed only when its parts belong together, and a lone suspension goes
// through unread only when it is nothing else. The honest case stands first in each test.

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { digest, toBytes, toText, utf8 } from "../codec.js";
import { readHead, readProposal, suspendsOnly } from "../proposal.js";

globalThis.crypto ??= webcrypto;

const chain = JSON.parse(readFileSync(new URL("../../../docs/vectors/roster-chain.json", import.meta.url), "utf8"));
const version = async (roster) => {
  const bytes = utf8(JSON.stringify(roster));
  return { version: roster.version, digest: toText(await digest("roster", bytes)), bytes: toText(bytes) };
};
const parsed = ({ bytes }) => JSON.parse(new TextDecoder().decode(toBytes(bytes)));
const [base, next] = [parsed(chain.genesis), parsed(chain.steps[0].envelope)];
const bob = base.persons.find((person) => person.id === "bob");
const me = { person: { id: "bob", name: "bob" }, device: { id: bob.devices[0].id }, credential_id: bob.devices[0].credential_id };
const kept = { public_key: bob.devices[0].device_key };

async function proposal(from = base, to = next, changed = {}) {
  const [was, becomes] = [await version(from), await version(to)];
  const statement = {
    roster_version: becomes.version, roster_digest: becomes.digest, person: "bob", credential_id: me.credential_id,
    device_id: me.device.id, gateway_salt: "",
  };
  return { base: was, next: becomes, statement: { ...statement, ...changed } };
}

const read = async (given, head, who = me, key = kept) => readProposal(given, head ?? (await version(base)), who, key);
const refused = (promise, part) => assert.rejects(promise, { message: part });

test("a proposal on the roster that stands is read from its bytes", async () => {
  const { changes } = await read(await proposal());
  assert.ok(changes.length > 0);
  assert.equal((await readHead(await version(base))).version, 1);
});

test("a proposal whose parts do not belong together is refused", async () => {
  const good = await proposal();
  await read(good);
  await refused(read(good, await version({ ...base, expires_at: base.expires_at + 1 })), "proposal");
  await refused(read(await proposal(base, { ...next, previous: good.next.digest })), "proposal");
  await refused(read(await proposal(base, { ...next, version: 3 })), "proposal");
  await refused(read({ ...good, next: { ...good.next, digest: good.base.digest } }), "roster");
  await refused(read({ ...good, next: { ...good.next, version: 7 } }), "roster");
  await refused(read({ ...good, base: { ...good.base, bytes: good.next.bytes } }), "roster");
  const spaced = utf8(JSON.stringify(next).replace("{", "{ "));
  await refused(read({ ...good, next: { ...good.next, bytes: toText(spaced) } }), "roster");
});

test("a statement that is not this person's, device's or roster's is refused", async () => {
  const foreign = [
    { person: "carol" }, { credential_id: "AAAA" }, { device_id: "other" }, { roster_version: 1 },
    { roster_digest: (await version(base)).digest },
  ];
  for (const changed of foreign) await refused(read(await proposal(base, next, changed)), "statement");
  await refused(read(await proposal(), undefined, me, { public_key: next.persons[0].id }), "statement");
  await refused(read(await proposal(), undefined, me, null), "statement");
});

test("only a suspension and nothing else counts as one", async () => {
  const suspended = (by, more = {}) => ({
    ...base, version: 2, previous: next.previous, issued_at: next.issued_at, ...more,
    persons: base.persons.map((one) => (one.id === "carol" ? { ...one, standing: { suspended: { by } } } : one)),
  });
  const is = async (roster, person = "carol") => suspendsOnly(await read(await proposal(base, roster)), person, "bob");
  assert.equal(await is(suspended("bob")), true);
  assert.equal(await is(suspended("dave")), false);
  assert.equal(await is(suspended(null)), false);
  assert.equal(await is(suspended("bob"), "dave"), false);
  assert.equal(await is(suspended("bob", { expires_at: base.expires_at + 1 })), false);
  assert.equal(await is(next), false);
  const loud = suspended("bob");
  loud.persons[0] = { ...loud.persons[0], groups: ["approvers"] };
  assert.equal(await is(loud), false);
});
