//! What is written has the shape that docs/format.md describes: large packs, frames of a size, leaves of a size.

use std::fs;
use std::time::Duration;

use metastash::monitor::Silent;
use metastash::ops::prune::{PruneOptions, prune};
use metastash::repo::Repository;
use metastash::repo::config::GRACE_SECS;
use metastash::repo::format::pack::{FrameEntry, FrameKind};
use metastash::repo::index::Pack;

use crate::support::{back_up, below, create, noise, open, scratch, take, text, write};

const PACK_BYTES: u64 = 16 << 20;
/// A pack up to here holds documents and the tree together.
const SMALL_BYTES: u64 = 1 << 20;
/// Raw bytes at which a frame of documents is full, and one of nodes.
const FRAME_BYTES: [u64; 2] = [2 << 20, 128 << 10];

fn frames_of(pack: &Pack, kind: FrameKind) -> Vec<FrameEntry> {
    pack.directory.frames.iter().filter(|frame| frame.kind == kind).cloned().collect()
}

/// Asserts that frames of a kind are full: no two that follow each other in a pack would fit one.
fn assert_full(repo: &Repository, full: u64, kind: FrameKind) {
    let index = repo.index().unwrap();
    for pack in index.packs() {
        let frames = frames_of(pack, kind);
        let raw: Vec<u64> = frames.iter().map(|frame| u64::from(frame.raw_bytes)).collect();
        let is_fitting = |frame: &FrameEntry| u64::from(frame.raw_bytes) <= full || frame.chunks == 1;
        assert!(frames.iter().all(is_fitting), "{kind:?}: {raw:?}");
        assert!(raw.windows(2).all(|pair| pair[0] + pair[1] > full), "{kind:?}: {raw:?}");
    }
}

#[test]
fn packs_of_documents_are_closed_when_they_are_large_and_trees_have_their_own() {
    let scratch = scratch();
    let (storage, repo) = create();
    for n in 0..200 {
        write(scratch.path(), format!("p/{n}"), noise(n, 200_000));
    }
    back_up(scratch.path(), &repo);
    let repo = open(&storage);
    let index = repo.index().unwrap();
    let (trees, documents): (Vec<&Pack>, Vec<&Pack>) =
        index.packs().iter().partition(|pack| !frames_of(pack, FrameKind::Trees).is_empty());
    assert_eq!((trees.len(), frames_of(trees[0], FrameKind::Documents).len()), (1, 0));
    let mut sizes: Vec<u64> = documents.iter().map(|pack| pack.size_bytes).collect();
    sizes.sort_unstable();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes[1..].iter().all(|size| (PACK_BYTES..PACK_BYTES + (3 << 20)).contains(size)), "{sizes:?}");
    let chunks: usize = documents.iter().map(|pack| pack.directory.lengths.len()).sum();
    assert_eq!(chunks, 200, "each is there once");
}

#[test]
fn what_is_the_same_is_stored_once_within_a_backup_and_over_many() {
    let scratch = scratch();
    let (storage, repo) = create();
    let chunks = || -> usize {
        let index = open(&storage).index().unwrap();
        let frames = index.packs().iter().flat_map(|pack| frames_of(pack, FrameKind::Documents));
        frames.map(|frame| frame.chunks as usize).sum()
    };
    // Far enough from each other that several threads read them.
    for n in 0..40 {
        write(scratch.path(), format!("p{n}/same"), text(1, 5000));
        write(scratch.path(), format!("p{n}/other"), noise(n, 150_000));
        write(scratch.path(), format!("p{n}/large"), noise(100, 2_000_000));
    }
    back_up(scratch.path(), &repo);
    let pieces = chunks() - 41;
    assert!((3..30).contains(&pieces), "each small content, and the large one in {pieces} pieces");
    write(scratch.path(), "q/same", text(1, 5000));
    write(scratch.path(), "q/large", noise(100, 2_000_000));
    back_up(scratch.path(), &open(&storage));
    assert_eq!(chunks(), 41 + pieces);
}

#[test]
fn small_backup_is_one_pack_and_a_larger_one_two() {
    for (length, packs) in [(SMALL_BYTES - 20_000, 1), (SMALL_BYTES + 20_000, 2)] {
        let scratch = scratch();
        let (storage, repo) = create();
        for n in 0..4 {
            write(scratch.path(), format!("p/{n}"), noise(n, usize::try_from(length).unwrap() / 4));
        }
        back_up(scratch.path(), &repo);
        assert_eq!(open(&storage).index().unwrap().packs().len(), packs, "{length}");
    }
}

#[test]
fn leaf_ends_when_it_has_many_records_or_long_paths_or_many_pieces() {
    // Where each record takes how much: many short paths are tried where trees of several leaves are.
    let long = "d".repeat(200);
    let deep = [long.as_str(); 15].join("/");
    let scratch = scratch();
    let (storage, repo) = create();
    for n in 0..700 {
        write(scratch.path(), format!("p/{deep}/{n:03}"), "x");
    }
    let snapshot = back_up(scratch.path(), &repo).snapshot;
    let repo = open(&storage);
    let tree = repo.tree(&snapshot.manifest.tree).unwrap();
    let records: Vec<u32> = tree.runs[0].leaves.iter().map(|leaf| leaf.records).collect();
    let of_leaf = u32::try_from((1 << 20) / (deep.len() + 6)).unwrap();
    assert!((of_leaf..of_leaf + 20).contains(&records[0]), "{of_leaf}: {records:?}");
}

/// Some hundred packs of small frames become one whose frames are full.
#[test]
fn what_a_prune_copies_is_gathered_in_full_frames() {
    let scratch = scratch();
    let storage = create().0;
    for round in 0..60 {
        for n in 0..4 {
            write(scratch.path(), format!("p{n}/{round}"), text(round * 4 + n, 30_000));
        }
        if round > 30 {
            fs::remove_file(below(scratch.path(), format!("p0/{}", round - 30))).unwrap();
        }
        take(scratch.path(), &storage);
    }
    for _ in 0..2 {
        prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
        storage.clock().pass(Duration::from_secs(GRACE_SECS + 60));
    }
    let repo = open(&storage);
    assert_eq!(repo.index().unwrap().packs().iter().filter(|pack| !pack.is_marked).count(), 2);
    for (full, kind) in FRAME_BYTES.into_iter().zip([FrameKind::Documents, FrameKind::Trees]) {
        assert_full(&repo, full, kind);
    }
}
