//! Repair: what damage has left is brought to safety, and what it has taken is written down. Nothing that may still be of
//! use is removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::check::{CheckReport, Checked, Depth, Part, check_known};
use super::prune::Packs;
use super::{Error, Result};
use crate::model::clock::unix_ms;
use crate::model::entry::Entry;
use crate::model::hash::{ChunkId, PackId, SnapshotId};
use crate::monitor::{Monitor, Task};
use crate::repo::format::pack::FrameKind;
use crate::repo::index::Index;
use crate::repo::losses::{Loss, LostDocument};
use crate::repo::marks::Cause;
use crate::repo::references::References;
use crate::repo::segments::Merged;
use crate::repo::snapshot::{Counts, Manifest, Reference, Snapshot};
use crate::repo::tree::TreeWriter;
use crate::repo::writer::{Claims, Writer};
use crate::repo::{self, Repository};

/// The tag of a snapshot that was made of what is left of another; its value is the short id of that.
pub const REPAIRED: &str = "repaired";

/// How to repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Make a new snapshot of what is left of each of these, too, and not only of those that the next backup goes by.
    pub salvage: BTreeSet<SnapshotId>,
    /// Forget snapshots that can't be read, or whose list of documents can't: as long as they are in sight, or were
    /// forgotten less than the grace ago, nothing can be pruned.
    pub forget_unreadable: bool,
}

/// What a repair would do.
#[derive(Debug, Default)]
pub struct RepairPlan {
    /// What is wrong.
    pub check: CheckReport,
    /// Packs that are damaged: what is sound in them is copied, then they are marked for removal.
    pub packs: Packs,
    /// The snapshots of which new ones are made that hold what is left of them.
    pub salvage: Vec<Snapshot>,
    /// The snapshots of which a new one would be made, if anything was left of their lists of documents.
    pub hopeless: Vec<SnapshotId>,
    /// The snapshots that are forgotten, because they can't be read.
    pub forget: BTreeSet<SnapshotId>,
    /// The sound chunks of the repository.
    sound: HashSet<(FrameKind, ChunkId)>,
}

/// A new snapshot of what is left of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// The damaged snapshot.
    pub of: SnapshotId,
    /// The new one.
    pub snapshot: Snapshot,
}

/// What a repair did.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// What was wrong.
    pub check: CheckReport,
    /// Packs that were marked, because all that is sound in them is in other packs now.
    pub packs: Packs,
    /// The packs that were written for that.
    pub written: Packs,
    /// Index segments that were written and removed.
    pub segments: Merged,
    /// New snapshots of what is left of others.
    pub salvaged: Vec<Salvage>,
    /// The snapshots of which a new one would have been made, if anything was left of their lists of documents.
    pub hopeless: Vec<SnapshotId>,
    /// How many snapshots were forgotten, because they can't be read.
    pub forgotten: u64,
}

/// Returns what a repair would do, without writing anything. Reads every byte.
///
/// # Errors
/// When the storage can't be read.
pub fn plan_repair(repo: &Repository, options: &RepairOptions, monitor: &dyn Monitor) -> Result<RepairPlan> {
    let index = repo.index_of_what_is_left()?;
    let everything = Depth::ReadData(Part { number: 1, of: 1 });
    let Checked { report: check, snapshots: listed, sound } = check_known(repo, everything, monitor)?;
    let damaged: HashSet<PackId> = check.damaged_packs.iter().copied().collect();
    // One that is marked already is on its way: a prune copies what is needed of it.
    let packs = Packs::from_index(index.packs().iter().filter(|pack| damaged.contains(&pack.id) && !pack.is_marked));
    let mut forget = BTreeSet::new();
    if options.forget_unreadable {
        forget.extend(&check.unreadable_trees);
        forget.extend(repo.damaged_snapshots()?);
    }
    let (mut salvage, mut hopeless) = (Vec::new(), Vec::new());
    for snapshot in to_salvage(&listed, &check, options) {
        match repo.tree(&snapshot.manifest.tree) {
            Err(error) if error.is_damage() => hopeless.push(snapshot.id),
            result => {
                result?;
                salvage.push(snapshot);
            }
        }
    }
    Ok(RepairPlan { check, packs, salvage, hopeless, forget, sound })
}

/// Brings to safety what damage has left.
///
/// # Errors
/// When the repository can't be read or written, or the monitor asks for a stop. What was done by then is sound, and
/// another repair goes on.
pub fn repair(repo: &Repository, options: &RepairOptions, monitor: &dyn Monitor) -> Result<RepairReport> {
    let plan = plan_repair(repo, options, monitor)?;
    let mut report = RepairReport::default();
    let index = repo.index()?;
    copy_sound(repo, &index, &plan, &mut report, monitor)?;
    for snapshot in &plan.salvage {
        // One that was forgotten meanwhile needs none.
        if let Some(made) = salvage(repo, snapshot, &plan.sound)? {
            report.salvaged.push(Salvage { of: snapshot.id, snapshot: made });
        }
    }
    repo.put_loss(&loss(repo, &plan.check)?)?;
    for snapshot in repo.snapshots()?.snapshots.iter().filter(|snapshot| plan.forget.contains(&snapshot.id)) {
        report.forgotten += u64::from(repo.forget(snapshot)?);
    }
    for id in plan.forget.iter().filter(|id| !plan.check.unreadable_trees.contains(id)) {
        report.forgotten += u64::from(repo.set_aside(*id)?);
    }
    repo.refresh();
    Ok(RepairReport { check: plan.check, hopeless: plan.hopeless, ..report })
}

/// Copies what is sound of damaged packs, gives all packs a place in the index, and marks the damaged ones.
fn copy_sound(
    repo: &Repository,
    index: &Index,
    plan: &RepairPlan,
    report: &mut RepairReport,
    monitor: &dyn Monitor,
) -> Result<()> {
    let damaged: HashSet<PackId> = plan.packs.ids.iter().copied().collect();
    let numbers: Vec<u32> =
        (0..).zip(index.packs()).filter(|(_, pack)| damaged.contains(&pack.id)).map(|(number, _)| number).collect();
    let sound = References::to(plan.sound.iter().copied());
    monitor.start(Task::Repack, Some(plan.packs.bytes));
    let repacked = repo.repack(index, &numbers, &sound, |pack| {
        monitor.advance(pack.size_bytes);
        !monitor.is_interrupted()
    })?;
    if monitor.is_interrupted() {
        return Err(Error::Interrupted);
    }
    report.segments = repo.merge_segments(index, &repacked.written)?;
    report.written.bytes = repacked.written.iter().map(|pack| pack.size_bytes).sum();
    report.written.ids = repacked.written.iter().map(|pack| pack.id).collect();
    let emptied: HashSet<PackId> = repacked.emptied.into_iter().collect();
    let time_ms = unix_ms(repo.storage_time()?);
    for pack in index.packs().iter().filter(|pack| emptied.contains(&pack.id)) {
        repo.mark(pack.id, Cause::Repacked, time_ms)?;
    }
    report.packs = Packs::from_index(index.packs().iter().filter(|pack| emptied.contains(&pack.id)));
    Ok(())
}

/// Returns the snapshots that are hit and that a new one is to be made of: those that the next backup of their store is
/// compared with, which would take over what is lost as unchanged; and those that were asked for.
fn to_salvage(listed: &[Snapshot], check: &CheckReport, options: &RepairOptions) -> Vec<Snapshot> {
    let mut newest: BTreeMap<_, &Snapshot> = BTreeMap::new();
    for snapshot in listed.iter().filter(|snapshot| snapshot.manifest.is_taken()) {
        let manifest = &snapshot.manifest;
        // The list is sorted by time: the last of each stays.
        newest.insert((&manifest.host, &manifest.store, &manifest.scope, &manifest.layout), snapshot);
    }
    let mut chosen: BTreeSet<SnapshotId> = newest.values().map(|snapshot| snapshot.id).collect();
    chosen.extend(&options.salvage);
    let is_hit = |id: &SnapshotId| {
        check.unreadable_trees.contains(id) || check.hits.iter().any(|hit| hit.snapshots.contains(id))
    };
    listed.iter().filter(|snapshot| chosen.contains(&snapshot.id) && is_hit(&snapshot.id)).cloned().collect()
}

/// Makes a snapshot of what is left of another: an incomplete one. The next backup finds that documents are missing in it,
/// and stores them again, if the store still has them.
fn salvage(repo: &Repository, of: &Snapshot, sound: &HashSet<(FrameKind, ChunkId)>) -> Result<Option<Snapshot>> {
    // First of all: what a prune may do meanwhile is counted from here.
    let claims = Claims::begin(repo)?;
    match repo.find_snapshot(&Reference::Name(of.id.to_string()), |_| true) {
        // Forgotten since it was looked at.
        Err(repo::Error::UnknownSnapshot { .. }) => return Ok(None),
        result => drop(result?),
    }
    // The plan has set those aside of which nothing can be read.
    let left = repo.salvage(&of.manifest.tree)?;
    let is_sound = |entry: &Entry| {
        let chunks = entry.document().into_iter().flat_map(|document| document.chunks().collect::<Vec<_>>());
        chunks.into_iter().all(|chunk| sound.contains(&(FrameKind::Documents, chunk)))
    };
    let (mut writer, mut tree) = (Writer::begin(&claims)?, TreeWriter::new());
    let mut lost = left.uncertain;
    for entry in left.entries {
        if is_sound(&entry) {
            tree.push(&mut writer, entry)?;
        } else {
            lost += 1;
        }
    }
    let tree = tree.finish(&mut writer)?;
    let mut tags = of.manifest.tags.clone();
    tags.insert(REPAIRED.to_owned(), of.id.short());
    let manifest = Manifest {
        // Right after the other, before all that came since.
        time_ms: of.manifest.time_ms + 1,
        program: concat!("metastash ", env!("CARGO_PKG_VERSION")).to_owned(),
        parent: Some(of.id),
        label: None,
        tags,
        tree: tree.id,
        root: tree.root(),
        documents: tree.documents(),
        bytes: tree.bytes(),
        counts: Counts { unread: lost + of.manifest.counts.unread, ..Counts::default() },
        // A log of changes is of no use to a backup that must find out what is missing.
        position: None,
        archive: None,
        verified: None,
        ..of.manifest.clone()
    };
    Ok(Some(writer.commit(manifest)?.snapshot))
}

/// Returns what is lost, as it is written down.
fn loss(repo: &Repository, check: &CheckReport) -> Result<Loss> {
    let lost = |((path, chunks), snapshots): (&(_, Vec<ChunkId>), &BTreeSet<SnapshotId>)| LostDocument {
        path: Clone::clone(path),
        chunks: chunks.clone(),
        snapshots: snapshots.clone(),
    };
    Ok(Loss {
        time_ms: unix_ms(repo.storage_time()?),
        documents: check.states.iter().map(lost).collect(),
        trees: check.unreadable_trees.clone(),
    })
}
