//! What a backup found, counted while its tree is written.

use std::collections::BTreeSet;

use super::parent::Parent;
use super::{BackupOptions, BackupReport};
use crate::endpoint::Listing;
use crate::model::entry::Entry;
use crate::monitor::{Problem, Severity};
use crate::ops::follow::{Following, Share};
use crate::ops::survey::{Change, Outcome, Survey};
use crate::ops::{Result, contents};
use crate::repo::snapshot::{Counts, Reason, Snapshot};
use crate::repo::tree::{self, Tree, TreeWriter};
use crate::repo::writer::Writer;
use crate::repo::{self, Repository};

/// Changes of up to this many entries are held in memory and written as a run, if they are few beside the tree; more are
/// streamed into a new tree.
const CHANGES_HELD_MAX: usize = 200_000;
/// Changes are few if there is no more than one for so many documents. A run of more would soon be folded into the rest anyway.
const DOCUMENTS_FOR_A_CHANGE: u64 = 8;
/// So many changes are always few.
const CHANGES_HELD_ALWAYS: usize = 1000;

/// Counts what is done while it is done.
pub(super) struct Progress {
    pub counts: Counts,
    /// Whether anything but stamps differs from the parent.
    pub is_different: bool,
    pub unchanged: u64,
    pub read: u64,
    pub bytes_read: u64,
    pub following: Following,
    pub verified: u64,
    /// Documents that changed though their store says that they did not.
    pub behind: Vec<Problem>,
}

impl Progress {
    pub(super) fn new(listing: &dyn Listing, unsettled: u64) -> Self {
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

    pub(super) fn count_verified(&mut self, share: &Share, unproven: &BTreeSet<usize>) {
        self.verified = share.entries.len() as u64;
        for (n, entry) in share.entries.iter().enumerate() {
            if !unproven.contains(&n) {
                self.read += 1;
                self.bytes_read += entry.document().map_or(0, |document| document.size);
            }
        }
    }

    pub(super) fn count_read(&mut self, stored: Option<&contents::Stored>) {
        if let Some(stored) = stored {
            self.read += 1;
            self.bytes_read += stored.document.size;
        }
    }

    /// Writes the tree of what was found: as a run of changes over the parent's, or whole.
    pub(super) fn write_tree(
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

    pub(super) fn count(&mut self, outcome: &Outcome) {
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
    pub(super) fn may_skip(&self, parent: &Parent, tree: &Tree, options: &BackupOptions, reason: Reason) -> bool {
        options.skip_if_unchanged
            && reason == Reason::Backup
            && options.label.is_none()
            && !self.is_different
            && parent.tree.root() == tree.root()
            && parent.snapshot.manifest.scope == options.scope
            && parent.snapshot.manifest.is_backup()
            && parent.snapshot.manifest.counts.unread == self.counts.unread
    }

    pub(super) fn finish(
        self,
        snapshot: Snapshot,
        is_new: bool,
        bytes_stored: u64,
        remarks: Vec<Problem>,
    ) -> BackupReport {
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
