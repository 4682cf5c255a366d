//! Names before 5.0.0: a folder for each project.

use super::{BESIDE, FILES, GLOBAL, OLD_PERMISSIONS, Place, SUFFIX, UNPLACED, is_project, strip_folder};
use crate::model::path::EntryPath;

/// Returns the project whose document an old name is that of.
pub(super) fn is_old_project_document(name: &EntryPath) -> Option<&[u8]> {
    let file = strip_folder(name.as_bytes(), GLOBAL).and_then(|name| strip_folder(name, "project"))?;
    file.strip_suffix(SUFFIX).filter(|project| is_project(project))
}

/// Tells whether an old name, taken as a path, would be taken for something else.
pub(super) fn is_ambiguous_old(name: &EntryPath) -> bool {
    let mut parts = name.parts();
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if [FILES, UNPLACED, BESIDE].map(str::as_bytes).contains(&first) {
        return true;
    }
    let is_own_document = || third.and_then(|file| file.strip_suffix(SUFFIX)) == Some(first);
    match second {
        Some(b"project") => is_project(first) && is_own_document() && parts.next().is_none(),
        Some(kind) => is_project(first) && kind == OLD_PERMISSIONS.as_bytes(),
        None => false,
    }
}

pub(super) fn place_old(name: &EntryPath) -> Place {
    if let Some(project) = is_old_project_document(name) {
        return Place::At(EntryPath::joined(&[project, b"project", name.name()]));
    }
    if let Some(uuid) = strip_folder(name.as_bytes(), GLOBAL).and_then(|name| strip_folder(name, "acl"))
        && !uuid.contains(&b'/')
    {
        return Place::OfProject(uuid.into());
    }
    Place::At(if is_ambiguous_old(name) {
        EntryPath::joined(&[FILES.as_bytes(), name.as_bytes()])
    } else {
        name.clone()
    })
}

pub(super) fn name_of_old(path: &EntryPath) -> Option<EntryPath> {
    if let Some(name) = strip_folder(path.as_bytes(), FILES) {
        return Some(EntryPath::joined(&[name]));
    }
    if !is_ambiguous_old(path) {
        return Some(path.clone());
    }
    match path.kind()? {
        b"project" => Some(EntryPath::joined(&[GLOBAL.as_bytes(), b"project", path.name()])),
        kind if kind == OLD_PERMISSIONS.as_bytes() => {
            Some(EntryPath::joined(&[GLOBAL.as_bytes(), b"acl", path.name()]))
        }
        _ => None,
    }
}
