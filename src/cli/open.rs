//! From arguments to a repository and a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use metastash::endpoint::directory::DirectoryStore;
use metastash::model::scope::Scope;
use metastash::ops::Author;
use metastash::repo::config::{Config, GRACE_SECS};
use metastash::repo::snapshot::{Manifest, Reason, Reference, Snapshot};
use metastash::repo::{self, Repository};
use metastash::storage::local::LocalStorage;

use super::args::Global;
use super::exit::{Refusal, Usage};

const DEFAULT_REPOSITORY: &str = "meta_backups";

/// Returns the directory of the repository.
pub(crate) fn repository_path(global: &Global) -> Result<PathBuf> {
    let path = match &global.repo {
        Some(path) => path.clone(),
        None => match std::env::var_os("KYLIN_HOME") {
            Some(home) if !home.is_empty() => Path::new(&home).join(DEFAULT_REPOSITORY),
            _ => PathBuf::from(DEFAULT_REPOSITORY),
        },
    };
    refuse_url(&path, "--repo")?;
    Ok(path)
}

/// Opens the repository, which must exist.
pub(crate) fn repository(global: &Global) -> Result<Repository> {
    Ok(Repository::open(Arc::new(LocalStorage::new(repository_path(global)?)))?)
}

/// Opens the repository for a backup, or a new one if there is none yet and the place is free; tells whether it is new.
pub(crate) fn repository_or_new(global: &Global) -> Result<(Repository, bool)> {
    match repository(global) {
        Ok(repository) => Ok((repository, false)),
        Err(error) if matches!(error.downcast_ref(), Some(repo::Error::NotARepository { .. })) => {
            let (storage, config) = new_repository(global)?;
            Ok((Repository::create_when_needed(storage, config), true))
        }
        Err(error) => Err(error),
    }
}

/// Creates the repository.
pub(crate) fn create_repository(global: &Global) -> Result<Repository> {
    let (storage, config) = new_repository(global)?;
    Ok(Repository::create(storage, config)?)
}

fn new_repository(global: &Global) -> Result<(Arc<LocalStorage>, Config)> {
    let path = repository_path(global)?;
    refuse_occupied(&path)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).context("cannot draw an id for the repository")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let created_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    Ok((Arc::new(LocalStorage::new(path)), Config { id, created_ms, grace_secs: GRACE_SECS }))
}

/// Refuses a directory that holds something else: a repository in it would be mixed up with that.
fn refuse_occupied(path: &Path) -> Result<()> {
    let is_foreign = match std::fs::read_dir(path) {
        // A folder `tmp` is what a creation that was cut off leaves.
        Ok(entries) => entries.flatten().any(|entry| entry.file_name() != "tmp" && entry.file_name() != "config"),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if !is_foreign {
        return Ok(());
    }
    Err(Refusal {
        message: format!("{} is neither a metastash repository nor an empty directory", path.display()),
        hint: "name another with `--repo` or METASTASH_REPO; one that does not exist is created".to_owned(),
        code: 10,
    }
    .into())
}

/// Opens the store, which must exist.
pub(crate) fn store(global: &Global) -> Result<DirectoryStore> {
    let path = store_path(global)?;
    let store = DirectoryStore::open(&path)?;
    refuse_overlap(&store, global)?;
    Ok(store)
}

/// Opens the store to restore to, which may not exist yet.
pub(crate) fn target(global: &Global) -> Result<DirectoryStore> {
    let store = DirectoryStore::open_target(&store_path(global)?)?;
    refuse_overlap(&store, global)?;
    Ok(store)
}

fn store_path(global: &Global) -> Result<PathBuf> {
    let Some(path) = &global.store else {
        return Err(Usage("no store is named: use `--store DIR` or METASTASH_STORE".to_owned()).into());
    };
    refuse_url(path, "--store")?;
    Ok(path.clone())
}

fn refuse_url(path: &Path, flag: &str) -> Result<()> {
    match path.to_str().and_then(|path| path.split_once("://")) {
        Some((scheme, _)) => {
            Err(Usage(format!("{flag}: this version knows directories only, not `{scheme}://`")).into())
        }
        None if path.as_os_str().is_empty() => Err(Usage(format!("{flag} is empty")).into()),
        None => Ok(()),
    }
}

/// Refuses a repository in the store, which would back itself up and be truncated, and a store in the repository.
fn refuse_overlap(store: &DirectoryStore, global: &Global) -> Result<()> {
    let path = repository_path(global)?;
    let repository = resolve(&path);
    let refuse = |message: String| {
        let hint = "name a repository elsewhere with `--repo` or METASTASH_REPO".to_owned();
        Err(Refusal { message, hint, code: 14 }.into())
    };
    if repository.starts_with(store.root()) {
        return refuse(format!("the repository {} lies inside the store {}", path.display(), store.root().display()));
    }
    if store.root().starts_with(&repository) {
        return refuse(format!("the store {} lies inside the repository {}", store.root().display(), path.display()));
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

/// Returns who runs this.
pub(crate) fn author() -> Author {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    Author { host: gethostname::gethostname().to_string_lossy().into_owned(), user }
}

/// Finds a snapshot. `latest` means backups that hold the project; checkpoints are named by their ids.
pub(crate) fn snapshot(repo: &Repository, reference: &Reference, project: Option<&Scope>) -> Result<Snapshot> {
    let fits = |manifest: &Manifest| {
        manifest.reason == Reason::Backup && project.is_none_or(|project| manifest.scope.covers(project))
    };
    Ok(repo.find_snapshot(reference, fits)?)
}
