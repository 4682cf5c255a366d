//! What is fuzzed: each function gives any bytes to the decoders of one kind, and says what must then hold.
//!
//! None may panic. What decodes must say the same when it is encoded and decoded again; two ways of reading must agree.
//! The package in `fuzz/` calls these functions with what a fuzzer invents, and tests call them with the seeds.

#![allow(unreachable_pub, reason = "the package of the fuzzer calls what is here from outside")]

use std::io::{Cursor, Read, Write};
use std::str::FromStr;
use std::sync::Arc;

use metastash::endpoint::tar::TarStore;
use metastash::endpoint::zip::ZipStore;
use metastash::endpoint::{Listing, Outcome, Source, json_list};
use metastash::model::hash::{ChunkId, PackId, SnapshotId};
use metastash::model::path::{EntryPath, compare, escape};
use metastash::model::pointer::Pointer;
use metastash::model::scope::Scope;
use metastash::monitor::Silent;
use metastash::platform::kylin::content::{identity, text_field, text_field_of_stream};
use metastash::platform::kylin::database::Database;
use metastash::platform::kylin::doctor::{Examination, Generation, examine};
use metastash::platform::kylin::encoding::{self, Decoded, DecodingReader};
use metastash::platform::kylin::json::Json;
use metastash::platform::kylin::kind::ALL as ALL_KINDS;
use metastash::platform::kylin::layout::{Layout, Level};
use metastash::platform::kylin::location::Location;
use metastash::platform::kylin::migrate::{Options, Survey};
use metastash::platform::kylin::node::Node;
use metastash::platform::kylin::patch::patched;
use metastash::platform::kylin::properties::Properties;
use metastash::platform::kylin::tables::{Release, audit_model_uuid, audit_project, extract};
use metastash::platform::kylin::url::MetadataUrl;
use metastash::repo::codec::Codec;
use metastash::repo::config::Config;
use metastash::repo::format::{config, header, index, leaf, log, loss, mark, pack, snapshot, tree};
use metastash::repo::snapshot::Reference;
use metastash::repo::{self, COMPRESSION_LEVEL, Repository};
use metastash::storage::memory::MemoryStorage;
use metastash::storage::{Object, Storage};
use tempfile::NamedTempFile;

/// A target: the name of its seeds' folder, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 15] = [
    ("repo_files", repo_files),
    ("pack_tail", pack_tail),
    ("tree", tree_nodes),
    ("leaf", leaf_node),
    ("log_records", log_records),
    ("frame", frame),
    ("repo_names", repo_names),
    ("tar", tar),
    ("zip", zip),
    ("json_list", list),
    ("words", words),
    ("kylin_settings", kylin_settings),
    ("kylin_encoding", kylin_encoding),
    ("kylin_patch", kylin_patch),
    ("kylin_document", kylin_document),
];

/// Most bytes that a body or frame may claim here. A real one may hold more, which only proves that memory is used.
const CLAIM_MAX: u64 = 16 << 20;
/// Most bytes of a document that are read at once.
const DOCUMENT_MAX: u64 = 1 << 20;
const HASH_BYTES: usize = 32;
/// What a directory of a pack without any bytes is refused with, but for a number.
const SAYS: &str = "it has 0 bytes, but its directory says ";

fn codec() -> Codec {
    Codec::new(COMPRESSION_LEVEL)
}

/// Tells whether the body of a file claims more bytes than are tried here.
fn claims_too_much(file: &[u8]) -> bool {
    let claim = file.get(header::HEADER_BYTES..).and_then(<[u8]>::first_chunk::<8>);
    claim.is_some_and(|claim| u64::from_le_bytes(*claim) > CLAIM_MAX)
}

/// The files of a repository, but for packs. All but the configuration are named by their hash, so anything is decoded.
pub fn repo_files(bytes: &[u8]) {
    if claims_too_much(bytes) {
        return;
    }
    let codec = codec();
    // Without the right hash nothing of a configuration would be decoded.
    let unhashed = bytes.len().checked_sub(HASH_BYTES).map_or(bytes, |end| &bytes[..end]);
    let hashed = [unhashed, blake3_of(unhashed).as_slice()].concat();
    let _ = config::decode(bytes, &codec);
    if let Ok(decoded) = config::decode(&hashed, &codec) {
        assert_eq!(config::decode(&config::encode(&decoded, &codec), &codec), Ok(decoded));
    }
    if let Ok((pack, cause, time_ms)) = mark::decode(bytes, &codec)
        && let Some(cause) = cause
    {
        let again = mark::encode(pack, cause, time_ms, &codec);
        assert_eq!(mark::decode(&again, &codec), Ok((pack, Some(cause), time_ms)));
    }
    if let Ok(decoded) = loss::decode(bytes, &codec) {
        assert_eq!(loss::decode(&loss::encode(&decoded, &codec), &codec), Ok(decoded));
    }
    if let Ok(decoded) = snapshot::decode(bytes, &codec) {
        assert_eq!(snapshot::decode(&snapshot::encode(&decoded, &codec), &codec), Ok(decoded));
    }
    if let Ok(decoded) = index::decode(bytes, &codec) {
        let packs = decoded.iter().map(|pack| (pack.id, pack.size_bytes, &pack.directory));
        assert_eq!(index::decode(&index::encode(packs, &codec), &codec).as_ref(), Ok(&decoded));
    }
}

/// Ids are BLAKE3 hashes: this saves a dependency.
fn blake3_of(bytes: &[u8]) -> [u8; HASH_BYTES] {
    *ChunkId::of(bytes).as_bytes()
}

/// The end of a pack: directory and trailer, the latter's hash mended.
pub fn pack_tail(bytes: &[u8]) {
    let mut tail = bytes.to_vec();
    let _ = pack::decode_trailer(&tail);
    let Some(blob_bytes) = tail.len().checked_sub(pack::TRAILER_BYTES) else { return };
    let (blob_bytes_stored, hash) =
        (u32::try_from(blob_bytes).unwrap_or(0).to_le_bytes(), blake3_of(&tail[..blob_bytes]));
    let trailer = &mut tail[blob_bytes..];
    trailer[..4].copy_from_slice(&blob_bytes_stored);
    trailer[8..24].copy_from_slice(&hash[..16]);
    if u64::from(u32::from_le_bytes([trailer[4], trailer[5], trailer[6], trailer[7]])) > CLAIM_MAX {
        return;
    }
    trailer[24..].copy_from_slice(b"PACK-END");
    let trailer = pack::decode_trailer(&tail).expect("the trailer was mended");
    assert_eq!(trailer.blob_bytes, blob_bytes);
    let codec = codec();
    // No pack has no bytes; the message tells how many the directory says there are.
    let Err(told) = pack::decode_directory(&trailer, &tail[..blob_bytes], 0, &codec) else { unreachable!() };
    let told = told.to_string();
    let Some(Ok(pack_bytes)) = told.strip_prefix(SAYS).map(str::parse::<u64>) else { return };
    let directory = pack::decode_directory(&trailer, &tail[..blob_bytes], pack_bytes, &codec);
    let directory = directory.expect("the size is what the directory says");
    assert_eq!(directory.frames_end() + tail.len() as u64, pack_bytes);
    let again = pack::encode_tail(&directory, &[0; pack::SALT_BYTES], &codec);
    let trailer = pack::decode_trailer(&again).expect("what was encoded has a trailer");
    let pack_bytes = directory.frames_end() + again.len() as u64;
    assert_eq!(pack::decode_directory(&trailer, &again[..trailer.blob_bytes], pack_bytes, &codec), Ok(directory));
}

/// The upper nodes of a tree.
pub fn tree_nodes(bytes: &[u8]) {
    if let Ok((runs, projects)) = tree::decode_tree(bytes) {
        let again = tree::encode_tree(runs.iter().copied(), &projects);
        assert_eq!(tree::decode_tree(&again), Ok((runs, projects)));
    }
    if let Ok(leaves) = tree::decode_run(bytes) {
        assert_eq!(tree::decode_run(&tree::encode_run(&leaves)), Ok(leaves));
    }
}

/// A leaf of a tree.
pub fn leaf_node(bytes: &[u8]) {
    if let Ok(records) = leaf::decode(bytes) {
        assert!(records.is_sorted_by(|a, b| a.path() < b.path()), "paths ascend");
        assert_eq!(leaf::decode(&leaf::encode(&records)), Ok(records));
    }
}

/// Archived records of an audit log.
pub fn log_records(bytes: &[u8]) {
    if let Ok(records) = log::decode(bytes) {
        assert_eq!(log::decode(&log::encode(records.clone())), Ok(records));
    }
}

/// A frame, behind the length that it is said to have, and a body.
pub fn frame(bytes: &[u8]) {
    let codec = codec();
    let Some((length, blob)) = bytes.split_first_chunk::<8>() else { return };
    let length = u64::from_le_bytes(*length);
    if length <= CLAIM_MAX {
        let length = usize::try_from(length).expect("it is small");
        let (raw, body) = (codec.decode(blob, length), codec.decode_body(bytes));
        assert!(raw.as_ref().is_ok_and(|raw| raw.len() == length) || raw.is_err());
        if let (Ok(raw), Ok(body)) = (raw, body) {
            assert_eq!(raw, body, "a frame and a body are decoded alike");
        }
    }
    // What is raw is any bytes.
    assert_eq!(codec.decode(&codec.encode(bytes), bytes.len()).as_deref(), Ok(bytes));
    assert_eq!(codec.decode_body(&codec.encode_body(bytes)).as_deref(), Ok(bytes));
}

/// Names of files, one a line, as someone may have put them into the folders of a repository. None is read as what it is
/// not, and none is a reason to fail.
pub fn repo_names(bytes: &[u8]) {
    let storage = MemoryStorage::new();
    let config = Config { id: [1; 16], created_ms: 0, grace_secs: 1 };
    let repo = Repository::create(Arc::new(storage.clone()), config).expect("the storage is empty");
    for name in String::from_utf8_lossy(bytes).lines().take(16) {
        let is_plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        if is_plain {
            for folder in ["snapshots", "forgotten", "marks", "lost"] {
                let _ = storage.put(&format!("{folder}/{name}"), b"");
            }
        }
    }
    let listed = |folder| -> Vec<Object> { storage.list(folder).expect("memory can be read") };
    let list = repo.snapshots().expect("memory can be read");
    assert!(list.snapshots.is_empty(), "an empty file is no snapshot");
    assert!(list.unreadable.len() <= listed("snapshots").len());
    let forgotten = repo.forgotten().expect("memory can be read");
    assert!(forgotten.forgotten.is_empty(), "an empty file is no record");
    // A prune refuses to run where it can't tell what a name stands for.
    match repo.forgotten_records() {
        Ok(records) => assert_eq!(records.len(), listed("forgotten").len()),
        Err(error) => assert!(error.is_damage(), "{error}"),
    }
    let marks = repo.marks().expect("memory can be read");
    assert!(marks.len() <= listed("marks").len());
    for mark in marks {
        assert_eq!(repo.remove_mark(&mark).ok(), Some(true), "a mark that is listed is there");
    }
    let _: repo::Result<_> = repo.losses();
}

/// Reads all that is listed, in one go and piece by piece, which must come to the same.
fn read_listing(listing: &dyn Listing) {
    let mut last: Option<EntryPath> = None;
    for n in 0..listing.len().min(64) {
        let found = listing.found(n);
        assert!(last.as_ref().is_none_or(|last| *last < found.path), "entries are in order");
        assert_eq!(listing.find(&found.path, 0), Some(n));
        if found.size.is_some_and(|size| size <= DOCUMENT_MAX) {
            let mut content = b"before".to_vec();
            let read = listing.reader().read(n, DOCUMENT_MAX, &mut content);
            let mut streamed = Vec::new();
            let stream = listing.reader().stream(n).map_err(drop);
            let streamed = stream.and_then(|stream| stream.take(DOCUMENT_MAX).read_to_end(&mut streamed).map_err(drop));
            match read {
                Ok(Outcome::Read(stamp)) => {
                    assert_eq!((stamp, Some(content.len() as u64 - 6)), (found.stamp, found.size));
                    assert_eq!(streamed, Ok(content.len() - 6), "both ways of reading agree");
                }
                Ok(Outcome::TooLarge) => panic!("it is not larger than it is said to be"),
                Err(_) => {
                    assert_eq!(content, b"before", "nothing is appended that can't be read");
                    assert!(streamed.is_err(), "both ways of reading agree");
                }
            }
        }
        last = Some(found.path);
    }
}

/// A tar, from a pipe. As a fuzzer can't count up to a checksum, all of them are mended in a second try.
pub fn tar(bytes: &[u8]) {
    const BLOCK_BYTES: usize = 512;
    let try_one = |bytes: &[u8]| {
        let Ok(store) = TarStore::read_from(bytes, "pipe", &Silent) else { return };
        let _ = store.top_names();
        if let Ok(listing) = store.scan(&Scope::System, &Silent) {
            read_listing(&*listing);
        }
    };
    try_one(bytes);
    let mut mended = bytes.to_vec();
    for block in mended.chunks_exact_mut(BLOCK_BYTES).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    if mended != bytes {
        try_one(&mended);
    }
}

/// Puts bytes into a file, in memory where there is a place for that.
fn file_of(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new_in("/dev/shm").or_else(|_| NamedTempFile::new());
    let mut file = file.expect("there is room for a small file");
    file.write_all(bytes).expect("there is room for a small file");
    file
}

/// A zip.
pub fn zip(bytes: &[u8]) {
    let file = file_of(bytes);
    let store = ZipStore::open(file.path()).expect("the file is there");
    let _ = store.top_names();
    if let Ok(listing) = store.scan(&Scope::System, &Silent) {
        read_listing(&*listing);
    }
}

/// A JSON list of rows.
pub fn list(bytes: &[u8]) {
    let file = file_of(bytes);
    if let Ok(list) = json_list::read(file.path()) {
        let listing = list.store.scan(&Scope::System, &Silent).expect("what was collected can be listed");
        assert!(
            listing.len() as u64 + list.superseded + list.removed <= list.rows * 2,
            "a row is one document at most"
        );
        read_listing(&*listing);
    }
}

/// Words of users and names from outside: pointers, paths, ids, snapshots.
pub fn words(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(pointer) = text.parse::<Pointer>() {
        assert_eq!(pointer.to_string(), text, "a pointer is written as it was read");
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
    if let Ok(id) = SnapshotId::from_str(&text) {
        assert_eq!(id.to_string(), text);
    }
    assert_eq!(PackId::from_str(&text).is_ok(), ChunkId::from_str(&text).is_ok());
    let _ = Scope::project(&text);
    assert!(!escape(bytes).chars().any(char::is_control), "nothing that is shown controls a terminal");
    if let Ok(path) = EntryPath::new(bytes) {
        assert!(path.parts().all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0)), "no way leads out");
        assert_eq!(path.parts().collect::<Vec<_>>().join(&b'/'), bytes);
        assert!(path.parent().is_none_or(|parent| parent < path && path.is_within(parent.as_bytes())));
        for layout in [Layout::Old, Layout::New(Level::Core), Layout::New(Level::Folder)] {
            let _ = (layout.place(&path), layout.is_json(&path), layout.is_permissions(&path), layout.is_model(&path));
            let stored = layout.path_in(&path, Some(b"project"));
            assert!(layout.name_of(&stored).is_none_or(|name| !name.as_bytes().is_empty()));
            let _ = layout.key_of(&stored);
            let _ = layout.name_of_key(bytes);
        }
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(compare(first, second), compare(second, first).reverse());
}

/// Settings of an installation, and what they point to.
pub fn kylin_settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(url) = text.parse::<MetadataUrl>() {
        let _ = url.to_string();
        if let Ok(Location::Jdbc(jdbc)) = url.location() {
            let _ = format!("{jdbc:?}");
            if let Ok(database) = Database::from_jdbc(&jdbc) {
                let _ = (database.location(), format!("{database:?}"));
            }
        }
    }
    if let Ok(database) = Database::parse(&text) {
        let _ = (database.location(), format!("{database:?}"));
    }
    let _ = Node::parse(&text);
    let _ = Properties::parse(bytes);
}

/// A value of a database, perhaps encoded. Read as a whole and as a stream, it is the same.
pub fn kylin_encoding(bytes: &[u8]) {
    let mut content = Vec::new();
    let decoded = encoding::decode(bytes, DOCUMENT_MAX, &mut content);
    assert!(content.len() as u64 <= DOCUMENT_MAX && content.capacity() as u64 <= 2 * DOCUMENT_MAX);
    let mut streamed = Vec::new();
    let reader = DecodingReader::new(Cursor::new(bytes)).expect("memory can be read");
    let read = reader.take(DOCUMENT_MAX + 1).read_to_end(&mut streamed);
    match decoded {
        Ok(Decoded::TooLarge) => assert!(read.is_err() || streamed.len() as u64 > DOCUMENT_MAX),
        Ok(_) => assert_eq!((read.ok(), &streamed), (Some(content.len()), &content)),
        // A stream that is cut off at the most that may be read is not seen to be corrupt.
        Err(_) => assert!(read.is_err() || streamed.len() as u64 > DOCUMENT_MAX),
    }
    let mut again = Vec::new();
    assert!(encoding::decode(&encoding::encode(bytes), bytes.len() as u64, &mut again).is_ok());
    assert_eq!(again, bytes);
}

/// A document, a line of nothing, and a patch of it. Both are JSON.
pub fn kylin_patch(bytes: &[u8]) {
    let separator = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (document, patch) = separator.map_or((bytes, &b"[]"[..]), |at| (&bytes[..at], &bytes[at + 2..]));
    for text in [document, patch] {
        if let Ok(json) = Json::parse(text) {
            assert_eq!(Json::parse(&json.to_bytes()).as_ref(), Ok(&json), "what is written says the same");
            assert!(json.means(&json));
        }
    }
    if let Ok(json) = patched(document, patch) {
        let _ = Json::parse(&json.to_bytes());
    }
}

/// The name of a document, in a line, and its content: examined, taken for a row, and migrated.
pub fn kylin_document(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let content = bytes.get(end + 1..).unwrap_or_default();
    let Ok(name) = EntryPath::new(&bytes[..end]) else { return };
    for generation in [Generation::New, Generation::Old] {
        let mut examination = Examination::new(generation);
        examination.push(examine(generation, &name, content));
        let _ = examination.finish(true);
    }
    for kind in ALL_KINDS {
        let _ = extract(kind, name.name(), content, &[], Release::V502);
        let _ = (audit_model_uuid(kind, content), audit_project(kind, content));
    }
    let _ = (identity(Layout::Old, content), identity(Layout::New(Level::Core), content));
    let streamed = text_field_of_stream(content, "uuid");
    assert_eq!(text_field(content, "uuid").ok().as_deref(), streamed.as_deref().ok());
    for options in [Options::default(), Options { as_kylin: true, fresh_uuids: true, ..Options::default() }] {
        let mut survey = Survey::new(options);
        survey.add(&name, Some(content));
        let converted = survey.finish().convert(&name, content, 7);
        assert_eq!(converted, {
            let mut survey = Survey::new(options);
            survey.add(&name, Some(content));
            survey.finish().convert(&name, content, 7)
        });
    }
}
