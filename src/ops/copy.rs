//! Copy: snapshots of one repository into another, with all that they need and the other does not have.

use std::collections::HashSet;

use super::{Error, Result};
use crate::monitor::{Monitor, Task};
use crate::repo::Repository;
use crate::repo::references::References;
use crate::repo::snapshot::Snapshot;
use crate::repo::writer::{Claims, Writer};

/// What a copy did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Snapshots that were copied, the oldest first.
    pub copied: Vec<Snapshot>,
    /// Snapshots that were there already.
    pub present: Vec<Snapshot>,
    /// Chunks that were copied.
    pub chunks: u64,
    /// Their length before compression, in bytes.
    pub raw_bytes: u64,
    /// Bytes of packs that were written.
    pub stored_bytes: u64,
}

/// Returns what a copy would have to do, without reading a tree: which snapshots are there and which are not.
///
/// # Errors
/// [`Error::LabelTaken`] when the other repository has another snapshot of the same label; when it can't be read.
pub fn plan_copy(to: &Repository, mut snapshots: Vec<Snapshot>) -> Result<CopyReport> {
    snapshots.sort_unstable_by_key(|snapshot| (snapshot.manifest.time_ms, snapshot.id));
    snapshots.dedup();
    let theirs = to.snapshots()?;
    if let Some(error) = theirs.unreadable.into_iter().next() {
        return Err(error.into());
    }
    let known: HashSet<_> = theirs.snapshots.iter().map(|snapshot| snapshot.id).collect();
    let (present, copied): (Vec<_>, Vec<_>) = snapshots.into_iter().partition(|snapshot| known.contains(&snapshot.id));
    for snapshot in &copied {
        let Some(label) = &snapshot.manifest.label else { continue };
        if let Some(taken) = theirs.snapshots.iter().find(|other| other.manifest.label.as_ref() == Some(label)) {
            return Err(Error::LabelTaken { label: label.clone(), snapshot: taken.id.short() });
        }
    }
    Ok(CopyReport { copied, present, ..CopyReport::default() })
}

/// Copies snapshots to another repository, which may be still to be created. They keep their ids. Those that are there are
/// left as they are, and so is all that is there of what the others need.
///
/// Until all that they need is durable, none of them is visible. What was copied by then is found by the next copy.
///
/// # Errors
/// As [`plan_copy`]; when something that a snapshot needs is missing or damaged; when one of the repositories can't be read,
/// or the other not written; when the monitor asks for a stop.
pub fn copy(from: &Repository, to: &Repository, snapshots: Vec<Snapshot>, monitor: &dyn Monitor) -> Result<CopyReport> {
    let claims = Claims::begin(to)?;
    let mut report = plan_copy(to, snapshots)?;
    if !report.present.is_empty() {
        to.settle_snapshots()?;
    }
    if report.copied.is_empty() {
        return Ok(report);
    }
    let files = report.copied.iter().map(|snapshot| Ok((snapshot, from.snapshot_file(snapshot)?)));
    let files = files.collect::<Result<Vec<_>>>()?;
    let references = collect(from, &report.copied, monitor)?;
    let index = from.index()?;
    let frames = index.packs().iter().flat_map(|pack| &pack.directory.frames);
    let in_frames = frames.map(|frame| u64::from(frame.stored_bytes)).sum();
    monitor.start(Task::Copy, Some(in_frames));
    let mut writer = Writer::begin(&claims)?;
    let copied = from.copy_chunks(&references, &claims, &mut writer, |bytes| {
        monitor.advance(bytes);
        !monitor.is_interrupted()
    })?;
    let copied = copied.ok_or(Error::Interrupted)?;
    report.stored_bytes = writer.commit_copies(&files)?;
    (report.chunks, report.raw_bytes) = (copied.chunks, copied.raw_bytes);
    Ok(report)
}

fn collect(from: &Repository, snapshots: &[Snapshot], monitor: &dyn Monitor) -> Result<References> {
    monitor.start(Task::Collect, Some(snapshots.len() as u64));
    let references = from.references(snapshots.iter().map(|snapshot| &snapshot.manifest), || {
        monitor.advance(1);
        !monitor.is_interrupted()
    })?;
    if monitor.is_interrupted() { Err(Error::Interrupted) } else { Ok(references) }
}
