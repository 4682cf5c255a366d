//! Restores that are cut off: the database is as before or as planned, and what is told of it is true.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use metastash::endpoint::Error;
use metastash::endpoint::sql::Fault;
use metastash::ops;
use metastash::ops::restore::Mode;
use metastash::repo::Repository;
use metastash::repo::snapshot::Snapshot;
use serde_json::json;

use super::connection::{BOTH, Kind};
use super::kylin_client::KylinClient;
use super::kylin_db::{ID, contents, dump};
use super::proxy::{How, Proxy, When};
use super::restoring::{NEW, beside, everything, fill, filled, metastash, open_at, restore_to, restoring, snapshot};
use super::servers::{Db, Server};
use crate::support::{create, scratch};

/// A store that goes from one of two states to the other and back.
struct Swing {
    db: Arc<Db>,
    repo: Repository,
    snapshots: [Snapshot; 2],
    contents: [BTreeMap<String, Vec<u8>>; 2],
    /// In which state it is.
    at: usize,
}

/// How a restore ended, and that was found to be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    Failed,
    /// It said that it is not known.
    Unknown,
}

fn change(db: &Db) {
    let mut client = KylinClient::connect(db, ID);
    let touch = |json: &mut serde_json::Value| json["touched"] = json!(1);
    client
        .transaction("_global", |unit| {
            unit.update("USER_INFO/ADMIN", touch)?;
            unit.update("MODEL/1fb9ceda-2f9c-2c57-d5c3-05b7f74563ac", touch)?;
            unit.delete("RESOURCE_GROUP/relation")?;
            unit.create("SYSTEM/new", &json!({ "uuid": "u", "name": "new" }))
        })
        .unwrap();
    db.execute(&format!("INSERT INTO {ID}_favorite_rule (project, name, mvcc) VALUES ('retail', 'count', 0)"));
}

impl Swing {
    fn new(db: Db) -> Self {
        let (_, repo) = create();
        let one = (snapshot(&db, &repo), contents(&dump(&db, ID)));
        change(&db);
        let other = (snapshot(&db, &repo), contents(&dump(&db, ID)));
        let (snapshots, contents) = ([one.0, other.0], [one.1, other.1]);
        Self { db: Arc::new(db), repo, snapshots, contents, at: 1 }
    }

    fn proxy(&self, when: When, how: How, refuses_after: bool, act: Option<Box<dyn FnOnce() + Send>>) -> Proxy {
        Proxy::start(self.db.server.port(), when, how, refuses_after, act)
    }

    /// Restores the other state through a proxy that goes then, and looks what became of it.
    #[track_caller]
    fn swing(&mut self, proxy: Proxy, more: &str, mend: impl FnOnce(&Db, bool)) -> Ended {
        let before = everything(&self.db, NEW);
        let wanted = &self.snapshots[1 - self.at];
        let url = format!("{}{more}", proxy.url(&self.db.url()));
        let result = open_at(&url, &wanted.manifest.layout)
            .map_err(ops::Error::from)
            .and_then(|store| restore_to(&store, &self.repo, wanted, &restoring(Mode::Truncate)));
        let is_sprung = proxy.finish();
        drop(proxy);
        mend(&self.db, is_sprung);
        self.judge(&before, &result.map(drop))
    }

    #[track_caller]
    fn judge(
        &mut self,
        before: &(super::kylin_db::Rows, Vec<super::restoring::Record>, Vec<Vec<super::connection::Value>>),
        result: &ops::Result<()>,
    ) -> Ended {
        wait_until_alone(&self.db);
        let after = everything(&self.db, NEW);
        let is_planned = contents(&after.0) == self.contents[1 - self.at]
            && beside(&self.db).len() == 1 - self.at
            && after.1.len() > before.1.len();
        let ended = match result {
            Ok(()) => Ended::Done,
            Err(ops::Error::Endpoint(Error::OutcomeUnknown { .. })) => Ended::Unknown,
            Err(_) => Ended::Failed,
        };
        match ended {
            Ended::Done => assert!(is_planned, "it said that it was done"),
            Ended::Failed => assert!(after == *before, "it said that it failed: {result:?}"),
            Ended::Unknown => assert!(is_planned || after == *before, "neither nor"),
        }
        if is_planned {
            self.at = 1 - self.at;
        }
        if let Err(ops::Error::Endpoint(Error::Database { source, .. })) = result {
            assert_eq!(source.fault, Fault::Unreachable, "{result:?}");
        }
        ended
    }

    /// Returns how many bytes a restore sends.
    fn measure(&mut self) -> u64 {
        let proxy = self.proxy(When::Never, How::Goes, false, None);
        let url = proxy.url(&self.db.url());
        let wanted = &self.snapshots[1 - self.at];
        let store = open_at(&url, &wanted.manifest.layout).unwrap();
        restore_to(&store, &self.repo, wanted, &restoring(Mode::Truncate)).unwrap();
        drop(store);
        self.at = 1 - self.at;
        wait_until_alone(&self.db);
        proxy.sent()
    }
}

/// Waits until the server is done with what others asked for.
fn wait_until_alone(db: &Db) {
    let sql = match db.kind {
        Kind::PostgreSql => {
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND backend_type = 'client backend'"
        }
        Kind::MySql => {
            "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
        }
    };
    let until = Instant::now() + Duration::from_secs(30);
    while db.number(sql) > 0 {
        assert!(Instant::now() < until, "connections stay");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_connection_that_is_cut_changes_nothing_or_all() {
    for kind in BOTH {
        let mut swing = Swing::new(filled(kind, NEW));
        let total = swing.measure();
        let mut failed = 0;
        for n in 0..48 {
            // From the end to the beginning: most places are where it writes.
            let at = total - total * n / 96 - 1;
            let proxy = swing.proxy(When::Sent(at), How::Cut, false, None);
            failed += u32::from(swing.swing(proxy, "", |_, _| ()) == Ended::Failed);
        }
        assert!(failed >= 40, "{kind:?}: {failed}");
        for n in 0..6 {
            let proxy = swing.proxy(When::Sent(total * n / 12), How::Cut, false, None);
            swing.swing(proxy, "", |_, _| ());
        }
    }
}

#[test]
fn what_became_of_a_commit_is_found_out() {
    let cases = [
        (How::Cut, false, &[Ended::Failed][..]),
        (How::Unanswered, false, &[Ended::Done]),
        // The request is under way still when it is looked for.
        (How::Late, false, &[Ended::Done]),
        // The server waits for the client: it may come yet.
        (How::Half, false, &[Ended::Unknown]),
        // And nobody can be asked.
        (How::Unanswered, true, &[Ended::Unknown]),
    ];
    for kind in BOTH {
        let mut swing = Swing::new(filled(kind, NEW));
        for (how, refuses_after, expected) in cases {
            let proxy = swing.proxy(When::Commits, how, refuses_after, None);
            let ended = swing.swing(proxy, "&lock_timeout=2", |_, _| ());
            assert!(expected.contains(&ended), "{kind:?} {how:?}: {ended:?}");
        }
    }
}

#[test]
fn connections_that_the_server_ends_change_nothing_or_all() {
    for kind in BOTH {
        let mut swing = Swing::new(filled(kind, NEW));
        let total = swing.measure();
        let mut ended = Vec::new();
        for n in 1..5 {
            let db = swing.db.clone();
            let act = Box::new(move || assert!(db.kill_connections() > 0));
            let proxy = swing.proxy(When::Sent(total - total * n / 12), How::Goes, false, Some(act));
            ended.push(swing.swing(proxy, "", |_, _| ()));
        }
        assert!(ended.contains(&Ended::Failed), "{kind:?}: {ended:?}");
        for how in [How::Goes, How::Unanswered] {
            let db = swing.db.clone();
            let act = Box::new(move || assert!(db.kill_connections() > 0));
            let proxy = swing.proxy(When::Commits, how, false, Some(act));
            swing.swing(proxy, "", |_, _| ());
        }
    }
}

#[test]
fn a_server_that_goes_changes_nothing_or_all() {
    type End = fn(&Server);
    for kind in BOTH {
        let server = Server::start(kind);
        let db = server.scratch_database();
        fill(&db, NEW);
        let mut swing = Swing::new(db);
        let total = swing.measure();
        let places = [
            (When::Sent(total * 2 / 3), How::Goes, Server::kill as End),
            (When::Commits, How::Goes, Server::kill),
            (When::Commits, How::Unanswered, Server::kill),
            (When::Sent(total * 4 / 5), How::Goes, Server::stop),
        ];
        for (when, how, end) in places {
            let (own, restarted) = (server.clone(), server.clone());
            let act = Box::new(move || end(&own));
            let proxy = swing.proxy(when, how, false, Some(act));
            swing.swing(proxy, "", |db, is_sprung| {
                assert!(is_sprung, "{kind:?} {when:?}");
                restarted.start_again();
                db.kill_connections();
            });
        }
    }
}

#[test]
fn a_process_that_is_killed_changes_nothing_or_all() {
    for kind in BOTH {
        let mut swing = Swing::new(filled(kind, NEW));
        let folder = scratch();
        let run = |words: &[&str]| {
            let output = metastash(folder.path(), words).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        run(&["init"]);
        // Snapshots of both states, in a repository that processes share.
        let mut ids = Vec::new();
        for _ in 0..2 {
            run(&["backup", "--store", &swing.db.url()]);
            let list = run(&["snapshots", "--json"]);
            let newest = list.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).next_back();
            ids.push((swing.at, newest.unwrap()["id"].as_str().unwrap().to_owned()));
            swing.measure();
        }
        let total = swing.measure();
        let (mut done, places) = (0, [3, 5, 7, 9, 10, 11]);
        for n in places.into_iter().map(Some).chain([None]) {
            let when = n.map_or(When::Commits, |n| When::Sent(total * n / 12));
            let (tell, sprung) = mpsc::channel();
            // The last one hears no answer to its commit, and is killed before it asks what became of it.
            let how = if n.is_some() { How::Stalls } else { How::Unanswered };
            let proxy = swing.proxy(when, how, true, Some(Box::new(move || tell.send(()).unwrap())));
            let before = everything(&swing.db, NEW);
            let id = &ids.iter().find(|(at, _)| *at != swing.at).unwrap().1;
            let url = proxy.url(&swing.db.url());
            let words = ["restore", id, "--store", &url, "--after-truncate"];
            let mut command: Command = metastash(folder.path(), &words);
            let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            sprung.recv_timeout(Duration::from_secs(60)).unwrap();
            process.kill().unwrap();
            process.wait().unwrap();
            proxy.finish();
            drop(proxy);
            let unknown = Error::OutcomeUnknown {
                store: String::new(),
                source: metastash::endpoint::sql::SqlError { fault: Fault::Other, message: String::new() },
            };
            let was_at = swing.at;
            swing.judge(&before, &Err(unknown.into()));
            done += u32::from(swing.at != was_at);
            // Whatever it left behind is in nobody's way.
            run(&["check"]);
        }
        assert_eq!(done, 1, "{kind:?}: the one whose commit was sent");
        let id = &ids.iter().find(|(at, _)| *at != swing.at).unwrap().1;
        run(&["restore", id, "--store", &swing.db.url(), "--after-truncate"]);
        assert_eq!(contents(&dump(&swing.db, ID)), swing.contents[1 - swing.at]);
    }
}
