//! Changing a store: one transaction, which does all of the plan or nothing.
//!
//! Rows to be changed are locked in one order and must be as they were listed. Then rows are deleted, updated, inserted
//! (in this order, for the sake of unique columns), read back and compared, and told of in the audit log, last and right
//! before the commit, so that running nodes follow. A transaction that another one was in the way of is tried again. Where
//! the connection is lost during the commit, another one finds out what became of it.

mod batch;
mod change;
mod newcomers;
mod records;
mod side;
mod unique;

use std::thread;
use std::time::{Duration, SystemTime};

use super::listing::SqlListing;
use super::read::must_encode;
use super::schema::{self, Found, Schema};
use super::session::{Fault, Param, Session, SqlError, SqlResult, connect};
use super::spool::Spool;
use super::{SqlStore, fail};
use crate::endpoint::{Error, Put, Removal, Result, Staging, StagingWriter};
use crate::model::clock::unix_ms;
use crate::model::entry::Encoding;
use crate::monitor::Monitor;
use crate::platform::kylin::encoding::encode;
use crate::platform::kylin::layout::Layout;
use crate::platform::kylin::tables::Dialect;
use crate::platform::kylin::tables::ddl::{create_tables, create_tables_old};

use change::Change;

/// How often a transaction is tried that others are in the way of.
const ATTEMPTS_MAX: u32 = 6;
/// How often one is tried that breaks a rule of a table. Another transaction may have made the row a moment ago: seen from
/// the beginning, that is a change since the plan was made.
const ATTEMPTS_OF_BROKEN_RULES_MAX: u32 = 2;
/// The wait before the second attempt; it doubles with each.
const PAUSE_MS: u64 = 100;

/// A change in the making.
pub(super) struct SqlStaging<'a> {
    store: &'a SqlStore,
    listing: &'a SqlListing,
    puts: &'a [Put],
    spool: Spool,
}

impl<'a> SqlStaging<'a> {
    pub(super) fn begin(store: &'a SqlStore, listing: &'a SqlListing, puts: &'a [Put]) -> Result<Self> {
        Ok(Self { store, listing, puts, spool: Spool::new(puts.len())? })
    }
}

impl Staging for SqlStaging<'_> {
    fn writer(&self) -> Box<dyn StagingWriter + '_> {
        Box::new(self.spool.writer())
    }

    fn commit(self: Box<Self>, removals: &[Removal], monitor: &dyn Monitor) -> Result<()> {
        let unit = unit_id().map_err(fail(self.store, "name a transaction of"))?;
        let mut attempt = 1;
        loop {
            let result = self.attempt(&unit, removals, monitor);
            let attempts_max = match &result {
                Err(Failure::Sql(_, error)) if error.fault == Fault::Conflict => ATTEMPTS_MAX,
                Err(Failure::Sql(_, error)) if error.fault == Fault::Constraint => ATTEMPTS_OF_BROKEN_RULES_MAX,
                _ => 0,
            };
            if attempt >= attempts_max || monitor.is_interrupted() {
                return result.map_err(|failure| failure.into_error(self.store));
            }
            thread::sleep(Duration::from_millis(PAUSE_MS << attempt));
            attempt += 1;
        }
    }
}

/// Why an attempt failed.
enum Failure {
    Sql(&'static str, SqlError),
    Store(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    fn into_error(self, store: &SqlStore) -> Error {
        match self {
            Self::Sql(action, error) => fail(store, action)(error),
            Self::Store(error) => error,
        }
    }
}

type Attempt<T> = std::result::Result<T, Failure>;

fn at(action: &'static str) -> impl Fn(SqlError) -> Failure {
    move |error| Failure::Sql(action, error)
}

fn no_row(put: &Put, why: String) -> Failure {
    Failure::Store(Error::NoRow { path: put.path.to_string(), why })
}

fn changed(path: impl std::fmt::Display) -> Failure {
    Failure::Store(Error::Changed { path: path.to_string() })
}

/// What is known of a transaction when it is to be committed.
struct Told<'a> {
    unit: &'a str,
    schema: &'a Schema,
    /// Whether it has records in the audit log.
    is_logged: bool,
    /// Whether its end can be waited for.
    is_held: bool,
}

impl SqlStaging<'_> {
    fn attempt(&self, unit: &str, removals: &[Removal], monitor: &dyn Monitor) -> Attempt<()> {
        let mut session = self.store.session()?;
        let statement_bytes_max = session.statement_bytes_max().map_err(at("ask for the limits of"))?;
        self.check_sizes(statement_bytes_max)?;
        let planned = self.store.schema.is_none();
        let is_mysql = self.store.database.dialect == Dialect::MySql;
        if planned && is_mysql {
            // Each of these statements is a transaction of its own there.
            self.create_tables(&mut *session)?;
        }
        session.begin_write().map_err(at("begin to change"))?;
        let is_held = match session.hold(unit) {
            Ok(()) => true,
            // Not every cluster of MySQL has such locks.
            Err(error) if is_mysql && error.fault == Fault::Other => false,
            Err(error) => return Err(at("begin to change")(error)),
        };
        if planned && !is_mysql {
            self.create_tables(&mut *session)?;
        }
        let schema = match &self.store.schema {
            Some(schema) => schema.clone(),
            None => match schema::look(&mut *session, &self.store.database, Some(self.store.layout))? {
                Found::Schema(schema) => *schema,
                Found::Nothing => {
                    return Err(changed(format_args!("the tables of {}", self.store.database.identifier)));
                }
            },
        };
        let mut change = Change {
            staging: self,
            schema: &schema,
            statement_bytes_max,
            session: &mut *session,
            now_ms: unix_ms(SystemTime::now()),
        };
        let is_logged = change.run(unit, removals, monitor)?;
        if monitor.is_interrupted() {
            // Dropping the connection takes everything back.
            return Err(Failure::Store(Error::Interrupted));
        }
        match session.commit() {
            Ok(()) => Ok(()),
            Err(error) if error.fault == Fault::Conflict => Err(at("commit the change of")(error)),
            Err(error) => {
                // It may hold what will be waited for.
                drop(session);
                self.find_out(&Told { unit, schema: &schema, is_logged, is_held }, error)
            }
        }
    }

    /// Refuses what the server will not take, before anything is begun.
    fn check_sizes(&self, statement_bytes_max: u64) -> Attempt<()> {
        for (number, put) in self.puts.iter().enumerate() {
            let size = put.document.as_ref().map_or(0, |document| document.size);
            if size <= statement_bytes_max {
                continue;
            }
            let content = self.spool.read(number)?;
            // The audit log gets it encoded.
            let encoded = encode(&content).len() as u64;
            let is_plain = put.encoding == Encoding::Plain && !must_encode(&content);
            let size = if is_plain { size.max(encoded) } else { encoded };
            if size > statement_bytes_max {
                let server = match self.store.database.dialect {
                    Dialect::MySql => ": raise max_allowed_packet of the server (Kylin advises 256M)",
                    Dialect::PostgreSql => "",
                };
                let why = format!("it takes {size} bytes, and the server takes {statement_bytes_max} at most{server}");
                return Err(no_row(put, why));
            }
        }
        Ok(())
    }

    fn create_tables(&self, session: &mut dyn Session) -> Attempt<()> {
        let database = &self.store.database;
        let create = if self.store.layout == Layout::Old { create_tables_old } else { create_tables };
        let statements = create(database.dialect, &database.identifier).map_err(|error| {
            Failure::Store(Error::NoRow { path: database.identifier.clone(), why: error.to_string() })
        })?;
        statements.iter().try_for_each(|sql| session.execute(sql, &[]).map(drop)).map_err(at("make tables in"))
    }

    /// Finds out what became of a transaction whose commit was not answered. Its records in the log tell that it was
    /// committed. That there are none tells nothing while the server may still be at it, or the request under way: the
    /// transaction holds a lock, and who gets that comes after it.
    fn find_out(&self, told: &Told<'_>, error: SqlError) -> Attempt<()> {
        let unknown = |source| {
            let store = self.store.database.location();
            Failure::Store(Error::OutcomeUnknown { store, source })
        };
        let log = told.schema.log.as_ref().filter(|_| told.is_logged);
        for attempt in 0..ATTEMPTS_MAX {
            let Ok(mut session) = connect(&self.store.database) else {
                thread::sleep(Duration::from_millis(PAUSE_MS << attempt));
                continue;
            };
            // A copy of the server that only follows may not have it yet: it does not begin to write.
            let is_over = told.is_held && session.begin_write().is_ok() && session.hold(told.unit).is_ok();
            let Some(log) = log else { return Err(unknown(error)) };
            let sql = format!("SELECT COUNT(*) FROM {} WHERE unit_id = ?", told.schema.quoted(&log.name));
            let mut count = 0;
            let asked =
                session.query(&sql, &[Param::Text(told.unit)], &mut |row| count = row[0].int().unwrap_or_default());
            match asked {
                Ok(()) if count > 0 => return Ok(()),
                Ok(()) if is_over => return Err(at("commit the change of")(error)),
                // Now the connection was lost that was to find out.
                Err(lost) if lost.fault == Fault::Unreachable => {}
                _ => return Err(unknown(error)),
            }
        }
        Err(unknown(error))
    }
}

/// Draws the name of a transaction: a UUID of version 4, as Kylin's are.
fn unit_id() -> SqlResult<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| SqlError { fault: Fault::Other, message: error.to_string() })?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
