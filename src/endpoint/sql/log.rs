//! Kylin's audit log: how far it was followed, what it says has changed since, and whether that can be believed.
//!
//! A record is written in the transaction of the change it tells of, right before the end. So in one snapshot of the
//! database tables and log agree, with two exceptions. Ids are drawn before a commit: a transaction may become visible
//! after others with higher ids. Such gaps are kept with the position and looked at again; until then only a listing
//! of all versions is believed. And who writes without Kylin writes no records: rows above the highest id that is
//! accounted for are noticed at once, other changes when their turn comes to be verified.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::{Filling, KEY_SHAPE, SqlListing, key_query};
use super::schema::{Holds, Schema, Table};
use super::session::{Cell, Param, list, marks};
use super::snapshot::Snapshot;
use crate::endpoint::{LogRecords, Result, Touched};
use crate::model::entry::Entry;
use crate::model::log::{LogChange, LogPosition, LogRecord, OpenIds};
use crate::model::path::{EntryPath, escape};
use crate::platform::kylin::encoding::{Decoded, decode};
use crate::platform::kylin::kind::{Home, Kind};
use crate::platform::kylin::layout::{GLOBAL, Layout, is_project};
use crate::platform::kylin::tables::Dialect;

/// Ids before the last that are looked at for gaps where nothing is known of the log yet.
const WINDOW_IDS: u64 = 10_000;
/// Most gaps that a position keeps. With more of them the log is not followed.
const OPEN_MAX: usize = 500;
/// After this time a transaction that drew ids does not commit any more.
const OPEN_MS_MAX: i64 = 24 * 3600 * 1000;
/// With more records than this, listing all versions costs less.
const RECORDS_MAX: usize = 20_000;
/// Keys that are looked for with one statement.
const KEYS_AT_ONCE: usize = 1000;
/// Records that are read at once for the archive.
const RECORDS_AT_ONCE: i64 = 500;
/// Contents of records that are read at once, as they are stored, if each alone is smaller.
const RECORDS_BYTES: u64 = 4 << 20;
/// A content of a record larger than this is not read.
const CONTENT_BYTES_MAX: u64 = 16 << 20;
/// How keys of permissions begin in the old generation, where the project's document tells whose they are.
const OLD_PERMISSIONS: &[u8] = b"/_global/acl/";

/// What the log says has changed.
pub(super) enum Changes {
    /// These documents, and nothing else.
    These { touched: Vec<Touched>, wanted: Wanted, position: LogPosition },
    /// It can't be told, for this reason.
    Unknown(String),
}

/// Rows to look at.
#[derive(Default)]
pub(super) struct Wanted {
    /// Keys, by the number of the table.
    keys: BTreeMap<u8, BTreeSet<Vec<u8>>>,
    /// Ids, by the number of the table.
    ids: BTreeMap<u8, Vec<i64>>,
    /// Tables of which all rows are looked at.
    whole: BTreeSet<u8>,
}

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

/// Returns the place in the log that a listing of everything shows; nothing where there is no log to follow.
pub(super) fn position(
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

/// Tells whether the log still has the record up to which it was followed.
fn is_same_log(snapshot: &Snapshot, schema: &Schema, log: &Table, since: &LogPosition) -> Result<bool> {
    let record = record_at(snapshot, schema, log, &format!("WHERE id = {}", since.last))?;
    Ok(record.is_some_and(|record| record.mark == since.mark))
}

fn first_id(snapshot: &Snapshot, schema: &Schema, log: &Table) -> Result<u64> {
    Ok(record_at(snapshot, schema, log, "ORDER BY id LIMIT 1")?.map_or(0, |record| record.last))
}

fn ids_after(snapshot: &Snapshot, schema: &Schema, log: &Table, after: u64) -> Result<Vec<u64>> {
    let sql = format!("SELECT id FROM {} WHERE id > {after} ORDER BY id", name_of(schema, log));
    let mut ids = Vec::new();
    snapshot.run(|session| session.query(&sql, &[], &mut |row| ids.push(number(row[0]))))?;
    Ok(ids)
}

/// Returns the ids after `after` and up to `last` that are not in `ids`, which are ascending.
fn missing(ids: &[u64], after: u64, last: u64, missed_ms: i64) -> Vec<OpenIds> {
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
fn still_open(
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
fn tops(snapshot: &Snapshot, schema: &Schema) -> Result<BTreeMap<String, u64>> {
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
fn beside(snapshot: &Snapshot, schema: &Schema) -> Result<u64> {
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

/// Finds out what changed since a position.
pub(super) fn changes(snapshot: &Snapshot, schema: &Schema, since: &LogPosition, now_ms: i64) -> Result<Changes> {
    let unknown = |why: String| Ok(Changes::Unknown(why));
    let Some(log) = &schema.log else { return unknown("there is no audit log any more".to_owned()) };
    let Some(end) = end_of(snapshot, schema, log)? else { return unknown("the audit log is empty".to_owned()) };
    let (seen, last) = (since.last, end.last);
    if last < seen {
        return unknown(format!("the audit log ends at {last}, before {seen}: it was truncated or renumbered"));
    }
    if !is_same_log(snapshot, schema, log, since)? {
        return unknown(format!("record {seen} of the audit log is gone or another: it was rotated or renumbered"));
    }
    let still_open = still_open(snapshot, schema, log, &since.open, now_ms)?;
    if let Some(gap) = still_open.first()
        && first_id(snapshot, schema, log)? > gap.first
    {
        // They may have come and gone since.
        let OpenIds { first, last, .. } = gap;
        return unknown(format!("ids {first} to {last} of the audit log were missing, and it was rotated since"));
    }
    let records = touched_records(snapshot, schema, log, since)?;
    if records.len() > RECORDS_MAX {
        return unknown(format!("the audit log has more than {RECORDS_MAX} new records"));
    }
    let ids: Vec<u64> = records.iter().map(|record| record.id).filter(|id| *id > seen).collect();
    if let Some(gap) = missing(&ids, seen, last, now_ms).first() {
        return unknown(format!("ids {} to {} of the audit log are missing", gap.first, gap.last));
    }
    let mut touched = Vec::new();
    let mut wanted = Wanted::default();
    for (key, record) in by_key(records) {
        if schema.is_old() && [&b"/_global/project/"[..], OLD_PERMISSIONS].iter().any(|place| key.starts_with(place)) {
            return unknown(format!("the audit log names {}, with which permissions may have moved", escape(&key)));
        }
        match touch(schema, &key, &record, &mut wanted) {
            Some(one) => touched.push(one),
            None => return unknown(format!("the audit log names {}, which is in no table", escape(&key))),
        }
    }
    let tops = tops(snapshot, schema)?;
    if let Some(folder) = unaccounted(snapshot, schema, since, &tops, &wanted)? {
        return unknown(format!("there are new rows of {folder} that the audit log does not name"));
    }
    // Whose permissions some are is told by the documents of projects.
    let number_of = |kind: Kind| schema.table_of_folder(kind.name().as_bytes());
    if let Some(acl) = number_of(Kind::ObjectAcl)
        && number_of(Kind::Project).is_some_and(|project| wanted.keys.contains_key(&project))
    {
        touched.push(Touched::Kind(Kind::ObjectAcl.name().as_bytes().into()));
        wanted.whole.insert(acl);
    }
    let beside = beside(snapshot, schema)?;
    if beside != since.beside {
        for (number, table) in (0..).zip(&schema.tables) {
            if matches!(table.holds, Holds::Side(_)) {
                touched.push(Touched::Kind(table.folder().as_bytes().into()));
                wanted.whole.insert(number);
            }
        }
    }
    let position = LogPosition { last, mark: end.mark, open: still_open, tops, beside };
    Ok(Changes::These { touched, wanted, position })
}

/// A record, as far as it is needed to find what it speaks of.
struct Named {
    id: u64,
    key: Vec<u8>,
    project: Vec<u8>,
    is_first: bool,
}

fn touched_records(snapshot: &Snapshot, schema: &Schema, log: &Table, since: &LogPosition) -> Result<Vec<Named>> {
    let mut condition = format!("id > {}", since.last);
    for gap in &since.open {
        condition.push_str(&format!(" OR id BETWEEN {} AND {}", gap.first, gap.last));
    }
    let project = if log.has("project") { "project" } else { "NULL" };
    let sql = format!(
        "SELECT id, meta_key, {project}, meta_mvcc FROM {} WHERE {condition} ORDER BY id LIMIT {}",
        name_of(schema, log),
        RECORDS_MAX + 1
    );
    let mut records = Vec::new();
    snapshot.run(|session| {
        session.query(&sql, &[], &mut |row| {
            let bytes = |n: usize| row[n].bytes().unwrap_or_default().to_vec();
            records.push(Named {
                id: number(row[0]),
                key: bytes(1),
                project: bytes(2),
                is_first: row[3].int() == Some(0),
            });
        })
    })?;
    Ok(records)
}

/// What all records together say of a key.
struct Said {
    projects: BTreeSet<Vec<u8>>,
    /// Whether the first of them is of its creation.
    is_new: bool,
}

fn by_key(records: Vec<Named>) -> BTreeMap<Vec<u8>, Said> {
    let mut keys: BTreeMap<Vec<u8>, Said> = BTreeMap::new();
    for Named { key, project, is_first, .. } in records {
        let said = keys.entry(key).or_insert_with(|| Said { projects: BTreeSet::new(), is_new: is_first });
        said.projects.insert(project);
    }
    keys
}

/// Returns where a document may be that the log names; nothing if no table holds such.
fn touch(schema: &Schema, key: &[u8], said: &Said, wanted: &mut Wanted) -> Option<Touched> {
    if schema.is_old() {
        let name = EntryPath::new(key.strip_prefix(b"/")?).ok()?;
        wanted.keys.entry(0).or_default().insert(key.to_vec());
        let path = Layout::Old.path_in(&name, None);
        return Some(Touched::Document { paths: vec![path], is_new: said.is_new });
    }
    let (folder, name) = key.split_at_checked(key.iter().position(|byte| *byte == b'/')?)?;
    let name = &name[1..];
    let kind = Kind::of_folder(folder)?;
    let number = schema.table_of_folder(folder)?;
    let path = |project: &[u8]| EntryPath::new([project, folder, name].join(&b'/')).ok();
    let paths: Vec<EntryPath> = match kind.facts().home {
        Home::Global => path(GLOBAL.as_bytes()).into_iter().collect(),
        Home::Key => path(name).into_iter().collect(),
        // Which project has this UUID is seen when all are known.
        Home::ProjectUuid => path(GLOBAL.as_bytes()).into_iter().collect(),
        Home::Field(_) => {
            let named = said.projects.iter().filter(|project| is_project(project)).filter_map(|project| path(project));
            let named: Vec<EntryPath> = named.collect();
            // The record of a removal names the project of its transaction: from any place it tells the rest of the path.
            if named.is_empty() { path(GLOBAL.as_bytes()).into_iter().collect() } else { named }
        }
    };
    // A key that can be no path is in no snapshot either.
    EntryPath::new(name).ok()?;
    wanted.keys.entry(number).or_default().insert(name.to_vec());
    Some(Touched::Document { paths, is_new: said.is_new && !matches!(kind.facts().home, Home::ProjectUuid) })
}

/// Returns the name of a kind of which there are rows above the highest id that was known or is named by the log.
fn unaccounted(
    snapshot: &Snapshot,
    schema: &Schema,
    since: &LogPosition,
    tops: &BTreeMap<String, u64>,
    wanted: &Wanted,
) -> Result<Option<String>> {
    for (folder, top) in tops {
        let known = since.tops.get(folder).copied().unwrap_or_default();
        if *top <= known {
            continue;
        }
        let Some(number) = schema.table_of_folder(folder.as_bytes()) else { continue };
        let table = schema.table(number);
        let sql = format!("SELECT meta_key FROM {} WHERE id > {known}", schema.quoted(&table.name));
        let named = wanted.keys.get(&number);
        let mut is_unaccounted = false;
        snapshot.run(|session| {
            session.query(&sql, &[], &mut |row| {
                let key = row[0].bytes().unwrap_or_default();
                is_unaccounted |= !named.is_some_and(|keys| keys.contains(key));
            })
        })?;
        if is_unaccounted {
            return Ok(Some(folder.clone()));
        }
    }
    Ok(None)
}

impl Wanted {
    /// Adds the row that an entry of a snapshot was made of.
    pub(super) fn add(&mut self, schema: &Schema, Entry { path, stamp, .. }: &Entry) {
        if schema.is_old() {
            if let Some(name) = Layout::Old.name_of(path) {
                self.keys.entry(0).or_default().insert([b"/", name.as_bytes()].concat());
            }
        } else if let Some(number) = path.kind().and_then(|folder| schema.table_of_folder(folder)) {
            self.ids.entry(number).or_default().push(stamp.identity.cast_signed());
        }
    }

    /// Lists the rows that are wanted.
    pub(super) fn list(&self, snapshot: &Snapshot, schema: &Schema, filling: &mut Filling<'_>) -> Result<()> {
        let is_permission = |number: &u8| match schema.table(*number).holds {
            Holds::Old => self.keys.get(number).into_iter().flatten().any(|key| key.starts_with(OLD_PERMISSIONS)),
            holds => holds == Holds::Documents(Kind::ObjectAcl),
        };
        let mut all: BTreeSet<u8> = self.keys.keys().chain(self.ids.keys()).chain(&self.whole).copied().collect();
        if all.iter().any(is_permission) {
            filling.learn_projects(snapshot, schema)?;
        }
        for number in std::mem::take(&mut all) {
            let table = schema.table(number);
            let mut run = |below: &str, params: &[Param<'_>]| {
                let sql = key_query(schema, number, table, &[], below);
                snapshot.run(|session| match params {
                    [] => session.query_many(&sql, &KEY_SHAPE, &mut |row| filling.push_once(row)),
                    _ => session.query(&sql, params, &mut |row| filling.push_once(row)),
                })
            };
            if self.whole.contains(&number) {
                run("", &[])?;
                continue;
            }
            let key = table.key_and_content().0;
            let keys: Vec<&Vec<u8>> = self.keys.get(&number).into_iter().flatten().collect();
            for some in keys.chunks(KEYS_AT_ONCE) {
                let params: Vec<Param<'_>> = some.iter().map(|key| Param::Bytes(key)).collect();
                run(&format!(" WHERE {key} IN {}", marks(some.len())), &params)?;
            }
            for some in self.ids.get(&number).map_or(&[][..], Vec::as_slice).chunks(KEYS_AT_ONCE * 5) {
                run(&format!(" WHERE id IN {}", list(some.iter().copied())), &[])?;
            }
        }
        Ok(())
    }
}

/// Reads the records after a position, and those of its gaps that have filled since.
pub(super) fn records_since<'a>(listing: &'a SqlListing, since: &LogPosition) -> Result<Option<LogRecords<'a>>> {
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
