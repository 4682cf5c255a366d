//! A tree: all entries of one backup, sorted by path.
//!
//! It is kept as a base and a few *runs* of changes over it, each a sorted sequence of records, the newest last. The
//! newest record of a path holds; one that says *removed* hides those below. So a backup writes what changed and
//! nothing else, however it is spread, and two trees that share their first runs are compared by the others alone.
//! Runs are folded when there are many or they grow past half of the base: see [`update`].

mod compare;
mod lookup;
mod read;
mod salvage;
mod update;

pub use compare::{Difference, differences};
pub use lookup::RecordsOfRuns;
pub use salvage::Salvaged;
pub use update::{TreeWriter, update};

use super::format::pack::FrameKind;
use super::{Error, Repository, Result, format};
use crate::model::entry::{Entry, Keyed};
use crate::model::hash::{ChunkId, Root};
use crate::model::path::EntryPath;
use crate::model::root::{Projects, system_root};

/// What a run says of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The entry is there.
    Present(Entry),
    /// There is no such entry, whatever lower runs say.
    Removed(EntryPath),
}

impl Record {
    /// Returns the path the record speaks of.
    pub fn path(&self) -> &EntryPath {
        match self {
            Self::Present(entry) => &entry.path,
            Self::Removed(path) => path,
        }
    }

    /// Returns the entry, unless the record removes it.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Present(entry) => Some(entry),
            Self::Removed(_) => None,
        }
    }

    /// Returns the entry, unless the record removes it.
    pub fn into_entry(self) -> Option<Entry> {
        match self {
            Self::Present(entry) => Some(entry),
            Self::Removed(_) => None,
        }
    }
}

impl Keyed for Record {
    fn path(&self) -> &EntryPath {
        self.path()
    }
}

/// A leaf as its run refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRef {
    /// The node.
    pub id: ChunkId,
    /// Path of its first record.
    pub first: EntryPath,
    /// How many records it holds.
    pub records: u32,
}

/// One sorted sequence of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The node that lists the leaves.
    pub id: ChunkId,
    /// The leaves, in path order.
    pub leaves: Vec<LeafRef>,
}

impl Run {
    /// Returns the number of records.
    pub fn records(&self) -> u64 {
        self.leaves.iter().map(|leaf| u64::from(leaf.records)).sum()
    }
}

/// The uppermost node of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// The base and the runs over it, oldest first.
    pub runs: Vec<ChunkId>,
    /// What is known of each project.
    pub projects: Projects,
}

/// The entries of one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The node that lists the runs.
    pub id: ChunkId,
    /// The base and the runs over it, oldest first.
    pub runs: Vec<Run>,
    /// What is known of each project.
    pub projects: Projects,
}

impl Tree {
    /// Returns the content root of all documents.
    pub fn root(&self) -> Root {
        system_root(&self.projects)
    }

    /// Returns the number of documents.
    pub fn documents(&self) -> u64 {
        self.projects.values().map(|project| project.documents).sum()
    }

    /// Returns the sum of the documents' sizes.
    pub fn bytes(&self) -> u64 {
        self.projects.values().map(|project| project.bytes).sum()
    }
}

impl Repository {
    /// Loads a tree's upper nodes. Its leaves are read when they are asked for.
    ///
    /// # Errors
    /// When a node is missing or damaged.
    pub fn tree(&self, id: &ChunkId) -> Result<Tree> {
        let Top { runs, projects } = self.tree_top(id)?;
        let runs = runs.iter().map(|id| self.run(id)).collect::<Result<_>>()?;
        Ok(Tree { id: *id, runs, projects })
    }

    /// Loads the uppermost node of a tree and nothing below it.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn tree_top(&self, id: &ChunkId) -> Result<Top> {
        let raw = self.read_chunk(FrameKind::Trees, id)?;
        let decoded = format::tree::decode_tree(&raw).map_err(|e| Error::from_format(format!("tree {id}"), e));
        decoded.map(|(runs, projects)| Top { runs, projects })
    }

    /// Loads one run's list of leaves.
    pub(super) fn run(&self, id: &ChunkId) -> Result<Run> {
        let raw = self.read_chunk(FrameKind::Trees, id)?;
        let leaves = format::tree::decode_run(&raw).map_err(|e| Error::from_format(format!("run {id}"), e))?;
        Ok(Run { id: *id, leaves })
    }
}
