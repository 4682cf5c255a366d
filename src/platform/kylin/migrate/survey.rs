//! The first pass: what must be known of the whole source before a document can be converted.

#![allow(clippy::unimplemented, clippy::needless_pass_by_value, dead_code, reason = "the skeleton of what is to come")]

use super::{Keys, Options};
use crate::model::path::EntryPath;

/// What is known of some documents of the source. The order in which they were added and merged leaves no trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    options: Options,
}

impl Survey {
    /// Starts a survey.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Tells whether the survey must see the content of a document.
    pub fn wants(name: &EntryPath, options: &Options) -> bool {
        let _ = (name, options);
        unimplemented!()
    }

    /// Adds a document of the source: its name, and its content if the survey [wants](Self::wants) that.
    pub fn add(&mut self, name: &EntryPath, content: Option<&[u8]>) {
        let _ = (name, content);
        unimplemented!()
    }

    /// Joins with another survey, of other documents.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let _ = other;
        unimplemented!()
    }

    /// Decides who keeps what.
    pub fn finish(self) -> Keys {
        unimplemented!()
    }
}
