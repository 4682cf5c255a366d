//! Two of them at the same time, and readers that go away.

use std::fs;
use std::process::{Command, Stdio};

use super::{Sandbox, state};

fn both(sandbox: &Sandbox, words: &str) -> [super::Ran; 2] {
    let start = || sandbox.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children = [start(), start()];
    children.map(|child| sandbox.ran(&child.wait_with_output().unwrap()))
}

#[test]
fn two_backups_to_one_new_repository() {
    for _ in 0..8 {
        let sandbox = Sandbox::new();
        let ran = both(&sandbox, "backup --store store");
        for ran in &ran {
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        }
        let created = ran.iter().filter(|ran| ran.stdout.contains("created repository")).count();
        assert_eq!(created, 1);
        // In the same millisecond they write the same bytes, and so the same snapshot.
        let checked = sandbox.done("check --read-data");
        assert!(checked.starts_with("no damage found; checked 2 snapshots") || checked.contains("checked 1 snapshot,"));
        assert_eq!(fs::read_dir(sandbox.path("meta_backups/tmp")).unwrap().count(), 0);
    }
}

#[test]
fn two_backups_that_choose_one_label() {
    let sandbox = Sandbox::new();
    sandbox.done("init");
    let ran = both(&sandbox, "backup --store store --label same");
    // Both may look before either writes: then there are two, and the label is ambiguous.
    assert!(ran.iter().any(|ran| ran.code == 0));
    sandbox.done("check");
    let named = sandbox.run("ls same");
    assert!(named.code == 0 || named.stderr.contains("may mean any of the snapshots"), "{}", named.stderr);
}

#[test]
fn two_restores_to_one_target() {
    for target in ["target", "fresh"] {
        for _ in 0..4 {
            let sandbox = Sandbox::new();
            (0..300).for_each(|n| sandbox.write(&format!("store/many/{n}"), &format!("{n}\n")));
            sandbox.settle();
            sandbox.done("backup --label all --store store");
            sandbox.write("target/many/7", "mine\n");
            sandbox.settle();
            let ran = both(&sandbox, &format!("restore all --after-truncate --store {target}"));
            for ran in &ran {
                assert!(matches!(ran.code, 0 | 1 | 3 | 15), "{}: {}", ran.code, ran.stderr);
                assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
            }
            assert!(ran.iter().any(|ran| ran.code == 0), "{}\n{}", ran[0].stderr, ran[1].stderr);
            sandbox.done(&format!("restore all --after-truncate --store {target}"));
            assert_eq!(contents(&sandbox, target), contents(&sandbox, "store"));
            sandbox.done("check --read-data");
        }
    }
}

fn contents(sandbox: &Sandbox, place: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    state(&sandbox.path(place)).into_iter().map(|(path, (_, _, content))| (path, content)).collect()
}

#[test]
fn reader_that_goes_away() {
    let sandbox = Sandbox::new();
    (0..5000).for_each(|n| sandbox.write(&format!("store/many/a-name-of-some-length-{n}"), ""));
    fs::write(sandbox.path("store/large"), vec![b'x'; 5 << 20]).unwrap();
    sandbox.done("backup --store store");
    for words in ["ls latest", "ls -l latest", "ls latest --json", "cat latest:large", "diff latest --store nothing"] {
        fs::create_dir_all(sandbox.path("nothing")).unwrap();
        let program = assert_cmd::cargo::cargo_bin!("metastash");
        let script = format!("\"$0\" {words} | head -c 10; exit ${{PIPESTATUS:-0}}");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(program).current_dir(sandbox.folder.path());
        let output = shell
            .env("XDG_CONFIG_HOME", sandbox.path("configuration"))
            .env_remove("METASTASH_REPO")
            .env_remove("KYLIN_HOME")
            .output()
            .unwrap();
        assert_eq!((output.stdout.len(), String::from_utf8_lossy(&output.stderr).as_ref()), (10, ""), "{words}");
    }
}
