//! The pages on which people and devices change, played in one story by three phones and a new one:
//! for the pictures of `make screens`, and for the test that each fits a small phone.

use crate::approver::Site;
use crate::phone::{Phone, PhonePlan};

/// Plays the story; `look` is called with each page's name and the phone that shows it.
pub fn play(site: &Site, [bob, carol, dave]: [&Phone; 3], mut look: impl FnMut(&str, &Phone)) {
    bob.open_people();
    look("page-people", bob);
    bob.press("#actions .main");
    bob.wait_for(&["invite-form"]);
    bob.type_into("#name", "Erin Ek");
    bob.type_into("#login", "erin");
    look("page-invite-form", bob);
    bob.press("#actions .main");
    let link = bob.scan_invite();
    look("page-invite", bob);

    let erin = PhonePlan::new("erin").start(site);
    erin.open(&link);
    erin.wait_for(&["enrol"]);
    look("page-invited", &erin);
    erin.press("#actions .main");
    erin.wait_for(&["possess"]);
    look("page-possess", &erin);
    erin.confirm_possession();
    look("page-words", &erin);

    bob.wait_for(&["proposal"]);
    look("page-change", bob);
    let _ = bob.read_open_change();
    look("page-change-read", bob);
    bob.sign_change();
    look("page-change-signed", bob);
    carol.open_inbox();
    look("page-inbox-change", carol);
    let _ = carol.read_change("Erin Ek");
    carol.sign_change();
    look("page-change-sealed", carol);
    erin.wait_for(&["end-good"]);
    look("page-enrolled-by-invite", &erin);

    bob.open_person("carol");
    look("page-person", bob);
    bob.open_people();
    bob.press_text(".suspend", "Suspend dave");
    bob.wait_for(&["end-good"]);
    look("page-suspended", bob);
    bob.open_people();
    look("page-people-suspended", bob);
    bob.open_person("dave");
    bob.press_text("#actions button", "Lift suspension");
    let _ = bob.read_open_change();
    look("page-lift", bob);
    bob.sign_change();
    let _ = carol.read_change("dave");
    carol.sign_change();

    dave.clear_storage();
    dave.open_path("/");
    dave.wait_for(&["sign-in"]);
    dave.press("#actions .main");
    dave.wait_for(&["key-lost"]);
    look("page-key-lost", dave);
    dave.press("#actions .main");
    dave.wait_for(&["restore"]);
    look("page-restore", dave);
    let _ = dave.restore_key();
    look("page-restore-words", dave);
    let _ = bob.read_change("dave");
    look("page-restore-change", bob);
    bob.sign_change();
    dave.wait_for(&["end-good"]);
    look("page-restored", dave);
    let _ = bob.read_removal("carol");
    look("page-remove", bob);
}
