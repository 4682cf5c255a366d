//! Finding out where documents are kept that only their contents tell.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::live::error_text;
use super::{Error, Result};
use crate::endpoint::{self, Listing, Outcome, Reader, Source};
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::repo::cut::WHOLE_BYTES_MAX;
use crate::repo::tree::Tree;
use crate::repo::{self, Repository};

/// Lists a store and settles every entry, so that a project of it can be told from the rest. Returns with the listing how
/// many documents can't be read, and may or may not be of the scope.
pub(super) fn scan_settled(
    source: &dyn Source,
    repo: &Repository,
    force: bool,
    monitor: &dyn Monitor,
    scan: impl FnOnce() -> endpoint::Result<Box<dyn Listing>>,
) -> Result<(Box<dyn Listing>, u64)> {
    let listing = scan()?;
    let unread = settle(source, repo, &*listing, force, monitor)?;
    Ok((listing, unread))
}

/// Takes over what earlier snapshots prove (nothing, with `force`), and reads the rest.
pub(super) fn settle(
    source: &dyn Source,
    repo: &Repository,
    listing: &dyn Listing,
    force: bool,
    monitor: &dyn Monitor,
) -> Result<u64> {
    if listing.unsettled().is_empty() {
        return Ok(0);
    }
    if !force {
        recall(source, repo, listing)?;
    }
    let rest = listing.unsettled();
    monitor.start(Task::Compare, Some(rest.len() as u64));
    rest.into_par_iter()
        .map_init(|| listing.reader(), |reader, n| read(&mut **reader, listing, n as usize, monitor))
        .sum()
}

/// Counts documents that don't tell their project among those of a project to which a tree says that they belong: so a
/// restore of the project can mend them, and saves them before.
pub(super) fn adopt(repo: &Repository, listing: &dyn Listing, tree: &Tree, scope: &Scope) -> Result<()> {
    if *scope == Scope::System {
        return Ok(());
    }
    let mut near = 0;
    for entry in repo.entries(tree, scope) {
        let path = entry?.path;
        if let Some(n) = listing.find(&path, near) {
            near = n;
            listing.adopt(n, &path);
        }
    }
    Ok(())
}

/// Takes over what the newest snapshots of the store say: of each project, and of everything. What can't be read of them
/// costs reading more.
fn recall(source: &dyn Source, repo: &Repository, listing: &dyn Listing) -> Result<()> {
    let (store, layout) = (source.location(), source.layout());
    let newest = repo.newest_snapshots()?.filter_map(repo::Result::ok).map(|snapshot| snapshot.manifest);
    let mut seen = BTreeSet::new();
    for manifest in
        newest.filter(|manifest| manifest.is_taken() && manifest.store == store && manifest.layout == layout)
    {
        if seen.contains(&manifest.scope) {
            continue;
        }
        let Ok(tree) = repo.tree(&manifest.tree) else { continue };
        let mut near = 0;
        for entry in repo.entries(&tree, &Scope::System).map_while(repo::Result::ok) {
            let Some(n) = listing.find(&entry.path, near) else { continue };
            near = n;
            if listing.proves(n, &entry) {
                listing.recall(n, &entry.path);
            }
        }
        // What is older than a snapshot of everything proves no more.
        if manifest.scope == Scope::System {
            break;
        }
        seen.insert(manifest.scope);
    }
    Ok(())
}

/// Reads one document, which settles it. Returns 1 if it can't be read.
fn read(reader: &mut dyn Reader, listing: &dyn Listing, n: usize, monitor: &dyn Monitor) -> Result<u64> {
    if monitor.is_interrupted() {
        return Err(Error::Interrupted);
    }
    monitor.advance(1);
    let read = match reader.read(n, WHOLE_BYTES_MAX, &mut Vec::new()) {
        Ok(Outcome::TooLarge) => reader.stream(n).map(drop),
        result => result.map(drop),
    };
    match read {
        Ok(()) => Ok(0),
        Err(error) if error.is_fatal() => Err(error.into()),
        Err(error) => {
            let path = listing.path(n).to_string();
            monitor.problem(&Problem { severity: Severity::Unread, path, what: error_text(&error) });
            Ok(1)
        }
    }
}
