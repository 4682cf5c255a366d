//! A database with metadata tables, and how to reach it: read from a url of its own kind, or from Kylin's configuration.
//!
//! ```text
//! postgresql://user:password@host:5432,host/database?identifier=kylin_metadata&sslmode=verify-full&lock_timeout=10
//! mysql://user:password@host:3306/database?ssl-mode=REQUIRED
//! ```

mod pgpass;
mod tls;

use std::fmt::{self, Write};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use self::pgpass::password_from_pgpass;
pub use self::tls::{Tls, TlsMode};
use crate::platform::kylin::Error;
use crate::platform::kylin::jdbc::{Driver, Jdbc};
use crate::platform::kylin::jdbc_url::{Escapes, JdbcUrl, Kind, decode, with_hosts};
use crate::platform::kylin::secret::Secret;
use crate::platform::kylin::tables::{Dialect, check_identifier};
use crate::platform::kylin::url::IDENTIFIER_DEFAULT;

/// A database and how to reach it. Its `Debug` shows the dialect, hosts and database only: misplaced quotes can make the
/// password part of any other value.
///
/// ```
/// # use metastash::platform::kylin::database::Database;
/// let database = Database::parse("postgresql://kylin:hunter2@db/kylin?connect_timeout=3")?;
/// assert_eq!(database.timeouts.connect_secs, 3);
/// assert_eq!(database.location(), "postgresql://db:5432/kylin?identifier=kylin_metadata");
/// # Ok::<(), metastash::platform::kylin::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    /// What it speaks.
    pub dialect: Dialect,
    /// Hosts, IPv6 addresses without brackets, and ports, in the order to try them. At least one.
    pub hosts: Vec<(String, u16)>,
    /// The name of the database.
    pub database: String,
    /// The user; empty if a url names none.
    pub username: String,
    /// The password; none if it is empty.
    pub password: Option<Secret>,
    /// What the names of the tables begin with. It needs no quotes, and for PostgreSQL is in lower case, in which it finds
    /// what Kylin does not quote.
    pub identifier: String,
    /// Where PostgreSQL looks for the tables, its `search_path`; if none, where the server says.
    pub schema: Option<String>,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// How long to wait.
    pub timeouts: Timeouts,
}

/// How long to wait for a database. All are 1 second at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to one host, in seconds.
    pub connect_secs: u64,
    /// For one statement, in seconds; for ever if none.
    pub statement_secs: Option<u64>,
    /// For the lock of a row, in seconds.
    pub lock_secs: u64,
    /// For an answer of the server, in seconds; for ever if none.
    pub socket_secs: Option<u64>,
}

impl Default for Timeouts {
    /// Connections get 10 seconds, locks 30, all else as long as it takes.
    fn default() -> Self {
        Self { connect_secs: 10, statement_secs: None, lock_secs: 30, socket_secs: None }
    }
}

/// How urls begin. The first of a dialect is what [`Database::location`] writes.
const SCHEMES: [(&str, Dialect); 4] = [
    ("postgresql://", Dialect::PostgreSql),
    ("postgres://", Dialect::PostgreSql),
    ("mysql://", Dialect::MySql),
    ("mariadb://", Dialect::MySql),
];

/// What stands for itself in a url.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Tells whether a text begins as a url of a database that [`Database::parse`] reads.
pub fn is_database_url(text: &str) -> bool {
    SCHEMES.iter().any(|(scheme, _)| text.starts_with(scheme))
}

impl Database {
    /// Reads a url: `postgresql://[user[:password]@]host[:port][,host…]/database[?key=value&…]`, or the same with
    /// `postgres`, `mysql` or `mariadb`. What can't stand in a url is escaped as `%XX`.
    ///
    /// The keys are `identifier`, the way to encrypt as `tls` (off, prefer, require, verify) or as the clients of the
    /// databases call it (`sslmode`, `ssl-mode`), `sslrootcert`, and in seconds `connect_timeout`, `statement_timeout`,
    /// `lock_timeout` and `socket_timeout`; for PostgreSQL also `schema`.
    ///
    /// # Errors
    /// When it is no such url, or has other keys.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let bad = |why| Error::BadDatabaseUrl { why };
        let found = SCHEMES.iter().find_map(|(scheme, dialect)| Some((*dialect, url.strip_prefix(scheme)?)));
        let (dialect, rest) =
            found.ok_or(bad("begins with none of postgresql://, postgres://, mysql://, mariadb://"))?;
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        let (user, place) = rest.split_at(authority.rfind('@').unwrap_or(0));
        if user.is_empty() && !authority.contains('@') && rest.contains('@') {
            return Err(bad(
                "has a `/` or `?` before the `@`: in a password they are %2F and %3F, elsewhere `@` is %40",
            ));
        }
        let (username, password) = user.split_once(':').unwrap_or((user, ""));
        let username = decode(username, Escapes::Percent).map_err(bad)?;
        let password = decode(password, Escapes::Percent).map_err(bad)?;

        let kind = match dialect {
            Dialect::PostgreSql => Kind::PostgreSql,
            Dialect::MySql => Kind::MySql,
        };
        let place = format!("//{}", place.strip_prefix('@').unwrap_or(place));
        let JdbcUrl { hosts, mut database, properties, .. } =
            with_hosts(kind, &place, Escapes::Percent).map_err(bad)?;
        if database.is_empty() && dialect == Dialect::PostgreSql {
            database.clone_from(&username);
        }
        if database.is_empty() {
            return Err(bad("names no database"));
        }
        let mut parsed = Self {
            dialect,
            hosts,
            database,
            username,
            password: if password.is_empty() { None } else { Some(Secret::from_parameter(&password)?) },
            identifier: identifier(dialect, properties.get("identifier").map_or("", String::as_str))?,
            schema: None,
            tls: Tls::default(),
            timeouts: Timeouts::default(),
        };
        for (key, value) in &properties {
            parsed.set(key, value)?;
        }
        if properties.contains_key("tls") && properties.keys().any(|key| matches!(key.as_str(), "sslmode" | "ssl-mode"))
        {
            return Err(Error::BadParameter { name: "tls", why: "is given in two spellings" });
        }
        parsed.tls.finish();
        Ok(parsed)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let is_postgres = self.dialect == Dialect::PostgreSql;
        match key {
            "identifier" => {}
            "tls" => self.tls.set(tls::Spelling::Own, "tls", value)?,
            "sslmode" if is_postgres => self.tls.set(tls::Spelling::PostgreSql, "sslmode", value)?,
            "ssl-mode" if !is_postgres => self.tls.set(tls::Spelling::MySql, "ssl-mode", value)?,
            "sslrootcert" => self.tls.root_certificate = tls::root_certificate(value),
            "connect_timeout" => self.timeouts.connect_secs = secs("connect_timeout", value)?,
            "statement_timeout" => self.timeouts.statement_secs = Some(secs("statement_timeout", value)?),
            "lock_timeout" => self.timeouts.lock_secs = secs("lock_timeout", value)?,
            "socket_timeout" => self.timeouts.socket_secs = Some(secs("socket_timeout", value)?),
            "schema" if is_postgres => self.schema = Some(value.to_owned()).filter(|schema| !schema.is_empty()),
            // The key is not quoted: a `?` in a password makes keys of what follows.
            _ => {
                let known = if is_postgres { "sslmode, schema" } else { "ssl-mode" };
                return Err(Error::UnknownParameter { known });
            }
        }
        Ok(())
    }

    /// Takes what Kylin's configuration says. Properties that are about the driver itself are passed over.
    ///
    /// # Errors
    /// When it is H2, or a value can't be read.
    pub fn from_jdbc(jdbc: &Jdbc) -> Result<Self, Error> {
        let dialect = match jdbc.driver {
            Driver::PostgreSql => Dialect::PostgreSql,
            Driver::MySql5 | Driver::MySql8 => Dialect::MySql,
            Driver::H2 => return Err(Error::H2),
        };
        let property = |name: &str| {
            let found = jdbc.properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        // Both drivers take 0 for an end of all patience.
        let secs = |name: &'static str| match property(name) {
            None | Some("" | "0") => Ok(None),
            Some(value) if dialect == Dialect::MySql => secs(name, value).map(|millis| Some(millis.div_ceil(1000))),
            Some(value) => secs(name, value).map(Some),
        };
        let default = Timeouts::default();
        let timeouts = Timeouts {
            connect_secs: secs("connectTimeout")?.unwrap_or(default.connect_secs),
            socket_secs: secs("socketTimeout")?,
            ..default
        };
        let schema = property("currentSchema").filter(|schema| dialect == Dialect::PostgreSql && !schema.is_empty());
        Ok(Self {
            dialect,
            hosts: jdbc.hosts.clone(),
            database: jdbc.database.clone(),
            username: jdbc.username.clone(),
            password: jdbc.password.clone(),
            identifier: identifier(dialect, &jdbc.identifier)?,
            schema: schema.map(str::to_owned),
            tls: Tls::of_jdbc(dialect, property)?,
            timeouts,
        })
    }

    /// Returns how snapshots name the store: a url without user and password, the same whatever the configuration was read
    /// from.
    pub fn location(&self) -> String {
        let scheme = SCHEMES.iter().find(|(_, dialect)| *dialect == self.dialect).map_or("", |(scheme, _)| scheme);
        let mut location = scheme.to_owned();
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
            write!(location, "{comma}{open}{host}{close}:{port}").expect(WRITTEN);
        }
        let escaped = |text| utf8_percent_encode(text, ESCAPED);
        write!(location, "/{}?identifier={}", escaped(&self.database), self.identifier).expect(WRITTEN);
        if let Some(schema) = &self.schema {
            write!(location, "&schema={}", escaped(schema)).expect(WRITTEN);
        }
        location
    }
}

const WRITTEN: &str = "a text takes what is written";

/// Checks an identifier; an empty one stands for Kylin's default.
fn identifier(dialect: Dialect, identifier: &str) -> Result<String, Error> {
    let identifier = if identifier.is_empty() { IDENTIFIER_DEFAULT } else { identifier };
    check_identifier(dialect, identifier)?;
    Ok(match dialect {
        Dialect::PostgreSql => identifier.to_ascii_lowercase(),
        Dialect::MySql => identifier.to_owned(),
    })
}

fn secs(name: &'static str, value: &str) -> Result<u64, Error> {
    // `parse` alone would take `+1`. What is larger than a client can be told is no time to wait either.
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    let secs = value.parse::<u32>().ok().filter(|secs| is_number && *secs > 0);
    secs.map(u64::from).ok_or(Error::BadParameter { name, why: "is no number from 1 to 4294967295" })
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("dialect", &self.dialect)
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .field("password", &self.password)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
