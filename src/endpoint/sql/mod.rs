//! Metadata of Kylin in tables of PostgreSQL or MySQL, as source and target.
//!
//! Reading is one snapshot over all tables, which blocks no writer and needs no right but SELECT. Writing is one
//! transaction. Only here is SQL.

mod listing;
mod log;
mod mysql;
mod postgres;
mod read;
mod rows;
mod schema;
mod session;
mod snapshot;
mod spool;
mod tls;
mod verify;
mod write;

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use super::{Error, Listing, Put, Result, Since, Source, Staging, Target, Touched};
use crate::model::clock::unix_ms;
use crate::model::entry::Entry;
use crate::model::log::LogPosition;
use crate::model::scope::Scope;
use crate::monitor::{Monitor, Problem, Severity, Task};
use crate::platform::kylin::database::Database;
use crate::platform::kylin::layout::{Layout, Level};

use listing::{Filling, KEY_SHAPE, SqlListing, key_query};
use schema::{Found, Holds, Schema};
pub use session::{Fault, SqlError};
use session::{Session, failed};
use snapshot::Snapshot;

/// How many documents running nodes of Kylin are sure to follow in one transaction.
const FOLLOWED_MAX: usize = 1000;

/// What to do with a database.
#[derive(Debug, Clone, Default)]
pub struct SqlOptions {
    /// Where both generations of tables are there, which; otherwise what must be there.
    pub layout: Option<Layout>,
    /// Make the tables when a restore finds none.
    pub create_tables: bool,
    /// Who a restore says it is in the audit log, as `address:port`.
    pub instance: String,
}

/// A store in a database.
pub struct SqlStore {
    database: Database,
    options: SqlOptions,
    layout: Layout,
    /// What there is; nothing if a restore must make it.
    schema: Option<Schema>,
    connected: Instant,
    /// The first connection, until it is used.
    session: Mutex<Option<Box<dyn Session>>>,
}

impl SqlStore {
    /// Connects to a store, which must be there.
    ///
    /// # Errors
    /// [`Error::Database`] when the database can't be reached or read; [`Error::NoTables`] when it holds no metadata of this
    /// identifier, [`Error::MissingTables`] and [`Error::ForeignTable`] when it holds half of it or something else.
    pub fn open(database: Database, options: SqlOptions) -> Result<Self> {
        let mut session = session::connect(&database)?;
        match schema::look(&mut *session, &database, options.layout)? {
            Found::Schema(schema) => Ok(Self::new(database, options, schema.layout, Some(*schema), session)),
            Found::Nothing => Err(Self::no_tables(&database, &mut *session)),
        }
    }

    /// Connects to a store to restore a snapshot of the layout called `wanted`.
    ///
    /// # Errors
    /// As [`SqlStore::open`]; and [`Error::OtherLayout`] when its tables are of the other generation. That there are no tables is
    /// an error only if they are not to be made.
    pub fn open_target(database: Database, options: SqlOptions, wanted: &str) -> Result<Self> {
        let wanted_layout: Option<Layout> = wanted.parse().ok();
        let mut session = session::connect(&database)?;
        let other = |layout: Layout| Error::OtherLayout {
            store: database.location(),
            layout: layout.name(),
            wanted: wanted_layout.map_or(super::PLAIN, Layout::name),
        };
        let found = match schema::look(&mut *session, &database, options.layout) {
            // An interrupted restore leaves some of the tables that it was to make where making them can't be taken back.
            Err(Error::MissingTables { .. })
                if options.create_tables && schema::holds_nothing(&mut *session, &database)? =>
            {
                Found::Nothing
            }
            found => found?,
        };
        match found {
            Found::Schema(schema) if wanted_layout.is_some_and(|wanted| wanted.has_same_paths(schema.layout)) => {
                Ok(Self::new(database, options, schema.layout, Some(*schema), session))
            }
            Found::Schema(schema) => Err(other(schema.layout)),
            Found::Nothing if !options.create_tables => Err(Self::no_tables(&database, &mut *session)),
            Found::Nothing => match wanted_layout {
                None => Err(other(Layout::New(Level::Folder))),
                Some(Layout::Old) => Ok(Self::new(database, options, Layout::Old, None, session)),
                Some(Layout::New(_)) => Ok(Self::new(database, options, Layout::New(Level::Folder), None, session)),
            },
        }
    }

    fn new(
        database: Database,
        options: SqlOptions,
        layout: Layout,
        schema: Option<Schema>,
        session: Box<dyn Session>,
    ) -> Self {
        let session = Mutex::new(Some(session));
        Self { database, options, layout, schema, connected: Instant::now(), session }
    }

    fn no_tables(database: &Database, session: &mut dyn Session) -> Error {
        // It is only for the message.
        let others = schema::other_identifiers(session, database.dialect).unwrap_or_default();
        Error::NoTables { store: database.location(), identifier: database.identifier.clone(), others }
    }

    /// Returns when the store was connected to and its tables were looked at.
    pub fn connected(&self) -> Instant {
        self.connected
    }

    /// Returns a connection that is in no transaction.
    fn session(&self) -> Result<Box<dyn Session>> {
        let first = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(session) => Ok(session),
            None => session::connect(&self.database),
        }
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(self.session()?, &self.database)
    }

    fn list(&self, schema: &Schema, scope: &Scope, monitor: &dyn Monitor) -> Result<SqlListing> {
        monitor.start(Task::Scan, None);
        let snapshot = self.snapshot()?;
        let mut filling = Filling::new(schema);
        if schema.is_old() {
            filling.learn_projects(&snapshot, schema)?;
        }
        for sql in key_queries(schema) {
            if monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            snapshot.run(|session| session.query_many(&sql, &KEY_SHAPE, &mut |row| filling.push(row)))?;
        }
        let mut listing = filling.finish(snapshot, schema.clone(), self.location(), scope.clone(), monitor);
        self.remark(schema, &mut listing);
        Ok(listing)
    }

    /// Says what is not in a listing though it may be missed.
    fn remark(&self, schema: &Schema, listing: &mut SqlListing) {
        let mut remark = |path: &str, what: &str| {
            let (severity, path, what) = (Severity::Remark, path.to_owned(), what.to_owned());
            listing.add_remark(Problem { severity, path, what });
        };
        if schema.has_both {
            let what = "tables of the other generation of Kylin are there, too, and are not read";
            remark(&self.database.identifier, what);
        }
        for table in &schema.lacking {
            remark(table, "there is no such table, or the user can't see it: what Kylin keeps there is not read");
        }
    }
}

/// Returns the queries that list all rows. PostgreSQL answers all at once.
fn key_queries(schema: &Schema) -> Vec<String> {
    use crate::platform::kylin::tables::Dialect;
    let queries = (0..).zip(&schema.tables).map(|(number, table)| key_query(schema, number, table, &[], ""));
    let queries: Vec<String> = queries.collect();
    match schema.dialect {
        Dialect::PostgreSql => vec![queries.join(" UNION ALL ")],
        Dialect::MySql => queries,
    }
}

impl Source for SqlStore {
    fn location(&self) -> String {
        self.database.location()
    }

    fn layout(&self) -> &'static str {
        self.layout.name()
    }

    fn needs_verifying(&self) -> bool {
        true
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        let Some(schema) = &self.schema else {
            let (store, identifier) = (self.location(), self.database.identifier.clone());
            return Err(Error::NoTables { store, identifier, others: Vec::new() });
        };
        Ok(Box::new(self.list(schema, scope, monitor)?))
    }

    fn scan_since(&self, since: &LogPosition, besides: &[Entry], monitor: &dyn Monitor) -> Result<Since> {
        let Some(schema) = &self.schema else { return Ok(Since::Unknown("there are no tables".to_owned())) };
        monitor.start(Task::Scan, None);
        let snapshot = self.snapshot()?;
        match log::changes(&snapshot, schema, since, unix_ms(SystemTime::now()))? {
            log::Changes::Unknown(why) => Ok(Since::Unknown(why)),
            log::Changes::These { mut touched, mut wanted, position } => {
                for n in verify::unproven(&snapshot, schema, besides, monitor)? {
                    touched.push(Touched::Document { paths: vec![besides[n].path.clone()], is_new: true });
                    wanted.add(schema, &besides[n]);
                }
                let mut filling = Filling::new(schema);
                wanted.list(&snapshot, schema, &mut filling)?;
                let mut listing = filling.finish(snapshot, schema.clone(), self.location(), Scope::System, monitor);
                listing.position = Some(position);
                listing.touched = Some(touched);
                self.remark(schema, &mut listing);
                Ok(Since::Changes(Box::new(listing)))
            }
        }
    }
}

impl Target for SqlStore {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        match &self.schema {
            Some(schema) => Ok(Box::new(self.list(schema, scope, monitor)?)),
            None => {
                let schema = Schema::planned(&self.database, self.layout);
                let filling = Filling::new(&schema);
                let snapshot = self.snapshot()?;
                Ok(Box::new(filling.finish(snapshot, schema.clone(), self.location(), scope.clone(), monitor)))
            }
        }
    }

    fn begin<'a>(&'a self, listing: &'a dyn Listing, puts: &'a [Put]) -> Result<Box<dyn Staging + 'a>> {
        let rows = listing.as_any().and_then(|listing| listing.downcast_ref::<SqlListing>());
        Ok(Box::new(write::SqlStaging::begin(self, rows.expect("the listing is one of this store"), puts)?))
    }

    fn advice(&self, changes: usize) -> Option<String> {
        // Nobody follows tables that are still to be made.
        let schema = self.schema.as_ref()?;
        if schema.log.is_none() && changes > 0 {
            let what = "there is no audit log, from which running nodes of Kylin would learn of the change: stop them before, or \
                        reload them after with `--kylin-url`";
            return Some(what.to_owned());
        }
        (changes > FOLLOWED_MAX).then(|| {
            format!(
                "{changes} rows change in one transaction; running nodes of Kylin may miss some of more than {FOLLOWED_MAX}: \
                 stop them before, or reload them after with `--kylin-url`"
            )
        })
    }
}

/// Tells whether a table holds what the audit log tells of.
fn is_logged(holds: Holds) -> bool {
    !matches!(holds, Holds::Side(_))
}

/// Returns the error of a store in the words of its database.
fn fail(store: &SqlStore, action: &'static str) -> impl Fn(SqlError) -> Error {
    let database = store.database.clone();
    move |error| failed(action, &database, error)
}
