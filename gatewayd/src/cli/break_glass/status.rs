//! `twinlock break-glass status`: on a host, who could break glass, when it was last tried, and what
//! was used and not reviewed yet.

use clap::Args;
use twinlock_protocol::codec;
use twinlock_protocol::roster::BreakGlassKey;

use super::drill::{self, DrillRecord, FILE, GOOD_FOR_S, HostArgs};
use crate::cli::output::{json, line};
use crate::cli::{Failure, files, time};
use crate::clock::{Clock as _, SystemClock};

/// `twinlock break-glass status`.
#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    host: HostArgs,
    /// JSON instead of words
    #[arg(long)]
    json: bool,
}

/// Shows it.
///
/// # Errors
/// A [`Failure`]: the roster can't be read.
pub fn run(arguments: &StatusArgs) -> Result<(), Failure> {
    let roster = drill::roster(&arguments.host)?;
    let record = files::read(&arguments.host.dir.join(FILE), 16 * 1024).ok();
    let record: Option<DrillRecord> = record.and_then(|bytes| codec::decode("drill", 16 * 1024, &bytes).ok());
    let open = open(&arguments.host)?;
    if arguments.json {
        json(&serde_json::json!({
            "keys": roster.break_glass_keys, "delay_s": roster.rules.break_glass.delay_s,
            "max_ttl_s": roster.rules.break_glass.max_ttl_s, "drill": record, "open": open,
        }));
        return Ok(());
    }
    let rules = roster.rules.break_glass;
    line(&format!(
        "offered while no gateway can be reached: two answers, then {} of waiting, then at most {}",
        time::span(rules.delay_s.into()),
        time::span(rules.max_ttl_s.into())
    ));
    for BreakGlassKey { person, .. } in &roster.break_glass_keys {
        line(&format!("key of {person}"));
    }
    if roster.break_glass_keys.is_empty() {
        line("no keys: nobody gets in while the gateway is away");
    }
    line(&match &record {
        None => "never tried: twinlock break-glass drill".to_owned(),
        Some(drill) => {
            let persons: Vec<String> = drill.persons.iter().map(ToString::to_string).collect();
            let stands = |key: &twinlock_protocol::signature::PublicKey| {
                roster.break_glass_keys.iter().any(|one| one.key == *key)
            };
            let over = drill.when.plus(GOOD_FOR_S) < SystemClock.now() || !drill.keys.iter().all(stands);
            let due = if over { "; DUE: twinlock break-glass drill" } else { "" };
            format!("last tried {} by {}{due}", time::moment(drill.when), persons.join(" and "))
        }
    });
    for grant in open {
        line(&format!("USED AND NOT REVIEWED: {grant} (on the gateway: twinlock break-glass review {grant})"));
    }
    Ok(())
}

/// Grants that wait for their review, as the reaper marked them.
fn open(arguments: &HostArgs) -> Result<Vec<String>, Failure> {
    let dir = arguments.dir.join("open");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::plain(format!("cannot read {}: {error}", dir.display()))),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| twinlock_protocol::ids::GrantId::from_text(name).is_some())
        .collect();
    names.sort();
    Ok(names)
}
