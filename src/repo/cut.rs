//! Cutting large documents by content (FastCDC), so that an edit in one stores what changed.

use std::io::{self, Read};

use fastcdc::v2020::StreamCDC;

/// Documents of up to this many bytes are stored as one chunk.
pub const WHOLE_BYTES_MAX: u64 = 512 << 10;
/// Least, mean and greatest length of a piece, in bytes. Part of the format only in so far as equal documents cut
/// differently do not deduplicate.
const PIECE_BYTES: (usize, usize, usize) = (64 << 10, 256 << 10, 1 << 20);

/// Cuts a stream into pieces. The same bytes are always cut at the same places.
pub fn pieces(reader: impl Read) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let (least, mean, greatest) = PIECE_BYTES;
    StreamCDC::new(reader, least, mean, greatest).map(|piece| Ok(piece.map_err(io::Error::from)?.data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn insertion_changes_few_pieces() {
        let before = noise(8 << 20);
        let mut after = before.clone();
        after.splice(4_000_000..4_000_000, *b"some new bytes");
        let cut = |bytes: &[u8]| pieces(bytes).collect::<io::Result<Vec<_>>>().unwrap();
        let (before_pieces, after_pieces) = (cut(&before), cut(&after));
        assert_eq!(before_pieces.concat(), before);
        assert_eq!(after_pieces.concat(), after);
        let new = after_pieces.iter().filter(|piece| !before_pieces.contains(piece)).count();
        assert!(new <= 3 && after_pieces.len() > 15, "{new} of {}", after_pieces.len());
    }
}
