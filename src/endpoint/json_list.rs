//! A JSON list: the rows of a metadata table, or of an audit log, of the old generation as an array of objects.
//!
//! Each row has a key (`meta_table_key`, or `meta_key` in an audit log), a time in milliseconds and a content, which is
//! JSON itself. Of several rows with one key the newest counts: that with the largest `id`, or else the last. A row whose
//! content is null says that the document is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::spool::{Spool, SpoolFile, SpoolStore};
use super::{Error, PLAIN, Result};
use crate::model::path::EntryPath;

/// What a text in UTF-8 may begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Folder of rows that say nothing we can read: they are documents of their own, so that nobody overlooks them.
const UNREADABLE: &str = "_rows";

/// What a list holds.
#[derive(Debug)]
pub struct JsonList {
    /// The documents, under their keys.
    pub store: SpoolStore,
    /// Rows.
    pub rows: u64,
    /// Rows that a later one makes void.
    pub superseded: u64,
    /// Documents that are gone by their newest row.
    pub removed: u64,
}

/// Reads a list. Its documents are put into a temporary file: the list may be large.
///
/// # Errors
/// When the file can't be read, or is no array of objects.
pub fn read(path: &Path) -> Result<JsonList> {
    let failed = |e| Error::io("read", path.display(), e);
    let file = File::open(path).map_err(failed)?;
    let mut file = BufReader::new(file);
    // As at the beginning of a document, a mark of the encoding is passed over.
    if file.fill_buf().map_err(failed)?.starts_with(BYTE_ORDER_MARK) {
        file.consume(BYTE_ORDER_MARK.len());
    }
    let mut rows = Rows { file: SpoolFile::new()?, newest: BTreeMap::new(), count: 0, superseded: 0 };
    let mut json = serde_json::Deserializer::from_reader(file);
    let read = json.deserialize_seq(&mut rows).and_then(|result| json.end().map(|()| result));
    match read {
        Ok(result) => result?,
        Err(error) if error.is_io() => return Err(failed(error.into())),
        Err(error) => {
            let what = format!("it is no JSON array of rows: {error}");
            return Err(Error::Damaged { store: path.display().to_string(), what });
        }
    }
    rows.finish(path)
}

struct Rows {
    file: SpoolFile,
    newest: BTreeMap<EntryPath, Row>,
    count: u64,
    superseded: u64,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    id: u64,
    time_ns: i64,
    /// Nothing for a document that is gone.
    place: Option<(u64, u64)>,
}

/// The fields of a row that matter here.
#[derive(Deserialize)]
struct Fields {
    id: Option<u64>,
    #[serde(alias = "meta_key")]
    meta_table_key: String,
    #[serde(alias = "meta_content")]
    meta_table_content: Option<Box<RawValue>>,
    #[serde(alias = "meta_ts")]
    meta_table_ts: Option<i64>,
}

impl Rows {
    fn add(&mut self, raw: &RawValue) -> Result<()> {
        self.count += 1;
        let fields = serde_json::from_str::<Fields>(raw.get()).ok();
        let named = fields.and_then(|fields| {
            let key = &fields.meta_table_key;
            Some((EntryPath::new(key.strip_prefix('/').unwrap_or(key).as_bytes()).ok()?, fields))
        });
        let Some((name, fields)) = named else {
            let name = EntryPath::joined(&[UNREADABLE.as_bytes(), format!("{}.json", self.count).as_bytes()]);
            let place = Some(self.append(raw.get())?);
            self.newest.insert(name, Row { id: self.count, time_ns: 0, place });
            return Ok(());
        };
        let place = fields.meta_table_content.map(|content| self.append(content.get())).transpose()?;
        let time_ns = fields.meta_table_ts.unwrap_or_default().saturating_mul(1_000_000);
        let row = Row { id: fields.id.unwrap_or(self.count), time_ns, place };
        match self.newest.get_mut(&name) {
            None => drop(self.newest.insert(name, row)),
            Some(known) => {
                self.superseded += 1;
                if row.id >= known.id {
                    *known = row;
                }
            }
        }
        Ok(())
    }

    fn append(&self, text: &str) -> Result<(u64, u64)> {
        Ok((self.file.append(text.as_bytes())?, text.len() as u64))
    }

    fn finish(self, path: &Path) -> Result<JsonList> {
        let (spool, mut content, mut removed) = (Spool::new()?, Vec::new(), 0);
        for (name, row) in self.newest {
            let Some((start, length)) = row.place else {
                removed += 1;
                continue;
            };
            content.clear();
            self.file.read(start, length, &mut content)?;
            spool.put(name, &content, row.time_ns)?;
        }
        let location = std::fs::canonicalize(path).map_err(|e| Error::io("open", path.display(), e))?;
        let store = spool.finish(location.display().to_string(), PLAIN, Vec::new());
        Ok(JsonList { store, rows: self.count, superseded: self.superseded, removed })
    }
}

impl<'de> Visitor<'de> for &mut Rows {
    /// Whether the rows could be put aside.
    type Value = Result<()>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> std::result::Result<Self::Value, A::Error> {
        while let Some(raw) = sequence.next_element::<Box<RawValue>>()? {
            if !raw.get().starts_with('{') {
                return Err(A::Error::custom(format!("row {} is no object", self.count + 1)));
            }
            if let Err(error) = self.add(&raw) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Source;
    use crate::model::scope::Scope;
    use crate::monitor::Silent;

    fn list(text: &str) -> Result<JsonList> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.json");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn the_newest_row_of_a_key_counts() {
        let list = list(
            r#"[{"id":2,"meta_key":"/p/table/A.json","meta_content":{"v":2.50},"meta_ts":5},
                {"id":1,"meta_key":"/p/table/A.json","meta_content":{"v":1},"meta_ts":4,"operator":null},
                {"id":3,"meta_key":"/p/table/B.json","meta_content":{"v":1},"meta_ts":4},
                {"id":4,"meta_key":"/p/table/B.json","meta_content":null,"meta_ts":4},
                {"id":5,"meta_key":"../x","meta_content":{}},
                {"meta_table_key":"UUID","meta_table_content":"u","meta_table_ts":7}]"#,
        )
        .unwrap();
        assert_eq!((list.rows, list.superseded, list.removed), (6, 2, 1));
        let listing = list.store.scan(&Scope::System, &Silent).unwrap();
        let mut reader = listing.reader();
        let mut found = Vec::new();
        for n in 0..listing.len() {
            let mut content = Vec::new();
            reader.read(n, 1000, &mut content).unwrap();
            let time_ms = listing.facts(n).stamp.time_ns / 1_000_000;
            found.push((listing.path(n).to_string(), String::from_utf8(content).unwrap(), time_ms));
        }
        let text = |name: &str, content: &str, time| (name.to_owned(), content.to_owned(), time);
        let row = r#"{"id":5,"meta_key":"../x","meta_content":{}}"#;
        let expected =
            [text("UUID", "\"u\"", 7), text("_rows/5.json", row, 0), text("p/table/A.json", "{\"v\":2.50}", 5)];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "{}", "[1]", "[{}", "[] []"] {
            assert!(matches!(list(text), Err(Error::Damaged { .. })), "{text}");
        }
    }
}
