//! Backups while others write, and while connections break: a snapshot is the store at one moment, or there is none.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use metastash::ops::follow::Following;
use metastash::repo::Repository;

use super::connection::{BOTH, Connection, Kind};
use super::kylin_client::KylinClient;
use super::kylin_db::{ID, contents as rows_contents, dump};
use super::kylin_units::{check_invariants, model_unit};
use super::saving::{
    Generation, Shell, all_cases, assert_as_fresh, assert_holds, back_up, by_log, by_version, filled, filled_in,
    forced, open, try_back_up,
};
use super::servers::{Db, Server};
use crate::support::{assert_sound, contents, create, snapshots};

const PROJECT: &str = "learn_kylin";

/// Runs writers beside `work`; each of them must never be kept waiting. Returns how many units they did.
fn beside_writers(db: &Db, generation: Generation, work: impl FnOnce()) -> u64 {
    let project = if generation == Generation::New { PROJECT } else { "sales" };
    // Before the rows were locked, a project had one Kylin that wrote to it: no two of these write to one model then.
    let step = if generation == Generation::New { 3 } else { 4 };
    let (is_over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (is_over, done) = (&is_over, &done);
                scope.spawn(move || {
                    let mut client = KylinClient::connect(db, ID);
                    client.attempts = 50;
                    let mut n = writer;
                    while !is_over.load(Ordering::Relaxed) {
                        model_unit(&mut client, project, n).unwrap();
                        done.fetch_add(1, Ordering::Relaxed);
                        n += step;
                    }
                })
            })
            .collect();
        // However this ends, the writers must.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = End(&is_over);
        work();
        drop(end);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    done.load(Ordering::Relaxed)
}

/// Returns the contents of a snapshot by path.
fn documents(
    repo: &Repository,
    snapshot: &metastash::repo::snapshot::Snapshot,
) -> std::collections::BTreeMap<String, Vec<u8>> {
    let all = contents(repo, snapshot).into_iter();
    all.filter_map(|(name, content)| Some((String::from_utf8(name).unwrap(), content?))).collect()
}

#[test]
fn snapshots_are_of_one_moment_while_others_write() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let mut followed = 0;
        let mut models = 0;
        let done = beside_writers(&db, generation, || {
            for n in 0..30 {
                let options = match n % 5 {
                    0 => forced(),
                    1 => by_version(),
                    _ => by_log(),
                };
                let report = back_up(&db, &repo, &options);
                assert_eq!(report.counts.unread, 0);
                followed += u64::from(report.following == Following::Followed);
                let found = check_invariants(&documents(&repo, &report.snapshot));
                models = models.max(found.unwrap_or_else(|torn| panic!("{kind:?} {n}: {torn}")));
            }
        });
        assert!(done > 60 && models > 3 && followed > 3, "{done} units, {models} models, {followed} followed");
        let last = back_up(&db, &repo, &by_log());
        assert_holds(&repo, &last.snapshot, &dump(&db, ID));
        assert_as_fresh(&db, &repo, &last);
        assert_sound(&repo);
    }
}

#[test]
fn several_connections_see_one_moment() {
    // With many documents each connection has something to do.
    let (db, (_, repo)) = (filled(Kind::PostgreSql, Generation::New), create());
    db.execute(&format!(
        "INSERT INTO {ID}_segment (project, meta_key, uuid, model_uuid, mvcc, ts, content) SELECT 'learn_kylin', \
         'filler-' || n, 'filler-' || n, 'm', 0, 1, convert_to('{{\"uuid\":\"' || n || '\",\"x\":\"' || repeat(md5(n::text), 60) \
         || '\"}}', 'UTF8') FROM generate_series(1, 8000) n"
    ));
    let most = AtomicI64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut watcher = db.connect();
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'metastash' AND datname = current_database()";
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(watcher.number(sql, &[]).unwrap(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        beside_writers(&db, Generation::New, || {
            for _ in 0..6 {
                let report = back_up(&db, &repo, &forced());
                check_invariants(&documents(&repo, &report.snapshot)).unwrap();
            }
        });
        is_over.store(true, Ordering::Relaxed);
    });
    // How many there are depends on the processors; more than one is what this is about, where there are.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("{} connections at once, {processors} processors", most.load(Ordering::Relaxed));
    let last = back_up(&db, &repo, &by_version());
    assert_holds(&repo, &last.snapshot, &dump(&db, ID));
}

#[test]
fn nobody_waits_for_a_backup() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let store = open(&db.url());
        // The listing holds its transaction for as long as it lives.
        let listing = metastash::endpoint::Source::scan(
            &store,
            &metastash::model::scope::Scope::System,
            &metastash::monitor::Silent,
        )
        .unwrap();
        let mut reader = listing.reader();
        let mut first = Vec::new();
        reader.read(0, 1 << 20, &mut first).unwrap();
        let mut writer = Connection::open(&db.url()).unwrap();
        writer
            .batch(match kind {
                Kind::PostgreSql => "SET lock_timeout = '1s'",
                Kind::MySql => "SET innodb_lock_wait_timeout = 1",
            })
            .unwrap();
        let table = if generation == Generation::New { format!("{ID}_system") } else { ID.to_owned() };
        let column = if generation == Generation::New { "ts" } else { "META_TABLE_TS" };
        writer
            .batch(&format!("BEGIN; UPDATE {table} SET {column} = {column} + 1; DELETE FROM {table}; ROLLBACK"))
            .unwrap();
        if kind == Kind::PostgreSql {
            let locks = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'metastash' \
                         AND a.datname = current_database() AND l.locktype IN ('relation', 'tuple') AND l.mode <> 'AccessShareLock'";
            assert_eq!(writer.number(locks, &[]).unwrap(), 0);
            let writes = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'metastash' AND \
                          datname = current_database() AND backend_xid IS NOT NULL";
            assert_eq!(writer.number(writes, &[]).unwrap(), 0, "no transaction of ours has written");
        }
        drop(reader);
        drop(listing);
        let mut client = KylinClient::connect(&db, ID);
        let mut n = 0;
        let done = AtomicU64::new(0);
        while n < 10 {
            model_unit(&mut client, if generation == Generation::New { PROJECT } else { "sales" }, n).unwrap();
            back_up(&db, &repo, &by_log());
            n += 1;
            done.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(client.retries, 0);
    }
}

/// Takes connections to a server, and cuts all of them after so many bytes from it.
struct Cutter {
    port: u16,
    left: Arc<AtomicI64>,
}

impl Cutter {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let shared = Arc::clone(&left);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
                let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from_client, &mut to_server);
                    let _ = to_server.shutdown(Shutdown::Both);
                });
                let (left, mut server, mut client) = (Arc::clone(&shared), server, client);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = server.read(&mut buffer) {
                        let rest = left.fetch_sub(count as i64, Ordering::SeqCst);
                        if rest < count as i64 || client.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = server.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, left }
    }
}

#[test]
fn cut_connection_is_a_clear_failure_and_leaves_no_snapshot() {
    for (kind, generation) in all_cases() {
        let (db, (_, repo)) = (filled(kind, generation), create());
        let cutter = Cutter::start(db.server.port());
        // In the clear the bytes are those of the server's answers.
        let off = if kind == Kind::PostgreSql { "sslmode=disable" } else { "ssl-mode=DISABLED" };
        let url =
            format!("{}?{off}", db.url().replace(&format!(":{}/", db.server.port()), &format!(":{}/", cutter.port)));
        let before = i64::MAX;
        cutter.left.store(before, Ordering::SeqCst);
        let whole = try_back_up(&url, &repo, &forced()).unwrap();
        let bytes = before - cutter.left.load(Ordering::SeqCst);
        let count = snapshots(&repo).len();
        let steps = 12;
        for step in 0..steps {
            cutter.left.store(bytes * step / steps, Ordering::SeqCst);
            let error = try_back_up(&url, &repo, &forced()).err().unwrap_or_else(|| panic!("{step}: it was done"));
            let is_lost = match &error {
                metastash::ops::Error::Endpoint(metastash::endpoint::Error::Database { source, .. }) => {
                    source.fault == metastash::endpoint::sql::Fault::Unreachable
                }
                _ => false,
            };
            assert!(is_lost, "{kind:?} {step}: {error:?}");
            assert_eq!(snapshots(&repo).len(), count);
        }
        cutter.left.store(i64::MAX, Ordering::SeqCst);
        let again = try_back_up(&url, &repo, &forced()).unwrap();
        assert_eq!(again.snapshot.manifest.root, whole.snapshot.manifest.root);
        assert_sound(&repo);
        let shell = Shell::new();
        shell.done(&["init"]);
        cutter.left.store(bytes / 2, Ordering::SeqCst);
        shell.run(&["backup", "--force", "--store", &url]).fails(20, &["hint: is the server up"]);
    }
}

#[test]
fn killed_connections_and_servers_are_survived() {
    for kind in BOTH {
        let server = Server::start(kind);
        let db = filled_in(&server, Generation::New);
        for n in 0..300 {
            db.execute(&format!(
                "INSERT INTO {ID}_user_group (meta_key, uuid, mvcc, ts, content) VALUES ('g{n}', 'g{n}', 0, 1, '{{\"n\":\"{}\"}}')",
                "x".repeat(5000)
            ));
        }
        let (_, repo) = create();
        let rows = rows_contents(&dump(&db, ID)).len() as u64;
        // Someone ends our connections again and again: each backup is whole or is none.
        let (is_over, mut failed) = (AtomicBool::new(false), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    db.kill_connections();
                    std::thread::sleep(Duration::from_millis(25));
                }
            });
            for _ in 0..25 {
                let before = snapshots(&repo).len();
                match try_back_up(&db.url(), &repo, &forced()) {
                    Ok(report) => assert_eq!(report.snapshot.manifest.documents, rows),
                    Err(metastash::ops::Error::Endpoint(metastash::endpoint::Error::Database { source, .. })) => {
                        assert_eq!(source.fault, metastash::endpoint::sql::Fault::Unreachable, "{source}");
                        assert_eq!(snapshots(&repo).len(), before);
                        failed += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        println!("{kind:?}: {failed} of 25 failed");
        server.kill();
        assert!(try_back_up(&db.url(), &repo, &forced()).is_err());
        server.start_again();
        let report = back_up(&db, &repo, &forced());
        assert_eq!((report.snapshot.manifest.documents, report.counts.unread), (rows, 0));
        assert_sound(&repo);
    }
}

#[test]
fn server_that_stops_meanwhile_is_unreachable() {
    for kind in BOTH {
        let server = Server::start(kind);
        let (db, (_, repo)) = (filled_in(&server, Generation::New), create());
        for is_killed in [true, false] {
            let store = open(&db.url());
            let listing = metastash::endpoint::Source::scan(
                &store,
                &metastash::model::scope::Scope::System,
                &metastash::monitor::Silent,
            )
            .unwrap();
            if is_killed {
                server.kill();
            } else {
                server.stop();
            }
            let mut reader = listing.reader();
            let error = reader.read(0, 1 << 20, &mut Vec::new()).unwrap_err();
            assert!(
                matches!(&error, metastash::endpoint::Error::Database { source, .. }
                    if source.fault == metastash::endpoint::sql::Fault::Unreachable),
                "{error:?}"
            );
            drop(reader);
            drop(listing);
            server.start_again();
            assert_holds(&repo, &back_up(&db, &repo, &by_version()).snapshot, &dump_again(&db));
        }
    }
}

/// Dumps through a new connection: the one of before is gone with its server.
fn dump_again(db: &Db) -> super::kylin_db::Rows {
    super::kylin_db::read_rows(&mut db.connect(), ID).unwrap()
}
