//! Restore and undo.

use std::fs;

use super::{Sandbox, lines, state};

/// A store that was backed up and then changed: one document other, one gone, one new.
fn changed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label good");
    sandbox.write("store/NOTES", "changed\n");
    sandbox.write("store/new", "n\n");
    fs::remove_dir_all(sandbox.path("store/stock")).unwrap();
    sandbox.settle();
    sandbox
}

#[test]
fn restore_merges_by_default() {
    let sandbox = changed();
    let expected = "checkpoint ID saved: `metastash undo` puts it back
        restored all of snapshot ID: 1 document added, 1 replaced, 0 removed, 1 kept that only the store has, 1 unchanged, \
        wrote 12 B, N s";
    assert_eq!(sandbox.done("restore good --store store"), lines(expected));
    assert_eq!(sandbox.read("store/NOTES"), "top\n");
    assert_eq!(sandbox.read("store/stock/model/shelf.json"), "{\"b\":2}\n");
    assert_eq!(sandbox.read("store/new"), "n\n");
}

#[test]
fn restore_truncate_removes_what_only_the_store_has() {
    let sandbox = changed();
    let expected = "checkpoint ID saved: `metastash undo` puts it back
        restored all of snapshot ID: 1 document added, 1 replaced, 1 removed, 0 kept that only the store has, 1 unchanged, \
        wrote 12 B, N s";
    assert_eq!(sandbox.done("restore good --after-truncate --store store"), lines(expected));
    assert!(!sandbox.path("store/new").exists());
    assert!(sandbox.done("diff good live --store store").starts_with("0 added, 0 removed, 0 changed, 0 "));
}

#[test]
fn restore_of_a_project_leaves_the_rest() {
    let sandbox = changed();
    sandbox.done("restore good --project stock --store store --after-truncate");
    assert_eq!(sandbox.read("store/stock/model/shelf.json"), "{\"b\":2}\n");
    assert_eq!(sandbox.read("store/NOTES"), "changed\n");
    assert_eq!(sandbox.read("store/new"), "n\n");
}

#[test]
fn restore_dry_run_shows_the_plan_and_changes_nothing() {
    let sandbox = changed();
    let before = state(sandbox.folder.path());
    let expected = "M NOTES\n+ stock/\n+ stock/model/\n+ stock/model/shelf.json\n- new
        project kind add replace remove keep
        - - 0 1 1 0
        stock model 1 0 0 0
        would restore all of snapshot ID: 1 document added, 1 replaced, 1 removed, 0 kept that only the store has, 1 unchanged; \
        nothing was changed";
    assert_eq!(sandbox.done("restore good --after-truncate --dry-run --store store"), lines(expected));
    assert!(before == state(sandbox.folder.path()));
}

#[test]
fn restore_into_a_place_that_does_not_exist() {
    let sandbox = changed();
    sandbox.done("restore good --store elsewhere");
    assert_eq!(sandbox.read("elsewhere/stock/model/shelf.json"), "{\"b\":2}\n");
    assert_eq!(sandbox.read("store/NOTES"), "changed\n");
    let expected = "error: refused: the store was empty before that restore (system): undoing it would remove \
                    everything in it
        hint: `--allow-empty` accepts that";
    sandbox.refused("undo --store elsewhere", 14, expected);
    sandbox.done("undo --allow-empty --store elsewhere");
    assert_eq!(fs::read_dir(sandbox.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn restore_dry_run_into_a_place_that_does_not_exist() {
    let sandbox = changed();
    let before = state(sandbox.folder.path());
    let said = sandbox.done("restore good --dry-run --store elsewhere");
    assert!(
        said.contains("would restore all of snapshot ID: 3 documents added, 0 replaced, 0 removed, 0 kept"),
        "{said}"
    );
    assert!(before == state(sandbox.folder.path()));
}

#[test]
fn restore_without_checkpoint_into_a_place_that_does_not_exist() {
    let sandbox = changed();
    let said = sandbox.done("restore good --no-checkpoint --store elsewhere");
    assert!(said.starts_with("restored all of snapshot ID: 3 documents added,"), "{said}");
    assert_eq!(sandbox.read("elsewhere/NOTES"), "top\n");
}

#[test]
fn latest_is_that_of_the_named_store() {
    let sandbox = changed();
    sandbox.write("other/x", "x\n");
    sandbox.done("backup --store other");
    assert!(sandbox.done("restore latest --dry-run --store store").contains("M NOTES"));
    // With fewer backups of this store, another store's is not what is meant.
    let expected = "error: there is no snapshot `latest~1`\nhint: `metastash snapshots` lists all";
    sandbox.refused("restore latest~1 --store store", 1, expected);
    assert_eq!(sandbox.done("cat latest:x --store nowhere"), "x\n");
}

#[test]
fn undo_puts_back_the_store_and_undo_of_undo_takes_that_back() {
    let sandbox = changed();
    let broken = state(&sandbox.path("store"));
    sandbox.done("restore good --after-truncate --store store");
    let restored = state(&sandbox.path("store"));
    let expected = "checkpoint ID saved: `metastash undo` puts it back
        restored all of snapshot ID: 1 document added, 1 replaced, 1 removed, 0 kept that only the store has, 1 unchanged, \
        wrote 10 B, N s";
    assert_eq!(sandbox.done("undo --store store"), lines(expected));
    assert!(without_empty(&broken) == without_empty(&state(&sandbox.path("store"))));
    sandbox.done("undo --store store");
    assert!(restored == state(&sandbox.path("store")));
}

/// A directory that was there before stays, or goes, as its documents do; what counts are these.
fn without_empty(state: &super::State) -> super::State {
    state.iter().filter(|(_, entry)| !entry.2.is_empty()).map(|(path, entry)| (path.clone(), entry.clone())).collect()
}

#[test]
fn undo_dry_run_changes_nothing() {
    let sandbox = changed();
    sandbox.done("restore good --store store");
    let before = state(sandbox.folder.path());
    assert!(sandbox.done("undo --dry-run --store store").starts_with("M NOTES\n- stock"));
    assert!(before == state(sandbox.folder.path()));
}

#[test]
fn undo_without_a_checkpoint() {
    let sandbox = changed();
    sandbox.done("restore good --no-checkpoint --store store");
    let expected = "error: the repository has no checkpoint of [here]/store
        hint: `restore` takes one of the same store unless told not to; `metastash snapshots` lists all";
    sandbox.refused("undo --store store", 1, expected);
}

#[test]
fn checkpoints_are_not_latest_and_are_named_by_id() {
    let sandbox = changed();
    sandbox.done("restore good --store store");
    let ids = sandbox.ids("meta_backups");
    assert_eq!(sandbox.done("cat latest:NOTES"), "top\n");
    assert_eq!(sandbox.done(&format!("cat {}:NOTES", ids[1])), "changed\n");
    assert!(sandbox.done("snapshots").contains("checkpoint before restoring ID"));
}

#[test]
fn truncate_from_an_empty_snapshot_needs_a_flag() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("nothing")).unwrap();
    sandbox.done("backup --store nothing --allow-empty --label none");
    let expected = "error: refused: snapshot ID holds no document of this scope (system); truncating would remove \
                    everything in it
        hint: `--allow-empty` accepts that";
    sandbox.refused("restore none --after-truncate --store store", 14, expected);
    sandbox.done("restore none --after-truncate --allow-empty --store store");
    assert_eq!(fs::read_dir(sandbox.path("store")).unwrap().count(), 0);
    sandbox.done("undo --store store");
    assert_eq!(sandbox.read("store/NOTES"), "top\n");
}

#[test]
fn truncate_from_a_snapshot_of_a_project_needs_a_flag() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --project sales");
    let expected =
        "error: refused: snapshot ID holds project sales only; truncating the whole store would remove all else
        hint: name the project with `--project`, or accept it with `--allow-project-snapshot`";
    sandbox.refused("restore latest --after-truncate --store store", 14, expected);
    sandbox.done("restore latest --after-truncate --project sales --store store");
    assert_eq!(sandbox.read("store/NOTES"), "top\n");
    sandbox.done("restore latest --after-truncate --allow-project-snapshot --store store");
    assert!(!sandbox.path("store/NOTES").exists());
    assert!(sandbox.path("store/sales/model/orders.json").exists());
}

#[test]
fn truncate_from_an_incomplete_snapshot_needs_a_flag() {
    let sandbox = Sandbox::new();
    super::names::make_too_deep(&sandbox.path("store/deep"));
    let ran = sandbox.run("backup --store store");
    assert_eq!(ran.code, 3);
    fs::remove_dir_all(sandbox.path("store/deep")).unwrap();
    let expected =
        "error: refused: documents that could not be read when snapshot ID was taken (1) may be removed by truncating
        hint: restore without `--after-truncate`, or accept it with `--allow-incomplete`";
    sandbox.refused("restore latest --after-truncate --store store", 14, expected);
    let ran = sandbox.run("restore latest --after-truncate --allow-incomplete --store other");
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.ends_with("is incomplete: what could not be read when it was taken (1) is not in it\n"));
    assert_eq!(sandbox.read("other/NOTES"), "top\n");
    assert!(sandbox.done("snapshots").contains(" incomplete "));
}

#[test]
fn restore_is_refused_where_something_else_is_in_the_way() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    fs::remove_file(sandbox.path("store/NOTES")).unwrap();
    std::os::unix::fs::symlink("sales", sandbox.path("store/NOTES")).unwrap();
    let before = state(&sandbox.path("store"));
    let ran = sandbox.run("restore latest --store store");
    assert_eq!(ran.code, 14, "{}", ran.stderr);
    assert!(ran.stderr.contains("error: refused: in the target, NOTES is in the way"), "{}", ran.stderr);
    assert!(before == state(&sandbox.path("store")));
}

#[test]
fn truncate_to_the_latest_of_another_store_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    sandbox.write("other/mine", "mine\n");
    let ran = sandbox.run("restore latest --after-truncate --store other");
    assert_eq!(ran.code, 14);
    assert!(ran.stderr.starts_with("error: the repository has no backup of "), "{}", ran.stderr);
    assert_eq!(sandbox.read("other/mine"), "mine\n");
    sandbox.done("restore latest --store other");
    assert_eq!(sandbox.read("other/NOTES"), "top\n");
}

#[test]
fn undo_goes_back_to_a_store_that_looks_like_a_backup_of_one_project() {
    let sandbox = Sandbox::empty();
    let uuid = r#"{"uuid":"u","str":"u","name":"UUID"}"#;
    for store in ["one", "both"] {
        sandbox.write(&format!("{store}/SYSTEM/UUID.json"), uuid);
        sandbox.write(&format!("{store}/PROJECT/p.json"), r#"{"uuid":"p","name":"p"}"#);
    }
    sandbox.write("both/PROJECT/q.json", r#"{"uuid":"q","name":"q"}"#);
    sandbox.settle();
    sandbox.done("backup --store both --label both");
    let before = state(&sandbox.path("one"));
    sandbox.done("restore both --store one");
    assert!(sandbox.path("one/PROJECT/q.json").exists());
    sandbox.done("undo --store one");
    let after = state(&sandbox.path("one"));
    assert!(before.keys().eq(after.keys()));
}
