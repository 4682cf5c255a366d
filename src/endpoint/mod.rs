//! Sources and targets: the stores that backups read and restores write.

pub mod directory;
pub mod json_list;
pub mod kylin;
pub mod location;
pub mod spool;
pub mod sql;
pub mod tar;
pub mod zip;

use std::cmp::Ordering;
use std::io::Read;

use crate::model::entry::{Document, Encoding, Entry, Stamp};
use crate::model::log::{LogPosition, LogRecord};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem};

/// What went wrong with a store as a whole. What concerns one entry is a [`Problem`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing at this place.
    #[error("the store {store} does not exist")]
    NotFound {
        /// The store.
        store: String,
    },
    /// There is something else than a store.
    #[error("{store} is neither a directory nor a zip or tar")]
    NotADirectory {
        /// What was taken for a store.
        store: String,
    },
    /// There is something else than a file.
    #[error("{store} is not a file")]
    NotAFile {
        /// What was taken for a store.
        store: String,
    },
    /// The store has no such project.
    #[error("the store {store} has no {scope}")]
    NoProject {
        /// The store.
        store: String,
        /// What was looked for.
        scope: Scope,
    },
    /// Something is in the store that was not there, or not like this, when the plan was made.
    #[error("{path} changed since the plan was made")]
    Changed {
        /// The entry.
        path: String,
    },
    /// The store is one file, and something in it is not as it must be: none of it is to be trusted.
    #[error("{store} is damaged or not to be trusted: {what}")]
    Damaged {
        /// The store.
        store: String,
        /// What is wrong with which part of it.
        what: String,
    },
    /// Something that is no document stands where one must be put.
    #[error("{path} is in the way of a document to put there, and is none itself")]
    InTheWay {
        /// What stands there.
        path: String,
    },
    /// The store can be read only.
    #[error("{store} can't be written: {why}")]
    ReadOnly {
        /// The store.
        store: String,
        /// Why not.
        why: &'static str,
    },
    /// There is a zip in a tar, where nobody looks into it.
    #[error("{store} holds a metadata.zip, and documents are not read out of a zip in a tar")]
    ZipWithin {
        /// The tar.
        store: String,
    },
    /// There are documents of both layouts of Kylin.
    #[error("{store} holds folders of both the old and the new layout of Kylin's metadata, which Kylin can't read")]
    MixedLayouts {
        /// The store.
        store: String,
    },
    /// There is a zip that holds a store, and something else that could be one.
    #[error(
        "{store} holds a metadata.zip and other files, such as {other}: where there is a zip, Kylin reads nothing else"
    )]
    ZipAndOthers {
        /// The folder.
        store: String,
        /// The first of the others.
        other: String,
    },
    /// There are several stores.
    #[error("{store} holds no metadata itself, but {} folders of backups: {}", names.len(), names.join(", "))]
    SeveralBackups {
        /// The folder.
        store: String,
        /// The folders in it.
        names: Vec<String>,
    },
    /// The documents of a snapshot have other names in this store.
    #[error("{store} lies in the layout {layout}, the snapshot in {wanted}")]
    OtherLayout {
        /// The store.
        store: String,
        /// Its layout.
        layout: &'static str,
        /// That of the snapshot.
        wanted: &'static str,
    },
    /// A snapshot is of a layout that this version does not know.
    #[error("the snapshot is of the layout {layout}, which this version does not know")]
    UnknownLayout {
        /// The layout.
        layout: String,
    },
    /// A database did not do what it was asked for.
    #[error("cannot {action} {store}")]
    Database {
        /// What was attempted, as a verb, perhaps with a preposition.
        action: &'static str,
        /// The store.
        store: String,
        /// What the database said.
        #[source]
        source: sql::SqlError,
    },
    /// A change was being committed when the connection to the database was lost, and what became of it can't be found out.
    #[error("it is not known whether {store} was changed: the connection was lost when all of it was to be committed")]
    OutcomeUnknown {
        /// The store.
        store: String,
        /// What became of the connection.
        #[source]
        source: sql::SqlError,
    },
    /// There is a database, but no metadata of Kylin under this identifier.
    #[error("{store} holds no metadata: no table of Kylin begins with `{identifier}`")]
    NoTables {
        /// The store.
        store: String,
        /// What names of tables begin with.
        identifier: String,
        /// Identifiers of other Kylins there.
        others: Vec<String>,
    },
    /// Some of the tables are there, and some are not.
    #[error("{store} lacks tables of Kylin: {}", names.join(", "))]
    MissingTables {
        /// The store.
        store: String,
        /// What is not there.
        names: Vec<String>,
    },
    /// A table has a name that is Kylin's, and other columns.
    #[error("the table {table} of {store} is none of Kylin's: it has no column {columns}")]
    ForeignTable {
        /// The store.
        store: String,
        /// The table.
        table: String,
        /// The columns it lacks.
        columns: String,
    },
    /// A document can't be put into its table.
    #[error("{path} can't be a row of its table: {why}")]
    NoRow {
        /// The document.
        path: String,
        /// Why not.
        why: String,
    },
    /// What was written is not what was to be written.
    #[error("{path} reads back other than it was written, and nothing was changed")]
    NotAsWritten {
        /// The document.
        path: String,
    },
    /// The monitor asked for a stop.
    #[error("interrupted")]
    Interrupted,
    /// An operation on the store failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Tells whether an error that came of one document is about the whole store.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Interrupted | Self::Database { .. } | Self::OutcomeUnknown { .. })
    }

    pub(crate) fn io(action: &'static str, path: impl std::fmt::Display, source: impl Into<std::io::Error>) -> Self {
        // A stream can fail in the words of `std::io` only: what it has to say is within.
        match source.into().downcast::<Self>() {
            Ok(error) => error,
            Err(source) => Self::Io { action, path: path.to_string(), source },
        }
    }
}

/// The result of an operation on a store.
pub type Result<T> = std::result::Result<T, Error>;

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

/// A document or directory to be put into a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Where it goes.
    pub path: EntryPath,
    /// The document; nothing for a directory.
    pub document: Option<Document>,
    /// Permission bits to give it.
    pub mode: Option<u16>,
    /// How the store it was saved from held it.
    pub encoding: Encoding,
    /// Modification time to give a document, in nanoseconds since 1970.
    pub time_ns: i64,
    /// The entry of the target's listing that it replaces.
    pub replaces: Option<u32>,
}

/// An entry to be removed from a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Where it is.
    pub path: EntryPath,
    /// Its number in the target's listing.
    pub found: u32,
    /// Whether it stands where something must be put, so that it goes first.
    pub is_in_the_way: bool,
}

/// A store that can be written.
pub trait Target: Source {
    /// Lists what is there now, which may be nothing at all: a target need not exist.
    ///
    /// # Errors
    /// As [`Source::scan`], but for a store or project that does not exist.
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>>;

    /// Begins a change of the store. Nothing of it is visible before [`Staging::commit`]; dropped before, it leaves
    /// nothing behind.
    ///
    /// # Errors
    /// When the store can't be written.
    fn begin<'a>(&'a self, listing: &'a dyn Listing, puts: &'a [Put]) -> Result<Box<dyn Staging + 'a>>;

    /// Returns what is to be known before so many documents are changed, if anything.
    fn advice(&self, _changes: usize) -> Option<String> {
        None
    }
}

/// Gives the name of the file for the path of a document.
pub type Names<'a> = &'a (dyn Fn(&EntryPath) -> EntryPath + Sync);

/// A store of files, which may be given other names than the paths of documents.
pub trait Files: Target {
    /// Begins a change as [`Target::begin`] does. The listing, and the removals to come, go by names.
    ///
    /// # Errors
    /// When the store can't be written.
    fn begin_named<'a>(
        &'a self,
        listing: &'a dyn Listing,
        puts: &'a [Put],
        names: Names<'a>,
    ) -> Result<Box<dyn Staging + 'a>>;
}

/// A change of a store in the making.
pub trait Staging: Sync {
    /// Returns a writer of documents, for one thread.
    fn writer(&self) -> Box<dyn StagingWriter + '_>;

    /// Makes the change: puts what was written, then removes.
    ///
    /// # Errors
    /// [`Error::Changed`], with nothing done, when an entry to be replaced or removed is not as it was listed.
    fn commit(self: Box<Self>, removals: &[Removal], monitor: &dyn Monitor) -> Result<()>;
}

/// Writes documents of a change.
pub trait StagingWriter {
    /// Writes the document of the n-th put from its pieces, in order.
    ///
    /// # Errors
    /// When the store can't be written.
    fn begin(&mut self, n: usize) -> Result<()>;

    /// Appends to the document that was begun last.
    ///
    /// # Errors
    /// When the store can't be written.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Ends the document that was begun last.
    ///
    /// # Errors
    /// When the store can't be written.
    fn finish(&mut self) -> Result<()>;
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
