//! Documents as rows: what Kylin puts into each column, and rows in bulk.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use md5::{Digest, Md5};
use serde_json::Value as Json;

use super::connection::{Connection, Kind, Result, Value};
use super::encoding::Compress;
use super::kylin_tables::{Column, Shape, TABLES, Table};

/// How many documents are held at once.
const BATCH_ROWS_MAX: usize = 256;
/// How many bytes a statement of MySQL brings at most, if each document alone is smaller.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Which of the columns that are known the tables of a database have.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    id: String,
    // Of the types whose tables exist, the table's own.
    own: BTreeMap<&'static str, Vec<Column>>,
    // In 5.0.0 the hash of a computed column was of its expression, and Kylin computed it.
    hashes_expressions: bool,
}

impl Columns {
    /// Asks the database.
    pub(crate) fn read(connection: &mut Connection, id: &str) -> Result<Self> {
        let schema = match connection.kind() {
            Kind::PostgreSql => "current_schema()",
            Kind::MySql => "database()",
        };
        let sql =
            format!("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = {schema}");
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in connection.query(&sql, &[])? {
            let [table, column] = [0, 1].map(|n| row[n].text().unwrap().to_lowercase());
            found.entry(table).or_default().push(column);
        }
        let mut own = BTreeMap::new();
        for table in &TABLES {
            if let Some(names) = found.get(&format!("{id}_{}", table.suffix()).to_lowercase()) {
                let mut columns = table.columns_of_any_release();
                columns.retain(|column| names.iter().any(|name| name == column.name));
                own.insert(table.type_name, columns);
            }
        }
        let has = |table, name| own.get(table).is_some_and(|columns| columns.iter().any(|column| column.name == name));
        let hashes_expressions = has("TABLE_INFO", "table_identity") && !has("TABLE_INFO", "db_name");
        Ok(Self { id: id.to_owned(), own, hashes_expressions })
    }

    /// Returns the identifier.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the types that have a table.
    pub(crate) fn types(&self) -> impl Iterator<Item = &'static str> {
        self.own.keys().copied()
    }

    pub(crate) fn table_name(&self, type_name: &str) -> String {
        format!("{}_{}", self.id, type_name.to_lowercase())
    }

    pub(crate) fn own(&self, type_name: &str) -> &[Column] {
        &self.own[type_name]
    }

    /// Returns the names of the columns that Kylin writes, in the order of [`Self::values`].
    pub(crate) fn names(&self, type_name: &str) -> Vec<&'static str> {
        let project = Table::of(type_name).project_field.map(|_| "project");
        let own = self.own(type_name).iter().map(|column| column.name);
        ["meta_key", "uuid", "mvcc", "ts", "content"].into_iter().chain(project).chain(own).collect()
    }

    /// Returns what Kylin writes into a row.
    pub(crate) fn values(&self, type_name: &str, row: &NewRow<'_>) -> Vec<Value> {
        let json: Json = serde_json::from_slice(row.content).expect("Kylin can't insert what is no JSON");
        let project = Table::of(type_name).project_field.map(|field| text(&json[field]));
        let mut values = vec![row.key.into(), text(&json["uuid"]), row.mvcc.into(), row.ts.into()];
        values.push(row.compress.encode(row.key, row.content).into());
        values.extend(project);
        values.extend(self.own(type_name).iter().map(|column| self.extract(type_name, *column, &json)));
        values
    }

    fn extract(&self, type_name: &str, column: Column, json: &Json) -> Value {
        let value = &json[column.field];
        match column.shape {
            Shape::Md5 if self.hashes_expressions => json["expression"].as_str().map(hash).into(),
            Shape::Long if type_name == "HISTORY_SOURCE_USAGE" => value.as_i64().unwrap_or(0).into(),
            Shape::Long | Shape::Count => value.as_i64().into(),
            _ => text(value),
        }
    }
}

/// A document that is to become a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewRow<'r> {
    pub(crate) key: &'r str,
    pub(crate) mvcc: i64,
    pub(crate) ts: i64,
    pub(crate) content: &'r [u8],
    pub(crate) compress: Compress,
}

/// Returns a field as Jackson binds it to a text.
fn text(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

fn hash(expression: &str) -> String {
    Md5::digest(expression).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of a backup.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
}

impl Document {
    fn read(&self) -> (Vec<u8>, i64) {
        let modified = fs::metadata(&self.path).unwrap().modified().unwrap();
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        (fs::read(&self.path).unwrap(), i64::try_from(since.as_millis()).unwrap())
    }
}

/// Finds the documents of the new layout, by type.
pub(crate) fn new_documents(root: &Path) -> BTreeMap<&'static str, Vec<Document>> {
    let mut found = BTreeMap::new();
    for folder in fs::read_dir(root).unwrap().map(|folder| folder.unwrap()) {
        let Some(table) = Table::find(folder.file_name().to_str().unwrap()) else { continue };
        let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        let document = |path: PathBuf| {
            let key = path.file_name()?.to_str().unwrap().strip_suffix(".json")?.to_owned();
            (key != "_image").then_some(Document { key, path })
        };
        found.insert(table.type_name, shuffled(files.filter_map(document).collect()));
    }
    found
}

/// Finds the documents of the old layout.
pub(crate) fn old_documents(root: &Path) -> Vec<Document> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else {
                let key = format!("/{}", path.strip_prefix(root).unwrap().to_str().unwrap());
                found.push(Document { key, path });
            }
        }
    }
    found.retain(|document| document.key != "/_image");
    shuffled(found)
}

/// Rows of a store are in no order that means anything; always in the same, though, so that tests can be run again.
fn shuffled(mut documents: Vec<Document>) -> Vec<Document> {
    documents.sort_by_cached_key(|document| blake3::hash(document.key.as_bytes()).as_bytes().to_owned());
    documents
}

/// Puts the documents of one type into its table, new.
pub(crate) fn load_new(
    connection: &mut Connection,
    columns: &Columns,
    type_name: &str,
    documents: &[Document],
    compress: Compress,
) -> Result<()> {
    let own = columns.own(type_name);
    let is_count = |name: &&str| own.iter().any(|column| column.name == *name && column.shape == Shape::Count);
    let names = columns.names(type_name);
    let counts: Vec<bool> = names.iter().map(is_count).collect();
    let rows = documents.iter().map(|document| {
        let (content, ts) = document.read();
        columns.values(type_name, &NewRow { key: &document.key, mvcc: 0, ts, content: &content, compress })
    });
    insert(connection, &columns.table_name(type_name), &names, &counts, rows)
}

/// Puts documents into the one table of old.
pub(crate) fn load_old(
    connection: &mut Connection,
    id: &str,
    documents: &[Document],
    compress: Compress,
) -> Result<()> {
    let names = ["META_TABLE_KEY", "META_TABLE_CONTENT", "META_TABLE_TS", "META_TABLE_MVCC"];
    let rows = documents.iter().map(|document| {
        let (content, ts) = document.read();
        let stored = compress.encode(&document.key, &content);
        vec![document.key.as_str().into(), stored.into(), ts.into(), 0.into()]
    });
    insert(connection, id, &names, &[false; 4], rows)
}

/// Inserts rows, as fast as each server can; `is_count` tells which columns are short integers.
fn insert(
    connection: &mut Connection,
    table: &str,
    names: &[&str],
    is_count: &[bool],
    rows: impl Iterator<Item = Vec<Value>>,
) -> Result<()> {
    let list = names.join(", ");
    match connection {
        Connection::PostgreSql { client, .. } => {
            let mut out = client.copy_in(&format!("COPY {table} ({list}) FROM STDIN (FORMAT BINARY)"))?;
            let mut buffer = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
            for row in rows {
                buffer.extend(u16::try_from(row.len()).unwrap().to_be_bytes());
                for (value, is_count) in row.iter().zip(is_count) {
                    push_field(&mut buffer, value, *is_count);
                }
                if buffer.len() > BATCH_BYTES_MAX {
                    out.write_all(&buffer).unwrap();
                    buffer.clear();
                }
            }
            buffer.extend((-1_i16).to_be_bytes());
            out.write_all(&buffer).unwrap();
            out.finish()?;
        }
        Connection::MySql(_) => {
            let mut held: Vec<Vec<Value>> = Vec::new();
            let mut bytes = 0;
            for row in rows {
                let size = row
                    .iter()
                    .filter_map(|value| if let Value::Bytes(bytes) = value { Some(bytes.len()) } else { None });
                let size: usize = size.sum();
                if held.len() == BATCH_ROWS_MAX || bytes + size > BATCH_BYTES_MAX {
                    insert_batch(connection, table, &list, &std::mem::take(&mut held))?;
                    bytes = 0;
                }
                bytes += size;
                held.push(row);
            }
            insert_batch(connection, table, &list, &held)?;
        }
    }
    Ok(())
}

fn push_field(buffer: &mut Vec<u8>, value: &Value, is_count: bool) {
    let mut push = |bytes: &[u8]| {
        buffer.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
        buffer.extend(bytes);
    };
    match value {
        Value::Null => buffer.extend((-1_i32).to_be_bytes()),
        Value::Int(number) if is_count => push(&i32::try_from(*number).unwrap().to_be_bytes()),
        Value::Int(number) => push(&number.to_be_bytes()),
        Value::Text(text) => push(text.as_bytes()),
        Value::Bytes(bytes) => push(bytes),
    }
}

fn insert_batch(connection: &mut Connection, table: &str, list: &str, rows: &[Vec<Value>]) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let marks = format!("({})", vec!["?"; first.len()].join(", "));
    let sql = format!("INSERT INTO {table} ({list}) VALUES {}", vec![marks; rows.len()].join(", "));
    connection.execute(&sql, &rows.concat())?;
    Ok(())
}
