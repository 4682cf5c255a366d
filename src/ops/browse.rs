//! Looking into a snapshot: its entries, and the content of one document.

use std::io::Write;

use super::fetch::verify_whole;
use super::{Error, Result, require_scope};
use crate::model::entry::Entry;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::repo::Repository;
use crate::repo::format::pack::FrameKind;
use crate::repo::snapshot::Snapshot;

/// Hands the entries of a snapshot at `path` and below it (all, if there is no path) to `take`, in path order.
///
/// # Errors
/// When the snapshot does not hold the scope, has nothing at the path, or the repository can't be read.
pub fn list(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    path: Option<&EntryPath>,
    mut take: impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let tree = repo.tree(&snapshot.manifest.tree)?;
    if *scope != Scope::System {
        require_scope(snapshot, &tree, scope)?;
    }
    let mut is_empty = true;
    // A path lies in one project: only that part of the tree is read.
    let within = match (scope, path.and_then(EntryPath::project)) {
        (Scope::System, Some(project)) => Scope::Project(EntryPath::new(project).expect("a part of a path is one")),
        _ => scope.clone(),
    };
    for entry in repo.entries(&tree, &within) {
        let entry = entry?;
        if path.is_none_or(|path| entry.path.is_within(path.as_bytes())) {
            is_empty = false;
            take(entry)?;
        }
    }
    match path {
        Some(path) if is_empty => Err(Error::NoDocument { snapshot: snapshot.id.short(), path: path.clone() }),
        _ => Ok(()),
    }
}

/// Writes the content of one document of a snapshot to `output`.
///
/// # Errors
/// When there is no such document, or something of it is missing or damaged: then what was written so far is sound.
pub fn cat(repo: &Repository, snapshot: &Snapshot, path: &EntryPath, output: &mut dyn Write) -> Result<()> {
    let tree = repo.tree(&snapshot.manifest.tree)?;
    let entry = repo.entry(&tree, path)?;
    let document = entry.as_ref().and_then(Entry::document);
    let document = document.ok_or_else(|| Error::NoDocument { snapshot: snapshot.id.short(), path: path.clone() })?;
    let mut whole = blake3::Hasher::new();
    for chunk in document.chunks() {
        let bytes = repo.read_chunk(FrameKind::Documents, &chunk)?;
        whole.update(&bytes);
        output.write_all(&bytes).map_err(Error::Output)?;
    }
    verify_whole(&whole, document)?;
    output.flush().map_err(Error::Output)
}
