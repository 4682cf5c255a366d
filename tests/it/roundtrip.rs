//! Random backups, changes and restores against plain copies.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use metastash::endpoint::Source;
use metastash::model::clock::Clock;
use metastash::model::hash::Root;
use metastash::model::path::compare;
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::Error;
use metastash::ops::backup::BackupOptions;
use metastash::ops::diff::{Change, diff_live, diff_snapshots};
use metastash::ops::restore::{Mode, RestoreOptions, last_checkpoint, restore};
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{
    Dice, Seen, View, assert_sound, author, back_up, back_up_with, below, build, chmod, contents, contents_of, create,
    noise, open, options, path, project, restore_into, restore_options, scratch, settle, snapshots, store, text, touch,
    view, write,
};

/// Names that are easily got wrong.
const NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"a-b",
    b"a b",
    b"a!",
    b"p",
    b"MODEL",
    b"x.json",
    b".hidden",
    b"new\nline",
    b"\xff\xfe",
    "\u{e9}\u{4e16}".as_bytes(),
    b"-r",
    b"*",
    b"~",
    &[b'l'; 255],
];

/// A content, made when it is needed.
#[derive(Debug, Clone, Copy)]
struct Content {
    seed: u64,
    length: usize,
    is_text: bool,
}

impl Content {
    fn bytes(self) -> Vec<u8> {
        if self.is_text { text(self.seed, self.length) } else { noise(self.seed, self.length) }
    }
}

/// One change of a directory.
#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Vec<u8>>, Content),
    MakeDirectory(Vec<Vec<u8>>),
    Remove(Index),
    /// Other bytes, as many as before.
    Rewrite(Index, u64),
    /// A few bytes put into the middle.
    Insert(Index, u64),
    Chmod(Index, bool),
    Touch(Index, u64),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(&NAMES[..]).prop_map(<[u8]>::to_vec)
}

fn place() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(name(), 1..5)
}

fn content() -> impl Strategy<Value = Content> {
    let length = prop_oneof![4 => Just(0), 40 => 0..300_usize, 20 => 0..20_000_usize, 1 => 600_000..3_000_000_usize];
    (0..20_u64, length, any::<bool>()).prop_map(|(seed, length, is_text)| Content { seed, length, is_text })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (place(), content()).prop_map(|(place, content)| Step::Write(place, content)),
        1 => place().prop_map(Step::MakeDirectory),
        2 => any::<Index>().prop_map(Step::Remove),
        2 => (any::<Index>(), 0..20_u64).prop_map(|(index, seed)| Step::Rewrite(index, seed)),
        1 => (any::<Index>(), 0..20_u64).prop_map(|(index, seed)| Step::Insert(index, seed)),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(index, is_open)| Step::Chmod(index, is_open)),
        1 => (any::<Index>(), 1..100_000_u64).prop_map(|(index, seconds)| Step::Touch(index, seconds)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..12)
}

/// So many cases, unless the environment asks for more.
fn cases(few: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { ProptestConfig { cases: few, ..config } }
}

fn apply_all(root: &Path, steps: &[Step]) {
    steps.iter().for_each(|step| apply(root, step));
}

fn apply(root: &Path, step: &Step) {
    let picked = |index: &Index, is_document: bool| {
        let all = view(root);
        let fitting: Vec<_> = all.iter().filter(|(_, seen)| !is_document || seen.bytes().is_some()).collect();
        (!fitting.is_empty()).then(|| index.get(&fitting)).map(|(path, seen)| (below(root, path), (*seen).clone()))
    };
    match step {
        Step::Write(place, content) => {
            let path = below(root, place.join(&b'/'));
            clear_way(root, place);
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap();
            }
            fs::write(&path, content.bytes()).unwrap();
        }
        Step::MakeDirectory(place) => {
            clear_way(root, place);
            make_directory(&below(root, place.join(&b'/')));
        }
        Step::Remove(index) => match picked(index, false) {
            Some((path, Seen::Directory(_))) => fs::remove_dir_all(path).unwrap(),
            Some((path, _)) => fs::remove_file(path).unwrap(),
            None => {}
        },
        Step::Rewrite(index, seed) => {
            if let Some((path, Seen::Document { bytes, .. })) = picked(index, true) {
                fs::write(path, noise(*seed, bytes.len())).unwrap();
            }
        }
        Step::Insert(index, seed) => {
            if let Some((path, Seen::Document { mut bytes, .. })) = picked(index, true) {
                let middle = bytes.len() / 2;
                bytes.splice(middle..middle, noise(*seed, 9));
                fs::write(path, bytes).unwrap();
            }
        }
        Step::Chmod(index, is_open) => {
            if let Some((path, seen)) = picked(index, false) {
                // Never so that an ordinary user could not go on.
                let mode = if *is_open { 0o755 } else { 0o700 };
                chmod(&path, if seen.bytes().is_some() { mode & 0o640 } else { mode });
            }
        }
        Step::Touch(index, seconds) => {
            if let Some((path, _)) = picked(index, true) {
                touch(&path, *seconds);
            }
        }
    }
}

/// Makes directories of all parts but the last; a document in the way goes.
fn clear_way(root: &Path, place: &[Vec<u8>]) {
    for length in 1..place.len() {
        make_directory(&below(root, place[..length].join(&b'/')));
    }
}

fn make_directory(path: &Path) {
    if path.is_file() {
        fs::remove_file(path).unwrap();
    }
    fs::create_dir_all(path).unwrap();
}

/// What a directory went through: a snapshot of each state, and what it looked like.
struct History {
    repo: Repository,
    snapshots: Vec<Snapshot>,
    views: Vec<View>,
}

fn history(source: &Path, rounds: &[Vec<Step>], waits: bool) -> History {
    fs::create_dir_all(source).unwrap();
    let (storage, mut repo) = create();
    let (mut taken, mut views) = (Vec::new(), Vec::new());
    for steps in rounds {
        apply_all(source, steps);
        if waits {
            settle();
        }
        let report = back_up(source, &repo);
        views.push(view(source));
        taken.push(report.snapshot);
        repo = open(&storage);
    }
    History { repo, snapshots: taken, views }
}

/// Returns what is expected of a restore; nothing when something is in the way.
fn restored(snapshot: &View, target: &View, mode: Mode) -> Option<View> {
    let is_same = |a: &Seen, b: &Seen| a.bytes() == b.bytes() && a.mode() == b.mode();
    let is_other_kind = |path, seen: &Seen| {
        target.get(path).is_some_and(|there: &Seen| there.bytes().is_some() != seen.bytes().is_some())
    };
    if mode == Mode::Merge && snapshot.iter().any(|(path, seen)| is_other_kind(path, seen)) {
        return None;
    }
    let mut result = if mode == Mode::Merge { target.clone() } else { View::new() };
    for (path, seen) in snapshot {
        let there = target.get(path).filter(|there| is_same(there, seen));
        result.insert(path.clone(), there.unwrap_or(seen).clone());
    }
    Some(result)
}

fn assert_same(seen: &View, expected: &View) {
    let paths: BTreeSet<_> = seen.keys().chain(expected.keys()).collect();
    for path in paths {
        let (seen, expected) = (seen.get(path), expected.get(path));
        assert!(seen == expected, "{}: {} where {} is expected", path.escape_ascii(), brief(seen), brief(expected));
    }
}

fn brief(seen: Option<&Seen>) -> String {
    match seen {
        None => "nothing".to_owned(),
        Some(Seen::Directory(mode)) => format!("directory {mode:o}"),
        Some(Seen::Document { bytes, mode, time_ns }) => {
            format!(
                "document {} of {} bytes {mode:o} {time_ns}",
                blake3::hash(bytes).to_hex().split_at(8).0,
                bytes.len()
            )
        }
    }
}

fn naive_diff(before: &View, after: &View) -> Vec<(Vec<u8>, Change)> {
    let mut paths: Vec<_> = before.keys().chain(after.keys()).cloned().collect();
    paths.sort_unstable_by(|a, b| compare(a, b));
    paths.dedup();
    let change = |path: &Vec<u8>| match (before.get(path), after.get(path)) {
        (Some(before), Some(after)) if before.bytes() != after.bytes() => Some(Change::Changed),
        (Some(before), Some(after)) => (before.mode() != after.mode()).then_some(Change::Mode),
        (Some(_), None) => Some(Change::Removed),
        _ => Some(Change::Added),
    };
    paths.into_iter().filter_map(|path| change(&path).map(|change| (path, change))).collect()
}

fn snapshot_diff(repo: &Repository, before: &Snapshot, after: &Snapshot) -> Vec<(Vec<u8>, Change)> {
    let mut found = Vec::new();
    let take = |changed: metastash::ops::diff::Changed| {
        found.push((changed.path.as_bytes().to_vec(), changed.change));
        Ok(())
    };
    diff_snapshots(repo, before, after, &Scope::System, take).unwrap();
    found
}

fn live_diff(repo: &Repository, before: &Snapshot, live: &Path) -> Vec<(Vec<u8>, Change)> {
    let mut found = Vec::new();
    let take = |changed: metastash::ops::diff::Changed| {
        found.push((changed.path.as_bytes().to_vec(), changed.change));
        Ok(())
    };
    diff_live(repo, before, &store(live), &Scope::System, &Silent, take).unwrap();
    found
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn random_backups_are_read_back_and_restored_as_plain_copies(
        rounds in prop::collection::vec(steps(), 1..5),
        picked in any::<Index>(),
        waits in any::<bool>(),
    ) {
        let scratch = scratch();
        let History { repo, snapshots, views } = history(&scratch.path().join("source"), &rounds, waits);
        assert_sound(&repo);
        for (snapshot, view) in snapshots.iter().zip(&views) {
            prop_assert!(contents(&repo, snapshot) == contents_of(view));
        }
        let n = picked.index(snapshots.len());
        let target = scratch.path().join("target");
        restore_into(&target, &repo, &snapshots[n], Mode::Merge).unwrap();
        assert_same(&view(&target), &views[n]);
    }

    #[test]
    fn random_restores_into_changed_targets_equal_plain_copies_and_are_undone(
        rounds in prop::collection::vec(steps(), 1..4),
        changes in steps(),
        (from, to) in any::<(Index, Index)>(),
        is_truncate in any::<bool>(),
        has_checkpoint in any::<bool>(),
    ) {
        let scratch = scratch();
        let History { repo, snapshots, views } = history(&scratch.path().join("source"), &rounds, false);
        let target = scratch.path().join("target");
        build(&target, from.get(&views));
        apply_all(&target, &changes);
        let before = view(&target);
        let n = to.index(snapshots.len());
        let mode = if is_truncate { Mode::Truncate } else { Mode::Merge };
        let options = RestoreOptions { checkpoint: has_checkpoint, ..restore_options(mode) };
        let result = restore(&store(&target), &repo, &snapshots[n], &options, &Silent);
        match (restored(&views[n], &before, mode), &result) {
            (Some(expected), Ok(_)) => assert_same(&view(&target), &expected),
            (None, Err(Error::Refused { .. })) => assert_same(&view(&target), &before),
            (expected, _) => prop_assert!(false, "possible: {}; {result:?}", expected.is_some()),
        }
        // A restore that changed nothing leaves no checkpoint.
        if let Ok(Some(checkpoint)) = result.map(|report| report.checkpoint) {
            prop_assert_eq!(last_checkpoint(&store(&target).location(), &repo, &author()).unwrap(), checkpoint.clone());
            restore_into(&target, &repo, &checkpoint, Mode::Truncate).unwrap();
            prop_assert_eq!(naive_diff(&view(&target), &before), vec![]);
        }
    }

    #[test]
    fn diff_of_any_two_snapshots_and_of_the_live_store_equals_a_naive_one(
        rounds in prop::collection::vec(steps(), 2..5),
        later in steps(),
    ) {
        let scratch = scratch();
        let source = scratch.path().join("source");
        let History { repo, snapshots, views } = history(&source, &rounds, false);
        for (a, before) in snapshots.iter().zip(&views) {
            for (b, after) in snapshots.iter().zip(&views) {
                prop_assert_eq!(snapshot_diff(&repo, a, b), naive_diff(before, after));
            }
        }
        apply_all(&source, &later);
        let now = view(&source);
        for (snapshot, before) in snapshots.iter().zip(&views) {
            prop_assert_eq!(live_diff(&repo, snapshot, &source), naive_diff(before, &now));
        }
    }
}

#[test]
fn many_small_backups_fold_their_runs_and_all_read_back() {
    let scratch = scratch();
    let (storage, mut repo) = create();
    let mut dice = Dice::new(1);
    for n in 0..300 {
        write(scratch.path(), format!("p{}/k{}/{n}.json", n % 3, n % 7), text(n, 120));
    }
    let mut taken = Vec::new();
    for round in 0..60 {
        for _ in 0..=dice.below(4) {
            let place = format!("p{}/k{}/{}.json", dice.below(3), dice.below(7), dice.below(400));
            let path = below(scratch.path(), &place);
            if path.exists() && dice.below(3) == 0 {
                fs::remove_file(path).unwrap();
            } else {
                write(scratch.path(), &place, text(1000 + round, 100 + dice.below(50)));
            }
        }
        let report = back_up(scratch.path(), &repo);
        taken.push((report.snapshot, contents_of(&view(scratch.path()))));
        repo = open(&storage);
    }
    let runs: Vec<usize> =
        taken.iter().map(|(snapshot, _)| repo.tree(&snapshot.manifest.tree).unwrap().runs.len()).collect();
    assert!(runs.iter().max() >= Some(&4) && runs.windows(2).any(|pair| pair[1] < pair[0]), "{runs:?}");
    for (snapshot, expected) in &taken {
        assert!(contents(&repo, snapshot) == *expected, "snapshot {}", snapshot.id.short());
    }
    assert_sound(&repo);
}

/// Computes a content root as `docs/format.md` describes it.
fn naive_root(view: &View) -> Root {
    let mut projects = std::collections::BTreeMap::<Vec<u8>, blake3::Hasher>::new();
    let mut paths: Vec<_> = view.iter().filter_map(|(path, seen)| Some((path, seen.bytes()?))).collect();
    paths.sort_unstable_by(|a, b| compare(a.0, b.0));
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    for (path, bytes) in paths {
        let project = path.iter().position(|byte| *byte == b'/').map_or(&b""[..], |end| &path[..end]);
        let new = || blake3::Hasher::new_derive_key("metastash v1 project content root");
        let hasher = projects.entry(project.to_vec()).or_insert_with(new);
        hasher.update(&length(path)).update(path).update(blake3::hash(bytes).as_bytes());
    }
    let mut system = blake3::Hasher::new_derive_key("metastash v1 content root");
    for (name, project) in projects {
        system.update(&length(&name)).update(&name).update(project.finalize().as_bytes());
    }
    Root::from_bytes(*system.finalize().as_bytes())
}

fn back_up_with_threads(root: &Path, threads: usize) -> (Root, Vec<Root>) {
    let (_, repo) = create();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let report = pool.install(|| back_up(root, &repo));
    let tree = repo.tree(&report.snapshot.manifest.tree).unwrap();
    (report.snapshot.manifest.root, tree.projects.values().map(|project| project.root).collect())
}

#[test]
fn same_input_has_the_same_root_in_any_order_and_with_any_number_of_threads() {
    let (forth, back) = (scratch(), scratch());
    let document = |n: u64| (format!("p{}/k/{n}", n % 4), text(n, 50 + usize::try_from(n).unwrap() * 7));
    for n in 0..400 {
        let (path, bytes) = document(n);
        write(forth.path(), path, bytes);
        let (path, bytes) = document(399 - n);
        write(back.path(), path, bytes);
    }
    for root in [forth.path(), back.path()] {
        write(root, "large", noise(1, 1_500_000));
    }
    // Stamps, modes and empty directories do not count.
    touch(&below(back.path(), "p1/k/1"), 1000);
    chmod(&below(back.path(), "p1/k/1"), 0o600);
    fs::create_dir(below(back.path(), "empty")).unwrap();

    let expected = back_up_with_threads(forth.path(), 1);
    assert_eq!(expected.0, naive_root(&view(forth.path())));
    assert_eq!(expected.1.len(), 5);
    for threads in [1, 4] {
        assert_eq!(back_up_with_threads(forth.path(), threads), expected);
        assert_eq!(back_up_with_threads(back.path(), threads), expected);
    }
}

#[test]
fn content_root_does_not_depend_on_the_way_it_was_reached() {
    let scratch = scratch();
    let (_, repo) = create();
    for n in 0..100 {
        write(scratch.path(), format!("p{}/{n}", n % 3), text(n, 100));
    }
    back_up(scratch.path(), &repo);
    for n in 0..10 {
        write(scratch.path(), format!("p0/{}", n * 3), text(n + 500, 90));
        let report = back_up(scratch.path(), &repo);
        assert_eq!(report.snapshot.manifest.root, naive_root(&view(scratch.path())));
        let (_, fresh) = create();
        assert_eq!(report.snapshot.manifest.root, back_up(scratch.path(), &fresh).snapshot.manifest.root);
    }
}

fn project_options(name: &str) -> BackupOptions {
    BackupOptions { scope: project(name), ..options() }
}

fn two_projects(root: &Path) {
    for n in 0..20 {
        write(root, format!("p/k/{n}"), text(n, 200));
        write(root, format!("p-q/k/{n}"), text(n + 100, 200));
        write(root, format!("q/k/{n}"), text(n + 200, 200));
    }
    write(root, "top", b"level");
}

#[test]
fn project_backup_holds_the_project_and_nothing_else() {
    let scratch = scratch();
    two_projects(scratch.path());
    let (_, repo) = create();
    let whole = back_up(scratch.path(), &repo);
    write(scratch.path(), "p/k/0", b"changed");
    write(scratch.path(), "q/k/0", b"changed too");
    for _ in 0..2 {
        let report = back_up_with(scratch.path(), &repo, &project_options("p")).unwrap();
        let mut expected = contents_of(&view(scratch.path()));
        expected.retain(|path, _| path == b"p" || path.starts_with(b"p/"));
        assert_eq!(contents(&repo, &report.snapshot), expected);
    }
    assert!(back_up_with(scratch.path(), &repo, &project_options("none")).is_err());
    // A project's snapshot is no parent of the whole store.
    let later = back_up(scratch.path(), &repo);
    assert_eq!(later.snapshot.manifest.parent, Some(whole.snapshot.id));
    assert_eq!(later.counts.changed, 2);
    assert_eq!(later.counts.new, 0);
}

#[test]
fn project_restore_touches_the_project_only() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    two_projects(&source);
    let (_, repo) = create();
    back_up(&source, &repo);
    let taken = view(&source);
    for project in ["p", "p-q", "q"] {
        write(&source, format!("{project}/k/0"), b"changed");
        write(&source, format!("{project}/new"), b"new");
        fs::remove_file(below(&source, format!("{project}/k/1"))).unwrap();
    }
    let changed = view(&source);
    let options = RestoreOptions { project: Some(project("p")), ..restore_options(Mode::Truncate) };
    let report = restore(&store(&source), &repo, &snapshots(&repo)[0], &options, &Silent).unwrap();
    assert_eq!(report.checkpoint.unwrap().manifest.scope, project("p"));
    let is_inside = |path: &[u8]| path == b"p" || path.starts_with(b"p/");
    let expected: View = changed
        .into_iter()
        .filter(|(path, _)| !is_inside(path))
        .chain(taken.into_iter().filter(|(path, _)| is_inside(path)))
        .collect();
    assert_same(&view(&source), &expected);
}

#[test]
fn cat_gives_the_whole_document_however_it_is_cut() {
    let scratch = scratch();
    for (n, length) in [0, 1, 524_288, 524_289, 2_500_000].into_iter().enumerate() {
        write(scratch.path(), format!("{n}"), noise(9, length));
    }
    let (_, repo) = create();
    let report = back_up(scratch.path(), &repo);
    for (name, seen) in view(scratch.path()) {
        let mut read = Vec::new();
        metastash::ops::browse::cat(&repo, &report.snapshot, &path(name), &mut read).unwrap();
        assert!(Some(&read[..]) == seen.bytes());
    }
}

#[test]
fn insertion_into_a_large_document_stores_what_changed() {
    let scratch = scratch();
    let mut bytes = noise(3, 6_000_000);
    write(scratch.path(), "large", &bytes);
    let (_, repo) = create();
    let first = back_up(scratch.path(), &repo);
    bytes.splice(3_000_000..3_000_000, *b"inserted");
    write(scratch.path(), "large", &bytes);
    let second = back_up(scratch.path(), &repo);
    assert!(first.bytes_stored >= 6_000_000 && second.bytes_stored < 2_500_000, "{}", second.bytes_stored);
    assert!(contents(&repo, &second.snapshot)[&b"large"[..]].as_ref() == Some(&bytes));
}

/// Real metadata, where there is some: it is not part of the project.
#[test]
fn real_metadata_trees_round_trip() {
    let trees = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/kylin/new");
    let Ok(trees) = fs::read_dir(trees) else { return };
    for tree in trees {
        let tree = tree.unwrap().path();
        let scratch = scratch();
        let (_, repo) = create();
        if tree.is_dir() && !contents_of(&view(&tree)).is_empty() {
            let report = back_up(&tree, &repo);
            assert_eq!(report.counts.unread + report.counts.skipped, 0, "{}", tree.display());
            let target = scratch.path().join("target");
            restore_into(&target, &repo, &report.snapshot, Mode::Merge).unwrap();
            assert_same(&view(&target), &view(&tree));
        }
    }
}

#[test]
fn snapshot_bears_the_time_of_the_clock_that_the_repository_goes_by() {
    let scratch = scratch();
    write(scratch.path(), "p/a", "1");
    let clock = Clock::default();
    clock.pass(Duration::from_secs(10 * 24 * 60 * 60));
    let before_ms = clock.now_ms();
    let snapshot = back_up(scratch.path(), &create().1.with_clock(clock.clone())).snapshot;
    for time_ms in [snapshot.manifest.time_ms, snapshot.manifest.scan_ms] {
        assert!((before_ms..=clock.now_ms()).contains(&time_ms), "{time_ms}");
    }
}
