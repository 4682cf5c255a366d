//! Connections to MySQL and MariaDB.

use std::time::Duration;

use ::mysql::consts::ColumnType;
use ::mysql::prelude::Queryable;
use ::mysql::{Conn, DriverError, Error, OptsBuilder, Params, SslOpts, Value};

use super::session::{Cell, Fault, IDLE_SECS_MAX, Param, Session, SqlError, SqlResult, TakeRow};
use crate::platform::kylin::database::{Database, Tls, TlsMode};

/// What surrounds a value in a statement takes less than this.
const STATEMENT_MARGIN_BYTES: u64 = 64 << 10;
/// What a server takes for a time to wait for a lock, at most.
const LOCK_SECS_MAX: u64 = 31_536_000;
/// Statements that are kept prepared.
const STATEMENTS_MAX: usize = 100;

struct MySqlSession {
    conn: Conn,
    packet_bytes_max: u64,
    lock_secs: u64,
}

pub(super) fn connect(database: &Database) -> SqlResult<Box<dyn Session>> {
    let mut failure = SqlError { fault: Fault::Unreachable, message: "no host is named".to_owned() };
    for (host, port) in &database.hosts {
        match connect_to(database, host, *port) {
            Ok(session) => return Ok(Box::new(session)),
            Err(error) if error.fault != Fault::Unreachable => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn connect_to(database: &Database, host: &str, port: u16) -> SqlResult<MySqlSession> {
    let timeouts = &database.timeouts;
    let options = |ssl: Option<SslOpts>| {
        let socket = timeouts.socket_secs.map(Duration::from_secs);
        OptsBuilder::new()
            .ip_or_hostname(Some(host))
            .tcp_port(port)
            .user(Some(&database.username))
            .pass(database.password.as_ref().map(|password| password.expose().to_owned()))
            .db_name(Some(&database.database))
            .tcp_connect_timeout(Some(Duration::from_secs(timeouts.connect_secs)))
            .read_timeout(socket)
            .write_timeout(socket)
            .tcp_keepalive_time_ms(Some(60_000))
            .prefer_socket(false)
            .stmt_cache_size(STATEMENTS_MAX)
            .ssl_opts(ssl)
    };
    let conn = match database.tls.mode {
        TlsMode::Off => Conn::new(options(None)),
        TlsMode::Prefer => match Conn::new(options(Some(ssl_options(&database.tls)))) {
            Err(Error::DriverError(DriverError::TlsNotSupported) | Error::TlsError(_)) => Conn::new(options(None)),
            result => result,
        },
        _ => Conn::new(options(Some(ssl_options(&database.tls)))),
    };
    let mut session = MySqlSession {
        conn: conn.map_err(|error| to_sql_error(&error))?,
        packet_bytes_max: 0,
        lock_secs: timeouts.lock_secs,
    };
    session.configure(database)?;
    Ok(session)
}

fn ssl_options(tls: &Tls) -> SslOpts {
    let checks_chain = matches!(tls.mode, TlsMode::Verify | TlsMode::VerifyFull);
    SslOpts::default()
        .with_root_cert_path(tls.root_certificate.clone())
        .with_danger_accept_invalid_certs(!checks_chain)
        .with_danger_skip_domain_validation(tls.mode != TlsMode::VerifyFull)
}

fn to_sql_error(error: &Error) -> SqlError {
    let (fault, message) = match error {
        Error::MySqlError(error) => (fault_of(error.code), format!("{} ({})", error.message, error.code)),
        Error::IoError(error) => (Fault::Unreachable, error.to_string()),
        Error::CodecError(error) => {
            let message = error.to_string();
            (if message.contains("too large") { Fault::TooLarge } else { Fault::Unreachable }, message)
        }
        Error::DriverError(DriverError::PacketTooLarge) => (Fault::TooLarge, "the packet is too large".to_owned()),
        Error::DriverError(error @ (DriverError::ConnectTimeout | DriverError::Timeout)) => {
            (Fault::Unreachable, error.to_string())
        }
        Error::DriverError(error @ DriverError::CouldNotConnect(_)) => (Fault::Unreachable, error.to_string()),
        Error::TlsError(error) => (Fault::Unreachable, format!("TLS: {error}")),
        // Neither values nor urls belong into a message.
        Error::FromValueError(_) | Error::FromRowError(_) | Error::UrlError(_) => {
            (Fault::Other, "the driver could not convert a value".to_owned())
        }
        Error::DriverError(error) => (Fault::Other, error.to_string()),
    };
    SqlError { fault, message }
}

/// Source of the numbers: "Server Error Message Reference" of MySQL, "MariaDB Error Codes".
fn fault_of(code: u16) -> Fault {
    match code {
        1044 | 1045 | 1142 | 1143 | 1227 | 1290 | 1370 | 1698 | 1792 | 1836 => Fault::Denied,
        1049 => Fault::NoDatabase,
        // The second is of rows that changed since a snapshot was taken, in MariaDB from 11.6 on.
        1213 | 1020 => Fault::Conflict,
        1205 | 1969 | 3024 => Fault::Timeout,
        1022 | 1048 | 1062 | 1264 | 1364 | 1366 | 1406 | 1451 | 1452 | 4025 => Fault::Constraint,
        1153 | 1301 => Fault::TooLarge,
        1040 | 1053 | 1077 | 1079 | 1129 | 1130 | 1158 | 1159 | 1160 | 1161 | 1184 | 1203 | 1226 | 1927 | 2006
        | 2013 => Fault::Unreachable,
        _ => Fault::Other,
    }
}

impl MySqlSession {
    fn configure(&mut self, database: &Database) -> SqlResult<()> {
        let (mut packet, mut is_mariadb) = (0, false);
        self.query("SELECT @@max_allowed_packet, LOCATE('MariaDB', VERSION()) > 0", &[], &mut |row| {
            packet = row[0].int().unwrap_or_default();
            is_mariadb = row[1].int() == Some(1);
        })?;
        self.packet_bytes_max = u64::try_from(packet).unwrap_or_default();
        let timeouts = &database.timeouts;
        // Without the strict mode a value that is too long is cut, and the restore would say that all went well.
        let mut settings = vec![
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'".to_owned(),
            format!("SET SESSION innodb_lock_wait_timeout = {}", timeouts.lock_secs.max(1)),
            // For locks of whole tables it is a day or a year otherwise.
            format!("SET SESSION lock_wait_timeout = {}", timeouts.lock_secs.clamp(1, LOCK_SECS_MAX)),
        ];
        if let Some(secs) = timeouts.statement_secs {
            settings.push(if is_mariadb {
                format!("SET SESSION max_statement_time = {secs}")
            } else {
                format!("SET SESSION max_execution_time = {}", secs.saturating_mul(1000))
            });
        }
        settings.iter().try_for_each(|setting| self.run(setting))
    }

    fn run(&mut self, sql: &str) -> SqlResult<()> {
        self.conn.query_drop(sql).map_err(|error| to_sql_error(&error))
    }
}

fn values(params: &[Param<'_>]) -> Params {
    let value = |param: &Param<'_>| match *param {
        Param::Null => Value::NULL,
        Param::Int(value) => Value::Int(value),
        Param::Bool(value) => Value::Int(i64::from(value)),
        Param::Text(value) => Value::Bytes(value.as_bytes().to_vec()),
        Param::Bytes(value) => Value::Bytes(value.to_vec()),
    };
    if params.is_empty() { Params::Empty } else { Params::Positional(params.iter().map(value).collect()) }
}

fn is_integer(column: ColumnType) -> bool {
    matches!(
        column,
        ColumnType::MYSQL_TYPE_TINY
            | ColumnType::MYSQL_TYPE_SHORT
            | ColumnType::MYSQL_TYPE_INT24
            | ColumnType::MYSQL_TYPE_LONG
            | ColumnType::MYSQL_TYPE_LONGLONG
    )
}

fn cell(value: &Value, is_integer: bool) -> Cell<'_> {
    match value {
        Value::NULL => Cell::Null,
        Value::Int(value) => Cell::Int(*value),
        // Ids are unsigned; one above 2^63 would take a million inserts a second for as many years.
        Value::UInt(value) => Cell::Int(i64::try_from(*value).unwrap_or(i64::MAX)),
        Value::Bytes(bytes) if is_integer => {
            std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).map_or(Cell::Bytes(bytes), Cell::Int)
        }
        Value::Bytes(bytes) => Cell::Bytes(bytes),
        _ => Cell::Null,
    }
}

/// Hands on the rows of a result.
macro_rules! take_rows {
    ($result:expr, $take:expr) => {{
        let mut result = $result.map_err(|error| to_sql_error(&error))?;
        let integers: Vec<bool> =
            result.columns().as_ref().iter().map(|column| is_integer(column.column_type())).collect();
        for row in result.by_ref() {
            let row = row.map_err(|error| to_sql_error(&error))?;
            let values = row.unwrap_raw();
            let cells: Vec<Cell<'_>> = values
                .iter()
                .map(|value| value.as_ref().unwrap_or(&Value::NULL))
                .zip(&integers)
                .map(|(value, is_integer)| cell(value, *is_integer))
                .collect();
            $take(&cells);
        }
        Ok(())
    }};
}

impl Session for MySqlSession {
    fn query(&mut self, sql: &str, params: &[Param<'_>], take: TakeRow<'_>) -> SqlResult<()> {
        if params.is_empty() {
            take_rows!(self.conn.query_iter(sql), take)
        } else {
            take_rows!(self.conn.exec_iter(sql, values(params)), take)
        }
    }

    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> SqlResult<u64> {
        if params.is_empty() {
            self.run(sql)?;
        } else {
            self.conn.exec_drop(sql, values(params)).map_err(|error| to_sql_error(&error))?;
        }
        Ok(self.conn.affected_rows())
    }

    fn begin_snapshot(&mut self) -> SqlResult<Option<String>> {
        self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
        Ok(None)
    }

    fn join_snapshot(&mut self, _: &str) -> SqlResult<()> {
        let message = "a snapshot can't be shared".to_owned();
        Err(SqlError { fault: Fault::Other, message })
    }

    fn begin_write(&mut self) -> SqlResult<()> {
        self.run(&format!("SET SESSION wait_timeout = {IDLE_SECS_MAX}"))?;
        self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        self.run("START TRANSACTION READ WRITE")
    }

    fn commit(&mut self) -> SqlResult<()> {
        self.run("COMMIT")
    }

    fn hold(&mut self, name: &str) -> SqlResult<()> {
        let mut has_it = false;
        let params = [Param::Text(name), Param::Int(i64::try_from(self.lock_secs).unwrap_or(i64::MAX))];
        self.query("SELECT GET_LOCK(?, ?)", &params, &mut |row| has_it = row[0].int() == Some(1))?;
        let message = || "another connection holds the lock of the transaction".to_owned();
        if has_it { Ok(()) } else { Err(SqlError { fault: Fault::Timeout, message: message() }) }
    }

    fn statement_bytes_max(&mut self) -> SqlResult<u64> {
        Ok(self.packet_bytes_max.saturating_sub(STATEMENT_MARGIN_BYTES).max(1))
    }
}
