// A request in plain words. Everything comes from the request's own bytes (the module's parsed
// view of the command line) and the roster's names; nothing here parses a command again.

/** @import {Arg, Claim, Piece, Request} from "./types.ts" */
import { mixesScripts, segments, visible } from "./escape.js";

/** @param {Arg} raw @returns {Piece} */
const strong = (raw) => ({ raw, strong: true });

/** @param {Piece[]} pieces */
export const plain = (pieces) =>
  pieces.map((piece) => (typeof piece === "string" ? piece : visible(piece.raw))).join("");

/**
 * A length of time: `15 minutes`, `90 seconds`, `1 hour`, `1 hour 30 minutes`.
 * @param {number} seconds
 */
export function duration(seconds) {
  /** @param {number} n @param {string} unit */
  const unit = (n, unit) => (n ? [`${n} ${unit}${n === 1 ? "" : "s"}`] : []);
  if (seconds < 120 && seconds % 60) return unit(seconds, "second").join("");
  const parts = [
    ...unit(Math.floor(seconds / 3600), "hour"),
    ...unit(Math.floor((seconds % 3600) / 60), "minute"),
    ...unit(seconds % 60, "second"),
  ];
  return parts.slice(0, 2).join(" ") || "0 seconds";
}

/** A length of time as people tell it who don't count: `23 hours`, `8 minutes`. @param {number} seconds */
export const roughly = (seconds) =>
  seconds > 172_800 ? `${Math.round(seconds / 86_400)} days` : seconds > 5400 ? `${Math.round(seconds / 3600)} hours` : duration(seconds > 90 ? Math.ceil(seconds / 60) * 60 : seconds);

/** `1:47` @param {number} seconds */
export const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

/**
 * Names of people as a sentence has them: `A`, `A and B`.
 * @param {Claim["requesters"]} people
 * @returns {Piece[]}
 */
export const names = (people) => people.flatMap((one, i) => [i ? " and " : "", strong(one.name)]).filter(Boolean);

/** @param {Arg} path */
const basename = (path) => (typeof path === "string" ? path.replace(/^.*\/(?=[^/])/, "") : path);

/** Where a system keeps its programs. */
const STANDARD = /^(\/usr(\/local)?)?\/s?bin\/[^/]+$/;

/**
 * A program by its name, or by its whole path where that is not one of the system's own.
 * @param {Arg} path
 */
const program = (path) => (typeof path === "string" && STANDARD.test(path) ? basename(path) : path);

/** @param {Request} request @returns {Piece[]} as whom */
export function target({ target }) {
  /** @type {Piece[]} */
  const group = target.group === null ? [] : [" with the group ", strong(target.group)];
  return [strong(target.user), ...group];
}

/** @param {Request} request @returns {Arg[]} the command's words, without sudo's */
export const commandOf = (request) => (request.view.command_at === null ? [] : request.argv.slice(request.view.command_at));

const SHELL = /^(?:ba|da|a|z|k|mk|fi|c|tc|rba)?sh[\d.]*$/;
/** Programs that run the command in their last words. */
const WRAPPER = /^(?:env|nice|ionice|nohup|setsid|stdbuf|timeout|time|chroot|script|busybox)$/;

/**
 * Whether a shell is given a program as text: `sh -c '…'`, `bash -lc '…'`, `env sh -c '…'`.
 * @param {Arg[]} words
 */
export function shellText(words) {
  /** @param {Arg | undefined} word @param {RegExp} pattern */
  const is = (word, pattern) => typeof word === "string" && pattern.test(String(basename(word)));
  const at = words.findIndex((word) => is(word, SHELL));
  if (at < 0 || (at > 0 && !is(words[0], WRAPPER))) return false;
  for (let i = at + 1; i < words.length; i += 1) {
    const word = words[i];
    if (typeof word !== "string") return false;
    if (/^-[a-zA-Z]*c[a-zA-Z]*$/.test(word) || /^--command(?:=|$)/.test(word)) return true;
    // `-o pipefail` takes a word of its own; the first word that is no option is a script's name.
    if (/^[-+][a-z]*o$/i.test(word) || /^--(?:rc|init-)file$/.test(word)) i += 1;
    else if (!/^[-+]/.test(word)) return false;
  }
  return false;
}

/** @param {Request} request @returns {Piece[]} what, after "wants to" */
function action(request) {
  const { view } = request;
  const words = commandOf(request);
  const first = words[0];
  const who = target(request);
  /** @type {Piece[]} */
  const shell = view.shell === null ? [] : [" (", { raw: program(view.shell) }, ")"];
  switch (view.mode) {
    case "edit": {
      const what = words.length === 1 ? "a file" : `${words.length} files`;
      return [`edit ${what} as `, ...who];
    }
    case "query":
      return ["use a listing or timestamp option of sudo, as ", ...who];
    case "switch_user":
      if (first === undefined) return ["open a shell", ...shell, " as ", ...who];
      break;
    case "shell":
    case "login_shell":
      if (first === undefined) {
        return ["open a ", ...who, view.mode === "shell" ? " shell" : " login shell", ...shell];
      }
      break;
    case "command":
      if (first === undefined) return ["run something that could not be read, as ", ...who];
      return ["run ", strong(program(first)), " as ", ...who];
  }
  return ["run a command in a shell", ...shell, " as ", ...who];
}

/**
 * Who wants to do what, as whom, where.
 * @param {Request} request
 * @param {Pick<Claim, "host" | "requesters">} from the roster's names
 * @returns {Piece[]}
 */
export const headline = (request, { host, requesters }) => [
  ...names(requesters),
  requesters.length > 1 ? " want to " : " wants to ",
  ...action(request),
  " on ",
  strong(host.name),
];

/**
 * What an approver should know before the answer; the gravest first.
 * @param {Request} request
 * @param {Pick<Claim, "requesters">} from
 * @returns {{grave: boolean, title: Piece[], text: Piece[]}[]}
 */
export function warnings(request, { requesters }) {
  const { view, stdin, target: to, argv, service } = request;
  const words = commandOf(request);
  /** @type {ReturnType<typeof warnings>} */
  const all = [];
  /** @param {boolean} grave @param {Piece[]} title @param {Piece[]} text */
  const add = (grave, title, text) => void all.push({ grave, title, text });
  const isRoot = to.uid === 0;

  for (const one of requesters.filter((one) => one.kind === "service")) {
    add(true, [{ raw: one.name }, " is non-human"], ["A service identity asks, not a person at a keyboard."]);
  }
  if (isRoot && to.user !== "root") {
    add(true, [{ raw: to.user }, " is root by another name"], ["Its user number is 0: it may do everything."]);
  }
  const bareShell = words.length === 0 && ["shell", "login_shell", "switch_user"].includes(view.mode);
  if (bareShell) {
    const title = isRoot ? ["Opens a root shell"] : ["Opens a shell as ", { raw: to.user }];
    add(true, title, ["Whatever is typed there runs, and you cannot see it. You approve all of it."]);
  } else if (view.mode === "edit") {
    const editor = view.editor === null ? "an editor" : { raw: view.editor };
    add(false, ["Edits files in ", editor], ["What is changed is decided in the editor; you cannot see it."]);
  } else if (view.open_ended) {
    add(true, ["Can run anything"], ["This program gives a shell or takes commands. You cannot know what it will do."]);
  }
  if (!bareShell && view.mode !== "edit" && shellText(words)) {
    add(true, ["Opens a shell that runs what follows"], ["The text after -c is a program of its own. Read it to its end: every command in it runs as ", { raw: to.user }, "."]);
  }
  if (stdin === "piped") add(true, ["Input is piped, you cannot see it"], ["What comes through the pipe can decide what happens."]);
  if (stdin === "file") add(true, ["Input comes from a file, you cannot see it"], ["What the file holds can decide what happens."]);
  if (stdin === "other") add(true, ["Input comes from another program, you cannot see it"], ["What comes through the socket can decide what happens."]);
  if (view.not_understood !== null) {
    add(true, ["Not fully understood"], ["The reading of this command line stopped at ", { raw: view.not_understood }, ". Judge by the exact command below."]);
  }
  if (argv.some((arg) => segments(arg).some((run) => run.kind === "hidden"))) {
    add(true, ["Hidden characters"], ["They are marked below, as \\u{…} or \\x…"]);
  }
  if (argv.some(mixesScripts)) {
    add(true, ["Look-alike letters"], ["A word mixes Latin letters with Cyrillic or Greek ones."]);
  }
  if (to.group !== null) add(true, ["With the group ", { raw: to.group }], ["Some groups (disk, shadow, docker) are as powerful as root."]);
  if (view.chroot !== null) add(true, ["Inside another root directory"], [{ raw: view.chroot }]);
  if (view.chdir !== null) add(false, ["In another directory"], [{ raw: view.chdir }]);
  if (view.assignments.length) {
    const list = view.assignments.flatMap((raw, i) => (i ? [", ", { raw }] : [{ raw }]));
    add(true, ["Sets variables for the command"], list);
  }
  if (view.preserve_env) add(true, ["Keeps the requester’s environment"], ["Variables chosen by the requester can change what the command does."]);
  if (view.background) add(false, ["Runs in the background"], ["It goes on after the prompt is back, until the time is over."]);
  if (service.startsWith("sudo")) {
    add(false, ["sudo itself has not decided yet"], ["It may still refuse."]);
  }
  return all;
}

/**
 * @param {Request} request
 * @returns {Piece[]} the login behind the request, where it says more than the name
 */
export function logins({ requester: { login, real, pam_ruser } }) {
  /** @type {Piece[]} */
  const pieces = ["login ", { raw: (login ?? real).name }];
  if (login === null) pieces.push(", not from a login session");
  else if (login.name !== real.name || login.uid !== real.uid) pieces.push(", acting as ", { raw: real.name });
  if (pam_ruser !== null && pam_ruser !== real.name) pieces.push(", from ", { raw: pam_ruser });
  return pieces;
}

/**
 * The lives an approver may grant: what is asked for, and up to two shorter ones, in seconds.
 * @param {number} wanted
 * @param {number} ceiling
 */
export function lifetimes(wanted, ceiling) {
  const longest = Math.min(wanted, ceiling);
  const shorter = [60, 300, 900, 1800].filter((seconds) => seconds < longest);
  return [...shorter.slice(-2), longest];
}
