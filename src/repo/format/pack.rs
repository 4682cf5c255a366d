//! A pack: header, frames, directory, trailer. The directory says what is in each frame, so that an index can always be
//! made again from packs alone.

use serde::{Deserialize, Serialize};

use super::columns::{ColumnReader, ColumnWriter};
use super::header::HEADER_BYTES;
use super::{FormatError, Result, from_bytes, to_bytes};
use crate::repo::codec::{Codec, FRAME_RAW_BYTES_MAX};

/// Length of the trailer in bytes.
pub const TRAILER_BYTES: usize = 32;
/// Most raw bytes of a directory: those of a million chunks, at which a pack is closed, take about 12 MB.
const DIRECTORY_RAW_BYTES_MAX: usize = FRAME_RAW_BYTES_MAX;
/// Length of the salt in bytes.
pub const SALT_BYTES: usize = 16;
const TRAILER_MAGIC: &[u8; 8] = b"PACK-END";

/// What the chunks of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Documents, or pieces of them.
    Documents,
    /// Nodes of trees.
    Trees,
}

/// One frame of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// What its chunks are.
    pub kind: FrameKind,
    /// Where its blob begins in the file.
    pub offset: u64,
    /// Length of its blob in bytes.
    pub stored_bytes: u32,
    /// Length of its raw bytes: the sum of its chunks' lengths.
    pub raw_bytes: u32,
    /// How many chunks of the pack come before its first one.
    pub chunk_first: u32,
    /// How many chunks it holds.
    pub chunks: u32,
}

/// What is in a pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// The frames, in file order.
    pub frames: Vec<FrameEntry>,
    /// The length of each chunk, in file order.
    pub lengths: Vec<u32>,
    /// The first eight bytes of each chunk's id, big endian, in file order.
    pub prefixes: Vec<u64>,
}

/// What the directory's blob in a pack holds.
#[derive(Serialize, Deserialize)]
struct StoredTail {
    /// Makes the name of each pack its own, whatever it holds.
    #[serde(with = "serde_bytes")]
    salt: Vec<u8>,
    directory: StoredDirectory,
}

/// A directory as it is stored, in packs and in index segments.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredDirectory {
    #[serde(with = "serde_bytes")]
    kinds: Vec<u8>,
    #[serde(with = "serde_bytes")]
    stored: Vec<u8>,
    #[serde(with = "serde_bytes")]
    counts: Vec<u8>,
    #[serde(with = "serde_bytes")]
    lengths: Vec<u8>,
    #[serde(with = "serde_bytes")]
    ids: Vec<u8>,
}

impl Directory {
    /// Appends a frame whose blob follows the last one's.
    pub fn push(&mut self, kind: FrameKind, stored_bytes: u32, lengths: &[u32], prefixes: &[u64]) {
        let chunk_first = length32(self.lengths.len());
        let raw_bytes = lengths.iter().sum();
        let chunks = length32(lengths.len());
        self.frames.push(FrameEntry { kind, offset: self.frames_end(), stored_bytes, raw_bytes, chunk_first, chunks });
        self.lengths.extend_from_slice(lengths);
        self.prefixes.extend_from_slice(prefixes);
    }

    /// Returns where the last blob ends in the file: the directory follows.
    pub fn frames_end(&self) -> u64 {
        self.frames.last().map_or(HEADER_BYTES as u64, |frame| frame.offset + u64::from(frame.stored_bytes))
    }

    pub(super) fn to_stored(&self) -> StoredDirectory {
        let (mut stored, mut counts, mut lengths) =
            (ColumnWriter::default(), ColumnWriter::default(), ColumnWriter::default());
        for frame in &self.frames {
            stored.put(u64::from(frame.stored_bytes));
            counts.put(u64::from(frame.chunks));
        }
        self.lengths.iter().for_each(|length| lengths.put(u64::from(*length)));
        let kinds = self.frames.iter().map(|frame| u8::from(frame.kind == FrameKind::Trees)).collect();
        let ids = self.prefixes.iter().flat_map(|prefix| prefix.to_be_bytes()).collect();
        StoredDirectory { kinds, stored: stored.finish(), counts: counts.finish(), lengths: lengths.finish(), ids }
    }

    pub(super) fn from_stored(stored: &StoredDirectory) -> Result<Self> {
        let mut directory = Self::default();
        let (ids, rest) = stored.ids.as_chunks::<8>();
        let prefixes: Vec<u64> = ids.iter().map(|id| u64::from_be_bytes(*id)).collect();
        let mut stored_bytes = ColumnReader::new("stored", &stored.stored);
        let mut counts = ColumnReader::new("counts", &stored.counts);
        let mut lengths = ColumnReader::new("lengths", &stored.lengths);
        for kind in &stored.kinds {
            let kind = frame_kind(*kind)?;
            let first = directory.lengths.len();
            let end = first.saturating_add(counts.next_length()?);
            let Some(frame_prefixes) = prefixes.get(first..end) else {
                return Err(FormatError::malformed("the directory has fewer ids than chunks"));
            };
            let frame_lengths = (first..end).map(|_| lengths.next_u32()).collect::<Result<Vec<u32>>>()?;
            if frame_lengths.iter().map(|length| u64::from(*length)).sum::<u64>() > FRAME_RAW_BYTES_MAX as u64 {
                return Err(FormatError::malformed("the directory has a frame that is too large"));
            }
            directory.push(kind, stored_bytes.next_u32()?, &frame_lengths, frame_prefixes);
        }
        stored_bytes.finish()?;
        counts.finish()?;
        lengths.finish()?;
        if !rest.is_empty() || prefixes.len() != directory.lengths.len() {
            return Err(FormatError::malformed("the directory has more ids than chunks"));
        }
        Ok(directory)
    }
}

fn frame_kind(byte: u8) -> Result<FrameKind> {
    match byte {
        0 => Ok(FrameKind::Documents),
        1 => Ok(FrameKind::Trees),
        other => Err(FormatError::malformed(format!("the directory has a frame of unknown kind {other}"))),
    }
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("a pack is rolled over long before it has 2^32 chunks")
}

/// Returns what follows the frames of a pack: the directory's blob and the trailer.
///
/// Trailer: length of the blob (u32), length of the raw directory (u32), the first 16 bytes of the blob's BLAKE3 hash,
/// `PACK-END`.
pub fn encode_tail(directory: &Directory, salt: &[u8; SALT_BYTES], codec: &Codec) -> Vec<u8> {
    let raw = to_bytes(&StoredTail { salt: salt.to_vec(), directory: directory.to_stored() });
    let mut tail = codec.encode(&raw);
    let (blob_length, hash) = (length32(tail.len()), blake3::hash(&tail));
    tail.extend_from_slice(&blob_length.to_le_bytes());
    tail.extend_from_slice(&length32(raw.len()).to_le_bytes());
    tail.extend_from_slice(&hash.as_bytes()[..16]);
    tail.extend_from_slice(TRAILER_MAGIC);
    tail
}

/// A trailer: how to read the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Length of the directory's blob, which ends where the trailer begins.
    pub blob_bytes: usize,
    raw_bytes: usize,
    hash: [u8; 16],
}

/// Reads the trailer: the last [`TRAILER_BYTES`] of `tail`.
pub fn decode_trailer(tail: &[u8]) -> Result<Trailer> {
    let cut_off = || FormatError::malformed("it does not end as a pack does: it was cut off or overwritten");
    let trailer = tail.last_chunk::<TRAILER_BYTES>().ok_or_else(cut_off)?;
    if trailer[24..] != *TRAILER_MAGIC {
        return Err(cut_off());
    }
    let number = |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().expect("four bytes")) as usize;
    let (blob_bytes, raw_bytes) = (number(0), number(4));
    if raw_bytes > DIRECTORY_RAW_BYTES_MAX {
        return Err(FormatError::malformed("its directory claims to be too large"));
    }
    Ok(Trailer { blob_bytes, raw_bytes, hash: trailer[8..24].try_into().expect("sixteen bytes") })
}

/// Reads the directory of a pack of `pack_bytes` from its blob.
pub fn decode_directory(trailer: &Trailer, blob: &[u8], pack_bytes: u64, codec: &Codec) -> Result<Directory> {
    if blake3::hash(blob).as_bytes()[..16] != trailer.hash {
        return Err(FormatError::malformed("its directory does not match its hash"));
    }
    let stored: StoredTail = from_bytes(&codec.decode(blob, trailer.raw_bytes)?, "its directory")?;
    let directory = Directory::from_stored(&stored.directory)?;
    let expected = directory.frames_end() + (trailer.blob_bytes + TRAILER_BYTES) as u64;
    if expected != pack_bytes {
        return Err(FormatError::malformed(format!("it has {pack_bytes} bytes, but its directory says {expected}")));
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Directory {
        let mut directory = Directory::default();
        directory.push(FrameKind::Documents, 100, &[40, 0, 300], &[1, 2, u64::MAX]);
        directory.push(FrameKind::Trees, 7, &[9], &[4]);
        directory
    }

    #[test]
    fn directory_round_trips_and_knows_where_frames_are() {
        let directory = sample();
        assert_eq!(directory.frames[1].offset, 116);
        assert_eq!(directory.frames[1].chunk_first, 3);
        let codec = Codec::new(3);
        let tail = encode_tail(&directory, &[7; SALT_BYTES], &codec);
        let trailer = decode_trailer(&tail).unwrap();
        let blob = &tail[..trailer.blob_bytes];
        let size = directory.frames_end() + tail.len() as u64;
        assert_eq!(decode_directory(&trailer, blob, size, &codec), Ok(directory));
        assert!(decode_directory(&trailer, blob, size + 1, &codec).is_err());
    }

    #[test]
    fn directory_that_does_not_add_up_is_refused() {
        let whole = || sample().to_stored();
        assert_eq!(Directory::from_stored(&whole()), Ok(sample()));
        for what in ["an id too few", "an id too many", "part of an id", "a length", "a count", "a frame", "no kind"] {
            let mut stored = whole();
            match what {
                "an id too few" => stored.ids.truncate(3 * 8),
                "an id too many" => stored.ids.extend([0; 8]),
                "part of an id" => stored.ids.push(0),
                "a length" => stored.lengths.push(0),
                "a count" => stored.counts.push(0),
                "a frame" => stored.stored.push(0),
                _ => stored.kinds[0] = 9,
            }
            assert!(Directory::from_stored(&stored).is_err(), "{what}");
        }
    }

    #[test]
    fn frame_may_be_so_large_and_no_larger() {
        let mut directory = Directory::default();
        let half = u32::try_from(FRAME_RAW_BYTES_MAX / 2).unwrap();
        directory.push(FrameKind::Documents, 100, &[half, half], &[1, 2]);
        assert_eq!(Directory::from_stored(&directory.to_stored()), Ok(directory));
        let mut directory = Directory::default();
        directory.push(FrameKind::Documents, 100, &[half, half + 1], &[1, 2]);
        assert!(Directory::from_stored(&directory.to_stored()).is_err());
    }

    #[test]
    fn trailer_may_claim_so_much_and_no_more() {
        let mut trailer = [0; TRAILER_BYTES];
        trailer[24..].copy_from_slice(TRAILER_MAGIC);
        for (raw_bytes, is_fine) in [(DIRECTORY_RAW_BYTES_MAX, true), (DIRECTORY_RAW_BYTES_MAX + 1, false)] {
            trailer[4..8].copy_from_slice(&u32::try_from(raw_bytes).unwrap().to_le_bytes());
            assert_eq!(decode_trailer(&trailer).is_ok(), is_fine, "{raw_bytes}");
        }
    }

    #[test]
    fn flipped_bit_in_the_tail_is_noticed() {
        let codec = Codec::new(3);
        let directory = sample();
        let tail = encode_tail(&directory, &[7; SALT_BYTES], &codec);
        let size = directory.frames_end() + tail.len() as u64;
        for bit in 0..tail.len() * 8 {
            let mut damaged = tail.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode_trailer(&damaged).and_then(|trailer| {
                let start = damaged.len().checked_sub(TRAILER_BYTES + trailer.blob_bytes);
                let start = start.ok_or_else(|| FormatError::malformed("too long"))?;
                decode_directory(&trailer, &damaged[start..damaged.len() - TRAILER_BYTES], size, &codec)
            });
            assert!(decoded.is_err(), "bit {bit}");
        }
    }
}
