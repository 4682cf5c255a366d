//! Input that is wrong: one line that says so, a hint, the right exit code, and nothing written.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Sandbox, lines, state};

#[test]
fn store_that_does_not_exist() {
    let sandbox = Sandbox::new();
    let expected = "error: the store nowhere does not exist
        hint: name the directory of the store with `--store` or METASTASH_STORE";
    sandbox.refused("backup --store nowhere", 1, expected);
    sandbox.refused("backup --store nowhere --dry-run", 1, expected);
    sandbox.done("backup --store store");
    sandbox.refused("diff latest live --store nowhere", 1, expected);
}

#[test]
fn store_that_is_empty() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("nothing")).unwrap();
    let expected = "error: refused: the store holds no document
        hint: check that this is the right directory; `--allow-empty` backs it up all the same";
    sandbox.refused("backup --store nothing", 14, expected);
    sandbox.refused("backup --store nothing --dry-run", 14, expected);
    sandbox.done("backup --store nothing --allow-empty");
}

#[test]
fn store_that_is_a_file() {
    let sandbox = Sandbox::new();
    let expected = "error: store/NOTES is neither a directory nor a zip or tar\nhint: name the directory, the metadata.zip or the tar that holds the store";
    sandbox.refused("backup --store store/NOTES", 1, expected);
    sandbox.done("backup --store store");
    sandbox.refused("restore latest --store store/NOTES", 1, expected);
    sandbox.refused("diff latest live --store store/NOTES", 1, expected);
}

#[test]
fn store_that_is_unreadable() {
    if rustix::process::geteuid().is_root() {
        return; // Permissions do not bind root.
    }
    let sandbox = Sandbox::new();
    fs::set_permissions(sandbox.path("store/NOTES"), fs::Permissions::from_mode(0o000)).unwrap();
    let ran = sandbox.run("backup --store store");
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.starts_with("unread: NOTES"), "{}", ran.stderr);
    fs::set_permissions(sandbox.path("store"), fs::Permissions::from_mode(0o000)).unwrap();
    let ran = sandbox.run("backup --store store");
    fs::set_permissions(sandbox.path("store"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("hint: check the permissions of the store"), "{}", ran.stderr);
}

#[test]
fn store_or_repository_that_is_a_url() {
    let sandbox = Sandbox::new();
    sandbox.refused(
        "backup --store s3://bucket/metadata",
        2,
        "error: --store: this version knows directories, zips, postgresql:// and mysql://, not `s3://`",
    );
    sandbox.refused(
        "snapshots --repo hdfs://node:8020/backups",
        2,
        "error: --repo: this version knows directories only, not `hdfs://`",
    );
}

#[test]
fn no_store_is_named() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    for words in ["backup", "restore latest", "undo", "diff latest", "diff latest live"] {
        sandbox.refused(words, 2, "error: no store is named: use `--store`, METASTASH_STORE, or set KYLIN_HOME");
    }
}

#[test]
fn repository_that_is_a_foreign_directory() {
    let sandbox = Sandbox::new();
    sandbox.write("photos/cat.jpg", "meow");
    let expected = "error: photos is neither a metastash repository nor an empty directory
        hint: name another with `--repo` or METASTASH_REPO; one that does not exist is created";
    sandbox.refused("backup --store store --repo photos", 10, expected);
    sandbox.refused("backup --store store --repo photos --dry-run", 10, expected);
    sandbox.refused("init --repo photos", 10, expected);
    let expected = "error: photos is not a metastash repository
        hint: name one with `--repo` or METASTASH_REPO, or create it with `metastash init`";
    sandbox.refused("snapshots --repo photos", 10, expected);
}

#[test]
fn repository_that_is_a_foreign_directory_with_a_folder_config() {
    let sandbox = Sandbox::new();
    sandbox.write("program/config/settings", "x");
    for words in ["backup --store store", "backup --store store --dry-run", "init"] {
        let expected = "error: program is neither a metastash repository nor an empty directory
            hint: name another with `--repo` or METASTASH_REPO; one that does not exist is created";
        sandbox.refused(&format!("{words} --repo program"), 10, expected);
    }
    let expected = "error: program is not a metastash repository
        hint: name one with `--repo` or METASTASH_REPO, or create it with `metastash init`";
    sandbox.refused("check --repo program", 10, expected);
}

#[test]
fn repository_that_is_an_empty_directory() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("r")).unwrap();
    assert!(sandbox.done("backup --store store --repo r").starts_with("created repository r\n"));
}

#[test]
fn repository_that_is_a_file() {
    let sandbox = Sandbox::new();
    let expected = "error: store/NOTES is not a metastash repository, but a file
        hint: name the directory of one with `--repo` or METASTASH_REPO";
    for words in ["backup --store store/sales", "snapshots", "check", "restore latest --store x"] {
        sandbox.refused(&format!("{words} --repo store/NOTES"), 10, expected);
    }
}

#[test]
fn repository_that_does_not_exist() {
    let sandbox = Sandbox::new();
    let expected = "error: nowhere is not a metastash repository
        hint: name one with `--repo` or METASTASH_REPO, or create it with `metastash init`";
    for words in [
        "snapshots",
        "ls latest",
        "cat latest:NOTES",
        "diff latest latest",
        "restore latest --store store",
        "undo --store store",
        "check",
        "stats",
    ] {
        sandbox.refused(&format!("{words} --repo nowhere"), 10, expected);
    }
}

#[test]
fn repository_inside_the_store() {
    let sandbox = Sandbox::new();
    let expected = "error: the repository store/backups lies inside the store [here]/store
        hint: name a repository elsewhere with `--repo` or METASTASH_REPO";
    sandbox.refused("backup --store store --repo store/backups", 14, expected);
    // Also when a link hides it.
    std::os::unix::fs::symlink("store/sales", sandbox.path("link")).unwrap();
    sandbox.refused("backup --store store --repo link/backups", 14, &expected.replace("store/backups", "link/backups"));
    // And when it is there already.
    sandbox.done("backup --store store --repo r");
    fs::rename(sandbox.path("r"), sandbox.path("store/backups")).unwrap();
    for words in ["backup", "restore latest", "restore latest --dry-run", "undo", "diff latest live"] {
        sandbox.refused(&format!("{words} --store store --repo store/backups"), 14, expected);
    }
}

#[test]
fn store_inside_the_repository() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let expected = "error: the store [here]/meta_backups/packs lies inside the repository meta_backups
        hint: name a repository elsewhere with `--repo` or METASTASH_REPO";
    for words in ["backup", "restore latest", "diff latest live"] {
        sandbox.refused(&format!("{words} --store meta_backups/packs"), 14, expected);
    }
    let expected = "error: the repository meta_backups lies inside the store [here]/meta_backups
        hint: name a repository elsewhere with `--repo` or METASTASH_REPO";
    sandbox.refused("restore latest --after-truncate --store meta_backups", 14, expected);
}

#[test]
fn snapshot_that_is_unknown() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    for name in ["latest~99", "0000000000", "before-upgrade"] {
        let expected = format!("error: there is no snapshot `{name}`\nhint: `metastash snapshots` lists all");
        let expected = expected.replace("0000000000", "ID");
        for words in ["ls", "restore --store store", "diff latest", "diff --store store"] {
            sandbox.refused(&format!("{words} {name}"), 1, &expected);
        }
        sandbox.refused(&format!("cat {name}:NOTES"), 1, &expected);
    }
}

#[test]
fn snapshot_that_is_ambiguous() {
    let sandbox = Sandbox::new();
    // Ids of four digits begin alike soon enough only when there are many: so two labels that are alike, which two
    // machines may choose at the same time. Copying the files of one repository into the other is what that comes to.
    sandbox.done("backup --store store --repo r --label twice");
    sandbox.done("init --repo r2");
    fs::copy(sandbox.path("r/config"), sandbox.path("r2/config")).unwrap();
    sandbox.done("backup --store store --repo r2 --label twice");
    for folder in ["packs", "snapshots"] {
        for file in fs::read_dir(sandbox.path("r2").join(folder)).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), sandbox.path("r").join(folder).join(file.file_name())).unwrap();
        }
    }
    let expected = "error: `twice` may mean any of the snapshots ID, ID\nhint: give more digits of the id";
    sandbox.refused("restore twice --repo r --store store", 1, expected);
    let ids = sandbox.ids("r");
    assert_eq!(sandbox.done(&format!("cat {}:NOTES --repo r", &ids[0][..12])), "top\n");
}

#[test]
fn label_that_is_taken() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label good");
    let expected = "error: the label `good` names snapshot ID already\nhint: choose another label";
    sandbox.refused("backup --store store --label good", 1, expected);
}

#[test]
fn label_that_means_something_else() {
    let sandbox = Sandbox::new();
    for (label, why) in [
        ("abcd12", "it looks like the first digits of an id"),
        ("latest", "`live` and words that begin with `latest` have a meaning already"),
        ("live", "`live` and words that begin with `latest` have a meaning already"),
        ("a/b", "`:`, `/` and control characters are not allowed"),
    ] {
        let expected = format!("error: invalid value '{label}' for '--label <LABEL>': {why}\n{HELP}");
        sandbox.refused(&format!("backup --store store --label {label}"), 2, &expected);
    }
}

const HELP: &str = "For more information, try '--help'.";

#[test]
fn tag_that_is_given_twice() {
    let sandbox = Sandbox::new();
    sandbox.refused("backup --store store --tag a=1 --tag a=2", 2, "error: --tag: `a` is given twice");
}

#[test]
fn flags_that_contradict_each_other_or_are_unknown() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    for (words, first) in [
        ("snapshots -q -v", "error: the argument '--quiet' cannot be used with '--verbose'"),
        ("restore latest --store store --allow-empty", "error: the following required arguments were not provided:"),
        (
            "restore latest --store store --allow-incomplete",
            "error: the following required arguments were not provided:",
        ),
        (
            "restore latest --store store --allow-project-snapshot",
            "error: the following required arguments were not provided:",
        ),
        (
            "restore latest --store store --after-truncate --project sales --allow-project-snapshot",
            "error: the argument '--project <NAME>' cannot be used with '--allow-project-snapshot'",
        ),
        ("restore latest --store store --truncate", "error: unexpected argument '--truncate' found"),
        ("backup --store store --parent x", "error: unexpected argument '--parent' found"),
        ("bisect", "error: unrecognized subcommand 'bisect'"),
        ("ls", "error: the following required arguments were not provided:"),
        ("ls :NOTES", "error: invalid value ':NOTES' for '[SNAP[:PATH]]': a snapshot cannot be named by an empty text"),
        (
            "check --read-data=4/3",
            "error: invalid value '4/3' for '--read-data[=<N/M>]': `N/M` is expected, with N from 1 to M",
        ),
        ("completions tcsh", "error: invalid value 'tcsh' for '<SHELL>'"),
        ("cat latest", "error: the path of a document is missing: SNAP:PATH is expected"),
    ] {
        let before = state(sandbox.folder.path());
        let ran = sandbox.run(words);
        assert_eq!((ran.code, ran.stderr.lines().next(), ran.stdout.as_str()), (2, Some(first), ""), "{words}");
        assert!(before == state(sandbox.folder.path()), "{words}");
    }
}

#[test]
fn path_that_is_not_in_the_snapshot() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    for (words, path) in
        [("ls latest:nope", "nope"), ("cat latest:sales/nope", "sales/nope"), ("cat latest:sales", "sales")]
    {
        let expected =
            format!("error: snapshot ID has no document {path}\nhint: `metastash ls ID` lists its documents");
        sandbox.refused(words, 1, &expected);
    }
    sandbox.refused(
        "ls latest:../NOTES",
        2,
        &lines(&format!(
            "error: invalid value 'latest:../NOTES' for '[SNAP[:PATH]]': `../NOTES` is not a usable path: {WHY}\n{HELP}"
        )),
    );
}

const WHY: &str = "it has a part `.` or `..`";

#[test]
fn project_that_is_not_there() {
    let sandbox = Sandbox::new();
    let expected = "error: the store [here]/store has no project nope
        hint: `metastash ls SNAP` shows the projects of a snapshot as the first parts of paths";
    sandbox.refused("backup --store store --project nope", 1, expected);
    sandbox.done("backup --store store");
    let id = &sandbox.ids("meta_backups")[0];
    let expected = "error: snapshot ID holds no project nope\nhint: `metastash ls SNAP` shows what it holds";
    sandbox.refused(&format!("restore {id} --project nope --store store"), 1, expected);
    let expected = "error: there is no snapshot `latest`\nhint: `metastash snapshots` lists all";
    sandbox.refused("restore latest --project nope --store store", 1, expected);
}

#[test]
fn restore_below_a_directory_that_does_not_exist() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let ran = sandbox.run("restore latest --store no/where");
    assert_eq!(ran.code, 1);
    assert!(!sandbox.path("no").exists());
}
