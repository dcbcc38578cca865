//! The roster chain and its papers in SQLite. A version is stored once, and only above the one that
//! is there: two gateways cannot seal the same number.

use rusqlite::{Connection, params};
use twinlock_protocol::{Bytes, Digest, Fixed, UnixTime};

use super::{expect_one, signed, unsigned};
use crate::store::{LifeChange, PaperKind, PaperRow, StoreError};

fn word(kind: PaperKind) -> &'static str {
    match kind {
        PaperKind::Proposal => "proposal",
        PaperKind::Invite => "invite",
        PaperKind::HostToken => "host_token",
        PaperKind::BreakGlass => "break_glass",
    }
}

pub(super) fn apply(connection: &Connection, change: &LifeChange, at: u64) -> Result<(), StoreError> {
    match change {
        LifeChange::Seal { version, digest, envelope } => seal(connection, *version, digest, envelope, at),
        LifeChange::Paper(row) => paper(connection, row),
        LifeChange::ForgetPapers { before } => {
            // An open proposal is ended, and told of, before it is forgotten.
            connection
                .prepare_cached("DELETE FROM papers WHERE until <= ?1 AND (is_over = 1 OR kind != ?2)")?
                .execute(params![signed(before.0), word(PaperKind::Proposal)])?;
            Ok(())
        }
        LifeChange::EndSignIns { person, device } => {
            let device = device.as_ref().map(twinlock_protocol::ids::DeviceId::as_str);
            connection
                .prepare_cached("DELETE FROM sign_ins WHERE person = ?1 AND (?2 IS NULL OR device = ?2)")?
                .execute(params![person.as_str(), device])?;
            Ok(())
        }
    }
}

fn seal(connection: &Connection, version: u64, digest: &Digest, envelope: &Bytes, at: u64) -> Result<(), StoreError> {
    let newest: Option<i64> =
        connection.prepare_cached("SELECT max(version) FROM rosters")?.query_row([], |row| row.get(0))?;
    // Version 1 rests in roster.json.
    if signed(version) != newest.unwrap_or(1).saturating_add(1) {
        return Err(StoreError::Conflict);
    }
    connection
        .prepare_cached("INSERT INTO rosters (version, digest, envelope, sealed_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![signed(version), digest.as_bytes(), envelope.0, signed(at)])?;
    Ok(())
}

fn paper(connection: &Connection, row: &PaperRow) -> Result<(), StoreError> {
    let PaperRow { kind, id, replaces, is_over, until, body } = row;
    let changed = match replaces {
        None => connection
            .prepare_cached(
                "INSERT INTO papers (kind, id, revision, is_over, until, body) VALUES (?1, ?2, 0, ?3, ?4, ?5)",
            )?
            .execute(params![word(*kind), id.0.as_slice(), is_over, signed(until.0), body.0])?,
        Some(revision) => connection
            .prepare_cached(
                "UPDATE papers SET revision = revision + 1, is_over = ?4, until = ?5, body = ?6
                 WHERE kind = ?1 AND id = ?2 AND revision = ?3",
            )?
            .execute(params![word(*kind), id.0.as_slice(), signed(*revision), is_over, signed(until.0), body.0])?,
    };
    expect_one(changed)
}

pub(super) fn rosters_above(
    connection: &Connection,
    version: u64,
    count: usize,
    bytes: usize,
) -> Result<Vec<Bytes>, StoreError> {
    let mut query =
        connection.prepare_cached("SELECT envelope FROM rosters WHERE version > ?1 ORDER BY version LIMIT ?2")?;
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let mut rows = query.query(params![signed(version), count])?;
    let (mut found, mut size) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let envelope: Vec<u8> = row.get(0)?;
        size = size.saturating_add(envelope.len());
        if !found.is_empty() && size > bytes {
            break;
        }
        found.push(Bytes(envelope));
    }
    Ok(found)
}

pub(super) fn papers(
    connection: &Connection,
    kind: PaperKind,
    now: UnixTime,
) -> Result<Vec<(Fixed<16>, u64, Bytes)>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT id, revision, body FROM papers WHERE kind = ?1 AND (is_over = 0 OR until > ?2) ORDER BY until, id",
    )?;
    let rows = query.query_map(params![word(kind), signed(now.0)], |row| {
        Ok((Fixed(row.get::<_, [u8; 16]>(0)?), unsigned(row, 1)?, Bytes(row.get(2)?)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
