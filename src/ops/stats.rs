//! Stats: what a repository holds and what it takes.

use super::Result;
use crate::repo::Repository;
use crate::repo::format::pack::FrameKind;

/// Sizes and counts of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots.
    pub snapshots: u64,
    /// Documents of the newest backup.
    pub documents: u64,
    /// The sum of their sizes, in bytes.
    pub document_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Length of all packs, in bytes.
    pub pack_bytes: u64,
    /// Distinct chunks of documents (a chunk that two writers stored at once counts twice).
    pub chunks: u64,
    /// Length of these chunks before compression, in bytes.
    pub chunk_bytes: u64,
    /// Length of these chunks as stored, in bytes.
    pub chunk_bytes_stored: u64,
    /// Length of the nodes of trees as stored, in bytes.
    pub tree_bytes_stored: u64,
    /// Packs that a prune has marked for removal.
    pub marked_packs: u64,
}

/// Returns the sizes of a repository, without reading a document.
///
/// # Errors
/// When the repository can't be read.
pub fn stats(repo: &Repository) -> Result<Stats> {
    let list = repo.snapshots()?;
    if let Some(error) = list.unreadable.into_iter().next() {
        return Err(error.into());
    }
    let mut stats = Stats { snapshots: list.snapshots.len() as u64, ..Stats::default() };
    let mut backups = list.snapshots.iter().rev().filter(|snapshot| snapshot.manifest.is_backup());
    if let Some(newest) = backups.next() {
        stats.documents = newest.manifest.documents;
        stats.document_bytes = newest.manifest.bytes;
    }
    let index = repo.index()?;
    for pack in index.packs() {
        stats.packs += 1;
        stats.pack_bytes += pack.size_bytes;
        stats.marked_packs += u64::from(pack.is_marked);
        for frame in &pack.directory.frames {
            match frame.kind {
                FrameKind::Documents => {
                    stats.chunks += u64::from(frame.chunks);
                    stats.chunk_bytes += u64::from(frame.raw_bytes);
                    stats.chunk_bytes_stored += u64::from(frame.stored_bytes);
                }
                FrameKind::Trees => stats.tree_bytes_stored += u64::from(frame.stored_bytes),
            }
        }
    }
    Ok(stats)
}
