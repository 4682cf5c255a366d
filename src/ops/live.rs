//! A live store seen beside a tree: which of its entries differ, by content.

use rayon::prelude::*;

use super::{Error, Result};
use crate::endpoint::{self, Found, Listing, Outcome, Reader};
use crate::model::entry::{Body, Document, Entry, Keyed};
use crate::model::hash::ContentId;
use crate::model::merge::{Pair, merge};
use crate::model::path::EntryPath;
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::repo;
use crate::repo::tree::Difference;

/// Most documents whose contents are compared at once.
const COMPARED_AT_ONCE_MAX: usize = 4096;
/// Most documents of which one reader knows beforehand that they will be read.
const PREPARED_AT_ONCE: usize = 1024;
/// Documents larger than this are hashed as a stream.
const HELD_BYTES_MAX: u64 = 1 << 20;

/// Walks a listing as a sorted stream, each entry with its number.
pub(super) fn listed(listing: &dyn Listing) -> impl Iterator<Item = Result<(u32, Found)>> + '_ {
    listing.in_order().map(|n| Ok((n, listing.found(n as usize))))
}

impl Keyed for (u32, Found) {
    fn path(&self) -> &EntryPath {
        &self.1.path
    }
}

/// What comparing a live store with the entries of a snapshot counted.
#[derive(Debug, Default)]
pub(super) struct LiveDifferences {
    /// Documents of the store that could not be read; they are among neither the same nor the different.
    pub unread: u64,
}

/// Compares a live store with the entries of a snapshot, reading only documents whose stamps prove nothing. Hands each
/// entry that differs to `take`, in path order: left as it is in the store, right as in the snapshot.
pub(super) fn live_differences(
    listing: &dyn Listing,
    entries: impl Iterator<Item = repo::Result<Entry>>,
    monitor: &dyn Monitor,
    mut take: impl FnMut(Difference) -> Result<()>,
) -> Result<LiveDifferences> {
    monitor.start(Task::Compare, Some(listing.len() as u64));
    let mut found = LiveDifferences::default();
    let mut waiting = Vec::new();
    for pair in merge(listed(listing), entries) {
        let pair: Result<_> = pair;
        match pair? {
            // What is in a directory that could not be listed is not known to be gone.
            Pair::Right(entry) if listing.hides(&entry.path) => {
                found.unread += u64::from(entry.document().is_some());
            }
            Pair::Right(entry) => waiting.push(Waiting { live: None, entry: Some(entry) }),
            Pair::Left(live) => waiting.push(Waiting { live: Some(live), entry: None }),
            Pair::Both(live, entry) if is_proven_same(listing, &live, &entry) => monitor.advance(1),
            Pair::Both(live, entry) => waiting.push(Waiting { live: Some(live), entry: Some(entry) }),
        }
        if waiting.len() == COMPARED_AT_ONCE_MAX {
            found.compare(listing, &mut waiting, monitor, &mut take)?;
        }
    }
    found.compare(listing, &mut waiting, monitor, &mut take)?;
    Ok(found)
}

fn is_proven_same(listing: &dyn Listing, (n, live): &(u32, Found), entry: &Entry) -> bool {
    match live.size {
        // The stamps of directories are not kept.
        None => entry.document().is_none() && !entry.differs_in_mode(live.mode),
        Some(_) => listing.proves(*n as usize, entry),
    }
}

/// A pair whose contents are still to be compared.
struct Waiting {
    live: Option<(u32, Found)>,
    entry: Option<Entry>,
}

impl LiveDifferences {
    fn compare(
        &mut self,
        listing: &dyn Listing,
        waiting: &mut Vec<Waiting>,
        monitor: &dyn Monitor,
        take: &mut impl FnMut(Difference) -> Result<()>,
    ) -> Result<()> {
        let chunks: Vec<Vec<Waiting>> = {
            let mut rest = waiting.drain(..).peekable();
            std::iter::from_fn(|| rest.peek().is_some().then(|| rest.by_ref().take(PREPARED_AT_ONCE).collect()))
                .collect()
        };
        let resolved: Vec<_> =
            chunks.into_par_iter().map(|chunk| resolve_all(listing, chunk, monitor)).collect::<Result<_>>()?;
        for pair in resolved.into_iter().flatten() {
            match pair {
                None => self.unread += 1,
                Some(Pair::Both(live, entry)) if live.same_content(&entry) && !entry.differs_in_mode(live.mode) => {}
                Some(pair) => take(pair)?,
            }
        }
        Ok(())
    }
}

/// Reads the live documents of some pairs.
fn resolve_all(listing: &dyn Listing, waiting: Vec<Waiting>, monitor: &dyn Monitor) -> Result<Vec<Option<Difference>>> {
    let mut reader = listing.reader();
    let live = waiting.iter().filter_map(|waiting| waiting.live.as_ref());
    let documents = live.filter(|(_, found)| found.size.is_some()).map(|(n, _)| *n);
    reader.prepare(&documents.collect::<Vec<u32>>())?;
    waiting.into_iter().map(|waiting| resolve(&mut *reader, waiting, monitor)).collect()
}

/// Reads the live document of a pair; nothing if it can't be read.
fn resolve(reader: &mut dyn Reader, waiting: Waiting, monitor: &dyn Monitor) -> Result<Option<Difference>> {
    if monitor.is_interrupted() {
        return Err(Error::Interrupted);
    }
    let Some((n, found)) = waiting.live else {
        return Ok(waiting.entry.map(Pair::Right));
    };
    monitor.advance(1);
    let body = match found.size {
        None => Body::Directory,
        Some(size) => match hash(reader, n as usize, size) {
            Ok(document) => Body::Document(document),
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => {
                let (path, what) = (found.path.to_string(), error_text(&error));
                let problem = Problem { severity: Severity::Unread, path, what };
                monitor.problem(&problem);
                return Ok(None);
            }
        },
    };
    let live = Entry { path: found.path, body, mode: found.mode, encoding: found.encoding, stamp: found.stamp };
    Ok(Some(match waiting.entry {
        None => Pair::Left(live),
        Some(entry) => Pair::Both(live, entry),
    }))
}

fn hash(reader: &mut dyn Reader, n: usize, size: u64) -> endpoint::Result<Document> {
    let mut content = Vec::new();
    let outcome =
        if size > HELD_BYTES_MAX { Outcome::TooLarge } else { reader.read(n, HELD_BYTES_MAX, &mut content)? };
    if let Outcome::Read(_) = outcome {
        let size = content.len() as u64;
        return Ok(Document { content: ContentId::of(&content), size, pieces: Box::default() });
    }
    let failed = |e| endpoint::Error::io("read", "it", e);
    let mut stream = reader.stream(n)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut stream).map_err(failed)?;
    match stream.finish()? {
        Some(_) => {
            let content = ContentId::from_bytes(*hasher.finalize().as_bytes());
            Ok(Document { content, size: hasher.count(), pieces: Box::default() })
        }
        None => Err(failed(std::io::Error::other("it changed while it was read"))),
    }
}

/// Returns an error and its causes in one line.
pub(super) fn error_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
