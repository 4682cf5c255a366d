//! Doctor: what is wrong with the documents of a platform, and between them.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::fetch::fetch;
use super::live::error_text;
use super::settle::scan_settled;
use super::{Error, Result, require_scope};
use crate::endpoint::{self, Outcome, Reader, Source, StagingWriter};
use crate::model::entry::Entry;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::platform::kylin::doctor::{Examination, Fault, Generation, examine};
use crate::platform::kylin::layout::Layout;
use crate::repo::Repository;
use crate::repo::cut::WHOLE_BYTES_MAX;
use crate::repo::snapshot::Snapshot;

/// Documents larger than this are not examined: they would have to be held. Kylin's are thousands of times smaller.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// Entries of a snapshot that are held at once. More of them are fetched in turn, which decodes frames again that both
/// have a part in.
const ENTRIES_HELD_MAX: usize = 250_000;
/// Documents that are examined one after the other before what they say is put with the rest.
const EXAMINED_AT_ONCE: usize = 256;

/// What was examined, and found.
#[derive(Debug)]
pub struct DoctorReport {
    /// Documents that were examined.
    pub documents: u64,
    /// Documents that can't be read, or are too large to be examined.
    pub unread: u64,
    /// What is wrong, in a fixed order.
    pub faults: Vec<Fault>,
}

impl DoctorReport {
    /// Leaves out what another report has too.
    pub fn leave_new(&mut self, before: &DoctorReport) {
        let is_new: Vec<bool> = {
            let known: BTreeSet<_> = before.faults.iter().map(Fault::key).collect();
            self.faults.iter().map(|fault| !known.contains(&fault.key())).collect()
        };
        let mut is_new = is_new.into_iter();
        self.faults.retain(|_| is_new.next().unwrap_or(true));
    }
}

fn generation(layout: &str, of: impl Fn() -> String) -> Result<Generation> {
    match layout.parse::<Layout>() {
        Ok(layout) => Ok(layout.generation()),
        Err(_) => Err(Error::NoPlatform { of: of() }),
    }
}

/// Examines the documents of a snapshot.
///
/// # Errors
/// When the snapshot is of no platform that we know, does not hold the scope, or can't be read.
pub fn examine_snapshot(
    repo: &Repository,
    snapshot: &Snapshot,
    scope: &Scope,
    monitor: &dyn Monitor,
) -> Result<DoctorReport> {
    let generation = generation(&snapshot.manifest.layout, || format!("snapshot {}", snapshot.id.short()))?;
    let tree = repo.tree(&snapshot.manifest.tree)?;
    require_scope(snapshot, &tree, scope)?;
    let all = Mutex::new(Examination::new(generation));
    let (mut documents, mut unread) = (0, 0);
    let mut walk = repo.entries(&tree, scope).peekable();
    while walk.peek().is_some() {
        let mut entries = Vec::new();
        while entries.len() < ENTRIES_HELD_MAX
            && let Some(entry) = walk.next()
        {
            let entry = entry?;
            match entry.document() {
                None => {}
                Some(document) if document.size > DOCUMENT_BYTES_MAX => {
                    let (path, what) = (entry.path.to_string(), too_large().to_string());
                    monitor.problem(&Problem { severity: Severity::Unread, path, what });
                    unread += 1;
                }
                Some(_) => entries.push(entry),
            }
        }
        documents += entries.len() as u64;
        examine_entries(repo, generation, &entries, &all, monitor)?;
    }
    let faults = into_inner(all).finish(*scope == Scope::System && snapshot.manifest.scope == Scope::System);
    Ok(DoctorReport { documents, unread, faults })
}

fn examine_entries(
    repo: &Repository,
    generation: Generation,
    entries: &[Entry],
    all: &Mutex<Examination>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let documents = |n: u32| entries[n as usize].document();
    let count = u32::try_from(entries.len()).expect("fewer than 2^32 entries");
    let examiner = || -> Box<dyn StagingWriter + '_> {
        let some = Some(Examination::new(generation));
        Box::new(Examiner { generation, entries, all, some, current: 0, content: Vec::new() })
    };
    fetch(repo, count, &documents, &examiner, monitor)
}

/// Examines documents one by one as they come from the repository.
struct Examiner<'a> {
    generation: Generation,
    entries: &'a [Entry],
    all: &'a Mutex<Examination>,
    /// What was examined so far; taken at the end.
    some: Option<Examination>,
    current: usize,
    content: Vec<u8>,
}

impl StagingWriter for Examiner<'_> {
    fn begin(&mut self, n: usize) -> endpoint::Result<()> {
        self.current = n;
        self.content.clear();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> endpoint::Result<()> {
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> endpoint::Result<()> {
        let examined = examine(self.generation, &self.entries[self.current].path, &self.content);
        self.some.as_mut().expect("it is taken when this is dropped").push(examined);
        Ok(())
    }
}

impl Drop for Examiner<'_> {
    fn drop(&mut self) {
        if let Some(some) = self.some.take() {
            self.all.lock().unwrap_or_else(PoisonError::into_inner).merge(some);
        }
    }
}

/// Examines the documents of a live store.
///
/// # Errors
/// When the store is of no platform that we know, or can't be listed. Documents that can't be read are told to the
/// monitor and counted.
pub fn examine_live(
    repo: &Repository,
    source: &dyn Source,
    scope: &Scope,
    monitor: &dyn Monitor,
) -> Result<DoctorReport> {
    let generation = generation(source.layout(), || source.location())?;
    let (listing, unsettled) = scan_settled(source, repo, false, monitor, || source.scan(scope, monitor))?;
    let numbers: Vec<u32> = listing.numbers().filter(|n| listing.facts(*n as usize).size.is_some()).collect();
    monitor.start(Task::Compare, Some(numbers.len() as u64));
    let all = Mutex::new(Examination::new(generation));
    let examine_some = |reader: &mut Box<dyn Reader + '_>, numbers: &[u32]| -> Result<u64> {
        let mut some = Examination::new(generation);
        let (mut unread, mut content) = (0, Vec::new());
        reader.prepare(numbers)?;
        for n in numbers {
            if monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            content.clear();
            match read(&mut **reader, *n as usize, &mut content) {
                Ok(()) => some.push(examine(generation, &listing.path(*n as usize), &content)),
                Err(error) if error.is_fatal() => return Err(error.into()),
                Err(error) => {
                    unread += 1;
                    let path = listing.path(*n as usize).to_string();
                    monitor.problem(&Problem { severity: Severity::Unread, path, what: error_text(&error) });
                }
            }
            monitor.advance(1);
        }
        all.lock().unwrap_or_else(PoisonError::into_inner).merge(some);
        Ok(unread)
    };
    let unread: u64 =
        numbers.par_chunks(EXAMINED_AT_ONCE).map_init(|| listing.reader(), examine_some).sum::<Result<u64>>()?;
    let unlisted = listing.problems().iter().filter(|problem| problem.severity != Severity::Remark).count() as u64;
    let unread = unread.max(unsettled) + unlisted;
    let faults = into_inner(all).finish(*scope == Scope::System);
    Ok(DoctorReport { documents: numbers.len() as u64, unread, faults })
}

fn too_large() -> std::io::Error {
    std::io::Error::other(format!("it is larger than {DOCUMENT_BYTES_MAX} bytes"))
}

fn into_inner(all: Mutex<Examination>) -> Examination {
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a whole document, however large.
fn read(reader: &mut dyn Reader, n: usize, content: &mut Vec<u8>) -> endpoint::Result<()> {
    if let Outcome::Read(_) = reader.read(n, WHOLE_BYTES_MAX, content)? {
        return Ok(());
    }
    let failed = |e| endpoint::Error::io("read", "it", e);
    let mut stream = reader.stream(n)?;
    (&mut stream).take(DOCUMENT_BYTES_MAX + 1).read_to_end(content).map_err(failed)?;
    if content.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(failed(too_large()));
    }
    match stream.finish()? {
        Some(_) => Ok(()),
        None => Err(failed(std::io::Error::other("it changed while it was read"))),
    }
}
