//! A snapshot: the manifest that names a tree. Writing it is the commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::header::{self, FileKind};
use super::{FormatError, Result, from_bytes, id_bytes, to_bytes};
use crate::model::hash::{ChunkId, Root, SnapshotId};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::repo::codec::Codec;
use crate::repo::snapshot::{Counts, Manifest, Reason};

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
            Reason::Backup => None,
            Reason::CheckpointBefore(restored) => Some(ByteBuf::from(restored.as_bytes())),
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
    };
    let mut file = header::encode(FileKind::Snapshot).to_vec();
    file.extend(codec.encode_body(&to_bytes(&stored)));
    file
}

/// Reads the file back.
pub fn decode(file: &[u8], codec: &Codec) -> Result<Manifest> {
    let stored: Stored = from_bytes(&codec.decode_body(header::strip(FileKind::Snapshot, file)?)?, "it")?;
    let snapshot_id =
        |id: Option<ByteBuf>| id.map(|id| id_bytes(&id, "a snapshot id").map(SnapshotId::from_bytes)).transpose();
    let reason = snapshot_id(stored.restored)?.map_or(Reason::Backup, Reason::CheckpointBefore);
    let scope = match stored.project {
        None => Scope::System,
        Some(name) => {
            Scope::Project(EntryPath::new(name.into_vec()).map_err(|e| FormatError::malformed(e.to_string()))?)
        }
    };
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
    })
}
