//! What is weak in Kylin's own tool, by the numbers of the facts sheet, done right here. Some have their tests elsewhere:
//! the alias check (W29) and wrong systems (W19) in `guards`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use metastash::endpoint;
use metastash::endpoint::location::{Reading, open, open_target};
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Silent, Task};
use metastash::ops::Error;
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::doctor::examine_live;
use metastash::ops::export::export;
use metastash::ops::restore::{Mode, RestoreOptions, restore};
use metastash::platform::kylin::layout::{Layout, Level};
use metastash::repo::Repository;
use metastash::storage::local::LocalStorage;

use super::{
    at, back_up, back_up_project, cases, copy, edit, files, fixture, options, path_in, put, remove, restore_to,
    restoring, restoring_project, undo,
};
use crate::support::{config, contents, create, path, scratch, settle, snapshots, view};

const MODEL: &str = "MODEL/6082c411-4a30-fdc0-3c7b-1b518c2c4788.json";

/// Tells files apart that were written anew, though with the same content and time.
fn inodes(root: &Path) -> Vec<(String, u64, i64, i64)> {
    let inode = |name: String| {
        let metadata = fs::metadata(root.join(&name)).unwrap();
        (name, metadata.ino(), metadata.mtime_nsec(), metadata.ctime_nsec())
    };
    files(root).into_keys().map(inode).collect()
}

#[test]
fn w1_unchanged_documents_are_not_rewritten() {
    for case in cases() {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&case.source, &scratch.path().join("store"));
        let snapshot = back_up(&root, &repo).snapshot;
        let changed = super::names_of(&files(&root), case.one).swap_remove(3);
        for mode in [Mode::Merge, Mode::Truncate] {
            for options in [restoring(mode), restoring_project(mode, case.one)] {
                put(&root, &changed, [&files(&root)[&changed].0, &b"\n"[..]].concat());
                let before = inodes(&root);
                let report = restore_to(&root, &repo, &snapshot, &options).unwrap();
                assert_eq!(report.plan.puts.len(), 1, "{}", report.plan);
                let after = inodes(&root);
                let differ = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| &a.0);
                assert_eq!(differ.collect::<Vec<_>>(), [&changed]);
            }
        }
    }
}

#[test]
fn w2_wrong_or_empty_or_damaged_source_never_empties_the_store() {
    let scratch = scratch();
    let live = copy(&fixture("learn_kylin"), &scratch.path().join("live"));
    let sources = scratch.path().join("sources");
    put(&sources, "wrong folder/readme.txt", "no metadata");
    fs::create_dir_all(sources.join("empty")).unwrap();
    fs::create_dir_all(sources.join("empty core/core_meta")).unwrap();
    fs::create_dir_all(sources.join("only folders/core_meta/MODEL")).unwrap();
    copy(&fixture("kylin_old"), &sources.join("old layout"));
    let (_, repo) = create();
    let snapshot = back_up(&live, &repo).snapshot;
    let core = Layout::New(Level::Core);
    fs::create_dir_all(sources.join("half zip/core_meta")).unwrap();
    let zip = sources.join("half zip/core_meta/metadata.zip");
    let target = open_target(&zip, Reading::Kylin(core), core.name()).unwrap();
    export(&repo, &snapshot, &Scope::System, &[&*target.store], &Silent).unwrap();
    let whole = fs::read(&zip).unwrap();
    let before = view(&live);
    let mut places: Vec<PathBuf> = fs::read_dir(&sources).unwrap().map(|entry| entry.unwrap().path()).collect();
    places.extend(
        ["empty core/core_meta", "half zip/core_meta", "half zip/core_meta/metadata.zip"]
            .map(|name| sources.join(name)),
    );
    places.push(sources.join("missing"));
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&zip, &whole[..length]).unwrap();
        for place in &places {
            let result = restore_native(place, &live, &repo);
            assert!(result.is_err(), "{} is taken for metadata", place.display());
            assert!(view(&live) == before, "{}", place.display());
        }
    }
    assert!(!sources.join("missing").exists(), "looking for a backup does not make one");
    // Given the folder in the backup rather than the backup, there is nothing wrong at all.
    fs::write(&zip, &whole).unwrap();
    for place in ["half zip", "half zip/core_meta", "half zip/core_meta/metadata.zip"] {
        assert!(restore_native(&sources.join(place), &live, &repo).is_ok());
        assert!(view(&live) == before);
    }
}

/// Restores what Kylin left at a place, as its own tool would with `--after-truncate`.
fn restore_native(place: &Path, live: &Path, repo: &Repository) -> Result<(), Error> {
    let source = open(place, Reading::Detect)?.store;
    let snapshot = backup(&*source, repo, &options(Scope::System), &Silent)?.snapshot;
    settle();
    restore_to(live, repo, &snapshot, &restoring(Mode::Truncate)).map(drop)
}

#[test]
fn w3_what_is_changed_was_saved_before() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    let snapshot = back_up(&root, &repo).snapshot;
    put(&root, MODEL, "{ not saved by anyone yet");
    put(&root, "USER_INFO/NEW.json", r#"{"uuid":"x"}"#);
    let before = files(&root);
    let report = restore_to(&root, &repo, &snapshot, &restoring(Mode::Truncate)).unwrap();
    let checkpoint = report.checkpoint.as_ref().unwrap();
    assert_eq!(checkpoint.manifest.documents, before.len() as u64);
    assert_eq!(
        contents(&repo, checkpoint)[&path_in(&repo, checkpoint, "USER_INFO/NEW").into_bytes()].as_deref(),
        Some(&br#"{"uuid":"x"}"#[..])
    );
    undo(&root, &repo, &report);
    assert!(files(&root) == before);
}

/// Asks for a stop after so many steps.
struct StopAfter {
    steps: AtomicU64,
    stopped: AtomicBool,
}

impl Monitor for StopAfter {
    fn start(&self, _: Task, _: Option<u64>) {}

    fn advance(&self, _: u64) {}

    fn problem(&self, _: &Problem) {}

    fn is_interrupted(&self) -> bool {
        let left = self.steps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        self.stopped.fetch_or(left.is_err(), Ordering::Relaxed);
        left.is_err()
    }
}

#[test]
fn w8_interrupted_backup_leaves_no_snapshot() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    for scope in [Scope::System, crate::support::project("learn_kylin")] {
        let before = snapshots(&repo).len();
        for steps in 0.. {
            let monitor = StopAfter { steps: AtomicU64::new(steps), stopped: AtomicBool::new(false) };
            let result = backup(&*at(&root), &repo, &options(scope.clone()), &monitor);
            if !monitor.stopped.into_inner() {
                assert!(result.is_ok() && steps > 0);
                break;
            }
            let is_interrupted =
                matches!(result, Err(Error::Interrupted | Error::Endpoint(endpoint::Error::Interrupted)));
            assert!(is_interrupted, "{result:?}");
            assert_eq!(snapshots(&repo).len(), before);
        }
        assert_eq!(snapshots(&repo).len(), before + 1);
    }
}

#[test]
fn w14_properties_with_passwords_are_kept_as_they_are_but_no_document_of_kylin() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("kylin_backup"), &scratch.path().join("store"));
    assert!(String::from_utf8(files(&root)["core_meta/kylin.properties"].0.clone()).unwrap().contains("password="));
    let report = back_up(&root, &repo);
    assert_eq!(path_in(&repo, &report.snapshot, "kylin.properties"), "_files/kylin.properties");
    assert_eq!(report.remarks, []);
    assert_eq!(examine_live(&repo, &*at(&root), &Scope::System, &Silent).unwrap().faults, []);
    // A project's backup has none of it.
    let of_project = back_up_project(&root, &repo, "travel").snapshot;
    assert!(!contents(&repo, &of_project).keys().any(|path| path.ends_with(b"kylin.properties")));
}

#[test]
fn w15_truncated_backup_is_told_from_the_whole_one() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("kylin_backup"), &scratch.path().join("store"));
    let whole = back_up(&root, &repo).snapshot;
    assert_eq!(whole.manifest.documents, files(&root).len() as u64);
    fs::remove_dir_all(root.join("core_meta/MODEL")).unwrap();
    fs::remove_dir_all(root.join("job_info")).unwrap();
    let half = back_up(&root, &repo);
    assert_eq!((half.counts.removed, half.snapshot.manifest.documents), (4, whole.manifest.documents - 4));
    assert_ne!(half.snapshot.manifest.root, whole.manifest.root);
    // And what the snapshot holds is all there, or restoring it fails.
    restore_to(&root, &repo, &whole, &restoring(Mode::Truncate)).unwrap();
    assert_eq!(back_up(&root, &repo).snapshot.manifest.root, whole.manifest.root);
}

#[test]
fn w18_times_of_documents_are_restored() {
    for case in cases() {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&case.source, &scratch.path().join("store"));
        let before = files(&root);
        let snapshot = back_up(&root, &repo).snapshot;
        before.keys().filter(|name| name.len() % 2 == 0).for_each(|name| remove(&root, name));
        restore_to(&root, &repo, &snapshot, &restoring(Mode::Merge)).unwrap();
        assert!(files(&root) == before);
    }
}

#[test]
fn w21_project_backup_holds_the_permissions_on_the_project() {
    for (name, project, end) in
        [("learn_kylin", "retail", "60e53283-ba9d-69f8-465e-add754ff5a3a"), ("kylin_old", "sales", "")]
    {
        let (_, repo) = create();
        let snapshot = back_up_project(&fixture(name), &repo, project).snapshot;
        let folder = if name == "kylin_old" { "object_acl" } else { "OBJECT_ACL" };
        let start = format!("{project}/{folder}/{end}");
        let kept = contents(&repo, &snapshot);
        assert_eq!(kept.keys().filter(|path| path.starts_with(start.as_bytes())).count(), 1);
    }
}

#[test]
fn w26_broken_json_is_restored_byte_for_byte() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    put(&root, MODEL, b"{\"uuid\" : \xff\x00 broken");
    put(&root, "PROJECT/learn_kylin.json", b"\xef\xbb\xbf{}{}");
    put(&root, "SEGMENT/empty.json", b"");
    let before = files(&root);
    let snapshot = back_up(&root, &repo).snapshot;
    let restored = scratch.path().join("restored");
    restore_to(&restored, &repo, &snapshot, &restoring(Mode::Merge)).unwrap();
    assert!(files(&restored) == before);
    edit(&root, "USER_INFO/ADMIN.json", "ADMIN", "NIMDA");
    remove(&root, MODEL);
    restore_to(&root, &repo, &snapshot, &restoring(Mode::Truncate)).unwrap();
    assert!(files(&root) == before);
}

#[test]
fn w27_recommendations_are_kept_under_either_name() {
    for folder in ["TMP_REC", "_REC"] {
        let (scratch, (_, repo)) = (scratch(), create());
        let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
        let name = format!("{folder}/learn_kylin.6082c411-4a30-fdc0-3c7b-1b518c2c4788.json");
        put(&root, &name, r#"{"uuid":"r","project":"learn_kylin","rec_items":[]}"#);
        let snapshot = back_up_project(&root, &repo, "learn_kylin").snapshot;
        let kept = path_in(&repo, &snapshot, &name[..name.len() - ".json".len()]);
        assert_eq!(kept, format!("learn_kylin/{}", &name[..name.len() - ".json".len()]));
        let before = files(&root);
        remove(&root, &name);
        restore_to(&root, &repo, &snapshot, &restoring_project(Mode::Truncate, "learn_kylin")).unwrap();
        assert!(files(&root) == before);
    }
}

#[test]
fn w28_name_of_the_file_wins_over_what_the_json_says_of_its_key() {
    let (scratch, (_, repo)) = (scratch(), create());
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    put(&root, "MODEL/by-name.json", r#"{"uuid":"by-name","meta_key":"by-json","project":"retail","alias":"x"}"#);
    // Kylin cuts five characters, whatever they are.
    put(&root, "MODEL/without-suffix", r#"{"uuid":"w","project":"retail"}"#);
    let before = files(&root);
    let snapshot = back_up(&root, &repo).snapshot;
    assert_eq!(path_in(&repo, &snapshot, "by-name"), "retail/MODEL/by-name");
    assert_eq!(path_in(&repo, &snapshot, "without-suffix"), "_files/MODEL/without-suffix");
    let restored = scratch.path().join("restored");
    restore_to(&restored, &repo, &snapshot, &restoring(Mode::Merge)).unwrap();
    assert!(files(&restored) == before);
    let faults = examine_live(&repo, &*at(&root), &Scope::System, &Silent).unwrap().faults;
    let found = faults
        .iter()
        .any(|fault| fault.rule.as_str() == "meta-key-mismatch" && fault.path == path("retail/MODEL/by-name"));
    assert!(found, "{faults:#?}");
}

#[test]
fn w31_foreign_folders_among_backups_are_never_touched() {
    let scratch = scratch();
    let folder = scratch.path().join("meta_backups");
    let native = ["2025-05-09-02-00-00_backup", "2025-05-10-02-00-00_backup"];
    native.iter().for_each(|name| drop(copy(&fixture("kylin_backup"), &folder.join(name))));
    put(&folder, "not ours/notes.txt", "by hand");
    put(&folder, "before-upgrade/core_meta/MODEL/m.json", "{}");
    put(&folder, "readme.txt", "by hand");
    let foreign = view(&folder);
    // A repository may lie in the same folder.
    let repo = Repository::create(Arc::new(LocalStorage::new(&folder)), config()).unwrap();
    match open(&folder, Reading::Detect).map(drop) {
        Err(endpoint::Error::SeveralBackups { names, .. }) => assert_eq!(names, native),
        other => panic!("{other:?}"),
    }
    let root = copy(&fixture("learn_kylin"), &scratch.path().join("store"));
    for label in ["one", "two", "three"] {
        // Names do not collide within a second.
        let labeled = BackupOptions { label: Some(label.to_owned()), ..options(Scope::System) };
        backup(&*at(&root), &repo, &labeled, &Silent).unwrap();
    }
    let imported = back_up(&folder.join(native[0]), &repo).snapshot;
    let target = scratch.path().join("restored");
    let located = open_target(&target, Reading::Detect, &imported.manifest.layout).unwrap();
    let options = RestoreOptions { checkpoint: false, ..restoring(Mode::Merge) };
    restore(&*located.store, &repo, &imported, &options, &Silent).unwrap();
    assert_eq!(snapshots(&repo).len(), 4);
    let after = view(&folder);
    assert!(foreign.iter().all(|(name, seen)| after.get(name) == Some(seen)));
}
