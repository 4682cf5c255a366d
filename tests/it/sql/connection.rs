//! A connection to a database that is the same for PostgreSQL and MySQL: statements with `?`, few kinds of values.

use std::collections::HashMap;
use std::fmt;

use mysql::consts::ColumnType;
use mysql::prelude::Queryable;
use postgres::types::{ToSql, Type};

/// The kinds of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    PostgreSql,
    MySql,
}

pub(crate) const BOTH: [Kind; 2] = [Kind::PostgreSql, Kind::MySql];

/// What a column holds. What is true or false is 1 or 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Null => None,
            Self::Int(number) => Some(*number),
            other => panic!("no number: {other:?}"),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text),
            other => panic!("no text: {other:?}"),
        }
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Null => None,
            Self::Bytes(bytes) => Some(bytes),
            other => panic!("no bytes: {other:?}"),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What a server answered that is no result.
#[derive(Debug, Clone)]
pub(crate) struct Error {
    /// SQLSTATE of PostgreSQL, number of MySQL; empty if the connection broke.
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Error {
    /// Tells whether another transaction was in the way, and trying again may help.
    pub(crate) fn is_conflict(&self) -> bool {
        // `mvcc` is what clients of the tests say themselves. MariaDB from 11.6 on answers 1020 where PostgreSQL answers
        // 40001.
        ["40001", "40P01", "1213", "1205", "1020", "mvcc"].contains(&self.code.as_str())
    }

    /// Tells whether a row of that key is there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        ["23505", "1062"].contains(&self.code.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        let code = error.code().map_or_else(String::new, |code| code.code().to_owned());
        let message = error.as_db_error().map_or_else(|| format!("{error:?}"), ToString::to_string);
        Self { code, message }
    }
}

impl From<mysql::Error> for Error {
    fn from(error: mysql::Error) -> Self {
        match error {
            mysql::Error::MySqlError(error) => Self { code: error.code.to_string(), message: error.message },
            other => Self { code: String::new(), message: other.to_string() },
        }
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An open connection.
pub(crate) enum Connection {
    PostgreSql { client: Box<postgres::Client>, prepared: HashMap<String, postgres::Statement> },
    MySql(Box<mysql::Conn>),
}

impl Connection {
    /// Connects, without TLS, to `postgresql://…` or `mysql://…`.
    pub(crate) fn open(url: &str) -> Result<Self> {
        if url.starts_with("mysql:") {
            let options = mysql::Opts::from_url(url).unwrap();
            let options = mysql::OptsBuilder::from_opts(options).prefer_socket(false);
            Ok(Self::MySql(Box::new(mysql::Conn::new(options)?)))
        } else {
            let client = Box::new(postgres::Client::connect(url, postgres::NoTls)?);
            Ok(Self::PostgreSql { client, prepared: HashMap::new() })
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::PostgreSql { .. } => Kind::PostgreSql,
            Self::MySql(_) => Kind::MySql,
        }
    }

    /// Runs statements that take no values, separated by `;`.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<()> {
        match self {
            Self::PostgreSql { client, .. } => Ok(client.batch_execute(sql)?),
            Self::MySql(connection) => {
                for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
                    connection.query_drop(statement)?;
                }
                Ok(())
            }
        }
    }

    /// Runs a statement; returns how many rows it touched.
    pub(crate) fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        match self {
            Self::PostgreSql { client, prepared } => {
                let statement = prepare(client, prepared, sql)?;
                let values = parameters(&statement, values);
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(AsRef::as_ref).collect();
                Ok(client.execute(&statement, &values)?)
            }
            Self::MySql(connection) => {
                connection.exec_drop(sql, positional(values))?;
                Ok(connection.affected_rows())
            }
        }
    }

    /// Runs a query; returns its rows.
    pub(crate) fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Vec<Value>>> {
        match self {
            Self::PostgreSql { client, prepared } => {
                let statement = prepare(client, prepared, sql)?;
                let values = parameters(&statement, values);
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(AsRef::as_ref).collect();
                Ok(client.query(&statement, &values)?.iter().map(postgres_row).collect())
            }
            Self::MySql(connection) => Ok(connection
                .exec_iter(sql, positional(values))?
                .map(|row| row.map(mysql_row))
                .collect::<mysql::Result<_>>()?),
        }
    }

    /// Runs a query that gives one number.
    pub(crate) fn number(&mut self, sql: &str, values: &[Value]) -> Result<i64> {
        let rows = self.query(sql, values)?;
        assert!(rows.len() == 1 && rows[0].len() == 1, "not one value: {sql}: {rows:?}");
        Ok(rows[0][0].int().unwrap_or_else(|| panic!("NULL: {sql}")))
    }
}

fn prepare(
    client: &mut postgres::Client,
    prepared: &mut HashMap<String, postgres::Statement>,
    sql: &str,
) -> Result<postgres::Statement> {
    if let Some(statement) = prepared.get(sql) {
        return Ok(statement.clone());
    }
    let mut numbered = String::with_capacity(sql.len() + 16);
    for (number, part) in sql.split('?').enumerate() {
        if number > 0 {
            numbered.push_str(&format!("${number}"));
        }
        numbered.push_str(part);
    }
    let statement = client.prepare(&numbered)?;
    prepared.insert(sql.to_owned(), statement.clone());
    Ok(statement)
}

fn parameters<'v>(statement: &postgres::Statement, values: &'v [Value]) -> Vec<Box<dyn ToSql + Sync + 'v>> {
    assert_eq!(statement.params().len(), values.len(), "values of a statement");
    let convert = |(value, kind): (&'v Value, &Type)| -> Box<dyn ToSql + Sync + 'v> {
        match *kind {
            Type::INT8 => Box::new(value.int()),
            Type::INT4 => Box::new(value.int().map(|number| i32::try_from(number).unwrap())),
            Type::BOOL => Box::new(value.int().map(|number| number != 0)),
            Type::BYTEA => Box::new(value.bytes()),
            _ => Box::new(value.text()),
        }
    };
    values.iter().zip(statement.params()).map(convert).collect()
}

fn postgres_row(row: &postgres::Row) -> Vec<Value> {
    let value = |(n, column): (usize, &postgres::Column)| match *column.type_() {
        Type::INT8 => row.get::<_, Option<i64>>(n).into(),
        Type::INT4 => row.get::<_, Option<i32>>(n).map(i64::from).into(),
        Type::BOOL => row.get::<_, Option<bool>>(n).map(i64::from).into(),
        Type::BYTEA => row.get::<_, Option<Vec<u8>>>(n).into(),
        // Read as text, or it fails.
        _ => row.get::<_, Option<String>>(n).into(),
    };
    row.columns().iter().enumerate().map(value).collect()
}

fn positional(values: &[Value]) -> mysql::Params {
    if values.is_empty() {
        return mysql::Params::Empty;
    }
    let convert = |value: &Value| match value {
        Value::Null => mysql::Value::NULL,
        Value::Int(number) => mysql::Value::Int(*number),
        Value::Text(text) => mysql::Value::Bytes(text.clone().into_bytes()),
        Value::Bytes(bytes) => mysql::Value::Bytes(bytes.clone()),
    };
    mysql::Params::Positional(values.iter().map(convert).collect())
}

fn mysql_row(row: mysql::Row) -> Vec<Value> {
    /// The number that stands for no set of characters.
    const BINARY: u16 = 63;
    let columns = row.columns();
    let convert = |(value, column): (mysql::Value, &mysql::Column)| match value {
        mysql::Value::NULL => Value::Null,
        mysql::Value::Int(number) => Value::Int(number),
        mysql::Value::UInt(number) => Value::Int(i64::try_from(number).unwrap()),
        mysql::Value::Bytes(bytes)
            if column.character_set() == BINARY && column.column_type() != ColumnType::MYSQL_TYPE_NEWDECIMAL =>
        {
            Value::Bytes(bytes)
        }
        mysql::Value::Bytes(bytes) => Value::Text(String::from_utf8(bytes).unwrap()),
        other => panic!("a value of another kind: {other:?}"),
    };
    row.unwrap().into_iter().zip(columns.iter()).map(convert).collect()
}
