//! What many snapshots hold at paths that fit: each content at each path once, with the snapshots that have it.
//!
//! Snapshots of one store are looked at in turn, and only where they differ from the one before: thousands of them cost
//! little more than what changed in all that time.

use std::collections::BTreeMap;

use super::{Found, Query, tree_of};
use crate::model::entry::Entry;
use crate::model::merge::Pair;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity};
use crate::ops::{Error, Result};
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::{Difference, Tree, differences};

/// What was collected.
#[derive(Debug, Default)]
pub(super) struct Versions {
    by_path: BTreeMap<EntryPath, Vec<Span>>,
    /// Snapshots whose trees can't be read.
    pub unread: u64,
}

/// One content at one path.
#[derive(Debug)]
struct Span {
    found: Found,
    /// While the snapshots that are looked at have it: how many of their store were looked at before.
    since: Option<usize>,
}

/// Collects what snapshots hold.
///
/// # Errors
/// When a snapshot does not hold the scope, or the storage can't be read. Damaged trees are told to the monitor.
pub(super) fn collect(
    repo: &Repository,
    snapshots: &[Snapshot],
    scope: &Scope,
    query: &Query,
    monitor: &dyn Monitor,
) -> Result<Versions> {
    let mut stores: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (n, snapshot) in snapshots.iter().enumerate() {
        let manifest = &snapshot.manifest;
        stores.entry((&manifest.host, &manifest.store, &manifest.layout, &manifest.scope)).or_default().push(n);
    }
    let mut versions = Versions::default();
    for numbers in stores.into_values() {
        let mut seen: Vec<usize> = Vec::new();
        let mut before: Option<Tree> = None;
        for n in numbers {
            if monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            match changes(repo, before.as_ref(), &snapshots[n], scope, query) {
                Ok((tree, changes)) => {
                    changes.into_iter().for_each(|change| versions.apply(change, &seen, n));
                    seen.push(n);
                    before = Some(tree);
                }
                Err(Error::Repository(error)) if error.is_damage() => {
                    versions.unread += 1;
                    let path = format!("snapshot {}", snapshots[n].id.short());
                    let what = error.to_string();
                    monitor.problem(&Problem { severity: Severity::Unread, path, what });
                }
                Err(error) => return Err(error),
            }
        }
        versions.end_of_store(&seen);
    }
    Ok(versions)
}

/// Returns the tree of a snapshot, and where it differs from another, at paths that fit.
fn changes(
    repo: &Repository,
    before: Option<&Tree>,
    snapshot: &Snapshot,
    scope: &Scope,
    query: &Query,
) -> Result<(Tree, Vec<Difference>)> {
    let tree = tree_of(repo, snapshot, scope)?;
    let fits = |entry: &Entry| query.wants_path(&entry.path);
    let changes = match before {
        None => repo
            .entries(&tree, scope)
            .filter(|entry| entry.as_ref().map_or(true, fits))
            .map(|entry| entry.map(Pair::Right))
            .collect::<std::result::Result<_, _>>()?,
        Some(before) => differences(repo, before, &tree, scope)?
            .filter(|pair| {
                pair.as_ref().map_or(true, |pair| match pair {
                    Pair::Left(entry) | Pair::Right(entry) | Pair::Both(entry, _) => fits(entry),
                })
            })
            .collect::<std::result::Result<_, _>>()?,
    };
    Ok((tree, changes))
}

impl Versions {
    /// Takes what the n-th snapshot has changed since those of its store that were seen.
    fn apply(&mut self, change: Difference, seen: &[usize], n: usize) {
        let (before, after) = match change {
            Pair::Left(before) => (Some(before), None),
            Pair::Right(after) => (None, Some(after)),
            Pair::Both(before, after) => (Some(before), Some(after)),
        };
        if let Some(before) = before
            && let Some(spans) = self.by_path.get_mut(&before.path)
        {
            spans.iter_mut().for_each(|span| span.close(seen));
        }
        let Some(after) = after.filter(|entry| entry.document().is_some()) else { return };
        let spans = self.by_path.entry(after.path.clone()).or_default();
        match spans.iter_mut().find(|span| span.found.entry.same_content(&after)) {
            Some(span) => {
                span.since = Some(seen.len());
                // Other stores may have begun with later ones.
                span.found.first = span.found.first.min(n);
            }
            None => {
                let found = Found { entry: after, snapshots: 0, first: n, last: n };
                spans.push(Span { found, since: Some(seen.len()) });
            }
        }
    }

    fn end_of_store(&mut self, seen: &[usize]) {
        self.by_path.values_mut().flatten().for_each(|span| span.close(seen));
    }
}

impl Span {
    /// The snapshots that come now do not have it any more.
    fn close(&mut self, seen: &[usize]) {
        let Some(since) = self.since.take() else { return };
        self.found.snapshots += (seen.len() - since) as u64;
        self.found.last = self.found.last.max(seen.last().copied().unwrap_or_default());
    }
}

impl Versions {
    /// Returns what was collected, in path order, the contents at one path oldest first.
    pub(super) fn into_iter(self) -> impl Iterator<Item = Found> {
        self.by_path.into_values().flat_map(|mut spans| {
            spans.sort_by_key(|span| span.found.first);
            spans.into_iter().map(|span| span.found)
        })
    }
}
