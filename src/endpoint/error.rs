//! What goes wrong with a store.

use super::sql;
use crate::model::scope::Scope;

/// What went wrong with a store as a whole. What concerns one entry is a [`Problem`](super::Problem).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing at this place.
    #[error("the store {store} does not exist")]
    NotFound {
        /// The store.
        store: String,
    },
    /// There is something else than a store.
    #[error("{store} is neither a directory nor a zip or tar")]
    NotADirectory {
        /// What was taken for a store.
        store: String,
    },
    /// There is something else than a file.
    #[error("{store} is not a file")]
    NotAFile {
        /// What was taken for a store.
        store: String,
    },
    /// The store has no such project.
    #[error("the store {store} has no {scope}")]
    NoProject {
        /// The store.
        store: String,
        /// What was looked for.
        scope: Scope,
    },
    /// Something is in the store that was not there, or not like this, when the plan was made.
    #[error("{path} changed since the plan was made")]
    Changed {
        /// The entry.
        path: String,
    },
    /// The store is one file, and something in it is not as it must be: none of it is to be trusted.
    #[error("{store} is damaged or not to be trusted: {what}")]
    Damaged {
        /// The store.
        store: String,
        /// What is wrong with which part of it.
        what: String,
    },
    /// Something that is no document stands where one must be put.
    #[error("{path} is in the way of a document to put there, and is none itself")]
    InTheWay {
        /// What stands there.
        path: String,
    },
    /// The store can be read only.
    #[error("{store} can't be written: {why}")]
    ReadOnly {
        /// The store.
        store: String,
        /// Why not.
        why: &'static str,
    },
    /// There is a zip in a tar, where nobody looks into it.
    #[error("{store} holds a metadata.zip, and documents are not read out of a zip in a tar")]
    ZipWithin {
        /// The tar.
        store: String,
    },
    /// There are documents of both layouts of Kylin.
    #[error("{store} holds folders of both the old and the new layout of Kylin's metadata, which Kylin can't read")]
    MixedLayouts {
        /// The store.
        store: String,
    },
    /// There is a zip that holds a store, and something else that could be one.
    #[error(
        "{store} holds a metadata.zip and other files, such as {other}: where there is a zip, Kylin reads nothing else"
    )]
    ZipAndOthers {
        /// The folder.
        store: String,
        /// The first of the others.
        other: String,
    },
    /// There are several stores.
    #[error("{store} holds no metadata itself, but {} folders of backups: {}", names.len(), names.join(", "))]
    SeveralBackups {
        /// The folder.
        store: String,
        /// The folders in it.
        names: Vec<String>,
    },
    /// The documents of a snapshot have other names in this store.
    #[error("{store} lies in the layout {layout}, the snapshot in {wanted}")]
    OtherLayout {
        /// The store.
        store: String,
        /// Its layout.
        layout: &'static str,
        /// That of the snapshot.
        wanted: &'static str,
    },
    /// A snapshot is of a layout that this version does not know.
    #[error("the snapshot is of the layout {layout}, which this version does not know")]
    UnknownLayout {
        /// The layout.
        layout: String,
    },
    /// A database did not do what it was asked for.
    #[error("cannot {action} {store}")]
    Database {
        /// What was attempted, as a verb, perhaps with a preposition.
        action: &'static str,
        /// The store.
        store: String,
        /// What the database said.
        #[source]
        source: sql::SqlError,
    },
    /// A change was being committed when the connection to the database was lost, and what became of it can't be found out.
    #[error("it is not known whether {store} was changed: the connection was lost when all of it was to be committed")]
    OutcomeUnknown {
        /// The store.
        store: String,
        /// What became of the connection.
        #[source]
        source: sql::SqlError,
    },
    /// There is a database, but no metadata of Kylin under this identifier.
    #[error("{store} holds no metadata: no table of Kylin begins with `{identifier}`")]
    NoTables {
        /// The store.
        store: String,
        /// What names of tables begin with.
        identifier: String,
        /// Identifiers of other Kylins there.
        others: Vec<String>,
    },
    /// Some of the tables are there, and some are not.
    #[error("{store} lacks tables of Kylin: {}", names.join(", "))]
    MissingTables {
        /// The store.
        store: String,
        /// What is not there.
        names: Vec<String>,
    },
    /// A table has a name that is Kylin's, and other columns.
    #[error("the table {table} of {store} is none of Kylin's: it has no column {columns}")]
    ForeignTable {
        /// The store.
        store: String,
        /// The table.
        table: String,
        /// The columns it lacks.
        columns: String,
    },
    /// A document can't be put into its table.
    #[error("{path} can't be a row of its table: {why}")]
    NoRow {
        /// The document.
        path: String,
        /// Why not.
        why: String,
    },
    /// What was written is not what was to be written.
    #[error("{path} reads back other than it was written, and nothing was changed")]
    NotAsWritten {
        /// The document.
        path: String,
    },
    /// The monitor asked for a stop.
    #[error("interrupted")]
    Interrupted,
    /// An operation on the store failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Tells whether an error that came of one document is about the whole store.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Interrupted | Self::Database { .. } | Self::OutcomeUnknown { .. })
    }

    pub(crate) fn io(action: &'static str, path: impl std::fmt::Display, source: impl Into<std::io::Error>) -> Self {
        // A stream can fail in the words of `std::io` only: what it has to say is within.
        match source.into().downcast::<Self>() {
            Ok(error) => error,
            Err(source) => Self::Io { action, path: path.to_string(), source },
        }
    }
}

/// The result of an operation on a store.
pub type Result<T> = std::result::Result<T, Error>;
