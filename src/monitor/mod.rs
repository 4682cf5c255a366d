//! Progress and problems: what an operation tells whoever runs it while it runs.

use std::fmt;
use std::sync::Mutex;

/// A phase of an operation, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Listing a store; counts entries.
    Scan,
    /// Reading documents and storing what is new; counts documents.
    Store,
    /// Documents are read, to look at them.
    Read,
    /// Comparing documents by content; counts documents.
    Compare,
    /// Looking for something in documents; counts documents.
    Search,
    /// Writing documents to a target; counts documents.
    Write,
    /// Reading what snapshots refer to; counts snapshots.
    Collect,
    /// Copying what is needed of packs into new ones; counts bytes.
    Repack,
    /// Copying what is needed to another repository; counts bytes.
    Copy,
    /// Removing what nobody needs; counts files.
    Remove,
    /// Verifying what a repository holds; counts bytes.
    Verify,
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something is odd about a document, which is in the snapshot as it is.
    Remark,
    /// Something is not a document (a symlink, a socket) and is not in the snapshot.
    Skipped,
    /// A document could not be read: the snapshot is incomplete.
    Unread,
}

/// Something that went wrong with one entry while the operation as a whole went on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The entry, as text.
    pub path: String,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Receives progress and problems, and may ask for a stop. Called from several threads at once.
pub trait Monitor: Sync {
    /// A phase begins; `total` is what [`Monitor::advance`] will add up to, if known.
    fn start(&self, task: Task, total: Option<u64>);
    /// That much more of the current phase is done.
    fn advance(&self, count: u64);
    /// A problem occurred. The operation goes on and counts it in its report.
    fn problem(&self, problem: &Problem);
    /// Tells whether the operation should stop at the next safe point.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Ignores everything.
#[derive(Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn start(&self, _: Task, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn problem(&self, _: &Problem) {}
}

/// Keeps the problems, for tests and embedders.
#[derive(Debug, Default)]
pub struct Recorder {
    problems: Mutex<Vec<Problem>>,
}

impl Recorder {
    /// Returns the problems so far, in the order they came.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Monitor for Recorder {
    fn start(&self, _: Task, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn problem(&self, problem: &Problem) {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(problem.clone());
    }
}
