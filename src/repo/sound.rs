//! Which chunks of a frame are sound. Documents that are stored already come in any order, and a frame holds a thousand of
//! them: to decode it for each would take a backup minutes after a restore.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Repository;
use super::chunks::cut;
use super::index::{Index, Location};
use crate::model::hash::{ChunkId, PackId};

type FrameKey = (PackId, u32);
/// The sound chunks of a frame, sorted, once it was read. Who comes meanwhile waits.
type Sound = Arc<OnceLock<Vec<ChunkId>>>;

/// What is known of frames.
#[derive(Debug, Default)]
pub(super) struct SoundFrames(Mutex<HashMap<FrameKey, Sound>>);

impl SoundFrames {
    /// Forgets all: that a pack was sound does not show that it is still there.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn of(&self, frame: FrameKey) -> Sound {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(frame).or_default())
    }
}

impl Repository {
    /// Tells whether the copy of a chunk at a location is sound. All of its frame is read and verified the first time.
    pub(super) fn is_sound(&self, index: &Index, location: &Location, chunk: &ChunkId) -> bool {
        let frame = self.sound.of((index.pack(location).id, location.frame));
        // A copy that can't be read is as good as none.
        frame.get_or_init(|| self.sound_chunks(index, location).unwrap_or_default()).binary_search(chunk).is_ok()
    }

    fn sound_chunks(&self, index: &Index, location: &Location) -> super::Result<Vec<ChunkId>> {
        let raw = self.read_frame(index, location)?;
        let (directory, entry) = (&index.pack(location).directory, index.frame(location));
        let mut place = Location { start: 0, length: 0, ..*location };
        let mut sound = Vec::with_capacity(entry.chunks as usize);
        for n in entry.chunk_first as usize..(entry.chunk_first + entry.chunks) as usize {
            place.start += place.length;
            place.length = directory.lengths[n];
            let id = ChunkId::of(cut(&raw, &place));
            if id.prefix() == directory.prefixes[n] {
                sound.push(id);
            }
        }
        sound.sort_unstable();
        Ok(sound)
    }
}
