//! Names and kinds of files that are unusual.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::{Sandbox, lines};

/// Makes directories so deep that the path of the innermost is longer than an entry's may be.
pub(super) fn make_too_deep(path: &Path) {
    fs::create_dir(path).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut directory = openat(CWD, path, flags, Mode::empty()).unwrap();
    for _ in 0..65_536 / 251 + 1 {
        let name = "d".repeat(250);
        mkdirat(&directory, &name, Mode::from_raw_mode(0o755)).unwrap();
        directory = openat(&directory, &name, flags, Mode::empty()).unwrap();
    }
}

#[test]
fn names_that_are_not_utf8_are_escaped() {
    let sandbox = Sandbox::new();
    let name = OsStr::from_bytes(b"caf\xe9 \n.json");
    fs::write(sandbox.path("store").join(name), "x\n").unwrap();
    sandbox.done("backup --store store");
    let listed = sandbox.done("ls latest");
    assert_eq!(listed.lines().nth(1), Some("caf\\xe9 \\x0a.json"), "{listed}");
    let (_, entries) = sandbox.json("ls latest");
    let hex: String = name.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(entries[1]["path_hex"], hex);
    assert!(entries[0].get("path_hex").is_none());
    sandbox.done("restore latest --store copy");
    assert_eq!(fs::read(sandbox.path("copy").join(name)).unwrap(), b"x\n");
}

#[test]
fn symlink_in_the_store_is_reported_and_not_kept() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("NOTES", sandbox.path("store/link")).unwrap();
    let ran = sandbox.run("backup --store store");
    assert_eq!(ran.code, 3);
    assert_eq!(ran.stderr, lines("skipped: link: is a symlink, not a document; it is not followed and not kept"));
    assert!(ran.stdout.contains("saved: 3 documents (3 new"), "{}", ran.stdout);
    assert!(!sandbox.done("snapshots").contains("incomplete"));
    assert_eq!(sandbox.run("diff latest --store store").code, 3);
}

#[test]
fn what_can_not_be_kept_makes_the_snapshot_incomplete() {
    let sandbox = Sandbox::new();
    make_too_deep(&sandbox.path("store/deep"));
    let ran = sandbox.run("backup --store store");
    assert_eq!(ran.code, 3);
    assert_eq!(ran.stderr.matches("unread: deep/").count(), 1, "{}", &ran.stderr[..200]);
    let last =
        "the snapshot is incomplete: 1 name could not be read (documents, or directories with all that is in them)";
    assert_eq!(ran.stdout.lines().last(), Some(last));
}

#[test]
fn folder_that_a_killed_restore_left_is_not_backed_up() {
    let sandbox = Sandbox::new();
    sandbox.write("store/.metastash-restore-x7Yz01/0/0", "half a doc");
    let ran = sandbox.run("backup --store store");
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.starts_with("skipped: .metastash-restore-x7Yz01: left behind by a restore"), "{}", ran.stderr);
    assert!(!sandbox.done("ls latest").contains("metastash-restore"));
}
