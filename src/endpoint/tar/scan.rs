//! Listing an archive: all of its headers are checked, whatever the scope; the listing shows what is in the scope.

use std::ops::Range;
use std::sync::Arc;

use super::archive::{Archive, Member};
use super::format::Kind;
use super::read::TarReader;
use crate::endpoint::directory::is_recent;
use crate::endpoint::zip::State;
use crate::endpoint::{Error, Facts, Listing, Reader, Result, find_near};
use crate::model::entry::{Encoding, Stamp};
use crate::model::path::{EntryPath, compare};
use crate::model::scope::Scope;
use crate::monitor::Problem;

/// The entries of a tar.
pub(super) struct TarListing {
    /// Nothing when there is none yet.
    archive: Option<Arc<Archive>>,
    /// The entries of the scope among those of the archive.
    entries: Range<usize>,
    scan_ns: i64,
}

impl TarListing {
    /// Lists the entries of a scope.
    pub(super) fn new(archive: Arc<Archive>, scope: &Scope, scan_ns: i64) -> Result<Self> {
        let entries = match scope.prefix() {
            None => 0..archive.members.len(),
            Some(project) => within(&archive, project),
        };
        // A document in the place of a project is none.
        let is_project = |first: &Member| first.kind == Kind::Directory || Some(archive.name(first)) != scope.prefix();
        if *scope != Scope::System && !archive.members[entries.clone()].first().is_some_and(is_project) {
            return Err(Error::NoProject { store: archive.store.clone(), scope: scope.clone() });
        }
        Ok(Self { archive: Some(archive), entries, scan_ns })
    }

    /// Returns the listing of an archive without anything in the scope, or of none at all.
    pub(super) fn nothing(archive: Option<Arc<Archive>>) -> Self {
        Self { archive, entries: 0..0, scan_ns: 0 }
    }

    /// Returns the n-th entry and the archive it is in.
    pub(super) fn place(&self, n: usize) -> (&Arc<Archive>, &Member) {
        let archive = self.archive.as_ref().expect("there are no entries without an archive");
        (archive, &archive.members[self.entries.clone()][n])
    }

    /// Returns the stamp of an entry. It proves nothing unless the archive as a whole is unchanged.
    pub(super) fn stamp(&self, archive: &Archive, member: &Member) -> Stamp {
        let stamp = Stamp { time_ns: member.time_ns, ..Stamp::default() };
        let Some((_, state)) = &archive.origin else { return stamp };
        // Spread, so that two archives and two places in them do not add up to the same.
        let identity = state.inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ member.offset;
        Stamp { version: state.changed_ns, identity, ..stamp }
    }
}

/// Returns the entries at a path and below it.
fn within(archive: &Archive, path: &[u8]) -> Range<usize> {
    let members = &archive.members;
    let start = members.partition_point(|member| compare(archive.name(member), path).is_lt());
    let is_within =
        |member: &Member| archive.name(member).strip_prefix(path).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    let count = members[start..].partition_point(is_within);
    start..start + count
}

impl Listing for TarListing {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        let (archive, member) = self.place(n);
        EntryPath::new(archive.name(member)).expect("names were checked when the archive was opened")
    }

    fn facts(&self, n: usize) -> Facts {
        let (archive, member) = self.place(n);
        let size = (member.kind == Kind::Document).then_some(member.size);
        Facts { size, mode: Some(member.mode), encoding: Encoding::Plain, stamp: self.stamp(archive, member) }
    }

    fn find(&self, path: &EntryPath, near: usize) -> Option<usize> {
        let archive = self.archive.as_ref()?;
        let members = &archive.members[self.entries.clone()];
        find_near(members.len(), near, |n| compare(archive.name(&members[n]), path.as_bytes()))
    }

    fn obstacles(&self) -> &[EntryPath] {
        self.archive.as_ref().map_or(&[], |archive| &archive.obstacles)
    }

    fn hides(&self, _: &EntryPath) -> bool {
        false
    }

    fn problems(&self) -> &[Problem] {
        self.archive.as_ref().map_or(&[], |archive| &archive.problems)
    }

    fn is_racy(&self, _: &Stamp) -> bool {
        // The times of entries are what their writer says. What moves with every change is the file.
        let state = self.archive.as_ref().and_then(|archive| archive.origin.as_ref().map(|(_, state)| *state));
        state.is_none_or(|state| is_recent(state.modified_ns, state.changed_ns, self.scan_ns))
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        Box::new(TarReader { listing: self })
    }

    fn check_still_there(&self) -> Result<()> {
        let Some(archive) = &self.archive else { return Ok(()) };
        let Some((path, state)) = &archive.origin else { return Ok(()) };
        match State::at(path).map_err(|e| Error::io("find any more", &archive.store, e))? {
            Some(now) if now == *state => Ok(()),
            _ => Err(Error::Changed { path: archive.store.clone() }),
        }
    }
}
