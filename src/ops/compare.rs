//! What a backup has to do: a listing compared with the parent's tree.

use super::Result;
use super::contents::{Before, Read};
use super::live::{is_unlisted, listed};
use crate::endpoint::{Found, Listing};
use crate::model::entry::{Body, Entry, Stamp};
use crate::model::merge::{Pair, merge};
use crate::repo;
use crate::repo::tree::Record;

/// What comparing a listing with the parent gave.
#[derive(Default)]
pub(super) struct Comparison {
    /// Documents to read, in path order.
    pub reads: Vec<Read>,
    /// What changed without being read: removals and directories.
    pub records: Vec<Record>,
    pub new: u64,
    pub removed: u64,
    pub unchanged: u64,
}

/// Compares a listing with the entries of the parent. With `force` no stamp proves anything.
pub(super) fn compare(
    listing: &dyn Listing,
    before: impl Iterator<Item = repo::Result<Entry>>,
    force: bool,
) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    for pair in merge(listed(listing), before) {
        let pair: Result<_> = pair;
        match pair? {
            Pair::Left((n, found)) => {
                if let Some(size) = found.size {
                    comparison.new += 1;
                    comparison.reads.push(Read { n, size, before: None });
                } else {
                    comparison.records.push(Record::Present(directory(found)));
                }
            }
            Pair::Right(entry) => {
                // What is in a directory that could not be listed is unread, and counted with the directory.
                let is_gone = !is_unlisted(listing, &entry.path);
                comparison.removed += u64::from(is_gone && entry.document().is_some());
                comparison.records.push(Record::Removed(entry.path));
            }
            Pair::Both((n, found), entry) => comparison.push_both(listing, n, found, &entry, force),
        }
    }
    Ok(comparison)
}

impl Comparison {
    fn push_both(&mut self, listing: &dyn Listing, n: u32, found: Found, entry: &Entry, force: bool) {
        match (found.size, entry.document()) {
            (Some(size), Some(document)) => {
                let is_same_size = size == document.size;
                if !force && is_same_size && entry.mode == found.mode && entry.stamp.proves_unchanged(&found.stamp) {
                    self.unchanged += 1;
                    return;
                }
                let kept = stamp_to_keep(listing, found.stamp);
                let is_same_otherwise = is_same_size && entry.mode == found.mode && entry.stamp == kept;
                let is_mode_changed = entry.mode != found.mode;
                let before = Before { content: Some(document.content), is_same_otherwise, is_mode_changed };
                self.reads.push(Read { n, size, before: Some(Box::new(before)) });
            }
            (Some(size), None) => {
                self.new += 1;
                let before = Before { content: None, is_same_otherwise: false, is_mode_changed: false };
                self.reads.push(Read { n, size, before: Some(Box::new(before)) });
            }
            (None, document) => {
                self.removed += u64::from(document.is_some());
                if document.is_some() || entry.mode != found.mode {
                    self.records.push(Record::Present(directory(found)));
                }
            }
        }
    }

    /// Returns an upper bound of the number of entries that differ from the parent's.
    pub(super) fn count(&self) -> usize {
        self.reads.len() + self.records.len()
    }
}

/// Returns the entry of a directory.
pub(super) fn directory(found: Found) -> Entry {
    // The stamp of a directory moves whenever something in it does: kept, it would only make noise.
    Entry { path: found.path, body: Body::Directory, mode: found.mode, stamp: Stamp::default() }
}

/// Returns the stamp to keep for an entry: one that proves nothing when the entry could still be written in the same
/// tick of the clock.
pub(super) fn stamp_to_keep(listing: &dyn Listing, stamp: Stamp) -> Stamp {
    if listing.is_racy(&stamp) { stamp.untrusted() } else { stamp }
}
