//! What is no answer to one request: a gateway of another wire version, and one that logs nothing
//! of what it grants. Each scene says how it ended, or what was wrong.

use std::time::Duration;

use twinlock_protocol::DenyReason;
use twinlock_protocol::wire::WIRE_VERSION;
use twinlock_protocol::wire::agent::Welcome;
use twinlock_protocol::wire::module::ModuleEvent;

use super::stage::{Ask, Say, Seat, Side, Stage};
use crate::proc::eventually;
use crate::world;

/// A scene; the error says what was wrong.
pub type Scene = fn(&mut Stage<'_>) -> Result<String, String>;

/// Every scene, with its name.
pub const SCENES: &[(&str, Scene)] = &[
    ("a gateway that speaks a later wire version", later_wire),
    ("a gateway that speaks an earlier wire version", earlier_wire),
    ("a gateway that grants and logs nothing, found out by the honest one after it", unlogged),
];

fn later_wire(stage: &mut Stage<'_>) -> Result<String, String> {
    other_wire(stage, WIRE_VERSION + 1)
}

fn earlier_wire(stage: &mut Stage<'_>) -> Result<String, String> {
    other_wire(stage, WIRE_VERSION - 1)
}

fn other_wire(stage: &mut Stage<'_>, wire: u32) -> Result<String, String> {
    let speak = |stage: &Stage<'_>, wire| {
        stage.gateway().welcome_with(Welcome { wire, roster: u64::MAX, software: "twinlock-gatewayd 9".into() });
        stage.gateway().hang_up();
    };
    speak(stage, wire);
    let reason = stage.unanswered();
    speak(stage, WIRE_VERSION);
    stage.gateway().wait_for_agent();
    granted(stage)?;
    match reason {
        Some(reason @ DenyReason::GatewayUnavailable) => Ok(format!("refused  by {}", reason.row().name)),
        other => Err(format!("{other:?}")),
    }
}

/// The control: two people approve, the command runs as root.
fn granted(stage: &mut Stage<'_>) -> Result<(), String> {
    let outcome = stage.run(&Ask::default(), Seat::Gateway, Side::Control, &[], &|attempt| {
        vec![Say::Event(ModuleEvent::Granted(attempt.grant(attempt.two())))]
    });
    if outcome.ran { Ok(()) } else { Err("the control did not run as root".into()) }
}

/// V5: every host keeps its records and reports them again until somebody notes them.
fn unlogged(stage: &mut Stage<'_>) -> Result<String, String> {
    granted(stage)?;
    let grants: Vec<String> = stage.past.iter().map(|(_, past)| past.id.grant().to_string()).collect();
    let listed = stage.with_the_honest_gateway(|installation, bed| {
        let list = || bed.run("root", &["twinlock", "audit", "list"]).stdout;
        let tells = |list: &str, grant: &String, what: &str| {
            list.lines().any(|line| line.contains(grant.as_str()) && line.contains(what))
        };
        let found = || grants.iter().all(|grant| tells(&list(), grant, "report refused"));
        eventually("the honest gateway hears of what it never granted", Duration::from_secs(20), found);
        let elevate = || {
            let mut terminal = bed.terminal("alice", &["sudo", "true"]);
            installation.approve_by_two(&terminal, "bob", "carol");
            terminal.exit_code(Duration::from_secs(20))
        };
        // The thief of a CA key can count its revocation lists up: the honest one's are then older, the
        // host refuses them, and says so. The cure is what the theft asks for anyway, a new CA in the
        // roster, under which the host counts from nothing.
        let refused = elevate();
        eventually("the host's alarm", Duration::from_secs(20), || list().contains("evidence refused"));
        for entry in std::fs::read_dir(world::ROSTER_DIR).expect("the slots").flatten() {
            if entry.file_name().to_string_lossy().starts_with("crl-") {
                std::fs::remove_file(entry.path()).expect("a number that was kept");
            }
        }
        // Control: what it granted itself is reported too, and fits.
        let granted = elevate();
        eventually("its own grant is reported", Duration::from_secs(20), || list().contains("session started"));
        (refused, granted)
    });
    match listed {
        (1.., 0) => Ok("alarmed  by report-refused".into()),
        exits => Err(format!("exits {exits:?}")),
    }
}
