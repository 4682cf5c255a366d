//! Ids that several projects or models claim: who keeps one, what the others get, and which folders that moves.

use std::fmt;

use serde::Serialize;

/// What an id is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contested {
    /// Of a model, with its dataflow and index plan.
    Model,
    /// Of a segment, with its details.
    Segment,
    /// The `uuid` of tables and the like: nothing refers to it.
    Table,
}

/// Who has an id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Claim {
    /// The project.
    pub project: String,
    /// Of a segment its model, by the old id; of a table its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// The id from now on.
    pub id: String,
    /// There is data that was built under the old id.
    pub is_built: bool,
    /// The folders of built data that have to be moved before Kylin finds them, below its working directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
}

/// A folder to be moved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Move {
    /// Where it is, below the working directory of Kylin.
    pub from: String,
    /// Where it must be.
    pub to: String,
}

/// An id that several claimed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Choice {
    /// What it is of.
    pub of: Contested,
    /// The id.
    pub id: String,
    /// Who keeps it.
    pub kept: Claim,
    /// The others, in the order of their names.
    pub renamed: Vec<Claim>,
}

/// Why a migration must not be made without being told to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum Refusal {
    /// Data that was built would no longer be found.
    BuiltDataDetached {
        /// What would get a new id: those with built data.
        claims: Vec<Claim>,
    },
    /// The identity of the store can't be read.
    IdentityUnknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltDataDetached { claims } => write!(
                f,
                "{} models or segments with built data would get a new id, since others keep theirs, and their data \
                 would not be found until its folders are moved",
                claims.len()
            ),
            Self::IdentityUnknown => {
                f.write_str("no UUID can be read from `UUID`, so the store would lose its identity")
            }
        }
    }
}
