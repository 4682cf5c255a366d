//! Fields that say nothing when they differ.

use std::collections::BTreeSet;

/// Fields that change with every write of a document: times, and counters of versions.
pub const DEFAULT_NOISE: [&str; 4] = ["last_modified", "mvcc", "updateTime", "update_time"];

/// Names of fields whose differences are no differences, wherever in a document they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noise(BTreeSet<String>);

impl Noise {
    /// Returns no names: every difference counts.
    pub fn none() -> Self {
        Self(BTreeSet::new())
    }

    /// Adds names.
    #[must_use]
    pub fn and(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.0.extend(names);
        self
    }

    /// Tells whether a field of this name is noise.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

impl Default for Noise {
    /// Returns [`DEFAULT_NOISE`].
    fn default() -> Self {
        Self::none().and(DEFAULT_NOISE.map(ToOwned::to_owned))
    }
}
