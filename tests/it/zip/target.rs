//! A zip as what a restore writes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;

use metastash::endpoint::zip::ZipStore;
use metastash::endpoint::{self, Error, Listing, Put, Removal, Source, Target};
use metastash::model::entry::{Document, Encoding};
use metastash::model::hash::ContentId;
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::backup::backup;
use metastash::ops::restore::{Mode, RestoreOptions, restore};

use super::{Documents, Made, archive, documents, end, narrow, parts, read_all, read_elsewhere};
use crate::support::{
    back_up, chmod, contents, create, noise, options, path, project, restore_options, scratch, settle, store, text,
    view, write,
};

const TIME_NS: i64 = 1_712_000_001_987_654_321;

fn target(path: &Path) -> ZipStore {
    ZipStore::open_target(path, false).unwrap()
}

fn put(name: impl AsRef<[u8]>, is_document: bool, replaces: Option<u32>) -> Put {
    let document = Document { content: ContentId::of(b""), size: 0, pieces: Box::default() };
    Put {
        path: path(name),
        document: is_document.then_some(document),
        mode: None,
        encoding: Encoding::Plain,
        time_ns: TIME_NS,
        replaces,
    }
}

fn number(listing: &dyn Listing, name: &str) -> Option<u32> {
    (0..listing.len()).find(|n| listing.found(*n).path == path(name)).map(|n| u32::try_from(n).unwrap())
}

/// Puts documents into a zip and removes others, doing something else right before that is made visible.
fn change(store: &ZipStore, new: &Documents, gone: &[&str], meanwhile: impl FnOnce()) -> endpoint::Result<()> {
    let listing = store.scan_target(&Scope::System, &Silent)?;
    let is_document = |name: &String| new[name].is_some();
    let puts: Vec<Put> = new.keys().map(|name| put(name, is_document(name), number(&*listing, name))).collect();
    let removal =
        |name: &&str| Removal { path: path(name), found: number(&*listing, name).unwrap(), is_in_the_way: false };
    let removals: Vec<Removal> = gone.iter().map(removal).collect();
    let staging = store.begin(&*listing, &puts)?;
    for (n, bytes) in new.values().enumerate().filter_map(|(n, bytes)| Some((n, bytes.as_ref()?))) {
        let mut writer = staging.writer();
        writer.begin(n)?;
        bytes.chunks(1000).try_for_each(|piece| writer.append(piece))?;
        writer.finish()?;
    }
    meanwhile();
    staging.commit(&removals, &Silent)
}

fn names_in(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn zip_round_trips() {
    let scratch = scratch();
    let source = scratch.path().join("source");
    for n in 0..300 {
        write(&source, format!("p{}/kind/document {n} é.json", n % 5), text(n, 100 * usize::try_from(n).unwrap()));
    }
    write(&source, "q/large", noise(1, 3_000_000));
    write(&source, "q/empty", b"");
    fs::create_dir(source.join("q/directory")).unwrap();
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    let zip = scratch.path().join("metadata.zip");
    for checkpoint in [true, false] {
        let truncate = RestoreOptions { checkpoint, ..restore_options(Mode::Truncate) };
        restore(&target(&zip), &repo, &snapshot, &truncate, &Silent).unwrap();
        assert_eq!(fs::metadata(&zip).unwrap().mode() & 0o7777, 0o600, "metadata holds secrets");
        let read = backup(&target(&zip), &repo, &options(), &Silent).unwrap();
        assert!(contents(&repo, &read.snapshot) == contents(&repo, &snapshot));
        assert_eq!(read.snapshot.manifest.root, snapshot.manifest.root);
        assert!(read_elsewhere(&zip) == read_all(&zip).unwrap());
        assert_eq!(names_in(scratch.path()), ["metadata.zip", "source"]);
        fs::remove_file(&zip).unwrap();
    }
    // And back into a directory.
    restore(&target(&zip), &repo, &snapshot, &restore_options(Mode::Merge), &Silent).unwrap();
    let from_zip = backup(&target(&zip), &repo, &options(), &Silent).unwrap().snapshot;
    let back = scratch.path().join("back");
    restore(&store(&back), &repo, &from_zip, &restore_options(Mode::Merge), &Silent).unwrap();
    assert!(view(&back).keys().eq(view(&source).keys()));
}

#[test]
fn document_where_the_snapshot_needs_a_directory_goes_with_a_truncate_only() {
    let scratch = scratch();
    let (zip, root) = (scratch.path().join("a.zip"), scratch.path().join("store"));
    // It has no entry for the directory.
    fs::write(&zip, archive(&[Made::stored("p/a/b", b"1"), Made::stored("p/c", b"2")])).unwrap();
    let (_, repo) = create();
    let snapshot = backup(&target(&zip), &repo, &options(), &Silent).unwrap().snapshot;
    write(&root, "p/a", b"in the way");
    write(&root, "p/d", b"only here");
    let result = restore(&store(&root), &repo, &snapshot, &restore_options(Mode::Merge), &Silent);
    assert!(matches!(result, Err(metastash::ops::Error::Refused { .. })), "{result:?}");
    restore(&store(&root), &repo, &snapshot, &restore_options(Mode::Truncate), &Silent).unwrap();
    assert!(view(&root).keys().eq([&b"p"[..], b"p/a", b"p/a/b", b"p/c"]), "{:?}", view(&root));
}

#[test]
fn zip_keeps_times_to_the_second() {
    let scratch = scratch();
    let zip = scratch.path().join("a.zip");
    change(&target(&zip), &documents([("p/a", Some(b"1")), ("p/d", None)]), &[], || {}).unwrap();
    let listing = target(&zip).scan(&Scope::System, &Silent).unwrap();
    for n in 0..2 {
        let found = listing.found(n);
        assert_eq!(found.stamp.time_ns, TIME_NS / 1_000_000_000 * 1_000_000_000);
        assert!(found.stamp.version != 0 && found.mode.is_none());
    }
}

/// Entries such as other writers make: with descriptors, comments aside, extra fields, out of order.
fn foreign() -> Vec<u8> {
    let streamed = Made::streamed("p/streamed", &text(1, 5000));
    let extra = Made::stored("p/extra", b"stored").saying(|said| said.extra = b"xx\x03\0abc".to_vec());
    let directory = Made::streamed("p/", b"");
    let (data, central) = parts(&[Made::deflated("z/last", &text(2, 3000)), streamed, extra, directory]);
    let end = end(4, narrow(central.len()), narrow(data.len()), b"a comment");
    [data, central, end].concat()
}

#[test]
fn zip_keeps_what_is_not_changed_as_it_is() {
    let scratch = scratch();
    let zip = scratch.path().join("a.zip");
    fs::write(&zip, foreign()).unwrap();
    let before = read_all(&zip).unwrap();
    change(&target(&zip), &documents([("a/new", Some(b"new"))]), &[], || {}).unwrap();
    let mut expected = before;
    expected.insert("a/new".to_owned(), Some(b"new".to_vec()));
    assert_eq!(read_all(&zip).unwrap(), expected);
    assert_eq!(read_elsewhere(&zip), expected);
    let bytes = fs::read(&zip).unwrap();
    for made in [Made::deflated("z/last", &text(2, 3000)), Made::streamed("p/streamed", &text(1, 5000))] {
        assert!(bytes.windows(made.data.len()).any(|window| window == made.data), "its data was not compressed anew");
    }
    let extras = bytes.windows(7).filter(|window| window == b"xx\x03\0abc").count();
    assert_eq!(extras, 2, "in front of the data and in the central directory");
    assert!(bytes.ends_with(b"a comment"));
    // In path order, and again the same.
    let mut archive = ::zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    let names: Vec<String> = (0..5).map(|n| archive.by_index(n).unwrap().name().unwrap().into_owned()).collect();
    assert_eq!(names, ["a/new", "p/", "p/extra", "p/streamed", "z/last"]);
    change(&target(&zip), &documents([("a/new", Some(b"new"))]), &[], || {}).unwrap();
    assert_eq!(fs::read(&zip).unwrap(), bytes);
}

#[test]
fn zip_entries_are_replaced_and_removed() {
    let scratch = scratch();
    let zip = scratch.path().join("a.zip");
    fs::write(&zip, foreign()).unwrap();
    chmod(&zip, 0o640);
    let new = documents([("p/extra", Some(b"replaced")), ("p/streamed/x", Some(b"below")), ("zz", None)]);
    change(&target(&zip), &new, &["p", "p/streamed"], || {}).unwrap();
    let mut expected = new;
    expected.insert("z/last".to_owned(), Some(text(2, 3000)));
    assert_eq!(read_all(&zip).unwrap(), expected);
    assert_eq!(fs::metadata(&zip).unwrap().mode() & 0o7777, 0o640, "who may read it stays as it was");
    change(&target(&zip), &Documents::new(), &["p/extra", "p/streamed/x", "z/last", "zz"], || {}).unwrap();
    assert!(read_all(&zip).unwrap().is_empty());
    assert_eq!(fs::read(&zip).unwrap(), end(0, 0, 0, b"a comment"));
}

#[test]
fn zip_of_equal_documents_has_equal_bytes() {
    let scratch = scratch();
    let names: Vec<String> = (0..200).map(|n| format!("p/{n}")).collect();
    let puts: Vec<Put> = names.iter().map(|name| put(name, true, None)).collect();
    let content = |n: usize| text(n as u64, n * 900);
    let made = |threads: usize, piece: usize| {
        let zip = scratch.path().join(format!("{threads} {piece}.zip"));
        let store = target(&zip);
        let listing = store.scan_target(&Scope::System, &Silent).unwrap();
        let staging = store.begin(&*listing, &puts).unwrap();
        thread::scope(|scope| {
            for thread in 0..threads {
                let staging = &staging;
                scope.spawn(move || {
                    for n in (0..200).rev().filter(|n| n % threads == thread) {
                        let mut writer = staging.writer();
                        writer.begin(n).unwrap();
                        content(n).chunks(piece).for_each(|piece| writer.append(piece).unwrap());
                        writer.finish().unwrap();
                    }
                });
            }
        });
        staging.commit(&[], &Silent).unwrap();
        fs::read(zip).unwrap()
    };
    let bytes = made(1, 1 << 20);
    for (threads, piece) in [(1, 7), (4, 1 << 20), (3, 1000), (8, 65_536)] {
        assert!(made(threads, piece) == bytes, "{threads} threads, pieces of {piece}");
    }
}

#[test]
fn zip_names_stay_as_they_are_rooted_or_not() {
    let scratch = scratch();
    let raw_names = |zip: &Path| {
        let mut archive = ::zip::ZipArchive::new(fs::File::open(zip).unwrap()).unwrap();
        (0..archive.len()).map(|n| archive.by_index_raw(n).unwrap().name().unwrap().into_owned()).collect::<Vec<_>>()
    };
    let new = documents([("p/d", None), ("p/new", Some(b"1"))]);
    let fresh = scratch.path().join("fresh.zip");
    change(&ZipStore::open_target(&fresh, true).unwrap(), &new, &[], || {}).unwrap();
    assert_eq!(raw_names(&fresh), ["/p/d/", "/p/new"]);
    assert_eq!(read_all(&fresh).unwrap(), new);
    for (names, is_rooted) in [(["/p/a", "/p/b"], true), (["p/a", "p/b"], false), (["p/a", "/p/b"], true)] {
        let zip = scratch.path().join("a.zip");
        fs::write(&zip, archive(&names.map(|name| Made::stored(name, b"1")))).unwrap();
        change(&ZipStore::open_target(&zip, !is_rooted).unwrap(), &new, &[], || {}).unwrap();
        let new_names = if is_rooted { ["/p/d/", "/p/new"] } else { ["p/d/", "p/new"] };
        assert_eq!(raw_names(&zip), [&names[..], &new_names].concat());
    }
}

#[test]
fn zip_that_changed_since_it_was_listed_is_left_alone() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("it was written", |zip| fs::write(zip, archive(&[Made::stored("p/b", b"2")])).unwrap()),
        ("it was replaced by the same", |zip| {
            fs::copy(zip, zip.with_extension("copy")).unwrap();
            fs::rename(zip.with_extension("copy"), zip).unwrap();
        }),
        ("it is gone", |zip| fs::remove_file(zip).unwrap()),
        ("it is a symlink now", |zip| {
            fs::rename(zip, zip.with_extension("moved")).unwrap();
            std::os::unix::fs::symlink("a.moved", zip).unwrap();
        }),
        ("it is a directory now", |zip| {
            fs::remove_file(zip).unwrap();
            fs::create_dir(zip).unwrap();
        }),
    ];
    for (case, meanwhile) in changes {
        let scratch = scratch();
        let zip = scratch.path().join("a.zip");
        fs::write(&zip, archive(&[Made::stored("p/a", b"1")])).unwrap();
        settle();
        let mut changed = None;
        let result = change(&target(&zip), &documents([("p/a", Some(b"2"))]), &[], || {
            meanwhile(&zip);
            let mut seen = view(scratch.path());
            seen.retain(|path, _| !path.starts_with(b".metastash-restore-"));
            changed = Some(seen);
        });
        assert!(matches!(result, Err(Error::Changed { .. })), "{case}: {result:?}");
        assert_eq!(Some(view(scratch.path())), changed, "{case}: nothing was changed, and nothing left behind");
    }
}

#[test]
fn zip_that_appeared_since_it_was_not_there_is_left_alone() {
    let scratch = scratch();
    let zip = scratch.path().join("a.zip");
    let result = change(&target(&zip), &documents([("p/a", Some(b"2"))]), &[], || fs::write(&zip, b"mine").unwrap());
    assert!(matches!(result, Err(Error::Changed { .. })), "{result:?}");
    assert_eq!(fs::read(&zip).unwrap(), b"mine");
    assert_eq!(names_in(scratch.path()), ["a.zip"]);
}

#[test]
fn zip_is_not_changed_by_a_plan_that_does_not_fit() {
    let scratch = scratch();
    let zip = scratch.path().join("a.zip");
    fs::write(&zip, archive(&[Made::stored("p/a", b"1"), Made::stored("p/c", b"3")])).unwrap();
    let before = fs::read(&zip).unwrap();
    let store = target(&zip);
    let listing = store.scan_target(&Scope::System, &Silent).unwrap();
    let gone = |name: &str| Removal { path: path(name), found: 0, is_in_the_way: false };
    let cases = [
        (vec![put("p/a", true, None)], vec![], "what is new is there already"),
        (vec![put("p/b", true, Some(0))], vec![], "what is replaced is not there"),
        (vec![], vec![gone("p/b")], "what is removed is not there"),
        (vec![], vec![gone("p/d")], "what is removed is not there"),
        (vec![put("p/a", true, Some(0))], vec![gone("p/a")], "what is replaced is removed"),
    ];
    for (puts, removals, case) in cases {
        let staging = store.begin(&*listing, &puts).unwrap();
        for n in 0..puts.len() {
            let mut writer = staging.writer();
            writer.begin(n).unwrap();
            writer.finish().unwrap();
        }
        let result = staging.commit(&removals, &Silent);
        assert!(matches!(result, Err(Error::Changed { .. })), "{case}: {result:?}");
    }
    // A document below a document, and one that was never written.
    let below = [put("p/a/b", true, None)];
    for is_written in [true, false] {
        let staging = store.begin(&*listing, &below).unwrap();
        let mut writer = staging.writer();
        if is_written {
            writer.begin(0).unwrap();
            writer.finish().unwrap();
        }
        drop(writer);
        assert!(staging.commit(&[], &Silent).is_err());
    }
    assert_eq!(fs::read(&zip).unwrap(), before);
    assert_eq!(names_in(scratch.path()), ["a.zip"]);
}

#[test]
fn zip_change_that_is_dropped_leaves_nothing_behind() {
    let scratch = scratch();
    let zip = scratch.path().join("a.zip");
    let store = target(&zip);
    let listing = store.scan_target(&Scope::System, &Silent).unwrap();
    let puts = [put("p/a", true, None), put("p/b", true, None)];
    let staging = store.begin(&*listing, &puts).unwrap();
    let mut writer = staging.writer();
    writer.begin(0).unwrap();
    writer.append(&noise(1, 1_000_000)).unwrap();
    assert!(!zip.exists());
    let [folder] = &names_in(scratch.path())[..] else { panic!("{:?}", names_in(scratch.path())) };
    let mode = fs::metadata(scratch.path().join(folder)).unwrap().permissions().mode();
    assert!(folder.starts_with(".metastash-restore-") && mode & 0o077 == 0, "nobody else looks into it");
    drop(writer);
    drop(staging);
    assert!(names_in(scratch.path()).is_empty());
}

#[test]
fn zip_does_not_take_names_it_could_not_give_back() {
    let scratch = scratch();
    let store = target(&scratch.path().join("a.zip"));
    let listing = store.scan_target(&Scope::System, &Silent).unwrap();
    let long = vec![b'a'; 65_535];
    for name in [&b"p/\xff"[..], b"p/..\\a", &long] {
        let puts = [put("p/a", true, None), put(name, true, None)];
        assert!(matches!(store.begin(&*listing, &puts), Err(Error::Io { .. })));
    }
    assert!(names_in(scratch.path()).is_empty());
}

#[test]
fn zip_of_more_entries_than_16_bits_count_round_trips() {
    let scratch = scratch();
    let zip = scratch.path().join("a.zip");
    let store = target(&zip);
    let listing = store.scan_target(&Scope::System, &Silent).unwrap();
    let puts: Vec<Put> = (0..70_000).map(|n| put(format!("p/{n}"), n % 7 != 0, None)).collect();
    let staging = store.begin(&*listing, &puts).unwrap();
    let mut writer = staging.writer();
    for n in (0..puts.len()).filter(|n| puts[*n].document.is_some()) {
        writer.begin(n).unwrap();
        writer.append(n.to_string().as_bytes()).unwrap();
        writer.finish().unwrap();
    }
    drop(writer);
    staging.commit(&[], &Silent).unwrap();
    let read = read_all(&zip).unwrap();
    assert_eq!(read.len(), 70_000);
    assert_eq!(read["p/69999"], Some(b"69999".to_vec()));
    assert!(read_elsewhere(&zip) == read);
    let new = documents([("q", Some(b"1"))]);
    change(&store, &new, &["p/0"], || {}).unwrap();
    assert_eq!(read_all(&zip).unwrap().len(), 70_000);
}

#[test]
fn zip_keeps_the_other_projects_when_one_is_restored() {
    let scratch = scratch();
    let (source, zip) = (scratch.path().join("source"), scratch.path().join("a.zip"));
    write(&source, "p/k/a", b"from the snapshot");
    let (_, repo) = create();
    let snapshot = back_up(&source, &repo).snapshot;
    fs::write(&zip, archive(&[Made::stored("q/b", b"other"), Made::stored("r", b"root")])).unwrap();
    let options = RestoreOptions { project: Some(project("p")), ..restore_options(Mode::Truncate) };
    restore(&target(&zip), &repo, &snapshot, &options, &Silent).unwrap();
    let kept: Vec<String> = read_all(&zip).unwrap().into_keys().collect();
    assert_eq!(kept, ["p", "p/k", "p/k/a", "q/b", "r"]);
}
