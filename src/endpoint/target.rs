//! Stores that can be written: a change is staged, then committed.

use super::{Listing, Result, Source};
use crate::model::entry::{Document, Encoding};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::Monitor;

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
    /// [`Error::Changed`](super::Error::Changed), with nothing done, when an entry to be replaced or removed is not as it was listed.
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
