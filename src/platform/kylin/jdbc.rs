//! A metadata store in a database: how to connect to it, with Kylin's defaults filled in.

use std::collections::BTreeMap;
use std::fmt;

use crate::platform::kylin::Error;
use crate::platform::kylin::jdbc_url::{JdbcUrl, Kind};
use crate::platform::kylin::secret::Secret;
use crate::platform::kylin::url::{MetadataUrl, is_word};

/// Longest identifier Kylin starts with, in UTF-16 units.
pub const IDENTIFIER_UNITS_MAX: usize = 33;

const URL_DEFAULT: &str = "jdbc:postgresql://sandbox:5432/kylin";
const USERNAME_DEFAULT: &str = "postgres";

/// A database with metadata tables. Its `Debug` shows the driver, hosts and database only: misplaced quotes can make the
/// password part of any other value.
#[derive(Clone, PartialEq, Eq)]
pub struct Jdbc {
    /// What the names of the tables begin with.
    pub identifier: String,
    /// The driver Kylin uses, which also decides its SQL dialect.
    pub driver: Driver,
    /// Hosts, IPv6 addresses without brackets, and ports, in the order to try them. None for H2.
    pub hosts: Vec<(String, u16)>,
    /// The database; for H2 everything before the properties, such as `mem:kylin`.
    pub database: String,
    /// Properties in the url, decoded, without user and password.
    pub properties: BTreeMap<String, String>,
    /// The user.
    pub username: String,
    /// The password in the clear; none if it is empty.
    pub password: Option<Secret>,
    /// All other parameters, which concern Kylin's connection pool.
    pub parameters: BTreeMap<String, String>,
}

/// The class of a JDBC driver. Kylin compares the names to the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// `org.postgresql.Driver`.
    PostgreSql,
    /// `com.mysql.jdbc.Driver`, whatever the version of the server.
    MySql5,
    /// `com.mysql.cj.jdbc.Driver`. A Kylin with the newer tables has none for it and does not start, one with the older
    /// tables does.
    MySql8,
    /// `org.h2.Driver`, in Kylin's own tests.
    H2,
}

impl Driver {
    /// Returns the driver of a class.
    ///
    /// # Errors
    /// Refuses all but the four names.
    pub fn from_class(name: &str) -> Result<Self, Error> {
        let drivers = [Self::PostgreSql, Self::MySql5, Self::MySql8, Self::H2];
        let found = drivers.into_iter().find(|driver| driver.class() == name);
        // What is no name of a class may be half of a url whose quotes are misplaced, password included.
        found.ok_or_else(|| Error::UnknownDriver { name: if is_word(name) { name } else { "…" }.to_owned() })
    }

    /// Returns the name of the class.
    pub fn class(self) -> &'static str {
        match self {
            Self::PostgreSql => "org.postgresql.Driver",
            Self::MySql5 => "com.mysql.jdbc.Driver",
            Self::MySql8 => "com.mysql.cj.jdbc.Driver",
            Self::H2 => "org.h2.Driver",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::PostgreSql => Kind::PostgreSql,
            Self::MySql5 | Self::MySql8 => Kind::MySql,
            Self::H2 => Kind::H2,
        }
    }
}

impl Jdbc {
    /// Reads the parameters of a metadata url, whatever its scheme.
    pub(super) fn new(url: &MetadataUrl) -> Result<Self, Error> {
        check_identifier(url)?;
        let mut parameters = url.parameters.clone();
        let driver = match parameters.remove("driverClassName") {
            Some(name) => Driver::from_class(&name)?,
            None => Driver::PostgreSql,
        };
        let jdbc_url = JdbcUrl::parse(parameters.remove("url").as_deref().unwrap_or(URL_DEFAULT))?;
        if jdbc_url.kind != driver.kind() {
            return Err(Error::DriverOfAnotherUrl { driver: driver.class(), url: jdbc_url.kind.prefix() });
        }
        let JdbcUrl { kind, hosts, mut database, mut properties } = jdbc_url;
        let in_url = (take(&mut properties, "user"), take(&mut properties, "password"));
        let username = stronger(kind, parameters.remove("username"), in_url.0);
        let username = username.unwrap_or_else(|| USERNAME_DEFAULT.to_owned());
        let password = match (parameters.remove("password").filter(|value| !value.is_empty()), in_url.1) {
            // Kylin decrypts the parameter only.
            (Some(parameter), in_url) => {
                let parameter = Secret::from_parameter(&parameter)?;
                stronger(kind, Some(parameter), in_url.map(Secret::new))
            }
            (None, in_url) => in_url.map(Secret::new),
        };
        if database.is_empty() {
            database = database_default(kind, &username)?;
        }
        let identifier = url.identifier.clone();
        Ok(Self { identifier, driver, hosts, database, properties, username, password, parameters })
    }
}

fn check_identifier(url: &MetadataUrl) -> Result<(), Error> {
    let length = url.identifier.encode_utf16().count();
    if length > IDENTIFIER_UNITS_MAX {
        let identifier = url.identifier_shown().to_owned();
        return Err(Error::IdentifierTooLong { identifier, length, max: IDENTIFIER_UNITS_MAX });
    }
    Ok(())
}

/// Removes a property of the url. The names are compared as the driver of MySQL does; the others know one spelling.
fn take(properties: &mut BTreeMap<String, String>, name: &str) -> Option<String> {
    let key = properties.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone();
    properties.remove(&key).filter(|value| !value.is_empty())
}

/// Chooses between a parameter and what the url says of the same thing: drivers differ in which they prefer.
fn stronger<T>(kind: Kind, parameter: Option<T>, in_url: Option<T>) -> Option<T> {
    match kind {
        Kind::PostgreSql => in_url.or(parameter),
        Kind::MySql | Kind::H2 => parameter.or(in_url),
    }
}

fn database_default(kind: Kind, username: &str) -> Result<String, Error> {
    match kind {
        Kind::PostgreSql => Ok(username.to_owned()),
        Kind::MySql | Kind::H2 => Err(Error::BadJdbcUrl { why: "names no database" }),
    }
}

impl fmt::Debug for Jdbc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jdbc")
            .field("driver", &self.driver)
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .field("password", &self.password)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jdbc(url: &str) -> Result<Jdbc, Error> {
        Jdbc::new(&url.parse()?)
    }

    fn password(url: &str) -> Option<String> {
        jdbc(url).unwrap().password.map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn defaults_are_those_of_kylin() {
        let jdbc = jdbc("kylin_metadata@jdbc").unwrap();
        assert_eq!(jdbc.driver, Driver::PostgreSql);
        assert_eq!(jdbc.hosts, [("sandbox".to_owned(), 5432)]);
        assert_eq!((jdbc.database.as_str(), jdbc.username.as_str(), jdbc.password), ("kylin", "postgres", None));
    }

    #[test]
    fn all_parts_of_the_example_are_read() {
        let jdbc = jdbc(
            "kylin_metadata@jdbc,driverClassName=com.mysql.jdbc.Driver,\
             url=\"jdbc:mysql://a:3306,b:3306/kylin?useSSL=false\",username=root,\
             password=ENC('YeqVr9MakSFbgxEec9sBwg=='),maxTotal=50",
        )
        .unwrap();
        assert_eq!((jdbc.identifier.as_str(), jdbc.driver), ("kylin_metadata", Driver::MySql5));
        assert_eq!(jdbc.hosts, [("a".to_owned(), 3306), ("b".to_owned(), 3306)]);
        assert_eq!((jdbc.database.as_str(), jdbc.username.as_str()), ("kylin", "root"));
        assert_eq!(jdbc.password.clone().unwrap().expose(), "kylin");
        assert_eq!(jdbc.properties, BTreeMap::from([("useSSL".to_owned(), "false".to_owned())]));
        assert_eq!(jdbc.parameters, BTreeMap::from([("maxTotal".to_owned(), "50".to_owned())]));
        assert!(!format!("{jdbc:?}").contains("Some(\"kylin\")"));
    }

    #[test]
    fn user_and_password_of_the_url_rank_as_in_the_driver() {
        let mysql = "a@jdbc,driverClassName=com.mysql.cj.jdbc.Driver,url=jdbc:mysql://h/k?user=u&PASSWORD=in%2Curl";
        let postgres = "a@jdbc,url=jdbc:postgresql://h/k?user=u&password=in%2Curl";
        assert_eq!(password(mysql).as_deref(), Some("in,url"));
        assert_eq!(password(&format!("{mysql},password=p")).as_deref(), Some("p"));
        assert_eq!(password(&format!("{postgres},password=p")).as_deref(), Some("in,url"));
        assert_eq!(jdbc(&format!("{mysql},username=root")).unwrap().username, "root");
        assert_eq!(jdbc(&format!("{postgres},username=root")).unwrap().username, "u");
        assert!(jdbc(mysql).unwrap().properties.is_empty());
    }

    #[test]
    fn what_kylin_would_not_start_with_is_refused() {
        for (url, message) in [
            (
                "a@jdbc,driverClassName=org.mariadb.jdbc.Driver",
                "the driver org.mariadb.jdbc.Driver is not one of org.postgresql.Driver, com.mysql.jdbc.Driver, \
                 com.mysql.cj.jdbc.Driver, org.h2.Driver",
            ),
            (
                "a@jdbc,url=jdbc:mysql://h/k",
                "the driver org.postgresql.Driver does not open a jdbc:mysql: url: driverClassName, if not given, is \
                 org.postgresql.Driver",
            ),
            (
                "a123456789b123456789c123456789d123@jdbc",
                "the identifier a123456789b123456789c123456789d123 of the metadata url has 34 characters, more than \
                 the 33 Kylin allows",
            ),
            (
                "a@jdbc,driverClassName=com.mysql.jdbc.Driver,url=jdbc:mysql://h",
                "the jdbc url in the metadata url names no database",
            ),
        ] {
            assert_eq!(jdbc(url).unwrap_err().to_string(), message);
        }
        assert!(jdbc("a123456789b123456789c123456789d12@jdbc").is_ok());
        assert_eq!(jdbc("a@jdbc,url=jdbc:postgresql://h/,username=kylin").unwrap().database, "kylin");
    }
}
