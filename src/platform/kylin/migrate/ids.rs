//! New ids, derived from what they are of: the same input gets the same ids, wherever and however often it is migrated.

use std::fmt::Write;

/// What a new id is of. Ids of different things differ even if all else is equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdOf {
    Model,
    Segment,
    Column,
    ColumnRelation,
    TableRelation,
    UserGroup,
    Table,
    TableExd,
    Kafka,
    Version,
    Identity,
}

impl IdOf {
    const fn name(self) -> &'static str {
        match self {
            Self::Model => "MODEL",
            Self::Segment => "SEGMENT",
            Self::Column => "COMPUTE_COLUMN",
            Self::ColumnRelation => "CC_MODEL_RELATION",
            Self::TableRelation => "TABLE_MODEL_RELATION",
            Self::UserGroup => "USER_GROUP",
            Self::Table => "TABLE_INFO",
            Self::TableExd => "TABLE_EXD",
            Self::Kafka => "KAFKA_CONFIG",
            Self::Version => "VERSION",
            Self::Identity => "UUID",
        }
    }
}

/// The context of BLAKE3's key derivation. Ids change with it: it stays as it is.
const CONTEXT: &str = "metastash 2026-11 ids of documents migrated from Kylin 5.0-beta to 5.0.0";

/// Derives an id from what tells the thing from others of its kind: a UUID of version 8, whose bits are those of a
/// BLAKE3 hash over the name of the kind and the parts, each after its length in bytes (64 bits, little endian).
pub(super) fn derived(of: IdOf, parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    for part in [of.name()].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes: [u8; 16] = *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut id = String::with_capacity(36);
    for (n, byte) in bytes.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        write!(id, "{byte:02x}").expect("text can be written to a string");
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w6_ids_are_derived_from_what_they_are_of() {
        let id = derived(IdOf::Column, &["shop", "DB.ORDERS", "TOTAL"]);
        assert_eq!(id, derived(IdOf::Column, &["shop", "DB.ORDERS", "TOTAL"]));
        assert_eq!(id, "0f62ab8a-4d5e-801b-a8a2-85190f30c988", "ids stay the same from version to version");
        assert_ne!(id, derived(IdOf::Column, &["shop", "DB.ORDERST", "OTAL"]));
        assert_ne!(id, derived(IdOf::ColumnRelation, &["shop", "DB.ORDERS", "TOTAL"]));
        assert_eq!(id.bytes().filter(|byte| *byte == b'-').count(), 4);
        assert_eq!(id.as_bytes()[14], b'8');
    }
}
