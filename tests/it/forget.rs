//! Forgetting and putting back: nothing is lost at any moment, whoever else is at it, and a prune can see what counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use metastash::model::clock::Clock;
use metastash::monitor::Silent;
use metastash::ops::backup::BackupOptions;
use metastash::ops::forget::{forget, plan_named, put_back};
use metastash::ops::retention::{Policy, plan};
use metastash::ops::{self, Error};
use metastash::repo::config::GRACE_SECS;
use metastash::repo::forgotten::Forgotten;
use metastash::repo::snapshot::{Reference, Snapshot};
use metastash::repo::{self, Repository};
use metastash::storage::Storage;
use metastash::storage::memory::MemoryStorage;

use crate::support::{
    Call, Contents, Hooked, assert_sound, back_up, back_up_with, check_everything, contents, contents_of, copy, create,
    open, options, project, scratch, settle, snapshots, text, view, write,
};

/// A repository with three snapshots of one store, and what each holds.
fn three() -> (MemoryStorage, Vec<(Snapshot, Contents)>) {
    let scratch = scratch();
    let (storage, repo) = create();
    let taken = (0..3).map(|round| {
        write(scratch.path(), format!("p/{round}"), text(round, 2000));
        write(scratch.path(), "p/changes", text(100 + round, 2000));
        settle();
        (back_up(scratch.path(), &repo).snapshot, contents_of(&view(scratch.path())))
    });
    let taken = taken.collect();
    (storage, taken)
}

fn records(storage: &MemoryStorage) -> Vec<String> {
    storage.names().into_iter().filter(|name| name.starts_with("forgotten/")).collect()
}

fn forgotten(repo: &Repository) -> Vec<Forgotten> {
    let list = repo.forgotten().unwrap();
    assert!(list.unreadable.is_empty(), "{:?}", list.unreadable);
    list.forgotten
}

fn by_name(name: &str) -> Reference {
    name.parse().unwrap()
}

#[test]
fn forgotten_snapshot_is_out_of_sight_and_comes_back_as_it_was() {
    let (storage, taken) = three();
    let (middle, expected) = &taken[1];
    let before = storage.names();
    let repo = open(&storage);
    assert!(repo.forget(middle).unwrap());
    assert_eq!(snapshots(&repo), [taken[0].0.clone(), taken[2].0.clone()]);
    assert!(matches!(
        repo.find_snapshot(&by_name(&middle.id.to_string()), |_| true),
        Err(repo::Error::UnknownSnapshot { .. })
    ));
    // The record has the same bytes, and a name that begins with that of the snapshot.
    let name = before.iter().find(|name| name.ends_with(&middle.id.to_string())).unwrap();
    let [record] = &records(&storage)[..] else { panic!("one record") };
    assert!(record.starts_with(&format!("{}-", name.replace("snapshots/", "forgotten/"))), "{record}");
    assert_sound(&repo);

    let found = repo.find_forgotten(&by_name(&middle.id.short())).unwrap();
    assert_eq!(forgotten(&repo), std::slice::from_ref(&found));
    put_back(&repo, &found).unwrap();
    assert_eq!(snapshots(&repo).len(), 3);
    assert!(contents(&repo, middle) == *expected);
    assert_eq!(forgotten(&repo), []);
    assert!(matches!(repo.find_forgotten(&by_name(&middle.id.short())), Err(repo::Error::NotForgotten { .. })));
    // The record stays: only a prune that knows its age may remove it.
    assert_eq!(storage.names().len(), before.len() + 1);
    assert_sound(&repo);
}

#[test]
fn each_forgetting_has_a_record_of_its_own() {
    let (storage, taken) = three();
    let repo = open(&storage);
    for round in 1..4 {
        assert!(repo.forget(&taken[0].0).unwrap());
        assert_eq!(records(&storage).len(), round, "another name, even within a millisecond");
        assert!(!repo.forget(&taken[0].0).unwrap(), "it is gone already");
        assert_eq!(records(&storage).len(), round);
        let [record] = &forgotten(&repo)[..] else { panic!("it is one snapshot") };
        repo.unforget(record).unwrap();
    }
}

#[test]
fn interrupted_forgetting_loses_nothing() {
    let (storage, taken) = three();
    for count in 0.. {
        let storage = copy(&storage);
        storage.stop_after(count);
        let result = open(&storage).forget(&taken[1].0);
        storage.go_on();
        let repo = open(&storage);
        assert_sound(&repo);
        let listed = snapshots(&repo).len();
        if let Ok(was_there) = result {
            assert_eq!((was_there, listed, count), (true, 2, 2), "record, removal");
            break;
        }
        // With record and snapshot both there, it is in sight and not forgotten.
        assert_eq!((listed, forgotten(&repo).len()), (3, 0));
        assert_eq!(records(&storage).len() as u64, count);
        for (snapshot, expected) in &taken {
            assert!(contents(&repo, snapshot) == *expected);
        }
        // The next one writes a record with a time of its own.
        assert!(repo.forget(&taken[1].0).unwrap());
        assert_eq!(records(&storage).len() as u64, count + 1);
        assert_eq!((snapshots(&repo).len(), forgotten(&repo).len()), (2, 1));
    }
}

#[test]
fn interrupted_putting_back_loses_nothing() {
    let (storage, taken) = three();
    let repo = open(&storage);
    repo.forget(&taken[1].0).unwrap();
    let record = forgotten(&repo).remove(0);
    for count in 0.. {
        let storage = copy(&storage);
        storage.stop_after(count);
        let result = open(&storage).unforget(&record);
        storage.go_on();
        let repo = open(&storage);
        assert_sound(&repo);
        if result.is_ok() {
            assert_eq!((count, snapshots(&repo).len()), (1, 3));
            break;
        }
        assert_eq!((snapshots(&repo).len(), forgotten(&repo).len()), (2, 1));
    }
}

#[test]
fn retention_stopped_anywhere_is_finished_by_the_next() {
    let (storage, taken) = three();
    let policy = Policy { last: 1, ..Policy::new(jiff::tz::TimeZone::UTC) };
    for count in 0.. {
        let storage = copy(&storage);
        storage.stop_after(count);
        let listed = taken.iter().map(|(snapshot, _)| snapshot.clone()).collect::<Vec<_>>();
        let result = forget(&open(&storage), &plan(&listed, &policy), &Silent);
        storage.go_on();
        let repo = open(&storage);
        assert_sound(&repo);
        assert!(contents(&repo, &taken[2].0) == taken[2].1);
        let left = snapshots(&repo);
        assert_eq!(left.len() + forgotten(&repo).len(), 3, "each is in sight or can be put back");
        let again = forget(&repo, &plan(&left, &policy), &Silent).unwrap();
        assert_eq!(snapshots(&repo), [taken[2].0.clone()]);
        for record in forgotten(&repo) {
            repo.unforget(&record).unwrap();
        }
        for (snapshot, expected) in &taken {
            assert!(contents(&repo, snapshot) == *expected);
        }
        if result.is_ok() {
            assert_eq!((count, again), (4, 0));
            break;
        }
    }
}

#[test]
fn forgetting_and_putting_back_at_once_never_lose_a_snapshot() {
    let (storage, taken) = three();
    let target = &taken[1].0;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let repo = open(&storage);
                (0..60).for_each(|_| assert!(repo.forget(target).is_ok()));
            });
            scope.spawn(|| {
                let repo = open(&storage);
                for _ in 0..60 {
                    forgotten(&repo).iter().for_each(|record| repo.unforget(record).unwrap());
                    let is_seen = snapshots(&repo).contains(target);
                    assert!(is_seen || !records(&storage).is_empty(), "it is in sight, or has a record");
                }
            });
        }
    });
    let repo = open(&storage);
    let back = forgotten(&repo);
    assert_eq!(snapshots(&repo).len() + back.len(), 3);
    back.iter().for_each(|record| repo.unforget(record).unwrap());
    assert!(contents(&repo, target) == taken[1].1);
}

#[test]
fn what_a_prune_has_doubts_about_is_not_put_back() {
    let (storage, taken) = three();
    let repo = open(&storage);
    repo.forget(&taken[0].0).unwrap();
    let record = forgotten(&repo).remove(0);
    let packs = storage.list("packs").unwrap();
    for pack in &packs {
        storage.put(&format!("marks/{}-x", pack.name), b"").unwrap();
    }
    assert!(matches!(repo.unforget(&record), Err(repo::Error::Fading { .. })));
    assert_eq!(snapshots(&repo).len(), 2);
    for pack in &packs {
        storage.remove(&format!("marks/{}-x", pack.name)).unwrap();
    }
    // Two of the three packs are of the others.
    storage.remove(&format!("packs/{}", packs[0].name)).unwrap();
    storage.remove(&format!("packs/{}", packs[1].name)).unwrap();
    storage.remove(&format!("packs/{}", packs[2].name)).unwrap();
    let result = repo.unforget(&record);
    assert!(matches!(result, Err(repo::Error::MissingChunk { .. })), "{result:?}");
    assert_eq!(snapshots(&repo).len(), 2);
}

#[test]
fn file_among_the_forgotten_that_is_none_of_theirs_is_told() {
    let (storage, taken) = three();
    open(&storage).forget(&taken[0].0).unwrap();
    storage.put("forgotten/notes.txt", b"mine").unwrap();
    let list = open(&storage).forgotten().unwrap();
    assert_eq!(list.forgotten.len(), 1);
    let [stray] = &list.unreadable[..] else { panic!("{:?}", list.unreadable) };
    assert!(stray.to_string().contains("forgotten/notes.txt"), "{stray}");
}

/// What was seen of packs and marks may no longer hold then.
#[test]
fn snapshot_is_not_put_back_when_looking_took_half_the_grace() {
    let half = Duration::from_secs(GRACE_SECS / 2);
    for (time, is_late) in [(half - Duration::from_secs(60), false), (half + Duration::from_secs(1), true)] {
        let (storage, taken) = three();
        open(&storage).forget(&taken[1].0).unwrap();
        let clock = Clock::default();
        let (slow, has_passed) = (clock.clone(), AtomicBool::new(false));
        let hooked = Hooked::new(&storage, move |call| {
            if matches!(call, Call::Read(name, _) if name.starts_with("packs/")) && !has_passed.swap(true, SeqCst) {
                slow.pass(time);
            }
            Ok(())
        });
        let repo = Repository::open(Arc::new(hooked)).unwrap().with_clock(clock);
        let result = repo.unforget(&forgotten(&repo)[0]);
        let is_outrun = matches!(result, Err(repo::Error::Outrun));
        assert_eq!((is_outrun, result.is_ok()), (is_late, !is_late), "{time:?}");
    }
}

#[test]
fn damaged_snapshot_is_not_forgotten_and_damaged_record_not_put_back() {
    let (storage, taken) = three();
    let repo = open(&storage);
    repo.forget(&taken[0].0).unwrap();
    let record = forgotten(&repo).remove(0);
    storage.damage(&records(&storage)[0], |bytes| bytes[40] ^= 1);
    assert!(matches!(repo.unforget(&record), Err(repo::Error::Damaged { .. })));
    let list = repo.forgotten().unwrap();
    assert_eq!((list.forgotten.len(), list.unreadable.len()), (0, 1));

    let name = storage.names().into_iter().find(|name| name.ends_with(&taken[1].0.id.to_string())).unwrap();
    storage.damage(&name, |bytes| bytes[40] ^= 1);
    assert!(matches!(repo.forget(&taken[1].0), Err(repo::Error::Damaged { .. })));
    assert!(storage.names().contains(&name));
}

#[test]
fn check_reports_a_record_with_a_bad_name() {
    let (storage, taken) = three();
    let repo = open(&storage);
    repo.forget(&taken[0].0).unwrap();
    assert_sound(&repo);
    storage.put("forgotten/strange", b"x").unwrap();
    let report = check_everything(&repo);
    assert_eq!(report.findings.len(), 1);
    assert!(report.findings[0].error.to_string().starts_with("forgotten/strange is damaged: its name"));
}

#[test]
fn label_that_was_taken_meanwhile_is_not_taken_back() {
    let scratch = scratch();
    write(scratch.path(), "p/a", b"a");
    let (_, repo) = create();
    let good = BackupOptions { label: Some("good".to_owned()), ..options() };
    let first = back_up_with(scratch.path(), &repo, &good).unwrap().snapshot;
    repo.forget(&first).unwrap();
    let second = back_up_with(scratch.path(), &repo, &good).unwrap().snapshot;
    let record = repo.find_forgotten(&by_name("good")).unwrap();
    assert!(matches!(put_back(&repo, &record), Err(Error::LabelTaken { .. })));
    repo.forget(&second).unwrap();
    assert!(matches!(repo.find_forgotten(&by_name("good")), Err(repo::Error::AmbiguousSnapshot { .. })));
    put_back(&repo, &record).unwrap();
    assert_eq!(snapshots(&repo), [first]);
}

#[test]
fn last_backup_of_a_group_goes_only_if_that_is_allowed() {
    let scratch = scratch();
    write(scratch.path(), "p/a", b"a");
    let (_, repo) = create();
    let system = back_up(scratch.path(), &repo).snapshot;
    let of_project = BackupOptions { scope: project("p"), ..options() };
    let part = back_up_with(scratch.path(), &repo, &of_project).unwrap().snapshot;
    let more = back_up(scratch.path(), &repo).snapshot;
    let all = snapshots(&repo);
    let refused = |result: ops::Result<Vec<_>>| matches!(result, Err(Error::Refused { .. }));
    assert!(refused(plan_named(&all, &[part.id].into(), false)));
    assert!(refused(plan_named(&all, &[system.id, more.id].into(), false)));
    assert_eq!(plan_named(&all, &[system.id].into(), false).unwrap().len(), 1);
    let decisions = plan_named(&all, &[system.id, part.id, more.id].into(), true).unwrap();
    assert_eq!(forget(&repo, &decisions, &Silent).unwrap(), 3);
    assert_eq!(snapshots(&repo), []);
}

#[test]
fn backup_after_its_parent_was_forgotten_holds_everything() {
    let scratch = scratch();
    write(scratch.path(), "p/a", text(1, 3000));
    settle();
    let (_, repo) = create();
    let first = back_up(scratch.path(), &repo);
    repo.forget(&first.snapshot).unwrap();
    let second = back_up(scratch.path(), &repo);
    assert_eq!((second.counts.new, second.bytes_stored), (1, 0), "read again, and not stored again");
    assert!(contents(&repo, &second.snapshot) == contents_of(&view(scratch.path())));
    assert_sound(&repo);
}
