//! Many writers at once, and a prune meanwhile: without locks.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use metastash::endpoint::directory::DirectoryStore;
use metastash::endpoint::{self, Listing, Source};
use metastash::model::clock::Clock;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Silent};
use metastash::ops::Error;
use metastash::ops::backup::{BackupOptions, BackupReport, backup};
use metastash::ops::stats::stats;
use metastash::repo::config::{Config, GRACE_SECS};
use metastash::repo::{self, Repository};
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;
use std::sync::Arc;

use crate::support::{
    Contents, assert_sound, back_up, back_up_with, config, contents, contents_of, create, noise, open, options,
    scratch, settle, snapshots, store, text, view, write,
};

/// Backs several directories up at the same time, each by its own session.
fn back_up_at_once(storage: &MemoryStorage, sources: &[&std::path::Path]) -> Vec<(BackupReport, Contents)> {
    let start = Barrier::new(sources.len());
    thread::scope(|scope| {
        let session = |source| {
            let start = &start;
            scope.spawn(move || {
                let planned = Repository::create_when_needed(Arc::new(storage.clone()), config());
                let repo = Repository::open(Arc::new(storage.clone())).unwrap_or(planned);
                start.wait();
                (back_up(source, &repo), contents_of(&view(source)))
            })
        };
        let sessions: Vec<_> = sources.iter().map(|source| session(*source)).collect();
        sessions.into_iter().map(|session| session.join().unwrap()).collect()
    })
}

#[test]
fn backups_at_once_all_check_and_read_back() {
    let scratch = scratch();
    let folders: Vec<_> = (0..4).map(|n| scratch.path().join(format!("store {}", n / 2))).collect();
    for (n, folder) in folders.iter().enumerate() {
        for m in 0..40 {
            write(folder, format!("p{n}/{m}"), text(m, 500 + n));
            write(folder, format!("same/{m}"), text(m, 900));
        }
        write(folder, "large", noise(7, 900_000));
    }
    settle();
    let sources: Vec<_> = folders.iter().map(std::path::PathBuf::as_path).collect();
    let storage = MemoryStorage::new();
    for round in 0..3 {
        let reports = back_up_at_once(&storage, &sources);
        let repo = open(&storage);
        assert_sound(&repo);
        for (report, expected) in &reports {
            assert!(contents(&repo, &report.snapshot) == *expected, "round {round}");
        }
        write(sources[0], "p0/changed", text(100 + round, 300));
        write(sources[2], "p0/changed", text(100 + round, 300));
    }
    assert_eq!(storage.names().iter().filter(|name| *name == "config").count(), 1);
}

fn mark_all_packs(storage: &MemoryStorage) {
    for pack in storage.list("packs").unwrap() {
        storage.put(&format!("marks/{}-x", pack.name), b"").unwrap();
    }
}

#[test]
fn marked_pack_is_not_relied_on() {
    let scratch = scratch();
    write(scratch.path(), "first/p/a", text(1, 5000));
    write(scratch.path(), "second/p/b", text(1, 5000));
    let (storage, repo) = create();
    back_up(&scratch.path().join("first"), &repo);
    let chunks = |storage: &MemoryStorage| stats(&open(storage)).unwrap().chunks;
    let before = chunks(&storage);
    mark_all_packs(&storage);
    // Another store, so without a parent: the content is found, but only in a pack that may go.
    let report = back_up(&scratch.path().join("second"), &open(&storage));
    assert_eq!(chunks(&storage), before + 1, "it is stored again");
    let new_packs = storage.list("packs").unwrap().len();
    assert_eq!(new_packs, 2);
    // A prune takes what it marked.
    for mark in storage.list("marks").unwrap() {
        storage.remove(&format!("packs/{}", mark.name.strip_suffix("-x").unwrap())).unwrap();
    }
    let repo = open(&storage);
    assert!(contents(&repo, &report.snapshot) == contents_of(&view(&scratch.path().join("second"))));
}

#[test]
fn pack_that_is_not_marked_is_relied_on() {
    let scratch = scratch();
    write(scratch.path(), "first/p/a", text(1, 5000));
    write(scratch.path(), "second/p/b", text(1, 5000));
    let (storage, repo) = create();
    back_up(&scratch.path().join("first"), &repo);
    let before = stats(&open(&storage)).unwrap().chunks;
    back_up(&scratch.path().join("second"), &open(&storage));
    assert_eq!(stats(&open(&storage)).unwrap().chunks, before);
}

/// A store during whose listing a prune, or another writer, comes along.
struct Meanwhile<'a, F: Fn() + Sync> {
    store: &'a DirectoryStore,
    act: F,
}

impl<F: Fn() + Sync> Source for Meanwhile<'_, F> {
    fn location(&self) -> String {
        self.store.location()
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> endpoint::Result<Box<dyn Listing>> {
        (self.act)();
        self.store.scan(scope, monitor)
    }
}

fn create_with_grace(grace_secs: u64) -> (MemoryStorage, Repository) {
    let storage = MemoryStorage::new();
    let repo = Repository::create(Arc::new(storage.clone()), Config { grace_secs, ..config() }).unwrap();
    (storage, repo)
}

fn back_up_meanwhile(
    root: &std::path::Path,
    storage: &MemoryStorage,
    prune: impl Fn() + Sync,
) -> Result<BackupReport, Error> {
    let store = store(root);
    let options = BackupOptions { tags: [("kind".to_owned(), "test".to_owned())].into(), ..options() };
    backup(&Meanwhile { store: &store, act: prune }, &open(storage), &options, &Silent)
}

#[test]
fn backup_that_outlasts_the_grace_gives_up_when_its_packs_are_marked() {
    let scratch = scratch();
    write(scratch.path(), "p/a", text(1, 5000));
    settle();
    let (storage, repo) = create_with_grace(0);
    back_up(scratch.path(), &repo);
    let result = back_up_meanwhile(scratch.path(), &storage, || mark_all_packs(&storage));
    assert!(matches!(result, Err(Error::Repository(repo::Error::Outrun))), "{result:?}");
    assert_eq!(storage.list("snapshots").unwrap().len(), 1, "no snapshot that refers to them was written");
}

#[test]
fn backup_that_outlasts_the_grace_gives_up_when_its_packs_are_gone() {
    let scratch = scratch();
    write(scratch.path(), "p/a", text(1, 5000));
    settle();
    let (storage, repo) = create_with_grace(0);
    back_up(scratch.path(), &repo);
    let remove_all = || {
        for pack in storage.list("packs").unwrap() {
            storage.remove(&format!("packs/{}", pack.name)).unwrap();
        }
    };
    let result = back_up_meanwhile(scratch.path(), &storage, remove_all);
    let is_noticed = matches!(&result, Err(Error::Repository(error)) if error.is_damage()
        || matches!(error, repo::Error::Outrun | repo::Error::Storage(_)));
    assert!(is_noticed, "{result:?}");
    assert_eq!(storage.list("snapshots").unwrap().len(), 1, "no snapshot that refers to them was written");
}

#[test]
fn backup_that_outlasts_the_grace_commits_when_nothing_was_marked() {
    let scratch = scratch();
    write(scratch.path(), "p/a", text(1, 5000));
    settle();
    let (storage, repo) = create_with_grace(0);
    back_up(scratch.path(), &repo);
    write(scratch.path(), "p/b", text(2, 5000));
    back_up_with(scratch.path(), &open(&storage), &options()).unwrap();
    assert_sound(&open(&storage));
}

#[test]
fn backup_that_took_half_the_grace_looks_at_marks_again() {
    let scratch = scratch();
    write(scratch.path(), "p/a", text(1, 5000));
    settle();
    let half = Duration::from_secs(GRACE_SECS / 2);
    for (time, is_late) in [(half - Duration::from_secs(60), false), (half + Duration::from_secs(1), true)] {
        let (storage, repo) = create();
        back_up(scratch.path(), &repo);
        let clock = Clock::default();
        let meanwhile = || {
            mark_all_packs(&storage);
            clock.pass(time);
        };
        let store = store(scratch.path());
        let repo = open(&storage).with_clock(clock.clone());
        let result = backup(&Meanwhile { store: &store, act: meanwhile }, &repo, &options(), &Silent);
        let is_outrun = matches!(result, Err(Error::Repository(repo::Error::Outrun)));
        assert_eq!((is_outrun, result.is_ok()), (is_late, !is_late), "{time:?}");
    }
}

#[test]
fn backup_within_the_grace_commits_whatever_is_marked() {
    let scratch = scratch();
    write(scratch.path(), "p/a", text(1, 5000));
    settle();
    let (storage, repo) = create();
    back_up(scratch.path(), &repo);
    // The marks are younger than the grace: a prune looks at the snapshots again before it removes anything.
    back_up_meanwhile(scratch.path(), &storage, || mark_all_packs(&storage)).unwrap();
    assert_sound(&open(&storage));
}

#[test]
fn label_that_two_writers_take_at_once_stays_with_the_older_snapshot() {
    let scratch = scratch();
    write(scratch.path(), "p/a", text(1, 5000));
    let (storage, repo) = create();
    let labeled = BackupOptions { label: Some("release".to_owned()), ..options() };
    let store = store(scratch.path());
    let act = || drop(back_up_with(scratch.path(), &open(&storage), &labeled).unwrap());
    let result = backup(&Meanwhile { store: &store, act }, &open(&storage), &labeled, &Silent);
    let [kept] = &snapshots(&repo)[..] else { panic!("{:?}", snapshots(&repo)) };
    match result {
        Err(Error::LabelTaken { label, snapshot }) => assert_eq!((&label[..], snapshot), ("release", kept.id.short())),
        other => panic!("{other:?}"),
    }
    assert_eq!(kept.manifest.label.as_deref(), Some("release"));
}
