//! Accounting: what came of all documents, by project and kind, and whether that adds up.

#![allow(clippy::unimplemented, clippy::needless_pass_by_value, dead_code, reason = "the skeleton of what is to come")]

use std::collections::BTreeMap;

use super::{Converted, Fate, Keys};
use crate::model::path::EntryPath;
use serde::Serialize;

/// A set of things, of which only the number and a sum are kept. Equal sets have equal tallies whatever the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// How many there are.
    pub count: u64,
    sum: u128,
}

impl Tally {
    /// Adds a thing that consists of parts.
    pub fn add(&mut self, parts: &[&str]) {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let bytes = hasher.finalize();
        let first = bytes.as_bytes().first_chunk().expect("a hash has 32 bytes");
        self.count += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(*first));
    }

    /// Adds another tally.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum.wrapping_add(other.sum) }
    }
}

/// What came of documents, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// How many documents of the source became, or are fully in, others.
    pub migrated: u64,
    /// How many were dropped, by rule and project; the project is empty for what is in none.
    pub dropped: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many are broken and kept.
    pub broken: u64,
    /// How many are unknown and kept.
    pub unknown: u64,
    /// How many remarks there are, by difference.
    pub remarks: BTreeMap<String, u64>,
}

/// Something that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imbalance {
    /// The project; empty for what is in none.
    pub project: String,
    /// What was counted.
    pub what: String,
    /// How many the source has.
    pub expected: u64,
    /// How many the result has.
    pub found: u64,
}

impl Account {
    /// Counts what became of a document of the source.
    pub fn add(&mut self, name: &EntryPath, converted: &Converted) {
        let _ = (name, converted);
        unimplemented!()
    }

    /// Counts a document of which only the fate is known.
    pub fn add_fate(&mut self, name: &EntryPath, fate: &Fate) {
        let _ = (name, fate);
        unimplemented!()
    }

    /// Adds another account, of other documents.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let _ = other;
        unimplemented!()
    }

    /// Counts a document of the result, as it lies there.
    pub fn see(&mut self, name: &EntryPath, content: &[u8]) {
        let _ = (name, content);
        unimplemented!()
    }

    /// Tells what does not add up: documents of the source that are nowhere, or sets that differ.
    pub fn imbalances(&self, keys: &Keys) -> Vec<Imbalance> {
        let _ = keys;
        unimplemented!()
    }
}
