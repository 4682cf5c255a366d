//! How far a store's own log of changes was followed, and what stands in it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

/// Ids of a log that were not there when those after them were: of transactions that failed, or had not ended yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenIds {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// When they were first missed, in milliseconds since 1970.
    pub missed_ms: i64,
}

/// A place in a store's own log of changes: what a snapshot holds is what the log had made of the store up to there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPosition {
    /// The highest id that was there; 0 for an empty log.
    pub last: u64,
    /// Tells the record with this id from another that took its number.
    pub mark: u64,
    /// Ids below the last that were not there, ascending, and may come yet.
    pub open: Vec<OpenIds>,
    /// The highest row id of each table, by the name of what it holds: a row that the log does not name shows here.
    pub tops: BTreeMap<String, u64>,
    /// Tells the state of tables that are not in the log.
    pub beside: u64,
}

/// A moment in the history of a store that has a log of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// This time, in milliseconds since 1970, by the clocks of those who write.
    Time(i64),
    /// After the record with this id, and all before it.
    Record(u64),
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time_ms) => utc(*time_ms).fmt(f),
            Self::Record(id) => write!(f, "record {id}"),
        }
    }
}

/// Returns a time in milliseconds since 1970 as one that can be shown.
pub fn utc(time_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(time_ms).unwrap_or(if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// What was replayed from a log to get from a snapshot to a moment after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// The moment.
    pub moment: Moment,
    /// The highest id of the transactions that came until then, or up to which the snapshot was.
    pub last: u64,
    /// How many records were replayed.
    pub records: u64,
}

/// One change, as a store's log records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its number, ascending in the order of writing.
    pub id: u64,
    /// The document, in the words of the log.
    pub key: Vec<u8>,
    /// What became of it.
    pub change: LogChange,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// The version of the document after it; none after a removal.
    pub version: Option<i64>,
    /// The transaction it was made in.
    pub transaction: String,
    /// Who made it, if the log says so.
    pub operator: Option<String>,
    /// The node that made it.
    pub instance: Option<String>,
    /// The project in the words of the log, which for a removal may be that of the transaction.
    pub project: Option<String>,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogChange {
    /// It has this content.
    Content(Vec<u8>),
    /// Its content was changed by this JSON patch (RFC 6902).
    Patch(Vec<u8>),
    /// It was removed.
    Removed,
    /// Its content in the log can't be decoded, or is too large to be archived.
    Unreadable,
}

impl LogRecord {
    /// Leaves a content out that is larger than this. Returns the bytes of the one that is left.
    pub fn drop_if_larger(&mut self, bytes_max: usize) -> usize {
        match &self.change {
            LogChange::Content(content) | LogChange::Patch(content) if content.len() <= bytes_max => content.len(),
            LogChange::Content(_) | LogChange::Patch(_) => {
                self.change = LogChange::Unreadable;
                0
            }
            LogChange::Removed | LogChange::Unreadable => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_is_too_large_is_left_out_of_a_record() {
        let changes = [
            (LogChange::Content(vec![1; 4]), LogChange::Content(vec![1; 4]), 4),
            (LogChange::Content(vec![1; 5]), LogChange::Unreadable, 0),
            (LogChange::Patch(vec![1; 3]), LogChange::Patch(vec![1; 3]), 3),
            (LogChange::Patch(vec![1; 5]), LogChange::Unreadable, 0),
            (LogChange::Removed, LogChange::Removed, 0),
        ];
        for (change, left, bytes) in changes {
            let (key, transaction) = (b"MODEL/x".to_vec(), "unit".to_owned());
            let (version, operator, instance, project) = (None, None, None, None);
            let mut record =
                LogRecord { id: 1, key, change, time_ms: 0, version, transaction, operator, instance, project };
            assert_eq!((record.drop_if_larger(4), record.change), (bytes, left));
        }
    }

    #[test]
    fn time_that_no_calendar_has_is_shown_as_the_last_or_the_first() {
        assert_eq!(utc(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(utc(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!((utc(i64::MIN), utc(i64::MAX)), (Timestamp::MIN, Timestamp::MAX));
    }
}
