//! Backup: list the store, compare with the parent snapshot, read what may have changed, store what is new, commit.

mod parent;
mod progress;

use std::collections::BTreeMap;

use super::follow::{self, Following};
use super::settle::{adopt, scan_settled};
use super::survey::Survey;
use super::{Author, Error, Result, contents};
use crate::endpoint::{self, Listing, Source};
use crate::model::hash::SnapshotId;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem};
use crate::repo::Repository;
use crate::repo::snapshot::{Counts, Manifest, Reason, Snapshot};
use crate::repo::tree::Tree;
use crate::repo::writer::{Claims, Writer};
use parent::{Parent, choose_share, list_changes, survey_and_verify, survey_if_readable};
use progress::Progress;

/// Of so many parts one is verified in each backup, unless it is told otherwise.
pub const VERIFY_OF: u64 = 30;

/// How to back up.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// How much of the store.
    pub scope: Scope,
    /// A name for the snapshot, unique in the repository.
    pub label: Option<String>,
    /// Keys and values for the snapshot.
    pub tags: BTreeMap<String, String>,
    /// Read every document, whatever its stamp says, and verify the stored copy of each.
    pub force: bool,
    /// Write no snapshot when the parent holds the same already.
    pub skip_if_unchanged: bool,
    /// Back up a store without a single document.
    pub allow_empty: bool,
    /// Look only at what the store's own log of changes names, where it has one that can be believed.
    pub follow_log: bool,
    /// Where stamps rest on the manners of those who write: verify one of so many parts of the contents that seem unchanged.
    /// 0 verifies none.
    pub verify_of: u64,
    /// When the documents were saved, in milliseconds since 1970, if not now: for a backup made earlier by something else.
    pub saved_ms: Option<i64>,
    /// Who runs it.
    pub author: Author,
}

impl BackupOptions {
    /// Returns the options of a plain backup of everything.
    pub fn new(author: Author) -> Self {
        Self {
            scope: Scope::System,
            label: None,
            tags: BTreeMap::new(),
            force: false,
            skip_if_unchanged: false,
            allow_empty: false,
            follow_log: true,
            verify_of: VERIFY_OF,
            saved_ms: None,
            author,
        }
    }
}

/// What a backup would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPlan {
    /// The snapshot it would be compared with.
    pub parent: Option<SnapshotId>,
    /// Documents that the parent does not have.
    pub new: u64,
    /// Documents whose stamp does not prove them unchanged: they would be read.
    pub to_read: u64,
    /// Sizes of all documents that would be read, in bytes.
    pub bytes_to_read: u64,
    /// Documents that only the parent has.
    pub removed: u64,
    /// Documents that would not be read.
    pub unchanged: u64,
    /// What can't be listed.
    pub problems: Vec<Problem>,
}

/// What a backup did.
#[derive(Debug)]
pub struct BackupReport {
    /// The snapshot that holds the store as it was found: a new one, or the parent if that holds the same already.
    pub snapshot: Snapshot,
    /// Whether the snapshot was written now.
    pub is_new: bool,
    /// What was found compared with the parent.
    pub counts: Counts,
    /// Documents that are as in the parent.
    pub unchanged: u64,
    /// What is odd about documents that are in the snapshot as they are: broken JSON, or a project that can't be told.
    pub remarks: Vec<Problem>,
    /// Documents that were read.
    pub read: u64,
    /// Bytes of documents that were read.
    pub bytes_read: u64,
    /// Bytes added to packs.
    pub bytes_stored: u64,
    /// Whether the store's own log of changes was followed.
    pub following: Following,
    /// Documents that were read only to verify that they are as they seem.
    pub verified: u64,
}

/// Backs a store up.
///
/// # Errors
/// When the store can't be listed, holds nothing, or goes away; when the label is taken; when the repository can't be
/// read or written. Documents that can't be read are no error: they are told to the monitor and counted.
pub fn backup(
    source: &dyn Source,
    repo: &Repository,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupReport> {
    backup_listed(source, repo, options, Reason::Backup, None, monitor, || source.scan(&options.scope, monitor))
        .map(|(report, _)| report)
}

/// Returns what [`backup`] would do, without reading a document or writing anything.
///
/// # Errors
/// As [`backup`].
pub fn plan_backup(
    source: &dyn Source,
    repo: &Repository,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupPlan> {
    let parent = Parent::find(repo, source, options)?;
    let (listing, _) = list(source, repo, options, monitor, || source.scan(&options.scope, monitor))?;
    require_project(source, &*listing, options)?;
    let (survey, parent) = survey_if_readable(repo, &*listing, parent, options)?;
    let reads = survey.to_read(&*listing);
    guard_empty(&*listing, &survey, reads.len(), options)?;
    Ok(BackupPlan {
        parent: parent.map(|parent| parent.snapshot.id),
        new: survey.new,
        to_read: reads.len() as u64,
        bytes_to_read: reads.iter().map(|read| read.size).sum(),
        removed: survey.removed,
        unchanged: survey.unchanged,
        problems: listing.problems().to_vec(),
    })
}

/// Backs up what `scan` lists, and returns the listing too: a restore plans with it. Documents that don't tell their
/// project are those of the project in which `restored` has them.
pub(super) fn backup_listed(
    source: &dyn Source,
    repo: &Repository,
    options: &BackupOptions,
    reason: Reason,
    restored: Option<&Tree>,
    monitor: &dyn Monitor,
    scan: impl FnOnce() -> endpoint::Result<Box<dyn Listing>>,
) -> Result<(BackupReport, Box<dyn Listing>)> {
    // First of all: what a prune may do meanwhile is counted from here.
    let claims = Claims::begin(repo)?;
    check_label(repo, options.label.as_deref())?;
    let parent = Parent::find(repo, source, options)?;
    let scan_ms = repo.clock().now_ms();
    let share = choose_share(source, repo, parent.as_ref(), options, reason)?;
    let (changes, following) = list_changes(source, parent.as_ref(), options, reason, &share, monitor)?;
    let (listing, unsettled) = match changes {
        Some(listing) => (listing, 0),
        None => list(source, repo, options, monitor, scan)?,
    };
    if let Some(tree) = restored {
        adopt(repo, &*listing, tree, &options.scope)?;
    }
    if reason == Reason::Backup {
        require_project(source, &*listing, options)?;
    }
    let (mut survey, parent, unproven) = survey_and_verify(repo, &*listing, parent, options, &share, monitor)?;
    let reads = survey.to_read(&*listing);
    guard_empty(&*listing, &survey, reads.len(), options)?;

    let mut writer = Writer::begin(&claims)?;
    let mut report = Progress::new(&*listing, unsettled);
    report.count_verified(&share, &unproven);
    contents::store(repo, &*listing, &reads, &claims, monitor, |batch| {
        for frame in batch.frames {
            writer.put_documents(frame)?;
        }
        for (read, stored) in batch.documents {
            report.count_read(stored.as_ref());
            survey.keep(&*listing, read.n, stored);
        }
        Ok(())
    })?;
    drop(reads);
    let tree = report.write_tree(repo, &*listing, &survey, parent.as_ref(), options, &mut writer)?;
    if !listing.is_empty() {
        listing.check_still_there()?;
    }
    if monitor.is_interrupted() {
        return Err(Error::Interrupted);
    }
    if reason != Reason::Backup && report.counts.unread > 0 {
        return Err(unsaved(source, report.counts.unread));
    }

    let mut remarks = listing.remarks();
    remarks.append(&mut report.behind);
    remarks.iter().for_each(|remark| monitor.problem(remark));
    report.following = following;
    if let Some(parent) = parent.as_ref().filter(|parent| report.may_skip(parent, &tree, options, reason)) {
        // It stands for the one that is not taken.
        repo.settle_snapshots()?;
        return Ok((report.finish(parent.snapshot.clone(), false, 0, remarks), listing));
    }
    let before = parent.as_ref().map(|parent| &parent.snapshot).filter(|_| options.scope == Scope::System);
    let archive = follow::archive(&*listing, before, &mut writer)?;
    let position = match options.scope {
        Scope::System => listing.position(before.and_then(|before| before.manifest.position.as_ref()))?,
        Scope::Project(_) => None,
    };
    let manifest = Manifest {
        time_ms: options.saved_ms.unwrap_or_else(|| time_after(repo, parent.as_ref())),
        scan_ms,
        host: options.author.host.clone(),
        user: options.author.user.clone(),
        program: concat!("metastash ", env!("CARGO_PKG_VERSION")).to_owned(),
        store: source.location(),
        layout: source.layout().to_owned(),
        scope: options.scope.clone(),
        parent: parent.map(|parent| parent.snapshot.id),
        label: options.label.clone(),
        tags: options.tags.clone(),
        reason,
        tree: tree.id,
        root: tree.root(),
        documents: tree.documents(),
        bytes: tree.bytes(),
        counts: report.counts,
        position,
        archive,
        verified: share.next,
    };
    let committed = writer.commit(manifest)?;
    yield_label(repo, &committed.snapshot)?;
    Ok((report.finish(committed.snapshot, true, committed.stored_bytes, remarks), listing))
}

fn unsaved(source: &dyn Source, unread: u64) -> Error {
    Error::Refused {
        danger: format!(
            "{unread} entries of {} can't be read, so what a restore would overwrite can't be saved first",
            source.location()
        ),
        way_out: "make them readable, or accept the loss with `--no-checkpoint`".to_owned(),
    }
}

/// Returns the time of a new snapshot: now, but after the parent's even when both fall into one millisecond or the clock
/// was put back. `latest` and `undo` go by it; what the clock said is kept as the time of the scan.
fn time_after(repo: &Repository, parent: Option<&Parent>) -> i64 {
    parent.map_or(0, |parent| parent.snapshot.manifest.time_ms.saturating_add(1)).max(repo.clock().now_ms())
}

fn check_label(repo: &Repository, label: Option<&str>) -> Result<()> {
    let Some(label) = label else { return Ok(()) };
    match repo.snapshots_by_label(label)?.first() {
        None => Ok(()),
        Some(taken) => Err(Error::LabelTaken { label: label.to_owned(), snapshot: taken.id.short() }),
    }
}

/// Withdraws a snapshot if another writer has taken its label at the same time: the older of the two keeps it. Each writes,
/// then looks, so at least one sees the other.
fn yield_label(repo: &Repository, snapshot: &Snapshot) -> Result<()> {
    let Some(label) = &snapshot.manifest.label else { return Ok(()) };
    let age = |snapshot: &Snapshot| (snapshot.manifest.time_ms, snapshot.id.to_string());
    let others = repo.snapshots_by_label(label)?;
    match others.iter().find(|other| age(other) < age(snapshot)) {
        None => Ok(()),
        Some(older) => {
            repo.withdraw(snapshot)?;
            Err(Error::LabelTaken { label: label.clone(), snapshot: older.id.short() })
        }
    }
}

/// Lists the store. What is of a project can be told from the rest only when all is settled.
fn list(
    source: &dyn Source,
    repo: &Repository,
    options: &BackupOptions,
    monitor: &dyn Monitor,
    scan: impl FnOnce() -> endpoint::Result<Box<dyn Listing>>,
) -> Result<(Box<dyn Listing>, u64)> {
    match options.scope {
        Scope::System => Ok((scan()?, 0)),
        Scope::Project(_) => scan_settled(source, repo, options.force, monitor, scan),
    }
}

fn require_project(source: &dyn Source, listing: &dyn Listing, options: &BackupOptions) -> Result<()> {
    if options.scope == Scope::System || options.allow_empty || listing.numbers().next().is_some() {
        return Ok(());
    }
    Err(endpoint::Error::NoProject { store: source.location(), scope: options.scope.clone() }.into())
}

fn guard_empty(listing: &dyn Listing, survey: &Survey, reads: usize, options: &BackupOptions) -> Result<()> {
    if reads > 0 || survey.unchanged > 0 || options.allow_empty || listing.touched().is_some() {
        return Ok(());
    }
    let because = match listing.problems() {
        [] => String::new(),
        problems => format!("; {} of its entries can't be read or are no documents", problems.len()),
    };
    Err(Error::Refused {
        danger: format!("the store holds no document{because}"),
        way_out: "check that this is the right directory; `--allow-empty` backs it up all the same".to_owned(),
    })
}
