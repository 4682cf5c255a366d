//! Stores that can't be read in full, or not in peace: what is made of that, and of all that can be read.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use metastash::endpoint::location::{Reading, open as open_store};
use metastash::endpoint::{
    self, DocumentStream, Facts, Listing, Outcome, Put, Reader, Removal, Source, Staging, StagingWriter, Target,
};
use metastash::model::entry::{Body, Entry, Stamp};
use metastash::model::hash::ContentId;
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Recorder, Severity, Silent};
use metastash::ops::backup::{BackupOptions, BackupReport, backup, plan_backup};
use metastash::ops::diff::diff_live;
use metastash::ops::restore::{Mode, last_checkpoint, plan_restore, restore};
use metastash::ops::{self, Author};
use metastash::repo::cut::WHOLE_BYTES_MAX;
use metastash::repo::format::pack::FrameKind;
use metastash::repo::snapshot::Manifest;
use metastash::repo::tree::{Record, update};
use metastash::repo::writer::{Claims, Writer};
use metastash::repo::{self, Repository};

use crate::damage::{Harm, inflict};
use crate::failing::fail_everywhere_in;
use crate::support::{
    author, back_up, below, contents, contents_of, create, entries, noise, open, options, path, project, restore_into,
    restore_options, scratch, settle, store, view, write,
};

/// What every document of a store says that tells nothing of its content.
const STAMP: Stamp = Stamp { time_ns: 1, version: 1, identity: 1 };

/// How a document fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It can't be read.
    Unreadable,
    /// Nor can anything else any more.
    Fatal,
    /// It breaks off while it is read piece by piece.
    BreaksOff,
    /// It changes while it is read, this many times.
    Torn(u32),
}

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Documents whose paths end like this fail.
    document: Option<(&'static str, Fault)>,
    /// A directory that can't be listed, and that is empty in truth.
    closed: Option<&'static str>,
    /// Stamps tell nothing, so that contents are to be looked at now and then.
    has_no_stamps: bool,
    /// How a change of it fails when it is made.
    commit: Option<fn() -> endpoint::Error>,
}

struct Faulty {
    store: Box<dyn Target>,
    faults: Faults,
}

impl Faulty {
    fn new(root: &Path, faults: Faults) -> Self {
        Self { store: Box::new(store(root)), faults }
    }

    fn with(root: &Path, end: &'static str, fault: Fault) -> Self {
        Self::new(root, Faults { document: Some((end, fault)), ..Faults::default() })
    }

    fn listed(&self, listing: Box<dyn Listing>) -> Box<dyn Listing> {
        let faults = self.faults;
        let closed = faults.closed.map(|name| Problem {
            severity: Severity::Unread,
            path: name.to_owned(),
            what: "can't be listed".to_owned(),
        });
        let problems = listing.problems().iter().cloned().chain(closed).collect();
        Box::new(FaultyListing { listing, faults, problems, torn: AtomicU32::new(0) })
    }
}

impl Source for Faulty {
    fn location(&self) -> String {
        self.store.location()
    }

    fn layout(&self) -> &'static str {
        self.store.layout()
    }

    fn needs_verifying(&self) -> bool {
        self.faults.has_no_stamps
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> endpoint::Result<Box<dyn Listing>> {
        Ok(self.listed(self.store.scan(scope, monitor)?))
    }
}

impl Target for Faulty {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> endpoint::Result<Box<dyn Listing>> {
        let listing = self.store.scan_target(scope, monitor)?;
        // Only the store itself can change what its own listing shows.
        Ok(if self.faults.commit.is_some() { listing } else { self.listed(listing) })
    }

    fn begin<'a>(&'a self, listing: &'a dyn Listing, puts: &'a [Put]) -> endpoint::Result<Box<dyn Staging + 'a>> {
        let staging = self.store.begin(listing, puts)?;
        Ok(match self.faults.commit {
            Some(failure) => Box::new(FailingStaging { staging, failure }),
            None => staging,
        })
    }
}

struct FailingStaging<'a> {
    staging: Box<dyn Staging + 'a>,
    failure: fn() -> endpoint::Error,
}

impl Staging for FailingStaging<'_> {
    fn writer(&self) -> Box<dyn StagingWriter + '_> {
        self.staging.writer()
    }

    fn commit(self: Box<Self>, _: &[Removal], _: &dyn Monitor) -> endpoint::Result<()> {
        Err((self.failure)())
    }
}

struct FaultyListing {
    listing: Box<dyn Listing>,
    faults: Faults,
    problems: Vec<Problem>,
    /// How often a document changed while it was read.
    torn: AtomicU32,
}

impl FaultyListing {
    fn fault_of(&self, n: usize) -> Option<Fault> {
        let (end, fault) = self.faults.document?;
        self.path(n).to_string().ends_with(end).then_some(fault)
    }

    /// Fails if the n-th document can't be read at all.
    fn try_read(&self, n: usize) -> endpoint::Result<()> {
        match self.fault_of(n) {
            Some(Fault::Fatal) => Err(endpoint::Error::Interrupted),
            Some(Fault::Unreadable) => Err(endpoint::Error::Io {
                action: "read",
                path: self.path(n).to_string(),
                source: io::Error::other("broken"),
            }),
            _ => Ok(()),
        }
    }
}

impl Listing for FaultyListing {
    fn len(&self) -> usize {
        self.listing.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        self.listing.path(n)
    }

    fn facts(&self, n: usize) -> Facts {
        let facts = self.listing.facts(n);
        if self.faults.has_no_stamps { Facts { stamp: STAMP, ..facts } } else { facts }
    }

    fn numbers(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        self.listing.numbers()
    }

    fn in_order(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        self.listing.in_order()
    }

    fn find(&self, path: &EntryPath, near: usize) -> Option<usize> {
        self.listing.find(path, near)
    }

    fn unsettled(&self) -> Vec<u32> {
        self.listing.unsettled()
    }

    fn recall(&self, n: usize, path: &EntryPath) -> bool {
        self.listing.recall(n, path)
    }

    fn obstacles(&self) -> &[EntryPath] {
        self.listing.obstacles()
    }

    fn hides(&self, path: &EntryPath) -> bool {
        self.faults.closed.is_some_and(|closed| path.is_within(closed.as_bytes()))
    }

    fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn is_racy(&self, stamp: &Stamp) -> bool {
        self.listing.is_racy(stamp)
    }

    fn unproven(&self, entries: &[Entry], _: &dyn Monitor) -> endpoint::Result<Vec<usize>> {
        let is_same = |entry: &Entry| {
            let mut content = Vec::new();
            let n = self.find(&entry.path, 0)?;
            self.reader().read(n, WHOLE_BYTES_MAX, &mut content).ok()?;
            Some(entry.document()?.content == ContentId::of(&content))
        };
        Ok((0..entries.len()).filter(|n| is_same(&entries[*n]) != Some(true)).collect())
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        Box::new(FaultyReader { listing: self, reader: self.listing.reader() })
    }

    fn check_still_there(&self) -> endpoint::Result<()> {
        self.listing.check_still_there()
    }
}

struct FaultyReader<'a> {
    listing: &'a FaultyListing,
    reader: Box<dyn Reader + 'a>,
}

impl Reader for FaultyReader<'_> {
    fn read(&mut self, n: usize, bytes_max: u64, content: &mut Vec<u8>) -> endpoint::Result<Outcome> {
        self.listing.try_read(n)?;
        Ok(match self.reader.read(n, bytes_max, content)? {
            Outcome::Read(_) if self.listing.faults.has_no_stamps => Outcome::Read(STAMP),
            outcome => outcome,
        })
    }

    fn stream(&mut self, n: usize) -> endpoint::Result<Box<dyn DocumentStream>> {
        self.listing.try_read(n)?;
        let stream = self.reader.stream(n)?;
        Ok(match self.listing.fault_of(n) {
            Some(Fault::BreaksOff) => Box::new(FaultyStream { stream, is_broken: true }),
            Some(Fault::Torn(times)) if self.listing.torn.fetch_add(1, Ordering::SeqCst) < times => {
                Box::new(FaultyStream { stream, is_broken: false })
            }
            _ => stream,
        })
    }
}

/// A document that breaks off, or that changes until it is read to its end.
struct FaultyStream {
    stream: Box<dyn DocumentStream>,
    is_broken: bool,
}

impl Read for FaultyStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_broken { Err(io::Error::other("it breaks off")) } else { self.stream.read(buffer) }
    }
}

impl DocumentStream for FaultyStream {
    fn finish(self: Box<Self>) -> endpoint::Result<Option<Stamp>> {
        Ok(None)
    }
}

fn large() -> Vec<u8> {
    noise(1, 2 * usize::try_from(WHOLE_BYTES_MAX).unwrap())
}

#[test]
fn what_is_in_a_directory_that_cannot_be_listed_is_not_known_to_be_gone() {
    let scratch = scratch();
    for name in ["closed/a", "closed/b", "p/c"] {
        write(scratch.path(), name, name);
    }
    settle();
    let (_, repo) = create();
    let snapshot = back_up(scratch.path(), &repo).snapshot;
    ["closed/a", "closed/b"].iter().for_each(|name| fs::remove_file(below(scratch.path(), name)).unwrap());
    let faulty = Faulty::new(scratch.path(), Faults { closed: Some("closed"), ..Faults::default() });
    let report = diff_live(&repo, &snapshot, &faulty, &Scope::System, &Silent, |_| Ok(())).unwrap();
    assert!(!report.is_different() && report.problems == 3, "{report:?}");
    for mode in [Mode::Merge, Mode::Truncate] {
        match plan_restore(&faulty, &repo, &snapshot, &restore_options(mode), &Silent) {
            Err(ops::Error::Refused { danger, .. }) => {
                assert!(danger.starts_with("3 entries of the target"), "{danger}");
            }
            other => panic!("{other:?}"),
        }
    }
    let report = backup(&faulty, &repo, &options(), &Silent).unwrap();
    assert_eq!((report.counts.removed, report.counts.unread), (0, 1));
}

#[test]
fn document_that_cannot_be_read_is_told_and_all_others_are_compared() {
    let scratch = scratch();
    for name in ["p/a", "p/b", "p/broken"] {
        write(scratch.path(), name, name);
    }
    let (_, repo) = create();
    let snapshot = back_up(scratch.path(), &repo).snapshot;
    for name in ["p/b", "p/broken"] {
        write(scratch.path(), name, "changed");
    }
    let recorder = Recorder::default();
    let diff = |fault| {
        let faulty = Faulty::with(scratch.path(), "p/broken", fault);
        diff_live(&repo, &snapshot, &faulty, &Scope::System, &recorder, |_| Ok(()))
    };
    let report = diff(Fault::Unreadable).unwrap();
    assert_eq!((report.changed, report.removed, report.added, report.problems), (1, 0, 0, 1));
    let problems = recorder.problems();
    assert!(matches!(&problems[..], [problem] if problem.path == "p/broken"), "{problems:?}");
    let result = diff(Fault::Fatal);
    assert!(matches!(result, Err(ops::Error::Endpoint(endpoint::Error::Interrupted))), "{result:?}");
    let faulty = Faulty::with(scratch.path(), "p/broken", Fault::Unreadable);
    match plan_restore(&faulty, &repo, &snapshot, &restore_options(Mode::Merge), &Silent) {
        Err(ops::Error::Refused { danger, .. }) => assert!(danger.starts_with("1 entries of the target"), "{danger}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn large_document_that_cannot_be_read_well_is_unread_and_all_others_are_saved() {
    for (fault, what) in [
        (Fault::Torn(2), None),
        (Fault::Torn(3), Some("it keeps changing while it is read")),
        (Fault::BreaksOff, Some("it breaks off")),
        (Fault::Unreadable, Some("broken")),
    ] {
        let scratch = scratch();
        write(scratch.path(), "p/large", large());
        write(scratch.path(), "p/small", "small");
        let (_, repo) = create();
        let recorder = Recorder::default();
        let report = backup(&Faulty::with(scratch.path(), "p/large", fault), &repo, &options(), &recorder).unwrap();
        let mut expected = contents_of(&view(scratch.path()));
        let problems = recorder.problems();
        match what {
            None => assert_eq!(problems, [], "{fault:?}"),
            Some(what) => {
                expected.remove(&b"p/large"[..]);
                let [problem] = &problems[..] else { panic!("{fault:?}: {problems:?}") };
                assert!(problem.path == "p/large" && problem.what.contains(what), "{fault:?}: {problem:?}");
            }
        }
        assert_eq!(
            (report.counts.unread, report.read),
            (problems.len() as u64, expected.len() as u64 - 1),
            "{fault:?}"
        );
        assert!(contents(&repo, &report.snapshot) == expected, "{fault:?}");
    }
}

#[test]
fn document_whose_project_cannot_be_read_makes_the_backup_of_any_project_incomplete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/learn_kylin");
    let back_up = |fault, monitor: &dyn Monitor| {
        let document = Some(("MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac", fault));
        let store = open_store(&root, Reading::Detect).unwrap().store;
        let faulty = Faulty { store, faults: Faults { document, ..Faults::default() } };
        backup(&faulty, &create().1, &BackupOptions { scope: project("retail"), ..options() }, monitor)
    };
    let recorder = Recorder::default();
    let report = back_up(Fault::Unreadable, &recorder).unwrap();
    assert!(report.counts.unread == 1 && report.snapshot.manifest.is_incomplete());
    assert_eq!(recorder.problems().len(), 1);
    let result = back_up(Fault::Fatal, &Silent);
    assert!(matches!(result, Err(ops::Error::Endpoint(endpoint::Error::Interrupted))), "{result:?}");
}

/// A store of documents whose stamps tell nothing, a quarter of which is looked at in each backup.
fn without_stamps(root: &Path, count: u32) -> (Faulty, BackupOptions) {
    (0..count).for_each(|n| write(root, format!("p/{n}"), format!("content {n}")));
    settle();
    (
        Faulty::new(root, Faults { has_no_stamps: true, ..Faults::default() }),
        BackupOptions { verify_of: 4, ..options() },
    )
}

#[test]
fn contents_are_verified_in_turn_where_stamps_tell_nothing() {
    let scratch = scratch();
    let (faulty, how) = without_stamps(scratch.path(), 10);
    let (_, repo) = create();
    let back_up = |how: &BackupOptions| -> BackupReport {
        std::thread::sleep(std::time::Duration::from_millis(2));
        backup(&faulty, &repo, how, &Silent).unwrap()
    };
    let rounds = [
        (0, 10, None),
        (3, 3, Some("p/2")),
        (3, 3, Some("p/5")),
        (3, 3, Some("p/8")),
        (1, 1, None),
        (3, 3, Some("p/2")),
    ];
    for (run, (verified, read, next)) in rounds.into_iter().enumerate() {
        if run == 2 {
            write(scratch.path(), "p/4", "changed 4");
        }
        let report = back_up(&how);
        let found = u64::from(run == 2);
        assert_eq!((report.verified, report.read, report.bytes_read), (verified, read, 9 * read), "{run}");
        assert_eq!((report.counts.changed, report.remarks.len() as u64), (found, found), "{run}");
        assert_eq!(report.snapshot.manifest.verified, next.map(path), "{run}");
        assert!(run == 0 || report.unchanged == 10 - found, "{run}");
    }
    // Who does not ask for it, or reads all anyway, verifies none.
    assert_eq!(back_up(&BackupOptions { verify_of: 0, ..how.clone() }).read, 0);
    let forced = back_up(&BackupOptions { force: true, ..how.clone() });
    assert_eq!((forced.verified, forced.read), (0, 10));
    // Where no one keeps note of what was verified last it begins anywhere, and goes on at the beginning.
    for _ in 0..5 {
        let report = back_up(&BackupOptions { skip_if_unchanged: true, ..how.clone() });
        assert_eq!((report.verified, report.read, report.is_new), (3, 3, false));
    }
}

#[test]
fn parent_that_cannot_be_reached_is_an_error_and_not_none() {
    let scratch = scratch();
    let (faulty, how) = without_stamps(scratch.path(), 4500);
    let (storage, repo) = create();
    backup(&faulty, &repo, &how, &Silent).unwrap();
    let go = |repo: &Repository| {
        // A pack whose directory can't be read is a damaged one: the others are used without it.
        if repo.index().is_ok_and(|index| index.packs().is_empty()) {
            return;
        }
        if let Ok(plan) = plan_backup(&faulty, repo, &how, &Silent) {
            assert!(plan.parent.is_some());
        }
    };
    let calls = fail_everywhere_in("packs/", &storage, go, |_, _| {});
    assert!(calls > 1, "{calls}");
}

#[test]
fn backup_that_cannot_verify_since_a_leaf_of_its_parent_is_damaged_reads_all() {
    let scratch = scratch();
    let (faulty, how) = without_stamps(scratch.path(), 4500);
    let (storage, repo) = create();
    backup(&faulty, &repo, &how, &Silent).unwrap();
    let index = repo.index().unwrap();
    let pack = &index.packs()[0];
    let mut frames = pack.directory.frames.iter().filter(|frame| frame.kind == FrameKind::Trees);
    let leaf = usize::try_from(frames.next().unwrap().offset).unwrap();
    assert_eq!(frames.count(), 1, "the first leaf has a frame of its own");
    inflict(&storage, &format!("packs/{}", pack.id), Harm::Flip((leaf + 100) * 8));
    let report = backup(&faulty, &open(&storage), &how, &Silent).unwrap();
    assert_eq!((report.read, report.verified), (4500, 0));
    assert!(contents(&open(&storage), &report.snapshot) == contents_of(&view(scratch.path())));
}

#[test]
fn checkpoint_of_a_restore_stays_if_the_target_may_have_been_changed() {
    let failures: [(fn() -> endpoint::Error, bool); 2] = [
        (
            || endpoint::Error::Io {
                action: "write",
                path: "p/a".to_owned(),
                source: io::ErrorKind::StorageFull.into(),
            },
            true,
        ),
        (|| endpoint::Error::Changed { path: "p/a".to_owned() }, false),
    ];
    for (failure, stays) in failures {
        let scratch = scratch();
        write(scratch.path(), "p/a", "before");
        let (_, repo) = create();
        let snapshot = back_up(scratch.path(), &repo).snapshot;
        write(scratch.path(), "p/a", "of now");
        let faulty = Faulty::new(scratch.path(), Faults { commit: Some(failure), ..Faults::default() });
        let result = restore(&faulty, &repo, &snapshot, &restore_options(Mode::Merge), &Silent);
        assert!(matches!(result, Err(ops::Error::Endpoint(_))), "{result:?}");
        let last = |store: &str, author: &Author| last_checkpoint(store, &repo, author);
        assert_eq!(last(&faulty.location(), &author()).is_ok(), stays);
        // It is no other's, whose `undo` would take it for its own.
        let other = Author { host: "other".to_owned(), ..author() };
        assert!(matches!(last("elsewhere", &author()), Err(ops::Error::NoCheckpoint { .. })));
        assert!(matches!(last(&faulty.location(), &other), Err(ops::Error::NoCheckpoint { .. })));
    }
}

#[test]
fn document_whose_pieces_do_not_make_it_up_is_not_restored() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    write(&source, "p/large", large());
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    let tree = repo.tree(&snapshot.manifest.tree).unwrap();
    let mut entry = entries(&repo, &snapshot).unwrap().pop().unwrap();
    let Body::Document(document) = &mut entry.body else { panic!("{entry:?}") };
    assert!(document.pieces.len() > 1);
    document.pieces.reverse();
    let claims = Claims::begin(&repo).unwrap();
    let mut writer = Writer::begin(&claims).unwrap();
    let wrong = update(&repo, &mut writer, &tree, &[Record::Present(entry)]).unwrap();
    let time_ms = snapshot.manifest.time_ms + 1;
    let manifest = Manifest { time_ms, tree: wrong.id, root: wrong.root(), ..snapshot.manifest };
    let wrong = writer.commit(manifest).unwrap().snapshot;
    let result = restore_into(&target, &repo, &wrong, Mode::Merge);
    assert!(matches!(result, Err(ops::Error::Repository(repo::Error::Damaged { .. }))), "{result:?}");
    assert_eq!(view(&target).len(), 0);
}
