//! Changing a store: one transaction, which does all of the plan or nothing.
//!
//! Rows to be changed are locked in one order and must be as they were listed. Then rows are deleted, updated, inserted
//! (in this order, for the sake of unique columns), read back and compared, and told of in the audit log, last and right
//! before the commit, so that running nodes follow. A transaction that another one was in the way of is tried again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::thread;
use std::time::Duration;

use super::listing::SqlListing;
use super::read::{must_encode, old_key};
use super::rows::stamp;
use super::schema::{self, Found, Holds, Schema, Table};
use super::session::{Cell, Fault, Param, Session, SqlError, SqlResult, list, marks};
use super::spool::Spool;
use super::{SqlStore, fail, is_logged, now_ms};
use crate::endpoint::{Error, Put, Removal, Result, Staging, StagingWriter};
use crate::model::entry::Encoding;
use crate::model::hash::ContentId;
use crate::model::path::EntryPath;
use crate::monitor::Monitor;
use crate::platform::kylin::encoding::{decode, encode};
use crate::platform::kylin::layout::{GLOBAL, Layout};
use crate::platform::kylin::tables::ddl::{create_tables, create_tables_old};
use crate::platform::kylin::tables::{Dialect, NoRow, Value, audit_model_uuid, audit_project, extract};

/// How often a transaction is tried that others are in the way of.
const ATTEMPTS_MAX: u32 = 6;
/// The wait before the second attempt; it doubles with each.
const PAUSE_MS: u64 = 100;
/// Rows that are locked, deleted or read back with one statement.
const ROWS_AT_ONCE: usize = 500;
/// Values and bytes of rows that are inserted with one statement.
const VALUES_AT_ONCE: usize = 8000;
const BYTES_AT_ONCE: u64 = 4 << 20;
/// How a restore signs in the audit log.
const OPERATOR: &str = "metastash";

/// A change in the making.
pub(super) struct SqlStaging<'a> {
    store: &'a SqlStore,
    listing: &'a SqlListing,
    puts: &'a [Put],
    spool: Spool,
}

impl<'a> SqlStaging<'a> {
    pub(super) fn begin(store: &'a SqlStore, listing: &'a SqlListing, puts: &'a [Put]) -> Result<Self> {
        Ok(Self { store, listing, puts, spool: Spool::new(puts.len())? })
    }
}

impl Staging for SqlStaging<'_> {
    fn writer(&self) -> Box<dyn StagingWriter + '_> {
        Box::new(self.spool.writer())
    }

    fn commit(self: Box<Self>, removals: &[Removal], monitor: &dyn Monitor) -> Result<()> {
        let unit = unit_id().map_err(fail(self.store, "name a transaction of"))?;
        let mut attempt = 1;
        loop {
            let result = self.attempt(&unit, removals, monitor);
            match &result {
                Err(Failure::Sql(_, error)) if error.fault == Fault::Conflict && attempt < ATTEMPTS_MAX => {
                    thread::sleep(Duration::from_millis(PAUSE_MS << attempt));
                    attempt += 1;
                }
                _ => return result.map_err(|failure| failure.into_error(self.store)),
            }
        }
    }
}

/// Why an attempt failed.
enum Failure {
    Sql(&'static str, SqlError),
    Store(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    fn into_error(self, store: &SqlStore) -> Error {
        match self {
            Self::Sql(action, error) => fail(store, action)(error),
            Self::Store(error) => error,
        }
    }
}

type Attempt<T> = std::result::Result<T, Failure>;

fn at(action: &'static str) -> impl Fn(SqlError) -> Failure {
    move |error| Failure::Sql(action, error)
}

impl SqlStaging<'_> {
    fn attempt(&self, unit: &str, removals: &[Removal], monitor: &dyn Monitor) -> Attempt<()> {
        let mut session = self.store.session()?;
        let planned = self.store.schema.is_none();
        let is_mysql = self.store.database.dialect == Dialect::MySql;
        if planned && is_mysql {
            // Each of these statements is a transaction of its own there.
            self.create_tables(&mut *session)?;
        }
        session.begin_write().map_err(at("begin to change"))?;
        if planned && !is_mysql {
            self.create_tables(&mut *session)?;
        }
        let schema = match &self.store.schema {
            Some(schema) => schema.clone(),
            None => match schema::look(&mut *session, &self.store.database, Some(self.store.layout))? {
                Found::Schema(schema) => *schema,
                Found::Nothing => return Err(Failure::Store(self.changed_tables())),
            },
        };
        let mut change = Change {
            staging: self,
            schema: &schema,
            statement_bytes_max: session.statement_bytes_max().map_err(at("ask for the limits of"))?,
            session: &mut *session,
            now_ms: now_ms(),
            log: Vec::new(),
        };
        change.run(removals, monitor)?;
        change.write_log(unit)?;
        if monitor.is_interrupted() {
            // Dropping the connection takes everything back.
            return Err(Failure::Store(Error::Interrupted));
        }
        match session.execute("COMMIT", &[]) {
            Ok(_) => Ok(()),
            Err(error) if error.fault == Fault::Unreachable => self.find_out(unit, &schema, error),
            Err(error) => Err(Failure::Sql("commit the change of", error)),
        }
    }

    fn create_tables(&self, session: &mut dyn Session) -> Attempt<()> {
        let database = &self.store.database;
        let create = if self.store.layout == Layout::Old { create_tables_old } else { create_tables };
        let statements = create(database.dialect, &database.identifier).map_err(|error| {
            Failure::Store(Error::NoRow { path: database.identifier.clone(), why: error.to_string() })
        })?;
        statements.iter().try_for_each(|sql| session.execute(sql, &[]).map(drop)).map_err(at("make tables in"))
    }

    fn changed_tables(&self) -> Error {
        Error::Changed { path: format!("the tables of {}", self.store.database.identifier) }
    }

    /// Finds out whether the transaction was committed when the connection broke: its records in the log tell.
    fn find_out(&self, unit: &str, schema: &Schema, error: SqlError) -> Attempt<()> {
        let lost = |error| Failure::Sql("learn whether the change was committed in", error);
        let Some(log) = &schema.log else { return Err(lost(error)) };
        let sql = format!("SELECT COUNT(*) FROM {} WHERE unit_id = ?", schema.quoted(&log.name));
        for attempt in 0..ATTEMPTS_MAX {
            let Ok(mut session) = super::session::connect(&self.store.database) else {
                thread::sleep(Duration::from_millis(PAUSE_MS << attempt));
                continue;
            };
            let mut count = 0;
            session
                .query(&sql, &[Param::Text(unit)], &mut |row| count = row[0].int().unwrap_or_default())
                .map_err(lost)?;
            return if count > 0 { Ok(()) } else { Err(Failure::Sql("commit the change of", error)) };
        }
        Err(lost(error))
    }
}

/// Draws the name of a transaction: a UUID of version 4, as Kylin's are.
fn unit_id() -> SqlResult<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| SqlError { fault: Fault::Other, message: error.to_string() })?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// A record to write into the audit log.
struct Record {
    key: Vec<u8>,
    /// The number of the put whose content it has; none for a removal.
    put: Option<usize>,
    version: i64,
    project: String,
    model_uuid: Option<String>,
}

/// One attempt.
struct Change<'a> {
    staging: &'a SqlStaging<'a>,
    schema: &'a Schema,
    session: &'a mut dyn Session,
    statement_bytes_max: u64,
    now_ms: i64,
    log: Vec<Record>,
}

/// What is to be done with a table.
#[derive(Default)]
struct Work {
    /// Rows of the listing to delete.
    deletes: Vec<usize>,
    /// Rows of the listing to update, each with the number of the put.
    updates: Vec<(usize, usize)>,
    /// Puts to insert.
    inserts: Vec<usize>,
}

impl Change<'_> {
    fn run(&mut self, removals: &[Removal], monitor: &dyn Monitor) -> Attempt<()> {
        let work = self.sort_work(removals)?;
        for (table, work) in &work {
            self.lock(*table, work)?;
        }
        if !removals.is_empty() {
            self.refuse_newcomers()?;
        }
        for (table, work) in &work {
            self.delete(*table, &work.deletes)?;
        }
        for (table, work) in &work {
            self.update(*table, &work.updates, monitor)?;
        }
        for (table, work) in &work {
            self.insert(*table, &work.inserts, monitor)?;
        }
        for (table, work) in &work {
            self.verify(*table, work)?;
        }
        Ok(())
    }

    fn sort_work(&self, removals: &[Removal]) -> Attempt<BTreeMap<u8, Work>> {
        let rows = &self.staging.listing.rows;
        let mut work: BTreeMap<u8, Work> = BTreeMap::new();
        for removal in removals {
            let n = removal.found as usize;
            work.entry(rows.table(n)).or_default().deletes.push(n);
        }
        for (number, put) in self.staging.puts.iter().enumerate() {
            match put.replaces {
                Some(n) => {
                    let n = n as usize;
                    work.entry(rows.table(n)).or_default().updates.push((n, number));
                }
                None => {
                    let table = if self.schema.is_old() {
                        Some(0)
                    } else {
                        put.path.kind().and_then(|folder| self.schema.table_of_folder(folder))
                    };
                    let table = table.ok_or_else(|| self.no_row(&put.path, "there is no table for it".to_owned()))?;
                    work.entry(table).or_default().inserts.push(number);
                }
            }
        }
        // One order for all who write this way: no two of them wait for each other.
        for work in work.values_mut() {
            work.deletes.sort_unstable_by_key(|n| rows.id(*n));
            work.updates.sort_unstable_by_key(|(n, _)| rows.id(*n));
        }
        Ok(work)
    }

    fn no_row(&self, path: &EntryPath, why: String) -> Failure {
        Failure::Store(Error::NoRow { path: path.to_string(), why })
    }

    fn name(&self, table: u8) -> String {
        self.schema.quoted(&self.schema.table(table).name)
    }

    fn content(&self, put: usize) -> Attempt<Vec<u8>> {
        Ok(self.staging.spool.read(put)?)
    }

    /// Returns the key of a put in its table.
    fn key(&self, put: &Put) -> Vec<u8> {
        if self.schema.is_old() {
            let name = Layout::Old.name_of(&put.path).expect("paths without a place were left out");
            return [b"/", name.as_bytes()].concat();
        }
        put.path.name().to_vec()
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
        let key = row_key(table);
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
                    return Err(Failure::Store(Error::Changed { path: listing.rows.path(*n).to_string() }));
                }
            }
        }
        if is_logged(table.holds) {
            self.require_free(number, &work.inserts)?;
        }
        Ok(())
    }

    fn require_free(&mut self, number: u8, inserts: &[usize]) -> Attempt<()> {
        let (table, name) = (self.schema.table(number), self.name(number));
        let key = table.key_and_content().0;
        // A table that was empty a moment ago needs no look at each key.
        for some in inserts.chunks(ROWS_AT_ONCE) {
            let keys: Vec<Vec<u8>> = some.iter().map(|put| self.key(&self.staging.puts[*put])).collect();
            let params: Vec<Param<'_>> = keys.iter().map(|key| Param::Bytes(key)).collect();
            let sql = format!("SELECT {key} FROM {name} WHERE {key} IN {} FOR UPDATE", marks(some.len()));
            let mut taken = None;
            self.session
                .query(&sql, &params, &mut |row| taken = taken.take().or_else(|| row[0].bytes().map(<[u8]>::to_vec)))
                .map_err(at("lock rows of"))?;
            if let Some(taken) = taken {
                let put = keys.iter().position(|key| *key == taken).map_or(some[0], |at| some[at]);
                return Err(Failure::Store(Error::Changed { path: self.staging.puts[put].path.to_string() }));
            }
        }
        Ok(())
    }

    /// Refuses to truncate a store in which something was written since it was listed: it would stay, or be lost.
    fn refuse_newcomers(&mut self) -> Attempt<()> {
        let listing = self.staging.listing;
        let Some(log) = &self.schema.log else { return Ok(()) };
        let Some(position) = super::log::last_id(listing)? else { return Ok(()) };
        let project = if log.has("project") { "project" } else { "NULL" };
        let sql = format!(
            "SELECT meta_key, {project} FROM {} WHERE id > {position} ORDER BY id LIMIT 1000",
            self.schema.quoted(&log.name)
        );
        let mut changed: Option<String> = None;
        self.session
            .query(&sql, &[], &mut |row| {
                let key = row[0].bytes().unwrap_or_default();
                let project = row[1].bytes().unwrap_or_default();
                if changed.is_none() && listing.may_be_in_scope(key, project) {
                    changed = Some(crate::model::path::escape(key));
                }
            })
            .map_err(at("read the audit log of"))?;
        match changed {
            Some(path) => Err(Failure::Store(Error::Changed { path })),
            None => Ok(()),
        }
    }

    fn delete(&mut self, number: u8, deletes: &[usize]) -> Attempt<()> {
        let (listing, table, name) = (self.staging.listing, self.schema.table(number), self.name(number));
        for some in deletes.chunks(ROWS_AT_ONCE) {
            let (condition, keys) = self.condition(table, some);
            let params: Vec<Param<'_>> = keys.iter().map(|key| Param::Bytes(key)).collect();
            let count = self
                .session
                .execute(&format!("DELETE FROM {name} WHERE {condition}"), &params)
                .map_err(at("delete rows of"))?;
            if count != some.len() as u64 {
                return Err(Failure::Store(Error::Changed { path: listing.rows.path(some[0]).to_string() }));
            }
            for n in some {
                let path = listing.rows.path(*n);
                let key = log_key(self.schema, table, &path);
                self.tell(table, Record { key, put: None, version: 0, project: project_of(&path), model_uuid: None });
            }
        }
        Ok(())
    }

    fn tell(&mut self, table: &Table, record: Record) {
        if is_logged(table.holds) && self.schema.log.is_some() {
            self.log.push(record);
        }
    }

    /// Returns what a row holds besides key, version, time and content. Without a value for each column an existing row
    /// keeps those it has, but a new one can't be made.
    fn values(&self, table: &Table, content: &[u8]) -> std::result::Result<Vec<(String, Value)>, NoRow> {
        match table.holds {
            Holds::Old => Ok(Vec::new()),
            Holds::Documents(kind) => {
                let values = extract(kind, content, &table.columns, self.schema.release)?;
                Ok(values.into_iter().map(|(column, value)| (column.to_owned(), value)).collect())
            }
            Holds::Side(side) => {
                let values = side.from_json(content)?;
                Ok(values.into_iter().map(|(column, value)| (column.to_owned(), value)).collect())
            }
        }
    }

    /// Returns a content as it is written.
    fn stored(&self, put: &Put, content: &[u8]) -> Attempt<Vec<u8>> {
        let is_encoded = put.encoding == Encoding::Kylin || must_encode(content);
        let stored = if is_encoded { encode(content) } else { content.to_vec() };
        if stored.len() as u64 > self.statement_bytes_max {
            let (size, max) = (stored.len(), self.statement_bytes_max);
            let server = match self.schema.dialect {
                Dialect::MySql => ": raise max_allowed_packet of the server (Kylin advises 256M)",
                Dialect::PostgreSql => "",
            };
            return Err(
                self.no_row(&put.path, format!("it takes {size} bytes, and the server takes {max} at most{server}"))
            );
        }
        Ok(stored)
    }

    fn update(&mut self, number: u8, updates: &[(usize, usize)], monitor: &dyn Monitor) -> Attempt<()> {
        let (listing, table, name) = (self.staging.listing, self.schema.table(number), self.name(number));
        let (version, time) = version_and_time(table.holds);
        let (key, content_column) = (row_key(table), table.key_and_content().1);
        self.make_way(number, updates)?;
        for (n, number) in updates {
            if monitor.is_interrupted() {
                return Err(Failure::Store(Error::Interrupted));
            }
            let put = &self.staging.puts[*number];
            let content = self.content(*number)?;
            let mvcc = listing.rows.mvcc(*n).saturating_add(1);
            let values = match self.values(table, &content) {
                Ok(values) => values,
                // A broken document goes where it was: what its columns say of it can't be told any better.
                Err(_) if is_logged(table.holds) => Vec::new(),
                Err(why) => return Err(self.no_row(&put.path, why.to_string())),
            };
            let stored = if content_column.is_empty() { Vec::new() } else { self.stored(put, &content)? };
            let mut columns: Vec<(String, Param<'_>)> = values
                .iter()
                .filter(|(column, _)| column != "id")
                .map(|(column, value)| (column.clone(), param(value)))
                .collect();
            if !content_column.is_empty() {
                columns.push((content_column.to_owned(), Param::Bytes(&stored)));
                columns.push((time.to_owned(), Param::Int(self.now_ms)));
                let renamed = self.key(put);
                debug_assert!(renamed == log_name(&listing.rows.path(*n), self.schema), "a row keeps its key");
            }
            columns.retain(|(column, _)| column != version);
            columns.push((version.to_owned(), Param::Int(mvcc)));
            let set: Vec<String> =
                columns.iter().map(|(column, _)| format!("{} = ?", self.column(table, column))).collect();
            let old = old_key_of(listing, table, *n);
            let mut params: Vec<Param<'_>> = columns.iter().map(|(_, value)| *value).collect();
            params.push(old.as_deref().map_or(Param::Int(listing.rows.id(*n)), Param::Bytes));
            let sql = format!("UPDATE {name} SET {} WHERE {key} = ?", set.join(", "));
            if self.session.execute(&sql, &params).map_err(at("update rows of"))? != 1 {
                return Err(Failure::Store(Error::Changed { path: put.path.to_string() }));
            }
            let record = self.record(table, *number, &content, mvcc);
            self.tell(table, record);
        }
        Ok(())
    }

    fn record(&self, table: &Table, put: usize, content: &[u8], version: i64) -> Record {
        let path = &self.staging.puts[put].path;
        let (project, model_uuid) = match table.holds {
            Holds::Documents(kind) => (audit_project(kind, content), audit_model_uuid(kind, content)),
            _ => (None, None),
        };
        let project = project.unwrap_or_else(|| project_of(path));
        Record { key: log_key(self.schema, table, path), put: Some(put), version, project, model_uuid }
    }

    /// Returns a column's name as it is written: those of the old generation are not in lower case everywhere.
    fn column(&self, table: &Table, column: &str) -> String {
        if table.holds == Holds::Old { column.to_owned() } else { self.schema.quoted(column) }
    }

    /// Gives rows that have what other rows are to get in unique columns a value of nobody's, so that names can be
    /// exchanged: rules are checked row by row.
    fn make_way(&mut self, number: u8, updates: &[(usize, usize)]) -> Attempt<()> {
        let (listing, table, name) = (self.staging.listing, self.schema.table(number), self.name(number));
        let Holds::Documents(kind) = table.holds else { return Ok(()) };
        if updates.len() < 2 {
            return Ok(());
        }
        let unique = self.unique_columns(table)?;
        if unique.is_empty() {
            return Ok(());
        }
        let mut wanted: HashMap<(usize, String), HashSet<i64>> = HashMap::new();
        for (n, put) in updates {
            let Ok(values) = extract(kind, &self.content(*put)?, &table.columns, self.schema.release) else { continue };
            for (at, column) in unique.iter().enumerate() {
                let value = values.iter().find(|(name, _)| name == column).map(|(_, value)| value);
                if let Some(Value::Text(text)) = value {
                    wanted.entry((at, text.to_lowercase())).or_default().insert(listing.rows.id(*n));
                }
            }
        }
        let columns: Vec<String> = unique.iter().map(|column| self.schema.quoted(column)).collect();
        let mut in_the_way: Vec<BTreeSet<i64>> = vec![BTreeSet::new(); unique.len()];
        for some in updates.chunks(ROWS_AT_ONCE) {
            let ids = list(some.iter().map(|(n, _)| listing.rows.id(*n)));
            let sql = format!("SELECT id, {} FROM {name} WHERE id IN {ids}", columns.join(", "));
            self.session
                .query(&sql, &[], &mut |row| {
                    let Some(id) = row[0].int() else { return };
                    for (at, cell) in row[1..].iter().enumerate() {
                        let text = cell.bytes().map(|text| String::from_utf8_lossy(text).trim_end().to_lowercase());
                        let others = text.and_then(|text| wanted.get(&(at, text)));
                        if others.is_some_and(|others| others.iter().any(|other| *other != id)) {
                            in_the_way[at].insert(id);
                        }
                    }
                })
                .map_err(at("read rows of"))?;
        }
        for (column, ids) in columns.iter().zip(in_the_way).filter(|(_, ids)| !ids.is_empty()) {
            let value = match self.schema.dialect {
                Dialect::PostgreSql => "'~' || id",
                Dialect::MySql => "CONCAT('~', id)",
            };
            let sql = format!("UPDATE {name} SET {column} = {value} WHERE id IN {}", list(ids));
            self.session.execute(&sql, &[]).map_err(at("update rows of"))?;
        }
        Ok(())
    }

    /// Returns the text columns in unique indexes, but for the key and the project.
    fn unique_columns(&mut self, table: &Table) -> Attempt<Vec<String>> {
        let sql = match self.schema.dialect {
            Dialect::PostgreSql => {
                "SELECT DISTINCT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid \
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) \
                 WHERE i.indisunique AND c.relname = ? AND pg_catalog.pg_table_is_visible(c.oid)"
            }
            Dialect::MySql => {
                "SELECT DISTINCT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND \
                 NON_UNIQUE = 0 AND TABLE_NAME = ?"
            }
        };
        let mut columns = Vec::new();
        self.session
            .query(sql, &[Param::Text(&table.name)], &mut |row| {
                let name = row[0].bytes().map(|name| String::from_utf8_lossy(name).to_lowercase()).unwrap_or_default();
                let is_text = table.columns.iter().any(|column| column.name == name && column.chars_max.is_some());
                if is_text && !matches!(name.as_str(), "meta_key" | "project") {
                    columns.push(name);
                }
            })
            .map_err(at("look at the indexes of"))?;
        columns.sort_unstable();
        Ok(columns)
    }

    fn insert(&mut self, number: u8, inserts: &[usize], monitor: &dyn Monitor) -> Attempt<()> {
        let (table, name) = (self.schema.table(number), self.name(number));
        let mut batch = Batch::default();
        for put_number in inserts {
            if monitor.is_interrupted() {
                return Err(Failure::Store(Error::Interrupted));
            }
            let put = &self.staging.puts[*put_number];
            let content = self.content(*put_number)?;
            let values = self.values(table, &content).map_err(|why| self.no_row(&put.path, why.to_string()))?;
            let mut row = values;
            if let (key, content_column @ ("content" | "meta_table_content")) = table.key_and_content() {
                let (version, time) = version_and_time(table.holds);
                let key_text = String::from_utf8(self.key(put))
                    .map_err(|_| self.no_row(&put.path, "its key is not UTF-8".to_owned()))?;
                self.check_key(table, put, &key_text)?;
                row.push((key.to_owned(), Value::Text(key_text)));
                row.push((version.to_owned(), Value::Int(0)));
                row.push((time.to_owned(), Value::Int(self.now_ms)));
                row.push((content_column.to_owned(), Value::Bytes(self.stored(put, &content)?)));
            }
            let record = self.record(table, *put_number, &content, 0);
            self.tell(table, record);
            if !batch.takes(&row, self.statement_bytes_max) {
                self.insert_batch(table, &name, &mut batch)?;
            }
            batch.push(row);
        }
        self.insert_batch(table, &name, &mut batch)?;
        if matches!(table.holds, Holds::Side(_)) && !inserts.is_empty() && self.schema.dialect == Dialect::PostgreSql {
            // Ids were given: the next that the server draws must come after them.
            let sequence = format!(
                "SELECT setval(s, GREATEST(nextval(s), (SELECT MAX(id) FROM {name}))) \
                 FROM (SELECT pg_get_serial_sequence(?, 'id')::regclass AS s) AS sequence WHERE s IS NOT NULL"
            );
            self.session.query(&sequence, &[Param::Text(&name)], &mut |_| ()).map_err(at("insert rows into"))?;
        }
        Ok(())
    }

    fn check_key(&self, table: &Table, put: &Put, key: &str) -> Attempt<()> {
        let column = table.columns.iter().find(|column| column.name == table.key_and_content().0);
        let (chars, max) = (key.chars().count(), column.and_then(|column| column.chars_max));
        match max.filter(|max| chars > *max as usize) {
            Some(max) => Err(self.no_row(&put.path, format!("its key has {chars} characters, more than {max}"))),
            None => Ok(()),
        }
    }

    fn insert_batch(&mut self, table: &Table, name: &str, batch: &mut Batch) -> Attempt<()> {
        let Some(first) = batch.rows.first() else { return Ok(()) };
        let columns: Vec<String> = first.iter().map(|(column, _)| self.column(table, column)).collect();
        let values = vec![marks(columns.len()); batch.rows.len()].join(",");
        let params: Vec<Param<'_>> = batch.rows.iter().flatten().map(|(_, value)| param(value)).collect();
        let sql = format!("INSERT INTO {name} ({}) VALUES {values}", columns.join(", "));
        self.session.execute(&sql, &params).map_err(at("insert rows into"))?;
        batch.rows.clear();
        batch.bytes = 0;
        Ok(())
    }

    /// Reads back what was written, and compares it with what was to be written.
    fn verify(&mut self, number: u8, work: &Work) -> Attempt<()> {
        let (table, name) = (self.schema.table(number), self.name(number));
        if !is_logged(table.holds) {
            return Ok(());
        }
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

    /// Tells the audit log, right before the end of the transaction.
    fn write_log(&mut self, unit: &str) -> Attempt<()> {
        let Some(log) = &self.schema.log else { return Ok(()) };
        let name = self.schema.quoted(&log.name);
        let mut batch = Batch::default();
        for record in std::mem::take(&mut self.log) {
            let content = match record.put {
                None => Value::Null,
                Some(put) => {
                    let content = self.content(put)?;
                    // As Kylin writes it by default, and so that no reader takes a content for an encoded one.
                    Value::Bytes(encode(&content))
                }
            };
            let text = |text: Option<String>| text.map_or(Value::Null, Value::Text);
            let is_removal = record.put.is_none();
            let key = String::from_utf8_lossy(&record.key).into_owned();
            let mut row = vec![
                ("meta_key", Value::Text(key)),
                ("meta_content", content),
                ("meta_ts", Value::Int(self.now_ms)),
                ("meta_mvcc", if is_removal { Value::Null } else { Value::Int(record.version) }),
                ("unit_id", Value::Text(unit.to_owned())),
                ("model_uuid", text(record.model_uuid)),
                ("operator", Value::Text(OPERATOR.to_owned())),
                ("instance", Value::Text(self.staging.store.options.instance.chars().take(100).collect())),
                ("project", Value::Text(record.project)),
                ("diff_flag", Value::Bool(false)),
            ];
            row.retain(|(column, _)| log.has(column));
            let row: Vec<(String, Value)> = row.into_iter().map(|(column, value)| (column.to_owned(), value)).collect();
            if !batch.takes(&row, self.statement_bytes_max) {
                self.insert_batch(log, &name, &mut batch)?;
            }
            batch.push(row);
        }
        self.insert_batch(log, &name, &mut batch)
    }
}

/// Rows to be inserted with one statement.
#[derive(Default)]
struct Batch {
    rows: Vec<Vec<(String, Value)>>,
    bytes: u64,
}

impl Batch {
    fn takes(&self, row: &[(String, Value)], statement_bytes_max: u64) -> bool {
        let Some(first) = self.rows.first() else { return true };
        let is_alike = first.iter().map(|(column, _)| column).eq(row.iter().map(|(column, _)| column));
        is_alike
            && (self.rows.len() + 1) * row.len() <= VALUES_AT_ONCE
            && self.bytes + bytes_of(row) <= BYTES_AT_ONCE.min(statement_bytes_max)
    }

    fn push(&mut self, row: Vec<(String, Value)>) {
        self.bytes += bytes_of(&row);
        self.rows.push(row);
    }
}

fn bytes_of(row: &[(String, Value)]) -> u64 {
    let value = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Null | Value::Int(_) | Value::Bool(_) => 8,
    };
    row.iter().map(|(_, one)| value(one) as u64 + 8).sum()
}

fn param(value: &Value) -> Param<'_> {
    match value {
        Value::Null => Param::Null,
        Value::Int(value) => Param::Int(*value),
        Value::Text(value) => Param::Text(value),
        Value::Bool(value) => Param::Bool(*value),
        Value::Bytes(value) => Param::Bytes(value),
    }
}

fn version_and_time(holds: Holds) -> (&'static str, &'static str) {
    match holds {
        Holds::Documents(_) => ("mvcc", "ts"),
        Holds::Old => ("meta_table_mvcc", "meta_table_ts"),
        Holds::Side(_) => ("mvcc", "update_time"),
    }
}

/// Returns the column by which listed rows are found again.
fn row_key(table: &Table) -> &'static str {
    if table.holds == Holds::Old { table.key_and_content().0 } else { "id" }
}

fn old_key_of(listing: &SqlListing, table: &Table, n: usize) -> Option<Vec<u8>> {
    (table.holds == Holds::Old).then(|| old_key(listing, n))
}

/// Returns the key of a path in its table.
fn log_name(path: &EntryPath, schema: &Schema) -> Vec<u8> {
    if schema.is_old() {
        return Layout::Old.name_of(path).map(|name| [b"/", name.as_bytes()].concat()).unwrap_or_default();
    }
    path.name().to_vec()
}

/// Returns the key of a path in the audit log.
fn log_key(schema: &Schema, table: &Table, path: &EntryPath) -> Vec<u8> {
    let name = log_name(path, schema);
    if schema.is_old() { name } else { [table.folder().as_bytes(), &name].join(&b'/') }
}

fn project_of(path: &EntryPath) -> String {
    path.project().map_or_else(|| GLOBAL.to_owned(), |project| String::from_utf8_lossy(project).into_owned())
}
