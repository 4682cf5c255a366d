//! Names of 5.0.0 and later: a folder for each type.

use super::{
    BESIDE, CORE_FOLDER, FILES, GLOBAL, Layout, Level, Place, SIDE_FOLDERS, SUFFIX, UNPLACED, is_project, strip_folder,
};
use crate::model::path::EntryPath;
use crate::platform::kylin::kind::{Home, Kind};

/// Splits the name of a new document into its kind, the folder's spelling of that, and the key.
pub(super) fn split_document(name: &[u8], layout: Layout) -> Option<(Kind, &[u8], &[u8])> {
    let name = match layout {
        Layout::New(Level::Core) => name,
        Layout::New(Level::Folder) => strip_folder(name, CORE_FOLDER)?,
        Layout::Old => return None,
    };
    let mut parts = name.split(|byte| *byte == b'/');
    let (folder, file) = (parts.next()?, parts.next()?);
    let key = file.strip_suffix(SUFFIX).filter(|key| !key.is_empty() && *key != b"." && *key != b"..")?;
    if parts.next().is_some() {
        return None;
    }
    Some((Kind::of_folder(folder)?, folder, key))
}

pub(super) fn place_in_core(name: &[u8]) -> Place {
    let Some((kind, folder, key)) = split_document(name, Layout::New(Level::Core)) else {
        return Place::At(EntryPath::joined(&[FILES.as_bytes(), name]));
    };
    match kind.facts().home {
        Home::Global => Place::At(EntryPath::joined(&[GLOBAL.as_bytes(), folder, key])),
        Home::Key => {
            Place::At(EntryPath::joined(&[if is_project(key) { key } else { UNPLACED.as_bytes() }, folder, key]))
        }
        Home::ProjectUuid => Place::OfProject(key.into()),
        Home::Field(_) => Place::InContent,
    }
}

pub(super) fn place_beside(name: &EntryPath) -> EntryPath {
    let parts: Vec<&[u8]> = name.parts().collect();
    if let [folder, project, file] = parts[..]
        && SIDE_FOLDERS.map(str::as_bytes).contains(&folder)
        && is_project(project)
        && let Some(key) = file.strip_suffix(SUFFIX)
        && EntryPath::new(key).is_ok()
    {
        return EntryPath::joined(&[project, folder, key]);
    }
    EntryPath::joined(&[BESIDE.as_bytes(), name.as_bytes()])
}

pub(super) fn name_of_new(path: &EntryPath, level: Level) -> Option<EntryPath> {
    let in_core = |name: &[u8]| match level {
        Level::Core => EntryPath::joined(&[name]),
        Level::Folder => EntryPath::joined(&[CORE_FOLDER.as_bytes(), name]),
    };
    if let Some(name) = strip_folder(path.as_bytes(), FILES) {
        return Some(in_core(name));
    }
    if let Some(name) = strip_folder(path.as_bytes(), BESIDE) {
        return (level == Level::Folder).then(|| EntryPath::joined(&[name]));
    }
    let parts: Vec<&[u8]> = path.parts().collect();
    let [project, kind, key] = parts[..] else { return None };
    let file = [key, SUFFIX].concat();
    if SIDE_FOLDERS.map(str::as_bytes).contains(&kind) {
        return (level == Level::Folder).then(|| EntryPath::joined(&[kind, project, &file]));
    }
    Kind::of_folder(kind).map(|_| in_core(&[kind, &b"/"[..], &file].concat()))
}
