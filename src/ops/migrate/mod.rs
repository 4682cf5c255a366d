//! Migrate: Kylin's metadata from the layout before 5.0.0 to that of 5.0.0 and later.
//!
//! [`plan`] reads the source twice, converts it, and puts the result into a temporary file, where it is examined; so a dry
//! run ends here. [`Migration::write`] then puts it where it belongs, and [`Migration::backup`] into a repository: each all or
//! nothing. What the conversion does is in [`crate::platform::kylin::migrate`].

mod canonical;
mod convert;
mod examine;
mod origin;
mod report;
mod verify;

use rayon::prelude::*;

use super::backup::{BackupOptions, BackupReport, backup};
use super::export::empty_listing;
use super::{Error, Result};
use crate::endpoint::Target;
use crate::endpoint::spool::SpoolStore;
use crate::model::path::EntryPath;
use crate::monitor::{Monitor, Task};
use crate::platform::kylin::layout::{Layout, Level};
use crate::platform::kylin::migrate::{Options, Refusal};
use crate::repo::Repository;

pub use origin::{Origin, Unfit};
pub use report::{Line, MigrationReport};
pub use verify::{Deviation, Kind as DeviationKind, Verification, verify};

/// How the result lies in files.
pub const LAYOUT: Layout = Layout::New(Level::Core);

/// Folders to be moved that a refusal names.
const MOVES_NAMED_MAX: usize = 2;
/// Documents that are written by one writer.
const WRITTEN_AT_ONCE: usize = 256;

/// How to migrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MigrateOptions {
    /// What the user decided about ids and differences from Kylin's tool.
    pub conversion: Options,
    /// Stop at the first document that can't be migrated, and refuse a result in which something is wrong.
    pub strict: bool,
}

/// A migration that is ready: its result lies in a temporary file.
#[derive(Debug)]
pub struct Migration {
    result: SpoolStore,
    /// What becomes of the documents.
    pub report: MigrationReport,
}

/// Converts the documents of a source, and examines the result. Nothing is written but a temporary file.
///
/// # Errors
/// [`Error::Unfit`] when the source is not of the old layout; [`Error::Refused`] when the store would lose its identity, or
/// data that was built; [`Error::NotMigrated`] with [`MigrateOptions::strict`]; when the source can't be listed. Documents
/// that can't be read are told to the monitor and counted.
pub fn plan(origin: &Origin<'_>, options: &MigrateOptions, monitor: &dyn Monitor) -> Result<Migration> {
    let source = origin.open(monitor)?;
    source.require_old()?;
    let keys = convert::survey(&source, &options.conversion, monitor)?;
    if let Some(refusal) = keys.refusals().into_iter().next() {
        return Err(refused(&refusal));
    }
    let converted = convert::convert(&source, &keys, options, monitor)?;
    let (result, report) = examine::examine_result(converted, &keys, monitor)?;
    match (options.strict, report.first_error()) {
        (true, Some((document, why))) => Err(Error::NotMigrated { document, why }),
        _ => Ok(Migration { result, report }),
    }
}

fn refused(refusal: &Refusal) -> Error {
    let way_out = match refusal {
        Refusal::BuiltDataDetached { claims } => {
            let moves = claims.iter().flat_map(|claim| claim.moves.iter()).take(MOVES_NAMED_MAX);
            let named: Vec<String> = moves.map(|moved| format!("{} to {}", moved.from, moved.to)).collect();
            format!(
                "`--rename-built` gives them new ids, and lists the folders that must be moved before Kylin starts, such as {}",
                named.join(", "),
            )
        }
        Refusal::IdentityUnknown => {
            "put the file `UUID` back from a backup, or give the store a new identity with `--new-identity`".to_owned()
        }
    };
    Error::Refused { danger: refusal.to_string(), way_out }
}

impl Migration {
    /// Returns how many documents the result has, and how many bytes.
    pub fn totals(&self) -> (u64, u64) {
        self.result.totals()
    }

    /// Returns the names that the result has in files.
    pub fn names(&self) -> Vec<EntryPath> {
        self.result.paths().filter_map(|path| LAYOUT.name_of(path)).collect()
    }

    /// Writes the result to a target that holds nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] when something is there; when the target can't be written. Nothing is visible before all is there.
    pub fn write(&self, target: &dyn Target, monitor: &dyn Monitor) -> Result<()> {
        let listing = empty_listing(target, monitor)?;
        let puts = self.result.puts();
        let staging = target.begin(&*listing, &puts)?;
        monitor.start(Task::Write, Some(puts.len() as u64));
        let numbers: Vec<usize> = (0..puts.len()).collect();
        numbers.par_chunks(WRITTEN_AT_ONCE).try_for_each(|numbers| {
            let mut writer = staging.writer();
            for n in numbers {
                if monitor.is_interrupted() {
                    return Err(Error::Interrupted);
                }
                self.result.write(*n, &mut *writer)?;
                monitor.advance(1);
            }
            Ok(())
        })?;
        if monitor.is_interrupted() {
            return Err(Error::Interrupted);
        }
        Ok(staging.commit(&[], monitor)?)
    }

    /// Makes the result a snapshot. If the last one of the same source holds the same, none is written.
    ///
    /// # Errors
    /// As [`backup`].
    pub fn backup(&self, repo: &Repository, options: &BackupOptions, monitor: &dyn Monitor) -> Result<BackupReport> {
        backup(&self.result, repo, options, monitor)
    }

    /// Returns the source of the snapshots of this migration.
    pub fn location(&self) -> String {
        use crate::endpoint::Source;
        self.result.location()
    }
}
