//! A store that others change between the plan and the commit.

use std::sync::Mutex;

use metastash::endpoint::sql::SqlStore;
use metastash::endpoint::{Listing, Put, Removal, Result, Since, Source, Staging, StagingWriter, Target};
use metastash::model::entry::Entry;
use metastash::model::log::LogPosition;
use metastash::model::scope::Scope;
use metastash::monitor::Monitor;

/// Something that is done once.
type Act<'a> = Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>;

/// A store, and what happens right before all documents are there and the transaction begins.
pub(crate) struct Meanwhile<'a> {
    store: SqlStore,
    act: Act<'a>,
}

impl<'a> Meanwhile<'a> {
    pub(crate) fn new(store: SqlStore, act: impl FnOnce() + Send + 'a) -> Self {
        Self { store, act: Mutex::new(Some(Box::new(act))) }
    }
}

impl Source for Meanwhile<'_> {
    fn location(&self) -> String {
        self.store.location()
    }

    fn layout(&self) -> &'static str {
        self.store.layout()
    }

    fn needs_verifying(&self) -> bool {
        self.store.needs_verifying()
    }

    fn scan(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        self.store.scan(scope, monitor)
    }

    fn scan_since(&self, since: &LogPosition, besides: &[Entry], monitor: &dyn Monitor) -> Result<Since> {
        self.store.scan_since(since, besides, monitor)
    }
}

impl Target for Meanwhile<'_> {
    fn scan_target(&self, scope: &Scope, monitor: &dyn Monitor) -> Result<Box<dyn Listing>> {
        self.store.scan_target(scope, monitor)
    }

    fn begin<'s>(&'s self, listing: &'s dyn Listing, puts: &'s [Put]) -> Result<Box<dyn Staging + 's>> {
        Ok(Box::new(Interposed { staging: self.store.begin(listing, puts)?, act: &self.act }))
    }
}

struct Interposed<'s, 'a> {
    staging: Box<dyn Staging + 's>,
    act: &'s Act<'a>,
}

impl Staging for Interposed<'_, '_> {
    fn writer(&self) -> Box<dyn StagingWriter + '_> {
        self.staging.writer()
    }

    fn commit(self: Box<Self>, removals: &[Removal], monitor: &dyn Monitor) -> Result<()> {
        if let Some(act) = self.act.lock().unwrap().take() {
            act();
        }
        self.staging.commit(removals, monitor)
    }
}
