//! Stores of Kylin: where its configuration says they are, how they lie, and what is broken in them.

use std::fs;
use std::process::Command;

use super::{Ran, Sandbox, copy};

const URL: &str = "kylin.metadata.url";
/// What each password in these tests is, or a part of it.
const SECRET: &str = "hunter2";

/// An installation of Kylin with its metadata in a directory of its own.
fn installed(properties: &str) -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write_kylin("kylin/metadata");
    sandbox.write("kylin/conf/kylin.properties", properties);
    sandbox
}

fn at_home(sandbox: &Sandbox, words: &str) -> Command {
    let mut command = sandbox.command(words);
    command.env("KYLIN_HOME", sandbox.path("kylin"));
    command
}

fn run(sandbox: &Sandbox, command: &mut Command) -> Ran {
    sandbox.ran(&command.output().unwrap())
}

/// Returns the store that a dry run of a backup finds, by what lies in it.
#[track_caller]
fn documents(sandbox: &Sandbox, command: &mut Command) -> String {
    let ran = run(sandbox, command);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    ran.stdout.strip_prefix("would read ").and_then(|rest| rest.split(" of ").next()).unwrap().to_owned()
}

#[test]
fn store_is_where_kylin_properties_says() {
    let sandbox = installed(&format!("# a comment\n{URL} = metadata@file\n"));
    let words = "backup --dry-run";
    assert_eq!(documents(&sandbox, &mut at_home(&sandbox, words)), "88 documents");
    // A relative identifier is below KYLIN_HOME, whatever the working directory.
    assert_eq!(documents(&sandbox, at_home(&sandbox, words).current_dir("/")), "88 documents");
    sandbox.write("kylin/conf/kylin.properties", &format!("{URL}={}\n", sandbox.path("kylin/metadata").display()));
    assert_eq!(documents(&sandbox, &mut at_home(&sandbox, words)), "88 documents");
    // What is named wins.
    sandbox.write("other/x", "x\n");
    sandbox.settle();
    assert_eq!(documents(&sandbox, &mut at_home(&sandbox, "backup --dry-run --store other")), "1 document");
}

#[test]
fn override_file_wins_and_variables_are_filled_in() {
    let sandbox = installed(&format!("{URL}=nowhere@file\n"));
    sandbox.write("kylin/conf/kylin.properties.override", &format!("{URL}=${{PLACE}}@file\n"));
    let words = "backup --dry-run";
    assert_eq!(documents(&sandbox, at_home(&sandbox, words).env("PLACE", "metadata")), "88 documents");
    let ran = run(&sandbox, at_home(&sandbox, words).env("PLACE", "gone"));
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("error: the store [here]/kylin/gone does not exist\n"), "{}", ran.stderr);
}

#[test]
fn kylin_conf_is_where_the_configuration_is() {
    let sandbox = installed(&format!("{URL}=nowhere@file\n"));
    sandbox.write("conf/kylin.properties", &format!("{URL}=metadata@file\n"));
    let mut command = at_home(&sandbox, "backup --dry-run");
    assert_eq!(documents(&sandbox, command.env("KYLIN_CONF", sandbox.path("conf"))), "88 documents");
}

#[test]
fn configuration_that_is_missing() {
    let sandbox = Sandbox::empty();
    let expected = "error: no store is named: use `--store`, METASTASH_STORE, or set KYLIN_HOME";
    sandbox.refused("backup", 2, expected);
    let expected = "error: no store is named, and there is no kylin.properties in [here]/kylin/conf: \
                    use `--store` or METASTASH_STORE";
    sandbox.refuses(&mut at_home(&sandbox, "backup"), 2, expected);
}

#[test]
fn store_in_a_database_is_named_and_no_password_is_shown() {
    let url = "kylin_metadata@jdbc,driverClassName=org.postgresql.Driver,\
               url=jdbc:postgresql://127.0.0.1:1/kylin?password=hunter2,username=kylin";
    for password in ["hunter2", "'hunter2,hunter2'", "ENC('YeqVr9MakSFbgxEec9sBwg==')", "a,hunter2,b=hunter2"] {
        let sandbox = installed(&format!("{URL}={url},password={password}\n"));
        for words in ["backup", "doctor", "restore latest", "diff latest", "undo", "backup --json", "doctor --json"] {
            let output = at_home(&sandbox, words).output().unwrap();
            let ran = sandbox.ran(&output);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            for secret in [SECRET, "YeqVr9MakSFbgxEec9sBwg"] {
                assert!(!said.contains(secret), "{words}: {said}");
            }
            assert_ne!(ran.code, 0, "{words}");
            if (words.starts_with("backup") || words.starts_with("doctor")) && !password.starts_with("ENC") {
                assert_eq!(ran.code, 20, "{said}");
                let store = "postgresql://127.0.0.1:1/kylin?identifier=kylin_metadata";
                assert!(said.contains(&format!("cannot connect to {store}")), "{said}");
                assert!(said.contains("kylin.metadata.url in [here]/kylin/conf (kylin.properties)"), "{said}");
                assert!(said.contains("is the server up"), "{said}");
            }
        }
        assert!(!sandbox.path("kylin/meta_backups").exists());
    }
}

#[test]
fn store_named_by_a_url_with_a_password_is_refused_without_showing_it() {
    let sandbox = Sandbox::empty();
    for url in [
        "kylin_metadata@jdbc,url=jdbc:mysql://127.0.0.1:1/k,username=u,password=hunter2",
        "kylin_metadata@jdbc,driverClassName=com.mysql.jdbc.Driver,url=jdbc:mysql://u:hunter2@127.0.0.1:1/k",
        "kylin_metadata@jdbc,password='hunter2",
        "kylin_metadata@hdfs,path=/x,password=hunter2",
        "kylin_metadata@tablestore,password=hunter2",
        "kylin_metadata@jdbc,password=hunter2@x",
        "jdbc:postgresql://u:hunter2@127.0.0.1:1/k",
        "postgres://u:hunter2@127.0.0.1:1/k",
    ] {
        for json in ["", " --json"] {
            let mut command = sandbox.command(&format!("backup{json} --store"));
            let ran = run(&sandbox, command.arg(url));
            assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(SECRET), "{url}: {}", ran.stderr);
            assert!([1, 2, 20].contains(&ran.code), "{url}: {}", ran.code);
            assert!(ran.stdout.is_empty() && !ran.stderr.is_empty());
        }
    }
    assert_eq!(fs::read_dir(sandbox.folder.path()).unwrap().count(), 0);
    for words in ["--help", "backup --help", "backup --no-such-flag"] {
        let ran = run(&sandbox, sandbox.command(words).env("METASTASH_STORE", "k@jdbc,password=hunter2"));
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(SECRET), "{words}");
    }
}

#[test]
fn store_on_hdfs_is_named() {
    let path = "/kylin/kylin_metadata/_backup/2024-04-01-00-00-00_backup/core_meta/";
    let sandbox = installed(&format!("{URL}=kylin_metadata@hdfs,path={path},zip=1\n"));
    let expected = format!(
        "error: cannot open the store of kylin.metadata.url in [here]/kylin/conf (kylin.properties)
        caused by: the metadata is on HDFS at {path}, and this version knows directories, zips and databases only
        hint: name one with `--store`, such as a backup made by Kylin"
    );
    sandbox.refuses(&mut at_home(&sandbox, "backup"), 1, &expected);
}

#[test]
fn kylins_default_is_a_database() {
    let sandbox = installed("kylin.env=PROD\n");
    let ran = run(&sandbox, &mut at_home(&sandbox, "backup"));
    // Whatever is at that place on this machine, no metadata of Kylin is.
    assert!(ran.stderr.contains("postgresql://localhost:5432/kylin?identifier=kylin_metadata"), "{}", ran.stderr);
    assert_ne!(ran.code, 0);
}

#[test]
fn layout_is_detected_or_as_it_is_told() {
    let sandbox = Sandbox::empty();
    sandbox.write_kylin("core");
    copy(&sandbox.path("core"), &sandbox.path("folder/core_meta"));
    sandbox.write("old/_global/project/p.json", "{\"name\":\"p\"}");
    sandbox.write("old/p/table/DB.T.json", "{}");
    sandbox.settle();
    let path = |store: &str, layout: &str, path: &str| {
        sandbox.done(&format!(
            "backup --store {store} --label l{layout} --repo r-{store}{layout} {}",
            match layout {
                "" => String::new(),
                layout => format!("--layout {layout}"),
            }
        ));
        sandbox.done(&format!("ls latest:{path} --repo r-{store}{layout}"))
    };
    for (store, layout, name) in [
        ("core", "", "retail/PROJECT/retail"),
        ("core", "kylin-new", "retail/PROJECT/retail"),
        ("core", "plain", "PROJECT/retail.json"),
        ("folder", "", "retail/PROJECT/retail"),
        ("folder", "kylin-new-backup", "retail/PROJECT/retail"),
        ("folder", "plain", "core_meta/PROJECT/retail.json"),
        ("old", "", "p/project/p.json"),
        ("old", "kylin-old", "p/project/p.json"),
        ("old", "plain", "_global/project/p.json"),
    ] {
        assert_eq!(path(store, layout, name), format!("{name}\n"), "{store} {layout}");
    }
    let ran = sandbox.run("backup --store core --layout kylin-3");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("[possible values: plain, kylin-new, kylin-new-backup, kylin-old]"), "{}", ran.stderr);
}

#[test]
fn folder_of_several_backups_is_no_store() {
    let sandbox = Sandbox::empty();
    for name in ["2024-04-01-00-00-00_backup", "2024-04-02-00-00-00_backup"] {
        sandbox.write(&format!("kylin/{name}/core_meta/PROJECT/p.json"), "{}");
    }
    let expected = "error: kylin holds no metadata itself, but 2 folders of backups: \
                    2024-04-01-00-00-00_backup, 2024-04-02-00-00-00_backup
        hint: name one of them, or take them all over with `metastash import`";
    sandbox.refused("backup --store kylin", 1, expected);
}

#[test]
fn mixed_layouts_are_refused() {
    let sandbox = Sandbox::empty();
    sandbox.write("mixed/MODEL/m.json", "{}");
    sandbox.write("mixed/_global/project/p.json", "{}");
    let expected =
        "error: mixed holds folders of both the old and the new layout of Kylin's metadata, which Kylin can't read
        hint: `--layout plain` backs it up with names as they are; or move the folders of one layout elsewhere";
    sandbox.refused("backup --store mixed", 1, expected);
    sandbox.done("backup --store mixed --layout plain");
}

#[test]
fn doctor_finds_nothing_wrong_with_what_is_right() {
    let sandbox = installed(&format!("{URL}=metadata@file\n"));
    let ran = run(&sandbox, &mut at_home(&sandbox, "doctor --exit-code"));
    let expected = "[here]/kylin/metadata: 0 errors, 0 warnings in 88 documents\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, expected, ""));
    assert!(!sandbox.path("kylin/meta_backups").exists(), "it takes no repository");
}

/// A store that was backed up in good order and has two faults since.
fn broken() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write_kylin("store");
    sandbox.done("backup --store store --label good");
    sandbox.write("store/USER_INFO/ADMIN.json", "{\"uuid\"");
    fs::remove_file(sandbox.path("store/TABLE_INFO/retail.TILLS.STORE.json")).unwrap();
    sandbox.settle();
    sandbox
}

#[test]
fn doctor_says_what_is_broken() {
    let sandbox = broken();
    let ran = sandbox.run("doctor --store store");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("error broken-json _global/USER_INFO/ADMIN: "), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("warning table-exd-without-table retail/TABLE_EXD/retail.TILLS.STORE: "),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("\n[here]/store: 1 error, "), "{}", ran.stdout);
    assert_eq!(sandbox.run("doctor --store store --exit-code").code, 4);
    let of_retail = sandbox.run("doctor --store store --exit-code --project retail");
    assert!(of_retail.code == 4 && !of_retail.stdout.contains("broken-json"), "{}", of_retail.stdout);
    assert_eq!(sandbox.run("doctor --store store --exit-code --project learn_kylin").code, 0);
    let said = sandbox.done("doctor good --exit-code");
    assert_eq!(said, "snapshot ID: 0 errors, 0 warnings in 88 documents\n");
}

#[test]
fn doctor_since_a_snapshot_says_what_is_new() {
    let sandbox = broken();
    sandbox.done("doctor --store store --since good");
    assert_eq!(sandbox.run("doctor --store store --since good --exit-code").code, 4);
    let ran = sandbox.run("backup --store store --label broken");
    assert!(
        ran.code == 0 && ran.stderr.starts_with("remark: USER_INFO/ADMIN.json: its JSON is broken: "),
        "{}",
        ran.stderr
    );
    let expected = "[here]/store: 0 errors, 0 warnings in 87 documents, not counting what snapshot ID has too\n";
    assert_eq!(sandbox.done("doctor --store store --since broken --exit-code"), expected);
    let expected = "error: there is no snapshot `none`\nhint: `metastash snapshots` lists all";
    sandbox.refused("doctor --store store --since none", 1, expected);
}

#[test]
fn doctor_as_json() {
    let sandbox = broken();
    let (code, messages) = sandbox.json("doctor --store store --exit-code");
    assert_eq!(code, 4);
    let fault = messages.iter().find(|message| message["rule"] == "broken-json").unwrap();
    assert_eq!((&fault["message_type"], &fault["severity"]), (&"fault".into(), &"error".into()));
    assert_eq!(fault["path"], "_global/USER_INFO/ADMIN");
    assert!(fault["detail"].is_string() && fault["description"] == "the content is no JSON");
    let summary = messages.last().unwrap();
    assert_eq!((&summary["message_type"], &summary["errors"]), (&"doctor_summary".into(), &1.into()));
    assert_eq!(summary["warnings"].as_u64().unwrap(), messages.len() as u64 - 2);
    assert_eq!((&summary["documents"], &summary["unread"], &summary["since"]), (&87.into(), &0.into(), &().into()));
}

#[test]
fn doctor_that_could_not_read_everything() {
    let sandbox = broken();
    std::os::unix::fs::symlink("ADMIN.json", sandbox.path("store/USER_INFO/LINK.json")).unwrap();
    let ran = sandbox.run("doctor --store store --exit-code");
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    assert!(ran.stderr.contains("LINK"), "{}", ran.stderr);
}

#[test]
fn doctor_of_plain_files() {
    let sandbox = Sandbox::new();
    let hint = "name the folder that holds `core_meta`, `MODEL` or `_global`, or say how to read it with `--layout`";
    let expected = format!("error: [here]/store holds no metadata of Kylin, only plain files\nhint: {hint}");
    sandbox.refused("doctor --store store", 1, &expected);
    sandbox.done("backup --store store");
    let expected = format!("error: snapshot ID holds no metadata of Kylin, only plain files\nhint: {hint}");
    sandbox.refused("doctor latest", 1, &expected);
}
