//! Backups every five minutes and a prune every night: the number of objects and the cost of a look stay as they are.

use std::time::{Duration, Instant};

use metastash::model::entry::{Body, Document, Encoding, Entry, Stamp};
use metastash::model::hash::{ChunkId, ContentId};
use metastash::model::path::EntryPath;
use metastash::monitor::Silent;
use metastash::ops::history::History;
use metastash::ops::log::{Step, log};
use metastash::ops::prune::{PruneOptions, prune};
use metastash::repo::Repository;
use metastash::repo::format::pack::FrameKind;
use metastash::repo::packer::FrameBuilder;
use metastash::repo::snapshot::{Manifest, Snapshot};
use metastash::repo::tree::{self, Record, TreeWriter};
use metastash::repo::writer::{Claims, Writer};
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;

use crate::support::{assert_sound, back_up, create, open, path, scratch, text, write};

/// Backups a day, one every five minutes.
const A_DAY: u64 = 288;
/// Documents of the store, of which one changes each time.
const DOCUMENTS: u64 = 400;

fn entry(n: u64, content: &[u8]) -> Entry {
    let document = Document { content: ContentId::of(content), size: content.len() as u64, pieces: Box::default() };
    Entry {
        path: path(format!("p{}/{n:05}", n % 5)),
        body: Body::Document(document),
        mode: None,
        encoding: Encoding::Plain,
        stamp: Stamp::default(),
    }
}

/// Adds a snapshot to a repository as a backup does that finds these documents changed.
fn add(storage: &MemoryStorage, parent: &Snapshot, changed: &[(u64, Vec<u8>)]) -> Snapshot {
    let repo = open(storage).with_clock(storage.clock());
    let claims = Claims::begin(&repo).unwrap();
    let before = repo.tree(&parent.manifest.tree).unwrap();
    let mut writer = Writer::begin(&claims).unwrap();
    let mut frame = FrameBuilder::default();
    let mut entries: Vec<Entry> = Vec::new();
    for (n, content) in changed {
        let id = ChunkId::of(content);
        if claims.claim(FrameKind::Documents, &id) {
            frame.push(&id, content);
        }
        entries.push(entry(*n, content));
    }
    if !frame.is_empty() {
        writer.put_documents(repo.encode_frame(&mut frame)).unwrap();
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let tree = if before.documents() < DOCUMENTS {
        let mut tree = TreeWriter::new();
        entries.into_iter().for_each(|entry| tree.push(&mut writer, entry).unwrap());
        tree.finish(&mut writer).unwrap()
    } else {
        let changes: Vec<Record> = entries.into_iter().map(Record::Present).collect();
        tree::update(&repo, &mut writer, &before, &changes).unwrap()
    };
    let manifest = Manifest {
        time_ms: parent.manifest.time_ms + 300_000,
        parent: Some(parent.id),
        tree: tree.id,
        root: tree.root(),
        documents: tree.documents(),
        bytes: tree.bytes(),
        ..parent.manifest.clone()
    };
    writer.commit(manifest).unwrap().snapshot
}

/// What a day leaves.
#[derive(Debug, Clone, Copy)]
struct Evening {
    packs: usize,
    segments: usize,
    marks: usize,
    bytes: u64,
    /// How long the prune took, and how long it takes to open the index.
    seconds: [f64; 2],
}

/// Lives through so many days, and tells what each night's prune leaves.
fn live(days: u64) -> Vec<Evening> {
    let scratch = scratch();
    let (storage, repo) = create();
    write(scratch.path(), "p/seed", b"seed");
    let mut newest = back_up(scratch.path(), &repo).snapshot;
    let all: Vec<(u64, Vec<u8>)> = (0..DOCUMENTS).map(|n| (n, text(n, 1000))).collect();
    newest = add(&storage, &newest, &all);
    let mut evenings = Vec::new();
    for day in 0..days {
        for n in 0..A_DAY {
            let seed = day * A_DAY + n;
            newest = add(&storage, &newest, &[(seed * 7919 % DOCUMENTS, text(DOCUMENTS + seed, 1000))]);
            storage.clock().pass(Duration::from_secs(300));
        }
        let began = Instant::now();
        let report = prune(&open(&storage), &PruneOptions::default(), &Silent).unwrap();
        let pruned = began.elapsed().as_secs_f64();
        assert!(report.damage.is_empty());
        let began = Instant::now();
        open(&storage).index().unwrap();
        let opened = began.elapsed().as_secs_f64();
        let packs = storage.list("packs").unwrap();
        evenings.push(Evening {
            packs: packs.len(),
            segments: storage.list("index").unwrap().len(),
            marks: storage.list("marks").unwrap().len(),
            bytes: packs.iter().map(|pack| pack.size_bytes).sum(),
            seconds: [pruned, opened],
        });
    }
    assert_eq!(storage.list("snapshots").unwrap().len() as u64, days * A_DAY + 2);
    let repo = open(&storage);
    assert_sound(&repo);
    for n in [7, DOCUMENTS - 1] {
        let changes = (0..days * A_DAY).filter(|seed| seed * 7919 % DOCUMENTS == n).map(|seed| DOCUMENTS + seed);
        let expected: Vec<_> = std::iter::once(n).chain(changes).map(|n| ContentId::of(&text(n, 1000))).collect();
        assert_eq!(contents_in_log(&repo, &path(format!("p{}/{n:05}", n % 5))), expected);
    }
    evenings
}

/// Returns what the log says that a document held, the oldest first.
fn contents_in_log(repo: &Repository, path: &EntryPath) -> Vec<ContentId> {
    let mut contents = Vec::new();
    let take = |step: &Step<'_>| {
        match step {
            Step::Held { entry: Some(entry), .. } => contents.push(entry.document().unwrap().content),
            _ => panic!("{step:?}"),
        }
        Ok(())
    };
    log(repo, &History::all(repo).unwrap()[0], path, take).unwrap();
    contents
}

fn assert_few(evenings: &[Evening]) {
    for (day, evening) in evenings.iter().enumerate() {
        // Those of the day are marked, and wait for the next night; those of the day before may be late by a little.
        assert!(evening.marks <= 2 * 330, "day {day}: {evening:?}");
        assert!(evening.packs - evening.marks.min(evening.packs) <= 32, "day {day}: {evening:?}");
        assert!(evening.segments <= 8, "day {day}: {evening:?}");
    }
}

#[test]
fn nightly_prunes_keep_the_number_of_objects_small() {
    assert_few(&live(4));
}

/// Ten thousand snapshots; prints what each night leaves. Half a minute or more.
#[test]
#[ignore = "long: run by `scripts/test.sh --long`"]
fn ten_thousand_snapshots_stay_fast_and_small() {
    let evenings = live(35);
    for (day, evening) in evenings.iter().enumerate() {
        let Evening { packs, segments, marks, bytes, seconds: [pruned, opened] } = evening;
        println!(
            "day {day:2}: {packs} packs, {bytes} bytes, {segments} segments, {marks} marks; {pruned:.3} s to prune, {opened:.4} s to open"
        );
    }
    assert_few(&evenings);
}
