// Inviting: a one-time link for one person, as a code for the camera of their phone. Whoever else
// opens it gains nothing: two people compare words with the person they know before they sign.

/** @import {Invite, NewPerson, Roster} from "../types.ts" */
import { api } from "../api.js";
import { button, every, h, say, screen, shown } from "../dom.js";
import { readHead } from "../proposal.js";
import { roughly } from "../words.js";
import { describe, end, failed } from "./end.js";
import { withSession } from "./sign-in.js";
import { visit } from "./way.js";

/** @param {string | null} id somebody of the roster; null: somebody new, perhaps */
export const invite = (id) =>
  withSession(async () => {
    const roster = await readHead(await api.roster());
    const known = roster.persons.find((person) => person.id === id);
    return known ? send(known.id, null) : form(roster);
  });

/**
 * @param {string} person
 * @param {NewPerson | null} fresh
 */
async function send(person, fresh) {
  try {
    link(await api.invite(person, fresh));
  } catch (error) {
    failed(error);
  }
}

/** A person's id from a login: what the roster allows in one. @param {string} login */
const idOf = (login) => login.toLowerCase().replaceAll(/[^a-z0-9._-]/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 60);

/** @param {Roster} roster */
function form(roster) {
  const name = h("input", { id: "name", maxlength: "80", autocomplete: "off", placeholder: "Carol Chu" });
  const login = h("input", { id: "login", maxlength: "80", autocomplete: "off", autocapitalize: "none", spellcheck: "false", placeholder: "carol" });
  const approves = h("input", { type: "checkbox", id: "approves", checked: true });
  const asks = h("input", { type: "checkbox", id: "asks" });
  const note = h("p", { class: "note", role: "alert" });
  const go = () => {
    const [said, logins] = [name.value.trim(), login.value.trim().split(/[\s,]+/).filter(Boolean)];
    note.replaceChildren();
    const known = roster.persons.find((person) => person.name.toLowerCase() === said.toLowerCase() || person.logins.some((one) => logins.includes(one)));
    if (known) return send(known.id, null);
    const id = idOf(logins[0] ?? said);
    if (!said || !id) return note.replaceChildren("Write a name, and a login where there is one.");
    if (roster.persons.some((person) => person.id === id)) return note.replaceChildren("Somebody else has this id. Write another login.");
    return send(id, { name: said, logins, groups: [], approver: approves.checked, requester: asks.checked });
  };
  screen({
    name: "invite-form",
    title: ["Invite somebody"],
    body: [
      h("p", {}, "They get a link for one phone. Two people sign before it counts."),
      h("label", { for: "name" }, "Name"), name,
      h("label", { for: "login" }, "Login on the hosts"), login,
      h("label", { class: "check", for: "approves" }, approves, h("span", {}, "May approve what others ask")),
      h("label", { class: "check", for: "asks" }, asks, h("span", {}, "May ask for elevation")),
      note,
    ],
    actions: [h("div", { class: "pair" }, button("Back", () => history.back()), button("Make the link", go, { class: "main" }))],
  });
}

const SVG = "http://www.w3.org/2000/svg";

/** @param {string[]} rows dark modules as 1; black on white in every scheme: cameras want it so */
function drawn(rows) {
  const size = rows.length + 8;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("class", "qr");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "The link as a code");
  svg.setAttribute("shape-rendering", "crispEdges");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", rows.flatMap((row, r) => [...row].map((dark, c) => (dark === "1" ? `M${c + 4} ${r + 4}h1v1h-1z` : ""))).join(""));
  svg.append(path);
  return svg;
}

/** @param {Invite} given */
function link(given) {
  const until = performance.now() + 1000 * given.valid_s;
  const status = h("p", { class: "status" });
  const field = h("input", { id: "link", readonly: true, value: given.link, "aria-label": "The link" });
  const signal = screen({
    name: "invite",
    title: ["For ", h("strong", {}, shown(given.person.name)), " alone"],
    body: [
      given.code ? drawn(given.code) : null,
      h("p", {}, "Let them scan it with the phone’s camera. It is good for one browser; show it to nobody else."),
      field,
    ],
    actions: [
      h("div", { class: "line" }, status),
      h("div", { class: "pair" },
        button("Cancel it", async () => {
          await api.cancelInvite(given.invite).catch(() => null);
          await visit("people");
        }),
        button("Copy the link", async () => {
          field.select();
          await navigator.clipboard?.writeText(given.link).catch(() => document.execCommand("copy"));
          say("Copied");
        }, { class: "main" })),
    ],
  });
  let state = "Not opened yet";
  const tick = () => {
    const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    status.textContent = left ? `${state} · ${roughly(left)} left` : "Over";
    if (!left) end("calm", "The link is over", "Make another one if it is still needed.");
  };
  const poll = async () => {
    try {
      const now = (await api.invites()).invites.find((one) => one.invite === given.invite);
      if (signal.aborted) return;
      if (now?.contested) return contested(given);
      if (now?.state === "opened") state = "Opened";
      if (now?.state === "enrolled") state = "Enrolled";
      if (now?.proposal) return await visit("proposal", now.proposal);
      if (!now) end("calm", "The link is over", "It was cancelled, or what was enrolled by it is decided.");
    } catch (error) {
      if (describe(error).name === "sign-in-needed" && !signal.aborted) failed(error);
    }
  };
  tick();
  every(signal, 1, tick);
  every(signal, 3, poll);
}

/** @param {Invite} given */
const contested = ({ person }) =>
  end("bad", "Two browsers opened this link", `Somebody else may hold it. Call ${person.name}; decline what was enrolled unless the words match.`);
