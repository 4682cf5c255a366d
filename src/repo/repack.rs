//! Repacking: what is needed of some packs is copied into new ones, verified on the way. Nothing is removed here.

use std::collections::HashSet;

use super::chunks::{cut, mismatch};
use super::format::pack::FrameKind;
use super::index::{Index, Location, Pack, only_this_pack};
use super::packer::{Packer, Written};
use super::references::References;
use super::refill::Refill;
use super::{Error, Repository, Result};
use crate::model::hash::{ChunkId, PackId};
use crate::storage::ErrorKind;

/// What a repacking did.
#[derive(Debug, Default)]
pub struct Repacked {
    /// The new packs. They are durable.
    pub written: Vec<Written>,
    /// The packs of which all that is needed is sound in packs that stay.
    pub emptied: Vec<PackId>,
    /// The packs that are still needed, because something in them is damaged that is nowhere else.
    pub held: Vec<PackId>,
    /// What is damaged.
    pub damage: Vec<Error>,
}

/// What became of one pack.
enum Fate {
    Emptied,
    Held,
    /// Someone else removed it meanwhile.
    Gone,
}

impl Repository {
    /// Copies what `references` need of the packs with these numbers in the index into new packs, in the order given. A
    /// chunk of which a sound copy is in another pack without a mark is not copied. `next` is called before
    /// each pack; when it returns no, all is left as it is.
    ///
    /// # Errors
    /// When the storage can't be written. Damage is no error here.
    pub fn repack(
        &self,
        index: &Index,
        numbers: &[u32],
        references: &References,
        mut next: impl FnMut(&Pack) -> bool,
    ) -> Result<Repacked> {
        let mut repacked = Repacked::default();
        let mut copying = Copying {
            repo: self,
            index,
            references,
            leaving: numbers.iter().copied().collect(),
            copied: HashSet::new(),
            packer: Packer::new(&*self.storage, &self.codec),
            refill: Refill::default(),
        };
        for number in numbers {
            let pack = &index.packs()[*number as usize];
            if !next(pack) {
                // The new packs that are full stay, and nobody refers to them.
                return Ok(Repacked::default());
            }
            match copying.copy_pack(*number, &mut repacked.damage)? {
                Fate::Emptied => repacked.emptied.push(pack.id),
                Fate::Held => repacked.held.push(pack.id),
                Fate::Gone => {}
            }
        }
        repacked.written = copying.finish()?;
        Ok(repacked)
    }

    /// Tells whether a sound copy of a chunk is in a pack that is not marked and fits.
    pub fn is_sound_in(
        &self,
        index: &Index,
        kind: FrameKind,
        chunk: &ChunkId,
        fits: impl Fn(&Location, &Pack) -> bool,
    ) -> bool {
        let places = index.locate(kind, chunk).filter(|location| {
            let pack = index.pack(location);
            !pack.is_marked && fits(location, pack)
        });
        places.into_iter().any(|location| self.is_sound(index, &location, chunk))
    }
}

struct Copying<'a> {
    repo: &'a Repository,
    index: &'a Index,
    references: &'a References,
    /// Packs that are about to be left: copies in them do not count.
    leaving: HashSet<u32>,
    copied: HashSet<(FrameKind, ChunkId)>,
    packer: Packer<'a>,
    refill: Refill,
}

impl Copying<'_> {
    fn copy_pack(&mut self, number: u32, damage: &mut Vec<Error>) -> Result<Fate> {
        let directory = &self.index.packs()[number as usize].directory;
        let mut is_whole = true;
        for (frame, entry) in (0_u32..).zip(&directory.frames) {
            let chunks = entry.chunk_first as usize..(entry.chunk_first + entry.chunks) as usize;
            let prefixes = &directory.prefixes[chunks];
            if prefixes.iter().all(|prefix| self.references.with_prefix(entry.kind, *prefix).is_empty()) {
                continue;
            }
            let location = Location { pack: number, frame, start: 0, length: 0 };
            match self.repo.read_frame_stored(self.index, &location) {
                Ok((blob, raw)) => is_whole &= self.copy_frame(location, blob, &raw, damage)?,
                Err(Error::Storage(e)) if e.kind == ErrorKind::NotFound => return Ok(Fate::Gone),
                Err(error) => {
                    damage.push(only_this_pack(error)?);
                    is_whole &= self.is_elsewhere(entry.kind, prefixes);
                }
            }
        }
        Ok(if is_whole { Fate::Emptied } else { Fate::Held })
    }

    /// Copies what is needed of a frame. Returns whether all that is needed of it is sound somewhere.
    fn copy_frame(
        &mut self,
        mut location: Location,
        blob: Vec<u8>,
        raw: &[u8],
        damage: &mut Vec<Error>,
    ) -> Result<bool> {
        let directory = &self.index.pack(&location).directory;
        let entry = &directory.frames[location.frame as usize];
        let kind = entry.kind;
        let (mut is_whole, mut needed) = (true, Vec::new());
        for n in entry.chunk_first as usize..(entry.chunk_first + entry.chunks) as usize {
            location.start += location.length;
            location.length = directory.lengths[n];
            if self.references.with_prefix(kind, directory.prefixes[n]).is_empty() {
                continue;
            }
            let bytes = cut(raw, &location);
            let id = ChunkId::of(bytes);
            if id.prefix() != directory.prefixes[n] {
                damage.push(mismatch(self.index, &location, &id));
                is_whole &= self.is_elsewhere(kind, &directory.prefixes[n..=n]);
            } else if self.references.has(kind, &id) && !self.copied.contains(&(kind, id)) && !self.stays(kind, &id) {
                self.copied.insert((kind, id));
                needed.push((id, location));
            }
        }
        self.refill.put(entry, (blob, raw), &needed, &self.repo.codec, &mut self.packer)?;
        Ok(is_whole)
    }

    /// Tells whether a sound copy is in a pack that stays.
    fn stays(&self, kind: FrameKind, id: &ChunkId) -> bool {
        self.repo.is_sound_in(self.index, kind, id, |location, _| !self.leaving.contains(&location.pack))
    }

    /// Tells whether everything that is needed under these prefixes is sound in a new pack or one that stays.
    fn is_elsewhere(&self, kind: FrameKind, prefixes: &[u64]) -> bool {
        let needed = prefixes.iter().flat_map(|prefix| self.references.with_prefix(kind, *prefix));
        needed.into_iter().all(|id| self.copied.contains(&(kind, *id)) || self.stays(kind, id))
    }

    fn finish(mut self) -> Result<Vec<Written>> {
        self.refill.finish(&self.repo.codec, &mut self.packer)?;
        self.packer.finish()
    }
}
