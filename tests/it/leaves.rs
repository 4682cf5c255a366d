//! Trees of several leaves, with changes over them: what is asked of a part is what a walk over all of it finds.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::{Arc, OnceLock};

use metastash::model::entry::Entry;
use metastash::model::path::EntryPath;
use metastash::repo::format::pack::FrameKind;
use metastash::repo::snapshot::Snapshot;
use metastash::repo::tree::Tree;
use metastash::repo::{self, Repository};
use metastash::storage::Error;
use metastash::storage::memory::MemoryStorage;

use crate::support::{Call, Hooked, back_up, below, create, entries, open, path, scratch, settle, write};

/// Returns a repository of a store of 4,500 documents, so that its tree has two leaves, and that store after some changes.
fn stage() -> (MemoryStorage, [Snapshot; 2]) {
    static STAGE: OnceLock<(MemoryStorage, [Snapshot; 2])> = OnceLock::new();
    let (storage, snapshots) = STAGE.get_or_init(make_stage);
    (storage.fork(), snapshots.clone())
}

fn make_stage() -> (MemoryStorage, [Snapshot; 2]) {
    let folder = scratch();
    let (storage, repo) = create();
    for n in 0..4500 {
        write(folder.path(), format!("p{}/{n:04}", n / 1500), n.to_string());
    }
    settle();
    let first = back_up(folder.path(), &repo).snapshot;
    for n in [0, 7, 4400] {
        write(folder.path(), format!("p{}/{n:04}", n / 1500), "changed");
    }
    write(folder.path(), "p1/new", "new");
    fs::remove_file(below(folder.path(), "p2/4499")).unwrap();
    settle();
    let second = back_up(folder.path(), &repo).snapshot;
    (storage, [first, second])
}

fn tree_of(storage: &MemoryStorage, snapshot: &Snapshot) -> (Tree, Vec<Entry>) {
    let repo = open(storage);
    (repo.tree(&snapshot.manifest.tree).unwrap(), entries(&repo, snapshot).unwrap())
}

/// Some paths that are there, the first and the last of each leaf among them, those that changed, and some that are not.
fn some_paths(tree: &Tree, all: &[Entry]) -> Vec<EntryPath> {
    let there = all.iter().step_by(613).chain(all.last()).map(|entry| entry.path.clone());
    let there = there.chain(tree.runs[0].leaves.iter().map(|leaf| leaf.first.clone()));
    let others = ["a", "p0/0000", "p0/0007", "p1/1500x", "p1/new", "p2/4400", "p2/4499", "z"];
    there.chain(others.map(path)).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn looking_paths_up_finds_what_a_walk_finds() {
    let (storage, snapshots) = stage();
    let repo = open(&storage);
    for snapshot in &snapshots {
        let (tree, all) = tree_of(&storage, snapshot);
        assert!(tree.runs[0].leaves.len() > 1, "{}", tree.runs[0].leaves.len());
        let paths = some_paths(&tree, &all);
        let expected: Vec<Option<Entry>> =
            paths.iter().map(|path| all.iter().find(|entry| entry.path == *path).cloned()).collect();
        assert!(expected.iter().filter(|found| found.is_none()).count() >= 3);
        assert_eq!(repo.entries_at(&tree, &paths).unwrap(), expected);
        let top = repo.tree_top(&snapshot.manifest.tree).unwrap();
        let records = repo.records_of([&top].into_iter(), &paths).unwrap();
        let found: Vec<_> = (0..paths.len()).map(|n| records.entry(&top, n).cloned()).collect();
        assert_eq!(found, expected);
        // Nothing is asked for that any leaf could hold, and then only what the last one does.
        assert_eq!(repo.entries_at(&tree, &[path("a")]).unwrap(), [None]);
        assert_eq!(repo.entries_at(&tree, &[all.last().unwrap().path.clone()]).unwrap(), [all.last().cloned()]);
    }
}

#[test]
fn walk_from_a_path_on_leaves_out_that_path_and_what_is_before() {
    let (storage, snapshots) = stage();
    let repo = open(&storage);
    let (tree, all) = tree_of(&storage, &snapshots[1]);
    assert_eq!(tree.runs.len(), 2, "changes lie over the base");
    for after in some_paths(&tree, &all) {
        let rest: Vec<Entry> = repo.entries_after(&tree, &after).map(Result::unwrap).collect();
        let expected: Vec<Entry> = all.iter().filter(|entry| entry.path > after).cloned().collect();
        assert!(rest == expected, "after {after}: {} of {}", rest.len(), expected.len());
    }
    let within: Vec<Entry> = repo.entries_within(&tree, &path("p1")).map(Result::unwrap).collect();
    assert!(within.iter().all(|entry| entry.path.is_within(b"p1")));
    assert_eq!(within.len(), 1501);
}

#[test]
fn tree_counts_documents_and_their_bytes() {
    let (storage, snapshots) = stage();
    for snapshot in &snapshots {
        let (tree, all) = tree_of(&storage, snapshot);
        let documents: Vec<_> = all.iter().filter_map(Entry::document).collect();
        assert_eq!(tree.documents(), documents.len() as u64);
        assert_eq!(tree.bytes(), documents.iter().map(|document| document.size).sum::<u64>());
    }
}

#[test]
fn what_a_lost_leaf_may_have_said_is_uncertain_and_all_else_is_salvaged() {
    let (storage, snapshots) = stage();
    let (tree, all) = tree_of(&storage, &snapshots[1]);
    let [lost, next] = &tree.runs[0].leaves[..] else { panic!("two leaves") };
    let whole = open(&storage).salvage(&snapshots[1].manifest.tree).unwrap();
    assert_eq!((whole.entries, whole.uncertain), (all.clone(), 0));

    let index = open(&storage).index().unwrap();
    let location = index.locate(FrameKind::Trees, &lost.id).next().unwrap();
    let pack = index.pack(&location);
    let frame = &pack.directory.frames[location.frame as usize];
    storage.damage(&format!("packs/{}", pack.id), |bytes| bytes[usize::try_from(frame.offset).unwrap() + 100] ^= 1);
    let (name, offset) = (format!("packs/{}", pack.id), frame.offset);
    let salvaged = open(&storage).salvage(&snapshots[1].manifest.tree).unwrap();
    let certain: Vec<Entry> = all.iter().filter(|entry| entry.path >= next.first).cloned().collect();
    assert!(!certain.is_empty() && salvaged.entries == certain, "{} of {}", salvaged.entries.len(), certain.len());
    // Its records; and the newer ones of what it may have spoken of: two that changed, and the new one.
    assert_eq!(salvaged.uncertain, u64::from(lost.records) + 3);

    // A leaf that can't be had just now is not lost.
    let failing = Hooked::new(&storage, move |call| match call {
        Call::Read(read, at) if read == name && at == offset => Err(Error::new("read", read, io::Error::other("busy"))),
        _ => Ok(()),
    });
    let failed = Repository::open(Arc::new(failing)).unwrap().salvage(&snapshots[1].manifest.tree);
    assert!(matches!(failed, Err(repo::Error::Storage(_))), "{failed:?}");
}
