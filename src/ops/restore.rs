//! Restore: find out what differs, save the target as it is, then put back what differs and, if asked, remove the rest.

use rayon::prelude::*;

use super::backup::{BackupOptions, backup_listed};
use super::live::live_differences;
use super::plan::Planner;
pub use super::plan::{Mode, Plan, PlanCounts};
use super::settle::settle;
use super::{Author, Error, Result, require_scope};
use crate::endpoint::{Listing, Put, Staging, StagingWriter, Target};
use crate::model::entry::Document;
use crate::model::hash::{ChunkId, ContentId};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Severity, Task};
use crate::repo::chunks::cut;
use crate::repo::format::pack::FrameKind;
use crate::repo::index::{Index, Location};
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
}

/// How to restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The project to restore; nothing for all that the snapshot holds.
    pub project: Option<Scope>,
    /// What happens to documents that only the target has.
    pub mode: Mode,
    /// Save the target before it is changed.
    pub checkpoint: bool,
    /// Dangers that were explicitly accepted.
    pub allow: Allow,
    /// Who runs it.
    pub author: Author,
}

impl RestoreOptions {
    /// Returns the options of a plain restore: merge, with a checkpoint, of all that the snapshot holds.
    pub fn new(author: Author) -> Self {
        Self { project: None, mode: Mode::Merge, checkpoint: true, allow: Allow::default(), author }
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
    guard(snapshot, &tree, &scope, options)?;
    let listing = target.scan_target(&scope, monitor)?;
    plan_by_reading(target, repo, &*listing, &tree, scope, options.mode, monitor)
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
    guard(snapshot, &tree, &scope, options)?;
    let saved =
        if options.checkpoint { take_checkpoint(target, repo, snapshot, &scope, options, monitor)? } else { None };
    let Some((checkpoint, listing)) = saved else {
        let listing = target.scan_target(&scope, monitor)?;
        let plan = plan_by_reading(target, repo, &*listing, &tree, scope, options.mode, monitor)?;
        let bytes_written = apply(target, repo, &*listing, &plan, monitor)?;
        return Ok(RestoreReport { snapshot: snapshot.clone(), checkpoint: None, plan, bytes_written });
    };
    let result = restore_saved(target, repo, &checkpoint, &*listing, &tree, &scope, options.mode, monitor);
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
    tree: &Tree,
    scope: &Scope,
    mode: Mode,
    monitor: &dyn Monitor,
) -> Result<(Plan, u64)> {
    let before = repo.tree(&checkpoint.manifest.tree)?;
    let pairs = differences(repo, &before, tree, scope)?;
    let mut planner = Planner::new(listing, scope.clone(), mode);
    for pair in pairs {
        planner.push(pair?)?;
    }
    let plan = planner.finish(documents(tree, scope));
    let bytes_written = apply(target, repo, listing, &plan, monitor)?;
    Ok((plan, bytes_written))
}

/// Tells whether a restore that ended with this error had not begun to change the target.
fn leaves_target_alone(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused { .. }
            | Error::Repository(_)
            | Error::Interrupted
            | Error::Endpoint(crate::endpoint::Error::Changed { .. } | crate::endpoint::Error::Interrupted)
    )
}

/// Returns the checkpoint that was taken before the last restore of a store.
///
/// # Errors
/// [`Error::NoCheckpoint`] when there is none.
pub fn last_checkpoint(target: &dyn Target, repo: &Repository, author: &Author) -> Result<Snapshot> {
    let store = target.location();
    let fits = |manifest: &Manifest| {
        manifest.store == store && manifest.host == author.host && manifest.reason != Reason::Backup
    };
    for snapshot in repo.newest_snapshots()? {
        let snapshot = snapshot?;
        if fits(&snapshot.manifest) {
            return Ok(snapshot);
        }
    }
    Err(Error::NoCheckpoint { store })
}

fn scope_of(snapshot: &Snapshot, tree: &Tree, options: &RestoreOptions) -> Result<Scope> {
    match &options.project {
        Some(project) => require_scope(snapshot, tree, project).map(|()| project.clone()),
        // A merge from a project's snapshot is about that project; a truncate would be about everything else too.
        None if options.mode == Mode::Merge => Ok(snapshot.manifest.scope.clone()),
        None => Ok(Scope::System),
    }
}

fn guard(snapshot: &Snapshot, tree: &Tree, scope: &Scope, options: &RestoreOptions) -> Result<()> {
    let refuse = |danger: String, way_out: &str| Err(Error::Refused { danger, way_out: way_out.to_owned() });
    if options.mode == Mode::Merge {
        return Ok(());
    }
    let id = snapshot.id.short();
    if !snapshot.manifest.scope.covers(scope) && !options.allow.project_snapshot {
        return refuse(
            format!(
                "snapshot {id} holds {} only; truncating the whole store would remove all else",
                snapshot.manifest.scope
            ),
            "name the project with `--project`, or accept it with `--allow-project-snapshot`",
        );
    }
    if documents(tree, scope) == 0 && !options.allow.empty {
        if snapshot.manifest.reason != Reason::Backup {
            return refuse(
                format!("the store was empty before that restore ({scope}): undoing it would remove everything in it"),
                "`--allow-empty` accepts that",
            );
        }
        return refuse(
            format!(
                "snapshot {id} holds no document of this scope ({scope}); truncating would remove everything in it"
            ),
            "`--allow-empty` accepts that",
        );
    }
    if snapshot.manifest.is_incomplete() && !options.allow.incomplete {
        return refuse(
            format!(
                "documents that could not be read when snapshot {id} was taken ({}) may be removed by truncating",
                snapshot.manifest.counts.unread
            ),
            "restore without `--after-truncate`, or accept it with `--allow-incomplete`",
        );
    }
    Ok(())
}

fn documents(tree: &Tree, scope: &Scope) -> u64 {
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
    scope: &Scope,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Option<(Snapshot, Box<dyn Listing>)>> {
    let backup_options =
        BackupOptions { scope: scope.clone(), allow_empty: true, ..BackupOptions::new(options.author.clone()) };
    let reason = Reason::CheckpointBefore(snapshot.id);
    let is_empty = std::cell::Cell::new(false);
    let scan = || target.scan_target(scope, monitor).inspect(|listing| is_empty.set(listing.is_empty()));
    match backup_listed(target, repo, &backup_options, reason, monitor, scan) {
        Ok((report, listing)) => Ok(Some((report.snapshot, listing))),
        Err(Error::Repository(repo::Error::Storage(e))) if e.kind == ErrorKind::Denied && is_empty.get() => Ok(None),
        Err(error) => Err(error),
    }
}

fn plan_by_reading(
    target: &dyn Target,
    repo: &Repository,
    listing: &dyn Listing,
    tree: &Tree,
    scope: Scope,
    mode: Mode,
    monitor: &dyn Monitor,
) -> Result<Plan> {
    let unsettled = settle(target, repo, &scope, listing, monitor)?;
    let mut planner = Planner::new(listing, scope, mode);
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
    Ok(planner.finish(documents))
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
    let staging = target.begin(listing, &plan.puts)?;
    write_documents(repo, &plan.puts, &*staging, monitor)?;
    if monitor.is_interrupted() {
        return Err(Error::Interrupted);
    }
    staging.commit(&plan.removals, monitor)?;
    Ok(plan.puts.iter().filter_map(|put| put.document.as_ref()).map(|document| document.size).sum())
}

/// Writes the documents of a plan aside, frame by frame: each frame is read and decoded once.
fn write_documents(repo: &Repository, puts: &[Put], staging: &dyn Staging, monitor: &dyn Monitor) -> Result<()> {
    let index = repo.index()?;
    let total = puts.iter().filter(|put| put.document.is_some()).count();
    monitor.start(Task::Write, Some(total as u64));
    let frame_number = index.frame_numbers();
    // Two numbers a document, not a location: there may be millions.
    let mut by_frame: Vec<(u32, u32)> = Vec::with_capacity(total);
    let mut cut_documents = Vec::new();
    for (n, put) in (0_u32..).zip(puts) {
        match &put.document {
            None => {}
            Some(document) if document.pieces.is_empty() => {
                let location = locate(&index, &ChunkId::of_whole(document.content))?;
                by_frame.push((frame_number(&location), n));
            }
            Some(_) => cut_documents.push(n),
        }
    }
    by_frame.sort_unstable();
    let frames: Vec<&[(u32, u32)]> = by_frame.chunk_by(|a, b| a.0 == b.0).collect();
    let job = Job { repo, index: &index, puts, staging, monitor };
    frames.par_iter().try_for_each(|frame| job.write_frame(frame, &frame_number))?;
    cut_documents.par_iter().try_for_each(|n| job.write_cut_document(*n))
}

fn locate(index: &Index, chunk: &ChunkId) -> repo::Result<Location> {
    index.locate(FrameKind::Documents, chunk).next().ok_or(repo::Error::MissingChunk { chunk: *chunk })
}

struct Job<'a> {
    repo: &'a Repository,
    index: &'a Index,
    puts: &'a [Put],
    staging: &'a dyn Staging,
    monitor: &'a dyn Monitor,
}

impl Job<'_> {
    fn write_frame(&self, wanted: &[(u32, u32)], frame_number: &impl Fn(&Location) -> u32) -> Result<()> {
        let mut writer = self.staging.writer();
        let mut frame: Option<Vec<u8>> = None;
        for (number, n) in wanted {
            if self.monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let chunk = ChunkId::of_whole(self.document(*n).content);
            let mut places = self.index.locate(FrameKind::Documents, &chunk);
            let place = places.find(|place| frame_number(place) == *number);
            if frame.is_none() {
                let place = place.expect("it was found there when the frames were sorted");
                frame = Some(self.repo.read_frame(self.index, &place).unwrap_or_default());
            }
            let sound = frame.as_deref().zip(place).and_then(|(frame, place)| {
                let is_whole = frame.len() >= (place.start + place.length) as usize;
                is_whole.then(|| cut(frame, &place)).filter(|bytes| ChunkId::of(bytes) == chunk)
            });
            match sound {
                Some(bytes) => write(&mut *writer, *n, std::iter::once(Ok(bytes)))?,
                // The frame is damaged, or another chunk shares the first bytes of the id: try all copies there are.
                None => {
                    let bytes = self.repo.read_chunk(FrameKind::Documents, &chunk)?;
                    write(&mut *writer, *n, std::iter::once(Ok(bytes)))?;
                }
            }
            self.monitor.advance(1);
        }
        Ok(())
    }

    fn write_cut_document(&self, n: u32) -> Result<()> {
        let document = self.document(n);
        let mut whole = blake3::Hasher::new();
        let pieces = document.chunks().map(|chunk| {
            if self.monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let bytes = self.repo.read_chunk(FrameKind::Documents, &chunk)?;
            whole.update(&bytes);
            Ok(bytes)
        });
        write(&mut *self.staging.writer(), n, pieces)?;
        self.monitor.advance(1);
        verify_whole(&whole, document, &self.puts[n as usize].path)
    }

    fn document(&self, n: u32) -> &Document {
        self.puts[n as usize].document.as_ref().expect("only documents are written")
    }
}

/// Checks that the pieces of a document made up the document.
pub(super) fn verify_whole(whole: &blake3::Hasher, document: &Document, path: &EntryPath) -> Result<()> {
    if ContentId::from_bytes(*whole.finalize().as_bytes()) == document.content {
        return Ok(());
    }
    let what = "its pieces are sound but do not make up its content".to_owned();
    Err(repo::Error::Damaged { object: format!("the entry of {path}"), what }.into())
}

fn write<B: AsRef<[u8]>>(
    writer: &mut dyn StagingWriter,
    n: u32,
    pieces: impl Iterator<Item = Result<B>>,
) -> Result<()> {
    writer.begin(n as usize)?;
    for piece in pieces {
        writer.append(piece?.as_ref())?;
    }
    Ok(writer.finish()?)
}
