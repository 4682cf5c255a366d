//! From arguments, or the configuration of Kylin, to the live store.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use metastash::endpoint::location::{self, Located, Reading};
use metastash::platform::kylin::database::{Database, is_database_url};
use metastash::platform::kylin::location::Location;
use metastash::platform::kylin::properties::Properties;
use metastash::platform::kylin::settings::{Origin, Settings};
use metastash::platform::kylin::url::MetadataUrl;

use super::args::Global;
use super::exit::{Refusal, Usage};
use super::{database, open};

/// Where the store is.
pub(crate) enum Place {
    /// A directory or file.
    Files(PathBuf),
    /// A database, and where it is written which, if it was not named.
    Database { database: Box<Database>, origin: Option<String> },
}

/// Opens the store, which must exist.
pub(crate) fn source(global: &Global) -> Result<Located> {
    let located = match place(global)? {
        Place::Files(path) => location::open(&path, global.reading())?,
        Place::Database { database, origin } => database::open(*database, global).with_context_of(origin)?,
    };
    refuse_overlap(&located, global)?;
    Ok(located)
}

/// Opens the store to restore a snapshot of the layout `wanted` to. It may not exist yet.
pub(crate) fn target(global: &Global, wanted: &str, create_tables: bool) -> Result<Located> {
    open_target(global, place(global)?, global.reading(), create_tables, wanted)
}

fn open_target(global: &Global, place: Place, reading: Reading, create_tables: bool, wanted: &str) -> Result<Located> {
    let located = match place {
        Place::Files(_) if create_tables => {
            return Err(Usage("--create-tables is for databases only".to_owned()).into());
        }
        Place::Files(path) => location::open_target(&path, reading, wanted)?,
        Place::Database { database, origin } => {
            database::open_target(*database, global, create_tables, wanted).with_context_of(origin)?
        }
    };
    refuse_overlap(&located, global)?;
    Ok(located)
}

/// Opens the store, which must exist, to compare it with a snapshot of the layout `wanted`.
pub(crate) fn source_like(global: &Global, wanted: &str) -> Result<Located> {
    match place(global)? {
        Place::Files(path) if !path.exists() => {
            Err(metastash::endpoint::Error::NotFound { store: path.display().to_string() }.into())
        }
        place => open_target(global, place, global.reading(), false, wanted),
    }
}

/// Opens the store to put a checkpoint of it back, in the layout it had: what is left of it may not tell.
pub(crate) fn target_of_checkpoint(global: &Global, layout: &str) -> Result<Located> {
    let reading = match (global.reading(), layout.parse()) {
        (Reading::Detect, Ok(layout)) => Reading::Kylin(layout),
        (Reading::Detect, Err(_)) => Reading::Plain,
        (asked, _) => asked,
    };
    open_target(global, place(global)?, reading, false, layout)
}

/// Returns how snapshots name the store, if one is named and can be told.
pub(crate) fn location(global: &Global) -> Option<String> {
    required_location(global).ok()
}

/// Returns how snapshots name the store.
pub(crate) fn required_location(global: &Global) -> Result<String> {
    let path = match place(global)? {
        Place::Database { database, .. } => return Ok(database.location()),
        Place::Files(path) => path,
    };
    let Ok(located) = location::open(&path, global.reading()) else {
        return Ok(resolve(&path).display().to_string());
    };
    refuse_overlap(&located, global)?;
    Ok(located.store.location())
}

/// Returns where the store is that is named, or that Kylin's configuration names.
pub(crate) fn place(global: &Global) -> Result<Place> {
    let Some(named) = &global.store else { return configured() };
    if named.as_os_str().is_empty() {
        return Err(Usage("--store is empty".to_owned()).into());
    }
    let files = || Ok(Place::Files(named.clone()));
    let Some(text) = named.to_str().filter(|_| !named.exists()) else { return files() };
    if is_database_url(text) {
        let database = Database::parse(text).context("cannot read --store")?;
        return Ok(Place::Database { database: Box::new(database), origin: None });
    }
    if is_metadata_url(text) {
        let url: MetadataUrl = text.parse().context("cannot read --store")?;
        return place_of(&url, Path::new("."));
    }
    if text.to_ascii_lowercase().contains("password=") {
        // Not to be shown, as a path that does not exist would be.
        let what = "--store looks like a metadata url of Kylin, but has no `@` and scheme after the identifier";
        return Err(Usage(what.to_owned()).into());
    }
    match text.split_once("://") {
        Some((scheme, _)) => {
            let what =
                format!("--store: this version knows directories, zips, postgresql:// and mysql://, not `{scheme}://`");
            Err(Usage(what).into())
        }
        None => files(),
    }
}

/// Tells a metadata url from a path: `identifier@scheme`, perhaps with parameters. With these, any scheme will do: taken
/// for a path, the url would be shown with its password.
fn is_metadata_url(text: &str) -> bool {
    let (head, parameters) = text.split_once(',').unwrap_or((text, ""));
    let is_known = |scheme: &str| ["file", "hdfs", "jdbc"].contains(&scheme.trim());
    head.rsplit_once('@').is_some_and(|(_, scheme)| is_known(scheme) || parameters.contains('='))
}

/// Returns the place that the configuration in `$KYLIN_HOME/conf` names.
fn configured() -> Result<Place> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("KYLIN_HOME");
    let Some(conf) = variable("KYLIN_CONF").or_else(|| home.as_ref().map(|home| home.join("conf"))) else {
        return Err(Usage("no store is named: use `--store`, METASTASH_STORE, or set KYLIN_HOME".to_owned()).into());
    };
    let (overrides, properties) = (read(&conf, "kylin.properties.override")?, read(&conf, "kylin.properties")?);
    if overrides.is_none() && properties.is_none() {
        let message = format!("no store is named, and there is no kylin.properties in {}", conf.display());
        return Err(Usage(format!("{message}: use `--store` or METASTASH_STORE")).into());
    }
    let settings = Settings {
        overrides: overrides.unwrap_or_default(),
        properties: properties.unwrap_or_default(),
        defaults: Properties::default(),
    };
    let setting = settings.metadata_url(&|name| std::env::var(name).ok())?;
    let origin = match setting.origin {
        Origin::Default => "the default of kylin.metadata.url".to_owned(),
        origin => format!("kylin.metadata.url in {} ({origin})", conf.display()),
    };
    let url: MetadataUrl = setting.value.parse().with_context(|| format!("cannot read {origin}"))?;
    let base = home.unwrap_or_else(|| PathBuf::from("."));
    let what = format!("cannot open the store of {origin}");
    match place_of(&url, &base).with_context(|| what.clone())? {
        Place::Database { database, .. } => Ok(Place::Database { database, origin: Some(what) }),
        place => Ok(place),
    }
}

/// Says with an error where it is written what was tried.
trait WithContextOf<T> {
    fn with_context_of(self, origin: Option<String>) -> Result<T>;
}

impl<T> WithContextOf<T> for Result<T> {
    fn with_context_of(self, origin: Option<String>) -> Result<T> {
        match origin {
            Some(origin) => self.context(origin),
            None => self,
        }
    }
}

fn read(conf: &Path, name: &str) -> Result<Option<Properties>> {
    let path = conf.join(name);
    match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => {
            let content = result.with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Some(Properties::parse(&content).with_context(|| format!("cannot read {}", path.display()))?))
        }
    }
}

/// Returns the place of a metadata url; relative ones are below `base`.
fn place_of(url: &MetadataUrl, base: &Path) -> Result<Place> {
    let not_yet = |what: String| Refusal {
        message: format!("the metadata is {what}, and this version knows directories, zips and databases only"),
        hint: "name one with `--store`, such as a backup made by Kylin".to_owned(),
        code: 1,
    };
    match url.location()? {
        Location::Directory(path) | Location::Zip(path) => Ok(Place::Files(base.join(path))),
        Location::Hdfs { path, .. } => {
            Err(not_yet(format!("on HDFS at {}", path.as_deref().unwrap_or("its newest backup"))).into())
        }
        Location::Jdbc(jdbc) => Ok(Place::Database { database: Box::new(Database::from_jdbc(&jdbc)?), origin: None }),
        Location::Custom { scheme } => Err(not_yet(format!("in a store of the kind {scheme}")).into()),
    }
}

/// Refuses a repository in the store, which would back itself up and be truncated, and a store in the repository.
fn refuse_overlap(located: &Located, global: &Global) -> Result<()> {
    let path = open::repository_path(global)?;
    let Some(store) = &located.place else { return Ok(()) };
    let repository = resolve(&path);
    let refuse = |message: String| {
        let hint = "name a repository elsewhere with `--repo` or METASTASH_REPO".to_owned();
        Err(Refusal { message, hint, code: 14 }.into())
    };
    if repository.starts_with(store) {
        return refuse(format!("the repository {} lies inside the store {}", path.display(), store.display()));
    }
    if store.starts_with(&repository) {
        return refuse(format!("the store {} lies inside the repository {}", store.display(), path.display()));
    }
    Ok(())
}

/// Returns the absolute path without symlinks, as far as it exists.
fn resolve(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = Vec::new();
    for ancestor in path.ancestors() {
        if let Ok(resolved) = ancestor.canonicalize() {
            return rest.iter().rev().fold(resolved, |path, name| path.join(name));
        }
        rest.extend(ancestor.file_name().map(ToOwned::to_owned));
    }
    path
}
