//! Records of a store's own log of changes, as a snapshot archives them.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{FormatError, Result, from_bytes, to_bytes};
use crate::model::log::{LogChange, LogRecord};

const CONTENT: u8 = 0;
const PATCH: u8 = 1;
const REMOVED: u8 = 2;
const UNREADABLE: u8 = 3;

#[derive(Serialize, Deserialize)]
struct Stored {
    id: u64,
    #[serde(with = "serde_bytes")]
    key: Vec<u8>,
    /// 0 content, 1 patch, 2 removed, 3 can't be decoded.
    change: u8,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    content: Option<ByteBuf>,
    time_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    version: Option<i64>,
    transaction: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    project: Option<String>,
}

/// Returns the bytes of some records.
pub fn encode(records: Vec<LogRecord>) -> Vec<u8> {
    let stored: Vec<Stored> = records.into_iter().map(to_stored).collect();
    to_bytes(&stored)
}

fn to_stored(record: LogRecord) -> Stored {
    let (change, content) = match record.change {
        LogChange::Content(content) => (CONTENT, Some(content)),
        LogChange::Patch(patch) => (PATCH, Some(patch)),
        LogChange::Removed => (REMOVED, None),
        LogChange::Unreadable => (UNREADABLE, None),
    };
    Stored {
        id: record.id,
        key: record.key,
        change,
        content: content.map(ByteBuf::from),
        time_ms: record.time_ms,
        version: record.version,
        transaction: record.transaction,
        operator: record.operator,
        instance: record.instance,
        project: record.project,
    }
}

/// Reads records back.
///
/// # Errors
/// When the bytes are no records, or these are not in ascending order.
pub fn decode(raw: &[u8]) -> Result<Vec<LogRecord>> {
    let stored: Vec<Stored> = from_bytes(raw, "an archive of changes")?;
    stored.into_iter().map(from_stored).collect()
}

fn from_stored(stored: Stored) -> Result<LogRecord> {
    let content = stored.content.map(ByteBuf::into_vec);
    let change = match (stored.change, content) {
        (CONTENT, Some(content)) => LogChange::Content(content),
        (PATCH, Some(patch)) => LogChange::Patch(patch),
        (REMOVED, None) => LogChange::Removed,
        (UNREADABLE, None) => LogChange::Unreadable,
        (change, _) => return Err(FormatError::malformed(format!("a record has the unknown form {change}"))),
    };
    Ok(LogRecord {
        id: stored.id,
        key: stored.key,
        change,
        time_ms: stored.time_ms,
        version: stored.version,
        transaction: stored.transaction,
        operator: stored.operator,
        instance: stored.instance,
        project: stored.project,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let record = |id, change| LogRecord {
            id,
            key: b"MODEL/m".to_vec(),
            change,
            time_ms: 5,
            version: Some(2),
            transaction: "unit".to_owned(),
            operator: None,
            instance: Some("10.0.0.1:7070".to_owned()),
            project: Some("p".to_owned()),
        };
        let records = vec![
            record(1, LogChange::Content(b"{}".to_vec())),
            record(2, LogChange::Patch(b"[]".to_vec())),
            record(3, LogChange::Unreadable),
            LogRecord { version: None, ..record(4, LogChange::Removed) },
        ];
        assert_eq!(decode(&encode(records.clone())), Ok(records));
        assert!(decode(b"\x91\x80").is_err());
    }
}
