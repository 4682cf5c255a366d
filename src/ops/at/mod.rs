//! A moment between two snapshots: the one before, and what the store's log says has changed since.
//!
//! What is replayed is compared with the snapshot after the moment as far as that tells: what it holds in the same version
//! must be the same, and what differs between the two must be explained by records. So a change that no record tells of is
//! noticed, and nothing is bridged in silence.

mod places;
mod records;
pub mod replay;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::fmt;

use super::fetch::content_of;
use super::history::{History, version_of};
use super::{Author, Error, Result};
use crate::model::entry::{Document, Encoding, Entry};
use crate::model::log::{LogRecord, Moment, Replayed, utc};
use crate::model::merge::Pair;
use crate::model::path::{EntryPath, escape};
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::platform::kylin::json::Json;
use crate::platform::kylin::layout::{Layout, SIDE_FOLDERS};
use crate::repo::Repository;
use crate::repo::snapshot::{Reason, Snapshot};
use crate::repo::tree::{Tree, differences};
use crate::repo::writer::Claims;

use places::{Owners, Places};
use records::{Bracket, Found};
use replay::{After, Before, State, replay, up_to};
use write::{New, Outcome};

/// How to go to a moment.
#[derive(Debug, Clone)]
pub struct AtOptions {
    /// Go on with what is known where not all is.
    pub allow_gaps: bool,
    /// Who runs it.
    pub author: Author,
}

/// What is not known of a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// Records that nobody has: what they changed is not known.
    Records {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// They are from after this time, in milliseconds since 1970,
        from_ms: i64,
        /// and from before this one.
        to_ms: i64,
        /// Why nobody has them.
        why: String,
    },
    /// A document whose state is not known.
    Document {
        /// Where it is, or what the log calls it.
        path: String,
        /// From which record on, and when that was written in milliseconds since 1970; nothing if no record tells of it.
        since: Option<(u64, i64)>,
        /// Why it is not known.
        why: String,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records { first, last, from_ms, to_ms, why } => {
                let (from, to) = (utc(*from_ms), utc(*to_ms));
                write!(f, "records {first} to {last}, written between {from} and {to}, are missing: {why}")
            }
            Self::Document { path, since: Some((id, time_ms)), why } => {
                write!(f, "{path} is not known from record {id} ({}) on: {why}", utc(*time_ms))
            }
            Self::Document { path, since: None, why } => write!(f, "{path} is not known: {why}"),
        }
    }
}

/// What came of going to a moment.
#[derive(Debug)]
pub struct AtReport {
    /// The snapshot that holds the state at the moment: one that was made of others, or one that was taken just then.
    pub snapshot: Snapshot,
    /// The snapshot that was taken before the moment.
    pub base: Snapshot,
    /// Whether the snapshot was written now.
    pub is_new: bool,
    /// Records that were replayed over the base.
    pub records: u64,
    /// The highest id of the transactions that are in it.
    pub last: u64,
    /// The first and the last record of the transaction in the middle of which the moment lies: none of it is in the snapshot.
    /// Found out only when the snapshot is made.
    pub split: Option<(u64, u64)>,
    /// Whether jobs, rules and offsets, of which no log tells, changed between the base and the snapshot after the moment: they
    /// are as in the base.
    pub is_beside_older: bool,
    /// What is not known, if that was allowed.
    pub gaps: Vec<Gap>,
}

/// Makes a snapshot of the state of a store at a moment, unless there is one.
///
/// # Errors
/// [`Error::OutOfReach`] and [`Error::NoLog`] when the moment is not among those that are known; [`Error::Gaps`] when the state
/// is not known in full, unless that is allowed: then the gaps are told to the monitor and the snapshot is incomplete; when the
/// repository can't be read or written.
pub fn materialize(
    repo: &Repository,
    history: &History,
    moment: Moment,
    options: &AtOptions,
    monitor: &dyn Monitor,
) -> Result<AtReport> {
    // First of all: what a prune may do meanwhile is counted from here.
    let claims = Claims::begin(repo)?;
    let bracket = Bracket::find(repo, history, moment)?;
    let (base, position) = bracket.base;
    let mut report = AtReport {
        snapshot: base.clone(),
        base: base.clone(),
        is_new: false,
        records: 0,
        last: position.last,
        split: None,
        is_beside_older: false,
        gaps: Vec::new(),
    };
    if bracket.is_exact(moment) {
        return Ok(report);
    }
    let beside = bracket.end().and_then(|end| end.manifest.position.as_ref()).map(|end| end.beside);
    report.is_beside_older = beside.is_some_and(|beside| beside != position.beside);
    if let Some((snapshot, replayed)) = made_before(repo, base, moment)? {
        return Ok(AtReport { snapshot, records: replayed.records, last: replayed.last, ..report });
    }
    let layout: Layout = base.manifest.layout.parse().map_err(|_| Error::NoLog { store: history.store.clone() })?;
    let mut found = bracket.records(repo, moment)?;
    let taken = up_to(moment, std::mem::take(&mut found.records));
    report.split = taken.split;
    report.records = taken.records.len() as u64;
    report.last = taken.records.last().map_or(position.last, |record| record.id.max(position.last));
    let scan_ms = time_of(moment, &taken.records, base);
    let tree = repo.tree(&base.manifest.tree)?;
    let (changes, gaps) = changes(repo, layout, &tree, bracket.end(), taken.records, found, monitor)?;
    if !gaps.is_empty() && !options.allow_gaps {
        return Err(Error::Gaps { moment, gaps });
    }
    gaps.iter().for_each(|gap| monitor.problem(&problem(gap)));
    if changes.is_empty() && gaps.is_empty() {
        return Ok(report);
    }
    let documents = gaps.iter().filter(|gap| matches!(gap, Gap::Document { .. })).count();
    let plan = write::Plan {
        base,
        tree: &tree,
        replayed: Replayed { moment, last: report.last, records: report.records },
        scan_ms,
        unread: base.manifest.counts.unread + documents.max(gaps.len().min(1)) as u64,
        author: &options.author,
    };
    let snapshot = write::write(repo, &claims, &plan, changes)?;
    Ok(AtReport { snapshot, is_new: true, gaps, ..report })
}

/// Returns the time of a state, in milliseconds since 1970.
fn time_of(moment: Moment, records: &[LogRecord], base: &Snapshot) -> i64 {
    match moment {
        Moment::Time(time_ms) => time_ms,
        Moment::Record(_) => records.iter().map(|record| record.time_ms).max().unwrap_or(base.manifest.scan_ms),
    }
}

/// What is at each path that records change, and what is not known.
type Changes = (BTreeMap<EntryPath, Outcome>, Vec<Gap>);

/// Finds out what records make of the tree of the base. `end` is the snapshot after the moment.
fn changes(
    repo: &Repository,
    layout: Layout,
    tree: &Tree,
    end: Option<&Snapshot>,
    records: Vec<LogRecord>,
    mut found: Found,
    monitor: &dyn Monitor,
) -> Result<Changes> {
    monitor.start(Task::Compare, None);
    let places = Places::find(repo, tree, layout, &records)?;
    let states = replay(records, |key| before(repo, &places, key))?;
    let mut work = Work { repo, layout, gaps: std::mem::take(&mut found.gaps), changes: BTreeMap::new() };
    work.place(&places, states)?;
    if let Some(end) = end {
        let after = repo.tree(&end.manifest.tree)?;
        work.verify(tree, end, &after, &found)?;
        work.adopt(end, &after)?;
    }
    if monitor.is_interrupted() { Err(Error::Interrupted) } else { Ok((work.changes, work.gaps)) }
}

fn problem(gap: &Gap) -> Problem {
    let (path, what) = match gap {
        Gap::Records { first, last, .. } => (format!("records {first} to {last}"), gap.to_string()),
        Gap::Document { path, .. } => (path.clone(), gap.to_string()),
    };
    Problem { severity: Severity::Unread, path, what }
}

/// Returns the snapshot of the moment that was made earlier, and in full.
fn made_before(repo: &Repository, base: &Snapshot, moment: Moment) -> Result<Option<(Snapshot, Replayed)>> {
    for snapshot in repo.snapshots()?.snapshots {
        if let Reason::Replayed(replayed) = snapshot.manifest.reason
            && replayed.moment == moment
            && snapshot.manifest.parent == Some(base.id)
            && snapshot.manifest.counts.unread == base.manifest.counts.unread
        {
            return Ok(Some((snapshot, replayed)));
        }
    }
    Ok(None)
}

fn before(repo: &Repository, places: &Places<'_>, key: &[u8]) -> Result<Option<Before>> {
    let Some(entry) = places.entry(key) else { return Ok(None) };
    let Some(document) = entry.document() else { return Ok(None) };
    Ok(Some(Before { version: version_of(entry), content: content_of(repo, document)? }))
}

/// What becomes of the base.
struct Work<'a> {
    repo: &'a Repository,
    layout: Layout,
    gaps: Vec<Gap>,
    changes: BTreeMap<EntryPath, Outcome>,
}

impl Work<'_> {
    /// Finds out where each document is.
    fn place(&mut self, places: &Places<'_>, states: BTreeMap<Vec<u8>, After>) -> Result<()> {
        let owners = places.owners(&states)?;
        if let Some(owners) = &owners {
            for (entry, path) in places.misplaced_permissions(owners)? {
                if self.layout.key_of(&entry.path).is_some_and(|key| states.contains_key(&key)) {
                    continue;
                }
                self.changes.insert(entry.path.clone(), Outcome::Removed);
                self.changes.insert(path.clone(), Outcome::Kept(Entry { path, ..entry }));
            }
        }
        let owners = owners.unwrap_or_default();
        for (key, after) in states {
            self.place_one(places, &owners, &key, after);
        }
        Ok(())
    }

    fn place_one(&mut self, places: &Places<'_>, owners: &Owners, key: &[u8], after: After) {
        let entry = places.entry(key);
        let name = || entry.map_or_else(|| escape(key), |entry| entry.path.to_string());
        let (id, time_ms, project) = (after.id, after.time_ms, after.project);
        let state = match after.state {
            State::Unknown { id, time_ms, why, before } => {
                self.unknown(&name(), Some((id, time_ms)), &why);
                // It stays as it was last known.
                let Some(before) = before else { return };
                *before
            }
            state => state,
        };
        let is_removed = matches!(state, State::Removed);
        if let State::Present { version, content } = state {
            let Some(path) = places.path(key, project.as_deref(), &content, owners) else {
                self.unknown(&name(), Some((id, time_ms)), "it is no document of Kylin");
                return;
            };
            if let Some(entry) = entry.filter(|entry| entry.path != path) {
                self.changes.insert(entry.path.clone(), Outcome::Removed);
            }
            let encoding = entry.map_or(Encoding::Kylin, |entry| entry.encoding);
            self.changes.insert(path, Outcome::New(New { version, content, encoding, time_ms, id }));
        } else if let Some(entry) = entry.filter(|_| is_removed) {
            self.changes.insert(entry.path.clone(), Outcome::Removed);
        }
    }

    /// Notes that a document is not known, once.
    fn unknown(&mut self, path: &str, since: Option<(u64, i64)>, why: &str) {
        let is_same = |gap: &Gap| matches!(gap, Gap::Document { path: known, .. } if known == path);
        if self.gaps.iter().any(is_same) {
            return;
        }
        self.gaps.push(Gap::Document { path: path.to_owned(), since, why: why.to_owned() });
    }

    /// Compares with the snapshot after the moment.
    fn verify(&mut self, tree: &Tree, end: &Snapshot, after: &Tree, found: &Found) -> Result<()> {
        let owners_changed = found
            .ends
            .keys()
            .any(|key| self.layout.name_of_key(key).is_some_and(|name| self.layout.is_project_document(&name)));
        let id = end.id.short();
        let mut differing = BTreeMap::new();
        for pair in differences(self.repo, tree, after, &Scope::System)? {
            let (path, version) = match pair? {
                // What could not be read is not known to be gone.
                Pair::Left(_) if end.manifest.is_incomplete() => continue,
                Pair::Left(before) => (before.path, None),
                Pair::Right(after) | Pair::Both(_, after) => (after.path.clone(), Some(version_of(&after))),
            };
            let is_beside = path.kind().is_some_and(|kind| SIDE_FOLDERS.map(str::as_bytes).contains(&kind));
            if is_beside || owners_changed && self.layout.is_permissions(&path) {
                continue;
            }
            let Some(key) = self.layout.key_of(&path) else { continue };
            // What moved to another project is at two paths: gone from one, and there at the other.
            if version.is_some() || !differing.contains_key(&key) {
                differing.insert(key, (path, version));
            }
        }
        for (key, (path, version)) in differing {
            let why = match (found.ends.get(&key), version) {
                (None, _) => format!("it is another in snapshot {id}, and no record tells since when"),
                (Some(None), Some(Some(_))) => format!("the log says that it was removed, and snapshot {id} has it"),
                (Some(Some(_)), None) => {
                    format!("the log does not say that it was removed, and snapshot {id} lacks it")
                }
                (Some(Some(told)), Some(Some(version))) if *told != version => {
                    format!("the log tells of its version {told} last, and snapshot {id} has version {version}")
                }
                _ => continue,
            };
            self.unknown(&path.to_string(), None, &why);
        }
        Ok(())
    }

    /// Takes over what the snapshot after the moment holds in the same version: there are its bytes as they were stored.
    fn adopt(&mut self, end: &Snapshot, after: &Tree) -> Result<()> {
        let id = end.id.short();
        let paths: Vec<EntryPath> = self.changes.keys().cloned().collect();
        let entries = self.repo.entries_at(after, &paths)?;
        for (path, entry) in paths.into_iter().zip(entries) {
            let (Some(entry), Some(Outcome::New(new))) = (entry, self.changes.get(&path)) else { continue };
            let Some(document) =
                entry.document().filter(|_| new.version.is_some() && version_of(&entry) == new.version)
            else {
                continue;
            };
            if is_same(self.repo, document, &new.content)? {
                self.changes.insert(path, Outcome::Kept(entry));
            } else {
                let since = Some((new.id, new.time_ms));
                self.unknown(
                    &path.to_string(),
                    since,
                    &format!("snapshot {id} holds something else in the same version"),
                );
            }
        }
        Ok(())
    }
}

/// Tells whether a stored document means the same as a content.
fn is_same(repo: &Repository, document: &Document, content: &[u8]) -> Result<bool> {
    let stored = content_of(repo, document)?;
    if stored == content {
        return Ok(true);
    }
    Ok(match (Json::parse(&stored), Json::parse(content)) {
        (Ok(stored), Ok(content)) => stored.means(&content),
        _ => false,
    })
}
