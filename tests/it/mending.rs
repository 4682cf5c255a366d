//! Repair and prune on damaged repositories: nothing gets worse, what can be brought to safety is, and what is lost is
//! named until it comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use metastash::model::entry::Entry;
use metastash::model::hash::SnapshotId;
use metastash::model::log::LogPosition;
use metastash::monitor::Silent;
use metastash::ops::Error;
use metastash::ops::prune::{PruneOptions, prune};
use metastash::ops::repair::{REPAIRED, RepairOptions, RepairReport, plan_repair, repair};
use metastash::repo::config::GRACE_SECS;
use metastash::repo::losses::{Lack, Loss};
use metastash::repo::snapshot::{Counts, Manifest, Snapshot};
use metastash::repo::writer::{Claims, Writer};
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;

use crate::damage::{Harm, Stage, Unreadable, harms, inflict, stage, stage_with_segment, unreadable};
use crate::support::{
    add_archive, assert_sound, back_up, check_everything, contents, contents_of, entries, open, path, restore_into,
    snapshots, view,
};

fn listed(storage: &MemoryStorage) -> Vec<Snapshot> {
    open(storage).snapshots().unwrap().snapshots
}

fn mend(storage: &MemoryStorage) -> RepairReport {
    repair(&open(storage), &RepairOptions::default(), &Silent).unwrap()
}

fn prune_for_days(storage: &MemoryStorage, context: &str) {
    for _ in 0..4 {
        match prune(&open(storage), &PruneOptions::default(), &Silent) {
            Ok(_) | Err(Error::Unknown { .. }) => {}
            Err(error) => panic!("{context}: {error}"),
        }
        storage.clock().pass(Duration::from_secs(GRACE_SECS + 60));
    }
}

/// Asserts that what can be read of these snapshots is at least what could be read before.
fn assert_no_worse(storage: &MemoryStorage, taken: &[Snapshot], before: &Unreadable, context: &str) {
    let names: BTreeSet<SnapshotId> = listed(storage).iter().map(|snapshot| snapshot.id).collect();
    assert!(taken.iter().all(|snapshot| names.contains(&snapshot.id)), "{context}: all are still there");
    let after = unreadable(&open(storage), taken);
    assert!(after.0.is_subset(&before.0), "{context}: {:?}", after.0.difference(&before.0));
    assert!(after.1.is_subset(&before.1), "{context}: {:?}", after.1);
}

fn is_of_packs(name: &str) -> bool {
    name.starts_with("packs/") || name.starts_with("snapshots/") || name.starts_with("forgotten/")
}

/// Damages a copy of the stage's repository and prunes it, repairs it, backs up, and prunes again.
fn examine(stage: &Stage, name: &str, harm: Harm) {
    let context = format!("{name} {harm:?}");
    let storage = stage.storage.fork();
    inflict(&storage, name, harm);
    let taken = listed(&storage);
    let before = unreadable(&open(&storage), &taken);

    let pruned = storage.fork();
    prune_for_days(&pruned, &context);
    assert_no_worse(&pruned, &taken, &before, &format!("{context}, pruned"));

    let names = storage.names();
    let plan = plan_repair(&open(&storage), &RepairOptions::default(), &Silent).unwrap();
    assert_eq!(storage.names(), names, "{context}: a plan writes nothing");
    let report = mend(&storage);
    assert_eq!(plan.packs, report.packs, "{context}");
    assert_no_worse(&storage, &taken, &before, &format!("{context}, repaired"));
    let after = storage.names();
    assert!(
        names.iter().filter(|name| is_of_packs(name)).all(|name| after.contains(name)),
        "{context}: nothing is removed"
    );
    let lacking = open(&storage).lacking(&taken).unwrap();
    let lost: BTreeSet<SnapshotId> = before.0.iter().map(|(_, id)| *id).chain(before.1.iter().copied()).collect();
    assert_eq!(lacking.keys().copied().collect::<BTreeSet<_>>(), lost, "{context}: what is lost is shown");
    mend(&storage);
    assert_eq!(storage.names(), after, "{context}: once is enough");

    prune_for_days(&storage, &context);
    assert_no_worse(&storage, &taken, &before, &format!("{context}, repaired and pruned"));

    // A plain backup goes by what is left, so it finds what is missing.
    let next = back_up(&stage.source(), &open(&storage)).snapshot;
    let repo = open(&storage);
    assert!(contents(&repo, &next) == contents_of(&view(&stage.source())), "{context}: the next backup is whole");
    let (documents, _) = unreadable(&repo, &taken);
    let has_it = |(path, _): &(Vec<u8>, SnapshotId)| !is_changed(stage, path);
    assert!(!documents.iter().any(has_it), "{context}: what came back is back in older snapshots, too: {documents:?}");
    prune_for_days(&storage, &context);
    assert!(contents(&open(&storage), &next) == contents_of(&view(&stage.source())), "{context}");
}

/// Tells whether a document changed between the two snapshots of the stage: the older state does not come back.
fn is_changed(stage: &Stage, path: &[u8]) -> bool {
    let states: Vec<_> = stage.taken.iter().map(|(_, view)| view.get(path).and_then(|seen| seen.bytes())).collect();
    states.windows(2).any(|pair| pair[0] != pair[1])
}

fn examine_some(stage: &Stage, name: &str) {
    for harm in harms(stage.storage.read(name).unwrap().len()).into_iter().step_by(2) {
        examine(stage, name, harm);
    }
}

#[test]
fn damaged_pack_of_documents_is_mended_as_far_as_can_be() {
    let stage = stage();
    examine_some(&stage, &stage.documents_pack());
}

#[test]
fn damaged_pack_of_trees_is_mended_as_far_as_can_be() {
    let stage = stage();
    examine_some(&stage, &stage.trees_pack());
}

#[test]
fn damaged_shared_pack_is_mended_as_far_as_can_be() {
    let stage = stage();
    examine_some(&stage, &stage.shared_pack());
}

#[test]
fn damaged_segment_is_made_again_from_packs_alone() {
    let stage = stage_with_segment();
    let [segment] = &stage.names("index/")[..] else { panic!("one segment") };
    for harm in harms(stage.storage.read(segment).unwrap().len()) {
        let storage = stage.storage.fork();
        inflict(&storage, segment, harm);
        mend(&storage);
        assert_sound(&open(&storage));
        let index = open(&storage).index().unwrap();
        assert!(index.packs().iter().filter(|pack| !pack.is_in_segment).count() < 32);
    }
}

#[test]
fn pack_that_was_cut_off_is_read_as_far_as_it_goes_when_a_segment_tells_what_was_in_it() {
    let stage = stage_with_segment();
    let index = open(&stage.storage).index().unwrap();
    let pack = index.packs().iter().find(|pack| pack.is_in_segment).unwrap();
    let storage = stage.storage.fork();
    inflict(
        &storage,
        &format!("packs/{}", pack.id),
        Harm::CutTail(usize::try_from(pack.directory.frames_end()).unwrap()),
    );
    assert!(!open(&storage).index().unwrap().packs().iter().any(|other| other.id == pack.id));
    let report = mend(&storage);
    assert_eq!((report.packs.count(), report.check.hits.len(), report.check.unreadable_trees.len()), (1, 0, 0));
    let taken = listed(&storage);
    assert_eq!(unreadable(&open(&storage), &taken), Unreadable::default(), "only the directory was cut off");
}

#[test]
fn swapped_files_are_noticed_and_cost_no_more_than_themselves() {
    let stage = stage();
    let marks = stage.storage.fork();
    let [one, other] = [stage.documents_pack(), stage.shared_pack()];
    let snapshots: Vec<String> = stage.names("snapshots/");
    for pair in [[&one, &other], [&snapshots[0], &snapshots[1]]] {
        let storage = stage.storage.fork();
        swap(&storage, pair);
        let taken = listed(&storage);
        let before = unreadable(&open(&storage), &taken);
        assert!(check_everything(&open(&storage)).is_damaged());
        prune_for_days(&storage, "swapped");
        assert_no_worse(&storage, &taken, &before, "swapped, pruned");
        mend(&storage);
        assert_no_worse(&storage, &taken, &before, "swapped, repaired");
        back_up(&stage.source(), &open(&storage));
    }
    // Of marks only the names count.
    for name in [&one, &other] {
        let id = name.strip_prefix("packs/").unwrap().parse().unwrap();
        open(&marks).mark(id, metastash::repo::marks::Cause::Unused, 0).unwrap();
    }
    let names: Vec<String> = marks.names().into_iter().filter(|name| name.starts_with("marks/")).collect();
    swap(&marks, [&names[0], &names[1]]);
    inflict(&marks, &names[0], Harm::Zero);
    prune_for_days(&marks, "swapped marks");
    assert_sound(&open(&marks));
    assert_eq!(marks.list("marks").unwrap(), []);
}

fn swap(storage: &MemoryStorage, [one, other]: [&String; 2]) {
    let (bytes, others) = (storage.read(one).unwrap(), storage.read(other).unwrap());
    storage.damage(one, |old| *old = others);
    storage.damage(other, |old| *old = bytes);
}

#[test]
fn damaged_marks_hold_as_well_as_sound_ones() {
    let stage = stage();
    for harm in [Harm::Flip(3), Harm::CutTail(10), Harm::CutHead(10), Harm::Empty, Harm::Zero, Harm::Delete] {
        let storage = stage.storage.fork();
        let id = stage.shared_pack().strip_prefix("packs/").unwrap().parse().unwrap();
        open(&storage).mark(id, metastash::repo::marks::Cause::Unused, 0).unwrap();
        let mark = storage.names().into_iter().find(|name| name.starts_with("marks/")).unwrap();
        inflict(&storage, &mark, harm);
        prune_for_days(&storage, "damaged mark");
        assert_sound(&open(&storage));
        mend(&storage);
        back_up(&stage.source(), &open(&storage));
        assert_sound(&open(&storage));
    }
}

#[test]
fn snapshots_that_cannot_be_read_are_forgotten_when_asked_for_and_a_prune_goes_on_after_the_grace() {
    let stage = stage();
    let snapshot = &stage.names("snapshots/")[0];
    for name in [snapshot, &stage.trees_pack()] {
        let storage = stage.storage.fork();
        inflict(&storage, name, Harm::Flip(1000));
        mend(&storage);
        let blocked = prune(&open(&storage), &PruneOptions::default(), &Silent);
        assert!(matches!(blocked, Err(Error::Unknown { .. })), "{name}: {blocked:?}");
        let options = RepairOptions { forget_unreadable: true, ..RepairOptions::default() };
        let report = repair(&open(&storage), &options, &Silent).unwrap();
        assert!(report.forgotten > 0, "{name}");
        let next = back_up(&stage.source(), &open(&storage)).snapshot;
        let blocked = prune(&open(&storage), &PruneOptions::default(), &Silent);
        assert!(matches!(blocked, Err(Error::Unknown { .. })), "{name}: its bytes may still be mended");
        storage.clock().pass(Duration::from_secs(GRACE_SECS + 60));
        prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
        prune_for_days(&storage, name);
        assert!(contents(&open(&storage), &next) == contents_of(&view(&stage.source())));
        let repo = open(&storage);
        assert!(repo.lacking(&snapshots(&repo)).unwrap().is_empty());
    }
}

#[test]
fn what_is_left_of_a_snapshot_is_restored_and_lists_nothing_that_is_uncertain() {
    let stage = stage();
    let storage = stage.storage.fork();
    let name = stage.documents_pack();
    let length = storage.read(&name).unwrap().len();
    inflict(&storage, &name, Harm::Flip(length * 4));
    let first = &stage.taken[0];
    let options = RepairOptions { salvage: [first.0.id].into(), ..RepairOptions::default() };
    let report = repair(&open(&storage), &options, &Silent).unwrap();
    assert_eq!(report.salvaged.len(), 2, "the one that was asked for, and the newest");
    let made = &report.salvaged.iter().find(|salvage| salvage.of == first.0.id).unwrap().snapshot;
    assert!(made.manifest.is_incomplete());
    let lost = report.check.hits.len() as u64;
    assert_eq!((made.manifest.documents + lost, made.manifest.counts.unread), (first.0.manifest.documents, lost));
    let target = stage.folder.path().join("target");
    let mode = metastash::ops::restore::Mode::Merge;
    restore_into(&target, &open(&storage), made, mode).unwrap();
    for (path, seen) in view(&target) {
        assert_eq!(first.1[&path].bytes(), seen.bytes());
    }
}

#[test]
fn what_is_left_of_a_snapshot_says_what_it_is_and_nothing_that_is_no_longer_true() {
    let stage = stage();
    let (repo, name) = (open(&stage.storage), stage.documents_pack());
    let like = add_archive(&repo, &stage.taken[0].0);
    let manifest = Manifest {
        time_ms: like.manifest.time_ms + 1,
        program: "metastash 0.0.1".to_owned(),
        label: Some("good".to_owned()),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        counts: Counts { new: 5, unread: 2, ..Counts::default() },
        position: Some(LogPosition { last: 7, ..LogPosition::default() }),
        verified: Some(path("p0/k/00")),
        ..like.manifest
    };
    let of = Writer::begin(&Claims::begin(&repo).unwrap()).unwrap().commit(manifest).unwrap().snapshot;
    inflict(&stage.storage, &name, Harm::Flip(stage.storage.read(&name).unwrap().len() * 4));
    let options = RepairOptions { salvage: [of.id].into(), ..RepairOptions::default() };
    let report = repair(&open(&stage.storage), &options, &Silent).unwrap();
    let lost = report.check.hits.iter().filter(|hit| hit.snapshots.contains(&of.id)).count() as u64;
    let made = &report.salvaged.iter().find(|salvage| salvage.of == of.id).unwrap().snapshot;
    let repo = open(&stage.storage);
    let left = entries(&repo, made).unwrap();
    let expected = Manifest {
        time_ms: of.manifest.time_ms + 1,
        program: concat!("metastash ", env!("CARGO_PKG_VERSION")).to_owned(),
        parent: Some(of.id),
        label: None,
        tags: [("k".to_owned(), "v".to_owned()), (REPAIRED.to_owned(), of.id.short())].into(),
        tree: made.manifest.tree,
        root: repo.tree(&made.manifest.tree).unwrap().root(),
        documents: of.manifest.documents - lost,
        bytes: left.iter().filter_map(Entry::document).map(|document| document.size).sum(),
        counts: Counts { unread: lost + 2, ..Counts::default() },
        position: None,
        archive: None,
        verified: None,
        ..of.manifest
    };
    assert!(lost > 0);
    assert_eq!(made.manifest, expected);
}

#[test]
fn interrupted_repair_makes_nothing_worse_and_the_next_goes_on() {
    let stage = stage();
    let name = stage.documents_pack();
    for stopped in 0.. {
        let storage = stage.storage.fork();
        inflict(&storage, &name, Harm::Flip(8 * 200_000));
        let taken = listed(&storage);
        let before = unreadable(&open(&storage), &taken);
        storage.stop_after(stopped);
        let result = repair(&open(&storage), &RepairOptions::default(), &Silent);
        storage.go_on();
        assert_no_worse(&storage, &taken, &before, &format!("stopped after {stopped}"));
        if result.is_ok() {
            assert!(stopped >= 4, "{stopped}: a pack, a mark, a snapshot with its tree, what is lost");
            break;
        }
        mend(&storage);
        assert_no_worse(&storage, &taken, &before, &format!("stopped after {stopped}, repaired"));
        let lacking = open(&storage).lacking(&taken).unwrap();
        assert!(!lacking.is_empty());
    }
}

#[test]
fn loss_is_what_the_last_repair_found_and_holds_as_long_as_it_is_one() {
    let stage = stage();
    let repo = open(&stage.storage);
    let [one, other, ..] = &listed(&stage.storage)[..] else { panic!("two snapshots") };
    let loss = |snapshot: &Snapshot, time_ms| Loss { time_ms, trees: [snapshot.id].into(), ..Loss::default() };
    repo.put_loss(&loss(one, 1)).unwrap();
    repo.put_loss(&loss(one, 2)).unwrap();
    assert_eq!(repo.losses().unwrap().0, [loss(one, 1)], "found again, it is the same");
    repo.put_loss(&loss(other, 3)).unwrap();
    assert_eq!(repo.losses().unwrap().0, [loss(other, 3)]);
    let snapshots = [one.clone(), other.clone()];
    assert!(repo.lacking(&snapshots).unwrap().is_empty(), "its tree can be read again");
    inflict(&stage.storage, &stage.trees_pack(), Harm::Delete);
    let lack = Lack { documents: 0, has_damaged_tree: true };
    assert_eq!(open(&stage.storage).lacking(&snapshots).unwrap(), [(other.id, lack)].into());
}
