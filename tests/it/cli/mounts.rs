//! File systems that are full or read-only. Mounting takes privileges: without them these tests do nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Sandbox, state};

/// A mount that is undone in the end.
struct Mount {
    place: PathBuf,
}

impl Mount {
    fn new(place: &Path, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let mount = |arguments: &[&str]| {
            let mut command = Command::new("mount");
            command.args(arguments).arg(place).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        mount(arguments).then(|| Self { place: place.to_owned() })
    }

    fn small(place: &Path) -> Option<Self> {
        Self::new(place, &["-t", "tmpfs", "-o", "size=1m", "none"])
    }

    fn make_read_only(&self) -> bool {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,ro,bind"]).arg(&self.place).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

/// Writes what does not compress.
fn fill(path: &Path, bytes: usize) {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(path, noise).unwrap();
}

#[test]
fn backup_to_a_full_disk() {
    let sandbox = Sandbox::new();
    let Some(_mount) = Mount::small(&sandbox.path("disk")) else { return };
    sandbox.done("backup --store store --repo disk/r --label old");
    fill(&sandbox.path("store/large"), 3 << 20);
    sandbox.settle();
    let ran = sandbox.run("backup --store store --repo disk/r");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("error: cannot write "), "{}", ran.stderr);
    assert!(
        ran.stderr.ends_with("hint: make room on the disk of the repository, then run it again\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read_dir(sandbox.path("disk/r/tmp")).unwrap().count(), 0);
    assert!(sandbox.done("check --read-data --repo disk/r").starts_with("no damage found; checked 1 snapshot"));
    sandbox.done("restore old --store elsewhere --repo disk/r");
    assert_eq!(sandbox.read("elsewhere/NOTES"), "top\n");
}

/// A repository on a small disk, with a snapshot that takes half of it and was forgotten, and smaller ones.
fn on_a_small_disk() -> Option<(Sandbox, Mount)> {
    let sandbox = Sandbox::new();
    let mount = Mount::small(&sandbox.path("disk"))?;
    sandbox.write("bulk/NOTES", "beside\n");
    fill(&sandbox.path("bulk/large"), 400 << 10);
    sandbox.settle();
    sandbox.done("backup --store bulk --repo disk/r --label large");
    for n in 0..9 {
        sandbox.write("store/NOTES", &format!("note {n}\n"));
        sandbox.settle();
        sandbox.done("backup --store store --repo disk/r");
    }
    sandbox.done("forget large --repo disk/r --allow-empty");
    Some((sandbox, mount))
}

fn free_bytes(place: &Path) -> u64 {
    let stat = rustix::fs::statvfs(place).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Fills a disk to the last block.
fn fill_up(place: &Path) {
    let mut file = fs::File::create(place.join("filler")).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    assert_eq!(free_bytes(place), 0);
}

#[test]
fn prune_on_a_full_disk_makes_room() {
    let Some((sandbox, mount)) = on_a_small_disk() else { return };
    let disk = &mount.place;
    sandbox.age("disk/r");
    sandbox.done("prune --repo disk/r");
    sandbox.age("disk/r");
    fill_up(disk);
    // No snapshot fits any more, and neither does what a prune would write: but what is due is deleted first.
    let ran = sandbox.run("backup --store store --repo disk/r");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let ran = sandbox.run("prune --repo disk/r");
    assert!(ran.code <= 1, "{}", ran.stderr);
    assert!(free_bytes(disk) > 300 << 10, "{} {}", free_bytes(disk), ran.stderr);
    sandbox.done("prune --repo disk/r");
    sandbox.done("backup --store store --repo disk/r");
    assert!(sandbox.done("check --read-data --repo disk/r").starts_with("no damage found; checked 10 snapshots"));
}

#[test]
fn prune_that_has_to_copy_on_a_full_disk_leaves_everything() {
    let Some((sandbox, mount)) = on_a_small_disk() else { return };
    let disk = &mount.place;
    fill_up(disk);
    let before = state(disk);
    let ran = sandbox.run("prune --repo disk/r");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.ends_with("hint: make room on the disk of the repository, then run it again\n"),
        "{}",
        ran.stderr
    );
    assert!(before == state(disk));
    fs::remove_file(disk.join("filler")).unwrap();
    sandbox.done("prune --repo disk/r");
    assert!(sandbox.done("check --read-data --repo disk/r").starts_with("no damage found; checked 9 snapshots"));
}

#[test]
fn repair_and_copy_on_a_full_disk_leave_everything() {
    let Some((sandbox, mount)) = on_a_small_disk() else { return };
    let disk = &mount.place;
    let pack = fs::read_dir(disk.join("r/packs")).unwrap().map(|pack| pack.unwrap().path());
    let pack = pack.min_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[70] ^= 1;
    fs::write(&pack, bytes).unwrap();
    sandbox.done("backup --store store --repo other --label one");
    fill_up(disk);
    let before = state(disk);
    for words in ["repair --repo disk/r", "copy one --repo other --to disk/r", "copy one --repo other --to disk/new"] {
        let ran = sandbox.run(words);
        assert_eq!(ran.code, 1, "{words}: {} {}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("hint: make room on the disk of "), "{words}: {}", ran.stderr);
        // Folders take no room.
        let _ = fs::remove_dir(disk.join("new/tmp")).and_then(|()| fs::remove_dir(disk.join("new")));
        assert!(before == state(disk), "{words}");
    }
    fs::remove_file(disk.join("filler")).unwrap();
    assert_eq!(sandbox.run("repair --repo disk/r").code, 13);
    sandbox.done("copy one --repo other --to disk/r");
    sandbox.done("copy one --repo other --to disk/new");
    assert!(sandbox.done("check --read-data --repo disk/new").starts_with("no damage found; checked 1 snapshot"));
}

#[test]
fn restore_to_a_full_disk() {
    let sandbox = Sandbox::new();
    fill(&sandbox.path("store/large"), 3 << 20);
    sandbox.done("backup --store store");
    let Some(_mount) = Mount::small(&sandbox.path("disk")) else { return };
    sandbox.write("disk/target/NOTES", "mine\n");
    sandbox.settle();
    // Into a directory that holds something, and into one that is still to be made.
    for target in ["disk/target", "disk/fresh", "disk"] {
        let before = state(&sandbox.path("disk"));
        let ran = sandbox.run(&format!("restore latest --store {target}"));
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(
            ran.stderr.ends_with("hint: make room on the disk of the store, then run it again\n"),
            "{}",
            ran.stderr
        );
        assert!(before == state(&sandbox.path("disk")), "{target}");
    }
}

#[test]
fn read_only_repository() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --repo r --label old");
    let r = sandbox.path("r");
    let Some(mount) = Mount::new(&r, &["--bind", r.to_str().unwrap()]) else { return };
    if !mount.make_read_only() {
        return;
    }
    sandbox.write("store/NOTES", "changed\n");
    sandbox.settle();
    sandbox.done("snapshots --repo r");
    sandbox.done("check --read-data --repo r");
    sandbox.done("backup --dry-run --repo r --store store");
    for words in ["backup --store store --repo r", "restore old --store store --repo r"] {
        let before = state(sandbox.folder.path());
        let ran = sandbox.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
        let hint = "hint: check the permissions of the repository, and whether its disk is read-only (a restore can do \
                    without writing to it: `--no-checkpoint`)\n";
        assert!(ran.stderr.ends_with(hint), "{}", ran.stderr);
        assert!(before == state(sandbox.folder.path()), "{words}");
    }
    // What needs no checkpoint needs no writing.
    assert!(!sandbox.done("restore old --store elsewhere --repo r").contains("checkpoint"));
    sandbox.done("restore old --store store --repo r --no-checkpoint");
    assert_eq!(sandbox.read("store/NOTES"), "top\n");
}

#[test]
fn export_to_a_full_disk_leaves_nothing() {
    let sandbox = Sandbox::new();
    let Some(_mount) = Mount::small(&sandbox.path("disk")) else { return };
    fill(&sandbox.path("store/large"), 3 << 20);
    sandbox.settle();
    sandbox.done("backup --store store --label good");
    for name in ["a.tar", "a.tar.zst"] {
        let ran = sandbox.run(&format!("export good disk/{name}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: cannot write "), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: make room on the disk of the store"), "{}", ran.stderr);
        assert_eq!(fs::read_dir(sandbox.path("disk")).unwrap().count(), 0);
    }
}

#[test]
fn migration_to_a_full_disk_or_a_read_only_one() {
    let sandbox = Sandbox::new();
    let Some(mount) = Mount::small(&sandbox.path("disk")) else { return };
    let noise = |n: u32| blake3::hash(&n.to_le_bytes()).to_hex().to_string().repeat(600);
    for n in 0..60 {
        let table = format!(r#"{{"uuid":"{n}","name":"T{n}","database":"DB","noise":"{}"}}"#, noise(n));
        sandbox.write(&format!("old/sales/table/DB.T{n}.json"), &table);
    }
    let before = state(&sandbox.path("old"));
    for target in ["disk/new", "disk/new.zip"] {
        let ran = sandbox.run(&format!("migrate old {target}"));
        // What repeats itself fits into the zip.
        if target == "disk/new" {
            assert_eq!(ran.code, 1, "{}", ran.stderr);
            assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
            assert_eq!(fs::read_dir(sandbox.path("disk")).unwrap().count(), 0);
        }
    }
    assert!(mount.make_read_only());
    let before_disk = state(&sandbox.path("disk"));
    for target in ["disk/other", "disk/other.zip"] {
        let ran = sandbox.run(&format!("migrate old {target}"));
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    }
    assert!(state(&sandbox.path("disk")) == before_disk && state(&sandbox.path("old")) == before);
}
