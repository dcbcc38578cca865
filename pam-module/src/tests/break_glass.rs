//! Break-glass through the whole module: no agent answers, holders sign what was printed.

use std::cell::RefCell;
use std::rc::Rc;

use twinlock_protocol::break_glass::{Answer, Purpose, Statement, read_challenge, verify_evidence};
use twinlock_protocol::evidence::Authority;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::softphone::Holder;
use twinlock_protocol::statement::Decision;
use twinlock_protocol::wire::module::{ModuleEvent, Refused};
use twinlock_protocol::{DenyReason, UnixTime, limits};

use super::{Bench, Script, Terms};
use crate::account::Outcome;
use crate::clock::{boot_ms, wall};
use crate::conversation::Unanswered;
use crate::grant_store::Remembered;
use crate::refusal::Refusal;

/// What is typed at one question.
enum Typed {
    /// A holder's yes to what was printed.
    Yes(&'static str),
    /// What a holder signs, changed.
    Says(&'static str, fn(&mut Statement)),
    /// These words.
    Words(&'static str),
    /// Ctrl-C.
    Nothing,
}

fn bench(keys: &[&str]) -> (Bench, Rc<Vec<Holder>>) {
    let mut holders = Vec::new();
    let bench = Bench::with(|fixture| {
        holders = fixture.break_glass(keys);
        fixture.roster.rules.break_glass.delay_s = limits::MIN_BREAK_GLASS_DELAY_S;
    });
    (bench, Rc::new(holders))
}

/// A conversation in which this is typed; says how much of it was.
fn script(holders: &Rc<Vec<Holder>>, typed: Vec<Typed>) -> (Script, Rc<RefCell<Vec<Typed>>>) {
    let (holders, left) = (Rc::clone(holders), Rc::new(RefCell::new(typed)));
    let mut script = Bench::script();
    let still = Rc::clone(&left);
    script.answerer = Some(Box::new(move |told, question| {
        assert!(question.starts_with("twinlock: answer "), "{question}");
        let typed = still.borrow_mut().remove(0);
        let (_, bytes) = read_challenge(told).expect("a challenge was printed");
        let about = ElevationRequest::id_of(&bytes);
        let sign = |name: &str, change: fn(&mut Statement)| {
            let holder = holders.iter().find(|holder| holder.entry.person.as_str() == name).unwrap();
            let mut statement = Statement::new(Purpose::Grant, about.0, &holder.entry, 600, Decision::Approve);
            change(&mut statement);
            Ok(holder.sign(&statement).to_text())
        };
        match typed {
            Typed::Yes(name) => sign(name, |_| {}),
            Typed::Says(name, change) => sign(name, change),
            Typed::Words(words) => Ok(words.to_owned()),
            Typed::Nothing => Err(Unanswered),
        }
    }));
    (script, left)
}

fn run(keys: &[&str], typed: Vec<Typed>) -> (Result<Outcome, Refusal>, String, usize) {
    let (bench, holders) = bench(keys);
    let (mut script, left) = script(&holders, typed);
    let outcome = bench.account(&mut script);
    let left = left.borrow().len();
    (outcome, script.text(), left)
}

/// Catalogue: B3 (control: inline)
#[test]
fn two_answers_open_after_the_delay_and_the_record_rests_on_them() {
    let (bench, holders) = bench(&["bob", "carol", "dave"]);
    let typed =
        vec![Typed::Words("nonsense"), Typed::Yes("bob"), Typed::Words(""), Typed::Yes("bob"), Typed::Yes("carol")];
    let (mut script, left) = script(&holders, typed);
    let before = boot_ms();
    assert_eq!(bench.account(&mut script).unwrap(), Outcome::Allowed);
    assert!(boot_ms() - before >= u64::from(limits::MIN_BREAK_GLASS_DELAY_S) * 1000, "it waited");
    assert!(left.borrow().is_empty());
    let told = script.text();
    for part in [
        "no gateway answers",
        "bob, carol, dave",
        "4 tries left",
        "3 tries left",
        "it starts in 0:0",
        "bob and carol approved offline",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let Some(Remembered::Granted(grant, _)) = script.remembered.take() else { panic!("a grant") };
    assert!(grant.serial.is_none());
    let life = grant.deadline_boot_ms - boot_ms();
    assert!((590_000..=600_000).contains(&life), "{life}");
    let Authority::BreakGlass(given) = &grant.authority else { panic!("break-glass") };
    let request = twinlock_protocol::break_glass::verify_request(&bench.roster, &grant.signed, wall()).unwrap();
    let opened = verify_evidence(&bench.roster, &request, &given.evidence.0).unwrap();
    assert_eq!(opened.holders().each_ref().map(|one| one.person.as_str()), ["bob", "carol"]);
}

/// Catalogue: B4 (control: two_answers_open_after_the_delay_and_the_record_rests_on_them)
#[test]
fn five_wrong_answers_end_it() {
    let wrong = || {
        vec![
            Typed::Yes("bob"),
            Typed::Yes("bob"),
            Typed::Words("AAAA"),
            Typed::Says("carol", |statement| statement.purpose = Purpose::Drill),
            Typed::Says("carol", |statement| statement.request_digest = twinlock_protocol::Digest::plain(b"")),
            Typed::Yes("alice"),
            Typed::Yes("carol"),
        ]
    };
    let (outcome, told, left) = run(&["bob", "carol", "alice"], wrong());
    assert_eq!(outcome.unwrap_err().reason, DenyReason::BreakGlassAnswer, "{told}");
    assert_eq!(left, 1, "carol's was not asked for any more");
}

#[test]
fn a_no_and_ctrl_c_end_it_at_once() {
    let no: fn(&mut Statement) = |statement| statement.decision = Decision::Deny;
    for (typed, reason) in [
        (vec![Typed::Yes("bob"), Typed::Says("carol", no)], DenyReason::Denied),
        (vec![Typed::Says("bob", no)], DenyReason::Denied),
        (vec![Typed::Yes("bob"), Typed::Nothing], DenyReason::Cancelled),
        (vec![Typed::Nothing], DenyReason::Cancelled),
    ] {
        let (outcome, told, left) = run(&["bob", "carol"], typed);
        assert_eq!((outcome.unwrap_err().reason, left), (reason, 0), "{told}");
        assert!(!told.contains("it starts in"), "{told}");
    }
}

/// Whoever can't be asked is not asked: the script has no answer ready.
#[test]
fn break_glass_is_not_begun_where_two_holders_could_not_answer() {
    for keys in [&[][..], &["bob"], &["bob", "alice"]] {
        let (outcome, told, _) = run(keys, Vec::new());
        let refusal = outcome.unwrap_err();
        assert_eq!(refusal.reason, DenyReason::AgentUnavailable, "{keys:?}");
        assert!(refusal.lines().contains("no break-glass keys of two people"), "{}", refusal.lines());
        assert!(!told.contains("BEGIN TWINLOCK"), "{told}");
    }
    let (outcome, told, _) = run(&["bob", "carol"], vec![Typed::Nothing]);
    assert_eq!(outcome.unwrap_err().reason, DenyReason::Cancelled);
    assert!(told.contains("BEGIN TWINLOCK"), "control: {told}");
}

#[test]
fn where_answers_do_not_come_from_the_terminal_there_is_one_line() {
    for line in ["sudo -S id", "sudo -A id"] {
        let (mut bench, holders) = bench(&["bob", "carol"]);
        bench.command(line);
        let (mut script, _) = script(&holders, Vec::new());
        let refusal = bench.account(&mut script).unwrap_err();
        assert!(refusal.lines().contains("typed at a terminal"), "{}", refusal.lines());
    }
    // -n asks nobody for anything.
    let (mut bench, holders) = bench(&["bob", "carol"]);
    bench.command("sudo -n id");
    let (mut script, _) = script(&holders, Vec::new());
    assert_eq!(bench.account(&mut script).unwrap_err().reason, DenyReason::NoTerminal);
}

/// Catalogue: B1 (control: inline)
#[test]
fn a_gateway_that_answers_leaves_no_way_around_it() {
    let (bench, holders) = bench(&["bob", "carol"]);
    let (mut script, _) = script(&holders, Vec::new());
    // It denies, is busy, takes the request and is gone: the words are its own, and nothing is asked.
    for reason in [DenyReason::RateLimited, DenyReason::HostUnknown, DenyReason::RosterMismatch] {
        let (outcome, ()) = bench.play(&mut script, |agent| {
            let _request = agent.submitted();
            agent.say(&ModuleEvent::Refused(Refused { reason, retry_after_s: None }));
        });
        assert_eq!(outcome.unwrap_err().reason, reason);
        script.remembered = None;
    }
    let lost = Refused { reason: DenyReason::GatewayUnavailable, retry_after_s: None };
    let outcome = bench.answer(&mut script, |_| ModuleEvent::Refused(lost.clone()));
    let refusal = outcome.unwrap_err();
    assert_eq!(refusal.reason, DenyReason::GatewayUnavailable);
    assert!(refusal.lines().contains("a gateway took this request"), "{}", refusal.lines());
    assert!(!script.text().contains("BEGIN TWINLOCK"));
    script.remembered = None;
    assert_eq!(bench.grant(&mut script, &Terms::honest()).unwrap(), Outcome::Allowed, "control: the usual way");

    // Control: the same words before a gateway took it.
    let (mut script, left) = self::script(&holders, vec![Typed::Nothing]);
    let (outcome, ()) = bench.play(&mut script, |agent| {
        let _request = agent.submitted();
        agent.say(&ModuleEvent::Refused(lost.clone()));
    });
    assert_eq!(outcome.unwrap_err().reason, DenyReason::Cancelled);
    assert!(left.borrow().is_empty() && script.text().contains("BEGIN TWINLOCK"));
}

/// T7: the gateway that would renew the roster is what is gone.
#[test]
fn an_expired_roster_still_opens_offline_for_a_month() {
    let ended = |ago: u64| {
        let mut holders = Vec::new();
        let bench = Bench::with(|fixture| {
            holders = fixture.break_glass(&["bob", "carol"]);
            fixture.roster.expires_at = UnixTime(wall().0 - ago);
            fixture.roster.issued_at = UnixTime(fixture.roster.expires_at.0 - 86_400);
        });
        let (mut script, _) = script(&Rc::new(holders), vec![Typed::Nothing]);
        let reason = bench.account(&mut script).unwrap_err().reason;
        script.answerer = None;
        (reason, script.text().contains("BEGIN TWINLOCK"))
    };
    assert_eq!(ended(60), (DenyReason::Cancelled, true));
    assert_eq!(ended(limits::BREAK_GLASS_GRACE_S + 1), (DenyReason::RosterExpired, false));
}

#[test]
fn what_was_used_and_not_reviewed_is_said_at_every_elevation() {
    let (bench, _) = bench(&["bob", "carol"]);
    let words = "nobody has reviewed it";
    let mut script = Bench::script();
    assert_eq!(bench.grant(&mut script, &Terms::honest()).unwrap(), Outcome::Allowed);
    assert!(!script.text().contains(words), "control");
    std::fs::create_dir(bench.path("break-glass")).unwrap();
    std::fs::write(bench.path("break-glass/banner"), "used\n").unwrap();
    let mut script = Bench::script();
    assert_eq!(bench.grant(&mut script, &Terms::honest()).unwrap(), Outcome::Allowed);
    assert!(script.text().contains(words), "{}", script.text());
}

/// What is typed is read as it is meant.
#[test]
fn an_answer_is_read_with_spaces_and_in_lower_case() {
    let bob = Holder::new("bob");
    let answer = bob.approve(twinlock_protocol::ids::RequestId(twinlock_protocol::Digest::plain(b"")));
    let typed = answer.to_text().to_lowercase().replace('-', "  ");
    assert_eq!(Answer::from_text(&typed), Some(answer));
}
