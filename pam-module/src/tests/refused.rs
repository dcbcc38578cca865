//! Everything that must not lead to a grant, each beside the honest run that does.
use std::time::{Duration, Instant};

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use twinlock_protocol::DenyReason;
use twinlock_protocol::refusal::PamOutcome;
use twinlock_protocol::wire::module::{Denied, Link, Refused};

use super::*;

/// The reason, and that no grant is left in the handle.
#[track_caller]
fn reason(script: &mut Script, outcome: Result<Outcome, Refusal>) -> DenyReason {
    assert!(!matches!(script.take(), Some(Remembered::Granted(..))), "a grant after a refusal");
    outcome.expect_err("a refusal").reason
}

#[track_caller]
fn refused(bench: &Bench) -> DenyReason {
    let mut script = Bench::script();
    let outcome = bench.account(&mut script);
    reason(&mut script, outcome)
}

/// Changes one term at a time; the unchanged ones are granted.
/// Catalogue: C4 (control: inline)
#[test]
fn each_flaw_of_a_grant_is_refused_with_its_reason() {
    let honest = Terms::honest();
    let flaws = [
        (Terms { approvers: vec!["bob", "bob"], ..honest.clone() }, DenyReason::SamePerson),
        (Terms { approvers: vec!["bob"], ..honest.clone() }, DenyReason::TooFewApprovals),
        (Terms { approvers: vec![], ..honest.clone() }, DenyReason::TooFewApprovals),
        (Terms { approvers: vec!["bob", "carol", "dave"], ..honest.clone() }, DenyReason::EvidenceMalformed),
        (Terms { certificate_s: 1000, ..honest.clone() }, DenyReason::CertificateTime),
        (Terms { statement_ttl_s: 60, ..honest.clone() }, DenyReason::CertificateTime),
        (Terms { revoked: true, ..honest.clone() }, DenyReason::CertificateRevoked),
        (Terms { crl_s: 0, ..honest.clone() }, DenyReason::CrlInvalid),
    ];
    for (terms, expected) in flaws {
        let bench = Bench::new();
        let mut script = Bench::script();
        let outcome = bench.grant(&mut script, &terms);
        assert_eq!(reason(&mut script, outcome), expected);
        assert_eq!(bench.grant(&mut Bench::script(), &honest), Ok(Outcome::Allowed));
    }
}

/// Catalogue: C1 (control: inline)
#[test]
fn a_grant_for_another_request_is_refused() {
    let bench = Bench::new();
    let mut script = Bench::script();
    let (outcome, old) = bench.play(&mut script, |agent| {
        let request = agent.submitted();
        let granted = bench.granted(&request, &Terms::honest());
        agent.say(&ModuleEvent::Granted(granted.clone()));
        granted
    });
    assert_eq!(outcome, Ok(Outcome::Allowed));
    let mut script = Bench::script();
    let outcome = bench.answer(&mut script, |_| ModuleEvent::Granted(old.clone()));
    assert_eq!(reason(&mut script, outcome), DenyReason::EvidenceOtherRequest);
    // Fresh evidence under the old certificate is no better.
    let mut script = Bench::script();
    let outcome = bench.answer(&mut script, |request| {
        let fresh = bench.granted(request, &Terms::honest());
        ModuleEvent::Granted(Granted { certificate: old.certificate, ..fresh })
    });
    assert_eq!(reason(&mut script, outcome), DenyReason::CertificateOther);
}

/// Catalogue: C3 (control: two_persons_are_granted)
#[test]
fn a_certificate_of_another_ca_is_refused() {
    let bench = Bench::new();
    let mut stranger = Bench::new();
    stranger.fixture.phones.clear();
    let mut script = Bench::script();
    let outcome = bench.answer(&mut script, |request| {
        let honest = bench.granted(request, &Terms::honest());
        let foreign = stranger.granted_on(request, &Terms::honest(), Vec::new());
        ModuleEvent::Granted(Granted { certificate: foreign.certificate, ..honest })
    });
    assert_eq!(reason(&mut script, outcome), DenyReason::CertificateInvalid);
    let mut script = Bench::script();
    let outcome = bench.answer(&mut script, |request| {
        let honest = bench.granted(request, &Terms::honest());
        let foreign = stranger.granted_on(request, &Terms::honest(), Vec::new());
        ModuleEvent::Granted(Granted { crl: foreign.crl, ..honest })
    });
    assert_eq!(reason(&mut script, outcome), DenyReason::CrlInvalid);
}

/// Catalogue: C4 (control: inline)
#[test]
fn a_revocation_list_older_than_one_seen_is_refused() {
    let bench = Bench::new();
    let with = |crl_number| Terms { crl_number, ..Terms::honest() };
    assert_eq!(bench.grant(&mut Bench::script(), &with(9)), Ok(Outcome::Allowed));
    assert_eq!(bench.grant(&mut Bench::script(), &with(9)), Ok(Outcome::Allowed));
    let mut script = Bench::script();
    let outcome = bench.grant(&mut script, &with(8));
    assert_eq!(reason(&mut script, outcome), DenyReason::CrlInvalid);
    assert_eq!(bench.grant(&mut Bench::script(), &with(10)), Ok(Outcome::Allowed));
}

/// Catalogue: A14 (control: two_persons_are_granted)
#[test]
fn one_denial_among_the_statements_refuses() {
    let bench = Bench::new();
    let mut script = Bench::script();
    let outcome = bench.answer(&mut script, |request| {
        let answer = |name, decision| bench.fixture.phone(name).answer(bench.roster.roster(), request.id(), decision);
        let statements =
            vec![answer("bob", Decision::Approve), answer("carol", Decision::Deny), answer("dave", Decision::Approve)];
        ModuleEvent::Granted(bench.granted_on(request, &Terms::honest(), statements))
    });
    assert_eq!(reason(&mut script, outcome), DenyReason::DenialPresent);
}

/// Catalogue: A23 (control: inline)
#[test]
fn a_denial_names_the_person_and_shows_the_words_escaped() {
    let bench = Bench::new();
    let mut script = Bench::script();
    let outcome = bench.answer(&mut script, |request| {
        let phone = bench.fixture.phone("bob");
        let mut statement = phone.statement(request.id(), Decision::Deny);
        statement.deny_reason = Some("not now\x1b[2J\u{202e}".into());
        let statement = phone.sign(bench.roster.roster(), APPROVAL_DOMAINS, &statement.to_bytes());
        ModuleEvent::Denied(Denied { statement })
    });
    let refusal = outcome.unwrap_err();
    assert_eq!(refusal.reason, DenyReason::Denied);
    assert_eq!(refusal.outcome(), PamOutcome::PermDenied);
    assert_eq!(
        refusal.lines(),
        "twinlock: error: denied: by bob, who says: not now\\u{1b}[2J\\u{202e}\n\
         twinlock: hint: ask the approver on another channel before you try again"
    );
    // A denial that nobody signed refuses too, without its words.
    let mut script = Bench::script();
    let outcome = bench.answer(&mut script, |request| {
        let phone = bench.fixture.phone("bob");
        let mut statement = phone.answer(bench.roster.roster(), request.id(), Decision::Deny);
        statement.device_signature = None;
        ModuleEvent::Denied(Denied { statement })
    });
    let refusal = outcome.unwrap_err();
    assert_eq!((refusal.reason, refusal.said), (DenyReason::DeviceSignature, None));
}

#[test]
fn a_refusal_of_the_gateway_is_told_in_our_words() {
    let bench = Bench::new();
    let refused = Refused { reason: DenyReason::RateLimited, retry_after_s: Some(90) };
    let outcome = bench.answer(&mut Bench::script(), |_| ModuleEvent::Refused(refused));
    let refusal = outcome.unwrap_err();
    assert_eq!(
        refusal.lines(),
        "twinlock: error: too many requests: try again in 1:30\ntwinlock: hint: wait and try again"
    );
}

#[test]
fn a_denial_without_a_persons_statement_is_not_told_as_somebodys() {
    let bench = Bench::new();
    let refused = Refused { reason: DenyReason::Denied, retry_after_s: None };
    let outcome = bench.answer(&mut Bench::script(), |_| ModuleEvent::Refused(refused));
    assert!(outcome.unwrap_err().lines().starts_with("twinlock: error: denied: so says the gateway alone\n"));
    // Control: other reasons are the gateway's to give.
    let refused = Refused { reason: DenyReason::Revoked, retry_after_s: None };
    let outcome = bench.answer(&mut Bench::script(), |_| ModuleEvent::Refused(refused));
    assert!(outcome.unwrap_err().lines().starts_with("twinlock: error: revoked\n"));
}

/// Catalogue: D6 (control: inline)
#[test]
fn a_shell_or_editor_that_cannot_be_shown_whole_is_refused_not_cut() {
    let mut bench = Bench::new();
    let long = vec![b'x'; limits::REQUEST_BYTES / 16 + 1];
    for (line, long_shell, long_editor, fits) in [
        ("sudo -s id", true, false, false),
        ("sudo -s id", false, true, true),
        ("sudoedit /etc/motd", false, true, false),
        ("sudoedit /etc/motd", true, false, true),
        ("sudo id", true, true, true),
    ] {
        bench.command(line);
        let value = |is_long: bool, usual: &[u8]| Some(if is_long { long.clone() } else { usual.to_vec() });
        bench.environment.shell = value(long_shell, b"/bin/bash");
        bench.environment.editor = value(long_editor, b"vi");
        let reason = bench.account(&mut Bench::script()).unwrap_err().reason;
        // Control: what fits comes as far as the agent, which is not there.
        assert_eq!(reason, if fits { DenyReason::AgentUnavailable } else { DenyReason::TooLong }, "{line}");
    }
}

#[test]
fn people_see_the_whole_shell_and_without_one_the_requesters_own() {
    let mut bench = Bench::new();
    bench.command("sudo -s id");
    let shown = |bench: &Bench| {
        let mut shell = None;
        let refused = Refused { reason: DenyReason::Revoked, retry_after_s: None };
        let _ = bench.answer(&mut Bench::script(), |request| {
            shell = request.request().view.shell.clone();
            ModuleEvent::Refused(refused)
        });
        shell.map(|shell| shell.0)
    };
    let long = [b"/tmp/".to_vec(), vec![b'x'; 300], b"/evil".to_vec()].concat();
    bench.environment.shell = Some(long.clone());
    assert_eq!(shown(&bench), Some(long));
    bench.environment.shell = None;
    assert_eq!(shown(&bench), Some(b"/bin/sh".to_vec()), "alice's passwd entry");
}

#[test]
fn a_host_key_that_others_can_read_is_refused() {
    let bench = Bench::new();
    for (mode, reason) in [
        (0o600, DenyReason::AgentUnavailable), // control
        (0o400, DenyReason::AgentUnavailable),
        (0o640, DenyReason::ConfigInvalid),
        (0o604, DenyReason::ConfigInvalid),
    ] {
        std::fs::set_permissions(bench.path("host.key"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let refusal = bench.account(&mut Bench::script()).unwrap_err();
        assert_eq!(refusal.reason, reason, "{mode:o}");
        assert!(mode & 0o077 == 0 || refusal.logged.unwrap().contains("chmod 600"), "{mode:o}");
    }
}

#[test]
fn nobody_in_time_is_a_refusal_and_cancels() {
    let bench = Bench::new();
    bench.configure("approve_by_s = 1");
    let mut script = Bench::script();
    let (outcome, last) = bench.play(&mut script, |agent| {
        let request = agent.submitted();
        agent.accept_request(request.id());
        agent.hear()
    });
    assert_eq!(reason(&mut script, outcome), DenyReason::Expired);
    assert!(matches!(last, Some(ModuleMessage::Cancel(_))));
}

/// How long a module that waits for approvals takes from this signal to its word to the agent. It
/// gives up and cancels, every time.
fn given_up_in(signal: Signal) -> Duration {
    let bench = Bench::new();
    let mut script = Bench::script();
    let waiting = pthread_self();
    let (outcome, (took, last)) = bench.play(&mut script, |agent| {
        let request = agent.submitted();
        agent.accept_request(request.id());
        std::thread::sleep(Duration::from_millis(50));
        let sent = Instant::now();
        pthread_kill(waiting, signal).unwrap();
        let last = agent.hear();
        (sent.elapsed(), last)
    });
    let refusal = outcome.unwrap_err();
    assert_eq!((refusal.reason, refusal.outcome()), (DenyReason::Cancelled, PamOutcome::Abort));
    assert!(matches!(last, Some(ModuleMessage::Cancel(_))), "{last:?}");
    assert!(!matches!(script.take(), Some(Remembered::Granted(..))));
    took
}

/// Catalogue: P4 (control: two_persons_are_granted)
#[test]
fn a_signal_gives_up_at_once_and_cancels() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM] {
        // A busy machine only adds to what the module takes itself; the signal comes at the same point
        // of its wait in each try, so a module that slept would sleep in all of them.
        let mut tries = (0..20).map(|_| given_up_in(signal));
        assert!(tries.any(|took| took < Duration::from_millis(100)), "{signal}");
    }
}

#[test]
fn ctrl_z_is_swallowed_and_the_mask_is_as_it_was() {
    let bench = Bench::new();
    let before = nix::sys::signal::SigSet::thread_get_mask().unwrap();
    let waiting = pthread_self();
    let (outcome, ()) = bench.play(&mut Bench::script(), |agent| {
        let request = agent.submitted();
        agent.accept_request(request.id());
        pthread_kill(waiting, Signal::SIGTSTP).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        agent.say(&ModuleEvent::Granted(bench.granted(&request, &Terms::honest())));
    });
    assert_eq!(outcome, Ok(Outcome::Allowed));
    assert_eq!(nix::sys::signal::SigSet::thread_get_mask().unwrap(), before);
}

/// Catalogue: P3 (control: two_persons_are_granted)
#[test]
fn an_agent_that_breaks_the_protocol_is_refused_in_bounded_time() {
    let bench = Bench::new();
    let broken: Vec<(Vec<u8>, DenyReason)> = vec![
        (vec![0xff; 64], DenyReason::WireMismatch),
        (u32::MAX.to_be_bytes().to_vec(), DenyReason::WireMismatch),
        (frame(&"granted"), DenyReason::WireMismatch),
        (frame(&serde_json::json!({"granted": {}})), DenyReason::WireMismatch),
        (
            frame(&serde_json::json!({"ticket": {"slot": 3, "ticket": "A".repeat(26), "valid_s": 90}})),
            DenyReason::WireMismatch,
        ),
        (
            frame(&serde_json::json!({"ticket": {"slot": 1, "ticket": "../../etc/passwd", "valid_s": 90}})),
            DenyReason::WireMismatch,
        ),
        (
            frame(&ModuleEvent::Accepted(Accepted {
                request: RequestId(twinlock_protocol::Digest::plain(b"another")),
                eligible: Vec::new(),
                approved: Vec::new(),
            })),
            DenyReason::WireMismatch,
        ),
    ];
    for (bytes, expected) in broken {
        let mut script = Bench::script();
        let (outcome, ()) = bench.play(&mut script, |agent| {
            agent.submitted();
            agent.raw(&bytes);
            while agent.hear().is_some() {}
        });
        assert_eq!(reason(&mut script, outcome), expected);
    }
}

/// Catalogue: P3 (control: two_persons_are_granted)
#[test]
fn an_agent_that_drips_is_refused_in_bounded_time() {
    let bench = Bench::new();
    let mut script = Bench::script();
    let started = Instant::now();
    let (outcome, ()) = bench.play(&mut script, |agent| {
        agent.submitted();
        agent.stream.set_nonblocking(true).unwrap();
        let frame = frame(&ModuleEvent::Link(Link { up: true }));
        for byte in frame.iter().cycle() {
            use std::io::Write as _;
            if agent.stream.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(400));
        }
    });
    assert_eq!(reason(&mut script, outcome), DenyReason::WireMismatch);
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Catalogue: P3 (control: a_lost_link_is_resumed_with_the_token)
#[test]
fn an_agent_that_takes_every_connection_and_drops_it_gains_no_time() {
    let bench = Bench::new();
    bench.configure("approve_by_s = 2");
    let mut script = Bench::script();
    let (outcome, connections) = bench.play_all(&mut script, |listener| {
        listener.set_nonblocking(true).unwrap();
        let (started, mut connections) = (Instant::now(), 0);
        while started.elapsed() < Duration::from_secs(3) {
            connections += u32::from(listener.accept().is_ok());
            std::thread::sleep(Duration::from_millis(5));
        }
        connections
    });
    assert!(matches!(reason(&mut script, outcome), DenyReason::Expired | DenyReason::AgentUnavailable));
    assert!(connections <= 8, "{connections} connections in two seconds");
}

/// Catalogue: P3 (control: two_persons_are_granted)
#[test]
fn without_an_agent_there_is_no_waiting() {
    let bench = Bench::new();
    assert_eq!(refused(&bench), DenyReason::AgentUnavailable);
    put(&bench.path("agent.sock"), 0o600, b"not a socket");
    assert_eq!(refused(&bench), DenyReason::AgentUnavailable);
}

/// Catalogue: D7 (control: two_persons_are_granted)
#[test]
fn without_a_terminal_or_where_nobody_waits_there_is_no_request() {
    let mut bench = Bench::new();
    bench.terminal = None;
    assert_eq!(refused(&bench), DenyReason::NoTerminal);
    bench.terminal = Some(Size::USUAL);
    bench.command("sudo -n id");
    assert_eq!(refused(&bench), DenyReason::NoTerminal);
    // su writes to standard error, wherever that leads.
    bench.command("su");
    bench.caller.program = b"su".to_vec();
    bench.stderr_is_terminal = false;
    let mut script = Script::new("su", "root", "alice");
    let outcome = bench.account(&mut script);
    assert_eq!(reason(&mut script, outcome), DenyReason::NoTerminal);
    let lines = Refusal::from(DenyReason::NoTerminal).lines();
    assert_eq!(lines, "twinlock: error: no terminal to show the request on\ntwinlock: hint: run it from a terminal");
}

#[test]
fn a_required_reason_that_nobody_gives_is_a_refusal() {
    let mut bench = Bench::new();
    bench.configure("reason = 'required'");
    for (answer, expected) in [(Ok(" "), DenyReason::ReasonMissing), (Err(Unanswered), DenyReason::Cancelled)] {
        let mut script = Bench::script();
        script.answers.push_back(answer.map(str::to_owned));
        let outcome = bench.account(&mut script);
        assert_eq!(reason(&mut script, outcome), expected);
    }
    bench.command("sudo -S id");
    assert_eq!(refused(&bench), DenyReason::ReasonMissing);
}

#[test]
fn whoever_the_roster_does_not_know_may_not_ask() {
    let mut bench = Bench::new();
    bench.caller = caller(1005);
    let mut script = Script::new("sudo", "mallory", "mallory");
    let outcome = bench.account(&mut script);
    assert_eq!(reason(&mut script, outcome), DenyReason::RequesterUnknown);
    // Logged in as mallory, become alice by other means: both names count.
    bench.caller = Caller { login_uid: Some(1005), ..caller(1001) };
    assert_eq!(refused(&bench), DenyReason::RequesterUnknown);
    bench.caller = caller(1001);
    let mut script = Script::new("sudo", "alice", "mallory");
    let outcome = bench.account(&mut script);
    assert_eq!(reason(&mut script, outcome), DenyReason::RequesterUnknown);
}

/// Catalogue: P12 (control: two_persons_are_granted)
#[test]
fn names_that_are_none_and_uids_without_a_name_are_refused() {
    let mut bench = Bench::new();
    for name in ["../x", "%s", "", "root\n", &"x".repeat(255), &"x".repeat(256)] {
        let mut script = Script::new("sudo", "alice", name);
        let outcome = bench.account(&mut script);
        assert_eq!(reason(&mut script, outcome), DenyReason::RequesterUnknown, "{name:?}");
    }
    let mut script = Bench::script();
    script.ruser = Some(Err(NotText));
    let outcome = bench.account(&mut script);
    assert_eq!(reason(&mut script, outcome), DenyReason::RequesterUnknown);
    bench.caller = caller(4242);
    assert_eq!(refused(&bench), DenyReason::RequesterUnknown);
    bench.caller = caller(1001);
    bench.command("sudo -u ../x id");
    assert_eq!(refused(&bench), DenyReason::NotUnderstood);
}

#[test]
fn an_approver_may_ask_but_never_counts_for_the_own_request() {
    let mut bench = Bench::new();
    bench.caller = caller(1002);
    let script = || Script::new("sudo", "bob", "bob");
    let with = |approvers| Terms { approvers, ..Terms::honest() };
    let mut refused = script();
    let outcome = bench.grant(&mut refused, &with(vec!["bob", "carol"]));
    assert_eq!(reason(&mut refused, outcome), DenyReason::ApproverIsRequester);
    assert_eq!(bench.grant(&mut script(), &with(vec!["dave", "carol"])), Ok(Outcome::Allowed));
}

#[test]
fn configuration_that_cannot_be_trusted_or_read_refuses() {
    let bench = Bench::new();
    for more in
        ["unknown = 1", "ttl_s = 0", "ttl_s = 9999", "approve_by_s = 601", "max_ttl_s = 60", "reason = 'maybe'", "= 1"]
    {
        bench.configure(more);
        assert_eq!(refused(&bench), DenyReason::ConfigInvalid, "{more}");
    }
    bench.configure("");
    let text = std::fs::read(bench.path("module.toml")).unwrap();
    std::fs::set_permissions(bench.path("module.toml"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(refused(&bench), DenyReason::ConfigInvalid, "writable by others");
    std::fs::rename(bench.path("module.toml"), bench.path("elsewhere")).unwrap();
    assert_eq!(refused(&bench), DenyReason::ConfigInvalid, "missing");
    std::os::unix::fs::symlink(bench.path("elsewhere"), bench.path("module.toml")).unwrap();
    assert_eq!(refused(&bench), DenyReason::ConfigInvalid, "a symbolic link");
    put(&bench.path("module.toml"), 0o644, &text);
    let outcome = bench.account_with(&mut Bench::script(), &[c"debug"]);
    assert_eq!(outcome.unwrap_err().reason, DenyReason::ConfigInvalid, "an argument of the PAM line");
    std::fs::remove_file(bench.path("host.key")).unwrap();
    assert_eq!(refused(&bench), DenyReason::ConfigInvalid, "no host key");
    put(&bench.path("host.key"), 0o600, &bench.fixture.host_key_pkcs8);
    // The same bench, healed.
    assert_eq!(bench.grant(&mut Bench::script(), &Terms::honest()), Ok(Outcome::Allowed));
}

#[test]
fn another_hosts_key_signs_nothing_here() {
    let bench = Bench::new();
    put(&bench.path("host.key"), 0o600, &bench.fixture.agent_key_pkcs8);
    assert_eq!(refused(&bench), DenyReason::RequestSignature);
}

#[test]
fn qr_never_draws_none() {
    let bench = Bench::new();
    let mut script = Bench::script();
    bench.configure("qr = 'never'");
    assert_eq!(bench.grant(&mut script, &Terms::honest()), Ok(Outcome::Allowed));
    let text = script.text();
    assert!(!text.contains('█') && text.contains("HTTPS://TL.EXAMPLE.ORG/S/"), "{text}");
}

/// Catalogue: D1 (control: inline)
#[test]
fn nothing_untrusted_reaches_the_terminal_raw() {
    let mut bench = Bench::new();
    bench.argv =
        [&b"sudo"[..], b"\x1b]0;owned\x07", b"a\nb", "\u{202e}x".as_bytes(), b"\xff"].map(<[u8]>::to_vec).to_vec();
    let mut script = Bench::script();
    assert_eq!(bench.grant(&mut script, &Terms::honest()), Ok(Outcome::Allowed));
    let text = script.text();
    assert!(text.contains("  \\u{1b}]0;owned\\u{7} a\\nb \\u{202e}x \\xff"), "{text}");
    assert!(!text.contains("\x1b]") && !text.contains('\u{202e}') && !text.contains('\x07'));
}

#[test]
fn a_module_that_stands_twice_in_the_stack_is_found_out() {
    let bench = Bench::new();
    let mut script = Bench::script();
    assert_eq!(bench.grant(&mut script, &Terms::honest()), Ok(Outcome::Allowed));
    let outcome = bench.account(&mut script);
    assert_eq!(reason(&mut script, outcome), DenyReason::ConfigInvalid);
}

/// Catalogue: P2 (control: two_persons_are_granted)
#[test]
fn a_panic_anywhere_in_the_wait_leaves_no_grant_and_the_process_as_it_was() {
    let mask = || nix::sys::signal::SigSet::thread_get_mask().unwrap();
    let before = mask();
    for words in ["two approvers needed", "HTTPS://", "waiting for approver 1", "approved"] {
        let bench = Bench::new();
        let mut script = Bench::script();
        script.panic_on = Some(words);
        let run = std::panic::AssertUnwindSafe(|| {
            bench.play(&mut script, |agent| {
                let request = agent.submitted();
                agent.accept_request(request.id());
                agent.show_ticket(1);
                std::thread::sleep(Duration::from_millis(100));
                agent.say(&ModuleEvent::Granted(bench.granted(&request, &Terms::honest())));
                // The unwinding closed the connection: that cancels.
                assert!(agent.hear().is_none());
            })
        });
        assert!(std::panic::catch_unwind(run).is_err(), "{words}");
        script.panic_on = None;
        assert!(!matches!(script.take(), Some(Remembered::Granted(..))), "{words}");
        assert_eq!(mask(), before, "{words}");
    }
}
