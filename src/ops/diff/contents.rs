//! How the contents of changed documents differ: as JSON, as text, or not at all to be told.

use std::time::Duration;

use rayon::prelude::*;
use similar::TextDiff;

use super::json::{JsonDifference, compare};
use super::noise::Noise;
use super::{Change, Changed, DiffReport, diff_listing, diff_snapshots};
use crate::endpoint::{Listing, Source};
use crate::model::entry::{Document, Entry};
use crate::model::hash::ContentId;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::ops::documents::read_whole;
use crate::ops::gather::{Gathered, gather};
use crate::ops::live::error_text;
use crate::ops::settle::scan_settled;
use crate::ops::{Error, Result, require_scope};
use crate::platform::kylin::json::Json;
use crate::repo::Repository;
use crate::repo::snapshot::Snapshot;

/// Most differences that wait until the contents of all are there.
const TOGETHER_MAX: usize = 1024;
/// Most bytes of contents that are held, but for the document that goes beyond that.
const HELD_BYTES_MAX: u64 = 64 << 20;
/// Documents that are larger on either side are not compared: JSON takes many times its size while it is.
const COMPARED_BYTES_MAX: u64 = 32 << 20;
/// How long lines are compared for the shortest difference. After that any will do.
const LINES_TIME_MAX: Duration = Duration::from_secs(5);
/// Lines that are shown around those that differ.
const CONTEXT_LINES: usize = 3;

/// How the content of a document differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Both are JSON.
    Json(JsonDifference),
    /// Both are text: a unified difference, with a header.
    Text(String),
    /// One of them is not text.
    Bytes,
    /// One of them is too large to be compared.
    TooLarge,
    /// One of them can't be read, as the monitor was told.
    Unread,
}

/// Compares two snapshots, as [`diff_snapshots`] does, and the contents of documents that changed.
///
/// # Errors
/// As [`diff_snapshots`]. Contents that can't be read are told to the monitor and counted as problems.
pub fn diff_snapshots_contents(
    repo: &Repository,
    before: &Snapshot,
    after: &Snapshot,
    scope: &Scope,
    noise: &Noise,
    monitor: &dyn Monitor,
    take: impl FnMut(Changed, Option<Detail>) -> Result<()>,
) -> Result<DiffReport> {
    let mut comparing = Comparing::new(repo, None, noise, monitor, take);
    let mut report = diff_snapshots(repo, before, after, scope, |changed| comparing.push(changed))?;
    report.problems += comparing.finish()?;
    Ok(report)
}

/// Compares a snapshot with a live store, as [`super::diff_live`] does, and the contents of documents that changed.
///
/// # Errors
/// As [`super::diff_live`]. Contents that can't be read are told to the monitor and counted as problems.
pub fn diff_live_contents(
    repo: &Repository,
    before: &Snapshot,
    live: &dyn Source,
    scope: &Scope,
    noise: &Noise,
    monitor: &dyn Monitor,
    take: impl FnMut(Changed, Option<Detail>) -> Result<()>,
) -> Result<DiffReport> {
    let tree = repo.tree(&before.manifest.tree)?;
    require_scope(before, &tree, scope)?;
    let (listing, unsettled) = scan_settled(live, repo, false, monitor, || live.scan(scope, monitor))?;
    let mut comparing = Comparing::new(repo, Some(&*listing), noise, monitor, take);
    let mut report =
        diff_listing(repo, &tree, &*listing, unsettled, scope, monitor, |changed| comparing.push(changed))?;
    report.problems += comparing.finish()?;
    Ok(report)
}

/// Holds differences back until the contents of some are read together.
struct Comparing<'a, T> {
    repo: &'a Repository,
    /// Where the second side is, if that is no snapshot.
    live: Option<&'a dyn Listing>,
    noise: &'a Noise,
    monitor: &'a dyn Monitor,
    take: T,
    waiting: Vec<Changed>,
    waiting_bytes: u64,
    unread: u64,
}

impl<'a, T: FnMut(Changed, Option<Detail>) -> Result<()>> Comparing<'a, T> {
    fn new(
        repo: &'a Repository,
        live: Option<&'a dyn Listing>,
        noise: &'a Noise,
        monitor: &'a dyn Monitor,
        take: T,
    ) -> Self {
        Self { repo, live, noise, monitor, take, waiting: Vec::new(), waiting_bytes: 0, unread: 0 }
    }

    fn push(&mut self, changed: Changed) -> Result<()> {
        if let Some((before, after)) = compared(&changed) {
            self.waiting_bytes += before.size + after.size;
        }
        self.waiting.push(changed);
        if self.waiting.len() >= TOGETHER_MAX || self.waiting_bytes >= HELD_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Returns how many documents could not be read.
    fn finish(mut self) -> Result<u64> {
        self.flush()?;
        Ok(self.unread)
    }

    fn flush(&mut self) -> Result<()> {
        self.waiting_bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        let pairs: Vec<(&EntryPath, &Document, &Document)> = waiting
            .iter()
            .filter_map(|changed| compared(changed).map(|(before, after)| (&changed.path, before, after)))
            .collect();
        let (before, after) = self.read(&pairs)?;
        let noise = self.noise;
        let details: Vec<Gathered<Detail>> = pairs
            .par_iter()
            .zip(before)
            .zip(after)
            .map(|(((path, ..), before), after)| Ok(detail(path, &before?, &after?, noise)))
            .collect();
        let mut details = details.into_iter();
        for changed in waiting {
            if self.monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let detail = match (changed.change, compared(&changed)) {
                (Change::Changed, Some(_)) => match details.next().expect("there is one for each that is compared") {
                    Ok(detail) => Some(detail),
                    Err(what) => {
                        self.unread += 1;
                        let path = changed.path.to_string();
                        self.monitor.problem(&Problem { severity: Severity::Unread, path, what });
                        Some(Detail::Unread)
                    }
                },
                (Change::Changed, None) if both(&changed).is_some() => Some(Detail::TooLarge),
                _ => None,
            };
            (self.take)(changed, detail)?;
        }
        Ok(())
    }

    /// Reads both contents of some documents.
    fn read(&self, pairs: &[(&EntryPath, &Document, &Document)]) -> Result<(Contents, Contents)> {
        let copy = |_: usize, content: &[u8]| content.to_vec();
        let mut kept: Vec<&Document> = pairs.iter().map(|(_, before, _)| *before).collect();
        let after = match self.live {
            Some(listing) => Some(read_live(listing, pairs, self.monitor)?),
            None => {
                kept.extend(pairs.iter().map(|(_, _, after)| *after));
                None
            }
        };
        let mut before = gather(self.repo, &kept, Task::Compare, &copy, self.monitor)?;
        let after = after.unwrap_or_else(|| before.split_off(pairs.len()));
        Ok((before, after))
    }
}

/// Contents, or why they can't be read.
type Contents = Vec<Gathered<Vec<u8>>>;

/// Returns what a changed document was and is.
fn both(changed: &Changed) -> Option<(&Document, &Document)> {
    changed.before.as_ref().and_then(Entry::document).zip(changed.after.as_ref().and_then(Entry::document))
}

/// Returns what a changed document was and is, if that is to be compared.
fn compared(changed: &Changed) -> Option<(&Document, &Document)> {
    let is_small = |document: &Document| document.size <= COMPARED_BYTES_MAX;
    both(changed).filter(|(before, after)| changed.change == Change::Changed && is_small(before) && is_small(after))
}

/// Reads documents of a live store, which must be as they were when they were compared.
fn read_live(
    listing: &dyn Listing,
    pairs: &[(&EntryPath, &Document, &Document)],
    monitor: &dyn Monitor,
) -> Result<Contents> {
    let mut near = 0;
    let numbers: Vec<Option<usize>> = pairs
        .iter()
        .map(|(path, ..)| {
            let found = listing.find(path, near);
            near = found.unwrap_or(near);
            found
        })
        .collect();
    let mut reader = listing.reader();
    let wanted = numbers.iter().flatten().filter_map(|n| u32::try_from(*n).ok());
    reader.prepare(&wanted.collect::<Vec<_>>())?;
    let mut contents = Vec::with_capacity(pairs.len());
    for (n, (_, _, after)) in numbers.into_iter().zip(pairs) {
        if monitor.is_interrupted() {
            return Err(Error::Interrupted);
        }
        let mut content = Vec::new();
        let read = n.map(|n| read_whole(&mut *reader, n, &mut content));
        contents.push(match read {
            Some(Ok(())) if ContentId::of(&content) == after.content => Ok(content),
            Some(Err(error)) if error.is_fatal() => return Err(error.into()),
            Some(Err(error)) => Err(error_text(&error)),
            Some(Ok(())) | None => Err("it changed while it was compared".to_owned()),
        });
    }
    Ok(contents)
}

fn detail(path: &EntryPath, before: &[u8], after: &[u8], noise: &Noise) -> Detail {
    if let (Ok(before), Ok(after)) = (Json::parse(before), Json::parse(after)) {
        return Detail::Json(compare(&before, &after, noise));
    }
    match (std::str::from_utf8(before), std::str::from_utf8(after)) {
        (Ok(before), Ok(after)) => Detail::Text(unified(path, before, after)),
        _ => Detail::Bytes,
    }
}

fn unified(path: &EntryPath, before: &str, after: &str) -> String {
    let difference = TextDiff::configure().timeout(LINES_TIME_MAX).diff_lines(before, after);
    let (before, after) = (format!("a/{path}"), format!("b/{path}"));
    difference.unified_diff().context_radius(CONTEXT_LINES).header(&before, &after).to_string()
}
