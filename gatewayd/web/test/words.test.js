// The plain words, against the request vectors and small changes of them: each sentence that an
// approver relies on appears when it should, and only then.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { readRequest, toBytes } from "../codec.js";
import { mixesScripts } from "../escape.js";
import { clock, duration, headline, lifetimes, logins, plain, roughly, warnings } from "../words.js";

const vectors = JSON.parse(readFileSync(new URL("../../../docs/vectors/requests.json", import.meta.url), "utf8"));
const base = readRequest(toBytes(vectors[0].bytes));
const names = { host: { id: "web01", name: "web01" }, requesters: [{ id: "alice", name: "Alice", kind: "human" }] };

/** A request with some of its parts changed. */
const changed = ({ view, target, requester, ...rest } = {}) => ({
  ...base,
  ...rest,
  view: { ...base.view, ...view },
  target: { ...base.target, ...target },
  requester: { ...base.requester, ...requester },
});
const says = (request, people = names) => plain(headline(request, people));
const titles = (request, people = names) => warnings(request, people).map(({ title }) => plain(title));

test("who wants to do what, as whom, where", () => {
  assert.equal(says(base), "Alice wants to run systemctl as root on web01");
  const bare = { command_at: null };
  assert.equal(says(changed({ view: { ...bare, mode: "shell", shell: "/bin/bash" } })), "Alice wants to open a root shell (bash) on web01");
  assert.equal(says(changed({ view: { ...bare, mode: "login_shell", shell: "/bin/zsh" } })), "Alice wants to open a root login shell (zsh) on web01");
  assert.equal(says(changed({ view: { ...bare, mode: "switch_user", shell: "/bin/sh" }, target: { user: "www", uid: 33 } })), "Alice wants to open a shell (sh) as www on web01");
  assert.equal(says(changed({ view: { mode: "shell", shell: "/bin/bash" } })), "Alice wants to run a command in a shell (bash) as root on web01");
  assert.equal(says(changed({ view: { mode: "edit", editor: "vim", command_at: 3 } })), "Alice wants to edit a file as root on web01");
  assert.equal(says(changed({ target: { group: "disk" } })), "Alice wants to run systemctl as root with the group disk on web01");
  const two = { ...names, requesters: [...names.requesters, { id: "d", name: "Dave", kind: "human" }] };
  assert.equal(says(base, two), "Alice and Dave want to run systemctl as root on web01");
});

test("a program outside the system's own directories is named by its whole path", () => {
  const runs = (path) => says(changed({ argv: ["sudo", path], view: { command_at: 1 } }));
  for (const path of ["systemctl", "/usr/bin/systemctl", "/bin/systemctl", "/usr/local/sbin/systemctl", "/sbin/systemctl"]) {
    assert.equal(runs(path), "Alice wants to run systemctl as root on web01");
  }
  for (const path of ["/home/alice/systemctl", "./systemctl", "bin/systemctl", "/usr/bin/../../tmp/systemctl", "/usr/bin//systemctl", "/tmp/usr/bin/systemctl", "/usr/bin/"]) {
    assert.equal(runs(path), `Alice wants to run ${path} as root on web01`);
  }
  const shell = (path) => says(changed({ view: { command_at: null, mode: "shell", shell: path } }));
  assert.equal(shell("/home/alice/bash"), "Alice wants to open a root shell (/home/alice/bash) on web01");
});

test("an ordinary command warns of nothing but that sudo has not decided", () => {
  assert.deepEqual(titles(base), ["sudo itself has not decided yet"]);
  assert.deepEqual(titles(changed({ service: "su" })), []);
});

test("each risk has its warning", () => {
  const cases = [
    [{ view: { mode: "shell", command_at: null } }, "Opens a root shell"],
    [{ view: { mode: "login_shell", command_at: null }, target: { user: "www", uid: 33 } }, "Opens a shell as www"],
    [{ view: { open_ended: true } }, "Can run anything"],
    [{ view: { mode: "edit", editor: "/usr/bin/vim" } }, "Edits files in /usr/bin/vim"],
    [{ stdin: "piped" }, "Input is piped, you cannot see it"],
    [{ stdin: "other" }, "Input comes from another program, you cannot see it"],
    [{ stdin: "file" }, "Input comes from a file, you cannot see it"],
    [{ view: { not_understood: "-Z" } }, "Not fully understood"],
    [{ argv: ["sudo", "ls\u202e"] }, "Hidden characters"],
    [{ argv: ["sudo", { b64: "_w" }] }, "Hidden characters"],
    [{ argv: ["sudo", "systеmctl"] }, "Look-alike letters"],
    [{ target: { user: "toor" } }, "toor is root by another name"],
    [{ target: { group: "disk" } }, "With the group disk"],
    [{ view: { chroot: "/srv" } }, "Inside another root directory"],
    [{ view: { assignments: ["LD_PRELOAD=/tmp/x"] } }, "Sets variables for the command"],
    [{ view: { preserve_env: true } }, "Keeps the requester’s environment"],
    [{ view: { background: true } }, "Runs in the background"],
  ];
  for (const [change, title] of cases) {
    assert.ok(titles(changed(change)).includes(title), title);
    assert.ok(!titles(base).includes(title), title);
  }
  const service = { ...names, requesters: [{ id: "backup", name: "backup", kind: "service" }] };
  assert.ok(titles(base, service).includes("backup is non-human"));
});

test("a shell with a program as text is told from a shell with a script", () => {
  const title = "Opens a shell that runs what follows";
  const ask = (...words) => titles(changed({ argv: ["sudo", ...words], view: { command_at: 1 } }));
  const shells = [
    ["sh", "-c", "id; rm -rf /"], ["/bin/bash", "-lc", "id"], ["bash", "-o", "pipefail", "-c", "id"], ["zsh", "-ec", "id"],
    ["env", "A=1", "sh", "-c", "id"], ["nice", "-n", "5", "dash", "-c", "id"], ["busybox", "sh", "-c", "id"], ["fish", "--command=id"],
    ["bash5.2", "--norc", "-c", "id"],
  ];
  for (const words of shells) assert.ok(ask(...words).includes(title), words.join(" "));
  const others = [
    ["sh", "backup.sh", "-c"], ["grep", "-c", "sh"], ["echo", "sh", "-c", "id"], ["systemctl", "-c"], ["bash", "--rcfile", "-c"],
    ["ssh", "-c", "aes"], ["sh"], ["sh", { b64: "_w" }, "-c"],
  ];
  for (const words of others) assert.ok(!ask(...words).includes(title), words.join(" "));
});

test("names that hide something are shown escaped in words too", () => {
  assert.equal(says(changed({ target: { user: "ro\u202eot" } })), "Alice wants to run systemctl as ro\\u{202e}ot on web01");
});

test("logins say more than the name only where there is more", () => {
  assert.equal(plain(logins(base)), "login alice");
  assert.equal(plain(logins(changed({ requester: { real: { uid: 33, name: "www" }, pam_ruser: "alice" } }))), "login alice, acting as www, from alice");
  assert.equal(plain(logins(changed({ requester: { login: null } }))), "login alice, not from a login session");
});

test("times read as people say them", () => {
  assert.deepEqual([1, 20, 60, 90, 125, 900, 3600, 5400].map(duration), ["1 second", "20 seconds", "1 minute", "90 seconds", "2 minutes 5 seconds", "15 minutes", "1 hour", "1 hour 30 minutes"]);
  assert.deepEqual([0, 9, 107].map(clock), ["0:00", "0:09", "1:47"]);
  assert.deepEqual([0, 45, 91, 1790, 7000, 80_000, 604_800].map(roughly), ["0 seconds", "45 seconds", "2 minutes", "30 minutes", "2 hours", "22 hours", "7 days"]);
  assert.deepEqual(lifetimes(900, 3600), [60, 300, 900]);
  assert.deepEqual(lifetimes(3600, 1200), [300, 900, 1200]);
  assert.deepEqual(lifetimes(20, 3600), [20]);
});

test("only mixed words count as look-alikes", () => {
  assert.equal(mixesScripts("Привет hello"), false);
  assert.equal(mixesScripts("pаypal"), true);
});
