//! The history of a store: its snapshots in the order in which they were taken, and what each keeps of the store's log.

use std::collections::BTreeMap;

use super::Result;
use crate::model::entry::Entry;
use crate::model::log::{LogPosition, LogRecord};
use crate::model::scope::Scope;
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;

/// The snapshots of one whole store, taken by one machine.
#[derive(Debug, Clone)]
pub struct History {
    /// The machine that took them.
    pub host: String,
    /// The store.
    pub store: String,
    /// The layout in which it was read.
    pub layout: String,
    /// Backups and checkpoints of everything, oldest first. There is at least one.
    pub snapshots: Vec<Snapshot>,
}

impl History {
    /// Returns the histories of all stores of which the repository has snapshots, sorted by store. Snapshots that can't be
    /// read are passed over: what they alone know is missing then, and is told so where it matters.
    ///
    /// # Errors
    /// When the storage can't be listed.
    pub fn all(repo: &Repository) -> Result<Vec<Self>> {
        let mut by_store: BTreeMap<_, Vec<Snapshot>> = BTreeMap::new();
        // Whoever wants a history looks into trees next. An index that can't be loaded is met there.
        let (list, _) = rayon::join(|| repo.snapshots(), || repo.index());
        for snapshot in list?.snapshots {
            let manifest = &snapshot.manifest;
            if manifest.is_taken() && manifest.scope == Scope::System {
                let key = (manifest.store.clone(), manifest.host.clone(), manifest.layout.clone());
                by_store.entry(key).or_default().push(snapshot);
            }
        }
        let history = |((store, host, layout), snapshots)| Self { host, store, layout, snapshots };
        Ok(by_store.into_iter().map(history).collect())
    }

    /// Tells whether it was followed where the store's log of changes stood.
    pub fn has_log(&self) -> bool {
        self.snapshots.iter().any(|snapshot| snapshot.manifest.position.is_some())
    }

    /// Returns the snapshots that say where the log stood, with that place.
    pub(super) fn followed(&self) -> Vec<(&Snapshot, &LogPosition)> {
        self.snapshots.iter().filter_map(|snapshot| Some((snapshot, snapshot.manifest.position.as_ref()?))).collect()
    }
}

/// Returns the version that a store gave a document which a snapshot holds; stamps count from 1, as 0 proves nothing.
pub(super) fn version_of(entry: &Entry) -> Option<i64> {
    (entry.stamp.version > 0).then(|| entry.stamp.version - 1)
}

/// What a snapshot keeps of its store's log.
#[derive(Debug, Default)]
pub(super) struct Archived {
    /// The records that can be read, ascending.
    pub records: Vec<LogRecord>,
    /// All records after the first and up to the second of these ids are among them, as far as they were there.
    pub covers: Option<(u64, u64)>,
    /// Why it does not cover all since the snapshot's parent.
    pub fault: Option<String>,
    /// Whether that is because something is damaged.
    pub is_damaged: bool,
}

impl Archived {
    /// Reads what a snapshot keeps.
    ///
    /// # Errors
    /// When the storage can't be read. What is damaged is told as a fault.
    pub(super) fn read(repo: &Repository, snapshot: &Snapshot) -> Result<Self> {
        let mut archived = Self::default();
        let Some(archive) = &snapshot.manifest.archive else {
            let what = "snapshot {} keeps none of the log";
            archived.fault = Some(what.replace("{}", &snapshot.id.short()));
            return Ok(archived);
        };
        for chunk in &archive.chunks {
            match repo.log_records(chunk) {
                Ok(records) => archived.records.extend(records),
                Err(error) if error.is_damage() => {
                    let what = format!("what snapshot {} keeps of the log is damaged: {error}", snapshot.id.short());
                    archived.fault.get_or_insert(what);
                    archived.is_damaged = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        archived.records.sort_by_key(|record| record.id);
        let first = archived.records.first().map(|record| record.id);
        if !archive.is_complete {
            let what = format!("when snapshot {} was taken, the log did not reach back any more", snapshot.id.short());
            archived.covers = first.filter(|_| archived.fault.is_none()).map(|first| (first - 1, archive.last));
            archived.fault.get_or_insert(what);
        } else if archived.fault.is_none() {
            archived.covers = Some((archive.after, archive.last));
        }
        Ok(archived)
    }
}

/// Returns what of the ids after `low` and up to `high` is in none of some ranges, which are given likewise.
pub(super) fn uncovered(low: u64, high: u64, mut covered: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    covered.sort_unstable();
    let mut left = Vec::new();
    let mut at = low;
    for (after, last) in covered.into_iter().chain([(high, high)]) {
        let after = after.min(high);
        if after > at {
            left.push((at + 1, after));
        }
        at = at.max(last.min(high));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{Body, Encoding, Stamp};
    use crate::model::path::EntryPath;

    #[test]
    fn stamp_that_proves_nothing_tells_no_version() {
        let entry = |version| Entry {
            path: EntryPath::new(*b"p/a").unwrap(),
            body: Body::Directory,
            mode: None,
            encoding: Encoding::Plain,
            stamp: Stamp { time_ns: 1, version, identity: 1 },
        };
        assert_eq!([0, 1, 7].map(|version| version_of(&entry(version))), [None, Some(0), Some(6)]);
    }

    #[test]
    fn what_is_not_covered_is_ranges_of_ids() {
        assert_eq!(uncovered(5, 9, vec![]), [(6, 9)]);
        assert_eq!(uncovered(5, 9, vec![(0, 12)]), []);
        assert_eq!(uncovered(5, 9, vec![(7, 12), (5, 6)]), [(7, 7)]);
        assert_eq!(uncovered(5, 9, vec![(0, 3), (6, 7), (20, 30)]), [(6, 6), (8, 9)]);
        assert_eq!(uncovered(5, 5, vec![(20, 30)]), []);
    }
}
