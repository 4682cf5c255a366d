//! The ways to name a store and to be let in, and that passwords stay where they are.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use aes::Aes128;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeEncrypt, KeyInit};
use metastash::endpoint::Source;
use metastash::platform::kylin::secret::Secret;

use super::connection::{BOTH, Connection, Kind};
use super::kylin_db::{ID, dump};
use super::saving::{Generation, Ran, Shell, filled, open, ran, try_open};
use super::servers::{Db, KYLIN, READER, SECURED, Server};

/// Encrypts as Kylin does.
fn encrypted(password: &str) -> String {
    let mut buffer = password.as_bytes().to_vec();
    buffer.resize(password.len() + 16, 0);
    let encryptor = ecb::Encryptor::<Aes128>::new(b"thisIsASecretKey".into());
    let encrypted = encryptor.encrypt_padded::<Pkcs7>(&mut buffer, password.len()).unwrap();
    let value = format!("ENC('{}')", STANDARD.encode(encrypted));
    assert_eq!(Secret::from_parameter(&value).unwrap().expose(), password);
    value
}

/// Returns a url of another user, password or host, without parameters.
fn url(db: &Db, user: &str, host: &str) -> String {
    let scheme = if db.kind == Kind::PostgreSql { "postgresql" } else { "mysql" };
    format!("{scheme}://{user}@{host}:{}/{}", db.server.port(), db.name)
}

fn properties(shell: &Shell, metadata_url: &str) -> std::path::PathBuf {
    let conf = shell.path("kylin/conf");
    std::fs::create_dir_all(&conf).unwrap();
    std::fs::write(conf.join("kylin.properties"), format!("kylin.metadata.url={metadata_url}\n")).unwrap();
    shell.path("kylin")
}

#[test]
fn all_urls_lead_to_one_store() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::New), Shell::new());
        let (scheme, other) = match kind {
            Kind::PostgreSql => ("postgresql:", "postgres:"),
            Kind::MySql => ("mysql:", "mariadb:"),
        };
        let jdbc = db.jdbc_url();
        let secret =
            jdbc.replace(&format!("password={}", KYLIN.password), &format!("password={}", encrypted(KYLIN.password)));
        assert_ne!(jdbc, secret);
        let mut said = Vec::new();
        let first = shell.done(&["backup", "--store", &db.url()]);
        assert!(first.contains("created repository repo"), "{first}");
        for store in [&db.url().replace(scheme, other), &jdbc, &secret] {
            said.push(shell.done(&["backup", "--store", store]));
        }
        for value in [&jdbc, &secret] {
            let home = properties(&shell, value);
            let output =
                shell.command(&["backup"]).env("KYLIN_HOME", home).env("METASTASH_REPO", "repo").output().unwrap();
            let ran = ran(&output);
            assert_eq!(ran.code, 0, "{ran:?}");
            said.push(ran.stdout);
        }
        for said in said {
            assert!(said.contains("(0 new, 0 changed, 0 removed, "), "not the same store: {said}");
        }
        let list = shell.done(&["snapshots", "--json"]);
        let store = open(&db.url()).location();
        assert_eq!(list.matches(&format!("\"{store}\"")).count(), 6, "{list}");
        assert!(!list.contains(KYLIN.password));
        std::fs::remove_dir_all(shell.path("kylin")).unwrap();
        shell.assert_nowhere(&[KYLIN.password]);
    }
}

#[test]
fn tls_is_used_as_it_is_asked_for() {
    let other_ca = Server::shared(Kind::PostgreSql).ca();
    let mysql_ca = Server::shared(Kind::MySql).ca();
    for kind in BOTH {
        let db = filled(kind, Generation::New);
        let (ca, wrong) = match kind {
            Kind::PostgreSql => (&other_ca, &mysql_ca),
            Kind::MySql => (&mysql_ca, &other_ca),
        };
        let (ca, wrong) = (ca.display().to_string(), wrong.display().to_string());
        let secured = format!("{}:{}", SECURED.name, SECURED.password);
        let kylin = format!("{}:{}", KYLIN.name, KYLIN.password);
        let spelled = |mode: &str| match (kind, mode) {
            (Kind::PostgreSql, "off") => "sslmode=disable".to_owned(),
            (Kind::PostgreSql, mode) => format!("sslmode={mode}"),
            (Kind::MySql, "off") => "ssl-mode=DISABLED".to_owned(),
            (Kind::MySql, "prefer") => "ssl-mode=PREFERRED".to_owned(),
            (Kind::MySql, "require") => "ssl-mode=REQUIRED".to_owned(),
            (Kind::MySql, "verify-ca") => "ssl-mode=VERIFY_CA".to_owned(),
            (Kind::MySql, _) => "ssl-mode=VERIFY_IDENTITY".to_owned(),
        };
        // 127.0.0.2 is this machine, too, and not in the certificate; the servers listen on 127.0.0.1 alone, so a forwarder
        // takes it there.
        let elsewhere = Forwarder::start("127.0.0.2", db.server.port());
        let at = |user: &str, host: &str, parameters: &str| format!("{}?{parameters}", url(&db, user, host));
        let far = |user: &str, parameters: &str| {
            at(user, "127.0.0.2", parameters)
                .replace(&format!(":{}/", db.server.port()), &format!(":{}/", elsewhere.port))
        };
        let rooted = |mode: &str, ca: &str| format!("{}&sslrootcert={ca}", spelled(mode));
        let allowed = [
            at(&kylin, "127.0.0.1", &spelled("off")),
            at(&kylin, "127.0.0.1", &spelled("prefer")),
            at(&kylin, "127.0.0.1", "tls=prefer"),
            at(&kylin, "localhost", &spelled("require")),
            at(&secured, "127.0.0.1", ""),
            at(&secured, "127.0.0.1", &spelled("prefer")),
            at(&secured, "127.0.0.1", "tls=require"),
            at(&secured, "127.0.0.1", &rooted("verify-ca", &ca)),
            at(&secured, "127.0.0.1", &rooted("verify-full", &ca)),
            at(&secured, "localhost", &rooted("verify-full", &ca)),
            at(&secured, "localhost", &format!("tls=verify&sslrootcert={ca}")),
            far(&secured, &spelled("require")),
            far(&secured, &rooted("verify-ca", &ca)),
        ];
        for url in allowed {
            let result = try_open(&url.replace("?&", "?"));
            assert!(result.is_ok(), "{url}: {:?}", result.err());
        }
        let refused = [
            at(&secured, "127.0.0.1", &spelled("off")),
            at(&kylin, "127.0.0.1", &rooted("verify-ca", &wrong)),
            at(&kylin, "127.0.0.1", &rooted("verify-full", &wrong)),
            at(&kylin, "127.0.0.1", &spelled("verify-full")),
            at(&kylin, "127.0.0.1", &rooted("verify-full", "/no/such/file.pem")),
            far(&kylin, &rooted("verify-full", &ca)),
            far(&kylin, &format!("tls=verify&sslrootcert={ca}")),
        ];
        for url in refused {
            let error = try_open(&url).err().unwrap_or_else(|| panic!("{url} was let in"));
            let shown = format!("{error:?} {error}");
            assert!(!shown.contains(SECURED.password) && !shown.contains(":secret"), "{shown}");
        }
    }
}

/// Takes connections at one address to a server at another.
struct Forwarder {
    port: u16,
}

impl Forwarder {
    fn start(address: &str, to: u16) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = std::net::TcpStream::connect(("127.0.0.1", to)) else { return };
                for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { port }
    }
}

fn backup_with(shell: &Shell, url: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = shell.command(&["backup", "--store", url]);
    command.envs(variables.iter().copied());
    ran(&command.output().unwrap())
}

#[test]
fn passwords_come_from_the_environment() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::New), Shell::new());
        let bare = url(&db, KYLIN.name, "127.0.0.1");
        let (variable, user_variable) = match kind {
            Kind::PostgreSql => ("PGPASSWORD", "PGUSER"),
            Kind::MySql => ("MYSQL_PWD", "MYSQL_USER"),
        };
        assert_eq!(backup_with(&shell, &bare, &[(variable, KYLIN.password)]).code, 0);
        let nobody = bare.replace(&format!("{}@", KYLIN.name), "");
        let ran = backup_with(&shell, &nobody, &[(variable, KYLIN.password), (user_variable, KYLIN.name)]);
        assert_eq!(ran.code, 0, "{ran:?}");
        backup_with(&shell, &nobody, &[]).fails(2, &["names no user"]);
        backup_with(&shell, &bare, &[(variable, "hunter2")])
            .fails(1, &["cannot connect to", "hint: check user and password"]);
        backup_with(&shell, &bare, &[]).fails(1, &["cannot connect to", "hint: check user and password"]);
        // What is in the url comes first.
        let own = url(&db, &format!("{}:{}", KYLIN.name, KYLIN.password), "127.0.0.1");
        assert_eq!(backup_with(&shell, &own, &[(variable, "hunter2")]).code, 0);
        shell.assert_nowhere(&["hunter2", KYLIN.password]);
    }
}

#[test]
fn passwords_come_from_a_file_that_nobody_else_may_read() {
    let (db, shell) = (filled(Kind::PostgreSql, Generation::New), Shell::new());
    let bare = url(&db, KYLIN.name, "127.0.0.1");
    let write = |name: &str, mode: u32| {
        let path = shell.path(name);
        let mut file = std::fs::File::create(&path).unwrap();
        writeln!(file, "other:*:*:*:hunter2\n127.0.0.1:{}:*:{}:{}", db.server.port(), KYLIN.name, KYLIN.password)
            .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let file = write("passwords", 0o600);
    assert_eq!(backup_with(&shell, &bare, &[("PGPASSFILE", &file)]).code, 0);
    // Without the variable it is the one in the home directory.
    write(".pgpass", 0o600);
    assert_eq!(backup_with(&shell, &bare, &[]).code, 0);
    for mode in [0o640, 0o604] {
        let file = write("passwords", mode);
        backup_with(&shell, &bare, &[("PGPASSFILE", &file)])
            .fails(1, &["may be read by others", "hint: chmod 600", &file]);
    }
    assert_eq!(backup_with(&shell, &bare, &[("PGPASSFILE", "/no/such/file"), ("PGPASSWORD", KYLIN.password)]).code, 0);
    for name in ["passwords", ".pgpass"] {
        std::fs::remove_file(shell.path(name)).unwrap();
    }
    shell.assert_nowhere(&[KYLIN.password]);
}

/// Checks that no output and no file has a password in it, whatever the failure.
#[track_caller]
fn fails_silently(shell: &Shell, url: &str, code: i32, words: &[&str], secrets: &[&str]) {
    for args in [
        &["backup", "--store", url][..],
        &["backup", "--json", "--store", url],
        &["-v", "doctor", "live", "--store", url],
    ] {
        let ran = shell.run(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        let said = ran.stdout + &ran.stderr;
        for word in words {
            assert!(said.contains(word), "no `{word}`: {said}");
        }
        for secret in secrets {
            assert!(!said.contains(secret), "the password is shown: {said}");
        }
    }
    let output = shell.command(&["backup"]).env("METASTASH_STORE", url).env("RUST_BACKTRACE", "1").output().unwrap();
    let ran = ran(&output);
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(secrets.iter().all(|secret| !ran.stderr.contains(secret) && !ran.stdout.contains(secret)), "{ran:?}");
    shell.assert_nowhere(secrets);
}

#[test]
fn who_is_not_let_in_is_told_why_without_the_password() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::New), Shell::new());
        shell.done(&["init"]);
        let secrets = ["hunter2", KYLIN.password];
        let with = |user: &str, password: &str| url(&db, &format!("{user}:{password}"), "127.0.0.1");
        let good = with(KYLIN.name, KYLIN.password);
        let denied = ["cannot connect to", "check user and password"];
        fails_silently(&shell, &with(KYLIN.name, "hunter2"), 1, &denied, &secrets);
        fails_silently(&shell, &with("nobody", "hunter2"), 1, &denied, &secrets);
        let missing = good.replace(&db.name, "no_such_database");
        let words = match kind {
            Kind::PostgreSql => ["no_such_database", "check the name of the database"],
            // MySQL does not tell strangers what there is.
            Kind::MySql => ["no_such_database", "cannot connect to"],
        };
        fails_silently(&shell, &missing, 1, &words, &secrets);
        // Nobody listens.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let down = good.replace(&format!(":{}/", db.server.port()), &format!(":{free}/"));
        fails_silently(&shell, &down, 20, &["cannot connect to", "is the server up"], &secrets);
        fails_silently(&shell, &good.replace("127.0.0.1", "no-such-host.invalid"), 20, &["is the server up"], &secrets);
        // Misspelled urls.
        for bad in [
            format!("{good}?no_such=hunter2"),
            format!("{good}?connect_timeout=hunter2"),
            good.replace("127.0.0.1:", "127.0.0.1:x"),
        ] {
            let ran = shell.run(&["backup", "--store", &bad]);
            assert!(ran.code == 1 || ran.code == 2, "{ran:?}");
            assert!(!ran.stderr.contains("hunter2") && !ran.stderr.contains(KYLIN.password), "{ran:?}");
        }
        let jdbc = db.jdbc_url().replace(&format!("password={}", KYLIN.password), "password=hunter2");
        fails_silently(&shell, &jdbc, 1, &denied, &secrets);
        fails_silently(&shell, &jdbc.replace("password=hunter2", "password=ENC('hunter2')"), 1, &["Base64"], &secrets);
        // In order, the other host is asked.
        let two = good.replace("127.0.0.1:", &format!("127.0.0.1:{free},127.0.0.1:"));
        assert_eq!(shell.run(&["backup", "--store", &two]).code, 0);
    }
}

#[test]
fn stopped_server_is_unreachable() {
    for kind in BOTH {
        let server = Server::start(kind);
        let (db, shell) = (server.scratch_database(), Shell::new());
        shell.done(&["init"]);
        server.stop();
        let ran = shell.run(&["backup", "--store", &db.url()]);
        ran.fails(20, &["cannot connect to", "is the server up"]);
        assert_eq!(shell.done(&["snapshots", "--json"]).matches("\"id\"").count(), 0);
    }
}

#[test]
fn who_never_answers_is_not_waited_for() {
    // Nothing is ever taken from the queue of this listener.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for scheme in ["postgresql", "mysql"] {
        for tls in ["prefer", "off"] {
            let begun = Instant::now();
            let url = format!("{scheme}://kylin:hunter2@127.0.0.1:{port}/kylin?connect_timeout=1&tls={tls}");
            let shell = Shell::new();
            let ran = shell.run(&["backup", "--store", &url]);
            ran.fails(20, &["cannot connect to", "within 1 s"]);
            assert!(!ran.stderr.contains("hunter2"));
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        }
    }
}

#[test]
fn statement_that_takes_too_long_is_given_up() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::New), Shell::new());
        shell.done(&["init"]);
        let mut holder = db.connect();
        let (lock, release) = match kind {
            Kind::PostgreSql => (format!("BEGIN; LOCK TABLE {ID}_model IN ACCESS EXCLUSIVE MODE"), "ROLLBACK"),
            Kind::MySql => (format!("LOCK TABLES {ID}_model WRITE"), "UNLOCK TABLES"),
        };
        for parameter in ["statement_timeout", "lock_timeout"] {
            holder.batch(&lock).unwrap();
            let begun = Instant::now();
            let ran = shell.run(&["backup", "--store", &format!("{}?{parameter}=1", db.url())]);
            ran.fails(1, &["cannot read", "`lock_timeout` and `statement_timeout` in the url set the limits"]);
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            holder.batch(release).unwrap();
            assert_eq!(shell.done(&["snapshots", "--json"]).matches("\"id\"").count(), 0);
        }
        shell.done(&["backup", "--store", &db.url()]);
    }
}

#[test]
fn right_to_read_is_enough_and_nothing_is_written() {
    for kind in BOTH {
        for generation in [Generation::New, Generation::Old] {
            let (db, shell) = (filled(kind, generation), Shell::new());
            let tables = || {
                let schema = if kind == Kind::PostgreSql { "current_schema()" } else { "database()" };
                db.query(
                    &format!(
                        "SELECT table_name FROM information_schema.tables WHERE table_schema = {schema} ORDER BY 1"
                    ),
                    &[],
                )
            };
            let log = if generation == Generation::New { "audit_log_v2" } else { "audit_log" };
            let log = format!("SELECT count(*) FROM {ID}_{log}");
            let before = (dump(&db, ID), tables(), db.number(&log));
            let mut reader = Connection::open(&db.reader_url()).unwrap();
            assert!(reader.batch("CREATE TABLE mine (id int)").is_err(), "{}", READER.name);
            for _ in 0..2 {
                shell.done(&["backup", "--store", &db.reader_url()]);
            }
            shell.done(&["backup", "--force", "--store", &db.reader_url()]);
            shell.done(&["diff", "latest", "live", "--exit-code", "--store", &db.reader_url()]);
            assert!((dump(&db, ID), tables(), db.number(&log)) == before);
        }
    }
}

#[test]
fn what_can_not_be_seen_is_told() {
    for kind in BOTH {
        let (db, shell) = (filled(kind, Generation::New), Shell::new());
        let url = db.reader_url();
        match kind {
            Kind::PostgreSql => {
                db.execute(&format!("REVOKE SELECT ON {ID}_segment FROM {}", READER.name));
                let ran = shell.run(&["backup", "--store", &url]);
                ran.fails(
                    1,
                    &[
                        "cannot read",
                        &format!("permission denied for table {ID}_segment"),
                        "a backup needs SELECT on all tables",
                    ],
                );
            }
            Kind::MySql => {
                // The server shows only what may be read.
                let server = &db.server;
                let name = &db.name;
                server.command("", &format!("REVOKE SELECT ON {name}.* FROM reader@'%'"));
                for table in
                    db.query("SELECT table_name FROM information_schema.tables WHERE table_schema = database()", &[])
                {
                    let table = table[0].text().unwrap();
                    if !table.ends_with("_segment") {
                        server.command("", &format!("GRANT SELECT ON {name}.{table} TO reader@'%'"));
                    }
                }
                let ran = shell.run(&["backup", "--store", &url]);
                ran.fails(1, &[&format!("lacks tables of Kylin: {ID}_segment"), "may the user see them?"]);
                server.command("", &format!("GRANT SELECT ON {name}.{ID}_segment TO reader@'%'"));
                server.command("", &format!("REVOKE SELECT ON {name}.{ID}_job_info_v2 FROM reader@'%'"));
                let ran = shell.run(&["backup", "--store", &url]);
                assert_eq!(ran.code, 0, "{ran:?}");
                let said = ran.stdout + &ran.stderr;
                assert!(
                    said.contains(&format!("{ID}_job_info_v2")) && said.contains("or the user can't see it"),
                    "{said}"
                );
            }
        }
        assert!(!Path::new("repo").exists());
    }
}
