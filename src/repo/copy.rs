//! Copying to another repository. Ids are the same everywhere, so chunks and snapshots keep theirs.

use std::collections::HashSet;

use rayon::prelude::*;

use super::chunks::cut;
use super::format::pack::FrameKind;
use super::index::{Index, Location};
use super::references::References;
use super::refill::Refill;
use super::snapshot::Snapshot;
use super::writer::{Claims, Writer};
use super::{Repository, Result};
use crate::model::hash::ChunkId;

/// How many frames are read at once, in parallel.
const FRAMES_AHEAD: usize = 16;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopiedChunks {
    /// Chunks that the other repository did not have.
    pub chunks: u64,
    /// Their length before compression, in bytes.
    pub raw_bytes: u64,
}

/// A frame as it is stored, unfolded, and those of its chunks that are wanted and sound.
type ReadFrame = (Location, Vec<u8>, Vec<u8>, Vec<(ChunkId, Location)>);

impl Repository {
    /// Copies all chunks that `references` name and that the other repository does not have: what `claims` is a session
    /// of, and `writer` its writer. Each is verified on the way. `next` is called with the length of each part of packs that was
    /// looked through; when it returns no, that is all, and nothing is returned.
    ///
    /// # Errors
    /// When a chunk is missing or damaged; when one of the repositories can't be read, or the other not written.
    pub fn copy_chunks(
        &self,
        references: &References,
        claims: &Claims<'_>,
        writer: &mut Writer<'_>,
        mut next: impl FnMut(u64) -> bool,
    ) -> Result<Option<CopiedChunks>> {
        let kinds = [FrameKind::Documents, FrameKind::Trees];
        let wanted = kinds.map(|kind| {
            let chunks = references.chunks(kind).par_iter();
            chunks.filter(|id| claims.claim(kind, id)).map(|id| (kind, *id)).collect::<Vec<_>>()
        });
        let mut left: HashSet<(FrameKind, ChunkId)> = wanted.iter().flatten().copied().collect();
        let wanted = References::to(wanted.into_iter().flatten());
        let index = self.index()?;
        let mut copied = CopiedChunks::default();
        let mut refill = Refill::default();
        for locations in frames_with(&index, &wanted).chunks(FRAMES_AHEAD) {
            let read = locations.par_iter().map(|location| self.read_wanted(&index, *location, &wanted));
            // What can't be read may be in another pack, too: see below.
            for (location, blob, raw, mut found) in read.collect::<Vec<_>>().into_iter().flatten() {
                let entry = index.frame(&location);
                found.retain(|(id, _)| left.remove(&(entry.kind, *id)));
                copied.chunks += found.len() as u64;
                copied.raw_bytes += found.iter().map(|(_, location)| u64::from(location.length)).sum::<u64>();
                refill.put(entry, (blob, &raw), &found, &self.codec, writer.packer())?;
            }
            if !next(locations.iter().map(|location| u64::from(index.frame(location).stored_bytes)).sum()) {
                return Ok(None);
            }
        }
        if !left.is_empty() {
            // Damaged there, or moved to other packs meanwhile.
            self.refresh();
        }
        let mut left: Vec<_> = left.into_iter().collect();
        left.sort_unstable_by_key(|(_, id)| *id);
        for (kind, id) in left {
            let bytes = self.read_chunk(kind, &id)?;
            copied.chunks += 1;
            copied.raw_bytes += bytes.len() as u64;
            refill.push(kind, &id, &bytes, &self.codec, writer.packer())?;
        }
        refill.finish(&self.codec, writer.packer())?;
        Ok(Some(copied))
    }

    /// Returns the bytes of a snapshot's file, verified: they may have fields that this program does not know.
    ///
    /// # Errors
    /// When it can't be read, or is damaged.
    pub fn snapshot_file(&self, snapshot: &Snapshot) -> Result<Vec<u8>> {
        let file = self.storage.read(&snapshot.object())?;
        self.decode_snapshot(snapshot.id, &file)?;
        Ok(file)
    }

    /// Reads a frame and finds in it what is wanted; nothing if it can't be read.
    fn read_wanted(&self, index: &Index, mut location: Location, wanted: &References) -> Option<ReadFrame> {
        let frame = location;
        let (blob, raw) = self.read_frame_stored(index, &location).ok()?;
        let (directory, entry) = (&index.pack(&location).directory, index.frame(&location));
        let mut found = Vec::new();
        for n in entry.chunk_first as usize..(entry.chunk_first + entry.chunks) as usize {
            location.start += location.length;
            location.length = directory.lengths[n];
            if !wanted.with_prefix(entry.kind, directory.prefixes[n]).is_empty() {
                let id = ChunkId::of(cut(&raw, &location));
                found.extend(wanted.has(entry.kind, &id).then_some((id, location)));
            }
        }
        Some((frame, blob, raw, found))
    }
}

/// Returns the frames that may have something that is wanted, in the order in which their packs were written.
fn frames_with(index: &Index, wanted: &References) -> Vec<Location> {
    let mut packs: Vec<_> = (0_u32..).zip(index.packs()).collect();
    packs.sort_unstable_by_key(|(_, pack)| (pack.modified, pack.id));
    let frames = packs.into_iter().flat_map(|(number, pack)| {
        let frames = (0_u32..).zip(&pack.directory.frames);
        let wanted = frames.filter(|(_, entry)| {
            let chunks = entry.chunk_first as usize..(entry.chunk_first + entry.chunks) as usize;
            let prefixes = &pack.directory.prefixes[chunks];
            prefixes.iter().any(|prefix| !wanted.with_prefix(entry.kind, *prefix).is_empty())
        });
        wanted.map(move |(frame, _)| Location { pack: number, frame, start: 0, length: 0 }).collect::<Vec<_>>()
    });
    frames.collect()
}
