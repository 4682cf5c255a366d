//! Doctor: what is wrong with the documents of a platform, and between them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::documents::{Documents, Kept, Live, Met, Taker, Unread};
use super::settle::scan_settled;
use super::{Error, Result, require_scope};
use crate::endpoint::Source;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Severity};
use crate::platform::kylin::doctor::{Examination, Fault, Generation, examine};
use crate::platform::kylin::layout::Layout;
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;

/// What was examined, and found.
#[derive(Debug)]
pub struct DoctorReport {
    /// Documents that were examined.
    pub documents: u64,
    /// Documents that can't be read, or are too large to be examined.
    pub unread: u64,
    /// What is wrong, in a fixed order.
    pub faults: Vec<Fault>,
}

impl DoctorReport {
    /// Leaves out what another report has too.
    pub fn leave_new(&mut self, before: &DoctorReport) {
        leave_new(&mut self.faults, &before.faults);
    }
}

/// Leaves out the faults that were there before.
pub(super) fn leave_new(faults: &mut Vec<Fault>, before: &[Fault]) {
    let is_new: Vec<bool> = {
        let known: BTreeSet<_> = before.iter().map(Fault::key).collect();
        faults.iter().map(|fault| !known.contains(&fault.key())).collect()
    };
    let mut is_new = is_new.into_iter();
    faults.retain(|_| is_new.next().unwrap_or(true));
}

fn generation(layout: &str, of: impl Fn() -> String) -> Result<Generation> {
    match layout.parse::<Layout>() {
        Ok(layout) => Ok(layout.generation()),
        Err(_) => Err(Error::NoPlatform { of: of() }),
    }
}

/// Examines the documents of a snapshot.
///
/// # Errors
/// When the snapshot is of no platform that we know, does not hold the scope, or can't be read.
pub fn examine_snapshot(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    monitor: &dyn Monitor,
) -> Result<DoctorReport> {
    let generation = generation(&snapshot.manifest.layout, || format!("snapshot {}", snapshot.id.short()))?;
    let tree = repo.tree(&snapshot.manifest.tree)?;
    require_scope(snapshot, &tree, scope)?;
    let is_system = *scope == Scope::System;
    let (documents, unread, faults) = examine_all(&Kept { repo, tree: &tree, scope }, generation, is_system, monitor)?;
    Ok(DoctorReport { documents, unread, faults })
}

/// Examines the documents of a live store.
///
/// # Errors
/// When the store is of no platform that we know, or can't be listed. Documents that can't be read are told to the
/// monitor and counted.
pub fn examine_live(
    repo: &Repository,
    source: &dyn Source,
    scope: &Scope,
    monitor: &dyn Monitor,
) -> Result<DoctorReport> {
    let generation = generation(source.layout(), || source.location())?;
    let (listing, unsettled) = scan_settled(source, repo, false, monitor, || source.scan(scope, monitor))?;
    let live = Live::new(&*listing);
    let (_, unread, faults) = examine_all(&live, generation, *scope == Scope::System, monitor)?;
    let unlisted = listing.problems().iter().filter(|problem| problem.severity != Severity::Remark).count() as u64;
    Ok(DoctorReport { documents: live.count(), unread: unread.max(unsettled) + unlisted, faults })
}

/// Returns how many documents were examined, how many can't be, and what is wrong.
fn examine_all(
    documents: &dyn Documents,
    generation: Generation,
    is_system: bool,
    monitor: &dyn Monitor,
) -> Result<(u64, u64, Vec<Fault>)> {
    let (all, count) = (Mutex::new(Examination::new(generation)), AtomicU64::new(0));
    let takers = || -> Box<dyn Taker + '_> {
        Box::new(Examiner { generation, all: &all, count: &count, some: Some(Examination::new(generation)) })
    };
    let unread = Unread::new(monitor);
    documents.each(&|_| true, &takers, &|path, what| unread.tell(path, what), monitor)?;
    let faults = all.into_inner().unwrap_or_else(PoisonError::into_inner).finish(is_system);
    Ok((count.into_inner(), unread.finish().len() as u64, faults))
}

/// Examines some documents.
struct Examiner<'a> {
    generation: Generation,
    all: &'a Mutex<Examination>,
    count: &'a AtomicU64,
    /// What was examined so far; taken at the end.
    some: Option<Examination>,
}

impl Taker for Examiner<'_> {
    fn take(&mut self, met: &Met<'_>, content: Option<&[u8]>) -> Result<()> {
        let some = self.some.as_mut().expect("it is taken when this is dropped");
        some.push(examine(self.generation, met.path, content.unwrap_or_default()));
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Examiner<'_> {
    fn drop(&mut self) {
        if let Some(some) = self.some.take() {
            self.all.lock().unwrap_or_else(PoisonError::into_inner).merge(some);
        }
    }
}
