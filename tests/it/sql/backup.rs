//! What a backup of a database holds, however odd its rows are.

use std::collections::BTreeMap;
use std::sync::Mutex;

use metastash::model::entry::Encoding;
use metastash::model::scope::Scope;
use metastash::monitor::{Monitor, Problem, Severity, Silent, Task};
use metastash::ops::backup::{BackupOptions, backup};
use metastash::ops::browse;
use metastash::ops::diff::diff_live;
use serde_json::Value as Json;

use super::connection::{BOTH, Connection, Kind};
use super::encoding::{Compress, encode};
use super::kylin_db::{ID, create_new, create_old, dump, load_side_folders, load_tree, read_tree};
use super::kylin_tables::Release;
use super::saving::{
    Generation, Ran, Shell, all_cases, assert_as_fresh, assert_holds, back_up, by_version, filled, fixture, forced,
    hex, open, plain,
};
use super::servers::{Db, Server, scratch_database};
use crate::support::{assert_sound, contents, create, entries, noise, path, project};

/// Hears of problems.
#[derive(Default)]
struct Told(Mutex<Vec<Problem>>);

impl Monitor for Told {
    fn start(&self, _: Task, _: Option<u64>) {}

    fn advance(&self, _: u64) {}

    fn problem(&self, problem: &Problem) {
        self.0.lock().unwrap().push(problem.clone());
    }
}

impl Told {
    /// Returns path and words of all problems of a severity, sorted.
    fn of(&self, severity: Severity) -> Vec<(String, String)> {
        let problems = self.0.lock().unwrap();
        let those = problems.iter().filter(|problem| problem.severity == severity);
        let mut those: Vec<_> = those.map(|problem| (problem.path.clone(), problem.what.clone())).collect();
        those.sort();
        those.dedup();
        those
    }
}

/// Sets the content of a document of the kind SYSTEM or of the old table, with a new version.
fn set_content(db: &Db, generation: Generation, key: &str, content: &[u8]) {
    let content = hex(db.kind, content);
    db.execute(&match generation {
        Generation::New => format!(
            "INSERT INTO {ID}_user_group (meta_key, uuid, mvcc, ts, content) VALUES ('{key}', '{key}', 0, 5, {content})"
        ),
        Generation::Old => format!("INSERT INTO {ID} VALUES ('/_global/user_group/{key}', {content}, 5, 0)"),
    });
}

fn group(generation: Generation, key: &str) -> String {
    match generation {
        Generation::New => format!("_global/USER_GROUP/{key}"),
        Generation::Old => format!("_global/user_group/{key}"),
    }
}

#[test]
fn snapshot_is_what_files_of_the_same_would_be() {
    for (kind, generation) in all_cases() {
        let mut roots = Vec::new();
        for compress in [Compress::All, Compress::None, Compress::Mixed] {
            let (db, (_, repo)) = (scratch_database(kind), create());
            let folder = match generation {
                Generation::New => {
                    create_new(&db, ID, Release::V502);
                    "learn_kylin"
                }
                Generation::Old => {
                    create_old(&db, ID);
                    "kylin_old"
                }
            };
            load_tree(&db, ID, &fixture(folder), compress);
            let report = back_up(&db, &repo, &plain());
            let rows = dump(&db, ID);
            assert_holds(&repo, &report.snapshot, &rows);
            assert!(report.remarks.is_empty(), "{:?}", report.remarks);
            let mut encoded = 0;
            for entry in entries(&repo, &report.snapshot).unwrap() {
                encoded += usize::from(entry.encoding == Encoding::Kylin);
                assert!(entry.stamp.version > 0 && entry.stamp.time_ns > 0, "{entry:?}");
            }
            assert_eq!(encoded, rows.values().filter(|row| row.stored.starts_with(b"GZIP")).count());
            roots.push(report.snapshot.manifest.root);
            let mut listed = 0;
            browse::list(&repo, &report.snapshot, &Scope::System, None, |_| {
                listed += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(listed, rows.len());
            assert_sound(&repo);
        }
        assert!(roots[0] == roots[1] && roots[1] == roots[2]);
    }
    // The same documents in files, but for what only backups have.
    let (db, shell) = (filled(Kind::MySql, Generation::New), Shell::new());
    for (name, content) in read_tree(&fixture("learn_kylin")) {
        let file = shell.path(&format!("store/{name}.json"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    shell.done(&["backup", "--store", "store"]);
    shell.done(&["backup", "--store", &db.url()]);
    let list = shell.done(&["snapshots", "--json"]);
    let roots: Vec<Json> =
        list.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["root"].clone()).collect();
    assert_eq!(roots.len(), 2, "{list}");
    assert!(roots[0].is_string() && roots[0] == roots[1], "{roots:?}");
}

#[test]
fn content_that_can_not_be_decoded_is_kept_as_it_is_stored() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let whole = encode(br#"{"uuid":"a","name":"a fairly long content that compresses, compresses, compresses"}"#);
        let large = encode(&noise(3, 3 << 20));
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let kept: BTreeMap<&str, Vec<u8>> = [
            ("truncated", whole[..whole.len() - 9].to_vec()),
            ("flipped", flipped),
            ("trailing", [&whole[..], b"x"].concat()),
            ("marked", b"GZIP\x78".to_vec()),
            ("no stream", b"GZIPno stream at all".to_vec()),
            ("truncated large", large[..large.len() - 9].to_vec()),
            ("trailing large", [&large[..], b"x"].concat()),
        ]
        .into();
        for (key, content) in &kept {
            set_content(&db, generation, key, content);
        }
        // These only look odd.
        let fine: BTreeMap<&str, (Vec<u8>, Vec<u8>)> = [
            ("mark only", (b"GZIP".to_vec(), b"GZIP".to_vec())),
            ("empty", (Vec::new(), Vec::new())),
            ("no json", (b"\xff\xfe\0".to_vec(), b"\xff\xfe\0".to_vec())),
            ("bomb", (encode(&vec![b' '; 9 << 20]), vec![b' '; 9 << 20])),
            ("large", (large.clone(), noise(3, 3 << 20))),
        ]
        .into();
        for (key, (stored, _)) in &fine {
            set_content(&db, generation, key, stored);
        }
        let told = Told::default();
        let report = backup(&open(&db.url()), &repo, &plain(), &told).unwrap();
        assert_eq!((report.counts.unread, told.of(Severity::Unread)), (0, Vec::new()));
        let told = told.of(Severity::Remark);
        assert_eq!(told.len(), kept.len(), "{told:?}");
        assert!(told.iter().all(|(_, what)| what.ends_with("it is kept as it is stored")), "{told:?}");
        let found = contents(&repo, &report.snapshot);
        let expected = kept.iter().map(|(key, content)| (*key, content.clone()));
        for (key, content) in expected.chain(fine.iter().map(|(key, (_, content))| (*key, content.clone()))) {
            assert!(told.iter().any(|(path, _)| *path == group(generation, key)) == kept.contains_key(key), "{key}");
            assert!(found[group(generation, key).as_bytes()].as_ref() == Some(&content), "{key}");
        }
        for entry in entries(&repo, &report.snapshot).unwrap() {
            if let Some(key) = kept.keys().find(|key| entry.path == path(group(generation, key))) {
                assert_eq!(entry.encoding, Encoding::Plain, "{key}");
            }
        }
        assert_eq!(back_up(&db, &repo, &by_version()).read, 0, "it is not looked at again and again");
        assert_as_fresh(&db, &repo, &back_up(&db, &repo, &forced()));
        let differing =
            diff_live(&repo, &report.snapshot, &open(&db.url()), &Scope::System, &Silent, |_| Ok(())).unwrap();
        assert!(!differing.is_different(), "{differing:?}");
        let shell = Shell::new();
        let ran = shell.run(&["backup", "--store", &db.url()]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stderr.contains("the compressed content ends too early; it is kept as it is stored"), "{ran:?}");
        let said = shell.done(&["diff", "latest", "live", "--exit-code", "--store", &db.url()]);
        assert!(!said.contains("truncated"), "{said}");
        let marked = format!("latest:{}", group(generation, "marked"));
        assert_eq!(shell.done(&["cat", &marked]), "GZIPx");
        shell.done(&["export", "latest", "out"]);
    }
}

#[test]
fn content_that_is_null_is_an_empty_document() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let (sql, count) = match generation {
            // These two tables of the new generation allow it.
            Generation::New => (
                format!("UPDATE {ID}_table_model_relation SET content = NULL"),
                format!("SELECT count(*) FROM {ID}_table_model_relation"),
            ),
            Generation::Old => (
                format!("UPDATE {ID} SET META_TABLE_CONTENT = NULL WHERE META_TABLE_KEY LIKE '/_global/user/%'"),
                format!("SELECT count(*) FROM {ID} WHERE META_TABLE_CONTENT IS NULL"),
            ),
        };
        db.execute(&sql);
        let count = usize::try_from(db.number(&count)).unwrap();
        let report = back_up(&db, &repo, &plain());
        assert_eq!((report.counts.unread, report.remarks.len()), (0, count));
        assert!(report.remarks.iter().all(|remark| remark.what.contains("its content is NULL")));
        let empty = contents(&repo, &report.snapshot).values().filter(|content| **content == Some(Vec::new())).count();
        assert_eq!(empty, count);
        if generation == Generation::Old {
            db.execute(&format!("UPDATE {ID} SET META_TABLE_TS = NULL, META_TABLE_MVCC = NULL"));
            let report = back_up(&db, &repo, &plain());
            assert_eq!(report.counts.unread, 0);
        }
    }
}

#[test]
fn keys_that_can_be_no_path_are_unread_and_all_else_is_there() {
    for (kind, generation) in all_cases() {
        let (db, shell) = (filled(kind, generation), Shell::new());
        let before = dump(&db, ID).len();
        let bad = ["a/b", "..", ".", ""];
        for key in bad {
            match generation {
                Generation::New => set_content(&db, generation, key, b"{}"),
                // All of these are names of files there, but for what leads elsewhere.
                Generation::Old => {
                    let key = if key == "a/b" { "no slash" } else { key };
                    db.execute(&format!("INSERT INTO {ID} VALUES ('{key}', {}, 1, 0)", hex(kind, b"{}")));
                }
            }
        }
        if generation == Generation::Old {
            for key in ["/", "/a/../b", "//a", "/a/"] {
                db.execute(&format!("INSERT INTO {ID} VALUES ('{key}', {}, 1, 0)", hex(kind, b"{}")));
            }
        }
        let unread = if generation == Generation::New { 4 } else { 8 };
        let ran = shell.run(&["backup", "--store", &db.url()]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert_eq!((ran.stdout + &ran.stderr).matches("its key can be no path").count(), unread);
        let (_, repo) = create();
        let report = back_up(&db, &repo, &plain());
        assert_eq!((report.counts.unread, report.snapshot.manifest.documents), (unread as u64, before as u64));
    }
}

#[test]
fn keys_of_any_bytes_are_paths() {
    // What is no UTF-8 can only be in columns of bytes, or in a database that does not care.
    for kind in BOTH {
        let db = match kind {
            Kind::PostgreSql => Server::shared(kind).scratch_database_of_bytes(),
            Kind::MySql => scratch_database(kind),
        };
        for generation in [Generation::New, Generation::Old] {
            super::saving::fill(&db, ID, generation);
            let insert = |key: &str| match generation {
                Generation::New => format!(
                    "INSERT INTO {ID}_user_group (meta_key, uuid, mvcc, ts, content) VALUES ({key}, {key}, 0, 1, {})",
                    hex(kind, b"{}")
                ),
                Generation::Old => format!("INSERT INTO {ID} VALUES ({key}, {}, 1, 0)", hex(kind, b"{}")),
            };
            let slash = if generation == Generation::New { "" } else { "/_global/user_group/" };
            let (first, second) = match kind {
                // Each is what the other is not.
                Kind::PostgreSql => (format!("E'{slash}\\xff\\xfe'"), format!("E'{slash}\\xe4'")),
                Kind::MySql => {
                    let table = if generation == Generation::New { format!("{ID}_user_group") } else { ID.to_owned() };
                    let column = if generation == Generation::New { "meta_key" } else { "META_TABLE_KEY" };
                    db.execute(&format!("ALTER TABLE {table} MODIFY {column} varbinary(255) NOT NULL"));
                    let text = |bytes: &[u8]| hex(kind, &[slash.as_bytes(), bytes].concat());
                    (text(b"\xff\xfe"), text(b"\xe4"))
                }
            };
            if kind == Kind::MySql && generation == Generation::New {
                db.execute(&format!("ALTER TABLE {ID}_user_group MODIFY uuid varbinary(64) NOT NULL"));
            }
            // Through a connection that sends the bytes as they are.
            let mut connection = db.connect();
            if kind == Kind::PostgreSql {
                connection.batch("SET client_encoding TO SQL_ASCII").unwrap();
            }
            connection.batch(&insert(&first)).unwrap();
            connection.batch(&insert(&second)).unwrap();
            let (_, repo) = create();
            if generation == Generation::Old {
                db.execute(&drop_new_tables());
            }
            let report = back_up(&db, &repo, &plain());
            assert_eq!(report.counts.unread, 0);
            let found = contents(&repo, &report.snapshot);
            for bytes in [&b"\xff\xfe"[..], b"\xe4"] {
                let name = [group(generation, "").as_bytes(), bytes].concat();
                assert!(found.contains_key(&name), "{kind:?} {generation:?} {bytes:?}");
            }
            assert_eq!(back_up(&db, &repo, &by_version()).read, 0);
            assert_sound(&repo);
        }
    }
}

fn drop_new_tables() -> String {
    super::kylin_tables::TABLES.iter().map(|table| format!("DROP TABLE {ID}_{};", table.suffix())).collect()
}

#[test]
fn texts_of_other_character_sets_are_the_same_paths() {
    let db = filled(Kind::MySql, Generation::New);
    set_content(&db, Generation::New, "x", b"{}");
    db.execute(&format!("UPDATE {ID}_user_group SET meta_key = 'Größe' WHERE meta_key = 'x'"));
    for charset in ["latin1", "utf8mb4", "ucs2"] {
        db.execute(&format!(
            "ALTER TABLE {ID}_user_group MODIFY meta_key varchar(191) CHARACTER SET {charset} NOT NULL"
        ));
        let (_, repo) = create();
        let report = back_up(&db, &repo, &plain());
        assert!(contents(&repo, &report.snapshot).contains_key("_global/USER_GROUP/Größe".as_bytes()), "{charset}");
    }
    let db = filled(Kind::MySql, Generation::Old);
    db.execute(&format!("INSERT INTO {ID} VALUES ('/_global/user/Größe', '{{}}', 1, 0)"));
    for charset in ["latin1", "utf8mb4", "ucs2"] {
        db.execute(&format!("ALTER TABLE {ID} MODIFY META_TABLE_KEY varchar(191) CHARACTER SET {charset} NOT NULL"));
        let (_, repo) = create();
        let report = back_up(&db, &repo, &plain());
        assert_holds(&repo, &report.snapshot, &dump(&db, ID));
    }
}

#[test]
fn projects_that_can_be_none_are_told_and_their_documents_kept() {
    for kind in BOTH {
        let (db, (_, repo)) = (filled(kind, Generation::New), create());
        let before = dump(&db, ID).len() as u64;
        for (n, project) in ["", "a/b", "..", "_global", "_unplaced", "_files", "not there"].into_iter().enumerate() {
            db.execute(&format!(
                "INSERT INTO {ID}_acl (project, meta_key, uuid, mvcc, ts, content) VALUES ('{project}', 'k{n}', 'k{n}', 0, 1, {})",
                hex(kind, b"{}")
            ));
        }
        // Permissions of a project that is not there.
        db.execute(&format!(
            "INSERT INTO {ID}_object_acl (meta_key, uuid, mvcc, ts, content) VALUES ('nobody', 'k', 0, 1, {})",
            hex(kind, b"{}")
        ));
        let told = Told::default();
        let report = backup(&open(&db.url()), &repo, &plain(), &told).unwrap();
        assert_eq!((report.counts.unread, report.snapshot.manifest.documents), (0, before + 8));
        let remarks = told.of(Severity::Remark);
        assert_eq!(remarks.len(), 5, "{remarks:?}");
        assert!(
            remarks
                .iter()
                .all(|(path, what)| path.starts_with("_unplaced/ACL/k") && what.contains("its project can't be told"))
        );
        let found = contents(&repo, &report.snapshot);
        for path in ["_global/ACL/k3", "not there/ACL/k6", "_global/OBJECT_ACL/nobody"] {
            assert!(found.contains_key(path.as_bytes()), "{path}");
        }
        let again = back_up(&db, &repo, &by_version());
        assert_eq!((again.read, again.remarks.len()), (0, 5), "they are told each time");
    }
}

#[test]
fn permissions_that_could_be_of_several_projects_are_of_none() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let acl = match generation {
            Generation::New => {
                if kind == Kind::PostgreSql {
                    db.execute(&format!("ALTER TABLE {ID}_project DROP CONSTRAINT {ID}_PROJECT_UK1"));
                } else {
                    db.execute(&format!("ALTER TABLE {ID}_project DROP KEY {ID}_PROJECT_UK1"));
                }
                let uuid = db.query(&format!("SELECT uuid FROM {ID}_project WHERE meta_key = 'retail'"), &[]);
                let uuid = uuid[0][0].text().unwrap().to_owned();
                db.execute(&format!("UPDATE {ID}_project SET uuid = '{uuid}'"));
                uuid
            }
            Generation::Old => {
                let sql =
                    format!("SELECT META_TABLE_KEY FROM {ID} WHERE META_TABLE_KEY LIKE '/_global/acl/%' ORDER BY 1");
                let key = db.query(&sql, &[])[0][0].text().unwrap().to_owned();
                let uuid = key.rsplit('/').next().unwrap().to_owned();
                let content = hex(kind, format!("{{\"uuid\":\"{uuid}\"}}").as_bytes());
                db.execute(&format!(
                    "UPDATE {ID} SET META_TABLE_CONTENT = {content} WHERE META_TABLE_KEY LIKE '/_global/project/%'"
                ));
                uuid
            }
        };
        let report = back_up(&db, &repo, &plain());
        let found = contents(&repo, &report.snapshot);
        let path = match generation {
            Generation::New => format!("_global/OBJECT_ACL/{acl}"),
            Generation::Old => format!("_global/acl/{acl}"),
        };
        assert!(found.contains_key(path.as_bytes()), "{path}");
        if generation == Generation::New {
            assert!(report.remarks.iter().any(|remark| remark.what.contains("several projects have this UUID")));
        }
        assert_as_fresh(&db, &repo, &back_up(&db, &repo, &by_version()));
    }
}

#[test]
fn keys_that_differ_in_case_are_two() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        if (kind, generation) == (Kind::MySql, Generation::New) {
            // Its own index allows one of them only.
            db.execute(&format!("ALTER TABLE {ID}_user_group MODIFY meta_key varchar(255) COLLATE utf8_bin NOT NULL"));
        }
        set_content(&db, generation, "one", b"{\"n\":1}");
        set_content(&db, generation, "ONE", b"{\"n\":2}");
        let report = back_up(&db, &repo, &plain());
        assert_eq!(report.counts.unread, 0);
        let found = contents(&repo, &report.snapshot);
        assert_eq!(found[group(generation, "one").as_bytes()].as_deref(), Some(&b"{\"n\":1}"[..]));
        assert_eq!(found[group(generation, "ONE").as_bytes()].as_deref(), Some(&b"{\"n\":2}"[..]));
        assert_as_fresh(&db, &repo, &back_up(&db, &repo, &by_version()));
    }
}

#[test]
fn row_whose_key_is_there_twice_is_told() {
    for kind in BOTH {
        let (db, (_, repo)) = (filled(kind, Generation::New), create());
        db.execute(&match kind {
            Kind::PostgreSql => format!("ALTER TABLE {ID}_user_group DROP CONSTRAINT {ID}_USER_GROUP_UK2"),
            Kind::MySql => format!("ALTER TABLE {ID}_user_group DROP KEY {ID}_USER_GROUP_UK2"),
        });
        db.execute(&format!(
            "INSERT INTO {ID}_user_group (meta_key, uuid, mvcc, ts, content) VALUES ('ALL_USERS', 'k', 0, 1, {})",
            hex(kind, b"{}")
        ));
        let told = Told::default();
        let report = backup(&open(&db.url()), &repo, &plain(), &told).unwrap();
        assert_eq!(report.counts.unread, 1);
        assert_eq!(told.of(Severity::Unread)[0].1, "there is another row of this key");
    }
}

#[test]
fn large_documents_go_through_in_pieces() {
    for kind in BOTH {
        let server = Server::start(kind);
        if kind == Kind::MySql {
            server.command("", "SET GLOBAL max_allowed_packet = 268435456");
        }
        for generation in [Generation::New, Generation::Old] {
            let db = super::saving::filled_in(&server, generation);
            let mut connection = Connection::open(&db.url()).unwrap();
            // One hundred megabytes that do not compress, plain; and some that do, encoded.
            let large = noise(9, if generation == Generation::New { 100 << 20 } else { 9 << 20 });
            let soft: Vec<u8> = noise(10, 100 << 10).repeat(200);
            for (key, content) in [
                ("large", large.clone()),
                ("soft", encode(&soft)),
                ("packet", noise(11, 900_000)),
                ("more", noise(12, 1_000_000)),
            ] {
                let (sql, key) = match generation {
                    Generation::New => (
                        format!(
                            "INSERT INTO {ID}_user_group (meta_key, uuid, mvcc, ts, content) VALUES (?, ?, 0, 5, ?)"
                        ),
                        key.to_owned(),
                    ),
                    Generation::Old => (
                        format!(
                            "INSERT INTO {ID} (META_TABLE_KEY, META_TABLE_TS, META_TABLE_MVCC, META_TABLE_CONTENT) VALUES (?, ?, 0, ?)"
                        ),
                        format!("/_global/user_group/{key}"),
                    ),
                };
                let second = match generation {
                    Generation::New => key.as_str().into(),
                    Generation::Old => 5.into(),
                };
                connection.execute(&sql, &[key.as_str().into(), second, content.into()]).unwrap();
            }
            drop(connection);
            if kind == Kind::MySql {
                server.command("", "SET GLOBAL max_allowed_packet = 1048576");
            }
            let (_, repo) = create();
            let report = back_up(&db, &repo, &plain());
            assert_eq!((report.counts.unread, report.remarks.len()), (0, 0));
            let found = contents(&repo, &report.snapshot);
            assert!(found[group(generation, "large").as_bytes()].as_ref() == Some(&large));
            assert!(found[group(generation, "soft").as_bytes()].as_ref() == Some(&soft));
            assert!(found[group(generation, "more").as_bytes()].as_ref() == Some(&noise(12, 1_000_000)));
            drop(found);
            let differing =
                diff_live(&repo, &report.snapshot, &open(&db.url()), &Scope::System, &Silent, |_| Ok(())).unwrap();
            assert!(!differing.is_different());
            assert_eq!(back_up(&db, &repo, &by_version()).read, 0);
            if kind == Kind::MySql {
                server.command("", "SET GLOBAL max_allowed_packet = 268435456");
            }
        }
    }
}

#[test]
fn command_needs_no_memory_for_a_large_document() {
    // Half of what the document has would not be enough to hold it once.
    const LARGE_BYTES: usize = 100 << 20;
    const MEMORY_KIB_MAX: u64 = 150 << 10;
    let db = filled(Kind::PostgreSql, Generation::New);
    let content = noise(5, LARGE_BYTES);
    let sql =
        format!("INSERT INTO {ID}_user_group (meta_key, uuid, mvcc, ts, content) VALUES ('large', 'large', 0, 5, ?)");
    db.with(|connection| connection.execute(&sql, &[content.into()]));
    let shell = Shell::new();
    let mut command = shell.command(&["backup", "--store", &db.url()]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    assert!(peak_kib > 0 && peak_kib < MEMORY_KIB_MAX, "{peak_kib} KiB");
}

#[test]
fn jobs_rules_and_offsets_are_documents() {
    for kind in BOTH {
        let (db, (_, repo)) = (scratch_database(kind), create());
        create_new(&db, ID, Release::V502);
        load_tree(&db, ID, &fixture("kylin_backup/core_meta"), Compress::All);
        assert_eq!(load_side_folders(&db, ID, &fixture("kylin_backup")), 5);
        let report = back_up(&db, &repo, &plain());
        assert_eq!(report.counts.unread, 0);
        let found = contents(&repo, &report.snapshot);
        let mut seen = 0;
        for folder in ["job_info", "favorite_rule", "query_history_id_offset"] {
            for project in std::fs::read_dir(fixture("kylin_backup").join(folder)).unwrap() {
                let project = project.unwrap();
                for file in std::fs::read_dir(project.path()).unwrap() {
                    let expected: Json = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
                    let prefix = format!("{}/{folder}/", project.file_name().to_str().unwrap());
                    let matching =
                        found.iter().filter(|(name, _)| name.starts_with(prefix.as_bytes())).filter(|(_, content)| {
                            let content = content.as_ref().unwrap();
                            assert!(!content.contains(&b'\n'), "it is one line");
                            let mut json: Json = serde_json::from_slice(content).unwrap();
                            // Ids were given anew, and white space in texts of JSON is not kept.
                            json["id"] = expected["id"].clone();
                            if folder == "job_info" {
                                // No column tells it.
                                assert!(json["jobInfoTable"].is_null());
                                json["jobInfoTable"] = expected["jobInfoTable"].clone();
                            }
                            let parsed = |json: &Json| match &json["jobContentJson"] {
                                Json::String(text) => serde_json::from_str(text).unwrap(),
                                other => other.clone(),
                            };
                            let is_job = parsed(&json) == parsed(&expected);
                            if folder == "job_info" {
                                json["jobContentJson"] = expected["jobContentJson"].clone();
                            }
                            is_job && json == expected
                        });
                    assert_eq!(matching.count(), 1, "{expected}");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 5);
        assert_holds(&repo, &report.snapshot, &dump(&db, ID));
        assert_as_fresh(&db, &repo, &back_up(&db, &repo, &plain()));
    }
}

#[test]
fn job_that_can_not_be_read_is_told_and_all_else_is_there() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::New), Shell::new());
        load_side_folders(&db, ID, &fixture("kylin_backup"));
        let jobs = db.query(&format!("SELECT job_id FROM {ID}_job_info_v2 ORDER BY id"), &[]);
        let job = jobs[0][0].text().unwrap();
        db.execute(&format!(
            "UPDATE {ID}_job_info_v2 SET job_content = {}, mvcc = 7 WHERE job_id = '{job}'",
            hex(kind, b"GZIPxyz")
        ));
        db.execute(&format!("UPDATE {ID}_favorite_rule SET conds = '[{{' WHERE id = (SELECT id FROM (SELECT MIN(id) AS id FROM {ID}_favorite_rule) t)"));
        let documents = dump(&db, ID).len() + 5 - 2;
        let ran = shell.run(&["backup", "--store", &db.url()]);
        assert_eq!(ran.code, 3, "{ran:?}");
        let said = ran.stdout + &ran.stderr;
        for words in [
            "its column job_content can't be decoded",
            "its column conds holds no JSON",
            &format!("/job_info/{job}"),
            &format!("{documents} documents"),
            "the snapshot is incomplete: 2 names",
        ] {
            assert!(said.contains(words), "no `{words}`: {said}");
        }
        shell.run(&["diff", "latest", "live", "--store", &db.url()]);
        shell.run(&["doctor", "live", "--store", &db.url()]);
        // Mended, it is in the next one.
        db.execute(&format!("UPDATE {ID}_job_info_v2 SET job_content = {} WHERE job_id = '{job}'; UPDATE {ID}_favorite_rule SET conds = '[]'", hex(kind, b"{}")));
        assert_eq!(shell.run(&["backup", "--store", &db.url()]).code, 0);
    }
}

#[test]
fn one_project_is_backed_up_alone() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let name = if generation == Generation::New { "learn_kylin" } else { "sales" };
        let whole = back_up(&db, &repo, &plain());
        let within = format!("{name}/");
        let mut expected = contents(&repo, &whole.snapshot);
        expected.retain(|path, _| path.starts_with(within.as_bytes()));
        for (repo, reads) in [(repo, 0), (create().1, expected.len() as u64)] {
            let report = back_up(&db, &repo, &BackupOptions { scope: project(name), ..plain() });
            assert_eq!(report.read, reads);
            assert!(contents(&repo, &report.snapshot) == expected);
            assert_eq!(report.snapshot.manifest.position, None);
            let again = back_up(&db, &repo, &BackupOptions { scope: project(name), verify_of: 0, ..plain() });
            assert_eq!((again.read, again.unchanged), (0, expected.len() as u64));
        }
        let shell = Shell::new();
        shell.run(&["backup", "--project", "nobody", "--store", &db.url()]).fails(1, &["has no project"]);
        shell.done(&["backup", "--project", name, "--store", &db.url()]);
    }
}

#[test]
fn commands_that_read_work_on_databases() {
    for (kind, generation) in all_cases() {
        let (db, shell) = (filled(kind, generation), Shell::new());
        shell.done(&["backup", "--store", &db.url()]);
        let diff = |args: &[&str]| {
            shell.run(&[&["diff", "latest", "live", "--exit-code", "--store", &db.url()], args].concat())
        };
        assert_eq!(diff(&[]).code, 0);
        let rows = dump(&db, ID);
        assert_eq!(shell.done(&["ls", "latest", "--json"]).lines().count(), rows.len());
        let (_, repo) = create();
        let report = back_up(&db, &repo, &plain());
        for (name, content) in contents(&repo, &report.snapshot).iter().take(3) {
            let name = format!("latest:{}", String::from_utf8_lossy(name));
            let output = shell.command(&["cat", &name]).output().unwrap();
            assert!(Some(&output.stdout) == content.as_ref(), "{name}");
        }
        shell.done(&["export", "latest", "out"]);
        let live = shell.run(&["doctor", "live", "--store", &db.url()]);
        let saved = shell.run(&["doctor", "latest"]);
        // The first words name what was examined.
        let said = |ran: &Ran| ran.stdout.split_once(": ").unwrap().1.to_owned();
        assert_eq!((live.code, said(&live)), (saved.code, said(&saved)));
        // A difference is told, with its path.
        match generation {
            Generation::New => {
                db.execute(&format!(
                    "UPDATE {ID}_system SET mvcc = mvcc + 1, content = '{{}}' WHERE meta_key = 'UUID'"
                ));
            }
            Generation::Old => db.execute(&format!(
                "UPDATE {ID} SET META_TABLE_MVCC = 9, META_TABLE_CONTENT = '{{}}' WHERE META_TABLE_KEY = '/UUID'"
            )),
        }
        let ran = diff(&[]);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.stdout.contains("UUID"), "{ran:?}");
    }
}

#[test]
fn doctor_asks_for_many_rows_at_once() {
    let server = Server::start(Kind::MySql);
    let db = super::saving::filled_in(&server, Generation::New);
    for n in 0..500 {
        set_content(
            &db,
            Generation::New,
            &format!("g{n}"),
            format!("{{\"uuid\":\"{n}\",\"group_name\":\"g{n}\"}}").as_bytes(),
        );
    }
    let shell = Shell::new();
    let asked = || -> i64 {
        let rows = db.query(
            "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'QUESTIONS'",
            &[],
        );
        rows[0][0].text().unwrap().parse().unwrap()
    };
    let before = asked();
    shell.run(&["doctor", "live", "--store", &db.url()]);
    let doctor = asked() - before;
    let documents = dump(&db, ID).len() as i64;
    assert!(documents > 500 && doctor < 150, "{doctor} statements for {documents} documents");
    shell.done(&["backup", "--store", &db.url()]);
    let before = asked();
    shell.done(&["diff", "latest", "live", "--store", &db.url()]);
    assert!(asked() - before < 100, "{}", asked() - before);
}
