//! Reading the documents of an archive, and checking each against all that is said of it.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::archive::{Archive, Member};
use super::format::{self, DESCRIPTOR_BYTES_MAX, FLAGS_KNOWN, HAS_DESCRIPTOR, Header, LOCAL_BYTES};
use super::scan::ZipListing;
use crate::endpoint::{DocumentStream, Error, Outcome, Reader, Result};
use crate::model::entry::Stamp;
use crate::model::path::escape;

/// Bytes of the file that are read at once: most entries come with one call.
const BUFFER_BYTES: usize = 64 << 10;

/// Reads one entry after the other, each from its local header to its descriptor.
pub(super) struct Extract {
    buffer: Box<[u8]>,
    /// What of the buffer is still to be taken.
    taken: usize,
    filled: usize,
    /// Where the file is read next, and where the entry ends.
    at: u64,
    end: u64,
    inflate: Decompress,
    is_inflated: bool,
    is_deflated: bool,
    has_descriptor: bool,
    /// Bytes of the content that are still to be taken and given.
    compressed_left: u64,
    left: u64,
    crc: Crc,
}

impl Extract {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into(),
            taken: 0,
            filled: 0,
            at: 0,
            end: 0,
            inflate: Decompress::new(false),
            is_inflated: false,
            is_deflated: false,
            has_descriptor: false,
            compressed_left: 0,
            left: 0,
            crc: Crc::new(),
        }
    }

    /// Begins an entry: checks its local header and returns it.
    pub(super) fn begin(&mut self, archive: &Archive, member: &Member) -> Result<Vec<u8>> {
        (self.taken, self.filled, self.at, self.end) = (0, 0, member.offset, member.end);
        (self.is_inflated, self.is_deflated) = (false, member.is_deflated);
        (self.compressed_left, self.left) = (member.compressed, member.size);
        self.inflate.reset(false);
        self.crc.reset();
        self.local_header(archive, member).map_err(|what| fault(archive, member, &what))
    }

    fn local_header(&mut self, archive: &Archive, member: &Member) -> format::Result<Vec<u8>> {
        let mut record = Vec::new();
        self.take(archive, LOCAL_BYTES, &mut record)?;
        let fixed = record[..].try_into().expect("as many bytes as were asked for");
        self.take(archive, format::local_rest(fixed), &mut record)?;
        let local = format::parse_local(&record)?;
        self.has_descriptor = local.flags & HAS_DESCRIPTOR != 0;
        check_local(&local, archive, member)?;
        if self.end - self.position() < member.compressed {
            return Err("its data reaches into what follows it".to_owned());
        }
        Ok(record)
    }

    /// Reads some of the content. Returns 0 at its end, when all of it was found to be as it should.
    pub(super) fn read(&mut self, archive: &Archive, member: &Member, out: &mut [u8]) -> Result<usize> {
        let read = if self.left == 0 { self.check_end(archive, member).map(|()| 0) } else { self.some(archive, out) };
        read.map_err(|what| fault(archive, member, &what))
    }

    /// Reads the whole of an entry, only to see whether it can be.
    pub(super) fn verify(&mut self, archive: &Archive, member: &Member) -> Result<()> {
        self.begin(archive, member)?;
        while self.read(archive, member, &mut [0; 4096])? > 0 {}
        Ok(())
    }

    fn some(&mut self, archive: &Archive, out: &mut [u8]) -> format::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let out = &mut out[..most];
        let read = if self.is_deflated { self.inflate(archive, out)? } else { self.copy(archive, out)? };
        if read == 0 && most > 0 {
            return Err(format!("its content ends {} bytes before its declared size", self.left));
        }
        self.left -= read as u64;
        self.crc.update(&out[..read]);
        Ok(read)
    }

    fn copy(&mut self, archive: &Archive, out: &mut [u8]) -> format::Result<usize> {
        self.fill(archive)?;
        let read = out.len().min(self.filled - self.taken);
        out[..read].copy_from_slice(&self.buffer[self.taken..][..read]);
        self.consume(read);
        self.compressed_left -= read as u64;
        Ok(read)
    }

    /// Inflates until there is something, or the end.
    fn inflate(&mut self, archive: &Archive, out: &mut [u8]) -> format::Result<usize> {
        while !self.is_inflated {
            if self.compressed_left > 0 {
                self.fill(archive)?;
            }
            let here = usize::try_from(self.compressed_left).unwrap_or(usize::MAX).min(self.filled - self.taken);
            let input = &self.buffer[self.taken..][..here];
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, out, FlushDecompress::None);
            let status = status.map_err(|_| "its compressed data is corrupt")?;
            let consumed = self.inflate.total_in() - before.0;
            let given = self.inflate.total_out() - before.1;
            self.consume(usize::try_from(consumed).expect("no more than was given to it"));
            self.compressed_left -= consumed;
            self.is_inflated = status == Status::StreamEnd;
            if given > 0 {
                return Ok(usize::try_from(given).expect("no more than there is room for"));
            }
            if !self.is_inflated && consumed == 0 {
                return Err("its compressed data is cut off".to_owned());
            }
        }
        Ok(0)
    }

    fn check_end(&mut self, archive: &Archive, member: &Member) -> format::Result<()> {
        // The end of the compressed data may still be to come; a byte of content may not.
        if self.is_deflated && self.inflate(archive, &mut [0])? > 0 {
            return Err(format!("its content goes on after its declared size of {} bytes", member.size));
        }
        if self.compressed_left > 0 {
            return Err(format!("{} bytes follow its compressed data", self.compressed_left));
        }
        if self.crc.sum() != member.crc {
            return Err("its content does not match its checksum".to_owned());
        }
        let rest = self.end - self.position();
        let is_right = if self.has_descriptor && rest <= DESCRIPTOR_BYTES_MAX as u64 {
            let mut descriptor = Vec::new();
            self.take(archive, usize::try_from(rest).expect("few"), &mut descriptor)?;
            format::is_descriptor(&descriptor, member.crc, member.compressed, member.size)
                // Once checked, it is gone.
                && std::mem::replace(&mut self.has_descriptor, false)
        } else {
            rest == 0
        };
        if is_right { Ok(()) } else { Err("behind it are bytes that belong to no entry".to_owned()) }
    }

    /// Returns how far the file was taken.
    pub(super) fn position(&self) -> u64 {
        self.at - (self.filled - self.taken) as u64
    }

    fn consume(&mut self, count: usize) {
        self.taken += count;
    }

    /// Makes sure that there is something in the buffer.
    fn fill(&mut self, archive: &Archive) -> format::Result<()> {
        if self.taken < self.filled {
            return Ok(());
        }
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(self.buffer.len());
        let read = archive.file.read_at(&mut self.buffer[..most], self.at);
        let read = read.map_err(|e| format!("it can't be read: {e}"))?;
        if read == 0 {
            return Err("it ends too early".to_owned());
        }
        (self.taken, self.filled) = (0, read);
        self.at += read as u64;
        Ok(())
    }

    fn take(&mut self, archive: &Archive, count: usize, out: &mut Vec<u8>) -> format::Result<()> {
        let wanted = out.len() + count;
        while out.len() < wanted {
            self.fill(archive)?;
            let some = (wanted - out.len()).min(self.filled - self.taken);
            out.extend_from_slice(&self.buffer[self.taken..][..some]);
            self.consume(some);
        }
        Ok(())
    }
}

/// Returns the error for a fault of an entry.
pub(super) fn fault(archive: &Archive, member: &Member, what: &str) -> Error {
    archive.fault(format!("entry {}: {what}", escape(&archive.raw_name(member))))
}

/// Checks that a local header says what the central directory says: who reads a zip as a stream sees only the former.
fn check_local(local: &Header<'_>, archive: &Archive, member: &Member) -> format::Result<()> {
    if local.name != archive.raw_name(member) {
        return Err(format!("its local header gives it another name: {}", escape(local.name)));
    }
    if local.flags & !FLAGS_KNOWN != 0 {
        return Err(format!("its local header has flags that are not understood: {:#06x}", local.flags));
    }
    if (local.method == format::DEFLATED) != member.is_deflated || local.method > format::DEFLATED {
        return Err("its local header has another method of compression".to_owned());
    }
    let has_descriptor = local.flags & HAS_DESCRIPTOR != 0;
    // What a descriptor says need not be said before.
    let agree = |local: u64, central: u64| local == central || has_descriptor && local == 0;
    let is_same = agree(local.crc.into(), member.crc.into())
        && agree(local.compressed, member.compressed)
        && agree(local.size, member.size);
    if is_same { Ok(()) } else { Err("its local header has another size or checksum".to_owned()) }
}

/// Reads documents, for one thread.
pub(super) struct ZipReader<'a> {
    listing: &'a ZipListing,
    extract: Extract,
}

impl<'a> ZipReader<'a> {
    pub(super) fn new(listing: &'a ZipListing) -> Self {
        Self { listing, extract: Extract::new() }
    }
}

impl Reader for ZipReader<'_> {
    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome> {
        let (archive, member) = self.listing.place(n);
        if member.size > bytes_max {
            return Ok(Outcome::TooLarge);
        }
        let start = content.len();
        let result = read_whole(&mut self.extract, archive, member, content);
        if let Err(error) = result {
            content.truncate(start);
            return Err(error);
        }
        Ok(Outcome::Read(self.listing.stamp(archive, member)))
    }

    fn stream(&mut self, n: usize) -> Result<Box<dyn DocumentStream>> {
        let (archive, member) = self.listing.place(n);
        let mut extract = Extract::new();
        extract.begin(archive, member)?;
        let stamp = self.listing.stamp(archive, member);
        let archive = Arc::clone(archive);
        Ok(Box::new(ZipStream { archive, member: *member, stamp, extract, progress: Progress::Reading }))
    }
}

fn read_whole(extract: &mut Extract, archive: &Archive, member: &Member, content: &mut Vec<u8>) -> Result<()> {
    extract.begin(archive, member)?;
    let mut filled = content.len();
    let size = usize::try_from(member.size).map_err(|_| fault(archive, member, "it does not fit into memory"))?;
    content.resize(filled + size, 0);
    loop {
        match extract.read(archive, member, &mut content[filled..])? {
            0 => return Ok(()),
            read => filled += read,
        }
    }
}

/// A document being read piece by piece.
struct ZipStream {
    archive: Arc<Archive>,
    member: Member,
    stamp: Stamp,
    extract: Extract,
    progress: Progress,
}

enum Progress {
    Reading,
    /// All was read and is as it should be.
    Verified,
    Failed(Error),
}

impl Read for ZipStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.progress {
            Progress::Reading if buffer.is_empty() => return Ok(0),
            Progress::Reading => {}
            Progress::Verified => return Ok(0),
            Progress::Failed(error) => return Err(io::Error::other(copy_of(error))),
        }
        match self.extract.read(&self.archive, &self.member, buffer) {
            Ok(read) => {
                if read == 0 {
                    self.progress = Progress::Verified;
                }
                Ok(read)
            }
            Err(error) => {
                let copy = copy_of(&error);
                self.progress = Progress::Failed(error);
                Err(io::Error::other(copy))
            }
        }
    }
}

/// Returns a fault of an archive once more: it is told both where it occurs and at the end.
fn copy_of(error: &Error) -> Error {
    match error {
        Error::Changed { path } => Error::Changed { path: path.clone() },
        Error::Damaged { store, what } => Error::Damaged { store: store.clone(), what: what.clone() },
        other => Error::io("read", other, io::ErrorKind::Other),
    }
}

impl DocumentStream for ZipStream {
    fn finish(self: Box<Self>) -> Result<Option<Stamp>> {
        match self.progress {
            Progress::Verified => Ok(Some(self.stamp)),
            Progress::Reading => Ok(None),
            Progress::Failed(error) => Err(error),
        }
    }
}
