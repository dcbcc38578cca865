//! The page in real Chromium phones, against a real gateway and a real sudo: what people see, what
//! they can press, and what a hostile requester or site cannot make of it.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use twinlock_protocol::Digest;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::roster::{Assurance, RosterEnvelope, VerifiedRoster};
use twinlock_tests::approver::Site;
use twinlock_tests::installation::{Installation, Plan, WebCertificate, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::phone::{Keys, Phone, PhonePlan};
use twinlock_tests::proc::eventually;
use twinlock_tests::term::Terminal;
use twinlock_tests::world::{built_binary, workspace};
use twinlock_tests::{Bed, Tail, here};

const LIMIT: Duration = Duration::from_secs(20);

/// bob and carol with a browser each, beside the fixture's software phones.
struct Browsers {
    bob: Keys,
    carol: Keys,
}

impl Browsers {
    fn enrolled(plan: &mut Plan) -> Self {
        let browsers = Self { bob: Keys::new("bob", "bob-browser"), carol: Keys::new("carol", "carol-browser") };
        for (name, keys) in [("bob", &browsers.bob), ("carol", &browsers.carol)] {
            let id = PersonId::new(name).unwrap();
            let person = plan.fixture.roster.persons.iter_mut().find(|person| person.id == id).unwrap();
            person.devices.push(keys.device.clone());
        }
        browsers
    }

    fn bob(&self, site: &Site) -> Phone {
        held("bob", &self.bob, site)
    }

    fn carol(&self, site: &Site) -> Phone {
        held("carol", &self.carol, site)
    }
}

fn held(name: &str, keys: &Keys, site: &Site) -> Phone {
    let phone = PhonePlan::new(name).start(site);
    phone.hold(keys);
    phone
}

fn ready(bed: &Bed) {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
}

/// An installation in which bob and carol hold browsers.
fn start(bed: &Bed) -> (Installation<'_>, Browsers) {
    ready(bed);
    let mut plan = Plan::new();
    let browsers = Browsers::enrolled(&mut plan);
    (plan.start(bed), browsers)
}

fn address(ticket: &str) -> String {
    format!("HTTPS://TL.EXAMPLE.ORG/S/{ticket}")
}

/// The six digits on the terminal.
fn code_of(terminal: &Terminal) -> String {
    terminal.wait_for("code ", LIMIT);
    let screen = terminal.screen();
    let (_, rest) = screen.split_once("code ").unwrap();
    rest.chars().filter(char::is_ascii_digit).take(6).collect()
}

#[track_caller]
fn nothing_violated(phone: &Phone) {
    assert_eq!(phone.violations(), Vec::<String>::new());
}

/// Every vector file, and the plain words, by the page's own modules (node).
#[test]
fn the_page_agrees_with_the_protocols_vectors() {
    let ran = Command::new("node").args(["--test", "test/"]).current_dir(workspace().join("gatewayd/web")).output();
    let output = ran.expect("node runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the page agrees with escape.json"), "{text}");
}

#[test]
fn two_phones_approve_by_one_gesture_each_and_the_command_runs() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        let (bob, carol) = (browsers.bob(&installation.site), browsers.carol(&installation.site));

        let first = scan_ticket(&terminal, None);
        bob.scan(&address(&first));
        let shown = bob.read_request();
        assert_eq!(shown.heading, "alice wants to run id as root on web01");
        assert_eq!(shown.command, ["sudo", "id", "-un"]);
        assert!(shown.ready_at_once, "a short command fits on the screen with its buttons");
        assert!(shown.warnings.iter().any(|line| line.starts_with("sudo itself has not decided yet")));
        assert_eq!(bob.approve(), "Approved. Now a second person");

        let second = scan_ticket(&terminal, Some(&first));
        carol.scan(&address(&second));
        assert!(carol.read_request().facts.iter().any(|fact| fact.starts_with("Approved: bob")));
        assert_eq!(carol.approve(), "Approved by two");
        assert_eq!(terminal.exit_code(LIMIT), 0);
        assert!(terminal.screen().contains("root"));
        nothing_violated(&bob);
        nothing_violated(&carol);
    });
}

/// A link-preview bot reads the QR's address by GET and HEAD, as often as it likes; the person who
/// scans it afterwards claims it as if nothing had happened.
///
/// Catalogue: Q9 (control: inline)
#[test]
fn a_preview_bot_consumes_and_learns_nothing() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
        let ticket = scan_ticket(&terminal, None);
        let inbox = installation.site.get("/", None);
        for method in [hyper::Method::GET, hyper::Method::HEAD] {
            for purpose in ["prefetch", "prefetch;prerender"] {
                let headers = [("sec-purpose", purpose), ("user-agent", "WhatsApp/2")];
                let answer = installation.site.send(method.clone(), &format!("/S/{ticket}"), &headers, None);
                assert_eq!(answer.status, 200);
                assert_eq!(answer.headers.get("set-cookie"), None);
                assert_eq!(answer.headers.get("content-length"), inbox.headers.get("content-length"));
            }
        }
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&ticket));
        assert_eq!(bob.read_request().command, ["sudo", "id", "-un"]);
    });
}

/// Markup, URLs, escape sequences, bidi and zero-width characters in every field that somebody else
/// fills: shown as text, marked, and inert.
///
/// Catalogue: W3 (control: inline)
/// Catalogue: D1 (control: inline)
/// Catalogue: D2 (control: inline)
/// Catalogue: D8 (control: inline)
#[test]
fn payloads_in_every_field_are_shown_and_inert() {
    const IMG: &str = "<img src=x onerror=document.title='pwned'>";
    in_namespace(here!(), |bed| {
        ready(bed);
        let mut plan = Plan::new();
        let mut browsers = Browsers::enrolled(&mut plan);
        plan.module = "reason = \"required\"\n".to_owned();
        for person in &mut plan.fixture.roster.persons {
            if person.id.as_str() == "alice" {
                person.name = "<b onclick=alert(1)>alice</b>".to_owned();
            }
            for device in person.devices.iter_mut().filter(|device| device.id == browsers.bob.device.id) {
                device.label = "\"><script>document.title='pwned'</script>".to_owned();
                browsers.bob.device.label.clone_from(&device.label);
            }
        }
        plan.fixture.roster.hosts[0].name = "<svg/onload=alert(1)>".to_owned();
        let installation = plan.start(bed);
        let argv = [
            "sudo",
            "echo",
            IMG,
            "<script>document.title='pwned'</script>",
            "javascript:alert(1)",
            "${alert(1)} {{7*7}}",
            "\u{1b}]0;title\u{7}\u{1b}[2J",
            "a\u{202e}b\u{200b}c\u{2066}",
            "e\u{301}\u{301}\u{301}\u{301}",
            "line one\nline two\r\tend",
            "",
        ];
        let mut terminal = bed.terminal("alice", &argv);
        terminal.wait_for("reason", LIMIT);
        terminal.send_line("pre-approved by security </blockquote><script>alert(1)</script>");
        let ticket = scan_ticket(&terminal, None);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&ticket));
        let shown = bob.read_request();
        assert_eq!(
            shown.command,
            [
                "sudo",
                "echo",
                &format!("\"{IMG}\""),
                "\"<script>document.title='pwned'</script>\"",
                "javascript:alert(1)",
                "\"${alert(1)} {{7*7}}\"",
                "\\u{1b}]0;title\\u{7}\\u{1b}[2J",
                "a\\u{202e}b\\u{200b}c\\u{2066}",
                "e\\u{301}\\u{301}\\u{301}\\u{301}",
                "\"line one\\nline two\\r\\tend\"",
                "\"\"",
            ]
        );
        for hidden in ["\\u{1b}", "\\u{7}", "\\u{202e}", "\\u{200b}", "\\u{2066}", "\\u{301}\\u{301}\\u{301}\\u{301}"] {
            assert!(
                shown.marked.iter().any(|mark| mark.contains(hidden)),
                "{hidden} is not marked: {:?}",
                shown.marked
            );
        }
        assert!(shown.warnings.iter().any(|line| line.starts_with("Hidden characters")), "{:?}", shown.warnings);
        assert_eq!(shown.heading, "<b onclick=alert(1)>alice</b> wants to run echo as root on <svg/onload=alert(1)>");
        let (words, mark) = shown.reason.unwrap();
        assert_eq!(words, "pre-approved by security </blockquote><script>alert(1)</script>");
        assert!(mark.contains("own words") && mark.contains("Nobody has checked it"), "{mark}");
        // Nothing of it became an element, ran, or was fetched.
        assert_eq!(
            bob.run("return document.querySelectorAll('main script, main svg, main b, main img').length", &[]),
            0
        );
        assert!(bob.run("return document.title", &[]).as_str().unwrap().contains("wants to run echo"));
        nothing_violated(&bob);
        // The inbox shows the same fields of others.
        bob.open_path("/");
        bob.wait_for(&["inbox"]);
        eventually("the card", LIMIT, || bob.text().contains("<svg/onload=alert(1)>"));
        nothing_violated(&bob);
        // Control: what the policy forbids is seen when it happens.
        bob.run(
            "const i = document.createElement('img'); i.src = 'https://evil.example/x.png'; document.body.append(i);
             try { document.body.innerHTML = '<p>x' } catch { return }
             throw new Error('a string became markup')",
            &[],
        );
        eventually("the violation", LIMIT, || !bob.violations().is_empty());
    });
}

/// Letters that are written from right to left stand where they stand in the argument: a path's
/// parts are not drawn in another order than the shell reads them.
///
/// Catalogue: D1 (control: inline)
#[test]
fn hebrew_and_arabic_letters_do_not_reorder_a_command() {
    /// Whether each line's characters are drawn from left to right in the order of the text.
    const IN_ORDER: &str = "
        const walk = document.createTreeWalker(document.querySelector('.argv'), NodeFilter.SHOW_TEXT);
        let line = null, before = null, ordered = true;
        for (let node; (node = walk.nextNode()); ) {
          const li = node.parentElement.closest('li');
          if (li !== line) [line, before] = [li, null];
          for (let i = 0; i < node.length; i++) {
            const range = document.createRange();
            range.setStart(node, i); range.setEnd(node, i + 1);
            const now = range.getBoundingClientRect();
            if (before && Math.abs(now.top - before.top) < 2 && now.left < before.right - 1) ordered = false;
            before = now;
          }
        }
        return ordered";
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let argv = ["sudo", "cat", "/srv/א/10/../20/ב", "/srv/ا/1/ب/2", "א 1 ב 2"];
        let terminal = bed.terminal("alice", &argv);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        assert_eq!(bob.read_request().command[2], argv[2]);
        assert_eq!(bob.run(IN_ORDER, &[]), true);
        // Control: without the override the browser reorders them.
        bob.run("for (const li of document.querySelectorAll('.argv li')) li.style.unicodeBidi = 'normal'", &[]);
        assert_eq!(bob.run(IN_ORDER, &[]), false);
    });
}

/// What the module reads of real command lines, in the words that approvers get: heading, and the
/// titles of what is grave.
#[test]
fn the_plain_words_say_what_each_command_line_would_do() {
    const ROWS: &[(&[&str], &str, &[&str])] = &[
        (&["sudo", "-s"], "alice wants to open a root shell (bash) on web01", &["Opens a root shell"]),
        (&["sudo", "-i"], "alice wants to open a root login shell", &["Opens a root shell"]),
        (&["sudo", "-u", "bob", "-s"], "alice wants to open a bob shell", &["Opens a shell as bob"]),
        (&["sudo", "-s", "id"], "alice wants to run a command in a shell (bash) as root", &[]),
        (&["sudo", "bash"], "alice wants to run bash as root on web01", &["Can run anything"]),
        (
            &["sudo", "sh", "-c", "id; id"],
            "alice wants to run sh as root on web01",
            &["Opens a shell that runs what follows"],
        ),
        (&["sudo", "-u", "bob", "id"], "alice wants to run id as bob on web01", &[]),
        (&["sudo", "-g", "disk", "id"], "as alice with the group disk on web01", &["With the group disk"]),
        (&["sudo", "-e", "/etc/hosts"], "alice wants to edit a file as root on web01", &["Edits files in"]),
        (&["sudo", "-b", "id"], "alice wants to run id as root on web01", &["Runs in the background"]),
        (&["sudo", "-E", "id"], "alice wants to run id as root on web01", &["Keeps the requester’s environment"]),
        (&["sudo", "A=1", "id"], "alice wants to run id as root on web01", &["Sets variables for the command"]),
        (
            &["sh", "-c", "echo id | sudo sh"],
            "alice wants to run sh as root on web01",
            &["Can run anything", "Input is piped, you cannot see it"],
        ),
        (
            &["sh", "-c", "sudo sh </etc/passwd"],
            "alice wants to run sh as root on web01",
            &["Can run anything", "Input comes from a file"],
        ),
    ];
    in_namespace(here!(), |bed| {
        ready(bed);
        let mut plan = Plan::new();
        let browsers = Browsers::enrolled(&mut plan);
        plan.agent = "[limits]\nrequests_per_minute = 1000\n".to_owned();
        plan.gateway =
            "[limits]\nrequests_per_person = 1000\ncalls_per_approver = 1000\ncalls_per_address = 10000\n".to_owned();
        let installation = plan.start(bed);
        let bob = browsers.bob(&installation.site);
        for (argv, heading, titles) in ROWS {
            let mut terminal = bed.terminal("alice", argv);
            bob.scan(&address(&scan_ticket(&terminal, None)));
            let shown = bob.read_request();
            assert!(shown.heading.contains(heading), "{argv:?}: {}", shown.heading);
            for title in *titles {
                let there = shown.warnings.iter().any(|line| line.starts_with(title));
                assert!(there, "{argv:?}: no {title:?} in {:?}", shown.warnings);
            }
            // Whatever is grave was expected: an ordinary line must not teach people to look away.
            let grave = shown.warnings.iter().filter(|line| !line.starts_with("sudo itself")).count();
            assert_eq!(grave, titles.len(), "{argv:?}: {:?}", shown.warnings);
            terminal.send("\u{3}");
            assert_ne!(terminal.exit_code(LIMIT), 0);
        }
        nothing_violated(&bob);
    });
}

/// Framed by another site, the page shows nothing; opened by another site as a pop-up, its opener
/// loses hold of it.
///
/// Catalogue: W2 (control: inline)
#[test]
fn other_sites_can_neither_frame_nor_hold_the_page() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let ticket = scan_ticket(&terminal, None);
        let bob = browsers.bob(&installation.site);
        let origin = &installation.site.origin;
        bob.open_path("/");
        bob.sign_in();
        bob.open(&format!("data:text/html,<title>evil</title><iframe src='{origin}/S/{ticket}'></iframe>"));
        eventually("the refused frame", LIMIT, || bob.inside_frame().starts_with("chrome-error:"));
        // Control: a frame that may be shown is.
        bob.open("data:text/html,<title>evil</title><iframe srcdoc='shown'></iframe>");
        assert!(bob.inside_frame().ends_with("shown"), "{}", bob.inside_frame());
        // Nothing was claimed by the frame: the same code still opens for a person.
        bob.scan(&address(&ticket));
        bob.open_path("/");
        bob.wait_for(&["inbox"]);

        bob.open("data:text/html,<title>evil</title>");
        bob.run("window.held = window.open(args[0])", &[json!(format!("{origin}/"))]);
        eventually("the pop-up to be out of reach", LIMIT, || {
            bob.run("return window.held === null || window.held.closed", &[]) == json!(true)
        });
    });
}

/// The ticket leaves the address and the session history at once, pages are not stored, and going
/// back shows no old request.
///
/// Catalogue: W4 (control: inline)
#[test]
fn no_ticket_stays_in_the_history_and_back_shows_no_old_request() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let ticket = scan_ticket(&terminal, None);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&ticket));
        let history = bob.history();
        assert!(history.iter().any(|url| url.starts_with(&installation.site.origin)), "{history:?}");
        assert!(!history.iter().any(|url| url.contains(&ticket)), "{history:?}");
        assert_eq!(bob.run("return location.pathname + location.search + location.hash + document.referrer", &[]), "/");
        assert_eq!(bob.run("return localStorage.length + sessionStorage.length", &[]), 0);
        // Leaving gives the slot back; coming back shows the inbox as it is now, not the request.
        bob.open("about:blank");
        bob.back();
        assert_eq!(bob.wait_for(&["inbox", "request"]), "inbox");
        eventually("the slot to be free again", LIMIT, || bob.text().contains("id"));
        let page = installation.site.get(&format!("/S/{ticket}"), None);
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
    });
}

#[test]
fn a_denial_with_its_reason_reaches_the_terminal() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id"]);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        assert_eq!(bob.deny(Some("please use the staging host")), "You denied it");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        assert!(terminal.screen().contains("please use the staging host"), "{}", terminal.screen());
        nothing_violated(&bob);
    });
}

/// Who approved too soon says no under the same claim, and the terminal hears it.
///
/// Catalogue: A7 (control: two_phones_approve_by_one_gesture_each_and_the_command_runs)
#[test]
fn an_approval_can_be_turned_into_a_denial_on_the_next_screen() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id"]);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        assert_eq!(bob.approve(), "Approved. Now a second person");
        bob.press("#actions .quiet");
        bob.wait_for(&["end-bad"]);
        assert_eq!(bob.heading(), "You denied it");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        assert!(terminal.screen().contains("denied"), "{}", terminal.screen());
        nothing_violated(&bob);
    });
}

/// The time to answer ends while the denial's prompt is open: the prompt stays, and the answer
/// counts. Ended before anything was pressed, it leaves a button that denies.
///
/// Catalogue: A7 (control: inline)
#[test]
fn a_denial_that_comes_after_the_time_to_answer_counts() {
    /// The page's clock runs ahead; prompts take their time.
    const LATE: &str = "const real = performance.now.bind(performance);
        performance.now = () => real() + 100_000";
    const SLOW: &str = "const get = navigator.credentials.get.bind(navigator.credentials);
        navigator.credentials.get = (what) => new Promise((go, stop) => {
          what.signal?.addEventListener('abort', () => stop(what.signal.reason));
          setTimeout(() => get(what).then(go, stop), 2500);
        })";
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let bob = browsers.bob(&installation.site);
        let mut terminal = bed.terminal("alice", &["sudo", "id"]);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        bob.run(SLOW, &[]);
        bob.press(".deny");
        bob.run(LATE, &[]);
        bob.wait_for(&["end-bad", "end-calm"]);
        assert_eq!(bob.heading(), "You denied it");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        // Control: an approval under way at that moment is not signed; a denial can still be.
        let mut terminal = bed.terminal("alice", &["sudo", "id", "-u"]);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        bob.run(SLOW, &[]);
        bob.read_on();
        bob.press(".approve");
        bob.run(LATE, &[]);
        bob.wait_for(&["end-calm"]);
        assert_eq!(bob.heading(), "Your time to answer is over");
        std::thread::sleep(Duration::from_secs(3));
        assert!(!terminal.screen().contains("2 of 2"), "{}", terminal.screen());
        bob.press("#actions .deny");
        bob.wait_for(&["end-bad"]);
        assert_ne!(terminal.exit_code(LIMIT), 0);
        nothing_violated(&bob);
    });
}

/// A gateway that can't write for a moment does not end the request on the screen; a refusal that
/// stays gives the slot back.
#[test]
fn only_a_refusal_that_stays_ends_the_request_on_the_screen() {
    /// Calls whose path begins so are refused like this.
    const REFUSE: &str = "window.before ??= window.fetch.bind(window);
        const [path, status, name] = args;
        window.fetch = (url, init) => String(url).startsWith('/api/v1/' + path)
          ? Promise.resolve(new Response(JSON.stringify({type: 'urn:twinlock:problem:' + name, title: name, detail: 'wait'}), {status}))
          : window.before(url, init)";
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let bob = browsers.bob(&installation.site);
        let first = scan_ticket(&terminal, None);
        bob.scan(&address(&first));
        bob.run(REFUSE, &[json!("claims"), json!(503), json!("store-failed")]);
        eventually("the word", LIMIT, || bob.text().contains("Store-failed. Trying again."));
        bob.run(REFUSE, &[json!("answer"), json!(503), json!("store-failed")]);
        eventually("the clock again", LIMIT, || bob.text().contains(" left"));
        bob.read_on();
        bob.press(".approve");
        eventually("the note", LIMIT, || bob.note().contains("Store-failed"));
        assert_eq!(bob.screen(), "request");
        // Control: one that stays ends it, and somebody else may answer at once.
        bob.run(REFUSE, &[json!("answer"), json!(403), json!("evidence-other-request")]);
        bob.press(".approve");
        bob.wait_for(&["problem"]);
        let carol = browsers.carol(&installation.site);
        carol.scan(&address(&scan_ticket(&terminal, Some(&first))));
        assert_eq!(carol.approve(), "Approved. Now a second person");
        nothing_violated(&bob);
    });
}

#[test]
fn the_inbox_shows_a_request_only_with_the_terminals_code() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let code = code_of(&terminal);
        let wrong = if code == "000000" { "000001" } else { "000000" };
        let bob = browsers.bob(&installation.site);
        bob.open_path("/");
        let refused = bob.inbox_code("alice", wrong).unwrap_err();
        assert!(refused.starts_with("The code is wrong"), "{refused}");
        bob.type_code(&format!("{} {}", &code[..3], &code[3..])).unwrap();
        assert_eq!(bob.read_request().command, ["sudo", "id"]);
        assert_eq!(bob.approve(), "Approved. Now a second person");
        nothing_violated(&bob);
    });
}

/// Enter held down is one try at the code, not all five.
#[test]
fn a_held_enter_key_tries_the_code_once() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let code = code_of(&terminal);
        let wrong = if code == "000000" { "000001" } else { "000000" };
        let bob = browsers.bob(&installation.site);
        bob.open_path("/");
        let refused = bob.inbox_code("alice", wrong).unwrap_err();
        assert!(refused.starts_with("The code is wrong"), "{refused}");
        // Control: Enter alone tries.
        bob.run("document.querySelector('.note[role=alert]').replaceChildren()", &[]);
        bob.run(
            "const key = (repeat) => document.querySelector('#code')
               .dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', repeat, bubbles: true}));
             key(false);
             for (let i = 0; i < 40; i++) { key(true); await new Promise((r) => setTimeout(r, 30)); }",
            &[],
        );
        eventually("the note", LIMIT, || bob.note().starts_with("The code is wrong"));
        bob.type_code(&code).unwrap();
        assert_eq!(bob.read_request().command, ["sudo", "id"]);
    });
}

/// A long command has to be scrolled through, all of it, before Approve does anything.
#[test]
fn approve_waits_until_the_whole_command_was_in_view() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let long: Vec<String> = (0..60).map(|i| format!("argument-number-{i}")).collect();
        let mut argv = vec!["sudo", "echo"];
        argv.extend(long.iter().map(String::as_str));
        let terminal = bed.terminal("alice", &argv);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        let ready = || bob.run("return !document.querySelector('.approve').hasAttribute('aria-disabled')", &[]) == true;
        assert!(!ready());
        // Pressing it too early only leads to what was not read yet.
        bob.press(".approve");
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(bob.screen(), "request");
        assert!(!ready());
        // Nor does a jump to the end count as reading.
        bob.run("const m = document.querySelector('main'); m.scrollTop = 0; await new Promise(requestAnimationFrame); m.scrollTop = m.scrollHeight", &[]);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!ready());
        let shown = bob.read_request();
        assert!(!shown.ready_at_once);
        assert_eq!(shown.command.len(), 62);
        assert!(ready());
        assert_eq!(bob.approve(), "Approved. Now a second person");
    });
}

#[test]
fn a_gesture_that_fails_sends_nothing_and_can_be_made_again() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        bob.finger_matches(false);
        bob.read_on();
        bob.press(".approve");
        eventually("the note", LIMIT, || bob.note().starts_with("Not confirmed"));
        assert!(terminal.screen().contains("1 of 2"), "{}", terminal.screen());
        bob.finger_matches(true);
        assert_eq!(bob.approve(), "Approved. Now a second person");
    });
}

/// The passkey is still there, the browser's own key is gone: said in words, and nothing is claimed.
#[test]
fn a_browser_that_lost_its_device_key_says_what_to_do() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let bob = browsers.bob(&installation.site);
        bob.clear_storage();
        let ticket = scan_ticket(&terminal, None);
        bob.open(&address(&ticket));
        bob.sign_in();
        bob.wait_for(&["key-lost"]);
        assert!(bob.text().contains("restore the key here"), "{}", bob.text());
        // Control: another browser, with its key, opens the same code.
        let carol = browsers.carol(&installation.site);
        carol.scan(&address(&ticket));
        nothing_violated(&bob);
    });
}

/// The requester gives up while somebody reads: the page says so by itself.
#[test]
fn a_request_that_was_taken_back_leaves_the_screen() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id"]);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        terminal.send("\u{3}");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        bob.wait_for(&["end-calm"]);
        assert_eq!(bob.heading(), "Taken back");
        nothing_violated(&bob);
    });
}

/// performance.md, benchmark 10: what a first visit costs on a slow phone. The time depends on this
/// machine's other work, so it is printed and only a stall fails.
#[test]
fn a_first_visit_is_small_and_soon_usable_on_a_slow_phone() {
    in_namespace(here!(), |bed| {
        let (installation, _) = start(bed);
        let bob = PhonePlan::new("bob").start(&installation.site);
        bob.slow();
        bob.open_path("/S/7F3K7Q2M4XWTA6BC3D5E7G2H4J");
        bob.wait_for(&["sign-in"]);
        let measured = bob.run(
            "const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
             return [all.filter(e => !e.name.includes('/api/')).reduce((sum, e) => sum + e.transferSize, 0), all.length,
               Math.round(performance.getEntriesByName('usable')[0]?.startTime ?? performance.now()), all[0].nextHopProtocol]",
            &[],
        );
        println!("first visit: bytes, requests, milliseconds until usable, protocol: {measured}");
        assert!(measured[0].as_u64().unwrap() <= 40 * 1024, "{measured}");
        assert!(measured[2].as_u64().unwrap() <= 5000, "{measured}");
        assert_eq!(measured[3], "h2");
    });
}

/// The network goes away while somebody reads: said on the screen, and the answer can be given when
/// it is back.
#[test]
fn a_lost_connection_is_said_and_survived() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let terminal = bed.terminal("alice", &["sudo", "id"]);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        bob.offline(true);
        eventually("the word", LIMIT, || bob.text().contains("No connection"));
        bob.read_on();
        bob.press(".approve");
        eventually("the note", LIMIT, || bob.note().contains("No connection to the gateway"));
        assert_eq!(bob.screen(), "request");
        bob.offline(false);
        assert_eq!(bob.approve(), "Approved. Now a second person");
    });
}

/// The requester gives up while the passkey prompt is open: the prompt closes with the request, so
/// that a late finger signs nothing, and the next request finds no old prompt in its way.
#[test]
fn a_prompt_closes_with_the_request_it_was_for() {
    in_namespace(here!(), |bed| {
        let (installation, browsers) = start(bed);
        let mut terminal = bed.terminal("alice", &["sudo", "id"]);
        let bob = browsers.bob(&installation.site);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        bob.finger_waits(true);
        bob.read_on();
        bob.press(".approve");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!((bob.screen(), bob.note()), ("request".to_owned(), String::new()));
        terminal.send("\u{3}");
        assert_ne!(terminal.exit_code(LIMIT), 0);
        bob.wait_for(&["end-calm"]);
        // A browser with an open prompt refuses the next one; ours has none left.
        let next = "const c = crypto.getRandomValues(new Uint8Array(32));
            return Promise.race([navigator.credentials.get({publicKey: {challenge: c}}).then(() => 'done', e => e.name),
              new Promise(r => setTimeout(r, 3000, 'open'))])";
        bob.finger_waits(false);
        assert_eq!(bob.run(next, &[]), "done");
        assert_eq!(bob.heading(), "Taken back");
        let terminal = bed.terminal("alice", &["sudo", "id", "-u"]);
        bob.scan(&address(&scan_ticket(&terminal, None)));
        assert_eq!(bob.approve(), "Approved. Now a second person");
        nothing_violated(&bob);
    });
}

/// Inside another app there are no passkeys, or none that stay: the page says where to go.
#[test]
fn a_browser_inside_another_app_is_sent_to_the_real_one() {
    in_namespace(here!(), |bed| {
        let (installation, _) = start(bed);
        let mut plan = PhonePlan::new("bob");
        plan.agent.push_str(" Instagram 300.0.0");
        let bob = plan.start(&installation.site);
        bob.open_path("/S/7F3K7Q2M4XWTA6BC3D5E7G2H4J");
        bob.wait_for(&["other-browser"]);
        assert!(bob.heading().contains("Chrome"));
        let link = bob.run("return document.querySelector('#link').value", &[]);
        assert_eq!(link, "https://tl.example.org/S/7F3K7Q2M4XWTA6BC3D5E7G2H4J");
        // Control: the same phone's own browser asks to sign in.
        let browser = PhonePlan::new("bob").start(&installation.site);
        browser.open_path("/S/7F3K7Q2M4XWTA6BC3D5E7G2H4J");
        browser.wait_for(&["sign-in"]);
    });
}

/// `twinlock init` as a process on a port of this machine's loopback; no bed and no root needed.
struct Ceremony {
    child: Child,
    lines: BufReader<ChildStdout>,
    site: Site,
}

impl Ceremony {
    fn start(dir: &Path, people: &[&str]) -> Self {
        const HOST: &str = "tl.example.org";
        let twinlock = || Command::new(built_binary("twinlock"));
        let web = WebCertificate::new(HOST);
        std::fs::write(dir.join("web.crt"), &web.chain).unwrap();
        std::fs::write(dir.join("web.key"), &web.key).unwrap();
        let prepared = twinlock()
            .args(["host", "prepare", "--agent-user", "root", "--group", "web", "--name", "web01", "--etc-dir"])
            .arg(dir.join("etc"))
            .arg("--out")
            .arg(dir.join("web01.json"))
            .output()
            .unwrap();
        assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let origin = format!("https://{HOST}:{port}");
        let mut init = twinlock();
        init.args(["init", "--json", "--yes", "--owner", "root", "--gateway", "gw.example.org:8444"])
            .args(["--origin", &origin, "--listen", &address.to_string()])
            .arg("--tls-cert")
            .arg(dir.join("web.crt"))
            .arg("--tls-key")
            .arg(dir.join("web.key"))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .arg("--host")
            .arg(dir.join("web01.json"));
        for person in people {
            init.args(["--person", person]);
        }
        let mut child = init.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, site: Site { origin, ca: web.ca_der, address } }
    }

    /// The next news of this kind.
    #[track_caller]
    fn until(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the ceremony ended before {event}");
            let value: Value = serde_json::from_str(&line).unwrap();
            if value["event"] == event {
                return value;
            }
        }
    }
}

impl Drop for Ceremony {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole ceremony by two browsers: one whose passkey stays on the device, one whose passkey is
/// synced. Each person reads the roster in words, with the fingerprint that the terminal shows.
#[test]
fn two_browsers_enrol_read_the_roster_and_seal_it() {
    let dir = tempfile::tempdir().unwrap();
    let people =
        ["alice=Alice Archer:alice:requester", "bob=Bob Baker:bob,bbaker:approver", "carol=Carol Chu:carol:both"];
    let mut ceremony = Ceremony::start(dir.path(), &people);
    let links: Vec<String> = (0..2).map(|_| ceremony.until("invite")["url"].as_str().unwrap().to_owned()).collect();
    let bob = PhonePlan::new("bob").start(&ceremony.site);
    let mut plan = PhonePlan::new("carol");
    plan.synced = true;
    let carol = plan.start(&ceremony.site);

    bob.enrol(&links[0]);
    assert!(!bob.history().iter().any(|url| url.contains("/E/")), "{:?}", bob.history());
    eventually("the others", LIMIT, || bob.text().contains("Carol Chu"));
    // As a QR has it: all upper case.
    carol.enrol(&links[1].to_ascii_uppercase());
    let composed: Digest = serde_json::from_value(ceremony.until("composed")["digest"].clone()).unwrap();
    for phone in [&bob, &carol] {
        let read = phone.sign_roster();
        let words: Vec<&str> = read.split_whitespace().collect();
        assert!(words.concat().contains(&composed.to_hex()), "{read}");
        for said in [
            "Alice Archer",
            "Bob Baker",
            "bbaker",
            "Carol Chu",
            "No device: cannot approve",
            "web01",
            "Two different people must approve",
            "level B",
            "level C",
        ] {
            assert!(read.contains(said), "{said} is not in: {read}");
        }
    }
    let sealed: Digest = serde_json::from_value(ceremony.until("sealed")["digest"].clone()).unwrap();
    assert_eq!(sealed, composed);
    let envelope = RosterEnvelope::from_bytes(&std::fs::read(dir.path().join("state/roster.json")).unwrap()).unwrap();
    let roster = VerifiedRoster::genesis(&envelope, &sealed).unwrap();
    let assurance = |id: &str| roster.person(&PersonId::new(id).unwrap()).unwrap().devices[0].assurance();
    assert_eq!((assurance("bob"), assurance("carol")), (Assurance::B, Assurance::C));
    for phone in [&bob, &carol] {
        phone.wait_for(&["end-good"]);
        nothing_violated(phone);
    }
}

/// Somebody else's browser opens a link that was used: it waits, and can't enrol a second device.
#[test]
fn a_used_link_enrols_no_second_browser() {
    let dir = tempfile::tempdir().unwrap();
    let mut ceremony = Ceremony::start(dir.path(), &["bob=Bob:bob:both", "carol=Carol:carol:both"]);
    let link = ceremony.until("invite")["url"].as_str().unwrap().to_owned();
    let bob = PhonePlan::new("bob").start(&ceremony.site);
    bob.enrol(&link);
    let thief = PhonePlan::new("thief").start(&ceremony.site);
    thief.open(&link);
    thief.wait_for(&["room"]);
    assert!(!thief.text().contains("Create my passkey"));
    thief.open(&format!("{}/E/AAAAAAAAAAAAAAAAAAAAAAAAAA", ceremony.site.origin));
    thief.wait_for(&["problem"]);
    assert_eq!(thief.heading(), "This link is not valid");
}
