//! What a prune sees when it looks at a repository, in the order in which it must look.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Error, PruneOptions, Result, stop_if_asked};
use crate::model::hash::{PackId, SnapshotId};
use crate::monitor::{Monitor, Task};
use crate::repo::forgotten::Record;
use crate::repo::index::{Index, Pack};
use crate::repo::marks::Mark;
use crate::repo::references::References;
use crate::repo::removal::Leftover;
use crate::repo::snapshot::Snapshot;
use crate::repo::{self, Repository};

/// Everything a prune decides by.
pub(super) struct Look {
    /// When it began, by the storage's clock: whatever is younger is of age zero.
    pub(super) now: SystemTime,
    pub(super) grace: Duration,
    pub(super) marks: Vec<Mark>,
    /// The oldest mark of each pack.
    marked: HashMap<PackId, SystemTime>,
    /// The packs that were there after the marks were listed, also those that can't be looked into.
    pub(super) present: HashSet<PackId>,
    pub(super) index: Arc<Index>,
    pub(super) snapshots: u64,
    pub(super) forgotten: u64,
    pub(super) references: References,
    /// Records that no longer count.
    pub(super) records: Vec<Record>,
    pub(super) leftovers: Vec<Leftover>,
}

impl Look {
    /// Looks at marks, then at packs, then at snapshots, then at what was forgotten: the order matters.
    pub(super) fn take(repo: &Repository, options: &PruneOptions, monitor: &dyn Monitor) -> Result<Self> {
        let now = repo.storage_time()?;
        let grace = options.grace.max(Duration::from_secs(repo.config().grace_secs));
        let leftovers = repo.leftovers()?;
        let marks = repo.marks()?;
        let mut marked: HashMap<PackId, SystemTime> = HashMap::new();
        for mark in &marks {
            let oldest = marked.entry(mark.pack).or_insert(mark.marked);
            *oldest = mark.marked.min(*oldest);
        }
        let present = repo.packs_present()?;
        // Whatever was known of packs may have changed since.
        repo.refresh();
        let index = repo.index()?;
        let listed = listed(repo)?;
        let (forgotten, records) = forgotten(repo, &listed, now, grace)?;
        let references = references(repo, &listed, &forgotten, monitor)?;
        let (snapshots, forgotten) = (listed.len() as u64, forgotten.len() as u64);
        Ok(Self { now, grace, marks, marked, present, index, snapshots, forgotten, references, records, leftovers })
    }

    /// Returns how long something has been in the storage.
    pub(super) fn age(&self, since: SystemTime) -> Duration {
        self.now.duration_since(since).unwrap_or_default()
    }

    /// Tells whether something has been in the storage for the grace.
    pub(super) fn is_old(&self, since: SystemTime) -> bool {
        self.age(since) >= self.grace
    }

    /// Tells whether a pack was marked long enough ago.
    pub(super) fn is_ripe(&self, pack: &Pack) -> bool {
        pack.is_marked && self.marked.get(&pack.id).is_some_and(|marked| self.is_old(*marked))
    }
}

fn listed(repo: &Repository) -> Result<Vec<Snapshot>> {
    let list = repo.snapshots()?;
    match list.unreadable.into_iter().next() {
        // An unread snapshot is not an empty one.
        Some(source) => Err(Error::Unknown { of: "a snapshot".to_owned(), source }),
        None => Ok(list.snapshots),
    }
}

/// Returns the forgotten snapshots that still count, and the records that no longer do.
fn forgotten(
    repo: &Repository,
    listed: &[Snapshot],
    now: SystemTime,
    grace: Duration,
) -> Result<(Vec<Snapshot>, Vec<Record>)> {
    let unknown = |source| Error::Unknown { of: "a forgotten snapshot".to_owned(), source };
    let listed: HashSet<SnapshotId> = listed.iter().map(|snapshot| snapshot.id).collect();
    let mut counting = BTreeMap::new();
    let mut expired = Vec::new();
    for record in repo.forgotten_records().map_err(unknown)? {
        if now.duration_since(record.written).unwrap_or_default() >= grace {
            expired.push(record);
        } else if !listed.contains(&record.snapshot) && !counting.contains_key(&record.snapshot) {
            // One that is gone since it was listed was removed by another prune, as too old.
            if let Some(snapshot) = repo.snapshot_of(&record).map_err(unknown)? {
                counting.insert(snapshot.id, snapshot);
            }
        }
    }
    Ok((counting.into_values().collect(), expired))
}

fn references(
    repo: &Repository,
    listed: &[Snapshot],
    forgotten: &[Snapshot],
    monitor: &dyn Monitor,
) -> Result<References> {
    let all: Vec<&Snapshot> = listed.iter().chain(forgotten).collect();
    monitor.start(Task::Collect, Some(all.len() as u64));
    let mut done = 0;
    let read = repo.references(all.iter().map(|snapshot| &snapshot.manifest), || {
        done += 1;
        monitor.advance(1);
        !monitor.is_interrupted()
    });
    match read {
        Ok(references) => {
            stop_if_asked(monitor)?;
            Ok(references)
        }
        Err(source) if source.is_damage() || matches!(source, repo::Error::TooNew { .. }) => {
            let of = all.get(done).map_or_else(String::new, |snapshot| format!("snapshot {}", snapshot.id.short()));
            Err(Error::Unknown { of, source })
        }
        Err(error) => Err(error.into()),
    }
}
