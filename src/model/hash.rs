//! Ids: BLAKE3 hashes, one type per kind of thing they name.

use std::fmt;
use std::str::FromStr;

/// Length of every id, in bytes.
pub const ID_BYTES: usize = 32;

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A string that is not an id: wrong length or not lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what} id: 64 hexadecimal digits are expected")]
pub struct NotAnId {
    text: String,
    what: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_BYTES]);

        impl $name {
            /// Returns the id of `bytes`: their BLAKE3 hash.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// Wraps a hash that was computed or stored elsewhere.
            pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
                Self(bytes)
            }

            /// Returns the raw hash.
            pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
                &self.0
            }

            /// Returns the first ten hexadecimal digits, for messages.
            pub fn short(&self) -> String {
                self.to_string()[..10].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; 2 * ID_BYTES];
                for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
                    pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
                    pair[1] = HEX_DIGITS[usize::from(byte & 15)];
                }
                f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_hex(text).map(Self).ok_or_else(|| NotAnId { text: text.to_owned(), what: $what })
            }
        }
    };
}

id!(
    /// Names the bytes of one document, however they are cut into chunks.
    ContentId,
    "content"
);
id!(
    /// Names the bytes of one chunk. A document stored as one chunk has the same hash under both names.
    ChunkId,
    "chunk"
);
id!(
    /// Names a pack: the hash of the whole file.
    PackId,
    "pack"
);
id!(
    /// Names an index segment: the hash of the whole file.
    IndexId,
    "index"
);
id!(
    /// Names a list of what was found lost: the hash of the whole file.
    LossId,
    "loss"
);
id!(
    /// Names a snapshot: the hash of the whole file.
    SnapshotId,
    "snapshot"
);
id!(
    /// The content root: one hash over the paths and contents of a set of documents, see [`crate::model::root`].
    Root,
    "root"
);

impl ChunkId {
    /// Returns the id of the only chunk of a document that is stored whole.
    pub const fn of_whole(content: ContentId) -> Self {
        Self(content.0)
    }

    /// Returns the first eight bytes as a number: what the index is searched by.
    pub fn prefix(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("an id is longer than eight bytes"))
    }
}

fn parse_hex(text: &str) -> Option<[u8; ID_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * ID_BYTES {
        return None;
    }
    let mut bytes = [0; ID_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
    }
    Some(bytes)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_round_trips_through_text() {
        let id = PackId::of(b"bytes");
        assert_eq!(id.to_string().parse::<PackId>(), Ok(id));
    }

    #[test]
    fn id_refuses_wrong_length_and_upper_case() {
        let text = PackId::of(b"bytes").to_string();
        assert!(text[1..].parse::<PackId>().is_err());
        assert!(text.to_uppercase().parse::<PackId>().is_err());
        assert!("é".repeat(32).parse::<PackId>().is_err());
    }
}
