//! The migration of documents from the layout before 5.0.0 to that of 5.0.0 and later; no I/O.
//!
//! It takes two passes over the source. In the first, a [`Survey`] is shown every name, and the content of those it
//! [wants](Survey::wants); several surveys, each of some documents, merge into one. What it learns are the [`Keys`]:
//! which project and model keep an id that several claim, and what the others get. In the second pass each document is
//! converted by itself, in any order and on any thread ([`Keys::convert`]), so the result depends on neither.
//!
//! Whatever becomes of a document is its [`Fate`]. Nothing vanishes: what is broken, or not understood, comes back byte
//! for byte under [`UNMIGRATED`].

mod account;
mod case;
mod choice;
mod convert;
mod dataflow;
mod fate;
mod ids;
mod jackson;
mod keys;
mod model;
mod plain;
mod rule;
mod survey;
mod system;

use crate::model::path::EntryPath;
use crate::platform::kylin::layout::{Layout, Level};

pub use account::{Account, Imbalance, Tally};
pub use choice::{Choice, Claim, Contested, Move, Refusal};
pub use fate::{Difference, Fate, Remark, Why};
pub use keys::Keys;
pub use rule::{Dropped, Form, Global, InProject, Rule, Unknown, rule_of};
pub use survey::Survey;

/// The folder, beside those of the types, that keeps what was not migrated under its old name.
pub const UNMIGRATED: &str = "_unmigrated";

/// The version of Kylin that new documents say to be of: the one whose layout is written.
pub const KYLIN_VERSION: &str = "5.0.2.0";

/// How the result lies in files.
pub const LAYOUT: Layout = Layout::New(Level::Core);

/// What the user decides about a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Do as Kylin's own tool does, for comparison, where no document is lost by that: its keys, its digits of numbers,
    /// texts for numbers where it writes such, and `_image`.
    pub as_kylin: bool,
    /// Give a new id also to a model or segment with built data, whose folders then have to be moved.
    pub rename_built: bool,
    /// Give the store a new identity if its own can't be read.
    pub new_identity: bool,
    /// Give tables and the like a new `uuid` if another project has a document with the same: a database refuses them.
    /// The survey then wants to see all of them.
    pub fresh_uuids: bool,
}

/// A document of the new layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// Its name in files: `MODEL/<key>.json`.
    pub name: EntryPath,
    /// Its path in snapshots: `<project>/MODEL/<key>`.
    pub path: EntryPath,
    /// What is in it.
    pub content: Vec<u8>,
    /// When the document it comes of was last changed, in nanoseconds since 1970.
    pub time_ns: i64,
}

/// What became of one document of the old layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The documents to write, in a fixed order; of one that is broken the one that keeps it.
    pub documents: Vec<NewDocument>,
    /// What the report says.
    pub fate: Fate,
    /// What else there is to say.
    pub remarks: Vec<Remark>,
}

impl Converted {
    /// Tells whether somebody should look at the document.
    pub fn is_problem(&self) -> bool {
        self.fate.is_problem() || self.remarks.iter().any(|remark| remark.difference == Difference::TextAfter)
    }
}

/// Returns what comes of a document whose place, of this name in the new layout, another one has.
pub fn kept_instead(name: &EntryPath, content: &[u8], time_ns: i64, place: &str, by: &EntryPath) -> Converted {
    let why = Why::Taken { place: place.to_owned(), by: by.to_string() };
    case::broken(name, content, time_ns, why, Vec::new())
}

/// Returns the name in the new layout under which something is kept that is not migrated.
pub fn unmigrated_name(old: &EntryPath) -> EntryPath {
    EntryPath::joined(&[UNMIGRATED.as_bytes(), old.as_bytes()])
}

#[cfg(test)]
mod tests;
