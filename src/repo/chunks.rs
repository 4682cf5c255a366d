//! Reading chunks: find the frame, decode it, cut the chunk out, verify its hash.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::format::pack::FrameKind;
use super::index::{Index, Location, PACKS};
use super::{Error, Repository, Result};
use crate::model::hash::{ChunkId, PackId};
use crate::model::log::LogRecord;

/// Most decoded frames that are kept: enough for threads that each walk their own part of a tree.
const FRAMES_KEPT_MAX: usize = 8;

type FrameKey = (PackId, u32);

/// The frames that were decoded last, newest at the back.
#[derive(Debug, Default)]
pub(super) struct FrameCache(Mutex<VecDeque<(FrameKey, Arc<Vec<u8>>)>>);

impl FrameCache {
    fn get(&self, key: FrameKey) -> Option<Arc<Vec<u8>>> {
        let frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frames.iter().find(|(kept, _)| *kept == key).map(|(_, frame)| Arc::clone(frame))
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn put(&self, key: FrameKey, frame: &Arc<Vec<u8>>) {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() == FRAMES_KEPT_MAX {
            frames.pop_front();
        }
        frames.push_back((key, Arc::clone(frame)));
    }
}

impl Repository {
    /// Returns a chunk, verified against its id. Of several copies the first that is sound is taken.
    ///
    /// # Errors
    /// [`Error::MissingChunk`] when no pack has it, [`Error::Damaged`] when no copy is sound.
    pub fn read_chunk(&self, kind: FrameKind, chunk: &ChunkId) -> Result<Vec<u8>> {
        let index = self.index()?;
        let mut failure = Error::MissingChunk { chunk: *chunk };
        for location in index.locate(kind, chunk) {
            let frame = match self.cached_frame(&index, &location) {
                Ok(frame) => frame,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            let bytes = cut(&frame, &location);
            if ChunkId::of(bytes) == *chunk {
                return Ok(bytes.to_vec());
            }
            failure = mismatch(&index, &location, chunk);
        }
        Err(failure)
    }

    /// Returns the records of a store's log of changes that a chunk holds.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn log_records(&self, chunk: &ChunkId) -> Result<Vec<LogRecord>> {
        let raw = self.read_chunk(FrameKind::Documents, chunk)?;
        super::format::log::decode(&raw).map_err(|e| Error::from_format(format!("archive {chunk}"), e))
    }

    /// Returns the raw bytes of the frame at a location. Its chunks are not verified yet.
    ///
    /// # Errors
    /// When the pack can't be read or the frame can't be decoded.
    pub fn read_frame(&self, index: &Index, location: &Location) -> Result<Vec<u8>> {
        self.read_frame_stored(index, location).map(|(_, raw)| raw)
    }

    /// Returns the frame at a location as it is stored, and its raw bytes.
    pub(super) fn read_frame_stored(&self, index: &Index, location: &Location) -> Result<(Vec<u8>, Vec<u8>)> {
        let (pack, frame) = (index.pack(location), index.frame(location));
        let name = format!("{PACKS}/{}", pack.id);
        let blob = self.storage.read_range(&name, frame.offset, frame.stored_bytes as usize)?;
        let raw = self.codec.decode(&blob, frame.raw_bytes as usize);
        let raw = raw.map_err(|e| Error::from_format(format!("frame {} of pack {}", location.frame, pack.id), e))?;
        Ok((blob, raw))
    }

    fn cached_frame(&self, index: &Index, location: &Location) -> Result<Arc<Vec<u8>>> {
        let key = (index.pack(location).id, location.frame);
        if let Some(frame) = self.frames.get(key) {
            return Ok(frame);
        }
        let frame = Arc::new(self.read_frame(index, location)?);
        self.frames.put(key, &frame);
        Ok(frame)
    }

    /// Tells whether a sound copy of a chunk is in a pack that no prune has marked: one that may be relied on.
    pub(super) fn holds_soundly(&self, index: &Index, kind: FrameKind, chunk: &ChunkId) -> bool {
        // A copy that can't be read is as good as none: the document is stored again, and so healed.
        self.is_sound_in(index, kind, chunk, |_, _| true)
    }
}

/// Returns the bytes of the chunk at `location` in its decoded frame.
pub fn cut<'a>(frame: &'a [u8], location: &Location) -> &'a [u8] {
    &frame[location.start as usize..][..location.length as usize]
}

/// Returns the error for a chunk whose bytes are not those it is named after.
pub fn mismatch(index: &Index, location: &Location, chunk: &ChunkId) -> Error {
    Error::Damaged {
        object: format!("chunk {chunk} in pack {}", index.pack(location).id),
        what: "its bytes do not match its hash".to_owned(),
    }
}
