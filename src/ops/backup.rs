//! Backup: list the store, compare with the parent snapshot, read what may have changed, store what is new, commit.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::compare::{Comparison, compare, directory, stamp_to_keep};
use super::contents::{self, Read, Stored};
use super::live::listed;
use super::{Author, Error, Result};
use crate::endpoint::{self, Listing, Source};
use crate::model::entry::{Body, Entry};
use crate::model::hash::SnapshotId;
use crate::model::merge::{Pair, merge};
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity};
use crate::repo::snapshot::{Counts, Manifest, Reason, Snapshot};
use crate::repo::tree::{self, Record, Tree, TreeWriter};
use crate::repo::writer::{Claims, Writer};
use crate::repo::{self, Repository};

/// Changes of up to this many entries are held in memory and written as a run; more are streamed into a new tree.
const CHANGES_HELD_MAX: usize = 200_000;

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
    /// Documents that were read.
    pub read: u64,
    /// Bytes of documents that were read.
    pub bytes_read: u64,
    /// Bytes added to packs.
    pub bytes_stored: u64,
}

/// The parent of a backup: the latest snapshot of the same store that covers the scope.
struct Parent {
    snapshot: Snapshot,
    tree: Tree,
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
    backup_listed(source, repo, options, Reason::Backup, monitor, || source.scan(&options.scope, monitor))
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
    let listing = source.scan(&options.scope, monitor)?;
    let (changes, parent) = compare_if_readable(repo, &*listing, parent, options)?;
    guard_empty(&*listing, &changes, options)?;
    Ok(BackupPlan {
        parent: parent.map(|parent| parent.snapshot.id),
        new: changes.new,
        to_read: changes.reads.len() as u64,
        bytes_to_read: changes.reads.iter().map(|read| read.size).sum(),
        removed: changes.removed,
        unchanged: changes.unchanged,
        problems: listing.problems().to_vec(),
    })
}

/// Backs up what `scan` lists, and returns the listing too: a restore plans with it.
pub(super) fn backup_listed(
    source: &dyn Source,
    repo: &Repository,
    options: &BackupOptions,
    reason: Reason,
    monitor: &dyn Monitor,
    scan: impl FnOnce() -> endpoint::Result<Box<dyn Listing>>,
) -> Result<(BackupReport, Box<dyn Listing>)> {
    // First of all: what a prune may do meanwhile is counted from here.
    let claims = Claims::begin(repo)?;
    check_label(repo, options.label.as_deref())?;
    let parent = Parent::find(repo, source, options)?;
    let scan_ms = now_ms();
    let listing = scan()?;
    let (changes, parent) = compare_if_readable(repo, &*listing, parent, options)?;
    guard_empty(&*listing, &changes, options)?;

    let mut report = Progress::new(&*listing, &changes);
    let mut writer = Writer::begin(&claims)?;
    let tree = match &parent {
        Some(parent) if parent.snapshot.manifest.scope == options.scope && changes.count() <= CHANGES_HELD_MAX => {
            let records = report.store_changes(repo, &*listing, changes, &claims, &mut writer, monitor)?;
            tree::update(repo, &mut writer, &parent.tree, &records)?
        }
        _ => report.store_all(repo, &*listing, &changes, parent.as_ref(), options, &claims, &mut writer, monitor)?,
    };
    if !listing.is_empty() {
        listing.check_still_there()?;
    }
    if monitor.is_interrupted() {
        return Err(Error::Interrupted);
    }
    if reason != Reason::Backup && report.counts.unread > 0 {
        return Err(unsaved(source, report.counts.unread));
    }

    if let Some(parent) = parent.as_ref().filter(|parent| report.may_skip(parent, &tree, options, reason)) {
        return Ok((report.finish(parent.snapshot.clone(), false, 0), listing));
    }
    let manifest = Manifest {
        time_ms: time_after(parent.as_ref()),
        scan_ms,
        host: options.author.host.clone(),
        user: options.author.user.clone(),
        program: concat!("metastash ", env!("CARGO_PKG_VERSION")).to_owned(),
        store: source.location(),
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
    };
    let committed = writer.commit(manifest)?;
    Ok((report.finish(committed.snapshot, true, committed.stored_bytes), listing))
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
fn time_after(parent: Option<&Parent>) -> i64 {
    parent.map_or(0, |parent| parent.snapshot.manifest.time_ms.saturating_add(1)).max(now_ms())
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn check_label(repo: &Repository, label: Option<&str>) -> Result<()> {
    let Some(label) = label else { return Ok(()) };
    match repo.snapshots_by_label(label)?.first() {
        None => Ok(()),
        Some(taken) => Err(Error::LabelTaken { label: label.to_owned(), snapshot: taken.id.short() }),
    }
}

impl Parent {
    fn find(repo: &Repository, source: &dyn Source, options: &BackupOptions) -> Result<Option<Self>> {
        let store = source.location();
        let fits = |manifest: &Manifest| {
            manifest.store == store && manifest.host == options.author.host && manifest.scope.covers(&options.scope)
        };
        // A snapshot or a tree that can't be read must not stand in the way of a new backup: it costs reading more.
        let readable = repo.newest_snapshots()?.filter_map(repo::Result::ok);
        for snapshot in readable.filter(|snapshot| fits(&snapshot.manifest)) {
            match repo.tree(&snapshot.manifest.tree) {
                Ok(tree) => return Ok(Some(Self { snapshot, tree })),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

/// Compares with the parent; with none when a leaf of its tree is damaged, which must not stand in the way of a new
/// backup: it costs reading more.
fn compare_if_readable(
    repo: &Repository,
    listing: &dyn Listing,
    parent: Option<Parent>,
    options: &BackupOptions,
) -> Result<(Comparison, Option<Parent>)> {
    let before = parent.as_ref().map(|parent| repo.entries(&parent.tree, &options.scope));
    match compare(listing, before.into_iter().flatten(), options.force) {
        Err(Error::Repository(error)) if error.is_damage() && parent.is_some() => {
            Ok((compare(listing, std::iter::empty(), options.force)?, None))
        }
        result => Ok((result?, parent)),
    }
}

fn guard_empty(listing: &dyn Listing, changes: &Comparison, options: &BackupOptions) -> Result<()> {
    let documents = changes.reads.len() as u64 + changes.unchanged;
    if documents > 0 || options.allow_empty {
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

/// Counts what is done while it is done.
struct Progress {
    counts: Counts,
    /// Whether anything but stamps differs from the parent.
    is_different: bool,
    unchanged: u64,
    read: u64,
    bytes_read: u64,
}

impl Progress {
    fn new(listing: &dyn Listing, changes: &Comparison) -> Self {
        let count = |severity| listing.problems().iter().filter(|problem| problem.severity == severity).count() as u64;
        let counts = Counts {
            new: 0,
            changed: 0,
            removed: changes.removed,
            unread: count(Severity::Unread),
            skipped: count(Severity::Skipped),
        };
        let is_different = !changes.records.is_empty() || {
            let mut before = changes.reads.iter().filter_map(|read| read.before.as_ref());
            before.any(|before| before.is_mode_changed)
        };
        Self { counts, is_different, unchanged: changes.unchanged, read: 0, bytes_read: 0 }
    }

    /// Reads and stores documents; returns what differs from the parent, in path order.
    fn store_changes(
        &mut self,
        repo: &Repository,
        listing: &dyn Listing,
        changes: Comparison,
        claims: &Claims<'_>,
        writer: &mut Writer<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Vec<Record>> {
        let mut records = changes.records;
        contents::store(repo, listing, &changes.reads, claims, monitor, |stored| {
            for frame in stored.frames {
                writer.put_documents(frame)?;
            }
            for (read, stored) in stored.documents {
                let is_same = stored.as_ref().zip(read.before.as_ref()).is_some_and(|(stored, before)| {
                    before.is_same_otherwise && before.content == Some(stored.document.content)
                });
                let record = self.record(listing, &read, stored);
                if !is_same {
                    records.extend(record);
                }
            }
            Ok(())
        })?;
        records.sort_unstable_by(|a, b| a.path().cmp(b.path()));
        Ok(records)
    }

    /// Reads and stores documents; writes a whole new tree.
    #[expect(clippy::too_many_arguments, reason = "the two ends of a backup meet here and in its sibling only")]
    fn store_all(
        &mut self,
        repo: &Repository,
        listing: &dyn Listing,
        changes: &Comparison,
        parent: Option<&Parent>,
        options: &BackupOptions,
        claims: &Claims<'_>,
        writer: &mut Writer<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Tree> {
        let mut tree = TreeWriter::new();
        let reads: std::collections::VecDeque<u32> = changes.reads.iter().map(|read| read.n).collect();
        let before = parent.map(|parent| repo.entries(&parent.tree, &options.scope));
        let mut rest = Rest { pairs: Box::new(merge(listed(listing), before.into_iter().flatten())), reads };
        contents::store(repo, listing, &changes.reads, claims, monitor, |stored| {
            for frame in stored.frames {
                writer.put_documents(frame)?;
            }
            for (read, document) in stored.documents {
                while let Some(entry) = rest.next_before_read()? {
                    tree.push(writer, entry)?;
                }
                if let Some(entry) = self.record(listing, &read, document).and_then(Record::into_entry) {
                    tree.push(writer, entry)?;
                }
            }
            Ok(())
        })?;
        while let Some(entry) = rest.next_before_read()? {
            tree.push(writer, entry)?;
        }
        Ok(tree.finish(writer)?)
    }

    /// Returns what to record for a document that was read: nothing if it is all as in the parent.
    fn record(&mut self, listing: &dyn Listing, read: &Read, stored: Option<Stored>) -> Option<Record> {
        let found = listing.found(read.n as usize);
        let Some(Stored { document, stamp }) = stored else {
            self.counts.unread += 1;
            return read.before.as_ref().map(|_| Record::Removed(found.path));
        };
        self.read += 1;
        self.bytes_read += document.size;
        let stamp = stamp_to_keep(listing, stamp);
        match read.before.as_ref().and_then(|before| before.content) {
            None => self.counts.new += 1,
            Some(before) if before != document.content => self.counts.changed += 1,
            Some(_) => self.unchanged += 1,
        }
        let entry = Entry { path: found.path, body: Body::Document(document), mode: found.mode, stamp };
        Some(Record::Present(entry))
    }

    /// Tells whether the parent is as good as a new snapshot would be.
    fn may_skip(&self, parent: &Parent, tree: &Tree, options: &BackupOptions, reason: Reason) -> bool {
        options.skip_if_unchanged
            && reason == Reason::Backup
            && options.label.is_none()
            && !self.is_different
            && parent.tree.root() == tree.root()
            && parent.snapshot.manifest.scope == options.scope
            && parent.snapshot.manifest.reason == Reason::Backup
            && parent.snapshot.manifest.counts.unread == self.counts.unread
    }

    fn finish(self, snapshot: Snapshot, is_new: bool, bytes_stored: u64) -> BackupReport {
        let Self { counts, unchanged, read, bytes_read, .. } = self;
        BackupReport { snapshot, is_new, counts, unchanged, read, bytes_read, bytes_stored }
    }
}

type ListedPairs<'a> = Box<dyn Iterator<Item = Result<Pair<(u32, endpoint::Found), Entry>>> + 'a>;

/// What a new tree takes over without reading: directories, and documents that are as in the parent.
struct Rest<'a> {
    pairs: ListedPairs<'a>,
    reads: std::collections::VecDeque<u32>,
}

impl Rest<'_> {
    /// Returns the next entry that is not read, or nothing at one that is, which is thereby passed.
    fn next_before_read(&mut self) -> Result<Option<Entry>> {
        for pair in self.pairs.by_ref() {
            let (listed, before) = match pair? {
                Pair::Left(listed) => (listed, None),
                Pair::Both(listed, before) => (listed, Some(before)),
                Pair::Right(_) => continue,
            };
            let (n, found) = listed;
            if self.reads.front() == Some(&n) {
                self.reads.pop_front();
                return Ok(None);
            }
            match before {
                _ if found.size.is_none() => return Ok(Some(directory(found))),
                Some(before) => return Ok(Some(before)),
                None => unreachable!("a document that is new is read"),
            }
        }
        Ok(None)
    }
}
