//! Flipped, cut, empty and missing files of each kind: what is hit is named, nothing wrong is restored, and the next
//! backup heals what it can.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use metastash::model::hash::{ChunkId, SnapshotId};
use metastash::monitor::Silent;
use metastash::ops::backup::BackupOptions;
use metastash::ops::check::{CheckReport, Depth, check};
use metastash::ops::restore::Mode;
use metastash::repo::format::pack::FrameKind;
use metastash::repo::index::Location;
use metastash::repo::snapshot::Snapshot;
use metastash::repo::{self, Repository};
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;
use tempfile::TempDir;

use crate::support::{
    Contents, View, assert_sound, back_up, back_up_with, below, check_everything, contents, contents_of, copy, create,
    entries, noise, open, options, read_document, restore_into, scratch, settle, text, view, write,
};

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Harm {
    Flip(usize),
    CutTail(usize),
    CutHead(usize),
    Empty,
    Zero,
    Delete,
}

/// A repository to be damaged, and what it was made of.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) storage: MemoryStorage,
    pub(crate) taken: Vec<(Snapshot, View)>,
}

impl Stage {
    pub(crate) fn source(&self) -> std::path::PathBuf {
        self.folder.path().join("source")
    }

    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        self.storage.names().into_iter().filter(|name| name.starts_with(folder)).collect()
    }

    /// Returns the pack whose frames fit.
    fn pack(&self, fits: impl Fn(&BTreeSet<bool>) -> bool) -> String {
        let index = open(&self.storage).index().unwrap();
        let kinds = |pack: &&repo::index::Pack| {
            fits(&pack.directory.frames.iter().map(|frame| frame.kind == FrameKind::Documents).collect())
        };
        format!("packs/{}", index.packs().iter().find(kinds).unwrap().id)
    }

    pub(crate) fn documents_pack(&self) -> String {
        self.pack(|kinds| *kinds == BTreeSet::from([true]))
    }

    pub(crate) fn trees_pack(&self) -> String {
        self.pack(|kinds| *kinds == BTreeSet::from([false]))
    }

    pub(crate) fn shared_pack(&self) -> String {
        self.pack(|kinds| kinds.len() == 2)
    }
}

/// Two snapshots: the first with packs for documents and for trees, the second with one pack for both.
pub(crate) fn stage() -> Stage {
    let folder = scratch();
    let source = folder.path().join("source");
    for n in 0..24 {
        write(&source, format!("p{}/k/{n:02}", n % 2), noise(n, 130_000));
    }
    for n in 0..20 {
        write(&source, format!("p{}/small/{n}", n % 2), text(n, 500));
    }
    write(&source, "p0/cut", noise(100, 1_400_000));
    write(&source, "p0/empty", b"");
    std::fs::create_dir(below(&source, "p1/nothing in it")).unwrap();
    settle();
    let (storage, repo) = create();
    let mut taken = vec![(back_up(&source, &repo).snapshot, view(&source))];
    for n in 0..4 {
        write(&source, format!("p0/small/{}", n * 2), text(n + 200, 700));
    }
    settle();
    taken.push((back_up(&source, &repo).snapshot, view(&source)));
    Stage { folder, storage, taken }
}

pub(crate) fn inflict(storage: &MemoryStorage, name: &str, harm: Harm) {
    if let Harm::Delete = harm {
        return storage.remove(name).unwrap();
    }
    storage.damage(name, |bytes| match harm {
        Harm::Flip(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
        Harm::CutTail(left) => bytes.truncate(left),
        Harm::CutHead(cut) => drop(bytes.drain(..cut)),
        Harm::Empty => bytes.clear(),
        Harm::Zero => bytes.fill(0),
        Harm::Delete => unreachable!("it was removed above"),
    });
}

/// Returns one of each harm, with flips spread over the file.
pub(crate) fn harms(length: usize) -> Vec<Harm> {
    let flips = (0..9).map(|n| Harm::Flip((length - 1) * 8 * n / 8 + n % 8));
    let cuts = [1, length / 2, length - 1];
    let cuts = cuts.into_iter().flat_map(|by| [Harm::CutTail(length - by), Harm::CutHead(by)]);
    flips.chain(cuts).chain([Harm::Empty, Harm::Zero, Harm::Delete]).collect()
}

/// Returns which documents of which snapshots can't be read, and which snapshots can't be listed.
pub(crate) type Unreadable = (BTreeSet<(Vec<u8>, SnapshotId)>, BTreeSet<SnapshotId>);

pub(crate) fn unreadable(repo: &Repository, taken: &[Snapshot]) -> Unreadable {
    let (mut documents, mut trees) = Unreadable::default();
    for snapshot in taken {
        match entries(repo, snapshot) {
            Err(_) => drop(trees.insert(snapshot.id)),
            Ok(entries) => {
                let bad = entries.iter().filter(|entry| read_document(repo, entry).is_err());
                documents.extend(bad.map(|entry| (entry.path.as_bytes().to_vec(), snapshot.id)));
            }
        }
    }
    (documents, trees)
}

fn reported(report: &CheckReport) -> Unreadable {
    let each = report.hits.iter().flat_map(|hit| hit.snapshots.iter().map(|id| (hit.path.as_bytes().to_vec(), *id)));
    // Of a tree that can't be read in full some documents may be known: they are beyond what is asked here.
    let documents = each.filter(|(_, id)| !report.unreadable_trees.contains(id)).collect();
    (documents, report.unreadable_trees.clone())
}

/// Damages a copy of the stage's repository and looks at all that may be tried next. Returns what `check` said.
fn examine(stage: &Stage, name: &str, harm: Harm) -> CheckReport {
    let storage = copy(&stage.storage);
    inflict(&storage, name, harm);
    let context = format!("{name} {harm:?}");
    let report = check_everything(&open(&storage));
    let listed = open(&storage).snapshots().unwrap().snapshots;
    assert_eq!(reported(&report), unreadable(&open(&storage), &listed), "{context}: what is hit, exactly");
    for (snapshot, view) in stage.taken.iter().filter(|(snapshot, _)| listed.contains(snapshot)) {
        assert_restores_or_fails(&storage, snapshot, view, &report, &context);
    }
    assert_heals(&storage, &stage.source(), &context);
    report
}

fn assert_restores_or_fails(
    storage: &MemoryStorage,
    snapshot: &Snapshot,
    expected: &View,
    report: &CheckReport,
    context: &str,
) {
    let scratch = scratch();
    let target = scratch.path().join("target");
    let is_hit = report.unreadable_trees.contains(&snapshot.id)
        || report.hits.iter().any(|hit| hit.snapshots.contains(&snapshot.id));
    match restore_into(&target, &open(storage), snapshot, Mode::Merge) {
        Ok(_) => assert!(!is_hit && view(&target) == *expected, "{context}: all of it was restored"),
        Err(error) => {
            assert!(is_hit, "{context}: {error}");
            assert_eq!(count(scratch.path()), 1, "{context}: nothing is left beside it");
            assert_eq!(count(&target), 0, "{context}: nothing was written");
        }
    }
    if is_hit {
        // Into a store that holds something: nothing of it is touched.
        write(&target, "p0/small/0", b"what is there");
        write(&target, "p1/own", b"its own");
        let before = view(&target);
        assert!(restore_into(&target, &open(storage), snapshot, Mode::Truncate).is_err(), "{context}");
        assert!(view(&target) == before && count(scratch.path()) == 1, "{context}");
    }
}

fn count(folder: &Path) -> usize {
    folder.read_dir().unwrap().count()
}

fn assert_heals(storage: &MemoryStorage, source: &Path, context: &str) {
    let next = back_up_with(source, &open(storage), &options());
    assert!(next.is_ok(), "{context}: the next backup: {next:?}");
    let forced = BackupOptions { force: true, ..options() };
    let forced = back_up_with(source, &open(storage), &forced);
    let forced = forced.unwrap_or_else(|error| panic!("{context}: a forced backup: {error}")).snapshot;
    let repo = open(storage);
    let report = check_everything(&repo);
    let is_hit = report.hits.iter().any(|hit| hit.snapshots.contains(&forced.id));
    assert!(!is_hit && !report.unreadable_trees.contains(&forced.id), "{context}: {report:?}");
    assert!(contents(&repo, &forced) == contents_of(&view(source)), "{context}: all is stored again");
}

fn examine_all(stage: &Stage, name: &str, assert_noticed: impl Fn(Harm, &CheckReport)) {
    for harm in harms(stage.storage.read(name).unwrap().len()) {
        assert_noticed(harm, &examine(stage, name, harm));
    }
}

fn is_damaged(harm: Harm, report: &CheckReport) {
    assert!(report.is_damaged(), "{harm:?} was not noticed");
}

#[test]
fn damaged_pack_of_documents_costs_what_is_named() {
    let stage = stage();
    examine_all(&stage, &stage.documents_pack(), is_damaged);
}

#[test]
fn damaged_pack_of_trees_costs_what_is_named() {
    let stage = stage();
    examine_all(&stage, &stage.trees_pack(), is_damaged);
}

#[test]
fn damaged_shared_pack_costs_what_is_named() {
    let stage = stage();
    examine_all(&stage, &stage.shared_pack(), is_damaged);
}

#[test]
fn damaged_snapshot_is_reported_and_the_others_are_fine() {
    let stage = stage();
    for name in stage.names("snapshots/") {
        examine_all(&stage, &name, |harm, report| {
            // One that is gone was forgotten, as far as anyone can tell.
            assert_eq!(report.is_damaged(), !matches!(harm, Harm::Delete), "{harm:?}");
            assert!(report.hits.is_empty() && report.unreadable_trees.is_empty());
        });
    }
}

#[test]
fn damaged_configuration_is_refused() {
    let stage = stage();
    let length = stage.storage.read("config").unwrap().len();
    for harm in (0..length * 8).map(Harm::Flip).chain(harms(length)) {
        let storage = copy(&stage.storage);
        inflict(&storage, "config", harm);
        let result = Repository::open(Arc::new(storage));
        // The flag of a feature looks like a newer format: refused too.
        let is_fitting = matches!(result, Err(repo::Error::Damaged { .. } | repo::Error::TooNew { .. }));
        assert!(is_fitting, "{harm:?}: {result:?}");
    }
}

/// Enough small backups that an index segment is written.
pub(crate) fn stage_with_segment() -> Stage {
    let folder = scratch();
    let source = folder.path().join("source");
    let (storage, repo) = create();
    let mut taken = Vec::new();
    for n in 0..33 {
        write(&source, format!("p/{n}"), text(n, 200));
        let snapshot = back_up(&source, &repo).snapshot;
        if n % 16 == 0 {
            taken.push((snapshot, view(&source)));
        }
    }
    settle();
    back_up(&source, &repo);
    Stage { folder, storage, taken }
}

#[test]
fn lost_index_segment_is_rebuilt_from_packs_alone() {
    let stage = stage_with_segment();
    let [segment] = &stage.names("index/")[..] else { panic!("one segment") };
    let whole = open(&stage.storage).index().unwrap();
    assert!(whole.packs().iter().any(|pack| pack.is_in_segment));
    for harm in harms(stage.storage.read(segment).unwrap().len()) {
        let report = examine(&stage, segment, harm);
        assert_eq!(report.findings.len(), usize::from(!matches!(harm, Harm::Delete)), "{harm:?}");
        assert!(report.hits.is_empty() && report.unreadable_trees.is_empty(), "nothing is lost: {report:?}");
        let storage = copy(&stage.storage);
        inflict(&storage, segment, harm);
        let rebuilt = open(&storage).index().unwrap();
        let directories = |index: &repo::index::Index| -> Vec<_> {
            index.packs().iter().map(|pack| (pack.id, pack.directory.clone())).collect()
        };
        assert_eq!(directories(&rebuilt), directories(&whole));
    }
}

#[test]
fn damaged_pack_that_a_segment_knows_costs_what_is_named() {
    let stage = stage_with_segment();
    let index = open(&stage.storage).index().unwrap();
    for pack in index.packs().iter().filter(|pack| pack.is_in_segment).take(3) {
        let length = usize::try_from(pack.size_bytes).unwrap();
        for harm in [Harm::Flip(length * 4), Harm::Flip(length * 8 - 1), Harm::CutTail(length - 1), Harm::Delete] {
            is_damaged(harm, &examine(&stage, &format!("packs/{}", pack.id), harm));
        }
    }
}

#[test]
fn flipped_bit_costs_only_the_documents_of_its_frame() {
    let stage = stage();
    let name = stage.documents_pack();
    let repo = open(&stage.storage);
    let index = repo.index().unwrap();
    let number = index.packs().iter().position(|pack| name.ends_with(&pack.id.to_string())).unwrap();
    let frames = &index.packs()[number].directory.frames;
    assert!(frames.len() >= 5, "several frames in a pack");
    for (frame, entry) in frames.iter().enumerate() {
        let storage = copy(&stage.storage);
        let middle = usize::try_from(entry.offset).unwrap() + entry.stored_bytes as usize / 2;
        inflict(&storage, &name, Harm::Flip(middle * 8 + 3));
        let (hit, trees) = reported(&check_everything(&open(&storage)));
        let allowed = documents_in(&repo, &stage, |location| {
            location.pack as usize == number && location.frame as usize == frame
        });
        assert!(!hit.is_empty() && hit.is_subset(&allowed) && trees.is_empty(), "frame {frame}: {hit:?}");
    }
}

/// Returns the documents that have a chunk at a place that fits.
fn documents_in(repo: &Repository, stage: &Stage, fits: impl Fn(&Location) -> bool) -> BTreeSet<(Vec<u8>, SnapshotId)> {
    let index = repo.index().unwrap();
    let is_there = |chunk: &ChunkId| index.locate(FrameKind::Documents, chunk).any(|location| fits(&location));
    let mut found = BTreeSet::new();
    for (snapshot, _) in &stage.taken {
        for entry in entries(repo, snapshot).unwrap() {
            if entry.document().is_some_and(|document| document.chunks().any(|chunk| is_there(&chunk))) {
                found.insert((entry.path.as_bytes().to_vec(), snapshot.id));
            }
        }
    }
    found
}

#[test]
fn every_bit_of_a_small_pack_and_of_a_snapshot_counts() {
    let scratch = scratch();
    write(scratch.path(), "p/a", b"a document");
    write(scratch.path(), "p/b", b"another one");
    let (storage, repo) = create();
    back_up(scratch.path(), &repo);
    for name in storage.names().into_iter().filter(|name| name != "config") {
        for bit in 0..storage.read(&name).unwrap().len() * 8 {
            inflict(&storage, &name, Harm::Flip(bit));
            assert!(check_everything(&open(&storage)).is_damaged(), "bit {bit} of {name}");
            inflict(&storage, &name, Harm::Flip(bit));
        }
    }
    assert_sound(&open(&storage));
}

#[test]
fn missing_pack_is_found_by_a_quick_check() {
    let stage = stage();
    for name in [stage.documents_pack(), stage.trees_pack(), stage.shared_pack()] {
        let storage = copy(&stage.storage);
        inflict(&storage, &name, Harm::Delete);
        let repo = open(&storage);
        assert!(check(&repo, Depth::Quick, &Silent).unwrap().is_damaged(), "{name}");
    }
    assert!(!check(&open(&stage.storage), Depth::Quick, &Silent).unwrap().is_damaged());
}

#[test]
fn copy_that_is_sound_is_read_when_another_is_damaged() {
    let stage = stage();
    let storage = copy(&stage.storage);
    let name = stage.documents_pack();
    storage.damage(&name, |bytes| bytes[100] ^= 1);
    let forced = BackupOptions { force: true, ..options() };
    back_up_with(&stage.source(), &open(&storage), &forced).unwrap();
    let repo = open(&storage);
    for (snapshot, view) in &stage.taken {
        let expected: Contents = contents_of(view);
        assert!(contents(&repo, snapshot) == expected, "healed for old snapshots too");
    }
    let report = check_everything(&repo);
    assert!(report.hits.is_empty() && report.is_damaged(), "the damage is still there, and costs nothing");
}

/// Leaves are read later than the nodes above them.
#[test]
fn damaged_leaf_does_not_stand_in_the_way_of_a_backup() {
    let folder = scratch();
    let source = folder.path().join("source");
    for n in 0..4500 {
        write(&source, format!("p/{n}"), n.to_string());
    }
    settle();
    let (storage, repo) = create();
    let first = back_up(&source, &repo);
    let index = repo.index().unwrap();
    let pack = &index.packs()[0];
    let frames = pack.directory.frames.iter().filter(|frame| frame.kind == FrameKind::Trees);
    let leaf = frames.clone().next().unwrap();
    assert_eq!(frames.count(), 2, "the first leaf has a frame of its own");
    inflict(&storage, &format!("packs/{}", pack.id), Harm::Flip((usize::try_from(leaf.offset).unwrap() + 100) * 8));
    let report = check_everything(&open(&storage));
    assert_eq!(report.unreadable_trees, BTreeSet::from([first.snapshot.id]));
    assert!(restore_into(&folder.path().join("target"), &open(&storage), &first.snapshot, Mode::Merge).is_err());
    assert_heals(&storage, &source, "a damaged leaf");
}
