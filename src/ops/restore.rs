//! Restore: find out what differs, save the target as it is, then put back what differs and, if asked, remove the rest.

use super::backup::{BackupOptions, backup_listed};
use super::fetch::fetch;
use super::live::live_differences;
use super::plan::{Leaves, Planner};
pub use super::plan::{Mode, Plan, PlanCounts};
use super::settle::{adopt, settle};
use super::{Author, Error, Result, guards, require_scope};
use crate::endpoint::{Listing, Target};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity};
use crate::platform::kylin::layout::Layout;
use crate::repo::snapshot::{Manifest, Reason, Snapshot};
use crate::repo::tree::{Tree, differences};
use crate::repo::{self, Repository};
use crate::storage::ErrorKind;

/// Dangers that were explicitly accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allow {
    /// Truncate from a snapshot that holds nothing in the scope.
    pub empty: bool,
    /// Truncate from a snapshot that lacks documents which could not be read.
    pub incomplete: bool,
    /// Truncate the whole store from a snapshot of one project.
    pub project_snapshot: bool,
    /// Restore everything from a snapshot of another system.
    pub other_system: bool,
    /// Let a project end up with two models of one alias.
    pub same_alias: bool,
}

/// How to restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The project to restore; nothing for all that the snapshot holds.
    pub project: Option<Scope>,
    /// What happens to documents that only the target has.
    pub mode: Mode,
    /// Leave permissions on projects as they are in the target.
    pub keep_permissions: bool,
    /// Leave alone what Kylin's tool puts into its backups only, and not into stores.
    pub leave_backup_files: bool,
    /// Save the target before it is changed.
    pub checkpoint: bool,
    /// Those who read the target will be told to read it anew, so that its advice about them is not needed.
    pub reloads: bool,
    /// Dangers that were explicitly accepted.
    pub allow: Allow,
    /// Who runs it.
    pub author: Author,
}

impl RestoreOptions {
    /// Returns the options of a plain restore: merge, with a checkpoint, of all that the snapshot holds.
    pub fn new(author: Author) -> Self {
        Self {
            project: None,
            mode: Mode::Merge,
            keep_permissions: false,
            leave_backup_files: false,
            checkpoint: true,
            reloads: false,
            allow: Allow::default(),
            author,
        }
    }
}

/// What a restore did.
#[derive(Debug)]
pub struct RestoreReport {
    /// The snapshot that was restored.
    pub snapshot: Snapshot,
    /// The snapshot of the target as it was before.
    pub checkpoint: Option<Snapshot>,
    /// What was planned and done.
    pub plan: Plan,
    /// Bytes of documents that were written.
    pub bytes_written: u64,
}

/// Returns what restoring would do.
///
/// # Errors
/// As [`restore`].
pub fn plan_restore(
    target: &dyn Target,
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Plan> {
    let tree = repo.tree(&snapshot.manifest.tree)?;
    let scope = scope_of(snapshot, &tree, options)?;
    guards::check_snapshot(snapshot, &tree, &scope, options)?;
    let listing = target.scan_target(&scope, monitor)?;
    plan_by_reading(target, repo, &*listing, snapshot, &tree, scope, options, monitor)
}

/// Makes a store hold what a snapshot holds.
///
/// Nothing is changed before everything that will be put is written aside and verified.
///
/// # Errors
/// [`Error::Refused`] when a guard stands in the way; a repository error when something of the snapshot is missing or
/// damaged; [`crate::endpoint::Error::Changed`] when the target changed since it was looked at. In all these cases the
/// target is as before.
pub fn restore(
    target: &dyn Target,
    repo: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let tree = repo.tree(&snapshot.manifest.tree)?;
    let scope = scope_of(snapshot, &tree, options)?;
    guards::check_snapshot(snapshot, &tree, &scope, options)?;
    let saved = if options.checkpoint {
        take_checkpoint(target, repo, snapshot, &tree, &scope, options, monitor)?
    } else {
        None
    };
    let Some((checkpoint, listing)) = saved else {
        let listing = target.scan_target(&scope, monitor)?;
        let plan = plan_by_reading(target, repo, &*listing, snapshot, &tree, scope, options, monitor)?;
        let bytes_written = apply(target, repo, &*listing, &plan, monitor)?;
        return Ok(RestoreReport { snapshot: snapshot.clone(), checkpoint: None, plan, bytes_written });
    };
    let result = restore_saved(target, repo, &checkpoint, &*listing, snapshot, &tree, &scope, options, monitor);
    // A checkpoint of a restore that changed nothing is withdrawn: `undo` would go back to it, in place of the state
    // before the last change.
    let is_useless = match &result {
        Ok((plan, _)) => plan.is_empty(),
        Err(error) => leaves_target_alone(error),
    };
    let checkpoint = (!(is_useless && repo.withdraw(&checkpoint).is_ok())).then_some(checkpoint);
    let (plan, bytes_written) = result?;
    Ok(RestoreReport { snapshot: snapshot.clone(), checkpoint, plan, bytes_written })
}

/// Restores a target that was just saved, planning by what the checkpoint says of it.
#[expect(clippy::too_many_arguments, reason = "the two ends of a restore meet here")]
fn restore_saved(
    target: &dyn Target,
    repo: &Repository,
    checkpoint: &Snapshot,
    listing: &dyn Listing,
    snapshot: &Snapshot,
    tree: &Tree,
    scope: &Scope,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<(Plan, u64)> {
    let before = repo.tree(&checkpoint.manifest.tree)?;
    let pairs = differences(repo, &before, tree, scope)?;
    let mut planner = planner_for(target, repo, listing, snapshot, tree, scope.clone(), options)?;
    for pair in pairs {
        planner.push(pair?)?;
    }
    let mut plan = planner.finish(documents(tree, scope));
    plan.advice = advice(target, &plan, options);
    guards::check_plan(target, repo, listing, snapshot, tree, &plan, options)?;
    let bytes_written = apply(target, repo, listing, &plan, monitor)?;
    Ok((plan, bytes_written))
}

/// Tells whether a restore that ended with this error had not begun to change the target.
fn leaves_target_alone(error: &Error) -> bool {
    match error {
        Error::Refused { .. } | Error::Repository(_) | Error::Interrupted => true,
        // Only the work itself can fail half way, or without a word of how it ended: all others are seen before it begins.
        Error::Endpoint(error) => {
            use crate::endpoint::Error::{Io, OutcomeUnknown};
            !matches!(error, Io { .. } | OutcomeUnknown { .. })
        }
        _ => false,
    }
}

/// Returns the checkpoint that was taken before the last restore of the store at a location.
///
/// # Errors
/// [`Error::NoCheckpoint`] when there is none.
pub fn last_checkpoint(store: &str, repo: &Repository, author: &Author) -> Result<Snapshot> {
    let fits =
        |manifest: &Manifest| manifest.store == store && manifest.host == author.host && manifest.is_checkpoint();
    for snapshot in repo.newest_snapshots()? {
        let snapshot = snapshot?;
        if fits(&snapshot.manifest) {
            return Ok(snapshot);
        }
    }
    Err(Error::NoCheckpoint { store: store.to_owned() })
}

fn scope_of(snapshot: &Snapshot, tree: &Tree, options: &RestoreOptions) -> Result<Scope> {
    match &options.project {
        Some(project) => require_scope(snapshot, tree, project).map(|()| project.clone()),
        // A merge from a project's snapshot is about that project; a truncate would be about everything else too.
        None if options.mode == Mode::Merge => Ok(snapshot.manifest.scope.clone()),
        None => Ok(Scope::System),
    }
}

pub(super) fn documents(tree: &Tree, scope: &Scope) -> u64 {
    match scope {
        Scope::System => tree.documents(),
        Scope::Project(name) => tree.projects.get(name.as_bytes()).map_or(0, |project| project.documents),
    }
}

/// Saves the target, and returns the listing it was saved from. Nothing when there was nothing to save and the
/// repository can't be written: a restore from a read-only copy must not depend on it.
fn take_checkpoint(
    target: &dyn Target,
    repo: &Repository,
    snapshot: &Snapshot,
    tree: &Tree,
    scope: &Scope,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Option<(Snapshot, Box<dyn Listing>)>> {
    let backup_options =
        BackupOptions { scope: scope.clone(), allow_empty: true, ..BackupOptions::new(options.author.clone()) };
    let reason = Reason::CheckpointBefore(snapshot.id);
    let is_empty = std::cell::Cell::new(false);
    let scan = || target.scan_target(scope, monitor).inspect(|listing| is_empty.set(listing.is_empty()));
    match backup_listed(target, repo, &backup_options, reason, Some(tree), monitor, scan) {
        Ok((report, listing)) => Ok(Some((report.snapshot, listing))),
        Err(Error::Repository(repo::Error::Storage(e))) if e.kind == ErrorKind::Denied && is_empty.get() => Ok(None),
        Err(error) => Err(error),
    }
}

#[expect(clippy::too_many_arguments, reason = "the two ends of a restore meet here")]
fn plan_by_reading(
    target: &dyn Target,
    repo: &Repository,
    listing: &dyn Listing,
    snapshot: &Snapshot,
    tree: &Tree,
    scope: Scope,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Plan> {
    let unsettled = settle(target, repo, listing, false, monitor)?;
    adopt(repo, listing, tree, &scope)?;
    let mut planner = planner_for(target, repo, listing, snapshot, tree, scope, options)?;
    let entries = repo.entries(tree, planner.scope());
    let found = live_differences(listing, entries, monitor, |pair| planner.push(pair))?;
    let unlisted = listing.problems().iter().filter(|problem| problem.severity == Severity::Unread).count() as u64;
    // What can't be read when it is to be settled is met again when it is compared, if it is of the scope.
    let unread = found.unread.max(unsettled) + unlisted;
    if unread > 0 {
        return Err(Error::Refused {
            danger: format!("{unread} entries of the target can't be read, so it can't be told what to put back"),
            way_out: "make them readable".to_owned(),
        });
    }
    let documents = documents(tree, planner.scope());
    let mut plan = planner.finish(documents);
    plan.advice = advice(target, &plan, options);
    guards::check_plan(target, repo, listing, snapshot, tree, &plan, options)?;
    Ok(plan)
}

fn planner_for<'a>(
    target: &dyn Target,
    repo: &Repository,
    listing: &'a dyn Listing,
    snapshot: &Snapshot,
    tree: &Tree,
    scope: Scope,
    options: &RestoreOptions,
) -> Result<Planner<'a>> {
    let layout: Option<Layout> = target.layout().parse().ok();
    let is_checkpoint = snapshot.manifest.is_checkpoint();
    let keeps = match layout {
        Some(layout) if options.keep_permissions => Some(layout),
        Some(layout) if !is_checkpoint && lacks_permissions(repo, layout, tree, &scope)? => Some(layout),
        _ => None,
    };
    let ignores = layout.filter(|_| options.leave_backup_files);
    // What the snapshot could not hold, wherever it was taken, is not missing from it.
    let taken_in: Option<Layout> = snapshot.manifest.layout.parse().ok();
    let leaves = move |path: &EntryPath| match (keeps, ignores) {
        _ if taken_in.is_some_and(|layout| layout.name_of(path).is_none()) => Leaves::Always,
        // What only backups have is not lost in a store that has no place for it.
        _ if layout.is_some_and(|layout| layout.is_of_backup(path)) && !listing.has_place(path) => Leaves::Always,
        (_, Some(layout)) if layout.is_of_backup(path) => Leaves::Always,
        (Some(layout), _) if layout.is_permissions(path) => Leaves::What,
        _ => Leaves::Nothing,
    };
    Ok(Planner::new(listing, scope, options.mode, Box::new(leaves)))
}

/// Tells whether a snapshot has no permissions on a project: Kylin's own backups of projects never have, and that is no
/// reason to remove those of the target.
fn lacks_permissions(repo: &Repository, layout: Layout, tree: &Tree, scope: &Scope) -> Result<bool> {
    if *scope == Scope::System {
        return Ok(false);
    }
    for entry in repo.entries(tree, scope) {
        if layout.is_permissions(&entry?.path) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn advice(target: &dyn Target, plan: &Plan, options: &RestoreOptions) -> Option<String> {
    if options.reloads { None } else { target.advice(plan.puts.len() + plan.removals.len()) }
}

/// Carries a plan out. Returns the bytes of documents that were written.
fn apply(
    target: &dyn Target,
    repo: &Repository,
    listing: &dyn Listing,
    plan: &Plan,
    monitor: &dyn Monitor,
) -> Result<u64> {
    if plan.is_empty() {
        return Ok(0);
    }
    if let Some(what) = &plan.advice {
        let (path, what) = (target.location(), what.clone());
        monitor.problem(&Problem { severity: Severity::Remark, path, what });
    }
    let staging = target.begin(listing, &plan.puts)?;
    let documents = |n: u32| plan.puts[n as usize].document.as_ref();
    let count = u32::try_from(plan.puts.len()).expect("fewer than 2^32 entries");
    fetch(repo, count, &documents, &|| staging.writer(), monitor)?;
    if monitor.is_interrupted() {
        return Err(Error::Interrupted);
    }
    staging.commit(&plan.removals, monitor)?;
    Ok(plan.puts.iter().filter_map(|put| put.document.as_ref()).map(|document| document.size).sum())
}
