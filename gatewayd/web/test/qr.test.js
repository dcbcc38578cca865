// The code's arithmetic against a worked example; that cameras read it is tested in Chromium, by a
// picture of the page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { correction, dataBytes, qr } from "../qr.js";

test("the bytes of a worked example", () => {
  const data = [32, 91, 11, 120, 209, 114, 220, 77, 67, 64, 236, 17, 236, 17, 236, 17];
  assert.deepEqual(dataBytes("HELLO WORLD", 16), data);
  assert.deepEqual(correction(data, 10), [196, 35, 39, 119, 235, 215, 231, 226, 93, 23]);
});

test("as large as the link needs, or not at all", () => {
  assert.equal(qr("HELLO WORLD")?.length, 21);
  assert.equal(qr("HTTPS://TL.EXAMPLE.ORG/E/ABCDEFGHIJKLMNOPQRSTUVWXYZ")?.length, 29);
  assert.equal(qr("A".repeat(154))?.length, 41);
  assert.equal(qr("A".repeat(155)), null);
  assert.equal(qr("https://lower.case"), null);
});

test("finders stand in three corners", () => {
  const grid = qr("HTTPS://TL.EXAMPLE.ORG/E/ABCDEFGHIJKLMNOPQRSTUVWXYZ");
  const line = (row) => grid[row].map(Number).join("");
  assert.match(line(0), /^11111110.*01111111$/);
  assert.match(line(3), /^10111010.*01011101$/);
  assert.match(line(28), /^11111110/);
});
