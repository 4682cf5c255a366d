//! What has changed since a place in the log.

use std::collections::{BTreeMap, BTreeSet};

use super::position::{beside, missing, still_open, tops};
use super::{end_of, first_id, is_same_log, name_of, number};
use crate::endpoint::sql::listing::{Filling, KEY_SHAPE, key_query};
use crate::endpoint::sql::schema::{Holds, Schema, Table};
use crate::endpoint::sql::session::{Param, list, marks};
use crate::endpoint::sql::snapshot::Snapshot;
use crate::endpoint::{Result, Touched};
use crate::model::entry::Entry;
use crate::model::log::{LogPosition, OpenIds};
use crate::model::path::{EntryPath, escape};
use crate::platform::kylin::kind::{Home, Kind};
use crate::platform::kylin::layout::{GLOBAL, Layout, is_project};

/// With more records than this, listing all versions costs less.
const RECORDS_MAX: usize = 20_000;
/// Keys that are looked for with one statement.
const KEYS_AT_ONCE: usize = 1000;
/// How keys of permissions begin in the old generation, where the project's document tells whose they are.
const OLD_PERMISSIONS: &[u8] = b"/_global/acl/";

/// What the log says has changed.
pub(in crate::endpoint::sql) enum Changes {
    /// These documents, and nothing else.
    These { touched: Vec<Touched>, wanted: Wanted, position: LogPosition },
    /// It can't be told, for this reason.
    Unknown(String),
}

/// Rows to look at.
#[derive(Default)]
pub(in crate::endpoint::sql) struct Wanted {
    /// Keys, by the number of the table.
    keys: BTreeMap<u8, BTreeSet<Vec<u8>>>,
    /// Ids, by the number of the table.
    ids: BTreeMap<u8, Vec<i64>>,
    /// Tables of which all rows are looked at.
    whole: BTreeSet<u8>,
}

/// Finds out what changed since a position.
pub(in crate::endpoint::sql) fn changes(
    snapshot: &Snapshot,
    schema: &Schema,
    since: &LogPosition,
    now_ms: i64,
) -> Result<Changes> {
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
    pub(in crate::endpoint::sql) fn add(&mut self, schema: &Schema, Entry { path, stamp, .. }: &Entry) {
        if schema.is_old() {
            if let Some(name) = Layout::Old.name_of(path) {
                self.keys.entry(0).or_default().insert([b"/", name.as_bytes()].concat());
            }
        } else if let Some(number) = path.kind().and_then(|folder| schema.table_of_folder(folder)) {
            self.ids.entry(number).or_default().push(stamp.identity.cast_signed());
        }
    }

    /// Lists the rows that are wanted.
    pub(in crate::endpoint::sql) fn list(
        &self,
        snapshot: &Snapshot,
        schema: &Schema,
        filling: &mut Filling<'_>,
    ) -> Result<()> {
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
