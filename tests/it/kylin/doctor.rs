//! What is wrong with documents, and between them, whether they lie in a store or in a snapshot.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use metastash::model::entry::Document;
use metastash::model::hash::ContentId;
use metastash::model::scope::Scope;
use metastash::monitor::{Recorder, Silent};
use metastash::ops::Error;
use metastash::ops::doctor::{DoctorReport, examine_live, examine_snapshot};
use metastash::platform::kylin::doctor::{Fault, Severity};
use metastash::repo::Repository;

use super::{IDENTITY, at, back_up, back_up_project, copy, edit, files, fixture, put, remove, shared};
use crate::support::{
    Fickle, add_entries, create, entry, failed, failed_for_good, project, scratch, settle, store, write,
};

const MODEL: &str = "MODEL/6082c411-4a30-fdc0-3c7b-1b518c2c4788.json";
const OTHER_MODEL: &str = "MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac.json";

/// The name of the old layout.
const OLD: &str = "kylin-old";

fn told(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(|fault| format!("{} {}", fault.rule, fault.path)).collect()
}

/// Examines a store as it is and as a snapshot holds it: both must tell the same.
#[track_caller]
fn examine(root: &Path, repo: &Repository, scope: &Scope) -> DoctorReport {
    settle();
    let live = examine_live(repo, &*at(root), scope, &Silent).unwrap();
    let snapshot = back_up(root, repo).snapshot;
    let kept = examine_snapshot(repo, &snapshot, scope, &Silent).unwrap();
    assert_eq!(live.faults, kept.faults);
    assert_eq!((live.documents, live.unread), (kept.documents, 0));
    live
}

#[test]
fn fixtures_are_sound() {
    for name in ["learn_kylin", "kylin_old", "kylin_backup"] {
        let (_, repo) = create();
        let report = examine(&fixture(name), &repo, &Scope::System);
        assert_eq!(told(&report.faults), [""; 0], "{name}");
        assert_eq!(report.documents, files(&fixture(name)).len() as u64);
    }
}

#[test]
fn live_store_and_snapshot_agree_on_every_tree() {
    for tree in [shared("new"), shared("old")].concat() {
        let (_, repo) = create();
        if at(&tree).layout() == metastash::endpoint::PLAIN {
            let result = examine_live(&repo, &*at(&tree), &Scope::System, &Silent);
            assert!(matches!(result, Err(Error::NoPlatform { .. })), "{result:?}");
            continue;
        }
        let report = examine(&tree, &repo, &Scope::System);
        if tree.ends_with("new/localmeta") {
            let broken = report.faults.iter().filter(|fault| fault.rule.as_str() == "broken-json");
            assert_eq!(broken.count(), 3, "Kylin keeps three broken documents on purpose");
        }
    }
}

/// Does something to a copy of the fixture, and returns what is new then.
#[track_caller]
fn faults_of(change: impl FnOnce(&Path)) -> Vec<String> {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    change(&root);
    told(&examine(&root, &repo, &Scope::System).faults)
}

#[test]
fn broken_json_and_empty_documents_are_found() {
    let found = faults_of(|root| {
        put(root, MODEL, "{\"uuid\":");
        put(root, "TABLE_EXD/retail.TILLS.STORE.json", "");
        put(root, "USER_INFO/ANALYST.json", " \n");
        put(root, "PROJECT/other.json", "[]");
    });
    let expected = [
        "empty-document _global/USER_INFO/ANALYST",
        "broken-json _unplaced/MODEL/6082c411-4a30-fdc0-3c7b-1b518c2c4788",
        "empty-document _unplaced/TABLE_EXD/retail.TILLS.STORE",
        "not-an-object other/PROJECT/other",
    ];
    assert_eq!(found, expected);
}

#[test]
fn dangling_references_are_found() {
    let found = faults_of(|root| {
        remove(root, "TABLE_INFO/learn_kylin.BOOKS.TITLE.json");
        remove(root, "DATAFLOW/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac.json");
        put(root, "OBJECT_ACL/nobody.json", r#"{"uuid":"x","project":"_global"}"#);
    });
    let rules: Vec<&str> = found.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
    for rule in ["model-without-table", "model-without-dataflow", "acl-without-project", "table-exd-without-table"] {
        assert!(rules.contains(&rule), "{rule} is not in {found:#?}");
    }
    let is_warning = |rule: &&str| {
        let all = metastash::platform::kylin::doctor::ALL_RULES;
        all.iter().any(|known| known.as_str() == *rule && known.severity() == Severity::Warning)
    };
    assert!(rules.iter().all(is_warning), "Kylin's own samples dangle: {found:#?}");
}

#[test]
fn duplicates_and_mismatches_are_found() {
    let found = faults_of(|root| edit(root, OTHER_MODEL, "\"shop_stock\"", "\"order_lines\""));
    assert_eq!(found, ["duplicate-alias learn_kylin/MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac"]);
    let found = faults_of(|root| {
        let name = root.join("TABLE_INFO/learn_kylin.BOOKS.CALENDAR.json");
        fs::rename(name, root.join("TABLE_INFO/learn_kylin.BOOKS.KALENDER.json")).unwrap();
    });
    assert!(found.contains(&"key-mismatch learn_kylin/TABLE_INFO/learn_kylin.BOOKS.KALENDER".to_owned()), "{found:#?}");
    // The same alias in two projects is none of anyone's business.
    assert_eq!(faults_of(|root| edit(root, OTHER_MODEL, "\"shop_stock\"", "\"till_stream\"")), [""; 0]);
}

#[test]
fn unknown_folders_and_stray_files_are_found() {
    let found = faults_of(|root| {
        put(root, "NEW_TYPE/x.json", r#"{"uuid":"x","project":"retail"}"#);
        put(root, "MODEL/notes.txt", "by hand");
        put(root, "kylin.properties", "kylin.env=DEV");
        put(root, ".DS_Store", "");
    });
    assert_eq!(found, ["stray-file _files/MODEL/notes.txt", "unknown-type _files/NEW_TYPE/x.json"]);
}

#[test]
fn faults_of_the_old_layout_are_found() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("kylin_old"), &scratch.path().join("store"));
    remove(&root, "sales/table/SHOP.BUYERS.json");
    put(&root, "events/table/LIVE.CLICK.json", "{");
    put(&root, "nobody/model_desc/m.json", r#"{"uuid":"m","alias":"m"}"#);
    let found = told(&examine(&root, &repo, &Scope::System).faults);
    for expected in ["broken-json events/table/LIVE.CLICK.json", "unknown-top-folder nobody/model_desc/m.json"] {
        assert!(found.contains(&expected.to_owned()), "{found:#?}");
    }
    assert!(found.iter().any(|fault| fault.starts_with("model-without-table sales/model_desc/")), "{found:#?}");
    let of_events = told(&examine(&root, &repo, &project("events")).faults);
    assert_eq!(of_events, ["broken-json events/table/LIVE.CLICK.json"]);
}

#[test]
fn only_new_faults_are_left() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    put(&root, MODEL, "{");
    put(&root, "SEGMENT/x.json", r#"{"uuid":"x","project":"retail","model_uuid":"gone"}"#);
    let before = examine(&root, &repo, &Scope::System);
    assert_eq!(before.faults.len(), 2, "{:?}", told(&before.faults));
    let mut same = examine(&root, &repo, &Scope::System);
    same.leave_new(&before);
    assert_eq!(told(&same.faults), [""; 0]);
    put(&root, MODEL, "{ broken in another way");
    put(&root, "SEGMENT/y.json", r#"{"uuid":"y","project":"retail","model_uuid":"gone"}"#);
    let mut after = examine(&root, &repo, &Scope::System);
    after.leave_new(&before);
    assert_eq!(told(&after.faults), ["segment-without-dataflow retail/SEGMENT/y"]);
}

#[test]
fn one_project_is_examined_by_itself() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    edit(&root, OTHER_MODEL, "\"shop_stock\"", "\"order_lines\"");
    assert_eq!(told(&examine(&root, &repo, &project("retail")).faults), [""; 0]);
    assert_eq!(examine(&root, &repo, &project("learn_kylin")).faults.len(), 1);
    let snapshot = back_up_project(&root, &repo, "learn_kylin").snapshot;
    assert_eq!(examine_snapshot(&repo, &snapshot, &project("learn_kylin"), &Silent).unwrap().faults.len(), 1);
    let other = examine_snapshot(&repo, &snapshot, &project("retail"), &Silent);
    assert!(matches!(other, Err(Error::NotInSnapshot { .. })), "{other:?}");
}

#[test]
fn what_is_no_metadata_of_kylin_is_not_examined() {
    let (scratch, (_, repo)) = (scratch(), create());
    write(scratch.path(), "p/a", b"{}");
    let result = examine_live(&repo, &store(scratch.path()), &Scope::System, &Silent);
    assert!(matches!(result, Err(Error::NoPlatform { .. })), "{result:?}");
}

#[test]
fn identity_of_a_system_that_is_missing_is_told() {
    assert_eq!(faults_of(|root| remove(root, IDENTITY)), ["missing-system-uuid _global/SYSTEM/UUID"]);
}

#[test]
fn live_document_that_can_not_be_read_is_told_and_counted_unless_it_is_about_the_whole_store() {
    let (_, repo) = create();
    let examine = |error| {
        let store = Fickle::new(OLD, "sales/table/A.B.json", [Err(error)]);
        let recorder = Recorder::default();
        let report = examine_live(&repo, &store, &Scope::System, &recorder);
        report.map(|report| (report.unread, recorder.problems()))
    };
    let (unread, problems) = examine(failed()).unwrap();
    assert_eq!((unread, problems.len()), (1, 1));
    assert_eq!(problems[0].to_string(), "sales/table/A.B.json: cannot read it: failed by the test");
    assert!(matches!(examine(failed_for_good()), Err(Error::Endpoint(_))));
}

#[test]
fn documents_that_are_too_large_are_told_and_not_examined() {
    const LARGEST: u64 = 256 << 20;
    const TOLD: &str = "it is larger than 268435456 bytes";
    let (scratch, (_, repo), recorder) = (scratch(), create(), Recorder::default());
    let root = copy(&fixture("kylin_old"), &scratch.path().join("store"));
    let like = back_up(&root, &repo).snapshot;
    for (name, size) in [("A.LARGEST", LARGEST), ("A.TOO_LARGE", LARGEST + 1)] {
        let file = fs::File::create(root.join(format!("sales/table/{name}.json"))).unwrap();
        file.set_len(size).unwrap();
    }
    let report = examine_live(&repo, &*at(&root), &Scope::System, &recorder).unwrap();
    let problems: Vec<String> = recorder.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems, [format!("sales/table/A.TOO_LARGE.json: cannot read it: {TOLD}")]);
    assert_eq!(report.unread, 1);
    let examined: BTreeSet<String> = report.faults.iter().map(|fault| fault.path.to_string()).collect();
    assert_eq!(examined, BTreeSet::from(["sales/table/A.LARGEST.json".to_owned()]));

    let of_size = |size| {
        let document = Document { content: ContentId::of(b"lost"), size, pieces: Box::default() };
        let snapshot = add_entries(&repo, &like, vec![entry("sales/table/A.B.json", document)]);
        let recorder = Recorder::default();
        let report = examine_snapshot(&repo, &snapshot, &Scope::System, &recorder)?;
        Ok::<_, Error>((report.documents, report.unread, recorder.problems()))
    };
    let (documents, unread, problems) = of_size(LARGEST + 1).unwrap();
    assert_eq!((documents, unread, problems.len()), (0, 1, 1));
    assert_eq!(problems[0].to_string(), format!("sales/table/A.B.json: {TOLD}"));
    let result = of_size(LARGEST);
    assert!(matches!(result, Err(Error::Repository(_))), "it is looked for, and is not there: {result:?}");
}
