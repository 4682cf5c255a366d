//! What operations cost in calls to the storage, and what they leave alone.

use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::backup::{BackupOptions, plan_backup};
use metastash::ops::browse;
use metastash::ops::diff::{diff_live, diff_snapshots};
use metastash::ops::restore::{Mode, plan_restore};
use metastash::ops::stats::stats;
use metastash::repo::format::pack::FrameKind;
use metastash::storage::memory::MemoryStorage;

use crate::support::{
    back_up, back_up_with, below, chmod, create, entries, open, options, path, restore_options, scratch, settle, store,
    text, touch, view, write,
};

fn puts(storage: &MemoryStorage, act: impl FnOnce()) -> u64 {
    let before = storage.calls();
    act();
    let after = storage.calls();
    assert_eq!(after.removes, before.removes, "nothing is ever removed");
    after.puts - before.puts
}

fn small_store(root: &std::path::Path) {
    for n in 0..100 {
        write(root, format!("p{}/k/{n}", n % 3), text(n, 1000));
    }
    settle();
}

#[test]
fn unchanged_backup_puts_one_object() {
    let scratch = scratch();
    small_store(scratch.path());
    let (storage, repo) = create();
    assert_eq!(puts(&storage, || drop(back_up(scratch.path(), &repo))), 2, "pack and snapshot");
    for repo in [repo, open(&storage)] {
        let put = puts(&storage, || {
            let report = back_up(scratch.path(), &repo);
            assert_eq!((report.read, report.unchanged, report.bytes_stored), (0, 100, 0));
        });
        assert_eq!(put, 1);
    }
}

#[test]
fn unchanged_backup_that_reads_everything_puts_one_object() {
    let scratch = scratch();
    small_store(scratch.path());
    let (storage, repo) = create();
    back_up(scratch.path(), &repo);
    let forced = BackupOptions { force: true, ..options() };
    let put = puts(&storage, || assert_eq!(back_up_with(scratch.path(), &repo, &forced).unwrap().read, 100));
    assert_eq!(put, 1);
}

#[test]
fn small_backup_puts_at_most_two_objects() {
    let scratch = scratch();
    small_store(scratch.path());
    let (storage, repo) = create();
    back_up(scratch.path(), &repo);
    for n in 0..40 {
        write(scratch.path(), format!("p{}/k/{n}", n % 3), text(n + 1000, 900));
        write(scratch.path(), format!("p{}/new/{n}", n % 3), text(n + 2000, 900));
        let segments =
            |storage: &MemoryStorage| storage.names().iter().filter(|name| name.starts_with("index/")).count();
        let before = segments(&storage);
        let put = puts(&storage, || drop(back_up(scratch.path(), &open(&storage))));
        // Once in 32 backups the index gets a segment.
        assert!(put <= 2 + (segments(&storage) - before) as u64, "{put}");
    }
}

#[test]
fn skip_if_unchanged_puts_nothing() {
    let scratch = scratch();
    small_store(scratch.path());
    let (storage, repo) = create();
    let first = back_up(scratch.path(), &repo);
    let skip = BackupOptions { skip_if_unchanged: true, ..options() };
    let put = puts(&storage, || {
        let report = back_up_with(scratch.path(), &repo, &skip).unwrap();
        assert!(!report.is_new && report.snapshot == first.snapshot);
    });
    assert_eq!(put, 0);
    // Read again and found the same: nothing either.
    touch(&below(scratch.path(), "p0/k/0"), 500);
    assert_eq!(puts(&storage, || assert!(!back_up_with(scratch.path(), &repo, &skip).unwrap().is_new)), 0);
    write(scratch.path(), "p0/k/0", b"changed");
    assert!(back_up_with(scratch.path(), &repo, &skip).unwrap().is_new);
    let labeled = BackupOptions { label: Some("release".to_owned()), ..skip };
    assert!(back_up_with(scratch.path(), &repo, &labeled).unwrap().is_new, "a label is something new to write");
}

#[test]
fn skip_if_unchanged_does_not_skip_modes_and_empty_directories() {
    let scratch = scratch();
    small_store(scratch.path());
    let (_, repo) = create();
    back_up(scratch.path(), &repo);
    let skip = BackupOptions { skip_if_unchanged: true, ..options() };
    chmod(&below(scratch.path(), "p0/k/0"), 0o600);
    assert!(back_up_with(scratch.path(), &repo, &skip).unwrap().is_new, "a mode changed");
    chmod(&below(scratch.path(), "p1"), 0o700);
    let of_directory = back_up_with(scratch.path(), &repo, &skip).unwrap();
    let found = entries(&repo, &of_directory.snapshot).unwrap().into_iter().find(|entry| entry.path == path("p1"));
    assert!(of_directory.is_new && found.unwrap().mode == Some(0o700), "the mode of a directory changed");
    std::fs::create_dir(below(scratch.path(), "p0/empty")).unwrap();
    assert!(back_up_with(scratch.path(), &repo, &skip).unwrap().is_new, "a directory is new");
}

#[test]
fn plans_and_looks_put_nothing() {
    let scratch = scratch();
    small_store(scratch.path());
    let (storage, repo) = create();
    let first = back_up(scratch.path(), &repo).snapshot;
    write(scratch.path(), "p0/k/0", b"changed");
    let store = store(scratch.path());
    let before = view(scratch.path());
    let put = puts(&storage, || {
        let plan = plan_backup(&store, &repo, &options(), &Silent).unwrap();
        assert_eq!((plan.new, plan.to_read, plan.removed, plan.unchanged), (0, 1, 0, 99));
        let plan = plan_restore(&store, &repo, &first, &restore_options(Mode::Truncate), &Silent).unwrap();
        assert_eq!((plan.total().replace, plan.same), (1, 99));
        diff_live(&repo, &first, &store, &Scope::System, &Silent, |_| Ok(())).unwrap();
        browse::list(&repo, &first, &Scope::System, None, |_| Ok(())).unwrap();
    });
    assert_eq!(put, 0);
    assert_eq!(view(scratch.path()), before);
}

#[test]
fn backup_finds_what_its_plan_counted() {
    let scratch = scratch();
    small_store(scratch.path());
    for name in ["q/gone/x", "q/gone/y", "q/turned"] {
        write(scratch.path(), name, name);
    }
    let (_, repo) = create();
    back_up(scratch.path(), &repo);
    std::fs::remove_dir_all(scratch.path().join("q/gone")).unwrap();
    std::fs::remove_file(scratch.path().join("q/turned")).unwrap();
    std::fs::create_dir(scratch.path().join("q/turned")).unwrap();
    write(scratch.path(), "q/new", text(1, 70));
    write(scratch.path(), "p0/k/0", text(2, 90));
    let plan = plan_backup(&store(scratch.path()), &repo, &options(), &Silent).unwrap();
    assert_eq!((plan.new, plan.removed, plan.unchanged), (1, 3, 99));
    assert_eq!((plan.to_read, plan.bytes_to_read), (2, 160));
    let report = back_up(scratch.path(), &repo);
    assert_eq!((report.counts.new, report.counts.changed, report.counts.removed), (1, 1, 3));
    assert_eq!((report.unchanged, report.read, report.bytes_read), (99, 2, 160));
}

#[test]
fn listing_and_diff_read_no_frame_of_documents() {
    let scratch = scratch();
    small_store(scratch.path());
    let (storage, repo) = create();
    let first = back_up(scratch.path(), &repo).snapshot;
    write(scratch.path(), "p1/k/1", b"changed");
    write(scratch.path(), "p1/k/new", b"new");
    let second = back_up(scratch.path(), &repo).snapshot;
    let index = repo.index().unwrap();
    for pack in index.packs() {
        for frame in pack.directory.frames.iter().filter(|frame| frame.kind == FrameKind::Documents) {
            let start = usize::try_from(frame.offset).unwrap();
            storage.damage(&format!("packs/{}", pack.id), |bytes| {
                bytes[start..start + frame.stored_bytes as usize].fill(0xee);
            });
        }
    }
    let repo = open(&storage);
    let mut listed = 0;
    browse::list(&repo, &second, &Scope::System, None, |entry| {
        listed += u64::from(entry.document().is_some());
        Ok(())
    })
    .unwrap();
    assert_eq!(listed, 101);
    let report = diff_snapshots(&repo, &first, &second, &Scope::System, |_| Ok(())).unwrap();
    assert_eq!((report.added, report.removed, report.changed, report.mode), (1, 0, 1, 0));
}

#[test]
fn cost_of_an_unchanged_backup_does_not_grow_with_the_number_of_snapshots() {
    let scratch = scratch();
    small_store(scratch.path());
    let (storage, repo) = create();
    back_up(scratch.path(), &repo);
    let mut costs = Vec::new();
    for _ in 0..10 {
        let before = storage.calls();
        back_up(scratch.path(), &open(&storage));
        let after = storage.calls();
        costs.push((after.reads - before.reads, after.lists - before.lists));
    }
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
}

#[test]
fn stats_are_those_of_the_packs_and_of_the_newest_backup() {
    let scratch = scratch();
    small_store(scratch.path());
    let (_, repo) = create();
    back_up(scratch.path(), &repo);
    write(scratch.path(), "p0/k/0", b"changed");
    let newest = back_up(scratch.path(), &repo).snapshot.manifest;
    let (stats, index) = (stats(&repo).unwrap(), repo.index().unwrap());
    let frames = || index.packs().iter().flat_map(|pack| &pack.directory.frames);
    let stored = |kind: FrameKind| -> u64 {
        frames().filter(|frame| frame.kind == kind).map(|frame| u64::from(frame.stored_bytes)).sum()
    };
    assert_eq!((stats.snapshots, stats.packs, stats.chunks), (2, 2, 101));
    assert_eq!((stats.documents, stats.document_bytes), (newest.documents, newest.bytes));
    assert_eq!(stats.chunk_bytes_stored, stored(FrameKind::Documents));
    assert_eq!(stats.tree_bytes_stored, stored(FrameKind::Trees));
    assert!(stats.tree_bytes_stored > 0 && stats.chunk_bytes > stats.chunk_bytes_stored, "{stats:?}");
}
