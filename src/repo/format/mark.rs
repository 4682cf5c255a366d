//! A mark: why a pack is to be removed, for people. What counts for programs is the mark's name and its time in the
//! storage.

use serde::{Deserialize, Serialize};

use super::header::{self, FileKind};
use super::{Result, from_bytes, to_bytes};
use crate::model::hash::PackId;
use crate::repo::codec::Codec;
use crate::repo::marks::Cause;

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "serde_bytes")]
    pack: Vec<u8>,
    cause: u8,
    time_ms: i64,
}

/// Returns the bytes of a mark.
pub fn encode(pack: PackId, cause: Cause, time_ms: i64, codec: &Codec) -> Vec<u8> {
    let cause = match cause {
        Cause::Unused => 0,
        Cause::Repacked => 1,
    };
    let mut file = header::encode(FileKind::Mark).to_vec();
    file.extend(codec.encode_body(&to_bytes(&Stored { pack: pack.as_bytes().to_vec(), cause, time_ms })));
    file
}

/// Reads a mark back: which pack, why (if that is known to this program), and when it was marked by the clock of whoever
/// did, in milliseconds since 1970.
pub fn decode(file: &[u8], codec: &Codec) -> Result<(PackId, Option<Cause>, i64)> {
    let stored: Stored = from_bytes(&codec.decode_body(header::strip(FileKind::Mark, file)?)?, "it")?;
    let cause = match stored.cause {
        0 => Some(Cause::Unused),
        1 => Some(Cause::Repacked),
        _ => None,
    };
    Ok((PackId::from_bytes(super::id_bytes(&stored.pack, "a pack id")?), cause, stored.time_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_round_trips() {
        let codec = Codec::new(3);
        for cause in [Cause::Unused, Cause::Repacked] {
            let file = encode(PackId::of(b"x"), cause, 77, &codec);
            assert_eq!(decode(&file, &codec), Ok((PackId::of(b"x"), Some(cause), 77)));
            assert!(decode(&file[..file.len() - 1], &codec).is_err());
        }
    }
}
