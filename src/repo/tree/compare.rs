//! Comparing two trees: what they share is skipped.

use std::collections::BTreeMap;

use super::lookup::lookup;
use super::{Run, Tree};
use crate::model::entry::Entry;
use crate::model::merge::{Pair, merge};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::repo::{Repository, Result};

/// An entry that differs between two trees: before, after, or both.
pub type Difference = Pair<Entry, Entry>;

/// Walks the entries of a scope in which two trees differ by more than their stamps, in path order.
///
/// # Errors
/// When a node is missing or damaged.
pub fn differences<'a>(
    repo: &'a Repository,
    before: &'a Tree,
    after: &'a Tree,
    scope: &Scope,
) -> Result<Box<dyn Iterator<Item = Result<Difference>> + 'a>> {
    let shared = before.runs.iter().zip(&after.runs).take_while(|(b, a)| b.id == a.id).count();
    if shared == 0 {
        let pairs = merge(repo.entries(before, scope), repo.entries(after, scope));
        return Ok(Box::new(pairs.filter(|pair| pair.as_ref().map_or(true, is_difference))));
    }
    let (base, over_before) = before.runs.split_at(shared);
    let over_after = &after.runs[shared..];
    let changed = records_by_path(repo, over_before, over_after, scope)?;
    let below = lookup(repo, base, changed.keys())?;
    let pairs = changed.into_values().zip(below).filter_map(|((before, after), below)| {
        let before = before.unwrap_or_else(|| below.clone());
        let after = after.unwrap_or(below);
        let pair = match (before, after) {
            (Some(before), Some(after)) => Pair::Both(before, after),
            (Some(before), None) => Pair::Left(before),
            (None, Some(after)) => Pair::Right(after),
            (None, None) => return None,
        };
        is_difference(&pair).then_some(Ok(pair))
    });
    Ok(Box::new(pairs))
}

fn is_difference(pair: &Difference) -> bool {
    match pair {
        Pair::Both(before, after) => !before.same_content(after) || before.differs_in_mode(after.mode),
        Pair::Left(_) | Pair::Right(_) => true,
    }
}

/// For a path in the runs that are not shared: what each side says of it, if anything.
type Said = (Option<Option<Entry>>, Option<Option<Entry>>);

fn records_by_path(
    repo: &Repository,
    before: &[Run],
    after: &[Run],
    scope: &Scope,
) -> Result<BTreeMap<EntryPath, Said>> {
    let mut changed: BTreeMap<EntryPath, Said> = BTreeMap::new();
    for record in repo.records(before, scope) {
        let record = record?;
        let path = record.path().clone();
        changed.entry(path).or_default().0 = Some(record.into_entry());
    }
    for record in repo.records(after, scope) {
        let record = record?;
        let path = record.path().clone();
        changed.entry(path).or_default().1 = Some(record.into_entry());
    }
    Ok(changed)
}
