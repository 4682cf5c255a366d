//! Reading archives that honest writers make.

use std::fs;
use std::os::unix::fs::symlink;

use ::tar::EntryType;
use metastash::endpoint::location::{Reading, open as open_store};
use metastash::endpoint::tar::{Packing, TarStore};
use metastash::endpoint::{Error, PLAIN, Source};
use metastash::model::path::EntryPath;
use metastash::model::scope::Scope;
use metastash::monitor::{Recorder, Severity, Silent};
use metastash::ops::backup::backup;

use super::{archive, documents, file, gnu_tar, header, made, open, read_all, read_bytes, records};
use crate::support::{
    back_up, build, contents_of, create, entries, noise, options, project, scratch, settle, snapshots, view, write,
};

#[test]
fn documents_and_directories_are_read() {
    let directory = |name| made(name, EntryType::Directory, b"");
    let bytes = archive(&[
        directory("./"),
        file("./p/b", b"two"),
        directory("./p/"),
        file("p/a", b""),
        made("v7/", EntryType::new(0), b""),
        made("v7/x", EntryType::new(0), b"old"),
        made("c", EntryType::Continuous, b"c"),
    ]);
    let expected = documents([
        ("c", Some(b"c")),
        ("p", None),
        ("p/a", Some(b"")),
        ("p/b", Some(b"two")),
        ("v7", None),
        ("v7/x", Some(b"old")),
    ]);
    assert_eq!(read_bytes(&bytes).unwrap(), expected);
    assert_eq!(read_bytes(&zstd::encode_all(&bytes[..], 19).unwrap()).unwrap(), expected);
    let (start, rest) = bytes.split_at(700);
    let frames = [zstd::encode_all(start, 1).unwrap(), zstd::encode_all(rest, 1).unwrap()].concat();
    assert_eq!(read_bytes(&frames).unwrap(), expected, "as `pzstd` writes it");
    assert_eq!(read_bytes(&archive(&[])).unwrap(), documents([]));
}

#[test]
fn what_is_said_before_an_entry_counts() {
    let long = "n".repeat(300);
    let bytes = archive(&[
        records(EntryType::XGlobalHeader, &[("comment", b"0123456789abcdef")]),
        made("././@LongLink", EntryType::GNULongName, [long.as_bytes(), b"\0"].concat().as_slice()),
        file("n", b"1"),
        records(EntryType::XHeader, &[("path", b"two\nlines"), ("mtime", b"-1.5"), ("size", b"1"), ("atime", b"7")]),
        file("t", b"2"),
        file("after", b"3"),
    ]);
    let store = TarStore::read_from(&bytes[..], "here", &Silent).unwrap();
    let listing = store.scan(&Scope::System, &Silent).unwrap();
    let found: Vec<_> = (0..3).map(|n| listing.found(n)).collect();
    let paths: Vec<&[u8]> = found.iter().map(|found| found.path.as_bytes()).collect();
    assert_eq!(paths, [&b"after"[..], long.as_bytes(), b"two\nlines"]);
    let times: Vec<i64> = found.iter().map(|found| found.stamp.time_ns).collect();
    assert_eq!(times, [1_700_000_000_000_000_000, 1_700_000_000_000_000_000, -1_500_000_000]);
    assert!(found.iter().all(|found| found.mode == Some(0o640) && found.stamp.version == 0), "a pipe proves nothing");
}

#[test]
fn links_and_pipes_are_passed_over_and_told() {
    let mut link = header("link", EntryType::Symlink, 0);
    link.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
    link.set_cksum();
    let bytes = archive(&[
        link.as_bytes().to_vec(),
        file("a", b"1"),
        made("again", EntryType::Link, b""),
        made("././@LongLink", EntryType::GNULongLink, b"target\0"),
        made("pipe", EntryType::Fifo, b""),
    ]);
    let store = TarStore::read_from(&bytes[..], "here", &Silent).unwrap();
    assert_eq!(read_all(&store).unwrap(), documents([("a", Some(b"1"))]));
    let recorder = Recorder::default();
    let listing = store.scan(&Scope::System, &recorder).unwrap();
    assert_eq!(recorder.problems(), listing.problems(), "each scan tells");
    let told: Vec<&str> = listing.problems().iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(told, ["again", "link", "pipe"]);
    assert!(listing.problems().iter().all(|problem| problem.severity == Severity::Skipped));
    let obstacles: Vec<&[u8]> = listing.obstacles().iter().map(EntryPath::as_bytes).collect();
    assert_eq!(obstacles, [&b"again"[..], b"link", b"pipe"]);
}

#[test]
fn archives_of_gnu_tar_are_read_in_all_formats() {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    write(&tree, "p/q/a.json", "{}");
    write(&tree, "p/empty", "");
    write(&tree, format!("{}/{}", "d".repeat(90), "e".repeat(60)), "x");
    write(&tree, "large", noise(1, 3_000_000));
    fs::create_dir(tree.join("nothing")).unwrap();
    let expected = contents_of(&view(&tree));
    for format in ["posix", "gnu", "ustar"] {
        for (end, packed) in [("tar", ""), ("tar.zst", "--zstd")] {
            let name = format!("{format}.{end}");
            let words = ["-C", "tree", &format!("--format={format}"), "-cf", &name, packed, "."];
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            gnu_tar(scratch.path(), &words);
            assert!(read_all(&open(&scratch.path().join(&name))).unwrap() == expected, "{name}");
        }
    }
    write(&tree, b"p/\xff\xfe", "no text");
    write(&tree, format!("p/{}", "n".repeat(200)), "x");
    let expected = contents_of(&view(&tree));
    for format in ["posix", "gnu"] {
        gnu_tar(scratch.path(), &["-C", "tree", &format!("--format={format}"), "-cf", "a.tar", "."]);
        assert!(read_all(&open(&scratch.path().join("a.tar"))).unwrap() == expected, "{format}");
    }
}

#[test]
fn backup_of_a_tar_is_that_of_its_tree() {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    write(&tree, "p/a.json", "{}");
    write(&tree, "q/b", "b");
    symlink("nowhere", tree.join("link")).unwrap();
    gnu_tar(scratch.path(), &["-C", "tree", "--format=posix", "-cf", "a.tar", "."]);
    settle();
    let (_storage, repo) = create();
    let of_tree = back_up(&tree, &repo);
    let store = open(&scratch.path().join("a.tar"));
    let of_tar = backup(&store, &repo, &options(), &Silent).unwrap();
    assert_eq!(of_tar.snapshot.manifest.root, of_tree.snapshot.manifest.root);
    let times = |n: usize| {
        let list = entries(&repo, &snapshots(&repo)[n]).unwrap().into_iter();
        list.filter(|entry| entry.document().is_some()).map(|entry| (entry.path, entry.mode, entry.stamp.time_ns))
    };
    assert!(times(0).eq(times(1)), "times and modes, too");
    settle();
    let again = backup(&open(&scratch.path().join("a.tar")), &repo, &options(), &Silent).unwrap();
    assert_eq!((again.counts.new, again.counts.changed, again.unchanged), (0, 0, 2));
    assert_eq!(again.bytes_read, 0, "what did not change is not read");
}

#[test]
fn project_is_listed_alone() {
    let scratch = scratch();
    let path = scratch.path().join("a.tar");
    let directory = made("q", EntryType::Directory, b"");
    fs::write(&path, archive(&[file("p/a", b"1"), file("q-x/b", b"2"), file("q/b", b"3"), directory, file("r", b"4")]))
        .unwrap();
    let store = open(&path);
    let listing = store.scan(&project("q"), &Silent).unwrap();
    let paths: Vec<String> = (0..listing.len()).map(|n| listing.path(n).to_string()).collect();
    assert_eq!(paths, ["q", "q/b"]);
    for name in ["r", "none"] {
        assert!(matches!(store.scan(&project(name), &Silent), Err(Error::NoProject { .. })), "{name}");
    }
}

#[test]
fn tar_is_known_by_its_name_or_its_first_bytes() {
    let names = [
        ("a.tar", Some(Packing::Plain)),
        ("a.TAR", Some(Packing::Plain)),
        ("a.tar.zst", Some(Packing::Zstd)),
        ("a.tzst", Some(Packing::Zstd)),
        ("a.zst", None),
        (".tar", None),
        ("a.tar.gz", None),
        ("tar", None),
    ];
    for (name, packing) in names {
        assert_eq!(Packing::of_name(name.as_ref()), packing, "{name}");
    }
    let scratch = scratch();
    let bytes = archive(&[file("MODEL/a.json", b"{}"), file("PROJECT/p.json", b"{}")]);
    for (n, bytes) in [bytes.clone(), zstd::encode_all(&bytes[..], 1).unwrap()].into_iter().enumerate() {
        let path = scratch.path().join(format!("file-{n}"));
        fs::write(&path, bytes).unwrap();
        let located = open_store(&path, Reading::Detect).unwrap();
        assert_eq!(located.store.layout(), "kylin-new");
        assert_eq!(open_store(&path, Reading::Plain).unwrap().store.layout(), PLAIN);
        assert!(located.store.location().ends_with(&format!("file-{n}")));
    }
    let path = scratch.path().join("zipped.tar");
    for name in ["metadata.zip", "core_meta/metadata.zip"] {
        fs::write(&path, archive(&[file(name, b"PK")])).unwrap();
        let result = open_store(&path, Reading::Detect).map(drop);
        assert!(matches!(result, Err(Error::ZipWithin { .. })), "{name}: {result:?}");
    }
}

#[test]
fn tar_of_anything_that_is_in_a_directory_reads_the_same() {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    let mut expected = crate::support::View::new();
    for n in 0..300_u32 {
        let name = format!("p{}/k{}/{n}-{}", n % 7, n % 3, "x".repeat((n as usize * 7) % 180));
        let bytes = noise(n.into(), (n as usize * n as usize) % 3000);
        expected.insert(name.into_bytes(), crate::support::Seen::Document { bytes, mode: 0o600 | (n % 8), time_ns: 0 });
    }
    build(&tree, &expected);
    gnu_tar(scratch.path(), &["-C", "tree", "--format=posix", "-cf", "a.tar", "."]);
    assert!(read_all(&open(&scratch.path().join("a.tar"))).unwrap() == contents_of(&view(&tree)));
}
