//! Seeds: small files that the project's own encoders made, and documents of the fixtures.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::{fs, iter};

use metastash::model::entry::{Body, Document, Encoding, Entry, Stamp};
use metastash::model::hash::{ChunkId, ContentId, PackId, Root, SnapshotId};
use metastash::model::log::{LogChange, LogPosition, LogRecord, Moment, OpenIds, Replayed};
use metastash::model::path::EntryPath;
use metastash::model::root::{ProjectSummary, Projects};
use metastash::model::scope::Scope;
use metastash::platform::kylin::encoding;
use metastash::repo::COMPRESSION_LEVEL;
use metastash::repo::codec::Codec;
use metastash::repo::config::Config;
use metastash::repo::format::pack::{Directory, FrameKind, SALT_BYTES};
use metastash::repo::format::{config, index, leaf, log, loss, mark, pack, snapshot, tree};
use metastash::repo::losses::{Loss, LostDocument};
use metastash::repo::marks::Cause;
use metastash::repo::snapshot::{Counts, LogArchive, Manifest, Reason};
use metastash::repo::tree::{LeafRef, Record};
use zip::write::SimpleFileOptions;

/// Target, name and bytes.
pub(super) type Seed = (&'static str, String, Vec<u8>);

/// Documents of the fixtures: the newer and the older layout.
const DOCUMENTS: [(&str, &str); 12] = [
    ("learn_kylin", "DATAFLOW/db3383bc-3a1d-453e-12f1-ee06224b9987.json"),
    ("learn_kylin", "INDEX_PLAN/db3383bc-3a1d-453e-12f1-ee06224b9987.json"),
    ("learn_kylin", "ACL/learn_kylin.u.ANALYST.json"),
    ("learn_kylin", "INTERNAL_TABLE/learn_kylin.BOOKS.SHOP.json"),
    ("kylin_old", "_global/project/sales.json"),
    ("kylin_old", "_global/user/ADMIN"),
    ("kylin_old", "_global/user_group/ROLE_ADMIN"),
    ("kylin_old", "_global/acl/bf17d67c-201c-f73f-5901-5c0d872210b6"),
    ("kylin_old", "UUID"),
    ("kylin_old", "events/dataflow/9b3c9bcb-c5f1-d87d-0f60-6d943ed60f54.json"),
    ("kylin_old", "events/index_plan/9b3c9bcb-c5f1-d87d-0f60-6d943ed60f54.json"),
    ("kylin_old", "events/kafka/LIVE.CLICK.json"),
];

/// Returns all of them.
pub(super) fn all() -> Vec<Seed> {
    let named = |target| move |(n, bytes): (usize, Vec<u8>)| -> Seed { (target, format!("{n:02}"), bytes) };
    let mut all = Vec::new();
    all.extend(repo_files().into_iter().enumerate().map(named("repo_files")));
    all.extend(pack_tails().into_iter().enumerate().map(named("pack_tail")));
    all.extend(nodes().into_iter().enumerate().map(named("tree")));
    all.extend([vec![], records()].map(|records| leaf::encode(&records)).into_iter().enumerate().map(named("leaf")));
    all.extend([vec![], log_records()].map(log::encode).into_iter().enumerate().map(named("log_records")));
    all.extend(
        [&b""[..], b"short", &[b'a'; 3000]]
            .map(|raw| codec().encode_body(raw))
            .into_iter()
            .enumerate()
            .map(named("frame")),
    );
    all.extend(texts(&REPO_NAMES).enumerate().map(named("repo_names")));
    all.extend(tars().into_iter().enumerate().map(named("tar")));
    all.extend(
        [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated]
            .map(zipped)
            .into_iter()
            .enumerate()
            .map(named("zip")),
    );
    all.extend(texts(&LISTS).enumerate().map(named("json_list")));
    all.extend(texts(&WORDS).enumerate().map(named("words")));
    all.extend(texts(&SETTINGS).enumerate().map(named("kylin_settings")));
    let values = [&b""[..], b"plain", b"{\"uuid\":\"a\"}", &[b'x'; 500]];
    all.extend(
        values
            .iter()
            .flat_map(|value| [value.to_vec(), encoding::encode(value)])
            .enumerate()
            .map(named("kylin_encoding")),
    );
    all.extend(texts(&PATCHES).enumerate().map(named("kylin_patch")));
    all.extend(DOCUMENTS.iter().map(document).enumerate().map(named("kylin_document")));
    all
}

fn codec() -> Codec {
    Codec::new(COMPRESSION_LEVEL)
}

fn texts<'a>(texts: &'a [&'a str]) -> impl Iterator<Item = Vec<u8>> + 'a {
    texts.iter().map(|text| text.as_bytes().to_vec())
}

fn path(path: &str) -> EntryPath {
    EntryPath::new(path.as_bytes()).unwrap()
}

fn document((tree, name): &(&str, &str)) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(tree).join(name);
    [name.as_bytes(), b"\n", &fs::read(file).unwrap()].concat()
}

fn manifest() -> Manifest {
    Manifest {
        time_ms: 1_700_000_000_000,
        scan_ms: 1_699_999_999_000,
        host: "host".to_owned(),
        user: "user".to_owned(),
        program: "metastash".to_owned(),
        store: "/data".to_owned(),
        layout: "plain".to_owned(),
        scope: Scope::System,
        parent: None,
        label: None,
        tags: BTreeMap::new(),
        reason: Reason::Backup,
        tree: ChunkId::of(b"tree"),
        root: Root::from_bytes([3; 32]),
        documents: 2,
        bytes: 300,
        counts: Counts { new: 1, changed: 1, removed: 0, unread: 0, skipped: 0 },
        position: None,
        archive: None,
        verified: None,
    }
}

fn full_manifest(reason: Reason) -> Manifest {
    let open = vec![OpenIds { first: 3, last: 4, missed_ms: 5 }];
    Manifest {
        layout: "kylin".to_owned(),
        scope: Scope::Project(path("sales")),
        parent: Some(SnapshotId::of(b"parent")),
        label: Some("nightly".to_owned()),
        tags: [("a".to_owned(), "b".to_owned())].into(),
        reason,
        position: Some(LogPosition { last: 9, mark: 7, open, tops: [("t".to_owned(), 2)].into(), beside: 1 }),
        archive: Some(LogArchive { after: 1, last: 9, is_complete: true, chunks: vec![ChunkId::of(b"log")] }),
        verified: Some(path("sales/MODEL/m")),
        ..manifest()
    }
}

fn directory() -> Directory {
    let mut directory = Directory::default();
    directory.push(FrameKind::Documents, 100, &[40, 0, 300], &[1, 2, u64::MAX]);
    directory.push(FrameKind::Trees, 7, &[9], &[4]);
    directory
}

fn repo_files() -> Vec<Vec<u8>> {
    let codec = codec();
    let lost = LostDocument {
        path: path("p/a"),
        chunks: vec![ChunkId::of(b"1"), ChunkId::of(b"2")],
        snapshots: [SnapshotId::of(b"x")].into(),
    };
    let replayed = Replayed { moment: Moment::Time(77), last: 3, records: 2 };
    vec![
        config::encode(&Config { id: [7; 16], created_ms: 5, grace_secs: 86_400 }, &codec),
        mark::encode(PackId::of(b"pack"), Cause::Repacked, 77, &codec),
        loss::encode(&Loss { time_ms: 7, documents: vec![lost], trees: [SnapshotId::of(b"y")].into() }, &codec),
        snapshot::encode(&manifest(), &codec),
        snapshot::encode(&full_manifest(Reason::CheckpointBefore(SnapshotId::of(b"z"))), &codec),
        snapshot::encode(&full_manifest(Reason::Replayed(replayed)), &codec),
        index::encode(iter::once((PackId::of(b"pack"), 99, &directory())), &codec),
    ]
}

fn pack_tails() -> Vec<Vec<u8>> {
    [Directory::default(), directory()]
        .map(|directory| pack::encode_tail(&directory, &[7; SALT_BYTES], &codec()))
        .to_vec()
}

fn nodes() -> Vec<Vec<u8>> {
    let summary = ProjectSummary { root: Root::from_bytes([1; 32]), documents: 1, bytes: 2 };
    let projects: Projects = [(b"sales".to_vec().into_boxed_slice(), summary)].into();
    let leaf = |first: &str| LeafRef { id: ChunkId::of(first.as_bytes()), first: path(first), records: 5 };
    vec![
        tree::encode_tree([ChunkId::of(b"run"), ChunkId::of(b"other")].into_iter(), &projects),
        tree::encode_tree(iter::empty(), &Projects::new()),
        tree::encode_run(&[leaf("a/b"), leaf("c")]),
    ]
}

fn records() -> Vec<Record> {
    let body = |pieces: Vec<ChunkId>| {
        Body::Document(Document { content: ContentId::of(b"content"), size: 300, pieces: pieces.into() })
    };
    let entry = |name: &str, body, encoding, version| {
        let stamp = Stamp { time_ns: 1_700_000_000_123_000_000, version, identity: 9 };
        Record::Present(Entry { path: path(name), body, mode: Some(0o644), encoding, stamp })
    };
    vec![
        entry("a", Body::Directory, Encoding::Plain, 0),
        entry("a/one.json", body(vec![]), Encoding::Kylin, 4),
        entry("a/two.json", body(vec![ChunkId::of(b"1"), ChunkId::of(b"2")]), Encoding::Plain, 0),
        Record::Removed(path("b")),
    ]
}

fn log_records() -> Vec<LogRecord> {
    let record = |id, change| LogRecord {
        id,
        key: b"MODEL/m".to_vec(),
        change,
        time_ms: 5,
        version: Some(2),
        transaction: "unit".to_owned(),
        operator: Some("ADMIN".to_owned()),
        instance: None,
        project: Some("p".to_owned()),
    };
    vec![
        record(1, LogChange::Content(b"{}".to_vec())),
        record(2, LogChange::Patch(b"[]".to_vec())),
        record(3, LogChange::Unreadable),
        record(4, LogChange::Removed),
    ]
}

fn tars() -> Vec<Vec<u8>> {
    let long = format!("{}/name.json", "folder".repeat(20));
    let made = |is_pax: bool| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in [("a.json", &b"{}"[..]), ("d/b", b"content"), (&long, b"")] {
            let mut header = if is_pax { tar::Header::new_ustar() } else { tar::Header::new_gnu() };
            header.set_mode(0o644);
            header.set_mtime(1_700_000_000);
            header.set_size(content.len() as u64);
            if is_pax && name.len() < 100 {
                tar.append_pax_extensions([("mtime", &b"1700000000.5"[..]), ("path", name.as_bytes())]).unwrap();
            }
            if name.len() < 100 || !is_pax {
                tar.append_data(&mut header, name, content).unwrap();
            }
        }
        tar.into_inner().unwrap()
    };
    let plain = made(false);
    vec![zstd::bulk::compress(&plain, 3).unwrap(), plain, made(true)]
}

fn zipped(method: zip::CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    zip.add_directory("d/", options).unwrap();
    for (name, content) in [("/a.json", &b"{}"[..]), ("d/b", &[b'x'; 200]), ("UUID", b"")] {
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

const REPO_NAMES: [&str; 2] = [
    "20231114T221320.123Z-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\
     20231114T221320.123Z-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff-20231114T221420.007Z\n\
     00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff-0011\n",
    "notes.txt\n-\n",
];

const LISTS: [&str; 3] = [
    "[]",
    "[{\"id\":1,\"meta_table_key\":\"/p/a.json\",\"meta_table_content\":{\"a\":[1,2.50]},\"meta_table_ts\":5},\
      {\"id\":2,\"meta_key\":\"/p/a.json\",\"meta_content\":null,\"meta_ts\":6},{\"other\":0}]",
    "\u{feff}[{\"meta_table_key\":\"_rows/1.json\",\"meta_table_content\":\"text\"},7,{}]\n",
];

const WORDS: [&str; 8] = [
    "/a/0/b~1c~0",
    "latest~3",
    ID,
    "sales/model_desc/x.json",
    "MODEL/m.json",
    "_global/project/p.json",
    "",
    "a\u{7f}\n",
];

const SETTINGS: [&str; 7] = [
    "kylin_metadata@jdbc,driverClassName=com.mysql.cj.jdbc.Driver,url='jdbc:mysql://a:1,b/c?x=%20y',username=u,password='p,q'",
    "k@jdbc,url=jdbc:postgresql://[::1]:5432/db?user=u&password=w",
    "/data/meta@file,zip=1",
    "k@hdfs,path=hdfs://n/x",
    "postgres://u:p@h:5432/db?table=kylin_metadata",
    "mysql://u@h/db",
    "# c\nkylin.metadata.url = a@\\\n  jdbc\nk\\u0041=\\t\n",
];

const PATCHES: [&str; 4] = [
    "{\"a\":[1,2.50,{\"b\":null}],\"c\":\"\\u00e9\"}",
    "{\"a\":[1]}\n\n[{\"op\":\"add\",\"path\":\"/a/-\",\"value\":{\"x\":[]}},{\"op\":\"test\",\"path\":\"/a/0\",\"value\":1}]",
    "{\"a\":{\"b\":1}}\n\n[{\"op\":\"move\",\"from\":\"/a/b\",\"path\":\"/c\"},{\"op\":\"copy\",\"from\":\"/c\",\"path\":\"/d\"}]",
    "{\"a\":[1,2]}\n\n[{\"op\":\"remove\",\"path\":\"/a/0\"},{\"op\":\"replace\",\"path\":\"\",\"value\":[]}]",
];
