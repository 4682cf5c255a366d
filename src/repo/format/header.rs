//! The sixteen bytes that every file begins with.

use super::{FormatError, Result};

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 16;
/// The version this program writes.
pub const VERSION: u8 = 1;
/// The feature of a snapshot that was made of others: a program that does not know it would take it for a backup.
pub const REPLAYED: u32 = 1;
/// Features this program can read, as a bit set.
const FEATURES_KNOWN: u32 = REPLAYED;

const MAGIC: &[u8; 8] = b"METASTSH";

/// Tells whether a file claims to be one of ours.
pub fn is_ours(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}

/// What kind of file a header begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FileKind {
    /// The configuration of the repository.
    Config = b'C',
    /// An index segment.
    Index = b'I',
    /// A list of what was found lost.
    Loss = b'L',
    /// A mark of a pack.
    Mark = b'M',
    /// A pack.
    Pack = b'P',
    /// A snapshot.
    Snapshot = b'S',
}

impl FileKind {
    fn name(self) -> &'static str {
        match self {
            Self::Config => "repository configuration",
            Self::Index => "index segment",
            Self::Loss => "list of losses",
            Self::Mark => "mark",
            Self::Pack => "pack",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Returns the header of a file of this version that needs no feature.
pub fn encode(kind: FileKind) -> [u8; HEADER_BYTES] {
    encode_with(kind, 0)
}

/// Returns the header of a file of this version that only programs with these features can read.
pub fn encode_with(kind: FileKind, features: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    // Kind, version, oldest version that can read the file, one reserved byte, then the required features.
    header[8..12].copy_from_slice(&[kind as u8, VERSION, VERSION, 0]);
    header[12..].copy_from_slice(&features.to_le_bytes());
    header
}

/// Checks a file's header and returns what follows it.
///
/// # Errors
/// [`FormatError::TooNew`] when the file needs a newer reader or an unknown feature; [`FormatError::Malformed`] when it
/// is not a file of this kind.
pub fn strip(kind: FileKind, file: &[u8]) -> Result<&[u8]> {
    let Some((header, rest)) = file.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FormatError::malformed("it is too short to have a header"));
    };
    if header[..8] != *MAGIC {
        return Err(FormatError::malformed("it does not begin with the bytes of a metastash file"));
    }
    if header[8] != kind as u8 {
        return Err(FormatError::malformed(format!("it is no {}", kind.name())));
    }
    let (version, oldest_reader) = (header[9], header[10]);
    if oldest_reader > VERSION {
        return Err(FormatError::TooNew(format!(
            "it has format version {version} and needs a reader of version {oldest_reader} or later; this one reads up to {VERSION}"
        )));
    }
    let features = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    match features & !FEATURES_KNOWN {
        0 => Ok(rest),
        unknown => {
            Err(FormatError::TooNew(format!("it needs features this metastash does not have (bits {unknown:#x})")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let file = [&encode(FileKind::Pack)[..], b"rest"].concat();
        assert_eq!(strip(FileKind::Pack, &file), Ok(&b"rest"[..]));
        assert!(matches!(strip(FileKind::Index, &file), Err(FormatError::Malformed(_))));
        let no_config = strip(FileKind::Config, &file).unwrap_err().to_string();
        assert!(no_config.contains("repository configuration"), "{no_config}");
        assert!(is_ours(&file) && !is_ours(b"METASTS") && !is_ours(b"[core]\nbare = true"));
        assert!(matches!(strip(FileKind::Pack, &file[..15]), Err(FormatError::Malformed(_))));
    }

    #[test]
    fn unknown_required_feature_is_refused() {
        assert!(strip(FileKind::Snapshot, &encode_with(FileKind::Snapshot, REPLAYED)).is_ok());
        let file = encode_with(FileKind::Snapshot, REPLAYED | 1 << 31);
        assert!(matches!(strip(FileKind::Snapshot, &file), Err(FormatError::TooNew(_))));
    }

    #[test]
    fn newer_version_is_read_when_it_says_this_reader_can() {
        let mut file = encode(FileKind::Snapshot);
        file[9] = VERSION + 1;
        assert!(strip(FileKind::Snapshot, &file).is_ok());
        file[10] = VERSION + 1;
        assert!(matches!(strip(FileKind::Snapshot, &file), Err(FormatError::TooNew(_))));
    }
}
