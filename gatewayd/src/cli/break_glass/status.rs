//! `twinlock break-glass status`: on a host, who could break glass, when it was last tried, and what
//! was used and not reviewed yet.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use clap::Args;
use twinlock_protocol::codec;
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::roster::BreakGlassKey;

use super::drill::{self, DrillRecord, FILE, GOOD_FOR_S, HostArgs};
use crate::cli::output::{json, line};
use crate::cli::{Failure, files, time};
use crate::clock::{Clock as _, SystemClock};
use crate::reaper::glass::Glass;

/// `twinlock break-glass status`.
#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    host: HostArgs,
    /// JSON instead of words
    #[arg(long)]
    json: bool,
}

/// `twinlock break-glass dismiss`.
#[derive(Args)]
pub struct DismissArgs {
    /// The grant
    #[arg(value_parser = crate::cli::admin::grant)]
    grant: GrantId,
    /// Why it is not reviewed on a gateway; goes into the system log
    #[arg(long)]
    reason: String,
    /// The record of what was used
    #[arg(long, default_value = "/var/lib/twinlock/break-glass", value_name = "DIR")]
    dir: PathBuf,
}

/// Takes a mark away, and says so in the system log. The grant's record stays, and a gateway that
/// hears of it still wants its review.
///
/// # Errors
/// A [`Failure`]: no such mark, or the system log does not listen.
pub fn dismiss(arguments: &DismissArgs) -> Result<(), Failure> {
    let glass = Glass::new(arguments.dir.clone());
    if !glass.open()?.contains(&arguments.grant) {
        return Err(Failure::plain(format!("{} does not wait for a review on this host", arguments.grant)));
    }
    // First the log: what it does not hear does not happen. authpriv (10) times 8, alert (1).
    let reason = twinlock_protocol::escape::visible(arguments.reason.as_bytes());
    let text = format!("<81>twinlock: break-glass grant {} dismissed without review: {reason}", arguments.grant);
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(text.as_bytes(), "/dev/log"));
    sent.map_err(|error| Failure::plain(format!("the system log does not listen, so nothing was done: {error}")))?;
    glass.reviewed(arguments.grant)?;
    line(&format!(
        "dismissed, and in the system log; the record stays in the grants of this host: {}",
        arguments.grant
    ));
    Ok(())
}

/// Shows it.
///
/// # Errors
/// A [`Failure`]: the roster can't be read.
pub fn run(arguments: &StatusArgs) -> Result<(), Failure> {
    let roster = drill::roster(&arguments.host)?;
    let record = files::read(&arguments.host.dir.join(FILE), 16 * 1024).ok();
    let record: Option<DrillRecord> = record.and_then(|bytes| codec::decode("drill", 16 * 1024, &bytes).ok());
    let open = Glass::new(arguments.host.dir.clone()).open()?;
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
