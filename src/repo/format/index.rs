//! An index segment: copies of the directories of many packs, so that they are loaded in one read.

use serde::{Deserialize, Serialize};

use super::header::{self, FileKind};
use super::pack::{Directory, StoredDirectory};
use super::{Result, from_bytes, id_bytes, to_bytes};
use crate::model::hash::PackId;
use crate::repo::codec::Codec;

/// One pack in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedPack {
    /// The pack.
    pub id: PackId,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// What is in it.
    pub directory: Directory,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    packs: Vec<StoredPack>,
}

#[derive(Serialize, Deserialize)]
struct StoredPack {
    #[serde(with = "serde_bytes")]
    pack: Vec<u8>,
    size: u64,
    directory: StoredDirectory,
}

/// Returns the bytes of a segment.
pub fn encode<'a>(packs: impl Iterator<Item = (PackId, u64, &'a Directory)>, codec: &Codec) -> Vec<u8> {
    let packs = packs.map(|(id, size, directory)| StoredPack {
        pack: id.as_bytes().to_vec(),
        size,
        directory: directory.to_stored(),
    });
    let mut file = header::encode(FileKind::Index).to_vec();
    file.extend(codec.encode_body(&to_bytes(&Stored { packs: packs.collect() })));
    file
}

/// Reads a segment back.
pub fn decode(file: &[u8], codec: &Codec) -> Result<Vec<IndexedPack>> {
    let stored: Stored = from_bytes(&codec.decode_body(header::strip(FileKind::Index, file)?)?, "it")?;
    let packs = stored.packs.into_iter().map(|pack| {
        Ok(IndexedPack {
            id: PackId::from_bytes(id_bytes(&pack.pack, "a pack id")?),
            size_bytes: pack.size,
            directory: Directory::from_stored(&pack.directory)?,
        })
    });
    packs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::format::pack::FrameKind;

    #[test]
    fn segment_round_trips() {
        let mut directory = Directory::default();
        directory.push(FrameKind::Documents, 10, &[5, 6], &[7, 8]);
        let id = PackId::of(b"pack");
        let codec = Codec::new(3);
        let file = encode([(id, 99, &directory)].into_iter(), &codec);
        assert_eq!(decode(&file, &codec), Ok(vec![IndexedPack { id, size_bytes: 99, directory }]));
        assert!(decode(&file[..file.len() - 1], &codec).is_err());
    }
}
