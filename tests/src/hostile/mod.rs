//! The hostile gateway: a program that owns everything that a gateway owns, and tries to become
//! root through a real sudo. Every attempt is a named case; every case runs twice, once with the
//! lie and once with the honest value at the same place in the same steps. The lie must be refused
//! for the reason that the case names, by the terminal and by the system log; the control must run
//! the command as root.
//!
//! A case that is refused for another reason than its own is a fault of the case.

pub mod cases;
pub mod json;
pub mod mint;
pub mod scenes;
pub mod seat;
pub mod stage;

use std::time::Instant;

use twinlock_protocol::DenyReason;
use twinlock_protocol::roster::{Roster, RosterEnvelope};
use twinlock_protocol::wire::module::{Granted, ModuleEvent};

use crate::bed::Bed;
use stage::{Ask, Attempt, Craft, Outcome, Say, Seat, Side, Stage};

/// What a case does in one run.
pub type Play = Box<dyn Fn(&Attempt<'_, '_>) -> Vec<Say>>;
/// Rosters that are handed over in one run.
pub type Offer = Box<dyn Fn(&Craft<'_, '_>, Side) -> Vec<RosterEnvelope>>;
/// A further look at how a run ended.
pub type Look = Box<dyn Fn(&Outcome, Side)>;

/// What must come of an attack.
pub enum Expect {
    /// Refused, for one of these reasons; where the table calls that an attack, the host's log and
    /// the module's alarm say so too.
    Refused(Vec<DenyReason>),
    /// Refused, because we say so: nobody's attack, whatever we name.
    Told(DenyReason),
    /// Granted, because two people did sign, but not for longer than this many seconds.
    HeldTo(u64),
}

/// One attempt to become root.
pub struct Case {
    /// Its name, a sentence about the lie.
    pub name: String,
    /// What must come of it.
    pub expect: Expect,
    /// How the requester asks.
    pub ask: Ask,
    /// Where the lie is told.
    pub seat: Seat,
    /// The roster that the host pins meanwhile, if not the usual one.
    pub roster: Option<fn(&mut Roster)>,
    /// How the version after the usual roster differs, which the host pins meanwhile.
    pub next: Option<fn(&mut Roster)>,
    /// Rosters that are handed over before the request.
    pub offer: Option<Offer>,
    /// The attack may bring a lawful roster, which is pinned whatever else is refused.
    pub lawful: bool,
    /// The steps.
    pub play: Play,
    /// A further look, at both runs.
    pub look: Option<Look>,
}

impl Case {
    /// An attempt by a false grant, after an honest beginning.
    pub fn grant(
        name: impl Into<String>,
        reason: DenyReason,
        play: impl Fn(&Attempt<'_, '_>) -> Granted + 'static,
    ) -> Self {
        Self::grant_any(name, &[reason], play)
    }

    /// As [`Self::grant`], where several checks may be the first to see it.
    pub fn grant_any(
        name: impl Into<String>,
        reasons: &[DenyReason],
        play: impl Fn(&Attempt<'_, '_>) -> Granted + 'static,
    ) -> Self {
        Self::says(name, reasons, move |attempt| {
            let mut said = attempt.opening();
            said.push(Say::Event(ModuleEvent::Granted(play(attempt))));
            said
        })
    }

    /// An attempt by any words.
    pub fn says(
        name: impl Into<String>,
        reasons: &[DenyReason],
        play: impl Fn(&Attempt<'_, '_>) -> Vec<Say> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            expect: Expect::Refused(reasons.to_vec()),
            ask: Ask::default(),
            seat: Seat::Gateway,
            roster: None,
            next: None,
            offer: None,
            lawful: false,
            play: Box::new(play),
            look: None,
        }
    }

    /// Two people did approve; the attempt is to keep root for longer than they said.
    #[must_use]
    pub fn held_to(mut self, seconds: u64) -> Self {
        self.expect = Expect::HeldTo(seconds);
        self
    }

    /// Under another name.
    #[must_use]
    pub fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    /// The refusal is only our word.
    #[must_use]
    pub fn told(mut self, reason: DenyReason) -> Self {
        self.expect = Expect::Told(reason);
        self
    }

    /// The requester asks like this.
    #[must_use]
    pub fn asked(mut self, ask: Ask) -> Self {
        self.ask = ask;
        self
    }

    /// From the agent's place.
    #[must_use]
    pub fn at_the_module(mut self) -> Self {
        self.seat = Seat::Agent;
        self
    }

    /// Under another roster, which everybody signed.
    #[must_use]
    pub fn under(mut self, change: fn(&mut Roster)) -> Self {
        self.roster = Some(change);
        self
    }

    /// The host has the version after the usual one, lawfully changed.
    #[must_use]
    pub fn after(mut self, change: fn(&mut Roster)) -> Self {
        self.next = Some(change);
        self
    }

    /// The attack brings a roster that two people did sign.
    #[must_use]
    pub fn bringing_a_lawful_roster(mut self) -> Self {
        self.lawful = true;
        self
    }

    /// These rosters are handed over before the request.
    #[must_use]
    pub fn offering(mut self, offer: impl Fn(&Craft<'_, '_>, Side) -> Vec<RosterEnvelope> + 'static) -> Self {
        self.offer = Some(Box::new(offer));
        self
    }

    /// With a further look at both runs.
    #[must_use]
    pub fn looking(mut self, look: impl Fn(&Outcome, Side) + 'static) -> Self {
        self.look = Some(Box::new(look));
        self
    }
}

/// Plays scenes and cases on one stage and prints a line for each; with words, only those
/// whose names hold one of them.
pub fn run(bed: &Bed, scenes: &[(&str, scenes::Scene)], groups: &[cases::Group], words: &[String]) {
    let started = Instant::now();
    let mut stage = Stage::set(bed);
    cases::remember(&mut stage);
    let set = started.elapsed();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let mut total = 0;
    let mut failed = Vec::new();
    let mut tell = |name: &str, how: Result<String, String>| {
        total += 1;
        match how {
            Ok(how) => println!("{name:<82} {how:<38} control passed"),
            Err(fault) => {
                println!("{name:<82} FAILED: {fault}");
                failed.push(name.to_owned());
            }
        }
    };
    for (name, scene) in scenes.iter().filter(|(name, _)| wanted(name)) {
        tell(name, scene(&mut stage));
    }
    let cases: Vec<Case> = groups.iter().flat_map(|group| group(&stage)).collect();
    for case in cases.iter().filter(|case| wanted(&case.name)) {
        tell(&case.name, attempt(&mut stage, case));
    }
    println!(
        "{total} cases, {} as they must be, in {:.1} s (and {:.1} s to set the stage)",
        total - failed.len(),
        (started.elapsed() - set).as_secs_f64(),
        set.as_secs_f64()
    );
    assert!(failed.is_empty(), "{} of {total} failed: {failed:#?}", failed.len());
}

/// Runs both sides of a case; says by what the attack was refused.
fn attempt(stage: &mut Stage<'_>, case: &Case) -> Result<String, String> {
    let (attack, same) = side(stage, case, Side::Attack);
    let (control, _) = side(stage, case, Side::Control);
    if let Some(look) = &case.look {
        look(&attack, Side::Attack);
        look(&control, Side::Control);
    }
    let said = |outcome: &Outcome| {
        let text = String::from_utf8_lossy(&outcome.transcript).into_owned();
        let lines = text.lines().filter(|line| line.contains("twinlock:") && !line.contains("approvers needed"));
        lines.collect::<Vec<_>>().join(" / ")
    };
    let how = match &case.expect {
        Expect::Refused(allowed) => refused(&attack, allowed).map_err(|fault| format!("{fault}: {}", said(&attack)))?,
        Expect::Told(reason) => told(&attack, *reason)?,
        Expect::HeldTo(seconds) => held(&attack, *seconds)?,
    };
    if !same && !case.lawful {
        return Err("the attack changed the roster that the host pins".into());
    }
    if control.exit != 0 || !control.ran {
        return Err(format!("the control did not run as root: {}", said(&control)));
    }
    if control.record.is_none() {
        return Err("the control left no record on the host".into());
    }
    Ok(how)
}

/// Runs one side under the case's roster; says as well whether the host pins the same as before.
fn side(stage: &mut Stage<'_>, case: &Case, side: Side) -> (Outcome, bool) {
    if let Some(change) = case.roster {
        stage.pin(change);
    }
    if let Some(change) = case.next {
        stage.pin_next(change);
    }
    let offered = case.offer.as_ref().map(|offer| offer(&Craft { stage }, side)).unwrap_or_default();
    let outcome = stage.run(&case.ask, case.seat, side, &offered, &case.play);
    let same = stage.pins_the_same();
    if case.roster.is_some() || case.next.is_some() || !same {
        stage.unpin();
    }
    if case.seat == Seat::Gateway && !offered.is_empty() {
        stage.forget_rosters();
    }
    (outcome, same)
}

fn refused(attack: &Outcome, allowed: &[DenyReason]) -> Result<String, String> {
    if attack.ran || attack.exit == 0 || attack.record.is_some() {
        return Err("NOT REFUSED".into());
    }
    let reason = attack.reason.ok_or("the terminal names no reason")?;
    if !allowed.contains(&reason) {
        return Err(format!("refused by {}, not by {allowed:?}", reason.row().name));
    }
    let name = reason.row().name;
    let alert = attack.log.iter().any(|line| line.contains(&format!("account: attack: refused: {name}: ")));
    match (reason.row().attack, alert, attack.alarm == Some(reason)) {
        (true, true, true) | (false, false, false) => Ok(format!("refused  by {name}")),
        (_, alert, alarm) => Err(format!("{name}: alert in the log: {alert} {:?}, alarm: {alarm}", attack.log)),
    }
}

fn told(attack: &Outcome, reason: DenyReason) -> Result<String, String> {
    if attack.ran || attack.exit == 0 || attack.record.is_some() || attack.reason != Some(reason) {
        return Err(format!("{:?}, not {reason:?}", attack.reason));
    }
    match attack.log.iter().any(|line| line.contains("attack")) || attack.alarm.is_some() {
        true => Err("our word counts as an attack".into()),
        false => Ok(format!("refused  as told, {}", reason.row().name)),
    }
}

fn held(attack: &Outcome, seconds: u64) -> Result<String, String> {
    let record = attack.record.as_ref().ok_or("no record")?;
    let start = twinlock_protocol::statement::StartStatement::from_bytes(&record.start.statement.0)
        .map_err(|error| error.to_string())?;
    let left = start.deadline_boot_ms.saturating_sub(attack.ended_boot_ms) / 1000;
    if attack.exit == 0 && left <= seconds {
        Ok(format!("held     to {seconds} s"))
    } else {
        Err(format!("exit {}, {left} s are left of {seconds}", attack.exit))
    }
}
