//! Check: does everything that snapshots refer to exist, and is every stored byte what it was?

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;

use super::{Error, Result};
use crate::model::entry::Entry;
use crate::model::hash::{ChunkId, PackId, SnapshotId};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Task};
use crate::repo::format::pack::FrameKind;
use crate::repo::index::Index;
use crate::repo::snapshot::Snapshot;
use crate::repo::{self, Repository};

/// Packs of up to this many bytes are verified several at once.
const HELD_AT_ONCE_BYTES_MAX: u64 = 1 << 20;

/// A part of the packs: the n-th of m. Every pack is in exactly one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which part, from 1.
    pub number: u64,
    /// Of how many.
    pub of: u64,
}

/// How much to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// That everything referred to exists.
    Quick,
    /// That every byte of these packs is what it was, too.
    ReadData(Part),
}

/// Something that is wrong with a repository.
#[derive(Debug)]
pub struct Finding {
    /// What is wrong.
    pub error: repo::Error,
}

/// A document that can't be restored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Where it is.
    pub path: EntryPath,
    /// The snapshots that hold it in this state.
    pub snapshots: BTreeSet<SnapshotId>,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Snapshots that were checked.
    pub snapshots: u64,
    /// Packs that were read in full.
    pub packs_read: u64,
    /// Bytes that were read of them.
    pub bytes_read: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The documents that this costs, by path.
    pub hits: Vec<Hit>,
    /// Snapshots of whose trees a part can't be read: what they hold is not fully known.
    pub unreadable_trees: BTreeSet<SnapshotId>,
    /// What the documents that can't be restored are made of, by path, and the snapshots that hold them in this state.
    pub(super) states: BTreeMap<(EntryPath, Vec<ChunkId>), BTreeSet<SnapshotId>>,
    /// Packs that were read and are not as they were written.
    pub damaged_packs: Vec<PackId>,
}

impl CheckReport {
    /// Tells whether anything is wrong.
    pub fn is_damaged(&self) -> bool {
        !self.findings.is_empty() || !self.hits.is_empty()
    }
}

/// Checks a repository.
///
/// # Errors
/// When the storage can't be read. Damage is no error here, but in the report.
pub fn check(repo: &Repository, depth: Depth, monitor: &dyn Monitor) -> Result<CheckReport> {
    check_known(repo, depth, monitor).map(|checked| checked.report)
}

/// A check, with what it went by.
pub(super) struct Checked {
    pub report: CheckReport,
    /// The snapshots that can be read, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// The sound chunks of the packs that were read.
    pub sound: HashSet<(FrameKind, ChunkId)>,
}

/// Checks a repository, and returns also what it went by.
pub(super) fn check_known(repo: &Repository, depth: Depth, monitor: &dyn Monitor) -> Result<Checked> {
    let list = repo.snapshots()?;
    let index = repo.index()?;
    let mut report = CheckReport { snapshots: list.snapshots.len() as u64, ..CheckReport::default() };
    for error in list.unreadable.into_iter().chain(repo.stray_records()?).chain(repo.losses()?.1) {
        report.note(error)?;
    }
    report.findings.extend(index.damaged().iter().map(|error| Finding { error: copy_of(error) }));
    let known = match depth {
        Depth::Quick => Known { index: &index, read_packs: HashSet::new(), sound: HashSet::new() },
        Depth::ReadData(part) => report.read_packs(repo, &index, part, monitor)?,
    };
    report.check_trees(repo, &list.snapshots, &known, monitor)?;
    report.check_archives(&list.snapshots, &known)?;
    Ok(Checked { report, sound: known.sound, snapshots: list.snapshots })
}

/// The index keeps its errors; a report has its own.
pub(super) fn copy_of(error: &repo::Error) -> repo::Error {
    match error {
        repo::Error::Damaged { object, what } => repo::Error::Damaged { object: object.clone(), what: what.clone() },
        other => repo::Error::Damaged { object: "the index".to_owned(), what: other.to_string() },
    }
}

/// What is known of chunks.
struct Known<'a> {
    index: &'a Index,
    /// Numbers of packs that were read in full.
    read_packs: HashSet<u32>,
    /// The sound chunks in them.
    sound: HashSet<(FrameKind, ChunkId)>,
}

impl Known<'_> {
    /// Tells whether a chunk can be read, as far as that is known: packs that were not read are believed.
    fn has(&self, kind: FrameKind, chunk: &ChunkId) -> bool {
        self.sound.contains(&(kind, *chunk))
            || self.index.locate(kind, chunk).any(|location| !self.read_packs.contains(&location.pack))
    }
}

impl CheckReport {
    fn read_packs<'a>(
        &mut self,
        repo: &Repository,
        index: &'a Index,
        part: Part,
        monitor: &dyn Monitor,
    ) -> Result<Known<'a>> {
        let chosen: Vec<usize> =
            (0..index.packs().len()).filter(|n| is_in_part(&index.packs()[*n].id.to_string(), part)).collect();
        let bytes = chosen.iter().map(|n| index.packs()[*n].size_bytes).sum();
        monitor.start(Task::Verify, Some(bytes));
        let verify = |n: &usize| {
            if monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let verdict = repo.verify_pack(index, *n)?;
            monitor.advance(index.packs()[*n].size_bytes);
            Ok((*n, verdict))
        };
        // A large pack is held whole, and its frames keep all threads busy: one at a time.
        let (large, small): (Vec<usize>, Vec<usize>) =
            chosen.into_iter().partition(|n| index.packs()[*n].size_bytes > HELD_AT_ONCE_BYTES_MAX);
        let mut verdicts = large.iter().map(verify).collect::<Result<Vec<_>>>()?;
        verdicts.extend(small.par_iter().map(verify).collect::<Result<Vec<_>>>()?);
        let mut known = Known { index, read_packs: HashSet::new(), sound: HashSet::new() };
        for (n, verdict) in verdicts {
            known.read_packs.insert(u32::try_from(n).expect("an index counts packs in 32 bits"));
            known.sound.extend(verdict.sound);
            if !verdict.damage.is_empty() {
                self.damaged_packs.push(index.packs()[n].id);
            }
            self.findings.extend(verdict.damage.into_iter().map(|error| Finding { error }));
            self.packs_read += 1;
        }
        self.bytes_read = bytes;
        Ok(known)
    }

    /// Walks all trees. A leaf that several snapshots share is read once; only those with something wrong in them are
    /// looked at for each snapshot.
    fn check_trees(
        &mut self,
        repo: &Repository,
        snapshots: &[Snapshot],
        known: &Known<'_>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut hits: BTreeMap<EntryPath, BTreeSet<SnapshotId>> = BTreeMap::new();
        let mut checked: HashMap<ChunkId, bool> = HashMap::new();
        for snapshot in snapshots {
            if monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let is_sound = self.check_leaves(repo, snapshot, known, &mut checked)?;
            if !is_sound {
                self.find_hits(repo, snapshot, known, &mut hits)?;
            }
        }
        self.hits = hits.into_iter().map(|(path, snapshots)| Hit { path, snapshots }).collect();
        Ok(())
    }

    /// Looks for what snapshots keep of their stores' logs. That some of it is gone costs no document, but the moments between
    /// two snapshots.
    fn check_archives(&mut self, snapshots: &[Snapshot], known: &Known<'_>) -> Result<()> {
        for snapshot in snapshots {
            let chunks = snapshot.manifest.archive.iter().flat_map(|archive| &archive.chunks);
            for chunk in chunks.filter(|chunk| !known.has(FrameKind::Documents, chunk)) {
                let object = format!("the archive of changes of snapshot {}", snapshot.id.short());
                let what =
                    format!("chunk {chunk} is missing or damaged, so the time since the snapshot before is not known");
                self.note(repo::Error::Damaged { object, what })?;
            }
        }
        Ok(())
    }

    fn check_leaves(
        &mut self,
        repo: &Repository,
        snapshot: &Snapshot,
        known: &Known<'_>,
        checked: &mut HashMap<ChunkId, bool>,
    ) -> Result<bool> {
        let tree = match repo.tree(&snapshot.manifest.tree) {
            Ok(tree) => tree,
            Err(error) => return self.tree_is_damaged(snapshot, error).map(|()| false),
        };
        let mut is_sound = true;
        let leaves: Vec<_> = tree.runs.iter().flat_map(|run| &run.leaves).collect();
        let new: Vec<_> = leaves.iter().filter(|leaf| !checked.contains_key(&leaf.id)).collect();
        let verdicts: Vec<_> = new
            .par_iter()
            .map(|leaf| {
                let entries = repo.leaf_entries(leaf)?;
                Ok(known.has(FrameKind::Trees, &leaf.id) && entries.iter().all(|entry| is_whole(entry, known)))
            })
            .collect();
        for (leaf, verdict) in new.into_iter().zip(verdicts) {
            let verdict = match verdict {
                Ok(verdict) => verdict,
                Err(error) => self.tree_is_damaged(snapshot, error).map(|()| false)?,
            };
            checked.insert(leaf.id, verdict);
        }
        for leaf in leaves {
            is_sound &= checked[&leaf.id];
        }
        Ok(is_sound)
    }

    /// Adds a finding, once. What is no damage is an error.
    fn note(&mut self, error: repo::Error) -> Result<()> {
        if !error.is_damage() {
            return Err(error.into());
        }
        let text = error.to_string();
        if self.findings.iter().all(|finding| finding.error.to_string() != text) {
            self.findings.push(Finding { error });
        }
        Ok(())
    }

    fn tree_is_damaged(&mut self, snapshot: &Snapshot, error: repo::Error) -> Result<()> {
        self.note(error)?;
        self.unreadable_trees.insert(snapshot.id);
        Ok(())
    }

    fn find_hits(
        &mut self,
        repo: &Repository,
        snapshot: &Snapshot,
        known: &Known<'_>,
        hits: &mut BTreeMap<EntryPath, BTreeSet<SnapshotId>>,
    ) -> Result<()> {
        let Ok(tree) = repo.tree(&snapshot.manifest.tree) else {
            self.unreadable_trees.insert(snapshot.id);
            return Ok(());
        };
        for entry in repo.entries(&tree, &Scope::System) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.is_damage() => {
                    self.unreadable_trees.insert(snapshot.id);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            if !is_whole(&entry, known) {
                let chunks = entry.document().map(|document| document.chunks().collect()).unwrap_or_default();
                self.states.entry((entry.path.clone(), chunks)).or_default().insert(snapshot.id);
                hits.entry(entry.path).or_default().insert(snapshot.id);
            }
        }
        Ok(())
    }
}

fn is_whole(entry: &Entry, known: &Known<'_>) -> bool {
    entry.document().is_none_or(|document| document.chunks().all(|chunk| known.has(FrameKind::Documents, &chunk)))
}

fn is_in_part(pack: &str, part: Part) -> bool {
    // The first digits of a hash are as good as drawn at random, and stay the same from run to run.
    let digits = u64::from_str_radix(&pack[..12], 16).expect("a pack is named by hexadecimal digits");
    digits % part.of == part.number - 1
}
