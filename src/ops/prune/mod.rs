//! Prune: making room, in two phases. A pack that nobody needs is marked; when the mark is old enough, and still nobody
//! needs the pack, it is deleted. What is still needed of a pack that is half empty, or one of very many small ones, is
//! copied first.
//!
//! `docs/format.md` says why no writer, and no other prune, needs to stop meanwhile.

mod act;
mod look;
mod plan;
mod small;

use std::time::Duration;

use super::{Error, Result};
use crate::model::hash::PackId;
use crate::monitor::Monitor;
use crate::repo::forgotten::Record;
use crate::repo::marks::Mark;
use crate::repo::removal::Leftover;
use crate::repo::segments::Merged;
use crate::repo::{self, Repository};

use look::Look;

/// How much of the packs may be unused before some are repacked, in percent.
pub const MAX_UNUSED_PERCENT: u32 = 5;

/// How to prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneOptions {
    /// Shortest time between marking and deleting. The repository's own grace holds if it is longer.
    pub grace: Duration,
    /// How much of the packs may be unused before some are repacked, in percent.
    pub max_unused_percent: u32,
    /// Do not mark packs that are younger than the grace, though nobody refers to them: they are likely those of a backup
    /// that still runs. Otherwise more may have to be copied later.
    pub leave_young: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { grace: Duration::ZERO, max_unused_percent: MAX_UNUSED_PERCENT, leave_young: true }
    }
}

/// Some packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packs {
    /// Which.
    pub ids: Vec<PackId>,
    /// The sum of their lengths in bytes.
    pub bytes: u64,
}

impl Packs {
    fn push(&mut self, pack: &repo::index::Pack) {
        self.ids.push(pack.id);
        self.bytes += pack.size_bytes;
    }

    /// Returns how many.
    pub fn count(&self) -> u64 {
        self.ids.len() as u64
    }
}

/// What a prune would do.
#[derive(Debug, Default)]
pub struct PrunePlan {
    /// Snapshots that are listed.
    pub snapshots: u64,
    /// Forgotten snapshots that still count.
    pub forgotten: u64,
    /// Packs that were marked long enough ago, and of which nothing is needed that is not elsewhere.
    pub delete: Packs,
    /// Packs that nobody refers to any more: to be marked.
    pub mark: Packs,
    /// Packs that are half empty, small, or marked though something in them is needed: to be copied, then marked.
    pub repack: Packs,
    /// Packs whose marks are too young yet, or of which something was copied too short a time ago.
    pub waiting: Packs,
    /// Packs that nobody refers to, but that were written so short a time ago that a backup may still run.
    pub young: Packs,
    /// Bytes of packs that stay, without those to be repacked.
    pub kept_bytes: u64,
    /// Of these, bytes that nobody refers to.
    pub unused_bytes: u64,
    /// Records of forgotten snapshots that no longer count.
    pub records: Vec<Record>,
    /// Marks of packs that are gone.
    pub marks: Vec<Mark>,
    /// Unfinished files that nobody writes any more.
    pub leftovers: Vec<Leftover>,
    /// Packs that can't be looked into. They stay as they are.
    pub damage: Vec<repo::Error>,
    /// Numbers of the packs to be repacked, in the order in which they are.
    repack_numbers: Vec<u32>,
}

/// What a prune did.
#[derive(Debug, Default)]
pub struct PruneReport {
    /// Snapshots that are listed.
    pub snapshots: u64,
    /// Forgotten snapshots that still count.
    pub forgotten: u64,
    /// Packs that were deleted.
    pub deleted: Packs,
    /// Packs that were marked because nobody refers to them.
    pub marked: Packs,
    /// Packs that were marked because all that is needed of them is in other packs now.
    pub repacked: Packs,
    /// The packs that were written for that.
    pub written: Packs,
    /// Packs that were marked before and can't be deleted yet.
    pub waiting: Packs,
    /// Packs that nobody refers to, too young to be marked.
    pub young: Packs,
    /// Bytes of packs that stay.
    pub kept_bytes: u64,
    /// Of these, bytes that nobody refers to.
    pub unused_bytes: u64,
    /// Records of forgotten snapshots that were removed.
    pub records: u64,
    /// Marks that were removed.
    pub marks: u64,
    /// Unfinished files that were removed.
    pub leftovers: u64,
    /// Index segments that were written and removed.
    pub segments: Merged,
    /// What is damaged. What is damaged and needed stays as it is.
    pub damage: Vec<repo::Error>,
}

/// Returns what a prune would do, without writing anything.
///
/// # Errors
/// As [`prune`].
pub fn plan_prune(repo: &Repository, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PrunePlan> {
    let look = Look::take(repo, options, monitor)?;
    plan::plan(repo, &look, options, monitor)
}

/// Makes room: deletes what was marked long enough ago, and marks what is to go next.
///
/// # Errors
/// [`Error::Unknown`] when a snapshot or its tree can't be read: then nothing is removed. Otherwise when the repository
/// can't be read or written, or the monitor asks for a stop. Whatever was done by then is sound, and another prune goes on.
pub fn prune(repo: &Repository, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
    let look = Look::take(repo, options, monitor)?;
    let plan = plan::plan(repo, &look, options, monitor)?;
    act::act(repo, &look, plan, monitor)
}

fn stop_if_asked(monitor: &dyn Monitor) -> Result<()> {
    if monitor.is_interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}
