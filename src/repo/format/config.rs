//! `config`: the one file whose name is not a hash, so it carries its own.

use serde::{Deserialize, Serialize};

use super::header::{self, FileKind};
use super::{FormatError, Result, from_bytes, to_bytes};
use crate::repo::codec::Codec;
use crate::repo::config::Config;

/// Name of the file.
pub const NAME: &str = "config";

const HASH_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "serde_bytes")]
    id: Vec<u8>,
    created_ms: i64,
    grace_secs: u64,
}

/// Returns the bytes of the file.
pub fn encode(config: &Config, codec: &Codec) -> Vec<u8> {
    let stored = Stored { id: config.id.to_vec(), created_ms: config.created_ms, grace_secs: config.grace_secs };
    let mut file = header::encode(FileKind::Config).to_vec();
    file.extend(codec.encode_body(&to_bytes(&stored)));
    let hash = blake3::hash(&file);
    file.extend_from_slice(hash.as_bytes());
    file
}

/// Reads the file back.
pub fn decode(file: &[u8], codec: &Codec) -> Result<Config> {
    // The header first: a newer format may well end differently.
    header::strip(FileKind::Config, file)?;
    let Some((hashed, hash)) = file.split_last_chunk::<HASH_BYTES>() else {
        return Err(FormatError::malformed("it is too short to have a hash"));
    };
    if blake3::hash(hashed) != *hash {
        return Err(FormatError::malformed("it does not match the hash at its end"));
    }
    let stored: Stored = from_bytes(&codec.decode_body(header::strip(FileKind::Config, hashed)?)?, "it")?;
    let id = stored.id.try_into().map_err(|_| FormatError::malformed("the repository id has a wrong length"))?;
    Ok(Config { id, created_ms: stored.created_ms, grace_secs: stored.grace_secs })
}
