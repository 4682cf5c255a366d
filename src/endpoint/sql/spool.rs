//! Documents on their way into a database: verified and complete in a file without a name before the transaction begins,
//! so that it is short, and can be tried again.

use std::io::{self, Read, Seek, Write};
use std::sync::{Mutex, PoisonError};

use crate::endpoint::spool::{SpoolFile, TEMPORARY_FILE};
use crate::endpoint::{Error, Result, StagingWriter};

/// A document is held in memory up to this size until it is complete.
const HELD_BYTES_MAX: usize = 8 << 20;
/// Bytes that are copied at once.
const COPIED_BYTES: usize = 1 << 16;

/// The file.
pub(super) struct Spool {
    file: SpoolFile,
    /// Where each document begins, and how many bytes it has.
    places: Mutex<Vec<Option<(u64, u64)>>>,
}

fn failed(error: io::Error) -> Error {
    Error::io("write", TEMPORARY_FILE, error)
}

impl Spool {
    /// Returns a spool for so many documents.
    pub(super) fn new(count: usize) -> Result<Self> {
        Ok(Self { file: SpoolFile::new()?, places: Mutex::new(vec![None; count]) })
    }

    /// Returns the n-th document.
    pub(super) fn read(&self, n: usize) -> Result<Vec<u8>> {
        let place = self.places.lock().unwrap_or_else(PoisonError::into_inner)[n];
        let (start, length) = place.expect("all documents are written before the change is made");
        let mut content = Vec::new();
        self.file.read(start, length, &mut content)?;
        Ok(content)
    }

    pub(super) fn writer(&self) -> SpoolWriter<'_> {
        SpoolWriter { spool: self, n: 0, content: tempfile::spooled_tempfile(HELD_BYTES_MAX), length: 0 }
    }
}

/// Writes documents, one at a time.
pub(super) struct SpoolWriter<'a> {
    spool: &'a Spool,
    n: usize,
    content: tempfile::SpooledTempFile,
    length: u64,
}

impl StagingWriter for SpoolWriter<'_> {
    fn begin(&mut self, n: usize) -> Result<()> {
        self.n = n;
        self.length = 0;
        self.content.set_len(0).and_then(|()| self.content.rewind()).map_err(failed)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        self.content.write_all(bytes).map_err(failed)
    }

    fn finish(&mut self) -> Result<()> {
        self.content.rewind().map_err(failed)?;
        let start = self.spool.file.reserve(self.length);
        let (mut at, mut piece) = (start, vec![0; COPIED_BYTES]);
        loop {
            let length = self.content.read(&mut piece).map_err(failed)?;
            if length == 0 {
                break;
            }
            self.spool.file.write(&piece[..length], at)?;
            at += length as u64;
        }
        assert_eq!(at - start, self.length, "what was written comes back");
        self.spool.places.lock().unwrap_or_else(PoisonError::into_inner)[self.n] = Some((start, self.length));
        Ok(())
    }
}
