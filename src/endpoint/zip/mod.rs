//! A zip archive, as source and target: what Kylin calls `metadata.zip`.
//!
//! A zip is believed as a whole or not at all: a fault in it is an error, never a listing with less in it.

mod archive;
mod extra;
mod format;
mod join;
mod read;
mod scan;
mod time;
mod write;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use self::archive::Archive;
use self::scan::ZipListing;
use self::write::ZipStaging;
use super::{Error, Files, Listing, Names, Put, Result, Source, Staging, Target};
use crate::model::clock::unix_ns;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Silent, Task};

pub(in crate::endpoint) use self::archive::State;

/// A zip of documents. The name of an entry is its path, but for one `/` that it may begin with.
#[derive(Debug, Clone)]
pub struct ZipStore {
    path: PathBuf,
    is_rooted: bool,
    /// The archive that was listed last, while a listing holds it: the restore that follows need not read it again.
    last: Arc<Mutex<Weak<Archive>>>,
}

impl ZipStore {
    /// Returns the store in a file that exists.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        let found = fs::canonicalize(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { store: path.display().to_string() },
            _ => Error::io("open", path.display(), e),
        })?;
        if !found.is_file() {
            return Err(Error::NotAFile { store: path.display().to_string() });
        }
        Ok(Self::at(found, false))
    }

    /// Returns the store in a file that may not exist yet; the directory above it must. With `is_rooted`, the names in a
    /// new zip begin with `/`, as old versions of Kylin want them; one that exists keeps its way.
    ///
    /// # Errors
    /// When there is something else at this place.
    pub fn open_target(path: &Path, is_rooted: bool) -> Result<Self> {
        match Self::open(path) {
            Ok(store) => Ok(Self { is_rooted, ..store }),
            Err(Error::NotFound { .. }) if !path.is_symlink() => Self::new_below(path, is_rooted),
            Err(error) => Err(error),
        }
    }

    fn new_below(path: &Path, is_rooted: bool) -> Result<Self> {
        let not_found = |path: &Path| Error::NotFound { store: path.display().to_string() };
        let name = path.file_name().ok_or_else(|| not_found(path))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = fs::canonicalize(parent).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => not_found(parent),
            _ => Error::io("open", parent.display(), e),
        })?;
        if !parent.is_dir() {
            return Err(Error::NotADirectory { store: parent.display().to_string() });
        }
        Ok(Self::at(parent.join(name), is_rooted))
    }

    fn at(path: PathBuf, is_rooted: bool) -> Self {
        Self { path, is_rooted, last: Arc::default() }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the first parts of the names, each with whether there is something below it.
    ///
    /// # Errors
    /// When the archive is damaged.
    pub fn top_names(&self) -> Result<Vec<(Vec<u8>, bool)>> {
        let archive = self.archive(&Silent)?;
        let mut names: Vec<(Vec<u8>, bool)> = Vec::new();
        for member in &archive.members {
            let mut parts = archive.name(member).split(|byte| *byte == b'/');
            let (first, is_folder) = (parts.next().unwrap_or_default(), parts.next().is_some() || member.is_directory);
            match names.last_mut().filter(|(last, _)| *last == first) {
                Some((_, known)) => *known |= is_folder,
                None => names.push((first.to_vec(), is_folder)),
            }
        }
        Ok(names)
    }

    fn archive(&self, monitor: &dyn Monitor) -> Result<Arc<Archive>> {
        monitor.start(Task::Scan, None);
        let archive = Arc::new(Archive::open(&self.path, monitor)?);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&archive);
        Ok(archive)
    }

    /// Returns the archive that is about to be rewritten; nothing if there is none.
    fn archive_now(&self) -> Result<Option<Arc<Archive>>> {
        let state = State::at(&self.path).map_err(|e| Error::io("stat", self.path.display(), e))?;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        match (state, last) {
            (None, _) => Ok(None),
            (Some(state), Some(last)) if last.state == state => Ok(Some(last)),
            _ => self.archive(&Silent).map(Some),
        }
    }
}

impl Source for ZipStore {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        let scan_ns = unix_ns(SystemTime::now());
        Ok(Box::new(ZipListing::new(self.archive(monitor)?, scope, scan_ns)?))
    }
}

impl Target for ZipStore {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        let scan_ns = unix_ns(SystemTime::now());
        let archive = match self.archive(monitor) {
            Err(Error::NotFound { .. }) => return Ok(Box::new(ZipListing::nothing(&self.path, None))),
            archive => archive?,
        };
        match ZipListing::new(Arc::clone(&archive), scope, scan_ns) {
            Err(Error::NoProject { .. }) => Ok(Box::new(ZipListing::nothing(&self.path, Some(archive)))),
            listing => Ok(Box::new(listing?)),
        }
    }

    fn begin<'a>(&'a self, listing: &'a dyn Listing, puts: &'a [Put]) -> Result<Box<dyn Staging + 'a>> {
        let archive = self.archive_now()?;
        Ok(Box::new(ZipStaging::begin(&self.path, archive, self.is_rooted, listing, Cow::Borrowed(puts))?))
    }
}

impl Files for ZipStore {
    fn begin_named<'a>(
        &'a self,
        listing: &'a dyn Listing,
        puts: &'a [Put],
        names: Names<'a>,
    ) -> Result<Box<dyn Staging + 'a>> {
        let archive = self.archive_now()?;
        let named: Vec<Put> = puts.iter().map(|put| Put { path: names(&put.path), ..put.clone() }).collect();
        Ok(Box::new(ZipStaging::begin(&self.path, archive, self.is_rooted, listing, Cow::Owned(named))?))
    }
}
