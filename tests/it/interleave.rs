//! Writers, prunes, forgetting and readers at once: each call to the storage is made in an order drawn at random, while
//! days pass. At every moment all snapshots in sight read as they were taken.
//!
//! All runs on one thread at a time, so a seed says all: a run that fails can be had again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use metastash::model::hash::SnapshotId;
use metastash::monitor::Silent;
use metastash::ops::backup::backup;
use metastash::ops::prune::{PruneOptions, prune};
use metastash::repo::Repository;
use metastash::repo::config::GRACE_SECS;
use metastash::repo::snapshot::Snapshot;
use metastash::storage::memory::MemoryStorage;
use metastash::storage::{NewObject, Object, Result, Storage};

use crate::support::{
    Contents, Dice, assert_sound, below, contents, contents_of, create, entries, open, options, read_document, scratch,
    settle, store, text, view, write,
};

const GRACE: Duration = Duration::from_secs(GRACE_SECS);
/// Seeds that are tried, unless the environment asks for more.
const SEEDS: u64 = 8;
/// Each seed is a play of so many acts, between which everybody comes to an end.
const ACTS: u64 = 6;
/// How often each actor acts in an act.
const OPERATIONS: usize = 3;

/// Where an actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between two calls.
    Running,
    /// Before a call. Whether no time may pass until it is made: that is what writers are relied on for (A3).
    Waiting { is_urgent: bool },
    /// At the end.
    Done,
}

#[derive(Debug)]
struct State {
    places: Vec<Place>,
    turn: Option<usize>,
    /// A test that failed waits for nobody.
    is_over: bool,
}

/// Lets one actor at a time make one call.
#[derive(Debug)]
struct Director {
    state: Mutex<State>,
    changed: Condvar,
}

impl Director {
    fn new(actors: usize) -> Self {
        let state = State { places: vec![Place::Running; actors], turn: None, is_over: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, while_: impl FnMut(&mut State) -> bool) -> MutexGuard<'a, State> {
        self.changed.wait_while(state, while_).unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by an actor before each call: returns when it is its turn.
    fn enter(&self, actor: usize, is_urgent: bool) {
        let mut state = self.lock();
        state.places[actor] = Place::Waiting { is_urgent };
        self.changed.notify_all();
        let mut state = self.wait(state, |state| state.turn != Some(actor) && !state.is_over);
        state.turn = None;
        state.places[actor] = Place::Running;
    }

    /// Gives turns until all are done. `between` is called while everybody waits, with whether time may pass.
    fn direct(&self, dice: &mut Dice, mut between: impl FnMut(&mut Dice, bool)) {
        loop {
            let state = self.wait(self.lock(), |state| state.turn.is_some() || state.places.contains(&Place::Running));
            let places = state.places.clone();
            drop(state);
            let waiting: Vec<usize> =
                (0..places.len()).filter(|actor| matches!(places[*actor], Place::Waiting { .. })).collect();
            if waiting.is_empty() {
                return;
            }
            between(dice, !places.contains(&Place::Waiting { is_urgent: true }));
            self.lock().turn = Some(waiting[dice.below(waiting.len())]);
            self.changed.notify_all();
        }
    }
}

/// Leaves the stage when an actor ends, also by a panic.
struct OnStage<'a>(&'a Director, usize);

impl Drop for OnStage<'_> {
    fn drop(&mut self) {
        self.0.lock().places[self.1] = Place::Done;
        self.0.changed.notify_all();
    }
}

/// Lets everybody go when the play ends, also by a panic.
struct Ending<'a>(&'a Director);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

/// The storage as one actor sees it.
#[derive(Debug, Clone)]
struct Staged {
    director: Arc<Director>,
    actor: usize,
    storage: MemoryStorage,
    /// How often the session listed the marks: the second time is the look before a commit.
    looks: Arc<Mutex<u32>>,
}

impl Staged {
    fn enter(&self, is_urgent: bool) {
        let is_looking = *self.looks.lock().unwrap() > 1;
        self.director.enter(self.actor, is_urgent || is_looking);
    }

    /// Opens the repository for something new.
    fn open(&self) -> Repository {
        *self.looks.lock().unwrap() = 0;
        let repo = Repository::open(Arc::new(self.clone())).unwrap();
        repo.with_clock(self.storage.clock())
    }
}

struct StagedObject<'a> {
    staged: &'a Staged,
    object: Box<dyn NewObject + 'a>,
}

impl NewObject for StagedObject<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.object.write(bytes)
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        self.staged.enter(name.starts_with("snapshots/"));
        self.object.finish(name)
    }
}

impl Storage for Staged {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn create(&self) -> Result<Box<dyn NewObject + '_>> {
        Ok(Box::new(StagedObject { staged: self, object: self.storage.create()? }))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.enter(false);
        self.storage.read(name)
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.enter(false);
        self.storage.read_range(name, offset, length)
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        self.enter(false);
        *self.looks.lock().unwrap() += u32::from(folder == "marks");
        self.storage.list(folder)
    }

    fn now(&self) -> Result<SystemTime> {
        self.enter(false);
        self.storage.now()
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.enter(name.starts_with("snapshots/"));
        self.storage.remove(name)
    }
}

/// What was taken, by everybody.
type Taken = Arc<Mutex<BTreeMap<SnapshotId, Contents>>>;

/// What an actor does again and again.
#[derive(Debug, Clone)]
enum Role {
    Writer(PathBuf),
    Pruner,
    Forgetter,
    Reader,
}

/// How often each thing worked out.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    backups: u32,
    prunes: u32,
    forgotten: u32,
    put_back: u32,
    read: u32,
    deleted: u64,
    copied: u64,
    failed: u32,
}

fn perform(role: &Role, staged: &Staged, taken: &Taken, dice: &mut Dice, tally: &Mutex<Tally>) {
    let repo = staged.open();
    let count = |count: fn(&mut Tally)| count(&mut tally.lock().unwrap());
    match role {
        Role::Writer(root) => {
            change(root, dice);
            settle();
            match backup(&store(root), &repo, &options(), &Silent) {
                Ok(report) => {
                    taken.lock().unwrap().insert(report.snapshot.id, contents_of(&view(root)));
                    count(|tally| tally.backups += 1);
                }
                // It was outrun, or something was removed that it knew of before.
                Err(_) => count(|tally| tally.failed += 1),
            }
        }
        Role::Pruner => {
            let max_unused_percent = if dice.below(2) == 0 { 0 } else { 20 };
            // Nothing rests on young packs being left alone.
            let leave_young = dice.below(3) == 0;
            let options = PruneOptions { max_unused_percent, leave_young, ..PruneOptions::default() };
            match prune(&repo, &options, &Silent) {
                Ok(report) => {
                    assert!(report.damage.is_empty(), "{:?}", report.damage);
                    let mut tally = tally.lock().unwrap();
                    tally.prunes += 1;
                    tally.deleted += report.deleted.count();
                    tally.copied += report.written.count();
                }
                // A snapshot that it was reading was forgotten, for so long that it is gone.
                Err(_) => count(|tally| tally.failed += 1),
            }
        }
        Role::Forgetter => {
            if dice.below(3) == 0 {
                let mut forgotten = repo.forgotten().unwrap().forgotten;
                if !forgotten.is_empty() {
                    let chosen = forgotten.swap_remove(dice.below(forgotten.len()));
                    if repo.unforget(&chosen).is_ok() {
                        count(|tally| tally.put_back += 1);
                    }
                }
            } else {
                let mut listed = repo.snapshots().unwrap().snapshots;
                if listed.len() > 3 {
                    let chosen = listed.swap_remove(dice.below(listed.len()));
                    if repo.forget(&chosen).unwrap() {
                        count(|tally| tally.forgotten += 1);
                    }
                }
            }
        }
        Role::Reader => {
            let mut listed = repo.snapshots().unwrap().snapshots;
            if !listed.is_empty() {
                let chosen = listed.swap_remove(dice.below(listed.len()));
                if let Some(found) = try_read(&repo, &chosen) {
                    if let Some(expected) = taken.lock().unwrap().get(&chosen.id) {
                        assert!(found == *expected, "what is read is what was taken");
                    }
                    count(|tally| tally.read += 1);
                }
            }
        }
    }
}

/// Changes some documents of a store. Few contents are about, so that many come back.
pub(crate) fn change(root: &Path, dice: &mut Dice) {
    for _ in 0..1 + dice.below(3) {
        let path = format!("p{}/{}", dice.below(2), dice.below(5));
        if dice.below(4) == 0 {
            let _ = fs::remove_file(below(root, &path));
        } else {
            write(root, &path, text(dice.below(12) as u64, 200 + dice.below(2) * 3000));
        }
    }
}

/// Reads a snapshot, if all of it can be read.
pub(crate) fn try_read(repo: &Repository, snapshot: &Snapshot) -> Option<Contents> {
    let read = entries(repo, snapshot).ok()?.into_iter().map(|entry| {
        let bytes = read_document(repo, &entry).ok()?;
        Some((entry.path.as_bytes().to_vec(), bytes))
    });
    read.collect()
}

/// Asserts that all snapshots in sight, and all that can be put back, read as they were taken.
fn assert_all_read(storage: &MemoryStorage, taken: &Taken, seed: u64) {
    let repo = open(&storage.fork());
    let list = repo.snapshots().unwrap();
    assert!(list.unreadable.is_empty(), "seed {seed}: {:?}", list.unreadable);
    let mut counting = list.snapshots;
    let now = storage.now().unwrap();
    for record in repo.forgotten_records().unwrap() {
        // Not to the second: time passes while this is looked at.
        if now.duration_since(record.written).unwrap_or_default() + Duration::from_secs(60) < GRACE {
            counting.extend(repo.snapshot_of(&record).unwrap());
        }
    }
    for snapshot in counting {
        let found = try_read(&repo, &snapshot);
        let found = found.unwrap_or_else(|| panic!("seed {seed}: snapshot {} has lost something", snapshot.id.short()));
        if let Some(expected) = taken.lock().unwrap().get(&snapshot.id) {
            assert!(found == *expected, "seed {seed}: snapshot {} is wrong", snapshot.id.short());
        }
    }
}

fn play(seed: u64, tally: &Mutex<Tally>) {
    let scratch = scratch();
    let (storage, _) = create();
    let taken = Taken::default();
    let mut dice = Dice::new(seed);
    let mut roles: Vec<Role> = (0..3).map(|n| Role::Writer(scratch.path().join(format!("store {n}")))).collect();
    roles.extend([Role::Pruner, Role::Pruner, Role::Forgetter, Role::Forgetter, Role::Reader]);
    for root in ["store 0", "store 1", "store 2"] {
        fs::create_dir(scratch.path().join(root)).unwrap();
    }
    for act in 0..ACTS {
        let director = Arc::new(Director::new(roles.len()));
        thread::scope(|scope| {
            for (actor, role) in roles.iter().enumerate() {
                let looks = Arc::default();
                let staged = Staged { director: Arc::clone(&director), actor, storage: storage.clone(), looks };
                let taken = Arc::clone(&taken);
                scope.spawn(move || {
                    let _on_stage = OnStage(&staged.director, actor);
                    let mut dice = Dice::new(seed * 1000 + act * 100 + actor as u64);
                    // With one thread of its own each makes its calls one after the other.
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                    pool.install(|| {
                        // Where prunes are rare, more comes between a mark and a deletion.
                        let is_rare = matches!(role, Role::Pruner) && seed.is_multiple_of(2);
                        for _ in 0..if is_rare { 1 } else { OPERATIONS } {
                            perform(role, &staged, &taken, &mut dice, tally);
                        }
                    });
                });
            }
            let _ending = Ending(&director);
            let clock = storage.clock();
            let mut steps = 0;
            director.direct(&mut dice, |dice, may_pass| {
                steps += 1;
                if may_pass && dice.below(12) == 0 {
                    clock.pass(GRACE / 1000 * u32::try_from(dice.below(40)).unwrap());
                }
                if may_pass && dice.below(600) == 0 {
                    clock.pass(GRACE / 4 * u32::try_from(dice.below(6)).unwrap());
                }
                if steps % 50 == 0 {
                    assert_all_read(&storage, &taken, seed);
                }
            });
        });
        assert_all_read(&storage, &taken, seed);
        storage.clock().pass(GRACE / 4 * u32::try_from(dice.below(8)).unwrap());
    }
    // When all is quiet, prunes find their way to an end, and everything is sound.
    for _ in 0..6 {
        prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
        assert_all_read(&storage, &taken, seed);
        storage.clock().pass(GRACE + Duration::from_secs(60));
    }
    let repo = open(&storage);
    assert_sound(&repo);
    assert_eq!(storage.list("marks").unwrap().len(), 0, "seed {seed}");
    for snapshot in repo.snapshots().unwrap().snapshots {
        if let Some(expected) = taken.lock().unwrap().get(&snapshot.id) {
            assert!(contents(&repo, &snapshot) == *expected);
        }
    }
}

#[test]
fn prune_needs_no_exclusive_lock_whoever_else_is_at_it() {
    let seeds = std::env::var("METASTASH_TEST_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let tally = Mutex::default();
    for seed in 0..seeds {
        play(seed, &tally);
    }
    let tally: Tally = *tally.lock().unwrap();
    let is_worth_it = tally.backups > 0
        && tally.prunes > 0
        && tally.forgotten > 0
        && tally.put_back > 0
        && tally.read > 0
        && tally.deleted > 0
        && tally.copied > 0;
    assert!(is_worth_it, "{tally:?}");
    assert!(u64::from(tally.failed) < seeds * ACTS * OPERATIONS as u64 * 3, "{tally:?}");
}
