// Untrusted text made visible: the same rules as the protocol's escape.rs, checked against the same
// vectors. Nothing that a requester, an approver or a gateway wrote reaches the page but through
// here.

/** @import {Arg, Segment} from "./types.ts" */
import { toBytes, utf8 } from "./codec.js";

// The list of `is_plain`: controls, format, private and unassigned characters (`\p{C}`), white space
// other than the space, what is invisible, and combining diacritics.
const NOT_PLAIN = new RegExp(
  "[\\p{C}\\u115f\\u1160\\u3164\\uffa0\\u2800\\u{1d159}\\ufffc\\u034f\\u17b4\\u17b5\\u180b-\\u180f\\ufe00-\\ufe0f" +
    "\\u{16fe4}\\u{e0000}-\\u{e0fff}\\u0300-\\u036f\\u0483-\\u0489\\u1ab0-\\u1aff\\u1dc0-\\u1dff\\u20d0-\\u20ff" +
    "\\ufe20-\\ufe2f]|(?! )\\p{White_Space}",
  "u",
);
const MARK = /\p{Grapheme_Extend}/u;
/** Combining marks in a row that a letter of another script may carry. */
const MOST_MARKS = 3;
const SHORT = new Map([["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"]]);

/**
 * @param {string} c one character
 * @returns {boolean} whether it is shown as it is
 */
export const isPlain = (c) => !NOT_PLAIN.test(c);

/**
 * The bytes of an argument.
 * @param {Arg} arg
 */
export const argBytes = (arg) => (typeof arg === "string" ? utf8(arg) : toBytes(arg.b64));

/**
 * UTF-8 as characters, and each byte that is not UTF-8 as a number.
 * @param {Uint8Array} bytes
 * @returns {Generator<string | number>}
 */
function* characters(bytes) {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  for (let at = 0; at < bytes.length; ) {
    const head = bytes[at] ?? 0;
    const length = head < 0x80 ? 1 : head < 0xe0 ? 2 : head < 0xf0 ? 3 : 4;
    try {
      yield strict.decode(bytes.subarray(at, at + length));
      at += length;
    } catch {
      yield head;
      at += 1;
    }
  }
}

/**
 * Untrusted text in runs: what stands as it is, line breaks and tabs, and what would be hidden.
 * @param {Arg} arg
 * @returns {Segment[]}
 */
export function segments(arg) {
  /** @type {Segment[]} */
  const runs = [];
  /** @param {string} text @param {Segment["kind"]} kind */
  const push = (text, kind) => {
    const last = runs.at(-1);
    if (last?.kind === kind) last.text += text;
    else runs.push({ text, kind });
  };
  let room = 0;
  /** @param {string} c whether it stands as it is, where it stands */
  const stands = (c) => {
    const ok = isPlain(c) && (!MARK.test(c) || room > 0);
    room = !ok ? 0 : MARK.test(c) ? room - 1 : /[^\0-\x7f]/u.test(c) ? MOST_MARKS : 0;
    return ok;
  };
  for (const c of typeof arg === "string" ? arg : characters(argBytes(arg))) {
    const short = SHORT.get(String(c));
    const plain = stands(typeof c === "number" ? "\0" : c);
    if (typeof c === "number") push(`\\x${c.toString(16).padStart(2, "0")}`, "hidden");
    else if (c === "\\") push("\\\\", "plain");
    else if (short) push(short, "break");
    else if (plain) push(c, "plain");
    else push(`\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`, "hidden");
  }
  return runs;
}

/**
 * Untrusted text as one visible line.
 * @param {Arg} arg
 */
export const visible = (arg) => segments(arg).map((run) => run.text).join("");

/**
 * An argument as people read it, in runs: in double quotes when it is empty or holds a space or a
 * quote, so that one argument never looks like two.
 * @param {Arg} arg
 * @returns {Segment[]}
 */
export function argumentSegments(arg) {
  const runs = segments(arg);
  if (runs.length && !runs.some((run) => /[ "']/.test(run.text))) return runs;
  const quoted = runs.map((run) => ({ ...run, text: run.text.replaceAll('"', '\\"') }));
  return [{ text: '"', kind: "plain" }, ...quoted, { text: '"', kind: "plain" }];
}

/** @param {Arg} arg */
export const argument = (arg) => argumentSegments(arg).map((run) => run.text).join("");

/** @param {Arg[]} args */
export const command = (args) => args.map(argument).join(" ");

/**
 * Whether a word mixes Latin letters with Cyrillic or Greek ones, which look alike.
 * @param {Arg} arg
 */
export const mixesScripts = (arg) =>
  visible(arg)
    .split(/[^\p{L}\p{N}_-]+/u)
    .some((word) => /\p{Script=Latin}/u.test(word) && /[\p{Script=Cyrillic}\p{Script=Greek}]/u.test(word));
