//! Changing an archive: documents are compressed aside, each thread into a file of its own, until a new archive is made
//! of them and what is kept of the old one.

use std::borrow::Cow;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::archive::{Archive, leads_out_with_backslashes, raw_name};
use super::join::join;
use crate::endpoint::directory::{STAGING_PREFIX, remove_abandoned};
use crate::endpoint::{Error, Listing, Put, Removal, Result, Staging, StagingWriter};
use crate::model::path::EntryPath;
use crate::monitor::Monitor;

/// Compressed bytes that each thread holds before they go to its file.
const SPOOL_BUFFER_BYTES: usize = 256 << 10;
/// Compressed bytes that are made at once.
const COMPRESSED_AT_ONCE: usize = 32 << 10;

/// A change of an archive in the making. Dropped, it removes what it wrote.
pub(super) struct ZipStaging<'a> {
    pub path: PathBuf,
    /// The archive that is replaced, if there is one.
    pub old: Option<Arc<Archive>>,
    pub listing: &'a dyn Listing,
    pub puts: Cow<'a, [Put]>,
    /// Whether new names begin with `/`.
    pub is_rooted: bool,
    /// Those that no writer has just now.
    spools: Mutex<Vec<Spool>>,
    pub folder: TempDir,
    /// Holds the lock that says that somebody is at work in the folder.
    _lock: Option<OwnedFd>,
}

/// A file with compressed documents one after the other.
pub(super) struct Spool {
    pub file: BufWriter<File>,
    pub bytes: u64,
    /// Each with the number of its put.
    pub written: Vec<(u32, Written)>,
    compress: Compress,
}

/// A compressed document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub start: u64,
    pub compressed: u64,
    pub size: u64,
    pub crc: u32,
}

impl<'a> ZipStaging<'a> {
    pub(super) fn begin(
        path: &Path,
        old: Option<Arc<Archive>>,
        is_rooted: bool,
        listing: &'a dyn Listing,
        puts: Cow<'a, [Put]>,
    ) -> Result<Self> {
        // Where only some names begin with `/`, those of new entries do: old versions of Kylin see no others.
        let is_rooted = match &old {
            Some(old) if !old.members.is_empty() => old.members.iter().any(|member| member.is_rooted),
            _ => is_rooted,
        };
        puts.iter().try_for_each(|put| check_name(&put.path))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        remove_abandoned(parent);
        let ours_only = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix(STAGING_PREFIX).permissions(ours_only).tempdir_in(parent);
        let folder = folder.map_err(|e| Error::io("write to", parent.display(), e))?;
        let lock = File::open(folder.path()).ok().map(OwnedFd::from);
        // Not every file system has locks. Where there are none, nobody takes the folder for abandoned.
        let _ = lock.as_ref().map(|folder| flock(folder, FlockOperation::NonBlockingLockExclusive));
        let (path, spools) = (path.to_owned(), Mutex::default());
        Ok(Self { path, old, listing, puts, is_rooted, spools, folder, _lock: lock })
    }

    fn new_spool(&self) -> io::Result<Spool> {
        let file = BufWriter::with_capacity(SPOOL_BUFFER_BYTES, tempfile::tempfile_in(self.folder.path())?);
        Ok(Spool { file, bytes: 0, written: Vec::new(), compress: Compress::new(Compression::default(), false) })
    }

    /// Returns the spools, when nobody writes any more.
    pub(super) fn take_spools(&self) -> Vec<Spool> {
        std::mem::take(&mut *self.spools.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Checks that a path can be a name in an archive: what is written must be accepted when it is read.
fn check_name(path: &EntryPath) -> Result<()> {
    let refuse = |why| Err(Error::io("write", path, io::Error::new(io::ErrorKind::InvalidInput, why)));
    if str::from_utf8(path.as_bytes()).is_err() {
        return refuse("its name is not UTF-8, as names in a zip must be");
    }
    if leads_out_with_backslashes(path.as_bytes()) {
        return refuse("its name leads elsewhere for who takes a backslash for a `/`, and must not be in a zip");
    }
    if raw_name(path.as_bytes(), true, true).len() > u16::MAX.into() {
        return refuse("its name is too long for a zip");
    }
    Ok(())
}

impl Staging for ZipStaging<'_> {
    fn writer(&self) -> Box<dyn StagingWriter + '_> {
        let spool = self.spools.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Box::new(ZipWriter { staging: self, spool, current: None, out: Vec::with_capacity(COMPRESSED_AT_ONCE) })
    }

    fn commit(self: Box<Self>, removals: &[Removal], monitor: &dyn Monitor) -> Result<()> {
        join(&self, removals, monitor)?;
        let place = self.folder.path().display().to_string();
        self.folder.close().map_err(|e| Error::io("remove", place, e))
    }
}

/// Compresses documents into a spool, which others take over when it is done.
struct ZipWriter<'a> {
    staging: &'a ZipStaging<'a>,
    /// Nothing before the first document.
    spool: Option<Spool>,
    current: Option<Current>,
    out: Vec<u8>,
}

/// The document that was begun last.
struct Current {
    n: usize,
    start: u64,
    crc: Crc,
}

impl ZipWriter<'_> {
    fn failed(&self, n: usize, source: impl Into<io::Error>) -> Error {
        Error::io("write", format!("{} for {}", self.staging.puts[n].path, self.staging.path.display()), source)
    }

    /// Compresses some bytes, and at the end what the compressor still holds.
    fn compress(&mut self, mut bytes: &[u8], flush: FlushCompress) -> io::Result<()> {
        let spool = self.spool.as_mut().expect("a document was begun");
        loop {
            self.out.clear();
            let before = spool.compress.total_in();
            let status = spool.compress.compress_vec(bytes, &mut self.out, flush).map_err(io::Error::other)?;
            let taken = usize::try_from(spool.compress.total_in() - before).expect("no more than was given to it");
            bytes = &bytes[taken..];
            spool.file.write_all(&self.out)?;
            spool.bytes += self.out.len() as u64;
            let is_done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => bytes.is_empty(),
            };
            if is_done {
                return Ok(());
            }
        }
    }
}

impl StagingWriter for ZipWriter<'_> {
    fn begin(&mut self, n: usize) -> Result<()> {
        let mut spool = match self.spool.take() {
            Some(spool) => spool,
            None => self.staging.new_spool().map_err(|e| self.failed(n, e))?,
        };
        spool.compress.reset();
        self.current = Some(Current { n, start: spool.bytes, crc: Crc::new() });
        self.spool = Some(spool);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let current = self.current.as_mut().expect("a document was begun");
        current.crc.update(bytes);
        let n = current.n;
        if bytes.is_empty() {
            return Ok(());
        }
        self.compress(bytes, FlushCompress::None).map_err(|e| self.failed(n, e))
    }

    fn finish(&mut self) -> Result<()> {
        let Current { n, start, crc } = self.current.take().expect("a document was begun");
        self.compress(&[], FlushCompress::Finish).map_err(|e| self.failed(n, e))?;
        let spool = self.spool.as_mut().expect("a document was begun");
        let size = spool.compress.total_in();
        let number = u32::try_from(n).expect("fewer than 2^32 puts");
        spool.written.push((number, Written { start, compressed: spool.bytes - start, size, crc: crc.sum() }));
        Ok(())
    }
}

impl Drop for ZipWriter<'_> {
    fn drop(&mut self) {
        self.staging.spools.lock().unwrap_or_else(PoisonError::into_inner).extend(self.spool.take());
    }
}
