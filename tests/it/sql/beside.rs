//! Restores of what is beside the documents: jobs, rules, offsets.

use std::path::Path;

use metastash::endpoint::Error;
use metastash::endpoint::location::{Reading, open};
use metastash::monitor::Silent;
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::restore::Mode;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;

use super::connection::{BOTH, Value};
use super::encoding::encode;
use super::kylin_db::ID;
use super::restoring::{
    NEW, at, beside, empty, everything, filled_beside, fixture, restore_db, restoring, restoring_project, snapshot,
    store_error, undo,
};
use super::servers::{Db, scratch_database};
use crate::support::{author, build, create, entries, scratch, settle, view, write};

/// Lets a Kylin end a job, start one, drop one, and count on.
fn go_on(db: &Db) {
    let sql = [
        "UPDATE {}_job_info_v2 SET job_status = 'ERROR', mvcc = mvcc + 1, update_time = update_time + 1 WHERE subject = 'trips'",
        "DELETE FROM {}_job_info_v2 WHERE subject = 'readings'",
        "DELETE FROM {}_favorite_rule WHERE name = 'duration'",
        "UPDATE {}_query_history_offset SET query_history_id_offset = 99, mvcc = mvcc + 1, update_time = update_time + 1 \
         WHERE project = 'travel'",
    ];
    db.execute(&sql.map(|sql| sql.replace("{}", ID)).join(";\n"));
    let insert = format!(
        "INSERT INTO {ID}_job_info_v2 (job_id, job_type, job_status, project, subject, mvcc, job_content) \
         VALUES ('j', 'INDEX_BUILD', 'READY', 'travel', 's', 0, ?)"
    );
    db.with(|connection| connection.execute(&insert, &[encode(b"{}").into()]));
}

#[test]
fn rows_beside_the_documents_come_back_as_they_were() {
    for kind in BOTH {
        let db = filled_beside(kind);
        let (_, repo) = create();
        let saved = beside(&db);
        assert_eq!(saved.len(), 5);
        let snap = snapshot(&db, &repo);
        go_on(&db);
        let before = everything(&db, NEW);
        let report = restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        assert_eq!(beside(&db), saved, "{kind:?}");
        assert_eq!(everything(&db, NEW).1, before.1, "the audit log is not for them");
        assert_eq!(snapshot(&db, &repo).manifest.root, snap.manifest.root);
        undo(&db, &repo, &report);
        assert!(everything(&db, NEW) == before, "{kind:?}");
        // Of one project only.
        restore_db(&db, &repo, &snap, &restoring_project(Mode::Truncate, "energy")).unwrap();
        let of = |rows: &[Vec<Value>], project: &str| -> Vec<Vec<Value>> {
            rows.iter().filter(|row| row[2] == project.into()).cloned().collect()
        };
        assert_eq!(of(&beside(&db), "energy"), of(&saved, "energy"));
        assert_eq!(of(&beside(&db), "travel"), of(&before.2, "travel"));
    }
}

#[test]
fn a_row_keeps_its_id() {
    for kind in BOTH {
        let db = filled_beside(kind);
        let (_, repo) = create();
        let snap = snapshot(&db, &repo);
        let saved = beside(&db);
        // Another Kylin drew its ids in another order: what is 1 there is another rule here.
        let other = filled_beside(kind);
        let rule = |id: i64, project: &str, name: &str| {
            other.execute(&format!(
                "INSERT INTO {ID}_favorite_rule (id, project, conds, name, enabled, update_time, create_time, mvcc) \
                 VALUES ({id}, '{project}', '[]', '{name}', {}, 5, 5, 3)",
                if kind == super::connection::Kind::PostgreSql { "true" } else { "1" }
            ));
        };
        other.execute(&format!("DELETE FROM {ID}_favorite_rule"));
        rule(saved[2][0].int().unwrap(), "energy", "count");
        rule(50, "travel", "duration");
        let before = everything(&other, NEW);
        for _ in 0..2 {
            let report = restore_db(&other, &repo, &snap, &restoring(Mode::Merge)).unwrap();
            let now = beside(&other);
            let found: Vec<&Vec<Value>> = now.iter().filter(|row| row[1] == "duration".into()).collect();
            assert_eq!(found.len(), 1, "{kind:?}: {now:?}");
            assert_eq!((found[0][0].int(), &found[0][3..]), (Some(50), &saved[2][3..]), "{kind:?}");
            let count = now.iter().find(|row| row[1] == "count".into());
            assert_eq!(count, before.2.iter().find(|row| row[1] == "count".into()));
            undo(&other, &repo, &report);
            assert!(everything(&other, NEW) == before, "{kind:?}");
        }
        // Nor is it lost when the other id is to go.
        restore_db(&other, &repo, &snap, &restoring_project(Mode::Truncate, "travel")).unwrap();
        let now = beside(&other);
        let found: Vec<&Vec<Value>> = now.iter().filter(|row| row[1] == "duration".into()).collect();
        assert_eq!((found.len(), found[0][0].int()), (1, Some(50)));
        // Where there is none, and the id is another's, it gets one that is free.
        other.execute(&format!("DELETE FROM {ID}_favorite_rule WHERE id = 50"));
        restore_db(&other, &repo, &snap, &restoring(Mode::Merge)).unwrap();
        let now = beside(&other);
        let found = now.iter().find(|row| row[1] == "duration".into()).unwrap();
        assert!(found[0] != saved[2][0] && found[3..] == saved[2][3..], "{kind:?}: {now:?}");
        assert!(now.iter().any(|row| row[1] == "count".into()));
    }
}

fn snapshot_of_folder(folder: &Path, repo: &Repository) -> Snapshot {
    settle();
    let store = open(folder, Reading::Detect).unwrap().store;
    let report = backup(&*store, repo, &BackupOptions::new(author()), &Silent).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    report.snapshot
}

#[test]
fn ids_are_those_of_the_files_and_the_next_come_after() {
    for kind in BOTH {
        let (_, repo) = create();
        let snap = snapshot_of_folder(&fixture("kylin_backup"), &repo);
        let db = scratch_database(kind);
        empty(&db, NEW);
        restore_db(&db, &repo, &snap, &restoring(Mode::Merge)).unwrap();
        let rows = beside(&db);
        let id = |name: &str| rows.iter().find(|row| row[1] == name.into()).and_then(|row| row[0].int());
        assert_eq!(id("22eebfd1-2d82-cb1d-44de-a9d3b695735c"), Some(7));
        assert_eq!(id("2f91c4e8-a4b3-a3ac-695a-0bc91d6b8f08"), Some(8));
        assert_eq!((id("duration"), id("meta")), (Some(1), Some(1)));
        // 0 is what Kylin writes for none.
        assert!(id("accelerate").is_some_and(|id| id > 1), "{kind:?}: {rows:?}");
        // A Kylin goes on with ids of its own.
        go_on(&db);
        db.execute(&format!(
            "INSERT INTO {ID}_query_history_offset (project, type, mvcc) VALUES ('new', 'meta', 0);
             INSERT INTO {ID}_favorite_rule (project, name, mvcc) VALUES ('new', 'count', 0)"
        ));
        let other = scratch_database(kind);
        empty(&other, NEW);
        restore_db(&other, &repo, &snapshot(&db, &repo), &restoring(Mode::Merge)).unwrap();
        assert_eq!(beside(&other), beside(&db), "{kind:?}");
        let read = backup(&at(&other), &repo, &BackupOptions::new(author()), &Silent).unwrap();
        assert!(entries(&repo, &read.snapshot).unwrap().len() > rows.len());
    }
}

#[test]
fn files_that_can_be_no_rows_refuse_everything() {
    let rule = r#"{"id":3,"project":"energy","conds":[],"name":"count","enabled":true,"updateTime":1,"createTime":1,"mvcc":0}"#;
    let cases = [
        ("favorite_rule/travel/3.json", rule.to_owned(), "of the project energy"),
        ("favorite_rule/energy/3.json", rule.replace("\"enabled\":true", "\"enabled\":7"), "no boolean"),
        ("favorite_rule/energy/3.json", rule.replace("\"name\":\"count\",", ""), "no name"),
        ("favorite_rule/energy/3.json", "{".to_owned(), "JSON is broken"),
        ("job_info/energy/3.json", r#"{"id":3,"jobId":"3","project":"energy"}"#.to_owned(), "has no"),
    ];
    for kind in BOTH {
        for (name, content, expected) in &cases {
            let (_, repo) = create();
            let folder = scratch();
            build(folder.path(), &view(&fixture("kylin_backup")));
            write(folder.path(), name, content);
            let snap = snapshot_of_folder(folder.path(), &repo);
            let db = filled_beside(kind);
            let before = everything(&db, NEW);
            match store_error(restore_db(&db, &repo, &snap, &restoring(Mode::Merge))) {
                Error::NoRow { why, .. } => assert!(why.contains(expected), "{name}: {why}"),
                other => panic!("{other:?}"),
            }
            assert!(everything(&db, NEW) == before, "{kind:?} {name}");
        }
        // Two files of one rule.
        let (_, repo) = create();
        let folder = scratch();
        build(folder.path(), &view(&fixture("kylin_backup")));
        write(folder.path(), "favorite_rule/energy/3.json", rule);
        write(folder.path(), "favorite_rule/energy/4.json", rule.replace("\"id\":3", "\"id\":4"));
        let snap = snapshot_of_folder(folder.path(), &repo);
        let db = filled_beside(kind);
        let before = everything(&db, NEW);
        let error = store_error(restore_db(&db, &repo, &snap, &restoring(Mode::Merge)));
        assert!(error.to_string().contains("is the same row"), "{error}");
        assert!(everything(&db, NEW) == before);
    }
}
