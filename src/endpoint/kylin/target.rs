//! Changing the files of a store that goes by paths.

use std::collections::BTreeSet;

use crate::endpoint::{Error, Listing, Names, Put, Removal, Result, Staging, StagingWriter};
use crate::model::path::EntryPath;
use crate::monitor::Monitor;

/// Refuses to put documents where something is that is none: a directory, a symlink, a socket.
pub(super) fn require_free(files: &dyn Listing, puts: &[Put], names: Names<'_>) -> Result<()> {
    let obstacles: BTreeSet<&[u8]> = files.obstacles().iter().map(EntryPath::as_bytes).collect();
    let mut near = 0;
    for put in puts.iter().filter(|put| put.replaces.is_none()) {
        let name = names(&put.path);
        let found = files.find(&name, near);
        near = found.unwrap_or(near);
        let mut above = std::iter::successors(Some(name.clone()), EntryPath::parent);
        let obstacle =
            if found.is_some() { Some(name.clone()) } else { above.find(|above| obstacles.contains(above.as_bytes())) };
        if let Some(obstacle) = obstacle {
            return Err(Error::InTheWay { path: obstacle.to_string() });
        }
    }
    Ok(())
}

/// A change of the files. Folders that lose their last document stay: their permissions would be lost with them.
pub(super) struct KylinStaging<'a> {
    pub staging: Box<dyn Staging + 'a>,
    pub names: Names<'a>,
}

impl Staging for KylinStaging<'_> {
    fn writer(&self) -> Box<dyn StagingWriter + '_> {
        self.staging.writer()
    }

    fn commit(self: Box<Self>, removals: &[Removal], monitor: &dyn Monitor) -> Result<()> {
        let by_name = removals.iter().map(|removal| Removal { path: (self.names)(&removal.path), ..*removal });
        let mut by_name: Vec<Removal> = by_name.collect();
        by_name.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.staging.commit(&by_name, monitor)
    }
}
