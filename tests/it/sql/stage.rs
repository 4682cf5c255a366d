//! That the stage itself holds.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::connection::{BOTH, Connection, Value};
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
