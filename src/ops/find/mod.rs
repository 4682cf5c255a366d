//! Find: documents of one snapshot, or of many, by path and content.

mod query;
mod versions;

pub use query::{BadQuery, FindOptions, Query};

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use super::gather::{Gathered, gather};
use super::{Error, Result, require_scope};
use crate::model::entry::{Document, Entry};
use crate::model::hash::ContentId;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::Tree;

/// Documents whose contents are looked at together at first: the first results come soon.
const TOGETHER_MIN: usize = 1 << 12;
/// Most documents whose contents are looked at together. More of them are fetched in turn, which decodes frames again that
/// both have a part in.
const TOGETHER_MAX: usize = 1 << 18;
/// Most contents of which it is known whether they are looked for. Beyond that what is known is forgotten.
const VERDICTS_MAX: usize = 1 << 20;

/// A document that was found: one content at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The document, as the first of these snapshots has it.
    pub entry: Entry,
    /// In how many of the snapshots that were searched it is.
    pub snapshots: u64,
    /// The place of the first of them among those that were searched.
    pub first: usize,
    /// The place of the last of them. It need not be in all between.
    pub last: usize,
}

/// What a search counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FindReport {
    /// Paths at which something was found.
    pub documents: u64,
    /// Contents that were found, counted at each path.
    pub versions: u64,
    /// Documents that could not be read, and snapshots.
    pub unread: u64,
}

/// Searches snapshots, which are given oldest first, and hands what is found to `take`, in path order, the contents at one
/// path oldest first. Of several snapshots, documents whose path fits are held until all snapshots were looked at; a content
/// is read once, however many snapshots and paths have it.
///
/// # Errors
/// When a snapshot does not hold the scope, or the storage can't be read. What is damaged is told to the monitor and counted.
pub fn find(
    repo: &Repository,
    snapshots: &[Snapshot],
    scope: &Scope,
    query: &Query,
    monitor: &dyn Monitor,
    take: impl FnMut(&Found) -> Result<()>,
) -> Result<FindReport> {
    let mut search =
        Search { repo, query, monitor, take, verdicts: HashMap::new(), report: FindReport::default(), last: None };
    if let [snapshot] = snapshots {
        let tree = tree_of(repo, snapshot, scope)?;
        let entries = repo.entries(&tree, scope).map(|entry| Ok(entry?));
        let wanted = entries.filter(|entry: &Result<Entry>| {
            entry.as_ref().map_or(true, |entry| entry.document().is_some() && query.wants_path(&entry.path))
        });
        search.all(wanted.map(|entry| Ok(Found { entry: entry?, snapshots: 1, first: 0, last: 0 })))?;
    } else {
        let versions = versions::collect(repo, snapshots, scope, query, monitor)?;
        search.report.unread += versions.unread;
        search.all(versions.into_iter().map(Ok))?;
    }
    Ok(search.report)
}

/// Loads the tree of a snapshot that must hold a scope.
fn tree_of(repo: &Repository, snapshot: &Snapshot, scope: &Scope) -> Result<Tree> {
    let tree = repo.tree(&snapshot.manifest.tree)?;
    // A snapshot of one project is searched as it is.
    if *scope != Scope::System {
        require_scope(snapshot, &tree, scope)?;
    }
    Ok(tree)
}

/// Looks at the contents of documents whose paths fit.
struct Search<'a, T> {
    repo: &'a Repository,
    query: &'a Query,
    monitor: &'a dyn Monitor,
    take: T,
    verdicts: HashMap<ContentId, Gathered<bool>>,
    report: FindReport,
    last: Option<Entry>,
}

impl<T: FnMut(&Found) -> Result<()>> Search<'_, T> {
    fn all(&mut self, mut candidates: impl Iterator<Item = Result<Found>>) -> Result<()> {
        let mut together = TOGETHER_MIN;
        loop {
            let some: Vec<Found> = candidates.by_ref().take(together).collect::<Result<_>>()?;
            if some.is_empty() {
                return Ok(());
            }
            if self.query.reads_contents() {
                self.judge(&some)?;
            }
            for found in some {
                self.give(found)?;
            }
            together = (2 * together).min(TOGETHER_MAX);
        }
    }

    /// Looks at the contents of which nothing is known yet.
    fn judge(&mut self, some: &[Found]) -> Result<()> {
        if self.verdicts.len() > VERDICTS_MAX {
            self.verdicts.clear();
        }
        let mut documents: Vec<&Document> = Vec::new();
        for document in some.iter().filter_map(|found| found.entry.document()) {
            if let Slot::Vacant(slot) = self.verdicts.entry(document.content) {
                slot.insert(Ok(false));
                documents.push(document);
            }
        }
        let look = |_: usize, content: &[u8]| self.query.wants_content(content);
        let verdicts = gather(self.repo, &documents, Task::Search, &look, self.monitor)?;
        self.verdicts.extend(documents.iter().map(|document| document.content).zip(verdicts));
        Ok(())
    }

    fn give(&mut self, found: Found) -> Result<()> {
        if self.monitor.is_interrupted() {
            return Err(Error::Interrupted);
        }
        let verdict = found.entry.document().and_then(|document| self.verdicts.get(&document.content));
        match verdict {
            Some(Ok(false)) => return Ok(()),
            Some(Err(what)) => {
                self.report.unread += 1;
                let (path, what) = (found.entry.path.to_string(), what.clone());
                self.monitor.problem(&Problem { severity: Severity::Unread, path, what });
                return Ok(());
            }
            // Without a look at contents there are no verdicts.
            Some(Ok(true)) | None => {}
        }
        self.report.versions += 1;
        if self.last.as_ref().is_none_or(|last| last.path != found.entry.path) {
            self.report.documents += 1;
        }
        (self.take)(&found)?;
        self.last = Some(found.entry);
        Ok(())
    }
}
