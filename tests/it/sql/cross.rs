//! From one kind of store to another, and to the next: it is the same in all of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use metastash::endpoint::location::{Reading, open, open_target};
use metastash::endpoint::sql::SqlStore;
use metastash::endpoint::{Source, Target};
use metastash::monitor::Silent;
use metastash::ops;
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::restore::{Allow, Mode, RestoreOptions};
use metastash::platform::kylin::database::Database;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;

use super::connection::Kind;
use super::restoring::{fixture, options_of, restore_to, restoring};
use super::servers::{Db, scratch_database};
use crate::support::{Contents, author, build, contents, create, scratch, settle, view};

fn take(store: &dyn Source, repo: &Repository) -> Snapshot {
    let options = BackupOptions { allow_empty: true, ..BackupOptions::new(author()) };
    let report = backup(store, repo, &options, &Silent).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    report.snapshot
}

/// Makes a store hold a snapshot and nothing else; returns what was left out.
fn put(store: &dyn Target, repo: &Repository, snapshot: &Snapshot) -> ops::Result<Vec<String>> {
    let allow = Allow { empty: true, incomplete: true, project_snapshot: true, other_system: true, same_alias: true };
    let options = RestoreOptions { checkpoint: false, allow, ..restoring(Mode::Truncate) };
    let report = restore_to(store, repo, snapshot, &options)?;
    Ok(report.plan.left_out.iter().map(ToString::to_string).collect())
}

/// A database, which gets its tables with the first snapshot.
struct Place(Db);

impl Place {
    fn new(kind: Kind) -> Self {
        Self(scratch_database(kind))
    }

    fn open(&self, layout: &str) -> SqlStore {
        SqlStore::open_target(Database::parse(&self.0.url()).unwrap(), options_of(true), layout).unwrap()
    }
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
    trees
}

/// Returns a tree as a Kylin could have it in its tables: a package is what it holds, projects say their names, no UUID is
/// there twice, and all is JSON, which is not so in all trees of tests.
fn prepared(tree: &Path, folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().path());
    if let Some(zip) = entries.find(|path| path.extension().is_some_and(|end| end == "zip")) {
        return zip;
    }
    let prepared = folder.join(tree.file_name().unwrap());
    build(&prepared, &view(tree));
    let folders = fs::read_dir(&prepared).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|folder| !prepared.join("_global").exists() && folder.is_dir()) {
        let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut uuids = BTreeSet::new();
        for path in files.iter().filter(|path| path.is_file()) {
            let Ok(mut json) = serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()) else {
                fs::remove_file(path).unwrap();
                continue;
            };
            let before = json.clone();
            if folder.ends_with("PROJECT") && json["name"].is_null() {
                json["name"] = path.file_stem().unwrap().to_str().unwrap().into();
            }
            if !uuids.insert(json["uuid"].to_string()) {
                json["uuid"] = super::kylin_client::random_uuid().into();
            }
            if json != before {
                fs::write(path, serde_json::to_vec(&json).unwrap()).unwrap();
            }
        }
    }
    prepared
}

/// Tells whether a document has no place in tables: files that are none, and what only backups have.
fn has_no_row(path: &[u8]) -> bool {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    matches!(parts[..], [b"_files" | b"_beside" | b"_unplaced", ..] | [_, b"_REC" | b"TMP_REC", _])
        || matches!(path, b"_global/SYSTEM/_image" | b"_image")
}

fn is_beside(path: &[u8]) -> bool {
    let kind = path.split(|byte| *byte == b'/').nth(1).unwrap_or_default();
    [&b"job_info"[..], b"favorite_rule", b"query_history_id_offset"].contains(&kind)
}

/// Returns all documents that are to be the same after the first step. Of what is beside them, the file that Kylin's tool
/// writes is not what a row says: it has fields and ids that no row has.
fn of_rows(repo: &Repository, snapshot: &Snapshot, is_old: bool) -> Contents {
    let all = contents(repo, snapshot).into_iter().filter(|(_, content)| content.is_some());
    let has_row = |path: &[u8]| if is_old { path != b"_image" } else { !has_no_row(path) && !is_beside(path) };
    all.filter(|(path, _)| has_row(path)).collect()
}

/// Sends a tree from store to store.
fn go_round(tree: &Path, is_old: bool, [one, other]: [&Place; 2]) -> Result<(), String> {
    let (_, repo) = create();
    settle();
    let first = take(&*open(tree, Reading::Detect).unwrap().store, &repo);
    let layout = first.manifest.layout.as_str();
    if (layout == "kylin-old") != is_old {
        return Err(format!("it has the layout {layout}"));
    }
    let left_out = put(&one.open(layout), &repo, &first).map_err(|error| format!("{error:?}"))?;
    let of_one = take(&one.open(layout), &repo);
    let (expected, found) = (of_rows(&repo, &first, is_old), of_rows(&repo, &of_one, is_old));
    assert!(found == expected, "{}: {left_out:?}", tree.display());
    let all: Vec<Vec<u8>> = contents(&repo, &of_one).into_keys().collect();
    let beside = all.iter().filter(|path| is_beside(path)).count();
    // What a tree can't hold is not missing from it.
    let can_hold = layout == "kylin-new-backup";
    assert!(!can_hold || contents(&repo, &first).keys().filter(|path| is_beside(path)).count() == beside);
    // What was left out is named, but for what only backups have.
    let had = contents(&repo, &first).values().filter(|content| content.is_some()).count();
    assert!(had - expected.len() <= left_out.len() + if can_hold { beside } else { 0 } + 2, "{left_out:?}");

    put(&other.open(layout), &repo, &of_one).map_err(|error| format!("{error:?}"))?;
    let of_other = take(&other.open(layout), &repo);
    assert_eq!(of_other.manifest.root, of_one.manifest.root, "{}", tree.display());
    let folder = scratch();
    let directory = folder.path().join("store");
    let located = open_target(&directory, Reading::Detect, &of_other.manifest.layout).unwrap();
    assert_eq!(put(&*located.store, &repo, &of_other).unwrap(), [""; 0]);
    settle();
    let of_directory = take(&*open(&directory, Reading::Detect).unwrap().store, &repo);
    assert_eq!(of_directory.manifest.root, of_one.manifest.root, "{}", tree.display());
    // In a zip, side documents have no place.
    let zip = folder.path().join("metadata.zip");
    let located = open_target(&zip, Reading::Detect, &of_other.manifest.layout).unwrap();
    let left_out = put(&*located.store, &repo, &of_directory).unwrap();
    assert!(left_out.is_empty() || left_out.len() == beside, "{left_out:?}");
    if left_out.is_empty() && !expected.is_empty() {
        let of_zip = take(&*open(&zip, Reading::Detect).unwrap().store, &repo);
        assert_eq!(of_zip.manifest.root, of_one.manifest.root, "{}", tree.display());
    }
    // And back to where it began: there is nothing to do.
    let before = super::restoring::records(&one.0, shape(is_old)).len();
    put(&one.open(layout), &repo, &of_directory).unwrap();
    assert_eq!(super::restoring::records(&one.0, shape(is_old)).len(), before);
    Ok(())
}

fn shape(is_old: bool) -> super::restoring::Shape {
    if is_old { super::restoring::Shape::Old } else { super::restoring::NEW }
}

/// Sends trees round in the same two databases, one after the other; returns those that can't be rows, with the reason.
fn all_round(trees: &[PathBuf], is_old: bool) -> Vec<(String, String)> {
    let [postgresql, mysql] = [Place::new(Kind::PostgreSql), Place::new(Kind::MySql)];
    let mut refused = Vec::new();
    for (n, tree) in trees.iter().enumerate() {
        let places = if n % 2 == 0 { [&postgresql, &mysql] } else { [&mysql, &postgresql] };
        if let Err(why) = go_round(tree, is_old, places) {
            refused.push((tree.file_name().unwrap().to_string_lossy().into_owned(), why));
        }
    }
    refused
}

#[test]
fn own_trees_are_the_same_in_every_store() {
    let none: [(String, String); 0] = [];
    assert_eq!(all_round(&[fixture("learn_kylin"), fixture("kylin_backup"), fixture("learn_kylin")], false), none);
    assert_eq!(all_round(&[fixture("kylin_old")], true), none);
}

#[test]
fn trees_of_kylins_tests_are_the_same_in_every_store() {
    for (generation, is_old) in [("new", false), ("old", true)] {
        let folder = scratch();
        let mut trees: Vec<PathBuf> = shared(generation).iter().map(|tree| prepared(tree, folder.path())).collect();
        // Of these the layout can't be told: they hold lists.
        trees.retain(|tree| !tree.to_str().unwrap().contains("json_list"));
        let refused = all_round(&trees, is_old);
        for (tree, why) in &refused {
            eprintln!("{generation} {tree}: {why}");
        }
        assert!(refused.len() * 5 <= trees.len(), "{refused:?}");
        // What does not go is a document that can be no row.
        assert!(
            refused
                .iter()
                .all(|(_, why)| ["NoRow", "Constraint", "it has the layout"].iter().any(|known| why.contains(known))),
            "{refused:?}"
        );
    }
}
