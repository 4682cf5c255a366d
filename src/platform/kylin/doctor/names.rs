//! Names of all sorts, each kept once and stood for by a small number: a store repeats the same ids over and over.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Stands for a name in one [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(u32);

impl Name {
    /// Returns its place in [`Names::iter`].
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The names that were met, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each ends; it begins where the one before it ends.
    ends: Vec<usize>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Names {
    /// Returns the number of a name, a new one if it was not met before.
    pub(super) fn insert(&mut self, name: &[u8]) -> Name {
        if let Some(known) = self.find(name) {
            return known;
        }
        let number = u32::try_from(self.ends.len()).expect("names are counted in 32 bits");
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len());
        let Self { bytes, ends, table, hasher } = self;
        table.insert_unique(hasher.hash_one(name), number, |number| hasher.hash_one(slice(bytes, ends, *number)));
        Name(number)
    }

    /// Returns the number of a name that was met before.
    pub(super) fn find(&self, name: &[u8]) -> Option<Name> {
        let is_it = |number: &u32| slice(&self.bytes, &self.ends, *number) == name;
        self.table.find(self.hasher.hash_one(name), is_it).copied().map(Name)
    }

    /// Returns the name that a number stands for.
    pub(super) fn get(&self, name: Name) -> &[u8] {
        slice(&self.bytes, &self.ends, name.0)
    }

    /// Returns all names in the order in which they were met.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut start, *end)..*end])
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[start..ends[number]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = Names::default();
        let numbers: Vec<_> = (0..1000).map(|n: u32| names.insert(format!("name {}", n % 500).as_bytes())).collect();
        for (n, number) in (0..).zip(numbers) {
            assert_eq!(number, Name(n % 500));
            assert_eq!(names.get(number), format!("name {}", n % 500).as_bytes());
        }
        assert_eq!(names.find(b"name 500"), None);
        assert!(names.iter().enumerate().all(|(n, name)| names.find(name).map(Name::index) == Some(n)));
        assert_eq!(names.insert(b""), names.insert(b""));
    }
}
