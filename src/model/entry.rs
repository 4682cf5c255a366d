//! An entry: one document (or directory) of a store, with what lets us believe it unchanged.

use crate::model::hash::{ChunkId, ContentId};
use crate::model::path::EntryPath;

/// What a store says of an entry without its content being read; equal stamps are taken for equal contents.
///
/// Files: modification time (ns since 1970), change time (ns), inode. Rows of a database: time, version, row id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// When the content was last written, in nanoseconds since 1970. Kept for restores.
    pub time_ns: i64,
    /// A counter or time that moves with every change. 0 says that the stamp proves nothing.
    pub version: i64,
    /// Tells the entry from another that took its name.
    pub identity: u64,
}

impl Stamp {
    /// Returns the stamp without its power to prove an entry unchanged.
    #[must_use]
    pub fn untrusted(self) -> Self {
        Self { version: 0, identity: 0, ..self }
    }

    /// Tells whether this stamp, kept earlier, proves that an entry with the stamp `now` was not written since.
    pub fn proves_unchanged(&self, now: &Stamp) -> bool {
        self.version != 0 && self == now
    }
}

/// A document: which bytes, how many, and how they are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Hash of the whole content.
    pub content: ContentId,
    /// Length of the content in bytes.
    pub size: u64,
    /// The chunks of a document that was cut, in order; empty for one that is stored whole.
    pub pieces: Box<[ChunkId]>,
}

/// How a store held a document whose content is kept as what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// As its content.
    #[default]
    Plain,
    /// Compressed as Kylin's tables do, see [`crate::platform::kylin::encoding`].
    Kylin,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A directory. It is no document: it counts neither in reports nor in the content root.
    Directory,
    /// A document.
    Document(Document),
}

/// One document or directory, as it is kept in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub body: Body,
    /// Permission bits (the low twelve), where the store has any.
    pub mode: Option<u16>,
    /// How the store held it.
    pub encoding: Encoding,
    /// What its store said of it when it was read.
    pub stamp: Stamp,
}

impl Entry {
    /// Returns the document, or nothing for a directory.
    pub fn document(&self) -> Option<&Document> {
        match &self.body {
            Body::Document(document) => Some(document),
            Body::Directory => None,
        }
    }

    /// Returns the document, or nothing for a directory.
    pub fn into_document(self) -> Option<Document> {
        match self.body {
            Body::Document(document) => Some(document),
            Body::Directory => None,
        }
    }

    /// Tells whether permissions differ. Those that a store does not have differ from none.
    pub fn differs_in_mode(&self, other: Option<u16>) -> bool {
        self.mode.zip(other).is_some_and(|(mine, other)| mine != other)
    }

    /// Tells whether both entries hold the same: equal content, or both directories. Stamps and modes do not count.
    pub fn same_content(&self, other: &Entry) -> bool {
        self.document().map(|document| document.content) == other.document().map(|document| document.content)
    }
}

impl Document {
    /// Returns the ids of the chunks that make up the document, in order.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkId> + '_ {
        let whole = self.pieces.is_empty().then(|| ChunkId::of_whole(self.content));
        whole.into_iter().chain(self.pieces.iter().copied())
    }
}

/// What a sorted stream is keyed by.
pub trait Keyed {
    /// Returns the path that places the value in its stream.
    fn path(&self) -> &EntryPath;
}

impl Keyed for Entry {
    fn path(&self) -> &EntryPath {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_that_is_not_trusted_tells_the_time_and_proves_nothing() {
        let stamp = Stamp { time_ns: 1, version: 2, identity: 3 };
        let untrusted = stamp.untrusted();
        assert_eq!(untrusted, Stamp { time_ns: 1, version: 0, identity: 0 });
        assert!(stamp.proves_unchanged(&stamp) && !untrusted.proves_unchanged(&untrusted));
    }
}
