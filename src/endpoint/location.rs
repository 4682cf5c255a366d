//! From a place to the store that is there.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::directory::{DirectoryStore, STAGING_PREFIX};
use super::kylin::{KylinStore, ZippedFolder};
use super::tar::{Packing, TarStore, starts_as_tar};
use super::zip::ZipStore;
use super::{Error, Files, PLAIN, Result, Source, Target};
use crate::model::path::escape;
use crate::platform::kylin::detect::{Detected, ZIP_NAME, detect};
use crate::platform::kylin::layout::{CORE_FOLDER, Layout, Level};

/// How names in files become paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As what is found says.
    Detect,
    /// Names are paths.
    Plain,
    /// As Kylin lays its metadata out.
    Kylin(Layout),
}

/// A store that was found.
pub struct Located {
    /// The store.
    pub store: Box<dyn Target>,
    /// The directory or file that holds it, without symlinks; nothing for a database.
    pub place: Option<PathBuf>,
    /// When a database was connected to.
    pub connected: Option<Instant>,
}

impl Located {
    fn new(files: Box<dyn Files>, place: PathBuf, layout: Option<Layout>) -> Self {
        Self { store: laid_out(files, layout), place: Some(place), connected: None }
    }
}

/// Returns files as a store that lies in a layout; nothing stands for names that are paths.
pub fn laid_out(files: Box<dyn Files>, layout: Option<Layout>) -> Box<dyn Target> {
    match layout {
        None => files,
        Some(layout) => Box::new(KylinStore::new(files, layout)),
    }
}

/// Opens the store in a tar that was read from a stream.
///
/// # Errors
/// When it is one that no layout fits.
pub fn open_tar(tar: TarStore, reading: Reading) -> Result<Box<dyn Target>> {
    let holds = tar_holds(&tar, reading)?;
    Ok(laid_out(Box::new(tar), layout_of(reading, &holds)))
}

/// Opens the store at a path, which must exist: a directory, a zip or tar, or a folder that holds a zip.
///
/// # Errors
/// When there is none, or several, or one that no layout fits.
pub fn open(path: &Path, reading: Reading) -> Result<Located> {
    let found = find(path, reading)?;
    let layout = layout_of(reading, &found.holds);
    Ok(Located::new(found.files, found.place, layout))
}

fn layout_of(reading: Reading, holds: &Holds) -> Option<Layout> {
    match (reading, holds) {
        (Reading::Plain, _) => None,
        (Reading::Kylin(layout), _) => Some(layout),
        (Reading::Detect, Holds::Documents(layout)) => Some(*layout),
        (Reading::Detect, Holds::Other | Holds::Nothing) => None,
    }
}

/// Opens the store at a path to restore a snapshot of the layout called `wanted`. It need not exist; the directory above
/// it must.
///
/// # Errors
/// As [`open`], and when what is there lies in a layout in which the snapshot's documents have other names.
pub fn open_target(path: &Path, reading: Reading, wanted: &str) -> Result<Located> {
    let wanted = match wanted {
        PLAIN => None,
        name => Some(name.parse().map_err(|_| Error::UnknownLayout { layout: name.to_owned() })?),
    };
    let found = find_target(path, reading, wanted)?;
    let layout = match (reading, found.holds) {
        (Reading::Plain, _) => None,
        (Reading::Kylin(layout), _) | (Reading::Detect, Holds::Documents(layout)) => Some(layout),
        (Reading::Detect, Holds::Other) => None,
        (Reading::Detect, Holds::Nothing) => wanted,
    };
    let fits = match (layout, wanted) {
        (None, None) => true,
        (Some(layout), Some(wanted)) => layout.has_same_paths(wanted),
        _ => false,
    };
    if !fits {
        let name = |layout: Option<Layout>| layout.map_or(PLAIN, Layout::name);
        let store = path.display().to_string();
        return Err(Error::OtherLayout { store, layout: name(layout), wanted: name(wanted) });
    }
    Ok(Located::new(found.files, found.place, layout))
}

/// Files at a place, and what they are by their names.
struct FoundFiles {
    files: Box<dyn Files>,
    place: PathBuf,
    holds: Holds,
}

enum Holds {
    Documents(Layout),
    /// Something that is not Kylin's.
    Other,
    Nothing,
}

fn find(path: &Path, reading: Reading) -> Result<FoundFiles> {
    if path.is_file() {
        let failed = |e| Error::io("read", path.display(), e);
        if has_zip_name(path) || starts_as_zip(path).map_err(failed)? {
            return find_zip(path, reading);
        }
        if Packing::of_name(path).is_some() || starts_as_tar(path).map_err(failed)? {
            return find_tar(path, reading);
        }
        return Err(Error::NotADirectory { store: path.display().to_string() });
    }
    let directory = DirectoryStore::open(path)?;
    let names = top_names(directory.root())?;
    let is_empty = names.iter().all(|(name, _)| name.starts_with(STAGING_PREFIX.as_bytes()));
    let detected = match reading {
        Reading::Detect => detect(names.iter().map(|(name, is_folder)| (&name[..], *is_folder))),
        // A zip holds the whole store, whatever lies beside it.
        Reading::Kylin(_) if directory.root().join(ZIP_NAME).is_file() => Detected::Zip,
        Reading::Plain | Reading::Kylin(_) => Detected::Nothing,
    };
    let store = || path.display().to_string();
    let holds = match detected {
        Detected::Zip => {
            let zip = find_zip(&directory.root().join(ZIP_NAME), reading)?;
            if matches!((&zip.holds, reading), (Holds::Other | Holds::Nothing, Reading::Detect)) {
                // A zip of something else, among other files.
                let place = directory.root().to_owned();
                return Ok(FoundFiles { files: Box::new(directory), place, holds: Holds::Other });
            }
            // Where Kylin finds a zip it reads nothing else. Nobody should think that the rest is backed up.
            let other = names
                .iter()
                .map(|(name, _)| &name[..])
                .find(|name| *name != ZIP_NAME.as_bytes() && !name.starts_with(b"."));
            return match other {
                None => Ok(zip),
                Some(other) => Err(Error::ZipAndOthers { store: store(), other: escape(other) }),
            };
        }
        Detected::Documents(Layout::New(Level::Folder)) => {
            let holds = Holds::Documents(Layout::New(Level::Folder));
            if directory.root().join(CORE_FOLDER).join(ZIP_NAME).is_file() {
                let place = directory.root().to_owned();
                return Ok(FoundFiles { files: Box::new(ZippedFolder::open(directory)?), place, holds });
            }
            holds
        }
        Detected::Documents(layout) => Holds::Documents(layout),
        Detected::Backups(names) => return Err(Error::SeveralBackups { store: store(), names }),
        Detected::Mixed => return Err(Error::MixedLayouts { store: store() }),
        Detected::Nothing if is_empty => Holds::Nothing,
        Detected::Nothing => Holds::Other,
    };
    let place = directory.root().to_owned();
    Ok(FoundFiles { files: Box::new(directory), place, holds })
}

fn find_target(path: &Path, reading: Reading, wanted: Option<Layout>) -> Result<FoundFiles> {
    if path.exists() {
        return find(path, reading);
    }
    if has_zip_name(path) {
        // Kylin knows zips of the documents only, not of what lies beside `core_meta`.
        let layout = wanted.map(|wanted| if wanted == Layout::Old { wanted } else { Layout::New(Level::Core) });
        let zip = ZipStore::open_target(path, wanted == Some(Layout::Old))?;
        let place = zip.path().to_owned();
        let holds = layout.map_or(Holds::Nothing, Holds::Documents);
        return Ok(FoundFiles { files: Box::new(zip), place, holds });
    }
    if let Some(packing) = Packing::of_name(path) {
        let tar = TarStore::open_target(path, packing)?;
        let place = tar.path().unwrap_or(path).to_owned();
        return Ok(FoundFiles { files: Box::new(tar), place, holds: Holds::Nothing });
    }
    let directory = DirectoryStore::open_target(path)?;
    let place = directory.root().to_owned();
    Ok(FoundFiles { files: Box::new(directory), place, holds: Holds::Nothing })
}

/// Tells whether a path is that of a zip by its name.
pub fn has_zip_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"))
}

fn starts_as_zip(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(2).read_to_end(&mut start)?;
    Ok(start == b"PK")
}

fn find_zip(path: &Path, reading: Reading) -> Result<FoundFiles> {
    let zip = ZipStore::open(path)?;
    let names = zip.top_names()?;
    let detected = match reading {
        Reading::Detect => detect(names.iter().map(|(name, is_folder)| (&name[..], *is_folder))),
        Reading::Plain | Reading::Kylin(_) => Detected::Nothing,
    };
    let holds = match detected {
        Detected::Documents(layout) => Holds::Documents(layout),
        Detected::Mixed => return Err(Error::MixedLayouts { store: path.display().to_string() }),
        _ if names.is_empty() => Holds::Nothing,
        Detected::Backups(_) | Detected::Zip | Detected::Nothing => Holds::Other,
    };
    let place = zip.path().to_owned();
    Ok(FoundFiles { files: Box::new(zip), place, holds })
}

fn find_tar(path: &Path, reading: Reading) -> Result<FoundFiles> {
    let tar = TarStore::open(path)?;
    let holds = tar_holds(&tar, reading)?;
    let place = tar.path().unwrap_or(path).to_owned();
    Ok(FoundFiles { files: Box::new(tar), place, holds })
}

fn tar_holds(tar: &TarStore, reading: Reading) -> Result<Holds> {
    let names = tar.top_names()?;
    let detected = match reading {
        Reading::Detect => detect(names.iter().map(|(name, is_folder)| (&name[..], *is_folder))),
        Reading::Plain | Reading::Kylin(_) => Detected::Nothing,
    };
    let has_zip = || tar.has([CORE_FOLDER, ZIP_NAME].join("/").as_bytes());
    match detected {
        Detected::Zip => Err(Error::ZipWithin { store: tar.location() }),
        Detected::Documents(Layout::New(Level::Folder)) if has_zip()? => {
            Err(Error::ZipWithin { store: tar.location() })
        }
        Detected::Documents(layout) => Ok(Holds::Documents(layout)),
        Detected::Mixed => Err(Error::MixedLayouts { store: tar.location() }),
        _ if names.is_empty() => Ok(Holds::Nothing),
        Detected::Backups(_) | Detected::Nothing => Ok(Holds::Other),
    }
}

/// Returns the names in a directory, each with whether it is a directory itself.
fn top_names(root: &Path) -> Result<Vec<(Vec<u8>, bool)>> {
    let names = || -> io::Result<Vec<(Vec<u8>, bool)>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().into_encoded_bytes(), entry.file_type()?.is_dir()))
        };
        fs::read_dir(root)?.map(entry).collect()
    };
    names().map_err(|e| Error::io("list", root.display(), e))
}
