//! Changing a directory tree: everything is written aside first, then moved into place.
//!
//! Into an empty or missing directory: the whole tree is written beside it and renamed, so that it appears at once.
//! Into any other: each document is written to a folder inside the store, then, when all are there and the store is
//! still as it was listed, moved to its name. Until then the store is as before; a crash later leaves documents that
//! are each the old or the new one, and the same restore can be run again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    Access, AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, accessat,
    fchmod, flock, fstat, fsync, futimens, mkdirat, openat, renameat, renameat_with, statat, syncfs, unlinkat,
};
use rustix::io::Errno;
use tempfile::TempDir;

use super::open::{DirectoryCache, mode_of, open_directory, open_root, stamp_of};
use crate::endpoint::{Error, Listing, Names, Put, Removal, Result, Staging, StagingWriter};
use crate::model::path::EntryPath;
use crate::monitor::{Monitor, Task};

/// What the names of unfinished restores begin with. A scan does not take them for documents.
pub const STAGING_PREFIX: &str = ".metastash-restore-";

/// How long a folder is left alone whose restore has perhaps not locked it yet.
const LOCKING_TIME_MAX: Duration = Duration::from_secs(60);

/// Files that share one folder while they wait to be moved.
const FILES_PER_FOLDER: usize = 1024;

/// A change of a directory tree in the making. Dropped, it removes what it wrote.
pub(super) struct DirectoryStaging<'a> {
    root: PathBuf,
    listing: &'a dyn Listing,
    puts: &'a [Put],
    names: Names<'a>,
    folder: TempDir,
    folder_fd: OwnedFd,
    layout: Layout,
    umask: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// The folder lies beside the store and becomes it.
    Whole,
    /// The folder lies in the store and holds documents by number.
    Numbered,
}

impl<'a> DirectoryStaging<'a> {
    pub(super) fn begin(root: &Path, listing: &'a dyn Listing, puts: &'a [Put], names: Names<'a>) -> Result<Self> {
        let (folder, layout) = staging_folder(root, listing.is_empty())?;
        let open = || {
            let folder_fd = open_root(folder.path())?;
            // Not every file system has locks. Where there are none, nobody takes the folder for abandoned.
            let _ = flock(&folder_fd, FlockOperation::NonBlockingLockExclusive);
            // What a new directory lacks of all permissions is the umask; asking for it otherwise means setting it.
            mkdirat(&folder_fd, "umask", Mode::from_raw_mode(0o777))?;
            let umask = 0o777 & !mode_of(&statat(&folder_fd, "umask", AtFlags::SYMLINK_NOFOLLOW)?);
            unlinkat(&folder_fd, "umask", AtFlags::REMOVEDIR)?;
            Ok::<_, Errno>((folder_fd, umask))
        };
        let (folder_fd, umask) = open().map_err(|e| Error::io("write to", folder.path().display(), e))?;
        let staging = Self { root: root.to_owned(), listing, puts, names, folder, folder_fd, layout, umask };
        if layout == Layout::Whole {
            staging.make_directories().map_err(|e| Error::io("create directories in", staging.place(), e))?;
        }
        Ok(staging)
    }

    fn name(&self, put: &Put) -> EntryPath {
        (self.names)(&put.path)
    }

    fn place(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Makes the directories of the change in the folder, open to us until their modes are set at the end.
    fn make_directories(&self) -> io::Result<()> {
        let directories = self.puts.iter().filter(|put| put.document.is_none());
        directories.into_iter().try_for_each(|put| {
            make_directory(self.folder_fd.as_fd(), self.name(put).as_bytes()).map(drop).map_err(io::Error::from)
        })
    }

    /// Gives directories their modes, the innermost first: one may forbid to change what is in it.
    fn set_directory_modes(&self, root: BorrowedFd<'_>) -> Result<()> {
        for put in self.puts.iter().rev().filter(|put| put.document.is_none()) {
            let Some(mode) = put.mode else { continue };
            let set = || {
                let directory = open_directory(root, self.name(put).as_bytes())?;
                if mode_of(&fstat(&directory)?) == mode {
                    return Ok(());
                }
                fchmod(&directory, Mode::from_raw_mode(mode.into()))
            };
            set().map_err(|e| Error::io("set the mode of", &put.path, e))?;
        }
        Ok(())
    }

    fn commit_whole(&self) -> Result<()> {
        self.set_directory_modes(self.folder_fd.as_fd())?;
        let failed = |e: io::Error| match Errno::from_io_error(&e) {
            Some(Errno::NOTEMPTY | Errno::EXIST) => Error::Changed { path: self.root.display().to_string() },
            _ => Error::io("move the restored tree to", self.root.display(), e),
        };
        let mode = match fs::metadata(&self.root) {
            Ok(metadata) => mode_of_metadata(&metadata),
            Err(_) => 0o777 & !u32::from(self.umask),
        };
        fchmod(&self.folder_fd, Mode::from_raw_mode(mode)).map_err(|e| failed(e.into()))?;
        // Documents before names: a name without its content would look restored.
        syncfs(&self.folder_fd).map_err(|e| failed(e.into()))?;
        // A directory of another owner is kept, and its entries moved into it.
        let is_ours = owner(&self.root).is_none_or(|owner_now| Some(owner_now) == owner(self.folder.path()));
        let renamed = if is_ours { fs::rename(self.folder.path(), &self.root) } else { Err(Errno::BUSY.into()) };
        match renamed {
            // A mount point can't be replaced, even by a directory of the same file system.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::BUSY) => self.move_children()?,
            result => result.map_err(failed)?,
        }
        let parent = self.root.parent().unwrap_or(Path::new("/"));
        fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
    }

    fn move_children(&self) -> Result<()> {
        let failed = |e| Error::io("move the restored tree to", self.root.display(), e);
        for child in fs::read_dir(self.folder.path()).map_err(failed)? {
            let child = child.map_err(failed)?;
            let target = self.root.join(child.file_name());
            renameat_with(CWD, child.path(), CWD, target, RenameFlags::NOREPLACE).map_err(|e| failed(e.into()))?;
        }
        fs::remove_dir(self.folder.path()).map_err(failed)?;
        fs::File::open(&self.root).and_then(|root| root.sync_all()).map_err(failed)
    }

    fn commit_each(&self, removals: &[Removal], monitor: &dyn Monitor) -> Result<()> {
        let root = open_root(&self.root).map_err(|e| Error::io("open", self.root.display(), e))?;
        let root = root.as_fd();
        self.check_unchanged(root, removals)?;
        syncfs(&self.folder_fd).map_err(|e| Error::io("sync", self.place(), e))?;
        // From here on the store changes: no stop before all is done.
        remove(root, removals.iter().filter(|removal| removal.is_in_the_way))?;
        self.move_into_place(root, monitor)?;
        remove(root, removals.iter().filter(|removal| !removal.is_in_the_way))?;
        self.set_directory_modes(root)?;
        syncfs(root).map_err(|e| Error::io("sync", self.root.display(), e))
    }

    /// Checks that what will be replaced or removed is as it was listed, and that it can be.
    fn check_unchanged(&self, root: BorrowedFd<'_>, removals: &[Removal]) -> Result<()> {
        let staged_on = fstat(&self.folder_fd).map_err(|e| Error::io("stat", self.place(), e))?.st_dev;
        let mut directories = DirectoryCache::new(root);
        let open = |root: BorrowedFd<'_>, path: &[u8]| {
            let directory = open_directory(root, path)?;
            if fstat(&directory)?.st_dev != staged_on {
                return Err(Errno::XDEV);
            }
            accessat(&directory, ".", Access::WRITE_OK, AtFlags::EACCESS)?;
            Ok(directory)
        };
        let puts = self.puts.iter().map(|put| (self.name(put), put.replaces));
        for (path, listed) in puts.chain(removals.iter().map(|removal| (removal.path.clone(), Some(removal.found)))) {
            let path = &path;
            let directory = match directories.get(&parent_of(path), open) {
                Ok(directory) => directory,
                // The directory will be made, or something is in its way that goes first.
                Err(Errno::NOENT | Errno::NOTDIR) if listed.is_none() => continue,
                Err(e) => return Err(Error::io("change the directory of", path, e)),
            };
            let now = match statat(directory, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(e) => return Err(Error::io("stat", path, e)),
            };
            let is_same = match (listed, now) {
                (None, None) => true,
                (Some(listed), Some(now)) => {
                    let listed = self.listing.found(listed as usize);
                    // The stamp of a directory moves with what is in it; that it is one still is enough.
                    listed.size.is_none() == rustix::fs::FileType::from_raw_mode(now.st_mode).is_dir()
                        && (listed.size.is_none() || listed.stamp == stamp_of(&now))
                }
                // What stands in the way of a new entry is among the removals.
                (None, Some(_)) => removals.iter().any(|removal| removal.is_in_the_way && removal.path == *path),
                (Some(_), None) => false,
            };
            if !is_same {
                return Err(Error::Changed { path: path.to_string() });
            }
        }
        Ok(())
    }

    fn move_into_place(&self, root: BorrowedFd<'_>, monitor: &dyn Monitor) -> Result<()> {
        monitor.start(Task::Write, Some(self.puts.len() as u64));
        let mut targets = DirectoryCache::new(root);
        let mut folders = DirectoryCache::new(self.folder_fd.as_fd());
        for (n, put) in self.puts.iter().enumerate() {
            monitor.advance(1);
            let mut step = || {
                let name = self.name(put);
                if put.document.is_none() {
                    return make_directory(root, name.as_bytes()).map(drop);
                }
                let target = targets.get(&parent_of(&name), make_directory)?;
                let (folder, number) = numbered(n);
                let folder = folders.get(folder.as_bytes(), open_directory)?;
                move_file(folder, number.as_bytes(), target, name.name(), put.replaces.is_some())
            };
            step().map_err(|e| Error::io("put", &put.path, e))?;
        }
        Ok(())
    }
}

impl Staging for DirectoryStaging<'_> {
    fn writer(&self) -> Box<dyn StagingWriter + '_> {
        let directories = DirectoryCache::new(self.folder_fd.as_fd());
        Box::new(FileWriter { staging: self, directories, current: None })
    }

    fn commit(self: Box<Self>, removals: &[Removal], monitor: &dyn Monitor) -> Result<()> {
        match self.layout {
            Layout::Whole => {
                self.commit_whole()?;
                // It has another name now: there is nothing left to remove.
                let _ = self.folder.keep();
                Ok(())
            }
            Layout::Numbered => {
                self.commit_each(removals, monitor)?;
                let place = self.place();
                self.folder.close().map_err(|e| Error::io("remove", place, e))
            }
        }
    }
}

/// Writes documents into the folder, keeping the directory of the last one open.
struct FileWriter<'a> {
    staging: &'a DirectoryStaging<'a>,
    directories: DirectoryCache<'a>,
    current: Option<(usize, OwnedFd)>,
}

impl FileWriter<'_> {
    fn create(&mut self, n: usize) -> std::result::Result<OwnedFd, Errno> {
        let put = &self.staging.puts[n];
        let mode = Mode::from_raw_mode(u32::from(put.mode.unwrap_or(0o666)) & 0o777);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match self.staging.layout {
            Layout::Whole => {
                let name = self.staging.name(put);
                let directory = self.directories.get(&parent_of(&name), make_directory)?;
                openat(directory, name.name(), flags, mode)
            }
            Layout::Numbered => {
                let (folder, number) = numbered(n);
                let folder = self.directories.get(folder.as_bytes(), make_directory)?;
                openat(folder, number.as_str(), flags, mode)
            }
        }
    }

    fn failed(&self, n: usize, source: impl Into<io::Error>) -> Error {
        Error::io("write", format!("{} in {}", self.staging.puts[n].path, self.staging.root.display()), source)
    }

    fn current(&self) -> (usize, &OwnedFd) {
        let (n, file) = self.current.as_ref().expect("a document was begun");
        (*n, file)
    }
}

impl StagingWriter for FileWriter<'_> {
    fn begin(&mut self, n: usize) -> Result<()> {
        let file = self.create(n).map_err(|e| self.failed(n, e))?;
        self.current = Some((n, file));
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        let (n, file) = self.current();
        while !bytes.is_empty() {
            let written =
                rustix::io::retry_on_intr(|| rustix::io::write(file, bytes)).map_err(|e| self.failed(n, e))?;
            if written == 0 {
                return Err(self.failed(n, io::ErrorKind::WriteZero));
            }
            bytes = &bytes[written..];
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let (n, file) = self.current();
        let put = &self.staging.puts[n];
        let set = || {
            if let Some(mode) = put.mode
                && mode & (0o7000 | self.staging.umask) != 0
            {
                fchmod(file, Mode::from_raw_mode(mode.into()))?;
            }
            futimens(file, &modified(put.time_ns))
        };
        set().map_err(|e| self.failed(n, e))?;
        self.current = None;
        Ok(())
    }
}

fn staging_folder(root: &Path, was_empty: bool) -> Result<(TempDir, Layout)> {
    let within = |parent: &Path| {
        remove_abandoned(parent);
        tempfile::Builder::new().prefix(STAGING_PREFIX).tempdir_in(parent)
    };
    let is_empty = match fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => return Err(Error::io("list", root.display(), e)),
    };
    if was_empty
        && is_empty
        && let Some(parent) = root.parent()
    {
        // Not so when the directory is a mount point, or what is above it is not ours to write.
        let is_here = |folder: &TempDir| device(folder.path()) == device(root).or_else(|| device(parent));
        match within(parent) {
            Ok(folder) if is_here(&folder) => return Ok((folder, Layout::Whole)),
            // Nor can there be anything within what does not exist.
            Err(e) if !root.exists() => return Err(Error::io("write to", parent.display(), e)),
            _ => {}
        }
    }
    let folder = within(root).map_err(|e| Error::io("write to", root.display(), e))?;
    Ok((folder, Layout::Numbered))
}

/// Removes what restores that were killed left behind. A restore that is running holds a lock on its folder, and the lock
/// goes with its process. What can't be removed stays: it is in nobody's way.
pub(in crate::endpoint) fn remove_abandoned(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(STAGING_PREFIX.as_bytes()));
    for folder in folders {
        // Between its making and its locking a folder looks abandoned: it gets a minute.
        let is_young = |modified: SystemTime| modified.elapsed().is_ok_and(|age| age < LOCKING_TIME_MAX);
        let modified = folder.metadata().and_then(|metadata| metadata.modified());
        if modified.map_or(true, is_young) {
            continue;
        }
        let lock = open_root(&folder.path()).and_then(|fd| flock(&fd, FlockOperation::NonBlockingLockExclusive));
        if lock.is_ok() {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

fn device(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| metadata.dev())
}

fn owner(path: &Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| (metadata.uid(), metadata.gid()))
}

fn mode_of_metadata(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o7777
}

fn parent_of(path: &EntryPath) -> Box<[u8]> {
    path.parent().map_or_else(Box::default, |parent| parent.as_bytes().into())
}

/// Returns the folder and the name under which the n-th document waits.
fn numbered(n: usize) -> (String, String) {
    ((n / FILES_PER_FOLDER).to_string(), n.to_string())
}

fn modified(time_ns: i64) -> Timestamps {
    let (seconds, nanoseconds) = (time_ns.div_euclid(1_000_000_000), time_ns.rem_euclid(1_000_000_000));
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    }
}

/// Opens a directory below another, making it and those above it where they are missing.
fn make_directory(root: BorrowedFd<'_>, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
    match open_directory(root, path) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |end| &path[..end]);
    let parent_fd = make_directory(root, parent)?;
    let name = path[parent.len()..].strip_prefix(b"/").unwrap_or(&path[parent.len()..]);
    match mkdirat(&parent_fd, name, Mode::from_raw_mode(0o777)) {
        Err(e) if e != Errno::EXIST => Err(e),
        _ => open_directory(parent_fd.as_fd(), name),
    }
}

fn move_file(
    from: BorrowedFd<'_>,
    old: &[u8],
    to: BorrowedFd<'_>,
    new: &[u8],
    replaces: bool,
) -> std::result::Result<(), Errno> {
    if replaces {
        return renameat(from, old, to, new);
    }
    match renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // Not every file system can refuse to replace. That nothing was there has just been checked.
        Err(Errno::INVAL | Errno::NOSYS) => renameat(from, old, to, new),
        result => result,
    }
}

/// Removes entries, the innermost first. A directory that is not empty stays: what is in it is not ours to remove.
fn remove<'a>(root: BorrowedFd<'_>, removals: impl DoubleEndedIterator<Item = &'a Removal>) -> Result<()> {
    let mut directories = DirectoryCache::new(root);
    for removal in removals.rev() {
        let mut unlink = || {
            let directory = directories.get(&parent_of(&removal.path), open_directory)?;
            match unlinkat(directory, removal.path.name(), AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => match unlinkat(directory, removal.path.name(), AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) if !removal.is_in_the_way => Ok(()),
                    result => result,
                },
                result => result,
            }
        };
        unlink().map_err(|e| Error::io("remove", &removal.path, e))?;
    }
    fsync(root).map_err(|e| Error::io("sync", "the store", e))
}
