//! What a migration tells of its source, and of the result of an earlier one.

use std::fs;
use std::path::{Path, PathBuf};

use metastash::endpoint::location::{Reading, open_target};
use metastash::model::scope::Scope;
use metastash::monitor::{Problem, Silent};
use metastash::ops::Error;
use metastash::ops::migrate::{
    Deviation, DeviationKind, LAYOUT, Line, MigrateOptions, Migration, Origin, Unfit, Verification, plan, verify,
};
use metastash::platform::kylin::migrate::{Rule, rule_of};
use metastash::storage::Storage;

use super::{at, back_up_store, copy, edit, files, fixture, put};
use crate::damage::{Harm, inflict};
use crate::support::{Partly, add_entries, check_everything, create, noise, open, path, scratch, store};

fn old(folder: &Path) -> PathBuf {
    copy(&fixture("kylin_old"), &folder.join("old"))
}

fn migrate(origin: &Origin<'_>) -> Migration {
    plan(origin, &MigrateOptions::default(), &Silent).unwrap()
}

fn told(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn report_counts_what_was_read_and_what_is_wrong() {
    let scratch = scratch();
    let root = old(scratch.path());
    let report = migrate(&Origin::Store(&store(&root))).report;
    let files = files(&root);
    let is_read = |name: &String| !matches!(rule_of(&path(name)), Rule::Drop(_));
    let bytes: usize = files.iter().filter(|(name, _)| is_read(name)).map(|(_, (bytes, _))| bytes.len()).sum();
    assert_eq!((report.documents, report.bytes), (files.len() as u64, bytes as u64));
    assert_eq!((report.errors(), report.warnings(), report.has_problems()), (0, 1, false));
    let mut names = Vec::new();
    let take = |line: Line| {
        names.push(line.name.to_string());
        Ok(())
    };
    report.lines(take).unwrap();
    assert_eq!(names.len(), files.len());
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn what_is_wrong_with_a_document_after_its_migration_is_told() {
    let scratch = scratch();
    let root = old(scratch.path());
    let id = "0e1d4f0c-0000-4000-8000-000000000009";
    put(&root, &format!("sales/model_desc/{id}.json"), format!(r#"{{"uuid":"{id}","fact_table":"SHOP.ORDERS"}}"#));
    assert!(migrate(&Origin::Store(&store(&root))).report.has_problems());
    let strict = MigrateOptions { strict: true, ..MigrateOptions::default() };
    match plan(&Origin::Store(&store(&root)), &strict, &Silent) {
        Err(Error::NotMigrated { document, why }) => {
            assert!(document.contains("MODEL/") && why.contains("is missing"), "{document}: {why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_store_could_not_read_is_told_and_strict_refuses_that() {
    let scratch = scratch();
    let root = old(scratch.path());
    let partly = Partly(store(&root));
    let report = migrate(&Origin::Store(&partly)).report;
    assert_eq!(told(&report.unread), ["p/unread: can't be read"]);
    assert!(report.has_problems());
    let strict = MigrateOptions { strict: true, ..MigrateOptions::default() };
    match plan(&Origin::Store(&partly), &strict, &Silent) {
        Err(Error::NotMigrated { document, why }) => {
            assert_eq!(format!("{document}: {why}"), "p/unread: can't be read");
        }
        other => panic!("{other:?}"),
    }
    plan(&Origin::Store(&store(&root)), &strict, &Silent).unwrap();
}

#[test]
fn what_a_snapshot_lacks_is_told() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = old(scratch.path());
    let partly = back_up_store(&Partly(store(&root)), &repo, Scope::System).snapshot;
    let whole = back_up_store(&store(&root), &repo, Scope::System).snapshot;
    let lacks = format!("snapshot {}: 1 documents could not be read when the snapshot was taken", partly.id.short());
    assert_eq!(told(&migrate(&Origin::Snapshot(&repo, &partly)).report.unread), [lacks]);
    assert_eq!(told(&migrate(&Origin::Snapshot(&repo, &whole)).report.unread), [""; 0]);
}

#[test]
fn snapshot_of_the_new_layout_is_refused_even_if_it_holds_nothing() {
    let (scratch, (_, repo)) = (scratch(), create());
    let mut like = back_up_store(&store(&old(scratch.path())), &repo, Scope::System).snapshot;
    LAYOUT.name().clone_into(&mut like.manifest.layout);
    let empty = add_entries(&repo, &like, Vec::new());
    let result = plan(&Origin::Snapshot(&repo, &empty), &MigrateOptions::default(), &Silent);
    assert!(matches!(result, Err(Error::Unfit { unfit: Unfit::AlreadyNew, .. })), "{result:?}");
}

#[test]
fn what_a_migration_drops_need_not_be_sound() {
    let (scratch, (storage, repo)) = (scratch(), create());
    let root = old(scratch.path());
    put(&root, "sales/execute/large", noise(1, 600_000));
    let snapshot = back_up_store(&store(&root), &repo, Scope::System).snapshot;
    let length = |name: &String| storage.read(name).unwrap().len();
    let pack = storage.names().into_iter().filter(|name| name.starts_with("packs/")).max_by_key(length).unwrap();
    inflict(&storage, &pack, Harm::Flip(length(&pack) * 4));
    let repo = open(&storage);
    let hits: Vec<String> = check_everything(&repo).hits.iter().map(|hit| hit.path.to_string()).collect();
    assert_eq!(hits, ["sales/execute/large"]);
    assert_eq!(migrate(&Origin::Snapshot(&repo, &snapshot)).totals(), migrate(&Origin::Store(&store(&root))).totals());
}

#[test]
fn verify_knows_computed_columns_by_what_they_are_and_not_by_their_ids() {
    let scratch = scratch();
    let (root, new) = (old(scratch.path()), scratch.path().join("new"));
    let target = open_target(&new, Reading::Detect, LAYOUT.name()).unwrap().store;
    migrate(&Origin::Store(&store(&root))).write(&*target, &Silent).unwrap();
    // Smaller than the id that a migration gives.
    let other = "00000000-0000-0000-0000-000000000001";
    let written = files(&new);
    let column = written.keys().find(|name| name.starts_with("COMPUTE_COLUMN/")).unwrap();
    let id = column.trim_start_matches("COMPUTE_COLUMN/").trim_end_matches(".json");
    let renamed = format!("COMPUTE_COLUMN/{other}.json");
    fs::rename(new.join(column), new.join(&renamed)).unwrap();
    for name in files(&new).keys() {
        let content = fs::read_to_string(new.join(name)).unwrap();
        fs::write(new.join(name), content.replace(id, other)).unwrap();
    }
    // Neither of these is metadata.
    put(&new, "kylin.properties", "kylin.env=DEV");
    put(&new, ".DS_Store", "");
    let look = || -> Verification {
        let options = MigrateOptions::default();
        verify(&Origin::Store(&store(&root)), &Origin::Store(&*at(&new)), &options, &Silent).unwrap()
    };
    let found = look();
    assert!(!found.has_findings(), "{found:?}");
    assert_eq!(found.documents, written.len() as u64);
    edit(&new, &renamed, "\"datatype\"", "\"data_type\"");
    assert_eq!(look().deviations, [Deviation { name: renamed, kind: DeviationKind::Different }]);
}
