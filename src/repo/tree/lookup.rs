//! Looking paths up in a tree, or in many that share runs, reading only the leaves that can hold them.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::{Record, Run, Top, Tree};
use crate::model::entry::Entry;
use crate::model::hash::ChunkId;
use crate::model::path::EntryPath;
use crate::repo::{Repository, Result};

impl Repository {
    /// Returns the entries of a tree at these paths, which are sorted.
    ///
    /// # Errors
    /// When a leaf is missing or damaged.
    pub fn entries_at(&self, tree: &Tree, paths: &[EntryPath]) -> Result<Vec<Option<Entry>>> {
        lookup(self, &tree.runs, paths.iter())
    }

    /// Looks these paths, which are sorted, up in each run of some trees. What trees share is read once.
    ///
    /// # Errors
    /// When a node is missing or damaged.
    pub fn records_of<'t>(&self, tops: impl Iterator<Item = &'t Top>, paths: &[EntryPath]) -> Result<RecordsOfRuns> {
        // In the order of the trees: what was written at one time is in one frame.
        let mut seen = HashSet::new();
        let runs: Vec<ChunkId> = tops.flat_map(|top| &top.runs).copied().filter(|run| seen.insert(*run)).collect();
        let paths: Vec<&EntryPath> = paths.iter().collect();
        let records = runs.into_par_iter().map(|run| Ok((run, records_in(self, &self.run(&run)?, &paths)?)));
        Ok(RecordsOfRuns(records.collect::<Result<_>>()?))
    }
}

/// What each of some runs says of each of some paths.
pub struct RecordsOfRuns(HashMap<ChunkId, Vec<Option<Record>>>);

impl RecordsOfRuns {
    /// Returns the entry that a tree, all of whose runs are among these, has at the path of this number.
    pub fn entry(&self, top: &Top, path: usize) -> Option<&Entry> {
        // The newest run that speaks of it holds.
        let said = top.runs.iter().rev().find_map(|run| self.0.get(run)?.get(path)?.as_ref())?;
        said.entry()
    }
}

/// Looks sorted paths up in the runs of one tree.
pub(super) fn lookup<'a>(
    repo: &Repository,
    runs: &[Run],
    paths: impl Iterator<Item = &'a EntryPath>,
) -> Result<Vec<Option<Entry>>> {
    let paths: Vec<&EntryPath> = paths.collect();
    let mut found: Vec<Option<Record>> = vec![None; paths.len()];
    // From the newest run down: the first that speaks of a path holds.
    for run in runs.iter().rev() {
        for (slot, record) in found.iter_mut().zip(records_in(repo, run, &paths)?) {
            if slot.is_none() {
                *slot = record;
            }
        }
    }
    Ok(found.into_iter().map(|record| record.and_then(Record::into_entry)).collect())
}

/// Returns the records of a run at sorted paths.
fn records_in(repo: &Repository, run: &Run, paths: &[&EntryPath]) -> Result<Vec<Option<Record>>> {
    let mut parts: Vec<(usize, &[&EntryPath])> = Vec::new();
    let mut at = run.leaves.first().map_or(paths.len(), |first| paths.partition_point(|path| **path < first.first));
    let mut found = vec![None; at];
    while at < paths.len() {
        let leaf = run.leaves.partition_point(|leaf| leaf.first <= *paths[at]);
        let next = run.leaves.get(leaf).map_or(paths.len(), |next| paths.partition_point(|path| **path < next.first));
        parts.push((leaf - 1, &paths[at..next]));
        at = next;
    }
    let read = parts.par_iter().map(|(leaf, part)| Ok(pick(repo.leaf(&run.leaves[*leaf])?, part)));
    found.extend(read.collect::<Result<Vec<_>>>()?.into_iter().flatten());
    Ok(found)
}

/// Returns the records of a leaf at some sorted paths.
fn pick(records: Vec<Record>, paths: &[&EntryPath]) -> Vec<Option<Record>> {
    let mut records = records.into_iter().peekable();
    let one = |path: &&EntryPath| {
        while records.next_if(|record| record.path() < *path).is_some() {}
        records.next_if(|record| record.path() == *path)
    };
    paths.iter().map(one).collect()
}
