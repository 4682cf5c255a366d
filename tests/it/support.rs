//! The stage of a test: directories made from maps, repositories in memory, and what is seen when looking at either.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use metastash::endpoint::directory::DirectoryStore;
use metastash::endpoint::{self, DocumentStream, Facts, Listing, Outcome, Reader, Source};
use metastash::model::entry::{Body, Document, Encoding, Entry, Stamp};
use metastash::model::log::{LogChange, LogRecord};
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Severity, Silent};
use metastash::ops::backup::{BackupOptions, BackupReport, backup};
use metastash::ops::check::{CheckReport, Depth, Part, check};
use metastash::ops::restore::{Allow, Mode, RestoreOptions, RestoreReport, restore};
use metastash::ops::{self, Author};
use metastash::repo::config::{Config, GRACE_SECS};
use metastash::repo::format::pack::FrameKind;
use metastash::repo::snapshot::{LogArchive, Manifest, Snapshot};
use metastash::repo::tree::TreeWriter;
use metastash::repo::writer::{Claims, Writer};
use metastash::repo::{self, Repository};
use metastash::storage::memory::MemoryStorage;
use metastash::storage::{self, NewObject, Object, Storage};
use tempfile::TempDir;

/// Every part there is: all bytes are read.
pub(crate) const EVERYTHING: Depth = Depth::ReadData(Part { number: 1, of: 1 });

/// What lies at one path of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A directory, with its mode.
    Directory(u32),
    /// A document.
    Document { bytes: Vec<u8>, mode: u32, time_ns: i64 },
}

impl Seen {
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Directory(_) => None,
            Self::Document { bytes, .. } => Some(bytes),
        }
    }

    pub(crate) fn mode(&self) -> u32 {
        match self {
            Self::Directory(mode) | Self::Document { mode, .. } => *mode,
        }
    }
}

/// All that is in a directory, by path.
pub(crate) type View = BTreeMap<Vec<u8>, Seen>;

/// Contents by path; nothing for a directory.
pub(crate) type Contents = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Looks at a directory; what does not exist is as good as empty.
pub(crate) fn view(root: &Path) -> View {
    let mut found = View::new();
    if root.exists() {
        look(root, &[], &mut found);
    }
    found
}

fn look(directory: &Path, prefix: &[u8], found: &mut View) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.file_name().as_bytes());
        let metadata = entry.metadata().unwrap();
        let mode = metadata.mode() & 0o7777;
        if metadata.is_dir() {
            look(&entry.path(), &path, found);
            found.insert(path, Seen::Directory(mode));
        } else if metadata.is_file() {
            let time_ns = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
            found.insert(path, Seen::Document { bytes: fs::read(entry.path()).unwrap(), mode, time_ns });
        }
    }
}

/// Leaves out all but contents.
pub(crate) fn contents_of(view: &View) -> Contents {
    view.iter().map(|(path, seen)| (path.clone(), seen.bytes().map(<[u8]>::to_vec))).collect()
}

/// Returns where `path` is below `root`.
pub(crate) fn below(root: &Path, path: impl AsRef<[u8]>) -> PathBuf {
    root.join(OsStr::from_bytes(path.as_ref()))
}

/// Writes a document, making the directories above it.
pub(crate) fn write(root: &Path, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) {
    let path = below(root, path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Sets the modification time of a document to so many seconds (and some nanoseconds) ago.
pub(crate) fn touch(path: &Path, seconds_ago: u64) {
    let time = SystemTime::now() - Duration::new(seconds_ago, 123_456_789);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Makes `target` hold what `view` shows.
pub(crate) fn build(target: &Path, view: &View) {
    fs::create_dir_all(target).unwrap();
    for (path, seen) in view {
        let path = below(target, path);
        match seen {
            Seen::Directory(_) => fs::create_dir_all(&path).unwrap(),
            Seen::Document { bytes, .. } => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, bytes).unwrap();
            }
        }
        chmod(&path, seen.mode());
    }
}

/// Waits until what was written so far can be told from what is written next: only then are stamps trusted.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(30));
}

/// Returns a new directory that vanishes with the value.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Bytes that look random and do not compress: the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Text that compresses as documents do: the same for the same seed.
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 64);
    let mut dice = Dice::new(seed);
    while text.len() < length {
        let line = format!("{{\"uuid\":\"{:08x}\",\"name\":\"column_{}\"}}\n", dice.below(1 << 32), dice.below(50));
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(length);
    text
}

/// Numbers that look random: the same for the same seed.
pub(crate) struct Dice(blake3::OutputReader);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(b"dice").update(&seed.to_le_bytes()).finalize_xof())
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % end as u64).unwrap()
    }
}

pub(crate) fn author() -> Author {
    Author { host: "host".to_owned(), user: "user".to_owned() }
}

pub(crate) fn config() -> Config {
    Config { id: *b"a test's own id.", created_ms: 1_700_000_000_000, grace_secs: GRACE_SECS }
}

/// Creates a repository in memory.
pub(crate) fn create() -> (MemoryStorage, Repository) {
    let storage = MemoryStorage::new();
    let repo = Repository::create(Arc::new(storage.clone()), config()).unwrap();
    (storage, repo)
}

/// Opens the repository in a storage anew: nothing is known of it but what is stored.
pub(crate) fn open(storage: &MemoryStorage) -> Repository {
    Repository::open(Arc::new(storage.clone())).unwrap()
}

/// Returns a storage of its own that holds the same objects.
pub(crate) fn copy(storage: &MemoryStorage) -> MemoryStorage {
    let copy = MemoryStorage::new();
    for name in storage.names() {
        copy.put(&name, &storage.read(&name).unwrap()).unwrap();
    }
    copy
}

pub(crate) fn store(root: &Path) -> DirectoryStore {
    DirectoryStore::open_target(root).unwrap()
}

pub(crate) fn project(name: &str) -> Scope {
    Scope::project(name).unwrap()
}

pub(crate) fn path(text: impl AsRef<[u8]>) -> EntryPath {
    EntryPath::new(text.as_ref()).unwrap()
}

pub(crate) fn options() -> BackupOptions {
    BackupOptions { allow_empty: true, ..BackupOptions::new(author()) }
}

/// Backs a directory up. Snapshots are named by the millisecond: the next one gets another.
pub(crate) fn back_up_with(root: &Path, repo: &Repository, options: &BackupOptions) -> ops::Result<BackupReport> {
    let report = backup(&store(root), repo, options, &Silent);
    std::thread::sleep(Duration::from_millis(2));
    report
}

pub(crate) fn back_up(root: &Path, repo: &Repository) -> BackupReport {
    back_up_with(root, repo, &options()).unwrap()
}

/// Backs a directory up as soon as its files are old enough; returns the snapshot, and what the directory holds.
pub(crate) fn take(root: &Path, storage: &MemoryStorage) -> (Snapshot, Contents) {
    settle();
    (back_up(root, &open(storage)).snapshot, contents_of(&view(root)))
}

pub(crate) fn snapshots(repo: &Repository) -> Vec<Snapshot> {
    let list = repo.snapshots().unwrap();
    assert!(list.unreadable.is_empty(), "{:?}", list.unreadable);
    list.snapshots
}

pub(crate) fn restore_options(mode: Mode) -> RestoreOptions {
    let allow = Allow { empty: true, ..Allow::default() };
    RestoreOptions { mode, allow, ..RestoreOptions::new(author()) }
}

/// Restores into a directory, which is made if need be, without a checkpoint.
pub(crate) fn restore_into(
    target: &Path,
    repo: &Repository,
    snapshot: &Snapshot,
    mode: Mode,
) -> ops::Result<RestoreReport> {
    fs::create_dir_all(target).unwrap();
    let options = RestoreOptions { checkpoint: false, ..restore_options(mode) };
    restore(&store(target), repo, snapshot, &options, &Silent)
}

/// Reads the entries of a snapshot.
pub(crate) fn entries(repo: &Repository, snapshot: &Snapshot) -> repo::Result<Vec<Entry>> {
    let tree = repo.tree(&snapshot.manifest.tree)?;
    repo.entries(&tree, &Scope::System).collect()
}

/// Reads one document of a snapshot, each chunk of it verified.
pub(crate) fn read_document(repo: &Repository, entry: &Entry) -> repo::Result<Option<Vec<u8>>> {
    let Some(document) = entry.document() else { return Ok(None) };
    let chunks = document.chunks().map(|chunk| repo.read_chunk(FrameKind::Documents, &chunk));
    Ok(Some(chunks.collect::<repo::Result<Vec<_>>>()?.concat()))
}

/// Reads all of a snapshot.
pub(crate) fn contents(repo: &Repository, snapshot: &Snapshot) -> Contents {
    let read = |entry: Entry| (entry.path.as_bytes().to_vec(), read_document(repo, &entry).unwrap());
    entries(repo, snapshot).unwrap().into_iter().map(read).collect()
}

pub(crate) fn check_everything(repo: &Repository) -> CheckReport {
    check(repo, EVERYTHING, &Silent).unwrap()
}

/// Asserts that every byte of a repository is what it was.
pub(crate) fn assert_sound(repo: &Repository) {
    let report = check_everything(repo);
    assert!(!report.is_damaged(), "{report:?}");
}

/// Writes a snapshot that holds the same as another, and some records of a log.
pub(crate) fn add_archive(repo: &Repository, like: &Snapshot) -> Snapshot {
    let claims = Claims::begin(repo).unwrap();
    let mut writer = Writer::begin(&claims).unwrap();
    let record = LogRecord {
        id: 7,
        key: b"MODEL/x".to_vec(),
        change: LogChange::Removed,
        time_ms: 1_700_000_000_000,
        version: None,
        transaction: "unit".to_owned(),
        operator: None,
        instance: None,
        project: None,
    };
    let chunks = vec![writer.put_log(vec![record]).unwrap()];
    let archive = Some(LogArchive { after: 6, last: 7, is_complete: true, chunks });
    let manifest = Manifest { time_ms: like.manifest.time_ms + 1, archive, ..like.manifest.clone() };
    writer.commit(manifest).unwrap().snapshot
}

/// What is about to be done with an object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call<'a> {
    /// It is read, from this byte on.
    Read(&'a str, u64),
    Remove(&'a str),
}

/// A storage of which some calls go wrong, or are noticed.
pub(crate) struct Hooked {
    storage: MemoryStorage,
    hook: Box<dyn Fn(Call<'_>) -> storage::Result<()> + Send + Sync>,
}

impl Hooked {
    pub(crate) fn new(
        storage: &MemoryStorage,
        hook: impl Fn(Call<'_>) -> storage::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { storage: storage.clone(), hook: Box::new(hook) }
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.storage.fmt(f)
    }
}

impl Storage for Hooked {
    fn location(&self) -> String {
        self.storage.location()
    }

    fn create(&self) -> storage::Result<Box<dyn NewObject + '_>> {
        self.storage.create()
    }

    fn read(&self, name: &str) -> storage::Result<Vec<u8>> {
        (self.hook)(Call::Read(name, 0))?;
        self.storage.read(name)
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> storage::Result<Vec<u8>> {
        (self.hook)(Call::Read(name, offset))?;
        self.storage.read_range(name, offset, length)
    }

    fn list(&self, folder: &str) -> storage::Result<Vec<Object>> {
        self.storage.list(folder)
    }

    fn remove(&self, name: &str) -> storage::Result<()> {
        (self.hook)(Call::Remove(name))?;
        self.storage.remove(name)
    }

    fn now(&self) -> storage::Result<SystemTime> {
        self.storage.now()
    }
}

/// Returns an entry that says of itself to be this document, whether there is one or not.
pub(crate) fn entry(name: &str, document: Document) -> Entry {
    let body = Body::Document(document);
    Entry { path: path(name), body, mode: None, encoding: Encoding::Plain, stamp: Stamp::default() }
}

/// Writes a snapshot of entries, which are given in path order, that is like another otherwise.
pub(crate) fn add_entries(repo: &Repository, like: &Snapshot, entries: Vec<Entry>) -> Snapshot {
    let claims = Claims::begin(repo).unwrap();
    let (mut writer, mut tree) = (Writer::begin(&claims).unwrap(), TreeWriter::new());
    for entry in entries {
        tree.push(&mut writer, entry).unwrap();
    }
    let tree = tree.finish(&mut writer).unwrap();
    let manifest = Manifest {
        time_ms: like.manifest.time_ms + 1,
        tree: tree.id,
        root: tree.root(),
        documents: tree.documents(),
        bytes: tree.bytes(),
        ..like.manifest.clone()
    };
    writer.commit(manifest).unwrap().snapshot
}

/// A failure to read one document.
pub(crate) fn failed() -> endpoint::Error {
    let source = io::Error::other("failed by the test");
    endpoint::Error::Io { action: "read", path: "it".to_owned(), source }
}

/// A failure to read one document that is about the whole store.
pub(crate) fn failed_for_good() -> endpoint::Error {
    endpoint::Error::Damaged { store: "the store".to_owned(), what: "failed by the test".to_owned() }
}

/// A store of one document, which comes to something else each time it is read.
#[derive(Clone)]
pub(crate) struct Fickle {
    layout: &'static str,
    path: EntryPath,
    readings: Arc<Mutex<VecDeque<endpoint::Result<Vec<u8>>>>>,
}

impl Fickle {
    pub(crate) fn new(
        layout: &'static str,
        name: &str,
        readings: impl IntoIterator<Item = endpoint::Result<&'static str>>,
    ) -> Self {
        let readings = readings.into_iter().map(|reading| reading.map(|text| text.as_bytes().to_vec())).collect();
        Self { layout, path: path(name), readings: Arc::new(Mutex::new(readings)) }
    }
}

impl Source for Fickle {
    fn location(&self) -> String {
        "fickle".to_owned()
    }

    fn layout(&self) -> &'static str {
        self.layout
    }

    fn scan(&self, _: &Scope, _: &dyn Monitor) -> endpoint::Result<Box<dyn Listing>> {
        Ok(Box::new(self.clone()))
    }
}

impl Listing for Fickle {
    fn len(&self) -> usize {
        1
    }

    fn path(&self, _: usize) -> EntryPath {
        self.path.clone()
    }

    fn facts(&self, _: usize) -> Facts {
        Facts { size: Some(1), mode: None, encoding: Encoding::Plain, stamp: Stamp::default() }
    }

    fn find(&self, path: &EntryPath, _: usize) -> Option<usize> {
        (*path == self.path).then_some(0)
    }

    fn obstacles(&self) -> &[EntryPath] {
        &[]
    }

    fn hides(&self, _: &EntryPath) -> bool {
        false
    }

    fn problems(&self) -> &[Problem] {
        &[]
    }

    fn is_racy(&self, _: &Stamp) -> bool {
        false
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        Box::new(self.clone())
    }

    fn check_still_there(&self) -> endpoint::Result<()> {
        Ok(())
    }
}

impl Reader for Fickle {
    fn read(&mut self, _: usize, _: u64, content: &mut Vec<u8>) -> endpoint::Result<Outcome> {
        let reading = self.readings.lock().unwrap().pop_front().expect("it is read as often as the test says");
        content.extend(reading?);
        Ok(Outcome::Read(Stamp::default()))
    }

    fn stream(&mut self, _: usize) -> endpoint::Result<Box<dyn DocumentStream>> {
        Err(failed_for_good())
    }
}

/// A store of which one document can't be read, whoever runs the test.
pub(crate) struct Partly(pub(crate) DirectoryStore);

struct PartlyListed {
    listing: Box<dyn Listing>,
    problems: Vec<Problem>,
}

impl Source for Partly {
    fn location(&self) -> String {
        self.0.location()
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> endpoint::Result<Box<dyn Listing>> {
        let unread =
            Problem { severity: Severity::Unread, path: "p/unread".to_owned(), what: "can't be read".to_owned() };
        monitor.problem(&unread);
        Ok(Box::new(PartlyListed { listing: self.0.scan(scope, monitor)?, problems: vec![unread] }))
    }
}

impl Listing for PartlyListed {
    fn len(&self) -> usize {
        self.listing.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        self.listing.path(n)
    }

    fn facts(&self, n: usize) -> Facts {
        self.listing.facts(n)
    }

    fn find(&self, path: &EntryPath, near: usize) -> Option<usize> {
        self.listing.find(path, near)
    }

    fn obstacles(&self) -> &[EntryPath] {
        self.listing.obstacles()
    }

    fn hides(&self, path: &EntryPath) -> bool {
        self.listing.hides(path)
    }

    fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn is_racy(&self, stamp: &Stamp) -> bool {
        self.listing.is_racy(stamp)
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        self.listing.reader()
    }

    fn check_still_there(&self) -> endpoint::Result<()> {
        self.listing.check_still_there()
    }
}
