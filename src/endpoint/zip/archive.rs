//! A zip archive as its central directory describes it, believed only as a whole.
//!
//! The rules are stricter than those of the format, so that no two readers see different documents: entries lie end to
//! end from the first byte on, the central directory follows the last of them, and its end is the end of the file.
//! Nothing is in the file that the central directory does not name, and nothing is named twice.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use rayon::prelude::*;

use super::format::{
    self, CENTRAL_BYTES, Central, DEFLATED, DESCRIPTOR_BYTES_MAX, END_64_BYTES, END_BYTES, End, FLAGS_KNOWN,
    IS_ENCRYPTED, LOCAL_BYTES, LOCATOR_64_BYTES, STORED,
};
use super::read::Extract;
use super::time::time_ns;
use crate::endpoint::{Error, Result};
use crate::model::path::{EntryPath, compare, escape};
use crate::monitor::Monitor;

/// The last record of an archive is at most this long, with the records of 64 bits before it.
const TAIL_BYTES_MAX: usize = END_BYTES + u16::MAX as usize + LOCATOR_64_BYTES + END_64_BYTES;
/// Bytes of the central directory that are read at once.
const DIRECTORY_BUFFER_BYTES: usize = 1 << 20;
/// Most entries for which room is made before they are seen.
const ENTRIES_EXPECTED_MAX: usize = 1 << 20;
/// Deflate never makes more of a byte.
const INFLATION_MAX: u64 = 1032;
/// Entries that are listed between two looks whether to stop.
const ENTRIES_AT_ONCE: u64 = 4096;

/// What tells a file from what it was: device, inode, size, modification and change time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::endpoint) struct State {
    device: u64,
    pub(in crate::endpoint) inode: u64,
    size: u64,
    pub(in crate::endpoint) modified_ns: i64,
    pub(in crate::endpoint) changed_ns: i64,
}

impl State {
    pub(in crate::endpoint) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the state of what is at a path, without following a symlink; nothing if there is nothing.
    pub(in crate::endpoint) fn at(path: &Path) -> io::Result<Option<Self>> {
        match path.symlink_metadata() {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// An entry of the archive. There may be millions: names are kept end to end, and what only a rewrite needs is read
/// again then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// Where its local header is.
    pub offset: u64,
    /// Where the next entry, or the central directory, begins.
    pub end: u64,
    pub compressed: u64,
    pub size: u64,
    pub time_ns: i64,
    /// Where its record is in the central directory.
    pub record: u32,
    pub crc: u32,
    name_start: u32,
    name_bytes: u16,
    pub is_deflated: bool,
    pub is_directory: bool,
    /// Whether its name begins with `/`.
    pub is_rooted: bool,
}

/// A zip archive, open.
#[derive(Debug)]
pub(super) struct Archive {
    pub path: PathBuf,
    pub file: File,
    pub state: State,
    pub end: End,
    pub comment: Box<[u8]>,
    /// In path order.
    pub members: Vec<Member>,
    names: Vec<u8>,
}

impl Archive {
    /// Opens a zip and reads its central directory.
    pub(super) fn open(path: &Path, monitor: &dyn Monitor) -> Result<Self> {
        let file = File::open(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { store: path.display().to_string() },
            _ => Error::io("open", path.display(), e),
        })?;
        let metadata = file.metadata().map_err(|e| Error::io("stat", path.display(), e))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { store: path.display().to_string() });
        }
        let state = State::of(&metadata);
        let (comment, end) = (Box::default(), End { count: 0, bytes: 0, start: 0 });
        let mut archive =
            Self { path: path.to_owned(), file, state, end, comment, members: Vec::new(), names: Vec::new() };
        archive.read(monitor)?;
        Ok(archive)
    }

    fn read(&mut self, monitor: &dyn Monitor) -> Result<()> {
        self.read_end().map_err(|what| self.fault(what))?;
        self.read_directory(monitor)?;
        self.check_places().map_err(|what| self.fault(what))?;
        self.sort().map_err(|what| self.fault(what))?;
        // Nobody reads directories later.
        let mut extract = Extract::new();
        self.members.iter().filter(|member| member.is_directory).try_for_each(|member| extract.verify(self, member))
    }

    /// Returns the error for a fault of this archive.
    pub(super) fn fault(&self, what: String) -> Error {
        match self.file.metadata() {
            // It is being written: what was read is neither the old nor the new one.
            Ok(metadata) if State::of(&metadata) != self.state => {
                Error::Changed { path: self.path.display().to_string() }
            }
            _ => Error::Damaged { store: self.path.display().to_string(), what },
        }
    }

    /// Returns the path of an entry.
    pub(super) fn name(&self, member: &Member) -> &[u8] {
        &self.names[member.name_start as usize..][..usize::from(member.name_bytes)]
    }

    /// Returns the name of an entry as it is in the archive.
    pub(super) fn raw_name(&self, member: &Member) -> Vec<u8> {
        raw_name(self.name(member), member.is_rooted, member.is_directory)
    }

    /// Returns the part of the file between two places.
    pub(super) fn region(&self, start: u64, end: u64) -> Region<'_> {
        Region { file: &self.file, at: start, end }
    }

    /// Reads the record of an entry in the central directory once more.
    pub(super) fn central_record(&self, member: &Member) -> Result<Vec<u8>> {
        let start = self.end.start + u64::from(member.record);
        read_record(&mut self.region(start, self.end.start + self.end.bytes))
            .map_err(|e| self.fault(format!("its central directory can't be read: {e}")))
    }

    fn read_end(&mut self) -> format::Result<()> {
        let size = self.state.size;
        if size < END_BYTES as u64 {
            return Err(format!("it has {size} bytes, fewer than the smallest zip"));
        }
        let tail_start = size.saturating_sub(TAIL_BYTES_MAX as u64);
        let mut tail = Vec::with_capacity(TAIL_BYTES_MAX);
        self.region(tail_start, size).read_to_end(&mut tail).map_err(|e| format!("its end can't be read: {e}"))?;
        let &[at] = &format::find_ends(&tail)[..] else {
            let is_absent = format::find_ends(&tail).is_empty();
            let what = if is_absent { "it has no end: it is cut off, or no zip" } else { "it has more than one end" };
            return Err(what.to_owned());
        };
        let (end, directory_end) = format::parse_end(&tail, tail_start, at)?;
        if end.start.checked_add(end.bytes) != Some(directory_end) {
            return Err("its central directory is not right before its end".to_owned());
        }
        if u32::try_from(end.count).is_err() || u32::try_from(end.bytes).is_err() {
            return Err(format!("its central directory has {} entries in {} bytes, too many", end.count, end.bytes));
        }
        if end.count.saturating_mul(CENTRAL_BYTES as u64) > end.bytes {
            return Err(format!("its central directory is too short for {} entries", end.count));
        }
        self.end = end;
        self.comment = tail[at + END_BYTES..].into();
        Ok(())
    }

    fn read_directory(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let zone = TimeZone::system();
        let file = self.file.try_clone().map_err(|e| Error::io("open", self.path.display(), e))?;
        let (start, end) = (self.end.start, self.end.start + self.end.bytes);
        let mut records = BufReader::with_capacity(DIRECTORY_BUFFER_BYTES, Region { file: &file, at: start, end });
        let mut at = 0;
        self.members.reserve(ENTRIES_EXPECTED_MAX.min(usize::try_from(self.end.count).unwrap_or(usize::MAX)));
        for n in 0..self.end.count {
            if n % ENTRIES_AT_ONCE == 0 {
                if monitor.is_interrupted() {
                    return Err(Error::Interrupted);
                }
                monitor.advance(ENTRIES_AT_ONCE.min(self.end.count - n));
            }
            let record = read_record(&mut records)
                .map_err(|e| self.fault(format!("record {n} of its central directory can't be read: {e}")))?;
            let central = format::parse_central(&record)
                .map_err(|what| self.fault(format!("record {n} of its central directory: {what}")))?;
            self.take(&central, at, &zone)
                .map_err(|what| self.fault(format!("entry {}: {what}", escape(central.header.name))))?;
            at += u32::try_from(record.len()).expect("three lengths of 16 bits");
        }
        if u64::from(at) != self.end.bytes {
            return Err(self.fault("its central directory is longer than its entries".to_owned()));
        }
        Ok(())
    }

    /// Takes an entry in, if there is nothing wrong with it as such.
    fn take(&mut self, central: &Central<'_>, record: u32, zone: &TimeZone) -> format::Result<()> {
        let header = &central.header;
        let (path, is_rooted, is_directory) = checked_name(header.name)?;
        check_content(central, is_directory)?;
        let name_start = u32::try_from(self.names.len()).map_err(|_| "there are too many names")?;
        self.names.extend_from_slice(path);
        self.members.push(Member {
            offset: central.offset,
            end: 0,
            compressed: header.compressed,
            size: header.size,
            time_ns: time_ns(header, zone),
            record,
            crc: header.crc,
            name_start,
            name_bytes: u16::try_from(path.len()).expect("a length of 16 bits"),
            is_deflated: header.method == DEFLATED,
            is_directory,
            is_rooted,
        });
        Ok(())
    }

    /// Checks that entries lie end to end, and notes where each ends. Only the length of extra fields and descriptors
    /// is not known yet: that is checked when an entry is read.
    fn check_places(&mut self) -> format::Result<()> {
        self.members.par_sort_unstable_by_key(|member| member.offset);
        let ends: Vec<u64> = self.members.iter().skip(1).map(|next| next.offset).chain([self.end.start]).collect();
        let first = self.members.first().map_or(self.end.start, |member| member.offset);
        if first != 0 {
            return Err(format!("its first {first} bytes belong to no entry"));
        }
        for (n, end) in ends.into_iter().enumerate() {
            let Some(&member) = self.members.get(n) else { break };
            let name = self.raw_name(&member);
            let least = (LOCAL_BYTES + name.len()) as u64;
            let room = end.checked_sub(member.offset).and_then(|room| room.checked_sub(least));
            let Some(spare) = room.and_then(|room| room.checked_sub(member.compressed)) else {
                return Err(format!("entry {} reaches into what follows it", escape(&name)));
            };
            if spare > u64::from(u16::MAX) + DESCRIPTOR_BYTES_MAX as u64 {
                return Err(format!("behind entry {} are bytes that belong to no entry", escape(&name)));
            }
            self.members[n].end = end;
        }
        Ok(())
    }

    /// Sorts entries by path and checks that no two are in each other's way.
    fn sort(&mut self) -> format::Result<()> {
        let mut members = std::mem::take(&mut self.members);
        members.par_sort_unstable_by(|a, b| compare(self.name(a), self.name(b)));
        self.members = members;
        for pair in self.members.windows(2) {
            let (first, second) = (self.name(&pair[0]), self.name(&pair[1]));
            if first == second {
                return Err(format!("two entries are called {}", escape(first)));
            }
            // What is within a path comes right after it.
            let is_within = second.strip_prefix(first).is_some_and(|rest| rest.starts_with(b"/"));
            if is_within && !pair[0].is_directory {
                return Err(format!("{} is a document and the directory of {}", escape(first), escape(second)));
            }
        }
        Ok(())
    }
}

/// Returns the name that an entry has in the archive.
pub(super) fn raw_name(path: &[u8], is_rooted: bool, is_directory: bool) -> Vec<u8> {
    let slash = |is_there| if is_there { &b"/"[..] } else { b"" };
    [slash(is_rooted), path, slash(is_directory)].concat()
}

/// Tells whether a name would lead out of a store if its backslashes were slashes. As plain characters they are allowed:
/// Kylin writes names of users as they are, `CORP\alice` among them.
pub(super) fn leads_out_with_backslashes(name: &[u8]) -> bool {
    let mut pieces = name.split(|byte| matches!(byte, b'/' | b'\\'));
    let has_drive = pieces.next().is_some_and(|first| first.ends_with(b":"));
    let leads_up = |piece: &[u8]| matches!(piece, b"." | b"..");
    name.contains(&b'\\')
        && (has_drive || name.starts_with(b"\\") || name.split(|byte| matches!(byte, b'/' | b'\\')).any(leads_up))
}

/// Returns the path that a name is, whether it began with `/` and whether it is that of a directory.
fn checked_name(raw: &[u8]) -> format::Result<(&[u8], bool, bool)> {
    if str::from_utf8(raw).is_err() {
        return Err("its name is not UTF-8".to_owned());
    }
    if leads_out_with_backslashes(raw) {
        return Err("its name leads elsewhere for who takes a backslash for a `/`".to_owned());
    }
    let path = raw.strip_prefix(b"/").unwrap_or(raw);
    let is_rooted = path.len() < raw.len();
    let document = path.strip_suffix(b"/").unwrap_or(path);
    EntryPath::new(document).map_err(|bad| bad.to_string())?;
    Ok((document, is_rooted, document.len() < path.len()))
}

/// Checks that an entry is a document or directory that can be read.
fn check_content(central: &Central<'_>, is_directory: bool) -> format::Result<()> {
    let header = &central.header;
    if header.flags & IS_ENCRYPTED != 0 {
        return Err("it is encrypted".to_owned());
    }
    if header.flags & !FLAGS_KNOWN != 0 {
        return Err(format!("it has flags that are not understood: {:#06x}", header.flags));
    }
    if is_directory && header.size != 0 {
        return Err("it is a directory with content".to_owned());
    }
    match header.method {
        STORED if header.compressed != header.size => Err("it is stored in another size than it has".to_owned()),
        DEFLATED if header.size > header.compressed.saturating_mul(INFLATION_MAX) => {
            Err(format!("{} bytes can't have been compressed to {}", header.size, header.compressed))
        }
        STORED | DEFLATED => check_attributes(central.external, is_directory),
        method => Err(format!("it is compressed by method {method}, which is not supported")),
    }
}

/// Checks the attributes of DOS and Unix. Not every writer that sets them says that they are those of Unix.
fn check_attributes(external: u32, is_directory: bool) -> format::Result<()> {
    const DOS_DIRECTORY: u32 = 0x10;
    match (external >> 28, is_directory) {
        (0, false) if external & DOS_DIRECTORY != 0 => Err("it is a directory by its attributes only".to_owned()),
        (0, _) | (0o04, true) | (0o10, false) => Ok(()),
        (0o12, _) => Err("it is a symlink".to_owned()),
        (kind, _) => Err(format!("it is no document and no directory but a file of type {kind:#o}")),
    }
}

/// Reads a record of the central directory.
fn read_record(records: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut fixed = [0; CENTRAL_BYTES];
    records.read_exact(&mut fixed)?;
    let mut record = fixed.to_vec();
    record.resize(CENTRAL_BYTES + format::central_rest(&fixed), 0);
    records.read_exact(&mut record[CENTRAL_BYTES..])?;
    Ok(record)
}

/// A part of a file, read from its beginning to its end. Many may be read at once.
#[derive(Debug)]
pub(super) struct Region<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Region<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
