//! `twinlock break-glass list` and `review`: on the gateway, what ran without it. A review shows the
//! grant as its signatures prove it, and is closed by the key of somebody who took no part, once the
//! keys that were used are out of the roster.

use clap::Args;
use twinlock_protocol::break_glass::{Purpose, challenge};
use twinlock_protocol::evidence::GrantRecord;
use twinlock_protocol::ids::GrantId;
use twinlock_protocol::request::ElevationRequest;
use twinlock_protocol::statement::Decision;

use super::words;
use crate::api::break_glass::{ReviewAnswer, ReviewBody};
use crate::approval::summary;
use crate::break_glass::Kept;
use crate::cli::admin::{self, AdminArgs, get, post};
use crate::cli::approve::{self, ask};
use crate::cli::output::{json, line, table};
use crate::cli::{Failure, time};

/// `twinlock break-glass list`.
#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// `twinlock break-glass review`.
#[derive(Args)]
pub struct ReviewArgs {
    /// The grant
    #[arg(value_parser = admin::grant)]
    grant: GrantId,
    /// Sign here, with this key; without --key and --agent, the challenge is signed elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "agent")]
    key: Option<std::path::PathBuf>,
    /// Sign here, with a key in the ssh-agent
    #[arg(long)]
    agent: bool,
    /// The reviewer's id; a key of keygen's knows it
    #[arg(long, value_name = "PERSON")]
    person: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

fn open(admin: &AdminArgs) -> Result<Vec<Kept>, Failure> {
    get(&admin.socket, "/v1/break-glass")
}

fn asked(kept: &Kept) -> Result<(ElevationRequest, Vec<u8>), Failure> {
    let record = GrantRecord::from_bytes(&kept.record.0)?;
    Ok((ElevationRequest::from_bytes(&record.request.request.0)?, record.request.request.0))
}

/// Lists what waits for a review.
///
/// # Errors
/// A [`Failure`].
pub fn list(arguments: &ListArgs) -> Result<(), Failure> {
    let open = open(&arguments.admin)?;
    if arguments.admin.json {
        json(&open);
        return Ok(());
    }
    if open.is_empty() {
        line("nothing waits for a review");
        return Ok(());
    }
    let row = |kept: &Kept| {
        let (request, _) = asked(kept)?;
        let login = request.requester.login.as_ref().unwrap_or(&request.requester.real);
        Ok(vec![
            kept.grant.to_string(),
            kept.host.to_string(),
            login.name.clone(),
            request.target.user.clone(),
            time::moment(request.created_at),
            summary(&request),
        ])
    };
    let rows = open.iter().map(row).collect::<Result<Vec<_>, Failure>>()?;
    line(table(&["GRANT", "HOST", "WHO", "AS", "ASKED", "COMMAND"], &rows).trim_end());
    line("twinlock audit show GRANT says who answered; twinlock break-glass review GRANT closes one");
    Ok(())
}

/// Closes a review.
///
/// # Errors
/// A [`Failure`]: the keys are still in the roster, or somebody who took part answers.
pub fn run(arguments: &ReviewArgs) -> Result<(), Failure> {
    let open = open(&arguments.admin)?;
    let kept = open
        .iter()
        .find(|kept| kept.grant == arguments.grant)
        .ok_or_else(|| Failure::new("this grant waits for no review", "twinlock break-glass list"))?;
    let (request, bytes) = asked(kept)?;
    line("what ran without a gateway:");
    words::lines(&request).iter().for_each(|text| line(text));
    let mut input = std::io::stdin().lock();
    let answer = if arguments.key.is_some() || arguments.agent {
        let with = approve::KeyArgs {
            key: arguments.key.clone(),
            agent: arguments.agent,
            public: None,
            person: arguments.person.clone(),
        };
        let (signer, entry) = with.open()?;
        if ask(&mut input, "type yes to close the review: ")?.as_deref().map(str::trim) != Some("yes") {
            return Err(Failure::plain("nothing was signed"));
        }
        let about = ElevationRequest::id_of(&bytes).0;
        approve::sign(&signer, &entry, Purpose::Review, about, 60, Decision::Approve)?.to_text()
    } else {
        line("somebody who neither asked nor answered signs this with twinlock approve --offline:");
        line(&challenge(Purpose::Review, &bytes));
        ask(&mut input, "the answer: ")?.ok_or_else(|| Failure::plain("given up; the review stays open"))?
    };
    let path = format!("/v1/break-glass/{}/review", arguments.grant);
    let closed: ReviewAnswer = post(&arguments.admin.socket, &path, &ReviewBody { answer })?;
    if arguments.admin.json {
        json(&closed);
    } else {
        line(&format!("{} closed the review; the host takes its banner down", closed.person));
    }
    Ok(())
}
