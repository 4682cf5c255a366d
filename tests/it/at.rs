//! Moments between snapshots, where the log of a store is not as it should be: late, ahead of time, damaged.

use std::collections::BTreeMap;
use std::time::Duration;

use metastash::endpoint::{self, DocumentStream, Facts, Listing, LogRecords, Outcome, Reader, Source};
use metastash::model::entry::{Encoding, Stamp};
use metastash::model::log::{LogChange, LogPosition, LogRecord, Moment, OpenIds};
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Silent};
use metastash::ops::at::{AtOptions, AtReport, Gap, materialize};
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::check::{Depth, check};
use metastash::ops::history::History;
use metastash::ops::log::{LogReport, Step, log};
use metastash::ops::restore::last_checkpoint;
use metastash::ops::{self, Author};
use metastash::repo::Repository;
use metastash::repo::format::pack::FrameKind;
use metastash::repo::snapshot::Snapshot;
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;

use crate::support::{EVERYTHING, author, contents, create, open, path};

/// Content, version and time.
type Document = (Vec<u8>, i64, i64);

/// A store in memory with a log.
#[derive(Debug, Clone, Default)]
struct Memory {
    documents: BTreeMap<EntryPath, Document>,
    log: BTreeMap<u64, LogRecord>,
    last: u64,
    open: Vec<OpenIds>,
    /// By how much its clock is ahead.
    ahead_ms: i64,
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Lets the clock go on.
fn wait() {
    std::thread::sleep(Duration::from_millis(3));
}

impl Memory {
    /// Sets `n` of the document of a project and a key, which is logged as a patch unless it is new.
    fn set(&mut self, key: &str, n: u64) -> LogRecord {
        let at = path(format!("p/MODEL/{key}"));
        let time_ms = now() + self.ahead_ms;
        let content = format!("{{\"project\":\"p\",\"n\":{n}}}").into_bytes();
        let (version, change) = match self.documents.get(&at) {
            None => (0, LogChange::Content(content.clone())),
            Some((_, version, _)) => {
                let patch = format!("[{{\"op\":\"replace\",\"path\":\"/n\",\"value\":{n}}}]");
                (version + 1, LogChange::Patch(patch.into_bytes()))
            }
        };
        self.documents.insert(at, (content, version, time_ms));
        self.last += 1;
        let record = LogRecord {
            id: self.last,
            key: format!("MODEL/{key}").into_bytes(),
            change,
            time_ms,
            version: Some(version),
            transaction: format!("unit {}", self.last),
            operator: None,
            instance: None,
            project: Some("p".to_owned()),
        };
        wait();
        record
    }

    fn change(&mut self, key: &str, n: u64) -> u64 {
        let record = self.set(key, n);
        self.log.insert(record.id, record);
        self.last
    }

    fn back_up(&self, repo: &Repository) -> Snapshot {
        let snapshot = backup(self, repo, &BackupOptions::new(author()), &Silent).unwrap().snapshot;
        wait();
        snapshot
    }
}

impl Source for Memory {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn layout(&self) -> &'static str {
        "kylin-new"
    }

    fn scan(&self, _: &Scope, _: &dyn Monitor) -> endpoint::Result<Box<dyn Listing>> {
        let documents = self.documents.iter().map(|(path, document)| (path.clone(), document.clone())).collect();
        Ok(Box::new(Listed { store: self.clone(), documents }))
    }
}

struct Listed {
    store: Memory,
    documents: Vec<(EntryPath, Document)>,
}

impl Listed {
    fn stamp(&self, n: usize) -> Stamp {
        let (_, version, time_ms) = self.documents[n].1;
        Stamp { time_ns: time_ms * 1_000_000, version: version + 1, identity: 1 }
    }
}

impl Listing for Listed {
    fn len(&self) -> usize {
        self.documents.len()
    }

    fn path(&self, n: usize) -> EntryPath {
        self.documents[n].0.clone()
    }

    fn facts(&self, n: usize) -> Facts {
        let size = Some(self.documents[n].1.0.len() as u64);
        Facts { size, mode: None, encoding: Encoding::Plain, stamp: self.stamp(n) }
    }

    fn find(&self, path: &EntryPath, _: usize) -> Option<usize> {
        self.documents.iter().position(|(other, _)| other == path)
    }

    fn obstacles(&self) -> &[EntryPath] {
        &[]
    }

    fn hides(&self, _: &EntryPath) -> bool {
        false
    }

    fn problems(&self) -> &[Problem] {
        &[]
    }

    fn is_racy(&self, _: &Stamp) -> bool {
        false
    }

    fn position(&self, _: Option<&LogPosition>) -> endpoint::Result<Option<LogPosition>> {
        Ok(Some(LogPosition { last: self.store.last, open: self.store.open.clone(), ..LogPosition::default() }))
    }

    fn log_since<'a>(&'a self, since: &LogPosition) -> endpoint::Result<Option<LogRecords<'a>>> {
        let is_asked = |id: u64| id > since.last || since.open.iter().any(|gap| (gap.first..=gap.last).contains(&id));
        let records: Vec<LogRecord> = self.store.log.values().filter(|record| is_asked(record.id)).cloned().collect();
        let (after, last) = (since.last, self.store.last);
        Ok(Some(LogRecords { is_complete: true, after, last, records: Box::new(records.into_iter().map(Ok)) }))
    }

    fn reader(&self) -> Box<dyn Reader + '_> {
        Box::new(Reading(self))
    }

    fn check_still_there(&self) -> endpoint::Result<()> {
        Ok(())
    }
}

struct Reading<'a>(&'a Listed);

impl Reader for Reading<'_> {
    fn read(&mut self, n: usize, _: u64, content: &mut Vec<u8>) -> endpoint::Result<Outcome> {
        content.extend_from_slice(&self.0.documents[n].1.0);
        Ok(Outcome::Read(self.0.stamp(n)))
    }

    fn stream(&mut self, _: usize) -> endpoint::Result<Box<dyn DocumentStream>> {
        Err(endpoint::Error::Interrupted)
    }
}

fn history(repo: &Repository) -> History {
    History::all(repo).unwrap().remove(0)
}

fn go(repo: &Repository, moment: Moment, allow_gaps: bool) -> ops::Result<AtReport> {
    materialize(repo, &history(repo), moment, &AtOptions { allow_gaps, author: author() }, &Silent)
}

/// Returns `n` of each document at a moment.
fn numbers(repo: &Repository, moment: Moment) -> BTreeMap<String, u64> {
    let snapshot = go(repo, moment, false).unwrap().snapshot;
    let number = |content: Option<Vec<u8>>| {
        serde_json::from_slice::<serde_json::Value>(&content.unwrap()).unwrap()["n"].as_u64().unwrap()
    };
    let name = |path: Vec<u8>| String::from_utf8(path).unwrap().rsplit('/').next().unwrap().to_owned();
    contents(repo, &snapshot).into_iter().map(|(path, content)| (name(path), number(content))).collect()
}

fn gaps(repo: &Repository, moment: Moment) -> Vec<Gap> {
    match go(repo, moment, false) {
        Err(ops::Error::Gaps { gaps, .. }) => gaps,
        other => panic!("{other:?}"),
    }
}

fn are(expected: &[(&str, u64)]) -> BTreeMap<String, u64> {
    expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

#[test]
fn records_that_come_late_count_by_their_ids_and_not_by_their_times() {
    let (_, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    let first = store.back_up(&repo);
    // A transaction draws its id, and ends after another one and after a backup.
    let before = store.clone();
    let late = store.set("b", 7);
    let after = store.change("a", 2);
    let time_ms = now();
    wait();
    let with_late = store.documents.clone();
    store.documents.retain(|path, _| before.documents.contains_key(path) || path.name() != b"b");
    store.open = vec![OpenIds { first: late.id, last: late.id, missed_ms: now() }];
    store.change("c", 3);
    store.back_up(&repo);
    // So far nobody knows whether it ever comes.
    let missing = gaps(&repo, Moment::Record(after));
    let Gap::Records { first: one, last: other, why, .. } = &missing[0] else { panic!() };
    assert_eq!((missing.len(), *one, *other), (1, late.id, late.id));
    assert!(why.contains("not come yet"), "{why}");
    // At that time it was not there, that is known.
    assert_eq!(numbers(&repo, Moment::Time(time_ms)), are(&[("a", 2)]));

    let c = store.documents[&path("p/MODEL/c")].clone();
    store.documents = with_late;
    store.documents.insert(path("p/MODEL/c"), c);
    store.log.insert(late.id, late);
    store.open.clear();
    store.back_up(&repo);
    assert_eq!(numbers(&repo, Moment::Record(after)), are(&[("a", 2), ("b", 7)]));
    assert_eq!(numbers(&repo, Moment::Time(time_ms)), are(&[("a", 2)]));
    assert_eq!(go(&repo, Moment::Time(first.manifest.scan_ms), false).unwrap().snapshot.id, first.id);
}

#[test]
fn ids_that_were_given_up_are_no_gap() {
    let (_, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    store.back_up(&repo);
    store.last += 3;
    store.open = vec![OpenIds { first: 2, last: 4, missed_ms: 0 }];
    let at = store.change("a", 2);
    store.change("a", 3);
    store.back_up(&repo);
    assert_eq!(gaps(&repo, Moment::Record(at)).len(), 1);
    store.open.clear();
    store.change("a", 4);
    store.back_up(&repo);
    assert_eq!(numbers(&repo, Moment::Record(at)), are(&[("a", 2)]));
}

#[test]
fn a_snapshot_with_changes_that_are_later_by_their_clock_is_not_before_a_time() {
    let (_, repo) = create();
    let mut store = Memory { ahead_ms: 100_000, ..Memory::default() };
    store.change("a", 1);
    store.back_up(&repo);
    store.change("a", 2);
    let time_ms = now() + store.ahead_ms;
    wait();
    store.change("a", 3);
    store.back_up(&repo);
    store.ahead_ms = 0;
    store.last += 1;
    // Long after, by the clock of the backups.
    let snapshot = Memory { ..store.clone() }.back_up(&repo);
    assert!(snapshot.manifest.scan_ms < time_ms, "the last of them is before that time");
    assert!(matches!(go(&repo, Moment::Time(time_ms), false), Err(ops::Error::OutOfReach { .. })));
    // Between the second and the third, of which the second has changes from later.
    let between = history(&repo).snapshots[1].manifest.scan_ms + 1;
    let report = go(&repo, Moment::Time(between), false);
    assert!(matches!(&report, Ok(report) if report.base.id == history(&repo).snapshots[0].id), "{report:?}");
}

#[test]
fn what_was_made_is_made_once_and_is_nothing_else() {
    let (_, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    store.back_up(&repo);
    let at = store.change("a", 2);
    store.change("a", 3);
    let latest = store.back_up(&repo);
    let report = go(&repo, Moment::Record(at), false).unwrap();
    assert!(report.is_new && report.snapshot.manifest.parent == Some(report.base.id));
    let again = go(&repo, Moment::Record(at), false).unwrap();
    assert_eq!((again.snapshot.id, again.is_new, again.records), (report.snapshot.id, false, 1));
    assert!(matches!(last_checkpoint("memory", &repo, &author()), Err(ops::Error::NoCheckpoint { .. })));
    let next =
        backup(&store, &repo, &BackupOptions { skip_if_unchanged: true, ..BackupOptions::new(author()) }, &Silent);
    assert_eq!(next.unwrap().snapshot.id, latest.id);
    let other = Author { host: "other".to_owned(), user: String::new() };
    let report = materialize(
        &repo,
        &history(&repo),
        Moment::Record(at),
        &AtOptions { allow_gaps: false, author: other },
        &Silent,
    );
    assert_eq!(report.unwrap().snapshot.manifest.host, "host", "it is of the store of its base");
}

#[test]
fn a_document_of_another_content_in_the_same_version_is_a_gap() {
    let (_, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    store.back_up(&repo);
    let at = store.change("a", 2);
    // Behind Kylin's back, without a new version.
    store.documents.get_mut(&path("p/MODEL/a")).unwrap().0 = b"{\"n\":9}".to_vec();
    store.change("b", 1);
    store.back_up(&repo);
    let missing = gaps(&repo, Moment::Record(at));
    assert!(missing.len() == 1 && missing[0].to_string().contains("holds something else in the same version"));
    let report = go(&repo, Moment::Record(at), true).unwrap();
    assert!(report.snapshot.manifest.is_incomplete() && report.gaps == missing);
}

/// Three snapshots, of which the last two have an archive, and the last record of the second.
fn archived() -> (MemoryStorage, Vec<Snapshot>, u64) {
    let (storage, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    let mut taken = vec![store.back_up(&repo)];
    store.change("a", 2);
    let at = store.change("b", 1);
    store.change("a", 3);
    taken.push(store.back_up(&repo));
    store.change("a", 4);
    store.change("b", 2);
    taken.push(store.back_up(&repo));
    (storage, taken, at)
}

fn steps(repo: &Repository) -> (Vec<String>, LogReport) {
    let mut steps = Vec::new();
    let report = log(repo, &history(repo), &path("p/MODEL/a"), |step| {
        steps.push(match step {
            Step::Record(record) => format!("version {}", record.version.unwrap()),
            Step::Held { is_new, .. } => format!("held {is_new}"),
            Step::Gap { first, last, .. } => format!("gap {first} {last}"),
        });
        Ok(())
    });
    (steps, report.unwrap())
}

#[test]
fn an_archive_that_is_damaged_costs_moments_and_no_document() {
    let (storage, _, at) = archived();
    let repo = open(&storage);
    assert_eq!(steps(&repo).0, ["held true", "version 1", "version 2", "version 3"]);
    assert_eq!(numbers(&repo, Moment::Record(at)), are(&[("a", 2), ("b", 1)]));
    let (storage, taken, at) = archived();
    let chunk = taken[1].manifest.archive.as_ref().unwrap().chunks[0];
    let index = open(&storage).index().unwrap();
    let location = index.locate(FrameKind::Documents, &chunk).next().unwrap();
    let (name, frame) = (format!("packs/{}", index.pack(&location).id), index.frame(&location).offset);
    storage.damage(&name, |bytes| bytes[usize::try_from(frame).unwrap() + 20] ^= 1);
    let report = check(&open(&storage), EVERYTHING, &Silent).unwrap();
    let findings: Vec<String> = report.findings.iter().map(|finding| finding.error.to_string()).collect();
    let archive = format!("the archive of changes of snapshot {}", taken[1].id.short());
    assert!(findings.iter().any(|finding| finding.starts_with(&archive)), "{findings:?}");
    assert!(report.is_damaged() && report.hits.is_empty(), "{:?}", report.hits);

    let repo = open(&storage);
    let missing = gaps(&repo, Moment::Record(at));
    assert!(missing[0].to_string().contains("keeps of the log is damaged"), "{missing:?}");
    assert!(matches!(missing[0], Gap::Records { first: 2, last: 3, .. }), "{missing:?}");
    let report = go(&repo, Moment::Record(at), true).unwrap();
    assert!(report.snapshot.manifest.is_incomplete() && report.records == 0);
    let (steps, report) = steps(&repo);
    assert_eq!(steps, ["held true", "gap 2 4", "held false", "version 3"]);
    assert!(report.is_damaged && report.gaps == 1);
}

#[test]
fn an_archive_that_is_gone_is_found_without_reading_it() {
    let (storage, taken, _) = archived();
    let repo = open(&storage);
    let chunk = taken[2].manifest.archive.as_ref().unwrap().chunks[0];
    let index = repo.index().unwrap();
    let pack = index.pack(&index.locate(FrameKind::Documents, &chunk).next().unwrap()).id;
    storage.remove(&format!("packs/{pack}")).unwrap();
    let report = check(&open(&storage), Depth::Quick, &Silent).unwrap();
    let archive = format!("the archive of changes of snapshot {}", taken[2].id.short());
    let is_named = report.findings.iter().any(|finding| finding.error.to_string().starts_with(&archive));
    assert!(is_named, "{:?}", report.findings);
}
