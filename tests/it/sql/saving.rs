//! Backups of databases, by the library and by the command, and what they must hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use metastash::endpoint;
use metastash::endpoint::sql::{SqlOptions, SqlStore};
use metastash::monitor::Silent;
use metastash::ops;
use metastash::ops::backup::{BackupOptions, BackupReport, backup};
use metastash::ops::follow::Following;
use metastash::platform::kylin::database::Database;
use metastash::platform::kylin::layout::Layout;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::connection::{BOTH, Kind};
use super::encoding::Compress;
use super::kylin_db::{ID, Rows, create_new, create_old, load_tree};
use super::kylin_tables::Release;
use super::servers::{Db, Server};
use crate::support::{Contents, author, contents, entries};

/// Which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    New,
    Old,
}

/// Both kinds of servers with both generations of tables.
pub(super) fn all_cases() -> impl Iterator<Item = (Kind, Generation)> {
    BOTH.into_iter().flat_map(|kind| [Generation::New, Generation::Old].map(|generation| (kind, generation)))
}

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Makes a database that holds the sample of a generation.
pub(super) fn filled(kind: Kind, generation: Generation) -> Db {
    filled_in(&Server::shared(kind), generation)
}

/// Does what [`filled`] does in a server.
pub(super) fn filled_in(server: &std::sync::Arc<Server>, generation: Generation) -> Db {
    let db = server.scratch_database();
    fill(&db, ID, generation);
    db
}

/// Makes the tables of an identifier and puts the sample of a generation into them.
pub(super) fn fill(db: &Db, id: &str, generation: Generation) {
    match generation {
        Generation::New => {
            create_new(db, id, Release::V502);
            load_tree(db, id, &fixture("learn_kylin"), Compress::Mixed);
        }
        Generation::Old => {
            create_old(db, id);
            load_tree(db, id, &fixture("kylin_old"), Compress::Mixed);
        }
    }
}

/// Opens a store as a command does.
pub(super) fn try_open(url: &str) -> endpoint::Result<SqlStore> {
    try_open_as(url, None)
}

pub(super) fn try_open_as(url: &str, layout: Option<Layout>) -> endpoint::Result<SqlStore> {
    SqlStore::open(Database::parse(url).unwrap(), SqlOptions { layout, ..SqlOptions::default() })
}

pub(super) fn open(url: &str) -> SqlStore {
    try_open(url).unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

/// Returns the options of a plain backup.
pub(super) fn plain() -> BackupOptions {
    BackupOptions::new(author())
}

/// Returns the options of a backup that reads everything.
pub(super) fn forced() -> BackupOptions {
    BackupOptions { force: true, ..plain() }
}

/// Returns the options of a backup that compares all versions and verifies nothing.
pub(super) fn by_version() -> BackupOptions {
    BackupOptions { follow_log: false, verify_of: 0, ..plain() }
}

/// Returns the options of a backup that follows the log and verifies nothing.
pub(super) fn by_log() -> BackupOptions {
    BackupOptions { verify_of: 0, ..plain() }
}

pub(super) fn try_back_up(url: &str, repo: &Repository, options: &BackupOptions) -> ops::Result<BackupReport> {
    let report = backup(&try_open(url)?, repo, options, &Silent);
    // Snapshots are named by the millisecond.
    std::thread::sleep(Duration::from_millis(2));
    report
}

#[track_caller]
pub(super) fn back_up(db: &Db, repo: &Repository, options: &BackupOptions) -> BackupReport {
    try_back_up(&db.url(), repo, options).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Asserts that a backup followed the log; returns its report.
#[track_caller]
pub(super) fn followed(db: &Db, repo: &Repository) -> BackupReport {
    let report = back_up(db, repo, &by_log());
    assert_eq!(report.following, Following::Followed);
    report
}

/// Asserts that a backup did not follow the log, and said so with these words; returns its report.
#[track_caller]
pub(super) fn fell_back(db: &Db, repo: &Repository, words: &str) -> BackupReport {
    let report = back_up(db, repo, &by_log());
    match &report.following {
        Following::FellBack(why) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?} instead of {words}"),
    }
    report
}

/// Asserts that a snapshot holds what a full backup into another repository holds, in each entry.
#[track_caller]
pub(super) fn assert_as_fresh(db: &Db, repo: &Repository, report: &BackupReport) {
    let (_, other) = crate::support::create();
    let fresh = back_up(db, &other, &forced());
    let (mine, fresh_entries) = (entries(repo, &report.snapshot).unwrap(), entries(&other, &fresh.snapshot).unwrap());
    let differing = mine.iter().find(|entry| !fresh_entries.contains(entry));
    let lacking = fresh_entries.iter().find(|entry| !mine.contains(entry));
    assert!(differing.is_none() && lacking.is_none(), "has {differing:?}\nnot {lacking:?}");
    assert_eq!(report.snapshot.manifest.root, fresh.snapshot.manifest.root);
    assert_eq!(report.snapshot.manifest.documents, fresh.snapshot.manifest.documents);
}

/// Returns the contents of a snapshot under the paths that rows of these names must have.
pub(super) fn expected(rows: &Rows) -> Contents {
    let json = |content: &[u8]| serde_json::from_slice::<Json>(content).unwrap_or_default();
    let mut projects: BTreeMap<String, String> = BTreeMap::new();
    for (name, row) in rows {
        let old = name.strip_prefix("/_global/project/").and_then(|file| file.strip_suffix(".json"));
        if let Some(project) = name.strip_prefix("PROJECT/").or(old) {
            projects.insert(json(&row.content)["uuid"].as_str().unwrap_or_default().to_owned(), project.to_owned());
        }
    }
    let path = |name: &str, project: Option<&str>| {
        if let Some(name) = name.strip_prefix('/') {
            let acl = name.strip_prefix("_global/acl/").and_then(|uuid| Some((projects.get(uuid)?, uuid)));
            let own = name.strip_prefix("_global/project/").and_then(|file| file.strip_suffix(".json"));
            return match (acl, own) {
                (Some((project, uuid)), _) => format!("{project}/object_acl/{uuid}"),
                (_, Some(project)) => format!("{project}/project/{project}.json"),
                _ => name.to_owned(),
            };
        }
        let (kind, key) = name.split_once('/').unwrap();
        let home = match kind {
            "PROJECT" => key,
            "OBJECT_ACL" => projects.get(key).map_or("_global", String::as_str),
            _ => project.unwrap_or("_global"),
        };
        format!("{home}/{name}")
    };
    let entry = |(name, row): (&String, &super::kylin_db::Row)| {
        (path(name, row.project.as_deref()).into_bytes(), Some(row.content.clone()))
    };
    rows.iter().map(entry).collect()
}

/// Asserts that a snapshot holds these rows of a database, and besides them nothing but jobs, rules and offsets.
#[track_caller]
pub(super) fn assert_holds(repo: &Repository, snapshot: &Snapshot, rows: &Rows) {
    let (mut found, expected) = (contents(repo, snapshot), expected(rows));
    let is_new = rows.keys().any(|name| !name.starts_with('/'));
    let beside = ["/job_info/", "/favorite_rule/", "/query_history_id_offset/"];
    found.retain(|name, _| !is_new || !beside.iter().any(|kind| String::from_utf8_lossy(name).contains(kind)));
    let names = |contents: &Contents| -> Vec<String> {
        contents.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    };
    let (found_names, expected_names) = (names(&found), names(&expected));
    let surplus: Vec<_> = found_names.iter().filter(|name| !expected_names.contains(name)).collect();
    let lacking: Vec<_> = expected_names.iter().filter(|name| !found_names.contains(name)).collect();
    assert!(surplus.is_empty() && lacking.is_empty(), "has {surplus:?}\nlacks {lacking:?}");
    assert!(found == expected, "some contents differ");
}

/// What an environment could say to the command.
const VARIABLES: [&str; 13] = [
    "METASTASH",
    "METASTASH_REPO",
    "METASTASH_STORE",
    "KYLIN_HOME",
    "KYLIN_CONF",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "MYSQL_USER",
    "MYSQL_PWD",
    "RUST_BACKTRACE",
    "USER",
    "LOGNAME",
];

/// A directory to run the command in; the repository is `repo` in it.
pub(super) struct Shell {
    pub(super) folder: TempDir,
}

/// What a run of the command gave.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Shell {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the command with these arguments, in a clean environment.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("metastash"));
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", self.folder.path().join("configuration"));
        command.args(args).args(["--repo", "repo"]).current_dir(self.folder.path()).env("HOME", self.folder.path());
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        ran(&self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed; returns what it printed.
    #[track_caller]
    pub(super) fn done(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.stdout
    }

    /// Asserts that nothing here, in no file whatever, holds one of these texts.
    #[track_caller]
    pub(super) fn assert_nowhere(&self, texts: &[&str]) {
        let mut open = vec![self.folder.path().to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            for text in texts {
                let is_in = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(!is_in, "{} holds a password", path.display());
            }
        }
    }
}

pub(super) fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ran { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

impl Ran {
    /// Asserts an exit code, and that all these words are in what was said of the failure.
    #[track_caller]
    pub(super) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}`: {self:?}");
        }
    }
}

/// Writes bytes as SQL.
pub(super) fn hex(kind: Kind, bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match kind {
        Kind::PostgreSql => format!("'\\x{digits}'::bytea"),
        Kind::MySql => format!("x'{digits}'"),
    }
}
