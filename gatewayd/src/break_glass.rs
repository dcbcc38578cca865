//! Break-glass as the gateway hears of it afterwards: a host's report is verified by the signatures
//! of the two who opened it, written into the audit log as an alarm, and kept open until somebody who
//! took no part has reviewed it and the keys that were used are out of the roster. Grants nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twinlock_protocol::break_glass::{self, Answer, VerifiedBreakGlass};
use twinlock_protocol::codec;
use twinlock_protocol::evidence::{Authority, EndNote, GrantRecord};
use twinlock_protocol::ids::{GrantId, HostId, PersonId, RequestId};
use twinlock_protocol::verify::{VerifiedRequest, verify_start};
use twinlock_protocol::wire::agent::{GatewayMessage, Reviewed};
use twinlock_protocol::{Bytes, DenyReason, Digest, Fixed, UnixTime, escape, limits};

use crate::approval::summary;
use crate::audit::Event;
use crate::serve::Engine;
use crate::session::Report;
use crate::store::{LifeChange, PaperKind, PaperRow, StoreError, Transaction, Work};

/// An open review is never forgotten.
const ALWAYS: UnixTime = UnixTime(limits::MAX_INTEGER);
/// For how long hosts are told again that a grant is reviewed, in seconds: a host that was away for
/// longer keeps its banner until root takes it down.
const REPEAT_S: u64 = 400 * 24 * 3600;

/// A break-glass grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The grant.
    pub grant: GrantId,
    /// Its request.
    pub request: RequestId,
    /// Where.
    pub host: HostId,
    /// The GrantRecord's bytes, as the host sent them.
    pub record: Bytes,
    /// When the host reported it.
    pub reported_at: UnixTime,
    /// How it ended.
    pub ended: Option<EndNote>,
    /// Who reviewed it.
    pub reviewed_by: Option<PersonId>,
}

/// Every open one, oldest first.
///
/// # Errors
/// [`DenyReason::StoreFailed`].
pub fn open(engine: &Engine) -> Result<Vec<Kept>, DenyReason> {
    Ok(all(engine)?.into_iter().map(|(_, kept)| kept).filter(|kept| kept.reviewed_by.is_none()).collect())
}

/// One of them, reviewed or not.
///
/// # Errors
/// [`DenyReason::StoreFailed`].
pub fn find(engine: &Engine, grant: GrantId) -> Result<Option<Kept>, DenyReason> {
    Ok(row(engine, grant)?.map(|(_, kept)| kept))
}

fn row(engine: &Engine, grant: GrantId) -> Result<Option<(u64, Kept)>, DenyReason> {
    Ok(all(engine)?.into_iter().find(|(_, kept)| kept.grant == grant))
}

fn all(engine: &Engine) -> Result<Vec<(u64, Kept)>, DenyReason> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "break-glass grants could not be read");
        DenyReason::StoreFailed
    };
    let rows = engine.store.papers(PaperKind::BreakGlass, engine.clock.now()).map_err(|error| failed(&error))?;
    let read = |(_, revision, body): (Fixed<16>, u64, Bytes)| {
        let kept = codec::decode("break-glass grant", usize::MAX, &body.0).map_err(|error| failed(&error))?;
        Ok((revision, kept))
    };
    let mut all = rows.into_iter().map(read).collect::<Result<Vec<(u64, Kept)>, DenyReason>>()?;
    all.sort_by_key(|(_, kept)| kept.reported_at);
    Ok(all)
}

async fn commit(engine: &Engine, replaces: Option<u64>, kept: &Kept, events: Vec<Event>) -> Result<(), DenyReason> {
    let (is_over, until) = match kept.reviewed_by {
        None => (false, ALWAYS),
        Some(_) => (true, engine.clock.now().plus(REPEAT_S)),
    };
    let (first, _) = kept.request.0.as_bytes().split_first_chunk().ok_or(DenyReason::Internal)?;
    let body = Bytes(codec::encode(kept));
    let paper = PaperRow { kind: PaperKind::BreakGlass, id: Fixed(*first), replaces, is_over, until, body };
    let work = Work::Life(vec![LifeChange::Paper(paper)]);
    let transaction = Transaction { at_ms: engine.clock.unix_ms(), work, events };
    engine.store.commit(transaction).await.map_err(|error: StoreError| {
        tracing::error!(%error, "a break-glass grant could not be written");
        DenyReason::StoreFailed
    })
}

/// Takes a report if it is about a break-glass grant; hands back any other.
///
/// # Errors
/// Why it is not believed.
pub async fn take(
    engine: &Arc<Engine>,
    host: &HostId,
    grant: GrantId,
    report: Report,
) -> Result<Option<Report>, DenyReason> {
    if let Report::Started(bytes) = &report {
        let record = GrantRecord::from_bytes(&bytes.0).map_err(|_| DenyReason::EvidenceMalformed)?;
        match record.authority {
            Authority::Certificate(_) => return Ok(Some(report)),
            Authority::BreakGlass(_) => {}
        }
        started(engine, host, grant, &record, bytes).await?;
        return Ok(None);
    }
    // Ours are looked for first: they are many, and these are few.
    if engine.request_of_grant(grant).is_ok() {
        return Ok(Some(report));
    }
    let Some((revision, kept)) = row(engine, grant)? else { return Ok(Some(report)) };
    if kept.host != *host {
        return Err(DenyReason::NotFound);
    }
    match report {
        Report::Ended(note) if kept.ended.is_none() => {
            let event = Event::SessionEnded {
                grant,
                reason: note.reason,
                ended_at: note.ended_at,
                took_ms: note.took_ms,
                killed: note.killed.len() as u64,
                escaped: note.escaped.clone(),
                escaped_more: 0,
                lingered: note.lingered,
            };
            commit(engine, Some(revision), &Kept { ended: Some(note), ..kept }, vec![event]).await?;
        }
        Report::Lingering(processes) => engine.note(vec![Event::SessionLingering { grant, processes }]).await,
        Report::Ended(_) | Report::Started(_) => {}
    }
    Ok(None)
}

async fn started(
    engine: &Arc<Engine>,
    host: &HostId,
    grant: GrantId,
    record: &GrantRecord,
    bytes: &Bytes,
) -> Result<(), DenyReason> {
    if let Some(kept) = find(engine, grant)? {
        // Told again; another record of the same grant is nobody's.
        return if kept.host == *host { Ok(()) } else { Err(DenyReason::NotFound) };
    }
    let (request, opened) = verified(engine, record)?;
    if record.grant != grant || request.id().grant() != grant || request.request().host != *host {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let start = verify_start(request.request(), request.id(), &record.start)?;
    if start.serial.is_some() {
        return Err(DenyReason::CertificateOther);
    }
    let asked = request.request();
    let used = Event::BreakGlassUsed {
        grant,
        host: host.clone(),
        requesters: request.requesters().to_vec(),
        holders: opened.holders().iter().map(|holder| holder.person.clone()).collect(),
        target_user: escape::visible(asked.target.user.as_bytes()),
        command: summary(asked),
        ttl_s: opened.ttl_s(),
        started_at: start.started_at,
        record: Digest::plain(&bytes.0),
    };
    tracing::error!(%host, %grant, "BREAK-GLASS was used");
    let kept = Kept {
        grant,
        request: request.id(),
        host: host.clone(),
        record: bytes.clone(),
        reported_at: engine.clock.now(),
        ended: None,
        reviewed_by: None,
    };
    commit(engine, None, &kept, vec![used]).await
}

/// The request and who opened it, under the roster that the host pinned then.
fn verified(engine: &Engine, record: &GrantRecord) -> Result<(VerifiedRequest, VerifiedBreakGlass), DenyReason> {
    let Authority::BreakGlass(given) = &record.authority else { return Err(DenyReason::EvidenceMalformed) };
    let asked = twinlock_protocol::request::ElevationRequest::from_bytes(&record.request.request.0)
        .map_err(|_| DenyReason::RequestMalformed)?;
    let chain = engine.rosters.chain();
    let roster = &chain.find(&asked.roster).ok_or(DenyReason::RosterMismatch)?.roster;
    let request = break_glass::verify_request(roster, &record.request, asked.created_at)?;
    let opened = break_glass::verify_evidence(roster, &request, &given.evidence.0)?;
    Ok((request, opened))
}

/// Closes a review with the answer of somebody who took no part, and tells the host.
///
/// # Errors
/// Why not; audited.
pub async fn review(engine: &Arc<Engine>, grant: GrantId, answer: &Answer) -> Result<PersonId, DenyReason> {
    let (revision, kept) = row(engine, grant)?.ok_or(DenyReason::NotFound)?;
    if kept.reviewed_by.is_some() {
        return Err(DenyReason::NotPending);
    }
    let judged =
        GrantRecord::from_bytes(&kept.record.0).map_err(|_| DenyReason::EvidenceMalformed).and_then(|record| {
            let (request, opened) = verified(engine, &record)?;
            break_glass::verify_review(&engine.roster(), &request, &opened, answer)
        });
    let person = match judged {
        Ok(holder) => holder.person,
        Err(reason) => {
            engine.note(vec![Event::BreakGlassReviewRefused { grant, reason }]).await;
            return Err(reason);
        }
    };
    let closed = Kept { reviewed_by: Some(person.clone()), ..kept };
    let event = Event::BreakGlassReviewed { grant, person: person.clone() };
    commit(engine, Some(revision), &closed, vec![event]).await?;
    engine.hub.send(&closed.host, GatewayMessage::Reviewed(Reviewed { grant }).into());
    Ok(person)
}

/// Tells a host that comes back what was reviewed meanwhile.
pub fn repeat_reviews(engine: &Engine, host: &HostId) {
    let Ok(all) = all(engine) else { return };
    for (_, kept) in all.into_iter().filter(|(_, kept)| kept.host == *host && kept.reviewed_by.is_some()) {
        engine.hub.send(host, GatewayMessage::Reviewed(Reviewed { grant: kept.grant }).into());
    }
}
