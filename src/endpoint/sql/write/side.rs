//! Rows of the tables beside the documents: jobs, rules, offsets.
//!
//! Their ids are drawn by each database for itself, and nothing refers to them. But the names of the documents, and the
//! documents, have them: that is how Kylin's tool writes its files. So which row a document stands for is told by what is
//! unique in it besides the id (a job's own id; project and name of a rule; project and type of an offset), as Kylin tells
//! it. If there is such a row under another id, it gets all that the document says and keeps its id. If there is none, one
//! is inserted, under the document's id if that is free, or else under one that the server draws; so it does for 0, which
//! Kylin writes where there was no row, and which MySQL takes for a request to draw one.
//!
//! A store that has another id for a row therefore still differs from the snapshot after a restore, in the id alone: a
//! plan or a diff names the row twice, under both ids, and a restore finds that nothing is to be done to it. Nor is a row
//! removed that a document stands for, though the plan removes the other id. `undo` puts back what was there in any case.
//!
//! Version and time are put back as they were, other than those of documents: no node holds such rows in memory and follows
//! a log, and a row that is like the document is what can be verified and backed up without another difference. Only where
//! they would stay what they are, though something else changes, does the version move up: what looks unchanged is not read
//! again.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::batch::{Inserter, Values, param};
use super::change::{Change, Work};
use super::records::project_of;
use super::{Attempt, Failure, at, changed, no_row};
use crate::endpoint::Error;
use crate::endpoint::sql::read::{side_columns, side_values};
use crate::endpoint::sql::rows::stamp;
use crate::endpoint::sql::session::{Param, list};
use crate::platform::kylin::tables::side::SideTable;
use crate::platform::kylin::tables::{Dialect, Value};

/// Rows that are looked for with one statement.
const ROWS_AT_ONCE: usize = 200;

/// What tells a row from others, in the spelling that the table compares.
type Key = Vec<String>;

/// A row that a document is to become.
struct Wanted {
    put: usize,
    id: i64,
    /// All columns but the id.
    values: Values,
}

impl Wanted {
    /// Moves the version up if neither it nor the time would tell that the row changed.
    fn tell_from(&mut self, there: &There) {
        let number = |column| match value_of(&self.values, column) {
            Value::Int(number) => *number,
            _ => 0,
        };
        if (number("mvcc"), number("update_time")) == (there.mvcc, there.time_ms) {
            let mvcc = self.values.iter_mut().find(|(column, _)| column == "mvcc");
            mvcc.into_iter().for_each(|(_, mvcc)| *mvcc = Value::Int(there.mvcc.saturating_add(1)));
        }
    }
}

/// A row that is there.
struct There {
    id: i64,
    mvcc: i64,
    time_ms: i64,
    /// All columns but the id; nothing if they can be no document.
    values: Option<Values>,
}

impl Change<'_> {
    pub(super) fn write_side(&mut self, number: u8, side: SideTable, work: &Work) -> Attempt<()> {
        let puts = work.updates.iter().map(|(_, put)| *put).chain(work.inserts.iter().copied());
        let mut wanted: BTreeMap<Key, Wanted> = BTreeMap::new();
        for put in puts {
            let (key, row) = self.wanted(side, put)?;
            if let Some(other) = wanted.insert(key, row) {
                let path = &self.staging.puts[other.put].path;
                return Err(no_row(&self.staging.puts[put], format!("{path} is the same row")));
            }
        }
        let there = self.there(number, side, &wanted)?;
        self.require_known(number, &wanted, &there)?;
        let rows = &self.staging.listing.rows;
        let kept: HashSet<i64> = there.values().map(|row| row.id).collect();
        let deletes: Vec<i64> = work.deletes.iter().map(|n| rows.id(*n)).filter(|id| !kept.contains(id)).collect();
        let name = self.name(number);
        for some in deletes.chunks(ROWS_AT_ONCE) {
            let sql = format!("DELETE FROM {name} WHERE id IN {}", list(some.iter().copied()));
            self.session.execute(&sql, &[]).map_err(at("delete rows of"))?;
        }
        for (key, row) in &mut wanted {
            if let Some(there) = there.get(key).filter(|there| there.values.as_ref() != Some(&row.values)) {
                row.tell_from(there);
            }
        }
        let mut inserts = Vec::new();
        for (key, row) in &wanted {
            match there.get(key) {
                Some(there) if there.values.as_ref() == Some(&row.values) => {}
                Some(there) => self.update_side(number, there.id, &row.values)?,
                None => inserts.push(row),
            }
        }
        self.insert_side(number, &inserts)?;
        let there = self.there(number, side, &wanted)?;
        for (key, row) in &wanted {
            if there.get(key).and_then(|there| there.values.as_ref()) != Some(&row.values) {
                let path = self.staging.puts[row.put].path.to_string();
                return Err(Failure::Store(Error::NotAsWritten { path }));
            }
        }
        Ok(())
    }

    fn wanted(&self, side: SideTable, number: usize) -> Attempt<(Key, Wanted)> {
        let put = &self.staging.puts[number];
        let row = side.from_json(&self.content(number)?).map_err(|why| no_row(put, why.to_string()))?;
        let mut id = 0;
        let mut values = Values::new();
        for (column, value) in row {
            match (column, value) {
                ("id", Value::Int(value)) => id = value,
                ("project", Value::Text(project)) if project != project_of(&put.path) => {
                    return Err(no_row(put, format!("its JSON says that it is of the project {project}")));
                }
                (column, value) => values.push((column.to_owned(), value)),
            }
        }
        let key = self.side_key(side, &values).ok_or_else(|| no_row(put, "its JSON has no name".to_owned()))?;
        Ok((key, Wanted { put: number, id, values }))
    }

    fn side_key(&self, side: SideTable, values: &Values) -> Option<Key> {
        let part = |column: &&str| {
            let (_, value) = values.iter().find(|(name, _)| name == column)?;
            match (value, self.schema.dialect) {
                (Value::Text(text), Dialect::PostgreSql) => Some(text.clone()),
                // Its columns compare without case, and without blanks at the end.
                (Value::Text(text), Dialect::MySql) => Some(text.trim_end().to_lowercase()),
                _ => None,
            }
        };
        side.key_columns().iter().map(part).collect()
    }

    /// Reads and locks the rows that are there of those that are wanted.
    fn there(&mut self, number: u8, side: SideTable, wanted: &BTreeMap<Key, Wanted>) -> Attempt<HashMap<Key, There>> {
        let (table, name) = (self.schema.table(number), self.name(number));
        let columns = side_columns(table, side);
        let quoted: Vec<String> = columns.iter().map(|column| self.schema.quoted(column)).collect();
        let is_it: Vec<String> =
            side.key_columns().iter().map(|column| format!("{} = ?", self.schema.quoted(column))).collect();
        let is_it = format!("({})", is_it.join(" AND "));
        let mut there = HashMap::new();
        let all: Vec<&Wanted> = wanted.values().collect();
        for some in all.chunks(ROWS_AT_ONCE) {
            let conditions = vec![is_it.as_str(); some.len()].join(" OR ");
            let sql = format!("SELECT {} FROM {name} WHERE {conditions} ORDER BY id FOR UPDATE", quoted.join(", "));
            let params: Vec<Param<'_>> = some
                .iter()
                .flat_map(|row| side.key_columns().iter().map(|key| value_of(&row.values, key)))
                .map(param)
                .collect();
            let mut rows: Vec<Values> = Vec::new();
            self.session
                .query(&sql, &params, &mut |row| {
                    let values = side_values(&columns, row);
                    rows.push(values.into_iter().map(|(column, value)| (column.to_owned(), value)).collect());
                })
                .map_err(at("lock rows of"))?;
            for stored in rows {
                let number = |column| match value_of(&stored, column) {
                    Value::Int(number) => *number,
                    _ => 0,
                };
                let (id, mvcc, time_ms) = (number("id"), number("mvcc"), number("update_time"));
                let pairs: Vec<(&str, Value)> =
                    stored.iter().map(|(column, value)| (column.as_str(), value.clone())).collect();
                // As a document would say it: values that mean the same are spelled in several ways.
                let document = side.to_json(&pairs).ok().and_then(|(_, json)| side.from_json(&json).ok());
                let values = document.map(|row| {
                    let all = row.into_iter().filter(|(column, _)| *column != "id");
                    all.map(|(column, value)| (column.to_owned(), value)).collect::<Values>()
                });
                let spelled: Values = stored.into_iter().map(|(column, value)| (column, as_text(value))).collect();
                if let Some(key) = self.side_key(side, &spelled) {
                    there.insert(key, There { id, mvcc, time_ms, values });
                }
            }
        }
        Ok(there)
    }

    /// Checks that the rows which are there were listed, as they are.
    fn require_known(&self, number: u8, wanted: &BTreeMap<Key, Wanted>, there: &HashMap<Key, There>) -> Attempt<()> {
        if there.is_empty() {
            return Ok(());
        }
        let rows = &self.staging.listing.rows;
        let of_table = (0..rows.len()).filter(|n| rows.table(*n) == number);
        let listed: HashMap<i64, usize> = of_table.map(|n| (rows.id(n), n)).collect();
        for (key, row) in there {
            let is_known = listed.get(&row.id).is_some_and(|n| rows.stamp(*n) == stamp(row.id, row.mvcc, row.time_ms));
            if let Some(wanted) = wanted.get(key).filter(|_| !is_known) {
                return Err(changed(&self.staging.puts[wanted.put].path));
            }
        }
        Ok(())
    }

    fn update_side(&mut self, number: u8, id: i64, values: &Values) -> Attempt<()> {
        let name = self.name(number);
        let set: Vec<String> = values.iter().map(|(column, _)| format!("{} = ?", self.schema.quoted(column))).collect();
        let mut params: Vec<Param<'_>> = values.iter().map(|(_, value)| param(value)).collect();
        params.push(Param::Int(id));
        let sql = format!("UPDATE {name} SET {} WHERE id = ?", set.join(", "));
        self.session.execute(&sql, &params).map(drop).map_err(at("update rows of"))
    }

    fn insert_side(&mut self, number: u8, inserts: &[&Wanted]) -> Attempt<()> {
        let (table, name) = (self.schema.table(number), self.name(number));
        // The column may have 32 bits only.
        let mut ids: HashSet<i64> =
            inserts.iter().map(|row| row.id).filter(|id| *id > 0 && i32::try_from(*id).is_ok()).collect();
        let asked: Vec<i64> = ids.iter().copied().collect();
        for some in asked.chunks(ROWS_AT_ONCE) {
            let sql = format!("SELECT id FROM {name} WHERE id IN {} FOR UPDATE", list(some.iter().copied()));
            self.session
                .query(&sql, &[], &mut |row| ids.retain(|id| row[0].int() != Some(*id)))
                .map_err(at("lock rows of"))?;
        }
        let mut inserter = Inserter::new(self.schema, table, self.statement_bytes_max);
        let mut drawn = Vec::new();
        for row in inserts {
            // Of two that want the same id one gets it.
            if ids.remove(&row.id) {
                let id = [("id".to_owned(), Value::Int(row.id))];
                inserter.push(self.session, id.into_iter().chain(row.values.iter().cloned()).collect())?;
            } else {
                drawn.push(row);
            }
        }
        inserter.flush(self.session)?;
        if self.schema.dialect == Dialect::PostgreSql && !inserts.is_empty() {
            self.move_sequence(&name)?;
        }
        for row in drawn {
            inserter.push(self.session, row.values.clone())?;
        }
        inserter.flush(self.session)
    }

    /// Sees to it that the ids which PostgreSQL will draw come after those that are there. MySQL does that by itself.
    fn move_sequence(&mut self, name: &str) -> Attempt<()> {
        // Who may draw from a sequence may not move it in any case: it is left alone where it is far enough.
        let sql = format!(
            "SELECT setval(s, top) FROM (SELECT pg_get_serial_sequence(?, 'id')::regclass AS s) AS sequence, \
             (SELECT MAX(id) AS top FROM {name}) AS rows \
             WHERE s IS NOT NULL AND top IS NOT NULL AND COALESCE(pg_sequence_last_value(s), 0) < top"
        );
        self.session.query(&sql, &[Param::Text(name)], &mut |_| ()).map_err(at("insert rows into"))
    }
}

fn value_of<'v>(values: &'v Values, column: &str) -> &'v Value {
    values.iter().find(|(name, _)| name == column).map_or(&Value::Null, |(_, value)| value)
}

fn as_text(value: Value) -> Value {
    match value {
        Value::Bytes(bytes) => String::from_utf8(bytes).map_or(Value::Null, Value::Text),
        other => other,
    }
}
