//! Databases as Kylin makes and fills them, and all that is in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use super::connection::{Connection, Result, Value};
use super::encoding::{Compress, decode, encode};
use super::kylin_rows::{Columns, load_new, load_old, new_documents, old_documents};
use super::kylin_tables::{Release, new_tables, old_tables};
use super::servers::Db;

/// The identifier of the metadata in most tests, and by default.
pub(crate) const ID: &str = "kylin_metadata";

/// A row of metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// What the database counts; 0 in the old table, which has no such column.
    pub(crate) id: i64,
    pub(crate) mvcc: i64,
    pub(crate) ts: i64,
    /// None where there is no such column.
    pub(crate) project: Option<String>,
    /// Decoded.
    pub(crate) content: Vec<u8>,
    /// As it lies in the column.
    pub(crate) stored: Vec<u8>,
    /// All others, such as `uuid` and `alias`, without the reserved ones, which are NULL.
    pub(crate) columns: BTreeMap<String, Value>,
}

/// All rows of metadata, by `TYPE/key` or by the old path, which begins with `/`.
pub(crate) type Rows = BTreeMap<String, Row>;

/// Makes the tables of Kylin 5.0.0 and later.
pub(crate) fn create_new(db: &Db, id: &str, release: Release) {
    db.execute(&new_tables(db.kind, id, release));
}

/// Makes the tables of Kylin 5.0-alpha and 5.0-beta.
pub(crate) fn create_old(db: &Db, id: &str) {
    db.execute(&old_tables(db.kind, id));
}

/// Puts the documents of a folder, of either layout, into tables, with the times of the files; returns how many.
pub(crate) fn load_tree(db: &Db, id: &str, folder: &Path, compress: Compress) -> usize {
    db.with(|connection| load(connection, id, folder, compress))
}

/// Does what [`load_tree`] does, through any connection.
pub(crate) fn load(connection: &mut Connection, id: &str, folder: &Path, compress: Compress) -> Result<usize> {
    connection.batch("BEGIN")?;
    let count = if folder.join("_global").exists() {
        let documents = old_documents(folder);
        load_old(connection, id, &documents, compress)?;
        documents.len()
    } else {
        let columns = Columns::read(connection, id)?;
        let documents = new_documents(folder);
        for (type_name, documents) in &documents {
            load_new(connection, &columns, type_name, documents, compress)?;
        }
        documents.values().map(Vec::len).sum()
    };
    connection.batch("COMMIT")?;
    Ok(count)
}

/// Returns all rows of metadata, in whichever tables there are, as one moment saw them.
pub(crate) fn dump(db: &Db, id: &str) -> Rows {
    db.with(|connection| read_rows(connection, id))
}

/// Does what [`dump`] does, through any connection that is in no transaction.
pub(crate) fn read_rows(connection: &mut Connection, id: &str) -> Result<Rows> {
    begin_repeatable_read(connection)?;
    let rows = read_rows_here(connection, id)?;
    connection.batch("COMMIT")?;
    Ok(rows)
}

/// Reads all rows of metadata within a transaction.
pub(crate) fn read_rows_here(connection: &mut Connection, id: &str) -> Result<Rows> {
    let columns = Columns::read(connection, id)?;
    let mut rows = Rows::new();
    for type_name in columns.types() {
        read_table(connection, &columns, type_name, &mut rows)?;
    }
    if columns.types().next().is_none() {
        let sql = format!("SELECT META_TABLE_KEY, META_TABLE_CONTENT, META_TABLE_TS, META_TABLE_MVCC FROM {id}");
        for row in connection.query(&sql, &[])? {
            let stored = row[1].bytes().unwrap().to_vec();
            let [ts, mvcc] = [2, 3].map(|n| row[n].int().unwrap());
            let content = decode(&stored);
            let new = Row { id: 0, mvcc, ts, project: None, content, stored, columns: BTreeMap::new() };
            rows.insert(row[0].text().unwrap().to_owned(), new);
        }
    }
    Ok(rows)
}

/// Begins a transaction that sees one state, as every transaction of Kylin does.
pub(crate) fn begin_repeatable_read(connection: &mut Connection) -> Result<()> {
    match connection {
        Connection::PostgreSql { .. } => connection.batch("BEGIN ISOLATION LEVEL REPEATABLE READ"),
        Connection::MySql(_) => connection.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION"),
    }
}

fn read_table(connection: &mut Connection, columns: &Columns, type_name: &str, rows: &mut Rows) -> Result<()> {
    let names = columns.names(type_name);
    let sql = format!(
        "SELECT id, reserved_filed_1, reserved_filed_2, reserved_filed_3, {} FROM {}",
        names.join(", "),
        columns.table_name(type_name)
    );
    for row in connection.query(&sql, &[])? {
        let (head, tail) = row.split_at(4);
        assert!(head[1..].iter().all(|value| *value == Value::Null), "{type_name}: something reserved was written");
        let mut rest: BTreeMap<String, Value> =
            names.iter().map(|name| (*name).to_owned()).zip(tail.iter().cloned()).collect();
        let mut take = |name: &str| rest.remove(name).unwrap_or(Value::Null);
        let key = format!("{type_name}/{}", take("meta_key").text().unwrap());
        let stored = take("content").bytes().unwrap_or_default().to_vec();
        let (mvcc, ts) = (take("mvcc").int().unwrap(), take("ts").int().unwrap());
        let project = take("project").text().map(str::to_owned);
        let id = head[0].int().unwrap();
        let new = Row { id, mvcc, ts, project, content: decode(&stored), stored, columns: rest };
        assert!(rows.insert(key, new).is_none());
    }
    Ok(())
}

/// Returns the contents of rows, as a folder of the same documents has them.
pub(crate) fn contents(rows: &Rows) -> BTreeMap<String, Vec<u8>> {
    rows.iter().map(|(key, row)| (key.clone(), row.content.clone())).collect()
}

/// Returns the documents of a folder, of either layout, under the names that [`dump`] gives them.
pub(crate) fn read_tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |path: &Path| fs::read(path).unwrap();
    if folder.join("_global").exists() {
        return old_documents(folder).into_iter().map(|document| (document.key, read(&document.path))).collect();
    }
    let all = new_documents(folder).into_iter();
    let named = |(type_name, documents): (&str, Vec<_>)| {
        let type_name = type_name.to_owned();
        documents.into_iter().map(move |document: super::kylin_rows::Document| {
            (format!("{type_name}/{}", document.key), read(&document.path))
        })
    };
    all.flat_map(named).collect()
}

/// Fills the tables of jobs, rules and offsets from the folders that a backup has beside `core_meta`; returns how many
/// rows.
pub(crate) fn load_side_folders(db: &Db, id: &str, backup: &Path) -> usize {
    let mut count = 0;
    for (folder, table, columns) in SIDE {
        for project in list(&backup.join(folder)) {
            for file in list(&project) {
                let json: Json = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
                let values: Vec<Value> = columns.iter().map(|(_, field)| side_value(&json, field)).collect();
                let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
                let marks = vec!["?"; names.len()].join(", ");
                let sql = format!("INSERT INTO {id}_{table} ({}) VALUES ({marks})", names.join(", "));
                db.with(|connection| connection.execute(&sql, &values));
                count += 1;
            }
        }
    }
    count
}

/// A folder, its table, and the columns of that with the fields of the JSON. Ids are given anew.
type Side = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const SIDE: [Side; 3] = [
    (
        "job_info",
        "job_info_v2",
        &[
            ("job_id", "jobId"),
            ("job_type", "jobType"),
            ("job_status", "jobStatus"),
            ("project", "project"),
            ("subject", "subject"),
            ("model_id", "modelId"),
            ("priority", "priority"),
            ("mvcc", "mvcc"),
            ("job_content", "jobContentJson"),
            ("create_time", "createTime"),
            ("update_time", "updateTime"),
            ("job_duration_millis", "jobDurationMillis"),
        ],
    ),
    (
        "favorite_rule",
        "favorite_rule",
        &[
            ("project", "project"),
            ("conds", "conds"),
            ("name", "name"),
            ("enabled", "enabled"),
            ("update_time", "updateTime"),
            ("create_time", "createTime"),
            ("mvcc", "mvcc"),
        ],
    ),
    (
        "query_history_id_offset",
        "query_history_offset",
        &[
            ("project", "project"),
            ("type", "type"),
            ("query_history_id_offset", "offset"),
            ("update_time", "updateTime"),
            ("create_time", "createTime"),
            ("mvcc", "mvcc"),
        ],
    ),
];

fn side_value(json: &Json, field: &str) -> Value {
    match (field, &json[field]) {
        ("jobContentJson", Json::String(text)) => encode(text.as_bytes()).into(),
        ("jobContentJson", content) => encode(content.to_string().as_bytes()).into(),
        (_, Json::Null) => Value::Null,
        (_, Json::Bool(flag)) => i64::from(*flag).into(),
        (_, Json::Number(number)) => number.as_i64().into(),
        (_, Json::String(text)) => text.as_str().into(),
        (_, other) => other.to_string().into(),
    }
}

fn list(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
