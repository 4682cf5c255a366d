//! Log: what became of one document, from the records that snapshots keep, and from the snapshots where there are none.

use std::collections::BTreeSet;

use super::history::{Archived, History, uncovered, version_of};
use super::{Error, Result};
use crate::model::entry::Entry;
use crate::model::hash::ContentId;
use crate::model::log::{LogChange, LogPosition, LogRecord};
use crate::model::path::EntryPath;
use crate::platform::kylin::layout::{Layout, Place};
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::Tree;

/// What is known of a document at some time.
#[derive(Debug)]
pub enum Step<'a> {
    /// A record tells of a change.
    Record(&'a LogRecord),
    /// A snapshot has it other than the snapshot before, and no record tells of it.
    Held {
        /// The snapshot.
        snapshot: &'a Snapshot,
        /// The document, if it is there.
        entry: Option<&'a Entry>,
        /// Whether it was not there before.
        is_new: bool,
    },
    /// Records are missing that may tell of it.
    Gap {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// They are from after this snapshot,
        after: &'a Snapshot,
        /// and from before this one.
        before: &'a Snapshot,
        /// Why they are missing.
        why: &'a str,
    },
}

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Changes, by whatever tells of them.
    pub changes: u64,
    /// Ranges of records that are missing.
    pub gaps: u64,
    /// Whether records are missing because they are damaged.
    pub is_damaged: bool,
}

/// A document, by the names it has.
struct Subject {
    path: EntryPath,
    key: Option<Vec<u8>>,
    layout: Option<Layout>,
}

impl Subject {
    /// Takes a path, or what an audit log of the new generation calls a document: its type and key.
    fn new(path: &EntryPath, layout: Option<Layout>) -> Self {
        let as_key = layout.filter(|layout| *layout != Layout::Old && layout.name_of_key(path.as_bytes()).is_some());
        let key = match as_key {
            Some(_) => Some(path.as_bytes().to_vec()),
            None => layout.and_then(|layout| layout.key_of(path)),
        };
        Self { path: path.clone(), key, layout }
    }

    /// Returns where it may be in a tree.
    fn paths(&self, tree: &Tree) -> Vec<EntryPath> {
        let mut paths = BTreeSet::from([self.path.clone()]);
        let name =
            self.layout.zip(self.key.as_ref()).and_then(|(layout, key)| Some((layout, layout.name_of_key(key)?)));
        if let Some((layout, name)) = name {
            paths.insert(layout.path_in(&name, None));
            if !matches!(layout.place(&name), Place::At(_)) {
                paths.extend(tree.projects.keys().map(|project| layout.path_in(&name, Some(project))));
            }
        }
        paths.into_iter().collect()
    }

    fn entry(&self, repo: &Repository, snapshot: &Snapshot) -> Result<Option<Entry>> {
        let tree = repo.tree(&snapshot.manifest.tree)?;
        let found = repo.entries_at(&tree, &self.paths(&tree))?;
        Ok(found.into_iter().flatten().find(|entry| entry.document().is_some()))
    }
}

/// Hands what is known of a document to `take`, the oldest first.
///
/// # Errors
/// [`Error::NoDocument`] when nothing is known of it; when the repository can't be read.
pub fn log(
    repo: &Repository,
    history: &History,
    path: &EntryPath,
    mut take: impl FnMut(&Step<'_>) -> Result<()>,
) -> Result<LogReport> {
    let subject = Subject::new(path, history.layout.parse().ok());
    let mut report = LogReport::default();
    let mut seen = BTreeSet::new();
    let mut earlier: Option<&Snapshot> = None;
    let mut position: Option<(&Snapshot, &LogPosition)> = None;
    let mut content: Option<ContentId> = None;
    for snapshot in &history.snapshots {
        let entry = subject.entry(repo, snapshot)?;
        let mut told = None;
        if let (Some(key), Some(now)) = (&subject.key, &snapshot.manifest.position) {
            let archived = Archived::read(repo, snapshot)?;
            if let Some((after, before)) = position {
                let why = archived.fault.as_deref().unwrap_or("the snapshot that kept them is gone");
                let missing = uncovered(before.last, now.last, archived.covers.into_iter().collect());
                report.is_damaged |= archived.is_damaged && !missing.is_empty();
                for (first, last) in missing {
                    report.gaps += 1;
                    take(&Step::Gap { first, last, after, before: snapshot, why })?;
                }
            }
            for record in archived.records.iter().filter(|record| record.key == *key && seen.insert(record.id)) {
                report.changes += 1;
                take(&Step::Record(record))?;
                told = Some(match record.change {
                    LogChange::Removed => None,
                    _ => record.version,
                });
            }
            position = Some((snapshot, now));
        }
        let is_told = match (&told, &entry) {
            (None, _) => false,
            (Some(told), Some(entry)) => version_of(entry).is_none_or(|version| *told == Some(version)),
            (Some(told), None) => told.is_none(),
        };
        let now = entry.as_ref().and_then(Entry::document).map(|document| document.content);
        if now != content && !is_told {
            report.changes += 1;
            take(&Step::Held { snapshot, entry: entry.as_ref(), is_new: content.is_none() })?;
        }
        content = now;
        earlier = Some(snapshot);
    }
    match earlier {
        Some(newest) if report.changes == 0 => {
            Err(Error::NoDocument { snapshot: newest.id.short(), path: path.clone() })
        }
        _ => Ok(report),
    }
}
