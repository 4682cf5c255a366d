//! Sources and targets: the stores that backups read and restores write.

pub mod directory;
mod error;
pub mod json_list;
pub mod kylin;
pub mod location;
pub mod spool;
pub mod sql;
pub mod tar;
mod target;
pub mod zip;

use std::cmp::Ordering;
use std::io::Read;

use crate::model::entry::{Encoding, Entry, Stamp};
use crate::model::log::{LogPosition, LogRecord};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem};

pub use error::{Error, Result};
pub use target::{Files, Names, Put, Removal, Staging, StagingWriter, Target};

/// An entry as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: EntryPath,
    /// The size of a document in bytes; nothing for a directory.
    pub size: Option<u64>,
    /// Permission bits, where the store has any.
    pub mode: Option<u16>,
    /// How the store holds it, as far as that is known before it is read.
    pub encoding: Encoding,
    /// What the store says of it.
    pub stamp: Stamp,
}

/// What a listing shows of an entry besides its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The size of a document in bytes, a guess before it was read where [`Listing::proves`] says nothing of sizes; nothing
    /// for a directory.
    pub size: Option<u64>,
    /// Permission bits, where the store has any.
    pub mode: Option<u16>,
    /// How the store holds it, as far as that is known before it is read.
    pub encoding: Encoding,
    /// What the store says of it.
    pub stamp: Stamp,
}

/// What came of reading one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was read. The stamp belongs to the bytes that were read.
    Read(Stamp),
    /// It grew past the limit since it was listed and must be read as a stream. Nothing was appended.
    TooLarge,
}

/// The layout of a store whose names are the paths.
pub const PLAIN: &str = "plain";

/// A store that can be read.
pub trait Source: Sync {
    /// Returns where the store is, so that the same store is known again.
    fn location(&self) -> String;

    /// Returns the name of the layout in which the store is read: how its names become paths.
    fn layout(&self) -> &'static str {
        PLAIN
    }

    /// Tells whether stamps rest on the manners of those who write, so that contents are to be looked at now and then.
    fn needs_verifying(&self) -> bool {
        false
    }

    /// Lists the entries of a scope, with their stamps, without reading contents.
    ///
    /// # Errors
    /// When the store, or the project, can't be listed at all; what concerns one entry is in [`Listing::problems`] and
    /// was told to the monitor.
    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>>;

    /// Lists only what may have changed since a place in the store's own log of changes, and those of `besides`, kept
    /// earlier, that are not proven to be as they were, contents and all.
    ///
    /// # Errors
    /// When the store can't be listed at all. That its log does not tell is no error.
    fn scan_since(&self, _since: &LogPosition, _besides: &[Entry], _monitor: &dyn Monitor) -> Result<Since> {
        Ok(Since::Unknown("the store has no log of changes".to_owned()))
    }
}

/// What a store's log of changes tells.
pub enum Since {
    /// What may have changed; [`Listing::touched`] says of what the listing speaks.
    Changes(Box<dyn Listing>),
    /// It can't be told what changed, for this reason.
    Unknown(String),
}

/// Of what a listing of changes speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// One document.
    Document {
        /// Where it may be, or may have been.
        paths: Vec<EntryPath>,
        /// Whether it was nowhere else before.
        is_new: bool,
    },
    /// All documents of a kind, in all projects.
    Kind(Box<[u8]>),
}

/// Records of a store's log of changes.
pub struct LogRecords<'a> {
    /// Whether the log still has all since the place that was asked for.
    pub is_complete: bool,
    /// The records come after this one, but for some that came late.
    pub after: u64,
    /// The last of them.
    pub last: u64,
    /// The records, ascending.
    pub records: Box<dyn Iterator<Item = Result<LogRecord>> + 'a>,
}

/// The entries of a store at one time, each under its number.
///
/// An entry is *settled* when its path is known. Where only the content of a document tells where it is kept, that is
/// not so before the document was read, or recalled from an earlier snapshot; until then [`Listing::path`] is provisional.
pub trait Listing: Send + Sync {
    /// Returns how many numbers there are.
    fn len(&self) -> usize;

    /// Tells whether there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the path of the n-th entry.
    fn path(&self, n: usize) -> EntryPath;

    /// Returns all else that is known of the n-th entry.
    fn facts(&self, n: usize) -> Facts;

    /// Returns the n-th entry.
    fn found(&self, n: usize) -> Found {
        let Facts { size, mode, encoding, stamp } = self.facts(n);
        Found { path: self.path(n), size, mode, encoding, stamp }
    }

    /// Tells whether the n-th entry is proven to hold what `entry`, kept earlier at the same place, holds.
    fn proves(&self, n: usize, entry: &Entry) -> bool {
        let found = self.facts(n);
        let size = entry.document().map(|document| document.size);
        size == found.size && entry.mode == found.mode && entry.stamp.proves_unchanged(&found.stamp)
    }

    /// Returns the numbers of the entries in the scope, ascending.
    fn numbers(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        Box::new(0..u32::try_from(self.len()).expect("fewer than 2^32 entries"))
    }

    /// Returns the numbers of the entries in the scope, sorted by path.
    fn in_order(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        self.numbers()
    }

    /// Returns the number of the entry that is what is kept at `path`, though perhaps at another path now. It is looked
    /// for next to the entry numbered `near` first: who looks for sorted paths should say where the last was found.
    fn find(&self, path: &EntryPath, near: usize) -> Option<usize>;

    /// Returns the numbers of the entries that are not settled.
    fn unsettled(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Settles the n-th entry, which is proven unchanged since it was kept at `path`. Returns whether it is still there.
    fn recall(&self, _n: usize, _path: &EntryPath) -> bool {
        true
    }

    /// Takes the n-th entry, which does not tell where it is kept, for what is kept at `path`: a restore puts the sound
    /// document back in its place.
    fn adopt(&self, _n: usize, _path: &EntryPath) {}

    /// Returns what is odd about documents that were read or recalled so far, though they are kept as they are; sorted
    /// by path.
    fn remarks(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// Returns the paths at which there is something that is no document and is never touched.
    fn obstacles(&self) -> &[EntryPath];

    /// Tells whether what is kept at a path may be in the store though the listing does not show it: in a directory that
    /// could not be listed, or in a document that could not be read.
    fn hides(&self, path: &EntryPath) -> bool;

    /// Tells whether the store has a place for what is kept at a path.
    fn has_place(&self, _path: &EntryPath) -> bool {
        true
    }

    /// Returns the listing of files that this one was made of, if it was.
    fn of_files(&self) -> Option<&dyn Listing> {
        None
    }

    /// Returns what is not in the listing though it should be.
    fn problems(&self) -> &[Problem];

    /// Tells whether an entry with this stamp may be written again without its stamp moving: it was written when the
    /// listing began or later, give or take the coarseness of the store's clock.
    fn is_racy(&self, stamp: &Stamp) -> bool;

    /// Returns the place in the store's own log of changes that the listing shows.
    ///
    /// # Errors
    /// When the log can't be read.
    fn position(&self, _since: Option<&LogPosition>) -> Result<Option<LogPosition>> {
        Ok(None)
    }

    /// Returns of what the listing speaks, if it is one of changes: all else is as it was.
    fn touched(&self) -> Option<&[Touched]> {
        None
    }

    /// Returns the records of the store's log after a place in it; nothing if it has no log.
    ///
    /// # Errors
    /// When the log can't be read.
    fn log_since<'a>(&'a self, _since: &LogPosition) -> Result<Option<LogRecords<'a>>> {
        Ok(None)
    }

    /// Returns the listing as what it is, for the store that made it.
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        None
    }

    /// Looks at the contents of documents that were kept earlier, and returns which of these entries are not proven to be
    /// in the store as they were.
    ///
    /// # Errors
    /// When the store can't be read.
    fn unproven(&self, entries: &[Entry], _monitor: &dyn Monitor) -> Result<Vec<usize>> {
        Ok((0..entries.len()).collect())
    }

    /// Returns a reader of documents, for one thread.
    fn reader(&self) -> Box<dyn Reader + '_>;

    /// Checks at the end of a backup that the store is still the one that was listed.
    ///
    /// # Errors
    /// When it went away meanwhile.
    fn check_still_there(&self) -> Result<()>;
}

/// Finds what is equal in a sorted sequence of `len` values, by the order of each to what is sought. It takes few steps
/// if that is close to `near`.
pub fn find_near(len: usize, near: usize, order: impl Fn(usize) -> Ordering) -> Option<usize> {
    let near = near.min(len.checked_sub(1)?);
    // Widen the range around the last place until it holds what is sought, then halve it.
    let (mut low, mut high, mut step) = (near, near, 1);
    match order(near) {
        Ordering::Equal => return Some(near),
        Ordering::Less => {
            while high < len && order(high) == Ordering::Less {
                low = high;
                high = (high + step).min(len);
                step *= 2;
            }
        }
        Ordering::Greater => {
            high += 1;
            while low > 0 && order(low) == Ordering::Greater {
                high = low + 1;
                low = low.saturating_sub(step);
                step *= 2;
            }
        }
    }
    high = (high + 1).min(len);
    while low < high {
        let middle = low.midpoint(high);
        match order(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Some(middle),
            Ordering::Greater => high = middle,
        }
    }
    None
}

/// Reads documents of a listing.
pub trait Reader {
    /// Says which documents will be read next, in this order: a store behind a network fetches many at once.
    ///
    /// # Errors
    /// When the store can't be reached any more.
    fn prepare(&mut self, _numbers: &[u32]) -> Result<()> {
        Ok(())
    }

    /// Appends the content of the n-th entry to `content`, if it has `bytes_max` bytes at most.
    ///
    /// # Errors
    /// When it can't be read, or never stays the same while it is read. `content` is then as before.
    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome>;

    /// Opens the n-th entry as a stream.
    ///
    /// # Errors
    /// When it can't be opened. When reading fails later, the `std::io::Error` may hold an [`Error`].
    fn stream(&mut self, n: usize) -> Result<Box<dyn DocumentStream>>;
}

/// A document being read piece by piece.
pub trait DocumentStream: Read + Send {
    /// Returns the stamp of the document if it stayed the same from the first byte to the last; nothing if it did not.
    ///
    /// # Errors
    /// When that can't be found out.
    fn finish(self: Box<Self>) -> Result<Option<Stamp>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_near_finds_from_anywhere() {
        let values: Vec<u32> = (0..50).map(|n| n * 2).collect();
        for near in 0..60 {
            for sought in 0..102 {
                let found = find_near(values.len(), near, |n| values[n].cmp(&sought));
                assert_eq!(found, values.binary_search(&sought).ok(), "{sought} near {near}");
            }
        }
        assert_eq!(find_near(0, 7, |_| Ordering::Equal), None);
    }
}
