//! A connection to a database, as little of it as a store needs: statements with parameters, rows of plain values.
//!
//! The two drivers differ in how they are called; what is asked of them is the same SQL, with `?` for parameters.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{mysql, postgres};
use crate::endpoint::{Error, Result};
use crate::platform::kylin::database::Database;
use crate::platform::kylin::tables::Dialect;

/// How long a transaction that writes may wait for us, in seconds. One whose client hangs, or is behind a network that lost
/// it, must not hold its locks for hours.
pub(super) const IDLE_SECS_MAX: u64 = 300;

/// A value to send.
#[derive(Clone, Copy)]
pub(super) enum Param<'a> {
    Null,
    Int(i64),
    Bool(bool),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl std::fmt::Debug for Param<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Drivers print parameters when they fail. Documents and their parts don't belong into messages.
        f.write_str(match self {
            Self::Null => "null",
            Self::Int(_) => "an integer",
            Self::Bool(_) => "a boolean",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
        })
    }
}

/// A value that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    /// An integer or a boolean.
    Int(i64),
    /// Anything else, text included.
    Bytes(&'a [u8]),
}

impl<'a> Cell<'a> {
    pub(super) fn int(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            _ => None,
        }
    }
}

/// Why a database did not do what it was asked for, as far as a caller would act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It can't be reached, or the connection was lost.
    Unreachable,
    /// The user or password is wrong, or the user may not do this.
    Denied,
    /// There is no such database.
    NoDatabase,
    /// Another transaction was in the way: the whole transaction may be tried again.
    Conflict,
    /// A time limit of the server or of ours has passed.
    Timeout,
    /// The values break a rule of the table: unique, not null, too long.
    Constraint,
    /// The statement or value is larger than the server takes.
    TooLarge,
    /// Anything else.
    Other,
}

/// What a database or its driver said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// What kind of failure it is.
    pub fault: Fault,
    /// In the words of the server, without the values of parameters.
    pub message: String,
}

pub(super) type SqlResult<T> = std::result::Result<T, SqlError>;

/// Receives the rows of a query one by one.
pub(super) type TakeRow<'a> = &'a mut dyn FnMut(&[Cell<'_>]);

/// A connection. Dropped, it ends its transaction without effect.
pub(super) trait Session: Send {
    /// Runs a statement that returns rows.
    fn query(&mut self, sql: &str, params: &[Param<'_>], take: TakeRow<'_>) -> SqlResult<()>;

    /// Runs a query whose rows may be many, without parameters. Every column is an integer, a text or bytes as `shape` says.
    fn query_many(&mut self, sql: &str, _shape: &[Shape], take: TakeRow<'_>) -> SqlResult<()> {
        self.query(sql, &[], take)
    }

    /// Runs a statement and returns how many rows it changed.
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> SqlResult<u64>;

    /// Begins to read: all that is read from now on is as it was at one moment. Returns a name under which other
    /// connections can see the same, if the server can do that.
    fn begin_snapshot(&mut self) -> SqlResult<Option<String>>;

    /// Begins to read what another connection sees.
    fn join_snapshot(&mut self, name: &str) -> SqlResult<()>;

    /// Begins a transaction that writes.
    fn begin_write(&mut self) -> SqlResult<()>;

    /// Makes what the transaction did last, with one message: once the server has it, the rest does not depend on us.
    fn commit(&mut self) -> SqlResult<()>;

    /// Takes a lock of a name of one's own, which goes when the transaction or the connection has come to its end, and waits
    /// for one who has it.
    fn hold(&mut self, name: &str) -> SqlResult<()>;

    /// Returns how many bytes a statement with all its parameters, and a value, may have.
    fn statement_bytes_max(&mut self) -> SqlResult<u64>;
}

/// What a column of many rows holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// An integer of 64 bits.
    Int,
    /// Text or bytes.
    Bytes,
}

/// Connects to a database.
pub(super) fn connect(database: &Database) -> Result<Box<dyn Session>> {
    connect_in_time(database).map_err(|error| failed("connect to", database, error))
}

/// Connects, or gives up when the time for that is over: both drivers watch the time until a host takes the connection, and
/// then wait for ever for one that does not say a word.
fn connect_in_time(database: &Database) -> SqlResult<Box<dyn Session>> {
    let secs = database.timeouts.connect_secs;
    let hosts = u64::try_from(database.hosts.len()).unwrap_or(1).max(1);
    let (sender, receiver) = mpsc::sync_channel(1);
    let own = database.clone();
    let connecting = move || {
        let session = match own.dialect {
            Dialect::PostgreSql => postgres::connect(&own),
            Dialect::MySql => mysql::connect(&own),
        };
        // Nobody is waiting any more if this fails, and the connection ends with it.
        let _ = sender.send(session);
    };
    // If it is given up, it ends when the other side hangs up.
    let thread = thread::Builder::new().name("connect".to_owned()).spawn(connecting);
    let unreachable = |message: String| SqlError { fault: Fault::Unreachable, message };
    thread.map_err(|error| unreachable(format!("no thread can be started: {error}")))?;
    receiver.recv_timeout(Duration::from_secs(secs.saturating_mul(hosts))).unwrap_or_else(|_| {
        Err(unreachable(format!("something took the connection, but did not let us in within {secs} s")))
    })
}

/// Returns the error of a store in a database.
pub(super) fn failed(action: &'static str, database: &Database, source: SqlError) -> Error {
    Error::Database { action, store: database.location(), source }
}

/// Returns the name of a table or column as it is written in SQL.
pub(super) fn quoted(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::PostgreSql => format!("\"{}\"", name.replace('"', "\"\"")),
        Dialect::MySql => format!("`{}`", name.replace('`', "``")),
    }
}

/// Returns `(?, ?, …)` with so many parameters.
pub(super) fn marks(count: usize) -> String {
    let mut text = String::with_capacity(2 * count + 2);
    text.push('(');
    for n in 0..count {
        text.push_str(if n == 0 { "?" } else { ",?" });
    }
    text.push(')');
    text
}

/// Returns a condition that holds where a column is one of these. There must be one.
pub(super) fn any_of(dialect: Dialect, column: &str, ids: impl IntoIterator<Item = i64>) -> String {
    match dialect {
        // One value takes the server a tenth of the time that thousands in a list do.
        Dialect::PostgreSql => {
            let list = list(ids);
            format!("{column} = ANY ('{{{}}}'::int8[])", &list[1..list.len() - 1])
        }
        Dialect::MySql => format!("{column} IN {}", list(ids)),
    }
}

/// Returns `(1,2,…)`. The list must not be empty.
pub(super) fn list(ids: impl IntoIterator<Item = i64>) -> String {
    use std::fmt::Write;
    let mut text = "(".to_owned();
    for id in ids {
        if text.len() > 1 {
            text.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{id}");
    }
    text.push(')');
    text
}

/// Reads a file of certificates.
pub(super) fn read_certificates(path: &Path) -> SqlResult<Vec<u8>> {
    std::fs::read(path).map_err(|error| SqlError {
        fault: Fault::Other,
        message: format!("cannot read the root certificates in {}: {error}", path.display()),
    })
}
