//! Log: what became of one document, from the records that snapshots keep, and from the snapshots where there are none.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::history::{Archived, History, uncovered, version_of};
use super::{Error, Result};
use crate::model::entry::Entry;
use crate::model::hash::ContentId;
use crate::model::log::{LogPosition, LogRecord};
use crate::model::path::EntryPath;
use crate::model::root::Projects;
use crate::platform::kylin::layout::{Layout, Place};
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::Top;
use crate::repo::{self, Repository};

/// How many snapshots are read before the first of them is told of: what their trees share is read once.
const SNAPSHOTS_AHEAD: usize = 1024;

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
    key: Option<Vec<u8>>,
    /// Where it may be, whatever the projects are.
    paths: BTreeSet<EntryPath>,
    /// What it is called, if it is in a project that the name does not tell.
    unplaced: Option<(Layout, EntryPath)>,
}

impl Subject {
    /// Takes a path, or what an audit log of the new generation calls a document: its type and key.
    fn new(path: &EntryPath, layout: Option<Layout>) -> Self {
        let as_key = layout.filter(|layout| *layout != Layout::Old && layout.name_of_key(path.as_bytes()).is_some());
        let key = match as_key {
            Some(_) => Some(path.as_bytes().to_vec()),
            None => layout.and_then(|layout| layout.key_of(path)),
        };
        let mut paths = BTreeSet::from([path.clone()]);
        let name = layout.zip(key.as_ref()).and_then(|(layout, key)| Some((layout, layout.name_of_key(key)?)));
        paths.extend(name.as_ref().map(|(layout, name)| layout.path_in(name, None)));
        let unplaced = name.filter(|(layout, name)| !matches!(layout.place(name), Place::At(_)));
        Self { key, paths, unplaced }
    }

    /// Returns where it may be in one of some trees.
    fn paths(&self, tops: &[Top]) -> Vec<EntryPath> {
        let mut paths = self.paths.clone();
        if let Some((layout, name)) = &self.unplaced {
            let projects: BTreeSet<_> = tops.iter().flat_map(|top| top.projects.keys()).collect();
            paths.extend(projects.into_iter().map(|project| layout.path_in(name, Some(project))));
        }
        paths.into_iter().collect()
    }

    /// Returns where the store's log stood when a snapshot was taken, and what that keeps of it about the document.
    fn archived<'a>(
        &'a self,
        repo: &Repository,
        snapshot: &'a Snapshot,
    ) -> Result<Option<(&'a LogPosition, Archived)>> {
        let Some((key, position)) = self.key.as_deref().zip(snapshot.manifest.position.as_ref()) else {
            return Ok(None);
        };
        let mut archived = Archived::read(repo, snapshot)?;
        archived.records.retain(|record| record.key == key);
        Ok(Some((position, archived)))
    }

    /// Tells whether its content is the same in two trees because that of all documents is with which it may be.
    fn is_untouched(&self, before: &Projects, after: &Projects) -> bool {
        match self.unplaced {
            Some(_) => before == after,
            None => self
                .paths
                .iter()
                .map(|path| path.project().unwrap_or_default())
                .all(|project| before.get(project) == after.get(project)),
        }
    }
}

/// The document in each of a store's snapshots, read some snapshots ahead: of ten thousand, most trees are nearly alike.
struct Versions<'a> {
    repo: &'a Repository,
    subject: &'a Subject,
    /// The projects of the last tree that was read.
    before: Option<Projects>,
}

/// What a snapshot has of the document.
enum Version {
    /// The same content as the one before it.
    Untouched,
    /// The entry, if it is there.
    Read(Option<Entry>),
}

impl Versions<'_> {
    fn read(&mut self, snapshots: &[Snapshot]) -> Result<Vec<Version>> {
        let tops = snapshots.par_iter().map(|snapshot| self.repo.tree_top(&snapshot.manifest.tree));
        let tops: Vec<Top> = tops.collect::<repo::Result<_>>()?;
        let befores = self.before.iter().chain(tops.iter().map(|top| &top.projects));
        let is_first = usize::from(self.before.is_none());
        let mut is_touched = vec![true; is_first];
        is_touched.extend(
            befores.zip(&tops[is_first..]).map(|(before, top)| !self.subject.is_untouched(before, &top.projects)),
        );
        let touched = tops.iter().zip(&is_touched).filter(|(_, is_touched)| **is_touched).map(|(top, _)| top);
        let paths = self.subject.paths(&tops);
        let records = self.repo.records_of(touched, &paths)?;
        let entry =
            |top| (0..paths.len()).filter_map(|path| records.entry(top, path)).find(|entry| entry.document().is_some());
        let version =
            |(top, is_touched)| if is_touched { Version::Read(entry(top).cloned()) } else { Version::Untouched };
        let versions = tops.iter().zip(is_touched).map(version).collect();
        self.before = tops.into_iter().next_back().map(|top| top.projects);
        Ok(versions)
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
    let mut versions = Versions { repo, subject: &subject, before: None };
    for snapshots in history.snapshots.chunks(SNAPSHOTS_AHEAD) {
        let archived = snapshots.par_iter().map(|snapshot| subject.archived(repo, snapshot));
        let archived = archived.collect::<Result<Vec<_>>>()?;
        for ((snapshot, version), archived) in snapshots.iter().zip(versions.read(snapshots)?).zip(archived) {
            let mut told = None;
            if let Some((now, archived)) = archived {
                if let Some((after, before)) = position {
                    let why = archived.fault.as_deref().unwrap_or("the snapshot that kept them is gone");
                    let missing = uncovered(before.last, now.last, archived.covers.into_iter().collect());
                    report.is_damaged |= archived.is_damaged && !missing.is_empty();
                    for (first, last) in missing {
                        report.gaps += 1;
                        take(&Step::Gap { first, last, after, before: snapshot, why })?;
                    }
                }
                for record in archived.records.iter().filter(|record| seen.insert(record.id)) {
                    report.changes += 1;
                    take(&Step::Record(record))?;
                    told = Some(record.version);
                }
                position = Some((snapshot, now));
            }
            earlier = Some(snapshot);
            let Version::Read(entry) = version else { continue };
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
        }
    }
    match earlier {
        Some(newest) if report.changes == 0 => {
            Err(Error::NoDocument { snapshot: newest.id.short(), path: path.clone() })
        }
        _ => Ok(report),
    }
}
