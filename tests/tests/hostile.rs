//! What the hostile gateway tries, as tests: one per kind of lie, each on a stage of its own.
//! `make hostile` runs all of it on one stage and prints every case. Each case has its own
//! control in it, the same steps with the honest value, after which the command ran as root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use twinlock_tests::here;
use twinlock_tests::hostile::{self, cases, scenes};
use twinlock_tests::ns::in_namespace_within;

/// Far more than a group needs, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(400);

fn play(test: &str, group: cases::Group) {
    in_namespace_within(test, LIMIT, |bed| hostile::run(bed, &[], &[group], &[]));
}

/// Catalogue: A1, A3, A4, A5, A6, A10, E4, I8, V1, V4 (control: inline)
#[test]
fn only_two_distinct_eligible_persons_other_than_the_requester_grant() {
    play(here!(), cases::people::cases);
}

/// Catalogue: A1, C5, S5, V3 (control: inline)
#[test]
fn approvals_of_another_request_host_target_or_time_do_not_grant() {
    play(here!(), cases::past::cases);
}

/// Catalogue: A2, A18, A19 (control: inline)
#[test]
fn no_field_of_request_statement_or_evidence_can_be_changed_or_respelt() {
    play(here!(), cases::fields::cases);
}

/// Catalogue: A9, Q6 (control: inline)
#[test]
fn no_part_of_an_assertion_can_be_wrong() {
    play(here!(), cases::webauthn::cases);
}

/// Catalogue: C1, C2, C3, C5, V1, V3 (control: inline)
#[test]
fn the_stolen_ca_key_makes_no_certificate_that_grants_by_itself() {
    play(here!(), cases::certificates::cases);
}

/// Catalogue: C4 (control: inline)
#[test]
fn no_stale_older_or_foreign_revocation_list_is_taken() {
    play(here!(), cases::lists::cases);
}

/// Catalogue: A14, A20, V4 (control: inline)
#[test]
fn no_gateway_time_widens_what_people_signed() {
    play(here!(), cases::times::cases);
}

/// Catalogue: A19, V5 (control: inline)
#[test]
fn no_other_wire_version_is_spoken_and_no_grant_goes_unlogged() {
    in_namespace_within(here!(), LIMIT, |bed| hostile::run(bed, scenes::SCENES, &[], &[]));
}

/// Catalogue: D1 (control: inline)
#[test]
fn nothing_that_a_gateway_says_reaches_the_terminal_raw_or_counts_as_a_signature() {
    play(here!(), cases::words::cases);
}

/// Catalogue: I1, I2, I5, A12, V1 (control: inline)
#[test]
fn no_roster_counts_that_two_people_of_the_one_before_did_not_sign() {
    play(here!(), cases::rosters::cases);
}
