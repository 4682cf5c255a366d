//! Apache Kylin 5: its documents, how files name them, and where an installation says they lie.
//!
//! There are two generations of layouts, before and after the refactoring of August 2024 (KYLIN-5945): *old* (5.0-alpha
//! and 5.0-beta) and *new* (5.0.0 and later). [`kind`], [`layout`], [`detect`] and [`content`] are about documents.
//! [`settings`] finds the value of `kylin.metadata.url` in the files of an installation, [`url`] reads it, and
//! [`location`] tells which store is meant.
//!
//! Stores in databases: [`database`] says how to reach one, [`tables`] knows their tables and what of a document is in
//! which column, and [`encoding`] how content is stored in them. [`node`] is where a running Kylin is asked to reload.

pub mod content;
pub mod database;
pub mod detect;
pub mod doctor;
pub mod encoding;
pub mod jdbc;
mod jdbc_url;
pub mod json;
pub mod kind;
pub mod layout;
pub mod location;
pub mod migrate;
pub mod node;
pub mod patch;
pub mod properties;
pub mod secret;
pub mod settings;
pub mod tables;
pub mod url;

/// Why the configuration of a Kylin does not lead to a store.
///
/// No message quotes a text that may hold a password: what can't be read can't be told apart from one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is a quote without a second one. Kylin goes on and splits at other commas than the writer meant.
    #[error(
        "the metadata url has {quotes} quotes, which do not pair up: Kylin would split it in the wrong places; \
         a value can hold a quote of its own only if there is a second one, a password also as ENC('…')"
    )]
    UnbalancedQuotes {
        /// How many there are, `'` and `"` together.
        quotes: usize,
    },
    /// Kylin's check at the start refuses such an identifier, since tables are named after it.
    #[error(
        "the identifier {identifier} of the metadata url has {length} characters, more than the {max} Kylin allows"
    )]
    IdentifierTooLong {
        /// The identifier.
        identifier: String,
        /// Its length, counted as Kylin does, in UTF-16 units.
        length: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// The names of tables can't begin with this identifier.
    #[error("the identifier {why}: Kylin names its tables after it, and does not quote their names")]
    BadIdentifier {
        /// What is wrong, as the rest of a sentence.
        why: &'static str,
    },
    /// What should be an identifier is the beginning of a url, `postgres://user:password@host` perhaps.
    #[error("this is a url of another kind: a metadata url is identifier@scheme,key=value,…")]
    UrlOfAnotherKind,
    /// A parameter is given that Kylin would not look at, so that the url says something else than it seems to.
    #[error("the parameter path has no meaning in a metadata url of scheme file: the directory stands before the @")]
    PathOfFile,
    /// The driver is none of those we know.
    #[error(
        "the driver {name} is not one of org.postgresql.Driver, com.mysql.jdbc.Driver, com.mysql.cj.jdbc.Driver, \
         org.h2.Driver"
    )]
    UnknownDriver {
        /// What was given as `driverClassName`.
        name: String,
    },
    /// The driver does not open urls of this kind.
    #[error("the driver {driver} does not open a {url} url: driverClassName, if not given, is org.postgresql.Driver")]
    DriverOfAnotherUrl {
        /// The class of the driver.
        driver: &'static str,
        /// How the url begins.
        url: &'static str,
    },
    /// The parameter `url` can't be read.
    #[error("the jdbc url in the metadata url {why}")]
    BadJdbcUrl {
        /// What is wrong, as the rest of a sentence.
        why: &'static str,
    },
    /// The url of a database can't be read.
    #[error("the url of the database {why}")]
    BadDatabaseUrl {
        /// What is wrong, as the rest of a sentence.
        why: &'static str,
    },
    /// The url of a database has a parameter that we do not know. It is not named, since it may be part of a password.
    #[error(
        "the url of the database has a parameter that is none of identifier, tls, sslrootcert, connect_timeout, \
         statement_timeout, lock_timeout, socket_timeout, {known}"
    )]
    UnknownParameter {
        /// What else there may be, for this kind of database.
        known: &'static str,
    },
    /// A parameter of a url of a database can't be read.
    #[error("the parameter {name} of the url {why}")]
    BadParameter {
        /// The parameter.
        name: &'static str,
        /// What is wrong, as the rest of a sentence.
        why: &'static str,
    },
    /// The url of a node can't be read.
    #[error("the url of the node {why}")]
    BadNodeUrl {
        /// What is wrong, as the rest of a sentence.
        why: &'static str,
    },
    /// The store is in H2.
    #[error("the store is in H2, a database that only Java programs can open")]
    H2,
    /// A password in the form `ENC('…')` can't be decrypted.
    #[error("the encrypted password {why}")]
    BadSecret {
        /// What is wrong, as the rest of a sentence.
        why: &'static str,
    },
    /// A line of a properties file can't be read.
    #[error("line {line} of the properties {why}")]
    BadLine {
        /// The first line of the property, counted from 1.
        line: usize,
        /// What is wrong, as the rest of a sentence.
        why: &'static str,
    },
    /// A property contains itself.
    #[error("the property {} contains itself: {}", names[0], names.join(" -> "))]
    Cycle {
        /// The names on the way, from the first to its second occurrence.
        names: Vec<String>,
    },
    /// A property contains too much of others.
    #[error("the property {name} contains others too many levels deep, or is too long with all of them")]
    TooDeep {
        /// The property in which the limit was met.
        name: String,
    },
}
