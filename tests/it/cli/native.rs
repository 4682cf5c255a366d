//! Backups that Kylin's own tool made, in the place of metastash's: restored as they are, and left alone.

use std::collections::BTreeMap;
use std::fs;

use super::dropin::{Kylin, USER, Way};
use super::{contents, copy, state, write_zip};

const MODEL: &str = "kylin home/metadata/MODEL/db3383bc-3a1d-453e-12f1-ee06224b9987.json";
const NATIVE: &str = "kylin home/meta_backups/2024-04-01-00-00-00_backup";

type Contents = BTreeMap<String, Vec<u8>>;

/// Makes a backup as Kylin's tool does, of the store as it is: in folders, or in a zip.
fn write_native(kylin: &Kylin, kind: &str) {
    let native = kylin.sandbox.path(NATIVE);
    fs::create_dir_all(native.join("core_meta")).unwrap();
    let store = kylin.home().join("metadata");
    if kind == "zip" {
        write_zip(&contents(&store), "", &native.join("core_meta/metadata.zip"));
    } else {
        copy(&store, &native.join("core_meta"));
        fs::write(native.join("core_meta/kylin.properties"), "kylin.env=PROD\n").unwrap();
    }
}

#[test]
fn native_backup_is_restored_as_it_is() {
    for kind in ["folder", "zip"] {
        let kylin = Kylin::new();
        write_native(&kylin, kind);
        let original = contents(&kylin.home().join("metadata"));
        let native = state(&kylin.sandbox.path(NATIVE));
        for place in ["", "/", "/core_meta"] {
            kylin.sandbox.write(USER, "{}");
            let (said, _) =
                kylin.done(Way::Program, &["restore", &format!("meta_backups/2024-04-01-00-00-00_backup{place}")]);
            assert!(
                said.starts_with("meta_backups/2024-04-01-00-00-00_backup") && said.contains(" is snapshot ID\n"),
                "{said}"
            );
            assert!(said.contains(" added, 1 replaced, 0 removed,"), "{kind}: {said}");
            assert!(said.ends_with("\nRestore succeed.\n"), "{said}");
            assert!(without_properties(contents(&kylin.home().join("metadata"))) == original, "{kind} {place}");
            assert_eq!(kylin.backups(), 1, "it is a snapshot once");
        }
        kylin.sandbox.write("kylin home/metadata/USER_INFO/NEW.json", "{}");
        fs::remove_file(kylin.sandbox.path(MODEL)).unwrap();
        kylin.done(Way::ScriptAlone, &["restore", NATIVE.strip_prefix("kylin home/").unwrap(), "--after-truncate"]);
        assert!(without_properties(contents(&kylin.home().join("metadata"))) == original, "{kind}");
        assert_eq!(kylin.backups(), 1);
        assert!(native == state(&kylin.sandbox.path(NATIVE)));
    }
}

#[test]
fn settings_in_a_native_backup_are_not_put_into_the_store() {
    let kylin = Kylin::new();
    write_native(&kylin, "folder");
    kylin.done(Way::Program, &["restore", "meta_backups/2024-04-01-00-00-00_backup"]);
    // They are another time's, perhaps another system's, with all their passwords. Kylin's tool passes over them.
    assert!(!kylin.home().join("metadata/kylin.properties").exists());
}

/// Leaves out what another test is about.
fn without_properties(mut contents: Contents) -> Contents {
    contents.remove("kylin.properties");
    contents
}

#[test]
fn native_backup_of_the_old_layout_is_restored_as_it_is() {
    let kylin = Kylin::new();
    fs::remove_dir_all(kylin.home().join("metadata")).unwrap();
    for folder in ["kylin home/metadata", NATIVE] {
        kylin.sandbox.write(&format!("{folder}/UUID"), "\0$3cbd7f37-dcdc-90b7-fe97-de0a98af7fec");
        kylin.sandbox.write(&format!("{folder}/_global/project/p.json"), "{\"uuid\":\"1\",\"name\":\"p\"}");
        kylin.sandbox.write(&format!("{folder}/_global/user/ADMIN"), "{}");
        kylin.sandbox.write(&format!("{folder}/p/table/DB.T.json"), "{\"name\":\"T\"}");
    }
    let original = contents(&kylin.home().join("metadata"));
    for arguments in [vec![], vec!["--after-truncate"]] {
        kylin.sandbox.write("kylin home/metadata/p/table/DB.T.json", "{}");
        let words = [vec!["restore", "meta_backups/2024-04-01-00-00-00_backup"], arguments].concat();
        assert!(kylin.done(Way::Program, &words).0.contains(" 1 replaced, 0 removed, 0 kept "));
        assert!(contents(&kylin.home().join("metadata")) == original);
    }
    assert_eq!(kylin.backups(), 1);
}

#[test]
fn empty_directory_is_no_backup() {
    let kylin = Kylin::new();
    fs::create_dir_all(kylin.sandbox.path(NATIVE)).unwrap();
    let expected =
        "error: The directory \"meta_backups/2024-04-01-00-00-00_backup\" is an empty directory, please check.
        hint: name the folder of a backup";
    for words in [vec!["restore"], vec!["restore-project", "retail"]] {
        let words = [words, vec!["meta_backups/2024-04-01-00-00-00_backup", "--after-truncate"]].concat();
        kylin.fails(Way::Program, &words, 1, "Restore failed. Detailed message is on standard error.", expected);
    }
    assert!(!kylin.home().join("meta_backups/config").exists());
}

#[test]
fn native_backups_are_left_as_they_are() {
    let kylin = Kylin::new();
    write_native(&kylin, "folder");
    let native = state(&kylin.sandbox.path(NATIVE));
    let label = kylin.backup();
    kylin.sandbox.write(USER, "{}");
    kylin.done(Way::Program, &["restore", &format!("meta_backups/{label}"), "--after-truncate"]);
    kylin.done(Way::Program, &["backup-project", "retail"]);
    assert!(native == state(&kylin.sandbox.path(NATIVE)));
}

#[test]
fn damaged_or_partial_native_backup_removes_nothing() {
    let kylin = Kylin::new();
    let words = ["restore", "meta_backups/2024-04-01-00-00-00_backup", "--after-truncate"];
    write_native(&kylin, "zip");
    let zip = kylin.sandbox.path(NATIVE).join("core_meta/metadata.zip");
    let whole = fs::read(&zip).unwrap();
    let before = contents(&kylin.home().join("metadata"));
    for length in [0, whole.len() / 2, whole.len() - 1] {
        fs::write(&zip, &whole[..length]).unwrap();
        let ran = kylin.run(Way::ScriptAlone, &words);
        let said = "Restore failed. Detailed message is on standard error.\n";
        assert_eq!((ran.code, ran.stdout.as_str()), (13, said), "{length}: {}", ran.stderr);
        assert!(ran.stderr.contains("/metadata.zip is damaged or not to be trusted: "), "{}", ran.stderr);
    }
    // What Kylin's backup of one project has, though nothing says so.
    let of_retail = before.iter().filter(|(name, _)| name.contains("/retail") || name.starts_with("SYSTEM/"));
    write_zip(&of_retail.map(|(name, content)| (name.clone(), content.clone())).collect(), "", &zip);
    let ran = kylin.run(Way::ScriptAlone, &words);
    assert!(ran.code == 14 && !ran.stdout.contains("succeed"), "{}", ran.stdout);
    assert!(ran.stderr.contains("looks like a backup of project retail only; truncating would"), "{}", ran.stderr);
    assert!(contents(&kylin.home().join("metadata")) == before);
}
