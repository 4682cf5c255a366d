//! A zip as what a backup reads.

use std::fs;
use std::io::Write;

use ::zip::ZipWriter;
use ::zip::write::SimpleFileOptions;
use metastash::endpoint::zip::ZipStore;
use metastash::endpoint::{Error, Source, Target};
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::ops::backup::{BackupReport, backup};
use metastash::repo::Repository;

use super::{Made, archive, documents, end, narrow, open, parts, read_all, read_bytes, read_elsewhere};
use crate::support::{contents, create, noise, options, project, scratch, settle, text};

fn back_up(path: &std::path::Path, repo: &Repository) -> BackupReport {
    let report = backup(&open(path), repo, &options(), &Silent).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    report
}

#[test]
fn zip_is_a_file_that_exists() {
    let scratch = scratch();
    let at = |name: &str| scratch.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("file"), b"").unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    assert!(matches!(ZipStore::open(&at("missing")), Err(Error::NotFound { .. })));
    assert!(matches!(ZipStore::open(&at("directory")), Err(Error::NotAFile { .. })));
    assert!(matches!(ZipStore::open(&at("dangling")), Err(Error::NotFound { .. })));
    assert!(matches!(ZipStore::open_target(&at("directory"), false), Err(Error::NotAFile { .. })));
    assert!(matches!(ZipStore::open_target(&at("dangling"), false), Err(Error::NotFound { .. })));
    assert!(matches!(ZipStore::open_target(&at("missing/too"), false), Err(Error::NotFound { .. })));
    assert!(ZipStore::open_target(&at("file/below"), false).is_err());
    let missing = ZipStore::open_target(&at("missing"), false).unwrap();
    assert_eq!(missing.path(), fs::canonicalize(scratch.path()).unwrap().join("missing"));
    assert!(matches!(missing.scan(&Scope::System, &Silent), Err(Error::NotFound { .. })));
    assert!(missing.scan_target(&Scope::System, &Silent).unwrap().is_empty());
}

#[test]
fn zip_with_nothing_in_it_is_empty() {
    let empty = end(0, 0, 0, b"");
    assert_eq!(empty.len(), 22);
    assert!(read_bytes(&empty).unwrap().is_empty());
    assert!(read_bytes(&end(0, 0, 0, b"a comment")).unwrap().is_empty());
}

#[test]
fn zip_entries_are_listed_in_path_order() {
    let entries = [
        Made::deflated("p/a-b", b"1"),
        Made::stored("p/a/b", b"2"),
        Made::streamed("p/a/", b""),
        Made::stored("__MACOSX/._a", b"3"),
        Made::stored(".DS_Store", b"4"),
        Made::stored("q/é", b""),
    ];
    let expected = documents([
        (".DS_Store", Some(b"4")),
        ("__MACOSX/._a", Some(b"3")),
        ("p/a", None),
        ("p/a/b", Some(b"2")),
        ("p/a-b", Some(b"1")),
        ("q/é", Some(b"")),
    ]);
    assert_eq!(read_bytes(&archive(&entries)).unwrap(), expected);
    let rooted = entries.map(|made| made.saying(|said| said.name.insert(0, b'/')));
    assert_eq!(read_bytes(&archive(&rooted)).unwrap(), expected, "one `/` does not count");
}

#[test]
fn zip_made_by_another_writer_is_read() {
    let scratch = scratch();
    let plain = SimpleFileOptions::default();
    let stored = plain.compression_method(::zip::CompressionMethod::Stored);
    let large = noise(1, 3_000_000);
    for is_streamed in [false, true] {
        let path = scratch.path().join("a.zip");
        let file = fs::File::create(&path).unwrap();
        let write = |name: &str| -> Vec<(String, SimpleFileOptions, Vec<u8>)> {
            let options = [("plain", plain), ("stored", stored), ("wide", plain.large_file(true))];
            let named = |(kind, options)| (format!("{name}/{kind}"), options, text(2, 5000));
            options.map(named).into_iter().collect()
        };
        let mut all = write("p");
        all.push(("q/large".to_owned(), plain, large.clone()));
        all.push(("q/empty".to_owned(), plain, Vec::new()));
        if is_streamed {
            let mut zip = ZipWriter::new_stream(file);
            for (name, options, bytes) in &all {
                zip.start_file(name, *options).unwrap();
                zip.write_all(bytes).unwrap();
            }
            zip.finish().unwrap();
        } else {
            let mut zip = ZipWriter::new(file);
            zip.add_directory("d", plain).unwrap();
            for (name, options, bytes) in &all {
                zip.start_file(name, *options).unwrap();
                zip.write_all(bytes).unwrap();
            }
            zip.finish().unwrap();
        }
        let read = read_all(&path).unwrap();
        assert_eq!(read.len(), all.len() + usize::from(!is_streamed));
        assert!(all.iter().all(|(name, _, bytes)| read[name].as_ref() == Some(bytes)));
        assert!(read == read_elsewhere(&path));
    }
}

#[test]
fn zip_with_numbers_of_64_bits_is_read() {
    let content = b"some content";
    let numbers = |numbers: &[u64]| {
        let length = u16::try_from(8 * numbers.len()).unwrap();
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        [&[1, 0][..], &length.to_le_bytes(), &bytes].concat()
    };
    let size = content.len() as u64;
    let wide = Made::stored("p/b", content).saying(|said| (said.size, said.compressed) = (u32::MAX, u32::MAX));
    let wide = wide.saying(|said| said.extra = numbers(&[size, size]));
    let first = Made::stored("p/a", content);
    let (first_data, _) = parts(std::slice::from_ref(&first));
    let far = |offset| {
        wide.clone().but(|made| {
            made.offset = Some(u32::MAX);
            made.central.extra = numbers(&[size, size, offset]);
        })
    };
    let far_right = far(first_data.len() as u64);
    let end_64 = |count: u64, bytes: u64, start: u64| {
        let mut out = b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0".to_vec();
        [count, count, bytes, start].iter().for_each(|number| out.extend(number.to_le_bytes()));
        out.extend(b"PK\x06\x07\0\0\0\0");
        out.extend((start + bytes).to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        out
    };
    let with = |entries: &[Made], count_off: u64, ends: (u16, u32, u32)| {
        let (data, central) = parts(entries);
        let end_64 = end_64(entries.len() as u64 + count_off, central.len() as u64, data.len() as u64);
        [data, central, end_64, end(ends.0, ends.1, ends.2, b"")].concat()
    };
    let full = (u16::MAX, u32::MAX, u32::MAX);
    let expected = documents([("p/a", Some(content)), ("p/b", Some(content))]);
    assert_eq!(read_bytes(&archive(&[first.clone(), wide.clone()])).unwrap(), expected);
    assert_eq!(read_bytes(&with(&[first.clone(), far_right.clone()], 0, full)).unwrap(), expected);
    let wrong = [
        with(&[first.clone(), far_right.clone()], 1, full),
        with(&[first.clone(), far_right.clone()], u64::from(u32::MAX), full),
        with(&[first.clone(), far_right.clone()], 0, (1, u32::MAX, u32::MAX)),
        with(&[first.clone(), far_right.clone()], 0, (u16::MAX, 7, u32::MAX)),
        with(&[first.clone(), far(u64::MAX)], 0, full),
        with(&[first.clone(), far(0)], 0, full),
        archive(&[first.clone(), wide.clone().saying(|said| said.extra.clear())]),
        archive(&[first.clone(), wide.clone().saying(|said| said.extra = numbers(&[size]))]),
        archive(&[first.clone(), wide.clone().saying(|said| said.extra = numbers(&[size, u64::MAX]))]),
        archive(&[first.clone(), wide.clone().saying(|said| said.extra = numbers(&[size, size]).repeat(2))]),
        archive(&[first, wide.but(|made| made.local.extra = numbers(&[size + 1, size]))]),
    ];
    for (n, bytes) in wrong.iter().enumerate() {
        let result = read_bytes(bytes);
        assert!(matches!(result, Err(Error::Damaged { .. })), "{n}: {result:?}");
    }
}

#[test]
fn zip_that_did_not_change_is_not_read_again() {
    let scratch = scratch();
    let path = scratch.path().join("a.zip");
    let bytes = archive(&[Made::stored("p/a", b"1"), Made::deflated("p/b", b"2"), Made::stored("q/c", b"3")]);
    fs::write(&path, &bytes).unwrap();
    settle();
    let (_, repo) = create();
    assert_eq!(back_up(&path, &repo).read, 3);
    let again = back_up(&path, &repo);
    assert_eq!((again.read, again.unchanged), (0, 3));
    // The same bytes in another file, and in the same file written once more: nothing is proven.
    fs::rename(&path, scratch.path().join("old")).unwrap();
    fs::write(&path, &bytes).unwrap();
    settle();
    assert_eq!(back_up(&path, &repo).read, 3);
    fs::write(&path, &bytes).unwrap();
    settle();
    let last = back_up(&path, &repo);
    assert_eq!((last.read, last.unchanged), (3, 3));
    assert_eq!(contents(&repo, &last.snapshot).len(), 3);
}

#[test]
fn zip_just_written_is_racy() {
    let scratch = scratch();
    let path = scratch.path().join("a.zip");
    fs::write(&path, archive(&[Made::stored("p/a", b"1")])).unwrap();
    let is_racy = || {
        let listing = open(&path).scan(&Scope::System, &Silent).unwrap();
        listing.is_racy(&listing.found(0).stamp)
    };
    assert!(is_racy(), "the time of the entry is years ago, but that says nothing");
    settle();
    assert!(!is_racy());
}

#[test]
fn zip_shows_one_project() {
    let scratch = scratch();
    let path = scratch.path().join("a.zip");
    let names = ["p", "q!/a", "q/", "q/b", "q/c/d", "q-r/e", "/r/f"];
    fs::write(&path, archive(&names.map(|name| Made::stored(name, b"")))).unwrap();
    let listed = |name: &str| {
        let listing = open(&path).scan(&project(name), &Silent)?;
        Ok((0..listing.len()).map(|n| listing.found(n).path.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(listed("q").unwrap(), ["q", "q/b", "q/c/d"]);
    assert_eq!(listed("r").unwrap(), ["r/f"]);
    assert_eq!(listed("q-r").unwrap(), ["q-r/e"]);
    for none in ["p", "s", "Q", "q!!"] {
        assert!(matches!(listed(none), Err(Error::NoProject { .. })), "{none}");
        let target = ZipStore::open_target(&path, false).unwrap();
        assert!(target.scan_target(&project(none), &Silent).unwrap().is_empty());
    }
}

#[test]
fn zip_times_are_read() {
    let scratch = scratch();
    let path = scratch.path().join("a.zip");
    let time = |extra: &[u8]| {
        let made = Made::stored("p/a", b"1").saying(|said| said.extra = extra.to_vec());
        fs::write(&path, archive(&[made])).unwrap();
        open(&path).scan(&Scope::System, &Silent).unwrap().found(0).stamp.time_ns
    };
    // 2024-04-01 12:00 in the local time zone, and 2024-04-01 19:33:21 UTC.
    let local = jiff::civil::date(2024, 4, 1).at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::system()).unwrap();
    assert_eq!(i128::from(time(b"")), local.timestamp().as_nanosecond());
    let seconds = 1_712_000_001_i32;
    let extra = [&b"UT\x05\0\x01"[..], &seconds.to_le_bytes()].concat();
    assert_eq!(time(&extra), 1_712_000_001_000_000_000);
    assert_eq!(i128::from(time(b"UT\x01\0\0")), local.timestamp().as_nanosecond(), "a field without this time");
}

#[test]
fn zip_of_many_entries_is_read() {
    let entries: Vec<Made> = (0..65_535).map(|n| Made::stored(format!("p/{n}"), b"")).collect();
    assert_eq!(read_bytes(&archive(&entries)).unwrap().len(), 65_535, "as many as a number of 16 bits can count");
    let (data, central) = parts(&entries);
    let modulo = end(65_534, narrow(central.len()), narrow(data.len()), b"");
    assert!(read_bytes(&[data, central, modulo].concat()).is_err());
}
