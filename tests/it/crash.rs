//! The storage stops at each write in turn: nothing old is lost, nothing half done is seen, and the next backup goes on
//! from what was finished.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use metastash::monitor::Silent;
use metastash::ops::Error;
use metastash::ops::backup::BackupReport;
use metastash::ops::restore::{Mode, RestoreOptions, restore};
use metastash::ops::stats::stats;
use metastash::repo::snapshot::Snapshot;
use metastash::repo::{self, Repository};
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;

use crate::support::{
    Contents, assert_sound, author, back_up, back_up_with, below, config, contents, contents_of, copy, noise, open,
    options, restore_into, restore_options, scratch, settle, snapshots, store, text, view, write,
};

type Old = Vec<(Snapshot, Contents)>;

fn open_or_create(storage: &MemoryStorage) -> Repository {
    match Repository::open(Arc::new(storage.clone())) {
        Err(repo::Error::NotARepository { .. }) => Repository::create_when_needed(Arc::new(storage.clone()), config()),
        result => result.unwrap(),
    }
}

fn is_stopped<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Repository(repo::Error::Storage(_))))
}

/// Backs `source` up once for each write that the backup makes, each time on a fresh copy of `storage` that stops there.
/// Returns after how many writes it was done.
fn stop_everywhere(storage: &MemoryStorage, source: &Path, old: &Old) -> u64 {
    let undisturbed = copy(storage);
    let whole = back_up(source, &open_or_create(&undisturbed));
    for count in 0.. {
        let storage = copy(storage);
        storage.stop_after(count);
        let result = back_up_with(source, &open_or_create(&storage), &options());
        storage.go_on();
        if result.is_ok() {
            return count;
        }
        assert!(is_stopped(&result), "{result:?}");
        if storage.names().is_empty() {
            assert_eq!(count, 0, "a repository is there from the first write on");
        } else {
            assert_as_before(&storage, old);
        }
        go_on(&storage, source, &whole, &undisturbed);
    }
    unreachable!("a backup ends");
}

fn assert_as_before(storage: &MemoryStorage, old: &Old) {
    let repo = open(storage);
    assert_sound(&repo);
    let listed: Vec<_> = snapshots(&repo).into_iter().map(|snapshot| snapshot.id).collect();
    let expected: Vec<_> = old.iter().map(|(snapshot, _)| snapshot.id).collect();
    assert_eq!(listed, expected, "no partial snapshot is seen, and no old one is lost");
    for (snapshot, expected) in old {
        assert!(contents(&repo, snapshot) == *expected, "snapshot {} reads as before", snapshot.id.short());
    }
}

/// The backup that comes after the one that was cut off.
fn go_on(storage: &MemoryStorage, source: &Path, whole: &BackupReport, undisturbed: &MemoryStorage) {
    let finished = pack_bytes(storage) - pack_bytes_before(undisturbed, whole);
    let report = back_up(source, &open_or_create(storage));
    let repo = open(storage);
    assert_sound(&repo);
    assert!(contents(&repo, &report.snapshot) == contents_of(&view(source)));
    assert_eq!(report.snapshot.manifest.root, whole.snapshot.manifest.root);
    // What the packs that were finished hold is not stored again.
    assert_eq!(stats(&repo).unwrap().chunks, stats(&open(undisturbed)).unwrap().chunks);
    let (stored, expected) = (report.bytes_stored, whole.bytes_stored.saturating_sub(finished));
    assert!(stored <= expected + 4096, "{finished} bytes were finished, and {stored} stored again");
}

fn pack_bytes(storage: &MemoryStorage) -> u64 {
    storage.list("packs").unwrap().iter().map(|object| object.size_bytes).sum()
}

fn pack_bytes_before(undisturbed: &MemoryStorage, whole: &BackupReport) -> u64 {
    pack_bytes(undisturbed) - whole.bytes_stored
}

#[test]
fn interrupted_first_backup_leaves_no_visible_partial() {
    let scratch = scratch();
    for n in 0..50 {
        write(scratch.path(), format!("p/{n}"), text(n, 300));
    }
    settle();
    let writes = stop_everywhere(&MemoryStorage::new(), scratch.path(), &Old::new());
    assert_eq!(writes, 3, "configuration, pack, snapshot");
}

#[test]
fn interrupted_backup_of_several_packs_is_continued_by_the_next() {
    let scratch = scratch();
    for n in 0..80 {
        write(scratch.path(), format!("p/{n}"), noise(n, 500_000));
    }
    write(scratch.path(), "p/cut", noise(1000, 3_000_000));
    settle();
    let writes = stop_everywhere(&MemoryStorage::new(), scratch.path(), &Old::new());
    assert!(writes >= 6, "{writes}: configuration, three packs of documents, one of trees, snapshot");
}

#[test]
fn interrupted_later_backup_hurts_no_old_snapshot() {
    let scratch = scratch();
    let storage = MemoryStorage::new();
    let mut old = Old::new();
    for round in 0..4 {
        for n in 0..30 {
            write(scratch.path(), format!("p{}/{n}", n % 3), text(n * 7 + round * (n % 2), 400));
        }
        fs::remove_file(below(scratch.path(), format!("p0/{}", round * 3))).unwrap();
        settle();
        if round > 0 {
            assert_eq!(stop_everywhere(&storage, scratch.path(), &old), 2, "pack and snapshot");
        }
        let report = back_up(scratch.path(), &open_or_create(&storage));
        old.push((report.snapshot, contents_of(&view(scratch.path()))));
    }
    settle();
    assert_eq!(stop_everywhere(&storage, scratch.path(), &old), 1, "unchanged: the snapshot only");
}

#[test]
fn interrupted_backup_that_writes_an_index_segment_hurts_nothing() {
    let scratch = scratch();
    let storage = MemoryStorage::new();
    let mut old = Old::new();
    for n in 0..32 {
        write(scratch.path(), format!("p/{n}"), text(n, 100));
        settle();
        if n == 31 {
            let writes = stop_everywhere(&storage, scratch.path(), &old);
            assert_eq!(writes, 3, "pack, segment, snapshot");
        }
        let report = back_up(scratch.path(), &open_or_create(&storage));
        old.push((report.snapshot, contents_of(&view(scratch.path()))));
    }
    assert_eq!(storage.list("index").unwrap().len(), 1);
    write(scratch.path(), "p/last", b"with a segment");
    settle();
    assert_eq!(stop_everywhere(&storage, scratch.path(), &old), 2, "pack and snapshot");
}

#[test]
fn restore_whose_checkpoint_cannot_be_written_leaves_the_target_alone() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    write(&source, "p/a", b"first");
    let storage = MemoryStorage::new();
    let report = back_up(&source, &open_or_create(&storage));
    write(&source, "p/a", b"second");
    let before = view(&source);
    for count in 0..2 {
        storage.stop_after(count);
        let result =
            restore(&store(&source), &open(&storage), &report.snapshot, &restore_options(Mode::Merge), &Silent);
        storage.go_on();
        assert!(is_stopped(&result), "{result:?}");
        assert_eq!(view(&source), before);
    }
    let options = RestoreOptions { author: author(), ..restore_options(Mode::Merge) };
    restore(&store(&source), &open(&storage), &report.snapshot, &options, &Silent).unwrap();
    assert_eq!(view(&source)[&b"p/a"[..]].bytes(), Some(&b"first"[..]));
}

#[test]
fn old_snapshots_restore_after_an_interrupted_backup() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    write(&source, "p/a", b"first");
    write(&source, "q/b", text(1, 5000));
    let storage = MemoryStorage::new();
    let report = back_up(&source, &open_or_create(&storage));
    let taken = view(&source);
    write(&source, "p/a", b"second");
    storage.stop_after(1);
    assert!(is_stopped(&back_up_with(&source, &open(&storage), &options())));
    storage.go_on();
    let target = scratch.path().join("target");
    restore_into(&target, &open(&storage), &report.snapshot, Mode::Merge).unwrap();
    assert_eq!(view(&target), taken);
}
