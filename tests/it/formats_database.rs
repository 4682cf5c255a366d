//! The fixture of a store in a database: positions in its audit log, archived records, encodings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use metastash::endpoint::location::{Reading, open_target};
use metastash::model::entry::Encoding;
use metastash::model::hash::{ChunkId, SnapshotId};
use metastash::model::log::{LogChange, LogRecord, OpenIds};
use metastash::monitor::Silent;
use metastash::ops::restore::{Mode, restore};
use metastash::repo::codec::Codec;
use metastash::repo::snapshot::{Manifest, Snapshot};
use metastash::repo::{Error, Repository, format};
use metastash::storage::Storage;
use metastash::storage::local::LocalStorage;

use crate::support::{assert_sound, check_everything, contents_of, entries, restore_options, scratch, snapshots, view};

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Returns a copy of the fixture.
fn copied(root: &Path) -> (Arc<LocalStorage>, Repository) {
    for folder in ["", "packs", "snapshots"] {
        fs::create_dir_all(root.join(folder)).unwrap();
        for file in fs::read_dir(fixtures().join("repo/v1-database").join(folder)).unwrap().map(Result::unwrap) {
            if file.path().is_file() {
                fs::copy(file.path(), root.join(folder).join(file.file_name())).unwrap();
            }
        }
    }
    let storage = Arc::new(LocalStorage::new(root));
    (storage.clone(), Repository::open(storage).unwrap())
}

#[test]
fn fixture_of_a_database_checks_and_restores() {
    let scratch = scratch();
    let (_, repo) = copied(&scratch.path().join("repo"));
    assert_sound(&repo);
    let taken = snapshots(&repo);
    let manifests: Vec<&Manifest> = taken.iter().map(|snapshot| &snapshot.manifest).collect();
    let store = "postgresql://localhost:5432/kylin_fixture?identifier=kylin_metadata";
    assert!(manifests.iter().all(|manifest| manifest.store == store && manifest.layout == "kylin-new-backup"));

    let positions: Vec<_> = manifests.iter().map(|manifest| manifest.position.as_ref().unwrap()).collect();
    assert_eq!(positions.iter().map(|position| position.last).collect::<Vec<_>>(), [101, 105, 105]);
    assert!(positions[0].open.is_empty());
    for position in &positions[1..] {
        assert!(matches!(position.open[..], [OpenIds { first: 103, last: 103, .. }]), "{position:?}");
    }
    assert!(positions[0].mark != positions[1].mark && positions[1].mark == positions[2].mark);
    assert_eq!((positions[0].tops["USER_INFO"], positions[1].tops["USER_INFO"]), (1, 2));
    assert_eq!(positions[0].tops.len(), 30);
    assert_eq!(positions[0].beside, positions[2].beside);

    assert!(manifests[0].archive.is_none() && manifests[0].verified.is_none());
    let archive = manifests[1].archive.as_ref().unwrap();
    assert_eq!((archive.after, archive.last, archive.is_complete, archive.chunks.len()), (101, 105, true, 1));
    let nothing = manifests[2].archive.as_ref().unwrap();
    assert_eq!((nothing.after, nothing.last, nothing.is_complete, nothing.chunks.len()), (105, 105, true, 0));
    let records = repo.log_records(&archive.chunks[0]).unwrap();
    assert_eq!(records.iter().map(|record| record.id).collect::<Vec<_>>(), [102, 104, 105]);
    let patch = br#"[{"op":"replace","path":"/description","value":"Meters of two grids"}]"#;
    assert_eq!(records[0].change, LogChange::Patch(patch.to_vec()));
    assert_eq!(records[1], removal());
    assert!(matches!(&records[2].change, LogChange::Content(content) if content.starts_with(b"{\"uuid\"")));
    assert!(manifests[1].verified.is_some() && manifests[1].verified < manifests[2].verified);

    let encodings: BTreeMap<String, Encoding> =
        entries(&repo, &taken[0]).unwrap().into_iter().map(|entry| (entry.path.to_string(), entry.encoding)).collect();
    let of = |kind: &str| encodings.iter().find(|(path, _)| path.contains(kind)).map(|(_, encoding)| *encoding);
    assert_eq!((of("/MODEL/"), of("/PROJECT/")), (Some(Encoding::Kylin), Some(Encoding::Plain)));

    let target = scratch.path().join("restored");
    let files = open_target(&target, Reading::Detect, "kylin-new-backup").unwrap().store;
    restore(&*files, &repo, &taken[0], &restore_options(Mode::Merge), &Silent).unwrap();
    let mut expected = contents_of(&view(&fixtures().join("kylin_backup/core_meta")));
    expected.remove(&b"kylin.properties"[..]);
    expected.remove(&b"SYSTEM/_image.json"[..]);
    expected.retain(|_, content| content.is_some());
    let mut found = contents_of(&view(&target.join("core_meta")));
    found.retain(|_, content| content.is_some());
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    assert!(found == expected);
}

/// The second record of the archive.
fn removal() -> LogRecord {
    LogRecord {
        id: 104,
        key: b"USER_GROUP/ALL_USERS".to_vec(),
        change: LogChange::Removed,
        time_ms: 1_763_886_460_000,
        version: None,
        transaction: "c2f4b1d8-6e3a-4d5b-b7c9-0e1f2a3b4c5d".to_owned(),
        operator: Some("ADMIN".to_owned()),
        instance: Some("10.0.0.5:7070".to_owned()),
        project: Some("_global".to_owned()),
    }
}

#[test]
fn archive_is_that_of_the_documentation() {
    let raw = format::log::encode(vec![removal()]);
    let rows: Vec<String> = raw
        .chunks(16)
        .enumerate()
        .map(|(row, bytes)| {
            let hex: Vec<String> =
                bytes.chunks(2).map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
            let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
            let text: String = bytes.iter().map(shown).collect();
            format!("{:08x}: {:<39}  {text}", row * 16, hex.join(" "))
        })
        .collect();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md")).unwrap();
    let expected = rows.join("\n");
    assert!(page.contains(&expected), "{expected}");
}

/// Adds a snapshot like one that is there, but for what `change` does.
fn add_snapshot(storage: &LocalStorage, like: &Snapshot, change: impl FnOnce(&mut Manifest)) -> SnapshotId {
    let mut manifest = like.manifest.clone();
    manifest.label = None;
    change(&mut manifest);
    let file = format::snapshot::encode(&manifest, &Codec::new(3));
    let id = SnapshotId::of(&file);
    let names = storage.list("snapshots").unwrap();
    let other = names.iter().find(|object| object.name.ends_with(&like.id.to_string())).unwrap();
    let time = other.name.split_once('-').unwrap().0;
    storage.put(&format!("snapshots/{time}-{id}"), &file).unwrap();
    id
}

#[test]
fn an_archive_that_is_lost_is_noticed() {
    let scratch = scratch();
    let (storage, repo) = copied(scratch.path());
    let lost = ChunkId::of(b"nowhere");
    let like = snapshots(&repo).remove(1);
    let id = add_snapshot(&storage, &like, |manifest| manifest.archive.as_mut().unwrap().chunks.push(lost));
    let report = check_everything(&repo);
    assert!(matches!(report.findings[..], [ref finding] if finding.error.to_string().contains(&lost.to_string())));
    assert!(report.hits.is_empty(), "no document is lost");

    let snapshot = snapshots(&repo).into_iter().find(|snapshot| snapshot.id == id).unwrap();
    repo.forget(&snapshot).unwrap();
    assert_sound(&repo);
    let forgotten = repo.forgotten().unwrap().forgotten.remove(0);
    let result = repo.unforget(&forgotten);
    assert!(matches!(&result, Err(Error::MissingChunk { chunk }) if *chunk == lost), "{result:?}");
}
