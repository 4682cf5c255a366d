//! Moments between snapshots, where the log of a store is not as it should be: late, ahead of time, damaged.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::time::Duration;

use metastash::endpoint::{self, DocumentStream, Facts, Listing, LogRecords, Outcome, Reader, Source};
use metastash::model::entry::{Encoding, Entry, Stamp};
use metastash::model::log::{LogChange, LogPosition, LogRecord, Moment, OpenIds};
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Severity, Silent};
use metastash::ops::at::{AtOptions, AtReport, Gap, materialize};
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::check::{Depth, check};
use metastash::ops::history::History;
use metastash::ops::log::{LogReport, Step, log};
use metastash::ops::restore::last_checkpoint;
use metastash::ops::{self, Author};
use metastash::repo::Repository;
use metastash::repo::cut::WHOLE_BYTES_MAX;
use metastash::repo::format::pack::FrameKind;
use metastash::repo::snapshot::{Counts, Snapshot};
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;

use crate::failing::fail_everywhere;
use crate::support::{EVERYTHING, author, back_up, contents, create, entries, noise, open, path, scratch, write};

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
    /// The last record that the log has no more.
    lost: u64,
    /// The state of what is not in the log.
    beside: u64,
    problems: Vec<Problem>,
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Lets the clock go on.
fn wait() {
    std::thread::sleep(Duration::from_millis(3));
}

impl Memory {
    /// Draws the next record, which is not in the log so far.
    fn draw(&mut self, key: &str, project: &str, change: LogChange, version: Option<i64>) -> LogRecord {
        self.last += 1;
        let record = LogRecord {
            id: self.last,
            key: key.as_bytes().to_vec(),
            change,
            time_ms: now() + self.ahead_ms,
            version,
            transaction: format!("unit {}", self.last),
            operator: None,
            instance: None,
            project: Some(project.to_owned()),
        };
        wait();
        record
    }

    /// Sets `n` of the document of a project and a key, which is logged as a patch unless it is new.
    fn set(&mut self, key: &str, n: u64) -> LogRecord {
        let at = path(format!("p/MODEL/{key}"));
        let content = format!("{{\"project\":\"p\",\"n\":{n}}}").into_bytes();
        let (version, change) = match self.documents.get(&at) {
            None => (0, LogChange::Content(content.clone())),
            Some((_, version, _)) => {
                let patch = format!("[{{\"op\":\"replace\",\"path\":\"/n\",\"value\":{n}}}]");
                (version + 1, LogChange::Patch(patch.into_bytes()))
            }
        };
        let record = self.draw(&format!("MODEL/{key}"), "p", change, Some(version));
        self.documents.insert(at, (content, version, record.time_ms));
        record
    }

    fn note(&mut self, record: LogRecord) -> u64 {
        let id = record.id;
        self.log.insert(id, record);
        id
    }

    fn change(&mut self, key: &str, n: u64) -> u64 {
        let record = self.set(key, n);
        self.note(record)
    }

    /// Has a document at a path, which is logged as a whole.
    fn put(&mut self, at: &str, version: i64, content: impl AsRef<[u8]>) -> u64 {
        let (project, key) = at.split_once('/').unwrap();
        let content = content.as_ref().to_vec();
        let record = self.draw(key, project, LogChange::Content(content.clone()), Some(version));
        self.documents.insert(path(at), (content, version, record.time_ms));
        self.note(record)
    }

    fn remove(&mut self, at: &str) -> u64 {
        let (project, key) = at.split_once('/').unwrap();
        self.documents.remove(&path(at));
        let record = self.draw(key, project, LogChange::Removed, None);
        self.note(record)
    }

    /// Rotates the log: records up to this one are gone.
    fn rotate(&mut self, lost: u64) {
        self.lost = lost;
        self.log.retain(|id, _| *id > lost);
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
        &self.store.problems
    }

    fn is_racy(&self, _: &Stamp) -> bool {
        false
    }

    fn position(&self, _: Option<&LogPosition>) -> endpoint::Result<Option<LogPosition>> {
        let Memory { last, open, beside, .. } = self.store.clone();
        Ok(Some(LogPosition { last, open, beside, ..LogPosition::default() }))
    }

    fn log_since<'a>(&'a self, since: &LogPosition) -> endpoint::Result<Option<LogRecords<'a>>> {
        let is_asked = |id: u64| id > since.last || since.open.iter().any(|gap| (gap.first..=gap.last).contains(&id));
        let records: Vec<LogRecord> = self.store.log.values().filter(|record| is_asked(record.id)).cloned().collect();
        let (after, last) = (since.last, self.store.last);
        let is_complete = self.store.lost <= after;
        Ok(Some(LogRecords { is_complete, after, last, records: Box::new(records.into_iter().map(Ok)) }))
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

    fn stream(&mut self, n: usize) -> endpoint::Result<Box<dyn DocumentStream>> {
        Ok(Box::new(Streamed(Cursor::new(self.0.documents[n].1.0.clone()), self.0.stamp(n))))
    }
}

struct Streamed(Cursor<Vec<u8>>, Stamp);

impl Read for Streamed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl DocumentStream for Streamed {
    fn finish(self: Box<Self>) -> endpoint::Result<Option<Stamp>> {
        Ok(Some(self.1))
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

/// A repository with a backup of a store of one document.
fn begun() -> (Repository, Memory) {
    let repo = create().1;
    let mut store = Memory::default();
    store.change("a", 1);
    store.back_up(&repo);
    (repo, store)
}

#[test]
fn records_that_come_late_count_by_their_ids_and_not_by_their_times() {
    let (_, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    let first = store.back_up(&repo);
    let early = store.change("a", 5);
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
    assert_eq!(numbers(&repo, Moment::Record(early)), are(&[("a", 5)]), "it is not of what came before it");
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
    let (repo, mut store) = begun();
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
    let (repo, mut store) = begun();
    let at = store.change("a", 2);
    store.change("a", 3);
    let latest = store.back_up(&repo);
    let report = go(&repo, Moment::Record(at), false).unwrap();
    assert!(report.is_new && report.snapshot.manifest.parent == Some(report.base.id));
    let again = go(&repo, Moment::Record(at), false).unwrap();
    assert_eq!((again.snapshot.id, again.is_new, again.records, again.last), (report.snapshot.id, false, 1, at));
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
    let (repo, mut store) = begun();
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

#[test]
fn a_snapshot_that_is_made_tells_what_it_changes_and_bears_the_time_of_the_moment() {
    let (_, repo) = create();
    let mut store = Memory::default();
    for key in ["a", "b", "c"] {
        store.change(key, 1);
    }
    store.back_up(&repo);
    store.change("a", 2);
    store.remove("p/MODEL/b");
    let at = store.change("new", 1);
    let time_ms = now();
    wait();
    store.change("c", 2);
    store.back_up(&repo);
    for (moment, of_ms) in [(Moment::Record(at), store.log[&at].time_ms), (Moment::Time(time_ms), time_ms)] {
        assert_eq!(numbers(&repo, moment), are(&[("a", 2), ("c", 1), ("new", 1)]));
        let report = go(&repo, moment, false).unwrap();
        let counts = Counts { new: 1, changed: 1, removed: 1, ..Counts::default() };
        assert_eq!((report.snapshot.manifest.scan_ms, report.snapshot.manifest.counts), (of_ms, counts), "{moment}");
        assert!(!report.is_beside_older, "{moment}");
    }
}

#[test]
fn what_is_not_in_the_log_is_told_to_be_as_in_the_base_if_it_changed() {
    let (repo, mut store) = begun();
    let at = store.change("a", 2);
    store.change("a", 3);
    store.beside = 7;
    store.back_up(&repo);
    assert!(go(&repo, Moment::Record(at), false).unwrap().is_beside_older);
}

/// Returns the paths of all documents at a moment.
fn paths(repo: &Repository, moment: Moment) -> Vec<String> {
    let snapshot = go(repo, moment, false).unwrap().snapshot;
    contents(repo, &snapshot).into_keys().map(|path| String::from_utf8(path).unwrap()).collect()
}

#[test]
fn documents_move_with_what_records_say_of_their_projects() {
    let (_, repo) = create();
    let mut store = Memory::default();
    store.put("p/MODEL/a", 0, r#"{"project":"p"}"#);
    store.put("_global/OBJECT_ACL/u-1", 0, r#"{"uuid":"acl"}"#);
    store.back_up(&repo);
    // Permissions are of the project that has their UUID, though no record speaks of them.
    let owned = store.put("fresh/PROJECT/fresh", 0, r#"{"uuid":"u-1","name":"fresh"}"#);
    let permissions = store.documents.remove(&path("_global/OBJECT_ACL/u-1")).unwrap();
    store.documents.insert(path("fresh/OBJECT_ACL/u-1"), permissions);
    // A document that tells no project stays where it was.
    let silent = store.put("p/MODEL/a", 1, "{}");
    store.log.get_mut(&silent).unwrap().project = None;
    store.documents.remove(&path("p/MODEL/a"));
    let moved = store.put("fresh/MODEL/a", 2, r#"{"project":"fresh"}"#);
    store.put("fresh/MODEL/a", 3, r#"{"project":"fresh"}"#);
    store.back_up(&repo);
    let of_project = ["fresh/OBJECT_ACL/u-1", "fresh/PROJECT/fresh"];
    for at in [owned, silent] {
        assert_eq!(paths(&repo, Moment::Record(at)), [&of_project[..], &["p/MODEL/a"]].concat(), "{at}");
    }
    assert_eq!(paths(&repo, Moment::Record(moved)), [&["fresh/MODEL/a"][..], &of_project].concat());
}

#[test]
fn a_log_and_the_snapshot_after_it_that_do_not_agree_are_a_gap() {
    type Act = fn(&mut Memory);
    const A: &str = "p/MODEL/a";
    let unheard = "no record tells since when";
    let cases: [(&str, Act); 7] = [
        (unheard, |store| drop(store.set("a", 9))),
        (unheard, |store| drop(store.documents.remove(&path(A)))),
        (unheard, |store| {
            store.put("fresh/PROJECT/fresh", 0, r#"{"uuid":"u-2","name":"fresh"}"#);
            store.set("a", 9);
        }),
        (unheard, |store| {
            store.documents.insert(path("_global/OBJECT_ACL/u-1"), (b"[]".to_vec(), 1, now()));
        }),
        ("the log says that it was removed, and snapshot", |store| {
            store.remove(A);
            store.documents.insert(path(A), (b"{}".to_vec(), 7, now()));
        }),
        ("the log does not say that it was removed, and snapshot", |store| {
            store.change("a", 2);
            store.documents.remove(&path(A));
        }),
        ("the log tells of its version 1 last, and snapshot", |store| {
            store.change("a", 2);
            store.set("a", 3);
        }),
    ];
    for (why, act) in cases {
        let (_, repo) = create();
        let mut store = Memory::default();
        store.put("_global/OBJECT_ACL/u-1", 0, "{}");
        store.change("a", 1);
        let first = store.back_up(&repo);
        let at = store.change("b", 1);
        act(&mut store);
        store.change("b", 2);
        let last = store.back_up(&repo);
        let missing = gaps(&repo, Moment::Record(at));
        assert!(matches!(&missing[..], [gap] if gap.to_string().contains(why)), "{why}: {missing:?}");
        // What a snapshot was taken of is known all the same.
        for snapshot in [first, last] {
            let position = snapshot.manifest.position.as_ref().unwrap();
            for moment in [Moment::Record(position.last), Moment::Time(snapshot.manifest.scan_ms)] {
                assert_eq!(go(&repo, moment, false).unwrap().snapshot, snapshot, "{why}: {moment}");
            }
        }
    }
}

#[test]
fn what_could_not_be_read_after_a_moment_is_not_known_to_be_gone() {
    let (repo, mut store) = begun();
    let at = store.change("b", 1);
    store.change("b", 2);
    store.documents.remove(&path("p/MODEL/a"));
    store.problems = vec![Problem { severity: Severity::Unread, path: "a".to_owned(), what: "broken".to_owned() }];
    store.back_up(&repo);
    assert_eq!(numbers(&repo, Moment::Record(at)), are(&[("a", 1), ("b", 1)]));
}

#[test]
fn a_record_that_comes_late_is_replayed_over_a_snapshot_that_lacks_it() {
    let (_, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    let late = store.set("b", 7);
    let document = store.documents.remove(&path("p/MODEL/b")).unwrap();
    store.open = vec![OpenIds { first: late.id, last: late.id, missed_ms: now() }];
    store.change("a", 2);
    let base = store.back_up(&repo);
    let at = store.change("a", 3);
    store.documents.insert(path("p/MODEL/b"), document);
    store.note(late);
    store.open.clear();
    store.change("a", 4);
    store.back_up(&repo);
    assert_eq!(numbers(&repo, Moment::Record(at)), are(&[("a", 3), ("b", 7)]));
    assert_eq!(go(&repo, Moment::Record(at), false).unwrap().base.id, base.id);
}

#[test]
fn a_transaction_that_comes_late_and_ends_after_a_moment_is_not_taken_in_part() {
    let (repo, mut store) = begun();
    let one = store.set("b", 7);
    let without = store.documents.remove(&path("p/MODEL/b")).unwrap();
    let at = store.change("a", 2);
    store.change("a", 3);
    store.open = vec![OpenIds { first: one.id, last: one.id, missed_ms: now() }];
    store.back_up(&repo);
    store.documents.insert(path("p/MODEL/b"), without);
    let other = LogRecord { transaction: one.transaction.clone(), ..store.set("c", 8) };
    let unit = (one.id, other.id);
    store.note(one);
    store.note(other);
    store.open.clear();
    store.back_up(&repo);
    assert_eq!(go(&repo, Moment::Record(at), false).unwrap().split, Some(unit));
    assert_eq!(numbers(&repo, Moment::Record(at)), are(&[("a", 2)]));
}

#[test]
fn snapshots_of_which_each_keeps_the_same_records_replay_none_of_them_twice() {
    let (repo, mut store) = begun();
    store.change("a", 2);
    let second = store.back_up(&repo);
    repo.forget(&second).unwrap();
    let at = store.change("a", 3);
    store.change("a", 4);
    // It keeps all since the first.
    store.back_up(&repo);
    repo.unforget(&repo.forgotten().unwrap().forgotten[0]).unwrap();
    assert_eq!(numbers(&repo, Moment::Record(at)), are(&[("a", 3)]));
    assert_eq!(go(&repo, Moment::Record(at), false).unwrap().base.id, second.id);
}

#[test]
fn what_the_log_has_no_more_is_a_gap_up_to_the_first_record_that_is_left() {
    let (repo, mut store) = begun();
    for n in 2..=5 {
        store.change("a", n);
    }
    store.rotate(3);
    store.back_up(&repo);
    let missing = gaps(&repo, Moment::Record(4));
    assert!(matches!(missing[0], Gap::Records { first: 2, last: 3, .. }), "{missing:?}");
    assert!(missing[0].to_string().contains("the log did not reach back any more"), "{missing:?}");
    let (steps, report) = steps(&repo);
    assert_eq!(steps, ["held true", "gap 2 3", "version 3", "version 4"]);
    assert_eq!(report, LogReport { changes: 3, gaps: 1, is_damaged: false });
}

#[test]
fn a_log_that_began_anew_says_nothing_of_the_time_before() {
    let (_, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    store.change("a", 2);
    let before = store.back_up(&repo);
    let mut anew = Memory::default();
    anew.change("a", 3);
    let after = anew.back_up(&repo);
    let between = Moment::Time(before.manifest.scan_ms + 1);
    assert!(before.manifest.scan_ms + 1 < after.manifest.scan_ms);
    assert!(matches!(go(&repo, between, false), Err(ops::Error::OutOfReach { .. })));
}

#[test]
fn documents_that_the_log_tells_whole_are_stored_as_a_backup_stores_them() {
    let (repo, mut store) = begun();
    let large = usize::try_from(WHOLE_BYTES_MAX).unwrap();
    // Of what is all alike, one piece is longer than what is cut.
    let contents_by_key = [vec![], noise(1, 1000), vec![b'x'; large + 1], noise(2, 3 * large)];
    let mut at = 0;
    for (n, content) in contents_by_key.iter().enumerate() {
        at = store.put(&format!("p/MODEL/large {n}"), 0, content);
    }
    let now = store.clone();
    for n in 0..contents_by_key.len() {
        store.put(&format!("p/MODEL/large {n}"), 1, "{}");
    }
    store.back_up(&repo);
    let made = go(&repo, Moment::Record(at), false).unwrap().snapshot;
    let (_, other) = create();
    let taken = now.back_up(&other);
    assert!(contents(&repo, &made) == contents(&other, &taken));
    let documents = |repo, snapshot| -> Vec<_> {
        entries(repo, snapshot).unwrap().into_iter().filter_map(Entry::into_document).collect()
    };
    let (made, taken) = (documents(&repo, &made), documents(&other, &taken));
    assert_eq!(made, taken);
    assert!(made.iter().any(|document| document.size > WHOLE_BYTES_MAX && document.pieces.is_empty()));
}

#[test]
fn a_storage_that_fails_is_an_error_and_no_gap() {
    let (storage, _, at) = archived();
    let history = history(&open(&storage));
    let options = AtOptions { allow_gaps: false, author: author() };
    let go = |repo: &Repository| match materialize(repo, &history, Moment::Record(at), &options, &Silent) {
        Ok(_) | Err(ops::Error::Repository(_)) => {}
        other => panic!("{other:?}"),
    };
    let calls = fail_everywhere(&storage, go, |_, _| {});
    assert!(calls > 5, "{calls}");
}

#[test]
fn only_a_store_that_was_followed_has_a_log() {
    let (scratch, (_, repo)) = (scratch(), create());
    write(scratch.path(), "p/a", b"1");
    back_up(scratch.path(), &repo);
    assert!(!history(&repo).has_log());
    let (repo, _) = begun();
    assert!(history(&repo).has_log());
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

/// Flips a bit in what a snapshot keeps of the log.
fn damage_archive(storage: &MemoryStorage, snapshot: &Snapshot) {
    let chunk = snapshot.manifest.archive.as_ref().unwrap().chunks[0];
    let index = open(storage).index().unwrap();
    let location = index.locate(FrameKind::Documents, &chunk).next().unwrap();
    let (name, frame) = (format!("packs/{}", index.pack(&location).id), index.frame(&location).offset);
    storage.damage(&name, |bytes| bytes[usize::try_from(frame).unwrap() + 20] ^= 1);
}

#[test]
fn records_that_came_late_into_an_archive_that_is_damaged_are_a_gap() {
    let (storage, repo) = create();
    let mut store = Memory::default();
    store.change("a", 1);
    store.back_up(&repo);
    let late = store.set("b", 7);
    let document = store.documents.remove(&path("p/MODEL/b")).unwrap();
    store.open = vec![OpenIds { first: late.id, last: late.id, missed_ms: now() }];
    let at = store.change("a", 2);
    store.change("a", 3);
    store.back_up(&repo);
    store.documents.insert(path("p/MODEL/b"), document);
    store.note(late);
    store.open.clear();
    damage_archive(&storage, &store.back_up(&repo));
    let missing = gaps(&open(&storage), Moment::Record(at));
    assert!(matches!(&missing[..], [Gap::Records { first: 2, last: 2, .. }]), "{missing:?}");
    assert!(missing[0].to_string().contains("keeps of the log is damaged"), "{missing:?}");
}

#[test]
fn an_archive_that_is_damaged_costs_moments_and_no_document() {
    let (storage, _, at) = archived();
    let repo = open(&storage);
    assert_eq!(steps(&repo).0, ["held true", "version 1", "version 2", "version 3"]);
    assert_eq!(numbers(&repo, Moment::Record(at)), are(&[("a", 2), ("b", 1)]));
    let (storage, taken, at) = archived();
    damage_archive(&storage, &taken[1]);
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
