//! The life of people and devices on the page, in real Chromium phones against a real gateway, and
//! what it does to a real sudo: invites, second devices, lost phones, suspensions, restored keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use twinlock_protocol::ids::PersonId;
use twinlock_protocol::softphone::{self, person};
use twinlock_tests::demo::people::play;
use twinlock_tests::installation::{Installation, Plan, scan_ticket};
use twinlock_tests::ns::in_namespace;
use twinlock_tests::phone::{Keys, Phone, PhonePlan};
use twinlock_tests::proc::eventually;
use twinlock_tests::{Bed, Tail, here};

const LIMIT: Duration = Duration::from_secs(20);

/// An installation in which these people of the fixture hold a browser each, and nothing else.
fn start<'a>(bed: &'a Bed, holders: &[&str]) -> (Installation<'a>, Vec<Phone>) {
    bed.wire(&Tail::Twinlock);
    bed.sudoers("alice ALL=(ALL:ALL) NOPASSWD: ALL");
    let mut plan = Plan::new();
    plan.gateway =
        "[limits]\nrequests_per_person = 1000\ncalls_per_approver = 10000\ncalls_per_address = 100000\n".into();
    let mut held = Vec::new();
    for name in holders {
        let keys = Keys::new(name, &format!("{name}-browser"));
        let persons = &mut plan.fixture.roster.persons;
        let id = PersonId::new(name).unwrap();
        match persons.iter_mut().find(|person| person.id == id) {
            Some(person) => person.devices.push(keys.device.clone()),
            None => {
                // Whoever is in version 1 signs it.
                let phone = softphone::Phone::new(name, &format!("{name}-phone"));
                persons.push(person(name, &["approvers"], vec![phone.device.clone(), keys.device.clone()]));
                plan.fixture.phones.push(phone);
            }
        }
        held.push(keys);
    }
    let installation = plan.start(bed);
    let phones = holders.iter().zip(&held).map(|(name, keys)| {
        let phone = PhonePlan::new(name).start(&installation.site);
        phone.hold(keys);
        phone
    });
    let phones = phones.collect();
    (installation, phones)
}

#[track_caller]
fn nothing_violated(phones: &[&Phone]) {
    for phone in phones {
        assert_eq!(phone.violations(), Vec::<String>::new());
    }
}

/// bob's phone invites somebody new; gives the scanned link.
#[track_caller]
fn invite(phone: &Phone, name: &str, login: &str) -> String {
    phone.open_people();
    phone.press("#actions .main");
    phone.wait_for(&["invite-form"]);
    phone.type_into("#name", name);
    phone.type_into("#login", login);
    phone.press("#actions .main");
    phone.scan_invite()
}

/// alice runs a command; two phones approve it.
#[track_caller]
fn elevate(bed: &Bed, first: &Phone, second: &Phone) {
    let mut terminal = bed.terminal("alice", &["sudo", "id", "-un"]);
    let ticket = scan_ticket(&terminal, None);
    first.scan(&format!("HTTPS://TL.EXAMPLE.ORG/S/{ticket}"));
    assert_eq!(first.approve(), "Approved. Now a second person");
    let ticket = scan_ticket(&terminal, Some(&ticket));
    second.scan(&format!("HTTPS://TL.EXAMPLE.ORG/S/{ticket}"));
    assert_eq!(second.approve(), "Approved by two");
    assert_eq!(terminal.exit_code(LIMIT), 0, "{}", terminal.screen());
    assert!(terminal.screen().contains("root"));
}

/// bob invites Erin from his page; she scans his screen and enrols with two gestures; bob and carol
/// compare the words that her phone shows and sign; then she approves on a host that was never told.
#[test]
fn somebody_new_is_invited_enrols_and_approves_once_two_have_signed() {
    in_namespace(here!(), |bed| {
        let (installation, phones) = start(bed, &["bob", "carol"]);
        let [bob, carol] = [&phones[0], &phones[1]];
        let link = invite(bob, "Erin Ek", "erin");
        let erin = PhonePlan::new("erin").start(&installation.site);
        let spoken = erin.accept_invite(&link);
        assert_eq!(spoken.len(), 8, "{spoken:?}");
        assert!(!erin.history().iter().any(|url| url.contains("/E/")), "{:?}", erin.history());

        // bob's page turns to the change by itself.
        let shown = bob.read_open_change();
        assert_eq!(shown.words, std::slice::from_ref(&spoken));
        for said in ["Erin Ek joins", "Erin Ek gets a new device", "approvers", "becomes 2"] {
            assert!(shown.text.contains(said), "{said} is not in: {}", shown.text);
        }
        assert!(!shown.ready_at_once, "the change is longer than the screen");
        // Unheard words are not signed.
        bob.press("#actions .approve");
        eventually("the word about words", LIMIT, || bob.note().contains("Compare the words first"));
        assert_eq!(bob.screen(), "proposal");
        assert_eq!(bob.sign_change(), "You have signed");
        eventually("one of two on the new phone", LIMIT, || erin.text().contains("1 of 2 people have signed"));

        let shown = carol.read_change("Erin Ek");
        assert_eq!(shown.words, [spoken]);
        assert!(shown.text.contains("Signed by bob"), "{}", shown.text);
        assert_eq!(carol.sign_change(), "The roster is changed");
        erin.wait_for(&["end-good"]);
        elevate(bed, &erin, carol);
        nothing_violated(&[bob, carol, &erin]);
    });
}

/// The page was closed between the two gestures, and again while others are to sign: the same browser
/// goes on with the same words. Without its key it shows none, whatever the gateway says.
#[test]
fn an_enrolment_goes_on_in_the_browser_that_holds_its_key_and_shows_no_words_elsewhere() {
    in_namespace(here!(), |bed| {
        let (installation, phones) = start(bed, &["bob", "carol"]);
        let link = invite(&phones[0], "Erin Ek", "erin");
        let erin = PhonePlan::new("erin").start(&installation.site);
        erin.open(&link);
        erin.wait_for(&["enrol"]);
        erin.press("#actions .main");
        erin.wait_for(&["possess"]);
        let words = erin.words();
        erin.open(&link);
        erin.wait_for(&["possess"]);
        assert_eq!(erin.words(), words);
        erin.confirm_possession();
        erin.open(&link);
        erin.wait_for(&["waiting"]);
        assert_eq!(erin.words(), words);
        erin.clear_keys();
        erin.open(&link);
        erin.wait_for(&["end-bad"]);
        assert_eq!(erin.heading(), "The key is not in this browser");
        assert!(erin.words().is_empty());
        nothing_violated(&[&phones[0], &erin]);
    });
}

/// A link that somebody else opened first is good for nothing: the invited person can't open it any
/// more, whoever signs is warned, and the words are not those that the invited person reads.
///
/// Catalogue: E1 (control: somebody_new_is_invited_enrols_and_approves_once_two_have_signed)
#[test]
fn a_link_that_two_browsers_opened_is_told_to_those_who_sign() {
    in_namespace(here!(), |bed| {
        let (installation, phones) = start(bed, &["bob", "carol"]);
        let [bob, carol] = [&phones[0], &phones[1]];
        let link = invite(bob, "Erin Ek", "erin");
        let thief = PhonePlan::new("thief").start(&installation.site);
        let stolen = thief.accept_invite(&link);
        let erin = PhonePlan::new("erin").start(&installation.site);
        erin.open(&link);
        erin.wait_for(&["problem"]);
        let shown = carol.read_change("Erin Ek");
        assert!(shown.text.contains("A second browser opened the invite"), "{}", shown.text);
        assert_eq!(shown.words, [stolen]);
        carol.press("#actions .deny");
        carol.wait_for(&["end-bad"]);
        assert_eq!(carol.heading(), "You declined it");
        thief.wait_for(&["end-bad"]);
        // What was declined is off for bob too, and the thief's passkey opens nothing.
        bob.open_inbox();
        assert!(!bob.text().contains("Erin Ek"), "{}", bob.text());
        thief.open_path("/");
        thief.wait_for(&["sign-in"]);
        thief.press("#actions .main");
        eventually("the refusal", LIMIT, || thief.note().contains("not accepted"));
        nothing_violated(&[bob, carol, &erin, &thief]);
    });
}

/// carol adds a second phone herself; later the first is lost, and two others take it off the
/// roster: it can't sign in any more, the second still approves.
///
/// Catalogue: E6 (control: inline)
#[test]
fn a_second_device_stays_when_the_lost_one_goes() {
    in_namespace(here!(), |bed| {
        let (installation, phones) = start(bed, &["bob", "carol", "dave"]);
        let [bob, carol, dave] = [&phones[0], &phones[1], &phones[2]];
        carol.open_person("carol");
        carol.press_text("main > button", "Add another device");
        let link = carol.scan_invite();
        let second = PhonePlan::new("carol's second").start(&installation.site);
        let spoken = second.accept_invite(&link);
        let shown = carol.read_open_change();
        assert!(shown.heading.starts_with("carol gets a new device"), "{}", shown.heading);
        assert_eq!(shown.words, std::slice::from_ref(&spoken));
        // Her own old device counts as one signer.
        assert_eq!(carol.sign_change(), "You have signed");
        assert_eq!(bob.read_change("carol").words, [spoken]);
        assert_eq!(bob.sign_change(), "The roster is changed");
        second.wait_for(&["end-good"]);

        dave.open_person("carol");
        dave.press_text(".card button", "Remove this device: carol's browser");
        let shown = dave.read_open_change();
        assert!(shown.heading.starts_with("carol loses the device"), "{}", shown.heading);
        assert!(shown.words.is_empty());
        assert_eq!(dave.sign_change(), "You have signed");
        // One helper alone changes nothing.
        carol.open_inbox();
        let _ = bob.read_change("carol");
        assert_eq!(bob.sign_change(), "The roster is changed");
        // The lost one's session is over and its passkey refused; the second works.
        carol.open_path("/");
        carol.wait_for(&["sign-in"]);
        carol.press("#actions .main");
        eventually("the refusal", LIMIT, || carol.note().contains("not accepted"));
        elevate(bed, &second, dave);
        nothing_violated(&[bob, carol, dave, &second]);
    });
}

/// One tap and one gesture suspend carol: what she has on the screen is refused at once. bob alone
/// can't lift it; two can.
#[test]
fn one_tap_suspends_and_two_people_lift() {
    in_namespace(here!(), |bed| {
        let (_installation, phones) = start(bed, &["bob", "carol", "erin"]);
        let [bob, carol, erin] = [&phones[0], &phones[1], &phones[2]];
        let mut terminal = bed.terminal("alice", &["sudo", "id"]);
        let ticket = scan_ticket(&terminal, None);
        carol.scan(&format!("HTTPS://TL.EXAMPLE.ORG/S/{ticket}"));

        bob.open_people();
        bob.finger_matches(false);
        bob.press_text(".suspend", "Suspend carol");
        eventually("the note", LIMIT, || bob.note().contains("Not confirmed"));
        assert_eq!(carol.screen(), "request", "a gesture that failed changes nothing");
        bob.finger_matches(true);
        bob.press_text(".suspend", "Suspend carol");
        bob.wait_for(&["end-good"]);
        assert_eq!(bob.heading(), "carol is suspended");
        // Her claim is over without her doing anything.
        eventually("the end of her claim", LIMIT, || carol.screen() != "request");
        carol.open_path("/");
        carol.wait_for(&["sign-in"]);
        carol.press("#actions .main");
        eventually("the refusal", LIMIT, || carol.note().contains("not accepted"));
        terminal.send("\u{3}");
        assert_ne!(terminal.exit_code(LIMIT), 0);

        bob.open_person("carol");
        assert!(bob.text().contains("Suspended"), "{}", bob.text());
        bob.press_text("#actions button", "Lift suspension");
        let shown = bob.read_open_change();
        assert_eq!(shown.heading, "The suspension of carol is lifted");
        assert_eq!(bob.sign_change(), "You have signed");
        assert_eq!(erin.read_change("carol").heading, "The suspension of carol is lifted");
        assert_eq!(erin.sign_change(), "The roster is changed");
        elevate(bed, carol, erin);
        nothing_violated(&[bob, carol, erin]);
    });
}

/// The browser drops what it stored, passkeys stay: first on one phone, then on two of three. One
/// other person compares the words and signs; then the phone approves as before.
#[test]
fn a_dropped_device_key_is_restored_on_one_phone_and_then_on_both() {
    in_namespace(here!(), |bed| {
        let (_installation, phones) = start(bed, &["bob", "carol", "dave"]);
        let [bob, carol, dave] = [&phones[0], &phones[1], &phones[2]];
        bob.clear_storage();
        let spoken = bob.restore_key();
        let shown = carol.read_change("bob");
        assert!(shown.heading.contains("gets a new browser key"), "{}", shown.heading);
        assert_eq!(shown.words, [spoken]);
        assert_eq!(carol.sign_change(), "The roster is changed");
        bob.wait_for(&["end-good"]);
        assert_eq!(bob.heading(), "The key is restored");
        elevate(bed, bob, carol);

        for phone in [bob, carol] {
            phone.clear_storage();
        }
        for (phone, name) in [(bob, "bob"), (carol, "carol")] {
            let spoken = phone.restore_key();
            let shown = dave.read_change(name);
            assert_eq!(shown.words, [spoken], "{}", shown.text);
            assert_eq!(dave.sign_change(), "The roster is changed");
            phone.wait_for(&["end-good"]);
        }
        elevate(bed, bob, carol);
        nothing_violated(&[bob, carol, dave]);
    });
}

/// The page closes while the others have not signed yet: the next sign-in goes on from there.
#[test]
fn a_restoration_survives_a_closed_page() {
    in_namespace(here!(), |bed| {
        let (_installation, phones) = start(bed, &["bob", "carol"]);
        let [bob, carol] = [&phones[0], &phones[1]];
        bob.clear_storage();
        let spoken = bob.restore_key();
        bob.open_path("/");
        bob.wait_for(&["sign-in"]);
        bob.press("#actions .main");
        bob.wait_for(&["waiting"]);
        assert_eq!(bob.words(), spoken);
        let _ = carol.read_change("bob");
        assert_eq!(carol.sign_change(), "The roster is changed");
        bob.wait_for(&["end-good"]);
        bob.open_inbox();
        nothing_violated(&[bob, carol]);
    });
}

/// carol is removed by two. Her passkey, her browser, her old invite and the restoring of keys open
/// nothing; only a new invite and two signatures would.
///
/// Catalogue: E3 (control: somebody_new_is_invited_enrols_and_approves_once_two_have_signed)
#[test]
fn somebody_removed_finds_no_way_back_alone() {
    in_namespace(here!(), |bed| {
        let (_installation, phones) = start(bed, &["bob", "carol", "dave"]);
        let [bob, carol, dave] = [&phones[0], &phones[1], &phones[2]];
        carol.open_person("carol");
        carol.press_text("main > button", "Add another device");
        let old_link = carol.scan_invite();
        let shown = bob.read_removal("carol");
        assert!(shown.text.contains("carol leaves, for good"), "{}", shown.text);
        assert_eq!(bob.sign_change(), "You have signed");
        let _ = dave.read_change("carol");
        assert_eq!(dave.sign_change(), "The roster is changed");

        // Her session is over; her passkey is refused.
        carol.open_path("/");
        carol.wait_for(&["sign-in"]);
        carol.press("#actions .main");
        eventually("the refusal", LIMIT, || carol.note().contains("not accepted"));
        // A key that was dropped is no way in either.
        carol.clear_storage();
        carol.open_path("/");
        carol.wait_for(&["sign-in"]);
        carol.press("#actions .main");
        carol.wait_for(&["key-lost"]);
        carol.press("#actions .main");
        carol.wait_for(&["restore"]);
        carol.press("#actions .main");
        eventually("the refusal", LIMIT, || carol.note().contains("not accepted"));
        // Nor is the invite that was made for her while she was here.
        carol.open(&old_link);
        if carol.wait_for(&["problem", "enrol"]) == "enrol" {
            carol.press("#actions .main");
            if carol.wait_for(&["problem", "possess"]) == "possess" {
                carol.press("#actions .main");
                carol.wait_for(&["problem", "end-calm", "end-bad"]);
            }
        }
        dave.open_inbox();
        assert!(!dave.text().contains("carol"), "{}", dave.text());
        nothing_violated(&[bob, carol, dave]);
    });
}

/// Each of these pages at 360×640, light and dark: nothing sticks out sideways, nothing that is
/// pressed is smaller than a fingertip or hidden behind the bottom.
#[test]
fn every_page_of_people_and_devices_fits_a_small_phone() {
    const MISFITS: &str = "const wide = [...document.querySelectorAll('body *')].filter(e => {
           const r = e.getBoundingClientRect(); return r.width > 0 && (r.right > 361 || r.left < -1) && getComputedStyle(e).clipPath === 'none' })
           .map(e => 'sticks out: ' + e.outerHTML.slice(0, 80));
         const small = [...document.querySelectorAll('button, summary, .check, input:not([type=checkbox]):not([type=radio])')]
           .filter(e => e.offsetParent !== null && e.getBoundingClientRect().height < 44).map(e => 'is small: ' + e.outerHTML.slice(0, 80));
         const foot = document.querySelector('#actions').getBoundingClientRect();
         const cut = foot.height && foot.bottom > innerHeight + 1 ? ['the buttons are cut'] : [];
         const named = [...document.querySelectorAll('button, input, svg')].filter(e => e.offsetParent !== null || e.tagName === 'svg')
           .filter(e => !(e.innerText || e.getAttribute('aria-label') || document.querySelector(`label[for='${e.id}']`)))
           .map(e => 'has no name: ' + e.outerHTML.slice(0, 80));
         return [...wide, ...small, ...cut, ...named]";
    in_namespace(here!(), |bed| {
        let (installation, phones) = start(bed, &["bob", "carol", "dave"]);
        let out = bed.out_dir();
        let mut seen = Vec::new();
        play(&installation.site, [&phones[0], &phones[1], &phones[2]], |name, phone| {
            phone.height(640);
            for (theme, dark) in [("dark", true), ("light", false)] {
                phone.dark(dark);
                phone.screenshot(&out.join(format!("{name}-{theme}.png")));
            }
            let misfits = phone.run(MISFITS, &[]);
            assert_eq!(misfits, serde_json::json!([]), "{name}");
            seen.push(name.to_owned());
            phone.height(740);
        });
        assert!(seen.len() > 20, "{seen:?}");
    });
}
