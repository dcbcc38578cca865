//! The way to a grant, and what the grant holds.
use std::rc::Rc;

use twinlock_protocol::evidence::SignedRequest;
use twinlock_protocol::request::Mode;
use twinlock_protocol::wire::module::{Approved, ModuleMessage, Slot};

use super::*;
use crate::clock::boot_ms;
use crate::grant_store::Grant;

fn grant_of(script: &mut Script) -> Rc<Grant> {
    match script.take() {
        Some(Remembered::Granted(grant, _)) => grant,
        _ => panic!("no grant is remembered"),
    }
}

#[test]
fn two_persons_are_granted() {
    let bench = Bench::new();
    let mut script = Bench::script();
    let before = boot_ms();
    assert_eq!(bench.grant(&mut script, &Terms::honest()), Ok(Outcome::Allowed));
    let grant = grant_of(&mut script);
    assert_eq!(grant.request.target.user, "root");
    let life = grant.deadline_boot_ms - before;
    assert!((900_000..910_000).contains(&life), "{life}");
    assert!(matches!(script.take(), Some(Remembered::Asked)), "a grant is given out once");
    let text = script.text();
    for line in [
        "twinlock: two approvers needed (bob, carol, dave)",
        "  alice -> root on web01",
        "  systemctl restart nginx",
        "HTTPS://TL.EXAMPLE.ORG/S/",
        "waiting for approver 1 of 2",
        "bob and carol approved",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_request_says_what_the_host_knows() {
    let mut bench = Bench::new();
    bench.configure("ttl_s = 300\napprove_by_s = 60");
    bench.command("sudo -u bob -E X=1 id -un");
    let mut script = Bench::script();
    let (outcome, request) = bench.play(&mut script, |agent| {
        let request = agent.submitted();
        agent.accept_request(request.id());
        agent.say(&ModuleEvent::Granted(bench.granted(&request, &Terms { certificate_s: 300, ..Terms::honest() })));
        request.request().clone()
    });
    assert_eq!(outcome, Ok(Outcome::Allowed));
    assert_eq!((request.target.user.as_str(), request.target.uid), ("bob", 1002));
    assert_eq!((request.ttl_s, request.approve_by_s), (300, 60));
    assert_eq!(request.requester.real.name, "alice");
    assert_eq!(request.requester.pam_ruser.as_deref(), Some("alice"));
    assert_eq!(request.view.mode, Mode::Command);
    assert!(request.view.preserve_env && request.view.assignments.len() == 1);
    assert_eq!(request.command().len(), 2);
    assert_eq!(request.service, "sudo");
    assert_eq!(request.boot_id, crate::facts::boot_id().unwrap());
}

#[test]
fn gateway_times_only_shorten_the_grant() {
    for (terms, config, seconds) in [
        (Terms { statement_ttl_s: 60, certificate_s: 60, ..Terms::honest() }, "", 60),
        (Terms { certificate_s: 100, backdate_s: 20, ..Terms::honest() }, "", 120),
        (Terms { certificate_s: 200, ..Terms::honest() }, "ttl_s = 200\nmax_ttl_s = 200", 200),
    ] {
        let bench = Bench::new();
        bench.configure(config);
        let mut script = Bench::script();
        let before = boot_ms();
        assert_eq!(bench.grant(&mut script, &terms), Ok(Outcome::Allowed));
        let life = (grant_of(&mut script).deadline_boot_ms - before) / 1000;
        assert!((seconds..seconds + 10).contains(&life), "{life} is not {seconds}");
    }
}

#[test]
fn a_reason_is_asked_for_where_configured() {
    let bench = Bench::new();
    bench.configure("reason = 'required'");
    let mut script = Bench::script();
    script.answers.push_back(Ok("nginx hangs /5m".into()));
    let (outcome, request) = bench.play(&mut script, |agent| {
        let request = agent.submitted();
        agent.say(&ModuleEvent::Granted(bench.granted(&request, &Terms { certificate_s: 300, ..Terms::honest() })));
        request.request().clone()
    });
    assert_eq!(outcome, Ok(Outcome::Allowed));
    assert_eq!((request.reason.as_deref(), request.ttl_s), (Some("nginx hangs"), 300));
}

#[test]
fn progress_is_shown_with_names_of_the_roster() {
    let bench = Bench::new();
    let mut script = Bench::script();
    let (outcome, ()) = bench.play(&mut script, |agent| {
        let request = agent.submitted();
        agent.accept_request(request.id());
        agent.show_ticket(1);
        agent.say(&ModuleEvent::Claimed(Slot { slot: 1 }));
        agent.say(&ModuleEvent::Approved(Approved { slot: 1, person: bench.fixture.phone("bob").person.clone() }));
        agent.show_ticket(2);
        agent.say(&ModuleEvent::Granted(bench.granted(&request, &Terms::honest())));
    });
    assert_eq!(outcome, Ok(Outcome::Allowed));
    let text = script.text();
    for line in
        ["approver 1 of 2 is reading it", "bob approved", "; approver 2: scan this one", "waiting for approver 2 of 2"]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

/// Catalogue: S4 (control: inline)
#[test]
fn a_lost_link_is_resumed_with_the_token() {
    let bench = Bench::new();
    let mut script = Bench::script();
    let (outcome, (first, second)) = bench.play_all(&mut script, |listener| {
        let mut agent = Agent::accept(&bench, listener);
        let Some(ModuleMessage::Submit(submit)) = agent.hear() else { panic!("a submit") };
        let request = agent.verified(&submit.signed);
        agent.accept_request(request.id());
        agent.show_ticket(1);
        drop(agent);
        let mut agent = Agent::accept(&bench, listener);
        let Some(ModuleMessage::Resume(resume)) = agent.hear() else { panic!("a resume") };
        agent.accept_request(request.id());
        agent.say(&ModuleEvent::Granted(bench.granted(&request, &Terms::honest())));
        ((request.id(), submit.resume_token), (resume.request, resume.resume_token))
    });
    assert_eq!(outcome, Ok(Outcome::Allowed));
    assert_eq!(first, second);
}

#[test]
fn every_request_has_its_own_secrets() {
    let bench = Bench::new();
    let submit = || {
        let (_, submit) = bench.play(&mut Bench::script(), |agent| match agent.hear() {
            Some(ModuleMessage::Submit(submit)) => {
                let signed: SignedRequest = submit.signed;
                let request = agent.verified(&signed).request().clone();
                agent.say(&ModuleEvent::Refused(twinlock_protocol::wire::module::Refused {
                    reason: twinlock_protocol::DenyReason::RateLimited,
                    retry_after_s: Some(90),
                }));
                (request, submit.resume_token)
            }
            other => panic!("{other:?}"),
        });
        submit
    };
    let ((one, token_one), (two, token_two)) = (submit(), submit());
    assert_ne!(one.nonce, two.nonce);
    assert_ne!(one.session_key, two.session_key);
    assert_ne!(one.terminal_code, two.terminal_code);
    assert_ne!(token_one, token_two);
}
