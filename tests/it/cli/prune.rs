//! Pruning and repairing, as the command line shows it.

use std::fs;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::{Sandbox, state};

fn files(sandbox: &Sandbox, folder: &str) -> Vec<std::path::PathBuf> {
    let Ok(files) = fs::read_dir(sandbox.path("meta_backups").join(folder)) else { return Vec::new() };
    files.map(|file| file.unwrap().path()).collect()
}

/// A store with this many backups of it, all of it changed each time.
fn with_changes(count: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    for n in 0..count {
        sandbox.write("store/NOTES", &format!("{n}\n"));
        sandbox.settle();
        sandbox.done("backup --store store");
    }
    sandbox
}

#[test]
fn forgotten_snapshots_make_room_after_two_days() {
    let sandbox = with_changes(10);
    let packs = files(&sandbox, "packs").len();
    let said = sandbox.done("forget --keep-last 1 --prune");
    assert!(said.contains("forgot 9 snapshots, kept 1"), "{said}");
    assert!(said.contains("copied what is needed of 10 packs"), "{said}");
    sandbox.done("check --read-data");
    sandbox.age("meta_backups");
    let before = state(sandbox.folder.path());
    let said = sandbox.done("prune --dry-run");
    assert!(said.contains("would delete 10 packs"), "{said}");
    assert!(said.contains("would remove 9 records of snapshots that were forgotten long enough ago"), "{said}");
    assert!(before == state(sandbox.folder.path()));
    let said = sandbox.done("prune");
    assert!(said.contains("deleted 10 packs"), "{said}");
    assert!(files(&sandbox, "packs").len() < packs);
    sandbox.done("check --read-data");
    for _ in 0..3 {
        sandbox.age("meta_backups");
        sandbox.done("prune");
    }
    assert_eq!((files(&sandbox, "packs").len(), files(&sandbox, "marks").len()), (1, 0));
    sandbox.done("check --read-data");
    let before = state(sandbox.folder.path());
    sandbox.done("prune");
    assert!(before == state(sandbox.folder.path()), "nothing is left to do");
}

#[test]
fn prune_says_all_of_it_in_json() {
    let sandbox = with_changes(9);
    for words in ["prune --dry-run", "prune"] {
        let (code, messages) = sandbox.json(words);
        let [summary] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((code, summary["message_type"].as_str()), (0, Some("prune_summary")));
        assert_eq!(summary["is_dry_run"].as_bool(), Some(words.contains("dry")));
        assert_eq!((summary["snapshots"].as_u64(), summary["repacked"]["packs"].as_u64()), (Some(9), Some(9)));
    }
}

#[test]
fn grace_is_not_shortened() {
    let sandbox = with_changes(1);
    sandbox.refused(
        "prune --grace 1h",
        2,
        "error: --grace: backups count on the grace of this repository, which is 24 h; only a longer one can be asked for",
    );
    sandbox.done("prune --grace 48h");
    assert_eq!(sandbox.run("prune --max-unused 101%").code, 2);
}

#[test]
fn what_a_crash_left_is_cleared_when_it_is_old() {
    let sandbox = with_changes(1);
    sandbox.write("meta_backups/tmp/left", "half a pack");
    sandbox.done("prune");
    assert!(sandbox.path("meta_backups/tmp/left").exists(), "someone may be writing it");
    sandbox.age("meta_backups");
    assert!(sandbox.done("prune --dry-run").contains("would remove 1 unfinished file"));
    sandbox.done("prune");
    assert!(!sandbox.path("meta_backups/tmp/left").exists());
}

#[test]
fn held_snapshots_stay() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store --tag hold=audit");
    sandbox.done("backup --store store");
    let ids = sandbox.ids("meta_backups");
    sandbox.done("backup --store store");
    sandbox.done("backup --store store");
    let said = sandbox.done(&format!("forget --keep-last 1 --hold {}", &ids[1][..8]));
    assert!(said.ends_with("forgot 1 snapshot, kept 3: `metastash forget --undo ID` puts one back\n"), "{said}");
}

#[test]
fn prune_that_does_not_know_what_is_needed_removes_nothing() {
    let sandbox = with_changes(2);
    super::damage::cut_oldest_snapshot(&sandbox);
    sandbox.age("meta_backups");
    let before = state(sandbox.folder.path());
    let ran = sandbox.run("prune");
    assert_eq!((ran.code, ran.stdout.as_str()), (13, ""));
    let expected = "error: nothing can be pruned, because it is not known what a snapshot refers to\n";
    assert!(ran.stderr.starts_with(expected), "{}", ran.stderr);
    assert!(before == state(sandbox.folder.path()));
    // It is set aside on request, and a day later it no longer counts.
    assert_eq!(sandbox.run("repair").code, 0);
    assert!(sandbox.done("repair --forget-unreadable").contains("forgot 1 snapshot"));
    assert_eq!(sandbox.run("prune").code, 13);
    sandbox.age("meta_backups");
    sandbox.done("prune");
    sandbox.done("check --read-data");
}

#[test]
fn repair_of_a_sound_repository_changes_nothing() {
    let sandbox = with_changes(2);
    let before = state(sandbox.folder.path());
    assert_eq!(sandbox.done("repair --dry-run"), "no damage found; nothing was changed\n");
    assert_eq!(sandbox.done("repair"), "no damage found\n");
    assert!(before == state(sandbox.folder.path()));
}

#[test]
fn lost_document_is_shown_until_a_backup_brings_it_back() {
    let sandbox = Sandbox::new();
    // Too large for the frame of the others.
    let large: String = (0..100_000_u64).map(|n| format!("{}\n", n * n)).collect();
    sandbox.write("store/sales/large", &large);
    sandbox.settle();
    sandbox.done("backup --store store");
    let [pack] = &files(&sandbox, "packs")[..] else { panic!("one pack") };
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).unwrap();

    let before = state(sandbox.folder.path());
    let ran = sandbox.run("repair --dry-run");
    assert_eq!(ran.code, 13);
    assert!(ran.stdout.contains("would copy what is sound of 1 pack"), "{}", ran.stdout);
    assert!(ran.stdout.contains("would make a snapshot of what is left of ID"), "{}", ran.stdout);
    assert!(before == state(sandbox.folder.path()));
    let ran = sandbox.run("repair");
    assert_eq!(ran.code, 13, "something is lost");
    assert!(ran.stdout.contains("cannot be restored: sales/large (in ID)"), "{}", ran.stdout);
    let expected = "id time scope documents size new changed removed notes store";
    let listed = sandbox.done("snapshots");
    assert!(listed.starts_with(expected) && listed.contains("1 document lost"), "{listed}");
    assert!(listed.contains("repaired=") && listed.contains(", incomplete"), "{listed}");
    let (_, list) = sandbox.json("snapshots");
    assert_eq!((list[0]["documents_lost"].as_u64(), list[1]["documents_lost"].as_u64()), (Some(1), Some(0)));
    assert_eq!(sandbox.run("restore latest --store elsewhere").code, 3, "what is left, and that it is not all");
    fs::remove_dir_all(sandbox.path("elsewhere")).unwrap();

    sandbox.done("backup --store store");
    assert!(!sandbox.done("snapshots").contains("lost"));
    sandbox.done("restore latest --store elsewhere");
    assert_eq!(sandbox.read("elsewhere/sales/large"), large);
    sandbox.age("meta_backups");
    sandbox.done("prune");
    sandbox.done("check --read-data");
}

#[test]
fn killed_prunes_hurt_nothing() {
    let sandbox = with_changes(40);
    sandbox.done("forget --keep-last 5");
    let mut killed = 0;
    for round in 0..24_u64 {
        if round % 6 == 5 {
            sandbox.age("meta_backups");
        }
        let mut child = sandbox.command("prune --max-unused 0 --quiet").spawn().unwrap();
        let began = SystemTime::now();
        std::thread::sleep(Duration::from_micros(2000 + round * 1500));
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        killed += u32::from(child.wait().unwrap().code().is_none());
        assert!(began.elapsed().unwrap() < Duration::from_secs(60));
        sandbox.done("check --read-data --quiet");
        sandbox.write("store/NOTES", &format!("round {round}\n"));
        sandbox.done("backup --store store --quiet");
    }
    assert!(killed > 0);
    for _ in 0..4 {
        sandbox.age("meta_backups");
        sandbox.done("prune --quiet");
    }
    sandbox.done("check --read-data");
    assert!(files(&sandbox, "marks").is_empty() && files(&sandbox, "tmp").is_empty());
}

#[test]
fn repair_promises_no_snapshot_where_nothing_is_left() {
    let sandbox = Sandbox::new();
    sandbox.done("backup --store store");
    let pack = fs::read_dir(sandbox.path("meta_backups/packs")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&pack).unwrap();
    fs::write(&pack, &bytes[..bytes.len() - 20]).unwrap();
    let nothing = "nothing is left of the list of documents of ID: it stays as it is\n";
    for words in ["repair --dry-run", "repair"] {
        let ran = sandbox.run(words);
        assert_eq!(ran.code, 13, "{words}");
        assert!(ran.stdout.contains(nothing), "{words}: {}", ran.stdout);
        assert!(
            !ran.stdout.contains("make a snapshot") && !ran.stdout.contains("the next backup goes by it"),
            "{words}: {}",
            ran.stdout
        );
        // What was lost is not known; that would not be "0 documents".
        let end = ran.stdout.lines().last().unwrap();
        assert!(end.contains(", 1 snapshot not known in full") && !end.contains("document"), "{words}: {end}");
    }
    assert_eq!(sandbox.ids("meta_backups").len(), 1);
    // The same documents have the same list: it is back.
    sandbox.done("backup --store store");
    sandbox.done("repair --forget-unreadable");
    for (snapshot, place) in [("latest~1", "one"), ("latest", "two")] {
        sandbox.done(&format!("restore {snapshot} --store {place}"));
        assert_eq!(sandbox.read(&format!("{place}/NOTES")), "top\n");
    }
}
