//! What is told while something runs: each phase that says how much there is to do says in the end that this was done.

use std::fs;
use std::slice::from_ref;
use std::sync::Mutex;
use std::time::Duration;

use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Task};
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::check::check;
use metastash::ops::copy::copy;
use metastash::ops::diff::{Noise, diff_live, diff_snapshots_contents};
use metastash::ops::find::{FindOptions, Query, find};
use metastash::ops::prune::{PruneOptions, prune};
use metastash::ops::repair::{RepairOptions, repair};
use metastash::ops::restore::{Mode, RestoreOptions, restore};
use metastash::repo::config::GRACE_SECS;

use crate::damage::{Harm, inflict, stage};
use crate::support::{
    EVERYTHING, below, create, noise, open, options, restore_options, scratch, settle, snapshots, store, take, text,
    write,
};

/// Keeps how much each phase was to do, and did.
#[derive(Debug, Default)]
struct Phases(Mutex<Vec<(Task, Option<u64>, u64)>>);

impl Monitor for Phases {
    fn start(&self, task: Task, total: Option<u64>) {
        self.0.lock().unwrap().push((task, total, 0));
    }

    fn advance(&self, count: u64) {
        self.0.lock().unwrap().last_mut().unwrap().2 += count;
    }

    fn problem(&self, _: &Problem) {}
}

impl Phases {
    /// Asserts that there were these phases, in this order, and that each did what it said.
    fn assert_are(self, expected: &[Task], context: &str) {
        let phases = self.0.into_inner().unwrap();
        let tasks: Vec<Task> = phases.iter().map(|(task, ..)| *task).collect();
        assert_eq!(tasks, expected, "{context}");
        for (task, total, done) in phases {
            assert!(total.is_none_or(|total| total == done), "{context}: {task:?} {done} of {total:?}");
        }
    }
}

/// Does something and looks at its phases.
fn phases_of(context: &str, expected: &[Task], act: impl FnOnce(&Phases)) {
    let phases = Phases::default();
    act(&phases);
    phases.assert_are(expected, context);
}

#[test]
fn backup_diff_and_restore_tell_how_far_they_are() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    for n in 0..40 {
        write(&source, format!("p{}/{n}", n % 3), text(n, 1000));
    }
    write(&source, "p0/large", noise(1, 2_500_000));
    settle();
    let repo = create().1;
    phases_of("the first backup", &[Task::Scan, Task::Store], |phases| {
        backup(&store(&source), &repo, &options(), phases).unwrap();
    });
    for n in 0..5 {
        write(&source, format!("p0/{}", n * 3), text(100 + n, 1000));
    }
    fs::remove_file(below(&source, "p1/1")).unwrap();
    let first = snapshots(&repo).remove(0);
    phases_of("diff", &[Task::Scan, Task::Compare], |phases| {
        diff_live(&repo, &first, &store(&source), &Scope::System, phases, |_| Ok(())).unwrap();
    });
    settle();
    phases_of("the second backup", &[Task::Scan, Task::Store], |phases| {
        backup(&store(&source), &repo, &options(), phases).unwrap();
    });
    phases_of("a backup that reads all", &[Task::Scan, Task::Store], |phases| {
        backup(&store(&source), &repo, &BackupOptions { force: true, ..options() }, phases).unwrap();
    });
    let last = snapshots(&repo).pop().unwrap();
    fs::create_dir_all(&target).unwrap();
    let query = Query::new(&FindOptions { content: Some("uuid".to_owned()), ..FindOptions::default() }).unwrap();
    phases_of("find", &[Task::Search], |phases| {
        find(&repo, from_ref(&first), &Scope::System, &query, phases, |_| Ok(())).unwrap();
    });
    phases_of("diff of contents", &[Task::Compare], |phases| {
        let noise = Noise::default();
        diff_snapshots_contents(&repo, &first, &last, &Scope::System, &noise, phases, |_, _| Ok(())).unwrap();
    });
    let options = RestoreOptions { checkpoint: false, ..restore_options(Mode::Truncate) };
    phases_of("a restore of everything", &[Task::Scan, Task::Compare, Task::Write], |phases| {
        restore(&store(&target), &repo, &last, &options, phases).unwrap();
    });
    write(&target, "p2/2", "changed");
    phases_of(
        "a restore of one document, which is put aside first",
        &[Task::Scan, Task::Compare, Task::Write, Task::Write],
        |phases| {
            restore(&store(&target), &repo, &last, &options, phases).unwrap();
        },
    );
}

#[test]
fn check_copy_and_repair_tell_how_far_they_are() {
    let stage = stage();
    let from = open(&stage.storage);
    phases_of("check", &[Task::Verify], |phases| drop(check(&from, EVERYTHING, phases).unwrap()));
    let all = snapshots(&from);
    phases_of("copy", &[Task::Collect, Task::Copy], |phases| drop(copy(&from, &create().1, all, phases).unwrap()));
    inflict(&stage.storage, &stage.documents_pack(), Harm::Flip(8 * 700));
    phases_of("repair", &[Task::Verify, Task::Repack], |phases| {
        repair(&open(&stage.storage), &RepairOptions::default(), phases).unwrap();
    });
}

#[test]
fn prune_tells_how_far_it_is() {
    let scratch = scratch();
    let storage = create().0;
    for round in 0..9 {
        write(scratch.path(), "p/a", text(round, 1500));
        take(scratch.path(), &storage);
    }
    let run = |context: &str| {
        let expected = [Task::Collect, Task::Verify, Task::Remove, Task::Repack];
        phases_of(context, &expected, |phases| {
            prune(&open(&storage), &PruneOptions::default(), phases).unwrap();
        });
        storage.clock().pass(Duration::from_secs(GRACE_SECS + 60));
    };
    run("nine small packs");
    let repo = open(&storage);
    repo.forget(&snapshots(&repo)[0]).unwrap();
    run("nine marked packs");
    run("a forgotten snapshot");
}
