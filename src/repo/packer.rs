//! Writing packs: frames go in as they are made, the directory at the end.

use super::Result;
use super::codec::Codec;
use super::format::header::{self, FileKind};
use super::format::pack::{Directory, FrameKind, SALT_BYTES, encode_tail};
use super::index::PACKS;
use crate::model::hash::{ChunkId, PackId};
use crate::storage::{self, NewObject, Storage};

/// Raw bytes of a frame: a chunk that would exceed it begins the next one.
pub const FRAME_RAW_BYTES: usize = 2 << 20;
/// Bytes at which a pack is closed and the next one begun.
const PACK_BYTES: u64 = 16 << 20;
/// Chunks at which a pack is closed, so that its directory stays far below what a reader accepts.
const PACK_CHUNKS: usize = 1_000_000;
/// Documents and trees of a backup that stores less than this share one pack, so that it puts one object, not two.
const SMALL_BYTES: u64 = 1 << 20;

/// Chunks being gathered for a frame.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    raw: Vec<u8>,
    lengths: Vec<u32>,
    prefixes: Vec<u64>,
}

/// A frame ready to be put into a pack.
#[derive(Debug)]
pub struct EncodedFrame {
    blob: Vec<u8>,
    lengths: Vec<u32>,
    prefixes: Vec<u64>,
}

impl FrameBuilder {
    /// Appends a chunk.
    pub fn push(&mut self, chunk: &ChunkId, bytes: &[u8]) {
        let start = self.raw.len();
        self.raw.extend_from_slice(bytes);
        self.keep(chunk, start);
    }

    /// Returns the raw bytes so far, for a chunk to be read right behind them: no byte is copied on its way into a
    /// frame. [`FrameBuilder::keep`] makes it one, [`FrameBuilder::drop_from`] takes it out again.
    pub fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.raw
    }

    /// Makes all that was appended from `start` on a chunk.
    pub fn keep(&mut self, chunk: &ChunkId, start: usize) {
        self.lengths.push(u32::try_from(self.raw.len() - start).expect("a chunk is smaller than a frame"));
        self.prefixes.push(chunk.prefix());
    }

    /// Takes out what was appended from `start` on.
    pub fn drop_from(&mut self, start: usize) {
        self.raw.truncate(start);
    }

    /// Returns the number of raw bytes so far.
    pub fn raw_bytes(&self) -> usize {
        self.raw.len()
    }

    /// Tells whether there is no chunk yet.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Compresses the frame and leaves the builder empty.
    pub fn encode(&mut self, codec: &Codec) -> EncodedFrame {
        let blob = codec.encode(&self.raw);
        self.raw.clear();
        EncodedFrame { blob, lengths: std::mem::take(&mut self.lengths), prefixes: std::mem::take(&mut self.prefixes) }
    }
}

impl EncodedFrame {
    /// Takes a frame over from another pack.
    pub(super) fn as_stored(blob: Vec<u8>, lengths: Vec<u32>, prefixes: Vec<u64>) -> Self {
        Self { blob, lengths, prefixes }
    }

    /// Returns the length of the frame as it is stored.
    pub fn stored_bytes(&self) -> u64 {
        self.blob.len() as u64
    }
}

/// A pack that is in the storage.
#[derive(Debug)]
pub struct Written {
    /// Its id.
    pub id: PackId,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// What is in it.
    pub directory: Directory,
}

/// Puts frames into packs: documents into some, trees into others, and into one together when there is little of both.
pub struct Packer<'a> {
    storage: &'a dyn Storage,
    codec: &'a Codec,
    documents: Option<OpenPack<'a>>,
    trees: Option<OpenPack<'a>>,
    /// Frames of trees that wait to see whether the backup stays small.
    trees_waiting: Vec<EncodedFrame>,
    trees_waiting_bytes: u64,
    written: Vec<Written>,
}

impl<'a> Packer<'a> {
    /// Returns a packer that writes to `storage`.
    pub fn new(storage: &'a dyn Storage, codec: &'a Codec) -> Self {
        Self {
            storage,
            codec,
            documents: None,
            trees: None,
            trees_waiting: Vec::new(),
            trees_waiting_bytes: 0,
            written: Vec::new(),
        }
    }

    /// Adds a frame.
    pub fn push(&mut self, kind: FrameKind, frame: EncodedFrame) -> Result<()> {
        match kind {
            FrameKind::Documents => self.push_now(kind, &frame),
            FrameKind::Trees => {
                self.trees_waiting_bytes += frame.stored_bytes();
                self.trees_waiting.push(frame);
                if self.trees_waiting_bytes > SMALL_BYTES { self.release_trees() } else { Ok(()) }
            }
        }
    }

    /// Closes all packs and returns them. They are durable.
    pub fn finish(mut self) -> Result<Vec<Written>> {
        let shared = self.documents.take_if(|open| {
            self.written.is_empty() && self.trees.is_none() && open.bytes + self.trees_waiting_bytes <= SMALL_BYTES
        });
        if let Some(mut open) = shared {
            for frame in std::mem::take(&mut self.trees_waiting) {
                open.push(FrameKind::Trees, &frame)?;
            }
            self.close(open)?;
        } else {
            self.release_trees()?;
        }
        for open in [self.documents.take(), self.trees.take()].into_iter().flatten() {
            self.close(open)?;
        }
        Ok(self.written)
    }

    fn release_trees(&mut self) -> Result<()> {
        self.trees_waiting_bytes = 0;
        let waiting = std::mem::take(&mut self.trees_waiting);
        waiting.iter().try_for_each(|frame| self.push_now(FrameKind::Trees, frame))
    }

    fn push_now(&mut self, kind: FrameKind, frame: &EncodedFrame) -> Result<()> {
        let slot = match kind {
            FrameKind::Documents => &mut self.documents,
            FrameKind::Trees => &mut self.trees,
        };
        let open = match slot {
            Some(open) => open,
            None => slot.insert(OpenPack::begin(self.storage)?),
        };
        open.push(kind, frame)?;
        match slot.take_if(|open| open.is_full()) {
            Some(full) => self.close(full),
            None => Ok(()),
        }
    }

    fn close(&mut self, open: OpenPack<'_>) -> Result<()> {
        self.written.push(open.finish(self.codec)?);
        Ok(())
    }
}

struct OpenPack<'a> {
    object: Box<dyn NewObject + 'a>,
    hasher: blake3::Hasher,
    directory: Directory,
    bytes: u64,
}

impl<'a> OpenPack<'a> {
    fn begin(storage: &'a dyn Storage) -> Result<Self> {
        let mut pack = Self {
            object: storage.create()?,
            hasher: blake3::Hasher::new(),
            directory: Directory::default(),
            bytes: 0,
        };
        pack.write(&header::encode(FileKind::Pack))?;
        Ok(pack)
    }

    fn push(&mut self, kind: FrameKind, frame: &EncodedFrame) -> Result<()> {
        let stored = u32::try_from(frame.blob.len()).expect("a frame is smaller than 4 GiB");
        self.directory.push(kind, stored, &frame.lengths, &frame.prefixes);
        self.write(&frame.blob)
    }

    fn is_full(&self) -> bool {
        self.bytes >= PACK_BYTES || self.directory.lengths.len() >= PACK_CHUNKS
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(self.object.write(bytes)?)
    }

    fn finish(mut self, codec: &Codec) -> Result<Written> {
        self.write(&encode_tail(&self.directory, &random_salt()?, codec))?;
        let id = PackId::from_bytes(*self.hasher.finalize().as_bytes());
        self.object.finish(&format!("{PACKS}/{id}"))?;
        Ok(Written { id, size_bytes: self.bytes, directory: self.directory })
    }
}

/// Returns what makes a pack's name its own even when another holds the same frames: a name that a prune has decided to
/// remove is never given to a new pack.
fn random_salt() -> Result<[u8; SALT_BYTES]> {
    let mut salt = [0; SALT_BYTES];
    let failed = |e: getrandom::Error| storage::Error::new("draw a name for", "a pack", e.into());
    getrandom::fill(&mut salt).map_err(failed)?;
    Ok(salt)
}
