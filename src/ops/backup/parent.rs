//! The snapshot that a backup is compared with, and what can be told of the store before documents are read.

use std::collections::{BTreeSet, HashSet};
use std::sync::mpsc::sync_channel;
use std::thread;

use super::BackupOptions;
use crate::endpoint::{Listing, Source, Touched};
use crate::model::entry::Entry;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::Monitor;
use crate::ops::follow::{self, Following, Share};
use crate::ops::survey::Survey;
use crate::ops::{Error, Result};
use crate::repo::snapshot::{Manifest, Reason, Snapshot};
use crate::repo::tree::Tree;
use crate::repo::{self, Repository};

/// Entries of the parent that one thread reads and another compares, together, and how many such batches wait at most.
const ENTRIES_AT_ONCE: usize = 1024;
const BATCHES_AHEAD_MAX: usize = 4;

/// The parent of a backup: the latest snapshot of the same store that covers the scope.
pub(super) struct Parent {
    pub snapshot: Snapshot,
    pub tree: Tree,
}

impl Parent {
    /// Walks what the snapshot holds of the scope, or of that part of it which a listing of changes speaks of.
    pub(super) fn entries<'a>(
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

    pub(super) fn find(repo: &Repository, source: &dyn Source, options: &BackupOptions) -> Result<Option<Self>> {
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

/// Chooses what is verified though nothing says that it changed.
pub(super) fn choose_share(
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
pub(super) fn list_changes(
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

/// Looks at the stamps in the parent; at none when a leaf of its tree is damaged, which must not stand in the way of a
/// new backup: it costs reading more.
pub(super) fn survey_if_readable(
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
pub(super) fn survey_ahead(
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
pub(super) fn survey_and_verify(
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
            // The rest was looked at before, or it would be spoken of.
            Some(touched) => Ok(spoken_of(touched, share)),
            None => listing.unproven(&share.entries, monitor),
        });
        let surveyed = survey_if_readable(repo, listing, parent, options);
        (surveyed, verifying.join().expect("a thread that reads does not panic"))
    });
    let (mut survey, parent) = surveyed?;
    let mut unproven: BTreeSet<usize> = unproven?.into_iter().collect();
    if parent.is_none() {
        // Its tree can't be read, so that all is read anyway.
        unproven = (0..share.entries.len()).collect();
    }
    unproven.iter().for_each(|n| survey.distrust(listing, &share.entries[*n].path));
    Ok((survey, parent, unproven))
}

/// Returns which documents of a share a listing of changes speaks of.
fn spoken_of(touched: &[Touched], share: &Share) -> Vec<usize> {
    let paths: HashSet<&EntryPath> = touched
        .iter()
        .flat_map(|one| match one {
            Touched::Document { paths, .. } => &paths[..],
            Touched::Kind(_) => &[],
        })
        .collect();
    let entries = share.entries.iter().enumerate();
    entries.filter(|(_, entry)| paths.contains(&entry.path)).map(|(n, _)| n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{Body, Encoding, Stamp};

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn documents_of_a_share_that_the_log_names_are_found_in_it() {
        let entry = |name: &str| {
            let (body, encoding, stamp) = (Body::Directory, Encoding::Plain, Stamp::default());
            Entry { path: path(name), body, mode: None, encoding, stamp }
        };
        let mut share = Share::none(None);
        share.entries = ["p/a", "p/b", "q/c", "q/d"].map(entry).to_vec();
        let document =
            |names: &[&str]| Touched::Document { paths: names.iter().copied().map(path).collect(), is_new: false };
        let touched = [document(&["p/x", "p/a"]), Touched::Kind(b"job_info"[..].into()), document(&["q/c"])];
        assert_eq!(spoken_of(&touched, &share), [0, 2]);
        assert_eq!(spoken_of(&touched[1..2], &share), [0; 0]);
    }
}
