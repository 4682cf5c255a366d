//! Archives that are damaged or made to deceive: an error for the whole store, never a listing with less or other
//! things in it.

use std::fs;

use ::tar::EntryType;
use metastash::endpoint::tar::TarStore;
use metastash::endpoint::{self, Error, Source};
use metastash::model::scope::Scope;
use metastash::monitor::Silent;

use super::{BLOCK, archive, entry, file, header, made, open, read_all, read_bytes, records};
use crate::support::{Dice, noise, scratch};

/// Asserts that an archive can't be read at all, and that these words are in the error.
#[track_caller]
fn assert_refused(bytes: &[u8], why: &str) {
    assert_damaged(read_bytes(bytes), why);
}

#[track_caller]
fn assert_damaged(result: endpoint::Result<impl std::fmt::Debug>, why: &str) {
    match result {
        Err(Error::Damaged { what, .. }) => assert!(what.contains(why), "{what}"),
        other => panic!("{other:?}"),
    }
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let names =
        ["/etc/passwd", "../evil", "a/../../evil", "a/..", "..", "./../evil", "//x", "a//b", "a/./b", "/", "", "."];
    for name in names {
        for bytes in [file(name, b"x"), made(name, EntryType::Directory, b"")] {
            // What was packed may be named itself, as a directory; and what ends in a slash is none with content.
            if name == "." && bytes.len() == BLOCK || name == "/" && bytes.len() > BLOCK {
                continue;
            }
            assert_refused(&archive(&[bytes]), "is not a usable path");
        }
        let long = made("././@LongLink", EntryType::GNULongName, &[name.as_bytes(), b"\0"].concat());
        assert_refused(&archive(&[long, file("harmless", b"x")]), "is not a usable path");
        let pax = records(EntryType::XHeader, &[("path", name.as_bytes())]);
        assert_refused(&archive(&[pax, file("harmless", b"x")]), "is not a usable path");
    }
    let pax = records(EntryType::XHeader, &[("path", b"harmless\0/../evil")]);
    assert_refused(&archive(&[pax, file("harmless", b"x")]), "it holds a NUL byte");
}

#[test]
fn documents_below_links_are_refused() {
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Regular] {
        let mut link = header("a", kind, 0);
        link.as_old_mut().linkname[..4].copy_from_slice(b"/etc");
        link.set_cksum();
        assert_refused(&archive(&[entry(&link, b""), file("a/passwd", b"x")]), " and the directory of a/passwd");
    }
}

#[test]
fn devices_and_unknown_types_are_refused() {
    for kind in [EntryType::Char, EntryType::Block] {
        assert_refused(&archive(&[made("a", kind, b"")]), "it is a device");
    }
    for kind in *b"VMNDX9" {
        assert_refused(&archive(&[made("a", EntryType::new(kind), b"")]), "which is not supported");
    }
    assert_refused(&archive(&[made("a", EntryType::GNUSparse, b"")]), "stored with holes");
    let sparse = records(EntryType::XHeader, &[("GNU.sparse.major", b"1")]);
    assert_refused(&archive(&[sparse, file("a", b"")]), "stored with holes");
}

#[test]
fn names_that_are_there_twice_are_refused() {
    let directory = |name| made(name, EntryType::Directory, b"");
    let twice = [
        [file("a", b"1"), file("a", b"2")],
        [file("a", b"1"), file("./a", b"1")],
        [file("a", b"1"), directory("a/")],
        [directory("a"), directory("a/")],
        [file("a", b""), made("a", EntryType::Symlink, b"")],
    ];
    for entries in twice {
        assert_refused(&archive(&entries), "two entries are called a");
    }
    let long = || made("././@LongLink", EntryType::GNULongName, b"b\0");
    assert_refused(&archive(&[long(), long(), file("a", b"")]), "given two names");
    let pax = records(EntryType::XHeader, &[("path", b"b"), ("path", b"c")]);
    assert_refused(&archive(&[pax, file("a", b"")]), "given two names");
}

#[test]
fn sizes_that_deceive_are_refused() {
    for size in [512, 513, 1 << 20, 1 << 40, u64::MAX / 2] {
        let bytes = [header("a", EntryType::Regular, size).as_bytes(), &[0; 2 * BLOCK][..]].concat();
        let why = match size {
            512 => "its end is cut off",
            513 => "it has no end",
            _ => "reach beyond the end",
        };
        assert_refused(&bytes, why);
        // Also where it says how much is to be taken into memory.
        for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName, EntryType::GNULongLink] {
            let bytes = [header("a", kind, size).as_bytes(), &[0; 2 * BLOCK][..]].concat();
            assert!(read_bytes(&bytes).is_err());
        }
    }
    let mut largest = header("a", EntryType::Regular, 0);
    largest.as_old_mut().size = [0xff; 12];
    largest.set_cksum();
    assert!(matches!(read_bytes(&archive(&[entry(&largest, b"")])), Err(Error::Damaged { .. })));
    let pax = records(EntryType::XHeader, &[("size", b"1")]);
    assert_refused(&archive(&[pax, file("a", b"xyz")]), "two sizes, 1 bytes and 3 bytes");
    for kind in [EntryType::Directory, EntryType::Symlink, EntryType::Link] {
        assert_refused(&archive(&[made("a", kind, b"x")]), "it has content, and is no document");
    }
}

#[test]
fn huge_headers_are_refused() {
    let data = vec![b'a'; (1 << 20) + 1];
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName, EntryType::GNULongLink] {
        assert_refused(&archive(&[made("x", kind, &data), file("a", b"")]), "about another entry are too many");
    }
    let long = made("x", EntryType::GNULongName, &data[..70_000]);
    assert_refused(&archive(&[long, file("a", b"")]), "longer than 65535 bytes");
}

#[test]
fn headers_that_are_wrong_are_refused() {
    let whole = archive(&[file("a", b"content"), file("b", b"more")]);
    for place in [0, 100, 124, 136, 148, 156, 257, 400, 1024, 1024 + 150] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x01;
        assert!(matches!(read_bytes(&bytes), Err(Error::Damaged { .. })), "{place}");
    }
    let wrong = [&b"garbage"[..], b"7 a=b\n", b"99999999999 path=x\n"];
    for data in wrong {
        let pax = made("x", EntryType::XHeader, data);
        assert_refused(&archive(&[pax, file("a", b"")]), "its records are malformed");
    }
    let pax = records(EntryType::XHeader, &[("mtime", b"yesterday")]);
    assert_refused(&archive(&[pax, file("a", b"")]), "its time can't be read");
    for key in ["path", "linkpath", "size", "mtime", "GNU.sparse.name"] {
        let global = records(EntryType::XGlobalHeader, &[(key, b"1")]);
        assert_refused(&archive(&[global, file("a", b"")]), "of all entries, which is not supported");
    }
}

#[test]
fn what_is_cut_off_is_refused() {
    let pax = records(EntryType::XHeader, &[("mtime", b"1.5")]);
    let entries = [file("a", b"content"), pax, file("b", &noise(1, 2000))].concat();
    let whole = [&entries[..], &[0; 2 * BLOCK]].concat();
    for length in (0..whole.len()).step_by(64).chain([1, entries.len() - 1, whole.len() - 1]) {
        assert!(matches!(read_bytes(&whole[..length]), Err(Error::Damaged { .. })), "{length}");
    }
    let packed = zst(&whole);
    for length in 1..packed.len() {
        assert!(matches!(read_bytes(&packed[..length]), Err(Error::Damaged { .. })), "{length} of {}", packed.len());
    }
    // The last entry is announced only.
    let announced = records(EntryType::XHeader, &[("path", b"b")]);
    assert_refused(&archive(&[file("a", b""), announced]), "its last entry is missing");
}

#[test]
fn what_follows_the_end_is_refused() {
    let first = archive(&[file("a", b"1")]);
    assert_refused(&[&first[..], &archive(&[file("b", b"2")])].concat(), "behind its end");
    assert_refused(&[&first[..], b"x"].concat(), "behind its end");
    assert_refused(&[&file("a", b"1")[..], &[0; BLOCK], &file("b", b"2"), &[0; 2 * BLOCK]].concat(), "behind its end");
    assert_damaged(read_bytes(&[&zst(&first)[..], b"x"].concat()), "corrupt or cut off");
    assert!(read_bytes(&[&first[..], &[0; 9999]].concat()).is_ok(), "zeros up to the end of a tape are usual");
}

#[test]
fn compressed_data_that_is_corrupt_is_refused() {
    let mut packed = Vec::new();
    let mut encoder = zstd::stream::write::Encoder::new(&mut packed, 3).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, &archive(&[file("a", &noise(1, 5000))])).unwrap();
    encoder.finish().unwrap();
    // Not in the header of the frame, which has bits that mean nothing.
    for place in (101..packed.len()).step_by(97) {
        let mut bytes = packed.clone();
        bytes[place] ^= 0x10;
        assert!(matches!(read_bytes(&bytes), Err(Error::Damaged { .. })), "{place}");
    }
}

#[test]
fn memory_that_a_frame_asks_for_is_bounded() {
    let mut packed = Vec::new();
    let mut encoder = zstd::stream::write::Encoder::new(&mut packed, 1).unwrap();
    encoder.window_log(30).unwrap();
    std::io::Write::write_all(&mut encoder, &archive(&[file("a", b"")])).unwrap();
    encoder.finish().unwrap();
    assert_damaged(read_bytes(&packed), "corrupt or cut off");
}

#[test]
fn bombs_are_refused_before_they_fill_the_disk() {
    // One document of 2 GiB of zeros, and what says so in a few kilobytes.
    let size = 2_u64 << 30;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut encoder, header("bomb", EntryType::Regular, size).as_bytes()).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), size + 1024), &mut encoder).unwrap();
    let packed = encoder.finish().unwrap();
    assert!(packed.len() < 1 << 20);
    assert_damaged(TarStore::read_from(&packed[..], "bomb", &Silent), "can't have been compressed to");
}

#[test]
fn archive_that_changes_while_it_is_read_is_told() {
    let scratch = scratch();
    let path = scratch.path().join("a.tar");
    fs::write(&path, archive(&[file("a", b"1"), file("b", &noise(1, 100_000))])).unwrap();
    let store = open(&path);
    let listing = store.scan(&Scope::System, &Silent).unwrap();
    fs::write(&path, archive(&[file("a", b"2")])).unwrap();
    assert!(matches!(listing.check_still_there(), Err(Error::Changed { .. })));
    let read = listing.reader().read(1, 1 << 20, &mut Vec::new());
    assert!(matches!(read, Err(Error::Changed { .. })), "{read:?}");
    assert_eq!(read_all(&store).unwrap().len(), 1, "it is read anew");
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.scan(&Scope::System, &Silent), Err(Error::NotFound { .. })));
}

#[test]
fn nothing_that_a_header_says_causes_a_panic() {
    let long = [&b"n".repeat(300)[..], b"\0"].concat();
    let whole = archive(&[
        records(EntryType::XGlobalHeader, &[("comment", b"x")]),
        made("d", EntryType::Directory, b""),
        made("././@LongLink", EntryType::GNULongName, &long),
        file("n", b"1"),
        records(EntryType::XHeader, &[("path", b"d/a"), ("mtime", b"17.5"), ("size", b"3")]),
        file("d/a", b"abc"),
        made("link", EntryType::Symlink, b""),
    ]);
    let mut dice = Dice::new(6);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=dice.below(3) {
            // Mostly in what headers say, and mostly what numbers are made of.
            let block = dice.below(bytes.len() / BLOCK) * BLOCK;
            let most = if dice.below(4) == 0 { BLOCK } else { 160 };
            let place = block + dice.below(most);
            let values = [0, 0xff, b'7', b'/', b'.', b' ', 0x80, u8::try_from(dice.below(256)).unwrap()];
            bytes[place] = values[dice.below(values.len())];
            if dice.below(8) > 0 && bytes[block..][..BLOCK].iter().any(|byte| *byte != 0) {
                let mut header = ::tar::Header::from_byte_slice(&bytes[block..][..BLOCK]).clone();
                header.set_cksum();
                bytes[block..][..BLOCK].copy_from_slice(header.as_bytes());
            }
        }
        match TarStore::read_from(&bytes[..], "here", &Silent).and_then(|store| read_all(&store)) {
            Ok(_) => accepted += 1,
            Err(Error::Damaged { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(accepted > 100, "{accepted}: some changes do no harm");
}
