//! Index segments: many small ones are merged, and what they say of packs that are gone is left behind.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;

use super::format::pack::Directory;
use super::index::{Index, SEGMENTS, read_segment};
use super::packer::Written;
use super::writer::LOOSE_PACKS_MAX;
use super::{Error, Repository, Result, format};
use crate::model::hash::{IndexId, PackId};
use crate::storage::Object;

/// Chunks at which a segment is closed, and is no longer merged with others.
const SEGMENT_CHUNKS: usize = 1_000_000;
/// So many segments that could be merged are merged.
const SEGMENTS_MAX: usize = 8;
/// Chunks of packs that are gone, as a share of those in the segments that could be merged, above which they are.
const DEAD_SHARE: (usize, usize) = (1, 2);

/// What merging segments did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// Segments that were written.
    pub written: u64,
    /// Segments that were removed, because others have all they have.
    pub removed: u64,
}

/// A segment, and what of it is of use.
struct Segment {
    object: Object,
    is_damaged: bool,
    living: BTreeMap<PackId, (u64, Directory)>,
    living_chunks: usize,
    dead_chunks: usize,
}

impl Segment {
    fn is_full(&self) -> bool {
        self.living_chunks >= SEGMENT_CHUNKS && self.dead_chunks * 4 <= self.living_chunks
    }
}

impl Repository {
    /// Merges index segments when there are many, when some are damaged, or when much of what they say is of packs that
    /// are gone; and gives packs a place in one that have none, `written` among them.
    ///
    /// # Errors
    /// When the storage can't be read or written.
    pub fn merge_segments(&self, index: &Index, written: &[Written]) -> Result<Merged> {
        let present = self.packs_present()?;
        let mut segments = self.segments(&present)?;
        segments.retain(|segment| !segment.is_full());
        let in_segments: HashSet<PackId> = segments.iter().flat_map(|segment| segment.living.keys()).copied().collect();
        let known = index.packs().iter().filter(|pack| !pack.is_in_segment && present.contains(&pack.id));
        let known = known.map(|pack| (pack.id, pack.size_bytes, &pack.directory));
        let new = written.iter().map(|pack| (pack.id, pack.size_bytes, &pack.directory));
        let loose: Vec<_> = known.chain(new).filter(|(id, ..)| !in_segments.contains(id)).collect();
        let dead: usize = segments.iter().map(|segment| segment.dead_chunks).sum();
        let living: usize = segments.iter().map(|segment| segment.living_chunks).sum();
        let (share, of) = DEAD_SHARE;
        let is_due = loose.len() >= LOOSE_PACKS_MAX
            || segments.len() >= SEGMENTS_MAX
            || segments.iter().any(|segment| segment.is_damaged)
            || dead * of > (dead + living) * share;
        if !is_due {
            return Ok(Merged::default());
        }
        let mut packs: BTreeMap<PackId, (u64, &Directory)> =
            loose.into_iter().map(|(id, size, directory)| (id, (size, directory))).collect();
        for segment in &segments {
            packs.extend(segment.living.iter().map(|(id, (size, directory))| (*id, (*size, directory))));
        }
        let names = self.write_segments(&packs)?;
        let mut merged = Merged { written: 0, removed: 0 };
        merged.written = names.iter().filter(|(_, is_new)| *is_new).count() as u64;
        // Only now that others have all they have.
        for segment in segments.iter().filter(|segment| names.iter().all(|(name, _)| *name != segment.object.name)) {
            merged.removed += u64::from(self.remove_if_there(&format!("{SEGMENTS}/{}", segment.object.name))?);
        }
        Ok(merged)
    }

    fn segments(&self, present: &HashSet<PackId>) -> Result<Vec<Segment>> {
        let objects = self.storage.list(SEGMENTS)?;
        let read = objects.into_par_iter().map(|object| {
            let (packs, is_damaged) = match read_segment(&*self.storage, &self.codec, &object) {
                Ok(packs) => (packs, false),
                Err(error) if error.is_damage() => (Vec::new(), true),
                Err(error) => return Err(error),
            };
            let mut segment = Segment { object, is_damaged, living: BTreeMap::new(), living_chunks: 0, dead_chunks: 0 };
            for pack in packs {
                let chunks = pack.directory.lengths.len();
                if present.contains(&pack.id) {
                    segment.living_chunks += chunks;
                    segment.living.insert(pack.id, (pack.size_bytes, pack.directory));
                } else {
                    segment.dead_chunks += chunks;
                }
            }
            Ok(segment)
        });
        read.collect()
    }

    /// Writes segments and returns their names, each with whether it was not there yet.
    fn write_segments(&self, packs: &BTreeMap<PackId, (u64, &Directory)>) -> Result<Vec<(String, bool)>> {
        let mut names = Vec::new();
        let mut rest = packs.iter().peekable();
        while rest.peek().is_some() {
            let (mut chunks, mut part) = (0, Vec::new());
            while let Some((id, (size, directory))) = rest.next_if(|_| chunks < SEGMENT_CHUNKS) {
                chunks += directory.lengths.len();
                part.push((*id, *size, *directory));
            }
            let file = format::index::encode(part.into_iter(), &self.codec);
            let name = IndexId::of(&file).to_string();
            let is_new = match self.storage.put(&format!("{SEGMENTS}/{name}"), &file) {
                Err(e) if e.kind == crate::storage::ErrorKind::Exists => false,
                result => result.map(|()| true).map_err(Error::from)?,
            };
            names.push((name, is_new));
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn segment_is_full_when_it_has_enough_and_little_of_it_is_gone() {
        let segment = |living_chunks, dead_chunks| Segment {
            object: Object { name: String::new(), size_bytes: 0, modified: SystemTime::UNIX_EPOCH },
            is_damaged: false,
            living: BTreeMap::new(),
            living_chunks,
            dead_chunks,
        };
        assert!(segment(SEGMENT_CHUNKS, 0).is_full());
        assert!(segment(SEGMENT_CHUNKS, SEGMENT_CHUNKS / 4).is_full());
        assert!(!segment(SEGMENT_CHUNKS, SEGMENT_CHUNKS / 4 + 1).is_full());
        assert!(!segment(SEGMENT_CHUNKS - 1, 0).is_full());
    }
}
