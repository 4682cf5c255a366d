//! That what plays Kylin does as Kylin.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::connection::{BOTH, Kind, Value};
use super::encoding::{Compress, decode};
use super::kylin_client::KylinClient;
use super::kylin_db::{ID, contents, create_new, create_old, dump, load_tree};
use super::kylin_node::{Node, Role};
use super::kylin_tables::Release;
use super::kylin_units::{Done, check_invariants, model_unit};
use super::servers::{Db, scratch_database};

const PROJECT: &str = "learn_kylin";

fn filled(kind: Kind, is_new: bool) -> Db {
    let db = scratch_database(kind);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    if is_new {
        create_new(&db, ID, Release::V502);
        load_tree(&db, ID, &fixtures.join("learn_kylin"), Compress::Mixed);
    } else {
        create_old(&db, ID);
        load_tree(&db, ID, &fixtures.join("kylin_old"), Compress::Mixed);
    }
    db
}

#[test]
fn a_unit_writes_rows_and_log() {
    for kind in BOTH {
        let db = filled(kind, true);
        let mut client = KylinClient::connect(&db, ID);
        let json = json!({ "uuid": "u-1", "name": "one", "value": 1 });
        client.transaction("_global", |unit| unit.create("SYSTEM/one", &json)).unwrap();
        client.transaction("_global", |unit| unit.update("SYSTEM/one", |json| json["value"] = json!(2))).unwrap();
        let row = &dump(&db, ID)["SYSTEM/one"];
        assert_eq!((row.mvcc, &row.columns["name"]), (1, &"one".into()));
        assert_eq!(serde_json::from_slice::<Json>(&row.content).unwrap()["value"], 2);
        assert!(client.transaction("_global", |unit| unit.delete("SYSTEM/one")).unwrap());
        assert!(!client.transaction("_global", |unit| unit.delete("SYSTEM/one")).unwrap());
        assert!(!dump(&db, ID).contains_key("SYSTEM/one"));
        let log = db.query(
            &format!("SELECT meta_key, meta_mvcc, diff_flag, meta_content, project FROM {ID}_audit_log_v2 ORDER BY id"),
            &[],
        );
        let seen: Vec<_> = log.iter().map(|row| (row[1].int(), row[2].int(), row[3].bytes().map(decode))).collect();
        let patch = br#"[{"op":"replace","path":"/value","value":2}]"#.to_vec();
        assert_eq!(seen[1..], [(Some(1), Some(1), Some(patch)), (None, Some(0), None)]);
        assert_eq!((seen[0].0, seen[0].1), (Some(0), Some(0)));
        assert!(log.iter().all(|row| row[0] == "SYSTEM/one".into() && row[4] == "_global".into()));
    }
}

#[test]
fn a_failed_unit_leaves_nothing() {
    for (kind, is_new) in
        [(Kind::PostgreSql, true), (Kind::MySql, true), (Kind::PostgreSql, false), (Kind::MySql, false)]
    {
        let db = filled(kind, is_new);
        let before = dump(&db, ID);
        let mut client = KylinClient::connect(&db, ID);
        let name = if is_new { "SYSTEM/one" } else { "/_global/one" };
        let failed = client.transaction("_global", |unit| {
            unit.create(name, &json!({ "uuid": "u-1", "name": "one" }))?;
            unit.update("SYSTEM/two", |_| {})
        });
        assert!(failed.is_err());
        assert_eq!(dump(&db, ID), before);
        let log = if is_new { "audit_log_v2" } else { "audit_log" };
        assert_eq!(db.number(&format!("SELECT count(*) FROM {ID}_{log}")), 0);
    }
}

#[test]
fn units_of_two_writers_keep_models_whole() {
    for (kind, is_new) in
        [(Kind::PostgreSql, true), (Kind::MySql, true), (Kind::PostgreSql, false), (Kind::MySql, false)]
    {
        let db = filled(kind, is_new);
        let mut nodes = [Role::Job, Role::Query].map(|role| Node::start(&db, ID, role));
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let db = &db;
                    scope.spawn(move || {
                        let mut client = KylinClient::connect(db, ID);
                        client.attempts = 20;
                        (0..100).map(|n| model_unit(&mut client, PROJECT, 2 * n + writer).unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            while writers.iter().any(|writer| !writer.is_finished()) {
                check_invariants(&contents(&dump(&db, ID))).unwrap();
                nodes[0].catch_up().unwrap();
            }
            seen.extend(writers.into_iter().flat_map(|writer| writer.join().unwrap()));
        });
        for done in [Done::Created, Done::Counted, Done::Built, Done::Dropped, Done::Deleted] {
            assert!(seen.contains(&done), "{done:?}");
        }
        let rows = dump(&db, ID);
        assert!(check_invariants(&contents(&rows)).unwrap() > 3);
        for node in &mut nodes {
            node.catch_up().unwrap();
            assert_eq!((node.differences(&rows), node.reloads, node.rereads), (Vec::new(), 0, 0), "{kind:?}");
            check_invariants(&node.contents()).unwrap();
        }
    }
}

#[test]
fn what_is_torn_is_noticed() {
    let db = filled(Kind::PostgreSql, true);
    let mut client = KylinClient::connect(&db, ID);
    for n in 0..30 {
        model_unit(&mut client, PROJECT, n).unwrap();
    }
    let whole = contents(&dump(&db, ID));
    let models = check_invariants(&whole).unwrap();
    assert!(models > 3);
    let paths = whole.iter().map(|(name, content)| (format!("{PROJECT}/{name}.json"), content.clone())).collect();
    assert_eq!(check_invariants(&paths), Ok(models));
    let is_of_unit = |content: &[u8]| content.windows(10).any(|bytes| bytes == b"unit_count");
    for (name, content) in whole.iter().filter(|(_, content)| is_of_unit(content)) {
        let mut torn = whole.clone();
        torn.remove(name);
        assert!(check_invariants(&torn).is_err(), "{name} is gone");
        if name.starts_with("INDEX_PLAN/") {
            let text = String::from_utf8(content.clone()).unwrap();
            torn.insert(name.clone(), text.replace("\"unit_count\" : ", "\"unit_count\" : 9").into_bytes());
            assert!(check_invariants(&torn).is_err(), "{name} is newer");
        }
    }
}

#[test]
fn a_node_notices_what_it_can_not_follow() {
    for kind in BOTH {
        let db = filled(kind, true);
        let mut client = KylinClient::connect(&db, ID);
        for n in 0..20 {
            model_unit(&mut client, PROJECT, n).unwrap();
        }
        let mut node = Node::start(&db, ID, Role::Job);
        // Changed behind its back.
        db.execute(&format!("UPDATE {ID}_system SET mvcc = mvcc + 5 WHERE meta_key = 'UUID'"));
        client.transaction("_global", |unit| unit.update("SYSTEM/UUID", |json| json["str"] = json!("other"))).unwrap();
        node.catch_up().unwrap();
        assert_eq!((node.rereads, node.reloads, node.differences(&dump(&db, ID))), (1, 0, Vec::new()));
        // The same version with another content.
        let content = "'{\"uuid\":\"x\",\"name\":\"UUID\"}'";
        let content = if kind == Kind::PostgreSql { format!("{content}::bytea") } else { content.to_owned() };
        let log = format!("{ID}_audit_log_v2");
        db.execute(&format!(
            "UPDATE {ID}_system SET mvcc = 0, content = {content} WHERE meta_key = 'UUID';
             INSERT INTO {log} (meta_key, meta_ts, unit_id) VALUES ('SYSTEM/UUID', 1, 'u');
             INSERT INTO {log} (meta_key, meta_content, meta_ts, meta_mvcc, unit_id) VALUES ('SYSTEM/UUID', {content}, 1, 0, 'u')"
        ));
        node.catch_up().unwrap();
        assert!(node.stale.is_empty(), "it was version 6");
        let changed = content.replace("\"x\"", "\"y\"");
        db.execute(&format!(
            "UPDATE {ID}_system SET content = {changed} WHERE meta_key = 'UUID';
             INSERT INTO {log} (meta_key, meta_ts, unit_id) VALUES ('SYSTEM/UUID', 1, 'v');
             INSERT INTO {log} (meta_key, meta_content, meta_ts, meta_mvcc, unit_id) VALUES ('SYSTEM/UUID', {changed}, 1, 0, 'v')"
        ));
        node.catch_up().unwrap();
        assert_eq!((node.stale.len(), node.differences(&dump(&db, ID))), (1, Vec::new()));
        // A log that begins anew.
        db.execute(&format!("DELETE FROM {log}"));
        node.catch_up().unwrap();
        assert_eq!(node.reloads, 1);
    }
}

#[test]
fn the_log_is_rotated() {
    for (kind, is_new) in
        [(Kind::PostgreSql, true), (Kind::MySql, true), (Kind::PostgreSql, false), (Kind::MySql, false)]
    {
        let db = filled(kind, is_new);
        let mut client = KylinClient::connect(&db, ID);
        for n in 0..40 {
            model_unit(&mut client, PROJECT, n).unwrap();
        }
        let log = if is_new { format!("{ID}_audit_log_v2") } else { format!("{ID}_audit_log") };
        let last = |db: &Db| db.query(&format!("SELECT max(id) FROM {log}"), &[])[0][0].clone();
        let before = last(&db);
        client.rotate_log(10).unwrap();
        assert_eq!(db.number(&format!("SELECT count(*) FROM {log}")), 10);
        assert_eq!(last(&db), before);
        assert_ne!(before, Value::Null);
    }
}
