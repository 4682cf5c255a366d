//! What metastash does: the one room that sees both a store and a repository.

pub mod at;
pub mod backup;
pub mod browse;
pub mod check;
mod contents;
pub mod copy;
pub mod diff;
pub mod doctor;
mod documents;
pub mod export;
mod fetch;
pub mod find;
pub mod follow;
pub mod forget;
mod gather;
mod guards;
pub mod history;
mod live;
pub mod log;
pub mod migrate;
mod plan;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod retention;
mod settle;
pub mod stats;
mod survey;

use crate::endpoint;
use crate::model::log::{Moment, utc};
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
    /// The state at a moment is not known in full.
    #[error("the state at {moment} is not known in full: {}", some_of(gaps))]
    Gaps {
        /// The moment.
        moment: Moment,
        /// What is not known.
        gaps: Vec<at::Gap>,
    },
    /// A moment is before or after all that is known.
    #[error(
        "nothing is known of {moment}: what is known begins with record {} ({}) and ends with record {} ({})",
        first.0, utc(first.1), last.0, utc(last.1)
    )]
    OutOfReach {
        /// The moment.
        moment: Moment,
        /// The first record that is known, and a time in milliseconds since 1970.
        first: (u64, i64),
        /// The last record that is known, and a time in milliseconds since 1970.
        last: (u64, i64),
    },
    /// No snapshot of the store says where a log of changes stood.
    #[error("the snapshots of {store} know no log of changes, so nothing is known of the time between them")]
    NoLog {
        /// The store.
        store: String,
    },
    /// There is no metadata of a platform whose rules we know.
    #[error("{of} holds no metadata of Kylin, only plain files")]
    NoPlatform {
        /// What was looked at.
        of: String,
    },
    /// There is nothing to migrate, or what should be the result of a migration is none.
    #[error("{of} {unfit}")]
    Unfit {
        /// The store or snapshot.
        of: String,
        /// What it is instead.
        unfit: migrate::Unfit,
    },
    /// A document can't be migrated, or not without a fault, and no such result was wanted.
    #[error("cannot migrate {document}: {why}")]
    NotMigrated {
        /// The document, or where in the result the fault is.
        document: String,
        /// What is wrong.
        why: String,
    },
    /// Nothing can be removed as long as it is not known what a snapshot refers to.
    #[error("nothing can be pruned, because it is not known what {of} refers to")]
    Unknown {
        /// The snapshot, or the forgotten one.
        of: String,
        /// Why.
        #[source]
        source: repo::Error,
    },
    /// Whoever receives the output failed to.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
    /// The monitor asked for a stop.
    #[error("interrupted")]
    Interrupted,
}

/// Returns the first few of what is missing.
fn some_of(gaps: &[at::Gap]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown: Vec<String> = gaps.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    match gaps.len().saturating_sub(SHOWN_MAX) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_gaps_the_first_few_are_named_and_the_rest_is_counted() {
        let gap = |n: usize| at::Gap::Document { path: format!("p/{n}"), since: None, why: "why".to_owned() };
        let told = |count| Error::Gaps { moment: Moment::Record(3), gaps: (0..count).map(gap).collect() }.to_string();
        assert_eq!(told(2), "the state at record 3 is not known in full: p/0 is not known: why; p/1 is not known: why");
        assert!(told(5).ends_with("p/4 is not known: why"), "{}", told(5));
        assert!(told(7).ends_with("p/4 is not known: why; and 2 more"), "{}", told(7));
    }
}
