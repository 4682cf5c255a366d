//! A tar as its headers describe it, believed only as a whole.
//!
//! The rules are stricter than those of the format, so that no two readers see different documents: no name is there
//! twice, nothing lies below what is no directory, and the end is marked, with nothing but zeros behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rayon::prelude::*;

use super::format::{self, BLOCK_BYTES, END_BYTES, EXTENSION_BYTES_MAX, Extension, Kind, Said};
use crate::endpoint::zip::State;
use crate::endpoint::{Error, Result};
use crate::model::path::{EntryPath, compare, escape};
use crate::monitor::{Monitor, Problem, Severity};

/// Bytes of the file that are read at once: of small documents many headers come with one call.
const BUFFER_BYTES: usize = 256 << 10;
/// Headers that are read between two looks whether to stop.
const ENTRIES_AT_ONCE: u64 = 4096;

/// An entry of the archive. There may be millions: names are kept end to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// Where its content is.
    pub offset: u64,
    pub size: u64,
    pub time_ns: i64,
    pub mode: u16,
    pub kind: Kind,
    name_start: u32,
    name_bytes: u16,
}

/// A tar, open.
#[derive(Debug)]
pub(super) struct Archive {
    /// What the store is called.
    pub store: String,
    /// Where it is, and what was there when it was opened; nothing for one that came from a pipe.
    pub origin: Option<(PathBuf, State)>,
    /// The archive, unpacked if it was compressed.
    file: File,
    bytes: u64,
    /// Documents and directories in path order.
    pub members: Vec<Member>,
    names: Vec<u8>,
    /// Where something is that is neither.
    pub obstacles: Vec<EntryPath>,
    pub problems: Vec<Problem>,
}

impl Archive {
    /// Reads the headers of an archive.
    pub(super) fn read(
        store: String,
        origin: Option<(PathBuf, State)>,
        file: File,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let bytes = file.metadata().map_err(|e| Error::io("stat", &store, e))?.len();
        let (members, names, obstacles, problems) = Default::default();
        let mut archive = Self { store, origin, file, bytes, members, names, obstacles, problems };
        archive.read_headers(monitor)?;
        archive.sort().map_err(|what| archive.fault(what))?;
        archive.pass_over();
        Ok(archive)
    }

    /// Returns the error for a fault of this archive.
    pub(super) fn fault(&self, what: String) -> Error {
        match &self.origin {
            // It is being written: what was read is neither the old nor the new one.
            Some((path, state)) if State::at(path).ok().flatten() != Some(*state) => {
                Error::Changed { path: self.store.clone() }
            }
            _ => Error::Damaged { store: self.store.clone(), what },
        }
    }

    /// Returns the path of an entry.
    pub(super) fn name(&self, member: &Member) -> &[u8] {
        &self.names[member.name_start as usize..][..usize::from(member.name_bytes)]
    }

    /// Reads some of the content of an entry, from a place in it on; nothing at its end.
    pub(super) fn read_some(&self, member: &Member, from: u64, out: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(member.size - from).unwrap_or(usize::MAX).min(out.len());
        let fault = |what: String| self.fault(format!("entry {}: {what}", escape(self.name(member))));
        match self.file.read_at(&mut out[..most], member.offset + from) {
            Ok(0) if most > 0 => Err(fault("it ends too early".to_owned())),
            Ok(read) => Ok(read),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.read_some(member, from, out),
            Err(e) => Err(fault(format!("it can't be read: {e}"))),
        }
    }

    fn read_headers(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let mut blocks = Blocks { buffer: vec![0; BUFFER_BYTES].into(), start: 0, filled: 0 };
        let (mut at, mut count, mut extension) = (0, 0, Extension::default());
        loop {
            if count % ENTRIES_AT_ONCE == 0 {
                if monitor.is_interrupted() {
                    return Err(Error::Interrupted);
                }
                monitor.advance(if count == 0 { 0 } else { ENTRIES_AT_ONCE });
            }
            count += 1;
            let Some(block) = blocks.get(&self.file, at).map_err(|e| Error::io("read", &self.store, e))? else {
                return Err(self.fault("it has no end: it is cut off, or no tar".to_owned()));
            };
            if is_zero(&block) {
                monitor.advance(count % ENTRIES_AT_ONCE);
                let is_complete = !extension.is_there;
                let ended = if is_complete { Ok(()) } else { Err("its last entry is missing".to_owned()) };
                return ended.and_then(|()| self.check_end(at)).map_err(|what| self.fault(what));
            }
            let said = format::parse(&block).map_err(|what| self.fault(format!("the header at byte {at}: {what}")))?;
            let name = escape(&said.name);
            let fault = |what: String| format!("entry {name}: {what}");
            at = self.read_entry(said, at, &mut extension).map_err(|what| self.fault(fault(what)))?;
        }
    }

    /// Takes in the entry whose header is at a place. Returns where the next one is.
    fn read_entry(&mut self, said: Said, at: u64, extension: &mut Extension) -> format::Result<u64> {
        let (start, size) = (at + BLOCK_BYTES as u64, said.size);
        let end = start.checked_add(size).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| format!("its {size} bytes reach beyond the end of the archive"))?;
        match said.kind {
            Kind::Document | Kind::Directory | Kind::Other(_) => {
                self.take(said, std::mem::take(extension), start)?;
            }
            kind => {
                if size > EXTENSION_BYTES_MAX {
                    return Err(format!("{size} bytes about another entry are too many"));
                }
                let mut data = vec![0; usize::try_from(size).expect("not many")];
                self.file.read_exact_at(&mut data, start).map_err(|e| format!("it can't be read: {e}"))?;
                extension.take(kind, &data)?;
            }
        }
        Ok(end.next_multiple_of(BLOCK_BYTES as u64))
    }

    /// Takes an entry in, if there is nothing wrong with it as such.
    fn take(&mut self, mut said: Said, extension: Extension, offset: u64) -> format::Result<()> {
        extension.apply(&mut said)?;
        let (size, is_document) = (said.size, said.kind == Kind::Document);
        if size > 0 && !is_document {
            return Err("it has content, and is no document".to_owned());
        }
        let Some(name) = checked_name(&said.name, said.kind == Kind::Directory)? else { return Ok(()) };
        let name_start = u32::try_from(self.names.len()).map_err(|_| "there are too many names")?;
        let name_bytes = u16::try_from(name.len()).expect("paths are no longer");
        self.names.extend_from_slice(name);
        let Said { kind, mode, time_ns, .. } = said;
        self.members.push(Member { offset, size, time_ns, mode, kind, name_start, name_bytes });
        Ok(())
    }

    /// Checks that there is an end, and nothing behind it.
    fn check_end(&self, at: u64) -> format::Result<()> {
        if self.bytes - at < END_BYTES {
            return Err("its end is cut off".to_owned());
        }
        let (mut buffer, mut at) = (vec![0; BUFFER_BYTES], at);
        while at < self.bytes {
            let read = self.file.read_at(&mut buffer, at).map_err(|e| format!("its end can't be read: {e}"))?;
            if read == 0 || !is_zero(&buffer[..read]) {
                return Err("behind its end are bytes that belong to no entry".to_owned());
            }
            at += read as u64;
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
            let what = match pair[0].kind {
                _ if !is_within => continue,
                Kind::Directory => continue,
                Kind::Other(what) => what,
                _ => "a document",
            };
            return Err(format!("{} is {what} and the directory of {}", escape(first), escape(second)));
        }
        Ok(())
    }

    /// Leaves out what is neither document nor directory. Each scan tells of it.
    fn pass_over(&mut self) {
        let mut members = std::mem::take(&mut self.members);
        for member in &members {
            let Kind::Other(what) = member.kind else { continue };
            let path = EntryPath::new(self.name(member)).expect("names were checked");
            let what = format!("is {what}, not a document; it is not followed and not kept");
            self.problems.push(Problem { severity: Severity::Skipped, path: path.to_string(), what });
            self.obstacles.push(path);
        }
        members.retain(|member| !matches!(member.kind, Kind::Other(_)));
        self.members = members;
    }
}

/// Returns the path that a name is; nothing for the directory that was packed itself.
fn checked_name(raw: &[u8], is_directory: bool) -> format::Result<Option<&[u8]>> {
    let mut name = raw;
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
    }
    if is_directory {
        name = name.strip_suffix(b"/").unwrap_or(name);
        if matches!(name, b"" | b".") && raw.starts_with(b".") {
            return Ok(None);
        }
    }
    EntryPath::new(name).map_err(|bad| bad.to_string())?;
    Ok(Some(name))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Reads blocks of a file, many at once.
struct Blocks {
    buffer: Box<[u8]>,
    start: u64,
    filled: usize,
}

impl Blocks {
    /// Returns the block at a place at or behind the last one; nothing where the file ends before it does.
    fn get(&mut self, file: &File, at: u64) -> io::Result<Option<[u8; BLOCK_BYTES]>> {
        for _ in 0..2 {
            let within = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
            if let Some(block) = self.buffer[..self.filled].get(within..).and_then(<[u8]>::first_chunk) {
                return Ok(Some(*block));
            }
            self.fill(file, at)?;
        }
        Ok(None)
    }

    fn fill(&mut self, file: &File, at: u64) -> io::Result<()> {
        (self.start, self.filled) = (at, 0);
        while self.filled < self.buffer.len() {
            match file.read_at(&mut self.buffer[self.filled..], at + self.filled as u64) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
