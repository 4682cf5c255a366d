//! A running Kylin that holds all metadata in memory and follows the audit log.
//!
//! Where a version in the log does not follow the one that is held, Kylin reads that document anew and goes on from its
//! row of the log; here it goes on with the next row, and only what is older than what was read is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value as Json;

use super::connection::{Connection, Result, Value};
use super::encoding::decode;
use super::kylin_client::{Tables, now, split};
use super::kylin_db::{Rows, begin_repeatable_read, read_rows_here};
use super::kylin_tables::Table;
use super::servers::Db;

/// How many ids a node reads at once. What takes more ids than that may be missed.
const STEP_IDS: i64 = 1000;
/// Ids whose rows did not show are not waited for if the log is older than this.
const OLD_LOG_MS: i64 = 3 * 3600 * 1000;
/// How often, and how long, a node waits for a row whose id is taken.
const WAITS: u32 = 3;
const WAIT: Duration = Duration::from_millis(20);

/// What a node is for: a node for queries trusts a full content without looking at its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Job,
    Query,
}

/// A document in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    mvcc: i64,
    content: Vec<u8>,
}

/// A Kylin that reads.
pub(crate) struct Node {
    connection: Connection,
    tables: Tables,
    id: String,
    role: Role,
    offset: i64,
    documents: BTreeMap<String, Held>,
    // Ids that may show later.
    absent: BTreeSet<i64>,
    /// How often everything had to be read again, after the start.
    pub(crate) reloads: u64,
    /// How many documents had to be read again, because the log did not fit what was held.
    pub(crate) rereads: u64,
    /// Documents whose content changed though their version did not, so that Kylin goes on using the old content.
    pub(crate) stale: BTreeSet<String>,
}

enum Applied {
    Done,
    /// It does not follow.
    Unfit,
    /// It can't be understood.
    Failed,
}

impl Node {
    /// Starts a node, which reads all there is.
    pub(crate) fn start(db: &Db, id: &str, role: Role) -> Self {
        let mut connection = db.connect();
        let tables = Tables::find(&mut connection, id).unwrap();
        let (documents, absent, stale) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let id = id.to_owned();
        let mut node =
            Self { connection, tables, id, role, offset: 0, documents, absent, reloads: 0, rereads: 0, stale };
        node.reload().unwrap();
        node.reloads = 0;
        node
    }

    /// Follows the log to its end.
    pub(crate) fn catch_up(&mut self) -> Result<()> {
        let before = self.documents.clone();
        self.follow()?;
        for (name, held) in &self.documents {
            let is_other = |old: &&Held| old.mvcc == held.mvcc && !is_same(&old.content, &held.content);
            if before.get(name).filter(is_other).is_some() {
                self.stale.insert(name.clone());
            }
        }
        Ok(())
    }

    fn follow(&mut self) -> Result<()> {
        let log = self.tables.log();
        let sql = format!("SELECT max(id) FROM {log}");
        let last = self.connection.query(&sql, &[])?[0][0].int().unwrap_or(0);
        if last < self.offset {
            return self.reload();
        }
        let late: Vec<i64> = self.absent.iter().copied().collect();
        for id in late {
            let rows = self.rows("id = ?", &[id.into()])?;
            self.absent.retain(|absent| *absent != id || rows.is_empty());
            if !self.apply_all(&rows)? {
                return self.reload();
            }
        }
        while self.offset < last {
            let until = (self.offset + STEP_IDS).min(last);
            let rows = self.step(self.offset, until)?;
            if !self.apply_all(&rows)? {
                return self.reload();
            }
            self.offset = until;
        }
        Ok(())
    }

    /// Reads one step, and waits a little for what does not show.
    fn step(&mut self, after: i64, until: i64) -> Result<Vec<LogRow>> {
        let mut rows = Vec::new();
        for _ in 0..=WAITS {
            rows = self.rows("id > ? AND id <= ?", &[after.into(), until.into()])?;
            if i64::try_from(rows.len()).unwrap() == until - after {
                return Ok(rows);
            }
            std::thread::sleep(WAIT);
        }
        let newest = rows.iter().map(|row| row.ts).max();
        if newest.is_some_and(|ts| now() - ts < OLD_LOG_MS) {
            let there: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
            self.absent.extend((after + 1..=until).filter(|id| !there.contains(id)));
        }
        Ok(rows)
    }

    fn rows(&mut self, condition: &str, values: &[Value]) -> Result<Vec<LogRow>> {
        let flag = if matches!(self.tables, Tables::New(_)) { ", diff_flag" } else { "" };
        let log = self.tables.log();
        let sql = format!(
            "SELECT id, meta_key, meta_content, meta_ts, meta_mvcc, unit_id{flag} FROM {log} WHERE {condition} ORDER BY id"
        );
        let mut rows: Vec<LogRow> = self.connection.query(&sql, values)?.iter().map(|row| LogRow::new(row)).collect();
        // One unit after the other, in the order in which they begin.
        let mut first: BTreeMap<String, i64> = BTreeMap::new();
        for row in &rows {
            first.entry(row.unit_id.clone()).or_insert(row.id);
        }
        rows.sort_by_key(|row| (first[&row.unit_id], row.id));
        Ok(rows)
    }

    /// Applies rows; tells whether all could be understood.
    fn apply_all(&mut self, rows: &[LogRow]) -> Result<bool> {
        let mut anew: BTreeSet<&str> = BTreeSet::new();
        for row in rows {
            let held = self.documents.get(&row.name).map(|held| held.mvcc);
            let is_older = row.mvcc.is_some_and(|mvcc| held.is_some_and(|held| mvcc <= held));
            if anew.contains(row.name.as_str()) && is_older {
                continue;
            }
            match self.apply(row) {
                Applied::Done => {}
                Applied::Failed => return Ok(false),
                Applied::Unfit => {
                    self.rereads += 1;
                    anew.insert(&row.name);
                    match self.tables.read(&mut self.connection, &row.name, false)? {
                        Some((content, mvcc)) => drop(self.documents.insert(row.name.clone(), Held { mvcc, content })),
                        None => drop(self.documents.remove(&row.name)),
                    }
                }
            }
        }
        Ok(true)
    }

    fn apply(&mut self, row: &LogRow) -> Applied {
        let is_new = matches!(self.tables, Tables::New(_));
        if is_new && !(row.name.contains('/') && Table::find(split(&row.name).0).is_some()) {
            return Applied::Failed;
        }
        let (Some(content), Some(mvcc)) = (&row.content, row.mvcc) else {
            self.documents.remove(&row.name);
            return Applied::Done;
        };
        let held = self.documents.get(&row.name);
        let content = match (held, row.is_patch) {
            (None, true) => return Applied::Failed,
            (None, false) => content.clone(),
            (Some(_), false) if self.role == Role::Query => content.clone(),
            (Some(held), _) if held.mvcc != mvcc - 1 => return Applied::Unfit,
            (Some(_), false) => content.clone(),
            (Some(held), true) => match patched(&held.content, content) {
                Some(content) => content,
                None => return Applied::Failed,
            },
        };
        self.documents.insert(row.name.clone(), Held { mvcc, content });
        Applied::Done
    }

    fn reload(&mut self) -> Result<()> {
        self.reloads += 1;
        begin_repeatable_read(&mut self.connection)?;
        let rows = read_rows_here(&mut self.connection, &self.id)?;
        let sql = format!("SELECT max(id) FROM {}", self.tables.log());
        self.offset = self.connection.query(&sql, &[])?[0][0].int().unwrap_or(0);
        self.connection.batch("COMMIT")?;
        self.absent.clear();
        let held = |row: super::kylin_db::Row| Held { mvcc: row.mvcc, content: row.content };
        self.documents = rows.into_iter().map(|(name, row)| (name, held(row))).collect();
        Ok(())
    }

    /// Tells how what the node holds differs from the tables, by versions and by contents as JSON.
    pub(crate) fn differences(&self, rows: &Rows) -> Vec<String> {
        let names: BTreeSet<&String> = self.documents.keys().chain(rows.keys()).collect();
        let differs = |name: &&String| match (self.documents.get(*name), rows.get(*name)) {
            (Some(held), Some(row)) => held.mvcc != row.mvcc || !is_same(&held.content, &row.content),
            _ => true,
        };
        let describe = |name: &String| {
            let held = self.documents.get(name).map(|held| held.mvcc);
            format!("{name}: held {held:?}, stored {:?}", rows.get(name).map(|row| row.mvcc))
        };
        names.into_iter().filter(differs).map(describe).collect()
    }

    /// Returns the contents that the node holds.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.documents.iter().map(|(name, held)| (name.clone(), held.content.clone())).collect()
    }
}

struct LogRow {
    id: i64,
    name: String,
    content: Option<Vec<u8>>,
    ts: i64,
    mvcc: Option<i64>,
    unit_id: String,
    is_patch: bool,
}

impl LogRow {
    fn new(row: &[Value]) -> Self {
        Self {
            id: row[0].int().unwrap(),
            name: row[1].text().unwrap().to_owned(),
            content: row[2].bytes().map(decode),
            ts: row[3].int().unwrap_or(0),
            mvcc: row[4].int(),
            unit_id: row[5].text().unwrap_or_default().to_owned(),
            is_patch: row.get(6).is_some_and(|flag| flag.int() == Some(1)),
        }
    }
}

/// Returns a content after a patch, as compact JSON, as nodes hold it.
fn patched(content: &[u8], patch: &[u8]) -> Option<Vec<u8>> {
    let mut json: Json = serde_json::from_slice(content).ok()?;
    let patch: json_patch::Patch = serde_json::from_slice(patch).ok()?;
    json_patch::patch(&mut json, &patch).ok()?;
    serde_json::to_vec(&json).ok()
}

/// Tells whether two contents are the same JSON, or the same bytes.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let parse = |bytes| serde_json::from_slice::<Json>(bytes).ok();
    one == other || parse(one).is_some_and(|json| parse(other) == Some(json))
}
