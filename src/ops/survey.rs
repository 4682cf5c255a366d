//! What a backup has to do: a listing beside the parent's tree, before and after documents are read.

use std::collections::HashMap;

use super::Result;
use super::contents::{Read, Stored};
use super::live::listed;
use crate::endpoint::{Found, Listing};
use crate::model::entry::{Body, Document, Entry, Stamp};
use crate::model::hash::{ChunkId, ContentId};
use crate::model::merge::{Pair, merge};
use crate::model::path::EntryPath;
use crate::repo;
use crate::repo::tree::Record;

/// What is known of an entry of the listing, as a number: there may be millions. Nothing, or it is a directory.
const NOTHING: u32 = 0;
/// The document is as in the parent.
const UNCHANGED: u32 = 1;
/// The document can't be read.
const UNREAD: u32 = 2;
/// The first of the numbers of documents that were read.
const READ: u32 = 3;

/// Which documents must be read, and what came of it.
pub(super) struct Survey {
    known: Vec<u32>,
    /// Documents that the parent does not have.
    pub new: u64,
    /// Documents that only the parent has.
    pub removed: u64,
    /// Documents that are proven unchanged.
    pub unchanged: u64,
    /// Entries that are not as in the parent, as far as can be told before reading; none only if that is certain.
    pub different: usize,
    /// Contents of the documents that were read.
    read: Vec<ContentId>,
    /// What only few of them have.
    rare: HashMap<u32, Rare>,
}

/// What a document that was read has other than when it was listed.
struct Rare {
    stamp: Stamp,
    size: u64,
    pieces: Box<[ChunkId]>,
}

impl Survey {
    /// Looks at the stamps: what equals that of the parent need not be read, if stamps are believed. Where all is settled,
    /// what has another path now is gone from where it was.
    pub(super) fn begin(
        listing: &dyn Listing,
        before: impl Iterator<Item = repo::Result<Entry>>,
        is_settled: bool,
        believes_stamps: bool,
    ) -> Result<Self> {
        let mut survey = Self {
            known: vec![NOTHING; listing.len()],
            new: 0,
            removed: 0,
            unchanged: 0,
            different: 0,
            read: Vec::new(),
            rare: HashMap::new(),
        };
        let (mut near, mut same_documents, mut same_directories) = (0, 0_u64, 0_usize);
        for entry in before {
            let entry = entry?;
            let Some(n) = listing.find(&entry.path, near) else {
                let is_gone = entry.document().is_some() && !listing.hides(&entry.path);
                survey.removed += u64::from(is_gone);
                survey.different += 1;
                continue;
            };
            near = n;
            if is_settled && listing.path(n) != entry.path {
                survey.removed += u64::from(entry.document().is_some());
                survey.different += 1;
                continue;
            }
            let found = listing.facts(n);
            match (found.size, entry.document()) {
                (Some(_), Some(_)) => {
                    same_documents += 1;
                    if believes_stamps && listing.proves(n, &entry) && listing.recall(n, &entry.path) {
                        survey.known[n] = UNCHANGED;
                        survey.unchanged += 1;
                    }
                }
                (None, None) if entry.mode == found.mode => same_directories += 1,
                (None, Some(_)) => survey.removed += 1,
                _ => {}
            }
        }
        let (mut documents, mut directories) = (0_u64, 0_usize);
        for n in listing.numbers() {
            match listing.facts(n as usize).size {
                Some(_) => documents += 1,
                None => directories += 1,
            }
        }
        survey.new = documents.saturating_sub(same_documents);
        survey.different += usize::try_from(documents.saturating_sub(survey.unchanged)).unwrap_or(usize::MAX);
        survey.different += directories.saturating_sub(same_directories);
        Ok(survey)
    }

    /// Has a document read after all whose stamp proved it unchanged.
    pub(super) fn distrust(&mut self, listing: &dyn Listing, path: &EntryPath) {
        let Some(n) = listing.find(path, 0).filter(|n| self.known[*n] == UNCHANGED) else { return };
        self.known[n] = NOTHING;
        self.unchanged -= 1;
        self.different += 1;
    }

    /// Returns the documents to read, in the order of their numbers.
    pub(super) fn to_read(&self, listing: &dyn Listing) -> Vec<Read> {
        let documents = listing.numbers().filter_map(|n| {
            let size = listing.facts(n as usize).size?;
            (self.known[n as usize] == NOTHING).then_some(Read { n, size })
        });
        let mut reads: Vec<Read> = documents.collect();
        reads.sort_unstable_by_key(|read| read.n);
        reads
    }

    /// Keeps what came of reading a document; nothing if it can't be read.
    pub(super) fn keep(&mut self, listing: &dyn Listing, n: u32, stored: Option<Stored>) {
        let Some(Stored { document, stamp }) = stored else {
            self.known[n as usize] = UNREAD;
            return;
        };
        let found = listing.facts(n as usize);
        self.known[n as usize] = READ + u32::try_from(self.read.len()).expect("no more than there are entries");
        self.read.push(document.content);
        if stamp != found.stamp || Some(document.size) != found.size || !document.pieces.is_empty() {
            self.rare.insert(n, Rare { stamp, size: document.size, pieces: document.pieces });
        }
    }

    /// Walks what the store holds beside the parent, in path order, now that all is read and settled.
    pub(super) fn results<'a>(
        &'a self,
        listing: &'a dyn Listing,
        before: impl Iterator<Item = repo::Result<Entry>> + 'a,
    ) -> impl Iterator<Item = Result<Outcome>> + 'a {
        merge(listed(listing), before).map(move |pair: Result<_>| {
            Ok(match pair? {
                Pair::Left((n, found)) => self.outcome(listing, n, found, None),
                Pair::Both((n, found), before) => self.outcome(listing, n, found, Some(before)),
                Pair::Right(before) => {
                    let change = if listing.hides(&before.path) { Change::Unknown } else { Change::Removed };
                    Outcome { change, now: None, before: Some(before), is_behind: false }
                }
            })
        })
    }

    fn outcome(&self, listing: &dyn Listing, n: u32, found: Found, before: Option<Entry>) -> Outcome {
        let Some(size) = found.size else {
            let change = match &before {
                Some(before) if before.document().is_some() => Change::Removed,
                Some(before) if before.mode == found.mode => Change::None,
                _ => Change::Directory,
            };
            // The stamp of a directory moves whenever something in it does: kept, it would only make noise.
            let now = Entry {
                path: found.path,
                body: Body::Directory,
                mode: found.mode,
                encoding: found.encoding,
                stamp: Stamp::default(),
            };
            return Outcome { change, now: Some(now), before, is_behind: false };
        };
        if self.known[n as usize] == UNCHANGED {
            return Outcome { change: Change::None, now: before.clone(), before, is_behind: false };
        }
        let Some(at) = self.known[n as usize].checked_sub(READ) else {
            return Outcome { change: Change::Unread, now: None, before, is_behind: false };
        };
        let content = self.read[at as usize];
        let (stamp, size, pieces) = match self.rare.get(&n) {
            None => (found.stamp, size, Box::default()),
            Some(rare) => (rare.stamp, rare.size, rare.pieces.clone()),
        };
        let body = Body::Document(Document { content, size, pieces });
        let stamp = stamp_to_keep(listing, stamp);
        let now = Entry { path: found.path, body, mode: found.mode, encoding: found.encoding, stamp };
        let change = match before.as_ref().map(Entry::document) {
            None | Some(None) => Change::New,
            Some(Some(document)) if document.content != content => Change::Content,
            Some(_) if before.as_ref() == Some(&now) => Change::None,
            Some(_) if before.as_ref().is_some_and(|before| before.mode != now.mode) => Change::Mode,
            Some(_) => Change::Stamp,
        };
        let is_behind =
            change == Change::Content && before.as_ref().is_some_and(|before| before.stamp.proves_unchanged(&stamp));
        Outcome { change, now: Some(now), before, is_behind }
    }
}

/// How an entry differs from the parent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Not at all.
    None,
    /// A document that is new.
    New,
    /// A document with other content.
    Content,
    /// A document with other permissions only.
    Mode,
    /// A document of which only the stamp is another.
    Stamp,
    /// A directory that is new, or has other permissions.
    Directory,
    /// A document that is gone; there may be a directory in its place.
    Removed,
    /// A document that can't be read.
    Unread,
    /// Something that may be there still, in a directory that could not be listed: it is counted with that.
    Unknown,
}

/// What a backup found at one path.
#[derive(Debug)]
pub(super) struct Outcome {
    pub change: Change,
    pub now: Option<Entry>,
    before: Option<Entry>,
    /// Whether the content changed though the store says that it did not.
    pub is_behind: bool,
}

impl Outcome {
    /// Returns what to record over the parent's tree, if anything.
    pub(super) fn into_record(self) -> Option<Record> {
        match (self.now, self.before) {
            _ if self.change == Change::None => None,
            (Some(now), _) => Some(Record::Present(now)),
            (None, before) => before.map(|before| Record::Removed(before.path)),
        }
    }

    /// Tells whether what is counted as removed was a document.
    pub(super) fn was_document(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.document().is_some())
    }
}

/// Returns the stamp to keep for an entry: one that proves nothing when the entry could still be written in the same
/// tick of the clock.
fn stamp_to_keep(listing: &dyn Listing, stamp: Stamp) -> Stamp {
    if listing.is_racy(&stamp) { stamp.untrusted() } else { stamp }
}
