//! A backup after another: what is read, and what moves from project to project.

use std::path::Path;
use std::sync::Mutex;

use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Severity, Task};
use metastash::ops::backup::{BackupReport, backup};
use metastash::ops::restore::Mode;
use metastash::repo::Repository;
use metastash::repo::cut::WHOLE_BYTES_MAX;

use super::{
    age, at, back_up, back_up_project, cases, copy, edit, files, fixture, options, path_in, put, remove, restore_to,
    restoring, restoring_project,
};
use crate::support::{assert_sound, contents, create, project, scratch, settle};

const MODEL: &str = "MODEL/6082c411-4a30-fdc0-3c7b-1b518c2c4788.json";
const MODEL_KEY: &str = "MODEL/6082c411-4a30-fdc0-3c7b-1b518c2c4788";
const PROJECT_UUID: &str = "29685d8f-0477-7c70-c96f-95c2a3d90b6b";
const PERMISSIONS_KEY: &str = "OBJECT_ACL/29685d8f-0477-7c70-c96f-95c2a3d90b6b";

/// Asserts that a snapshot taken after others is what the first one of a repository would be.
#[track_caller]
fn assert_as_fresh(root: &Path, repo: &Repository, report: &BackupReport) {
    let (_, other) = create();
    let fresh = back_up(root, &other).snapshot;
    assert_eq!(report.snapshot.manifest.root, fresh.manifest.root);
    assert!(contents(repo, &report.snapshot) == contents(&other, &fresh));
    assert_sound(repo);
}

/// Counts what a backup looks into to find out where it is kept.
#[derive(Default)]
struct Compared(Mutex<Vec<u64>>);

impl Monitor for Compared {
    fn start(&self, task: Task, total: Option<u64>) {
        if task == Task::Compare {
            self.0.lock().unwrap().extend(total);
        }
    }

    fn advance(&self, _: u64) {}

    fn problem(&self, _: &Problem) {}
}

#[test]
fn unchanged_documents_are_not_read() {
    for case in cases() {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&case.source, &scratch.path().join("store"));
        let names: Vec<String> = files(&root).into_keys().collect();
        assert_eq!(back_up(&root, &repo).read, names.len() as u64);
        let again = back_up(&root, &repo);
        assert_eq!((again.read, again.unchanged), (0, names.len() as u64));
        for name in &names[..3] {
            age(&root, name, 7_000_000);
        }
        let touched = back_up(&root, &repo);
        assert_eq!((touched.read, touched.counts.changed), (3, 0));
        assert_as_fresh(&root, &repo, &touched);
    }
}

#[test]
fn project_backup_after_a_system_backup_reads_what_changed_and_looks_into_nothing_else() {
    for case in cases() {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&case.source, &scratch.path().join("store"));
        back_up(&root, &repo);
        let names = super::names_of(&files(&root), case.one);
        let is_field = |name: &&String| name.contains("MODEL/") || name.contains("/model_desc/");
        let changed = names.iter().find(is_field).unwrap();
        put(&root, changed, [&files(&root)[changed].0, &b"\n"[..]].concat());
        settle();
        let compared = Compared::default();
        let report = backup(&*at(&root), &repo, &options(project(case.one)), &compared).unwrap();
        assert_eq!((report.read, report.counts.changed, report.counts.new, report.counts.removed), (1, 1, 0, 0));
        assert_eq!(report.unchanged, names.len() as u64 - 1);
        let looked_into = compared.0.into_inner().unwrap();
        assert!(looked_into.iter().all(|count| *count == 1), "{looked_into:?}");
        // And after that one, a second.
        assert_eq!(back_up_project(&root, &repo, case.one).read, 0);
        assert_as_fresh(&root, &repo, &back_up(&root, &repo));
    }
}

#[test]
fn document_whose_project_changes_moves() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    let first = back_up(&root, &repo);
    assert_eq!(path_in(&repo, &first.snapshot, MODEL_KEY), format!("learn_kylin/{MODEL_KEY}"));
    for (from, to) in [("learn_kylin", "retail"), ("retail", "learn_kylin")] {
        edit(&root, MODEL, &format!("\"project\" : \"{from}\""), &format!("\"project\" : \"{to}\""));
        let moved = back_up(&root, &repo);
        assert_eq!(path_in(&repo, &moved.snapshot, MODEL_KEY), format!("{to}/{MODEL_KEY}"));
        assert_eq!((moved.counts.removed, moved.counts.new, moved.counts.changed, moved.read), (1, 1, 0, 1));
        assert_as_fresh(&root, &repo, &moved);
    }
    // Each project's own backup shows its side of the move.
    edit(&root, MODEL, "\"project\" : \"learn_kylin\"", "\"project\" : \"retail\"");
    assert_eq!(back_up_project(&root, &repo, "learn_kylin").counts.removed, 1);
    assert_eq!(back_up_project(&root, &repo, "retail").counts.new, 1);
    restore_to(&root, &repo, &first.snapshot, &restoring(Mode::Truncate)).unwrap();
    assert_eq!(back_up(&root, &repo).snapshot.manifest.root, first.snapshot.manifest.root);
}

#[test]
fn recreated_project_with_another_uuid_moves_its_permissions() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    let first = back_up(&root, &repo);
    assert_eq!(path_in(&repo, &first.snapshot, PERMISSIONS_KEY), format!("learn_kylin/{PERMISSIONS_KEY}"));
    let document = files(&root)["PROJECT/learn_kylin.json"].0.clone();
    remove(&root, "PROJECT/learn_kylin.json");
    let without = back_up(&root, &repo);
    assert_eq!(path_in(&repo, &without.snapshot, PERMISSIONS_KEY), format!("_global/{PERMISSIONS_KEY}"));
    assert_eq!((without.counts.removed, without.counts.new), (2, 1));
    assert_as_fresh(&root, &repo, &without);
    let other = String::from_utf8(document.clone()).unwrap().replace(PROJECT_UUID, "of-another-one");
    put(&root, "PROJECT/learn_kylin.json", other);
    let recreated = back_up(&root, &repo);
    assert_eq!(path_in(&repo, &recreated.snapshot, PERMISSIONS_KEY), format!("_global/{PERMISSIONS_KEY}"));
    assert_eq!((recreated.counts.removed, recreated.counts.new), (0, 1));
    // Permissions of what is no longer are nobody's: a backup of the project does not have them.
    let of_project = back_up_project(&root, &repo, "learn_kylin");
    assert!(!contents(&repo, &of_project.snapshot).keys().any(|path| path.ends_with(PERMISSIONS_KEY.as_bytes())));
    put(&root, "PROJECT/learn_kylin.json", document);
    let repaired = back_up(&root, &repo);
    assert_eq!(path_in(&repo, &repaired.snapshot, PERMISSIONS_KEY), format!("learn_kylin/{PERMISSIONS_KEY}"));
    assert_eq!(repaired.snapshot.manifest.root, first.snapshot.manifest.root);
    assert_as_fresh(&root, &repo, &repaired);
}

#[test]
fn broken_json_stays_unplaced_and_is_remarked_until_it_is_repaired() {
    for content in
        ["{\"uuid\":\"x\",\"project\":\"learn_kylin\"", "", "[1,2]", "{\"project\":7}", "{\"project\":\"_files\"}"]
    {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
        let sound = files(&root)[MODEL].0.clone();
        put(&root, MODEL, content);
        age(&root, MODEL, 1);
        for time in 0..3 {
            let report = back_up(&root, &repo);
            assert_eq!(path_in(&repo, &report.snapshot, MODEL_KEY), format!("_unplaced/{MODEL_KEY}"));
            assert_eq!(report.read, if time == 0 { files(&root).len() as u64 } else { 0 });
            assert!(!report.snapshot.manifest.is_incomplete() && report.counts.unread == 0);
            let [remark] = &report.remarks[..] else { panic!("{content}: {:?}", report.remarks) };
            assert_eq!((remark.severity, &remark.path[..]), (Severity::Remark, MODEL), "{content}");
            assert_as_fresh(&root, &repo, &report);
        }
        // A project's own backup does not have it, and a restore of the project does not touch it.
        let of_project = back_up_project(&root, &repo, "learn_kylin");
        restore_to(&root, &repo, &of_project.snapshot, &restoring_project(Mode::Truncate, "learn_kylin")).unwrap();
        assert_eq!(files(&root)[MODEL].0, content.as_bytes());
        put(&root, MODEL, &sound);
        let repaired = back_up(&root, &repo);
        assert_eq!(path_in(&repo, &repaired.snapshot, MODEL_KEY), format!("learn_kylin/{MODEL_KEY}"));
        assert_eq!((repaired.counts.removed, repaired.counts.new, repaired.remarks.len()), (1, 1, 0));
        assert_as_fresh(&root, &repo, &repaired);
    }
}

#[test]
fn broken_json_of_documents_whose_place_is_known_is_remarked_and_kept() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("kylin_old"), &scratch.path().join("store"));
    put(&root, "sales/table/SHOP.ORDERS.json", "{");
    let report = back_up(&root, &repo);
    assert_eq!(
        report.remarks.iter().map(|remark| &remark.path[..]).collect::<Vec<_>>(),
        ["sales/table/SHOP.ORDERS.json"]
    );
    assert!(!report.snapshot.manifest.is_incomplete());
    assert_eq!(contents(&repo, &report.snapshot)[&b"sales/table/SHOP.ORDERS.json"[..]].as_deref(), Some(&b"{"[..]));
}

/// Returns a document of that project that is read as a stream, with the field at its end.
fn large(project: &str) -> String {
    let columns = "{\"name\":\"COLUMN\"},".repeat(usize::try_from(WHOLE_BYTES_MAX).unwrap() / 10);
    format!("{{\"uuid\":\"large\",\"alias\":\"large\",\"columns\":[{columns}0],\"project\":\"{project}\"}}")
}

#[test]
fn document_too_large_to_be_held_is_placed_right() {
    for of_project in [false, true] {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
        put(&root, "MODEL/large.json", large("retail"));
        put(&root, "SEGMENT/broken.json", &large("retail")[..800_000]);
        assert!(files(&root)["MODEL/large.json"].0.len() as u64 > WHOLE_BYTES_MAX);
        let scope = if of_project { project("retail") } else { Scope::System };
        settle();
        let report = super::back_up_store(&*at(&root), &repo, scope.clone());
        assert_eq!(path_in(&repo, &report.snapshot, "MODEL/large"), "retail/MODEL/large");
        if of_project {
            assert!(!contents(&repo, &report.snapshot).contains_key(&b"_unplaced/SEGMENT/broken"[..]));
        } else {
            assert_eq!(path_in(&repo, &report.snapshot, "SEGMENT/broken"), "_unplaced/SEGMENT/broken");
            assert_eq!(report.remarks.len(), 1);
        }
        assert_eq!(super::back_up_store(&*at(&root), &repo, scope).read, 0);
        put(&root, "MODEL/large.json", large("learn_kylin"));
        let before = files(&root);
        let moved = back_up(&root, &repo);
        assert_eq!(path_in(&repo, &moved.snapshot, "MODEL/large"), "learn_kylin/MODEL/large");
        assert_as_fresh(&root, &repo, &moved);
        let restored = scratch.path().join("restored");
        restore_to(&restored, &repo, &moved.snapshot, &restoring(Mode::Merge)).unwrap();
        assert!(files(&restored) == before);
        // It is taken for the same again without a word of the repository.
        let found = restore_to(&restored, &repo, &moved.snapshot, &restoring(Mode::Truncate)).unwrap();
        assert!(found.plan.is_empty());
    }
}
