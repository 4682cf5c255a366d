//! Carrying out a plan. Room is made first, so that a full disk is no obstacle; then what is needed is copied, and only
//! when it is durable, what it was copied from is marked.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::look::Look;
use super::{Error, Packs, PrunePlan, PruneReport, Result, stop_if_asked};
use crate::model::clock::unix_ms;
use crate::model::hash::PackId;
use crate::monitor::{Monitor, Task};
use crate::repo::index::Pack;
use crate::repo::marks::{Cause, Mark};
use crate::repo::packer::Written;
use crate::repo::{self, Repository};

/// Does what the plan says.
pub(super) fn act(repo: &Repository, look: &Look, mut plan: PrunePlan, monitor: &dyn Monitor) -> Result<PruneReport> {
    let packs: HashMap<PackId, &Pack> = look.index.packs().iter().map(|pack| (pack.id, pack)).collect();
    let of = |ids: &[PackId]| Packs::from_index(ids.iter().filter_map(|id| packs.get(id).copied()));
    let mut report = PruneReport {
        snapshots: plan.snapshots,
        forgotten: plan.forgotten,
        waiting: std::mem::take(&mut plan.waiting),
        young: std::mem::take(&mut plan.young),
        kept_bytes: plan.kept_bytes,
        unused_bytes: plan.unused_bytes,
        damage: std::mem::take(&mut plan.damage),
        ..PruneReport::default()
    };
    let marks = marks_of_gone(look, &plan);
    let files = plan.delete.ids.len() + marks.len() + plan.records.len() + plan.leftovers.len();
    monitor.start(Task::Remove, Some(files as u64));
    for record in &plan.records {
        report.records += u64::from(counted(monitor, || repo.remove_record(record))?);
    }
    if !plan.delete.ids.is_empty() {
        repo.settle_packs()?;
    }
    report.deleted = of(&remove_packs(repo, &plan.delete.ids, monitor)?);
    report.marks = remove_marks(repo, &marks, monitor)?;
    for leftover in &plan.leftovers {
        report.leftovers += u64::from(counted(monitor, || repo.remove_leftover(leftover))?);
    }

    monitor.start(Task::Repack, Some(plan.repack.bytes));
    let mut before = 0;
    let repacked = repo.repack(&look.index, &plan.repack_numbers, &look.references, |pack| {
        monitor.advance(std::mem::replace(&mut before, pack.size_bytes));
        !monitor.is_interrupted()
    })?;
    stop_if_asked(monitor)?;
    monitor.advance(before);
    report.segments = repo.merge_segments(&look.index, &repacked.written)?;
    report.written = written(&repacked.written);
    report.kept_bytes += report.written.bytes;
    report.damage.extend(repacked.damage);
    // One that is marked already was marked too early; it is not marked again.
    let emptied: Vec<PackId> = repacked.emptied.into_iter().filter(|id| !packs[id].is_marked).collect();
    report.waiting = add(report.waiting, &of(&repacked.held));
    mark(repo, look, &plan.mark.ids, Cause::Unused)?;
    mark(repo, look, &emptied, Cause::Repacked)?;
    report.marked = plan.mark;
    report.repacked = of(&emptied);
    repo.refresh();
    Ok(report)
}

fn counted(monitor: &dyn Monitor, remove: impl FnOnce() -> repo::Result<bool>) -> Result<bool> {
    stop_if_asked(monitor)?;
    monitor.advance(1);
    Ok(remove()?)
}

/// Removes packs and returns those that were there.
fn remove_packs(repo: &Repository, ids: &[PackId], monitor: &dyn Monitor) -> Result<Vec<PackId>> {
    let remove = |id: &PackId| Ok(counted(monitor, || repo.remove_pack(*id))?.then_some(*id));
    let removed: Result<Vec<Option<PackId>>> = ids.par_iter().map(remove).collect();
    Ok(removed?.into_iter().flatten().collect())
}

/// Returns the marks of packs that are gone, or are about to be.
fn marks_of_gone<'a>(look: &'a Look, plan: &'a PrunePlan) -> Vec<&'a Mark> {
    let deleted: HashSet<PackId> = plan.delete.ids.iter().copied().collect();
    look.marks.iter().filter(|mark| deleted.contains(&mark.pack)).chain(&plan.marks).collect()
}

/// Removes marks when their packs are gone, not before: whoever sees no mark and then a pack may rely on it.
fn remove_marks(repo: &Repository, marks: &[&Mark], monitor: &dyn Monitor) -> Result<u64> {
    let removed: Result<Vec<bool>> = marks.par_iter().map(|mark| counted(monitor, || repo.remove_mark(mark))).collect();
    Ok(removed?.into_iter().filter(|removed| *removed).count() as u64)
}

fn mark(repo: &Repository, look: &Look, ids: &[PackId], cause: Cause) -> Result<()> {
    let time_ms = unix_ms(look.now);
    ids.par_iter().try_for_each(|id| repo.mark(*id, cause, time_ms)).map_err(Error::from)
}

fn written(written: &[Written]) -> Packs {
    let ids = written.iter().map(|pack| pack.id).collect();
    Packs { ids, bytes: written.iter().map(|pack| pack.size_bytes).sum() }
}

fn add(mut packs: Packs, more: &Packs) -> Packs {
    packs.ids.extend(&more.ids);
    packs.bytes += more.bytes;
    packs
}
