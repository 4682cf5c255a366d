//! The n-th call to the storage fails, whatever it is, for every n: once, or from then on. Whatever a prune or a repair
//! makes of that, nothing is lost, and the same command then succeeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use metastash::model::scope::Scope;
use metastash::monitor::{Recorder, Silent};
use metastash::ops;
use metastash::ops::backup::backup;
use metastash::ops::check::{CheckReport, check};
use metastash::ops::copy::copy;
use metastash::ops::find::{FindOptions, Found, Query, find};
use metastash::ops::prune::{PruneOptions, prune};
use metastash::ops::repair::{RepairOptions, RepairReport, plan_repair, repair};
use metastash::ops::restore::{Mode, restore};
use metastash::repo::Repository;
use metastash::repo::config::GRACE_SECS;
use metastash::repo::snapshot::Snapshot;
use metastash::storage::memory::MemoryStorage;
use metastash::storage::{Error, NewObject, Object, Result, Storage};

use crate::damage::{Harm, inflict, stage, unreadable};
use crate::support::{
    Contents, EVERYTHING, assert_sound, back_up, contents, contents_of, create, noise, open, options, restore_options,
    scratch, settle, snapshots, store, take, text, view, write,
};

/// Makes calls fail by their number.
#[derive(Debug)]
struct Failing {
    storage: MemoryStorage,
    calls: AtomicU64,
    /// The number of the first call that fails.
    first: u64,
    /// How many fail.
    count: u64,
    /// What names begin with for which calls fail; nothing for all.
    prefix: &'static str,
    /// Whether nothing can be written, as on a full disk.
    is_full: bool,
}

impl Failing {
    fn enter(&self, name: &str) -> Result<()> {
        if !name.starts_with(self.prefix) {
            return Ok(());
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst);
        if n >= self.first && n - self.first < self.count {
            return Err(Error::new("reach", name, io::Error::other("failed by the test")));
        }
        Ok(())
    }
}

struct FailingObject<'a> {
    failing: &'a Failing,
    object: Box<dyn NewObject + 'a>,
}

impl NewObject for FailingObject<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.failing.enter("a new object")?;
        self.object.write(bytes)
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        self.failing.enter(name)?;
        if self.failing.is_full {
            return Err(Error::new("write", name, io::ErrorKind::StorageFull.into()));
        }
        self.object.finish(name)
    }
}

impl Storage for Failing {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn create(&self) -> Result<Box<dyn NewObject + '_>> {
        self.enter("a new object")?;
        Ok(Box::new(FailingObject { failing: self, object: self.storage.create()? }))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.enter(name)?;
        self.storage.read(name)
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.enter(name)?;
        self.storage.read_range(name, offset, length)
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        self.enter(folder)?;
        self.storage.list(folder)
    }

    fn now(&self) -> Result<SystemTime> {
        self.enter("the time")?;
        self.storage.now()
    }

    fn settle(&self, folder: &str) -> Result<()> {
        self.enter(folder)?;
        self.storage.settle(folder)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.enter(name)?;
        self.storage.remove(name)
    }
}

/// Does something with each of its calls failing in turn, and looks at what that left.
pub(crate) fn fail_everywhere(
    storage: &MemoryStorage,
    act: impl Fn(&Repository),
    look: impl Fn(&MemoryStorage, &str),
) -> u64 {
    fail_everywhere_in("", storage, act, look)
}

/// Does that with the calls for names that begin with a prefix.
pub(crate) fn fail_everywhere_in(
    prefix: &'static str,
    storage: &MemoryStorage,
    act: impl Fn(&Repository),
    look: impl Fn(&MemoryStorage, &str),
) -> u64 {
    for count in [1, u64::MAX] {
        for first in 0.. {
            let storage = storage.fork();
            let calls = AtomicU64::new(0);
            let failing = Arc::new(Failing { storage: storage.clone(), calls, first, count, prefix, is_full: false });
            if let Ok(repo) = Repository::open(Arc::<Failing>::clone(&failing)) {
                act(&repo);
            }
            if failing.calls.load(Ordering::SeqCst) <= first {
                if count == 1 {
                    break;
                }
                return first;
            }
            look(&storage, &format!("call {first} and {} more", count - 1));
        }
    }
    unreachable!("what is done ends")
}

fn assert_reads(storage: &MemoryStorage, taken: &[(Snapshot, Contents)], context: &str) {
    let repo = open(storage);
    assert_sound(&repo);
    for (snapshot, expected) in taken {
        assert!(contents(&repo, snapshot) == *expected, "{context}: snapshot {}", snapshot.id.short());
    }
}

fn day(storage: &MemoryStorage) {
    storage.clock().pass(Duration::from_secs(GRACE_SECS + 60));
}

#[test]
fn prune_of_which_any_call_fails_loses_nothing_and_then_succeeds() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut taken = Vec::new();
    for round in 0..9 {
        for n in 0..3 {
            write(scratch.path(), format!("p{n}/{}", round % 4), text(round * 31 + n, 1500));
        }
        taken.push(take(scratch.path(), &storage));
    }
    for (snapshot, _) in taken.drain(..3) {
        open(&storage).forget(&snapshot).unwrap();
    }
    day(&storage);
    let act = |repo: &Repository| drop(prune(repo, &PruneOptions::default(), &Silent));
    for phase in ["mark", "delete"] {
        let calls = fail_everywhere(&storage, act, |storage, context| {
            assert_reads(storage, &taken, context);
            for _ in 0..3 {
                let report = prune(&open(storage), &PruneOptions::default(), &Silent).unwrap();
                assert!(report.damage.is_empty(), "{context}");
                day(storage);
            }
            assert_reads(storage, &taken, context);
            assert_eq!(storage.list("marks").unwrap(), [], "{phase}, {context}");
        });
        assert!(calls > 40, "{phase}: {calls}");
        prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
        day(&storage);
    }
}

#[test]
fn backup_of_which_any_call_fails_loses_nothing_and_then_succeeds() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut taken = Vec::new();
    // The last one has something to store that is large enough for packs of its own, and a segment to write.
    for round in 0..32 {
        write(scratch.path(), format!("p{}/{}", round % 3, round % 7), text(round, 700));
        if round == 31 {
            (0..12).for_each(|n| write(scratch.path(), format!("p0/large {n}"), noise(n, 1_500_000)));
        }
        if round < 31 {
            taken.push(take(scratch.path(), &storage));
        }
    }
    settle();
    let now = contents_of(&view(scratch.path()));
    let act = |repo: &Repository| drop(backup(&store(scratch.path()), repo, &options(), &Silent));
    let calls = fail_everywhere(&storage, act, |storage, context| {
        assert_reads(storage, &taken, context);
        let report = back_up(scratch.path(), &open(storage));
        assert_sound(&open(storage));
        assert!(contents(&open(storage), &report.snapshot) == now, "{context}");
    });
    assert!(calls > 50, "{calls}");
}

#[test]
fn restore_of_which_any_call_fails_is_all_or_nothing_and_then_succeeds() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    let (storage, _) = create();
    let mut taken = Vec::new();
    for round in 0..3 {
        for n in 0..5 {
            write(&source, format!("p{}/{n}", n % 2), text(round * 10 + n, 1500));
        }
        taken.push(take(&source, &storage));
    }
    let before = || {
        let _ = fs::remove_dir_all(&target);
        write(&target, "p0/other", b"what only the checkpoint has");
        contents_of(&view(&target))
    };
    let (old, (snapshot, new)) = (before(), &taken[1]);
    let go = |repo: &Repository| restore(&store(&target), repo, snapshot, &restore_options(Mode::Truncate), &Silent);
    let calls = fail_everywhere(
        &storage,
        |repo| {
            before();
            let is_done = go(repo).is_ok();
            let found = contents_of(&view(&target));
            assert!(found == *if is_done { new } else { &old }, "all or nothing");
        },
        |storage, context| {
            assert_reads(storage, &taken, context);
            before();
            let checkpoint = go(&open(storage)).unwrap().checkpoint.unwrap();
            assert!(contents_of(&view(&target)) == *new, "{context}");
            assert!(contents(&open(storage), &checkpoint) == old, "{context}");
        },
    );
    assert!(calls > 15, "{calls}");
}

#[test]
fn copy_of_which_any_call_fails_is_all_or_nothing_and_then_succeeds() {
    let scratch = scratch();
    let (from, _) = create();
    let mut taken = Vec::new();
    for round in 0..5 {
        for n in 0..3 {
            write(scratch.path(), format!("p{n}/{}", round % 2), text(round * 31 + n, 1500));
        }
        taken.push(take(scratch.path(), &from));
    }
    let all: Vec<Snapshot> = taken.iter().map(|(snapshot, _)| snapshot.clone()).collect();
    // One is there before.
    let (to, _) = create();
    copy(&open(&from), &open(&to), all[..1].to_vec(), &Silent).unwrap();
    let of_writing = fail_everywhere(
        &to,
        |repo| drop(copy(&open(&from), repo, all.clone(), &Silent)),
        |to, context| {
            // Those that are there by then are whole.
            let there = snapshots(&open(to)).len();
            assert_reads(to, &taken[..there], context);
            assert!(there >= 1, "{context}");
            copy(&open(&from), &open(to), all.clone(), &Silent).unwrap();
            assert_reads(to, &taken, context);
        },
    );
    let of_reading = fail_everywhere(
        &from,
        |repo| {
            let to = to.fork();
            let is_done = copy(repo, &open(&to), all.clone(), &Silent).is_ok();
            assert_reads(&to, &taken[..if is_done { 5 } else { 1 }], "while reading");
            assert_eq!(snapshots(&open(&to)).len(), if is_done { 5 } else { 1 });
            copy(&open(&from), &open(&to), all.clone(), &Silent).unwrap();
            assert_reads(&to, &taken, "then");
        },
        |from, context| assert_reads(from, &taken, context),
    );
    assert!(of_writing > 20 && of_reading > 10, "{of_writing} {of_reading}");
}

/// Tells whether a check met a pack that could not be read at all: such a one is damaged, as far as anyone can tell.
fn met_a_failure(check: &CheckReport) -> bool {
    check.findings.iter().any(|finding| finding.error.to_string().contains("failed by the test"))
}

/// What something finds, as text; nothing if it met a failure on the way and says so.
type Look<'a> = dyn Fn(&Repository) -> ops::Result<Option<String>> + 'a;

/// That something can't be reached says nothing of what is stored there.
#[test]
fn look_of_which_any_call_fails_says_so_or_tells_the_same() {
    let stage = stage();
    inflict(&stage.storage, &stage.documents_pack(), Harm::Flip(8 * 700));
    let taken = snapshots(&open(&stage.storage));
    let query = Query::new(&FindOptions { content: Some(String::new()), ..FindOptions::default() }).unwrap();
    let find_in = |repo: &Repository, snapshots: &[Snapshot]| -> ops::Result<Option<String>> {
        // A pack that is left out of the index is lost for whoever looks for documents.
        let is_whole = repo.index()?.damaged().is_empty();
        let (recorder, mut found) = (Recorder::default(), Vec::new());
        let take = |one: &Found| {
            found.push(one.entry.path.to_string());
            Ok(())
        };
        let report = find(repo, snapshots, &Scope::System, &query, &recorder, take)?;
        Ok(is_whole.then(|| format!("{report:?} {found:?} {:?}", recorder.problems())))
    };
    let check_all = |repo: &Repository| -> ops::Result<Option<String>> {
        let report = check(repo, EVERYTHING, &Silent)?;
        Ok((!met_a_failure(&report)).then(|| format!("{:?} {:?}", report.hits, report.unreadable_trees)))
    };
    let plan = |repo: &Repository| -> ops::Result<Option<String>> {
        let plan = plan_repair(repo, &RepairOptions::default(), &Silent)?;
        Ok((!met_a_failure(&plan.check)).then(|| format!("{:?} {:?}", plan.salvage, plan.hopeless)))
    };
    let looks: [(&str, &Look<'_>); 4] = [
        ("check", &check_all),
        ("plan of a repair", &plan),
        ("find in one", &|repo| find_in(repo, &taken[..1])),
        ("find in all", &|repo| find_in(repo, &taken)),
    ];
    for (name, look) in looks {
        let expected = look(&open(&stage.storage)).unwrap();
        let act = |repo: &Repository| {
            if let Ok(Some(told)) = look(repo) {
                assert_eq!(Some(told), expected, "{name}");
            }
        };
        let calls = fail_everywhere(&stage.storage, act, |_, _| {});
        assert!(calls > 5, "{name}: {calls}");
    }
}

#[test]
fn repair_of_which_any_call_fails_makes_nothing_worse_and_then_succeeds() {
    let stage = stage();
    inflict(&stage.storage, &stage.shared_pack(), Harm::Flip(8 * 700));
    let taken = open(&stage.storage).snapshots().unwrap().snapshots;
    let before = unreadable(&open(&stage.storage), &taken);
    let made = |report: &RepairReport| report.salvaged.iter().map(|made| made.of).collect::<Vec<_>>();
    let expected = made(&repair(&open(&stage.storage.fork()), &RepairOptions::default(), &Silent).unwrap());
    assert!(!expected.is_empty());
    let act = |repo: &Repository| match repair(repo, &RepairOptions::default(), &Silent) {
        Ok(report) if !met_a_failure(&report.check) => assert_eq!(made(&report), expected),
        _ => {}
    };
    let calls = fail_everywhere(&stage.storage, act, |storage, context| {
        assert_eq!(unreadable(&open(storage), &taken), before, "{context}");
        repair(&open(storage), &RepairOptions::default(), &Silent).unwrap();
        assert_eq!(unreadable(&open(storage), &taken), before, "{context}");
    });
    assert!(calls > 20, "{calls}");
}

#[test]
fn prune_on_a_full_disk_deletes_what_is_due_before_it_writes() {
    let scratch = scratch();
    let (storage, _) = create();
    let mut taken = Vec::new();
    for round in 0..9 {
        write(scratch.path(), "p/a", text(round, 1500));
        taken.push(take(scratch.path(), &storage));
    }
    prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
    day(&storage);
    // Something to copy, too.
    for round in 20..29 {
        write(scratch.path(), "p/a", text(round, 1500));
        taken.push(take(scratch.path(), &storage));
    }
    let before = storage.list("packs").unwrap().len();
    let calls = AtomicU64::new(0);
    let full = Failing { storage: storage.clone(), calls, first: u64::MAX, count: 0, prefix: "", is_full: true };
    let result = prune(&Repository::open(Arc::new(full)).unwrap(), &PruneOptions::default(), &Silent);
    assert!(result.is_err(), "{result:?}");
    assert!(storage.list("packs").unwrap().len() <= before - 9, "there is room now");
    assert_reads(&storage, &taken, "full");
    prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
    assert_reads(&storage, &taken, "with room");
}
