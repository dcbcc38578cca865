//! What people do with a stand-in phone when the roster changes: invite, enrol, compare words, sign,
//! suspend, restore. Every step is a press on the real page, as in [`crate::phone`].

use std::time::{Duration, Instant};

use serde_json::json;

use crate::phone::Phone;
use crate::picture;

const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// A change as the page shows it before it is signed.
#[derive(Clone, Debug)]
pub struct ShownChange {
    /// Its heading.
    pub heading: String,
    /// The words of each new device or host, in order.
    pub words: Vec<Vec<String>>,
    /// Everything on the screen.
    pub text: String,
    /// Whether Sign could be pressed before anything was scrolled.
    pub ready_at_once: bool,
}

impl Phone {
    /// Opens the page at its inbox, signing in if asked.
    #[track_caller]
    pub fn open_inbox(&self) {
        self.open_path("/");
        if self.wait_for(&["sign-in", "inbox"]) == "sign-in" {
            self.sign_in();
            self.wait_for(&["inbox"]);
        }
    }

    /// Opens people and devices.
    #[track_caller]
    pub fn open_people(&self) {
        self.open_inbox();
        self.press("#actions button");
        self.wait_for(&["people"]);
    }

    /// Opens one person's screen.
    #[track_caller]
    pub fn open_person(&self, name: &str) {
        self.open_people();
        self.press_text(".cards .card, .someone", name);
        self.wait_for(&["person"]);
    }

    /// Presses the first element of a selector whose text holds `words`, as a finger does.
    #[track_caller]
    pub fn press_text(&self, selector: &str, words: &str) {
        let mark = "for (const e of document.querySelectorAll('[data-test]')) delete e.dataset.test;
             const all = [...document.querySelectorAll(args[0])];
             const found = all.find(e => (e.getAttribute('aria-label') ?? e.innerText).includes(args[1]) || e.innerText.includes(args[1]));
             if (found) { found.dataset.test = 'it'; found.scrollIntoView({block: 'center'}) }
             return !!found";
        let started = Instant::now();
        while self.run(mark, &[json!(selector), json!(words)]) != json!(true) {
            assert!(started.elapsed() < LIMIT, "no {words:?} to press: {}", self.text());
            std::thread::sleep(POLL);
        }
        self.press("[data-test=it]");
    }

    /// The list of words on the screen.
    #[track_caller]
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let words = self.run("return [...document.querySelectorAll('.spoken li')].map(e => e.innerText.trim())", &[]);
        serde_json::from_value(words).expect("a list of words")
    }

    /// On the screen of an invite: the link, read from its picture by a scanner.
    #[track_caller]
    #[must_use]
    pub fn scan_invite(&self) -> String {
        self.wait_for(&["invite"]);
        let place = tempfile::NamedTempFile::new().expect("a file");
        self.screenshot(place.path());
        let found = picture::scan(place.path()).into_iter().find(|text| text.contains("/E/"));
        let found = found.expect("the picture of a link");
        let link = self.run("return document.querySelector('#link').value", &[]);
        assert_eq!(Some(found.to_lowercase()), link.as_str().map(str::to_lowercase));
        found
    }

    /// Opens an invite of a running gateway and enrols: two gestures. Gives the words to read aloud.
    #[track_caller]
    pub fn accept_invite(&self, link: &str) -> Vec<String> {
        self.open(link);
        self.wait_for(&["enrol"]);
        self.press("#actions .main");
        let shown = self.wait_for_or_note(&["possess", "problem"]);
        assert_eq!(shown.as_deref(), Some("possess"), "could not enrol: {} {}", self.note(), self.text());
        let words = self.words();
        self.confirm_possession();
        assert_eq!(self.words(), words);
        words
    }

    /// The second gesture of a new or restored key; ends where the words are read aloud.
    #[track_caller]
    pub fn confirm_possession(&self) {
        self.wait_for(&["possess"]);
        self.press("#actions .main");
        let shown = self.wait_for_or_note(&["waiting", "end-good", "problem"]);
        assert!(shown.as_deref().is_some_and(|name| name != "problem"), "not confirmed: {}", self.text());
    }

    /// Opens the change whose card holds `words`, from the inbox, and reads it to its end.
    #[track_caller]
    pub fn read_change(&self, words: &str) -> ShownChange {
        self.open_inbox();
        self.press_text(".change", words);
        self.read_open_change()
    }

    /// Proposes that somebody leaves, and reads the change.
    #[track_caller]
    pub fn read_removal(&self, name: &str) -> ShownChange {
        self.open_person(name);
        self.press_text("main > button", "Remove from the roster");
        self.read_open_change()
    }

    /// Reads the change on the screen to its end.
    #[track_caller]
    pub fn read_open_change(&self) -> ShownChange {
        self.wait_for(&["proposal"]);
        std::thread::sleep(Duration::from_millis(150));
        let ready = "return document.querySelector('.approve')?.hasAttribute('aria-disabled') === false";
        let ready_at_once = self.run(ready, &[]) == json!(true);
        self.read_on();
        let words = self.run(
            "return [...document.querySelectorAll('.compare .spoken')].map(l => [...l.children].map(e => e.innerText.trim()))",
            &[],
        );
        ShownChange {
            heading: self.heading(),
            words: serde_json::from_value(words).expect("lists of words"),
            text: self.text(),
            ready_at_once,
        }
    }

    /// Says of every list of words that it was heard.
    #[track_caller]
    pub fn hear_words(&self) {
        let count = self.run("return document.querySelectorAll('.check').length", &[]).as_u64().unwrap_or(0);
        for at in 0..count {
            let mark = "const all = document.querySelectorAll('.check'); all[args[0]].dataset.test = 'heard';
                 all[args[0]].scrollIntoView({block: 'center'})";
            self.run(mark, &[json!(at)]);
            self.press("[data-test=heard]");
            self.run("delete document.querySelector('[data-test=heard]').dataset.test", &[]);
        }
    }

    /// Signs the change on the screen, which was read; the heading of what comes next.
    #[track_caller]
    pub fn sign_change(&self) -> String {
        self.hear_words();
        self.press("#actions .approve");
        let shown = self.wait_for_or_note(&["end-good", "end-bad", "end-calm", "problem", "key-lost"]);
        assert!(shown.is_some(), "could not sign: {}", self.note());
        self.heading()
    }

    /// After a refused sign-in for want of the device key: begins to restore it. Gives the words.
    #[track_caller]
    pub fn restore_key(&self) -> Vec<String> {
        self.open_path("/");
        self.wait_for(&["sign-in"]);
        self.press("#actions .main");
        self.wait_for(&["key-lost"]);
        self.press("#actions .main");
        self.wait_for(&["restore"]);
        self.press("#actions .main");
        let shown = self.wait_for_or_note(&["possess", "problem"]);
        assert_eq!(shown.as_deref(), Some("possess"), "not restored: {} {}", self.note(), self.text());
        let words = self.words();
        self.confirm_possession();
        words
    }
}
