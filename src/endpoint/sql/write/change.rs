//! One attempt to make a change.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::batch::{Inserter, Values, param};
use super::{Attempt, Failure, SqlStaging, at, changed, no_row};
use crate::endpoint::sql::is_logged;
use crate::endpoint::sql::read::{must_encode, old_key};
use crate::endpoint::sql::rows::stamp;
use crate::endpoint::sql::schema::{Holds, Schema, Table};
use crate::endpoint::sql::session::{Cell, Param, Session, list, marks};
use crate::endpoint::{Error, Put, Removal};
use crate::model::entry::Encoding;
use crate::model::hash::ContentId;
use crate::model::path::{EntryPath, escape};
use crate::monitor::Monitor;
use crate::platform::kylin::encoding::{decode, encode};
use crate::platform::kylin::layout::Layout;
use crate::platform::kylin::tables::{NoRow, Value, extract};

/// Rows that are locked, deleted or read back with one statement.
pub(super) const ROWS_AT_ONCE: usize = 500;
/// Bytes of documents that are read back with one statement.
const BYTES_AT_ONCE: u64 = 2 << 20;

/// One attempt.
pub(super) struct Change<'a> {
    pub staging: &'a SqlStaging<'a>,
    pub schema: &'a Schema,
    pub session: &'a mut dyn Session,
    pub statement_bytes_max: u64,
    pub now_ms: i64,
}

/// What is to be done with a table.
#[derive(Default)]
pub(super) struct Work {
    /// Rows of the listing to delete.
    pub deletes: Vec<usize>,
    /// Rows of the listing to update, each with the number of the put.
    pub updates: Vec<(usize, usize)>,
    /// Puts to insert.
    pub inserts: Vec<usize>,
}

/// What is to be done with each table, by its number.
pub(super) type Works = BTreeMap<u8, Work>;

impl Change<'_> {
    /// Does all but commit. Tells whether there are records in the audit log.
    pub(super) fn run(&mut self, unit: &str, removals: &[Removal], monitor: &dyn Monitor) -> Attempt<bool> {
        let mut all = self.sort_work(removals)?;
        for (table, work) in &mut all {
            self.lock(*table, work)?;
            self.leave_moved(*table, work)?;
        }
        // Tables that were made a moment ago should be empty.
        if !removals.is_empty() || self.staging.store.schema.is_none() {
            self.refuse_newcomers()?;
        }
        let schema = self.schema;
        let documents: Vec<(u8, &Work)> = all
            .iter()
            .filter(|(table, _)| is_logged(schema.table(**table).holds))
            .map(|(table, work)| (*table, work))
            .collect();
        for (table, work) in &documents {
            self.delete(*table, &work.deletes)?;
        }
        for (table, work) in &documents {
            self.update(*table, &work.updates, monitor)?;
        }
        for (table, work) in &documents {
            self.insert(*table, &work.inserts, monitor)?;
        }
        for (table, work) in &all {
            if let Holds::Side(side) = schema.table(*table).holds {
                self.write_side(*table, side, work)?;
            }
        }
        for (table, work) in &documents {
            self.verify(*table, work)?;
        }
        self.write_log(unit, &documents)
    }

    fn sort_work(&self, removals: &[Removal]) -> Attempt<Works> {
        let rows = &self.staging.listing.rows;
        let mut all = Works::new();
        for removal in removals {
            let n = removal.found as usize;
            all.entry(rows.table(n)).or_default().deletes.push(n);
        }
        for (number, put) in self.staging.puts.iter().enumerate() {
            match put.replaces {
                Some(n) => {
                    let n = n as usize;
                    all.entry(rows.table(n)).or_default().updates.push((n, number));
                }
                None => {
                    let table = if self.schema.is_old() {
                        Some(0)
                    } else {
                        put.path.kind().and_then(|folder| self.schema.table_of_folder(folder))
                    };
                    let table = table.ok_or_else(|| no_row(put, "there is no table for it".to_owned()))?;
                    all.entry(table).or_default().inserts.push(number);
                }
            }
        }
        // One order for all who write this way: no two of them wait for each other.
        for work in all.values_mut() {
            work.deletes.sort_unstable_by_key(|n| rows.id(*n));
            work.updates.sort_unstable_by_key(|(n, _)| rows.id(*n));
        }
        Ok(all)
    }

    pub(super) fn name(&self, table: u8) -> String {
        self.schema.quoted(&self.schema.table(table).name)
    }

    pub(super) fn content(&self, put: usize) -> Attempt<Vec<u8>> {
        Ok(self.staging.spool.read(put)?)
    }

    /// Returns the key of a put in its table.
    fn key(&self, put: &Put) -> Vec<u8> {
        key_in_table(&put.path, self.schema)
    }

    /// Returns the condition that names rows, with its parameters' bytes.
    fn condition(&self, table: &Table, rows: &[usize]) -> (String, Vec<Vec<u8>>) {
        let listing = self.staging.listing;
        if table.holds == Holds::Old {
            let keys: Vec<Vec<u8>> = rows.iter().map(|n| old_key(listing, *n)).collect();
            return (format!("{} IN {}", table.key_and_content().0, marks(keys.len())), keys);
        }
        (format!("id IN {}", list(rows.iter().map(|n| listing.rows.id(*n)))), Vec::new())
    }

    /// Locks the rows that will be changed, and checks that they are as they were listed; and that there is none where one
    /// will be inserted.
    fn lock(&mut self, number: u8, work: &Work) -> Attempt<()> {
        let (listing, table, name) = (self.staging.listing, self.schema.table(number), self.name(number));
        let (version, time) = version_and_time(table.holds);
        let key = match table.holds {
            Holds::Old => table.key_and_content().0,
            _ => "id",
        };
        let mut existing: Vec<usize> = work.deletes.clone();
        existing.extend(work.updates.iter().map(|(n, _)| *n));
        existing.sort_unstable_by_key(|n| listing.rows.id(*n));
        for some in existing.chunks(ROWS_AT_ONCE) {
            let (condition, keys) = self.condition(table, some);
            let params: Vec<Param<'_>> = keys.iter().map(|key| Param::Bytes(key)).collect();
            let sql = format!(
                "SELECT {key}, COALESCE({version}, 0), COALESCE({time}, 0) FROM {name} WHERE {condition} ORDER BY {key} FOR UPDATE"
            );
            let mut found = HashMap::new();
            self.session
                .query(&sql, &params, &mut |row| {
                    let (mvcc, time) = (row[1].int().unwrap_or_default(), row[2].int().unwrap_or_default());
                    match row[0] {
                        Cell::Int(id) => found.insert(id.to_string().into_bytes(), stamp(id, mvcc, time)),
                        Cell::Bytes(key) => found.insert(key.to_vec(), stamp(0, mvcc, time)),
                        Cell::Null => None,
                    };
                })
                .map_err(at("lock rows of"))?;
            for n in some {
                let key = if table.holds == Holds::Old {
                    old_key(listing, *n)
                } else {
                    listing.rows.id(*n).to_string().into_bytes()
                };
                if found.get(&key) != Some(&listing.rows.stamp(*n)) {
                    return Err(changed(listing.rows.path(*n)));
                }
            }
        }
        if is_logged(table.holds) { self.require_free(number, work) } else { Ok(()) }
    }

    /// Leaves rows as they are whose documents have another path only: of which project permissions are is told by what is
    /// in other rows.
    fn leave_moved(&mut self, number: u8, work: &mut Work) -> Attempt<()> {
        let (staging, table, name) = (self.staging, self.schema.table(number), self.name(number));
        let rows = &staging.listing.rows;
        let (key, content) = table.key_and_content();
        let is_moved = |(n, put): &&(usize, usize)| rows.path(*n) != staging.puts[*put].path;
        let moved: Vec<(usize, usize)> = match is_logged(table.holds) {
            true => work.updates.iter().filter(is_moved).copied().collect(),
            false => Vec::new(),
        };
        let mut same: HashSet<usize> = HashSet::new();
        for (n, put) in moved {
            let listed_key = self.listed_key(table, n);
            let mut found = None;
            let sql = format!("SELECT {content} FROM {name} WHERE {key} = ?");
            self.session
                .query(&sql, &[Param::Bytes(&listed_key)], &mut |row| {
                    let mut content = Vec::new();
                    let is_sound = decode(row[0].bytes().unwrap_or_default(), u64::MAX, &mut content).is_ok();
                    found = is_sound.then(|| ContentId::of(&content));
                })
                .map_err(at("read rows of"))?;
            if found.is_some() && found == staging.puts[put].document.as_ref().map(|document| document.content) {
                same.insert(n);
            }
        }
        work.updates.retain(|(n, _)| !same.contains(n));
        Ok(())
    }

    /// Checks that no row has a key that is to be inserted, but for those that go.
    fn require_free(&mut self, number: u8, work: &Work) -> Attempt<()> {
        let (listing, table, name) = (self.staging.listing, self.schema.table(number), self.name(number));
        let key = table.key_and_content().0;
        let mut going: HashSet<Vec<u8>> = HashSet::new();
        if table.holds == Holds::Old {
            going.extend(work.deletes.iter().map(|n| old_key(listing, *n)));
        }
        let rows = &listing.rows;
        let is_going = |key: &[u8]| match table.holds {
            Holds::Old => going.contains(key),
            // They are in the order of their ids.
            _ => rows
                .find(number, key)
                .is_some_and(|n| work.deletes.binary_search_by_key(&rows.id(n), |n| rows.id(*n)).is_ok()),
        };
        for some in work.inserts.chunks(ROWS_AT_ONCE) {
            let keys: Vec<Vec<u8>> = some.iter().map(|put| self.key(&self.staging.puts[*put])).collect();
            let params: Vec<Param<'_>> = keys.iter().map(|key| Param::Bytes(key)).collect();
            let sql = format!("SELECT {key} FROM {name} WHERE {key} IN {} FOR UPDATE", marks(some.len()));
            let mut taken: Vec<Vec<u8>> = Vec::new();
            self.session
                .query(&sql, &params, &mut |row| taken.extend(row[0].bytes().map(<[u8]>::to_vec)))
                .map_err(at("lock rows of"))?;
            let Some(taken) = taken.into_iter().find(|taken| !is_going(taken)) else { continue };
            if let Some(at) = keys.iter().position(|key| *key == taken) {
                return Err(changed(&self.staging.puts[some[at]].path));
            }
            // A column of MySQL takes keys for the same that differ in case: it found another than was asked for.
            let lower = |key: &[u8]| String::from_utf8_lossy(key).to_lowercase();
            let alike = keys.iter().position(|key| lower(key) == lower(&taken)).unwrap_or_default();
            let put = &self.staging.puts[some[alike]];
            if listing.rows.find(number, &taken).is_some() {
                return Err(no_row(put, format!("the table takes its key for that of {}", escape(&taken))));
            }
            return Err(changed(&put.path));
        }
        Ok(())
    }

    /// Returns the key of a listed row in its table.
    fn listed_key(&self, table: &Table, n: usize) -> Vec<u8> {
        let listing = self.staging.listing;
        if table.holds == Holds::Old { old_key(listing, n) } else { listing.rows.name(n).to_vec() }
    }

    fn delete(&mut self, number: u8, deletes: &[usize]) -> Attempt<()> {
        let (listing, table, name) = (self.staging.listing, self.schema.table(number), self.name(number));
        for some in deletes.chunks(ROWS_AT_ONCE) {
            let (condition, keys) = self.condition(table, some);
            let params: Vec<Param<'_>> = keys.iter().map(|key| Param::Bytes(key)).collect();
            let sql = format!("DELETE FROM {name} WHERE {condition}");
            let count = self.session.execute(&sql, &params).map_err(at("delete rows of"))?;
            if count != some.len() as u64 {
                return Err(changed(listing.rows.path(some[0])));
            }
        }
        Ok(())
    }

    /// Returns what a row holds besides key, version, time and content.
    fn values(&self, table: &Table, put: &Put, content: &[u8]) -> Result<Values, NoRow> {
        let Holds::Documents(kind) = table.holds else { return Ok(Vec::new()) };
        let values = extract(kind, &self.key(put), content, &table.columns, self.schema.release)?;
        Ok(values.into_iter().map(|(column, value)| (column.to_owned(), value)).collect())
    }

    fn update(&mut self, number: u8, updates: &[(usize, usize)], monitor: &dyn Monitor) -> Attempt<()> {
        let (listing, table, name) = (self.staging.listing, self.schema.table(number), self.name(number));
        let (version, time) = version_and_time(table.holds);
        let (key, content_column) = table.key_and_content();
        self.make_way(number, updates)?;
        for (n, put_number) in updates {
            if monitor.is_interrupted() {
                return Err(Failure::Store(Error::Interrupted));
            }
            let put = &self.staging.puts[*put_number];
            debug_assert!(self.key(put) == self.listed_key(table, *n), "a row keeps its key");
            let content = self.content(*put_number)?;
            // A document that can be no row goes where it was: the columns keep what they say, nothing is known better.
            let mut row = self.values(table, put, &content).unwrap_or_default();
            row.push((content_column.to_owned(), Value::Bytes(stored(put, content))));
            row.push((time.to_owned(), Value::Int(self.now_ms)));
            row.push((version.to_owned(), Value::Int(listing.rows.mvcc(*n).saturating_add(1))));
            let set: Vec<String> =
                row.iter().map(|(column, _)| format!("{} = ?", self.schema.column(table, column))).collect();
            let mut params: Vec<Param<'_>> = row.iter().map(|(_, value)| param(value)).collect();
            let listed_key = self.listed_key(table, *n);
            let (by, value) = match table.holds {
                Holds::Old => (key, Param::Bytes(&listed_key)),
                _ => ("id", Param::Int(listing.rows.id(*n))),
            };
            params.push(value);
            let sql = format!("UPDATE {name} SET {} WHERE {by} = ?", set.join(", "));
            if self.session.execute(&sql, &params).map_err(at("update rows of"))? != 1 {
                return Err(changed(&put.path));
            }
        }
        Ok(())
    }

    fn insert(&mut self, number: u8, inserts: &[usize], monitor: &dyn Monitor) -> Attempt<()> {
        let table = self.schema.table(number);
        let (version, time) = version_and_time(table.holds);
        let (key, content_column) = table.key_and_content();
        let mut inserter = Inserter::new(self.schema, table, self.statement_bytes_max);
        for put_number in inserts {
            if monitor.is_interrupted() {
                return Err(Failure::Store(Error::Interrupted));
            }
            let put = &self.staging.puts[*put_number];
            let content = self.content(*put_number)?;
            let mut row = self.values(table, put, &content).map_err(|why| no_row(put, why.to_string()))?;
            let key_text =
                String::from_utf8(self.key(put)).map_err(|_| no_row(put, "its key is not UTF-8".to_owned()))?;
            check_key(table, put, &key_text)?;
            row.push((key.to_owned(), Value::Text(key_text)));
            row.push((version.to_owned(), Value::Int(0)));
            row.push((time.to_owned(), Value::Int(self.now_ms)));
            row.push((content_column.to_owned(), Value::Bytes(stored(put, content))));
            inserter.push(self.session, row)?;
        }
        inserter.flush(self.session)
    }

    /// Reads back what was written, and compares it with what was to be written.
    fn verify(&mut self, number: u8, work: &Work) -> Attempt<()> {
        let (table, name) = (self.schema.table(number), self.name(number));
        let (key, content) = table.key_and_content();
        let version = version_and_time(table.holds).0;
        let puts: Vec<usize> = work.updates.iter().map(|(_, put)| *put).chain(work.inserts.iter().copied()).collect();
        let mut start = 0;
        while start < puts.len() {
            // As many as take no more than a statement's worth of memory.
            let (mut end, mut bytes) = (start, 0_u64);
            while end < puts.len() && end - start < ROWS_AT_ONCE && (end == start || bytes < BYTES_AT_ONCE) {
                bytes += self.staging.puts[puts[end]].document.as_ref().map_or(0, |document| document.size);
                end += 1;
            }
            let some = &puts[start..end];
            start = end;
            let keys: Vec<Vec<u8>> = some.iter().map(|put| self.key(&self.staging.puts[*put])).collect();
            let params: Vec<Param<'_>> = keys.iter().map(|key| Param::Bytes(key)).collect();
            let sql = format!("SELECT {key}, {content}, {version} FROM {name} WHERE {key} IN {}", marks(some.len()));
            let mut found: HashMap<Vec<u8>, (ContentId, i64)> = HashMap::new();
            self.session
                .query(&sql, &params, &mut |row| {
                    let (stored, mut content) = (row[1].bytes().unwrap_or_default(), Vec::new());
                    let is_sound = decode(stored, u64::MAX, &mut content).is_ok();
                    let key = row[0].bytes().unwrap_or_default().to_vec();
                    if is_sound {
                        found.insert(key, (ContentId::of(&content), row[2].int().unwrap_or_default()));
                    }
                })
                .map_err(at("read back rows of"))?;
            for (put, key) in some.iter().zip(&keys) {
                let put = &self.staging.puts[*put];
                let version = put.replaces.map_or(0, |n| self.staging.listing.rows.mvcc(n as usize).saturating_add(1));
                let expected = put.document.as_ref().map(|document| (document.content, version));
                if found.get(key).copied() != expected {
                    return Err(Failure::Store(Error::NotAsWritten { path: put.path.to_string() }));
                }
            }
        }
        Ok(())
    }
}

fn check_key(table: &Table, put: &Put, key: &str) -> Attempt<()> {
    let column = table.columns.iter().find(|column| column.name == table.key_and_content().0);
    let (chars, max) = (key.chars().count(), column.and_then(|column| column.chars_max));
    match max.filter(|max| chars > *max as usize) {
        Some(max) => Err(no_row(put, format!("its key has {chars} characters, more than {max}"))),
        None => Ok(()),
    }
}

/// Returns a content as it is written.
fn stored(put: &Put, content: Vec<u8>) -> Vec<u8> {
    if put.encoding == Encoding::Kylin || must_encode(&content) { encode(&content) } else { content }
}

/// Returns the columns of a row's version and time.
pub(super) fn version_and_time(holds: Holds) -> (&'static str, &'static str) {
    match holds {
        Holds::Documents(_) => ("mvcc", "ts"),
        Holds::Old => ("meta_table_mvcc", "meta_table_ts"),
        Holds::Side(_) => ("mvcc", "update_time"),
    }
}

/// Returns the key of a path in its table.
pub(super) fn key_in_table(path: &EntryPath, schema: &Schema) -> Vec<u8> {
    if schema.is_old() {
        let name = Layout::Old.name_of(path).expect("paths without a place were left out");
        return [b"/", name.as_bytes()].concat();
    }
    path.name().to_vec()
}
