//! Any call to the disk fails, the process is killed there, or the power goes: once before each call of each command.
//! What was there stays, what a command said is done is done, and the same command then succeeds.

use std::fs;
use std::path::Path;
use std::time::Duration;

use metastash::monitor::Silent;
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::copy::copy;
use metastash::ops::prune::{PruneOptions, prune};
use metastash::ops::repair::{RepairOptions, repair};
use metastash::ops::restore::{Mode, restore};
use metastash::repo::Repository;
use metastash::repo::config::GRACE_SECS;
use metastash::repo::snapshot::Snapshot;
use metastash::storage::Storage;

use crate::damage::{Unreadable, unreadable};
use crate::disk::{Failing, LOSSES, Loss, MemoryDisk};
use crate::support::{
    Contents, Dice, assert_sound, below, config, contents, contents_of, options, restore_options, scratch, settle,
    snapshots, store, text, view, write,
};

/// What was taken, and what it holds.
type Taken = Vec<(Snapshot, Contents)>;

/// Does something to the repository on a disk, as one run of a command does. What is returned is to be there from then on.
type Act<'a> = dyn Fn(&MemoryDisk) -> Result<Option<Snapshot>, Box<dyn std::error::Error>> + 'a;

/// Asserts that a repository is as it should be.
type Look<'a> = dyn Fn(&MemoryDisk, &Taken, &str) + 'a;

fn assert_reads(disk: &MemoryDisk, taken: &Taken, context: &str) {
    let repo = match disk.open() {
        Ok(repo) => repo,
        Err(metastash::repo::Error::NotARepository { .. }) if taken.is_empty() => return,
        Err(error) => panic!("{context}: {error}"),
    };
    assert_sound(&repo);
    let listed = snapshots(&repo);
    for (snapshot, expected) in taken {
        assert!(listed.iter().any(|listed| listed.id == snapshot.id), "{context}: {} is gone", snapshot.id.short());
        assert!(contents(&repo, snapshot) == *expected, "{context}: {} is wrong", snapshot.id.short());
    }
}

/// Tries an act with each of its calls as the last, or the one that fails. Returns how many it makes.
fn disturb(disk: &MemoryDisk, taken: &Taken, expected: &Contents, name: &str, act: &Act<'_>, look: &Look<'_>) -> u64 {
    let mut dice = Dice::new(disk.calls());
    let succeed = |disk: &MemoryDisk, context: &str| {
        let made = act(disk).unwrap_or_else(|error| panic!("{context}: then {error}"));
        let mut taken = taken.clone();
        taken.extend(made.map(|snapshot| (snapshot, expected.clone())));
        look(disk, &taken, context);
        // What is said to be done is done, whatever happens next.
        for loss in LOSSES {
            look(&disk.without_power(loss, &mut Dice::new(1)), &taken, &format!("{context}, done, {loss:?}"));
        }
    };
    for count in [1, u64::MAX] {
        for first in 0.. {
            let failing = disk.fork(Failing { first, count });
            let result = act(&failing);
            let context = format!("{name}, call {first} and {} more", count - 1);
            let is_through = failing.calls() <= first;
            if is_through {
                result.unwrap();
            }
            look(&failing.revived(), taken, &context);
            succeed(&failing.revived(), &context);
            if count == u64::MAX {
                for loss in LOSSES {
                    let context = format!("{context}, {loss:?} lost");
                    let after = failing.without_power(loss, &mut dice);
                    look(&after, taken, &context);
                    succeed(&after, &context);
                }
            }
            if is_through {
                if count == 1 {
                    break;
                }
                return first;
            }
        }
    }
    unreachable!("what is done ends")
}

fn open_or_create(disk: &MemoryDisk) -> metastash::repo::Result<Repository> {
    match disk.open() {
        Err(metastash::repo::Error::NotARepository { .. }) => {
            Ok(Repository::create_when_needed(disk.storage(), config()).with_clock(disk.clock()))
        }
        result => result,
    }
}

fn back_up(disk: &MemoryDisk, source: &Path) -> Result<Option<Snapshot>, Box<dyn std::error::Error>> {
    let report = backup(&store(source), &open_or_create(disk)?, &options(), &Silent)?;
    // Snapshots are named by the millisecond.
    std::thread::sleep(Duration::from_millis(2));
    Ok(Some(report.snapshot))
}

fn run_prune(disk: &MemoryDisk) -> Result<Option<Snapshot>, Box<dyn std::error::Error>> {
    prune(&disk.open()?, &PruneOptions::default(), &Silent)?;
    Ok(None)
}

fn day(disk: &MemoryDisk) {
    disk.clock().pass(Duration::from_secs(GRACE_SECS + 60));
}

/// Takes snapshots of a store that changes.
fn taken(disk: &MemoryDisk, source: &Path, rounds: u64) -> Taken {
    let mut taken = Taken::new();
    for round in 0..rounds {
        for n in 0..3 {
            write(source, format!("p{n}/{}", round % 4), text(round * 31 + n, 1500));
        }
        settle();
        taken.push((back_up(disk, source).unwrap().unwrap(), contents_of(&view(source))));
    }
    taken
}

#[test]
fn committed_snapshot_survives_power_loss_in_any_backup() {
    let scratch = scratch();
    let source = scratch.path();
    let disk = MemoryDisk::new();
    let mut all = Taken::new();
    for round in 0..3 {
        write(source, "p/a", text(round, 900));
        write(source, format!("q/{round}"), text(round + 100, 900));
        settle();
        let now = contents_of(&view(source));
        let calls = disturb(&disk, &all, &now, "backup", &|disk| back_up(disk, source), &assert_reads);
        assert!(calls > 10, "{calls}");
        all.push((back_up(&disk, source).unwrap().unwrap(), now));
    }
    // Nothing changed: the snapshot relies on packs that others wrote.
    settle();
    let now = contents_of(&view(source));
    disturb(&disk, &all, &now, "backup of nothing new", &|disk| back_up(disk, source), &assert_reads);
    // Something changed: a run that was cut off may have taken the snapshot that the next one finds good enough.
    write(source, "p/a", text(7, 900));
    settle();
    let now = contents_of(&view(source));
    let skip = |disk: &MemoryDisk| {
        let unchanged = BackupOptions { skip_if_unchanged: true, ..options() };
        let snapshot = backup(&store(source), &disk.open()?, &unchanged, &Silent)?.snapshot;
        std::thread::sleep(Duration::from_millis(2));
        Ok(Some(snapshot))
    };
    disturb(&disk, &all, &now, "backup that may be skipped", &skip, &assert_reads);
}

#[test]
fn committed_snapshot_survives_power_loss_in_a_backup_that_writes_an_index_segment() {
    let scratch = scratch();
    let source = scratch.path();
    let disk = MemoryDisk::new();
    let all = taken(&disk, source, 31);
    write(source, "p0/last", b"with a segment");
    settle();
    let now = contents_of(&view(source));
    assert_eq!(disk.storage().list("index").unwrap(), []);
    disturb(&disk, &all, &now, "backup", &|disk| back_up(disk, source), &assert_reads);
    back_up(&disk, source).unwrap();
    assert_eq!(disk.storage().list("index").unwrap().len(), 1);
}

#[test]
fn committed_snapshot_survives_power_loss_in_forget_and_prune() {
    let scratch = scratch();
    let disk = MemoryDisk::new();
    let mut all = taken(&disk, scratch.path(), 9);
    let nothing = Contents::new();
    for (snapshot, _) in all.drain(..3).collect::<Vec<_>>() {
        let forget = |disk: &MemoryDisk| {
            disk.open()?.forget(&snapshot)?;
            Ok(None)
        };
        disturb(&disk, &all, &nothing, "forget", &forget, &assert_reads);
        forget(&disk).unwrap();
    }
    let id = disk.open().unwrap().forgotten().unwrap().forgotten[0].snapshot.id;
    let put_back = |disk: &MemoryDisk| {
        let repo = disk.open()?;
        // Of a run that was cut off it may be back already.
        if let Some(chosen) = repo.forgotten()?.forgotten.iter().find(|forgotten| forgotten.snapshot.id == id) {
            repo.unforget(chosen)?;
        }
        Ok(None)
    };
    disturb(&disk, &all, &nothing, "forget --undo", &put_back, &assert_reads);
    day(&disk);
    for phase in ["prune that marks", "prune that deletes", "prune after that"] {
        let calls = disturb(&disk, &all, &nothing, phase, &run_prune, &assert_reads);
        assert!(calls > 20, "{phase}: {calls}");
        run_prune(&disk).unwrap();
        day(&disk);
    }
    run_prune(&disk).unwrap();
    assert_reads(&disk, &all, "at the end");
    assert_eq!(disk.storage().list("marks").unwrap(), []);
}

/// The first one is killed when a copy of its can be seen and is not durable; the power goes in the one that deletes.
#[test]
fn committed_snapshot_survives_power_loss_in_a_prune_after_one_that_was_killed() {
    let scratch = scratch();
    let disk = MemoryDisk::new();
    let all = taken(&disk, scratch.path(), 9);
    let mut tried = 0;
    for killed_at in 0.. {
        let killed = disk.fork(Failing { first: killed_at, count: u64::MAX });
        let is_through = run_prune(&killed).is_ok();
        if is_through {
            break;
        }
        if !killed.is_unsettled("packs") {
            continue;
        }
        let marked = killed.revived();
        day(&marked);
        run_prune(&marked).unwrap();
        day(&marked);
        for first in 0.. {
            let failing = marked.fork(Failing { first, count: u64::MAX });
            let _ = run_prune(&failing);
            for seed in 0..8 {
                let after = failing.without_power(Loss::Torn, &mut Dice::new(seed));
                assert_reads(&after, &all, &format!("killed at {killed_at}, power lost at {first}, seed {seed}"));
            }
            if failing.calls() <= first {
                break;
            }
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn committed_snapshot_survives_power_loss_in_a_copy() {
    let scratch = scratch();
    let from = MemoryDisk::new();
    let mut all = taken(&from, scratch.path(), 3);
    let (last, expected) = all.pop().unwrap();
    let into = |disk: &MemoryDisk, snapshots: &[Snapshot]| {
        copy(&from.open()?, &open_or_create(disk)?, snapshots.to_vec(), &Silent)?;
        Ok::<_, Box<dyn std::error::Error>>(snapshots.last().cloned())
    };
    let disk = MemoryDisk::new();
    let first: Vec<Snapshot> = all.iter().map(|(snapshot, _)| snapshot.clone()).collect();
    let act = |disk: &MemoryDisk| into(disk, &first);
    let calls = disturb(&disk, &Taken::new(), &all[1].1, "copy to a new repository", &act, &assert_reads);
    assert!(calls > 15, "{calls}");
    act(&disk).unwrap();
    let act = |disk: &MemoryDisk| into(disk, std::slice::from_ref(&last));
    let calls = disturb(&disk, &all, &expected, "copy", &act, &assert_reads);
    assert!(calls > 10, "{calls}");
}

#[test]
fn committed_snapshot_survives_power_loss_in_a_restore() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    let disk = MemoryDisk::new();
    let all = taken(&disk, &source, 4);
    write(&target, "p0/other", b"what only the checkpoint has");
    settle();
    let before = contents_of(&view(&target));
    let act = |disk: &MemoryDisk| {
        let _ = fs::remove_dir_all(&target);
        write(&target, "p0/other", b"what only the checkpoint has");
        settle();
        let report = restore(&store(&target), &disk.open()?, &all[1].0, &restore_options(Mode::Truncate), &Silent);
        let is_changed = contents_of(&view(&target)) != before;
        assert!(!is_changed || contents_of(&view(&target)) == all[1].1, "all or nothing");
        Ok(report?.checkpoint)
    };
    let calls = disturb(&disk, &all, &before, "restore", &act, &assert_reads);
    assert!(calls > 15, "{calls}");
    assert!(!below(&target, "p0/other").exists());
}

#[test]
fn nothing_more_is_lost_by_power_loss_in_a_repair() {
    let scratch = scratch();
    let disk = MemoryDisk::new();
    let all = taken(&disk, scratch.path(), 5);
    let listed: Vec<Snapshot> = all.iter().map(|(snapshot, _)| snapshot.clone()).collect();
    let largest = disk.storage().list("packs").unwrap().into_iter().max_by_key(|pack| pack.size_bytes).unwrap();
    disk.damage(&format!("packs/{}", largest.name), |bytes| bytes[200] ^= 1);
    let lost = unreadable(&disk.open().unwrap(), &listed);
    assert_ne!(lost, Unreadable::default());
    let look = |disk: &MemoryDisk, _: &Taken, context: &str| {
        assert_eq!(unreadable(&disk.open().unwrap(), &listed), lost, "{context}");
    };
    let act = |disk: &MemoryDisk| {
        repair(&disk.open()?, &RepairOptions::default(), &Silent)?;
        Ok(None)
    };
    let calls = disturb(&disk, &all, &Contents::new(), "repair", &act, &look);
    assert!(calls > 30, "{calls}");
}
