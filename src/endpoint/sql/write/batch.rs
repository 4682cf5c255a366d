//! Rows to be inserted with one statement.

use super::{Attempt, at};
use crate::endpoint::sql::schema::{Schema, Table};
use crate::endpoint::sql::session::{Param, Session, marks};
use crate::platform::kylin::tables::Value;

/// Values and bytes of rows that are inserted with one statement.
const VALUES_AT_ONCE: usize = 8000;
const BYTES_AT_ONCE: u64 = 2 << 20;

/// Values by the names of their columns.
pub(super) type Values = Vec<(String, Value)>;

/// Inserts rows into a table, many at once.
pub(super) struct Inserter<'a> {
    schema: &'a Schema,
    table: &'a Table,
    statement_bytes_max: u64,
    rows: Vec<Values>,
    bytes: u64,
}

impl<'a> Inserter<'a> {
    pub(super) fn new(schema: &'a Schema, table: &'a Table, statement_bytes_max: u64) -> Self {
        Self { schema, table, statement_bytes_max, rows: Vec::new(), bytes: 0 }
    }

    /// Takes a row, and inserts those before it if they are enough.
    pub(super) fn push(&mut self, session: &mut dyn Session, row: Values) -> Attempt<()> {
        if !self.takes(&row) {
            self.flush(session)?;
        }
        self.bytes += bytes_of(&row);
        self.rows.push(row);
        Ok(())
    }

    fn takes(&self, row: &Values) -> bool {
        let Some(first) = self.rows.first() else { return true };
        let is_alike = first.iter().map(|(column, _)| column).eq(row.iter().map(|(column, _)| column));
        is_alike
            && (self.rows.len() + 1) * row.len() <= VALUES_AT_ONCE
            && self.bytes + bytes_of(row) <= BYTES_AT_ONCE.min(self.statement_bytes_max)
    }

    /// Inserts what is left.
    pub(super) fn flush(&mut self, session: &mut dyn Session) -> Attempt<()> {
        let Some(first) = self.rows.first() else { return Ok(()) };
        let columns: Vec<String> = first.iter().map(|(column, _)| self.schema.column(self.table, column)).collect();
        let values = vec![marks(columns.len()); self.rows.len()].join(",");
        let params: Vec<Param<'_>> = self.rows.iter().flatten().map(|(_, value)| param(value)).collect();
        let name = self.schema.quoted(&self.table.name);
        let sql = format!("INSERT INTO {name} ({}) VALUES {values}", columns.join(", "));
        session.execute(&sql, &params).map_err(at("insert rows into"))?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn bytes_of(row: &Values) -> u64 {
    let value = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Null | Value::Int(_) | Value::Bool(_) => 8,
    };
    row.iter().map(|(_, one)| value(one) as u64 + 8).sum()
}

pub(super) fn param(value: &Value) -> Param<'_> {
    match value {
        Value::Null => Param::Null,
        Value::Int(value) => Param::Int(*value),
        Value::Text(value) => Param::Text(value),
        Value::Bool(value) => Param::Bool(*value),
        Value::Bytes(value) => Param::Bytes(value),
    }
}
