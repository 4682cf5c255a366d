//! What a user waits for, through the library: `cargo bench --bench user`.
//!
//! Runs on a generated tree of 10,000 documents; METASTASH_BENCH_DOCUMENTS sets another number. What a command does is
//! timed from opening the repository on. How this compares with other tools is for `scripts/bench-peers.sh` to show.

#![forbid(unsafe_code)]

#[path = "kylin_tree/mod.rs"]
mod kylin_tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use divan::{Bencher, black_box};
use tempfile::TempDir;

use kylin_tree::{Churn, Layout, Shape};
use metastash::endpoint::directory::DirectoryStore;
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::Author;
use metastash::ops::backup::{BackupOptions, BackupReport, backup};
use metastash::ops::browse::list;
use metastash::ops::check::{CheckReport, Depth, Part, check};
use metastash::ops::diff::{DiffReport, diff_snapshots};
use metastash::ops::restore::{RestoreOptions, RestoreReport, restore};
use metastash::repo::Repository;
use metastash::repo::config::{Config, GRACE_SECS};
use metastash::repo::snapshot::{Reference, Snapshot};
use metastash::storage::local::LocalStorage;

const DOCUMENTS: u64 = 10_000;
/// Documents written less than a tick of the clock before a backup are read again by the next one.
const TICK: Duration = Duration::from_millis(100);

fn main() {
    divan::main();
    // A static is never dropped, so this is the only one who tidies up.
    if let Some(ground) = GROUND.get() {
        fs::remove_dir_all(ground.dir.path()).expect("the benches' directory can be removed");
    }
}

/// A repository that does not exist, and every document.
#[divan::bench(sample_size = 1, max_time = 20)]
fn first_backup(bencher: Bencher<'_, '_>) {
    let ground = ground();
    bencher.with_inputs(|| ground.new_dir()).bench_values(|dir| {
        let repo = Repository::create(storage(&dir.path().join("repo")), config()).expect("the place is free");
        let report = ground.back_up(&repo);
        assert_eq!(report.counts.new, report.read);
        (report, dir)
    });
}

/// The parent snapshot has everything already.
#[divan::bench(sample_size = 1, max_time = 20)]
fn nothing_changed(bencher: Bencher<'_, '_>) {
    let ground = ground();
    bencher.with_inputs(|| ground.copy(&ground.day_1)).bench_values(|dir| {
        let report = ground.back_up(&open(dir.path()));
        assert_eq!(report.read, 0);
        (report, dir)
    });
}

/// The parent snapshot is one day older than the tree.
#[divan::bench(sample_size = 1, max_time = 20)]
fn one_day_of_churn(bencher: Bencher<'_, '_>) {
    let ground = ground();
    bencher.with_inputs(|| ground.copy(&ground.day_0)).bench_values(|dir| {
        let report = ground.back_up(&open(dir.path()));
        assert!(report.read > 0 && report.read < report.unchanged);
        (report, dir)
    });
}

/// Everything into an empty directory, with the checkpoint that a restore takes.
///
/// What was restored stays until the end: ext4 makes files many times slower for minutes after as many were removed.
#[divan::bench(sample_size = 1, sample_count = 10)]
fn restore_to_empty(bencher: Bencher<'_, '_>) {
    let ground = ground();
    bencher.with_inputs(|| (ground.copy(&ground.day_1), ground.new_dir().keep())).bench_values(|(dir, target)| {
        let repo = open(dir.path());
        let report = restore_to(&repo, &snapshot(&repo, 0), &target);
        assert_eq!(report.plan.total().add, report.snapshot.manifest.documents);
        (report, dir)
    });
}

/// Every byte of a repository of two snapshots.
#[divan::bench(sample_size = 1, max_time = 20)]
fn check_read_data(bencher: Bencher<'_, '_>) {
    let ground = ground();
    bencher.bench(|| {
        let report = check_all(&open(&ground.day_1));
        assert!(!report.is_damaged());
        report
    });
}

/// Two snapshots, one day of churn apart.
#[divan::bench(sample_size = 1, max_time = 20)]
fn diff_one_day_apart(bencher: Bencher<'_, '_>) {
    let ground = ground();
    bencher.bench(|| {
        let report = diff_last_two(&open(&ground.day_1));
        assert!(report.is_different());
        report
    });
}

/// All entries of a snapshot.
#[divan::bench(sample_size = 1, max_time = 20)]
fn list_snapshot(bencher: Bencher<'_, '_>) {
    let ground = ground();
    bencher.bench(|| {
        let repo = open(&ground.day_1);
        let (snapshot, mut documents) = (snapshot(&repo, 0), 0);
        list(&repo, &snapshot, &Scope::System, None, |entry| {
            documents += u64::from(black_box(entry).document().is_some());
            Ok(())
        })
        .expect("the snapshot can be listed");
        assert_eq!(documents, snapshot.manifest.documents);
        documents
    });
}

/// What the benches run on; made once and left as it is.
struct Ground {
    dir: TempDir,
    /// The tree, one day after it was generated.
    store: DirectoryStore,
    /// A repository with the tree as it was generated.
    day_0: PathBuf,
    /// The same, and the tree as it is.
    day_1: PathBuf,
}

static GROUND: OnceLock<Ground> = OnceLock::new();

fn ground() -> &'static Ground {
    GROUND.get_or_init(|| Ground::make().expect("the benches' directory can be written"))
}

impl Ground {
    fn make() -> io::Result<Self> {
        let documents = match std::env::var("METASTASH_BENCH_DOCUMENTS") {
            Ok(text) => text.parse().expect("METASTASH_BENCH_DOCUMENTS is a number"),
            Err(_) => DOCUMENTS,
        };
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
        let tree = dir.path().join("tree");
        kylin_tree::generate(&tree, &Shape { documents, seed: 1, projects: 0, layout: Layout::New })?;
        let store = DirectoryStore::open(&tree).expect("the tree was just made");
        let ground = Self { store, day_0: dir.path().join("day_0"), day_1: dir.path().join("day_1"), dir };
        let repo = Repository::create(storage(&ground.day_0), config()).expect("the place is free");
        thread::sleep(TICK);
        ground.back_up(&repo);
        kylin_tree::churn(&tree, 1, &Churn::default())?;
        thread::sleep(TICK);
        copy_tree(&ground.day_0, &ground.day_1)?;
        ground.back_up(&open(&ground.day_1));
        Ok(ground)
    }

    fn new_dir(&self) -> TempDir {
        TempDir::new_in(self.dir.path()).expect("a directory can be made")
    }

    /// Returns a copy of a repository, to be written to.
    fn copy(&self, repo: &Path) -> TempDir {
        let copy = self.new_dir();
        copy_tree(repo, copy.path()).expect("a repository can be copied");
        copy
    }

    fn back_up(&self, repo: &Repository) -> BackupReport {
        backup(&self.store, repo, &BackupOptions::new(author()), &Silent).expect("the tree can be backed up")
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn restore_to(repo: &Repository, snapshot: &Snapshot, dir: &Path) -> RestoreReport {
    let target = DirectoryStore::open_target(dir).expect("the target exists");
    restore(&target, repo, snapshot, &RestoreOptions::new(author()), &Silent).expect("the snapshot can be restored")
}

fn check_all(repo: &Repository) -> CheckReport {
    check(repo, Depth::ReadData(Part { number: 1, of: 1 }), &Silent).expect("the repository can be read")
}

fn diff_last_two(repo: &Repository) -> DiffReport {
    let take = |changed| {
        black_box(changed);
        Ok(())
    };
    diff_snapshots(repo, &snapshot(repo, 1), &snapshot(repo, 0), &Scope::System, take).expect("both can be read")
}

/// Returns the newest snapshot, or the one that many before it.
fn snapshot(repo: &Repository, back: usize) -> Snapshot {
    repo.find_snapshot(&Reference::Latest(back), |_| true).expect("there is such a snapshot")
}

fn open(dir: &Path) -> Repository {
    Repository::open(storage(dir)).expect("the repository exists")
}

fn storage(dir: &Path) -> Arc<LocalStorage> {
    Arc::new(LocalStorage::new(dir))
}

fn config() -> Config {
    Config { id: [7; 16], created_ms: 0, grace_secs: GRACE_SECS }
}

fn author() -> Author {
    Author { host: "bench".to_owned(), user: "bench".to_owned() }
}
