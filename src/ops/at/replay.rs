//! Replaying records of a store's log of changes: what becomes of each document they speak of. No I/O but by what is given.

use std::collections::{BTreeMap, HashMap};

use crate::model::log::{LogChange, LogRecord, Moment};
use crate::ops::Result;
use crate::platform::kylin::patch::patched;

/// A document as it is before the first record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Its version, if that is known.
    pub version: Option<i64>,
    /// Its content.
    pub content: Vec<u8>,
}

/// Records of whole transactions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// The records, ascending.
    pub records: Vec<LogRecord>,
    /// The first and the last record of the transaction in the middle of which the moment lies: none of it is taken.
    pub split: Option<(u64, u64)>,
}

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// What it is now.
    pub state: State,
    /// The last record that tells.
    pub id: u64,
    /// When that was written, in milliseconds since 1970.
    pub time_ms: i64,
    /// The project that the last record names which is not of a removal.
    pub project: Option<String>,
}

/// The state of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is there.
    Present {
        /// Its version, if the log tells.
        version: Option<i64>,
        /// Its content.
        content: Vec<u8>,
    },
    /// It is not there.
    Removed,
    /// It can't be told from this record on.
    Unknown {
        /// The first record that could not be replayed.
        id: u64,
        /// When that was written, in milliseconds since 1970.
        time_ms: i64,
        /// Why not.
        why: String,
        /// How it was before, if records tell.
        before: Option<Box<State>>,
    },
}

/// Returns the records of the transactions that ended at or before a moment. A transaction is taken as a whole or not at
/// all: nobody ever saw a part of it.
pub fn up_to(moment: Moment, records: Vec<LogRecord>) -> Taken {
    struct Unit {
        first: u64,
        last: u64,
        time_ms: i64,
    }
    // Records that name no transaction are each one of their own.
    let unit_of = |record: &LogRecord| {
        let id = if record.transaction.is_empty() { record.id } else { 0 };
        (record.transaction.clone(), id)
    };
    let mut units: HashMap<(String, u64), Unit> = HashMap::new();
    for record in &records {
        let new = Unit { first: record.id, last: record.id, time_ms: record.time_ms };
        let unit = units.entry(unit_of(record)).or_insert(new);
        unit.first = unit.first.min(record.id);
        unit.last = unit.last.max(record.id);
        unit.time_ms = unit.time_ms.max(record.time_ms);
    }
    let is_within = |unit: &Unit| match moment {
        Moment::Time(time_ms) => unit.time_ms <= time_ms,
        Moment::Record(id) => unit.last <= id,
    };
    let is_split = |unit: &&Unit| match moment {
        Moment::Time(_) => false,
        Moment::Record(id) => unit.first <= id && id < unit.last,
    };
    let split = units.values().filter(is_split).map(|unit| (unit.first, unit.last)).min();
    let mut records: Vec<LogRecord> =
        records.into_iter().filter(|record| units.get(&unit_of(record)).is_some_and(is_within)).collect();
    records.sort_unstable_by_key(|record| record.id);
    Taken { records, split }
}

/// Replays records in ascending order. `before` gives a document as it is before the first of them; it is asked only when
/// that matters, and at most once for each key.
///
/// # Errors
/// When `before` fails. That a record can't be replayed is no error: then the state of its document is unknown, until a
/// later record tells it whole.
pub fn replay(
    records: Vec<LogRecord>,
    mut before: impl FnMut(&[u8]) -> Result<Option<Before>>,
) -> Result<BTreeMap<Vec<u8>, After>> {
    let mut states: BTreeMap<Vec<u8>, After> = BTreeMap::new();
    for record in records {
        let earlier = states.remove(&record.key);
        let project = match record.change {
            LogChange::Removed => earlier.as_ref().and_then(|earlier| earlier.project.clone()),
            _ => record.project.clone(),
        };
        let (id, time_ms) = (record.id, record.time_ms);
        let state = match record.change {
            LogChange::Content(content) => State::Present { version: record.version, content },
            LogChange::Removed => State::Removed,
            LogChange::Unreadable => unknown(earlier, id, time_ms, "its content in the log can't be read".to_owned()),
            LogChange::Patch(patch) => {
                let base = match &earlier {
                    Some(After { state, .. }) => base_of(state),
                    None => before(&record.key)?.ok_or_else(|| NOT_THERE.to_owned()),
                };
                match base.and_then(|base| advance(&base, record.version, &patch)) {
                    Ok(content) => State::Present { version: record.version, content },
                    Err(why) => unknown(earlier, id, time_ms, why),
                }
            }
        };
        states.insert(record.key, After { state, id, time_ms, project });
    }
    Ok(states)
}

const NOT_THERE: &str = "it is a patch, and there was no document to change";

fn base_of(state: &State) -> std::result::Result<Before, String> {
    match state {
        State::Present { version, content } => Ok(Before { version: *version, content: content.clone() }),
        State::Removed => Err(NOT_THERE.to_owned()),
        State::Unknown { why, .. } => Err(why.clone()),
    }
}

/// Returns the content after a patch to the next version.
fn advance(base: &Before, version: Option<i64>, patch: &[u8]) -> std::result::Result<Vec<u8>, String> {
    match (base.version, version) {
        (Some(before), Some(after)) if before.checked_add(1) == Some(after) => {}
        (Some(before), Some(after)) => {
            return Err(format!("it is a patch to version {after}, and version {before} is what was known"));
        }
        _ => return Err("it is a patch, and the version it is for can't be told".to_owned()),
    }
    patched(&base.content, patch).map(|json| json.to_bytes()).map_err(|error| error.to_string())
}

/// What was unknown stays so from the first record on.
fn unknown(earlier: Option<After>, id: u64, time_ms: i64, why: String) -> State {
    match earlier.map(|earlier| earlier.state) {
        Some(state @ State::Unknown { .. }) => state,
        state => State::Unknown { id, time_ms, why, before: state.map(Box::new) },
    }
}
