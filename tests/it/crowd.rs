//! Four writers, two prunes, a forgetter and two readers at one repository, each as fast as it can, for ten thousand
//! operations while days pass: no snapshot is lost, none is wrong.
//!
//! Where `interleave.rs` draws the order of all calls and can be had again, here the machine decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::Duration;

use metastash::model::hash::SnapshotId;
use metastash::monitor::Silent;
use metastash::ops::backup::backup;
use metastash::ops::prune::{PruneOptions, prune};
use metastash::repo::config::GRACE_SECS;
use metastash::repo::{self, Repository};
use metastash::storage::memory::MemoryStorage;

use crate::interleave::{change, try_read};
use crate::support::{
    Contents, Dice, assert_sound, contents, contents_of, create, open, options, scratch, snapshots, store, view,
};

/// Operations in all, unless the environment asks for more.
const OPERATIONS: u64 = 10_000;
/// Snapshots that the forgetter leaves.
const KEPT: usize = 24;
const GRACE: Duration = Duration::from_secs(GRACE_SECS);

#[derive(Default)]
struct Scene {
    storage: MemoryStorage,
    operations: AtomicU64,
    wanted: u64,
    /// Whoever holds this for reading relies on no more than some hours to pass (A3 of `docs/format.md`).
    days: RwLock<()>,
    taken: Mutex<BTreeMap<SnapshotId, Contents>>,
    /// All that were ever forgotten, also if they were put back.
    forgotten: Mutex<BTreeSet<SnapshotId>>,
    tally: Tally,
}

/// How often each thing worked out.
#[derive(Debug, Default)]
struct Tally {
    backups: AtomicU64,
    prunes: AtomicU64,
    deleted: AtomicU64,
    copied: AtomicU64,
    forgotten: AtomicU64,
    put_back: AtomicU64,
    read: AtomicU64,
    /// What could not be done because of what others did.
    gave_up: AtomicU64,
}

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Scene {
    fn open(&self) -> Repository {
        open(&self.storage).with_clock(self.storage.clock())
    }

    /// Does something again and again until enough was done by all.
    fn repeat(&self, seed: u64, mut act: impl FnMut(&mut Dice)) {
        let mut dice = Dice::new(seed);
        while self.operations.load(Ordering::Relaxed) < self.wanted {
            act(&mut dice);
        }
    }

    /// Counts an operation that worked out.
    fn done(&self, counter: &AtomicU64) {
        count(counter, 1);
        count(&self.operations, 1);
    }

    fn write(&self, root: &Path, dice: &mut Dice) {
        change(root, dice);
        let now = contents_of(&view(root));
        let _days = self.days.read().unwrap();
        match backup(&store(root), &self.open(), &options(), &Silent) {
            Ok(report) => {
                self.taken.lock().unwrap().insert(report.snapshot.id, now);
                self.done(&self.tally.backups);
            }
            Err(metastash::ops::Error::Repository(repo::Error::Outrun)) => count(&self.tally.gave_up, 1),
            // The snapshot that it built upon was forgotten so long ago that its tree is gone.
            Err(error) => {
                assert!(!self.forgotten.lock().unwrap().is_empty(), "{error}");
                count(&self.tally.gave_up, 1);
            }
        }
    }

    fn prune(&self, dice: &mut Dice) {
        let max_unused_percent = if dice.below(2) == 0 { 0 } else { 20 };
        let options = PruneOptions { max_unused_percent, leave_young: dice.below(3) == 0, ..PruneOptions::default() };
        // It holds no lock: days may pass in the middle of it.
        match prune(&self.open(), &options, &Silent) {
            Ok(report) => {
                assert!(report.damage.is_empty(), "{:?}", report.damage);
                self.done(&self.tally.prunes);
                count(&self.tally.deleted, report.deleted.count());
                count(&self.tally.copied, report.written.count());
            }
            Err(_) => count(&self.tally.gave_up, 1),
        }
    }

    fn forget(&self, dice: &mut Dice) {
        let _days = self.days.read().unwrap();
        let repo = self.open();
        if dice.below(4) == 0 {
            let mut forgotten = repo.forgotten().unwrap().forgotten;
            if !forgotten.is_empty() && repo.unforget(&forgotten.swap_remove(dice.below(forgotten.len()))).is_ok() {
                self.done(&self.tally.put_back);
            }
            return;
        }
        let mut listed = snapshots(&repo);
        if listed.len() <= KEPT {
            thread::sleep(Duration::from_millis(1));
        }
        while listed.len() > KEPT {
            let chosen = listed.swap_remove(dice.below(listed.len()));
            self.forgotten.lock().unwrap().insert(chosen.id);
            assert!(repo.forget(&chosen).unwrap());
            self.done(&self.tally.forgotten);
        }
    }

    fn read(&self, dice: &mut Dice) {
        let repo = self.open();
        let mut listed = snapshots(&repo);
        if listed.is_empty() {
            return;
        }
        let chosen = listed.swap_remove(dice.below(listed.len()));
        match try_read(&repo, &chosen) {
            Some(found) => {
                if let Some(expected) = self.taken.lock().unwrap().get(&chosen.id) {
                    assert!(found == *expected, "{} is wrong", chosen.id.short());
                }
                self.done(&self.tally.read);
            }
            None => {
                let is_forgotten = self.forgotten.lock().unwrap().contains(&chosen.id);
                assert!(is_forgotten, "{} can't be read", chosen.id.short());
                count(&self.tally.gave_up, 1);
            }
        }
    }

    /// Lets time pass: some minutes at any moment, and hours while nobody is between a look and what rests on it.
    fn pass_time(&self, dice: &mut Dice) {
        for _ in 0..10 {
            self.storage.clock().pass(GRACE / 10_000 * u32::try_from(dice.below(100)).unwrap());
            thread::sleep(Duration::from_millis(1));
        }
        let _nobody = self.days.write().unwrap();
        self.storage.clock().pass(GRACE / 100 * u32::try_from(dice.below(60)).unwrap());
    }
}

#[test]
fn committed_snapshot_survives_ten_thousand_operations_at_once() {
    let wanted = std::env::var("METASTASH_TEST_OPERATIONS").ok().and_then(|wanted| wanted.parse().ok());
    let (storage, _) = create();
    let scene = Scene { storage, wanted: wanted.unwrap_or(OPERATIONS), ..Scene::default() };
    let scratch = scratch();
    let before = scene.storage.clock().ahead();
    thread::scope(|scope| {
        for n in 0..4 {
            let (scene, root) = (&scene, scratch.path().join(format!("store {n}")));
            fs::create_dir(&root).unwrap();
            scope.spawn(move || scene.repeat(n, |dice| scene.write(&root, dice)));
        }
        let scene = &scene;
        for n in 0..2 {
            scope.spawn(move || scene.repeat(10 + n, |dice| scene.prune(dice)));
            scope.spawn(move || scene.repeat(20 + n, |dice| scene.read(dice)));
        }
        scope.spawn(move || scene.repeat(30, |dice| scene.forget(dice)));
        scope.spawn(move || {
            let mut dice = Dice::new(40);
            while scene.operations.load(Ordering::Relaxed) < scene.wanted {
                scene.pass_time(&mut dice);
            }
        });
    });
    let passed = scene.storage.clock().ahead() - before;
    for _ in 0..4 {
        prune(&scene.open(), &PruneOptions::default(), &Silent).unwrap();
        scene.storage.clock().pass(GRACE + Duration::from_secs(60));
    }
    let repo = scene.open();
    assert_sound(&repo);
    assert_eq!(repo.forgotten().unwrap().forgotten.len(), 0);
    let listed = snapshots(&repo);
    let (taken, forgotten) = (scene.taken.into_inner().unwrap(), scene.forgotten.into_inner().unwrap());
    for snapshot in &listed {
        assert!(contents(&repo, snapshot) == taken[&snapshot.id], "{} is wrong", snapshot.id.short());
    }
    let lost: Vec<&SnapshotId> = taken
        .keys()
        .filter(|id| !forgotten.contains(id) && !listed.iter().any(|snapshot| snapshot.id == **id))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    let tally = &scene.tally;
    let done =
        [&tally.backups, &tally.prunes, &tally.deleted, &tally.copied, &tally.forgotten, &tally.put_back, &tally.read];
    assert!(done.iter().all(|count| count.load(Ordering::Relaxed) > 0), "{tally:?}");
    let gave_up = tally.gave_up.load(Ordering::Relaxed);
    assert!(gave_up < scene.wanted / 4, "{tally:?}");
    println!("{tally:?}, {} days, {} snapshots in the end", passed.as_secs() / 86_400, listed.len());
}
