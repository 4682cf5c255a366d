//! What a database held at one moment, seen through one connection or several.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, PoisonError};

use super::session::{Session, SqlError, SqlResult, connect, failed};
use crate::endpoint::{Error, Result};
use crate::platform::kylin::database::Database;

/// Most connections of one snapshot. The server works for each of them.
const SESSIONS_MAX: usize = 4;
/// So often a connection is waited for before another is opened, which takes longer than a few statements do.
const WAITS_MIN: u32 = 8;

/// Connections that all see the same moment.
pub(super) struct Snapshot {
    database: Database,
    /// Under which others can join. Without it the first connection must do.
    name: Option<String>,
    value_bytes_max: u64,
    sessions: Mutex<Sessions>,
    returned: Condvar,
}

struct Sessions {
    idle: Vec<Box<dyn Session>>,
    open: usize,
    max: usize,
    waits: u32,
}

impl Snapshot {
    /// Begins to read through a connection that is in no transaction.
    pub(super) fn begin(mut session: Box<dyn Session>, database: &Database) -> Result<Self> {
        let failed = |error| failed("read", database, error);
        let value_bytes_max = session.statement_bytes_max().map_err(failed)?;
        let name = session.begin_snapshot().map_err(failed)?;
        let max = if name.is_some() { rayon::current_num_threads().clamp(1, SESSIONS_MAX) } else { 1 };
        let sessions = Mutex::new(Sessions { idle: vec![session], open: 1, max, waits: 0 });
        Ok(Self { database: database.clone(), name, value_bytes_max, sessions, returned: Condvar::new() })
    }

    /// Returns how many bytes a row may have that is sent in one.
    pub(super) fn value_bytes_max(&self) -> u64 {
        self.value_bytes_max
    }

    /// Returns a connection for one statement, when one is free.
    pub(super) fn session(&self) -> Result<Lent<'_>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(session) = sessions.idle.pop() {
                return Ok(Lent { snapshot: self, session: Some(session) });
            }
            if sessions.open == 0 {
                let message = "the connection was lost, and with it what was being read".to_owned();
                return Err(self.failed(SqlError { fault: super::Fault::Unreachable, message }));
            }
            let is_worth_it = sessions.open < sessions.max && sessions.waits >= WAITS_MIN;
            if let Some(name) = self.name.as_ref().filter(|_| is_worth_it) {
                sessions.open += 1;
                drop(sessions);
                match self.join(name) {
                    Ok(session) => return Ok(Lent { snapshot: self, session: Some(session) }),
                    Err(error) => {
                        sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                        sessions.open -= 1;
                        // The server may allow no more connections: those there are will do.
                        sessions.max = sessions.open;
                        // If there is none left, those who wait must learn of it, too.
                        self.returned.notify_all();
                        if sessions.open == 0 {
                            return Err(error);
                        }
                        continue;
                    }
                }
            }
            sessions.waits += 1;
            sessions = self.returned.wait(sessions).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn join(&self, name: &str) -> Result<Box<dyn Session>> {
        let mut session = connect(&self.database)?;
        session.join_snapshot(name).map_err(|error| self.failed(error))?;
        Ok(session)
    }

    /// Runs one statement, and gives the connection up if that fails.
    pub(super) fn run<T>(&self, work: impl FnOnce(&mut dyn Session) -> SqlResult<T>) -> Result<T> {
        let mut session = self.session()?;
        match work(&mut **session) {
            Ok(value) => Ok(value),
            Err(error) => {
                session.give_up();
                Err(self.failed(error))
            }
        }
    }

    fn failed(&self, error: SqlError) -> Error {
        failed("read", &self.database, error)
    }
}

/// A connection on loan.
pub(super) struct Lent<'a> {
    snapshot: &'a Snapshot,
    session: Option<Box<dyn Session>>,
}

impl Lent<'_> {
    /// Closes the connection: after a failure its transaction can't be used any more.
    fn give_up(&mut self) {
        self.session = None;
    }
}

impl Deref for Lent<'_> {
    type Target = Box<dyn Session>;

    fn deref(&self) -> &Self::Target {
        self.session.as_ref().expect("a connection that was given up is not used")
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.session.as_mut().expect("a connection that was given up is not used")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut sessions = self.snapshot.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        match self.session.take() {
            Some(session) => sessions.idle.push(session),
            None => sessions.open -= 1,
        }
        self.snapshot.returned.notify_all();
    }
}
