//! Reading the documents of a directory tree.

use std::fs::File;
use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::open::{DirectoryCache, open_directory, stamp_of};
use super::scan::DirectoryListing;
use crate::endpoint::{DocumentStream, Error, Outcome, Reader, Result};
use crate::model::entry::Stamp;
use crate::model::path::escape;

/// How often a document is read that changes while it is read, and how long is waited between.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(20);

/// Reads documents, keeping the directory of the last one open.
pub(super) struct FileReader<'a> {
    listing: &'a DirectoryListing,
    /// Nothing when the store does not exist: then there is nothing to open either.
    directories: Option<DirectoryCache<'a>>,
}

impl<'a> FileReader<'a> {
    pub(super) fn new(listing: &'a DirectoryListing, directories: Option<DirectoryCache<'a>>) -> Self {
        Self { listing, directories }
    }

    fn open(&mut self, n: usize) -> io::Result<OwnedFd> {
        let (directory, name, ..) = self.listing.place(n);
        let directories = self.directories.as_mut().ok_or(Errno::NOENT)?;
        let directory = directories.get(directory, open_directory)?;
        // Not blocking: what was a file may be a named pipe by now.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(directory, name, flags, Mode::empty())?;
        Ok(file)
    }

    fn failed(&self, n: usize, source: io::Error) -> Error {
        let (directory, name, ..) = self.listing.place(n);
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        Error::io("read", escape(&[directory, separator, name].concat()), source)
    }

    /// Reads a document once. Nothing if it changed meanwhile.
    fn attempt(
        &mut self,
        n: usize,
        listed: Option<(Stamp, u64)>,
        bytes_max: u64,
        content: &mut Vec<u8>,
    ) -> io::Result<Option<Outcome>> {
        let file = self.open(n)?;
        // The stamp of the listing serves as the one before: a document that did not change since costs one call less.
        let (stamp, size) = match listed {
            Some(listed) => listed,
            None => regular(&file)?,
        };
        if size > bytes_max {
            return Ok(Some(Outcome::TooLarge));
        }
        let read = read_up_to(&file, size, content)?;
        Ok((read == size && regular(&file)? == (stamp, size)).then_some(Outcome::Read(stamp)))
    }
}

impl Reader for FileReader<'_> {
    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome> {
        let start = content.len();
        let (.., stamp, size) = self.listing.place(n);
        let mut listed = Some((stamp, size));
        for attempt in 0..ATTEMPTS_MAX {
            match self.attempt(n, listed.take(), bytes_max, content) {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => content.truncate(start),
                Err(e) => {
                    content.truncate(start);
                    return Err(self.failed(n, e));
                }
            }
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
        }
        Err(self.failed(n, io::Error::other("it keeps changing while it is read")))
    }

    fn stream(&mut self, n: usize) -> Result<Box<dyn DocumentStream>> {
        let open = |reader: &mut Self| {
            let file = reader.open(n)?;
            let before = regular(&file)?;
            Ok(FileStream { file: File::from(file), before, read: 0 })
        };
        let stream = open(self).map_err(|e| self.failed(n, e))?;
        Ok(Box::new(stream))
    }
}

struct FileStream {
    file: File,
    before: (Stamp, u64),
    read: u64,
}

impl Read for FileStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte past the size it had is enough to see that it grew: a document that grows as fast as it is read would
        // never end.
        let left = (self.before.1 + 1).saturating_sub(self.read);
        let read = (&self.file).take(left).read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

impl DocumentStream for FileStream {
    fn finish(self: Box<Self>) -> Result<Option<Stamp>> {
        let after = regular(&OwnedFd::from(self.file)).map_err(|e| Error::io("stat", "a document", e))?;
        let (stamp, size) = self.before;
        Ok((after == self.before && self.read == size).then_some(stamp))
    }
}

/// Returns stamp and size of what is still a regular file.
fn regular(file: &OwnedFd) -> io::Result<(Stamp, u64)> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no longer a file"));
    }
    Ok((stamp_of(&stat), u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Appends the whole file, which should have `size` bytes, and returns how many there were: more than `size` if it has
/// grown, but then perhaps not all of them.
fn read_up_to(file: &OwnedFd, size: u64, content: &mut Vec<u8>) -> io::Result<u64> {
    let size = usize::try_from(size).map_err(|_| Errno::FBIG)?;
    let start = content.len();
    content.reserve(size + 1);
    loop {
        // Into memory that was never written: zeroing it first would be a tenth of the work.
        let read = rustix::io::retry_on_intr(|| rustix::io::read(file, spare_capacity(content)))?;
        // A regular file gives less than asked for at its end only, but that is not promised everywhere: ask again
        // unless the expected size is reached.
        if read == 0 || content.len() - start >= size {
            return Ok((content.len() - start) as u64);
        }
    }
}
