//! A directory on a local disk.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use tempfile::NamedTempFile;

use super::{Error, ErrorKind, NewObject, Object, Result, Storage};

/// Folder for objects that have no name yet. What a crash leaves here is never read.
const UNFINISHED: &str = "tmp";

/// The time by the clock of the disk, which may be another machine's.
const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// Objects as files below one directory.
///
/// An object is written to `tmp/`, synced, moved to its name unless that is taken, and the folder is synced: so it
/// appears whole, and is durable when the call returns.
#[derive(Debug)]
pub struct LocalStorage {
    root: PathBuf,
}

impl LocalStorage {
    /// Uses the directory `root`, which need not exist until something is written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn ensure_folder(&self, folder: &Path) -> Result<()> {
        create_dir_durably(folder).map_err(|e| Error::new("create folder", folder.display(), e))
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self) -> Result<Box<dyn NewObject + '_>> {
        let folder = self.path(UNFINISHED);
        self.ensure_folder(&folder)?;
        // The umask decides who may read: a temporary file's usual 0600 would lock out a group that shares a repository.
        let file = tempfile::Builder::new()
            .prefix("")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&folder)
            .map_err(|e| Error::new("create a file in", folder.display(), e))?;
        Ok(Box::new(NewFile { storage: self, file }))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).map_err(|e| Error::new("read", path.display(), e))
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        let path = self.path(name);
        let read = || {
            let file = File::open(&path)?;
            // Checked first, so that a wrong length asks for no memory that the file can't fill.
            if file.metadata()?.len() < offset.saturating_add(length as u64) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        read().map_err(|e| Error::new("read", path.display(), e))
    }

    fn list(&self, folder: &str) -> Result<Vec<Object>> {
        let path = self.path(folder);
        match list_files(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result.map_err(|e| Error::new("list", path.display(), e)),
        }
    }

    fn now(&self) -> Result<SystemTime> {
        let folder = self.path(UNFINISHED);
        // The disk may be another machine's, which has a clock of its own: a file tells its time.
        let look = || {
            create_dir_durably(&folder)?;
            tempfile::Builder::new().prefix("").tempfile_in(&folder)?.as_file().metadata()?.modified()
        };
        match look().map_err(|e| Error::new("create a file in", folder.display(), e)) {
            // A full disk must not keep anyone from making room on it.
            Err(e) if matches!(e.kind, ErrorKind::Denied | ErrorKind::Full) => Ok(SystemTime::now()),
            result => result,
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        let remove = || {
            fs::remove_file(&path)?;
            sync_dir(path.parent().unwrap_or(&self.root))
        };
        remove().map_err(|e| Error::new("remove", path.display(), e))
    }
}

fn list_files(folder: &Path) -> io::Result<Vec<Object>> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => {
                objects.push(Object { name, size_bytes: metadata.len(), modified: metadata.modified()? });
            }
            Ok(_) => {}
            // Removed since the directory was read: it is not in the list.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(objects)
}

/// Dropped, it removes the file in `tmp/`.
struct NewFile<'a> {
    storage: &'a LocalStorage,
    file: NamedTempFile,
}

impl NewObject for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.file.path().to_owned();
        self.file.as_file_mut().write_all(bytes).map_err(|e| Error::new("write", path.display(), e))
    }

    fn finish(self: Box<Self>, name: &str) -> Result<()> {
        let target = self.storage.path(name);
        let folder = target.parent().unwrap_or(&self.storage.root).to_owned();
        self.storage.ensure_folder(&folder)?;
        let finish = || {
            self.file.as_file().sync_all()?;
            // How old a mark is decides when its pack goes: whatever came between the writing and this must not count.
            futimens(self.file.as_file(), &NOW)?;
            self.file.persist_noclobber(&target)?;
            sync_dir(&folder)
        };
        finish().map_err(|e| Error::new("write", target.display(), e))
    }
}

/// Creates a directory and its parents, each durable before something is put into it.
fn create_dir_durably(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_dir_durably(parent)?;
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result.and_then(|()| sync_dir(parent)),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}
