//! What metastash does: the one room that sees both a store and a repository.

pub mod backup;
pub mod browse;
pub mod check;
mod contents;
pub mod diff;
pub mod doctor;
pub mod export;
mod fetch;
pub mod follow;
pub mod forget;
mod guards;
mod live;
mod plan;
pub mod restore;
pub mod retention;
mod settle;
pub mod stats;
mod survey;

use crate::endpoint;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::repo;

/// Why an operation did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Endpoint(#[from] endpoint::Error),
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] repo::Error),
    /// What was asked would likely lose data, and was not explicitly allowed.
    #[error("refused: {danger}")]
    Refused {
        /// What would happen.
        danger: String,
        /// What overrides the guard, or is to be done instead.
        way_out: String,
    },
    /// Another snapshot has this label.
    #[error("the label `{label}` names snapshot {snapshot} already")]
    LabelTaken {
        /// The label.
        label: String,
        /// The short id of the snapshot.
        snapshot: String,
    },
    /// The snapshot holds nothing of this project.
    #[error("snapshot {snapshot} holds no {scope}")]
    NotInSnapshot {
        /// The short id of the snapshot.
        snapshot: String,
        /// What was looked for.
        scope: Scope,
    },
    /// The snapshot has no document at this path.
    #[error("snapshot {snapshot} has no document {path}")]
    NoDocument {
        /// The short id of the snapshot.
        snapshot: String,
        /// What was looked for.
        path: EntryPath,
    },
    /// No restore of this store was ever preceded by a checkpoint.
    #[error("the repository has no checkpoint of {store}")]
    NoCheckpoint {
        /// The store.
        store: String,
    },
    /// There is no metadata of a platform whose rules we know.
    #[error("{of} holds no metadata of Kylin, only plain files")]
    NoPlatform {
        /// What was looked at.
        of: String,
    },
    /// Whoever receives the output failed to.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
    /// The monitor asked for a stop.
    #[error("interrupted")]
    Interrupted,
}

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Who runs an operation, as it is recorded in snapshots. The library does not look at its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The machine.
    pub host: String,
    /// The user.
    pub user: String,
}

/// Checks that a snapshot holds something of a scope.
fn require_scope(snapshot: &repo::snapshot::Snapshot, tree: &repo::tree::Tree, scope: &Scope) -> Result<()> {
    let holds = match scope {
        Scope::System => snapshot.manifest.scope == Scope::System,
        Scope::Project(name) => snapshot.manifest.scope == *scope || tree.projects.contains_key(name.as_bytes()),
    };
    if holds { Ok(()) } else { Err(Error::NotInSnapshot { snapshot: snapshot.id.short(), scope: scope.clone() }) }
}
