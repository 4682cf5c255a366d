//! What would likely lose data is refused, unless it is explicitly allowed.

use std::fs;
use std::path::Path;

use metastash::endpoint;
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::Error;
use metastash::ops::backup::{BackupOptions, backup, plan_backup};
use metastash::ops::restore::{Allow, Mode, RestoreOptions, plan_restore, restore};
use metastash::repo::Repository;
use metastash::repo::snapshot::{Manifest, Snapshot};

use crate::support::{
    Partly, author, back_up, back_up_with, below, create, options, project, restore_into, scratch, snapshots, store,
    view, write,
};

fn truncate(allow: Allow) -> RestoreOptions {
    RestoreOptions { mode: Mode::Truncate, allow, ..RestoreOptions::new(author()) }
}

/// Asserts that a truncate is refused, planned or done, and changes nothing; that a merge is not; and that `allow` lets
/// it pass.
fn assert_guarded(target: &Path, repo: &Repository, snapshot: &Snapshot, allow: Allow) {
    let before = view(target);
    let refused = truncate(Allow::default());
    let result = plan_restore(&store(target), repo, snapshot, &refused, &Silent);
    assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
    let count = snapshots(repo).len();
    let result = restore(&store(target), repo, snapshot, &refused, &Silent);
    assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
    assert_eq!(view(target), before);
    assert_eq!(snapshots(repo).len(), count, "nothing is written either");
    assert!(restore_into(target, repo, snapshot, Mode::Merge).is_ok());
    restore(&store(target), repo, snapshot, &truncate(allow), &Silent).unwrap();
}

#[test]
fn truncate_from_an_empty_snapshot_is_refused() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    fs::create_dir(&source).unwrap();
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    write(&target, "p/a", b"not to be lost");
    assert_guarded(&target, &repo, &snapshot, Allow { empty: true, ..Allow::default() });
    assert_eq!(view(&target).len(), 0);
}

#[test]
fn truncate_from_a_project_that_is_empty_in_the_snapshot_is_refused() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    fs::create_dir_all(source.join("p")).unwrap();
    let (_, repo) = create();
    let of_project = BackupOptions { scope: project("p"), ..options() };
    let snapshot = back_up_with(&source, &repo, &of_project).unwrap().snapshot;
    write(&source, "p/a", b"not to be lost");
    let refused = RestoreOptions { project: Some(project("p")), ..truncate(Allow::default()) };
    let result = restore(&store(&source), &repo, &snapshot, &refused, &Silent);
    assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
    assert_eq!(view(&source).len(), 2);
}

#[test]
fn truncate_of_everything_from_a_project_snapshot_is_refused() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    write(&source, "p/a", b"1");
    write(&source, "q/b", b"2");
    let (_, repo) = create();
    let of_project = BackupOptions { scope: project("p"), ..options() };
    let snapshot = back_up_with(&source, &repo, &of_project).unwrap().snapshot;
    // With the project named it is about the project only, and fine.
    let named = RestoreOptions { project: Some(project("p")), ..truncate(Allow::default()) };
    restore(&store(&source), &repo, &snapshot, &named, &Silent).unwrap();
    assert_eq!(view(&source).len(), 4);
    // So is a merge, whether it is named or not.
    let plan = plan_restore(&store(&source), &repo, &snapshot, &RestoreOptions::new(author()), &Silent).unwrap();
    assert_eq!(plan.scope, project("p"));
    assert_guarded(&source, &repo, &snapshot, Allow { project_snapshot: true, ..Allow::default() });
    assert_eq!(view(&source).len(), 2, "what was allowed was done");
}

#[test]
fn truncate_from_an_incomplete_snapshot_is_refused() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    write(&source, "p/a", b"1");
    let (_, repo) = create();
    let report = backup(&Partly(store(&source)), &repo, &options(), &Silent).unwrap();
    assert!(report.counts.unread == 1 && report.snapshot.manifest.is_incomplete());
    write(&source, "p/b", b"which may be what was not read");
    assert_guarded(&source, &repo, &report.snapshot, Allow { incomplete: true, ..Allow::default() });
    assert!(!below(&source, "p/b").exists());
}

#[test]
fn second_snapshot_with_a_label_is_refused() {
    let scratch = scratch();
    write(scratch.path(), "p/a", b"1");
    let (storage, repo) = create();
    let labeled = BackupOptions { label: Some("before upgrade".to_owned()), ..options() };
    let first = back_up_with(scratch.path(), &repo, &labeled).unwrap();
    write(scratch.path(), "p/b", b"something to store");
    let names = storage.names();
    let result = back_up_with(scratch.path(), &repo, &labeled);
    assert!(matches!(result, Err(Error::LabelTaken { .. })), "{result:?}");
    assert_eq!(storage.names(), names, "nothing was written");
    let found = repo.find_snapshot(&"before upgrade".parse().unwrap(), |_: &Manifest| true).unwrap();
    assert_eq!(found, first.snapshot);
}

#[test]
fn empty_store_is_refused_and_not_taken_for_everything_removed() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    write(&source, "p/a", b"1");
    let (storage, repo) = create();
    back_up(&source, &repo);
    fs::remove_dir_all(source.join("p")).unwrap();
    fs::create_dir(source.join("directories only")).unwrap();
    let names = storage.names();
    let careful = BackupOptions { allow_empty: false, ..options() };
    for careful in [careful.clone(), BackupOptions { force: true, ..careful.clone() }] {
        let result = back_up_with(&source, &repo, &careful);
        assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
        let plan = plan_backup(&store(&source), &repo, &careful, &Silent);
        assert!(matches!(plan, Err(Error::Refused { .. })), "{plan:?}");
    }
    assert_eq!(storage.names(), names, "nothing was written");
    assert_eq!(back_up(&source, &repo).counts.removed, 1, "and it is possible when it is meant");
}

#[test]
fn refused_first_backup_makes_no_repository() {
    let scratch = scratch();
    let storage = metastash::storage::memory::MemoryStorage::new();
    let repo = Repository::create_when_needed(std::sync::Arc::new(storage.clone()), crate::support::config());
    let careful = BackupOptions { allow_empty: false, ..options() };
    assert!(matches!(back_up_with(scratch.path(), &repo, &careful), Err(Error::Refused { .. })));
    assert!(storage.names().is_empty());
}

#[test]
fn project_that_is_not_there_is_an_error_on_either_side() {
    let scratch = scratch();
    write(scratch.path(), "p/a", b"1");
    let (_, repo) = create();
    let missing = BackupOptions { scope: project("q"), ..options() };
    let result = back_up_with(scratch.path(), &repo, &missing);
    assert!(matches!(result, Err(Error::Endpoint(endpoint::Error::NoProject { .. }))), "{result:?}");
    let snapshot = back_up(scratch.path(), &repo).snapshot;
    let wanted = RestoreOptions { project: Some(project("q")), ..truncate(Allow::default()) };
    let result = restore(&store(scratch.path()), &repo, &snapshot, &wanted, &Silent);
    assert!(matches!(result, Err(Error::NotInSnapshot { scope: Scope::Project(_), .. })), "{result:?}");
}
