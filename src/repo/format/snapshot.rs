//! A snapshot: the manifest that names a tree. Writing it is the commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::header::{self, FileKind};
use super::{FormatError, Result, from_bytes, id_bytes, to_bytes};
use crate::model::hash::{ChunkId, Root, SnapshotId};
use crate::model::log::{LogPosition, Moment, OpenIds, Replayed};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::repo::codec::Codec;
use crate::repo::snapshot::{Counts, LogArchive, Manifest, Reason};

/// The layout that is not written: names are paths.
const PLAIN: &str = "plain";

#[derive(Serialize, Deserialize)]
struct Stored {
    time_ms: i64,
    scan_ms: i64,
    host: String,
    user: String,
    program: String,
    store: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    layout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    project: Option<ByteBuf>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    parent: Option<ByteBuf>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    label: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    restored: Option<ByteBuf>,
    #[serde(with = "serde_bytes")]
    tree: Vec<u8>,
    #[serde(with = "serde_bytes")]
    root: Vec<u8>,
    documents: u64,
    bytes: u64,
    new: u64,
    changed: u64,
    removed: u64,
    unread: u64,
    skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    position: Option<StoredPosition>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    archive: Option<StoredArchive>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    verified: Option<ByteBuf>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    replayed: Option<StoredReplayed>,
}

/// A moment to which a snapshot was brought: a time, or an id.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct StoredReplayed {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    time_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    record: Option<u64>,
    last: u64,
    records: u64,
}

/// A place in a store's own log of changes.
#[derive(Serialize, Deserialize)]
struct StoredPosition {
    last: u64,
    mark: u64,
    /// First, last, and when they were missed.
    open: Vec<(u64, u64, i64)>,
    tops: BTreeMap<String, u64>,
    beside: u64,
}

/// Where the records of that log since the parent are.
#[derive(Serialize, Deserialize)]
struct StoredArchive {
    after: u64,
    last: u64,
    complete: bool,
    chunks: Vec<ByteBuf>,
}

impl From<&LogPosition> for StoredPosition {
    fn from(position: &LogPosition) -> Self {
        Self {
            last: position.last,
            mark: position.mark,
            open: position.open.iter().map(|open| (open.first, open.last, open.missed_ms)).collect(),
            tops: position.tops.clone(),
            beside: position.beside,
        }
    }
}

impl From<StoredPosition> for LogPosition {
    fn from(stored: StoredPosition) -> Self {
        let open = |(first, last, missed_ms): (u64, u64, i64)| OpenIds { first, last, missed_ms };
        Self {
            last: stored.last,
            mark: stored.mark,
            open: stored.open.into_iter().map(open).collect(),
            tops: stored.tops,
            beside: stored.beside,
        }
    }
}

impl From<&LogArchive> for StoredArchive {
    fn from(archive: &LogArchive) -> Self {
        Self {
            after: archive.after,
            last: archive.last,
            complete: archive.is_complete,
            chunks: archive.chunks.iter().map(|chunk| ByteBuf::from(chunk.as_bytes())).collect(),
        }
    }
}

impl From<Replayed> for StoredReplayed {
    fn from(Replayed { moment, last, records }: Replayed) -> Self {
        match moment {
            Moment::Time(time_ms) => Self { time_ms: Some(time_ms), record: None, last, records },
            Moment::Record(record) => Self { time_ms: None, record: Some(record), last, records },
        }
    }
}

fn replayed(stored: StoredReplayed) -> Result<Replayed> {
    let StoredReplayed { time_ms, record, last, records } = stored;
    let moment = match (time_ms, record) {
        (Some(time_ms), None) => Moment::Time(time_ms),
        (None, Some(record)) => Moment::Record(record),
        _ => return Err(FormatError::malformed("it is of no moment, or of two")),
    };
    Ok(Replayed { moment, last, records })
}

fn archive(stored: &StoredArchive) -> Result<LogArchive> {
    let chunk = |id: &ByteBuf| id_bytes(id, "a chunk id").map(ChunkId::from_bytes);
    Ok(LogArchive {
        after: stored.after,
        last: stored.last,
        is_complete: stored.complete,
        chunks: stored.chunks.iter().map(chunk).collect::<Result<_>>()?,
    })
}

/// Returns the bytes of the file.
pub fn encode(manifest: &Manifest, codec: &Codec) -> Vec<u8> {
    let stored = Stored {
        time_ms: manifest.time_ms,
        scan_ms: manifest.scan_ms,
        host: manifest.host.clone(),
        user: manifest.user.clone(),
        program: manifest.program.clone(),
        store: manifest.store.clone(),
        layout: (manifest.layout != PLAIN).then(|| manifest.layout.clone()),
        project: manifest.scope.prefix().map(ByteBuf::from),
        parent: manifest.parent.map(|parent| ByteBuf::from(parent.as_bytes())),
        label: manifest.label.clone(),
        tags: manifest.tags.clone(),
        restored: match manifest.reason {
            Reason::CheckpointBefore(restored) => Some(ByteBuf::from(restored.as_bytes())),
            Reason::Backup | Reason::Replayed(_) => None,
        },
        tree: manifest.tree.as_bytes().to_vec(),
        root: manifest.root.as_bytes().to_vec(),
        documents: manifest.documents,
        bytes: manifest.bytes,
        new: manifest.counts.new,
        changed: manifest.counts.changed,
        removed: manifest.counts.removed,
        unread: manifest.counts.unread,
        skipped: manifest.counts.skipped,
        position: manifest.position.as_ref().map(StoredPosition::from),
        archive: manifest.archive.as_ref().map(StoredArchive::from),
        verified: manifest.verified.as_ref().map(|path| ByteBuf::from(path.as_bytes())),
        replayed: match manifest.reason {
            Reason::Replayed(replayed) => Some(replayed.into()),
            Reason::Backup | Reason::CheckpointBefore(_) => None,
        },
    };
    let features = if stored.replayed.is_some() { header::REPLAYED } else { 0 };
    let mut file = header::encode_with(FileKind::Snapshot, features).to_vec();
    file.extend(codec.encode_body(&to_bytes(&stored)));
    file
}

/// Reads the file back.
pub fn decode(file: &[u8], codec: &Codec) -> Result<Manifest> {
    let stored: Stored = from_bytes(&codec.decode_body(header::strip(FileKind::Snapshot, file)?)?, "it")?;
    let snapshot_id =
        |id: Option<ByteBuf>| id.map(|id| id_bytes(&id, "a snapshot id").map(SnapshotId::from_bytes)).transpose();
    let reason = match (snapshot_id(stored.restored)?, stored.replayed) {
        (None, None) => Reason::Backup,
        (Some(restored), None) => Reason::CheckpointBefore(restored),
        (None, Some(stored)) => Reason::Replayed(replayed(stored)?),
        (Some(_), Some(_)) => return Err(FormatError::malformed("it is a checkpoint and was replayed")),
    };
    let path = |path: Option<ByteBuf>| {
        let path = path.map(|path| EntryPath::new(path.into_vec())).transpose();
        path.map_err(|e| FormatError::malformed(e.to_string()))
    };
    let scope = path(stored.project)?.map_or(Scope::System, Scope::Project);
    Ok(Manifest {
        time_ms: stored.time_ms,
        scan_ms: stored.scan_ms,
        host: stored.host,
        user: stored.user,
        program: stored.program,
        store: stored.store,
        layout: stored.layout.unwrap_or_else(|| PLAIN.to_owned()),
        scope,
        parent: snapshot_id(stored.parent)?,
        label: stored.label,
        tags: stored.tags,
        reason,
        tree: ChunkId::from_bytes(id_bytes(&stored.tree, "a tree id")?),
        root: Root::from_bytes(id_bytes(&stored.root, "a content root")?),
        documents: stored.documents,
        bytes: stored.bytes,
        counts: Counts {
            new: stored.new,
            changed: stored.changed,
            removed: stored.removed,
            unread: stored.unread,
            skipped: stored.skipped,
        },
        position: stored.position.map(LogPosition::from),
        archive: stored.archive.as_ref().map(archive).transpose()?,
        verified: path(stored.verified)?,
    })
}
