//! A client that writes to the tables as Kylin does: one transaction for a unit of work, with rows for the audit log.

use std::time::SystemTime;

use serde_json::Value as Json;

use super::connection::{Connection, Error, Result, Value};
use super::encoding::{Compress, decode, encode, pretty};
use super::kylin_db::begin_repeatable_read;
use super::kylin_rows::{Columns, NewRow};
use super::kylin_tables::Table;
use super::servers::Db;

/// How many ids of the log are looked at or removed at once.
const ROTATE_STEP: i64 = 2000;

/// Tables of which generation.
pub(crate) enum Tables {
    New(Columns),
    Old(String),
}

impl Tables {
    /// Looks which there are; the new ones are preferred.
    pub(crate) fn find(connection: &mut Connection, id: &str) -> Result<Self> {
        let columns = Columns::read(connection, id)?;
        let is_new = columns.types().next().is_some();
        Ok(if is_new { Self::New(columns) } else { Self::Old(id.to_owned()) })
    }

    pub(crate) fn log(&self) -> String {
        match self {
            Self::New(columns) => format!("{}_audit_log_v2", columns.id()),
            Self::Old(id) => format!("{id}_audit_log"),
        }
    }

    /// Returns content and version of a document, and holds its row until the transaction ends if that is wanted.
    pub(crate) fn read(&self, connection: &mut Connection, name: &str, locked: bool) -> Result<Option<(Vec<u8>, i64)>> {
        let lock = if locked { " FOR UPDATE" } else { "" };
        let (sql, key) = match self {
            Self::New(columns) => {
                let (type_name, key) = split(name);
                (format!("SELECT content, mvcc FROM {} WHERE meta_key = ?{lock}", columns.table_name(type_name)), key)
            }
            Self::Old(id) => {
                let columns = "META_TABLE_CONTENT, META_TABLE_MVCC";
                (format!("SELECT {columns} FROM {id} WHERE META_TABLE_KEY = ?{lock}"), name)
            }
        };
        let rows = connection.query(&sql, &[key.into()])?;
        Ok(rows.first().map(|row| (decode(row[0].bytes().unwrap_or_default()), row[1].int().unwrap())))
    }
}

/// Splits `TYPE/key`.
pub(crate) fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or_else(|| panic!("no name of a document: {name}"))
}

/// A Kylin that writes.
pub(crate) struct KylinClient {
    connection: Connection,
    url: String,
    tables: Tables,
    /// How many times a unit of work is tried.
    pub(crate) attempts: u32,
    /// How contents are written.
    pub(crate) compress: Compress,
    /// As the audit log names it.
    pub(crate) operator: Option<String>,
    /// How many units had to be tried again.
    pub(crate) retries: u64,
}

impl KylinClient {
    pub(crate) fn connect(db: &Db, id: &str) -> Self {
        Self::open(&db.url(), id).unwrap()
    }

    pub(crate) fn open(url: &str, id: &str) -> Result<Self> {
        let mut connection = Connection::open(url)?;
        let tables = Tables::find(&mut connection, id)?;
        let operator = Some("ADMIN".to_owned());
        let url = url.to_owned();
        Ok(Self { connection, url, tables, attempts: 3, compress: Compress::All, operator, retries: 0 })
    }

    pub(crate) fn is_new(&self) -> bool {
        matches!(self.tables, Tables::New(_))
    }

    /// Does a unit of work for a project (or `_global`); all of it again if another one was in the way.
    pub(crate) fn transaction<T>(
        &mut self,
        project: &str,
        mut work: impl FnMut(&mut Unit<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut tried = 0;
        loop {
            tried += 1;
            let error = match self.attempt(project, &mut work) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            if error.code.is_empty() {
                // The connection is of no use any more; the next unit may have a better one.
                self.connection = Connection::open(&self.url).map_err(|_| error.clone())?;
                return Err(error);
            }
            // MySQL rolled back already, or else it is done here.
            self.connection.batch("ROLLBACK")?;
            if tried >= self.attempts || !(error.is_conflict() || error.is_duplicate()) {
                return Err(error);
            }
            self.retries += 1;
        }
    }

    fn attempt<T>(&mut self, project: &str, work: &mut impl FnMut(&mut Unit<'_>) -> Result<T>) -> Result<T> {
        begin_repeatable_read(&mut self.connection)?;
        let mut unit = Unit { client: self, project: project.to_owned(), log: Vec::new() };
        let result = work(&mut unit)?;
        let log = unit.log;
        self.write_log(&log)?;
        self.connection.batch("COMMIT")?;
        Ok(result)
    }

    fn write_log(&mut self, log: &[LogRow]) -> Result<()> {
        let table = self.tables.log();
        let unit_id = random_uuid();
        for row in log {
            let mut columns = "meta_key, meta_content, meta_ts, meta_mvcc, unit_id, operator, instance".to_owned();
            let mut values = vec![
                row.name.as_str().into(),
                row.content.clone().into(),
                row.ts.into(),
                row.mvcc.into(),
                unit_id.as_str().into(),
                self.operator.clone().into(),
                "10.0.0.1:7070".into(),
            ];
            if self.is_new() {
                columns += ", model_uuid, project, diff_flag";
                values.extend([row.model.clone(), row.project.as_str().into(), i64::from(row.is_patch).into()]);
            }
            let marks = vec!["?"; values.len()].join(", ");
            self.connection.execute(&format!("INSERT INTO {table} ({columns}) VALUES ({marks})"), &values)?;
        }
        Ok(())
    }

    /// Removes the oldest rows of the audit log until about `keep` are left, as Kylin does at night.
    pub(crate) fn rotate_log(&mut self, keep: i64) -> Result<()> {
        let table = self.tables.log();
        if !self.is_new() {
            let Some(last) = self.last_id(&table)? else { return Ok(()) };
            let sql = format!("DELETE FROM {table} WHERE id < ?");
            self.connection.execute(&sql, &[(last - keep + 1).into()])?;
            return Ok(());
        }
        loop {
            let count = self.connection.number(&format!("SELECT count(*) FROM {table}"), &[])?;
            let surplus = (count - keep).min(ROTATE_STEP);
            if surplus <= 0 {
                return Ok(());
            }
            let sql = format!("SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET {}", surplus - 1);
            let last = self.connection.number(&sql, &[])?;
            self.connection.execute(&format!("DELETE FROM {table} WHERE id <= ?"), &[last.into()])?;
        }
    }

    fn last_id(&mut self, table: &str) -> Result<Option<i64>> {
        Ok(self.connection.query(&format!("SELECT max(id) FROM {table}"), &[])?[0][0].int())
    }
}

struct LogRow {
    name: String,
    // None: it was removed.
    content: Option<Vec<u8>>,
    ts: i64,
    mvcc: Option<i64>,
    model: Value,
    project: String,
    is_patch: bool,
}

/// A unit of work that is going on. Documents are named `TYPE/key`, or in the old tables by their path.
pub(crate) struct Unit<'c> {
    client: &'c mut KylinClient,
    project: String,
    log: Vec<LogRow>,
}

impl Unit<'_> {
    /// Returns a document, and holds its row in the new tables.
    pub(crate) fn read(&mut self, name: &str) -> Result<Option<Json>> {
        Ok(self.find(name)?.map(|(content, _)| serde_json::from_slice(&content).unwrap()))
    }

    /// Adds a document.
    pub(crate) fn create(&mut self, name: &str, json: &Json) -> Result<()> {
        if self.find(name)?.is_some() {
            return Err(Error { code: "exists".to_owned(), message: name.to_owned() });
        }
        self.put(name, json, None)
    }

    /// Changes a document.
    pub(crate) fn update(&mut self, name: &str, change: impl FnOnce(&mut Json)) -> Result<()> {
        let Some((content, mvcc)) = self.find(name)? else {
            return Err(Error { code: "missing".to_owned(), message: name.to_owned() });
        };
        let before: Json = serde_json::from_slice(&content).unwrap();
        let mut after = before.clone();
        change(&mut after);
        self.put(name, &after, Some((before, mvcc)))
    }

    /// Removes a document; tells whether it was there.
    pub(crate) fn delete(&mut self, name: &str) -> Result<bool> {
        if self.find(name)?.is_none() {
            return Ok(false);
        }
        let (sql, key) = match &self.client.tables {
            Tables::New(columns) => {
                let (type_name, key) = split(name);
                (format!("DELETE FROM {} WHERE meta_key = ?", columns.table_name(type_name)), key)
            }
            Tables::Old(id) => (format!("DELETE FROM {id} WHERE META_TABLE_KEY = ?"), name),
        };
        if self.client.connection.execute(&sql, &[key.into()])? == 0 {
            return Err(another_was_faster(name));
        }
        let (name, project) = (name.to_owned(), self.project.clone());
        let row = LogRow { name, content: None, ts: now(), mvcc: None, model: Value::Null, project, is_patch: false };
        self.log.push(row);
        Ok(true)
    }

    fn find(&mut self, name: &str) -> Result<Option<(Vec<u8>, i64)>> {
        let is_locked = self.client.is_new();
        self.client.tables.read(&mut self.client.connection, name, is_locked)
    }

    fn put(&mut self, name: &str, json: &Json, before: Option<(Json, i64)>) -> Result<()> {
        let content = pretty(json);
        let mvcc = before.as_ref().map_or(0, |(_, mvcc)| mvcc + 1);
        let ts = now();
        let touched = match &self.client.tables {
            Tables::New(_) => self.put_new(name, &content, mvcc, ts)?,
            Tables::Old(_) => self.put_old(name, &content, mvcc, ts)?,
        };
        if touched != 1 {
            return Err(another_was_faster(name));
        }
        let patch = before.filter(|_| self.client.is_new()).map(|(before, _)| json_patch::diff(&before, json));
        let is_patch = patch.is_some();
        let logged = patch.map_or(content, |patch| serde_json::to_vec(&patch).unwrap());
        let (model, project) = if self.client.is_new() { belongs(name, json) } else { (Value::Null, String::new()) };
        let (name, content, mvcc) = (name.to_owned(), Some(encode(&logged)), Some(mvcc));
        self.log.push(LogRow { name, content, ts, mvcc, model, project, is_patch });
        Ok(())
    }

    fn put_new(&mut self, name: &str, content: &[u8], mvcc: i64, ts: i64) -> Result<u64> {
        let KylinClient { connection, tables: Tables::New(columns), compress, .. } = &mut *self.client else {
            panic!("these are old tables")
        };
        let (type_name, key) = split(name);
        let table = columns.table_name(type_name);
        let names = columns.names(type_name);
        let mut values = columns.values(type_name, &NewRow { key, mvcc, ts, content, compress: *compress });
        // Kylin looks for the version before once more, and adds what it does not find.
        let sql = format!("SELECT uuid FROM {table} WHERE meta_key = ? AND mvcc = ? FOR UPDATE");
        let before = [key.into(), (mvcc - 1).into()];
        if connection.query(&sql, &before)?.is_empty() {
            let marks = vec!["?"; names.len()].join(", ");
            return connection
                .execute(&format!("INSERT INTO {table} ({}) VALUES ({marks})", names.join(", ")), &values);
        }
        // These two are not among what an update writes.
        let is_kept =
            |name: &str| matches!((type_name, name), ("LAYOUT_DETAILS", "layout_id") | ("STREAMING_JOB", "model_uuid"));
        let mut names = names;
        while let Some(at) = names.iter().position(|name| is_kept(name)) {
            names.remove(at);
            values.remove(at);
        }
        let sets = names.iter().map(|name| format!("{name} = ?")).collect::<Vec<_>>().join(", ");
        values.extend(before);
        connection.execute(&format!("UPDATE {table} SET {sets} WHERE meta_key = ? AND mvcc = ?"), &values)
    }

    fn put_old(&mut self, name: &str, content: &[u8], mvcc: i64, ts: i64) -> Result<u64> {
        let KylinClient { connection, tables: Tables::Old(id), compress, .. } = &mut *self.client else {
            panic!("these are new tables")
        };
        let values = [compress.encode(name, content).into(), ts.into(), mvcc.into(), name.into()];
        if mvcc == 0 {
            let columns = "META_TABLE_CONTENT, META_TABLE_TS, META_TABLE_MVCC, META_TABLE_KEY";
            return connection.execute(&format!("INSERT INTO {id} ({columns}) VALUES (?, ?, ?, ?)"), &values);
        }
        let sets = "META_TABLE_CONTENT = ?, META_TABLE_TS = ?, META_TABLE_MVCC = ?";
        let sql = format!("UPDATE {id} SET {sets} WHERE META_TABLE_KEY = ? AND META_TABLE_MVCC = ?");
        connection.execute(&sql, &[&values[..], &[(mvcc - 1).into()]].concat())
    }
}

fn another_was_faster(name: &str) -> Error {
    Error { code: "mvcc".to_owned(), message: name.to_owned() }
}

/// Returns what the audit log says of a document's model and project.
fn belongs(name: &str, json: &Json) -> (Value, String) {
    let (type_name, _) = split(name);
    let field = match type_name {
        "MODEL" | "DATAFLOW" | "INDEX_PLAN" | "FUSION_MODEL" => Some("uuid"),
        "SEGMENT" | "CC_MODEL_RELATION" | "TABLE_MODEL_RELATION" => Some("model_uuid"),
        "STREAMING_JOB" => Some("model_id"),
        "LAYOUT" | "LAYOUT_DETAILS" => Some("dataflow"),
        _ => None,
    };
    let project = Table::of(type_name).project_field.and_then(|field| json[field].as_str());
    (field.and_then(|field| json[field].as_str()).into(), project.unwrap_or("_global").to_owned())
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Returns a new UUID.
pub(crate) fn random_uuid() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    uuid_of(&bytes)
}

/// Returns a UUID of these bytes.
pub(crate) fn uuid_of(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
