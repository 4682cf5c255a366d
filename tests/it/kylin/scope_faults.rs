//! What changes its project, or does not say which it is of, in backups and restores of one project.

use std::fs;

use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::backup::{BackupOptions, backup, plan_backup};
use metastash::ops::restore::Mode;

use super::{
    IDENTITY, assert_refused, at, back_up, back_up_project, copy, edit, files, fixture, options, put, restore_to,
    restoring, restoring_project, undo,
};
use crate::support::{contents, create, scratch, settle};

const MODEL: &str = "MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac.json";
const KEPT: &[u8] = b"learn_kylin/MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac";
const PROJECT: &str = "\"project\" : \"learn_kylin\"";

#[test]
fn document_that_left_the_project_is_not_in_its_next_backup() {
    for other in ["\"project\" : \"retail\"", "\"project\" : \"\"", "\"broken"] {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
        let first = back_up_project(&root, &repo, "learn_kylin");
        assert!(contents(&repo, &first.snapshot).contains_key(KEPT));
        edit(&root, MODEL, PROJECT, other);
        settle();
        let how = options(crate::support::project("learn_kylin"));
        assert_eq!(plan_backup(&*at(&root), &repo, &how, &Silent).unwrap().removed, 1, "{other}");
        let second = back_up_project(&root, &repo, "learn_kylin");
        assert_eq!(second.counts.removed, 1, "{other}");
        assert!(!contents(&repo, &second.snapshot).contains_key(KEPT), "{other}");
    }
}

#[test]
fn document_of_another_project_now_is_not_taken_by_a_restore_with_a_checkpoint() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    let snapshot = back_up_project(&root, &repo, "learn_kylin").snapshot;
    edit(&root, MODEL, PROJECT, "\"project\" : \"retail\"");
    settle();
    let danger = assert_refused(&root, &repo, &snapshot, &restoring_project(Mode::Merge, "learn_kylin"));
    assert!(danger.contains("retail/MODEL/"), "{danger}");
}

#[test]
fn document_with_a_project_that_can_be_none_is_mended_with_its_project() {
    for unusable in ["", "_files", "a/b", ".."] {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
        let snapshot = back_up(&root, &repo).snapshot;
        let good = files(&root)[MODEL].0.clone();
        edit(&root, MODEL, PROJECT, &format!("\"project\" : \"{unusable}\""));
        settle();
        let bad = files(&root)[MODEL].0.clone();
        let report = restore_to(&root, &repo, &snapshot, &restoring_project(Mode::Truncate, "learn_kylin")).unwrap();
        assert!(files(&root)[MODEL].0 == good, "{unusable}");
        undo(&root, &repo, &report);
        assert!(files(&root)[MODEL].0 == bad, "{unusable}");
    }
}

#[test]
fn what_is_next_to_no_metadata_does_not_empty_the_store() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    back_up(&root, &repo);
    for (name, content) in
        [("kylin.properties", "a=b"), (IDENTITY, "{\"uuid\":\"x\",\"str\":\"x\"}"), ("MODEL/x.txt", "x")]
    {
        let source = scratch.path().join(format!("only {}", name.replace('/', " ")));
        put(&source, &format!("core_meta/{name}"), content);
        let snapshot = backup(&*at(&source), &repo, &options(Scope::System), &Silent).unwrap().snapshot;
        assert_refused(&root, &repo, &snapshot, &restoring(Mode::Truncate));
    }
    // With a project, but of no known system.
    let source = scratch.path().join("no identity");
    put(&source, "core_meta/PROJECT/learn_kylin.json", "{\"uuid\":\"29685d8f-0477-7c70-c96f-95c2a3d90b6b\"}");
    put(&source, "core_meta/USER_INFO/ADMIN.json", "{}");
    let snapshot = backup(&*at(&source), &repo, &options(Scope::System), &Silent).unwrap().snapshot;
    let danger = assert_refused(&root, &repo, &snapshot, &restoring(Mode::Truncate));
    assert!(danger.contains("does not tell of which system it is"), "{danger}");
}

#[test]
fn global_documents_as_a_project_are_guarded_as_the_system_is() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    let snapshot = back_up(&root, &repo).snapshot;
    put(&root, IDENTITY, "{\"uuid\":\"x\",\"str\":\"another system\",\"name\":\"UUID\"}");
    settle();
    assert_refused(&root, &repo, &snapshot, &restoring_project(Mode::Merge, "_global"));
}

#[test]
fn snapshot_of_the_core_does_not_remove_what_lies_beside_it() {
    let (scratch, (_, repo)) = (scratch(), create());
    let folder = copy(&fixture("kylin_backup"), &scratch.path().join("folder"));
    let snapshot = back_up(&folder.join("core_meta"), &repo).snapshot;
    let before = files(&folder);
    restore_to(&folder, &repo, &snapshot, &restoring(Mode::Truncate)).unwrap();
    assert!(files(&folder) == before);
}

#[test]
fn permissions_of_two_projects_with_one_uuid_are_guessed_to_be_of_neither() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    let uuid = "29685d8f-0477-7c70-c96f-95c2a3d90b6b";
    put(&root, "PROJECT/copied.json", format!("{{\"uuid\":\"{uuid}\",\"name\":\"copied\"}}"));
    settle();
    let report = back_up(&root, &repo);
    let all = contents(&repo, &report.snapshot);
    assert!(all.contains_key(format!("_global/OBJECT_ACL/{uuid}").as_bytes()));
    assert!(report.remarks.iter().any(|remark| remark.what.contains("several projects have this UUID")));
}

#[test]
fn forced_project_backup_believes_no_stamp() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    back_up(&root, &repo);
    let forced = BackupOptions { force: true, ..options(crate::support::project("retail")) };
    let report = backup(&*at(&root), &repo, &forced, &Silent).unwrap();
    assert_eq!(report.read, report.snapshot.manifest.documents);
}

#[test]
fn value_that_is_no_text_is_skipped_and_not_held() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    let numbers = "0,".repeat(400_000);
    put(&root, "MODEL/large.json", format!("{{\"project\":[{numbers}0],\"other\":{{\"project\":\"retail\"}}}}"));
    settle();
    let report = back_up(&root, &repo);
    assert!(contents(&repo, &report.snapshot).contains_key(&b"_unplaced/MODEL/large"[..]));
    assert!(fs::metadata(root.join("MODEL/large.json")).unwrap().len() > 512 << 10, "it is read as a stream");
}
