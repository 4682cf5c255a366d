//! What everything else speaks of: hashes, paths, entries, scopes, and the merge of two sorted streams. No I/O.

pub mod clock;
pub mod entry;
pub mod hash;
pub mod log;
pub mod merge;
pub mod path;
pub mod pointer;
pub mod root;
pub mod scope;
