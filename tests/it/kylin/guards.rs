//! What a restore of Kylin's metadata refuses, and what it must not refuse.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use metastash::endpoint;
use metastash::endpoint::location::{Reading, open_target};
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::Error;
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::restore::{Allow, Mode, RestoreOptions, restore};
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use tempfile::TempDir;

use super::{
    IDENTITY, assert_refused, at, back_up, back_up_project, copy, edit, files, fixture, names_of, options, put, remove,
    restore_to, restoring, restoring_project, undo,
};
use crate::support::{create, scratch, view};

const ORDER_LINES: &str = "MODEL/6082c411-4a30-fdc0-3c7b-1b518c2c4788.json";
const SHOP_STOCK: &str = "MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac.json";
const NEW_MODEL: &str = "MODEL/00000000-aaaa-bbbb-cccc-000000000000.json";

/// Returns a copy of a fixture, and a snapshot of it.
fn saved(name: &str) -> (TempDir, PathBuf, Repository, Snapshot) {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture(name), &scratch.path().join("store"));
    let snapshot = back_up(&root, &repo).snapshot;
    (scratch, root, repo, snapshot)
}

fn allowing(options: &RestoreOptions, allow: Allow) -> RestoreOptions {
    RestoreOptions { allow, ..options.clone() }
}

fn same_alias() -> Allow {
    Allow { same_alias: true, ..Allow::default() }
}

fn model(alias: &str, project: &str) -> String {
    format!(r#"{{"uuid":"00000000-aaaa-bbbb-cccc-000000000000","project":"{project}","alias":"{alias}"}}"#)
}

/// The scopes in which models of the fixture can be restored.
fn scopes(mode: Mode) -> [RestoreOptions; 2] {
    [restoring(mode), restoring_project(mode, "learn_kylin")]
}

#[test]
fn two_models_of_one_alias_after_a_merge_are_refused_and_both_named() {
    for n in 0..2 {
        let (_scratch, root, repo, snapshot) = saved("learn_kylin");
        remove(&root, SHOP_STOCK);
        put(&root, NEW_MODEL, model("shop_stock", "learn_kylin"));
        let danger = assert_refused(&root, &repo, &snapshot, &scopes(Mode::Merge)[n]);
        for part in [
            "project learn_kylin would have 2 models named shop_stock",
            "learn_kylin/MODEL/00000000-aaaa-bbbb-cccc-000000000000",
            "learn_kylin/MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac",
        ] {
            assert!(danger.contains(part), "{danger}");
        }
        // A truncate removes the one that only the store has.
        let report = restore_to(&root, &repo, &snapshot, &scopes(Mode::Truncate)[n]).unwrap();
        assert!(!root.join(NEW_MODEL).exists() && root.join(SHOP_STOCK).exists());
        undo(&root, &repo, &report);
        restore_to(&root, &repo, &snapshot, &allowing(&scopes(Mode::Merge)[n], same_alias())).unwrap();
        assert!(root.join(NEW_MODEL).exists() && root.join(SHOP_STOCK).exists());
    }
}

#[test]
fn two_models_of_one_alias_are_refused_in_the_old_layout_too() {
    let (_scratch, root, repo, snapshot) = saved("kylin_old");
    let name = files(&root).into_keys().find(|name| name.starts_with("sales/model_desc/")).unwrap();
    remove(&root, &name);
    put(&root, "sales/model_desc/new.json", model("orders", "sales"));
    for options in [restoring(Mode::Merge), restoring_project(Mode::Merge, "sales")] {
        let danger = assert_refused(&root, &repo, &snapshot, &options);
        assert!(danger.contains(&name) && danger.contains("sales/model_desc/new.json"), "{danger}");
    }
}

#[test]
fn alias_that_an_updated_model_takes_is_seen_which_kylin_does_not() {
    let (_scratch, root, repo, snapshot) = saved("learn_kylin");
    // It is `order_lines` in the snapshot, and will be so again.
    edit(&root, ORDER_LINES, "\"alias\" : \"order_lines\"", "\"alias\" : \"renamed\"");
    put(&root, NEW_MODEL, model("order_lines", "learn_kylin"));
    for options in scopes(Mode::Merge) {
        assert_refused(&root, &repo, &snapshot, &options);
    }
}

#[test]
fn alias_that_an_updated_model_gives_up_is_free_which_kylin_does_not_see() {
    for options in scopes(Mode::Merge) {
        let (_scratch, root, repo, snapshot) = saved("learn_kylin");
        remove(&root, SHOP_STOCK);
        edit(&root, ORDER_LINES, "\"alias\" : \"order_lines\"", "\"alias\" : \"shop_stock\"");
        restore_to(&root, &repo, &snapshot, &options).unwrap();
        assert_eq!(back_up(&root, &repo).snapshot.manifest.root, snapshot.manifest.root);
    }
}

#[test]
fn aliases_that_two_models_swapped_are_swapped_back() {
    for mode in [Mode::Merge, Mode::Truncate] {
        for options in scopes(mode) {
            let (_scratch, root, repo, snapshot) = saved("learn_kylin");
            edit(&root, ORDER_LINES, "\"alias\" : \"order_lines\"", "\"alias\" : \"shop_stock\"");
            edit(&root, SHOP_STOCK, "\"alias\" : \"shop_stock\"", "\"alias\" : \"order_lines\"");
            restore_to(&root, &repo, &snapshot, &options).unwrap();
            assert_eq!(back_up(&root, &repo).snapshot.manifest.root, snapshot.manifest.root);
        }
    }
}

#[test]
fn duplicate_aliases_that_are_in_the_snapshot_or_were_there_before_are_no_reason_to_refuse() {
    let (scratch, root, repo, sound) = saved("learn_kylin");
    put(&root, NEW_MODEL, model("shop_stock", "learn_kylin"));
    // They were there before: a restore of something else goes on.
    edit(&root, ORDER_LINES, "\"description\"", "\"Description\"");
    restore_to(&root, &repo, &sound, &restoring(Mode::Merge)).unwrap();
    // All of them are in the snapshot: it is restored as it is.
    let snapshot = back_up(&root, &repo).snapshot;
    for mode in [Mode::Merge, Mode::Truncate] {
        remove(&root, SHOP_STOCK);
        restore_to(&root, &repo, &snapshot, &restoring(mode)).unwrap();
        restore_to(&scratch.path().join(format!("{mode:?}")), &repo, &snapshot, &restoring(mode)).unwrap();
    }
    // Another project may have a model of the name, and so may what is no model.
    put(&root, "SEGMENT/new.json", model("shop_stock", "learn_kylin"));
    remove(&root, NEW_MODEL);
    remove(&root, SHOP_STOCK);
    put(&root, NEW_MODEL, model("shop_stock", "retail"));
    restore_to(&root, &repo, &sound, &restoring(Mode::Merge)).unwrap();
}

#[test]
fn other_system_is_refused_but_for_single_projects() {
    let other = Allow { other_system: true, ..Allow::default() };
    for (name, identity, project) in [("learn_kylin", IDENTITY, "retail"), ("kylin_old", "UUID", "sales")] {
        for mode in [Mode::Merge, Mode::Truncate] {
            let (_scratch, root, repo, snapshot) = saved(name);
            let bytes = files(&root)[identity].0.clone();
            let uuid = String::from_utf8_lossy(if name == "kylin_old" { &bytes[2..] } else { &bytes[14..50] });
            put(&root, identity, String::from_utf8_lossy(&bytes).replace(&uuid[..8], "deadbeef"));
            let danger = assert_refused(&root, &repo, &snapshot, &restoring(mode));
            assert!(danger.contains("deadbeef") && danger.contains(&uuid[..8]), "{danger}");
            let changed = names_of(&files(&root), project).swap_remove(0);
            put(&root, &changed, [&files(&root)[&changed].0, &b"\n"[..]].concat());
            restore_to(&root, &repo, &snapshot, &restoring_project(mode, project)).unwrap();
            assert!(files(&root)[identity].0 != bytes, "a project is not the system");
            restore_to(&root, &repo, &snapshot, &allowing(&restoring(mode), other)).unwrap();
            assert!(files(&root)[identity].0 == bytes);
        }
    }
}

#[test]
fn backup_of_one_project_by_kylin_itself_does_not_become_the_whole_store() {
    for (name, project, identity) in
        [("learn_kylin", "retail", &[IDENTITY, "SYSTEM/_image.json"][..]), ("kylin_old", "sales", &["UUID"])]
    {
        let (scratch, root, repo, _) = saved(name);
        let all = files(&root);
        let native = scratch.path().join("native");
        for name in names_of(&all, project).iter().map(String::as_str).chain(identity.iter().copied()) {
            if !name.contains("OBJECT_ACL/") && !name.contains("_global/acl/") {
                put(&native, name, &all[name].0);
            }
        }
        let snapshot = back_up(&native, &repo).snapshot;
        let danger = assert_refused(&root, &repo, &snapshot, &restoring(Mode::Truncate));
        assert!(danger.contains(&format!("looks like a backup of project {project} only")), "{danger}");
        let others = all.len() - names_of(&all, project).len() - identity.len();
        assert!(danger.contains(&format!("would remove {others} documents of other projects")), "{danger}");
        // As a merge, or for that project, it is what it is meant for; that it lacks permissions is no reason to remove them.
        restore_to(&root, &repo, &snapshot, &restoring(Mode::Merge)).unwrap();
        for keep_permissions in [true, false] {
            let options = RestoreOptions { keep_permissions, ..restoring_project(Mode::Truncate, project) };
            let kept = restore_to(&root, &repo, &snapshot, &options).unwrap();
            assert_eq!((files(&root).len(), kept.plan.removals.len()), (all.len(), 0), "{}", kept.plan);
        }
        let allow = Allow { project_snapshot: true, ..Allow::default() };
        restore_to(&root, &repo, &snapshot, &allowing(&restoring(Mode::Truncate), allow)).unwrap();
        assert!(files(&root).keys().eq(files(&native).keys()), "what was allowed was done");
    }
}

#[test]
fn truncate_to_what_holds_no_project_is_refused_unless_it_was_so_before() {
    let (scratch, root, repo, whole) = saved("learn_kylin");
    let bare = scratch.path().join("bare");
    for name in [IDENTITY, "USER_INFO/ADMIN.json"] {
        put(&bare, name, &files(&root)[name].0);
    }
    let snapshot = back_up(&bare, &repo).snapshot;
    let danger = assert_refused(&root, &repo, &snapshot, &restoring(Mode::Truncate));
    let count = files(&root).len() - 2;
    assert!(danger.ends_with(&format!("holds no project; truncating would remove {count} documents")), "{danger}");
    restore_to(&root, &repo, &snapshot, &restoring(Mode::Merge)).unwrap();
    // What belongs to no project was named, and nothing else goes.
    let global = restore_to(&root, &repo, &snapshot, &restoring_project(Mode::Truncate, "_global")).unwrap();
    assert!(global.plan.removals.iter().all(|removal| removal.path.project() == Some(b"_global")), "{}", global.plan);
    assert!(!global.plan.removals.is_empty() && root.join("PROJECT/learn_kylin.json").exists());
    // A checkpoint is what the store was.
    let report = restore_to(&bare, &repo, &whole, &restoring(Mode::Merge)).unwrap();
    restore_to(&bare, &repo, report.checkpoint.as_ref().unwrap(), &restoring(Mode::Truncate)).unwrap();
    assert_eq!(files(&bare).len(), 2);
}

#[test]
fn identity_is_not_removed_though_nothing_else_is() {
    let (_scratch, root, repo, _) = saved("learn_kylin");
    let identity = files(&root)[IDENTITY].0.clone();
    remove(&root, IDENTITY);
    let snapshot = back_up(&root, &repo).snapshot;
    put(&root, IDENTITY, identity);
    let danger = assert_refused(&root, &repo, &snapshot, &restoring(Mode::Truncate));
    assert!(danger.contains("does not tell of which system it is"), "{danger}");
    assert!(restore_to(&root, &repo, &snapshot, &restoring(Mode::Merge)).unwrap().plan.is_empty());
}

#[test]
fn empty_source_is_refused() {
    let (scratch, root, repo, _) = saved("learn_kylin");
    let empty = scratch.path().join("empty");
    fs::create_dir_all(empty.join("core_meta/MODEL")).unwrap();
    let result = backup(&*at(&empty), &repo, &options(Scope::System), &Silent);
    assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
    let allowing_empty = BackupOptions { allow_empty: true, ..options(Scope::System) };
    let snapshot = backup(&*at(&empty), &repo, &allowing_empty, &Silent).unwrap().snapshot;
    assert_refused(&root, &repo, &snapshot, &restoring(Mode::Truncate));
    restore_to(&root, &repo, &snapshot, &restoring(Mode::Merge)).unwrap();
    let allow = Allow { empty: true, ..Allow::default() };
    let report = restore_to(&root, &repo, &snapshot, &allowing(&restoring(Mode::Truncate), allow)).unwrap();
    assert_eq!(files(&root).len(), 0);
    undo(&root, &repo, &report);
    assert!(files(&root).keys().eq(files(&fixture("learn_kylin")).keys()));
}

#[test]
fn same_document_of_another_project_is_not_lost_to_a_project_but_replaced_by_the_system() {
    for mode in [Mode::Merge, Mode::Truncate] {
        let (_scratch, root, repo, snapshot) = saved("learn_kylin");
        edit(&root, SHOP_STOCK, "\"project\" : \"learn_kylin\"", "\"project\" : \"retail\"");
        let danger = assert_refused(&root, &repo, &snapshot, &restoring_project(mode, "learn_kylin"));
        assert!(danger.contains("retail/MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac"), "{danger}");
        let report = restore_to(&root, &repo, &snapshot, &restoring(mode)).unwrap();
        assert_eq!((report.plan.puts.len(), report.plan.removals.len()), (1, 0), "{}", report.plan);
        assert_eq!(back_up(&root, &repo).snapshot.manifest.root, snapshot.manifest.root);
        let total = report.plan.total();
        assert_eq!((total.add, total.replace, total.remove, total.keep), (0, 1, 0, 0), "{total:?}");
        undo(&root, &repo, &report);
        assert_eq!(back_up(&root, &repo).snapshot.manifest.documents, snapshot.manifest.documents);
    }
}

#[test]
fn what_does_not_tell_its_project_is_mended_with_the_project_that_has_it_in_the_snapshot() {
    // A model whose JSON is broken, and permissions whose project is not known since its document is broken.
    for broken in [SHOP_STOCK, "PROJECT/learn_kylin.json"] {
        for options in [restoring_project(Mode::Merge, "learn_kylin"), restoring(Mode::Truncate)] {
            let (_scratch, root, repo, snapshot) = saved("learn_kylin");
            put(&root, broken, "{");
            let report = restore_to(&root, &repo, &snapshot, &options).unwrap();
            // Permissions that were nobody's are put again as those of the project.
            let puts = if broken != SHOP_STOCK && options.project.is_none() { 2 } else { 1 };
            assert_eq!((report.plan.puts.len(), report.plan.removals.len()), (puts, 0), "{}", report.plan);
            assert_eq!(back_up(&root, &repo).snapshot.manifest.root, snapshot.manifest.root);
            undo(&root, &repo, &report);
            assert_eq!(files(&root)[broken].0, b"{", "the checkpoint has what was broken");
        }
    }
}

#[test]
fn keep_permissions_leaves_those_that_are_no_longer_known_to_be_of_the_project() {
    let permissions = "OBJECT_ACL/29685d8f-0477-7c70-c96f-95c2a3d90b6b.json";
    for options in [restoring(Mode::Truncate), restoring_project(Mode::Truncate, "learn_kylin")] {
        let (_scratch, root, repo, snapshot) = saved("learn_kylin");
        remove(&root, "PROJECT/learn_kylin.json");
        edit(&root, permissions, "\"entriesInheriting\" : true", "\"entriesInheriting\" : false");
        let kept = files(&root)[permissions].clone();
        let keeping = RestoreOptions { keep_permissions: true, ..options };
        let report = restore_to(&root, &repo, &snapshot, &keeping).unwrap();
        assert_eq!((report.plan.left, report.plan.puts.len(), report.plan.removals.len()), (1, 1, 0));
        assert_eq!(report.plan.same, snapshot_documents(&repo, &snapshot, &report.plan.scope) - 2);
        assert!(root.join("PROJECT/learn_kylin.json").exists() && files(&root)[permissions] == kept);
    }
}

fn snapshot_documents(repo: &Repository, snapshot: &Snapshot, scope: &Scope) -> u64 {
    let entries = crate::support::entries(repo, snapshot).unwrap();
    entries.iter().filter(|entry| scope.contains(&entry.path)).count() as u64
}

#[test]
fn snapshot_of_another_layout_is_refused() {
    let plain = scratch();
    put(plain.path(), "p/a", "of no platform");
    let sources = [fixture("learn_kylin"), fixture("kylin_old"), plain.path().to_owned()];
    for (n, source) in sources.iter().enumerate() {
        for (_, target) in sources.iter().enumerate().filter(|(m, _)| *m != n) {
            let (scratch, (_, repo)) = (scratch(), create());
            let snapshot = back_up(source, &repo).snapshot;
            let root = copy(target, &scratch.path().join("target"));
            let before = view(&root);
            for mode in [Mode::Merge, Mode::Truncate] {
                let result = restore_to(&root, &repo, &snapshot, &restoring(mode));
                let is_refused = matches!(result, Err(Error::Endpoint(endpoint::Error::OtherLayout { .. })));
                assert!(is_refused, "{source:?} to {target:?}: {result:?}");
            }
            assert!(view(&root) == before);
        }
    }
}

#[test]
fn side_documents_without_a_place_are_told_and_nothing_is_lost() {
    let (_scratch, root, repo, snapshot) = saved("kylin_backup");
    let before = files(&root);
    let core = root.join("core_meta");
    for mode in [Mode::Merge, Mode::Truncate] {
        for name in names_of(&files(&core), "travel") {
            put(&core, &name, [&files(&core)[&name].0, &b"\n"[..]].concat());
        }
        let report = restore_to(&core, &repo, &snapshot, &restoring_project(mode, "travel")).unwrap();
        let mut left_out: Vec<String> = report.plan.left_out.iter().map(ToString::to_string).collect();
        left_out.retain(|path| !path.starts_with("travel/job_info/"));
        assert_eq!(report.plan.left_out.len(), 3);
        assert_eq!(left_out, ["travel/favorite_rule/1", "travel/query_history_id_offset/1_meta"]);
        assert!(files(&root) == before, "what lies beside the documents is as it was");
    }
    let report = restore_to(&core, &repo, &snapshot, &restoring(Mode::Truncate)).unwrap();
    assert_eq!((report.plan.left_out.len(), report.plan.is_empty()), (5, true));
    assert!(files(&root) == before);
}

fn assert_in_the_way(root: &Path, repo: &Repository, snapshot: &Snapshot) {
    let before = view(root);
    let count = repo.snapshots().unwrap().snapshots.len();
    for mode in [Mode::Merge, Mode::Truncate] {
        for checkpoint in [true, false] {
            for options in scopes(mode) {
                let located = open_target(root, Reading::Detect, &snapshot.manifest.layout).unwrap();
                let options = RestoreOptions { checkpoint, ..options };
                let result = restore(&*located.store, repo, snapshot, &options, &Silent);
                let is_in_the_way = matches!(result, Err(Error::Endpoint(endpoint::Error::InTheWay { .. })));
                assert!(is_in_the_way, "{result:?}");
                assert!(view(root) == before);
                // `undo` would go back to it, in place of the state before the last change.
                assert_eq!(repo.snapshots().unwrap().snapshots.len(), count, "no checkpoint of nothing is left");
            }
        }
    }
}

#[test]
fn symlink_in_the_place_of_a_document_or_above_it_is_in_the_way() {
    let (scratch, root, repo, snapshot) = saved("learn_kylin");
    let outside = scratch.path().join("outside");
    put(&outside, "x.json", "not of this store");
    let document = fs::read(root.join(ORDER_LINES)).unwrap();
    remove(&root, ORDER_LINES);
    symlink(outside.join("x.json"), root.join(ORDER_LINES)).unwrap();
    assert_in_the_way(&root, &repo, &snapshot);
    remove(&root, ORDER_LINES);
    put(&root, ORDER_LINES, document);
    fs::rename(root.join("SEGMENT"), outside.join("SEGMENT")).unwrap();
    symlink(outside.join("SEGMENT"), root.join("SEGMENT")).unwrap();
    let seen = view(&outside);
    assert_in_the_way(&root, &repo, &snapshot);
    assert!(view(&outside) == seen);
}

#[test]
fn directory_in_the_place_of_a_document_is_in_the_way() {
    let (_scratch, root, repo, snapshot) = saved("learn_kylin");
    remove(&root, ORDER_LINES);
    fs::create_dir(root.join(ORDER_LINES)).unwrap();
    assert_in_the_way(&root, &repo, &snapshot);
    put(&root, &format!("{ORDER_LINES}/file"), "in it");
    assert_eq!(back_up_project(&root, &repo, "retail").counts.skipped, 0);
}
