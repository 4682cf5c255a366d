//! Backup: list the store, compare with the parent snapshot, read what may have changed, store what is new, commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use super::follow::{self, Following, Share};
use super::settle::{adopt, scan_settled};
use super::survey::{Change, Outcome, Survey};
use super::{Author, Error, Result, contents};
use crate::endpoint::{self, Listing, Source};
use crate::model::entry::Entry;
use crate::model::hash::SnapshotId;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity};
use crate::repo::snapshot::{Counts, Manifest, Reason, Snapshot};
use crate::repo::tree::{self, Tree, TreeWriter};
use crate::repo::writer::{Claims, Writer};
use crate::repo::{self, Repository};

/// Changes of up to this many entries are held in memory and written as a run, if they are few beside the tree; more are
/// streamed into a new tree.
const CHANGES_HELD_MAX: usize = 200_000;
/// Changes are few if there is no more than one for so many documents. A run of more would soon be folded into the rest anyway.
const DOCUMENTS_FOR_A_CHANGE: u64 = 8;
/// So many changes are always few.
const CHANGES_HELD_ALWAYS: usize = 1000;

/// Entries of the parent that one thread reads and another compares, together, and how many such batches wait at most.
const ENTRIES_AT_ONCE: usize = 1024;
const BATCHES_AHEAD_MAX: usize = 4;

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
    let scan_ms = now_ms();
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
        return Ok((report.finish(parent.snapshot.clone(), false, 0, remarks), listing));
    }
    let before = parent.as_ref().map(|parent| &parent.snapshot).filter(|_| options.scope == Scope::System);
    let archive = follow::archive(&*listing, before, &mut writer)?;
    let position = match options.scope {
        Scope::System => listing.position(before.and_then(|before| before.manifest.position.as_ref()))?,
        Scope::Project(_) => None,
    };
    let manifest = Manifest {
        time_ms: options.saved_ms.unwrap_or_else(|| time_after(parent.as_ref())),
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

impl Parent {
    /// Walks what the snapshot holds of the scope, or of that part of it which a listing of changes speaks of.
    fn entries<'a>(
        &'a self,
        repo: &'a Repository,
        listing: &dyn Listing,
        options: &BackupOptions,
    ) -> Result<Box<dyn Iterator<Item = repo::Result<Entry>> + 'a>> {
        Ok(match listing.touched() {
            None => Box::new(repo.entries(&self.tree, &options.scope)),
            Some(touched) => Box::new(follow::entries_touched(repo, &self.tree, listing, touched)?.into_iter().map(Ok)),
        })
    }

    fn find(repo: &Repository, source: &dyn Source, options: &BackupOptions) -> Result<Option<Self>> {
        let store = source.location();
        let fits = |manifest: &Manifest| {
            manifest.is_taken()
                && manifest.store == store
                && manifest.layout == source.layout()
                && manifest.host == options.author.host
                && manifest.scope.covers(&options.scope)
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

/// Chooses what is verified though nothing says that it changed.
fn choose_share(
    source: &dyn Source,
    repo: &Repository,
    parent: Option<&Parent>,
    options: &BackupOptions,
    reason: Reason,
) -> Result<Share> {
    let next = parent.and_then(|parent| parent.snapshot.manifest.verified.clone());
    let is_asked = options.verify_of > 0 && !options.force && reason == Reason::Backup && source.needs_verifying();
    match parent.filter(|parent| is_asked && parent.snapshot.manifest.scope == options.scope) {
        // A backup that may write no snapshot can't note where it ended.
        Some(Parent { snapshot, tree }) => {
            match Share::choose(repo, snapshot, tree, options.verify_of, options.skip_if_unchanged) {
                // What is damaged in the parent's tree is noticed again when all of it is read.
                Err(Error::Repository(error)) if error.is_damage() => Ok(Share::none(next)),
                result => result,
            }
        }
        None => Ok(Share::none(next)),
    }
}

/// Lists what may have changed, if the store's own log of changes tells.
fn list_changes(
    source: &dyn Source,
    parent: Option<&Parent>,
    options: &BackupOptions,
    reason: Reason,
    share: &Share,
    monitor: &dyn Monitor,
) -> Result<(Option<Box<dyn Listing>>, Following)> {
    let is_asked = options.follow_log && !options.force && reason == Reason::Backup;
    let follows = |parent: &&Parent| {
        let manifest = &parent.snapshot.manifest;
        is_asked && options.scope == Scope::System && manifest.scope == Scope::System && !manifest.is_incomplete()
    };
    match parent.filter(follows) {
        // Documents that came without a word in the log are in no share of those that are known.
        Some(parent) if share.ends_round() && parent.snapshot.manifest.position.is_some() => {
            let why = "once in each round of verifying they are, for what the log may not name".to_owned();
            Ok((None, Following::FellBack(why)))
        }
        Some(parent) => follow::scan_since(source, &parent.snapshot, share, monitor),
        None => Ok((None, Following::No)),
    }
}

fn require_project(source: &dyn Source, listing: &dyn Listing, options: &BackupOptions) -> Result<()> {
    if options.scope == Scope::System || options.allow_empty || listing.numbers().next().is_some() {
        return Ok(());
    }
    Err(endpoint::Error::NoProject { store: source.location(), scope: options.scope.clone() }.into())
}

/// Looks at the stamps in the parent; at none when a leaf of its tree is damaged, which must not stand in the way of a
/// new backup: it costs reading more.
fn survey_if_readable(
    repo: &Repository,
    listing: &dyn Listing,
    parent: Option<Parent>,
    options: &BackupOptions,
) -> Result<(Survey, Option<Parent>)> {
    let (is_settled, believes_stamps) = (options.scope != Scope::System, !options.force);
    let surveyed = match &parent {
        None => Survey::begin(listing, std::iter::empty(), is_settled, believes_stamps),
        Some(parent) => survey_ahead(repo, listing, parent, options, is_settled, believes_stamps),
    };
    match surveyed {
        // A listing of changes is of no use without what they are compared with.
        Err(Error::Repository(error)) if error.is_damage() && parent.is_some() && listing.touched().is_none() => {
            Ok((Survey::begin(listing, std::iter::empty(), is_settled, believes_stamps)?, None))
        }
        result => Ok((result?, parent)),
    }
}

/// Reads the parent's tree while what was read of it before is compared.
fn survey_ahead(
    repo: &Repository,
    listing: &dyn Listing,
    parent: &Parent,
    options: &BackupOptions,
    is_settled: bool,
    believes_stamps: bool,
) -> Result<Survey> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD_MAX);
        let reading = scope.spawn(move || {
            let mut entries = parent.entries(repo, listing, options)?.peekable();
            while entries.peek().is_some() {
                let batch: Vec<repo::Result<Entry>> = entries.by_ref().take(ENTRIES_AT_ONCE).collect();
                if sender.send(batch).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let surveyed = Survey::begin(listing, receiver.into_iter().flatten(), is_settled, believes_stamps);
        let read: Result<()> = reading.join().expect("a thread that reads does not panic");
        read.and(surveyed)
    })
}

/// Does that, and looks at a share of the contents meanwhile: what is not as the parent has it will be read, whatever its
/// stamp says. Returns with the survey which of the share that is.
fn survey_and_verify(
    repo: &Repository,
    listing: &dyn Listing,
    parent: Option<Parent>,
    options: &BackupOptions,
    share: &Share,
    monitor: &dyn Monitor,
) -> Result<(Survey, Option<Parent>, BTreeSet<usize>)> {
    let (surveyed, unproven) = thread::scope(|scope| {
        let verifying = scope.spawn(|| match listing.touched() {
            _ if share.entries.is_empty() => Ok(Vec::new()),
            // The rest was looked at before, or it would be listed.
            Some(_) => Ok((0..)
                .zip(&share.entries)
                .filter(|(_, entry)| listing.find(&entry.path, 0).is_some())
                .map(|(n, _)| n)
                .collect()),
            None => listing.unproven(&share.entries, monitor),
        });
        let surveyed = survey_if_readable(repo, listing, parent, options);
        (surveyed, verifying.join().expect("a thread that reads does not panic"))
    });
    let (mut survey, parent) = surveyed?;
    let unproven: BTreeSet<usize> = unproven?.into_iter().collect();
    unproven.iter().for_each(|n| survey.distrust(listing, &share.entries[*n].path));
    Ok((survey, parent, unproven))
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

/// Counts what is done while it is done.
struct Progress {
    counts: Counts,
    /// Whether anything but stamps differs from the parent.
    is_different: bool,
    unchanged: u64,
    read: u64,
    bytes_read: u64,
    following: Following,
    verified: u64,
    /// Documents that changed though their store says that they did not.
    behind: Vec<Problem>,
}

impl Progress {
    fn new(listing: &dyn Listing, unsettled: u64) -> Self {
        let count = |severity| listing.problems().iter().filter(|problem| problem.severity == severity).count() as u64;
        let counts = Counts {
            new: 0,
            changed: 0,
            removed: 0,
            unread: count(Severity::Unread) + unsettled,
            skipped: count(Severity::Skipped),
        };
        Self {
            counts,
            is_different: false,
            unchanged: 0,
            read: 0,
            bytes_read: 0,
            following: Following::No,
            verified: 0,
            behind: Vec::new(),
        }
    }

    fn count_verified(&mut self, share: &Share, unproven: &BTreeSet<usize>) {
        self.verified = share.entries.len() as u64;
        for (n, entry) in share.entries.iter().enumerate() {
            if !unproven.contains(&n) {
                self.read += 1;
                self.bytes_read += entry.document().map_or(0, |document| document.size);
            }
        }
    }

    fn count_read(&mut self, stored: Option<&contents::Stored>) {
        if let Some(stored) = stored {
            self.read += 1;
            self.bytes_read += stored.document.size;
        }
    }

    /// Writes the tree of what was found: as a run of changes over the parent's, or whole.
    fn write_tree(
        &mut self,
        repo: &Repository,
        listing: &dyn Listing,
        survey: &Survey,
        parent: Option<&Parent>,
        options: &BackupOptions,
        writer: &mut Writer<'_>,
    ) -> Result<Tree> {
        let over = parent.filter(|parent| parent.snapshot.manifest.scope == options.scope);
        if let Some(parent) = over.filter(|_| survey.different == 0) {
            self.unchanged = parent.tree.documents();
            return Ok(parent.tree.clone());
        }
        if let (Some(parent), Some(_)) = (over, listing.touched()) {
            // All that is not listed is unchanged, too.
            let before: Vec<Entry> = parent.entries(repo, listing, options)?.collect::<repo::Result<_>>()?;
            let documents = before.iter().filter(|entry| entry.document().is_some()).count() as u64;
            let results = survey.results(listing, before.into_iter().map(Ok));
            let records: Result<Vec<_>> = results
                .filter_map(|outcome| outcome.inspect(|o| self.count(o)).map(Outcome::into_record).transpose())
                .collect();
            self.unchanged += parent.tree.documents().saturating_sub(documents);
            return Ok(tree::update(repo, writer, &parent.tree, &records?)?);
        }
        let before = parent.map(|parent| repo.entries(&parent.tree, &options.scope)).into_iter().flatten();
        let results = survey.results(listing, before).map(|outcome| outcome.inspect(|outcome| self.count(outcome)));
        let few = |tree: &Tree| {
            let few = usize::try_from(tree.documents() / DOCUMENTS_FOR_A_CHANGE).unwrap_or(usize::MAX);
            few.clamp(CHANGES_HELD_ALWAYS, CHANGES_HELD_MAX)
        };
        if let Some(parent) = over.filter(|parent| survey.different <= few(&parent.tree)) {
            let records: Result<Vec<_>> =
                results.filter_map(|outcome| outcome.map(Outcome::into_record).transpose()).collect();
            return Ok(tree::update(repo, writer, &parent.tree, &records?)?);
        }
        let mut tree = TreeWriter::new();
        for outcome in results {
            if let Some(now) = outcome?.now {
                tree.push(writer, now)?;
            }
        }
        Ok(tree.finish(writer)?)
    }

    fn count(&mut self, outcome: &Outcome) {
        let counts = &mut self.counts;
        match outcome.change {
            Change::New => counts.new += 1,
            Change::Content => counts.changed += 1,
            Change::Removed => counts.removed += u64::from(outcome.was_document()),
            Change::Unread => counts.unread += 1,
            Change::None | Change::Mode | Change::Stamp => self.unchanged += u64::from(outcome.was_document()),
            Change::Directory | Change::Unknown => {}
        }
        self.is_different |= !matches!(outcome.change, Change::None | Change::Stamp);
        if let Some(now) = outcome.now.as_ref().filter(|_| outcome.is_behind) {
            let what = "its content changed, but not its version: something else than Kylin wrote it".to_owned();
            self.behind.push(Problem { severity: Severity::Remark, path: now.path.to_string(), what });
        }
    }

    /// Tells whether the parent is as good as a new snapshot would be.
    fn may_skip(&self, parent: &Parent, tree: &Tree, options: &BackupOptions, reason: Reason) -> bool {
        options.skip_if_unchanged
            && reason == Reason::Backup
            && options.label.is_none()
            && !self.is_different
            && parent.tree.root() == tree.root()
            && parent.snapshot.manifest.scope == options.scope
            && parent.snapshot.manifest.is_backup()
            && parent.snapshot.manifest.counts.unread == self.counts.unread
    }

    fn finish(self, snapshot: Snapshot, is_new: bool, bytes_stored: u64, remarks: Vec<Problem>) -> BackupReport {
        let Self { counts, unchanged, read, bytes_read, following, verified, .. } = self;
        BackupReport {
            snapshot,
            is_new,
            counts,
            unchanged,
            remarks,
            read,
            bytes_read,
            bytes_stored,
            following,
            verified,
        }
    }
}
