//! `metastash import`

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use clap::Args;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use metastash::endpoint::location::{Located, Reading, has_zip_name, open as open_store, open_tar};
use metastash::endpoint::tar::{Packing, TarStore};
use metastash::endpoint::{self, PLAIN};
use metastash::model::clock::unix_ms;
use metastash::ops;
use metastash::ops::backup::{BackupOptions, BackupReport, backup};
use metastash::platform::kylin::detect::backup_time;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use serde_json::json;

use super::args::Global;
use super::exit::{Code, Refusal, Usage};
use super::output::{Output, short};
use super::progress::Progress;
use super::values::{parse_label, parse_tag};
use super::{backup, open};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The backup, or a folder of backups; `-` is a tar on standard input
    #[arg(value_name = "SRC")]
    pub source: PathBuf,
    /// Give the snapshot this name instead of that of the folder
    #[arg(long, value_parser = parse_label)]
    pub label: Option<String>,
    /// Add a key and value to the snapshots; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    pub tags: Vec<(String, String)>,
}

pub(crate) fn run(args: &ImportArgs, global: &Global, output: &Output, progress: &Progress<'_>) -> Result<Code> {
    let sources = sources(&args.source, global)?;
    if sources.len() > 1 && args.label.is_some() {
        return Err(Usage(format!("--label names one snapshot, but {} holds several", args.source.display())).into());
    }
    let (repo, planned_id) = open::repository_or_new(global)?;
    let mut code = Code::Done;
    let mut failed = Vec::new();
    for source in &sources {
        let began = Instant::now();
        let imported = import(source, args.label.as_deref(), &args.tags, global, &repo, progress);
        progress.clear();
        match imported {
            Ok(Imported::Already(snapshot)) => {
                output.say(&format!("{} is snapshot {} already", source.display(), short(&snapshot.id)))?;
                output.message("already_imported", super::snapshots::snapshot_fields(&snapshot).into())?;
            }
            Ok(Imported::New(report)) => {
                if sources.len() > 1 {
                    output.say(&format!("{}:", source.display()))?;
                }
                code = worse(code, backup::show_report(&report, began.elapsed().as_secs_f64(), None, output)?);
            }
            Err(error) => {
                let error = error.context(format!("cannot import {}", source.display()));
                // What is wrong with one backup says nothing of the others.
                if sources.len() == 1 || !is_of_source(&error) {
                    return Err(error);
                }
                output.result(&format!("{error:#}"))?;
                let fields = json!({"source": source.display().to_string(), "message": format!("{error:#}")});
                output.message("import_failed", fields)?;
                failed.push(error);
            }
        }
    }
    if planned_id == Some(repo.config().id) && !repo.snapshots()?.snapshots.is_empty() {
        output.say(&format!("created repository {}", repo.location()))?;
    }
    match failed.pop() {
        None => Ok(code),
        Some(error) => {
            Err(error.context(format!("{} of {} backups were not imported", failed.len() + 1, sources.len())))
        }
    }
}

fn is_of_source(error: &anyhow::Error) -> bool {
    let of_store = |error: &endpoint::Error| !matches!(error, endpoint::Error::Interrupted);
    error.downcast_ref().is_some_and(of_store)
        || error.is::<Refusal>()
        || match error.downcast_ref::<ops::Error>() {
            Some(ops::Error::Endpoint(error)) => of_store(error),
            Some(ops::Error::Refused { .. }) => true,
            _ => false,
        }
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
    let located = located(source, global, progress)?;
    if located.store.layout() == PLAIN && global.reading() == Reading::Detect {
        let message = format!("{} is no backup of Kylin's metadata", source.display());
        let hint = "`--layout plain` takes the files as they are".to_owned();
        return Err(Refusal { message, hint, code: 1 }.into());
    }
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

/// What stands for standard input.
const STDIN: &str = "-";

fn located(source: &Path, global: &Global, progress: &Progress<'_>) -> Result<Located> {
    if source != Path::new(STDIN) {
        return Ok(open_store(source, global.reading())?);
    }
    if io::stdin().is_terminal() {
        return Err(Usage("a tar is expected on standard input, which is a terminal".to_owned()).into());
    }
    let tar = TarStore::read_from(io::stdin().lock(), "standard input", progress)?;
    Ok(Located { store: open_tar(tar, global.reading())?, place: None, connected: None })
}

/// Returns the backup at a path, or those in the folder there, the oldest first.
fn sources(path: &Path, global: &Global) -> Result<Vec<PathBuf>> {
    // What is compressed is unpacked when it is opened, and a pipe can be read once: they are opened when they are needed.
    if path == Path::new(STDIN) || Packing::of_name(path).is_some() && path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    match open_store(path, global.reading()) {
        Err(endpoint::Error::SeveralBackups { names, .. }) => Ok(names.iter().map(|name| path.join(name)).collect()),
        Ok(located) if located.store.layout() == PLAIN && path.is_dir() && global.reading() == Reading::Detect => {
            let archives = archives_in(path).with_context(|| format!("cannot list {}", path.display()))?;
            Ok(if archives.is_empty() { vec![path.to_owned()] } else { archives })
        }
        result => result.map(|_| vec![path.to_owned()]).map_err(Into::into),
    }
}

fn archives_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut archives: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    archives.retain(|path| (has_zip_name(path) || Packing::of_name(path).is_some()) && path.is_file());
    archives.sort_unstable();
    Ok(archives)
}

/// Returns the name of the folder (or archive) that holds a backup, if it is one of those that Kylin gives.
fn backup_folder(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let names = path.ancestors().filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let stem = |name: String| {
        let end = [".zip", ".tar", ".tar.zst", ".tzst"].into_iter().find(|end| name.ends_with(end)).unwrap_or_default();
        name[..name.len() - end.len()].to_owned()
    };
    let mut stems = names.map(stem);
    stems.find(|stem| backup_time(stem.as_bytes()).is_some())
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
    let modified = match located.place.as_deref() {
        Some(place) => std::fs::metadata(place)
            .and_then(|metadata| metadata.modified())
            .with_context(|| format!("cannot tell when {} was made", place.display()))?,
        // A pipe does not tell.
        None => SystemTime::now(),
    };
    Ok(unix_ms(modified))
}
