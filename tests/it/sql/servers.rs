//! Real servers, one of each kind for all tests of a process or one for a test alone, and databases in them.
//!
//! A server runs under a shell script that ends it, and removes its directory, when the pipe to this process closes:
//! so it goes whether this process ends well, panics or is killed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::connection::{Connection, Kind, Result, Value};

/// Someone who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
}

/// Owns every scratch database.
pub(crate) const KYLIN: User = User { name: "kylin", password: "secret" };
/// May look at everything in it.
pub(crate) const READER: User = User { name: "reader", password: "quiet" };
/// Owns it too, but is let in through TLS only.
pub(crate) const SECURED: User = User { name: "secured", password: "sealed" };
const ADMIN: User = User { name: "admin", password: "secret" };

/// A server that ends with the value.
pub(crate) struct Server {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    script: Mutex<Script>,
    databases: AtomicU32,
}

struct Script {
    process: Child,
    // None when the script is to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// Returns the server that the tests of this process share; none may stop it.
    pub(crate) fn shared(kind: Kind) -> Arc<Self> {
        static POSTGRESQL: OnceLock<Arc<Server>> = OnceLock::new();
        static MYSQL: OnceLock<Arc<Server>> = OnceLock::new();
        let server = match kind {
            Kind::PostgreSql => &POSTGRESQL,
            Kind::MySql => &MYSQL,
        };
        server.get_or_init(|| Self::start(kind)).clone()
    }

    /// Starts a server that the caller may kill.
    pub(crate) fn start(kind: Kind) -> Arc<Self> {
        let mut script = Script::start(match kind {
            Kind::PostgreSql => "postgresql",
            Kind::MySql => "mysql",
        });
        let (port, folder) = script.ready();
        let server = Self { kind, port, folder, script: Mutex::new(script), databases: AtomicU32::new(0) };
        server.make_users();
        Arc::new(server)
    }

    /// Ends the server as a crash does: at once, with all connections.
    pub(crate) fn kill(&self) {
        self.script.lock().unwrap().ask("kill", "stopped");
    }

    /// Ends the server in good order.
    pub(crate) fn stop(&self) {
        self.script.lock().unwrap().ask("stop", "stopped");
    }

    /// Starts the server after [`Self::kill`] or [`Self::stop`], on the port that it had.
    pub(crate) fn start_again(&self) {
        self.script.lock().unwrap().ask("start", "ready");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the certificate that signed the server's, which is for `localhost` and `127.0.0.1`.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Makes a database that no other test knows.
    pub(crate) fn scratch_database(self: &Arc<Self>) -> Db {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("scratch_{number}");
        let mut admin = self.admin("");
        let made = match self.kind {
            Kind::PostgreSql => {
                // Two at once would be in each other's way: each copies the same template.
                admin.batch("SELECT pg_advisory_lock(1)").unwrap();
                admin.batch(&format!("CREATE DATABASE {name} OWNER kylin")).unwrap();
                self.admin(&name).batch(
                    "ALTER DEFAULT PRIVILEGES FOR ROLE kylin, secured GRANT SELECT ON TABLES TO reader;
                     ALTER DEFAULT PRIVILEGES FOR ROLE kylin, secured GRANT SELECT ON SEQUENCES TO reader",
                )
            }
            Kind::MySql => admin.batch(&format!(
                "CREATE DATABASE {name};
                 GRANT ALL ON {name}.* TO kylin@'%';
                 GRANT ALL ON {name}.* TO secured@'%';
                 GRANT SELECT ON {name}.* TO reader@'%'"
            )),
        };
        made.unwrap();
        Db { kind: self.kind, name, server: self.clone(), connection: Mutex::new(None) }
    }

    fn make_users(&self) {
        let mut sql = String::new();
        for User { name, password } in [KYLIN, READER, SECURED] {
            sql += &match self.kind {
                Kind::PostgreSql => format!("CREATE ROLE {name} LOGIN PASSWORD '{password}';"),
                Kind::MySql => format!("CREATE USER {name}@'%' IDENTIFIED BY '{password}';"),
            };
        }
        sql += match self.kind {
            Kind::PostgreSql => "GRANT kylin TO secured",
            Kind::MySql => "ALTER USER secured@'%' REQUIRE SSL",
        };
        self.admin("").batch(&sql).unwrap();
    }

    /// Runs statements as someone who may do everything, in a database, or in none if its name is empty.
    pub(crate) fn command(&self, database: &str, sql: &str) {
        self.admin(database).batch(sql).unwrap();
    }

    /// Makes a database of PostgreSQL whose texts are any bytes.
    pub(crate) fn scratch_database_of_bytes(self: &Arc<Self>) -> Db {
        let mut db = self.scratch_database();
        let name = format!("{}_bytes", db.name);
        let how = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc";
        self.command("", &format!("CREATE DATABASE {name} OWNER kylin {how}"));
        self.command("", &format!("DROP DATABASE {}", db.name));
        db.name = name;
        db
    }

    fn admin(&self, database: &str) -> Connection {
        let database = match (self.kind, database) {
            (Kind::PostgreSql, "") => "postgres",
            (_, name) => name,
        };
        Connection::open(&self.url(ADMIN, database)).unwrap()
    }

    fn url(&self, user: User, database: &str) -> String {
        let scheme = match self.kind {
            Kind::PostgreSql => "postgresql",
            Kind::MySql => "mysql",
        };
        format!("{scheme}://{}:{}@127.0.0.1:{}/{database}", user.name, user.password, self.port)
    }
}

impl Script {
    fn start(kind: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sql/server.sh");
        let mut command = Command::new("sh");
        command.arg(path).arg(kind).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C is not for the script: it has something to do when this process is gone.
        let mut process = command.process_group(0).spawn().unwrap();
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, commands, answers }
    }

    fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    fn ready(&mut self) -> (u16, PathBuf) {
        let answer = self.answer();
        let words: Vec<&str> = answer.splitn(3, ' ').collect();
        match words[..] {
            ["ready", port, folder] => (port.parse().unwrap(), folder.into()),
            _ => panic!("no server for tests: {answer}"),
        }
    }

    fn ask(&mut self, command: &str, expected: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        let answer = self.answer();
        assert!(answer.starts_with(expected), "{command}: {answer}");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.commands = None;
        // What it leaves behind is no reason to fail a test.
        let _ = self.process.wait();
    }
}

/// A database that goes with the value.
pub(crate) struct Db {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) server: Arc<Server>,
    // For the assertions of a test; made when it is needed.
    connection: Mutex<Option<Connection>>,
}

/// Makes a database in the server that all tests share.
pub(crate) fn scratch_database(kind: Kind) -> Db {
    Server::shared(kind).scratch_database()
}

impl Db {
    /// Returns the url of its owner.
    pub(crate) fn url(&self) -> String {
        self.url_of(KYLIN)
    }

    /// Returns the url of a user who can't write.
    pub(crate) fn reader_url(&self) -> String {
        self.url_of(READER)
    }

    pub(crate) fn url_of(&self, user: User) -> String {
        self.server.url(user, &self.name)
    }

    /// Returns Kylin's metadata url of its owner, with the identifier `kylin_metadata`.
    pub(crate) fn jdbc_url(&self) -> String {
        let (driver, scheme) = match self.kind {
            Kind::PostgreSql => ("org.postgresql.Driver", "jdbc:postgresql"),
            Kind::MySql => ("com.mysql.jdbc.Driver", "jdbc:mysql"),
        };
        format!(
            "kylin_metadata@jdbc,driverClassName={driver},url={scheme}://127.0.0.1:{}/{},username={},password={}",
            self.server.port, self.name, KYLIN.name, KYLIN.password
        )
    }

    /// Connects as its owner.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.url()).unwrap()
    }

    /// Lends a connection of its owner, so that a test need not make one for each look.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T>) -> T {
        let mut connection = self.connection.lock().unwrap();
        work(connection.get_or_insert_with(|| self.connect())).unwrap()
    }

    /// Runs statements, separated by `;`.
    pub(crate) fn execute(&self, sql: &str) {
        self.with(|connection| connection.batch(sql));
    }

    pub(crate) fn query(&self, sql: &str, values: &[Value]) -> Vec<Vec<Value>> {
        self.with(|connection| connection.query(sql, values))
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.with(|connection| connection.number(sql, &[]))
    }

    /// Cuts all connections to the database; returns how many there were.
    pub(crate) fn kill_connections(&self) -> usize {
        *self.connection.lock().unwrap() = None;
        let mut admin = self.server.admin("");
        match self.kind {
            Kind::PostgreSql => {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ?";
                admin.query(sql, &[self.name.as_str().into()]).unwrap().len()
            }
            Kind::MySql => {
                let sql = "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = ?";
                let all = admin.query(sql, &[self.name.as_str().into()]).unwrap();
                let cut = all.iter().filter(|row| admin.batch(&format!("KILL {}", row[0].int().unwrap())).is_ok());
                cut.count()
            }
        }
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // The server may be one that the test has stopped.
        let Ok(mut admin) = Connection::open(&self.server.url(
            ADMIN,
            match self.kind {
                Kind::PostgreSql => "postgres",
                Kind::MySql => "",
            },
        )) else {
            return;
        };
        if self.kind == Kind::MySql {
            // It would wait for transactions that are open.
            self.kill_connections();
        }
        let how = if self.kind == Kind::PostgreSql { "WITH (FORCE)" } else { "" };
        let dropped = admin.batch(&format!("DROP DATABASE {} {how}", self.name));
        assert!(dropped.is_ok() || std::thread::panicking(), "{dropped:?}");
    }
}
