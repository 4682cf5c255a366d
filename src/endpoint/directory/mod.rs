//! A directory tree on a local file system, as source and target.
//!
//! Everything is opened part by part, relative to the directory above it and without following symlinks: no depth is
//! too deep, and no link leads out of the store.

mod open;
mod read;
mod scan;
mod write;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, Files, Listing, Names, Put, Result, Source, Staging, Target};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::Monitor;

pub(in crate::endpoint) use scan::is_recent;
pub use write::STAGING_PREFIX;
pub(in crate::endpoint) use write::remove_abandoned;

/// A directory of documents.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// Returns the store in a directory that exists.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn open(path: &Path) -> Result<Self> {
        let root = fs::canonicalize(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { store: path.display().to_string() },
            _ => Error::io("open", path.display(), e),
        })?;
        if root.is_dir() { Ok(Self { root }) } else { Err(Error::NotADirectory { store: path.display().to_string() }) }
    }

    /// Returns the store in a directory that may not exist yet; the directory above it must.
    ///
    /// # Errors
    /// When there is something else at this place.
    pub fn open_target(path: &Path) -> Result<Self> {
        match Self::open(path) {
            Err(Error::NotFound { .. }) if !path.is_symlink() => Self::new_below(path),
            result => result,
        }
    }

    fn new_below(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(Error::NotFound { store: path.display().to_string() });
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = Self::open(parent)?;
        Ok(Self { root: parent.root.join(name) })
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Source for DirectoryStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        Ok(Box::new(scan::scan(&self.root, scope, monitor)?))
    }
}

impl Target for DirectoryStore {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        match self.scan(scope, monitor) {
            Err(Error::NotFound { .. } | Error::NoProject { .. }) => Ok(Box::new(scan::nothing(&self.root))),
            result => result,
        }
    }

    fn begin<'a>(&'a self, listing: &'a dyn Listing, puts: &'a [Put]) -> Result<Box<dyn Staging + 'a>> {
        self.begin_named(listing, puts, &EntryPath::clone)
    }
}

impl Files for DirectoryStore {
    fn begin_named<'a>(
        &'a self,
        listing: &'a dyn Listing,
        puts: &'a [Put],
        names: Names<'a>,
    ) -> Result<Box<dyn Staging + 'a>> {
        Ok(Box::new(write::DirectoryStaging::begin(&self.root, listing, puts, names)?))
    }
}
