//! Forget: taking snapshots out of sight, and putting them back.

use std::collections::BTreeSet;

use super::retention::{Decision, is_backup};
use super::{Error, Result};
use crate::model::hash::SnapshotId;
use crate::model::scope::Scope;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::forgotten::Forgotten;
use crate::repo::snapshot::Snapshot;

/// Decides that these snapshots go: labelled ones and checkpoints too.
///
/// # Errors
/// [`Error::Refused`] when a store that has backups would be left with none, unless that is allowed.
pub fn plan_named<'a>(
    snapshots: &'a [Snapshot],
    named: &BTreeSet<SnapshotId>,
    allow_empty: bool,
) -> Result<Vec<Decision<'a>>> {
    let (gone, left): (Vec<_>, Vec<_>) = snapshots.iter().partition(|snapshot| named.contains(&snapshot.id));
    let is_like = |one: &Snapshot, other: &Snapshot| group_of(one) == group_of(other) && is_backup(other);
    let last = gone.iter().find(|gone| is_backup(gone) && !left.iter().any(|left| is_like(gone, left)));
    if let Some(last) = last.filter(|_| !allow_empty) {
        let manifest = &last.manifest;
        return Err(Error::Refused {
            danger: format!(
                "no backup of {} ({}) on {} would be left without snapshot {}",
                manifest.store,
                manifest.scope,
                manifest.host,
                last.id.short()
            ),
            way_out: "leave one, or accept it with `--allow-empty`".to_owned(),
        });
    }
    Ok(gone.into_iter().map(|snapshot| Decision { snapshot, keep: BTreeSet::new() }).collect())
}

/// Takes the snapshots that are to go out of sight, the oldest first. Returns how many were there: others may be at it too.
///
/// # Errors
/// When the repository can't be written, or the monitor asks for a stop: those that follow are as they were.
pub fn forget(repo: &Repository, decisions: &[Decision<'_>], monitor: &dyn Monitor) -> Result<u64> {
    let mut forgotten = 0;
    for decision in decisions.iter().filter(|decision| decision.forgets()) {
        if monitor.is_interrupted() {
            return Err(Error::Interrupted);
        }
        forgotten += u64::from(repo.forget(decision.snapshot)?);
    }
    Ok(forgotten)
}

/// Puts a forgotten snapshot back.
///
/// # Errors
/// [`Error::LabelTaken`] when another snapshot has its label by now; otherwise as [`Repository::unforget`].
pub fn put_back(repo: &Repository, forgotten: &Forgotten) -> Result<()> {
    if let Some(label) = &forgotten.snapshot.manifest.label
        && let Some(taken) = repo.snapshots_by_label(label)?.first()
    {
        return Err(Error::LabelTaken { label: label.clone(), snapshot: taken.id.short() });
    }
    Ok(repo.unforget(forgotten)?)
}

/// Snapshots of one group stand for each other: of the same host, store and scope.
fn group_of(snapshot: &Snapshot) -> (&str, &str, &Scope) {
    let manifest = &snapshot.manifest;
    (&manifest.host, &manifest.store, &manifest.scope)
}
