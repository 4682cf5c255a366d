//! `metastash migrate`

mod packages;
mod places;
mod show;

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use metastash::endpoint::Target;
use metastash::endpoint::location::{Reading, open_target};
use metastash::ops;
use metastash::ops::backup::BackupOptions;
use metastash::ops::migrate::{LAYOUT, MigrateOptions, Migration, Unfit, plan, verify};
use metastash::platform::kylin::migrate::Options;

use super::args::Global;
use super::backup::{refuse_repeated_tags, show_report};
use super::exit::{Code, Usage};
use super::open;
use super::output::{Output, short};
use super::progress::Progress;
use super::snapshots::snapshot_fields;
use super::values::parse_tag;
use places::{Destination, Found};

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// A directory or zip in the old layout, a folder of zips, a JSON list of rows, a database, `snapshot:SNAP`, or `live` for
    /// the store
    // A url may hold a password; values of arguments are never shown.
    #[arg(value_name = "SRC")]
    pub source: OsString,
    /// A directory or .zip that does not exist yet, or `snapshot:` for a snapshot, `snapshot:LABEL` for one with a label
    #[arg(value_name = "DEST", required_unless_present = "dry_run")]
    pub destination: Option<OsString>,
    /// Show what would be done, and write nothing
    #[arg(long, short = 'n', conflicts_with = "verify")]
    pub dry_run: bool,
    /// Check that DEST is what a migration of SRC gives, whoever made it: a directory, zip, database or snapshot
    #[arg(long)]
    pub verify: bool,
    /// Stop at the first document that can't be migrated, and refuse a result in which something is wrong
    #[arg(long, conflicts_with = "verify")]
    pub strict: bool,
    /// Do as Kylin's own tool does, for comparison, where nothing is lost by that
    #[arg(long)]
    pub as_kylin: bool,
    /// Give a new id also to models and segments with built data where others keep theirs: folders then have to be moved
    #[arg(long)]
    pub rename_built: bool,
    /// Give the store a new identity if its `UUID` can't be read
    #[arg(long)]
    pub new_identity: bool,
    /// Give tables, statistics and Kafka sources a `uuid` of their own where projects share one: databases refuse that
    #[arg(long)]
    pub fresh_uuids: bool,
    /// Succeed, and do nothing, if SRC is in the new layout already
    #[arg(long, conflicts_with = "verify")]
    pub skip_if_new: bool,
    /// Add a key and value to the snapshot; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
}

impl MigrateArgs {
    fn options(&self) -> MigrateOptions {
        let conversion = Options {
            as_kylin: self.as_kylin,
            rename_built: self.rename_built,
            new_identity: self.new_identity,
            fresh_uuids: self.fresh_uuids,
        };
        MigrateOptions { conversion, strict: self.strict }
    }
}

pub(crate) fn run(args: &MigrateArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let began = Instant::now();
    refuse_repeated_tags(&args.tags)?;
    if args.verify {
        return check(args, global, output, progress);
    }
    let destination = args.destination.as_deref().map(|name| places::destination(name, args)).transpose()?;
    if !args.tags.is_empty() && !matches!(destination, Some(Destination::Snapshot { .. })) {
        return Err(Usage("--tag is for snapshots: DEST is `snapshot:` or `snapshot:LABEL` then".to_owned()).into());
    }
    let source = places::source(&args.source, global)?;
    if let Some(destination) = &destination {
        places::refuse_within(&source, destination, global)?;
        places::refuse_partial(&source, destination)?;
    }
    if let Some(note) = source.note() {
        output.say(note)?;
    }
    let planned = source.with(|origin| plan(origin, &args.options(), progress));
    match planned {
        Err(ops::Error::Unfit { of, unfit: Unfit::AlreadyNew }) if args.skip_if_new => {
            progress.clear();
            output.say(&format!("{of} lies in the layout of 5.0.0 and later already: nothing was done"))?;
            output.message("already_new", serde_json::json!({"source": of}))?;
            Ok(Code::Done)
        }
        Err(ops::Error::Unfit { unfit: Unfit::Foreign, .. }) if source.packages()?.is_some() => {
            let packages = source.packages()?.unwrap_or_default();
            packages::run(&packages, destination.as_ref(), args, global, output, progress)
        }
        planned => carry_out(&planned?, destination.as_ref(), began, args, global, output, progress),
    }
}

/// Writes what was planned to where it belongs, and says so.
fn carry_out(
    migration: &Migration,
    destination: Option<&Destination>,
    began: Instant,
    args: &MigrateArgs,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    let destination = destination.filter(|_| !args.dry_run);
    match destination {
        None => {}
        Some(Destination::Files(path)) => {
            places::refuse_long_names(migration, path)?;
            let target = open_target(path, Reading::Kylin(LAYOUT), LAYOUT.name())?;
            let target: &dyn Target = &*target.store;
            migration.write(target, progress)?;
        }
        Some(Destination::Snapshot { label }) => {
            let code = back_up(migration, label.as_deref(), began, args, global, output, progress)?;
            let shown = show::migration(migration, destination, output)?;
            return Ok(if code == Code::Done { shown } else { code });
        }
    }
    progress.clear();
    show::migration(migration, destination, output)
}

fn back_up(
    migration: &Migration,
    label: Option<&str>,
    began: Instant,
    args: &MigrateArgs,
    global: &Global,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    let (repo, planned_id) = open::repository_or_new(global)?;
    let location = migration.location();
    // A second run of the same migration finds its label taken by the first.
    let earlier = match label {
        Some(label) => repo.snapshots_by_label(label)?.into_iter().find(|known| known.manifest.store == location),
        None => None,
    };
    let options = BackupOptions {
        label: label.filter(|_| earlier.is_none()).map(ToOwned::to_owned),
        tags: args.tags.iter().cloned().collect(),
        skip_if_unchanged: true,
        ..BackupOptions::new(open::author())
    };
    let report = migration.backup(&repo, &options, progress)?;
    progress.clear();
    if planned_id == Some(repo.config().id) {
        output.say(&format!("created repository {}", repo.location()))?;
    }
    if !report.is_new {
        output.say(&format!("the result is snapshot {} already", short(&report.snapshot.id)))?;
        output.message("already_imported", snapshot_fields(&report.snapshot).into())?;
        return Ok(Code::Done);
    }
    if let Some(earlier) = earlier {
        let label = earlier.manifest.label.as_deref().unwrap_or_default();
        output.say(&format!(
            "the label `{label}` names snapshot {} of an earlier migration: the new one has none",
            short(&earlier.id)
        ))?;
    }
    show_report(&report, began.elapsed().as_secs_f64(), None, output)
}

fn check(args: &MigrateArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let Some(result) = &args.destination else {
        return Err(Usage("--verify needs the result of the migration as DEST".to_owned()).into());
    };
    let source = places::source(&args.source, global)?;
    let made: Found = places::source(result, global)?;
    match check_one(&source, &made, args, output, progress) {
        Err(error) if is_foreign(&error) => match source.packages()? {
            Some(packages) => packages::check(&packages, Path::new(result), args, global, output, progress),
            None => Err(error),
        },
        checked => checked,
    }
}

fn is_foreign(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ops::Error::Unfit { unfit: Unfit::Foreign, .. }))
}

fn check_one(
    source: &Found,
    made: &Found,
    args: &MigrateArgs,
    output: &Output,
    progress: &Progress<'_>,
) -> Result<Code> {
    let verification = source.with(|source| made.with(|made| verify(source, made, &args.options(), progress)))?;
    progress.clear();
    show::verification(&verification, &made.location(), output)
}
