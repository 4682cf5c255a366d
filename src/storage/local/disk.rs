//! The calls to a file system that local storage is made of.

use std::fmt;
use std::fs::{self, DirEntry, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use tempfile::NamedTempFile;

use crate::storage::Object;

/// The time by the clock of the disk, which may be another machine's.
const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// A file system, call by call. What is written to a file survives a loss of power once the file was synced; that a name
/// was made, moved or removed survives once its folder was.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Creates a file under a name of its own in `folder`.
    fn create_file(&self, folder: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Creates a folder, whose parent exists.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes durable which names are in a folder.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Returns the bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Returns `length` bytes of a file from `offset` on; fewer is an error.
    fn read_range(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Returns the files in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<Object>>;

    /// Returns the names of the files in a folder.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        Ok(self.list(folder)?.into_iter().map(|object| object.name).collect())
    }
}

/// A file being written. Dropped before [`DiskFile::move_to`], it is removed.
pub trait DiskFile: Send {
    /// Returns where it is.
    fn path(&self) -> &Path;

    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes its bytes durable.
    fn sync(&self) -> io::Result<()>;

    /// Sets its time to now, by the clock of the disk, and returns that.
    fn touch(&self) -> io::Result<SystemTime>;

    /// Moves it to a name that must not be taken.
    fn move_to(self: Box<Self>, path: &Path) -> io::Result<()>;
}

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_file(&self, folder: &Path) -> io::Result<Box<dyn DiskFile>> {
        // The umask decides who may read: a temporary file's usual 0600 would lock out a group that shares a repository.
        let permissions = Permissions::from_mode(0o666);
        Ok(Box::new(tempfile::Builder::new().prefix("").permissions(permissions).tempfile_in(folder)?))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        // Checked first, so that a wrong length asks for no memory that the file can't fill.
        if file.metadata()?.len() < offset.saturating_add(length as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Object>> {
        look_into(folder, |entry, name| {
            let metadata = entry.metadata()?;
            let object = || Ok(Object { name, size_bytes: metadata.len(), modified: metadata.modified()? });
            metadata.is_file().then(object).transpose()
        })
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        look_into(folder, |entry, name| Ok(entry.file_type()?.is_file().then_some(name)))
    }
}

/// Returns what is found of the entries of a folder whose names are text.
fn look_into<T>(folder: &Path, look: impl Fn(&DirEntry, String) -> io::Result<Option<T>>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        match look(&entry, name) {
            // Removed since the folder was read: it is not in the list.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            result => found.extend(result?),
        }
    }
    Ok(found)
}

impl DiskFile for NamedTempFile {
    fn path(&self) -> &Path {
        NamedTempFile::path(self)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.as_file_mut().write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.as_file().sync_all()
    }

    fn touch(&self) -> io::Result<SystemTime> {
        futimens(self.as_file(), &NOW)?;
        self.as_file().metadata()?.modified()
    }

    fn move_to(self: Box<Self>, path: &Path) -> io::Result<()> {
        self.persist_noclobber(path)?;
        Ok(())
    }
}
