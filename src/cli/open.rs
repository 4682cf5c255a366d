//! From arguments to a repository and its snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use metastash::model::clock::Clock;
use metastash::model::scope::Scope;
use metastash::ops::Author;
use metastash::platform::kylin::detect::backup_time;
use metastash::repo::config::{Config, GRACE_SECS};
use metastash::repo::snapshot::{Manifest, Reference, Snapshot};
use metastash::repo::{self, Repository};
use metastash::storage::local::LocalStorage;

use super::args::Global;
use super::exit::{Refusal, Usage};
use super::store;

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
    repository_at(repository_path(global)?)
}

fn repository_at(path: PathBuf) -> Result<Repository> {
    if path.exists() && !path.is_dir() {
        return Err(Refusal {
            message: format!("{} is not a metastash repository, but a file", path.display()),
            hint: "name the directory of one with `--repo` or METASTASH_REPO".to_owned(),
            code: 10,
        }
        .into());
    }
    if path.join("config").is_dir() {
        return Err(repo::Error::NotARepository { location: path.display().to_string() }.into());
    }
    match Repository::open(Arc::new(LocalStorage::new(path))) {
        // What can't be opened can't be checked either.
        Err(error) if error.is_damage() => Err(Refusal {
            message: error.to_string(),
            hint: "put its file `config` back from a copy, or name another repository with `--repo` or METASTASH_REPO"
                .to_owned(),
            code: 13,
        }
        .into()),
        result => Ok(result?),
    }
}

/// Opens the repository for a backup, or a new one if there is none yet and the place is free. Returns with a new one the
/// id it will have, unless someone else creates it first.
pub(crate) fn repository_or_new(global: &Global) -> Result<(Repository, Option<[u8; 16]>)> {
    repository_or_new_in(repository_path(global)?)
}

/// The same with the repository that a flag of its own names.
pub(crate) fn repository_or_new_at(path: &Path, flag: &str) -> Result<(Repository, Option<[u8; 16]>)> {
    refuse_url(path, flag)?;
    repository_or_new_in(path.to_owned())
}

fn repository_or_new_in(path: PathBuf) -> Result<(Repository, Option<[u8; 16]>)> {
    match repository_at(path.clone()) {
        Ok(repository) => Ok((repository, None)),
        Err(error) if matches!(error.downcast_ref(), Some(repo::Error::NotARepository { .. })) => {
            match new_repository(path.clone()) {
                Ok((storage, config)) => {
                    let id = config.id;
                    Ok((Repository::create_when_needed(storage, config), Some(id)))
                }
                // The place may be taken because someone has created the repository since the first look.
                Err(refusal) => repository_at(path).map(|repository| (repository, None)).or(Err(refusal)),
            }
        }
        Err(error) => Err(error),
    }
}

/// Creates the repository.
pub(crate) fn create_repository(global: &Global) -> Result<Repository> {
    let (storage, config) = new_repository(repository_path(global)?)?;
    match Repository::create(storage, config) {
        Err(error @ repo::Error::AlreadyARepository { .. }) => {
            // Only one that can be opened is there; what can't be has a story of its own.
            repository(global)?;
            Err(error.into())
        }
        result => Ok(result?),
    }
}

fn new_repository(path: PathBuf) -> Result<(Arc<LocalStorage>, Config)> {
    refuse_occupied(&path)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).context("cannot draw an id for the repository")?;
    let created_ms = Clock::default().now_ms();
    Ok((Arc::new(LocalStorage::new(path)), Config { id, created_ms, grace_secs: GRACE_SECS }))
}

/// Refuses a directory that holds something else: a repository in it would be mixed up with that.
fn refuse_occupied(path: &Path) -> Result<()> {
    let is_foreign = match std::fs::read_dir(path) {
        Ok(entries) => {
            let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            // A folder `tmp` is what a creation that was cut off leaves. Backups by Kylin lie where its tool puts them,
            // and are in nobody's way.
            let may_stay = |name: &std::ffi::OsStr| name == "tmp" || backup_time(name.as_encoded_bytes()).is_some();
            // Where there is a repository already, the message is another.
            !path.join("config").is_file() && names.iter().any(|name| !may_stay(name))
        }
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

/// Refuses a url where a directory must be named.
fn refuse_url(path: &Path, flag: &str) -> Result<()> {
    match path.to_str().and_then(|path| path.split_once("://")) {
        Some((scheme, _)) => {
            Err(Usage(format!("{flag}: this version knows directories only, not `{scheme}://`")).into())
        }
        None if path.as_os_str().is_empty() => Err(Usage(format!("{flag} is empty")).into()),
        None => Ok(()),
    }
}

/// Returns who runs this.
pub(crate) fn author() -> Author {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    Author { host: gethostname::gethostname().to_string_lossy().into_owned(), user }
}

/// Finds a snapshot.
///
/// `latest` is the newest backup that holds the project: of the store that is named, if the repository has any of it,
/// otherwise of any store. Checkpoints are found by their ids only.
pub(crate) fn snapshot(
    repo: &Repository,
    reference: &Reference,
    project: Option<&Scope>,
    global: &Global,
) -> Result<Snapshot> {
    find(repo, reference, global, |manifest| project.is_none_or(|project| may_hold(repo, manifest, project)))
}

/// Finds a snapshot to compare. `latest` means backups of everything or of the project: that a project is in one and not
/// in the other is a difference to show.
pub(crate) fn snapshot_to_compare(
    repo: &Repository,
    reference: &Reference,
    project: Option<&Scope>,
    global: &Global,
) -> Result<Snapshot> {
    find(repo, reference, global, |manifest| project.is_none_or(|project| manifest.scope.covers(project)))
}

fn find(
    repo: &Repository,
    reference: &Reference,
    global: &Global,
    fits: impl Fn(&Manifest) -> bool,
) -> Result<Snapshot> {
    let is_backup = |manifest: &Manifest| manifest.is_backup() && fits(manifest);
    if let (Reference::Latest(_), Some(store)) = (reference, store::location(global)) {
        let host = author().host;
        let is_of_store = |manifest: &Manifest| is_backup(manifest) && manifest.store == store && manifest.host == host;
        match repo.find_snapshot(reference, is_of_store) {
            // With some of this store, but not so many, another store's is not what is meant.
            Err(repo::Error::UnknownSnapshot { .. }) if !has_any(repo, is_of_store)? => {}
            result => return Ok(result?),
        }
    }
    Ok(repo.find_snapshot(reference, is_backup)?)
}

fn has_any(repo: &Repository, fits: impl Fn(&Manifest) -> bool) -> Result<bool> {
    match repo.find_snapshot(&Reference::Latest(0), fits) {
        Err(repo::Error::UnknownSnapshot { .. }) => Ok(false),
        result => Ok(result.map(|_| true)?),
    }
}

/// Tells whether a snapshot holds a project, also when that can't be told: whoever reads more of it finds out why.
pub(crate) fn may_hold(repo: &Repository, manifest: &Manifest, project: &Scope) -> bool {
    let is_listed = |name: &[u8]| repo.tree(&manifest.tree).map_or(true, |tree| tree.projects.contains_key(name));
    manifest.scope == *project || manifest.scope == Scope::System && project.prefix().is_none_or(is_listed)
}
