//! What snapshots refer to: which chunks must stay.

use std::collections::HashSet;

use rayon::prelude::*;

use super::format::pack::FrameKind;
use super::snapshot::Manifest;
use super::tree::LeafRef;
use super::{Repository, Result};
use crate::model::hash::ChunkId;

/// Chunks that some snapshots refer to: their trees, and every chunk that is named there or in their archives.
///
/// A chunk that an older run of a tree names counts, though a newer run may hide it: the run as a whole is shared with
/// other snapshots.
#[derive(Debug, Default)]
pub struct References {
    documents: Vec<ChunkId>,
    trees: Vec<ChunkId>,
}

impl References {
    /// Returns references to all of these chunks.
    pub fn to(chunks: impl Iterator<Item = (FrameKind, ChunkId)>) -> Self {
        let mut references = Self::default();
        for (kind, chunk) in chunks {
            match kind {
                FrameKind::Documents => references.documents.push(chunk),
                FrameKind::Trees => references.trees.push(chunk),
            }
        }
        for chunks in [&mut references.documents, &mut references.trees] {
            chunks.par_sort_unstable();
            chunks.dedup();
        }
        references
    }

    /// Returns the chunks of one kind, sorted.
    pub fn chunks(&self, kind: FrameKind) -> &[ChunkId] {
        match kind {
            FrameKind::Documents => &self.documents,
            FrameKind::Trees => &self.trees,
        }
    }

    /// Returns the chunks of one kind whose ids begin with these eight bytes.
    pub fn with_prefix(&self, kind: FrameKind, prefix: u64) -> &[ChunkId] {
        let chunks = self.chunks(kind);
        let start = chunks.partition_point(|chunk| chunk.prefix() < prefix);
        let length = chunks[start..].iter().take_while(|chunk| chunk.prefix() == prefix).count();
        &chunks[start..start + length]
    }

    /// Tells whether this very chunk is among them.
    pub fn has(&self, kind: FrameKind, chunk: &ChunkId) -> bool {
        self.chunks(kind).binary_search(chunk).is_ok()
    }
}

impl Repository {
    /// Returns what snapshots refer to. A node that they share is read once. `seen` is called after each snapshot; when it
    /// returns no, that is all.
    ///
    /// # Errors
    /// When a tree can't be read in full: an unread tree is not an empty one.
    pub fn references<'a>(
        &self,
        manifests: impl Iterator<Item = &'a Manifest>,
        mut seen: impl FnMut() -> bool,
    ) -> Result<References> {
        let (mut nodes, mut documents) = (HashSet::new(), Vec::new());
        let mut runs_known = HashSet::new();
        for manifest in manifests {
            documents.extend(manifest.archive.iter().flat_map(|archive| &archive.chunks).copied());
            if nodes.insert(manifest.tree) {
                let new = self.new_leaves(manifest, &mut nodes, &mut runs_known)?;
                let named = new.par_iter().map(|leaf| self.chunks_named(leaf)).collect::<Result<Vec<_>>>()?;
                documents.extend(named.into_iter().flatten());
            }
            if !seen() {
                break;
            }
        }
        documents.par_sort_unstable();
        documents.dedup();
        let mut trees: Vec<_> = nodes.into_iter().collect();
        trees.par_sort_unstable();
        Ok(References { documents, trees })
    }

    /// Returns the leaves of a snapshot's tree that were not seen yet.
    fn new_leaves(
        &self,
        manifest: &Manifest,
        nodes: &mut HashSet<ChunkId>,
        runs_known: &mut HashSet<ChunkId>,
    ) -> Result<Vec<LeafRef>> {
        let mut new = Vec::new();
        for id in self.tree_top(&manifest.tree)?.runs {
            if runs_known.insert(id) {
                nodes.insert(id);
                new.extend(self.run(&id)?.leaves.into_iter().filter(|leaf| nodes.insert(leaf.id)));
            }
        }
        Ok(new)
    }

    fn chunks_named(&self, leaf: &LeafRef) -> Result<Vec<ChunkId>> {
        let entries = self.leaf_entries(leaf)?;
        let documents = entries.iter().filter_map(|entry| entry.document());
        Ok(documents.flat_map(|document| document.chunks().collect::<Vec<_>>()).collect())
    }
}
