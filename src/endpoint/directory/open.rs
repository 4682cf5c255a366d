//! Opening what is in a store part by part, without following symlinks.

use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use crate::model::entry::Stamp;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the directory that a store is.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    openat(rustix::fs::CWD, root, DIRECTORY, Mode::empty())
}

/// Opens a directory below another; an empty path is the other itself.
pub(super) fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let first: &[u8] = parts.next().unwrap_or(b".");
    let mut directory = openat(root, first, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    for part in parts {
        directory = openat(&directory, part, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(directory)
}

/// The directory that was opened last: most documents lie next to the one before.
#[derive(Debug)]
pub(super) struct DirectoryCache<'a> {
    root: BorrowedFd<'a>,
    last: Option<(Box<[u8]>, OwnedFd)>,
}

impl<'a> DirectoryCache<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        Self { root, last: None }
    }

    /// Returns the directory at `path`, opening it with `open` unless it was the last.
    pub(super) fn get(
        &mut self,
        path: &[u8],
        open: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<OwnedFd, Errno>,
    ) -> Result<BorrowedFd<'_>, Errno> {
        if self.last.as_ref().is_none_or(|(kept, _)| **kept != *path) {
            self.last = Some((path.into(), open(self.root, path)?));
        }
        Ok(self.last.as_ref().expect("it was just set").1.as_fd())
    }
}

/// Returns the stamp in what the file system says of a file.
pub(super) fn stamp_of(stat: &Stat) -> Stamp {
    Stamp {
        time_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        version: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        identity: stat.st_ino,
    }
}

fn nanoseconds(seconds: i64, nanoseconds: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.try_into().unwrap_or(0))
}

/// Returns the permission bits in what the file system says of a file.
pub(super) fn mode_of(stat: &Stat) -> u16 {
    u16::try_from(stat.st_mode & 0o7777).expect("twelve bits")
}
