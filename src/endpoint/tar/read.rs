//! Reading the documents of an archive.

use std::io::{self, Read};
use std::sync::Arc;

use super::archive::{Archive, Member};
use super::scan::TarListing;
use crate::endpoint::{DocumentStream, Outcome, Reader, Result};
use crate::model::entry::Stamp;

/// Reads documents, for one thread.
pub(super) struct TarReader<'a> {
    pub listing: &'a TarListing,
}

impl Reader for TarReader<'_> {
    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome> {
        let (archive, member) = self.listing.place(n);
        if member.size > bytes_max {
            return Ok(Outcome::TooLarge);
        }
        let start = content.len();
        // No more than the archive has: it was checked to be that long.
        content.resize(start + usize::try_from(member.size).unwrap_or(usize::MAX), 0);
        if let Err(error) = fill(archive, member, &mut content[start..]) {
            content.truncate(start);
            return Err(error);
        }
        Ok(Outcome::Read(self.listing.stamp(archive, member)))
    }

    fn stream(&mut self, n: usize) -> Result<Box<dyn DocumentStream>> {
        let (archive, member) = self.listing.place(n);
        let stamp = self.listing.stamp(archive, member);
        Ok(Box::new(TarStream { archive: Arc::clone(archive), member: *member, stamp, at: 0 }))
    }
}

fn fill(archive: &Archive, member: &Member, out: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < out.len() {
        filled += archive.read_some(member, filled as u64, &mut out[filled..])?;
    }
    Ok(())
}

/// A document being read piece by piece.
struct TarStream {
    archive: Arc<Archive>,
    member: Member,
    stamp: Stamp,
    at: u64,
}

impl Read for TarStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.archive.read_some(&self.member, self.at, buffer).map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl DocumentStream for TarStream {
    fn finish(self: Box<Self>) -> Result<Option<Stamp>> {
        // That the file is still the one that was listed is checked when all was read.
        Ok((self.at == self.member.size).then_some(self.stamp))
    }
}
