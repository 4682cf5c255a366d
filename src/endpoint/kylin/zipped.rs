//! The folder of a backup whose documents are in `core_meta/metadata.zip`, with jobs, rules and offsets beside it.

use crate::endpoint::directory::DirectoryStore;
use crate::endpoint::zip::ZipStore;
use crate::endpoint::{
    DocumentStream, Error, Facts, Files, Listing, Names, Outcome, Put, Reader, Result, Source, Staging, Target,
};
use crate::model::entry::Stamp;
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity};
use crate::platform::kylin::detect::ZIP_NAME;
use crate::platform::kylin::layout::{CORE_FOLDER, NAME_BYTES_MAX};

/// A folder with a zip in it, seen as if the zip were unpacked where it is. It can't be written.
pub struct ZippedFolder {
    folder: DirectoryStore,
    zip: ZipStore,
}

impl ZippedFolder {
    /// Returns the folder; the zip must be there.
    ///
    /// # Errors
    /// When there is no such zip.
    pub fn open(folder: DirectoryStore) -> Result<Self> {
        let zip = ZipStore::open(&folder.root().join(CORE_FOLDER).join(ZIP_NAME))?;
        Ok(Self { folder, zip })
    }
}

impl Source for ZippedFolder {
    fn location(&self) -> String {
        self.folder.location()
    }

    fn scan(&self, _: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        let zip = self.zip.scan(&Scope::System, monitor)?;
        let folder = self.folder.scan(&Scope::System, monitor)?;
        let too_long = |n: usize| zip.path(n).as_bytes().len() > NAME_BYTES_MAX;
        if (0..zip.len()).any(too_long) {
            let what = "a name is too long for a document".to_owned();
            return Err(Error::Damaged { store: self.zip.location(), what });
        }
        Ok(Box::new(ZippedListing::new(zip, folder, monitor)))
    }
}

impl Target for ZippedFolder {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        self.scan(scope, monitor)
    }

    fn begin<'a>(&'a self, _: &'a dyn Listing, _: &'a [Put]) -> Result<Box<dyn Staging + 'a>> {
        Err(Error::ReadOnly { store: self.location(), why: "its documents are in a zip, and others beside it" })
    }
}

impl Files for ZippedFolder {
    fn begin_named<'a>(
        &'a self,
        listing: &'a dyn Listing,
        puts: &'a [Put],
        _: Names<'a>,
    ) -> Result<Box<dyn Staging + 'a>> {
        self.begin(listing, puts)
    }
}

/// The entries of the zip, then those of the folder that are not where the zip is.
struct ZippedListing {
    zip: Box<dyn Listing>,
    folder: Box<dyn Listing>,
    /// The numbers of the folder's entries that count, ascending.
    beside: Vec<u32>,
    problems: Vec<Problem>,
}

impl ZippedListing {
    fn new(zip: Box<dyn Listing>, folder: Box<dyn Listing>, monitor: &dyn Monitor) -> Self {
        let mut listing = Self { problems: folder.problems().to_vec(), zip, folder, beside: Vec::new() };
        let zip_name = [CORE_FOLDER, ZIP_NAME].join("/");
        for n in listing.folder.numbers() {
            let found = listing.folder.found(n as usize);
            if !found.path.is_within(CORE_FOLDER.as_bytes()) {
                listing.beside.push(n);
            } else if found.size.is_some() && found.path.as_bytes() != zip_name.as_bytes() {
                let what = format!("it lies beside {ZIP_NAME}, and where that is, Kylin reads nothing else");
                let problem = Problem { severity: Severity::Skipped, path: found.path.to_string(), what };
                monitor.problem(&problem);
                listing.problems.push(problem);
            }
        }
        listing
    }

    /// Returns the listing an entry is in, and its number there.
    fn place(&self, n: usize) -> (&dyn Listing, usize) {
        match n.checked_sub(self.zip.len()) {
            None => (&*self.zip, n),
            Some(n) => (&*self.folder, self.beside[n] as usize),
        }
    }
}

impl Listing for ZippedListing {
    fn len(&self) -> usize {
        self.zip.len() + self.beside.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        let (listing, number) = self.place(n);
        let path = listing.path(number);
        if n >= self.zip.len() {
            return path;
        }
        let path = [CORE_FOLDER.as_bytes(), path.as_bytes()].join(&b'/');
        EntryPath::new(path).expect("a path below a folder is one")
    }

    fn facts(&self, n: usize) -> Facts {
        let (listing, number) = self.place(n);
        listing.facts(number)
    }

    fn find(&self, path: &EntryPath, near: usize) -> Option<usize> {
        if let Some(name) = path.as_bytes().strip_prefix(CORE_FOLDER.as_bytes()) {
            let name = EntryPath::new(name.strip_prefix(b"/")?).ok()?;
            return self.zip.find(&name, near);
        }
        let found = u32::try_from(self.folder.find(path, 0)?).ok()?;
        self.beside.binary_search(&found).ok().map(|at| self.zip.len() + at)
    }

    fn obstacles(&self) -> &[EntryPath] {
        self.folder.obstacles()
    }

    fn hides(&self, path: &EntryPath) -> bool {
        self.folder.hides(path)
    }

    fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn is_racy(&self, stamp: &Stamp) -> bool {
        // The zip looks at itself, whatever the stamp: with it all that is in it is as good as just written.
        self.zip.is_racy(stamp) || self.folder.is_racy(stamp)
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        Box::new(ZippedReader { listing: self, zip: self.zip.reader(), folder: self.folder.reader() })
    }

    fn check_still_there(&self) -> Result<()> {
        self.zip.check_still_there()?;
        self.folder.check_still_there()
    }
}

struct ZippedReader<'a> {
    listing: &'a ZippedListing,
    zip: Box<dyn Reader + 'a>,
    folder: Box<dyn Reader + 'a>,
}

impl ZippedReader<'_> {
    fn reader(&mut self, n: usize) -> (&mut dyn Reader, usize) {
        let (_, number) = self.listing.place(n);
        (if n < self.listing.zip.len() { &mut *self.zip } else { &mut *self.folder }, number)
    }
}

impl Reader for ZippedReader<'_> {
    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome> {
        let (reader, n) = self.reader(n);
        reader.read(n, bytes_max, content)
    }

    fn stream(&mut self, n: usize) -> Result<Box<dyn DocumentStream>> {
        let (reader, n) = self.reader(n);
        reader.stream(n)
    }
}
