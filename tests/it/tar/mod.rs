//! A tar as a store. Archives are made by hand here, header by header, since no honest writer makes the bad ones; what is
//! read and written is compared with what GNU tar makes of it.

mod hostile;
mod source;
mod target;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use ::tar::{EntryType, Header};
use metastash::endpoint::tar::TarStore;
use metastash::endpoint::{self, Listing, Outcome, Source};
use metastash::model::scope::Scope;
use metastash::monitor::Silent;

use crate::support::scratch;

const BLOCK: usize = 512;

/// Contents by path; nothing for a directory.
type Documents = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn documents<const N: usize>(documents: [(&str, Option<&[u8]>); N]) -> Documents {
    documents.into_iter().map(|(path, bytes)| (path.as_bytes().to_vec(), bytes.map(<[u8]>::to_vec))).collect()
}

/// A header with a right checksum, unless it is changed afterwards.
fn header(name: impl AsRef<[u8]>, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let name = name.as_ref();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o640);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    header
}

/// An entry: header, content, and zeros up to the end of a block.
fn entry(header: &Header, content: &[u8]) -> Vec<u8> {
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn made(name: impl AsRef<[u8]>, kind: EntryType, content: &[u8]) -> Vec<u8> {
    entry(&header(name, kind, content.len() as u64), content)
}

fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Vec<u8> {
    made(name, EntryType::Regular, content)
}

/// Records of PAX about the entry that follows.
fn records(kind: EntryType, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (0..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap() + rest;
        data.extend([format!("{length} {key}=").as_bytes(), value, b"\n"].concat());
    }
    made("records", kind, &data)
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [&entries.concat()[..], &[0; 2 * BLOCK]].concat()
}

fn open(path: &Path) -> TarStore {
    TarStore::open(path).unwrap()
}

/// Reads a document in one go and piece by piece, which must come to the same.
fn read(listing: &dyn Listing, n: usize) -> endpoint::Result<Vec<u8>> {
    let mut content = b"before".to_vec();
    let outcome = listing.reader().read(n, 1 << 30, &mut content)?;
    let mut stream = listing.reader().stream(n)?;
    let mut streamed = Vec::new();
    stream.read_to_end(&mut streamed).unwrap();
    let stamp = listing.found(n).stamp;
    assert_eq!((outcome, stream.finish().unwrap()), (Outcome::Read(stamp), Some(stamp)));
    assert_eq!(content[6..], streamed);
    Ok(streamed)
}

fn read_all(store: &TarStore) -> endpoint::Result<Documents> {
    let listing = store.scan(&Scope::System, &Silent)?;
    let mut all = Documents::new();
    let mut last = None;
    for n in 0..listing.len() {
        let found = listing.found(n);
        assert!(last.as_ref().is_none_or(|last| *last < found.path), "in order");
        let bytes = found.size.map(|_| read(&*listing, n)).transpose()?;
        assert_eq!(found.size, bytes.as_ref().map(|bytes| bytes.len() as u64));
        assert_eq!(listing.find(&found.path, 0), Some(n));
        all.insert(found.path.as_bytes().to_vec(), bytes);
        last = Some(found.path);
    }
    listing.check_still_there()?;
    Ok(all)
}

/// Reads the bytes of an archive as a store: from a file, and from a pipe, which must come to the same.
fn read_bytes(bytes: &[u8]) -> endpoint::Result<Documents> {
    let scratch = scratch();
    let path = scratch.path().join("a.tar");
    fs::write(&path, bytes).unwrap();
    let read = TarStore::open(&path).and_then(|store| read_all(&store));
    let piped = TarStore::read_from(bytes, &store_of(&path), &Silent).and_then(|store| read_all(&store));
    assert_eq!(format!("{read:?}"), format!("{piped:?}"));
    read
}

fn store_of(path: &Path) -> String {
    path.canonicalize().unwrap().display().to_string()
}

/// Runs GNU tar, which must succeed without a word.
fn gnu_tar(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("tar").args(words).current_dir(folder).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
