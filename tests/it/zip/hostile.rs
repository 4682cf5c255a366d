//! Archives that are damaged or made to deceive: an error for the whole store, never a listing with less or other
//! things in it.

use std::fs;

use metastash::endpoint::zip::ZipStore;
use metastash::endpoint::{self, Error, Listing, Source};
use metastash::model::scope::Scope;
use metastash::monitor::{Recorder, Silent};
use metastash::ops;
use metastash::ops::backup::{backup, plan_backup};
use metastash::ops::diff::diff_live;
use metastash::ops::restore::{Mode, plan_restore, restore};

use super::{
    DEFLATED, Documents, HAS_DESCRIPTOR, Made, STORED, archive, crc, deflated, end, narrow, open, parts, read_bytes,
};
use crate::support::{create, noise, options, restore_options, scratch, settle, snapshots, text};

/// Returns what is said to be wrong with an archive.
fn damage(result: endpoint::Result<impl std::fmt::Debug>) -> String {
    match result {
        Err(Error::Damaged { store, what }) => {
            assert!(store.ends_with(".zip"), "{store}");
            what
        }
        other => panic!("{other:?}"),
    }
}

/// Asserts that an archive can't be listed, and that a word of why is in the error.
fn assert_not_listed(entries: &[Made], why: &str) {
    assert_bytes_not_listed(&archive(entries), why);
}

fn assert_bytes_not_listed(bytes: &[u8], why: &str) {
    let scratch = scratch();
    let path = scratch.path().join("a.zip");
    fs::write(&path, bytes).unwrap();
    let project = Scope::project("p").unwrap();
    for scope in [Scope::System, project] {
        let recorder = Recorder::default();
        let what = damage(open(&path).scan(&scope, &recorder).map(|listing| listing.len()));
        assert!(what.contains(why), "{why}: {what}");
        assert!(recorder.problems().is_empty(), "it is no problem of an entry");
    }
}

/// Asserts that an archive is found out when it is read, at the latest, and that no snapshot is made of it.
fn assert_not_backed_up(entries: &[Made], why: &str) {
    let bytes = archive(entries);
    let what = damage(read_bytes(&bytes));
    assert!(what.contains(why), "{why}: {what}");
    let scratch = scratch();
    let path = scratch.path().join("a.zip");
    fs::write(&path, bytes).unwrap();
    let (_, repo) = create();
    let result = backup(&open(&path), &repo, &options(), &Silent);
    assert!(matches!(result, Err(ops::Error::Endpoint(Error::Damaged { .. }))), "{result:?}");
    assert_eq!(snapshots(&repo), []);
}

fn sample() -> Vec<Made> {
    vec![
        Made::stored("p/", b""),
        Made::streamed("p/a", &text(1, 300)),
        Made::stored("p/b", b"some content"),
        Made::deflated("q/c", b"more content"),
    ]
}

#[test]
fn zip_that_is_cut_off_anywhere_is_damaged() {
    let inner = archive(&[Made::stored("inner", b"1")]);
    for entries in [sample(), vec![Made::stored("p/inner.zip", &inner), Made::stored("p/z", b"2")]] {
        let whole = archive(&entries);
        assert_eq!(read_bytes(&whole).unwrap().len(), entries.len());
        for length in 0..whole.len() {
            damage(read_bytes(&whole[..length]));
        }
    }
}

#[test]
fn zip_with_any_byte_changed_is_damaged_or_the_same() {
    let whole = archive(&sample());
    let sound: Documents = read_bytes(&whole).unwrap();
    let mut found_out = 0;
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            match read_bytes(&bytes) {
                // Times and versions say nothing of documents.
                Ok(read) => assert_eq!(read, sound, "{at}"),
                Err(Error::Damaged { .. }) => found_out += 1,
                Err(error) => panic!("{at}: {error}"),
            }
        }
    }
    assert!(found_out > whole.len() * 2, "{found_out} of {}", whole.len() * 3);
}

#[test]
fn zip_with_bytes_taken_out_or_put_in_is_damaged() {
    let whole = archive(&sample());
    for at in 0..whole.len() {
        let mut shorter = whole.clone();
        shorter.remove(at);
        damage(read_bytes(&shorter));
        let mut longer = whole.clone();
        longer.insert(at, b'x');
        damage(read_bytes(&longer));
    }
    damage(read_bytes(&[&whole[..], b"x"].concat()));
    damage(read_bytes(&[&whole[..], &whole].concat()));
}

#[test]
fn zip_of_no_byte_is_damaged() {
    assert_bytes_not_listed(b"", "0 bytes");
    assert_bytes_not_listed(&[0; 22], "no end");
    assert_bytes_not_listed(&[b'x'; 200_000], "no end");
}

#[test]
fn zip_with_names_that_leave_the_store_is_damaged() {
    let names = [
        "",
        "/",
        "//",
        "//a",
        "///a",
        "a//b",
        "a//",
        "..",
        "../a",
        "/../a",
        "a/..",
        "a/../b",
        "a/../../b",
        ".",
        "./a",
        "a/.",
        "a/./b",
        "a\0b",
        "..\\a",
        "C:\\a",
        "\\a",
    ];
    for name in names {
        for content in [&b""[..], b"content"] {
            assert_not_listed(&[Made::stored("p/a", b"1"), Made::stored(name, content)], "entry ");
        }
    }
    assert_not_listed(&[Made::stored(b"p/\xff\x1b", b"1")], "entry p/\\xff\\x1b: its name is not UTF-8");
}

#[test]
fn zip_with_two_entries_in_one_place_is_damaged() {
    for (first, second) in [("p/a", "p/a"), ("p/a", "/p/a"), ("p/a", "p/a/"), ("/p/a/", "p/a"), ("p/", "p/")] {
        let entries = [Made::stored(first, b""), Made::stored("p/b", b"2"), Made::stored(second, b"")];
        assert_not_listed(&entries, "two entries are called p");
    }
    let entries = [Made::stored("p/a/b", b"1"), Made::stored("p/a-b", b"1"), Made::stored("p/a", b"1")];
    assert_not_listed(&entries, "p/a is a document and the directory of p/a/b");
    let entries = [Made::stored("p", b"1"), Made::stored("p!", b"1"), Made::stored("/p/a/b", b"1")];
    assert_not_listed(&entries, "p is a document and the directory of p/a/b");
}

#[test]
fn zip_with_an_entry_of_another_sort_is_damaged() {
    let a = || Made::stored("p/a", b"target");
    assert_not_listed(&[a().saying(|said| said.flags = 1)], "p/a: it is encrypted");
    assert_not_listed(&[a().saying(|said| said.flags = 0x41)], "encrypted");
    for bit in [0, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15] {
        assert_not_listed(&[a().saying(|said| said.flags = 1 << bit)], "p/a: it ");
    }
    for method in [1, 6, 9, 12, 14, 93, 95, 99, 0xffff] {
        assert_not_listed(&[a().saying(|said| said.method = method)], &format!("method {method}"));
    }
    assert_not_listed(&[a().but(|made| made.external = 0o120_777 << 16)], "p/a: it is a symlink");
    for kind in [0o010_000, 0o020_000, 0o060_000, 0o140_000, 0o040_000] {
        assert_not_listed(&[a().but(|made| made.external = kind << 16)], "of type");
    }
    assert_not_listed(&[a().but(|made| made.external = 0x10)], "directory by its attributes");
    let directory = || Made::stored("p/a/", b"");
    assert_not_listed(&[directory().but(|made| made.external = 0o100_644 << 16)], "of type");
    assert_not_listed(&[Made::stored("p/a/", b"content")], "directory with content");
    assert_not_listed(&[a().but(|made| made.disk = 1)], "another disk");
    assert_not_listed(&[a().but(|made| made.disk = 0xffff)], "another disk");
    // And as they should be.
    let sound = [a().but(|made| made.external = 0o100_644 << 16), Made::stored("p/d/", b"")];
    let sound =
        sound.map(|made| if made.data.is_empty() { made.but(|m| m.external = 0o040_755 << 16 | 0x10) } else { made });
    assert_eq!(read_bytes(&archive(&sound)).unwrap().len(), 2);
}

#[test]
fn zip_with_entries_that_overlap_is_damaged() {
    // One piece of data under many names, as in a bomb.
    let bomb = deflated(&[0; 100_000]);
    let kernel = Made::with(b"p/a", DEFLATED, &[0; 100_000], bomb);
    let mut twice = kernel.clone();
    twice.say(|said| said.name = b"p/b".to_vec());
    assert_not_listed(&[kernel.clone(), twice.but(|made| made.offset = Some(0))], "reaches into what follows it");
    // A header within the data of another.
    let inner = archive(&[Made::stored("p/b", b"within")]);
    let outer = Made::stored("p/a", &inner);
    let within = Made::stored("p/b", b"within").but(|made| made.offset = Some(33));
    assert_not_listed(&[outer, within], "reaches into what follows it");
    for offset in [1, 10_000, u32::MAX - 1] {
        let entries = [Made::stored("p/a", b"1"), Made::stored("p/b", b"2").but(|made| made.offset = Some(offset))];
        assert_not_listed(&entries, "");
    }
    assert_not_listed(&[Made::stored("p/a", b"1").but(|made| made.offset = Some(5))], "first 5 bytes");
    // The central directory leaves no room for the data.
    assert_not_listed(&[Made::stored("p/a", b"1").saying(|said| (said.compressed, said.size) = (99, 99))], "reaches");
}

#[test]
fn zip_with_hidden_bytes_is_damaged() {
    let hidden = archive(&[Made::stored("p/hidden", b"seen by who reads a stream")]);
    let a = || Made::stored("p/a", b"1");
    assert_not_backed_up(&[a().but(|made| made.after = hidden.clone()), a().saying(|s| s.name[2] = b'b')], "no entry");
    assert_not_backed_up(&[a().but(|made| made.after = vec![0])], "no entry");
    let large = vec![0; 70_000];
    assert_not_listed(&[a().but(|made| made.after = large)], "no entry");
    let wrong = Made::streamed("p/a", b"1").but(|made| made.after[5] ^= 1);
    assert_not_backed_up(&[wrong], "no entry");
    let none = Made::streamed("p/a", b"1").but(|made| made.after.clear());
    assert_not_backed_up(&[none], "no entry");
}

#[test]
fn zip_that_lies_about_sizes_is_damaged() {
    let content = text(1, 100_000);
    let a = || Made::deflated("p/a", &content);
    // A bomb: it says that it is small.
    assert_not_backed_up(&[a().saying(|said| said.size = 10)], "goes on after its declared size of 10 bytes");
    assert_not_backed_up(&[a().saying(|said| said.size -= 1)], "goes on");
    assert_not_backed_up(&[a().saying(|said| said.size = 0)], "goes on");
    assert_not_backed_up(&[a().saying(|said| said.size += 1)], "ends 1 bytes before its declared size");
    assert_not_listed(&[a().saying(|said| said.size = u32::MAX - 1)], "can't have been compressed");
    assert_not_listed(&[Made::stored("p/a", b"1").saying(|said| said.size = 2)], "stored in another size");
    assert_not_backed_up(&[a().saying(|said| said.crc ^= 1)], "checksum");
    assert_not_backed_up(&[Made::stored("p/a", b"1").saying(|said| said.crc ^= 1)], "checksum");
    let longer = a().but(|made| {
        made.data.extend(b"xyz");
        made.say(|said| said.compressed += 3);
    });
    assert_not_backed_up(&[longer], "3 bytes follow its compressed data");
    let shorter = a().but(|made| {
        made.data.truncate(made.data.len() - 3);
        made.say(|said| said.compressed -= 3);
    });
    assert_not_backed_up(&[shorter], "cut off");
    // A directory is never read, so it is checked at once.
    let directory = Made::with(b"p/a/", DEFLATED, b"", deflated(b"content"));
    assert_not_listed(&[directory], "goes on after its declared size of 0 bytes");
    assert_not_listed(&[Made::stored("p/a/", b"").but(|made| made.local.name[2] = b'b')], "another name: p/b/");
}

#[test]
fn zip_of_two_truths_is_damaged() {
    let a = || Made::deflated("p/a", b"content");
    let is_another = |change: fn(&mut Made), why: &str| assert_not_backed_up(&[a().but(change)], why);
    is_another(|made| made.local.name = b"p/b".to_vec(), "another name: p/b");
    is_another(|made| made.local.name = b"/p/a".to_vec(), "another name: /p/a");
    is_another(|made| made.local.name = b"p/a\x1b[2J".to_vec(), "another name: p/a\\x1b[2J");
    is_another(|made| made.local.method = STORED, "another method");
    is_another(|made| made.local.method = 1, "another method");
    is_another(|made| made.local.flags = 1, "flags");
    is_another(|made| made.local.crc ^= 1, "another size or checksum");
    is_another(|made| made.local.size += 1, "another size or checksum");
    is_another(|made| made.local.compressed = 0, "another size or checksum");
    is_another(|made| made.local.flags = HAS_DESCRIPTOR, "no entry");
    is_another(|made| made.local.extra = vec![1, 2, 3], "malformed");
    is_another(|made| made.local.extra = name_extra(b"p/b"), "extra fields give it another name");
    assert_not_listed(&[a().but(|made| made.central.extra = name_extra(b"p/b"))], "extra fields give it another name");
    read_bytes(&archive(&[a().saying(|said| said.extra = name_extra(b"p/a"))])).unwrap();
    // Two ends: which one is found depends on where a reader begins to look.
    let (data, central) = parts(&[a()]);
    let inner = end(0, 0, 0, b"");
    let last = end(1, narrow(central.len()), narrow(data.len()), &inner);
    assert_bytes_not_listed(&[data, central, last].concat(), "more than one end");
}

/// An extra field with the name in Unicode.
fn name_extra(name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(5 + name.len()).unwrap();
    [&b"up"[..], &length.to_le_bytes(), &[1], &crc(name).to_le_bytes(), name].concat()
}

#[test]
fn zip_whose_end_does_not_fit_is_damaged() {
    let (data, central) = parts(&sample());
    let (count, bytes, start) = (4, narrow(central.len()), narrow(data.len()));
    let with = |end: Vec<u8>| [&data[..], &central, &end].concat();
    read_bytes(&with(end(count, bytes, start, b"a comment"))).unwrap();
    let wrong = [
        end(count - 1, bytes, start, b""),
        end(count + 1, bytes, start, b""),
        end(0, bytes, start, b""),
        end(0, 0, start + bytes, b""),
        end(u16::MAX, bytes, start, b""),
        end(count, bytes - 1, start, b""),
        end(count, bytes, start - 1, b""),
        end(count, bytes + start, 0, b""),
        end(count, u32::MAX, u32::MAX, b""),
    ];
    for end in wrong {
        assert_bytes_not_listed(&with(end), "");
    }
    for at in [4, 6, 8] {
        let mut parts = end(count, bytes, start, b"");
        parts[at] = 9;
        assert_bytes_not_listed(&with(parts), "one of several parts");
    }
    assert_bytes_not_listed(&[b"#!/bin/sh\n", &with(end(count, bytes, start, b""))[..]].concat(), "not right before");
}

#[test]
fn zip_that_is_damaged_ends_every_operation() {
    let scratch = scratch();
    let (path, (_, repo)) = (scratch.path().join("a.zip"), create());
    // One is read whole, one piece by piece.
    for size in [10_000, 3_000_000] {
        let documents = [Made::stored("p/a", b"1"), Made::stored("p/b", &noise(1, size)), Made::stored("p/c", b"3")];
        fs::write(&path, archive(&documents)).unwrap();
        let first = backup(&open(&path), &repo, &options(), &Silent).unwrap().snapshot;
        let before = snapshots(&repo).len();
        settle();
        let mut bytes = archive(&documents);
        bytes[2000 + size / 2] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let store = ZipStore::open_target(&path, false).unwrap();
        let recorder = Recorder::default();
        let results = [
            backup(&store, &repo, &options(), &recorder).map(drop),
            diff_live(&repo, &first, &store, &Scope::System, &recorder, |_| Ok(())).map(drop),
            plan_restore(&store, &repo, &first, &restore_options(Mode::Merge), &recorder).map(drop),
            restore(&store, &repo, &first, &restore_options(Mode::Truncate), &recorder).map(drop),
        ];
        for result in results {
            let Err(ops::Error::Endpoint(error)) = result else { panic!("{result:?}") };
            assert!(damage(Err::<(), _>(error)).contains("entry p/b: its content does not match its checksum"));
        }
        assert!(recorder.problems().is_empty(), "it does not count as a document that can't be read");
        assert_eq!(snapshots(&repo).len(), before);
        assert_eq!(fs::read(&path).unwrap(), bytes, "and it is left alone");
        // What is damaged in its directory is noticed by a plan too.
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(plan_backup(&store, &repo, &options(), &Silent).is_err());
    }
}

#[test]
fn zip_that_is_written_while_it_is_read_is_changed() {
    let scratch = scratch();
    let path = scratch.path().join("a.zip");
    fs::write(&path, archive(&[Made::stored("p/a", b"12345")])).unwrap();
    let listing: Box<dyn Listing> = open(&path).scan(&Scope::System, &Silent).unwrap();
    settle();
    fs::write(&path, archive(&[Made::stored("p/a", b"54321")])).unwrap();
    let result = listing.reader().read(0, 100, &mut Vec::new());
    assert!(matches!(result, Err(Error::Changed { .. })), "{result:?}");
    assert!(matches!(listing.check_still_there(), Err(Error::Changed { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(listing.check_still_there(), Err(Error::Changed { .. })));
}
