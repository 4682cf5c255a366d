//! Looking at contents that nothing says changed: whoever writes without Kylin moves neither versions nor the log.

use std::collections::{BTreeMap, HashMap};

use super::listing::{KEY_SHAPE, encoding_of, key_query};
use super::rows::stamp;
use super::schema::{Holds, Schema};
use super::session::{Cell, Param, Shape, any_of, marks};
use super::snapshot::Snapshot;
use crate::endpoint::{Error, Result};
use crate::model::entry::Entry;
use crate::model::hash::ContentId;
use crate::monitor::Monitor;
use crate::platform::kylin::encoding::{Decoded, decode};
use crate::platform::kylin::kind::Home;
use crate::platform::kylin::layout::Layout;

/// Rows that are asked for at once, by id and by key.
const IDS_AT_ONCE: usize = 8192;
const KEYS_AT_ONCE: usize = 1000;
/// A content larger than this is not held: it is for those who read it as a stream.
const CONTENT_BYTES_MAX: u64 = 1 << 20;

/// Columns of a row whose content is looked at.
const SHAPE: [Shape; 8] = {
    let [table, id, key, project, version, time, size] = KEY_SHAPE;
    [table, id, key, project, version, time, size, Shape::Bytes]
};

/// Returns which of the entries, kept earlier, are not proven to be in the store as they were, contents and all.
///
/// A row is hashed where it arrives, while the server goes on with the next: no content is held or passed on.
pub(super) fn unproven(
    snapshot: &Snapshot,
    schema: &Schema,
    entries: &[Entry],
    monitor: &dyn Monitor,
) -> Result<Vec<usize>> {
    let mut check = Check { entries, is_proven: vec![false; entries.len()], content: Vec::new() };
    let mut by_table: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (n, entry) in entries.iter().enumerate() {
        if let Some(table) = table_of(schema, entry) {
            by_table.entry(table).or_default().push(n);
        }
    }
    for (table, of_table) in by_table {
        let at_once = if schema.is_old() { KEYS_AT_ONCE } else { IDS_AT_ONCE };
        for some in of_table.chunks(at_once) {
            if monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            check.look_at(snapshot, schema, table, some)?;
        }
    }
    let is_proven = check.is_proven;
    Ok((0..entries.len()).filter(|n| !is_proven[*n]).collect())
}

/// Returns the table that holds the row of an entry, if looking at that row alone tells whether it is as it was. It does not
/// where the row has no content of its own, or where other rows tell whose it is.
fn table_of(schema: &Schema, entry: &Entry) -> Option<u8> {
    entry.document().filter(|document| document.size <= CONTENT_BYTES_MAX)?;
    if schema.is_old() {
        return (!Layout::Old.is_permissions(&entry.path)).then_some(0);
    }
    let table = schema.table_of_folder(entry.path.kind()?)?;
    match schema.table(table).holds {
        Holds::Documents(kind) if kind.facts().home != Home::ProjectUuid => Some(table),
        _ => None,
    }
}

struct Check<'a> {
    entries: &'a [Entry],
    is_proven: Vec<bool>,
    /// The content of the last row, decoded.
    content: Vec<u8>,
}

impl Check<'_> {
    fn look_at(&mut self, snapshot: &Snapshot, schema: &Schema, number: u8, some: &[usize]) -> Result<()> {
        let table = schema.table(number);
        let (key, content) = table.key_and_content();
        let small = format!("OCTET_LENGTH({content}) <= {CONTENT_BYTES_MAX}");
        if table.holds == Holds::Old {
            let named = |n: &usize| Layout::Old.name_of(&self.entries[*n].path);
            let keys: Vec<(Vec<u8>, usize)> =
                some.iter().filter_map(|n| Some(([b"/", named(n)?.as_bytes()].concat(), *n))).collect();
            let numbers: HashMap<&[u8], usize> = keys.iter().map(|(key, n)| (&key[..], *n)).collect();
            let params: Vec<Param<'_>> = keys.iter().map(|(key, _)| Param::Bytes(key)).collect();
            let below = format!(" WHERE {key} IN {} AND {small}", marks(keys.len()));
            let sql = key_query(schema, number, table, &[content], &below);
            return snapshot.run(|session| {
                session.query(&sql, &params, &mut |row| {
                    if let Some(n) = row[2].bytes().and_then(|key| numbers.get(key)) {
                        self.is_proven[*n] = self.proves(*n, row);
                    }
                })
            });
        }
        let tells_project =
            matches!(table.holds, Holds::Documents(kind) if matches!(kind.facts().home, Home::Field(_)));
        let id = |n: &usize| self.entries[*n].stamp.identity.cast_signed();
        let numbers: HashMap<i64, usize> = some.iter().map(|n| (id(n), *n)).collect();
        let ids = any_of(schema.dialect, "id", numbers.keys().copied());
        let sql = key_query(schema, number, table, &[content], &format!(" WHERE {ids} AND {small}"));
        snapshot.run(|session| {
            session.query_many(&sql, &SHAPE, &mut |row| {
                if let Some(n) = row[1].int().and_then(|id| numbers.get(&id)) {
                    self.is_proven[*n] = self.is_in_place(*n, row, tells_project) && self.proves(*n, row);
                }
            })
        })
    }

    /// Tells whether a row is still that of the same document.
    fn is_in_place(&self, n: usize, row: &[Cell<'_>], tells_project: bool) -> bool {
        let path = &self.entries[n].path;
        Some(path.name()) == row[2].bytes() && (!tells_project || path.project() == row[3].bytes())
    }

    fn proves(&mut self, n: usize, row: &[Cell<'_>]) -> bool {
        let (Some(id), Some(version), Some(time)) = (row[1].int(), row[4].int(), row[5].int()) else { return false };
        let (entry, Some(stored)) = (&self.entries[n], row[7].bytes()) else { return false };
        self.content.clear();
        let encoding = match decode(stored, CONTENT_BYTES_MAX, &mut self.content) {
            Ok(Decoded::TooLarge) | Err(_) => return false,
            Ok(decoded) => encoding_of(decoded == Decoded::Encoded),
        };
        let is_same = entry.document().is_some_and(|document| document.content == ContentId::of(&self.content));
        is_same && encoding == entry.encoding && entry.stamp.proves_unchanged(&stamp(id, version, time))
    }
}
