//! Documents in a temporary file without a name: on their way from one store to another, complete and verified before
//! anything of the other is touched. It goes away with the program, however that ends.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{
    DocumentStream, Error, Facts, Found, Listing, Outcome, Put, Reader, Result, Source, StagingWriter, find_near,
};
use crate::model::entry::{Document, Encoding, Stamp};
use crate::model::hash::ContentId;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem};

/// What errors call the file.
pub const TEMPORARY_FILE: &str = "a temporary file";

/// A piece of a document that is handed on.
const PIECE_BYTES: u64 = 1 << 20;

/// The file. Threads append to it at once.
#[derive(Debug)]
pub struct SpoolFile {
    file: File,
    end: AtomicU64,
}

impl SpoolFile {
    /// Makes an empty file where temporary ones lie.
    ///
    /// # Errors
    /// When there can be none.
    pub fn new() -> Result<Self> {
        let file = tempfile::tempfile().map_err(|e| Error::io("create", TEMPORARY_FILE, e))?;
        Ok(Self { file, end: AtomicU64::new(0) })
    }

    /// Sets so many bytes aside, and returns where they begin.
    pub fn reserve(&self, length: u64) -> u64 {
        self.end.fetch_add(length, Ordering::Relaxed)
    }

    /// Writes bytes at a place that was set aside.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, bytes: &[u8], start: u64) -> Result<()> {
        self.file.write_all_at(bytes, start).map_err(|e| Error::io("write", TEMPORARY_FILE, e))
    }

    /// Appends bytes, and returns where they begin.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn append(&self, bytes: &[u8]) -> Result<u64> {
        let start = self.reserve(bytes.len() as u64);
        self.write(bytes, start)?;
        Ok(start)
    }

    /// Appends what lies at a place to `content`.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(&self, start: u64, length: u64, content: &mut Vec<u8>) -> Result<()> {
        let before = content.len();
        content.resize(before + usize::try_from(length).expect("documents fit into memory"), 0);
        self.file.read_exact_at(&mut content[before..], start).map_err(|e| {
            content.truncate(before);
            Error::io("read", TEMPORARY_FILE, e)
        })
    }
}

/// A document in the file.
#[derive(Debug, Clone)]
struct Spooled {
    path: EntryPath,
    content: ContentId,
    start: u64,
    length: u64,
    time_ns: i64,
}

/// Documents that are being collected.
#[derive(Debug)]
pub struct Spool {
    file: SpoolFile,
    documents: Mutex<Vec<Spooled>>,
}

impl Spool {
    /// Begins with none.
    ///
    /// # Errors
    /// When there can be no temporary file.
    pub fn new() -> Result<Self> {
        Ok(Self { file: SpoolFile::new()?, documents: Mutex::default() })
    }

    /// Adds a document, last changed at a time in nanoseconds since 1970.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn put(&self, path: EntryPath, content: &[u8], time_ns: i64) -> Result<()> {
        let start = self.file.append(content)?;
        let spooled = Spooled { path, content: ContentId::of(content), start, length: content.len() as u64, time_ns };
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).push(spooled);
        Ok(())
    }

    /// Hands over the paths so far, in no order.
    pub fn each_path(&self, take: impl FnMut(&EntryPath)) {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.iter().map(|document| &document.path).for_each(take);
    }

    /// Returns the documents as a store that calls itself `location`. The problems are those of the store they come of.
    pub fn finish(self, location: String, layout: &'static str, problems: Vec<Problem>) -> SpoolStore {
        let mut documents = self.documents.into_inner().unwrap_or_else(PoisonError::into_inner);
        documents.sort_unstable_by(|a, b| (&a.path, a.time_ns, a.content).cmp(&(&b.path, b.time_ns, b.content)));
        SpoolStore { inner: Arc::new(Inner { file: self.file, documents, location, layout, problems }) }
    }
}

/// Documents that were collected, sorted by path.
#[derive(Debug, Clone)]
pub struct SpoolStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: SpoolFile,
    documents: Vec<Spooled>,
    location: String,
    layout: &'static str,
    problems: Vec<Problem>,
}

impl SpoolStore {
    /// Returns how many documents there are, and how many bytes.
    pub fn totals(&self) -> (u64, u64) {
        (self.inner.documents.len() as u64, self.inner.documents.iter().map(|document| document.length).sum())
    }

    /// Returns the first path that several documents have.
    pub fn duplicate(&self) -> Option<&EntryPath> {
        self.inner.documents.windows(2).find(|pair| pair[0].path == pair[1].path).map(|pair| &pair[0].path)
    }

    /// Returns the paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &EntryPath> {
        self.inner.documents.iter().map(|document| &document.path)
    }

    /// Returns what is to be put into a store that has nothing.
    pub fn puts(&self) -> Vec<Put> {
        let put = |spooled: &Spooled| Put {
            path: spooled.path.clone(),
            document: Some(spooled.document()),
            mode: None,
            encoding: Encoding::Plain,
            time_ns: spooled.time_ns,
            replaces: None,
        };
        self.inner.documents.iter().map(put).collect()
    }

    /// Hands the n-th of [`SpoolStore::puts`] to a writer, and checks that it is what it was.
    ///
    /// # Errors
    /// When the temporary file can't be read, or the writer can't write.
    pub fn write(&self, n: usize, writer: &mut dyn StagingWriter) -> Result<()> {
        let spooled = &self.inner.documents[n];
        let (mut hasher, mut piece) = (blake3::Hasher::new(), Vec::new());
        writer.begin(n)?;
        let mut at = 0;
        while at < spooled.length {
            let length = PIECE_BYTES.min(spooled.length - at);
            piece.clear();
            self.inner.file.read(spooled.start + at, length, &mut piece)?;
            hasher.update(&piece);
            writer.append(&piece)?;
            at += length;
        }
        spooled.verify(ContentId::from_bytes(*hasher.finalize().as_bytes()))?;
        writer.finish()
    }
}

impl Spooled {
    fn document(&self) -> Document {
        Document { content: self.content, size: self.length, pieces: Box::default() }
    }

    /// The stamp proves nothing: there is no telling what the documents are made of.
    fn stamp(&self) -> Stamp {
        Stamp { time_ns: self.time_ns, ..Stamp::default() }
    }

    fn verify(&self, content: ContentId) -> Result<()> {
        if content == self.content {
            return Ok(());
        }
        let what = format!("{} is not what was written", self.path);
        Err(Error::Damaged { store: TEMPORARY_FILE.to_owned(), what })
    }
}

impl Source for SpoolStore {
    fn location(&self) -> String {
        self.inner.location.clone()
    }

    fn layout(&self) -> &'static str {
        self.inner.layout
    }

    fn scan(&self, scope: &Scope, _: &dyn Monitor) -> Result<Box<dyn Listing>> {
        let documents = &self.inner.documents;
        let range = match scope.prefix() {
            None => 0..documents.len(),
            Some(project) => {
                // A project is one range of paths.
                let of_project = |spooled: &Spooled| spooled.path.is_within(project);
                let start = documents.iter().position(of_project).unwrap_or(documents.len());
                let count = documents[start..].iter().take_while(|spooled| of_project(spooled)).count();
                start..start + count
            }
        };
        Ok(Box::new(SpoolListing { inner: Arc::clone(&self.inner), range }))
    }
}

struct SpoolListing {
    inner: Arc<Inner>,
    range: Range<usize>,
}

impl SpoolListing {
    fn documents(&self) -> &[Spooled] {
        &self.inner.documents[self.range.clone()]
    }
}

impl Listing for SpoolListing {
    fn len(&self) -> usize {
        self.range.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        self.documents()[n].path.clone()
    }

    fn facts(&self, n: usize) -> Facts {
        let spooled = &self.documents()[n];
        Facts { size: Some(spooled.length), mode: None, encoding: Encoding::Plain, stamp: spooled.stamp() }
    }

    fn found(&self, n: usize) -> Found {
        let Facts { size, mode, encoding, stamp } = self.facts(n);
        Found { path: self.path(n), size, mode, encoding, stamp }
    }

    fn find(&self, path: &EntryPath, near: usize) -> Option<usize> {
        find_near(self.len(), near, |n| self.documents()[n].path.cmp(path))
    }

    fn obstacles(&self) -> &[EntryPath] {
        &[]
    }

    fn hides(&self, _: &EntryPath) -> bool {
        false
    }

    fn problems(&self) -> &[Problem] {
        &self.inner.problems
    }

    fn is_racy(&self, _: &Stamp) -> bool {
        false
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        Box::new(SpoolReader { listing: self })
    }

    fn check_still_there(&self) -> Result<()> {
        Ok(())
    }
}

struct SpoolReader<'a> {
    listing: &'a SpoolListing,
}

impl Reader for SpoolReader<'_> {
    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome> {
        let spooled = &self.listing.documents()[n];
        if spooled.length > bytes_max {
            return Ok(Outcome::TooLarge);
        }
        let before = content.len();
        self.listing.inner.file.read(spooled.start, spooled.length, content)?;
        spooled.verify(ContentId::of(&content[before..]))?;
        Ok(Outcome::Read(spooled.stamp()))
    }

    fn stream(&mut self, n: usize) -> Result<Box<dyn DocumentStream>> {
        let inner = Arc::clone(&self.listing.inner);
        Ok(Box::new(SpoolStream { inner, n: self.listing.range.start + n, at: 0, hasher: blake3::Hasher::new() }))
    }
}

struct SpoolStream {
    inner: Arc<Inner>,
    n: usize,
    at: u64,
    hasher: blake3::Hasher,
}

impl Read for SpoolStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let spooled = &self.inner.documents[self.n];
        let left = usize::try_from(spooled.length - self.at).unwrap_or(usize::MAX);
        let length = bytes.len().min(left);
        self.inner.file.file.read_exact_at(&mut bytes[..length], spooled.start + self.at)?;
        self.hasher.update(&bytes[..length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl DocumentStream for SpoolStream {
    fn finish(self: Box<Self>) -> Result<Option<Stamp>> {
        let spooled = &self.inner.documents[self.n];
        spooled.verify(ContentId::from_bytes(*self.hasher.finalize().as_bytes()))?;
        Ok(Some(spooled.stamp()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Silent;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn spool() -> SpoolStore {
        let spool = Spool::new().unwrap();
        for (name, content) in [("q/b", "2"), ("p/b", "1"), ("p/a", ""), ("r", "3")] {
            spool.put(path(name), content.as_bytes(), 7).unwrap();
        }
        spool.finish("somewhere".to_owned(), super::super::PLAIN, Vec::new())
    }

    #[test]
    fn documents_come_back_sorted() {
        let store = spool();
        assert_eq!((store.totals(), store.duplicate()), ((4, 3), None));
        let listing = store.scan(&Scope::System, &Silent).unwrap();
        let paths: Vec<String> = (0..listing.len()).map(|n| listing.path(n).to_string()).collect();
        assert_eq!(paths, ["p/a", "p/b", "q/b", "r"]);
        let (mut content, mut reader) = (b"before ".to_vec(), listing.reader());
        let stamp = Stamp { time_ns: 7, ..Stamp::default() };
        assert_eq!(reader.read(2, 1, &mut content).unwrap(), Outcome::Read(stamp));
        assert_eq!(content, b"before 2");
        assert_eq!(reader.read(2, 0, &mut content).unwrap(), Outcome::TooLarge);
        let mut stream = reader.stream(3).unwrap();
        content.clear();
        stream.read_to_end(&mut content).unwrap();
        assert_eq!((content.as_slice(), stream.finish().unwrap()), (&b"3"[..], Some(stamp)));
    }

    #[test]
    fn a_project_is_listed_alone() {
        let scope = Scope::project("q").unwrap();
        let listing = spool().scan(&scope, &Silent).unwrap();
        assert_eq!((listing.len(), listing.path(0)), (1, path("q/b")));
        let mut content = Vec::new();
        listing.reader().read(0, 9, &mut content).unwrap();
        assert_eq!(content, b"2");
        assert_eq!(listing.find(&path("q/b"), 0), Some(0));
    }

    #[test]
    fn what_is_there_twice_is_told() {
        let spool = Spool::new().unwrap();
        for content in ["1", "2"] {
            spool.put(path("a"), content.as_bytes(), 0).unwrap();
        }
        let store = spool.finish(String::new(), super::super::PLAIN, Vec::new());
        assert_eq!(store.duplicate(), Some(&path("a")));
    }
}
