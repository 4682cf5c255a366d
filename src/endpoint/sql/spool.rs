//! Documents on their way into a database: verified and complete in a file without a name before the transaction begins,
//! so that it is short, and can be tried again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use crate::endpoint::{Error, Result, StagingWriter};

/// A document is held in memory up to this size until it is complete.
const HELD_BYTES_MAX: usize = 8 << 20;

/// The file.
pub(super) struct Spool {
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    end: u64,
    /// Where each document begins, and how many bytes it has.
    places: Vec<Option<(u64, u64)>>,
}

fn failed(error: io::Error) -> Error {
    Error::io("write", "a temporary file", error)
}

impl Spool {
    /// Returns a spool for so many documents.
    pub(super) fn new(count: usize) -> Result<Self> {
        let file = tempfile::tempfile().map_err(failed)?;
        Ok(Self { inner: Mutex::new(Inner { file, end: 0, places: vec![None; count] }) })
    }

    /// Returns the n-th document.
    pub(super) fn read(&self, n: usize) -> Result<Vec<u8>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, length) = inner.places[n].expect("all documents are written before the change is made");
        let mut content = vec![0; usize::try_from(length).expect("documents fit into memory")];
        inner.file.read_exact_at(&mut content, start).map_err(|error| Error::io("read", "a temporary file", error))?;
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
        let mut inner = self.spool.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { file, end, places } = &mut *inner;
        let start = *end;
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let copied = io::copy(&mut Read::by_ref(&mut self.content).take(self.length), file).map_err(failed)?;
        *end += copied;
        places[self.n] = Some((start, copied));
        Ok(())
    }
}
