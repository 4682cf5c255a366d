//! Records in the audit log of what was changed: running nodes follow them.

use super::Attempt;
use super::batch::Inserter;
use super::change::{Change, Work, key_in_table};
use crate::endpoint::sql::schema::{Holds, Schema, Table};
use crate::model::path::EntryPath;
use crate::platform::kylin::encoding::encode;
use crate::platform::kylin::layout::GLOBAL;
use crate::platform::kylin::tables::{Value, audit_model_uuid, audit_project};

/// How a restore signs.
const OPERATOR: &str = "metastash";
/// Characters that the log has room for.
const INSTANCE_CHARS_MAX: usize = 100;

impl Change<'_> {
    /// Tells the audit log, right before the end of the transaction, in the order in which it was done. Tells whether there
    /// was anything to tell.
    pub(super) fn write_log(&mut self, unit: &str, documents: &[(u8, &Work)]) -> Attempt<bool> {
        let schema = self.schema;
        let Some(log) = &schema.log else { return Ok(false) };
        let mut inserter = Inserter::new(schema, log, self.statement_bytes_max);
        let rows = &self.staging.listing.rows;
        let mut is_logged = false;
        for (number, work) in documents {
            for n in &work.deletes {
                let path = rows.path(*n);
                let key = log_key(schema, schema.table(*number), &path);
                let row = [
                    ("meta_key", Value::Text(key)),
                    ("meta_content", Value::Null),
                    ("meta_mvcc", Value::Null),
                    ("model_uuid", Value::Null),
                    ("project", Value::Text(project_of(&path))),
                ];
                self.tell(&mut inserter, log, unit, row)?;
                is_logged = true;
            }
        }
        for (number, work) in documents {
            for (n, put) in &work.updates {
                self.tell_of_put(&mut inserter, log, unit, *number, *put, rows.mvcc(*n).saturating_add(1))?;
                is_logged = true;
            }
        }
        for (number, work) in documents {
            for put in &work.inserts {
                self.tell_of_put(&mut inserter, log, unit, *number, *put, 0)?;
                is_logged = true;
            }
        }
        inserter.flush(self.session)?;
        Ok(is_logged)
    }

    fn tell_of_put(
        &mut self,
        inserter: &mut Inserter<'_>,
        log: &Table,
        unit: &str,
        number: u8,
        put: usize,
        version: i64,
    ) -> Attempt<()> {
        let (table, path) = (self.schema.table(number), &self.staging.puts[put].path);
        let content = self.content(put)?;
        let (project, model_uuid) = match table.holds {
            Holds::Documents(kind) => (audit_project(kind, &content), audit_model_uuid(kind, &content)),
            _ => (None, None),
        };
        let row = [
            ("meta_key", Value::Text(log_key(self.schema, table, path))),
            // As Kylin writes it by default, and so that no reader takes a content for an encoded one.
            ("meta_content", Value::Bytes(encode(&content))),
            ("meta_mvcc", Value::Int(version)),
            ("model_uuid", model_uuid.map_or(Value::Null, Value::Text)),
            ("project", Value::Text(project.unwrap_or_else(|| project_of(path)))),
        ];
        self.tell(inserter, log, unit, row)
    }

    fn tell(&mut self, inserter: &mut Inserter<'_>, log: &Table, unit: &str, row: [(&str, Value); 5]) -> Attempt<()> {
        let instance: String = self.staging.store.options.instance.chars().take(INSTANCE_CHARS_MAX).collect();
        let of_all = [
            ("meta_ts", Value::Int(self.now_ms)),
            ("unit_id", Value::Text(unit.to_owned())),
            ("operator", Value::Text(OPERATOR.to_owned())),
            ("instance", Value::Text(instance)),
            ("diff_flag", Value::Bool(false)),
        ];
        let row = row.into_iter().chain(of_all).filter(|(column, _)| log.has(column));
        inserter.push(self.session, row.map(|(column, value)| (column.to_owned(), value)).collect())
    }
}

/// Returns the key of a path in the audit log.
fn log_key(schema: &Schema, table: &Table, path: &EntryPath) -> String {
    let key = key_in_table(path, schema);
    let key = String::from_utf8_lossy(&key);
    if schema.is_old() { key.into_owned() } else { format!("{}/{key}", table.folder()) }
}

/// Returns the first part of a path: the project, or what stands for none.
pub(super) fn project_of(path: &EntryPath) -> String {
    path.project().map_or_else(|| GLOBAL.to_owned(), |project| String::from_utf8_lossy(project).into_owned())
}
