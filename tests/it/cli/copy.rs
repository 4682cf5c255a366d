//! Copying snapshots to another repository.

use std::fs;

use super::{Sandbox, lines, state};

/// A store with three backups, of which the second has a label.
fn with_backups() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    sandbox.done("backup --store store --label good");
    sandbox.write("store/NOTES", "changed\n");
    sandbox.settle();
    sandbox.done("backup --store store");
    sandbox
}

#[test]
fn chosen_snapshots_are_copied_and_then_all() {
    let sandbox = with_backups();
    let ids = sandbox.ids("meta_backups");
    let before = state(sandbox.folder.path());
    let expected = "would copy ID DATE TIME good
        would copy 1 snapshot; nothing was changed";
    assert_eq!(sandbox.done("copy good --to second --dry-run"), lines(expected));
    assert!(before == state(sandbox.folder.path()));

    let said = sandbox.done("copy good --to second");
    assert!(said.starts_with("created repository second\n"), "{said}");
    assert!(said.contains("copied 1 snapshot, "), "{said}");
    assert_eq!(sandbox.ids("second"), ids[1..2]);
    let said = sandbox.done("copy --all --to second");
    assert!(said.contains("copied 2 snapshots; 1 snapshot there already, "), "{said}");
    assert_eq!(sandbox.ids("second"), ids);
    assert!(sandbox.done("check --read-data --repo second").starts_with("no damage found; checked 3 snapshots"));
    sandbox.done("restore good --repo second --store elsewhere");
    assert_eq!(sandbox.read("elsewhere/NOTES"), "top\n");

    let there = state(&sandbox.path("second"));
    let (_, messages) = sandbox.json("copy --all --to second");
    assert_eq!(messages.len(), 4);
    assert!(messages[..3].iter().all(|message| message["is_copied"] == false), "{messages:?}");
    let summary = messages.last().unwrap();
    assert_eq!((&summary["copied"], &summary["present"]), (&0.into(), &3.into()));
    assert_eq!((&summary["chunks"], &summary["bytes_stored"]), (&0.into(), &0.into()));
    assert!(there == state(&sandbox.path("second")));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let sandbox = with_backups();
    sandbox.write("occupied/file", "mine");
    let before = state(sandbox.folder.path());
    for (words, code, said) in [
        ("copy --to second", 2, "copy which snapshots?"),
        ("copy good", 2, "Name it with `--to`"),
        ("copy good --all --to second", 2, "cannot be used with"),
        ("copy good --to s3://bucket/second", 2, "--to: this version knows directories only"),
        ("copy good --to meta_backups", 2, "is the repository to copy from"),
        ("copy good --to ./meta_backups/../meta_backups", 2, "is the repository to copy from"),
        ("copy good --to occupied", 10, "neither a metastash repository nor an empty directory"),
        ("copy nothing --to second", 1, "there is no snapshot `nothing`"),
        ("copy good --repo nowhere --to second", 10, "is not a metastash repository"),
    ] {
        let ran = sandbox.run(words);
        assert_eq!(ran.code, code, "{words}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{words}: {}", ran.stderr);
        assert!(before == state(sandbox.folder.path()), "{words}");
    }
}

#[test]
fn profile_may_name_the_other_repository_and_say_all() {
    let sandbox = with_backups();
    sandbox.write("nightly.toml", "[copy]\nto = \"second\"\nall = true\n");
    sandbox.done("copy good --profile ./nightly.toml");
    assert_eq!(sandbox.ids("second").len(), 1, "who names one means it");
    sandbox.done("copy --profile ./nightly.toml");
    assert_eq!(sandbox.ids("second").len(), 3);
    assert_eq!(sandbox.run("copy --all=false --profile ./nightly.toml").code, 2);
}

#[test]
fn label_that_is_taken_there_is_told() {
    let sandbox = with_backups();
    sandbox.done("backup --store store --repo second --label good");
    let there = state(&sandbox.path("second"));
    let ran = sandbox.run("copy --all --to second");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("error: the label `good` names snapshot "), "{}", ran.stderr);
    assert!(ran.stderr.contains("in the repository to copy to"), "{}", ran.stderr);
    assert!(there == state(&sandbox.path("second")));
    sandbox.done("copy latest --to second");
}

#[test]
fn damaged_source_is_not_copied() {
    let sandbox = with_backups();
    for pack in fs::read_dir(sandbox.path("meta_backups/packs")).unwrap() {
        let pack = pack.unwrap().path();
        let mut bytes = fs::read(&pack).unwrap();
        bytes[70] ^= 1;
        fs::write(&pack, bytes).unwrap();
    }
    let ran = sandbox.run("copy --all --to second");
    assert_eq!(ran.code, 13, "{}", ran.stderr);
    assert!(ran.stderr.contains("is damaged"), "{}", ran.stderr);
    assert!(!sandbox.path("second/snapshots").exists());
}
