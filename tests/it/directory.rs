//! The directory store: what is hard about reading a directory tree, and about changing one.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use metastash::endpoint::directory::DirectoryStore;
use metastash::endpoint::{self, Put, Removal, Target};
use metastash::model::entry::{Document, Encoding};
use metastash::model::hash::ContentId;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Recorder, Severity, Silent, Task};
use metastash::ops::Error;
use metastash::ops::backup::backup;
use metastash::ops::restore::{Mode, RestoreOptions, restore};
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use rustix::fs::{FileType, Mode as Permissions, OFlags, mkdirat, mknodat, openat};

use crate::support::{
    Partly, Seen, author, back_up, below, chmod, contents, contents_of, create, entries, options, path, project,
    restore_into, restore_options, scratch, settle, snapshots, store, touch, view, write,
};

#[test]
fn twenty_thousand_names_in_one_directory_round_trip() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    for n in 0..20_000 {
        write(&source, format!("p/{n}"), n.to_string());
    }
    let (_, repo) = create();
    let report = back_up(&source, &repo);
    assert_eq!(report.counts.new, 20_000);
    restore_into(&target, &repo, &report.snapshot, Mode::Merge).unwrap();
    assert!(view(&target) == view(&source));
}

/// Makes a path that no single system call takes.
fn make_deep(root: &Path) {
    let mut directory = openat(rustix::fs::CWD, root, OFlags::DIRECTORY, Permissions::empty()).unwrap();
    for n in 0..600 {
        let name = format!("directory {n:010}");
        mkdirat(&directory, &name, Permissions::from_raw_mode(0o755)).unwrap();
        directory = openat(&directory, &name, OFlags::DIRECTORY, Permissions::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = openat(&directory, "document", flags, Permissions::from_raw_mode(0o644)).unwrap();
    rustix::io::write(file, b"at the bottom").unwrap();
}

#[test]
fn six_hundred_levels_round_trip() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    fs::create_dir(&source).unwrap();
    make_deep(&source);
    let (_, repo) = create();
    let report = back_up(&source, &repo);
    assert_eq!((report.counts.new, report.counts.unread), (1, 0));
    // Once beside the store and renamed, once into a store that has something already.
    restore_into(&target, &repo, &report.snapshot, Mode::Merge).unwrap();
    assert_eq!(back_up(&target, &repo).snapshot.manifest.root, report.snapshot.manifest.root);
    let other = scratch.path().join("other");
    write(&other, "own", b"1");
    restore_into(&other, &repo, &report.snapshot, Mode::Truncate).unwrap();
    assert_eq!(back_up(&other, &repo).snapshot.manifest.root, report.snapshot.manifest.root);
    assert_eq!(entries(&repo, &snapshots(&repo)[2]).unwrap().len(), 601);
}

#[test]
fn what_is_no_document_is_reported_and_not_followed() {
    let scratch = scratch();
    let (source, outside) = (scratch.path().join("source"), scratch.path().join("outside"));
    write(&source, "p/a", b"a document");
    write(&outside, "secret", b"not of this store");
    symlink(outside.join("secret"), source.join("p/link")).unwrap();
    symlink(&outside, source.join("p/linked directory")).unwrap();
    symlink("nowhere", source.join("dangling")).unwrap();
    let fifo = Permissions::from_raw_mode(0o644);
    mknodat(rustix::fs::CWD, source.join("p/pipe"), FileType::Fifo, fifo, 0).unwrap();
    let _socket = UnixListener::bind(source.join("p/socket")).unwrap();
    let (_, repo) = create();
    let recorder = Recorder::default();
    let report = backup(&store(&source), &repo, &options(), &recorder).unwrap();
    assert_eq!((report.counts.skipped, report.counts.unread), (5, 0));
    assert!(!report.snapshot.manifest.is_incomplete());
    let mut problems = recorder.problems();
    problems.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(problems.iter().all(|problem| problem.severity == Severity::Skipped));
    let paths: Vec<_> = problems.iter().map(|problem| &problem.path[..]).collect();
    assert_eq!(paths, ["dangling", "p/link", "p/linked directory", "p/pipe", "p/socket"]);
    let kept = contents(&repo, &report.snapshot);
    assert_eq!(kept.keys().collect::<Vec<_>>(), [&b"p"[..], b"p/a"]);
}

/// Asserts that a restore fails without a change in the target or outside of it.
fn assert_refused(target: &Path, outside: &Path, repo: &Repository, snapshot: &Snapshot, options: &RestoreOptions) {
    let before = (view(target), view(outside));
    for checkpoint in [true, false] {
        let options = RestoreOptions { checkpoint, ..options.clone() };
        let result = restore(&store(target), repo, snapshot, &options, &Silent);
        assert!(result.is_err(), "{result:?}");
        assert!((view(target), view(outside)) == before, "{result:?}");
    }
}

#[test]
fn restore_does_not_write_through_a_symlink() {
    let scratch = scratch();
    let (source, outside) = (scratch.path().join("source"), scratch.path().join("outside"));
    write(&source, "p/k/a", b"from the snapshot");
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    for place in ["p", "p/k", "p/k/a"] {
        let target = scratch.path().join("target");
        write(&target, "other/b", b"what is there");
        write(&outside, "a", b"outside");
        write(&outside, "k/a", b"outside");
        let to = if place == "p/k/a" { outside.join("a") } else { outside.clone() };
        fs::create_dir_all(below(&target, place).parent().unwrap()).unwrap();
        symlink(to, below(&target, place)).unwrap();
        for mode in [Mode::Merge, Mode::Truncate] {
            for project in [None, Some(project("p"))] {
                let options = RestoreOptions { project, ..restore_options(mode) };
                assert_refused(&target, &outside, &repo, &snapshot, &options);
            }
        }
        assert!(below(&target, place).is_symlink());
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn what_is_no_document_stays_where_it_is() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    write(&source, "p/a", b"1");
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    write(&target, "own/b", b"2");
    symlink("nowhere", target.join("own/link")).unwrap();
    for mode in [Mode::Merge, Mode::Truncate] {
        restore_into(&target, &repo, &snapshot, mode).unwrap();
        assert!(target.join("own/link").is_symlink() && target.join("p/a").is_file());
    }
    assert!(!target.join("own/b").exists(), "the document went, the directory of the link did not");
}

#[test]
fn unreadable_document_and_directory_make_the_snapshot_incomplete() {
    let scratch = scratch();
    write(scratch.path(), "p/a", b"1");
    write(scratch.path(), "p/locked", b"2");
    write(scratch.path(), "closed/b", b"3");
    chmod(&scratch.path().join("p/locked"), 0);
    chmod(&scratch.path().join("closed"), 0);
    // Whoever may read everything can't try this.
    if File::open(scratch.path().join("p/locked")).is_err() {
        let (_, repo) = create();
        let recorder = Recorder::default();
        let report = backup(&store(scratch.path()), &repo, &options(), &recorder).unwrap();
        assert_eq!((report.counts.unread, report.counts.new), (2, 1));
        assert!(report.snapshot.manifest.is_incomplete());
        assert!(recorder.problems().iter().all(|problem| problem.severity == Severity::Unread));
    }
    chmod(&scratch.path().join("closed"), 0o755);
}

#[test]
fn partial_read_is_counted_and_never_passes_for_complete() {
    let scratch = scratch();
    write(scratch.path(), "p/a", b"1");
    let (_, repo) = create();
    back_up(scratch.path(), &repo);
    let report = backup(&Partly(store(scratch.path())), &repo, &options(), &Silent).unwrap();
    assert_eq!(report.counts.unread, 1);
    assert!(report.snapshot.manifest.is_incomplete());
}

#[test]
fn document_rewritten_while_it_is_read_is_never_trusted_torn() {
    const LENGTH: usize = 400_000;
    let scratch = scratch();
    write(scratch.path(), "p/large", [b'a'; 2 * LENGTH]);
    write(scratch.path(), "p/small", [b'a'; LENGTH]);
    settle();
    let (_, repo) = create();
    let stop = AtomicBool::new(false);
    let taken = thread::scope(|scope| {
        scope.spawn(|| {
            for byte in (b'a'..=b'z').cycle() {
                write(scratch.path(), "p/large", [byte; 2 * LENGTH]);
                write(scratch.path(), "p/small", [byte; LENGTH]);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let taken: Vec<_> = (0..10).map(|_| back_up(scratch.path(), &repo).snapshot).collect();
        stop.store(true, Ordering::SeqCst);
        taken
    });
    for snapshot in &taken {
        let bytes = contents(&repo, snapshot);
        for entry in entries(&repo, snapshot).unwrap() {
            let Some(Some(bytes)) = bytes.get(entry.path.as_bytes()) else { continue };
            let is_torn = bytes.iter().any(|byte| *byte != bytes[0]) || bytes.len() % LENGTH != 0;
            assert!(!(is_torn && entry.stamp.version != 0), "{} is torn, and trusted", entry.path);
        }
    }
    assert!(contents(&repo, &back_up(scratch.path(), &repo).snapshot) == contents_of(&view(scratch.path())));
}

#[test]
fn rewrite_of_the_same_size_in_the_same_tick_is_noticed_by_the_next_backup() {
    let scratch = scratch();
    let (_, repo) = create();
    for round in 0..30_u8 {
        let place = scratch.path().join("p/a");
        write(scratch.path(), "p/a", [round; 10]);
        let time = fs::metadata(&place).unwrap().modified().unwrap();
        back_up(scratch.path(), &repo);
        write(scratch.path(), "p/a", [round + 100; 10]);
        if round % 2 == 0 {
            // Not even by the time of the last modification.
            File::options().write(true).open(&place).unwrap().set_modified(time).unwrap();
        }
        let report = back_up(scratch.path(), &repo);
        assert_eq!(contents(&repo, &report.snapshot)[&b"p/a"[..]], Some(vec![round + 100; 10]));
    }
}

/// Does something when the reading of documents begins.
struct WhenReading<F: Fn() + Sync>(F);

impl<F: Fn() + Sync> Monitor for WhenReading<F> {
    fn start(&self, task: Task, _: Option<u64>) {
        if task == Task::Store {
            (self.0)();
        }
    }
    fn advance(&self, _: u64) {}
    fn problem(&self, _: &Problem) {}
}

#[test]
fn document_that_is_written_after_it_was_listed_is_kept_as_it_was_read() {
    for later in ["longer", "2"] {
        let scratch = scratch();
        write(scratch.path(), "p/a", "1");
        settle();
        let place = scratch.path().join("p/a");
        let rewrite = WhenReading(|| {
            write(scratch.path(), "p/a", later);
            touch(&place, 1000);
        });
        let (_, repo) = create();
        let snapshot = backup(&store(scratch.path()), &repo, &options(), &rewrite).unwrap().snapshot;
        let entry = entries(&repo, &snapshot).unwrap().pop().unwrap();
        let Seen::Document { time_ns, .. } = &view(scratch.path())[&b"p/a"[..]] else { panic!() };
        assert_eq!((entry.document().unwrap().size, entry.stamp.time_ns), (later.len() as u64, *time_ns));
        assert_eq!(contents(&repo, &snapshot)[&b"p/a"[..]].as_deref(), Some(later.as_bytes()));
    }
}

#[test]
fn store_that_vanishes_or_is_exchanged_while_it_is_read_gives_no_snapshot() {
    let scratch = scratch();
    let (source, aside) = (scratch.path().join("source"), scratch.path().join("aside"));
    let (_, repo) = create();
    for is_exchanged in [false, true] {
        write(&source, "p/a", b"1");
        let vanish = WhenReading(|| {
            fs::rename(&source, &aside).unwrap();
            if is_exchanged {
                write(&source, "p/a", b"1");
            }
        });
        let store = store(&source);
        let result = backup(&store, &repo, &options(), &vanish);
        assert!(matches!(result, Err(Error::Endpoint(_))), "{result:?}");
        assert!(snapshots(&repo).is_empty());
        let _ = fs::remove_dir_all(&source);
        fs::remove_dir_all(&aside).unwrap();
    }
}

#[test]
fn store_that_is_no_directory_is_an_error() {
    let scratch = scratch();
    write(scratch.path(), "file", b"1");
    symlink("nowhere", scratch.path().join("dangling")).unwrap();
    let open = |name: &str| DirectoryStore::open(&scratch.path().join(name)).map(|_| ());
    let target = |name: &str| DirectoryStore::open_target(&scratch.path().join(name)).map(|_| ());
    assert!(matches!(open("missing"), Err(endpoint::Error::NotFound { .. })));
    assert!(matches!(open("file"), Err(endpoint::Error::NotADirectory { .. })));
    assert!(matches!(open("dangling"), Err(endpoint::Error::NotFound { .. })));
    assert!(target("missing").is_ok());
    assert!(matches!(target("file"), Err(endpoint::Error::NotADirectory { .. })));
    assert!(target("dangling").is_err());
    assert!(target("missing/above").is_err());
}

#[test]
fn modes_times_empty_directories_and_empty_documents_are_kept() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    for (n, mode) in [0o644, 0o600, 0o755, 0o640, 0o666, 0o777, 0o444].into_iter().enumerate() {
        write(&source, format!("p/{n}"), n.to_string());
        touch(&below(&source, format!("p/{n}")), 1_000_000 * n as u64);
        chmod(&below(&source, format!("p/{n}")), mode);
    }
    write(&source, "p/empty document", b"");
    fs::create_dir_all(source.join("p/empty/nested")).unwrap();
    fs::create_dir_all(source.join("project without documents")).unwrap();
    chmod(&source.join("p/empty"), 0o700);
    chmod(&source.join("p/empty/nested"), 0o775);
    write(&source, "p/sparse", b"");
    File::options().write(true).open(source.join("p/sparse")).unwrap().set_len(3_000_000).unwrap();
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    restore_into(&target, &repo, &snapshot, Mode::Merge).unwrap();
    assert!(view(&target) == view(&source), "into an empty directory");
    let other = scratch.path().join("other");
    write(&other, "p/0", b"to be replaced");
    write(&other, "own", b"1");
    restore_into(&other, &repo, &snapshot, Mode::Truncate).unwrap();
    assert!(view(&other) == view(&source), "into another store");
}

#[test]
fn document_in_place_of_a_directory_and_the_reverse() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    write(&source, "p/directory/a", b"1");
    write(&source, "p/document", b"2");
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    for swapped in [["p/directory", "p/other"], ["p/document/x/y", "p/document/z"], ["p", "q"]] {
        let _ = fs::remove_dir_all(&target);
        for place in swapped {
            write(&target, place, b"in the way");
        }
        assert_refused(&target, &target, &repo, &snapshot, &restore_options(Mode::Merge));
        let report = restore_into(&target, &repo, &snapshot, Mode::Truncate).unwrap();
        assert_eq!(contents_of(&view(&target)), contents_of(&view(&source)));
        assert_eq!(report.plan.total().remove, 2, "both documents went");
    }
}

/// A change of a store that has `a` and `b`: replaces `p/a`, adds `p/new`, removes `p/b`.
fn change_meanwhile(root: &Path, meanwhile: impl FnOnce()) -> endpoint::Result<()> {
    let store = store(root);
    let listing = store.scan_target(&Scope::System, &Silent).unwrap();
    let number = |name: &str| {
        let n = (0..listing.len()).find(|n| listing.found(*n).path == path(name)).unwrap();
        u32::try_from(n).unwrap()
    };
    let content = b"put";
    let put = |name: &str, replaces| Put {
        path: path(name),
        document: Some(Document { content: ContentId::of(content), size: 3, pieces: Box::default() }),
        mode: Some(0o644),
        encoding: Encoding::Plain,
        time_ns: 0,
        replaces,
    };
    let puts = [put("p/a", Some(number("p/a"))), put("p/new", None)];
    let removals = [Removal { path: path("p/b"), found: number("p/b"), is_in_the_way: false }];
    let staging = store.begin(&*listing, &puts)?;
    let mut writer = staging.writer();
    for n in 0..puts.len() {
        writer.begin(n)?;
        writer.append(content)?;
        writer.finish()?;
    }
    drop(writer);
    meanwhile();
    staging.commit(&removals, &Silent)
}

#[test]
fn target_that_changed_since_the_plan_is_left_alone() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("what is replaced was written", |root| write(root, "p/a", b"x")),
        ("what is replaced is gone", |root| fs::remove_file(root.join("p/a")).unwrap()),
        ("what is removed was written", |root| write(root, "p/b", b"x")),
        ("what is removed is a directory now", |root| {
            fs::remove_file(root.join("p/b")).unwrap();
            fs::create_dir(root.join("p/b")).unwrap();
        }),
        ("what is added is there", |root| write(root, "p/new", b"x")),
        ("what is replaced is a symlink now", |root| {
            fs::remove_file(root.join("p/a")).unwrap();
            symlink("b", root.join("p/a")).unwrap();
        }),
    ];
    for (case, change) in changes {
        let scratch = scratch();
        write(scratch.path(), "p/a", b"a");
        write(scratch.path(), "p/b", b"b");
        settle();
        let mut changed = None;
        let result = change_meanwhile(scratch.path(), || {
            change(scratch.path());
            let mut seen = view(scratch.path());
            seen.retain(|path, _| !path.starts_with(b".metastash-restore-"));
            changed = Some(seen);
        });
        assert!(matches!(result, Err(endpoint::Error::Changed { .. })), "{case}: {result:?}");
        assert_eq!(Some(view(scratch.path())), changed, "{case}: nothing was changed, and nothing left behind");
    }
}

#[test]
fn target_that_did_not_change_since_the_plan_is_changed_as_planned() {
    let scratch = scratch();
    write(scratch.path(), "p/a", b"a");
    write(scratch.path(), "p/b", b"b");
    change_meanwhile(scratch.path(), || {}).unwrap();
    let paths: Vec<_> = view(scratch.path()).into_keys().collect();
    assert_eq!(paths, [&b"p"[..], b"p/a", b"p/new"]);
    assert_eq!(fs::read(scratch.path().join("p/a")).unwrap(), b"put");
}

#[test]
fn empty_target_that_is_filled_since_the_plan_is_left_alone() {
    let scratch = scratch();
    let target = scratch.path().join("target");
    fs::create_dir(&target).unwrap();
    let store = store(&target);
    let listing = store.scan_target(&Scope::System, &Silent).unwrap();
    let (mode, encoding) = (None, Encoding::Plain);
    let directory = Put { path: path("p"), document: None, mode, encoding, time_ns: 0, replaces: None };
    let puts = [directory];
    let staging = store.begin(&*listing, &puts).unwrap();
    write(&target, "meanwhile", b"1");
    let result = staging.commit(&[], &Silent);
    assert!(matches!(result, Err(endpoint::Error::Changed { .. })), "{result:?}");
    assert_eq!(view(&target).into_keys().collect::<Vec<_>>(), [b"meanwhile"]);
    assert_eq!(view(scratch.path()).len(), 2, "nothing is left beside it");
}

#[test]
fn restore_into_a_directory_that_does_not_exist_makes_it() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    write(&source, "p/a", b"1");
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    for checkpoint in [true, false] {
        let target = scratch.path().join(format!("target {checkpoint}"));
        let options = RestoreOptions { checkpoint, ..RestoreOptions::new(author()) };
        restore(&store(&target), &repo, &snapshot, &options, &Silent).unwrap();
        assert_eq!(view(&target), view(&source));
    }
}

#[test]
fn interrupted_restore_changes_nothing() {
    struct Stop(AtomicBool);
    impl Monitor for Stop {
        fn start(&self, task: Task, _: Option<u64>) {
            self.0.fetch_or(task == Task::Write, Ordering::SeqCst);
        }
        fn advance(&self, _: u64) {}
        fn problem(&self, _: &Problem) {}
        fn is_interrupted(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    write(&source, "p/a", b"1");
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    write(&target, "p/a", b"2");
    let before = view(&target);
    let result =
        restore(&store(&target), &repo, &snapshot, &restore_options(Mode::Truncate), &Stop(AtomicBool::new(false)));
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert_eq!(view(&target), before);
}

#[test]
fn symlink_in_a_directory_that_must_go_is_noticed_before_anything_is_changed() {
    let scratch = scratch();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    write(&source, "p/a", b"a document");
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    write(&target, "p/a/x", b"in the way");
    symlink("nowhere", target.join("p/a/link")).unwrap();
    assert_refused(&target, &target, &repo, &snapshot, &restore_options(Mode::Truncate));
}
