//! Every repository in `fixtures/repo` opens, checks and restores, for ever; what is too new is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metastash::model::hash::{IndexId, PackId, SnapshotId};
use metastash::monitor::Silent;
use metastash::ops::check::check;
use metastash::ops::restore::Mode;
use metastash::repo::codec::Codec;
use metastash::repo::format::header::{self, FileKind};
use metastash::repo::format::mark;
use metastash::repo::losses::Loss;
use metastash::repo::marks::Cause;
use metastash::repo::snapshot::{Manifest, Reason, Snapshot};
use metastash::repo::{self, Repository};
use metastash::storage::Storage;
use metastash::storage::local::LocalStorage;
use metastash::storage::memory::MemoryStorage;

use crate::support::{
    Contents, EVERYTHING, assert_sound, back_up, contents, contents_of, copy, create, open, restore_into, scratch,
    snapshots, text, view, write,
};

/// The versions of which there is a fixture.
const VERSIONS: [&str; 1] = ["v1"];
/// Fixtures of other stores, which have tests of their own.
const OTHERS: [&str; 1] = ["v1-database"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/repo")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Returns what the two backups of a fixture hold, and what the checkpoint after them does.
fn states() -> [Contents; 3] {
    let mut first = Contents::new();
    for directory in ["sales", "sales/MODEL", "sales/empty", "_global", "_global/USER_INFO"] {
        first.insert(directory.into(), None);
    }
    for n in 0..12_u8 {
        first.insert(format!("sales/MODEL/{n}.json").into(), Some(text(n.into(), 700)));
    }
    first.insert("_global/USER_INFO/ADMIN.json".into(), Some(text(50, 300)));
    first.insert(b"sales/not \xff UTF-8".to_vec(), Some(b"an odd name".to_vec()));
    first.insert("sales/nothing".into(), Some(Vec::new()));
    first.insert("top level".into(), Some(b"of no project".to_vec()));
    first.insert("sales/large".into(), Some(large()));
    let mut second = first.clone();
    second.insert("sales/MODEL/3.json".into(), Some(text(60, 650)));
    second.insert("sales/MODEL/new.json".into(), Some(text(61, 200)));
    second.remove(&b"sales/MODEL/7.json"[..]);
    let mut third = second.clone();
    third.insert("sales/MODEL/3.json".into(), Some(b"broken by hand".to_vec()));
    [first, second, third]
}

/// 1.5 MB that are cut, vary, and yet take little space.
fn large() -> Vec<u8> {
    let mut large = Vec::with_capacity(1_500_000);
    for n in 0_u64.. {
        if large.len() >= 1_500_000 {
            break;
        }
        let line = text(n % 40, 1000);
        large.extend_from_slice(format!("{n}:").as_bytes());
        large.extend_from_slice(&line);
    }
    large.truncate(1_500_000);
    large
}

const FIRST: usize = 0;
const SECOND: usize = 1;
const CHECKPOINT: usize = 2;

#[test]
fn list_of_fixtures_is_that_of_the_folder() {
    let folders: BTreeSet<_> =
        fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, VERSIONS.iter().chain(&OTHERS).map(|version| (*version).to_owned()).collect());
}

#[test]
fn every_fixture_checks_and_restores() {
    for version in VERSIONS {
        let scratch = scratch();
        copy_folder(&fixtures().join(version), &scratch.path().join("repo"));
        let repo = Repository::open(Arc::new(LocalStorage::new(scratch.path().join("repo")))).unwrap();
        assert_sound(&repo);
        let taken = snapshots(&repo);
        assert_eq!(taken.len(), 3, "{version}");
        for (snapshot, expected) in taken.iter().zip(states()) {
            assert!(contents(&repo, snapshot) == expected, "{version}: {}", snapshot.id.short());
            let target = scratch.path().join(snapshot.id.short());
            restore_into(&target, &repo, snapshot, Mode::Merge).unwrap();
            assert!(contents_of(&view(&target)) == expected, "{version}: {}", snapshot.id.short());
        }
        assert_details(&taken, &scratch.path().join(taken[FIRST].id.short()));
        // And it is written to as well as read.
        let target = scratch.path().join(taken[SECOND].id.short());
        write(&target, "sales/later.json", b"later");
        let report = back_up(&target, &repo);
        assert!(contents(&repo, &report.snapshot) == contents_of(&view(&target)));
        assert_sound(&repo);
    }
}

fn assert_details(taken: &[Snapshot], restored: &Path) {
    let manifests: Vec<&Manifest> = taken.iter().map(|snapshot| &snapshot.manifest).collect();
    assert_eq!(manifests[FIRST].label.as_deref(), Some("before upgrade"));
    assert_eq!(manifests[FIRST].tags, BTreeMap::from([("ticket".to_owned(), "4711".to_owned())]));
    assert_eq!(manifests[SECOND].parent, Some(taken[FIRST].id));
    assert_eq!(manifests[SECOND].counts.changed, 1);
    assert_eq!(manifests[SECOND].counts.new, 1);
    assert_eq!(manifests[SECOND].counts.removed, 1);
    assert_eq!(manifests[CHECKPOINT].reason, Reason::CheckpointBefore(taken[FIRST].id));
    assert!(manifests.iter().all(|manifest| manifest.store == "/srv/metadata" && manifest.host == "host"));
    let seen = view(restored);
    assert_eq!(seen[&b"sales/MODEL/1.json"[..]].mode(), 0o640);
    assert_eq!(seen[&b"sales/empty"[..]].mode(), 0o750);
}

fn feature(file: &mut [u8]) {
    file[15] = 0x80;
}

fn newer_version(file: &mut [u8]) {
    file[9] = 2;
    file[10] = 2;
}

fn is_too_new<T: std::fmt::Debug>(result: &repo::Result<T>) -> bool {
    matches!(result, Err(repo::Error::TooNew { .. }))
}

/// Puts a changed file in place of another, under the name that it must have.
fn replace(storage: &MemoryStorage, old: &str, name: impl FnOnce(&[u8]) -> String, change: fn(&mut [u8])) {
    let mut file = storage.read(old).unwrap();
    change(&mut file);
    storage.remove(old).unwrap();
    storage.put(&name(&file), &file).unwrap();
}

fn first_in(storage: &MemoryStorage, folder: &str) -> String {
    storage.names().into_iter().find(|name| name.starts_with(folder)).unwrap()
}

/// A repository with a file of each kind.
fn one_of_each() -> MemoryStorage {
    let scratch = scratch();
    let (storage, repo) = create();
    for n in 0..33 {
        write(scratch.path(), format!("p/{n}"), text(n, 100));
        back_up(scratch.path(), &repo);
    }
    storage
}

#[test]
fn what_needs_an_unknown_feature_or_a_newer_reader_is_refused() {
    let whole = one_of_each();
    for change in [feature, newer_version] {
        let storage = copy(&whole);
        replace(&storage, "config", |_| "config".to_owned(), change);
        assert!(is_too_new(&Repository::open(Arc::new(storage))));

        let storage = copy(&whole);
        replace(&storage, &first_in(&whole, "index/"), |file| format!("index/{}", IndexId::of(file)), change);
        assert!(is_too_new(&open(&storage).index()));

        let storage = copy(&whole);
        let old = first_in(&whole, "snapshots/");
        let time = old.split_once('-').unwrap().0.to_owned();
        replace(&storage, &old, |file| format!("{time}-{}", SnapshotId::of(file)), change);
        let list = open(&storage).snapshots().unwrap();
        assert!(matches!(&list.unreadable[..], [repo::Error::TooNew { .. }]), "{list:?}");
        assert_eq!(list.snapshots.len(), 32, "and hides no other");

        let storage = copy(&whole);
        replace(&storage, &first_in(&whole, "packs/"), |file| format!("packs/{}", PackId::of(file)), change);
        let result = check(&open(&storage), EVERYTHING, &Silent);
        assert!(matches!(result, Err(metastash::ops::Error::Repository(repo::Error::TooNew { .. }))), "{result:?}");
    }
}

#[test]
fn header_is_that_of_the_documentation() {
    let example = "4d 45 54 41 53 54 53 48 50 01 01 00 00 00 00 00";
    let header = header::encode(FileKind::Pack);
    let hex: Vec<String> = header.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex.join(" "), example);
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md")).unwrap();
    assert!(page.contains(example));
}

#[test]
fn files_begin_with_the_header_of_their_kind() {
    let storage = one_of_each();
    open(&storage).mark(PackId::of(b""), Cause::Unused, 0).unwrap();
    open(&storage).put_loss(&Loss { trees: [SnapshotId::of(b"")].into(), ..Loss::default() }).unwrap();
    for (folder, kind) in [
        ("lost/", FileKind::Loss),
        ("marks/", FileKind::Mark),
        ("config", FileKind::Config),
        ("packs/", FileKind::Pack),
        ("index/", FileKind::Index),
        ("snapshots/", FileKind::Snapshot),
    ] {
        let name = first_in(&storage, folder);
        assert!(storage.read(&name).unwrap().starts_with(&header::encode(kind)), "{name}");
    }
}

#[test]
fn mark_is_that_of_the_documentation() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md")).unwrap();
    let file = mark::encode(PackId::of(b"a pack"), Cause::Repacked, 1_795_277_482_665, &Codec::new(3));
    let lines: Vec<String> = file.chunks(16).zip((0..).step_by(16)).map(|(bytes, at)| xxd(at, bytes)).collect();
    assert!(page.contains(&lines.join("\n")), "{}", lines.join("\n"));
}

/// Returns a line of bytes as `xxd` shows them.
fn xxd(at: usize, bytes: &[u8]) -> String {
    let pairs: Vec<String> =
        bytes.chunks(2).map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let shown = |byte: &u8| if (32..127).contains(byte) { char::from(*byte) } else { '.' };
    format!("{at:08x}: {:39}  {}", pairs.join(" "), bytes.iter().map(shown).collect::<String>())
}
