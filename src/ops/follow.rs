//! Backing up by a store's own log of changes: what it names is looked at, and a share of all else, in turn.

use std::collections::BTreeSet;

use super::Result;
use crate::endpoint::{self, Listing, Source, Touched};
use crate::model::entry::Entry;
use crate::model::log::LogRecord;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::repo::snapshot::{LogArchive, Snapshot};
use crate::repo::tree::Tree;
use crate::repo::writer::Writer;
use crate::repo::{self, Repository};

/// Bytes of contents at which a chunk of archived records ends.
const ARCHIVE_BYTES: usize = 1 << 20;
/// A content larger than this is not archived with its record.
const ARCHIVED_BYTES_MAX: usize = 16 << 20;

/// What was known of a store's log of changes, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Following {
    /// There was nothing to follow: no log, no earlier snapshot, or it was not asked for.
    #[default]
    No,
    /// Only what the log names was looked at.
    Followed,
    /// The log could not be believed, for this reason: everything was listed.
    FellBack(String),
}

/// The documents whose contents are looked at though nothing says that they changed: a share of all, another one each time.
pub(super) struct Share {
    /// Whether the last document of all is among them.
    has_end: bool,
    /// As the snapshot has them.
    pub entries: Vec<Entry>,
    /// Where the next share begins.
    pub next: Option<EntryPath>,
}

impl Share {
    pub(super) fn none(next: Option<EntryPath>) -> Self {
        Self { has_end: false, entries: Vec::new(), next }
    }

    /// Chooses one of `of` parts of a snapshot's documents. It begins where the last one ended, or, where no one keeps note
    /// of that, anywhere, and then goes on at the beginning.
    pub(super) fn choose(repo: &Repository, snapshot: &Snapshot, tree: &Tree, of: u64, anywhere: bool) -> Result<Self> {
        let count = tree.documents().div_ceil(of);
        let mut share = Self::none(None);
        if count == 0 {
            return Ok(share);
        }
        let after = if anywhere {
            let mut drawn = [0; 8];
            // Without a random number the share is the first one: better than none.
            let _ = getrandom::fill(&mut drawn);
            repo.path_near(tree, u64::from_le_bytes(drawn))?
        } else {
            snapshot.manifest.verified.clone()
        };
        let is_full = match &after {
            Some(after) => share.fill(repo.entries_after(tree, after), count)?,
            None => share.fill(repo.entries(tree, &Scope::System), count)?,
        };
        share.has_end = !is_full;
        if let Some(after) = after.filter(|_| anywhere && !is_full) {
            let before = repo.entries(tree, &Scope::System);
            share.fill(before.take_while(|entry| entry.as_ref().map_or(true, |entry| entry.path <= after)), count)?;
        }
        share.next = share.entries.last().filter(|_| is_full).map(|entry| entry.path.clone());
        Ok(share)
    }

    /// Adds documents up to this count, and tells whether there were as many and more.
    fn fill(&mut self, entries: impl Iterator<Item = repo::Result<Entry>>, count: u64) -> Result<bool> {
        for entry in entries {
            let entry = entry?;
            if entry.document().is_none() {
                continue;
            }
            if self.entries.len() as u64 >= count {
                return Ok(true);
            }
            self.entries.push(entry);
        }
        Ok(false)
    }

    /// Tells whether the last document of all is one of them.
    pub(super) fn ends_round(&self) -> bool {
        self.has_end && !self.entries.is_empty()
    }
}

/// Lists what may have changed since a snapshot; nothing if that can't be told, and why.
pub(super) fn scan_since(
    source: &dyn Source,
    snapshot: &Snapshot,
    share: &Share,
    monitor: &dyn crate::monitor::Monitor,
) -> Result<(Option<Box<dyn Listing>>, Following)> {
    let Some(position) = &snapshot.manifest.position else { return Ok((None, Following::No)) };
    Ok(match source.scan_since(position, &share.entries, monitor)? {
        endpoint::Since::Changes(listing) => (Some(listing), Following::Followed),
        endpoint::Since::Unknown(why) => (None, Following::FellBack(why)),
    })
}

/// Returns what a snapshot holds of all that a listing of changes speaks of, in path order.
pub(super) fn entries_touched(
    repo: &Repository,
    tree: &Tree,
    listing: &dyn Listing,
    touched: &[Touched],
) -> Result<Vec<Entry>> {
    let mut paths: BTreeSet<EntryPath> = listing.numbers().map(|n| listing.path(n as usize)).collect();
    let mut elsewhere: Vec<&[EntryPath]> = Vec::new();
    for one in touched {
        match one {
            Touched::Document { paths: some, is_new } => {
                paths.extend(some.iter().cloned());
                if !is_new {
                    elsewhere.push(some);
                }
            }
            Touched::Kind(kind) => {
                for project in tree.projects.keys().filter(|name| !name.is_empty()) {
                    let directory = EntryPath::joined(&[project, kind]);
                    for entry in repo.entries_within(tree, &directory) {
                        paths.insert(entry?.path);
                    }
                }
            }
        }
    }
    if elsewhere.is_empty() {
        let paths: Vec<EntryPath> = paths.into_iter().collect();
        return Ok(repo.entries_at(tree, &paths)?.into_iter().flatten().collect());
    }
    // What is in none of the places the log speaks of may have been in another project.
    let asked: Vec<EntryPath> = paths.iter().cloned().collect();
    let found: BTreeSet<EntryPath> =
        repo.entries_at(tree, &asked)?.into_iter().flatten().map(|entry| entry.path).collect();
    for some in elsewhere.into_iter().filter(|some| !some.iter().any(|path| found.contains(path))) {
        for path in some {
            let below: Vec<&[u8]> = path.parts().skip(1).collect();
            let of_project = |project: &[u8]| EntryPath::joined(&[&[project], &below[..]].concat());
            paths.extend(
                tree.projects.keys().filter(|name| !name.is_empty() && !below.is_empty()).map(|name| of_project(name)),
            );
        }
    }
    let paths: Vec<EntryPath> = paths.into_iter().collect();
    Ok(repo.entries_at(tree, &paths)?.into_iter().flatten().collect())
}

/// Stores the records of the store's log since a snapshot.
pub(super) fn archive(
    listing: &dyn Listing,
    before: Option<&Snapshot>,
    writer: &mut Writer<'_>,
) -> Result<Option<LogArchive>> {
    let Some(since) = before.and_then(|snapshot| snapshot.manifest.position.as_ref()) else { return Ok(None) };
    let Some(log) = listing.log_since(since)? else { return Ok(None) };
    let (mut chunks, mut records, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in log.records {
        let mut record: LogRecord = record?;
        bytes += record.drop_if_larger(ARCHIVED_BYTES_MAX) + record.key.len();
        records.push(record);
        if bytes >= ARCHIVE_BYTES {
            chunks.push(writer.put_log(std::mem::take(&mut records))?);
            bytes = 0;
        }
    }
    if !records.is_empty() {
        chunks.push(writer.put_log(records)?);
    }
    Ok(Some(LogArchive { after: log.after, last: log.last, is_complete: log.is_complete, chunks }))
}
