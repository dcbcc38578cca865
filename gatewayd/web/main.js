// Where the page starts: which document was opened, whether this browser can do it, and the first
// screen. The ticket or invite leaves the address and the history before anything else happens.

import { button, h, screen } from "./dom.js";
import { scanned } from "./views/request.js";
import { failed } from "./views/end.js";
import { arrive } from "./views/way.js";

const opened = location.href;
const path = location.pathname;
// A reload finds its place again; a visit begins at the inbox.
const [visit] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
history.replaceState(visit?.type === "reload" && path === "/" ? history.state : null, "", "/");

/** Browsers inside other apps have no passkeys, whatever they claim. */
const IN_APP =
  /FBAN|FBAV|Instagram|Line\/|MicroMessenger|; wv\)|WhatsApp|Snapchat|LinkedInApp|Slack|Teams\/|GSA\//;
/** On Apple's phones the real browser says so; web views in apps leave it out. */
const APPLE_VIEW = /(iPhone|iPad)(?!.*Safari\/)/;

/** This browser cannot make or use passkeys: say where to go, with the link at hand. */
function otherBrowser() {
  const apple = /iPhone|iPad|Macintosh/.test(navigator.userAgent);
  const name = apple ? "Safari" : "Chrome";
  const copied = h("p", { class: "note", role: "status" });
  const link = h("input", { id: "link", readonly: true, value: opened, "aria-label": "This page’s link" });
  screen({
    name: "other-browser",
    title: [`Open this page in ${name}`],
    body: [
      h("p", { class: "lead" }, "You are looking at it inside another app, or in a browser without passkeys. Approving needs them."),
      h("ul", { class: "steps" },
        h("li", {}, `Use the app’s menu (⋯ or ⋮): “Open in ${name}” or “Open in browser”.`),
        h("li", {}, `Or copy the link and paste it into ${name}.`),
      ),
      link,
      copied,
    ],
    actions: [
      button("Copy the link", async () => {
        link.select();
        await navigator.clipboard?.writeText(opened).catch(() => document.execCommand("copy"));
        copied.textContent = "Copied.";
      }, { class: "main" }),
    ],
  });
}

async function start() {
  const able = isSecureContext && "PublicKeyCredential" in window && !!crypto.subtle;
  if (!able || IN_APP.test(navigator.userAgent) || APPLE_VIEW.test(navigator.userAgent)) {
    return otherBrowser();
  }
  const [, kind, token] = /^\/([SE])\/([^/]*)$/.exec(path) ?? [];
  if (kind === "S" && token) return scanned(token);
  if (kind === "E" && token) return (await import("./views/enrol.js")).enrol(token);
  return arrive(history.state);
}

// A page that comes back from the back/forward cache shows what was true when it left.
addEventListener("pageshow", (event) => void (event.persisted && location.reload()));
addEventListener("popstate", ({ state }) => void arrive(state));
start().catch((error) => failed(error, () => location.reload()));
