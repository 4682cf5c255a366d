//! What the tests of restores share: filled databases, snapshots of them, and what became of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use metastash::endpoint::sql::{SqlOptions, SqlStore};
use metastash::endpoint::{self, Target};
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops;
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::restore::{Allow, Mode, RestoreOptions, RestoreReport, restore};
use metastash::platform::kylin::database::Database;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;

use super::connection::{BOTH, Kind, Value};
use super::encoding::{Compress, decode};
use super::kylin_db::{ID, Rows, create_new, create_old, dump, load_side_folders, load_tree};
use super::kylin_node::{Node, Role};
use super::kylin_tables::Release;
use super::servers::{Db, scratch_database};
use crate::support::{author, project};

/// How tables are shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    New(Release),
    Old,
}

pub(crate) const NEW: Shape = Shape::New(Release::V502);

/// Returns every kind of server with every shape of tables.
pub(crate) fn all_shapes() -> impl Iterator<Item = (Kind, Shape)> {
    let shapes = [NEW, Shape::New(Release::V500), Shape::Old];
    BOTH.into_iter().flat_map(move |kind| shapes.map(|shape| (kind, shape)))
}

impl Shape {
    pub(crate) fn layout(self) -> &'static str {
        if self == Self::Old { "kylin-old" } else { "kylin-new" }
    }

    pub(crate) fn log(self) -> String {
        if self == Self::Old { format!("{ID}_audit_log") } else { format!("{ID}_audit_log_v2") }
    }

    /// Returns a tree of documents of this generation, with two projects.
    pub(crate) fn tree(self) -> (PathBuf, &'static str, &'static str) {
        match self {
            Self::Old => (fixture("kylin_old"), "sales", "events"),
            Self::New(_) => (fixture("learn_kylin"), "learn_kylin", "retail"),
        }
    }
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Makes tables without a row.
pub(crate) fn empty(db: &Db, shape: Shape) {
    match shape {
        Shape::New(release) => create_new(db, ID, release),
        Shape::Old => create_old(db, ID),
    }
}

/// Makes a database that holds the tree of its generation.
pub(crate) fn filled(kind: Kind, shape: Shape) -> Db {
    let db = scratch_database(kind);
    fill(&db, shape);
    db
}

pub(crate) fn fill(db: &Db, shape: Shape) {
    empty(db, shape);
    load_tree(db, ID, &shape.tree().0, Compress::Mixed);
}

/// Makes a database that holds a backup with what Kylin's tool puts beside the documents.
pub(crate) fn filled_beside(kind: Kind) -> Db {
    let db = scratch_database(kind);
    empty(&db, NEW);
    load_tree(&db, ID, &fixture("kylin_backup/core_meta"), Compress::All);
    load_side_folders(&db, ID, &fixture("kylin_backup"));
    db
}

pub(crate) fn options_of(create_tables: bool) -> SqlOptions {
    SqlOptions { create_tables, instance: "10.1.2.3:0000".to_owned(), ..SqlOptions::default() }
}

/// Opens a store to restore a snapshot of a layout.
pub(crate) fn open_at(url: &str, layout: &str) -> endpoint::Result<SqlStore> {
    SqlStore::open_target(Database::parse(url).unwrap(), options_of(false), layout)
}

pub(crate) fn at(db: &Db) -> SqlStore {
    SqlStore::open(Database::parse(&db.url()).unwrap(), options_of(false)).unwrap()
}

pub(crate) fn snapshot(db: &Db, repo: &Repository) -> Snapshot {
    snapshot_of(db, repo, Scope::System)
}

/// Backs up. Snapshots are named by the millisecond: the next one gets another.
pub(crate) fn snapshot_of(db: &Db, repo: &Repository, scope: Scope) -> Snapshot {
    let options = BackupOptions { scope, allow_empty: true, ..BackupOptions::new(author()) };
    let report = backup(&at(db), repo, &options, &Silent).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    report.snapshot
}

pub(crate) fn restoring(mode: Mode) -> RestoreOptions {
    RestoreOptions { mode, ..RestoreOptions::new(author()) }
}

pub(crate) fn restoring_project(mode: Mode, name: &str) -> RestoreOptions {
    RestoreOptions { project: Some(project(name)), ..restoring(mode) }
}

pub(crate) fn restore_db(
    db: &Db,
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
) -> ops::Result<RestoreReport> {
    let store = open_at(&db.url(), &snapshot.manifest.layout)?;
    restore_to(&store, repo, snapshot, options)
}

pub(crate) fn restore_to(
    store: &dyn Target,
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
) -> ops::Result<RestoreReport> {
    std::thread::sleep(std::time::Duration::from_millis(2));
    restore(store, repo, snapshot, options, &Silent)
}

/// Puts a store back to what it was before a restore, as the command does.
pub(crate) fn undo(db: &Db, repo: &Repository, report: &RestoreReport) -> RestoreReport {
    let checkpoint = report.checkpoint.as_ref().expect("a restore that changes something has a checkpoint");
    let allow = Allow { empty: true, project_snapshot: true, other_system: true, same_alias: true, ..Allow::default() };
    let scope = Some(checkpoint.manifest.scope.clone());
    let options = RestoreOptions { project: scope, allow, ..restoring(Mode::Truncate) };
    restore_db(db, repo, checkpoint, &options).unwrap()
}

/// Returns the error of the store that a restore ended with.
#[track_caller]
pub(crate) fn store_error<T: std::fmt::Debug>(result: ops::Result<T>) -> endpoint::Error {
    match result {
        Err(ops::Error::Endpoint(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Returns what a guard says.
#[track_caller]
pub(crate) fn danger<T: std::fmt::Debug>(result: ops::Result<T>) -> String {
    match result {
        Err(ops::Error::Refused { danger, .. }) => danger,
        other => panic!("{other:?}"),
    }
}

/// Nodes that follow a database.
pub(crate) struct Nodes([Node; 2]);

impl Nodes {
    pub(crate) fn start(db: &Db) -> Self {
        Self([Role::Job, Role::Query].map(|role| Node::start(db, ID, role)))
    }

    /// Asserts that the nodes have what is in the tables, by following the log alone.
    #[track_caller]
    pub(crate) fn assert_follow(&mut self, rows: &Rows) {
        for node in &mut self.0 {
            node.catch_up().unwrap();
            assert_eq!((node.differences(rows), node.reloads, node.rereads), (Vec::new(), 0, 0));
            assert!(node.stale.is_empty(), "{:?}", node.stale);
        }
    }
}

/// A record of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: i64,
    pub(crate) key: String,
    /// Decoded.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) ts: Option<i64>,
    pub(crate) mvcc: Option<i64>,
    pub(crate) unit: String,
    pub(crate) operator: Option<String>,
    pub(crate) instance: Option<String>,
    /// Model, project and whether it is a patch.
    pub(crate) new: Option<(Option<String>, Option<String>, Option<i64>)>,
}

/// Returns the audit log, from the first record to the last.
pub(crate) fn records(db: &Db, shape: Shape) -> Vec<Record> {
    let more = if shape == Shape::Old { "" } else { ", model_uuid, project, diff_flag" };
    let log = shape.log();
    let columns = "id, meta_key, meta_content, meta_ts, meta_mvcc, unit_id, operator, instance";
    let rows = db.query(&format!("SELECT {columns}{more} FROM {log} ORDER BY id"), &[]);
    let text = |value: &Value| value.text().map(|text| text.trim_end().to_owned());
    let record = |row: &Vec<Value>| Record {
        id: row[0].int().unwrap(),
        key: text(&row[1]).unwrap(),
        content: row[2].bytes().map(decode),
        ts: row[3].int(),
        mvcc: row[4].int(),
        unit: text(&row[5]).unwrap(),
        operator: text(&row[6]),
        instance: text(&row[7]),
        new: (row.len() > 8).then(|| (text(&row[8]), text(&row[9]), row[10].int())),
    };
    rows.iter().map(record).collect()
}

/// Changes the content of a row behind Kylin's back, as it would look after so many changes of Kylin's.
pub(crate) fn set_content(db: &Db, key: &str, content: &[u8], mvcc: i64) {
    let (kind, name) = key.split_once('/').unwrap();
    let (table, column) = match kind {
        "" => (ID.to_owned(), "META_TABLE_KEY"),
        kind => (format!("{ID}_{}", kind.to_lowercase()), "meta_key"),
    };
    let (key, prefix) = if kind.is_empty() { (key, "META_TABLE_") } else { (name, "") };
    let sql = format!("UPDATE {table} SET {prefix}content = ?, {prefix}mvcc = ?, {prefix}ts = ? WHERE {column} = ?");
    let values = [content.to_vec().into(), mvcc.into(), super::kylin_client::now().into(), key.into()];
    assert_eq!(db.with(|connection| connection.execute(&sql, &values)), 1, "{key}");
}

/// Asserts that rows are the same, for those for which that holds.
#[track_caller]
pub(crate) fn assert_same_rows(before: &Rows, after: &Rows, is_same: impl Fn(&str) -> bool) {
    let of = |rows: &Rows| -> BTreeMap<String, super::kylin_db::Row> {
        rows.iter().filter(|(key, _)| is_same(key)).map(|(key, row)| (key.clone(), row.clone())).collect()
    };
    let (before, after) = (of(before), of(after));
    assert!(before == after, "{:?}", differing(&before, &after));
}

/// Names the rows that differ.
pub(crate) fn differing(one: &Rows, other: &Rows) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}

/// Returns all rows, and all of the log: nothing may be changed where nothing is to be changed.
pub(crate) fn everything(db: &Db, shape: Shape) -> (Rows, Vec<Record>, Vec<Vec<Value>>) {
    let beside = if shape == Shape::Old { Vec::new() } else { beside(db) };
    (dump(db, ID), records(db, shape), beside)
}

/// Returns the rows of jobs, rules and offsets.
pub(crate) fn beside(db: &Db) -> Vec<Vec<Value>> {
    let jobs = "id, job_id, project, job_status, mvcc, update_time, job_content";
    let rules = "id, name, project, enabled, mvcc, update_time, conds";
    let offsets = "id, type, project, query_history_id_offset, mvcc, update_time";
    [("job_info_v2", jobs), ("favorite_rule", rules), ("query_history_offset", offsets)]
        .into_iter()
        .flat_map(|(table, columns)| db.query(&format!("SELECT {columns} FROM {ID}_{table} ORDER BY id"), &[]))
        .collect()
}

/// Returns the command with these words, in a folder in which it keeps its repository, and in a clean environment.
pub(crate) fn metastash(folder: &Path, words: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("metastash"));
    let names =
        ["METASTASH", "METASTASH_STORE", "KYLIN_HOME", "KYLIN_CONF", "PGPASSWORD", "MYSQL_PWD", "RUST_BACKTRACE"];
    for name in names {
        command.env_remove(name);
    }
    command.env("XDG_CONFIG_HOME", folder.join("configuration"));
    command.env("METASTASH_REPO", folder.join("repo")).env("TZ", "UTC").env("USER", "tester").current_dir(folder);
    command.args(words);
    command
}
