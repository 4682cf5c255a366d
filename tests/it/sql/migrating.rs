//! Migration out of a database of the old generation, and into one of the new.

use std::fs;

use super::connection::BOTH;
use super::encoding::Compress;
use super::kylin_db::{ID, contents, create_new, dump, load_tree};
use super::kylin_tables::Release;
use super::saving::{Generation, Shell, filled, fixture};
use super::servers::scratch_database;

#[test]
fn an_old_database_becomes_a_new_one() {
    for kind in BOTH {
        let (old, new, shell) = (filled(kind, Generation::Old), scratch_database(kind), Shell::new());
        create_new(&new, ID, Release::V502);
        shell.done(&["migrate", &old.url(), "snapshot:migrated"]);
        let said = shell.done(&["restore", "migrated", "--store", &new.url(), "--allow-other-system"]);
        assert!(said.contains("32 documents added"), "{said}");
        let rows = dump(&new, ID);
        assert!(rows.contains_key("SYSTEM/UUID") && rows.contains_key("PROJECT/sales"), "{:?}", rows.keys());
        // What is in the database now is what a migration of the files gives.
        shell.done(&["migrate", "--verify", &old.url(), &new.url()]);
        let said = shell.done(&["migrate", &old.url(), "snapshot:migrated"]);
        assert!(said.contains("already"), "{said}");
        let before = contents(&dump(&old, ID));
        shell.run(&["migrate", &new.url(), "snapshot:"]).fails(14, &["lies in the layout of 5.0.0 and later already"]);
        assert_eq!(contents(&dump(&old, ID)), before);
    }
}

#[test]
fn a_migration_of_files_fills_a_database() {
    for kind in BOTH {
        let (new, shell) = (scratch_database(kind), Shell::new());
        create_new(&new, ID, Release::V502);
        let folder = tempfile::tempdir().unwrap();
        let result = folder.path().join("new");
        shell.done(&["migrate", fixture("kylin_old").to_str().unwrap(), result.to_str().unwrap()]);
        let files = load_tree(&new, ID, &result, Compress::Mixed);
        assert_eq!(dump(&new, ID).len(), files, "the tables take all of it");
        shell.done(&["migrate", "--verify", fixture("kylin_old").to_str().unwrap(), &new.url()]);
        assert!(fs::exists(&result).unwrap());
    }
}
