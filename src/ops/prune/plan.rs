//! What is to become of each pack. Reads only.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::look::Look;
use super::small::few_of_many;
use super::{Packs, PruneOptions, PrunePlan, Result, stop_if_asked};
use crate::model::hash::ChunkId;
use crate::monitor::{Monitor, Task};
use crate::ops::check::copy_of;
use crate::repo::Repository;
use crate::repo::format::pack::{FrameEntry, FrameKind};
use crate::repo::index::Pack;

/// What is to become of a marked pack.
enum Verdict {
    Delete,
    Wait,
    /// Something in it is needed that is nowhere else.
    Rescue,
}

/// A pack that stays, as far as it is used.
struct Kept {
    number: u32,
    size_bytes: u64,
    unused_bytes: u64,
}

/// Decides what is to become of each pack.
pub(super) fn plan(repo: &Repository, look: &Look, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PrunePlan> {
    let mut plan = PrunePlan {
        snapshots: look.snapshots,
        forgotten: look.forgotten,
        records: look.records.clone(),
        // Those of packs that are gone.
        marks: look.marks.iter().filter(|mark| !look.present.contains(&mark.pack)).cloned().collect(),
        leftovers: look.leftovers.iter().filter(|leftover| look.is_old(leftover.modified)).cloned().collect(),
        ..PrunePlan::default()
    };
    // A damaged segment costs nothing, and is replaced.
    let damaged = look.index.damaged().iter().map(copy_of);
    plan.damage = damaged.filter(|error| !error.to_string().starts_with("index/")).collect();
    let mut repack = plan.judge_marked(repo, look, monitor)?;
    let mut kept = plan.judge_unmarked(look, options);
    repack.extend(to_repack(&mut kept, options));
    plan.kept_bytes = kept.iter().map(|pack| pack.size_bytes).sum();
    plan.unused_bytes = kept.iter().map(|pack| pack.unused_bytes).sum();
    // What was written at one time is read at one time.
    let packs = look.index.packs();
    repack.sort_unstable_by_key(|number| (packs[*number as usize].modified, packs[*number as usize].id));
    repack.iter().for_each(|number| plan.repack.push(&packs[*number as usize]));
    plan.repack_numbers = repack;
    Ok(plan)
}

impl PrunePlan {
    /// Looks at the packs that are marked, and returns those of which something must be copied.
    fn judge_marked(&mut self, repo: &Repository, look: &Look, monitor: &dyn Monitor) -> Result<Vec<u32>> {
        let mut marked: Vec<(u32, &Pack)> = (0..).zip(look.index.packs()).filter(|(_, pack)| pack.is_marked).collect();
        // Copies lie in the order in which the originals were written: each frame is decoded once.
        marked.sort_unstable_by_key(|(_, pack)| (pack.modified, pack.id));
        let bytes = marked.iter().map(|(_, pack)| pack.size_bytes).sum();
        monitor.start(Task::Verify, Some(bytes));
        let mut rescue = Vec::new();
        for (number, pack) in marked {
            stop_if_asked(monitor)?;
            match verdict(repo, look, pack) {
                Verdict::Delete => self.delete.push(pack),
                Verdict::Wait => self.waiting.push(pack),
                Verdict::Rescue => rescue.push(number),
            }
            monitor.advance(pack.size_bytes);
        }
        Ok(rescue)
    }

    /// Looks at the packs that are not marked, and returns those that are used.
    fn judge_unmarked(&mut self, look: &Look, options: &PruneOptions) -> Vec<Kept> {
        let mut packs: Vec<(u32, &Pack)> = (0..).zip(look.index.packs()).filter(|(_, pack)| !pack.is_marked).collect();
        // Of several copies of a chunk the newest counts: an older one may be the one that was damaged.
        packs.sort_unstable_by_key(|(_, pack)| Reverse((pack.modified, pack.id)));
        let (mut seen, mut kept) = (HashSet::new(), Vec::new());
        for (number, pack) in packs {
            match used_bytes(look, pack, &mut seen) {
                None if options.leave_young && !look.is_old(pack.modified) => self.young.push(pack),
                None => self.mark.push(pack),
                Some(used) => kept.push(Kept {
                    number,
                    size_bytes: pack.size_bytes,
                    unused_bytes: frames_bytes(pack).saturating_sub(used),
                }),
            }
        }
        kept
    }
}

/// Decides on a marked pack.
fn verdict(repo: &Repository, look: &Look, pack: &Pack) -> Verdict {
    let needed = needed_chunks(look, pack);
    let is_ripe = look.is_ripe(pack);
    if needed.is_empty() {
        return if is_ripe { Verdict::Delete } else { Verdict::Wait };
    }
    let index = &look.index;
    let is_listed = |(kind, id): &(FrameKind, _)| index.locate(*kind, id).any(|place| !index.pack(&place).is_marked);
    if !needed.iter().all(is_listed) {
        return Verdict::Rescue;
    }
    if !is_ripe {
        return Verdict::Wait;
    }
    // Whoever looked at the packs before the copy was made does not know it: so the copy must be old, too.
    let is_settled =
        |(kind, id): &(FrameKind, _)| repo.is_sound_in(index, *kind, id, |_, other| look.is_old(other.modified));
    if needed.iter().all(is_settled) {
        return Verdict::Delete;
    }
    let is_sound = |(kind, id): &(FrameKind, _)| repo.is_sound_in(index, *kind, id, |_, _| true);
    if needed.iter().all(is_sound) { Verdict::Wait } else { Verdict::Rescue }
}

/// Returns the chunks that are needed and may be in a pack.
fn needed_chunks(look: &Look, pack: &Pack) -> Vec<(FrameKind, ChunkId)> {
    let of_frame = |frame: &FrameEntry| {
        let prefixes = &pack.directory.prefixes[chunks_of(frame)];
        let kind = frame.kind;
        let ids = prefixes.iter().flat_map(move |prefix| look.references.with_prefix(kind, *prefix));
        ids.map(move |id| (kind, *id)).collect::<Vec<_>>()
    };
    pack.directory.frames.iter().flat_map(of_frame).collect()
}

fn chunks_of(frame: &FrameEntry) -> std::ops::Range<usize> {
    frame.chunk_first as usize..(frame.chunk_first + frame.chunks) as usize
}

/// Returns how many of a pack's bytes are needed and not in another pack that came before; nothing if nobody refers to
/// anything in it, also not to what is in another pack, too.
fn used_bytes(look: &Look, pack: &Pack, seen: &mut HashSet<(FrameKind, u64)>) -> Option<u64> {
    let (mut is_referenced, mut used) = (false, 0);
    for frame in &pack.directory.frames {
        let (mut raw, mut chunks) = (0, 0);
        for n in chunks_of(frame) {
            let prefix = pack.directory.prefixes[n];
            if look.references.with_prefix(frame.kind, prefix).is_empty() {
                continue;
            }
            is_referenced = true;
            if seen.insert((frame.kind, prefix)) {
                raw += u64::from(pack.directory.lengths[n]);
                chunks += 1;
            }
        }
        // What is stored of a frame is shared out among its chunks by length; the empty ones have a share, too.
        let (part, whole) = (raw + chunks, u64::from(frame.raw_bytes) + u64::from(frame.chunks));
        used += (u64::from(frame.stored_bytes) * part).checked_div(whole).unwrap_or(0);
    }
    is_referenced.then_some(used)
}

fn frames_bytes(pack: &Pack) -> u64 {
    pack.directory.frames.iter().map(|frame| u64::from(frame.stored_bytes)).sum()
}

/// Takes those that are to be repacked out of the packs that are kept, and returns their numbers.
fn to_repack(kept: &mut Vec<Kept>, options: &PruneOptions) -> Vec<u32> {
    let total: u64 = kept.iter().map(|pack| pack.size_bytes).sum();
    let mut unused: u64 = kept.iter().map(|pack| pack.unused_bytes).sum();
    let tolerated = total.saturating_mul(u64::from(options.max_unused_percent)) / 100;
    // The emptiest first.
    kept.sort_by_key(|pack| Reverse(pack.unused_bytes * 1000 / pack.size_bytes.max(1)));
    let mut chosen = HashSet::new();
    for pack in kept.iter() {
        if unused <= tolerated {
            break;
        }
        unused -= pack.unused_bytes;
        chosen.insert(pack.number);
    }
    let sizes: Vec<(u32, u64)> = kept.iter().map(|pack| (pack.number, pack.size_bytes)).collect();
    chosen.extend(few_of_many(&sizes));
    kept.retain(|pack| !chosen.contains(&pack.number));
    chosen.into_iter().collect()
}

impl Packs {
    pub(in crate::ops) fn from_index<'a>(packs: impl Iterator<Item = &'a Pack>) -> Self {
        let mut found = Self::default();
        packs.for_each(|pack| found.push(pack));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repacked(kept: &[(u64, u64)], max_unused_percent: u32) -> (Vec<u32>, Vec<u32>) {
        let mut kept: Vec<Kept> = (0..)
            .zip(kept)
            .map(|(number, &(size_bytes, unused_bytes))| Kept { number, size_bytes, unused_bytes })
            .collect();
        let mut chosen = to_repack(&mut kept, &PruneOptions { max_unused_percent, ..PruneOptions::default() });
        chosen.sort_unstable();
        let mut left: Vec<u32> = kept.iter().map(|pack| pack.number).collect();
        left.sort_unstable();
        (chosen, left)
    }

    #[test]
    fn emptiest_packs_are_repacked_until_what_is_left_is_tolerated() {
        const M: u64 = 1 << 24;
        // By share: a tenth, nine tenths of a smaller one, a half, nothing.
        let packs = [(10 * M, M), (M, M / 10 * 9), (2 * M, M), (7 * M, 0)];
        assert_eq!(repacked(&packs, 100), (vec![], vec![0, 1, 2, 3]));
        assert_eq!(repacked(&packs, 14), (vec![1], vec![0, 2, 3]), "2.9 of 20 are unused, and without one of them 2");
        assert_eq!(repacked(&packs, 10), (vec![1], vec![0, 2, 3]), "so much is tolerated");
        assert_eq!(repacked(&packs, 9), (vec![1, 2], vec![0, 3]));
        assert_eq!(repacked(&packs, 4), (vec![0, 1, 2], vec![3]), "what has nothing unused is left");
        assert_eq!(repacked(&packs, 0), (vec![0, 1, 2], vec![3]));
    }
}
