//! Making a new archive of what is kept of the old one and what was written, and putting it into its place.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::iter::Peekable;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use jiff::tz::TimeZone;
use rustix::fs::{Gid, Uid, fchown};
use tempfile::NamedTempFile;

use super::archive::{Archive, Member, State, raw_name};
use super::extra;
use super::format::{self, Central, DEFLATED, End, HAS_DESCRIPTOR, Header, IS_UTF8, STORED};
use super::read::{Extract, fault};
use super::time::{seconds, to_dos};
use super::write::{Spool, Written, ZipStaging};
use crate::endpoint::{Error, Put, Removal, Result};
use crate::model::path::{EntryPath, compare, escape};
use crate::monitor::{Monitor, Silent, Task};

/// Bytes that are copied at once.
const COPY_BUFFER_BYTES: usize = 256 << 10;
/// Entries that are written between two looks whether to stop.
const ENTRIES_AT_ONCE: usize = 1024;
/// The attribute of DOS that says that an entry is a directory.
const DOS_DIRECTORY: u32 = 0x10;
/// What made a new entry: version 2.0 of the format, without attributes of Unix, as Kylin writes them.
const MADE_BY: u16 = 20;

/// An entry of the new archive.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// The number of an entry of the old one.
    Kept(usize),
    /// The number of a put.
    Put(usize),
}

/// Makes the new archive and puts it into the place of the old one.
pub(super) fn join(staging: &ZipStaging<'_>, removals: &[Removal], monitor: &dyn Monitor) -> Result<()> {
    check_unchanged(staging)?;
    let pieces = pieces(staging, removals)?;
    let new = write(staging, &pieces, monitor)?;
    // What would be refused when it is read must not take the place of what is not.
    let archive = Archive::open(new.path(), &Silent)?;
    if archive.members.len() != pieces.len() {
        return Err(archive.fault(format!("it has {} entries, not {}", archive.members.len(), pieces.len())));
    }
    drop(archive);
    check_unchanged(staging)?;
    move_into_place(staging, new)
}

/// Checks that the file is still what was listed, and what was opened when the change began.
fn check_unchanged(staging: &ZipStaging<'_>) -> Result<()> {
    staging.listing.check_still_there()?;
    let now = State::at(&staging.path).map_err(|e| Error::io("stat", staging.path.display(), e))?;
    if now == staging.old.as_ref().map(|old| old.state) {
        return Ok(());
    }
    Err(Error::Changed { path: staging.path.display().to_string() })
}

/// Returns what the new archive is made of, in path order.
fn pieces(staging: &ZipStaging<'_>, removals: &[Removal]) -> Result<Vec<Piece>> {
    let changed = |path: &EntryPath| Err(Error::Changed { path: path.to_string() });
    let mut puts: Vec<usize> = (0..staging.puts.len()).collect();
    puts.sort_by(|a, b| staging.puts[*a].path.cmp(&staging.puts[*b].path));
    let mut removals: Vec<&Removal> = removals.iter().collect();
    removals.sort_by(|a, b| a.path.cmp(&b.path));
    let (mut puts, mut removals) = (puts.into_iter().peekable(), removals.into_iter().peekable());
    let members = staging.old.as_ref().map_or(&[][..], |old| &old.members);
    let mut pieces = Vec::with_capacity(members.len() + staging.puts.len());
    for (n, member) in members.iter().enumerate() {
        let name = staging.old.as_ref().expect("it has members").name(member);
        pieces.extend(new_before(&mut puts, &staging.puts, Some(name))?.into_iter().map(Piece::Put));
        if let Some(removal) = removals.peek().filter(|removal| compare(removal.path.as_bytes(), name).is_lt()) {
            return changed(&removal.path);
        }
        let removal = removals.next_if(|removal| removal.path.as_bytes() == name);
        let put = puts.next_if(|put| staging.puts[*put].path.as_bytes() == name);
        match put {
            None if removal.is_some() => {}
            None => pieces.push(Piece::Kept(n)),
            // What is replaced is of the same kind; what is not was removed before.
            Some(put) if staging.puts[put].replaces.is_some() == removal.is_some() => {
                return changed(&staging.puts[put].path);
            }
            Some(put) => pieces.push(Piece::Put(put)),
        }
    }
    pieces.extend(new_before(&mut puts, &staging.puts, None)?.into_iter().map(Piece::Put));
    removals.next().map_or(Ok(pieces), |removal| changed(&removal.path))
}

/// Takes the puts that come before `name`, or all that are left: there is nothing yet where they go.
fn new_before(
    numbers: &mut Peekable<impl Iterator<Item = usize>>,
    puts: &[Put],
    name: Option<&[u8]>,
) -> Result<Vec<usize>> {
    let is_before = |n: &usize| name.is_none_or(|name| compare(puts[*n].path.as_bytes(), name) == Ordering::Less);
    let new: Vec<usize> = std::iter::from_fn(|| numbers.next_if(is_before)).collect();
    match new.iter().find(|n| puts[**n].replaces.is_some()) {
        Some(gone) => Err(Error::Changed { path: puts[*gone].path.to_string() }),
        None => Ok(new),
    }
}

/// Writes the new archive to a file in the folder.
fn write(staging: &ZipStaging<'_>, pieces: &[Piece], monitor: &dyn Monitor) -> Result<NamedTempFile> {
    monitor.start(Task::Write, Some(pieces.len() as u64));
    let failed = |e| Error::io("write the new", staging.path.display(), e);
    let spools = spooled(staging).map_err(failed)?;
    let new = NamedTempFile::new_in(staging.folder.path()).map_err(failed)?;
    let directory = tempfile::tempfile_in(staging.folder.path()).map_err(failed)?;
    let mut joiner = Joiner {
        staging,
        spools: &spools,
        zone: TimeZone::system(),
        extract: Extract::new(),
        data: Counted::new(new.as_file()),
        directory: Counted::new(&directory),
    };
    for (n, piece) in pieces.iter().enumerate() {
        if n % ENTRIES_AT_ONCE == 0 {
            if monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            monitor.advance(ENTRIES_AT_ONCE.min(pieces.len() - n) as u64);
        }
        match piece {
            Piece::Kept(n) => joiner.keep(*n)?,
            Piece::Put(n) => joiner.put(*n)?,
        }
    }
    joiner.finish(pieces.len() as u64).map_err(failed)?;
    new.as_file().sync_all().map_err(failed)?;
    Ok(new)
}

/// The files with what was written, and where in them each put is.
struct Spooled {
    files: Vec<File>,
    places: Vec<Option<(u32, Written)>>,
}

fn spooled(staging: &ZipStaging<'_>) -> io::Result<Spooled> {
    let mut spooled = Spooled { files: Vec::new(), places: vec![None; staging.puts.len()] };
    for (number, spool) in (0_u32..).zip(staging.take_spools()) {
        let Spool { file, bytes, written, .. } = spool;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if file.metadata()?.len() != bytes {
            return Err(io::Error::other("not all that was compressed is there"));
        }
        spooled.files.push(file);
        for (n, written) in written {
            spooled.places[n as usize] = Some((number, written));
        }
    }
    Ok(spooled)
}

/// A file being written, and how long it is.
struct Counted<'a> {
    file: BufWriter<&'a File>,
    bytes: u64,
    buffer: Box<[u8]>,
}

impl<'a> Counted<'a> {
    fn new(file: &'a File) -> Self {
        let file = BufWriter::with_capacity(COPY_BUFFER_BYTES, file);
        Self { file, bytes: 0, buffer: vec![0; COPY_BUFFER_BYTES].into() }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn copy(&mut self, from: &mut impl Read, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            from.read_exact(&mut self.buffer[..most])?;
            self.file.write_all(&self.buffer[..most])?;
            left -= most as u64;
        }
        self.bytes += bytes;
        Ok(())
    }
}

/// Writes entries one after the other, and their central directory to a file of its own.
struct Joiner<'a> {
    staging: &'a ZipStaging<'a>,
    spools: &'a Spooled,
    zone: TimeZone,
    extract: Extract,
    data: Counted<'a>,
    directory: Counted<'a>,
}

impl Joiner<'_> {
    fn failed(&self, path: &[u8], source: impl Into<io::Error>) -> Error {
        Error::io("write", format!("{} to the new {}", escape(path), self.staging.path.display()), source)
    }

    /// Copies an entry of the old archive with its data as it is.
    fn keep(&mut self, n: usize) -> Result<()> {
        let old = self.staging.old.as_ref().expect("it has members");
        let member = &old.members[n];
        let local = self.extract.begin(old, member)?;
        let record = old.central_record(member)?;
        let central = format::parse_central(&record).map_err(|what| fault(old, member, &what))?;
        let local = format::parse_local(&local).map_err(|what| fault(old, member, &what))?;
        // The sizes are known by now, so they stand in front of the data.
        let header = Header { flags: central.header.flags & !HAS_DESCRIPTOR, ..central.header };
        let central = Central { header, offset: self.data.bytes, ..central };
        self.headers(&Header { extra: local.extra, ..header }, &central)
            .and_then(|()| self.copy_kept(old, member))
            .map_err(|e| self.failed(old.name(member), e))
    }

    fn copy_kept(&mut self, old: &Archive, member: &Member) -> io::Result<()> {
        let start = self.extract.position();
        self.data.copy(&mut old.region(start, member.end), member.compressed)
    }

    /// Copies what was written for a put.
    fn put(&mut self, n: usize) -> Result<()> {
        let put = &self.staging.puts[n];
        let nothing = Written { start: 0, compressed: 0, size: 0, crc: 0 };
        let (spool, written) = match (&put.document, self.spools.places[n]) {
            (None, _) => (None, nothing),
            (Some(_), Some((spool, written))) => (Some(&self.spools.files[spool as usize]), written),
            (Some(_), None) => return Err(self.failed(put.path.as_bytes(), io::ErrorKind::NotFound)),
        };
        let name = raw_name(put.path.as_bytes(), self.staging.is_rooted, spool.is_none());
        let extra = extra::time_field(seconds(put.time_ns));
        let header = Header {
            flags: if name.is_ascii() { 0 } else { IS_UTF8 },
            method: if spool.is_some() { DEFLATED } else { STORED },
            dos: to_dos(put.time_ns, &self.zone),
            crc: written.crc,
            compressed: written.compressed,
            size: written.size,
            name: &name,
            extra: &extra,
        };
        let external = if spool.is_some() { 0 } else { DOS_DIRECTORY };
        let offset = self.data.bytes;
        let central = Central { header, made_by: MADE_BY, internal: 0, external, offset, comment: &[] };
        let mut write = || {
            self.headers(&header, &central)?;
            let Some(file) = spool else { return Ok(()) };
            self.data.copy(&mut At { file, at: written.start }, written.compressed)
        };
        write().map_err(|e| self.failed(put.path.as_bytes(), e))
    }

    fn headers(&mut self, local: &Header<'_>, central: &Central<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        format::write_local(local, &mut bytes).map_err(io::Error::other)?;
        self.data.write(&bytes)?;
        bytes.clear();
        format::write_central(central, &mut bytes).map_err(io::Error::other)?;
        self.directory.write(&bytes)
    }

    fn finish(mut self, count: u64) -> io::Result<()> {
        self.directory.file.flush()?;
        let end = End { count, bytes: self.directory.bytes, start: self.data.bytes };
        let mut directory = *self.directory.file.get_ref();
        directory.rewind()?;
        self.data.copy(&mut directory, end.bytes)?;
        let mut bytes = Vec::new();
        let comment = self.staging.old.as_ref().map_or(&[][..], |old| &old.comment);
        format::write_end(&end, comment, &mut bytes).map_err(io::Error::other)?;
        self.data.write(&bytes)?;
        self.data.file.flush()
    }
}

/// A file read from some place on, without moving where others read it.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Gives the new archive its name. It appears whole: who has the old one open goes on reading that.
fn move_into_place(staging: &ZipStaging<'_>, new: NamedTempFile) -> Result<()> {
    let failed = |e| Error::io("replace", staging.path.display(), e);
    match &staging.old {
        Some(old) => {
            take_over(&old.file, new.as_file()).map_err(failed)?;
            new.persist(&staging.path).map_err(|e| failed(e.error))?;
        }
        None => {
            new.persist_noclobber(&staging.path).map_err(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => Error::Changed { path: staging.path.display().to_string() },
                _ => failed(e.error),
            })?;
        }
    }
    let parent = staging.path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|e| Error::io("sync", parent.display(), e))
}

/// Gives the new file the owner and the permissions of the old one. Metadata holds secrets: rather than showing them to
/// another group, this fails.
fn take_over(old: &File, new: &File) -> io::Result<()> {
    let (old, now) = (old.metadata()?, new.metadata()?);
    if (old.uid(), old.gid()) != (now.uid(), now.gid()) {
        fchown(new, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))?;
    }
    new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    new.sync_all()
}
