//! Metadata of Kylin in files. The trees of Kylin's own tests are used too where they lie beside the project.

mod doctor;
mod guards;
mod incremental;
mod layouts;
mod migrate;
mod projects;
mod scope_faults;
mod scopes;
mod weaknesses;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use metastash::endpoint::location::{Reading, open, open_target};
use metastash::endpoint::{Source, Target};
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops;
use metastash::ops::backup::{BackupOptions, BackupReport, backup};
use metastash::ops::restore::{Allow, Mode, RestoreOptions, RestoreReport, restore};
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use serde_json::Value;

use crate::support::{author, path, project, settle, view};

/// The identity of the system in the own fixtures of the new layout.
const IDENTITY: &str = "SYSTEM/UUID.json";

/// A file: its bytes and modification time.
type File = (Vec<u8>, i64);

/// All files of a store by name.
type Files = BTreeMap<String, File>;

/// Returns one of the project's own fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Returns trees of Kylin's own tests, of a generation; none where they do not lie beside the project.
fn shared(generation: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/kylin").join(generation);
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: the trees of Kylin's own tests ({generation}) are not there");
        return Vec::new();
    };
    let mut trees: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    trees.sort();
    assert!(!trees.is_empty());
    trees
}

/// Looks at the files in a directory.
fn files(root: &Path) -> Files {
    let seen = view(root).into_iter().filter_map(|(name, seen)| match seen {
        crate::support::Seen::Directory(_) => None,
        crate::support::Seen::Document { bytes, time_ns, .. } => {
            Some((String::from_utf8(name).unwrap(), (bytes, time_ns)))
        }
    });
    seen.collect()
}

/// Copies the files of a directory, each with a modification time of its own, long ago.
fn copy(source: &Path, target: &Path) -> PathBuf {
    fs::create_dir_all(target).unwrap();
    for (n, (name, (bytes, _))) in files(source).into_iter().enumerate() {
        put(target, &name, &bytes);
        age(target, &name, n as u64 + 1);
    }
    settle();
    target.to_owned()
}

/// Writes a document.
fn put(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    crate::support::write(root, name, content);
}

/// Sets the modification time of a document, to one long ago.
fn age(root: &Path, name: &str, number: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000 + number * 61, 123_456_789);
    fs::File::options().write(true).open(root.join(name)).unwrap().set_modified(time).unwrap();
}

fn remove(root: &Path, name: &str) {
    fs::remove_file(root.join(name)).unwrap();
}

/// Replaces a text in a document.
fn edit(root: &Path, name: &str, from: &str, to: &str) {
    let before = fs::read_to_string(root.join(name)).unwrap();
    assert!(before.contains(from), "{name} has no {from}");
    fs::write(root.join(name), before.replace(from, to)).unwrap();
}

/// Opens the store at a path as what is found there says.
fn at(root: &Path) -> Box<dyn Target> {
    open(root, Reading::Detect).unwrap().store
}

fn options(scope: Scope) -> BackupOptions {
    BackupOptions { scope, ..BackupOptions::new(author()) }
}

/// Backs a store up. Snapshots are named by the millisecond: the next one gets another.
fn back_up_store(source: &dyn Source, repo: &Repository, scope: Scope) -> BackupReport {
    let report = backup(source, repo, &options(scope), &Silent).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    report
}

/// Backs everything up; what was written before will be told from what is written after.
fn back_up(root: &Path, repo: &Repository) -> BackupReport {
    settle();
    back_up_store(&*at(root), repo, Scope::System)
}

/// Backs a project up.
fn back_up_project(root: &Path, repo: &Repository, name: &str) -> BackupReport {
    settle();
    back_up_store(&*at(root), repo, project(name))
}

fn restoring(mode: Mode) -> RestoreOptions {
    RestoreOptions { mode, ..RestoreOptions::new(author()) }
}

fn restoring_project(mode: Mode, name: &str) -> RestoreOptions {
    RestoreOptions { project: Some(project(name)), ..restoring(mode) }
}

/// Restores to a path, which need not exist.
fn restore_to(
    root: &Path,
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
) -> ops::Result<RestoreReport> {
    settle();
    let located = open_target(root, Reading::Detect, &snapshot.manifest.layout)?;
    restore(&*located.store, repo, snapshot, options, &Silent)
}

/// Puts a store back to what it was before a restore, as the command does.
fn undo(root: &Path, repo: &Repository, report: &RestoreReport) -> RestoreReport {
    let checkpoint = report.checkpoint.as_ref().expect("a restore that changes something has a checkpoint");
    let allow = Allow { empty: true, project_snapshot: true, other_system: true, same_alias: true, ..Allow::default() };
    let scope = Some(checkpoint.manifest.scope.clone());
    let options = RestoreOptions { project: scope, allow, ..restoring(Mode::Truncate) };
    restore_to(root, repo, checkpoint, &options).unwrap()
}

/// Asserts that a restore is refused by a guard, planned or done, with and without a checkpoint, and changes nothing.
/// Returns what is told of it.
#[track_caller]
fn assert_refused(root: &Path, repo: &Repository, snapshot: &Snapshot, options: &RestoreOptions) -> String {
    let before = (view(root), repo.snapshots().unwrap().snapshots.len());
    let located = open_target(root, Reading::Detect, &snapshot.manifest.layout).unwrap();
    let mut dangers = Vec::new();
    for checkpoint in [true, false] {
        let options = RestoreOptions { checkpoint, ..options.clone() };
        let planned = ops::restore::plan_restore(&*located.store, repo, snapshot, &options, &Silent).map(drop);
        let done = restore(&*located.store, repo, snapshot, &options, &Silent).map(drop);
        for result in [planned, done] {
            match result {
                Err(ops::Error::Refused { danger, .. }) => dangers.push(danger),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!((view(root), repo.snapshots().unwrap().snapshots.len()) == before, "something was changed");
    assert!(dangers.iter().all(|danger| *danger == dangers[0]), "{dangers:?}");
    dangers.swap_remove(0)
}

/// Two projects of one store, to be changed and restored.
struct Case {
    source: PathBuf,
    one: &'static str,
    other: &'static str,
}

/// Returns the fixtures, and the largest tree of either layout.
fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case { source: fixture("learn_kylin"), one: "learn_kylin", other: "retail" },
        Case { source: fixture("kylin_old"), one: "sales", other: "events" },
        Case { source: fixture("kylin_backup"), one: "travel", other: "energy" },
    ];
    let large = [shared("new"), shared("old")].concat().into_iter().filter(|tree| tree.ends_with("localmeta"));
    cases.extend(large.map(|source| Case { source, one: "default", other: "streaming_test" }));
    cases
}

/// Tells by other means than the program which project each file of a store belongs to.
fn owners(files: &Files) -> BTreeMap<String, Option<String>> {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let text = |value: &Value, field: &str| value[field].as_str().map(str::to_owned);
    let mut uuids = BTreeMap::new();
    for (name, (bytes, _)) in files {
        if let Some((_, file)) = name.rsplit_once("PROJECT/").or_else(|| name.split_once("_global/project/")) {
            uuids.insert(text(&json(bytes), "uuid").unwrap(), file.strip_suffix(".json").unwrap().to_owned());
        }
    }
    let is_old = files.contains_key("UUID");
    let owner = |name: &str, bytes: &[u8]| {
        let name = name.strip_prefix("core_meta/").unwrap_or(name);
        let parts: Vec<&str> = name.split('/').collect();
        let key = |part: &str| part.strip_suffix(".json").unwrap_or(part).to_owned();
        match parts[..] {
            ["_global", "project", file] | ["PROJECT", file] => Some(key(file)),
            ["_global", "acl", file] | ["OBJECT_ACL", file] => uuids.get(&key(file)).cloned(),
            ["_global", ..] | [_] | ["SYSTEM" | "RESOURCE_GROUP" | "HISTORY_SOURCE_USAGE", ..] => None,
            ["USER_INFO" | "USER_GROUP" | "USER_GLOBAL_ACL", ..] => None,
            ["job_info" | "favorite_rule" | "query_history_id_offset", project, _] => Some(project.to_owned()),
            ["LOGICAL_VIEW", _] => text(&json(bytes), "created_project"),
            [project, ..] if is_old => Some(project.to_owned()),
            _ => text(&json(bytes), "project").filter(|project| project != "_global"),
        }
    };
    files.iter().map(|(name, (bytes, _))| (name.clone(), owner(name, bytes))).collect()
}

/// Returns the names of the files of one project.
fn names_of(files: &Files, project: &str) -> Vec<String> {
    owners(files).into_iter().filter(|(_, owner)| owner.as_deref() == Some(project)).map(|(name, _)| name).collect()
}

/// Returns the path at which a document of a file is kept.
fn path_in(repo: &Repository, snapshot: &Snapshot, end: &str) -> String {
    let entries = crate::support::entries(repo, snapshot).unwrap();
    let mut paths = entries.iter().map(|entry| entry.path.to_string()).filter(|path| path.ends_with(end));
    let found = paths.next().unwrap_or_else(|| panic!("nothing is kept at {end}"));
    assert_eq!(paths.next(), None, "{end} is kept twice");
    path(&found).to_string()
}
