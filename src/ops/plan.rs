//! The plan of a restore: plain data that says what is put, what is removed, and what stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Error, Result};
use crate::endpoint::{Listing, Put, Removal};
use crate::model::entry::Entry;
use crate::model::merge::Pair;
use crate::model::path::{EntryPath, escape};
use crate::model::scope::Scope;
use crate::repo::tree::Difference;

/// What happens to documents that only the target has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They stay.
    Merge,
    /// They are removed.
    Truncate,
}

/// Counts of documents in a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanCounts {
    /// Put where there was nothing.
    pub add: u64,
    /// Put in place of other content (or other permissions).
    pub replace: u64,
    /// Only in the target; removed.
    pub remove: u64,
    /// Only in the target; kept.
    pub keep: u64,
}

/// What a restore will do. Making one changes nothing.
#[derive(Debug)]
pub struct Plan {
    /// How much of the store is concerned.
    pub scope: Scope,
    /// Whether documents that only the target has are removed.
    pub mode: Mode,
    /// What is put, in path order.
    pub puts: Vec<Put>,
    /// What is removed, in path order.
    pub removals: Vec<Removal>,
    /// Counts for each project and kind; empty names for what has none.
    pub counts: BTreeMap<(String, String), PlanCounts>,
    /// Documents that are the same on both sides.
    pub same: u64,
    /// Documents that differ and are left as they are in the target, as was asked for.
    pub left: u64,
    /// Documents of the snapshot for which the target has no place.
    pub left_out: Vec<EntryPath>,
    /// What the target wants known before it is changed, if anything.
    pub advice: Option<String>,
}

impl Plan {
    /// Returns the counts over all projects and kinds.
    pub fn total(&self) -> PlanCounts {
        self.counts.values().fold(PlanCounts::default(), |sum, counts| PlanCounts {
            add: sum.add + counts.add,
            replace: sum.replace + counts.replace,
            remove: sum.remove + counts.remove,
            keep: sum.keep + counts.keep,
        })
    }

    /// Tells whether the target is to be changed at all.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.removals.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for put in &self.puts {
            let sign = if put.replaces.is_some() { 'M' } else { '+' };
            writeln!(f, "{sign} {}{}", put.path, if put.document.is_some() { "" } else { "/" })?;
        }
        self.removals.iter().try_for_each(|removal| writeln!(f, "- {}", removal.path))
    }
}

/// What of the target is left as it is at a path, whatever the snapshot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// Nothing: what differs is put.
    Nothing,
    /// What is there. What is not is put.
    What,
    /// That something, or nothing, is there.
    Always,
}

/// Turns differences into a plan.
pub(super) struct Planner<'a> {
    listing: &'a dyn Listing,
    /// Where in the listing the last path was found.
    near: usize,
    /// Entries of the target that are replaced by a document of another path, since both have the same name there.
    moved: BTreeSet<u32>,
    obstacles: BTreeSet<&'a [u8]>,
    leaves: Box<dyn Fn(&EntryPath) -> Leaves + 'a>,
    /// The last entry of the target that must go for what lies below it.
    cleared: Option<EntryPath>,
    /// The last document that only the target has.
    kept: Option<EntryPath>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        listing: &'a dyn Listing,
        scope: Scope,
        mode: Mode,
        leaves: Box<dyn Fn(&EntryPath) -> Leaves + 'a>,
    ) -> Self {
        let plan = Plan {
            scope,
            mode,
            puts: Vec::new(),
            removals: Vec::new(),
            counts: BTreeMap::new(),
            same: 0,
            left: 0,
            left_out: Vec::new(),
            advice: None,
        };
        Self {
            listing,
            near: 0,
            moved: BTreeSet::new(),
            obstacles: listing.obstacles().iter().map(EntryPath::as_bytes).collect(),
            leaves,
            cleared: None,
            kept: None,
            plan,
        }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.plan.scope
    }

    /// Takes the next difference, in path order: left as it is in the target, right as in the snapshot.
    pub(super) fn push(&mut self, pair: Difference) -> Result<()> {
        let (Pair::Left(one) | Pair::Right(one) | Pair::Both(one, _)) = &pair;
        let is_left = match (self.leaves)(&one.path) {
            Leaves::Nothing => false,
            // The target does not lack what it keeps at another path.
            Leaves::What => !matches!(pair, Pair::Right(_)) || self.find(&one.path).is_some(),
            Leaves::Always => true,
        };
        if is_left {
            self.plan.left += u64::from(!matches!(pair, Pair::Left(_)));
            return Ok(());
        }
        match pair {
            Pair::Left(live) => self.only_in_target(&live),
            Pair::Right(entry) if !self.listing.has_place(&entry.path) => {
                self.plan.left_out.push(entry.path);
                Ok(())
            }
            Pair::Right(entry) => self.put(entry, None),
            Pair::Both(live, entry) if live.document().is_some() == entry.document().is_some() => {
                let found = self.number(&live.path);
                self.put(entry, Some(found))
            }
            Pair::Both(live, entry) => self.change_type(&live, entry),
        }
    }

    /// Returns the plan. `documents` is how many the snapshot has in the scope.
    pub(super) fn finish(mut self, documents: u64) -> Plan {
        let moved = std::mem::take(&mut self.moved);
        self.plan.removals.retain(|removal| !moved.contains(&removal.found));
        for path in moved.iter().map(|n| self.listing.path(*n as usize)) {
            // It was counted as what only the target has.
            let counts = self.plan.counts.entry(key(&path)).or_default();
            let count = if self.plan.mode == Mode::Truncate { &mut counts.remove } else { &mut counts.keep };
            *count = count.saturating_sub(1);
        }
        let total = self.plan.total();
        self.plan.same =
            documents.saturating_sub(total.add + total.replace + self.plan.left + self.plan.left_out.len() as u64);
        self.plan
    }

    fn only_in_target(&mut self, live: &Entry) -> Result<()> {
        let is_document = live.document().is_some();
        let is_in_the_way = self.cleared.as_ref().is_some_and(|cleared| live.path.is_within(cleared.as_bytes()));
        if is_document {
            self.kept = Some(live.path.clone());
        }
        if self.plan.mode == Mode::Truncate {
            let found = self.number(&live.path);
            self.plan.removals.push(Removal { path: live.path.clone(), found, is_in_the_way });
            self.count(live, |counts| counts.remove += 1);
            return Ok(());
        }
        if is_in_the_way {
            return Err(in_the_way(&live.path));
        }
        self.count(live, |counts| counts.keep += 1);
        Ok(())
    }

    /// A document where the snapshot has a directory, or the reverse: what is there must go first.
    fn change_type(&mut self, live: &Entry, entry: Entry) -> Result<()> {
        if self.plan.mode == Mode::Merge {
            return Err(in_the_way(&live.path));
        }
        // What is no document is never removed, so neither is the directory that holds it.
        let obstacles = self.listing.obstacles();
        if let Some(obstacle) = obstacles.iter().find(|obstacle| obstacle.is_within(live.path.as_bytes())) {
            return Err(in_the_way(obstacle));
        }
        let found = self.number(&live.path);
        self.plan.removals.push(Removal { path: live.path.clone(), found, is_in_the_way: true });
        self.count(live, |counts| counts.remove += 1);
        self.cleared = Some(live.path.clone());
        self.put(entry, None)
    }

    fn put(&mut self, entry: Entry, replaces: Option<u32>) -> Result<()> {
        if let Some(obstacle) = self.obstacle_to(&entry.path) {
            return Err(in_the_way(&obstacle));
        }
        if let Some(kept) = self.kept.take_if(|kept| entry.path.is_within(kept.as_bytes())) {
            // A document only the target has stands where a directory is needed.
            let last = self.plan.removals.last_mut().filter(|removal| removal.path == kept);
            last.ok_or_else(|| in_the_way(&kept))?.is_in_the_way = true;
        }
        let replaces = match replaces {
            None => self.displaced(&entry.path)?,
            found => found,
        };
        let is_new = replaces.is_none();
        self.count(&entry, |counts| if is_new { counts.add += 1 } else { counts.replace += 1 });
        let Entry { path, mode, encoding, stamp, .. } = &entry;
        // A store without permissions leaves those of the target as they are.
        let mode = mode.or_else(|| self.listing.facts(replaces? as usize).mode);
        let (path, encoding, time_ns) = (path.clone(), *encoding, stamp.time_ns);
        self.plan.puts.push(Put { path, document: entry.into_document(), mode, encoding, time_ns, replaces });
        Ok(())
    }

    fn obstacle_to(&self, path: &EntryPath) -> Option<EntryPath> {
        if self.obstacles.is_empty() {
            return None;
        }
        let above = std::iter::successors(Some(path.clone()), EntryPath::parent);
        above.into_iter().find(|path| self.obstacles.contains(path.as_bytes()))
    }

    fn count(&mut self, entry: &Entry, add: impl FnOnce(&mut PlanCounts)) {
        if entry.document().is_some() {
            add(self.plan.counts.entry(key(&entry.path)).or_default());
        }
    }

    /// Returns the number of an entry that is in the listing. Paths are best asked for in order.
    fn number(&mut self, path: &EntryPath) -> u32 {
        self.find(path).expect("it was in the listing when it was compared")
    }

    fn find(&mut self, path: &EntryPath) -> Option<u32> {
        self.near = self.listing.find(path, self.near)?;
        Some(u32::try_from(self.near).expect("fewer than 2^32 entries"))
    }

    /// Returns the entry of the target that has the name of a document to put, though it is kept at another path: the same
    /// document of another project.
    fn displaced(&mut self, path: &EntryPath) -> Result<Option<u32>> {
        let Some(n) = self.find(path) else { return Ok(None) };
        let other = self.listing.path(n as usize);
        if other == *path {
            return Ok(None);
        }
        if !self.plan.scope.contains(&other) {
            return Err(Error::Refused {
                danger: format!("{other} of the target has the same name as {path} of the snapshot and would be lost"),
                way_out: "remove or rename it there, or restore the whole system instead of one project".to_owned(),
            });
        }
        self.moved.insert(n);
        Ok(Some(n))
    }
}

/// Returns the project and kind under which a document is counted.
fn key(path: &EntryPath) -> (String, String) {
    let name = |part: Option<&[u8]>| part.map(escape).unwrap_or_default();
    (name(path.project()), name(path.kind()))
}

fn in_the_way(path: &EntryPath) -> Error {
    Error::Refused {
        danger: format!(
            "in the target, {path} is in the way of what the snapshot holds there, and is no document to replace"
        ),
        way_out: "remove it; if it is a document or directory, `--after-truncate` removes it".to_owned(),
    }
}
