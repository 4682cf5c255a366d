//! What a search finds, and what it tells of documents and snapshots that can't be read.

use std::collections::BTreeSet;
use std::slice::from_ref;

use metastash::model::entry::{Document, Entry};
use metastash::model::hash::ContentId;
use metastash::model::scope::Scope;
use metastash::monitor::{Problem, Recorder};
use metastash::ops::find::{FindOptions, FindReport, Found, Query, find};
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use metastash::storage::Storage;

use crate::damage::{Harm, inflict, stage};
use crate::support::{
    add_entries, back_up, check_everything, create, entries, entry, noise, open, scratch, settle, take, write,
};

/// Searches for what has a content; returns also the problems that are told.
fn search(repo: &Repository, snapshots: &[Snapshot], content: &str) -> (FindReport, Vec<Found>, Vec<Problem>) {
    let query = Query::new(&FindOptions { content: Some(content.to_owned()), ..FindOptions::default() }).unwrap();
    let (recorder, mut found) = (Recorder::default(), Vec::new());
    let take = |one: &Found| {
        found.push(one.clone());
        Ok(())
    };
    let report = find(repo, snapshots, &Scope::System, &query, &recorder, take).unwrap();
    (report, found, recorder.problems())
}

fn paths(found: &[Found]) -> BTreeSet<String> {
    found.iter().map(|found| found.entry.path.to_string()).collect()
}

#[test]
fn each_document_is_judged_by_its_own_content() {
    let (scratch, (storage, _)) = (scratch(), create());
    let names = ["h", "c", "g", "a", "f", "b", "e", "d"];
    // Each comes in a pack of its own, and two of them together.
    for name in names {
        write(scratch.path(), format!("p/{name}"), format!("this is {name}"));
        write(scratch.path(), format!("q/{name}"), format!("that is {name}"));
        take(scratch.path(), &storage);
    }
    let repo = open(&storage);
    let last = take(scratch.path(), &storage).0;
    for name in names {
        for (folder, word) in [("p", "this"), ("q", "that")] {
            let (report, found, _) = search(&repo, from_ref(&last), &format!("^{word} is {name}$"));
            assert_eq!(paths(&found), BTreeSet::from([format!("{folder}/{name}")]));
            assert_eq!(report, FindReport { documents: 1, versions: 1, unread: 0 });
        }
    }
}

#[test]
fn damage_costs_the_documents_that_it_hits_and_no_others() {
    let stage = stage();
    let name = stage.documents_pack();
    let length = stage.storage.read(&name).unwrap().len();
    inflict(&stage.storage, &name, Harm::Flip(length * 4));
    let repo = open(&stage.storage);
    let damage = check_everything(&repo);
    for (snapshot, view) in &stage.taken {
        let hits = damage.hits.iter().filter(|hit| hit.snapshots.contains(&snapshot.id));
        let hit: BTreeSet<String> = hits.map(|hit| hit.path.to_string()).collect();
        let documents = view.iter().filter(|(_, seen)| seen.bytes().is_some());
        let all: BTreeSet<String> = documents.map(|(path, _)| String::from_utf8(path.clone()).unwrap()).collect();
        let (report, found, problems) = search(&repo, from_ref(snapshot), "");
        assert_eq!(problems.into_iter().map(|problem| problem.path).collect::<BTreeSet<_>>(), hit);
        assert_eq!(paths(&found), all.difference(&hit).cloned().collect());
        assert!(report.unread == hit.len() as u64 && !hit.is_empty(), "{report:?}");
    }
}

#[test]
fn snapshot_whose_list_is_lost_is_counted_and_the_others_are_searched() {
    let (one, other, (storage, _)) = (scratch(), scratch(), create());
    write(one.path(), "p/a", b"a");
    write(other.path(), "p/b", b"b");
    settle();
    let first = back_up(one.path(), &open(&storage)).snapshot;
    let packs = storage.names().into_iter().filter(|name| name.starts_with("packs/")).collect::<Vec<_>>();
    let second = back_up(other.path(), &open(&storage)).snapshot;
    inflict(&storage, &packs[0], Harm::Delete);
    let (report, found, problems) = search(&open(&storage), &[first.clone(), second], "");
    assert_eq!(report, FindReport { documents: 1, versions: 1, unread: 1 });
    assert_eq!((paths(&found), found[0].first, found[0].last), (BTreeSet::from(["p/b".to_owned()]), 1, 1));
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].path, format!("snapshot {}", first.id.short()));
}

#[test]
fn why_a_document_can_not_be_looked_at_is_told() {
    const LARGEST: u64 = 256 << 20;
    let (scratch, (_, repo)) = (scratch(), create());
    write(scratch.path(), "p/cut", noise(1, 1_400_000));
    settle();
    let like = back_up(scratch.path(), &repo).snapshot;
    let cut = entries(&repo, &like).unwrap().into_iter().find_map(Entry::into_document).unwrap();
    assert!(cut.pieces.len() > 1);
    let lost = |size| Document { content: ContentId::of(b"lost"), size, pieces: Box::default() };
    let made = vec![
        entry("p/largest", lost(LARGEST)),
        entry("p/mixed", Document { content: ContentId::of(b"another"), ..cut }),
        entry("p/too large", Document { content: ContentId::of(b"too large"), ..lost(LARGEST + 1) }),
    ];
    let made = add_entries(&repo, &like, made);
    let (report, found, problems) = search(&repo, from_ref(&made), "");
    assert_eq!((report.unread, found.len()), (3, 0), "{found:?}");
    for (problem, (path, what)) in problems.iter().zip([
        ("p/largest", "is in no pack"),
        ("p/mixed", "its pieces are sound but do not make up its content"),
        ("p/too large", "it is larger than 268435456 bytes"),
    ]) {
        assert!(problem.path == path && problem.what.contains(what), "{problem}");
    }
}
