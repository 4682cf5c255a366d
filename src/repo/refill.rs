//! Filling packs with chunks that come from other packs.

use super::Result;
use super::chunks::cut;
use super::codec::Codec;
use super::format::pack::{FrameEntry, FrameKind};
use super::index::Location;
use super::packer::{EncodedFrame, FRAME_RAW_BYTES, FrameBuilder, Packer};
use super::writer::NODES_RAW_BYTES;
use crate::model::hash::ChunkId;

/// Chunks being gathered for frames of each kind.
#[derive(Debug, Default)]
pub(super) struct Refill {
    documents: FrameBuilder,
    trees: FrameBuilder,
}

impl Refill {
    /// Puts chunks of a frame, given as it is stored and unfolded, into a packer of the same codec.
    pub(super) fn put(
        &mut self,
        entry: &FrameEntry,
        (blob, raw): (Vec<u8>, &[u8]),
        needed: &[(ChunkId, Location)],
        codec: &Codec,
        packer: &mut Packer<'_>,
    ) -> Result<()> {
        let kind = entry.kind;
        if needed.len() == entry.chunks as usize && entry.raw_bytes as usize >= full(kind) / 2 {
            // Compressed as it should be already.
            let lengths = needed.iter().map(|(_, location)| location.length).collect();
            let prefixes = needed.iter().map(|(id, _)| id.prefix()).collect();
            return packer.push(kind, EncodedFrame::as_stored(blob, lengths, prefixes));
        }
        needed.iter().try_for_each(|(id, location)| self.push(kind, id, cut(raw, location), codec, packer))
    }

    /// Puts one chunk.
    pub(super) fn push(
        &mut self,
        kind: FrameKind,
        id: &ChunkId,
        bytes: &[u8],
        codec: &Codec,
        packer: &mut Packer<'_>,
    ) -> Result<()> {
        let builder = match kind {
            FrameKind::Documents => &mut self.documents,
            FrameKind::Trees => &mut self.trees,
        };
        if !builder.is_empty() && builder.raw_bytes() + bytes.len() > full(kind) {
            packer.push(kind, builder.encode(codec))?;
        }
        builder.push(id, bytes);
        Ok(())
    }

    /// Puts the frames that are not full.
    pub(super) fn finish(mut self, codec: &Codec, packer: &mut Packer<'_>) -> Result<()> {
        for (kind, builder) in [(FrameKind::Documents, &mut self.documents), (FrameKind::Trees, &mut self.trees)] {
            if !builder.is_empty() {
                packer.push(kind, builder.encode(codec))?;
            }
        }
        Ok(())
    }
}

/// Raw bytes of a frame that is full.
fn full(kind: FrameKind) -> usize {
    match kind {
        FrameKind::Documents => FRAME_RAW_BYTES,
        FrameKind::Trees => NODES_RAW_BYTES,
    }
}
