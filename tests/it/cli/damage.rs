//! Repositories in which something is not as it was written, as far as the command line shows it.

use std::fs;
use std::path::PathBuf;

use super::Sandbox;

/// Cuts the file of the oldest snapshot in half.
pub(super) fn cut_oldest_snapshot(sandbox: &Sandbox) {
    let path = &files(sandbox, "snapshots")[0];
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn files(sandbox: &Sandbox, folder: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(sandbox.path("meta_backups").join(folder)).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn backed_up() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --label old");
    sandbox.done("backup --store store --label new");
    sandbox
}

#[test]
fn config_of_a_newer_format() {
    let sandbox = backed_up();
    let path = sandbox.path("meta_backups/config");
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] = 9;
    fs::write(&path, bytes).unwrap();
    for words in ["backup --store store", "snapshots", "restore latest --store store", "check"] {
        let before = super::state(sandbox.folder.path());
        let ran = sandbox.run(words);
        assert_eq!(ran.code, 17, "{words}");
        let first = "error: the configuration of meta_backups was written by a newer metastash: ";
        assert!(ran.stderr.starts_with(first), "{}", ran.stderr);
        assert!(ran.stderr.ends_with("hint: update metastash on this machine\n"), "{}", ran.stderr);
        assert!(before == super::state(sandbox.folder.path()));
    }
}

#[test]
fn config_that_is_damaged() {
    let sandbox = backed_up();
    let path = sandbox.path("meta_backups/config");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    for words in ["backup --store store", "snapshots", "restore latest --store store", "check", "init"] {
        let before = super::state(sandbox.folder.path());
        let ran = sandbox.run(words);
        assert_eq!(ran.code, 13, "{words}");
        assert!(ran.stderr.starts_with("error: the configuration of meta_backups is damaged: "), "{}", ran.stderr);
        assert!(before == super::state(sandbox.folder.path()));
    }
}

#[test]
fn snapshot_file_that_was_cut() {
    let sandbox = backed_up();
    cut_oldest_snapshot(&sandbox);
    let ran = sandbox.run("snapshots");
    assert_eq!(ran.code, 13);
    assert!(ran.stdout.contains(" new [host]:[here]/store\n1 snapshot\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("is damaged: its bytes do not match its name"), "{}", ran.stderr);
    assert!(sandbox.done("backup --store store").contains("3 unchanged"));
    assert_eq!(sandbox.done("cat latest:NOTES"), "top\n");
    assert_eq!(sandbox.run("check").code, 13);
    assert_eq!(sandbox.run("ls old").code, 1);
}

#[test]
fn newest_snapshot_file_that_was_cut() {
    let sandbox = backed_up();
    let path = files(&sandbox, "snapshots").pop().unwrap();
    fs::write(path, b"garbage").unwrap();
    // An older one is not the latest.
    assert_eq!(sandbox.run("restore latest --store store").code, 13);
    assert_eq!(sandbox.done("cat old:NOTES"), "top\n");
    assert!(sandbox.done("backup --store store").contains("3 unchanged"));
}

#[test]
fn pack_that_is_missing() {
    let sandbox = backed_up();
    fs::remove_file(&files(&sandbox, "packs")[0]).unwrap();
    let ran = sandbox.run("check");
    assert_eq!(ran.code, 13, "{}", ran.stdout);
    let before = super::state(&sandbox.path("store"));
    let ran = sandbox.run("restore old --store elsewhere");
    assert_eq!(ran.code, 13, "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: `metastash check --read-data` lists every document this affects"));
    assert!(!sandbox.path("elsewhere").exists());
    assert!(before == super::state(&sandbox.path("store")));
    // The documents are all there: a new backup stores them again.
    sandbox.done("backup --store store --label healed");
    sandbox.done("restore healed --store elsewhere");
    assert_eq!(sandbox.read("elsewhere/NOTES"), "top\n");
}
