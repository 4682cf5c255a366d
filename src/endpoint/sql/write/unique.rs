//! Unique columns of rows that are updated: names can be exchanged, though rules are checked row by row.

use std::collections::HashMap;

use super::change::{Change, ROWS_AT_ONCE};
use super::{Attempt, at};
use crate::endpoint::sql::schema::{Holds, Table};
use crate::endpoint::sql::session::{Param, list};
use crate::platform::kylin::kind::Kind;
use crate::platform::kylin::tables::{Dialect, Value, extract};

impl Change<'_> {
    /// Gives rows that will get other values in unique columns values of nobody's first. What they have now may be what
    /// another row is to get.
    pub(super) fn make_way(&mut self, number: u8, updates: &[(usize, usize)]) -> Attempt<()> {
        let (table, name) = (self.schema.table(number), self.name(number));
        let Holds::Documents(kind) = table.holds else { return Ok(()) };
        // One alone has nobody to exchange with.
        if updates.len() < 2 {
            return Ok(());
        }
        let columns = self.unique_columns(kind, table)?;
        if columns.is_empty() {
            return Ok(());
        }
        // A row that goes to another project is in the way of those there.
        let compared: Vec<&str> = columns.iter().copied().chain(table.has("project").then_some("project")).collect();
        let mut leaving = Vec::new();
        for some in updates.chunks(ROWS_AT_ONCE) {
            leaving.extend(self.leaving(kind, table, &compared, some)?);
        }
        if leaving.len() < 2 {
            return Ok(());
        }
        let value = match self.schema.dialect {
            Dialect::PostgreSql => "'~' || id",
            Dialect::MySql => "CONCAT('~', id)",
        };
        let set: Vec<String> =
            columns.iter().map(|column| format!("{} = {value}", self.schema.quoted(column))).collect();
        for some in leaving.chunks(ROWS_AT_ONCE) {
            let sql = format!("UPDATE {name} SET {} WHERE id IN {}", set.join(", "), list(some.iter().copied()));
            self.session.execute(&sql, &[]).map_err(at("update rows of"))?;
        }
        Ok(())
    }

    /// Returns the ids of those rows whose values will be others.
    fn leaving(&mut self, kind: Kind, table: &Table, columns: &[&str], some: &[(usize, usize)]) -> Attempt<Vec<i64>> {
        let rows = &self.staging.listing.rows;
        let mut wanted: HashMap<i64, Vec<Value>> = HashMap::new();
        for (n, put) in some {
            // What is broken keeps what it has.
            let content = self.content(*put)?;
            let key = self.staging.puts[*put].path.name();
            let Ok(mut values) = extract(kind, key, &content, &table.columns, self.schema.release) else { continue };
            let mut take = |column: &&str| {
                let found = values.iter_mut().find(|(name, _)| name == column);
                found.map_or(Value::Null, |(_, value)| std::mem::replace(value, Value::Null))
            };
            wanted.insert(rows.id(*n), columns.iter().map(&mut take).collect());
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = columns.iter().map(|column| self.schema.quoted(column)).collect();
        let name = self.schema.quoted(&table.name);
        let ids = list(wanted.keys().copied());
        let sql = format!("SELECT id, {} FROM {name} WHERE id IN {ids}", names.join(", "));
        let mut leaving = Vec::new();
        self.session
            .query(&sql, &[], &mut |row| {
                let Some(id) = row[0].int() else { return };
                let is_kept = wanted.get(&id).is_none_or(|wanted| {
                    row[1..].iter().zip(wanted).all(|(cell, wanted)| match (cell.bytes(), wanted) {
                        // Columns of a fixed width come with blanks.
                        (Some(text), Value::Text(wanted)) => text.trim_ascii_end() == wanted.trim_end().as_bytes(),
                        (None, Value::Null) => true,
                        _ => false,
                    })
                });
                if !is_kept {
                    leaving.push(id);
                }
            })
            .map_err(at("read rows of"))?;
        Ok(leaving)
    }

    /// Returns the text columns in unique indexes that are filled from documents, but for the project.
    fn unique_columns(&mut self, kind: Kind, table: &Table) -> Attempt<Vec<&'static str>> {
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
                // What no document fills would not get its value back.
                let rule = kind.columns().iter().find(|rule| rule.column == name && is_text);
                columns.extend(rule.map(|rule| rule.column).filter(|column| *column != "project"));
            })
            .map_err(at("look at the indexes of"))?;
        columns.sort_unstable();
        Ok(columns)
    }
}
