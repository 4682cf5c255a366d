use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::platform::kylin::location::Location;
use crate::platform::kylin::url::MetadataUrl;

fn parse(url: &str) -> Database {
    Database::parse(url).unwrap()
}

fn from_jdbc(url: &str) -> Result<Database, Error> {
    match url.parse::<MetadataUrl>()?.location()? {
        Location::Jdbc(jdbc) => Database::from_jdbc(&jdbc),
        other => panic!("{other:?}"),
    }
}

fn postgres(properties: &str) -> Result<Database, Error> {
    from_jdbc(&format!("a@jdbc,url=jdbc:postgresql://h/k?{properties}"))
}

fn mysql(properties: &str) -> Result<Database, Error> {
    from_jdbc(&format!("a@jdbc,driverClassName=com.mysql.jdbc.Driver,url=jdbc:mysql://h/k?{properties}"))
}

#[test]
fn all_parts_of_a_url_are_read() {
    let database = parse(
        "postgresql://b%40c:p%3a%2B+%25@[::1]:5433,db/k%2Fl?identifier=Meta&sslmode=verify-ca&sslrootcert=/a%20b.pem\
         &connect_timeout=1&statement_timeout=2&lock_timeout=3&socket_timeout=4&schema=a,b",
    );
    let expected = Database {
        dialect: Dialect::PostgreSql,
        hosts: vec![("::1".to_owned(), 5433), ("db".to_owned(), 5432)],
        database: "k/l".to_owned(),
        username: "b@c".to_owned(),
        password: Some(Secret::new("p:++%")),
        identifier: "meta".to_owned(),
        schema: Some("a,b".to_owned()),
        tls: Tls { mode: TlsMode::Verify, root_certificate: Some("/a b.pem".into()) },
        timeouts: Timeouts { connect_secs: 1, statement_secs: Some(2), lock_secs: 3, socket_secs: Some(4) },
    };
    assert!(database == expected, "{database:?}");
    let location = "postgresql://[::1]:5433,db:5432/k%2Fl?identifier=meta&schema=a%2Cb";
    assert_eq!(database.location(), location);
    assert_eq!(parse(location).location(), location);
}

#[test]
fn what_a_url_does_not_say_has_a_default() {
    let database = parse("mysql://h/k");
    assert_eq!((database.hosts, database.username.as_str(), database.password), (vec![("h".into(), 3306)], "", None));
    assert_eq!((database.identifier.as_str(), database.schema), ("kylin_metadata", None));
    assert_eq!((database.tls, database.timeouts), (Tls::default(), Timeouts::default()));
    assert_eq!((Tls::default().mode, Timeouts::default().lock_secs), (TlsMode::Prefer, 30));
    assert_eq!(parse("postgres://me@/").database, "me");
    assert_eq!(parse("postgres:///k").hosts, [("localhost".to_owned(), 5432)]);
    assert_eq!(parse("mariadb://h/k?identifier=Meta").identifier, "Meta");
    assert_eq!(parse("mysql://:x@h/k?identifier=").password, Some(Secret::new("x")));
    assert_eq!(parse("mysql://me:@h/k").password, None);
    let encrypted = parse("mysql://me:ENC('YeqVr9MakSFbgxEec9sBwg%3D%3D')@h/k").password;
    assert_eq!(encrypted, Some(Secret::new("kylin")));
    assert_eq!(parse("mysql://me:p@ss@h/k").hosts, [("h".to_owned(), 3306)]);
}

#[test]
fn both_kinds_of_urls_lead_to_one_location() {
    let jdbc = from_jdbc(
        "kylin_metadata@jdbc,driverClassName=com.mysql.jdbc.Driver,url=\"jdbc:mysql://a:3306,b:3307/kylin?useSSL=false\",\
         username=root,password=ENC('YeqVr9MakSFbgxEec9sBwg==')",
    )
    .unwrap();
    let own = parse("mariadb://root:kylin@a,b:3307/kylin?tls=off");
    assert_eq!(own.location(), "mysql://a:3306,b:3307/kylin?identifier=kylin_metadata");
    assert!(jdbc == own);
    assert_eq!(from_jdbc("K@jdbc").unwrap().location(), "postgresql://sandbox:5432/kylin?identifier=k");
}

#[test]
fn modes_of_tls_are_spelled_as_everywhere() {
    for (url, mode) in [
        ("postgres://h/k?sslmode=disable", TlsMode::Off),
        ("postgres://h/k?sslmode=allow", TlsMode::Prefer),
        ("postgres://h/k?sslmode=require", TlsMode::Require),
        ("postgres://h/k?sslmode=require&sslrootcert=a.pem", TlsMode::Verify),
        ("postgres://h/k?sslmode=require&sslrootcert=system", TlsMode::Require),
        ("postgres://h/k?sslmode=verify-full", TlsMode::VerifyFull),
        ("postgres://h/k?tls=verify", TlsMode::VerifyFull),
        ("mysql://h/k?ssl-mode=DISABLED", TlsMode::Off),
        ("mysql://h/k?ssl-mode=preferred", TlsMode::Prefer),
        ("mysql://h/k?ssl-mode=REQUIRED", TlsMode::Require),
        ("mysql://h/k?ssl-mode=VERIFY_CA", TlsMode::Verify),
        ("mysql://h/k?ssl-mode=VERIFY_IDENTITY", TlsMode::VerifyFull),
        ("mysql://h/k?tls=require", TlsMode::Require),
    ] {
        assert_eq!(parse(url).tls.mode, mode, "{url}");
    }
    for (properties, mode) in [
        ("", TlsMode::Prefer),
        ("ssl=false", TlsMode::Prefer),
        ("ssl", TlsMode::VerifyFull),
        ("ssl=true", TlsMode::VerifyFull),
        ("ssl=true&sslfactory=org.postgresql.ssl.NonValidatingFactory", TlsMode::Require),
        ("ssl=true&sslmode=require&sslrootcert=a.pem", TlsMode::Require),
    ] {
        assert_eq!(postgres(properties).unwrap().tls.mode, mode, "{properties}");
    }
    for (properties, mode) in [
        ("", TlsMode::Prefer),
        ("useSSL=false&requireSSL=true", TlsMode::Off),
        ("useSSL=true", TlsMode::Prefer),
        ("useSSL=true&requireSSL=true", TlsMode::Require),
        ("usessl=true&verifyServerCertificate=true", TlsMode::Verify),
        ("useSSL=false&sslMode=VERIFY_IDENTITY", TlsMode::VerifyFull),
    ] {
        assert_eq!(mysql(properties).unwrap().tls.mode, mode, "{properties}");
    }
    assert_eq!(postgres("sslrootcert=a.pem").unwrap().tls.root_certificate, Some(PathBuf::from("a.pem")));
}

#[test]
fn properties_of_jdbc_are_in_the_units_of_their_driver() {
    let database = postgres("connectTimeout=3&socketTimeout=4&currentSchema=s&ApplicationName=kylin").unwrap();
    assert_eq!((database.timeouts.connect_secs, database.timeouts.socket_secs), (3, Some(4)));
    assert_eq!(database.schema.as_deref(), Some("s"));
    let database = mysql("connectTimeout=1500&socketTimeout=4000&currentSchema=s&useUnicode=true").unwrap();
    assert_eq!((database.timeouts.connect_secs, database.timeouts.socket_secs), (2, Some(4)));
    assert_eq!(database.schema, None);
    let database = mysql("connectTimeout=0&socketTimeout=0").unwrap();
    assert_eq!((database.timeouts.connect_secs, database.timeouts.socket_secs), (10, None));
}

#[test]
fn what_can_not_be_read_is_told_without_quoting_it() {
    for (url, why) in [
        ("postgresql:/h/k", "begins with none of"),
        ("mysql://u:hunter2@h", "names no database"),
        ("postgres://h", "names no database"),
        ("mysql://u:hunter2/x@h/k", "in a password they are %2F"),
        ("mysql://u:hunter2", "a port that is no number"),
        ("mysql://u:1?hunter2@h/k", "in a password they are %2F and %3F"),
        ("mysql://u:%4x@h/k", "hexadecimal"),
        (
            "mysql://u:hunter2@h/k?hunter2=1",
            "a parameter that is none of identifier, tls, sslrootcert, connect_timeout",
        ),
        ("mysql://h/k?schema=s", "lock_timeout, socket_timeout, ssl-mode"),
        ("postgres://h/k?ssl-mode=REQUIRED", "socket_timeout, sslmode, schema"),
        ("postgres://h/k?sslmode=hunter2", "the parameter sslmode of the url is none of disable, allow, prefer"),
        ("mysql://h/k?ssl-mode=hunter2", "the parameter ssl-mode of the url is none of DISABLED"),
        ("mysql://h/k?tls=off&ssl-mode=REQUIRED", "the parameter tls of the url is given in two spellings"),
        ("mysql://h/k?tls=", "the parameter tls of the url is none of off, prefer, require, verify"),
        ("mysql://h/k?lock_timeout=0", "the parameter lock_timeout of the url is no number from 1"),
        ("mysql://h/k?connect_timeout=%2B1", "the parameter connect_timeout of the url is no number"),
        ("mysql://h/k?identifier=a-hunter2", "the identifier has other characters than letters, digits and `_`"),
        ("postgres://h/k?identifier=1a", "begins with a digit"),
        ("mysql://u:ENC('hunter2')@h/k", "the encrypted password"),
    ] {
        let error = Database::parse(url).map(|database| database.location()).expect_err(url).to_string();
        assert!(error.contains(why) && !error.contains("hunter2"), "{url}: {error}");
    }
    for (database, why) in [
        (from_jdbc("a@jdbc,driverClassName=org.h2.Driver,url=jdbc:h2:mem:k"), "H2"),
        (from_jdbc("a'b'@jdbc"), "other characters"),
        (postgres("sslmode=hunter2"), "the parameter sslmode of the url"),
        (mysql("sslMode=hunter2"), "the parameter sslMode of the url"),
        (mysql("connectTimeout=hunter2"), "the parameter connectTimeout of the url"),
    ] {
        let error = database.map(|database| database.location()).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn urls_are_told_by_their_beginning() {
    assert!(is_database_url("mysql://") && is_database_url("postgres://h/k"));
    assert!(!is_database_url("kylin_metadata@jdbc,url=jdbc:mysql://h/k") && !is_database_url("postgres:/h"));
}

proptest! {
    #[test]
    fn parse_never_panics(any in r"\PC*", near in "([a@,='\"?&;:/ \\[\\]]|%4|1|tls=|identifier=)*") {
        for text in [any, near] {
            for scheme in ["postgresql://", "mysql://"] {
                let _ = Database::parse(&format!("{scheme}{text}")).map(|database| database.location());
            }
        }
    }

    // Letters that appear nowhere else, and everything that means something in a url.
    #[test]
    fn nothing_printed_holds_a_password(
        password in "[жщ]([жщ]|[,='\"?&;:/@%#() \\[\\]])*[жщ]",
        form in prop::sample::select(vec![
            "postgresql://b:PW@h:5432/k?tls=off",
            "mysql://:PW@h/k",
            "mysql://b:1PW@h/k",
            "mysql://b:ENC('PW')@h/k",
            "mysql://h/k?password=PW&tls=off",
            "mysql://h/k?tls=PW",
            "postgresql://h/k?identifier=PW",
        ]),
    ) {
        let printed = match Database::parse(&form.replace("PW", &password)) {
            Ok(database) => format!("{database:?} {}", database.location()),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!printed.contains(['ж', 'щ']), "{printed}");
        prop_assert!(!printed.contains("%D0%B6") && !printed.contains("%D1%89"), "{printed}");
    }

    #[test]
    fn location_leads_to_the_same_store(database in "\\PC+", schema in "\\PC+", port in 1..u16::MAX) {
        let store = Database { database, schema: Some(schema), ..parse(&format!("postgres://u:p@h:{port}/k")) };
        let again = parse(&store.location());
        prop_assert_eq!((&again.hosts, &again.database, &again.schema), (&store.hosts, &store.database, &store.schema));
    }
}
