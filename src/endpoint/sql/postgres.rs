//! Connections to PostgreSQL.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::BufRead;
use std::time::Duration;

use ::postgres::config::SslMode;
use ::postgres::error::SqlState;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use ::postgres::{Client, Config, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::session::{Cell, Fault, IDLE_SECS_MAX, Param, Session, Shape, SqlError, SqlResult, TakeRow, quoted};
use super::tls::client_config;
use crate::platform::kylin::database::{Database, TlsMode};
use crate::platform::kylin::tables::Dialect;

/// Most parameters of one statement: the protocol counts them in 16 bits.
const PARAMS_MAX: usize = u16::MAX as usize;
/// Most statements that are kept prepared. There are about as many as tables times three.
const STATEMENTS_MAX: usize = 200;
/// What a message to the server may hold at most, less what surrounds a value.
const MESSAGE_BYTES_MAX: u64 = (1 << 30) - (1 << 20);

/// How the driver says that there is no password. It has no kind for that.
const NO_PASSWORD: &str = "password missing";
/// In a database whose texts are any bytes, lets them through as they are.
const ANY_BYTES: &str = "SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) WHERE pg_catalog.getdatabaseencoding() = 'SQL_ASCII'";

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
    let mut settings = format!("{ANY_BYTES}; SET lock_timeout = {}", timeouts.lock_secs.saturating_mul(1000));
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
    if message.ends_with(NO_PASSWORD) {
        let message = "the server asks for a password, and none was given".to_owned();
        return SqlError { fault: Fault::Denied, message };
    }
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let is_io = causes.any(<dyn StdError>::is::<std::io::Error>);
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
        CopyReader { stream: &mut stream, pending: Vec::new() }.read(shape, take).map_err(|error| {
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
        match self.batch(&format!("SET idle_in_transaction_session_timeout = {}", IDLE_SECS_MAX * 1000)) {
            // Releases before 9.6 don't have it.
            Err(error) if error.fault != Fault::Other => return Err(error),
            _ => {}
        }
        self.batch("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
    }

    fn commit(&mut self) -> SqlResult<()> {
        self.batch("COMMIT")
    }

    fn hold(&mut self, name: &str) -> SqlResult<()> {
        let number = blake3::hash(name.as_bytes()).as_bytes()[..8].try_into().map(i64::from_le_bytes);
        let number = number.expect("a hash has 32 bytes");
        self.query("SELECT 1 FROM pg_advisory_xact_lock(?)", &[Param::Int(number)], &mut |_| ())
    }

    fn statement_bytes_max(&mut self) -> SqlResult<u64> {
        Ok(MESSAGE_BYTES_MAX)
    }
}

/// Most columns of a copy.
const COPY_COLUMNS_MAX: usize = 8;
/// What stands before the rows: signature, flags, length of an extension.
const COPY_HEAD_BYTES: usize = 19;

/// Reads the format of `COPY … (FORMAT BINARY)`: a signature of 11 bytes, flags, an extension; then for each row a count of
/// fields and for each field its length (-1 for null) and bytes; at the end the count -1. Numbers are big endian. Source:
/// PostgreSQL's manual, "COPY", "Binary Format".
struct CopyReader<'s, S> {
    stream: &'s mut S,
    /// The beginning of a row whose rest is still to come. The server sends whole rows, so this is seldom used.
    pending: Vec<u8>,
}

/// What stands at the beginning of some bytes.
enum Parsed<'b> {
    /// A row, and how many bytes it takes.
    Row([Cell<'b>; COPY_COLUMNS_MAX], usize),
    End,
    /// More bytes are needed.
    Part,
}

impl<S: BufRead> CopyReader<'_, S> {
    fn read(&mut self, shape: &[Shape], take: TakeRow<'_>) -> std::io::Result<()> {
        let mut head = [0; COPY_HEAD_BYTES];
        self.stream.read_exact(&mut head)?;
        if !head.starts_with(b"PGCOPY\n\xff\r\n\0") || head[15..] != [0; 4] {
            return Err(malformed("no signature"));
        }
        loop {
            let available = self.stream.fill_buf()?;
            if available.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let length = available.len();
            let is_pending = !self.pending.is_empty();
            if is_pending {
                self.pending.extend_from_slice(available);
            }
            let bytes = if is_pending { &self.pending[..] } else { available };
            let mut start = 0;
            let is_end = loop {
                match parse(&bytes[start..], shape)? {
                    Parsed::Row(cells, used) => {
                        take(&cells[..shape.len()]);
                        start += used;
                    }
                    Parsed::End => break true,
                    Parsed::Part => break false,
                }
            };
            if is_pending {
                self.pending.drain(..start);
            } else {
                self.pending.extend_from_slice(&available[start..]);
            }
            self.stream.consume(length);
            if is_end {
                // The stream must be read to its end before the next statement.
                return std::io::copy(self.stream, &mut std::io::sink()).map(drop);
            }
        }
    }
}

fn malformed(what: &str) -> std::io::Error {
    std::io::Error::other(format!("the server sent a malformed copy: {what}"))
}

fn parse<'b>(bytes: &'b [u8], shape: &[Shape]) -> std::io::Result<Parsed<'b>> {
    let Some((count, mut rest)) = bytes.split_first_chunk::<2>() else { return Ok(Parsed::Part) };
    match i16::from_be_bytes(*count) {
        -1 => return Ok(Parsed::End),
        count if usize::try_from(count).ok() == Some(shape.len()) && shape.len() <= COPY_COLUMNS_MAX => {}
        _ => return Err(malformed("another number of columns")),
    }
    let mut cells = [Cell::Null; COPY_COLUMNS_MAX];
    for (cell, shape) in cells.iter_mut().zip(shape) {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return Ok(Parsed::Part) };
        rest = after;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            continue;
        }
        let length = usize::try_from(length).map_err(|_| malformed("a negative length"))?;
        let Some((value, after)) = rest.split_at_checked(length) else { return Ok(Parsed::Part) };
        rest = after;
        *cell = match shape {
            Shape::Bytes => Cell::Bytes(value),
            Shape::Int => Cell::Int(integer(value).ok_or_else(|| malformed("an integer of an odd length"))?),
        };
    }
    Ok(Parsed::Row(cells, bytes.len() - rest.len()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(rows: &[(i64, Option<&[u8]>)]) -> Vec<u8> {
        let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for (id, content) in rows {
            bytes.extend([0, 2, 0, 0, 0, 8]);
            bytes.extend(id.to_be_bytes());
            bytes.extend(content.map_or(-1, |content| i32::try_from(content.len()).unwrap()).to_be_bytes());
            bytes.extend(content.unwrap_or_default());
        }
        bytes.extend([0xff, 0xff]);
        bytes
    }

    type Found = (Option<i64>, Option<Vec<u8>>);

    fn read(bytes: &[u8], piece: usize) -> std::io::Result<Vec<Found>> {
        let mut stream = std::io::BufReader::with_capacity(piece, bytes);
        let mut rows = Vec::new();
        let mut reader = CopyReader { stream: &mut stream, pending: Vec::new() };
        reader.read(&[Shape::Int, Shape::Bytes], &mut |row| {
            rows.push((row[0].int(), row[1].bytes().map(<[u8]>::to_vec)));
        })?;
        Ok(rows)
    }

    #[test]
    fn copy_is_read_however_it_is_cut() {
        let rows: [(i64, Option<&[u8]>); 4] =
            [(1, Some(b"one")), (-2, None), (3, Some(b"")), (i64::MAX, Some(&[7; 300]))];
        let expected: Vec<_> = rows.iter().map(|(id, content)| (Some(*id), content.map(<[u8]>::to_vec))).collect();
        for piece in 1..40 {
            assert_eq!(read(&copy(&rows), piece).unwrap(), expected, "in pieces of {piece}");
        }
        let whole = copy(&rows);
        for end in 0..whole.len() - 2 {
            assert!(read(&whole[..end], 64).is_err(), "cut at {end}");
        }
    }
}
