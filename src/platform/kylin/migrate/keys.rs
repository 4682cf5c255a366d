//! What the survey of a source came to: the ids and keys of the result.

#![allow(clippy::unimplemented, clippy::needless_pass_by_value, dead_code, reason = "the skeleton of what is to come")]

use super::{Choice, Converted, Options, Refusal, Tally};
use crate::model::path::EntryPath;

/// Which ids and keys documents get. It converts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    options: Options,
}

impl Keys {
    /// Returns what the user decided.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns why the migration must not be made; nothing if it may.
    pub fn refusals(&self) -> Vec<Refusal> {
        unimplemented!()
    }

    /// Returns the ids that several claimed, in order.
    pub fn choices(&self) -> &[Choice] {
        unimplemented!()
    }

    /// Returns the (project, model, segment) that the result must have, as its documents `SEGMENT` say them.
    pub fn expected_segments(&self) -> Tally {
        unimplemented!()
    }

    /// Returns the (project, model, name of computed column) that the result must have, by `CC_MODEL_RELATION`.
    pub fn expected_columns(&self) -> Tally {
        unimplemented!()
    }

    /// Converts a document of the source. What it became depends on nothing but the arguments and the whole survey.
    ///
    /// Of what is dropped by its name, nothing is looked at but the name.
    pub fn convert(&self, name: &EntryPath, content: &[u8], time_ns: i64) -> Converted {
        let _ = (name, content, time_ns);
        unimplemented!()
    }
}
