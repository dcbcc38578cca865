//! What the gateway knows of live sessions, and the orders to end them. A host's reports are
//! claims: a record counts only if it is about our own request, certificate and evidence and the
//! session key signed the start.

use std::sync::Arc;

use twinlock_protocol::evidence::{EndNote, GrantRecord};
use twinlock_protocol::ids::{GrantId, HostId, RequestId};
use twinlock_protocol::statement::StartStatement;
use twinlock_protocol::verify;
use twinlock_protocol::wire::agent::{EndGrant, EndOrder, GatewayMessage};
use twinlock_protocol::{Bytes, DenyReason};

use crate::audit;
use crate::break_glass;
use crate::request::{Event, State};
use crate::serve::Engine;

/// What a host reports about a grant.
#[derive(Debug)]
pub enum Report {
    /// The session started; the GrantRecord's bytes.
    Started(Bytes),
    /// Something outlives the command.
    Lingering(u32),
    /// The session ended.
    Ended(EndNote),
}

/// Takes a host's report. Done when it is committed; then the host need not repeat it.
///
/// # Errors
/// Why it is not believed; audited.
pub async fn report(engine: &Arc<Engine>, host: &HostId, grant: GrantId, report: Report) -> Result<(), DenyReason> {
    let outcome = take(engine, host, grant, report).await;
    if let Err(reason) = outcome {
        engine.metrics.refused(reason);
        // Counted always, written rarely: a host can say what it likes.
        if engine.limits.is_refusal_worth_a_row(host) {
            engine.note(vec![audit::Event::ReportRefused { host: host.clone(), grant, reason }]).await;
        }
    }
    outcome
}

async fn take(engine: &Arc<Engine>, host: &HostId, grant: GrantId, report: Report) -> Result<(), DenyReason> {
    let Some(report) = break_glass::take(engine, host, grant, report).await? else { return Ok(()) };
    let id = engine.request_of_grant(grant)?;
    if !engine.is_of_host(id, host) {
        return Err(DenyReason::NotFound);
    }
    let event = match report {
        Report::Started(record) => {
            let start = engine.look(id, |state| believe(state, &record)).await.ok_or(DenyReason::StoreFailed)??;
            Event::Started { start, record }
        }
        Report::Lingering(processes) => Event::Lingering { processes },
        Report::Ended(note) => Event::Ended(note),
    };
    engine.apply(id, event).await.map(|_done| ())
}

/// Whether this record is of our own grant, and the session key vouches for its start.
fn believe(state: &State, record: &Bytes) -> Result<StartStatement, DenyReason> {
    let record = GrantRecord::from_bytes(&record.0).map_err(|_| DenyReason::EvidenceMalformed)?;
    let case = state.case();
    let certified = state.certified().ok_or(DenyReason::NotPending)?;
    if record.grant != case.grant() || record.request != *case.request.signed() {
        return Err(DenyReason::EvidenceOtherRequest);
    }
    let Some(given) = record.authority.certificate() else { return Err(DenyReason::CertificateOther) };
    if given.certificate != certified.certificate || given.evidence != certified.evidence {
        return Err(DenyReason::CertificateOther);
    }
    let start = verify::verify_start(case.request.request(), case.id(), &record.start)?;
    if start.serial == Some(certified.serial) { Ok(start) } else { Err(DenyReason::CertificateOther) }
}

/// An administrator revokes a grant, or a request that waits.
///
/// # Errors
/// [`DenyReason::NotFound`], [`DenyReason::GrantOver`], [`DenyReason::StoreFailed`].
pub async fn revoke(engine: &Arc<Engine>, grant: GrantId, by_uid: u32) -> Result<RequestId, DenyReason> {
    if let Some(kept) = break_glass::find(engine, grant)? {
        // It runs without us: the order is all that there is.
        engine.note(vec![audit::Event::AdminRevoked { grant, by_uid }]).await;
        let order = EndGrant { grant, order: EndOrder::Revoked };
        engine.hub.send(&kept.host, GatewayMessage::EndGrant(order).into());
        return Ok(kept.request);
    }
    let id = engine.request_of_grant(grant)?;
    engine.apply(id, Event::Revoke { by_uid }).await?;
    Ok(id)
}
