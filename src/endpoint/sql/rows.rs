//! The rows of a store, held compactly: there may be millions.
//!
//! Rows are numbered as they came from the server, table by table, so that reading them by number reads the tables from
//! front to back. Another order is by path.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use rayon::prelude::*;

use crate::model::entry::{Encoding, Stamp};
use crate::model::path::{EntryPath, compare, order_prefix};

/// A row, as it is listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// The number of its table.
    pub table: u8,
    /// Its key in the table, without the slash that keys of the old generation begin with.
    pub name: &'a [u8],
    pub id: i64,
    pub mvcc: i64,
    pub time_ms: i64,
    /// Bytes that the content takes in the table.
    pub size: u64,
}

/// All rows.
pub(super) struct Rows {
    tables: Vec<u8>,
    /// What the path of each begins with, as a number.
    heads: Vec<u32>,
    ends: Vec<u32>,
    names: Vec<u8>,
    ids: Vec<i64>,
    versions: Vec<i64>,
    times: Vec<i64>,
    sizes: Vec<AtomicU32>,
    encodings: Vec<AtomicU8>,
    head_names: Vec<Box<[u8]>>,
    head_numbers: HashMap<Box<[u8]>, u32>,
    /// The head of the last row: the next one has the same most of the time.
    last_head: u32,
    by_name: HashTable<u32>,
    hasher: DefaultHashBuilder,
    order: Vec<u32>,
    /// The place of each row in the order.
    places: Vec<u32>,
}

/// So far from the place of the last row the next one is looked for before all are searched.
const STEPS_MAX: usize = 3;

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            tables: Vec::new(),
            heads: Vec::new(),
            ends: Vec::new(),
            names: Vec::new(),
            ids: Vec::new(),
            versions: Vec::new(),
            times: Vec::new(),
            sizes: Vec::new(),
            encodings: Vec::new(),
            head_names: Vec::new(),
            head_numbers: HashMap::new(),
            last_head: 0,
            by_name: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            order: Vec::new(),
            places: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tables.len()
    }

    /// Adds a row whose path is `head/name`, or `name` alone where the head is empty. Returns its number, or nothing if
    /// there is one of this name already or the names take too much room.
    pub(super) fn push(&mut self, row: &Row<'_>, head: &[u8]) -> Option<u32> {
        let n = u32::try_from(self.len()).ok()?;
        let end = u32::try_from(self.names.len() + row.name.len()).ok()?;
        let head = self.head_number(head);
        let Self { by_name, tables, ends, names, hasher, .. } = self;
        let hash = |n: u32| hasher.hash_one((tables[n as usize], name_in(names, ends, n as usize)));
        let is_it =
            |other: &u32| tables[*other as usize] == row.table && name_in(names, ends, *other as usize) == row.name;
        match by_name.entry(hasher.hash_one((row.table, row.name)), is_it, |n| hash(*n)) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => drop(place.insert(n)),
        }
        self.names.extend_from_slice(row.name);
        self.ends.push(end);
        self.tables.push(row.table);
        self.heads.push(head);
        self.ids.push(row.id);
        self.versions.push(row.mvcc);
        self.times.push(row.time_ms);
        self.sizes.push(AtomicU32::new(u32::try_from(row.size).unwrap_or(u32::MAX)));
        self.encodings.push(AtomicU8::new(0));
        Some(n)
    }

    fn head_number(&mut self, head: &[u8]) -> u32 {
        if self.head_names.get(self.last_head as usize).is_some_and(|last| **last == *head) {
            return self.last_head;
        }
        if let Some(number) = self.head_numbers.get(head) {
            self.last_head = *number;
            return *number;
        }
        let number = u32::try_from(self.head_names.len()).expect("no more than there are rows");
        self.head_names.push(head.into());
        self.head_numbers.insert(head.into(), number);
        number
    }

    /// Returns the row of this name, whatever its path begins with.
    pub(super) fn find(&self, table: u8, name: &[u8]) -> Option<usize> {
        let is_it = |n: &u32| self.tables[*n as usize] == table && self.name(*n as usize) == name;
        self.by_name.find(self.hasher.hash_one((table, name)), is_it).map(|n| *n as usize)
    }

    /// Puts the rows into the order of their paths: called once, when all are there.
    pub(super) fn sort(&mut self) {
        let mut heads: Vec<u32> = (0..).take(self.head_names.len()).collect();
        heads.sort_unstable_by(|a, b| compare(&self.head_names[*a as usize], &self.head_names[*b as usize]));
        let mut ranks = vec![0_u32; heads.len()];
        (0_u32..).zip(&heads).for_each(|(rank, head)| ranks[*head as usize] = rank);
        // What tells most of them apart lies beside the number: names are looked at only where that is the same.
        let mut order: Vec<(u32, u64, u32)> = (0..)
            .take(self.len())
            .map(|n| (ranks[self.heads[n as usize] as usize], order_prefix(self.name(n as usize)), n))
            .collect();
        order.par_sort_unstable_by(|(rank, prefix, a), (other_rank, other_prefix, b)| {
            let by_prefix = (rank, prefix).cmp(&(other_rank, other_prefix));
            by_prefix.then_with(|| compare(self.name(*a as usize), self.name(*b as usize)))
        });
        self.order = order.into_iter().map(|(_, _, n)| n).collect();
        self.places = vec![0; self.len()];
        (0_u32..).zip(&self.order).for_each(|(place, n)| self.places[*n as usize] = place);
    }

    /// Returns the row at a path if it is one of the next after that numbered `near` in the order of paths, or this.
    pub(super) fn find_near(&self, path: &EntryPath, near: usize) -> Option<usize> {
        let place = *self.places.get(near)? as usize;
        let end = self.order.len().min(place + STEPS_MAX);
        let mut near = self.order[place..end].iter().skip(1).chain(&self.order[place..end][..1]);
        near.find(|n| self.is_at(**n as usize, path)).map(|n| *n as usize)
    }

    /// Returns the numbers in the order of paths.
    pub(super) fn order(&self) -> &[u32] {
        &self.order
    }

    pub(super) fn table(&self, n: usize) -> u8 {
        self.tables[n]
    }

    pub(super) fn name(&self, n: usize) -> &[u8] {
        name_in(&self.names, &self.ends, n)
    }

    /// Returns what the path begins with: project and kind, or nothing.
    pub(super) fn head(&self, n: usize) -> &[u8] {
        &self.head_names[self.heads[n] as usize]
    }

    pub(super) fn path(&self, n: usize) -> EntryPath {
        match self.head(n) {
            [] => EntryPath::joined(&[self.name(n)]),
            head => EntryPath::joined(&[head, self.name(n)]),
        }
    }

    /// Tells whether the path is this one, without making it.
    pub(super) fn is_at(&self, n: usize, path: &EntryPath) -> bool {
        match self.head(n) {
            [] => path.as_bytes() == self.name(n),
            head => {
                let rest = path.as_bytes().strip_prefix(head).and_then(|rest| rest.strip_prefix(b"/"));
                rest == Some(self.name(n))
            }
        }
    }

    pub(super) fn id(&self, n: usize) -> i64 {
        self.ids[n]
    }

    pub(super) fn mvcc(&self, n: usize) -> i64 {
        self.versions[n]
    }

    /// Returns what the row says of itself: Kylin moves version and time with every change.
    pub(super) fn stamp(&self, n: usize) -> Stamp {
        stamp(self.id(n), self.versions[n], self.times[n])
    }

    /// Returns the size of the content: what it takes in the table before it was read, its own after.
    pub(super) fn size(&self, n: usize) -> u64 {
        u64::from(self.sizes[n].load(Ordering::Relaxed))
    }

    pub(super) fn encoding(&self, n: usize) -> Encoding {
        if self.encodings[n].load(Ordering::Relaxed) == 0 { Encoding::Plain } else { Encoding::Kylin }
    }

    /// Takes note of what reading a content showed.
    pub(super) fn settle(&self, n: usize, size: u64, encoding: Encoding) {
        self.sizes[n].store(u32::try_from(size).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.encodings[n].store(u8::from(encoding == Encoding::Kylin), Ordering::Relaxed);
    }
}

/// Returns the stamp of a row. Version 0 would prove nothing, and Kylin counts from 0.
pub(super) fn stamp(id: i64, mvcc: i64, time_ms: i64) -> Stamp {
    let version = mvcc.checked_add(1).filter(|version| *version != 0).unwrap_or(i64::MIN);
    Stamp { time_ns: time_ms.saturating_mul(1_000_000), version, identity: id.cast_unsigned() }
}

fn name_in<'a>(names: &'a [u8], ends: &[u32], n: usize) -> &'a [u8] {
    let start = n.checked_sub(1).map_or(0, |before| ends[before] as usize);
    &names[start..ends[n] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_name_and_sorted_by_path() {
        let mut rows = Rows::new();
        let mut push = |table, head: &[u8], name: &[u8], id| {
            rows.push(&Row { table, name, id, mvcc: 0, time_ms: 5, size: 7 }, head)
        };
        assert_eq!(push(0, b"q/MODEL", b"b", 1), Some(0));
        assert_eq!(push(0, b"p/MODEL", b"c", 2), Some(1));
        assert_eq!(push(0, b"p/MODEL", b"c.d", 3), Some(2));
        assert_eq!(push(1, b"p/LAYOUT", b"c", 4), Some(3));
        assert_eq!(push(0, b"p/MODEL", b"b", 9), None, "a name is unique in its table");
        rows.sort();
        let paths: Vec<String> = rows.order().iter().map(|n| rows.path(*n as usize).to_string()).collect();
        assert_eq!(paths, ["p/LAYOUT/c", "p/MODEL/c", "p/MODEL/c.d", "q/MODEL/b"]);
        assert_eq!(rows.find(0, b"c"), Some(1));
        assert_eq!(rows.find(1, b"b"), None);
        assert_eq!(rows.stamp(0), Stamp { time_ns: 5_000_000, version: 1, identity: 1 });
    }
}
