//! Losses: documents of which a repair found no sound copy, and the snapshots that miss them.
//!
//! A loss is what was known when it was written. Whether it still is one is found out by reading: a backup that brings the
//! same content again makes older snapshots whole.

use std::collections::{BTreeMap, BTreeSet};

use super::format::pack::FrameKind;
use super::snapshot::Snapshot;
use super::{Error, Repository, Result, format};
use crate::model::hash::{ChunkId, LossId, SnapshotId};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::storage::ErrorKind;

/// Folder of the losses.
pub const FOLDER: &str = "lost";

/// What a repair found lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// When it was found, in milliseconds since 1970.
    pub time_ms: i64,
    /// The documents, by path.
    pub documents: Vec<LostDocument>,
    /// Snapshots of whose trees a part can't be read.
    pub trees: BTreeSet<SnapshotId>,
}

/// A document in a state of which there is no sound copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostDocument {
    /// Where it is.
    pub path: EntryPath,
    /// The chunks it is made of.
    pub chunks: Vec<ChunkId>,
    /// The snapshots that hold it in this state.
    pub snapshots: BTreeSet<SnapshotId>,
}

/// What a snapshot lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lack {
    /// How many of its documents are lost.
    pub documents: u64,
    /// Whether part of its list of documents is.
    pub has_damaged_tree: bool,
}

impl Repository {
    /// Writes what was found lost, and then removes what earlier repairs wrote. Nothing lost is nothing to write.
    ///
    /// # Errors
    /// When the storage can't be read or written.
    pub fn put_loss(&self, loss: &Loss) -> Result<()> {
        let names = self.storage.names(FOLDER)?;
        let mut kept = None;
        if !loss.documents.is_empty() || !loss.trees.is_empty() {
            let is_same = |name: &&String| {
                let known = self.read_loss(name).ok().flatten();
                known.is_some_and(|known| known.documents == loss.documents && known.trees == loss.trees)
            };
            kept = names.iter().find(is_same).cloned();
            if kept.is_none() {
                let file = format::loss::encode(loss, &self.codec);
                let name = LossId::of(&file).to_string();
                self.storage.put(&format!("{FOLDER}/{name}"), &file)?;
                kept = Some(name);
            }
        }
        for name in names.iter().filter(|name| kept.as_ref() != Some(*name)) {
            self.remove_if_there(&format!("{FOLDER}/{name}"))?;
        }
        Ok(())
    }

    /// Returns what was found lost, also what has come back since, and what is wrong with files that say so.
    ///
    /// # Errors
    /// When the storage can't be read.
    pub fn losses(&self) -> Result<(Vec<Loss>, Vec<Error>)> {
        let (mut losses, mut unreadable) = (Vec::new(), Vec::new());
        for name in self.storage.names(FOLDER)? {
            match self.read_loss(&name) {
                Ok(loss) => losses.extend(loss),
                Err(error @ (Error::Damaged { .. } | Error::TooNew { .. })) => unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((losses, unreadable))
    }

    /// Returns which of these snapshots lack something that was found lost and has not come back.
    ///
    /// # Errors
    /// When the storage can't be read.
    pub fn lacking(&self, snapshots: &[Snapshot]) -> Result<BTreeMap<SnapshotId, Lack>> {
        let mut lacking: BTreeMap<SnapshotId, Lack> = BTreeMap::new();
        let known: BTreeMap<SnapshotId, &Snapshot> = snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
        let mut seen = BTreeSet::new();
        for loss in self.losses()?.0 {
            for document in loss.documents {
                let is_there = |chunk: &ChunkId| self.read_chunk(FrameKind::Documents, chunk).is_ok();
                if document.chunks.iter().all(is_there) {
                    continue;
                }
                for id in document.snapshots.iter().filter(|id| known.contains_key(id)) {
                    // Two repairs at once may both have written it down.
                    if seen.insert((document.path.clone(), *id)) {
                        lacking.entry(*id).or_default().documents += 1;
                    }
                }
            }
            for id in &loss.trees {
                if known.get(id).is_some_and(|snapshot| !self.lists_in_full(snapshot)) {
                    lacking.entry(*id).or_default().has_damaged_tree = true;
                }
            }
        }
        Ok(lacking)
    }

    /// Tells whether the whole tree of a snapshot can be read.
    pub fn lists_in_full(&self, snapshot: &Snapshot) -> bool {
        let tree = self.tree(&snapshot.manifest.tree);
        tree.is_ok_and(|tree| self.entries(&tree, &Scope::System).all(|entry| entry.is_ok()))
    }

    /// Returns nothing for a file that was removed since it was listed.
    fn read_loss(&self, name: &str) -> Result<Option<Loss>> {
        let object = format!("{FOLDER}/{name}");
        let file = match self.storage.read(&object) {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        if name.parse() != Ok(LossId::of(&file)) {
            return Err(Error::Damaged { object, what: "its bytes do not match its name".to_owned() });
        }
        format::loss::decode(&file, &self.codec).map(Some).map_err(|e| Error::from_format(object, e))
    }
}
