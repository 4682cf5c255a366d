//! A session that adds to a repository: stores chunks that are not there yet, then commits a snapshot.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::codec::FRAME_RAW_BYTES_MAX;
use super::format::pack::FrameKind;
use super::index::{Index, SEGMENTS};
use super::marks::marked_packs;
use super::packer::{EncodedFrame, FrameBuilder, Packer, Written};
use super::snapshot::{Manifest, Snapshot};
use super::{Error, Repository, Result, format};
use crate::model::clock::Clock;
use crate::model::hash::{ChunkId, IndexId, SnapshotId};
use crate::model::log::LogRecord;

/// Raw bytes at which a frame of tree nodes is closed: about one leaf, so that leaves are decoded one by one.
pub(super) const NODES_RAW_BYTES: usize = 128 << 10;
/// With so many packs that no index segment has, a segment is written for them.
pub(super) const LOOSE_PACKS_MAX: usize = 32;
/// The set of claimed chunks is split, so that threads seldom wait for each other.
const CLAIM_SHARDS: usize = 16;

/// Decides, for threads that all read documents, who stores a chunk: the first who asks, unless it is there already.
#[derive(Debug)]
pub struct Claims<'r> {
    repo: &'r Repository,
    /// What the session knows of the packs: loaded when it began, and never again.
    index: Arc<Index>,
    began: Began,
    claimed: [Mutex<Claimed>; CLAIM_SHARDS],
}

impl<'r> Claims<'r> {
    /// Begins a session: looks at the packs and marks there are now. Whatever the session builds upon must be looked at
    /// after this.
    ///
    /// # Errors
    /// When the index can't be loaded.
    pub fn begin(repo: &'r Repository) -> Result<Self> {
        let began = Began::now(&repo.clock);
        // A frame that was decoded earlier does not show that its pack is still there.
        repo.refresh();
        Ok(Self { repo, index: repo.index()?, began, claimed: Default::default() })
    }

    /// Returns whether the caller must store this chunk.
    ///
    /// A copy that is in the repository is read and verified before it is relied on: a damaged one is stored again.
    pub fn claim(&self, kind: FrameKind, chunk: &ChunkId) -> bool {
        let shard = usize::from(chunk.as_bytes()[31]) % CLAIM_SHARDS;
        let is_first = self.claimed[shard].lock().unwrap_or_else(PoisonError::into_inner).insert(chunk);
        // Whoever comes second may rely on the first: if the first fails, the whole session does.
        is_first && !self.repo.holds_soundly(&self.index, kind, chunk)
    }
}

/// A set of ids. Kept end to end with a table of their numbers, they take two thirds of what a `HashSet` of them does,
/// and a first backup of a million documents claims a million.
#[derive(Debug, Default)]
struct Claimed {
    ids: Vec<ChunkId>,
    numbers: HashTable<u32>,
}

impl Claimed {
    /// Returns whether the id is new.
    fn insert(&mut self, id: &ChunkId) -> bool {
        let Self { ids, numbers } = self;
        match numbers.entry(id.prefix(), |n| ids[*n as usize] == *id, |n| ids[*n as usize].prefix()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(u32::try_from(ids.len()).expect("a session claims fewer than 2^32 chunks"));
                ids.push(*id);
                true
            }
        }
    }
}

/// Adds to a repository. Until [`Writer::commit`], nothing of it is visible to anyone.
pub struct Writer<'r> {
    repo: &'r Repository,
    claims: &'r Claims<'r>,
    packer: Packer<'r>,
    nodes: FrameBuilder,
}

/// What a session wrote.
#[derive(Debug)]
pub struct Committed {
    /// The new snapshot.
    pub snapshot: Snapshot,
    /// Bytes of packs that were written.
    pub stored_bytes: u64,
}

impl<'r> Writer<'r> {
    /// Returns the writer of a session.
    ///
    /// # Errors
    /// When the repository is still to be created and can't be.
    pub fn begin(claims: &'r Claims<'r>) -> Result<Self> {
        let repo = claims.repo;
        repo.ensure_created()?;
        let packer = Packer::new(&*repo.storage, &repo.codec);
        Ok(Self { repo, claims, packer, nodes: FrameBuilder::default() })
    }

    /// Adds a frame of document chunks that were claimed.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn put_documents(&mut self, frame: EncodedFrame) -> Result<()> {
        self.packer.push(FrameKind::Documents, frame)
    }

    /// Adds a node of a tree, unless it is there already, and returns its id.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it would not fit a frame; otherwise when the storage can't be written.
    pub fn put_node(&mut self, raw: &[u8]) -> Result<ChunkId> {
        if raw.len() > FRAME_RAW_BYTES_MAX {
            return Err(Error::TooLarge { what: format!("a node of the tree takes {} bytes", raw.len()) });
        }
        let id = ChunkId::of(raw);
        if self.claims.claim(FrameKind::Trees, &id) {
            self.nodes.push(&id, raw);
            if self.nodes.raw_bytes() >= NODES_RAW_BYTES {
                self.end_nodes()?;
            }
        }
        Ok(id)
    }

    /// Adds records of a store's log of changes, and returns the id of the chunk that holds them.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when they would not fit a frame; otherwise when the storage can't be written.
    pub fn put_log(&mut self, records: Vec<LogRecord>) -> Result<ChunkId> {
        let raw = format::log::encode(records);
        if raw.len() > FRAME_RAW_BYTES_MAX {
            return Err(Error::TooLarge { what: format!("records of changes take {} bytes", raw.len()) });
        }
        let id = ChunkId::of(&raw);
        if self.claims.claim(FrameKind::Documents, &id) {
            let mut frame = FrameBuilder::default();
            frame.push(&id, &raw);
            self.packer.push(FrameKind::Documents, frame.encode(&self.repo.codec))?;
        }
        Ok(id)
    }

    fn end_nodes(&mut self) -> Result<()> {
        let frame = self.nodes.encode(&self.repo.codec);
        self.packer.push(FrameKind::Trees, frame)
    }

    /// Makes everything durable and then writes the snapshot, which is the commit.
    ///
    /// # Errors
    /// [`Error::Outrun`] when the session took so long that a prune may have begun before it and ended during it, and
    /// packs were indeed marked or removed; otherwise when the storage can't be written.
    pub fn commit(self, manifest: Manifest) -> Result<Committed> {
        let (repo, claims) = (self.repo, self.claims);
        let written = self.finish()?;
        claims.look_again_if_late(&written, manifest.parent)?;
        let snapshot = repo.put_snapshot(manifest)?;
        Ok(Committed { snapshot, stored_bytes: stored_bytes(&written) })
    }

    /// Makes everything durable and then puts snapshots of another repository, given with the bytes of their files. When
    /// it is stopped in between, those that are there are whole. Returns the bytes of packs that were written.
    ///
    /// # Errors
    /// As [`Writer::commit`].
    pub fn commit_copies(self, snapshots: &[(&Snapshot, Vec<u8>)]) -> Result<u64> {
        let (repo, claims) = (self.repo, self.claims);
        let written = self.finish()?;
        // Once for all: whatever they rely on could be seen when the session began, or was written by it.
        repo.settle_packs()?;
        for (snapshot, file) in snapshots {
            claims.look_again_if_late(&written, None)?;
            repo.put_snapshot_file(&snapshot.file_name(), file)?;
        }
        Ok(stored_bytes(&written))
    }

    /// Puts what is still to be put into packs, and makes them durable.
    fn finish(mut self) -> Result<Vec<Written>> {
        if !self.nodes.is_empty() {
            self.end_nodes()?;
        }
        let written = self.packer.finish()?;
        if !written.is_empty() {
            self.claims.index_loose_packs(&written)?;
            self.repo.forget_index();
        }
        Ok(written)
    }

    /// Returns what puts chunks into packs.
    pub(super) fn packer(&mut self) -> &mut Packer<'r> {
        &mut self.packer
    }
}

fn stored_bytes(written: &[Written]) -> u64 {
    written.iter().map(|pack| pack.size_bytes).sum()
}

impl Claims<'_> {
    /// Checks that what a long session knows of or wrote is still there, and that no prune has doubts about any of it.
    fn look_again_if_late(&self, written: &[Written], parent: Option<SnapshotId>) -> Result<()> {
        if self.began.elapsed() < Duration::from_secs(self.repo.config().grace_secs) / 2 {
            return Ok(());
        }
        let marked = marked_packs(&*self.repo.storage)?;
        let present = self.repo.packs_present()?;
        let known = self.index.packs().iter().map(|pack| pack.id);
        let mut all = known.chain(written.iter().map(|pack| pack.id));
        // Also those that were marked when it began: they may be relied on through the parent's tree.
        let is_safe = all.all(|id| present.contains(&id) && !marked.contains(&id));
        // The parent may rely on packs that came after the session had listed them, and that nobody but the parent needs.
        let names = self.repo.snapshot_names()?;
        let is_safe = is_safe && parent.is_none_or(|parent| names.iter().any(|name| name.id == parent));
        if is_safe { Ok(()) } else { Err(Error::Outrun) }
    }

    /// Writes an index segment when many packs have none, so that the next one who opens the repository reads one file
    /// rather than the ends of many.
    fn index_loose_packs(&self, written: &[Written]) -> Result<()> {
        let loose = self.index.packs().iter().filter(|pack| !pack.is_in_segment);
        let loose = loose.map(|pack| (pack.id, pack.size_bytes, &pack.directory));
        let written = written.iter().map(|pack| (pack.id, pack.size_bytes, &pack.directory));
        let loose: Vec<_> = loose.chain(written).collect();
        if loose.len() >= LOOSE_PACKS_MAX {
            let file = format::index::encode(loose.into_iter(), &self.repo.codec);
            self.repo.storage.put(&format!("{SEGMENTS}/{}", IndexId::of(&file)), &file)?;
        }
        Ok(())
    }
}

/// When a session began, by two clocks: one does not jump, the other goes on while the machine sleeps.
#[derive(Debug, Clone)]
pub(super) struct Began {
    steady: Instant,
    wall: SystemTime,
    clock: Clock,
}

impl Began {
    pub(super) fn now(clock: &Clock) -> Self {
        Self { steady: Instant::now(), wall: clock.now(), clock: clock.clone() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.steady.elapsed().max(self.clock.now().duration_since(self.wall).unwrap_or_default())
    }
}

impl Repository {
    /// Compresses the chunks of a frame; threads do this each for themselves.
    pub fn encode_frame(&self, frame: &mut FrameBuilder) -> EncodedFrame {
        frame.encode(&self.codec)
    }

    /// Removes a snapshot that has just been written and turned out to be of no use to anyone.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn withdraw(&self, snapshot: &Snapshot) -> Result<()> {
        Ok(self.storage.remove(&snapshot.object())?)
    }
}
