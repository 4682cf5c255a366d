//! A directory on a local disk.

mod disk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use disk::{Disk, DiskFile, SystemDisk};

use super::{Error, ErrorKind, NewObject, Object, Result, Storage};

/// Folder for objects that have no name yet. What a crash leaves here is never read.
const UNFINISHED: &str = "tmp";

/// Objects as files below one directory.
///
/// An object is written to `tmp/`, synced, moved to its name unless that is taken, and the folder is synced: so it
/// appears whole, and is durable when the call returns.
#[derive(Debug)]
pub struct LocalStorage {
    root: PathBuf,
    disk: Arc<dyn Disk>,
}

impl LocalStorage {
    /// Uses the directory `root`, which need not exist until something is written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::on(Arc::new(SystemDisk), root)
    }

    /// Uses a directory on another disk than the system's: tests have one that fails.
    pub fn on(disk: Arc<dyn Disk>, root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), disk }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Creates a folder and its parents, each durable before something is put into it.
    fn ensure_folder(&self, path: &Path) -> io::Result<()> {
        match self.create_folder(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = path.parent() else { return Err(e) };
                self.ensure_folder(parent)?;
                self.create_folder(path)
            }
            result => result,
        }
    }

    /// Creates a folder whose parent exists, unless it is there.
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match self.disk.create_folder(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.and_then(|()| self.disk.sync_folder(parent_of(path))),
        }
    }

    /// Returns what is in a folder; nothing if it is not there.
    fn look_into<T>(&self, folder: &str, look: impl Fn(&Path) -> io::Result<Vec<T>>) -> Result<Vec<T>> {
        let path = self.path(folder);
        match look(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result.map_err(|e| Error::new("list", path.display(), e)),
        }
    }

    fn create_file(&self) -> Result<Box<dyn DiskFile>> {
        let folder = self.path(UNFINISHED);
        let create = || {
            self.ensure_folder(&folder)?;
            self.disk.create_file(&folder)
        };
        create().map_err(|e| Error::new("create a file in", folder.display(), e))
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self) -> Result<Box<dyn NewObject + '_>> {
        Ok(Box::new(NewFile { storage: self, file: self.create_file()? }))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        self.disk.read(&path).map_err(|e| Error::new("read", path.display(), e))
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        let path = self.path(name);
        self.disk.read_range(&path, offset, length).map_err(|e| Error::new("read", path.display(), e))
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        self.look_into(folder, |path| self.disk.list(path))
    }

    fn names(&self, folder: &str) -> Result<Vec<String>> {
        self.look_into(folder, |path| self.disk.names(path))
    }

    fn now(&self) -> Result<SystemTime> {
        // The disk may be another machine's, which has a clock of its own: a file tells its time.
        let look = || {
            let file = self.create_file()?;
            file.touch().map_err(|e| Error::new("read the time of", file.path().display(), e))
        };
        match look() {
            // A full disk must not keep anyone from making room on it.
            Err(e) if matches!(e.kind, ErrorKind::Denied | ErrorKind::Full) => Ok(SystemTime::now()),
            result => result,
        }
    }

    fn settle(&self, folder: &str) -> Result<()> {
        let sync = |path: &Path| match self.disk.sync_folder(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|e| Error::new("sync", path.display(), e)),
        };
        if !folder.is_empty() {
            sync(&self.path(folder))?;
            return sync(&self.root);
        }
        for place in self.root.ancestors() {
            match sync(place) {
                // Whoever may not look there has made nothing there either.
                Err(e) if e.kind == ErrorKind::Denied => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        let remove = || {
            self.disk.remove_file(&path)?;
            self.disk.sync_folder(parent_of(&path))
        };
        remove().map_err(|e| Error::new("remove", path.display(), e))
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Dropped, it removes the file in `tmp/`.
struct NewFile<'a> {
    storage: &'a LocalStorage,
    file: Box<dyn DiskFile>,
}

impl NewObject for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let write = self.file.write(bytes);
        write.map_err(|e| Error::new("write", self.file.path().display(), e))
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        let target = self.storage.path(name);
        let folder = parent_of(&target);
        let finish = || {
            self.storage.ensure_folder(folder)?;
            self.file.sync()?;
            // How old a mark is decides when its pack goes: whatever came between the writing and this must not count.
            self.file.touch()?;
            self.file.move_to(&target)?;
            self.storage.disk.sync_folder(folder)
        };
        finish().map_err(|e| Error::new("write", target.display(), e))
    }
}
