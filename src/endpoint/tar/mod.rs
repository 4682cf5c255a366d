//! A tar, plain or compressed with zstd, as source, and as target where there is nothing yet.
//!
//! A tar is believed as a whole or not at all: a fault in it is an error, never a listing with less in it. Symlinks, hard
//! links and named pipes are passed over and told, as in a directory.

mod archive;
mod format;
mod output;
mod read;
mod scan;
mod unpack;
mod write;

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use self::archive::Archive;
use self::scan::TarListing;
use self::write::TarStaging;
use super::zip::State;
use super::{Error, Files, Listing, Names, Put, Result, Source, Staging, Target};
use crate::model::clock::unix_ns;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Silent, Task};

pub use output::TarOutput;

/// Whether a tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// It is not.
    Plain,
    /// With zstd.
    Zstd,
}

impl Packing {
    /// Returns how a tar is packed by its name: `.tar`, `.tar.zst` or `.tzst`; nothing for other names.
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.as_encoded_bytes().to_ascii_lowercase();
        let ends = |with: &str| name.ends_with(with.as_bytes()) && name.len() > with.len();
        match () {
            () if ends(".tar") => Some(Self::Plain),
            () if ends(".tar.zst") || ends(".tzst") => Some(Self::Zstd),
            () => None,
        }
    }
}

/// Tells whether a file is a tar by its first bytes, or compressed with zstd: what is in it is seen later.
///
/// # Errors
/// When the file can't be read.
pub fn starts_as_tar(path: &Path) -> io::Result<bool> {
    const MAGIC: &[u8] = b"ustar";
    const MAGIC_START: usize = 257;
    let mut start = Vec::new();
    File::open(path)?.take((MAGIC_START + MAGIC.len()) as u64).read_to_end(&mut start)?;
    Ok(start.starts_with(&unpack::ZSTD_MAGIC) || start.get(MAGIC_START..).is_some_and(|magic| magic == MAGIC))
}

/// A tar of documents. The name of an entry is its path, but for the `./` that it may begin with.
#[derive(Debug)]
pub struct TarStore {
    /// The file; nothing for a tar that came from a pipe.
    path: Option<PathBuf>,
    /// How a new one is packed; one that is there is read as it is.
    packing: Packing,
    /// The archive that was read last: what is compressed should not be unpacked twice.
    last: Mutex<Option<Arc<Archive>>>,
}

impl TarStore {
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
        Ok(Self { path: Some(found), packing: Packing::Plain, last: Mutex::default() })
    }

    /// Returns the store in a file that is to be made; the directory above it must exist.
    ///
    /// # Errors
    /// When something is at this place, but for a tar, which can be read only.
    pub fn open_target(path: &Path, packing: Packing) -> Result<Self> {
        match Self::open(path) {
            Err(Error::NotFound { .. }) if !path.is_symlink() => {}
            result => return result,
        }
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
        Ok(Self { path: Some(parent.join(name)), packing, last: Mutex::default() })
    }

    /// Reads a tar to the end of a stream, and returns the store in it, which calls itself `location`.
    ///
    /// # Errors
    /// When the stream can't be read, or the archive is damaged.
    pub fn read_from(stream: impl Read, location: &str, monitor: &dyn Monitor) -> Result<Self> {
        monitor.start(Task::Scan, None);
        let file = unpack::of_stream(stream, location, monitor)?;
        let archive = Archive::read(location.to_owned(), None, file, monitor)?;
        Ok(Self { path: None, packing: Packing::Plain, last: Mutex::new(Some(Arc::new(archive))) })
    }

    /// Returns the file, if the tar is in one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
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
            let first = parts.next().unwrap_or_default();
            let is_folder = parts.next().is_some() || member.kind == format::Kind::Directory;
            match names.last_mut().filter(|(last, _)| *last == first) {
                Some((_, known)) => *known |= is_folder,
                None => names.push((first.to_vec(), is_folder)),
            }
        }
        Ok(names)
    }

    /// Tells whether there is a document of this name.
    ///
    /// # Errors
    /// When the archive is damaged.
    pub fn has(&self, name: &[u8]) -> Result<bool> {
        let archive = self.archive(&Silent)?;
        Ok(archive.members.iter().any(|member| archive.name(member) == name))
    }

    fn archive(&self, monitor: &dyn Monitor) -> Result<Arc<Archive>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match &self.path {
            None => return Ok(Arc::clone(last.as_ref().expect("a stream was read before there was a store"))),
            Some(path) => State::at(path).map_err(|e| Error::io("stat", path.display(), e))?,
        };
        let known = last.as_ref().filter(|archive| archive.origin.as_ref().map(|(_, state)| *state) == now);
        if let Some(known) = known.filter(|_| now.is_some()) {
            return Ok(Arc::clone(known));
        }
        monitor.start(Task::Scan, None);
        let archive = Arc::new(self.read(monitor)?);
        *last = Some(Arc::clone(&archive));
        Ok(archive)
    }

    fn read(&self, monitor: &dyn Monitor) -> Result<Archive> {
        let path = self.path.as_deref().expect("only a file is read again");
        let file = File::open(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { store: path.display().to_string() },
            _ => Error::io("open", path.display(), e),
        })?;
        let metadata = file.metadata().map_err(|e| Error::io("stat", path.display(), e))?;
        let store = path.display().to_string();
        if !metadata.is_file() {
            return Err(Error::NotAFile { store });
        }
        let file = unpack::of_file(file, &store, monitor)?;
        Archive::read(store, Some((path.to_owned(), State::of(&metadata))), file, monitor)
    }

    fn begin_with<'a>(&'a self, puts: Cow<'a, [Put]>) -> Result<Box<dyn Staging + 'a>> {
        match &self.path {
            Some(path) if !path.exists() => Ok(Box::new(TarStaging::to_file(path, self.packing, puts)?)),
            _ => Err(Error::ReadOnly { store: self.location(), why: "documents in a tar can't be changed" }),
        }
    }
}

impl Source for TarStore {
    fn location(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => self.archive(&Silent).map(|archive| archive.store.clone()).unwrap_or_default(),
        }
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        let scan_ns = unix_ns(SystemTime::now());
        let archive = self.archive(monitor)?;
        // It may have been read before, by who only wanted to know what it is.
        archive.problems.iter().for_each(|problem| monitor.problem(problem));
        Ok(Box::new(TarListing::new(archive, scope, scan_ns)?))
    }
}

impl Target for TarStore {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        match self.scan(scope, monitor) {
            Err(Error::NotFound { .. }) => Ok(Box::new(TarListing::nothing(None))),
            Err(Error::NoProject { .. }) => Ok(Box::new(TarListing::nothing(Some(self.archive(monitor)?)))),
            listing => listing,
        }
    }

    fn begin<'a>(&'a self, _: &'a dyn Listing, puts: &'a [Put]) -> Result<Box<dyn Staging + 'a>> {
        self.begin_with(Cow::Borrowed(puts))
    }
}

impl Files for TarStore {
    fn begin_named<'a>(
        &'a self,
        _: &'a dyn Listing,
        puts: &'a [Put],
        names: Names<'a>,
    ) -> Result<Box<dyn Staging + 'a>> {
        self.begin_with(Cow::Owned(named(puts, names)))
    }
}

/// Returns what is put, by the names of files.
fn named(puts: &[Put], names: Names<'_>) -> Vec<Put> {
    puts.iter().map(|put| Put { path: names(&put.path), ..put.clone() }).collect()
}
