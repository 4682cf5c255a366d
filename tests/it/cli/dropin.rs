//! In place of Kylin's `bin/metastore.sh`: its arguments, the lines that scripts look for, and codes that tell the truth.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{Ran, Sandbox, contents, lines, messages, state, write_zip};

/// An installation of Kylin whose path has a space in it.
pub(super) struct Kylin {
    pub(super) sandbox: Sandbox,
}

/// How the commands of `metastore.sh` are run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Program,
    /// The script, which is told where Kylin and the program are.
    Script,
    /// The script, which must find both from its own place.
    ScriptAlone,
}

const WAYS: [Way; 3] = [Way::Program, Way::Script, Way::ScriptAlone];
const UUID: &str = "kylin home/metadata/SYSTEM/UUID.json";
pub(super) const USER: &str = "kylin home/metadata/USER_INFO/ADMIN.json";
const RETAIL: &str = "kylin home/metadata/TABLE_INFO/retail.TILLS.STORE.json";
const PATH_LINE: &str = "The metadata backup path is ";

impl Kylin {
    pub(super) fn new() -> Self {
        let sandbox = Sandbox::empty();
        sandbox.write("kylin home/conf/kylin.properties", "kylin.metadata.url=metadata@file\n");
        sandbox.write("kylin home/bin/metastore.sh", include_str!("../../../contrib/metastore.sh"));
        symlink(assert_cmd::cargo::cargo_bin!("metastash"), sandbox.path("kylin home/bin/metastash")).unwrap();
        sandbox.write_kylin("kylin home/metadata");
        Self { sandbox }
    }

    pub(super) fn home(&self) -> std::path::PathBuf {
        self.sandbox.path("kylin home")
    }

    fn command(&self, way: Way, arguments: &[&str]) -> Command {
        let mut command = match way {
            Way::Program => self.sandbox.command("metastore"),
            Way::Script | Way::ScriptAlone => self.sandbox.other_command("sh"),
        };
        if !matches!(way, Way::Program) {
            command.arg(self.home().join("bin/metastore.sh"));
        }
        if matches!(way, Way::Script) {
            fs::remove_file(self.home().join("bin/metastash")).ok();
            command.env("METASTASH", assert_cmd::cargo::cargo_bin!("metastash"));
        }
        if !matches!(way, Way::ScriptAlone) {
            command.env("KYLIN_HOME", self.home());
        }
        command.args(arguments).current_dir(self.home());
        command
    }

    pub(super) fn run(&self, way: Way, arguments: &[&str]) -> Ran {
        self.sandbox.ran(&self.command(way, arguments).output().unwrap())
    }

    /// Runs what must succeed; returns what it says, with LABEL for that of a backup, and the label.
    #[track_caller]
    pub(super) fn done(&self, way: Way, arguments: &[&str]) -> (String, String) {
        let ran = self.run(way, arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{way:?} {arguments:?}: {}", ran.stdout);
        let path = ran.stdout.lines().find_map(|line| line.strip_prefix(PATH_LINE)?.strip_suffix('.'));
        let label =
            path.map_or(String::new(), |path| Path::new(path).file_name().unwrap().to_str().unwrap().to_owned());
        let said = if label.is_empty() { ran.stdout } else { ran.stdout.replace(&label, "LABEL") };
        (said, label)
    }

    pub(super) fn backup(&self) -> String {
        self.done(Way::Program, &["backup"]).1
    }

    /// Runs what must fail: no line says that it succeeded, and the store is as it was.
    #[track_caller]
    pub(super) fn fails(&self, way: Way, arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
        let before = state(&self.home().join("metadata"));
        let ran = self.run(way, arguments);
        assert_eq!((ran.stderr, ran.code, ran.stdout), (lines(stderr), code, lines(stdout)), "{way:?} {arguments:?}");
        assert!(before == state(&self.home().join("metadata")));
    }

    /// Returns how many snapshots there are that are no checkpoints.
    pub(super) fn backups(&self) -> usize {
        let mut command = self.sandbox.command("snapshots --json");
        let list = messages(&command.env("KYLIN_HOME", self.home()).output().unwrap().stdout);
        list.iter().filter(|snapshot| snapshot["checkpoint_before"].is_null()).count()
    }
}

#[test]
fn every_subcommand_with_its_defaults() {
    for way in WAYS {
        let kylin = Kylin::new();
        let (said, label) = kylin.done(way, &["backup"]);
        let expected = "The metadata backup path is [here]/kylin home/meta_backups/LABEL.
            snapshot ID saved: 88 documents (88 new, 0 changed, 0 removed, 0 unchanged), read N KiB, stored SIZE, N s
            Backup at local disk succeed.";
        assert_eq!(without_size(&said), lines(expected), "{way:?}");
        let (said, of_retail) = kylin.done(way, &["backup-project", "retail"]);
        assert!(said.starts_with("The metadata backup path is [here]/kylin home/meta_backups/LABEL.\n"), "{said}");
        assert!(said.contains("snapshot ID saved: 27 documents"), "{said}");
        assert!(said.ends_with("\nBackup at local disk succeed.\n"), "{said}");

        let original = contents(&kylin.home().join("metadata"));
        kylin.sandbox.write(USER, "{}");
        kylin.sandbox.write(RETAIL, "{\"project\":\"retail\"}");
        let (said, _) = kylin.done(way, &["restore-project", "retail", &format!("meta_backups/{of_retail}")]);
        let expected = "checkpoint ID saved: `metastash undo` puts it back
            restored project retail of snapshot ID: 0 documents added, 1 replaced, 0 removed, 0 kept that only the store \
            has, 26 unchanged, wrote 1.2 KiB, N s
            Restore succeed.";
        assert_eq!(without_size(&said), without_size(&lines(expected)), "{way:?}");
        assert_eq!(kylin.sandbox.read(USER), "{}");
        let (said, _) = kylin.done(way, &["restore", &format!("meta_backups/{label}")]);
        assert!(said.ends_with("\nRestore succeed.\n"), "{said}");
        assert!(contents(&kylin.home().join("metadata")) == original);

        let output = kylin.command(way, &["fetch", "/PROJECT/retail"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.ends_with("\n Fetch at local dist succeed.\n"), "{said}");
        let folder = fs::read_dir(kylin.home().join("meta_fetch")).unwrap().next().unwrap().unwrap();
        assert!(folder.file_name().to_str().unwrap().ends_with("_fetch"));
        let fetched = contents(&folder.path());
        let names: Vec<&str> = fetched.keys().map(String::as_str).collect();
        assert_eq!(names, ["PROJECT/retail.json", "SYSTEM/UUID.json"]);
        assert!(fetched["PROJECT/retail.json"] == original["PROJECT/retail.json"]);
        assert_eq!(kylin.done(way, &["list", "/PROJECT"]).0, "[/PROJECT/learn_kylin.json, /PROJECT/retail.json]\n");
        assert!(kylin.done(way, &["list", "/"]).0.starts_with("[/ACL, /CC_MODEL_RELATION, /COMPUTE_COLUMN, "));
    }
}

/// Returns the text with N for sizes, which are not what these tests are about.
fn without_size(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for n in 1..words.len() {
        if words[n].starts_with("KiB,") || words[n].starts_with("B,") {
            words[n - 1] = "N";
            words[n] = if words[n].starts_with('K') { words[n] } else { "KiB," };
        }
    }
    words.join(" ")
}

#[test]
fn every_subcommand_with_a_directory() {
    for way in WAYS {
        let kylin = Kylin::new();
        fs::create_dir(kylin.sandbox.path("else where")).unwrap();
        let place = kylin.sandbox.path("else where").display().to_string();
        let (said, label) = kylin.done(way, &["backup", &place]);
        assert!(said.starts_with("The metadata backup path is [here]/else where/LABEL.\n"), "{said}");
        assert!(said.ends_with("\nBackup at local disk succeed.\n"), "{said}");
        let (said, of_retail) = kylin.done(way, &["backup-project", "retail", "../else where"]);
        assert!(said.contains("/else where/LABEL.\n"), "{said}");
        assert!(!kylin.home().join("meta_backups").exists());

        let original = contents(&kylin.home().join("metadata"));
        kylin.sandbox.write("kylin home/metadata/USER_INFO/NEW.json", "{}");
        kylin.sandbox.write(RETAIL, "{\"project\":\"retail\"}");
        kylin.done(way, &["restore-project", "retail", &format!("{place}/{of_retail}"), "--after-truncate"]);
        assert!(kylin.sandbox.path("kylin home/metadata/USER_INFO/NEW.json").exists());
        let (said, _) = kylin.done(way, &["restore", &format!("{place}/{label}"), "--after-truncate"]);
        assert!(said.ends_with("\nRestore succeed.\n"), "{said}");
        assert!(contents(&kylin.home().join("metadata")) == original);
        assert!(!kylin.home().join("meta_backups").exists());

        kylin.done(way, &["fetch", "/MODEL", &place]);
        let is_fetched = |name: &str| name.ends_with("_fetch");
        let folders = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(folders.filter(|name| is_fetched(name)).count(), 1);
    }
}

#[test]
fn what_fails_says_so_and_never_that_it_succeeded() {
    const BACKUP: &str = "Backup failed. Detailed message is on standard error.";
    const RESTORE: &str = "Restore failed. Detailed message is on standard error.";
    for way in WAYS {
        let kylin = Kylin::new();
        let label = kylin.backup();
        let place = format!("meta_backups/{label}");
        let expected =
            "error: [here]/kylin home/meta_backups has no snapshot with the label `2001-01-01-00-00-00_backup`
            hint: `metastash snapshots` lists all";
        kylin.fails(way, &["restore", "meta_backups/2001-01-01-00-00-00_backup"], 1, RESTORE, expected);
        let expected = "error: there is no directory nowhere\nhint: create it, or check the spelling";
        kylin.fails(way, &["backup", "nowhere"], 1, BACKUP, expected);
        kylin.fails(way, &["fetch", "/PROJECT", "nowhere"], 1, "Fetch failed.", expected);
        let expected = "error: there is no backup at nowhere/x, and no repository above it
            hint: check the spelling; `metastash snapshots` lists the labels of a repository";
        kylin.fails(way, &["restore", "nowhere/x"], 1, RESTORE, expected);
        let expected = "error: the store has nothing at /PROJECT/no
            hint: `metastash metastore list /` shows what is at the top";
        kylin.fails(way, &["fetch", "/PROJECT/no"], 1, "Fetch failed.", expected);
        kylin.fails(way, &["list", "/PROJECT/no"], 1, "/PROJECT/no is not exist", expected);
        let expected = "error: the store [here]/kylin home/metadata has no project none
            hint: `metastash ls SNAP` shows the projects of a snapshot as the first parts of paths";
        kylin.fails(way, &["backup-project", "none"], 1, BACKUP, expected);

        // Another system.
        let uuid = kylin.sandbox.read(UUID);
        kylin.sandbox.write(UUID, &uuid.replace("\"str\" : \"3cbd7f37", "\"str\" : \"11111111"));
        let ran = kylin.run(way, &["restore", &place]);
        assert_eq!((ran.code, ran.stdout), (14, lines(RESTORE)));
        assert!(ran.stderr.starts_with("error: refused: snapshot ID is of the system 3cbd7f37-"), "{}", ran.stderr);
        kylin.sandbox.write(UUID, &uuid);

        // Something that is no document: all documents are there, but someone should look.
        symlink("ADMIN.json", kylin.home().join("metadata/USER_INFO/LINK.json")).unwrap();
        let ran = kylin.run(way, &["backup"]);
        assert_eq!(ran.code, 3);
        assert!(ran.stdout.ends_with(&lines(BACKUP)) && !ran.stdout.contains("succeed"), "{}", ran.stdout);
        fs::remove_file(kylin.home().join("metadata/USER_INFO/LINK.json")).unwrap();

        fs::write(kylin.home().join("meta_backups/config"), "garbage").unwrap();
        for (words, stdout) in [(vec!["backup"], BACKUP), (vec!["restore", &place], RESTORE)] {
            let ran = kylin.run(way, &words);
            assert_eq!((ran.code, ran.stdout), (13, lines(stdout)), "{way:?}: {}", ran.stderr);
        }
        fs::remove_dir_all(kylin.home().join("meta_backups")).unwrap();
        fs::remove_dir_all(kylin.home().join("metadata")).unwrap();
        let expected = "error: the store [here]/kylin home/metadata does not exist
            hint: name the directory of the store with `--store` or METASTASH_STORE";
        kylin.fails(way, &["backup"], 1, BACKUP, expected);
    }
}

#[test]
fn snapshot_is_restored_by_the_path_it_would_have() {
    let kylin = Kylin::new();
    let label = kylin.backup();
    let original = contents(&kylin.home().join("metadata"));
    let absolute = kylin.home().join("meta_backups").join(&label).display().to_string();
    let relative = format!("meta_backups/{label}");
    for place in [
        relative.clone(),
        format!("{relative}/"),
        format!("./{relative}//"),
        format!("{relative}/core_meta"),
        format!("{relative}/core_meta/"),
        absolute.clone(),
        format!("{absolute}/"),
        format!("{absolute}/core_meta/"),
    ] {
        kylin.sandbox.write(USER, "{}");
        let (said, _) = kylin.done(Way::Program, &["restore", &place]);
        assert!(said.contains(" 1 replaced, 0 removed, 0 kept that only the store has, 87 unchanged"), "{said}");
        assert!(contents(&kylin.home().join("metadata")) == original, "{place}");
    }
    kylin.sandbox.write(USER, "{}");
    let mut command = kylin.command(Way::Program, &["restore", &label]);
    let ran = kylin.sandbox.ran(&command.current_dir(kylin.home().join("meta_backups")).output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(contents(&kylin.home().join("metadata")) == original);
}

#[test]
fn legacy_arguments_are_refused_and_nothing_is_written() {
    let kylin = Kylin::new();
    let label = kylin.backup();
    let place = format!("meta_backups/{label}");
    for (arguments, first) in [
        (vec![], "error: a command is missing"),
        (vec!["backup", "meta_backups", "-compress"], "error: `-compress`: Kylin ignores it for local directories;"),
        (vec!["backup", "-excludeTableExd"], "error: `-excludeTableExd`: leaving documents out makes a backup that"),
        (vec!["backup", "-folder", "x"], "error: `-folder`: use `metastash backup --label`"),
        (vec!["-backup", "-dir", "meta_backups"], "error: `-backup`: commands have no dash"),
        (vec!["restore", &place, "-d"], "error: `-d`: it is `--after-truncate`, after the directory"),
        (vec!["restore", &place, "--after-trunc"], "error: `--after-trunc`: there is no such option"),
        (vec!["restore", "--after-truncate", &place], "error: `restore` is not used with these arguments:"),
        (vec!["restore", &place, "meta_backups"], "error: `restore` is not used with these arguments:"),
        (vec!["backup", ""], "error: argument 2 is empty"),
        (vec!["backup-project"], "error: `backup-project` is not used with these arguments:"),
        (vec!["purge"], "error: `purge` is no command"),
    ] {
        let before = state(kylin.sandbox.folder.path());
        let ran = kylin.run(Way::ScriptAlone, &arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(first), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("\nusage: metastore.sh backup [DIR] "), "{}", ran.stderr);
        assert!(before == state(kylin.sandbox.folder.path()), "{arguments:?}");
    }
}

#[test]
fn backups_within_a_second_have_labels_of_their_own() {
    let kylin = Kylin::new();
    let labels: std::collections::BTreeSet<String> = (0..3).map(|_| kylin.backup()).collect();
    assert_eq!(labels.len(), 3);
    assert_eq!(kylin.backups(), 3);
}

#[test]
fn corrupt_zip_is_no_empty_store() {
    let kylin = Kylin::new();
    let store = kylin.home().join("metadata");
    let zip = kylin.sandbox.path("metadata.zip");
    write_zip(&contents(&store), "", &zip);
    let whole = fs::read(&zip).unwrap();
    fs::remove_dir_all(&store).unwrap();
    fs::create_dir(&store).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(store.join("metadata.zip"), &whole[..length]).unwrap();
        let ran = kylin.run(Way::ScriptAlone, &["backup"]);
        let said = "Backup failed. Detailed message is on standard error.\n";
        assert_eq!((ran.code, ran.stdout.as_str()), (13, said), "{length}: {}", ran.stderr);
        let first = "error: [here]/kylin home/metadata/metadata.zip is damaged or not to be trusted: ";
        assert!(ran.stderr.starts_with(first), "{length}: {}", ran.stderr);
        assert!(!kylin.home().join("meta_backups").exists());
    }
}
