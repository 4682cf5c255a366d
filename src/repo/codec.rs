//! The one door between raw and stored bytes: compression today, sealing (an AEAD under a repository key) later.

use std::cell::RefCell;
use std::io::Read;

use zstd::zstd_safe::CParameter;

use super::format::{FormatError, Result};

/// Most raw bytes of one frame. What claims to be larger is damaged or hostile.
pub const FRAME_RAW_BYTES_MAX: usize = 64 << 20;

/// Most raw bytes of a body: an index segment of fifty million chunks.
const BODY_RAW_BYTES_MAX: u64 = 1 << 30;
/// Bodies up to this are unfolded at once, with what is kept for that: there may be ten thousand snapshots to list.
const SMALL_BODY_RAW_BYTES_MAX: u64 = 64 << 10;

/// Shortest repetition that is looked for. In documents full of ids and numbers shorter ones are mostly chance, and cost
/// more than they save: 3 % of the repository (`benches/runs.md`).
const MATCH_BYTES_MIN: u32 = 6;

/// Largest window of a body, as a power of two: 8 MiB, four times that of our level. A few damaged bytes would otherwise
/// ask for 128 MiB before anything is decompressed.
const WINDOW_LOG_MAX: u32 = 23;

const STORED: u8 = 0;
const ZSTD: u8 = 1;

/// Turns raw bytes into a *blob* and back. A blob is one byte that names the method, then the payload.
#[derive(Debug, Clone)]
pub struct Codec {
    level: i32,
}

impl Codec {
    /// Returns a codec that compresses with the given zstd level.
    pub fn new(level: i32) -> Self {
        Self { level }
    }

    /// Returns the blob of some raw bytes. What does not get smaller is stored as it is.
    pub fn encode(&self, raw: &[u8]) -> Vec<u8> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(scratch.len().max(zstd::zstd_safe::compress_bound(raw.len())), 0);
            let (method, payload) = match compress(self.level, raw, scratch) {
                Some(length) if length < raw.len() => (ZSTD, &scratch[..length]),
                _ => (STORED, raw),
            };
            let mut blob = Vec::with_capacity(1 + payload.len());
            blob.push(method);
            blob.extend_from_slice(payload);
            blob
        })
    }

    /// Returns the raw bytes of a blob that must have exactly `raw_length` of them.
    ///
    /// # Errors
    /// When the blob is not one, or its length is another. What it holds is not verified: that is for its reader, who
    /// knows the hash.
    pub fn decode(&self, blob: &[u8], raw_length: usize) -> Result<Vec<u8>> {
        if raw_length > FRAME_RAW_BYTES_MAX {
            return Err(FormatError::malformed(format!("a frame claims {raw_length} bytes")));
        }
        let raw = match blob.split_first() {
            Some((&STORED, payload)) => payload.to_vec(),
            Some((&ZSTD, payload)) => decompress(payload, raw_length)
                .map_err(|e| FormatError::malformed(format!("a frame cannot be decompressed: {e}")))?,
            Some((method, _)) => return Err(FormatError::malformed(format!("unknown compression method {method}"))),
            None => return Err(FormatError::malformed("a frame is empty")),
        };
        if raw.len() != raw_length {
            return Err(FormatError::malformed(format!("a frame holds {} bytes, not {raw_length}", raw.len())));
        }
        Ok(raw)
    }

    /// Returns the body of a file: the raw length (u64, little endian), then the blob.
    pub fn encode_body(&self, raw: &[u8]) -> Vec<u8> {
        let mut body = (raw.len() as u64).to_le_bytes().to_vec();
        body.extend(self.encode(raw));
        body
    }

    /// Returns the raw bytes of a body, growing with what really comes out rather than with what the length claims.
    pub fn decode_body(&self, body: &[u8]) -> Result<Vec<u8>> {
        let Some((length, blob)) = body.split_first_chunk::<8>() else {
            return Err(FormatError::malformed("it is too short to have a body"));
        };
        let length = u64::from_le_bytes(*length);
        if length > BODY_RAW_BYTES_MAX {
            return Err(FormatError::malformed(format!("it claims to hold {length} bytes")));
        }
        let mut raw = Vec::new();
        match blob.split_first() {
            Some((&STORED, payload)) => raw.extend_from_slice(payload),
            Some((&ZSTD, payload)) if length <= SMALL_BODY_RAW_BYTES_MAX => {
                let length = usize::try_from(length).expect("a small body fits the memory");
                raw = decompress(payload, length)
                    .map_err(|e| FormatError::malformed(format!("it cannot be decompressed: {e}")))?;
            }
            Some((&ZSTD, payload)) => {
                zstd::Decoder::with_buffer(payload)
                    .and_then(|mut decoder| {
                        decoder.window_log_max(WINDOW_LOG_MAX)?;
                        decoder.take(length.saturating_add(1)).read_to_end(&mut raw)
                    })
                    .map_err(|e| FormatError::malformed(format!("it cannot be decompressed: {e}")))?;
            }
            _ => return Err(FormatError::malformed("it has an unknown compression method")),
        }
        if raw.len() as u64 != length {
            return Err(FormatError::malformed(format!("it holds {} bytes or more, not {length}", raw.len())));
        }
        Ok(raw)
    }
}

thread_local! {
    // A zstd context is a megabyte or more: one a thread, not one a frame.
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    // Its output is at most as long as the input, and mostly far shorter: compressed here, then copied to its size.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress(level: i32, raw: &[u8], target: &mut [u8]) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(kept, _)| *kept != level) {
            let mut compressor = zstd::bulk::Compressor::new(level).ok()?;
            compressor.set_parameter(CParameter::MinMatch(MATCH_BYTES_MIN)).ok()?;
            *slot = Some((level, compressor));
        }
        slot.as_mut()?.1.compress_to_buffer(raw, target).ok()
    })
}

fn decompress(payload: &[u8], raw_length: usize) -> std::io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(payload, raw_length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_round_trip_compressible_or_not() {
        let codec = Codec::new(3);
        let noise: Vec<u8> =
            (0..1000_u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..4].to_vec()).collect();
        for raw in [&b""[..], b"x", &[b'a'; 100_000], &noise] {
            assert_eq!(codec.decode(&codec.encode(raw), raw.len()).as_deref(), Ok(raw));
            assert_eq!(codec.decode_body(&codec.encode_body(raw)).as_deref(), Ok(raw));
        }
    }

    #[test]
    fn wrong_length_or_method_is_refused() {
        let codec = Codec::new(3);
        let blob = codec.encode(&[b'a'; 1000]);
        assert!(codec.decode(&blob, 999).is_err());
        assert!(codec.decode(&blob, 1001).is_err());
        assert!(codec.decode(&[9, 1, 2], 2).is_err());
        assert!(codec.decode(&[], 0).is_err());
        assert!(codec.decode(&blob, FRAME_RAW_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn body_that_asks_for_a_large_window_is_refused() {
        let noise: Vec<u8> =
            (0..9_000_000_u32).flat_map(|n| [n.to_le_bytes()[1], n.wrapping_mul(n).to_le_bytes()[2]]).collect();
        let codec = Codec::new(3);
        assert_eq!(codec.decode_body(&codec.encode_body(&noise)), Ok(noise), "none of ours is too large");
        // A zstd frame: its magic number, no length, and the window; 2^23 bytes, then 2^24.
        for (window, why) in [(13 << 3, "0 bytes"), (14 << 3, "decompressed")] {
            let body = [
                &(SMALL_BODY_RAW_BYTES_MAX + 1).to_le_bytes()[..],
                &[ZSTD, 0x28, 0xb5, 0x2f, 0xfd, 0, window, 1, 0, 0],
            ]
            .concat();
            let error = codec.decode_body(&body).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn body_that_claims_too_little_stops_early() {
        let codec = Codec::new(3);
        let mut body = codec.encode_body(&[0; 1 << 20]);
        for claimed in [5, SMALL_BODY_RAW_BYTES_MAX, SMALL_BODY_RAW_BYTES_MAX + 1, (1 << 20) - 1, (1 << 20) + 1] {
            body[..8].copy_from_slice(&claimed.to_le_bytes());
            assert!(codec.decode_body(&body).is_err(), "{claimed}");
        }
    }

    #[test]
    fn small_bodies_and_large_ones_round_trip() {
        let codec = Codec::new(3);
        let large = usize::try_from(SMALL_BODY_RAW_BYTES_MAX).unwrap();
        for length in [1, large - 1, large, large + 1] {
            assert_eq!(codec.decode_body(&codec.encode_body(&vec![b'a'; length])), Ok(vec![b'a'; length]));
        }
        let mut body = codec.encode_body(&[b'a'; 100]);
        body[..8].copy_from_slice(&101_u64.to_le_bytes());
        assert!(codec.decode_body(&body).is_err());
    }
}
