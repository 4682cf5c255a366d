//! All documents of a live store or of a snapshot, handed one by one, on all threads, to whoever looks at them.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::fetch::fetch;
use super::live::error_text;
use super::{Error, Result};
use crate::endpoint::{self, Listing, Outcome, Reader, StagingWriter};
use crate::model::entry::Entry;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::repo::Repository;
use crate::repo::cut::WHOLE_BYTES_MAX;
use crate::repo::tree::Tree;

/// Documents larger than this are not looked at: they would have to be held. Kylin's are thousands of times smaller.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// Entries of a snapshot that are held at once. More of them are fetched in turn, which decodes frames again that both
/// have a part in.
const ENTRIES_HELD_MAX: usize = 250_000;
/// Documents that one taker gets.
const TAKEN_AT_ONCE: usize = 256;

/// Looks at some documents, on one thread. What it found is to be put with the rest when it is dropped.
pub(super) trait Taker {
    /// Takes a document; nothing of the content if nobody wants it.
    fn take(&mut self, met: &Met<'_>, content: Option<&[u8]>) -> Result<()>;
}

/// A document that is handed on.
pub(super) struct Met<'a> {
    /// Where it is.
    pub path: &'a EntryPath,
    /// When it was last changed, in nanoseconds since 1970.
    pub time_ns: i64,
}

/// Returns a taker.
pub(super) type Takers<'f, 't> = &'f (dyn Fn() -> Box<dyn Taker + 't> + Sync);

/// Tells whether the content of the document at a path is wanted.
pub(super) type Wanted<'a> = &'a (dyn Fn(&EntryPath) -> bool + Sync);

/// Documents that can be looked at, again and again.
pub(super) trait Documents: Sync {
    /// Hands each document to a taker, in whatever order. Those that can't be read, or are too large, are told to `unread`.
    fn each(
        &self,
        wanted: Wanted<'_>,
        takers: Takers<'_, '_>,
        unread: &(dyn Fn(&EntryPath, String) + Sync),
        monitor: &dyn Monitor,
    ) -> Result<()>;
}

/// Tells the monitor of documents that can't be read, and counts them.
pub(super) struct Unread<'a> {
    monitor: &'a dyn Monitor,
    problems: Mutex<Vec<Problem>>,
}

impl<'a> Unread<'a> {
    pub(super) fn new(monitor: &'a dyn Monitor) -> Self {
        Self { monitor, problems: Mutex::default() }
    }

    pub(super) fn tell(&self, path: &EntryPath, what: String) {
        let problem = Problem { severity: Severity::Unread, path: path.to_string(), what };
        self.monitor.problem(&problem);
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    }

    /// Returns the problems, sorted by path.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner().unwrap_or_else(PoisonError::into_inner);
        problems.sort_unstable_by(|a, b| (&a.path, &a.what).cmp(&(&b.path, &b.what)));
        problems
    }
}

pub(super) fn too_large() -> std::io::Error {
    std::io::Error::other(format!("it is larger than {DOCUMENT_BYTES_MAX} bytes"))
}

/// The documents of a store.
pub(super) struct Live<'l> {
    listing: &'l dyn Listing,
    numbers: Vec<u32>,
}

impl<'l> Live<'l> {
    pub(super) fn new(listing: &'l dyn Listing) -> Self {
        let numbers = listing.numbers().filter(|n| listing.facts(*n as usize).size.is_some()).collect();
        Self { listing, numbers }
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> u64 {
        self.numbers.len() as u64
    }
}

impl Documents for Live<'_> {
    fn each(
        &self,
        wanted: Wanted<'_>,
        takers: Takers<'_, '_>,
        unread: &(dyn Fn(&EntryPath, String) + Sync),
        monitor: &dyn Monitor,
    ) -> Result<()> {
        monitor.start(Task::Read, Some(self.count()));
        let listing = self.listing;
        let take_some = |reader: &mut Box<dyn Reader + '_>, numbers: &[u32]| -> Result<()> {
            let mut taker = takers();
            let is_wanted: Vec<bool> = numbers.iter().map(|n| wanted(&listing.path(*n as usize))).collect();
            let read: Vec<u32> =
                numbers.iter().zip(&is_wanted).filter(|(_, wanted)| **wanted).map(|(n, _)| *n).collect();
            reader.prepare(&read)?;
            let mut content = Vec::new();
            for (n, is_wanted) in numbers.iter().zip(is_wanted) {
                if monitor.is_interrupted() {
                    return Err(Error::Interrupted);
                }
                monitor.advance(1);
                let n = *n as usize;
                content.clear();
                let read = if is_wanted { read_whole(&mut **reader, n, &mut content) } else { Ok(()) };
                // Only reading may have told where it is.
                let path = &listing.path(n);
                match read {
                    Ok(()) => {
                        let met = Met { path, time_ns: listing.facts(n).stamp.time_ns };
                        taker.take(&met, is_wanted.then_some(&content[..]))?;
                    }
                    Err(error) if error.is_fatal() => return Err(error.into()),
                    Err(error) => unread(path, error_text(&error)),
                }
            }
            Ok(())
        };
        self.numbers.par_chunks(TAKEN_AT_ONCE).map_init(|| listing.reader(), take_some).collect()
    }
}

/// Reads a whole document, however large.
pub(super) fn read_whole(reader: &mut dyn Reader, n: usize, content: &mut Vec<u8>) -> endpoint::Result<()> {
    if let Outcome::Read(_) = reader.read(n, WHOLE_BYTES_MAX, content)? {
        return Ok(());
    }
    let failed = |e| endpoint::Error::io("read", "it", e);
    let mut stream = reader.stream(n)?;
    (&mut stream).take(DOCUMENT_BYTES_MAX + 1).read_to_end(content).map_err(failed)?;
    if content.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(failed(too_large()));
    }
    match stream.finish()? {
        Some(_) => Ok(()),
        None => Err(failed(std::io::Error::other("it changed while it was read"))),
    }
}

/// The documents of a snapshot.
pub(super) struct Kept<'r> {
    pub repo: &'r Repository,
    pub tree: &'r Tree,
    pub scope: &'r Scope,
}

impl Documents for Kept<'_> {
    fn each(
        &self,
        wanted: Wanted<'_>,
        takers: Takers<'_, '_>,
        unread: &(dyn Fn(&EntryPath, String) + Sync),
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut walk = self.repo.entries(self.tree, self.scope).peekable();
        while walk.peek().is_some() {
            let mut entries = Vec::new();
            let mut taker = takers();
            while entries.len() < ENTRIES_HELD_MAX
                && let Some(entry) = walk.next()
            {
                let entry = entry?;
                match entry.document() {
                    None => {}
                    Some(_) if !wanted(&entry.path) => {
                        taker.take(&Met { path: &entry.path, time_ns: entry.stamp.time_ns }, None)?;
                    }
                    Some(document) if document.size > DOCUMENT_BYTES_MAX => {
                        unread(&entry.path, too_large().to_string());
                    }
                    Some(_) => entries.push(entry),
                }
            }
            drop(taker);
            self.hand_over(&entries, takers, monitor)?;
        }
        Ok(())
    }
}

impl Kept<'_> {
    fn hand_over(&self, entries: &[Entry], takers: Takers<'_, '_>, monitor: &dyn Monitor) -> Result<()> {
        let documents = |n: u32| entries[n as usize].document();
        let count = u32::try_from(entries.len()).expect("fewer than 2^32 entries");
        let failure = Mutex::new(None);
        let writers = || -> Box<dyn StagingWriter + '_> {
            Box::new(Handing { taker: takers(), entries, current: 0, content: Vec::new(), failure: &failure })
        };
        let fetched = fetch(self.repo, count, &documents, &writers, monitor);
        let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(fetched, Err)
    }
}

/// Hands documents on as they come from the repository.
struct Handing<'a, 'e> {
    taker: Box<dyn Taker + 'a>,
    entries: &'e [Entry],
    current: usize,
    content: Vec<u8>,
    /// What a taker failed of: a writer has no words for it.
    failure: &'e Mutex<Option<Error>>,
}

impl StagingWriter for Handing<'_, '_> {
    fn begin(&mut self, n: usize) -> endpoint::Result<()> {
        self.current = n;
        self.content.clear();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> endpoint::Result<()> {
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> endpoint::Result<()> {
        let entry = &self.entries[self.current];
        let met = Met { path: &entry.path, time_ns: entry.stamp.time_ns };
        self.taker.take(&met, Some(&self.content)).map_err(|error| {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            endpoint::Error::Interrupted
        })
    }
}
