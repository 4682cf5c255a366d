//! The records themselves, for the archive.

use super::{end_of, is_same_log, name_of, number};
use crate::endpoint::sql::listing::SqlListing;
use crate::endpoint::sql::schema::Table;
use crate::endpoint::sql::session::Cell;
use crate::endpoint::{LogRecords, Result};
use crate::model::log::{LogChange, LogPosition, LogRecord};
use crate::platform::kylin::encoding::{Decoded, decode};

/// Records that are read at once for the archive.
const RECORDS_AT_ONCE: i64 = 500;
/// Contents of records that are read at once, as they are stored, if each alone is smaller.
const RECORDS_BYTES: u64 = 4 << 20;
/// A content of a record larger than this is not read.
const CONTENT_BYTES_MAX: u64 = 16 << 20;

/// Reads the records after a position, and those of its gaps that have filled since.
pub(in crate::endpoint::sql) fn records_since<'a>(
    listing: &'a SqlListing,
    since: &LogPosition,
) -> Result<Option<LogRecords<'a>>> {
    let Some(log) = &listing.schema.log else { return Ok(None) };
    let Some(end) = end_of(&listing.snapshot, &listing.schema, log)? else { return Ok(None) };
    let is_complete = is_same_log(&listing.snapshot, &listing.schema, log, since)?;
    // A log that ends before is another one: all of it is new.
    let after = if is_complete || end.last > since.last { since.last } else { 0 };
    let mut gaps: Vec<(u64, u64)> = Vec::new();
    if is_complete {
        gaps.extend(since.open.iter().map(|gap| (gap.first, gap.last)));
    }
    gaps.push((after + 1, end.last));
    let records = Records { listing, log, gaps, ready: Vec::new().into_iter() };
    Ok(Some(LogRecords { is_complete, after, last: end.last, records: Box::new(records) }))
}

struct Records<'a> {
    listing: &'a SqlListing,
    log: &'a Table,
    /// Ranges of ids that are still to be read, in order.
    gaps: Vec<(u64, u64)>,
    /// What was read, not decoded yet.
    ready: std::vec::IntoIter<LogRecord>,
}

impl Iterator for Records<'_> {
    type Item = Result<LogRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(Ok(LogRecord { change: decoded(record.change), ..record }));
            }
            let (first, last) = *self.gaps.first()?;
            match self.read(first, last) {
                Ok((records, rest)) => {
                    match rest {
                        Some(rest) => self.gaps[0].0 = rest,
                        None => drop(self.gaps.remove(0)),
                    }
                    self.ready = records.into_iter();
                }
                Err(error) => {
                    self.gaps.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Records<'_> {
    /// Reads the first records of a range, and returns where the rest of it begins, if there is one.
    fn read(&self, first: u64, last: u64) -> Result<(Vec<LogRecord>, Option<u64>)> {
        let Some((end, is_all)) = self.end_of_some(first, last)? else { return Ok((Vec::new(), None)) };
        let has = |column: &'static str| if self.log.has(column) { column } else { "NULL" };
        let bytes_max = CONTENT_BYTES_MAX.min(self.listing.snapshot.value_bytes_max());
        let sql = format!(
            "SELECT id, meta_key, CASE WHEN OCTET_LENGTH(meta_content) <= {bytes_max} THEN meta_content END, meta_ts, meta_mvcc, \
             unit_id, {}, {}, {}, {}, meta_content IS NULL FROM {} WHERE id BETWEEN {first} AND {end} ORDER BY id",
            has("operator"),
            has("instance"),
            has("project"),
            has("diff_flag"),
            name_of(&self.listing.schema, self.log)
        );
        let mut records = Vec::new();
        self.listing.snapshot.run(|session| session.query(&sql, &[], &mut |row| records.push(record(row))))?;
        Ok((records, (!is_all).then_some(end + 1)))
    }

    /// Returns up to which id the records can be held at once, and whether those are all; nothing if there are none.
    fn end_of_some(&self, first: u64, last: u64) -> Result<Option<(u64, bool)>> {
        let sql = format!(
            "SELECT id, OCTET_LENGTH(meta_content) FROM {} WHERE id BETWEEN {first} AND {last} ORDER BY id LIMIT {RECORDS_AT_ONCE}",
            name_of(&self.listing.schema, self.log)
        );
        let mut sizes: Vec<(u64, u64)> = Vec::new();
        self.listing
            .snapshot
            .run(|session| session.query(&sql, &[], &mut |row| sizes.push((number(row[0]), number(row[1])))))?;
        let Some(mut end) = sizes.first().map(|(id, _)| *id) else { return Ok(None) };
        let (mut bytes, mut count) = (0, 0);
        for (id, size) in &sizes {
            bytes += size;
            if count > 0 && bytes > RECORDS_BYTES {
                break;
            }
            (end, count) = (*id, count + 1);
        }
        Ok(Some((end, count == sizes.len() && i64::try_from(count) != Ok(RECORDS_AT_ONCE))))
    }
}

/// Decodes what a record holds. Only when it is its turn: hundreds are read at once, and may grow to many times their size.
fn decoded(change: LogChange) -> LogChange {
    let decoded = |stored: &[u8]| {
        let mut content = Vec::new();
        match decode(stored, CONTENT_BYTES_MAX, &mut content) {
            Err(_) | Ok(Decoded::TooLarge) => None,
            Ok(_) => Some(content),
        }
    };
    match change {
        LogChange::Content(stored) => decoded(&stored).map_or(LogChange::Unreadable, LogChange::Content),
        LogChange::Patch(stored) => decoded(&stored).map_or(LogChange::Unreadable, LogChange::Patch),
        change => change,
    }
}

/// Returns a record as it lies in the log, its content as it is stored.
fn record(row: &[Cell<'_>]) -> LogRecord {
    let text = |n: usize| row[n].bytes().map(|text| String::from_utf8_lossy(text).into_owned());
    let change = match row[2].bytes() {
        None if row[10].int() == Some(1) => LogChange::Removed,
        None => LogChange::Unreadable,
        Some(stored) if row[9].int() == Some(1) => LogChange::Patch(stored.to_vec()),
        Some(stored) => LogChange::Content(stored.to_vec()),
    };
    LogRecord {
        id: number(row[0]),
        key: row[1].bytes().unwrap_or_default().to_vec(),
        change,
        time_ms: row[3].int().unwrap_or_default(),
        version: row[4].int(),
        transaction: text(5).unwrap_or_default(),
        operator: text(6),
        instance: text(7),
        project: text(8),
    }
}
