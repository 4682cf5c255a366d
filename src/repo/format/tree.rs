//! The nodes of a tree as they are stored: a *tree* lists runs, a *run* lists leaves, a *leaf* holds records.

use serde::{Deserialize, Serialize};

use super::{FormatError, Result, from_bytes, id_bytes, to_bytes};
use crate::model::hash::{ChunkId, Root};
use crate::model::path::EntryPath;
use crate::model::root::{ProjectSummary, Projects};
use crate::repo::tree::LeafRef;

#[derive(Serialize, Deserialize)]
struct StoredTree {
    runs: Vec<serde_bytes::ByteBuf>,
    projects: Vec<StoredProject>,
}

#[derive(Serialize, Deserialize)]
struct StoredProject {
    #[serde(with = "serde_bytes")]
    name: Vec<u8>,
    #[serde(with = "serde_bytes")]
    root: Vec<u8>,
    documents: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredRun {
    leaves: Vec<StoredLeafRef>,
}

#[derive(Serialize, Deserialize)]
struct StoredLeafRef {
    #[serde(with = "serde_bytes")]
    leaf: Vec<u8>,
    #[serde(with = "serde_bytes")]
    first: Vec<u8>,
    records: u32,
}

/// Returns the bytes of a tree node.
pub fn encode_tree(runs: impl Iterator<Item = ChunkId>, projects: &Projects) -> Vec<u8> {
    let runs = runs.map(|run| serde_bytes::ByteBuf::from(run.as_bytes())).collect();
    let projects = projects.iter().map(|(name, project)| StoredProject {
        name: name.to_vec(),
        root: project.root.as_bytes().to_vec(),
        documents: project.documents,
        bytes: project.bytes,
    });
    to_bytes(&StoredTree { runs, projects: projects.collect() })
}

/// Reads a tree node back.
pub fn decode_tree(raw: &[u8]) -> Result<(Vec<ChunkId>, Projects)> {
    let stored: StoredTree = from_bytes(raw, "a tree")?;
    let runs = stored.runs.iter().map(|run| id_bytes(run, "a run id").map(ChunkId::from_bytes));
    let projects = stored.projects.iter().map(|project| {
        let root = Root::from_bytes(id_bytes(&project.root, "a project root")?);
        let summary = ProjectSummary { root, documents: project.documents, bytes: project.bytes };
        Ok((project.name.clone().into_boxed_slice(), summary))
    });
    Ok((runs.collect::<Result<_>>()?, projects.collect::<Result<_>>()?))
}

/// Returns the bytes of a run node.
pub fn encode_run(leaves: &[LeafRef]) -> Vec<u8> {
    let leaves = leaves.iter().map(|leaf| StoredLeafRef {
        leaf: leaf.id.as_bytes().to_vec(),
        first: leaf.first.as_bytes().to_vec(),
        records: leaf.records,
    });
    to_bytes(&StoredRun { leaves: leaves.collect() })
}

/// Reads a run node back.
pub fn decode_run(raw: &[u8]) -> Result<Vec<LeafRef>> {
    let stored: StoredRun = from_bytes(raw, "a run")?;
    let leaves = stored.leaves.into_iter().map(|leaf| {
        let first = EntryPath::new(leaf.first).map_err(|e| FormatError::malformed(e.to_string()))?;
        Ok(LeafRef { id: ChunkId::from_bytes(id_bytes(&leaf.leaf, "a leaf id")?), first, records: leaf.records })
    });
    let leaves = leaves.collect::<Result<Vec<_>>>()?;
    match leaves.is_sorted_by(|a, b| a.first < b.first) {
        true => Ok(leaves),
        false => Err(FormatError::malformed("the leaves of a run are out of order")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_of_a_run_ascend() {
        let leaf = |first: &str| LeafRef {
            id: ChunkId::of(first.as_bytes()),
            first: EntryPath::new(first.as_bytes()).unwrap(),
            records: 1,
        };
        let sorted = [leaf("a"), leaf("b")];
        assert_eq!(decode_run(&encode_run(&sorted)), Ok(sorted.to_vec()));
        assert!(decode_run(&encode_run(&[leaf("b"), leaf("a")])).is_err());
        assert!(decode_run(&encode_run(&[leaf("a"), leaf("a")])).is_err());
    }
}
