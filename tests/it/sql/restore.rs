//! Restores into databases: what is written, and what is not.

use std::collections::{BTreeMap, BTreeSet};

use metastash::endpoint::Error;
use metastash::monitor::Silent;
use metastash::ops::restore::{Mode, RestoreOptions, plan_restore};
use serde_json::{Value as Json, json};

use super::connection::{BOTH, Kind, Value};
use super::encoding::Compress;
use super::kylin_client::KylinClient;
use super::kylin_db::{ID, Row, Rows, contents, dump, load_tree, read_tree};
use super::kylin_tables::Release;
use super::restoring::{
    NEW, Nodes, Record, Shape, all_shapes, assert_same_rows, at, danger, differing, empty, everything, fill, filled,
    fixture, open_at, options_of, records, restore_db, restoring, restoring_project, set_content, snapshot,
    snapshot_of, store_error, undo,
};
use super::servers::{Db, scratch_database};
use crate::support::{create, project};

/// Returns the columns that a restore fills as Kylin 5.0.2 does, whatever release made the tables: what a later one wrote
/// into a document, no 5.0.0 would compute.
fn columns_of(row: &Row) -> BTreeMap<&str, &Value> {
    row.columns
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, _)| *name != "expression_md5")
        .collect()
}

/// Keys of a few documents: to be changed twice by Kylin, once by nobody's leave, removed, and added.
struct Touched {
    changed: Vec<&'static str>,
    removed: Vec<&'static str>,
    added: Vec<&'static str>,
}

fn touched(shape: Shape) -> Touched {
    if shape == Shape::Old {
        return Touched {
            changed: vec!["/_global/user/ADMIN", "/_global/project/sales.json"],
            removed: vec!["/_global/project/events.json"],
            added: vec!["/sales/rule/new.json", "/_global/user/NEW"],
        };
    }
    Touched {
        changed: vec!["USER_INFO/ADMIN", "MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac", "TABLE_INFO/retail.TILLS.STORE"],
        removed: vec!["COMPUTE_COLUMN/1f065b2d-6edf-d279-8edf-9abbc9a245d9", "RESOURCE_GROUP/relation"],
        added: vec!["SYSTEM/new", "USER_GROUP/NEW"],
    }
}

/// Lets a Kylin change some documents.
fn change(db: &Db, shape: Shape) -> Touched {
    let touched = touched(shape);
    let mut client = KylinClient::connect(db, ID);
    for key in &touched.changed {
        for n in 0..2 {
            let update = |json: &mut Json| json["restore_me"] = json!(n);
            client.transaction("_global", |unit| unit.update(key, update)).unwrap();
        }
    }
    for key in &touched.removed {
        assert!(client.transaction("_global", |unit| unit.delete(key)).unwrap());
    }
    for key in &touched.added {
        let json = json!({ "uuid": format!("u-{}", key.len()), "name": "new", "group_name": "NEW" });
        client.transaction("_global", |unit| unit.create(key, &json)).unwrap();
    }
    touched
}

fn is_of(keys: &[&str]) -> impl Fn(&str) -> bool {
    move |key| keys.contains(&key)
}

#[test]
fn only_what_differs_is_touched() {
    for (kind, shape) in all_shapes() {
        let db = filled(kind, shape);
        let (_, repo) = create();
        let saved = dump(&db, ID);
        let snap = snapshot(&db, &repo);
        let touched = change(&db, shape);
        let mut nodes = Nodes::start(&db);
        let (before, log) = (dump(&db, ID), records(&db, shape));
        let began = super::kylin_client::now();
        let report = restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        let (after, now) = (dump(&db, ID), super::kylin_client::now());
        let total = report.plan.total();
        assert_eq!((total.add, total.remove), (touched.removed.len() as u64, touched.added.len() as u64));
        // Permissions of a project that is gone are at another path, and in the same row.
        assert_eq!(total.replace, touched.changed.len() as u64 + u64::from(shape == Shape::Old));
        assert_eq!(contents(&after), contents(&saved), "{kind:?} {shape:?}");
        let all = [&touched.changed[..], &touched.removed, &touched.added].concat();
        let is_touched = is_of(&all);
        assert_same_rows(&before, &after, |key| !is_touched(key));
        for key in &touched.changed {
            let (was, is, saved) = (&before[*key], &after[*key], &saved[*key]);
            assert_eq!((was.mvcc, is.mvcc, is.id), (2, 3, was.id), "{key}");
            assert!((began..=now).contains(&is.ts));
            assert_eq!((columns_of(is), &is.project), (columns_of(saved), &saved.project), "{key}");
            assert_eq!(is.stored.starts_with(b"GZIP"), saved.stored.starts_with(b"GZIP"), "{key}");
        }
        for key in &touched.removed {
            let (is, saved) = (&after[*key], &saved[*key]);
            assert_eq!((is.mvcc, columns_of(is), &is.project), (0, columns_of(saved), &saved.project), "{key}");
            assert_eq!(is.stored.starts_with(b"GZIP"), saved.stored.starts_with(b"GZIP"), "{key}");
        }
        nodes.assert_follow(&after);
        assert_records(&records(&db, shape)[log.len()..], &touched, &after, (began, now), shape);
        // Once more: there is nothing to do.
        let everything_before = everything(&db, shape);
        let report = restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        assert!(report.plan.is_empty() && report.checkpoint.is_none());
        assert!(everything(&db, shape) == everything_before);
    }
}

/// Asserts that records of the audit log are those of one unit that removed, changed and added, in this order.
fn assert_records(log: &[Record], touched: &Touched, after: &Rows, (began, now): (i64, i64), shape: Shape) {
    let keys = |records: &[Record]| records.iter().map(|record| record.key.clone()).collect::<BTreeSet<String>>();
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<String>>();
    let (removed, rest) = log.split_at(touched.added.len());
    let (changed, added) = rest.split_at(touched.changed.len());
    assert_eq!(keys(removed), set(&touched.added));
    assert_eq!(keys(changed), set(&touched.changed));
    assert_eq!(keys(added), set(&touched.removed));
    assert!(log.iter().all(|record| record.unit == log[0].unit && record.unit.len() == 36));
    assert!(log.windows(2).all(|pair| pair[0].id < pair[1].id));
    for record in log {
        assert!((began..=now).contains(&record.ts.unwrap()));
        assert_eq!(record.instance.as_deref(), Some("10.1.2.3:0000"));
    }
    for record in removed {
        assert_eq!((&record.content, record.mvcc), (&None, None));
        assert!(record.new.as_ref().is_none_or(|(model, _, is_patch)| model.is_none() && *is_patch == Some(0)));
    }
    for record in changed.iter().chain(added) {
        let row = &after[&record.key];
        assert_eq!((record.content.as_ref(), record.mvcc), (Some(&row.content), Some(row.mvcc)));
        assert_eq!(record.ts, Some(row.ts));
        if shape != Shape::Old {
            let model = match record.key.as_str() {
                "MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac" => Some("1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac".to_owned()),
                _ => None,
            };
            let of_project = row.project.clone().unwrap_or_else(|| "_global".to_owned());
            assert_eq!(record.new, Some((model, Some(of_project), Some(0))), "{}", record.key);
        }
    }
}

#[test]
fn models_are_named_in_the_log_as_kylin_does() {
    for kind in BOTH {
        let db = filled(kind, NEW);
        let (_, repo) = create();
        let snap = snapshot(&db, &repo);
        let rows = dump(&db, ID);
        let other = scratch_database(kind);
        empty(&other, NEW);
        restore_db(&other, &repo, &snap, &restoring(Mode::Merge)).unwrap();
        for record in records(&other, NEW) {
            let json: Json = serde_json::from_slice(&rows[&record.key].content).unwrap();
            let field = match record.key.split_once('/').unwrap().0 {
                "MODEL" | "DATAFLOW" | "INDEX_PLAN" | "FUSION_MODEL" => "uuid",
                "SEGMENT" | "CC_MODEL_RELATION" | "TABLE_MODEL_RELATION" => "model_uuid",
                "STREAMING_JOB" => "model_id",
                "LAYOUT" | "LAYOUT_DETAILS" => "dataflow",
                _ => "there is none",
            };
            let (model, _, _) = record.new.unwrap();
            assert_eq!(model.as_deref(), json[field].as_str(), "{}", record.key);
        }
    }
}

#[test]
fn columns_are_filled_as_kylin_fills_them() {
    for (kind, shape) in all_shapes() {
        let db = filled(kind, shape);
        let (_, repo) = create();
        let snap = snapshot(&db, &repo);
        let other = scratch_database(kind);
        empty(&other, shape);
        let mut nodes = Nodes::start(&other);
        restore_db(&other, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        let (expected, found) = (dump(&db, ID), dump(&other, ID));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (key, row) in &found {
            let same = &expected[key];
            assert_eq!(
                (columns_of(row), &row.project, &row.content),
                (columns_of(same), &same.project, &same.content),
                "{key}"
            );
            assert_eq!(row.stored, same.stored, "{kind:?} {key}: it is stored as it was");
            assert_eq!(row.mvcc, 0);
        }
        nodes.assert_follow(&found);
    }
}

#[test]
fn rows_of_one_release_go_to_tables_of_another() {
    for kind in BOTH {
        for (from, to) in [(Release::V500, Release::V502), (Release::V502, Release::V500)] {
            let db = filled(kind, Shape::New(from));
            let (_, repo) = create();
            let snap = snapshot(&db, &repo);
            let [expected, other] = [scratch_database(kind), scratch_database(kind)];
            fill(&expected, Shape::New(to));
            empty(&other, Shape::New(to));
            restore_db(&other, &repo, &snap, &restoring(Mode::Merge)).unwrap();
            let (expected, found) = (dump(&expected, ID), dump(&other, ID));
            for (key, row) in &expected {
                assert_eq!((columns_of(&found[key]), &found[key].project), (columns_of(row), &row.project), "{key}");
            }
        }
    }
}

#[test]
fn tables_are_made_where_there_are_none() {
    for (kind, shape) in
        [(Kind::PostgreSql, NEW), (Kind::MySql, NEW), (Kind::PostgreSql, Shape::Old), (Kind::MySql, Shape::Old)]
    {
        let db = filled(kind, shape);
        let (_, repo) = create();
        let snap = snapshot(&db, &repo);
        let other = scratch_database(kind);
        let database = metastash::platform::kylin::database::Database::parse(&other.url()).unwrap();
        let layout = snap.manifest.layout.as_str();
        assert!(matches!(open_at(&other.url(), layout), Err(Error::NoTables { .. })));
        let store = metastash::endpoint::sql::SqlStore::open_target(database, options_of(true), layout).unwrap();
        let plan = plan_restore(&store, &repo, &snap, &restoring(Mode::Truncate), &Silent).unwrap();
        assert_eq!(plan.total().add, dump(&db, ID).len() as u64);
        assert!(matches!(open_at(&other.url(), layout), Err(Error::NoTables { .. })), "a plan makes no tables");
        super::restoring::restore_to(&store, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        assert_eq!(contents(&dump(&other, ID)), contents(&dump(&db, ID)));
        // A Kylin can write to them, and the sequences are where they should be.
        let mut nodes = Nodes::start(&other);
        change(&other, shape);
        nodes.assert_follow(&dump(&other, ID));
        restore_db(&other, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        assert_eq!(contents(&dump(&other, ID)), contents(&dump(&db, ID)));
        nodes.assert_follow(&dump(&other, ID));
    }
}

#[test]
fn merge_keeps_and_undo_brings_back() {
    for (kind, shape) in all_shapes() {
        let db = filled(kind, shape);
        let (_, repo) = create();
        let saved = contents(&dump(&db, ID));
        let snap = snapshot(&db, &repo);
        let touched = change(&db, shape);
        let before = dump(&db, ID);
        let report = restore_db(&db, &repo, &snap, &restoring(Mode::Merge)).unwrap();
        let after = contents(&dump(&db, ID));
        for (key, content) in &after {
            let expected = if touched.added.contains(&key.as_str()) { &before[key].content } else { &saved[key] };
            assert_eq!(content, expected, "{key}");
        }
        assert_eq!(after.len(), saved.len() + touched.added.len());
        let mut nodes = Nodes::start(&db);
        undo(&db, &repo, &report);
        let now = dump(&db, ID);
        assert_eq!(contents(&now), contents(&before), "{kind:?} {shape:?}");
        nodes.assert_follow(&now);
        for (key, row) in &now {
            assert!(row.mvcc >= before[key].mvcc, "{key}: a version never goes back");
        }
    }
}

/// Tells of which project a row is, by its columns or its key; permissions by the UUID of the project.
fn owner(rows: &Rows, key: &str) -> Option<String> {
    let project_of = |uuid: &str| {
        rows.iter().find_map(|(key, row)| {
            let name = key
                .strip_prefix("PROJECT/")
                .or_else(|| key.strip_prefix("/_global/project/")?.strip_suffix(".json"))?;
            let json: Json = serde_json::from_slice(&row.content).unwrap();
            (json["uuid"] == uuid).then(|| name.to_owned())
        })
    };
    let parts: Vec<&str> = key.split('/').collect();
    match parts[..] {
        ["PROJECT", name] => Some(name.to_owned()),
        ["OBJECT_ACL", uuid] | ["", "_global", "acl", uuid] => project_of(uuid),
        ["", "_global", "project", name] => name.strip_suffix(".json").map(str::to_owned),
        ["", "_global", ..] | ["", _] => None,
        ["", project, ..] => Some(project.to_owned()),
        _ => rows[key].project.clone().filter(|project| project != "_global"),
    }
}

#[test]
fn a_project_comes_back_and_nothing_of_others_is_touched() {
    for (kind, shape) in all_shapes() {
        let (_, one, other) = shape.tree();
        let db = filled(kind, shape);
        let (_, repo) = create();
        let saved = dump(&db, ID);
        let snap = snapshot(&db, &repo);
        // Some document of each project is changed, and some removed: all of them, of one kind after the other.
        let keys: Vec<&String> = saved.keys().collect();
        let mut client = KylinClient::connect(&db, ID);
        for (n, key) in keys.iter().enumerate() {
            if serde_json::from_slice::<Json>(&saved[*key].content).is_err() || key.ends_with("UUID") {
                continue;
            }
            let is_project = key.starts_with("PROJECT/") || key.contains("/project/");
            if n % 3 == 0 && !is_project {
                client.transaction("_global", |unit| unit.delete(key)).unwrap();
            } else if n % 3 == 1 {
                client.transaction("_global", |unit| unit.update(key, |json| json["touched"] = json!(n))).unwrap();
            }
        }
        let before = dump(&db, ID);
        let mut nodes = Nodes::start(&db);
        for mode in [Mode::Merge, Mode::Truncate] {
            restore_db(&db, &repo, &snap, &restoring_project(mode, one)).unwrap();
            let after = dump(&db, ID);
            let is_one = |key: &str| {
                let rows = if saved.contains_key(key) { &saved } else { &before };
                owner(rows, key).as_deref() == Some(one)
            };
            assert_same_rows(&before, &after, |key| !is_one(key));
            for (key, row) in saved.iter().filter(|(key, _)| is_one(key)) {
                assert_eq!(after.get(key).map(|row| &row.content), Some(&row.content), "{kind:?} {key}");
            }
            nodes.assert_follow(&after);
        }
        // And away: the project goes, with its permissions, and nothing else.
        let empty_snapshot = {
            let other_db = filled(kind, shape);
            let report = restore_db(&other_db, &repo, &snap, &restoring(Mode::Merge));
            report.unwrap();
            snapshot_of(&other_db, &repo, project(other))
        };
        let refused = danger(
            restore_db(&db, &repo, &empty_snapshot, &restoring_project(Mode::Truncate, other))
                .and_then(|_| restore_db(&db, &repo, &empty_snapshot, &restoring(Mode::Truncate))),
        );
        assert!(refused.contains("truncating the whole store would remove all else"), "{refused}");
    }
}

#[test]
fn guards_stand_before_databases_too() {
    for (kind, shape) in
        [(Kind::PostgreSql, NEW), (Kind::MySql, NEW), (Kind::PostgreSql, Shape::Old), (Kind::MySql, Shape::Old)]
    {
        let (_, one, _) = shape.tree();
        let db = filled(kind, shape);
        let (_, repo) = create();
        let snap = snapshot(&db, &repo);
        let of_project = snapshot_of(&db, &repo, project(one));
        let nothing = scratch_database(kind);
        empty(&nothing, shape);
        let of_nothing = snapshot(&nothing, &repo);
        // Another system.
        let foreign = scratch_database(kind);
        fill(&foreign, shape);
        let (key, identity): (&str, Vec<u8>) = match shape {
            Shape::Old => ("/UUID", b"\x00\x2400000000-0000-0000-0000-000000000000".to_vec()),
            Shape::New(_) => (
                "SYSTEM/UUID",
                br#"{"uuid":"00000000-0000-0000-0000-000000000000","name":"UUID","str":"other"}"#.to_vec(),
            ),
        };
        set_content(&foreign, key, &identity, 7);
        let before = [everything(&db, shape), everything(&foreign, shape)];
        let cases = [
            (&foreign, &snap, Mode::Merge, "the target is the system"),
            (&foreign, &snap, Mode::Truncate, "the target is the system"),
            (&db, &of_project, Mode::Truncate, "truncating the whole store would remove all else"),
            (&db, &of_nothing, Mode::Truncate, "holds no document of this scope"),
        ];
        for (db, snap, mode, expected) in cases {
            for checkpoint in [true, false] {
                let options = RestoreOptions { checkpoint, ..restoring(mode) };
                let danger = danger(restore_db(db, &repo, snap, &options));
                assert!(danger.contains(expected), "{kind:?} {shape:?}: {danger}");
            }
        }
        assert!([everything(&db, shape), everything(&foreign, shape)] == before);
    }
}

/// Adds a model with an alias to a project.
fn add_model(client: &mut KylinClient, uuid: &str, alias: &str) {
    let json = json!({ "uuid": uuid, "project": "learn_kylin", "alias": alias });
    client.transaction("learn_kylin", |unit| unit.create(&format!("MODEL/{uuid}"), &json)).unwrap();
}

#[test]
fn two_models_of_one_name_are_refused() {
    for kind in BOTH {
        let db = filled(kind, NEW);
        let (_, repo) = create();
        let mut client = KylinClient::connect(&db, ID);
        add_model(&mut client, "a0000000-0000-0000-0000-000000000000", "first");
        let snap = snapshot(&db, &repo);
        client.transaction("learn_kylin", |unit| unit.delete("MODEL/a0000000-0000-0000-0000-000000000000")).unwrap();
        add_model(&mut client, "b0000000-0000-0000-0000-000000000000", "first");
        let before = everything(&db, NEW);
        let refused = danger(restore_db(&db, &repo, &snap, &restoring(Mode::Merge)));
        assert!(refused.contains("2 models named first"), "{refused}");
        // If it is accepted, the table does not take it.
        let allow = metastash::ops::restore::Allow { same_alias: true, ..Default::default() };
        let options = RestoreOptions { allow, ..restoring(Mode::Merge) };
        match store_error(restore_db(&db, &repo, &snap, &options)) {
            Error::Database { source, .. } => assert_eq!(source.fault, metastash::endpoint::sql::Fault::Constraint),
            other => panic!("{other:?}"),
        }
        assert!(everything(&db, NEW) == before);
        // A key that is another now gives way first.
        restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        assert!(dump(&db, ID).contains_key("MODEL/a0000000-0000-0000-0000-000000000000"));
    }
}

#[test]
fn names_can_be_exchanged() {
    for kind in BOTH {
        let db = filled(kind, NEW);
        let (_, repo) = create();
        let mut client = KylinClient::connect(&db, ID);
        let uuids = ["a", "b", "c"].map(|c| format!("{c}0000000-0000-0000-0000-000000000000"));
        let aliases = ["first", "second", "third"];
        for (uuid, alias) in uuids.iter().zip(aliases) {
            add_model(&mut client, uuid, alias);
            let user = json!({ "uuid": uuid, "username": alias.to_uppercase() });
            client.transaction("_global", |unit| unit.create(&format!("USER_INFO/{alias}"), &user)).unwrap();
        }
        let snap = snapshot(&db, &repo);
        let saved = dump(&db, ID);
        // In a ring, with a step between, as Kylin would; and case differs.
        let mut rename = |n: usize, alias: &str| {
            let key = format!("MODEL/{}", uuids[n]);
            client.transaction("learn_kylin", |unit| unit.update(&key, |json| json["alias"] = json!(alias))).unwrap();
            let key = format!("USER_INFO/{}", aliases[n]);
            let rename = |json: &mut Json| {
                json["username"] = json!(alias.to_uppercase());
                json["uuid"] = json!(format!("{alias:-<36}"));
            };
            client.transaction("_global", |unit| unit.update(&key, rename)).unwrap();
        };
        rename(0, "between");
        rename(1, "FIRST");
        rename(2, "second");
        rename(0, "third");
        let mut nodes = Nodes::start(&db);
        let report = restore_db(&db, &repo, &snap, &restoring(Mode::Merge)).unwrap();
        assert_eq!(report.plan.total().replace, 6);
        let after = dump(&db, ID);
        for (key, row) in &saved {
            assert_eq!((&after[key].columns, &after[key].content), (&row.columns, &row.content), "{kind:?} {key}");
        }
        nodes.assert_follow(&after);
        undo(&db, &repo, &report);
        assert_eq!(dump(&db, ID)["USER_INFO/first"].columns["username"], "THIRD".into());
        nodes.assert_follow(&dump(&db, ID));
    }
}

/// Backs up a folder with other documents than the tree has.
fn snapshot_of_files(
    repo: &metastash::repo::Repository,
    change: impl FnOnce(&std::path::Path),
) -> metastash::repo::snapshot::Snapshot {
    let folder = crate::support::scratch();
    let view = crate::support::view(&fixture("learn_kylin"));
    crate::support::build(folder.path(), &view);
    change(folder.path());
    crate::support::settle();
    let store =
        metastash::endpoint::location::open(folder.path(), metastash::endpoint::location::Reading::Detect).unwrap();
    let options = metastash::ops::backup::BackupOptions::new(crate::support::author());
    let report = metastash::ops::backup::backup(&*store.store, repo, &options, &Silent).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    report.snapshot
}

#[test]
fn documents_that_can_be_no_rows_refuse_everything() {
    let long = "k".repeat(250);
    let cases: [(&str, String, &str); 5] = [
        ("SYSTEM/broken.json", "{ \"uuid\": ".to_owned(), "JSON is broken"),
        ("SYSTEM/nameless.json", json!({ "uuid": "x" }).to_string(), "has no `name`"),
        ("USER_GROUP/no_uuid.json", json!({ "group_name": "x" }).to_string(), "has no `uuid`"),
        ("SYSTEM/unfit.json", json!({ "uuid": "x", "name": "x", "id": "text" }).to_string(), "`id`"),
        ("SYSTEM/long.json", json!({ "uuid": "x", "name": "n".repeat(256) }).to_string(), "has 256 characters"),
    ];
    for kind in BOTH {
        for (name, content, expected) in &cases {
            let db = filled(kind, NEW);
            let (_, repo) = create();
            let snap = snapshot_of_files(&repo, |folder| {
                crate::support::write(folder, name, content);
                crate::support::write(
                    folder,
                    "USER_GROUP/GOOD.json",
                    json!({ "uuid": "g", "group_name": "G" }).to_string(),
                );
            });
            let before = everything(&db, NEW);
            match store_error(restore_db(&db, &repo, &snap, &restoring(Mode::Merge))) {
                Error::NoRow { path, why } => {
                    assert!(path.contains(name.strip_suffix(".json").unwrap()), "{path}");
                    assert!(why.contains(expected), "{why}");
                }
                other => panic!("{other:?}"),
            }
            assert!(everything(&db, NEW) == before, "{kind:?} {name}");
        }
        // A key that is too long for its column: file names are not, if the column is narrower.
        let db = filled(kind, NEW);
        let (_, repo) = create();
        let snap = snapshot_of_files(&repo, |folder| {
            crate::support::write(
                folder,
                format!("SYSTEM/{long}.json"),
                json!({ "uuid": "x", "name": "x" }).to_string(),
            );
        });
        db.execute(&match kind {
            Kind::PostgreSql => format!("ALTER TABLE {ID}_system ALTER COLUMN meta_key TYPE varchar(100)"),
            Kind::MySql => format!("ALTER TABLE {ID}_system MODIFY meta_key varchar(100) NOT NULL"),
        });
        let before = everything(&db, NEW);
        let error = store_error(restore_db(&db, &repo, &snap, &restoring(Mode::Merge)));
        assert!(error.to_string().contains("its key has 250 characters, more than 100"), "{error}");
        assert!(everything(&db, NEW) == before);
    }
}

#[test]
fn a_broken_document_is_put_back_where_it_was() {
    for kind in BOTH {
        let db = filled(kind, NEW);
        let (_, repo) = create();
        let key = "MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac";
        let broken = b"{ \"uuid\" : \"1fb9ceda".to_vec();
        set_content(&db, key, &broken, 3);
        let snap = snapshot(&db, &repo);
        let columns = dump(&db, ID)[key].columns.clone();
        set_content(
            &db,
            key,
            br#"{"uuid":"1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac","alias":"x","project":"learn_kylin"}"#,
            4,
        );
        restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        let row = dump(&db, ID).remove(key).unwrap();
        assert_eq!((row.content, row.mvcc, row.columns), (broken, 5, columns), "{kind:?}");
    }
}

#[test]
fn what_looks_encoded_is_never_written_so_that_a_reader_loops() {
    for (kind, shape) in
        [(Kind::PostgreSql, NEW), (Kind::MySql, NEW), (Kind::PostgreSql, Shape::Old), (Kind::MySql, Shape::Old)]
    {
        let db = filled(kind, shape);
        let (_, repo) = create();
        let keys = match shape {
            Shape::Old => ["/_global/user/ADMIN", "/_global/project/sales.json"],
            Shape::New(_) => ["RESOURCE_GROUP/relation", "USER_INFO/ADMIN"],
        };
        // A stream that is cut, and a content that happens to begin like one.
        let whole = super::encoding::encode(br#"{"uuid" : "cut", "name" : "cut", "username" : "cut" }"#);
        let stored = [whole[..whole.len() - 5].to_vec(), b"GZIP is what I am".to_vec()];
        for (key, stored) in keys.iter().zip(&stored) {
            set_content_raw(&db, key, stored);
        }
        let snap = snapshot(&db, &repo);
        for key in keys {
            set_content(&db, key, b"{}", 9);
        }
        restore_db(&db, &repo, &snap, &restoring(Mode::Merge)).unwrap();
        // `dump` would fail at a stream that Kylin's reader would not come to the end of.
        let rows = dump(&db, ID);
        for (key, stored) in keys.iter().zip(&stored) {
            assert_eq!(&rows[*key].content, stored, "{kind:?} {key}: what Kylin reads is what lay there");
        }
        records(&db, shape);
    }
}

fn set_content_raw(db: &Db, key: &str, stored: &[u8]) {
    set_content(db, key, stored, 2);
}

#[test]
fn rows_are_compared_by_their_keys_as_they_are_spelled() {
    // MySQL takes keys that differ in case for the same; PostgreSQL does not.
    let db = filled(Kind::PostgreSql, NEW);
    let (_, repo) = create();
    let mut client = KylinClient::connect(&db, ID);
    let group = |name: &str| json!({ "uuid": name, "group_name": name });
    client.transaction("_global", |unit| unit.create("USER_GROUP/analysts", &group("analysts"))).unwrap();
    let snap = snapshot(&db, &repo);
    let target = filled(Kind::MySql, NEW);
    let mut client = KylinClient::connect(&target, ID);
    client.transaction("_global", |unit| unit.create("USER_GROUP/ANALYSTS", &group("ANALYSTS"))).unwrap();
    let before = everything(&target, NEW);
    let error = store_error(restore_db(&target, &repo, &snap, &restoring(Mode::Merge)));
    assert!(matches!(&error, Error::NoRow { path, .. } if path.ends_with("USER_GROUP/analysts")), "{error:?}");
    assert!(everything(&target, NEW) == before);
    restore_db(&target, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
    assert_eq!(contents(&dump(&target, ID)), contents(&dump(&db, ID)));
}

#[test]
fn a_store_of_another_generation_is_refused() {
    for kind in BOTH {
        let [new, old] = [filled(kind, NEW), filled(kind, Shape::Old)];
        let (_, repo) = create();
        let snap = snapshot(&new, &repo);
        let error = store_error(restore_db(&old, &repo, &snap, &restoring(Mode::Merge)));
        assert!(matches!(error, Error::OtherLayout { .. }), "{error:?}");
        let snap = snapshot(&old, &repo);
        let error = store_error(restore_db(&new, &repo, &snap, &restoring(Mode::Merge)));
        assert!(matches!(error, Error::OtherLayout { .. }), "{error:?}");
    }
}

#[test]
fn trees_of_files_become_rows() {
    for kind in BOTH {
        let (_, repo) = create();
        // That is of a backup, and in no table.
        let snap = snapshot_of_files(&repo, |folder| std::fs::remove_file(folder.join("SYSTEM/_image.json")).unwrap());
        let [db, expected] = [scratch_database(kind), scratch_database(kind)];
        empty(&db, NEW);
        empty(&expected, NEW);
        load_tree(&expected, ID, &fixture("learn_kylin"), Compress::None);
        restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        let (found, expected) = (dump(&db, ID), dump(&expected, ID));
        assert_eq!(contents(&found), read_tree(&fixture("learn_kylin")));
        for (key, row) in &expected {
            assert_eq!((&found[key].columns, &found[key].stored), (&row.columns, &row.stored), "{key}");
        }
        assert!(differing(&found, &expected).len() <= found.len());
        let reread = metastash::ops::backup::backup(
            &at(&db),
            &repo,
            &metastash::ops::backup::BackupOptions::new(crate::support::author()),
            &Silent,
        );
        assert_eq!(reread.unwrap().snapshot.manifest.root, snap.manifest.root);
        assert_eq!(
            db.query(&format!("SELECT count(*) FROM {ID}_audit_log_v2"), &[]),
            [[Value::Int(found.len() as i64)]]
        );
    }
}
