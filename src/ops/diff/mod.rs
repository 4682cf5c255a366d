//! Diff: what changed between two snapshots, or between a snapshot and a live store.

mod arrays;
mod contents;
mod json;
mod noise;

pub use contents::{Detail, diff_live_contents, diff_snapshots_contents};
pub use json::{JsonDifference, Step, compare};
pub use noise::{DEFAULT_NOISE, Noise};

use super::live::live_differences;
use super::settle::scan_settled;
use super::{Result, require_scope};
use crate::endpoint::{Listing, Source};
use crate::model::entry::Entry;
use crate::model::merge::Pair;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Severity};
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::{Difference, Tree, differences};

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the second side has it.
    Added,
    /// Only the first side has it.
    Removed,
    /// Both have it, with different contents.
    Changed,
    /// Both have it, with different permissions only.
    Mode,
}

/// One entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Where it is.
    pub path: EntryPath,
    /// How it differs.
    pub change: Change,
    /// The entry on the first side.
    pub before: Option<Entry>,
    /// The entry on the second side.
    pub after: Option<Entry>,
}

/// What a diff counted: documents, and apart from them directories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffReport {
    /// On the second side only.
    pub added: u64,
    /// On the first side only.
    pub removed: u64,
    /// Other content.
    pub changed: u64,
    /// Other permissions only.
    pub mode: u64,
    /// Directories that differ in any way.
    pub directories: u64,
    /// Documents of a live store that could not be read or are none.
    pub problems: u64,
}

impl DiffReport {
    /// Tells whether anything differs.
    pub fn is_different(&self) -> bool {
        self.added + self.removed + self.changed + self.mode + self.directories > 0
    }
}

/// Compares two snapshots; hands each difference to `take`, in path order.
///
/// # Errors
/// When a snapshot does not hold the scope, or the repository can't be read.
pub fn diff_snapshots(
    repo: &Repository,
    before: &Snapshot,
    after: &Snapshot,
    scope: &Scope,
    mut take: impl FnMut(Changed) -> Result<()>,
) -> Result<DiffReport> {
    let (tree_before, tree_after) = (repo.tree(&before.manifest.tree)?, repo.tree(&after.manifest.tree)?);
    require_scope(before, &tree_before, scope).or_else(|_| require_scope(after, &tree_after, scope))?;
    let mut report = DiffReport::default();
    for pair in differences(repo, &tree_before, &tree_after, scope)? {
        report.count_and_give(pair?, &mut take)?;
    }
    Ok(report)
}

/// Compares a snapshot with a live store; hands each difference to `take`, in path order.
///
/// # Errors
/// When the snapshot does not hold the scope, or either side can't be read.
pub fn diff_live(
    repo: &Repository,
    before: &Snapshot,
    live: &dyn Source,
    scope: &Scope,
    monitor: &dyn Monitor,
    take: impl FnMut(Changed) -> Result<()>,
) -> Result<DiffReport> {
    let tree = repo.tree(&before.manifest.tree)?;
    require_scope(before, &tree, scope)?;
    let (listing, unsettled) = scan_settled(live, repo, false, monitor, || live.scan(scope, monitor))?;
    diff_listing(repo, &tree, &*listing, unsettled, scope, monitor, take)
}

/// Compares a tree with the listing of a live store, of which so many documents could not be settled.
fn diff_listing(
    repo: &Repository,
    tree: &Tree,
    listing: &dyn Listing,
    unsettled: u64,
    scope: &Scope,
    monitor: &dyn Monitor,
    mut take: impl FnMut(Changed) -> Result<()>,
) -> Result<DiffReport> {
    let mut report = DiffReport::default();
    let found = live_differences(listing, repo.entries(tree, scope), monitor, |pair| {
        let pair = match pair {
            Pair::Left(live) => Pair::Right(live),
            Pair::Right(entry) => Pair::Left(entry),
            Pair::Both(live, entry) => Pair::Both(entry, live),
        };
        report.count_and_give(pair, &mut take)
    })?;
    let unlisted = listing.problems().iter().filter(|problem| problem.severity >= Severity::Skipped).count() as u64;
    report.problems = found.unread.max(unsettled) + unlisted;
    Ok(report)
}

impl DiffReport {
    fn count_and_give(&mut self, pair: Difference, take: &mut impl FnMut(Changed) -> Result<()>) -> Result<()> {
        let (before, after) = match pair {
            Pair::Left(before) => (Some(before), None),
            Pair::Right(after) => (None, Some(after)),
            Pair::Both(before, after) => (Some(before), Some(after)),
        };
        let (change, count) = match (&before, &after) {
            (Some(before), Some(after)) if before.same_content(after) => (Change::Mode, &mut self.mode),
            (Some(_), Some(_)) => (Change::Changed, &mut self.changed),
            (Some(_), None) => (Change::Removed, &mut self.removed),
            _ => (Change::Added, &mut self.added),
        };
        let Some(path) = before.as_ref().or(after.as_ref()).map(|entry| entry.path.clone()) else { return Ok(()) };
        let has_document = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.document().is_some());
        if has_document(&before) || has_document(&after) {
            *count += 1;
        } else {
            self.directories += 1;
        }
        take(Changed { path, change, before, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_alone_is_one_and_a_problem_is_none() {
        let none = DiffReport::default();
        let different = [
            DiffReport { added: 1, ..none },
            DiffReport { removed: 1, ..none },
            DiffReport { changed: 1, ..none },
            DiffReport { mode: 1, ..none },
            DiffReport { directories: 1, ..none },
        ];
        assert!(different.iter().all(DiffReport::is_different));
        assert!(!DiffReport { problems: 1, ..none }.is_different());
    }
}
