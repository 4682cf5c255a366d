//! A zip as a store. Archives are made by hand here, byte by byte, since no honest writer makes the bad ones; what is
//! read and written is compared with what another implementation makes of it.

mod hostile;
mod source;
mod target;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use metastash::endpoint::zip::ZipStore;
use metastash::endpoint::{self, Listing, Outcome, Source};
use metastash::model::scope::Scope;
use metastash::monitor::Silent;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const HAS_DESCRIPTOR: u16 = 8;

/// What a header says of an entry.
#[derive(Debug, Clone)]
struct Said {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    compressed: u32,
    size: u32,
    extra: Vec<u8>,
}

/// An entry as it is to be written, right or wrong.
#[derive(Debug, Clone)]
struct Made {
    local: Said,
    central: Said,
    data: Vec<u8>,
    /// What comes after the data.
    after: Vec<u8>,
    external: u32,
    disk: u16,
    /// Where the central directory says that it is, if not where it is.
    offset: Option<u32>,
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap()
}

impl Made {
    fn with(name: &[u8], method: u16, content: &[u8], data: Vec<u8>) -> Self {
        let (compressed, size) = (narrow(data.len()), narrow(content.len()));
        let local =
            Said { name: name.to_vec(), flags: 0, method, crc: crc(content), compressed, size, extra: Vec::new() };
        Self { central: local.clone(), local, data, after: Vec::new(), external: 0, disk: 0, offset: None }
    }

    fn stored(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        Self::with(name.as_ref(), STORED, content, content.to_vec())
    }

    fn deflated(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        Self::with(name.as_ref(), DEFLATED, content, deflated(content))
    }

    /// As Java writes it: the sizes come after the data.
    fn streamed(name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        let mut made = Self::deflated(name, content);
        made.say(|said| said.flags = HAS_DESCRIPTOR);
        (made.local.crc, made.local.compressed, made.local.size) = (0, 0, 0);
        let central = &made.central;
        made.after = b"PK\x07\x08".to_vec();
        for number in [central.crc, central.compressed, central.size] {
            made.after.extend(number.to_le_bytes());
        }
        made
    }

    /// Changes what both headers say.
    fn say(&mut self, mut change: impl FnMut(&mut Said)) {
        change(&mut self.local);
        change(&mut self.central);
    }

    fn saying(mut self, change: impl FnMut(&mut Said)) -> Self {
        self.say(change);
        self
    }

    /// Changes anything.
    fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn said(said: &Said, out: &mut Vec<u8>) {
    for number in [said.flags, said.method, 0x6000, 0x5881] {
        out.extend(number.to_le_bytes());
    }
    for number in [said.crc, said.compressed, said.size] {
        out.extend(number.to_le_bytes());
    }
    for length in [said.name.len(), said.extra.len()] {
        out.extend(u16::try_from(length).unwrap().to_le_bytes());
    }
}

/// The parts of an archive: entries, central directory.
fn parts(entries: &[Made]) -> (Vec<u8>, Vec<u8>) {
    let (mut data, mut central) = (Vec::new(), Vec::new());
    for made in entries {
        let offset = made.offset.unwrap_or(narrow(data.len()));
        data.extend(b"PK\x03\x04\x14\0");
        said(&made.local, &mut data);
        data.extend([&made.local.name[..], &made.local.extra, &made.data, &made.after].concat());
        central.extend(b"PK\x01\x02\x14\0\x14\0");
        said(&made.central, &mut central);
        central.extend([0; 2]);
        central.extend(made.disk.to_le_bytes());
        central.extend([0; 2]);
        central.extend(made.external.to_le_bytes());
        central.extend(offset.to_le_bytes());
        central.extend([&made.central.name[..], &made.central.extra].concat());
    }
    (data, central)
}

fn end(count: u16, central_bytes: u32, central_start: u32, comment: &[u8]) -> Vec<u8> {
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    end.extend([central_bytes.to_le_bytes(), central_start.to_le_bytes()].concat());
    end.extend(u16::try_from(comment.len()).unwrap().to_le_bytes());
    end.extend(comment);
    end
}

/// An archive of these entries.
fn archive(entries: &[Made]) -> Vec<u8> {
    let (data, central) = parts(entries);
    let end = end(u16::try_from(entries.len()).unwrap(), narrow(central.len()), narrow(data.len()), b"");
    [data, central, end].concat()
}

/// Contents by path; nothing for a directory.
type Documents = BTreeMap<String, Option<Vec<u8>>>;

fn documents<const N: usize>(documents: [(&str, Option<&[u8]>); N]) -> Documents {
    documents.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.map(<[u8]>::to_vec))).collect()
}

fn open(path: &Path) -> ZipStore {
    ZipStore::open(path).unwrap()
}

/// Reads a document in one go and piece by piece, which must come to the same.
fn read(listing: &dyn Listing, n: usize) -> endpoint::Result<Vec<u8>> {
    let mut content = b"before".to_vec();
    let whole = listing.reader().read(n, 1 << 30, &mut content);
    let mut stream = listing.reader().stream(n);
    let mut streamed = Vec::new();
    let pieces = stream.as_mut().map(|stream| stream.read_to_end(&mut streamed));
    match whole {
        Ok(outcome) => {
            pieces.unwrap().unwrap();
            let stamp = listing.found(n).stamp;
            assert_eq!(outcome, Outcome::Read(stamp));
            assert_eq!(stream.unwrap().finish().unwrap(), Some(stamp));
            assert_eq!(content[6..], streamed);
            Ok(streamed)
        }
        Err(error) => {
            assert_eq!(content, b"before", "nothing is left of what could not be read");
            assert!(pieces.is_err() || matches!(pieces, Ok(Err(_))));
            assert!(stream.is_err() || stream.unwrap().finish().is_err());
            Err(error)
        }
    }
}

fn read_all(path: &Path) -> endpoint::Result<Documents> {
    let listing = ZipStore::open(path)?.scan(&Scope::System, &Silent)?;
    assert!(listing.problems().is_empty() && listing.obstacles().is_empty());
    let mut all = Documents::new();
    let mut last = None;
    for n in 0..listing.len() {
        let found = listing.found(n);
        assert!(last.as_ref().is_none_or(|last| *last < found.path), "in order");
        let bytes = found.size.map(|_| read(&*listing, n)).transpose()?;
        assert_eq!(found.size, bytes.as_ref().map(|bytes| bytes.len() as u64));
        all.insert(found.path.to_string(), bytes);
        last = Some(found.path);
    }
    Ok(all)
}

/// Reads the bytes of an archive as a store.
fn read_bytes(bytes: &[u8]) -> endpoint::Result<Documents> {
    let scratch = crate::support::scratch();
    let path = scratch.path().join("metadata.zip");
    fs::write(&path, bytes).unwrap();
    read_all(&path)
}

/// Reads an archive as another implementation sees it.
fn read_elsewhere(path: &Path) -> Documents {
    let mut archive = ::zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    let read = |n| {
        let mut entry = archive.by_index(n).unwrap();
        let name = entry.name().unwrap().trim_matches('/').to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, (!entry.is_dir()).then_some(bytes))
    };
    let count = ::zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap().len();
    (0..count).map(read).collect()
}
