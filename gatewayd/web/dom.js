// Building the page: elements, screens, the one live region. Text goes in as text nodes only; there
// is no HTML from strings anywhere (Trusted Types refuse it).

/** @import {Arg, Piece, Segment} from "./types.ts" */
import { segments } from "./escape.js";

/** @typedef {Node | string | null | false} Child */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [props] attributes; `onclick` and other functions become listeners
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

/**
 * @param {Segment[]} runs
 * @returns {Node[]} untrusted text with what would be hidden marked
 */
export const marked = (runs) =>
  runs.map(({ text, kind }) => (kind === "plain" ? document.createTextNode(text) : h("mark", { class: kind }, text)));

/** @param {Arg} raw */
export const shown = (raw) => h("bdi", { class: "raw" }, ...marked(segments(raw)));

/** @param {Piece[]} pieces @returns {Node[]} */
export const rich = (pieces) =>
  pieces.map((piece) => {
    if (typeof piece === "string") return document.createTextNode(piece);
    return piece.strong ? h("strong", {}, shown(piece.raw)) : shown(piece.raw);
  });

/** @param {string} id @returns {HTMLElement} */
const part = (id) => {
  const element = document.getElementById(id);
  if (!element) throw new Error(id);
  return element;
};

let current = new AbortController();

/**
 * Shows a screen in place of the one before, whose signal is aborted.
 * @param {object} what
 * @param {string} what.name for styles and tests
 * @param {Child[] | string} what.title the heading
 * @param {Child[]} what.body
 * @param {Child[]} [what.actions] buttons within the thumb's reach
 * @returns {AbortSignal} aborted when the next screen comes
 */
export function screen({ name, title, body, actions = [] }) {
  current.abort();
  current = new AbortController();
  const heading = h("h1", { tabindex: "-1" }, ...title);
  const main = part("main");
  main.replaceChildren(heading, ...body.filter((child) => child !== null && child !== false));
  main.scrollTop = 0;
  part("actions").replaceChildren(...actions.filter((child) => child !== null && child !== false));
  document.body.dataset["screen"] = name;
  document.title = `${heading.textContent} · Twinlock`;
  say("");
  heading.focus({ preventScroll: true });
  performance.mark("usable");
  return current.signal;
}

/** Speaks to screen readers without moving anything. @param {string} text */
export const say = (text) => {
  part("live").textContent = text;
};

/** The line at the top right: who is signed in, or nothing. @param {Child[]} children */
export const corner = (...children) => part("corner").replaceChildren(...children.filter((child) => child !== null && child !== false));

/**
 * Runs `step` every so many seconds while this screen is shown and the page is visible, and at once
 * when it becomes visible again.
 * @param {AbortSignal} signal
 * @param {number} seconds
 * @param {() => unknown} step
 */
export function every(signal, seconds, step) {
  const run = () => void (document.visibilityState === "visible" && !signal.aborted && step());
  const timer = setInterval(run, seconds * 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  document.addEventListener("visibilitychange", run, { signal });
}

/**
 * A button that runs one thing at a time.
 * @param {string} text
 * @param {() => Promise<unknown> | unknown} run
 * @param {Record<string, any>} [props]
 */
export function button(text, run, props = {}) {
  let busy = false;
  const element = h("button", { type: "button", ...props }, text);
  element.addEventListener("click", async () => {
    if (busy) return;
    busy = true;
    element.setAttribute("aria-busy", "true");
    try {
      await run();
    } finally {
      busy = false;
      element.removeAttribute("aria-busy");
    }
  });
  return element;
}
