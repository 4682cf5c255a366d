//! What is left of a tree of which leaves are lost.

use std::collections::BTreeMap;

use super::Record;
use crate::model::entry::Entry;
use crate::model::hash::ChunkId;
use crate::model::path::EntryPath;
use crate::repo::{Repository, Result};

/// What is left of a tree.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// The entries that are certain, in path order.
    pub entries: Vec<Entry>,
    /// Entries that may be missing: records of leaves that can't be read, and what may have been changed by them.
    pub uncertain: u64,
}

impl Repository {
    /// Returns the entries of a tree that are certain: where a leaf can't be read, nothing is said of the paths that it may
    /// speak of, since a newer record of one may be lost.
    ///
    /// # Errors
    /// When a node above the leaves can't be read, or the storage fails.
    pub fn salvage(&self, tree: &ChunkId) -> Result<Salvaged> {
        let tree = self.tree(tree)?;
        let mut records: BTreeMap<EntryPath, Record> = BTreeMap::new();
        let mut holes: Vec<(EntryPath, Option<EntryPath>)> = Vec::new();
        let mut uncertain = 0;
        for run in &tree.runs {
            for (n, leaf) in run.leaves.iter().enumerate() {
                match self.leaf(leaf) {
                    Ok(found) => records.extend(found.into_iter().map(|record| (record.path().clone(), record))),
                    Err(error) if error.is_damage() => {
                        holes.push((leaf.first.clone(), run.leaves.get(n + 1).map(|next| next.first.clone())));
                        uncertain += u64::from(leaf.records);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let is_in = |path: &EntryPath, (first, end): &(EntryPath, Option<EntryPath>)| {
            first <= path && end.as_ref().is_none_or(|end| path < end)
        };
        let mut entries = Vec::new();
        for entry in records.into_values().filter_map(Record::into_entry) {
            if holes.iter().any(|hole| is_in(&entry.path, hole)) {
                uncertain += u64::from(entry.document().is_some());
            } else {
                entries.push(entry);
            }
        }
        Ok(Salvaged { entries, uncertain })
    }
}
