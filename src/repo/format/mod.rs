//! What is stored, byte for byte, as `docs/format.md` describes it. Nothing outside this room knows.
//!
//! The structs here are not working structs: they are converted at the door, so that a refactor cannot change the
//! format by accident.

pub mod columns;
pub mod config;
pub mod header;
pub mod index;
pub mod leaf;
pub mod log;
pub mod loss;
pub mod mark;
pub mod pack;
pub mod snapshot;
pub mod tree;

/// Stored bytes that do not follow the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes are not what they should be.
    #[error("{0}")]
    Malformed(String),
    /// A newer metastash wrote this and says that an older one can't read it.
    #[error("{0}")]
    TooNew(String),
}

impl FormatError {
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }
}

/// The result of decoding stored bytes.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Serializes a stored struct: MessagePack, maps with named fields.
pub(crate) fn to_bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("stored structs hold nothing that MessagePack can't")
}

/// Reads a stored struct back.
pub(crate) fn from_bytes<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|e| FormatError::malformed(format!("{what} cannot be decoded: {e}")))
}

/// Reads an id out of a stored byte string.
pub(crate) fn id_bytes(bytes: &[u8], what: &str) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| FormatError::malformed(format!("{what} has {} bytes, not 32", bytes.len())))
}
