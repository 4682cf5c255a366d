//! Lets weeks pass: a backup every few minutes while a little changes, `forget` and `prune` every night. Prints what a
//! backup and a night take, and what the repository holds, for each day.

#![forbid(unsafe_code)]
// The table is what this program prints.
#![allow(clippy::print_stdout)]
// Written as a script: what can't be done ends the program where that is noticed.
#![allow(clippy::unwrap_used)]

#[path = "kylin_tree/mod.rs"]
mod kylin_tree;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use jiff::tz::TimeZone;

use kylin_tree::{Changing, Churn, Layout, Part, Shape};
use metastash::endpoint::directory::DirectoryStore;
use metastash::model::clock::Clock;
use metastash::monitor::Silent;
use metastash::ops::Author;
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::check::{Depth, Part as Portion, check};
use metastash::ops::forget::forget;
use metastash::ops::prune::{PruneOptions, prune};
use metastash::ops::retention::{Policy, plan};
use metastash::repo::Repository;
use metastash::repo::config::{Config, GRACE_SECS};
use metastash::repo::snapshot::Reference;
use metastash::storage::Object;
use metastash::storage::local::{Disk, DiskFile, LocalStorage, SystemDisk};

const A_DAY: Duration = Duration::from_secs(86_400);
/// Documents written less than a tick of the clock before a backup are read again by the next one.
const TICK: Duration = Duration::from_millis(10);

/// Back up every few minutes and prune every night, for simulated weeks
#[derive(Parser)]
#[command(after_help = "Example: days --documents 101110 --days 30 /tmp/days")]
struct Cli {
    /// How many documents the tree has
    #[arg(long, value_name = "N", default_value_t = 101_110)]
    documents: u64,
    /// How many days pass
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
    /// How many backups a day has
    #[arg(long, value_name = "N", default_value_t = 288, value_parser = clap::value_parser!(u32).range(1..))]
    backups: u32,
    /// Forget nothing; else: 12 of the newest, 48 hourly, 30 daily, 12 monthly, 5 yearly
    #[arg(long)]
    keep_all: bool,
    /// New directory for the tree and the repository
    dir: PathBuf,
}

/// The machine's disk, with a clock that runs ahead. Files are dated by it, so they have the ages they would have.
#[derive(Debug)]
struct AheadDisk {
    clock: Clock,
}

struct AheadFile {
    file: Box<dyn DiskFile>,
    clock: Clock,
}

impl Disk for AheadDisk {
    fn create_file(&self, folder: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(AheadFile { file: SystemDisk.create_file(folder)?, clock: self.clock.clone() }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_folder(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove_file(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        SystemDisk.read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        SystemDisk.read_range(path, offset, length)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Object>> {
        SystemDisk.list(folder)
    }
}

impl DiskFile for AheadFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn touch(&self) -> io::Result<SystemTime> {
        let now = self.clock.now();
        File::options().write(true).open(self.path())?.set_modified(now)?;
        Ok(now)
    }

    fn move_to(self: Box<Self>, path: &Path) -> io::Result<()> {
        self.file.move_to(path)
    }
}

/// Where it happens.
struct Scene {
    store: DirectoryStore,
    repo: PathBuf,
    clock: Clock,
}

impl Scene {
    fn storage(&self) -> Arc<LocalStorage> {
        Arc::new(LocalStorage::on(Arc::new(AheadDisk { clock: self.clock.clone() }), &self.repo))
    }

    /// Opens the repository as a new process does.
    fn open(&self) -> Repository {
        Repository::open(self.storage()).unwrap().with_clock(self.clock.clone())
    }

    /// Lets time pass until then, unless it has.
    fn wait_until(&self, then: SystemTime) {
        self.clock.pass(then.duration_since(self.clock.now()).unwrap_or_default());
    }

    fn back_up(&self) -> u64 {
        let author = Author { host: "days".to_owned(), user: "days".to_owned() };
        backup(&self.store, &self.open(), &BackupOptions::new(author), &Silent).unwrap().read
    }

    fn forget(&self, policy: &Policy) {
        let repo = self.open();
        let list = repo.snapshots().unwrap();
        assert!(list.unreadable.is_empty());
        forget(&repo, &plan(&list.snapshots, policy), &Silent).unwrap();
    }

    /// Returns how many files a folder of the repository has, and their bytes.
    fn measure(&self, folder: &str) -> (usize, u64) {
        let Ok(entries) = fs::read_dir(self.repo.join(folder)) else { return (0, 0) };
        let sizes = entries.map(|entry| entry.unwrap().metadata().unwrap().len());
        sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size))
    }
}

/// Returns how much time all threads have had of a processor.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program is in parentheses and may have spaces.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // Linux tells it in hundredths of a second, whatever its own clock does.
    Duration::from_millis(ticks * 10)
}

fn peak_memory_kib() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned()
}

fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let done = act();
    (began.elapsed(), done)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn main() {
    let cli = Cli::parse();
    fs::create_dir(&cli.dir).unwrap();
    let tree = cli.dir.join("tree");
    let shape = Shape { documents: cli.documents, seed: 1, projects: 0, layout: Layout::New };
    kylin_tree::generate(&tree, &shape).unwrap();
    let scene =
        Scene { store: DirectoryStore::open(&tree).unwrap(), repo: cli.dir.join("repo"), clock: Clock::default() };
    let day_secs = A_DAY.as_secs();
    let midnight =
        UNIX_EPOCH + Duration::from_secs((scene.clock.now_ms().unsigned_abs() / 1000 / day_secs + 1) * day_secs);
    scene.wait_until(midnight);
    let config = Config { id: [7; 16], created_ms: scene.clock.now_ms(), grace_secs: GRACE_SECS };
    Repository::create(scene.storage(), config).unwrap();
    thread::sleep(TICK);
    let (first, _) = timed(|| scene.back_up());
    println!("first backup: {:.2} s, {:.1} MB", first.as_secs_f64(), scene.measure("packs").1 as f64 / 1e6);
    println!();
    println!(
        "| day | documents read | backup: median ms | 95 % | CPU ms | forget ms | prune ms | snapshots | packs | marks | segments | MB | list ms | latest ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let policy = Policy { last: 12, hourly: 48, daily: 30, monthly: 12, yearly: 5, ..Policy::new(TimeZone::UTC) };
    let share = f64::from(cli.backups);
    let of_a_day = Churn::default();
    let little = Churn {
        modified: of_a_day.modified / share,
        added: of_a_day.added / share,
        removed: of_a_day.removed / share,
        ..of_a_day
    };
    let mut changing = Changing::open(&tree).unwrap();
    for day in 1..=cli.days {
        let (mut times, mut cpu, mut read) = (Vec::new(), Duration::ZERO, 0);
        for number in 0..cli.backups {
            changing.pass(Part { day, number, of: cli.backups }, &little).unwrap();
            thread::sleep(TICK);
            scene.wait_until(midnight + A_DAY * (day - 1) + A_DAY / cli.backups * (number + 1));
            let before = cpu_time();
            let (took, documents) = timed(|| scene.back_up());
            cpu += cpu_time() - before;
            times.push(took);
            read += documents;
        }
        let forgot = if cli.keep_all { Duration::ZERO } else { timed(|| scene.forget(&policy)).0 };
        let (pruned, report) = timed(|| prune(&scene.open(), &PruneOptions::default(), &Silent).unwrap());
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        let (listed, snapshots) = timed(|| scene.open().snapshots().unwrap().snapshots.len());
        let (latest, _) = timed(|| scene.open().find_snapshot(&Reference::Latest(0), |_| true).unwrap());
        times.sort_unstable();
        let folders = ["packs", "marks", "index", "snapshots", "forgotten"];
        let sizes = folders.map(|folder| scene.measure(folder));
        println!(
            "| {day} | {read} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {snapshots} | {} | {} | {} | {:.1} | {:.1} | {:.1} |",
            ms(times[times.len() / 2]),
            ms(times[times.len() * 95 / 100]),
            ms(cpu / cli.backups),
            ms(forgot),
            ms(pruned),
            sizes[0].0,
            sizes[1].0,
            sizes[2].0,
            sizes.iter().map(|size| size.1).sum::<u64>() as f64 / 1e6,
            ms(listed),
            ms(latest),
        );
    }
    let (checked, report) =
        timed(|| check(&scene.open(), Depth::ReadData(Portion { number: 1, of: 1 }), &Silent).unwrap());
    assert!(!report.is_damaged());
    println!();
    println!("check --read-data: {:.2} s; peak memory: {}", checked.as_secs_f64(), peak_memory_kib());
}
