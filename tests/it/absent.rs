//! What can't be read is not taken for what isn't there, and what someone else removed since it was listed is no failure.

use std::io;
use std::sync::Arc;

use metastash::model::hash::SnapshotId;
use metastash::repo::losses::Loss;
use metastash::repo::snapshot::Snapshot;
use metastash::repo::{self, Repository};
use metastash::storage::memory::MemoryStorage;
use metastash::storage::{Error, ErrorKind, Storage};

use crate::damage::{Stage, stage_with_segment};
use crate::support::{Call, Hooked, open};

/// Opens the repository of a stage whose objects in `place` are listed, and can be neither read nor removed.
fn without(stage: &Stage, place: &'static str, why: io::ErrorKind) -> repo::Result<Repository> {
    let withhold = move |call: Call<'_>| match call {
        Call::Read(name, _) | Call::Remove(name) if name.starts_with(place) => {
            Err(Error::new("reach", name, why.into()))
        }
        _ => Ok(()),
    };
    Repository::open(Arc::new(Hooked::new(&stage.storage.fork(), withhold)))
}

/// A repository with something of everything: snapshots, a forgotten one, an index segment, a pack that it does not know,
/// and a loss.
fn stage() -> (Stage, Snapshot) {
    let stage = stage_with_segment();
    let repo = open(&stage.storage);
    let (forgotten, _) = &stage.taken[0];
    repo.forget(forgotten).unwrap();
    repo.put_loss(&Loss { trees: [SnapshotId::of(b"")].into(), ..Loss::default() }).unwrap();
    let (snapshot, _) = &stage.taken[1];
    let snapshot = snapshot.clone();
    (stage, snapshot)
}

#[test]
fn what_cannot_be_read_is_never_taken_for_what_is_not_there() {
    let (stage, snapshot) = stage();
    let denied = |place| without(&stage, place, io::ErrorKind::PermissionDenied).unwrap();
    let is_denied = |error: &repo::Error| matches!(error, repo::Error::Storage(e) if e.kind == ErrorKind::Denied);

    let opened = without(&stage, "config", io::ErrorKind::PermissionDenied);
    assert!(is_denied(&opened.unwrap_err()));

    let repo = denied("snapshots/");
    let list = repo.snapshots().unwrap();
    assert_eq!((list.snapshots.len(), list.unreadable.iter().all(is_denied)), (0, true));
    assert_eq!(list.unreadable.len(), 33);
    assert!(is_denied(&repo.forget(&snapshot).unwrap_err()));
    assert!(is_denied(&repo.set_aside(snapshot.id).unwrap_err()));
    assert!(
        is_denied(&repo.damaged_snapshots().unwrap_err()),
        "damage is what the bytes show, not that they can't be had"
    );

    let list = denied("forgotten/").forgotten().unwrap();
    assert_eq!((list.forgotten.len(), list.unreadable.iter().filter(|error| is_denied(error)).count()), (0, 1));
    assert!(is_denied(&denied("lost/").losses().unwrap_err()));
    assert!(is_denied(&denied("index/").index().unwrap_err()));

    let packs = open(&stage.storage).index().unwrap().packs().iter().filter(|pack| !pack.is_in_segment).count();
    let unread = denied("packs/").index().unwrap();
    assert!(packs > 0 && unread.damaged().len() == packs, "those that no segment knows: {:?}", unread.damaged());
    let verdict = denied("packs/").verify_pack(&open(&stage.storage).index().unwrap(), 0).unwrap();
    assert_eq!((verdict.sound.len(), verdict.damage.len()), (0, 1));
    assert!(verdict.damage[0].to_string().contains("it cannot be read: permission denied"), "{:?}", verdict.damage);
}

#[test]
fn repository_without_its_configuration_is_damaged_and_a_foreign_directory_is_none() {
    let is_damaged = |names: &[&str]| {
        let storage = MemoryStorage::new();
        names.iter().for_each(|name| storage.put(name, b"[core]").unwrap());
        match Repository::open(Arc::new(storage)) {
            Err(repo::Error::Damaged { .. }) => true,
            Err(repo::Error::NotARepository { .. }) => false,
            other => panic!("{names:?}: {other:?}"),
        }
    };
    for names in [&["packs/x"][..], &["snapshots/x"], &["config", "packs/x"], &["config", "snapshots/x"]] {
        assert!(is_damaged(names), "{names:?}");
    }
    for names in [&[][..], &["config"], &["config", "objects/x"]] {
        assert!(!is_damaged(names), "{names:?}");
    }
}

#[test]
fn what_someone_else_removed_since_it_was_listed_is_no_failure() {
    let (stage, snapshot) = stage();
    let gone = |place| without(&stage, place, io::ErrorKind::NotFound).unwrap();

    let repo = gone("snapshots/");
    let list = repo.snapshots().unwrap();
    assert_eq!((list.snapshots.len(), list.unreadable.len()), (0, 0));
    assert!(!repo.forget(&snapshot).unwrap() && !repo.set_aside(snapshot.id).unwrap(), "it was not there");
    assert!(repo.damaged_snapshots().unwrap().is_empty());

    let list = gone("forgotten/").forgotten().unwrap();
    assert_eq!((list.forgotten.len(), list.unreadable.len()), (0, 0));
    assert_eq!(gone("lost/").losses().unwrap().0, []);

    // Segments that were merged, then packs that no segment knows and that were repacked.
    let whole = open(&stage.storage).index().unwrap();
    let without_segments = gone("index/").index().unwrap();
    assert_eq!(without_segments.packs().len(), whole.packs().len());
    assert!(without_segments.damaged().is_empty());
    let known = whole.packs().iter().filter(|pack| pack.is_in_segment).count();
    let without_packs = gone("packs/").index().unwrap();
    assert_eq!((without_packs.packs().len(), without_packs.damaged().len()), (known, 0));
    let verdict = gone("packs/").verify_pack(&whole, 0).unwrap();
    assert_eq!((verdict.sound.len(), verdict.damage.len()), (0, 1));
    assert!(verdict.damage[0].to_string().contains("it disappeared while it was checked"), "{:?}", verdict.damage);
}

#[test]
fn what_someone_else_removes_at_the_same_time_is_no_failure() {
    let (stage, snapshot) = stage();
    let open_late = |why: io::ErrorKind| {
        let hook = move |call: Call<'_>| match call {
            Call::Remove(name) => Err(Error::new("remove", name, why.into())),
            Call::Read(..) => Ok(()),
        };
        Repository::open(Arc::new(Hooked::new(&stage.storage.fork(), hook))).unwrap()
    };
    let (gone, denied) = (open_late(io::ErrorKind::NotFound), open_late(io::ErrorKind::PermissionDenied));
    let record = &gone.forgotten_records().unwrap()[0];
    assert!(!gone.forget(&snapshot).unwrap() && !gone.remove_record(record).unwrap());
    assert!(denied.forget(&snapshot).is_err() && denied.remove_record(record).is_err());
}
