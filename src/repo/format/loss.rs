//! What was found lost: documents, and the snapshots that miss them.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::header::{self, FileKind};
use super::{FormatError, Result, from_bytes, id_bytes, to_bytes};
use crate::model::hash::{ChunkId, SnapshotId};
use crate::model::path::EntryPath;
use crate::repo::codec::Codec;
use crate::repo::losses::{Loss, LostDocument};

#[derive(Serialize, Deserialize)]
struct Stored {
    time_ms: i64,
    documents: Vec<StoredDocument>,
    trees: Vec<ByteBuf>,
}

#[derive(Serialize, Deserialize)]
struct StoredDocument {
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    chunks: Vec<ByteBuf>,
    snapshots: Vec<ByteBuf>,
}

/// Returns the bytes of the file.
pub fn encode(loss: &Loss, codec: &Codec) -> Vec<u8> {
    let ids = |snapshots: &std::collections::BTreeSet<SnapshotId>| {
        snapshots.iter().map(|id| ByteBuf::from(*id.as_bytes())).collect()
    };
    let documents = loss.documents.iter().map(|document| StoredDocument {
        path: document.path.as_bytes().to_vec(),
        chunks: document.chunks.iter().map(|id| ByteBuf::from(*id.as_bytes())).collect(),
        snapshots: ids(&document.snapshots),
    });
    let stored = Stored { time_ms: loss.time_ms, documents: documents.collect(), trees: ids(&loss.trees) };
    let mut file = header::encode(FileKind::Loss).to_vec();
    file.extend(codec.encode_body(&to_bytes(&stored)));
    file
}

/// Reads the file back.
pub fn decode(file: &[u8], codec: &Codec) -> Result<Loss> {
    let stored: Stored = from_bytes(&codec.decode_body(header::strip(FileKind::Loss, file)?)?, "it")?;
    let snapshot = |bytes: &ByteBuf| Ok(SnapshotId::from_bytes(id_bytes(bytes, "a snapshot id")?));
    let documents = stored.documents.into_iter().map(|document| {
        let path = EntryPath::new(document.path).map_err(|e| FormatError::malformed(e.to_string()))?;
        let chunk = |bytes: &ByteBuf| Ok(ChunkId::from_bytes(id_bytes(bytes, "a chunk id")?));
        Ok(LostDocument {
            path,
            chunks: document.chunks.iter().map(chunk).collect::<Result<_>>()?,
            snapshots: document.snapshots.iter().map(snapshot).collect::<Result<_>>()?,
        })
    });
    Ok(Loss {
        time_ms: stored.time_ms,
        documents: documents.collect::<Result<_>>()?,
        trees: stored.trees.iter().map(snapshot).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_round_trips() {
        let document = LostDocument {
            path: EntryPath::new(&b"p/a"[..]).unwrap(),
            chunks: vec![ChunkId::of(b"1"), ChunkId::of(b"2")],
            snapshots: [SnapshotId::of(b"x")].into(),
        };
        let loss = Loss { time_ms: 7, documents: vec![document], trees: [SnapshotId::of(b"y")].into() };
        let codec = Codec::new(3);
        let file = encode(&loss, &codec);
        assert_eq!(decode(&file, &codec), Ok(loss));
        assert!(decode(&file[..file.len() - 1], &codec).is_err());
    }
}
