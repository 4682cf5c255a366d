//! Archives that are written: complete or not there at all, the same for the same snapshot, and read by others.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use metastash::endpoint::tar::{Packing, TarOutput, TarStore};
use metastash::endpoint::{Error, Target};
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Silent, Task};
use metastash::ops;
use metastash::ops::backup::backup;
use metastash::ops::export::export;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;

use super::{gnu_tar, open, read_all};
use crate::support::{
    Seen, back_up, chmod, contents_of, create, entries, noise, options, project, restore_into, scratch, snapshots,
    text, touch, view, write,
};
use metastash::ops::restore::Mode;

/// A tree with all that is hard about names, sizes, modes and times.
fn write_tree(tree: &Path) {
    write(tree, "NOTES", "top\n");
    write(tree, "p/empty", "");
    write(tree, "p/large", text(1, 5_000_000));
    write(tree, "p/block", noise(1, 512));
    write(tree, b"p/\xff\xfe not UTF-8", "bytes");
    write(tree, "p/two\nlines", "x");
    write(tree, format!("p/{}", "n".repeat(200)), "long");
    write(tree, format!("{}/{}/\u{e4}", "d".repeat(101), "e".repeat(250)), "longer");
    write(tree, "p-x/a", "sorted behind what is in p");
    for n in 0..50 {
        write(tree, format!("q/many/{n}"), text(n, 700));
    }
    fs::create_dir(tree.join("nothing")).unwrap();
    chmod(&tree.join("p/empty"), 0o4711);
    chmod(&tree.join("nothing"), 0o750);
    touch(&tree.join("NOTES"), 1_000_000);
}

fn snapshot_of(tree: &Path, repo: &Repository) -> Snapshot {
    back_up(tree, repo);
    snapshots(repo).pop().unwrap()
}

fn export_to(target: &dyn Target, repo: &Repository, snapshot: &Snapshot, monitor: &dyn Monitor) -> ops::Result<u64> {
    export(repo, snapshot, &Scope::System, &[target], monitor).map(|report| report.documents)
}

fn target(path: &Path, packing: Packing) -> TarStore {
    TarStore::open_target(path, packing).unwrap()
}

const PACKINGS: [(&str, Packing); 2] = [("a.tar", Packing::Plain), ("a.tar.zst", Packing::Zstd)];

/// Leaves out the times of documents that no archive of the tests keeps, and those that change.
fn only(view: &crate::support::View) -> Vec<(&[u8], &Seen)> {
    view.iter().map(|(path, seen)| (&path[..], seen)).collect()
}

#[test]
fn round_trip_keeps_root_times_and_modes() {
    let scratch = scratch();
    let (tree, (_storage, repo)) = (scratch.path().join("tree"), create());
    write_tree(&tree);
    let before = view(&tree);
    let snapshot = snapshot_of(&tree, &repo);
    for (name, packing) in PACKINGS {
        let path = scratch.path().join(name);
        let count = export_to(&target(&path, packing), &repo, &snapshot, &Silent).unwrap();
        assert_eq!(count, before.values().filter(|seen| seen.bytes().is_some()).count() as u64);
        let imported = backup(&open(&path), &repo, &options(), &Silent).unwrap();
        assert_eq!(imported.snapshot.manifest.root, snapshot.manifest.root);
        let restored = scratch.path().join(format!("{name}-restored"));
        restore_into(&restored, &repo, &imported.snapshot, Mode::Merge).unwrap();
        assert!(only(&view(&restored)) == only(&before), "{name}");
    }
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let scratch = scratch();
    let (tree, (_storage, repo)) = (scratch.path().join("tree"), create());
    write_tree(&tree);
    let snapshot = snapshot_of(&tree, &repo);
    for (name, packing) in PACKINGS {
        export_to(&target(&scratch.path().join(name), packing), &repo, &snapshot, &Silent).unwrap();
        let unpacked = scratch.path().join(format!("{name}-unpacked"));
        fs::create_dir(&unpacked).unwrap();
        let list = gnu_tar(&unpacked, &["-tf", &format!("../{name}")]);
        assert_eq!(list.lines().count(), view(&tree).len(), "{list}");
        gnu_tar(&unpacked, &["-xpf", &format!("../{name}")]);
        assert!(only(&view(&unpacked)) == only(&view(&tree)), "{name}");
        let owners = gnu_tar(&unpacked, &["-tvf", &format!("../{name}")]);
        assert!(owners.lines().all(|line| line.contains(" root/root ")), "{owners}");
    }
}

#[test]
fn equal_snapshots_are_equal_archives() {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    write_tree(&tree);
    let mut archives = Vec::new();
    for n in 0..2 {
        let (_storage, repo) = create();
        if n == 1 {
            // In other packs, that is to say read in another order.
            back_up(&tree.join("q"), &repo);
        }
        let snapshot = snapshot_of(&tree, &repo);
        for (name, packing) in PACKINGS {
            let path = scratch.path().join(format!("{n}-{name}"));
            export_to(&target(&path, packing), &repo, &snapshot, &Silent).unwrap();
            let bytes = fs::read(&path).unwrap();
            let written = Shared::default();
            let output = TarOutput::new(Box::new(written.clone()), "a pipe", packing);
            export_to(&output, &repo, &snapshot, &Silent).unwrap();
            assert!(*written.0.lock().unwrap() == bytes, "a pipe gets the same");
            archives.push(bytes);
        }
    }
    assert!(archives[0] == archives[2] && archives[1] == archives[3]);
    assert!(archives[1].len() < archives[0].len() / 2);
    assert!(zstd::decode_all(&archives[1][..]).unwrap() == archives[0]);
}

#[test]
fn empty_snapshots_and_single_projects_are_archives() {
    let scratch = scratch();
    let (tree, (_storage, repo)) = (scratch.path().join("tree"), create());
    fs::create_dir(&tree).unwrap();
    let empty = snapshot_of(&tree, &repo);
    export_to(&target(&scratch.path().join("empty.tar"), Packing::Plain), &repo, &empty, &Silent).unwrap();
    assert!(read_all(&open(&scratch.path().join("empty.tar"))).unwrap().is_empty());
    assert_eq!(gnu_tar(scratch.path(), &["-tf", "empty.tar"]), "");
    write_tree(&tree);
    let snapshot = snapshot_of(&tree, &repo);
    let path = scratch.path().join("p.tar");
    export(&repo, &snapshot, &project("p"), &[&target(&path, Packing::Plain)], &Silent).unwrap();
    let mut expected = contents_of(&view(&tree));
    expected.retain(|path, _| path == b"p" || path.starts_with(b"p/"));
    assert!(read_all(&open(&path)).unwrap() == expected);
}

/// Asks for a stop when it was asked whether to so many times.
struct StopAfter(AtomicUsize);

impl Monitor for StopAfter {
    fn start(&self, _: Task, _: Option<u64>) {}

    fn advance(&self, _: u64) {}

    fn problem(&self, _: &Problem) {}

    fn is_interrupted(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn interrupted_export_leaves_nothing() {
    let scratch = scratch();
    let (tree, out, (_storage, repo)) = (scratch.path().join("tree"), scratch.path().join("out"), create());
    write_tree(&tree);
    fs::create_dir(&out).unwrap();
    let snapshot = snapshot_of(&tree, &repo);
    for (name, packing) in PACKINGS {
        let mut stops = 0;
        for asked in 0.. {
            let monitor = StopAfter(AtomicUsize::new(asked));
            match export_to(&target(&out.join(name), packing), &repo, &snapshot, &monitor) {
                Err(ops::Error::Interrupted | ops::Error::Endpoint(Error::Interrupted)) => stops += 1,
                result => {
                    result.unwrap();
                    break;
                }
            }
            assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{asked}");
        }
        assert!(stops > 5);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        fs::remove_file(out.join(name)).unwrap();
    }
}

#[test]
fn export_of_a_damaged_snapshot_leaves_nothing() {
    let scratch = scratch();
    let (tree, out, (storage, repo)) = (scratch.path().join("tree"), scratch.path().join("out"), create());
    write_tree(&tree);
    fs::create_dir(&out).unwrap();
    let snapshot = snapshot_of(&tree, &repo);
    let packs: Vec<String> = storage.names().into_iter().filter(|name| name.starts_with("packs/")).collect();
    for pack in &packs {
        let damaged = crate::support::copy(&storage);
        metastash::storage::Storage::remove(&damaged, pack).unwrap();
        let repo = crate::support::open(&damaged);
        let written = Shared::default();
        let output = TarOutput::new(Box::new(written.clone()), "a pipe", Packing::Plain);
        assert!(export_to(&output, &repo, &snapshot, &Silent).is_err());
        assert!(written.0.lock().unwrap().is_empty(), "who reads the pipe gets nothing");
        assert!(export_to(&target(&out.join("a.tar"), Packing::Plain), &repo, &snapshot, &Silent).is_err());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }
    assert_eq!(entries(&repo, &snapshot).unwrap().len(), view(&tree).len());
}

#[test]
fn nothing_is_overwritten() {
    let scratch = scratch();
    let (tree, (_storage, repo)) = (scratch.path().join("tree"), create());
    write(&tree, "p/a", "1");
    let snapshot = snapshot_of(&tree, &repo);
    let path = scratch.path().join("a.tar");
    let early = target(&path, Packing::Plain);
    export_to(&target(&path, Packing::Plain), &repo, &snapshot, &Silent).unwrap();
    let before = fs::read(&path).unwrap();
    for store in [early, target(&path, Packing::Plain)] {
        let result = export_to(&store, &repo, &snapshot, &Silent);
        assert!(matches!(result, Err(ops::Error::Refused { .. })), "{result:?}");
        let listing = store.scan_target(&Scope::System, &Silent).unwrap();
        assert!(matches!(store.begin(&*listing, &[]).map(drop), Err(Error::ReadOnly { .. })));
    }
    // Something appears while the export is under way.
    let late = scratch.path().join("late.tar");
    let store = target(&late, Packing::Zstd);
    let listing = store.scan_target(&Scope::System, &Silent).unwrap();
    let staging = store.begin(&*listing, &[]).unwrap();
    fs::write(&late, "mine").unwrap();
    assert!(matches!(staging.commit(&[], &Silent), Err(Error::Changed { .. })));
    assert_eq!((fs::read(&path).unwrap(), fs::read(&late).unwrap()), (before, b"mine".to_vec()));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 3);
}

/// What is written to a stream.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream with room for so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = bytes.len().min(self.0);
        self.0 -= written;
        if written == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn stream_that_takes_no_more_is_told() {
    let scratch = scratch();
    let (tree, (_storage, repo)) = (scratch.path().join("tree"), create());
    write_tree(&tree);
    let snapshot = snapshot_of(&tree, &repo);
    for room in [0, 1, 5000, 50_000] {
        for (name, packing) in PACKINGS {
            let output = TarOutput::new(Box::new(Full(room)), "a pipe", packing);
            let result = export_to(&output, &repo, &snapshot, &Silent);
            let Err(ops::Error::Endpoint(Error::Io { source, path, .. })) = result else { panic!("{result:?}") };
            assert_eq!((source.kind(), path.as_str()), (io::ErrorKind::StorageFull, "a pipe"), "{name}");
        }
    }
}

#[test]
fn places_that_can_not_be_are_refused() {
    let scratch = scratch();
    let missing = TarStore::open_target(&scratch.path().join("none/a.tar"), Packing::Plain);
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    let folder = TarStore::open_target(scratch.path(), Packing::Plain);
    assert!(matches!(folder, Err(Error::NotAFile { .. })), "{folder:?}");
    std::os::unix::fs::symlink("nowhere", scratch.path().join("link.tar")).unwrap();
    let link = TarStore::open_target(&scratch.path().join("link.tar"), Packing::Plain);
    assert!(matches!(link, Err(Error::NotFound { .. })), "{link:?}");
}
