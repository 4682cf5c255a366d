//! What is read from either layout is written back as it was, wherever it goes in between.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use metastash::endpoint::location::{Reading, open, open_target};
use metastash::endpoint::{PLAIN, Target};
use metastash::model::hash::Root;
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::export::{ExportReport, export};
use metastash::ops::restore::{Mode, RestoreOptions, restore};
use metastash::platform::kylin::layout::{Layout, Level};
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;

use super::{Files, age, back_up_store, copy, files, fixture, restoring, shared};
use crate::support::{assert_sound, chmod, create, scratch};

const CORE: Reading = Reading::Kylin(Layout::New(Level::Core));
const FOLDER: Reading = Reading::Kylin(Layout::New(Level::Folder));
const OLD: Reading = Reading::Kylin(Layout::Old);

fn opened(root: &Path, reading: Reading) -> Box<dyn Target> {
    open(root, reading).unwrap_or_else(|error| panic!("{}: {error}", root.display())).store
}

fn root_of(store: &Path, reading: Reading, repo: &Repository) -> Root {
    back_up_store(&*opened(store, reading), repo, Scope::System).snapshot.manifest.root
}

/// Exports to a place, in the layout that Kylin looks for there.
fn export_to(target: &Path, repo: &Repository, snapshot: &Snapshot, reading: Reading) -> ExportReport {
    let target = open_target(target, reading, &snapshot.manifest.layout).unwrap();
    export(repo, snapshot, &Scope::System, &[&*target.store], &Silent).unwrap()
}

/// Writes a zip with another implementation than ours, the names as that generation of Kylin has them.
fn zip_of(files: &Files, target: &Path, is_old: bool) {
    let mut zip = zip::ZipWriter::new(fs::File::create(target).unwrap());
    for (name, (bytes, _)) in files {
        let name = if is_old { format!("/{name}") } else { name.clone() };
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// Reads a zip with another implementation than ours.
fn unzipped(zip: &Path) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(fs::File::open(zip).unwrap()).unwrap();
    let mut found = Vec::new();
    for n in 0..zip.len() {
        let mut file = zip.by_index(n).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        if file.is_file() {
            found.push((file.name().unwrap().trim_start_matches('/').to_owned(), bytes));
        }
    }
    found.sort();
    found
}

fn restore_new(target: &Path, reading: Reading, repo: &Repository, snapshot: &Snapshot) {
    let located = open_target(target, reading, &snapshot.manifest.layout).unwrap();
    let options = RestoreOptions { checkpoint: false, ..restoring(Mode::Merge) };
    let report = restore(&*located.store, repo, snapshot, &options, &Silent).unwrap();
    assert_eq!((report.plan.left_out.len(), report.plan.total().add), (0, snapshot.manifest.documents));
}

/// Takes a copy of a directory through everything that must not change it.
fn round_trip(tree: &Path, reading: Reading) {
    let (scratch, (_, repo)) = (scratch(), create());
    let below = |name: &str| scratch.path().join(name);
    let source = copy(tree, &below("source"));
    let expected = files(&source);
    let first = back_up_store(&*opened(&source, reading), &repo, Scope::System);
    let (snapshot, root) = (&first.snapshot, first.snapshot.manifest.root);
    assert_eq!((first.counts.new, first.counts.unread), (expected.len() as u64, 0));

    restore_new(&below("restored"), reading, &repo, snapshot);
    assert!(files(&below("restored")) == expected, "names, bytes and times are as they were");
    assert_eq!(root_of(&below("restored"), reading, &repo), root);

    if let Ok(layout) = snapshot.manifest.layout.parse::<Layout>() {
        let is_old = layout == Layout::Old;
        let (folder, zipped) = if is_old { (OLD, OLD) } else { (FOLDER, CORE) };
        export_to(&below("exported"), &repo, snapshot, folder);
        // Kylin's documents are where its restore looks for them, the same to the last byte.
        let core = if is_old || layout == Layout::New(Level::Folder) { "exported" } else { "exported/core_meta" };
        assert!(files(&below(core)) == expected);
        let exported = if is_old { reading } else { Reading::Detect };
        assert_eq!(root_of(&below("exported"), exported, &repo), root);

        // A zip has no place for what lies beside the documents.
        let report = export_to(&below("exported.zip"), &repo, snapshot, zipped);
        let has_place = |name: &str| layout != Layout::New(Level::Folder) || name.starts_with("core_meta/");
        assert_eq!(report.left_out.len(), expected.keys().filter(|name| !has_place(name)).count());
        let documents = if layout == Layout::New(Level::Folder) { source.join("core_meta") } else { source.clone() };
        let inner = if is_old { reading } else { Reading::Detect };
        let inner_root = root_of(&documents, inner, &repo);
        assert_eq!(root_of(&below("exported.zip"), inner, &repo), inner_root);
        let written = files(&documents).into_iter().map(|(name, (bytes, _))| (name, bytes));
        assert!(unzipped(&below("exported.zip")) == written.collect::<Vec<_>>());

        zip_of(&files(&documents), &below("foreign.zip"), is_old);
        assert_eq!(root_of(&below("foreign.zip"), inner, &repo), inner_root);
    }

    let (_, other) = create();
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(alone.install(|| root_of(&source, reading, &other)), root);

    for (n, name) in expected.keys().enumerate().filter(|(n, _)| n % 3 == 0) {
        age(&source, name, 1_000_000 + n as u64);
        chmod(&source.join(name), 0o600);
    }
    let again = back_up_store(&*opened(&source, reading), &repo, Scope::System);
    assert_eq!(again.snapshot.manifest.root, root);
    assert_eq!((again.counts.new, again.counts.changed, again.counts.removed), (0, 0, 0));
    assert_eq!(again.read, (expected.len() as u64).div_ceil(3), "only what was touched");
    assert_sound(&repo);
}

/// Takes a zip that Kylin wrote through everything that must not change it.
fn zip_round_trip(zip: &Path) {
    let (scratch, (_, repo)) = (scratch(), create());
    let below = |name: &str| scratch.path().join(name);
    fs::copy(zip, below("source.zip")).unwrap();
    let expected = unzipped(zip);
    let first = back_up_store(&*opened(&below("source.zip"), Reading::Detect), &repo, Scope::System);
    assert_eq!((first.counts.new, first.counts.unread), (expected.len() as u64, 0));
    restore_new(&below("restored"), Reading::Detect, &repo, &first.snapshot);
    let restored = files(&below("restored")).into_iter().map(|(name, (bytes, _))| (name, bytes));
    assert!(restored.collect::<Vec<_>>() == expected);
    let reading = match first.snapshot.manifest.layout.parse::<Layout>() {
        Ok(layout) => Reading::Kylin(layout),
        Err(_) => Reading::Plain,
    };
    assert_eq!(root_of(&below("restored"), reading, &repo), first.snapshot.manifest.root);
    export_to(&below("exported.zip"), &repo, &first.snapshot, reading);
    assert_eq!(root_of(&below("exported.zip"), reading, &repo), first.snapshot.manifest.root);
    assert!(unzipped(&below("exported.zip")) == expected);
    assert_sound(&repo);
}

/// Takes the trees of one generation round, as what they are found to be and as what they are known to be.
fn round_trips_of(generation: &str, known: Reading) {
    for tree in shared(generation) {
        let name = tree.file_name().unwrap().to_str().unwrap();
        eprintln!("{generation}/{name}");
        let is_zip = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "zip");
        for zip in fs::read_dir(&tree).unwrap().map(|entry| entry.unwrap().path()).filter(is_zip) {
            assert!(name.starts_with("zip_"));
            zip_round_trip(&zip);
        }
        // A folder that holds a `metadata.zip` is that zip.
        if !tree.join("metadata.zip").exists() {
            let found = opened(&tree, Reading::Detect).layout();
            round_trip(&tree, Reading::Detect);
            if found == PLAIN && !name.starts_with("zip_") && !name.starts_with("json_") {
                round_trip(&tree, known);
            }
        }
    }
}

#[test]
fn trees_of_the_new_layout_round_trip() {
    round_trips_of("new", CORE);
}

#[test]
fn trees_of_the_old_layout_round_trip() {
    round_trips_of("old", OLD);
}

#[test]
fn own_fixtures_round_trip() {
    let expected = [("learn_kylin", "kylin-new"), ("kylin_old", "kylin-old"), ("kylin_backup", "kylin-new-backup")];
    for (name, layout) in expected {
        assert_eq!(opened(&fixture(name), Reading::Detect).layout(), layout);
        round_trip(&fixture(name), Reading::Detect);
    }
}

#[test]
fn folder_with_a_metadata_zip_is_that_zip() {
    let (scratch, (_, repo)) = (scratch(), create());
    let core = fixture("kylin_backup").join("core_meta");
    let expected = root_of(&core, Reading::Detect, &repo);
    fs::create_dir_all(scratch.path().join("core_meta")).unwrap();
    zip_of(&files(&core), &scratch.path().join("core_meta/metadata.zip"), false);
    for place in ["", "core_meta", "core_meta/metadata.zip"] {
        assert_eq!(root_of(&scratch.path().join(place), Reading::Detect, &repo), expected, "{place}");
    }
}

#[test]
fn export_of_a_backup_folder_as_zip_and_folders_beside_it_loses_nothing() {
    let (scratch, (_, repo)) = (scratch(), create());
    let source = copy(&fixture("kylin_backup"), &scratch.path().join("source"));
    let snapshot = back_up_store(&*opened(&source, Reading::Detect), &repo, Scope::System).snapshot;
    let (core, beside) = (scratch.path().join("core_meta"), scratch.path().join("beside"));
    fs::create_dir(&core).unwrap();
    let zip = open_target(&core.join("metadata.zip"), CORE, "kylin-new").unwrap();
    let folders = open_target(&beside, FOLDER, "kylin-new-backup").unwrap();
    let report = export(&repo, &snapshot, &Scope::System, &[&*zip.store, &*folders.store], &Silent).unwrap();
    assert_eq!((report.documents, report.left_out), (snapshot.manifest.documents, Vec::<EntryPath>::new()));
    assert_eq!(report.bytes, snapshot.manifest.bytes);
    let (in_core, rest): (Files, Files) =
        files(&source).into_iter().partition(|(name, _)| name.starts_with("core_meta/"));
    assert!(files(&beside) == rest);
    let names = in_core.into_iter().map(|(name, (bytes, _))| (name["core_meta/".len()..].to_owned(), bytes));
    assert!(unzipped(&core.join("metadata.zip")) == names.collect::<Vec<_>>());
}
