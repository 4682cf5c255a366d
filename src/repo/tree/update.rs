//! Writing a tree: all of it, or a run of changes over another.
//!
//! Why runs: with one node a directory, as others have it, or with any balanced tree of large nodes, changes spread at
//! random rewrite nearly all of the tree (`docs/decisions/0002-tree.md` has the figures).

use std::collections::BTreeSet;

use super::read::overlay;
use super::{LeafRef, Record, Run, Tree};
use crate::model::entry::Entry;
use crate::model::hash::ChunkId;
use crate::model::path::EntryPath;
use crate::model::root::{Projects, Roots};
use crate::model::scope::Scope;
use crate::repo::format;
use crate::repo::writer::Writer;
use crate::repo::{Repository, Result};

/// Most records of a leaf.
const LEAF_RECORDS_MAX: usize = 4096;
/// Bytes of paths and pieces at which a leaf ends early.
const LEAF_BYTES_MAX: usize = 1 << 20;
/// So many runs of like size are folded into one.
const RUNS_ALIKE_MAX: usize = 6;
/// Runs that hold more than this share of the base's records are folded into a new base.
const RUNS_SHARE_OF_BASE: (u64, u64) = (1, 2);

/// Writes a whole tree from its entries in path order.
pub struct TreeWriter {
    run: RunWriter,
    roots: Roots,
}

impl TreeWriter {
    /// Returns a writer of an empty tree.
    pub fn new() -> Self {
        Self { run: RunWriter::default(), roots: Roots::default() }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn push(&mut self, writer: &mut Writer<'_>, entry: Entry) -> Result<()> {
        self.roots.push(&entry);
        self.run.push(writer, Record::Present(entry))
    }

    /// Writes what is left and returns the tree.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn finish(self, writer: &mut Writer<'_>) -> Result<Tree> {
        let runs = self.run.finish(writer)?.into_iter().collect();
        put_tree(writer, runs, self.roots.finish())
    }
}

impl Default for TreeWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes a tree that differs from another by some changes, in path order. What is written follows the changes.
///
/// # Errors
/// When the other tree can't be read or the storage can't be written.
pub fn update(repo: &Repository, writer: &mut Writer<'_>, parent: &Tree, changes: &[Record]) -> Result<Tree> {
    if changes.is_empty() {
        return Ok(parent.clone());
    }
    let base_records = parent.runs.first().map_or(0, Run::records);
    let over_records = parent.runs.iter().skip(1).map(Run::records).sum::<u64>() + changes.len() as u64;
    let (share, of) = RUNS_SHARE_OF_BASE;
    if over_records * of > base_records * share {
        return rewrite(repo, writer, parent, changes);
    }
    let projects = updated_projects(repo, parent, changes)?;
    let (kept, folded) = parent.runs.split_at(runs_to_keep(&parent.runs, changes.len() as u64));
    let changes = changes.iter().cloned().map(Ok);
    let mut run = RunWriter::default();
    for record in overlay(repo.records(folded, &Scope::System), changes) {
        run.push(writer, record?)?;
    }
    let mut runs = kept.to_vec();
    runs.extend(run.finish(writer)?);
    put_tree(writer, runs, projects)
}

fn rewrite(repo: &Repository, writer: &mut Writer<'_>, parent: &Tree, changes: &[Record]) -> Result<Tree> {
    let mut tree = TreeWriter::new();
    let changes = changes.iter().cloned().map(Ok);
    for record in overlay(repo.records(&parent.runs, &Scope::System), changes) {
        if let Some(entry) = record?.into_entry() {
            tree.push(writer, entry)?;
        }
    }
    tree.finish(writer)
}

/// Returns how many of the runs stay as they are when one of `records` records is added: the others are folded into it.
///
/// Runs are of one tier when their sizes have the same magnitude to base four. As soon as the newest runs of a tier or
/// below would be [`RUNS_ALIKE_MAX`], they become one, of the next tier: so a record is written once a tier, and the
/// number of runs grows with the logarithm of the number of changes.
fn runs_to_keep(runs: &[Run], records: u64) -> usize {
    let tier = |records: u64| records.max(1).ilog(4);
    let mut keep = runs.len();
    let mut records = records;
    loop {
        // The base, the first run, is never folded here.
        let alike = runs[1..keep].iter().rev().take_while(|run| tier(run.records()) <= tier(records)).count();
        if alike + 1 < RUNS_ALIKE_MAX {
            return keep;
        }
        keep -= alike;
        records += runs[keep..keep + alike].iter().map(Run::records).sum::<u64>();
    }
}

/// Returns the parent's projects with those that the changes touch computed again.
fn updated_projects(repo: &Repository, parent: &Tree, changes: &[Record]) -> Result<Projects> {
    let touched: BTreeSet<&[u8]> = changes.iter().map(|change| change.path().project().unwrap_or_default()).collect();
    let mut projects = parent.projects.clone();
    projects.retain(|name, _| !touched.contains(&**name));
    // What lies at the top level is anywhere between the projects.
    let scopes: Vec<Scope> = if touched.contains(&b""[..]) {
        vec![Scope::System]
    } else {
        touched.iter().map(|name| Scope::Project(EntryPath::new(*name).expect("a part of a path is one"))).collect()
    };
    let mut roots = Roots::default();
    for scope in scopes {
        let changes = changes.iter().filter(|change| scope.contains(change.path()));
        for record in overlay(repo.records(&parent.runs, &scope), changes.cloned().map(Ok)) {
            if let Some(entry) = record?.into_entry()
                && touched.contains(entry.path.project().unwrap_or_default())
            {
                roots.push(&entry);
            }
        }
    }
    projects.extend(roots.finish());
    Ok(projects)
}

fn put_tree(writer: &mut Writer<'_>, runs: Vec<Run>, projects: Projects) -> Result<Tree> {
    let raw = format::tree::encode_tree(runs.iter().map(|run| run.id), &projects);
    let id = writer.put_node(&raw)?;
    Ok(Tree { id, runs, projects })
}

#[derive(Default)]
struct RunWriter {
    records: Vec<Record>,
    bytes: usize,
    leaves: Vec<LeafRef>,
}

impl RunWriter {
    fn push(&mut self, writer: &mut Writer<'_>, record: Record) -> Result<()> {
        self.bytes += record_bytes(&record);
        self.records.push(record);
        if self.records.len() >= LEAF_RECORDS_MAX || self.bytes >= LEAF_BYTES_MAX {
            self.end_leaf(writer)?;
        }
        Ok(())
    }

    fn end_leaf(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        let id = writer.put_node(&format::leaf::encode(&self.records))?;
        let records = u32::try_from(self.records.len()).expect("a leaf has few records");
        let first = self.records[0].path().clone();
        self.leaves.push(LeafRef { id, first, records });
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Returns the run, or nothing when there was no record.
    fn finish(mut self, writer: &mut Writer<'_>) -> Result<Option<Run>> {
        if !self.records.is_empty() {
            self.end_leaf(writer)?;
        }
        if self.leaves.is_empty() {
            return Ok(None);
        }
        let id: ChunkId = writer.put_node(&format::tree::encode_run(&self.leaves))?;
        Ok(Some(Run { id, leaves: self.leaves }))
    }
}

/// Returns about how many bytes a record takes in a leaf, as far as they may be many.
fn record_bytes(record: &Record) -> usize {
    let pieces = match record {
        Record::Present(entry) => entry.document().map_or(0, |document| document.pieces.len()),
        Record::Removed(_) => 0,
    };
    record.path().as_bytes().len() + pieces * size_of::<ChunkId>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::path::EntryPath;

    fn run(records: u32) -> Run {
        let leaf = LeafRef { id: ChunkId::of(b""), first: EntryPath::new(&b"x"[..]).unwrap(), records };
        Run { id: ChunkId::of(b""), leaves: vec![leaf] }
    }

    #[test]
    fn runs_of_like_size_are_folded_and_the_base_is_not() {
        let runs = |sizes: &[u32]| sizes.iter().map(|records| run(*records)).collect::<Vec<_>>();
        assert_eq!(runs_to_keep(&runs(&[5]), 3), 1);
        assert_eq!(runs_to_keep(&runs(&[1000, 2, 2, 2, 2]), 2), 5);
        assert_eq!(runs_to_keep(&runs(&[1000, 2, 2, 2, 2, 2]), 2), 1);
        assert_eq!(runs_to_keep(&runs(&[1000, 90, 2, 2, 2, 2, 2]), 2), 2);
        assert_eq!(runs_to_keep(&runs(&[1000, 8, 8, 8, 8, 8, 2, 2, 2, 2, 2]), 2), 1);
    }

    #[test]
    fn number_of_runs_stays_logarithmic() {
        let mut runs = vec![run(100_000)];
        for _ in 0..10_000 {
            let keep = runs_to_keep(&runs, 3);
            let folded: u64 = runs[keep..].iter().map(Run::records).sum();
            runs.truncate(keep);
            runs.push(run(u32::try_from(folded + 3).unwrap()));
            assert!(runs.len() <= 35, "{}", runs.len());
        }
    }
}
