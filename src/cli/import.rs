//! `metastash import`

use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use metastash::endpoint;
use metastash::endpoint::location::{Located, open as open_store};
use metastash::ops::backup::{BackupOptions, BackupReport, backup};
use metastash::platform::kylin::detect::backup_time;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;

use super::args::{Global, ImportArgs};
use super::exit::{Code, Usage};
use super::output::{Output, short};
use super::progress::Progress;
use super::{backup, open};

pub(crate) fn run(args: &ImportArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let sources = sources(&args.source, global)?;
    if sources.len() > 1 && args.label.is_some() {
        return Err(Usage(format!("--label names one snapshot, but {} holds several", args.source.display())).into());
    }
    let (repo, planned_id) = open::repository_or_new(global)?;
    let mut code = Code::Done;
    for source in &sources {
        let began = Instant::now();
        let imported = import(source, args.label.as_deref(), &args.tags, global, &repo, progress);
        progress.clear();
        match imported.with_context(|| format!("cannot import {}", source.display()))? {
            Imported::Already(snapshot) => {
                output.say(&format!("{} is snapshot {} already", source.display(), short(&snapshot.id)))?;
                output.message("already_imported", super::snapshots::snapshot_fields(&snapshot).into())?;
            }
            Imported::New(report) => {
                if sources.len() > 1 {
                    output.say(&format!("{}:", source.display()))?;
                }
                code = worse(code, backup::show_report(&report, began.elapsed().as_secs_f64(), output)?);
            }
        }
    }
    if planned_id == Some(repo.config().id) {
        output.say(&format!("created repository {}", repo.location()))?;
    }
    Ok(code)
}

fn worse(code: Code, other: Code) -> Code {
    if code == Code::Done { other } else { code }
}

/// What became of one backup.
pub(crate) enum Imported {
    Already(Box<Snapshot>),
    New(Box<BackupReport>),
}

/// Makes a backup by Kylin a snapshot. It gets the label `named`, or the name of its folder unless that is taken.
pub(crate) fn import(
    source: &Path,
    named: Option<&str>,
    tags: &[(String, String)],
    global: &Global,
    repo: &Repository,
    progress: &Progress<'_>,
) -> Result<Imported> {
    let located = open_store(source, global.reading())?;
    let (location, saved_ms) = (located.store.location(), saved_ms(source, &located)?);
    let snapshots = repo.snapshots()?.snapshots;
    let has = |known: &Snapshot, label: &str| known.manifest.label.as_deref() == Some(label);
    // A folder of this name may have been imported from elsewhere; that must not keep this one out.
    let is_free = |label: &String| !snapshots.iter().any(|known| has(known, label));
    let is_own = |label: &str| snapshots.iter().any(|known| has(known, label) && known.manifest.store == location);
    let label = match named {
        Some(label) => Some(label.to_owned()).filter(|label| !is_own(label)),
        None => backup_folder(source).filter(is_free),
    };
    let options = BackupOptions {
        label,
        tags: tags.iter().cloned().collect(),
        skip_if_unchanged: true,
        saved_ms: Some(saved_ms),
        ..BackupOptions::new(open::author())
    };
    let report = backup(&*located.store, repo, &options, progress)?;
    Ok(if report.is_new { Imported::New(Box::new(report)) } else { Imported::Already(Box::new(report.snapshot)) })
}

/// Returns the backup at a path, or those in the folder there, the oldest first.
fn sources(path: &Path, global: &Global) -> Result<Vec<PathBuf>> {
    match open_store(path, global.reading()) {
        Ok(_) => Ok(vec![path.to_owned()]),
        Err(endpoint::Error::SeveralBackups { names, .. }) => Ok(names.iter().map(|name| path.join(name)).collect()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the name of the folder that Kylin made for a backup.
fn backup_folder(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let name =
        path.ancestors().filter_map(Path::file_name).find(|name| backup_time(name.as_encoded_bytes()).is_some())?;
    Some(name.to_string_lossy().into_owned())
}

/// Returns when a backup was made: as its folder says in local time, or when its file or folder was last changed.
fn saved_ms(path: &Path, located: &Located) -> Result<i64> {
    let named = backup_folder(path).and_then(|name| backup_time(name.as_bytes())).and_then(|[year, rest @ ..]| {
        let [month, day, hour, minute, second] = rest.map(|part| i8::try_from(part).ok());
        let time = DateTime::new(i16::try_from(year).ok()?, month?, day?, hour?, minute?, second?, 0).ok()?;
        Some(time.to_zoned(TimeZone::system()).ok()?.timestamp().as_millisecond())
    });
    if let Some(named) = named {
        return Ok(named);
    }
    let modified = std::fs::metadata(&located.place).and_then(|metadata| metadata.modified());
    let modified = modified.with_context(|| format!("cannot tell when {} was made", located.place.display()))?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
