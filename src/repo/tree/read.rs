//! Reading a tree: its entries in path order, or one of them.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::{LeafRef, Record, Run, Tree};
use crate::model::entry::{Entry, Keyed};
use crate::model::merge::{Pair, merge};
use crate::model::path::{EntryPath, compare};
use crate::model::scope::Scope;
use crate::repo::format::pack::FrameKind;
use crate::repo::{Error, Repository, Result, format};

/// How many leaves of a run are read ahead, in parallel.
const LEAVES_AHEAD_MAX: usize = 4;

/// Records in path order.
pub(super) type Records<'a> = Box<dyn Iterator<Item = Result<Record>> + 'a>;

impl Repository {
    /// Walks the entries of a tree that belong to a scope, in path order.
    ///
    /// # Errors
    /// Each item, when a leaf is missing or damaged; the walk ends there.
    pub fn entries<'a>(&'a self, tree: &'a Tree, scope: &Scope) -> impl Iterator<Item = Result<Entry>> + use<'a> {
        self.records(&tree.runs, scope).filter_map(|record| record.map(Record::into_entry).transpose())
    }

    /// Walks the entries of a tree that come after a path, in path order, reading only what they are in.
    ///
    /// # Errors
    /// Each item, when a leaf is missing or damaged; the walk ends there.
    pub fn entries_after<'a>(
        &'a self,
        tree: &'a Tree,
        after: &EntryPath,
    ) -> impl Iterator<Item = Result<Entry>> + use<'a> {
        let runs = tree.runs.iter().map(|run| {
            let start = run.leaves.partition_point(|leaf| leaf.first <= *after).saturating_sub(1);
            let after = after.clone();
            let leaves = LeafWalk { repo: self, leaves: &run.leaves[start..], ready: VecDeque::new() };
            Box::new(leaves.filter(move |record| record.as_ref().map_or(true, |record| *record.path() > after)))
                as Records<'a>
        });
        let records = runs.reduce(|lower, upper| overlay(lower, upper));
        let records = records.unwrap_or_else(|| Box::new(std::iter::empty()));
        records.filter_map(|record| record.map(Record::into_entry).transpose())
    }

    /// Walks the entries of a tree at `directory` and below it, in path order, reading only what they are in.
    ///
    /// # Errors
    /// Each item, when a leaf is missing or damaged; the walk ends there.
    pub fn entries_within<'a>(
        &'a self,
        tree: &'a Tree,
        directory: &EntryPath,
    ) -> impl Iterator<Item = Result<Entry>> + use<'a> {
        let directory = directory.clone();
        // Whatever comes right after the directory is in it, or all that is in it is past.
        self.entries_after(tree, &directory)
            .take_while(move |entry| entry.as_ref().map_or(true, |entry| entry.path.is_within(directory.as_bytes())))
    }

    /// Returns the `rank`-th record of a tree's base, which is nearly its `rank`-th entry.
    ///
    /// # Errors
    /// When a leaf is missing or damaged.
    pub fn path_near(&self, tree: &Tree, rank: u64) -> Result<Option<EntryPath>> {
        let Some(base) = tree.runs.first() else { return Ok(None) };
        let mut rank = rank % base.records().max(1);
        for leaf in &base.leaves {
            match rank.checked_sub(u64::from(leaf.records)) {
                Some(rest) => rank = rest,
                None => {
                    let records = self.leaf(leaf)?;
                    return Ok(records.get(usize::try_from(rank).unwrap_or(0)).map(|record| record.path().clone()));
                }
            }
        }
        Ok(None)
    }

    /// Returns the entry at `path`.
    ///
    /// # Errors
    /// When a leaf that may hold it is missing or damaged.
    pub fn entry(&self, tree: &Tree, path: &EntryPath) -> Result<Option<Entry>> {
        for run in tree.runs.iter().rev() {
            let Some(leaf) = run.leaf_of(path) else { continue };
            let records = self.leaf(leaf)?;
            if let Ok(found) = records.binary_search_by(|record| record.path().cmp(path)) {
                return Ok(records.into_iter().nth(found).and_then(Record::into_entry));
            }
        }
        Ok(None)
    }

    /// Walks what some runs say together, in path order.
    pub(super) fn records<'a>(&'a self, runs: &'a [Run], scope: &Scope) -> Records<'a> {
        // The runs over the base are small: merged among themselves first, they cost the base one comparison a record.
        let Some((base, over)) = runs.split_first() else { return Box::new(std::iter::empty()) };
        let over = over.iter().map(|run| self.run_records(run, scope)).reduce(overlay);
        let base = self.run_records(base, scope);
        match over {
            None => base,
            Some(over) => overlay(base, over),
        }
    }

    fn run_records<'a>(&'a self, run: &'a Run, scope: &Scope) -> Records<'a> {
        let leaves = run.leaves_within(scope);
        let scope = scope.clone();
        let records = LeafWalk { repo: self, leaves, ready: VecDeque::new() };
        Box::new(records.filter(move |record| record.as_ref().map_or(true, |record| scope.contains(record.path()))))
    }

    /// Returns the entries of one leaf.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn leaf_entries(&self, leaf: &LeafRef) -> Result<Vec<Entry>> {
        Ok(self.leaf(leaf)?.into_iter().filter_map(Record::into_entry).collect())
    }

    /// Reads one leaf.
    pub(super) fn leaf(&self, leaf: &LeafRef) -> Result<Vec<Record>> {
        let raw = self.read_chunk(FrameKind::Trees, &leaf.id)?;
        format::leaf::decode(&raw).map_err(|e| Error::from_format(format!("leaf {}", leaf.id), e))
    }
}

impl Run {
    /// Returns the one leaf that can hold a path.
    pub(super) fn leaf_of(&self, path: &EntryPath) -> Option<&LeafRef> {
        self.leaves[..self.leaves.partition_point(|leaf| leaf.first <= *path)].last()
    }

    /// Returns the leaves that can hold something of a scope.
    fn leaves_within(&self, scope: &Scope) -> &[LeafRef] {
        let Some(prefix) = scope.prefix() else { return &self.leaves };
        let start =
            self.leaves.partition_point(|leaf| compare(leaf.first.as_bytes(), prefix).is_le()).saturating_sub(1);
        let within = |leaf: &LeafRef| compare(leaf.first.as_bytes(), prefix).is_le() || leaf.first.is_within(prefix);
        let end = start + self.leaves[start..].partition_point(within);
        &self.leaves[start..end]
    }
}

/// Lays newer records over older ones: the newer one of a path holds.
pub(super) fn overlay<'a>(
    lower: impl Iterator<Item = Result<Record>> + 'a,
    upper: impl Iterator<Item = Result<Record>> + 'a,
) -> Records<'a> {
    Box::new(merge(lower, upper).map(|pair: Result<_>| {
        Ok(match pair? {
            Pair::Left(record) | Pair::Right(record) | Pair::Both(_, record) => record,
        })
    }))
}

/// Reads leaves in order, some ahead.
struct LeafWalk<'a> {
    repo: &'a Repository,
    leaves: &'a [LeafRef],
    ready: VecDeque<Result<std::vec::IntoIter<Record>>>,
}

impl Iterator for LeafWalk<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.ready.front_mut() {
                Some(Ok(records)) => match records.next() {
                    Some(record) => return Some(Ok(record)),
                    None => drop(self.ready.pop_front()),
                },
                Some(Err(_)) => return self.ready.pop_front().and_then(Result::err).map(Err),
                None if self.leaves.is_empty() => return None,
                None => self.read_ahead(),
            }
        }
    }
}

impl LeafWalk<'_> {
    fn read_ahead(&mut self) {
        let (now, later) = self.leaves.split_at(self.leaves.len().min(LEAVES_AHEAD_MAX));
        self.leaves = later;
        let read: Vec<_> = now.par_iter().map(|leaf| self.repo.leaf(leaf).map(Vec::into_iter)).collect();
        self.ready.extend(read);
    }
}

impl Keyed for EntryPath {
    fn path(&self) -> &EntryPath {
        self
    }
}
