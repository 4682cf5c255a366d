//! Verifying stored bytes against the hashes they are named by.

use rayon::prelude::*;

use super::chunks::{cut, mismatch};
use super::format::header::{self, FileKind};
use super::format::pack::FrameKind;
use super::index::{Index, Location, PACKS, only_this_pack};
use super::{Error, Repository, Result};
use crate::model::hash::{ChunkId, PackId};
use crate::storage::ErrorKind;

/// What was found when every byte of a pack was read.
#[derive(Debug, Default)]
pub struct PackVerdict {
    /// The chunks whose bytes match the index, by their full ids.
    pub sound: Vec<(FrameKind, ChunkId)>,
    /// What is wrong.
    pub damage: Vec<Error>,
}

impl Repository {
    /// Reads every byte of the pack with this number in the index and verifies every chunk in it, frames in parallel.
    ///
    /// # Errors
    /// When the storage can't be read. Damage is no error here, but part of the verdict.
    pub fn verify_pack(&self, index: &Index, number: usize) -> Result<PackVerdict> {
        let pack = &index.packs()[number];
        let object = format!("pack {}", pack.id);
        let mut verdict = PackVerdict::default();
        let mut damaged =
            |what: &str| verdict.damage.push(Error::Damaged { object: object.clone(), what: what.into() });
        let file = match self.storage.read(&format!("{PACKS}/{}", pack.id)) {
            Err(e) if e.kind == ErrorKind::NotFound => {
                damaged("it disappeared while it was checked");
                return Ok(verdict);
            }
            Err(e) => {
                verdict.damage.push(only_this_pack(e.into())?);
                return Ok(verdict);
            }
            Ok(file) => file,
        };
        if PackId::of(&file) == pack.id {
            header::strip(FileKind::Pack, &file).map_err(|e| Error::from_format(object, e))?;
        } else {
            damaged("its bytes do not match its name");
        }
        let frames: Vec<PackVerdict> = (0..pack.directory.frames.len())
            .into_par_iter()
            .map(|frame| self.verify_frame(index, number, frame, &file))
            .collect();
        for frame in frames {
            verdict.sound.extend(frame.sound);
            verdict.damage.extend(frame.damage);
        }
        Ok(verdict)
    }

    fn verify_frame(&self, index: &Index, pack: usize, frame: usize, file: &[u8]) -> PackVerdict {
        let mut verdict = PackVerdict::default();
        let entry = &index.packs()[pack].directory.frames[frame];
        let directory = &index.packs()[pack].directory;
        let object = || format!("frame {frame} of pack {}", index.packs()[pack].id);
        let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
        let Some(blob) = file.get(start..start.saturating_add(entry.stored_bytes as usize)) else {
            verdict.damage.push(Error::Damaged { object: object(), what: "it is cut off".to_owned() });
            return verdict;
        };
        let raw = match self.codec.decode(blob, entry.raw_bytes as usize) {
            Ok(raw) => raw,
            Err(error) => {
                verdict.damage.push(Error::from_format(object(), error));
                return verdict;
            }
        };
        let number = |value: usize| u32::try_from(value).expect("an index counts packs and frames in 32 bits");
        let mut location = Location { pack: number(pack), frame: number(frame), start: 0, length: 0 };
        for chunk in entry.chunk_first as usize..(entry.chunk_first + entry.chunks) as usize {
            location.start += location.length;
            location.length = directory.lengths[chunk];
            let id = ChunkId::of(cut(&raw, &location));
            if id.prefix() == directory.prefixes[chunk] {
                verdict.sound.push((entry.kind, id));
            } else {
                verdict.damage.push(mismatch(index, &location, &id));
            }
        }
        verdict
    }
}
