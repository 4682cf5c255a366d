//! Writing what was replayed as a snapshot.

use std::collections::BTreeMap;

use crate::model::entry::{Body, Document, Encoding, Entry, Stamp};
use crate::model::hash::{ChunkId, ContentId};
use crate::model::log::Replayed;
use crate::model::path::EntryPath;
use crate::ops::{Author, Result};
use crate::repo::cut::{WHOLE_BYTES_MAX, pieces};
use crate::repo::format::pack::FrameKind;
use crate::repo::packer::{FRAME_RAW_BYTES, FrameBuilder};
use crate::repo::snapshot::{Counts, Manifest, Reason, Snapshot};
use crate::repo::tree::{self, Record, Tree};
use crate::repo::writer::{Claims, Writer};
use crate::repo::{self, Repository};

/// What is at a path after all.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing.
    Removed,
    /// What some snapshot holds.
    Kept(Entry),
    /// What records say.
    New(New),
}

/// A document as records say it is.
#[derive(Debug)]
pub(super) struct New {
    pub version: Option<i64>,
    pub content: Vec<u8>,
    pub encoding: Encoding,
    pub time_ms: i64,
    /// The last record that tells of it.
    pub id: u64,
}

/// What the snapshot says besides.
pub(super) struct Plan<'a> {
    pub base: &'a Snapshot,
    pub tree: &'a Tree,
    pub replayed: Replayed,
    pub scan_ms: i64,
    /// Documents that are not known.
    pub unread: u64,
    pub author: &'a Author,
}

/// Writes the snapshot.
pub(super) fn write(
    repo: &Repository,
    claims: &Claims<'_>,
    plan: &Plan<'_>,
    changes: BTreeMap<EntryPath, Outcome>,
) -> Result<Snapshot> {
    let paths: Vec<EntryPath> = changes.keys().cloned().collect();
    let before = repo.entries_at(plan.tree, &paths)?;
    let mut counts = Counts { unread: plan.unread, ..Counts::default() };
    let mut writer = Writer::begin(claims)?;
    let mut contents = Contents { repo, claims, frame: FrameBuilder::default() };
    let mut records = Vec::new();
    for ((path, outcome), before) in changes.into_iter().zip(before) {
        let now = match outcome {
            Outcome::Removed => None,
            Outcome::Kept(entry) => Some(entry),
            Outcome::New(new) => Some(contents.entry(&mut writer, path.clone(), &new)?),
        };
        match (before, &now) {
            (None, None) => continue,
            (None, Some(_)) => counts.new += 1,
            (Some(_), None) => counts.removed += 1,
            (Some(before), Some(now)) => counts.changed += u64::from(!before.same_content(now)),
        }
        records.push(now.map_or(Record::Removed(path), Record::Present));
    }
    contents.end_frame(&mut writer)?;
    let tree = tree::update(repo, &mut writer, plan.tree, &records)?;
    let base = &plan.base.manifest;
    let manifest = Manifest {
        time_ms: repo.clock().now_ms(),
        scan_ms: plan.scan_ms,
        host: base.host.clone(),
        user: plan.author.user.clone(),
        program: concat!("metastash ", env!("CARGO_PKG_VERSION")).to_owned(),
        store: base.store.clone(),
        layout: base.layout.clone(),
        scope: base.scope.clone(),
        parent: Some(plan.base.id),
        label: None,
        tags: BTreeMap::new(),
        reason: Reason::Replayed(plan.replayed),
        tree: tree.id,
        root: tree.root(),
        documents: tree.documents(),
        bytes: tree.bytes(),
        counts,
        position: None,
        archive: None,
        verified: None,
    };
    Ok(writer.commit(manifest)?.snapshot)
}

/// Stores contents, many in a frame.
struct Contents<'r> {
    repo: &'r Repository,
    claims: &'r Claims<'r>,
    frame: FrameBuilder,
}

impl Contents<'_> {
    fn entry(&mut self, writer: &mut Writer<'_>, path: EntryPath, new: &New) -> Result<Entry> {
        let document = self.document(writer, &new.content)?;
        // A stamp that proves nothing: no store was looked at.
        let stamp = Stamp { time_ns: new.time_ms.saturating_mul(1_000_000), version: 0, identity: 0 };
        Ok(Entry { path, body: Body::Document(document), mode: None, encoding: new.encoding, stamp })
    }

    fn document(&mut self, writer: &mut Writer<'_>, bytes: &[u8]) -> Result<Document> {
        let (content, size) = (ContentId::of(bytes), bytes.len() as u64);
        if size <= WHOLE_BYTES_MAX {
            self.chunk(writer, ChunkId::of_whole(content), bytes)?;
            return Ok(Document { content, size, pieces: Box::default() });
        }
        let mut ids = Vec::new();
        for piece in pieces(bytes) {
            let piece = piece.expect("bytes in memory can be read");
            let id = ChunkId::of(&piece);
            self.chunk(writer, id, &piece)?;
            ids.push(id);
        }
        let pieces = if ids.len() > 1 { ids.into() } else { Box::default() };
        Ok(Document { content, size, pieces })
    }

    fn chunk(&mut self, writer: &mut Writer<'_>, id: ChunkId, bytes: &[u8]) -> repo::Result<()> {
        if self.claims.claim(FrameKind::Documents, &id) {
            self.frame.push(&id, bytes);
        }
        if self.frame.raw_bytes() >= FRAME_RAW_BYTES { self.end_frame(writer) } else { Ok(()) }
    }

    fn end_frame(&mut self, writer: &mut Writer<'_>) -> repo::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        writer.put_documents(self.repo.encode_frame(&mut self.frame))
    }
}
