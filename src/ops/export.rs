//! Export: write the documents of a snapshot to empty places, for others to read.

use super::fetch::fetch;
use super::{Error, Result, require_scope};
use crate::endpoint::{Listing, Put, Target};
use crate::model::entry::Entry;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;

/// What an export did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportReport {
    /// Documents that were written.
    pub documents: u64,
    /// Bytes of documents that were written.
    pub bytes: u64,
    /// Documents for which there is no place.
    pub left_out: Vec<EntryPath>,
}

/// Writes a snapshot, or one project of it, to targets that hold nothing: each document goes to the first that has a
/// place for it.
///
/// # Errors
/// [`Error::Refused`] when something is in a target; when the snapshot does not hold the scope, or something of it is
/// missing or damaged; when a target can't be written. Nothing of a target is visible before it is complete.
pub fn export(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    targets: &[&dyn Target],
    monitor: &dyn Monitor,
) -> Result<ExportReport> {
    let tree = repo.tree(&snapshot.manifest.tree)?;
    if *scope != Scope::System {
        require_scope(snapshot, &tree, scope)?;
    }
    let listings = targets.iter().map(|target| empty_listing(*target, monitor)).collect::<Result<Vec<_>>>()?;
    let mut puts: Vec<Vec<Put>> = targets.iter().map(|_| Vec::new()).collect();
    let mut report = ExportReport { documents: 0, bytes: 0, left_out: Vec::new() };
    for entry in repo.entries(&tree, scope) {
        let entry = entry?;
        match listings.iter().position(|listing| listing.has_place(&entry.path)) {
            None => report.left_out.push(entry.path),
            Some(place) => {
                report.documents += u64::from(entry.document().is_some());
                report.bytes += entry.document().map_or(0, |document| document.size);
                puts[place].push(put(entry));
            }
        }
    }
    for ((target, listing), puts) in targets.iter().zip(&listings).zip(&puts) {
        let staging = target.begin(&**listing, puts)?;
        let documents = |n: u32| puts[n as usize].document.as_ref();
        let count = u32::try_from(puts.len()).expect("fewer than 2^32 entries");
        fetch(repo, count, &documents, &|| staging.writer(), monitor)?;
        if monitor.is_interrupted() {
            return Err(Error::Interrupted);
        }
        staging.commit(&[], monitor)?;
    }
    Ok(report)
}

pub(super) fn empty_listing(target: &dyn Target, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
    let listing = target.scan_target(&Scope::System, monitor)?;
    if listing.is_empty() && listing.obstacles().is_empty() {
        return Ok(listing);
    }
    Err(Error::Refused {
        danger: format!(
            "there is something at {} already, which would be mixed with what is to be written",
            target.location()
        ),
        way_out: "name a place that does not exist yet".to_owned(),
    })
}

fn put(entry: Entry) -> Put {
    let (path, mode, encoding, time_ns) = (entry.path.clone(), entry.mode, entry.encoding, entry.stamp.time_ns);
    Put { path, document: entry.into_document(), mode, encoding, time_ns, replaces: None }
}
