//! Writing an archive: sizes are known before contents are, so that the place of each document is, too. Threads write
//! what they have where it goes; what is to be compressed or streamed is so when all of it is there.

use std::borrow::Cow;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, flock};
use tempfile::{NamedTempFile, TempDir};
use zstd::stream::write::Encoder;

use super::Packing;
use super::format::{BLOCK_BYTES, END_BYTES, head};
use crate::endpoint::directory::{STAGING_PREFIX, remove_abandoned};
use crate::endpoint::{Error, Put, Removal, Result, Staging, StagingWriter};
use crate::monitor::Monitor;

/// Bytes of a document that are written at once.
const PIECE_BYTES: usize = 1 << 20;
/// As the command `zstd` compresses unless told otherwise.
const ZSTD_LEVEL: i32 = 3;

/// Where an archive goes that others than this program wait for.
pub(super) type Stream = Mutex<Box<dyn Write + Send>>;

/// An archive in the making. Dropped, it removes what it wrote.
pub(super) struct TarStaging<'a> {
    /// What the target is called.
    store: String,
    puts: Cow<'a, [Put]>,
    packing: Packing,
    goal: Goal<'a>,
    /// The archive, not compressed.
    file: File,
    /// Where the header of each put goes.
    places: Vec<u64>,
    end: u64,
    /// Documents that are to be written still.
    left: AtomicU64,
}

/// Where the archive goes when it is complete.
enum Goal<'a> {
    Stream(&'a Stream),
    File {
        path: PathBuf,
        /// What becomes the file.
        new: NamedTempFile,
        folder: TempDir,
        /// Says that somebody is at work in the folder.
        _lock: Option<OwnedFd>,
    },
}

impl<'a> TarStaging<'a> {
    /// Begins an archive that becomes a file.
    pub(super) fn to_file(path: &Path, packing: Packing, puts: Cow<'a, [Put]>) -> Result<Self> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let begin = || {
            remove_abandoned(parent);
            let ours_only = Permissions::from_mode(0o700);
            let folder = tempfile::Builder::new().prefix(STAGING_PREFIX).permissions(ours_only).tempdir_in(parent)?;
            let lock = File::open(folder.path()).ok().map(OwnedFd::from);
            // Not every file system has locks. Where there are none, nobody takes the folder for abandoned.
            let _ = lock.as_ref().map(|folder| flock(folder, FlockOperation::NonBlockingLockExclusive));
            let new = NamedTempFile::new_in(folder.path())?;
            let file = match packing {
                Packing::Plain => new.as_file().try_clone()?,
                Packing::Zstd => tempfile::tempfile_in(folder.path())?,
            };
            Ok((Goal::File { path: path.to_owned(), new, folder, _lock: lock }, file))
        };
        let (goal, file) = begin().map_err(|e: io::Error| Error::io("write to", parent.display(), e))?;
        Self::new(path.display().to_string(), packing, puts, goal, file)
    }

    /// Begins an archive that becomes a stream.
    pub(super) fn to_stream(store: String, stream: &'a Stream, packing: Packing, puts: Cow<'a, [Put]>) -> Result<Self> {
        let file = tempfile::tempfile().map_err(|e| Error::io("create", "a temporary file", e))?;
        Self::new(store, packing, puts, Goal::Stream(stream), file)
    }

    fn new(store: String, packing: Packing, puts: Cow<'a, [Put]>, goal: Goal<'a>, file: File) -> Result<Self> {
        let mut order: Vec<usize> = (0..puts.len()).collect();
        order.sort_unstable_by(|a, b| puts[*a].path.cmp(&puts[*b].path));
        let (mut places, mut end) = (vec![0; puts.len()], 0_u64);
        for n in order {
            places[n] = end;
            let size = puts[n].document.as_ref().map_or(0, |document| document.size);
            let bytes = size.checked_add(head(puts[n].path.as_bytes(), &puts[n]).len() as u64);
            let bytes = bytes.and_then(|bytes| bytes.checked_next_multiple_of(BLOCK_BYTES as u64));
            // A file can't be longer than its offsets, which have a sign.
            let next = bytes.and_then(|bytes| end.checked_add(bytes)).filter(|next| *next < i64::MAX.unsigned_abs());
            end = next.ok_or_else(|| Error::io("write", &store, io::ErrorKind::FileTooLarge))?;
        }
        let left = AtomicU64::new(puts.iter().filter(|put| put.document.is_some()).count() as u64);
        Ok(Self { store, puts, packing, goal, file, places, end: end + END_BYTES, left })
    }

    fn failed(&self, source: impl Into<io::Error>) -> Error {
        Error::io("write", &self.store, source)
    }

    /// Writes what is no document.
    fn write_rest(&self) -> io::Result<()> {
        for (put, place) in self.puts.iter().zip(&self.places).filter(|(put, _)| put.document.is_none()) {
            self.file.write_all_at(&head(put.path.as_bytes(), put), *place)?;
        }
        // What was never written is zeros, and so is the end.
        self.file.set_len(self.end)
    }

    /// Hands the whole archive on.
    fn hand_on(&self, to: impl Write, monitor: &dyn Monitor) -> Result<()> {
        match self.packing {
            Packing::Plain => self.copy(to, monitor).map(drop),
            Packing::Zstd => {
                let encoder = || {
                    let mut encoder = Encoder::new(to, ZSTD_LEVEL)?;
                    encoder.include_checksum(true)?;
                    encoder.set_pledged_src_size(Some(self.end))?;
                    Ok(encoder)
                };
                let encoder = encoder().map_err(|e: io::Error| self.failed(e))?;
                let finished = self.copy(encoder, monitor)?.finish();
                finished.and_then(|mut to| to.flush()).map_err(|e| self.failed(e))
            }
        }
    }

    fn copy<W: Write>(&self, mut to: W, monitor: &dyn Monitor) -> Result<W> {
        let mut file = &self.file;
        file.rewind().map_err(|e| self.failed(e))?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            if monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let read = file.read(&mut piece).map_err(|e| self.failed(e))?;
            if read == 0 {
                return Ok(to);
            }
            to.write_all(&piece[..read]).map_err(|e| self.failed(e))?;
        }
    }

    fn finish(self, monitor: &dyn Monitor) -> Result<()> {
        match &self.goal {
            Goal::Stream(stream) => {
                let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                self.hand_on(&mut **stream, monitor)?;
                return stream.flush().map_err(|e| self.failed(e));
            }
            Goal::File { new, .. } if self.packing == Packing::Zstd => self.hand_on(new.as_file(), monitor)?,
            Goal::File { .. } => {}
        }
        let Goal::File { path, new, folder, .. } = self.goal else { return Ok(()) };
        appear(&path, new)?;
        let place = folder.path().display().to_string();
        folder.close().map_err(|e| Error::io("remove", place, e))
    }
}

/// Gives a complete archive its name. It appears whole.
fn appear(path: &Path, new: NamedTempFile) -> Result<()> {
    let failed = |e| Error::io("write", path.display(), e);
    new.as_file().sync_all().map_err(failed)?;
    new.persist_noclobber(path).map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => Error::Changed { path: path.display().to_string() },
        _ => failed(e.error),
    })?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|e| Error::io("sync", parent.display(), e))
}

impl Staging for TarStaging<'_> {
    fn writer(&self) -> Box<dyn StagingWriter + '_> {
        Box::new(TarWriter { staging: self, buffer: Vec::new(), n: 0, at: 0, left: 0 })
    }

    fn commit(self: Box<Self>, _: &[Removal], monitor: &dyn Monitor) -> Result<()> {
        assert_eq!(self.left.load(Ordering::Relaxed), 0, "all documents are written before a change is made");
        self.write_rest().map_err(|e| self.failed(e))?;
        self.finish(monitor)
    }
}

/// Writes documents where they go.
struct TarWriter<'a> {
    staging: &'a TarStaging<'a>,
    /// What is to be written next, and where.
    buffer: Vec<u8>,
    at: u64,
    /// The document that was begun last, and how much of it is to come.
    n: usize,
    left: u64,
}

impl TarWriter<'_> {
    fn failed(&self, source: impl Into<io::Error>) -> Error {
        Error::io("write", format!("{} for {}", self.staging.puts[self.n].path, self.staging.store), source)
    }

    fn flush(&mut self) -> Result<()> {
        self.staging.file.write_all_at(&self.buffer, self.at).map_err(|e| self.failed(e))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl StagingWriter for TarWriter<'_> {
    fn begin(&mut self, n: usize) -> Result<()> {
        let put = &self.staging.puts[n];
        (self.n, self.at) = (n, self.staging.places[n]);
        self.left = put.document.as_ref().map_or(0, |document| document.size);
        self.buffer = head(put.path.as_bytes(), put);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        // What goes on would be written over what follows it.
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| self.failed(io::Error::other("it is longer than its size says")))?;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<()> {
        if self.left > 0 {
            return Err(self.failed(io::Error::other("it is shorter than its size says")));
        }
        let end = self.at + self.buffer.len() as u64;
        let padding = end.next_multiple_of(BLOCK_BYTES as u64) - end;
        self.buffer.resize(self.buffer.len() + usize::try_from(padding).expect("less than a block"), 0);
        self.flush()?;
        self.staging.left.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}
