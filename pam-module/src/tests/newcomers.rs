//! Approvers who joined by a newer roster than the one a waiting request was made under: shown as not
//! verified, and judged by the roster that comes with the evidence. Whoever is in neither was made up.
use twinlock_protocol::DenyReason;
use twinlock_protocol::ids::PersonId;
use twinlock_protocol::softphone::{Phone, person};
use twinlock_protocol::wire::module::{Alarm, Approved, Denied};

use super::rosters::Chain;
use super::*;

/// grace joins by version 2, which the host hears of with the evidence alone.
fn chain() -> Chain {
    let mut chain = Chain::new();
    let phone = Phone::new("grace", "grace-phone");
    let mut grace = person("grace", &["approvers"], vec![phone.device.clone()]);
    grace.name = "Grace H.".into();
    chain.bench.fixture.phones.push(phone);
    chain.step(&["bob", "carol"], |roster| roster.persons.push(grace))
}

fn id(text: &str) -> PersonId {
    PersonId::new(text).unwrap()
}

/// An elevation under version 1: the gateway says that these approved, and sends a grant by those.
/// The outcome, what was shown, and the alarm, if there is one.
fn run(chain: &Chain, told: &[&str], granted_by: &[&str]) -> (Result<Outcome, Refusal>, String, Option<Alarm>) {
    let mut script = Bench::script();
    let (outcome, alarm) = chain.bench.play_all(&mut script, |listener| {
        let mut agent = Agent::accept(&chain.bench, listener);
        let request = agent.submitted();
        agent.accept_request(request.id());
        agent.show_ticket(1);
        for (index, name) in told.iter().enumerate() {
            let slot = if index == 0 { 1 } else { 2 };
            agent.say(&ModuleEvent::Approved(Approved { slot, person: id(name) }));
            agent.show_ticket(2);
        }
        agent.say(&ModuleEvent::Granted(chain.grant(&request, granted_by)));
        while agent.hear().is_some() {}
        alarm(chain, listener)
    });
    (outcome, script.text(), alarm)
}

/// The alarm, which comes on a connection of its own before `account` returns.
fn alarm(chain: &Chain, listener: &UnixListener) -> Option<Alarm> {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..50 {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            let mut agent = Agent { stream, bench: &chain.bench, rosters: Vec::new() };
            match agent.hear() {
                Some(ModuleMessage::Alarm(alarm)) => return Some(alarm),
                other => panic!("{other:?}"),
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    None
}

/// Positive control of what follows.
#[test]
fn who_joined_by_a_newer_roster_than_the_requests_approves_and_is_shown_unverified_until_then() {
    let chain = chain();
    let (outcome, text, alarm) = run(&chain, &["grace", "bob"], &["grace", "bob"]);
    assert_eq!((outcome, alarm), (Ok(Outcome::Allowed), None), "{text}");
    assert!(text.contains("somebody new (\"grace\", not verified yet) approved"), "{text}");
    assert!(text.contains("Grace H. and bob approved"), "by the name in the roster that came: {text}");
    assert_eq!(chain.pinned(), 2);
}

/// Catalogue: V1 (control: who_joined_by_a_newer_roster_than_the_requests_approves_and_is_shown_unverified_until_then)
#[test]
fn somebody_made_up_is_refused_by_the_roster_that_comes_and_raises_the_alarm() {
    // Their approval is in the evidence, or somebody else's stands there instead.
    let stranger = Phone::new("zoe", "zoe-phone");
    let mut made_up = chain();
    made_up.bench.fixture.phones.push(stranger);
    for granted_by in [["zoe", "bob"], ["bob", "carol"]] {
        let (outcome, text, alarm) = run(&made_up, &["zoe", "bob"], &granted_by);
        assert_eq!(outcome.unwrap_err().reason, DenyReason::ApproverUnknown, "{text}");
        assert_eq!(alarm.map(|alarm| alarm.reason), Some(DenyReason::ApproverUnknown), "{granted_by:?}");
        assert!(text.contains("\"zoe\", not verified yet"), "{text}");
    }
    // Control: without the made-up name.
    let (outcome, text, alarm) = run(&made_up, &["bob", "carol"], &["bob", "carol"]);
    assert_eq!((outcome, alarm), (Ok(Outcome::Allowed), None), "{text}");
}

/// Catalogue: D1 (control: inline)
#[test]
fn a_newcomers_id_is_cut_and_there_are_only_so_many() {
    let chain = chain();
    let long = format!("type-your-password-{}", "x".repeat(40));
    let (outcome, text, _) = run(&chain, &[&long], &["bob", "carol"]);
    assert_eq!(outcome.unwrap_err().reason, DenyReason::ApproverUnknown);
    assert!(text.contains("(\"type-your-password-x..\", not") && !text.contains("-xx"), "{text}");
    let many: Vec<String> = (0..40).map(|number| format!("zoe{number}")).collect();
    let mut script = Bench::script();
    let (outcome, ()) = chain.bench.play(&mut script, |agent| {
        let request = agent.submitted();
        let approved = many.iter().map(|name| id(name)).collect();
        agent.say(&ModuleEvent::Accepted(Accepted { request: request.id(), eligible: Vec::new(), approved }));
        while agent.hear().is_some() {}
    });
    assert_eq!(outcome.unwrap_err().reason, DenyReason::WireMismatch);
}

/// A denial refuses at once, whoever it is by; what a newer roster may explain is no alarm.
#[test]
fn a_newcomers_denial_refuses_without_an_alarm() {
    for (name, alarms) in [("grace", false), ("bob", false), ("bob-forged", true)] {
        let chain = chain();
        let mut script = Bench::script();
        let (outcome, alarm) = chain.bench.play_all(&mut script, |listener| {
            let mut agent = Agent::accept(&chain.bench, listener);
            let request = agent.submitted();
            let phone = chain.bench.fixture.phone(name.trim_end_matches("-forged"));
            let mut statement = phone.answer(&chain.bench.roster, request.id(), Decision::Deny);
            if alarms {
                statement.device_signature = None;
            }
            agent.say(&ModuleEvent::Denied(Denied { statement }));
            while agent.hear().is_some() {}
            alarm(&chain, listener)
        });
        let refusal = outcome.unwrap_err();
        assert_eq!(alarm.is_some(), alarms, "{name}: {refusal:?}");
        let reason = if alarms { DenyReason::DeviceSignature } else { DenyReason::Denied };
        assert_eq!(refusal.reason, reason, "{name}");
        assert_eq!(refusal.lines().contains("by bob"), name == "bob", "{refusal:?}");
    }
}
