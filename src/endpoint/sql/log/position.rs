//! How far the log has come.

use std::collections::BTreeMap;

use super::{end_of, first_id, is_same_log, mark_of, name_of, number};
use crate::endpoint::Result;
use crate::endpoint::sql::schema::{Holds, Schema, Table};
use crate::endpoint::sql::session::Cell;
use crate::endpoint::sql::snapshot::Snapshot;
use crate::model::log::{LogPosition, OpenIds};
use crate::platform::kylin::tables::Dialect;

/// Ids before the last that are looked at for gaps where nothing is known of the log yet.
const WINDOW_IDS: u64 = 10_000;
/// Most gaps that a position keeps. With more of them the log is not followed.
const OPEN_MAX: usize = 500;
/// After this time a transaction that drew ids does not commit any more.
const OPEN_MS_MAX: i64 = 24 * 3600 * 1000;

/// Returns the place in the log that a listing of everything shows; nothing where there is no log to follow.
pub(in crate::endpoint::sql) fn position(
    snapshot: &Snapshot,
    schema: &Schema,
    since: Option<&LogPosition>,
    now_ms: i64,
) -> Result<Option<LogPosition>> {
    let Some(log) = &schema.log else { return Ok(None) };
    let Some(end) = end_of(snapshot, schema, log)? else { return Ok(None) };
    let known = match since {
        Some(since) if is_same_log(snapshot, schema, log, since)? => Some(since),
        _ => None,
    };
    let first = first_id(snapshot, schema, log)?;
    let after = known.map_or(end.last.saturating_sub(WINDOW_IDS), |since| since.last);
    let ids = ids_after(snapshot, schema, log, after)?;
    // Ids below the first that is left were rotated away.
    let after = if known.is_some() { after } else { ids.first().map_or(after, |first| first - 1) };
    let mut open = match known {
        // All is looked at now, and what was rotated away will not come.
        Some(since) => still_open(snapshot, schema, log, &since.open, now_ms)?
            .into_iter()
            .filter(|gap| gap.last > first)
            .map(|gap| OpenIds { first: gap.first.max(first), ..gap })
            .collect(),
        None => Vec::new(),
    };
    open.extend(missing(&ids, after, end.last, now_ms));
    if open.len() > OPEN_MAX {
        return Ok(None);
    }
    let (tops, beside) = (tops(snapshot, schema)?, beside(snapshot, schema)?);
    Ok(Some(LogPosition { last: end.last, mark: end.mark, open, tops, beside }))
}

pub(super) fn ids_after(snapshot: &Snapshot, schema: &Schema, log: &Table, after: u64) -> Result<Vec<u64>> {
    let sql = format!("SELECT id FROM {} WHERE id > {after} ORDER BY id", name_of(schema, log));
    let mut ids = Vec::new();
    snapshot.run(|session| session.query(&sql, &[], &mut |row| ids.push(number(row[0]))))?;
    Ok(ids)
}

/// Returns the ids after `after` and up to `last` that are not in `ids`, which are ascending.
pub(super) fn missing(ids: &[u64], after: u64, last: u64, missed_ms: i64) -> Vec<OpenIds> {
    let mut open = Vec::new();
    let mut expected = after + 1;
    for id in ids.iter().copied().chain([last + 1]) {
        if id > expected {
            open.push(OpenIds { first: expected, last: id - 1, missed_ms });
        }
        expected = id + 1;
    }
    open
}

/// Returns the gaps that are gaps still and may fill yet.
pub(super) fn still_open(
    snapshot: &Snapshot,
    schema: &Schema,
    log: &Table,
    open: &[OpenIds],
    now_ms: i64,
) -> Result<Vec<OpenIds>> {
    let mut left = Vec::new();
    for gap in open.iter().filter(|gap| now_ms.saturating_sub(gap.missed_ms) < OPEN_MS_MAX) {
        let sql = format!(
            "SELECT id FROM {} WHERE id BETWEEN {} AND {} ORDER BY id",
            name_of(schema, log),
            gap.first,
            gap.last
        );
        let mut ids = Vec::new();
        snapshot.run(|session| session.query(&sql, &[], &mut |row| ids.push(number(row[0]))))?;
        left.extend(missing(&ids, gap.first - 1, gap.last, gap.missed_ms));
    }
    Ok(left)
}

/// Returns the highest row id of each table of documents.
pub(super) fn tops(snapshot: &Snapshot, schema: &Schema) -> Result<BTreeMap<String, u64>> {
    let documents = schema.tables.iter().filter(|table| matches!(table.holds, Holds::Documents(_)));
    let parts: Vec<String> = documents
        .map(|table| {
            let max = format!("COALESCE((SELECT MAX(id) FROM {}), 0)", schema.quoted(&table.name));
            let max = match schema.dialect {
                Dialect::PostgreSql => max,
                // Signed and unsigned together are a decimal, which is no integer.
                Dialect::MySql => format!("CAST({max} AS SIGNED)"),
            };
            format!("SELECT '{}', {max}", table.folder())
        })
        .collect();
    let mut tops = BTreeMap::new();
    if parts.is_empty() {
        return Ok(tops);
    }
    snapshot.run(|session| {
        session.query(&parts.join(" UNION ALL "), &[], &mut |row| {
            let folder = String::from_utf8_lossy(row[0].bytes().unwrap_or_default()).into_owned();
            tops.insert(folder, number(row[1]));
        })
    })?;
    Ok(tops)
}

/// Returns what tells the state of the tables that are not in the log: jobs, rules, offsets.
pub(super) fn beside(snapshot: &Snapshot, schema: &Schema) -> Result<u64> {
    let mut states = Vec::new();
    for table in schema.tables.iter().filter(|table| matches!(table.holds, Holds::Side(_))) {
        let (name, int) = (schema.quoted(&table.name), |column: &str| match schema.dialect {
            Dialect::PostgreSql => format!("COALESCE({column}, 0)::int8"),
            Dialect::MySql => format!("CAST(COALESCE({column}, 0) AS SIGNED)"),
        });
        let sql = format!(
            "SELECT COUNT(*), {}, {}, {} FROM {name}",
            int("MAX(id)"),
            int("MAX(update_time)"),
            int("SUM(mvcc)")
        );
        snapshot.run(|session| {
            session.query(&sql, &[], &mut |row| {
                states.push(mark_of(row));
            })
        })?;
    }
    Ok(mark_of(&states.into_iter().map(|state| Cell::Int(state.cast_signed())).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_ids_are_ranges() {
        let ranges = |ids: &[u64], after, last| -> Vec<(u64, u64)> {
            missing(ids, after, last, 7).into_iter().map(|open| (open.first, open.last)).collect()
        };
        assert_eq!(ranges(&[], 4, 4), []);
        assert_eq!(ranges(&[5, 6], 4, 6), []);
        assert_eq!(ranges(&[6, 9], 4, 9), [(5, 5), (7, 8)]);
        assert_eq!(ranges(&[5], 4, 7), [(6, 7)]);
    }
}
