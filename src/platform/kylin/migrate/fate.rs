//! What became of a document, and what there is to say about it.

use std::fmt;

use super::rule::{Dropped, Unknown};
use serde::Serialize;

/// What became of one document of the old layout. Names are those of files in the new layout, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    /// It became one document.
    Migrated {
        /// Which.
        to: String,
    },
    /// It became several, or is fully in others.
    Split {
        /// Which.
        to: Vec<String>,
    },
    /// There is no place for it in the new layout.
    Dropped {
        /// By which rule.
        rule: Dropped,
    },
    /// It can't be converted, and is kept byte for byte.
    Broken {
        /// Why it can't.
        why: Why,
        /// Where.
        kept_at: String,
    },
    /// It is none of Kylin's documents as far as is known, and is kept byte for byte.
    Unknown {
        /// What is not understood.
        why: Unknown,
        /// Where.
        kept_at: String,
    },
}

impl Fate {
    /// Tells whether somebody should look at the document.
    pub const fn is_problem(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::Unknown { .. })
    }
}

/// Why a document can't be converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is no JSON.
    #[error("its JSON is broken: {fault}")]
    NoJson {
        /// What is wrong, and at which byte.
        fault: String,
    },
    /// It is JSON, but no object.
    #[error("it is no JSON object")]
    NoObject,
    /// A field that the conversion needs is missing, or is something else than it must be.
    #[error("its {field} is {fault}")]
    Field {
        /// The field, with those around it: `segments[2].id`.
        field: String,
        /// What it is instead.
        fault: &'static str,
    },
    /// Another document has the same place in the new layout.
    #[error("it would be {place}, which {by} is already")]
    Taken {
        /// The name in the new layout.
        place: String,
        /// The name in the old layout of the document that takes it.
        by: String,
    },
    /// The key is none: longer than 255 characters perhaps, or with a `/` in it.
    #[error("its key would be `{key}`, which is longer than 255 characters or else no key")]
    Key {
        /// What the key would be.
        key: String,
    },
    /// The identity of the store can't be read.
    #[error("no UUID can be read from it")]
    Identity,
}

/// Something about the conversion of a document that the report tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Remark {
    /// What it is about.
    pub difference: Difference,
    /// The particulars, as a sentence.
    pub detail: String,
}

/// In what a result is not what one might expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// Kylin's tool drops such documents.
    KylinDrops,
    /// Kylin's tool stops at such a document.
    KylinStops,
    /// Kylin's tool gives another key, under which Kylin 5 doesn't look.
    Key,
    /// Kylin's tool would write another value for this number, or a text.
    Number,
    /// An id is new, since another document keeps it.
    NewId,
    /// The computed column of another model is kept, and has another text.
    ColumnText,
    /// Something occurs twice and is kept once.
    Twice,
    /// What follows after the JSON is not converted; the whole is kept as well.
    TextAfter,
    /// It was written in another encoding than UTF-8.
    Encoding,
    /// The document named another project, or another id, than its name does.
    Overwritten,
    /// The name of the file and the id in it differ: Kylin loads such a document as broken.
    Misnamed,
    /// A table is spelled otherwise than its document.
    Spelling,
    /// The identity of the store was not written as Kylin does, or is new.
    Identity,
    /// Something that should be there was added or left out.
    Mended,
}

impl Difference {
    /// Returns its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KylinDrops => "kylin-drops",
            Self::KylinStops => "kylin-stops",
            Self::Key => "key",
            Self::Number => "number",
            Self::NewId => "new-id",
            Self::ColumnText => "column-text",
            Self::Twice => "twice",
            Self::TextAfter => "text-after",
            Self::Encoding => "encoding",
            Self::Overwritten => "overwritten",
            Self::Misnamed => "misnamed",
            Self::Spelling => "spelling",
            Self::Identity => "identity",
            Self::Mended => "mended",
        }
    }

    /// Tells whether the result is on purpose another than that of Kylin's tool.
    pub const fn is_from_kylin(self) -> bool {
        matches!(
            self,
            Self::KylinDrops
                | Self::KylinStops
                | Self::Key
                | Self::Number
                | Self::NewId
                | Self::Twice
                | Self::Identity
                | Self::Mended
        )
    }
}

impl Remark {
    /// Makes a remark.
    pub(super) fn new(difference: Difference, detail: impl Into<String>) -> Self {
        Self { difference, detail: detail.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}
