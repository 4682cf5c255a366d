//! Connections to PostgreSQL.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::{BufRead, Read};
use std::time::Duration;

use ::postgres::config::SslMode;
use ::postgres::error::SqlState;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use ::postgres::{Client, Config, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::session::{Cell, Fault, Param, Session, Shape, SqlError, SqlResult, TakeRow, quoted};
use super::tls::client_config;
use crate::platform::kylin::database::{Database, TlsMode};
use crate::platform::kylin::tables::Dialect;

/// Most parameters of one statement: the protocol counts them in 16 bits.
const PARAMS_MAX: usize = u16::MAX as usize;
/// Most statements that are kept prepared. There are about as many as tables times three.
const STATEMENTS_MAX: usize = 200;
/// What a message to the server may hold at most, less what surrounds a value.
const MESSAGE_BYTES_MAX: u64 = (1 << 30) - (1 << 20);

struct PostgresSession {
    client: Client,
    statements: HashMap<String, Statement>,
}

pub(super) fn connect(database: &Database) -> SqlResult<Box<dyn Session>> {
    let mut config = Config::new();
    for (host, port) in &database.hosts {
        config.host(host).port(*port);
    }
    config.dbname(&database.database).user(&database.username).application_name("metastash");
    if let Some(password) = &database.password {
        config.password(password.expose());
    }
    let timeouts = &database.timeouts;
    config.connect_timeout(Duration::from_secs(timeouts.connect_secs)).keepalives_idle(Duration::from_secs(60));
    if let Some(secs) = timeouts.socket_secs {
        config.tcp_user_timeout(Duration::from_secs(secs));
    }
    let client = match database.tls.mode {
        TlsMode::Off => config.ssl_mode(SslMode::Disable).connect(NoTls),
        TlsMode::Prefer => {
            let tls = MakeRustlsConnect::new(client_config(&database.tls)?);
            match config.ssl_mode(SslMode::Prefer).connect(tls) {
                // As libpq: a server with which no encryption can be agreed upon is talked to in the clear.
                Err(error) if is_tls(&error) => config.ssl_mode(SslMode::Disable).connect(NoTls),
                result => result,
            }
        }
        _ => config.ssl_mode(SslMode::Require).connect(MakeRustlsConnect::new(client_config(&database.tls)?)),
    };
    let mut client = client.map_err(|error| to_sql_error(&error))?;
    let mut settings = format!("SET lock_timeout = {}", timeouts.lock_secs.saturating_mul(1000));
    if let Some(secs) = timeouts.statement_secs {
        settings.push_str(&format!("; SET statement_timeout = {}", secs.saturating_mul(1000)));
    }
    if let Some(schema) = &database.schema {
        settings.push_str(&format!("; SET search_path TO {}", quoted(Dialect::PostgreSql, schema)));
    }
    client.batch_execute(&settings).map_err(|error| to_sql_error(&error))?;
    Ok(Box::new(PostgresSession { client, statements: HashMap::new() }))
}

fn is_tls(error: &::postgres::Error) -> bool {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes
        .into_iter()
        .any(|cause| cause.is::<rustls::Error>() || cause.to_string().contains("received corrupt message"))
}

/// Says what a server or its driver said, and what kind of failure it is.
fn to_sql_error(error: &::postgres::Error) -> SqlError {
    if let Some(db) = error.as_db_error() {
        let mut message = format!("{} ({})", db.message(), db.code().code());
        if let Some(constraint) = db.constraint() {
            message.push_str(&format!(", constraint {constraint}"));
        }
        return SqlError { fault: fault_of(db.code()), message };
    }
    let causes = std::iter::successors(Some(error as &dyn StdError), |cause| (*cause).source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some of them repeat their cause.
    let mut message = String::new();
    for (at, text) in texts.iter().enumerate() {
        if !texts[..at].iter().any(|before| before.contains(text.as_str())) {
            message.push_str(if at == 0 { "" } else { ": " });
            message.push_str(text);
        }
    }
    let is_io =
        std::iter::successors(error.source(), |cause| (*cause).source()).any(|cause| cause.is::<std::io::Error>());
    let is_lost = error.is_closed() || is_io || message.contains("error connecting") || message.contains("timeout");
    SqlError { fault: if is_lost { Fault::Unreachable } else { Fault::Other }, message }
}

fn fault_of(state: &SqlState) -> Fault {
    match (&state.code()[..2], state) {
        (_, s) if *s == SqlState::INVALID_CATALOG_NAME => Fault::NoDatabase,
        (_, s) if *s == SqlState::T_R_SERIALIZATION_FAILURE || *s == SqlState::T_R_DEADLOCK_DETECTED => Fault::Conflict,
        (_, s) if *s == SqlState::QUERY_CANCELED || *s == SqlState::LOCK_NOT_AVAILABLE => Fault::Timeout,
        (_, s) if *s == SqlState::INSUFFICIENT_PRIVILEGE || *s == SqlState::READ_ONLY_SQL_TRANSACTION => Fault::Denied,
        (_, s) if *s == SqlState::STRING_DATA_RIGHT_TRUNCATION || *s == SqlState::NOT_NULL_VIOLATION => {
            Fault::Constraint
        }
        (_, s)
            if *s == SqlState::ADMIN_SHUTDOWN
                || *s == SqlState::CRASH_SHUTDOWN
                || *s == SqlState::CANNOT_CONNECT_NOW =>
        {
            Fault::Unreachable
        }
        (_, s) if *s == SqlState::TOO_MANY_CONNECTIONS => Fault::Unreachable,
        (_, s) if *s == SqlState::PROGRAM_LIMIT_EXCEEDED => Fault::TooLarge,
        ("08", _) => Fault::Unreachable,
        ("28", _) => Fault::Denied,
        ("23", _) => Fault::Constraint,
        _ => Fault::Other,
    }
}

/// Writes `$1`, `$2` … for each `?`. Our statements have none in texts.
fn numbered(sql: &str) -> String {
    let mut parts = sql.split('?');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (n, part) in parts.enumerate() {
        text.push_str(&format!("${}", n + 1));
        text.push_str(part);
    }
    text
}

impl PostgresSession {
    fn statement(&mut self, sql: &str) -> SqlResult<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(&numbered(sql)).map_err(|error| to_sql_error(&error))?;
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn batch(&mut self, sql: &str) -> SqlResult<()> {
        self.client.batch_execute(sql).map_err(|error| to_sql_error(&error))
    }
}

fn check_params(params: &[Param<'_>]) -> SqlResult<()> {
    if params.len() <= PARAMS_MAX {
        return Ok(());
    }
    Err(SqlError { fault: Fault::TooLarge, message: format!("a statement has {} parameters", params.len()) })
}

impl Session for PostgresSession {
    fn query(&mut self, sql: &str, params: &[Param<'_>], take: TakeRow<'_>) -> SqlResult<()> {
        check_params(params)?;
        let statement = self.statement(sql)?;
        let mut rows = self.client.query_raw(&statement, params.iter()).map_err(|error| to_sql_error(&error))?;
        while let Some(row) = rows.next().map_err(|error| to_sql_error(&error))? {
            let cells: Result<Vec<Cell<'_>>, _> = (0..row.len()).map(|n| row.try_get(n)).collect();
            take(&cells.map_err(|error| to_sql_error(&error))?);
        }
        Ok(())
    }

    /// Asks for the rows as a binary copy, which costs the server and us less than a query does.
    fn query_many(&mut self, sql: &str, shape: &[Shape], take: TakeRow<'_>) -> SqlResult<()> {
        let copy = format!("COPY ({sql}) TO STDOUT (FORMAT BINARY)");
        let mut stream = self.client.copy_out(&copy).map_err(|error| to_sql_error(&error))?;
        CopyReader { stream: &mut stream, raw: Vec::new() }.read(shape, take).map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<::postgres::Error>()) {
                Some(error) => to_sql_error(error),
                None => SqlError { fault: Fault::Unreachable, message: error.to_string() },
            }
        })
    }

    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> SqlResult<u64> {
        check_params(params)?;
        if params.is_empty() {
            return self.client.execute(sql, &[]).map_err(|error| to_sql_error(&error));
        }
        let statement = self.statement(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as _).collect();
        self.client.execute(&statement, &params).map_err(|error| to_sql_error(&error))
    }

    fn begin_snapshot(&mut self) -> SqlResult<Option<String>> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        self.batch(BEGIN)?;
        let mut name = None;
        match self.query("SELECT pg_export_snapshot()", &[], &mut |row| {
            name = row[0].bytes().and_then(|name| String::from_utf8(name.to_vec()).ok());
        }) {
            Ok(()) => Ok(name),
            Err(error) if error.fault == Fault::Unreachable => Err(error),
            // Some poolers and standbys can't: one connection will do.
            Err(_) => {
                self.batch("ROLLBACK")?;
                self.batch(BEGIN)?;
                Ok(None)
            }
        }
    }

    fn join_snapshot(&mut self, name: &str) -> SqlResult<()> {
        let name = name.replace('\'', "");
        self.batch(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT '{name}'"))
    }

    fn begin_write(&mut self) -> SqlResult<()> {
        self.batch("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
    }

    fn statement_bytes_max(&mut self) -> SqlResult<u64> {
        Ok(MESSAGE_BYTES_MAX)
    }
}

/// Reads the format of `COPY … (FORMAT BINARY)`: a signature of 11 bytes, flags, an extension; then for each row a count of
/// fields and for each field its length (-1 for null) and bytes; at the end the count -1. Numbers are big endian. Source:
/// PostgreSQL's manual, "COPY", "Binary Format".
struct CopyReader<'s, S> {
    stream: &'s mut S,
    raw: Vec<u8>,
}

impl<S: BufRead> CopyReader<'_, S> {
    fn read(&mut self, shape: &[Shape], take: TakeRow<'_>) -> std::io::Result<()> {
        let malformed = |what: &str| std::io::Error::other(format!("the server sent a malformed copy: {what}"));
        let mut head = [0; 19];
        self.stream.read_exact(&mut head)?;
        let extension = u32::from_be_bytes(head[15..].try_into().expect("four bytes"));
        if !head.starts_with(b"PGCOPY\n\xff\r\n\0") || extension != 0 {
            return Err(malformed("no signature"));
        }
        let mut ranges = Vec::with_capacity(shape.len());
        loop {
            let mut count = [0; 2];
            self.stream.read_exact(&mut count)?;
            let count = i16::from_be_bytes(count);
            if count == -1 {
                // The stream must be read to its end before the next statement.
                return std::io::copy(self.stream, &mut std::io::sink()).map(drop);
            }
            if usize::try_from(count).ok() != Some(shape.len()) {
                return Err(malformed("another number of columns"));
            }
            self.raw.clear();
            ranges.clear();
            for _ in shape {
                let mut length = [0; 4];
                self.stream.read_exact(&mut length)?;
                match i32::from_be_bytes(length) {
                    -1 => ranges.push(None),
                    length => {
                        let length = u64::try_from(length).map_err(|_| malformed("a negative length"))?;
                        let start = self.raw.len();
                        let read = (&mut *self.stream).take(length).read_to_end(&mut self.raw)?;
                        if read as u64 != length {
                            return Err(std::io::ErrorKind::UnexpectedEof.into());
                        }
                        ranges.push(Some(start..self.raw.len()));
                    }
                }
            }
            let cells: Option<Vec<Cell<'_>>> = ranges
                .iter()
                .zip(shape)
                .map(|(range, shape)| match (range, shape) {
                    (None, _) => Some(Cell::Null),
                    (Some(range), Shape::Bytes) => Some(Cell::Bytes(&self.raw[range.clone()])),
                    (Some(range), Shape::Int) => integer(&self.raw[range.clone()]).map(Cell::Int),
                })
                .collect();
            take(&cells.ok_or_else(|| malformed("an integer of an odd length"))?);
        }
    }
}

fn integer(raw: &[u8]) -> Option<i64> {
    Some(match raw.len() {
        1 => i64::from(raw[0]),
        2 => i64::from(i16::from_be_bytes(raw.try_into().ok()?)),
        4 => i64::from(i32::from_be_bytes(raw.try_into().ok()?)),
        8 => i64::from_be_bytes(raw.try_into().ok()?),
        _ => return None,
    })
}

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        match *ty {
            Type::INT8 | Type::INT4 | Type::INT2 | Type::BOOL => {
                Ok(Cell::Int(integer(raw).ok_or("an integer of an odd length")?))
            }
            Type::OID => Ok(Cell::Int(i64::from(u32::from_be_bytes(raw.try_into()?)))),
            _ => Ok(Cell::Bytes(raw)),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Cell::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut ::postgres::types::private::BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match (*self, ty) {
            (Param::Null, _) => return Ok(IsNull::Yes),
            (Param::Int(value), &Type::INT8) => out.extend_from_slice(&value.to_be_bytes()),
            (Param::Int(value), &Type::INT4) => out.extend_from_slice(&i32::try_from(value)?.to_be_bytes()),
            (Param::Int(value), &Type::INT2) => out.extend_from_slice(&i16::try_from(value)?.to_be_bytes()),
            (Param::Int(value), &Type::BOOL) => out.extend_from_slice(&[u8::from(value != 0)]),
            (Param::Int(value), _) => out.extend_from_slice(value.to_string().as_bytes()),
            (Param::Bool(value), &Type::BOOL) => out.extend_from_slice(&[u8::from(value)]),
            (Param::Bool(value), _) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            (Param::Text(value), _) => out.extend_from_slice(value.as_bytes()),
            (Param::Bytes(value), _) => out.extend_from_slice(value),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
