// Every vector of docs/vectors, checked with the page's own modules: what the protocol crate hashes,
// signs and shows, the page must hash, sign and show alike. Unknown files fail, so that no vector
// goes unread.

import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { changes, line } from "../changes.js";
import { approvalStatement, digest, message, possessionStatement, readRequest, rosterStatement, sha256, toBytes, toText, utf8 } from "../codec.js";
import { argument, visible } from "../escape.js";
import { deviceDigest, deviceWords, hostWords } from "../fingerprint.js";
import { assurance, readDevice, readRoster } from "../roster.js";
import { commandOf } from "../words.js";

// Debian 12's Node has it, but not under its name in browsers.
globalThis.crypto ??= webcrypto;

const folder = new URL("../../../docs/vectors/", import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(name, folder), "utf8"));
const json = (bytes) => JSON.parse(new TextDecoder().decode(bytes));

/** Verifies `r ‖ s` with a SEC1 key, as the gateway will. */
async function verifies(key, signature, bytes) {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", toBytes(key), algorithm, false, ["verify"]);
  return crypto.subtle.verify(algorithm, imported, toBytes(signature), bytes);
}

const deviceMessage = async (purpose, statement) => message(purpose, await sha256(statement));

async function checkSigned(signed, roster, purposes) {
  const statement = toBytes(signed.statement);
  const fields = json(statement);
  const device = roster.persons.flatMap((person) => person.devices).find((one) => one.credential_id === fields.credential_id);
  const client = json(toBytes(signed.assertion.client_data_json));
  assert.equal(client.challenge, toText(await digest(purposes.challenge, statement)));
  return signed.device_signature !== null && verifies(device.device_key, signed.device_signature, await deviceMessage(purposes.device, statement));
}

const APPROVAL = { challenge: "approval", device: "device" };
const ROSTER = { challenge: "roster-approval", device: "roster-device" };
const POSSESSION = { challenge: "possession", device: "possession-device" };

async function checkChanges(old, next, expected, lines, what) {
  const found = await changes(old, next);
  assert.deepEqual(found, expected, what);
  assert.deepEqual(found.map(line), lines, what);
}

const checks = {
  async "digests.json"(v) {
    assert.equal(toText(await digest("ticket", utf8(v.ticket))), v.ticket_hash);
    assert.equal(toText(await digest("terminal-code", toBytes(v.code_salt), utf8(v.code))), v.code_hash);
  },
  async "escape.json"(cases) {
    assert.ok(cases.length > 8);
    for (const { bytes, visible: seen, argument: quoted } of cases) {
      // As bytes, and as text where it is text: an argument arrives in either form.
      const forms = [{ b64: bytes }];
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(toBytes(bytes));
      if (toText(utf8(text)) === bytes) forms.push(text);
      for (const form of forms) assert.deepEqual([visible(form), argument(form)], [seen, quoted], bytes);
    }
  },
  async "requests.json"(cases) {
    for (const { what, bytes: text, request_id, command } of cases) {
      const bytes = toBytes(text);
      if (request_id === null) {
        assert.throws(() => readRequest(bytes), { message: "request" }, what);
        continue;
      }
      const request = readRequest(bytes);
      assert.equal(toText(await digest("request", bytes)), request_id, what);
      assert.deepEqual(commandOf(request).map(argument), command, what);
    }
  },
  statement: async (v) => {
    const bytes = approvalStatement(v.fields);
    assert.equal(toText(bytes), v.bytes, v.what);
    assert.equal(toText(await digest("approval", bytes)), v.challenge);
    assert.equal(toText(await deviceMessage("device", bytes)), v.device_message);
    assert.equal(v.signed.statement, v.bytes);
  },
  "roster-chain.json": async (v) => {
    let former = null;
    for (const { envelope, changes: expected, lines } of [{ envelope: v.genesis }, ...v.steps]) {
      const roster = readRoster(toBytes(envelope.bytes));
      assert.equal(toText(await digest("roster", toBytes(envelope.bytes))), envelope.digest);
      assert.equal(roster.previous, former?.envelope.digest ?? null);
      if (former) await checkChanges(former.roster, roster, expected, lines);
      for (const signed of envelope.signatures) {
        const fields = json(toBytes(signed.statement));
        assert.equal(toText(rosterStatement(fields)), signed.statement);
        assert.equal(fields.roster_digest, envelope.digest);
        assert.equal(await checkSigned(signed, former?.roster ?? roster, ROSTER), true);
      }
      for (const signed of envelope.possessions) {
        const fields = json(toBytes(signed.statement));
        assert.equal(toText(possessionStatement(fields)), signed.statement);
        const device = roster.persons.flatMap((person) => person.devices).find((one) => one.id === fields.device_id);
        assert.equal(fields.device, toText(await deviceDigest(device)));
        const was = former?.roster.persons.flatMap((person) => person.devices).find((one) => one.credential_id === device.credential_id);
        assert.equal(fields.replaces, was?.device_key ?? null);
        assert.equal(await checkSigned(signed, roster, POSSESSION), true);
      }
      former = { envelope, roster };
    }
    assert.ok(v.steps.length > 3);
  },
  "roster-changes.json": async (cases) => {
    assert.ok(cases.length > 10);
    for (const { what, old, new: next, changes: expected, lines } of cases) {
      await checkChanges(readRoster(toBytes(old)), readRoster(toBytes(next)), expected, lines, what);
    }
  },
  "roster-names.json": async (cases) => {
    assert.ok(cases.some((one) => one.accepted) && cases.some((one) => !one.accepted));
    for (const { what, bytes, accepted } of cases) {
      const given = () => readRoster(toBytes(bytes));
      if (accepted) given();
      else assert.throws(given, { message: "roster" }, what);
    }
  },
  "possession.json": async (v) => {
    assert.equal(toText(await deviceDigest(v.device)), v.device_digest);
    assert.equal((await deviceWords(v.device)).join(" "), v.words);
    assert.equal((await hostWords(v.host)).join(" "), v.host_words);
    const bytes = possessionStatement(json(toBytes(v.statement)));
    assert.equal(toText(bytes), v.statement);
    assert.equal(toText(await digest("possession", bytes)), v.challenge);
    assert.equal(toText(await deviceMessage("possession-device", bytes)), v.device_message);
    assert.deepEqual(readDevice(utf8(JSON.stringify(v.device))), v.device);
  },
  evidence: async (v) => {
    const bytes = toBytes(v.roster.bytes);
    const roster = readRoster(bytes);
    assert.equal(toText(await digest("roster", bytes)), v.roster.digest);
    assert.ok(roster.persons.flatMap((person) => person.devices).every((device) => "ABCD".includes(assurance(device))));
    for (const signed of v.roster.signatures) {
      const fields = json(toBytes(signed.statement));
      assert.equal(toText(rosterStatement(fields)), signed.statement);
      assert.equal(fields.roster_digest, v.roster.digest);
      assert.equal(await checkSigned(signed, roster, ROSTER), true);
    }
    const request = toBytes(v.signed_request.request);
    assert.equal(toText(await digest("request", request)), v.request_id);
    assert.equal(readRequest(request).roster.digest, v.roster.digest);
    const { statements } = json(toBytes(v.evidence));
    assert.ok(statements.length > 0);
    for (const signed of statements) {
      const fields = json(toBytes(signed.statement));
      assert.equal(toText(approvalStatement(fields)), signed.statement);
      assert.equal(fields.request_digest, v.request_id);
      assert.equal(await checkSigned(signed, roster, APPROVAL), signed.device_signature !== null);
    }
  },
};

for (const name of readdirSync(folder)) {
  test(`the page agrees with ${name}`, async () => {
    const check = checks[name] ?? checks[name.split("-")[0]];
    assert.ok(check, `nothing reads ${name}`);
    await check(read(name));
  });
}

// A negative for each check above would be a second implementation; these are the ones that matter.
test("a changed, respelt or extended request is refused", () => {
  const [good] = read("requests.json");
  const text = new TextDecoder().decode(toBytes(good.bytes));
  const refused = [
    text.replace("{", "{ "),
    `${text} `,
    `\ufeff${text}`,
    text.replace('"version":1', '"version":1,"version":1'),
    text.replace('"version":1', '"version":2'),
    text.replace('"scope":"command"', '"scope":"session"'),
    text.replace('"kind":"module"', '"kind":"ahead"'),
    text.replace('"command_at":1', '"command_at":99'),
    text.replace('"command_at":1', '"command_at":-0'),
    text.replace('"reason":', '"extra":1,"reason":'),
    text.replace("nginx", "\\ud800"),
    text.replace("nginx", "\\u006eginx"),
  ];
  assert.ok(readRequest(utf8(text)));
  for (const bad of refused) {
    assert.notEqual(bad, text);
    assert.throws(() => readRequest(utf8(bad)), { message: /request/ }, bad.slice(0, 60));
  }
});

test("base64url has one spelling", () => {
  assert.deepEqual([...toBytes("_w")], [255]);
  for (const bad of ["_w==", "_x", "/w", "A", "_ w", null, 7]) assert.throws(() => toBytes(bad));
});
