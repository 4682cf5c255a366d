//! The files of a store, each under the path that the layout gives it.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use rayon::prelude::*;

use crate::endpoint::{DocumentStream, Error, Facts, Listing, Outcome, Reader, Result};
use crate::model::entry::{Entry, Stamp};
use crate::model::path::EntryPath;
use crate::model::scope::Scope;
use crate::monitor::{Problem, Severity};
use crate::platform::kylin::content::{NoField, text_field, text_field_of_stream};
use crate::platform::kylin::layout::{GLOBAL, Layout, NAME_BYTES_MAX, Place, UNPLACED, is_project};

/// Documents of projects larger than this do not occur.
const PROJECT_BYTES_MAX: u64 = 1 << 20;

/// What is known of where an entry is kept, as a number: there may be millions.
const UNSETTLED: u32 = 0;
/// It is a directory, and none of the entries.
const DIRECTORY: u32 = 1;
/// Its name tells all, or its project can't be told.
const BY_NAME: u32 = 2;
/// The first of the numbers of projects.
const PROJECTS: u32 = 3;

/// A listing of files read as a layout says.
pub(super) struct KylinListing {
    files: Box<dyn Listing>,
    layout: Layout,
    scope: Scope,
    places: Vec<AtomicU32>,
    projects: RwLock<Projects>,
    /// What is odd, by the numbers of the entries.
    remarks: Mutex<BTreeMap<u32, String>>,
}

/// Names of projects, each with a number.
#[derive(Default)]
struct Projects {
    names: Vec<Box<[u8]>>,
    numbers: HashMap<Box<[u8]>, u32>,
}

impl Projects {
    fn number(&mut self, name: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = PROJECTS + u32::try_from(self.names.len()).expect("fewer projects than documents");
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }
}

impl KylinListing {
    /// Reads names, and the documents of projects: permissions go by their UUIDs.
    pub(super) fn new(files: Box<dyn Listing>, store: &str, layout: Layout, scope: Scope) -> Result<Self> {
        let places = (0..files.len()).map(|_| AtomicU32::new(DIRECTORY)).collect();
        let listing = Self { files, layout, scope, places, projects: RwLock::default(), remarks: Mutex::default() };
        let special = listing.place_by_names(store)?;
        listing.place_permissions(&special)?;
        Ok(listing)
    }

    /// Takes note of what names tell. Returns the numbers of permissions, and of the documents of projects.
    fn place_by_names(&self, store: &str) -> Result<Vec<usize>> {
        let special = |n: usize| {
            self.files.facts(n).size?;
            let name = self.files.path(n);
            let length = name.as_bytes().len();
            if length > NAME_BYTES_MAX {
                let what = format!("a name of {length} bytes is too long for a document");
                return Some(Err(Error::Damaged { store: store.to_owned(), what }));
            }
            let is_unsettled = self.layout.project_field(&name).is_some();
            self.set(n, if is_unsettled { UNSETTLED } else { BY_NAME });
            let is_special = || {
                let is_permissions = matches!(self.layout.place(&name), Place::OfProject(_));
                is_permissions || self.layout.is_project_document(&name)
            };
            (!is_unsettled && is_special()).then_some(Ok(n))
        };
        (0..self.files.len()).into_par_iter().filter_map(special).collect()
    }

    /// Finds the projects of permissions, which go by the UUIDs in the documents of projects.
    fn place_permissions(&self, special: &[usize]) -> Result<()> {
        let mut reader = self.files.reader();
        let mut permissions = Vec::new();
        let mut owners: HashMap<Vec<u8>, Option<Vec<u8>>> = HashMap::new();
        for n in special {
            match self.layout.place(&self.files.path(*n)) {
                Place::OfProject(uuid) => permissions.push((*n, uuid)),
                Place::InContent => {}
                Place::At(path) => {
                    if let (Some(uuid), Some(project)) = (uuid_of(&mut *reader, *n)?, path.project()) {
                        // Of two projects with one UUID neither is guessed.
                        let owner = owners.entry(uuid.into_bytes());
                        owner.and_modify(|owner| *owner = None).or_insert_with(|| Some(project.to_vec()));
                    }
                }
            }
        }
        for (n, uuid) in permissions {
            match owners.get(&*uuid) {
                Some(Some(project)) => self.set(n, self.number_of(project)),
                Some(None) => self
                    .remark(n, "several projects have this UUID: whose permissions these are can't be told".to_owned()),
                None => {}
            }
        }
        Ok(())
    }

    fn set(&self, n: usize, place: u32) {
        self.places[n].store(place, Ordering::Relaxed);
    }

    fn place(&self, n: usize) -> u32 {
        self.places[n].load(Ordering::Relaxed)
    }

    fn number_of(&self, project: &[u8]) -> u32 {
        let known = self.projects.read().unwrap_or_else(PoisonError::into_inner).numbers.get(project).copied();
        known.unwrap_or_else(|| self.projects.write().unwrap_or_else(PoisonError::into_inner).number(project))
    }

    fn path_of(&self, n: usize, name: &EntryPath) -> EntryPath {
        match self.place(n).checked_sub(PROJECTS) {
            None => self.layout.path_in(name, None),
            Some(number) => {
                let projects = self.projects.read().unwrap_or_else(PoisonError::into_inner);
                self.layout.path_below(name, &projects.names[number as usize])
            }
        }
    }

    /// Returns the first part of the path of an entry.
    fn first_part(&self, n: u32) -> Box<[u8]> {
        match self.place(n as usize).checked_sub(PROJECTS) {
            None => self.path(n as usize).parts().next().unwrap_or_default().into(),
            Some(number) => self.projects.read().unwrap_or_else(PoisonError::into_inner).names[number as usize].clone(),
        }
    }

    fn is_in_scope(&self, n: u32) -> bool {
        self.scope.prefix().is_none_or(|project| *self.first_part(n) == *project)
    }

    /// Settles a document by what was read. A document that was settled before and now says something else has changed
    /// since.
    fn settle(&self, n: usize, read: std::result::Result<&str, NoField>) -> Result<()> {
        let place = match read {
            Ok(project) if is_usable(project.as_bytes()) => self.number_of(project.as_bytes()),
            Ok(_) | Err(_) => BY_NAME,
        };
        match self.places[n].compare_exchange(UNSETTLED, place, Ordering::Relaxed, Ordering::Relaxed) {
            // What does not tell a project may have been adopted by one.
            Err(before) if before != place && place != BY_NAME => {
                return Err(Error::Changed { path: self.files.path(n).to_string() });
            }
            _ => {}
        }
        match read {
            Ok(project) if is_usable(project.as_bytes()) => {}
            Ok(project) => {
                self.remark(n, format!("`{}` can be no project: its project can't be told", project.escape_debug()));
            }
            Err(why) => self.remark(n, format!("{why}: its project can't be told")),
        }
        Ok(())
    }

    fn remark(&self, n: usize, what: String) {
        let n = u32::try_from(n).expect("fewer than 2^32 entries");
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).insert(n, what);
    }

    /// Takes note of the content of a document.
    fn take_content(&self, n: usize, content: &[u8]) -> Result<()> {
        let name = self.files.path(n);
        if let Some(field) = self.layout.project_field(&name) {
            return match text_field(content, field) {
                Ok(project) => self.settle(n, Ok(&project)),
                Err(why) => self.settle(n, Err(why)),
            };
        }
        if self.layout.is_json(&name)
            && let Err(why @ (NoField::Empty | NoField::Broken(_))) = text_field(content, "uuid")
        {
            self.remark(n, format!("{why}; it is kept as it is"));
        }
        Ok(())
    }
}

/// Tells whether documents may say that they belong to this project.
fn is_usable(project: &[u8]) -> bool {
    is_project(project) || project == GLOBAL.as_bytes()
}

/// Reads the UUID of a project; nothing if its document has none or can't be read, which will be told when it is stored.
fn uuid_of(reader: &mut dyn Reader, n: usize) -> Result<Option<String>> {
    let mut content = Vec::new();
    match reader.read(n, PROJECT_BYTES_MAX, &mut content) {
        Err(error) if error.is_fatal() => Err(error),
        Ok(Outcome::Read(_)) => Ok(text_field(&content, "uuid").ok().map(std::borrow::Cow::into_owned)),
        _ => Ok(None),
    }
}

impl Listing for KylinListing {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        self.path_of(n, &self.files.path(n))
    }

    fn facts(&self, n: usize) -> Facts {
        self.files.facts(n)
    }

    fn proves(&self, n: usize, entry: &Entry) -> bool {
        self.files.proves(n, entry)
    }

    fn numbers(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        let all = (0_u32..).zip(&self.places).filter(|(_, place)| place.load(Ordering::Relaxed) != DIRECTORY);
        Box::new(all.map(|(n, _)| n).filter(|n| self.is_in_scope(*n)))
    }

    fn in_order(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        // By the first part of the paths, then, within each, which is nearly sorted by names, by whole paths.
        let mut parts: BTreeMap<Box<[u8]>, Vec<u32>> = BTreeMap::new();
        let mut projects: Vec<Vec<u32>> = Vec::new();
        for n in self.numbers() {
            match self.place(n as usize).checked_sub(PROJECTS) {
                None => parts.entry(self.first_part(n)).or_default().push(n),
                Some(number) => {
                    let number = number as usize;
                    projects.resize_with(projects.len().max(number + 1), Vec::new);
                    projects[number].push(n);
                }
            }
        }
        for numbers in projects.into_iter().filter(|numbers| !numbers.is_empty()) {
            parts.entry(self.first_part(numbers[0])).or_default().extend(numbers);
        }
        parts.par_iter_mut().for_each(|(_, numbers)| {
            if !numbers.is_sorted_by_key(|n| self.path(*n as usize)) {
                numbers.sort_by_key(|n| self.path(*n as usize));
            }
        });
        Box::new(parts.into_values().flatten())
    }

    fn find(&self, path: &EntryPath, near: usize) -> Option<usize> {
        let found = self.files.find(&self.layout.name_of(path)?, near)?;
        (self.place(found) != DIRECTORY).then_some(found)
    }

    fn unsettled(&self) -> Vec<u32> {
        self.numbers_at(UNSETTLED)
    }

    fn recall(&self, n: usize, path: &EntryPath) -> bool {
        if self.place(n) == UNSETTLED
            && let Some(project) = path.project()
        {
            if project == UNPLACED.as_bytes() {
                self.remark(n, "its project can't be told, as in the last snapshot".to_owned());
                self.set(n, BY_NAME);
            } else {
                self.set(n, self.number_of(project));
            }
        }
        match self.place(n).checked_sub(PROJECTS) {
            None => self.path(n) == *path,
            // The name is that of the path: only the project may be another.
            Some(number) => {
                let projects = self.projects.read().unwrap_or_else(PoisonError::into_inner);
                path.project() == Some(&projects.names[number as usize])
            }
        }
    }

    fn adopt(&self, n: usize, path: &EntryPath) {
        let is_homeless = || {
            // Also permissions on a project that is not there, or whose document is broken.
            let is_permissions = matches!(self.layout.place(&self.files.path(n)), Place::OfProject(_));
            is_permissions || self.path(n).project() == Some(UNPLACED.as_bytes())
        };
        if let Some(project) = path.project().filter(|_| self.place(n) == BY_NAME && is_homeless()) {
            self.set(n, self.number_of(project));
        }
    }

    fn remarks(&self) -> Vec<Problem> {
        let remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut remarks: Vec<(EntryPath, String)> =
            remarks.iter().map(|(n, what)| (self.files.path(*n as usize), what.clone())).collect();
        remarks.sort_unstable();
        let problem =
            |(path, what): (EntryPath, String)| Problem { severity: Severity::Remark, path: path.to_string(), what };
        remarks.into_iter().map(problem).collect()
    }

    fn obstacles(&self) -> &[EntryPath] {
        // They have names, not paths. Whether one is in the way is looked up when something is put there.
        &[]
    }

    fn hides(&self, path: &EntryPath) -> bool {
        let Some(name) = self.layout.name_of(path) else { return false };
        self.files.hides(&name) || self.files.find(&name, 0).is_some_and(|n| self.place(n) == UNSETTLED)
    }

    fn has_place(&self, path: &EntryPath) -> bool {
        self.layout.name_of(path).is_some()
    }

    fn of_files(&self) -> Option<&dyn Listing> {
        Some(&*self.files)
    }

    fn problems(&self) -> &[Problem] {
        self.files.problems()
    }

    fn is_racy(&self, stamp: &Stamp) -> bool {
        self.files.is_racy(stamp)
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        Box::new(KylinReader { files: self.files.reader(), listing: self })
    }

    fn check_still_there(&self) -> Result<()> {
        self.files.check_still_there()
    }
}

impl KylinListing {
    fn numbers_at(&self, sought: u32) -> Vec<u32> {
        let at = (0_u32..).zip(&self.places).filter(|(_, place)| place.load(Ordering::Relaxed) == sought);
        at.map(|(n, _)| n).collect()
    }
}

/// Reads documents, and settles them by what it reads.
struct KylinReader<'a> {
    files: Box<dyn Reader + 'a>,
    listing: &'a KylinListing,
}

impl Reader for KylinReader<'_> {
    fn prepare(&mut self, numbers: &[u32]) -> Result<()> {
        self.files.prepare(numbers)
    }

    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> Result<Outcome> {
        let start = content.len();
        let outcome = self.files.read(n, bytes_max, content)?;
        if let Outcome::Read(_) = outcome
            && let Err(error) = self.listing.take_content(n, &content[start..])
        {
            content.truncate(start);
            return Err(error);
        }
        Ok(outcome)
    }

    fn stream(&mut self, n: usize) -> Result<Box<dyn DocumentStream>> {
        let name = self.listing.files.path(n);
        let Some(field) = self.listing.layout.project_field(&name) else { return self.files.stream(n) };
        // Too large to be held: it is read once for its project, and once more for its content.
        let mut first = self.files.stream(n)?;
        let read = text_field_of_stream(&mut first, field);
        std::io::copy(&mut first, &mut std::io::sink()).map_err(|e| Error::io("read", &name, e))?;
        let stamp = first.finish()?;
        match read {
            Ok(project) => self.listing.settle(n, Ok(&project))?,
            Err(why) => self.listing.settle(n, Err(why))?,
        }
        Ok(Box::new(SettledStream { stream: self.files.stream(n)?, stamp }))
    }
}

/// A document that was read before, and must be the same now.
struct SettledStream {
    stream: Box<dyn DocumentStream>,
    stamp: Option<Stamp>,
}

impl Read for SettledStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl DocumentStream for SettledStream {
    fn finish(self: Box<Self>) -> Result<Option<Stamp>> {
        let stamp = self.stream.finish()?;
        Ok(stamp.filter(|stamp| self.stamp == Some(*stamp)))
    }
}
