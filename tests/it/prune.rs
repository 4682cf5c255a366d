//! Prune: what nobody needs goes, in two phases, and nothing else does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use metastash::monitor::Silent;
use metastash::ops::backup::BackupOptions;
use metastash::ops::prune::{PruneOptions, PruneReport, plan_prune, prune};
use metastash::ops::stats::stats;
use metastash::ops::{self, Error};
use metastash::repo::config::GRACE_SECS;
use metastash::repo::snapshot::Snapshot;
use metastash::repo::{self, Repository};
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;

use crate::support::{
    Contents, assert_sound, back_up, back_up_with, below, contents, contents_of, copy, create, noise, open, options,
    scratch, settle, snapshots, take, text, view, write,
};

const HOUR: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(GRACE_SECS);

fn prune_now(storage: &MemoryStorage) -> PruneReport {
    let report = prune(&open(storage), &PruneOptions::default(), &Silent).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    report
}

/// Prunes until nothing is left to do, a day and a bit between two.
fn prune_for_days(storage: &MemoryStorage) {
    for _ in 0..5 {
        prune_now(storage);
        storage.clock().pass(GRACE + HOUR);
    }
}

fn forget(storage: &MemoryStorage, snapshot: &Snapshot) {
    assert!(open(storage).forget(snapshot).unwrap());
}

fn count(storage: &MemoryStorage, folder: &str) -> usize {
    storage.list(folder).unwrap().len()
}

fn assert_reads(storage: &MemoryStorage, taken: &[(Snapshot, Contents)]) {
    let repo = open(storage);
    assert_sound(&repo);
    for (snapshot, expected) in taken {
        assert!(contents(&repo, snapshot) == *expected, "snapshot {}", snapshot.id.short());
    }
}

/// A store with a few documents, of which some change each time it is backed up.
struct Churn<'a> {
    root: &'a Path,
    round: u64,
}

impl Churn<'_> {
    fn next(&mut self, storage: &MemoryStorage) -> (Snapshot, Contents) {
        let round = self.round;
        self.round += 1;
        for n in 0..3 {
            write(self.root, format!("p{n}/{}", round % 10), text(round * 31 + n, 3000));
        }
        write(self.root, format!("new/{round}"), text(round, 1000));
        if round > 5 {
            fs::remove_file(below(self.root, format!("new/{}", round - 5))).unwrap();
        }
        take(self.root, storage)
    }
}

#[test]
fn unchanged_repository_is_left_alone() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    for _ in 0..5 {
        churn.next(&storage);
    }
    storage.clock().pass(GRACE * 3);
    let before = (storage.names(), storage.calls());
    let report = prune_now(&storage);
    let after = (storage.names(), storage.calls());
    assert_eq!(before.0, after.0);
    assert_eq!((before.1.puts, before.1.removes), (after.1.puts, after.1.removes));
    assert_eq!((report.snapshots, report.marked.count() + report.repacked.count()), (5, 0));
}

#[test]
fn what_nobody_needs_is_marked_then_deleted_after_the_grace() {
    let scratch = scratch();
    let (storage, _) = create();
    write(scratch.path(), "p/old", noise(1, 200_000));
    settle();
    let old = back_up(scratch.path(), &open(&storage)).snapshot;
    fs::remove_file(below(scratch.path(), "p/old")).unwrap();
    write(scratch.path(), "p/new", noise(2, 200_000));
    settle();
    let new = back_up(scratch.path(), &open(&storage)).snapshot;
    let taken = [(new, contents_of(&view(scratch.path())))];
    forget(&storage, &old);

    storage.clock().pass(GRACE - HOUR);
    assert_eq!(plan_prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap().forgotten, 1);
    let report = prune_now(&storage);
    assert_eq!((report.forgotten, report.marked.count()), (1, 0), "forgotten, but its references still count");
    assert_eq!(count(&storage, "forgotten"), 1);
    storage.clock().pass(HOUR * 2);
    let report = prune_now(&storage);
    assert_eq!((report.records, report.marked.count(), report.deleted.count()), (1, 1, 0));
    assert_eq!((count(&storage, "packs"), count(&storage, "marks"), count(&storage, "forgotten")), (2, 1, 0));
    assert_eq!(prune_now(&storage).waiting.count(), 1, "marked, and the mark is young");
    assert_eq!(stats(&open(&storage)).unwrap().marked_packs, 1);
    storage.clock().pass(GRACE - HOUR);
    assert_eq!(prune_now(&storage).deleted.count(), 0);
    storage.clock().pass(HOUR * 2);
    let report = prune_now(&storage);
    assert_eq!((report.deleted.count(), report.marks), (1, 1));
    assert_eq!((count(&storage, "packs"), count(&storage, "marks")), (1, 0));
    assert_reads(&storage, &taken);
}

#[test]
fn forgotten_snapshot_can_be_put_back_within_the_grace_whatever_is_pruned() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    let taken: Vec<_> = (0..20).map(|_| churn.next(&storage)).collect();
    storage.clock().pass(GRACE * 2);
    for (snapshot, _) in &taken[..19] {
        forget(&storage, snapshot);
    }
    for _ in 0..3 {
        prune_now(&storage);
        storage.clock().pass(GRACE / 4);
    }
    for (snapshot, _) in &taken[..19] {
        let repo = open(&storage);
        let found = repo.find_forgotten(&snapshot.id.to_string().parse().unwrap()).unwrap();
        repo.unforget(&found).unwrap();
    }
    assert_eq!(snapshots(&open(&storage)).len(), 20);
    prune_for_days(&storage);
    assert_reads(&storage, &taken);
}

#[test]
fn many_small_packs_become_few_and_every_snapshot_reads_as_before() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    let taken: Vec<_> = (0..40).map(|_| churn.next(&storage)).collect();
    let before = stats(&open(&storage)).unwrap();
    let report = prune_now(&storage);
    assert!(report.repacked.count() >= 39, "{report:?}");
    assert_reads(&storage, &taken);
    storage.clock().pass(GRACE + HOUR);
    let report = prune_now(&storage);
    assert!(report.deleted.count() >= 39, "{report:?}");
    assert_reads(&storage, &taken);
    let after = stats(&open(&storage)).unwrap();
    assert!(after.packs < 8 && after.pack_bytes < before.pack_bytes, "{after:?}");
    assert!(count(&storage, "index") <= 2);
    assert_eq!(count(&storage, "marks"), 0);
    // Backups go on as before.
    let more: Vec<_> = (0..3).map(|_| churn.next(&storage)).collect();
    assert_reads(&storage, &more);
}

#[test]
fn sparse_packs_are_repacked_down_to_what_is_tolerated() {
    let scratch = scratch();
    let (storage, _) = create();
    for n in 0..60 {
        write(scratch.path(), format!("p/{n}"), noise(n, 100_000));
    }
    settle();
    let first = back_up(scratch.path(), &open(&storage)).snapshot;
    for n in 0..20 {
        fs::remove_file(below(scratch.path(), format!("p/{}", n * 3))).unwrap();
    }
    settle();
    let second = back_up(scratch.path(), &open(&storage)).snapshot;
    let taken = [(second, contents_of(&view(scratch.path())))];
    forget(&storage, &first);
    storage.clock().pass(GRACE + HOUR);
    let tolerant = PruneOptions { max_unused_percent: 50, ..PruneOptions::default() };
    let plan = plan_prune(&open(&storage), &tolerant, &Silent).unwrap();
    assert_eq!(plan.repack.count(), 0, "{plan:?}");
    // A third of the documents is in the base of the tree, which the second snapshot shares: what it names counts.
    let report = prune_now(&storage);
    assert!(report.unused_bytes * 20 <= report.kept_bytes, "{report:?}");
    prune_for_days(&storage);
    assert_reads(&storage, &taken);
}

#[test]
fn what_is_unused_and_tolerated_is_told() {
    let scratch = scratch();
    let (storage, _) = create();
    for n in 0..60 {
        write(scratch.path(), format!("p/{n}"), noise(n, 100_000));
    }
    let (first, _) = take(scratch.path(), &storage);
    for n in 0..40 {
        fs::remove_file(below(scratch.path(), format!("p/{n}"))).unwrap();
    }
    let taken = [take(scratch.path(), &storage)];
    forget(&storage, &first);
    storage.clock().pass(GRACE + HOUR);
    let tolerant = PruneOptions { max_unused_percent: 80, ..PruneOptions::default() };
    let plan = plan_prune(&open(&storage), &tolerant, &Silent).unwrap();
    let report = prune(&open(&storage), &tolerant, &Silent).unwrap();
    assert_eq!((report.unused_bytes, report.kept_bytes), (plan.unused_bytes, plan.kept_bytes));
    // Forty documents, and the nodes and directories of packs beside them.
    assert!((4_000_000..4_020_000).contains(&report.unused_bytes), "{report:?}");
    assert!((6_000_000..6_040_000).contains(&report.kept_bytes), "{report:?}");
    assert_reads(&storage, &taken);
}

#[test]
fn interrupted_backup_is_garbage_that_goes_when_it_is_old() {
    let scratch = scratch();
    let (storage, _) = create();
    write(scratch.path(), "p/a", noise(1, 100_000));
    settle();
    let first = back_up(scratch.path(), &open(&storage)).snapshot;
    let taken = [(first, contents_of(&view(scratch.path())))];
    write(scratch.path(), "p/b", noise(2, 100_000));
    settle();
    storage.stop_after(1);
    let result = back_up_with(scratch.path(), &open(&storage), &options());
    assert!(result.is_err());
    storage.go_on();
    assert_eq!(count(&storage, "packs"), 2);
    let report = prune_now(&storage);
    assert_eq!((report.young.count(), report.marked.count()), (1, 0), "its writer may still be at it");
    prune_for_days(&storage);
    assert_eq!(count(&storage, "packs"), 1);
    assert_reads(&storage, &taken);
}

#[test]
fn pack_that_came_back_into_use_after_it_was_marked_is_copied_before_it_goes() {
    let scratch = scratch();
    let (storage, _) = create();
    write(scratch.path(), "p/a", noise(1, 100_000));
    settle();
    let first = back_up(scratch.path(), &open(&storage)).snapshot;
    let taken = [(first, contents_of(&view(scratch.path())))];
    // As if a prune had looked before the snapshot was there.
    for pack in storage.list("packs").unwrap() {
        storage.put(&format!("marks/{}-x", pack.name), b"").unwrap();
    }
    let report = prune_now(&storage);
    assert_eq!((report.written.count(), report.deleted.count()), (1, 0));
    assert_reads(&storage, &taken);
    storage.clock().pass(GRACE + HOUR);
    assert_eq!(prune_now(&storage).deleted.count(), 1);
    assert_reads(&storage, &taken);
    assert_eq!(count(&storage, "marks"), 0);
}

#[test]
fn marked_pack_is_not_deleted_when_its_only_other_copy_is_damaged() {
    let scratch = scratch();
    let (storage, _) = create();
    write(scratch.path(), "p/a", noise(1, 100_000));
    settle();
    let first = back_up(scratch.path(), &open(&storage)).snapshot;
    let taken = [(first, contents_of(&view(scratch.path())))];
    let [marked] = &storage.list("packs").unwrap()[..] else { panic!("one pack") };
    storage.put(&format!("marks/{}-x", marked.name), b"").unwrap();
    prune_now(&storage);
    let copy = storage.list("packs").unwrap().into_iter().find(|pack| pack.name != marked.name).unwrap();
    storage.damage(&format!("packs/{}", copy.name), |bytes| bytes[100] ^= 1);
    storage.clock().pass(GRACE + HOUR);
    let report = prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
    assert_eq!((report.deleted.count(), report.written.count()), (0, 1), "copied again, from what is still there");
    let repo = open(&storage);
    assert!(contents(&repo, &taken[0].0) == taken[0].1);
    storage.clock().pass(GRACE + HOUR);
    prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
    assert!(!storage.names().contains(&format!("packs/{}", marked.name)));
    assert!(contents(&open(&storage), &taken[0].0) == taken[0].1);
}

/// Contents that are stored as they are, of which one is then damaged, and such as are compressed, of which none can be read.
#[test]
fn marked_pack_in_which_something_needed_is_damaged_is_held_until_that_is_stored_again() {
    for content in [noise, text] {
        let scratch = scratch();
        let (storage, _) = create();
        write(scratch.path(), "p/a", content(1, 40_000));
        write(scratch.path(), "p/b", content(2, 40_000));
        let taken = [take(scratch.path(), &storage)];
        let [marked] = &storage.list("packs").unwrap()[..] else { panic!("one pack") };
        let object = format!("packs/{}", marked.name);
        storage.put(&format!("marks/{}-x", marked.name), b"").unwrap();
        storage.damage(&object, |bytes| bytes[2000] ^= 1);
        for _ in 0..3 {
            let report = prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
            assert_eq!((report.deleted.count(), report.waiting.count(), report.damage.is_empty()), (0, 1, false));
            storage.clock().pass(GRACE + HOUR);
        }
        assert!(storage.names().contains(&object));
        let forced = BackupOptions { force: true, ..options() };
        back_up_with(scratch.path(), &open(&storage), &forced).unwrap();
        for _ in 0..2 {
            prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
            storage.clock().pass(GRACE + HOUR);
        }
        assert!(!storage.names().contains(&object), "all that is needed of it is elsewhere");
        assert_reads(&storage, &taken);
    }
}

#[test]
fn snapshot_that_cannot_be_read_stops_a_prune_before_it_removes_anything() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    for _ in 0..12 {
        churn.next(&storage);
    }
    storage.clock().pass(GRACE * 2);
    for folder in ["snapshots/", "packs/"] {
        for name in storage.names().into_iter().filter(|name| name.starts_with(folder)) {
            let storage = copy(&storage);
            // The frames of trees are behind those of documents.
            storage.damage(&name, |bytes| {
                let length = bytes.len();
                bytes[length / 2..].fill(7);
            });
            let before = storage.names();
            let result = prune(&open(&storage), &PruneOptions::default(), &Silent);
            assert!(matches!(result, Err(Error::Unknown { .. })), "{name}: {result:?}");
            assert_eq!(storage.names(), before);
        }
    }
}

#[test]
fn stray_names_stop_a_prune() {
    let (storage, repo) = create();
    for folder in ["snapshots", "forgotten"] {
        let storage = copy(&storage);
        storage.put(&format!("{folder}/20261122T152122.665Z-x"), b"").unwrap();
        let result = prune(&open(&storage), &PruneOptions::default(), &Silent);
        assert!(matches!(result, Err(Error::Unknown { .. })), "{result:?}");
    }
    drop(repo);
}

#[test]
fn dry_run_writes_nothing_and_says_what_a_prune_then_does() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    let taken: Vec<_> = (0..30).map(|_| churn.next(&storage)).collect();
    for (snapshot, _) in &taken[..20] {
        forget(&storage, snapshot);
    }
    for _ in 0..3 {
        storage.clock().pass(GRACE + HOUR);
        let before = (storage.names(), storage.calls());
        let plan = plan_prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
        assert_eq!(storage.names(), before.0);
        assert_eq!((storage.calls().puts, storage.calls().removes), (before.1.puts, before.1.removes));
        let report = prune_now(&storage);
        assert_eq!(plan.delete, report.deleted);
        assert_eq!(plan.mark, report.marked);
        assert_eq!(plan.repack, report.repacked);
        assert_eq!(plan.records.len() as u64, report.records);
    }
    assert_reads(&storage, &taken[20..]);
}

#[test]
fn merged_segments_say_what_the_packs_say() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    let taken: Vec<_> = (0..70).map(|_| churn.next(&storage)).collect();
    assert!(count(&storage, "index") >= 2);
    prune_for_days(&storage);
    assert_reads(&storage, &taken);
    let with = open(&storage).index().unwrap();
    let without = copy(&storage);
    for segment in storage.list("index").unwrap() {
        without.remove(&format!("index/{}", segment.name)).unwrap();
    }
    let without = open(&without).index().unwrap();
    let directories = |index: &repo::index::Index| {
        let packs = index.packs().iter().map(|pack| (pack.id, pack.size_bytes, pack.directory.clone()));
        packs.collect::<Vec<_>>()
    };
    assert_eq!(directories(&with), directories(&without));
}

#[test]
fn damaged_segment_is_replaced() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    let taken: Vec<_> = (0..33).map(|_| churn.next(&storage)).collect();
    let [segment] = &storage.list("index").unwrap()[..] else { panic!("one segment") };
    storage.damage(&format!("index/{}", segment.name), |bytes| bytes[30] ^= 1);
    let report = prune_now(&storage);
    assert_eq!(report.segments.removed, 1);
    assert_reads(&storage, &taken);
}

#[test]
fn prune_after_prune_has_nothing_to_do() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    for _ in 0..30 {
        churn.next(&storage);
    }
    for _ in 0..3 {
        prune_now(&storage);
        let before = storage.calls();
        prune_now(&storage);
        let after = storage.calls();
        assert_eq!((before.puts, before.removes), (after.puts, after.removes));
        storage.clock().pass(GRACE + HOUR);
    }
}

/// Prunes once for each write that the prune makes, each time on a fresh copy of the storage that stops there.
fn stop_everywhere(storage: &MemoryStorage, taken: &[(Snapshot, Contents)]) -> u64 {
    for stopped in 0.. {
        let storage = storage.fork();
        storage.stop_after(stopped);
        let result = prune(&open(&storage), &PruneOptions::default(), &Silent);
        storage.go_on();
        assert_reads(&storage, taken);
        if result.is_ok() {
            return stopped;
        }
        let is_stopped = matches!(&result, Err(Error::Repository(repo::Error::Storage(_))));
        assert!(is_stopped, "{result:?}");
        // The same command then succeeds, and so do those of the days after.
        prune_for_days(&storage);
        assert_reads(&storage, taken);
        assert_eq!(count(&storage, "marks"), 0);
    }
    unreachable!("a prune ends");
}

#[test]
fn interrupted_prune_loses_nothing_and_the_next_goes_on() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    let mut taken: Vec<_> = (0..36).map(|_| churn.next(&storage)).collect();
    for (snapshot, _) in taken.drain(..10) {
        forget(&storage, &snapshot);
    }
    storage.clock().pass(GRACE + HOUR);
    let writes = stop_everywhere(&storage, &taken);
    assert!(writes > 40, "{writes}: records, packs, segments, marks");
    prune_now(&storage);
    storage.clock().pass(GRACE + HOUR);
    let writes = stop_everywhere(&storage, &taken);
    assert!(writes > 60, "{writes}: packs, marks");
}

fn is_unknown(result: &ops::Result<PruneReport>) -> bool {
    matches!(result, Err(Error::Unknown { .. }))
}

#[test]
fn record_that_cannot_be_read_stops_a_prune_until_it_no_longer_counts() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    let taken: Vec<_> = (0..3).map(|_| churn.next(&storage)).collect();
    forget(&storage, &taken[0].0);
    let [record] = &storage.list("forgotten").unwrap()[..] else { panic!("one record") };
    storage.damage(&format!("forgotten/{}", record.name), |bytes| bytes[30] ^= 1);
    assert!(is_unknown(&prune(&open(&storage), &PruneOptions::default(), &Silent)));
    storage.clock().pass(GRACE + HOUR);
    assert_eq!(prune_now(&storage).records, 1);
    assert_reads(&storage, &taken[1..]);
}

#[test]
fn prune_that_is_stopped_by_damage_says_by_that_of_which_snapshot() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut churn = Churn { root: scratch.path(), round: 0 };
    let taken: Vec<_> = (0..2).map(|_| churn.next(&storage)).collect();
    // The second has a pack of its own, and the first does not need it.
    let packs = storage.list("packs").unwrap();
    let newest = packs.iter().max_by_key(|pack| pack.modified).unwrap();
    storage.remove(&format!("packs/{}", newest.name)).unwrap();
    match prune(&open(&storage), &PruneOptions::default(), &Silent) {
        Err(Error::Unknown { of, .. }) => assert_eq!(of, format!("snapshot {}", taken[1].0.id.short())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn archives_of_logs_are_kept_with_their_snapshots() {
    // No tree names them: only the snapshot does.
    let scratch = scratch();
    let (storage, repo) = create();
    write(scratch.path(), "p/a", text(1, 1000));
    settle();
    let first = back_up(scratch.path(), &repo).snapshot;
    let archived = crate::support::add_archive(&repo, &first);
    prune_for_days(&storage);
    let repo: Repository = open(&storage);
    for chunk in &archived.manifest.archive.as_ref().unwrap().chunks {
        repo.log_records(chunk).unwrap();
    }
    forget(&storage, &archived);
    prune_for_days(&storage);
    let repo = open(&storage);
    for chunk in &archived.manifest.archive.as_ref().unwrap().chunks {
        assert!(repo.log_records(chunk).is_err());
    }
}
