//! A disk in memory that knows what was synced: calls to it fail by their number, and its power can go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use metastash::model::clock::Clock;
use metastash::repo::Repository;
use metastash::storage::Object;
use metastash::storage::local::{Disk, DiskFile, LocalStorage};

use crate::support::Dice;

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    /// The number of a file.
    File(usize),
}

#[derive(Debug, Clone)]
struct File {
    bytes: Vec<u8>,
    /// How many of the bytes survive for sure.
    synced: usize,
    modified: SystemTime,
}

/// The names in a folder.
type Names = BTreeMap<String, Node>;

#[derive(Debug, Clone, Default)]
struct State {
    files: Vec<File>,
    /// What can be seen.
    seen: BTreeMap<PathBuf, Names>,
    /// What was there when each folder was last synced.
    synced: BTreeMap<PathBuf, Names>,
    temporary: usize,
}

/// What becomes of all that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It is gone: old names are back, files end where they were synced.
    All,
    /// Names are as they were last seen, bytes are gone.
    Bytes,
    /// The length of a file is what it was, its bytes are zeros. Names as last seen.
    Zeros,
    /// Each name is the old or the new one, each file ends anywhere.
    Torn,
}

pub(crate) const LOSSES: [Loss; 4] = [Loss::All, Loss::Bytes, Loss::Zeros, Loss::Torn];

/// Which calls fail, by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failing {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    clock: Clock,
    calls: AtomicU64,
    failing: Failing,
}

/// A disk. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct MemoryDisk(Arc<Shared>);

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn split(path: &Path) -> (PathBuf, String) {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    (path.parent().unwrap().to_owned(), name)
}

impl MemoryDisk {
    /// Where the repository is on it.
    const ROOT: &str = "/data/repository";

    pub(crate) fn new() -> Self {
        let root: BTreeMap<PathBuf, Names> = [(PathBuf::from("/"), Names::new())].into();
        let state = State { seen: root.clone(), synced: root, ..State::default() };
        Self::from(state, Clock::default(), Failing { first: u64::MAX, count: 0 })
    }

    fn from(state: State, clock: Clock, failing: Failing) -> Self {
        let calls = AtomicU64::new(0);
        Self(Arc::new(Shared { state: Mutex::new(state), clock, calls, failing }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> io::Result<()> {
        let n = self.0.calls.fetch_add(1, Ordering::SeqCst);
        let Failing { first, count } = self.0.failing;
        if n >= first && n - first < count { Err(io::Error::other("failed by the test")) } else { Ok(()) }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock.clone()
    }

    fn clock_of_its_own(&self) -> Clock {
        let clock = Clock::default();
        clock.pass(self.0.clock.ahead());
        clock
    }

    /// Returns a disk of its own that is in the same state, of which some calls fail.
    pub(crate) fn fork(&self, failing: Failing) -> Self {
        Self::from(self.lock().clone(), self.clock_of_its_own(), failing)
    }

    /// Returns a disk of its own in the same state, on which nothing fails: a process was killed, and the power stayed.
    pub(crate) fn revived(&self) -> Self {
        self.fork(Failing { first: u64::MAX, count: 0 })
    }

    /// Returns the disk as it is when the power was lost now and came back.
    pub(crate) fn without_power(&self, loss: Loss, dice: &mut Dice) -> Self {
        let mut state = self.lock().clone();
        let mut found = BTreeMap::new();
        let mut folders = vec![PathBuf::from("/")];
        while let Some(folder) = folders.pop() {
            let (old, new) = (state.synced.get(&folder), state.seen.get(&folder));
            let all: BTreeSet<&String> = old.into_iter().chain(new).flat_map(|names| names.keys()).collect();
            let mut left = Names::new();
            for name in all {
                let [old, new] = [old, new].map(|names| names.and_then(|names| names.get(name)).copied());
                let node = match loss {
                    Loss::All => old,
                    Loss::Bytes | Loss::Zeros => new,
                    Loss::Torn => [old, new][dice.below(2)],
                };
                if let Some(node) = node {
                    if node == Node::Folder {
                        folders.push(folder.join(name));
                    }
                    left.insert(name.clone(), node);
                }
            }
            found.insert(folder, left);
        }
        for file in &mut state.files {
            match loss {
                Loss::All | Loss::Bytes => file.bytes.truncate(file.synced),
                Loss::Zeros => file.bytes[file.synced..].fill(0),
                Loss::Torn => {
                    let lost = file.bytes.len() - file.synced;
                    file.bytes.truncate(file.synced + dice.below(lost + 1));
                }
            }
            file.synced = file.bytes.len();
        }
        let state = State { seen: found.clone(), synced: found, ..state };
        Self::from(state, self.clock_of_its_own(), Failing { first: u64::MAX, count: 0 })
    }

    /// Tells whether names in a folder of the repository can be seen that are not durable.
    pub(crate) fn is_unsettled(&self, folder: &str) -> bool {
        let folder = Path::new(Self::ROOT).join(folder);
        let state = self.lock();
        state.seen.get(&folder) != state.synced.get(&folder)
    }

    pub(crate) fn storage(&self) -> Arc<LocalStorage> {
        Arc::new(LocalStorage::on(Arc::new(self.clone()), Self::ROOT))
    }

    /// Opens the repository on it.
    pub(crate) fn open(&self) -> metastash::repo::Result<Repository> {
        Ok(Repository::open(self.storage())?.with_clock(self.clock()))
    }

    /// Changes the bytes of an object behind everybody's back.
    pub(crate) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let (folder, name) = split(&Path::new(Self::ROOT).join(name));
        let mut state = self.lock();
        let Node::File(number) = state.seen[&folder][&name] else { panic!("{name} is a folder") };
        let file = &mut state.files[number];
        change(&mut file.bytes);
        file.synced = file.bytes.len();
    }
}

impl State {
    fn names(&mut self, folder: &Path) -> io::Result<&mut Names> {
        self.seen.get_mut(folder).ok_or_else(not_found)
    }

    fn file(&self, path: &Path) -> io::Result<&File> {
        let (folder, name) = split(path);
        match self.seen.get(&folder).and_then(|names| names.get(&name)) {
            Some(Node::File(number)) => Ok(&self.files[*number]),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(not_found()),
        }
    }
}

impl Disk for MemoryDisk {
    fn create_file(&self, folder: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.enter()?;
        let modified = self.0.clock.now();
        let mut state = self.lock();
        let (number, name) = (state.files.len(), format!("{}", state.temporary));
        state.temporary += 1;
        let replaced = state.names(folder)?.insert(name.clone(), Node::File(number));
        assert_eq!(replaced, None);
        state.files.push(File { bytes: Vec::new(), synced: 0, modified });
        drop(state);
        Ok(Box::new(MemoryFile { disk: self.clone(), number, path: folder.join(name), is_moved: false }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.enter()?;
        if path == Path::new("/") {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (parent, name) = split(path);
        let mut state = self.lock();
        let names = state.names(&parent)?;
        if names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(name, Node::Folder);
        state.seen.insert(path.to_owned(), Names::new());
        // A folder that was lost with all in it, and is made again, begins empty.
        state.synced.insert(path.to_owned(), Names::new());
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.enter()?;
        let mut state = self.lock();
        let names = state.names(path)?.clone();
        state.synced.insert(path.to_owned(), names);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.enter()?;
        let (folder, name) = split(path);
        self.lock().names(&folder)?.remove(&name).map(drop).ok_or_else(not_found)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.enter()?;
        Ok(self.lock().file(path)?.bytes.clone())
    }

    fn read_range(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.enter()?;
        let offset = usize::try_from(offset).unwrap();
        let state = self.lock();
        let bytes = state.file(path)?.bytes.get(offset..offset + length);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Object>> {
        self.enter()?;
        let mut state = self.lock();
        let names = state.names(folder)?.clone();
        let files = names.into_iter().filter_map(|(name, node)| match node {
            Node::File(number) => {
                let file = &state.files[number];
                Some(Object { name, size_bytes: file.bytes.len() as u64, modified: file.modified })
            }
            Node::Folder => None,
        });
        Ok(files.collect())
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    number: usize,
    path: PathBuf,
    is_moved: bool,
}

impl DiskFile for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let result = self.disk.enter();
        // What fails may have been done by half.
        let done = if result.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.disk.lock().files[self.number].bytes.extend_from_slice(done);
        result
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.enter()?;
        let file = &mut self.disk.lock().files[self.number];
        file.synced = file.bytes.len();
        Ok(())
    }

    fn touch(&self) -> io::Result<SystemTime> {
        self.disk.enter()?;
        let now = self.disk.0.clock.now();
        self.disk.lock().files[self.number].modified = now;
        Ok(now)
    }

    fn move_to(mut self: Box<Self>, path: &Path) -> io::Result<()> {
        self.disk.enter()?;
        let (folder, name) = split(path);
        let mut state = self.disk.lock();
        let names = state.names(&folder)?;
        if names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(name, Node::File(self.number));
        let (folder, name) = split(&self.path);
        state.names(&folder)?.remove(&name);
        drop(state);
        self.is_moved = true;
        Ok(())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if !self.is_moved && self.disk.enter().is_ok() {
            let (folder, name) = split(&self.path);
            self.disk.lock().names(&folder).unwrap().remove(&name);
        }
    }
}
