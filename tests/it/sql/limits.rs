//! Restores that a server does not allow, or does not take: what is said of them, and that nothing is changed.

use std::path::Path;

use metastash::endpoint::Error;
use metastash::endpoint::sql::Fault;
use metastash::ops::restore::Mode;
use serde_json::json;

use super::connection::{BOTH, Kind};
use super::kylin_client::KylinClient;
use super::kylin_db::{ID, contents, dump};
use super::proxy::{How, Proxy, When};
use super::restoring::{
    NEW, Shape, all_shapes, empty, everything, filled, metastash, open_at, restore_db, restore_to, restoring, snapshot,
    store_error,
};
use super::servers::{Db, scratch_database};
use crate::support::{create, noise, scratch, snapshots};

/// Makes a change that a restore would take back.
fn change(db: &Db, shape: Shape) {
    let (one, two) = match shape {
        Shape::Old => ("/_global/user/ADMIN", "/_global/user/NEW"),
        Shape::New(_) => ("USER_INFO/ADMIN", "USER_GROUP/NEW"),
    };
    let mut client = KylinClient::connect(db, ID);
    client.transaction("_global", |unit| unit.update(one, |json| json["touched"] = json!(1))).unwrap();
    let json = json!({ "uuid": "u", "group_name": "NEW" });
    client.transaction("_global", |unit| unit.create(two, &json)).unwrap();
}

#[test]
fn who_may_not_write_is_told_so() {
    for (kind, shape) in all_shapes() {
        let db = filled(kind, shape);
        let (_, repo) = create();
        let snap = snapshot(&db, &repo);
        change(&db, shape);
        let before = everything(&db, shape);
        for mode in [Mode::Merge, Mode::Truncate] {
            let store = open_at(&db.reader_url(), &snap.manifest.layout).unwrap();
            match store_error(restore_to(&store, &repo, &snap, &restoring(mode))) {
                Error::Database { source, .. } => assert_eq!(source.fault, Fault::Denied, "{kind:?} {shape:?}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(everything(&db, shape) == before);
        assert_eq!(snapshots(&repo).len(), 1);
    }
}

/// Runs the command; returns its exit code and what it says of a failure.
fn run(folder: &Path, words: &[&str]) -> (i32, String) {
    let output = metastash(folder, words).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_command_says_what_to_do() {
    for kind in BOTH {
        let db = filled(kind, NEW);
        let folder = scratch();
        let url = db.url();
        assert_eq!(run(folder.path(), &["init"]), (0, String::new()));
        assert_eq!(run(folder.path(), &["backup", "--store", &url]), (0, String::new()));
        change(&db, NEW);
        let before = everything(&db, NEW);
        // Who may not.
        let (code, said) = run(folder.path(), &["restore", "latest", "--store", &db.reader_url()]);
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("hint:") && said.contains("INSERT, UPDATE and DELETE") && !said.contains("quiet"),
            "{said}"
        );
        // A lock that does not come.
        let mut other = db.connect();
        other.batch("BEGIN").unwrap();
        other.query("SELECT id FROM kylin_metadata_user_info WHERE meta_key = 'ADMIN' FOR UPDATE", &[]).unwrap();
        let (code, said) = run(folder.path(), &["restore", "latest", "--store", &format!("{url}?lock_timeout=1")]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("lock_timeout") && !said.contains("secret"), "{said}");
        other.batch("ROLLBACK").unwrap();
        assert!(everything(&db, NEW) == before);
        // Someone who is faster.
        let own = url.clone();
        let act = Box::new(move || {
            let mut client = KylinClient::open(&own, ID).unwrap();
            client
                .transaction("_global", |unit| unit.update("USER_INFO/ADMIN", |json| json["touched"] = json!(2)))
                .unwrap();
        });
        let proxy = Proxy::start(db.server.port(), When::Says("FOR UPDATE"), How::Goes, false, Some(act));
        let (code, said) = run(folder.path(), &["restore", "latest", "--store", &proxy.url(&url)]);
        assert_eq!(code, 15, "{said}");
        assert!(said.contains("_global/USER_INFO/ADMIN changed since the plan was made"), "{said}");
        // An answer that does not come, from a server that is gone then.
        let proxy = Proxy::start(db.server.port(), When::Commits, How::Unanswered, true, None);
        let (code, said) = run(folder.path(), &["restore", "latest", "--store", &proxy.url(&url)]);
        assert_eq!(code, 20, "{said}");
        assert!(said.contains("it is not known whether") && said.contains("the checkpoint was kept"), "{said}");
        drop(proxy);
        assert_eq!(run(folder.path(), &["restore", "latest", "--store", &url, "--dry-run"]), (0, String::new()));
    }
}

/// A document that does not compress, of so many bytes.
fn large(bytes: usize) -> serde_json::Value {
    let hex = "0123456789abcdef".as_bytes();
    let text: Vec<u8> = noise(7, bytes / 2)
        .iter()
        .flat_map(|byte| [hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]])
        .collect();
    json!({ "uuid": "large", "group_name": "LARGE", "more": String::from_utf8(text).unwrap() })
}

#[test]
fn a_document_that_is_too_large_for_the_server_is_named() {
    let db = filled(Kind::PostgreSql, NEW);
    let (_, repo) = create();
    let json = large(100 << 20);
    let mut client = KylinClient::connect(&db, ID);
    client.compress = super::encoding::Compress::None;
    client.transaction("_global", |unit| unit.create("USER_GROUP/LARGE", &json)).unwrap();
    drop(json);
    let snap = snapshot(&db, &repo);
    let target = filled(Kind::MySql, NEW);
    change(&target, NEW);
    let before = everything(&target, NEW);
    match store_error(restore_db(&target, &repo, &snap, &restoring(Mode::Merge))) {
        Error::NoRow { path, why } => {
            assert_eq!(path, "_global/USER_GROUP/LARGE");
            let limit = (16 << 20) - (64 << 10);
            assert!(why.contains(&format!("the server takes {limit} at most")), "{why}");
            assert!(why.contains("raise max_allowed_packet"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(everything(&target, NEW) == before);
}

#[test]
fn a_document_just_below_the_limit_is_written() {
    for kind in BOTH {
        let (_, repo) = create();
        let source = filled(Kind::PostgreSql, NEW);
        let json = large((15 << 20) + (512 << 10));
        KylinClient::connect(&source, ID)
            .transaction("_global", |unit| unit.create("USER_GROUP/LARGE", &json))
            .unwrap();
        let snap = snapshot(&source, &repo);
        let target = scratch_database(kind);
        empty(&target, NEW);
        restore_db(&target, &repo, &snap, &restoring(Mode::Truncate)).unwrap();
        assert!(contents(&dump(&target, ID)) == contents(&dump(&source, ID)), "{kind:?}");
    }
}
