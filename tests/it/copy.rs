//! Copies between repositories: what arrives is what was there, once, whole or not at all.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metastash::monitor::{Monitor, Problem, Silent, Task};
use metastash::ops;
use metastash::ops::copy::{copy, plan_copy};
use metastash::ops::prune::{PruneOptions, prune};
use metastash::repo::Repository;
use metastash::repo::config::GRACE_SECS;
use metastash::repo::format::pack::FrameKind;
use metastash::repo::snapshot::Snapshot;
use metastash::storage::memory::MemoryStorage;
use metastash::storage::{Error, Storage};

use crate::damage::{Harm, inflict, stage};
use crate::support::{
    Call, Contents, Hooked, add_archive, assert_sound, back_up, back_up_with, config, contents, create, noise, open,
    options, scratch, settle, snapshots, take, text, write,
};

/// Makes a repository of some snapshots, of which each has something new, something old and something large.
fn source() -> (MemoryStorage, Vec<(Snapshot, Contents)>) {
    let scratch = scratch();
    let (storage, _) = create();
    let mut taken = Vec::new();
    for round in 0..6 {
        for n in 0..3 {
            write(scratch.path(), format!("p{n}/{}", round % 4), text(round * 31 + n, 1500));
        }
        write(scratch.path(), format!("p0/large {}", round % 2), noise(round, 1_500_000));
        taken.push(take(scratch.path(), &storage));
    }
    (storage, taken)
}

fn all(taken: &[(Snapshot, Contents)]) -> Vec<Snapshot> {
    taken.iter().map(|(snapshot, _)| snapshot.clone()).collect()
}

fn assert_has(repo: &Repository, taken: &[(Snapshot, Contents)]) {
    assert_sound(repo);
    assert_eq!(snapshots(repo), all(taken));
    taken.iter().for_each(|(snapshot, expected)| assert!(contents(repo, snapshot) == *expected));
}

#[test]
fn snapshots_are_copied_whole_and_once() {
    let (from, taken) = source();
    let (to, _) = create();
    let some = [taken[4].0.clone(), taken[1].0.clone(), taken[4].0.clone()];
    let report = copy(&open(&from), &open(&to), some.to_vec(), &Silent).unwrap();
    assert_eq!(report.copied, [taken[1].0.clone(), taken[4].0.clone()], "the oldest first, each once");
    assert_has(&open(&to), &[taken[1].clone(), taken[4].clone()]);
    let packs = to.list("packs").unwrap().len();

    let report = copy(&open(&from), &open(&to), some.to_vec(), &Silent).unwrap();
    assert_eq!((report.copied.len(), report.present.len(), report.stored_bytes), (0, 2, 0));
    assert_eq!(to.list("packs").unwrap().len(), packs);

    let report = copy(&open(&from), &open(&to), all(&taken), &Silent).unwrap();
    assert_eq!((report.copied.len(), report.present.len()), (4, 2));
    assert_has(&open(&to), &taken);
    let sizes =
        |storage: &MemoryStorage| -> u64 { storage.list("packs").unwrap().iter().map(|pack| pack.size_bytes).sum() };
    assert!(sizes(&to) < sizes(&from) + 20_000, "nothing is there twice: {} of {}", sizes(&to), sizes(&from));
}

#[test]
fn each_frame_is_read_once_and_all_that_was_copied_is_counted() {
    let scratch = scratch();
    let (from, to) = (create().0, create().0);
    for n in 0..300 {
        write(scratch.path(), format!("p/{n}"), text(n, 700));
    }
    let (snapshot, _) = take(scratch.path(), &from);
    let index = open(&from).index().unwrap();
    let lengths: Vec<u64> =
        index.packs().iter().flat_map(|pack| &pack.directory.lengths).map(|length| u64::from(*length)).collect();
    let before = from.calls().reads;
    let report = copy(&open(&from), &open(&to), vec![snapshot.clone()], &Silent).unwrap();
    let all = (lengths.len() as u64, lengths.iter().sum());
    assert_eq!((report.chunks, report.raw_bytes), all);
    let reads = from.calls().reads - before;
    assert!(lengths.len() > 300 && reads < 20, "{reads}");

    // So is what could not be read at first.
    let frames = index.packs().iter().flat_map(|pack| &pack.directory.frames);
    let documents = frames.filter(|frame| frame.kind == FrameKind::Documents).map(|frame| frame.offset);
    let left = Mutex::new(documents.collect::<Vec<u64>>());
    let busy = Hooked::new(&from, move |call| match call {
        Call::Read(name, offset) if name.starts_with("packs/") => {
            let mut left = left.lock().unwrap();
            match left.iter().position(|waiting| *waiting == offset) {
                Some(n) => Err(Error::new("read", left.swap_remove(n), io::Error::other("busy"))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    });
    let to = create().0;
    let report = copy(&Repository::open(Arc::new(busy)).unwrap(), &open(&to), vec![snapshot], &Silent).unwrap();
    assert_eq!((report.chunks, report.raw_bytes), all);
    assert_sound(&open(&to));
}

#[test]
fn repository_is_created_when_there_is_something_to_copy() {
    let (from, taken) = source();
    let to = MemoryStorage::new();
    let new = || Repository::create_when_needed(Arc::new(to.clone()), config());
    copy(&open(&from), &new(), Vec::new(), &Silent).unwrap();
    assert_eq!(to.names().len(), 0);
    assert_eq!(plan_copy(&new(), all(&taken)).unwrap().copied.len(), 6);
    assert_eq!(to.names().len(), 0);
    copy(&open(&from), &new(), all(&taken), &Silent).unwrap();
    assert_has(&open(&to), &taken);
}

#[test]
fn backups_go_on_from_what_was_copied() {
    let scratch = scratch();
    let (from, to) = (create().0, create().0);
    write(scratch.path(), "p/a", text(1, 5000));
    settle();
    let first = back_up(scratch.path(), &open(&from)).snapshot;
    copy(&open(&from), &open(&to), vec![first.clone()], &Silent).unwrap();
    let report = back_up(scratch.path(), &open(&to));
    assert_eq!((report.read, report.snapshot.manifest.parent), (0, Some(first.id)));
}

#[test]
fn archived_log_is_copied_with_its_snapshot() {
    let (from, taken) = source();
    let with_archive = add_archive(&open(&from), &taken[5].0);
    let to = create().0;
    copy(&open(&from), &open(&to), vec![with_archive.clone()], &Silent).unwrap();
    assert_sound(&open(&to));
    let chunks = &with_archive.manifest.archive.as_ref().unwrap().chunks;
    let records = |repo: &Repository| chunks.iter().map(|chunk| repo.log_records(chunk).unwrap()).collect::<Vec<_>>();
    assert!(!chunks.is_empty());
    assert_eq!(records(&open(&to)), records(&open(&from)));
}

#[test]
fn label_of_another_snapshot_is_not_copied() {
    let scratch = scratch();
    let (from, to) = (create().0, create().0);
    let mut labelled = options();
    labelled.label = Some("before".to_owned());
    write(scratch.path(), "p/a", b"1");
    let first = back_up_with(scratch.path(), &open(&from), &labelled).unwrap().snapshot;
    write(scratch.path(), "p/a", b"2");
    back_up_with(scratch.path(), &open(&to), &labelled).unwrap();
    let objects = to.names().len();
    match copy(&open(&from), &open(&to), vec![first], &Silent) {
        Err(ops::Error::LabelTaken { label, .. }) => assert_eq!(label, "before"),
        result => panic!("{result:?}"),
    }
    assert_eq!(to.names().len(), objects);
}

#[test]
fn damaged_chunk_is_not_copied_and_its_snapshots_are_not_either() {
    let stage = stage();
    let listed = snapshots(&open(&stage.storage));
    inflict(&stage.storage, &stage.shared_pack(), Harm::Flip(8 * 700));
    let to = create().0;
    match copy(&open(&stage.storage), &open(&to), listed, &Silent) {
        Err(ops::Error::Repository(error)) => assert!(error.is_damage(), "{error}"),
        result => panic!("{result:?}"),
    }
    assert_eq!(snapshots(&open(&to)), []);
}

#[test]
fn sound_copy_is_taken_where_another_is_damaged() {
    let (from, taken) = source();
    // The same chunks in packs of their own, as of a writer who did not see the others.
    let twin = create().0;
    copy(&open(&from), &open(&twin), all(&taken), &Silent).unwrap();
    for pack in twin.list("packs").unwrap() {
        let name = format!("packs/{}", pack.name);
        from.put(&name, &twin.read(&name).unwrap()).unwrap();
        inflict(&from, &name, Harm::Flip(8 * 200));
    }
    let to = create().0;
    copy(&open(&from), &open(&to), all(&taken), &Silent).unwrap();
    assert_has(&open(&to), &taken);
}

/// Stops at the n-th look whether it should.
struct Stopping(std::sync::atomic::AtomicI64);

impl Monitor for Stopping {
    fn start(&self, _: Task, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn problem(&self, _: &Problem) {}
    fn is_interrupted(&self) -> bool {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) <= 0
    }
}

#[test]
fn interrupted_copy_leaves_nothing_to_be_seen_and_the_next_goes_on() {
    let (from, taken) = source();
    let mut stops = 0;
    for looks in 0.. {
        let to = create().0;
        match copy(&open(&from), &open(&to), all(&taken), &Stopping(looks.into())) {
            Err(ops::Error::Interrupted) => stops += 1,
            result => {
                assert_eq!(result.unwrap().copied.len(), 6);
                break;
            }
        }
        assert_eq!(snapshots(&open(&to)), []);
        copy(&open(&from), &open(&to), all(&taken), &Silent).unwrap();
        assert_has(&open(&to), &taken);
    }
    assert!(stops > 7, "{stops}");
}

#[test]
fn what_a_prune_of_the_other_repository_is_about_to_delete_is_copied_again() {
    let (from, taken) = source();
    let to = create().0;
    copy(&open(&from), &open(&to), all(&taken), &Silent).unwrap();
    for snapshot in snapshots(&open(&to)).iter().take(5) {
        open(&to).forget(snapshot).unwrap();
    }
    let day = || to.clock().pass(Duration::from_secs(GRACE_SECS + 60));
    let prune = || prune(&open(&to), &PruneOptions { max_unused_percent: 0, ..PruneOptions::default() }, &Silent);
    day();
    prune().unwrap();
    copy(&open(&from), &open(&to), all(&taken), &Silent).unwrap();
    for _ in 0..3 {
        assert_has(&open(&to), &taken);
        day();
        prune().unwrap();
    }
}
