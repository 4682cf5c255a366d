//! Which tables are read: generations, releases, identifiers, schemas, and what is none of Kylin's.

use metastash::endpoint::Error;
use metastash::platform::kylin::layout::{Layout, Level};

use super::connection::{BOTH, Kind};
use super::encoding::Compress;
use super::kylin_db::{ID, create_new, dump, load_tree};
use super::kylin_tables::Release;
use super::saving::{
    Generation, Shell, all_cases, assert_holds, back_up, fill, filled, fixture, forced, open, plain, try_back_up,
    try_open, try_open_as,
};
use super::servers::{Db, scratch_database};
use crate::support::create;

#[test]
fn tables_of_every_release_are_read() {
    for kind in BOTH {
        for release in [Release::V500, Release::V502] {
            let (db, (_, repo)) = (scratch_database(kind), create());
            create_new(&db, ID, release);
            load_tree(&db, ID, &fixture("learn_kylin"), Compress::Mixed);
            let report = back_up(&db, &repo, &plain());
            assert_eq!(report.snapshot.manifest.layout, "kylin-new-backup");
            assert_holds(&repo, &report.snapshot, &dump(&db, ID));
        }
        let (db, (_, repo)) = (filled(kind, Generation::Old), create());
        let report = back_up(&db, &repo, &plain());
        assert_eq!(report.snapshot.manifest.layout, "kylin-old");
        assert_holds(&repo, &report.snapshot, &dump(&db, ID));
    }
}

#[test]
fn new_tables_win_over_old_ones_unless_told_otherwise() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::Old), Shell::new());
        let old_documents = db.number(&format!("SELECT count(*) FROM {ID}"));
        fill(&db, ID, Generation::New);
        let new_documents = dump(&db, ID).len();
        let ran = shell.run(&["backup", "--store", &db.url()]);
        assert_eq!(ran.code, 0);
        let said = ran.stdout + &ran.stderr;
        assert!(said.contains(&format!("{new_documents} documents ({new_documents} new")), "{said}");
        assert!(said.contains("tables of the other generation of Kylin are there, too, and are not read"), "{said}");
        let said = shell.done(&["backup", "--layout", "kylin-old", "--store", &db.url()]);
        assert!(said.contains(&format!("{old_documents} documents ({old_documents} new")), "{said}");
        let said = shell.done(&["backup", "--layout", "kylin-new", "--store", &db.url()]);
        assert!(said.contains("(0 new, 0 changed, 0 removed"), "{said}");
        shell.run(&["backup", "--layout", "plain", "--store", &db.url()]).fails(2, &["no plain files in a database"]);
        // What is left of the new ones is no reason to take the old ones for what Kylin uses.
        db.execute(&format!("DROP TABLE {ID}_project"));
        shell
            .run(&["backup", "--store", &db.url()])
            .fails(1, &["lacks tables of Kylin", &format!("{ID}_project"), "--layout kylin-old"]);
        shell.done(&["backup", "--layout", "kylin-old", "--store", &db.url()]);
    }
}

fn with_identifier(db: &Db, identifier: &str) -> String {
    format!("{}?identifier={identifier}", db.url())
}

#[test]
fn several_kylins_live_in_one_database() {
    for kind in BOTH {
        let (db, (_, repo)) = (filled(kind, Generation::New), create());
        fill(&db, "kylin", Generation::Old);
        fill(&db, "kylin_metadata_2", Generation::New);
        db.execute("DELETE FROM kylin_metadata_2_model");
        let mut roots = Vec::new();
        for id in [ID, "kylin", "kylin_metadata_2"] {
            let report = try_back_up(&with_identifier(&db, id), &repo, &plain()).unwrap();
            assert_eq!(report.counts.new, report.snapshot.manifest.documents, "another store");
            assert!(report.remarks.is_empty(), "{:?}", report.remarks);
            roots.push(report.snapshot.manifest.root);
        }
        assert!(roots[0] != roots[1] && roots[1] != roots[2] && roots[0] != roots[2]);
        match try_open(&with_identifier(&db, "kylin_meta")) {
            Err(Error::NoTables { others, .. }) => assert_eq!(others, ["kylin", ID, "kylin_metadata_2"]),
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn letters_of_identifiers_are_those_of_the_server() {
    let (db, (_, repo)) = (scratch_database(Kind::PostgreSql), create());
    fill(&db, "Kylin_PROD", Generation::New);
    // Kylin does not quote names, so this is what its tables are called.
    assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'kylin_prod_model'"), 1);
    for spelled in ["Kylin_PROD", "kylin_prod", "KYLIN_PROD"] {
        let report = try_back_up(&with_identifier(&db, spelled), &repo, &plain()).unwrap();
        assert!(report.snapshot.manifest.store.ends_with("?identifier=kylin_prod"));
    }
    // Quoted ones are not Kylin's.
    db.execute("ALTER TABLE kylin_prod_project RENAME TO \"Kylin_PROD_project\"");
    match try_open(&with_identifier(&db, "Kylin_PROD")) {
        Err(Error::MissingTables { names, .. }) => assert_eq!(names, ["kylin_prod_project"]),
        other => panic!("{:?}", other.err()),
    }
    let (db, (_, repo)) = (scratch_database(Kind::MySql), create());
    fill(&db, "Kylin_PROD", Generation::New);
    let report = try_back_up(&with_identifier(&db, "Kylin_PROD"), &repo, &plain()).unwrap();
    assert!(report.snapshot.manifest.store.ends_with("?identifier=Kylin_PROD"));
    match try_open(&with_identifier(&db, "kylin_prod")) {
        Err(Error::NoTables { others, .. }) => assert_eq!(others, ["Kylin_PROD"]),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn half_of_the_tables_is_no_store() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::New), Shell::new());
        db.execute(&format!("DROP TABLE {ID}_segment; DROP TABLE {ID}_acl"));
        match try_open(&db.url()) {
            Err(Error::MissingTables { names, .. }) => {
                let mut names = names;
                names.sort();
                assert_eq!(names, [format!("{ID}_acl"), format!("{ID}_segment")]);
            }
            other => panic!("{:?}", other.err()),
        }
        shell.run(&["backup", "--store", &db.url()]).fails(1, &["lacks tables of Kylin", &format!("{ID}_segment")]);
    }
}

#[test]
fn table_of_something_else_is_noticed() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::New), Shell::new());
        db.execute(&format!(
            "DROP TABLE {ID}_acl; CREATE TABLE {ID}_acl (id bigint, meta_key varchar(20), entry text)"
        ));
        let said = [&format!("the table {ID}_acl of")[..], "it has no column mvcc, ts, content", "?identifier="];
        shell.run(&["backup", "--store", &db.url()]).fails(1, &said);
        // One that could be the old table, but is not.
        let db = scratch_database(kind);
        db.execute(&format!("CREATE TABLE {ID} (id bigint, META_TABLE_KEY varchar(20))"));
        assert!(matches!(try_open(&db.url()), Err(Error::NoTables { .. })));
        // A table beside, with other columns.
        let db = filled(kind, Generation::New);
        db.execute(&format!("ALTER TABLE {ID}_favorite_rule DROP COLUMN conds"));
        match try_open(&db.url()) {
            Err(Error::ForeignTable { table, columns, .. }) => {
                assert_eq!((table, columns), (format!("{ID}_favorite_rule"), "conds".to_owned()));
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn store_without_tables_or_documents_is_no_store() {
    for kind in BOTH {
        let (db, shell) = (scratch_database(kind), Shell::new());
        shell
            .run(&["backup", "--store", &db.url()])
            .fails(1, &["no table of Kylin begins with `kylin_metadata`", "--create-tables"]);
        fill(&db, "other", Generation::New);
        let said = ["no table of Kylin begins with `kylin_metadata`", "there are tables of other", "?identifier="];
        shell.run(&["backup", "--store", &db.url()]).fails(1, &said);
        create_new(&db, ID, Release::V502);
        shell
            .run(&["backup", "--store", &db.url()])
            .fails(14, &["refused: the store holds no document", "--allow-empty"]);
        let said = shell.done(&["backup", "--allow-empty", "--store", &db.url()]);
        assert!(said.contains("0 documents"), "{said}");
        // It was full, and is empty now.
        load_tree(&db, ID, &fixture("learn_kylin"), Compress::Mixed);
        shell.done(&["backup", "--store", &db.url()]);
        for table in dump(&db, ID).keys().map(|name| name.split_once('/').unwrap().0.to_lowercase()) {
            db.execute(&format!("DELETE FROM {ID}_{table}"));
        }
        shell.run(&["backup", "--store", &db.url()]).fails(14, &["the store holds no document"]);
    }
}

#[test]
fn layout_that_is_not_there_is_no_store() {
    for (kind, generation) in all_cases() {
        let db = filled(kind, generation);
        let other = match generation {
            Generation::New => Layout::Old,
            Generation::Old => Layout::New(Level::Folder),
        };
        assert!(matches!(try_open_as(&db.url(), Some(other)), Err(Error::NoTables { .. })));
    }
}

#[test]
fn schema_is_where_the_tables_are_looked_for() {
    let (db, (_, repo)) = (scratch_database(Kind::PostgreSql), create());
    db.execute("CREATE SCHEMA \"My Kylin\"; CREATE SCHEMA other");
    assert!(matches!(try_open(&db.url()), Err(Error::NoTables { .. })));
    db.execute("SET search_path TO \"My Kylin\"");
    fill(&db, ID, Generation::New);
    let rows = dump(&db, ID);
    let url = format!("{}?schema=My%20Kylin", db.url());
    let report = try_back_up(&url, &repo, &plain()).unwrap();
    assert_holds(&repo, &report.snapshot, &rows);
    assert!(report.snapshot.manifest.store.ends_with("?identifier=kylin_metadata&schema=My%20Kylin"));
    assert!(matches!(try_open(&format!("{}?schema=other", db.url())), Err(Error::NoTables { .. })));
    // Where the server looks by itself is good, too.
    db.execute(&format!("ALTER ROLE kylin IN DATABASE {} SET search_path TO \"My Kylin\"", db.name));
    assert_eq!(try_back_up(&db.url(), &repo, &forced()).unwrap().snapshot.manifest.root, report.snapshot.manifest.root);
    // Another store of the same name elsewhere is not mixed with it.
    db.execute("SET search_path TO other");
    fill(&db, ID, Generation::New);
    db.execute(&format!("DELETE FROM {ID}_model"));
    assert_eq!(try_back_up(&url, &repo, &forced()).unwrap().snapshot.manifest.root, report.snapshot.manifest.root);
    let other = try_back_up(&format!("{}?schema=other", db.url()), &repo, &plain()).unwrap();
    assert_eq!(other.counts.new, other.snapshot.manifest.documents);
    drop(open(&url));
}
