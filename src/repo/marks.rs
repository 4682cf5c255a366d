//! Marks: packs that a prune will delete. A mark is never taken back while its pack exists: `docs/format.md` says why.

use std::collections::HashSet;
use std::time::SystemTime;

use super::{Error, Repository, Result, format};
use crate::model::hash::PackId;
use crate::storage::{self, ErrorKind, Object, Storage};

/// Folder of the marks.
pub const MARKS: &str = "marks";

/// Bytes that make the name of a mark its own.
const UNIQUE_BYTES: usize = 16;

/// Why a pack is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No snapshot refers to anything in it.
    Unused,
    /// What is needed of it is in other packs, too.
    Repacked,
}

/// One mark of a pack. A pack may have several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The pack.
    pub pack: PackId,
    /// When it was put, by the storage's clock.
    pub marked: SystemTime,
    object: String,
}

impl Mark {
    fn parse(object: &Object) -> Option<Self> {
        let pack = pack_of(&object.name)?;
        Some(Self { pack, marked: object.modified, object: format!("{MARKS}/{}", object.name) })
    }
}

/// Reads the name of a mark: `<pack id>-<anything unique>`.
fn pack_of(name: &str) -> Option<PackId> {
    name.split('-').next()?.parse().ok()
}

/// Returns the packs that are marked for removal.
pub(super) fn marked_packs(storage: &dyn Storage) -> Result<HashSet<PackId>> {
    Ok(storage.names(MARKS)?.iter().filter_map(|name| pack_of(name)).collect())
}

impl Repository {
    /// Returns all marks.
    ///
    /// # Errors
    /// When the storage can't be listed.
    pub fn marks(&self) -> Result<Vec<Mark>> {
        Ok(self.storage.list(MARKS)?.iter().filter_map(Mark::parse).collect())
    }

    /// Marks a pack for removal, under a name never used before. `time_ms` is for people.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn mark(&self, pack: PackId, cause: Cause, time_ms: i64) -> Result<()> {
        let mut unique = [0; UNIQUE_BYTES];
        let failed = |e: getrandom::Error| storage::Error::new("draw a name for", "a mark", e.into());
        getrandom::fill(&mut unique).map_err(failed)?;
        let unique: String = unique.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = format::mark::encode(pack, cause, time_ms, &self.codec);
        Ok(self.storage.put(&format!("{MARKS}/{pack}-{unique}"), &file)?)
    }

    /// Removes a mark. Its pack must be gone. Returns whether the mark was there.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn remove_mark(&self, mark: &Mark) -> Result<bool> {
        self.remove_if_there(&mark.object)
    }

    /// Removes an object, unless someone else did.
    pub(super) fn remove_if_there(&self, object: &str) -> Result<bool> {
        match self.storage.remove(object) {
            Err(e) if e.kind == ErrorKind::NotFound => Ok(false),
            result => Ok(result.map(|()| true).map_err(Error::from)?),
        }
    }
}
