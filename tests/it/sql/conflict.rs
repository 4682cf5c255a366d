//! Restores into databases that others change at the same time.

use std::thread;
use std::time::{Duration, Instant};

use metastash::endpoint::Error;
use metastash::endpoint::sql::Fault;
use metastash::ops;
use metastash::ops::restore::{Mode, RestoreOptions, RestoreReport};
use serde_json::{Value as Json, json};

use super::connection::{BOTH, Kind};
use super::kylin_client::KylinClient;
use super::kylin_db::{ID, contents, dump};
use super::meanwhile::Meanwhile;
use super::proxy::{How, Proxy, When};
use super::restoring::{
    NEW, Nodes, Shape, at, beside, everything, filled, filled_beside, open_at, restore_db, restore_to, restoring,
    restoring_project, snapshot, store_error,
};
use super::servers::Db;
use crate::support::{create, snapshots};

/// Documents of a store.
struct Keys {
    /// It will be put back.
    changed: &'static str,
    /// It will be added again.
    removed: &'static str,
    /// It will be removed by truncating.
    added: &'static str,
    /// It is the same on both sides.
    same: &'static str,
    /// It is nowhere, and of the project that is restored.
    newcomer: &'static str,
    /// It is nowhere, and of another project.
    stranger: &'static str,
    one: &'static str,
    other: &'static str,
}

fn keys(shape: Shape) -> Keys {
    match shape {
        Shape::Old => Keys {
            changed: "/sales/rule/one.json",
            removed: "/sales/rule/two.json",
            added: "/sales/rule/three.json",
            same: "/sales/rule/four.json",
            newcomer: "/sales/rule/five.json",
            stranger: "/events/rule/one.json",
            one: "sales",
            other: "events",
        },
        Shape::New(_) => Keys {
            changed: "MODEL/c0000000-0000-0000-0000-000000000001",
            removed: "MODEL/c0000000-0000-0000-0000-000000000002",
            added: "MODEL/c0000000-0000-0000-0000-000000000003",
            same: "MODEL/c0000000-0000-0000-0000-000000000004",
            newcomer: "MODEL/c0000000-0000-0000-0000-000000000005",
            stranger: "MODEL/c0000000-0000-0000-0000-000000000006",
            one: "learn_kylin",
            other: "retail",
        },
    }
}

fn document(key: &str, project: &str) -> Json {
    let uuid = key.rsplit('/').next().unwrap();
    json!({ "uuid": uuid, "project": project, "alias": format!("alias of {uuid}"), "count": 0 })
}

fn put(db: &Db, key: &str, project: &str) {
    let mut client = KylinClient::connect(db, ID);
    client.transaction(project, |unit| unit.create(key, &document(key, project))).unwrap();
}

fn touch(db: &Db, key: &str) {
    let mut client = KylinClient::connect(db, ID);
    let add = |json: &mut Json| json["count"] = json!(json["count"].as_i64().unwrap_or(0) + 1);
    client.transaction("_global", |unit| unit.update(key, add)).unwrap();
}

fn remove(db: &Db, key: &str) {
    assert!(KylinClient::connect(db, ID).transaction("_global", |unit| unit.delete(key)).unwrap());
}

/// Makes a store that differs from its snapshot in three documents, lets something happen between the plan and the commit,
/// and returns what came of the restore, and whether the store is as that something left it.
fn meanwhile(
    kind: Kind,
    shape: Shape,
    options: &RestoreOptions,
    act: impl FnOnce(&Db, &Keys) + Send,
) -> (Db, ops::Result<RestoreReport>, bool) {
    let keys = keys(shape);
    let db = filled(kind, shape);
    let (_, repo) = create();
    for key in [keys.changed, keys.removed, keys.same] {
        put(&db, key, keys.one);
    }
    let snap = snapshot(&db, &repo);
    touch(&db, keys.changed);
    remove(&db, keys.removed);
    put(&db, keys.added, keys.one);
    let mut nodes = Nodes::start(&db);
    let mut left = None;
    let store = open_at(&db.url(), &snap.manifest.layout).unwrap();
    let result = {
        let act = || {
            act(&db, &keys);
            left = Some(everything(&db, shape));
        };
        restore_to(&Meanwhile::new(store, act), &repo, &snap, options)
    };
    let records_are_missing = dump(&db, ID).contains_key("RESOURCE_GROUP/x");
    let is_untouched = left.unwrap() == everything(&db, shape);
    if !records_are_missing {
        nodes.assert_follow(&dump(&db, ID));
    }
    if result.is_err() {
        assert_eq!(snapshots(&repo).len(), 1, "a checkpoint of nothing is withdrawn");
    }
    (db, result, is_untouched)
}

fn shapes() -> [(Kind, Shape); 4] {
    [(Kind::PostgreSql, NEW), (Kind::MySql, NEW), (Kind::PostgreSql, Shape::Old), (Kind::MySql, Shape::Old)]
}

#[test]
fn what_changes_between_plan_and_commit_is_noticed() {
    type Act = fn(&Db, &Keys);
    let merge: [(&str, Act); 4] = [
        ("a row to be updated is updated", |db, keys| touch(db, keys.changed)),
        ("a row to be updated is removed", |db, keys| remove(db, keys.changed)),
        ("a row to be inserted is inserted", |db, keys| put(db, keys.removed, keys.one)),
        ("a row to be updated is made anew", |db, keys| {
            remove(db, keys.changed);
            put(db, keys.changed, keys.one);
        }),
    ];
    let truncate: [(&str, Act); 5] = [
        ("a row to be removed is updated", |db, keys| touch(db, keys.added)),
        ("a row to be removed is removed", |db, keys| remove(db, keys.added)),
        ("a row comes", |db, keys| put(db, keys.newcomer, keys.one)),
        ("a row that was the same is updated", |db, keys| touch(db, keys.same)),
        ("a row that was the same is removed", |db, keys| remove(db, keys.same)),
    ];
    for (kind, shape) in shapes() {
        let one = keys(shape).one;
        let merge = merge.iter().map(|case| (case, restoring(Mode::Merge)));
        let truncate = truncate
            .iter()
            .flat_map(|case| [(case, restoring(Mode::Truncate)), (case, restoring_project(Mode::Truncate, one))]);
        for ((what, act), options) in merge.chain(truncate) {
            let (_, result, is_untouched) = meanwhile(kind, shape, &options, act);
            let error = store_error(result);
            assert!(matches!(error, Error::Changed { .. }), "{kind:?} {shape:?} {what}: {error:?}");
            assert!(is_untouched, "{kind:?} {shape:?} {what}");
        }
    }
}

#[test]
fn what_others_do_elsewhere_does_not_matter() {
    for (kind, shape) in shapes() {
        let of_one = keys(shape).one;
        // In another project, or to what a merge does not put.
        let elsewhere = |db: &Db, keys: &Keys| {
            put(db, keys.stranger, keys.other);
            let (acl, user) = match shape {
                Shape::Old => (None, "/_global/user/NEW"),
                Shape::New(_) => (Some("OBJECT_ACL/d0000000-0000-0000-0000-000000000000"), "USER_GROUP/NEW"),
            };
            let mut client = KylinClient::connect(db, ID);
            let json = json!({ "uuid": "u", "group_name": "NEW" });
            for key in acl.into_iter().chain([user]) {
                client.transaction("_global", |unit| unit.create(key, &json)).unwrap();
            }
        };
        let (db, result, _) = meanwhile(kind, shape, &restoring_project(Mode::Truncate, of_one), elsewhere);
        result.unwrap();
        let keys = keys(shape);
        let rows = dump(&db, ID);
        assert!(rows.contains_key(keys.stranger) && rows.contains_key(keys.removed) && !rows.contains_key(keys.added));
        let (db, result, _) = meanwhile(kind, shape, &restoring(Mode::Merge), |db, keys| {
            put(db, keys.newcomer, keys.one);
            touch(db, keys.same);
            touch(db, keys.added);
            put(db, keys.stranger, keys.other);
        });
        result.unwrap();
        let rows = dump(&db, ID);
        for (key, count) in [(keys.newcomer, 0), (keys.stranger, 0), (keys.same, 1), (keys.added, 1), (keys.changed, 0)]
        {
            let json: Json = serde_json::from_slice(&rows[key].content).unwrap();
            assert_eq!(json["count"], count, "{kind:?} {shape:?} {key}");
        }
    }
}

#[test]
fn rows_that_no_log_tells_of_are_noticed_too() {
    for kind in BOTH {
        let (_, result, is_untouched) = meanwhile(kind, NEW, &restoring(Mode::Truncate), |db, _| {
            db.execute(&format!(
                "INSERT INTO {ID}_resource_group (meta_key, uuid, mvcc, ts, content) VALUES ('x', 'u', 0, 1, 'x')"
            ));
        });
        assert!(matches!(store_error(result), Error::Changed { .. }));
        assert!(is_untouched);
    }
}

#[test]
fn rows_beside_that_change_are_noticed() {
    for kind in BOTH {
        let acts = [
            format!(
                "UPDATE {ID}_query_history_offset SET query_history_id_offset = 7, mvcc = 9 WHERE project = 'travel'"
            ),
            format!("DELETE FROM {ID}_query_history_offset WHERE project = 'travel'"),
            format!("INSERT INTO {ID}_favorite_rule (project, name, mvcc) VALUES ('travel', 'duration', 0)"),
        ];
        for act in acts {
            let db = filled_beside(kind);
            let (_, repo) = create();
            let snap = snapshot(&db, &repo);
            db.execute(&format!(
                "UPDATE {ID}_query_history_offset SET query_history_id_offset = 99, mvcc = 3 WHERE project = 'travel';
                 DELETE FROM {ID}_favorite_rule"
            ));
            let store = Meanwhile::new(at(&db), || db.execute(&act));
            let mut left = Vec::new();
            let result = restore_to(&store, &repo, &snap, &restoring(Mode::Merge));
            left.extend(beside(&db));
            assert!(matches!(store_error(result), Error::Changed { .. }), "{kind:?} {act}");
            // Nothing but what the other one did.
            let expected = filled_beside(kind);
            expected.execute(&format!(
                "UPDATE {ID}_query_history_offset SET query_history_id_offset = 99, mvcc = 3 WHERE project = 'travel';
                 DELETE FROM {ID}_favorite_rule"
            ));
            expected.execute(&act);
            assert_eq!(left, beside(&expected), "{kind:?} {act}");
        }
    }
}

/// Waits until a statement waits for a lock.
fn wait_for_waiter(db: &Db) {
    let sql = match db.kind {
        Kind::PostgreSql => {
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        }
        Kind::MySql => {
            "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND info LIKE '%FOR UPDATE%' \
             AND id <> connection_id() AND time_ms > 100"
        }
    };
    let until = Instant::now() + Duration::from_secs(20);
    while db.number(sql) == 0 {
        assert!(Instant::now() < until, "nobody waits");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_row_that_comes_at_the_last_moment_is_a_change() {
    // With MySQL nobody can: the gap in which the row would be is locked.
    let db = filled(Kind::PostgreSql, NEW);
    let (_, repo) = create();
    let keys = keys(NEW);
    put(&db, keys.removed, keys.one);
    let snap = snapshot(&db, &repo);
    remove(&db, keys.removed);
    let url = db.url();
    let act = move || {
        let json = document(keys.removed, keys.one);
        let mut client = KylinClient::open(&url, ID).unwrap();
        client.transaction(keys.one, |unit| unit.create(keys.removed, &json)).unwrap();
    };
    let place = When::Says("INSERT INTO \"kylin_metadata_model\"");
    let proxy = Proxy::start(db.server.port(), place, How::Goes, false, Some(Box::new(act)));
    let store = open_at(&proxy.url(&db.url()), &snap.manifest.layout).unwrap();
    let error = store_error(restore_to(&store, &repo, &snap, &restoring(Mode::Merge)));
    assert!(proxy.finish() && matches!(error, Error::Changed { .. }), "{error:?}");
    assert_eq!(dump(&db, ID)[keys.removed].mvcc, 0);
}

#[test]
fn of_two_restores_at_once_one_is_done() {
    for (kind, shape) in shapes() {
        let keys = keys(shape);
        let db = filled(kind, shape);
        let (_, repo) = create();
        put(&db, keys.changed, keys.one);
        let snap = snapshot(&db, &repo);
        touch(&db, keys.changed);
        put(&db, keys.added, keys.one);
        let store =
            Meanwhile::new(at(&db), || drop(restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)).unwrap()));
        let error = store_error(restore_to(&store, &repo, &snap, &restoring(Mode::Truncate)));
        assert!(matches!(error, Error::Changed { .. }), "{error:?}");
        assert_eq!(dump(&db, ID)[keys.changed].mvcc, 2);
    }
}

const FIRST: &str =
    "SELECT id FROM kylin_metadata_model WHERE meta_key = 'c0000000-0000-0000-0000-000000000001' FOR UPDATE";
const LAST: &str = "SELECT id FROM kylin_metadata_user_info WHERE meta_key = 'ADMIN' FOR UPDATE";

/// Makes a store whose restore locks a model, and then a user.
fn with_two_to_lock(kind: Kind) -> (Db, metastash::repo::Repository, metastash::repo::snapshot::Snapshot) {
    let db = filled(kind, NEW);
    let (_, repo) = create();
    let keys = keys(NEW);
    put(&db, keys.changed, keys.one);
    let snap = snapshot(&db, &repo);
    touch(&db, keys.changed);
    touch(&db, "USER_INFO/ADMIN");
    (db, repo, snap)
}

#[test]
fn a_deadlock_is_got_over() {
    for kind in BOTH {
        let (db, repo, snap) = with_two_to_lock(kind);
        let before = everything(&db, NEW);
        let mut other = db.connect();
        other.batch("BEGIN").unwrap();
        other.query(LAST, &[]).unwrap();
        let result = thread::scope(|scope| {
            let restore = scope.spawn(|| restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)));
            wait_for_waiter(&db);
            // Whose transaction is given up is the server's choice.
            let _ = other.query(FIRST, &[]);
            other.batch("ROLLBACK").unwrap();
            restore.join().unwrap()
        });
        result.unwrap();
        assert!(everything(&db, NEW) != before);
        assert_eq!(snapshot(&db, &repo).manifest.root, snap.manifest.root, "{kind:?}");
    }
}

#[test]
fn a_lock_that_does_not_come_is_given_up() {
    for kind in BOTH {
        let (db, repo, snap) = with_two_to_lock(kind);
        let before = everything(&db, NEW);
        let mut other = db.connect();
        other.batch("BEGIN").unwrap();
        other.query(LAST, &[]).unwrap();
        for limit in ["lock_timeout=1", "statement_timeout=1"] {
            let store = open_at(&format!("{}?{limit}", db.url()), &snap.manifest.layout).unwrap();
            let began = Instant::now();
            match store_error(restore_to(&store, &repo, &snap, &restoring(Mode::Truncate))) {
                Error::Database { source, .. } => assert_eq!(source.fault, Fault::Timeout, "{kind:?} {limit}"),
                other => panic!("{other:?}"),
            }
            assert!(began.elapsed() < Duration::from_secs(15));
            assert!(everything(&db, NEW) == before, "{kind:?} {limit}");
            assert_eq!(snapshots(&repo).len(), 1);
        }
        other.batch("ROLLBACK").unwrap();
        restore_db(&db, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        assert!(!contents(&dump(&db, ID)).is_empty());
    }
}
