//! Removing what nobody needs. Who decides that is a prune; `docs/format.md` says by which rules.

use std::collections::HashSet;
use std::time::SystemTime;

use super::index::PACKS;
use super::{Repository, Result};
use crate::model::hash::PackId;

/// Folder of what a crash left unfinished.
const UNFINISHED: &str = "tmp";

/// A file without a name yet, or one that a crash left so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When it was written last, by the storage's clock.
    pub modified: SystemTime,
    object: String,
}

impl Repository {
    /// Returns the time by the clock that ages in this repository are measured with.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn storage_time(&self) -> Result<SystemTime> {
        Ok(self.storage.now()?)
    }

    /// Returns the packs that are there.
    ///
    /// # Errors
    /// When the storage can't be listed.
    pub fn packs_present(&self) -> Result<HashSet<PackId>> {
        Ok(self.storage.names(PACKS)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Makes all packs that are there durable: what is removed because of others is not to come back without them.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn settle_packs(&self) -> Result<()> {
        Ok(self.storage.settle(PACKS)?)
    }

    /// Removes a pack for ever. Returns whether it was there.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn remove_pack(&self, pack: PackId) -> Result<bool> {
        self.remove_if_there(&format!("{PACKS}/{pack}"))
    }

    /// Returns the unfinished files, those that are being written among them.
    ///
    /// # Errors
    /// When the storage can't be listed.
    pub fn leftovers(&self) -> Result<Vec<Leftover>> {
        let leftover = |object: crate::storage::Object| Leftover {
            size_bytes: object.size_bytes,
            modified: object.modified,
            object: format!("{UNFINISHED}/{}", object.name),
        };
        Ok(self.storage.list(UNFINISHED)?.into_iter().map(leftover).collect())
    }

    /// Removes an unfinished file. Returns whether it was there.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn remove_leftover(&self, leftover: &Leftover) -> Result<bool> {
        self.remove_if_there(&leftover.object)
    }
}
