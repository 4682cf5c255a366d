//! Where a migration comes from, and where it goes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use metastash::endpoint::location::{Reading, has_zip_name, open as open_files};
use metastash::endpoint::{self, PLAIN, Source, json_list};
use metastash::model::scope::Scope;
use metastash::ops::migrate::{Migration, Origin};
use metastash::platform::kylin::database::is_database_url;
use metastash::repo::Repository;
use metastash::repo::snapshot::{Reference, Snapshot};

use super::MigrateArgs;
use crate::cli::args::Global;
use crate::cli::exit::{Refusal, Usage};
use crate::cli::output::count;
use crate::cli::store::{self, Place};
use crate::cli::values::parse_label;
use crate::cli::{database, open};

/// What begins the name of a snapshot where files could be meant.
const SNAPSHOT: &str = "snapshot:";

/// A source that was found.
pub(super) enum Found {
    Store {
        store: Box<dyn Source>,
        place: Option<PathBuf>,
        folder: Option<PathBuf>,
    },
    /// A list of rows, and what there is to say of it.
    List {
        store: Box<dyn Source>,
        note: String,
    },
    Snapshot(Box<(Repository, Snapshot)>),
}

impl Found {
    pub(super) fn with<T>(&self, call: impl FnOnce(&Origin<'_>) -> T) -> T {
        match self {
            Self::Store { store, .. } | Self::List { store, .. } => call(&Origin::Store(&**store)),
            Self::Snapshot(found) => call(&Origin::Snapshot(&found.0, &found.1)),
        }
    }

    pub(super) fn location(&self) -> String {
        match self {
            Self::Store { store, .. } | Self::List { store, .. } => store.location(),
            Self::Snapshot(found) => format!("snapshot {}", found.1.id.short()),
        }
    }

    /// Returns what there is to say of it.
    pub(super) fn note(&self) -> Option<&str> {
        match self {
            Self::List { note, .. } => Some(note),
            Self::Store { .. } | Self::Snapshot(_) => None,
        }
    }

    /// Returns the folder with the zips below it, if it is one that holds nothing else of Kylin.
    pub(super) fn packages(&self) -> Result<Option<Packages>> {
        let Self::Store { folder: Some(folder), .. } = self else { return Ok(None) };
        Ok(Some(Packages::below(folder)?).filter(|packages| !packages.names.is_empty()))
    }
}

/// A folder of zips.
#[derive(Debug, Default)]
pub(super) struct Packages {
    pub folder: PathBuf,
    /// Their names below it, sorted.
    pub names: Vec<PathBuf>,
    /// What else lies there, sorted: it is left out.
    pub others: Vec<PathBuf>,
}

impl Packages {
    pub(super) fn below(folder: &Path) -> Result<Self> {
        let mut packages = Self { folder: folder.to_owned(), ..Self::default() };
        let mut folders = vec![PathBuf::new()];
        while let Some(below) = folders.pop() {
            let within = folder.join(&below);
            let list = std::fs::read_dir(&within).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
            for entry in list.with_context(|| format!("cannot list {}", within.display()))? {
                let name = below.join(entry.file_name());
                let kind = entry.file_type().with_context(|| format!("cannot list {}", within.display()))?;
                match kind.is_dir() {
                    true => folders.push(name),
                    false if kind.is_file() && has_zip_name(&name) => packages.names.push(name),
                    false => packages.others.push(name),
                }
            }
        }
        packages.names.sort_unstable();
        packages.others.sort_unstable();
        Ok(packages)
    }
}

/// Where a migration goes.
pub(super) enum Destination {
    Files(PathBuf),
    Snapshot { label: Option<String> },
}

/// Finds what an argument names.
pub(super) fn source(name: &OsStr, global: &Global) -> Result<Found> {
    if let Some(reference) = name.to_str().and_then(|name| name.strip_prefix(SNAPSHOT)) {
        let repo = open::repository(global)?;
        let reference: Reference = reference.parse().map_err(Usage)?;
        let snapshot = open::snapshot(&repo, &reference, None, global)?;
        return Ok(Found::Snapshot(Box::new((repo, snapshot))));
    }
    let place = if name == "live" {
        store::place(global)?
    } else {
        store::place(&Global { store: Some(PathBuf::from(name)), ..global.clone() })?
    };
    match place {
        Place::Files(path) if name != "live" && !path.exists() => Err(Refusal {
            message: format!("there is nothing at {}", path.display()),
            hint: "check the spelling; `live` is the store that `--store` or $KYLIN_HOME names".to_owned(),
            code: 1,
        }
        .into()),
        Place::Files(path) => files(&path, global),
        Place::Database { database, .. } => {
            let located = database::open(*database, global)?;
            Ok(Found::Store { store: as_source(located.store), place: None, folder: None })
        }
    }
}

fn files(path: &Path, global: &Global) -> Result<Found> {
    let is_list = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) && path.is_file();
    if is_list {
        let list = json_list::read(path)?;
        let documents = list.store.totals().0;
        let note = format!(
            "{} in {}: {}, {} older versions, {} removed",
            count(list.rows, "row"),
            path.display(),
            count(documents, "document"),
            list.superseded,
            list.removed,
        );
        return Ok(Found::List { store: Box::new(list.store), note });
    }
    let located = match open_files(path, global.reading()) {
        // Which of them are mixed is told by all names.
        Err(endpoint::Error::MixedLayouts { .. }) => open_files(path, Reading::Plain)?,
        result => result?,
    };
    let is_folder = located.store.layout() == PLAIN && path.is_dir() && global.reading() == Reading::Detect;
    let folder = is_folder.then(|| path.to_owned());
    Ok(Found::Store { store: as_source(located.store), place: located.place, folder })
}

/// A store that can be written is one that can be read.
fn as_source(store: Box<dyn endpoint::Target>) -> Box<dyn Source> {
    store
}

/// Reads where the result goes, which must not exist.
pub(super) fn destination(name: &OsStr, args: &MigrateArgs) -> Result<Destination> {
    let text = name.to_str().unwrap_or_default();
    if let Some(label) = text.strip_prefix(SNAPSHOT).or((text == "snapshot").then_some("")) {
        let label = Some(label).filter(|label| !label.is_empty()).map(parse_label).transpose();
        return Ok(Destination::Snapshot { label: label.map_err(|why| Usage(format!("snapshot:LABEL: {why}")))? });
    }
    if is_database_url(text) || text.contains("://") || text.contains("@jdbc") {
        let message = "a migration does not write to a database itself".to_owned();
        let hint =
            "migrate to `snapshot:LABEL`, look at it, then `metastash restore LABEL --store …` into the database";
        return Err(Refusal { message, hint: hint.to_owned(), code: 2 }.into());
    }
    if text == "live" {
        return Err(Usage("the live store is no place for the result of a migration".to_owned()).into());
    }
    let path = PathBuf::from(name);
    if !args.dry_run {
        refuse_existing(&path)?;
    }
    Ok(Destination::Files(path))
}

fn refuse_existing(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        let message = format!("cannot write {}: there is no directory {}", path.display(), parent.display());
        return Err(Refusal { message, hint: "create it, or check the spelling".to_owned(), code: 1 }.into());
    }
    // Not an empty directory either: where it can't be replaced as a whole, a crash would leave a part of the result in it.
    if !path.exists() && !path.is_symlink() {
        return Ok(());
    }
    Err(Refusal {
        message: format!("{} exists already", path.display()),
        hint: "name a place that does not exist yet; nothing is ever overwritten by a migration".to_owned(),
        code: 14,
    }
    .into())
}

/// Refuses to make a snapshot of everything of one that holds a project only: a truncate from it would remove the others.
pub(super) fn refuse_partial(source: &Found, destination: &Destination) -> Result<()> {
    let (Found::Snapshot(found), Destination::Snapshot { .. }) = (source, destination) else { return Ok(()) };
    let manifest = &found.1.manifest;
    if manifest.scope == Scope::System {
        return Ok(());
    }
    Err(Refusal {
        message: format!("snapshot {} holds {} only", found.1.id.short(), manifest.scope),
        hint: "migrate a snapshot of everything, or name a directory or zip as DEST".to_owned(),
        code: 14,
    }
    .into())
}

/// Longest name that file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Refuses to write names to a directory that no file can have: a zip or a snapshot can hold them.
pub(super) fn refuse_long_names(migration: &Migration, path: &Path) -> Result<()> {
    if has_zip_name(path) {
        return Ok(());
    }
    let names = migration.names();
    match names.into_iter().find(|name| name.parts().any(|part| part.len() > NAME_BYTES_MAX)) {
        None => Ok(()),
        Some(name) => Err(Refusal {
            message: format!("{name} has a part of more than {NAME_BYTES_MAX} bytes, which no file can be called"),
            hint: "name a .zip or `snapshot:` as DEST".to_owned(),
            code: 14,
        }
        .into()),
    }
}

/// Refuses a result inside the source, which the next run would take for a part of it, and the other way round.
pub(super) fn refuse_within(source: &Found, destination: &Destination, global: &Global) -> Result<()> {
    let Found::Store { place: Some(place), .. } = source else { return Ok(()) };
    let path = &match destination {
        Destination::Files(path) => path.clone(),
        Destination::Snapshot { .. } => open::repository_path(global)?,
    };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let resolved = absolute.ancestors().find_map(|above| {
        let rest = absolute.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(rest))
    });
    let inside = resolved.is_some_and(|resolved| place.is_dir() && resolved.starts_with(place));
    if !inside {
        return Ok(());
    }
    Err(Refusal {
        message: format!("{} lies inside the source {}", path.display(), place.display()),
        hint: "name a place elsewhere: the result would be taken for a part of the source by the next run".to_owned(),
        code: 14,
    }
    .into())
}
