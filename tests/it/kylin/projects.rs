//! Restoring one project leaves everything else alone: byte for byte, and time for time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use metastash::ops::restore::{Mode, RestoreOptions};
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;

use super::{
    Case, File, Files, age, at, back_up, back_up_project, cases, copy, edit, files, fixture, names_of, owners, put,
    remove, restore_to, restoring_project, undo,
};
use crate::support::{assert_sound, create, project, scratch, settle};

/// A store that was saved and then changed all over.
struct Changed {
    root: PathBuf,
    /// What it was when it was saved, and is now.
    before: Files,
    now: Files,
}

impl Changed {
    /// Changes, removes and adds documents of two projects and of none, and files that are no documents.
    fn new(case: &Case, root: PathBuf) -> Self {
        let before = files(&root);
        for project in [case.one, case.other] {
            let names = names_of(&before, project);
            assert!(names.len() > 6, "{project} is too small: {names:?}");
            let is_own = |name: &&String| !name.contains("PROJECT/") && !name.contains("_global/");
            let own: Vec<&String> = names.iter().filter(is_own).collect();
            for (n, name) in own.iter().enumerate() {
                let bytes = &before[*name].0;
                match n % 4 {
                    0 => put(&root, name, [bytes, &b" \n"[..]].concat()),
                    1 => remove(&root, name),
                    2 => age(&root, name, 5_000_000), // The content stays: there is nothing to put back.
                    _ => {}
                }
            }
            // And some that are new.
            let (table, rule) = (format!(r#"{{"uuid":"new","project":"{project}"}}"#), "{}");
            if before.contains_key("UUID") {
                put(&root, &format!("{project}/table/NEW.TABLE.json"), table);
                put(&root, &format!("{project}/new_folder/deep/file"), rule);
            } else if before.keys().any(|name| name.starts_with("core_meta/")) {
                put(&root, &format!("core_meta/TABLE_INFO/{project}.NEW.TABLE.json"), table);
                put(&root, &format!("job_info/{project}/new.json"), rule);
            } else {
                put(&root, &format!("TABLE_INFO/{project}.NEW.TABLE.json"), table);
                put(&root, &format!("JAR_INFO/{project}.NEW.jar.json"), format!(r#"{{"project":"{project}"}}"#));
            }
        }
        let global: Vec<String> = names_of_none(&before);
        put(&root, &global[0], b"{\"changed\":\"globally\"}");
        put(&root, "stray/file", b"of nobody");
        put(&root, "stray.txt", b"of nobody");
        for (n, name) in files(&root).keys().enumerate().filter(|(_, name)| !before.contains_key(*name)) {
            age(&root, name, 6_000_000 + n as u64);
        }
        settle();
        let now = files(&root);
        Self { root, before, now }
    }

    /// Returns what must be there after one project is restored.
    fn expected(&self, project: &str, mode: Mode) -> Files {
        let mut expected = self.now.clone();
        let of_now = names_of(&self.now, project);
        if mode == Mode::Truncate {
            of_now.iter().for_each(|name| drop(expected.remove(name)));
        }
        for name in names_of(&self.before, project) {
            let file = self.now.get(&name).filter(|now| now.0 == self.before[&name].0).unwrap_or(&self.before[&name]);
            expected.insert(name, file.clone());
        }
        expected
    }
}

fn names_of_none(files: &Files) -> Vec<String> {
    let none = owners(files).into_iter().filter(|(name, owner)| owner.is_none() && name.contains('/'));
    none.map(|(name, _)| name).filter(|name| !name.contains("PROJECT/") && !name.contains("SYSTEM/")).collect()
}

#[track_caller]
fn assert_same(found: &Files, expected: &Files) {
    let differing = |a: &Files, b: &Files| -> Vec<String> {
        a.iter().filter(|(name, file)| b.get(*name) != Some(file)).map(|(name, _)| name.clone()).collect()
    };
    assert!(
        found == expected,
        "found but not expected so: {:#?}\nexpected but not found so: {:#?}",
        differing(found, expected),
        differing(expected, found)
    );
}

/// Runs for every case, from the snapshot of a project and from one of the whole system.
fn for_each_snapshot(test: impl Fn(&Case, &Path, &Repository, &Snapshot)) {
    for case in cases() {
        for of_project in [true, false] {
            eprintln!("{} from a {} snapshot", case.source.display(), if of_project { "project" } else { "system" });
            let (scratch, (_, repo)) = (scratch(), create());
            let root = copy(&case.source, &scratch.path().join("store"));
            let report = if of_project { back_up_project(&root, &repo, case.one) } else { back_up(&root, &repo) };
            test(&case, &root, &repo, &report.snapshot);
            assert_sound(&repo);
        }
    }
}

#[test]
fn restore_of_a_project_touches_nothing_else_and_undo_puts_everything_back() {
    for_each_snapshot(|case, root, repo, snapshot| {
        let changed = Changed::new(case, root.to_owned());
        for mode in [Mode::Merge, Mode::Truncate] {
            let report = restore_to(root, repo, snapshot, &restoring_project(mode, case.one)).unwrap();
            assert_same(&files(root), &changed.expected(case.one, mode));
            // What was restored is what it was before; in a truncate, all of it.
            let added =
                names_of(&changed.now, case.one).iter().filter(|name| !changed.before.contains_key(*name)).count();
            let total = report.plan.total();
            let kept_or_removed = if mode == Mode::Merge { total.keep } else { total.remove };
            assert_eq!((kept_or_removed, added), (2, 2), "{total:?}");
            undo(&changed.root, repo, &report);
            assert_same(&files(root), &changed.now);
        }
    });
}

#[test]
fn second_restore_of_a_project_finds_nothing_to_do() {
    for_each_snapshot(|case, root, repo, snapshot| {
        Changed::new(case, root.to_owned());
        restore_to(root, repo, snapshot, &restoring_project(Mode::Truncate, case.one)).unwrap();
        let again = restore_to(root, repo, snapshot, &restoring_project(Mode::Truncate, case.one)).unwrap();
        assert!(again.plan.is_empty() && again.checkpoint.is_none(), "{}", again.plan);
        // What is in the store of the project now is what is in the snapshot.
        let now = back_up_project(root, repo, case.one).snapshot;
        let of_project =
            |snapshot: &Snapshot| repo.tree(&snapshot.manifest.tree).unwrap().projects[case.one.as_bytes()];
        assert_eq!(of_project(&now), of_project(snapshot));
    });
}

#[test]
fn project_that_is_gone_is_recreated_with_its_permissions() {
    for_each_snapshot(|case, root, repo, snapshot| {
        let before = files(root);
        names_of(&before, case.one).iter().for_each(|name| remove(root, name));
        settle();
        let without = files(root);
        for mode in [Mode::Merge, Mode::Truncate] {
            let report = restore_to(root, repo, snapshot, &restoring_project(mode, case.one)).unwrap();
            assert_same(&files(root), &before);
            undo(root, repo, &report);
            assert_same(&files(root), &without);
        }
    });
}

#[test]
fn project_that_was_recreated_with_another_uuid_is_as_it_was_after_a_truncate() {
    for case in cases().into_iter().filter(|case| !case.source.ends_with("localmeta")) {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&case.source, &scratch.path().join("store"));
        let snapshot = back_up(&root, &repo).snapshot;
        let before = files(&root);
        let document = before.keys().find(|name| is_document_of(name, case.one)).unwrap();
        let permissions = permissions_of(&before, case.one);
        let uuid = permissions.rsplit('/').next().unwrap().trim_end_matches(".json");
        edit(&root, document, uuid, "00000000-aaaa-bbbb-cccc-000000000000");
        let new = permissions.replace(uuid, "00000000-aaaa-bbbb-cccc-000000000000");
        std::fs::rename(root.join(&permissions), root.join(&new)).unwrap();
        settle();
        let now = files(&root);
        let report = restore_to(&root, &repo, &snapshot, &restoring_project(Mode::Truncate, case.one)).unwrap();
        assert_same(&files(&root), &before);
        undo(&root, &repo, &report);
        assert_same(&files(&root), &now);
    }
}

fn is_document_of(name: &str, project: &str) -> bool {
    name.ends_with(&format!("PROJECT/{project}.json")) || name.ends_with(&format!("_global/project/{project}.json"))
}

/// Returns the name of the document with the permissions on a project.
fn permissions_of(files: &Files, project: &str) -> String {
    let names = names_of(files, project);
    names.into_iter().find(|name| name.contains("OBJECT_ACL/") || name.contains("_global/acl/")).unwrap()
}

#[test]
fn keep_permissions_leaves_changed_ones_and_puts_missing_ones() {
    for case in cases().into_iter().filter(|case| !case.source.ends_with("localmeta")) {
        for checkpoint in [true, false] {
            let (scratch, (_, repo)) = (scratch(), create());
            let root = copy(&case.source, &scratch.path().join("store"));
            let snapshot = back_up(&root, &repo).snapshot;
            let permissions = permissions_of(&files(&root), case.one);
            edit(&root, &permissions, "\"entriesInheriting\" : true", "\"entriesInheriting\" : false");
            let changed = files(&root)[&permissions].clone();
            let keeping = |keep_permissions| RestoreOptions {
                keep_permissions,
                checkpoint,
                ..restoring_project(Mode::Truncate, case.one)
            };
            let report = restore_to(&root, &repo, &snapshot, &keeping(true)).unwrap();
            assert_eq!((report.plan.left, report.plan.is_empty()), (1, true), "{}", report.plan);
            assert_eq!(files(&root)[&permissions], changed);
            let report = restore_to(&root, &repo, &snapshot, &keeping(false)).unwrap();
            assert_eq!((report.plan.left, report.plan.puts.len()), (0, 1), "{}", report.plan);
            assert_ne!(files(&root)[&permissions], changed);
            remove(&root, &permissions);
            let report = restore_to(&root, &repo, &snapshot, &keeping(true)).unwrap();
            assert_eq!((report.plan.left, report.plan.puts.len()), (0, 1), "{}", report.plan);
            assert!(files(&root).contains_key(&permissions));
        }
    }
}

#[test]
fn keep_permissions_holds_for_the_whole_system_too() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    let snapshot = back_up(&root, &repo).snapshot;
    let before = files(&root);
    let (one, other) = (permissions_of(&before, "learn_kylin"), permissions_of(&before, "retail"));
    put(&root, &one, b"{}");
    put(&root, "OBJECT_ACL/of-no-project.json", b"{}");
    remove(&root, &other);
    edit(&root, "USER_INFO/ADMIN.json", "\"locked\" : false", "\"locked\" : true");
    let options = RestoreOptions { keep_permissions: true, ..super::restoring(Mode::Truncate) };
    let report = restore_to(&root, &repo, &snapshot, &options).unwrap();
    assert_eq!((report.plan.left, report.plan.puts.len(), report.plan.removals.len()), (1, 2, 0), "{}", report.plan);
    let mut expected = before;
    let kept: BTreeMap<String, File> =
        files(&root).into_iter().filter(|(name, _)| *name == one || name.contains("of-no-project")).collect();
    assert_eq!(kept.values().map(|file| &file.0[..]).collect::<Vec<_>>(), [b"{}", b"{}"]);
    expected.extend(kept);
    assert_same(&files(&root), &expected);
}

#[test]
fn project_snapshot_holds_the_project_and_nothing_else() {
    for case in cases() {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&case.source, &scratch.path().join("store"));
        let report = back_up_project(&root, &repo, case.one);
        let expected = names_of(&files(&root), case.one).len() as u64;
        assert_eq!((report.snapshot.manifest.documents, report.counts.new), (expected, expected));
        assert_eq!(report.snapshot.manifest.scope, project(case.one));
        let tree = repo.tree(&report.snapshot.manifest.tree).unwrap();
        assert_eq!(tree.projects.keys().map(|name| name.to_vec()).collect::<Vec<_>>(), [case.one.as_bytes()]);
        // The same as in a snapshot of everything.
        let all = repo.tree(&back_up(&root, &repo).snapshot.manifest.tree).unwrap();
        assert_eq!(all.projects[case.one.as_bytes()], tree.projects[case.one.as_bytes()]);
        assert_eq!(at(&root).layout(), report.snapshot.manifest.layout);
    }
}
