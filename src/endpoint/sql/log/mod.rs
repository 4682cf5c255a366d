//! Kylin's audit log: how far it was followed, what it says has changed since, and whether that can be believed.
//!
//! A record is written in the transaction of the change it tells of, right before the end. So in one snapshot of the
//! database tables and log agree, with two exceptions. Ids are drawn before a commit: a transaction may become visible
//! after others with higher ids. Such gaps are kept with the position and looked at again; until then only a listing
//! of all versions is believed. And who writes without Kylin writes no records: rows above the highest id that is
//! accounted for are noticed at once, other changes when their turn comes to be verified.

mod changes;
mod position;
mod records;

use super::schema::{Schema, Table};
use super::session::Cell;
use super::snapshot::Snapshot;
use crate::endpoint::Result;
use crate::model::log::LogPosition;

pub(super) use changes::{Changes, changes};
pub(super) use position::position;
pub(super) use records::records_since;

/// The end of a log.
struct End {
    last: u64,
    mark: u64,
}

fn name_of(schema: &Schema, log: &Table) -> String {
    schema.quoted(&log.name)
}

fn number(cell: Cell<'_>) -> u64 {
    cell.int().and_then(|value| u64::try_from(value).ok()).unwrap_or_default()
}

/// Returns what tells a record from another.
fn mark_of(cells: &[Cell<'_>]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for cell in cells {
        let text = match *cell {
            Cell::Null => "-".to_owned().into_bytes(),
            Cell::Int(value) => value.to_string().into_bytes(),
            Cell::Bytes(bytes) => bytes.to_vec(),
        };
        hasher.update(&(text.len() as u64).to_le_bytes()).update(&text);
    }
    u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

fn record_at(snapshot: &Snapshot, schema: &Schema, log: &Table, condition: &str) -> Result<Option<End>> {
    let name = name_of(schema, log);
    let sql = format!("SELECT id, meta_key, meta_ts, meta_mvcc, unit_id FROM {name} {condition}");
    let mut found = None;
    snapshot.run(|session| {
        session.query(&sql, &[], &mut |row| found = Some(End { last: number(row[0]), mark: mark_of(&row[1..]) }))
    })?;
    Ok(found)
}

fn end_of(snapshot: &Snapshot, schema: &Schema, log: &Table) -> Result<Option<End>> {
    record_at(snapshot, schema, log, "ORDER BY id DESC LIMIT 1")
}

/// Tells whether the log still has the record up to which it was followed.
fn is_same_log(snapshot: &Snapshot, schema: &Schema, log: &Table, since: &LogPosition) -> Result<bool> {
    let record = record_at(snapshot, schema, log, &format!("WHERE id = {}", since.last))?;
    Ok(record.is_some_and(|record| record.mark == since.mark))
}

fn first_id(snapshot: &Snapshot, schema: &Schema, log: &Table) -> Result<u64> {
    Ok(record_at(snapshot, schema, log, "ORDER BY id LIMIT 1")?.map_or(0, |record| record.last))
}
