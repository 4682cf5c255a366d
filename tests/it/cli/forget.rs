//! Forgetting by rules and by name, and putting back.

use std::fs;

use super::{Sandbox, lines, state};

/// A store with this many backups.
fn with_backups(count: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    (0..count).for_each(|_| drop(sandbox.done("backup --store store")));
    sandbox
}

#[test]
fn rules_keep_and_the_rest_goes() {
    let sandbox = with_backups(3);
    sandbox.done("backup --store store --label good");
    sandbox.done("backup --store store --project sales");
    let ids = sandbox.ids("meta_backups");
    let before = state(sandbox.folder.path());
    let expected = "id time scope kept as notes store
        forget ID DATE TIME system [host]:[here]/store
        keep ID DATE TIME system last [host]:[here]/store
        keep ID DATE TIME system newest, last, daily [host]:[here]/store
        keep ID DATE TIME system label good [host]:[here]/store
        keep ID DATE TIME project sales newest, last, daily [host]:[here]/store
        would forget 1 snapshot, keep 4; nothing was changed";
    assert_eq!(sandbox.done("forget --keep-last 2 --keep-daily 3 --dry-run"), lines(expected));
    assert!(before == state(sandbox.folder.path()));

    let expected = "id time scope kept as notes store
        forget ID DATE TIME system [host]:[here]/store
        forgot 1 snapshot, kept 4: `metastash forget --undo ID` puts one back";
    assert_eq!(sandbox.done("forget --keep-last 2 --keep-daily 3"), lines(expected));
    assert_eq!(sandbox.ids("meta_backups"), ids[1..]);
    assert_eq!(sandbox.done("forget --keep-last 2 --keep-daily 3"), "forgot 0 snapshots, kept 4\n");
    assert_eq!(sandbox.done("forget --keep-within 1y --quiet"), "");
    sandbox.done("check --read-data");
}

#[test]
fn forgotten_snapshot_is_listed_apart_and_put_back() {
    let sandbox = with_backups(2);
    sandbox.done("backup --store store --label good");
    let ids = sandbox.ids("meta_backups");
    sandbox.done(&format!("forget good {}", &ids[0][..8]));
    assert_eq!(sandbox.ids("meta_backups"), ids[1..2]);
    let expected = "id time forgotten scope documents notes store
        ID DATE TIME DATE TIME system 3 [host]:[here]/store
        ID DATE TIME DATE TIME system 3 good [host]:[here]/store
        2 snapshots forgotten";
    assert_eq!(sandbox.done("snapshots --forgotten"), lines(expected));
    let (_, list) = sandbox.json("snapshots --forgotten");
    assert_eq!(list.len(), 2);
    assert!(list[0]["forgotten"].as_str().is_some_and(|time| time.ends_with('Z')), "{list:?}");
    sandbox.refused(
        "cat good:NOTES",
        1,
        "error: there is no snapshot `good`
        hint: `metastash snapshots` lists all",
    );
    assert_eq!(sandbox.done("forget --undo good"), "snapshot ID is back\n");
    assert_eq!(sandbox.done("cat good:NOTES"), "top\n");
    assert_eq!(sandbox.done(&format!("forget --undo {} -q", &ids[0][..8])), "");
    assert_eq!(sandbox.ids("meta_backups"), ids);
    assert_eq!(sandbox.done("snapshots --forgotten"), "0 snapshots forgotten\n");
}

#[test]
fn last_backup_of_a_store_goes_only_if_that_is_said() {
    let sandbox = with_backups(2);
    let expected = "error: refused: no backup of [here]/store (system) on HOST would be left without snapshot ID
        hint: leave one, or accept it with `--allow-empty`";
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    sandbox.refused("forget latest latest~1", 14, &expected.replace("HOST", &host));
    sandbox.done("forget latest latest");
    sandbox.done("forget latest --allow-empty");
    assert_eq!(sandbox.done("snapshots"), "0 snapshots\n");
    assert_eq!(sandbox.done("forget --keep-last 1"), "forgot 0 snapshots, kept 0\n");
}

#[test]
fn what_is_not_said_clearly_is_refused() {
    let sandbox = with_backups(2);
    for (words, stderr) in [
        ("forget", "error: name snapshots to forget, or rules such as `--keep-daily 7`"),
        (
            "forget --this-store --keep-last 1",
            "error: no store is named: use `--store`, METASTASH_STORE, or set KYLIN_HOME",
        ),
    ] {
        sandbox.refused(words, 2, stderr);
    }
    for words in [
        "forget --keep-last 0",
        "forget latest --keep-last 1",
        "forget --keep-daily -1",
        "forget --keep-within 0d",
        "forget --keep-within soon",
        "forget --keep-tag k",
        "forget --undo",
        "forget --allow-empty --keep-last 1",
        "forget latest --this-store",
        "forget --undo latest --dry-run",
    ] {
        let before = state(sandbox.folder.path());
        let ran = sandbox.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words}: {}", ran.stderr);
        assert!(before == state(sandbox.folder.path()), "{words}");
    }
    let hint = "hint: `metastash snapshots --forgotten` lists all; `latest` is none of them";
    sandbox.refused("forget --undo latest", 1, &format!("error: there is no forgotten snapshot `latest`\n{hint}"));
    sandbox.refused(
        "forget nowhere latest",
        1,
        "error: there is no snapshot `nowhere`\nhint: `metastash snapshots` lists all",
    );
}

#[test]
fn rules_do_nothing_as_long_as_a_snapshot_is_damaged() {
    let sandbox = with_backups(3);
    super::damage::cut_oldest_snapshot(&sandbox);
    let before = state(sandbox.folder.path());
    let ran = sandbox.run("forget --keep-last 1");
    assert_eq!((ran.code, ran.stdout.as_str()), (13, ""), "{}", ran.stderr);
    assert!(before == state(sandbox.folder.path()));
    // By name the others go, all the same.
    sandbox.done("forget latest");
}

#[test]
fn this_store_leaves_others_alone() {
    let sandbox = with_backups(2);
    super::copy(&sandbox.path("store"), &sandbox.path("other"));
    (0..2).for_each(|_| drop(sandbox.done("backup --store other")));
    let ran = sandbox.done("forget --keep-last 1 --this-store --store other");
    assert!(ran.ends_with("forgot 1 snapshot, kept 1: `metastash forget --undo ID` puts one back\n"), "{ran}");
    let ran = sandbox.done("forget --keep-last 1");
    assert!(ran.ends_with("forgot 1 snapshot, kept 2: `metastash forget --undo ID` puts one back\n"), "{ran}");
}

#[test]
fn newest_checkpoint_stays_for_undo() {
    let sandbox = with_backups(1);
    for round in 0..2 {
        sandbox.write("store/NOTES", &format!("round {round}\n"));
        sandbox.settle();
        sandbox.done("restore latest --store store");
    }
    sandbox.done("backup --store store");
    let ran = sandbox.done("forget --keep-last 1");
    assert!(ran.ends_with("forgot 2 snapshots, kept 2: `metastash forget --undo ID` puts one back\n"), "{ran}");
    sandbox.done("undo --store store");
    assert_eq!(sandbox.read("store/NOTES"), "round 1\n");
}

#[test]
fn decisions_are_messages() {
    let sandbox = with_backups(2);
    let ids = sandbox.ids("meta_backups");
    for (words, is_dry_run) in [("forget --keep-last 1 --dry-run", true), ("forget --keep-last 1", false)] {
        let (code, messages) = sandbox.json(words);
        assert_eq!((code, messages.len()), (0, 3));
        let (gone, kept, summary) = (&messages[0], &messages[1], &messages[2]);
        assert_eq!(gone["message_type"], "forget_decision");
        assert_eq!(
            (&gone["id"], &gone["forget"], &gone["keep"]),
            (&ids[0].as_str().into(), &true.into(), &serde_json::json!([]))
        );
        assert_eq!((&kept["forget"], &kept["keep"]), (&false.into(), &serde_json::json!(["newest", "last"])));
        assert_eq!(summary["message_type"], "forget_summary");
        assert_eq!((&summary["forgotten"], &summary["kept"]), (&1.into(), &1.into()));
        assert_eq!(summary["is_dry_run"], is_dry_run);
    }
    let (code, messages) = sandbox.json(&format!("forget --undo {}", ids[0]));
    assert_eq!((code, messages.len()), (0, 1));
    assert_eq!((&messages[0]["message_type"], &messages[0]["id"]), (&"unforgotten".into(), &ids[0].as_str().into()));
}

#[test]
fn record_has_the_bytes_of_the_snapshot() {
    let sandbox = with_backups(2);
    let read = |folder: &str| {
        let files = fs::read_dir(sandbox.path(folder)).unwrap();
        let mut files: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        files.sort_unstable();
        files
    };
    let before = read("meta_backups/snapshots");
    sandbox.done("forget latest");
    let mut after = [read("meta_backups/snapshots"), read("meta_backups/forgotten")].concat();
    after.sort_unstable();
    assert!(before == after);
}
