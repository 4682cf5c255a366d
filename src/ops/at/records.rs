//! Which snapshots lie around a moment, and the records between them.

use std::collections::BTreeMap;

use super::Gap;
use crate::model::log::{LogPosition, LogRecord, Moment};
use crate::ops::history::{Archived, History, uncovered};
use crate::ops::{Error, Result};
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;

/// A snapshot and where in the log it was taken.
type Followed<'h> = (&'h Snapshot, &'h LogPosition);

/// Where a moment lies.
pub(super) struct Bracket<'h> {
    /// The snapshot from which it is reached.
    pub base: Followed<'h>,
    /// The snapshots after that, as long as they tell of the same log.
    later: Vec<Followed<'h>>,
    /// The highest id that can be in it.
    high: u64,
}

/// What is known of the changes between a base and the snapshot after the moment.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The records, ascending.
    pub records: Vec<LogRecord>,
    /// What is not known.
    pub gaps: Vec<Gap>,
    /// What the records up to the snapshot after the moment say last of each key: the version, or nothing after a removal.
    pub ends: BTreeMap<Vec<u8>, Option<i64>>,
}

impl<'h> Bracket<'h> {
    /// Finds the newest snapshot at or before a moment.
    pub(super) fn find(repo: &Repository, history: &'h History, moment: Moment) -> Result<Self> {
        let followed = history.followed();
        let (Some((oldest, first)), Some((newest, last))) = (followed.first(), followed.last()) else {
            return Err(Error::NoLog { store: history.store.clone() });
        };
        let out_of_reach = || Error::OutOfReach {
            moment,
            first: (first.last, oldest.manifest.scan_ms),
            last: (last.last, newest.manifest.scan_ms),
        };
        let found = match moment {
            Moment::Time(time_ms) => at_time(repo, &followed, time_ms)?,
            Moment::Record(id) => at_record(repo, &followed, id)?,
        };
        let at = found.ok_or_else(out_of_reach)?;
        let mut later = Vec::new();
        for n in at + 1..followed.len() {
            if is_another_log(repo, &followed, n)? {
                break;
            }
            later.push(followed[n]);
        }
        let base = followed[at];
        let high = match moment {
            Moment::Record(id) => id,
            // What came after the next snapshot was not there before it.
            Moment::Time(_) => later.first().map_or(base.1.last, |(_, position)| position.last),
        };
        if let (Moment::Time(time_ms), true) = (moment, later.is_empty())
            && time_ms > base.0.manifest.scan_ms
        {
            return Err(out_of_reach());
        }
        Ok(Self { base, later, high })
    }

    /// Tells whether the moment is that of the base itself.
    pub(super) fn is_exact(&self, moment: Moment) -> bool {
        match moment {
            Moment::Record(id) => id == self.base.1.last,
            Moment::Time(time_ms) => time_ms == self.base.0.manifest.scan_ms,
        }
    }

    /// Returns the first snapshot after the moment.
    pub(super) fn end(&self) -> Option<&'h Snapshot> {
        self.later.first().map(|(snapshot, _)| *snapshot)
    }

    /// Tells whether records before the base may have come after it.
    fn was_open(&self, id: u64) -> bool {
        self.base.1.open.iter().any(|open| (open.first..=open.last).contains(&id))
    }

    /// Reads the records between the base and the moment, and those of the transactions that the moment may split.
    pub(super) fn records(&self, repo: &Repository, moment: Moment) -> Result<Found> {
        let low = self.base.1.last;
        let (mut found, mut records) = (Found::default(), BTreeMap::new());
        let (mut covered, mut faults) = (Vec::new(), Vec::new());
        let is_of_range = |id: u64| id > low || self.was_open(id);
        let (between, after) = self.later.split_at(self.later.len().min(1));
        for (snapshot, _) in between {
            let archived = Archived::read(repo, snapshot)?;
            covered.extend(archived.covers);
            faults.extend(archived.fault);
            let some = archived.records.into_iter().filter(|record| is_of_range(record.id));
            records.extend(some.map(|record| (record.id, record)));
        }
        found.ends = records.values().map(|record| (record.key.clone(), record.version)).collect();
        let to_ms = self.end().map_or(self.base.0.manifest.scan_ms, |end| end.manifest.scan_ms);
        let gap = |(first, last), why: String| {
            let from_ms = self.base.0.manifest.scan_ms;
            Gap::Records { first, last, from_ms, to_ms, why }
        };
        let why = || faults.first().cloned().unwrap_or_else(|| "the snapshot that kept them is gone".to_owned());
        found.gaps.extend(uncovered(low, self.high, covered).into_iter().map(|range| gap(range, why())));
        // Records that come late are of the moments after their ids, not of the times before they came.
        if let (Moment::Record(id), Some((_, position))) = (moment, between.last()) {
            let mut open = open_until(position, id, low, |id| self.was_open(id));
            for (snapshot, position) in after {
                if open.is_empty() {
                    break;
                }
                let archived = Archived::read(repo, snapshot)?;
                // The transaction of one that comes late may go on after the moment: then none of it is taken.
                for record in archived.records.into_iter().filter(|record| is_of_range(record.id)) {
                    records.entry(record.id).or_insert(record);
                }
                if let Some(fault) = archived.fault {
                    found
                        .gaps
                        .extend(open.iter().filter(|range| range.1 > low).map(|range| gap(*range, fault.clone())));
                    open.clear();
                    break;
                }
                open = open_until(position, id, low, |id| self.was_open(id));
            }
            let why = "they have not come yet: their transaction failed, or has not ended";
            let open = open.into_iter().filter(|range| range.1 > low);
            found.gaps.extend(open.map(|range| gap(range, why.to_owned())));
        }
        found.records = records.into_values().collect();
        Ok(found)
    }
}

/// Returns the ranges of ids up to one that were not there at a position, and may come yet.
fn open_until(position: &LogPosition, id: u64, low: u64, was_open: impl Fn(u64) -> bool) -> Vec<(u64, u64)> {
    let ranges = position.open.iter().map(|open| (open.first, open.last.min(id)));
    ranges.filter(|(first, last)| first <= last && (*last > low || was_open(*first))).collect()
}

fn at_time(repo: &Repository, followed: &[Followed<'_>], time_ms: i64) -> Result<Option<usize>> {
    let mut found = followed.iter().rposition(|(snapshot, _)| snapshot.manifest.scan_ms <= time_ms);
    // Clocks may differ: what holds changes that are later by the clock of those who made them is not before the moment.
    while let Some(at) = found {
        let (snapshot, position) = followed[at];
        let is_ahead = |record: &LogRecord| record.id <= position.last && record.time_ms > time_ms;
        if time_ms == snapshot.manifest.scan_ms || !Archived::read(repo, snapshot)?.records.iter().any(is_ahead) {
            break;
        }
        found = at.checked_sub(1);
    }
    Ok(found)
}

fn at_record(repo: &Repository, followed: &[Followed<'_>], id: u64) -> Result<Option<usize>> {
    let mut is_reached = false;
    for at in (0..followed.len()).rev() {
        let last = followed[at].1.last;
        if last == id || last < id && is_reached {
            return Ok(Some(at));
        }
        is_reached |= last > id;
        if is_another_log(repo, followed, at)? {
            is_reached = false;
        }
    }
    Ok(None)
}

/// Tells whether the log began anew between the snapshot before and this one: the same id is that of another record then.
fn is_another_log(repo: &Repository, followed: &[Followed<'_>], at: usize) -> Result<bool> {
    let Some(before) = at.checked_sub(1) else { return Ok(true) };
    let (seen, (snapshot, position)) = (followed[before].1.last, followed[at]);
    if position.last < seen {
        return Ok(true);
    }
    if snapshot.manifest.archive.as_ref().is_none_or(|archive| archive.is_complete) {
        return Ok(false);
    }
    let first = Archived::read(repo, snapshot)?.records.first().map(|record| record.id);
    Ok(first.is_some_and(|first| first <= seen))
}
