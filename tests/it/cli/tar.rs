//! Export to and import of tars, compressed or not, through pipes, too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};

use super::{Ran, Sandbox, contents, messages, state};

/// A repository with one backup of a Kylin, at the level of a folder of a backup.
fn with_backup() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("store/job_info/retail/j1.json", "{\"jobId\":\"j1\"}");
    sandbox.write_kylin("store/core_meta");
    sandbox.done("backup --store store --label good");
    sandbox
}

/// Unpacks with GNU tar, and returns what was in it.
fn unpacked(sandbox: &Sandbox, name: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = sandbox.path(&format!("{name}-unpacked"));
    fs::create_dir(&folder).unwrap();
    let status = Command::new("tar").arg("-xf").arg(sandbox.path(name)).current_dir(&folder).status().unwrap();
    assert!(status.success());
    contents(&folder)
}

fn snapshots(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    sandbox.json("snapshots").1
}

/// Runs a command that reads a file as its input.
fn fed(sandbox: &Sandbox, words: &str, input: &str) -> Ran {
    let input = File::open(sandbox.path(input)).unwrap();
    sandbox.ran(&sandbox.command(words).stdin(input).output().unwrap())
}

#[test]
fn export_goes_by_the_name_unless_told() {
    let sandbox = with_backup();
    let original = contents(&sandbox.path("store"));
    for (words, name) in [
        ("out.tar", "out.tar"),
        ("out.tar.zst", "out.tar.zst"),
        ("tar --format tar", "tar"),
        ("zst.tar --format tar.zst", "zst.tar"),
    ] {
        let said = sandbox.done(&format!("export good {words}"));
        assert!(said.starts_with(&format!("exported 89 documents of snapshot ID to {name}: ")), "{said}");
        assert!(unpacked(&sandbox, name) == original, "{name}");
    }
    assert_eq!(fs::read(sandbox.path("out.tar")).unwrap(), fs::read(sandbox.path("tar")).unwrap());
    assert_eq!(fs::read(sandbox.path("out.tar.zst")).unwrap(), fs::read(sandbox.path("zst.tar")).unwrap());
    sandbox.done("export good folder.tar --format dir");
    assert!(contents(&sandbox.path("folder.tar")) == original);
    let ran = sandbox.run("export good out.zip");
    assert_eq!((ran.code, ran.stderr.as_str()), (3, ""), "a zip has no place for jobs");
    for name in ["out.tar", "out.tar.zst", "folder.tar"] {
        let expected = format!(
            "error: {name} exists already
            hint: name a place that does not exist yet; nothing is ever overwritten by an export"
        );
        sandbox.refused(&format!("export good {name} --format tar"), 14, &expected);
    }
}

#[test]
fn import_of_an_export_is_the_same_snapshot() {
    let sandbox = with_backup();
    let places = ["out.tar", "out.tar.zst", "2024-04-01-00-00-00_backup.tar.zst"];
    for place in places {
        sandbox.done(&format!("export good {place}"));
        let said = sandbox.done(&format!("import {place}"));
        assert!(said.starts_with("snapshot ID saved: 89 documents "), "{said}");
        assert_eq!(sandbox.done(&format!("import {place}")), format!("{place} is snapshot ID already\n"));
    }
    let ran = fed(&sandbox, "import - --label piped", "out.tar.zst");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let list = snapshots(&sandbox);
    assert_eq!(list.len(), 5);
    assert!(list.iter().all(|snapshot| snapshot["root"] == list[0]["root"]));
    let labels: Vec<&str> = list.iter().filter_map(|snapshot| snapshot["label"].as_str()).collect();
    assert!(labels.contains(&"2024-04-01-00-00-00_backup") && labels.contains(&"piped"), "{labels:?}");
    sandbox.done("export piped back");
    assert!(contents(&sandbox.path("back")) == contents(&sandbox.path("store")));
    let times = |name: &str| {
        let times = state(&sandbox.path(name)).into_iter().map(|(path, (mode, time, _))| (path, (mode, time)));
        times.filter(|(_, (_, time))| *time != 0).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(times("back"), times("store"), "times and permissions of documents went all the way");
}

#[test]
fn tar_goes_to_standard_output_and_words_to_standard_error() {
    let sandbox = with_backup();
    for (format, name) in [("tar", "out.tar"), ("tar.zst", "out.tar.zst")] {
        sandbox.done(&format!("export good {name}"));
        let words = format!("export good - --format {format}");
        let output = sandbox.command(&words).output().unwrap();
        assert!(output.stdout == fs::read(sandbox.path(name)).unwrap());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("exported 89 documents of snapshot "), "{said}");
        assert!(said.contains(" to standard output: ") && said.lines().count() == 1, "{said}");
        let output = sandbox.command(&words).arg("--json").output().unwrap();
        assert!(output.stdout == fs::read(sandbox.path(name)).unwrap());
        let said = messages(&output.stderr);
        assert_eq!((said.len(), &said[0]["message_type"]), (1, &"export_summary".into()));
        assert_eq!((&said[0]["destination"], &said[0]["documents"]), (&"-".into(), &89.into()));
        let output = sandbox.command(&words).arg("--quiet").output().unwrap();
        assert!(output.stderr.is_empty() && !output.stdout.is_empty());
    }
    let expected =
        "error: only a tar can be written to standard output: name a place, or say `--format tar` or `tar.zst`";
    for words in ["export good -", "export good - --format zip", "export good - --format dir"] {
        sandbox.refused(words, 2, expected);
    }
}

#[test]
fn output_that_is_full_or_gone_is_told() {
    let sandbox = with_backup();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ran = sandbox.ran(&sandbox.command("export good - --format tar").stdout(full).output().unwrap());
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("error: cannot write standard output\ncaused by: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: make room on the disk of the store"), "{}", ran.stderr);
    let mut command = sandbox.command("export good - --format tar");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = sandbox.ran(&child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (141, ""));
}

#[test]
fn damaged_or_hostile_tar_is_refused() {
    let sandbox = with_backup();
    sandbox.done("export good out.tar");
    sandbox.done("export good out.tar.zst");
    let evil = sandbox.path("evil");
    fs::write(&evil, "x").unwrap();
    let tar = Command::new("tar").arg("-cPf").arg(sandbox.path("evil.tar")).arg(&evil).status().unwrap();
    assert!(tar.success());
    for name in ["out.tar", "out.tar.zst"] {
        let whole = fs::read(sandbox.path(name)).unwrap();
        let cut = format!("cut-{name}");
        for length in [0, 1, 511, 512, whole.len() / 2, whole.len() - 1] {
            fs::write(sandbox.path(&cut), &whole[..length]).unwrap();
            let before = state(sandbox.folder.path());
            let words = [format!("import {cut}"), format!("backup --store {cut}"), format!("doctor --store {cut}")];
            for words in words {
                let ran = sandbox.run(&words);
                assert_eq!((ran.code, ran.stdout.as_str()), (13, ""), "{words}, {length}: {}", ran.stderr);
                assert!(ran.stderr.contains(" is damaged or not to be trusted: "), "{}", ran.stderr);
                assert!(ran.stderr.contains("hint: nothing of it was used; find a sound copy"), "{}", ran.stderr);
            }
            let ran = fed(&sandbox, "import -", &cut);
            assert_eq!((ran.code, ran.stdout.as_str()), (13, ""), "{length}: {}", ran.stderr);
            assert!(before == state(sandbox.folder.path()), "{length}");
        }
    }
    let ran = sandbox.run("import evil.tar --layout plain");
    assert_eq!((ran.code, ran.stdout.as_str()), (13, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("is not a usable path"), "{}", ran.stderr);
    assert_eq!(snapshots(&sandbox).len(), 1);
}

#[test]
fn plain_tar_must_be_asked_for_and_links_are_told() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("NOTES", sandbox.path("store/link")).unwrap();
    let tar = ["-C", "store", "--format=posix", "-cf", "a.tar", "."];
    assert!(sandbox.other_command("tar").args(tar).status().unwrap().success());
    let expected = "error: cannot import a.tar
        caused by: a.tar is no backup of Kylin's metadata
        hint: `--layout plain` takes the files as they are";
    let before = state(sandbox.folder.path());
    let ran = sandbox.run("import a.tar");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr), (1, "", super::lines(expected)));
    assert!(before == state(sandbox.folder.path()));
    let ran = sandbox.run("import a.tar --layout plain --label plain");
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("skipped: link"), "{}", ran.stderr);
    assert_eq!(sandbox.done("cat plain:NOTES"), "top\n");
}

#[test]
fn tar_is_no_place_to_restore_to_twice() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label good");
    sandbox.done("export good a.tar");
    sandbox.write("store/NOTES", "changed\n");
    sandbox.settle();
    sandbox.done("backup --store store --label changed");
    let before = fs::read(sandbox.path("a.tar")).unwrap();
    let ran = sandbox.run("restore changed --store a.tar");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let words = "error: [here]/a.tar can't be written: documents in a tar can't be changed\n";
    assert!(ran.stderr.starts_with(words), "{}", ran.stderr);
    assert_eq!(fs::read(sandbox.path("a.tar")).unwrap(), before);
}
