//! That the stage itself holds.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::connection::{BOTH, Connection, Value};
use super::encoding::{Compress, decode, encode, pretty};
use super::kylin_db::{ID, contents, create_new, create_old, dump, load_side_folders, load_tree, read_tree};
use super::kylin_tables::Release;
use super::servers::{READER, SECURED, Server, scratch_database};

#[test]
fn users_may_do_what_they_are_for() {
    for kind in BOTH {
        let db = scratch_database(kind);
        db.execute(
            "CREATE TABLE things (id bigint PRIMARY KEY, name varchar(255)); INSERT INTO things VALUES (1, 'one')",
        );
        let row = db.query("SELECT id, name FROM things WHERE name = ?", &["one".into()]);
        assert_eq!(row, [[Value::Int(1), "one".into()]]);
        let mut reader = Connection::open(&db.reader_url()).unwrap();
        assert_eq!(reader.number("SELECT count(*) FROM things", &[]).unwrap(), 1);
        assert!(reader.batch("DELETE FROM things").is_err());
        let wrong = db.reader_url().replace(READER.password, "wrong");
        assert!(Connection::open(&wrong).is_err(), "{kind:?}: any password will do");
        assert!(Connection::open(&db.url_of(SECURED)).is_err(), "{kind:?}: TLS is not required");
        assert!(db.server.ca().exists());
    }
}

#[test]
fn databases_are_apart_and_go() {
    for kind in BOTH {
        let (one, other) = (scratch_database(kind), scratch_database(kind));
        one.execute("CREATE TABLE things (id bigint PRIMARY KEY)");
        other.execute("CREATE TABLE things (id bigint PRIMARY KEY)");
        let url = one.url();
        let mut cut = one.connect();
        assert!(one.kill_connections() >= 1);
        assert!(cut.number("SELECT count(*) FROM things", &[]).is_err());
        assert_eq!(one.number("SELECT count(*) FROM things"), 0);
        drop(one);
        assert!(Connection::open(&url).is_err());
        assert_eq!(other.number("SELECT count(*) FROM things"), 0);
    }
}

#[test]
fn a_killed_server_comes_back_with_what_was_committed() {
    for kind in BOTH {
        let server = Server::start(kind);
        let db = server.scratch_database();
        db.execute("CREATE TABLE things (id bigint PRIMARY KEY)");
        let mut connection = db.connect();
        for id in 0..20_i64 {
            connection.execute("INSERT INTO things VALUES (?)", &[id.into()]).unwrap();
        }
        server.kill();
        assert!(connection.batch("SELECT 1").is_err());
        assert!(Connection::open(&db.url()).is_err());
        server.start_again();
        assert_eq!(db.connect().number("SELECT count(*) FROM things", &[]).unwrap(), 20);
    }
}

/// Set for the process that `servers_go_when_their_test_is_killed` starts and kills.
const TO_BE_KILLED: &str = "METASTASH_TEST_TO_BE_KILLED";

#[test]
fn to_be_killed() {
    if std::env::var_os(TO_BE_KILLED).is_some() {
        for kind in BOTH {
            let server = Server::shared(kind);
            println!("server {} {}", server.port(), server.ca().parent().unwrap().display());
        }
        std::thread::sleep(Duration::from_secs(600));
    }
}

#[test]
fn servers_go_when_their_test_is_killed() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sql::stage::to_be_killed", "--nocapture"]).env(TO_BE_KILLED, "1");
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    // The harness writes the name of the test before the first of them.
    let lines = lines.filter_map(|line| Some(line.split_once("server ")?.1.to_owned()));
    let servers: Vec<String> = lines.take(2).collect();
    let servers = servers.iter().map(|line| line.split_once(' ').unwrap());
    let servers: Vec<(u16, &Path)> = servers.map(|(port, path)| (port.parse().unwrap(), Path::new(path))).collect();
    let is_there = |(port, path): &(u16, &Path)| path.exists() || TcpStream::connect(("127.0.0.1", *port)).is_ok();
    assert!(servers.len() == 2 && servers.iter().all(is_there), "{servers:?}");
    process.kill().unwrap();
    process.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while servers.iter().any(is_there) {
        assert!(Instant::now() < until, "it is still there: {servers:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

#[test]
fn contents_are_encoded_as_kylin_does() {
    let content = br#"{"a" : 1}"#;
    let stored = encode(content);
    assert_eq!(&stored[..6], b"GZIP\x78\x01");
    assert_eq!((decode(&stored), decode(content)), (content.to_vec(), content.to_vec()));
    assert_eq!(encode(&stored), stored);
    assert_eq!(encode(b""), b"");
    let json = serde_json::from_slice(content).unwrap();
    assert_eq!(pretty(&json), b"{\n  \"a\" : 1\n}");
}

#[test]
fn a_new_tree_comes_back_as_it_was() {
    let files = read_tree(&fixture("learn_kylin"));
    for kind in BOTH {
        for (release, compress) in
            [(Release::V502, Compress::All), (Release::V500, Compress::None), (Release::V502, Compress::Mixed)]
        {
            let db = scratch_database(kind);
            create_new(&db, ID, release);
            assert_eq!(load_tree(&db, ID, &fixture("learn_kylin"), compress), files.len());
            let rows = dump(&db, ID);
            assert_eq!(contents(&rows), files, "{kind:?}");
            let compressed = rows.values().filter(|row| row.stored.starts_with(b"GZIP")).count();
            match compress {
                Compress::All => assert_eq!(compressed, files.len()),
                Compress::None => assert_eq!(compressed, 0),
                Compress::Mixed => assert!(compressed > 0 && compressed < files.len()),
            }
            let model = &rows["MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac"];
            assert_eq!(model.project.as_deref(), Some("learn_kylin"));
            assert_eq!(model.columns["alias"], "shop_stock".into());
            assert_eq!(model.columns["uuid"], "1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac".into());
            assert!(model.id > 0 && model.mvcc == 0 && model.ts > 1_700_000_000_000);
            let table = &rows["TABLE_INFO/retail.TILLS.STORE"];
            assert_eq!(table.columns.get("db_name"), (release == Release::V502).then_some(&"TILLS".into()));
            let column = &rows["COMPUTE_COLUMN/1f065b2d-6edf-d279-8edf-9abbc9a245d9"].columns;
            let hashed = match release {
                Release::V500 => "488e5625921b78d6f00c60de51baf2ee",
                Release::V502 => "fde8648a4d27d669d2bd6f106f04f544",
            };
            assert_eq!((&column["expression_md5"], &column["reference_count"]), (&hashed.into(), &Value::Null));
        }
    }
}

#[test]
fn an_old_tree_comes_back_as_it_was() {
    let files = read_tree(&fixture("kylin_old"));
    assert!(files.contains_key("/_global/user/ADMIN") && !files.contains_key("/_image"));
    for kind in BOTH {
        let db = scratch_database(kind);
        create_old(&db, ID);
        load_tree(&db, ID, &fixture("kylin_old"), Compress::Mixed);
        assert_eq!(contents(&dump(&db, ID)), files);
    }
}

#[test]
fn side_folders_become_rows() {
    for kind in BOTH {
        let db = scratch_database(kind);
        create_new(&db, ID, Release::V502);
        let files = load_tree(&db, ID, &fixture("kylin_backup/core_meta"), Compress::All);
        assert_eq!(dump(&db, ID).len(), files);
        assert_eq!(load_side_folders(&db, ID, &fixture("kylin_backup")), 5);
        assert_eq!(db.number(&format!("SELECT count(*) FROM {ID}_job_info_v2")), 2);
        let conds = db.query(&format!("SELECT conds FROM {ID}_favorite_rule"), &[]);
        assert!(conds[0][0].text().unwrap().starts_with("[{"));
    }
}
